"""Tables by every engine: what they read is what a slow reader, astropy and fitsio make of the same bytes."""

from __future__ import annotations

import gzip
import itertools

import fitsio
import numpy as np
import pytest
import torch
from astropy.io import fits
from astropy.table import Table
from hypothesis import given, settings
from hypothesis import strategies as st
from images import torch_threads
from tables import (
    CONVENTION,
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
from test_oracles import FILES

import torchfits
from torchfits import FitsError, TableHDU

pytestmark = pytest.mark.native

LAST = 2**31 - 1


def read(path, engine: str, *args, mmap: bool = True, **options):
    with torchfits.open(path, engine=engine, mmap=mmap, cache=False) as f:
        return f[1].read_table(*args, **options)


def check(path, data: bytes, engines=ENGINES, **how) -> None:
    """A whole table by some engines against the slow reader."""
    slow = slow_table(data)
    for engine in engines:
        found = read(path, engine, **how)
        assert list(found) == [column.name for column in slow.columns]
        for column in slow.columns:
            assert_column(found[column.name], column)


# ---------------------------------------------------------------------------- every TFORM, one by one

PLAIN = [Field(code, n) for code in "LXBIJKAEDCM" for n in (0, 1, 2, 7, 8, 9, 33)]
SCALINGS = (("0.1", ""), ("", "-3.5"), ("-2.5D1", "1E-3"), ("1", "32769"), ("1E300", "-1E290"), ("1", "128"))
SCALED = [
    Field(code, 3, scale=scale, zero=zero, null=null)
    for code in "BIJKEDCM"
    for scale, zero in SCALINGS
    for null in ((None, 7) if code in "BIJK" else (None,))
]
OTHER_SIGNS = [
    Field(code, n, zero=zero, null=null)
    for code, number in CONVENTION.items()
    for n, zero, null in ((1, f"{number}", None), (5, f"{number}.0", None), (2, f"{number}", 7))
]
NULLS = [
    Field("B", 2, null=255), Field("I", null=-32768), Field("J", 4, null=-(2**31)), Field("K", null=-(2**63)),
    Field("K", 2, null=99), Field("I", null=99999), Field("B", null=-1),
]  # fmt: skip
SHAPED = [
    Field(code, 24, dims=dims)
    for code in "LXBIJKAEDCM"
    for dims in ((24,), (4, 6), (2, 3, 4), (2, 1, 3, 1, 4), (1,) * 12 + (24,), (5,), (3, 5))
] + [Field("E", 1, dims=(1,)), Field("A", 12, dims=(12, 1)), Field("X", 13, dims=(13, 1))]
RAGGED = [
    Field(form, repeat, element, longest=40, explicit=explicit)
    for form in "PQ"
    for element in "LXBIJKAEDCM"
    for repeat, explicit in ((1, True), (1, False), (0, True))
]
RAGGED_SCALED = [
    Field("P", 1, element, scale=scale, zero=zero, null=null)
    for element in "BIJKEDCM"
    for scale, zero in (("0.1", "-3.5"), ("", str(CONVENTION.get(element, 5))), ("", ""))
    for null in ((None, 7) if element in "BIJK" else (None,))
]
RAGGED_SHAPED = [
    Field("P", 1, element, dims=dims, longest=24) for element in "EJAX" for dims in ((2, 3), (6,))
]


def named(fields: list[Field]):
    def name(field: Field) -> str:
        more = "/".join(filter(None, (field.scale, field.zero)))
        null = "" if field.null is None else f" null {field.null}"
        return f"{field.tform}{list(field.dims) if field.dims else ''} {more}{null}".strip()

    return pytest.mark.parametrize("field", fields, ids=map(name, fields))


def between(field: Field) -> list[Field]:
    """A column with neighbours on both sides, at an odd place of the row."""
    return [Field("B"), Field("I"), field, Field("J"), Field("X", 3)]


@pytest.mark.parametrize("engine", ENGINES)
@named([*PLAIN, *SCALED, *OTHER_SIGNS, *NULLS, *SHAPED])
def test_every_form(tmp_path, engine, field):
    path = tmp_path / "t.fits"
    data = random_table(between(field), 70)
    path.write_bytes(data)
    check(path, data, [engine])


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("heaped", ["packed", "apart", "shuffled", "shared"])
@named(RAGGED)
def test_every_ragged_form(tmp_path, engine, heaped, field):
    path = tmp_path / "t.fits"
    data = random_table(between(field), 70, heaped=heaped)
    path.write_bytes(data)
    check(path, data, [engine])


@pytest.mark.parametrize("engine", ENGINES)
@named([*RAGGED_SCALED, *RAGGED_SHAPED])
def test_ragged_columns_scaled_and_shaped(tmp_path, engine, field):
    path = tmp_path / "t.fits"
    data = random_table(between(field), 70)
    path.write_bytes(data)
    check(path, data, [engine])


@named([f for f in [*PLAIN, *SCALED[::3], *OTHER_SIGNS, *SHAPED[::2]] if f.repeat])
def test_variants_of_the_kernels(tmp_path, variant, field):
    """Widths of one to many vectors, in enough rows for the fast loops and their ends."""
    path = tmp_path / "t.fits"
    data = random_table(between(field), 259)
    path.write_bytes(data)
    slow = slow_table(data)
    for rows in (slice(None), slice(1, None, 3), slice(3, 4)):
        found = read(path, "auto", rows=rows)
        for column in slow.columns:
            assert_column(found[column.name], column, range(259)[rows])


# ---------------------------------------------------------------------------- any table


def some_fields():
    small = st.sampled_from([0, 1, 1, 1, 2, 3, 5, 8, 9, 17, 64])
    numbers = st.sampled_from(
        [("", ""), ("", ""), ("", ""), ("0.5", ""), ("1", "-1.0"), ("1E-3", "2.5D2"), ("3", "7")]
    )
    null = st.sampled_from([None, None, 0, 7, -1, -32768, 255])

    @st.composite
    def one(draw) -> Field:
        code = draw(st.sampled_from("LXBIJKAEDCM"))
        scale, zero = draw(numbers) if code in "BIJKEDCM" else ("", "")
        if code in "BIJK" and draw(st.integers(0, 4)) == 0:
            scale, zero = draw(st.sampled_from(["", "1.0"])), str(CONVENTION[code])
        options = {"scale": scale, "zero": zero, "null": draw(null) if code in "BIJK" else None}
        if draw(st.integers(0, 3)) == 0:
            longest = draw(st.integers(1, 40))
            return Field(draw(st.sampled_from("PQ")), 1, code, longest=longest, **options)
        repeat = draw(small)
        dims = {8: (2, 4), 9: (3, 2), 64: (4, 2, 8)}.get(repeat, ()) if draw(st.booleans()) else ()
        return Field(code, repeat, dims=dims, explicit=draw(st.booleans()), **options)

    return st.lists(one(), min_size=1, max_size=6)


@st.composite
def some_tables(draw):
    fields, nrows = draw(some_fields()), draw(st.sampled_from([0, 1, 2, 13, 65]))
    heaped = draw(st.sampled_from(["packed", "apart", "shuffled", "shared"]))
    return random_table(fields, nrows, draw(st.integers(0, 2**32)), heaped), len(fields), nrows


def written(factory, data: bytes, packed: bool):
    path = factory.mktemp("any") / ("t.fits.gz" if packed else "t.fits")
    path.write_bytes(gzip.compress(data, 1) if packed else data)
    return path


COLUMN_CHOICE = st.lists(st.integers(0, 5), max_size=8) | st.none()
SLICES = st.builds(
    slice, *[st.integers(-80, 80) | st.none()] * 2, st.integers(1, 70) | st.none() | st.just(2**62)
)


@given(
    made=some_tables(),
    choice=COLUMN_CHOICE,
    rows=SLICES | st.none(),
    packed=st.booleans(),
    mmap=st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_any_columns_and_slices(tmp_path_factory, made, choice, rows, packed, mmap):
    data, count, nrows = made
    path = written(tmp_path_factory, data, packed)
    slow = slow_table(data)
    columns = None if choice is None else [f"c{i % count + 1}" for i in choice]
    wanted = slow.columns if columns is None else [slow[name.upper()] for name in dict.fromkeys(columns)]
    chosen = range(nrows)[rows or slice(None)]
    results = [read(path, engine, columns, rows, mmap=mmap) for engine in ("auto", "cfitsio")]
    for found in results:
        assert list(found) == [column.name for column in wanted]
        for column in wanted:
            assert_column(found[column.name], column, chosen)
    for name, tensor in results[0].items():
        assert_equal_bits(tensor, results[1][name])
    path.unlink()


@given(made=some_tables(), picks=st.lists(st.integers(-(2**31), LAST), max_size=100), packed=st.booleans(),
       mmap=st.booleans(), ragged=st.sampled_from(["nested", "offsets"]))  # fmt: skip
@settings(max_examples=100, deadline=None)
def test_any_rows_in_any_order(tmp_path_factory, made, picks, packed, mmap, ragged):
    data, _, nrows = made
    path = written(tmp_path_factory, data, packed)
    picks = [pick % (2 * nrows) - nrows for pick in picks] if nrows else []
    chosen = [pick % nrows for pick in picks]
    results = [
        read(path, engine, rows=picks, mmap=mmap, ragged=ragged) for engine in ("auto", "direct", "cfitsio")
    ]
    for found in results:
        for column in slow_table(data).columns:
            assert_column(found[column.name], column, chosen)
            assert isinstance(found[column.name], tuple) == (
                column.lengths is not None and ragged == "offsets"
            )
    for found, name in itertools.product(results, results[0]):
        assert_equal_bits(found[name], results[0][name])
    path.unlink()


@given(made=some_tables(), rows=SLICES | st.none(), packed=st.booleans(), mmap=st.booleans())
@settings(max_examples=80, deadline=None)
def test_any_nulls(tmp_path_factory, made, rows, packed, mmap):
    data, _, nrows = made
    path = written(tmp_path_factory, data, packed)
    chosen = range(nrows)[rows or slice(None)]
    slow, real = slow_table(data), slow_table(data, nan_nulls=True)
    for engine in ENGINES:
        found = read(path, engine, rows=rows, nulls="nan", mmap=mmap)
        for column in real.columns:
            assert_column(found[column.name], column, chosen)
        found, masks = read(path, engine, rows=rows, nulls="mask", mmap=mmap)
        assert list(masks) == [column.name for column in slow.columns if column.nulls is not None]
        for column in slow.columns:
            assert_column(found[column.name], column, chosen)
        for name, mask in masks.items():
            assert_nulls(mask, slow[name], chosen)
    path.unlink()


# ---------------------------------------------------------------------------- large and odd ones

MANY_ROWS = 12_345
MANY = [
    Field("L"), Field("X", 11), Field("B", 3), Field("I"), Field("J", zero="2147483648"), Field("K", null=7),
    Field("A", 5), Field("E"), Field("D", 2), Field("C"), Field("M"), Field("I", scale="0.1", null=7),
    Field("P", 1, "E"), Field("Q", 1, "I", scale="0.5"), Field("P", 1, "A"), Field("P", 1, "X"),
]  # fmt: skip


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    data = random_table(MANY, MANY_ROWS, heaped="apart")
    path = tmp_path_factory.mktemp("many") / "t.fits"
    path.write_bytes(data)
    return path, slow_table(data)


@pytest.mark.parametrize("mmap", [True, False])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("rows", [None, slice(5, None, 7), slice(4000, 12_000)], ids=str)
def test_many_rows(many, variant, threads, mmap, rows):
    path, slow = many
    chosen = range(MANY_ROWS)[rows or slice(None)]
    with torch_threads(threads):
        found = read(path, "auto", rows=rows, mmap=mmap)
    for column in slow.columns:
        assert_column(found[column.name], column, chosen)


@pytest.mark.parametrize("mmap", [True, False])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("how", ["shuffled", "sorted", "clustered", "one row", "backwards"])
def test_many_rows_in_any_order(many, variant, threads, mmap, how):
    path, slow = many
    rng = np.random.default_rng(4)
    picks = {
        "shuffled": rng.integers(-MANY_ROWS, MANY_ROWS, 6000),
        "sorted": np.sort(rng.integers(0, MANY_ROWS, 6000)),
        "clustered": (rng.integers(0, 40, 60)[:, None] * 300 + np.arange(50)).ravel(),
        "one row": np.full(3000, 77),
        "backwards": np.arange(MANY_ROWS)[::-1],
    }[how]
    with torch_threads(threads):
        found = read(path, "direct", rows=torch.from_numpy(picks.copy()), mmap=mmap)
    for column in slow.columns:
        assert_column(found[column.name], column, (picks % MANY_ROWS).tolist())


@pytest.mark.parametrize("engine", ENGINES)
def test_one_column_of_many(many, engine):
    path, slow = many
    for column in slow.columns:
        assert_column(read(path, engine, [column.name])[column.name], column)


PLAIN_TYPES = [("A", ">i8"), ("B", ">f8"), ("C", ">f4"), ("D", ">i2"), ("E", "u1"), ("F", ">f4", (3,))]


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """12 MB, so that several threads have several blocks each."""
    array = np.frombuffer(np.random.default_rng(2).bytes(350_000 * 35), dtype=PLAIN_TYPES)
    fields = [Field("K"), Field("D"), Field("E"), Field("I"), Field("B"), Field("E", 3)]
    path = tmp_path_factory.mktemp("large") / "t.fits"
    path.write_bytes(file_of(binary_table(fields, array.tobytes(), len(array))))
    return path, array


def native_bytes(array: np.ndarray) -> bytes:
    return np.ascontiguousarray(array).astype(array.dtype.newbyteorder("=")).tobytes()


def same_as_array(found: dict, array: np.ndarray) -> None:
    assert array.dtype.names is not None
    for name, tensor in found.items():
        column = array[array.dtype.names[int(name[1:]) - 1]]
        swapped = np.ascontiguousarray(column).view(f"u{column.dtype.itemsize}")
        swapped = swapped if swapped.itemsize == 1 else swapped.byteswap()
        assert tensor.numpy().tobytes() == swapped.tobytes(), name


@pytest.mark.parametrize("mmap", [True, False])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("columns", [None, ["C3"], ["C6", "C1"], ["C5", "C4"]], ids=str)
def test_a_large_table(large, variant, threads, mmap, columns):
    path, array = large
    with torch_threads(threads):
        same_as_array(read(path, "auto", columns, mmap=mmap), array)
        same_as_array(read(path, "auto", columns, slice(1, None, 2), mmap=mmap), array[1::2])


@pytest.mark.parametrize("mmap", [True, False])
@pytest.mark.parametrize("threads", [1, 2])
def test_rows_of_a_large_table(large, variant, threads, mmap):
    path, array = large
    picks = np.random.default_rng(3).integers(-len(array), len(array), 50_000)
    with torch_threads(threads):
        same_as_array(read(path, "direct", rows=torch.from_numpy(picks), mmap=mmap), array[picks])
        close = np.sort(picks % 1000)
        same_as_array(read(path, "direct", ["C2", "C6"], torch.from_numpy(close), mmap=mmap), array[close])


@pytest.mark.parametrize("mmap", [True, False])
@pytest.mark.parametrize("engine", ENGINES)
def test_999_columns(tmp_path, engine, mmap):
    fields = [Field("LXBIJKAEDCM"[i % 11], 1 + i % 3) for i in range(999)]
    data = random_table(fields, 9)
    path = tmp_path / "t.fits"
    path.write_bytes(data)
    check(path, data, [engine], mmap=mmap)
    slow = slow_table(data)
    found = read(path, engine, ["C998", "C2", "C500"], slice(1, 8, 3), mmap=mmap)
    for name in ("C998", "C2", "C500"):
        assert_column(found[name], slow[name], [1, 4, 7])


@pytest.mark.parametrize("mmap", [True, False])
@pytest.mark.parametrize("engine", ENGINES)
def test_rows_of_100_kilobytes(tmp_path, engine, mmap):
    fields = [
        Field("J"),
        Field("E", 12_000, dims=(100, 120)),
        Field("I"),
        Field("A", 50_001),
        Field("X", 4001),
    ]
    data = random_table(fields, 31)
    path = tmp_path / "t.fits"
    path.write_bytes(data)
    slow = slow_table(data)
    for columns, rows in ((None, None), (["C1", "C3"], None), (["C5", "C2"], slice(2, None, 5))):
        found = read(path, engine, columns, rows, mmap=mmap)
        for name, tensor in found.items():
            assert_column(tensor, slow[name], range(31)[rows or slice(None)])
    found = read(path, engine, rows=[30, 0, -1, 7], mmap=mmap)
    for column in slow.columns:
        assert_column(found[column.name], column, [30, 0, 30, 7])


EMPTY_FIELDS = [Field(code, 0) for code in "LXBIJKAEDCM"] + [Field("P", 0, "E"), Field("Q", 0, "A")]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("fields", "nrows"),
    [([*EMPTY_FIELDS, Field("I")], 20), (EMPTY_FIELDS, 20), (EMPTY_FIELDS, 0), (MANY, 0), ([], 0), ([], 20)],
    ids=["some without width", "all without width", "nothing", "no rows", "no columns", "rows of no columns"],
)
def test_what_is_empty(tmp_path, engine, fields, nrows):
    data = random_table(fields, nrows)
    path = tmp_path / "t.fits"
    path.write_bytes(data)
    check(path, data, [engine])
    slow = slow_table(data)
    lists = ([], [3, -1, 3] if nrows else [])
    for rows, chosen in (
        (slice(5, 5), []),
        *((each, [row % max(nrows, 1) for row in each]) for each in lists),
    ):
        found = read(path, engine, rows=rows)
        for column in slow.columns:
            assert_column(found[column.name], column, chosen)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_heap_of_large_arrays(tmp_path, engine):
    """Arrays that are longer than any block, between short and empty ones."""
    rng = np.random.default_rng(8)
    lengths = [3, 300_000, 0, 1, 700_001, 0, 5]
    offsets = np.cumsum([11, *(4 * n for n in lengths)])[:-1]
    heap = rng.bytes(11) + rng.integers(-(2**31), 2**31, sum(lengths), dtype="i4").astype(">i4").tobytes()
    rows = np.stack([lengths, offsets], axis=1).astype(">i4").tobytes()
    path = tmp_path / "t.fits"
    path.write_bytes(file_of(binary_table([Field("P", 1, "J")], rows, len(lengths), heap)))
    numbers = np.frombuffer(heap, ">i4", offset=11)
    for mmap, threads in itertools.product((True, False), (1, 2)):
        with torch_threads(threads):
            values, bounds = parts_of(read(path, engine, mmap=mmap)["C1"])
        assert bounds == [0, *itertools.accumulate(lengths)]
        assert np.array_equal(values.numpy(), numbers)
        values, bounds = parts_of(read(path, engine, rows=slice(1, None, 3), mmap=mmap)["C1"])
        assert bounds == [0, 300_000, 1_000_001]
        assert np.array_equal(values.numpy(), np.r_[numbers[3:300_003], numbers[300_004:1_000_005]])


@pytest.mark.parametrize("engine", ENGINES)
def test_a_heap_of_more_than_31_bits(tmp_path, engine):
    """cfitsio writes P descriptors up to 4 GiB, without a sign. The file has holes."""
    far = 2**31 + 8
    rows = np.array([[1, 0], [2, far], [0, 2**32 - 1], [1, far + 4]]).astype(">u4").tobytes()
    data = file_of(binary_table([Field("P", 1, "J")], rows, 4, PCOUNT=far + 8))
    start = len(data) - 2880 + len(rows)
    path = tmp_path / "t.fits"
    path.write_bytes(data[:start])
    with path.open("r+b") as file:
        for offset, numbers in ((0, [7]), (far, [-1, 2**31 - 1])):
            file.seek(start + offset)
            file.write(np.array(numbers, ">i4").tobytes())
        file.truncate(start + far + 8 + -(start + far + 8) % 2880)
    for mmap in (True, False):
        values, bounds = parts_of(read(path, engine, mmap=mmap)["C1"])
        assert (bounds, values.tolist()) == ([0, 1, 3, 3, 4], [7, -1, 2**31 - 1, 2**31 - 1])
        values, bounds = parts_of(read(path, engine, rows=[3, 0], mmap=mmap)["C1"])
        assert (bounds, values.tolist()) == ([0, 1, 2], [2**31 - 1, 7])


@pytest.mark.parametrize("engine", ENGINES)
def test_bytes_between_the_rows_and_the_heap(tmp_path, engine):
    fields = [Field("J"), Field("P", 1, "I")]
    rows, heap = random_rows(fields, 50)
    for gap in (0, 1, 2880, 100_003):
        data = file_of(binary_table(fields, rows, 50, heap, gap))
        path = tmp_path / f"{gap}.fits"
        path.write_bytes(data)
        check(path, data, [engine])


@pytest.mark.parametrize("engine", ENGINES)
def test_only_bytes_that_are_there_are_needed(tmp_path, engine):
    """The last row ends with the file, which is not padded."""
    fields = [Field("B"), Field("J", 3), Field("I")]
    data = file_of(binary_table(fields, random_rows(fields, 101)[0], 101))
    path = tmp_path / "t.fits"
    path.write_bytes(data[: len(data) - (-101 * 15 % 2880)])
    for mmap in (True, False):
        check(path, data, [engine], mmap=mmap)


def test_which_engine_reads_tables(tmp_path):
    path = tmp_path / "t.fits"
    path.write_bytes(random_table(MANY, 3))
    with torchfits.open(path) as f, torchfits.open(path, engine="cfitsio") as g:
        assert (f[1].engine, g[1].engine) == ("direct", "cfitsio")


def test_direct_needs_no_cfitsio_for_tables(tmp_path, monkeypatch):
    data = random_table(MANY, 30)
    path = tmp_path / "t.fits"
    path.write_bytes(data)

    class Broken:
        def __init__(self, *_, **__):
            raise AssertionError("cfitsio was asked")

    monkeypatch.setattr(torchfits.cache, "Handle", Broken)
    check(path, data, ["auto", "direct"])


# ---------------------------------------------------------------------------- astropy and fitsio


def astropy_columns(rng: np.random.Generator, n: int) -> list[fits.Column]:
    ragged = np.empty(n, dtype=object)
    ragged[:] = [rng.normal(size=int(i)).astype("f4") for i in rng.integers(0, 9, n)]
    words = np.empty(n, dtype=object)
    words[:] = [rng.integers(-99, 99, int(i)).astype("i2") for i in rng.integers(0, 9, n)]
    counts = rng.integers(0, 2**16, n).astype("u2")
    return [
        fits.Column("L", "L", array=rng.integers(0, 2, n).astype(bool)),
        fits.Column("X", "11X", array=rng.integers(0, 2, (n, 11)).astype(bool)),
        fits.Column("B", "B", array=rng.integers(0, 256, n).astype("u1")),
        fits.Column("SB", "B", bzero=-128, array=rng.integers(-128, 128, n).astype("i1")),
        fits.Column("I", "2I", array=rng.integers(-(2**15), 2**15, (n, 2)).astype("i2")),
        fits.Column("UI", "I", bzero=2**15, array=counts),
        fits.Column("J", "J", null=-99, array=rng.choice([-99, 5, 2**31 - 1], n).astype("i4")),
        fits.Column("UJ", "J", bzero=2**31, array=counts.astype("u4") * 65537),
        fits.Column("K", "K", array=rng.integers(-(2**63), 2**63 - 1, n)),
        fits.Column("UK", "K", bzero=2**63, array=rng.integers(0, 2**63, n).astype("u8") * 2),
        fits.Column("A", "9A", array=[f"name {i}" for i in range(n)]),
        fits.Column("E", "E", array=rng.normal(size=n).astype("f4")),
        fits.Column("D", "6D", dim="(3,2)", array=rng.normal(size=(n, 2, 3))),
        fits.Column("C", "C", array=(rng.normal(size=n) + 1j * rng.normal(size=n)).astype("c8")),
        fits.Column("M", "2M", array=rng.normal(size=(n, 2)) + 1j * rng.normal(size=(n, 2))),
        fits.Column("P", "PE()", array=ragged),
        fits.Column("Q", "QI()", array=words),
    ]


@pytest.fixture(scope="module")
def of_astropy(tmp_path_factory):
    path = tmp_path_factory.mktemp("astropy") / "t.fits"
    hdu = fits.BinTableHDU.from_columns(astropy_columns(np.random.default_rng(9), 333))
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path)
    return path


