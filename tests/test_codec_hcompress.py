"""HCOMPRESS_1 streams: read and written as cfitsio does it, by way of astropy, fpack and a slow decoder."""

from __future__ import annotations

import random
import struct
import subprocess

import numpy as np
import pytest
from astropy.io import fits
from astropy.io.fits.hdu.compressed._codecs import HCompress1
from hypothesis import given, settings
from hypothesis import strategies as st

from torchfits import _direct
from torchfits._direct import hcompress_decode, hcompress_encode
from torchfits._tiles import check_tiles

pytestmark = pytest.mark.native


# ---------------------------------------------------------------------------- a slow decoder


# fmt: off
HUFFMAN = {
    "000": 1, "001": 2, "010": 4, "011": 8, "1000": 3, "1001": 5, "1010": 10, "1011": 12, "1100": 15,
    "11010": 6, "11011": 7, "11100": 9, "11101": 11, "11110": 13, "111110": 0, "111111": 14,
}
# fmt: on


class Bits:
    def __init__(self, data: bytes):
        self.text, self.at = "".join(f"{byte:08b}" for byte in data), 0

    def take(self, count: int) -> int:
        self.at += count
        if self.at > len(self.text):
            raise ValueError("ends")
        return int("0" + self.text[self.at - count : self.at], 2)

    def code(self) -> int:
        for n in range(3, 7):
            if (code := HUFFMAN.get(self.text[self.at : self.at + n])) is not None:
                self.at += n
                return code
        raise ValueError("ends")


