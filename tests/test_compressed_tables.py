"""Tile-compressed tables: what fpack and a slow compressor write is read as the plain table; and bad ones."""

from __future__ import annotations

import gzip
import struct
import subprocess
import sys
from contextlib import suppress

import numpy as np
import pytest
import torch
from astropy.io import fits
from conftest import corpus_root
from hypothesis import given, settings
from hypothesis import strategies as st
from images import torch_threads
from tables import (
    Field,
    assert_column,
    assert_nulls,
    binary_table,
    file_of,
    random_rows,
    random_table,
    slow_hdus,
    slow_table,
)
from ztables import compress, funpack, uncompress
from ztables import fpack as run_fpack

import torchfits
from torchfits import FitsFormatError, FitsUnsupported, FitsWarning
from torchfits.compressed_table import CompressedReader

pytestmark = pytest.mark.native
NROWS = 301
CODECS = ["GZIP_1", "GZIP_2", "RICE_1", "NOCOMPRESS", ""]
# what fpack takes; it loses arrays of bits, and funpack breaks down at complex numbers and arrays of text
READABLE = [
    *[Field(code, repeat) for code in "LXBIJKAED" for repeat in (1, 3)],
    Field("X", 17), Field("E", 0), Field("A", 12, dims=(4, 3)), Field("E", 6, dims=(3, 2)),
    Field("I", null=7), Field("B", null=0), Field("J", zero="2147483648", null=-5),
    Field("K", 2, scale="0.1", null=7), Field("I", scale="2.0", zero="-3.5"), Field("D", scale="2.0"),
    Field("B", zero="-128"),
    *[Field(form, 1, code, longest=40) for form in "PQ" for code in "LBIJKED"],
    Field("P", 1, "J", null=7), Field("P", 1, "I", zero="32768"), Field("Q", 1, "E", dims=(2, 3)),
]  # fmt: skip
COMPLEX = [*[Field(code, repeat) for code in "CM" for repeat in (1, 3)],
           *[Field(form, 1, code) for form in "PQ" for code in "CMA"]]  # fmt: skip
ALL = [*READABLE, *COMPLEX, Field("P", 1, "X", longest=70), Field("Q", 1, "X")]
ROWS = [
    slice(None), slice(3, 290, 7), slice(5, None, 150), slice(100, 100), [5, -1, 5, 300, 0, 64, 63], [],
    [299], list(range(0, 301, 3)), torch.arange(300, -1, -1),
]  # fmt: skip


def codec_of(field: Field, codec: str) -> str:
    """The codec, where it can be for such a column; fpack sees to it in the same way."""
    return "GZIP_1" if codec == "RICE_1" and (field.element or field.code) not in "BIJ" else codec


def check(path, plain: bytes, rows=None, columns=None) -> None:
    """What is read are the values of the plain file."""
    numbers = None if rows is None else torch.arange(slow_table(plain, only=[]).nrows)[rows].tolist()
    with torchfits.open(path) as f:
        for nulls in ("mask", "nan"):
            slow = slow_table(plain, nan_nulls=nulls == "nan", columns=columns)
            for ragged in ("offsets", "nested"):
                found = f[1].read_table(columns, rows, nulls=nulls, ragged=ragged)
                found, masks = found if nulls == "mask" else (found, {})
                assert len(found) == len(slow.columns)
                for column, values in zip(slow.columns, found.values(), strict=True):
                    assert_column(values, column, numbers)
                assert set(masks) <= set(found)
                for column in slow.columns:
                    if column.name in masks:
                        assert_nulls(masks[column.name], column, numbers)
                    else:
                        assert nulls == "nan" or column.nulls is None


# ---------------------------------------------------------------------------- what fpack writes


