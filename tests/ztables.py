"""For the tests of tile-compressed tables: fpack, and a slow compressor and decompressor in plain Python.

Both take the standard at its word (section 10.3), but for two things in which writers depart from it: the
order of the descriptors of arrays, and complex numbers, whose bytes GZIP_2 does not shuffle.
"""

from __future__ import annotations

import gzip
import os
import re
import struct
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field

from images import BLOCK, card, padded
from tables import WIDTHS, file_of, slow_hdus

SHUFFLED = "IJKED"
# bytes of a number -> bits of the field before a block, and what it says where differences are as they are
RICE = {1: (3, 6), 2: (4, 14), 4: (5, 25)}


def _run(*command: object) -> subprocess.CompletedProcess:
    without = {key: value for key, value in os.environ.items() if key != "LD_PRELOAD"}
    try:
        return subprocess.run(
            [str(each) for each in command], env=without, capture_output=True, timeout=60, check=False
        )
    except FileNotFoundError:
        raise AssertionError(
            "these tests need fpack and funpack (Debian: apt install libcfitsio-bin)"
        ) from None


def fpack(path, to, *options):
    done = _run("fpack", *(options or ["-table"]), "-O", to, path)
    assert done.returncode == 0, done.stderr
    return to


def funpack(path, to):
    done = _run("funpack", "-O", to, path)
    assert done.returncode == 0, done.stderr
    return to


# ---------------------------------------------------------------------------- streams


