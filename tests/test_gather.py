"""gather: rows of tables in many files; the oracle is astropy."""

from __future__ import annotations

import gzip
import io

import numpy as np
import pytest
import torch
from astropy.io import fits

import torchfits
from torchfits import FitsFormatError, HduMissing, SectionError

pytestmark = pytest.mark.native
ROWS = 5


def columns(seed: int) -> list[fits.Column]:
    random = np.random.default_rng(seed)
    return [
        fits.Column("ID", "K", array=random.integers(-(2**62), 2**62, ROWS)),
        fits.Column("RA", "D", array=random.normal(size=ROWS)),
        fits.Column("MAG", "3E", array=random.normal(size=(ROWS, 3))),
        fits.Column("GOOD", "L", array=random.integers(0, 2, ROWS).astype(bool)),
        fits.Column("NAME", "6A", array=[f"n{seed}-{i}" for i in range(ROWS)]),
        fits.Column("COUNT", "I", bzero=32768, array=random.integers(0, 65536, ROWS).astype("u2")),
        fits.Column("TEMP", "I", array=np.arange(ROWS) + seed),
        fits.Column("VIS", "M", array=random.normal(size=ROWS) + 1j * random.normal(size=ROWS)),
        fits.Column("IMAGE", "6J", dim="(3,2)", array=random.integers(0, 9, (ROWS, 2, 3))),
    ]


def scaled(data: bytes, column: int) -> bytes:
    """astropy scales integer columns only where it made them itself."""
    for keyword in ("SCAL", "ZERO"):
        data = data.replace(f"X{keyword}{column} ".encode(), f"T{keyword}{column} ".encode())
    return data


def write(path, seed: int, *more: fits.Column, hdus_before: int = 0, **cards) -> None:
    table = fits.BinTableHDU.from_columns([*columns(seed), *more], name="CAT")
    table.header["OBSERVER"] = f"number {seed}"  # where the rows lie does not depend on it
    table.header.update(cards)
    before = [fits.ImageHDU(np.zeros((3, 4), dtype="i2")) for _ in range(hdus_before)]
    table.header["XSCAL7"], table.header["XZERO7"] = 0.5, 10.0
    file = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), *before, table]).writeto(file)
    path.write_bytes(scaled(file.getvalue(), 7))


@pytest.fixture
def paths(tmp_path):
    found = [tmp_path / f"{seed}.fits" for seed in range(12)]
    for seed, path in enumerate(found):
        write(path, seed, hdus_before=seed % 3)
    return found


def expected(paths, index, name):
    values = []
    for path, hdu, row in index:
        with fits.open(path, memmap=False) as f:
            values.append(np.array(f[hdu].data[name][row]))
    return np.stack(values)


INDEX = [(0, 4), (11, 0), (3, 2), (3, 1), (0, 4), (7, -1), (0, 0), *((i, i % ROWS) for i in range(12))]


@pytest.mark.parametrize("threads", [1, 2])
def test_rows_come_in_the_order_asked_for(paths, threads):
    index = [(paths[i], "CAT", row) for i, row in INDEX]
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = torchfits.gather(index)
    finally:
        torch.set_num_threads(before)
    assert list(found) == [column.name for column in columns(0)]
    for name, tensor in found.items():
        theirs = expected(paths, index, name)
        if name == "NAME":
            assert torchfits.strings(tensor) == theirs.tolist()
        else:
            assert tensor.shape == theirs.shape
            assert np.array_equal(tensor.numpy(), theirs)
    assert found["COUNT"].dtype == torch.uint16
    assert found["GOOD"].dtype == torch.bool


def test_columns_and_hdus_are_chosen(paths):
    assert list(torchfits.gather([(paths[0], 1, 2)], ["ra", 0])) == ["RA", "ID"]
    mixed = [(paths[0], 1, 2), (paths[1], 2, 2), (paths[1], ("CAT", 1), 3)]
    assert np.array_equal(torchfits.gather(mixed, ["ID"])["ID"].numpy(), expected(paths, mixed, "ID"))
    assert torchfits.gather([]) == {}


