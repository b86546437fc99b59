"""torchfits compress and decompress: whole files there and back, and files of fpack and astropy."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import fitsio
import numpy as np
import pytest
import torch
from astropy.io import fits
from images import verify
from ztables import fpack, funpack

import torchfits
from torchfits import Gzip2, Hcompress1, Quantize, Rice1, packing


@pytest.fixture
def many(tmp_path):
    """Every kind of image, a table, an HDU without data; with checksums."""
    path, rng = tmp_path / "many.fits", np.random.default_rng(2)
    primary = fits.PrimaryHDU(rng.normal(1000, 20, (60, 70)).astype("i2"))
    primary.header["OBJECT"] = ("M 31", "the target")
    primary.header["HISTORY"] = "dark subtracted"
    primary.header["LONGSTRN"] = "OGIP 1.0"
    primary.header["LONG"] = "x" * 100
    real = rng.normal(0, 1, (50, 60)).astype("f4")
    real[3, 4] = np.nan
    blank = fits.ImageHDU(rng.integers(0, 50, (20, 30), dtype="i4"), name="BLANK")
    blank.header["BLANK"] = 7
    scaled = fits.ImageHDU(rng.integers(0, 50, (20, 30), dtype="i2"), name="SCALED")
    scaled.header["BSCALE"], scaled.header["BZERO"] = 0.5, 3.0
    hdus = [
        primary,
        fits.ImageHDU(real, name="SCI"),
        fits.ImageHDU(rng.normal(0, 1, (4, 20, 30)), name="CUBE", ver=2),
        fits.ImageHDU(rng.integers(0, 2**16, (20, 30), dtype="u2"), name="U"),
        blank,
        scaled,
        fits.ImageHDU(rng.integers(0, 2**62, (5, 6)), name="LONGS"),
        fits.BinTableHDU.from_columns(
            [fits.Column("A", "J", array=[1, 2]), fits.Column("S", "PJ()", array=[[1], [2, 3]])]
        ),
        fits.ImageHDU(name="NOTHING"),
    ]
    fits.HDUList(hdus).writeto(path, checksum=True)
    return path


def packed_as(path):
    with torchfits.open(path) as f:
        return [
            hdu.compression.codec if isinstance(hdu, torchfits.ImageHDU) and hdu.compression else None
            for hdu in f
        ]


def test_there_and_back(many, run):
    status, out, err = run("compress", "--verify", many)
    assert (status, out) == (0, "")
    assert re.fullmatch(
        rf"{many} -> {many}.fz: 7 images, [\d.]+ kB to [\d.]+ kB \(ratio [\d.]+\), [\d.]+ [kM]?B/s\n", err
    )
    verify(f"{many}.fz")
    codecs = [None, "RICE_1", "GZIP_2", "GZIP_2", "RICE_1", "RICE_1", "RICE_1", "GZIP_2", None, None]
    assert packed_as(f"{many}.fz") == codecs
    back = many.with_name("back.fits")
    assert run("decompress", f"{many}.fz", "-o", back, "--verify")[0] == 0
    assert back.read_bytes() == many.read_bytes()
    assert sorted(os.listdir(many.parent)) == ["back.fits", "many.fits", "many.fits.fz"]


def test_others_read_it(many, run):
    assert run("compress", many)[0] == 0
    with fits.open(many) as plain, fits.open(f"{many}.fz", checksum=True) as packed:
        for a, b in zip(plain[:1] + plain[1:], packed[1:], strict=True):
            if isinstance(a.data, fits.FITS_rec) or a.data is None:
                continue
            np.testing.assert_array_equal(a.data, b.data)
            assert a.header.get("EXTNAME") == b.header.get("EXTNAME")
        assert packed[1].header["OBJECT"] == "M 31"
    np.testing.assert_array_equal(fitsio.read(f"{many}.fz", ext="U"), fits.getdata(many, "U"))


def test_funpack_gives_the_file_back(tmp_path, run):
    path = tmp_path / "a.fits"
    image = np.random.default_rng(0).normal(1000, 20, (60, 70)).astype("i2")
    fits.HDUList([fits.PrimaryHDU(image), fits.ImageHDU(image.astype("f4"), name="SCI")]).writeto(path)
    assert run("compress", path)[0] == 0
    with fits.open(funpack(f"{path}.fz", tmp_path / "b.fits")) as hdus:
        assert len(hdus) == 2
        np.testing.assert_array_equal(hdus[0].data, image)
        np.testing.assert_array_equal(hdus["SCI"].data, image)


@pytest.mark.parametrize("options", [["-r"], ["-g2", "-q", "0"], ["-h", "-q77", "4"]])
def test_what_fpack_packed(tmp_path, run, options):
    path = tmp_path / "a.fits"
    image = np.random.default_rng(0).normal(1000, 20, (60, 70))
    second = fits.ImageHDU(image.astype("i4"), name="SCI")
    second.header["GAIN"] = 1.5
    first = image.astype("f4") if len(options) > 1 else image.astype("i2")
    fits.HDUList([fits.PrimaryHDU(first), second]).writeto(path, checksum=True)
    fpack(path, f"{path}.fz", *options)
    back = tmp_path / "b.fits"
    assert run("decompress", f"{path}.fz", "-o", back, "--verify")[0] == 0
    verify(back)
    with (
        fits.open(back, checksum=True) as ours,
        fits.open(funpack(f"{path}.fz", tmp_path / "c.fits")) as theirs,
    ):
        assert [type(hdu) for hdu in ours] == [type(hdu) for hdu in theirs]
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(a.data, b.data)
        assert ours["SCI"].header["GAIN"] == 1.5


def test_what_astropy_packed(tmp_path, run):
    """Whose compressed images are extensions behind an empty primary HDU."""
    path, image = tmp_path / "a.fits.fz", np.arange(600, dtype="i2").reshape(20, 30)
    fits.HDUList(
        [fits.PrimaryHDU(), fits.CompImageHDU(image, name="A"), fits.CompImageHDU(image, name="B")]
    ).writeto(path)
    assert run("decompress", path)[0] == 0
    verify(tmp_path / "a.fits")
    with fits.open(tmp_path / "a.fits") as hdus:
        assert [hdu.name for hdu in hdus] == ["PRIMARY", "A", "B"]
        np.testing.assert_array_equal(hdus["B"].data, image)
    assert run("compress", tmp_path / "a.fits", "-o", tmp_path / "b.fz", "--verify")[0] == 0
    assert packed_as(tmp_path / "b.fz") == [None, "RICE_1", "RICE_1"]


def test_what_is_compressed_stays_as_it_is(many, run):
    assert run("compress", many)[0] == 0
    assert run("compress", f"{many}.fz", "--codec", "gzip2")[0] == 0
    with open(f"{many}.fz", "rb") as one, open(f"{many}.fz.fz", "rb") as two:
        assert one.read() == two.read()


def test_settings(many, tmp_path, run):
    def settings(*options, ext="SCI", source=many):
        out = tmp_path / "out.fz"
        status, _, err = run("compress", "--overwrite", "--verify", "-o", out, *options, source)
        assert status == 0, err
        with torchfits.open(out) as f:
            return f[ext].compression, f[ext].quantize

    assert settings("--tile", "10,-1") == (Gzip2((10, 60)), None)
    assert settings("--tile", "4,10,10", ext="U") == (Rice1((10, 10)), None)
    assert settings("--level", "7", "--codec", "gzip2", ext="U") == (Gzip2((1, 30), 7), None)
    assert settings("-q", "8", "--seed", "5") == (Rice1((1, 60)), Quantize(8.0, "dither1", 5))
    assert settings("-q", "8", "--dither", "no_dither", ext=("CUBE", 2))[1] == Quantize(8.0, "no_dither")
    image = tmp_path / "image.fits"
    fits.PrimaryHDU(np.random.default_rng(0).normal(1000, 20, (60, 70)).astype("i2")).writeto(image)
    found = settings("--codec", "hcompress", "--scale", "1.5", ext=1, source=image)
    assert found == (Hcompress1((16, 70), 1.5), None)


def test_many_files_and_bad_ones(many, tmp_path, run):
    other, bad = tmp_path / "other.fits", tmp_path / "bad.fits"
    fits.PrimaryHDU(np.ones((3, 4))).writeto(other)
    bad.write_bytes(b"no FITS file")
    status, _, err = run("compress", many, bad, tmp_path / "missing.fits", other)
    assert status == 1
    assert [line.split(":")[1].strip() for line in err.splitlines() if "error" in line] == ["error", "error"]
    assert sorted(os.listdir(tmp_path)) == [
        "bad.fits",
        "many.fits",
        "many.fits.fz",
        "other.fits",
        "other.fits.fz",
    ]


def test_nothing_is_overwritten_unasked(many, run, fails):
    target = many.with_name("many.fits.fz")
    target.write_bytes(b"mine")
    assert "--overwrite" in fails("compress", many)
    assert target.read_bytes() == b"mine"
    assert run("compress", many, "--overwrite")[0] == 0
    assert "same file" in fails("compress", many, "-o", many, "--overwrite")
    assert "exists" in fails("decompress", target)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--codec", "rice"], "HDU 1: RICE_1 compresses integers, not float32"),
        (["--codec", "plio", "-q", "4"], "HDU 1: PLIO_1 is for masks"),
        (["--codec", "hcompress", "--quantize", "4", "--dither", "dither2"], "zeros"),
    ],
)
def test_what_cannot_be_compressed_so(many, fails, arguments, words):
    with fits.open(many) as hdus:
        fits.HDUList([fits.PrimaryHDU(), hdus["SCI"]]).writeto(many.with_name("real.fits"))
    assert words in fails("compress", many.with_name("real.fits"), *arguments)
    assert sorted(os.listdir(many.parent)) == ["many.fits", "real.fits"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--tile", "0,5"], ["--tile", "x"], ["--scale", "2"], ["--level", "3"], ["--codec", "zip"],
        ["-q", "0"], ["--codec", "gzip1", "--level", "10"], ["-q", "4", "--seed", "10001"],
        ["-o", "x.fz", "other.fits"],
    ],
)  # fmt: skip
def test_options_that_are_not_understood(many, fails, arguments):
    fails("compress", many, *arguments, status=2)
    assert os.listdir(many.parent) == ["many.fits"]


def test_a_name_without_fz(many, fails):
    assert "--output" in fails("decompress", many)


def test_through_a_pipe(many):
    child = subprocess.run(
        [sys.executable, "-m", "torchfits", "compress", "-o", "-", str(many)],
        capture_output=True,
        timeout=120,
        check=True,
    )
    many.with_name("piped.fz").write_bytes(child.stdout)
    packing.check_same(many, many.with_name("piped.fz"))


def test_verification_finds_what_is_wrong(many, monkeypatch, run):
    real = packing.compressed

    def wrong(header, pixels, *settings):
        pixels.view(-1)[-1:] = 1
        return real(header, pixels, *settings)

    monkeypatch.setattr(packing, "compressed", wrong)
    status, _, err = run("compress", many, "--verify")
    assert status == 1
    assert "HDU 0: what was written differs in its pixels" in err
    assert os.listdir(many.parent) == ["many.fits"]


@pytest.mark.parametrize("what", ["data", "header", "number", "shape", "nulls"])
def test_files_that_are_not_the_same(tmp_path, what):
    one, two = tmp_path / "one.fits", tmp_path / "two.fits"
    image = np.arange(12, dtype="f4").reshape(3, 4)
    for path in (one, two):
        other = path == two
        primary = fits.PrimaryHDU(image.T if other and what == "shape" else image)
        primary.header["A"] = int(other and what == "header")
        table = fits.BinTableHDU.from_columns(
            [fits.Column("A", "J", array=[1, 2 + (other and what == "data")])]
        )
        fits.HDUList([primary, table, *([table.copy()] * (other and what == "number"))]).writeto(path)
    if what == "nulls":
        noise = np.random.default_rng(0).normal(0, 1, (9, 40)).astype("f4")
        torchfits.writeto(one, torch.from_numpy(noise), overwrite=True)
        noise[0, 0] = np.nan
        torchfits.writeto(two, torch.from_numpy(noise), compress=True, quantize=True, overwrite=True)
    with pytest.raises(torchfits.FitsFormatError, match=what):
        packing.check_same(one, two)
    packing.check_same(one, one)
