"""Tile-compressed images: bit for bit what funpack, astropy, cfitsio and a slow decoder make of them."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from astropy.io import fits
from conftest import corpus_root
from images import assert_same
from tile_images import data_of, pixels, readings, write
from ztiles import assert_bits, compressed, fpack, funpack, slow_read

import torchfits
from torchfits import FitsUnsupported

pytestmark = pytest.mark.native
INTEGERS = ("u1", "i2", "u2", "i4", "u4")
REALS = ("f4", "f8")
ALGORITHMS = {
    "-r": "RICE_1", "-g1": "GZIP_1", "-g2": "GZIP_2", "-h": "HCOMPRESS_1", "-p": "PLIO_1", "-d": "NOCOMPRESS"
}  # fmt: skip
SHAPES = ((1,), (131,), (37, 53), (5, 13, 17))
PLANES = ((37, 53), (64, 4), (3, 20, 33))  # HCOMPRESS_1 takes sides from 4


def check_all(path, plain) -> None:
    """Every image of a file that fpack wrote is what funpack, astropy and cfitsio make of it."""
    with (
        torchfits.open(path, cache=False) as ours,
        torchfits.open(path, engine="cfitsio", cache=False) as theirs,
    ):
        for hdu in range(1, len(ours)):
            expected = data_of(plain, hdu)
            for found in readings(path, hdu):
                assert_bits(found, expected, hdu)
            # cfitsio cannot give unsigned numbers that are not compressed
            if ours[hdu].compression.codec != "NOCOMPRESS" or ours[hdu].dtype not in (
                torch.uint16,
                torch.uint32,
            ):
                assert_bits(theirs[hdu].read(), expected, hdu)
            # astropy does not know that cfitsio codes unsigned 16-bit numbers as they are
            if ours[hdu].compression.codec != "PLIO_1" or ours[hdu].dtype != torch.uint16:
                assert_bits(data_of(path, hdu), expected, hdu)


# ---------------------------------------------------------------------------- what fpack writes

BY_FPACK = [
    (algorithm, dtype)
    for algorithm in ALGORITHMS
    for dtype in INTEGERS + REALS
    # fpack refuses these
    if not (algorithm == "-p" and dtype in ("u4", "i4", *REALS))
    and not (algorithm == "-d" and dtype in ("u1", *REALS))
]


@pytest.mark.parametrize(("algorithm", "dtype"), BY_FPACK)
def test_what_fpack_writes(tmp_path, algorithm, dtype):
    # where tiles are not whole rows, funpack has the pixels around NaN wrong
    arrays = [np.nan_to_num(pixels(dtype, shape)) for shape in (PLANES if algorithm == "-h" else SHAPES)]
    if algorithm == "-p":
        arrays = [(array.astype("i4") % 1000).astype(dtype) for array in arrays]
    if algorithm == "-h":
        arrays = [(array.astype("i8") % 200).astype(dtype) for array in arrays]
    write(tmp_path / "a.fits", arrays)
    if algorithm == "-h":  # tiles have sides from 4
        sides = [(), ("-w",), ("-t", "12,8"), ("-t", "29,32"), ("-t", "7,11")]
    else:
        sides = [(), ("-w",), ("-t", "10,7"), ("-t", "16,16,2"), ("-t", "1,53"), ("-t", "60")]
    if dtype in INTEGERS and algorithm != "-h":  # funpack has reals of such tiles wrong
        sides.append(("-t", "1,1,5"))
    for n, side in enumerate(sides):
        fpack(tmp_path / "a.fits", tmp_path / f"{n}.fz", algorithm, *side, "-q77", 4)
        funpack(tmp_path / f"{n}.fz", tmp_path / f"{n}.fits")
        check_all(tmp_path / f"{n}.fz", tmp_path / f"{n}.fits")
    with torchfits.open(tmp_path / "0.fz") as file:
        assert {hdu.compression.codec for hdu in file if hdu.index} == {ALGORITHMS[algorithm]}


QUANTISED = [
    ("-q", 4), ("-q0", 4), ("-qz", 4), ("-q1", 16), ("-q10000", 2), ("-qz1", 0.5), ("-qz10000", 30),
    ("-qt", 4), ("-qzt", 4), ("-q5000", -0.125), ("-q0", -3.5),
]  # fmt: skip


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("option", QUANTISED, ids=lambda option: "".join(map(str, option)))
def test_quantised_by_fpack(tmp_path, option, dtype):
    # tiles of more pixels than there are random numbers, tiles that are not quantised, and some of NaN only
    arrays = [pixels(dtype, shape, 3) for shape in ((40, 211), (9, 11000), (2, 30, 29))]
    arrays[0][:3] = 5
    arrays[0][10:12] = np.nan
    arrays[2][0, 3, :5] = [np.inf, -np.inf, 1e30, -0.0, 1e-38]
    write(tmp_path / "a.fits", arrays)
    for n, algorithm in enumerate(("-r", "-g1", "-g2")):
        fpack(tmp_path / "a.fits", tmp_path / f"{n}.fz", algorithm, *option)
        funpack(tmp_path / f"{n}.fz", tmp_path / f"{n}.fits")
        check_all(tmp_path / f"{n}.fz", tmp_path / f"{n}.fits")


@pytest.mark.parametrize("algorithm", ["-g1", "-g2"])
@pytest.mark.parametrize("dtype", REALS)
def test_reals_without_loss(tmp_path, algorithm, dtype):
    array = pixels(dtype, (121, 41))
    write(tmp_path / "a.fits", [array])
    fpack(tmp_path / "a.fits", tmp_path / "a.fz", algorithm, "-t", "10,7", "-q", 0)
    for found in readings(tmp_path / "a.fz", 1):
        assert_bits(found, array)
    # denormals and NaN of all kinds, of which fpack makes 0 and one NaN
    bits = np.random.default_rng(1).integers(0, 2**64, 5000, dtype="u8").view(dtype)[:4961].reshape(121, 41)
    (tmp_path / "b.fits").write_bytes(compressed(bits, (7, 10), "GZIP_" + algorithm[-1]))
    for found in readings(tmp_path / "b.fits", 1):
        assert found.tobytes() == bits.tobytes()


def test_quantised_but_not_compressed(tmp_path):
    """What fpack -d makes of reals is left to cfitsio."""
    write(tmp_path / "a.fits", [np.nan_to_num(pixels("f4", (37, 53)))])
    fpack(tmp_path / "a.fits", tmp_path / "a.fz", "-d", "-q77", 4)
    funpack(tmp_path / "a.fz", tmp_path / "b.fits")
    with torchfits.open(tmp_path / "a.fz") as file:
        assert file[1].engine == "cfitsio"
        assert_bits(file[1].read(), data_of(tmp_path / "b.fits", 1))


@pytest.mark.parametrize("scale", [0, 1, 4, -8])
@pytest.mark.parametrize("dtype", ["i2", "i4", "f4"])
def test_hcompress_with_loss(tmp_path, scale, dtype):
    arrays = [(np.nan_to_num(pixels(dtype, shape)) % 5000).astype(dtype) for shape in PLANES]
    write(tmp_path / "a.fits", arrays)
    fpack(tmp_path / "a.fits", tmp_path / "a.fz", "-h", "-s", scale, "-t", "20,11")
    funpack(tmp_path / "a.fz", tmp_path / "a.fits2")
    check_all(tmp_path / "a.fz", tmp_path / "a.fits2")


@pytest.mark.parametrize("dtype", ["u1", "i2", "u2"])
def test_hcompress_that_overshoots(tmp_path, dtype):
    """Next to the least and the greatest number loss makes larger ones, which are cut off."""
    info, rng = np.iinfo(dtype), np.random.default_rng(9)
    array = rng.integers(info.min, info.max, (60, 64), endpoint=True)
    array[20:40, 10:50], array[45:, 5:40] = info.max, info.min
    write(tmp_path / "a.fits", [array.astype(dtype)])
    fpack(tmp_path / "a.fits", tmp_path / "a.fz", "-h", "-s", -(info.max - info.min) / 20, "-t", "32,20")
    data, bits = (tmp_path / "a.fz").read_bytes(), 8 * info.dtype.itemsize
    (tmp_path / "wide.fz").write_bytes(data.replace(b"ZBITPIX = %20d" % bits, b"ZBITPIX = %20d" % 32))
    wide = slow_read(tmp_path / "wide.fz") + (32768 if dtype == "u2" else 0)
    expected = wide.clip(info.min, info.max).astype(dtype)
    assert (wide != expected).sum() > 100
    for found in readings(tmp_path / "a.fz", 1):
        assert_bits(found, expected)
    if dtype != "u1":  # funpack gives up on bytes
        funpack(tmp_path / "a.fz", tmp_path / "b.fits")
        assert_bits(data_of(tmp_path / "b.fits", 1), expected)


def test_integers_as_reals_and_scaled_ones(tmp_path):
    """fpack -i2f; BSCALE and BZERO; BLANK; and fpack's -n for scaled integers."""
    hdus = [fits.PrimaryHDU(), fits.ImageHDU((pixels("i4", (40, 50)) * 30) % 9999)]
    for cards in ({"BSCALE": 0.5, "BZERO": 12.25}, {"BLANK": 104}, {"BSCALE": 2.0, "BLANK": 100}):
        hdu = fits.ImageHDU(pixels("i2", (20, 31)))
        hdu.header.update(cards)
        hdus.append(hdu)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fits.HDUList(hdus).writeto(tmp_path / "a.fits")
    for n, options in enumerate((("-i2f",), ("-r", "-t", "16,16"), ("-g2",), ("-r", "-n", 3))):
        fpack(tmp_path / "a.fits", tmp_path / f"{n}.fz", *options)
        funpack(tmp_path / f"{n}.fz", tmp_path / f"{n}.fits")
        check_plain(tmp_path / f"{n}.fz", tmp_path / f"{n}.fits")


