"""Header and Card: typed values, lossless text, astropy as the oracle on real headers and made ones."""

from __future__ import annotations

import copy
import pickle
import warnings
from pathlib import Path

import astropy
import pytest
from astropy.io import fits
from conftest import corpus_root
from hypothesis import given, settings
from hypothesis import strategies as st

from torchfits import Card, FitsError, FitsFormatError, FitsWarning, Header, KeywordMissing
from torchfits.layout import next_hdu
from torchfits.source import open_source


def header(*lines: str) -> Header:
    return Header.from_bytes("".join(line.ljust(80) for line in lines).encode("latin-1"))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("                   T", True),
        ("F", False),
        ("                  42", 42),
        ("-7 / minus", -7),
        ("+7", 7),
        ("000123", 123),
        (
            "12345678901234567890123456789012345678901234567890",
            12345678901234567890123456789012345678901234567890,
        ),
        ("1.", 1.0),
        (".5", 0.5),
        ("-1.5E-3", -0.0015),
        ("1E5", 1e5),
        ("+1.25D+02", 125.0),
        ("1d3", 1000.0),
        ("(1, -2.5)", 1 - 2.5j),
        ("(1.0D1,2E0)", 10 + 2j),
        ("'text'", "text"),
        ("'text    '", "text"),
        ("'  lead'", "  lead"),
        ("'it''s'", "it's"),
        ("''", ""),
        ("'        '", ""),
        ("'a / b' / comment", "a / b"),
        ("", None),
        ("        / no value", None),
    ],
)
def test_values_are_typed(text, value):
    found = header(f"KEY     = {text}")["KEY"]
    assert found == value
    assert type(found) is type(value)
    assert header(f"HIERARCH ESO KEY = {text}")["ESO KEY"] == value


def test_comments():
    h = header(
        "A       =                    1 / one", "B       = 'x/y' / two / more", "C       = 1", "D       = / d"
    )
    assert [h.comments[key] for key in "ABCD"] == ["one", "two / more", "", "d"]
    h.comments["A"] = "new"
    assert (h["A"], h.comments["A"]) == (1, "new")
    with pytest.raises(KeywordMissing):
        h.comments["NOPE"]


def test_commentary_cards_are_lists():
    h = header("COMMENT one", "HISTORY h", "COMMENT   two = 'x'", "        blank", "A       = 1", "COMMENT")
    assert h["COMMENT"] == ["one", "  two = 'x'", ""]
    assert h["HISTORY"] == ["h"]
    assert h[""] == ["blank"]
    assert header("A       = 1")["COMMENT"] == []
    assert h["COMMENT", 1] == "  two = 'x'"


def test_hierarch():
    h = header("HIERARCH ESO DET  NAME = 'ccd' / chip", "HIERARCH lower case = 3")
    assert h["ESO DET NAME"] == h["HIERARCH ESO DET NAME"] == h["eso det name"] == "ccd"
    assert "LOWER CASE" in h
    assert "HIERARCH ESO DET NAME" in h
    assert h.comments["ESO DET NAME"] == "chip"
    assert h.position("LOWER CASE") == 1


def test_long_strings():
    h = header(
        "LONG    = 'first &' / one",
        "CONTINUE  ' second&' / two",
        "CONTINUE  ' third''s ' / three",
        "NEXT    = 5",
        "PLAIN   = 'ends in &'",
        "CONTINUE nothing to carry on",
        "CONTINUE  'alone'",
    )
    assert h["LONG"] == "first  second third's"
    assert h.comments["LONG"] == "one two three"
    assert h["NEXT"] == 5
    assert h["PLAIN"] == "ends in &"
    assert h.getall("CONTINUE") == [" nothing to carry on", "  'alone'"]
    assert len(h) == 5
    assert h.position("NEXT") == 3


