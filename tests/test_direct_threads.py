"""The direct engine in many threads, after forks, in workers, and while somebody closes the file."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from images import assert_same, counting, image, noise, run_child, torch_threads

import torchfits
from torchfits import FitsIOError

pytestmark = pytest.mark.native

SHAPE = (300, 3000)
ARRAY = counting(SHAPE)
EXPECTED = torch.from_numpy(ARRAY)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "a.fits"
    hdus = [image(counting(SHAPE, dtype), i == 0, BZERO="0.0") for i, dtype in enumerate(("f4", "i4", "f8"))]
    path.write_bytes(b"".join(hdus))
    return path


def equal(tensor: torch.Tensor, expected: np.ndarray) -> bool:
    """By numpy, since torch's own threads are not there any more after a fork."""
    return np.array_equal(tensor.numpy(), expected)


def right(f: torchfits.HDUList, i: int) -> bool:
    """Whether some ways to read some pixels give what is there."""
    hdu, row, column = f[i % 3], i * 37 % 250, i * 101 % 2900
    section = hdu.read((slice(row, row + 40, 3), slice(column, column + 50)), dtype=torch.float32)
    windows = hdu.cutouts([(row, column), (200, 5), (row + 1, column + 1)], 30, dtype=torch.float32)
    return (
        equal(section, ARRAY[row : row + 40 : 3, column : column + 50])
        and equal(windows[0], ARRAY[row : row + 30, column : column + 30])
        and equal(windows[1], ARRAY[200:230, 5:35])
        and windows.shape == (3, 30, 30)
        and (i % 9 > 0 or equal(hdu.read(dtype=torch.float32), ARRAY))
    )


@pytest.mark.parametrize("mmap", [True, False])
@pytest.mark.parametrize("threads", [1, 2])
def test_one_list_in_many_threads(path, mmap, threads):
    """Threads that find the HDUs, make the mapping and read all at once, on top of the kernels' own."""
    for _ in range(3):
        f = torchfits.open(path, cache=False, mmap=mmap)
        with torch_threads(threads), f, ThreadPoolExecutor(8) as pool:
            assert all(pool.map(lambda i, f=f: right(f, i), range(100)))


def test_parts_of_one_tensor_in_many_threads(path):
    out = torch.full((40, 300, 60), -1.0)
    with torchfits.open(path) as f, ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: f[0].read((..., slice(i, i + 60)), out=out[i]), range(40)))
    assert all(torch.equal(out[i], EXPECTED[:, i : i + 60]) for i in range(40))


def test_batches_in_many_threads(path, tmp_path):
    paths = [path, *[tmp_path / f"{i}.fits" for i in range(30)]]
    for i, each in enumerate(paths[1:]):
        each.write_bytes(image(counting(SHAPE) + i, N=i))

    def work(k):
        order = [1 + (k * 7 + i) % 30 for i in range(20)]
        stack = torchfits.read_batch([paths[i] for i in order], section=(slice(3, 9), slice(None, 20)))
        keys = torchfits.read_keys([paths[i] for i in order], "N")["N"]
        return keys.tolist() == [i - 1 for i in order] and all(
            torch.equal(part, EXPECTED[3:9, :20] + i - 1) for part, i in zip(stack, order, strict=True)
        )

    with torch_threads(2), ThreadPoolExecutor(6) as pool:
        assert all(pool.map(work, range(60)))


def test_a_fork_while_others_read(path):
    """Of a process with threads inside the kernels; the child reads through the list it inherited."""
    stop, failures = threading.Event(), []
    with torchfits.open(path) as f:
        assert right(f, 0)

        def churn(k):
            i = k
            while not stop.is_set():
                i += 1
                if not right(f, i):
                    failures.append(i)

        readers = [threading.Thread(target=churn, args=(1000 * k,)) for k in range(3)]
        for reader in readers:
            reader.start()
        try:
            for _ in range(8):
                pid = os.fork()
                if pid == 0:
                    code = 2
                    signal.alarm(60)
                    try:
                        mine = torchfits.open(path)
                        code = 0 if all(right(f, i) for i in range(12)) and right(mine, 5) else 1
                    finally:
                        os._exit(code)
                assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        finally:
            stop.set()
            for reader in readers:
                reader.join()
    assert not failures


class Windows(torch.utils.data.Dataset):
    def __init__(self, path):
        self.file = torchfits.open(path)

    def __len__(self):
        return 60

    def __getitem__(self, i):
        hdu = self.file[i % 3]
        return i, torch.get_num_threads(), hdu.cutouts([(i, 7 * i)], 20, dtype=torch.float32)[0], hdu[i, 5:9]


