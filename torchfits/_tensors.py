"""FITS types <-> torch dtypes, and the one place where a tensor becomes an address."""

from __future__ import annotations

import ctypes
import functools
import math
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch

from torchfits import _direct
from torchfits.errors import FitsFormatError, FitsUnsupported

Device = torch.device | str | int
_CPU = torch.device("cpu")

# BITPIX -> dtype of the stored values (FITS standard 4.0, section 4.4.1.1)
STORED = {
    8: torch.uint8,
    16: torch.int16,
    32: torch.int32,
    64: torch.int64,
    -32: torch.float32,
    -64: torch.float64,
}
# what our kernels call the dtypes that they write
CODES: dict[torch.dtype, int] = {getattr(torch, name): code for name, code in _direct.TYPES.items()}
DTYPES = {code: dtype for dtype, code in CODES.items()}
# (BITPIX, BZERO) with BSCALE 1 -> exact integers of the other signedness (section 4.4.2.5, table 11)
OTHER_SIGN: dict[tuple[int, float], torch.dtype] = {
    (8, -128): torch.int8,
    (16, 2**15): torch.uint16,
    (32, 2**31): torch.uint32,
    (64, 2**63): torch.uint64,
}
# what any other scaling yields: wide enough for the stored values
SCALED = {8: torch.float32, 16: torch.float32, 32: torch.float64, 64: torch.float64}

# TFORM letter -> BITPIX of an equal element (section 7.3.1)
BITPIX_OF_TFORM = {"B": 8, "I": 16, "J": 32, "K": 64, "E": -32, "D": -64}
COMPLEX = {"C": torch.complex64, "M": torch.complex128}


def value_dtype(bitpix: int, scale: float, zero: float, null: int | None) -> torch.dtype:
    """The dtype of the values, after scaling, that a file's integers or floats stand for."""
    if bitpix < 0:
        return STORED[bitpix]
    if scale == 1 and (bitpix, zero) in OTHER_SIGN:
        return OTHER_SIGN[bitpix, zero]
    if scale == 1 and zero == 0 and null is None:
        return STORED[bitpix]
    return SCALED[bitpix]


@functools.cache
def _processors() -> int:
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(there, _direct.processor_quota() or there)


class _Mine(threading.local):
    threads = 0  # a part of all, where others work beside this thread


_mine = _Mine()


def threads() -> int:
    """How many threads a job may use: as many as torch (1 in a DataLoader worker), if there are so many."""
    return _mine.threads or min(torch.get_num_threads(), _processors())


@contextmanager
def using_threads(count: int) -> Iterator[None]:
    """What this thread does within: jobs of so many threads, where others work beside it."""
    before, _mine.threads = _mine.threads, count
    try:
        yield
    finally:
        _mine.threads = before


