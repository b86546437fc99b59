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
from images import (
    EMPTY,
    ENGINES,
    STORED,
    assert_same,
    card,
    converted,
    image,
    natural,
    noise,
    physical,
    table,
)
from test_direct import CASES, SCALINGS, tricky, with_payload
from test_oracles import FILES

import torchfits
from torchfits import FitsError, FitsFormatError, FitsIOError, HduMissing
from torchfits._direct import FILE_CHANGED, FILE_DONE, SMALL_JOB, TYPES, read_alone
from torchfits._tensors import DTYPES, address

pytestmark = pytest.mark.native


def room(shape: tuple[int, ...], code: int) -> tuple[torch.Tensor, int, int]:
    tensor = torch.empty(shape, dtype=DTYPES[code])
    return tensor, *address(tensor)


def is_read_so(path, index: int | None) -> bool:
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
        assert is_read_so(path, index) == (name != "huge")  # whose cards the scan in C leaves to others
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
    assert is_read_so(path, 1) == is_read_so(path, None) == (array.nbytes < SMALL_JOB)
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
    assert not is_read_so(packed, None)
    assert not is_read_so(compressed, None)
    for file, index in ((path, 0), (path, 2), (path, -1), (packed, 0), (packed, 2), (packed, None)):
        assert_same(torchfits.read(file, index, cache=False), torch.from_numpy(array))
    for index in (1, None):
        assert_same(torchfits.read(compressed, index, cache=False), torch.from_numpy(array))
    assert list(torchfits.read(path, 1, cache=False)) == list(torchfits.read(path, 1))
    odd = tmp_path / "odd.fits"
    odd.write_bytes(whole.replace(card("NAXIS1", 4), b"NAXIS1  = 4".ljust(80), 1))
    assert_same(torchfits.read(odd, 0, cache=False), torch.from_numpy(array))
    for missing in (3, 11, 2**63 - 1, 2**63, 10**30):
        with pytest.raises(HduMissing, match=f"HDU {missing}: no such HDU"):
            torchfits.read(path, missing, cache=False)


def test_arguments(tmp_path):
    array = torch.arange(12, dtype=torch.int16).reshape(3, 4)
    path = tmp_path / "a.fits"
    path.write_bytes(image(array.numpy()))
    for name in (path, str(path), os.fsencode(path)):
        assert_same(torchfits.read(name, 0, cache=False), array)
    for engine in ENGINES:
        assert_same(torchfits.read(path, 0, engine=engine, cache=False), array)
    for options in ({"mmap": False}, {"device": torch.device("cpu")}):
        assert_same(torchfits.read(path, 0, cache=False, **options), array)
    assert_same(torchfits.read(path, 0, 1, cache=False), array[1])
    assert_same(torchfits.read(path, 0, dtype=torch.float32, cache=False), array.float())
    out = torch.empty_like(array)
    assert torchfits.read(path, 0, out=out, cache=False) is out
    assert_same(out, array)
    with torch.inference_mode():
        assert torchfits.read(path, 0, cache=False).is_inference()


@pytest.mark.parametrize("cut", [0, 1, 100, 2879, 2880, 2881, 2903])
def test_files_that_end_before(tmp_path, cut):
    path = tmp_path / "a.fits"
    path.write_bytes(image(np.arange(12, dtype="i2"))[:cut])
    assert not is_read_so(path, 0)
    with pytest.raises(FitsFormatError) as expected:
        by_open(path, 0)
    with pytest.raises(FitsFormatError) as caught:
        torchfits.read(path, 0, cache=False)
    assert str(caught.value) == str(expected.value)
    path.write_bytes(image(np.arange(12, dtype="i2"))[:2904])  # padding is not missed
    assert is_read_so(path, 0)


@pytest.mark.parametrize("name", ["absent", ".", "a\0", "pipe", 3])
def test_paths_that_are_none(tmp_path, name):
    os.mkfifo(tmp_path / "pipe")
    path = tmp_path / name if isinstance(name, str) else name
    with pytest.raises((FitsError, TypeError)) as expected:
        torchfits.open(path, cache=False)
    with pytest.raises(type(expected.value)) as caught:
        torchfits.read(path, 0, cache=False)
    assert str(caught.value) == str(expected.value)


def touch(path):
    os.utime(path, ns=(1, 1))


def shorten(path):
    os.truncate(path, 9000)


def replace(path):
    path.with_suffix(".new").write_bytes(path.read_bytes())
    path.with_suffix(".new").replace(path)


@pytest.mark.parametrize("change", [touch, shorten, replace])
def test_a_file_that_changes_meanwhile(tmp_path, monkeypatch, change):
    path = tmp_path / "a.fits"
    path.write_bytes(image(noise("f4", (100, 90))))

    def late(shape: tuple[int, ...], code: int) -> tuple[torch.Tensor, int, int]:
        change(path)
        return room(shape, code)

    assert read_alone(os.fsencode(path), 0, late) == (FILE_CHANGED, None)
    path.write_bytes(image(noise("f4", (100, 90))))
    monkeypatch.setattr("torchfits.image._room_of", late)
    with pytest.raises(FitsIOError, match=r"a\.fits, HDU 0: the file changed while it was read"):
        torchfits.read(path, 0, cache=False)


def test_memory_that_does_not_fit(tmp_path):
    path = tmp_path / "a.fits"
    path.write_bytes(image(noise("f4", (100, 90))))

    def none(shape: tuple[int, ...], code: int) -> tuple[torch.Tensor, int, int]:
        raise MemoryError(f"{math.prod(shape)}")

    with pytest.raises(MemoryError, match="9000"):
        read_alone(os.fsencode(path), 0, none)
    for wrong in (lambda *_: room((99, 90), TYPES["float32"]), lambda *_: (None, 0, 36000)):
        with pytest.raises(ValueError, match="differ in size"):
            read_alone(os.fsencode(path), 0, wrong)
