"""The ``torchfits`` command: ``info``, ``header``, ``convert``, ``compress`` and ``decompress``.

Exit status: 0 done, 1 the data or the system refused, 2 the command was not understood, 130 interrupted.
Every error and every warning is one line on stderr.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import shutil
import sys
import tempfile
import time
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch

import torchfits
from torchfits import FitsError, Gzip1, Gzip2, Hcompress1, Header, Plio1, Quantize, Rice1
from torchfits.arrow import array_of, arrow_table, text_array
from torchfits.compression import METHODS, Compression, settings_for
from torchfits.extras import require
from torchfits.packing import check_same, compress_file, decompress_file

try:
    import click
except ImportError:
    raise SystemExit("torchfits: error: click is missing: pip install 'torchfits[cli]'") from None

SUFFIXES = {
    ".pt": "pt",
    ".pth": "pt",
    ".safetensors": "safetensors",
    ".npy": "npy",
    ".npz": "npz",
    ".fits": "fits",
    ".fit": "fits",
    ".fts": "fits",
    ".parquet": "parquet",
    ".csv": "csv",
    ".png": "png",
}
# format -> what it needs
EXTRAS = {
    "safetensors": "safetensors",
    "npy": "numpy",
    "npz": "numpy",
    "parquet": "arrow",
    "csv": "arrow",
    "png": "png",
}
CODECS: dict[str, Callable[..., Compression]] = {
    "rice": Rice1,
    "gzip1": Gzip1,
    "gzip2": Gzip2,
    "hcompress": Hcompress1,
    "plio": Plio1,
}
BATCH_BYTES = 64 << 20  # rows reach parquet and csv in pieces of this size
MANY_COLUMNS = 1000  # csv takes no vector column of more elements
LONG_BYTES = 128 << 20  # what takes this many bytes to compress shows a progress bar
MANY_FILES = 20  # `info` on more files than this shows a progress bar

Column = torch.Tensor | list[str]
_Command = TypeVar("_Command", bound=Callable[..., Any])


@dataclass
class Image:
    """An image on the way from one format to another."""

    tensor: torch.Tensor
    header: Header | None = None
    name: str | None = None


@dataclass
class Table:
    """A table on the way from one format to another.

    `text` names the columns whose uint8 tensors ``(rows, ..., width)`` hold characters.
    """

    columns: Mapping[str, Column]
    text: frozenset[str] = frozenset()
    header: Header | None = None
    name: str | None = None


@dataclass
class Pieces:
    """A table on the way to parquet or csv: pyarrow.Tables of some rows each, made one by one."""

    tables: Iterable[Any]


# ------------------------------------------------------------------------------ what was typed


def parse_hdu(text: str) -> int | str | tuple[str, int]:
    """``'1'`` is the index 1, ``'SCI'`` the name, ``'SCI,2'`` is ``('SCI', 2)``."""
    if re.fullmatch(r"[+-]?\d+", text):
        return int(text)
    name, _, version = text.rpartition(",")
    return (name, int(version)) if name and version.strip().isdecimal() else text


def parse_slice(text: str) -> slice:
    """``'10:20'``, ``':5'`` or ``'::2'`` as a slice; ValueError for anything else."""
    parts = [int(part) if part.strip() else None for part in text.split(":")]
    if len(parts) not in (2, 3):
        raise ValueError(f"{text!r} is not START:STOP or START:STOP:STEP")
    if parts[2:] and parts[2] is not None and parts[2] < 1:
        raise ValueError(f"the step in {text!r} is not positive")
    return slice(*parts)


def parse_section(text: str) -> tuple[slice | int, ...]:
    """``'3,10:20,5:50'`` is ``(3, slice(10, 20), slice(5, 50))``; ValueError for anything else."""
    return tuple(parse_slice(axis) if ":" in axis else int(axis) for axis in text.split(","))


def parse_tile(text: str) -> tuple[int, ...]:
    """``'16,-1'`` is ``(16, -1)``."""
    return tuple(int(side) for side in text.split(","))


def parse_names(text: str) -> list[str]:
    """``'RA, DEC'`` is ``['RA', 'DEC']``."""
    return [name.strip() for name in text.split(",")]


class Typed(click.ParamType):
    """The click type of one of the functions above."""

    def __init__(self, name: str, parse: Callable[[str], Any]):
        self.name, self.parse = name, parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if self.parse is parse_hdu and re.match(r"-\D", value):  # of what starts with '-', only -1 is an HDU
            raise click.NoSuchOption(value, ctx=ctx)
        try:
            return self.parse(value)
        except ValueError:
            self.fail(f"{value!r} is not understood", param, ctx)


HDU = Typed("HDU", parse_hdu)

_files = click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path())
_overwrite = click.option("--overwrite", is_flag=True, help="Replace OUT where it exists.")


def _files_to_out(default: str) -> Callable[[_Command], _Command]:
    """FILE..., --output, --verify and --overwrite; `default` is what OUT is where nobody says."""
    output = click.option(
        "-o",
        "--output",
        metavar="OUT",
        type=click.Path(allow_dash=True),
        help=f"Instead of {default}; '-' is stdout.",
    )
    verify = click.option(
        "--verify", is_flag=True, help="Read OUT back and compare it with FILE before it is there."
    )
    return lambda command: _files(output(verify(_overwrite(command))))


# ------------------------------------------------------------------------------ one line each


def _printable(text: str) -> str:
    """Text from a file made harmless for a terminal: control characters other than newlines are spelt out."""
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)


def _complain(error: BaseException | str, kind: str = "error") -> str:
    """Say it in one line on stderr; returns the text."""
    if isinstance(error, click.ClickException):
        text = error.format_message()
        if isinstance(error, click.UsageError) and error.ctx is not None:
            text += f" (see {error.ctx.command_path} --help)"
    elif isinstance(error, OSError) and not isinstance(error, FitsError) and error.strerror:
        where = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
        text = where + error.strerror
    elif isinstance(error, FitsError | str):
        text = str(error)
    else:
        text = f"{type(error).__name__}: {error}"
    text = _printable(" ".join(text.split()))
    click.echo(f"torchfits: {kind}: {text}", err=True)
    return text


def _warn(message: Warning | str, *_: Any, **__: Any) -> None:
    _complain(str(message), "warning")


def _check_extras(kind: str) -> None:
    try:
        if kind in EXTRAS:
            require(EXTRAS[kind])
    except ImportError as error:
        raise click.ClickException(str(error)) from None


@contextlib.contextmanager
def _progress(length: int, label: str, long: bool) -> Iterator[Callable[[int], None]]:
    """A bar on stderr, where the work is long and a person is watching."""
    if long and sys.stderr.isatty():
        with click.progressbar(length=length, label=label, file=sys.stderr) as bar:
            yield bar.update
    else:
        yield lambda steps: None


# ------------------------------------------------------------------------------ reading


def _move_wcs(header: Header, section: tuple[slice | int, ...], shape: tuple[int, ...]) -> None:
    """Shift the reference pixels (CRPIXja, FITS 4.0 section 8.2) by the origin of a cutout."""
    for axis, cut in enumerate(section):
        if isinstance(cut, int) or cut.step not in (None, 1):
            raise click.UsageError(
                "a --section into FITS is START:STOP on every axis: world coordinates cannot follow a step "
                "or a dropped axis"
            )
        start = cut.indices(shape[axis])[0]
        if start:
            pattern = re.compile(rf"CRPIX{len(shape) - axis}[A-Z]?")
            for key in [card.keyword for card in header.cards if pattern.fullmatch(card.keyword)]:
                header[key] = header[key] - start


def _check_column(
    target: str, name: str, dtype: torch.dtype, shape: tuple[int, ...], ragged: bool, text: bool
) -> None:
    """Complain of a column, `shape` in a row, that csv has no place for."""
    if target == "parquet":
        return
    if dtype.is_complex:
        raise click.ClickException(f"csv cannot hold complex {name}: use parquet, or choose --columns")
    if ragged and (shape or not text):
        raise click.ClickException(f"csv cannot hold ragged {name}: use parquet, or choose --columns")
    if (count := math.prod(shape[: len(shape) - text])) > MANY_COLUMNS:
        raise click.ClickException(
            f"csv would need {count} columns for {name}: use parquet, or choose --columns"
        )


def _row_pieces(
    table: torchfits.TableHDU, columns: list[str] | None, rows: slice, row_bytes: int
) -> Iterator[Any]:
    """The asked rows in pieces of about BATCH_BYTES; one empty piece where there are none."""
    wanted = range(*rows.indices(table.nrows))
    size = max(1, BATCH_BYTES // max(1, row_bytes))
    with _progress(len(wanted), "rows", len(wanted) > size) as advance:
        for first in range(0, max(1, len(wanted)), size):
            part = wanted[first : first + size]
            asked = slice(part.start, part.stop, part.step)
            yield table._converted("arrow", partial(arrow_table, errors="replace"), columns, asked)
            advance(len(part))


def _holds_data(hdu: Any) -> bool:
    if isinstance(hdu, torchfits.TableHDU):
        return hdu.nrows > 0
    return isinstance(hdu, torchfits.ImageHDU) and 0 not in hdu.shape


def _check_kind(target: str, table: bool) -> None:
    if table and target == "png":
        raise click.UsageError("png is for images, this is a table")
    if not table and target in ("parquet", "csv"):
        raise click.UsageError(f"{target} is for tables, this is an image")


@contextlib.contextmanager
def _read_fits(
    path: str,
    target: str,
    hdu: int | str | tuple[str, int] | None,
    section: tuple[slice | int, ...] | None,
    columns: list[str] | None,
    rows: slice | None,
) -> Iterator[Image | Table | Pieces]:
    """The asked part of one HDU; the file stays open until the parts have been written."""
    with torchfits.open(path, cache=False) as hdus:
        source = hdus[hdu] if hdu is not None else next((each for each in hdus if _holds_data(each)), None)
        if source is None:
            raise click.ClickException(f"{path}: no HDU holds data")
        header = source.read_header()
        if isinstance(source, torchfits.TableHDU):
            if section is not None:
                raise click.UsageError("--section is for images, this is a table: use --rows and --columns")
            _check_kind(target, table=True)
            chosen = None if columns is None else {name.upper() for name in columns}
            infos = [info for info in source.columns if chosen is None or info.name.upper() in chosen]
            text = {info.name for info in infos if re.match(r"\d*[PQ]?A", info.tform.strip().upper())}
            if target in ("parquet", "csv"):
                for c in infos:
                    _check_column(target, c.name, c.dtype, c.shape, c.ragged, c.name in text)
                yield Pieces(_row_pieces(source, columns, rows or slice(None), header["NAXIS1"]))
                return
            values = source.read_table(columns=columns, rows=rows)
            yield Table(values, frozenset(text), header, source.name)
        elif isinstance(source, torchfits.ImageHDU):
            if columns is not None or rows is not None:
                raise click.UsageError("--columns and --rows are for tables, this is an image: use --section")
            _check_kind(target, table=False)
            tensor = source.read(section=section)
            if section is not None and target == "fits":
                _move_wcs(header, section, source.shape)
            yield Image(tensor, header, source.name)
        else:
            raise click.ClickException(f"{path}: HDU {source.index} is neither image nor table")


def _column(array: Any, name: str) -> Column:
    """A numpy array as a native-endian tensor, text as a list of str."""
    if array.dtype.kind in "SU":
        if array.ndim != 1:
            raise click.ClickException(f"{name}: text of {array.ndim} axes has no column")
        return [t.decode("ascii", "replace") if isinstance(t, bytes) else t for t in array.tolist()]
    try:
        return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), copy=True))
    except TypeError:
        raise click.ClickException(f"{name}: no tensor for the numpy type {array.dtype}") from None


def _read_other(path: str, kind: str, target: str) -> Image | Table | Pieces:
    """What `convert` wrote, or anybody else: a tensor, or columns by name."""
    values: Any
    if kind == "pt":
        values = torch.load(path, map_location="cpu", weights_only=True)
    elif kind == "safetensors":
        from safetensors.torch import load_file

        values = load_file(path)
    else:
        import numpy as np

        loaded = np.load(path, allow_pickle=False)
        if kind == "npz":
            with loaded:
                values = {name: _column(loaded[name], name) for name in loaded.files}
        elif loaded.dtype.names:
            values = {name: _column(loaded[name], name) for name in loaded.dtype.names}
        else:
            values = _column(loaded, path)
    if kind != "pt" and isinstance(values, dict) and list(values) == ["data"]:
        values = values["data"]
    if isinstance(values, torch.Tensor):
        _check_kind(target, table=False)
        return Image(values)
    if not isinstance(values, dict) or not all(isinstance(v, torch.Tensor | list) for v in values.values()):
        raise click.ClickException(f"{path}: neither a tensor nor a dict of tensors")
    _check_kind(target, table=True)
    return Pieces([_arrow_table(values, target)]) if target in ("parquet", "csv") else Table(values)


def _arrow_table(columns: Mapping[str, Column], target: str) -> Any:
    """Columns that come from no FITS file as a pyarrow.Table."""
    import pyarrow as pa

    arrays = {}
    for name, column in columns.items():
        if isinstance(column, list):
            arrays[name] = pa.array(column, pa.large_string())
        else:
            jagged = _jagged(column)
            shape = tuple(column.shape[1:] if jagged is None else jagged[0].shape[1:])
            _check_column(target, name, column.dtype, shape, jagged is not None, False)
            arrays[name] = array_of(jagged or column.contiguous())
    return pa.table(arrays)


# ------------------------------------------------------------------------------ writing


def _jagged(column: Column) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Values and offsets of a variable-length column, None for any other."""
    if isinstance(column, torch.Tensor) and column.is_nested:
        nested: Any = column
        return nested.values(), nested.offsets()
    return None


