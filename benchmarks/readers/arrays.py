"""The libraries that end in numpy arrays, by option: astropy, fitsio, rustfits."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from readers import COLUMNS, CUTOUTS, SIZE, doubles, lookups

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

    def columns(path: str) -> dict[str, torch.Tensor]:
        with open(path) as file:
            return {name: native(column(file[1], name)) for name in COLUMNS}

    def columns_at_once(path: str) -> dict[str, torch.Tensor]:
        with open(path) as file:
            table = file[1].read(columns=COLUMNS)
        return {name: native(table[name]) for name in COLUMNS}

    return {
        "image": image,
        "scaled": scaled,
        "cutouts": cutouts,
        "stamps": stamps,
        "headers": headers,
        "extensions": extensions,
        "last": partial(image, hdu="E99"),
        "spectra": spectra,
        "compressed": partial(image, hdu=1),
        "columns": columns if astropy else columns_at_once,
    }


astropy = sys.argv[-1] == "astropy"
if astropy:
    from astropy import __version__
    from astropy.io import fits

    # Header.fromfile is much faster than getheader, which opens the whole file
    how = (lambda hdu: hdu.data), (lambda hdu, name: hdu.data[name]), fits.Header.fromfile
    found = [ways(partial(fits.open, memmap=memmap), *how) for memmap in (True, False)]
else:
    if sys.argv[-1] == "fitsio":
        from fitsio import FITS, __version__, read_header
    else:
        from rustfits import FITS, __version__, read_header
    found = [ways(FITS, lambda hdu: hdu.read(), lambda hdu, name: hdu.read_column(name), read_header)]

VERSION = f"{sys.argv[-1]} {__version__}"
WAYS = {kind: [each[kind] for each in found] for kind in found[0]}
