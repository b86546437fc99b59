"""What tables are asked for besides columns: rows in any order, nulls, ragged columns; batches of rows."""

from __future__ import annotations

import gzip
import pickle
import struct
import threading
import warnings

import numpy as np
import pytest
import torch
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st
from images import SANITIZED, in_fork, run_child
from tables import (
    ENGINES,
    Field,
    assert_column,
    assert_equal_bits,
    assert_nulls,
    binary_table,
    file_of,
    parts_of,
    random_rows,
    random_table,
    slow_table,
)

import torchfits
from torchfits import FitsFormatError, FitsUnsupported, FitsWarning, SectionError
from torchfits._direct import passed_rows

pytestmark = pytest.mark.native
FIELDS = [
    Field("K"), Field("E", 3), Field("I", null=7), Field("L", 2), Field("A", 4), Field("P", 1, "J", null=7),
    Field("X", 5), Field("J", zero="2147483648", null=-5), Field("Q", 1, "L"),
]  # fmt: skip
NROWS = 500
DATA = random_table(FIELDS, NROWS)
SLOW = slow_table(DATA)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("rows") / "t.fits"
    path.write_bytes(DATA)
    return path


@pytest.fixture(params=ENGINES)
def hdu(request, path):
    with torchfits.open(path, engine=request.param) as f:
        yield f[1]


def made(path, fields: list[Field], rows: bytes, nrows: int, heap: bytes = b"", **cards):
    path.write_bytes(file_of(binary_table(fields, rows, nrows, heap, **cards)))
    return path


# ---------------------------------------------------------------------------- rows in any order

