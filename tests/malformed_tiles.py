"""Malformed tile-compressed images, each with what is due for it."""

from __future__ import annotations

import gzip
import struct
from typing import Any

import numpy as np
import ztiles
from malformed import (
    BLOCK,
    CODECS,
    COMPRESSED_VALUES,
    FORMAT,
    GOOD,
    UNSUPPORTED,
    Cases,
    between,
    compressed,
    floats,
    noise,
    patch,
    stream,
    tiled,
)

CASES = Cases()
add, add_read, add_bad = CASES.add, CASES.add_read, CASES.add_bad

# ---------------------------------------------------------------- keywords
for keyword, value, says, error in (
    *(("ZTILE1", value, "ZTILE1", FORMAT) for value in (0, -1, 2**63, "x", 1.5)),
    *((keyword, value, "tiles", UNSUPPORTED) for keyword, value in (("ZTILE1", 2**31), ("ZTILE2", 2**40))),
    *(("ZNAXIS", value, "ZNAXIS", FORMAT) for value in (0, -1, 1000, 3, None, "x")),
    *(("ZNAXIS1", value, "ZNAXIS1", FORMAT) for value in (-1, None, "x", 2**63)),
    *(("ZNAXIS2", value, "tiles", FORMAT) for value in (1000, 2**62)),
    *(("ZBITPIX", value, "ZBITPIX", FORMAT) for value in (7, None, "x", 0)),
    *(("ZCMPTYPE", value, "ZCMPTYPE", UNSUPPORTED) for value in ("ZIP", None, 5)),
    *(("ZVAL1", value, "ZVAL1", FORMAT) for value in (0, 10**9, -32, "x")),
    *(("ZVAL2", value, "ZVAL2", FORMAT) for value in (0, 2**32 + 2, "x")),
    *(("ZVAL2", value, "BYTEPIX", FORMAT) for value in (3, 8)),
    ("ZBITPIX", -32, "RICE_1", FORMAT),
    ("ZNAXIS1", 2**40, "", FORMAT),
    ("NAXIS2", 1, "tiles", FORMAT),
    ("TTYPE1", "OTHER", "COMPRESSED_DATA", FORMAT),
    ("TSCAL1", 2, "COMPRESSED_DATA", FORMAT),
    ("TFORM1", "2J", "COMPRESSED_DATA", FORMAT),
    ("TFORM1", "8B", "COMPRESSED_DATA", FORMAT),
    ("TFORM1", "1PJ(9)", "COMPRESSED_DATA", UNSUPPORTED),
):
    add_bad(f"compressed {keyword} = {value!r}", lambda k=keyword, v=value: tiled(**{k: v}), says, error)
# cfitsio goes by the last or the nearest of such cards, and by names that end at a blank
for keyword, text in (
    ("ZTILE1", "0"),
    ("ZTILE2", "NaN"),
    ("ZBITPIX", "64"),
    ("ZNAXIS1", "9999"),
    ("TFORM1", "'9QB'"),
):
    for name, start in (
        ("twice", f"{keyword:8}= "),
        ("in lower case", f"{keyword.lower():8}= "),
        ("as HIERARCH", f"HIERARCH {keyword} = "),
        ("with a tail", f"{keyword + ' X':8}= "),
        ("without blank", f"{keyword}="),
    ):
        more = (start + text).encode().ljust(80)
        add_bad(f"{keyword} {name}", lambda more=more: tiled(more=more), keyword)
add_read(
    "compressed, 6 axes",
    lambda: tiled(ZNAXIS=6, **{f"ZNAXIS{i}": 1 for i in range(3, 7)}),
    [[[[COMPRESSED_VALUES]]]],
)
add_bad(
    "compressed, 70 axes",
    lambda: tiled(ZNAXIS=70, **{f"ZNAXIS{i}": 1 for i in range(3, 71)}),
    "70 axes",
    UNSUPPORTED,
)
add_read("ZVAL1 missing", lambda: tiled(ZVAL1=None), COMPRESSED_VALUES)
add_bad("BYTEPIX 4 for streams of 2", lambda: tiled(ZVAL2=4), "compressed tile 0 ")
add("BYTEPIX 1 for streams of 2", lambda: between(tiled(ZVAL2=1)), reads=GOOD)
add_read("ZBITPIX 8 for streams of 16", lambda: tiled(ZBITPIX=8), COMPRESSED_VALUES)
add("ZIMAGE = F", lambda: between(tiled(ZIMAGE=False)), reads=GOOD)
for value in (0, 10001, -5, 2**40, 1.5, "x"):
    add(f"ZDITHER0 = {value!r}", lambda value=value: floats(ZDITHER0=value), FORMAT, "ZDITHER0", reads=GOOD)
