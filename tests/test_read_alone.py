"""read(cache=False): a small plain image is read by one call of C, and what that leaves is read as ever."""

from __future__ import annotations

import gzip
import math
import os
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from astropy.io import fits
from images import EMPTY, STORED, assert_same, card, converted, image, natural, noise, physical, table
from test_direct import CASES, SCALINGS, tricky, with_payload
from test_oracles import FILES

import torchfits
from torchfits import FitsError, FitsFileNotFound, FitsFormatError, FitsIOError
from torchfits._direct import FILE_CHANGED, FILE_DONE, SMALL_JOB, TYPES, read_alone

pytestmark = pytest.mark.native


def room(shape: tuple[int, ...], code: int) -> tuple[torch.Tensor, int]:
    dtype = next(getattr(torch, name) for name, each in TYPES.items() if each == code)
    tensor = torch.empty(shape, dtype=dtype)
    return tensor, tensor.data_ptr()


def is_read_so(path, index: int) -> bool:
    done, tensor = read_alone(os.fsencode(path), index, room)
    assert (done == FILE_DONE) == (tensor is not None)
    return done == FILE_DONE


@pytest.mark.parametrize(("bitpix", "name"), CASES)
def test_every_convention(tmp_path, variant, bitpix, name):
    array, scaling = with_payload(tricky(bitpix)), SCALINGS[name]
    path = tmp_path / "a.fits"
    path.write_bytes(image(array, **scaling.cards(bitpix)) + image(array[:3], False, **scaling.cards(bitpix)))
    values = physical(array, bitpix, scaling)
    whole = converted(values, natural(values, bitpix))
    for index, rows in ((0, 7), (1, 3)):
        tensor = torchfits.read(path, index, cache=False)
        assert_same(tensor, whole[:rows])
        assert_same(tensor, torchfits.open(path, engine="cfitsio")[index].read(), exact=True)
        assert is_read_so(path, index) == (name in ("none", "other sign", "blank and other sign"))
    assert_same(torchfits.read(path, cache=False), whole)
    if bitpix < 0 and name == "none":
        assert torchfits.read(path, cache=False).numpy().tobytes() == array.tobytes()


SHAPES = [(1,), (2880,), (5761,), (40, 9), (3, 1, 50), (2,) * 16, (1 << 17,), (1 << 19,)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("bitpix", STORED)
def test_sizes(tmp_path, bitpix, shape):
    array = noise(np.dtype(STORED[bitpix]).str[1:], shape)
    path = tmp_path / "a.fits"
    path.write_bytes(EMPTY + image(array, primary=False))
    expected = torch.from_numpy(array)
    assert_same(torchfits.read(path, 1, cache=False), expected)
    assert_same(torchfits.read(path, cache=False), expected)  # the first with data
    assert is_read_so(path, 1) == (array.nbytes < SMALL_JOB)
    assert not is_read_so(path, 0)
    assert not is_read_so(path, 2)


def outcome(read: Callable, path: str, index: int) -> torch.Tensor | str | None:
    try:
        return read(path, index)
    except FitsError as error:
        return f"{type(error).__name__}: {error}"


def by_open(path: str, index: int) -> torch.Tensor | None:
    with torchfits.open(path, cache=False) as file:
        found = file[index]
        return found.read() if isinstance(found, torchfits.ImageHDU) else None


@pytest.mark.filterwarnings("ignore::torchfits.FitsWarning")
@pytest.mark.parametrize("name", FILES)
def test_real_files(name):
    for index in range(8):
        expected = outcome(by_open, FILES[name], index)
        if expected is None:
            continue
        found = outcome(partial(torchfits.read, cache=False), FILES[name], index)
        if isinstance(expected, str):
            assert found == expected
        else:
            assert_same(found, expected, exact=True)


def test_what_is_left_to_others(tmp_path):
    array = np.arange(12, dtype="i2").reshape(3, 4)
    whole = image(array) + table(3, 8) + image(array, False)
    path, packed, compressed = tmp_path / "a.fits", tmp_path / "a.fits.gz", tmp_path / "a.fz"
    path.write_bytes(whole)
    packed.write_bytes(gzip.compress(whole))
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(array)]).writeto(compressed)
    assert [is_read_so(path, index) for index in range(4)] == [True, False, True, False]
    assert not is_read_so(packed, 0)
    assert not is_read_so(compressed, 1)
    for file, index in ((path, 0), (path, 2), (packed, 0), (packed, 2), (compressed, 1)):
        assert_same(torchfits.read(file, index, cache=False), torch.from_numpy(array))
    assert list(torchfits.read(path, 1, cache=False)) == list(torchfits.read(path, 1))
    assert_same(torchfits.read(path, -1, cache=False), torch.from_numpy(array))
    assert_same(torchfits.read(path, 0, 1, cache=False), torch.from_numpy(array)[1])
    assert torchfits.read(path, 0, dtype=torch.float32, cache=False).dtype == torch.float32
    odd = tmp_path / "odd.fits"
    odd.write_bytes(whole.replace(card("NAXIS1", 4), b"NAXIS1  = 4".ljust(80), 1))
    assert_same(torchfits.read(odd, 0, cache=False), torch.from_numpy(array))


