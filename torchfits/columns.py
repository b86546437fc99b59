"""The columns of a table as tensors: by our own kernels, or by cfitsio."""

from __future__ import annotations

import logging
import math
import warnings
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch

from torchfits._core import Handle
from torchfits._direct import (
    BITS,
    COLLECTED,
    LOGICALS,
    NUMBERS,
    Collection,
    Conversion,
    Heap,
    passed_rows,
    read_rows,
    select_rows,
)
from torchfits._tensors import (
    BITPIX_OF_TFORM,
    CODES,
    COMPLEX,
    OTHER_SIGN,
    SCALED,
    STORED,
    address,
    allocate,
    as_buffer,
    threads,
    to_bytes,
    value_dtype,
)
from torchfits.ascii_table import parse_column
from torchfits.cache import OpenFile
from torchfits.errors import FitsFormatError, FitsUnsupported, FitsWarning
from torchfits.layout import ELEMENT_BYTES, Column, Hdu, TableLayout
from torchfits.source import Where
from torchfits.where import Input, RowFilter

# torch 2.13 logs a note to its own developers with the first jagged tensor
logging.getLogger("torch.fx._symbolic_trace").addFilter(
    lambda record: "is_fx_tracing will return true" not in record.getMessage()
)


class Collected:
    """What is asked for of rows that pass a filter, taken while the filter has them in the cache."""

    def __init__(self, columns: list[Column], rows: int):
        held = [column for column in columns if column.width]
        self.low = min(column.offset for column in held)
        self.width = max(column.offset + column.width for column in held) - self.low
        self.room = min(rows, _COLLECTED_BYTES // (self.width + 8))
        self.bytes = allocate((self.room * self.width,), torch.uint8)
        self.order = allocate((self.room,), torch.int64)
        self.collection = Collection(self.low, self.width, *address(self.bytes), *address(self.order))

    def read(self, order: range | torch.Tensor, fields: list[Field]) -> None:
        """Fill columns with some of the rows; the fields begin where they do in a row of the table."""
        inside = [(field[0], field[1] - self.low, *field[2:]) for field in fields]
        read_rows(as_buffer(self.bytes), 0, self.width, self.room, as_c(order), inside, threads(), False)


@dataclass(slots=True)
class Looked:
    """Rows that a filter looked at: a byte for each, 1 where it passes, and how many do."""

    rows: range | torch.Tensor
    keep: torch.Tensor
    count: int
    order: torch.Tensor | None = None  # those that were collected

    def numbers(self) -> torch.Tensor:
        """The numbers of those that pass, int64."""
        places = allocate((self.count,), torch.int64)
        # not torch's arithmetic, which is shared out to threads that may take long to come
        first, step = (0, 1) if isinstance(self.rows, torch.Tensor) else (self.rows.start, self.rows.step)
        passed_rows(*address(self.keep), address(places)[0], self.count, first, step)
        return self.rows[places] if isinstance(self.rows, torch.Tensor) else places


class Passed:
    """The rows that pass a filter, in pieces."""

    def __init__(self, collected: Collected | None = None) -> None:
        self.pieces: list[Looked] = []
        self.collected = collected

    def __len__(self) -> int:
        return sum(piece.count for piece in self.pieces)

    def add(self, rows: range | torch.Tensor, keep: torch.Tensor, count: int) -> None:
        self.pieces.append(Looked(rows, keep, count))

    def add_collected(self, rows: range, keep: torch.Tensor, count: int, collected: Collected) -> None:
        """The rows that were looked at last, of which the first ones may have been collected."""
        before = sum(len(piece.order) for piece in self.pieces if piece.order is not None)
        end, among = collected.collection.count, collected.collection.looked_at
        if among:
            order = collected.order[before:end]
            self.pieces.append(Looked(rows[:among], keep[:among], len(order), order))
        if among < len(rows):
            self.add(rows[among:], keep[among:], count - (end - before))

    def all_numbers(self) -> torch.Tensor:
        numbers = [piece.numbers() for piece in self.pieces]
        return torch.cat([torch.empty(0, dtype=torch.int64, device="cpu"), *numbers])


# which rows: a range, their numbers as int64, or those that pass a filter
Rows = range | torch.Tensor | Passed
Nulls = Literal["nan", "mask"] | None
Ragged = Literal["nested", "offsets"]
# what a column gives; one of variable length gives a jagged tensor, or its values and where each row's begin
Values = Any
Arrays = tuple[torch.Tensor, torch.Tensor]
# a field of the rows as our kernels take it
Field = tuple[int, int, int, Conversion | None, tuple[int, int], int, tuple[int, int]]

# a heap whose arrays overlap may be unfolded to this many times its size
_MAX_UNFOLDING = 16
# bytes of rows that pass a filter that are collected, and of their order
_COLLECTED_BYTES = 1 << 23
# rows of a list that are read, and rows that are looked at, at a time
_ROWS_AT_ONCE = 1 << 20
# rows that take no byte of the file are believed up to this number
_MAX_EMPTY_ROWS = 1 << 24
# how our kernels read an element: the BITPIX of an equal one, and how many of them make it
_STORED_AS = {code: (bitpix, 1) for code, bitpix in BITPIX_OF_TFORM.items()}
_STORED_AS |= {"L": (8, 1), "A": (8, 1), "C": (-32, 2), "M": (-64, 2)}
AS_BYTES = Conversion(8, 1, 0, None, CODES[torch.uint8])
# bytes of rows that cfitsio reads before going on to the next column
_CHUNK = 1 << 17
# how it is asked for these; it would interpret the letters
_AS_STORED = {"A": "bytes", "L": "bytes", "X": "bits"}


def can_be_null(column: Column, kind: str) -> bool:
    """Whether the masks of nulls tell of this column: integers with TNULL, logicals, integers of text."""
    code = column.element or column.code
    if kind == "table":
        return code == "I"
    return code == "L" or (code in "BIJK" and isinstance(column.null, int))


def _asked(column: Column, nulls: Nulls) -> Nulls:
    """What is asked for of this column of a binary table; NaN only where a mask is not needed first.

    Unsigned integers are exact only as they are: they are made floats afterwards.
    """
    if not can_be_null(column, "bintable") or (nulls == "nan" and "L" in (column.code, column.element)):
        return None
    exact = dtype_of(column, "bintable") in OTHER_SIGN.values()
    return "mask" if nulls == "nan" and exact else nulls


def _with_nan(values: Values, marks: Values, dtype: torch.dtype) -> Values:
    """Integers as floats, NaN where they are null."""
    if isinstance(values, tuple):
        return _with_nan(values[0], marks[0], dtype), values[1]
    real = values.to(dtype)
    real[marks] = math.nan
    return real


def _null_of(column: Column) -> int:
    """The stored number that is null: TNULL; of logicals, the byte 0."""
    return column.null if isinstance(column.null, int) and (column.element or column.code) in "BIJK" else 0


def dtype_of(column: Column, kind: str, nulls: Nulls = None) -> torch.dtype:
    """The dtype of a column's values; `kind` is that of the HDU."""
    code = column.element or column.code
    real = nulls == "nan" and can_be_null(column, kind) and code != "L"
    if kind == "table":
        whole = code == "I" and (column.scale, column.zero) == (1, 0) and not real
        return torch.uint8 if code == "A" else torch.int64 if whole else torch.float64
    if real:
        return SCALED[BITPIX_OF_TFORM[code]]
    if code in BITPIX_OF_TFORM:
        return value_dtype(BITPIX_OF_TFORM[code], column.scale, column.zero, None)
    return COMPLEX.get(code, torch.uint8 if code == "A" else torch.bool)


@dataclass(slots=True)
class Cells:
    """A field of the rows and the tensors that it fills."""

    column: Column
    kind: int
    count: int
    conversion: Conversion | None
    tensor: torch.Tensor
    marks: torch.Tensor | None = None

    def field(self, first: int, last: int | None) -> Field:
        """As our kernels take it, for rows first..last of the tensors."""
        column, marks = self.column, (0, 0)
        if self.marks is not None:
            marks = address(self.marks[first:last])
        where = address(self.tensor[first:last])
        return self.kind, column.offset, self.count, self.conversion, where, _null_of(column), marks


def cells_of(column: Column, tensor: torch.Tensor, nulls: Nulls = None) -> Cells:
    """How a column of a binary table fills its tensor; descriptors fill one of int64 (rows, 2)."""
    if column.code in "PQ":
        bitpix = 32 if column.code == "P" else 64
        count = 2 * column.repeat
        return Cells(column, NUMBERS, count, Conversion(bitpix, 1, 0, None, CODES[torch.int64]), tensor)
    count = math.prod(column.shape)
    if column.code == "L":
        return Cells(column, LOGICALS, count, None, tensor)
    if column.code == "X":
        return Cells(column, BITS, count, None, tensor)
    conversion = _conversion(column, column.code, tensor.dtype, nulls)
    return Cells(column, NUMBERS, count * _STORED_AS[column.code][1], conversion, tensor)


def _conversion(column: Column, code: str, dtype: torch.dtype, nulls: Nulls) -> Conversion:
    bitpix, _ = _STORED_AS[code]
    if code in "AL":
        return AS_BYTES
    if code in COMPLEX:  # scaled or not, both parts
        return Conversion(bitpix, column.scale, column.zero, None, CODES[STORED[bitpix]])
    null = column.null if nulls == "nan" and isinstance(column.null, int) else None
    return Conversion(bitpix, column.scale, column.zero, null, CODES[dtype])


def heap_of(column: Column, start: int, size: int, conversion: Conversion | None) -> Heap:
    """A heap that holds the arrays of a column; `conversion` of its numbers, None for logicals and bits."""
    kind = NUMBERS if conversion is not None else BITS if column.element == "X" else LOGICALS
    return Heap(start, size, kind, conversion, 2 if column.element in COMPLEX else 1)


class ColumnReader:
    """Reads columns of one table.

    Args:
        engine: 'direct' for our own kernels, or 'cfitsio'.
        mmap: A mapping of the file may serve.
    """

    looked_at = _ROWS_AT_ONCE  # by a filter in one go

    def __init__(self, file: OpenFile, hdu: Hdu, table: TableLayout, engine: str, mmap: bool):
        self.file, self.hdu, self.table, self.engine, self.mmap = file, hdu, table, engine, mmap

    def read(
        self, columns: list[Column], rows: Rows, nulls: Nulls, ragged: Ragged
    ) -> tuple[dict[str, Values], dict[str, Values]]:
        """The values of the columns, and the masks of their nulls where nulls is 'mask'."""
        columns = list({column.name: column for column in columns}.values())  # each once
        for column in columns:
            if column.problem:
                raise FitsFormatError(f"column {column.name!r} cannot be read: {column.problem}")
        if len(rows) and columns:
            self.file.check_data(self.hdu)
        costly = self.hdu.kind == "table" or any(column.code in "PQ" for column in columns)
        if costly and len(rows) > _MAX_EMPTY_ROWS and not self.table.row_bytes:
            raise FitsUnsupported(f"{len(rows)} rows that hold nothing")
        if self.hdu.kind == "table":
            values, masks = self._read_ascii(columns, _listed(rows), nulls)
        elif self.engine == "cfitsio" and len(rows):
            values, masks = self._read_by_cfitsio(columns, _listed(rows), nulls)
        else:
            values, masks = self._read_direct(columns, rows, nulls)
        for column in columns:
            if nulls == "nan" and column.name in masks:
                real = dtype_of(column, self.hdu.kind, nulls)
                values[column.name] = _with_nan(values[column.name], masks.pop(column.name), real)
            if column.code in "PQ" and self.hdu.kind != "table":
                for found in (values, masks):
                    if column.name in found:
                        found[column.name] = _shaped(column, found[column.name], ragged)
        names = [column.name for column in columns]
        return {name: values[name] for name in names}, {name: masks[name] for name in names if name in masks}

    # -- our own kernels

    def _read_direct(
        self, columns: list[Column], rows: Rows, nulls: Nulls
    ) -> tuple[dict[str, Values], dict[str, Values]]:
        count = len(rows)
        values: dict[str, Values] = {}
        masks: dict[str, Values] = {}
        cells = []
        for column in columns:
            asked = _asked(column, nulls)
            if column.code in "PQ":
                # not zeros, which torch shares out to threads that may take long to come
                tensor = allocate((count, 2 * column.repeat), torch.int64)
            else:
                tensor = allocate((count, *column.shape), dtype_of(column, "bintable", asked))
            values[column.name] = tensor
            cells.append(cells_of(column, tensor, asked))
            if asked == "mask" and column.code not in "PQ":
                masks[column.name] = cells[-1].marks = allocate(tensor.shape, torch.bool)
        self._fill(cells, rows)
        for each in cells:
            column = each.column
            if column.code in "PQ":
                descriptors = values[column.name]
                self.without_sign(column, descriptors)
                values[column.name], marks = self._read_heap(column, descriptors, rows, _asked(column, nulls))
                if marks is not None:
                    masks[column.name] = marks
        return values, masks

    def _fill(self, cells: list[Cells], rows: Rows) -> None:
        filled = [each for each in cells if each.tensor.numel() and each.count]
        first = 0
        for part, collected in _parts(rows) if filled else ():
            if len(part):
                fields = [each.field(first, first + len(part)) for each in filled]
                if collected is not None:
                    collected.read(part, fields)
                else:
                    read_rows(*self._where(), as_c(part), fields, threads(), self.mmap)
            first += len(part)

    def without_sign(self, column: Column, descriptors: torch.Tensor) -> None:
        """Make of the offsets of P what cfitsio means by them, which writes them into heaps up to 4 GiB."""
        if column.code == "P" and self.table.data_size >> 31:
            descriptors[:, 1] &= 0xFFFFFFFF

    def _where(self) -> tuple[Where, int, int, int]:
        """Where the rows are, as our kernels take it."""
        return self.file.where(self.hdu), self.hdu.data_start, self.table.row_bytes, self.table.nrows

    def _read_heap(
        self, column: Column, descriptors: torch.Tensor, rows: Rows, nulls: Nulls
    ) -> tuple[Arrays, Arrays | None]:
        code, dtype = column.element, dtype_of(column, "bintable", nulls)
        conversion = None if code in "LX" else _conversion(column, code, dtype, nulls)
        values, ends = self._read_arrays(column, descriptors, rows, conversion, dtype)
        if nulls != "mask":
            return (values, ends), None
        stored = STORED[_STORED_AS[code][0]]
        raw = Conversion(_STORED_AS[code][0], 1, 0, None, CODES[stored])
        marks = self._read_arrays(column, descriptors, rows, raw, stored)[0] == _null_of(column)
        return (values, ends), (marks, ends)

    def _read_arrays(
        self,
        column: Column,
        descriptors: torch.Tensor,
        rows: Rows,
        conversion: Conversion | None,
        dtype: torch.dtype,
    ) -> Arrays:
        if not column.width:  # TFORM 0P: no array in any row
            return allocate((0,), dtype), torch.zeros(len(rows) + 1, dtype=torch.int64, device="cpu")
        heap, ends = self.check_arrays(column, descriptors, rows, conversion)
        values = allocate((int(ends[-1]),), dtype)
        if values.numel():
            self.read_arrays(heap, self.file.where(self.hdu), descriptors, ends, values)
        return values, ends

    def read_arrays(
        self,
        heap: Heap,
        where: Where,
        descriptors: torch.Tensor,
        ends: torch.Tensor,
        values: torch.Tensor,
    ) -> None:
        """Read the arrays that descriptors point to; `ends` is filled anew."""
        described, rows = address(descriptors)[0], len(descriptors)
        heap.read(where, described, rows, address(ends)[0], *address(values), threads(), self.mmap)

    def check_arrays(
        self, column: Column, descriptors: torch.Tensor, rows: Rows, conversion: Conversion | None
    ) -> tuple[Heap, torch.Tensor]:
        """The heap of a column, and int64 (rows + 1,): the elements before each row. Or FitsFormatError."""
        before = min(self.table.heap, self.table.data_size)
        start, size = self.hdu.data_start + before, self.table.data_size - before
        heap = heap_of(column, start, size, conversion)
        ends = allocate((len(rows) + 1,), torch.int64)
        most = _most_elements(column, size, rows)
        bad = heap.check(address(descriptors)[0], len(rows), most, address(ends)[0])
        if bad == -2:
            raise FitsFormatError(
                f"column {column.name!r}: the arrays overlap and would unfold to over "
                f"{_MAX_UNFOLDING} times the heap"
            )
        if bad >= 0:
            row, (elements, offset) = int(_listed(rows)[bad]), descriptors[bad].tolist()
            raise FitsFormatError(
                f"column {column.name!r}, row {row}: the descriptor ({elements} elements at {offset}) lies "
                f"outside the heap of {size} bytes",
                offset=self.hdu.data_start + self.table.row_bytes * row + column.offset,
            )
        return heap, ends

    # -- filters

    def matching(
        self, row_filter: RowFilter, rows: range | torch.Tensor, columns: list[Column] | None = None
    ) -> Passed:
        """Those of some rows that pass a filter; `columns` will be read of them."""
        collected = self._collected(columns or [], rows) if row_filter.inputs else None
        found = Passed(collected)
        if len(rows):
            self.file.check_data(self.hdu)
        for part in _split(rows, self.looked_at):
            keep = allocate((len(part),), torch.uint8)
            if self.hdu.kind == "table":
                keep.copy_(self._match_text(row_filter, part))
                found.add(part, keep, int(keep.count_nonzero()))
            elif not self.table.row_bytes:  # a filter of constants
                keep.copy_(_bytes_of(row_filter.program.evaluate([], [], len(part))))
                found.add(part, keep, int(keep.count_nonzero()))
            elif collected is None or collected.collection.is_full or isinstance(part, torch.Tensor):
                found.add(part, keep, self._select(row_filter, part, keep))
            else:
                count = self._select(row_filter, part, keep, collected.collection)
                found.add_collected(part, keep, count, collected)
        return found

    def _collected(self, columns: list[Column], rows: range | torch.Tensor) -> Collected | None:
        """Room for what will be read of rows that pass, where to read whole blocks of rows costs no more."""
        held = any(column.width for column in columns)
        direct = self.hdu.kind == "bintable" and self.engine == "direct"
        if direct and held and isinstance(rows, range) and rows.step * self.table.row_bytes <= COLLECTED:
            return Collected(columns, len(rows))
        return None

    def _select(
        self,
        row_filter: RowFilter,
        rows: range | torch.Tensor,
        keep: torch.Tensor,
        collection: Collection | None = None,
    ) -> int:
        """Fill a byte for each row, 1 where it passes; how many do."""
        inputs = [input_of(each) for each in row_filter.inputs]
        program = row_filter.program
        return select_rows(
            *self._where(), as_c(rows), inputs, program, *address(keep), threads(), self.mmap, collection
        )

    def _match_text(self, row_filter: RowFilter, rows: range | torch.Tensor) -> torch.Tensor:
        text, inputs = self._text(rows), row_filter.inputs
        dtypes = {"int64": torch.int64, "float64": torch.float64, "string": torch.uint8}
        found = [
            parse_column(text, self.table.row_bytes, each.column, rows, dtypes[each.kind]) for each in inputs
        ]
        values = [as_buffer(tensor) for tensor, _ in found]
        nulls = [
            as_buffer(marks) if each.nullable else None
            for each, (_, marks) in zip(inputs, found, strict=True)
        ]
        return _bytes_of(row_filter.program.evaluate(values, nulls, len(rows)))

    # -- cfitsio

    def _read_by_cfitsio(
        self, columns: list[Column], rows: range | torch.Tensor, nulls: Nulls
    ) -> tuple[dict[str, Values], dict[str, Values]]:
        nullable = [column for column in columns if _asked(column, nulls)]
        masks: dict[str, Values] = {}
        with self.file.reading(self.hdu) as handle:
            reference = _CfitsioColumns(self, handle, rows)
            values = reference.read(columns, raw=False)
            stored = reference.read(nullable, raw=True)
        for column in nullable:
            found, *ends = stored[column.name] if column.code in "PQ" else (stored[column.name],)
            marks = found == _null_of(column)
            if _asked(column, nulls) == "mask":
                masks[column.name] = (marks, *ends) if ends else marks
            else:
                real = (found.to(torch.float64) * column.scale + column.zero).to(
                    dtype_of(column, "bintable", nulls)
                )
                real[marks] = math.nan
                values[column.name] = (real, *ends) if ends else real
        return values, masks

    # -- text

    def _text(self, rows: range | torch.Tensor) -> bytes:
        """The bytes of rows, one after the other."""
        if not len(rows) or not self.table.row_bytes:
            return b""
        if self.engine == "cfitsio":
            with self.file.reading(self.hdu) as handle:
                return to_bytes(_CfitsioColumns(self, handle, rows).bytes_of_rows())
        raw = allocate((len(rows), self.table.row_bytes), torch.uint8)
        whole_row = Column(
            0, "", "A", "", self.table.row_bytes, self.table.row_bytes, 0, (self.table.row_bytes,)
        )
        self._fill([cells_of(whole_row, raw)], rows)
        return to_bytes(raw)

    def _read_ascii(
        self, columns: list[Column], rows: range | torch.Tensor, nulls: Nulls
    ) -> tuple[dict[str, Values], dict[str, Values]]:
        text = self._text(rows)
        values, masks = {}, {}
        for column in columns:
            found, null = parse_column(
                text, self.table.row_bytes, column, rows, dtype_of(column, "table", nulls)
            )
            values[column.name] = found
            if nulls == "mask" and can_be_null(column, "table"):
                masks[column.name] = null
        return values, masks


def _parts(rows: Rows) -> Iterator[tuple[range | torch.Tensor, Collected | None]]:
    """Rows as our kernels take them: ranges whole, lists in pieces, or the order of collected ones."""
    if isinstance(rows, range):
        yield rows, None
    elif isinstance(rows, torch.Tensor):
        for part in _split(rows, _ROWS_AT_ONCE):
            yield part, None
    else:
        for piece in rows.pieces:
            if piece.order is None:
                yield piece.numbers(), None
            else:
                yield piece.order, rows.collected


def _split(rows: range | torch.Tensor, most: int) -> Iterator[range | torch.Tensor]:
    for first in range(0, len(rows), most):
        yield rows[first : first + most]


def as_c(rows: range | torch.Tensor) -> range | tuple[int, int]:
    return rows if isinstance(rows, range) else (address(rows)[0], len(rows))


def _bytes_of(keep: bytearray) -> torch.Tensor:
    return torch.frombuffer(keep, dtype=torch.uint8) if keep else torch.empty(0, dtype=torch.uint8)


def _listed(rows: Rows) -> range | torch.Tensor:
    return rows.all_numbers() if isinstance(rows, Passed) else rows


def input_of(each: Input) -> tuple[int, int, int, int, Conversion | None, int | None]:
    """What a filter takes of each row, as `select_rows` takes it."""
    column, element = each.column, each.element
    null = _null_of(column) if each.nullable else None
    if column.code == "X":
        return BITS, column.offset + element // 8, 1, element % 8, None, null
    if column.code == "L":
        return LOGICALS, column.offset + element, 1, 0, None, null
    if each.kind == "string":
        return NUMBERS, column.offset + element * each.width, each.width, 0, AS_BYTES, null
    bitpix = BITPIX_OF_TFORM[column.code]
    kind = {"int64": torch.int64, "uint64": torch.uint64, "float64": torch.float64}[each.kind]
    conversion = Conversion(bitpix, column.scale, column.zero, None, CODES[kind])
    return NUMBERS, column.offset + element * abs(bitpix) // 8, 1, 0, conversion, null


def _most_elements(column: Column, heap: int, rows: Rows) -> int:
    """How many elements the arrays of some rows may have together, unless they overlap without measure."""
    bits = 8 if column.element == "X" else 1
    most = _MAX_UNFOLDING * max(heap, 1) * bits // ELEMENT_BYTES.get(column.element, 1)
    if isinstance(rows, torch.Tensor) and len(rows):  # a row may be asked for many times
        most *= int(rows.unique(return_counts=True)[1].max())
    return min(most, 1 << 60)


def _shaped(column: Column, arrays: Arrays, ragged: Ragged) -> Values:
    """The arrays of a column of variable length, with the axes of TDIM but the slowest one."""
    (values, offsets), inner = arrays, column.shape
    if inner:
        each = math.prod(inner)
        if not each or bool((offsets % each != 0).any()):
            warnings.warn(
                f"column {column.name!r}: TDIM does not fit the length of every array; ignored",
                FitsWarning,
                stacklevel=5,
            )
        else:
            values, offsets = values.view(-1, *inner), offsets // each
    return arrays_of(values, offsets, ragged)


def arrays_of(values: torch.Tensor, offsets: torch.Tensor, ragged: Ragged) -> Values:
    """What a column of variable length gives."""
    if ragged == "offsets":
        return values, offsets
    return torch.nested.nested_tensor_from_jagged(values, offsets)


def _span(rows: range | torch.Tensor) -> tuple[int, int]:
    """The first of some rows, and the one behind the last, in the order of the file."""
    if isinstance(rows, range):
        return rows[0], rows[-1] + 1
    return int(rows.min()), int(rows.max()) + 1


# ---------------------------------------------------------------------------- cfitsio


class _CfitsioColumns:
    """The reference: cfitsio reads all rows from the first asked one to the last; the asked ones are kept."""

    def __init__(self, reader: ColumnReader, handle: Handle, rows: range | torch.Tensor):
        self.reader, self.handle, self.rows = reader, handle, rows
        self.first, self.end = _span(rows)
        # the rows as an index into those that are read
        self.keep = (
            slice(rows.start - self.first, None, rows.step) if isinstance(rows, range) else rows - self.first
        )

    def read(self, columns: list[Column], raw: bool) -> dict[str, Values]:
        """The values of columns, or with `raw` the numbers as stored."""
        fixed = self._fixed([column for column in columns if column.code not in "PQ"], raw)
        # contiguous: what a step leaves out must not be kept alive
        result: dict[str, Values] = {name: tensor[self.keep].contiguous() for name, tensor in fixed.items()}
        return result | {column.name: self._arrays(column, raw) for column in columns if column.code in "PQ"}

    def bytes_of_rows(self) -> torch.Tensor:
        """The rows as they are stored, uint8 (rows, NAXIS1)."""
        whole = allocate((self.end - self.first, self.reader.table.row_bytes), torch.uint8)
        self.handle.read_row_bytes(self.reader.hdu.start, self.first, whole.numel(), whole.data_ptr())
        return whole[self.keep].contiguous()

    def _how(self, column: Column, raw: bool) -> tuple[torch.dtype, str, float, float]:
        code = column.element or column.code
        dtype = STORED[_STORED_AS[code][0]] if raw else dtype_of(column, "bintable")
        name = _AS_STORED.get(code, str(dtype).removeprefix("torch."))
        return dtype, name, *((1, 0) if raw else (column.scale, column.zero))

    def _fixed(self, columns: list[Column], raw: bool) -> dict[str, torch.Tensor]:
        result, wanted = {}, []
        for column in columns:
            dtype, name, scale, zero = self._how(column, raw)
            # with the elements that TDIM leaves over
            tensor = result[column.name] = allocate((self.end - self.first, column.repeat), dtype)
            if tensor.numel():  # there may be any number of rows without bytes
                wanted.append((column.index + 1, name, column.repeat, scale, zero, *address(tensor)))
        if wanted:
            chunk = max(_CHUNK // max(self.reader.table.row_bytes, 1), 1)
            start = self.reader.hdu.start
            self.handle.read_columns(start, wanted, self.first, self.end - self.first, chunk)
        for column in columns:
            if column.code == "L" and not raw:
                _to_bool(result[column.name])
            meant = result[column.name][:, : math.prod(column.shape)]
            result[column.name] = meant.reshape(len(meant), *column.shape)
        return result

    def _arrays(self, column: Column, raw: bool) -> Arrays:
        hdu, count = self.reader.hdu, self.end - self.first
        dtype, name, scale, zero = self._how(column, raw)
        if not column.width:
            return allocate((0,), dtype), torch.zeros(len(self.rows) + 1, dtype=torch.int64, device="cpu")
        lengths, offsets = allocate((count,), torch.int64), allocate((count,), torch.int64)
        at = column.index + 1
        self.handle.read_descriptors(
            hdu.start, at, self.first, count, lengths.data_ptr(), offsets.data_ptr(), count * 8
        )
        asked = torch.zeros(count, dtype=torch.bool, device="cpu")
        asked[self.keep] = True
        lengths = torch.where(asked, lengths, 0)
        # cfitsio follows only what was checked
        code, span = column.element, range(self.first, self.end)
        conversion = None if code in "LX" else _conversion(column, code, dtype_of(column, "bintable"), None)
        _, ends = self.reader.check_arrays(column, torch.stack([lengths, offsets], 1), span, conversion)
        values = allocate((int(ends[-1]),), dtype)
        counts = array("q", lengths.tolist())
        self.handle.read_ragged(hdu.start, at, name, scale, zero, self.first, counts, *address(values))
        if code == "L" and not raw:
            _to_bool(values)
        kept = torch.zeros(len(self.rows) + 1, dtype=torch.int64, device="cpu")
        torch.cumsum(lengths[self.keep], 0, out=kept[1:])
        if isinstance(self.rows, torch.Tensor):
            parts = [values[ends[row] : ends[row + 1]] for row in (self.rows - self.first).tolist()]
            values = torch.cat(parts)
        return values, kept


def _to_bool(tensor: torch.Tensor) -> None:
    """Make the letters in the memory of a bool tensor 0 and 1: T is true, and the 1 of careless writers."""
    letters = tensor.view(torch.uint8)
    letters.copy_((letters == ord("T")) | (letters == 1))
