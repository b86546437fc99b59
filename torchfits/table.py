"""TableHDU: reading binary and ASCII tables by columns."""

from __future__ import annotations

import logging
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, cast

import torch

from torchfits._core import Handle
from torchfits._direct import Conversion, read_section
from torchfits._tensors import (
    BITPIX_OF_TFORM,
    CODES,
    COMPLEX,
    STORED,
    Device,
    address,
    allocate,
    check_device,
    threads,
    to_bytes,
    value_dtype,
)
from torchfits.ascii_table import parse_column
from torchfits.errors import FitsError, FitsFormatError, FitsUnsupported, SectionError
from torchfits.hdu import HDU
from torchfits.layout import ELEMENT_BYTES, Column, TableLayout, resolve_section

# torch 2.13 logs a note to its own developers with the first jagged tensor
logging.getLogger("torch.fx._symbolic_trace").addFilter(
    lambda record: "is_fx_tracing will return true" not in record.getMessage()
)

# bytes of rows that are read before going on to the next column
_CHUNK = 1 << 17
# how the engine is asked for these; it would interpret the letters
_AS_STORED = {"A": "bytes", "L": "bytes", "X": "bits"}
# a heap whose arrays overlap may be unfolded to this many times its size
_MAX_UNFOLDING = 16
# how our kernels read a column: the BITPIX of an equal element, and how many of them make one
_STORED_AS = {code: (bitpix, 1) for code, bitpix in BITPIX_OF_TFORM.items()}
_STORED_AS |= {"L": (8, 1), "A": (8, 1), "C": (-32, 2), "M": (-64, 2)}
# rows that take no byte of the file are believed up to this number
_MAX_EMPTY_ROWS = 1 << 24


@dataclass(frozen=True, slots=True)
class ColumnInfo:
    """What a column of a table gives: `dtype` and `shape` (of one row) as `read_table` returns them."""

    name: str
    tform: str
    unit: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    ragged: bool


