"""Hostile tables, asked in every way by every engine: a typed error that says where, or the right values.

Everything is read in forked children, under limits of time and memory.
"""

from __future__ import annotations

import gzip
import os
import resource
import struct
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import malformed_cases
import malformed_tiles
import numpy as np
import pytest
import torch
from images import SANITIZED, in_fork
from malformed import Case, between, header, heap_table, image, pad, table, table_cards
from probe import resident
from tables import ENGINES, Field, assert_equal_bits, parts_of, random_table

import torchfits
from torchfits import FitsError, FitsFormatError, FitsUnsupported, SectionError, TableHDU

pytestmark = pytest.mark.native
MEMORY = 96 << 20

WAYS: dict[str, Callable[[TableHDU], Any]] = {
    "columns": lambda hdu: [(column.name, column.shape) for column in hdu.columns],
    "all": lambda hdu: hdu.read_table(),
    "slice": lambda hdu: hdu.read_table(rows=slice(0, 5, 2)),
    "list": lambda hdu: hdu.read_table(rows=[-1, 0, 0]),
    "no rows": lambda hdu: hdu.read_table(rows=[]),
    "nan": lambda hdu: hdu.read_table(nulls="nan"),
    "mask": lambda hdu: hdu.read_table(rows=[0, -1], nulls="mask", ragged="offsets"),
    "first batch": lambda hdu: next(iter(hdu.iter_table(batch_rows=2, prefetch=0)), None),
    "batch ahead": lambda hdu: next(iter(hdu.iter_table(batch_rows=1, prefetch=1)), None),
    "column": lambda hdu: hdu["A"],
    "last column": lambda hdu: hdu.read_table([len(hdu.columns) - 1], [0]),
    "where": lambda hdu: hdu.read_table(["A"], where="A == 1"),
}


def limited(check: Callable[[], None]) -> None:
    """`check` in a child that may take 20 s of work, some memory, and must leave no descriptor open."""

    def run() -> None:
        torch.set_num_threads(1)
        resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
        if not SANITIZED:
            limit = resident("VmData") + (1 << 30)
            resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
        before, memory = len(os.listdir("/proc/self/fd")), resident("VmRSS")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.simplefilter("ignore", torchfits.FitsWarning)
            check()
        torchfits.cache_clear()
        assert len(os.listdir("/proc/self/fd")) == before, "descriptors left open"
        if not SANITIZED:
            assert resident("VmHWM") - memory < MEMORY, "memory"

    in_fork(run)


def outcome(path: Path, hdu: TableHDU, way: str) -> Any:
    """What a way gives, or its FitsError, which says where; any other exception goes on."""
    try:
        return WAYS[way](hdu)
    except FitsError as error:
        if (error.path, error.hdu) == (str(path), hdu.index):
            return error
        raise


def tables_of(path: Path, engine: str) -> Iterator[TableHDU]:
    with torchfits.open(path, engine=engine, cache=False) as f:
        for index in range(3):
            try:
                hdu = f[index]
            except FitsError:
                return
            if isinstance(hdu, TableHDU):
                yield hdu


def same(one: Any, other: Any) -> None:
    """Two outcomes are the same to the bit, or both refuse."""
    if isinstance(one, FitsError) or isinstance(other, FitsError):
        assert isinstance(one, FitsError), other
        assert isinstance(other, FitsError), (one, other)
    elif isinstance(one, dict):
        assert list(one) == list(other)
        for name in one:
            assert_equal_bits(one[name], other[name])
    elif isinstance(one, tuple) and isinstance(one[0], dict):
        for mine, theirs in zip(one, other, strict=True):
            same(mine, theirs)
    elif isinstance(one, (torch.Tensor, tuple)):
        assert_equal_bits(one, other)
    else:
        assert one == other


def check_all_ways(path: Path) -> None:
    found: dict[tuple[int, str], list] = {}
    for engine in ENGINES:
        for hdu in tables_of(path, engine):
            for way in WAYS:
                found.setdefault((hdu.index, way), []).append(outcome(path, hdu, way))
    for (index, way), (auto, direct, reference) in found.items():
        # cfitsio refuses some headers of which there is but one way to read them
        refused = isinstance(reference, FitsError) and "cfitsio cannot read the header" in str(reference)
        for other in (direct,) if refused else (direct, reference):
            try:
                same(auto, other)
            except AssertionError as error:
                raise AssertionError(f"HDU {index}, {way}: the engines differ: {error}") from error


# ---------------------------------------------------------------------------- what is known to be bad


def is_small(case: Case) -> bool:
    return case.memory <= 1 << 27 and case.seconds <= 2


