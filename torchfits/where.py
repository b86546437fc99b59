"""The row-filter language of `read_table(where=...)`: from text to a program for our kernels.

There is no tree: the parser hands what it reads to `torchfits.expressions` at once. docs/filters.md
describes the language.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from torchfits._direct import Filter
from torchfits._tensors import BITPIX_OF_TFORM, STORED, value_dtype
from torchfits.errors import FilterError
from torchfits.expressions import (
    ARGUMENTS,
    NAMES,
    SHOWN,
    Functions,
    Input,
    Logical,
    Number,
    Register,
    Span,
    Text,
    Value,
    fixed,
    show,
)
from torchfits.layout import Column

MAX_LENGTH = 1 << 18
MAX_DEPTH = 150

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


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str  # number, string, name, column (a name in backticks), end, a keyword, or the sign itself
    text: str
    span: Span


def _tokens(text: str) -> list[_Token]:
    if len(text) > MAX_LENGTH:
        raise show(f"a filter of {len(text)} characters; {MAX_LENGTH} are the most", text, MAX_LENGTH, 0)
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
            raise show("a number ends in a letter", text, at, at + 1)
    at = _BLANKS.match(text, at).end()  # type: ignore[union-attr]
    if at < len(text):
        sign = text[at]
        reason = {
            "^": "'^' is no operator; a power is written **",
            "'": "a string without an end",
            '"': "a string without an end",
            "`": "a name without an end",
        }
        raise show(reason.get(sign, f"{sign!r} has no meaning here"), text, at, at + 1)
    return [*found, _Token("end", "", (len(text), len(text)))]


class _Compiler(Functions):
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
        there = "the filter ends" if self.token.kind == "end" else f"{self.token.text[:SHOWN]!r} stands"
        return self.error(f"{there} where {wanted} should be", self.token.span)

    def compile(self) -> RowFilter:
        if self.token.kind == "end":
            raise self.error("the filter is empty", self.token.span)
        value = self.expression(_OR)
        if self.token.kind != "end":
            raise self.unexpected("an operator or the end")
        if not isinstance(value, Logical):
            raise self.error(
                f"a filter is true or false for each row; this is {NAMES[type(value)]}", value.span
            )
        return RowFilter(self.program.inputs, self.program.finish(value.true))

    def expression(self, level: int) -> Value:
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

    def logical(self, x: Value, sign: _Token) -> Logical:
        if not isinstance(x, Logical):
            hint = ""
            if isinstance(x, Number) and x.is_whole and sign.text in ("&", "|", "~"):
                hint = "; bits are tested like this: bitand(FLAGS, 4) != 0"
            raise self.error(f"{sign.text!r} takes true or false, this is {NAMES[type(x)]}{hint}", x.span)
        return x

    def is_negated_test(self) -> bool:
        return self.token.kind == "not" and self.tokens[self.next + 1].kind in ("in", "between")

    def comparison(self, left: Value) -> Value:
        """`left` and the comparisons after it: a chain, or one of `in`, `between`, `is`."""
        result: Logical | None = None
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
                result = Logical(left.span, null, null)
            span = (start, self.tokens[self.next - 1].span[1])
            result = self.negation(result, span) if negated else Logical(span, result.true, result.maybe)
        if _BINDS.get(self.token.kind) == _COMPARISON or self.is_negated_test():
            raise self.error("a comparison of a comparison needs parentheses", self.token.span)
        return result

    def between(self, x: Value) -> Logical:
        at = self.tokens[self.next - 1].span
        low = self.expression(_SUM)
        self.expect("and", "of 'between'")
        high = self.expression(_SUM)
        return self.both(self.compare(">=", x, low, at), self.compare("<=", x, high, at))

    def member(self, x: Value) -> Logical:
        at = self.tokens[self.next - 1].span
        opening = self.take("(", "[")
        if opening is None:
            raise self.unexpected("a list in parentheses or brackets")
        closing = ")" if opening.kind == "(" else "]"
        result = self.known(x.span, False, False if isinstance(x, Logical) else x.null)
        constants: list = []
        while not self.take(closing):
            y = self.expression(_SUM)
            is_set = not isinstance(x, Logical) and isinstance(x.value, Register) and type(x) is type(y)
            if is_set and not isinstance(y, Logical) and not isinstance(y.value, Register):
                constants.append(y.value)
            else:
                result = self.either(result, self.compare("==", x, y, at))
            if not self.take(",") and self.token.kind != closing:
                raise self.unexpected(f"',' or {closing!r}")
        if constants and not isinstance(x, Logical):
            result = self.either(result, self.known(x.span, self.among(x, constants), x.null))
        return result

    def operand(self, level: int) -> Value:
        """What stands before the first operator, its own sign included."""
        token = self.token
        self.next += 1
        if token.kind == "not":
            if level > _NOT:
                raise self.error(
                    f"{token.text!r} binds looser than what is before it; it needs parentheses", token.span
                )
            negated = self.logical(self.expression(_NOT), token)
            return self.negation(negated, (token.span[0], negated.span[1]))
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
            return Logical(token.span, token.kind == "true", token.kind == "true")
        if token.kind == "null":
            raise self.error("NULL equals nothing; write x is null, or isnull(x)", token.span)
        if token.kind == "name" and self.token.kind == "(":
            return self.function(token)
        if token.kind in ("name", "column"):
            return self.column(token)
        self.next -= 1
        raise self.unexpected("a value")

    def literal(self, token: _Token) -> Number:
        word = token.text
        if word[:2] in ("0x", "0X"):
            return self.constant(token.span, int(word, 16))
        value: int | float = float(word)
        if math.isinf(value):
            raise self.error("a number beyond the range of float64", token.span)
        return fixed(token.span, int(word) if word.isdigit() else value)

    def string(self, token: _Token) -> Text:
        quote = token.text[0]
        text = token.text[1:-1].replace(quote * 2, quote)
        try:
            raw = text.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            raise self.error("a string that is no text", token.span) from None
        return Text(token.span, raw.partition(b"\0")[0].rstrip(b" "))

    def function(self, token: _Token) -> Value:
        name = token.text.lower()
        if name not in ARGUMENTS:
            hint = _near(name, list(ARGUMENTS))
            if name.upper() in self.columns:
                hint = f"; elements of a column are written {token.text}[0]"
            raise self.error(f"there is no function {token.text[:SHOWN]!r}{hint}", token.span)
        self.next += 1
        arguments: list[Value] = []
        while not (end := self.take(")")):
            arguments.append(self.expression(_OR))
            if not self.take(",") and self.token.kind != ")":
                raise self.unexpected("',' or ')'")
        span = (token.span[0], end.span[1])
        least, most = ARGUMENTS[name]
        if not least <= len(arguments) <= most:
            wanted = f"{least}" if least == most else f"{least} or more"
            raise self.error(f"{name} takes {wanted} argument{'s' * (most > 1)}, not {len(arguments)}", span)
        return _moved(self.call(name, arguments, span), span)

    # -- columns

    def column(self, token: _Token) -> Value:
        name = token.text
        if token.kind == "column":
            name = name[1:-1].replace("``", "`")
        column = self.columns.get(name.strip().upper())
        if column is None:
            raise self.error(f"there is no column {name[:SHOWN]!r}{self.similar(token, name)}", token.span)
        index, span = self.index(token)
        found = self.input_of(column, index, span)
        register, null = self.program.load(found)
        if found.kind == "logical":
            logical = self.known(span, register, null)
            return logical
        if found.kind == "string":
            return Text(span, register, null)
        if found.kind == "float64":
            return Number(span, register, null)
        bounds = torch.iinfo(torch.int64 if self.ascii_table else _dtype(column))
        return Number(span, register, null, bounds.min, bounds.max)

    def similar(self, token: _Token, name: str) -> str:
        """Which columns may have been meant."""
        here = self.text[token.span[0] :].upper()
        for known in self.columns:
            if known.startswith(name.upper()) and here.startswith(known):
                spelled = _spelled(self.columns[known].name)
                return f"; names that are not plain words are written in backticks: {spelled}"
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
            return Input(column, element, "int64" if whole else "float64", 8, column.code == "I")
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


def _moved(value: Value, span: Span) -> Value:
    """The same value, as that of a longer piece of text."""
    if isinstance(value, Number):
        return Number(span, value.value, value.null, value.low, value.high)
    if isinstance(value, Text):
        return Text(span, value.value, value.null)
    return Logical(span, value.true, value.maybe)


def _spelled(name: str) -> str:
    """A column's name as a filter has it."""
    plain = _IDENTIFIER.fullmatch(name) and name.lower() not in _KEYWORDS
    return name if plain else "`" + name.replace("`", "``") + "`"


def _near(name: str, known: list[str], spelled: Callable[[str], str] = str) -> str:
    found = difflib.get_close_matches(name, known, 3) if len(name) <= 80 else []
    return f"; did you mean {' or '.join(map(spelled, found))}?" if found else ""
