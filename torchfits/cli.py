"""The ``torchfits`` command: ``info``, ``header``, ``convert``, ``compress`` and ``decompress``.

Exit status: 0 done, 1 the data or the system refused, 2 the command was not understood, 130 interrupted.
Every error and every warning is one line on stderr.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeVar

import torch

import torchfits
from torchfits import FitsError, Gzip1, Gzip2, Hcompress1, Plio1, Quantize, Rice1, formats
from torchfits.compression import METHODS, Compression, settings_for
from torchfits.packing import check_same, compress_file, decompress_file

try:
    import click
except ImportError:
    raise SystemExit("torchfits: error: click is missing: pip install 'torchfits[cli]'") from None

CODECS: dict[str, Callable[..., Compression]] = {
    "rice": Rice1,
    "gzip1": Gzip1,
    "gzip2": Gzip2,
    "hcompress": Hcompress1,
    "plio": Plio1,
}
LONG_BYTES = 128 << 20  # what takes this many bytes to compress shows a progress bar
MANY_FILES = 20  # `info` on more files than this shows a progress bar

_Command = TypeVar("_Command", bound=Callable[..., Any])


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


@contextlib.contextmanager
def _progress(length: int, label: str, long: bool) -> Iterator[Callable[[int], None]]:
    """A bar on stderr, where the work is long and a person is watching."""
    if long and sys.stderr.isatty():
        with click.progressbar(length=length, label=label, file=sys.stderr) as bar:
            yield bar.update
    else:
        yield lambda steps: None


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
    type=click.Choice(formats.FORMATS),
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
    kind = to or formats.format_of(target)
    if kind is None:
        where = "stdout needs --to" if target == "-" else f"no format for the suffix of {target}"
        raise click.UsageError(f"{where} (one of {', '.join(formats.FORMATS)})")
    if percentile[0] >= percentile[1]:
        raise click.UsageError("--percentile takes the lower one first")
    if target != "-":
        _check_target(target, source, overwrite)
    elif kind != "csv" and sys.stdout.isatty():
        raise click.UsageError(f"{kind} is binary and stdout is a terminal: redirect it")

    try:
        formats.check_extras(kind)
        with formats.reading(source, kind, hdu, section, columns, rows) as data:
            if isinstance(data, formats.Pieces):
                data = formats.Pieces(_watched(data))
            _deliver(partial(formats.writer(kind, percentile), data), target)
    except formats.OptionError as error:
        raise click.UsageError(str(error)) from None
    except formats.ConversionError as error:
        raise click.ClickException(str(error)) from None


def _watched(pieces: formats.Pieces) -> Iterator[Any]:
    """The tables, with a bar where there are several."""
    with _progress(pieces.rows, "rows", pieces.several) as advance:
        for table in pieces.tables:
            yield table
            advance(table.num_rows)


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
