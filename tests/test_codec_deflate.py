"""Gzip streams: inflated as zlib does by either library, deflated and shuffled as cfitsio does."""

from __future__ import annotations

import gzip
import random
import struct
import subprocess
import zlib

import numpy as np
import pytest
from astropy.io import fits
from astropy.io.fits.hdu.compressed import _codecs
from hypothesis import given
from hypothesis import strategies as st

from torchfits._direct import deflate, inflate, inflate_file, inflaters, shuffle, unshuffle

pytestmark = pytest.mark.native
each_library = pytest.mark.parametrize("library", inflaters())
HEAD = b"\x1f\x8b\x08\0\0\0\0\0\0\x03"


def test_there_is_more_than_one_library():
    assert inflaters() == ["libdeflate", "zlib"]
    with pytest.raises(ValueError, match="no library 'isal'"):
        inflate(b"", 0, "isal")


def slow_shuffle(numbers: bytes, width: int) -> bytes:
    return b"".join(numbers[place::width] for place in range(width))


def texts() -> dict[str, bytes]:
    chance = random.Random(1)
    return {
        "nothing": b"",
        "a byte": b"x",
        "zeros": bytes(100_000),
        "noise": chance.randbytes(70_001),
        "letters": bytes(chance.choices(b"abcdefg", k=50_000)),
        "far repeats": chance.randbytes(32_768) * 3,
    }


TEXTS = texts()


@each_library
@pytest.mark.parametrize("level", [0, 1, 6, 9])
@pytest.mark.parametrize("text", TEXTS)
def test_what_gzip_makes(library, level, text):
    data = TEXTS[text]
    stream = gzip.compress(data, level)
    assert inflate(stream, len(data), library) == data
    assert inflate(stream + b"what follows", len(data), library) == data
    assert gzip.decompress(deflate(data, level)) == data
    with pytest.raises(ValueError, match="makes fewer bytes"):
        inflate(stream, len(data) + 1, library)
    if data:
        with pytest.raises(ValueError, match="makes more bytes"):
            inflate(stream, len(data) - 1, library)
    else:
        with pytest.raises(ValueError, match="makes fewer bytes"):
            inflate(stream, 10**9, library)


@each_library
@given(
    data=st.binary(max_size=300), level=st.integers(0, 9), at=st.integers(0, 330), byte=st.integers(0, 255)
)
def test_one_byte_of_the_stream_is_another(library, data, level, at, byte):
    """What zlib refuses is refused: the check sum sees it."""
    stream = bytearray(gzip.compress(data, level, mtime=0))
    stream[at % len(stream)] = byte
    inflater = zlib.decompressobj(31)
    try:
        sound = inflater.decompress(stream) == data and inflater.eof
    except zlib.error:
        sound = False
    if sound:
        assert inflate(stream, len(data), library) == data
    else:
        with pytest.raises(ValueError, match=r"is not gzip|damaged|bytes than"):
            inflate(stream, len(data), library)


@each_library
@pytest.mark.parametrize("text", ["letters", "noise", "zeros", "nothing"])
def test_cut_anywhere(library, text):
    data = TEXTS[text][:999]
    stream = gzip.compress(data)
    for end in range(len(stream)):
        # the end of a stream that is cut may look like more bytes
        with pytest.raises(ValueError, match=r"is not gzip|cut short|makes more"):
            inflate(stream[:end], len(data), library)


@each_library
def test_a_bomb_makes_no_more_than_is_asked_for(library):
    with pytest.raises(ValueError, match="makes more bytes"):
        inflate(gzip.compress(bytes(10**8), 9), 1000, library)
    # nothing is allocated for what no stream can make
    with pytest.raises(ValueError, match="makes fewer bytes"):
        inflate(gzip.compress(b"abc"), 1 << 60, library)


def headers() -> dict[str, tuple[bytes, bool]]:
    """The beginnings of a member, and whether they are sound."""
    extra, name, comment = struct.pack("<H", 5) + b"extra", b"name\0", b"comment\0"
    whole = HEAD[:3] + b"\x1e" + HEAD[4:] + extra + name + comment
    right = struct.pack("<H", zlib.crc32(whole) & 0xFFFF)
    return {
        "plain": (HEAD, True),
        "extra": (HEAD[:3] + b"\x04" + HEAD[4:] + extra, True),
        "name": (HEAD[:3] + b"\x08" + HEAD[4:] + name, True),
        "comment": (HEAD[:3] + b"\x10" + HEAD[4:] + comment, True),
        "all, and a check sum": (whole + right, True),
        "wrong check sum": (whole + b"\0\0", False),
        "reserved flag": (HEAD[:3] + b"\x20" + HEAD[4:], False),
        "unknown method": (HEAD[:2] + b"\x07" + HEAD[3:], False),
        "zlib's": (b"\x78\x9c", False),
        "extra beyond the end": (HEAD[:3] + b"\x04" + HEAD[4:] + b"\xff\xff", False),
        "name without an end": (HEAD[:3] + b"\x08" + HEAD[4:] + b"n" * 40, False),
    }