class TableHDU(HDU):
    """A table, binary (BINTABLE) or ASCII (TABLE)."""

    def _table(self) -> TableLayout:
        return cast(TableLayout, self._layout())

    @property
    def engine(self) -> Literal["direct", "cfitsio"]:
        """What reads the columns: 'direct', our own kernels, or 'cfitsio' where it must read any of them."""
        asked = self._parent._engine
        if asked != "auto":
            return asked
        return "direct" if all(map(self._is_direct, self._table().columns)) else "cfitsio"

    def _is_direct(self, column: Column) -> bool:
        """Whether our kernels read a column; not yet those of ASCII tables, bits, and variable length."""
        if self._hdu.kind != "bintable" or column.code not in _STORED_AS:
            return False
        return column.code not in COMPLEX or (column.scale, column.zero) == (1, 0)

    @property
    def nrows(self) -> int:
        """The number of rows, NAXIS2."""
        return self._table().nrows

    @property
    def columns(self) -> list[ColumnInfo]:
        """The columns in the order of the file; names that come again are numbered."""
        return [
            ColumnInfo(
                column.name,
                column.tform,
                column.unit,
                self._dtype(column),
                column.shape,
                column.code in ("P", "Q"),
            )
            for column in self._table().columns
        ]

    def __len__(self) -> int:
        return self.nrows

    def read_table(
        self,
        columns: Sequence[str | int] | None = None,
        rows: slice | None = None,
        device: Device = "cpu",
    ) -> dict[str, torch.Tensor]:
        """Read columns of a table, a tensor each.

        Args:
            columns: Names, in any case, or positions from 0, in the order that is wanted; None for
                all. The keys of the result are the names as the file spells them.
            rows: A slice of rows with a positive step; None for all.
            device: Where the tensors shall be.

        Returns:
            A dict of name -> tensor. (rows,) for a scalar column, (rows, n) for a vector, (rows, *shape)
            with TDIM. L and X give bool, A uint8 (rows, width) (see `strings`), B, I, J, K, E, D, C, M
            uint8, int16, int32, int64, float32, float64, complex64, complex128. TSCAL/TZERO: the unsigned
            conventions give exact integers, any other float32 for B and I, float64 for J and K. TNULL
            values stay as they are. P and Q give `torch.nested` jagged tensors of (rows, *). Columns of ASCII
            tables: I gives int64, F, E, D float64.

        Raises:
            SectionError: No such column, or rows that are no slice.
            FitsFormatError: The data are cut short or damaged.

        Example:
            >>> torchfits.open('table.fits')[1].read_table(columns=['RA'], rows=slice(0, 2))
            {'RA': tensor([10., 20.], dtype=torch.float64)}
        """
        target = check_device(device)
        table = self._table()
        try:
            if rows is not None and not isinstance(rows, slice):
                raise SectionError(f"rows must be a slice, not {rows!r}")
            if self._hdu.header.get("ZTABLE") is True:
                raise FitsUnsupported("a tile-compressed table; funpack makes a plain one of it")
            wanted = self._choose(table, columns)
            if self._parent._engine == "direct":
                for column in wanted:
                    if not self._is_direct(column):
                        raise FitsUnsupported(
                            f"the direct engine reads no column {column.tform!r} like {column.name!r} yet; "
                            "use engine='auto'"
                        )
            ((span,), _) = resolve_section(rows, (table.nrows,))
            for column in wanted:
                if column.problem:
                    raise FitsFormatError(f"column {column.name!r} cannot be read: {column.problem}")
            if span and wanted:
                self._parent._opened().check_data(self._hdu)
            result = self._read(table, wanted, span)
        except FitsError as error:
            error.locate(path=self._parent.path, hdu=self.index)
            raise
        if target.type == "cpu":
            return result
        return {name: tensor.to(target) for name, tensor in result.items()}

    @staticmethod
    def _choose(table: TableLayout, names: Sequence[str | int] | None) -> list[Column]:
        if names is None:
            return table.columns
        if isinstance(names, str):
            raise TypeError(f"columns is a list of names: [{names!r}]")
        known: dict[str | int, Column] = {column.name.upper(): column for column in table.columns}
        known |= dict(enumerate(table.columns))
        keys = [name.strip().upper() if isinstance(name, str) else name for name in names]
        missing = [repr(name) for name, key in zip(names, keys, strict=True) if key not in known]
        if missing:
            there = ", ".join(column.name for column in table.columns[:50])
            raise SectionError(f"no column {', '.join(missing)}; there are {there}")
        return [known[key] for key in keys]

    def _dtype(self, column: Column) -> torch.dtype:
        code = column.element or column.code
        if self._hdu.kind == "table":
            scaled = column.scale != 1 or column.zero != 0
            return (
                torch.uint8 if code == "A" else torch.int64 if code == "I" and not scaled else torch.float64
            )
        if code in BITPIX_OF_TFORM:
            return value_dtype(BITPIX_OF_TFORM[code], column.scale, column.zero, None)
        return COMPLEX.get(code, torch.uint8 if code == "A" else torch.bool)

    def _read(self, table: TableLayout, columns: list[Column], span: range) -> dict[str, torch.Tensor]:
        if not span:
            return {column.name: self._empty(column, 0) for column in columns}
        ours = [c for c in columns if self._parent._engine != "cfitsio" and self._is_direct(c)]
        result = {column.name: self._read_direct(table, column, span) for column in ours}
        if len(ours) < len(columns):
            result |= self._read_by_cfitsio(table, [c for c in columns if c not in ours], span)
        return {column.name: result[column.name] for column in columns}

    def _read_direct(self, table: TableLayout, column: Column, span: range) -> torch.Tensor:
        tensor = allocate((len(span), *column.shape), self._dtype(column))
        if tensor.numel():
            hdu = self._hdu
            conversion, count, width = self._numbers(column)
            read_section(
                self._parent._opened().source.where(hdu.data_start + hdu.data_size),
                conversion,
                hdu.data_start + column.offset,
                [(span.start, len(span), span.step, table.row_bytes), (0, count, 1, width)],
                *address(tensor),
                threads(),
                self._parent._mmap,
            )
        if column.code == "L":
            _to_bool(tensor)
        return tensor

    def _numbers(self, column: Column) -> tuple[Conversion, int, int]:
        """How our kernels read a cell: the conversion, how many numbers, their width in the file."""
        bitpix, parts = _STORED_AS[column.code]
        if column.code in BITPIX_OF_TFORM:
            conversion = Conversion(bitpix, column.scale, column.zero, None, CODES[self._dtype(column)])
        else:
            # what is no number has its bytes read, complex numbers their parts
            conversion = Conversion(bitpix, 1, 0, None, CODES[STORED[bitpix]])
        return conversion, column.repeat * parts, abs(bitpix) // 8

    def _fields(self, tensors: dict[str, torch.Tensor]) -> list[tuple] | None:
        """What `gather_rows` needs to fill these columns; None where cfitsio has to read any of them."""
        table = self._table()
        columns = self._choose(table, list(tensors))
        if not table.row_bytes or not all(map(self._is_direct, columns)) or any(c.problem for c in columns):
            return None
        fields = []
        for column, tensor in zip(columns, tensors.values(), strict=True):
            conversion, count, _ = self._numbers(column)
            fields.append((column.offset, count, conversion, *address(tensor)))
        return fields

    def _finish_logicals(self, tensors: dict[str, torch.Tensor]) -> None:
        """Make true and false of the letters that the kernels left in L columns."""
        for column, tensor in zip(self._choose(self._table(), list(tensors)), tensors.values(), strict=True):
            if column.code == "L":
                _to_bool(tensor)

    def _read_by_cfitsio(
        self, table: TableLayout, columns: list[Column], span: range
    ) -> dict[str, torch.Tensor]:
        # a step reads the rows between as well: they lie in the same blocks
        first, count = span[0], span[-1] - span[0] + 1
        keep = slice(None, None, span.step)
        with self._parent._opened().reading(self._hdu) as handle:
            if self._hdu.kind == "table":
                result = self._read_ascii(handle, table, columns, first, count)
            else:
                result = self._read_fixed(handle, table, columns, first, count)
            # contiguous: what a step leaves out must not be kept alive
            result = {name: tensor[keep].contiguous() for name, tensor in result.items()}
            for column in columns:
                if column.code in "PQ":
                    result[column.name] = self._read_ragged(handle, table, column, span)
        return result

    def _empty(self, column: Column, rows: int) -> torch.Tensor:
        if column.code in "PQ":
            return _jagged(
                allocate((0,), self._dtype(column)), torch.zeros(rows + 1, dtype=torch.int64, device="cpu")
            )
        return allocate((rows, *column.shape), self._dtype(column))

    def _read_ascii(
        self, handle: Handle, table: TableLayout, columns: list[Column], first: int, count: int
    ) -> dict[str, torch.Tensor]:
        raw = allocate((count * table.row_bytes,), torch.uint8)
        if raw.numel():
            handle.read_row_bytes(self._hdu.start, first, raw.numel(), raw.data_ptr())
        rows = to_bytes(raw)
        return {column.name: parse_column(rows, table.row_bytes, column, first) for column in columns}

    def _read_fixed(
        self, handle: Handle, table: TableLayout, columns: list[Column], first: int, count: int
    ) -> dict[str, torch.Tensor]:
        result, wanted = {}, []
        for column in columns:
            if column.code in "PQ":
                continue
            dtype = self._dtype(column)
            tensor = result[column.name] = allocate((count, *column.shape), dtype)
            if not tensor.numel():  # there may be any number of rows without bytes
                continue
            name = _AS_STORED.get(column.code, str(dtype).removeprefix("torch."))
            wanted.append(
                (column.index + 1, name, column.repeat, column.scale, column.zero, *address(tensor))
            )
        if wanted:
            chunk = max(_CHUNK // max(table.row_bytes, 1), 1)
            handle.read_columns(self._hdu.start, wanted, first, count, chunk)
        for column in columns:
            if column.code == "L":
                _to_bool(result[column.name])
        return result

    def _read_ragged(self, handle: Handle, table: TableLayout, column: Column, span: range) -> torch.Tensor:
        first, count = span[0], span[-1] - span[0] + 1
        dtype = self._dtype(column)
        if not column.width:  # TFORM 0P: no array in any row
            if len(span) > _MAX_EMPTY_ROWS:
                raise FitsUnsupported(f"column {column.name!r}: {len(span)} rows that hold nothing")
            return self._empty(column, len(span))
        lengths, offsets = allocate((count,), torch.int64), allocate((count,), torch.int64)
        handle.read_descriptors(
            self._hdu.start, column.index + 1, first, count, lengths.data_ptr(), offsets.data_ptr(), count * 8
        )
        heap_bytes = max(table.data_size - table.heap, 0)
        stored = lengths if column.element != "X" else (lengths + 7) // 8
        size = ELEMENT_BYTES.get(column.element, 1)
        bad = (
            (lengths < 0)
            | (lengths > heap_bytes * 8)
            | (offsets < 0)
            | (offsets > heap_bytes - stored * size)
        )
        bad &= lengths != 0
        if bool(bad.any()):
            row = int(bad.nonzero()[0, 0])
            raise FitsFormatError(
                f"column {column.name!r}, row {first + row}: the descriptor ({int(lengths[row])} elements at "
                f"{int(offsets[row])}) lies outside the heap of {heap_bytes} bytes",
                offset=self._hdu.data_start + table.row_bytes * (first + row) + column.offset,
            )
        if span.step != 1:
            lengths = _masked(lengths, span.step)
        if int(lengths.sum()) * size > _MAX_UNFOLDING * max(heap_bytes, 1) * (
            8 if column.element == "X" else 1
        ):
            raise FitsFormatError(
                f"column {column.name!r}: the arrays overlap and would unfold to over "
                f"{_MAX_UNFOLDING} times the heap"
            )
        values = allocate((int(lengths.sum()),), dtype)
        name = _AS_STORED.get(column.element, str(dtype).removeprefix("torch."))
        handle.read_ragged(
            self._hdu.start,
            column.index + 1,
            name,
            column.scale,
            column.zero,
            first,
            array("q", lengths.tolist()),
            *address(values),
        )
        if column.element == "L":
            _to_bool(values)
        offsets_of = torch.zeros(len(span) + 1, dtype=torch.int64, device="cpu")
        torch.cumsum(lengths[:: span.step], 0, out=offsets_of[1:])
        return _jagged(values, offsets_of)

    def _info(self) -> tuple[str, ...]:
        kind = "BINTABLE" if self._hdu.kind == "bintable" else "TABLE"
        try:
            shape = f"{self.nrows} rows x {len(self._table().columns)} columns"
        except FitsError as error:
            shape = f"! {error.message}"
        return str(self.index), self.name, str(self.version), kind, shape, "", ""


def _masked(lengths: torch.Tensor, step: int) -> torch.Tensor:
    kept = torch.zeros_like(lengths)
    kept[::step] = lengths[::step]
    return kept


def _to_bool(tensor: torch.Tensor) -> None:
    """Make the letters in the memory of a bool tensor 0 and 1: T is true, and the 1 of careless writers."""
    letters = tensor.view(torch.uint8)
    letters.copy_((letters == ord("T")) | (letters == 1))


def _jagged(values: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
    return torch.nested.nested_tensor_from_jagged(values, offsets)


def strings(column: torch.Tensor, encoding: str = "ascii", errors: str = "strict") -> list:
    """The texts of a character column: up to the first NUL, trailing blanks stripped.

    Args:
        column: uint8 (rows, width), (rows, n, width) for n texts a row, which gives a list of lists, or
            the jagged tensor of a variable-length character column.
        encoding, errors: As in bytes.decode. The standard allows ASCII only; some files do not care.

    Raises:
        FitsFormatError: A text is not in `encoding`; names the row.

    Example:
        >>> torchfits.strings(torch.tensor([[78, 71, 67, 32]], dtype=torch.uint8))
        ['NGC']
    """
    if column.is_nested:
        offsets = column.offsets().tolist()  # type: ignore[attr-defined]
        data = to_bytes(column.values())
        return [_text(data[i:j], row, encoding, errors) for row, (i, j) in enumerate(pairwise(offsets))]
    if column.dtype != torch.uint8 or column.ndim < 2:
        raise FitsUnsupported(
            f"strings are uint8 (rows, ..., width), not {column.dtype} {tuple(column.shape)}"
        )
    if column.ndim > 2:
        return [strings(row, encoding, errors) for row in column]
    data, width = to_bytes(column), column.shape[1]
    return [
        _text(data[row * width : (row + 1) * width], row, encoding, errors) for row in range(column.shape[0])
    ]


def _text(data: bytes, row: int, encoding: str, errors: str) -> str:
    text = data.partition(b"\0")[0].rstrip(b" ")
    try:
        return text.decode(encoding, errors)
    except UnicodeDecodeError as error:
        raise FitsFormatError(f"row {row}: {text!r} is not {encoding}: {error.reason}") from error
