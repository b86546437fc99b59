"""The guided tour over real instrument files: list, read, convert, preview, train. Run by `make demo`."""

from __future__ import annotations

import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import astropy
import numpy as np
import torch
from astropy.io import fits
from PIL import Image
from pyarrow import csv, parquet
from safetensors.torch import load_file
from torch import nn
from torch.utils.data import DataLoader, Dataset

import torchfits

OUT = Path(__file__).resolve().parents[1] / "demo-output"
DATA = Path(astropy.__file__).parent / "io" / "fits" / "tests" / "data"
WCS_DATA = Path(astropy.__file__).parent / "wcs" / "tests" / "data"
SIDE = 32


@contextmanager
def step(title: str) -> Iterator[None]:
    print(f"\n== {title}")
    start = time.perf_counter()
    yield
    print(f"   ({time.perf_counter() - start:.2f} s)")


def real_files() -> list[Path]:
    """FITS files that astropy's wheel ships."""
    return sorted([*DATA.glob("*.fits*"), *WCS_DATA.glob("*.fits*")])


def read_hdu(hdu: torchfits.HDU) -> list[torch.Tensor]:
    """Every tensor of an image or a table."""
    if isinstance(hdu, torchfits.ImageHDU):
        return [hdu.read()]
    return list(hdu.read_table().values()) if isinstance(hdu, torchfits.TableHDU) else []


def is_picture(hdu: torchfits.HDU) -> bool:
    return isinstance(hdu, torchfits.ImageHDU) and len(hdu.shape) == 2 and min(hdu.shape) > SIDE


def list_and_read(paths: list[Path]) -> Path:
    """Read everything in every file; returns the one with the largest image."""
    images = tables = size = 0
    refused: list[torchfits.FitsError] = []
    largest, most = paths[0], 0
    start = time.perf_counter()
    for path in paths:
        try:
            with torchfits.open(path) as file:
                for hdu in file:
                    try:
                        tensors = read_hdu(hdu)
                    except torchfits.FitsError as error:
                        refused.append(error)
                        continue
                    size += sum((each.values() if each.is_nested else each).nbytes for each in tensors)
                    images += isinstance(hdu, torchfits.ImageHDU)
                    tables += isinstance(hdu, torchfits.TableHDU)
                    if is_picture(hdu) and tensors[0].numel() > most:
                        largest, most = path, tensors[0].numel()
        except torchfits.FitsError as error:
            refused.append(error)
    seconds = time.perf_counter() - start
    speed = f"{size / 1e6:.1f} MB in {seconds:.2f} s, {size / 1e6 / seconds:.1f} MB/s"
    print(f"   {len(paths)} files: {images} images and {tables} tables, {speed}")
    print("   (most are tiny, so this is the time to open them; `make bench` measures reading)")
    print(f"   {len(refused)} refused, each with its reason:")
    for error in refused:
        print(f"     {Path(error.path).name}: {error.message}")
    assert images > 50
    assert tables > 20
    # only what is known not to be there yet may be refused
    assert all(isinstance(error, torchfits.FitsUnsupported) for error in refused)
    return largest


def compare_with_astropy(path: Path) -> tuple[Path, int]:
    with torchfits.open(path) as file:
        print(file.info())
        index = next(hdu.index for hdu in file if is_picture(hdu))
        tensor = file[index].read()
    expected = np.asarray(fits.getdata(path, index))
    assert np.array_equal(tensor.numpy(), expected, equal_nan=expected.dtype.kind == "f")
    print(f"   {tuple(tensor.shape)} {tensor.dtype}: every pixel equals astropy's")
    return path, index


def command(*arguments: str) -> None:
    shown = " ".join(Path(argument).name if "/" in argument else argument for argument in arguments)
    print(f"   $ torchfits {shown}")
    result = subprocess.run(
        [sys.executable, "-m", "torchfits", *arguments], capture_output=True, text=True, check=False
    )
    for line in result.stdout.splitlines()[:6]:
        print(f"     {line}")
    assert result.returncode == 0, result.stderr


def convert(path: Path, index: int) -> None:
    for suffix in ("png", "pt", "safetensors", "npy"):
        command("convert", str(path), str(OUT / f"image.{suffix}"), "--hdu", str(index), "--overwrite")
    command("convert", str(DATA / "tb.fits"), str(OUT / "table.parquet"), "--overwrite")
    command("convert", str(DATA / "tb.fits"), str(OUT / "table.csv"), "--overwrite")
    command("header", str(path), str(index), "-k", "NAXIS1", "-k", "NAXIS2")
    check_converted(path, index)
    print(f"   a preview to look at: {OUT.name}/image.png")


