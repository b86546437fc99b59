"""read_batch() and read_keys(): the same image, or the same keywords, of many files in one call."""

from __future__ import annotations

import math
import os
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Literal

import torch

from torchfits._direct import Conversion, read_cards, read_stack
from torchfits._tensors import CODES, Device, address, check_device, check_out, deliver, threads
from torchfits.errors import FitsError, FitsFormatError, FitsWarning
from torchfits.hdulist import HDUList, Key, open
from torchfits.header import Card
from torchfits.image import ImageHDU
from torchfits.layout import ImageLayout, Section, axes_of, resolve_section
from torchfits.source import Path, file_path

_PLAIN = re.compile(r"[A-Z0-9_-]{1,8}$")
_SHOWN = 5  # files that a warning names


def read_batch(
    paths: Sequence[Path],
    hdu: Key = 0,
    section: Section = None,
    *,
    out: torch.Tensor | None = None,
    on_error: Literal["raise", "fill"] = "raise",
    dtype: torch.dtype | None = None,
    device: Device = "cpu",
) -> torch.Tensor:
    """Read the same image of many files into one stacked tensor.

    Plain images are opened and read by our own kernels, without the GIL and in several threads;
    compressed ones, and all that is unusual, one after the other. Files are opened anew: the cache of open
    files is neither used nor filled.

    Args:
        paths: The files; a path may come more than once.
        hdu: Index, EXTNAME or (EXTNAME, EXTVER), the same in each.
        section: As in `ImageHDU.read`, the same of each.
        out: A contiguous tensor of the right shape and dtype to read into; it is returned.
        on_error: 'raise' the first error, or 'fill' the place of each file that fails with NaN, which needs a
            floating dtype, and name them in one FitsWarning.
        dtype, device: As in `ImageHDU.read`.

    Returns:
        A tensor (N, ...): the section of each file in the order of `paths`. The first file that can be read
        decides the shape, and unless `dtype` or `out` is given the dtype; without paths it is of shape (0,).

    Raises:
        FitsFormatError: A file differs in shape or dtype; or as `open` and `ImageHDU.read` raise, with the
            path of the file. With on_error='fill' only where no file can be read.

    Example:
        >>> torchfits.read_batch(['image.fits', 'image.fits'], section=(0, slice(0, 2)))
        tensor([[0., 1.],
                [0., 1.]])
    """
    if on_error not in ("raise", "fill"):
        raise ValueError(f"on_error {on_error!r}: 'raise' or 'fill'")
    if out is not None and not isinstance(out, torch.Tensor):
        raise TypeError(f"out must be a torch.Tensor, not {type(out).__name__}")
    target = check_device(out.device if out is not None else device)
    dtype = out.dtype if dtype is None and out is not None else dtype
    names = [file_path(path) for path in paths]
    if not names:
        return torch.empty((0,), dtype=dtype or torch.float32, device=target) if out is None else out
    batch = _Batch(names, hdu, section, on_error == "fill")
    wanted = dtype or batch.natural
    if dtype is not None:
        batch.only = None
    if on_error == "fill" and not wanted.is_floating_point:
        raise FitsFormatError(
            f"{wanted} has no NaN to fill with; pass a floating dtype=, or on_error='raise'"
        )
    shape = (len(names), *batch.shape)
    if out is not None:
        check_out(out, shape, wanted)
    stack = deliver(shape, wanted if wanted in CODES else batch.natural, batch.parts, wanted, target, out)
    if batch.failed:
        warnings.warn(batch.report(), FitsWarning, stacklevel=2)
    return stack


