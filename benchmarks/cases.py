"""The cases of the race: what is read, and the files it is read from, written by astropy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

Files = str | list[str]


@dataclass(frozen=True)
class Case:
    """One line of the table."""

    title: str
    kind: str  # what the readers are asked for: a key of their WAYS
    make: Callable[[Path], Files]
    floor: bool = False  # a plain image, which the floor can be measured for


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal(shape, dtype="f4")


def image(*shape: int, dtype: str = "f4") -> Callable[[Path], Files]:
    def make(path: Path) -> Files:
        pixels = noise(*shape) if dtype == "f4" else (1000 * noise(*shape) + 10000).astype(dtype)
        fits.writeto(path, pixels)
        return str(path)

    return make


def scaled(path: Path) -> Files:
    # a power of two, so that float32 holds every value: astropy scales in float32, others in float64
    hdu = fits.PrimaryHDU(1000 + noise(4096, 4096) * 100)
    hdu.scale("int16", bscale=0.125, bzero=1000)
    hdu.writeto(path)
    return str(path)


def packed(path: Path) -> Files:
    # the name says how astropy writes it
    path = path.with_suffix(".fits.gz")
    fits.writeto(path, noise(1024, 1024))
    return str(path)


def compressed(dtype: str, side: int, codec: str, **options: Any) -> Callable[[Path], Files]:
    def make(path: Path) -> Files:
        pixels = 30 * noise(side, side) + 1000
        hdu = fits.CompImageHDU(pixels.astype(dtype), compression_type=codec, **options)
        fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path)
        return str(path)

    return make


def sky(dtype: str) -> Callable[[Path], Files]:
    """What is to be written, as a plain image."""

    def make(path: Path) -> Files:
        fits.writeto(path, (30 * noise(4096, 4096) + 1000).astype(dtype))
        return str(path)

    return make


def mask(path: Path) -> Files:
    """What masks are like: a few hundred bits set, here and there in runs."""
    pixels = np.zeros((2048, 2048), "i2")
    for row, column in np.random.default_rng(1).integers(0, 2000, (300, 2)):
        pixels[row : row + 8, column : column + 20] |= 1 << row % 8
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(pixels, compression_type="PLIO_1")]).writeto(path)
    return str(path)


def stamps(folder: Path) -> Files:
    """1000 images of 128², with a header of one block."""
    folder.mkdir()
    pixels = noise(1000, 128, 128)
    paths = [str(folder / f"stamp{i:04}.fits") for i in range(len(pixels))]
    for i, path in enumerate(paths):
        header = fits.Header(
            {"OBJECT": f"NGC {i}", "TELESCOP": "a telescope", "FILTER": "r", "AIRMASS": 1.25}
        )
        header.update({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 150.1, "CRVAL2": 2.2})
        header.update({"CRPIX1": 64.5, "CRPIX2": 64.5, "CDELT1": -5e-5, "CDELT2": 5e-5})
        header.update(
            {"DATE-OBS": "2026-11-21", "NCOMBINE": i % 7, "EXPTIME": 30 + i / 8, "GAIN": 1.5, "AIRMASS": 1.25}
        )
        fits.writeto(path, pixels[i], header)
    return paths


def extensions(path: Path) -> Files:
    pixels = noise(100, 256, 256)
    hdus = [fits.ImageHDU(each, name=f"E{i}") for i, each in enumerate(pixels)]
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(path)
    return str(path)


def spectra(folder: Path) -> Files:
    """300 spectra: an empty primary, FLUX, IVAR, and METADATA, a table of one row."""
    folder.mkdir()
    paths = [str(folder / f"spectrum{i:03}.fits") for i in range(300)]
    flux, ivar = noise(300, 4000), noise(300, 4000) ** 2
    row = np.zeros(1, dtype=[("TARGETID", "i8"), ("Z", "f8"), ("ZERR", "f8"), ("RA", "f8"), ("CLASS", "S6")])
    for i, path in enumerate(paths):
        row["TARGETID"], row["Z"], row["CLASS"] = i, i / 300, b"GALAXY"
        hdus: list[Any] = [fits.PrimaryHDU(), fits.ImageHDU(flux[i], name="FLUX")]
        hdus += [fits.ImageHDU(ivar[i], name="IVAR"), fits.BinTableHDU(row, name="METADATA")]
        fits.HDUList(hdus).writeto(path)
    return paths


def catalogue(path: Path) -> Files:
    """A million rows of eight columns; 3 % of them are bright and of class 2."""
    n, rng = 1_000_000, np.random.default_rng(1)
    types = [("ID", ">i8"), ("RA", ">f8"), ("DEC", ">f8"), ("MAG_G", ">f4"), ("MAG_R", ">f4")]
    table = np.zeros(n, dtype=[*types, ("NOBS", ">i2"), ("CLASS", "u1"), ("NAME", "S12")])
    table["ID"] = rng.integers(0, 2**62, n)
    table["RA"], table["DEC"] = rng.uniform(0, 360, n), rng.uniform(-90, 90, n)
    table["MAG_G"], table["MAG_R"] = rng.uniform(14, 24, n), rng.uniform(14, 24, n)
    table["NOBS"], table["CLASS"] = rng.integers(0, 999, n), rng.integers(0, 10, n)
    table["NAME"] = [b"star%08d" % i for i in range(n)]
    fits.BinTableHDU(table).writeto(path)
    return str(path)


def wide(path: Path) -> Files:
    """200,000 rows of sixty columns, C0 to C59, float64 and float32 by turns."""
    table = np.zeros(200_000, dtype=[(f"C{i}", f">f{8 - i % 2 * 4}") for i in range(60)])
    for i, name in enumerate(table.dtype.names or ()):
        table[name] = noise(len(table)) + i
    fits.BinTableHDU(table).writeto(path)
    return str(path)


def ragged(path: Path) -> Files:
    """100,000 arrays of 0 to 40 float32."""
    lengths = np.random.default_rng(1).integers(0, 41, 100_000)
    arrays = np.empty(len(lengths), dtype=object)
    arrays[:] = np.split(noise(lengths.sum()), np.cumsum(lengths)[:-1])
    fits.BinTableHDU.from_columns([fits.Column("V", "PE()", array=arrays)]).writeto(path)
    return str(path)


def sky_map(projection: str) -> Callable[[Path], Files]:
    """A header of 200 cards with a WCS, a million pixels, and where astropy puts them in the sky."""

    def make(path: Path) -> Files:
        header = fits.Header({"CTYPE1": f"RA---{projection}", "CTYPE2": f"DEC--{projection}"})
        header.update({"CRVAL1": 150.1, "CRVAL2": 2.2, "CRPIX1": 2048.5, "CRPIX2": 2048.5})
        header.update({"CD1_1": -7e-5, "CD1_2": 1e-6, "CD2_1": 1e-6, "CD2_2": 7e-5, "RADESYS": "ICRS"})
        if projection.endswith("SIP"):
            header.update({"A_ORDER": 3, "A_2_0": 2e-6, "A_1_1": -1e-6, "A_0_3": 3e-10})
            header.update({"B_ORDER": 3, "B_0_2": -1e-6, "B_1_1": 2e-6, "B_3_0": -2e-10})
        header.update({f"KEY{i}": (i / 7, "one of many") for i in range(195 - len(header))})
        fits.writeto(path, np.zeros((1, 1), "u1"), header)
        pixels = np.random.default_rng(1).uniform(0, 4096, (1_000_000, 2))
        np.save(f"{path}.pixels.npy", pixels)
        np.save(f"{path}.world.npy", WCS(header).all_pix2world(pixels, 0))
        return str(path)

    return make


MEDIUM, WIDE = image(2048, 2048), image(8192, 8192)
RICE = compressed("i2", 4096, "RICE_1")
TAN, SIP = sky_map("TAN"), sky_map("TAN-SIP")
QUANTIZED = compressed("f4", 4096, "RICE_1", quantize_level=4, quantize_method=1, dither_seed=1)
CASES = {
    "f32_256": Case("float32 256²", "image", image(256, 256)),
    "f32_2k": Case("float32 2048²", "image", MEDIUM, floor=True),
    "f32_8k": Case("float32 8192²", "image", WIDE, floor=True),
    "f64_4k": Case("float64 4096²", "image", image(4096, 4096, dtype="f8"), floor=True),
    "i16_4k": Case("int16 4096²", "image", image(4096, 4096, dtype="i2"), floor=True),
    "u16_4k": Case("uint16 4096²", "image", image(4096, 4096, dtype="u2"), floor=True),
    "scaled_4k": Case("int16 4096² scaled to float32", "scaled", scaled),
    "cube": Case("float32 64 x 512²", "image", image(64, 512, 512), floor=True),
    "out_2k": Case("float32 2048², `out=`", "out", MEDIUM, floor=True),
    "out_8k": Case("float32 8192², `out=`", "out", WIDE, floor=True),
    "cutouts": Case("200 cutouts 256² of 8192²", "cutouts", WIDE),
    "stamps": Case("1000 files 128², stacked", "stamps", stamps),
    "headers": Case("1000 headers, 3 keywords", "headers", stamps),
    "extensions": Case("100 extensions 256², all", "extensions", extensions),
    "last": Case("the last of 100 by name", "last", extensions),
    "spectra": Case("300 spectra of 4 HDUs", "spectra", spectra),
    "gz": Case("float32 1024², `.fits.gz`", "image", packed),
    "rice": Case("RICE_1 int16 4096²", "compressed", RICE),
    "rice_f32": Case("RICE_1 float32 4096², quantized", "compressed", QUANTIZED),
    "gzip2": Case("GZIP_2 float32 2048²", "compressed", compressed("f4", 2048, "GZIP_2", quantize_level=0)),
    "gzip1": Case("GZIP_1 int32 2048²", "compressed", compressed("i4", 2048, "GZIP_1")),
    "hcompress": Case(
        "HCOMPRESS_1 int16 2048²",
        "compressed",
        compressed("i2", 2048, "HCOMPRESS_1", tile_shape=(16, 2048)),
    ),
    "plio": Case("PLIO_1 mask 2048²", "compressed", mask),
    "rice_cutouts": Case("200 cutouts 128² of RICE_1 int16", "tile_cutouts", RICE),
    "write_rice": Case("writing RICE_1 int16 4096²", "write_rice", sky("i2")),
    "write_f32": Case("writing RICE_1 float32 4096², quantized", "write_quantized", sky("f4")),
    "table": Case("8 columns, 1M rows", "table", catalogue),
    "columns": Case("3 of the 8 columns", "columns", catalogue),
    "slice": Case("rows 500,000 to 600,000", "slice", catalogue),
    "rows": Case("20,000 rows here and there", "rows", catalogue),
    "where": Case("`MAG_G < 17 & CLASS == 2`, 3 columns", "where", catalogue),
    "wide": Case("2 of 60 columns, 200k rows", "wide", wide),
    "ragged": Case("100k arrays of 0 to 40 float32", "ragged", ragged),
    "wcs": Case("200 cards to a WCS", "wcs", SIP),
    "to_sky": Case("1M pixels to the sky, TAN", "to_sky", TAN),
    "to_sky_1": Case("same, by one thread", "to_sky_1", TAN),
    "to_pixels": Case("1M positions to pixels, TAN", "to_pixels", TAN),
    "to_pixels_1": Case("same, by one thread", "to_pixels_1", TAN),
    "sip_to_sky": Case("1M pixels to the sky, TAN-SIP", "to_sky", SIP),
    "sip_to_sky_1": Case("same, by one thread", "to_sky_1", SIP),
    "sip_to_pixels": Case("1M positions to pixels, TAN-SIP", "to_pixels", SIP),
    "sip_to_pixels_1": Case("same, by one thread", "to_pixels_1", SIP),
}
