"""Headers with world coordinates, and what astropy makes of them."""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from pathlib import Path

import astropy.wcs
import numpy as np
import torch
from astropy.io import fits
from conftest import corpus_root

import torchfits

DATA = Path(astropy.wcs.__file__).parent / "tests/data"
# no header: what `astropy.wcs.validate` says
HEADERS = sorted(str(path.relative_to(DATA)) for path in DATA.rglob("*.hdr"))
FITS = sorted(str(path.relative_to(DATA)) for path in DATA.glob("*.fits*"))


@contextlib.contextmanager
def quiet():
    """astropy has opinions about most headers."""
    logger = logging.getLogger("astropy")
    level = logger.level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(level)


def header_bytes(name: str) -> bytes:
    """The cards of a header of astropy's, some of which stand in lines."""
    raw = (DATA / name).read_bytes()
    if raw[80:81] != b"\n" and b"\n" in raw[:80]:
        return b"".join(line.ljust(80)[:80] for line in raw.split(b"\n"))
    if raw[80:81] == b"\n":
        return b"".join(line.ljust(80)[:80] for line in raw.split(b"\n"))
    return raw


def astropy_wcs(header, hdus=None, key=" "):
    if isinstance(header, bytes):
        header = fits.Header.fromstring(header.decode("latin-1"))
    with quiet():
        found = astropy.wcs.WCS(header, hdus, key=key)
        found.pixel_shape = None  # astropy's `sub` fails where it has other axes
        return found


def cards(**values) -> bytes:
    """A header, made by astropy."""
    header = fits.Header()
    for keyword, value in values.items():
        header[keyword.replace("__", "-")] = value
    return header.tostring().encode()


def simple(projection: str = "TAN", **values) -> dict:
    """An ordinary image of 100 x 100 pixels of 0.01 degrees."""
    plain = {
        "NAXIS": 2,
        "NAXIS1": 100,
        "NAXIS2": 100,
        "CTYPE1": f"RA---{projection}",
        "CTYPE2": f"DEC--{projection}",
        "CRVAL1": 30.0,
        "CRVAL2": 40.0,
        "CRPIX1": 50.5,
        "CRPIX2": 50.5,
        "CDELT1": -0.01,
        "CDELT2": 0.01,
    }
    return plain | values


def sip(order: int = 3, size: float = 1e-5, inverse: bool = False, **values) -> dict:
    chance = np.random.default_rng(order)
    found = simple("TAN-SIP", **values)
    for name in ("A", "B"):
        found[f"{name}_ORDER"] = order
        for i in range(order + 1):
            for j in range(order + 1 - i):
                if i + j >= 2:
                    found[f"{name}_{i}_{j}"] = float(chance.normal() * size * 100.0 ** (2 - i - j))
    if inverse:
        for name in ("AP", "BP"):
            found[f"{name}_ORDER"] = order
            terms = [(i, j) for i in (0, 1, 2) for j in (0, 1, 2)]
            found |= {f"{name}_{i}_{j}": -found.get(f"{name[0]}_{i}_{j}", 0.0) for i, j in terms}
    return found


def iraf(code: str) -> bytes:
    """TNX or ZPX as IRAF writes it: polynomials as text, cut into WAT cards."""
    chance = np.random.default_rng(5)
    found = {key: value for key, value in simple(code).items() if not key.startswith("CDELT")}
    found |= {"CD1_1": -1e-4, "CD1_2": 7e-3, "CD2_1": 7e-3, "CD2_2": 1e-4}
    for axis, name in ((1, "lngcor"), (2, "latcor")):
        parameters = "projp1=1.0 projp3=220.0 " if code == "ZPX" else ""
        terms = " ".join(f"{each:.12g}" for each in chance.normal(0, 1e-3, 10))
        text = f"wtype={code.lower()} axtype={'ra' if axis == 1 else 'dec'} {parameters}"
        text += f'{name} = "3. 4. 4. 2. -0.4 0.4 -0.4 0.4 {terms} "'
        found |= {f"WAT{axis}_{i // 68 + 1:03}": text[i : i + 68] for i in range(0, len(text), 68)}
    return cards(**found)


def points(n: int, naxis: int, low: float, high: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(low, high, (n, naxis))


def on_sky(wcs: torchfits.WCS, a: np.ndarray, b: np.ndarray) -> float:
    """The largest difference of world coordinates; longitudes count by the cosine of the latitude."""
    facts = wcs._facts
    apart = np.abs(a - b) / np.maximum(1, np.abs(a))
    if facts["lng"] >= 0 and facts["lat"] >= 0:
        lng = np.abs(a[:, facts["lng"]] - b[:, facts["lng"]])
        apart[:, facts["lng"]] = np.minimum(lng, np.abs(lng - 360)) * np.cos(np.radians(a[:, facts["lat"]]))
    return float(np.nanmax(apart, initial=0))


def by_tensor(transform, values: np.ndarray, **options) -> np.ndarray:
    return transform(torch.from_numpy(np.ascontiguousarray(values)), **options).numpy()


def corpus_images() -> list[tuple[str, int, str]]:
    """(file, HDU, key) of the images of the corpus that have world coordinates, as astropy sees them."""
    root = corpus_root()
    found = []
    for folder, _, names in sorted(os.walk(root)) if root else ():
        for name in sorted(names):
            if not name.lower().endswith((".fits", ".fit", ".fits.gz", ".fz")):
                continue
            path = Path(folder) / name
            with quiet(), contextlib.suppress(Exception), fits.open(path) as hdus:
                for i, hdu in enumerate(hdus):
                    if getattr(hdu, "is_image", False):
                        keys = {key for key in " ABO" if f"CTYPE1{key}".strip() in hdu.header}
                        found += [(str(path.relative_to(root)), i, key) for key in sorted(keys)]
    return found
