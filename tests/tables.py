"""For the tests of tables: binary tables as raw bytes, and a slow reader that takes the standard at its word.

The slow reader is plain Python: cards by their columns, numbers by `struct`, one after the other. It knows
nothing of torchfits but the types that README promises.
"""

from __future__ import annotations

import itertools
import math
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from images import BLOCK, EMPTY, bits, card, exact_bits, padded

ENGINES = ("auto", "direct", "cfitsio")
# bytes of an element, and of the numbers that make it: what is swapped
WIDTHS = {"L": 1, "B": 1, "A": 1, "I": 2, "J": 4, "K": 8, "E": 4, "D": 8, "C": 8, "M": 16}
PARTS = {**WIDTHS, "C": 4, "M": 8}
FORMATS = {"B": "B", "I": "h", "J": "i", "K": "q", "E": "f", "D": "d", "C": "f", "M": "d"}
CONVENTION = {"B": -128, "I": 2**15, "J": 2**31, "K": 2**63}
DTYPES = {
    "L": "bool", "X": "bool", "A": "uint8", "B": "uint8", "I": "int16", "J": "int32", "K": "int64",
    "E": "float32", "D": "float64", "C": "complex64", "M": "complex128",
}  # fmt: skip
OTHER_SIGN = {"B": ("int8", "b"), "I": ("uint16", "H"), "J": ("uint32", "I"), "K": ("uint64", "Q")}
SCALED = {"B": "float32", "I": "float32", "J": "float64", "K": "float64"}
# the letters that files hold in L columns: true, false, undefined, and what careless writers put
LETTERS = b"TTTFFF\0\1tfY "


# ---------------------------------------------------------------------------- tables as raw bytes


