"""open() and HDUList: how HDUs are had, what they say of themselves, what is read to find them."""

from __future__ import annotations

import gzip
import os

import numpy as np
import pytest
import torch
from astropy.io import fits

import torchfits
from torchfits import (
    FitsError,
    FitsFormatError,
    FitsIOError,
    FitsUnsupported,
    FitsWarning,
    HduMissing,
    ImageHDU,
    TableHDU,
)


@pytest.fixture
def path(tmp_path):
    table = np.zeros(3, dtype=[("RA", ">f8"), ("NAME", "S5")])
    fits.HDUList(
        [
            fits.PrimaryHDU(np.zeros((3, 4), dtype="i2")),
            fits.ImageHDU(np.ones((2, 2), dtype="f4"), name="sci", ver=1),
            fits.ImageHDU(np.full((2, 2), 2, dtype="f4"), name="SCI", ver=2),
            fits.BinTableHDU(table, name="CAT"),
            fits.ImageHDU(np.full(2, 3, dtype="f4"), name="SCI", ver=2),
            fits.CompImageHDU(np.zeros((5, 6), dtype="i4"), name="COMP"),
        ]
    ).writeto(tmp_path / "a.fits")
    return tmp_path / "a.fits"


def test_hdus_by_index_name_and_version(path):
    with torchfits.open(path) as f:
        assert len(f) == 6
        assert [hdu.index for hdu in f] == list(range(6))
        assert f[-1].name == "COMP"
        assert f[-6].index == f["PRIMARY"].index == 0
        assert f["SCI"].index == f["sci"].index == f["SCI", 1].index == f[" Sci "].index == 1
        assert f["SCI", 2].index == 2
        assert [hdu.index for hdu in f if (hdu.name, hdu.version) == ("SCI", 2)] == [2, 4]
        assert f[1] is f["SCI"]
        assert [type(hdu) for hdu in f] == [ImageHDU] * 3 + [TableHDU] + [ImageHDU] * 2
        assert "CAT" in f
        assert ("SCI", 2) in f
        assert f[3] in f
        assert "NOPE" not in f
        assert ("SCI", 3) not in f
        assert 5 in f
        assert 6 not in f


@pytest.mark.parametrize("key", [6, -7, "NOPE", ("SCI", 3), ("NOPE", 1)])
def test_what_is_not_there(path, key):
    with torchfits.open(path) as f, pytest.raises(HduMissing) as caught:
        f[key]
    assert isinstance(caught.value, KeyError)
    assert isinstance(caught.value, IndexError)
    assert (caught.value.path, caught.value.hdu) == (str(path), key)
    assert "'SCI'" in str(caught.value)
    assert "the file has 6" in str(caught.value)


@pytest.mark.parametrize("key", [1.0, None, True, ("SCI",), ("SCI", "2"), slice(2)])
def test_what_is_no_key(path, key):
    with torchfits.open(path) as f, pytest.raises(TypeError):
        f[key]


def test_info_and_repr_show_shapes_and_no_data(path):
    with torchfits.open(path) as f:
        text = f.info()
        assert text.splitlines()[0] == str(path)
        rows = [line.split("  ") for line in text.splitlines()[2:]]
        assert len(rows) == 6
        for part in ("PRIMARY", "3 x 4", "int16", "3 rows x 2 columns", "5 x 6", "int32", "RICE_1"):
            assert part in text
        assert repr(f["SCI"]) == "<ImageHDU 1 'SCI': IMAGE 2 x 2 float32>"
        assert repr(f["CAT"]) == "<TableHDU 3 'CAT': BINTABLE 3 rows x 2 columns>"
        assert "a.fits" in repr(f)
    assert "closed" in repr(f)


def test_hdus_are_found_when_they_are_asked_for(path, monkeypatch):
    data = path.read_bytes()
    path.write_bytes(data[: 2880 * 7] + b"X" * 2880)  # damage far behind
    with torchfits.open(path) as f:
        assert f[0].shape == (3, 4)
        assert f["SCI"][0, 0] == 1


def test_a_bad_hdu_does_not_hide_the_good_ones(path):
    data = bytearray(path.read_bytes())
    at = data.index(b"TFORM2  = '5A")
    data[at : at + 13] = b"TFORM2  = '5?"
    path.write_bytes(data)
    with torchfits.open(path) as f:
        with pytest.raises(FitsFormatError, match="TFORM2") as caught:
            f["CAT"].read_table()
        assert caught.value.hdu == 3
        assert caught.value.offset == at
        assert f[4].read().tolist() == [3, 3]
        assert f["COMP"].read().sum() == 0
        assert "TFORM2" in f.info()
        assert "COMP" in f.info()


def test_a_file_that_ends_within_a_header(path):
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"EXTNAME = 'CAT")])
    with torchfits.open(path) as f:
        assert f["SCI", 2].read().sum() == 8
        with pytest.raises(FitsFormatError, match="before the END") as caught:
            len(f)
        assert (caught.value.path, caught.value.hdu) == (str(path), 3)
        assert "before the END" in f.info()
        assert "SCI" in f.info()


@pytest.mark.parametrize("tail", [bytes(2880), b" " * 5000, b"junk" * 2000])
def test_what_follows_the_last_hdu_is_ignored_with_a_warning(path, tail):
    path.write_bytes(path.read_bytes() + tail)
    with torchfits.open(path) as f, pytest.warns(FitsWarning, match="after HDU 5"):
        assert len(f) == 6