def check_plain(path, plain) -> None:
    """As plain images are read, scaled and raw."""
    with torchfits.open(path) as ours, torchfits.open(plain) as theirs:
        assert len(ours) == len(theirs)
        for hdu in range(1, len(ours)):
            assert_same(ours[hdu].read(), theirs[hdu].read())
            if not ours[hdu].dtype.is_floating_point or "BSCALE" in theirs[hdu].read_header():
                assert_same(ours[hdu].read(raw=True), theirs[hdu].read(raw=True))


# ---------------------------------------------------------------------------- what astropy writes


@pytest.mark.parametrize("codec", ["RICE_1", "GZIP_1", "GZIP_2", "HCOMPRESS_1", "PLIO_1", "NOCOMPRESS"])
@pytest.mark.parametrize("dtype", INTEGERS + REALS)
def test_what_astropy_writes(tmp_path, codec, dtype):
    if (codec, dtype) in (("HCOMPRESS_1", "u4"), ("PLIO_1", "u2"), ("PLIO_1", "u4")):
        return
    if codec in ("PLIO_1", "NOCOMPRESS") and dtype in REALS:
        return
    hdus = []
    for shape, tile in (
        ((37, 53), (1, 53)),
        ((37, 53), (8, 9)),
        ((3, 20, 33), (1, 20, 33)),
        ((3, 20, 33), (1, 7, 7)),
    ):
        array = np.nan_to_num(pixels(dtype, shape)) if codec == "HCOMPRESS_1" else pixels(dtype, shape)
        if codec == "HCOMPRESS_1" and tile[-2] == 1:
            tile = (11, 53)
        if codec in ("HCOMPRESS_1", "PLIO_1"):
            array = (array.astype("i8") % 1000).astype(dtype)
        for method in (-1, 1, 2) if dtype in REALS else (None,):
            options = {} if method is None else {"quantize_method": method, "dither_seed": 9}
            hdus.append(fits.CompImageHDU(array, compression_type=codec, tile_shape=tile, **options))
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(tmp_path / "a.fits")
    for hdu in range(1, len(hdus) + 1):
        expected = data_of(tmp_path / "a.fits", hdu)
        for found in readings(tmp_path / "a.fits", hdu):
            assert_bits(found, expected, hdu)