def allocate(shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
    """A new tensor on the host, whatever the default device is.

    A large one lies in memory that was used before, or on huge pages: touching fresh pages would cost more
    than reading. It is like any other, but `resize_` cannot make it larger.

    FitsUnsupported where torch cannot hold `shape`, MemoryError where memory cannot.
    """
    if len(shape) > 64:
        raise FitsUnsupported(f"an array of {len(shape)} axes: torch holds at most 64")
    count = math.prod(shape)
    size = count * dtype.itemsize
    if size >= 2**63:
        raise FitsUnsupported(f"an array of shape {tuple(shape)} is beyond the address space")
    if size >= _direct.BLOCK_FROM:
        # a view would take twice as long to make
        return torch.frombuffer(_direct.Block(size), dtype=dtype).resize_(tuple(shape))
    try:
        return torch.empty(tuple(shape), dtype=dtype, device="cpu")
    except RuntimeError as error:
        if "alloc" in str(error):
            raise MemoryError(f"no memory for a {dtype} tensor of shape {tuple(shape)}") from error
        if "overflow" in str(error):  # of strides, also where there is no element
            raise FitsUnsupported(f"an array of shape {tuple(shape)} is beyond torch") from error
        raise


def check_device(device: torch.device | str | int) -> torch.device:
    """`device` as a torch.device; a clear error now rather than after the read where it is absent."""
    if device == "cpu":
        return _CPU
    try:
        resolved = torch.device(device)
    except RuntimeError as error:
        raise FitsUnsupported(f"device {device!r}: {error}") from error
    if resolved.type == "cuda" and not torch.cuda.is_available():
        raise FitsUnsupported(f"device {str(resolved)!r}: this torch sees no CUDA device; use device='cpu'")
    if resolved.type == "mps" and not torch.backends.mps.is_available():
        raise FitsUnsupported(f"device {str(resolved)!r}: this torch sees no MPS device; use device='cpu'")
    return resolved


def target_of(out: torch.Tensor | None, device: Device) -> torch.device:
    """Where a tensor is to be: that of `out` where it is given."""
    if out is not None and not isinstance(out, torch.Tensor):
        raise TypeError(f"out must be a torch.Tensor, not {type(out).__name__}")
    return check_device(out.device if out is not None else device)


def check_dtype(dtype: torch.dtype | None) -> torch.dtype | None:
    """`dtype` where tensors of it can be made of numbers: TypeError or FitsUnsupported otherwise."""
    if dtype is not None and not isinstance(dtype, torch.dtype):
        raise TypeError(f"dtype must be a torch.dtype, not {dtype!r}")
    if dtype is not None and dtype not in CODES and not dtype.is_floating_point and not dtype.is_complex:
        raise FitsUnsupported(f"images are not read as {dtype}")
    return dtype


def element_of(wanted: torch.dtype) -> torch.dtype:
    """What our kernels make where `wanted` is asked for: what only torch can convert to begins as float64."""
    if wanted in CODES:
        return wanted
    return torch.float32 if wanted == torch.complex64 else torch.float64


def check_out(out: torch.Tensor, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
    """`out` where it is a contiguous tensor of this shape and dtype; FitsFormatError says what is not."""
    if tuple(out.shape) != tuple(shape):
        raise FitsFormatError(f"out has shape {tuple(out.shape)}, the data have {tuple(shape)}")
    if out.dtype != dtype:
        raise FitsFormatError(
            f"out is {out.dtype}, the data are {dtype}; ask for dtype={out.dtype} to convert"
        )
    if not out.is_contiguous():
        raise FitsFormatError("out must be contiguous")
    if out.device.type == "cpu" and out.data_ptr() % out.element_size():
        raise FitsFormatError("out must be aligned to its elements")
    if out.is_neg() or out.is_conj() or out.requires_grad:
        raise FitsFormatError(
            "out must be plain memory: no view that negates or conjugates, no leaf of autograd"
        )
    return out


def integers(values: object, what: str) -> torch.Tensor:
    """`values`, a tensor or what torch makes one of, as int64 on the host; TypeError for other numbers."""
    if hasattr(
        getattr(values, "dtype", None), "newbyteorder"
    ):  # of numpy, where torch does not take every array
        values = values.astype(values.dtype.newbyteorder("="), order="C")  # type: ignore[attr-defined]
    try:
        found = torch.as_tensor(values, device="cpu")
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise TypeError(f"{what}: {error}") from None
    if found.numel() == 0 and found.ndim == 1:
        return torch.empty((0,), dtype=torch.int64, device="cpu")
    if found.dtype == torch.bool or found.is_floating_point() or found.is_complex():
        raise TypeError(f"{what} must be integers, not {found.dtype}")
    if found.dtype == torch.uint64:  # what does not fit stays far outside
        return found.view(torch.int64).where(found.view(torch.int64) >= 0, 2**63 - 1)
    return found.to(torch.int64)


def address(tensor: torch.Tensor) -> tuple[int, int]:
    """(address, bytes) of a contiguous CPU tensor, for the C layers to write into or read from."""
    if not tensor.is_cpu or not tensor.is_contiguous():
        raise ValueError("only the memory of a contiguous CPU tensor can be handed to C")
    where, size = tensor.data_ptr(), tensor.nbytes
    if not where and size:
        raise FitsUnsupported("a tensor without memory, such as a fake one, can hold no data")
    return where, size


def cast_into(target: torch.Tensor, values: torch.Tensor) -> None:
    """Write `values` to `target`, of the same number of elements, converted as our kernels do."""
    _direct.cast(
        CODES[target.dtype], target.data_ptr(), CODES[values.dtype], values.data_ptr(), target.numel()
    )


def element_bytes(value: float, dtype: torch.dtype) -> bytes | None:
    """`value` as an element of `dtype`; None where it cannot hold it."""
    if dtype.is_floating_point:
        if isinstance(value, int) and abs(value) > sys.float_info.max:
            return None
        return to_bytes(torch.tensor(value, dtype=dtype, device="cpu"))
    low, high = (0, 1) if dtype == torch.bool else (torch.iinfo(dtype).min, torch.iinfo(dtype).max)
    if not low <= value <= high or int(value) != value:  # not NaN either
        return None
    return int(value).to_bytes(dtype.itemsize, sys.byteorder, signed=low < 0)


# what is on its way to another device at a time
_PIECE_BYTES = 8 << 20
_PIECES = 3

Read = Callable[[torch.Tensor], None]
Parts = Callable[[int], Iterable[tuple[int, Read]]]


def deliver(
    shape: Sequence[int],
    wanted: torch.dtype,
    whole: Read,
    parts: Parts,
    device: torch.device,
    out: torch.Tensor | None,
) -> torch.Tensor:
    """A tensor of `shape` and dtype `wanted` on `device`, or `out`, with what is read.

    `whole` reads it all into a contiguous CPU tensor of dtype `element_of(wanted)`. `parts(most)` gives, in
    the order of the elements, how many elements (at most so many) a part has and what reads it likewise.
    """
    if wanted not in CODES:
        values = deliver(shape, element_of(wanted), whole, parts, device, None)
        return values.to(wanted) if out is None else out.copy_(values)
    if device != _CPU:
        tensor = torch.empty(tuple(shape), dtype=wanted, device=device) if out is None else out
        return _through_host(tensor, parts)
    tensor = allocate(shape, wanted) if out is None else out
    whole(tensor)
    if out is not None and not out.is_inference():
        # autograd, which may have kept it for a backward pass, shall know
        torch.autograd.graph.increment_version(out)
    return tensor


def _through_host(tensor: torch.Tensor, parts: Parts) -> torch.Tensor:
    """Fill a tensor of another device by way of a ring of pieces on the host, pinned where it is a CUDA one.

    Copies are queued on the current stream, so that the next piece is read while the last one travels;
    a piece is used again when the event behind its copy has passed.
    """
    cuda = tensor.device.type == "cuda"
    most = max(_PIECE_BYTES // tensor.element_size(), 1)
    flat, at = tensor.view(-1), 0
    ring: deque[tuple[torch.Tensor, torch.cuda.Event | None]] = deque()
    for count, read in parts(most):
        if len(ring) < _PIECES:
            piece, passed = (
                torch.empty(min(most, len(flat)), dtype=tensor.dtype, device="cpu", pin_memory=cuda),
                None,
            )
        else:
            piece, passed = ring.popleft()
        if count > len(piece):  # a window that is larger than a piece
            piece, passed = torch.empty(count, dtype=tensor.dtype, device="cpu", pin_memory=cuda), None
        if passed is not None:
            passed.synchronize()
        read(piece[:count])
        flat[at : at + count].copy_(piece[:count], non_blocking=cuda)
        if cuda:
            passed = torch.cuda.Event()
            passed.record(torch.cuda.current_stream(tensor.device))
        ring.append((piece, passed))
        at += count
    return tensor


def big_endian(tensor: torch.Tensor) -> torch.Tensor:
    """The FITS bytes of `tensor`: uint8, shape (numel, bytes per element), most significant byte first.

    Complex numbers are two reals one after the other; bool is the letters T and F.
    """
    tensor = tensor.detach().to("cpu").resolve_conj().resolve_neg().reshape(-1)
    if tensor.dtype == torch.bool:
        return torch.where(tensor, ord("T"), ord("F")).to(torch.uint8)[:, None]
    if tensor.stride(0) != 1:  # a single element counts as contiguous whatever its stride
        tensor = tensor.clone(memory_format=torch.contiguous_format)
    width = tensor.element_size()
    if width == 1:
        return tensor.view(torch.uint8)[:, None]
    numbers = torch.view_as_real(tensor) if tensor.is_complex() else tensor
    raw = allocate((len(tensor), width), torch.uint8)
    _direct.to_file_order(CODES[numbers.dtype], address(raw)[0], address(numbers)[0], numbers.numel())
    return raw


def as_buffer(tensor: torch.Tensor) -> memoryview:
    """The memory of a contiguous CPU tensor, not copied; good only while the tensor lives."""
    where, size = address(tensor)
    return memoryview((ctypes.c_char * size).from_address(where)).cast("B") if size else memoryview(b"")


def to_bytes(tensor: torch.Tensor) -> bytes:
    """The memory of `tensor`, copied."""
    return ctypes.string_at(*address(tensor.cpu().contiguous()))
