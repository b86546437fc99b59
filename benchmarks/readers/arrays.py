"""The libraries that end in numpy arrays, by option: astropy, fitsio, rustfits."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from readers import (
    COLUMNS,
    CUTOUTS,
    FIRST,
    LAST,
    ROWS,
    SIZE,
    STAMP,
    STAMPS,
    WHERE,
    WIDE_COLUMNS,
    doubles,
    lookups,
    near,
    points,
    within_a_step,
)

Way = Callable[[Any], object]


def native(array: np.ndarray) -> torch.Tensor:
    """The tensor of an array; torch takes no other byte order than the machine's."""
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    return torch.from_numpy(np.ascontiguousarray(array))


def ways(open: Callable, pixels: Callable, column: Callable, header: Callable) -> dict[str, Way]:
    """How a library does it that opens files so, and gets an HDU's pixels, a column, a file's header so."""

    def image(path: str, hdu: int | str = 0) -> torch.Tensor:
        with open(path) as file:
            return native(pixels(file[hdu]))

    def scaled(path: str) -> torch.Tensor:
        return image(path).to(torch.float32)  # rustfits scales to float64

    def cutouts(path: str) -> torch.Tensor:
        stack = np.empty((len(CUTOUTS), SIZE, SIZE), "f4")
        with open(path) as file:
            windows = file[0].data if astropy else file[0]  # astropy's .section opens the file for each
            for i, (row, first) in enumerate(CUTOUTS):
                stack[i] = windows[row : row + SIZE, first : first + SIZE]
        return torch.from_numpy(stack)

    def tile_cutouts(path: str) -> torch.Tensor:
        stack = np.empty((len(STAMPS), STAMP, STAMP), "i2")
        with open(path) as file:
            windows = pixels(file[1]) if astropy else file[1]  # faster than .section for so many
            for i, (row, first) in enumerate(STAMPS):
                stack[i] = windows[row : row + STAMP, first : first + STAMP]
        return torch.from_numpy(stack)

    def stamps(paths: list[str]) -> torch.Tensor:
        stack = np.empty((len(paths), 128, 128), "f4")
        for i, path in enumerate(paths):
            with open(path) as file:
                stack[i] = pixels(file[0])
        return torch.from_numpy(stack)

    def headers(paths: list[str]) -> object:
        return lookups(map(header, paths))

    def extensions(path: str) -> list[torch.Tensor]:
        with open(path) as file:
            return [native(pixels(file[hdu])) for hdu in range(1, 101)]

    def spectra(paths: list[str]) -> tuple[torch.Tensor, ...]:
        flux, ivar = np.empty((2, len(paths), 4000), "f4")
        z = []
        for i, path in enumerate(paths):
            with open(path) as file:
                flux[i], ivar[i] = pixels(file[1]), pixels(file[2])
                z.append(column(file[3], "Z")[0])
        return torch.from_numpy(flux), torch.from_numpy(ivar), doubles(z)

    return {
        "image": image,
        "scaled": scaled,
        "cutouts": cutouts,
        "tile_cutouts": tile_cutouts,
        "stamps": stamps,
        "headers": headers,
        "extensions": extensions,
        "last": partial(image, hdu="E99"),
        "spectra": spectra,
        "compressed": partial(image, hdu=1),
    }


def writes(write: Callable[..., None], read: Way, quantized: dict[str, Any]) -> dict[str, list[Way]]:
    """How a library writes an array with RICE_1 that writes so, reads back so, and is told so to quantize."""

    @cache
    def array(path: str) -> np.ndarray:
        found = read(path, 0)
        return np.ascontiguousarray(found.astype(found.dtype.newbyteorder("=")))

    def rice(path: str, **settings: Any) -> Callable[[], torch.Tensor]:
        target = f"{path}.{sys.argv[-1]}.fz"
        write(target, array(path), **settings)
        if settings:
            return lambda: within_a_step(native(read(target, 1)), native(array(path)))
        return lambda: native(read(target, 1))

    return {"write_rice": [rice], "write_quantized": [partial(rice, **quantized)]}


Table = dict[str, torch.Tensor]
Arrays = tuple[torch.Tensor, torch.Tensor]
INDEX = np.array(ROWS)
SPAN = slice(FIRST, LAST)


