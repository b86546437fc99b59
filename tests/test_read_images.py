"""read_images(): many images of a file in one call."""

from __future__ import annotations

import gzip
import os

import numpy as np
import pytest
import torch
from astropy.io import fits
from images import ENGINES, assert_same, in_fork, mapped, noise, torch_threads

import torchfits
from torchfits import FitsFormatError, FitsIOError, HduMissing

pytestmark = pytest.mark.native


@pytest.fixture
def path(tmp_path):
    """Images of every kind, small and large, among others."""
    path = tmp_path / "a.fits"
    scaled = fits.ImageHDU(noise("i2", (70, 80)), name="SCALED")
    hdus = [
        fits.PrimaryHDU(),
        *(
            fits.ImageHDU(noise(dtype, (200, 301)), name="CHIP")
            for dtype in ("u1", "i2", "i4", "i8", "f4", "f8")
        ),
        fits.ImageHDU(noise("i2", (60, 70)).astype("u2"), name="UNSIGNED"),
        scaled,
        fits.BinTableHDU.from_columns([fits.Column("A", "J", array=[1, 2])], name="TABLE"),
        fits.ImageHDU(noise("f4", (3, 400, 500)), name="LARGE"),
        fits.CompImageHDU(noise("i2", (50, 60)), name="TILES"),
        fits.ImageHDU(name="NOTHING"),
        fits.ImageHDU(noise("f4", (5,)), name="LAST", ver=7),
    ]
    fits.HDUList(hdus).writeto(path)
    with fits.open(path, mode="update") as file:
        file["SCALED"].header["BSCALE"], file["SCALED"].header["BZERO"] = 0.5, 3.0
    return path


def expected(path):
    with fits.open(path) as file:
        found = {i: hdu.data for i, hdu in enumerate(file) if hdu.is_image and hdu.data is not None}
    return {i: torch.from_numpy(data.astype(data.dtype.newbyteorder("="))) for i, data in found.items()}


@pytest.mark.parametrize("engine", [*ENGINES, "auto"])
@pytest.mark.parametrize("mmap", [True, False])
@pytest.mark.parametrize("threads", [1, 3])
def test_all_images_are_those_of_astropy(path, engine, mmap, threads):
    wanted = expected(path)
    assert list(wanted) == [1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 13]
    with torch_threads(threads), torchfits.open(path, cache=False, engine=engine, mmap=mmap) as file:
        for again in (False, True, True):
            found = file.read_images()
            assert list(found) == list(wanted)
            for index, tensor in found.items():
                assert_same(tensor, wanted[index], exact=True)
            assert mapped(path) == (again and mmap and engine != "cfitsio")


def test_those_that_are_asked_for(path):
    wanted = expected(path)
    keys = ["LAST", -1, 2, ("LAST", 7), "large", 11, 10]
    with torchfits.open(path) as file:
        found = file.read_images(keys)
        assert list(found) == keys
        for key, index in zip(keys, (13, 13, 2, 13, 10, 11, 10), strict=True):
            assert_same(found[key], wanted[index], exact=True)
        assert found["LAST"].data_ptr() != found[-1].data_ptr()
        assert file.read_images([]) == {}
        assert file.read_images([0])[0].shape == (0,)
        assert_same(file.read_images(iter([5]))[5], wanted[5], exact=True)


def test_random_groups(tmp_path):
    path = tmp_path / "groups.fits"
    parameters = {"parnames": ["U", "V"], "pardata": [[1.0] * 6, [2.0] * 6]}
    data = fits.GroupData(noise("f4", (6, 5, 7)), bitpix=-32, **parameters)
    fits.GroupsHDU(data).writeto(path)
    with torchfits.open(path) as file:
        for _ in range(3):
            assert_same(file.read_images()[0], torch.from_numpy(noise("f4", (6, 5, 7))), exact=True)


def test_compressed_files(path, tmp_path):
    packed = tmp_path / "a.fits.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    with torchfits.open(packed) as file, torchfits.open(path) as plain:
        for (i, found), (k, wanted) in zip(
            file.read_images().items(), plain.read_images().items(), strict=True
        ):
            assert i == k
            assert_same(found, wanted, exact=True)


def test_what_cannot_be_read(path):
    with torchfits.open(path) as file:
        for keys, error, hdu in ((["TABLE"], FitsFormatError, 9), ([1, "NONE"], HduMissing, "NONE")):
            with pytest.raises(error) as caught:
                file.read_images(keys)
            assert (caught.value.path, caught.value.hdu) == (str(path), hdu)
        for one in ("LAST", 3):
            with pytest.raises(TypeError, match="sequence"):
                file.read_images(one)
    with pytest.raises(FitsIOError, match="closed"):
        file.read_images()


@pytest.mark.parametrize("times", [0, 1, 2])
@pytest.mark.parametrize("hdu", [3, 6, 13])
def test_a_file_that_is_cut_meanwhile(path, hdu, times):
    with fits.open(path) as file:
        start = file[hdu].fileinfo()["datLoc"]

    def check():
        with torchfits.open(path) as file:
            for _ in range(times):
                file.read_images(range(1, 7))
            len(file)
            os.truncate(path, start + 10)
            with pytest.raises(FitsIOError) as caught:
                file.read_images([*range(1, 9), 13])
            assert caught.value.path == str(path)
            # whoever sees the change first, from a mapping the end of the file
            assert caught.value.hdu is None or caught.value.hdu >= hdu
        with torchfits.open(path) as file, pytest.raises(FitsFormatError, match="cut short") as caught:
            file.read_images([1, hdu])
        assert (caught.value.path, caught.value.hdu) == (str(path), hdu)

    in_fork(check)


def test_numbers_of_many_dtypes_are_what_read_gives(path):
    with torchfits.open(path) as file:
        for index, tensor in file.read_images().items():
            assert (tensor.dtype, tensor.shape) == (file[index].dtype, file[index].shape)
            assert np.array_equal(tensor.numpy(), file[index].read().numpy())
