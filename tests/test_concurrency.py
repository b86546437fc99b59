"""Threads, forks, spawned workers, pickles: one open file, right answers everywhere."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from astropy.io import fits

import torchfits

pytestmark = pytest.mark.native
ROWS = 600


@pytest.fixture
def mixed(tmp_path):
    """Images, a compressed image and a table whose every value says where it stands."""
    path = tmp_path / "mixed.fits"
    plain = np.arange(ROWS * 500, dtype=">i4").reshape(ROWS, 500)
    table = np.zeros(ROWS, dtype=[("A", ">i8"), ("B", ">f4", (3,))])
    table["A"] = np.arange(ROWS)
    table["B"] = np.arange(ROWS)[:, None]
    fits.HDUList(
        [
            fits.PrimaryHDU(plain),
            fits.ImageHDU((plain % 30000).astype("i2"), name="SHORT"),
            fits.CompImageHDU((plain % 1000).astype("i2"), name="RICE", compression_type="RICE_1"),
            fits.BinTableHDU(table, name="TABLE"),
        ]
    ).writeto(path)
    return path


def _check(f: torchfits.HDUList, row: int) -> bool:
    """Whether one row of every HDU is right."""
    expected = torch.arange(row * 500, (row + 1) * 500, dtype=torch.int64)
    table = f["TABLE"].read_table(rows=slice(row, row + 1))
    return (
        torch.equal(f[0][row].to(torch.int64), expected)
        and torch.equal(f["SHORT"][row].to(torch.int64), expected % 30000)
        and torch.equal(f["RICE"][row].to(torch.int64), expected % 1000)
        and table["A"].tolist() == [row]
        and table["B"].tolist() == [[row] * 3]
    )


@pytest.mark.parametrize("cache", [True, False])
def test_one_list_in_many_threads(mixed, cache):
    with torchfits.open(mixed, cache=cache) as f, ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda i: _check(f, i * 37 % ROWS), range(400)))


def test_many_lists_of_one_file_in_many_threads(mixed):
    def work(i):
        with torchfits.open(mixed) as f:
            return _check(f, i * 37 % ROWS)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(400)))


def _at_last(check) -> bool:
    """Whether one of ten tries succeeds: a busy machine may spoil some, a held GIL spoils all."""
    return any(check() for _ in range(10))


def _windows_overlap(work) -> bool:
    """Whether another thread runs Python while `work` is inside one call of C."""
    ticks, done = [], threading.Event()

    def ticker():
        while not done.is_set():
            ticks.append(time.perf_counter())
            time.sleep(0)

    thread = threading.Thread(target=ticker)
    thread.start()
    try:
        start = time.perf_counter()
        work()
        end = time.perf_counter()
    finally:
        done.set()
        thread.join()
    # the middle of the call: its Python parts before and after do not count
    middle = start + (end - start) * 0.25, end - (end - start) * 0.25
    return any(middle[0] < tick < middle[1] for tick in ticks)


def test_an_image_read_lets_other_threads_run(tmp_path):
    path = tmp_path / "big.fits"
    fits.writeto(path, np.zeros((4096, 4096), dtype="f4"))
    with torchfits.open(path) as f:
        hdu, out = f[0], torch.empty(4096, 4096)
        hdu.read(section=(0, 0))
        assert _at_last(lambda: _windows_overlap(lambda: hdu.read(out=out)))


def test_a_table_read_lets_other_threads_run(tmp_path):
    path = tmp_path / "table.fits"
    fits.BinTableHDU(np.zeros(2_000_000, dtype=[("A", ">f8"), ("B", ">i4")])).writeto(path)
    with torchfits.open(path) as f:
        hdu = f[1]
        hdu.read_table(rows=slice(0, 1))
        assert _at_last(lambda: _windows_overlap(hdu.read_table))


def test_two_threads_read_at_the_same_time(tmp_path):
    """Two reads of two files, each in one C call: their windows overlap by more than half of the shorter."""
    paths = [tmp_path / "a.fits", tmp_path / "b.fits"]
    for path in paths:
        fits.writeto(path, np.zeros((4096, 4096), dtype="f4"))

    def work(path, barrier, windows):
        with torchfits.open(path) as f:
            hdu, out = f[0], torch.empty(4096, 4096)
            hdu.read(out=out)
            barrier.wait()
            start = time.perf_counter()
            hdu.read(out=out)
            windows.append((start, time.perf_counter()))

    def overlap():
        windows, barrier = [], threading.Barrier(2)
        threads = [threading.Thread(target=work, args=(path, barrier, windows)) for path in paths]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        (a0, a1), (b0, b1) = windows
        return min(a1, b1) - max(a0, b0) > 0.5 * min(a1 - a0, b1 - b0)

    assert _at_last(overlap)


def _child(f, indices, queue):
    queue.put([_check(f, i) for i in indices])


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.parametrize("cache", [True, False])
def test_children_read_right(mixed, method, cache):
    """Parent and children read through the same list at once; a shared file position would mix them up."""
    context = multiprocessing.get_context(method)
    queue = context.SimpleQueue()
    with torchfits.open(mixed, cache=cache) as f:
        assert _check(f, 5)
        children = [
            context.Process(target=_child, args=(f, [(k * 211 + i * 7) % ROWS for i in range(100)], queue))
            for k in range(3)
        ]
        for child in children:
            child.start()
        mine = [_check(f, i * 13 % ROWS) for i in range(100)]
        results = [queue.get() for _ in children]
        for child in children:
            child.join()
        queue.close()
    assert all(mine)
    assert all(all(result) for result in results)
    assert [child.exitcode for child in children] == [0, 0, 0]


def test_a_fork_while_another_thread_reads(mixed):
    stop = threading.Event()
    with torchfits.open(mixed) as f:

        def churn():
            while not stop.is_set():
                assert _check(f, 3)

        thread = threading.Thread(target=churn)
        thread.start()
        try:
            for _ in range(10):
                assert _in_child(lambda: all(_check(f, row) for row in (1, 100, 599))) == 0
        finally:
            stop.set()
            thread.join()


def test_a_fork_while_another_thread_holds_the_lock_of_cfitsio(mixed, tmp_path):
    """cfitsio holds a lock of its own for as long as it decodes an HCOMPRESS tile."""
    path = tmp_path / "h.fits"
    noise = np.random.default_rng(0).normal(1000, 20, (1024, 1024)).astype("i4")
    hdu = fits.CompImageHDU(noise, compression_type="HCOMPRESS_1", tile_shape=(256, 256))
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path)
    stop = threading.Event()

    def churn():
        with torchfits.open(path) as f:
            while not stop.is_set():
                f[1].read()

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for _ in range(15):
            assert _in_child(lambda: torchfits.read(mixed, 0, (3, 0)) == 1500) == 0
    finally:
        stop.set()
        thread.join()


def _in_child(check) -> int:
    """The exit code of a forked child: 0 where `check` holds, 1 where not, 2 after an exception."""
    pid = os.fork()
    if pid == 0:
        code = 2
        try:
            code = 0 if check() else 1
        finally:
            os._exit(code)
    deadline = time.monotonic() + 30
    while (waited := os.waitpid(pid, os.WNOHANG)) == (0, 0):
        if time.monotonic() > deadline:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
            pytest.fail("the child hangs on a lock of its parent")
        time.sleep(0.01)
    return os.waitstatus_to_exitcode(waited[1])


def test_forgotten_lists_that_the_garbage_collector_closes(mixed):
    """In a process of its own with a time limit: a lock that is not reentrant hangs there."""
    script = f"""
        import threading, torchfits
        def work():
            for i in range(3000):
                torchfits.open({str(mixed)!r})["SHORT"]
                cycle = [[] for _ in range(i % 13)]
                if i % 10 == 0:
                    torchfits.cache_clear()
                torchfits.cache_info()
        threads = [threading.Thread(target=work) for _ in range(4)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True, timeout=60)