def same_values(found: object, theirs, rows: np.ndarray) -> None:
    values, bounds = parts_of(found)
    if bounds is not None:
        for row, (i, j) in zip(rows, itertools.pairwise(bounds), strict=True):
            array = np.asarray(theirs[row])
            assert values[i:j].numpy().tobytes() == native_bytes(array)
        return
    theirs = np.asarray(theirs)[rows]
    if theirs.dtype.kind in "SU":
        texts = theirs if theirs.dtype.kind == "U" else np.char.decode(theirs, "ascii")
        assert torchfits.strings(values) == [text.rstrip() for text in texts.tolist()]
        return
    if values.dtype == torch.int8:  # a scaled column to astropy
        theirs = theirs.astype("i1")
    assert values.numpy().dtype == theirs.dtype.newbyteorder("=")
    assert values.numpy().shape == theirs.shape
    assert values.numpy().tobytes() == native_bytes(theirs)


PICKS = np.array([5, -1, 0, 5, 200, 17, -333])


@pytest.mark.parametrize("rows", [slice(None), slice(3, 200, 7), PICKS], ids=["all", "slice", "list"])
@pytest.mark.parametrize("engine", ENGINES)
def test_astropy_agrees(of_astropy, engine, rows):
    with fits.open(of_astropy, memmap=False) as f:
        data = f[1].data
        found = read(of_astropy, engine, rows=rows)
        assert list(found) == list(data.names)
        for name, tensor in found.items():
            same_values(tensor, data[name], np.arange(333)[rows])


