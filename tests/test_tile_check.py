"""The guards before a decoder: real streams pass, no stream passes that would lead a decoder astray."""

from __future__ import annotations

import gzip
import random
import struct
import time
import zlib

import numpy as np
import pytest
from astropy.io import fits

from torchfits._tiles import check_tiles

pytestmark = pytest.mark.native

SHAPE, TILE = (24, 29), (10, 12)  # in the last row and column of tiles are smaller ones
TRUNCATED = "ends before its pixels do"
OVERRUN = "holds more pixels than its tile"
OTHER_SIZE = "holds pixels of another tile shape or width"
BAD_HEADER = "has no valid header"
BAD_CODE = "has a code that no encoder writes"
BAD_PARAMETER = "has a block size, pixel width or tile size out of range"


# ---------------------------------------------------------------- streams that astropy wrote


def pixels(kind: str, dtype: str) -> np.ndarray:
    rng = np.random.default_rng(5)
    y, x = np.indices(SHAPE)
    info = np.iinfo(dtype) if dtype[0] != "f" else None
    if kind == "noise":
        values = 40 + x + rng.normal(0, 5, SHAPE)
    elif kind == "spikes":
        values = np.where(rng.random(SHAPE) < 0.02, 120, 0)
    elif kind == "mask":
        values = np.where((x - 12) ** 2 + (y - 9) ** 2 < 50, 3, 0) + np.where(x > 20, 5, 0)
    elif kind == "flat":
        values = np.full(SHAPE, 17)
    else:
        assert info is not None
        return rng.integers(info.min, info.max, SHAPE, dtype, endpoint=True)
    return values.astype(dtype)


def tiles(path, codec: str, data: np.ndarray, **options) -> tuple[list[bytes], list[tuple[int, int]], dict]:
    """The streams of the tiles of `data`, the shapes of the tiles, and the table's header."""
    tile = TILE if codec != "HCOMPRESS_1" else (13, 12)
    fits.CompImageHDU(data, compression_type=codec, tile_shape=tile, **options).writeto(path, overwrite=True)
    shapes = [
        (min(tile[0], SHAPE[0] - y), min(tile[1], SHAPE[1] - x))
        for y in range(0, SHAPE[0], tile[0])
        for x in range(0, SHAPE[1], tile[1])
    ]
    with fits.open(path, disable_image_compression=True) as f:
        rows, header = f[1].data["COMPRESSED_DATA"], dict(f[1].header)
        assert len(rows) == len(shapes)
        streams = [row.astype(row.dtype.newbyteorder(">")).tobytes() for row in rows]
    return streams, shapes, header


