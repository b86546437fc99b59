"""The malformed files, by class, each with what is due for it; compressed images are in `malformed_tiles`."""

from __future__ import annotations

import bz2
import gzip
import struct
from typing import Any

from malformed import (
    BLOCK,
    COLUMNS,
    FORMAT,
    GOOD,
    PIXELS,
    TEXT_VALUES,
    UNSUPPORTED,
    VALUES,
    Cases,
    between,
    card,
    header,
    heap_table,
    image,
    image_cards,
    long_card,
    noise,
    pad,
    swapped,
    table,
    text_table,
)

CASES = Cases()
add, add_read, add_lost, add_bad = CASES.add, CASES.add_read, CASES.add_lost, CASES.add_bad

# ---------------------------------------------------------------- the container
NO_END = header(image_cards(), end=b"")

add("empty", lambda: b"", FORMAT, "empty", step="open")
add_lost("one byte", lambda: b"S", "SIMPLE")
add_lost("text file", lambda: b"hello, world\n" * 40, "SIMPLE")
add_lost("all zeros", lambda: bytes(5 * BLOCK), "SIMPLE")
add_lost("noise", lambda: noise(9000), "SIMPLE")
add_lost("SIMPLE alone", lambda: card("SIMPLE", True), "END")
add_lost("no END, then the file ends", lambda: NO_END, "END")
add_lost("no END, then blanks", lambda: NO_END + b" " * 20 * BLOCK, "END")
add_lost("no END, then pixels", lambda: NO_END + bytes(range(256)) * 90, "END")
add_lost("END with a value", lambda: header(image_cards(), end=card("END", 5)), "END")
add_lost("END in lower case", lambda: header(image_cards(), end=b"end".ljust(80)), "END")
add_lost("END off the grid of cards", lambda: header(image_cards(), end=b"   END".ljust(80)), "END")
add_lost("NULs in the card END", lambda: NO_END.rstrip() + b"END".ljust(BLOCK, b"\0"), "END")
add_lost(
    "lines of text for cards", lambda: b"\n".join(card(k, v)[:79] for k, v in image_cards().items()), "END"
)
add_lost("second header without END", lambda: image() + header(image_cards(1), end=b""), "END", 1)
add_lost("second header cut", lambda: image() + image(1)[:300], "END", 1)
add_lost("second header of noise", lambda: image() + card("XTENSION", "IMAGE") + noise(9000), "END", 1)
add("no data at all", lambda: header(image_cards()), FORMAT, "cut short", hdu=0)
add("data cut by a byte", lambda: header(image_cards()) + PIXELS[:-1], FORMAT, "cut short", hdu=0)
add(
    "second data cut",
    lambda: image() + header(image_cards(1)) + PIXELS[:4],
    FORMAT,
    "cut short",
    reads={0: VALUES},
)
add("data without padding", lambda: header(image_cards()) + PIXELS, reads={0: VALUES})
add("second data without padding", lambda: (image() + image(1)).rstrip(b"\0"), reads={0: VALUES, 1: VALUES})
add("junk after the last HDU", lambda: image() + b"junk" * 999, reads={0: VALUES}, warns="no HDU")
add("NULs after the last HDU", lambda: image() + bytes(2 * BLOCK), reads={0: VALUES}, warns="padding")
add("SIMPLE = F", lambda: image(SIMPLE=False), reads={0: VALUES})
add("unknown XTENSION", lambda: between(image(1, XTENSION="PONY")), reads=GOOD)
add("XTENSION a number", lambda: between(image(1, XTENSION=7)), reads=GOOD)

