"""Every HDU of every real file, against two oracles of different families: astropy, and fitsio (cfitsio).

A value must be that of both, or of the one that `oracles/decisions.json` names, with the reason; a refusal
must be that of both, or be listed as well. What is listed must still be so.
"""

from __future__ import annotations

import functools
import json
import pickle
import select
import subprocess
import sys
from pathlib import Path

import astropy
import numpy as np
import pytest
import torch
from astropy.io import fits
from conftest import corpus_root

import torchfits
from torchfits import FitsError, ImageHDU, TableHDU

HERE = Path(__file__).parent / "oracles"
DECISIONS = json.loads((HERE / "decisions.json").read_text())
MAGIC = (b"SIMPLE", b"\x1f\x8b", b"BZh", b"\x1f\x9d")


def real_files() -> dict[str, Path]:
    """Files that begin like FITS, or like something packed, in astropy's wheel and in the corpus."""
    package, corpus = Path(astropy.__file__).parent, corpus_root()
    found = {}
    for root, paths in ((package, package.rglob("data/**/*")), (corpus, corpus.rglob("*") if corpus else ())):
        for path in sorted(paths):
            if path.is_file() and path.suffix != ".csv" and (".fit" in path.name.lower() or root == corpus):
                with path.open("rb") as file:
                    if file.read(6).startswith(MAGIC):
                        found[f"{'astropy' if root == package else path.parent.name}/{path.name}"] = path
    return found


FILES = real_files()


class FitsioProcess:
    """fitsio at the other end of a pipe; started again after a crash or a hang."""

    def __init__(self):
        self.process = None

    def read(self, path: Path) -> list:
        if self.process is None or self.process.poll() is not None:
            command = [sys.executable, str(HERE / "fitsio_reader.py")]
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
        self.process.stdin.write(f"{path}\n".encode())
        self.process.stdin.flush()
        try:
            if not select.select([self.process.stdout], [], [], 60)[0]:
                raise EOFError
            return pickle.load(self.process.stdout)
        except (EOFError, pickle.UnpicklingError):
            self.close()
            return [("error", "fitsio crashed")]

    def close(self):
        if self.process is not None:
            with self.process:
                self.process.kill()
            self.process = None


@pytest.fixture(scope="module")
def fitsio_process():
    process = FitsioProcess()
    yield process
    process.close()


def attempt(call):
    """What `call` gives, or the exception it raises."""
    try:
        return call()
    except Exception as error:
        return error


def with_astropy(path: Path) -> list:
    """[('image', array), ('table', [(name, array), ...]) or ('error', text)] an HDU."""
    hdus = []
    file = attempt(lambda: fits.open(path, memmap=False))
    if isinstance(file, Exception):
        return [("error", str(file))]
    with file:
        for index in range(10_000):
            hdu = attempt(lambda index=index: file[index])
            if isinstance(hdu, IndexError):
                break
            if isinstance(hdu, Exception):
                hdus.append(("error", str(hdu)))
                break
            hdus.append(attempt(lambda hdu=hdu: astropy_hdu(hdu)))
            if isinstance(hdus[-1], Exception):
                hdus[-1] = ("error", str(hdus[-1]))
    return hdus


def astropy_hdu(hdu) -> tuple:
    if isinstance(hdu, fits.GroupsHDU):
        return "image", np.array(hdu.data.data)
    if hdu.is_image or isinstance(hdu, fits.CompImageHDU):
        return "image", np.zeros(0) if hdu.data is None else np.array(hdu.data)
    if isinstance(hdu, (fits.BinTableHDU, fits.TableHDU)):
        if hdu.data is None:
            return "table", []
        columns = []
        for i, column in enumerate(hdu.columns):
            value = attempt(lambda i=i: hdu.data.field(i))
            columns.append(
                (column.name, value if isinstance(value, Exception) else astropy_column(hdu, i, value))
            )
        return "table", columns
    return "other", None


def astropy_column(hdu, index: int, value):
    if isinstance(hdu, fits.BinTableHDU) and hdu.columns[index].format.lstrip("0123456789").startswith("A"):
        raw = np.asarray(hdu.data).view(np.ndarray)  # the bytes, whether they are text or not
        return raw[raw.dtype.names[index]]
    return value