KNOWN = [case for case in malformed_cases.CASES + malformed_tiles.CASES if is_small(case)]
CHUNK = 40


@pytest.mark.parametrize("first", range(0, len(KNOWN), CHUNK))
def test_every_way_into_every_bad_table(tmp_path, first):
    """The cases of test_bad_input, asked for in the ways that it does not know."""
    current = tmp_path / "case"
    current.write_text("before any")
    files = [(case.name, case.build()) for case in KNOWN[first : first + CHUNK]]
    files = [(name, data) for name, data in files if b"TFIELDS " in data]

    def check() -> None:
        for name, data in files:
            current.write_text(name)
            path = tmp_path / "bad.fits"
            path.write_bytes(data)
            check_all_ways(path)

    try:
        limited(check)
    except AssertionError as error:
        raise AssertionError(f"{current.read_text()}: {error}") from error


@pytest.mark.parametrize("packed", [False, True])
def test_cut_anywhere(tmp_path, packed):
    fields = [Field("J"), Field("A", 300), Field("P", 1, "E"), Field("L", 3)]
    whole = random_table(fields, 20)
    path = tmp_path / ("cut.fits.gz" if packed else "cut.fits")
    current = tmp_path / "cut"

    def check() -> None:
        path.write_bytes(gzip.compress(whole) if packed else whole)
        ((_, expected),) = [(hdu, hdu.read_table()) for hdu in tables_of(path, "auto")]
        for cut in range(2880, len(whole), 777):
            current.write_text(str(cut))
            path.write_bytes(gzip.compress(whole[:cut], 1) if packed else whole[:cut])
            check_all_ways(path)
            for hdu in tables_of(path, "auto"):
                found = outcome(path, hdu, "all")
                # but for padding, everything is there or nothing is read
                if not isinstance(found, FitsError):
                    same(found, expected)
                    assert len(whole) - cut < 2880

    try:
        limited(check)
    except AssertionError as error:
        raise AssertionError(f"cut at {current.read_text()}: {error}") from error


@pytest.mark.parametrize("seed", range(8))
def test_mutated_tables_are_the_same_to_all_engines_or_refused(tmp_path, seed):
    """Bytes of headers, rows and descriptors changed at random."""
    path = tmp_path / "bad.fits"

    def check() -> None:
        random = np.random.default_rng(seed)
        kinds = [
            [Field("J"), Field("I", null=7), Field("P", 1, "J")],
            [Field("E", 6, dims=(3, 2)), Field("Q", 1, "X"), Field("X", 9)],
            [Field("P", 1, "A"), Field("B", scale="0.5"), Field("K", zero="9223372036854775808", null=3)],
            [Field("L", 2), Field("M"), Field("P", 1, "I", scale="2", null=1), Field("A", 3)],
        ]
        read = 0
        for i in range(60):
            data = bytearray(
                random_table(kinds[i % 4], 5, seed=i, heaped=["packed", "apart", "shared"][i % 3])
            )
            rows = 5760
            for _ in range(random.integers(1, 4)):
                if random.random() < 0.6:  # the keywords of a table
                    data[2880 + random.integers(0, 26 * 80)] = random.integers(32, 127)
                else:
                    data[rows + random.integers(0, 200)] = random.integers(0, 256)
            path.write_bytes(data)
            check_all_ways(path)
            for hdu in tables_of(path, "direct"):
                read += not isinstance(outcome(path, hdu, "all"), FitsError)
        assert read > 15

    try:
        limited(check)
    except AssertionError:
        if path.exists():
            print(path.read_bytes()[2880:5760].decode("latin-1"))
        raise


# ---------------------------------------------------------------------------- one by one

