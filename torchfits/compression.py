"""Tile compression: its settings; the headers of compressed images and tables; the guard of other decoders.

FITS standard 4.0, section 10.
"""

from __future__ import annotations

import itertools
import math
import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from torchfits._direct import HCOMPRESS_SIDE_MAX, TILE_AXES
from torchfits._tiles import check_tiles
from torchfits.errors import FitsFormatError, FitsUnsupported
from torchfits.header import Card, Header
from torchfits.layout import ELEMENT_BYTES, Hdu, TileLayout, integer
from torchfits.source import Source

# ---------------------------------------------------------------------------- settings


@dataclass(frozen=True)
class Compression:
    """What all codecs of tile compression have: the shape of the tiles.

    Args:
        tile_shape: Pixels of a tile along each axis, in tensor order; -1 for a whole axis. Where there
            are fewer numbers than axes, the leading ones are 1. None: as cfitsio's, row by row (HCOMPRESS_1:
            16 rows). Small square tiles suit cutouts. A file always tells the shape.
    """

    tile_shape: tuple[int, ...] | None = None

    codec: ClassVar[str]  # ZCMPTYPE

    def __post_init__(self) -> None:
        if self.tile_shape is None:
            return
        if isinstance(self.tile_shape, str) or not isinstance(self.tile_shape, Sequence):
            raise TypeError(f"tile_shape must be a tuple of numbers, not {self.tile_shape!r}")
        for side in self.tile_shape:
            _check_integer("a side of tile_shape", side, -1, 2**31 - 1)
        if not self.tile_shape or 0 in self.tile_shape:
            raise FitsFormatError(
                f"tile_shape {self.tile_shape}: sides are 1 and more, or -1 for a whole axis"
            )
        object.__setattr__(self, "tile_shape", tuple(self.tile_shape))

    def _parameters(self, bitpix: int) -> list[tuple[str, float, str]]:
        """What ZNAMEn, ZVALn and their comments say."""
        return []


@dataclass(frozen=True)
class Rice1(Compression):
    """RICE_1: integers of at most 32 bits without loss, and quantised floats. The fastest, and hard to beat.

    Args:
        tile_shape: See `Compression`.
        blocksize: So many pixels, 16 or 32, are coded in the same way.

    Example:
        >>> torchfits.writeto('r.fits', torch.arange(512).to(torch.int16).view(8, 64),
        ...                   compress=torchfits.Rice1(tile_shape=(4, 32)), overwrite=True)
        >>> torchfits.open('r.fits')[1].compression
        Rice1(tile_shape=(4, 32), blocksize=32)
    """

    blocksize: int = 32

    codec = "RICE_1"

    def __post_init__(self) -> None:
        super().__post_init__()
        if _check_integer("blocksize", self.blocksize, 16, 32) not in (16, 32):
            raise FitsFormatError(f"blocksize is 16 or 32, not {self.blocksize}")

    def _parameters(self, bitpix: int) -> list[tuple[str, float, str]]:
        width = 4 if bitpix < 0 else bitpix // 8
        return [
            ("BLOCKSIZE", self.blocksize, "pixels per block"),
            ("BYTEPIX", width, "bytes per pixel (1, 2, 4, or 8)"),
        ]


@dataclass(frozen=True)
class _Gzip(Compression):
    level: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_integer("level", self.level, 0, 9)

    def _parameters(self, bitpix: int) -> list[tuple[str, float, str]]:
        return [] if self.level == 1 else [("LEVEL", self.level, "of deflate, 0 to 9")]


@dataclass(frozen=True)
class Gzip1(_Gzip):
    """GZIP_1: any pixels, floats and int64 too, without loss; deflate as it is.

    Args:
        tile_shape: See `Compression`.
        level: 0 (as they are) to 9 (small, slow). Where a file does not tell it, 1, which is cfitsio's.

    Example:
        >>> settings = torchfits.Gzip1(level=6)
        >>> torchfits.writeto('g.fits', torch.rand(8, 64), compress=settings, overwrite=True)
    """

    codec = "GZIP_1"


