"""read_keys(): what `Header.get` gives for each file, as tensors where that is possible."""

from __future__ import annotations

import gzip
import math
import warnings

import numpy as np
import pytest
import torch
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st
from images import EMPTY, card, counting, header, image, table, torch_threads

import torchfits
from torchfits import FitsError, FitsFileNotFound, FitsFormatError, FitsIOError, read_keys

pytestmark = pytest.mark.native

MANDATORY = [card("BITPIX", 8), card("NAXIS", 0)]


def raw(text: str) -> bytes:
    assert len(text) <= 80
    return text.ljust(80).encode("latin-1")


def made(folder, *headers: list[bytes], before: bytes = b"") -> list:
    paths = []
    for i, cards in enumerate(headers):
        paths.append(folder / f"{i}.fits")
        paths[-1].write_bytes(before + header([*MANDATORY, *cards]))
    return paths


def by_header(paths, keys, hdu=0) -> dict:
    """The oracle: one header after the other, and the rule by which values become a tensor."""
    columns = {}
    for key in keys:
        values = [torchfits.read_header(path, hdu).get(key) for path in paths]
        kinds = {type(value) for value in values}
        if kinds == {bool}:
            columns[key] = torch.tensor(values)
        elif kinds == {int} and all(-(2**63) <= value < 2**63 for value in values):
            columns[key] = torch.tensor(values, dtype=torch.int64)
        elif kinds and kinds <= {int, float}:
            columns[key] = torch.tensor([float(value) for value in values], dtype=torch.float64)
        else:
            columns[key] = values
    return columns


def same(found: dict, expected: dict) -> None:
    assert list(found) == list(expected)
    for key, column in expected.items():
        assert type(found[key]) is type(column), key
        if isinstance(column, torch.Tensor):
            assert found[key].dtype == column.dtype, key
            assert found[key].numpy().tobytes() == column.numpy().tobytes(), key
        else:
            assert [(type(v), repr(v)) for v in found[key]] == [(type(v), repr(v)) for v in column], key


VALUES = {
    "INT": ["42", "-7", "+5", "0", "-0", "00012"],
    "SHORT": [f"{2**63 - 1}", f"{-(2**63)}", "999999999999999999", "-999999999999999999"],
    "LONG": [f"{2**63}", f"{-(2**63) - 1}", "123456789012345678901234567890"],
    "FLOAT": ["1.5", "-0.0", ".5", "5.", "1E5", "1e-5", "-1.25E+300", "4.9E-324", "0.1", "3.141592653589793"],
    "DOUBLE": ["1.5D3", "1.D-7", "2d5", "-1D0", "0.1D0"],
    "FAR": ["1E400", "-1E400", "1E-400", "123456789012345678901234567890.5"],
    "BOOL": ["T", "F", "    T", "F / no"],
    "MIXED": ["1", "2.5", "3D0"],
    "COMPLEX": ["(1.5, -2)", "(1, 2)", "(1E5,2D-5)"],
    "NOTHING": ["", "   / only a comment", "/x"],
    "TEXT": ["'abc'", "'it''s'", "''", "'   '", "'  lead'", "'a/b' / c", "'tail   '", "'x' /", "'&'"],
    "QUOTES": ["''''", "''''''", "'a''''b'", "'''q'''"],
    "ODD": ["'no end", "12 13", "TRUE", "1.2.3", "0x10", "NaN", "1E", "--5", "'a'b", "T F", "1,5", "E5", "."],
}


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.filterwarnings("ignore::torchfits.FitsWarning")
def test_every_kind_of_value(tmp_path, name):
    texts = VALUES[name]
    cards = [raw(f"{name:<8}= {text}") for text in texts]
    for each in (cards, [raw(f"{name:<8}= {text:>20} / c") for text in texts if "/" not in text]):
        paths = made(tmp_path, *[[card] for card in each])
        same(read_keys(paths, [name]), by_header(paths, [name]))
        for path in paths:  # alone, a value may be a tensor where the column was none
            same(read_keys([path], [name]), by_header([path], [name]))
    if name not in ("ODD", "LONG"):
        paths = made(tmp_path, *[[card] for card in cards])
        for path, value in zip(paths, _plain(read_keys(paths, name)[name]), strict=True):
            known = fits.getheader(path)[name]
            known = None if isinstance(known, fits.card.Undefined) else known
            assert value == (known.rstrip() if isinstance(known, str) else known), path.read_bytes()[240:320]