def packed(folder, fields, side, codec, nrows=NROWS):
    """A plain file and what fpack makes of it, as paths."""
    cards: dict[str, object] = {"FZTILELN": side} if side else {}
    for i, each in enumerate(fields, 1):
        if codec:
            cards[f"FZALG{i}"] = f"'{codec_of(each, codec)}'"
    rows, heap = random_rows(fields, nrows)
    plain, path = folder / "plain.fits", folder / "packed.fits"
    plain.write_bytes(file_of(binary_table(fields, rows, nrows, heap, **cards)))
    run_fpack(plain, path)
    assert b"ZTABLE" in path.read_bytes()
    return plain, path


@pytest.mark.parametrize("side", [1, 64, 150, 301, 0])
@pytest.mark.parametrize("codec", ["GZIP_1", "GZIP_2", "RICE_1", ""])
def test_what_fpack_writes(tmp_path, codec, side):
    plain, path = packed(tmp_path, [*READABLE, *COMPLEX], side, codec)
    check(path, plain.read_bytes())
    slow = uncompress(path.read_bytes())
    assert [each.cells for each in slow_table(slow).columns] == [
        each.cells for each in slow_table(plain.read_bytes()).columns
    ]


@pytest.mark.parametrize("side", [1, 64, 301])
def test_any_rows_of_what_fpack_writes(tmp_path, side):
    fields = [Field("I", null=7), Field("K", zero="9223372036854775808"), Field("X", 11), Field("A", 5),
              Field("P", 1, "J", null=7), Field("Q", 1, "M"), Field("P", 1, "A")]  # fmt: skip
    plain, path = packed(tmp_path, fields, side, "")
    for rows in ROWS:
        check(path, plain.read_bytes(), rows)


@pytest.mark.parametrize("codec", ["GZIP_1", "GZIP_2", "RICE_1", ""])
def test_what_funpack_makes_of_it(tmp_path, codec):
    _, path = packed(tmp_path, READABLE, 64, codec)
    check(path, funpack(path, tmp_path / "unpacked.fits").read_bytes())


def test_the_header_is_that_of_the_plain_table(tmp_path):
    arrays = np.empty(2000, dtype=object)
    arrays[:] = [np.arange(i % 3) for i in range(2000)]
    columns = [
        fits.Column("A", "J", array=np.arange(2000), unit="m", null=5, disp="I6"),
        fits.Column("V", "PI()", array=arrays),
    ]
    hdu = fits.BinTableHDU.from_columns(columns, name="EVENTS", ver=3)
    hdu.header.add_comment("kept, too")
    hdu.add_checksum()
    plain, path, back = tmp_path / "plain.fits", tmp_path / "packed.fits", tmp_path / "back.fits"
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(plain)
    funpack(run_fpack(plain, path), back)
    ours, theirs = torchfits.read_header(path, 1), torchfits.read_header(back, 1)
    # funpack computes another CHECKSUM
    mine, its = (
        [card.to_bytes() for card in each.cards if card.keyword != "CHECKSUM"] for each in (ours, theirs)
    )
    assert mine == its
    original = torchfits.read_header(plain, 1)
    assert [card.to_bytes() for card in ours.cards] == [card.to_bytes() for card in original.cards]
    keys = ["NAXIS1", "NAXIS2", "PCOUNT", "TFORM2", "ZTABLE"]
    found = torchfits.read_keys([path], keys, ("EVENTS", 3))
    assert [each[0] for each in found.values()] == [original.get(key) for key in keys]


# ---------------------------------------------------------------------------- what the slow compressor writes


@pytest.mark.parametrize("pointer", ["P", "Q"])
@pytest.mark.parametrize("side", [1, 63, 301, 1000])
@pytest.mark.parametrize("codec", CODECS)
def test_every_codec(tmp_path, codec, side, pointer):
    plain, path = random_table(ALL, NROWS), tmp_path / "t.fits"
    path.write_bytes(compress(plain, side, [codec_of(each, codec) for each in ALL], pointer))
    check(path, plain)