def test_tables_laid_out_in_another_way_are_read_too(paths, tmp_path):
    other = tmp_path / "other.fits"
    fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU.from_columns([*columns(5)[::-1]], name="CAT")]).writeto(
        other
    )
    packed = tmp_path / "packed.fits.gz"
    packed.write_bytes(gzip.compress(paths[4].read_bytes()))
    index = [(paths[2], "CAT", 1), (other, "CAT", 3), (packed, "CAT", 2), (paths[2], "CAT", 0)]
    found = torchfits.gather(index, ["ID", "GOOD", "IMAGE"])
    for name in found:
        assert np.array_equal(found[name].numpy(), expected(paths, index, name)), name


def test_scaling_that_differs_from_file_to_file_is_that_of_the_file(tmp_path):
    paths = [tmp_path / f"{scale}.fits" for scale in (2, 3)]
    for scale, path in zip((2, 3), paths, strict=True):
        table = fits.BinTableHDU.from_columns([fits.Column("X", "I", array=np.array([7]))])
        table.header["XSCAL1"], table.header["XZERO1"] = float(scale), 1.0
        file = io.BytesIO()
        fits.HDUList([fits.PrimaryHDU(), table]).writeto(file)
        path.write_bytes(scaled(file.getvalue(), 1))
    assert torchfits.gather([(path, 1, 0) for path in paths])["X"].tolist() == [15, 22]


def test_bits_go_by_the_reference(tmp_path):
    path = tmp_path / "a.fits"
    bits = np.array([[1, 0, 1], [0, 1, 1]], dtype=bool)
    fits.HDUList(
        [fits.PrimaryHDU(), fits.BinTableHDU.from_columns([fits.Column("B", "3X", array=bits)])]
    ).writeto(path)
    assert torchfits.gather([(path, 1, 1), (path, 1, 0)])["B"].tolist() == bits[::-1].tolist()


@pytest.mark.parametrize("row", [ROWS, -ROWS - 1, 2**63 - 1, -(2**63), 2**70])
def test_rows_that_are_not_there(paths, row):
    with pytest.raises(SectionError, match="of a table of 5") as caught:
        torchfits.gather([(paths[0], "CAT", 0), (paths[1], "CAT", row)])
    assert caught.value.path == str(paths[1])


FORMS = {"E": "f4", "J": "i4", "M": "c16", "B": "u1", "L": "u1", "K": "i8"}


def arrays(form: str, seed: int, step: int = 1) -> np.ndarray:
    random = np.random.default_rng(seed)
    found = np.empty(ROWS, object)
    for i in range(ROWS):
        bits = random.integers(65, 91, step * random.integers(0, 9))
        found[i] = bits % 2 == 0 if form == "L" else bits.astype(FORMS[form])
    return found


@pytest.mark.parametrize("descriptor", "PQ")
@pytest.mark.parametrize("form", FORMS)
def test_arrays_of_variable_length(tmp_path, form, descriptor):
    made = {}
    for seed in range(4):
        made[tmp_path / f"{seed}.fits"] = arrays(form, seed)
    for seed, (path, values) in enumerate(made.items()):
        write(path, seed, fits.Column("V", f"{descriptor}{form}()", array=values), hdus_before=seed % 2)
    paths = list(made)
    index = [(paths[i % 4], "CAT", row) for i, row in INDEX]
    each = []
    for path, hdu, row in index:
        with fits.open(path, memmap=False) as f:
            each.append(np.array(f[hdu].data["V"][row]))
    found = torchfits.gather(index, ["V", "ID"], ragged="offsets")
    values, offsets = found["V"]
    assert offsets.tolist() == np.cumsum([0, *map(len, each)]).tolist()
    assert np.array_equal(values.numpy(), np.concatenate(each))
    assert np.array_equal(found["ID"].numpy(), expected(paths, index, "ID"))
    nested = torchfits.gather(index, ["V"])["V"]
    assert nested.is_nested
    assert nested.dtype == values.dtype
    assert torch.equal(nested.values(), values)
    assert torch.equal(nested.offsets(), offsets)


