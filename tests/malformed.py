"""What malformed files are built from: cards and bytes made by hand, and valid files of astropy, edited."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
from astropy.io import fits

BLOCK = 2880
FORMAT, UNSUPPORTED = "FitsFormatError", "FitsUnsupported"
Cards = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """A file and what torchfits must make of it."""

    name: str
    build: Callable[[], bytes]
    error: str = ""  # class of the error; '' where the file must be read
    step: str = "read"  # what raises it: open, find (the walk to the HDU), read, column
    hdu: int = 1
    says: str = ""  # what the text of the error must hold
    column: str = ""  # the one column that cannot be read
    reads: dict[int, Any] = field(default_factory=dict)  # HDU -> the values that must come right
    warns: str = ""
    memory: int = 1 << 27
    seconds: float = 2


# ---------------------------------------------------------------- cards, headers, HDUs


def pad(data: bytes, fill: bytes = b"\0") -> bytes:
    return data + fill * (-len(data) % BLOCK)


def card(keyword: str, value: Any) -> bytes:
    """A card of 80 bytes; bytes are a value as it stands in the card, after '= '."""
    if isinstance(value, bool):
        text = b"T".rjust(20) if value else b"F".rjust(20)
    elif isinstance(value, bytes):
        text = value
    elif isinstance(value, str):
        text = f"'{value:8}'".encode("latin-1")
    else:
        text = repr(value).upper().rjust(20).encode()
    return (keyword.encode().ljust(8) + b"= " + text).ljust(80)[:80]


def long_card(keyword: str, text: str) -> bytes:
    """A string over as many CONTINUE cards as it takes."""
    parts = [text[i : i + 60] + "&" for i in range(0, len(text), 60)]
    return card(keyword, parts[0]) + b"".join(f"CONTINUE  '{part}'".encode().ljust(80) for part in parts[1:])


def header(cards: Cards, *more: bytes, end: bytes = b"END".ljust(80)) -> bytes:
    """A header: `cards` but those whose value is None, then whole cards as bytes, then END."""
    made = [card(keyword, value) for keyword, value in cards.items() if value is not None]
    return pad(b"".join(made) + b"".join(more) + end, b" ")


def axes(lengths: tuple[int, ...], letter: str = "") -> Cards:
    return {f"{letter}NAXIS": len(lengths), **{f"{letter}NAXIS{i + 1}": n for i, n in enumerate(lengths)}}


PIXELS = struct.pack(">6h", *range(6))
VALUES = [[0, 1, 2], [3, 4, 5]]


def image_cards(index: int = 0, bitpix: int = 16, lengths: tuple[int, ...] = (3, 2), **changes: Any) -> Cards:
    first: Cards = {"XTENSION": "IMAGE"} if index else {"SIMPLE": True}
    last: Cards = {"PCOUNT": 0, "GCOUNT": 1} if index else {}
    return {**first, "BITPIX": bitpix, **axes(lengths), **last, **changes}


def image(index: int = 0, *more: bytes, data: bytes = PIXELS, **changes: Any) -> bytes:
    """An image HDU of 3 x 2 int16 pixels; `changes` set cards, or drop them with None."""
    return header(image_cards(index, **changes), *more) + pad(data)


ROWS = struct.pack(">ihihih", 1, 10, 2, 20, 3, 30)
COLUMNS = {"A": [1, 2, 3], "B": [10, 20, 30]}


def table_cards(forms: tuple[str, ...], nrows: int, row_bytes: int, pcount: int, **changes: Any) -> Cards:
    cards: Cards = {"XTENSION": "BINTABLE", "BITPIX": 8, **axes((row_bytes, nrows)), "PCOUNT": pcount}
    cards |= {"GCOUNT": 1, "TFIELDS": len(forms)}
    for i, form in enumerate(forms, 1):
        cards |= {f"TTYPE{i}": "ABCDEF"[i - 1], f"TFORM{i}": form}
    return {**cards, **changes}


def table(
    *more: bytes, forms: tuple[str, ...] = ("J", "I"), rows: bytes = ROWS, nrows: int = 3, **changes: Any
) -> bytes:
    """A BINTABLE HDU of columns A (J) and B (I)."""
    return header(table_cards(forms, nrows, len(rows) // max(nrows, 1), 0, **changes), *more) + pad(rows)


def heap_table(descriptors: list[tuple[int, int]], heap: bytes, form: str = "PJ(3)", **changes: Any) -> bytes:
    """A BINTABLE of column A (J: 0, 1, ...) and a column B of descriptors (elements, offset)."""
    packer = struct.Struct(">iii" if form.lstrip("01").startswith("P") else ">iqq")
    rows = b"".join(packer.pack(i, *descriptor) for i, descriptor in enumerate(descriptors))
    cards = table_cards(("J", form), len(descriptors), packer.size, len(heap), **changes)
    return header(cards) + pad(rows + heap)


TEXT_ROWS = b"  1  1.5abc  2 -2.5def"


def text_table(rows: bytes = TEXT_ROWS, nrows: int = 2, **changes: Any) -> bytes:
    """A TABLE HDU of columns A (I3), B (F5.1), C (A3)."""
    cards: Cards = {"XTENSION": "TABLE", "BITPIX": 8, **axes((len(rows) // nrows, nrows)), "PCOUNT": 0}
    cards |= {"GCOUNT": 1, "TFIELDS": 3}
    for i, (name, form, start) in enumerate((("A", "I3", 1), ("B", "F5.1", 4), ("C", "A3", 9)), 1):
        cards |= {f"TTYPE{i}": name, f"TFORM{i}": form, f"TBCOL{i}": start}
    return header({**cards, **changes}) + pad(rows, b" ")


def swapped(one: str, other: str) -> bytes:
    """An image extension with two of its cards in each other's place."""
    cards = image_cards(1)
    keys = [{one: other, other: one}.get(key, key) for key in cards]
    return header({key: cards[key] for key in keys}) + pad(PIXELS)


