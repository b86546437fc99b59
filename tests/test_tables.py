"""Tables: every TFORM, scaling, shapes, rows and columns; astropy made the files, numpy has the values."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

import torchfits
from torchfits import FitsFormatError, FitsWarning, SectionError

pytestmark = pytest.mark.native
N = 300


def write(path, columns, **header):
    hdu = fits.BinTableHDU.from_columns(columns, name="T")
    hdu.header.update(header)
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path)
    return path


def column_data(code: str, repeat: int) -> np.ndarray:
    rng = np.random.default_rng(5)
    shape = (N, repeat) if repeat > 1 else (N,)
    if code in "LX":
        return rng.integers(0, 2, shape).astype(bool)
    if code in "CM":
        return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype({"C": "c8", "M": "c16"}[code])
    if code in "ED":
        values = rng.normal(size=shape).astype({"E": "f4", "D": "f8"}[code])
        values.flat[:3] = [np.nan, np.inf, np.finfo(values.dtype).smallest_subnormal]
        return values
    dtype = np.dtype({"B": "u1", "I": "i2", "J": "i4", "K": "i8"}[code])
    info = np.iinfo(dtype)
    values = rng.integers(info.min, info.max, shape, endpoint=True, dtype=dtype)
    values.flat[:2] = [info.min, info.max]
    return values


@pytest.mark.parametrize("repeat", [1, 2, 9])
@pytest.mark.parametrize("code", list("LXBIJKEDCM"))
def test_every_tform(tmp_path, code, repeat):
    data = column_data(code, repeat)
    if code == "X" and repeat == 1:
        data = data[:, None]
    path = write(tmp_path / "t.fits", [
        fits.Column("BEFORE", "J", array=np.arange(N)), fits.Column("X", f"{repeat}{code}", array=data),
        fits.Column("AFTER", "E", array=np.arange(N)),
    ])  # fmt: skip
    with torchfits.open(path) as f:
        table = f["T"].read_table()
        info = f["T"].columns[1]
        assert (table["X"].dtype, tuple(table["X"].shape)) == (info.dtype, (N, *info.shape))
    assert table["X"].numpy().dtype == data.dtype
    np.testing.assert_array_equal(table["X"].numpy(), data)
    assert table["BEFORE"].tolist() == table["AFTER"].tolist() == list(range(N))


@pytest.mark.parametrize(
    ("code", "zero", "dtype"), [("B", -128, "i1"), ("I", 2**15, "u2"), ("J", 2**31, "u4"), ("K", 2**63, "u8")]
)
def test_the_unsigned_conventions_are_exact(tmp_path, code, zero, dtype):
    info = np.iinfo(dtype)
    data = np.random.default_rng(6).integers(info.min, info.max, N, endpoint=True, dtype=dtype)
    data[:2] = info.min, info.max
    path = write(tmp_path / "t.fits", [fits.Column("X", code, array=data, bzero=zero)])
    tensor = torchfits.read(path)["X"]
    assert tensor.numpy().dtype == np.dtype(dtype)
    assert tensor.tolist() == data.tolist()


@pytest.mark.parametrize(
    ("code", "dtype"), [("B", "f4"), ("I", "f4"), ("J", "f8"), ("K", "f8"), ("E", "f4"), ("D", "f8")]
)
@pytest.mark.parametrize("repeat", ["", "2"])
def test_scaled_columns_and_their_neighbours(tmp_path, code, dtype, repeat):
    """fitsio is no oracle here: the values come from the formula, in float64."""
    stored = np.arange(1, 2 * N + 1).reshape(N, 2)[:, : 2 if repeat else 1].squeeze() % 250
    kind = {"B": "u1", "I": "i2", "J": "i4", "K": "i8", "E": "f4", "D": "f8"}[code]
    columns = [
        fits.Column("L", "J", array=np.arange(N)),
        fits.Column("X", f"{repeat}{code}", array=stored.astype(kind)),
        fits.Column("R", "J", array=np.arange(N)),
    ]
    path = (
        write(tmp_path / "t.fits", columns, TSCAL2=0.1, TZERO2=-3.5, TNULL2=7)
        if code in "BIJK"
        else write(tmp_path / "t.fits", columns, TSCAL2=0.1, TZERO2=-3.5)
    )
    table = torchfits.read(path)
    assert table["L"].tolist() == table["R"].tolist() == list(range(N))
    expected = stored.astype("f8") * 0.1 - 3.5
    np.testing.assert_allclose(table["X"].numpy(), expected.astype(dtype), rtol=2e-7)
    assert table["X"].numpy().dtype == np.dtype(dtype)


def test_null_integers_stay_as_they_are(tmp_path):
    path = write(tmp_path / "t.fits", [fits.Column("X", "J", array=[1, -99, 3], null=-99)])
    assert torchfits.read(path)["X"].tolist() == [1, -99, 3]


def test_strings(tmp_path):
    texts = ["", "NGC 101", " lead", "x" * 12]
    path = write(tmp_path / "t.fits", [
        fits.Column("S", "12A", array=texts), fits.Column("ONE", "A", array=list("abcd")),
        fits.Column("GRID", "12A", array=np.array([["ab", "cd", "e"]] * 4), dim="(4,3)"),
    ])  # fmt: skip
    table = torchfits.read(path)
    assert (table["S"].dtype, tuple(table["S"].shape)) == (torch.uint8, (4, 12))
    assert torchfits.strings(table["S"]) == texts
    assert torchfits.strings(table["ONE"]) == list("abcd")
    assert torchfits.strings(table["GRID"]) == [["ab", "cd", "e"]] * 4


def test_bytes_that_are_no_text(tmp_path):
    column = torch.tensor([[65, 200, 32]], dtype=torch.uint8)
    with pytest.raises(FitsFormatError, match="row 0"):
        torchfits.strings(column)
    assert torchfits.strings(column, encoding="latin-1") == ["A\xc8"]
    assert torchfits.strings(torch.tensor([[65, 0, 66]], dtype=torch.uint8)) == ["A"]


def test_tdim_and_empty_shapes(tmp_path):
    cube = np.arange(N * 24).reshape(N, 2, 3, 4)
    path = write(tmp_path / "t.fits", [
        fits.Column("CUBE", "24J", dim="(4,3,2)", array=cube),
        fits.Column("NONE", "0E", array=np.zeros((N, 0))),
        fits.Column("NOTEXT", "0E", array=np.zeros((N, 0))), fits.Column("K", "J", array=np.arange(N)),
    ])  # fmt: skip
    path.write_bytes(path.read_bytes().replace(b"TFORM3  = '0E      '", b"TFORM3  = '0A      '"))
    table = torchfits.read(path)
    assert np.array_equal(table["CUBE"].numpy(), cube)
    assert table["NONE"].shape == (N, 0)
    assert table["NOTEXT"].shape == (N, 0)
    assert table["K"].tolist() == list(range(N))


def test_no_rows_and_no_columns(tmp_path):
    path = write(
        tmp_path / "t.fits", [fits.Column("X", "3E"), fits.Column("S", "4A"), fits.Column("V", "PJ()")]
    )
    table = torchfits.read(path, 1)
    assert {k: tuple(v.shape[:2]) for k, v in table.items() if k != "V"} == {"X": (0, 3), "S": (0, 4)}
    assert table["V"].size(0) == 0
    bare = tmp_path / "bare.fits"
    fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU()]).writeto(bare)
    with torchfits.open(bare) as f:
        assert (f[1].nrows, f[1].columns, f[1].read_table()) == (0, [], {})


@pytest.mark.parametrize("form", ["P", "Q"])
@pytest.mark.parametrize("code", list("LXBIJKEDCMA"))
def test_variable_length(tmp_path, form, code):
    rng = np.random.default_rng(7)
    lengths = [3, 0, 17, 1, 40]
    if code == "A":
        rows = ["abc", "", "x" * 17, "q", "hello world"]
    else:
        kind = {
            "L": "?",
            "X": "?",
            "B": "u1",
            "I": "i2",
            "J": "i4",
            "K": "i8",
            "E": "f4",
            "D": "f8",
            "C": "c8",
            "M": "c16",
        }
        rows = [rng.integers(0, 2 if code in "LX" else 100, n).astype(kind[code]) for n in lengths]
    array = np.empty(5, dtype=object)
    array[:] = rows
    path = tmp_path / "t.fits"
    if code == "X":
        _bits_in_a_heap(path, form, rows)
    else:
        columns = [
            fits.Column("V", f"{form}{code}()", array=array),
            fits.Column("K", "J", array=np.arange(5)),
        ]
        write(path, columns)
    table = torchfits.read(path, 1)
    assert table["K"].tolist() == [0, 1, 2, 3, 4]
    ragged = table["V"]
    assert ragged.is_nested
    if code == "A":
        assert torchfits.strings(ragged) == rows
        return
    got = [
        ragged.values()[i:j].numpy() for i, j in zip(ragged.offsets()[:-1], ragged.offsets()[1:], strict=True)
    ]
    for mine, theirs in zip(got, rows, strict=True):
        np.testing.assert_array_equal(mine, theirs)
        assert mine.dtype == theirs.dtype
    part = torchfits.read(path, 1, slice(0, 5, 2))["V"]
    assert (part.offsets()[1:] - part.offsets()[:-1]).tolist() == [3, 17, 40]
    np.testing.assert_array_equal(part.values().numpy(), np.concatenate(rows[::2]))


def _bits_in_a_heap(path, form, rows):
    """astropy writes no bit arrays into a heap; the heap is made by hand."""
    dtype = ">i4" if form == "P" else ">i8"
    heap, descriptors = b"", []
    for row in rows:
        descriptors.append((len(row), len(heap)))
        heap += np.packbits(row).tobytes()
    columns = [fits.Column("V", f"2{'J' if form == 'P' else 'K'}", array=np.array(descriptors, dtype=dtype))]
    columns.append(fits.Column("K", "J", array=np.arange(5)))
    write(path, columns)
    data = path.read_bytes()
    data = data.replace(
        b"TFORM1  = '2" + dtype[-1:].replace("4", "J").replace("8", "K").encode(),
        f"TFORM1  = '{form}X".encode(),
    )
    start = data.index(np.array(descriptors, dtype=dtype)[0].tobytes())
    size = (8 if form == "P" else 16) * 5 + 4 * 5
    body = data[start : start + size] + heap
    data = data[:start].replace(b"PCOUNT  =                    0", b"PCOUNT  = %20d" % len(heap)) + body
    path.write_bytes(data + bytes(-len(data) % 2880))


def test_columns_in_the_asked_order_in_any_case(tmp_path):
    path = write(
        tmp_path / "t.fits", [fits.Column(name, "J", array=[i]) for i, name in enumerate(("Ra", "DEC", "z"))]
    )
    with torchfits.open(path) as f:
        table = f["T"].read_table(columns=["Z", "ra"])
        assert list(table) == ["z", "Ra"]
        assert f["T"].read_table(columns=[]) == {}
        with pytest.raises(SectionError, match=r"'NOPE'.*Ra, DEC, z") as caught:
            f["T"].read_table(columns=["z", "NOPE"])
        assert (caught.value.path, caught.value.hdu) == (str(path), 1)
        assert list(f["T"].read_table(columns=[2, "RA"])) == ["z", "Ra"]
        with pytest.raises(SectionError, match="no column 3"):
            f["T"].read_table(columns=[3])
        assert list(f["T"].read_table(columns=(name for name in ("z", "ra")))) == ["z", "Ra"]
        with pytest.raises(SectionError, match="no column True"):
            f["T"].read_table(columns=[True])
        with pytest.raises(TypeError, match="list of names"):
            f["T"].read_table(columns="z")
        with pytest.raises(SectionError, match="slice"):
            f["T"].read_table(rows=3)


def test_duplicate_and_missing_names(tmp_path):
    path = write(tmp_path / "t.fits", [fits.Column(c, "J", array=[i]) for i, c in enumerate("ABC")])
    data = path.read_bytes().replace(b"TTYPE2  = 'B       '", b"TTYPE2  = 'A       '")
    path.write_bytes(data.replace(b"TTYPE3  = 'C       '", b"XTYPE3  = 'C       '"))
    with pytest.warns(FitsWarning, match="'A' again"):
        table = torchfits.read(path, 1)
    assert {name: tensor.item() for name, tensor in table.items()} == {"A": 0, "A_2": 1, "COL3": 2}


@given(rows=st.builds(slice, *[st.integers(-700, 700) | st.none()] * 2, st.integers(1, 50) | st.none()))
@settings(max_examples=80, deadline=None)
def test_rows_equal_the_slice_of_the_tensor(tmp_path_factory, rows):
    path = _many_rows(tmp_path_factory)
    with torchfits.open(path) as f:
        table = f[1].read_table(rows=rows)
    expected = torch.arange(500)[rows]
    assert torch.equal(table["K"], expected)
    assert torch.equal(table["V"][:, 1], expected.to(torch.float32))
    assert (table["R"].offsets()[1:] - table["R"].offsets()[:-1]).tolist() == [int(i) % 3 for i in expected]
    assert table["R"].values().tolist() == [int(i) for i in expected for _ in range(int(i) % 3)]


_MADE: dict = {}


def _many_rows(factory):
    if not _MADE:
        ragged = np.empty(500, dtype=object)
        ragged[:] = [np.full(i % 3, i, dtype="i4") for i in range(500)]
        _MADE["path"] = write(factory.mktemp("rows") / "t.fits", [
            fits.Column("K", "K", array=np.arange(500)),
            fits.Column("V", "3E", array=np.arange(500)[:, None] * [1, 1, 1]),
            fits.Column("R", "PJ()", array=ragged),
        ])  # fmt: skip
    return _MADE["path"]


def test_letters_that_are_no_logical_values_are_false(tmp_path):
    path = write(tmp_path / "t.fits", [fits.Column("L", "4L", array=[[True, False, True, True]])])
    data = bytearray(path.read_bytes())
    at = data.index(b"TFTT", 2880 * 2)
    data[at : at + 4] = b"T\0YF"
    path.write_bytes(data)
    tensor = torchfits.read(path, 1)["L"]
    assert tensor.tolist() == [[True, False, False, False]]
    assert tensor.view(torch.uint8).tolist() == [[1, 0, 0, 0]]


def ascii_table(path, formats, rows, **cards):
    """An ASCII table from raw text; `formats` are (TBCOL, TFORM)."""
    width = len(rows[0])
    lines = ["XTENSION= 'TABLE   '", "BITPIX  =                    8", "NAXIS   =                    2",
             f"NAXIS1  = {width:>20}", f"NAXIS2  = {len(rows):>20}", "PCOUNT  =                    0",
             "GCOUNT  =                    1", f"TFIELDS = {len(formats):>20}"]  # fmt: skip
    for i, (start, form) in enumerate(formats, 1):
        lines += [f"TBCOL{i:<3}= {start:>20}", f"TFORM{i:<3}= '{form}'", f"TTYPE{i:<3}= 'C{i}'"]
    lines += [f"{key:<8}= {value:>20}" for key, value in cards.items()]
    primary = "".join(
        s.ljust(80)
        for s in (
            "SIMPLE  =                    T",
            "BITPIX  =                    8",
            "NAXIS   =                    0",
            "END",
        )
    ).ljust(2880)
    header = "".join(line.ljust(80) for line in [*lines, "END"])
    header = header.ljust(-(-len(header) // 2880) * 2880)
    body = "".join(rows)
    path.write_bytes((primary + header + body.ljust(-(-len(body) // 2880) * 2880)).encode("latin-1"))
    return path


def test_ascii_table(tmp_path):
    path = ascii_table(
        tmp_path / "t.fits",
        [(1, "I4"), (6, "F6.2"), (13, "E9.2"), (23, "A3"), (27, "D10.3")],
        [
            "  12  12.34  1.25E+02 abc  1.5D+003 ",
            "  -7 -1      2.5      x   -2.5E-2   ",
            "        123                         ",
        ],
    )
    table = torchfits.read(path, 1)
    assert (table["C1"].dtype, table["C2"].dtype) == (torch.int64, torch.float64)
    assert table["C1"].tolist() == [12, -7, 0]
    assert table["C2"].tolist() == [
        12.34,
        -1 / 100,
        1.23,
    ]  # no decimal point: the last two digits are decimals
    assert table["C3"].tolist()[:2] == [125.0, 2.5]
    assert math.isnan(table["C3"][2])
    assert torchfits.strings(table["C4"]) == ["abc", "x", ""]
    assert table["C5"].tolist()[:2] == [1500.0, -0.025]


@pytest.mark.parametrize("engine", ["direct", "cfitsio"])
def test_null_integers_of_text_match_nothing(tmp_path, engine):
    """Scaled or not; blank reals are NaN."""
    path = ascii_table(
        tmp_path / "t.fits",
        [(1, "I4"), (5, "I4"), (9, "F4.1")],
        ["   1   1 1.0", "            ", "  -9  -9-9.0", "   3   3 3.0"],
        TNULL1="'-9'",
        TNULL2="'-9'",
        TSCAL2=2,
    )
    with torchfits.open(path, engine=engine) as f:
        for name, mask in f[1].read_table(nulls="mask")[1].items():
            assert mask.tolist() == [False, True, True, False], name
            for where in (f"{name} != 1 or {name} <= 2", f"not {name} == 1 or {name} == 1"):
                assert f[1].read_table([0], where=where)["C1"].tolist() == [1, 3], where
            assert len(f[1].read_table([0], where=f"{name} is null")["C1"]) == 2
        assert len(f[1].read_table([2], where="C3 != 1")["C3"]) == 3


def test_ascii_fields_that_other_readers_disagree_on(tmp_path):
    path = ascii_table(
        tmp_path / "t.fits",
        [(1, "I4"), (1, "A2"), (5, "I20")],
        ["- 23                   1", "   599999999999999999999"],
        TSCAL1=2,
    )
    with torchfits.open(path) as f:
        with pytest.warns(FitsWarning, match="blanks after their sign"):
            table = f[1].read_table(columns=["C1", "C2"])
        assert table["C1"].tolist() == [-46, 10]
        assert torchfits.strings(table["C2"]) == ["-", ""]
        with pytest.raises(FitsFormatError, match="'C3', row 1: 99999999999999999999 is beyond 64 bits"):
            f[1].read_table(columns=["C3"])


@pytest.mark.parametrize("field", ["abc ", "1_00", "0x12", "nan ", "1 2 "])
def test_ascii_fields_that_are_no_number(tmp_path, field):
    path = ascii_table(tmp_path / "t.fits", [(1, "I4"), (1, "F4.0")], ["   1", field])
    for column in ("C1", "C2"):
        with torchfits.open(path) as f, pytest.raises(FitsFormatError, match=f"{column!r}, row 1"):
            f[1].read_table(columns=[column])
