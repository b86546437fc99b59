"""The memory of large tensors: used again, alive as long as any view, at home in every corner of torch."""

from __future__ import annotations

import copy
import itertools
import os
import pickle
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from astropy.io import fits

import torchfits
from torchfits import _direct, _tensors

pytestmark = pytest.mark.native
needs_blocks = pytest.mark.skipif(_direct.BLOCK_FROM > 1 << 40, reason="the sanitizer wants malloc")


@pytest.fixture(autouse=True)
def nothing_kept():
    torchfits.cache_clear()
    yield
    torchfits.cache_clear()
    assert _direct.memory_kept() == 0


@needs_blocks
@pytest.mark.parametrize("size", [2 << 20, (5 << 20) + 1, 70 << 20])
def test_memory_is_used_again(size):
    tensor = _tensors.allocate((size,), torch.uint8)
    where = tensor.data_ptr()
    tensor[0], tensor[-1] = 1, 2
    assert where % (2 << 20) == 0
    view = tensor[-1:]
    del tensor
    assert _direct.memory_kept() == 0
    assert view.item() == 2
    del view
    assert size <= _direct.memory_kept() <= size + (2 << 20)
    assert _tensors.allocate((size,), torch.uint8).data_ptr() == where


@needs_blocks
@pytest.mark.parametrize("size", [_direct.BLOCK_FROM, _direct.BLOCK_FROM + 1, 1_000_003, (2 << 20) - 1])
def test_smaller_tensors_share_slabs(size):
    tensors = [_tensors.allocate((size,), torch.uint8) for _ in range(150)]
    for i, tensor in enumerate(tensors):
        tensor.fill_(i)
    assert all(bool((tensor == i).all()) for i, tensor in enumerate(tensors))
    ends = sorted((tensor.data_ptr(), tensor.data_ptr() + size) for tensor in tensors)
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(ends))
    # nothing is wasted but an eighth, and the end of the last slab
    assert len({where >> 21 for where, _ in ends}) * (2 << 20) <= 150 * size * 9 / 8 + 2 * (8 << 20)
    for tensor in tensors[::2]:
        tensor.fill_(7)
    del tensor, tensors[::2]
    again = [_tensors.allocate((size,), torch.uint8) for _ in range(75)]
    places = {where for where, _ in ends}
    assert all(tensor.data_ptr() in places for tensor in again)
    assert all(bool((tensor == 2 * i + 1).all()) for i, tensor in enumerate(tensors))
    del tensors, again
    assert _direct.memory_kept() % (8 << 20) == 0 < _direct.memory_kept()


@needs_blocks
def test_a_slab_serves_any_size_once_it_is_empty():
    for size in range(_direct.BLOCK_FROM, 2 << 20, 77_777):
        tensors = [_tensors.allocate((size,), torch.uint8) for _ in range(3)]
        del tensors
    assert _direct.memory_kept() == 8 << 20


def test_what_is_too_small_for_a_block():
    with pytest.raises(ValueError, match="malloc"):
        _direct.Block(1000)


@needs_blocks
def test_what_is_kept_is_bounded():
    large = [_tensors.allocate((300 << 20,), torch.uint8) for _ in range(8)]  # not touched
    del large
    assert 0 < _direct.memory_kept() <= 1 << 30
    many = [_tensors.allocate((2 << 20,), torch.uint8) for _ in range(1100)]
    del many
    assert 0 < _direct.memory_kept() <= 1 << 30


def test_large_tensors_are_like_others(tmp_path):
    path = tmp_path / "a.fits"
    array = np.arange(900 * 700, dtype="f4").reshape(900, 700)
    fits.writeto(path, array)
    tensor = torchfits.read(path)
    expected = torch.from_numpy(array)
    for other in (pickle.loads(pickle.dumps(tensor)), copy.deepcopy(tensor), tensor.clone(), tensor.numpy()):
        assert torch.equal(torch.as_tensor(other), expected)
    torch.save(tensor, tmp_path / "a.pt")
    assert torch.equal(torch.load(tmp_path / "a.pt"), expected)
    assert torch.equal(tensor.share_memory_(), expected)
    assert tensor.requires_grad_().sum().isfinite()


