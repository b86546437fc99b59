"""The text fields of ASCII tables as numbers (FITS standard 4.0, section 7.2.1 and 7.2.5)."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable

import torch

from torchfits.errors import FitsFormatError, FitsWarning
from torchfits.layout import Column

_GAP_AFTER_SIGN = re.compile(rb"^([+-])\s+")


def parse_column(rows: bytes, row_bytes: int, column: Column, first: int) -> torch.Tensor:
    """The values of one column from the bytes of whole rows, the first of which is row `first` of the table.

    A gives uint8 (rows, width); I int64, or float64 where scaled; F, E and D float64. Blank fields and
    those equal to TNULL are NaN in floats and 0 in integers.

    Raises:
        FitsFormatError: A field that is no number, or an integer beyond 64 bits; names column and row.
    """
    fields = [rows[i : i + column.width] for i in range(column.offset, len(rows), row_bytes)]
    if column.code == "A":
        flat = (
            torch.frombuffer(bytearray(b"".join(fields)), dtype=torch.uint8)
            if fields and column.width
            else None
        )
        return (
            torch.zeros(len(fields), column.width, dtype=torch.uint8, device="cpu")
            if flat is None
            else flat.reshape(-1, column.width)
        )
    scaled = column.scale != 1 or column.zero != 0
    null = column.null.encode("latin-1").strip() if isinstance(column.null, str) else None
    whole = column.code == "I"
    parse = _integer if whole else _real_parser(column)
    values: list = []
    repaired = 0
    for row, field in enumerate(fields, first):
        text = field.strip(b" \0")
        if not text or text == null:
            values.append(0 if whole and not scaled else math.nan)
            continue
        try:
            value = parse(text)
        except ValueError:
            text, changes = _GAP_AFTER_SIGN.subn(rb"\1", text)
            try:
                value = parse(text)
            except ValueError:
                changes = 0
            if not changes:
                raise FitsFormatError(
                    f"column {column.name!r}, row {row}: {field!r} is no {column.tform} number"
                ) from None
            repaired += 1
        values.append(value * column.scale + column.zero if scaled else value)
    if repaired:
        warnings.warn(
            f"column {column.name!r}: {repaired} fields have blanks after their sign",
            FitsWarning,
            stacklevel=4,
        )
    try:
        return torch.tensor(
            values, dtype=torch.int64 if whole and not scaled else torch.float64, device="cpu"
        )
    except (OverflowError, RuntimeError, ValueError):  # which of them depends on the release of torch
        row = next(i for i, value in enumerate(values) if not -(2**63) <= value < 2**63)
        raise FitsFormatError(
            f"column {column.name!r}, row {first + row}: {values[row]} is beyond 64 bits"
        ) from None


def _integer(text: bytes) -> int:
    if b"_" in text or len(text) > 300:  # Python's own grouping of digits; beyond a double
        raise ValueError
    return int(text)


def _real_parser(column: Column) -> Callable[[bytes], float]:
    decimals = column.tform.partition(".")[2]
    implied = 10.0 ** int(decimals) if decimals else 1.0

    def parse(text: bytes) -> float:
        text = text.upper().replace(b"D", b"E")
        if b"_" in text or b"N" in text:  # grouping of digits, and Python's own nan and inf
            raise ValueError
        value = float(text)
        # without a decimal point, the last d digits are decimals
        return value if b"." in text or implied == 1 else value / implied

    return parse