def _array(column: Column, text: bool) -> Any:
    """A column that is not ragged as a numpy array; text becomes bytes of fixed width."""
    import numpy as np

    if isinstance(column, list):
        return np.array(column, dtype="U")
    return text_array(column) if text else column.numpy()


def _flat(data: Image | Table) -> dict[str, Column]:
    """Columns by name, a ragged one as ``NAME.values`` and ``NAME.offsets``; an image is called ``data``."""
    if isinstance(data, Image):
        return {"data": data.tensor}
    flat: dict[str, Column] = {}
    for name, column in data.columns.items():
        if jagged := _jagged(column):
            flat[f"{name}.values"], flat[f"{name}.offsets"] = jagged
        else:
            flat[name] = column
    return flat


def _write_pt(data: Image | Table, path: str) -> None:
    torch.save(data.tensor if isinstance(data, Image) else data.columns, path)


def _write_safetensors(data: Image | Table, path: str) -> None:
    from safetensors.torch import save_file

    tensors = {}
    for name, column in _flat(data).items():
        if isinstance(column, list) or column.dtype == torch.complex128:
            kind = "str" if isinstance(column, list) else "complex128"
            raise click.ClickException(f"safetensors has no type for {name} ({kind})")
        tensors[name] = column.contiguous()
    save_file(tensors, path)