@pytest.mark.parametrize("codec", ["GZIP_1", "GZIP_2", "NOCOMPRESS"])
def test_int64(tmp_path, codec):
    array = np.random.default_rng(2).integers(-(2**63), 2**63 - 1, (23, 17), endpoint=True)
    (tmp_path / "a.fits").write_bytes(compressed(array, (5, 4), codec))
    for found in readings(tmp_path / "a.fits", 1):
        assert_bits(found, array)
    assert_bits(slow_read(tmp_path / "a.fits"), array)
    if codec != "NOCOMPRESS":
        fits.HDUList(
            [fits.PrimaryHDU(), fits.CompImageHDU(array, compression_type=codec, tile_shape=(6, 17))]
        ).writeto(tmp_path / "b.fits")
        for found in readings(tmp_path / "b.fits", 1):
            assert_bits(found, array)


@pytest.mark.parametrize("codec", ["RICE_1", "GZIP_1", "GZIP_2", "NOCOMPRESS"])
@pytest.mark.parametrize("axes", [1, 2, 3, 4, 5, 6, 8, 16])
def test_many_axes(tmp_path, codec, axes):
    shape = (
        (2, 3, 1, 2, 3, 2, 1, 1, 1, 2, 1, 1, 1, 1, 1, 3)[-axes:] if axes > 6 else (4, 3, 5, 3, 2, 7)[-axes:]
    )
    tile = tuple((n + 1) // 2 for n in shape)
    array = pixels("i2", shape)
    path = tmp_path / "a.fits"
    path.write_bytes(compressed(array, tile, codec))
    for found in readings(path, 1):
        assert_bits(found, array)
    assert_bits(slow_read(path), array)
    section = tuple(slice(n // 3, None, 1 + n % 2) for n in shape)
    assert_bits(torchfits.read(path, 1, section), array[section])
    if 1 < axes < 6 and codec != "NOCOMPRESS":
        assert_bits(data_of(path, 1), array)
    with torchfits.open(path, engine="cfitsio", cache=False) as file:
        if axes >= 6:
            with pytest.raises(FitsUnsupported, match=f"{axes} axes"):
                file[1].read()
        elif codec != "NOCOMPRESS":  # which it looks for in UNCOMPRESSED_DATA
            assert_bits(file[1].read(), array)


def test_more_than_sixteen_axes_are_refused(tmp_path):
    path = tmp_path / "a.fits"
    path.write_bytes(compressed(pixels("i2", (1,) * 16 + (5,)), (1,) * 16 + (5,), "RICE_1"))
    with pytest.raises(FitsUnsupported, match="17 axes"):
        torchfits.read(path, 1)


# ---------------------------------------------------------------------------- real files

CORPUS = corpus_root()
REAL = (
    "GalSim-developers+GalSim/testD.fits.fz", "GalSim-developers+GalSim/testF.fits.fz",
    "GalSim-developers+GalSim/test_multiUI.fits.fz", "GalSim-developers+GalSim/test_multiUS.fits.fz",
    "legacysurvey+legacypipe/c4d_171113_060340_oow_r_ls9.N6.fits",
    "legacysurvey+legacypipe/k4m_160319_075112_ooi_zd_ls9.CCD3.fits",
    "legacysurvey+legacypipe/k4m_160319_075112_oow_zd_ls9.CCD3.fits",
    "legacysurvey+legacypipe/ksb_180313_081856_ooi_g_ls9.CCD4.fits",
    "legacysurvey+legacypipe/ksb_staticmask_ood_v1.fits.fz", "lsst+afw/ticketdm26260.fits.fz",
    "nom-tam-fits+nom-tam-fits/m13_hcomp.fits", "nom-tam-fits+nom-tam-fits/m13real_rice.fits",
)  # fmt: skip


@pytest.mark.skipif(CORPUS is None, reason="the corpus is not there")
@pytest.mark.parametrize("name", REAL)
def test_real_files(tmp_path, name):
    assert CORPUS is not None
    source = tmp_path / "a.fz"
    source.write_bytes((CORPUS / name).read_bytes())
    funpack(source, tmp_path / "a.fits")
    with torchfits.open(source) as packed, torchfits.open(tmp_path / "a.fits") as plain:
        # the first image may have become the primary one
        away = len(packed) - len(plain)
        for hdu in packed:
            if isinstance(hdu, torchfits.ImageHDU) and hdu.compression:
                expected = plain[hdu.index - away].read().numpy()
                for found in readings(source, hdu.index):
                    assert_bits(found, expected)
                section = tuple(slice(n // 3, 2 * n // 3, 3) for n in hdu.shape)
                assert_bits(hdu.read(section), expected[section])
