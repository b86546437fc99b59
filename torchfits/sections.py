"""Sections of an array: ints, slices and Ellipsis as a range per axis."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator
from types import EllipsisType
from typing import Any

from torchfits.errors import SectionError

Section = tuple[int | slice | EllipsisType, ...] | int | slice | EllipsisType | None


def resolve_section(section: Section, shape: tuple[int, ...]) -> tuple[list[range], tuple[int, ...]]:
    """A section of an array of `shape`, as a range per axis and the shape of the result.

    Ints drop their axis and may be negative, slices are cut to the array and step forward, an Ellipsis
    or what is left out stands for whole axes: as in torch. SectionError otherwise.
    """
    if section is None:
        return [range(length) for length in shape], shape
    items = _items(section, shape)
    ranges, lengths = [], []
    for axis, length in enumerate(shape):
        item = items[axis] if axis < len(items) else slice(None)
        if isinstance(item, slice):
            ranges.append(_slice_range(item, length))
            lengths.append(len(ranges[-1]))
        else:
            first = _as_index(item)
            if not -length <= first < length:
                raise SectionError(f"index {first} is out of axis {axis} of {length}")
            first %= length
            ranges.append(range(first, first + 1))
    return ranges, tuple(lengths)


def taken_away(section: Section, shape: tuple[int, ...]) -> list[int]:
    """The axes of an array of `shape` that ints of a section take away."""
    items: tuple[Any, ...] = () if section is None else _items(section, shape)
    return [axis for axis, item in enumerate(items) if not isinstance(item, slice)]


def _items(section: Section, shape: tuple[int, ...]) -> tuple[Any, ...]:
    """The ints and slices of a section, without Ellipsis; those of the last axes may be left out."""
    items: tuple[Any, ...] = section if isinstance(section, tuple) else (section,)
    if sum(item is Ellipsis for item in items) > 1:
        raise SectionError("a section has at most one Ellipsis")
    # not `in`, which would compare arrays
    at = next((i for i, item in enumerate(items) if item is Ellipsis), None)
    if at is not None:
        items = items[:at] + (slice(None),) * (len(shape) - len(items) + 1) + items[at + 1 :]
    if len(items) > len(shape):
        raise SectionError(f"a section of {len(items)} axes of an array of {len(shape)}")
    return items


def _as_index(item: object) -> int:
    try:
        if isinstance(item, bool):
            raise TypeError
        return operator.index(item)  # type: ignore[arg-type]
    except TypeError:
        raise SectionError(f"a section is made of ints, slices and Ellipsis, not {item!r}") from None


def _slice_range(item: slice, length: int) -> range:
    parts = [None if part is None else _as_index(part) for part in (item.start, item.stop, item.step)]
    if parts[2] is not None and parts[2] < 1:
        raise SectionError(f"a step must be positive, not {parts[2]}")
    if parts[2] is not None:
        parts[2] = min(parts[2], max(length, 1))
    return range(*slice(*parts).indices(length))


def split_ranges(ranges: list[range], most: int) -> Iterator[list[range]]:
    """A section in parts that follow each other, of at most so many pixels each."""
    axis = next((i for i, each in enumerate(ranges) if len(each) > 1), None)
    pixels = math.prod(map(len, ranges))
    if pixels <= most or axis is None:
        yield ranges
        return
    length, inner = len(ranges[axis]), pixels // len(ranges[axis])
    step = max(most // inner, 1)
    for i in range(0, length, step):
        part = [*ranges[:axis], ranges[axis][i : i + step], *ranges[axis + 1 :]]
        if inner > most:
            yield from split_ranges(part, most)
        else:
            yield part
