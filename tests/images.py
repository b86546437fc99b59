"""For the tests of the direct engine: images as raw bytes, what they must become, children that may die.

The oracle is numpy: float64 for what is scaled, Python's integers for the unsigned conventions, and nothing
of torchfits.
"""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import textwrap
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

import torchfits

BLOCK = 2880
ENGINES = ("direct", "cfitsio")
STORED = {8: "u1", 16: "i2", 32: "i4", 64: "i8", -32: "f4", -64: "f8"}
ZERO_OF_OTHER_SIGN = {8: -128, 16: 2**15, 32: 2**31, 64: 2**63}
OTHER_SIGN = {8: "i1", 16: "u2", 32: "u4", 64: "u8"}
# AddressSanitizer takes memory and time of its own, and ends the process in its own way
SANITIZED = "asan" in os.environ.get("LD_PRELOAD", "")
DTYPES = (
    torch.bool, torch.uint8, torch.uint16, torch.uint32, torch.uint64, torch.int8, torch.int16, torch.int32,
    torch.int64, torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64,
)  # fmt: skip


# ---------------------------------------------------------------------------- files as raw bytes


def card(key: str, value: object) -> bytes:
    """A card; a str is taken as it is, quotes and all."""
    text = {True: "T", False: "F"}[value] if isinstance(value, bool) else f"{value}"
    return f"{key:<8}= {text:>20}".ljust(80).encode()


def header(cards: dict[str, object] | list[bytes], primary: bool = True) -> bytes:
    first = card("SIMPLE", True) if primary else card("XTENSION", "'IMAGE   '")
    rest = [card(*each) for each in cards.items()] if isinstance(cards, dict) else cards
    data = b"".join([first, *rest, b"END".ljust(80)])
    return data + b" " * (-len(data) % BLOCK)


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % BLOCK)


def image(array: np.ndarray, primary: bool = True, **cards: object) -> bytes:
    """An image HDU of `array`, stored as it is but big-endian; `cards` come after the mandatory ones."""
    bitpix = {"u1": 8, "i2": 16, "i4": 32, "i8": 64, "f4": -32, "f8": -64}[array.dtype.str[1:]]
    shape = {f"NAXIS{i + 1}": n for i, n in enumerate(reversed(array.shape))}
    counts = {} if primary else {"PCOUNT": 0, "GCOUNT": 1}
    big = array.astype(array.dtype.newbyteorder(">"))
    head = header({"BITPIX": bitpix, "NAXIS": array.ndim, **shape, **counts, **cards}, primary)
    return head + padded(big.tobytes())


def table(nrows: int, row_bytes: int) -> bytes:
    """A binary table of one column of bytes, of no interest but for its size."""
    cards = [
        card("BITPIX", 8), card("NAXIS", 2), card("NAXIS1", row_bytes), card("NAXIS2", nrows),
        card("PCOUNT", 0), card("GCOUNT", 1), card("TFIELDS", 1), card("TFORM1", f"'{row_bytes}B'"),
    ]  # fmt: skip
    data = b"".join([card("XTENSION", "'BINTABLE'"), *cards, b"END".ljust(80)])
    return data + b" " * (-len(data) % BLOCK) + padded(b"\x5a" * (nrows * row_bytes))


EMPTY = header({"BITPIX": 8, "NAXIS": 0})


# ---------------------------------------------------------------------------- the oracle


@dataclass(frozen=True)
class Scaling:
    """The scaling keywords of an image; `zero` None for the BZERO of the other signedness."""

    scale: float = 1
    zero: float | None = 0
    blank: int | None = None

    def cards(self, bitpix: int) -> dict[str, object]:
        found: dict[str, object] = {}
        zero = ZERO_OF_OTHER_SIGN[bitpix] if self.zero is None else self.zero
        if self.scale != 1 or self.zero is None:
            found["BSCALE"] = repr(self.scale)
        if zero != 0:
            found["BZERO"] = zero
        if self.blank is not None:
            found["BLANK"] = self.blank
        return found


def physical(stored: np.ndarray, bitpix: int, scaling: Scaling, raw: bool = False) -> np.ndarray:
    """The values that the file stands for, before they are rounded to any dtype."""
    if raw:
        return stored
    if scaling.zero is None:
        zero = ZERO_OF_OTHER_SIGN[bitpix]
        exact = [int(value) + zero for value in stored.ravel()]
        return np.array(exact, dtype=object).astype(OTHER_SIGN[bitpix]).reshape(stored.shape)
    null = scaling.blank if bitpix > 0 else None
    if scaling.scale == 1 and scaling.zero == 0 and null is None:
        return stored
    with np.errstate(all="ignore"):
        values = stored.astype("f8") * np.float64(scaling.scale) + np.float64(scaling.zero)
    if null is not None:
        values[stored == null] = math.nan
    return values