def slow_plane(bits: Bits, rows: int, columns: int) -> np.ndarray:
    """One bit plane, 0 and 1."""
    plane = np.zeros((rows + 1, columns + 1), int)

    def put(y: int, x: int, code: int) -> None:
        plane[y : y + 2, x : x + 2] = np.array([[code >> 3, code >> 2], [code >> 1, code]])[
            : rows + 1 - y, : columns + 1 - x
        ] & 1  # fmt: skip

    form = bits.take(4)
    if form == 0:
        for y in range(0, rows, 2):
            for x in range(0, columns, 2):
                put(y, x, bits.take(4))
    elif form == 15:
        side = 2
        while side < max(rows, columns):
            side *= 2
        cells = [(0, 0, bits.code())]
        while side > 2:
            side //= 2
            inside = [
                (y + side * (k // 2), x + side * (k % 2))
                for y, x, code in cells
                for k in range(4)
                if code >> (3 - k) & 1
            ]
            inside = sorted(((y, x) for y, x in inside if y < rows and x < columns), reverse=True)
            cells = [(y, x, bits.code()) for y, x in inside]
        for cell in cells:
            put(*cell)
    else:
        raise ValueError("form")
    return plane[:rows, :columns]


def to_multiple(x: int, bit: int, up: int) -> int:
    return (x + up - (x < 0 and up > 0)) // bit * bit


def slow_step(sums, down, across, both, level: int):
    """Two rows and columns, at most, from every sum; None stands for what is beyond an edge."""
    bit, shift = 1 << level, 2 if level == 0 else 1
    sign = -1 if sums < 0 else 1
    if down is None and across is None:
        return [[sums >> shift]]
    if down is None or across is None:
        d = to_multiple(across if down is None else down, 2 * bit, bit)
        h = sums - sign * (d & 2 * bit)
        pair = [(h - d) >> shift, (h + d) >> shift]
        return [pair] if down is None else [[x] for x in pair]
    c = to_multiple(both, bit, bit // 2)
    low = c & bit
    x, y = (to_multiple(each, 2 * bit, bit) for each in (down, across))
    x, y = (each - low if each >= 0 else each + low for each in (x, y))
    next_low = (c ^ x ^ y) & 2 * bit
    h = sums + low + (next_low if sums < 0 and not low else -next_low)
    return [
        [(h - x - y + c) >> shift, (h - x + y - c) >> shift],
        [(h + x - y - c) >> shift, (h + x + y + c) >> shift],
    ]


def slow_decode(data: bytes) -> np.ndarray:
    """The pixels, without smoothing."""
    if len(data) < 25 or data[:2] != b"\xdd\x99":
        raise ValueError("header")
    rows, columns, scale, total = struct.unpack(">IIiq", data[2:22])
    bits, planes = Bits(data[25:]), data[22:25]
    top, left = (rows + 1) // 2, (columns + 1) // 2
    values = np.zeros((rows, columns), object)
    for k, quadrant in enumerate(
        (values[:top, :left], values[:top, left:], values[top:, :left], values[top:, left:])
    ):
        for _ in range(planes[(k + 1) // 2]):
            quadrant[:] = 2 * quadrant + slow_plane(bits, *quadrant.shape)
    if bits.take(4):
        raise ValueError("end")
    bits.at = -(-bits.at // 8) * 8
    for at in zip(*np.nonzero(values), strict=True):
        values[at] *= 1 - 2 * bits.take(1)
    values[0, 0] = total
    values *= max(scale, 1)

    steps = (max(rows, columns) - 1).bit_length()
    numbers = np.array([[to_multiple(values[0, 0], 2 << steps, 1 << steps)]], object)
    for level in range(steps - 1, -1, -1):
        ny, nx = ((rows - 1) >> level) + 1, ((columns - 1) >> level) + 1
        hy, hx = numbers.shape
        out = np.zeros((ny, nx), object)
        for y in range(hy):
            for x in range(hx):
                has_down, has_across = hy + y < ny, hx + x < nx
                block = slow_step(
                    numbers[y, x],
                    values[hy + y, x] if has_down else None,
                    values[y, hx + x] if has_across else None,
                    values[hy + y, hx + x] if has_down and has_across else None,
                    level,
                )
                out[2 * y : 2 * y + 2, 2 * x : 2 * x + 2] = block
        numbers = out
    return ((numbers + 2**31) % 2**32 - 2**31).astype(np.int32)


# ---------------------------------------------------------------------------- images


def image(kind: str, shape: tuple[int, int], seed: int = 0, most: float = 32767) -> np.ndarray:
    rng = np.random.default_rng([seed, *shape])
    y, x = np.indices(shape)
    if kind == "noise":
        values = rng.normal(-5, min(30, most / 6), shape)
    elif kind == "spikes":
        values = np.where(rng.random(shape) < 0.02, most, 0) * rng.choice([-1, 1], shape)
    elif kind == "slope":
        values = (x + 2 * y) * most / (x.max() + 2 * y.max()) - most / 2 + rng.normal(0, 3, shape)
    elif kind == "flat":
        values = np.full(shape, 17)
    else:
        values = rng.integers(-int(most) - 1, int(most), shape, endpoint=True)
    return np.clip(np.rint(values), -int(most) - 1, int(most)).astype(np.int32)


KINDS = ["noise", "spikes", "slope", "flat", "full"]


def astropy_codec(shape, bytepix: int, scale: int = 0, smooth: bool = False) -> HCompress1:
    return HCompress1(scale=scale, smooth=smooth, bytepix=bytepix, nx=shape[0], ny=shape[1])


def encoded(pixels: np.ndarray, bytepix: int = 8, scale: int = 0) -> bytes:
    return bytes(astropy_codec(pixels.shape, bytepix, scale).encode(pixels))


def ours(pixels: np.ndarray, scale: int = 0) -> bytes:
    return hcompress_encode(pixels.tobytes(), *pixels.shape, scale)


def decoded(stream: bytes, shape: tuple[int, int], smooth: bool = False) -> np.ndarray:
    return np.frombuffer(hcompress_decode(stream, *shape, smooth), np.int32).reshape(shape)


def expected(stream: bytes, shape, bytepix: int, smooth: bool = False) -> np.ndarray:
    return astropy_codec(shape, bytepix, smooth=smooth).decode(np.frombuffer(stream, "u1")).reshape(shape)


# ---------------------------------------------------------------------------- decoding


@pytest.mark.parametrize("side", range(4, 301, 8))
def test_all_sides(side, variant):
    for i in range(8):
        shape = [(side + i, 4 + (7 * side + i) % 61), (4 + (5 * side + 3 * i) % 61, side + i)][i % 2]
        pixels = image(KINDS[i % 5], shape)
        stream = encoded(pixels)
        assert np.array_equal(decoded(stream, shape), pixels)
        assert ours(pixels) == stream


@pytest.mark.parametrize("smooth", [False, True])
@pytest.mark.parametrize("scale", [0, 1, 2, 7, 64, 1001])
@pytest.mark.parametrize("bytepix", [4, 8])
@pytest.mark.parametrize("kind", KINDS)
def test_scales_and_smoothing(variant, kind, bytepix, scale, smooth):
    for shape in ((4, 4), (5, 7), (16, 100), (33, 31), (61, 40)):
        pixels = image(kind, shape, most=3000 if scale > 1 else 32767)
        stream = encoded(pixels, bytepix, scale)
        assert np.array_equal(decoded(stream, shape, smooth), expected(stream, shape, bytepix, smooth))
        assert ours(pixels, scale) == stream


@pytest.mark.parametrize("most", [2**20, 2**24, 2**29, 2**31 - 1])
@pytest.mark.parametrize("kind", KINDS)
def test_wide_numbers(variant, kind, most):
    for shape in ((4, 4), (9, 130), (64, 64)):
        pixels = image(kind, shape, most=most)
        stream = encoded(pixels)
        assert np.array_equal(decoded(stream, shape), pixels)
        assert ours(pixels) == stream


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(st.integers(2, 40), st.integers(2, 40)),
    kind=st.sampled_from(KINDS),
    bits=st.integers(1, 31),
    scale=st.integers(0, 50),
    seed=st.integers(0, 99),
)
def test_round_trips_as_the_slow_decoder_has_them(shape, kind, bits, scale, seed):
    pixels = image(kind, shape, seed, 2.0**bits - 1)
    stream = ours(pixels, scale)
    for name in _direct.variants():
        _direct.use_variant(name)
        found = decoded(stream + b"more", shape)
        assert np.array_equal(found, slow_decode(stream))
        if scale < 2:
            assert np.array_equal(found, pixels)
        with pytest.raises(ValueError, match="ends before its pixels do"):
            decoded(stream[:-1], shape)
    _direct.use_variant(_direct.variants()[0])


@pytest.mark.parametrize("dtype", ["u1", "i2", "i4"])
@pytest.mark.parametrize("options", [[], ["-s", "2.5"], ["-s", "-20"]])
def test_what_fpack_writes(tmp_path, variant, dtype, options):
    plain, packed, back = (tmp_path / name for name in ("plain.fits", "packed.fits", "back.fits"))
    pixels = image("noise", (50, 70)) + 5
    if dtype == "u1":  # funpack breaks down at bytes that leave their range
        pixels = pixels.clip(-50, 50) + 128
    fits.PrimaryHDU(pixels.astype(dtype)).writeto(plain)
    subprocess.run(["fpack", "-h", *options, "-O", packed, plain], check=True)
    subprocess.run(["funpack", "-O", back, packed], check=True)
    with fits.open(packed, disable_image_compression=True) as f:
        head, streams = f[1].header, [row.tobytes() for row in f[1].data["COMPRESSED_DATA"]]
    rows, columns = head["ZTILE2"], head["ZTILE1"]
    shapes = [(min(rows, 50 - y), columns) for y in range(0, 50, rows)]
    tiles = [decoded(stream, shape) for stream, shape in zip(streams, shapes, strict=True)]
    found, truth = np.concatenate(tiles), fits.getdata(back)
    info = np.iinfo(dtype)
    assert np.array_equal(found.clip(info.min, info.max), truth)
    starts = np.cumsum([0] + [shape[0] for shape in shapes])
    for y, stream, shape in zip(starts, streams, shapes, strict=False):
        (scale,) = struct.unpack(">i", stream[10:14])
        assert ours(pixels[y : y + shape[0]], scale) == stream


def test_sides_in_the_other_order():
    """cfitsio goes by the stream's sides, whatever those of the tile."""
    pixels = image("slope", (12, 30))
    stream = encoded(pixels)
    assert np.array_equal(decoded(stream, (30, 12)).ravel(), pixels.ravel())
    for shape in ((12, 31), (11, 30), (6, 60), (360, 1)):
        with pytest.raises(ValueError, match=r"another tile shape|has sides"):
            decoded(stream, shape)


# ---------------------------------------------------------------------------- damage


def header(rows: int, columns: int, planes: bytes = b"\0\0\0", scale: int = 0, total: int = 0) -> bytes:
    return b"\xdd\x99" + struct.pack(">IIiq", rows, columns, scale, total) + planes


CUT = "ends before its pixels do"
HOSTILE = [
    (b"", CUT),
    (header(4, 8), CUT),
    (b"\xdd\x98" + header(4, 8)[2:] + b"\0", "does not begin as HCOMPRESS_1 does"),
    (header(4, 9) + b"\0", "another tile shape"),
    (header(2**32 - 4, 8) + b"\0", "another tile shape"),
    (header(4, 8, b"\0\0\xff") + b"\0" * 99, "coefficients that no encoder writes"),
    (header(4, 8, b"\x30\0\0", scale=2**30) + b"\0" * 99, "coefficients that no encoder writes"),
    (header(4, 8, total=-(2**63)) + b"\0", "coefficients that no encoder writes"),
    (header(4, 8, b"\1\0\0") + b"\x10", "a code that no encoder writes"),
    (header(4, 8) + b"\x10", "a code that no encoder writes"),
    (header(4, 8, b"\1\0\0") + b"\x0f\xf0", CUT),
]


@pytest.mark.parametrize(("stream", "why"), HOSTILE)
def test_hostile_streams_are_refused(stream, why):
    with pytest.raises(ValueError, match=why):
        hcompress_decode(stream, 4, 8)


@pytest.mark.parametrize("shape", [(1, 32), (32, 1), (0, 8), (2**20, 2**20), (2**63, 2)])
def test_sides_that_no_tile_has(shape):
    with pytest.raises(ValueError, match="has sides"):
        hcompress_decode(header(4, 8) + b"\0", *shape)
    with pytest.raises(ValueError, match="has sides"):
        hcompress_encode(bytes(128), *shape)


def test_pixels_of_another_size_are_not_encoded():
    with pytest.raises(ValueError, match="124 bytes for 4 x 8 pixels"):
        hcompress_encode(bytes(124), 4, 8)


def judged(stream: bytes, shape: tuple[int, int]) -> np.ndarray | None:
    """What every variant makes of the stream; the slow decoder and the guard before cfitsio agree."""
    tile = [0], [len(stream)], [shape[0] * shape[1]], [shape[1]]
    sound = check_tiles("HCOMPRESS_1", stream, *tile, bytepix=8) is None
    found = []
    for name in _direct.variants():
        _direct.use_variant(name)
        try:
            found.append(decoded(stream, shape))
        except ValueError as error:
            if "coefficients" in str(error):
                return None
            found.append(None)
    assert all((each is not None) == sound for each in found)
    if sound:
        truth = slow_decode(stream).reshape(shape)
        assert all(np.array_equal(each, truth) for each in found)
    return found[0]


def test_damaged_streams_are_judged_as_the_slow_decoder_does():
    rng, verdicts = random.Random(3), set()
    streams = [(image(kind, (9, 14)), scale) for kind in KINDS for scale in (0, 5)]
    for _ in range(400):
        pixels, scale = rng.choice(streams)
        stream = bytearray(ours(pixels, scale))
        for _ in range(rng.choice((1, 1, 2, 5))):
            at = rng.randrange(10, len(stream))
            stream[at] = rng.choice((stream[at] ^ 1 << rng.randrange(8), 0, 255, rng.randrange(256)))
        verdicts.add(judged(bytes(stream), pixels.shape) is None)
    assert verdicts == {False, True}


def test_random_bytes_are_judged_as_the_slow_decoder_does():
    rng, verdicts = random.Random(4), set()
    for _ in range(2000):
        shape = rng.randrange(2, 9), rng.randrange(2, 9)
        planes = bytes(rng.randrange(3) for _ in range(3))
        head = header(*shape, planes, rng.randrange(4), rng.randrange(-99, 99))
        verdicts.add(judged(head + rng.randbytes(rng.randrange(60)), shape) is None)
    assert verdicts == {False, True}


def test_every_truncation_is_noticed():
    pixels = image("noise", (8, 33))
    stream = ours(pixels)
    for n in range(len(stream)):
        with pytest.raises(ValueError, match=CUT):
            decoded(stream[:n], pixels.shape)