@dataclass(frozen=True)
class Gzip2(_Gzip):
    """GZIP_2: any pixels, floats and int64 too, without loss; the bytes of numbers sorted by weight.

    It makes floats smaller than GZIP_1 does.

    Args:
        tile_shape: See `Compression`.
        level: 0 (as they are) to 9 (small, slow). Where a file does not tell it, 1, which is cfitsio's.

    Example:
        >>> stored = torch.rand(8, 64)
        >>> torchfits.writeto('g.fits', stored, compress=torchfits.Gzip2(), overwrite=True)
        >>> torch.equal(torchfits.read('g.fits'), stored)
        True
    """

    codec = "GZIP_2"


@dataclass(frozen=True)
class Hcompress1(Compression):
    """HCOMPRESS_1: integers of at most 32 bits, and quantised floats; images of two axes and more.

    Args:
        tile_shape: See `Compression`; of two axes, each of 4 pixels or more.
        scale: 0: without loss. Above: lossy, so many times the noise of a tile; negative: lossy, that size.
        smooth: Readers shall smooth what a lossy scale left.

    Example:
        >>> torchfits.writeto('h.fits', torch.arange(512, dtype=torch.int16).view(8, 64),
        ...                   compress=torchfits.Hcompress1(scale=2.5, smooth=True), overwrite=True)
    """

    scale: float = 0.0
    smooth: bool = False

    codec = "HCOMPRESS_1"

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_real("scale", self.scale)
        if not isinstance(self.smooth, bool):
            raise TypeError(f"smooth must be a bool, not {self.smooth!r}")

    def _parameters(self, bitpix: int) -> list[tuple[str, float, str]]:
        return [
            ("SCALE", float(self.scale), "HCOMPRESS scale factor"),
            ("SMOOTH", int(self.smooth), "HCOMPRESS smooth option"),
        ]


@dataclass(frozen=True)
class Plio1(Compression):
    """PLIO_1: masks, integers of 0 to 16777215, in runs of the same value.

    Args:
        tile_shape: See `Compression`.

    Example:
        >>> mask = torch.rand(8, 64) > 0.5
        >>> torchfits.writeto('mask.fits', mask, compress=torchfits.Plio1(), overwrite=True)
    """

    codec = "PLIO_1"


@dataclass(frozen=True)
class NoCompression(Compression):
    """NOCOMPRESS: tiles as they are, which are read, not written."""

    codec = "NOCOMPRESS"


METHODS = {
    "dither1": "SUBTRACTIVE_DITHER_1",
    "dither2": "SUBTRACTIVE_DITHER_2",
    "no_dither": "NO_DITHER",
}


@dataclass(frozen=True)
class Quantize:
    """How floats become integers, which compress well: with loss, by steps that are a fraction of the noise.

    NaN stays NaN. Tiles without noise, or with infinities, are kept without loss.

    Args:
        level: So many steps in one sigma of the noise of a tile; negative: the size of a step. Where a file
            does not tell it, 4.0.
        method: 'dither1' adds noise of a step before rounding, which readers take away again; 'dither2' does
            too, but zeros stay zeros; 'no_dither' only rounds.
        seed: Where in the table of random numbers to begin, 1 to 10000; None: by the pixels of the first
            tile, so that the same image gives the same file.

    Example:
        >>> noisy = torch.randn(64, 64, generator=torch.Generator().manual_seed(1))
        >>> steps = torchfits.Quantize(16.0)
        >>> torchfits.writeto('q.fits', noisy, compress=True, quantize=steps, overwrite=True)
        >>> (torchfits.read('q.fits') - noisy).abs().max() < 1 / 16
        tensor(True)
    """

    level: float = 4.0
    method: str = "dither1"
    seed: int | None = None

    def __post_init__(self) -> None:
        if _check_real("level", self.level) == 0:
            raise FitsFormatError("level is not 0; without quantize= floats are kept without loss")
        if self.method not in METHODS:
            raise FitsFormatError(f"method {self.method!r} is none of {', '.join(METHODS)}")
        if self.seed is not None:
            _check_integer("seed", self.seed, 1, 10000)