@pytest.mark.parametrize("nrows", [0, 1, 2, 32, 33, 65])
def test_few_rows(tmp_path, nrows):
    plain, path = random_table(ALL, nrows), tmp_path / "t.fits"
    path.write_bytes(compress(plain, 32, [codec_of(each, "RICE_1") for each in ALL]))
    check(path, plain)
    if nrows:
        check(path, plain, [nrows - 1, 0, 0])


def test_tables_of_nothing(tmp_path):
    path = tmp_path / "t.fits"
    for fields in ([], [Field("E", 0), Field("A", 0)]):
        for nrows in (0, 9):
            plain = random_table(fields, nrows)
            path.write_bytes(compress(plain, 4, ["GZIP_2"] * len(fields)))
            check(path, plain)


def test_arrays_in_any_order_and_shared(tmp_path):
    fields, path = [Field("P", 1, "J"), Field("Q", 1, "D"), Field("P", 1, "A")], tmp_path / "t.fits"
    for heaped in ("apart", "shuffled", "shared"):
        plain = random_table(fields, NROWS, heaped=heaped)
        path.write_bytes(compress(plain, 64, ["RICE_1", "GZIP_2", "GZIP_1"]))
        for rows in ROWS:
            check(path, plain, rows)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_table(tmp_path_factory, data):
    fields = data.draw(st.lists(st.sampled_from(ALL), min_size=1, max_size=6))
    nrows = data.draw(st.integers(0, 150))
    codecs = [codec_of(each, data.draw(st.sampled_from(CODECS))) for each in fields]
    plain = random_table(fields, nrows, data.draw(st.integers(0, 99)))
    path = tmp_path_factory.mktemp("any") / "t.fits"
    path.write_bytes(
        compress(plain, data.draw(st.integers(1, 200)), codecs, data.draw(st.sampled_from("PQ")))
    )
    one = st.integers(-nrows, nrows - 1)
    listed = st.lists(one, max_size=20) if nrows else st.just([])
    sliced = st.builds(slice, st.integers(-200, 200), st.integers(-200, 200), st.integers(1, 99))
    columns = data.draw(st.none() | st.lists(st.integers(0, len(fields) - 1), unique=True).map(sorted))
    check(path, plain, data.draw(st.none() | listed | sliced), columns)


# ---------------------------------------------------------------------------- the rest of the interface

SMALL = [
    Field("K"),
    Field("J", null=7),
    Field("E"),
    Field("P", 1, "I"),
    Field("A", 5),
    Field("L"),
    Field("X", 11),
]


@pytest.fixture
def small(tmp_path):
    """A small table, compressed, and the same plain."""
    plain, path = tmp_path / "plain.fits", tmp_path / "t.fits"
    plain.write_bytes(random_table(SMALL, NROWS))
    path.write_bytes(
        compress(plain.read_bytes(), 64, ["GZIP_2", "RICE_1", "GZIP_2", "RICE_1", "GZIP_1", "", "GZIP_1"])
    )
    return path, plain


def test_streams_beyond_31_bits(tmp_path):
    """cfitsio writes P descriptors up to 4 GiB, without a sign, of streams too. The file has holes."""
    far, path = 2**31 + 8, tmp_path / "t.fits"
    plain = random_table([Field("J", 2), Field("A", 5)], NROWS)
    cards, _ = slow_hdus(compress(plain, 64, [""] * 2, "P"))[1]
    data = compress(plain, 64, [""] * 2, "P", {"PCOUNT": far + int(cards["PCOUNT"])})
    start = slow_hdus(data)[1][1]
    size = int(cards["NAXIS1"]) * int(cards["NAXIS2"])
    rows = np.frombuffer(data[start : start + size], ">u4").reshape(-1, 2).copy()
    rows[:, 1] += far
    end = start + size + far
    with path.open("wb") as file:
        file.write(data[:start] + rows.tobytes())
        file.seek(end)
        file.write(data[start + size :])
        file.truncate(end + len(data) - start - size + -(end + len(data) - start - size) % 2880)
    with torchfits.open(path) as f:
        found = f[1].read_table()
        for column in slow_table(plain).columns:
            assert_column(found[column.name], column)


