"""What the operators and functions of row filters mean: values, and the instructions that compute them.

What NULL does is written out in instructions too: a number or a text goes with a register that says where
it is NULL, a logical is a pair, where it is true and where it may be.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from torchfits._direct import OPERATIONS, Filter
from torchfits.errors import FilterError
from torchfits.layout import Column

SHOWN = 100  # characters of a long line that an error shows
_MAX_INTEGER = int(sys.float_info.max)
_WIDE = range(-(2**127), 2**127)
_INT64 = range(-(2**63), 2**63)
_EXACT = range(-(2**53), 2**53 + 1)  # integers that float64 holds
_FEW_TEXTS = 8
_MAX_POWER = 16  # integers to a power up to this stay integers

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


def show(message: str, text: str, start: int, end: int) -> FilterError:
    """FilterError that shows the line of `text` with carets under start:end."""
    first = text.rfind("\n", 0, start) + 1
    last = text.find("\n", start)
    last = len(text) if last < 0 else last
    before = after = ""
    if last - first > SHOWN:
        if start - first > SHOWN // 2:
            first, before = start - SHOWN // 2, "..."
        if last - first > SHOWN:
            last, after = first + SHOWN, "..."
    line = "".join(c if c.isprintable() else " " for c in text[first:last])
    carets = " " * (len(before) + start - first) + "^" * max(min(end, last) - start, 1)
    return FilterError(f"{message}\n    {before}{line}{after}\n    {carets}")


# ---------------------------------------------------------------------------- values

Span: TypeAlias = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Register:
    """`type` is a letter of `_direct.Filter`; `index` counts within the place."""

    type: str
    place: Literal["input", "null", "constant", "temporary"]
    index: int


# a logical of each row: the same for all, or a register 'b'
Bits: TypeAlias = bool | Register


@dataclass(frozen=True, slots=True)
class Number:
    """A constant or a register; of integers also the bounds, so that no instruction overflows."""

    span: Span
    value: int | float | Register
    null: Bits = False
    low: int = 0
    high: int = 0

    @property
    def is_whole(self) -> bool:
        return self.value.type in "iuw" if isinstance(self.value, Register) else isinstance(self.value, int)


@dataclass(frozen=True, slots=True)
class Text:
    span: Span
    value: bytes | Register
    null: Bits = False


@dataclass(frozen=True, slots=True)
class Logical:
    """Where it is true, and where it is true or NULL."""

    span: Span
    true: Bits
    maybe: Bits


Value: TypeAlias = Number | Text | Logical

NAMES = {Number: "a number", Text: "a string", Logical: "true or false"}


def fixed(span: Span, value: int | float) -> Number:
    return Number(span, value, False, value, value) if isinstance(value, int) else Number(span, value)


# ---------------------------------------------------------------------------- the program


class Program:
    """Instructions that each write a new register, until `finish` finds out which may share memory."""

    def __init__(self) -> None:
        self.inputs: list[Input] = []
        self._numbers: dict[tuple[int, int], int] = {}
        self._constants: dict[tuple[str, str], int] = {}
        self._values: list[tuple[str, list]] = []
        self._code: list[tuple[str, Register, Register | None]] = []

    def load(self, each: Input) -> tuple[Register, Bits]:
        """The registers of an input's values and of where they are NULL."""
        key = (each.column.index, each.element)
        if key not in self._numbers:
            self._numbers[key] = len(self.inputs)
            self.inputs.append(each)
        i = self._numbers[key]
        return Register(_LETTERS[each.kind], "input", i), Register("b", "null", i) if each.nullable else False

    def constant(self, kind: str, *values: int | float | bytes) -> Register:
        """A constant, or a set of them in rising order."""
        key = (kind, repr(values))
        if key not in self._constants:
            self._constants[key] = len(self._values)
            self._values.append((kind, list(values)))
        return Register(kind, "constant", self._constants[key])

    def run(self, operation: str, a: Register, b: Register | None = None) -> Register:
        self._code.append((operation, a, b))
        return Register(OPERATIONS[operation][0], "temporary", len(self._code) - 1)

    def and_(self, a: Bits, b: Bits) -> Bits:
        if isinstance(a, bool):
            return b if a else False
        if isinstance(b, bool):
            return a if b else False
        return a if a == b else self.run("and_b", a, b)

    def or_(self, a: Bits, b: Bits) -> Bits:
        if isinstance(a, bool):
            return True if a else b
        if isinstance(b, bool):
            return True if b else a
        return a if a == b else self.run("or_b", a, b)

    def not_(self, a: Bits) -> Bits:
        return not a if isinstance(a, bool) else self.run("not_b", a)

    def but_not(self, a: Bits, b: Bits) -> Bits:
        """Where a is and b is not."""
        if isinstance(a, bool) or isinstance(b, bool):
            return self.and_(a, self.not_(b))
        return self.run("andnot_b", a, b)

    def differ(self, a: Bits, b: Bits) -> Bits:
        if isinstance(a, bool):
            return self.not_(b) if a else b
        if isinstance(b, bool):
            return self.not_(a) if b else a
        return self.run("xor_b", a, b)

    def finish(self, result: Bits) -> Filter:
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
        program: list[tuple[str, int, int, int]] = []

        def number(r: Register | None) -> int:
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
            else:
                place[i] = len(temporaries)
            program.append((operation, first["temporary"] + place[i], number(a), number(b)))
            for r in {a, b}:
                if r is not None and r.place == "temporary" and last_use[r.index] == i:
                    free[r.type].append(place[r.index])
        inputs = [(_LETTERS[each.kind], each.width) for each in self.inputs]
        return Filter(inputs, self._values, "".join(temporaries), program)


