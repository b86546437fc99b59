"""Decoded tiles that are kept: which, how many, for whom, and never longer than the file is what it was."""

from __future__ import annotations

import multiprocessing
import os
import threading

import numpy as np
import pytest
import torch
from images import in_fork, run_child, torch_threads
from ztiles import assert_bits, compressed, streams, tiled

import torchfits
from torchfits import FitsIOError

pytestmark = pytest.mark.native
ARRAY = np.random.default_rng(1).integers(-(2**15), 2**15, (64, 64)).astype("i2")
TILE = 16 * 16 * 2  # bytes


@pytest.fixture(autouse=True)
def limit():
    before = torchfits.tile_cache_info().limit
    yield
    torchfits.tile_cache_limit(before)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "a.fits"
    path.write_bytes(compressed(ARRAY, (16, 16), "RICE_1"))
    return path


@pytest.fixture
def hdu(path):
    with torchfits.open(path, cache=False) as file:
        yield file[1]


def kept() -> tuple[int, int]:
    info = torchfits.tile_cache_info()
    return info.tiles, info.bytes


def change() -> tuple[int, int]:
    info = torchfits.tile_cache_info()
    return info.hits, info.misses


def window(row: int, column: int, size: int = 4) -> tuple[slice, slice]:
    return slice(row, row + size), slice(column, column + size)


def test_what_is_kept(hdu):
    hdu.read()
    hdu.read()
    assert kept() == (0, 0)  # whole images
    assert_bits(hdu[window(3, 3)], ARRAY[3:7, 3:7])
    assert kept() == (0, 0)  # the only window as yet
    hdu[window(3, 3)]
    assert kept() == (1, TILE)
    assert change() == (0, 1)
    assert_bits(hdu[window(5, 9)], ARRAY[5:9, 9:13])
    assert change() == (1, 1)
    assert_bits(hdu[window(14, 14)], ARRAY[14:18, 14:18])  # four tiles, of which one is there
    assert (kept(), change()) == ((4, 4 * TILE), (2, 4))
    hdu[16:32, 48:64]  # all of a tile, which goes straight to its place
    assert (kept(), change()) == ((4, 4 * TILE), (2, 4))
    assert_bits(hdu.read(), ARRAY)
    assert change() == (2, 4)


def test_cutouts_that_share_tiles(hdu):
    corners = [(3, 3), (3, 3), (14, 14), (40, 60), (-2, -2)]
    for _ in range(2):
        found = hdu.cutouts(corners, 4, fill=0)
        for (row, column), cutout in zip(corners[:3], found[:3], strict=True):
            assert_bits(cutout, ARRAY[row : row + 4, column : column + 4])
    assert kept() == (5, 5 * TILE)
    assert change() == (0, 5)
    hdu.cutouts(corners, 4, fill=0)
    assert change() == (5, 5)


def test_the_least_recently_used_go_first(hdu):
    torchfits.tile_cache_limit(3 * TILE + 5)
    for column in (0, 0, 16, 32, 0, 48, 16):  # the first read keeps nothing
        hdu[window(1, column + 1)]
        assert torchfits.tile_cache_info().bytes <= 3 * TILE
    assert kept() == (3, 3 * TILE)
    before = change()
    hdu[window(1, 1)]
    hdu[window(1, 49)]
    assert change() == (before[0] + 2, before[1])
    hdu[window(1, 33)]
    assert change() == (before[0] + 2, before[1] + 1)


def test_nothing_is_kept(hdu):
    torchfits.tile_cache_limit(0)
    for _ in range(3):
        assert_bits(hdu[window(14, 14)], ARRAY[14:18, 14:18])
    assert kept() == (0, 0)


def test_tiles_larger_than_the_limit(hdu):
    torchfits.tile_cache_limit(TILE - 1)
    for _ in range(3):
        assert_bits(hdu[window(14, 14)], ARRAY[14:18, 14:18])
    assert kept() == (0, 0)


def test_a_lower_limit_counts_at_once(hdu):
    for _ in range(2):
        hdu[1:50:3, 1:50:3]
    assert kept()[0] > 4
    torchfits.tile_cache_limit(4 * TILE)
    assert kept() == (4, 4 * TILE)
    torchfits.tile_cache_limit(0)
    assert kept() == (0, 0)


@pytest.mark.parametrize("size", [-1, 1.5, True, "x", None, 2**64])
def test_limits_that_are_none(size):
    with pytest.raises(ValueError, match="number of bytes"):
        torchfits.tile_cache_limit(size)


def test_a_closed_file_keeps_nothing(path):
    file = torchfits.open(path, cache=False)
    for _ in range(2):
        file[1][window(3, 3)]
    assert kept() == (1, TILE)
    file.close()
    assert kept() == (0, 0)


def test_tiles_of_other_hdus_and_dtypes(tmp_path):
    """Tiles with the same number, of which none must be taken for another."""
    path, scaled = tmp_path / "b.fits", ARRAY.astype("f4") / 2 + 3
    data = compressed(ARRAY, (16, 16), "RICE_1", BSCALE=0.5, BZERO=3.0)
    other = compressed(ARRAY[::-1].copy(), (8, 64), "GZIP_2")
    path.write_bytes(data + other[2880:])
    with torchfits.open(path, cache=False) as file:
        for _ in range(3):
            assert_bits(file[1].read(window(3, 3)), scaled[3:7, 3:7])
            assert_bits(file[1].read(window(3, 3), raw=True), ARRAY[3:7, 3:7])
            assert_bits(file[1].read(window(3, 3), dtype=torch.float64), scaled[3:7, 3:7].astype("f8"))
            assert_bits(file[1].read(window(3, 3), dtype=torch.int16, raw=True), ARRAY[3:7, 3:7])
            assert_bits(file[2].read(window(3, 3)), ARRAY[::-1][3:7, 3:7])
            out = torch.empty(4, 4, dtype=torch.float64)
            assert_bits(file[1].read(window(3, 3), out=out), scaled[3:7, 3:7].astype("f8"))