def same(one, other) -> None:
    assert list(one) == list(other)
    for name in one:
        mine, theirs = (each[name].values() if each[name].is_nested else each[name] for each in (one, other))
        assert torch.equal(mine.view(torch.uint8), theirs.view(torch.uint8)), name


@pytest.mark.parametrize(
    "where", ["C2 > 50", "isnull(C2) or C3 < 0 and C6", "C7[2] or C5 == 'x'", "1 == 1", "C1 % 3 == 0"]
)
@pytest.mark.parametrize("rows", [None, slice(3, 290, 7), slice(0, None, 100), [300, 5, 5, 64]])
def test_filters(small, where, rows):
    with torchfits.open(small[0]) as f, torchfits.open(small[1]) as g:
        same(f[1].read_table(None, rows, where=where), g[1].read_table(None, rows, where=where))
        if rows is None:
            for mine, theirs in zip(
                f[1].iter_table(batch_rows=50, where=where),
                g[1].iter_table(batch_rows=50, where=where),
                strict=True,
            ):
                same(mine, theirs)


def test_everything_else_that_a_table_can(small):
    with torchfits.open(small[0]) as f, torchfits.open(small[1]) as g:
        assert f[1].columns == g[1].columns
        assert (f[1].nrows, len(f[1]), f[1].engine) == (NROWS, NROWS, "direct")
        assert torch.equal(f[1]["c1"], g[1]["c1"])
        pieces = zip(f[1].iter_table(batch_rows=100), g[1].iter_table(batch_rows=100), strict=True)
        for mine, theirs in pieces:
            same(mine, theirs)
        assert "301 rows x 7 columns" in repr(f[1])
        one, other = f[1].to_astropy(), g[1].to_astropy()
        assert one.pformat(max_lines=-1) == other.pformat(max_lines=-1)
        assert one.meta == other.meta
    index = [(small[0], 1, row) for row in (3, 300, -1, 3, 64)]
    same(
        torchfits.gather(index, ["C1", "C5"]),
        torchfits.gather([(small[1], 1, row) for _, _, row in index], ["C1", "C5"]),
    )
    with torchfits.open(small[0], engine="direct") as f:
        assert f[1]["C1"].shape == (NROWS,)
    with (
        torchfits.open(small[0], engine="cfitsio") as f,
        pytest.raises(FitsUnsupported, match="direct") as caught,
    ):
        f[1].read_table()
    assert (caught.value.path, caught.value.hdu) == (str(small[0]), 1)


@pytest.mark.parametrize("room", [1 << 26, 200, 0])
def test_tiles_are_decoded_once_in_an_iteration(small, monkeypatch, room):
    decoded = []

    def counted(self, column, tiles):
        decoded.extend((column.name, int(tile)) for tile in tiles)
        return decode(self, column, tiles)

    decode = CompressedReader._decode_streams
    monkeypatch.setattr(CompressedReader, "_decode_streams", counted)
    monkeypatch.setattr("torchfits.compressed_table._KEPT_BYTES", room)
    with torchfits.open(small[0]) as f, torchfits.open(small[1]) as plain:
        for count in (7, 64, 100):
            decoded.clear()
            for one, other in zip(
                f[1].iter_table(batch_rows=count), plain[1].iter_table(batch_rows=count), strict=True
            ):
                same(one, other)
            assert room < 1 << 26 or len(decoded) == len(set(decoded)) == 5 * len(f[1].columns)
        decoded.clear()
        found = [batch["C1"] for batch in f[1].iter_table(["C1"], 5, where="C1 != C1 or true")]
        assert torch.equal(torch.cat(found), plain[1]["C1"])


