"""The row-filter language: the page's examples, what its errors say and show, programs that must not run."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import pytest
from filters import column, keep, kept
from hypothesis import given, settings
from hypothesis import strategies as st

from torchfits import FilterError, FitsFormatError, _direct
from torchfits.where import MAX_DEPTH, MAX_LENGTH, compile_filter

pytestmark = [pytest.mark.native, pytest.mark.usefixtures("variant")]

DOC = Path(__file__).parents[1] / "docs" / "filters.md"


# ---------------------------------------------------------------------------- the page


def _rows_of(table):
    """The cells of a table in Markdown, its head left out."""
    lines = [re.split(r"(?<!\\)\|", line)[1:-1] for line in table.strip().splitlines()]
    return [[c.strip().replace("\\|", "|") for c in line] for line in lines[2:]]


def _page():
    """The columns and the rows of the page's example, and its filters."""
    data, filters = re.findall(r"^\| (?:row|filter) \|.*?\n\n", DOC.read_text(), re.MULTILINE | re.DOTALL)
    columns = {
        "ID": (column("ID", "K", zero=2.0**63), int),
        "MAG_G": (column("MAG_G", "E"), float),
        "CLASS": (column("CLASS", "I", null=-1), int),
        "NAME": (column("NAME", "A", (8,)), str.encode),
        "FLAGS": (column("FLAGS", "J"), int),
        "GOOD": (column("GOOD", "L"), lambda s: s == "true"),
        "Flux Jy": (column("Flux Jy", "D", (2,)), lambda s: [float(x) for x in s.split()]),
    }
    rows = [
        {
            name: None if cell == "NULL" else parse(cell)
            for (name, (_, parse)), cell in zip(columns.items(), cells[1:], strict=True)
        }
        for cells in _rows_of(data)
    ]
    filters = [
        (text.strip("`").strip() if "``" in text else text[1:-1], kept) for text, kept in _rows_of(filters)
    ]
    return [each for each, _ in columns.values()], rows, filters


@pytest.mark.parametrize(("text", "expected"), _page()[2])
def test_the_examples_of_the_page(text, expected):
    columns, rows, _ = _page()
    assert ", ".join(map(str, kept(text, columns, rows))) == expected


def test_the_errors_and_bounds_of_the_page():
    columns = _page()[0]
    shown = re.findall(r"^(\S.+\n    (.+)\n    +\^+)\n", DOC.read_text(), re.MULTILINE)
    assert len(shown) == 3
    for message, text in shown:
        with pytest.raises(FilterError) as caught:
            compile_filter(text, columns)
        assert str(caught.value) == message
    assert f"{MAX_LENGTH} characters and {MAX_DEPTH} levels" in DOC.read_text()


# ---------------------------------------------------------------------------- errors