def _write_npy(data: Image | Table, path: str) -> None:
    import numpy as np

    if isinstance(data, Image):
        array = data.tensor.numpy()
    else:
        columns = data.columns
        for name, column in columns.items():
            if _jagged(column):
                raise click.ClickException(f"npy cannot hold ragged {name}: use npz, or choose --columns")
        fields = {name: _array(column, name in data.text) for name, column in columns.items()}
        rows = len(next(iter(fields.values()))) if fields else 0
        array = np.empty(rows, [(name, values.dtype, values.shape[1:]) for name, values in fields.items()])
        for name, values in fields.items():
            array[name] = values
    with open(path, "wb") as file:
        np.lib.format.write_array(file, array, allow_pickle=False)


def _write_npz(data: Image | Table, path: str) -> None:
    import numpy as np

    text = data.text if isinstance(data, Table) else frozenset()
    # not np.savez: columns may be called 'file' or 'allow_pickle'
    with zipfile.ZipFile(path, "w") as archive:
        for name, column in _flat(data).items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, _array(column, name in text), allow_pickle=False)


def _write_fits(data: Image | Table, path: str) -> None:
    if isinstance(data, Image):
        values: Any = data.tensor
    else:
        values = {
            name: torchfits.strings(column)
            if name in data.text and isinstance(column, torch.Tensor)
            else column
            for name, column in data.columns.items()
        }
    torchfits.writeto(path, values, header=data.header, ext_name=data.name or None)