# ---------------------------------------------------------------- header bulk
for name, count, more in (
    ("a million COMMENT cards", 10**6, lambda: [b"COMMENT x".ljust(80) * 10**6]),
    ("a hundred thousand keywords", 10**5, lambda: [card(f"K{i}", i) for i in range(10**5)]),
    (
        "a hundred thousand HIERARCH",
        10**5,
        lambda: [f"HIERARCH A{i} = 1".encode().ljust(80) for i in range(10**5)],
    ),
    ("a hundred thousand CONTINUE", 10**5, lambda: [long_card("LONG", "x" * 6 * 10**6)]),
    ("a hundred thousand EXTNAME", 10**5, lambda: [card("EXTNAME", "x") * 10**5]),
    ("WCS by the thousand", 50000, lambda: [card(f"PV{i % 99}_{i // 99}", 0.5) for i in range(50000)]),
):
    add(
        name,
        lambda more=more: image(0, *more()),
        hdu=0,
        reads={0: VALUES},
        seconds=20,
        memory=1000 * count + (1 << 26),
    )

# ---------------------------------------------------------------- NAXIS, BITPIX, PCOUNT, GCOUNT
for keyword, values in (
    (
        "NAXIS",
        (-1, 1000, 2.5, "two", True, None, b"9" * 70, b"2 3", b"0x2", b"", b"2_0", b"\t2", b"2\0", b"1E0"),
    ),
    ("BITPIX", (17, 0, -8, "16", None, b"(16, 0)", b"1\xff6", 2**64 + 16, 16.0)),
    ("NAXIS1", (-3, None, 2**63, b"3E0", b"\xb2")),  # the last one is a digit to Python, not to FITS
    ("NAXIS2", (None, "2", b"2 / 3 / 4"[:1] + b"x")),
    ("PCOUNT", (-1, 2**64, 0.5)),
    ("GCOUNT", (-1, "1")),
):
    for value in values:
        add_lost(f"{keyword} = {value!r}", lambda k=keyword, v=value: between(image(1, **{k: v})), keyword, 1)
for name, changes in (
    ("of pixels overflows", {"NAXIS1": 2**62}),
    ("of bytes overflows", {"NAXIS1": 2**63 - 1}),
    ("of pixels wraps to nothing", {"lengths": (2**32, 2**32)}),
    ("of 999 axes overflows", {"lengths": (2,) * 999}),
    ("of groups overflows", {"GCOUNT": 2**62}),
    ("of parameters overflows", {"PCOUNT": 2**63 - 1}),
):
    add_lost(f"number {name}", lambda changes=changes: between(image(1, **changes)), "beyond any file", 1)
add_lost("no value indicator", lambda: between(image(1).replace(b"NAXIS   = ", b"NAXIS     ")), "NAXIS", 1)
add(
    "axes larger than the file",
    lambda: image() + image(1, lengths=(2**20, 2**20)),
    FORMAT,
    "cut short",
    reads={0: VALUES},
)
for count in (65, 99, 999):
    add_bad(
        f"{count} axes",
        lambda n=count: image(1, lengths=(1,) * n, data=b"\0\5"),
        f"{count} axes",
        UNSUPPORTED,
    )
for count in (9, 10, 40, 64):
    values: Any = [0, 1, 2, 3, 4, 5]
    for _ in range(count - 1):
        values = [values]
    add_read(f"{count} axes, legal", lambda n=count: image(1, lengths=(6,) + (1,) * (n - 1)), values)
for name, lengths in (("2^40", (0, 2**40)), ("2^63 - 1", (0, 2**63 - 1))):
    add(
        f"{name} rows of nothing",
        lambda lengths=lengths: between(image(1, lengths=lengths, data=b"")),
        reads=GOOD,
    )
