"""The row-filter language of `read_table(where=...)`: from text to a program for our kernels.

There is no tree: the parser hands what it reads to the compiler at once, which keeps a register for every value and
appends instructions. What NULL does becomes instructions too: a number or a text goes with a register that says where
it is NULL, a logical is a pair, where it is true and where it may be. docs/filters.md describes the language.
"""

from __future__ import annotations

import difflib
import math
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch

from torchfits._direct import OPERATIONS, Filter
from torchfits._tensors import BITPIX_OF_TFORM, STORED, value_dtype
from torchfits.errors import FilterError
from torchfits.layout import Column

MAX_LENGTH = 1 << 18
MAX_DEPTH = 150

_SHOWN = 100  # characters of a long line that an error shows
_MAX_INTEGER = int(sys.float_info.max)
_WIDE = range(-(2**127), 2**127)
_INT64 = range(-(2**63), 2**63)
_EXACT = range(-(2**53), 2**53 + 1)  # integers that float64 holds
_FEW_TEXTS = 8
_MAX_POWER = 16  # integers to a power up to this stay integers

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<number>0[xX][0-9a-fA-F]+ | (?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)
    | (?P<string>'(?:[^']|'')*' | "(?:[^"]|"")*")
    | (?P<column>`(?:[^`]|``)+`)
    | (?P<name>[^\W\d]\w*)
    | (?P<sign>\*\*|<>|<=|>=|==|!=|&&|\|\||[-+*/%<>=&|~!(),\[\]])
    )""",
    re.VERBOSE | re.ASCII,
)
_BLANKS = re.compile(r"\s*")
_IDENTIFIER = re.compile(r"[^\W\d]\w*", re.ASCII)
_KEYWORDS = {"and", "or", "not", "in", "between", "is", "null", "true", "false"}
_SPELLED = {"&": "and", "&&": "and", "|": "or", "||": "or", "~": "not", "!": "not", "=": "==", "<>": "!="}
# how tightly operators bind
_OR, _AND, _NOT, _COMPARISON, _SUM, _PRODUCT, _SIGN, _POWER = range(1, 9)
_BINDS = {
    "or": _OR,
    "and": _AND,
    "+": _SUM,
    "-": _SUM,
    "*": _PRODUCT,
    "/": _PRODUCT,
    "%": _PRODUCT,
    "**": _POWER,
}
_COMPARISONS = {"==", "!=", "<", "<=", ">", ">="}
_BINDS |= dict.fromkeys([*_COMPARISONS, "in", "between", "is"], _COMPARISON)
_MIRRORED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "=="}
_ARITHMETIC = {"+": "add", "-": "sub", "*": "mul", "/": "div", "%": "mod", "**": "pow"}


@dataclass(frozen=True, slots=True)
class Input:
    """What a filter needs of each row: element `element` of a column's cell, from 0 in the order of the file.

    Of an A column elements are texts of `width` bytes, of an X column bits. `kind` says as what the kernels
    take it: int64, uint64, float64 (8 bytes of the host), logical (1 byte, 0 or 1) or string (as it is).
    Scaled values are computed in float64 and not rounded to less. `nullable`: some rows may be NULL, because
    they hold TNULL, a blank field of an ASCII table, or the byte 0 of an L column.
    """

    column: Column
    element: int
    kind: Literal["int64", "uint64", "float64", "logical", "string"]
    width: int
    nullable: bool


@dataclass(frozen=True, slots=True)
class RowFilter:
    """A compiled filter: what it needs of each row, and the program that takes them in this order."""

    inputs: list[Input]
    program: Filter


def compile_filter(text: str, columns: Sequence[Column], ascii_table: bool = False) -> RowFilter:
    """The filter that `text` describes, for a table of these columns.

    FilterError where it cannot be understood, names no column, or is not true or false for a row.

    Example:
        >>> magnitude = Column(0, 'MAG_G', 'E', 'E', 1, 4, 0, ())
        >>> [each.kind for each in compile_filter('MAG_G < 17', [magnitude]).inputs]
        ['float64']
    """
    if not isinstance(text, str):
        raise TypeError(f"a row filter is a str, not {text!r}")
    return _Compiler(text, columns, ascii_table).compile()


def _error(message: str, text: str, start: int, end: int) -> FilterError:
    """FilterError that shows the line of `text` with carets under start:end."""
    first = text.rfind("\n", 0, start) + 1
    last = text.find("\n", start)
    last = len(text) if last < 0 else last
    before = after = ""
    if last - first > _SHOWN:
        if start - first > _SHOWN // 2:
            first, before = start - _SHOWN // 2, "..."
        if last - first > _SHOWN:
            last, after = first + _SHOWN, "..."
    line = "".join(c if c.isprintable() else " " for c in text[first:last])
    carets = " " * (len(before) + start - first) + "^" * max(min(end, last) - start, 1)
    return FilterError(f"{message}\n    {before}{line}{after}\n    {carets}")


# ---------------------------------------------------------------------------- values

Span: TypeAlias = tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Register:
    """`type` is a letter of `_direct.Filter`; `index` counts within the place."""

    type: str
    place: Literal["input", "null", "constant", "temporary"]
    index: int


# a logical of each row: the same for all, or a register 'b'
_Bits: TypeAlias = bool | _Register


@dataclass(frozen=True, slots=True)
class _Number:
    """A constant or a register; of integers also the bounds, so that no instruction overflows."""

    span: Span
    value: int | float | _Register
    null: _Bits = False
    low: int = 0
    high: int = 0

    @property
    def is_whole(self) -> bool:
        return self.value.type in "iuw" if isinstance(self.value, _Register) else isinstance(self.value, int)


@dataclass(frozen=True, slots=True)
class _Text:
    span: Span
    value: bytes | _Register
    null: _Bits = False


@dataclass(frozen=True, slots=True)
class _Logical:
    """Where it is true, and where it is true or NULL."""

    span: Span
    true: _Bits
    maybe: _Bits


_Value: TypeAlias = _Number | _Text | _Logical

_NAMES = {_Number: "a number", _Text: "a string", _Logical: "true or false"}


def _constant(span: Span, value: int | float) -> _Number:
    return _Number(span, value, False, value, value) if isinstance(value, int) else _Number(span, value)


# ---------------------------------------------------------------------------- the program


class _Program:
    """Instructions that each write a new register, until `finish` finds out which may share memory."""

    def __init__(self) -> None:
        self.inputs: list[Input] = []
        self._numbers: dict[tuple[int, int], int] = {}
        self._constants: dict[tuple[str, str], int] = {}
        self._values: list[tuple[str, list]] = []
        self._code: list[tuple[str, _Register, _Register | None]] = []

    def load(self, each: Input) -> tuple[_Register, _Bits]:
        """The registers of an input's values and of where they are NULL."""
        key = (each.column.index, each.element)
        if key not in self._numbers:
            self._numbers[key] = len(self.inputs)
            self.inputs.append(each)
        i = self._numbers[key]
        return _Register(_LETTERS[each.kind], "input", i), _Register(
            "b", "null", i
        ) if each.nullable else False

    def constant(self, kind: str, *values: int | float | bytes) -> _Register:
        """A constant, or a set of them in rising order."""
        key = (kind, repr(values))
        if key not in self._constants:
            self._constants[key] = len(self._values)
            self._values.append((kind, list(values)))
        return _Register(kind, "constant", self._constants[key])

    def run(self, operation: str, a: _Register, b: _Register | None = None) -> _Register:
        self._code.append((operation, a, b))
        return _Register(OPERATIONS[operation][0], "temporary", len(self._code) - 1)

    def and_(self, a: _Bits, b: _Bits) -> _Bits:
        if isinstance(a, bool):
            return b if a else False
        if isinstance(b, bool):
            return a if b else False
        return a if a == b else self.run("and_b", a, b)

    def or_(self, a: _Bits, b: _Bits) -> _Bits:
        if isinstance(a, bool):
            return True if a else b
        if isinstance(b, bool):
            return True if b else a
        return a if a == b else self.run("or_b", a, b)

    def not_(self, a: _Bits) -> _Bits:
        return not a if isinstance(a, bool) else self.run("not_b", a)

    def but_not(self, a: _Bits, b: _Bits) -> _Bits:
        """Where a is and b is not."""
        if isinstance(a, bool) or isinstance(b, bool):
            return self.and_(a, self.not_(b))
        return self.run("andnot_b", a, b)

    def differ(self, a: _Bits, b: _Bits) -> _Bits:
        if isinstance(a, bool):
            return self.not_(b) if a else b
        if isinstance(b, bool):
            return self.not_(a) if b else a
        return self.run("xor_b", a, b)

    def finish(self, result: _Bits) -> Filter:
        """The program whose result this is, without what does not serve it."""
        if isinstance(result, bool):
            self._code = [("fill_b", self.constant("b", int(result)), None)]
        elif result.place != "temporary":
            self._code.append(("or_b", result, result))
        else:
            self._code = self._code[: result.index + 1]
        last_use = {len(self._code) - 1: len(self._code)}
        for i in range(len(self._code) - 1, -1, -1):
            if i in last_use:
                for r in self._code[i][1:]:
                    if r is not None and r.place == "temporary":
                        last_use.setdefault(r.index, i)
        first = {"input": 0, "null": len(self.inputs), "constant": 2 * len(self.inputs)}
        first["temporary"] = first["constant"] + len(self._values)
        temporaries: list[str] = []
        place: dict[int, int] = {}
        free: dict[str, list[int]] = {}
        program = []

        def number(r: _Register | None) -> int:
            if r is None:
                return -1
            return first[r.place] + (place[r.index] if r.place == "temporary" else r.index)

        for i, (operation, a, b) in enumerate(self._code):
            if i not in last_use:
                continue
            kind = OPERATIONS[operation][0]
            if i < len(self._code) - 1:
                if not free.setdefault(kind, []):
                    free[kind].append(len(temporaries))
                    temporaries.append(kind)
                place[i] = free[kind].pop()
            program.append([operation, i, number(a), number(b)])
            for r in {a, b}:
                if r is not None and r.place == "temporary" and last_use[r.index] == i:
                    free[r.type].append(place[r.index])
        place[len(self._code) - 1] = len(temporaries)
        return Filter(
            [(_LETTERS[each.kind], each.width) for each in self.inputs],
            self._values,
            "".join(temporaries),
            [(operation, first["temporary"] + place[i], a, b) for operation, i, a, b in program],
        )


_LETTERS = {"int64": "i", "uint64": "u", "float64": "d", "logical": "b", "string": "s"}


# ---------------------------------------------------------------------------- what operators mean


class _Arithmetic:
    """Instructions for operators and functions of values."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.program = _Program()

    def error(self, message: str, span: Span) -> FilterError:
        return _error(message, self.text, *span)

    # -- numbers

    def as_real(self, x: _Number) -> _Register:
        if not isinstance(x.value, _Register):
            return self.program.constant("d", float(x.value))
        return x.value if x.value.type == "d" else self.program.run(f"{x.value.type}_to_d", x.value)

    def as_whole(self, x: _Number, kind: str) -> _Register:
        if not isinstance(x.value, _Register):
            assert isinstance(x.value, int)
            return self.program.constant(kind, x.value)
        return x.value if x.value.type == kind else self.program.run(f"{x.value.type}_to_{kind}", x.value)

    @staticmethod
    def common_type(low: int, high: int, *operands: _Number) -> str:
        """'i' or 'w' where a whole result within low..high can be had exactly from the operands, else 'd'."""
        if not all(x.is_whole for x in operands):
            return "d"
        bounds = [low, high, *(x.low for x in operands), *(x.high for x in operands)]
        narrow = all(x.value.type == "i" for x in operands if isinstance(x.value, _Register))
        if narrow and all(bound in _INT64 for bound in bounds):
            return "i"
        return "w" if all(bound in _WIDE for bound in bounds) else "d"

    def constant(self, span: Span, value: int | float) -> _Number:
        if isinstance(value, int) and abs(value) > _MAX_INTEGER:
            raise self.error("a number beyond the range of float64", span)
        return _constant(span, value)

    def binary(
        self, name: str, x: _Number, y: _Number, span: Span, low: int = 0, high: int = -(2**200)
    ) -> _Number:
        """x (name) y, whole where the bounds allow."""
        kind = self.common_type(low, high, x, y)
        null = self.program.or_(x.null, y.null)
        if kind == "d":
            return _Number(span, self.program.run(f"{name}_d", self.as_real(x), self.as_real(y)), null)
        register = self.program.run(f"{name}_{kind}", self.as_whole(x, kind), self.as_whole(y, kind))
        return _Number(span, register, null, low, high)

    def arithmetic(self, sign: str, x: _Number, y: _Number) -> _Number:
        span = (x.span[0], y.span[1])
        if not isinstance(x.value, _Register) and not isinstance(y.value, _Register):
            return self.fold(sign, x.value, y.value, span)
        if sign == "**":
            return self.power(x, y, span)
        if sign == "/" or not (x.is_whole and y.is_whole):
            return self.binary(_ARITHMETIC[sign], x, y, span)
        if sign == "%":
            return self.modulo(x, y, span)
        if sign == "+":
            low, high = x.low + y.low, x.high + y.high
        elif sign == "-":
            low, high = x.low - y.high, x.high - y.low
        else:
            corners = [i * j for i in (x.low, x.high) for j in (y.low, y.high)]
            low, high = min(corners), max(corners)
        return self.binary(_ARITHMETIC[sign], x, y, span, low, high)

    def fold(self, sign: str, x: int | float, y: int | float, span: Span) -> _Number:
        """The same of constants: integers have no bounds here, but may not grow beyond float64."""
        whole = isinstance(x, int) and isinstance(y, int)
        try:
            if sign == "**":
                if not (whole and y >= 0):
                    return self.constant(span, math.pow(x, y))
                if abs(x) > 1 and y * (int(x).bit_length() - 1) > 1024:
                    raise OverflowError
                return self.constant(span, x**y)
            if sign in "/%":
                return self.constant(span, x / y if sign == "/" else x % y)
            return self.constant(span, x + y if sign == "+" else x - y if sign == "-" else x * y)
        except ZeroDivisionError:
            raise self.error("division by zero", span) from None
        except OverflowError:
            raise self.error("a number beyond the range of float64", span) from None
        except ValueError:  # a negative number to a power that is not whole
            return self.constant(span, math.nan)

    def modulo(self, x: _Number, y: _Number, span: Span) -> _Number:
        if y.value == 0:
            raise self.error("division by zero", span)
        result = self.binary("mod", x, y, span, min(y.low + 1, 0), max(y.high - 1, 0))
        if not y.low <= 0 <= y.high or not result.is_whole:
            return result
        null = self.program.or_(result.null, self.against("==", y, 0))
        return _Number(span, result.value, null, result.low, result.high)

    def power(self, x: _Number, y: _Number, span: Span) -> _Number:
        exponent = y.value
        if x.is_whole and isinstance(exponent, int) and 1 <= exponent <= _MAX_POWER:
            if max(abs(x.low), abs(x.high)) ** exponent in _WIDE:
                result = x
                for _ in range(exponent - 1):
                    result = self.arithmetic("*", result, x)
                return _Number(span, result.value, result.null, result.low, result.high)
        if exponent == 2:
            return self.binary("mul", x, x, span)
        return self.binary("pow", x, y, span)

    def negative(self, x: _Number, span: Span) -> _Number:
        if not isinstance(x.value, _Register):
            return self.constant(span, -x.value)
        if x.is_whole:
            return self.binary("sub", _constant(span, 0), x, span, -x.high, -x.low)
        return self.binary("mul", x, _constant(span, -1.0), span)

    # -- comparisons

    def compare(self, sign: str, x: _Value, y: _Value, at: Span) -> _Logical:
        """What a comparison gives; `at` is the place of its operator."""
        span, program = (x.span[0], y.span[1]), self.program
        if sign == "!=":
            return self.negation(self.compare("==", x, y, at), span)
        if isinstance(x, _Number) and isinstance(y, _Number):
            return self.known(span, self.compare_numbers(sign, x, y), program.or_(x.null, y.null))
        if isinstance(x, _Text) and isinstance(y, _Text):
            return self.known(span, self.compare_texts(sign, x, y), program.or_(x.null, y.null))
        if not isinstance(x, _Logical) or not isinstance(y, _Logical):
            hint = "; a logical is compared with true or false" if _Logical in (type(x), type(y)) else ""
            raise self.error(f"{_NAMES[type(x)]} is compared with {_NAMES[type(y)]}{hint}", at)
        if sign != "==":
            raise self.error("true and false are compared with == and != only", at)
        null = program.or_(self.is_null(x), self.is_null(y))
        return self.known(span, program.not_(program.differ(x.true, y.true)), null)

    def known(self, span: Span, raw: _Bits, null: _Bits) -> _Logical:
        """The logical that is `raw` where it is not NULL."""
        return _Logical(span, self.program.but_not(raw, null), self.program.or_(raw, null))

    def negation(self, x: _Logical, span: Span) -> _Logical:
        if x.true == x.maybe:
            true = self.program.not_(x.true)
            return _Logical(span, true, true)
        return _Logical(span, self.program.not_(x.maybe), self.program.not_(x.true))

    def both(self, x: _Logical, y: _Logical) -> _Logical:
        return self.joined(self.program.and_, x, y)

    def either(self, x: _Logical, y: _Logical) -> _Logical:
        return self.joined(self.program.or_, x, y)

    @staticmethod
    def joined(join: Callable[[_Bits, _Bits], _Bits], x: _Logical, y: _Logical) -> _Logical:
        true = join(x.true, y.true)
        maybe = true if x.true == x.maybe and y.true == y.maybe else join(x.maybe, y.maybe)
        return _Logical((x.span[0], y.span[1]), true, maybe)

    def is_null(self, x: _Value) -> _Bits:
        """Where a value is undefined; a NaN is."""
        if isinstance(x, _Logical):
            return False if x.true == x.maybe else self.program.but_not(x.maybe, x.true)
        if isinstance(x, _Text) or x.is_whole:
            return x.null
        if not isinstance(x.value, _Register):
            return math.isnan(x.value)
        return self.program.or_(x.null, self.program.not_(self.program.run("eq_d", x.value, x.value)))

    def compare_numbers(self, sign: str, x: _Number, y: _Number) -> _Bits:
        if not isinstance(x.value, _Register):
            if not isinstance(y.value, _Register):
                return _holds(sign, x.value, y.value)
            return self.against(_MIRRORED[sign], y, x.value)
        if not isinstance(y.value, _Register):
            return self.against(sign, x, y.value)
        if sign in (">", ">="):
            sign, x, y = _MIRRORED[sign], y, x
        name = {"==": "eq", "<": "lt", "<=": "le"}[sign]
        if x.is_whole and y.is_whole:
            alike = x.value == y.value or x.value.type == y.value.type
            kind = x.value.type if alike else "w"
            return self.program.run(f"{name}_{kind}", self.as_whole(x, kind), self.as_whole(y, kind))
        if all(not each.is_whole or (each.low in _EXACT and each.high in _EXACT) for each in (x, y)):
            return self.program.run(f"{name}_d", self.as_real(x), self.as_real(y))
        if x.is_whole:
            return self.program.run(f"{name}_wd", self.as_whole(x, "w"), self.as_real(y))
        if sign == "==":
            return self.program.run("eq_wd", self.as_whole(y, "w"), self.as_real(x))
        return self.program.run(f"{name}_dw", self.as_real(x), self.as_whole(y, "w"))

    def against(self, sign: str, x: _Number, y: int | float) -> _Bits:
        """A register compared with a constant, which is first made one of the register's type, exactly."""
        assert isinstance(x.value, _Register)
        sign, bound = _bound_real(sign, y) if not x.is_whole else _bound_whole(sign, y, x.low, x.high)
        if isinstance(bound, bool):
            return bound
        a, b = x.value, self.program.constant(x.value.type, bound)
        if sign in (">", ">="):
            a, b = b, a
        name = {"==": "eq", "<": "lt", "<=": "le", ">": "lt", ">=": "le"}[sign]
        return self.program.run(f"{name}_{x.value.type}", a, b)

    def compare_texts(self, sign: str, x: _Text, y: _Text) -> _Bits:
        if isinstance(x.value, bytes) and isinstance(y.value, bytes):
            return _holds(sign, x.value, y.value)
        if sign in (">", ">="):
            sign, x, y = _MIRRORED[sign], y, x
        a, b = (
            self.program.constant("s", each.value) if isinstance(each.value, bytes) else each.value
            for each in (x, y)
        )
        return self.program.run({"==": "eq_s", "<": "lt_s", "<=": "le_s"}[sign], a, b)

    def among(self, x: _Number | _Text, values: list[int | float] | list[bytes]) -> _Bits:
        """Whether a register equals one of the constants."""
        assert isinstance(x.value, _Register)
        chosen: list = list(values)
        if isinstance(x, _Number):
            chosen = [
                bound
                for value in values
                for _, bound in [
                    _bound_whole("==", value, x.low, x.high) if x.is_whole else _bound_real("==", value)
                ]
                if not isinstance(bound, bool) and bound == bound
            ]
        chosen = sorted(set(chosen))
        # texts are looked up slower than a few of them are compared
        if x.value.type != "w" and len(chosen) > (_FEW_TEXTS if isinstance(x, _Text) else 1):
            return self.program.run(
                f"in_{x.value.type}", x.value, self.program.constant(x.value.type, *chosen)
            )
        found: _Bits = False
        for value in chosen:
            equal = self.program.run(
                f"eq_{x.value.type}", x.value, self.program.constant(x.value.type, value)
            )
            found = self.program.or_(found, equal)
        return found


def _holds(sign: str, x: int | float | bytes, y: int | float | bytes) -> bool:
    """Python compares integers with floats exactly."""
    if sign == "==":
        return x == y
    if sign in (">", ">="):
        x, y = y, x
    return x < y if sign in ("<", ">") else x <= y  # type: ignore[operator]


def _bound_real(sign: str, y: int | float) -> tuple[str, float]:
    """What is equivalent for float64: an integer between two of them gives way to its neighbour."""
    near = float(y)
    if near == y or y != y:
        return sign, near
    if sign == "==":
        return sign, math.nan
    if sign in ("<", "<="):
        return "<=", near if near < y else math.nextafter(near, -math.inf)
    return ">=", near if near > y else math.nextafter(near, math.inf)


def _bound_whole(sign: str, y: int | float, low: int, high: int) -> tuple[str, int | bool]:
    """What is equivalent for integers within low..high: ==, <= or >= with one of them, or what is always so."""
    if isinstance(y, float) and not math.isfinite(y):
        return sign, not math.isnan(y) and sign != "==" and (y > 0) == (sign in ("<", "<="))
    if sign == "==":
        return sign, int(y) if y == int(y) and low <= y <= high else False
    if sign in ("<", "<="):
        bound = math.ceil(y) - 1 if sign == "<" else math.floor(y)
        return "<=", True if bound >= high else False if bound < low else bound
    bound = math.floor(y) + 1 if sign == ">" else math.ceil(y)
    return ">=", True if bound <= low else False if bound > high else bound


# ---------------------------------------------------------------------------- functions

# what takes and gives real numbers, and the same of constants
_REAL: dict[str, tuple[str, Callable[[float], float]]] = {
    "sqrt": ("sqrt_d", math.sqrt),
    "exp": ("exp_d", math.exp),
    "log": ("log_d", math.log),
    "ln": ("log_d", math.log),
    "log2": ("log2_d", math.log2),
    "log10": ("log10_d", math.log10),
    "sin": ("sin_d", math.sin),
    "cos": ("cos_d", math.cos),
    "tan": ("tan_d", math.tan),
    "asin": ("asin_d", math.asin),
    "acos": ("acos_d", math.acos),
    "atan": ("atan_d", math.atan),
    "sinh": ("sinh_d", math.sinh),
    "cosh": ("cosh_d", math.cosh),
    "tanh": ("tanh_d", math.tanh),
}
_REAL |= {f"arc{name}": _REAL[f"a{name}"] for name in ("sin", "cos", "tan")}
_ROUNDING = {"floor": math.floor, "ceil": math.ceil, "round": round}
_BITWISE = ("bitand", "bitor", "bitxor")
# name -> the least and the largest number of arguments
_FUNCTIONS: dict[str, tuple[int, int]] = dict.fromkeys([*_REAL, *_ROUNDING], (1, 1))
_FUNCTIONS |= dict.fromkeys(["abs", "degrees", "radians", "isnull", "isnan", "isinf", "isfinite"], (1, 1))
_FUNCTIONS |= dict.fromkeys(["pow", "atan2", "arctan2", "hypot", *_BITWISE], (2, 2))
_FUNCTIONS |= {"min": (2, 1000), "max": (2, 1000), "angsep": (4, 4)}


class _Functions(_Arithmetic):
    """The functions of the language."""

    def number(self, x: _Value, where: str) -> _Number:
        if not isinstance(x, _Number):
            raise self.error(f"{where} takes numbers, this is {_NAMES[type(x)]}", x.span)
        return x

    def call(self, name: str, arguments: list[_Value], span: Span) -> _Value:
        if name == "isnull":
            null = self.is_null(arguments[0])
            return _Logical(span, null, null)
        x, *more = (self.number(each, name) for each in arguments)
        if name in ("isnan", "isinf", "isfinite"):
            return self.test(name, x, span)
        if name in _REAL:
            return self.real(name, x, span)
        if name in _ROUNDING:
            return self.rounded(name, x, span)
        if name in ("abs", "degrees", "radians"):
            return self.absolute(x, span) if name == "abs" else self.scaled(name, x, span)
        if name in ("min", "max"):
            for y in more:
                x = self.extreme(name, x, y, span)
            return x
        if name == "pow":
            return self.arithmetic("**", x, more[0])
        if name == "angsep":
            return self.separation(x, *more, span)
        if name in _BITWISE:
            return self.bitwise(name, x, more[0], span)
        return self.of_two("atan2" if name == "arctan2" else name, x, more[0], span)

    def test(self, name: str, x: _Number, span: Span) -> _Logical:
        if name == "isnan":
            null = self.is_null(x)
            return _Logical(span, null, null)
        raw: _Bits = name == "isfinite"
        if not isinstance(x.value, _Register):
            raw = math.isfinite(x.value) if raw else math.isinf(x.value)
        elif not x.is_whole:
            size = self.absolute(x, span)
            raw = self.against("<" if raw else "==", size, math.inf)
        return self.known(span, raw, x.null)

    def real(self, name: str, x: _Number, span: Span) -> _Number:
        operation, of_constant = _REAL[name]
        if isinstance(x.value, _Register):
            return _Number(span, self.program.run(operation, self.as_real(x)), x.null)
        try:
            return _constant(span, of_constant(float(x.value)))
        except ValueError:  # outside of its domain; the logarithm of 0 has a limit
            return _constant(span, -math.inf if x.value == 0 else math.nan)
        except OverflowError:
            return _constant(span, math.copysign(math.inf, x.value) if name == "sinh" else math.inf)

    def rounded(self, name: str, x: _Number, span: Span) -> _Number:
        if x.is_whole:
            return _Number(span, x.value, x.null, x.low, x.high)
        if isinstance(x.value, _Register):
            return _Number(span, self.program.run(f"{name}_d", x.value), x.null)
        finite = math.isfinite(x.value)
        return _constant(span, float(_ROUNDING[name](x.value)) if finite else x.value)

    def absolute(self, x: _Number, span: Span) -> _Number:
        if not isinstance(x.value, _Register):
            return _constant(span, abs(x.value))
        low, high = max(x.low, -x.high, 0), max(abs(x.low), abs(x.high))
        kind = self.common_type(low, high, x)
        register = self.as_real(x) if kind == "d" else self.as_whole(x, kind)
        return _Number(span, self.program.run(f"abs_{kind}", register), x.null, low, high)

    def scaled(self, name: str, x: _Number, span: Span) -> _Number:
        factor = 180 / math.pi if name == "degrees" else math.pi / 180
        result = self.arithmetic("*", x, _constant(span, factor))
        return _Number(span, result.value, result.null)

    def extreme(self, name: str, x: _Number, y: _Number, span: Span) -> _Number:
        choose = min if name == "min" else max
        if not isinstance(x.value, _Register) and not isinstance(y.value, _Register):
            nan = next((value for value in (x.value, y.value) if value != value), None)
            return _constant(span, choose(x.value, y.value) if nan is None else nan)
        return self.binary(name, x, y, span, choose(x.low, y.low), choose(x.high, y.high))

    def bitwise(self, name: str, x: _Number, y: _Number, span: Span) -> _Number:
        for each in (x, y):
            if not each.is_whole:
                raise self.error(f"{name} takes integers", each.span)
        if isinstance(x.value, int) and isinstance(y.value, int):
            joined = {"bitand": x.value & y.value, "bitor": x.value | y.value, "bitxor": x.value ^ y.value}
            return self.constant(span, joined[name])
        bits = max(bound.bit_length() for bound in (x.low, x.high, y.low, y.high))
        low = 0 if min(x.low, y.low) >= 0 else -(2**bits)
        result = self.binary(name, x, y, span, low, 2**bits - 1)
        if not result.is_whole:
            raise self.error(f"{name} of integers beyond 128 bits", span)
        return result

    def of_two(self, name: str, x: _Number, y: _Number, span: Span) -> _Number:
        if isinstance(x.value, _Register) or isinstance(y.value, _Register):
            return self.binary(name, x, y, span)
        return _constant(span, {"atan2": math.atan2, "hypot": math.hypot}[name](x.value, y.value))

    def separation(self, ra1: _Number, dec1: _Number, ra2: _Number, dec2: _Number, span: Span) -> _Number:
        """The angle between two directions by the haversine formula, which is good for small ones; degrees."""

        def haversine(a: _Number, b: _Number) -> _Number:
            angle = self.arithmetic("-", b, a)
            half = self.real("sin", self.scaled("radians", self.arithmetic("/", angle, two), span), span)
            return self.arithmetic("**", half, two)

        two = _constant(span, 2)
        cosines = [self.real("cos", self.scaled("radians", dec, span), span) for dec in (dec1, dec2)]
        across = self.arithmetic("*", self.arithmetic("*", *cosines), haversine(ra1, ra2))
        whole = self.extreme(
            "min", self.arithmetic("+", haversine(dec1, dec2), across), _constant(span, 1.0), span
        )
        angle = self.real("asin", self.real("sqrt", whole, span), span)
        return self.scaled("degrees", self.arithmetic("*", angle, two), span)


# ---------------------------------------------------------------------------- the parser


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str  # number, string, name, column (a name in backticks), end, a keyword, or the sign itself
    text: str
    span: Span


def _tokens(text: str) -> list[_Token]:
    if len(text) > MAX_LENGTH:
        raise _error(f"a filter of {len(text)} characters; {MAX_LENGTH} are the most", text, MAX_LENGTH, 0)
    found, at = [], 0
    while match := _TOKEN.match(text, at):
        kind, at = match.lastgroup or "", match.end()
        word = match[kind]
        if kind == "name" and word.lower() in _KEYWORDS:
            kind = word.lower()
        elif kind == "sign":
            kind = _SPELLED.get(word, word)
        found.append(_Token(kind, word, (at - len(word), at)))
        if kind == "number" and text[at : at + 1].isidentifier():
            raise _error("a number ends in a letter", text, at, at + 1)
    at = _BLANKS.match(text, at).end()  # type: ignore[union-attr]
    if at < len(text):
        sign = text[at]
        reason = {
            "^": "'^' is no operator; a power is written **",
            "'": "a string without an end",
            '"': "a string without an end",
            "`": "a name without an end",
        }
        raise _error(reason.get(sign, f"{sign!r} has no meaning here"), text, at, at + 1)
    return [*found, _Token("end", "", (len(text), len(text)))]


