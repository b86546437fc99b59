"""Writes the inputs that the fuzzers start from: python tests/fuzz/seeds.py DIRECTORY. The same in every run.

Needs the standard library alone; the inputs are described at the head of each fuzz_*.c.
"""

from __future__ import annotations

import gzip
import itertools
import math
import random
import struct
import sys
import zlib
from collections.abc import Callable
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


def elements(chance: random.Random, before: Callable[[], bytes]) -> list[bytes]:
    """Small and large, of every kind of element, which follows the size, the start and what is `before`."""
    inputs = []
    for size in (0, 0, 31):
        for kind in range(4):
            for bitpix in range(6):
                start = chance.randrange(8640).to_bytes(2, "big")
                head = bytes([size]) + start + before() + bytes([kind, bitpix])
                inputs.append(head + chance.randbytes(chance.choice([60, 200, 600])))
    return inputs


def heap_inputs() -> list[bytes]:
    return elements(random.Random(7), bytes)


def table_inputs() -> list[bytes]:
    """Rows, then rows that pass a filter; the size of the first field as it falls."""
    chance = random.Random(3)
    inputs = [elements(chance, lambda: bytes([chance.randrange(7), chance.randrange(32)])) for _ in range(2)]
    return [bytes([job]) + each for job in range(2) for each in inputs[job]]


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