add("dithered floats that are good", floats, reads=GOOD)
add("ZQUANTIZ unknown", lambda: floats(ZQUANTIZ="SOMEHOW"), UNSUPPORTED, "ZQUANTIZ", reads=GOOD)
add("TFORM of ZSCALE", lambda: floats(TFORM3="8A"), FORMAT, "ZSCALE", reads=GOOD)
add("TTYPE of ZSCALE gone", lambda: floats(TTYPE3="OTHER"), FORMAT, "ZSCALE", reads=GOOD)
add("TTYPE of ZZERO gone", lambda: floats(TTYPE4="OTHER"), FORMAT, "ZZERO", reads=GOOD)

# ---------------------------------------------------------------- descriptors and streams
for name, bad in (
    ("of negative length", (-5, 0)),
    ("of negative offset", (5, -1)),
    ("past the end", (9999, 0)),
    ("at 2^30", (5, 2**30)),
    ("of 2^31 - 1", (2**31 - 1, 2**31 - 1)),
    ("of nothing", (0, 0)),
):
    add_bad(f"compressed descriptor {name}", lambda bad=bad: tiled(descriptors=[bad, bad]), "tile 0")
for codec in CODECS:
    add_read(f"{codec} that is good", lambda codec=codec: tiled(codec), COMPRESSED_VALUES)
    add(
        f"{codec} with junk after it",
        lambda codec=codec: stream(codec, lambda data: data + b"junkjunk"),
        reads={**GOOD, 1: COMPRESSED_VALUES},
    )
    for name, change in (
        ("cut in half", lambda data: data[: len(data) // 4 * 2]),
        ("cut by two bytes", lambda data: data[:-2]),
        ("of two bytes", lambda data: data[:2]),
        ("of ones", lambda data: b"\xff" * len(data)),
        ("of noise", lambda data: noise(len(data))),
        ("of zeros", lambda data: bytes(len(data))),
    ):
        # zeros are a sound stream of RICE_1: pixels like the first
        error = "" if (codec, name) == ("RICE_1", "of zeros") else FORMAT
        add(
            f"{codec} {name}",
            lambda codec=codec, change=change: stream(codec, change),
            error,
            "compressed tile 1 " if error else "",
            reads=GOOD,
        )
    # the stream holds 4 x 64 pixels; RICE_1 and PLIO_1 do not tell how many there are, what PLIO_1 lacks is 0
    for name, rows, sound in (
        ("of more pixels than its tile", 3, ("RICE_1", "PLIO_1")),
        ("of fewer pixels than its tile", 8, ("PLIO_1",)),
    ):
        error = "" if codec in sound else FORMAT
        add(
            f"{codec} {name}",
            lambda codec=codec, rows=rows: between(tiled(codec, ZTILE2=rows, ZNAXIS2=2 * rows)),
            error,
            "compressed tile " if error else "",
            reads=GOOD,
        )
for name, at, data in (
    ("magic", 0, bytes(2)),
    ("nx 0", 2, bytes(4)),
    ("nx negative", 2, b"\xff" * 4),
    ("nx 2^30", 2, b"\x40\0\0\0"),
    ("ny 2^30", 6, b"\x40\0\0\0"),
    ("nx and ny 2^16", 2, b"\0\1\0\0\0\1\0\0"),
    ("nx and ny exchanged", 2, struct.pack(">ii", 64, 4)),
    ("255 bit planes", 22, b"\xff" * 3),
):
    add(
        f"HCOMPRESS_1 {name}",
        lambda at=at, data=data: stream("HCOMPRESS_1", patch(at, data)),
        FORMAT,
        "compressed tile 1 ",
        reads=GOOD,
    )
for name, at, data in (
    ("length negative", 6, b"\xff" * 4),
    ("length beyond the stream", 6, b"\x7f\xff" * 2),
    ("header length 0", 2, bytes(2)),
    ("header longer than the stream", 2, b"\x7f\xff"),
    ("run over the tile", 14, b"\x4f\xff"),
):
    add(
        f"PLIO_1 {name}",
        lambda at=at, data=data: stream("PLIO_1", patch(at, data)),
        FORMAT,
        "compressed tile 1 ",
        reads=GOOD,
    )
for codec in ("GZIP_1", "GZIP_2"):
    add(
        f"{codec} bomb",
        lambda codec=codec: stream(codec, lambda _: gzip.compress(bytes(1 << 26), 9)),
        FORMAT,
        "compressed tile 1 ",
        reads=GOOD,
    )
    add(
        f"{codec} with a wrong check sum",
        lambda codec=codec: stream(codec, lambda data: data[:-8] + bytes(4) + data[-4:]),
        FORMAT,
        "compressed tile 1 ",
        reads=GOOD,
    )


def whole(shape: tuple[int, int], tile: tuple[int, int], codec: str, cells: list[Any], **cards: Any) -> bytes:
    """A tile-compressed image between two good ones, its streams as they are given."""
    form = "1PI" if codec == "PLIO_1" else "1PB"
    columns = {"COMPRESSED_DATA": (form, cells), **cards.pop("more", {})}
    return between(ztiles.tiled(shape, tile, cards.pop("bitpix", 16), codec, columns, **cards)[BLOCK:])


SOUND = ztiles.streams(np.arange(64, dtype="i2").reshape(8, 8), (4, 8), "GZIP_1")["COMPRESSED_DATA"][1]
for value in (2**20, 2**31, 2**62, 2**63 - 1):
    add(
        f"compressed, THEAP = {value}",
        lambda value=value: whole((8, 8), (4, 8), "GZIP_1", SOUND, THEAP=value),
        FORMAT,
        "THEAP",
        reads=GOOD,
    )
for form in ("1PL", "1PX", "1PA", "1PC", "1PM"):
    add(
        f"UNCOMPRESSED_DATA of {form}",
        lambda form=form: whole(
            (8, 8),
            (4, 8),
            "GZIP_1",
            SOUND,
            more={"UNCOMPRESSED_DATA": ("1PB", [None, None])},
            TFORM2=f"'{form}'",
        ),
        FORMAT,
        "UNCOMPRESSED_DATA",
        reads=GOOD,
    )
add(
    "NULL_PIXEL_MASK",
    lambda: whole((8, 8), (4, 8), "GZIP_1", SOUND, more={"NULL_PIXEL_MASK": ("1PB", [b"x", None])}),
    UNSUPPORTED,
    "NULL_PIXEL_MASK",
    reads=GOOD,
)
for codec in CODECS:
    for name, shape, tile, count in (
        ("one tile of 2^30 pixels", (2**15, 2**15), (2**15, 2**15), 1),
        ("a thousand tiles of 2^30 pixels", (2**20, 2**20), (2**15, 2**15), 2**10),
    ):
        add(
            f"{codec}, {name}",
            lambda codec=codec, shape=shape, tile=tile, count=count: whole(
                shape, tile, codec, [compressed(codec)[1][0]] * count
            ),
            FORMAT,
            "cannot be made of",
            reads=GOOD,
        )
BOMB = gzip.compress(bytes(1 << 24), 6)
add(
    "64 tiles onto one bomb",
    lambda: whole(
        (64 * 4096, 4096), (4096, 4096), "GZIP_1", [BOMB] + [None] * 63,
        bitpix=8, rows=struct.pack(">ii", len(BOMB), 0) * 64,
    ),
    FORMAT,
    "cannot be made of",
    reads=GOOD,
)  # fmt: skip
add(
    "a million tiles onto one stream",
    lambda: whole(
        (4 * 10**6, 8), (4, 8), "GZIP_1", [SOUND[0]] + [None] * (10**6 - 1),
        rows=struct.pack(">ii", len(SOUND[0]), 0) * 10**6,
    ),
    FORMAT,
    "cannot be made of",
    reads=GOOD,
)  # fmt: skip
add(
    "a million tiles of one pixel",
    lambda: whole(
        (1000, 1000),
        (1, 1),
        "NOCOMPRESS",
        [b"ab"] + [None] * (10**6 - 1),
        rows=struct.pack(">ii", 2, 0) * 10**6,
    ),
    reads={**GOOD, 1: "torch.int16 (1000, 1000)"},
    seconds=20,
)