def test_many_threads_have_memory_of_their_own():
    wrong = []

    def work(number: int) -> None:
        for i in range(50):
            tensor = _tensors.allocate(((2 + i % 3) << 20,), torch.uint8)
            tensor.fill_(number)
            if not bool((tensor == number).all()):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@needs_blocks
def test_a_forked_child_begins_with_nothing_kept():
    # numpy: torch's own threads are not there in the child
    held = _tensors.allocate((3 << 20,), torch.uint8).numpy()
    held[:] = 7
    free = [_tensors.allocate((3 << 20,), torch.uint8)]
    free.clear()
    assert _direct.memory_kept() > 0
    pid = os.fork()
    if pid == 0:
        signal.alarm(30)
        good = _direct.memory_kept() == 0
        _tensors.allocate((3 << 20,), torch.uint8).numpy()[:] = 1
        os._exit(0 if good and bool((held == 7).all()) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


LIMITED = """
import resource, torch
from torchfits import _direct, _tensors
held = [_tensors.allocate((600 << 20,), torch.uint8)]
held.clear()
assert _direct.memory_kept() == 600 << 20
now = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (now + (300 << 20),) * 2)
print(len(_tensors.allocate((700 << 20,), torch.uint8)))
"""


@needs_blocks
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_what_is_kept_makes_no_allocation_fail():
    done = subprocess.run([sys.executable, "-c", LIMITED], capture_output=True, text=True, timeout=100)
    assert done.stdout == f"{700 << 20}\n", done.stderr


PEAK = """
import resource, sys, torchfits
def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) << 10
torchfits.read(sys.argv[1])
before = peak()
tensor = torchfits.read(sys.argv[2])
print(peak() - before - tensor.nbytes)
"""


@needs_blocks
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("scaled", [False, True])
def test_a_full_read_takes_the_tensor_and_little_more(tmp_path, scaled):
    small, large = tmp_path / "small.fits", tmp_path / "large.fits"
    for path, side in ((small, 64), (large, 3000)):
        hdu = fits.PrimaryHDU(np.arange(side * side, dtype="i4").astype("i2").reshape(side, side))
        hdu.writeto(path)
        if scaled:
            data = path.read_bytes()
            end = data.index(b"END" + b" " * 77)
            card = b"BSCALE  =                  0.5".ljust(80)
            path.write_bytes(data[:end] + card + data[end : end + 80] + data[end + 160 :])
    output = subprocess.run(
        [sys.executable, "-c", PEAK, str(small), str(large)], capture_output=True, text=True, check=True
    ).stdout
    assert int(output) <= 8 << 20


@pytest.mark.parametrize("device", ["meta"])
def test_the_default_device_does_not_matter(tmp_path, device):
    path = tmp_path / "a.fits"
    table = fits.BinTableHDU.from_columns(
        [
            fits.Column("X", "E", array=np.arange(3.0)),
            fits.Column("V", "PE()", array=np.array([np.ones(i) for i in range(3)], dtype=object)),
        ]
    )
    fits.HDUList([fits.PrimaryHDU(np.arange(20, dtype="i2").reshape(4, 5)), table]).writeto(path)
    with torch.device(device):
        image = torchfits.read(path, 0)
        cuts = torchfits.open(path)[0].cutouts([(0, 0), (3, 3)], 2, anchor="center", fill=0)
        columns = torchfits.read(path, 1)
        keys = torchfits.read_keys([path], ["NAXIS"])
        stack = torchfits.read_batch([path])
        rows = torchfits.gather([(path, 1, 2)], ["X"])
    assert image.tolist() == np.arange(20).reshape(4, 5).tolist()
    assert cuts.device.type == stack.device.type == keys["NAXIS"].device.type == "cpu"
    assert columns["X"].tolist() == [0, 1, 2]
    assert rows["X"].tolist() == [2]
