"""The way to another device, by pieces through host memory; on CUDA where there is a device."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch
from astropy.io import fits

import torchfits
from torchfits import _tensors
from torchfits.sections import split_ranges

pytestmark = pytest.mark.native
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "a.fits"
    cube = np.arange(7 * 40 * 50, dtype=">f4").reshape(7, 40, 50)
    counts = fits.ImageHDU(np.arange(60 * 70, dtype=">i2").reshape(60, 70))
    counts.header["BSCALE"], counts.header["BZERO"] = 0.5, 3.0
    fits.HDUList([fits.PrimaryHDU(cube), counts]).writeto(path)
    return path


@pytest.mark.parametrize("most", [1, 3, 50, 60, 1999, 2000, 5000, 14000])
@pytest.mark.parametrize("section", [(7, 40, 50), (1, 40, 50), (7, 1, 13), (1, 1, 1)])
def test_split_sections_are_the_section_in_its_order(most, section):
    ranges = [range(2, 2 + 3 * n, 3) for n in section]
    array = np.arange(30 * 130 * 160).reshape(30, 130, 160)
    parts = [array[np.ix_(*part)].ravel() for part in split_ranges(ranges, most)]
    assert np.array_equal(np.concatenate(parts), array[np.ix_(*ranges)].ravel())
    assert max(map(len, parts)) <= most


@pytest.mark.parametrize("piece", [4, 64, 4096, 1 << 20])
def test_pieces_through_host_memory_arrive_in_order(monkeypatch, piece):
    monkeypatch.setattr(_tensors, "_PIECE_BYTES", piece)
    seen: list[int] = []

    def read(first, tensor):
        seen.append(tensor.data_ptr())
        tensor.copy_(torch.arange(first, first + len(tensor), dtype=torch.float32))

    def parts(most):
        for first in range(0, 1001, most):
            count = min(most, 1001 - first)
            yield count, partial(read, first)

    target = torch.full((7, 11, 13), math.nan)
    result = _tensors._through_host(target, parts)
    assert result is target
    assert torch.equal(target.view(-1), torch.arange(1001.0))
    assert len(set(seen)) <= _tensors._PIECES


@needs_cuda
@pytest.mark.parametrize(
    "dtype", [None, torch.float16, torch.bfloat16, torch.float64, torch.int32, torch.complex64]
)
def test_cuda_reads_equal_those_of_the_host(path, dtype, monkeypatch):
    with torchfits.open(path) as f:
        for piece in (_tensors._PIECE_BYTES, 1000):
            monkeypatch.setattr(_tensors, "_PIECE_BYTES", piece)
            for hdu in f:
                there = hdu.read(device="cuda", dtype=dtype)
                assert there.device.type == "cuda"
                assert torch.equal(there.cpu(), hdu.read(dtype=dtype))
                out = torch.empty(hdu.shape, dtype=dtype or hdu.dtype, device="cuda")
                assert hdu.read(out=out, dtype=dtype) is out
                assert torch.equal(out.cpu(), hdu.read(dtype=dtype))
            section = (slice(1, 6, 2), 5, slice(None, None, 3))
            assert torch.equal(f[0].read(section, device="cuda").cpu(), f[0][section])
            cuts = f[1].cutouts([(-3, 4), (50, 60)], 16, device="cuda")
            assert torch.equal(cuts.nan_to_num().cpu(), f[1].cutouts([(-3, 4), (50, 60)], 16).nan_to_num())
    stack = torchfits.read_batch([path] * 5, 1, device="cuda")
    assert torch.equal(stack.cpu(), torchfits.read_batch([path] * 5, 1))


@needs_cuda
def test_cuda_reads_on_several_streams(path):
    with torchfits.open(path) as f:
        expected = f[0].read()
        streams = [torch.cuda.Stream() for _ in range(4)]
        results = []
        for i in range(40):
            with torch.cuda.stream(streams[i % 4]):
                results.append(f[0].read(device="cuda") + i)
        torch.cuda.synchronize()
        assert all(torch.equal(result.cpu(), expected + i) for i, result in enumerate(results))


@needs_cuda
def test_pinned_out_is_filled_in_place(path):
    with torchfits.open(path) as f:
        out = torch.empty(f[0].shape, pin_memory=True)
        assert f[0].read(out=out) is out
        assert torch.equal(out, f[0].read())
