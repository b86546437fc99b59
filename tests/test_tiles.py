"""Tile-compressed images: bit for bit what funpack, astropy, cfitsio and a slow decoder make of them."""

from __future__ import annotations

import gzip
import itertools
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from astropy.io import fits
from astropy.io.fits.hdu.compressed._codecs import PLIO1
from conftest import corpus_root
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from images import assert_same, converted, run_child, torch_threads
from test_changing_files import CUTTER
from ztiles import (
    assert_bits,
    big,
    compressed,
    encode,
    fpack,
    funpack,
    native,
    slow_read,
    streams,
    tiled,
    tiles_of,
)

import torchfits
from torchfits import FitsFormatError, FitsUnsupported

pytestmark = pytest.mark.native
INTEGERS = ("u1", "i2", "u2", "i4", "u4")
REALS = ("f4", "f8")
ALGORITHMS = {
    "-r": "RICE_1", "-g1": "GZIP_1", "-g2": "GZIP_2", "-h": "HCOMPRESS_1", "-p": "PLIO_1", "-d": "NOCOMPRESS"
}  # fmt: skip
SHAPES = ((1,), (131,), (37, 53), (5, 13, 17))
PLANES = ((37, 53), (64, 4), (3, 20, 33))  # HCOMPRESS_1 takes sides from 4