add_bad(
    "2^62 x 2^62 rows of nothing",
    lambda: image(1, lengths=(0, 2**62, 2**62), data=b""),
    "beyond torch",
    UNSUPPORTED,
)
add_read("NAXIS after its axes", lambda: swapped("NAXIS", "NAXIS2"), VALUES)
add_read("BITPIX after the axes", lambda: swapped("BITPIX", "NAXIS2"), VALUES)
add_read("NAXIS1 twice", lambda: image(1, card("NAXIS1", 2)), VALUES)
add_read("BITPIX twice", lambda: image(1, card("BITPIX", -64)), VALUES)
add_read("PCOUNT twice", lambda: image(1, card("PCOUNT", 2)), VALUES)
add_read("PCOUNT twice, overflowing", lambda: image(1, card("PCOUNT", 2**32)), VALUES)
for keyword, value in (("PCOUNT", 1), ("GCOUNT", 0), ("GCOUNT", 2)):
    # as many bytes as are announced, so that the next HDU is found
    add_bad(
        f"image with {keyword} = {value}",
        lambda k=keyword, v=value: image(1, data=PIXELS if v else b"", **{k: v}),
        keyword,
    )
    add(
        f"primary with {keyword} = {value}",
        lambda k=keyword, v=value: image(**{k: v}) + image(1),
        reads={0: VALUES, 1: VALUES},
    )
add_read("PCOUNT and GCOUNT missing", lambda: image(1, PCOUNT=None, GCOUNT=None), VALUES)
for keyword, value in (
    ("BSCALE", 0),
    ("BSCALE", "one"),
    ("BZERO", b"1E999"),
    ("BZERO", b"NaN"),
    ("BSCALE", True),
):
    add_bad(f"{keyword} = {value!r}", lambda k=keyword, v=value: image(1, **{k: v}), keyword)
add_read("BLANK = 0.5", lambda: image(1, BLANK=0.5), VALUES, warns="BLANK")
add_read("BLANK of 70 digits", lambda: image(1, BLANK=b"9" * 70), VALUES)

# ---------------------------------------------------------------- text that is no text
add_read("bytes in a COMMENT", lambda: image(1, b"COMMENT \xff\0\x80".ljust(80)), VALUES)
add_read("bytes in EXTNAME", lambda: image(1, card("EXTNAME", b"'\xe9\x01\xff'")), VALUES, warns="EXTNAME")
add_read("a NUL in EXTNAME", lambda: image(1, card("EXTNAME", b"'a\0b'")), VALUES, warns="EXTNAME")
add_read("EXTNAME without its end quote", lambda: image(1, card("EXTNAME", b"'abc")), VALUES, warns="EXTNAME")
add_read("EXTNAME a number, EXTVER a text", lambda: image(1, EXTNAME=5, EXTVER="x"), VALUES)
add_read("EXTVER of 70 digits", lambda: image(1, EXTVER=b"9" * 70), VALUES)
add_read("bytes for a keyword", lambda: image(1, bytes(range(128, 208))), VALUES)

# ---------------------------------------------------------------- binary tables: the columns
FORMS = {
    "an unknown letter": "Z",
    "nothing": "",
    "a sign": "-1J",
    "25 digits": "9" * 25 + "J",
    "two descriptors": "2PJ(3)",
    "a descriptor of nothing": "1P",
    "a descriptor of descriptors": "PP",
    "a digit": "4",
    "blanks": "    ",
    "a foreign digit": "\xb2J",
}
for name, form in FORMS.items():
    add_bad(f"TFORM of {name}", lambda form=form: table(TFORM1=form), "TFORM1")
