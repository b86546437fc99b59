"""FITS types <-> torch dtypes, and the one place where a tensor becomes an address."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence

import torch

from torchfits.errors import FitsFormatError, FitsUnsupported

Device = torch.device | str | int

# BITPIX -> dtype of the stored values (FITS standard 4.0, section 4.4.1.1)
STORED = {
    8: torch.uint8,
    16: torch.int16,
    32: torch.int32,
    64: torch.int64,
    -32: torch.float32,
    -64: torch.float64,
}
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


def allocate(shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
    """A new tensor; FitsUnsupported where torch cannot hold `shape`, MemoryError where memory cannot."""
    if len(shape) > 64:
        raise FitsUnsupported(f"an array of {len(shape)} axes: torch holds at most 64")
    if math.prod(shape) * dtype.itemsize >= 2**63:
        raise FitsUnsupported(f"an array of shape {tuple(shape)} is beyond the address space")
    try:
        return torch.empty(tuple(shape), dtype=dtype)
    except RuntimeError as error:
        if "alloc" in str(error):
            raise MemoryError(f"no memory for a {dtype} tensor of shape {tuple(shape)}") from error
        if "overflow" in str(error):  # of strides, also where there is no element
            raise FitsUnsupported(f"an array of shape {tuple(shape)} is beyond torch") from error
        raise


def check_device(device: torch.device | str | int) -> torch.device:
    """`device` as a torch.device; a clear error now rather than after the read where it is absent."""
    try:
        resolved = torch.device(device)
    except RuntimeError as error:
        raise FitsUnsupported(f"device {device!r}: {error}") from error
    if resolved.type == "cuda" and not torch.cuda.is_available():
        raise FitsUnsupported(f"device {str(resolved)!r}: this torch sees no CUDA device; use device='cpu'")
    if resolved.type == "mps" and not torch.backends.mps.is_available():
        raise FitsUnsupported(f"device {str(resolved)!r}: this torch sees no MPS device; use device='cpu'")
    return resolved


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
    return out


def address(tensor: torch.Tensor) -> tuple[int, int]:
    """(address, bytes) of a contiguous CPU tensor, for the C layers to write into or read from."""
    if tensor.device.type != "cpu" or not tensor.is_contiguous():
        raise ValueError("only the memory of a contiguous CPU tensor can be handed to C")
    return tensor.data_ptr(), tensor.numel() * tensor.element_size()


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
    parts = 2 if tensor.is_complex() else 1
    raw = tensor.view(torch.uint8)
    return raw.reshape(-1, parts, width // parts).flip(2).reshape(-1, width)


def as_buffer(tensor: torch.Tensor) -> memoryview:
    """The memory of a contiguous CPU tensor, not copied; good only while the tensor lives."""
    where, size = address(tensor)
    return memoryview((ctypes.c_char * size).from_address(where)).cast("B") if size else memoryview(b"")


def to_bytes(tensor: torch.Tensor) -> bytes:
    """The memory of `tensor`, copied."""
    return ctypes.string_at(*address(tensor.cpu().contiguous()))