def test_files_have_caches_of_their_own(tmp_path):
    paths = [tmp_path / f"{n}.fits" for n in range(2)]
    for n, path in enumerate(paths):
        path.write_bytes(compressed(ARRAY + n, (16, 16), "RICE_1"))
    files = [torchfits.open(path) for path in paths]
    for _ in range(3):
        for n, file in enumerate(files):
            assert_bits(file[1][window(3, 3)], ARRAY[3:7, 3:7] + n)
    assert kept() == (2, 2 * TILE)
    for file in files:
        file.close()


def test_two_lists_of_one_file_share_its_tiles(path):
    with torchfits.open(path) as one, torchfits.open(path) as other:
        for file in (one, one, other):
            file[1][window(3, 3)]
        assert (kept(), change()[0]) == ((1, TILE), 1)


@pytest.mark.parametrize("how", ["rewritten", "replaced", "cut", "touched"])
def test_a_file_that_changed_is_not_read_from_kept_tiles(path, how):
    with torchfits.open(path, cache=False) as file:
        for _ in range(2):
            file[1][window(3, 3)]
        data = compressed(ARRAY + 1, (16, 16), "RICE_1")
        if how == "rewritten":
            path.write_bytes(data)
        elif how == "cut":
            os.truncate(path, 6000)
        elif how == "touched":
            os.utime(path, ns=(1, 1))
        else:
            (path.parent / "new").write_bytes(data)
            os.replace(path.parent / "new", path)
        for _ in range(2):
            with pytest.raises(FitsIOError, match="chang|shrank|replaced"):
                file[1][window(3, 3)]
        with pytest.raises(FitsIOError, match="chang|shrank|replaced"):
            file[1].cutouts([(3, 3)], 4)


def test_a_damaged_tile_is_not_kept(tmp_path):
    columns = streams(ARRAY, (16, 16), "GZIP_1")
    cells = list(columns["COMPRESSED_DATA"][1])
    cells[1] = cells[1][:-9]
    path = tmp_path / "a.fits"
    path.write_bytes(tiled(ARRAY.shape, (16, 16), 16, "GZIP_1", {"COMPRESSED_DATA": ("1PB", cells)}))
    with torchfits.open(path, cache=False) as file:
        for _ in range(3):
            with pytest.raises(torchfits.FitsFormatError, match="tile 1 "):
                file[1][window(14, 14)]
            assert kept() == (0, 0)
        assert_bits(file[1][window(20, 20)], ARRAY[20:24, 20:24])


def test_many_threads(path):
    """Of tiles that come and go under other threads' hands."""
    torchfits.tile_cache_limit(5 * TILE)
    wrong, most = [], []

    def work(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(150):
            row, column = rng.integers(0, 50, 2).tolist()
            found = file[1][row : row + 9, column : column + 9].numpy()
            if not np.array_equal(found, ARRAY[row : row + 9, column : column + 9]):
                wrong.append((row, column))
            most.append(torchfits.tile_cache_info().bytes)

    with torch_threads(2), torchfits.open(path, cache=False) as file:
        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong
    assert max(most) <= 5 * TILE


def test_after_a_fork(path):
    with torchfits.open(path) as file:
        for _ in range(3):
            file[1][window(3, 3)]
        before = torchfits.tile_cache_info()
        assert before.tiles == 1

        def child() -> None:
            assert torchfits.tile_cache_info()[:4] == (0, 0, 0, 0)
            for _ in range(3):
                assert np.array_equal(file[1][window(3, 3)].numpy(), ARRAY[3:7, 3:7])
            assert torchfits.tile_cache_info()[:4] == (1, 1, 1, TILE)

        in_fork(child)
        assert torchfits.tile_cache_info() == before
        assert_bits(file[1][window(3, 3)], ARRAY[3:7, 3:7])


def test_a_fork_while_others_read(path):
    """The lock of the cache may be held when the process forks."""
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            file[1][1:60:2, 1:60:2]

    def child() -> None:
        for _ in range(3):
            assert np.array_equal(file[1][window(3, 3)].numpy(), ARRAY[3:7, 3:7])

    with torchfits.open(path, cache=False) as file:
        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(10):
                in_fork(child, 20)
        finally:
            stop.set()
            for thread in threads:
                thread.join()


def _limit_of_a_worker(queue) -> None:
    queue.put(torchfits.tile_cache_info().limit)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_keep_an_eighth(method):
    context = multiprocessing.get_context(method)
    queue = context.SimpleQueue()
    worker = context.Process(target=_limit_of_a_worker, args=(queue,))
    worker.start()
    worker.join(60)
    assert queue.get() == torchfits.tile_cache_info().limit // 8


def test_memory_stays_bounded(tmp_path):
    """Windows all over an image of 256 MB, of which 4 MB are kept."""
    path = tmp_path / "a.fits"
    array = np.zeros((8192, 8192), "i4")
    array[:, 5] = np.arange(8192)
    path.write_bytes(compressed(array, (64, 8192), "GZIP_2"))
    run_child(
        """
        import resource, sys, torch, torchfits
        torchfits.tile_cache_limit(4 << 20)
        with torchfits.open(sys.argv[1]) as file:
            file[1][:16, :3]
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            for row in range(0, 8192, 7):
                assert file[1][row, 5] == row
            assert torchfits.tile_cache_info().bytes <= 4 << 20
            grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
            assert grown < 16 << 10, grown
        """,
        path,
    )