def _plain(column) -> list:
    return column.tolist() if isinstance(column, torch.Tensor) else column


def test_the_kinds_of_columns(tmp_path):
    paths = made(
        tmp_path,
        [card("A", 1), card("B", 1), card("C", True), card("D", True), card("E", 1)],
        [card("A", 2), card("B", 2.5), card("C", False), card("D", 1), card("G", "'x'")],
        [card("A", 3), card("B", -3), card("C", True), card("D", False), card("E", "")],
    )
    found = read_keys(paths, ["A", "B", "C", "D", "E", "G", "H"])
    assert list(found) == ["A", "B", "C", "D", "E", "G", "H"]
    assert (found["A"].dtype, found["A"].tolist()) == (torch.int64, [1, 2, 3])
    assert (found["B"].dtype, found["B"].tolist()) == (torch.float64, [1, 2.5, -3])
    assert (found["C"].dtype, found["C"].tolist()) == (torch.bool, [True, False, True])
    assert found["D"] == [True, 1, False]
    assert found["E"] == [1, None, None]
    assert found["G"] == [None, "x", None]
    assert found["H"] == [None, None, None]
    assert [type(value) for value in found["D"]] == [bool, int, bool]
    assert list(read_keys(paths, "A")) == ["A"]
    assert read_keys(paths, []) == {}
    assert read_keys([], ["A", "B"]).keys() == {"A", "B"}


def test_integers_beyond_int64(tmp_path):
    """They are numbers, but no int64."""
    paths = made(tmp_path, [card("N", 2**63)], [card("N", 1)], [card("N", -(2**63))])
    assert read_keys(paths, "N")["N"].dtype == torch.float64
    assert read_keys(paths, "N")["N"].tolist() == [2.0**63, 1, -(2.0**63)]
    same(read_keys(paths[1:], "N"), {"N": torch.tensor([1, -(2**63)])})


def test_spellings_of_a_keyword(tmp_path):
    paths = made(tmp_path, [card("EXPTIME", 30.5), card("DATE-OBS", "'2020-01-01'"), card("A_B", 3)])
    for key, value in (("exptime", 30.5), ("ExpTime ", 30.5), ("date-obs", "2020-01-01"), (" a_b", 3)):
        found = read_keys(paths, [key])
        assert list(found) == [key]
        assert _plain(found[key]) == [value]
    assert list(read_keys(paths, ["A_B", "a_b"])) == ["A_B", "a_b"]
    for key in ("EXP", "EXPTIMES", "EXPTIMEEXPTIME", "", "END", "SIMPLE", "A B", "É", "HIERARCH A_B"):
        same(read_keys(paths, [key]), by_header(paths, [key]))


@pytest.mark.filterwarnings("ignore::torchfits.FitsWarning")
def test_the_first_of_duplicates_counts(tmp_path):
    paths = made(tmp_path, [card("A", 1), card("B", 5), card("A", 2)], [card("A", "'x'"), card("A", 3)])
    assert read_keys(paths, "A")["A"] == [1, "x"]
    odd = [raw("HIERARCH A = 2"), raw("a       = 3")]
    paths = made(tmp_path, [card("A", 1), *odd], [*odd, card("A", 1)], odd, odd[::-1])
    same(read_keys(paths, ["A"]), by_header(paths, ["A"]))


