"""writeto: images and tables from tensors to new FITS files, all of a file or none of it."""

from __future__ import annotations

import errno
import gzip
import math
import os
import re
import secrets
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch

from torchfits._direct import Conversion, EncodedTiles, TileEncoding, reserve
from torchfits._tensors import (
    BITPIX_OF_TFORM,
    CODES,
    OTHER_SIGN,
    STORED,
    address,
    allocate,
    as_buffer,
    big_endian,
    threads,
)
from torchfits.compression import (
    METHODS,
    Compression,
    Gzip1,
    Gzip2,
    Hcompress1,
    Quantize,
    Rice1,
    compressed_header,
    settings_for,
    tile_for,
)
from torchfits.errors import (
    FitsError,
    FitsFileExists,
    FitsFormatError,
    FitsIOError,
    FitsUnsupported,
    os_error,
)
from torchfits.header import BLOCK, CARD, COMMENTARY, Card, Header
from torchfits.source import Path, file_path

# bytes of an image, which stay in a cache until they are written, and of a table, whose columns each cost a
# call, that are brought into FITS order at a time
_IMAGE_PIECE = 1 << 20
_PIECE = 1 << 24
# bytes that are worth a call of the system: the more, the larger the pages that it puts them on
_WRITTEN = 1 << 21
# and how many parts of memory a call takes: IOV_MAX of Linux and macOS
_MOST_PARTS = 1024
# bytes that a checksum takes side by side
_SUMMED = 256

Data = torch.Tensor | Mapping[str, torch.Tensor | Sequence[str]] | None

# dtype -> (BITPIX, BZERO)
_STORED_AS = {dtype: (bitpix, 0) for bitpix, dtype in STORED.items()}
_STORED_AS |= {dtype: (bitpix, int(zero)) for (bitpix, zero), dtype in OTHER_SIGN.items()}
_SIGN_BIT = {
    torch.int8: (torch.uint8, 128),
    torch.uint16: (torch.int16, -(2**15)),
    torch.uint32: (torch.int32, -(2**31)),
    torch.uint64: (torch.int64, -(2**63)),
}
_WIDENED = {torch.float16: torch.float32, torch.bfloat16: torch.float32}
_TFORM = {bitpix: letter for letter, bitpix in BITPIX_OF_TFORM.items()}
_OTHER_TFORM = {torch.bool: "L", torch.complex64: "C", torch.complex128: "M"}

# keywords that say how the data are stored, which is ours to say
STRUCTURAL = re.compile(
    r"SIMPLE|XTENSION|BITPIX|NAXIS\d*|EXTEND|PCOUNT|GCOUNT|GROUPS|P(?:TYPE|SCAL|ZERO)\d+|TFIELDS|THEAP"
    r"|BSCALE|BZERO|BLANK|CHECKSUM|DATASUM|INHERIT|BLOCKED"
    r"|Z(?:IMAGE|TABLE|CMPTYPE|BITPIX|NAXIS\d*|TILE\d+|TILELEN|NAME\d+|VAL\d+|QUANTIZ|DITHER0|SCALE|ZERO|BLANK)"
    r"|Z(?:SIMPLE|TENSION|EXTEND|BLOCKED|PCOUNT|GCOUNT|HECKSUM|DATASUM|MASKCMP|THEAP|FORM\d+|CTYP\d+)"
)
# keywords of one column, which follow it: its limits and coordinates too (section 8, table 22)
OF_COLUMN = re.compile(
    r"(TTYPE|TFORM|TUNIT|TSCAL|TZERO|TNULL|TDISP|TDIM|TBCOL|TCOMM|TUCD|TUTYP|T[DL]M(?:IN|AX)"
    r"|(?:T|\d{1,2})C(?:TYP?|UNI?|RPX?|RVL?|DLT|DE|ROT|NA)|\d\d(?:PC|CD))(\d+)([A-Z]?)"
)
_OURS_OF_COLUMN = {"TTYPE", "TFORM", "TSCAL", "TZERO", "TDIM", "TBCOL"}
_TEXT_OF_COLUMN = {"TUNIT", "TCOMM", "TUCD", "TUTYP"}
# what TDISPn may say (section 7.3.4, table 20)
_REAL_DISPLAY = r"(F|E|EN|ES|D|G)\d+\.\d+(E\d+)?"
_DISPLAYS = {"A": r"A\d+", "L": r"L\d+"} | dict.fromkeys("EDCM", _REAL_DISPLAY)
_DISPLAYS |= dict.fromkeys("BIJK", rf"[IBOZ]\d+(\.\d+)?|{_REAL_DISPLAY}")


