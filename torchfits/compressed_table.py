"""Tile-compressed tables (FITS standard 4.0, section 10.3): decoded as far as rows and columns are asked for.

Every column of every tile is a stream of bytes of its own. Decoded, its cells lie one after the other, and
our kernels read them as they read the rows of a file. Arrays of variable length are streams each; what the
tile has of such a column are descriptors: of the arrays in the plain table, which tell how long they are,
then of their streams. The standard has the two the other way round; all writers do as cfitsio does.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice

import torch

from torchfits._direct import (
    DEFLATE_BEST,
    Collection,
    Conversion,
    Heap,
    inflate,
    read_rows,
    rice_decode,
    select_rows,
    unshuffle,
)
from torchfits._tensors import address, allocate, as_buffer, threads
from torchfits.cache import OpenFile
from torchfits.columns import (
    AS_BYTES,
    Arrays,
    Cells,
    ColumnReader,
    Nulls,
    Passed,
    Ragged,
    Rows,
    Values,
    as_c,
    cells_of,
    heap_of,
    input_of,
)
from torchfits.errors import FitsFormatError, FitsUnsupported
from torchfits.layout import ELEMENT_BYTES, Column, Hdu, RowTiles, TableLayout
from torchfits.where import RowFilter

_CODECS = ("GZIP_1", "GZIP_2", "RICE_1", "NOCOMPRESS")
# what RICE_1 can have made, and what GZIP_2 shuffles the bytes of; of arrays, complex numbers too
_RICE = "BIJ"
_SHUFFLED = "IJKED"
_RICE_BLOCK = 32
# letters of array.array, by bytes
_INTEGERS = {1: "b", 2: "h", 4: "i"}
# bytes of small tiles, or of small arrays, that are decoded before our kernels read them
_AT_ONCE = 1 << 22
# decoded bytes that are worth a second thread, and of tiles that are kept for the next piece of an iteration
_SMALL_JOB = 1 << 20
_KEPT_BYTES = 1 << 26
_Listed = range | torch.Tensor
_Bytes = bytes | bytearray | memoryview


class LastTiles:
    """Of each column the tile that was decoded last, from which the next piece of an iteration may begin."""

    def __init__(self) -> None:
        self._tiles: dict[int, tuple[int, list[_Bytes]]] = {}
        self._bytes = 0

    def of(self, column: Column, tiles: list[int]) -> dict[int, list[_Bytes]]:
        """Which of some tiles of a column are here."""
        tile, cells = self._tiles.get(column.index, (-1, []))
        return {tile: cells} if tile in tiles else {}

    def keep(self, column: Column, tile: int, cells: list[_Bytes]) -> None:
        _, before = self._tiles.pop(column.index, (-1, []))
        self._bytes -= sum(map(len, before))
        size = sum(map(len, cells))
        if self._bytes + size <= _KEPT_BYTES:
            self._tiles[column.index] = tile, cells
            self._bytes += size


class CompressedReader(ColumnReader):
    """Reads columns of a tile-compressed table; `table` is the one that it stands for."""

    def __init__(
        self,
        file: OpenFile,
        hdu: Hdu,
        table: TableLayout,
        tiles: RowTiles,
        mmap: bool,
        kept: LastTiles | None = None,
    ):
        super().__init__(file, hdu, table, "direct", mmap)
        self.tiles, self.kept = tiles, kept
        self.looked_at = -(-ColumnReader.looked_at // tiles.rows) * tiles.rows
        self._stored = ColumnReader(file, hdu, tiles.table, "direct", mmap)
        # of arrays: the descriptors of their streams, by column
        self._arrays: dict[str, torch.Tensor] = {}

    def read(
        self, columns: list[Column], rows: Rows, nulls: Nulls, ragged: Ragged
    ) -> tuple[dict[str, Values], dict[str, Values]]:
        listed = rows.all_numbers() if isinstance(rows, Passed) else rows
        self._check(columns, listed)
        return super().read(columns, listed, nulls, ragged)

    def matching(self, row_filter: RowFilter, rows: _Listed, columns: list[Column] | None = None) -> Passed:
        self._check([each.column for each in row_filter.inputs], rows)
        return super().matching(row_filter, rows)

    def _check(self, columns: Sequence[Column], rows: _Listed) -> None:
        """That the columns are of a kind that is known, and that there are streams for so many rows."""
        if not len(rows):
            return
        self.file.check_data(self.hdu)
        held = [column for column in columns if column.width and not column.problem]
        for column in held:
            codec = self._codec(column)
            if codec not in _CODECS:
                raise FitsUnsupported(
                    f"column {column.name!r}: ZCTYP{column.index + 1} = {codec!r} is no known compression"
                )
            if codec == "RICE_1" and (column.element or column.code) not in _RICE:
                raise FitsFormatError(f"column {column.name!r}: RICE_1 compresses no {column.tform}")
        # what takes no bytes is believed on the word of another column
        others = (column for column in self.table.columns if column.width and not column.problem)
        tiles = _tiles_of(rows, self.tiles.rows)
        for column in {column.index: column for column in held or islice(others, 1)}.values():
            self._check_sizes(column, tiles)

    def _check_sizes(self, column: Column, tiles: _Listed) -> None:
        """Nothing is allocated for tiles whose streams are too short for them, whatever is inside."""
        cell, width = self._cell(column), _decoded_width(column)
        streams = torch.zeros((len(tiles), 2), dtype=torch.int64, device="cpu")
        self._stored._fill([cells_of(cell, streams)], tiles)
        self._stored.without_sign(cell, streams)
        self._stored.check_arrays(cell, streams, tiles, AS_BYTES)
        short = streams[:, 0] < -(-self.tiles.rows * width // DEFLATE_BEST)
        for i in short.nonzero()[:, 0].tolist():
            tile, length = int(tiles[i]), int(streams[i, 0])
            size = self._rows_of(tile) * width
            if length * DEFLATE_BEST < size:  # the last tile has fewer rows
                raise FitsFormatError(
                    f"column {column.name!r}, tile {tile}: a stream of {length} bytes for {size}",
                    offset=self.hdu.data_start + self.tiles.table.row_bytes * tile + cell.offset,
                )

    def _codec(self, column: Column) -> str:
        return self.tiles.codecs[column.index]

    def _cell(self, column: Column) -> Column:
        """The column of the streams."""
        return self.tiles.table.columns[column.index]

    def _rows_of(self, tile: int) -> int:
        return min(self.tiles.rows, self.table.nrows - tile * self.tiles.rows)

    # -- cells

    def _fill(self, cells: list[Cells], rows: Rows) -> None:
        assert not isinstance(rows, Passed)
        for each in cells:
            if not each.tensor.numel() or not each.count:
                continue
            column = each.column
            parts = [(each, column.width)]
            if column.code in "PQ":
                streams = torch.zeros_like(each.tensor)
                self._arrays[column.name] = streams
                parts.append(
                    (cells_of(replace(column, code="Q"), streams), _decoded_width(column) - column.width)
                )
            for tiles, local, places in self._pieces(rows, _decoded_width(column)):
                decoded = self._decode_tiles(column, tiles)
                for part, (target, width) in enumerate(parts):
                    _put(target, b"".join(tile[part] for tile in decoded), width, local, places)

    def _select(
        self,
        row_filter: RowFilter,
        rows: _Listed,
        keep: torch.Tensor,
        collection: Collection | None = None,
    ) -> int:
        columns = {each.column.index: each.column for each in row_filter.inputs}
        passed, row_bytes, offsets = 0, 1, {}  # a byte in case that all columns are of no width
        for index, column in columns.items():
            offsets[index] = row_bytes
            row_bytes += column.width
        inputs = [
            input_of(replace(each, column=replace(each.column, offset=offsets[each.column.index])))
            for each in row_filter.inputs
        ]
        for tiles, local, places in self._pieces(rows, row_bytes):
            count = sum(self._rows_of(int(tile)) for tile in tiles)
            table = allocate((count, row_bytes), torch.uint8)
            for index, column in columns.items():
                if column.width:
                    cells = bytearray().join(tile[0] for tile in self._decode_tiles(column, tiles))
                    whole = torch.frombuffer(cells, dtype=torch.uint8).view(count, column.width)
                    table[:, offsets[index] : offsets[index] + column.width] = whole
            found = allocate((len(local),), torch.uint8)
            passed += select_rows(
                as_buffer(table),
                0,
                row_bytes,
                count,
                as_c(local),
                inputs,
                row_filter.program,
                *address(found),
                threads(),
                False,
            )
            keep[places] = found
        return passed

    def _pieces(self, rows: _Listed, width: int) -> Iterator[tuple[_Listed, _Listed, slice | torch.Tensor]]:
        """Some tiles at a time: which ones, the asked rows within them, and their places in the result.

        Rows count from the first of these tiles, as if the others lay between them no more.
        """
        side = self.tiles.rows
        at_once = max(_AT_ONCE // (side * width), 1)
        if isinstance(rows, range) and rows.step <= side:
            tiles = range(rows[0] // side, rows[-1] // side + 1)
            for first in range(tiles.start, tiles.stop, at_once):
                part = range(first, min(first + at_once, tiles.stop))
                low, high = (
                    min(max(-(-(tile * side - rows.start) // rows.step), 0), len(rows))
                    for tile in (part.start, part.stop)
                )
                inside = rows[low:high]
                yield (
                    part,
                    range(inside.start - first * side, inside.stop - first * side, rows.step),
                    slice(low, high),
                )
            return
        numbers = _numbers(rows)
        order = None if bool((numbers[1:] >= numbers[:-1]).all()) else numbers.argsort(stable=True)
        ordered = numbers if order is None else numbers[order]
        found, counts = (ordered // side).unique_consecutive(return_counts=True)
        ends = torch.cat([torch.zeros(1, dtype=torch.int64, device="cpu"), counts.cumsum(0)])
        for i in range(0, len(found), at_once):
            k = len(found[i : i + at_once])
            low, high = int(ends[i]), int(ends[i + k])
            base = torch.arange(k, device="cpu").repeat_interleave(counts[i : i + k]) * side
            places = slice(low, high) if order is None else order[low:high]
            yield found[i : i + k], base + ordered[low:high] % side, places

    def _decode_tiles(self, column: Column, tiles: _Listed) -> list[list[_Bytes]]:
        """The cells of a column in some tiles; of arrays their descriptors, and those of their streams."""
        numbers = [int(tile) for tile in tiles]
        decoded = self.kept.of(column, numbers) if self.kept is not None else {}
        missing = tiles if not decoded else _numbers(tiles)[[tile not in decoded for tile in numbers]]
        if len(missing):
            decoded |= self._decode_streams(column, missing)
        if self.kept is not None:
            self.kept.keep(column, numbers[-1], decoded[numbers[-1]])
        return [decoded[tile] for tile in numbers]

    def _decode_streams(self, column: Column, tiles: _Listed) -> dict[int, list[_Bytes]]:
        ((values, ends),) = self._stored.read([self._cell(column)], tiles, None, "offsets")[0].values()
        streams, bounds = as_buffer(values), ends.tolist()
        codec = "GZIP_1" if column.code in "PQ" else self._codec(column)
        number, width = _number_width(codec, column.code, _SHUFFLED), _decoded_width(column)

        def decode(i: int) -> tuple[int, list[_Bytes]]:
            tile = int(tiles[i])
            rows = self._rows_of(tile)
            try:
                cells = _decode(codec, streams[bounds[i] : bounds[i + 1]], rows * width, number)
            except ValueError as error:
                raise FitsFormatError(
                    f"column {column.name!r}, tile {tile}: the {codec} stream {error}"
                ) from error
            if column.code not in "PQ":
                return tile, [cells]
            whole = memoryview(cells)
            return tile, [whole[: rows * column.width], whole[rows * column.width :]]

        workers = min(threads(), len(tiles))
        if workers == 1 or len(tiles) * self.tiles.rows * width < _SMALL_JOB:
            return dict(map(decode, range(len(tiles))))
        with ThreadPoolExecutor(workers, "torchfits") as pool:
            return dict(pool.map(decode, range(len(tiles))))

    # -- arrays

    def _read_arrays(
        self,
        column: Column,
        descriptors: torch.Tensor,
        rows: Rows,
        conversion: Conversion | None,
        dtype: torch.dtype,
    ) -> Arrays:
        ends = torch.zeros(len(rows) + 1, dtype=torch.int64, device="cpu")
        if not column.width or not len(rows):
            return allocate((0,), dtype), ends
        streams, counts = self._arrays[column.name], descriptors[:, 0]
        assert not isinstance(rows, Passed)
        try:
            heap, _ = self._stored.check_arrays(self._cell(column), streams, rows, AS_BYTES)
        except FitsFormatError as error:
            error.offset = None  # the descriptor lies in a stream
            raise
        per_byte, width = (8, 1) if column.element == "X" else (1, ELEMENT_BYTES[column.element])
        bad = (counts < 0) | (counts > streams[:, 0] * DEFLATE_BEST * per_byte // width)
        if bool(bad.any()):
            i = int(bad.nonzero()[0, 0])
            raise FitsFormatError(
                f"column {column.name!r}, row {int(rows[i])}: {int(counts[i])} elements in a stream of "
                f"{int(streams[i, 0])} bytes"
            )
        torch.cumsum(counts, 0, out=ends[1:])
        values = allocate((int(ends[-1]),), dtype)
        sizes = (counts * width + per_byte - 1) // per_byte
        # what is decoded at a time: its streams and what they make
        costs = (sizes + streams[:, 0]).cumsum(0)
        first = 0
        while first < len(rows):
            before = int(costs[first - 1]) if first else 0
            last = max(int(torch.searchsorted(costs, before + _AT_ONCE)), first + 1)
            arrays = self._decode_arrays(
                column, heap, streams[first:last], sizes[first:last], rows[first:last]
            )
            begins = sizes[first:last].cumsum(0) - sizes[first:last]
            found = torch.stack([counts[first:last], begins], 1)
            low, high = int(ends[first]), int(ends[last])
            local_ends = torch.zeros(last - first + 1, dtype=torch.int64, device="cpu")
            if high > low:
                made = heap_of(column, 0, len(arrays), conversion)
                self.read_arrays(made, arrays, found, local_ends, values[low:high])
            first = last
        return values, ends

    def _decode_arrays(
        self, column: Column, heap: Heap, streams: torch.Tensor, sizes: torch.Tensor, rows: _Listed
    ) -> bytes:
        """The arrays of some rows, one after the other, each of its size."""
        lengths = streams[:, 0].contiguous()
        read = allocate((int(lengths.sum()),), torch.uint8)
        ends = torch.zeros(len(rows) + 1, dtype=torch.int64, device="cpu")
        if read.numel():
            self.read_arrays(heap, self.file.where(self.hdu), streams, ends, read)
        codec, data, at = self._codec(column), as_buffer(read), 0
        number = _number_width(codec, column.element, _SHUFFLED + "C")
        arrays = []
        for row, length, size in zip(rows, lengths.tolist(), sizes.tolist(), strict=True):
            stream = data[at : at + length]
            at += length
            if not size:
                continue
            try:
                # what would not get smaller is left as it was
                arrays.append(stream if length == size else _decode(codec, stream, size, number))
            except ValueError as error:
                raise FitsFormatError(
                    f"column {column.name!r}, row {int(row)}: the {codec} stream {error}"
                ) from error
        return b"".join(arrays)


def _decoded_width(column: Column) -> int:
    """Bytes that a row has in the decoded stream of a column."""
    return column.width + 16 if column.code in "PQ" else column.width


def _number_width(codec: str, code: str, shuffled: str) -> int:
    """Bytes of the numbers that a codec knows; 1 where it takes what comes as bytes."""
    return ELEMENT_BYTES[code] if codec == "RICE_1" or (codec == "GZIP_2" and code in shuffled) else 1


def _numbers(rows: _Listed) -> torch.Tensor:
    if isinstance(rows, range):
        return torch.arange(rows.start, rows.stop, rows.step, device="cpu")
    return rows


def _tiles_of(rows: _Listed, side: int) -> _Listed:
    """The tiles of `side` rows in which some rows lie, rising."""
    if isinstance(rows, range) and rows.step <= side:
        return range(rows[0] // side, rows[-1] // side + 1)
    return (_numbers(rows) // side).unique()


def _put(cells: Cells, data: bytes, width: int, rows: _Listed, places: slice | torch.Tensor) -> None:
    """Cells that lie one after the other, those of some rows, to their places in a column."""
    inside = replace(cells, column=replace(cells.column, offset=0))
    first, last = 0, len(rows)
    if isinstance(places, slice):
        first, last = places.start, places.stop
    else:
        inside.tensor = allocate((last, *cells.tensor.shape[1:]), cells.tensor.dtype)
        if cells.marks is not None:
            inside.marks = allocate(inside.tensor.shape, torch.bool)
    fields = [inside.field(first, last)]
    read_rows(data, 0, width, len(data) // width, as_c(rows), fields, threads(), False)
    if not isinstance(places, slice):
        _as_bytes(cells.tensor)[places] = _as_bytes(inside.tensor)
        if cells.marks is not None and inside.marks is not None:
            cells.marks[places] = inside.marks


def _as_bytes(column: torch.Tensor) -> torch.Tensor:
    # torch puts no unsigned numbers of more than a byte to any places
    return column.view(len(column), -1).view(torch.uint8)


# ---------------------------------------------------------------------------- streams


def _decode(codec: str, stream: memoryview, size: int, number: int) -> _Bytes:
    """The `size` bytes that a stream stands for; ValueError says why 'the stream' does not."""
    if codec == "RICE_1":
        numbers = array(_INTEGERS[number], rice_decode([stream], size // number, number, _RICE_BLOCK)[0])
        if sys.byteorder == "little":
            numbers.byteswap()
        return numbers.tobytes()
    if codec == "NOCOMPRESS":
        if len(stream) != size:
            raise ValueError(f"makes {len(stream)} bytes, not {size}")
        return bytes(stream)
    data = inflate(stream, size)
    return data if number == 1 else unshuffle(data, number)
