"""What a reading of the engine for images found, each kept as a test."""

from __future__ import annotations

import gzip
import io
import os
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from astropy.io import fits
from images import torch_threads

import torchfits
from torchfits import FitsIOError, FitsWarning, _direct, _tensors

pytestmark = pytest.mark.native


@pytest.fixture
def path(tmp_path):
    fits.writeto(tmp_path / "a.fits", np.arange(65536, dtype="f4").reshape(256, 256))
    return tmp_path / "a.fits"


@pytest.mark.parametrize("mode", ["r+b", "wb"])
def test_a_packed_file_that_is_rewritten(tmp_path, mode):
    def packed(value):
        data = io.BytesIO()
        array = np.full((1500, 1500), value, "f4")
        fits.HDUList([fits.PrimaryHDU(array), *(fits.ImageHDU(array) for _ in range(3))]).writeto(data)
        return gzip.compress(data.getvalue(), 0, mtime=0)

    p = tmp_path / "a.fits.gz"
    p.write_bytes(packed(1))
    with torchfits.open(p) as f:
        assert f[0].shape == (1500, 1500)
        with open(p, mode) as file:
            file.write(packed(2))
        with pytest.raises(FitsIOError, match="changed"):
            f[0].read()


def test_autograd_sees_what_is_read_into_out(path):
    out, weight = torch.zeros(256, 256), torch.ones(256, 256, requires_grad=True)
    loss = (weight * out).sum()
    torchfits.read(path, out=out)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_out_in_inference_mode(path):
    with torch.inference_mode():
        out = torch.zeros(256, 256)
        assert torchfits.read(path, out=out) is out


def test_repr_while_others_look_for_hdus(tmp_path):
    p = tmp_path / "m.fits"
    fits.HDUList(
        [fits.PrimaryHDU()] + [fits.ImageHDU(np.zeros(2), name=f"E{i}") for i in range(400)]
    ).writeto(p)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    failures = []
    try:
        for _ in range(3):
            with torchfits.open(p, cache=False) as f:
                walker = threading.Thread(target=lambda: list(f))
                walker.start()
                while walker.is_alive():
                    try:
                        repr(f)
                    except RuntimeError as e:
                        failures.append(e)
                        break
                walker.join()
    finally:
        sys.setswitchinterval(before)
    assert not failures


@pytest.mark.parametrize("bad", ["x\0y", "x\ud800", b"x\0"])
@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_name_that_is_none_is_filled(path, bad, at):
    paths = [path, path]
    paths.insert(at, bad)
    with pytest.warns(FitsWarning, match="1 of 3 files"):
        stack = torchfits.read_batch(paths, on_error="fill")
    assert [bool(s.isnan().all()) for s in stack] == [i == at for i in range(3)]
    with pytest.raises(FitsIOError):
        torchfits.read_batch(paths)
    with pytest.raises(FitsIOError):
        torchfits.read_batch([bad, bad], on_error="fill")


def test_arguments_of_the_wrong_kind(path):
    with pytest.raises(TypeError, match="keyword"):
        torchfits.read_keys([path], [5])
    for one in (path, str(path), bytes(path)):
        with pytest.raises(TypeError, match="sequence"):
            torchfits.read_keys(one, ["NAXIS"])
        with pytest.raises(TypeError, match="sequence"):
            torchfits.read_batch(one)


@pytest.mark.parametrize("cache", [True, False])
def test_the_path_of_an_error_is_no_pathlike(tmp_path, cache):
    with pytest.raises(torchfits.FitsFileNotFound) as caught:
        torchfits.open(tmp_path / "none.fits", cache=cache)
    assert caught.value.path == str(tmp_path / "none.fits")


def begun(work):
    """How many threads began while `work` ran, at least: the system numbers them one after the other."""
    numbers = []

    def number():
        thread = threading.Thread(target=lambda: numbers.append(threading.get_native_id()))
        thread.start()
        thread.join()

    number()
    work()
    number()
    return numbers[1] - numbers[0] - 1


def test_threads_are_started_for_large_reads_only(path, tmp_path):
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("one processor")
    large = tmp_path / "large.fits"
    fits.writeto(large, np.zeros((1500, 1500), "f4"))
    fits.writeto(tmp_path / "small.fits", np.zeros((500, 500), "f4"))
    with torchfits.open(tmp_path / "small.fits") as f, torchfits.open(large) as g:
        f[0].read(), g[0].read()
        with torch_threads(2):
            assert min(begun(f[0].read) for _ in range(20)) == 0
            assert min(begun(g[0].read) for _ in range(20)) > 0
        with torch_threads(1):
            assert min(begun(g[0].read) for _ in range(20)) == 0


def huge_bytes(address):
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        first, *rest = line.split()
        if "-" in first and not first.endswith(":"):
            low, high = (int(n, 16) for n in first.split("-"))
            inside = low <= address < high
        elif inside and first == "AnonHugePages:":
            return int(rest[0]) << 10


def thp():
    try:
        return "[never]" not in Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text()
    except OSError:
        return False


@pytest.mark.skipif(
    not thp() or _direct.BLOCK_FROM > 1 << 40, reason="no huge pages, or the sanitizer's malloc"
)
@pytest.mark.parametrize("size", [128 << 10, 2 << 20, 70 << 20])
def test_large_tensors_lie_on_huge_pages(size):
    tensor = _tensors.allocate((size,), torch.uint8).fill_(1)
    assert huge_bytes(tensor.data_ptr()) >= max(size, 2 << 20)