def _spread(table: Any) -> Any:
    """A pyarrow.Table for csv: a vector NAME becomes columns NAME_0, NAME_1, ..., or none at all."""
    import pyarrow as pa
    import pyarrow.compute as pc

    columns: dict[str, Any] = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        parts = [column]
        while pa.types.is_fixed_size_list(parts[0].type):
            parts = [pc.list_element(part, i) for part in parts for i in range(part.type.list_size)]
        if pa.types.is_large_list(parts[0].type):
            continue
        labels = [name] if parts[0] is column else [f"{name}_{i}" for i in range(len(parts))]
        for label, part in zip(labels, parts, strict=True):
            if label in columns:
                raise click.ClickException(f"two columns would be called {label}: use --columns")
            columns[label] = part
    return pa.table(columns)


def _write_arrow(data: Pieces, path: str, csv: bool) -> None:
    from pyarrow.csv import CSVWriter
    from pyarrow.parquet import ParquetWriter

    with contextlib.ExitStack() as stack:
        writer = None
        for piece in data.tables:
            table = _spread(piece) if csv else piece
            if writer is None:
                writer = stack.enter_context((CSVWriter if csv else ParquetWriter)(path, table.schema))
            writer.write_table(table)


def _stretch(image: torch.Tensor, low: float, high: float) -> torch.Tensor:
    """Brightness as uint8: asinh between the two percentiles; NaN is black.

    Args:
        image: ``(height, width)``, any real dtype.
        low, high: Percentiles (0 to 100) of the finite pixels that become black and white.
    """
    every = max(1, int((image.numel() / 1e6) ** 0.5))  # a million pixels tell the percentiles
    sample = image[::every, ::every].to(torch.float64)
    sample = sample[sample.isfinite()].sort().values
    if not len(sample):
        return torch.zeros(image.shape, dtype=torch.uint8)
    black, white = (sample[round((len(sample) - 1) * p / 100)].item() for p in (low, high))
    scale = 10 / (white - black) if white > black else 1.0

    def grey(rows: torch.Tensor) -> torch.Tensor:
        rows = rows.to(torch.float64).sub(black).mul_(scale).clamp_(0, 10)
        return rows.asinh_().mul_(255 / math.asinh(10)).nan_to_num_(0.0).round_().to(torch.uint8)

    return torch.cat([grey(rows) for rows in image.split(1024)])