@pytest.mark.filterwarnings("ignore::torchfits.FitsWarning")
def test_odd_cards(tmp_path):
    cards = [
        raw("HIERARCH ESO TEL ALT = 45.5 / degrees"),
        raw("HIERARCH LOWER case = 'x'"),
        raw("HIERARCH SHORT = 7"),
        raw("NOVALUE   text"),
        raw("NOBLANK =5"),
        raw("lower   = 5"),
        raw("BAD.KEY = 6"),
        raw("UMLAUT  = 'gr\xfcn'"),
        raw("TAB     = 'a\tb'"),
        raw("COMMENT one"),
        raw("COMMENT = two"),
        raw("HISTORY made"),
        raw("        blank"),
        raw("CONTINUE  'stray'"),
        raw("END     = 5"),
        raw("ENDING  = 6"),
        raw("LAST    = 7"),
    ]
    keys = [
        "ESO TEL ALT", "eso tel alt", "HIERARCH ESO TEL ALT", "HIERARCH", "LOWER CASE", "SHORT", "NOVALUE",
        "NOBLANK", "LOWER", "BAD.KEY", "UMLAUT", "TAB", "COMMENT", "HISTORY", "", "CONTINUE", "END", "ENDING",
        "LAST", "ABSENT",
    ]  # fmt: skip
    for some in (cards, cards[:3], cards[3:5], cards[5:7], cards[9:13], cards[13:]):
        paths = made(tmp_path, *[some] * 3, [card("OTHER", 1)])
        same(read_keys(paths, keys), by_header(paths, keys))
        for key in keys:
            same(read_keys(paths, key), by_header(paths, [key]))


def test_cards_behind_the_end_are_none(tmp_path):
    path = tmp_path / "a.fits"
    path.write_bytes(header([*MANDATORY, card("A", 1)]))
    data = bytearray(path.read_bytes())
    end = data.index(b"END     ")
    data[end + 80 : end + 240] = card("A", 2) + card("B", 3)
    path.write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = by_header([path], ["A", "B"])
        same(read_keys([path], ["A", "B"]), expected)
        same(read_keys([path] * 3, ["B"]), {"B": [None] * 3})