def test_duplicates():
    h = header("A       = 1", "B       = 2", "A       = 3")
    assert (h["A"], h["A", 0], h["A", 1], h["A", -1]) == (1, 1, 3, 3)
    assert h.getall("A") == [1, 3]
    assert h.getall("NOPE") == []
    for n in (2, -3):
        with pytest.raises(KeywordMissing):
            h["A", n]
        with pytest.raises(KeywordMissing):
            h["A", n] = 1
        with pytest.raises(KeywordMissing):
            del h["A", n]
        assert h.position("A", n) is None
    h["A", 1] = 9
    assert h.getall("A") == [1, 9]
    del h["A", 0]
    assert h.items() == [("B", 2), ("A", 9)]
    h = header("A       = 1", "B       = 2", "A       = 3")
    del h["A"]
    assert h.keys() == ["B"]
    assert (h.position("A"), h.position("B")) == (None, 0)


def test_a_header_is_a_dict():
    h = header("A       = 1 / c", "B       = 'two'")
    assert h["a"] == h.get("A") == 1
    assert h.get("NOPE") is None
    assert h.get("NOPE", 5) == 5
    with pytest.raises(KeywordMissing, match="NOPE"):
        h["NOPE"]
    with pytest.raises(KeyError):
        del h["NOPE"]
    assert ("b" in h, "NOPE" in h, 3 in h) == (True, False, False)
    assert (list(h), h.keys(), h.values(), len(h)) == (["A", "B"], ["A", "B"], [1, "two"], 2)
    h["B"] = 2.5
    h["A"] = 5, "five"
    h["C"] = True
    h["A"] = 6
    assert h.items() == [("A", 6), ("B", 2.5), ("C", True)]
    assert h.comments["A"] == "five"
    h.update({"C": False, "D": None})
    assert h.items()[2:] == [("C", False), ("D", None)]
    assert Header(h) == h
    assert Header([("A", 1, "c"), Card("B", 2)]).comments["A"] == "c"
    assert Header({"A": (1, "c")}).comments["A"] == "c"
    assert h != 5


def test_copies_are_independent():
    h = header("A       = 1", "B       = 2")
    for other in (h.copy(), copy.copy(h), copy.deepcopy(h), pickle.loads(pickle.dumps(h))):
        assert other == h
        other["A"] = 7
        assert h["A"] == 1


def test_comments_and_history_are_wrapped():
    h = Header()
    h.add_comment("x" * 100)
    h.add_history("one\ntwo")
    assert h["COMMENT"] == ["x" * 72, "x" * 28]
    assert h["HISTORY"] == ["one", "two"]


LOOKUPS = [
    "FOO     = 2",
    "HIERARCH FOO = 1",
    "foo     = 3",
    " FOO    = 4",
    "HIERARCH ESO DET = 5",
    "HIERARCH eso det = 6",
    "HIERARCH  = 7",
    "HIERARCH COMMENT = 8",
    "HIERARCH text",
    "LONG    = 'a&'",
    "CONTINUE  'b'",
    "COMMENT see&",
    "comment lower",
    "continue= 1",
    "BAD     = x&",
    "\xb5\xff     = 9",
    "A B     = 1",
    "        blank",
    "CONTINUE lone",
]


@given(lines=st.lists(st.sampled_from(LOOKUPS), max_size=8))
@settings(deadline=None)
@pytest.mark.filterwarnings("ignore")
def test_what_is_found_does_not_depend_on_what_was_parsed_before(lines):
    """Lookups in the raw bytes and in the parsed cards, of every keyword and of some that may be absent."""
    parsed = header(*lines)
    for keyword in {*parsed.keys(), "FOO", "NOPE", "HIERARCH", "CONTINUE", "", "\udc80"}:
        for ask in (
            lambda h, key=keyword: h.get(key, "absent"),
            lambda h, key=keyword: h.position(key),
            lambda h, key=keyword: key in h,
        ):
            assert ask(header(*lines)) == ask(parsed), keyword
    for keyword in parsed:
        assert keyword in parsed
    assert all(isinstance(text, str) for text in parsed["COMMENT"] + parsed[""])


