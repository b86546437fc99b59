"""Models of WCS made by astropy: what astropy.wcs, which is wcslib, found in a header."""

from __future__ import annotations

import numpy as np
import torch
from astropy.wcs import WCS

from torchfits.wcs_model import Celestial, Lookup, Model, Sip, Tpv


def tensor(values) -> torch.Tensor:
    """A float64 tensor; undefined numbers are NaN for astropy, 0 in a model."""
    return torch.as_tensor(np.nan_to_num(np.array(values, dtype=np.float64)))


def lookups(tables) -> tuple[Lookup, ...]:
    """Of DistortionLookupTable or None, by axis."""
    return tuple(
        Lookup(axis, tensor(t.data), tensor(t.crpix), tensor(t.crval), tensor(t.cdelt), axis + 1, False)
        for axis, t in enumerate(tables)
        if t is not None
    )


def model_of(wcs: WCS, header=None) -> Model:
    """The numbers of a WCS; those of TPV come from the header."""
    wcs.wcs.set()
    celestial = tpv = None
    if wcs.wcs.lng >= 0:
        cel = wcs.wcs.cel
        celestial = Celestial(
            lng=wcs.wcs.lng,
            lat=wcs.wcs.lat,
            projection=cel.prj.code,
            pv=tensor(cel.prj.pv),
            phi0=tensor(cel.phi0),
            theta0=tensor(cel.theta0),
            offset=cel.offset,
            lonpole=tensor(cel.ref[2]),
            latpole=tensor(cel.ref[3]),
        )
        if header is not None and header[f"CTYPE{wcs.wcs.lng + 1}"].endswith("TPV"):
            axes = wcs.wcs.lng + 1, wcs.wcs.lat + 1
            tpv = Tpv(tensor([[header.get(f"PV{axis}_{m}", 0.0) for m in range(40)] for axis in axes]))
    sip = None
    if wcs.sip is not None:
        matrices = (wcs.sip.a, wcs.sip.b, wcs.sip.ap, wcs.sip.bp)
        sip = Sip(tensor(wcs.sip.crpix), *(None if m is None else tensor(m) for m in matrices))
    return Model(
        crpix=tensor(wcs.wcs.crpix),
        matrix=tensor(wcs.wcs.get_pc() * np.array(wcs.wcs.get_cdelt())[:, None]),
        crval=tensor(wcs.wcs.crval),
        ctype=tuple(wcs.wcs.ctype),
        units=tuple(str(unit) for unit in wcs.wcs.cunit),
        linear=tuple((code // 100) % 10 <= 1 for code in wcs.wcs.axis_types),
        celestial=celestial,
        sip=sip,
        tpv=tpv,
        d2im=lookups((wcs.det2im1, wcs.det2im2)),
        cpdis=lookups((wcs.cpdis1, wcs.cpdis2)),
    )


def separation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Angles in degrees between points (..., 2) of the sky."""
    one, two = np.radians(a), np.radians(b)
    half = np.sin((two - one) / 2)
    square = half[..., 1] ** 2 + np.cos(one[..., 1]) * np.cos(two[..., 1]) * half[..., 0] ** 2
    return np.degrees(2 * np.arcsin(np.sqrt(square)))
