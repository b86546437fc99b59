"""What a world coordinate system is made of, as numbers: what wcslib or our own parsing found in a header.

Angles are in degrees, other world coordinates in SI units, as wcslib gives them. Tensors are float64 on the
CPU; pixel coordinates here are those of FITS, the first pixel's centre being 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch


def numbers(values: Any) -> torch.Tensor:
    """Numbers, or lists of them, as they are held here, whatever the default device is."""
    return torch.tensor(values, dtype=torch.float64, device="cpu")


@dataclass(slots=True, eq=False)
class Celestial:
    """The celestial pair of axes (Calabretta and Greisen 2002), after wcslib's defaults."""

    lng: int  # axis, from 0
    lat: int
    projection: str  # 'TAN', 'SIN', ...
    pv: torch.Tensor  # (30,) PVi_m of the latitude axis, m from 0; wcslib's default, or 0, where not given
    phi0: torch.Tensor  # native coordinates of the fiducial point, scalars
    theta0: torch.Tensor
    offset: bool  # whether the plane is shifted so that (phi0, theta0) is at x, y = 0
    lonpole: torch.Tensor
    latpole: torch.Tensor


@dataclass(slots=True, eq=False)
class Sip:
    """SIP polynomials (Shupe et al. 2005) over u, v from `crpix`; each (order + 1, order + 1), or None.

    Only terms with i + j up to the order count.
    """

    crpix: torch.Tensor  # (2,)
    a: torch.Tensor | None  # a[i, j] is A_i_j
    b: torch.Tensor | None
    ap: torch.Tensor | None  # only a first guess: the inverse is iterated
    bp: torch.Tensor | None


@dataclass(slots=True, eq=False)
class Tpv:
    """TPV polynomials, in intermediate world coordinates (degrees): PVi_0 to PVi_39 of both axes."""

    pv: torch.Tensor  # (2, 40), longitude axis first; 0 where not given, as in wcslib, PVi_1 too


@dataclass(slots=True, eq=False)
class Lookup:
    """A table of corrections to pixel coordinates, interpolated linearly (CPDIS 'Lookup' or D2IM)."""

    axis: int  # whose coordinate it corrects, from 0
    table: torch.Tensor  # (rows, columns)
    crpix: torch.Tensor  # (2,) of the table, x first
    crval: torch.Tensor
    cdelt: torch.Tensor
    # of the HDU that holds it: EXTVER, and whether its rows are what is called columns here
    version: int
    swapped: bool


@dataclass(slots=True, eq=False)
class Model:
    """A whole WCS. Pixels go through d2im, then sip and cpdis (both from the same pixels), `matrix`, tpv,
    and then the celestial pair through projection and rotation, other axes through their own algorithm.
    """

    crpix: torch.Tensor  # (naxis,)
    matrix: torch.Tensor  # (naxis, naxis): CDELTi * PCi_j or CDi_j; intermediate world from pixel offsets
    crval: torch.Tensor  # (naxis,)
    ctype: tuple[str, ...]
    units: tuple[str, ...]  # CUNIT as wcslib has made them: deg or SI
    linear: tuple[bool, ...]  # axes whose world coordinate is CRVAL + intermediate
    celestial: Celestial | None
    sip: Sip | None = None
    tpv: Tpv | None = None
    d2im: tuple[Lookup, ...] = ()
    cpdis: tuple[Lookup, ...] = ()

    @property
    def naxis(self) -> int:
        """How many pixel axes, and world axes, there are."""
        return len(self.ctype)