def natural(values: np.ndarray, bitpix: int) -> torch.dtype:
    """README, 'Types': what `read` gives without dtype=."""
    exact = values.dtype.kind != "f" or (bitpix < 0 and values.dtype.itemsize == abs(bitpix) // 8)
    name = values.dtype.name if exact else "float32" if bitpix in (8, 16, -32) else "float64"
    return getattr(torch, name)


def converted(values: np.ndarray, dtype: torch.dtype) -> torch.Tensor:
    """`values` as `dtype`, by the rules of `ImageHDU.read`."""
    with np.errstate(all="ignore"):
        if dtype in (torch.float16, torch.bfloat16):
            return torch.from_numpy(values.astype("f4")).to(dtype)
        if dtype == torch.complex64:
            parts = values.astype("f4"), np.zeros(values.shape, dtype="f4")
            return torch.complex(*map(torch.from_numpy, parts))
        to = np.dtype(str(dtype).removeprefix("torch."))
        if to.kind in "iu" and values.dtype.kind == "f":
            low, high = np.iinfo(to).min, np.iinfo(to).max
            numbers = values.ravel().tolist()
            whole = [0 if v != v else high if v > high else low if v < low else int(v) for v in numbers]
            return torch.from_numpy(np.array(whole, dtype=to).reshape(values.shape))
        return torch.from_numpy(values.astype(to))


def bits(tensor: torch.Tensor) -> bytes:
    """The bytes of a tensor; every NaN that a conversion made counts as the same."""
    tensor = tensor.detach().contiguous().clone()
    if tensor.dtype.is_floating_point:
        tensor[tensor.isnan()] = math.nan
    if tensor.dtype == torch.complex64:
        tensor.real[tensor.real.isnan()] = math.nan
    return exact_bits(tensor)


def exact_bits(tensor: torch.Tensor) -> bytes:
    return (tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor).numpy().tobytes()


def assert_same(tensor: torch.Tensor, expected: torch.Tensor, *, exact: bool = False) -> None:
    """The same dtype, shape and bits; with `exact` those of NaN too."""
    assert tensor.dtype == expected.dtype
    assert tensor.shape == expected.shape
    of = exact_bits if exact else bits
    if of(tensor) != of(expected):
        rows = [
            np.frombuffer(of(each), dtype=np.uint8).reshape(-1, each.element_size())
            for each in (tensor, expected)
        ]
        differ = np.flatnonzero((rows[0] != rows[1]).any(1))
        pair = [each.reshape(-1)[differ[0]].item() for each in (tensor, expected)]
        raise AssertionError(
            f"{len(differ)} pixels differ, first number {differ[0]}: {pair[0]}, not {pair[1]}"
        )


def noise(stored: str, shape: tuple[int, ...], seed: int = 5) -> np.ndarray:
    """Random numbers of a stored type, native byte order; reals of all sizes, without NaN."""
    rng = np.random.default_rng(seed)
    if stored[0] == "f":
        return (rng.normal(size=shape) * 10.0 ** rng.integers(-6, 7, shape)).astype(stored)
    info = np.iinfo(stored)
    return rng.integers(info.min, info.max, shape, endpoint=True, dtype=stored)


def counting(shape: tuple[int, ...], dtype: str = "f4") -> np.ndarray:
    """Pixels that say where they are."""
    return (np.arange(math.prod(shape)) % 2**24).astype(dtype).reshape(shape)


# ---------------------------------------------------------------------------- surroundings


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def mapped(path: object) -> bool:
    """Whether this process has the file in its address space."""
    with open("/proc/self/maps") as maps:
        return any(line.rstrip().endswith(os.fspath(path)) for line in maps)  # type: ignore[arg-type]


def in_fork(check: Callable[[], None], seconds: int = 60) -> None:
    """`check` in a forked child: what it raises is raised here, and a signal that ends it is told.

    Torch's own threads are not there after a fork: compare with numpy, or `exact`.
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            signal.alarm(seconds)
            check()
            os.write(writer, b"right")
        except BaseException:
            os.write(writer, traceback.format_exc().encode()[-60_000:])
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as pipe:
        said = pipe.read().decode()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert (status, said) == (0, "right"), f"ended with {status}\n{said}"


def run_fork(script: str, *arguments: object) -> None:
    """A script in a forked child: quicker than `run_child`, where it need not begin with a fresh process."""

    def run() -> None:
        sys.argv[1:] = map(str, arguments)
        exec(textwrap.dedent(script), {"__name__": "forked"})

    in_fork(run)


def in_child(script: str, *arguments: object, timeout: float = 120) -> subprocess.CompletedProcess:
    """What becomes of a script in a process of its own, which may be killed, hang or eat memory."""
    paths = [os.path.dirname(os.path.abspath(__file__)), os.path.dirname(os.path.dirname(torchfits.__file__))]
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([*paths, *filter(None, sys.path)])},
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def run_child(script: str, *arguments: object, timeout: float = 120) -> str:
    """What a script prints, in a process of its own that must end well."""
    done = in_child(script, *arguments, timeout=timeout)
    assert done.returncode == 0, f"ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def verify(path: object) -> None:
    """fitsverify, in a child, finds no error and no warning."""
    # of some faults it would tell without end
    bounded = 'timeout 60 fitsverify "$1" 2>&1 | head -c 100000'
    result = subprocess.run(["sh", "-c", bounded, "sh", path], stdout=subprocess.PIPE, check=False)
    report = result.stdout.decode("latin-1")
    assert "found 0 warning(s) and 0 error(s)" in report, report