HEAP = struct.pack(">5i", *range(5))
# of a column B, the second row
BAD_DESCRIPTORS = {
    "negative length": ("PJ(3)", (-1, 0)),
    "negative offset": ("PJ(3)", (1, -4)),
    "past the end": ("PJ(3)", (3, 12)),
    "the lowest": ("PJ(3)", (-(2**31), -(2**31))),
    "the highest": ("PJ(3)", (2**31 - 1, 2**31 - 1)),
    "Q, times 4 is nothing": ("QJ(3)", (2**62, 0)),
    "Q, times 4 is small": ("QJ(3)", (2**62 + 1, 0)),
    "Q, times 8 is nothing": ("QD(3)", (2**61, 0)),
    "Q, times 16 is nothing": ("QM(3)", (2**60, 0)),
    "Q, the sum is small": ("QJ(3)", (1, 2**63 - 2)),
    "Q, the highest": ("QB(3)", (2**63 - 1, 2**63 - 1)),
    "Q, the lowest": ("QB(3)", (-(2**63), -(2**63))),
    "Q, bits": ("QX(3)", (2**63 - 1, 0)),
    "Q, bits, rounded up": ("QX(3)", (2**63 - 7, 0)),
    "bits, one too many": ("PX(3)", (161, 0)),
    "bits, at the end": ("PX(3)", (1, 20)),
    "text, one too many": ("PA(3)", (21, 0)),
    "complex": ("PC(3)", (3, 0)),
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", BAD_DESCRIPTORS)
def test_a_bad_descriptor_harms_its_row(tmp_path, engine, name):
    form, bad = BAD_DESCRIPTORS[name]
    path = tmp_path / "bad.fits"
    path.write_bytes(between(heap_table([(1, 0), bad, (0, 2**30), (1, 4)], HEAP, form)))

    def check() -> None:
        with torchfits.open(path, engine=engine, cache=False) as f:
            hdu = f[1]
            assert hdu["A"].tolist() == [0, 1, 2, 3]
            width = 8 if form[0] == "P" else 16
            start = path.read_bytes().index(
                struct.pack(">i", 0) + struct.pack(">ii" if width == 8 else ">qq", 1, 0)
            )
            for rows in (None, [1], [3, 1, 0], slice(1, 2), slice(0, None), torch.tensor([1, 1])):
                for columns in (None, ["B"]):
                    with pytest.raises(FitsFormatError, match="'B', row 1") as caught:
                        hdu.read_table(columns, rows)
                    assert (caught.value.path, caught.value.hdu) == (str(path), 1)
                    assert caught.value.offset == start + (4 + width) + 4
            for rows, lengths in (([3, 0], [1, 1]), ([2, 2, 0], [0, 0, 1]), (slice(2, None), [0, 1])):
                for ragged in ("nested", "offsets"):
                    _, bounds = parts_of(hdu.read_table(["B"], rows, ragged=ragged)["B"])
                    assert np.diff(bounds).tolist() == lengths
            assert hdu.read_table(["A"], [1])["A"].tolist() == [1]
            assert f[2].read().tolist() == [[0, 1, 2], [3, 4, 5]]

    limited(check)


BOMBS = [("PJ(5000)", 5000, 20000), ("QB(20000)", 20000, 20000), ("PX(160000)", 160000, 20000)]
BOMBS += [("PM(1000)", 1000, 16000), ("PA(9000)", 9000, 9000)]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("form", "size", "heap"), BOMBS)
def test_thousands_of_rows_onto_one_body(tmp_path, engine, form, size, heap):
    path = tmp_path / "bomb.fits"
    path.write_bytes(image() + heap_table([(size, 0)] * 20_000, bytes(heap), form))

    def check() -> None:
        with torchfits.open(path, engine=engine, cache=False) as f:
            for rows in (None, slice(0, None, 2), torch.arange(20_000)):
                for nulls in (None, "nan", "mask"):
                    with pytest.raises(FitsFormatError, match="overlap"):
                        f[1].read_table(["B"], rows, nulls=nulls)
            values, bounds = parts_of(f[1].read_table(["B"], [7])["B"])
            assert (len(values), bounds) == (size, [0, size])
            assert len(f[1]["A"]) == 20_000

    limited(check)


def lying(nrows: int, row_bytes: int, forms: tuple[str, ...], **changes: Any) -> bytes:
    """A table of which the header promises more than the file has."""
    return (
        image()
        + header(table_cards(forms, nrows, row_bytes, changes.pop("PCOUNT", 0), **changes))
        + pad(b"\1" * 99)
    )