@pytest.mark.parametrize("engine", ENGINES)
def test_tables_of_astropy_agree(of_astropy, engine):
    table = Table.read(of_astropy, 1)
    found, masks = read(of_astropy, engine, ["J", "L", "E"], nulls="mask")
    assert list(masks) == ["J", "L"]
    assert np.array_equal(masks["J"].numpy(), table["J"].mask)
    assert not masks["L"].any()
    assert np.array_equal(found["J"].numpy()[~table["J"].mask], table["J"].compressed())
    assert found["E"].numpy().tobytes() == native_bytes(np.asarray(table["E"]))


@pytest.mark.parametrize("rows", [slice(None), np.array([3, 30, 31, 200])], ids=["all", "list"])
@pytest.mark.parametrize("engine", ENGINES)
def test_fitsio_agrees(of_astropy, engine, rows):
    with fitsio.FITS(of_astropy, vstorage="object") as f:
        # bits are bytes to fitsio, and it warns of signed bytes
        names = [name for name in f[1].get_colnames() if name not in ("X", "SB")]
        found = read(of_astropy, engine, names, rows)
        for name in names:
            every = f[1].read(columns=[name])[name]
            same_values(found[name], every, np.arange(333)[rows])


# ---------------------------------------------------------------------------- real tables


def _is_for_all(path) -> bool:
    return path.stat().st_size < 8 << 20 and path.suffix != ".Z"