def _write_png(data: Image | Table, path: str, percentile: tuple[float, float]) -> None:
    import PIL.Image

    assert isinstance(data, Image)
    image = data.tensor
    while image.ndim > 2 and image.shape[0] == 1:
        image = image[0]
    if not image.numel():
        raise click.ClickException("png needs pixels, this image has none")
    if image.ndim != 2:
        raise click.ClickException(f"png shows two axes, this image is {tuple(image.shape)}: use --section")
    if image.is_complex():
        raise click.ClickException("png needs real numbers, this image is complex")
    PIL.Image.fromarray(_stretch(image, *percentile).flip(0).numpy()).save(path, format="png")


def _check_target(path: str, source: str, overwrite: bool) -> None:
    if not os.path.lexists(path):
        return
    if not os.path.isfile(path):
        raise click.ClickException(f"{path}: not a regular file")
    if os.path.exists(source) and os.path.samefile(path, source):
        raise click.ClickException(f"{path}: IN and OUT are the same file")
    if not overwrite:
        raise click.ClickException(f"{path}: exists (--overwrite replaces it)")


def _deliver(write: Callable[[str], None], path: str) -> None:
    """Write to a temporary directory beside the target and rename, or copy to stdout."""
    stdout = path == "-"
    target = os.path.realpath(path)  # through a link, as writing to it would go
    beside = None if stdout else os.path.dirname(target)
    with tempfile.TemporaryDirectory(prefix=".torchfits-", dir=beside) as new:
        whole = os.path.join(new, "new")
        write(whole)
        if stdout:
            with open(whole, "rb") as file:
                shutil.copyfileobj(file, sys.stdout.buffer)
            sys.stdout.buffer.flush()
        else:
            os.replace(whole, target)


# ------------------------------------------------------------------------------ the commands