add_bad("TFORM a number", lambda: table(TFORM1=4), "TFORM1")
add_bad("TFORM missing", lambda: table(TFORM2=None), "TFORM2")
add_bad("TFORM of 5000 digits", lambda: table(long_card("TFORM1", "9" * 5000 + "J"), TFORM1=None), "TFORM1")
for name, says, changes in (
    ("TFORM too wide", "NAXIS1", {"TFORM1": "2J"}),
    ("TFORM too narrow", "NAXIS1", {"TFORM1": "I"}),
    ("TFORM far too wide", "NAXIS1", {"TFORM1": "9" * 18 + "J"}),
    ("TFIELDS too many", "TFORM3", {"TFIELDS": 3}),
    ("TFIELDS too few", "NAXIS1", {"TFIELDS": 1}),
    ("TFIELDS negative", "TFIELDS", {"TFIELDS": -1}),
    ("TFIELDS 1000", "TFIELDS", {"TFIELDS": 1000}),
    ("TFIELDS missing", "TFIELDS", {"TFIELDS": None}),
    ("NAXIS1 too small", "NAXIS1", {"NAXIS1": 5}),
    ("NAXIS1 too large", "NAXIS1", {"NAXIS1": 7}),
    ("table of three axes", "axes", {"NAXIS": 3, "NAXIS3": 1}),
    ("table of one axis", "axes", {"NAXIS": 1}),
    ("table with BITPIX 16", "BITPIX", {"BITPIX": 16, "NAXIS2": 1}),
):
    add_bad(name, lambda changes=changes: table(**changes), says)
# whatever follows is where the header does not say it is
add(
    "rows of NAXIS1 = 0",
    lambda: between(table(NAXIS1=0)),
    FORMAT,
    "NAXIS1",
    reads={0: VALUES},
    warns="no HDU",
)
add_lost("NAXIS2 negative", lambda: between(table(NAXIS2=-1)), "NAXIS2", 1)
add_lost("rows overflow", lambda: image() + table(NAXIS1=2**32, NAXIS2=2**32), "beyond any file", 1)
add("NAXIS2 lies", lambda: image() + table(NAXIS2=2**50), FORMAT, "cut short", reads={0: VALUES})
add_read(
    "no row of a terabyte",
    lambda: table(forms=("1099511627776B",), rows=b"", nrows=0, NAXIS1=2**40),
    {"A": f"torch.uint8 (0, {2**40})"},
)
add_read(
    "columns of no width",
    lambda: table(forms=("0J", "0A", "0X", "J"), rows=b"\0\0\0\7", nrows=1),
    {"A": [[]], "B": [[]], "C": [[]], "D": [7]},
)
add_read("rows of no width", lambda: table(forms=("0J",), rows=b"", nrows=5, NAXIS1=0), {"A": [[]] * 5})
add_read("no columns", lambda: table(forms=(), rows=b"", nrows=0, NAXIS1=0), {})
add_read("2^60 rows of no columns", lambda: table(forms=(), rows=b"", nrows=2**60, NAXIS1=0), {})
add(
    "2^50 rows of no width",
    lambda: between(table(forms=("0J",), rows=b"", nrows=2**50, NAXIS1=0)),
    reads=GOOD,
)
add_bad(
    "2^50 rows of no arrays",
    lambda: table(forms=("0PJ",), rows=b"", nrows=2**50, NAXIS1=0),
    "hold nothing",
    UNSUPPORTED,
    step="column",
    column="A",
)
FLAT = {"A": [[1], [2], [3]], "B": COLUMNS["B"]}
for text in ("(0,0)", "(-1,2)", "1,1", "(1", "(2,3)", "(4294967296,4294967296)", "(x)", "()", 3, "(\xb2)"):
    add_read(f"TDIM = {text!r}", lambda text=text: table(TDIM1=text), FLAT, warns="TDIM1")
for name, text in (("100 axes", f"({'1,' * 99}1)"), ("5000 digits", f"({'9' * 5000})")):
    add_read(f"TDIM of {name}", lambda text=text: table(long_card("TDIM1", text)), FLAT, warns="TDIM1")
for keyword, value in (
    ("TNULL1", "x"),
    ("TNULL1", 2.5),
    ("TNULL1", 2**70),
    ("TNULL1", b"9" * 70),
    ("TNULL2", 99999),
    ("TUNIT1", 5),
    ("TDISP1", "nonsense"),
    ("THEAP", 18),
    ("TBCOL1", "x"),
):
    add_read(f"{keyword} = {str(value)[:20]!r}", lambda k=keyword, v=value: table(**{k: v}), COLUMNS)