def _check_integer(what: str, value: object, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{what} must be an int, not {value!r}")
    if not low <= value <= high:
        raise FitsFormatError(f"{what} is {low} to {high}, not {value}")
    return value


def _check_real(what: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{what} must be a number, not {value!r}")
    if not abs(value) < 2.0**31:
        raise FitsFormatError(f"{what} = {value} is beyond 32 bits")
    return value


_CODECS: list[type[Compression]] = [Rice1, Gzip1, Gzip2, Hcompress1, Plio1]
# names in small letters, without '_' and '-'
_NAMED = {codec.codec.lower().replace("_", ""): codec for codec in _CODECS}
_NAMED |= {name.rstrip("1"): codec for name, codec in _NAMED.items() if name.endswith("1")}
_NAMED |= {"riceone": Rice1}
_LOSSLESS = "Gzip2() keeps them without loss"


def settings_for(
    compress: object, quantize: object, dtype: torch.dtype
) -> tuple[Compression | None, Quantize | None]:
    """What `compress=` and `quantize=` mean for pixels that are stored as `dtype`; None, None for neither.

    Raises FitsFormatError where the two, or the codec and the pixels, do not go together.
    """
    steps = _quantize_of(quantize)
    if compress is None or compress is False:
        if steps is not None:
            raise FitsFormatError("quantize= is for compressed images: pass compress=True too")
        return None, None
    name = str(dtype).removeprefix("torch.")
    if steps is not None and not dtype.is_floating_point:
        raise FitsFormatError(f"quantize= is for floats; {name} is compressed without loss, leave it out")
    codec = _codec_of(compress, plain=(dtype.is_floating_point and steps is None) or dtype == torch.int64)
    if isinstance(codec, _Gzip):
        return codec, steps
    if dtype == torch.int64:
        raise FitsFormatError(f"{codec.codec} has no room for 64 bits: {_LOSSLESS}")
    if dtype.is_floating_point and isinstance(codec, Plio1):
        raise FitsFormatError(
            f"PLIO_1 is for masks of integers, not {name}: {_LOSSLESS}, Rice1() with quantize="
        )
    if dtype.is_floating_point and steps is None:
        raise FitsFormatError(
            f"{codec.codec} compresses integers, not {name}: {_LOSSLESS}, quantize=True with it"
        )
    if steps is not None and steps.method == "dither2" and isinstance(codec, Hcompress1):
        raise FitsFormatError("HCOMPRESS_1 does not keep the zeros of 'dither2': use Rice1(), or 'dither1'")
    return codec, steps


def _quantize_of(quantize: object) -> Quantize | None:
    if isinstance(quantize, Quantize):
        return quantize
    if quantize is None or quantize is False:
        return None
    if quantize is True:
        return Quantize()
    if isinstance(quantize, int | float):
        return Quantize(float(quantize))
    raise TypeError(f"quantize must be True, a level or Quantize(...), not {quantize!r}")


def _codec_of(compress: object, plain: bool) -> Compression:
    """`plain`: whether the pixels are such as only gzip keeps."""
    if compress is True:
        return Gzip2() if plain else Rice1()
    if isinstance(compress, NoCompression):
        raise FitsFormatError("NOCOMPRESS is read, not written: leave compress= out")
    if isinstance(compress, Compression):
        return compress
    if not isinstance(compress, str):
        raise TypeError(f"compress must be True, a name or one of {', '.join(_SETTINGS)}, not {compress!r}")
    found = _NAMED.get(compress.lower().replace("_", "").replace("-", ""))
    if found is None:
        names = ", ".join(codec.codec for codec in _CODECS)
        raise FitsFormatError(f"no compression is called {compress!r}; there are {names}")
    return found()


_SETTINGS = [f"{codec.__name__}(...)" for codec in _CODECS]


def tile_for(codec: Compression, shape: Sequence[int]) -> tuple[int, ...]:
    """The tiles of an image of `shape`, in tensor order."""
    name = " x ".join(map(str, shape))
    asked = codec.tile_shape
    if len(shape) > TILE_AXES:
        raise FitsUnsupported(f"an image of {len(shape)} axes: compressed ones have at most {TILE_AXES}")
    if asked is None:
        tile = [1] * (len(shape) - 1) + [shape[-1]]
    elif len(asked) > len(shape):
        raise FitsFormatError(f"tiles of {len(asked)} axes, {asked}, for an image of {name} pixels")
    else:
        sides = [1] * (len(shape) - len(asked)) + list(asked)
        tile = [length if side < 0 else min(side, length) for side, length in zip(sides, shape, strict=True)]
    if isinstance(codec, Hcompress1):
        tile = _hcompress_tile(tile, shape, asked is None)
    if math.prod(tile) >= 2**31:
        raise FitsFormatError(
            f"tiles of {' x '.join(map(str, tile))} pixels: 2^31 - 1 are the most; pass tile_shape="
        )
    return tuple(tile)


def _hcompress_tile(tile: list[int], shape: Sequence[int], by_rows: bool) -> list[int]:
    """Tiles of two axes, of 4 pixels or more at the edges too; by the rules of cfitsio."""
    works = "HCOMPRESS_1 needs tiles of two axes, each of 4 pixels or more"
    if sum(length >= 4 for length in shape) < 2:
        raise FitsFormatError(f"{works}; an image of {' x '.join(map(str, shape))} has none: Rice1() does it")
    if by_rows:
        rows = shape[-2]
        sizes = (16, 24, 20, 30, 28, 26, 22, 18, 14)
        good = (size for size in sizes if rows % size == 0 or rows % size > 3)
        tile[-2] = rows if rows <= 30 else next(good, 17)
    axes = [axis for axis, side in enumerate(tile) if side > 1]
    if len(axes) != 2 or any(tile[axis] < 4 for axis in axes):
        raise FitsFormatError(f"{works}, not {' x '.join(map(str, tile))}: pass tile_shape=, or use Rice1()")
    for axis in axes:
        left = shape[axis] % tile[axis]
        if 0 < left < 4:
            tile[axis] += -(-left // (shape[axis] // tile[axis]))
        if 0 < shape[axis] % tile[axis] < 4:
            raise FitsFormatError(
                f"{works}, those at the edges too: axis {axis} of {shape[axis]} leaves fewer"
            )
        if tile[axis] > HCOMPRESS_SIDE_MAX:
            raise FitsFormatError(
                f"HCOMPRESS_1 takes tiles of up to {HCOMPRESS_SIDE_MAX} pixels a side, not "
                f"{' x '.join(map(str, tile))}: pass tile_shape="
            )
    return tile


def settings_of(header: Header, layout: TileLayout) -> tuple[Compression, Quantize | None]:
    """What an image was compressed with; what its header does not tell is as it is by default."""
    told = _told_parameters(header)
    codec: Compression
    if layout.codec == "RICE_1":
        codec = Rice1(layout.tile, layout.block_size if layout.block_size in (16, 32) else 32)
    elif layout.codec == "HCOMPRESS_1":
        scale = told.get("SCALE", 0.0)
        codec = Hcompress1(layout.tile, scale if abs(scale) < 2.0**31 else 0.0, layout.smooth != 0)
    elif layout.codec in ("GZIP_1", "GZIP_2"):
        level = told.get("LEVEL", 1)
        kind = Gzip1 if layout.codec == "GZIP_1" else Gzip2
        codec = kind(layout.tile, level if isinstance(level, int) and 0 <= level <= 9 else 1)
    else:
        codec = (Plio1 if layout.codec == "PLIO_1" else NoCompression)(layout.tile)
    if not layout.quantized:
        return codec, None
    steps = told.get("QLEVEL", _level_of_cfitsio(header))
    method = next((name for name, known in METHODS.items() if known == layout.method), "no_dither")
    seed = None if method == "no_dither" else layout.zdither0
    return codec, Quantize(steps if 0 < abs(steps) < 2.0**31 else 4.0, method, seed)


def _told_parameters(header: Header) -> dict[str, float]:
    """The numbers of ZNAMEn and ZVALn."""
    told: dict[str, float] = {}
    n = 1
    while f"ZNAME{n}" in header:
        value = header.get(f"ZVAL{n}")
        if isinstance(value, int | float) and not isinstance(value, bool):
            told[str(header[f"ZNAME{n}"])] = value
        n += 1
    return told


def _level_of_cfitsio(header: Header) -> float:
    """The level that a line of HISTORY tells."""
    lines = [str(line) for line in header.get("HISTORY", [])]
    found = [re.match(r" *q = (-?\d+\.\d+) / quantized level scaling parameter", line) for line in lines]
    return next((float(match[1]) for match in found if match), 4.0)


# ---------------------------------------------------------------------------- headers

_RENAMED = {
    "ZPCOUNT": "PCOUNT",
    "ZGCOUNT": "GCOUNT",
    "ZEXTEND": "EXTEND",
    "ZBLOCKED": "BLOCKED",
    "ZHECKSUM": "CHECKSUM",
    "ZDATASUM": "DATASUM",
}
# the integer that stands for NaN in what is quantised
ZBLANK = -2147483647
# of the table, or of the compression
_DROPPED = re.compile(
    r"XTENSION|SIMPLE|BITPIX|NAXIS\d*|PCOUNT|GCOUNT|TFIELDS|THEAP|CHECKSUM|DATASUM|EXTEND"
    r"|T(?:TYPE|FORM|UNIT|SCAL|ZERO|NULL|DISP|DIM|BCOL)\d+"
    r"|ZIMAGE|ZBITPIX|ZNAXIS\d*|ZSIMPLE|ZTENSION|ZCMPTYPE|ZTILE\d+|ZNAME\d+|ZVAL\d+|ZQUANTIZ|ZDITHER0|ZSCALE|ZZERO|ZBLANK|ZMASKCMP"
)


def image_header(header: Header) -> Header:
    """The header of the image that the table with `header` stands for, as it was before compression."""
    if "ZSIMPLE" in header:
        cards = [Card("SIMPLE", True, header.comments["ZSIMPLE"])]
    else:
        comment = header.comments["ZTENSION"] if "ZTENSION" in header else ""
        cards = [Card("XTENSION", header.get("ZTENSION", "IMAGE"), comment)]
    axes = [f"ZNAXIS{i + 1}" for i in range(integer(header, "ZNAXIS", 1, 999))]
    for keyword in ("ZBITPIX", "ZNAXIS", *axes):
        cards.append(Card(keyword[1:], header[keyword], header.comments[keyword]))
    for card in header.cards:
        keyword = card.keyword
        if keyword in _RENAMED:
            cards.append(Card(_RENAMED[keyword], card.value, card.comment))
        elif not _DROPPED.fullmatch(keyword) and (keyword, card.value) != ("EXTNAME", "COMPRESSED_IMAGE"):
            cards.append(card)
    return Header(cards)


# what comes first, and what stays in its place under another name
_FIRST_OF_THE_IMAGE = re.compile(r"SIMPLE|XTENSION|BITPIX|NAXIS\d*")
_KEPT_OF_THE_IMAGE = {image: ours for ours, image in _RENAMED.items()}


def compressed_header(
    image: Header,
    tile: Sequence[int],
    codec: Compression,
    quantize: Quantize | None,
    zdither0: int,
    blank: bool,
) -> list[Card]:
    """What the table of a compressed image says of the image with the header `image`, and its cards.

    `blank`: whether there are NaN among quantised pixels.
    """
    bitpix = image["BITPIX"]
    cards = [Card("ZIMAGE", True, "extension contains compressed image")]
    for card in image.cards:
        if _FIRST_OF_THE_IMAGE.fullmatch(card.keyword):
            name = "ZTENSION" if card.keyword == "XTENSION" else "Z" + card.keyword
            cards.append(Card(name, card.value, card.comment))
    for i, side in enumerate(reversed(tile), 1):
        cards.append(Card(f"ZTILE{i}", side, "size of tiles to be compressed"))
    dither2 = quantize is not None and quantize.method == "dither2"
    # old readers do not know this dithering: they shall not know the codec either
    name = "RICE_ONE" if dither2 and isinstance(codec, Rice1) else codec.codec
    if blank:
        cards.append(Card("ZBLANK", ZBLANK, "null value in the compressed integer array"))
    cards.append(Card("ZCMPTYPE", name, "compression algorithm"))
    parameters = codec._parameters(bitpix)
    if quantize is not None and quantize.level != 4:
        parameters.append(("QLEVEL", float(quantize.level), "steps in the noise, or their size below 0"))
    for i, (parameter, value, comment) in enumerate(parameters, 1):
        cards += [Card(f"ZNAME{i}", parameter, comment), Card(f"ZVAL{i}", value, comment)]
    if quantize is not None:
        cards.append(Card("ZQUANTIZ", METHODS[quantize.method], "Pixel Quantization Algorithm"))
        if quantize.method != "no_dither":
            cards.append(Card("ZDITHER0", zdither0, "dithering offset when quantizing floats"))
    elif bitpix < 0:
        cards.append(Card("ZQUANTIZ", "NONE", "Lossless compression without quantization"))
    if "EXTNAME" not in image:
        cards.append(Card("EXTNAME", "COMPRESSED_IMAGE"))
    for card in image.cards:
        if card.keyword in _KEPT_OF_THE_IMAGE:
            cards.append(Card(_KEPT_OF_THE_IMAGE[card.keyword], card.value, card.comment))
        elif not _DROPPED.fullmatch(card.keyword):
            cards.append(card)
    return cards


# of the compressed table, or of the compression
_NOT_OF_THE_TABLE = re.compile(r"CHECKSUM|DATASUM|THEAP|Z(?:TABLE|TILELEN|NAXIS[12]|PCOUNT|FORM\d+|CTYP\d+)")
_OF_THE_TABLE = re.compile(r"NAXIS[12]|PCOUNT|TFORM\d+")
_TABLE_RENAMED = {"ZTHEAP": "THEAP", "ZHECKSUM": "CHECKSUM", "ZDATASUM": "DATASUM"}


def table_header(header: Header) -> Header:
    """The header of the table that the one with `header` stands for, as it was before compression."""
    cards = []
    for card in header.cards:
        keyword = card.keyword
        if _OF_THE_TABLE.fullmatch(keyword):
            known = "Z" + keyword.removeprefix("T")
            cards.append(Card(keyword, header[known], header.comments[known]))
        elif keyword in _TABLE_RENAMED:
            cards.append(Card(_TABLE_RENAMED[keyword], card.value, card.comment))
        elif not _NOT_OF_THE_TABLE.fullmatch(keyword):
            cards.append(card)
    return Header(cards)


# ---------------------------------------------------------------------------- the guard

_DESCRIPTOR = {"P": struct.Struct(">ii"), "Q": struct.Struct(">qq")}
# a larger tile must have a stream that is not out of all proportion
_MOST_PIXELS, _MOST_PER_BYTE = 1 << 24, 1 << 12
# bytes of streams that are looked at in one go
_BATCH = 1 << 24


def check_size(layout: TileLayout) -> None:
    """FitsFormatError where no streams that fit in the heap could make so many pixels.

    A sum over tiles that share a stream would be larger; but no writer lets them share one.
    """
    heap = layout.table.data_size - layout.table.heap
    tile, pixels = math.prod(layout.tile), math.prod(layout.image.shape)
    # of HCOMPRESS_1 a tile without detail takes the same few bytes, however large it is
    most = tile if layout.codec == "HCOMPRESS_1" else pixels
    if most > max(_MOST_PIXELS, _MOST_PER_BYTE * heap):
        raise FitsFormatError(
            f"an image of {pixels} pixels in tiles of {tile} cannot be made of {heap} bytes"
        )


def check_streams(source: Source, hdu: Hdu, layout: TileLayout, ranges: list[range]) -> None:
    """Make sure that decoding the tiles under a section stays within their bytes and their pixels.

    cfitsio's decoders trust their input. Raises FitsFormatError that names the tile and the byte.
    """
    batch: list[tuple[int, int, int, int, bool]] = []
    size = 0
    for tile, pixels, width in _tiles(layout, ranges):
        stream = _stream(source, hdu, layout, tile, pixels)
        if stream is None:
            continue
        offset, length, is_gzip = stream
        if pixels > max(_MOST_PIXELS, _MOST_PER_BYTE * length):
            raise FitsFormatError(f"tile {tile} makes {pixels} pixels of {length} bytes", offset=offset)
        batch.append((offset, length, pixels, width, is_gzip))
        size += length
        if size > _BATCH:
            _check_batch(source, layout, batch)
            batch, size = [], 0
    _check_batch(source, layout, batch)


def _tiles(layout: TileLayout, ranges: list[range]) -> Iterator[tuple[int, int, int]]:
    """Row in the table, pixels, and length of a row of every tile that a section touches."""
    axes = []
    for axis, side, length in zip(ranges, layout.tile, layout.image.shape, strict=True):
        axes.append([(i, min(side, length - i * side)) for i in range(axis[0] // side, axis[-1] // side + 1)])
    for place in itertools.product(*axes):
        row = 0
        for (i, _), count in zip(place, layout.counts, strict=True):
            row = row * count + i
        sides = [side for _, side in place]
        yield row, math.prod(sides), next((side for side in reversed(sides) if side > 1), 1)


def _stream(
    source: Source, hdu: Hdu, layout: TileLayout, tile: int, pixels: int
) -> tuple[int, int, bool] | None:
    """Where the stream of a tile lies in the file, and whether it is the gzip that stands in for it.

    None for uncompressed pixels, which need no decoder.
    """
    table = layout.table
    start = hdu.data_start + table.row_bytes * tile
    row = source.read(start, table.row_bytes)
    for name in ("COMPRESSED_DATA", "UNCOMPRESSED_DATA", "GZIP_COMPRESSED_DATA"):
        column = layout.columns.get(name)
        if column is None:
            continue
        length, offset = _DESCRIPTOR[column.code].unpack_from(row, column.offset)
        if length == 0:
            if name == "COMPRESSED_DATA":
                continue
            break  # cfitsio looks no further than the first stand-in
        length *= ELEMENT_BYTES[column.element]
        if length < 0 or offset < 0 or table.heap + offset + length > table.data_size:
            raise FitsFormatError(
                f"tile {tile}: the descriptor in {name} lies outside the heap", offset=start + column.offset
            )
        if name == "UNCOMPRESSED_DATA":
            if length != pixels * ELEMENT_BYTES[column.element]:
                raise FitsFormatError(
                    f"tile {tile}: {name} is not of {pixels} pixels", offset=start + column.offset
                )
            return None
        return hdu.data_start + table.heap + offset, length, name == "GZIP_COMPRESSED_DATA"
    raise FitsFormatError(f"tile {tile} has no data", offset=start)


def _check_batch(source: Source, layout: TileLayout, batch: list[tuple[int, int, int, int, bool]]) -> None:
    float_bytes = abs(layout.image.bitpix) // 8
    for as_gzip in (False, True):
        streams = [stream for stream in batch if stream[4] == as_gzip]
        if not streams or (layout.codec == "NOCOMPRESS" and not as_gzip):
            continue
        starts, lengths, pixels, widths, _ = zip(*streams, strict=True)
        codec = "GZIP_1" if as_gzip else layout.codec
        if codec == "RICE_1":
            byte_pix = layout.byte_pix
        else:
            byte_pix = 4 if layout.quantized and not as_gzip else float_bytes
        bad = check_tiles(
            codec,
            b"".join(map(source.read, starts, lengths)),
            list(itertools.accumulate(lengths[:-1], initial=0)),
            lengths,
            pixels,
            widths,
            blocksize=layout.block_size,
            bytepix=byte_pix,
        )
        if bad is not None:
            index, reason = bad
            raise FitsFormatError(f"a {codec} tile {reason}", offset=starts[index])