def check_converted(path: Path, index: int) -> None:
    """What was converted holds what astropy reads."""
    expected = np.asarray(fits.getdata(path, index))
    assert np.array_equal(torch.load(OUT / "image.pt").numpy(), expected)
    assert np.array_equal(load_file(OUT / "image.safetensors")["data"].numpy(), expected)
    assert np.array_equal(np.load(OUT / "image.npy"), expected)
    with Image.open(OUT / "image.png") as picture:
        assert picture.size == expected.shape[::-1]
        assert len(np.unique(np.asarray(picture.convert("L")))) > 50, "the preview shows nothing"
    rows = fits.getdata(DATA / "tb.fits", 1)
    tensors = torchfits.read(DATA / "tb.fits", 1)
    for table in (parquet.read_table(OUT / "table.parquet"), csv.read_csv(OUT / "table.csv")):
        assert table.column_names == rows.columns.names
        for name in rows.columns.names:
            if rows[name].dtype.kind == "U":
                assert table[name].to_pylist() == [text.rstrip() for text in rows[name]], name
            else:  # astropy makes float64 of a scaled float32 column, and csv knows no float32
                dtype = tensors[name].numpy().dtype
                assert np.array_equal(table[name].to_numpy().astype(dtype), rows[name].astype(dtype)), name
    print("   pt, safetensors, npy, parquet and csv hold what astropy reads")


class Cutouts(Dataset):
    """Random windows of one image, read from the file by whichever worker is asked."""

    def __init__(self, path: Path, index: int, count: int):
        self.hdu = torchfits.open(path)[index]
        generator = torch.Generator().manual_seed(0)
        height, width = self.hdu.shape
        rows = torch.randint(0, height - SIDE, (count,), generator=generator)
        columns = torch.randint(0, width - SIDE, (count,), generator=generator)
        self.corners = list(zip(rows.tolist(), columns.tolist(), strict=True))

    def __len__(self) -> int:
        return len(self.corners)

    def __getitem__(self, i: int) -> torch.Tensor:
        row, column = self.corners[i]
        return self.hdu.read((slice(row, row + SIDE), slice(column, column + SIDE)), dtype=torch.float32)[
            None
        ]


def train(path: Path, index: int) -> None:
    """A few steps of an autoencoder on cutouts that two workers read."""
    torch.manual_seed(0)
    image = torch.nan_to_num(torchfits.read(path, index, dtype=torch.float32))
    mean, spread = image.mean(), image.std()
    model = nn.Sequential(nn.Conv2d(1, 8, 5, padding=2), nn.ReLU(), nn.Conv2d(8, 1, 5, padding=2))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses, count = [], 0
    start = time.perf_counter()
    for batch in DataLoader(Cutouts(path, index, 1600), batch_size=64, num_workers=2):
        clean = torch.nan_to_num((batch - mean) / spread)
        loss = nn.functional.mse_loss(model(clean + 0.3 * torch.randn_like(clean)), clean)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        count += len(batch)
    seconds = time.perf_counter() - start
    rate = count / seconds
    print(
        f"   {count} cutouts of {SIDE}x{SIDE} in {len(losses)} steps, {rate:.0f} cutouts/s with the training"
    )
    print(f"   loss {losses[0]:.3f} -> {losses[-1]:.3f}")
    assert count == 1600
    assert losses[-1] < losses[0]


def main() -> None:
    warnings.simplefilter("ignore", torchfits.FitsWarning)
    OUT.mkdir(exist_ok=True)
    versions = torchfits.versions()
    print("torchfits {torchfits}, cfitsio {cfitsio}, wcslib {wcslib}, torch {torch}".format(**versions))
    with step("Read everything that astropy's wheel ships"):
        largest = list_and_read(real_files())
    with step(f"Look into {largest.name}"):
        path, index = compare_with_astropy(largest)
    with step("Convert"):
        convert(path, index)
    with step("Write and read back"):
        pixels = torchfits.read(path, index)
        torchfits.writeto(
            OUT / "copy.fits", pixels, torchfits.read_header(path, index), overwrite=True, checksum=True
        )
        assert torch.equal(torchfits.read(OUT / "copy.fits"), pixels)
        print(f"   {OUT.name}/copy.fits holds the same pixels")
    with step("Train a toy model through a DataLoader with 2 workers"):
        train(path, index)
    print("\nAll of it worked.")


if __name__ == "__main__":
    main()