def test_workers_of_a_data_loader(path):
    dataset = Windows(path)
    assert dataset[7][2].shape == (20, 20)
    loader = torch.utils.data.DataLoader(
        dataset, batch_size=None, num_workers=2, multiprocessing_context=multiprocessing.get_context("fork")
    )
    seen = set()
    for i, threads, window, row in loader:
        assert threads == 1
        assert torch.equal(window, EXPECTED[i : i + 20, 7 * i : 7 * i + 20])
        assert torch.equal(row.to(torch.float32), EXPECTED[i, 5:9])
        seen.add(i)
    assert seen == set(range(60))
    dataset.file.close()


@pytest.mark.parametrize("mmap", [True, False])
def test_closing_while_others_read(path, mmap):
    """In a process of its own: to read what was unmapped would end it.

    Somebody opens other files all the time, so that a descriptor that was given back is taken at once.
    """
    other = path.with_name("other.fits")
    other.write_bytes(image(np.full(SHAPE, -5, dtype="f4")))
    found = run_child(
        """
        import itertools, sys, threading, time, torch, torchfits
        from torchfits import FitsIOError
        path, other, mmap = sys.argv[1], sys.argv[2], sys.argv[3] == "True"
        expected = (torch.arange(300 * 3000) % 2**24).to(torch.float32).reshape(300, 3000)
        torch.set_num_threads(2)
        right, errors, stop, failures = [0], [0], threading.Event(), []
        def thief():
            while not stop.is_set():
                with open(other, "rb") as file:
                    file.read(10)
                torchfits.read(other, section=(slice(2), slice(2)))
        def work(f, barrier):
            barrier.wait()
            try:
                for k in itertools.count():
                    row, column = 13 * k % 280, 17 * k % 2980
                    part = f[0].cutouts([(row, column)], 20)[0]
                    if not torch.equal(part, expected[row : row + 20, column : column + 20]):
                        failures.append((row, column))
                    if k % 5 == 1 and not torch.equal(f[0].read(), expected):
                        failures.append("whole")
                    right[0] += 1
            except FitsIOError as error:
                assert "closed" in str(error), error
                errors[0] += 1
            except BaseException as error:
                failures.append(repr(error))
        stealing = threading.Thread(target=thief)
        stealing.start()
        for round_ in range(24):
            f, barrier = torchfits.open(path, mmap=mmap, cache=round_ % 2 == 0), threading.Barrier(4)
            threads = [threading.Thread(target=work, args=(f, barrier)) for _ in range(3)]
            [thread.start() for thread in threads]
            barrier.wait()
            goal = right[0] + round_ % 5
            while right[0] < goal and not failures:
                time.sleep(0.0002)
            f.close()
            torchfits.cache_clear()
            [thread.join() for thread in threads]
        stop.set()
        stealing.join()
        assert not failures, failures[:5]
        print(right[0], errors[0])
        """,
        path,
        other,
        mmap,
    )
    reads, errors = map(int, found.split())
    assert reads > 0
    assert errors == 72


def test_a_closed_list(path):
    f = torchfits.open(path, cache=False)
    hdu = f[0]
    hdu.read((..., slice(5)))
    f.close()
    for read in (hdu.read, lambda: hdu.cutouts([(0, 0)], 3), lambda: hdu[0], lambda: f[0]):
        with pytest.raises(FitsIOError, match="closed"):
            read()


@pytest.mark.parametrize("engine", ["auto", "direct", "cfitsio"])
@pytest.mark.parametrize("mmap", [True, False])
def test_pickles_keep_engine_and_mapping(path, engine, mmap):
    with torchfits.open(path, engine=engine, mmap=mmap) as f:
        f[1].read((..., slice(5)))
        hdu = pickle.loads(pickle.dumps(f[1]))
        other = pickle.loads(pickle.dumps(f))
        assert hdu.engine == other[1].engine == f[1].engine
        assert_same(hdu.read((..., slice(5)), dtype=torch.float32), EXPECTED[:, :5].contiguous())
        assert other._mmap == mmap
        other.close()
        hdu._parent.close()


def test_large_reads_in_threads_and_children_without_torch_threads(tmp_path):
    """One thread is all that a worker may use; what it reads is the same."""
    path, array = tmp_path / "large.fits", noise("i2", (1500, 3001))
    path.write_bytes(image(array))
    expected = torch.from_numpy(array)
    with torchfits.open(path) as f:
        for threads in (1, 2, 5):
            with torch_threads(threads):
                assert_same(f[0].read(), expected)
                assert_same(f[0].read(dtype=torch.float64), expected.to(torch.float64))