LIES = {
    "a million rows": lying(10**6, 8, ("D",)),
    "2^40 rows": lying(2**40, 8, ("D",)),
    "2^59 rows": lying(2**59, 8, ("D",)),
    "2^60 rows of a byte": lying(2**60, 1, ("B",)),
    "a row of 100 MB": lying(1, 10**8, ("100000000B",)),
    "a row of 2^59 bytes": lying(1, 2**59, (f"{2**59}B",)),
    "a row of 2^57 doubles": lying(1, 2**60, (f"{2**57}D",)),
    "a row of 2^59 bits": lying(1, 2**56, (f"{2**59 - 1}X",)),
    "a row of text": lying(1, 2**50, (f"{2**50}A",)),
    "TDIM of 2^40": lying(1, 2**42, (f"{2**40}J",), TDIM1="(1048576,1048576)"),
    "a heap of 2^50": lying(3, 8, ("PE(9)",), PCOUNT=2**50),
    "a heap of 2^62": lying(3, 16, ("QE(9)",), PCOUNT=2**62),
    "THEAP = 2^62": lying(3, 8, ("PE(9)",), PCOUNT=2**62 + 99, THEAP=2**62),
    "many columns of a lot": lying(2**20, 4 * 999, ("J",) * 6, TFIELDS=6, TFORM1="994J"),
}  # fmt: skip


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", LIES)
def test_nothing_is_allocated_on_the_word_of_a_header(tmp_path, name, packed):
    path = tmp_path / ("lie.fits.gz" if packed else "lie.fits")
    path.write_bytes(gzip.compress(LIES[name]) if packed else LIES[name])

    def check() -> None:
        for engine in ENGINES:
            for hdu in tables_of(path, engine):
                for way in WAYS.keys() - {"columns", "no rows", "column", "where"}:
                    found = outcome(path, hdu, way)
                    assert isinstance(found, (FitsFormatError, FitsUnsupported)), (engine, way, found)
                if isinstance(outcome(path, hdu, "columns"), FitsError):
                    continue
                for rows in ([hdu.nrows - 1], [hdu.nrows], [-hdu.nrows], slice(hdu.nrows - 1, None)):
                    with pytest.raises(FitsError):
                        hdu.read_table(rows=rows)

    limited(check)


EMPTIES = {
    "no row of a terabyte": table(forms=("1099511627776B",), rows=b"", nrows=0, NAXIS1=2**40),
    "no row of many terabytes": table(forms=(f"{2**59}J",), rows=b"", nrows=0, NAXIS1=2**61),
    "no row of bits": table(forms=(f"{10**17}X",), rows=b"", nrows=0, NAXIS1=10**17 // 8),
    "rows of no columns": table(forms=(), rows=b"", nrows=2**60, NAXIS1=0),
    "rows of no width": table(forms=("0J",), rows=b"", nrows=2**50, NAXIS1=0),
    "rows of no text": table(forms=("0A",), rows=b"", nrows=2**62, NAXIS1=0),
    "rows of no bits and no logicals": table(forms=("0X", "0L"), rows=b"", nrows=2**40, NAXIS1=0),
    "rows of no arrays": table(forms=("0PJ",), rows=b"", nrows=2**50, NAXIS1=0),
    "rows of no arrays of bits": table(forms=("0QX(3)",), rows=b"", nrows=2**63 - 1, NAXIS1=0),
    "rows of zero by a lot": table(forms=("0E",), rows=b"", nrows=2**40, NAXIS1=0, TDIM1=f"(0,{2**60})"),
}


@pytest.mark.parametrize("name", EMPTIES)
def test_what_takes_no_bytes_takes_no_memory(tmp_path, name):
    path = tmp_path / "empty.fits"
    path.write_bytes(between(EMPTIES[name]))

    def check() -> None:
        check_all_ways(path)
        with torchfits.open(path, cache=False) as f:
            last = [f[1].nrows - 1]
            for rows in (last, slice(last[0], None)) if f[1].nrows else ():
                found = f[1].read_table(rows=rows)
                assert all(len(parts_of(each)[1] or [0, 0]) == 2 for each in found.values())
            with pytest.raises(SectionError):
                f[1].read_table(rows=[f[1].nrows])
            assert f[2].read().tolist() == [[0, 1, 2], [3, 4, 5]]

    limited(check)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "cards", [{"TSCAL1": 0}, {"TSCAL1": "x"}, {"TZERO1": b"NaN"}, {"TSCAL1": b"INF"}, {"TZERO1": b"1E999"},
              {"TSCAL1": True}, {"TSCAL1": b"1.0E"}, {"TZERO1": "0"}]
)  # fmt: skip
def test_a_bad_column_does_not_hide_the_others(tmp_path, engine, cards):
    path = tmp_path / "bad.fits"
    path.write_bytes(between(table(**cards)))

    def check() -> None:
        with torchfits.open(path, engine=engine, cache=False) as f:
            for options in (
                {},
                {"rows": [2, 0]},
                {"nulls": "nan"},
                {"nulls": "mask"},
                {"rows": slice(1, None)},
            ):
                for columns in (None, ["A"], ["B", "A"]):
                    with pytest.raises(FitsFormatError, match=next(iter(cards))) as caught:
                        f[1].read_table(columns, **options)
                    assert (caught.value.path, caught.value.hdu) == (str(path), 1)
            assert f[1]["B"].tolist() == [10, 20, 30]
            assert f[1].read_table(["B"], [2, 0])["B"].tolist() == [30, 10]
            assert [batch["B"].tolist() for batch in f[1].iter_table(["B"], 2)] == [[10, 20], [30]]
            assert len(f[1].columns) == 2

    limited(check)


