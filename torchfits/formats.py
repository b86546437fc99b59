"""Files of other formats: what ``torchfits convert`` reads and writes."""

from __future__ import annotations

import contextlib
import math
import os
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

import torchfits
from torchfits import Header
from torchfits.arrow import array_of, arrow_table, text_array
from torchfits.extras import require

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
FORMATS = sorted(set(SUFFIXES.values()))
READABLE = ("pt", "safetensors", "npy", "npz")  # beside FITS files
# format -> what it needs
EXTRAS = {
    "safetensors": "safetensors",
    "npy": "numpy",
    "npz": "numpy",
    "parquet": "arrow",
    "csv": "arrow",
    "png": "png",
}
BATCH_BYTES = 64 << 20  # rows reach parquet and csv in pieces of this size
MANY_COLUMNS = 1000  # csv takes no vector column of more elements

Column = torch.Tensor | list[str]


class ConversionError(Exception):
    """What was asked for cannot be converted so."""


class OptionError(ConversionError):
    """An option is not for what is converted."""


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
    rows: int = 0  # of all of them
    several: bool = False


def format_of(path: str) -> str | None:
    """The format that the suffix names, None where it names none."""
    return SUFFIXES.get(os.path.splitext(path)[1].lower())


def check_extras(kind: str) -> None:
    """ConversionError that says how to install them, unless the packages of a format are there."""
    try:
        if kind in EXTRAS:
            require(EXTRAS[kind])
    except ImportError as error:
        raise ConversionError(str(error)) from None


# ------------------------------------------------------------------------------ reading


def reading(
    path: str,
    target: str,
    hdu: int | str | tuple[str, int] | None,
    section: tuple[slice | int, ...] | None,
    columns: list[str] | None,
    rows: slice | None,
) -> contextlib.AbstractContextManager[Image | Table | Pieces]:
    """What a file of any format holds, on the way to the format `target`."""
    kind = format_of(path)
    if kind not in READABLE:
        return _read_fits(path, target, hdu, section, columns, rows)
    if not (hdu is section is columns is rows is None):
        raise OptionError("--hdu, --section, --columns and --rows are for FITS files")
    check_extras(kind)
    return contextlib.nullcontext(_read_other(path, kind, target))


def _move_wcs(header: Header, section: tuple[slice | int, ...], shape: tuple[int, ...]) -> None:
    """Shift the reference pixels (CRPIXja, FITS 4.0 section 8.2) by the origin of a cutout."""
    for axis, cut in enumerate(section):
        if isinstance(cut, int) or cut.step not in (None, 1):
            raise OptionError(
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
        raise ConversionError(f"csv cannot hold complex {name}: use parquet, or choose --columns")
    if ragged and (shape or not text):
        raise ConversionError(f"csv cannot hold ragged {name}: use parquet, or choose --columns")
    if (count := math.prod(shape[: len(shape) - text])) > MANY_COLUMNS:
        raise ConversionError(f"csv would need {count} columns for {name}: use parquet, or choose --columns")


def _pieces(table: torchfits.TableHDU, columns: list[str] | None, rows: slice, row_bytes: int) -> Pieces:
    """The asked rows in pieces of about BATCH_BYTES; one empty piece where there are none."""
    wanted = range(*rows.indices(table.nrows))
    size = max(1, BATCH_BYTES // max(1, row_bytes))

    def tables() -> Iterator[Any]:
        for first in range(0, max(1, len(wanted)), size):
            part = wanted[first : first + size]
            asked = slice(part.start, part.stop, part.step)
            yield table._converted("arrow", partial(arrow_table, errors="replace"), columns, asked)

    return Pieces(tables(), len(wanted), len(wanted) > size)


def _holds_data(hdu: Any) -> bool:
    if isinstance(hdu, torchfits.TableHDU):
        return hdu.nrows > 0
    return isinstance(hdu, torchfits.ImageHDU) and 0 not in hdu.shape


def _check_kind(target: str, table: bool) -> None:
    if table and target == "png":
        raise OptionError("png is for images, this is a table")
    if not table and target in ("parquet", "csv"):
        raise OptionError(f"{target} is for tables, this is an image")


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
            raise ConversionError(f"{path}: no HDU holds data")
        header = source.read_header()
        if isinstance(source, torchfits.TableHDU):
            if section is not None:
                raise OptionError("--section is for images, this is a table: use --rows and --columns")
            _check_kind(target, table=True)
            chosen = None if columns is None else {name.upper() for name in columns}
            infos = [info for info in source.columns if chosen is None or info.name.upper() in chosen]
            text = {info.name for info in infos if re.match(r"\d*[PQ]?A", info.tform.strip().upper())}
            if target in ("parquet", "csv"):
                for c in infos:
                    _check_column(target, c.name, c.dtype, c.shape, c.ragged, c.name in text)
                yield _pieces(source, columns, rows or slice(None), header["NAXIS1"])
                return
            values = source.read_table(columns=columns, rows=rows)
            yield Table(values, frozenset(text), header, source.name)
        elif isinstance(source, torchfits.ImageHDU):
            if columns is not None or rows is not None:
                raise OptionError("--columns and --rows are for tables, this is an image: use --section")
            _check_kind(target, table=False)
            tensor = source.read(section=section)
            if section is not None and target == "fits":
                _move_wcs(header, section, source.shape)
            yield Image(tensor, header, source.name)
        else:
            raise ConversionError(f"{path}: HDU {source.index} is neither image nor table")


def _column(array: Any, name: str) -> Column:
    """A numpy array as a native-endian tensor, text as a list of str."""
    if array.dtype.kind in "SU":
        if array.ndim != 1:
            raise ConversionError(f"{name}: text of {array.ndim} axes has no column")
        return [t.decode("ascii", "replace") if isinstance(t, bytes) else t for t in array.tolist()]
    try:
        return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), copy=True))
    except TypeError:
        raise ConversionError(f"{name}: no tensor for the numpy type {array.dtype}") from None


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
        raise ConversionError(f"{path}: neither a tensor nor a dict of tensors")
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
            raise ConversionError(f"safetensors has no type for {name} ({kind})")
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
                raise ConversionError(f"npy cannot hold ragged {name}: use npz, or choose --columns")
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
                raise ConversionError(f"two columns would be called {label}: use --columns")
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
        raise ConversionError("png needs pixels, this image has none")
    if image.ndim != 2:
        raise ConversionError(f"png shows two axes, this image is {tuple(image.shape)}: use --section")
    if image.is_complex():
        raise ConversionError("png needs real numbers, this image is complex")
    PIL.Image.fromarray(_stretch(image, *percentile).flip(0).numpy()).save(path, format="png")


def writer(kind: str, percentile: tuple[float, float]) -> Callable[[Any, str], None]:
    """What writes an Image, a Table or Pieces to a path in this format; `percentile` is for png."""
    writers: dict[str, Callable[[Any, str], None]] = {
        "pt": _write_pt,
        "safetensors": _write_safetensors,
        "npy": _write_npy,
        "npz": _write_npz,
        "fits": _write_fits,
        "parquet": partial(_write_arrow, csv=False),
        "csv": partial(_write_arrow, csv=True),
        "png": partial(_write_png, percentile=percentile),
    }
    return writers[kind]