def rice_ends() -> list[bytes]:
    """Sixteen streams of codes of 56 bits, which is a filling; each is cut a byte before the last one."""
    inputs = []
    for units in (1, 2, 3):
        bits = "0" * 32 + f"{25:05b}" + 16 * units * ("0" * 31 + "1" + "0" * 24)
        bits += "0" * (-len(bits) % 8)
        whole = int(bits, 2).to_bytes(len(bits) // 8, "big")
        streams = [whole[: len(whole) - i] for i in range(16)]
        sizes = b"".join(len(stream).to_bytes(2, "big") for stream in streams[:-1])
        inputs.append(bytes([0, 2, 63, 0, 16 * units, 15]) + sizes + b"".join(streams))
    return inputs


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
            for together in (2, 4, 9, 16, 16):
                splits = [chance.sample(plain, 3) for _ in range(together)]
                streams = [rice_stream(chance, width, count, each) for each in splits]
                sizes = b"".join(len(stream).to_bytes(2, "big") for stream in streams[:-1])
                inputs.append(head + bytes([together - 1]) + sizes + b"".join(streams))
            for bits in (0, 4, 9, 31):
                head = bytes([1, width, 31, count >> 8, count & 255, bits])
                inputs.append(head + chance.randbytes(4 * count))
    return inputs


def deflate_inputs() -> list[bytes]:
    """Streams and files of every kind of block, whole and cut, and the insides of streams."""
    chance = random.Random(5)
    inputs = []
    for text in (b"", b"abc", bytes(999), chance.randbytes(400), bytes(chance.choices(b"abcd", k=900))):
        for level in (0, 1, 9):
            size = len(text)
            stream = gzip.compress(text, level, mtime=0)
            for asked in (size, size + 1, max(0, size - 1)):
                inputs.append(bytes([0, asked >> 8, asked & 255]) + stream)
            inputs.append(bytes([1, size >> 8, size & 255]) + stream[10:-8])
            inputs.append(bytes([2, size >> 9, size >> 1 & 255]) + stream + bytes(5) + stream)
            inputs.append(bytes([3, level, chance.randrange(256)]) + text)
    return inputs


def gzip_parts_inputs() -> list[bytes]:
    """Files of many small blocks that make much more than a window; parts of a few hundred bytes."""
    chance = random.Random(5)
    inputs = []
    for kinds in (b"\0\0\0\0\0\0\0\0\0\1", b"\0\0\1", b"abcd"):
        text = bytes(chance.choices(kinds, k=60_000)) + bytes(100_000)
        for level in (1, 6):
            for memory in (1, 2):
                maker = zlib.compressobj(level, zlib.DEFLATED, 31, memory)
                file = (maker.compress(text) + maker.flush())[:8000]
                for threads in range(3):
                    head = struct.pack(">BHII", threads, 500, 200_000, 200_000)
                    inputs += [b"\0" + head + file, b"\3" + head + file[10:]]
    return inputs


def quantise_inputs() -> list[bytes]:
    """Tiles of noise, with NaN, zeros, constant stretches and numbers of any size; and integers."""
    chance = random.Random(5)
    inputs = []
    for method in range(3):
        head = bytes([0, method]) + struct.pack(">qi", 77, 3)
        for wide in range(2):
            for columns in (7, 40, 400):
                for kind in range(5):
                    reals = [chance.gauss(100, 7) for _ in range(400)]
                    if kind == 1:
                        reals = [round(real / 10) for real in reals]
                    elif kind == 2:
                        reals = [chance.choice([real, 0.0, math.nan]) for real in reals]
                    elif kind == 3:
                        reals = [real * 10.0 ** chance.randint(-30, 30) for real in reals]
                    elif kind == 4:
                        reals = [real * (1e35, 1e305)[wide] for real in reals]
                    level = chance.choice([4.0, 0.0, 100.0, -0.5, -1e-9])
                    how = bytes([wide]) + struct.pack(">H4d", columns - 1, level, 7.0, 10.0, 30.0)
                    inputs.append(head + how + struct.pack("=400" + "fd"[wide], *reals))
        for blank in range(2):
            how = struct.pack(">2dBq", 0.25, 100.0, blank, -2147483647)
            numbers = [chance.choice([-2147483647, -2147483646, chance.getrandbits(31)]) for _ in range(300)]
            inputs.append(bytes([1]) + head[1:] + how + struct.pack("=300i", *numbers))
    return inputs


def hcompress_inputs() -> list[bytes]:
    """Streams of planes as they are, and of few bits; pixels of few bits and of all."""
    chance = random.Random(5)
    inputs = []
    for side in (0, 1, 2, 3, 14, 31, 62, 78):
        for smooth in range(2):
            for planes in (b"\0\0\0", b"\1\0\0", b"\2\1\0", b"\4\3\3"):
                head = bytes([0, side, chance.randrange(79), smooth, 0, chance.randrange(9)])
                body = bytes(chance.choice([0, 0, 15, 240, 255, chance.randrange(256)]) for _ in range(300))
                inputs.append(head + chance.randbytes(1) + bytes(7) + planes + body)
            for bits in (0, 7, 15, 31):
                head = bytes([1, side, chance.randrange(79), smooth, 0, chance.randrange(3), bits])
                inputs.append(head + chance.randbytes(400))
    return inputs


def plio_inputs() -> list[bytes]:
    """Lists of both headers, of every code."""
    chance = random.Random(6)
    inputs = []
    for length in (0, 1, 5, 60):
        for old in range(2):
            for _ in range(5):
                code = [chance.randrange(8) << 12 | chance.choice([0, 1, 3, 40, 4095]) for _ in range(length)]
                head = [0, 0, length + 3] if old else [0, 7, 0xFF9C, length + 7, 0, 0, 0]
                words = [chance.choice([0, 90, 5000, 8999]), *head, *code]
                inputs.append(b"".join(word.to_bytes(2, "big") for word in words))
    return inputs


def tile_stream(chance: random.Random, codec: int, rows: int, columns: int, width: int) -> bytes:
    """The stream of a tile of numbers of so many bytes; codecs in the order of tf_codec."""
    pixels = rows * columns
    if codec == 0:
        return rice_stream(chance, {1: 0, 2: 1}.get(width, 2), pixels, [-1, 0, 3])
    if codec in (1, 2):
        return gzip.compress(bytes(chance.choices(b"\0\1ab", k=pixels * width)), 1, mtime=0)
    if codec == 3:
        return struct.pack(">10h", 0, 7, -100, 10, 0, 0, 0, 8195, 20481, 16390)
    if codec == 4:
        return b"\xdd\x99" + struct.pack(">IIIq4x", rows, columns, 1, chance.randrange(900))
    return chance.randbytes(pixels * width)


def tiles_inputs() -> list[bytes]:
    """Images of 11 x 14 pixels in tiles of 4 x 5, of every codec and BITPIX, with and without stand-ins."""
    chance = random.Random(7)
    inputs = []
    for codec, bitpix, quantised, stand_in in itertools.product(range(6), range(6), range(2), range(3)):
        width = (1, 2, 4, 8, 4, 8)[bitpix]
        number = 4 if quantised and bitpix > 3 else width
        head = bytes([bitpix, chance.randrange(13), 2]) + bytes((1, 2, 4, 8, 8, 8)[bitpix])
        head += bytes([chance.randrange(4), codec, quantised])
        head += bytes([{1: 0, 2: 1}.get(number, 2), 31, 0, 0]) + bytes([1, 10, 3, 13, 4])
        # which of the columns there are, and their descriptors: P, or Q
        head += bytes([bitpix, 2 + chance.randrange(2), 3 * (stand_in == 1), 2 * (stand_in == 2)])
        if quantised and bitpix > 3 and codec != 5:
            head += bytes([chance.randrange(3), 0, 9, 6, 8, 7, 3, 1, 7]) + struct.pack(">i", -2147483647)
        windows = bytes([1, 1, 0, 2, chance.randrange(11), 9, chance.randrange(14), 9]) + bytes([3, 4, 2, 9])
        rows = heap = b""
        for tile in range(9):
            sides = 3 if tile > 5 else 4, 4 if tile % 3 == 2 else 5
            used = stand_in if tile % 2 else 0
            how = (codec, 1, 5)[used]
            stream = tile_stream(chance, how, *sides, width if used else number)
            count = len(stream) // (2 if how == 3 else width if how == 5 and used else 1)
            empty, there = bytes([0]), bytes([4, count])
            rows += empty + there if used else there + empty * (stand_in > 0)
            heap += stream
        inputs.append(head + windows + rows + heap)
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


def wcs_header(projection: str, **values: object) -> list[str]:
    """The cards of an image of the sky."""
    cards = {"NAXIS": 2, "CTYPE1": f"RA---{projection}", "CTYPE2": f"DEC--{projection}", "CRVAL1": 30.0}
    cards |= {"CRVAL2": 40.0, "CRPIX1": 50.5, "CRPIX2": 50.5, "CDELT1": -0.5, "CDELT2": 0.5} | values
    return [f"{key:8}= {value!r:>20}" for key, value in cards.items()]


def wcs_inputs() -> list[bytes]:
    codes = "AZP SZP TAN STG SIN ARC ZPN ZEA AIR CYP CEA CAR MER COP COE COD COO SFL PAR MOL AIT"
    codes += " BON PCO TSC CSC QSC HPX XPH"
    pv = {"PV2_1": 2.0, "PV2_2": 30.0}
    headers = [wcs_header(code, **pv) for code in (*codes.split(), "NCP", "GLS", "TNX", "ZPX")]
    headers += [wcs_header("TPV", PV1_1=1.0, PV2_1=1.0, PV1_7=0.001, PV2_39=1e-6, CD1_1=-0.01, CD2_2=0.01)]
    headers += [
        wcs_header("TAN", CD1_1=-0.01, CD1_2=0.001, CD2_1=0.001, CD2_2=0.01, LONPOLE=100.0, EQUINOX=2000.0)
    ]
    headers += [wcs_header("TAN", CROTA2=30.0, EPOCH=1950.0, PROJP1=3.0)]
    headers += [wcs_header("CSC", NAXIS=3, CTYPE3="CUBEFACE")]
    for ctype in (
        "FREQ",
        "WAVE-F2W",
        "VOPT-F2W",
        "AWAV-GRI",
        "VELO-LSR",
        "FREQ-LOG",
        "STOKES",
        "UTC",
        "FELO-HEL",
    ):
        headers.append(
            wcs_header("SIN", NAXIS=3, CTYPE3=ctype, CRVAL3=1e9, CDELT3=1e6, RESTFRQ=1.4e9, PV3_0=1e5)
        )
    tables = {"PS3_0": "TABLE", "PS3_1": "COORDS", "PS3_2": "INDEX", "PV3_1": 1.0, "PV3_2": 1.0, "PV3_3": 1.0}
    headers.append(wcs_header("TAN", NAXIS=3, CTYPE3="WAVE-TAB", CUNIT3="nm", **tables))
    pair = {f"PS{i}_{m}": name for i in (1, 2) for m, name in enumerate(("TABLE", "COORDS"))}
    plane = {"CTYPE1": "RA---TAB", "CTYPE2": "DEC--TAB", "PV1_3": 1.0, "PV2_3": 2.0}
    headers.append(wcs_header("TAB", **pair | plane))
    for word in ("DP", "DQ"):
        records = [f"C{word[1]}DIS{i} = 'TPD'" for i in (1, 2)]
        for i in (1, 2):
            fields = (
                "NAXES: 2",
                "AXIS.1: 1",
                "AXIS.2: 2",
                "OFFSET.1: 3",
                "SCALE.2: 2",
                "TPD.FWD.1: 1.0",
                "TPD.FWD.4: 1E-4",
            )
            records += [f"{word}{i}     = '{field}'" for field in fields]
        headers.append(wcs_header("TAN") + records)
    headers.append([card.replace("=", "A=").replace(" A=", "A=") for card in wcs_header("TAN")])
    plate = {
        "PLTRAH": 3,
        "PLTRAM": 4,
        "PLTRAS": 5.0,
        "PLTDECSN": "+",
        "PLTDECD": 6,
        "PLTDECM": 7,
        "PLTDECS": 8.0,
    }
    plate |= {"PPO3": 1e5, "PPO6": 1e5, "XPIXELSZ": 25.0, "YPIXELSZ": 25.0, "CNPIX1": 1, "CNPIX2": 1}
    plate |= {f"AMD{axis}{i}": 0.1 / i for axis in "XY" for i in range(1, 14)}
    headers.append([f"{key:8}= {value!r:>20}" for key, value in plate.items()])
    dates = {
        "DATE-OBS": "2001-02-03T04:05:06",
        "MJDREF": 51544.5,
        "TIMESYS": "UTC",
        "OBSGEO-X": 1e6,
        "VELREF": 257,
    }
    headers.append(wcs_header("CAR", **dates, RADECSYS="FK5", RESTFREQ=1e9, NAXIS1=100))
    return [
        bytes([0, 1, i, i % 2, *range(16)]) + "\n".join(cards).encode() + b"\n"
        for i, cards in enumerate(headers)
    ]


def main() -> None:
    root = Path(sys.argv[1])
    targets = {
        "header": header_inputs(),
        "image": image_inputs(),
        "files": file_inputs(),
        "table": table_inputs(),
        "heap": heap_inputs(),
        "rice": rice_inputs() + rice_ends(),
        "deflate": deflate_inputs(),
        "gzip_parts": gzip_parts_inputs(),
        "quantise": quantise_inputs(),
        "hcompress": hcompress_inputs(),
        "plio": plio_inputs(),
        "tiles": tiles_inputs(),
        "wcs": wcs_inputs(),
    }
    for name, inputs in targets.items():
        folder = root / f"fuzz_{name}"
        folder.mkdir(parents=True, exist_ok=True)
        for i, data in enumerate(inputs):
            (folder / f"{i:03d}").write_bytes(data)


if __name__ == "__main__":
    main()
