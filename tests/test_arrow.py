"""Tables as Arrow, pandas, polars and astropy have them; a slow reader and astropy are the oracles."""

from __future__ import annotations

import gc
import io
import itertools
import math
import struct
import subprocess
import sys
import warnings

import astropy.units as u
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from astropy.io import fits
from astropy.table import MaskedColumn, QTable, Table
from hypothesis import given, settings
from hypothesis import strategies as st
from tables import CONVENTION, Field, binary_table, file_of, random_rows, slow_table

import torchfits
from torchfits import FitsFormatError, FitsUnsupported, SectionError, TableHDU
from torchfits._direct import end_texts, pack_texts
from torchfits.arrow import array_of, text_array
from torchfits.text import pack

pytestmark = pytest.mark.native
NROWS = 23
RAGGED_TEXTS = ["x" * (i % 5) + " y" * (i % 2) for i in range(NROWS)]


def write(path, columns, **header):
    hdu = fits.BinTableHDU.from_columns(columns, name="T")
    hdu.header.update(header)
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path)
    return path


def raw(path, fields, rows, nrows, heap=b"", **cards):
    path.write_bytes(file_of(binary_table(fields, rows, nrows, heap, **cards)))
    return path


def opened(path):
    with torchfits.open(path) as f:
        yield f[1]


# ---------------------------------------------------------------------------- what the slow reader says

FORMATS = {
    "bool": "?", "uint8": "B", "int8": "b", "int16": "h", "uint16": "H", "int32": "i", "uint32": "I",
    "int64": "q", "uint64": "Q", "float32": "f", "float64": "d", "complex64": "ff", "complex128": "dd",
}  # fmt: skip