def with_torchfits(path: Path) -> list:
    hdus = []
    with torchfits.open(path, cache=False) as file:
        for hdu in file:
            if isinstance(hdu, ImageHDU):
                value = attempt(hdu.read)
                hdus.append(("error", value) if isinstance(value, Exception) else ("image", value))
            elif isinstance(hdu, TableHDU):
                names = attempt(lambda hdu=hdu: [column.name for column in hdu.columns])
                if isinstance(names, Exception):
                    hdus.append(("error", names))
                    continue
                columns = [
                    (name, attempt(lambda hdu=hdu, name=name: hdu.read_table([name])[name])) for name in names
                ]
                hdus.append(("table", columns))
            else:
                hdus.append(("other", None))
    return hdus


def same_text(mine: torch.Tensor, theirs: np.ndarray) -> bool:
    width = mine.shape[-1]
    rows = mine.numpy().reshape(-1, width) if width else [b""] * len(mine)
    texts = [bytes(row).split(b"\0")[0].rstrip() for row in rows]
    others = np.asarray(theirs).ravel().tolist()
    others = [t if isinstance(t, bytes) else t.encode("latin-1") for t in others]
    others = [t.split(b"\0")[0].rstrip() for t in others]
    return texts == others


def same_rows(mine: torch.Tensor, theirs) -> bool:
    bounds = mine.offsets().tolist()
    values = mine.values()
    if len(bounds) - 1 != len(theirs):
        return False
    for first, last, other in zip(bounds[:-1], bounds[1:], theirs, strict=True):
        row = values[first:last]
        if np.asarray(other).dtype.kind in "SU":
            # astropy gives an array of characters, blanks as empty ones
            text = other if isinstance(other, (str, bytes)) else "".join(c or " " for c in other)
            text = text if isinstance(text, bytes) else text.encode("latin-1")
            if bytes(row.tolist()).split(b"\0")[0].rstrip() != text.rstrip():
                return False
        elif not same_numbers(row, np.asarray(other)):
            return False
    return True


def same(mine, theirs) -> bool:
    """Whether a tensor of ours and an array of an oracle hold the same values."""
    if isinstance(theirs, (str, Exception)) or theirs is None:
        return False
    if mine.is_nested:
        return same_rows(mine, theirs)
    theirs = np.asarray(theirs)
    if theirs.dtype.kind in "SU":
        return mine.dtype == torch.uint8 and same_text(mine, theirs)
    return same_numbers(mine, theirs)


def same_numbers(mine: torch.Tensor, theirs: np.ndarray) -> bool:
    array = mine.numpy()
    if array.size != theirs.size or (array.size and array.squeeze().shape != theirs.squeeze().shape):
        return False
    if theirs.dtype.kind not in "biufc" or not array.size:
        return not array.size
    array, theirs = array.squeeze(), theirs.squeeze()
    if array.dtype.kind in "iub" and theirs.dtype.kind in "iub":
        return bool(np.array_equal(array, theirs))
    if array.dtype.kind == "f" and theirs.dtype.kind in "iub":
        return bool(np.array_equal(array, theirs.astype(array.dtype)))
    if theirs.dtype.kind == "f" and array.dtype.kind in "iub":
        return bool(np.array_equal(array.astype(theirs.dtype), theirs))
    if array.dtype.newbyteorder("=") == theirs.dtype.newbyteorder("=") and np.array_equal(
        array, theirs, equal_nan=True
    ):
        return True
    # an oracle may scale in float32 where we do in float64
    with np.errstate(all="ignore"):
        return bool(np.allclose(array, theirs, rtol=3e-7, atol=0, equal_nan=True))


def verdict(mine, astropy_value, fitsio_value) -> str:
    """'both', or who of the oracles agrees: 'astropy', 'fitsio', 'neither'; 'refused' where we do."""
    if isinstance(mine, Exception):
        assert isinstance(mine, FitsError), repr(mine)
        bad = [
            isinstance(value, (str, Exception)) or value is None for value in (astropy_value, fitsio_value)
        ]
        return "both" if all(bad) else "refused"
    agree = same(mine, astropy_value), same(mine, fitsio_value)
    return {
        (True, True): "both",
        (True, False): "astropy",
        (False, True): "fitsio",
        (False, False): "neither",
    }[agree]