def rice_encode(data: bytes, width: int, block: int = 32) -> bytes:
    """The stream of big-endian numbers; each block in the way that takes the fewest bits."""
    plain, as_is = RICE[width]
    size, mask = 8 * width, 2 ** (8 * width) - 1
    numbers = [int.from_bytes(data[i : i + width], "big") for i in range(0, len(data), width)]
    if not numbers:
        return b""
    out = f"{numbers[0]:0{size}b}"
    last = numbers[0]
    for first in range(0, len(numbers), block):
        differences = []
        for number in numbers[first : first + block]:
            step = (number - last) & mask
            step -= (step >> (size - 1)) << size
            differences.append(2 * step if step >= 0 else -2 * step - 1)
            last = number
        coded = {
            split: "".join(
                "0" * (d >> split) + "1" + (f"{d & (2**split - 1):0{split}b}" if split else "")
                for d in differences
            )
            for split in range(as_is)
            if max(differences) >> split < 200
        }
        coded[as_is] = "".join(f"{d:0{size}b}" for d in differences)
        if not any(differences):
            coded[-1] = ""
        best = min(coded, key=lambda split: len(coded[split]))
        out += f"{best + 1:0{plain}b}" + coded[best]
    out += "0" * (-len(out) % 8)
    return int(out, 2).to_bytes(len(out) // 8, "big")


def rice_decode(stream: bytes, count: int, width: int, block: int = 32) -> bytes:
    """The big-endian numbers of a stream, bit by bit; IndexError where it is cut, ValueError for nonsense."""
    plain, as_is = RICE[width]
    size, at = 8 * width, 0

    def take(n: int) -> int:
        nonlocal at
        if at + n > 8 * len(stream):
            raise IndexError
        value = 0
        for i in range(at, at + n):
            value = 2 * value + (stream[i // 8] >> (7 - i % 8) & 1)
        at += n
        return value

    found: list[int] = []
    last = take(size) if count else 0
    while len(found) < count:
        split = take(plain) - 1
        if split > as_is:
            raise ValueError
        for _ in range(min(block, count - len(found))):
            zeros = 0
            if split == as_is:
                coded = take(size)
            elif split < 0:
                coded = 0
            else:
                while take(1) == 0:
                    zeros += 1
                coded = (zeros << split | take(split)) & 0xFFFFFFFF
            last = (last + (coded // 2 if coded % 2 == 0 else -(coded // 2) - 1)) % 2**size
            found.append(last)
    return b"".join(number.to_bytes(width, "big") for number in found)


def encode(codec: str, data: bytes, code: str, array: bool = False) -> bytes:
    width = WIDTHS.get(code, 1)
    if codec == "RICE_1":
        return rice_encode(data, width)
    if codec == "NOCOMPRESS":
        return data
    if codec == "GZIP_2" and code in SHUFFLED + "C" * array:
        data = b"".join(data[i::width] for i in range(width))
    return gzip.compress(data, mtime=0)


def decode(codec: str, stream: bytes, size: int, code: str, array: bool = False) -> bytes:
    width = WIDTHS.get(code, 1)
    if codec == "RICE_1":
        return rice_decode(stream, size // width, width)
    data = stream if codec == "NOCOMPRESS" else gzip.decompress(stream)
    assert len(data) == size
    if codec == "GZIP_2" and code in SHUFFLED + "C" * array:
        count = size // width
        data = bytes(data[k * count + i] for i in range(count) for k in range(width))
    return data


# ---------------------------------------------------------------------------- tables


@dataclass
class Form:
    """What a TFORM says."""

    text: str
    code: str = field(init=False)
    element: str = field(init=False)
    width: int = field(init=False)

    def __post_init__(self) -> None:
        match = re.match(r"\s*(\d*)([LXBIJKAEDCMPQ])([LXBIJKAEDCM]?)", self.text)
        assert match is not None
        repeat, self.code = int(match[1] or 1), match[2]
        self.element = match[3] if self.code in "PQ" else ""
        each = {"P": 8, "Q": 16, "X": 0}.get(self.code, WIDTHS.get(self.code, 0))
        self.width = -(-repeat // 8) if self.code == "X" else each * repeat

    @property
    def pair(self) -> str:
        return ">ii" if self.code == "P" else ">qq"

    def array_bytes(self, count: int) -> int:
        return -(-count // 8) if self.element == "X" else count * WIDTHS[self.element]


def _pairs(data: bytes, form: str) -> list[tuple[int, int]]:
    return list(struct.iter_unpack(form, data))


def compress(
    plain: bytes,
    side: int,
    codecs: Sequence[str],
    pointer: str = "Q",
    header: dict[str, object] | None = None,
    damage=lambda column, tile, stream: stream,
) -> bytes:
    """The file `plain`, whose HDU 1 is a table, with that table compressed in tiles of `side` rows.

    Args:
        codecs: Of each column; '' for one without ZCTYP, which means GZIP_2.
        pointer: P or Q, the form of the descriptors that are stored.
        header: Cards that replace what would be right, or None in the place of those that are to be missing.
        damage: Of (column, tile, stream) the stream to store instead; of arrays, that of descriptors.
    """
    cards, start = slow_hdus(plain)[1]
    row_bytes, nrows, count = (int(cards[key]) for key in ("NAXIS1", "NAXIS2", "TFIELDS"))
    body = start + int(cards.get("THEAP", row_bytes * nrows))
    forms = [Form(cards[f"TFORM{i}"]) for i in range(1, count + 1)]
    offsets = [sum(form.width for form in forms[:i]) for i in range(count)]
    rows, heap = bytearray(), bytearray()
    for tile, first in enumerate(range(0, nrows, side)):
        last = min(first + side, nrows)
        for i, (form, offset, codec) in enumerate(zip(forms, offsets, codecs, strict=True)):
            at = [start + row * row_bytes + offset for row in range(first, last)]
            cells = b"".join(plain[k : k + form.width] for k in at)
            codec = codec or "GZIP_2"
            if form.code in "PQ" and form.width:
                streams = []
                for elements, place in _pairs(cells, form.pair):
                    array = (
                        plain[body + place : body + place + form.array_bytes(elements)] if elements else b""
                    )
                    stream = encode(codec, array, form.element, array=True) if array else b""
                    streams.append((min(len(stream), len(array)), len(heap)))
                    heap += stream if len(stream) < len(array) else array
                cells += b"".join(struct.pack(">qq", *each) for each in streams)
                codec = "GZIP_1"
            stream = damage(i, tile, encode(codec, cells, form.code)) if form.width else b""
            rows += struct.pack(">ii" if pointer == "P" else ">qq", len(stream), len(heap))
            heap += stream
    made: dict[str, object] = {
        "XTENSION": "'BINTABLE'", "BITPIX": 8, "NAXIS": 2, "NAXIS1": count * (8 if pointer == "P" else 16),
        "NAXIS2": -(-nrows // side), "PCOUNT": len(heap), "GCOUNT": 1, "TFIELDS": count,
    }  # fmt: skip
    quoted = {key: _card_value(value) for key, value in cards.items()}
    made |= {key: value for key, value in quoted.items() if re.match(r"T(TYPE|DIM|SCAL|ZERO|NULL)\d", key)}
    made |= {
        "ZTABLE": True,
        "ZTILELEN": side,
        "ZNAXIS1": row_bytes,
        "ZNAXIS2": nrows,
        "ZPCOUNT": cards["PCOUNT"],
    }
    for i, (form, codec) in enumerate(zip(forms, codecs, strict=True), 1):
        made |= {f"TFORM{i}": f"'1{pointer}B'", f"ZFORM{i}": f"'{form.text}'"}
        if codec:
            made[f"ZCTYP{i}"] = f"'{codec}'"
    made |= header or {}
    head = b"".join(card(key, value) for key, value in made.items() if value is not None) + b"END".ljust(80)
    return file_of(head + b" " * (-len(head) % BLOCK) + padded(bytes(rows) + bytes(heap)))


def _card_value(text: str) -> str:
    try:
        float(text)
    except ValueError:
        return f"'{text}'"
    return text


def uncompress(data: bytes) -> bytes:
    """The plain file that the compressed table in HDU 1 stands for, by slow decoders."""
    cards, start = slow_hdus(data)[1]
    nrows, side, count = (int(cards[key]) for key in ("ZNAXIS2", "ZTILELEN", "TFIELDS"))
    stored = int(cards["NAXIS1"])
    body = start + int(cards.get("THEAP", stored * int(cards["NAXIS2"])))
    forms = [Form(cards[f"ZFORM{i}"]) for i in range(1, count + 1)]
    heap, columns = bytearray(), []
    for i, form in enumerate(forms):
        codec = cards.get(f"ZCTYP{i + 1}", "GZIP_2")
        cells = b""
        pair = Form(cards[f"TFORM{i + 1}"]).pair
        for tile, first in enumerate(range(0, nrows, side)):
            n = min(side, nrows - first)
            at = start + tile * stored + i * struct.calcsize(pair)
            length, place = struct.unpack_from(pair, data, at)
            stream = data[body + place : body + place + length]
            if form.code not in "PQ" or not form.width:
                cells += decode(codec, stream, n * form.width, form.code) if form.width else b""
                continue
            pairs = gzip.decompress(stream)
            assert len(pairs) == n * (form.width + 16)
            streams = _pairs(pairs[n * form.width :], ">qq")
            for (elements, _), (length, place) in zip(
                _pairs(pairs[: n * form.width], form.pair), streams, strict=True
            ):
                size, stream = form.array_bytes(elements), data[body + place : body + place + length]
                cells += struct.pack(form.pair, elements, len(heap))
                if elements:
                    heap += (
                        stream if length == size else decode(codec, stream, size, form.element, array=True)
                    )
        columns.append(cells)
    widths = [form.width for form in forms]
    rows = b"".join(
        cells[row * width : (row + 1) * width]
        for row in range(nrows)
        for cells, width in zip(columns, widths, strict=True)
    )
    made: dict[str, object] = {
        "XTENSION": "'BINTABLE'", "BITPIX": 8, "NAXIS": 2, "NAXIS1": sum(widths), "NAXIS2": nrows,
        "PCOUNT": len(heap), "GCOUNT": 1, "TFIELDS": count,
    }  # fmt: skip
    for key, value in cards.items():
        if re.match(r"T(TYPE|DIM|SCAL|ZERO|NULL)\d", key):
            made[key] = _card_value(value)
    for i, form in enumerate(forms, 1):
        made[f"TFORM{i}"] = f"'{form.text}'"
    head = b"".join(card(*each) for each in made.items()) + b"END".ljust(80)
    return file_of(head + b" " * (-len(head) % BLOCK) + padded(rows + bytes(heap)))
