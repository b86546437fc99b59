"""Large gzip files inflated by several threads: as zlib does it, wherever the parts begin."""

from __future__ import annotations

import gzip
import io
import random
import struct
import zlib

import numpy as np
import pytest
import torch
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st
from slow_inflate import inflate_slowly

import torchfits
from torchfits._direct import find_block, gzip_sharing, inflate_file, inflate_parts
from torchfits._tensors import using_threads

pytestmark = [pytest.mark.native, pytest.mark.usefixtures("variant")]

STRATEGIES = {"usual": 0, "filtered": 1, "huffman": 2, "runs": 3, "fixed": 4}


def packed(data: bytes, level: int = 6, strategy: int = 0, memory: int = 8, flush: int = 0) -> bytes:
    """A gzip file by zlib; less memory makes smaller blocks, an empty one comes after every `flush` bytes."""
    maker = zlib.compressobj(level, zlib.DEFLATED, 31, memory, strategy)
    if flush == 0:
        return maker.compress(data) + maker.flush()
    pieces = [data[i : i + flush] for i in range(0, len(data), flush)]
    return b"".join(maker.compress(each) + maker.flush(zlib.Z_SYNC_FLUSH) for each in pieces) + maker.flush()


def texts() -> dict[str, bytes]:
    chance, numbers = random.Random(1), np.random.default_rng(1)
    pixels = numbers.standard_normal(60_000, dtype="f4")
    sky = (100 * pixels + 1000).astype(">i2").tobytes()
    return {
        "float pixels": pixels.astype(">f4").tobytes(),
        "int pixels": sky,
        "mask": (pixels > 2.5).astype("u1").tobytes() * 4,
        "letters": bytes(chance.choices(b"abcdefg", k=200_000)),
        "far repeats": chance.randbytes(32_768) * 5,
        "border": sky[:50_000] + bytes(3_000_000) + sky[50_000:],
        "noise": chance.randbytes(200_000),
        "little": sky[:3000],
        "nothing": b"",
    }


TEXTS = texts()


def check(file: bytes, data: bytes, threads: int, part: int, units: int) -> int:
    """That the file makes these data, in how many turns; 0 where the work was not shared."""
    got, taken, turns = inflate_parts(file, len(data), threads, part, units)
    assert turns >= (threads == 1)
    if turns > 0:
        assert got == data
        assert taken == len(file)
    return turns


@pytest.mark.parametrize("part", [700, 20_000])
@pytest.mark.parametrize("threads", [1, 3, 16])
@pytest.mark.parametrize("text", TEXTS)
def test_texts(text, threads, part):
    data = TEXTS[text]
    for level, memory in ((6, 1), (9, 3), (1, 8)):
        file = packed(data, level, memory=memory)
        turns = check(file, data, threads, part, 20 * part)
        assert turns <= len(file) // part + 1
        # blocks of memory 8 are larger than the smaller parts
        assert turns > 0 or memory > 3 or text == "border"


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("flush", [0, 900, 40_000])
def test_strategies(strategy, flush):
    data = TEXTS["int pixels"]
    file = packed(data, strategy=STRATEGIES[strategy], memory=4, flush=flush)
    assert check(file, data, 4, 3000, 60_000) > 0
    assert check(file, data, 1, 3000, 60_000) > 0


def test_stored_blocks():
    data = TEXTS["noise"]
    file = packed(data, 0)
    # the first part goes on to the next block with codes of its own
    assert check(file, data, 3, 9000, 60_000) == 1
    mixed = TEXTS["int pixels"][:60_000] + data + TEXTS["int pixels"]
    file = packed(mixed, memory=4)
    assert check(file, mixed, 3, 9000, 60_000) > 2


def test_blocks_that_are_too_far_apart():
    data = TEXTS["letters"]
    assert check(packed(data, memory=8), data, 2, 400, 60_000) == 0


def test_the_threads_do_share_the_work():
    data = TEXTS["float pixels"] * 5
    file = packed(data, memory=5)
    for threads in (2, 3, 4):
        part = len(file) // threads + 1
        assert check(file, data, threads, part, 4 * part) == 1
    # a part that makes more than there is room for is gone on with where it stopped
    part = len(file) // 4 + 1
    for units in (part, 0):
        assert 1 < check(file, data, 4, part, units) < 9