class _Compiler(_Functions):
    """Reads a filter from left to right and compiles what it reads."""

    def __init__(self, text: str, columns: Sequence[Column], ascii_table: bool) -> None:
        super().__init__(text)
        self.columns = {column.name.upper(): column for column in columns}
        self.ascii_table = ascii_table
        self.tokens = _tokens(text)
        self.next = 0
        self.depth = 0

    @property
    def token(self) -> _Token:
        return self.tokens[self.next]

    def take(self, *kinds: str) -> _Token | None:
        """The next token where it is of one of these kinds."""
        token = self.token
        if token.kind not in kinds:
            return None
        self.next += 1
        return token

    def expect(self, kind: str, why: str) -> _Token:
        token = self.take(kind)
        if token is None:
            raise self.unexpected(f"{kind!r} {why}")
        return token

    def unexpected(self, wanted: str) -> FilterError:
        there = "the filter ends" if self.token.kind == "end" else f"{self.token.text!r} stands"
        return self.error(f"{there} where {wanted} should be", self.token.span)

    def compile(self) -> RowFilter:
        if self.token.kind == "end":
            raise self.error("the filter is empty", self.token.span)
        value = self.expression(_OR)
        if self.token.kind != "end":
            raise self.unexpected("an operator or the end")
        if not isinstance(value, _Logical):
            raise self.error(
                f"a filter is true or false for each row; this is {_NAMES[type(value)]}", value.span
            )
        return RowFilter(self.program.inputs, self.program.finish(value.true))

    def expression(self, level: int) -> _Value:
        """What stands here, as far as operators bind at least as tightly as `level`."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self.error("the filter is nested too deeply", self.token.span)
        value = self.operand(level)
        while True:
            sign = self.token
            binds = _BINDS.get("in" if self.is_negated_test() else sign.kind, 0)
            if binds < level or not binds:
                break
            if binds == _COMPARISON:
                value = self.comparison(value)
                continue
            self.next += 1
            # a power is taken from right to left, and its exponent may have a sign
            other = self.expression(_SIGN if binds == _POWER else binds + 1)
            if binds <= _AND:
                join = self.both if sign.kind == "and" else self.either
                value = join(self.logical(value, sign), self.logical(other, sign))
            else:
                where = repr(sign.text)
                value = self.arithmetic(sign.kind, self.number(value, where), self.number(other, where))
        self.depth -= 1
        return value

    def logical(self, x: _Value, sign: _Token) -> _Logical:
        if not isinstance(x, _Logical):
            hint = ""
            if isinstance(x, _Number) and x.is_whole and sign.text in ("&", "|", "~"):
                hint = "; bits are tested like this: bitand(FLAGS, 4) != 0"
            raise self.error(f"{sign.text!r} takes true or false, this is {_NAMES[type(x)]}{hint}", x.span)
        return x

    def is_negated_test(self) -> bool:
        return self.token.kind == "not" and self.tokens[self.next + 1].kind in ("in", "between")

    def comparison(self, left: _Value) -> _Value:
        """`left` and the comparisons after it: a chain, or one of `in`, `between`, `is`."""
        result: _Logical | None = None
        while sign := self.take(*_COMPARISONS):
            right = self.expression(_SUM)
            part = self.compare(sign.kind, left, right, sign.span)
            result = part if result is None else self.both(result, part)
            left = right
        if result is None:
            start, negated = left.span[0], self.take("not") is not None
            if self.take("in"):
                result = self.member(left)
            elif self.take("between"):
                result = self.between(left)
            else:
                self.expect("is", "or another comparison")
                negated = self.take("not") is not None
                self.expect("null", "after 'is'")
                null = self.is_null(left)
                result = _Logical(left.span, null, null)
            span = (start, self.tokens[self.next - 1].span[1])
            result = self.negation(result, span) if negated else _Logical(span, result.true, result.maybe)
        if _BINDS.get(self.token.kind) == _COMPARISON or self.is_negated_test():
            raise self.error("a comparison of a comparison needs parentheses", self.token.span)
        return result

    def between(self, x: _Value) -> _Logical:
        at = self.tokens[self.next - 1].span
        low = self.expression(_SUM)
        self.expect("and", "of 'between'")
        high = self.expression(_SUM)
        return self.both(self.compare(">=", x, low, at), self.compare("<=", x, high, at))

    def member(self, x: _Value) -> _Logical:
        at = self.tokens[self.next - 1].span
        opening = self.take("(", "[")
        if opening is None:
            raise self.unexpected("a list in parentheses or brackets")
        closing = ")" if opening.kind == "(" else "]"
        result = self.known(x.span, False, False if isinstance(x, _Logical) else x.null)
        constants: list = []
        while not self.take(closing):
            y = self.expression(_SUM)
            is_set = not isinstance(x, _Logical) and isinstance(x.value, _Register) and type(x) is type(y)
            if is_set and not isinstance(y, _Logical) and not isinstance(y.value, _Register):
                constants.append(y.value)
            else:
                result = self.either(result, self.compare("==", x, y, at))
            if not self.take(",") and self.token.kind != closing:
                raise self.unexpected(f"',' or {closing!r}")
        if constants and not isinstance(x, _Logical):
            result = self.either(result, self.known(x.span, self.among(x, constants), x.null))
        return result

    def operand(self, level: int) -> _Value:
        """What stands before the first operator, its own sign included."""
        token = self.token
        self.next += 1
        if token.kind == "not":
            if level > _NOT:
                raise self.error(
                    f"{token.text!r} binds looser than what is before it; it needs parentheses", token.span
                )
            x = self.logical(self.expression(_NOT), token)
            return self.negation(x, (token.span[0], x.span[1]))
        if token.kind in ("-", "+"):
            number = self.number(self.expression(_SIGN), repr(token.text))
            span = (token.span[0], number.span[1])
            return self.negative(number, span) if token.kind == "-" else number
        if token.kind == "(":
            x = self.expression(_OR)
            end = self.expect(")", "or an operator").span[1]
            return _moved(x, (token.span[0], end))
        if token.kind == "number":
            return self.literal(token)
        if token.kind == "string":
            return self.string(token)
        if token.kind in ("true", "false"):
            return _Logical(token.span, token.kind == "true", token.kind == "true")
        if token.kind == "null":
            raise self.error("NULL equals nothing; write x is null, or isnull(x)", token.span)
        if token.kind == "name" and self.token.kind == "(":
            return self.function(token)
        if token.kind in ("name", "column"):
            return self.column(token)
        self.next -= 1
        raise self.unexpected("a value")

    def literal(self, token: _Token) -> _Number:
        word = token.text
        if word[:2] in ("0x", "0X"):
            return self.constant(token.span, int(word, 16))
        value: int | float = float(word)
        if math.isinf(value):
            raise self.error("a number beyond the range of float64", token.span)
        return _constant(token.span, int(word) if word.isdigit() else value)

    def string(self, token: _Token) -> _Text:
        quote = token.text[0]
        text = token.text[1:-1].replace(quote * 2, quote)
        try:
            raw = text.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            raise self.error("a string that is no text", token.span) from None
        return _Text(token.span, raw.partition(b"\0")[0].rstrip(b" "))

    def function(self, token: _Token) -> _Value:
        name = token.text.lower()
        if name not in _FUNCTIONS:
            hint = _near(name, list(_FUNCTIONS))
            if name.upper() in self.columns:
                hint = f"; elements of a column are written {token.text}[0]"
            raise self.error(f"there is no function {token.text!r}{hint}", token.span)
        self.next += 1
        arguments: list[_Value] = []
        while not (end := self.take(")")):
            arguments.append(self.expression(_OR))
            if not self.take(",") and self.token.kind != ")":
                raise self.unexpected("',' or ')'")
        span = (token.span[0], end.span[1])
        least, most = _FUNCTIONS[name]
        if not least <= len(arguments) <= most:
            wanted = f"{least}" if least == most else f"{least} or more"
            raise self.error(f"{name} takes {wanted} argument{'s' * (most > 1)}, not {len(arguments)}", span)
        return _moved(self.call(name, arguments, span), span)

    # -- columns

    def column(self, token: _Token) -> _Value:
        name = token.text
        if token.kind == "column":
            name = name[1:-1].replace("``", "`")
        column = self.columns.get(name.strip().upper())
        if column is None:
            raise self.error(f"there is no column {name[:80]!r}{self.similar(token, name)}", token.span)
        index, span = self.index(token)
        found = self.input_of(column, index, span)
        register, null = self.program.load(found)
        if found.kind == "logical":
            logical = self.known(span, register, null)
            return logical
        if found.kind == "string":
            return _Text(span, register, null)
        if found.kind == "float64":
            return _Number(span, register, null)
        bounds = torch.iinfo(torch.int64 if self.ascii_table else _dtype(column))
        return _Number(span, register, null, bounds.min, bounds.max)

    def similar(self, token: _Token, name: str) -> str:
        """Which columns may have been meant."""
        here = self.text[token.span[0] :].upper()
        for known in self.columns:
            if known.startswith(name.upper()) and here.startswith(known):
                return f"; names that are not plain words are written in backticks: {_spelled(self.columns[known].name)}"
        if len(self.columns) <= 5:
            there = ", ".join(_spelled(column.name) for column in self.columns.values())
            return f"; there are {there}" if there else "; there are none"
        return _near(name.upper(), list(self.columns), lambda key: _spelled(self.columns[key].name))

    def index(self, token: _Token) -> tuple[list[tuple[int, Span]] | None, Span]:
        """The numbers in brackets after a name, if there are any, and the span of all."""
        if not self.take("["):
            return None, token.span
        found = []
        while True:
            minus = self.take("-")
            number = self.take("number")
            if number is None or not number.text.isdigit() or len(number.text) > 18:
                self.next -= number is not None
                raise self.unexpected("an index, counted from 0,")
            at = ((minus or number).span[0], number.span[1])
            found.append((-int(number.text) if minus else int(number.text), at))
            end = self.take("]")
            if end:
                return found, (token.span[0], end.span[1])
            if not self.take(","):
                raise self.unexpected("',' or ']'")

    def input_of(self, column: Column, index: list[tuple[int, Span]] | None, span: Span) -> Input:
        what = f"column {column.name!r}"
        if column.problem:
            raise self.error(f"{what} cannot be read: {column.problem}", span)
        if column.code in "PQ":
            raise self.error(
                f"{what} is of variable length ({column.tform}); filters take no such column", span
            )
        if column.code in "CM":
            raise self.error(f"{what} is complex ({column.tform}); filters take no such column", span)
        shape = column.shape[:-1] if column.code == "A" else column.shape
        element = self.element(what, shape, index, span)
        if column.code == "A":
            nullable = self.ascii_table and column.null is not None
            return Input(column, element, "string", column.shape[-1], nullable)
        if column.code in "LX":
            return Input(column, element, "logical", 1, column.code == "L")
        if self.ascii_table:
            whole = column.code == "I" and (column.scale, column.zero) == (1, 0)
            return Input(column, element, "int64" if whole else "float64", 8, whole)
        dtype, nullable = _dtype(column), False
        if isinstance(column.null, int):
            stored = torch.iinfo(STORED[BITPIX_OF_TFORM[column.code]])
            nullable = stored.min <= column.null <= stored.max
        if dtype.is_floating_point:
            return Input(column, element, "float64", 8, nullable)
        return Input(column, element, "uint64" if dtype == torch.uint64 else "int64", 8, nullable)

    def element(
        self, what: str, shape: tuple[int, ...], index: list[tuple[int, Span]] | None, span: Span
    ) -> int:
        """The number of the element that an index means, in the order of the file."""
        if index is None:
            if math.prod(shape) != 1:
                size = " x ".join(map(str, shape))
                zeros = ", ".join("0" * len(shape))
                raise self.error(
                    f"{what} holds {size} elements a row; one is written with its index: [{zeros}]", span
                )
            return 0
        if len(index) != len(shape):
            has = f"{len(shape)} axes" if len(shape) != 1 else "one axis"
            raise self.error(f"{what} has {has if shape else 'one element a row, and no axis'}", span)
        element = 0
        for (i, at), length in zip(index, shape, strict=True):
            if not -length <= i < length:
                raise self.error(f"index {i} is out of an axis of {length} of {what}", at)
            element = element * length + i % length
        return element


def _dtype(column: Column) -> torch.dtype:
    return value_dtype(BITPIX_OF_TFORM[column.code], column.scale, column.zero, None)


def _moved(value: _Value, span: Span) -> _Value:
    """The same value, as that of a longer piece of text."""
    if isinstance(value, _Number):
        return _Number(span, value.value, value.null, value.low, value.high)
    if isinstance(value, _Text):
        return _Text(span, value.value, value.null)
    return _Logical(span, value.true, value.maybe)


def _spelled(name: str) -> str:
    """A column's name as a filter has it."""
    plain = _IDENTIFIER.fullmatch(name) and name.lower() not in _KEYWORDS
    return name if plain else "`" + name.replace("`", "``") + "`"


def _near(name: str, known: list[str], spelled: Callable[[str], str] = str) -> str:
    found = difflib.get_close_matches(name, known, 3) if len(name) <= 80 else []
    return f"; did you mean {' or '.join(map(spelled, found))}?" if found else ""
