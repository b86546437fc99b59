"""PLIO_1 line lists: read and written as cfitsio does it, by way of astropy, fpack and a slow decoder."""

from __future__ import annotations

import struct
import subprocess

import numpy as np
import pytest
from astropy.io import fits
from astropy.io.fits.hdu.compressed._codecs import PLIO1
from hypothesis import given, settings
from hypothesis import strategies as st

from torchfits._direct import plio_decode, plio_encode
from torchfits._tiles import check_tiles

pytestmark = pytest.mark.native


def words(*numbers: int) -> bytes:
    return struct.pack(f">{len(numbers)}h", *numbers)


def slow_decode(stream: bytes, count: int) -> list[int]:
    """The pixels of a sound list."""
    numbers = struct.unpack(f">{len(stream) // 2}h", stream[: len(stream) // 2 * 2])
    at, end = (3, numbers[2]) if numbers[2] > 0 else (numbers[1], (numbers[4] << 15) + numbers[3])
    pixels, value = [], 1
    while at < end and len(pixels) < count:
        code, low = divmod(numbers[at], 4096)
        at += 1
        if code == 1:
            value = numbers[at] << 12 | low
            at += 1
        elif code in (0, 4, 5):
            run = [value if code == 4 else 0] * low
            if code == 5 and low:
                run[-1] = value
            pixels += run
        else:
            value += low if code in (2, 6) else -low
            if code > 3:
                pixels.append(value)
    return pixels + [0] * (count - len(pixels))


def decoded(stream: bytes, count: int) -> list[int]:
    return np.frombuffer(plio_decode(stream, count), np.int32).tolist()


def encoded(pixels) -> bytes:
    return plio_encode(np.asarray(pixels, np.int32).tobytes())


def by_cfitsio(pixels) -> bytes:
    stream = PLIO1(tilesize=len(pixels)).encode(np.asarray(pixels, np.int32))
    return np.frombuffer(stream, "i2").astype(">i2").tobytes()


RUNS = st.lists(
    st.tuples(
        st.sampled_from([0, 0, 1, 2, 4095, 4096, 4097, 2**20, 2**24 - 1]) | st.integers(0, 2**24 - 1),
        st.sampled_from([1, 1, 2, 3, 4094, 4096, 8191, 8193]) | st.integers(1, 30),
    ),
    min_size=1,
    max_size=30,
)


@settings(max_examples=300, deadline=None)
@given(RUNS)
def test_round_trips(runs):
    pixels = [value for value, count in runs for _ in range(count)]
    stream = encoded(pixels)
    assert slow_decode(stream, len(pixels)) == pixels
    assert decoded(stream + b"more", len(pixels)) == pixels
    truth = by_cfitsio(pixels)
    if slow_decode(truth, len(pixels)) == pixels:
        assert stream == truth
    else:  # 4095 zeros are among them, or twice as many, ...
        assert 24576 in struct.unpack(f">{len(truth) // 2}h", truth)
    np.testing.assert_array_equal(PLIO1(tilesize=len(pixels)).decode(np.frombuffer(stream, ">i2")), pixels)


@pytest.mark.parametrize("zeros", [4094, 4095, 4096, 8190])
def test_zeros_before_a_single_pixel(zeros):
    """Of 4095, or 8190, cfitsio's encoder makes one pixel: the count overflows into the code."""
    pixels = [0] * zeros + [1] + [0] * 9
    assert decoded(encoded(pixels), len(pixels)) == pixels
    assert (encoded(pixels) == by_cfitsio(pixels)) == (zeros % 4095 != 0)
    if zeros % 4095 == 0:
        assert slow_decode(by_cfitsio(pixels), len(pixels)) != pixels


@pytest.mark.parametrize("dtype", ["u1", "i2", "i4"])
def test_what_fpack_writes(tmp_path, dtype):
    plain, packed = tmp_path / "plain.fits", tmp_path / "packed.fits"
    y, x = np.indices((40, 90))
    pixels = np.where((x - 40) ** 2 + (y - 20) ** 2 < 150, 100 + x % 3, 0).astype(dtype)
    fits.PrimaryHDU(pixels).writeto(plain)
    subprocess.run(["fpack", "-p", "-O", packed, plain], check=True)
    with fits.open(packed, disable_image_compression=True) as f:
        rows = f[1].data["COMPRESSED_DATA"]
        streams = [row.astype(">i2").tobytes() for row in rows]
    assert [decoded(stream, 90) for stream in streams] == pixels.tolist()
    assert [encoded(row) for row in pixels] == streams


@pytest.mark.parametrize("pixel", [-1, -(2**31), 2**24])
def test_pixels_that_plio_does_not_do(pixel):
    for pixels in ([pixel], [0, 5, pixel, 7]):
        with pytest.raises(ValueError, match=r"0 to 2\^24 - 1"):
            encoded(pixels)


def test_no_pixels():
    assert encoded([]) == b""


CUT, BAD = "ends before its pixels do", "has no valid header"
CODE, MORE = "has a code that no encoder writes", "holds more pixels than its tile"
HOSTILE = [
    (b"", CUT),
    (words(0, 7), CUT),
    (words(0, 7, -100, 8), CUT),
    (words(0, 7, -100, 9, 0, 0, 0, 32), CUT),
    (words(0, 7, -100, 8, 9, 0, 0, 32), CUT),
    (words(0, 0, 30000), CUT),
    (words(0, 7, -100, 8, -1, 0, 0, 32), BAD),
    (words(0, -7, -100, 8, 0, 0, 0, 32), BAD),
    (words(0, 7, -100, 0, 0, 0, 0, 32), BAD),
    (words(0, 7, -100, 8, 0, 0, 0, 4096), CUT),
    (words(0, 7, -100, 9, 0, 0, 0, 4096, -1), CODE),
    (words(0, 7, -100, 8, 0, 0, 0, 33), MORE),
    (words(0, 7, -100, 8, 0, 0, 0, -4000), CODE),
]


@pytest.mark.parametrize(("stream", "why"), HOSTILE)
def test_hostile_lists_are_refused(stream, why):
    with pytest.raises(ValueError, match=why):
        plio_decode(stream, 32)


@settings(max_examples=500, deadline=None)
@given(
    st.lists(st.integers(0, 2**15 - 1) | st.integers(0, 7).map(lambda code: code << 12 | 3), max_size=30),
    st.integers(1, 99),
    st.booleans(),
)
def test_lists_of_any_words(numbers, count, old):
    head = [0, 0, len(numbers) + 3] if old else [0, 7, -100, len(numbers) + 7, 0, 0, 0]
    stream = words(*head, *numbers)
    sound = check_tiles("PLIO_1", stream, [0], [len(stream)], [count], [count]) is None
    if sound:
        found = [each % 2**32 for each in decoded(stream, count)]
        assert found == [each % 2**32 for each in slow_decode(stream, count)]
    else:
        with pytest.raises(ValueError, match=f"{CUT}|{CODE}|{MORE}|{BAD}"):
            plio_decode(stream, count)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=80), st.integers(1, 99))
def test_lists_of_any_bytes(stream, count):
    sound = check_tiles("PLIO_1", stream, [0], [len(stream)], [count], [count]) is None
    try:
        plio_decode(stream, count)
    except ValueError:
        assert not sound
    else:
        assert sound