def test_a_keyword_comes_before_odd_spellings_of_it():
    lines = ("HIERARCH NAXIS1 = 5", "naxis1  = 6", "NAXIS1  = 100")
    for h in (header(*lines), header(*lines)):
        with pytest.warns(FitsWarning, match="card 2, 'naxis1'"):
            assert h.getall("NAXIS1") == [100, 5, 6]
        assert (h["NAXIS1"], h.position("NAXIS1"), h.position("NAXIS1", 1)) == (100, 2, 0)
    h["NAXIS1", 1] = 7  # now a card of the keyword itself, and the first
    assert h.getall("NAXIS1") == [7, 100, 6]
    h = header("HIERARCH ESO DET = 1")
    h.append(("ESO DET", 2))
    assert h.getall("ESO DET") == [1, 2]


@pytest.mark.filterwarnings("ignore")
def test_only_strings_are_continued():
    for line in ("COMMENT see&", "KEY     = abc&", "KEY     = 'abc&", "KEY       'abc&'"):
        h = header(line, "CONTINUE  'b'")
        assert len(h) == 2
        assert h["CONTINUE"] == "  'b'"


def test_cards_do_not_change_behind_the_header():
    h = header("A       = 1 / c")
    for card in (h.cards[0], Card("A", 1, "c")):
        with pytest.raises(AttributeError, match="assign to the header"):
            card.value = 2
        for other in (copy.copy(card), copy.deepcopy(card), pickle.loads(pickle.dumps(card))):
            assert other == card
            assert other.to_bytes() == bytes(other) == bytes(card)


def test_update_from_a_header():
    h = header("A       = 1 / one", "B       = 2 / two", "HISTORY first")
    other = header("HISTORY x", "HISTORY y", "B       = 3 / three", "C       =                  4.50 / kept")
    h.update(other)
    assert h.items() == [
        ("A", 1),
        ("B", 3),
        ("HISTORY", "first"),
        ("HISTORY", "x"),
        ("HISTORY", "y"),
        ("C", 4.5),
    ]
    assert [h.comments[key] for key in "ABC"] == ["one", "three", "kept"]
    assert h.to_bytes()[400:480] == other.to_bytes()[240:320]  # its own text


def test_many_assignments_take_linear_time():
    """Every assignment used to index the header anew; 20000 of them would take minutes."""
    h = Header()
    for again in range(2):
        for i in range(20_000):
            h[f"K{i}"] = i + again
    assert len(h) == 20_000
    assert h["K19999"] == 20_000


def test_the_warning_comes_once_also_after_pickling():
    h = header("A       = 1", "B       = x y")
    with pytest.warns(FitsWarning, match="card 2, 'B'"):
        assert h.values() == [1, "x y"]
    assert pickle.loads(pickle.dumps(h)).values() == [1, "x y"]


def test_str_and_repr():
    h = header("A       = 1 / c", "COMMENT hi")
    assert str(h) == "A       = 1 / c\nCOMMENT hi"
    assert repr(h) == "<Header of 2 cards>"
    assert repr(Card("A", 1, "c")) == "Card('A', 1, 'c')"


@pytest.mark.parametrize(
    ("line", "keyword", "value"),
    [
        ("KEY     = abc def / c", "KEY", "abc def / c"),
        ("KEY     = 'no end", "KEY", "'no end"),
        ("KEY     = 1.2.3", "KEY", "1.2.3"),
        ("KEY     = (1, 2", "KEY", "(1, 2"),
        ("KEY     = NAN", "KEY", "NAN"),
        ("KEY     =5", "KEY", "=5"),
        ("KEY       text", "KEY", "  text"),
        ("HIERARCH no indicator", "HIERARCH", " no indicator"),
        ("lower   = 5", "lower", 5),
        ("K.EY    = 5", "K.EY", 5),
        ("KEY     = 'caf\xe9'", "KEY", "caf\xe9"),
        ("KEY     = 'a\tb'", "KEY", "a\tb"),
        ("KEY     = 'a' b", "KEY", "'a' b"),
        ("\x00\x01", "\x00\x01", ""),
    ],
)
def test_cards_that_are_not_standard_are_kept_as_text_with_one_warning(line, keyword, value):
    data = "".join(text.ljust(80) for text in (line, line, "GOOD    = 1")).encode("latin-1")
    h = Header.from_bytes(data)
    with pytest.warns(FitsWarning) as caught:  # noqa: PT031  (however often it is asked)
        assert h.cards[0].value == value
        assert h.values()[2] == 1
        assert h[keyword] == value
        assert h.get(keyword) == value
    assert len(caught) == 1
    assert "and 1 more" in str(caught[0].message)
    h["GOOD"] = 2
    assert h.to_bytes()[:160] == data[:160]