PICKS = [3, 3, 0, 99, -1, 41, 3, -100, 7]
NUMBERS = {
    "list": PICKS,
    "tuple": tuple(PICKS),
    "range": range(99, -1, -7),
    "numpy ints": [np.int16(5), np.int64(-1), 3],
    **{
        f"tensor {dtype}": torch.tensor(PICKS, dtype=dtype)
        for dtype in (torch.int8, torch.int16, torch.int32, torch.int64)
    },
    **{
        f"tensor {dtype}": torch.tensor([5, 5, 0, 99]).to(dtype)
        for dtype in (torch.uint8, torch.uint16, torch.uint32, torch.uint64)
    },
    "every second": torch.arange(90)[::2],
    "a column": torch.arange(90).reshape(30, 3)[:, 1],
    **{f"numpy {kind}": np.array(PICKS, dtype=kind) for kind in ("i1", "<i2", ">i2", ">i4", "<i8", ">i8")},
    **{f"numpy {kind}": np.array([5, 5, 0, 99], dtype=kind) for kind in ("u1", ">u2", "<u4", ">u4", ">u8")},
    "backwards": np.arange(100)[::-1],
    "read-only": np.frombuffer(np.array([4, 2], dtype="i8").tobytes(), dtype="i8"),
    "none": [],
    "no tensor": torch.empty(0, dtype=torch.int64),
    "no float": torch.empty(0),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_rows_by_number(hdu, name):
    numbers = NUMBERS[name]
    chosen = [int(n) % NROWS for n in numbers]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = hdu.read_table(rows=numbers)
    for column in SLOW.columns:
        assert_column(found[column.name], column, chosen)
    (column,) = hdu.read_table(["C2"], numbers).values()
    assert_column(column, SLOW["C2"], chosen)


@given(rows=st.lists(st.integers(-NROWS, NROWS - 1), max_size=60), data=st.data())
@settings(max_examples=40, deadline=None)
def test_rows_are_the_rows_of_the_whole(path, rows, data):
    columns = data.draw(st.lists(st.sampled_from([c.name for c in SLOW.columns]), max_size=5))
    with torchfits.open(path, engine=data.draw(st.sampled_from(ENGINES))) as f:
        found = f[1].read_table(columns, rows)
    assert list(found) == list(dict.fromkeys(columns))
    for name, tensor in found.items():
        assert_column(tensor, SLOW[name], [row % NROWS for row in rows])


BAD_ROWS = {
    "beyond the end": ([0, NROWS], "500"),
    "before the beginning": ([-NROWS - 1], "-501"),
    "far beyond": (torch.tensor([2**62]), str(2**62)),
    "far before": (torch.tensor([-(2**63)]), "row|slice|int|section"),
    "far beyond, unsigned": (torch.tensor([2**63 + 5], dtype=torch.uint64), "row|slice|int|section"),
    "beyond 64 bits": ([2**70], "row|slice|int|section"),
    "real": ([1.0, 2.0], "row|slice|int|section"),
    "a real tensor": (torch.tensor([1.0]), "row|slice|int|section"),
    "complex": (torch.tensor([1j]), "row|slice|int|section"),
    "true and false": ([True, False], "row|slice|int|section"),
    "a mask": (torch.ones(NROWS, dtype=torch.bool), "row|slice|int|section"),
    "a mask of numpy": (np.ones(NROWS, dtype=bool), "row|slice|int|section"),
    "text": ("12", "row|slice|int|section"),
    "texts": (["1"], "row|slice|int|section"),
    "bytes": (b"12", "row|slice|int|section"),
    "nested": ([[1, 2]], "row|slice|int|section"),
    "ragged": ([[1, 2], [3]], "row|slice|int|section"),
    "two axes": (torch.zeros(2, 2, dtype=torch.int64), "row|slice|int|section"),
    "no axis": (torch.tensor(3), "row|slice|int|section"),
    "one number": (3, "row|slice|int|section"),
    "nothing in it": ([None], "row|slice|int|section"),
    "a dict": ({1: 2}, "row|slice|int|section"),
    "an object": (object(), "row|slice|int|section"),
    "a step of 0": (slice(0, 5, 0), "step"),
    "a step backwards": (slice(None, None, -1), "step"),
    "a slice of texts": (slice("a", "b"), "row|slice|int|section"),
    "a slice of reals": (slice(0.0, 3.0), "row|slice|int|section"),
}


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    """5 million rows, whose numbers take three digits of the order that lists are brought into."""
    path, n = tmp_path_factory.mktemp("long") / "t.fits", 5_000_000
    rows = np.zeros(n, dtype=[("T3", "S3")])
    rows["T3"].view("u1").reshape(n, 3)[:] = np.random.default_rng(3).integers(65, 91, (n, 3))
    fits.BinTableHDU(rows).writeto(path)
    return path, torch.from_numpy(rows["T3"].view("u1").reshape(n, 3))


@pytest.mark.parametrize("count", [2, 5000, 300_000])
@pytest.mark.parametrize("mmap", [True, False])
def test_many_rows_in_no_order(long, count, mmap):
    path, expected = long
    rows = torch.randint(0, len(expected), (count,), generator=torch.Generator().manual_seed(count))
    with torchfits.open(path, cache=False, mmap=mmap) as file:
        for _ in range(2):  # by reading, then maybe from a mapping
            assert_equal_bits(file[1].read_table(rows=rows)["T3"], expected[rows])


@pytest.mark.parametrize("mmap", [True, False])
def test_texts_of_every_width(tmp_path, mmap):
    widths = range(1, 36)
    rows = np.zeros(3001, dtype=[(f"T{width}", f"S{width}") for width in widths])
    raw = np.random.default_rng(4).integers(65, 91, (len(rows), rows.dtype.itemsize), dtype="u1")
    rows = raw.view(rows.dtype)[:, 0]
    fits.BinTableHDU(rows).writeto(tmp_path / "t.fits")
    picks = torch.tensor([2999, 5, 5, 1024, 0])
    with torchfits.open(tmp_path / "t.fits", cache=False, mmap=mmap) as file:
        for asked in (slice(None), slice(7, None, 13), picks, slice(None)):
            found = file[1].read_table(rows=asked)
            for name in rows.dtype.names:
                at = rows.dtype.fields[name][1]
                expected = raw[:, at : at + int(name[1:])][
                    asked if isinstance(asked, slice) else picks.numpy()
                ]
                assert_equal_bits(found[name], torch.from_numpy(expected.copy()))


@given(
    st.binary(max_size=200).map(lambda raw: bytes(byte % 7 == 0 for byte in raw)),
    st.integers(0, 2**40),
    st.integers(1, 1000),
)
def test_the_rows_that_pass(keep, first, step):
    expected = [first + step * i for i, each in enumerate(keep) if each]
    bytes_, found = torch.tensor(list(keep) or [0], dtype=torch.uint8), torch.full((len(keep) + 1,), -1)
    passed_rows(bytes_.data_ptr(), len(keep), found.data_ptr(), len(expected), first, step)
    assert found.tolist() == expected + [-1] * (len(keep) + 1 - len(expected))


@pytest.mark.parametrize("name", BAD_ROWS)
def test_rows_that_are_none(hdu, path, name):
    rows, says = BAD_ROWS[name]
    for columns in (None, ["C1"], ["C6"]):
        with pytest.raises(SectionError, match=says) as caught:
            hdu.read_table(columns, rows)
        assert (caught.value.path, caught.value.hdu) == (str(path), 1)
    with pytest.raises(IndexError):
        hdu.read_table(rows=rows)


@pytest.mark.parametrize("engine", ENGINES)
def test_rows_of_a_table_without_any(tmp_path, engine):
    (tmp_path / "t.fits").write_bytes(random_table(FIELDS, 0))
    with torchfits.open(tmp_path / "t.fits", engine=engine) as f:
        assert len(f[1].read_table(rows=[])["C1"]) == 0
        for rows in ([0], [-1]):
            with pytest.raises(SectionError):
                f[1].read_table(rows=rows)


@pytest.mark.parametrize("engine", ENGINES)
def test_rows_of_packed_files(tmp_path, engine):
    path = tmp_path / "t.fits.gz"
    path.write_bytes(gzip.compress(DATA))
    with torchfits.open(path, engine=engine) as f:
        found = f[1].read_table(rows=PICKS)
    for column in SLOW.columns:
        assert_column(found[column.name], column, [row % NROWS for row in PICKS])


def ascii_file(path):
    columns = [
        fits.Column("ID", "I6", array=np.arange(100) - 50, ascii=True),
        fits.Column("X", "F9.3", array=np.arange(100) / 8, ascii=True),
        fits.Column("NAME", "A5", array=[f"n{i}" for i in range(100)], ascii=True),
    ]
    table = fits.TableHDU.from_columns(columns)
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(path)
    return path


@pytest.mark.parametrize("engine", ["auto", "cfitsio"])
@pytest.mark.parametrize("rows", [PICKS, torch.tensor(PICKS), slice(3, 90, 11), []], ids=str)
def test_rows_of_ascii_tables(tmp_path, engine, rows):
    with torchfits.open(ascii_file(tmp_path / "t.fits"), engine=engine) as f:
        found = f[1].read_table(rows=rows)
        assert list(found) == ["ID", "X", "NAME"]
        assert f[1]["X"].tolist() == (np.arange(100) / 8).tolist()
        with pytest.raises(SectionError):
            f[1].read_table(rows=[100])
    chosen = np.arange(100)[rows if isinstance(rows, slice) else [int(row) for row in rows]]
    assert found["ID"].tolist() == (chosen - 50).tolist()
    assert found["X"].tolist() == (chosen / 8).tolist()
    assert torchfits.strings(found["NAME"]) == [f"n{i}" for i in chosen]


def test_asked_rows_own_their_memory(hdu):
    """What lies between the rows is not kept alive, and no two tensors share memory."""
    found = hdu.read_table(["C1", "C2", "c1", "C1"], [5, 5, 6])
    assert list(found) == ["C1", "C2"]
    found["C1"][0] = -1
    assert_column(found["C2"], SLOW["C2"], [5, 5, 6])
    assert found["C1"][1] != -1
    assert hdu.read_table(["C1"], slice(0, None, 100))["C1"].untyped_storage().nbytes() <= 64 * 8
    assert_column(hdu["C1"], SLOW["C1"])


@pytest.mark.parametrize(
    "columns", [["C5", "C5"], ["c6", "C6", 5], [0, "C1", "C9", -0], ["C3", "C3", "C7", "C3"]]
)
def test_columns_asked_for_twice_come_once(hdu, columns):
    for rows in (None, slice(1, None, 2), PICKS):
        for nulls in (None, "nan", "mask"):
            found = hdu.read_table(columns, rows, nulls=nulls)
            found = found[0] if nulls == "mask" else found
            alone = [hdu.read_table([name], rows, nulls=nulls) for name in found]
            for one, (name, tensor) in zip(alone, found.items(), strict=True):
                assert_equal_bits(tensor, (one[0] if nulls == "mask" else one)[name])
    assert len(found) == len({hdu.columns[c].name if isinstance(c, int) else c.upper() for c in columns})


# ---------------------------------------------------------------------------- nulls

NULL_ROWS = np.zeros(
    4, dtype=[("B", "u1"), ("I", ">i2"), ("J", ">i4"), ("K", ">i8"), ("L", "S1"), ("E", ">f4")]
)
NULL_ROWS["B"] = [0, 255, 7, 1]
NULL_ROWS["I"] = [-32768, 7, 32767, -1]
NULL_ROWS["J"] = [7, 16777217, -(2**31), 0]
NULL_ROWS["K"] = [2**53 + 1, 7, -(2**63), 2**63 - 1]
NULL_ROWS["L"] = [b"T", b"F", b"\0", b"?"]
NULL_ROWS["E"] = [7, 1.5, np.nan, -1]
NULL_FIELDS = [
    Field("B", null=7), Field("I", null=-32768), Field("J", null=7), Field("K", null=7),
    Field("L"), Field("E"),
]  # fmt: skip


def null_file(path, fields=NULL_FIELDS, **cards):
    return made(path, fields, NULL_ROWS.tobytes(), 4, **cards)


@pytest.mark.parametrize("engine", ENGINES)
def test_nulls_as_they_are(tmp_path, engine):
    with torchfits.open(null_file(tmp_path / "t.fits"), engine=engine) as f:
        found = f[1].read_table()
        assert f[1].read_table(nulls=None).keys() == found.keys()
    for name, column in zip(found, NULL_ROWS.dtype.names[:4], strict=False):
        assert found[name].tolist() == NULL_ROWS[column].tolist()
    assert [str(found[f"C{i}"].dtype) for i in range(1, 5)] == [
        "torch.uint8", "torch.int16", "torch.int32", "torch.int64"]  # fmt: skip


@pytest.mark.parametrize("engine", ENGINES)
def test_nulls_as_nan(tmp_path, engine):
    with torchfits.open(null_file(tmp_path / "t.fits"), engine=engine) as f:
        found = f[1].read_table(nulls="nan")
    nan = "nan"
    assert [str(found[f"C{i}"].dtype) for i in range(1, 7)] == [
        "torch.float32", "torch.float32", "torch.float64", "torch.float64", "torch.bool", "torch.float32",
    ]  # fmt: skip
    values = [[nan if n != n else n for n in tensor.tolist()] for tensor in found.values()]
    assert values == [
        [0, 255, nan, 1],
        [nan, 7, 32767, -1],
        [nan, 16777217, -(2.0**31), 0],
        [2.0**53, nan, -(2.0**63), 2.0**63],
        [True, False, False, False],
        [7, 1.5, nan, -1],
    ]


@pytest.mark.parametrize("engine", ENGINES)
def test_nulls_as_masks(tmp_path, engine):
    with torchfits.open(null_file(tmp_path / "t.fits"), engine=engine) as f:
        pair = f[1].read_table(nulls="mask")
        assert isinstance(pair, tuple)
        found, masks = pair
        plain = f[1].read_table()
        part, marks = f[1].read_table(["C4", "C6", "C1"], [2, 1, 1], nulls="mask")
        nothing = f[1].read_table(["C6"], nulls="mask")[1]
        none = f[1].read_table(["C1"], slice(2, 2), nulls="mask")[1]
    for name, tensor in found.items():
        assert_equal_bits(tensor, plain[name])
    assert {name: mask.tolist() for name, mask in masks.items()} == {
        "C1": [False, False, True, False],
        "C2": [True, False, False, False],
        "C3": [True, False, False, False],
        "C4": [False, True, False, False],
        "C5": [False, False, True, False],
    }
    assert all(mask.dtype == torch.bool for mask in masks.values())
    assert list(part) == ["C4", "C6", "C1"]
    assert {name: mask.tolist() for name, mask in marks.items()} == {
        "C4": [False, True, True], "C1": [True, False, False]}  # fmt: skip
    assert nothing == {}
    assert none["C1"].shape == (0,)


@pytest.mark.parametrize("engine", ENGINES)
def test_null_is_what_is_stored_not_what_it_means(tmp_path, engine):
    """TNULL is compared before TSCAL and TZERO (section 7.3.2), also where these make 7 of something else."""
    fields = [
        Field("B", scale="0.5", zero="3.5", null=7), Field("I", zero="32768", null=-32768),
        Field("J", scale="-1", null=-(2**31)), Field("K", zero="9223372036854775808", null=-(2**63)),
        Field("L"), Field("E"),
    ]  # fmt: skip
    with torchfits.open(null_file(tmp_path / "t.fits", fields), engine=engine) as f:
        found, masks = f[1].read_table(nulls="mask")
        real = f[1].read_table(nulls="nan")
    assert [masks[f"C{i}"].nonzero().tolist() for i in range(1, 5)] == [[[2]], [[0]], [[2]], [[2]]]
    assert found["C1"].tolist() == [3.5, 131, 7, 4]
    assert (found["C2"].dtype, found["C2"].tolist()) == (torch.uint16, [0, 32775, 65535, 32767])
    assert found["C4"].tolist() == [2**63 + 2**53 + 1, 2**63 + 7, 0, 2**64 - 1]
    assert [tensor.isnan().nonzero().tolist() for tensor in list(real.values())[:4]] == [
        [[2]], [[0]], [[2]], [[2]]]  # fmt: skip
    assert [str(real[f"C{i}"].dtype) for i in range(1, 5)] == [
        "torch.float32", "torch.float32", "torch.float64", "torch.float64"]  # fmt: skip
    assert real["C2"].tolist()[1:] == [32775, 65535, 32767]
    assert real["C4"].tolist()[3] == 2.0**64


@pytest.mark.parametrize("engine", ENGINES)
def test_small_unsigned_numbers_beside_nulls_are_exact(tmp_path, engine):
    """Of -2^63 + 3 float64 knows no more than -2^63, but the value is 3."""
    rows = np.array([-(2**63) + 3, 7, -(2**63) + 2**40 + 1], dtype=">i8").tobytes()
    path = made(tmp_path / "t.fits", [Field("K", zero="9223372036854775808", null=7)], rows, 3)
    with torchfits.open(path, engine=engine) as f:
        values = f[1].read_table(nulls="nan")["C1"].tolist()
    assert values[0] == 3
    assert values[1] != values[1]
    assert values[2] == 2**40 + 1


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("null", [32768, -32769, 2**31, 2**63 - 1, -(2**63), 2**63, 2**70, "'x'", 2.5, "T"])
def test_a_null_that_no_number_can_be(tmp_path, engine, null):
    """It is none at all, and not 0."""
    fields, rows = [Field("I"), Field("P", 1, "I")], struct.pack(">hiihii", 7, 2, 0, 0, 0, 0)
    path = made(tmp_path / "t.fits", fields, rows, 2, b"\0\0\0\1", TNULL1=null, TNULL2=null)
    with torchfits.open(path, engine=engine) as f, warnings.catch_warnings():
        warnings.simplefilter("ignore", FitsWarning)
        found, masks = f[1].read_table(nulls="mask", ragged="offsets")
        assert not any(bool(parts_of(mask)[0].any()) for mask in masks.values())
        assert (found["C1"].tolist(), found["C2"][0].tolist()) == ([7, 0], [0, 1])
        real = f[1].read_table(nulls="nan", ragged="offsets")
        assert (real["C1"].tolist(), real["C2"][0].tolist()) == ([7, 0], [0, 1])
        assert f[1].read_table()["C1"].dtype == torch.int16


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("ragged", ["nested", "offsets"])
@pytest.mark.parametrize("element", ["B", "I", "J", "K", "L"])
def test_nulls_in_ragged_columns(tmp_path, engine, ragged, element):
    field = Field("P", 1, element, null=None if element == "L" else 7)
    data = random_table([field, Field("J")], 60, heaped="shared")
    (tmp_path / "t.fits").write_bytes(data)
    slow, real = slow_table(data)["C1"], slow_table(data, nan_nulls=True)["C1"]
    assert any(map(any, slow.nulls))
    with torchfits.open(tmp_path / "t.fits", engine=engine) as f:
        for rows in (None, slice(1, None, 3), [5, 5, 0, -1]):
            chosen = torch.arange(60)[slice(None) if rows is None else rows].tolist()
            found, masks = f[1].read_table(["C1"], rows, nulls="mask", ragged=ragged)
            assert_column(found["C1"], slow, chosen)
            assert_nulls(masks["C1"], slow, chosen)
            assert parts_of(masks["C1"])[1] == parts_of(found["C1"])[1]
            assert isinstance(masks["C1"], tuple) == (ragged == "offsets")
            assert_column(f[1].read_table(["C1"], rows, nulls="nan", ragged=ragged)["C1"], real, chosen)


@pytest.mark.parametrize(
    "options", [{"nulls": "NaN"}, {"nulls": True}, {"nulls": 0}, {"ragged": "list"}, {"ragged": None}]
)
def test_options_that_are_none(hdu, options):
    for call in (hdu.read_table, hdu.iter_table):
        with pytest.raises(ValueError, match=next(iter(options))):
            call(**options)


# ---------------------------------------------------------------------------- ragged columns


def test_ragged_columns_as_values_and_offsets(hdu):
    nested = hdu.read_table(["C6", "C1", "C9"])
    found = hdu.read_table(["C6", "C1", "C9"], ragged="offsets")
    for name in ("C6", "C9"):
        values, offsets = found[name]
        assert (offsets.dtype, offsets.shape, offsets[0]) == (torch.int64, (NROWS + 1,), 0)
        assert offsets[-1] == len(values)
        assert_equal_bits(nested[name], found[name])
        assert_column(found[name], SLOW[name])
        assert nested[name].layout == torch.jagged
        assert nested[name].size(0) == NROWS
        assert nested[name].unbind()[7].tolist() == values[offsets[7] : offsets[8]].tolist()
    assert_column(found["C1"], SLOW["C1"])


def test_no_rows_of_ragged_columns(hdu):
    for rows in (slice(0, 0), []):
        values, offsets = hdu.read_table(["C6"], rows, ragged="offsets")["C6"]
        assert (values.dtype, tuple(values.shape), offsets.tolist()) == (torch.int32, (0,), [0])
        nested = hdu.read_table(["C6"], rows)["C6"]
        assert (nested.is_nested, nested.size(0)) == (True, 0)


@pytest.mark.parametrize("engine", ENGINES)
def test_texts_of_ragged_columns(tmp_path, engine):
    words = ["abc", "", "x" * 17, "q  ", "nul\0not this"]
    heap = "".join(words).encode()
    ends = np.cumsum([0, *map(len, words)])
    rows = np.stack([np.diff(ends), ends[:-1]], axis=1).astype(">i4").tobytes()
    path = made(tmp_path / "t.fits", [Field("P", 1, "A", longest=17)], rows, 5, heap)
    with torchfits.open(path, engine=engine) as f:
        for rows, chosen in ((None, range(5)), ([4, 0, 2, 2], [4, 0, 2, 2])):
            texts = [words[i].partition("\0")[0].rstrip() for i in chosen]
            for ragged in ("nested", "offsets"):
                found = f[1].read_table(rows=rows, ragged=ragged)["C1"]
                assert torchfits.strings(found) == texts


@pytest.mark.parametrize("engine", ENGINES)
def test_tdim_of_ragged_columns(tmp_path, engine):
    field = Field("P", 1, "I", dims=(2, 3, 4), longest=48)
    numbers = np.arange(48, dtype=">i2")
    rows = np.array([[24, 0], [0, 0], [12, 48], [24, 48]], dtype=">i4").tobytes()
    path = made(tmp_path / "t.fits", [field], rows, 4, numbers.tobytes())
    with torchfits.open(path, engine=engine) as f:
        values, offsets = f[1].read_table(ragged="offsets")["C1"]
        assert tuple(values.shape) == (10, 3, 2)
        assert offsets.tolist() == [0, 4, 4, 6, 10]
        assert values[4:6].tolist() == np.arange(24, 36).reshape(2, 3, 2).tolist()
        nested = f[1].read_table(rows=[3, 0])["C1"]
        assert [part.tolist() for part in nested.unbind()] == [
            np.arange(24, 48).reshape(4, 3, 2).tolist(), np.arange(24).reshape(4, 3, 2).tolist()]  # fmt: skip


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("dims", ["(2,5)", "(0,3)", "(x)", "(99999999999,99999999999,99999)"])
def test_tdim_that_does_not_fit_ragged_columns(tmp_path, engine, dims):
    rows = np.array([[4, 0], [3, 4]], dtype=">i4").tobytes()
    path = made(tmp_path / "t.fits", [Field("P", 1, "B")], rows, 2, bytes(range(7)), TDIM1=f"'{dims}'")
    with torchfits.open(path, engine=engine) as f, warnings.catch_warnings():
        warnings.simplefilter("ignore", FitsWarning)
        found = f[1].read_table()["C1"]
    assert [part.tolist() for part in found.unbind()] == [[0, 1, 2, 3], [4, 5, 6]]


# ---------------------------------------------------------------------------- a column alone


def test_a_column_alone(hdu, path):
    for name in ("C1", "c6", " c2 ", 3):
        column = SLOW.columns[3] if name == 3 else SLOW[name.strip().upper()]
        assert_column(hdu[name], column)
    with pytest.raises(SectionError, match=r"'NOPE'.*C1, C2") as caught:
        hdu["NOPE"]
    assert (caught.value.path, caught.value.hdu) == (str(path), 1)
    for bad in (99, -99):
        with pytest.raises(SectionError):
            hdu[bad]
    for bad in (1.5, None, slice(0, 2), ["C1"]):
        with pytest.raises((SectionError, TypeError)):
            hdu[bad]


def test_columns_tell_what_they_are(hdu):
    found = hdu.read_table()
    for info in hdu.columns:
        values, _ = parts_of(found[info.name])
        assert values.dtype == info.dtype
        assert found[info.name].is_nested == info.ragged
        assert info.ragged or tuple(values.shape[1:]) == info.shape


# ---------------------------------------------------------------------------- batches


@pytest.mark.parametrize("prefetch", [0, 1, 2, 100])
@pytest.mark.parametrize("size", [1, 7, 250, 499, 500, 501, 10**12])
def test_batches_are_the_table(hdu, size, prefetch):
    columns = ["C2", "C6", "C1"]
    batches = list(hdu.iter_table(columns, size, prefetch=prefetch))
    assert [len(batch["C1"]) for batch in batches] == [
        min(size, NROWS - first) for first in range(0, NROWS, min(size, NROWS))
    ]
    for i, batch in enumerate(batches):
        assert list(batch) == columns
        if i % 50 == 0:
            for name in columns:
                assert_column(batch[name], SLOW[name], range(NROWS)[i * size : (i + 1) * size])
    assert_column(torch.cat([batch["C1"] for batch in batches]), SLOW["C1"])


def test_batches_take_the_options(hdu):
    batches = list(hdu.iter_table(batch_rows=200, nulls="mask", ragged="offsets"))
    assert len(batches) == 3
    for i, (values, masks) in enumerate(batches):
        rows = range(NROWS)[i * 200 : (i + 1) * 200]
        for column in SLOW.columns:
            assert_column(values[column.name], column, rows)
        assert list(masks) == [column.name for column in SLOW.columns if column.nulls is not None]
        for name, mask in masks.items():
            assert_nulls(mask, SLOW[name], rows)
    (only,) = hdu.iter_table()
    assert list(only) == [column.name for column in SLOW.columns]


@pytest.mark.parametrize("engine", ENGINES)
def test_batches_of_nothing(tmp_path, engine):
    (tmp_path / "t.fits").write_bytes(random_table(FIELDS, 0))
    with torchfits.open(tmp_path / "t.fits", engine=engine) as f:
        assert list(f[1].iter_table()) == []
        assert list(f[1].iter_table(["C1"], 3, prefetch=0)) == []


@pytest.mark.parametrize("prefetch", [0, 1, 3])
def test_batches_left_early(hdu, prefetch):
    before = threading.active_count()
    for batch in hdu.iter_table(["C1"], 10, prefetch=prefetch):
        assert len(batch["C1"]) == 10
        break
    del batch
    batches = hdu.iter_table(["C1"], 10, prefetch=prefetch)
    next(batches)
    del batches
    hdu.iter_table(["C1"], 10, prefetch=prefetch)
    assert threading.active_count() == before


def test_batches_of_a_parent_go_on_or_say_why_not(hdu):
    ahead, plain = hdu.iter_table(["C1"], 10), hdu.iter_table(["C1"], 10, prefetch=0)
    for each in (ahead, plain):
        next(each)

    def check():
        with pytest.raises(FitsUnsupported, match="another process"):
            next(ahead)
        assert_column(next(plain)["C1"], SLOW["C1"], range(10, 20))
        assert_column(next(hdu.iter_table(["C1"], 10))["C1"], SLOW["C1"], range(10))

    in_fork(check, 20)
    assert_column(next(ahead)["C1"], SLOW["C1"], range(10, 20))


def test_two_iterations_at_once(hdu):
    pairs = zip(hdu.iter_table(["C1"], 100), hdu.iter_table(["C6"], 100), strict=True)
    for i, (one, other) in enumerate(pairs):
        assert_column(one["C1"], SLOW["C1"], range(i * 100, i * 100 + 100))
        assert_column(other["C6"], SLOW["C6"], range(i * 100, i * 100 + 100))


BAD_BATCHES = [("batch_rows", bad) for bad in (0, -1, 2.5, "3", True)]
BAD_BATCHES += [("prefetch", bad) for bad in (-1, None, 0.5)]


@pytest.mark.parametrize(("option", "value"), BAD_BATCHES)
def test_batches_that_are_none(hdu, option, value):
    with pytest.raises((ValueError, TypeError), match=option):
        hdu.iter_table(["C1"], **{option: value})


@pytest.mark.parametrize("prefetch", [0, 1])
def test_errors_of_batches_say_where(tmp_path, prefetch):
    fields = [Field("J"), Field("P", 1, "I")]
    rows, heap = random_rows(fields, 50)
    rows = bytearray(rows)
    rows[12 * 33 + 4 : 12 * 34] = (5).to_bytes(4, "big") + (10**6).to_bytes(4, "big")
    path = made(tmp_path / "t.fits", fields, bytes(rows), 50, heap)
    with torchfits.open(path) as f:
        batches = f[1].iter_table(batch_rows=10, prefetch=prefetch)
        assert [len(next(batches)["C1"]) for _ in range(3)] == [10, 10, 10]
        with pytest.raises(FitsFormatError, match="row 33") as caught:
            next(batches)
        assert (caught.value.path, caught.value.hdu) == (str(path), 1)
        with pytest.raises(SectionError, match="NOPE"):
            list(f[1].iter_table(["NOPE"], prefetch=prefetch))


def test_batches_of_a_closed_file(path):
    with torchfits.open(path, cache=False) as f:
        hdu = f[1]
        batches = hdu.iter_table(["C1"], 10, prefetch=0)
        next(batches)
    with pytest.raises((torchfits.FitsError, ValueError)):
        list(batches)


MEMORY = """
import sys, torch, torchfits
from probe import resident
prefetch = int(sys.argv[2])
with torchfits.open(sys.argv[1], cache=False, mmap=False) as f:
    next(iter(f[1].iter_table(['C1'], 1000, prefetch=prefetch)))
    f[1].read_table(rows=slice(0, 1000))
    before, total = resident('VmHWM'), 0
    for batch in f[1].iter_table(batch_rows=20_000, prefetch=prefetch):
        total += len(batch['C1'])
    print(total, resident('VmHWM') - before)
"""


@pytest.mark.skipif(SANITIZED, reason="the sanitizer takes memory of its own")
@pytest.mark.parametrize("prefetch", [0, 1])
def test_batches_take_little_memory(tmp_path, prefetch):
    """400 MB of rows, most of them holes in the file, in batches of 16 MB."""
    fields, nrows = [Field("K"), Field("E", 198)], 500_000
    path = tmp_path / "t.fits"
    path.write_bytes(file_of(binary_table(fields, b"", nrows)))
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size + 800 * nrows + -800 * nrows % 2880)
    total, grown = map(int, run_child(MEMORY, path, prefetch).split())
    assert total == nrows
    assert grown < 16_000_000 * (prefetch + 2) + (24 << 20)


