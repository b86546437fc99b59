"""Tile-compressed images in files that change and in damaged ones."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from images import run_child, torch_threads
from test_changing_files import CUTTER
from tile_images import KINDS, pixels, write
from ztiles import compressed, fpack, streams, tiled

import torchfits
from torchfits import FitsFormatError

pytestmark = pytest.mark.native


RACER = """
import random, sys, time, torch, torchfits
from torchfits import FitsFormatError, FitsIOError, HduMissing
path, threads = sys.argv[1], int(sys.argv[2])
torch.set_num_threads(threads)
expected = (torch.arange(1000 * 1200) * 31 % 4099).to(torch.int16).reshape(1000, 1200)
torchfits.versions()
random_, right, errors, until = random.Random(5), 0, 0, time.monotonic() + 20
while min(right, errors) < 30 and time.monotonic() < until:
    try:
        with torchfits.open(path, cache=False) as f:
            for _ in range(40):
                row, column = random_.randrange(940), random_.randrange(1140)
                windows = f[1].cutouts([(row, column), (940, column)], 60)
                assert torch.equal(windows[0], expected[row : row + 60, column : column + 60])
                assert torch.equal(windows[1], expected[-60:, column : column + 60])
                assert torch.equal(f[1][::7, column], expected[::7, column])
                right += 1
                assert torch.equal(f[1].read(), expected)
                right += 1
    except (FitsIOError, HduMissing):
        errors += 1
    except FitsFormatError as error:  # opened while it was short
        assert any(each in str(error) for each in ("cut short", "empty", "END", "SIMPLE", "ends")), error
        errors += 1
print(right, errors)
"""


@pytest.mark.parametrize("threads", [1, 2])
def test_a_race_with_one_who_cuts_the_file(tmp_path, threads):
    path = tmp_path / "a.fits"
    array = (np.arange(1000 * 1200) * 31 % 4099).astype("i2").reshape(1000, 1200)
    path.write_bytes(compressed(array, (50, 300), "NOCOMPRESS"))
    with subprocess.Popen([sys.executable, "-c", CUTTER, path], stdout=subprocess.PIPE) as cutter:
        try:
            assert cutter.stdout is not None
            assert cutter.stdout.readline() == b"begins\n"
            right, errors = map(int, run_child(RACER, path, threads).split())
        finally:
            cutter.kill()
    assert right > 0
    assert errors > 0


MUTANTS = """
import os, random, sys, resource, warnings, torch, torchfits
from pathlib import Path
path, kinds, seed = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
if "ASAN_OPTIONS" not in os.environ:  # the sanitizer takes memory of its own
    resource.setrlimit(resource.RLIMIT_DATA, (3 << 30, 3 << 30))
warnings.simplefilter("ignore")
random_ = random.Random(seed)
whole = {kind: kind.read_bytes() for kind in sorted(kinds.iterdir())}
outcomes = {"read": 0, "refused": 0}
for _ in range(600):
    data = bytearray(random_.choice(list(whole.values())))
    for _ in range(random_.choice((1, 1, 2, 4))):
        how, at = random_.random(), random_.randrange(6000, len(data))
        if how < 0.2:  # a digit of the header
            digits = [i for i in range(2880, min(len(data), 8640)) if 48 <= data[i] < 58]
            data[random_.choice(digits)] = random_.randrange(48, 58)
        elif how < 0.25:
            del data[at:]
            data += bytes(1)
        elif how < 0.6:
            data[at] ^= 1 << random_.randrange(8)
        else:
            for i in range(at, min(at + random_.choice((1, 2, 4, 8, 40)), len(data))):
                data[i] = random_.choice((0, 255, 127, 128, random_.randrange(256)))
    path.write_bytes(data)
    try:
        with torchfits.open(path, cache=False) as f:
            hdu = f[1]
            if not isinstance(hdu, torchfits.ImageHDU):
                continue
            hdu.read()
            part = tuple(slice(0, n, 2) for n in hdu.shape)
            assert torch.equal(hdu[part], hdu.read()[part]) or hdu.dtype.is_floating_point
        outcomes["read"] += 1
    except torchfits.FitsError as error:
        assert str(path) in str(error), error
        outcomes["refused"] += 1
    except MemoryError:
        outcomes["refused"] += 1
assert all(count > 50 for count in outcomes.values()), outcomes
print(outcomes)
"""


@pytest.mark.parametrize("seed", range(3))
def test_mutants(tmp_path, seed):
    """Files of all codecs, damaged: they are read or refused; nothing dies, hangs or takes much memory."""
    kinds = tmp_path / "kinds"
    kinds.mkdir()
    for name, data in KINDS.items():
        (kinds / name).write_bytes(data)
    write(tmp_path / "a.fits", [(pixels("i4", (40, 53)).astype("i8") % 200).astype("i2")])
    for option in ("-h", "-p"):
        fpack(tmp_path / "a.fits", kinds / option, option, "-t", "20,11")
    run_child(MUTANTS, tmp_path / "b.fits", kinds, seed)


def test_the_lowest_bad_tile_is_named(tmp_path):
    """Whatever is wrong, with however many, in whatever thread they are decoded."""
    random = np.random.default_rng(8)
    array = random.integers(-99, 99, (600, 400)).astype("i2")
    cells = streams(array, (1, 400), "RICE_1")["COMPRESSED_DATA"][1]
    cards = {"ZNAME1": "'BLOCKSIZE'", "ZVAL1": 32, "ZNAME2": "'BYTEPIX'", "ZVAL2": 2}
    path = tmp_path / "a.fits"
    for n in range(60):
        # within what is decoded together, and further apart
        first = int(random.integers(0, 590))
        bad = {first, *(first + random.integers(0, (4, 16, 600)[n % 3], 5) % (600 - first))}
        columns: list[bytes | None] = list(cells)
        for tile in bad:
            # a stream that ends sooner or later, or none
            cut = None if random.random() < 0.2 else int(random.integers(1, len(cells[tile]) - 1))
            columns[tile] = cells[tile][:cut] if cut else None
        damaged = {"COMPRESSED_DATA": ("1PB", columns)}
        path.write_bytes(tiled(array.shape, (1, 400), 16, "RICE_1", damaged, **cards))
        for threads in (1, 2, 4):
            with torch_threads(threads), torchfits.open(path, cache=False) as file:
                for dtype in (None, torch.float64):
                    with pytest.raises(FitsFormatError, match=f"the compressed tile {min(bad)} "):
                        file[1].read(dtype=dtype)