def test_everything_pickles(mixed):
    with torchfits.open(mixed) as f:
        other = pickle.loads(pickle.dumps(f))
        image, table = pickle.loads(pickle.dumps((f["RICE"], f["TABLE"])))
        header = pickle.loads(pickle.dumps(f[1].read_header()))
        assert header == f[1].read_header()
        assert image.name == "RICE"
        assert torch.equal(image.read(), f["RICE"].read())
        assert torch.equal(table.read_table()["A"], f["TABLE"].read_table()["A"])
        assert _check(other, 7)
        other.close()


def test_errors_pickle(mixed):
    with torchfits.open(mixed) as f, pytest.raises(torchfits.HduMissing) as caught:
        f["NOT THERE"]
    again = pickle.loads(pickle.dumps(caught.value))
    assert type(again) is torchfits.HduMissing
    assert str(again) == str(caught.value)
    assert (again.path, again.hdu) == (caught.value.path, "NOT THERE")


class _Rows(torch.utils.data.Dataset):
    def __init__(self, path):
        self.file = torchfits.open(path)

    def __len__(self):
        return ROWS

    def __getitem__(self, row):
        return self.file[0][row], row


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_of_a_data_loader(mixed, method):
    dataset = _Rows(mixed)
    assert dataset[0][0][1] == 1
    loader = torch.utils.data.DataLoader(
        dataset, batch_size=50, num_workers=2, multiprocessing_context=method
    )
    seen = 0
    for pixels, rows in loader:
        assert torch.equal(pixels[:, 0], rows * 500)
        seen += len(rows)
    assert seen == ROWS
    dataset.file.close()