@pytest.mark.parametrize(
    ("card", "text"),
    [
        (Card("SIMPLE", True, "yes"), "SIMPLE  =                    T / yes"),
        (Card("NAXIS", 0), "NAXIS   =                    0"),
        (Card("F", 1.0), "F       =                  1.0"),
        (Card("F", 1e20), "F       =              1.0E+20"),
        (Card("F", -1.5e-300), "F       =            -1.5E-300"),
        (Card("C", 1 + 2j), "C       =           (1.0, 2.0)"),
        (Card("S", "abc", "c"), "S       = 'abc     '           / c"),
        (Card("S", "it's"), "S       = 'it''s   '"),
        (Card("S", ""), "S       = '        '"),
        (Card("U", None, "c"), "U       =                      / c"),
        (Card("ESO DET", 5, "c"), "HIERARCH ESO DET = 5 / c"),
        (Card("LONGKEYWORD", "x"), "HIERARCH LONGKEYWORD = 'x       '"),
        (Card("COMMENT", "hi"), "COMMENT hi"),
        (Card("", "blank"), "        blank"),
    ],
)
def test_cards_are_formatted_as_the_standard_says(card, text):
    assert str(card) == text
    assert len(bytes(card)) == 80


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("KEY", float("nan")), ("KEY", float("inf")), ("KEY", complex(1, float("nan"))), ("KEY", "caf\xe9"),
        ("KEY", "a\nb"), ("KEY", "a\n"), ("KEY", [1]), ("KEY", 10**80), ("END", 1), ("CONTINUE", "x"),
        ("K\xc9Y", 1), ("A=B C", 1), ("x" * 70, 1),
    ],
)  # fmt: skip
def test_what_a_card_cannot_hold(keyword, value):
    with pytest.raises(FitsFormatError):
        Card(keyword, value)
    h = Header()
    with pytest.raises(FitsFormatError):
        h[keyword] = value
    assert len(h) == 0


def test_scalars_of_numpy_and_torch():
    import numpy as np
    import torch

    h = Header({"A": np.float32(1.5), "B": torch.tensor(3), "C": np.bool_(True)})
    assert [(value, type(value)) for value in h.values()] == [(1.5, float), (3, int), (True, bool)]


def real_headers():
    """The raw bytes of every header of astropy's test data and of the corpus."""
    package = Path(astropy.__file__).parent
    roots = [package / "io/fits/tests/data", package / "wcs/tests/data", corpus_root()]
    for root in filter(None, roots):
        for path in sorted(root.rglob("*")):
            if path.is_dir() or path.suffix in (".hdr", ".txt", ".csv"):
                continue
            try:
                source = open_source(str(path))
            except FitsError:
                continue
            index = start = 0
            try:
                while (hdu := next_hdu(source, index, start)) is not None:
                    yield f"{path.name}[{hdu.index}]", source.read(hdu.start, hdu.data_start - hdu.start)
                    index, start = index + 1, hdu.end
            except FitsError:
                pass
            finally:
                source.close()


@pytest.mark.filterwarnings("ignore")
def test_real_headers_agree_with_astropy_and_are_written_back_byte_for_byte():
    headers = keywords = 0
    different = []
    for where, raw in real_headers():
        mine = Header.from_bytes(raw)
        mine._changed()  # formatted again from its cards, not copied
        end = raw.index(b"END" + b" " * 77)
        assert mine.to_bytes()[: end + 80] == raw[: end + 80], where
        theirs = fits.Header.fromstring(raw[: end + 80].decode("latin-1"))
        headers += 1
        for keyword in dict.fromkeys(theirs):
            if keyword in ("", "COMMENT", "HISTORY", "CONTINUE") or "." in keyword:  # record-valued
                continue
            try:
                value = theirs[keyword]
            except (ValueError, fits.VerifyError):
                continue  # a card that astropy cannot parse
            value = None if isinstance(value, fits.card.Undefined) else value
            keywords += 1
            if mine.get(keyword, KeyError) != value or type(mine[keyword]) is not type(value):
                different.append((where, keyword, value, mine.get(keyword)))
        for keyword in ("COMMENT", "HISTORY"):
            assert mine[keyword] == [str(text) for text in theirs.get(keyword, [])], where
    assert headers > 150
    assert keywords > 5000
    assert different == []