def compare(path: Path, process: FitsioProcess) -> dict[str, str]:
    """Everything in a file on which not both oracles agree with us: place -> verdict."""
    theirs, other = with_astropy(path), process.read(path)
    mine = attempt(lambda: with_torchfits(path))
    if isinstance(mine, Exception):
        both = theirs[0][0] == other[0][0] == "error"
        assert isinstance(mine, FitsError), repr(mine)
        return {} if both else {"file": "refused"}
    found = {}
    if len(mine) != len(theirs) or len(mine) != len(other):
        found["HDUs"] = f"{len(mine)}, astropy {len(theirs)}, fitsio {len(other)}"
    nothing = ("error", "no such HDU")
    for i, (kind, value) in enumerate(mine):
        a = theirs[i] if i < len(theirs) else nothing
        f = other[i] if i < len(other) else nothing
        if kind == "table":
            for j, (name, column) in enumerate(value):
                columns = [hdu[1][j][1] if hdu[0] == "table" and j < len(hdu[1]) else None for hdu in (a, f)]
                outcome = verdict(column, *columns)
                if outcome != "both":
                    found[f"{i}/{name}"] = outcome
            continue
        if kind == "other":
            outcome = "both" if a[0] == "other" else "refused"
        else:
            outcome = verdict(value, *(hdu[1] if hdu[0] == "image" else None for hdu in (a, f)))
            if outcome == "astropy" and f[0] == "image" and f[1] is None and not value.numel():
                outcome = "both"  # fitsio says None where there are no data
        if outcome != "both":
            found[str(i)] = outcome
    return found


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FILES)
def test_file(name, fitsio_process):
    listed = {place: who for place, (who, _) in DECISIONS.get(name, {}).items()}
    assert compare(FILES[name], fitsio_process) == listed


@functools.cache
def _reasons() -> set[str]:
    return {reason for places in DECISIONS.values() for _, reason in places.values()}


def test_every_decision_says_why_and_is_used():
    assert all(len(reason) > 10 for reason in _reasons())
    astropys = {name for name in DECISIONS if name.startswith("astropy/")}
    assert astropys <= FILES.keys()
    if corpus_root() is not None:
        assert DECISIONS.keys() <= FILES.keys()


@pytest.mark.skipif(
    corpus_root() is None, reason="the corpus is not beside the checkout; TORCHFITS_CORPUS names it"
)
def test_the_corpus_is_whole():
    assert sum(not name.startswith("astropy/") for name in FILES) == 72


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FILES)
def test_raw_values_and_sections(name):
    """raw=True is astropy's unscaled image; a section is the slice of the whole."""
    file = attempt(lambda: torchfits.open(FILES[name]))
    if isinstance(file, FitsError):
        pytest.skip("refused as a whole, which test_file compares")
    unscaled = attempt(lambda: fits.open(FILES[name], memmap=False, do_not_scale_image_data=True))
    try:
        for hdu in file:
            whole = attempt(hdu.read) if isinstance(hdu, ImageHDU) else None
            if not isinstance(whole, torch.Tensor):
                continue
            section = tuple(slice(n // 3, n // 3 + n // 2 + 1, 2) for n in whole.shape)
            assert torch.equal(torch.nan_to_num(hdu.read(section)), torch.nan_to_num(whole[section]))
            theirs = attempt(lambda hdu=hdu: unscaled[hdu.index])
            if isinstance(theirs, (fits.PrimaryHDU, fits.ImageHDU)) and theirs.data is not None:
                raw = np.asarray(theirs.data.data if isinstance(theirs, fits.GroupsHDU) else theirs.data)
                assert np.array_equal(hdu.read(raw=True).numpy(), raw, equal_nan=raw.dtype.kind == "f")
    finally:
        file.close()
        if not isinstance(unscaled, Exception):
            unscaled.close()