def test_long_strings(tmp_path):
    long = "a long text, with 'quotes' & ampersands, " * 7
    path = tmp_path / "a.fits"
    made_by_astropy = fits.PrimaryHDU(header=fits.Header([("LONG", long), ("AFTER", 5)]))
    made_by_astropy.writeto(path)
    cards = [
        [raw("LONG    = 'begins &'"), raw("CONTINUE  'goes on&'"), raw("CONTINUE  ''"), card("AFTER", 1)],
        [raw("LONG    = 'stands &'"), card("AFTER", 2)],
        [raw("LONG    = 'no amp'"), raw("CONTINUE  'not its own'"), card("AFTER", 3)],
        [raw("LONG    = 5"), raw("CONTINUE  'stray'"), card("AFTER", 4)],
    ]
    paths = [path, *made(tmp_path, *cards)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        same(read_keys(paths, ["AFTER", "LONG"]), by_header(paths, ["AFTER", "LONG"]))
        assert read_keys([path], "LONG")["LONG"] == [long.rstrip()]


@pytest.mark.parametrize("blocks", [1, 2, 3, 20])
def test_keywords_anywhere_in_long_headers(tmp_path, blocks):
    count = 36 * blocks - 4
    paths = made(tmp_path, *[[card(f"K{k}", 1000 * i + k) for k in range(count)] for i in range(9)])
    keys = [f"K{k}" for k in sorted({0, 1, 31, 32, 33, count // 2, count - 1} & set(range(count)))]
    for threads in (1, 2):
        with torch_threads(threads):
            found = read_keys(paths, keys)
            assert {key: column.tolist() for key, column in found.items()} == {
                key: [1000 * i + int(key[1:]) for i in range(9)] for key in keys
            }
            assert read_keys(paths, "ABSENT") == {"ABSENT": [None] * 9}


@pytest.mark.parametrize("hdu", [0, 1, 2, 3, 4, -1, "SCI", ("SCI", 2), "sci", "TABLE", "TILES"])
def test_of_any_hdu(tmp_path, hdu):
    paths = [tmp_path / f"{i}.fits" for i in range(10)]
    for i, path in enumerate(paths):
        rows = fits.BinTableHDU(np.zeros(i + 1, dtype=[("A", ">i4")]), name="TABLE")
        tiles = fits.CompImageHDU(np.zeros((5, 6 + i), dtype="i2"), name="TILES")
        images = [fits.ImageHDU(counting((i + 2, 3)), name="SCI", ver=1 + k) for k in range(2)]
        hdus = fits.HDUList([fits.PrimaryHDU(), *images, rows, tiles])
        for k, each in enumerate(hdus):
            each.header["NUMBER"] = 10 * i + k
        hdus.writeto(path)
    keys = ["NUMBER", "NAXIS1", "NAXIS2", "EXTNAME", "XTENSION", "TFORM1", "ZNAXIS1", "ZIMAGE", "BITPIX"]
    found = read_keys(paths, keys, hdu)
    same(found, by_header(paths, keys, hdu))
    place = {-1: 4, "SCI": 1, ("SCI", 2): 2, "sci": 1, "TABLE": 3, "TILES": 4}.get(hdu, hdu)
    assert found["NUMBER"].tolist() == [10 * i + place for i in range(10)]
    assert found["NAXIS1"] == [None] * 10 if place == 0 else len(found["NAXIS1"]) == 10


def test_packed_files_among_plain_ones(tmp_path):
    paths = made(tmp_path, *[[card("N", i)] for i in range(6)])
    for i in (0, 3, 5):
        paths[i].write_bytes(gzip.compress(paths[i].read_bytes()))
    assert read_keys(paths, "N")["N"].tolist() == list(range(6))


def test_the_data_need_not_be_there(tmp_path):
    """As `read_header` does not need them either."""
    paths = [tmp_path / f"{i}.fits" for i in range(3)]
    for i, path in enumerate(paths):
        path.write_bytes(image(counting((300, 20)), N=i)[:3000])
    same(read_keys(paths, ["N", "NAXIS1"]), by_header(paths, ["N", "NAXIS1"]))
    assert read_keys(paths, "N")["N"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("at", [0, 4, 9])
def test_an_error_names_its_file(tmp_path, at):
    good = made(tmp_path, *[[card("N", i)] for i in range(9)])
    bad = {
        "missing": (None, FitsFileNotFound),
        "empty": (b"", FitsFormatError),
        "text": (b"no FITS\n" * 900, FitsFormatError),
        "cut": (EMPTY[:240], FitsFormatError),
    }
    for name, (data, kind) in bad.items():
        path = tmp_path / name
        if data is not None:
            path.write_bytes(data)
        with pytest.raises(kind) as caught:
            read_keys([*good[:at], path, *good[at:]], "N")
        assert caught.value.path == str(path)
    with pytest.raises(FitsIOError) as caught:
        read_keys([*good[:at], tmp_path, *good[at:]], "N")
    assert caught.value.path == str(tmp_path)
    few = tmp_path / "few.fits"
    few.write_bytes(EMPTY + table(1, 3))
    for hdu in (2, "NOPE"):
        with pytest.raises(FitsError) as caught:
            read_keys([few], "N", hdu)
        assert caught.value.path == str(few)


def test_a_paths_tuple_of_bytes_and_str(tmp_path):
    a, b = made(tmp_path, [card("N", 1)], [card("N", 2)])
    assert read_keys((str(a), bytes(b), a), "N")["N"].tolist() == [1, 2, 1]


text = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30)
literal = st.one_of(
    st.integers(-(10**20), 10**20).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(lambda v: repr(v).upper()),
    st.floats(allow_nan=False, allow_infinity=False).map(lambda v: f"{v:.17E}".replace("E", "D")),
    text.map(lambda v: "'" + v.replace("'", "''") + "'"),
    st.sampled_from(["T", "F", "", "(1, 2)"]),
    text,
)


@given(values=st.lists(literal, min_size=1, max_size=5), pad=st.integers(0, 12))
@settings(max_examples=200, deadline=None)
def test_any_card(tmp_path_factory, values, pad):
    folder = tmp_path_factory.mktemp("keys")
    paths = made(folder, *[[raw(f"KEY     = {' ' * pad}{value}"[:80])] for value in values])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        same(read_keys(paths, ["KEY"]), by_header(paths, ["KEY"]))
    for path in paths:
        path.unlink()


finite = st.floats(allow_nan=False, allow_infinity=False)


@given(value=finite, form=st.sampled_from(["r", ".17E", ".3E", ".10f"]))
@settings(max_examples=200, deadline=None)
def test_any_float_is_rounded_right(tmp_path_factory, value, form):
    written = repr(value) if form == "r" else f"{value:{form}}"
    if len(written) > 60:
        return
    path = tmp_path_factory.mktemp("float") / "a.fits"
    path.write_bytes(header([*MANDATORY, raw(f"KEY     = {written.upper()}")]))
    found = read_keys([path], "KEY")["KEY"].tolist()[0]
    assert found == float(written)
    assert math.copysign(1, found) == math.copysign(1, value)
    path.unlink()