PEAK = """
import sys, torch, torchfits
from probe import resident
rows = {'slice': slice(0, 4000), 'list': torch.arange(399_999, 0, -100)}[sys.argv[2]]
with torchfits.open(sys.argv[1], cache=False, mmap=False, engine='direct') as f:
    f[1].read_table(rows=slice(0, 3))
    f[1].read_table(rows=[0, 1])
    before = resident('VmHWM')
    found = f[1].read_table(['C1'], rows)
    print(resident('VmHWM') - before)
"""


@pytest.mark.skipif(SANITIZED, reason="the sanitizer takes memory of its own")
@pytest.mark.parametrize("how", ["slice", "list"])
def test_rows_take_little_memory(tmp_path, how):
    fields, nrows = [Field("K"), Field("E", 198)], 400_000
    path = tmp_path / "t.fits"
    path.write_bytes(file_of(binary_table(fields, b"", nrows)))
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size + 800 * nrows + -800 * nrows % 2880)
    assert int(run_child(PEAK, path, how)) < 16 << 20


# ---------------------------------------------------------------------------- where, with rows and in batches


def wanted(slow) -> list[int]:
    """The rows in which C1, a signed 64-bit integer, is negative."""
    return [row for row, cell in enumerate(slow.cells) if cell[7] & 0x80]


