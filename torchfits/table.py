"""TableHDU: reading binary and ASCII tables by columns."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch

from torchfits._tensors import Device, check_device, integers
from torchfits.arrow import Contents, arrow_table, astropy_table, pandas_frame, polars_frame
from torchfits.columns import ColumnReader, Nulls, Ragged, Rows, Values, dtype_of
from torchfits.compressed_table import CompressedReader, LastTiles
from torchfits.compression import table_header
from torchfits.errors import FitsError, FitsUnsupported, SectionError
from torchfits.extras import require
from torchfits.hdu import HDU
from torchfits.header import Header
from torchfits.layout import Column, TableLayout
from torchfits.sections import resolve_section
from torchfits.where import RowFilter, compile_filter

Table = dict[str, Values]
# how columns and rows are asked for; None for all
Names = Sequence[str | int] | None
Numbers = slice | Sequence[int] | torch.Tensor | None

# rows that `iter_table` looks at together for those that meet a condition
_LOOKED_AT = 1 << 18


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
    """A table, binary (BINTABLE, plain or tile-compressed) or ASCII (TABLE)."""

    def _table(self) -> TableLayout:
        return cast(TableLayout, self._layout())

    @property
    def engine(self) -> Literal["direct", "cfitsio"]:
        """What reads the rows: 'direct', our own kernels, or 'cfitsio'."""
        return "cfitsio" if self._parent._engine == "cfitsio" else "direct"

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
                dtype_of(column, self._hdu.kind),
                column.shape,
                column.code in ("P", "Q"),
            )
            for column in self._table().columns
        ]

    def read_header(self) -> Header:
        """A copy of the header; of a tile-compressed table, the header of the table it stands for."""
        header = super().read_header()
        stored = self._hdu.kind != "bintable" or self._hdu.as_stored
        is_tiled = not stored and header.get("ZTABLE") is True
        return self._stood_for(header, table_header) if is_tiled else header

    def __len__(self) -> int:
        return self.nrows

    # rows are not iterated over one by one, and columns by their names
    __iter__ = None

    def __getitem__(self, column: str | int) -> Values:
        """One column, whole, as `read_table` gives it."""
        (values,) = self.read_table([column]).values()
        return values

    def read_table(
        self,
        columns: Names = None,
        rows: Numbers = None,
        device: Device = "cpu",
        *,
        where: str | None = None,
        nulls: Nulls = None,
        ragged: Ragged = "nested",
    ) -> Any:
        """Read columns of a table, a tensor each.

        Args:
            columns: Names, in any case, or positions from 0, in the order that is wanted; None for
                all. The keys of the result are the names as the file spells them.
            rows: A slice of rows with a positive step, or row numbers in any order, negative ones from the
                end, each as often as it comes; None for all.
            device: Where the tensors shall be.
            where: A condition in terms of the columns, such as 'MAG_G < 17 & CLASS == 2': of the asked rows,
                those that meet it. docs/filters.md describes the language. Whatever the engine, our own
                kernels choose the rows.
            nulls: What becomes of null values. None: integers stay the TNULL that they are. 'nan': integer
                columns with TNULL become float32 (B, I) or float64 (J, K) with NaN. 'mask': the result is a
                pair of dicts, the second with a bool tensor, true where null, for each integer column with
                TNULL and each logical one.
            ragged: What columns of variable length give: 'nested' jagged tensors, or 'offsets', pairs
                (values, offsets): the arrays one after the other, and where each row's begin, int64
                (rows + 1,).

        Returns:
            A dict of name -> tensor. (rows,) for a scalar column, (rows, n) for a vector, (rows, *shape)
            with TDIM. L and X give bool, A uint8 (rows, width) (see `strings`), B, I, J, K, E, D, C, M
            uint8, int16, int32, int64, float32, float64, complex64, complex128. TSCAL/TZERO: the unsigned
            conventions give exact integers, any other float32 for B and I, float64 for J and K; both parts
            of complex numbers are scaled. P and Q give `torch.nested` jagged tensors of (rows, *), with TDIM
            followed by its axes but the slowest. Columns of ASCII tables: I gives int64, F, E, D float64.

        Raises:
            SectionError: No such column, or no such row.
            FilterError: `where` is no condition on these columns; shows the place.
            FitsFormatError: The data are cut short or damaged.
            FitsIOError: The file changed since it was opened, or the system refuses.

        Example:
            >>> torchfits.open('table.fits')[1].read_table(columns=['RA'], rows=slice(0, 2))
            {'RA': tensor([10., 20.], dtype=torch.float64)}
        """
        return self._read(None, columns, rows, device, where, nulls, ragged)

    def _read(
        self,
        kept: LastTiles | None,
        columns: Names,
        rows: Numbers,
        device: Device,
        where: str | None,
        nulls: Nulls,
        ragged: Ragged,
    ) -> Any:
        """What `read_table` returns; an iteration keeps decoded tiles for its next piece."""
        target = check_device(device)
        check_options(nulls, ragged)
        try:
            reader, wanted = self._reader(kept), self._choose(self._table(), columns)
            asked = self._rows(rows)
            chosen: Rows = asked if where is None else reader.matching(self._filter(where), asked, wanted)
            values, masks = reader.read(wanted, chosen, nulls, ragged)
        except FitsError as error:
            error.locate(path=self._parent.path, hdu=self.index)
            raise
        values, masks = _to_device(values, target), _to_device(masks, target)
        return (values, masks) if nulls == "mask" else values

    def iter_table(
        self,
        columns: Names = None,
        batch_rows: int = 65536,
        *,
        where: str | None = None,
        device: Device = "cpu",
        nulls: Nulls = None,
        ragged: Ragged = "nested",
        prefetch: int = 1,
    ) -> Iterator[Any]:
        """Read a table piece by piece, in memory for a few pieces however large the table is.

        Args:
            columns, where, device, nulls, ragged: As in `read_table`.
            batch_rows: Rows of a piece, of those that meet `where`; the last piece has what is left.
            prefetch: Pieces that another thread reads ahead; 0 for none.

        Yields:
            What `read_table` returns for each piece.

        Raises:
            As `read_table` does, when the first piece is asked for or later.

        Example:
            >>> for batch in torchfits.open('table.fits')[1].iter_table(['RA'], batch_rows=2):
            ...     print(batch['RA'])
            tensor([10., 20.], dtype=torch.float64)
            tensor([30.], dtype=torch.float64)
        """
        for name, number, least in (("batch_rows", batch_rows, 1), ("prefetch", prefetch, 0)):
            if isinstance(number, bool) or not isinstance(number, int) or number < least:
                raise ValueError(f"{name} is a number from {least}, not {number!r}")
        check_device(device)
        check_options(nulls, ragged)

        pieces = self._pieces(columns, batch_rows, where, device, nulls, ragged)
        return pieces if prefetch == 0 else _ahead(pieces, prefetch)

    def _pieces(
        self,
        columns: Names,
        count: int,
        where: str | None,
        device: Device,
        nulls: Nulls,
        ragged: Ragged,
    ) -> Iterator[Any]:
        """What `iter_table` gives, each piece when it is asked for."""

        kept = LastTiles()

        def read(rows: slice | torch.Tensor) -> Any:
            return self._read(kept, columns, rows, device, None, nulls, ragged)

        if where is None:
            for first in range(0, self.nrows, count):
                yield read(slice(first, first + count))
            return
        waiting = torch.empty(0, dtype=torch.int64, device="cpu")
        for first in range(0, self.nrows, max(count, _LOOKED_AT)):
            waiting = torch.cat(
                [waiting, self._matching(where, slice(first, first + max(count, _LOOKED_AT)))]
            )
            while len(waiting) >= count:
                yield read(waiting[:count])
                waiting = waiting[count:]
        if len(waiting):
            yield read(waiting)

    def _matching(self, where: str, rows: slice) -> torch.Tensor:
        """The numbers of those rows that meet a condition."""
        try:
            return self._reader().matching(self._filter(where), self._rows(rows)).all_numbers()
        except FitsError as error:
            error.locate(path=self._parent.path, hdu=self.index)
            raise

    def _filter(self, where: str) -> RowFilter:
        return compile_filter(where, self._table().columns, self._hdu.kind == "table")

    def to_arrow(
        self,
        columns: Names = None,
        rows: Numbers = None,
        where: str | None = None,
    ) -> Any:
        """Read columns as a pyarrow.Table, which needs the extra 'arrow'. docs/tables.md says more.

        Numbers stay where they were read to; logicals become bits, and characters texts without trailing
        blanks, in the same memory.

        Args:
            columns, rows, where: As in `read_table`.

        Returns:
            A pyarrow.Table. Nulls are TNULL and undefined logicals; NaN stays NaN. Characters are
            large_string. Vectors are fixed_size_list, nested with TDIM; P and Q large_list; complex numbers
            fixed_size_list of (real, imaginary). Units, descriptions and the like are metadata of the fields
            by their keywords without number ('TUNIT', 'TCOMM', 'TDISP', 'TFORM', ...), the rest of the
            header is metadata of the schema.

        Raises:
            ImportError: The extra is not installed.
            FitsFormatError: A text is not ASCII (names the row), or as in `read_table`.

        Example:
            >>> table = torchfits.open('table.fits')[1].to_arrow()
            >>> table.column('NAME').to_pylist(), table.schema.field('RA').metadata[b'TFORM']
            (['a', 'b', 'c'], b'D')
        """
        return self._converted("arrow", arrow_table, columns, rows, where)

    def to_pandas(
        self,
        columns: Names = None,
        rows: Numbers = None,
        where: str | None = None,
    ) -> Any:
        """Read columns as a pandas.DataFrame, which needs the extra 'pandas'.

        Args:
            columns, rows, where: As in `read_table`.

        Returns:
            A pandas.DataFrame. Numbers are numpy's, in the memory that they were read to; columns in which
            there are nulls are of pandas' nullable types. Texts are str. Vectors and P and Q are numpy arrays
            in columns of objects, float64 with NaN if integers among them are null. Units and descriptions
            are in `attrs['units']` and `attrs['descriptions']`.

        Raises:
            As `to_arrow` does.

        Example:
            >>> torchfits.open('table.fits')[1].to_pandas(where='RA > 15')
                 RA NAME
            0  20.0    b
            1  30.0    c
        """
        return self._converted("pandas", pandas_frame, columns, rows, where)

    def to_polars(
        self,
        columns: Names = None,
        rows: Numbers = None,
        where: str | None = None,
    ) -> Any:
        """Read columns as a polars.DataFrame, which needs the extra 'polars'.

        Args:
            columns, rows, where: As in `read_table`.

        Returns:
            What polars makes of `to_arrow`: vectors are Array, P and Q List. It keeps no metadata.

        Raises:
            As `to_arrow` does.

        Example:
            >>> torchfits.open('table.fits')[1].to_polars(rows=slice(0, 2)).to_dicts()
            [{'RA': 10.0, 'NAME': 'a'}, {'RA': 20.0, 'NAME': 'b'}]
        """
        return self._converted("polars", polars_frame, columns, rows, where)

    def to_astropy(
        self,
        columns: Names = None,
        rows: Numbers = None,
        where: str | None = None,
    ) -> Any:
        """Read columns as an astropy.table.Table, which needs the extra 'astropy'.

        Args:
            columns, rows, where: As in `read_table`.

        Returns:
            A Table much as astropy's `Table.read` gives it; `QTable` makes Quantities of its columns with
            units. Columns in which there are nulls are masked; NaN and empty texts are not. Texts are bytes,
            P and Q arrays in columns of objects. `unit` is UnrecognizedUnit where TUNIT is no unit of the
            standard; TCOMM is `description`, TDISP `format`, the header `meta`.

        Raises:
            ImportError: The extra is not installed.
            FitsError: As in `read_table`.

        Example:
            >>> print(torchfits.open('table.fits')[1].to_astropy(['NAME', 'RA']))
            NAME  RA
            ---- ----
               a 10.0
               b 20.0
               c 30.0
        """
        return self._converted("astropy", astropy_table, columns, rows, where)

    def _converted(
        self,
        extra: str,
        convert: Callable[[Contents], Any],
        columns: Names,
        rows: Numbers,
        where: str | None = None,
    ) -> Any:
        """What `convert`, which needs the packages of an extra, makes of these columns."""
        require(extra)
        values, masks = self.read_table(columns, rows, where=where, nulls="mask", ragged="offsets")
        try:
            return convert(Contents(self._table().columns, values, masks, self.read_header()))
        except FitsError as error:
            error.locate(path=self._parent.path, hdu=self.index)
            raise

    def _reader(self, kept: LastTiles | None = None) -> ColumnReader:
        parent, table = self._parent, self._table()
        if table.tiles is None:
            return ColumnReader(parent._opened(), self._hdu, table, self.engine, parent._mmap)
        if self.engine == "cfitsio":
            raise FitsUnsupported("cfitsio reads no tile-compressed tables in place; engine='direct' does")
        return CompressedReader(parent._opened(), self._hdu, table, table.tiles, parent._mmap, kept)

    def _rows(self, rows: Numbers) -> range | torch.Tensor:
        """The rows that are asked for, each of them there."""
        count = self.nrows
        if rows is None or isinstance(rows, slice):
            return resolve_section(rows, (count,))[0][0]
        try:
            numbers = integers(rows, "rows")
        except TypeError as error:
            raise SectionError(f"rows are a slice or row numbers: {error}") from None
        if numbers.ndim != 1:
            raise SectionError(f"rows are a slice or a list of numbers, not {rows!r}")
        # memory of our own, which nobody changes between this check and the reading
        numbers = numbers.clone(memory_format=torch.contiguous_format)
        least, most = map(int, numbers.aminmax()) if len(numbers) else (0, -1)
        if least < -count or most >= count:
            outside = (numbers < -count) | (numbers >= count)
            raise SectionError(f"row {int(numbers[outside][0])} of a table of {count}")
        return numbers if least >= 0 else torch.where(numbers < 0, numbers + count, numbers)

    @staticmethod
    def _choose(table: TableLayout, names: Names) -> list[Column]:
        if names is None:
            return table.columns
        if isinstance(names, str):
            raise TypeError(f"columns is a list of names: [{names!r}]")
        known: dict[str | int, Column] = {column.name.upper(): column for column in table.columns}
        known |= dict(enumerate(table.columns))
        names = list(names)
        keys = [name.strip().upper() if isinstance(name, str) else name for name in names]
        # True and False would be 1 and 0
        missing = [
            repr(name)
            for name, key in zip(names, keys, strict=True)
            if isinstance(key, bool) or key not in known
        ]
        if missing:
            there = ", ".join(column.name for column in table.columns[:50])
            raise SectionError(f"no column {', '.join(missing)}; there are {there}")
        return [known[key] for key in keys]

    def _info(self) -> tuple[str, ...]:
        kind = "BINTABLE" if self._hdu.kind == "bintable" else "TABLE"
        codecs: set[str] = set()
        try:
            table = self._table()
            shape = f"{table.nrows} rows x {len(table.columns)} columns"
            codecs.update(table.tiles.codecs if table.tiles else ())
        except FitsError as error:
            shape = f"! {error.message}"
        return str(self.index), self.name, str(self.version), kind, shape, "", " ".join(sorted(codecs))


def check_options(nulls: Nulls, ragged: Ragged) -> None:
    if nulls not in (None, "nan", "mask"):
        raise ValueError(f"nulls {nulls!r}: None, 'nan' or 'mask'")
    if ragged not in ("nested", "offsets"):
        raise ValueError(f"ragged {ragged!r}: 'nested' or 'offsets'")


def _to_device(table: Table, device: torch.device) -> Table:
    if device.type == "cpu":
        return table
    return {
        name: tuple(part.to(device) for part in values) if isinstance(values, tuple) else values.to(device)
        for name, values in table.items()
    }


def _ahead(pieces: Iterator[Any], count: int) -> Iterator[Any]:
    """The same pieces, `count` of them made ahead in another thread."""
    end, process = object(), os.getpid()
    with ThreadPoolExecutor(1, "torchfits") as pool:
        waiting = deque(pool.submit(next, pieces, end) for _ in range(count))
        try:
            while True:
                if os.getpid() != process:  # the other thread is not there after a fork
                    raise FitsUnsupported(
                        "the pieces are read ahead in another process, where the iteration began; begin anew"
                    )
                waiting.append(pool.submit(next, pieces, end))
                piece = waiting.popleft().result()
                if piece is end:
                    return
                yield piece
        finally:
            for each in waiting:
                each.cancel()
