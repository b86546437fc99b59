"""The examples in the docstrings run, in a folder with the small files that they name."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil

import numpy as np
import pytest
import torch
from astropy.io import fits

import torchfits

MODULES = [
    name for _, name, _ in pkgutil.iter_modules(torchfits.__path__) if name not in ("__main__", "_build_info")
]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """image.fits: 3 x 4 float32; sky.fits: such an image of the sky; table.fits: RA and NAME."""
    pixels = np.arange(12, dtype="f4").reshape(3, 4)
    fits.writeto(tmp_path / "image.fits", pixels)
    sky = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 30.0, "CRVAL2": 40.0}
    sky |= {"CRPIX1": 3.0, "CRPIX2": 2.0, "CDELT1": -0.001, "CDELT2": 0.001}
    fits.writeto(tmp_path / "sky.fits", pixels, fits.Header(sky))
    columns = [
        fits.Column("RA", "D", array=[10.0, 20.0, 30.0]),
        fits.Column("NAME", "4A", array=["a", "b", "c"]),
    ]
    fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU.from_columns(columns)]).writeto(tmp_path / "table.fits")
    groups = fits.GroupData(
        np.zeros((2, 1, 3), dtype="f4"),
        parnames=["DATE", "DATE"],
        pardata=[[2451545.0, 2451546.0], [0.25, 0.25]],
        bitpix=-32,
    )
    fits.GroupsHDU(groups).writeto(tmp_path / "groups.fits")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(folder, name):
    module = importlib.import_module(f"torchfits.{name}")
    names = {**vars(torchfits), **vars(module), "torchfits": torchfits, "torch": torch}
    results = doctest.testmod(module, extraglobs=names, optionflags=doctest.NORMALIZE_WHITESPACE)
    torchfits.cache_clear()
    assert results.failed == 0


def test_everything_public_is_documented_and_most_of_it_by_example():
    without = []
    for name in torchfits.__all__:
        thing = getattr(torchfits, name)
        assert inspect.getdoc(thing), name
        if inspect.isfunction(thing) and ">>>" not in inspect.getdoc(thing):
            without.append(name)
    assert without == []
    for kind in (torchfits.HDUList, torchfits.ImageHDU, torchfits.TableHDU, torchfits.Header, torchfits.Card):
        for name, member in vars(kind).items():
            if not name.startswith("_"):
                assert inspect.getdoc(member), f"{kind.__name__}.{name}"