PLENTY = [
    column("MAG", "E"),
    column("NAME", "A", (8,)),
    column("GOOD", "L"),
    column("FLAGS", "J"),
    column("Flux Jy", "D"),
    column("A-B", "D"),
    column("V", "J", (2, 3)),
    column("BITS", "X", (11,)),
    column("EMPTY", "J", (0,)),
    column("VIS", "C"),
    column("LIST", "P"),
    column("BAD", "J", problem="TSCAL9 = 0"),
]
PLACES = [
    ("", "", "the filter is empty"),
    ("  \n ", "", "the filter is empty"),
    ("MAG <", "     ^", "the filter ends where a value"),
    ("MAG", "^^^", "true or false for each row; this is a number"),
    ("NAME", "^^^^", "this is a string"),
    ("(MAG + 1)", "^^^^^^^^^", "this is a number"),
    ("MAG < 17 18", "         ^^", "'18' stands where an operator"),
    ("MAG < 17) | GOOD", "        ^", "')' stands where"),
    ("(MAG < 17", "         ^", "the filter ends where ')'"),
    ("MAGG < 17", "^^^^", "did you mean MAG"),
    ("fluxjy < 17", "^^^^^^", "did you mean `Flux Jy`"),
    ("Flux Jy < 17", "^^^^", "written in backticks: `Flux Jy`"),
    ("A-B > 2", "^", "written in backticks: `A-B`"),
    ("zzzz < 17", "^^^^", "there is no column 'zzzz'"),
    ("`zz zz` < 17", "^^^^^^^", "there is no column 'zz zz'"),
    ("sqr(MAG) < 17", "^^^", "there is no function 'sqr'; did you mean sqrt"),
    ("MAG(1) < 17", "^^^", "elements of a column are written MAG[0]"),
    ("sqrt(MAG, 1) < 17", "^^^^^^^^^^^^", "sqrt takes 1 argument, not 2"),
    ("min(MAG) < 17", "^^^^^^^^", "min takes 2 or more arguments, not 1"),
    ("angsep() < 17", "^^^^^^^^", "angsep takes 4 arguments, not 0"),
    ("sqrt(NAME) < 17", "     ^^^^", "sqrt takes numbers, this is a string"),
    ("bitand(FLAGS, 1.5) == 1", "              ^^^", "bitand takes integers"),
    ("bitand(FLAGS, 2**200) == 1", "^^^^^^^^^^^^^^^^^^^^^", "beyond 128 bits"),
    ("FLAGS & 4 != 0", "^^^^^", "bitand(FLAGS, 4) != 0"),
    ("GOOD & FLAGS", "       ^^^^^", "bitand(FLAGS, 4) != 0"),
    ("not MAG", "    ^^^", "'not' takes true or false, this is a number"),
    ("GOOD | NAME", "       ^^^^", "'|' takes true or false, this is a string"),
    ("GOOD + 1 > 2", "^^^^", "'+' takes numbers, this is true or false"),
    ("1 < -NAME", "     ^^^^", "'-' takes numbers"),
    ("MAG == 'a'", "    ^^", "a number is compared with a string"),
    ("GOOD == 1", "     ^^", "a logical is compared with true or false"),
    ("GOOD < true", "     ^", "with == and != only"),
    ("NAME between 'a' and 3", "     ^^^^^^^", "a string is compared with a number"),
    ("NAME in ('a', 3)", "     ^^", "a string is compared with a number"),
    ("MAG in 3", "       ^", "'3' stands where a list in parentheses or brackets"),
    ("MAG in (1 2)", "          ^", "'2' stands where ',' or ')'"),
    ("MAG in [1, 2)", "            ^", "')' stands where ',' or ']'"),
    ("MAG in (1,,2)", "          ^", "',' stands where a value"),
    ("sqrt(4 5) > 3", "       ^", "'5' stands where ',' or ')'"),
    ("MAG between 3 or 4", "              ^^", "'or' stands where 'and' of 'between'"),
    ("MAG is 3", "       ^", "'3' stands where 'null' after 'is'"),
    ("MAG == null", "       ^^^^", "write x is null"),
    ("MAG < 3 in (true, false)", "        ^^", "needs parentheses"),
    ("MAG in (3) == true", "           ^^", "needs parentheses"),
    ("GOOD == !GOOD", "        ^", "'!' binds looser"),
    ("MAG not 3", "    ^^^", "'not' stands where"),
    ("MAG ^ 2 > 3", "    ^", "a power is written **"),
    ("MAG $ 2 > 3", "    ^", "'$' has no meaning"),
    ("MAG < 3; import os", "       ^", "';' has no meaning"),
    ("NAME == 'ab", "        ^", "a string without an end"),
    ('NAME == "ab', "        ^", "a string without an end"),
    ("`MAG < 3", "^", "a name without an end"),
    ("MAG < 17mag", "        ^", "a number ends in a letter"),
    ("MAG < 0x", "       ^", "a number ends in a letter"),
    ("MAG < 1e999", "      ^^^^^", "beyond the range of float64"),
    ("MAG < 5 / (1 - 1)", "      ^^^^^^^^^^^", "division by zero"),
    ("V > 1", "^", "holds 2 x 3 elements a row; one is written with its index: [0, 0]"),
    ("V[1] > 1", "^^^^", "has 2 axes"),
    ("V[1,3] > 1", "    ^", "index 3 is out of an axis of 3"),
    ("V[-3, 0] > 1", "  ^^", "index -3 is out of an axis of 2"),
    ("V[1.5, 0] > 1", "  ^^^", "'1.5' stands where an index"),
    ("V[MAG, 0] > 1", "  ^^^", "'MAG' stands where an index"),
    ("V[1, 0 > 1", "       ^", "'>' stands where ',' or ']'"),
    ("MAG[0] > 1", "^^^^^^", "one element a row, and no axis"),
    ("BITS", "^^^^", "holds 11 elements a row"),
    ("EMPTY > 1", "^^^^^", "holds 0 elements a row"),
    ("VIS == 1", "^^^", "is complex"),
    ("LIST == 1", "^^^^", "is of variable length"),
    ("BAD == 1", "^^^", "cannot be read: TSCAL9 = 0"),
    ("MAG <\n NOPE &\n GOOD", " ^^^^", "there is no column 'NOPE'"),
    ("MAG <\t NOPE", "       ^^^^", "there is no column 'NOPE'"),
    ("NAME == 'é' & NOPE", "              ^^^^", "there is no column 'NOPE'"),
    ("NAME == '\ud800'", "        ^^^", "a string that is no text"),
    ("__import__('os') == 1", "^^^^^^^^^^", "there is no function"),
    ("(lambda: 1)() == 1", "       ^", "':' has no meaning"),
]


