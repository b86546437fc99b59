"""For the tests of tile-compressed images: pixels, files of all kinds, what our codecs make of them."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
from astropy.io import fits
from images import torch_threads
from ztiles import compressed, native, streams, tiled, tiles_of

import torchfits


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
    """What our own codecs make of an image: by each variant of the kernels, by one thread and by two."""
    found = []
    for name, threads in itertools.product(torchfits._direct.variants(), (1, 2)):
        torchfits._direct.use_variant(name)
        with torch_threads(threads), torchfits.open(path) as file:
            assert file[hdu].engine == "direct"
            found.append(file[hdu].read().numpy())
    torchfits._direct.use_variant(torchfits._direct.variants()[0])
    return found


ARRAY = pixels("i2", (11, 23), 8)
TILE = (4, 6)
NUMBERS = np.random.default_rng(4).integers(-(10**6), 10**6, (11, 23)).astype("i4")
NUMBERS[3, 4:9], NUMBERS[5, 5:7] = -2147483647, -2147483646
COUNT = len(tiles_of(NUMBERS.shape, TILE))
SCALES = {
    "ZSCALE": ("1D", [0.1 + n / 7 for n in range(COUNT)]),
    "ZZERO": ("1D", [n * 3.7 for n in range(COUNT)]),
}
RICE = {"ZNAME1": "'BLOCKSIZE'", "ZVAL1": 32, "ZNAME2": "'BYTEPIX'", "ZVAL2": 4}


def kinds() -> dict[str, bytes]:
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