@pytest.mark.parametrize("cut", [0, 1, 100, 2879, 2880, 2881, 2903])
def test_files_that_end_before(tmp_path, cut):
    path = tmp_path / "a.fits"
    path.write_bytes(image(np.arange(12, dtype="i2"))[:cut])
    assert not is_read_so(path, 0)
    with pytest.raises(FitsFormatError) as expected, torchfits.open(path, cache=False) as file:
        file[0].read()
    with pytest.raises(FitsFormatError) as caught:
        torchfits.read(path, 0, cache=False)
    assert str(caught.value) == str(expected.value)
    path.write_bytes(image(np.arange(12, dtype="i2"))[:2904])  # padding is not missed
    assert is_read_so(path, 0)


def test_paths_that_are_none(tmp_path):
    with pytest.raises(FitsFileNotFound, match="none"):
        torchfits.read(tmp_path / "none", 0, cache=False)
    with pytest.raises(FitsIOError, match=str(tmp_path)):
        torchfits.read(tmp_path, 0, cache=False)
    with pytest.raises(FitsIOError, match="NUL"):
        torchfits.read("a\0", 0, cache=False)
    with pytest.raises(TypeError, match="path must be"):
        torchfits.read(3, 0, cache=False)  # type: ignore[arg-type]
    assert read_alone(os.fsencode(tmp_path), 0, room) == (0, None)


def test_a_file_that_changes_meanwhile(tmp_path, monkeypatch):
    path = tmp_path / "a.fits"
    path.write_bytes(image(noise("f4", (100, 90))))

    def change(shape: tuple[int, ...], code: int) -> tuple[torch.Tensor, int]:
        with open(path, "r+b") as file:
            file.seek(3000)
            file.write(b"\0")
        os.utime(path, ns=(1, 1))
        return room(shape, code)

    assert read_alone(os.fsencode(path), 0, change)[0] == FILE_CHANGED
    monkeypatch.setattr("torchfits.image._room", change)
    os.utime(path)
    with pytest.raises(FitsIOError, match=r"a\.fits.*changed while it was read"):
        torchfits.read(path, 0, cache=False)

    def shorten(shape: tuple[int, ...], code: int) -> tuple[torch.Tensor, int]:
        os.truncate(path, 9000)
        return room(shape, code)

    assert read_alone(os.fsencode(path), 0, shorten)[0] not in (FILE_DONE, FILE_CHANGED)


def test_without_memory_nothing_stays_open(tmp_path):
    path = tmp_path / "a.fits"
    path.write_bytes(image(noise("f4", (100, 90))))

    def none(shape: tuple[int, ...], code: int) -> tuple[torch.Tensor, int]:
        raise MemoryError(f"{math.prod(shape)}")

    with pytest.raises(MemoryError, match="9000"):
        read_alone(os.fsencode(path), 0, none)
