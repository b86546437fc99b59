"""Tile-compressed images and tables: the headers they stand for; the guard before a decoder is let loose.

FITS standard 4.0, section 10.
"""

from __future__ import annotations

import itertools
import math
import re
import struct
from collections.abc import Iterator

from torchfits._tiles import check_tiles
from torchfits.errors import FitsFormatError
from torchfits.header import Card, Header
from torchfits.layout import ELEMENT_BYTES, Hdu, TileLayout, integer
from torchfits.source import Source

_DESCRIPTOR = {"P": struct.Struct(">ii"), "Q": struct.Struct(">qq")}
_RENAMED = {
    "ZPCOUNT": "PCOUNT",
    "ZGCOUNT": "GCOUNT",
    "ZEXTEND": "EXTEND",
    "ZBLOCKED": "BLOCKED",
    "ZHECKSUM": "CHECKSUM",
    "ZDATASUM": "DATASUM",
}
# of the table, or of the compression
_DROPPED = re.compile(
    r"XTENSION|SIMPLE|BITPIX|NAXIS\d*|PCOUNT|GCOUNT|TFIELDS|THEAP|CHECKSUM|DATASUM|EXTEND"
    r"|T(?:TYPE|FORM|UNIT|SCAL|ZERO|NULL|DISP|DIM|BCOL)\d+"
    r"|ZIMAGE|ZBITPIX|ZNAXIS\d*|ZSIMPLE|ZTENSION|ZCMPTYPE|ZTILE\d+|ZNAME\d+|ZVAL\d+|ZQUANTIZ|ZDITHER0|ZSCALE|ZZERO|ZBLANK|ZMASKCMP"
)


def image_header(header: Header) -> Header:
    """The header of the image that the table with `header` stands for, as it was before compression."""
    first = ("SIMPLE", True) if "ZSIMPLE" in header else ("XTENSION", header.get("ZTENSION", "IMAGE"))
    cards = [Card(*first)]
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
        raise FitsFormatError(f"an image of {pixels} pixels in tiles of {tile} cannot be made of {heap} bytes")


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
    """Row in the table, pixels, and length of the fastest axis of every tile that a section touches."""
    axes = []
    for axis, side, length in zip(ranges, layout.tile, layout.image.shape, strict=True):
        axes.append([(i, min(side, length - i * side)) for i in range(axis[0] // side, axis[-1] // side + 1)])
    for place in itertools.product(*axes):
        row = 0
        for (i, _), count in zip(place, layout.counts, strict=True):
            row = row * count + i
        sides = [side for _, side in place]
        yield row, math.prod(sides), sides[-1]


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
