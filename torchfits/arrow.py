"""Columns of tables as Arrow arrays, and as what is built on them: pandas, polars, astropy tables.

The packages are extras, and imported where they are used.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch

from torchfits._direct import end_texts
from torchfits._tensors import address
from torchfits.columns import Values
from torchfits.errors import FitsFormatError, FitsUnsupported
from torchfits.header import Header
from torchfits.layout import Column
from torchfits.text import decode, pack, strings
from torchfits.writer import OF_COLUMN, STRUCTURAL

# keywords of a column that say how it is stored, which its values no longer are
_STORAGE = ("TTYPE", "TSCAL", "TZERO", "TNULL", "TBCOL")
# TDISPn and what Python calls the same (FITS standard 4.0, section 7.3.4, table 20); texts are not padded
_DISPLAY = re.compile(r"(?:([IBOZ])(\d+)(?:\.\d+)?|(F|EN|ES|E|D|G)(\d+\.\d+)(?:E\d+)?)$")
_PYTHON_FORMAT = {"I": "d", "B": "b", "O": "o", "Z": "x", "F": "f", "G": "g"}

# keywords that astropy keeps as attributes of columns
_ATTRIBUTES = ("TFORM", "TUNIT", "TDIM", "TDISP", "TCOMM")

Arrays = tuple[torch.Tensor, torch.Tensor]


@dataclass(slots=True)
class Contents:
    """Columns as `read_table` gives them with nulls='mask' and ragged='offsets'. Their memory is used up."""

    columns: list[Column]
    values: dict[str, Values]
    masks: dict[str, Values]
    header: Header

    def __iter__(self) -> Iterator[tuple[Column, Values, Values | None]]:
        by_name = {column.name: column for column in self.columns}
        for name, values in self.values.items():
            yield by_name[name], values, self.masks.get(name)


def is_text(column: Column) -> bool:
    """Whether it holds characters."""
    return (column.element or column.code) == "A"


# ---------------------------------------------------------------------------- what headers say


def _about_columns(header: Header) -> dict[int, dict[str, Any]]:
    """Index of a column -> what the header says about it, by keywords without their number."""
    about: dict[int, dict[str, Any]] = {}
    for card in header.cards:
        match = OF_COLUMN.fullmatch(card.keyword)
        if match is not None and match[1] not in _STORAGE and not card.problem:
            about.setdefault(int(match[2]) - 1, {}).setdefault(match[1] + match[3], card.value)
    return about


def _about_table(header: Header) -> dict[str, Any]:
    """What the header says about the whole: keyword -> value, a list of them where it comes again."""
    about: dict[str, Any] = {}
    for card in header.cards:
        key = card.keyword
        if not key or card.problem or STRUCTURAL.fullmatch(key) or OF_COLUMN.fullmatch(key):
            continue
        if key in about or key in ("COMMENT", "HISTORY"):
            earlier = about.get(key, [])
            about[key] = [*(earlier if isinstance(earlier, list) else [earlier]), card.value]
        else:
            about[key] = card.value
    return about


def _metadata(about: dict[str, Any]) -> dict[str, str]:
    """As Arrow keeps it: all of it text, logicals as T and F."""

    def text(value: Any) -> str:
        if isinstance(value, list):
            return "\n".join(map(text, value))
        if value is None:
            return ""
        return "FT"[value] if isinstance(value, bool) else str(value)

    return {key: text(value) for key, value in about.items()}


# ---------------------------------------------------------------------------- Arrow


def _buffer(tensor: torch.Tensor) -> Any:
    """The memory of a tensor, which lives as long as the buffer."""
    import pyarrow as pa

    # one of nothing must be somewhere, too
    return pa.foreign_buffer(*address(tensor), base=tensor) if tensor.numel() else pa.py_buffer(b"")


def _bits(tensor: torch.Tensor) -> Any:
    """A bool tensor as Arrow has them: a bit each."""
    import pyarrow as pa

    data = [None, _buffer(tensor.view(torch.uint8))]
    return pa.Array.from_buffers(pa.uint8(), tensor.numel(), data).cast(pa.bool_()).buffers()[1]


def _validity(nulls: torch.Tensor | None) -> Any:
    return None if nulls is None or not bool(nulls.any()) else _bits(~nulls)


def _lists(elements: Any, offsets: torch.Tensor) -> Any:
    import pyarrow as pa

    data = [None, _buffer(offsets)]
    return pa.Array.from_buffers(pa.large_list(elements.type), len(offsets) - 1, data, children=[elements])


def _fixed_lists(elements: Any, count: int, size: int) -> Any:
    """`count` lists of `size` elements; lists of none get offsets, as parquet and polars want it."""
    import pyarrow as pa

    if not size:
        return _lists(elements, torch.zeros(count + 1, dtype=torch.int64, device="cpu"))
    return pa.Array.from_buffers(pa.list_(elements.type, size), count, [None], children=[elements])


def _texts(fields: torch.Tensor, ends: torch.Tensor | None, rows: Any, errors: str) -> Any:
    """The texts of fields of characters, in the memory of the fields; `rows`, `errors` as in `decode`."""
    import pyarrow as pa

    offsets, bad = pack(fields, ends, fields)
    if bad >= 0:
        return pa.array(decode(fields, offsets, "ascii", errors, rows), pa.large_string())
    return pa.Array.from_buffers(
        pa.large_string(), len(offsets) - 1, [None, _buffer(offsets), _buffer(fields)]
    )


def array_of(values: Values, nulls: Values | None = None, text: bool = False, errors: str = "strict") -> Any:
    """A column as a pyarrow.Array, in the memory of its tensors; but logicals and nulls become bits.

    Args:
        values: A contiguous tensor (rows, ...) of the host, or a pair (values, offsets).
        nulls: The same of bool: true where null.
        text: Characters, uint8 (rows, ..., width) or a pair, which become texts; their tensor is overwritten.
        errors: What to do with texts that are not ASCII, as in bytes.decode.

    Raises:
        FitsFormatError: A text is not ASCII; names the row.
        FitsUnsupported: Arrow has no such type.
    """
    import pyarrow as pa

    if isinstance(values, tuple):
        elements, offsets = values
        if text and elements.ndim == 1:
            return _texts(elements, offsets, range(len(offsets)), errors)
        if text:
            rows = offsets.tolist()
            return _lists(_texts(elements, None, rows, errors), offsets)
        return _lists(array_of(elements, None if nulls is None else nulls[0]), offsets)
    shape, dtype = values.shape, values.dtype
    if text:
        shape = shape[:-1]
        each = shape[1:].numel()
        array = _texts(values, None, range(0, len(values) * each + 1, each or 1), errors)
    elif dtype.is_complex:
        array = _fixed_lists(array_of(torch.view_as_real(values).view(-1)), values.numel(), 2)
    else:
        kind = getattr(pa, str(dtype).removeprefix("torch."), None) if dtype != torch.bool else pa.bool_
        if kind is None:
            raise FitsUnsupported(f"Arrow has no type for {dtype}")
        data = _bits(values) if dtype == torch.bool else _buffer(values)
        array = pa.Array.from_buffers(kind(), values.numel(), [_validity(nulls), data])
    for axis in range(len(shape) - 1, 0, -1):
        array = _fixed_lists(array, math.prod(shape[:axis]), shape[axis])
    return array


def _array(column: Column, values: Values, nulls: Values | None, errors: str = "strict") -> Any:
    try:
        return array_of(values, nulls, is_text(column), errors)
    except FitsFormatError as error:
        error.message = f"column {column.name!r}, {error.message}; read_table and strings take any encoding"
        raise


def arrow_table(contents: Contents, errors: str = "strict") -> Any:
    """A pyarrow.Table; what the header says is in the metadata of the schema and of its fields."""
    import pyarrow as pa

    about = _about_columns(contents.header)
    fields, arrays = [], []
    for column, values, nulls in contents:
        arrays.append(_array(column, values, nulls, errors))
        told = _metadata(about.get(column.index, {}))
        fields.append(pa.field(column.name, arrays[-1].type, metadata=told))
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields, _metadata(_about_table(contents.header))))


def polars_frame(contents: Contents) -> Any:
    """A polars.DataFrame of the same memory; polars keeps no metadata."""
    import polars

    return polars.from_arrow(arrow_table(contents))


# ---------------------------------------------------------------------------- numpy


def text_array(fields: torch.Tensor) -> Any:
    """Characters, uint8 (rows, ..., width), as a numpy array of bytes (rows, ...).

    The memory is that of the tensor, in which NUL is put where the texts end.
    """
    import numpy as np

    width = fields.shape[-1]
    if not width:
        return np.zeros(fields.shape[:-1], "S1")
    end_texts(*address(fields), width)
    return fields.numpy().view(f"S{width}")[..., 0]


def _objects(values: list) -> Any:
    """A numpy array of any objects, arrays among them."""
    import numpy as np

    array = np.empty(len(values), dtype=object)
    for i, value in enumerate(values):
        array[i] = value
    return array


def _elements(values: Values | None) -> Any:
    """The tensor of the elements of all rows."""
    return values[0] if isinstance(values, tuple) else values


def _rows_of(values: Arrays, array: Any) -> Any:
    """The arrays of the rows, views of `array`, which has all their elements."""
    return _objects([array[i:j] for i, j in pairwise(values[1].tolist())])


def pandas_frame(contents: Contents) -> Any:
    """A pandas.DataFrame; plain numbers stay in the memory of their tensors."""
    import numpy as np
    import pandas as pd

    columns: dict[str, Any] = {}
    for column, values, nulls in contents:
        elements, marks = _elements(values), _elements(nulls)
        marked = marks.numpy() if marks is not None and bool(marks.any()) else None
        if is_text(column):
            columns[column.name] = _array(column, values, None).to_pandas()
            continue
        array = elements.numpy()
        if marked is not None and array.dtype.kind == "f":
            array[marked] = np.nan
        elif marked is not None and array.ndim == 1 and not isinstance(values, tuple):
            masked = pd.arrays.BooleanArray if array.dtype.kind == "b" else pd.arrays.IntegerArray
            columns[column.name] = masked(array, marked)
            continue
        elif marked is not None:
            array = np.where(marked, np.nan, array)
        if isinstance(values, tuple):
            array = _rows_of(values, array)
        columns[column.name] = array if array.ndim == 1 else _objects(list(array))
    frame = pd.DataFrame(columns, copy=False)
    about = _about_columns(contents.header)
    for keyword, name in (("TUNIT", "units"), ("TCOMM", "descriptions")):
        told = {column.name: about.get(column.index, {}).get(keyword) for column, _, _ in contents}
        frame.attrs[name] = {column: text for column, text in told.items() if text}
    return frame


def _python_format(display: str, kind: str) -> str | None:
    """TDISPn as astropy has formats, where it fits numbers of this kind of numpy."""
    match = _DISPLAY.match(display.strip().upper())
    if match is None or kind not in ("iu" if match[1] else "f"):
        return None
    return f"{{:{match[2] or match[4]}{_PYTHON_FORMAT.get(match[1] or match[3], 'e')}}}"


def astropy_table(contents: Contents) -> Any:
    """An astropy Table, much as Table.read gives it; what has one size stays in the memory of its tensor."""
    import numpy as np
    from astropy.table import Column as PlainColumn
    from astropy.table import MaskedColumn, Table
    from astropy.units import Unit

    about = _about_columns(contents.header)
    columns = []
    for column, values, nulls in contents:
        told = about.get(column.index, {})
        if is_text(column):
            array = _objects(strings(values)) if isinstance(values, tuple) else text_array(values)
            marked = None
        else:
            array, marks = _elements(values).numpy(), _elements(nulls)
            # as astropy has it, a column that has a TNULL is masked even where nothing is null
            masked = marks is not None and (column.null is not None or bool(marks.any()))
            marked = marks.numpy() if masked else None
            if isinstance(values, tuple):
                array = _rows_of(values, array if marked is None else np.ma.MaskedArray(array, marked))
                marked = None
        if marked is None:
            made = PlainColumn(array, copy=False)
        else:
            made = MaskedColumn(array, mask=marked, copy=False)
            if isinstance(column.null, int) and array.dtype.kind in "iu":  # so that it is written as it was
                made.fill_value = column.null + int(column.zero)
        made.name, made.description = column.name, told.get("TCOMM")
        if column.unit:
            made.unit = Unit(column.unit, format="fits", parse_strict="silent")
        made.format = _python_format(str(told.get("TDISP", "")), array.dtype.kind)
        made.meta.update({key: value for key, value in told.items() if key not in _ATTRIBUTES})
        columns.append(made)
    return Table(columns, meta=_about_table(contents.header), copy=False)