def parameters(codec: str, header: dict) -> dict:
    if codec == "RICE_1":
        return {header[f"ZNAME{i}"].lower(): header[f"ZVAL{i}"] for i in (1, 2)}
    if header["ZBITPIX"] < 0 and "ZSCALE" in [header.get(f"TTYPE{i}") for i in range(1, 5)]:
        return {"bytepix": 4}
    return {"bytepix": abs(header["ZBITPIX"]) // 8}


def check(codec, streams, shapes, **options):
    lengths = [len(stream) for stream in streams]
    offsets = [sum(lengths[:i]) for i in range(len(lengths))]
    sizes = [ny * nx for ny, nx in shapes]
    return check_tiles(codec, b"".join(streams), offsets, lengths, sizes, [nx for _, nx in shapes], **options)


INTEGERS = [
    (codec, dtype, kind)
    for codec in ("RICE_1", "GZIP_1", "GZIP_2", "HCOMPRESS_1")
    for dtype in ("u1", "i2", "i4")
    for kind in ("noise", "spikes", "flat", "full")
    if not (codec == "HCOMPRESS_1" and dtype == "i4" and kind == "full")  # beyond what its encoder bears
]
INTEGERS += [("PLIO_1", dtype, kind) for dtype in ("u1", "i2", "i4") for kind in ("noise", "mask", "flat")]
FLOATS = [(codec, dtype) for codec in ("RICE_1", "GZIP_1", "GZIP_2", "HCOMPRESS_1") for dtype in ("f4", "f8")]


@pytest.mark.parametrize(("codec", "dtype", "kind"), INTEGERS)
def test_integer_streams_pass(tmp_path, codec, dtype, kind):
    streams, shapes, header = tiles(tmp_path / "c.fits", codec, pixels(kind, dtype))
    assert check(codec, streams, shapes, **parameters(codec, header)) is None


@pytest.mark.parametrize(("codec", "dtype"), FLOATS)
def test_quantized_streams_pass(tmp_path, codec, dtype):
    streams, shapes, header = tiles(tmp_path / "c.fits", codec, pixels("noise", dtype), quantize_level=4)
    assert all(streams)
    options = parameters(codec, header) | ({"bytepix": 8} if codec == "HCOMPRESS_1" else {})
    assert check(codec, streams, shapes, **options) is None


@pytest.mark.parametrize("codec", ["GZIP_1", "GZIP_2"])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_unquantized_streams_pass(tmp_path, codec, dtype):
    streams, shapes, header = tiles(tmp_path / "c.fits", codec, pixels("noise", dtype), quantize_level=0)
    assert check(codec, streams, shapes, **parameters(codec, header)) is None


@pytest.mark.parametrize("codec", ["RICE_1", "HCOMPRESS_1", "PLIO_1", "GZIP_2"])
def test_bytes_after_the_stream_are_ignored(tmp_path, codec):
    streams, shapes, header = tiles(tmp_path / "c.fits", codec, pixels("flat", "i2"))
    longer = [stream + bytes(6) for stream in streams]
    assert check(codec, longer, shapes, **parameters(codec, header)) is None


# ---------------------------------------------------------------- slow walkers of another build


class Refused(Exception):
    pass


class Bits:
    def __init__(self, data: bytes, start: int):
        self.text = "".join(f"{byte:08b}" for byte in data)
        self.at = 8 * start

    def take(self, count: int) -> int:
        self.at += count
        if self.at > len(self.text):
            raise Refused
        return int(self.text[self.at - count : self.at] or "0", 2)


def walk_rice(data: bytes, shape, blocksize: int, bytepix: int) -> list[int]:
    """The pixels, as unsigned integers."""
    count, bits = shape[0] * shape[1], Bits(data, bytepix)
    fs_bits, fs_max, modulus = {1: (3, 6), 2: (4, 14), 4: (5, 25)}[bytepix] + (1 << (8 * bytepix),)
    last, out = int.from_bytes(data[:bytepix], "big"), []
    while len(out) < count:
        fs = bits.take(fs_bits) - 1
        if fs > fs_max:
            raise Refused
        for _ in range(min(blocksize, count - len(out))):
            difference = 0
            if fs == fs_max:
                difference = bits.take(8 * bytepix)
            elif fs >= 0:
                stop = bits.text.find("1", bits.at)
                if stop < 0:
                    raise Refused
                difference, bits.at = (stop - bits.at) << fs, stop + 1
                difference |= bits.take(fs)
            last = (last + (-(difference + 1) // 2 if difference & 1 else difference // 2)) % modulus
            out.append(last)
    return out


# fmt: off
HUFFMAN = {
    "000": 1, "001": 2, "010": 4, "011": 8, "1000": 3, "1001": 5, "1010": 10, "1011": 12, "1100": 15,
    "11010": 6, "11011": 7, "11100": 9, "11101": 11, "11110": 13, "111110": 0, "111111": 14,
}
# fmt: on


def walk_hcompress(data: bytes, shape, bytepix: int) -> None:
    """Reads everything there is to read, by coordinates of pixels in place of arrays of codes."""
    if len(data) < 25 or data[:2] != b"\xdd\x99":
        raise Refused
    sides = struct.unpack(">II", data[2:10])
    if sides not in (tuple(shape), tuple(shape[::-1])) or max(data[22:25]) > (31 if bytepix <= 2 else 63):
        raise Refused
    bits, (nx, ny), nonzero = Bits(data, 25), sides, set()

    def code() -> int:
        text = ""
        while text not in HUFFMAN:
            text += str(bits.take(1))
        return HUFFMAN[text]

    for x0, x1, y0, y1, planes in (
        (0, -(-nx // 2), 0, -(-ny // 2), data[22]),
        (0, -(-nx // 2), -(-ny // 2), ny, data[23]),
        (-(-nx // 2), nx, 0, -(-ny // 2), data[23]),
        (-(-nx // 2), nx, -(-ny // 2), ny, data[24]),
    ):
        for _ in range(planes):
            kind = bits.take(4)
            if kind == 0:
                cells = [(x, y, bits.take(4)) for x in range(0, x1 - x0, 2) for y in range(0, y1 - y0, 2)]
            elif kind == 15:
                side = 1
                while side < max(x1 - x0, y1 - y0):
                    side *= 2
                cells = [(0, 0, code())]
                while side > 2:
                    side //= 2
                    inside = []
                    for x, y, value in cells:
                        inside += [
                            (x + side * i, y + side * j)
                            for i in (0, 1)
                            for j in (0, 1)
                            if value >> (3 - 2 * i - j) & 1
                            and x + side * i < x1 - x0
                            and y + side * j < y1 - y0
                        ]
                    cells = [(x, y, code()) for x, y in sorted(inside, reverse=True)]
            else:
                raise Refused
            for x, y, value in cells:
                nonzero |= {
                    (x0 + x + i, y0 + y + j)
                    for i in (0, 1)
                    for j in (0, 1)
                    if value >> (3 - 2 * i - j) & 1 and x0 + x + i < x1 and y0 + y + j < y1
                }
    if bits.take(4):
        raise Refused
    bits.at = -(-bits.at // 8) * 8
    bits.take(len(nonzero))


def walk_plio(data: bytes, shape) -> list[int]:
    words = struct.unpack(f">{len(data) // 2}h", data[: len(data) // 2 * 2])
    try:
        if words[2] > 0:
            length, first = words[2], 3
        else:
            length, first = (words[4] << 15) + words[3], words[1]
            if first < 5 or length <= 0 or min(words[3:5]) < 0:
                raise Refused
        if not first <= length <= len(words):
            raise Refused
    except IndexError:
        raise Refused from None
    out, value, at = [], 1, first
    while at < length and len(out) < shape[0] * shape[1]:
        code, low = divmod(words[at], 4096)
        at += 1
        if code < 0:
            raise Refused
        if code == 1:
            if at >= length or words[at] < 0:
                raise Refused
            value = (words[at] << 12) + low
            at += 1
        elif code in (2, 3, 6, 7):
            value += low if code in (2, 6) else -low
            if code > 3:
                out.append(value)
        elif low:
            out += [value] * low if code == 4 else [0] * (low - 1) + [value if code == 5 else 0]
    if len(out) > shape[0] * shape[1]:
        raise Refused
    return out + [0] * (shape[0] * shape[1] - len(out))


WALKERS = {"RICE_1": walk_rice, "HCOMPRESS_1": walk_hcompress, "PLIO_1": walk_plio}


def walked(codec: str, stream: bytes, shape, options: dict) -> bool:
    try:
        WALKERS[codec](stream, shape, **(options if codec != "PLIO_1" else {}))
    except Refused:
        return False
    return bool(stream)


@pytest.mark.parametrize("codec", ["RICE_1", "PLIO_1"])
@pytest.mark.parametrize("dtype", ["u1", "i2", "i4"])
def test_the_slow_walkers_decode_the_original_pixels(tmp_path, codec, dtype):
    data = pixels("noise", dtype)
    streams, shapes, header = tiles(tmp_path / "c.fits", codec, data)
    options = parameters(codec, header) if codec == "RICE_1" else {}
    got = WALKERS[codec](streams[0], shapes[0], **options)
    assert got == data[: shapes[0][0], : shapes[0][1]].ravel().tolist()


CASES = [
    ("RICE_1", "u1", "noise"),
    ("RICE_1", "i2", "spikes"),
    ("RICE_1", "i4", "noise"),
    ("RICE_1", "i4", "full"),
    ("HCOMPRESS_1", "u1", "spikes"),
    ("HCOMPRESS_1", "i2", "noise"),
    ("HCOMPRESS_1", "i4", "noise"),
    ("PLIO_1", "i2", "mask"),
    ("PLIO_1", "i4", "noise"),
]


@pytest.mark.parametrize(("codec", "dtype", "kind"), CASES)
def test_every_truncation_is_judged_as_the_slow_walker_does(tmp_path, codec, dtype, kind):
    streams, shapes, header = tiles(tmp_path / "c.fits", codec, pixels(kind, dtype))
    options = parameters(codec, header)
    stream, shape = streams[-1], shapes[-1]
    cuts = [stream[:n] for n in range(len(stream) + 1)]
    fast = [check(codec, [cut], [shape], **options) is None for cut in cuts]
    assert fast == [walked(codec, cut, shape, options) for cut in cuts]
    assert fast[-1]
    assert not any(fast[: len(stream) // 2])


@pytest.mark.parametrize(("codec", "dtype", "kind"), CASES)
def test_damaged_streams_are_judged_as_the_slow_walker_does(tmp_path, codec, dtype, kind):
    streams, shapes, header = tiles(tmp_path / "c.fits", codec, pixels(kind, dtype))
    options, rng = parameters(codec, header), random.Random(f"{codec}{dtype}{kind}")
    verdicts = []
    for _ in range(300):
        n = rng.randrange(len(streams))
        stream = bytearray(streams[n])
        for _ in range(rng.choice((1, 1, 2, 5))):
            at = rng.randrange(len(stream))
            stream[at] = rng.choice((stream[at] ^ 1 << rng.randrange(8), 0, 255, rng.randrange(256)))
        if rng.random() < 0.2:
            del stream[rng.randrange(len(stream)) :]
        fast = check(codec, [bytes(stream)], [shapes[n]], **options) is None
        assert fast == walked(codec, bytes(stream), shapes[n], options), (bytes(stream).hex(), shapes[n])
        verdicts.append(fast)
    assert len(set(verdicts)) == 2  # both happen, else nothing was tried


@pytest.mark.parametrize("codec", WALKERS)
def test_random_bytes_are_judged_as_the_slow_walker_does(codec):
    rng, verdicts = random.Random(codec), set()
    options = {"bytepix": 4} | ({"blocksize": 16} if codec == "RICE_1" else {})
    for _ in range(2000):
        stream, shape = rng.randbytes(rng.randrange(1, 60)), (rng.randrange(2, 9), rng.randrange(2, 9))
        if codec == "HCOMPRESS_1":
            stream = hcompress(*shape, bytes(rng.randrange(3) for _ in range(3)), stream)
        elif codec == "PLIO_1":
            stream = plio(0, 5, 0, rng.randrange(12), 0) + stream
        verdicts.add(fast := check(codec, [stream], [shape], **options) is None)
        assert fast == walked(codec, stream, shape, options), (stream.hex(), shape)
    assert len(verdicts) == 2


# ---------------------------------------------------------------- gzip


def deflated(n: int, tail: int | None = None) -> bytes:
    return gzip.compress(bytes(range(256)) * (n // 256) + bytes(n % 256))[:tail]


@pytest.mark.parametrize(
    ("stream", "bytepix", "why"),
    [
        (deflated(2000), 2, None),
        (deflated(4000), 2, None),  # old encoders wrote every integer in 32 bits
        (deflated(2000) + b"junk", 2, None),
        (deflated(1000), 2, OTHER_SIZE),
        (deflated(1999), 2, OTHER_SIZE),
        (deflated(4000), 8, OTHER_SIZE),
        (deflated(4001), 2, OVERRUN),
        (deflated(8000), 4, OVERRUN),
        (deflated(4000, -1), 4, TRUNCATED),
        (deflated(4000, -9), 4, TRUNCATED),
        (deflated(4000, 12), 4, TRUNCATED),
        (zlib.compress(bytes(4000)), 4, BAD_CODE),
        (deflated(4000, -8) + bytes(8), 4, BAD_CODE),  # checksum
        (b"", 4, "has no bytes"),
    ],
)
def test_gzip(stream, bytepix, why):
    assert check("GZIP_1", [stream], [(10, 100)], bytepix=bytepix) == (None if why is None else (0, why))


# ---------------------------------------------------------------- hostile, each by hand


def rice(fs: int, rest: str, bytepix: int = 2) -> bytes:
    text = f"{fs + 1:0{ {1: 3, 2: 4, 4: 5}[bytepix] }b}" + rest
    text += "0" * (-len(text) % 8)
    return bytes(bytepix) + int(text, 2).to_bytes(len(text) // 8, "big")


def hcompress(ny: int, nx: int, planes: bytes = b"\0\0\0", body: bytes = b"\0") -> bytes:
    return b"\xdd\x99" + struct.pack(">IIIq", ny, nx, 1, 0) + planes + body


def plio(*words: int) -> bytes:
    return struct.pack(f">{len(words)}h", *words)


HOSTILE = [
    ("RICE_1", b"", {}, "has no bytes"),
    ("RICE_1", b"\0", {"bytepix": 2}, TRUNCATED),
    ("RICE_1", bytes(2), {"bytepix": 2}, TRUNCATED),
    ("RICE_1", rice(0, "1" * 31), {"bytepix": 2}, TRUNCATED),
    ("RICE_1", rice(0, "0" * 100_000), {"bytepix": 2}, TRUNCATED),
    ("RICE_1", rice(26, "1" * 2000, 4), {"bytepix": 4}, BAD_CODE),
    ("RICE_1", bytes(99), {"bytepix": 8}, BAD_PARAMETER),
    ("RICE_1", bytes(99), {"blocksize": 0}, BAD_PARAMETER),
    ("RICE_1", bytes(99), {"blocksize": -5}, BAD_PARAMETER),
    ("HCOMPRESS_1", hcompress(4, 8)[:24], {}, TRUNCATED),
    ("HCOMPRESS_1", hcompress(4, 8)[:25], {}, TRUNCATED),
    ("HCOMPRESS_1", b"\xdd\x98" + hcompress(4, 8)[2:], {}, BAD_HEADER),
    ("HCOMPRESS_1", hcompress(1 << 20, 1 << 20), {}, OTHER_SIZE),
    ("HCOMPRESS_1", hcompress(4, 9), {}, OTHER_SIZE),
    ("HCOMPRESS_1", hcompress(4, 7), {}, OTHER_SIZE),
    ("HCOMPRESS_1", hcompress(2, 16), {}, OTHER_SIZE),
    ("HCOMPRESS_1", hcompress((1 << 32) - 4, (1 << 32) - 8), {}, OTHER_SIZE),
    ("HCOMPRESS_1", hcompress(4, 8, b"\x40\0\0"), {}, BAD_HEADER),
    ("HCOMPRESS_1", hcompress(4, 8, b"\x20\0\0"), {"bytepix": 2}, BAD_HEADER),
    ("HCOMPRESS_1", hcompress(4, 8, b"\1\0\0", b"\x10"), {}, BAD_CODE),
    ("HCOMPRESS_1", hcompress(4, 8, body=b"\x10"), {}, BAD_CODE),
    ("HCOMPRESS_1", hcompress(4, 8, b"\1\0\0", b"\x0f\xf0"), {}, TRUNCATED),  # 8 signs are missing
    ("PLIO_1", plio(0, 7), {}, TRUNCATED),
    ("PLIO_1", plio(0, 7, -100, 8), {}, TRUNCATED),
    ("PLIO_1", plio(0, 7, -100, 9, 0, 0, 0, 32), {}, TRUNCATED),
    ("PLIO_1", plio(0, 7, -100, 8, 9, 0, 0, 32), {}, TRUNCATED),
    ("PLIO_1", plio(0, 0, 30000), {}, TRUNCATED),
    ("PLIO_1", plio(0, 7, -100, 8, -1, 0, 0, 32), {}, BAD_HEADER),
    ("PLIO_1", plio(0, -7, -100, 8, 0, 0, 0, 32), {}, BAD_HEADER),
    ("PLIO_1", plio(0, 7, -100, 0, 0, 0, 0, 32), {}, BAD_HEADER),
    ("PLIO_1", plio(0, 7, -100, 8, 0, 0, 0, 4096), {}, TRUNCATED),  # the high bits are missing
    ("PLIO_1", plio(0, 7, -100, 8, 0, 0, 0, 33), {}, OVERRUN),
    ("PLIO_1", plio(0, 7, -100, 8, 0, 0, 0, -4000), {}, BAD_CODE),
]


@pytest.mark.parametrize(("codec", "stream", "options", "why"), HOSTILE)
def test_hostile_streams_are_refused(codec, stream, options, why):
    assert check(codec, [stream], [(4, 8)], **options) == (0, why)


@pytest.mark.parametrize(
    ("codec", "stream"),
    [
        ("RICE_1", rice(-1, "", 4)),
        ("RICE_1", rice(0, "1" * 32, 4)),
        ("HCOMPRESS_1", hcompress(4, 8)),
        ("HCOMPRESS_1", hcompress(8, 4)),
        ("HCOMPRESS_1", hcompress(4, 8, b"\1\0\0", b"\x0f\xf0\xff")),
        ("PLIO_1", plio(0, 7, -100, 8, 0, 0, 0, 32)),
        ("PLIO_1", plio(0, 0, 4, 32)),
        ("PLIO_1", plio(0, 7, -100, 7, 0, 0, 0)),  # no instruction: zeros
    ],
)
def test_the_least_sound_stream(codec, stream):
    assert check(codec, [stream], [(4, 8)]) is None
    for n in range(len(stream)):
        assert check(codec, [stream[:n]], [(4, 8)]) is not None


@pytest.mark.parametrize("shape", [(1, 32), (32, 1), (1 << 16, 1 << 15)])
def test_hcompress_tiles_that_its_decoder_cannot_bear(shape):
    assert check("HCOMPRESS_1", [hcompress(*shape)], [shape]) == (0, BAD_PARAMETER)


def test_the_first_bad_tile_is_named():
    good, bad = rice(0, "1" * 32, 4), rice(0, "1" * 8, 4)
    streams = [good, good, bad, b"", good]
    assert check("RICE_1", streams, [(4, 8)] * 5) == (2, TRUNCATED)
    assert check("RICE_1", [], []) is None


@pytest.mark.parametrize(
    ("offset", "length"), [(-1, 5), (0, -1), (5, 5), (9, 1), (2**62, 2**62), (0, 2**63 - 1), (2**63 - 1, 2)]
)
@pytest.mark.parametrize("codec", ["RICE_1", "HCOMPRESS_1", "PLIO_1", "GZIP_1"])
def test_streams_outside_the_heap_are_refused(codec, offset, length):
    assert check_tiles(codec, bytes(9), [offset], [length], [32], [8]) == (0, TRUNCATED)


@pytest.mark.parametrize("pixels", [0, -1, 2**31, 2**63 - 1])
@pytest.mark.parametrize("codec", ["RICE_1", "HCOMPRESS_1", "PLIO_1"])
def test_impossible_tiles_are_refused(codec, pixels):
    assert check_tiles(codec, bytes(99), [0], [99], [pixels], [1]) == (0, BAD_PARAMETER)


def test_wrong_arguments():
    with pytest.raises(ValueError, match="LZW"):
        check_tiles("LZW", b"", [], [], [])
    with pytest.raises(ValueError, match="number"):
        check_tiles("RICE_1", b"", [0], [0, 1], [1])


@pytest.mark.parametrize(
    ("codec", "stream", "shape"),
    [
        ("RICE_1", bytes(4) + b"\x08" + bytes(8 << 20), (1, 2**31 - 1)),  # one run of zeros
        ("RICE_1", bytes(4) + b"\x0f" + b"\xff" * (4 << 20), (1, 2**25)),  # runs of nothing
        ("HCOMPRESS_1", hcompress(2048, 2048, b"\x3f\x3f\x3f", b"\xf8" * 300), (2048, 2048)),
        ("HCOMPRESS_1", hcompress(2048, 2048, b"\x3f\x3f\x3f", b"\0" * (4 << 20)), (2048, 2048)),
        ("HCOMPRESS_1", hcompress(1 << 20, 1 << 20), (2048, 2048)),
        ("PLIO_1", plio(0, 7, -100, 0, 128, 0, 0) + plio(8192) * (128 << 15), (1, 2**31 - 1)),
        ("GZIP_1", gzip.compress(bytes(64 << 20), 9), (1, 1000)),  # a bomb
    ],
)
def test_hostile_streams_are_judged_in_no_time(codec, stream, shape):
    start = time.perf_counter()
    check(codec, [stream], [shape])
    assert time.perf_counter() - start < 2
