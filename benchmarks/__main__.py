"""How fast reading is, beside astropy and fitsio: `make bench`.

One process, warm page cache; in every round each reader takes a turn, another one first, and ends in torch
tensors. torchfits comes twice: with the file opened anew every time, as the peers open it (`cache=False`),
and kept open from round to round, which is its default. Where a ratio is below 1, a peer is faster.
"""

from __future__ import annotations

import argparse
import datetime
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import astropy
import fitsio
import numpy as np
import torch
from astropy.io import fits

import torchfits

ROUNDS = 16  # a multiple of the four readers, so that each goes first equally often
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


def torchfits_image(path: Path, index: int = 0, *, cache: bool) -> torch.Tensor:
    with torchfits.open(path, cache=cache) as file:
        return file[index].read()


def torchfits_cutouts(path: Path, *, cache: bool) -> list[torch.Tensor]:
    with torchfits.open(path, cache=cache) as file:
        return [file[0][row : row + 256, column : column + 256] for row, column in CUTOUTS]


def astropy_cutouts(path: Path) -> list[torch.Tensor]:
    with fits.open(path) as file:
        return [native(file[0].section[row : row + 256, column : column + 256]) for row, column in CUTOUTS]


def fitsio_cutouts(path: Path) -> list[torch.Tensor]:
    with fitsio.FITS(str(path)) as file:
        return [native(file[0][row : row + 256, column : column + 256]) for row, column in CUTOUTS]


COLUMNS = ["A", "D", "F"]


def torchfits_table(path: Path, *, cache: bool) -> dict[str, torch.Tensor]:
    with torchfits.open(path, cache=cache) as file:
        return file[1].read_table(COLUMNS)


def astropy_table(path: Path) -> dict[str, torch.Tensor]:
    with fits.open(path) as file:
        return {name: native(file[1].data[name]) for name in COLUMNS}


def fitsio_table(path: Path) -> dict[str, torch.Tensor]:
    table = fitsio.read(str(path), ext=1, columns=COLUMNS)
    return {name: native(table[name]) for name in COLUMNS}


def torchfits_all(path: Path, *, cache: bool) -> list[torch.Tensor]:
    with torchfits.open(path, cache=cache) as file:
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
    """Milliseconds of each reader; AssertionError where two of them do not read the same."""
    first, *others = [reader() for reader in readers.values()]
    for other in others:
        torch.testing.assert_close(other, first, equal_nan=True)
    del first, others, other
    times: dict[str, list[float]] = {name: [] for name in readers}
    names = list(readers)
    for turn in range(ROUNDS):
        start_with = turn % len(names)
        for name in names[start_with:] + names[:start_with]:
            start = time.perf_counter()
            readers[name]()
            times[name].append(1000 * (time.perf_counter() - start))
    return {name: statistics.median(taken) for name, taken in times.items()}


def table(paths: dict[str, Path]) -> Iterator[str]:
    """The lines of the table, each when its case is measured."""
    images = torchfits_image, astropy_image, fitsio_image
    cases = {
        "float32 2048 x 2048": (*images, "f32", ()),
        "float32 128 x 128": (*images, "small", ()),
        "scaled int16 2048 x 2048": (*images, "scaled", ()),
        "RICE_1 int16 2048 x 2048": (*images, "rice", (1,)),
        "200 cutouts 256 x 256": (torchfits_cutouts, astropy_cutouts, fitsio_cutouts, "f32", ()),
        "3 of 8 columns, 200k rows": (torchfits_table, astropy_table, fitsio_table, "table", ()),
        "21 HDUs 64 x 64, all": (torchfits_all, astropy_all, fitsio_all, "many", ()),
    }
    heads = ["case", "opened anew, ms", "kept open, ms", "astropy, ms", "fitsio, ms"]
    yield f"| {' | '.join(heads)} | best peer / anew | best peer / kept |"
    yield "|---" * 7 + "|"
    for title, (ours, astropys, fitsios, file, more) in cases.items():
        took = median_times(
            {
                "anew": partial(ours, paths[file], *more, cache=False),
                "kept": partial(ours, paths[file], *more, cache=True),
                "astropy": partial(astropys, paths[file], *more),
                "fitsio": partial(fitsios, paths[file], *more),
            }
        )
        peer = min(took["astropy"], took["fitsio"])
        times = " | ".join(f"{each:.2f}" for each in took.values())
        yield f"| {title} | {times} | {peer / took['anew']:.2f} | {peer / took['kept']:.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="torchfits beside astropy and fitsio"
    )
    parser.add_argument("--write", action="store_true", help="write the table to benchmarks/README.md too")
    write = parser.parse_args().write
    lines = []
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        for line in table(make_files(Path(folder))):
            print(line, flush=True)
            lines.append(line)
        torchfits.cache_clear()
    versions = f"torch {torch.__version__}, astropy {astropy.__version__}, fitsio {fitsio.__version__}"
    # the benchmark itself is about 1 of the load at the end; more is other work, which blurs the figures
    machine = f"{os.cpu_count()} CPUs, load {load:.1f} at the start and {os.getloadavg()[0]:.1f} at the end"
    lines += ["", f"Medians of {ROUNDS} rounds, {datetime.date.today()}; {machine}; {versions}."]
    print("\n".join(lines[-2:]))
    if write:
        text = f"# Reading, beside astropy and fitsio\n\n{__doc__.partition(chr(10))[2].strip()}\n\n"
        (Path(__file__).parent / "README.md").write_text(text + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
