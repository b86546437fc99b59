"""Character columns as texts."""

from __future__ import annotations

import codecs
import math
from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch

from torchfits._direct import pack_texts
from torchfits._tensors import address, allocate, to_bytes
from torchfits.errors import FitsFormatError, FitsUnsupported

_LIKE_ASCII = {"ascii", "utf-8", "iso8859-1"}


def pack(fields: torch.Tensor, ends: torch.Tensor | None, to: torch.Tensor) -> tuple[torch.Tensor, int]:
    """Put the texts of fields of characters one after the other: each up to the first NUL, right-stripped.

    Args:
        fields: uint8 (..., width), or with `ends` (bytes,), contiguous.
        ends: int64 (count + 1,): where each of the fields begins and ends.
        to: Where the texts go: as many bytes, or `fields` itself.

    Returns:
        Where the texts begin and end in `to`, int64 (count + 1,), and the first that is not ASCII, or -1.
    """
    width = fields.shape[-1]
    count = math.prod(fields.shape[:-1]) if ends is None else len(ends) - 1
    offsets = allocate((count + 1,), torch.int64)
    begins = 0 if ends is None else address(ends)[0]
    bad = pack_texts(*address(fields), begins, width, count, address(offsets)[0], address(to)[0])
    return offsets, bad


def strings(column: Any, encoding: str = "ascii", errors: str = "strict") -> list:
    """The texts of a character column: up to the first NUL, trailing blanks stripped.

    Args:
        column: uint8 (rows, width), (rows, n, width) for n texts a row, which gives a list of lists; of a
            variable-length character column the jagged tensor, or the pair (values, offsets).
        encoding, errors: As in bytes.decode. The standard allows ASCII only; some files do not care.

    Raises:
        FitsFormatError: A text is not in `encoding`; names the row.

    Example:
        >>> torchfits.strings(torch.tensor([[78, 71, 67, 32]], dtype=torch.uint8))
        ['NGC']
    """
    if isinstance(column, tuple) or column.is_nested:
        values, ends = column if isinstance(column, tuple) else (column.values(), column.offsets())
        ends = ends.to("cpu", torch.int64).contiguous()
        if values.ndim == 1:
            return _strings(values, ends, encoding, errors, range(len(ends)))
        rows = ends.tolist()
        found = _strings(values, None, encoding, errors, rows)
        return [found[i:j] for i, j in pairwise(rows)]
    if column.dtype != torch.uint8 or column.ndim < 2:
        raise FitsUnsupported(
            f"strings are uint8 (rows, ..., width), not {column.dtype} {tuple(column.shape)}"
        )
    each = math.prod(column.shape[1:-1])
    texts: list = _strings(column, None, encoding, errors, range(0, len(column) * each + 1, each or 1))
    for axis in range(column.ndim - 2, 0, -1):
        n = column.shape[axis]
        texts = [texts[i * n : (i + 1) * n] for i in range(math.prod(column.shape[:axis]))]
    return texts


def _strings(
    fields: torch.Tensor, ends: torch.Tensor | None, encoding: str, errors: str, rows: Sequence[int]
) -> list[str]:
    fields = fields.cpu().contiguous()
    packed = torch.empty_like(fields)
    offsets, bad = pack(fields, ends, packed)
    if bad < 0 and codecs.lookup(encoding).name in _LIKE_ASCII:
        places = offsets.tolist()
        whole = to_bytes(packed.view(-1)[: places[-1]]).decode("ascii")
        return [whole[i:j] for i, j in pairwise(places)]
    return decode(packed, offsets, encoding, errors, rows)


def decode(
    packed: torch.Tensor, offsets: torch.Tensor, encoding: str, errors: str, rows: Sequence[int]
) -> list[str]:
    """The texts that `pack` made; `rows` says how many of them come before each row, for FitsFormatError."""
    data, texts = to_bytes(packed), []
    for i, j in pairwise(offsets.tolist()):
        try:
            texts.append(data[i:j].decode(encoding, errors))
        except UnicodeDecodeError as error:
            row = bisect_right(rows, len(texts)) - 1
            raise FitsFormatError(f"row {row}: {data[i:j]!r} is not {encoding}: {error.reason}") from error
    return texts