def pixels(dtype: str, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Noise with leaps, to the limits of the dtype; reals with zeros, and NaN."""
    rng = np.random.default_rng([seed, *shape])
    if dtype[0] == "f":
        array = rng.normal(1000, 30, shape)
        array[rng.random(shape) < 0.1] = 0
        array[rng.random(shape) < 0.05] = np.nan
        return array.astype(dtype)
    info = np.iinfo(dtype)
    array = rng.normal(100, 20, shape).astype("i8")
    far = rng.random(shape) < 0.02
    array[far] = rng.integers(info.min, info.max, shape, endpoint=True)[far]
    return array.clip(info.min, info.max).astype(dtype)


def write(path, arrays) -> None:
    fits.HDUList([fits.PrimaryHDU(), *map(fits.ImageHDU, arrays)]).writeto(path)


def data_of(path, hdu: int) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with fits.open(path) as file:
            return native(file[hdu].data)


def readings(path, hdu: int) -> list[np.ndarray]:
    """What our own codecs make of an image: by either kind of kernels, by one thread and by two."""
    found = []
    for name, threads in itertools.product(torchfits._direct.variants(), (1, 2)):
        torchfits._direct.use_variant(name)
        with torch_threads(threads), torchfits.open(path) as file:
            assert file[hdu].engine == "direct"
            found.append(file[hdu].read().numpy())
    torchfits._direct.use_variant(torchfits._direct.variants()[0])
    return found


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


# ---------------------------------------------------------------------------- by raw bytes

ARRAY = pixels("i2", (11, 23), 8)
TILE = (4, 6)


def check(tmp_path, data: bytes, expected: np.ndarray, cfitsio: bool = True, slow: bool = True) -> None:
    """What our own codecs make of a file; so cfitsio and the slow decoder, where they can."""
    path = tmp_path / "a.fits"
    path.write_bytes(data)
    for found in readings(path, 1):
        assert_bits(found, expected)
    if slow:
        assert_bits(slow_read(path), expected)
    if cfitsio:
        with torchfits.open(path, engine="cfitsio") as file:
            assert_bits(file[1].read(), expected)


@pytest.mark.parametrize("form", ["1PB", "PB", "1QB", "QB(99)"])
@pytest.mark.parametrize("gap", [b"", bytes(3000)])
def test_descriptors(tmp_path, form, gap):
    cells = streams(ARRAY, TILE, "GZIP_2")["COMPRESSED_DATA"][1]
    columns = {"COMPRESSED_DATA": (form, cells)}
    check(tmp_path, tiled(ARRAY.shape, TILE, 16, "GZIP_2", columns, gap=gap), ARRAY)


@pytest.mark.parametrize("codec", ["RICE_1", "RICE_ONE"])
@pytest.mark.parametrize("block", [16, 32, 1, 7, 33, 1000])  # the standard has two of them
def test_names_and_blocks_of_rice(tmp_path, codec, block):
    columns = streams(ARRAY, TILE, "RICE_1", block)
    cards = {"ZNAME1": "'BLOCKSIZE'", "ZVAL1": block, "ZNAME2": "'BYTEPIX'", "ZVAL2": 2}
    check(tmp_path, tiled(ARRAY.shape, TILE, 16, codec, columns, **cards), ARRAY)
    with torchfits.open(tmp_path / "a.fits") as file:
        assert "RICE_1" in file.info()


@pytest.mark.parametrize(("stored", "bytepix"), [("i2", 4), ("u1", 4), ("i4", 4), ("u1", 2)])
def test_rice_of_other_bytes_a_pixel(tmp_path, stored, bytepix):
    """BYTEPIX of 4 is the default."""
    array = pixels(stored, (11, 23))
    wide = array.astype("i4" if bytepix == 4 else "i2")
    columns = streams(wide, TILE, "RICE_1")
    cards = {"ZNAME1": "'BLOCKSIZE'", "ZVAL1": 32}
    if bytepix != 4:
        cards |= {"ZNAME2": "'BYTEPIX'", "ZVAL2": bytepix}
    bitpix = array.dtype.itemsize * 8
    check(tmp_path, tiled(array.shape, TILE, bitpix, "RICE_1", columns, **cards), array)


@pytest.mark.parametrize("stored", ["u1", "i2"])
def test_gzip_of_four_bytes_a_pixel(tmp_path, stored):
    """Old versions of cfitsio wrote all integers so."""
    array = pixels(stored, (11, 23))
    cells = [encode("GZIP_1", array[each].astype("i4")) for each in tiles_of(array.shape, TILE)]
    columns = {"COMPRESSED_DATA": ("1PB", cells)}
    check(tmp_path, tiled(array.shape, TILE, array.dtype.itemsize * 8, "GZIP_1", columns), array)


def plio(pixels: list[int]) -> bytes:
    stream = PLIO1(tilesize=len(pixels)).encode(np.array(pixels, "i4"))
    return np.frombuffer(stream, "i2").astype(">i2").tobytes()


@pytest.mark.parametrize(
    ("bitpix", "zero", "sound", "bad"),
    [
        (8, 0, [0, 255, 255, 7, 0, 0], [[256], [255, 256, 0], [0, 0, 70000]]),
        (16, 0, [0, 32767, 32767, 7, 0, 0], [[32768], [0, 65536], [1, 32768, 1]]),
        (16, 32768, [0, 65535, 65535, 32768, 32767, 0, 0], [[65536], [0, 1 << 23, 0]]),
        (32, 0, [0, 65535, 65535, (1 << 24) - 1, 0], []),
    ],
)
@pytest.mark.parametrize("dtype", [None, torch.float32, torch.float64])
def test_plio_of_any_width(tmp_path, bitpix, zero, sound, bad, dtype):
    """Straight to the pixels or by way of the stored numbers; what ZBITPIX cannot hold is damage."""
    path = tmp_path / "a.fits"
    cards = {"BZERO": zero, "BSCALE": 1} if zero else {}

    def read(pixels: list[int]) -> torch.Tensor:
        columns = {"COMPRESSED_DATA": ("1PI", [plio(sound), plio(pixels)])}
        shape = 2, len(sound)
        path.write_bytes(tiled(shape, (1, len(sound)), bitpix, "PLIO_1", columns, **cards))
        return torchfits.read(path, 1, dtype=dtype)

    assert read(sound).tolist() == [sound, sound]
    assert read([0]).tolist() == [sound, [0] * len(sound)]
    assert read([1]).tolist() == [sound, [1] + [0] * (len(sound) - 1)]
    for pixels in bad:
        with pytest.raises(FitsFormatError, match="tile 1 has numbers beyond its ZBITPIX"):
            read(pixels)


def test_the_lowest_bad_tile_is_named(tmp_path):
    """Whatever is wrong, with however many, in whatever thread they are decoded."""
    random = np.random.default_rng(8)
    array = random.integers(-99, 99, (600, 400)).astype("i2")
    cells = streams(array, (1, 400), "RICE_1")["COMPRESSED_DATA"][1]
    cards = {"ZNAME1": "'BLOCKSIZE'", "ZVAL1": 32, "ZNAME2": "'BYTEPIX'", "ZVAL2": 2}
    path = tmp_path / "a.fits"
    for n in range(60):
        # within what is decoded together, and further apart
        first = int(random.integers(0, 590))
        bad = {first, *(first + random.integers(0, (4, 16, 600)[n % 3], 5) % (600 - first))}
        columns: list[bytes | None] = list(cells)
        for tile in bad:
            # a stream that ends sooner or later, or none
            cut = None if random.random() < 0.2 else int(random.integers(1, len(cells[tile]) - 1))
            columns[tile] = cells[tile][:cut] if cut else None
        damaged = {"COMPRESSED_DATA": ("1PB", columns)}
        path.write_bytes(tiled(array.shape, (1, 400), 16, "RICE_1", damaged, **cards))
        for threads in (1, 2, 4):
            with torch_threads(threads), torchfits.open(path, cache=False) as file:
                for dtype in (None, torch.float64):
                    with pytest.raises(FitsFormatError, match=f"the compressed tile {min(bad)} "):
                        file[1].read(dtype=dtype)


@pytest.mark.parametrize("dtype", [None, torch.float32])
def test_rice_is_decoded_as_far_as_it_is_wanted(tmp_path, dtype):
    """What is wrong further on is seen by those who read it."""
    array = np.random.default_rng(9).integers(-99, 99, (20, 400)).astype("i2")
    cells = [cell[:-100] for cell in streams(array, (1, 400), "RICE_1")["COMPRESSED_DATA"][1]]
    cards = {"ZNAME1": "'BLOCKSIZE'", "ZVAL1": 32, "ZNAME2": "'BYTEPIX'", "ZVAL2": 2}
    path = tmp_path / "a.fits"
    path.write_bytes(tiled(array.shape, (1, 400), 16, "RICE_1", {"COMPRESSED_DATA": ("1PB", cells)}, **cards))
    expected = torch.from_numpy(array) if dtype is None else torch.from_numpy(array).to(dtype)
    for section in ((slice(None), slice(0, 250)), (slice(3, 9), slice(7, 250, 3)), (..., 249), (19, 31)):
        with torchfits.open(path, cache=False) as file:
            assert torch.equal(file[1].read(section, dtype=dtype), expected[section])
        with (
            torchfits.open(path, cache=False) as file,
            pytest.raises(FitsFormatError, match="ends before its numbers do"),
        ):
            file[1].read((section[0], slice(0, 399)), dtype=dtype)
    with torchfits.open(path, cache=False) as file:
        windows = file[1].cutouts([(0, 0), (4, 120), (1, 230)], (16, 20))
        assert_bits(windows[1:], np.stack([array[4:20, 120:140], array[1:17, 230:250]]))
        for _ in range(2):  # tiles that are kept are whole
            assert_bits(file[1].cutouts([(4, 120), (1, 230)], (16, 20)), windows[1:])
            with pytest.raises(FitsFormatError, match="tile 4 ends before its numbers do"):
                file[1].cutouts([(0, 0), (4, 379)], 16)


@pytest.mark.parametrize("engine", ["direct", "cfitsio"])
def test_masks_of_null_pixels(tmp_path, engine):
    """ZMASKCMP tells how they are coded; without their column there are none, with it they would be lost."""
    path = tmp_path / "a.fits"
    columns = streams(ARRAY, TILE, "GZIP_1")
    path.write_bytes(tiled(ARRAY.shape, TILE, 16, "GZIP_1", columns, ZMASKCMP="'RICE_1'"))
    with torchfits.open(path, engine=engine) as file:
        assert_bits(file[1].read(), ARRAY)
        assert "ZMASKCMP" not in file[1].read_header()
    none = [None] * len(columns["COMPRESSED_DATA"][1])
    for name in ("NULL_PIXEL_MASK", "Null_Pixel_Mask"):
        for cards in ({"ZMASKCMP": "'RICE_1'"}, {}):
            with_mask = {**columns, name: ("1PB", [b"\1" * 9, *none[1:]])}
            path.write_bytes(tiled(ARRAY.shape, TILE, 16, "GZIP_1", with_mask, **cards))
            with torchfits.open(path, engine=engine) as file:
                for read in (file[1].read, lambda hdu=file[1]: hdu.cutouts([(0, 0)], 2)):
                    with pytest.raises(FitsUnsupported, match="NULL_PIXEL_MASK"):
                        read()
            with torchfits.open(path, raw_compressed=True) as file:
                assert file[1].read_table([name])


def test_columns_that_stand_in(tmp_path):
    """A tile in each of the three columns; cfitsio looks at UNCOMPRESSED_DATA before GZIP_COMPRESSED_DATA."""
    parts = [ARRAY[each] for each in tiles_of(ARRAY.shape, TILE)]
    cells = [encode("RICE_1", part) for part in parts]
    cards = {"ZNAME1": "'BLOCKSIZE'", "ZVAL1": 32, "ZNAME2": "'BYTEPIX'", "ZVAL2": 2}
    for name, form, instead in (
        ("GZIP_COMPRESSED_DATA", "1PB", [encode("GZIP_1", part) for part in parts]),
        ("UNCOMPRESSED_DATA", "1PI", [big(part) for part in parts]),
    ):
        columns = {
            "COMPRESSED_DATA": ("1PB", [None if n % 3 == 1 else cell for n, cell in enumerate(cells)]),
            name: (form, [cell if n % 3 == 1 else None for n, cell in enumerate(instead)]),
        }
        # cfitsio has gzip of 4 bytes a pixel there
        check(
            tmp_path, tiled(ARRAY.shape, TILE, 16, "RICE_1", columns, **cards), ARRAY, cfitsio=form == "1PI"
        )


@pytest.mark.parametrize(
    ("bitpix", "form", "stored"),
    [(32, "1PJ", "i4"), (8, "1PB", "u1"), (-64, "1PD", "f8"), (-32, "1PE", "f4")],
)
def test_all_tiles_uncompressed(tmp_path, bitpix, form, stored):
    array = pixels(stored, (11, 23))
    parts = [big(array[each]) for each in tiles_of(array.shape, TILE)]
    columns = {
        "COMPRESSED_DATA": ("1PB", [None] * len(parts)), "UNCOMPRESSED_DATA": (form, parts),
        "ZSCALE": ("1D", [0.0] * len(parts)), "ZZERO": ("1D", [0.0] * len(parts)),
    }  # fmt: skip
    if bitpix > 0:
        columns = {name: columns[name] for name in ("COMPRESSED_DATA", "UNCOMPRESSED_DATA")}
    check(tmp_path, tiled(array.shape, TILE, bitpix, "GZIP_1", columns), array)


NUMBERS = np.random.default_rng(4).integers(-(10**6), 10**6, (11, 23)).astype("i4")
NUMBERS[3, 4:9], NUMBERS[5, 5:7] = -2147483647, -2147483646
COUNT = len(tiles_of(NUMBERS.shape, TILE))
SCALES = {
    "ZSCALE": ("1D", [0.1 + n / 7 for n in range(COUNT)]),
    "ZZERO": ("1D", [n * 3.7 for n in range(COUNT)]),
}
RICE = {"ZNAME1": "'BLOCKSIZE'", "ZVAL1": 32, "ZNAME2": "'BYTEPIX'", "ZVAL2": 4}


@pytest.mark.parametrize("bitpix", [-32, -64])
@pytest.mark.parametrize("method", ["NO_DITHER", "SUBTRACTIVE_DITHER_1", "SUBTRACTIVE_DITHER_2", None])
@pytest.mark.parametrize("seed", [1, 2, 9999, 10000])
@pytest.mark.parametrize("blank", ["none", "keyword", "column", "other"])
def test_quantised(tmp_path, bitpix, method, seed, blank):
    columns = {**streams(NUMBERS, TILE, "RICE_1"), **SCALES}
    cards: dict[str, object] = {**RICE, "ZDITHER0": seed, "ZQUANTIZ": method and f"'{method}'"}
    if blank == "keyword":
        cards["ZBLANK"] = -2147483647
    elif blank == "other":
        cards["ZBLANK"] = int(NUMBERS[0, 0])
    elif blank == "column":
        columns["ZBLANK"] = ("1J", [-2147483647 if n % 2 else 7 for n in range(COUNT)])
    path = tmp_path / "a.fits"
    path.write_bytes(tiled(NUMBERS.shape, TILE, bitpix, "RICE_1", columns, **cards))
    expected = slow_read(path)
    for found in readings(path, 1):
        assert_bits(found, expected)
    # without ZBLANK cfitsio has a null of its own
    if blank in ("keyword", "column"):
        with torchfits.open(path, engine="cfitsio") as file:
            assert_bits(file[1].read(), expected)


@pytest.mark.parametrize("form", ["1E", "1D", "1J", "1I"])
def test_scales_of_any_type(tmp_path, form):
    kind = int if form in ("1J", "1I") else float
    scales = {name: (form, [kind(3 * n + 2) for n in range(COUNT)]) for name in ("ZSCALE", "ZZERO")}
    path = tmp_path / "a.fits"
    path.write_bytes(
        tiled(NUMBERS.shape, TILE, -32, "RICE_1", {**streams(NUMBERS, TILE, "RICE_1"), **scales}, **RICE)
    )
    for found in readings(path, 1):
        assert_bits(found, slow_read(path))


@pytest.mark.parametrize("scale", [1.0, 0.37])
def test_one_scale_for_all_tiles(tmp_path, scale):
    """cfitsio takes 0 for the scale, astropy the integers for reals."""
    columns = streams(NUMBERS, TILE, "GZIP_1")
    cards = {"ZSCALE": scale, "ZZERO": -5.25, "ZQUANTIZ": "'SUBTRACTIVE_DITHER_1'", "ZDITHER0": 3}
    data = tiled(NUMBERS.shape, TILE, -32, "GZIP_1", columns, **cards)
    check(tmp_path, data, expected_of(tmp_path, data), cfitsio=False)


def expected_of(tmp_path, data: bytes) -> np.ndarray:
    path = tmp_path / "slow.fits"
    path.write_bytes(data)
    return slow_read(path)


@pytest.mark.parametrize("seed", [1, 7, 10000])
def test_a_tile_of_more_pixels_than_there_are_random_numbers(tmp_path, seed):
    numbers = np.random.default_rng(4).integers(-999, 999, (3, 25013)).astype("i4")
    columns = {
        **streams(numbers, (1, 25013), "GZIP_2"),
        "ZSCALE": ("1D", [0.5] * 3),
        "ZZERO": ("1D", [1.0] * 3),
    }
    cards = {"ZQUANTIZ": "'SUBTRACTIVE_DITHER_1'", "ZDITHER0": seed}
    data = tiled(numbers.shape, (1, 25013), -32, "GZIP_2", columns, **cards)
    check(tmp_path, data, expected_of(tmp_path, data))


@pytest.mark.parametrize("smooth", [0, 1])
def test_smooth(tmp_path, smooth):
    array = np.random.default_rng(5).normal(500, 40, (60, 44)).astype("i4")
    write(tmp_path / "a.fits", [array])
    fpack(tmp_path / "a.fits", tmp_path / "a.fz", "-h", "-s", -30, "-t", "44,30")
    data = (
        (tmp_path / "a.fz")
        .read_bytes()
        .replace(b"ZVAL2   =                    0", b"ZVAL2   =                    %d" % smooth)
    )
    (tmp_path / "b.fz").write_bytes(data)
    funpack(tmp_path / "b.fz", tmp_path / "b.fits")
    check(tmp_path, data, data_of(tmp_path / "b.fits", 1))


def test_zblank_of_integers_is_blank(tmp_path):
    array = pixels("i2", (11, 23))
    expected = array.astype("f4")
    expected[array == 100] = np.nan
    for name in ("ZBLANK", "BLANK"):
        check(tmp_path, compressed(array, TILE, "GZIP_1", **{name: 100}), expected, slow=False)
        with torchfits.open(tmp_path / "a.fits") as file:
            assert_bits(file[1].read(raw=True), array)


# ---------------------------------------------------------------------------- parts of images


def kinds() -> dict[str, tuple[bytes, int]]:
    """Files of different images, by name."""
    cube, quantised = pixels("i4", (5, 19, 31)), {**streams(NUMBERS, TILE, "RICE_1"), **SCALES}
    cards = {**RICE, "ZQUANTIZ": "'SUBTRACTIVE_DITHER_2'", "ZDITHER0": 5, "ZBLANK": -2147483647}
    return {
        "squares": compressed(pixels("i2", (67, 83)), (16, 16), "RICE_1"),
        "rows": compressed(pixels("u1", (67, 83)), (1, 83), "RICE_1"),
        "one column": compressed(pixels("i4", (67, 21)), (67, 1), "GZIP_2"),
        "one tile": compressed(pixels("f8", (67, 83)), (67, 83), "GZIP_2"),
        "pixels": compressed(pixels("i2", (9, 11)), (1, 1), "NOCOMPRESS"),
        "cube": compressed(cube, (2, 5, 7), "GZIP_1"),
        "planes": compressed(cube, (1, 19, 31), "RICE_1"),
        "line": compressed(pixels("i2", (301,)), (17,), "RICE_1"),
        "unsigned": compressed(pixels("i2", (67, 83)), (16, 16), "RICE_1", BZERO=32768),
        "scaled": compressed(pixels("i2", (67, 83)), (16, 16), "RICE_1", BZERO=5.5, BSCALE=0.25, BLANK=100),
        "quantised": tiled(NUMBERS.shape, TILE, -32, "RICE_1", quantised, **cards),
    }


KINDS = kinds()


@pytest.fixture(params=KINDS)
def file(request, tmp_path):
    path = tmp_path / "a.fits"
    path.write_bytes(KINDS[request.param])
    with torchfits.open(path, cache=False) as opened:
        yield opened


def some_sections(shape: tuple[int, ...], seed: int) -> list[tuple[object, ...]]:
    rng = np.random.default_rng(seed)
    found: list[tuple[object, ...]] = [(...,), (0,), (-1, ...), (..., -1), (..., slice(None, None, 7))]
    for _ in range(60):
        section: list[object] = []
        for n in shape:
            low, high = sorted(rng.integers(0, n, 2).tolist())
            step = int(rng.choice([1, 1, 2, 3, 16, 17, 40]))
            section.append(low if rng.random() < 0.15 else slice(low, high + 1, step))
        found.append(tuple(section))
    return found


@pytest.mark.parametrize("threads", [1, 2])
def test_sections(file, variant, threads):
    with torch_threads(threads):
        hdu = file[1]
        whole, raw = hdu.read(), hdu.read(raw=True)
        assert_bits(raw, slow_read(file.path))
        for section in some_sections(hdu.shape, 1) * 2:
            assert_bits(hdu.read(section), whole.numpy()[section], section)
            assert_bits(hdu.read(section, raw=True), raw.numpy()[section], section)


@pytest.mark.parametrize(
    "dtype",
    [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64, torch.uint8, torch.bool],
)
def test_dtypes(file, dtype):
    """As of plain images: `images.converted` is the oracle of both."""
    hdu = file[1]
    whole = hdu.read()
    if hdu.read_header().get("BLANK") is not None and not dtype.is_floating_point:
        with pytest.raises(FitsFormatError, match="null"):
            hdu.read(dtype=dtype)
        return
    scaled = "BSCALE" in hdu.read_header() and hdu.dtype == torch.float32
    values = whole.numpy()
    if scaled:
        stored = hdu.read(raw=True).numpy()
        values = stored.astype("f8") * 0.25 + 5.5
        values[stored == 100] = np.nan
    expected = converted(values, dtype)
    assert_same(hdu.read(dtype=dtype), expected)
    out = torch.full(hdu.shape, 1, dtype=dtype)
    assert hdu.read(out=out) is out
    assert_same(out, expected)
    section = tuple(slice(n // 3, None, 2) for n in hdu.shape)
    assert_same(hdu.read(section, dtype=dtype), expected[section].contiguous())


@pytest.mark.parametrize("threads", [1, 2])
def test_cutouts(file, variant, threads):
    hdu = file[1]
    if len(hdu.shape) < 2:
        with pytest.raises(FitsFormatError, match="rows and columns"):
            hdu.cutouts([(0, 0)], 2)
        return
    whole, rng = hdu.read(dtype=torch.float64).numpy(), np.random.default_rng(6)
    rows, columns = hdu.shape[-2:]
    for size in ((1, 1), (5, 3), (rows + 2, columns + 3)):
        corners = np.stack(
            [rng.integers(-size[0] - 1, rows + 2, 40), rng.integers(-size[1] - 1, columns + 2, 40)], 1
        )
        corners = np.concatenate(
            [corners, corners[:5], [[0, 0], [rows - 1, columns - 1], [2**62, 5], [-(2**62), -7]]]
        )
        expected = np.full((len(corners), *hdu.shape[:-2], *size), -5.0)
        for n, (top, left) in enumerate(corners.tolist()):
            for i, j in itertools.product(range(size[0]), range(size[1])):
                if 0 <= top + i < rows and 0 <= left + j < columns:
                    expected[n, ..., i, j] = whole[..., top + i, left + j]
        with torch_threads(threads):
            for _ in range(2):  # the second time from the cache
                assert_bits(hdu.cutouts(corners, size, fill=-5.0, dtype=torch.float64), expected, size)
    assert hdu.cutouts(np.empty((0, 2), "i8"), 3).shape == (0, *hdu.shape[:-2], 3, 3)
    if not hdu.dtype.is_floating_point:
        with pytest.raises(FitsFormatError, match="fill"):
            hdu.cutouts([(-1, 0)], 2)


def test_batches(tmp_path):
    arrays = [pixels("i2", (67, 83), n) for n in range(4)]
    paths = [tmp_path / f"{n}.fits" for n in range(4)]
    for path, array in zip(paths, arrays, strict=True):
        path.write_bytes(compressed(array, (16, 16), "RICE_1"))
    assert_bits(torchfits.read_batch(paths, 1), np.stack(arrays))
    section = (slice(10, 40), slice(3, 50, 2))
    assert_bits(torchfits.read_batch(paths, 1, section=section), np.stack(arrays)[(slice(None), *section)])
    (tmp_path / "2.fits").write_bytes(compressed(arrays[2], (16, 16), "RICE_1")[:9000])
    with pytest.raises(FitsFormatError, match=r"2\.fits"):
        torchfits.read_batch(paths, 1)


def test_within_gzip(file, tmp_path):
    packed = tmp_path / "a.fits.gz"
    packed.write_bytes(gzip.compress((tmp_path / "a.fits").read_bytes(), 1))
    with torchfits.open(packed) as inside:
        assert_bits(inside[1].read(), file[1].read().numpy())
        section = tuple(slice(0, n, 3) for n in file[1].shape)
        for _ in range(2):
            assert_bits(inside[1].read(section), file[1].read(section).numpy())


# ---------------------------------------------------------------------------- any image


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_image(tmp_path, data):
    axes = data.draw(st.integers(1, 4))
    shape = tuple(data.draw(st.lists(st.integers(1, 13), min_size=axes, max_size=axes)))
    tile = tuple(data.draw(st.integers(1, n)) for n in shape)
    codec = data.draw(st.sampled_from(["RICE_1", "GZIP_1", "GZIP_2", "NOCOMPRESS"]))
    stored = data.draw(
        st.sampled_from(["u1", "i2", "i4"] if codec == "RICE_1" else ["u1", "i2", "i4", "i8", "f4", "f8"])
    )
    array = pixels(stored, shape, data.draw(st.integers(0, 5)))
    path = tmp_path / "any.fits"
    path.write_bytes(compressed(array, tile, codec))
    name = data.draw(st.sampled_from(torchfits._direct.variants()))
    section = tuple(
        slice(low, data.draw(st.integers(low, n)), data.draw(st.integers(1, 5)))
        for n in shape
        for low in [data.draw(st.integers(0, n - 1))]
    )
    torchfits._direct.use_variant(name)
    try:
        with torchfits.open(path, cache=False) as file:
            for _ in range(2):
                assert_bits(file[1].read(section), array[section])
            assert_bits(file[1].read(), array)
    finally:
        torchfits._direct.use_variant(torchfits._direct.variants()[0])


# ---------------------------------------------------------------------------- files that change, damage

RACER = """
import random, sys, time, torch, torchfits
from torchfits import FitsFormatError, FitsIOError, HduMissing
path, threads = sys.argv[1], int(sys.argv[2])
torch.set_num_threads(threads)
expected = (torch.arange(1000 * 1200) * 31 % 4099).to(torch.int16).reshape(1000, 1200)
torchfits.versions()
random_, right, errors, until = random.Random(5), 0, 0, time.monotonic() + 20
while min(right, errors) < 30 and time.monotonic() < until:
    try:
        with torchfits.open(path, cache=False) as f:
            for _ in range(40):
                row, column = random_.randrange(940), random_.randrange(1140)
                windows = f[1].cutouts([(row, column), (940, column)], 60)
                assert torch.equal(windows[0], expected[row : row + 60, column : column + 60])
                assert torch.equal(windows[1], expected[-60:, column : column + 60])
                assert torch.equal(f[1][::7, column], expected[::7, column])
                right += 1
                assert torch.equal(f[1].read(), expected)
                right += 1
    except (FitsIOError, HduMissing):
        errors += 1
    except FitsFormatError as error:  # opened while it was short
        assert any(each in str(error) for each in ("cut short", "empty", "END", "SIMPLE", "ends")), error
        errors += 1
print(right, errors)
"""


@pytest.mark.parametrize("threads", [1, 2])
def test_a_race_with_one_who_cuts_the_file(tmp_path, threads):
    path = tmp_path / "a.fits"
    array = (np.arange(1000 * 1200) * 31 % 4099).astype("i2").reshape(1000, 1200)
    path.write_bytes(compressed(array, (50, 300), "NOCOMPRESS"))
    with subprocess.Popen([sys.executable, "-c", CUTTER, path], stdout=subprocess.PIPE) as cutter:
        try:
            assert cutter.stdout is not None
            assert cutter.stdout.readline() == b"begins\n"
            right, errors = map(int, run_child(RACER, path, threads).split())
        finally:
            cutter.kill()
    assert right > 0
    assert errors > 0


MUTANTS = """
import os, random, sys, resource, warnings, torch, torchfits
from pathlib import Path
path, kinds, seed = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
if "ASAN_OPTIONS" not in os.environ:  # the sanitizer takes memory of its own
    resource.setrlimit(resource.RLIMIT_DATA, (3 << 30, 3 << 30))
warnings.simplefilter("ignore")
random_ = random.Random(seed)
whole = {kind: kind.read_bytes() for kind in sorted(kinds.iterdir())}
outcomes = {"read": 0, "refused": 0}
for _ in range(600):
    data = bytearray(random_.choice(list(whole.values())))
    for _ in range(random_.choice((1, 1, 2, 4))):
        how, at = random_.random(), random_.randrange(6000, len(data))
        if how < 0.2:  # a digit of the header
            digits = [i for i in range(2880, min(len(data), 8640)) if 48 <= data[i] < 58]
            data[random_.choice(digits)] = random_.randrange(48, 58)
        elif how < 0.25:
            del data[at:]
            data += bytes(1)
        elif how < 0.6:
            data[at] ^= 1 << random_.randrange(8)
        else:
            for i in range(at, min(at + random_.choice((1, 2, 4, 8, 40)), len(data))):
                data[i] = random_.choice((0, 255, 127, 128, random_.randrange(256)))
    path.write_bytes(data)
    try:
        with torchfits.open(path, cache=False) as f:
            hdu = f[1]
            if not isinstance(hdu, torchfits.ImageHDU):
                continue
            hdu.read()
            part = tuple(slice(0, n, 2) for n in hdu.shape)
            assert torch.equal(hdu[part], hdu.read()[part]) or hdu.dtype.is_floating_point
        outcomes["read"] += 1
    except torchfits.FitsError as error:
        assert str(path) in str(error), error
        outcomes["refused"] += 1
    except MemoryError:
        outcomes["refused"] += 1
assert all(count > 50 for count in outcomes.values()), outcomes
print(outcomes)
"""


@pytest.mark.parametrize("seed", range(3))
def test_mutants(tmp_path, seed):
    """Files of all codecs, damaged: they are read or refused; nothing dies, hangs or takes much memory."""
    kinds = tmp_path / "kinds"
    kinds.mkdir()
    for name, data in KINDS.items():
        (kinds / name).write_bytes(data)
    write(tmp_path / "a.fits", [(pixels("i4", (40, 53)).astype("i8") % 200).astype("i2")])
    for option in ("-h", "-p"):
        fpack(tmp_path / "a.fits", kinds / option, option, "-t", "20,11")
    run_child(MUTANTS, tmp_path / "b.fits", kinds, seed)


@pytest.mark.parametrize("form", ["1PB", "1QB"])
def test_a_heap_of_more_than_31_bits(tmp_path, form):
    """cfitsio writes P descriptors into heaps of up to 4 GiB, without a sign. The file has holes."""
    cells, far = streams(ARRAY, TILE, "RICE_1")["COMPRESSED_DATA"][1], 2**31 + 8
    offsets = np.cumsum([far, *map(len, cells)])[:-1]
    rows = np.array([(len(cell), at) for cell, at in zip(cells, offsets, strict=True)])
    packed = rows.astype(">u4" if form == "1PB" else ">i8").tobytes()
    cards = {"ZNAME1": "'BLOCKSIZE'", "ZVAL1": 32, "ZNAME2": "'BYTEPIX'", "ZVAL2": 2}
    columns = {"COMPRESSED_DATA": (form, [None] * len(cells))}
    size = far + len(b"".join(cells))
    data = tiled(ARRAY.shape, TILE, 16, "RICE_1", columns, rows=packed, pcount=size, **cards)
    path, start = tmp_path / "a.fits", len(data) - 2880 + len(packed)
    path.write_bytes(data[:start])
    with path.open("r+b") as file:
        file.seek(start + far)
        file.write(b"".join(cells))
        file.truncate(start + size + -(start + size) % 2880)
    for found in readings(path, 1):
        assert_bits(found, ARRAY)


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