def test_extensions_behind_a_disorderly_primary_are_read(path):
    data = path.read_bytes()
    cards = [data[i : i + 80] for i in range(0, 240, 80)]
    path.write_bytes(cards[0] + cards[2] + cards[1] + data[240:])
    with torchfits.open(path) as f:
        assert f["SCI", 2].read().sum() == 8
        assert f["COMP"].read().shape == (5, 6)
        assert len(f["CAT"].read_table()["RA"]) == 3


def test_a_last_hdu_without_its_padding_is_read_whole_and_in_parts(path):
    data = path.read_bytes()
    with torchfits.open(path) as f:
        end = f["COMP"]._hdu.data_start + f["COMP"]._hdu.data_size
        expected = f["COMP"].read()
    path.write_bytes(data[:end])
    with torchfits.open(path) as f:
        assert torch.equal(f["COMP"].read(), expected)
        assert torch.equal(f["COMP"][1:3], expected[1:3])
        assert f["SCI"].read().sum() == 4


def test_an_unknown_extension_is_skipped_by_its_size(path):
    data = path.read_bytes().replace(b"XTENSION= 'BINTABLE'", b"XTENSION= 'DUMP    '", 1)
    path.write_bytes(data)
    with torchfits.open(path) as f:
        assert len(f) == 6
        assert type(f[3]) is torchfits.HDU
        assert f[3].read_header()["XTENSION"] == "DUMP"
        assert f[4].read().tolist() == [3, 3]
        with pytest.raises(FitsUnsupported, match="neither image nor table"):
            torchfits.read(path, 3)


def test_read_and_read_header(path, tmp_path):
    assert torchfits.read(path).shape == (3, 4)
    assert torchfits.read(path, "SCI", (0, slice(None))).tolist() == [1, 1]
    assert list(torchfits.read(path, 3)) == ["RA", "NAME"]
    assert len(torchfits.read(path, "CAT", slice(0, 2))["RA"]) == 2
    assert torchfits.read_header(path, ("SCI", 2))["EXTVER"] == 2
    empty = tmp_path / "empty.fits"
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(np.arange(3.0))]).writeto(empty)
    assert torchfits.read(empty).tolist() == [0, 1, 2]
    fits.PrimaryHDU().writeto(empty, overwrite=True)
    with pytest.raises(HduMissing, match="no HDU holds data"):
        torchfits.read(empty)


def test_the_header_that_is_given_is_a_copy(path):
    with torchfits.open(path) as f:
        header = f[0].read_header()
        header["NAXIS1"] = 99
        assert f[0].read_header()["NAXIS1"] == 4
        assert f[0].shape == (3, 4)


def test_a_closed_list_says_so(path):
    f = torchfits.open(path)
    hdu = f[0]
    f.close()
    f.close()
    for use in (lambda: f[0], lambda: len(f), lambda: list(f), hdu.read, f.__enter__):
        with pytest.raises(FitsError, match="closed"):
            use()


def test_options_that_are_not_there_yet(path):
    with pytest.raises(FitsUnsupported, match="mode"):
        torchfits.open(path, "rw")
    with pytest.raises(FitsUnsupported, match="engine"):
        torchfits.open(path, engine="fast")
    with torchfits.open(path, engine="cfitsio") as f:
        assert f[0].read().shape == (3, 4)


@pytest.mark.parametrize("pack", [gzip.compress, __import__("bz2").compress])
def test_compressed_files_open(path, tmp_path, pack):
    packed = tmp_path / "packed"  # its first bytes tell, not its name
    packed.write_bytes(pack(path.read_bytes()))
    with torchfits.open(packed) as f, torchfits.open(path) as g:
        assert len(f) == 6
        for mine, other in zip(f, g, strict=True):
            if isinstance(mine, ImageHDU):
                assert torch.equal(mine.read(), other.read())
            else:
                assert torch.equal(mine.read_table()["NAME"], other.read_table()["NAME"])


def test_a_cut_gzip_file_gives_what_it_holds(tmp_path):
    noise = np.random.default_rng(9).integers(0, 255, 100_000, dtype="u1")
    whole = tmp_path / "a.fits"
    fits.HDUList([fits.PrimaryHDU(np.arange(10, dtype="i2")), fits.ImageHDU(noise)]).writeto(whole)
    packed = gzip.compress(whole.read_bytes())
    cut = tmp_path / "cut.fits.gz"
    cut.write_bytes(packed[: len(packed) // 2])
    with torchfits.open(cut) as f:
        assert f[0].read().tolist() == list(range(10))
        with pytest.raises(FitsFormatError, match="cut short") as caught:
            f[1].read()
        assert caught.value.hdu == 1


def test_text_that_is_no_fits(tmp_path):
    path = tmp_path / "a.fits"
    path.write_bytes(b"hello")
    with torchfits.open(path) as f, pytest.raises(FitsFormatError, match="SIMPLE") as caught:
        f[0]
    assert (caught.value.path, caught.value.hdu, caught.value.offset) == (str(path), 0, 0)
    path.write_bytes(b"")
    with pytest.raises(FitsFormatError, match="empty"):
        torchfits.open(path)


def test_the_errno_of_the_system_is_kept(tmp_path):
    with pytest.raises(FileNotFoundError) as missing:
        torchfits.open(tmp_path / "missing.fits")
    assert isinstance(missing.value, FitsIOError)
    assert missing.value.errno == 2
    with pytest.raises(FitsIOError, match="directory") as folder:
        torchfits.open(tmp_path)
    assert folder.value.errno == 21
    assert str(tmp_path) in str(folder.value)
    assert os.strerror(21) in str(folder.value)
