"""read_table(where=...): the rows that numpy chooses, by every engine and in every way to the bytes."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
import torch
from astropy.io import fits
from images import torch_threads

import torchfits
from torchfits import FilterError, FitsIOError
from torchfits.columns import ColumnReader

pytestmark = pytest.mark.native
ROWS = 10_000


@pytest.fixture(scope="module")
def columns():
    random = np.random.default_rng(5)
    return {
        "ID": random.integers(-(2**62), 2**62, ROWS),
        "MAG": random.normal(20, 2, ROWS).astype("f4"),
        "CLASS": random.integers(0, 5, ROWS).astype("u1"),
        "NAME": random.choice([b"star", b"galaxy", b"QSO"], ROWS),
        "GOOD": random.random(ROWS) < 0.5,
        "FLUX": random.normal(size=(ROWS, 2, 3)),
        "BITS": random.random((ROWS, 11)) < 0.3,
        "COUNT": random.integers(0, 2**16, ROWS).astype("u2"),
        "BIG": random.integers(2**63 - 5, 2**63 + 5, ROWS, dtype="u8"),
        "LEVEL": random.integers(-3, 4, ROWS).astype("i2"),
        "DEPTH": random.integers(0, 9, ROWS).astype("i4"),
    }


@pytest.fixture(scope="module")
def path(columns, tmp_path_factory):
    formats = ["K", "E", "B", "6A", "L", "6D", "11X", "I", "K", "I", "J"]
    options = {
        "FLUX": {"dim": "(3,2)"},
        "COUNT": {"bzero": 2**15},
        "BIG": {"bzero": 2**63},
        "LEVEL": {"bscale": 0.5, "bzero": 1},
        "DEPTH": {"null": 7},
    }
    made = [
        fits.Column(name, form, array=array, **options.get(name, {}))
        for (name, array), form in zip(columns.items(), formats, strict=True)
        if name != "LEVEL"
    ]
    # stored as they are, and scaled when read
    made.insert(9, fits.Column("LEVEL", "I", array=columns["LEVEL"]))
    hdu = fits.BinTableHDU.from_columns(made)
    hdu.header["TSCAL10"], hdu.header["TZERO10"] = 0.5, 1.0
    path = tmp_path_factory.mktemp("where") / "t.fits"
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path)
    return path


CONDITIONS = {
    "MAG < 17 & CLASS == 2": lambda t: (t["MAG"] < 17) & (t["CLASS"] == 2),
    "CLASS in (1, 3) or not GOOD": lambda t: np.isin(t["CLASS"], [1, 3]) | ~t["GOOD"],
    "NAME == 'star' and GOOD": lambda t: (t["NAME"] == b"star") & t["GOOD"],
    "FLUX[1, 2] > 0.5": lambda t: t["FLUX"][:, 1, 2] > 0.5,
    "BITS[0] & BITS[10] | BITS[8]": lambda t: t["BITS"][:, 0] & t["BITS"][:, 10] | t["BITS"][:, 8],
    "COUNT > 60000": lambda t: t["COUNT"] > 60000,
    "BIG >= 9223372036854775808": lambda t: t["BIG"] >= 2**63,
    "LEVEL == 2.5": lambda t: t["LEVEL"] == 3,
    "DEPTH >= 5": lambda t: (t["DEPTH"] >= 5) & (t["DEPTH"] != 7),
    "DEPTH is null": lambda t: t["DEPTH"] == 7,
    "ID < 0 && ID % 2 == 0": lambda t: (t["ID"] < 0) & (t["ID"] % 2 == 0),
    "MAG > 1000": lambda t: np.zeros(ROWS, bool),
    "true": lambda t: np.ones(ROWS, bool),
}


@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize("engine", ["auto", "direct", "cfitsio"])
@pytest.mark.parametrize("mmap", [True, False])
def test_the_rows_that_meet_a_condition(path, columns, condition, engine, mmap):
    right = np.flatnonzero(CONDITIONS[condition](columns))
    with torchfits.open(path, engine=engine, mmap=mmap) as f:
        found = f[1].read_table(["ID", "FLUX"], where=condition)
        assert found["ID"].tolist() == columns["ID"][right].tolist()
        assert np.array_equal(found["FLUX"].numpy(), columns["FLUX"][right])
        # of a slice, and of rows in any order
        found = f[1].read_table(["ID"], slice(7, 9000, 3), where=condition)
        some = np.arange(7, 9000, 3)
        assert found["ID"].tolist() == columns["ID"][some[np.isin(some, right)]].tolist()
        some = np.random.default_rng(1).integers(0, ROWS, 3000)
        found = f[1].read_table(["ID"], some, where=condition)
        assert found["ID"].tolist() == columns["ID"][some[np.isin(some, right)]].tolist()


@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize("prefetch", [0, 1, 3])
def test_iter_table_gives_full_batches(path, columns, condition, prefetch):
    right = np.flatnonzero(CONDITIONS[condition](columns))
    with torchfits.open(path) as f:
        batches = list(f[1].iter_table(["ID"], 700, where=condition, prefetch=prefetch))
    assert [len(batch["ID"]) for batch in batches] == [
        min(700, len(right) - i) for i in range(0, len(right), 700)
    ]
    found = [number for batch in batches for number in batch["ID"].tolist()]
    assert found == columns["ID"][right].tolist()


def test_in_several_threads_and_packed(path, columns, tmp_path):
    packed = tmp_path / "t.fits.gz"
    packed.write_bytes(gzip.compress(path.read_bytes(), 1))
    condition = "MAG < 17 & CLASS == 2"
    right = columns["ID"][CONDITIONS[condition](columns)].tolist()
    for threads in (1, 2, 4):
        with torch_threads(threads):
            for each in (path, packed):
                with torchfits.open(each) as f:
                    assert f[1].read_table(["ID"], where=condition)["ID"].tolist() == right


def test_large_tables_are_looked_at_piece_by_piece(tmp_path):
    rows = 2**21 + 12345
    path = tmp_path / "large.fits"
    array = np.arange(rows, dtype=">i4")
    fits.writeto(path, np.rec.fromarrays([array], names=["N"]))
    with torchfits.open(path) as f:
        found = f[1].read_table(where="N % 100003 == 5")["N"]
        assert found.tolist() == list(range(5, rows, 100003))
        assert len(f[1].read_table(where="N >= 17")["N"]) == rows - 17
        (ragged,) = (batch["N"] for batch in f[1].iter_table(where="N % 100003 == 5"))
        assert torch.equal(ragged, found)


@pytest.fixture(params=["all", "some", "few"])
def room(request, monkeypatch):
    """Rows are collected while they are looked at, as far as there is room; the others are read again."""
    monkeypatch.setattr(ColumnReader, "looked_at", 1500)
    monkeypatch.setattr(
        "torchfits.columns._COLLECTED_BYTES", {"all": 1 << 23, "some": 1 << 16, "few": 1 << 8}[request.param]
    )


@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize("mmap", [True, False])
def test_rows_for_which_there_is_room_or_not(path, columns, room, condition, cache, mmap):
    right = np.flatnonzero(CONDITIONS[condition](columns))
    with torch_threads(3), torchfits.open(path, cache=cache, mmap=mmap) as f:
        for rows in (slice(None), slice(1234, 9999), slice(3, None, 2), slice(5, None, 71)):
            some = np.arange(ROWS)[rows]
            some = some[np.isin(some, right)]
            found, masks = f[1].read_table(
                ["FLUX", "DEPTH", "NAME", "BITS"], rows, where=condition, nulls="mask"
            )
            assert np.array_equal(found["FLUX"].numpy(), columns["FLUX"][some])
            assert found["DEPTH"].tolist() == columns["DEPTH"][some].tolist()
            assert masks["DEPTH"].tolist() == (columns["DEPTH"][some] == 7).tolist()
            assert [bytes(name).rstrip(b"\0") for name in found["NAME"].numpy()] == list(
                columns["NAME"][some]
            )
            assert np.array_equal(found["BITS"].numpy(), columns["BITS"][some])


def test_rows_too_long_to_be_collected(tmp_path, room):
    n, path = 5000, tmp_path / "t.fits"
    texts = np.array([b"%d" % i for i in range(n)])
    made = [("N", "J", np.arange(n)), ("GAP", "5000A", texts), ("X", "D", np.arange(n) / 2)]
    hdu = fits.BinTableHDU.from_columns([fits.Column(name, form, array=a) for name, form, a in made])
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path)
    for mmap in (True, False):
        found = torchfits.open(path, cache=False, mmap=mmap)[1].read_table(["X"], where="N % 7 == 3")
        assert found["X"].tolist() == [i / 2 for i in range(3, n, 7)]


def test_ragged_columns_of_rows_that_pass(tmp_path):
    values = np.empty(50, object)
    values[:] = [np.arange(i % 4, dtype="f4") + i for i in range(50)]
    hdu = fits.BinTableHDU.from_columns(
        [fits.Column("V", "PE()", array=values), fits.Column("N", "J", array=np.arange(50))]
    )
    path = tmp_path / "t.fits"
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path)
    for engine in ("direct", "cfitsio"):
        with torchfits.open(path, engine=engine) as f:
            found, offsets = f[1].read_table(["V"], where="N > 40", ragged="offsets")["V"]
            assert found.tolist() == np.concatenate(values[41:]).tolist()
            assert offsets.tolist() == np.cumsum([0, *map(len, values[41:])]).tolist()


def test_a_bad_descriptor_of_a_row_that_passes_is_named(tmp_path, room):
    values = np.empty(5000, object)
    values[:] = [np.arange(3, dtype="f4")] * 5000
    hdu = fits.BinTableHDU.from_columns(
        [fits.Column("V", "PE()", array=values), fits.Column("N", "J", array=np.arange(5000))]
    )
    path = tmp_path / "t.fits"
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path)
    data = bytearray(path.read_bytes())
    with fits.open(path) as f:
        start = f[1].fileinfo()["datLoc"]
    data[start + 4321 * 12 + 4] = 0x70
    path.write_bytes(data)
    with torchfits.open(path) as f:
        assert len(f[1].read_table(["V"], where="N != 4321")["V"].offsets()) == 5000
        with pytest.raises(torchfits.FitsFormatError, match=r"row 4321"):
            f[1].read_table(["V"], where="N > 3000")


def test_errors_name_file_hdu_and_place(path):
    with torchfits.open(path) as f:
        with pytest.raises(
            FilterError, match=r"no column 'MAGG'[^^]*\n    MAGG < 3\n    \^\^\^\^$"
        ) as caught:
            f[1].read_table(where="MAGG < 3")
        assert (caught.value.path, caught.value.hdu) == (str(path), 1)
        with pytest.raises(FilterError) as caught:
            list(f[1].iter_table(where="MAG <"))
        assert (caught.value.path, caught.value.hdu) == (str(path), 1)
        with pytest.raises(TypeError, match="str"):
            f[1].read_table(where=b"MAG < 3")


def test_a_file_that_shrinks_while_it_is_looked_at(path, tmp_path):
    copy = tmp_path / "t.fits"
    copy.write_bytes(path.read_bytes())
    with torchfits.open(copy) as f:
        f[1].read_table(["ID"], where="MAG < 17")
        with open(copy, "r+b") as file:
            file.truncate(30000)
        with pytest.raises(FitsIOError, match=r"changed|shrank"):
            f[1].read_table(["ID"], where="MAG < 17")