def test_blocks_are_found_where_they_begin():
    data = TEXTS["int pixels"][:24_000] + TEXTS["noise"][:3000] + TEXTS["letters"][:9000]
    for memory in (1, 4):
        maker = zlib.compressobj(6, zlib.DEFLATED, -15, memory)
        stream = maker.compress(data) + maker.flush()
        made, blocks = inflate_slowly(stream)
        assert made == data
        starts = [block.start for block in blocks if block.kind == 2 and not block.is_last]
        assert len(starts) > 2
        # what is less than 24 bytes before the end is not looked at
        wanted = [start for start in starts if start // 8 + 24 <= len(stream)]
        for i, start in enumerate(wanted):
            for first in {wanted[i - 1] + 1 if i else 0, max(start - 7, 0), start}:
                assert find_block(stream, first) == start
        assert find_block(stream, wanted[-1] + 1) is None
        assert find_block(stream, 8 * len(stream)) is None
        assert find_block(stream, 2**63) is None
    assert find_block(b"", 0) is None


def test_what_only_looks_like_a_block_is_not_relied_on():
    # a stored block whose bytes are themselves a stream; what stands before it is the other half of the file
    inside = zlib.compressobj(6, zlib.DEFLATED, -15, 2)
    decoy = inside.compress(TEXTS["int pixels"][:30_000]) + inside.flush()
    data = TEXTS["letters"][:40_000] + decoy + TEXTS["letters"][40_000:90_000]
    maker = zlib.compressobj(6, zlib.DEFLATED, 31)
    file = maker.compress(TEXTS["letters"][:40_000]) + maker.flush(zlib.Z_FULL_FLUSH)
    for i in range(0, len(decoy), 60_000):
        piece = decoy[i : i + 60_000]
        file += b"\0" + struct.pack("<HH", len(piece), len(piece) ^ 0xFFFF) + piece
    maker = zlib.compressobj(6, zlib.DEFLATED, -15)
    file += maker.compress(TEXTS["letters"][40_000:90_000]) + maker.flush()
    file += struct.pack("<II", zlib.crc32(data), len(data))
    assert gzip.decompress(file) == data
    assert find_block(file[10:], 8 * (len(file) // 3)) is not None
    for part in (2000, 9000, len(file) // 3):
        assert inflate_parts(file, len(data), 3, part, 10 * part)[:2] == (data, len(file))


def test_headers():
    data = TEXTS["letters"]
    bare = packed(data, memory=5)
    for flags, more in ((4, b"\5\0extra"), (8, b"name\0"), (16, b"comment\0"), (29, b"\1\0xname\0comment\0")):
        file = bare[:3] + bytes([flags]) + bare[4:10] + more + bare[10:]
        assert gzip.decompress(file) == data
        assert check(file, data, 2, 9000, 90_000) > 0
        for end in range(10 + len(more)):
            assert inflate_parts(file[:end], len(data), 2, 9000, 90_000) is None
    # another method than deflate, flags that are not defined, a check sum of the header
    for place, value in ((2, 7), (3, 32), (3, 128), (3, 2), (0, 0x1E), (1, 0x8C)):
        file = bare[:place] + bytes([value]) + bare[place + 1 :]
        assert inflate_parts(file, len(data), 2, 9000, 90_000) is None


def as_zlib(file: bytes, room: int) -> tuple[bytes, int] | None:
    reader = zlib.decompressobj(31)
    try:
        data = reader.decompress(file, room + 1)
    except zlib.error:
        return None
    if not reader.eof and len(data) == room:
        try:  # the check sum may be left
            data += reader.decompress(reader.unconsumed_tail, 1)
        except zlib.error:
            return None
    return (data, len(file) - len(reader.unused_data)) if reader.eof and len(data) <= room else None


def test_none():
    assert inflate_parts(b"", 100, 2, 9000, 90_000) is None


def makes(found: tuple[bytes, int, int] | None) -> bool:
    return found is not None and found[2] > 0


def test_rooms():
    data = TEXTS["int pixels"]
    file = packed(data, memory=4)
    for less in (1, 2, 300, 9000, len(data)):
        assert not makes(inflate_parts(file, len(data) - less, 3, 9000, 90_000))
    for more in (0, 1, 300):
        assert inflate_parts(file, len(data) + more, 3, 9000, 90_000)[0] == data
    with pytest.raises(MemoryError):
        inflate_parts(file, 2**64 - 1, 2, 9000, 90_000)
    for wrong in ((0, 1, 1), (17, 1, 1), (2, 0, 1), (2, 2**62, 1), (2, 1, 2**62)):
        with pytest.raises(ValueError, match="threads, parts of"):
            inflate_parts(file, 100, *wrong)


@pytest.mark.parametrize("text", ["float pixels", "letters", "border"])
def test_damage(text):
    data = TEXTS[text]
    file = packed(data, memory=3)
    chance = random.Random(2)
    for _ in range(60):
        changed = bytearray(file)
        changed[chance.randrange(len(file))] ^= 1 << chance.randrange(8)
        found = inflate_parts(changed, len(data), 3, 9000, 90_000)
        expected = as_zlib(bytes(changed), len(data))
        # a flag may say that the header has a check sum
        if expected is None or changed[3] & 2:
            assert not makes(found)
        else:
            assert found[:2] == expected
        assert not makes(inflate_parts(file[: chance.randrange(len(file))], len(data), 3, 9000, 90_000))
    for end in range(len(file) - 10, len(file)):
        assert inflate_parts(file[:end], len(data), 3, 9000, 90_000) is None


def test_what_stands_before_the_beginning():
    # a distance of 4 after 3 bytes, with fixed codes; of 3 it would be right
    for distance, is_right in ((3, True), (4, False)):
        bits = "1" + "10" + "".join(format(0x30 + byte, "08b") for byte in b"abc")
        bits += "0000001" + format(distance - 1, "05b") + "0000000"
        number = int(bits[::-1], 2)
        stream = number.to_bytes((len(bits) + 7) // 8, "little")
        whole = b"abcabc"
        file = b"\x1f\x8b\x08\0\0\0\0\0\0\x03" + stream + struct.pack("<II", zlib.crc32(whole), len(whole))
        found = inflate_parts(file, 100, 2, 5, 100)
        assert found == ((whole, len(file), 1) if is_right else None)


@settings(deadline=None)
@given(st.data())
def test_any_bytes_in_any_parts(data):
    alphabet = data.draw(st.binary(min_size=1, max_size=64))
    chance = random.Random(data.draw(st.integers(0, 2**32)))
    text = bytes(chance.choices(alphabet, k=data.draw(st.integers(0, 60_000))))
    if data.draw(st.booleans()):
        text += chance.randbytes(9000) + text[:40_000]
    file = packed(
        text,
        data.draw(st.integers(0, 9)),
        data.draw(st.sampled_from(sorted(STRATEGIES.values()))),
        data.draw(st.integers(1, 9)),
        data.draw(st.sampled_from([0, 500, 20_000])),
    )
    threads, part = data.draw(st.integers(1, 6)), data.draw(st.integers(40, 20_000))
    check(file, text, threads, part, data.draw(st.integers(0, 100_000)))


@settings(deadline=None)
@given(st.binary(max_size=600), st.integers(1, 4), st.integers(1, 300))
def test_any_streams(inside, threads, part):
    maker = zlib.decompressobj(-15)
    try:
        made = maker.decompress(inside, 100_000)
    except zlib.error:
        made = b""
    file = b"\x1f\x8b\x08\0\0\0\0\0\0\x03" + inside[: len(inside) - len(maker.unused_data)]
    file += struct.pack("<II", zlib.crc32(made), len(made))
    found = inflate_parts(file, len(made), threads, part, 5000)
    expected = as_zlib(file, len(made))
    if expected is None:
        assert not makes(found)
    else:
        assert found[:2] == expected or found[2] == 0


# ---------------------------------------------------------------------------- files


@given(st.integers(0, 2**40), st.integers(0, 2**62), st.integers(-1, 200))
def test_how_the_work_is_shared_out(size, makes, threads):
    count, part, units = gzip_sharing(size, makes, threads)
    if threads < 2 or size < 2 * 384 * 1024 or makes > 8 * size:
        assert count == 0
        return
    assert 2 <= count <= min(threads, 16)
    turns = -(-size // (part * count))
    # no turn is nearly empty
    assert part * count * turns - size <= count * turns
    assert part <= 2 << 20
    assert part >= 128 << 10
    assert part * max(makes / size, 1) < units < 8 << 20


@pytest.mark.parametrize("makes", [0, 2**20, 2**30, 2**60])
def test_sizes_that_are_not_so(makes):
    data, file = large(1)
    assert inflate_file(file, makes, len(data), threads=4) == data
    with pytest.raises(MemoryError):
        inflate_file(file, 2**60, 2**60, threads=4)


def large(members: int) -> tuple[bytes, bytes]:
    numbers = np.random.default_rng(2)
    data = [numbers.standard_normal(300_000, dtype="f4").tobytes() for _ in range(members)]
    return b"".join(data), b"".join(gzip.compress(each, 1) for each in data)


@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize("padding", [0, 5000])
def test_large_files(members, padding):
    data, file = large(members)
    for threads in (1, 2, 3, 100):
        for hint in (len(data), len(data) + 9, 1000):
            assert inflate_file(file + bytes(padding), hint, len(data), threads=threads) == data
        assert inflate_file(file, len(data), len(data) - 1, threads=threads) is None
        other_sum = file[:-8] + bytes([file[-8] ^ 1]) + file[-7:]
        for bad in (file + b"junk", other_sum, file[: len(file) // 2]):
            with pytest.raises(ValueError, match="damaged"):
                inflate_file(bad, len(data), len(data), threads=threads)


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_a_fits_file(tmp_path, threads):
    pixels = np.random.default_rng(3).standard_normal((600, 700), dtype="f4")
    path = tmp_path / "a.fits.gz"
    fits.HDUList([fits.PrimaryHDU(pixels), fits.ImageHDU(pixels[:50].astype("i2"))]).writeto(path)
    with using_threads(threads):
        assert torch.equal(torchfits.read(path), torch.from_numpy(pixels))
        with torchfits.open(path) as file:
            assert torch.equal(file[1].read(), torch.from_numpy(pixels[:50].astype("i2")))
            assert torch.equal(file[0][7:9, 3:600], torch.from_numpy(pixels[7:9, 3:600]))


def test_a_damaged_fits_file(tmp_path):
    pixels = np.random.default_rng(3).standard_normal((600, 700), dtype="f4")
    whole = io.BytesIO()
    fits.PrimaryHDU(pixels).writeto(whole)
    file = bytearray(gzip.compress(whole.getvalue(), 1))
    file[len(file) // 2] ^= 64
    path = tmp_path / "a.fits.gz"
    path.write_bytes(file)
    with using_threads(2), pytest.raises(torchfits.FitsFormatError, match="the compressed stream is damaged"):
        torchfits.read(path)