@pytest.mark.parametrize(("text", "carets", "message"), PLACES)
def test_an_error_shows_the_place(text, carets, message):
    with pytest.raises(FilterError) as caught:
        compile_filter(text, PLENTY)
    said, line, under = caught.value.message.split("\n")
    assert message in said
    assert line.startswith("    ")
    assert line[4:] in text.replace("\t", " ").replace("\ud800", " ").split("\n")
    assert under.strip(" ^") == ""
    assert under[4:] == carets if carets else under.endswith("^")
    assert isinstance(caught.value, FitsFormatError)
    assert isinstance(caught.value, ValueError)


def test_an_error_says_which_columns_there_are():
    columns = [column("MAG", "E"), column("is", "J"), column("a`b", "J")]
    with pytest.raises(FilterError, match="no column 'zzzz'; there are MAG, `is`, `a``b`"):
        compile_filter("zzzz", columns)
    with pytest.raises(FilterError, match="no column 'zzzz'; there are none"):
        compile_filter("zzzz", [])
    assert kept("`is` == 1 & `A``B` == 2", columns, [{"is": 1, "a`b": 2}]) == [0]


def test_only_the_place_of_a_long_line_is_shown():
    for before, after in [(0, 5000), (5000, 0), (3000, 3000), (60, 60)]:
        text = "MAG < 1 | " * before + "NOPE < 2" + " | MAG < 3" * after
        with pytest.raises(FilterError) as caught:
            compile_filter(text, PLENTY)
        _, line, under = caught.value.message.split("\n")
        assert len(line) < 120
        assert line[under.index("^") : under.rindex("^") + 1] == "NOPE"


HOSTILE = [
    "(" * 100_000,
    "(" * 100_000 + "GOOD" + ")" * 100_000,
    "GOOD & " * 150_000 + "GOOD",
    "not " * 60_000 + "GOOD",
    "~" * 200_000 + "GOOD",
    "-" * 100_000 + "1 > 2",
    "2**" * 50_000 + "2 > 1",
    "abs(" * 60_000,
    "1 < " * 300_000 + "2",
    "GOOD & (" * 30_000,
    "'" * 300_001,
    "x" * 200_000 + " > 1",
    "9" * 200_000 + " > 1",
    "V[" + "0," * 100_000 + "0] > 1",
    "`" * 200_001,
    "MAG in (" * 20_000,
    "MAG < " + "\n" * 200_000 + "NOPE",
    "V[" + "9" * 200_000,
    "min(" + "1," * 100_000 + "1) > 2",
]
LONG = [
    "GOOD & " * 30_000 + "GOOD",
    "1 < " * 40_000 + "MAG",
    "MAG" + " + 1" * 60_000 + " > 60000",
    "(" * 70 + "GOOD" + ")" * 70,
    "FLAGS in (" + "1, " * 80_000 + "1)",
    "min(" + "MAG, " * 900 + "1) < 2",
    "FLAGS" + " * 3 % 5" * 25_000 + " >= 0",
    "FLAGS in (" + ", ".join(map(str, range(30_000))) + ")",
    " " * 200_000 + "GOOD",
]


def _short(text):
    return f"{text[:8]}... {len(text)}"


@pytest.mark.parametrize("text", HOSTILE, ids=_short)
def test_hostile_filters_are_errors(text):
    with pytest.raises(FilterError) as caught:
        compile_filter(text, PLENTY)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("text", LONG, ids=_short)
def test_long_filters_run(text):
    assert len(keep(text, PLENTY, [{"MAG": 1.5, "GOOD": True, "FLAGS": 1}])) == 1


TOKENS = [
    "MAG", "NAME", "GOOD", "FLAGS", "`Flux Jy`", "V[0,1]", "V", "BITS[3]", "1", "2.5", "'a'", "true",
    "null", "(", ")", "[", "]", ",",
    "+", "-", "*", "/", "%", "**", "==", "<", "in", "between", "and", "&", "|", "or", "not", "~", "is",
    "isnull(", "abs(", "min(", "é",
    "\0", "\n", "\x1f", "\x85",
]  # fmt: skip