def test_where_comes_after_rows(hdu):
    negative = wanted(SLOW["C1"])
    found = hdu.read_table(["C2", "C6"], where="C1 < 0")
    assert_column(found["C2"], SLOW["C2"], negative)
    assert_column(found["C6"], SLOW["C6"], negative)
    picks = [499, 3, 3, 0, *range(100, 0, -1), -7]
    found = hdu.read_table(["C2", "C6"], picks, where="C1 < 0")
    chosen = [row % NROWS for row in picks if row % NROWS in set(negative)]
    assert_column(found["C2"], SLOW["C2"], chosen)
    assert_column(found["C6"], SLOW["C6"], chosen)
    found = hdu.read_table(["C1"], slice(10, 400, 3), where="C1 < 0")
    assert_column(found["C1"], SLOW["C1"], [row for row in range(10, 400, 3) if row in set(negative)])


def test_where_nothing_is(hdu):
    found = hdu.read_table(where="C1 < 0 and C1 > 0")
    for column in SLOW.columns:
        assert_column(found[column.name], column, [])


def test_where_takes_the_options(hdu):
    negative = wanted(SLOW["C1"])
    values, masks = hdu.read_table(["C3", "C6"], where="C1 < 0", nulls="mask", ragged="offsets")
    for name in ("C3", "C6"):
        assert_column(values[name], SLOW[name], negative)
        assert_nulls(masks[name], SLOW[name], negative)