add_read("TTYPE twice", lambda: table(TTYPE2="A"), {"A": [1, 2, 3], "A_2": [10, 20, 30]}, warns="TTYPE2")
add_read("TTYPE missing", lambda: table(TTYPE1=None, TTYPE2=None), {"COL1": [1, 2, 3], "COL2": [10, 20, 30]})
add_read("TTYPE a number", lambda: table(TTYPE1=7), {"7": [1, 2, 3], "B": [10, 20, 30]})
add_read("a display suffix", lambda: table(forms=("1J5", "I2")), COLUMNS, warns="suffix")
for keyword, value in (
    ("TSCAL1", 0),
    ("TSCAL1", "x"),
    ("TZERO1", b"NaN"),
    ("TZERO1", b"1E999"),
    ("TSCAL1", True),
):
    add_bad(
        f"{keyword} = {value!r}",
        lambda k=keyword, v=value: table(**{k: v}),
        keyword,
        step="column",
        column="A",
        reads={**GOOD, 1: {"B": COLUMNS["B"]}},
    )

# ---------------------------------------------------------------- heaps and descriptors
HEAP = struct.pack(">5i", *range(5))
for name, form, bad in (
    ("of negative length", "PJ(3)", (-1, 0)),
    ("of negative offset", "PJ(3)", (1, -4)),
    ("past the end", "PJ(3)", (3, 12)),
    ("from the end on", "PJ(3)", (1, 20)),
    ("of 2^31 - 1 elements", "PJ(3)", (2**31 - 1, 0)),
    ("of 2^61 elements", "QJ(3)", (2**61, 0)),
    ("of 2^62 elements", "QJ(3)", (2**62, 0)),
    ("of 2^63 - 1 elements", "QJ(3)", (2**63 - 1, 0)),
    ("at 2^61", "QJ(3)", (1, 2**61)),
    ("at 2^63 - 1", "QJ(3)", (1, 2**63 - 1)),
    ("of -2^63 elements", "QJ(3)", (-(2**63), 0)),
    ("of 2^61 complex", "QM(3)", (2**61, 0)),
    ("of 2^63 - 1 bits", "QX(3)", (2**63 - 1, 0)),
    ("of too many bits", "PX(3)", (161, 0)),
    ("of too many bytes", "PA(3)", (21, 0)),
):
    add_bad(
        f"descriptor {name}",
        lambda form=form, bad=bad: heap_table([(1, 0), bad, (1, 4)], HEAP, form),
        "'B', row 1",
        step="column",
        column="B",
        reads={**GOOD, 1: {"A": [0, 1, 2]}},
    )
add_read(
    "descriptors of no elements, anywhere",
    lambda: heap_table([(1, 0), (0, -7), (0, 2**30)], HEAP),
    {"A": [0, 1, 2], "B": [[0], [], []]},
)
add_read(
    "two rows onto one body", lambda: heap_table([(2, 0), (2, 0)], HEAP), {"A": [0, 1], "B": [[0, 1]] * 2}
)
for form, size in (("PJ(5000)", 5000), ("QB(20000)", 20000), ("PX(160000)", 160000)):
    add_bad(
        f"thousands of rows onto one body, {form}",
        lambda form=form, size=size: heap_table([(size, 0)] * 5000, bytes(20000), form),
        "overlap",
        step="column",
        column="B",
    )
for value in (10, -1, 2**63, 24.5, "x"):
    add_bad(
        f"THEAP = {value!r}", lambda value=value: heap_table([(1, 0), (1, 4)], HEAP, THEAP=value), "THEAP"
    )