def nested(flat: list, shape: tuple[int, ...]) -> list:
    for n in reversed(shape[1:]):
        flat = (
            [flat[i * n : (i + 1) * n] for i in range(len(flat) // n)] if n else [[]] * math.prod(shape[:-1])
        )
    return flat


def elements_of(column) -> list[list]:
    """The elements of each row: plain numbers, None where null, complex numbers as two."""
    rows = []
    for i, data in enumerate(column.cells):
        values = [
            list(v) if len(v) == 2 else v[0] for v in struct.iter_unpack("=" + FORMATS[column.dtype], data)
        ]
        if column.nulls is not None:
            values = [None if null else v for v, null in zip(values, column.nulls[i], strict=True)]
        rows.append(values)
    return rows


def cells_of(column) -> list:
    """What `to_pylist` must give."""
    ragged, each = column.lengths is not None, math.prod(column.shape)
    cells = []
    for values in elements_of(column):
        if ragged:
            cells.append(nested(values, (len(values) // each, *column.shape)))
        else:
            cells.append(nested(values, column.shape) if column.shape else values[0])
    return cells


def exact(value):
    """Comparable to the bit: NaN is NaN, and -0.0 is not 0.0."""
    if isinstance(value, list | tuple | np.ndarray):
        return [exact(each) for each in value]
    return "nan" if isinstance(value, float) and math.isnan(value) else repr(value)


def arrow_type(column, ragged: bool) -> pa.DataType:
    dtype = column.dtype
    if dtype.startswith("complex"):
        kind = pa.list_(pa.float32() if dtype == "complex64" else pa.float64(), 2)
    else:
        kind = pa.bool_() if dtype == "bool" else pa.type_for_alias(dtype)
    for n in reversed(column.shape):
        kind = pa.list_(kind, n) if n else pa.large_list(kind)
    return pa.large_list(kind) if ragged else kind


def some_fields():
    scalings = st.sampled_from([("", ""), ("0.1", "-3"), ("", "zero")])

    @st.composite
    def field(draw):
        code = draw(st.sampled_from("LXBIJKEDCM"))
        scale, zero = draw(scalings)
        if code not in "BIJK" or (scale, zero) == ("", ""):
            scale = zero = ""
        elif zero == "zero":
            zero = str(CONVENTION[code])
        null = draw(st.sampled_from([None, 0, 7, 99])) if code in "BIJK" else None
        if draw(st.booleans()):
            dims = draw(st.sampled_from([(), (), (2, 3), (1,), (3, 1, 2)]))
            repeat = math.prod(dims) if dims else draw(st.sampled_from([0, 1, 1, 2, 9]))
            return Field(code, repeat, dims=dims, scale=scale, zero=zero, null=null)
        return Field(draw(st.sampled_from("PQ")), 1, code, scale=scale, zero=zero, null=null)

    return st.lists(field(), min_size=1, max_size=5)


@given(fields=some_fields(), nrows=st.sampled_from([0, 1, 9, 40]), seed=st.integers(0, 99))
@settings(max_examples=150, deadline=None)
def test_any_columns_are_what_the_slow_reader_finds(tmp_path_factory, fields, nrows, seed):
    rows, heap = random_rows(fields, nrows, seed)
    data = file_of(binary_table(fields, rows, nrows, heap))
    path = tmp_path_factory.mktemp("any") / "t.fits"
    path.write_bytes(data)
    slow = slow_table(data)
    for hdu in opened(path):
        table = hdu.to_arrow()
        frame = hdu.to_polars()
        pandas = hdu.to_pandas()
        astropy = hdu.to_astropy()
    table.validate(full=True)
    assert table.num_rows == nrows
    assert list(pandas.columns) == astropy.colnames == table.column_names
    for column, field in zip(slow.columns, fields, strict=True):
        found = table[column.name]
        cells = cells_of(column)
        assert found.type == arrow_type(column, field.code in "PQ")
        assert exact(found.to_pylist()) == exact(cells)
        assert exact(frame[column.name].to_list()) == exact(cells)
        same_as_numpy(pandas[column.name], astropy[column.name], column)


def same_as_numpy(series, theirs, column):
    """pandas and astropy have the same numbers, complex ones as such, and the same nulls."""
    rows = elements_of(column)
    assert len(series) == len(theirs) == len(rows)
    for i, values in enumerate(rows):
        values = [complex(*v) if isinstance(v, list) else v for v in values]
        assert exact(np.ma.asarray(theirs[i]).reshape(-1).tolist()) == exact(values)
        mine = series.iloc[i]
        if isinstance(mine, np.ndarray):
            found = mine.reshape(-1).tolist()
            if None in values or any(map(is_nan, found)):  # nulls among the elements of a row are NaN
                values = [
                    math.nan if v is None else complex(v) if isinstance(v, complex) else v for v in values
                ]
                assert np.array_equal(
                    np.array(found), np.array(values, dtype=np.array(found).dtype), equal_nan=True
                )
            else:
                assert [float(v) if mine.dtype == "f8" else v for v in values] == found
        elif values[0] is None:
            assert pd.isna(mine)
        else:
            assert exact([np.asarray(mine).item()]) == exact(values)


def is_nan(value) -> bool:
    return value != value


# ---------------------------------------------------------------------------- whose memory it is


@pytest.fixture
def path(tmp_path):
    """Every kind of column, in a table of astropy."""
    rng = np.random.default_rng(3)
    arrays = np.empty(NROWS, dtype=object)
    arrays[:] = [rng.integers(0, 99, i % 4).astype("i4") for i in range(NROWS)]
    texts = np.empty(NROWS, dtype=object)
    texts[:] = RAGGED_TEXTS
    columns = [
        fits.Column("ID", "K", array=np.arange(NROWS), null=4, unit="count", disp="I6"),
        fits.Column("RA", "D", array=np.where(np.arange(NROWS) == 5, np.nan, rng.random(NROWS)), unit="deg", disp="F9.5"),  # noqa: E501
        fits.Column("FLUX", "3E", array=rng.random((NROWS, 3)), unit="erg s-1 cm-2", disp="E12.4"),
        fits.Column("CUBE", "6I", dim="(3,2)", array=rng.integers(-9, 9, (NROWS, 2, 3))),
        fits.Column("FLAG", "L", array=rng.integers(0, 2, NROWS).astype(bool)),
        fits.Column("BITS", "11X", array=rng.integers(0, 2, (NROWS, 11)).astype(bool)),
        fits.Column("U", "J", array=np.arange(NROWS, dtype="u4") + 2**31, bzero=2**31, unit="furlong/week"),
        fits.Column("Z", "C", array=rng.random(NROWS) + 1j),
        fits.Column("NAME", "12A", array=[f"NGC {i}" if i % 3 else "" for i in range(NROWS)], unit="10**3 m"),
        fits.Column("GRID", "8A", dim="(4,2)", array=[[f"a{i}", "b"] for i in range(NROWS)]),
        fits.Column("RAG", "PJ()", array=arrays),
        fits.Column("RAGTEXT", "PA()", array=texts),
    ]  # fmt: skip
    cards = {
        "TCOMM2": "right ascension",
        "TUCD2": "pos.eq.ra",
        "OBSERVER": "Hubble",
        "GOOD": True,
        "MJD": 5.5,
    }
    return write(tmp_path / "t.fits", columns, **cards)


@pytest.fixture
def hdu(path):
    yield from opened(path)


@pytest.fixture
def tensors(monkeypatch):
    """What `read_table` gave to those that build on it: name -> addresses."""
    found = {}
    read = TableHDU.read_table

    def spy(*args, **options):
        values, masks = read(*args, **options)
        for name, column in values.items():
            found[name] = [part.data_ptr() for part in (column if isinstance(column, tuple) else (column,))]
        return values, masks

    monkeypatch.setattr(TableHDU, "read_table", spy)
    return found


def test_arrow_has_the_memory_of_the_tensors(hdu, tensors):
    table = hdu.to_arrow()
    addresses = {
        name: [buffer.address for buffer in column.chunk(0).buffers() if buffer is not None]
        for name, column in zip(table.column_names, table.columns, strict=True)
    }
    for name in ("RA", "FLUX", "CUBE", "U", "Z"):
        assert addresses[name] == tensors[name], name
    assert addresses["ID"][-1:] == tensors["ID"]
    assert addresses["RAG"] == tensors["RAG"][::-1]  # offsets come first
    for name in ("NAME", "GRID"):  # the texts are where the characters were
        assert addresses[name][-1:] == tensors[name]
    assert addresses["RAGTEXT"][-1] == tensors["RAGTEXT"][0]
    assert len(addresses["ID"]) == 2  # one null
    assert len(addresses["FLAG"]) == 1  # none


def test_pandas_and_astropy_have_it_too_and_may_write_there(hdu, tensors):
    frame = hdu.to_pandas()
    for name in ("RA", "U", "Z"):
        assert frame[name].to_numpy().ctypes.data == tensors[name][0], name
    frame.loc[0, "RA"] = 5.0
    assert frame["RA"][0] == 5.0
    table = hdu.to_astropy()
    for name in ("RA", "FLUX", "CUBE", "FLAG", "BITS", "U", "Z", "NAME", "GRID"):
        assert table[name].data.ctypes.data == tensors[name][0], name
    assert table["ID"].data.data.ctypes.data == tensors["ID"][0]
    table["RA"][0] = 7.0
    assert table["RA"][0] == 7.0


def test_the_memory_outlives_the_file(path):
    with torchfits.open(path, cache=False) as f:
        table = f[1].to_arrow()
        wanted = table.to_pylist()
    path.unlink()
    gc.collect()
    rubbish = [torch.full((NROWS,), 99) for _ in range(1000)]
    assert exact([list(row.values()) for row in table.to_pylist()]) == exact(
        [list(r.values()) for r in wanted]
    )
    assert len(rubbish) == 1000


# ---------------------------------------------------------------------------- astropy as the oracle


def test_astropy_table_is_what_astropy_reads(path, hdu):
    mine, theirs = hdu.to_astropy(), Table.read(path, mask_invalid=False, unit_parse_strict="silent")
    assert mine.colnames == theirs.colnames
    assert mine.meta == {k: v for k, v in theirs.meta.items() if not k.startswith(("TCOMM", "TUCD"))}
    for name in mine.colnames:
        one, other = mine[name], theirs[name]
        assert type(one) is type(other), name
        assert (one.unit, one.shape, one.dtype.kind) == (other.unit, other.shape, other.dtype.kind), name
        if name == "RAGTEXT":
            assert one.tolist() == RAGGED_TEXTS  # astropy drops the blanks within
        elif name == "RAG":
            assert [a.tolist() for a in one] == [a.tolist() for a in other]
        else:
            assert one.dtype == other.dtype.newbyteorder("="), name
            np.testing.assert_array_equal(one, other, strict=False)
        if name in ("NAME", "GRID"):
            assert one.tolist() == other.tolist()
    assert mine["ID"].mask.tolist() == theirs["ID"].mask.tolist()
    assert mine["ID"].fill_value == theirs["ID"].fill_value == 4
    assert mine["RA"].description == "right ascension"
    assert mine["RA"].meta == {"TUCD": "pos.eq.ra"}
    assert {n: mine[n].format for n in ("ID", "RA", "FLUX", "NAME")} == {
        "ID": "{:6d}", "RA": "{:9.5f}", "FLUX": "{:12.4e}", "NAME": None,
    }  # fmt: skip
    assert str(mine).count("\n") > 5
    assert QTable(mine[["RA", "FLUX"]])["RA"].unit is u.deg


def test_units_that_are_none_are_kept(hdu):
    table = hdu.to_astropy(["U"])
    assert isinstance(table["U"].unit, u.UnrecognizedUnit)
    assert str(table["U"].unit) == "furlong/week"


@given(unit=st.text(st.characters(min_codepoint=32, max_codepoint=126, exclude_characters="'"), max_size=20))
@settings(max_examples=200, deadline=None)
def test_any_text_may_be_a_unit(tmp_path_factory, unit):
    path = raw(tmp_path_factory.mktemp("unit") / "t.fits", [Field("J")], b"\0\0\0\1", 1, TUNIT1=f"'{unit}'")
    for hdu in opened(path):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", u.UnitsWarning)  # deprecated ones
            found = hdu.to_astropy()["C1"].unit
        assert (
            hdu.to_arrow().schema.field(0).metadata.get(b"TUNIT", b"")
        ).decode() == unit.rstrip() or not unit.strip()
        assert found is None or isinstance(found, u.UnitBase | u.FunctionUnitBase | u.StructuredUnit)


@pytest.mark.parametrize(
    ("form", "display", "python"),
    [
        ("J", "I5", "{:5d}"), ("J", "I5.3", "{:5d}"), ("J", "Z8", "{:8x}"), ("D", "F8.3", "{:8.3f}"),
        ("E", "EN10.2", "{:10.2e}"), ("D", "G15.7E3", "{:15.7g}"), ("D", "I5", None), ("J", "F8.3", None),
        ("J", "nonsense", None), ("4A", "A4", None), ("L", "L3", None),
    ],
)  # fmt: skip
def test_displays(tmp_path, form, display, python):
    """Those that Python cannot apply to such numbers are left out, so that the table can be printed."""
    path = write(tmp_path / "t.fits", [fits.Column("X", form)], TDISP1=display)
    for hdu in opened(path):
        assert hdu.to_astropy()["X"].format == python
        assert hdu.to_arrow().schema.field("X").metadata[b"TDISP"] == display.encode()


def test_ascii_tables(tmp_path):
    columns = [
        fits.Column("N", "I6", array=[1, -99, 3], null="-99", ascii=True),
        fits.Column("X", "F8.3", array=[1.5, 2.5, -3.25], unit="mag", ascii=True),
        fits.Column("S", "A5", array=["a", "bc d", ""], ascii=True),
    ]
    hdu = fits.TableHDU.from_columns(columns)
    data = fits.HDUList([fits.PrimaryHDU(), hdu])
    data.writeto(tmp_path / "t.fits")
    for hdu in opened(tmp_path / "t.fits"):
        assert hdu.to_arrow().to_pydict() == {
            "N": [1, None, 3], "X": [1.5, 2.5, -3.25], "S": ["a", "bc d", ""],
        }  # fmt: skip
        table = hdu.to_astropy()
        assert (table["N"].tolist(), table["X"].unit, table["S"].tolist()) == (
            [1, None, 3],
            u.mag,
            ["a", "bc d", ""],
        )
        assert hdu.to_pandas()["N"].isna().tolist() == [False, True, False]


# ---------------------------------------------------------------------------- what the header says


def test_metadata(hdu, tmp_path):
    table = hdu.to_arrow()
    assert table.schema.field("RA").metadata == {
        b"TFORM": b"D", b"TUNIT": b"deg", b"TDISP": b"F9.5", b"TUCD": b"pos.eq.ra",
        b"TCOMM": b"right ascension",
    }  # fmt: skip
    assert table.schema.field("CUBE").metadata == {b"TFORM": b"6I", b"TDIM": b"(3,2)"}
    assert table.schema.metadata == {
        b"EXTNAME": b"T", b"OBSERVER": b"Hubble", b"GOOD": b"T", b"MJD": b"5.5",
    }  # fmt: skip
    pq.write_table(table, tmp_path / "t.parquet")
    back = pq.read_table(tmp_path / "t.parquet")
    assert back.schema.metadata == table.schema.metadata
    assert back.schema.field("RA").metadata[b"TUNIT"] == b"deg"
    assert exact(list(back.to_pydict().values())) == exact(list(table.to_pydict().values()))
    frame = hdu.to_pandas(["RA", "ID", "NAME"])
    assert frame.attrs == {
        "units": {"RA": "deg", "ID": "count", "NAME": "10**3 m"}, "descriptions": {"RA": "right ascension"},
    }  # fmt: skip


def test_cards_that_come_again(tmp_path):
    hdu = fits.BinTableHDU.from_columns([fits.Column("A", "J", array=[1])])
    for text in ("one", "two"):
        hdu.header["HISTORY"] = text
        hdu.header.append(("AGAIN", text))
    hdu.header["COMMENT"] = "remark"
    hdu.writeto(tmp_path / "t.fits")
    for each in opened(tmp_path / "t.fits"):
        assert each.to_arrow().schema.metadata == {
            b"HISTORY": b"one\ntwo", b"AGAIN": b"one\ntwo", b"COMMENT": b"remark",
        }  # fmt: skip
        assert each.to_astropy().meta == {
            "HISTORY": ["one", "two"],
            "AGAIN": ["one", "two"],
            "COMMENT": ["remark"],
        }


# ---------------------------------------------------------------------------- which columns and rows

WAYS = ["to_arrow", "to_pandas", "to_polars", "to_astropy"]


def texts_of(table) -> list[str]:
    """The column NAME of any of the four."""
    return np.asarray(table["NAME"]).astype("U").tolist()


@pytest.mark.parametrize("way", WAYS)
def test_columns_rows_and_where(hdu, way):
    read = getattr(hdu, way)
    whole = texts_of(read())
    assert texts_of(read(["ra", "name"], slice(2, 20, 3))) == whole[2:20:3]
    assert texts_of(read(rows=[5, -1, 5, 0])) == [whole[i] for i in (5, -1, 5, 0)]
    assert texts_of(read(where="ID > 17 and NAME != ''")) == [t for i, t in enumerate(whole) if i > 17 and t]
    assert texts_of(read(None, slice(0, 10), "ID in (3, 8, 12)")) == [whole[3], whole[8]]
    assert texts_of(read(rows=[])) == []
    found = read(["name", "ID", 0, "NAME"])
    assert list(
        getattr(found, "column_names", None) or getattr(found, "colnames", None) or found.columns
    ) == ["NAME", "ID"]
    with pytest.raises(SectionError, match="'NOPE'"):
        read(["NOPE"])
    with pytest.raises(torchfits.FilterError):
        read(where="NOPE > 3")


@pytest.mark.parametrize("way", WAYS)
def test_no_rows_and_no_columns(tmp_path, way):
    columns = [
        fits.Column(n, f)
        for n, f in (
            ("X", "3E"),
            ("S", "4A"),
            ("V", "PJ()"),
            ("L", "L"),
            ("I", "J"),
            ("T", "PA()"),
            ("C", "M"),
        )
    ]
    path = write(tmp_path / "t.fits", columns)
    for hdu in opened(path):
        table = getattr(hdu, way)()
        assert len(table) == 0
        assert len(list(table.columns)) == 7
    bare = tmp_path / "bare.fits"
    fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU()]).writeto(bare)
    for hdu in opened(bare):
        assert len(getattr(hdu, way)()) == 0


@pytest.mark.parametrize("way", WAYS)
def test_columns_without_bytes(tmp_path, way):
    fields = [Field("J"), Field("A", 0), Field("E", 0), Field("C", 0), Field("E", 0, dims=(0, 2))]
    path = raw(tmp_path / "t.fits", fields, struct.pack(">3i", 1, 2, 3), 3)
    for hdu in opened(path):
        table = getattr(hdu, way)()
    assert len(table) == 3
    if way == "to_arrow":
        table.validate(full=True)
        assert table.to_pydict() == {
            "C1": [1, 2, 3], "C2": [""] * 3, "C3": [[]] * 3, "C4": [[]] * 3, "C5": [[[], []]] * 3,
        }  # fmt: skip
        pq.write_table(table, out := io.BytesIO())
        assert pq.read_table(out).equals(table)
    elif way == "to_astropy":
        assert (table["C2"].tolist(), table["C5"].shape) == ([""] * 3, (3, 2, 0))


def test_names_that_come_again(tmp_path):
    path = write(tmp_path / "t.fits", [fits.Column(c, "J", array=[i]) for i, c in enumerate("ABC")])
    path.write_bytes(path.read_bytes().replace(b"TTYPE2  = 'B       '", b"TTYPE2  = 'A       '"))
    with torchfits.open(path) as f, pytest.warns(torchfits.FitsWarning, match="again"):
        table = f[1].to_arrow()
    assert table.to_pydict() == {"A": [0], "A_2": [1], "C": [2]}


# ---------------------------------------------------------------------------- nulls


@pytest.fixture
def nulls(tmp_path):
    """TNULL in a plain, a scaled, an unsigned and a vector column; undefined logicals."""
    fields = [
        Field("I", null=-1), Field("J", scale="0.5", null=8), Field("I", zero="32768", null=-32768),
        Field("B", 2, null=255), Field("L"), Field("L", 2), Field("K", null=0),
    ]  # fmt: skip
    rows = [
        struct.pack(">hih2Bc2cq", -1, 8, -32768, 255, 1, b"\0", b"T", b"\0", 2**60 + 1),
        struct.pack(">hih2Bc2cq", 5, 4, 0, 2, 255, b"T", b"F", b"T", 0),
    ]
    return raw(tmp_path / "t.fits", fields, b"".join(rows), 2)


def test_nulls(nulls):
    wanted = {
        "C1": [None, 5], "C2": [None, 2.0], "C3": [None, 32768], "C4": [[None, 1], [2, None]],
        "C5": [None, True], "C6": [[True, None], [False, True]], "C7": [2**60 + 1, None],
    }  # fmt: skip
    for hdu in opened(nulls):
        table = hdu.to_arrow()
        assert table.to_pydict() == wanted
        assert [str(t) for t in table.schema.types[:3]] == ["int16", "double", "uint16"]
        assert hdu.to_polars().to_dict(as_series=False) == wanted
        frame = hdu.to_pandas()
        assert [str(t) for t in frame.dtypes] == [
            "Int16",
            "float64",
            "UInt16",
            "object",
            "boolean",
            "object",
            "Int64",
        ]
        assert frame["C7"][0] == 2**60 + 1
        assert np.isnan(frame["C4"][0]).tolist() == [True, False]
        whole = hdu.to_pandas(rows=[1])
        assert [str(t) for t in whole.dtypes[:5]] == ["int16", "float64", "uint16", "object", "bool"]
        astropy = hdu.to_astropy()
        assert {name: astropy[name].tolist() for name in wanted} == wanted
        assert astropy["C3"].fill_value == 0
        # as Table.read does where there is a TNULL, whatever the rows
        assert [isinstance(c, MaskedColumn) for c in hdu.to_astropy(rows=[1]).itercols()] == [
            True, True, True, True, False, False, True,
        ]  # fmt: skip


def test_nulls_in_ragged_columns(tmp_path):
    heap = struct.pack(">3h", 7, -1, 3) + b"T\0F"
    rows = struct.pack(">4i", 2, 0, 2, 6) + struct.pack(">4i", 1, 4, 1, 8)
    path = raw(tmp_path / "t.fits", [Field("P", 1, "I", null=-1), Field("P", 1, "L")], rows, 2, heap)
    wanted = {"C1": [[7, None], [3]], "C2": [[True, None], [False]]}
    for hdu in opened(path):
        assert hdu.to_arrow().to_pydict() == wanted
        astropy = hdu.to_astropy()
        assert {name: [cell.tolist() for cell in astropy[name]] for name in wanted} == wanted
        assert exact([a.tolist() for a in hdu.to_pandas()["C1"]]) == exact([[7.0, math.nan], [3.0]])


# ---------------------------------------------------------------------------- texts


def stripped(data: bytes) -> bytes:
    return data.partition(b"\0")[0].rstrip(b" ")


cells = st.binary(max_size=30) | st.text(" \0ab\x7f", max_size=30).map(str.encode)


@given(
    data=st.lists(cells, max_size=20),
    width=st.integers(0, 20),
    n=st.integers(1, 3),
    errors=st.sampled_from(["strict", "replace"]),
)
@settings(max_examples=300, deadline=None)
def test_any_texts(data, width, n, errors):
    """In fields of one width, several a row, one after the other: what they are, or what row is not ASCII."""
    fixed = [each[:width].ljust(width, b" \0"[len(each) % 2 :][:1]) for each in data]
    fixed = fixed[: len(fixed) // n * n]
    flat = torch.tensor(list(b"".join(fixed)), dtype=torch.uint8).view(len(fixed), width)
    grid = flat.view(len(fixed) // n, n, width)
    texts = [stripped(each) for each in fixed]
    agree(grid, None, texts, n, errors)
    agree(flat, None, texts, 1, errors)
    offsets = torch.tensor([0, *itertools.accumulate(map(len, data))])
    agree(
        torch.tensor(list(b"".join(data)), dtype=torch.uint8),
        offsets,
        [stripped(each) for each in data],
        1,
        errors,
    )
    agree(flat, torch.arange(0, len(fixed) + 1, n), texts, n, errors)


@given(data=st.lists(cells, max_size=20), width=st.integers(0, 20))
@settings(max_examples=100, deadline=None)
def test_texts_of_numpy(data, width):
    fixed = [each[:width].ljust(width) for each in data]
    array = text_array(torch.tensor(list(b"".join(fixed)), dtype=torch.uint8).view(len(fixed), width))
    assert array.tolist() == [stripped(each) for each in fixed]


def agree(values, offsets, texts, n, errors):
    column = values if offsets is None else (values, offsets)
    bad = next((i // n for i, text in enumerate(texts) if not text.isascii()), None)
    several = values.ndim == 3 or (offsets is not None and values.ndim == 2)
    before = values.clone()
    for read in (
        lambda: torchfits.strings(column, errors=errors),
        lambda: array_of(column, text=True, errors=errors).to_pylist(),
    ):
        if bad is not None and errors == "strict":
            with pytest.raises(FitsFormatError, match=f"^row {bad}: .* is not ascii"):
                read()
        else:
            wanted = [text.decode("ascii", errors) for text in texts]
            wanted = [wanted[i : i + n] for i in range(0, len(wanted), n)] if several else wanted
            assert read() == wanted
        values.copy_(before)  # texts of Arrow are put where the fields were
    if not several:
        assert torchfits.strings(column, "latin-1") == [text.decode("latin-1") for text in texts]


def test_bytes_that_are_no_text(tmp_path):
    path = write(
        tmp_path / "t.fits",
        [fits.Column("N", "J", array=[1, 2]), fits.Column("S", "3A", array=["abc", "xyz"])],
    )
    path.write_bytes(path.read_bytes().replace(b"xyz", b"x\xe9z"))
    for hdu in opened(path):
        for way in ("to_arrow", "to_pandas", "to_polars"):
            with pytest.raises(
                FitsFormatError, match=r"HDU 1: column 'S', row 1: b'x\\xe9z' is not ascii"
            ) as caught:
                getattr(hdu, way)()
            assert (caught.value.path, caught.value.hdu) == (str(path), 1)
        assert hdu.to_arrow(["N"]).to_pydict() == {"N": [1, 2]}
        assert hdu.to_astropy()["S"].data.tolist() == [b"abc", b"x\xe9z"]
        assert torchfits.strings(hdu["S"], "latin-1") == ["abc", "xéz"]


def test_fields_that_are_none():
    fields, ends = torch.zeros(8, dtype=torch.uint8), torch.tensor([0, 4, 8])
    offsets, to = torch.zeros(9, dtype=torch.int64), torch.zeros(8, dtype=torch.uint8)
    where = offsets.data_ptr(), to.data_ptr()
    assert pack_texts(fields.data_ptr(), 8, ends.data_ptr(), 0, 2, *where) == -1
    for wrong in ([0, 4, 9], [-1, 4, 8], [0, 5, 4], [4, 2, 8]):
        ends = torch.tensor(wrong)
        with pytest.raises(ValueError, match="fields"):
            pack_texts(fields.data_ptr(), 8, ends.data_ptr(), 0, 2, *where)
    for size, width in ((8, 0), (-1, 1), (8, -1)):
        with pytest.raises(ValueError, match="fields"):
            end_texts(fields.data_ptr(), size, width)
    for width, count in ((3, 3), (-1, 1), (8, 2), (2**62, 8), (1, -1)):
        with pytest.raises(ValueError, match="fields"):
            pack_texts(fields.data_ptr(), 8, 0, width, count, *where)
    assert (
        pack(torch.zeros((5, 0), dtype=torch.uint8), None, torch.zeros(0, dtype=torch.uint8))[0].tolist()
        == [0] * 6
    )


# ---------------------------------------------------------------------------- what is not there


def test_a_type_that_arrow_lacks():
    with pytest.raises(FitsUnsupported, match="bfloat16"):
        array_of(torch.zeros(3, dtype=torch.bfloat16))


@pytest.mark.parametrize(
    ("way", "package", "extra"),
    [("to_arrow", "pyarrow", "arrow"), ("to_pandas", "pandas", "pandas"), ("to_pandas", "pyarrow", "pandas"),
     ("to_polars", "polars", "polars"), ("to_astropy", "astropy", "astropy")],
)  # fmt: skip
def test_a_package_that_is_missing(hdu, monkeypatch, way, package, extra):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"^{package} is missing: pip install 'torchfits\[{extra}\]'$"):
        getattr(hdu, way)()


def test_nothing_is_imported_before_it_is_needed():
    code = "import sys, torchfits; print({'pyarrow', 'pandas', 'polars', 'astropy'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "set()"
