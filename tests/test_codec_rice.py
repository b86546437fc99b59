"""RICE_1: each variant makes of numbers and streams what cfitsio and a slow codec make; bad streams."""

from __future__ import annotations

import itertools
import random
import sys

import numpy as np
import pytest
from astropy.io import fits
from astropy.io.fits.hdu.compressed._codecs import Rice1
from hypothesis import given, settings
from hypothesis import strategies as st
from ztables import fpack, funpack
from ztables import rice_decode as slow_decode
from ztables import rice_encode as slow_encode

from torchfits._direct import RICE_TOGETHER, rice_decode, rice_encode

pytestmark = [pytest.mark.native, pytest.mark.usefixtures("variant")]
WIDTHS = [1, 2, 4]
BLOCKS = [1, 8, 15, 16, 17, 31, 32, 33, 48, 64, 100]
LENGTHS = [1, 2, 15, 16, 17, 31, 32, 33, 47, 48, 63, 64, 65, 95, 200, 1000]
CUT = "ends before its numbers do"


def swapped(data: bytes, width: int) -> bytes:
    """Numbers of the host as big-endian ones, or the reverse."""
    return np.frombuffer(data, f"u{width}").byteswap().tobytes() if sys.byteorder == "little" else data


def numbers_of(kind: str, width: int, n: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    top = 2 ** (8 * width)
    steps = {
        "flat": np.zeros(n),
        "ramp": np.ones(n),
        "calm": rng.integers(-2, 3, n),
        "noise": rng.normal(0, 42, n),
        "wild": rng.integers(-(top // 2), top // 2, n),
        "waves": rng.normal(0, 1, n) * 2.0 ** (np.arange(n) // 40 % (8 * width - 2)),
        # codes of many zeros among short ones
        "spikes": np.where(rng.random(n) < 0.05, rng.integers(-3000, 3000, n), rng.integers(-1, 2, n)),
        "rare": np.where(rng.random(n) < 0.01, top // 8, 0),
        "steps": np.where(np.arange(n) // 32 % 2, 0, rng.integers(-9, 9, n)),
    }[kind]
    return np.cumsum(steps.astype("i8")).astype(f"u{width}")


KINDS = ["flat", "ramp", "calm", "noise", "wild", "waves", "spikes", "rare", "steps"]


def cfitsio_encode(numbers: np.ndarray, block: int) -> bytes:
    codec = Rice1(blocksize=block, bytepix=numbers.itemsize, tilesize=numbers.size)
    return bytes(codec.encode(numbers.view(f"i{numbers.itemsize}")))


# ---------------------------------------------------------------------------- encoding


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("width", WIDTHS)
def test_encodes_as_cfitsio_does(width, kind):
    for n, block in itertools.product(LENGTHS, BLOCKS):
        numbers = numbers_of(kind, width, n, n)
        assert rice_encode(numbers.tobytes(), width, block) == cfitsio_encode(numbers, block), (n, block)


@settings(max_examples=200, deadline=None)
@given(
    width=st.sampled_from(WIDTHS),
    roughness=st.lists(st.tuples(st.integers(0, 32), st.integers(1, 70)), min_size=1, max_size=6),
    block=st.sampled_from([block for block in BLOCKS if block < 64]),
    seed=st.integers(0, 9),
)
def test_encodes_any_numbers_as_cfitsio_does(width, roughness, block, seed):
    rng = random.Random(seed)
    steps = [rng.getrandbits(bits) - 2**bits // 2 for bits, count in roughness for _ in range(count)]
    numbers = np.cumsum(np.array(steps, "i8")).astype(f"u{width}")
    stream = rice_encode(numbers.tobytes(), width, block)
    assert stream == cfitsio_encode(numbers, block)
    assert rice_decode([stream], len(numbers), width, block) == [numbers.tobytes()]


def test_a_leap_in_a_long_block_where_cfitsio_breaks_down():
    """It shifts a code of 32 bits as a signed number; nothing reads the stream that it writes."""
    numbers = np.where(np.arange(64) < 50, 0, 2**30).astype("u4")
    stream = rice_encode(numbers.tobytes(), 4, 64)
    assert stream != cfitsio_encode(numbers, 64)
    assert slow_decode(stream, 64, 4, 64) == swapped(numbers.tobytes(), 4)
    assert rice_decode([stream], 64, 4, 64) == [numbers.tobytes()]


@pytest.mark.parametrize("width", WIDTHS)
def test_the_means_at_which_one_more_bit_is_plain(width):
    """Blocks, whole and short, whose codes sum up to just what is enough for one plain bit more, or not."""
    for n, plain in itertools.product((1, 2, 5, 31, 32), range(8 * width - 1)):
        for more in range(-2, 3):
            total = n * 2 ** (plain + 1) + n // 2 + 1 + more
            codes = [total // n + (i < total % n) for i in range(n)]
            if n == 1 or min(codes) < 0 or max(codes) >= 2 ** (8 * width):
                continue
            # the first code of a stream is always 0: these are in its second block
            steps = [0] * 32 + [code // 2 if code % 2 == 0 else -(code // 2) - 1 for code in codes]
            numbers = np.cumsum(np.array(steps, "i8")).astype(f"u{width}")
            assert rice_encode(numbers.tobytes(), width) == cfitsio_encode(numbers, 32), (n, plain, more)


def test_fpack_writes_the_same_tiles(tmp_path):
    for code, kind in (("i2", "noise"), ("i4", "waves"), ("u1", "calm")):
        width = int(code[1])
        image = numbers_of(kind, width, 7 * 333).reshape(7, 333).view(code)
        fits.PrimaryHDU(image).writeto(tmp_path / f"{code}.fits")
        packed = fpack(tmp_path / f"{code}.fits", tmp_path / f"{code}.fz")
        with fits.open(packed, disable_image_compression=True) as hdus:
            tiles = [bytes(tile) for tile in hdus[1].data["COMPRESSED_DATA"]]
        assert [rice_encode(row.tobytes(), width) for row in image] == tiles
        assert rice_decode(tiles[:4], 333, width) == [row.tobytes() for row in image[:4]]


def test_funpack_reads_what_is_encoded(tmp_path):
    image = numbers_of("waves", 2, 5 * 333).reshape(5, 333).view("i2")
    fits.CompImageHDU(np.zeros_like(image), compression_type="RICE_1").writeto(tmp_path / "t.fz")
    with fits.open(tmp_path / "t.fz", disable_image_compression=True) as hdus:
        header, tiles = hdus[1].header, [np.frombuffer(rice_encode(row.tobytes(), 2), "u1") for row in image]
        column = fits.Column("COMPRESSED_DATA", "1PB()", array=np.array(tiles, dtype=object))
        fits.BinTableHDU.from_columns([column], header=header).writeto(tmp_path / "ours.fz")
    with fits.open(funpack(tmp_path / "ours.fz", tmp_path / "ours.fits")) as hdus:
        assert (hdus[-1].data == image).all()


# ---------------------------------------------------------------------------- decoding


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("width", WIDTHS)
def test_decodes_what_cfitsio_encodes(width, kind):
    for n, block in itertools.product(LENGTHS, BLOCKS):
        for count in (1, 2, 4, 7, RICE_TOGETHER):
            tiles = [numbers_of(kind, width, n, seed) for seed in range(count)]
            streams = [cfitsio_encode(tile, block) for tile in tiles]
            assert rice_decode(streams, n, width, block) == [tile.tobytes() for tile in tiles], (n, block)


@pytest.mark.parametrize("width", WIDTHS)
def test_decodes_streams_of_different_roughness_together(width):
    rng = random.Random(width)
    for n, count in itertools.product((333, 1000), [2, 4, *range(5, RICE_TOGETHER + 1)] * 3):
        kinds = rng.choices(KINDS, k=count)
        tiles = [numbers_of(kind, width, n, seed) for seed, kind in enumerate(kinds)]
        streams = [cfitsio_encode(tile, 32) + b"more" for tile in tiles]
        assert rice_decode(streams, n, width) == [tile.tobytes() for tile in tiles], kinds


@settings(max_examples=100, deadline=None)
@given(
    width=st.sampled_from(WIDTHS),
    steps=st.lists(st.tuples(st.integers(0, 32), st.integers(1, 40)), max_size=8),
    block=st.sampled_from([1, 8, 16, 32, 64]),
    seed=st.integers(0, 9),
)
def test_decodes_blocks_coded_in_other_ways_than_cfitsio_does(width, steps, block, seed):
    rng, number, numbers = random.Random(seed), 0, []
    for roughness, count in steps:
        for _ in range(count):
            number = (number + rng.getrandbits(roughness) - 2**roughness // 2) % 2 ** (8 * width)
            numbers.append(number)
    data = b"".join(each.to_bytes(width, "big") for each in numbers)
    stream = slow_encode(data, width, block)
    assert slow_decode(stream, len(numbers), width, block) == data
    assert rice_decode([stream], len(numbers), width, block) == [swapped(data, width)]
    if numbers:
        with pytest.raises(ValueError, match=CUT):
            rice_decode([stream[:-1]], len(numbers), width, block)


# ---------------------------------------------------------------------------- bad streams


def expected(stream: bytes, count: int, width: int, block: int) -> bytes | None:
    try:
        return swapped(slow_decode(stream, count, width, block), width)
    except (IndexError, ValueError):
        return None


@settings(max_examples=300, deadline=None)
@given(
    streams=st.lists(st.binary(max_size=80), min_size=1, max_size=RICE_TOGETHER),
    width=st.sampled_from(WIDTHS),
    count=st.integers(0, 200),
    block=st.integers(1, 64),
)
def test_any_bytes(streams, width, count, block):
    wanted = [expected(stream, count, width, block) for stream in streams]
    if None in wanted:
        with pytest.raises(ValueError, match=r"ends before|no encoder") as caught:
            rice_decode(streams, count, width, block)
        assert wanted[caught.value.stream] is None
    else:
        assert rice_decode(streams, count, width, block) == wanted


@settings(max_examples=300, deadline=None)
@given(
    width=st.sampled_from(WIDTHS),
    kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=RICE_TOGETHER),
    block=st.sampled_from([16, 32]),
    flips=st.lists(st.tuples(st.integers(0, 15), st.integers(0, 2**16), st.integers(1, 255)), max_size=4),
    ends=st.lists(st.integers(0, 40), min_size=RICE_TOGETHER, max_size=RICE_TOGETHER),
)
def test_streams_with_flipped_bits_and_missing_ends(width, kinds, block, flips, ends):
    streams = [bytearray(cfitsio_encode(numbers_of(kind, width, 150), block)) for kind in kinds]
    for which, at, bits in flips:
        stream = streams[which % len(streams)]
        stream[at % len(stream)] ^= bits
    cut = [bytes(stream[: len(stream) - max(0, ends[i] - 36)]) for i, stream in enumerate(streams)]
    wanted = [expected(stream, 150, width, block) for stream in cut]
    if None in wanted:
        with pytest.raises(ValueError, match=r"ends before|no encoder") as caught:
            rice_decode(cut, 150, width, block)
        assert wanted[caught.value.stream] is None
    else:
        assert rice_decode(cut, 150, width, block) == wanted


@pytest.mark.parametrize("width", WIDTHS)
def test_the_bad_one_of_several_is_named(width):
    tiles = [numbers_of("noise", width, 500, seed) for seed in range(RICE_TOGETHER)]
    streams = [cfitsio_encode(tile, 32) for tile in tiles]
    for bad, size in itertools.product(range(RICE_TOGETHER), (0, width - 1, width, 60, 100)):
        hurt = [stream[:size] if i == bad else stream for i, stream in enumerate(streams)]
        with pytest.raises(ValueError, match=CUT) as caught:
            rice_decode(hurt, 500, width)
        assert caught.value.stream == bad


def test_a_long_run_of_zeros_takes_linear_time():
    zeros = bytes([0, 0, 0b00010000]) + bytes(1 << 20)
    with pytest.raises(ValueError, match=CUT):
        rice_decode([zeros] * RICE_TOGETHER, 4096, 2)
    far = bytes([0, 0, 0b00010000]) + bytes(1 << 16) + b"\xff" * 40
    assert rice_decode([far] * RICE_TOGETHER, 32, 2)[3] == swapped(slow_decode(far, 32, 2), 2)


def test_widths_and_blocks_that_are_none():
    for width, block in ((3, 32), (8, 32), (0, 32), (4, 0)):
        with pytest.raises(ValueError, match="width or a block size"):
            rice_decode([bytes(9)], 1, width, block)
        with pytest.raises(ValueError, match="no numbers of"):
            rice_encode(bytes(24), width, block)
    with pytest.raises(ValueError, match=CUT):
        rice_decode([bytes(9)], 2**60, 4)
    with pytest.raises(MemoryError):
        rice_decode([bytes(9)], 2**63 + 1, 4, 2**64 - 1)
    with pytest.raises(ValueError, match=f"{RICE_TOGETHER + 1} streams"):
        rice_decode([bytes(9)] * (RICE_TOGETHER + 1), 1, 4)


def test_no_numbers():
    assert rice_encode(b"", 2) == b""
    assert rice_decode([b"", b"\0"], 0, 2) == [b"", b""]
    assert rice_decode([], 7, 2) == []
