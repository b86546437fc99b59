"""What the scan of a table's header finds, against the parser; what it must leave to the parser."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torchfits._direct import table_cards
from torchfits.errors import FitsFormatError
from torchfits.header import Header
from torchfits.layout import _check_unambiguous

pytestmark = pytest.mark.native
OF_COLUMNS = ["TTYPE", "TFORM", "TBCOL", "TUNIT", "TSCAL", "TZERO", "TNULL", "TDIM"]
OF_TABLE = ["BITPIX", "NAXIS", "PCOUNT", "GCOUNT", "TFIELDS", "THEAP"]
NAMES = [*OF_TABLE, "NAXIS1", "NAXIS2", *(f"{name}{n}" for name in OF_COLUMNS for n in (1, 2, 12, 999))]
ORDINARY = ["EXTNAME", "OBJECT", "TFORM", "TDISP1", "T", "TFORM1A", "NAXIS_1", "COMMENT", "", "TTYPES1"]
ODD = ["tform1", "TFORM 1", "TFORM01", "NAXIS0", "ZIMAGE", "ZTILE1", "HIERARCH TFORM1", "HIERARCH tnull2 X"]
HIERARCHS = ["HIERARCH ESO TFORM1", "HIERARCH TFORM1TFORM1 A", "HIERARCH VERYLONGWORD"]
VALUES = ["1", "-7", "2.5D3", "T", "'1J      '", "'it''s'", "'a&'", "", "x", "'open", "(1, 2)", " 'é'"]


def card(name: str, value: str = "1") -> bytes:
    keyword = name if name.startswith("HIERARCH") else f"{name:8}"
    return f"{keyword}= {value:>20} / a comment".encode("latin-1").ljust(80)[:80]


def expected(header: Header) -> dict[int, dict[str, object]]:
    found: dict[int, dict[str, object]] = {}
    for name in NAMES:
        root = name.rstrip("0123456789")
        if name in header:
            found.setdefault(int(name[len(root) :] or 0), {})[root] = header[name]
    return found


@given(
    st.lists(
        st.tuples(st.sampled_from([*NAMES, *NAMES, *ORDINARY, *HIERARCHS, *ODD]), st.sampled_from(VALUES)),
        max_size=12,
    ),
    st.integers(0, 11),
)
@pytest.mark.filterwarnings("ignore::torchfits.FitsWarning")
def test_what_is_found_is_what_the_parser_finds(cards, carried):
    raw = [card(name, value) for name, value in cards]
    raw[carried:carried] = [b"CONTINUE  'more'".ljust(80)] * (carried % 4 == 3)
    header = Header.from_bytes(b"".join(raw))
    found = table_cards(header.to_bytes())
    if found is not None:
        _check_unambiguous(header)
        assert found == expected(header)


def test_ordinary_headers_are_not_left_to_the_parser():
    names = [*NAMES, *ORDINARY, *HIERARCHS, "COMMENT"]
    header = b"".join(map(card, names))
    assert table_cards(header) == expected(Header.from_bytes(header))


@pytest.mark.parametrize("name", [*ODD, "HIERARCH NAXIS FOO", "HIERARCH  HIERARCH TFORM1"])
def test_odd_spellings_are_left_to_the_parser(name):
    assert table_cards(card(name)) is None
    assert table_cards(card("OBJECT") + card(name)) is None


@pytest.mark.parametrize("name", NAMES)
def test_keywords_that_come_again_are_left_to_the_parser(name):
    assert table_cards(card(name)) is not None
    assert table_cards(card(name) + card(name, "2")) is None
    if not name.startswith("TUNIT"):
        with pytest.raises(FitsFormatError, match="ambiguous"):
            _check_unambiguous(Header.from_bytes(card(name) + card(name, "2")))


@pytest.mark.parametrize("value", ["'it''s'", "'open", "x", "'\xe9'"])
def test_values_that_are_not_simple_are_left_to_the_parser(value):
    assert table_cards(card("TUNIT1", value)) is None
    assert table_cards(card("OBJECT", value)) == {}


def test_texts_that_are_carried_on_are_left_to_the_parser():
    more = b"CONTINUE  'more'".ljust(80)
    assert table_cards(card("TUNIT1", "'a&'") + more) is None
    assert table_cards(card("OBJECT", "'a&'") + more) == {}


def test_what_stands_behind_end_does_not_count():
    assert table_cards(card("TFIELDS") + b"END".ljust(80) + card("TFIELDS")) == {0: {"TFIELDS": 1}}
