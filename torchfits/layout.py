"""What a header says of its data: sizes, offsets, columns, tiles. All size arithmetic and bounds checks.

Integers here are Python's, so no product overflows; what could not be a file offset is refused.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torchfits._direct import table_cards
from torchfits.errors import FitsError, FitsFormatError, FitsUnsupported, FitsWarning
from torchfits.header import BLOCK, CARD, Header
from torchfits.source import Source

MAX_HEADER = 1 << 27
MAX_PIECE = 364 * BLOCK  # about 1 MB
MAX_OFFSET = 2**63 - 1

# what stands before an extension that cfitsio is given alone
EMPTY_PRIMARY = Header([("SIMPLE", True), ("BITPIX", 8), ("NAXIS", 0)]).to_bytes()

_BITPIX = (8, 16, 32, 64, -32, -64)
_END = re.compile(rb"END {77}")
# TFORM letter -> bytes of one element; bits are packed
ELEMENT_BYTES = {"L": 1, "B": 1, "A": 1, "I": 2, "J": 4, "E": 4, "K": 8, "D": 8, "C": 8, "M": 16}
_TFORM = re.compile(r"\s*(\d{0,18})([LXBIJKAEDCMPQ])(.*)", re.IGNORECASE | re.DOTALL)
_DESCRIPTOR = re.compile(r"([LXBIJKAEDCM])\s*(?:\(\s*(\d*)\s*\))?", re.IGNORECASE)
_ASCII_TFORM = re.compile(r"\s*([AIJFED])0*([1-9]\d{0,17})(?:\.(\d{1,2}))?\s*$", re.IGNORECASE)
_TDIM = re.compile(r"\s*\(\s*(\d{1,18}(?:\s*,\s*\d{1,18})*)\s*\)\s*$")
# the keywords of columns, which a number follows
_OF_COLUMNS = ("TTYPE", "TFORM", "ZFORM", "TUNIT", "TSCAL", "TZERO", "TNULL", "TDIM")
# what cfitsio takes from the header of a table
_STRUCTURAL = re.compile(
    rb"(?:HIERARCH +)?(BITPIX|NAXIS\d*|[PG]COUNT|TFIELDS|THEAP|T(?:TYPE|FORM|BCOL|SCAL|ZERO|NULL|DIM)\d+"
    rb"|Z(?:IMAGE|BITPIX|CMPTYPE|QUANTIZ|DITHER0|SCALE|ZERO|BLANK|MASKCMP)|Z(?:NAXIS|TILE|NAME|VAL)\d*)[ =]",
    re.IGNORECASE,
)
_TABLES = {"BINTABLE": "bintable", "A3DTABLE": "bintable", "3DTABLE": "bintable", "TABLE": "table"}


@dataclass(slots=True)
class Hdu:
    """Where one HDU lies, and what the first look at its header told."""

    index: int
    kind: str  # image, bintable, table, groups, foreign
    start: int
    data_start: int
    data_size: int
    name: str  # EXTNAME, '' where there is none
    version: int
    compressed: bool  # a table that holds a tile-compressed image
    orderly: bool  # the mandatory keywords stand in their order, as cfitsio demands of a primary HDU
    source: Source
    image: ImageLayout | None = None  # of an ordinary image
    as_stored: bool = False  # a table is to be taken for one, whatever it stands for
    _header: Header | None = None

    def stored(self) -> Hdu:
        """This HDU, for a look at what its compressed image or table is stored as."""
        return dataclasses.replace(self, compressed=False, as_stored=True)

    @property
    def end(self) -> int:
        return self.data_start + -(-self.data_size // BLOCK) * BLOCK

    @property
    def header(self) -> Header:
        """The header, read when it is first asked for."""
        if self._header is None:
            raw = self.source.read(self.start, self.data_start - self.start)
            # what is told of the HDU is from the first look at it
            self.source.check_unchanged()
            self._header = Header.from_bytes(raw)
        return self._header


@dataclass(slots=True)
class ImageLayout:
    """An image as stored. `shape` is in tensor order, the reverse of NAXISn; (0,) where there are no data.

    Of random groups the first axis is that of the groups, each of which begins with `parameters` numbers.
    """

    bitpix: int
    shape: tuple[int, ...]
    scale: float = 1
    zero: float = 0
    blank: int | None = None
    parameters: int = 0


@dataclass(slots=True)
class TileLayout:
    """How a tile-compressed image is stored (FITS standard 4.0, section 10.1); shapes in tensor order."""

    codec: str
    image: ImageLayout
    tile: tuple[int, ...]
    counts: tuple[int, ...]  # tiles along each axis
    block_size: int
    byte_pix: int
    smooth: int
    quantized: bool
    method: str  # of the dithering of quantized tiles
    zdither0: int
    table: TableLayout
    columns: dict[str, Column]  # by name in capitals
    same: dict[str, float]  # ZSCALE, ZZERO and ZBLANK that are those of all tiles
    odd: str  # why only cfitsio reads it; '' where our own codecs do


@dataclass(slots=True)
class Column:
    """One field of a table: `code` is the TFORM letter, `repeat` its elements a row, `offset` in the row.

    `shape` has the elements that mean something, which TDIM may tell to be the first ones.
    """

    index: int
    name: str
    code: str
    tform: str
    repeat: int
    width: int
    offset: int
    shape: tuple[int, ...]
    scale: float = 1
    zero: float = 0
    null: int | str | None = None
    unit: str = ""
    element: str = ""  # of the arrays that a P or Q descriptor points to
    problem: str = ""  # why this column cannot be read


@dataclass(slots=True)
class TableLayout:
    """A table as stored; `heap` counts from the start of the data."""

    nrows: int
    row_bytes: int
    columns: list[Column] = field(default_factory=list)
    heap: int = 0
    data_size: int = 0
    tiles: RowTiles | None = None


@dataclass(slots=True)
class RowTiles:
    """How a tile-compressed table is stored (FITS standard 4.0, section 10.3)."""

    table: TableLayout  # as stored: for each tile of rows a row, with streams of bytes
    rows: int  # of a tile; the last one may have fewer
    codecs: list[str]  # by column


# ---------------------------------------------------------------------------- headers and HDUs


def integer(header: Header, keyword: str, low: int, high: int, default: int | None = None) -> int:
    """The integer value of `keyword`, within low..high, or FitsFormatError that says what it is instead."""
    return _within(header, keyword, header.get(keyword, default), low, high)


def _within(header: Header, keyword: str, value: Any, low: int, high: int) -> int:
    if value is None:
        raise FitsFormatError(f"the mandatory keyword {keyword} is missing")
    if isinstance(value, bool) or not isinstance(value, int):
        raise at_card(header, keyword, f"{keyword} must be an integer, not {value!r}")
    if not low <= value <= high:
        raise at_card(header, keyword, f"{keyword} = {value} is out of {low}..{high}")
    return value


def at_card(header: Header, keyword: str, message: str) -> FitsFormatError:
    """A FitsFormatError whose offset is, for now, that of the card within its header."""
    position = header.position(keyword)
    return FitsFormatError(message, offset=None if position is None else position * CARD)


def read_header_bytes(source: Source, start: int, head: bytes) -> bytes:
    """The whole blocks of the header at `start`, END included, or FitsFormatError where there is none.

    `head` is its first block, already read.
    """
    scanned, piece = 0, head
    while True:
        for match in _END.finditer(piece):
            if match.start() % CARD == 0:
                size = -(-match.end() // BLOCK) * BLOCK
                return source.read(start, scanned + size) if scanned else piece[:size]
        scanned += len(piece)
        if len(piece) % BLOCK or not piece or scanned >= MAX_HEADER:
            reason = f"{MAX_HEADER} bytes passed" if scanned >= MAX_HEADER else "the file ends"
            damage = source.damage
            raise FitsFormatError(
                f"{reason} before the END of the header{f' ({damage})' if damage else ''}", offset=start
            )
        if not _is_text(piece[-BLOCK:]):
            raise FitsFormatError(
                "the header turns into binary data before its END", offset=start + scanned - BLOCK
            )
        piece = source.read(start + scanned, min(scanned, MAX_PIECE))


def _is_text(block: bytes) -> bool:
    # a keyword field of letters, digits or blanks; half the cards of a block may be damaged
    names = (block[i : i + 8] for i in range(0, len(block), CARD))
    return 2 * sum(name.isascii() and name.decode().isprintable() for name in names) >= len(block) // CARD


def next_hdu(source: Source, index: int, start: int) -> Hdu | None:
    """The HDU number `index` of `source`, which begins at `start`; None where there is none any more.

    Warns of bytes after the last HDU that are none.
    """
    head = source.read(start, BLOCK)
    if index and not head:
        return None
    if index == 0 and head[:8].rstrip() != b"SIMPLE":
        damage = f" ({source.damage})" if source.damage else ""
        raise FitsFormatError(f"not a FITS file: it does not begin with SIMPLE{damage}", hdu=0, offset=0)
    if index and head[:8].rstrip() != b"XTENSION":
        what = "padding" if not head.strip(b"\0 ") else "bytes that are no HDU"
        warnings.warn(
            f"{_name(source)}: {what} after HDU {index - 1}, from byte {start}; ignored",
            FitsWarning,
            stacklevel=2,
        )
        return None
    try:
        raw = read_header_bytes(source, start, head)
        hdu = _locate(source, index, Header.from_bytes(raw), start, start + len(raw))
    except FitsError as error:
        error.locate(hdu=index)
        raise
    return hdu


def indexed_hdu(source: Source, index: int, entry: tuple) -> Hdu:
    """The HDU that HduIndex tells of by `entry`."""
    kind, start, data_start, data_size, name, version, compressed, orderly, pixels = entry
    image = None if pixels is None else ImageLayout(*pixels)
    return Hdu(index, kind, start, data_start, data_size, name, version, compressed, orderly, source, image)


def _image_shape(axes: Sequence[int], groups: int | None) -> tuple[int, ...]:
    """The shape of an image in tensor order; `groups` is the number of random groups, whose NAXIS1 is 0."""
    if groups is not None:
        return (groups, *reversed(axes[1:])) if len(axes) > 1 else (groups, 0)
    return tuple(reversed(axes)) or (0,)


def _is_orderly(header: Header, axes: int) -> bool:
    mandatory = ["BITPIX", "NAXIS", *(f"NAXIS{i + 1}" for i in range(axes))]
    return [header.position(keyword) for keyword in mandatory] == list(range(1, len(mandatory) + 1))


def _name(source: Source) -> str:
    path = source.path
    return path if isinstance(path, str) else repr(path)


def _locate(source: Source, index: int, header: Header, start: int, data_start: int) -> Hdu:
    try:
        xtension = header.get("XTENSION", "IMAGE") if index else "IMAGE"
        xtension = xtension.strip().upper() if isinstance(xtension, str) else ""
        kind = _TABLES.get(xtension, "image" if xtension in ("IMAGE", "IUEIMAGE") else "foreign")
        bitpix = integer(header, "BITPIX", -64, 64)
        if bitpix not in _BITPIX:
            raise at_card(header, "BITPIX", f"BITPIX = {bitpix} is none of {_BITPIX}")
        axes = _axes(header, "NAXIS")
        orderly = _is_orderly(header, len(axes))
        groups = kind == "image" and len(axes) > 0 and axes[0] == 0 and header.get("GROUPS") is True
        if groups:
            kind, axes = "groups", axes[1:]
        pixels = math.prod(axes) if axes else 0
        # only random groups and extensions have PCOUNT and GCOUNT; a stray one in a primary HDU means nothing
        counted = groups or index > 0
        pcount = integer(header, "PCOUNT", 0, MAX_OFFSET, 0) if counted else 0
        gcount = integer(header, "GCOUNT", 0, MAX_OFFSET, 1) if counted else 1
        size = abs(bitpix) // 8 * gcount * (pcount + pixels)
        if data_start + size > MAX_OFFSET - BLOCK:
            raise at_card(header, "NAXIS", f"the data would take {size} bytes, beyond any file")
    except FitsFormatError as error:
        error.offset = start + (error.offset or 0)
        raise
    name, version = header.get("EXTNAME", ""), header.get("EXTVER", 1)
    name = name.strip() if isinstance(name, str) else "" if name is None else str(name)
    version = version if isinstance(version, int) else 1
    compressed = kind == "bintable" and header.get("ZIMAGE") is True
    hdu = Hdu(index, kind, start, data_start, size, name, version, compressed, orderly, source)
    hdu._header = header
    return hdu


def _axes(header: Header, keyword: str) -> list[int]:
    count = integer(header, keyword, 0, 999)
    return [integer(header, f"{keyword}{i + 1}", 0, MAX_OFFSET) for i in range(count)]


def _number(header: Header, keyword: str, default: float) -> float:
    value = header.get(keyword, default)
    if problem := _no_number(keyword, value):
        raise at_card(header, keyword, problem)
    return value


def _no_number(keyword: str, value: object) -> str:
    """Why a value is no number that can be reckoned with; '' where it is one."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return f"{keyword} must be a number, not {value!r}"
    return "" if math.isfinite(value) else f"{keyword} = {value} is not finite"