def letters(texts: np.ndarray) -> torch.Tensor:
    if texts.dtype.kind == "U":  # four bytes a letter
        return torch.from_numpy(np.ascontiguousarray(texts).view("u4").astype("u1").reshape(len(texts), -1))
    return torch.from_numpy(np.ascontiguousarray(texts).view("u1").reshape(len(texts), -1))


def tensors(rows: np.ndarray, names: list[str] | None = None) -> Table:
    """The columns of a structured array."""
    columns = {name: rows[name] for name in names or rows.dtype.names or ()}
    return {name: (letters if each.dtype.kind in "SU" else native)(each) for name, each in columns.items()}


def joined(arrays: np.ndarray) -> Arrays:
    ends = np.cumsum([0, *map(len, arrays)])
    return native(np.concatenate(arrays)), torch.from_numpy(ends)


def is_wanted(rows: Any) -> np.ndarray:
    return (rows["MAG_G"] < 17) & (rows["CLASS"] == 2)


def tables_of_astropy(open: Callable) -> dict[str, list[Way]]:
    def table(path: str, names: list[str] | None = None, rows: Any = slice(None)) -> Table:
        with open(path) as file:
            # without the decoding of texts, and much faster than FITS_rec
            return tensors(file[1].data.view(np.ndarray)[rows], names)

    def rows_of_columns(path: str) -> Table:
        with open(path) as file:
            data = file[1].data.view(np.ndarray)
            return {
                name: column for name in data.dtype.names for column in tensors(data[[name]][INDEX]).values()
            }

    def where(path: str) -> Table:
        with open(path) as file:
            data = file[1].data.view(np.ndarray)
            return tensors(data[is_wanted(data)], COLUMNS)

    def where_by_column(path: str) -> Table:
        with open(path) as file:
            data = file[1].data
            mask = is_wanted(data)
            return {name: native(data[name][mask]) for name in COLUMNS}

    def ragged(path: str) -> Arrays:
        with open(path) as file:
            return joined(file[1].data["V"])

    return {
        "table": [table],
        "columns": [partial(table, names=COLUMNS)],
        "slice": [partial(table, rows=SPAN)],
        "rows": [partial(table, rows=INDEX), rows_of_columns],
        "where": [where, where_by_column],
        "wide": [partial(table, names=WIDE_COLUMNS)],
        "ragged": [ragged],
    }


def tables_of_fitsio() -> dict[str, list[Way]]:
    def table(path: str, **options: Any) -> Table:
        with FITS(path) as file:
            return tensors(file[1].read(**options))

    def rows_of_all(path: str) -> Table:
        with FITS(path) as file:
            return tensors(file[1].read()[INDEX])

    def span(path: str) -> Table:
        with FITS(path) as file:
            return tensors(file[1][SPAN])

    def where(path: str) -> Table:
        with FITS(path) as file:
            rows = file[1].where(WHERE.replace("&", "&&"))
            return tensors(file[1].read(columns=COLUMNS, rows=rows))

    def where_in_memory(path: str) -> Table:
        with FITS(path) as file:
            rows = file[1].read(columns=[*COLUMNS, "CLASS"])
            return tensors(rows[is_wanted(rows)], COLUMNS)

    def ragged(path: str) -> Arrays:
        with FITS(path, vstorage="object") as file:
            return joined(file[1].read_column("V"))

    return {
        "table": [table],
        "columns": [partial(table, columns=COLUMNS)],
        "slice": [span],
        "rows": [partial(table, rows=INDEX), rows_of_all],
        "where": [where, where_in_memory],
        "wide": [partial(table, columns=WIDE_COLUMNS)],
        "ragged": [ragged],
    }


