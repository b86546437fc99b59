"""What our codecs must know of a tile-compressed image (FITS standard 4.0, section 10.1)."""

from __future__ import annotations

from torchfits._direct import Conversion, Tiling
from torchfits._tensors import BITPIX_OF_TFORM, CODES, STORED
from torchfits.layout import ELEMENT_BYTES, Column, Hdu, TileLayout


def tiling_of(hdu: Hdu, layout: TileLayout, wanted: int, raw: bool) -> Tiling:
    """How to read the image: `wanted` as `Conversion` takes it; `raw` without BSCALE, BZERO and BLANK."""
    image, table, columns = layout.image, layout.table, layout.columns
    scale, zero, blank = (1.0, 0.0, None) if raw else (image.scale, image.zero, image.blank)
    quantisation = None
    if layout.quantized:
        conversion = Conversion(image.bitpix, 1, 0, None, wanted)
        null = _number(layout, "ZBLANK") if "ZBLANK" in columns or "ZBLANK" in layout.same else None
        numbers = _number(layout, "ZSCALE"), _number(layout, "ZZERO"), null
        quantisation = (layout.method, layout.zdither0, scale, zero, *numbers)
    else:
        conversion = Conversion(image.bitpix, scale, zero, blank, wanted)
    whole = columns.get("UNCOMPRESSED_DATA")
    return Tiling(
        layout.codec,
        # cfitsio codes unsigned 16-bit pixels as they are, not as they would be stored
        (layout.byte_pix, layout.block_size, layout.smooth, 32768 if image.zero == 32768 else 0),
        image.shape,
        layout.tile,
        (
            hdu.data_start,
            table.row_bytes,
            table.nrows,
            hdu.data_start + table.heap,
            table.data_size - table.heap,
        ),
        (
            _streams(columns.get("COMPRESSED_DATA")),
            _streams(columns.get("GZIP_COMPRESSED_DATA")),
            _streams(whole),
            _type(whole.element) if whole is not None else 0,
        ),
        conversion,
        quantisation,
    )


def _type(letter: str) -> int:
    return CODES[STORED[BITPIX_OF_TFORM[letter]]]


def _streams(column: Column | None) -> tuple[int, bool, int] | None:
    return None if column is None else (column.offset, column.code == "Q", ELEMENT_BYTES[column.element])


def _number(layout: TileLayout, name: str) -> tuple[int, int, float]:
    """Where a number of each tile is, or what it is for all."""
    if name in layout.columns:
        column = layout.columns[name]
        return column.offset, _type(column.code), 0.0
    return -1, 0, layout.same.get(name, 0.0)
