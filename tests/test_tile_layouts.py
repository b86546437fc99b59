"""Tile-compressed images as raw bytes: what fpack and astropy do not write, and other programs may."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from astropy.io.fits.hdu.compressed._codecs import PLIO1
from tile_images import ARRAY, COUNT, NUMBERS, RICE, SCALES, TILE, data_of, pixels, readings, write
from ztiles import assert_bits, big, compressed, encode, fpack, funpack, slow_read, streams, tiled, tiles_of

import torchfits
from torchfits import FitsFormatError, FitsUnsupported

pytestmark = pytest.mark.native


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
    for wrong in bad:
        with pytest.raises(FitsFormatError, match="tile 1 has numbers beyond its ZBITPIX"):
            read(wrong)


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
