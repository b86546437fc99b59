"""torchfits, with files opened anew every time (option `anew`) or kept open, its default (`kept`)."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache, partial

import torch
from readers import (
    COLUMNS,
    CUTOUTS,
    FIRST,
    KEYS,
    LAST,
    ROWS,
    SIZE,
    STAMP,
    STAMPS,
    WHERE,
    WIDE_COLUMNS,
    near,
    points,
    within_a_step,
)

import torchfits
from torchfits import _direct

VERSION = f"torchfits {torchfits.versions()['torchfits']}, this checkout"
KEPT = sys.argv[-1] == "kept"


def read(path: str, *, hdu: int | str = 0) -> torch.Tensor:
    return torchfits.read(path, hdu, cache=KEPT)


def image(path: str, *, hdu: int | str = 0) -> torch.Tensor:
    with torchfits.open(path, cache=KEPT) as file:
        return file[hdu].read()


@cache
def room(path: str) -> torch.Tensor:
    return torch.zeros_like(image(path))


def out(path: str) -> torch.Tensor:
    into = room(path)
    with torchfits.open(path, cache=KEPT) as file:
        return file[0].read(out=into)


def cutouts(path: str) -> torch.Tensor:
    with torchfits.open(path, cache=KEPT) as file:
        return file[0].cutouts(CUTOUTS, SIZE)


def tile_cutouts(path: str) -> torch.Tensor:
    with torchfits.open(path, cache=KEPT) as file:
        return file[1].cutouts(STAMPS, STAMP)


def stamps(paths: list[str]) -> torch.Tensor:
    return torchfits.read_batch(paths)


def headers(paths: list[str]) -> object:
    return torchfits.read_keys(paths, KEYS)


def extensions(path: str) -> list[torch.Tensor]:
    with torchfits.open(path, cache=KEPT) as file:
        return [file[hdu].read() for hdu in range(1, 101)]


def together(path: str) -> list[torch.Tensor]:
    with torchfits.open(path, cache=KEPT) as file:
        return list(file.read_images().values())


def spectra(paths: list[str]) -> tuple[torch.Tensor, ...]:
    z = torchfits.gather([(path, 3, 0) for path in paths], ["Z"])["Z"]
    return torchfits.read_batch(paths, 1), torchfits.read_batch(paths, 2), z


def table(path: str, columns: list[str] | None = None, **options: object) -> dict[str, torch.Tensor]:
    with torchfits.open(path, cache=KEPT) as file:
        return file[1].read_table(columns, **options)


def ragged(path: str) -> tuple[torch.Tensor, torch.Tensor]:
    return table(path, ragged="offsets")["V"]


@cache
def pixels(path: str) -> torch.Tensor:
    return image(path)


def write(path: str, **settings: object) -> Callable[[], torch.Tensor]:
    target = f"{path}.{sys.argv[-1]}.fz"
    torchfits.writeto(target, pixels(path), compress="rice", overwrite=True, **settings)
    if settings:
        return lambda: within_a_step(image(target, hdu=1), pixels(path))
    return partial(image, target, hdu=1)


@cache
def sky_map(path: str) -> tuple[torchfits.Header, torchfits.WCS, torch.Tensor, torch.Tensor]:
    header = torchfits.read_header(path)
    return header, torchfits.WCS(header), *points(path)


def to_sky(path: str) -> Callable[[], torch.Tensor]:
    _, wcs, pixels, world = sky_map(path)
    found = wcs.pixel_to_world(pixels)
    return lambda: near(found, world)


def to_pixels(path: str) -> Callable[[], torch.Tensor]:
    _, wcs, pixels, world = sky_map(path)
    found = wcs.world_to_pixel(world)
    return lambda: near(found, pixels)


def new_wcs(path: str) -> Callable[[], torch.Tensor]:
    header, _, pixels, world = sky_map(path)
    wcs = torchfits.WCS(header)
    return lambda: near(wcs.pixel_to_world(pixels), world)


def alone(way: Callable, path: str) -> object:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    result = way(path)
    torch.set_num_threads(threads)
    return result


def by_variant(name: str, path: str) -> object:
    _direct.use_variant(name)
    result = alone(partial(image, hdu=1), path)
    _direct.use_variant(_direct.variants()[0])
    return result


QUANTIZE = torchfits.Quantize(level=4, method="dither1", seed=1)

WAYS = {
    "image": [read, image],
    "scaled": [read, image],
    "out": [out],
    "cutouts": [cutouts],
    "tile_cutouts": [tile_cutouts],
    "stamps": [stamps],
    "headers": [headers],
    "extensions": [together, extensions],
    "last": [partial(image, hdu="E99")],
    "spectra": [spectra],
    "compressed": [partial(image, hdu=1)],
    **{f"compressed {name}": [partial(by_variant, name)] for name in _direct.variants()},
    "write_rice": [write],
    "write_quantized": [partial(write, quantize=QUANTIZE)],
    "table": [table],
    "columns": [partial(table, columns=COLUMNS)],
    "slice": [partial(table, rows=slice(FIRST, LAST))],
    "rows": [partial(table, rows=torch.tensor(ROWS))],
    "where": [partial(table, columns=COLUMNS, where=WHERE)],
    "wide": [partial(table, columns=WIDE_COLUMNS)],
    "ragged": [ragged],
    "wcs": [new_wcs],
    "to_sky": [to_sky],
    "to_sky_1": [partial(alone, to_sky)],
    "to_pixels": [to_pixels],
    "to_pixels_1": [partial(alone, to_pixels)],
}