_LETTERS = {"int64": "i", "uint64": "u", "float64": "d", "logical": "b", "string": "s"}


# ---------------------------------------------------------------------------- what operators mean


class _Arithmetic:
    """Instructions for operators and functions of values."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.program = Program()

    def error(self, message: str, span: Span) -> FilterError:
        return show(message, self.text, *span)

    # -- numbers

    def as_real(self, x: Number) -> Register:
        if not isinstance(x.value, Register):
            return self.program.constant("d", float(x.value))
        return x.value if x.value.type == "d" else self.program.run(f"{x.value.type}_to_d", x.value)

    def as_whole(self, x: Number, kind: str) -> Register:
        if not isinstance(x.value, Register):
            assert isinstance(x.value, int)
            return self.program.constant(kind, x.value)
        return x.value if x.value.type == kind else self.program.run(f"{x.value.type}_to_{kind}", x.value)

    @staticmethod
    def common_type(low: int, high: int, *operands: Number) -> str:
        """'i' or 'w' where a whole result within low..high can be had exactly from the operands, else 'd'."""
        if not all(x.is_whole for x in operands):
            return "d"
        bounds = [low, high, *(x.low for x in operands), *(x.high for x in operands)]
        narrow = all(x.value.type == "i" for x in operands if isinstance(x.value, Register))
        if narrow and all(bound in _INT64 for bound in bounds):
            return "i"
        return "w" if all(bound in _WIDE for bound in bounds) else "d"

    def constant(self, span: Span, value: int | float) -> Number:
        if isinstance(value, int) and abs(value) > _MAX_INTEGER:
            raise self.error("a number beyond the range of float64", span)
        return fixed(span, value)

    def binary(
        self, name: str, x: Number, y: Number, span: Span, low: int = 0, high: int = -(2**200)
    ) -> Number:
        """x (name) y, whole where the bounds allow."""
        kind = self.common_type(low, high, x, y)
        null = self.program.or_(x.null, y.null)
        if kind == "d":
            return Number(span, self.program.run(f"{name}_d", self.as_real(x), self.as_real(y)), null)
        register = self.program.run(f"{name}_{kind}", self.as_whole(x, kind), self.as_whole(y, kind))
        return Number(span, register, null, low, high)

    def arithmetic(self, sign: str, x: Number, y: Number) -> Number:
        span = (x.span[0], y.span[1])
        if not isinstance(x.value, Register) and not isinstance(y.value, Register):
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

    def fold(self, sign: str, x: int | float, y: int | float, span: Span) -> Number:
        """The same of constants: integers have no bounds here, but may not grow beyond float64."""
        try:
            return self.constant(span, _folded(sign, x, y))
        except ZeroDivisionError:
            raise self.error("division by zero", span) from None
        except OverflowError:
            raise self.error("a number beyond the range of float64", span) from None

    def modulo(self, x: Number, y: Number, span: Span) -> Number:
        if y.value == 0:
            raise self.error("division by zero", span)
        result = self.binary("mod", x, y, span, min(y.low + 1, 0), max(y.high - 1, 0))
        if not y.low <= 0 <= y.high or not result.is_whole:
            return result
        null = self.program.or_(result.null, self.against("==", y, 0))
        return Number(span, result.value, null, result.low, result.high)

    def power(self, x: Number, y: Number, span: Span) -> Number:
        times = y.value if isinstance(y.value, int) and 1 <= y.value <= _MAX_POWER else 0
        if times and x.is_whole and max(abs(x.low), abs(x.high)) ** times in _WIDE:
            result = x
            for _ in range(times - 1):
                result = self.arithmetic("*", result, x)
            return Number(span, result.value, result.null, result.low, result.high)
        if y.value == 2:
            return self.binary("mul", x, x, span)
        return self.binary("pow", x, y, span)

    def negative(self, x: Number, span: Span) -> Number:
        if not isinstance(x.value, Register):
            return self.constant(span, -x.value)
        if x.is_whole:
            return self.binary("sub", fixed(span, 0), x, span, -x.high, -x.low)
        return self.binary("mul", x, fixed(span, -1.0), span)

    # -- comparisons

    def compare(self, sign: str, x: Value, y: Value, at: Span) -> Logical:
        """What a comparison gives; `at` is the place of its operator."""
        span, program = (x.span[0], y.span[1]), self.program
        if sign == "!=":
            return self.negation(self.compare("==", x, y, at), span)
        if isinstance(x, Number) and isinstance(y, Number):
            return self.known(span, self.compare_numbers(sign, x, y), program.or_(x.null, y.null))
        if isinstance(x, Text) and isinstance(y, Text):
            return self.known(span, self.compare_texts(sign, x, y), program.or_(x.null, y.null))
        if not isinstance(x, Logical) or not isinstance(y, Logical):
            hint = "; a logical is compared with true or false" if Logical in (type(x), type(y)) else ""
            raise self.error(f"{NAMES[type(x)]} is compared with {NAMES[type(y)]}{hint}", at)
        if sign != "==":
            raise self.error("true and false are compared with == and != only", at)
        null = program.or_(self.is_null(x), self.is_null(y))
        return self.known(span, program.not_(program.differ(x.true, y.true)), null)

    def known(self, span: Span, raw: Bits, null: Bits) -> Logical:
        """The logical that is `raw` where it is not NULL."""
        return Logical(span, self.program.but_not(raw, null), self.program.or_(raw, null))

    def negation(self, x: Logical, span: Span) -> Logical:
        if x.true == x.maybe:
            true = self.program.not_(x.true)
            return Logical(span, true, true)
        return Logical(span, self.program.not_(x.maybe), self.program.not_(x.true))

    def both(self, x: Logical, y: Logical) -> Logical:
        return self.joined(self.program.and_, x, y)

    def either(self, x: Logical, y: Logical) -> Logical:
        return self.joined(self.program.or_, x, y)

    @staticmethod
    def joined(join: Callable[[Bits, Bits], Bits], x: Logical, y: Logical) -> Logical:
        true = join(x.true, y.true)
        maybe = true if x.true == x.maybe and y.true == y.maybe else join(x.maybe, y.maybe)
        return Logical((x.span[0], y.span[1]), true, maybe)

    def is_null(self, x: Value) -> Bits:
        """Where a value is undefined; a NaN is."""
        if isinstance(x, Logical):
            return False if x.true == x.maybe else self.program.but_not(x.maybe, x.true)
        if isinstance(x, Text) or x.is_whole:
            return x.null
        if not isinstance(x.value, Register):
            return math.isnan(x.value)
        return self.program.or_(x.null, self.program.not_(self.program.run("eq_d", x.value, x.value)))

    def compare_numbers(self, sign: str, x: Number, y: Number) -> Bits:
        if not isinstance(x.value, Register):
            if not isinstance(y.value, Register):
                return _holds(sign, x.value, y.value)
            return self.against(_MIRRORED[sign], y, x.value)
        if not isinstance(y.value, Register):
            return self.against(sign, x, y.value)
        if sign in (">", ">="):
            return self.compare_numbers(_MIRRORED[sign], y, x)
        name = {"==": "eq", "<": "lt", "<=": "le"}[sign]
        if x.is_whole and y.is_whole:
            kind = x.value.type if x.value.type == y.value.type else "w"
            return self.program.run(f"{name}_{kind}", self.as_whole(x, kind), self.as_whole(y, kind))
        if all(not each.is_whole or (each.low in _EXACT and each.high in _EXACT) for each in (x, y)):
            return self.program.run(f"{name}_d", self.as_real(x), self.as_real(y))
        if x.is_whole:
            return self.program.run(f"{name}_wd", self.as_whole(x, "w"), self.as_real(y))
        if sign == "==":
            return self.program.run("eq_wd", self.as_whole(y, "w"), self.as_real(x))
        return self.program.run(f"{name}_dw", self.as_real(x), self.as_whole(y, "w"))

    def against(self, sign: str, x: Number, y: int | float) -> Bits:
        """A register compared with a constant, which is first made one of the register's type, exactly."""
        assert isinstance(x.value, Register)
        sign, bound = _bound_real(sign, y) if not x.is_whole else _bound_whole(sign, y, x.low, x.high)
        if isinstance(bound, bool):
            return bound
        a, b = x.value, self.program.constant(x.value.type, bound)
        if sign in (">", ">="):
            a, b = b, a
        name = {"==": "eq", "<": "lt", "<=": "le", ">": "lt", ">=": "le"}[sign]
        return self.program.run(f"{name}_{x.value.type}", a, b)

    def compare_texts(self, sign: str, x: Text, y: Text) -> Bits:
        if isinstance(x.value, bytes) and isinstance(y.value, bytes):
            return _holds(sign, x.value, y.value)
        if sign in (">", ">="):
            sign, x, y = _MIRRORED[sign], y, x
        a, b = (
            self.program.constant("s", each.value) if isinstance(each.value, bytes) else each.value
            for each in (x, y)
        )
        return self.program.run({"==": "eq_s", "<": "lt_s", "<=": "le_s"}[sign], a, b)

    def among(self, x: Number | Text, values: Sequence[int | float | bytes]) -> Bits:
        """Whether a register equals one of the constants."""
        assert isinstance(x.value, Register)
        if isinstance(x, Number):
            bounds = [
                _bound_whole("==", y, x.low, x.high) if x.is_whole else _bound_real("==", y)
                for y in values
                if not isinstance(y, bytes)
            ]
            values = [bound for _, bound in bounds if not isinstance(bound, bool) and bound == bound]
        chosen: list = sorted(set(values))
        # texts are looked up slower than a few of them are compared
        if x.value.type != "w" and len(chosen) > (_FEW_TEXTS if isinstance(x, Text) else 1):
            return self.program.run(
                f"in_{x.value.type}", x.value, self.program.constant(x.value.type, *chosen)
            )
        found: Bits = False
        for value in chosen:
            equal = self.program.run(
                f"eq_{x.value.type}", x.value, self.program.constant(x.value.type, value)
            )
            found = self.program.or_(found, equal)
        return found