@pytest.mark.parametrize("prefetch", [0, 2])
def test_batches_where(hdu, prefetch):
    negative = wanted(SLOW["C1"])
    batches = list(hdu.iter_table(["C2"], 30, where="C1 < 0", prefetch=prefetch))
    assert all(len(batch["C2"]) <= 30 for batch in batches)
    assert_column(torch.cat([batch["C2"] for batch in batches]), SLOW["C2"], negative)


# ---------------------------------------------------------------------------- processes and threads


def test_rows_after_a_fork_and_from_a_pickle(path):
    with torchfits.open(path) as f:
        f[1].read_table(["C1"], PICKS)
        chosen = [row % NROWS for row in PICKS]

        def check() -> None:
            for column in (SLOW["C1"], SLOW["C5"]):
                array = f[1].read_table([column.name], PICKS)[column.name].numpy()
                assert array.tobytes() == b"".join(column.cells[row] for row in chosen)

        in_fork(check)
        again = pickle.loads(pickle.dumps(f))
        with again:
            assert_column(again[1].read_table(["C1"], PICKS)["C1"], SLOW["C1"], chosen)


def test_many_threads_read_rows(path):
    wrong = []

    def work(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(15):
            picks = rng.integers(-NROWS, NROWS, 40)
            try:
                found = f[1].read_table(rows=picks, ragged="offsets")
                for column in SLOW.columns:
                    assert_column(found[column.name], column, (picks % NROWS).tolist())
            except Exception as error:
                wrong.append(error)

    with torchfits.open(path) as f:
        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


@pytest.mark.parametrize("mmap", [True, False])
def test_a_table_that_shrinks_is_noticed(tmp_path, mmap):
    fields = [Field("J", 10), Field("P", 1, "E")]
    path = tmp_path / "t.fits"
    path.write_bytes(random_table(fields, 20_000))
    for rows in (None, [0, 19_999], slice(0, None, 100)):
        path.write_bytes(random_table(fields, 20_000))
        with torchfits.open(path, mmap=mmap, cache=False) as f:
            f[1].read_table(rows=[5, 3])
            with path.open("r+b") as file:
                file.truncate(50_000)
            with pytest.raises(torchfits.FitsError) as caught:
                f[1].read_table(rows=rows)
            assert caught.value.path == str(path)