TABLES = sorted(name for name, path in FILES.items() if _is_for_all(path))


def outcome(hdu: TableHDU, *args, **options):
    try:
        return hdu.read_table(*args, **options)
    except FitsError as error:
        return type(error)


def compare(mine, reference) -> None:
    if isinstance(mine, type) or isinstance(reference, type):
        assert mine is reference
        return
    assert list(mine) == list(reference)
    for name in mine:
        assert_equal_bits(mine[name], reference[name])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", TABLES)
def test_real_tables_are_the_same_by_all_engines(name):
    """Column by column, so that one that is refused does not hide the others."""
    files = [torchfits.open(FILES[name], engine=engine, cache=False) for engine in ENGINES]
    try:
        for index in range(60):
            try:
                hdus = [f[index] for f in files]
            except FitsError:
                break
            if not isinstance(hdus[0], TableHDU):
                continue
            try:
                nrows, columns = hdus[0].nrows, hdus[0].columns
            except FitsError:
                continue
            if hdus[0]._hdu.header.get("ZTABLE"):
                continue  # test_compressed_tables has them
            picks = [0, -1, nrows // 2, 0, nrows // 3] if nrows else []
            binary = hdus[0].read_header()["XTENSION"].strip() != "TABLE"
            chosen = list(range(len(columns)))[:: max(len(columns) // 40, 1)]
            for column, rows in itertools.product(chosen, (None, slice(1, None, 3), picks)):
                found = [outcome(hdu, [column], rows) for hdu in hdus]
                compare(found[0], found[2])
                if binary:
                    compare(found[1], found[2])
            compare(outcome(hdus[0]), outcome(hdus[2]))
    finally:
        for f in files:
            f.close()


SLOW = [name for name in TABLES if FILES[name].suffix != ".gz"]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SLOW)
def test_real_tables_are_what_a_slow_reader_finds(name):
    data = FILES[name].read_bytes()
    try:
        file = torchfits.open(FILES[name], cache=False)
        hdus = [hdu for hdu in file if isinstance(hdu, TableHDU)]
    except FitsError:
        pytest.skip("refused as a whole, which test_oracles compares")
    with file:
        for hdu in hdus[:60]:
            # the slow reader knows neither text nor tiles
            if hdu._hdu.kind == "table" or hdu._hdu.header.get("ZTABLE"):
                continue
            nrows = hdu.nrows
            rows = sorted({*range(min(nrows, 4)), *range(max(nrows - 4, 0), nrows)})
            for column in range(0, len(hdu.columns), max(len(hdu.columns) // 40, 1)):
                if isinstance(outcome(hdu, [column], slice(0, 1)), type):
                    continue
                (slow,) = slow_table(data, hdu.index, only=rows, columns=[column]).columns
                (first,) = hdu.read_table([column], slice(0, 4)).values()
                assert_column(first, slow, range(min(nrows, 4)))
                if nrows > 8:
                    (last,) = hdu.read_table([column], slice(nrows - 4, None)).values()
                    assert_column(last, slow, range(4, 8))