def tables_of_rustfits() -> dict[str, list[Way]]:
    def table(path: str, **options: Any) -> Table:
        with FITS(path) as file:
            # read alone makes str of texts
            numbers = tensors(file[1].read(columns=list(file[1].colnames)[:-1], **options))
            return numbers | {"NAME": letters(file[1].read_column("NAME", as_bytes=True, **options))}

    def rows_of_all(path: str) -> Table:
        return {name: column[ROWS] for name, column in table(path).items()}

    def columns(path: str, names: list[str]) -> Table:
        with FITS(path) as file:
            return tensors(file[1].read(columns=names))

    def column_by_column(path: str, names: list[str]) -> Table:
        with FITS(path) as file:
            return {name: native(file[1].read_column(name)) for name in names}

    def where(path: str) -> Table:
        with FITS(path) as file:
            rows = file[1].read(columns=[*COLUMNS, "CLASS"])
            return tensors(rows[is_wanted(rows)], COLUMNS)

    def where_rows(path: str) -> Table:
        with FITS(path) as file:
            rows = np.flatnonzero(is_wanted(file[1].read(columns=["MAG_G", "CLASS"])))
            return tensors(file[1].read(columns=COLUMNS, rows=rows.tolist()))

    def ragged(path: str) -> Arrays:
        with FITS(path) as file:
            return joined(file[1].read_column("V"))

    return {
        "table": [table],
        "columns": [partial(way, names=COLUMNS) for way in (columns, column_by_column)],
        "slice": [partial(table, rows=SPAN)],
        "rows": [partial(table, rows=ROWS), rows_of_all],
        "where": [where, where_rows],
        "wide": [partial(way, names=WIDE_COLUMNS) for way in (columns, column_by_column)],
        "ragged": [ragged],
    }


astropy = sys.argv[-1] == "astropy"
if astropy:
    from astropy import __version__
    from astropy.io import fits
    from astropy.wcs import WCS

    # Header.fromfile is much faster than getheader, which opens the whole file
    how = (lambda hdu: hdu.data), (lambda hdu, name: hdu.data[name]), fits.Header.fromfile
    opens = [partial(fits.open, memmap=memmap) for memmap in (True, False)]
    found = [ways(open, *how) for open in opens]
    tables = [tables_of_astropy(open) for open in opens]

    def write(path: str, array: np.ndarray, **settings: Any) -> None:
        hdu = fits.CompImageHDU(array, compression_type="RICE_1", **settings)
        hdu.writeto(path, overwrite=True)

    settings = {"quantize_level": 4, "quantize_method": 1, "dither_seed": 1}
    tables.append(writes(write, lambda path, hdu: fits.getdata(path, hdu), settings))

    @cache
    def sky_map(path: str) -> tuple[fits.Header, WCS, torch.Tensor, torch.Tensor]:
        header = fits.getheader(path)
        return header, WCS(header), *points(path)

    def to_sky(path: str) -> Callable[[], torch.Tensor]:
        _, wcs, pixels, world = sky_map(path)
        found = torch.from_numpy(wcs.all_pix2world(pixels.numpy(), 0))
        return lambda: near(found, world)

    def to_pixels(path: str) -> Callable[[], torch.Tensor]:
        _, wcs, pixels, world = sky_map(path)
        found = torch.from_numpy(wcs.all_world2pix(world.numpy(), 0))
        return lambda: near(found, pixels)

    def new_wcs(path: str) -> Callable[[], torch.Tensor]:
        header, _, pixels, world = sky_map(path)
        wcs = WCS(header)
        return lambda: near(torch.from_numpy(wcs.all_pix2world(pixels.numpy(), 0)), world)

    both = {"to_sky": [to_sky], "to_pixels": [to_pixels]}
    tables.append({"wcs": [new_wcs], **both, **{f"{kind}_1": way for kind, way in both.items()}})
else:
    if sys.argv[-1] == "fitsio":
        import fitsio
        from fitsio import FITS, __version__, read_header

        write = partial(fitsio.write, compress="RICE", clobber=True)
        settings = {"qlevel": 4, "qmethod": "SUBTRACTIVE_DITHER_1", "dither_seed": 1}
    else:
        from rustfits import FITS, Quantize, __version__, read_header

        def write(path: str, array: np.ndarray, **settings: Any) -> None:
            with FITS(path, "w+") as file:
                file.write_image(array, compress="RICE_1", **settings)

        settings = {"quantize": Quantize(level=4.0, method="dither1", seed=1)}
    found = [ways(FITS, lambda hdu: hdu.read(), lambda hdu, name: hdu.read_column(name), read_header)]
    tables = [tables_of_fitsio() if sys.argv[-1] == "fitsio" else tables_of_rustfits()]
    tables.append(writes(write, lambda path, hdu: FITS(path)[hdu].read(), settings))

VERSION = f"{sys.argv[-1]} {__version__}"
WAYS = {kind: [each[kind] for each in found] for kind in found[0]}
for each in tables:
    for kind, more in each.items():
        WAYS[kind] = WAYS.get(kind, []) + more