add_bad(
    "THEAP = 2^40",
    lambda: heap_table([(1, 0), (1, 4)], HEAP, THEAP=2**40),
    "'B', row 0",
    step="column",
    column="B",
)
add_bad(
    "PCOUNT smaller than the heap",
    lambda: heap_table([(1, 0), (3, 4)], HEAP, PCOUNT=8),
    "'B', row 1",
    step="column",
    column="B",
)
add(
    "PCOUNT beyond the file",
    lambda: image() + heap_table([(1, 0)], HEAP, PCOUNT=2**40),
    FORMAT,
    "cut short",
    reads={0: VALUES},
)
add(
    "heap cut",
    lambda: image() + heap_table([(1, 0)], bytes(4000))[:-BLOCK],
    FORMAT,
    "cut short",
    reads={0: VALUES},
)
add_read(
    "array longer than TFORM says",
    lambda: heap_table([(5, 0)], HEAP, "PJ(2)"),
    {"A": [0], "B": [[0, 1, 2, 3, 4]]},
)
add_read(
    "TFORM with an absurd maximum",
    lambda: heap_table([(1, 4)], HEAP, "PJ(99999999999999999999)"),
    {"A": [0], "B": [[1]]},
)

# ---------------------------------------------------------------- ASCII tables
for keyword, value, says in (
    ("TBCOL1", 0, "TBCOL1"),
    ("TBCOL1", -5, "TBCOL1"),
    ("TBCOL1", 2**63, "TBCOL1"),
    ("TBCOL3", 10, "NAXIS1"),
    ("TBCOL2", None, "TBCOL2"),
    ("TBCOL2", "4", "TBCOL2"),
    ("TFORM1", "I", "TFORM1"),
    ("TFORM1", "X3", "TFORM1"),
    ("TFORM1", "I999999999999999999", "NAXIS1"),
    ("TFORM1", "I" + "9" * 30, "TFORM1"),
    ("TFORM2", "F-1.2", "TFORM2"),
    ("TFORM3", "", "TFORM3"),
    ("TFORM2", "F5.999", "TFORM2"),
    ("TFORM2", "F0.0", "TFORM2"),
    ("TFORM3", "A0", "TFORM3"),
):
    add_bad(f"ASCII {keyword} = {value!r}", lambda k=keyword, v=value: text_table(**{k: v}), says)
add(
    "ASCII rows of NAXIS1 = 0",
    lambda: between(text_table(NAXIS1=0)),
    FORMAT,
    "NAXIS1",
    reads={0: VALUES},
    warns="no HDU",
)
add_bad(
    "ASCII 2^50 rows of no width", lambda: text_table(b"", 2**50, NAXIS1=0, TFIELDS=1, TFORM1="A0"), "TFORM1"
)
add_read("ASCII table that is good", text_table, TEXT_VALUES)
for name, row, column in (
    ("a word for an integer", b"abc  1.5abc", "A"),
    ("a word for a float", b"  1  xyzabc", "B"),
    ("digits grouped", b"1_0  1.5abc", "A"),
    ("bytes for a float", b"  1\xff\xfe\0\1\2abc", "B"),
    ("nan for a float", b"  1  nanabc", "B"),
    ("inf for a float", b"  1 -infabc", "B"),
    ("hexadecimal", b"0x1  1.5abc", "A"),
    ("foreign digits", b"\xb2\xb2\xb2  1.5abc", "A"),
    ("a sign alone", b"  -  1.5abc", "A"),
):
    rest = {key: values for key, values in TEXT_VALUES.items() if key != column}
    rest = {**rest, "B": [1.5, -2.5]} if column == "A" else rest
    add_bad(
        f"ASCII field: {name}",
        lambda row=row: text_table(row + b"  2 -2.5def"),
        f"'{column}', row 0",
        step="column",
        column=column,
        reads={**GOOD, 1: rest},
    )
