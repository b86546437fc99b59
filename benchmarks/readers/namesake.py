"""The torchfits of PyPI, which shares our import name: with its caches emptied before every way, or `kept`.

It keeps no file open, but what it learnt about files. `read` is not used, which may keep the pixels too.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial

import torch
from readers import COLUMNS, CUTOUTS, KEYS, SIZE, lookups

import torchfits

VERSION = f"torchfits {torchfits.__version__} of PyPI"


def before() -> None:
    if sys.argv[-1] != "kept":
        torchfits.clear_file_cache()


def image(path: str, *, mmap: bool, hdu: int | str = 0) -> torch.Tensor:
    return torchfits.read_tensor(path, hdu, mmap=mmap)


def cutouts(path: str) -> torch.Tensor:
    with torchfits.open_subset_reader(path) as reader:
        return torch.stack([reader(column, row, column + SIZE, row + SIZE) for row, column in CUTOUTS])


def stamps(paths: list[str]) -> torch.Tensor:
    return torch.stack(torchfits.read_batch(paths))


def headers(paths: list[str]) -> object:
    return lookups(torchfits.read_keys(path, KEYS) for path in paths)


def extensions(path: str, *, mmap: bool) -> list[torch.Tensor]:
    return torchfits.read_hdus(path, list(range(1, 101)), mmap=mmap)


def spectra(paths: list[str], *, mmap: bool) -> tuple[torch.Tensor, ...]:
    # faster than read_batch for each of the two
    pairs, z = [], []
    for path in paths:
        pairs.append(torchfits.read_hdus(path, [1, 2], mmap=mmap))
        with torchfits.open_table_reader(path, 3) as reader:
            z.append(reader.read_torch(["Z"])["Z"])
    flux, ivar = (torch.stack(each) for each in zip(*pairs, strict=True))
    return flux, ivar, torch.cat(z).reshape(-1)


def columns(path: str, *, mmap: bool) -> dict[str, torch.Tensor]:
    return torchfits.table.read_torch(path, 1, COLUMNS, mmap=mmap)


def columns_reader(path: str) -> dict[str, torch.Tensor]:
    with torchfits.open_table_reader(path, 1) as reader:
        return reader.read_torch(COLUMNS)


def both(way: Callable, **options: object) -> list[Callable]:
    return [partial(way, mmap=mmap, **options) for mmap in (True, False)]


WAYS = {
    "image": both(image),
    "scaled": both(image),
    "cutouts": [cutouts],
    "stamps": [stamps],
    "headers": [headers],
    "extensions": both(extensions),
    "last": both(image, hdu="E99"),
    "spectra": both(spectra),
    "compressed": both(image, hdu=1),
    "columns": [*both(columns), columns_reader],
}