# ---------------------------------------------------------------------------- images


def image_layout(hdu: Hdu) -> ImageLayout:
    """The ImageLayout of an uncompressed image HDU, or of random groups."""
    if hdu.image is not None:
        return hdu.image
    header = hdu.header
    if hdu.kind == "image" and hdu.index:
        # with parameters or groups, where the pixels are would be a guess
        integer(header, "PCOUNT", 0, 0, 0)
        integer(header, "GCOUNT", 1, 1, 1)
    bitpix, axes = integer(header, "BITPIX", -64, 64), _axes(header, "NAXIS")
    if hdu.kind != "groups":
        return _scaled_image(header, bitpix, _image_shape(axes, None), "BLANK")
    parameters = integer(header, "PCOUNT", 0, MAX_OFFSET, 0)
    shape = _image_shape(axes, integer(header, "GCOUNT", 0, MAX_OFFSET, 1))
    return _scaled_image(header, bitpix, shape, "BLANK", parameters)


def _scaled_image(
    header: Header, bitpix: int, shape: tuple[int, ...], blank_keyword: str, parameters: int = 0
) -> ImageLayout:
    scale, zero = _number(header, "BSCALE", 1), _number(header, "BZERO", 0)
    if scale == 0:
        raise at_card(header, "BSCALE", "BSCALE = 0 would make every pixel BZERO")
    blank = header.get(blank_keyword) if bitpix > 0 else None
    if blank is not None and (isinstance(blank, bool) or not isinstance(blank, int)):
        warnings.warn(f"{blank_keyword} = {blank!r} is no integer; ignored", FitsWarning, stacklevel=2)
        blank = None
    if blank is not None and not _fits(blank, bitpix):
        blank = None  # no stored value can equal it
    return ImageLayout(bitpix, shape, scale, zero, blank, parameters)