HEAPS = {
    "THEAP in the rows": {"THEAP": 10},
    "THEAP behind the data": {"THEAP": 2**40},
    "THEAP at the end": {"THEAP": 24 + 20},
    "THEAP the highest": {"THEAP": 2**63 - 1},
    "THEAP negative": {"THEAP": -24},
    "THEAP beyond 64 bits": {"THEAP": 2**64 + 24},
    "PCOUNT smaller": {"PCOUNT": 8},
    "PCOUNT nothing": {"PCOUNT": 0},
    "PCOUNT negative": {"PCOUNT": -1},
    "PCOUNT beyond the file": {"PCOUNT": 2**40},
    "PCOUNT the highest": {"PCOUNT": 2**63 - 1},
    "PCOUNT beyond 64 bits": {"PCOUNT": 2**64},
}


@pytest.mark.parametrize("name", HEAPS)
def test_heaps_that_are_elsewhere(tmp_path, name):
    path = tmp_path / "bad.fits"
    path.write_bytes(image() + heap_table([(1, 0), (3, 8)], HEAP, **HEAPS[name]))

    def check() -> None:
        check_all_ways(path)
        for engine in ENGINES:
            with torchfits.open(path, engine=engine, cache=False) as f, pytest.raises(FitsError):
                f[1].read_table()

    limited(check)


@pytest.mark.parametrize("engine", ENGINES)
def test_arrays_may_overlap_and_reach_into_each_other(tmp_path, engine):
    path = tmp_path / "odd.fits"
    # unaligned, from before the end of the last one, and of no elements outside the heap
    path.write_bytes(image() + heap_table([(2, 0), (2, 4), (3, 1), (0, 10**6), (0, -5), (5, 0)], HEAP))
    with torchfits.open(path, engine=engine) as f:
        found = f[1]["B"].unbind()
        some = f[1].read_table(["B"], [2, 5, 2])["B"].unbind()
    shifted = [int.from_bytes(HEAP[i : i + 4], "big", signed=True) for i in (1, 5, 9)]
    expected = [[0, 1], [1, 2], shifted, [], [], [0, 1, 2, 3, 4]]
    assert [each.tolist() for each in found] == expected
    assert [each.tolist() for each in some] == [expected[2], expected[5], expected[2]]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("letter", "most", "offset"), [
    ("L", 20, 0), ("X", 160, 0), ("B", 20, 0), ("A", 20, 0), ("I", 10, 0), ("J", 5, 0), ("K", 2, 4),
    ("E", 5, 0), ("D", 2, 4), ("C", 2, 4), ("M", 1, 4),
])  # fmt: skip
def test_an_array_ends_where_the_heap_does_at_the_latest(tmp_path, engine, letter, most, offset):
    path = tmp_path / "edge.fits"
    for descriptor in ((most, offset), (most, offset + 1), (most + 1, 0), (most, offset)):
        path.write_bytes(between(heap_table([(0, 99), descriptor], HEAP, f"P{letter}({most})")))
        with torchfits.open(path, engine=engine, cache=False) as f:
            if descriptor == (most, offset):
                values, offsets = f[1].read_table(["B"], ragged="offsets")["B"]
                assert (len(values), offsets.tolist()) == (most, [0, 0, most])
            else:
                with pytest.raises(FitsFormatError, match="'B', row 1"):
                    f[1].read_table(["B"])


def test_a_heap_that_reaches_to_the_last_byte_of_the_file(tmp_path):
    """Without padding: not one byte more may be read."""
    path = tmp_path / "odd.fits"
    for form, count, offset in (
        ("PJ(5)", 5, 0),
        ("PJ(5)", 1, 16),
        ("PB(9)", 1, 19),
        ("PX(9)", 3, 19),
        ("PA(9)", 20, 0),
    ):
        data = image() + heap_table([(count, offset)], HEAP, form)
        whole = data[: data.rindex(HEAP) + len(HEAP)]
        for cut in (0, 1):
            path.write_bytes(whole[: len(whole) - cut])
            for engine in ENGINES:
                for mmap in (True, False):
                    with torchfits.open(path, engine=engine, cache=False, mmap=mmap) as f:
                        if cut:
                            with pytest.raises(FitsFormatError, match="cut short"):
                                f[1].read_table(["B"])
                        else:
                            assert len(parts_of(f[1].read_table(["B"])["B"])[0]) == count