@settings(max_examples=1000, deadline=None)
@given(st.lists(st.sampled_from(TOKENS), max_size=12).map(" ".join) | st.text(max_size=30))
def test_any_text_is_a_filter_or_an_error(text):
    try:
        found = compile_filter(text, PLENTY)
    except FilterError:
        return
    values = [bytes(3 * each.width) for each in found.inputs]
    assert set(found.program.evaluate(values, [None] * len(values), 3)) <= {0, 1}


def test_a_filter_is_text():
    with pytest.raises(TypeError, match="a row filter is a str"):
        compile_filter(3, PLENTY)


# ---------------------------------------------------------------------------- programs

INPUTS, CONSTANTS = [("d", 8), ("s", 4)], [("d", [1.0]), ("s", [b"ab"])]
PROGRAM = [("lt_d", 6, 0, 4), ("eq_s", 8, 1, 5)]


def _program(*program, inputs=INPUTS, constants=CONSTANTS, temporaries="bd"):
    return inputs, constants, temporaries, list(program)


def test_a_program_of_ones_own():
    found = _direct.Filter(*_program(*PROGRAM))
    assert found.evaluate([struct.pack("=2d", 0, 2), b"ab  ab c"], [None, None], 2) == b"\1\0"


@pytest.mark.parametrize(
    "bad",
    [
        _program(),
        _program(("lt_d", 6, 0, 4)),  # no result
        _program(("lt_d", 9, 0, 4)),  # no such register
        _program(("lt_d", 8, -1, 4)),
        _program(("lt_d", 8, 0, 99)),
        _program(("lt_d", 8, 0, -1)),  # an operand is missing
        _program(("not_b", 8, 2, 3)),  # one too many
        _program(("lt_d", 8, 1, 4)),  # a text
        _program(("lt_i", 8, 0, 4)),
        _program(("add_d", 8, 0, 4)),  # the result is a logical
        _program(("lt_d", 8, 4, 4)),  # of two constants
        _program(("lt_d", 8, 0, 7)),  # not written yet
        _program(("abs_d", 7, 7, -1), ("lt_d", 8, 7, 4)),
        _program(("add_d", 0, 0, 4), ("lt_d", 8, 0, 4)),  # into an input
        _program(("add_d", 4, 0, 4), ("lt_d", 8, 0, 4)),  # into a constant
        _program(("add_d", 7, 0, 4), ("add_d", 7, 7, 4), ("lt_d", 8, 7, 4)),  # onto its operand
        _program(("lt_d", 8, 0, 4), ("not_b", 6, 8, -1), ("not_b", 8, 6, -1)),  # reads the result
        _program(("in_d", 8, 0, 0)),  # a set is a constant
        _program(("abs_d", 7, 4, -1), ("lt_d", 8, 0, 7)),  # of a constant
        _program(("fill_b", 8, 2, -1)),  # not of a constant
        _program(*PROGRAM, constants=[("d", [1.0, 2.0]), ("s", [b"ab"])]),  # a set where one is compared
        _program(*PROGRAM, constants=[("d", []), ("s", [b"ab"])]),
        _program(*PROGRAM, constants=[("d", [1.0]), ("s", [])]),
        _program(*PROGRAM, inputs=[("d", 4), ("s", 4)]),
        _program(*PROGRAM, inputs=[("d", 8), ("s", -4)]),
        _program(*PROGRAM, inputs=[("w", 16), ("s", 4)]),
        _program(*PROGRAM, inputs=[("x", 8), ("s", 4)]),
        _program(*PROGRAM, temporaries="bs"),
        _program(*PROGRAM, temporaries="bx"),
    ],
)
def test_programs_that_must_not_run_are_refused(bad):
    with pytest.raises(ValueError, match="must not run"):
        _direct.Filter(*bad)


def test_programs_that_are_none():
    for bad in [_program(("system", 8, 0, 4)), _program(*PROGRAM, constants=[("x", [1]), ("s", [b""])])]:
        with pytest.raises(KeyError):
            _direct.Filter(*bad)
    with pytest.raises(OverflowError):
        _direct.Filter(*_program(("lt_d", 2**40, 0, 4)))


def test_buffers_are_checked():
    found = compile_filter("MAG < 1", PLENTY).program
    for values, nulls in [([], []), ([bytes(16)], []), ([bytes(15)], [None]), ([bytes(16)], [b"\0"])]:
        with pytest.raises(ValueError, match=r"inputs|a buffer of"):
            found.evaluate(values, nulls, 2)
    with pytest.raises(ValueError, match="not aligned"):
        found.evaluate([memoryview(bytearray(24))[1:17]], [None], 2)
    with pytest.raises(TypeError):
        found.evaluate([None], [None], 2)
    with pytest.raises(ValueError, match="negative"):
        found.evaluate([b""], [None], -1)