@pytest.mark.parametrize("threads", [1, 3])
def test_many_tiles_in_several_threads(tmp_path, threads):
    plain, path = tmp_path / "plain.fits", tmp_path / "t.fits"
    random = np.random.default_rng(1)
    columns = [("X", "D", random.normal(size=200_000)), ("N", "J", random.integers(0, 99, 200_000))]
    hdu = fits.BinTableHDU.from_columns([fits.Column(name, form, array=a) for name, form, a in columns])
    hdu.header["FZTILELN"] = 1000
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(plain)
    run_fpack(plain, path)
    with torch_threads(threads), torchfits.open(path) as f:
        for name, _, values in columns:
            assert np.array_equal(f[1][name].numpy(), values)


def test_in_a_gzip_file(small, tmp_path):
    whole = tmp_path / "t.fits.gz"
    whole.write_bytes(gzip.compress(small[0].read_bytes()))
    check(whole, small[1].read_bytes())


def test_on_the_command_line(small, tmp_path):
    def run(*arguments):
        command = [sys.executable, "-m", "torchfits", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert "301 rows x 7 columns" in run("info", small[0])
    assert "GZIP_1 GZIP_2 RICE_1" in run("info", small[0])
    for path in small:
        run("convert", path, tmp_path / f"{path.stem}.npz", "--hdu", "1")
    one, other = (np.load(tmp_path / f"{path.stem}.npz") for path in small)
    assert sorted(one) == sorted(other)
    for name in one:
        assert one[name].tobytes() == other[name].tobytes()


@pytest.mark.skipif(corpus_root() is None, reason="the corpus is not here")
@pytest.mark.parametrize("name", ["bt12", "testBinaryTable"])
def test_what_others_write(tmp_path, name):
    path = corpus_root() / "nom-tam-fits+nom-tam-fits" / f"{name}.fits.fz"
    plain = funpack(path, tmp_path / "plain.fits").read_bytes()
    with torchfits.open(path) as f:
        for column, values in zip(slow_table(plain).columns, f[1].read_table().values(), strict=True):
            assert_column(values, column)


# ---------------------------------------------------------------------------- what is wrong


@pytest.mark.parametrize("codec", ["GZIP_1", "GZIP_2", "RICE_1", "NOCOMPRESS"])
def test_only_what_is_asked_for_is_decoded(tmp_path, codec):
    fields, path = [Field("J"), Field("P", 1, "J"), Field("I")], tmp_path / "t.fits"
    plain = random_table(fields, NROWS)

    def damage(column, tile, stream):
        return b"" if column == 1 or tile == 2 else stream

    path.write_bytes(compress(plain, 64, [codec] * 3, damage=damage))
    for rows in (slice(0, 128), slice(192, None), slice(0, None, 192), [300, 5, 200]):
        check(path, plain, rows, [0, 2])
    with torchfits.open(path) as f:
        for column, rows, place in ((0, None, "tile 2"), (2, [5, 130], "tile 2"), (1, [3], "tile 0")):
            with pytest.raises(FitsFormatError, match=f"'C{column + 1}', {place}") as caught:
                f[1].read_table([column], rows)
            assert (caught.value.path, caught.value.hdu) == (str(path), 1)


def bomb(size: int) -> bytes:
    return gzip.compress(bytes(size))


STREAMS = {
    "cut": (lambda stream: stream[:-9], r"cut short|ends before|makes|stream of"),
    "of one byte": (lambda stream: stream[:1], r"is not gzip|ends before|makes|stream of"),
    "of nothing": (lambda stream: b"", r"stream of 0 bytes"),
    "a bomb": (lambda stream: bomb(10**8), r"makes (more|\d+)|no encoder|ends"),
    "too short inside": (lambda stream: bomb(255), r"makes|ends|no encoder"),
    "not of this kind": (lambda stream: b"\xff" * len(stream), r"is not gzip|no encoder|ends|right"),
}


# any bytes of the right number are uncompressed cells, and many are a Rice stream
UNKNOWABLE = [
    ("NOCOMPRESS", "not of this kind"), ("RICE_1", "not of this kind"), ("RICE_1", "a bomb"),
    ("RICE_1", "too short inside"),
]  # fmt: skip


@pytest.mark.parametrize("codec", ["GZIP_1", "GZIP_2", "RICE_1", "NOCOMPRESS"])
@pytest.mark.parametrize("how", STREAMS)
def test_streams_that_are_wrong(tmp_path, codec, how):
    make, message = STREAMS[how]
    path = tmp_path / "t.fits"
    fields = [Field("J"), Field("I", 2), Field("P", 1, "I")]

    def damage(_column, tile, stream):
        return make(stream) if tile == 1 else stream

    path.write_bytes(compress(random_table(fields, NROWS), 64, [codec] * 3, damage=damage))
    with torchfits.open(path) as f:
        for column in (0, 1, 2):
            if column < 2 and (codec, how) in UNKNOWABLE:
                continue
            with pytest.raises(FitsFormatError, match=message) as caught:
                f[1].read_table([column])
            assert f"'C{column + 1}', tile 1" in str(caught.value)
            assert (caught.value.path, caught.value.hdu) == (str(path), 1)
        assert f[1].read_table(rows=slice(0, 64))["C1"].shape == (64,)


def arrays_file(tmp_path, change, form="P", codec="GZIP_1"):
    """A table of one column of 20 arrays of 100 int16; `change` works on its two lists of descriptors."""
    path = tmp_path / "t.fits"
    count = 20

    def damage(_column, _tile, stream):
        cells, pair = gzip.decompress(stream), ">ii" if form == "P" else ">qq"
        middle = count * struct.calcsize(pair)
        plain = [list(each) for each in struct.iter_unpack(pair, cells[:middle])]
        streams = [list(each) for each in struct.iter_unpack(">qq", cells[middle:])]
        change(plain, streams)
        return gzip.compress(
            b"".join(struct.pack(pair, *each) for each in plain)
            + b"".join(struct.pack(">qq", *each) for each in streams)
        )

    heap = np.random.default_rng(3).integers(0, 4, 100 * count).astype(">i2").tobytes()
    rows = b"".join(struct.pack(">ii" if form == "P" else ">qq", 100, 200 * i) for i in range(count))
    plain = file_of(binary_table([Field(form, 1, "I")], rows, count, heap))
    path.write_bytes(compress(plain, count, [codec], damage=damage))
    return path


def setting(where: int, row: int, part: int, value: int):
    def change(*lists):
        lists[where][row][part] = value

    return change


ARRAYS = {
    "outside the heap": (setting(1, 3, 1, 10**6), "row 3: the descriptor .* outside the heap"),
    "before the heap": (setting(1, 3, 1, -1), "row 3: the descriptor .* outside the heap"),
    "a stream of less than nothing": (setting(1, 3, 0, -1), "row 3: the descriptor .* outside the heap"),
    "a stream of 2^62 bytes": (setting(1, 3, 0, 2**62), "row 3: the descriptor .* outside the heap"),
    "a stream cut": (setting(1, 3, 0, 7), "row 3: the .* stream (ends|is damaged or cut short)"),
    "no stream": (setting(1, 3, 0, 0), "row 3: 100 elements in a stream of 0 bytes"),
    "less than nothing": (setting(0, 3, 0, -1), "row 3: -1 elements"),
    "too many": (setting(0, 3, 0, 2**31 - 1), "row 3: 2147483647 elements in a stream of"),
    "more than there are": (setting(0, 3, 0, 101), "row 3: the .* stream (makes|ends)"),
    "fewer than there are": (setting(0, 3, 0, 99), "row 3: the .* stream (makes more|ends)"),
}


@pytest.mark.parametrize("codec", ["GZIP_1", "GZIP_2", "RICE_1"])
@pytest.mark.parametrize("how", ARRAYS)
def test_arrays_that_are_wrong(tmp_path, how, codec):
    change, message = ARRAYS[how]
    path = arrays_file(tmp_path, change, codec=codec)
    with torchfits.open(path) as f:
        assert f[1].read_table(rows=[0, 19, 4], ragged="offsets")["C1"][1].tolist() == [0, 100, 200, 300]
        if how == "fewer than there are" and codec == "RICE_1":
            return  # what follows in the stream is not looked at
        with pytest.raises(FitsFormatError, match=f"'C1', {message}") as caught:
            f[1].read_table()
        assert (caught.value.path, caught.value.hdu) == (str(path), 1)


def test_many_rows_onto_one_stream(tmp_path):
    path, fields = tmp_path / "t.fits", [Field("B", 1000)]
    plain = file_of(binary_table(fields, bytes(1000) * 500, 500))
    data = bytearray(compress(plain, 1, ["NOCOMPRESS"]))
    start = len(data) - (-(-500 * 1016 // 2880)) * 2880
    for tile in range(500):
        data[start + tile * 16 : start + tile * 16 + 16] = struct.pack(">qq", 400_000, 0)
    path.write_bytes(data)
    with torchfits.open(path) as f, pytest.raises(FitsFormatError, match="overlap"):
        f[1].read_table()


HEADERS = {
    "no ZNAXIS1": ({"ZNAXIS1": None}, "ZNAXIS1"),
    "no ZNAXIS2": ({"ZNAXIS2": None}, "ZNAXIS2"),
    "no ZTILELEN": ({"ZTILELEN": None}, "ZTILELEN"),
    "ZTILELEN of 0": ({"ZTILELEN": 0}, "ZTILELEN"),
    "ZTILELEN of less": ({"ZTILELEN": 30}, "11 tiles are announced, the table has 5 rows"),
    "ZTILELEN of text": ({"ZTILELEN": "'64'"}, "ZTILELEN"),
    "ZNAXIS1 of more": ({"ZNAXIS1": 999}, "ZNAXIS1 = 999, but the columns take"),
    "rows of less than nothing": ({"ZNAXIS2": -1}, "ZNAXIS2"),
    "rows beyond all": ({"ZNAXIS2": 2**63 - 1, "ZTILELEN": 2**63 - 1}, "beyond any memory"),
    "many rows": ({"ZNAXIS2": 2**50, "ZTILELEN": 2**50}, "'C1', tile 0: a stream of"),
    "more tiles": ({"ZNAXIS2": 400}, "7 tiles are announced"),
    "more rows": ({"ZNAXIS2": 320}, "'C1', tile 4: the GZIP_1 stream"),
    "fewer rows": ({"ZNAXIS2": 300}, "'C1', tile 4: the GZIP_1 stream makes more"),
    "ZFORM of another width": ({"ZFORM1": "'K'", "ZFORM2": "'J'"}, "'C1', tile 0: the GZIP_1 stream"),
    "no ZFORM": ({"ZFORM1": None}, "ZFORM1 must be a string"),
    "ZFORM of nonsense": ({"ZFORM1": "'1Z'"}, "ZFORM1 = '1Z' is no binary table format"),
    "ZFORM of arrays": ({"ZFORM1": "'PJ'", "ZFORM2": "'I'", "ZFORM3": "'I'"}, "ZNAXIS1"),
    "TFORM of numbers": ({"TFORM1": "'1QJ'"}, "'C1' cannot be read: TFORM1 = '1QJ'"),
    "TFORM of no stream": ({"TFORM1": "'16B'"}, "'C1' cannot be read: TFORM1 = '16B'"),
    "RICE_1 of reals": ({"ZCTYP2": "'RICE_1'"}, "'C2': RICE_1 compresses no 1D"),
    "PCOUNT of more": ({"PCOUNT": 10**6}, "cut short"),
    "THEAP in the rows": ({"THEAP": 16}, "THEAP"),
}


@pytest.mark.parametrize("how", HEADERS)
def test_headers_that_lie(tmp_path, how):
    cards, message = HEADERS[how]
    path, fields = tmp_path / "t.fits", [Field("J"), Field("D"), Field("I")]
    path.write_bytes(compress(random_table(fields, NROWS), 64, ["GZIP_1"] * 3, header=cards))
    with torchfits.open(path) as f, pytest.raises(FitsFormatError, match=message) as caught:
        f[1].read_table()
    assert (caught.value.path, caught.value.hdu) == (str(path), 1)


@pytest.mark.parametrize("columns", [["C2"], ["C3"]])
@pytest.mark.parametrize("where", [None, "1 == 1"])
def test_rows_that_take_no_bytes(tmp_path, columns, where):
    """There is no memory for 2^50 rows, not even for what a filter says of them."""
    path, fields = tmp_path / "t.fits", [Field("J"), Field("P", 0, "J"), Field("E", 0)]
    plain = random_table(fields, NROWS)
    path.write_bytes(compress(plain, 64, ["GZIP_1"] * 3))
    check(path, plain)
    path.write_bytes(compress(plain, NROWS, ["GZIP_1"] * 3, header={"ZNAXIS2": 2**50, "ZTILELEN": 2**50}))
    with torchfits.open(path) as f, pytest.raises(FitsFormatError, match="'C1', tile 0: a stream of"):
        f[1].read_table(columns, where=where)


def test_a_codec_that_nobody_knows(tmp_path):
    path, fields = tmp_path / "t.fits", [Field("J"), Field("J")]
    plain = random_table(fields, NROWS)
    path.write_bytes(compress(plain, 64, ["GZIP_1"] * 2, header={"ZCTYP1": "'BZIP_9'"}))
    check(path, plain, None, [1])
    with torchfits.open(path) as f, pytest.raises(FitsUnsupported, match="'C1': ZCTYP1 = 'BZIP_9'"):
        f[1].read_table()


def test_a_header_that_stands_for_none(tmp_path):
    path = tmp_path / "t.fits"
    path.write_bytes(compress(random_table([Field("J")], 9), 64, ["GZIP_1"], header={"ZPCOUNT": None}))
    with pytest.warns(FitsWarning, match="that of the compressed data"):
        assert torchfits.read_header(path, 1)["ZTABLE"] is True


@settings(max_examples=150, deadline=None)
@given(at=st.floats(0, 1), byte=st.integers(0, 255), cut=st.booleans())
def test_any_damage_to_the_data(tmp_path_factory, at, byte, cut):
    """Damage is an error of ours, or it goes unnoticed; it never ends the process."""
    if "data" not in _DAMAGED:
        fields = [
            Field("J"),
            Field("B", 3),
            Field("P", 1, "I"),
            Field("Q", 1, "E"),
            Field("D"),
            Field("X", 9),
        ]
        plain = random_table(fields, 100)
        _DAMAGED["data"] = compress(plain, 30, ["RICE_1", "RICE_1", "RICE_1", "GZIP_2", "GZIP_2", "GZIP_1"])
    data = bytearray(_DAMAGED["data"])
    place = 2880 + int(at * (len(data) - 2881))
    if cut:
        del data[place:]
    else:
        data[place] = byte
    path = tmp_path_factory.mktemp("damaged") / "t.fits"
    path.write_bytes(data)
    with suppress(torchfits.FitsError, FitsWarning), torchfits.open(path, cache=False) as f:
        for column in range(6):
            with suppress(torchfits.FitsError):
                f[1].read_table([column], nulls="mask")


_DAMAGED: dict[str, bytes] = {}
