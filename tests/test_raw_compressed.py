"""open(raw_compressed=True): compressed images and tables as the tables that they are stored as."""

from __future__ import annotations

import pickle
from itertools import pairwise

import numpy as np
import pytest
import torch
import ztables
from astropy.io import fits

import torchfits

pytestmark = pytest.mark.native


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "a.fits"
    pixels = np.arange(600, dtype="i2").reshape(20, 30)
    table = fits.BinTableHDU(np.array([(1, 2.5)], dtype=[("A", "i4"), ("B", "f8")]), name="T")
    image = fits.CompImageHDU(pixels, name="SCI", compression_type="RICE_1")
    fits.HDUList([fits.PrimaryHDU(), image, table]).writeto(path)
    return str(path)


@pytest.mark.parametrize("engine", ["auto", "direct"])
def test_an_image_is_the_table_of_its_streams(path, engine):
    with fits.open(path, disable_image_compression=True) as theirs:
        stored = theirs[1].data
        expected = [np.asarray(row["COMPRESSED_DATA"]) for row in stored]
        header = theirs[1].header
    with torchfits.open(path, engine=engine, raw_compressed=True) as file:
        hdu = file["SCI"]
        assert isinstance(hdu, torchfits.TableHDU)
        assert hdu.read_header()["ZCMPTYPE"] == "RICE_1"
        assert hdu.read_header()["NAXIS2"] == header["NAXIS2"] == 20
        values, offsets = hdu.read_table(ragged="offsets")["COMPRESSED_DATA"]
        assert [values[a:b].tolist() for a, b in pairwise(offsets)] == [each.tolist() for each in expected]


def test_cfitsio_says_that_it_cannot(path):
    with pytest.raises(torchfits.FitsUnsupported, match="streams"):
        torchfits.open(path, engine="cfitsio", raw_compressed=True)


def test_both_views_of_a_kept_file(path):
    with torchfits.open(path) as file, torchfits.open(path, raw_compressed=True) as raw:
        for _ in range(2):
            assert isinstance(raw[1], torchfits.TableHDU)
            assert len(raw[1]) == 20
            assert isinstance(file[1], torchfits.ImageHDU)
            assert file[1].shape == (20, 30)
            assert file[1].read().sum() == 599 * 300
        assert isinstance(pickle.loads(pickle.dumps(raw))[1], torchfits.TableHDU)
        assert torch.equal(raw["T"]["A"], file["T"]["A"])


def test_a_compressed_table_is_the_table_of_its_streams(tmp_path):
    rows, path = np.zeros(100, dtype=[("A", ">i4"), ("B", ">f8")]), tmp_path / "t.fits"
    fits.BinTableHDU(rows).writeto(path)
    path.write_bytes(ztables.compress(path.read_bytes(), 50, ["RICE_1", "GZIP_2"]))
    with torchfits.open(path) as file, torchfits.open(path, raw_compressed=True) as raw:
        assert file[1].nrows == 100
        assert raw[1].nrows == 2
        assert raw[1].read_header()["ZTABLE"] is True
        with fits.open(path, disable_image_compression=True) as theirs:
            assert raw[1].read_header()["TFORM1"] == theirs[1].header["TFORM1"]