def writeto(
    path: Path,
    data: Data,
    header: Header | Mapping[str, Any] | None = None,
    ext_name: str | None = None,
    *,
    overwrite: bool = False,
    compress: object = None,
    quantize: object = None,
    checksum: bool = False,
) -> None:
    """Write a new FITS file from a tensor or from a dict of columns.

    The file is written beside its target under a temporary name and renamed when it is whole, so that
    the target is the old file or the new one, never a part. A name that ends in .gz is written gzipped.

    Args:
        path: The file, literally.
        data: A tensor becomes the image of the primary HDU: uint8, int8, int16, uint16, int32, uint32,
            int64, uint64, float32, float64 as they are (the BZERO conventions of section 4.4.2.5 for
            int8, uint16, uint32, uint64), float16 and bfloat16 as float32, bool as uint8; any strides,
            any device; a 0-dimensional one as one pixel. A dict of columns of equal length becomes a
            binary table in the first extension: tensors (rows,) or (rows, ...) of these dtypes and of bool,
            complex64 and complex128; lists of str. uint8 tensors of two or more axes are the
            characters of text; `header` may say TFORMn = 'B' to make them numbers. None: no data.
        header: Keywords for this HDU, in their order; what says how data are stored is dropped, and so are
            cards that are not standard and what column n cannot have (TNULLn of reals). With a
            table, what belongs to columns (TUNITn, TDISPn, TNULLn, ...) follows the names in
            TTYPEn where there are such, else the numbers.
        ext_name: EXTNAME of this HDU.
        overwrite: Replace an existing file.
        checksum: Add DATASUM and CHECKSUM (section 4.4.2.7, appendix J) to every HDU.
        compress: Write the image tile-compressed, in the first extension: True (Rice1 for integers of at most
            32 bits, Gzip2 for others: without loss), a name such as 'RICE_1', 'gzip2' or 'hcompress', or
            settings: Rice1, Gzip1, Gzip2, Hcompress1, Plio1.
        quantize: Floats with loss, as integers: True, a level or Quantize(...).

    Raises:
        FitsFileExists: The file exists and `overwrite` is false.
        FitsIOError: As the operating system says.
        FitsFormatError: Columns of different lengths, text that is not ASCII, a column name of more than
            68 characters, a keyword that FITS cannot hold; pixels that a codec cannot keep.
        FitsUnsupported: A dtype that FITS does not know; a sparse, nested or meta tensor; a table to be
            compressed.
        TypeError: An argument of another type.

    Example:
        >>> torchfits.writeto('new.fits', torch.zeros(2, 3), header={'OBJECT': 'M 31'}, overwrite=True)
        >>> torchfits.read('new.fits').shape
        torch.Size([2, 3])
    """
    name = file_path(path)
    try:
        if not isinstance(ext_name, str | None):
            raise TypeError(f"ext_name must be a str, not {type(ext_name).__name__}")
        given = Header(header if header is not None else ())
        if isinstance(data, Mapping):
            settings_for(compress, quantize, torch.uint8)
            if compress is not None and compress is not False:
                raise FitsUnsupported("tile-compressed tables are read, not written: leave compress= out")
            units: Iterable[Unit] = [empty_primary(), _table(data, given, ext_name)]
        elif data is None or isinstance(data, torch.Tensor):
            image = _primary(data, given, ext_name=ext_name)
            stored = STORED[image.header["BITPIX"]]
            codec, steps = settings_for(compress, quantize, stored)
            units = [image] if codec is None or not image.data else _wrapped(image, codec, steps)
        else:
            raise TypeError(f"data must be a tensor, a dict of columns or None, not {type(data).__name__}")
        write_whole(name, map(with_checksums, units) if checksum else units, overwrite)
    except FitsError as error:
        error.locate(path=name)
        raise