class _Batch:
    """The files of one call; the first that can be opened decides what an image of the batch is."""

    def __init__(self, names: list[str | bytes], hdu: Key, section: Section, fill: bool):
        self.names, self.hdu, self.section, self.fill = names, hdu, section, fill
        self.failed: dict[int, FitsError] = {}
        self.image, self.natural = self._first()
        self.ranges, self.shape = resolve_section(section, self.image.shape)
        self.only: torch.dtype | None = self.natural  # None where every dtype is converted

    def _first(self) -> tuple[ImageLayout, torch.dtype]:
        for i, name in enumerate(self.names):
            try:
                with open(name, cache=False) as file:
                    found = self._find(file)
                    return found._image(), found.dtype
            except FitsError as error:
                self.failed[i] = error
                if not self.fill:
                    break
        raise self.failed[0]

    def _find(self, file: HDUList) -> ImageHDU:
        found = file[self.hdu]
        if not isinstance(found, ImageHDU):
            raise FitsFormatError("not an image", path=file.path, hdu=found.index)
        return found

    def parts(self, most: int | None) -> Iterator[tuple[int, Callable[[torch.Tensor], None]]]:
        pixels, count = math.prod(self.shape), len(self.names)
        step = count if most is None else max(most // max(pixels, 1), 1)
        for first in range(0, count, step):
            last = min(first + step, count)
            yield (last - first) * pixels, partial(self._read, first, last)

    def _read(self, first: int, last: int, tensor: torch.Tensor) -> None:
        """Read files first..last: by our kernels in one call, those that are left one by one."""
        stack = tensor.view(last - first, *self.shape)
        for i, done in enumerate(self._read_plain(self.names[first:last], stack), first):
            if done:
                continue
            try:
                if i in self.failed:
                    raise self.failed[i]
                self._read_one(self.names[i], stack[i - first])
            except FitsError as error:
                if not self.fill:
                    raise
                self.failed[i] = error
                stack[i - first].fill_(math.nan)

    def _read_plain(self, names: list[str | bytes], stack: torch.Tensor) -> Sequence[int]:
        which, image = _which(self.hdu), self.image
        if which is None or stack.numel() == 0:
            return bytes(len(names))
        return read_stack(
            [os.fsencode(name) for name in names],
            which,
            image.bitpix,
            image.shape,
            Conversion(image.bitpix, image.scale, image.zero, image.blank, CODES[stack.dtype]),
            self.only is None,
            axes_of(self.ranges, image),
            *address(stack),
            threads(),
        )

    def _read_one(self, name: str | bytes, target: torch.Tensor) -> None:
        with open(name, cache=False) as file:
            found = self._find(file)
            if found.shape != self.image.shape:
                problem = f"the image is of shape {found.shape}, the batch of {self.image.shape}"
            elif self.only not in (None, found.dtype):
                problem = f"the image is {found.dtype}, the batch {self.only}; ask for dtype= to convert"
            else:
                found.read(self.section, out=target)
                return
            raise FitsFormatError(problem, path=file.path, hdu=found.index)

    def report(self) -> str:
        shown = "; ".join(str(self.failed[i]) for i in sorted(self.failed)[:_SHOWN])
        more = f"; and {len(self.failed) - _SHOWN} more" if len(self.failed) > _SHOWN else ""
        return f"{len(self.failed)} of {len(self.names)} files are NaN: {shown}{more}"


def _which(hdu: Key) -> int | tuple[bytes, int | None] | None:
    """How C finds an HDU; None where it cannot."""
    if isinstance(hdu, int) and not isinstance(hdu, bool):
        return hdu if hdu >= 0 else None
    name, version = hdu if isinstance(hdu, tuple) and len(hdu) == 2 else (hdu, None)
    if not isinstance(name, str) or not name.isascii() or not isinstance(version, (int, type(None))):
        return None
    return name.strip().upper().encode(), version


def read_keys(
    paths: Sequence[Path], keys: str | Sequence[str], hdu: Key = 0
) -> dict[str, list | torch.Tensor]:
    """Read the values of some keywords from the same HDU of many files.

    Args:
        paths: The files.
        keys: Keywords, in any case.
        hdu: Index, EXTNAME or (EXTNAME, EXTVER), the same in each file.

    Returns:
        Each of `keys` with a value a file: a tensor (N,) where all are bool, all are int (int64) or all are
        numbers (float64), else a list, with None where a header lacks the keyword.

    Raises:
        FitsError: As `open` and `HDUList` raise, with the path of the file.

    Example:
        >>> torchfits.read_keys(['image.fits', 'image.fits'], ['NAXIS', 'OBJECT'])
        {'NAXIS': tensor([2, 2]), 'OBJECT': [None, None]}
    """
    wanted = [keys] if isinstance(keys, str) else list(keys)
    names = [file_path(path) for path in paths]
    plain = [key.strip().upper() for key in wanted]
    which = _which(hdu)
    values: list[list[Any]] = [[None] * len(names) for _ in wanted]
    done: Sequence[int] = bytes(len(names))
    if which is not None and wanted and all(map(_is_plain, plain)):
        done, values = read_cards(
            [os.fsencode(name) for name in names], which, [key.encode().ljust(8) for key in plain], threads()
        )
        values = [[_parsed(value) for value in column] for column in values]
    for i, name in enumerate(names):
        if not done[i]:
            with open(name, cache=False) as file:
                header = file[hdu].read_header()
                for key, column in zip(wanted, values, strict=True):
                    column[i] = header.get(key)
    return {key: _as_tensor(column) for key, column in zip(wanted, values, strict=True)}


def _is_plain(key: str) -> bool:
    return _PLAIN.match(key) is not None and key not in ("COMMENT", "HISTORY", "CONTINUE", "END", "HIERARCH")


def _parsed(value: Any) -> Any:
    return Card.from_bytes(value).value if isinstance(value, bytes) else value


def _as_tensor(values: list[Any]) -> list | torch.Tensor:
    kinds = set(map(type, values))
    if kinds == {bool}:
        return torch.tensor(values)
    if kinds == {int} and all(-(2**63) <= value < 2**63 for value in values):
        return torch.tensor(values, dtype=torch.int64)
    if kinds and kinds <= {int, float}:
        return torch.tensor(values, dtype=torch.float64)
    return values
