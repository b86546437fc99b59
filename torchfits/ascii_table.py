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


def parse_column(
    rows: bytes, row_bytes: int, column: Column, numbers: range | torch.Tensor, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    """The values of one column, and which of them are null, from the bytes of whole rows with these numbers.

    A gives uint8 (rows, width), the others `dtype`. Blank fields and those equal to TNULL are null: NaN in
    floats and 0 in integers.

    Raises:
        FitsFormatError: A field that is no number, or an integer beyond 64 bits; names column and row.
    """
    fields = [rows[i : i + column.width] for i in range(column.offset, len(rows), row_bytes)]
    null = column.null.encode("latin-1").strip() if isinstance(column.null, str) else None
    if column.code == "A":
        text = torch.zeros(len(numbers), column.width, dtype=torch.uint8, device="cpu")
        if text.numel():
            text.copy_(torch.frombuffer(bytearray(b"".join(fields)), dtype=torch.uint8).view(text.shape))
        equal = [field.strip(b" \0") == null for field in fields]
        return text, torch.tensor(equal, dtype=torch.bool, device="cpu")
    scaled = column.scale != 1 or column.zero != 0
    parse = _integer if column.code == "I" else _real_parser(column)
    values: list = []
    marks: list[bool] = []
    repaired = 0
    for i, field in enumerate(fields):
        text_of = field.strip(b" \0")
        marks.append(not text_of or text_of == null)
        if marks[-1]:
            values.append(math.nan if dtype.is_floating_point else 0)
            continue
        try:
            value = parse(text_of)
        except ValueError:
            text_of, changes = _GAP_AFTER_SIGN.subn(rb"\1", text_of)
            try:
                value = parse(text_of)
            except ValueError:
                changes = 0
            if not changes:
                raise FitsFormatError(
                    f"column {column.name!r}, row {int(numbers[i])}: {field!r} is no {column.tform} number"
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
        found = torch.tensor(values, dtype=dtype, device="cpu")
    except (OverflowError, RuntimeError, ValueError):  # which of them depends on the release of torch
        i = next(i for i, value in enumerate(values) if not -(2**63) <= value < 2**63)
        raise FitsFormatError(
            f"column {column.name!r}, row {int(numbers[i])}: {values[i]} is beyond 64 bits"
        ) from None
    return found, torch.tensor(marks, dtype=torch.bool, device="cpu")


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
