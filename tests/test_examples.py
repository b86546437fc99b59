"""The examples of the specification, as they are written there."""

from __future__ import annotations

import os
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from astropy.io import fits

import torchfits
from torchfits import FitsUnsupported

DEVICE = "cuda:0" if torch.cuda.is_available() else "cpu"
README = Path(__file__).parents[1] / "README.md"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The files that the examples name, made by astropy; the catalogue and the cube are as large as they say."""
    rng = np.random.default_rng(1)
    fits.writeto(tmp_path / "large_image.fits", rng.normal(size=(300, 400)).astype("f4"))
    sky = {"CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP", "CRVAL1": 30.0, "CRVAL2": 40.0, "CRPIX1": 50.5}
    sky |= {"CRPIX2": 25.5, "CDELT1": -0.01, "CDELT2": 0.01, "A_ORDER": 2, "A_2_0": 1e-5, "B_ORDER": 2}
    fits.writeto(tmp_path / "sky.fits", np.zeros((60, 100), "f4"), fits.Header(sky))
    rows = 2_000_500
    catalog = np.zeros(rows, dtype=[("RA", ">f8"), ("DEC", ">f8"), ("FLUX_G", ">f4"), ("FLUX_R", ">f4")])
    catalog["RA"], catalog["DEC"], catalog["FLUX_G"] = np.arange(rows), -np.arange(rows), np.arange(rows) * 2
    fits.BinTableHDU(catalog).writeto(tmp_path / "huge_catalog.fits")
    with open(
        tmp_path / "datacube.fits", "wb"
    ) as file:  # 500 x 1024 x 1024 bytes, a hole but for the last one
        header = fits.Header()
        header["SIMPLE"], header["BITPIX"], header["NAXIS"] = True, 8, 3
        header["NAXIS1"], header["NAXIS2"], header["NAXIS3"] = 1024, 1024, 500
        text = header.tostring().encode()
        file.write(text)
        size = 500 * 1024 * 1024
        file.seek(len(text) + size - 1)
        file.write(b"\7")
        file.truncate(len(text) + -(-size // 2880) * 2880)
    image = np.arange(12, dtype="f4").reshape(3, 4)
    objects = np.zeros(
        5, dtype=[("X_IMAGE", ">f4"), ("Y_IMAGE", ">f4"), ("FLUX_AUTO", ">f8"), ("FLAGS", ">i2")]
    )
    objects["X_IMAGE"] = np.arange(5)
    fits.HDUList(
        [
            fits.PrimaryHDU(),
            fits.ImageHDU(image, name="SCI"),
            fits.ImageHDU(image * 0.1, name="ERR"),
            fits.BinTableHDU(objects, name="CAT"),
        ]
    ).writeto(tmp_path / "multi_extension_file.fits")
    metadata = np.array([(0.25, b"GALAXY")], dtype=[("Z", ">f8"), ("CLASS", "S6")])
    fits.HDUList(
        [
            fits.PrimaryHDU(),
            fits.ImageHDU(np.arange(100, dtype="f4"), name="FLUX"),
            fits.ImageHDU(np.ones(100, dtype="f4"), name="IVAR"),
            fits.ImageHDU(np.zeros(100, dtype="i4"), name="MASK"),
            fits.BinTableHDU(metadata, name="METADATA"),
        ]
    ).writeto(tmp_path / "spectrum.fits")
    monkeypatch.chdir(tmp_path)
    return tmp_path


# fmt: off
# ruff: noqa: E501, E702
def test_image(folder):
    with torchfits.open('large_image.fits') as f:
        image_tensor = f[0].read(device=DEVICE)
        cutout = f[0].read(section=(slice(100, 200), slice(100, 200)))
    expected = fits.getdata("large_image.fits").astype("f4")
    assert image_tensor.device == torch.device(DEVICE)
    assert np.array_equal(image_tensor.cpu().numpy(), expected)
    assert np.array_equal(cutout.numpy(), expected[100:200, 100:200])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_a_device_that_is_not_there_is_said_clearly(folder):
    with torchfits.open('large_image.fits') as f, pytest.raises(FitsUnsupported, match="no CUDA device"):
        f[0].read(device='cuda:0')


def test_catalog(folder):
    with torchfits.open('huge_catalog.fits') as f:
        table_data = f[1].read_table(columns=['RA', 'DEC', 'FLUX_G'], rows=slice(1_000_000, 2_000_000), device='cpu')
    assert list(table_data) == ["RA", "DEC", "FLUX_G"]
    assert torch.equal(table_data["RA"], torch.arange(1_000_000, 2_000_000, dtype=torch.float64))
    assert torch.equal(table_data["FLUX_G"], torch.arange(1_000_000, 2_000_000, dtype=torch.float32) * 2)


def test_cube(folder):
    with torchfits.open('datacube.fits') as f:
        cube = f[0].read()                                  # (500, 1024, 1024)
    assert cube.shape == (500, 1024, 1024)
    assert cube[-1, -1, -1] == 7
    assert cube.sum(dtype=torch.int64) == 7


def test_multi_extension_file(folder):
    with torchfits.open('multi_extension_file.fits') as f:
        science_image = f['SCI'].read(); error_array = f['ERR'].read()
        source_catalog = f['CAT'].read_table(columns=['X_IMAGE', 'Y_IMAGE', 'FLUX_AUTO'])
    assert torch.equal(science_image, torch.arange(12.0).reshape(3, 4))
    assert torch.equal(error_array, torch.from_numpy(np.arange(12, dtype="f4").reshape(3, 4) * np.float32(0.1)))
    assert source_catalog["X_IMAGE"].tolist() == [0, 1, 2, 3, 4]


def test_spectrum(folder):
    with torchfits.open('spectrum.fits', cache=True) as f:
        flux = f['FLUX'].read(); ivar = f['IVAR'].read(); mask = f['MASK'].read()
        metadata = f['METADATA'].read_table(columns=['Z', 'CLASS']); redshift = metadata['Z'][0]
    assert flux.sum() == 4950
    assert ivar.sum() == 100
    assert mask.dtype == torch.int32
    assert redshift == 0.25
    assert torchfits.strings(metadata["CLASS"]) == ["GALAXY"]


def test_writing(folder):
    image_tensor = torch.arange(12, dtype=torch.int16).reshape(3, 4)
    torchfits.writeto('new_image.fits', data=image_tensor, header={'OBJECT': 'NGC 101'})
    torchfits.writeto('new_catalog.fits', data={'TARGET_ID': torch.arange(100), 'RA': torch.rand(100) * 360, 'DEC': torch.rand(100) * 180 - 90}, ext_name='CATALOG')
    assert fits.getheader("new_image.fits")["OBJECT"] == "NGC 101"
    assert np.array_equal(fits.getdata("new_image.fits"), image_tensor.numpy())
    with fits.open("new_catalog.fits") as f:
        assert f["CATALOG"].data["TARGET_ID"].tolist() == list(range(100))
        assert f["CATALOG"].columns.names == ["TARGET_ID", "RA", "DEC"]


PAGES = [README, *(README.parent / "docs" / name for name in ("tables.md", "compression.md", "wcs.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_examples_of_the_pages_run(folder, page):
    """Every python block of a page, one after the other, in one namespace."""
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL)
    assert blocks
    namespace: dict = {}
    with warnings.catch_warnings():
        for block in blocks:
            exec(compile(block, str(page), "exec"), namespace)
    assert os.listdir(folder)