@dataclass(frozen=True)
class Field:
    """A column that is to be made; `element` is that of the arrays of P and Q."""

    code: str
    repeat: int = 1
    element: str = ""
    dims: tuple[int, ...] = ()  # as in TDIM: the fastest first
    scale: str = ""  # as the cards have them
    zero: str = ""
    null: int | None = None
    explicit: bool = True  # whether TFORM says a repeat count of 1
    longest: int = 9  # array of P and Q

    @property
    def width(self) -> int:
        if self.code in "PQ":
            return self.repeat * (8 if self.code == "P" else 16)
        return -(-self.repeat // 8) if self.code == "X" else self.repeat * WIDTHS[self.code]

    @property
    def tform(self) -> str:
        count = str(self.repeat) if self.explicit or self.repeat != 1 else ""
        return f"{count}{self.code}{self.element}" + (f"({self.longest})" if self.element else "")

    def cards(self, i: int, name: str) -> dict[str, object]:
        found: dict[str, object] = {f"TTYPE{i}": f"'{name}'", f"TFORM{i}": f"'{self.tform}'"}
        if self.dims:
            found[f"TDIM{i}"] = "'({})'".format(",".join(map(str, self.dims)))
        for keyword, value in (("TSCAL", self.scale), ("TZERO", self.zero)):
            if value:
                found[f"{keyword}{i}"] = value
        if self.null is not None:
            found[f"TNULL{i}"] = self.null
        return found


def names(count: int) -> list[str]:
    """What the columns of these tables are called."""
    return [f"C{i}" for i in range(1, count + 1)]


def binary_table(
    fields: Sequence[Field], rows: bytes, nrows: int, heap: bytes = b"", gap: int = 0, **cards: object
) -> bytes:
    """A BINTABLE HDU from the bytes of its rows and heap; `cards` replace what would be right."""
    row_bytes = sum(each.width for each in fields)
    made: dict[str, object] = {
        "XTENSION": "'BINTABLE'", "BITPIX": 8, "NAXIS": 2, "NAXIS1": row_bytes, "NAXIS2": nrows,
        "PCOUNT": gap + len(heap), "GCOUNT": 1, "TFIELDS": len(fields),
    }  # fmt: skip
    for i, (each, name) in enumerate(zip(fields, names(len(fields)), strict=True), 1):
        made |= each.cards(i, name)
    if gap:
        made["THEAP"] = row_bytes * nrows + gap
    made |= cards
    head = b"".join(card(*each) for each in made.items()) + b"END".ljust(80)
    return head + b" " * (-len(head) % BLOCK) + padded(rows + b"\xaa" * gap + heap)


def file_of(*hdus: bytes) -> bytes:
    """A file of these HDUs after an empty primary one."""
    return EMPTY + b"".join(hdus)


def random_elements(rng: np.random.Generator, code: str, count: int, null: int | None = None) -> bytes:
    """Elements as they are stored: any bits at all, and often what is null."""
    if code == "L":
        return bytes(rng.choice(list(LETTERS), count).astype("u1"))
    data = np.frombuffer(rng.bytes(count * WIDTHS[code]), dtype="u1")
    if code in "EDCM" and count:
        # random bits are rarely of a usual size
        numbers = data.view(f">f{PARTS[code]}").copy()
        usual = rng.random(len(numbers)) < 0.6
        numbers[usual] = rng.normal(size=usual.sum()) * 100
        numbers[rng.random(len(numbers)) < 0.05] = rng.choice([math.nan, math.inf, -math.inf, -0.0])
        return numbers.tobytes()
    if code in "BIJK" and count:
        numbers = data.view(f">{'u' if code == 'B' else 'i'}{WIDTHS[code]}").copy()
        small = rng.random(count) < 0.3
        numbers[small] = rng.integers(0, 100, small.sum())
        if null is not None and np.iinfo(numbers.dtype).min <= null <= np.iinfo(numbers.dtype).max:
            numbers[rng.random(count) < 0.3] = null
        return numbers.tobytes()
    return data.tobytes()


def random_rows(
    fields: Sequence[Field], nrows: int, seed: int = 5, heaped: str = "packed"
) -> tuple[bytes, bytes]:
    """Rows and heap of such a table.

    `heaped` says how the arrays lie in the heap: 'packed' one after the other, 'apart' with gaps, 'shuffled'
    in another order than their rows, 'shared' by several rows.
    """
    rng = np.random.default_rng(seed)
    heap = bytearray()
    columns = []
    for each in fields:
        if not each.width or not nrows:
            continue
        if each.code == "X":
            cells = rng.bytes(nrows * each.width)
        elif each.code in "PQ":
            cells = _descriptors(rng, each, nrows, heap, heaped)
        else:
            cells = random_elements(rng, each.code, nrows * each.repeat, each.null)
        columns.append(np.frombuffer(cells, dtype="u1").reshape(nrows, each.width))
    rows = np.concatenate(columns, axis=1).tobytes() if columns else b""
    return rows, bytes(heap)


def _descriptors(rng: np.random.Generator, each: Field, nrows: int, heap: bytearray, heaped: str) -> bytes:
    lengths = rng.integers(0, each.longest + 1, nrows) * (rng.random(nrows) < 0.8)
    size = max(math.prod(each.dims), 1)
    lengths = lengths // size * size
    places = np.zeros(nrows, dtype="i8")
    order = rng.permutation(nrows) if heaped == "shuffled" else np.arange(nrows)
    for row in order:
        if heaped == "shared" and row and rng.random() < 0.3:
            other = rng.integers(row)
            lengths[row], places[row] = lengths[other], places[other]
            continue
        if heaped == "apart" and rng.random() < 0.5:
            heap += rng.bytes(int(rng.integers(1, 50)))
        places[row] = len(heap)
        count = int(lengths[row])
        heap += (
            rng.bytes(-(-count // 8))
            if each.element == "X"
            else random_elements(rng, each.element, count, each.null)
        )
    # where there is nothing, anywhere will do
    nothing = (lengths == 0) & (rng.random(nrows) < 0.5)
    places[nothing] = rng.integers(-5, 2**30, nothing.sum())
    pairs = np.stack([lengths, places], axis=1)
    return pairs.astype(">i4" if each.code == "P" else ">i8").tobytes()


def random_table(fields: Sequence[Field], nrows: int, seed: int = 5, heaped: str = "packed") -> bytes:
    """A file of one table of such columns in HDU 1."""
    rows, heap = random_rows(fields, nrows, seed, heaped)
    return file_of(binary_table(fields, rows, nrows, heap, gap=37 if heaped == "apart" else 0))


# ---------------------------------------------------------------------------- the slow reader


@dataclass
class SlowColumn:
    """What a column must give: the bytes of each cell as the machine has them."""

    name: str
    dtype: str
    shape: tuple[int, ...]  # of a cell; of arrays, the axes within
    cells: list[bytes]
    lengths: list[int] | None = None  # elements of each array, of P and Q
    nulls: list[bytes] | None = None  # a byte an element, of what can be null
    arithmetic: bool = False  # whether NaN come from a calculation, which may change their bits


@dataclass
class SlowTable:
    nrows: int
    columns: list[SlowColumn] = field(default_factory=list)

    def __getitem__(self, name: str) -> SlowColumn:
        return next(column for column in self.columns if column.name == name)


def cards_of(data: bytes, start: int) -> tuple[dict[str, str], int]:
    """The cards of the header at `start`, values as text, and where it ends."""
    found: dict[str, str] = {}
    for at in range(start, len(data) - 79, 80):
        line = data[at : at + 80].decode("latin-1")
        if line.rstrip() == "END":
            return found, start + -(-(at + 80 - start) // BLOCK) * BLOCK
        if line[8:10] == "= ":
            text = line[10:].strip()
            quoted = re.match(r"'((?:[^']|'')*)'", text)
            value = quoted[1].replace("''", "'").rstrip() if quoted else text.partition("/")[0].strip()
            found.setdefault(line[:8].rstrip(), value)
    raise ValueError("no END")


def slow_hdus(data: bytes) -> list[tuple[dict[str, str], int]]:
    """The cards and the place of the data of each HDU (section 4.4.1)."""
    found, start = [], 0
    while data[start : start + 6] in (b"SIMPLE", b"XTENSI"):
        cards, begin = cards_of(data, start)
        lengths = [int(cards[f"NAXIS{i}"]) for i in range(1, int(cards["NAXIS"]) + 1)]
        if cards.get("GROUPS") == "T" and lengths[:1] == [0]:
            del lengths[0]
        pixels = math.prod(lengths) if lengths else 0
        more = int(cards.get("PCOUNT", 0)) if lengths else 0
        size = abs(int(cards["BITPIX"])) // 8 * int(cards.get("GCOUNT", 1)) * (more + pixels)
        found.append((cards, begin))
        start = begin + -(-size // BLOCK) * BLOCK
    return found


def real(text: str) -> float:
    return float(text.upper().replace("D", "E"))


def slow_table(
    data: bytes,
    hdu: int = 1,
    *,
    nan_nulls: bool = False,
    only: Sequence[int] | None = None,
    columns: Sequence[int] | None = None,
) -> SlowTable:
    """The columns of the table in HDU `hdu` (section 7.3), or some of them; `only` these rows."""
    cards, start = slow_hdus(data)[hdu]
    row_bytes, nrows = int(cards["NAXIS1"]), int(cards["NAXIS2"])
    heap = start + int(cards.get("THEAP", row_bytes * nrows))
    rows = range(nrows) if only is None else only
    table = SlowTable(nrows)
    offset = 0
    for i in range(1, int(cards["TFIELDS"]) + 1):
        match = re.match(r"\s*(\d*)([LXBIJKAEDCMPQ])([LXBIJKAEDCM]?)", cards[f"TFORM{i}"].upper())
        assert match is not None
        repeat, code = int(match[1] or 1), match[2]
        element = match[3] if code in "PQ" else code
        width = {"P": 8, "Q": 16, "X": 0}.get(code, WIDTHS.get(code, 0)) * repeat
        width = -(-repeat // 8) if code == "X" else width
        if columns is None or i - 1 in columns:
            meaning = _Meaning(
                element,
                real(cards.get(f"TSCAL{i}", "1")),
                real(cards.get(f"TZERO{i}", "0")),
                _null(cards.get(f"TNULL{i}", ""), element),
                nan_nulls,
            )
            column = SlowColumn(cards.get(f"TTYPE{i}", f"COL{i}"), meaning.dtype, (), [])
            column.arithmetic = meaning.arithmetic
            column.nulls = [] if element == "L" or meaning.null is not None else None
            if code in "PQ":
                column.lengths = []
                # the slowest axis is as long as the array makes it
                column.shape = _shape(cards.get(f"TDIM{i}", ""))[1:]
            else:
                column.shape = _cell_shape(cards.get(f"TDIM{i}", ""), code, repeat)
            for row in rows:
                at, count = start + row * row_bytes + offset, math.prod(column.shape)
                if column.lengths is not None:
                    count, at = _descriptor(data, at, code) if repeat else (0, 0)
                    at += heap
                    column.lengths.append(count)
                size = -(-count // 8) if element == "X" else count * WIDTHS[element]
                stored = data[at : at + size] if size else b""
                assert len(stored) == size
                column.cells.append(meaning.values(stored, count))
                if column.nulls is not None:
                    column.nulls.append(meaning.nulls(stored))
            table.columns.append(column)
        offset += width
    return table


def _descriptor(data: bytes, at: int, code: str) -> tuple[int, int]:
    return struct.unpack_from(">ii" if code == "P" else ">qq", data, at)


def _null(text: str, code: str) -> int | None:
    if code not in "BIJK" or not re.fullmatch(r"[+-]?\d+", text):
        return None
    lowest = 0 if code == "B" else -(2 ** (8 * WIDTHS[code] - 1))
    return int(text) if 0 <= int(text) - lowest < 2 ** (8 * WIDTHS[code]) else None


def _shape(dims: str) -> tuple[int, ...]:
    return tuple(int(n) for n in re.findall(r"\d+", dims))[::-1]


def _cell_shape(dims: str, code: str, repeat: int) -> tuple[int, ...]:
    found = _shape(dims)
    # what is left over is undefined
    if found and (math.prod(found) == repeat or 0 < math.prod(found) < repeat):
        return found
    return () if repeat == 1 and code not in "AX" else (repeat,)


@dataclass
class _Meaning:
    """What the stored elements of a column stand for."""

    code: str
    scale: float
    zero: float
    null: int | None
    nan_nulls: bool

    @property
    def is_scaled(self) -> bool:
        return self.code in FORMATS and (self.scale, self.zero) != (1, 0)

    @property
    def is_convention(self) -> bool:
        return self.is_scaled and self.scale == 1 and CONVENTION.get(self.code) == self.zero

    @property
    def is_real(self) -> bool:
        """Whether integers become reals."""
        return self.code in SCALED and (
            (self.is_scaled and not self.is_convention) or (self.nan_nulls and self.null is not None)
        )

    @property
    def arithmetic(self) -> bool:
        return self.is_real or (self.is_scaled and self.code in "EDCM")

    @property
    def dtype(self) -> str:
        if self.is_real:
            return SCALED[self.code]
        return OTHER_SIGN[self.code][0] if self.is_convention else DTYPES[self.code]

    def nulls(self, stored: bytes) -> bytes:
        """A byte for each element: whether it is null."""
        if self.code == "L":
            return bytes(letter == 0 for letter in stored)
        return bytes(n == self.null for n in self._numbers(stored))

    def _numbers(self, stored: bytes) -> tuple:
        return struct.unpack(f">{len(stored) // PARTS[self.code]}{FORMATS[self.code]}", stored)

    def values(self, stored: bytes, count: int) -> bytes:
        """What the elements are in memory; `count` is of bits."""
        if self.code == "L":
            return bytes(letter in b"T\1" for letter in stored)
        if self.code == "X":
            return bytes(stored[i // 8] >> (7 - i % 8) & 1 for i in range(count))
        if not self.is_scaled and not self.is_real:
            size = PARTS[self.code]
            if size == 1:
                return stored
            return b"".join(stored[i : i + size][::-1] for i in range(0, len(stored), size))
        numbers = self._numbers(stored)
        if self.is_convention and not self.is_real:
            exact = [n + CONVENTION[self.code] for n in numbers]
            return struct.pack(f"<{len(exact)}{OTHER_SIGN[self.code][1]}", *exact)
        if self.is_convention:
            values = [float(n + CONVENTION[self.code]) for n in numbers]
        else:
            values = [float(n) * self.scale + self.zero for n in numbers]
        if self.nan_nulls and self.null is not None:
            values = [math.nan if n == self.null else value for n, value in zip(numbers, values, strict=True)]
        single = (SCALED.get(self.code) or DTYPES[self.code]) in ("float32", "complex64")
        return b"".join(map(_single if single else struct.Struct("<d").pack, values))


def _single(value: float) -> bytes:
    try:
        return struct.pack("<f", value)
    except OverflowError:
        return struct.pack("<f", math.copysign(math.inf, value))


# ---------------------------------------------------------------------------- comparisons


def parts_of(found: object) -> tuple[torch.Tensor, list[int] | None]:
    """The values of a column and, of a ragged one in either form, the offsets."""
    if isinstance(found, tuple):
        values, offsets = found
        assert offsets.dtype == torch.int64
        assert offsets.is_contiguous()
        return values, offsets.tolist()
    assert isinstance(found, torch.Tensor)
    return (found.values(), found.offsets().tolist()) if found.is_nested else (found, None)


def raw_bytes(tensor: torch.Tensor, *, any_nan: bool) -> bytes:
    tensor = torch.view_as_real(tensor) if tensor.dtype.is_complex else tensor
    return (bits if any_nan else exact_bits)(tensor.contiguous())


def assert_column(found: object, column: SlowColumn, rows: Sequence[int] | None = None) -> None:
    """What was read is what the slow reader has in these rows, or in all: dtype, shape, and every bit."""
    rows = range(len(column.cells)) if rows is None else rows
    values, offsets = parts_of(found)
    assert str(values.dtype) == f"torch.{column.dtype}", column.name
    if column.lengths is None:
        assert offsets is None
        assert tuple(values.shape) == (len(rows), *column.shape), column.name
        assert values.is_contiguous()
    else:
        each = math.prod(column.shape)
        expected = list(itertools.accumulate((column.lengths[row] // each for row in rows), initial=0))
        assert offsets == expected, column.name
        assert tuple(values.shape) == (expected[-1], *column.shape)
    _assert_bytes(
        raw_bytes(values, any_nan=column.arithmetic),
        _canonical(b"".join(column.cells[row] for row in rows), column),
        f"column {column.name}, {column.dtype}",
    )


def assert_nulls(found: object, column: SlowColumn, rows: Sequence[int] | None = None) -> None:
    """A mask that was read says which elements are null."""
    assert column.nulls is not None, column.name
    rows = range(len(column.cells)) if rows is None else rows
    mask, _ = parts_of(found)
    assert mask.dtype == torch.bool, column.name
    if column.lengths is None:
        assert tuple(mask.shape) == (len(rows), *column.shape), column.name
    _assert_bytes(exact_bits(mask), b"".join(column.nulls[row] for row in rows), f"nulls of {column.name}")


def assert_equal_bits(one: object, other: object) -> None:
    """Two readings of a column are the same to the bit."""
    (mine, offsets), (theirs, bounds) = parts_of(one), parts_of(other)
    assert (mine.dtype, mine.shape, offsets) == (theirs.dtype, theirs.shape, bounds)
    assert raw_bytes(mine, any_nan=False) == raw_bytes(theirs, any_nan=False)


def _canonical(data: bytes, column: SlowColumn) -> bytes:
    if not column.arithmetic:
        return data
    kind = torch.float32 if column.dtype in ("float32", "complex64") else torch.float64
    return bits(torch.frombuffer(bytearray(data), dtype=kind)) if data else b""


def _assert_bytes(found: bytes, expected: bytes, what: str) -> None:
    if found != expected:
        assert len(found) == len(expected), what
        at = next(i for i, (a, b) in enumerate(zip(found, expected, strict=True)) if a != b)
        wrong = sum(a != b for a, b in zip(found, expected, strict=True))
        raise AssertionError(
            f"{what}: {wrong} of {len(found)} bytes differ, from byte {at}: "
            f"{found[at : at + 16].hex(' ')}, not {expected[at : at + 16].hex(' ')}"
        )
