"""read_batch(), read_keys(), gather(): images, keywords and table rows of many files in one call."""

from __future__ import annotations

import math
import operator
import os
import re
import warnings
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import torch

from torchfits._direct import (
    FILE_DONE,
    gather_rows,
    read_cards,
    read_stack,
)
from torchfits._tensors import (
    Device,
    Read,
    address,
    allocate,
    check_dtype,
    check_out,
    deliver,
    target_of,
    threads,
    using_threads,
)
from torchfits.columns import Ragged, Values, arrays_of, cells_of, dtype_of
from torchfits.errors import (
    FitsError,
    FitsFormatError,
    FitsWarning,
    SectionError,
)
from torchfits.hdulist import HDUList, Key, open
from torchfits.header import Card
from torchfits.image import ImageHDU, check_unchanged, conversion_of
from torchfits.layout import Column, ImageLayout
from torchfits.sections import Section, resolve_section
from torchfits.source import Path, file_path
from torchfits.table import TableHDU, check_options

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
    target = target_of(out, device)
    dtype = out.dtype if check_dtype(dtype) is None and out is not None else dtype
    names, failed = _names(paths, on_error == "fill")
    if not names:
        return torch.empty((0,), dtype=dtype or torch.float32, device=target) if out is None else out
    batch = _Batch(names, failed, hdu, section, on_error == "fill")
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
    stack = deliver(shape, wanted, partial(batch.read, 0, len(names)), batch.parts, target, out)
    if len(batch.failed) == len(names):
        raise batch.failed[0]
    if batch.failed:
        warnings.warn(batch.report(), FitsWarning, stacklevel=2)
    return stack


def _names(paths: Sequence[Path], fill: bool) -> tuple[list[str | bytes], dict[int, FitsError]]:
    """The paths as C takes them; with `fill`, an empty one for each that is no file name, and why."""
    if isinstance(paths, (str, bytes, os.PathLike)):
        raise TypeError(f"paths must be a sequence of paths, not one: [{paths!r}]")
    names: list[str | bytes] = []
    failed: dict[int, FitsError] = {}
    for i, path in enumerate(paths):
        try:
            names.append(file_path(path))
        except FitsError as error:
            if not fill:
                raise
            failed[i] = error
            names.append("")
    return names, failed