values = st.one_of(
    st.booleans(),
    st.integers(-(10**60), 10**60),
    st.floats(allow_nan=False, allow_infinity=False),
    st.complex_numbers(allow_nan=False, allow_infinity=False),
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=200).map(lambda text: text.rstrip()),
    st.none(),
)
keywords = st.one_of(
    st.from_regex(r"[A-Z0-9_-]{1,8}", fullmatch=True),
    st.from_regex(r"[A-Z][A-Z0-9]{0,6}( [A-Z0-9]{1,8}){1,3}", fullmatch=True),
).filter(
    lambda keyword: (
        keyword not in ("END", "CONTINUE", "COMMENT", "HISTORY") and not keyword.startswith("HIERARCH")
    )
)
remarks = st.lists(st.from_regex(r"[!-~]{1,15}", fullmatch=True), max_size=12).map(" ".join)


def same(a, b):
    """Equal values of one type; an int may be written where astropy reads a float."""
    return a == b and (type(a) is type(b) or {type(a), type(b)} <= {int, float})


@given(keyword=keywords, value=values, comment=remarks)
@settings(max_examples=500, deadline=None)
def test_any_card_survives_being_written_and_read(keyword, value, comment):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            card = Card(keyword, value, comment)
            raw = bytes(card)
        except FitsFormatError:
            assert len(keyword) + len(str(value)) > 55  # longer than a card
            return
    assert len(raw) % 80 == 0
    again = Header.from_bytes(raw)
    assert len(again) == 1
    assert same(again[keyword], value)
    if not caught:
        assert again.comments[keyword] == comment
    copied = Header([Card(keyword, again[keyword], again.comments[keyword])])
    assert copied.to_bytes() == again.to_bytes()


@given(
    keyword=keywords,
    value=values.filter(lambda v: not isinstance(v, str) or "&" not in v),
    # astropy takes a quote in the comment for the end of the string
    comment=remarks.filter(lambda c: "'" not in c),
)
@settings(max_examples=300, deadline=None)
@pytest.mark.filterwarnings("ignore")
def test_astropy_reads_what_we_write_and_we_what_it_writes(keyword, value, comment):
    try:
        raw = bytes(Card(keyword, value, comment))
    except FitsFormatError:
        return
    theirs = fits.Header.fromstring(raw.decode())
    assert same(theirs[keyword], value)
    if isinstance(value, (int, float, complex)) or value is None or len(value) < 40:
        written = fits.Header([(keyword, value)]).tostring().encode()
        assert Header.from_bytes(written)[keyword] == fits.Header.fromstring(written.decode())[keyword]


@given(data=st.binary(max_size=400))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_some_header(data):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        h = Header.from_bytes(data)
        for keyword in h:
            h.get(keyword)
        h._changed()
        kept = h.to_bytes()
    cards = data[: len(data) // 80 * 80]
    if b"END" not in cards:
        assert kept[: len(cards)] == cards


def test_a_header_of_many_cards_takes_linear_time_and_little_memory():
    """A million cards, duplicates and CONTINUE among them; nothing here is quadratic."""
    n = 200_000
    for line in ("KEY     = 1", "CONTINUE  'x&'", "COMMENT x"):
        h = Header.from_bytes(line.ljust(80).encode() * n)
        assert h.get("NOPE") is None
        assert len(h.cards) == n
    long = Header.from_bytes(b"LONG    = 'x&'".ljust(80) + b"CONTINUE  'x&'".ljust(80) * n)
    assert len(long["LONG"]) == n + 2