def _folded(sign: str, x: int | float, y: int | float) -> int | float:
    """Arithmetic of constants as that of columns, but without bounds; OverflowError long before they hurt."""
    if sign == "**":
        if isinstance(x, int) and isinstance(y, int) and y >= 0:
            if abs(x) > 1 and y * (x.bit_length() - 1) > 1024:
                raise OverflowError
            return x**y
        try:
            return math.pow(x, y)
        except ValueError:  # a negative number to a power that is not whole, or 0 to a negative one
            return math.nan if x else math.inf
    if sign in "/%":
        return x / y if sign == "/" else x % y
    return x + y if sign == "+" else x - y if sign == "-" else x * y


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
    """What is equivalent for integers within low..high: ==, <= or >= with one of them, or a bool."""
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
_ROUNDING: dict[str, Callable[[float], int]] = {"floor": math.floor, "ceil": math.ceil, "round": round}
_BITWISE = ("bitand", "bitor", "bitxor")
# name -> the least and the largest number of arguments
ARGUMENTS: dict[str, tuple[int, int]] = dict.fromkeys([*_REAL, *_ROUNDING], (1, 1))
ARGUMENTS |= dict.fromkeys(["abs", "degrees", "radians", "isnull", "isnan", "isinf", "isfinite"], (1, 1))
ARGUMENTS |= dict.fromkeys(["pow", "atan2", "arctan2", "hypot", *_BITWISE], (2, 2))
ARGUMENTS |= {"min": (2, 1000), "max": (2, 1000), "angsep": (4, 4)}