HEADERS = headers()


@each_library
@pytest.mark.parametrize("kind", HEADERS)
def test_headers_of_members(library, kind):
    head, sound = HEADERS[kind]
    data = b"something of which there is more, more, more"
    stream = gzip.compress(data, mtime=0)
    changed = head if "without" in kind else head + stream[10:]
    if sound:
        assert inflate(changed, len(data), library) == zlib.decompress(changed, 31) == data
    else:
        with pytest.raises(zlib.error):
            zlib.decompress(changed, 31)
        with pytest.raises(ValueError, match=r"is not gzip|damaged"):
            inflate(changed, len(data), library)


@each_library
def test_files_of_several_members(library):
    data = [TEXTS[name] for name in ("letters", "nothing", "zeros", "noise")]
    packed = [gzip.compress(each) for each in data]
    whole = b"".join(data)
    for file in (b"".join(packed), (b"\0" * 7).join(packed), b"".join(packed) + bytes(1000)):
        for hint in (0, 1, 30_000, len(whole), len(whole) + 9, 10**9):
            assert inflate_file(file, hint, len(whole) + 10, library) == whole
        assert inflate_file(file, 1, len(whole), library) == whole
        assert inflate_file(file, 1, len(whole) - 1, library) is None
        assert inflate_file(file, 10**9, 0, library) is None
        for bad in (file + b"junk", file[: len(packed[0]) + 40], file[:-1001] + b"x"):
            with pytest.raises(ValueError, match="damaged"):
                inflate_file(bad, len(whole), len(whole), library)
    assert inflate_file(bytes(9), 5, 9, library) == b""


def test_levels():
    data = TEXTS["letters"]
    assert deflate(data) == deflate(data, 1)
    assert len(deflate(data, 9)) < len(deflate(data, 1)) < len(data) < len(deflate(data, 0))
    for level in (-1, 10):
        with pytest.raises(ValueError, match="no level"):
            deflate(data, level)


@pytest.mark.parametrize("width", [1, 2, 4, 8, 16])
def test_the_order_of_gzip_2(width):
    chance = random.Random(width)
    for n in [*range(70), 1000, 4099]:
        numbers = chance.randbytes(n * width)
        assert shuffle(numbers, width) == slow_shuffle(numbers, width)
        assert unshuffle(slow_shuffle(numbers, width), width) == numbers


def test_numbers_that_are_none():
    for order in (shuffle, unshuffle):
        for data, width in ((b"abc", 2), (b"abc", 0), (b"abc", -1)):
            with pytest.raises(ValueError, match="no numbers"):
                order(data, width)


# ---------------------------------------------------------------------------- other people's tiles

DTYPES = ["u1", ">i2", ">i4", ">f4", ">f8"]


def image_of(dtype: str) -> np.ndarray:
    pixels = np.random.default_rng(3).normal(100, 20, (13, 211))
    return pixels.clip(0, 255).astype(dtype)


def streams_of(path, column: str = "COMPRESSED_DATA") -> list[bytes]:
    with fits.open(path, disable_image_compression=True) as file:
        return [row.tobytes() for row in file[1].data[column]]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("codec", ["GZIP_1", "GZIP_2"])
def test_tiles_of_fpack(tmp_path, codec, dtype):
    """Byte for byte what cfitsio writes, a row each."""
    array, plain = image_of(dtype), tmp_path / "a.fits"
    fits.writeto(plain, array)
    how = ["-g1" if codec == "GZIP_1" else "-g2", "-q", "0"]
    subprocess.run(["fpack", *how, plain], check=True, capture_output=True)
    width = array.itemsize
    streams = streams_of(tmp_path / "a.fits.fz")
    assert len(streams) == len(array)
    for stream, row in zip(streams, array, strict=True):
        data = row.tobytes()
        arranged = shuffle(data, width) if codec == "GZIP_2" else data
        assert deflate(arranged) == stream
        for library in inflaters():
            assert inflate(stream, len(data), library) == arranged
        assert codec == "GZIP_1" or unshuffle(arranged, width) == data


@pytest.mark.parametrize("dtype", DTYPES)
def test_tiles_of_astropy(dtype):
    data = image_of(dtype)
    plain, shuffled = _codecs.Gzip1(), _codecs.Gzip2(itemsize=data.itemsize)
    assert inflate(bytes(plain.encode(data)), data.nbytes) == data.tobytes()
    found = inflate(bytes(shuffled.encode(data)), data.nbytes)
    assert unshuffle(found, data.itemsize) == data.tobytes()
    assert bytes(plain.decode(deflate(data.tobytes()))) == data.tobytes()
    assert bytes(shuffled.decode(deflate(shuffle(data.tobytes(), data.itemsize)))) == data.tobytes()