@dataclass
class Unit:
    """One HDU to be written: its header, the tensors of its data, and what fills the last block."""

    header: Header
    data: list[torch.Tensor]  # an image, or the columns of a table
    size: int

    def pieces(self) -> Iterator[torch.Tensor]:
        """The bytes of the data and those that fill the last block, uint8, piece by piece."""
        yield from self._data_pieces()
        if self.size % BLOCK:
            yield torch.zeros(BLOCK - self.size % BLOCK, dtype=torch.uint8, device="cpu")

    def _data_pieces(self) -> Iterator[torch.Tensor]:
        if len(self.data) == 1 and "TFIELDS" not in self.header:
            yield from _image_pieces(self.data[0])
        elif self.data:
            rows, row_bytes = self.data[0].shape[0], self.header["NAXIS1"]
            step = max(_PIECE // max(row_bytes, 1), 1)
            for first in range(0, rows if row_bytes else 0, step):
                parts = [_bytes_of(column[first : first + step]) for column in self.data]
                count = min(step, rows - first)
                yield torch.cat([part.reshape(count, -1) for part in parts if part.numel()], 1)


class _Bytes(Unit):
    """One HDU whose data are there as bytes."""

    def _data_pieces(self) -> Iterator[torch.Tensor]:
        yield from self.data


def _image_pieces(image: torch.Tensor) -> Iterator[torch.Tensor]:
    if image.numel() * image.element_size() <= _IMAGE_PIECE:
        yield _bytes_of(image)
    elif image.is_contiguous():
        for part in image.view(-1).split(_IMAGE_PIECE // image.element_size()):
            yield _bytes_of(part)
    else:
        row_bytes = image[0].numel() * image.element_size()
        for part in image.split(max(_IMAGE_PIECE // row_bytes, 1)):
            yield from _image_pieces(part if row_bytes <= _IMAGE_PIECE else part[0])


def _bytes_of(tensor: torch.Tensor) -> torch.Tensor:
    """The stored values of `tensor` as big-endian bytes, (elements, bytes of one)."""
    tensor = tensor.detach().to("cpu")
    tensor = tensor.to(_WIDENED.get(tensor.dtype, tensor.dtype))
    if tensor.dtype in _SIGN_BIT:
        signed, bit = _SIGN_BIT[tensor.dtype]
        tensor = tensor.contiguous().view(signed) ^ bit  # the same as taking BZERO away
    return big_endian(tensor)


# ---------------------------------------------------------------------------- headers


def empty_primary() -> Unit:
    """What stands before an extension."""
    return _primary(None, Header(), extend=True)


def _primary(
    data: torch.Tensor | None, given: Header, *, ext_name: str | None = None, extend: bool = False
) -> Unit:
    header = Header([("SIMPLE", True, "conforms to FITS standard 4.0")])
    size = 0
    if data is None:
        header["BITPIX"], header["NAXIS"] = (8, "no data"), 0
    else:
        _check_memory(data, "an image")
        if data.dtype not in {*_STORED_AS, *_WIDENED, torch.bool}:
            raise FitsUnsupported(f"FITS has no images of {data.dtype}")
        data = data.reshape(1) if data.ndim == 0 else data
        data = data.view(torch.uint8) if data.dtype == torch.bool else data
        if data.ndim > 999:
            raise FitsUnsupported(f"FITS images have at most 999 axes, not {data.ndim}")
        bitpix, zero = _STORED_AS[_WIDENED.get(data.dtype, data.dtype)]
        header["BITPIX"], header["NAXIS"] = bitpix, data.ndim
        for i, length in enumerate(reversed(data.shape)):
            header[f"NAXIS{i + 1}"] = length
        if zero:
            header["BSCALE"], header["BZERO"] = (
                1,
                (zero, f"for {str(data.dtype).removeprefix('torch.')}"),
            )
        size = data.numel() * abs(bitpix) // 8
    if extend:
        header["EXTEND"] = True
    _take_over(header, _columns_of(given, [])[1], ext_name)
    return Unit(header, [] if data is None else [data], size)


def _check_memory(tensor: torch.Tensor, what: str) -> None:
    if tensor.is_nested or tensor.layout != torch.strided or tensor.is_meta:
        kind = "nested" if tensor.is_nested else "meta" if tensor.is_meta else tensor.layout
        raise FitsUnsupported(f"{what} of a {kind} tensor: only dense tensors are written")


def _take_over(header: Header, given: Header, ext_name: str | None) -> None:
    """Append the cards of the user that are not ours to say."""
    if ext_name is not None:
        header["EXTNAME"] = ext_name
    for card in given.cards:
        known = card.keyword == "EXTNAME" and ext_name is not None
        if not known and not card.problem and not STRUCTURAL.fullmatch(card.keyword):
            header.append(card)
    long = any(len(bytes(card)) > CARD for card in header.cards if card.keyword not in COMMENTARY)
    if long and "LONGSTRN" not in header:
        header["LONGSTRN"] = "OGIP 1.0", "strings are carried on by CONTINUE"


# ---------------------------------------------------------------------------- compressed images

# what cfitsio makes of NaN while it works
_NULL_OF_CFITSIO = {torch.float32: -9.11912e-36, torch.float64: -9.1191291391491e-36}


def _wrapped(image: Unit, codec: Compression, steps: Quantize | None) -> Iterator[Unit]:
    yield empty_primary()
    yield compressed(image.header, image.data[0], codec, steps)


def compressed(image: Header, pixels: torch.Tensor, codec: Compression, steps: Quantize | None) -> _Bytes:
    """The compressed image of `pixels`, stored numbers or what they stand for, with the header `image`."""
    pixels = pixels.detach().to("cpu").resolve_conj().resolve_neg()
    pixels = pixels.to(_WIDENED.get(pixels.dtype, pixels.dtype)).contiguous()
    if pixels.data_ptr() % pixels.element_size():
        pixels = pixels.clone()
    if pixels.numel() == 0:
        raise FitsFormatError("an image without pixels has no tiles: leave compress= out")
    bitpix, zero = _STORED_AS[pixels.dtype]
    tile = tile_for(codec, pixels.shape)
    seed = 1
    if steps is not None and steps.method != "no_dither":
        seed = steps.seed or _seed_of(pixels[tuple(slice(side) for side in tile)])
    encoding = TileEncoding(
        codec.codec,
        (
            codec.blocksize if isinstance(codec, Rice1) else 0,
            codec.level if isinstance(codec, Gzip1 | Gzip2) else 0,
            codec.scale if isinstance(codec, Hcompress1) else 0.0,
            # cfitsio codes unsigned 16-bit pixels as they are, not as they would be stored
            32768 if bitpix == 16 and image.get("BZERO") == 32768 else 0,
        ),
        pixels.shape,
        tile,
        Conversion(bitpix, 1, zero, None, CODES[pixels.dtype]),
        None if steps is None else (steps.level, METHODS[steps.method], seed),
    )
    streams = allocate((encoding.room,), torch.uint8)
    encoded = EncodedTiles(encoding, address(pixels), address(streams), threads())
    wide = encoded.heap_bytes >= 2**31
    rows = allocate((encoded.count * encoded.row_bytes(wide),), torch.uint8)
    encoded.put_rows(wide, *address(rows))
    longest, longest_gzipped = encoded.longest
    letter = "Q" if wide else "P"
    columns = [("COMPRESSED_DATA", f"1{letter}{'I' if codec.codec == 'PLIO_1' else 'B'}({longest})")]
    if steps is not None:
        columns += [("ZSCALE", "1D"), ("ZZERO", "1D")]
    if longest_gzipped is not None:
        columns.append(("GZIP_COMPRESSED_DATA", f"1{letter}B({longest_gzipped})"))
    header = _table_header(len(rows) // encoded.count, encoded.count, encoded.heap_bytes, len(columns))
    for i, (name, tform) in enumerate(columns, 1):
        header[f"TTYPE{i}"], header[f"TFORM{i}"] = name, tform
    for card in compressed_header(image, tile, codec, steps, seed, encoded.has_blank):
        header.append(card)
    heap = [streams[start : start + size] for start, size in encoded.pieces]
    return _Bytes(header, [rows, *heap], len(rows) + encoded.heap_bytes)


def _seed_of(tile: torch.Tensor) -> int:
    """ZDITHER0 by the bytes of the first tile, as cfitsio reckons it."""
    kept = tile.where(tile == tile, _NULL_OF_CFITSIO[tile.dtype]).contiguous()
    return int(kept.view(torch.uint8).sum(dtype=torch.int64)) % 10000 + 1


# ---------------------------------------------------------------------------- tables


def _table_header(row_bytes: int, rows: int, heap_bytes: int, columns: int) -> Header:
    return Header(
        [
            ("XTENSION", "BINTABLE", "binary table"),
            ("BITPIX", 8),
            ("NAXIS", 2),
            ("NAXIS1", row_bytes, "bytes in a row"),
            ("NAXIS2", rows, "rows"),
            ("PCOUNT", heap_bytes),
            ("GCOUNT", 1),
            ("TFIELDS", columns, "columns"),
        ]
    )


def _table(columns: Mapping[str, Any], given: Header, ext_name: str | None) -> Unit:
    tensors = {name: _column_tensor(name, column) for name, column in columns.items()}
    _check_names(tensors)
    lengths = {name: tensor.shape[0] for name, tensor in tensors.items()}
    if len(set(lengths.values())) > 1:
        raise FitsFormatError(f"columns differ in length: {lengths}")
    described, rest = _columns_of(given, list(tensors))
    cards: list[tuple] = []
    row_bytes = 0
    for i, (name, tensor) in enumerate(tensors.items(), 1):
        row_bytes += _add_column(cards, i, name, tensor, described.get(i, {}))
    rows = next(iter(lengths.values()), 0)
    header = _table_header(row_bytes, rows, 0, len(tensors))
    for card in cards:
        header.append(card)
    _take_over(header, rest, ext_name)
    return Unit(header, list(tensors.values()), row_bytes * rows)


def _column_tensor(name: str, column: Any) -> torch.Tensor:
    if isinstance(column, torch.Tensor):
        if column.is_nested:
            raise FitsUnsupported(f"column {name!r}: variable-length columns are read, not written yet")
        _check_memory(column, f"column {name!r}")
        if column.ndim == 0:
            raise FitsFormatError(f"column {name!r} is a number, not a column of them")
        if column.dtype not in {*_STORED_AS, *_WIDENED, *_OTHER_TFORM}:
            raise FitsUnsupported(f"column {name!r}: FITS has no {column.dtype}")
        return column
    if (
        isinstance(column, str)
        or not isinstance(column, Iterable)
        or not all(isinstance(text, str) for text in column)
    ):
        raise TypeError(f"column {name!r} must be a tensor or a list of str")
    texts = []
    for row, text in enumerate(column):
        if not text.isascii() or not text.isprintable():
            raise FitsFormatError(f"column {name!r}, row {row}: {text!r} is not printable ASCII")
        texts.append(text.encode())
    width = max(map(len, texts), default=0) or 1
    # frombuffer takes no empty buffer
    joined = bytearray(b"".join(text.ljust(width, b"\0") for text in texts) or b"\0")
    return torch.frombuffer(joined, dtype=torch.uint8)[: len(texts) * width].reshape(-1, width)


def _check_names(names: Mapping[str, Any]) -> None:
    seen: set[str] = set()
    for name in names:
        if not isinstance(name, str) or not name.strip() or not name.isascii() or not name.isprintable():
            raise FitsFormatError(f"a column name is printable ASCII, not {name!r}")
        if len(name.strip().replace("'", "''")) > 68:
            raise FitsFormatError(f"a column name has at most 68 characters: {name!r}")
        if name.strip().upper() in seen:
            raise FitsFormatError(f"column names differ by more than case: {name!r} comes twice")
        seen.add(name.strip().upper())
    if len(seen) > 999:
        raise FitsFormatError(f"a table has at most 999 columns, not {len(seen)}")


def _columns_of(given: Header, names: list[str]) -> tuple[dict[int, dict[tuple[str, str], Card]], Header]:
    """The cards of `given` that describe our columns, by number from 1, and there by the keyword's parts
    before and after the number; and the other cards."""
    by_name = {name.strip().upper(): i for i, name in enumerate(names, 1)}
    ttypes = {
        match[2]: str(card.value).strip().upper()
        for card in given.cards
        if (match := OF_COLUMN.fullmatch(card.keyword)) and match[1] == "TTYPE"
    }
    described: dict[int, dict[tuple[str, str], Card]] = {}
    rest = Header()
    for card in given.cards:
        match = OF_COLUMN.fullmatch(card.keyword)
        if match is None:
            rest.append(card)
            continue
        number = by_name.get(ttypes.get(match[2], "")) if ttypes else int(match[2])
        if number is not None and number <= len(names):
            described.setdefault(number, {})[match[1], match[3]] = card
    return described, rest


def _add_column(
    cards: list[tuple], i: int, name: str, tensor: torch.Tensor, described: dict[tuple[str, str], Card]
) -> int:
    """Append the cards of column `i`; returns its bytes in a row."""
    dtype = _WIDENED.get(tensor.dtype, tensor.dtype)
    repeat = math.prod(tensor.shape[1:])
    zero = 0
    if dtype in _OTHER_TFORM:
        code = _OTHER_TFORM[dtype]
    else:
        bitpix, zero = _STORED_AS[dtype]
        code = _TFORM[bitpix]
    wanted = described["TFORM", ""].value if ("TFORM", "") in described else ""
    if dtype == torch.uint8 and tensor.ndim > 1 and not re.fullmatch(r"\d*B", str(wanted).strip()):
        _check_text(name, tensor)
        code = "A"
    scalar = tensor.ndim == 1
    cards += [(f"TTYPE{i}", name.strip()), (f"TFORM{i}", code if scalar else f"{repeat}{code}")]
    if tensor.ndim > 2 or (tensor.ndim == 2 and repeat == 1 and code != "A"):  # 1 alone would mean a scalar
        cards.append((f"TDIM{i}", f"({','.join(str(n) for n in reversed(tensor.shape[1:]))})"))
    if zero:
        cards += [(f"TSCAL{i}", 1), (f"TZERO{i}", zero)]
    cards += [
        (f"{kind}{i}{version}", card.value, card.comment)
        for (kind, version), card in described.items()
        if _suits(kind, card.value, code)
    ]
    return repeat * (dtype.itemsize if code != "L" else 1)


def _suits(kind: str, value: Any, code: str) -> bool:
    """Whether a card that came with a column suits the column as we store it."""
    if kind == "TNULL":
        if code not in "BIJK" or type(value) is not int:
            return False
        stored = torch.iinfo(STORED[BITPIX_OF_TFORM[code]])
        return stored.min <= value <= stored.max
    if kind == "TDISP":
        return isinstance(value, str) and re.fullmatch(_DISPLAYS[code], value) is not None
    if kind in _TEXT_OF_COLUMN:
        return isinstance(value, str)
    return kind not in _OURS_OF_COLUMN


def _check_text(name: str, tensor: torch.Tensor) -> None:
    bad = ((tensor < 32) & (tensor != 0)) | (tensor > 126)
    if bool(bad.any()):
        row = int(bad.nonzero()[0, 0])
        raise FitsFormatError(
            f"column {name!r}, row {row}: uint8 of two axes is text, and these bytes are not ASCII; "
            "for numbers say TFORMn = 'B' in the header"
        )


# ---------------------------------------------------------------------------- checksums


def with_checksums(unit: Unit) -> Unit:
    """The unit, with DATASUM and CHECKSUM: 32-bit sums in ones' complement (appendix J)."""
    data = _data_sum(unit)
    unit.header["DATASUM"] = str(data), "of the data"
    unit.header["CHECKSUM"] = "0" * 16, "of this HDU"
    unit.header["CHECKSUM"] = _encode(0xFFFFFFFF - _header_sum(unit, data))
    return unit


def checksums_hold(unit: Unit) -> bool:
    """Whether DATASUM and CHECKSUM are those of this HDU."""
    data = _data_sum(unit)
    return str(unit.header.get("DATASUM")).strip() == str(data) and _header_sum(unit, data) == 0xFFFFFFFF


def _data_sum(unit: Unit) -> int:
    data = position = 0
    for piece in unit.pieces():
        data = _sum32(piece.reshape(-1), position, data)
        position += piece.numel()
    return data


def _header_sum(unit: Unit, data: int) -> int:
    return _sum32(torch.frombuffer(bytearray(unit.header.to_bytes()), dtype=torch.uint8), 0, data)


def _sum32(data: torch.Tensor, position: int, total: int) -> int:
    """`total` and the big-endian 32-bit words of `data`, whose first byte is byte `position` of them all."""
    for part in data.split(_PIECE):
        before = position % 4
        words = torch.nn.functional.pad(part, (before, -(before + len(part)) % _SUMMED))
        # many sums side by side, which a processor does at once; int32 holds those of a piece
        sums = words.view(-1, _SUMMED).sum(0, dtype=torch.int32).view(-1, 4).sum(0).tolist()
        total += sum(value << (24 - 8 * byte) for byte, value in enumerate(sums))
        position += len(part)
    while total >> 32:
        total = (total & 0xFFFFFFFF) + (total >> 32)
    return total


def _encode(value: int) -> str:
    """16 letters and digits whose sum, as four words, is `value`."""
    letters = [0] * 16
    for i in range(4):
        byte = value >> (24 - 8 * i) & 0xFF
        four = [byte // 4 + 48 + (byte % 4 if j == 0 else 0) for j in range(4)]
        for j in (0, 2):
            # step off the punctuation between digits, capitals and small letters
            while any(58 <= letter <= 64 or 91 <= letter <= 96 for letter in four[j : j + 2]):
                four[j] += 1
                four[j + 1] -= 1
        for j in range(4):
            letters[4 * j + i] = four[j]
    return "".join(map(chr, letters[-1:] + letters[:-1]))


# ---------------------------------------------------------------------------- files


def write_whole(path: str | bytes, units: Iterable[Unit], overwrite: bool) -> None:
    """A new file of these HDUs, made one by one; the file is there when all are, or not at all."""
    target = os.fsdecode(os.path.realpath(path))
    if target.lower().endswith((".bz2", ".z", ".zip", ".xz")):
        raise FitsUnsupported("of compressed files only .gz is written")
    mode = _existing_mode(target, overwrite)
    folder, name = os.path.split(target)
    temporary = os.path.join(folder, f".{name[:40]}.{secrets.token_hex(6)}.tmp")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise os_error(error, "cannot write", path) from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            if mode is not None:
                os.fchmod(descriptor, mode)
            if target.lower().endswith(".gz"):
                with gzip.GzipFile(filename="", fileobj=file, mode="wb", mtime=0) as packed:
                    for unit in units:
                        packed.write(unit.header.to_bytes())
                        for piece in unit.pieces():
                            packed.write(as_buffer(piece.contiguous()))
            else:
                _write_units(descriptor, units)
        _move(temporary, target, overwrite)
    except OSError as error:
        if isinstance(error, FitsError):
            raise
        raise os_error(error, "cannot write", path) from error
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary)


def _write_units(descriptor: int, units: Iterable[Unit]) -> None:
    start = 0
    for unit in units:
        header = torch.frombuffer(bytearray(unit.header.to_bytes()), dtype=torch.uint8)
        length = len(header) + -(-unit.size // BLOCK) * BLOCK
        reserve(descriptor, start, length)
        start += length
        waiting = [header]
        size = 0
        for piece in unit.pieces():
            waiting.append(piece.contiguous())
            size += piece.numel()
            if size >= _WRITTEN or len(waiting) == _MOST_PARTS:
                _write(descriptor, waiting)
                waiting, size = [], 0
        _write(descriptor, waiting)


def _write(descriptor: int, parts: list[torch.Tensor]) -> None:
    """Append to a file; of many parts by one call, which may do less than it was asked for."""
    buffers = [as_buffer(part) for part in parts]
    while buffers:
        done = os.writev(descriptor, buffers)
        while buffers and done >= len(buffers[0]):
            done -= len(buffers.pop(0))
        if buffers:
            buffers[0] = buffers[0][done:]


def _existing_mode(target: str, overwrite: bool) -> int | None:
    """The permissions of the file that will be replaced, None where there is none; refuses the rest."""
    try:
        info = os.stat(target)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise os_error(error, "cannot write", target) from error
    if stat.S_ISDIR(info.st_mode):
        raise os_error(IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR)), "cannot write", target)
    if not stat.S_ISREG(info.st_mode):
        raise os_error(OSError(errno.EINVAL, "not a regular file"), "cannot write", target)
    if not overwrite:
        raise _exists(target)
    return stat.S_IMODE(info.st_mode)


def _move(temporary: str, target: str, overwrite: bool) -> None:
    if overwrite:
        os.replace(temporary, target)
        return
    try:
        # unlike a rename, a link fails where somebody made the target in the meantime
        os.link(temporary, target)
    except FileExistsError:
        raise _exists(target) from None
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
            raise
        if os.path.exists(target):
            raise _exists(target) from None
        os.replace(temporary, target)


def _exists(target: str) -> FitsIOError:
    error = FitsFileExists("the file exists; overwrite=True replaces it", path=target)
    error.errno = errno.EEXIST
    return error
