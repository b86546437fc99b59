"""Row filters without files: columns, and the rows that a filter keeps of given values."""

from __future__ import annotations

import math
import struct

from torchfits.layout import ELEMENT_BYTES, Column
from torchfits.where import Input, compile_filter


def column(name, code, shape=(), *, scale=1, zero=0, null=None, problem=""):
    """A Column as `table_layout` makes it; a text's width is the last of its axes."""
    repeat = math.prod(shape)
    width = -(-repeat // 8) if code == "X" else repeat * ELEMENT_BYTES.get(code, 8)
    tform = f"1{code}E(3)" if code in "PQ" else f"{repeat}{code}"
    # programs tell columns apart by their place in the row
    place = sum(ord(c) * 256**i for i, c in enumerate(name))
    return Column(place, name, code, tform, repeat, width, 0, shape, scale, zero, null, problem=problem)


FORMATS = {"int64": "q", "uint64": "Q", "float64": "d", "logical": "B"}


def buffer(each: Input, values) -> bytes:
    """The values of an input as C takes them; what is NULL is anything."""
    if each.kind == "string":
        return b"".join(v.ljust(each.width) for v in values)
    return struct.pack(f"={len(values)}{FORMATS[each.kind]}", *(1 if v is None else v for v in values))


def keep(text, columns, rows, *, ascii_table=False):
    """Which of `rows`, dicts of name -> value or list of values, None for NULL, pass the filter."""
    found = compile_filter(text, columns, ascii_table)
    values, nulls = [], []
    for each in found.inputs:
        cells = [row[each.column.name] for row in rows]
        those = [cell[each.element] if isinstance(cell, list) else cell for cell in cells]
        assert each.nullable or None not in those
        values.append(buffer(each, those))
        nulls.append(bytes(v is None for v in those) if each.nullable else None)
    return [bool(b) for b in found.program.evaluate(values, nulls, len(rows))]


def kept(text, columns, rows, **how):
    return [i for i, passes in enumerate(keep(text, columns, rows, **how)) if passes]