def test_arrays_with_tdim_and_unsigned_ones(tmp_path):
    paths = [tmp_path / f"{i}.fits" for i in range(3)]
    cells = [arrays("J", i, step=6) for i in range(3)]
    for path, values in zip(paths, cells, strict=True):
        column = fits.Column("V", "PJ()", array=values, dim="(2,3,4)")
        hdu = fits.BinTableHDU.from_columns([column])
        hdu.header["TSCAL1"], hdu.header["TZERO1"] = 1, 2**31
        hdu.writeto(path)
    index = [(paths[i % 3], 1, i % ROWS) for i in range(20)]
    each = [cells[i % 3][i % ROWS].astype("i8") + 2**31 for i in range(20)]
    values, offsets = torchfits.gather(index, ragged="offsets")["V"]
    assert values.dtype == torch.uint32
    assert values.shape[1:] == (3, 2)
    assert np.array_equal(values.numpy().reshape(-1), np.concatenate(each))
    assert (6 * offsets).tolist() == np.cumsum([0, *map(len, each)]).tolist()
    # one file whose arrays have another length: all are flat
    hdu = fits.BinTableHDU.from_columns([fits.Column("V", "PJ()", array=arrays("J", 5), dim="(2,3,4)")])
    hdu.header["TSCAL1"], hdu.header["TZERO1"] = 1, 2**31
    hdu.writeto(paths[2], overwrite=True)
    each = [arrays("J", 5)[i % ROWS].astype("i8") + 2**31 if i % 3 == 2 else each[i] for i in range(20)]
    with pytest.warns(torchfits.FitsWarning, match="TDIM"):
        values, offsets = torchfits.gather(index, ragged="offsets")["V"]
    assert np.array_equal(values.numpy(), np.concatenate(each))
    assert offsets.tolist() == np.cumsum([0, *map(len, each)]).tolist()


def test_arrays_beside_what_is_none(tmp_path):
    paths = [tmp_path / f"{i}.fits" for i in range(3)]
    for path, form in zip(paths, ("PJ()", "PD()", "J"), strict=True):
        array = np.arange(ROWS) if form == "J" else arrays("J", 1)
        fits.BinTableHDU.from_columns([fits.Column("V", form, array=array)]).writeto(path)
    for first, other in ((0, 1), (0, 2), (2, 0)):
        with pytest.raises(FitsFormatError, match="that of the first table") as caught:
            torchfits.gather([(paths[first], 1, 0), (paths[other], 1, 0)])
        assert caught.value.path == str(paths[other])
    with pytest.raises(ValueError, match="ragged"):
        torchfits.gather([(paths[0], 1, 0)], ragged="list")


def test_what_cannot_be_gathered(paths, tmp_path):
    with pytest.raises(SectionError, match="no column"):
        torchfits.gather([(paths[0], "CAT", 0)], ["NOPE"])
    with pytest.raises(HduMissing):
        torchfits.gather([(paths[0], "CAT", 0), (paths[1], "NOPE", 0)])
    with pytest.raises(FitsFormatError, match="not a table"):
        torchfits.gather([(paths[0], 0, 0)])
    with pytest.raises(torchfits.FitsFileNotFound):
        torchfits.gather([(paths[0], "CAT", 0), (tmp_path / "gone.fits", "CAT", 0)])
    with pytest.raises(TypeError):
        torchfits.gather([(paths[0], "CAT", 1.5)])
    wide = tmp_path / "wide.fits"
    fits.HDUList(
        [
            fits.PrimaryHDU(),
            fits.BinTableHDU.from_columns([fits.Column("RA", "2D", array=np.ones((2, 2)))], name="CAT"),
        ]
    ).writeto(wide)
    with pytest.raises(FitsFormatError, match="that of the first table") as caught:
        torchfits.gather([(paths[0], "CAT", 0), (wide, "CAT", 0)], ["RA"])
    assert caught.value.path == str(wide)


def test_a_table_cut_short_is_an_error(paths):
    data = paths[1].read_bytes()
    paths[1].write_bytes(data[:-2880])
    with pytest.raises(FitsFormatError, match="cut short") as caught:
        torchfits.gather([(paths[0], "CAT", 0), (paths[1], "CAT", 0)])
    assert caught.value.path == str(paths[1])