class Functions(_Arithmetic):
    """The functions of the language."""

    def number(self, x: Value, where: str) -> Number:
        if not isinstance(x, Number):
            raise self.error(f"{where} takes numbers, this is {NAMES[type(x)]}", x.span)
        return x

    def call(self, name: str, arguments: list[Value], span: Span) -> Value:
        if name == "isnull":
            null = self.is_null(arguments[0])
            return Logical(span, null, null)
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
            return self.separation([x, *more], span)
        if name in _BITWISE:
            return self.bitwise(name, x, more[0], span)
        return self.of_two("atan2" if name == "arctan2" else name, x, more[0], span)

    def test(self, name: str, x: Number, span: Span) -> Logical:
        if name == "isnan":
            null = self.is_null(x)
            return Logical(span, null, null)
        raw: Bits = name == "isfinite"
        if not isinstance(x.value, Register):
            raw = math.isfinite(x.value) if raw else math.isinf(x.value)
        elif not x.is_whole:
            size = self.absolute(x, span)
            raw = self.against("<" if raw else "==", size, math.inf)
        return self.known(span, raw, x.null)

    def real(self, name: str, x: Number, span: Span) -> Number:
        operation, of_constant = _REAL[name]
        if isinstance(x.value, Register):
            return Number(span, self.program.run(operation, self.as_real(x)), x.null)
        try:
            return fixed(span, of_constant(float(x.value)))
        except ValueError:  # outside of its domain; the logarithm of 0 has a limit
            return fixed(span, -math.inf if x.value == 0 else math.nan)
        except OverflowError:
            return fixed(span, math.copysign(math.inf, x.value) if name == "sinh" else math.inf)

    def rounded(self, name: str, x: Number, span: Span) -> Number:
        if x.is_whole:
            return Number(span, x.value, x.null, x.low, x.high)
        if isinstance(x.value, Register):
            return Number(span, self.program.run(f"{name}_d", x.value), x.null)
        finite = math.isfinite(x.value)
        return fixed(span, float(_ROUNDING[name](x.value)) if finite else x.value)

    def absolute(self, x: Number, span: Span) -> Number:
        if not isinstance(x.value, Register):
            return fixed(span, abs(x.value))
        low, high = max(x.low, -x.high, 0), max(abs(x.low), abs(x.high))
        kind = self.common_type(low, high, x)
        register = self.as_real(x) if kind == "d" else self.as_whole(x, kind)
        return Number(span, self.program.run(f"abs_{kind}", register), x.null, low, high)

    def scaled(self, name: str, x: Number, span: Span) -> Number:
        factor = 180 / math.pi if name == "degrees" else math.pi / 180
        result = self.arithmetic("*", x, fixed(span, factor))
        return Number(span, result.value, result.null)

    def extreme(self, name: str, x: Number, y: Number, span: Span) -> Number:
        choose = min if name == "min" else max
        if not isinstance(x.value, Register) and not isinstance(y.value, Register):
            nan = next((value for value in (x.value, y.value) if value != value), None)
            return fixed(span, choose(x.value, y.value) if nan is None else nan)
        return self.binary(name, x, y, span, choose(x.low, y.low), choose(x.high, y.high))

    def bitwise(self, name: str, x: Number, y: Number, span: Span) -> Number:
        for each in (x, y):
            if not each.is_whole:
                raise self.error(f"{name} takes integers", each.span)
        if isinstance(x.value, int) and isinstance(y.value, int):
            joined = {"bitand": x.value & y.value, "bitor": x.value | y.value, "bitxor": x.value ^ y.value}
            return self.constant(span, joined[name])
        bits = max(bound.bit_length() for bound in (x.low, x.high, y.low, y.high))
        low, high = 0 if min(x.low, y.low) >= 0 else -(2**bits), 2**bits - 1
        if self.common_type(low, high, x, y) == "d":
            raise self.error(f"{name} of integers beyond 128 bits", span)
        return self.binary(name, x, y, span, low, high)

    def of_two(self, name: str, x: Number, y: Number, span: Span) -> Number:
        if isinstance(x.value, Register) or isinstance(y.value, Register):
            return self.binary(name, x, y, span)
        return fixed(span, {"atan2": math.atan2, "hypot": math.hypot}[name](x.value, y.value))

    def separation(self, directions: list[Number], span: Span) -> Number:
        """The angle between two directions by the haversine formula, good for small ones; degrees."""

        def haversine(a: Number, b: Number) -> Number:
            angle = self.arithmetic("-", b, a)
            half = self.real("sin", self.scaled("radians", self.arithmetic("/", angle, two), span), span)
            return self.arithmetic("**", half, two)

        ra1, dec1, ra2, dec2 = directions
        two = fixed(span, 2)
        cosines = [self.real("cos", self.scaled("radians", dec, span), span) for dec in (dec1, dec2)]
        across = self.arithmetic("*", self.arithmetic("*", *cosines), haversine(ra1, ra2))
        whole = self.extreme(
            "min", self.arithmetic("+", haversine(dec1, dec2), across), fixed(span, 1.0), span
        )
        angle = self.real("asin", self.real("sqrt", whole, span), span)
        return self.scaled("degrees", self.arithmetic("*", angle, two), span)
