"""Whole files in gzip: at once or piece by piece, the bytes and the errors are the same."""

from __future__ import annotations

import gzip
import random
import struct
import threading
import zlib

import numpy as np
import pytest
import torch
from astropy.io import fits
from images import image

import torchfits
from torchfits import _direct, source
from torchfits.errors import FitsFormatError, FitsIOError, FitsUnsupported

pytestmark = pytest.mark.native

NOISE = random.Random(1).randbytes(700_000)
TEXT = bytes(random.Random(2).choices(b"abcd", k=900_000))
PACKED = gzip.compress(TEXT)


def lying(packed: bytes, size: int) -> bytes:
    return packed[:-4] + struct.pack("<I", size)


# name -> a file that begins as gzip
FILES = {
    "one member": PACKED,
    "of noise": gzip.compress(NOISE),
    "small": gzip.compress(b"abc"),
    "of nothing": gzip.compress(b""),
    "two members": PACKED + gzip.compress(NOISE),
    "the last of nothing": PACKED + gzip.compress(b""),
    "many members": b"".join(gzip.compress(NOISE[i : i + 999]) for i in range(0, 400_000, 999)),
    "padded": PACKED + bytes(3000),
    "padded between": PACKED + bytes(3000) + PACKED,
    "padded by megabytes": PACKED + bytes(5 << 20) + PACKED,
    "with a header's check sum": PACKED[:3]
    + b"\x02"
    + PACKED[4:10]
    + struct.pack("<H", zlib.crc32(PACKED[:3] + b"\x02" + PACKED[4:10]) & 0xFFFF)
    + PACKED[10:],
    "with a header's wrong check sum": PACKED[:3] + b"\x02" + PACKED[4:10] + b"\0\0" + PACKED[10:],
    "with junk behind": PACKED + b"junk",
    "with much junk behind": PACKED + NOISE,
    "of a size that is less": lying(PACKED, 5),
    "of a size that is more": lying(PACKED, 1 << 31),
    "of a wrong check sum": PACKED[:-8] + bytes(4) + PACKED[-4:],
    "cut in the middle": PACKED[: len(PACKED) // 2],
    "cut before its end": PACKED[:-5],
    "cut in its second member": PACKED + PACKED[:50_000],
    "damaged in the middle": PACKED[:80_000] + bytes(100) + PACKED[80_100:],
    "damaged in its second member": PACKED + PACKED[:80_000] + bytes(100) + PACKED[80_100:],
    "a bomb": gzip.compress(bytes(30_000_000)),
}


def opened(tmp_path, packed: bytes, at_once: bool = True) -> source.InflatedSource:
    path = tmp_path / "a.gz"
    path.write_bytes(packed)
    found = source.open_source(str(path))
    assert isinstance(found, source.InflatedSource)
    found._at_once = at_once
    return found


@pytest.mark.parametrize("ends", [[1 << 30], [1, 100, 2880, 1 << 30], [70_000, 650_000, 900_001, 1 << 30]])
@pytest.mark.parametrize("name", FILES)
def test_at_once_or_piece_by_piece(tmp_path, name, ends):
    """What zlib makes, either way, asked for in one step or several; of a damaged member nothing."""
    inflated, sound = slowly(FILES[name])
    for at_once in (True, False):
        packed = opened(tmp_path, FILES[name], at_once)
        for end in ends:
            whole = packed.buffer(end)
            assert packed.available(end) <= min(len(whole), end)
        assert whole[: packed.available(1 << 30)] == inflated
        assert (packed.damage is None) == sound
        packed.close()


@pytest.mark.skipif(_direct.BLOCK_FROM > 1 << 40, reason="the sanitizer wants malloc")
def test_the_memory_is_used_again(tmp_path):
    """Fresh pages would cost a fifth of the inflating. What was read outlives them."""
    whole = TEXT * 4
    packed = opened(tmp_path, gzip.compress(whole, 1))
    view, piece = memoryview(packed.where(1 << 30)), packed.read(1_000_000, 2_000_000)
    assert view.readonly
    assert isinstance(piece, bytes)
    packed.close()
    torchfits.cache_clear()
    del packed
    assert _direct.memory_kept() == 0
    assert view == whole
    view.release()
    assert len(whole) <= _direct.memory_kept() < len(whole) + (2 << 20)
    torchfits.cache_clear()
    assert piece == whole[1_000_000:3_000_000]


def slowly(packed: bytes) -> tuple[bytes, bool]:
    """What zlib makes of a little at a time, but of a damaged member; and whether all of it is sound."""
    members, rest, step = [], packed, 1000
    while rest := rest.lstrip(b"\0"):
        inflater, start = zlib.decompressobj(31), 0
        members.append(b"")
        while not inflater.eof:
            if start >= len(rest):
                return b"".join(members), False
            try:
                members[-1] += inflater.decompress(rest[start : start + step])
            except zlib.error:
                return b"".join(members[:-1]), False
            start += step
        rest = inflater.unused_data + rest[start:]
    return b"".join(members), True


def test_no_more_is_inflated_than_a_few_times_what_is_asked_for(tmp_path):
    packed = opened(tmp_path, gzip.compress(NOISE * 40, 1))
    assert len(packed.buffer(2880)) < 100_000
    assert len(packed.buffer(1_000_000)) < 2_000_000
    assert len(packed.buffer(10_000_000)) == 28_000_000


def test_what_the_last_member_says_of_the_whole_is_not_believed(tmp_path):
    """Nobody inflates all of it because the last member is small."""
    packed = opened(tmp_path, gzip.compress(bytes(50_000_000)) + gzip.compress(b""))
    assert len(packed.buffer(2880)) <= 1 << 20
    assert len(packed.buffer(1_000_000)) < 5_000_000
    assert len(packed.buffer(40_000_000)) == 50_000_000


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("members", [1, 5])
def test_the_limit(tmp_path, monkeypatch, members, at_once):
    """What lies before it is read, what lies behind is refused, in any order."""
    monkeypatch.setattr(source, "_memory_limit", lambda: 3_000_000)
    whole = (NOISE * 10)[: 7_000_000 // members * members]
    step = len(whole) // members
    file = b"".join(gzip.compress(whole[i : i + step], 1) for i in range(0, len(whole), step))
    packed = opened(tmp_path, file, at_once)
    assert packed.read(0, 2880) == whole[:2880]
    for _ in range(2):
        with pytest.raises(FitsUnsupported, match="more than 3000000 bytes") as caught:
            packed.buffer(len(whole))
        assert caught.value.path == str(tmp_path / "a.gz")
        assert packed.read(1_500_000, 1000) == whole[1_500_000:1_501_000]
        assert packed.read(2_900_000, 1000) == whole[2_900_000:2_901_000]


def test_a_file_that_changes(tmp_path):
    packed = opened(tmp_path, PACKED)
    assert packed.read(0, 4) == TEXT[:4]
    (tmp_path / "a.gz").write_bytes(gzip.compress(TEXT[::-1]))
    for _ in range(2):
        with pytest.raises(FitsIOError, match="changed"):
            packed.read(800_000, 10)
    assert packed.read(0, 4) == TEXT[:4]


@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize("shape", [(30, 40), (700, 500)])
def test_images(tmp_path, shape, members):
    arrays = [np.random.default_rng(i).standard_normal(shape, dtype="f4") for i in range(3)]
    plain = tmp_path / "plain.fits"
    fits.HDUList([fits.PrimaryHDU(arrays[0]), *map(fits.ImageHDU, arrays[1:])]).writeto(plain)
    whole, path = plain.read_bytes(), tmp_path / "a.fits.gz"
    step = -(-len(whole) // members)
    path.write_bytes(b"".join(gzip.compress(whole[i : i + step]) for i in range(0, len(whole), step)))
    for order in ((0, 1, 2), (2, 0, 1)):
        with torchfits.open(path, cache=False) as file:
            for i in order:
                assert torch.equal(file[i].read(), torch.from_numpy(arrays[i]))


FIRST, SECOND = np.frombuffer(NOISE, ">i4").astype("i4").reshape(2, 350, -1)
HDUS = image(FIRST), image(SECOND, False)


def flipped(packed: bytes, at: int) -> bytes:
    return packed[:at] + bytes([packed[at] ^ 1]) + packed[at + 1 :]


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("at", [100_000, 400_000, -6], ids=["first image", "second image", "check sum"])
def test_of_a_damaged_member_nothing_is_relied_on(tmp_path, at, at_once):
    """Noise is stored as it is: a flipped bit makes another pixel, and only the check sum tells."""
    packed = gzip.compress(b"".join(HDUS), 1)
    path = tmp_path / "a.fits.gz"
    path.write_bytes(flipped(packed, at % len(packed)))
    with torchfits.open(path) as file:
        file._opened().source._at_once = at_once
        for hdu in (1, 0, 1):
            with pytest.raises(FitsFormatError, match=r"damaged: .*data check"):
                file[hdu].read()


@pytest.mark.parametrize("at_once", [True, False])
def test_the_members_before_a_damaged_one(tmp_path, at_once):
    path = tmp_path / "a.fits.gz"
    path.write_bytes(gzip.compress(HDUS[0], 1) + flipped(gzip.compress(HDUS[1], 1), 100_000))
    with torchfits.open(path) as file:
        file._opened().source._at_once = at_once
        with pytest.raises(FitsFormatError, match=r"damaged: .*data check"):
            file[1].read()
        assert torch.equal(file[0].read(), torch.from_numpy(FIRST))


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("end", [-300_000, -5000])
def test_a_file_that_is_cut_gives_what_is_before(tmp_path, end, at_once):
    path = tmp_path / "a.fits.gz"
    path.write_bytes(gzip.compress(b"".join(HDUS), 1)[:end])
    with torchfits.open(path) as file:
        file._opened().source._at_once = at_once
        with pytest.raises(FitsFormatError, match="the compressed stream is cut short"):
            file[1].read()
        assert torch.equal(file[0].read(), torch.from_numpy(FIRST))


def test_many_threads_inflate_once(tmp_path, monkeypatch):
    calls, really = [], source.inflate_file

    def counted(*arguments, **named):
        calls.append(threading.get_ident())
        return really(*arguments, **named)

    monkeypatch.setattr(source, "inflate_file", counted)
    packed = opened(tmp_path, PACKED)
    found = []
    threads = [threading.Thread(target=lambda: found.append(packed.buffer(850_000))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [TEXT] * 8
    assert len(calls) == 1