class _Batch:
    """The files of one call; the first that can be opened decides what an image of the batch is."""

    def __init__(
        self,
        names: list[str | bytes],
        failed: dict[int, FitsError],
        hdu: Key,
        section: Section,
        fill: bool,
    ):
        self.names, self.hdu, self.section, self.fill = names, hdu, section, fill
        self.failed = failed
        self.image, self.natural, self.ranges, self.shape = self._first()
        self.only: torch.dtype | None = self.natural  # None where every dtype is converted

    def _first(self) -> tuple[ImageLayout, torch.dtype, list[range], tuple[int, ...]]:
        for i, name in enumerate(self.names):
            if i in self.failed:
                continue
            try:
                with open(name, cache=False) as file:
                    found = self._find(file)
                    ranges, shape = resolve_section(self.section, found.shape)
                    if 0 not in shape:
                        found._check_bytes()
                        found._reader(ranges)  # which refuses what cfitsio must not be given
                    return found._image(), found.dtype, ranges, shape
            except FitsError as error:
                error.locate(path=name)
                self.failed[i] = error
                if not self.fill:
                    break
        raise self.failed[0]

    def _find(self, file: HDUList) -> ImageHDU:
        found = file[self.hdu]
        if not isinstance(found, ImageHDU):
            raise FitsFormatError("not an image", path=file.path, hdu=found.index)
        return found

    def parts(self, most: int) -> Iterator[tuple[int, Read]]:
        pixels, count = math.prod(self.shape), len(self.names)
        step = max(most // max(pixels, 1), 1)
        for first in range(0, count, step):
            last = min(first + step, count)
            yield (last - first) * pixels, partial(self.read, first, last)

    def read(self, first: int, last: int, tensor: torch.Tensor) -> None:
        """Read files first..last: by our kernels in one call, those that are left each by itself."""
        stack = tensor.view(last - first, *self.shape)
        done = self._read_plain(self.names[first:last], stack)
        failed: dict[int, FitsError] = {}

        def read(i: int) -> None:
            try:
                if i in self.failed:
                    raise self.failed[i]
                check_unchanged(done[i - first], self.names[i], self.hdu)
                self._read_one(self.names[i], stack[i - first])
            except FitsError as error:
                failed[i] = error
                if not self.fill:
                    raise
                stack[i - first].fill_(math.nan)

        with suppress(FitsError):
            _in_threads(read, [i for i in range(first, last) if done[i - first] != FILE_DONE])
        if failed and not self.fill:
            raise failed[min(failed)]  # of all files the first: those before it were begun before
        self.failed |= failed

    def _read_plain(self, names: list[str | bytes], stack: torch.Tensor) -> Sequence[int]:
        which, image = _which(self.hdu), self.image
        if which is None or stack.numel() == 0:
            return bytes(len(names))
        return read_stack(
            [os.fsencode(name) for name in names],
            which,
            image.bitpix,
            image.shape,
            conversion_of(image, stack.dtype),
            self.only is None,
            self.ranges,
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


def _in_threads(work: Callable[[int], None], items: list[int]) -> None:
    """`work` for each item, begun in their order, in several threads; none after one that raises.

    Not all of it holds the GIL, and a small compressed image has few tiles to share. What is done for an item
    has its part of the threads.
    """
    left, mode = iter(items), torch.is_inference_mode_enabled()
    workers = max(min(threads(), len(items)), 1)
    each_uses = threads() // workers

    def some() -> None:
        try:
            with torch.inference_mode(mode), using_threads(each_uses):
                for item in left:
                    work(item)
        except BaseException:
            items.clear()  # which ends `left`
            raise

    if workers == 1:
        some()
        return
    with ThreadPoolExecutor(workers - 1, "torchfits") as pool:
        running = [pool.submit(some) for _ in range(workers - 1)]
        some()
        for each in running:
            each.result()


def _which(hdu: Key) -> int | tuple[bytes, int | None] | None:
    """How C finds an HDU; None where it cannot."""
    if isinstance(hdu, int) and not isinstance(hdu, bool):
        return hdu if 0 <= hdu < 1 << 62 else None
    name, version = hdu if isinstance(hdu, tuple) and len(hdu) == 2 else (hdu, None)
    if not isinstance(name, str) or not name.isascii() or not isinstance(version, (int, type(None))):
        return None
    if version is not None and abs(version) >= 1 << 62:
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
    for key in wanted:
        if not isinstance(key, str):
            raise TypeError(f"a keyword must be a str, not {key!r}")
    names, _ = _names(paths, fill=False)
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
        if done[i] != FILE_DONE:
            check_unchanged(done[i], name, hdu)
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
        return torch.tensor(values, device="cpu")
    if kinds == {int} and all(-(2**63) <= value < 2**63 for value in values):
        return torch.tensor(values, dtype=torch.int64, device="cpu")
    if kinds and kinds <= {int, float}:
        return torch.tensor(values, dtype=torch.float64, device="cpu")
    return values


def gather(
    index: Iterable[tuple[Path, Key, int]],
    columns: Sequence[str | int] | None = None,
    *,
    ragged: Ragged = "nested",
) -> dict[str, Values]:
    """Read rows of tables in many files, in the order they are asked for.

    Tables that are laid out as the first one are read by our own kernels, without the GIL and in several
    threads; with columns of variable length, one after the other. Each file is opened once.

    Args:
        index: (path, HDU, row) of each row; the HDU by index, EXTNAME or (EXTNAME, EXTVER), the row from 0,
            or from the end where negative.
        columns, ragged: As in `TableHDU.read_table`; the first table decides what the columns are.

    Returns:
        A dict of name -> tensor (N, ...), dtypes and cell shapes as `TableHDU.read_table` gives them, and
        columns of variable length too.

    Raises:
        SectionError: A table lacks the row or the column.
        FitsFormatError: A column differs in dtype or shape from that of the first table.
        FitsError: As `open` and `TableHDU.read_table` raise, with the path of the file.

    Example:
        >>> torchfits.gather([('table.fits', 1, 2), ('table.fits', 1, 0)], ['RA'])
        {'RA': tensor([30., 10.], dtype=torch.float64)}
    """
    check_options(None, ragged)
    rows = [(file_path(path), hdu, operator.index(row)) for path, hdu, row in index]
    if not rows:
        return {}
    with open(rows[0][0], cache=False) as file:
        first = _table_of(file, rows[0][1])
        chosen = first._choose(first._table(), columns)
        file._opened().check_data(first._hdu)
        result: dict[str, torch.Tensor | _Arrays] = {}
        for column in chosen:
            dtype = dtype_of(column, first._hdu.kind)
            if column.code in ("P", "Q"):
                result[column.name] = _Arrays(dtype, column.shape, [])
            else:
                result[column.name] = allocate((len(rows), *column.shape), dtype)
        # by HDU and by file: (row, its place in the result)
        wanted: dict[Key, dict[str | bytes, list[tuple[int, int]]]] = {}
        for place, (path, hdu, row) in enumerate(rows):
            wanted.setdefault(hdu, {}).setdefault(path, []).append((row, place))
        for hdu, files in wanted.items():
            done = _gather_plain(first, chosen, result, hdu, files)
            for (path, places), finished in zip(files.items(), done, strict=True):
                if finished != FILE_DONE:
                    check_unchanged(finished, path, hdu)
                    _gather_one(path, hdu, places, result)
    return {
        name: found.joined(len(rows), ragged) if isinstance(found, _Arrays) else found
        for name, found in result.items()
    }


@dataclass(slots=True)
class _Arrays:
    """A column of variable length: of each file the arrays, and the places of their rows in the result."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    parts: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]

    def joined(self, rows: int, ragged: Ragged) -> Values:
        if any(values.shape[1:] != self.shape for values, _, _ in self.parts):
            # TDIM does not fit the arrays of every file
            self.parts = [
                (values.reshape(-1), ends * math.prod(values.shape[1:]), at)
                for values, ends, at in self.parts
            ]
        inner = self.parts[0][0].shape[1:]
        lengths, ends = (torch.zeros(rows + i, dtype=torch.int64, device="cpu") for i in (0, 1))
        for _, offsets, at in self.parts:
            lengths[at] = offsets.diff()
        torch.cumsum(lengths, 0, out=ends[1:])
        joined = allocate((int(ends[-1]), *inner), self.dtype)
        for values, offsets, at in self.parts:
            moved = (ends[at] - offsets[:-1]).repeat_interleave(offsets.diff())
            to = torch.arange(len(values), device="cpu") + moved
            # torch puts no unsigned numbers of more than a byte to any places
            _as_signed(joined)[to] = _as_signed(values)
        return arrays_of(joined, ends, ragged)


def _as_signed(values: torch.Tensor) -> torch.Tensor:
    signed = {torch.uint16: torch.int16, torch.uint32: torch.int32, torch.uint64: torch.int64}
    return values.view(signed.get(values.dtype, values.dtype))


def _table_of(file: HDUList, hdu: Key) -> TableHDU:
    found = file[hdu]
    if not isinstance(found, TableHDU):
        raise FitsFormatError("not a table", path=file.path, hdu=found.index)
    return found


def _gather_plain(
    first: TableHDU,
    columns: list[Column],
    result: dict[str, torch.Tensor | _Arrays],
    hdu: Key,
    files: dict[str | bytes, list[tuple[int, int]]],
) -> Sequence[int]:
    """Read what our kernels can from tables like `first`; which files that were."""
    which, layout = _which(hdu), first._table()
    asked = [each for places in files.values() for each in places]
    plain = first._hdu.kind == "bintable" and layout.tiles is None and layout.row_bytes
    plain = plain and not any(each.problem for each in columns)
    if which is None or not plain or not all(-(2**63) <= row < 2**63 for row, _ in asked):
        return bytes(len(files))
    fields = []
    for column in columns:
        tensor = result[column.name]
        if isinstance(tensor, _Arrays):
            return bytes(len(files))
        fields.append(cells_of(column, tensor).field(0, None))
    starts = array("q", [0])
    for places in files.values():
        starts.append(starts[-1] + len(places))
    return gather_rows(
        [os.fsencode(path) for path in files],
        which,
        first._hdu.header.to_bytes(),
        layout.row_bytes,
        fields,
        starts,
        array("q", [row for row, _ in asked]),
        array("q", [place for _, place in asked]),
        threads(),
    )


def _gather_one(
    path: str | bytes,
    hdu: Key,
    places: list[tuple[int, int]],
    result: dict[str, torch.Tensor | _Arrays],
) -> None:
    with open(path, cache=False) as file:
        found = _table_of(file, hdu)
        for row, _ in places:
            if not -found.nrows <= row < found.nrows:
                raise SectionError(f"row {row} of a table of {found.nrows}", path=file.path, hdu=found.index)
        cells = found.read_table(list(result), [row for row, _ in places], ragged="offsets")
        at = torch.tensor([place for _, place in places], device="cpu")
        for (name, column), cell in zip(result.items(), cells.values(), strict=True):
            part = _Arrays(cell[0].dtype, tuple(cell[0].shape[1:]), []) if isinstance(cell, tuple) else cell
            told = {_told(column)}
            if isinstance(column, _Arrays):  # where TDIM does not fit the arrays, they are flat
                told.add(_told(replace(column, shape=())))
            if _told(part) not in told:
                raise FitsFormatError(
                    f"column {name!r} is {_told(part)}, that of the first table {_told(column)}",
                    path=file.path,
                    hdu=found.index,
                )
            if isinstance(column, _Arrays):
                column.parts.append((*cell, at))
            else:
                for i, (_, place) in enumerate(places):
                    column[place] = cell[i]


def _told(column: torch.Tensor | _Arrays) -> str:
    if isinstance(column, _Arrays):
        return f"{column.dtype} {column.shape} of variable length"
    return f"{column.dtype} {tuple(column.shape[1:])}"