add_read(
    "ASCII field: blank after the sign",
    lambda: text_table(b"- 1  1.5abc  2 -2.5def"),
    {**TEXT_VALUES, "A": [-1, 2]},
    warns="sign",
)
add_read(
    "ASCII field: blank",
    lambda: text_table(b"        abc  2 -2.5def"),
    {**TEXT_VALUES, "A": [0, 2], "B": ["nan", -2.5]},
)
add_bad(
    "ASCII integer beyond 64 bits",
    lambda: text_table(b"9" * 20 + b"1.5", 1, TFIELDS=2, TFORM1="I20", TBCOL2=21, TFORM2="F3.1"),
    "'A', row 0",
    step="column",
    column="A",
    reads={**GOOD, 1: {"B": [1.5]}},
)
for size in (400, 5000):
    add_bad(
        f"ASCII integer of {size} digits, scaled",
        lambda n=size: text_table(b"9" * n, 1, TFIELDS=1, TFORM1=f"I{n}", TSCAL1=2.5),
        "'A', row 0",
        step="column",
        column="A",
    )
add(
    "ASCII float beyond a double",
    lambda: between(text_table(b" 1E999", 1, TFIELDS=1, TFORM1="E6.1", TBCOL1=1)),
    reads=GOOD,
)
add_read(
    "ASCII columns overlap", lambda: text_table(TBCOL3=1), {**TEXT_VALUES, "C": [[32, 32, 49], [32, 32, 50]]}
)

# ---------------------------------------------------------------- whole files, compressed
TWO = image() + image(1)
BOTH = {0: VALUES, 1: VALUES}
for name, squeeze in (("gzip", gzip.compress), ("bzip2", bz2.compress)):
    add(f"{name} that is good", lambda squeeze=squeeze: squeeze(TWO), reads=BOTH)
    add(f"{name}, two members", lambda squeeze=squeeze: squeeze(image()) + squeeze(image(1)), reads=BOTH)
    add(
        f"{name} bomb after the last HDU",
        lambda squeeze=squeeze: squeeze(TWO + bytes(1 << 27)),
        reads=BOTH,
        warns="padding",
    )
    add(
        f"{name}, larger than its bytes",
        lambda squeeze=squeeze: squeeze(image(lengths=(2**20, 2**20))),
        FORMAT,
        "cut short",
        hdu=0,
    )
    add_lost(f"{name} cut in its header", lambda squeeze=squeeze: squeeze(TWO)[:8], "cut short")
    add_lost(f"{name} of nothing", lambda squeeze=squeeze: squeeze(b""), "SIMPLE")
    add_lost(f"{name} of noise", lambda squeeze=squeeze: squeeze(noise(5000)), "SIMPLE")
    add_lost(f"{name} in {name}", lambda squeeze=squeeze: squeeze(squeeze(TWO)), "SIMPLE")
    add_lost(
        f"{name} damaged",
        lambda squeeze=squeeze: squeeze(TWO)[:40] + b"\xff" * 20 + squeeze(TWO)[60:],
        "damaged",
    )
    add(
        f"{name} bomb before END",
        lambda squeeze=squeeze: squeeze(NO_END + b" " * 150_000_000),
        FORMAT,
        "END",
        step="find",
        hdu=0,
        memory=1 << 29,
        seconds=8,
    )
add(
    "gzip cut in the middle",
    lambda: gzip.compress(TWO + image(1, data=noise(6000), lengths=(3000,)))[:-2000],
    FORMAT,
    "compressed stream",
    hdu=2,
    reads=BOTH,
)
add("gzip with junk after it", lambda: gzip.compress(TWO) + b"junk", reads=BOTH)
add_lost("gzip magic alone", lambda: b"\x1f\x8b", "cut short")
add_lost("gzip with a wrong check sum", lambda: gzip.compress(TWO)[:-8] + bytes(8), "damaged")
add_lost("gzip of unknown method", lambda: b"\x1f\x8b\x09" + bytes(50), "damaged")
for name, magic in (("compress", b"\x1f\x9d\x90abc"), ("zip", b"PK\3\4abc"), ("xz", b"\xfd7zXZ\0abc")):
    add(f"{name} file", lambda magic=magic: pad(magic), UNSUPPORTED, "decompress", step="open")
