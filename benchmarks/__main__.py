"""How fast reading is, beside astropy and fitsio: `make bench`.

One process, the readers take turns in every round, the page cache is warm, every case ends in torch tensors.
Prints the median of each in milliseconds and the ratio of the faster peer to torchfits, which wins above 1.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import fitsio
import numpy as np
import torch
from astropy.io import fits

import torchfits

ROUNDS = 15
CUTOUTS = [
    (int(row), int(column)) for row, column in np.random.default_rng(0).integers(0, 2048 - 256, (200, 2))
]


def native(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("=")))


def astropy_image(path: Path, index: int = 0) -> torch.Tensor:
    with fits.open(path) as file:
        return native(file[index].data)


def fitsio_image(path: Path, index: int = 0) -> torch.Tensor:
    return native(fitsio.read(str(path), ext=index))


def torchfits_cutouts(path: Path) -> list[torch.Tensor]:
    with torchfits.open(path) as file:
        return [file[0][row : row + 256, column : column + 256] for row, column in CUTOUTS]


def astropy_cutouts(path: Path) -> list[torch.Tensor]:
    with fits.open(path) as file:
        return [native(file[0].section[row : row + 256, column : column + 256]) for row, column in CUTOUTS]


def fitsio_cutouts(path: Path) -> list[torch.Tensor]:
    with fitsio.FITS(str(path)) as file:
        return [native(file[0][row : row + 256, column : column + 256]) for row, column in CUTOUTS]


COLUMNS = ["A", "D", "F"]


def torchfits_table(path: Path) -> dict[str, torch.Tensor]:
    with torchfits.open(path) as file:
        return file[1].read_table(COLUMNS)


def astropy_table(path: Path) -> dict[str, torch.Tensor]:
    with fits.open(path) as file:
        return {name: native(file[1].data[name]) for name in COLUMNS}


def fitsio_table(path: Path) -> dict[str, torch.Tensor]:
    table = fitsio.read(str(path), ext=1, columns=COLUMNS)
    return {name: native(table[name]) for name in COLUMNS}


def torchfits_all(path: Path) -> list[torch.Tensor]:
    with torchfits.open(path) as file:
        return [hdu.read() for hdu in file]


def astropy_all(path: Path) -> list[torch.Tensor]:
    with fits.open(path) as file:
        return [native(hdu.data) for hdu in file]


def fitsio_all(path: Path) -> list[torch.Tensor]:
    with fitsio.FITS(str(path)) as file:
        return [native(hdu.read()) for hdu in file]


def make_files(folder: Path) -> dict[str, Path]:
    """The files of the cases, written by astropy."""
    rng = np.random.default_rng(1)
    image = rng.normal(1000, 30, (2048, 2048))
    paths = {name: folder / f"{name}.fits" for name in ("f32", "small", "scaled", "rice", "table", "many")}
    fits.writeto(paths["f32"], image.astype("f4"))
    fits.writeto(paths["small"], image[:128, :128].astype("f4"))
    scaled = fits.PrimaryHDU(image.astype("f4"))
    scaled.scale("int16", bscale=0.1, bzero=1000)
    scaled.writeto(paths["scaled"])
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(image.astype("i2"))]).writeto(paths["rice"])
    table = np.zeros(200_000, dtype=[(name, ">f8" if name in "ABC" else ">f4") for name in "ABCDEFGH"])
    fits.BinTableHDU(table).writeto(paths["table"])
    many = [fits.PrimaryHDU(image[:64, :64].astype("f4"))]
    many += [fits.ImageHDU(image[:64, :64].astype("f4"), name=f"E{i}") for i in range(20)]
    fits.HDUList(many).writeto(paths["many"])
    return paths


def median_times(readers: dict[str, Callable[[], object]]) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in readers}
    for _ in range(ROUNDS):
        for name, reader in readers.items():
            start = time.perf_counter()
            reader()
            times[name].append(1000 * (time.perf_counter() - start))
    return {name: statistics.median(taken) for name, taken in times.items()}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        paths = make_files(Path(folder))
        images = torchfits.read, astropy_image, fitsio_image
        cases = {
            "float32 2048 x 2048": (*images, "f32", ()),
            "float32 128 x 128": (*images, "small", ()),
            "scaled int16 2048 x 2048": (*images, "scaled", ()),
            "RICE_1 int16 2048 x 2048": (*images, "rice", (1,)),
            "200 cutouts 256 x 256": (torchfits_cutouts, astropy_cutouts, fitsio_cutouts, "f32", ()),
            "3 of 8 columns, 200k rows": (torchfits_table, astropy_table, fitsio_table, "table", ()),
            "21 HDUs 64 x 64, all": (torchfits_all, astropy_all, fitsio_all, "many", ()),
        }
        names = ("torchfits", "astropy", "fitsio")
        print("| case | " + " | ".join(f"{name}, ms" for name in names) + " | best peer / torchfits |")
        print("|---" * 5 + "|")
        for title, (*readers, file, more) in cases.items():
            calls = {
                name: partial(read, paths[file], *more) for name, read in zip(names, readers, strict=True)
            }
            took = median_times(calls)
            ratio = min(took["astropy"], took["fitsio"]) / took["torchfits"]
            print(f"| {title} | " + " | ".join(f"{took[name]:.2f}" for name in names) + f" | {ratio:.2f} |")
        print(f"\nmedians of {ROUNDS} rounds; torch {torch.__version__}, {torch.get_num_threads()} threads")
        torchfits.cache_clear()


if __name__ == "__main__":
    main()
