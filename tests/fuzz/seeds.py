"""Writes the inputs that the fuzzers start from: python tests/fuzz/seeds.py DIRECTORY. The same in every run.

Needs the standard library alone; the inputs are described at the head of each fuzz_*.c.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

CARD, BLOCK = 80, 2880

PRIMARY = [
    "SIMPLE  =                    T",
    "BITPIX  =                    8",
    "NAXIS   =                    0",
]
# name -> the cards of a header, without END
HEADERS = {
    "empty": [*PRIMARY, "EXTEND  =                    T"],
    "float": [
        "SIMPLE  =                    T / conforms to FITS",
        "BITPIX  =                  -32",
        "NAXIS   =                    2",
        "NAXIS1  =                    7",
        "NAXIS2  =                    3",
        "EXTNAME = 'sci     '           / a name",
        "BSCALE  =                  1.0",
    ],
    "scaled": [
        "XTENSION= 'IMAGE   '",
        "BITPIX  =                   16",
        "NAXIS   =                    3",
        "NAXIS1  =                    5",
        "NAXIS2  =                    4",
        "NAXIS3  =                    2",
        "PCOUNT  =                    0",
        "GCOUNT  =                    1",
        "BSCALE  =              1.25D-3",
        "BZERO   =               -32.50",
        "BLANK   =               -32768",
        "EXTNAME = 'SCI'",
        "EXTVER  =                    2",
    ],
    "unsigned": [
        "XTENSION= 'IMAGE   '",
        "BITPIX  =                   32",
        "NAXIS   =                    1",
        "NAXIS1  =                 1200",
        "BZERO   =           2147483648",
        "EXTNAME = 'ERR'",
    ],
    "groups": [
        "SIMPLE  =                    T",
        "BITPIX  =                  -64",
        "NAXIS   =                    3",
        "NAXIS1  =                    0",
        "NAXIS2  =                    4",
        "NAXIS3  =                    2",
        "GROUPS  =                    T",
        "PCOUNT  =                    2",
        "GCOUNT  =                    3",
        "PTYPE1  = 'UU      '",
    ],
    "table": [
        "XTENSION= 'BINTABLE'",
        "BITPIX  =                    8",
        "NAXIS   =                    2",
        "NAXIS1  =                   20",
        "NAXIS2  =                    3",
        "PCOUNT  =                    0",
        "GCOUNT  =                    1",
        "TFIELDS =                    2",
        "TFORM1  = '4E'",
        "TTYPE1  = 'flux'",
        "TFORM2  = 'J'",
        "TNULL2  =                   -1",
        "EXTNAME = 'SCI'",
    ],
    "compressed": [
        "XTENSION= 'BINTABLE'",
        "BITPIX  =                    8",
        "NAXIS   =                    2",
        "NAXIS1  =                    8",
        "NAXIS2  =                    2",
        "PCOUNT  =                   50",
        "GCOUNT  =                    1",
        "ZIMAGE  =                    T",
        "TFORM1  = '1PB(25)'",
    ],
    "long": [
        *PRIMARY,
        *(f"COMMENT {i}" for i in range(60)),
        "HIERARCH ESO DET WIN1 NX = 12 / several words",
        "LONGSTRN= 'begins &'",
        "CONTINUE  'and goes on'",
    ],
    "sixteen": [*PRIMARY[:2], "NAXIS   = 16", *(f"NAXIS{i + 1:<3}= {i % 2 + 1}" for i in range(16))],
    "odd": ["SIMPLE  = T", "BITPIX  = 16", "NAXIS   = 1", "naxis1  = 4", "NAXIS1  = 4", "NAXIS1  = 5"],
}
# bytes of data
DATA = {
    "float": 84,
    "scaled": 80,
    "unsigned": 4800,
    "groups": 240,
    "table": 60,
    "compressed": 66,
    "sixteen": 256,
}


def raw_header(cards: list[str]) -> bytes:
    text = "".join(card.ljust(CARD) for card in [*cards, "END"])
    return text.ljust(-(-len(text) // BLOCK) * BLOCK).encode()


def lines(*names: str) -> bytes:
    """HDUs as fuzz_files takes them."""
    text = []
    for name in names:
        text += [*HEADERS[name], "END"]
        if name in DATA:
            text.append(f"@{DATA[name]}")
    return "".join(line + "\n" for line in text).encode()


def header_inputs() -> list[bytes]:
    inputs = [raw_header(cards) for cards in HEADERS.values()]
    inputs += ["\n".join([*cards, "END\n"]).encode() for cards in HEADERS.values()]
    return inputs


def image_inputs() -> list[bytes]:
    """Every pair of types, in both ways of reading; the rest as it falls."""
    chance = random.Random(1)
    inputs = []
    for cutouts in range(2):
        for bitpix in range(6):
            for wanted in range(13):
                convention = chance.randrange(8)
                head = bytes([cutouts, bitpix, wanted, convention])
                inputs.append(head + chance.randbytes(chance.choice([60, 120, 400])))
    # reals that are ordinary numbers, from which integers are made
    inputs += [bytes([0, 4, wanted, 0]) + 60 * b"\x43\x7f\x80\x00\xc3\x00\x80\x00" for wanted in range(13)]
    inputs += [bytes([0, 5, wanted, 0]) + 60 * b"\x41\xdf\xff\xff\xff\xff\xff\xff" for wanted in range(13)]
    return inputs


def table_inputs() -> list[bytes]:
    """Rows and heaps, small and large, of every kind of element; the rest as it falls."""
    chance = random.Random(3)
    inputs = []
    for heap in range(2):
        for size in (0, 0, 31):
            for kind in range(4):
                for bitpix in range(6):
                    start, fields = chance.randrange(8640), chance.randrange(7)
                    head = bytes([heap, size, start >> 8, start & 255])
                    head += (
                        bytes([kind, bitpix]) if heap else bytes([fields, chance.randrange(32), kind, bitpix])
                    )
                    inputs.append(head + chance.randbytes(chance.choice([60, 200, 600])))
    return inputs


def rice_stream(chance: random.Random, width: int, count: int, splits: list[int]) -> bytes:
    """A stream of `count` numbers. Blocks of 32 take turns in how many bits are plain; -1 for all alike."""
    bits = f"{chance.getrandbits(8 << width):0{8 << width}b}"
    for i in range(count):
        split = splits[i // 32 % len(splits)]
        if i % 32 == 0:
            bits += f"{split + 1:0{3 + width}b}"
        if split == (6, 14, 25)[width]:
            bits += f"{chance.getrandbits(8 << width):0{8 << width}b}"
        elif split >= 0:
            zeros = 70 if chance.randrange(60) == 0 else chance.randrange(4)
            bits += "0" * zeros + "1" + "".join(chance.choices("01", k=split))
    bits += "0" * (-len(bits) % 8)
    return int("1" + bits, 2).to_bytes(len(bits) // 8 + 1, "big")[1:]


def rice_inputs() -> list[bytes]:
    """Streams of numbers that go up and down a little, or by leaps, or stay; of every width. Then numbers."""
    chance = random.Random(4)
    inputs = []
    for width in range(3):
        plain = [-1, 0, 2, 5, 9, (6, 14, 25)[width] - 1, (6, 14, 25)[width]]
        plain = [split for split in plain if split <= (6, 14, 25)[width]]
        for count in (1, 31, 33, 300):
            head = bytes([0, width, 31, count >> 8, count & 255])
            for split in plain:
                inputs.append(head + bytes([0]) + rice_stream(chance, width, count, [split]))
            for _ in range(4):
                streams = [rice_stream(chance, width, count, chance.sample(plain, 3)) for _ in range(4)]
                sizes = b"".join(len(stream).to_bytes(2, "big") for stream in streams[:3])
                inputs.append(head + bytes([3]) + sizes + b"".join(streams))
            for bits in (0, 4, 9, 31):
                head = bytes([1, width, 31, count >> 8, count & 255, bits])
                inputs.append(head + chance.randbytes(4 * count))
    return inputs


def file_inputs() -> list[bytes]:
    chance = random.Random(2)
    lists = [
        [lines("float")],
        [lines("empty", "scaled", "unsigned"), lines("empty", "scaled"), lines("float", "scaled")],
        [lines("empty", "table"), lines("empty", "table", "scaled"), lines("float", "table")],
        [lines("empty", "unsigned"), lines("empty", "unsigned")[:-3] + b"4\n", b""],
        [lines("groups", "compressed", "table")],
        [lines("long", "scaled"), lines("odd"), lines("sixteen")],
    ]
    inputs = []
    for files in lists:
        for choice in (0, 1, 2, 5, 7):
            for threads in range(3):
                head = bytes([choice, chance.randrange(4), threads, threads, 23]) + chance.randbytes(35)
                inputs.append(head + b"|\n".join(files))
    return inputs


def main() -> None:
    root = Path(sys.argv[1])
    targets = {
        "header": header_inputs(),
        "image": image_inputs(),
        "files": file_inputs(),
        "table": table_inputs(),
        "rice": rice_inputs(),
    }
    for name, inputs in targets.items():
        folder = root / f"fuzz_{name}"
        folder.mkdir(parents=True, exist_ok=True)
        for i, data in enumerate(inputs):
            (folder / f"{i:03d}").write_bytes(data)


if __name__ == "__main__":
    main()