@dataclass(slots=True)
class Parameter:
    """A parameter of random groups (section 6.1.2)."""

    name: str
    scale: float
    zero: float


def group_parameters(hdu: Hdu) -> list[Parameter]:
    """The parameters of each group, in their order."""
    header, found, count = hdu.header, [], image_layout(hdu).parameters
    if count > 999:
        raise FitsUnsupported(f"PCOUNT = {count}: keywords can describe 999 parameters")
    for i in range(1, count + 1):
        name = _text(header, f"PTYPE{i}") or f"PAR{i}"
        found.append(Parameter(name, _number(header, f"PSCAL{i}", 1), _number(header, f"PZERO{i}", 0)))
    return found


def _fits(value: int, bitpix: int) -> bool:
    return 0 <= value <= 255 if bitpix == 8 else -(2 ** (bitpix - 1)) <= value < 2 ** (bitpix - 1)


def tile_layout(hdu: Hdu) -> TileLayout:
    """The TileLayout of a tile-compressed image, every keyword that a decoder trusts checked."""
    header = hdu.header
    table = table_layout(hdu)
    codec = header.get("ZCMPTYPE")
    codec = codec.strip() if isinstance(codec, str) else codec
    codec = {"RICE_ONE": "RICE_1"}.get(codec, codec)
    if codec not in ("RICE_1", "GZIP_1", "GZIP_2", "PLIO_1", "HCOMPRESS_1", "NOCOMPRESS"):
        raise FitsUnsupported(f"ZCMPTYPE = {codec!r} is no compression that is known")
    bitpix = integer(header, "ZBITPIX", -64, 64)
    if bitpix not in _BITPIX:
        raise at_card(header, "ZBITPIX", f"ZBITPIX = {bitpix} is none of {_BITPIX}")
    axes = _axes(header, "ZNAXIS")
    if not axes:
        raise at_card(header, "ZNAXIS", "ZNAXIS = 0: a compressed image has at least one axis")
    asked = [
        integer(header, f"ZTILE{i + 1}", 1, MAX_OFFSET, max(length, 1) if i == 0 else 1)
        for i, length in enumerate(axes)
    ]
    tile = [min(side, max(length, 1)) for side, length in zip(asked, axes, strict=True)]
    counts = [-(-length // side) for length, side in zip(axes, tile, strict=True)]
    if math.prod(counts) > table.nrows:
        raise FitsFormatError(f"{math.prod(counts)} tiles are announced, the table has {table.nrows} rows")
    if math.prod(axes) * 8 > MAX_OFFSET:
        raise at_card(header, "ZNAXIS", "the image would be beyond any memory")
    if math.prod(tile) >= 2**31 or math.prod(asked) > 16 * math.prod(tile) + (1 << 20):
        # decoders allocate a whole tile, also where it is larger than the image
        raise FitsUnsupported(f"tiles of {' x '.join(map(str, asked))} pixels are too large for this image")
    block_size, byte_pix = _rice_options(header) if codec == "RICE_1" else (0, 0)
    if table.heap > table.data_size:
        raise at_card(
            header, "THEAP", f"THEAP = {table.heap} lies beyond the {table.data_size} bytes of data"
        )
    columns = {column.name.upper(): column for column in table.columns}
    if "NULL_PIXEL_MASK" in columns:
        raise FitsUnsupported("an image with a NULL_PIXEL_MASK: which of its pixels are null would be lost")
    if "COMPRESSED_DATA" not in columns:
        raise FitsFormatError("the table of a compressed image lacks the column COMPRESSED_DATA")
    for name in ("COMPRESSED_DATA", "GZIP_COMPRESSED_DATA", "UNCOMPRESSED_DATA"):
        if name not in columns:
            continue
        column = columns[name]
        if column.code not in "PQ" or not column.width:
            raise FitsFormatError(f"the column {name} must be of variable length, not {column.tform!r}")
        if name == "UNCOMPRESSED_DATA" and column.element not in "BIJKED":
            raise FitsFormatError(f"the column {name} must hold numbers, not {column.tform!r}")
        element = "I" if codec == "PLIO_1" and name == "COMPRESSED_DATA" else "B"
        if column.element != element and name != "UNCOMPRESSED_DATA":
            raise FitsUnsupported(f"{codec} streams in a column {name} of {column.tform!r}")
        if column.scale != 1 or column.zero != 0 or column.null is not None or column.problem:
            # cfitsio would decode the scaled bytes
            raise FitsFormatError(f"the column {name} is scaled or has a null value")
    for name in ("ZSCALE", "ZZERO", "ZBLANK"):
        if name in columns and (columns[name].repeat != 1 or columns[name].code not in "BIJKED"):
            raise FitsFormatError(f"the column {name} must be one number a row, not {columns[name].tform!r}")
    if header.get("ZQUANTIZ") == "NONE" and (bitpix > 0 or codec not in ("GZIP_1", "GZIP_2")):
        # cfitsio would take the integers for floats
        raise at_card(header, "ZQUANTIZ", f"ZQUANTIZ = 'NONE' with {codec} and ZBITPIX {bitpix}")
    scaled = "ZSCALE" in columns or "ZSCALE" in header
    quantized = bitpix < 0 and scaled
    if bitpix < 0 and not quantized and codec not in ("GZIP_1", "GZIP_2", "NOCOMPRESS"):
        raise FitsFormatError(f"{codec} compresses integers; floats need ZSCALE and ZZERO")
    if quantized and "ZZERO" not in columns and "ZZERO" not in header:
        raise FitsFormatError("ZSCALE without ZZERO")
    method, zdither0 = _text(header, "ZQUANTIZ", "NO_DITHER"), 1
    if quantized and method not in ("NO_DITHER", "NONE"):
        if method not in ("SUBTRACTIVE_DITHER_1", "SUBTRACTIVE_DITHER_2"):
            raise FitsUnsupported(f"ZQUANTIZ = {method!r} is no quantization that is known")
        zdither0 = integer(header, "ZDITHER0", 1, 10000, 1)
    same: dict[str, float] = {}
    if quantized:
        same = {name: _number(header, name, 0) for name in ("ZSCALE", "ZZERO") if name in header}
        for name in ("ZBLANK", "BLANK"):
            if name in header and "ZBLANK" not in same:
                same["ZBLANK"] = integer(header, name, -MAX_OFFSET, MAX_OFFSET)
    odd = ""
    if scaled and (not quantized or method == "NONE"):
        odd = "ZSCALE where no pixels are quantized"
    elif "ZBLANK" in columns and not quantized:
        odd = "a column ZBLANK where no pixels are quantized"
    elif quantized and codec == "NOCOMPRESS":
        odd = "NOCOMPRESS of quantized pixels"
    elif len(axes) > 16:
        odd = "more than 16 axes"
    blank_keyword = "ZBLANK" if "ZBLANK" in header else "BLANK"
    image = _scaled_image(header, bitpix, _image_shape(axes, None), blank_keyword)
    return TileLayout(
        codec,
        image,
        tuple(reversed(tile)),
        tuple(reversed(counts)),
        block_size,
        byte_pix,
        _smooth(header) if codec == "HCOMPRESS_1" else 0,
        quantized,
        method,
        zdither0,
        table,
        columns,
        same,
        odd,
    )


def _smooth(header: Header) -> int:
    """SMOOTH of HCOMPRESS_1, which cfitsio takes by position whatever its name is."""
    return integer(header, "ZVAL2", 0, 1 << 16, 0)


def _rice_options(header: Header) -> tuple[int, int]:
    """BLOCKSIZE and BYTEPIX, which cfitsio takes by position whatever their names are."""
    second = header.get("ZNAME2", "BYTEPIX")
    if header.get("ZNAME1", "BLOCKSIZE") != "BLOCKSIZE" or second not in ("BYTEPIX", "NOISEBIT"):
        raise FitsUnsupported("RICE_1 whose options are not BLOCKSIZE and BYTEPIX, in this order")
    block_size = integer(header, "ZVAL1", 1, 1 << 16, 32)
    byte_pix = integer(header, "ZVAL2", 1, 1 << 16, 4) if second == "BYTEPIX" else 4
    if byte_pix not in (1, 2, 4):
        raise at_card(header, "ZVAL2", f"BYTEPIX {byte_pix}: not 1, 2 or 4")
    return block_size, byte_pix


# ---------------------------------------------------------------------------- tables


def table_layout(hdu: Hdu) -> TableLayout:
    """The TableLayout of a BINTABLE or TABLE HDU; FitsFormatError where columns cannot be placed.

    Of a tile-compressed table, that of the table it stands for, with `tiles`.
    """
    header = hdu.header
    cards = table_cards(header.to_bytes())
    if cards is None:
        _check_unambiguous(header)

    def whole(keyword: str, low: int, high: int, default: int | None = None, number: int = 0) -> int:
        full = f"{keyword}{number or ''}"
        said = header.get(full, default) if cards is None else cards.get(number, {}).get(keyword, default)
        return _within(header, full, said, low, high)

    bitpix, axis_count = whole("BITPIX", -64, 64), whole("NAXIS", 0, 999)
    axes = [whole("NAXIS", 0, MAX_OFFSET, number=i + 1) for i in range(axis_count)]
    if bitpix != 8 or len(axes) != 2:
        raise at_card(header, "NAXIS", f"a table has BITPIX 8 and two axes, not {bitpix} and {len(axes)}")
    row_bytes, nrows = axes
    count = whole("TFIELDS", 0, 999)
    place = _binary_column if hdu.kind == "bintable" else _ascii_column
    table = TableLayout(nrows, row_bytes, data_size=hdu.data_size)
    offset = 0
    for i in range(1, count + 1):
        said = cards.get(i, {}) if cards is not None else _said_of_column(header, i)
        column = place(header, i, offset, said)
        offset = column.offset + column.width
        if offset > row_bytes:
            keyword = f"TFORM{i}" if hdu.kind == "bintable" else f"TBCOL{i}"
            raise at_card(
                header, keyword, f"column {i} ends at byte {offset} of rows of NAXIS1 = {row_bytes}"
            )
        table.columns.append(column)
    if hdu.kind == "bintable":
        if offset != row_bytes and count:
            raise at_card(header, "NAXIS1", f"NAXIS1 = {row_bytes}, but the columns take {offset} bytes")
        table.heap = whole("THEAP", 0, MAX_OFFSET, row_bytes * nrows)
        if table.heap < row_bytes * nrows and any(c.code in "PQ" for c in table.columns):
            raise at_card(header, "THEAP", f"THEAP = {table.heap} lies within the rows")
    _unique_names(table.columns)
    # with ZTABLE there are no plain cards alone
    is_tiled = cards is None and header.get("ZTABLE") is True
    if hdu.kind == "bintable" and not hdu.compressed and not hdu.as_stored and is_tiled:
        return _untiled(header, table)
    return table


def _untiled(header: Header, stored: TableLayout) -> TableLayout:
    """The layout of the table that a tile-compressed one, laid out as `stored`, stands for."""
    row_bytes, nrows = (integer(header, keyword, 0, MAX_OFFSET) for keyword in ("ZNAXIS1", "ZNAXIS2"))
    if row_bytes * nrows > MAX_OFFSET:
        raise at_card(header, "ZNAXIS2", f"{nrows} rows of {row_bytes} bytes are beyond any memory")
    rows = min(integer(header, "ZTILELEN", 1, MAX_OFFSET), max(nrows, 1))
    if -(-nrows // rows) > stored.nrows:
        raise at_card(
            header, "ZNAXIS2", f"{-(-nrows // rows)} tiles are announced, the table has {stored.nrows} rows"
        )
    columns, codecs, offset = [], [], 0
    for i, stream in enumerate(stored.columns, 1):
        column = _binary_column(header, i, offset, _said_of_column(header, i), "ZFORM")
        offset += column.width
        column.name = stream.name
        codec = _text(header, f"ZCTYP{i}", "GZIP_2")
        codecs.append({"RICE_ONE": "RICE_1"}.get(codec, codec))
        if column.width and (stream.element != "B" or not stream.width):
            column.problem = f"TFORM{i} = {stream.tform!r} holds no streams of bytes"
        # what else the header tells is of the column, not of its streams
        stored.columns[i - 1] = Column(
            i - 1, stream.name, stream.code, stream.tform, 1, stream.width, stream.offset, (), element="B"
        )
        columns.append(column)
    if offset != row_bytes and columns:
        raise at_card(header, "ZNAXIS1", f"ZNAXIS1 = {row_bytes}, but the columns take {offset} bytes")
    return TableLayout(nrows, row_bytes, columns, tiles=RowTiles(stored, rows, codecs))


def _check_unambiguous(header: Header) -> None:
    """FitsFormatError where cfitsio could go by another card than the one that was checked here.

    Of cards with one keyword it takes any; a name ends for it at the first blank or '='.
    """
    seen: dict[bytes, bytes] = {}
    data = header.to_bytes()
    for i in range(0, len(data), CARD):
        match = _STRUCTURAL.match(data, i, i + CARD)
        if match is not None:
            name, card = match[1].upper(), data[i : i + CARD]
            if seen.setdefault(name, card) != card or card[:8].rstrip() != name:
                raise FitsFormatError(f"{name.decode()} is ambiguous: {card.rstrip()!r}", offset=i)


def _said_of_column(header: Header, i: int) -> dict[str, Any]:
    """The values of the cards of column i, by keyword without the number, as `table_cards` gives them."""
    values = ((keyword, header.get(f"{keyword}{i}", NotImplemented)) for keyword in _OF_COLUMNS)
    return {keyword: value for keyword, value in values if value is not NotImplemented}


def _unique_names(columns: list[Column]) -> None:
    seen: set[str] = set()
    for column in columns:
        name, n = column.name or f"COL{column.index + 1}", 1
        while name.upper() in seen:
            n += 1
            name = f"{column.name or f'COL{column.index + 1}'}_{n}"
        if column.name != name and column.name:
            warnings.warn(
                f"TTYPE{column.index + 1} = {column.name!r} again; called {name!r}", FitsWarning, stacklevel=3
            )
        column.name = name
        seen.add(name.upper())


def _text(header: Header, keyword: str, default: str = "") -> str:
    return _as_text(header.get(keyword), default)


def _as_text(value: object, default: str = "") -> str:
    return value.strip() if isinstance(value, str) else default if value is None else str(value)


def _tform(header: Header, keyword: str, value: object) -> str:
    if not isinstance(value, str):
        raise at_card(header, keyword, f"{keyword} must be a string, not {value!r}")
    return value


@functools.lru_cache(maxsize=1024)
def _binary_form(tform: str) -> tuple[int, str, str] | None:
    """(elements a row, letter, what follows it) of a TFORM of a binary table."""
    match = _TFORM.match(tform)
    return None if match is None else (int(match[1] or 1), match[2].upper(), match[3].strip())


def _binary_column(header: Header, i: int, offset: int, said: dict[str, Any], form: str = "TFORM") -> Column:
    """Column i, of which the header tells what is `said`, `offset` bytes from the start of the row."""
    keyword = f"{form}{i}"
    tform = _tform(header, keyword, said.get(form))
    parsed = _binary_form(tform)
    if parsed is None:
        raise at_card(header, keyword, f"{keyword} = {tform!r} is no binary table format")
    repeat, code, rest = parsed
    column = Column(i - 1, _as_text(said.get("TTYPE")), code, tform.strip(), repeat, 0, offset, ())
    if code in "PQ":
        descriptor = _DESCRIPTOR.match(rest)
        if descriptor is None or repeat > 1:
            raise at_card(header, keyword, f"{keyword} = {tform!r} is no variable-length format")
        column.element = descriptor[1].upper()
        column.width = repeat * (8 if code == "P" else 16)
    elif code == "X":
        column.width = -(-repeat // 8)
    else:
        column.width = repeat * ELEMENT_BYTES[code]
        if rest and code != "A":
            warnings.warn(f"{keyword} = {tform!r}: the suffix {rest!r} is ignored", FitsWarning, stacklevel=3)
    _describe(column, said)
    column.shape = _cell_shape(column, said)
    return column


def _cell_shape(column: Column, said: dict[str, Any]) -> tuple[int, ...]:
    i, text = column.index + 1, said.get("TDIM")
    if column.code in "PQ":
        # that of one array; the slowest axis is as long as the array makes it
        return tuple(reversed(_dims(text)[:-1]))
    if column.repeat == 1 and column.code not in "AX" and "TDIM" not in said:
        return ()
    if text is None:
        return (column.repeat,)
    dims = _dims(text)
    # elements that are left over are undefined (FITS standard 4.0, section 7.3.2)
    size = math.prod(dims)
    if not dims or size > column.repeat or (size == 0 and column.repeat):
        warnings.warn(
            f"TDIM{i} = {text!r} does not fit TFORM{i} = {column.tform!r}; ignored", FitsWarning, stacklevel=4
        )
        return (column.repeat,)
    return tuple(reversed(dims))


def _dims(text: object) -> list[int]:
    """The axes that a TDIMn tells, in FITS order; none where it is nonsense."""
    match = _TDIM.match(text) if isinstance(text, str) else None
    dims = [int(n) for n in match[1].split(",")] if match else []
    return dims if len(dims) <= 63 and math.prod(dims) <= MAX_OFFSET else []


def _ascii_column(header: Header, i: int, _offset: int, said: dict[str, Any]) -> Column:
    tform = _tform(header, f"TFORM{i}", said.get("TFORM"))
    match = _ASCII_TFORM.match(tform)
    if match is None:
        raise at_card(header, f"TFORM{i}", f"TFORM{i} = {tform!r} is no ASCII table format")
    start = integer(header, f"TBCOL{i}", 1, MAX_OFFSET) - 1
    code, width = match[1].upper(), int(match[2])
    shape = (width,) if code == "A" else ()
    column = Column(i - 1, _as_text(said.get("TTYPE")), code, tform.strip(), 1, width, start, shape)
    _describe(column, said)
    return column


def _describe(column: Column, said: dict[str, Any]) -> None:
    i = column.index + 1
    column.unit = _as_text(said.get("TUNIT"))
    for keyword in ("TSCAL", "TZERO"):
        if keyword in said and not column.problem:
            column.problem = _no_number(f"{keyword}{i}", said[keyword])
    if not column.problem:
        column.scale, column.zero = said.get("TSCAL", 1), said.get("TZERO", 0)
        if column.scale == 0:
            column.problem = f"TSCAL{i} = 0"
    null = said.get("TNULL")
    code = column.element or column.code
    if column.code in "BIJKPQ" and isinstance(null, int) and not isinstance(null, bool):
        # what no stored number can be is no null
        column.null = null if code in "BIJK" and _fits(null, 8 * ELEMENT_BYTES[code]) else None
    elif column.code in "AFED" or isinstance(null, str):
        column.null = None if null is None else str(null)