def _versions(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value:
        for name, version in torchfits.versions().items():
            lines = version.items() if isinstance(version, dict) else [("", version)]
            for part, text in lines:
                click.echo(" ".join(filter(None, (name, part, str(text)))))
        ctx.exit()


@click.group(no_args_is_help=False, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_versions,
    help="Print the versions of torchfits and of what it is built with.",
)
def cli() -> None:
    """Look into FITS files, convert them, compress them.

    \b
    Examples:
      torchfits info image.fits catalog.fits
      torchfits header image.fits SCI
      torchfits convert image.fits image.pt
      torchfits compress image.fits
    """


def _describe(hdu: Any) -> dict[str, Any]:
    """What `info --json` says about an HDU."""
    about = {"index": hdu.index, "name": hdu.name, "version": hdu.version}
    try:
        if isinstance(hdu, torchfits.TableHDU):
            columns = [
                {
                    "name": column.name,
                    "tform": column.tform,
                    "unit": column.unit,
                    "dtype": str(column.dtype).removeprefix("torch."),
                    "shape": list(column.shape),
                }
                for column in hdu.columns
            ]
            return about | {"kind": "table", "rows": hdu.nrows, "columns": columns}
        if isinstance(hdu, torchfits.ImageHDU):
            dtype = str(hdu.dtype).removeprefix("torch.")
            shape = list(hdu.shape)
            codec = hdu.compression.codec if hdu.compression else None
            return about | {"kind": "image", "shape": shape, "dtype": dtype, "compression": codec}
    except FitsError as error:
        return about | {"kind": "bad", "error": str(error)}
    return about | {"kind": "other"}


@cli.command()
@_files
@click.option("--json", "as_json", is_flag=True, help="One JSON array for all files, for scripts.")
@click.pass_context
def info(ctx: click.Context, files: tuple[str, ...], as_json: bool) -> None:
    """List the HDUs of files.

    Index, name, version, kind, shape, dtype and compression of every HDU.
    A file that cannot be read is reported, the others are listed, and the exit status is 1.

    \b
    Examples:
      torchfits info *.fits
      torchfits info --json image.fits | jq '.[0].hdus[].shape'
    """
    listed = []
    errors = 0
    with _progress(len(files), "files", len(files) > MANY_FILES and not sys.stdout.isatty()) as advance:
        for path in files:
            about: dict[str, Any] = {"path": path, "hdus": []}
            listed.append(about)
            try:
                with torchfits.open(path, cache=False) as hdus:
                    if not as_json:
                        click.echo(_printable(hdus.info()))
                    for hdu in hdus:
                        about["hdus"].append(_describe(hdu))
                        if "error" in about["hdus"][-1]:
                            errors += 1
                            _complain(about["hdus"][-1]["error"])
            except BrokenPipeError:
                raise
            except (FitsError, OSError) as error:
                errors += 1
                about["error"] = _complain(error)
            advance(1)
    if as_json:
        click.echo(json.dumps(listed, indent=2))
    ctx.exit(1 if errors else 0)


def _value_lines(value: Any) -> list[str]:
    if isinstance(value, list | tuple):
        return [line for item in value for line in _value_lines(item)]
    if value is None:
        return [""]
    if isinstance(value, bool):
        return ["T" if value else "F"]
    return [str(value)]


@cli.command(context_settings={"ignore_unknown_options": True})  # so that -1 can be an HDU
@click.argument("file", type=click.Path())
@click.argument("hdu", type=HDU, default="0")
@click.option(
    "-k", "--keyword", "keywords", metavar="KEY", multiple=True, help="Print this value only; repeatable."
)
def header(file: str, hdu: Any, keywords: tuple[str, ...]) -> None:
    """Print a header.

    HDU is an index (0 where none is given, -1 for the last), a NAME or NAME,VERSION.

    With -k, print only the values, one a line, in the order asked.

    \b
    Examples:
      torchfits header image.fits
      torchfits header image.fits SCI,2
      torchfits header image.fits -k EXPTIME -k FILTER
    """
    cards = torchfits.read_header(file, hdu)
    if not keywords:
        click.echo(_printable(str(cards)))
        return
    values = []
    for keyword in keywords:
        if keyword not in cards:
            raise click.ClickException(f"{file}: no keyword {keyword} in HDU {hdu!r}")
        values += _value_lines(cards[keyword])
    for value in values:
        click.echo(_printable(value))


@cli.command()
@click.argument("source", metavar="IN", type=click.Path())
@click.argument("target", metavar="OUT", type=click.Path(allow_dash=True))
@click.option("--hdu", type=HDU, help="Index, NAME or NAME,VERSION; the first HDU with data where not given.")
@click.option(
    "--section",
    metavar="CUT,...",
    type=Typed("section", parse_section),
    help="Part of an image as Python would slice it: rows, columns (the last FITS axis comes first).",
)
@click.option(
    "--columns",
    metavar="NAME,...",
    type=Typed("columns", parse_names),
    help="Columns of a table, in this order.",
)
@click.option("--rows", metavar="START:STOP", type=Typed("rows", parse_slice), help="Rows of a table.")
@click.option(
    "--to",
    "to",
    type=click.Choice(sorted(set(SUFFIXES.values()))),
    help="Format of OUT where its suffix does not say it.",
)
@click.option(
    "--percentile",
    metavar="LOW HIGH",
    nargs=2,
    type=click.FloatRange(0, 100),
    default=(0.5, 99.7),
    show_default=True,
    help="For png: the percentiles that become black and white.",
)
@_overwrite
def convert(
    source: str,
    target: str,
    hdu: Any,
    section: Any,
    columns: list[str] | None,
    rows: slice | None,
    to: str | None,
    percentile: tuple[float, float],
    overwrite: bool,
) -> None:
    """Convert one HDU to the format that the suffix of OUT names.

    \b
    .pt            a tensor, or a dict of tensors    torch.load
    .safetensors   tensors by name                   pip install 'torchfits[safetensors]'
    .npy .npz      arrays; a structured array        pip install 'torchfits[numpy]'
    .fits          the HDU alone
    .parquet .csv  tables                            pip install 'torchfits[arrow]'
    .png           a picture, first row at the foot  pip install 'torchfits[png]'

    IN is a FITS file, or one of .pt, .safetensors, .npy and .npz. OUT may be '-' for stdout, with --to. In
    .npz and .safetensors an image is called 'data', and a variable-length column NAME becomes NAME.values and
    NAME.offsets; in csv a vector column becomes NAME_0, NAME_1 and so on.

    \b
    Examples:
      torchfits convert image.fits image.pt
      torchfits convert image.fits cutout.png --section 100:400,200:500
      torchfits convert catalog.fits first.parquet --columns RA,DEC,FLUX --rows :1000
      torchfits convert catalog.fits - --to csv | head
      torchfits convert image.npy image.fits
    """
    kind = to or SUFFIXES.get(os.path.splitext(target)[1].lower())
    if kind is None:
        where = "stdout needs --to" if target == "-" else f"no format for the suffix of {target}"
        raise click.UsageError(f"{where} (one of {', '.join(sorted(set(SUFFIXES.values())))})")
    if percentile[0] >= percentile[1]:
        raise click.UsageError("--percentile takes the lower one first")
    if target != "-":
        _check_target(target, source, overwrite)
    elif kind != "csv" and sys.stdout.isatty():
        raise click.UsageError(f"{kind} is binary and stdout is a terminal: redirect it")

    _check_extras(kind)
    origin = SUFFIXES.get(os.path.splitext(source)[1].lower())
    write: Callable[[Any, str], None] = {
        "pt": _write_pt,
        "safetensors": _write_safetensors,
        "npy": _write_npy,
        "npz": _write_npz,
        "fits": _write_fits,
        "parquet": lambda data, path: _write_arrow(data, path, csv=False),
        "csv": lambda data, path: _write_arrow(data, path, csv=True),
        "png": lambda data, path: _write_png(data, path, percentile),
    }[kind]
    reading: contextlib.AbstractContextManager[Image | Table | Pieces]
    if origin in ("pt", "safetensors", "npy", "npz"):
        if not (hdu is section is columns is rows is None):
            raise click.UsageError("--hdu, --section, --columns and --rows are for FITS files")
        _check_extras(origin)
        reading = contextlib.nullcontext(_read_other(source, origin, kind))
    else:
        reading = _read_fits(source, kind, hdu, section, columns, rows)
    with reading as data:
        _deliver(lambda path: write(data, path), target)


def _size(count: float) -> str:
    """Bytes for people: ``'33.6 MB'``."""
    power = 0
    while count >= 999.95 and power < 4:
        count, power = count / 1000, power + 1
    return f"{count:.1f} {('B', 'kB', 'MB', 'GB', 'TB')[power]}" if power else f"{count:.0f} B"


# writes the second file from the first, tells how many bytes are done, returns the number of images
Pack = Callable[[str, str, Callable[[int], None]], int]


def _pack_one(path: str, target: str, pack: Pack, verify: bool) -> None:
    before = os.path.getsize(path)

    def write(new: str) -> None:
        started = time.perf_counter()
        with _progress(before, os.path.basename(path), before > LONG_BYTES) as advance:
            images = pack(path, new, advance)
        seconds = time.perf_counter() - started
        if verify:
            check_same(path, new)
        _summarise(path, target, images, before, os.path.getsize(new), seconds)

    _deliver(write, target)


def _pack_all(
    files: tuple[str, ...],
    output: str | None,
    target_of: Callable[[str], str],
    pack: Pack,
    verify: bool,
    overwrite: bool,
) -> int:
    """Files one by one; those that fail are reported, and the others done. Returns the exit status."""
    if output is not None and len(files) > 1:
        raise click.UsageError("--output is for one FILE")
    if output == "-" and sys.stdout.isatty():
        raise click.UsageError("FITS is binary and stdout is a terminal: redirect it")
    status = 0
    for path in files:
        try:
            target = output or target_of(path)
            if target != "-":
                _check_target(target, path, overwrite)
            _pack_one(path, target, pack, verify)
        except (BrokenPipeError, click.UsageError):
            raise
        except (click.ClickException, FitsError, OSError) as error:
            _complain(error)
            status = 1
    return status


def _summarise(path: str, target: str, images: int, before: int, after: int, seconds: float) -> None:
    speed = max(before, after) / max(seconds, 1e-9)
    what = "1 image" if images == 1 else f"{images} images"
    sizes = f"{_size(before)} to {_size(after)} (ratio {before / max(after, 1):.2f})"
    click.echo(_printable(f"{path} -> {target}: {what}, {sizes}, {_size(speed)}/s"), err=True)


@cli.command()
@click.option(
    "--codec",
    type=click.Choice(["auto", *CODECS]),
    default="auto",
    show_default=True,
    help="auto: rice for integers and quantised floats, gzip2 for int64 and other floats.",
)
@click.option(
    "--tile",
    metavar="N,...",
    type=Typed("tile", parse_tile),
    help="Pixels of a tile, rows first, -1 for all; row by row where not given.",
)
@click.option(
    "-q",
    "--quantize",
    metavar="LEVEL",
    type=float,
    help="Floats with loss: so many steps in one sigma of the noise, such as 4.",
)
@click.option(
    "--dither",
    type=click.Choice(list(METHODS)),
    default="dither1",
    show_default=True,
    help="How, with --quantize.",
)
@click.option(
    "--seed", type=click.IntRange(1, 10000), help="Of the dithering; by the pixels where not given."
)
@click.option(
    "--scale",
    type=float,
    help="Of hcompress: 0 without loss, so many times the noise, or, negative, absolute.",
)
@click.option("--level", type=click.IntRange(0, 9), help="Of gzip1 and gzip2: 1 is fast, 9 small.")
@_files_to_out("FILE.fz")
@click.pass_context
def compress(
    ctx: click.Context,
    files: tuple[str, ...],
    output: str | None,
    codec: str,
    tile: tuple[int, ...] | None,
    quantize: float | None,
    dither: str,
    seed: int | None,
    scale: float | None,
    level: int | None,
    verify: bool,
    overwrite: bool,
) -> None:
    """Tile-compress every image of FITS files.

    FILE becomes FILE.fz, which astropy, fitsio and funpack read too. Tables are copied as they are, headers
    are kept. Without --quantize and --scale nothing is lost.

    \b
    Examples:
      torchfits compress image.fits
      torchfits compress --verify --tile 64,64 *.fits
      torchfits compress image.fits --quantize 4 -o small.fits.fz
      torchfits compress mask.fits --codec plio
    """
    options = {"tile_shape": tile, "scale": scale, "level": level}
    for option, kinds in (("scale", ("hcompress",)), ("level", ("gzip1", "gzip2"))):
        if options[option] is not None and codec not in kinds:
            raise click.UsageError(f"--{option} is for --codec {' and '.join(kinds)}")
    given = {name: value for name, value in options.items() if value is not None}
    try:
        steps = None if quantize is None else Quantize(quantize, dither, seed)
        Compression(tile)
    except FitsError as error:
        raise click.UsageError(str(error)) from None

    def choose(hdu: torchfits.ImageHDU) -> tuple[Compression, Quantize | None]:
        bitpix = hdu.read_header()["BITPIX"]
        real, wide = bitpix < 0, bitpix == 64
        best = "gzip2" if wide or (real and steps is None) else "rice"
        kind = CODECS[best if codec == "auto" else codec]
        if tile is not None:
            given["tile_shape"] = tile[-len(hdu.shape) :]
        stored = torch.int64 if wide else torch.float32 if real else torch.int32
        settings, lossy = settings_for(kind(**given), steps if real else None, stored)
        assert settings is not None
        return settings, lossy

    def pack(path: str, new: str, advance: Callable[[int], None]) -> int:
        return compress_file(path, new, choose, advance)

    ctx.exit(_pack_all(files, output, lambda path: path + ".fz", pack, verify, overwrite))


def _without_fz(path: str) -> str:
    if not path.endswith(".fz") or os.path.basename(path) == ".fz":
        raise click.ClickException(f"{path}: the name does not end in .fz: use --output")
    return path[:-3]


@cli.command()
@_files_to_out("FILE without .fz")
@click.pass_context
def decompress(
    ctx: click.Context, files: tuple[str, ...], output: str | None, verify: bool, overwrite: bool
) -> None:
    """Decompress every tile-compressed image of FITS files.

    FILE.fz becomes FILE, with the headers that it had. Whoever wrote it: torchfits, fpack, astropy.

    \b
    Examples:
      torchfits decompress image.fits.fz
      torchfits decompress archive.fits.fz -o image.fits --overwrite
    """
    ctx.exit(_pack_all(files, output, _without_fz, decompress_file, verify, overwrite))


def main(args: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    with warnings.catch_warnings():
        warnings.showwarning = _warn
        try:
            return cli.main(args, prog_name="torchfits", standalone_mode=False) or 0
        except click.Abort:  # Ctrl-C
            return 130
        except click.UsageError as error:
            _complain(error)
            return 2
        except Exception as error:  # whatever a format's library raises is one line too
            _complain(error)
            return 1
