"""The torchfits of PyPI, which shares our import name: with its caches emptied before every way, or `kept`.

It keeps no file open, but what it learnt about files. `read` is not used, which may keep the pixels too.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache, partial

import numpy as np
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
    lookups,
    within_a_step,
)

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


def tile_cutouts(path: str) -> torch.Tensor:
    with torchfits.open_subset_reader(path, 1) as reader:
        return torch.stack([reader(column, row, column + STAMP, row + STAMP) for row, column in STAMPS])


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


Table = dict[str, torch.Tensor]
INDEX = torch.tensor(ROWS)
SPAN = {"start_row": FIRST + 1, "num_rows": LAST - FIRST}


def table(path: str, columns: list[str] | None = None, **options: object) -> Table:
    return torchfits.table.read_torch(path, 1, columns, **options)


def table_reader(path: str, columns: list[str] | None = None, **options: object) -> Table:
    with torchfits.open_table_reader(path, 1) as reader:
        return reader.read_torch(columns, **options)


def rows_of_all(path: str, *, mmap: bool) -> Table:
    return {name: column[INDEX] for name, column in table(path, mmap=mmap).items()}


def rows_by_arrow(path: str) -> Table:
    found = torchfits.table.read_arrow(path, 1, rows=ROWS, decode_bytes=False, strip=False)
    arrays = {name: found[name].combine_chunks() for name in found.column_names}
    letters = np.frombuffer(arrays["NAME"].buffers()[1], "u1").reshape(len(ROWS), -1)
    numbers = {name: array.to_numpy() for name, array in arrays.items() if name != "NAME"}
    return {name: torch.tensor(array) for name, array in (numbers | {"NAME": letters}).items()}


def where_in_memory(path: str, *, mmap: bool) -> Table:
    found = table(path, [*COLUMNS, "CLASS"], mmap=mmap)
    mask = (found["MAG_G"] < 17) & (found["CLASS"] == 2)
    return {name: found[name][mask] for name in COLUMNS}


def ends(lengths: list[int]) -> torch.Tensor:
    return torch.tensor([0, *lengths]).cumsum(0)


def ragged(path: str, *, read: Callable[..., dict]) -> tuple[torch.Tensor, torch.Tensor]:
    arrays = read(path, ["V"])["V"]
    return torch.cat(arrays), ends([len(each) for each in arrays])


def ragged_by_arrow(path: str) -> tuple[torch.Tensor, torch.Tensor]:
    arrays = torchfits.table.read_arrow(path, 1, ["V"])["V"].combine_chunks()
    return torch.tensor(arrays.values.to_numpy()), torch.tensor(arrays.offsets.to_numpy()).long()


@cache
def pixels(path: str) -> torch.Tensor:
    return torchfits.read_tensor(path, 0)


def write(path: str) -> Callable[[], torch.Tensor]:
    target = f"{path}.namesake.{sys.argv[-1]}.fz"
    torchfits.write(target, pixels(path), compress="RICE_1", overwrite=True)
    if pixels(path).is_floating_point():
        return lambda: within_a_step(torchfits.read_tensor(target, 1), pixels(path))
    return partial(torchfits.read_tensor, target, 1)


def both(way: Callable, **options: object) -> list[Callable]:
    return [partial(way, mmap=mmap, **options) for mmap in (True, False)]


WAYS = {
    "image": both(image),
    "scaled": both(image),
    "cutouts": [cutouts],
    "tile_cutouts": [tile_cutouts],
    "stamps": [stamps],
    "headers": [headers],
    "extensions": both(extensions),
    "last": both(image, hdu="E99"),
    "spectra": both(spectra),
    "compressed": both(image, hdu=1),
    "write_rice": [write],
    "write_quantized": [write],
    "table": [*both(table), table_reader],
    "columns": [*both(table, columns=COLUMNS), partial(table_reader, columns=COLUMNS)],
    "slice": [*both(table, **SPAN), partial(table_reader, **SPAN)],
    "rows": [*both(rows_of_all), rows_by_arrow],
    "where": [*both(table, columns=COLUMNS, where=WHERE), *both(where_in_memory)],
    "wide": [*both(table, columns=WIDE_COLUMNS), partial(table_reader, columns=WIDE_COLUMNS)],
    "ragged": [partial(ragged, read=table), partial(ragged, read=table_reader), ragged_by_arrow],
}