TEXT_VALUES = {"A": [1, 2], "B": [1.5, -2.5], "C": [[97, 98, 99], [100, 101, 102]]}


def between(hdu: bytes) -> bytes:
    """A file with `hdu` between two good images; reads of HDUs 0 and 2 must come right."""
    return image() + hdu + image(1)


GOOD = {0: VALUES, 2: VALUES}


# ---------------------------------------------------------------- compressed images

CODECS = ("RICE_1", "GZIP_1", "GZIP_2", "PLIO_1", "HCOMPRESS_1")
TILED = np.arange(64 * 8, dtype=">i2").reshape(8, 64) % 37


@cache
def compressed(codec: str, dtype: str = ">i2") -> tuple[Cards, list[bytes], int]:
    """Cards, streams, and bytes a descriptor unit, of an 8 x 64 image in tiles of 4 x 64, by astropy."""
    buffer = io.BytesIO()
    fits.HDUList(
        [
            fits.PrimaryHDU(),
            fits.CompImageHDU(TILED.astype(dtype), compression_type=codec, tile_shape=(4, 64)),
        ]
    ).writeto(buffer)
    buffer.seek(0)
    with fits.open(buffer, disable_image_compression=True) as file:
        cards = {key: value for key, value in file[1].header.items() if key != "TTYPE2" or value}
        streams = [np.asarray(row) for row in file[1].data["COMPRESSED_DATA"]]
        data = [row.astype(row.dtype.newbyteorder(">")).tobytes() for row in streams]
        return cards, data, streams[0].itemsize


def tiled(
    codec: str = "RICE_1",
    streams: list[bytes] | None = None,
    descriptors: Any = None,
    more: bytes = b"",
    **changes: Any,
) -> bytes:
    """That image, with other streams, descriptors (elements, offset) or cards, `more` of them at the end."""
    cards, good, unit = compressed(codec)
    streams = good if streams is None else streams
    offsets = np.cumsum([0, *map(len, streams)])
    if descriptors is None:
        descriptors = [(len(s) // unit, int(offset)) for s, offset in zip(streams, offsets[:-1], strict=True)]
    rows = b"".join(struct.pack(">ii", *each) for each in descriptors)
    heap = b"".join(streams)
    cards = {**cards, "NAXIS1": 8, "NAXIS2": len(descriptors), "PCOUNT": len(heap)}
    cards = {k: v for k, v in cards.items() if k not in ("CHECKSUM", "DATASUM")}
    return header({**cards, **changes}, more) + pad(rows + heap)


def floats(**changes: Any) -> bytes:
    """A dithered float32 image of astropy's, its cards edited."""
    values = np.random.default_rng(1).normal(100, 5, (8, 64)).astype(">f4")
    buffer = io.BytesIO()
    hdu = fits.CompImageHDU(values, quantize_method=1, dither_seed=7, tile_shape=(4, 64))
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(buffer)
    buffer.seek(0)
    with fits.open(buffer, disable_image_compression=True) as file:
        cards, info = dict(file[1].header), file[1].fileinfo()
        data = buffer.getvalue()[info["datLoc"] : info["datLoc"] + info["datSpan"]]
    return between(header({**cards, **changes}) + data)


def stream(codec: str, change: Callable[[bytes], bytes]) -> bytes:
    """The compressed image with its second stream changed, between two good images."""
    first, second = compressed(codec)[1]
    return between(tiled(codec, [first, change(second)]))


def patch(at: int, data: bytes) -> Callable[[bytes], bytes]:
    """A change of some bytes of a stream."""
    return lambda stream: stream[:at] + data + stream[at + len(data) :]


COMPRESSED_VALUES = TILED.tolist()


def noise(size: int) -> bytes:
    return np.random.default_rng(3).bytes(size)


# ---------------------------------------------------------------- cases


class Cases(list[Case]):
    """Cases, one by one."""

    def add(
        self, name: str, build: Callable[[], bytes], error: str = "", says: str = "", **more: Any
    ) -> None:
        self.append(Case(name, build, error, says=says, **more))

    def add_read(self, name: str, build: Callable[[], bytes], values: Any, **more: Any) -> None:
        """An odd HDU between good ones, all of which must be read right."""
        self.add(name, lambda: between(build()), reads={**GOOD, 1: values}, **more)

    def add_lost(self, name: str, build: Callable[[], bytes], says: str, hdu: int = 0) -> None:
        """The walk through the HDUs ends at `hdu`; the good image before it is read."""
        self.add(name, build, FORMAT, says, step="find", hdu=hdu, reads={0: VALUES} if hdu else {})

    def add_bad(
        self, name: str, build: Callable[[], bytes], says: str, error: str = FORMAT, **more: Any
    ) -> None:
        """A bad HDU between good ones, which are read."""
        self.add(name, lambda: between(build()), error, says, **{"reads": GOOD, **more})
