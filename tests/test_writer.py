"""writeto: every dtype, read back by astropy and fitsio, accepted by fitsverify, whole or not at all."""

from __future__ import annotations

import errno
import gzip
import itertools
import math
import os
import signal
import subprocess
import sys
import textwrap

import fitsio
import numpy as np
import pytest
import torch
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st
from images import verify

import torchfits
from torchfits import FitsFormatError, FitsIOError, FitsUnsupported, FitsWarning, Header, writer

IMAGE_DTYPES = [
    torch.uint8, torch.int8, torch.int16, torch.uint16, torch.int32, torch.uint32, torch.int64, torch.uint64,
    torch.float32, torch.float64,
]  # fmt: skip


def values(dtype, shape):
    rng = np.random.default_rng(11)
    name = str(dtype).removeprefix("torch.")
    kind = np.dtype(name)
    if kind.kind == "f":
        array = rng.normal(size=shape).astype(kind)
        if array.size > 4:
            array.flat[:4] = [np.nan, np.inf, -0.0, np.finfo(kind).smallest_subnormal]
    else:
        info = np.iinfo(kind)
        array = rng.integers(info.min, info.max, shape, endpoint=True, dtype=kind)
        if array.size > 2:
            array.flat[:2] = [info.min, info.max]
    return torch.from_numpy(array)


@pytest.mark.parametrize("shape", [(1,), (7,), (5, 6), (2, 3, 4), (1, 1, 3, 1)])
@pytest.mark.parametrize("dtype", IMAGE_DTYPES)
def test_images(tmp_path, dtype, shape):
    tensor, path = values(dtype, shape), tmp_path / "a.fits"
    torchfits.writeto(path, tensor)
    verify(path)
    # fitsio reads uint64 images as int64
    oracles = [fits.getdata(path)] + ([fitsio.read(str(path))] if dtype != torch.uint64 else [])
    for array in oracles:
        assert array.dtype.newbyteorder("=") == tensor.numpy().dtype
        np.testing.assert_array_equal(array, tensor.numpy())
    back = torchfits.read(path)
    assert back.dtype == dtype
    assert back.numpy().tobytes() == tensor.numpy().tobytes()


@pytest.mark.parametrize(
    ("tensor", "stored"),
    [
        (torch.tensor([1.5, -2.25], dtype=torch.float16), torch.tensor([1.5, -2.25])),
        (torch.tensor([1.5, -2.25], dtype=torch.bfloat16), torch.tensor([1.5, -2.25])),
        (torch.tensor([True, False]), torch.tensor([1, 0], dtype=torch.uint8)),
        (torch.tensor(3.5), torch.tensor([3.5])),
        (torch.arange(24).reshape(4, 6).T, torch.arange(24).reshape(4, 6).T),
        (torch.arange(24.0).reshape(4, 6)[::2, 1::3], torch.arange(24.0).reshape(4, 6)[::2, 1::3]),
        (torch.arange(3).expand(2, 3), torch.tensor([[0, 1, 2]] * 2)),
        (torch.arange(3.0, requires_grad=True), torch.arange(3.0)),
        (torch.tensor([1 + 2j]).conj().imag, torch.tensor([-2.0])),
    ],
)
def test_other_tensors(tmp_path, tensor, stored):
    path = tmp_path / "a.fits"
    torchfits.writeto(path, tensor)
    verify(path)
    back = torchfits.read(path)
    assert back.dtype == stored.dtype
    assert torch.equal(back, stored)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_tensors(tmp_path):
    tensor = torch.arange(12, dtype=torch.int16, device="cuda").reshape(3, 4).T
    torchfits.writeto(tmp_path / "a.fits", tensor)
    assert torch.equal(torchfits.read(tmp_path / "a.fits"), tensor.cpu())


def test_large_images_are_written_in_pieces(tmp_path, monkeypatch):
    for name in ("_PIECE", "_IMAGE_PIECE"):
        monkeypatch.setattr(writer, name, 1000)
    monkeypatch.setattr(writer, "_WRITTEN", 7000)
    monkeypatch.setattr(writer, "_MOST_PARTS", 5)
    for tensor in (torch.arange(40_000).reshape(100, 400), torch.arange(40_000).reshape(400, 100).T):
        torchfits.writeto(tmp_path / "a.fits", tensor, overwrite=True, checksum=True)
        with fits.open(tmp_path / "a.fits", checksum=True) as f:
            assert np.array_equal(f[0].data, tensor.numpy())
    table = {"A": torch.arange(500), "B": torch.arange(1500).reshape(500, 3).to(torch.float32)}
    torchfits.writeto(tmp_path / "a.fits", table, overwrite=True)
    assert torch.equal(torchfits.read(tmp_path / "a.fits")["B"], table["B"])


def test_no_data_and_empty_axes(tmp_path):
    torchfits.writeto(tmp_path / "a.fits", None, header={"OBJECT": "nothing"})
    verify(tmp_path / "a.fits")
    assert fits.getheader(tmp_path / "a.fits")["OBJECT"] == "nothing"
    torchfits.writeto(tmp_path / "b.fits", torch.zeros(2, 0, 3))
    verify(tmp_path / "b.fits")
    assert torchfits.read(tmp_path / "b.fits", 0).shape == (2, 0, 3)


@pytest.mark.parametrize(
    "data", [torch.zeros(2, dtype=torch.complex64), torch.zeros(2, dtype=torch.float8_e4m3fn)]
)
def test_images_that_fits_does_not_know(tmp_path, data):
    with pytest.raises(FitsUnsupported, match="no images of"):
        torchfits.writeto(tmp_path / "a.fits", data)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "tensor",
    [
        torch.eye(2).to_sparse(),
        torch.zeros(2, device="meta"),
        torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)], layout=torch.jagged),
    ],
)
def test_tensors_that_are_not_dense(tmp_path, tensor):
    for data in (tensor, {"A": tensor}):
        with pytest.raises(FitsUnsupported):
            torchfits.writeto(tmp_path / "a.fits", data)
    assert os.listdir(tmp_path) == []


def whole_table():
    columns = {str(dtype).removeprefix("torch."): values(dtype, (4,)) for dtype in IMAGE_DTYPES}
    columns |= {
        "flag": torch.tensor([True, False, True, True]),
        "c64": torch.tensor([1 + 2j, 3, 4, 5j]),
        "c128": torch.tensor([1 + 2j, 3, 4, 5j], dtype=torch.complex128),
        "vec": torch.arange(12.0).reshape(4, 3),
        "cube": torch.arange(24, dtype=torch.int16).reshape(4, 2, 3),
        "flags": torch.tensor([[True, False]] * 4),
        "name": ["a", "", "long name", "d"],
        "text": torch.tensor(
            [list(b"abc "), list(b"de\0\0"), list(b"    "), list(b"wxyz")], dtype=torch.uint8
        ),
        "half": torch.tensor([1, 2, 3, 4], dtype=torch.float16),
        "strided": torch.arange(8)[::2],
    }
    return columns


def test_tables(tmp_path):
    path, columns = tmp_path / "t.fits", whole_table()
    torchfits.writeto(path, columns, ext_name="ALL", checksum=True)
    verify(path)
    with fits.open(path, checksum=True) as f:
        table = f["ALL"].data
        assert list(table.names) == list(columns)
        back, other = torchfits.read(path, "ALL"), fitsio.read(str(path), ext="ALL")
        for name, column in columns.items():
            if name in ("name", "text"):
                continue
            expected = column.to(torch.float32 if name == "half" else column.dtype)
            assert back[name].dtype == expected.dtype
            np.testing.assert_array_equal(back[name].numpy(), expected.numpy())
            np.testing.assert_array_equal(table[name], expected.numpy())
            np.testing.assert_array_equal(other[name], expected.numpy())
    assert torchfits.strings(back["name"]) == columns["name"]
    assert list(table["name"]) == columns["name"]
    assert torch.equal(back["text"], columns["text"])
    assert list(table["text"]) == ["abc", "de", "", "wxyz"]


def test_empty_tables(tmp_path):
    torchfits.writeto(tmp_path / "a.fits", {"A": torch.zeros(0), "S": [], "V": torch.zeros(0, 3)})
    verify(tmp_path / "a.fits")
    back = torchfits.read(tmp_path / "a.fits", 1)
    assert {name: tuple(tensor.shape) for name, tensor in back.items()} == {
        "A": (0,),
        "S": (0, 1),
        "V": (0, 3),
    }
    torchfits.writeto(tmp_path / "b.fits", {})
    assert torchfits.read(tmp_path / "b.fits", 1) == {}


def test_bytes_that_are_numbers(tmp_path):
    data = torch.tensor([[200, 1, 7]], dtype=torch.uint8)
    with pytest.raises(FitsFormatError, match="TFORMn = 'B'"):
        torchfits.writeto(tmp_path / "a.fits", {"RGB": data})
    torchfits.writeto(tmp_path / "a.fits", {"RGB": data}, header={"TFORM1": "3B"})
    verify(tmp_path / "a.fits")
    assert fits.getheader(tmp_path / "a.fits", 1)["TFORM1"] == "3B"
    assert torch.equal(torchfits.read(tmp_path / "a.fits")["RGB"], data)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"A": torch.zeros(3), "B": torch.zeros(4)}, "differ in length"),
        ({"A": torch.zeros(3), "a": torch.zeros(3)}, "comes twice"),
        ({"": torch.zeros(3)}, "printable ASCII"),
        ({"é": torch.zeros(3)}, "printable ASCII"),
        ({"A": ["x", "é"]}, "row 1"),
        ({"A": torch.tensor(1)}, "a number"),
        ({"N" * 69: torch.zeros(3)}, "68 characters"),
    ],
)
def test_what_is_no_table(tmp_path, columns, words):
    with pytest.raises(FitsFormatError, match=words) as caught:
        torchfits.writeto(tmp_path / "a.fits", columns)
    assert caught.value.path == str(tmp_path / "a.fits")
    assert os.listdir(tmp_path) == []


def test_header(tmp_path):
    path = tmp_path / "a.fits"
    header = Header(
        {
            "SIMPLE": False, "BITPIX": 99, "NAXIS1": 5, "BSCALE": 7.0, "BLANK": 3, "ZIMAGE": True,
            "OBJECT": ("NGC 101", "the target"), "EXPTIME": 1e-30, "COUNT": 10**17,
            "UNDEF": None, "FLAG": True,
            "QUOTE": "it's", "ESO DET NAME": "ccd", "LONG": "x" * 150, "PHASE": 1 + 2j,
        }
    )  # fmt: skip
    header.add_comment("first")
    header.add_history("y" * 100)
    defined = Header([card for card in header.cards if card.keyword != "UNDEF"])
    torchfits.writeto(path, torch.zeros(3, 4), defined, ext_name="SCI", checksum=True)
    verify(path)
    torchfits.writeto(path, torch.zeros(3, 4), header, ext_name="SCI", overwrite=True)
    other = fits.getheader(path)
    assert (other["SIMPLE"], other["BITPIX"], other["NAXIS1"], other["EXTNAME"]) == (True, -32, 4, "SCI")
    assert not {"BSCALE", "BLANK", "ZIMAGE"} & set(other)
    assert (other["OBJECT"], other.comments["OBJECT"]) == ("NGC 101", "the target")
    assert (other["EXPTIME"], other["COUNT"], other["FLAG"], other["QUOTE"]) == (1e-30, 10**17, True, "it's")
    assert (other["ESO DET NAME"], other["LONG"], other["PHASE"]) == ("ccd", "x" * 150, 1 + 2j)
    assert other["UNDEF"] is None
    assert list(other["COMMENT"]) == ["first"]
    assert "".join(other["HISTORY"]) == "y" * 100
    mine = torchfits.read_header(path)
    assert {key: mine[key] for key in ("OBJECT", "UNDEF", "LONG", "PHASE")} == {
        key: header[key] for key in ("OBJECT", "UNDEF", "LONG", "PHASE")
    }


def test_the_header_of_a_table_follows_its_columns(tmp_path):
    source = tmp_path / "in.fits"
    columns = [
        fits.Column("RA", "D", unit="deg", disp="F10.4", array=[1.0]),
        fits.Column("N", "J", null=-1, array=[2]),
        fits.Column("BYTES", "3B", array=[[1, 2, 255]]),
    ]  # fmt: skip
    fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU.from_columns(columns, name="T")]).writeto(source)
    with torchfits.open(source) as f:
        table, header = f["T"].read_table(columns=["BYTES", "RA"]), f["T"].read_header()
    torchfits.writeto(tmp_path / "out.fits", table, header)
    verify(tmp_path / "out.fits")
    other = fits.getheader(tmp_path / "out.fits", 1)
    assert (other["TTYPE2"], other["TUNIT2"], other["TDISP2"]) == ("RA", "deg", "F10.4")
    assert (other["TFORM1"], other["EXTNAME"]) == ("3B", "T")
    assert not {"TUNIT1", "TNULL1", "TNULL2", "TTYPE3"} & set(other)
    torchfits.writeto(
        tmp_path / "out.fits", {"X": torch.zeros(2)}, {"TUNIT1": "Jy", "TUNIT2": "m"}, overwrite=True
    )
    assert fits.getheader(tmp_path / "out.fits", 1)["TUNIT1"] == "Jy"


def test_limits_and_coordinates_follow_their_column(tmp_path):
    path = tmp_path / "t.fits"
    header = Header({"TTYPE1": "GONE", "TTYPE2": "Y", "TTYPE3": "X", "TARGET3": "M 31"})
    for number in (1, 2, 3):
        header.update({f"TLMIN{number}": number, f"TCRPX{number}": 0.5 + number, f"TCRP{number}A": 1.0})
        header.update({f"1CTYP{number}": f"C{number}", f"11PC{number}": 1.0})
    torchfits.writeto(path, {"X": torch.zeros(2), "Y": torch.zeros(2)}, header)
    verify(path)
    other = fits.getheader(path, 1)
    assert (other["TLMIN1"], other["TLMIN2"], other["TCRPX1"], other["TCRPX2"]) == (3, 2, 3.5, 2.5)
    assert (other["TCRP1A"], other["1CTYP1"], other["11PC2"], other["TARGET3"]) == (1.0, "C3", 1.0, "M 31")
    assert not {"TTYPE3", "TLMIN3", "TCRPX3", "TCRP3A", "1CTYP3", "11PC3"} & set(other)


@pytest.mark.parametrize(
    ("column", "card", "kept"),
    [
        (torch.arange(3, dtype=torch.uint8), {"TNULL1": 255}, True),
        (torch.arange(3, dtype=torch.uint8), {"TNULL1": -1}, False),
        (torch.arange(3, dtype=torch.int16), {"TNULL1": 99_999}, False),
        (torch.arange(3), {"TNULL1": True}, False),
        (torch.zeros(3), {"TNULL1": -1}, False),
        (torch.arange(3), {"TDISP1": "I5"}, True),
        (torch.arange(3), {"TDISP1": "ES10.3"}, True),
        (torch.arange(3), {"TDISP1": "%5d"}, False),
        (torch.arange(3), {"TDISP1": "I"}, False),
        (torch.zeros(3), {"TDISP1": "I5"}, False),
        (["a"], {"TDISP1": "A8"}, True),
        (torch.arange(3), {"TUNIT1": "m"}, True),
        (torch.arange(3), {"TUNIT1": 5}, False),
        (torch.arange(3), {"TUNIT1": None}, False),
    ],
)
def test_cards_that_do_not_suit_their_column_are_dropped(tmp_path, column, card, kept):
    torchfits.writeto(tmp_path / "a.fits", {"A": column}, card)
    verify(tmp_path / "a.fits")
    assert (next(iter(card)) in fits.getheader(tmp_path / "a.fits", 1)) == kept


def test_an_image_takes_over_no_keywords_of_columns(tmp_path):
    header = {"TTYPE1": "X", "TFORM1": "J", "TUNIT1": "m", "TCRPX1": 1.0, "OBJECT": "M 31"}
    torchfits.writeto(tmp_path / "a.fits", torch.zeros(3), header)
    verify(tmp_path / "a.fits")
    assert fits.getheader(tmp_path / "a.fits")["OBJECT"] == "M 31"


def test_arguments_of_other_types(tmp_path):
    for columns in ({"A": 3}, {"A": "abc"}, {"A": [1, 2]}, {"A": b"abc"}):
        with pytest.raises(TypeError, match="column 'A'"):
            torchfits.writeto(tmp_path / "a.fits", columns)
    with pytest.raises(TypeError, match="ext_name"):
        torchfits.writeto(tmp_path / "a.fits", torch.zeros(2), ext_name=3)
    with pytest.raises(TypeError, match="not list"):
        torchfits.writeto(tmp_path / "a.fits", [1, 2])
    assert os.listdir(tmp_path) == []


def test_checksums_of_rows_of_odd_length(tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "_PIECE", 1000)
    table = {"A": values(torch.uint8, (999,)), "B": values(torch.int16, (999, 3)), "C": ["abcd"] * 999}
    torchfits.writeto(tmp_path / "a.fits", table, checksum=True)
    verify(tmp_path / "a.fits")
    with fits.open(tmp_path / "a.fits", checksum=True) as f:
        np.testing.assert_array_equal(f[1].data["B"], table["B"].numpy())


@given(data=st.binary(max_size=3000), position=st.integers(0, 7), cut=st.integers(0, 3000))
@settings(max_examples=100, deadline=None)
def test_the_sum_is_that_of_the_words(data, position, cut):
    data = bytes(position) + data
    data += bytes(-len(data) % 4)
    words = np.frombuffer(data, ">u4").astype(object).sum() if data else 0
    cut = min(max(cut, position), len(data))
    total = 0
    for first, last in ((position, cut), (cut, len(data))):
        part = torch.tensor(list(data[first:last]), dtype=torch.uint8)
        total = writer._sum32(part, first, total)
    # ones' complement: a sum that is not zero has no remainder of zero
    assert total == (words and (words - 1) % 0xFFFFFFFF + 1)


@pytest.mark.parametrize("header", [{"KEY": math.nan}, {"KEY": "é"}, {"KEY": object()}, {"K=Y": 1}])
def test_what_a_header_cannot_hold(tmp_path, header):
    with pytest.raises(FitsFormatError):
        torchfits.writeto(tmp_path / "a.fits", torch.zeros(2), header)
    assert os.listdir(tmp_path) == []


def test_existing_files(tmp_path):
    path = tmp_path / "a.fits"
    torchfits.writeto(path, torch.zeros(2))
    os.chmod(path, 0o640)
    with pytest.raises(FileExistsError) as caught:
        torchfits.writeto(path, torch.ones(2))
    assert isinstance(caught.value, FitsIOError)
    assert torchfits.read(path).sum() == 0
    torchfits.writeto(path, torch.ones(2), overwrite=True)
    assert torchfits.read(path).sum() == 2
    assert os.stat(path).st_mode & 0o777 == 0o640
    assert os.listdir(tmp_path) == ["a.fits"]


def test_an_existing_file_is_refused_before_the_work(tmp_path, monkeypatch):
    (tmp_path / "a.fits").touch()
    monkeypatch.setattr(writer, "with_checksums", lambda unit: pytest.fail("worked in vain"))
    with pytest.raises(FileExistsError):
        torchfits.writeto(tmp_path / "a.fits", torch.zeros(2), checksum=True)


@pytest.mark.parametrize("name", ["x" * 250, "é" * 125, "\N{CJK UNIFIED IDEOGRAPH-661F}" * 83])
def test_names_as_long_as_the_file_system_allows(tmp_path, name):
    path = tmp_path / f"{name}.fits"
    torchfits.writeto(path, torch.zeros(2))
    assert torchfits.read(path).shape == (2,)


def test_the_permissions_are_those_of_any_new_file(tmp_path):
    (tmp_path / "other").touch()
    torchfits.writeto(tmp_path / "a.fits", torch.zeros(2))
    assert os.stat(tmp_path / "a.fits").st_mode == os.stat(tmp_path / "other").st_mode


def test_links_are_followed(tmp_path):
    (tmp_path / "deep").mkdir()
    os.symlink(tmp_path / "deep" / "a.fits", tmp_path / "link.fits")
    torchfits.writeto(tmp_path / "link.fits", torch.zeros(2))
    assert os.path.islink(tmp_path / "link.fits")
    assert torchfits.read(tmp_path / "deep" / "a.fits").shape == (2,)


def test_targets_that_are_no_files(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for target, error in (
        (tmp_path, 21),
        (tmp_path / "fifo", 22),
        (tmp_path / "no" / "a.fits", 2),
        ("/dev/null", 22),
    ):
        with pytest.raises(FitsIOError) as caught:
            torchfits.writeto(target, torch.zeros(2), overwrite=True)
        assert caught.value.errno == error
    assert os.listdir(tmp_path) == ["fifo"]


def test_gzip(tmp_path):
    path = tmp_path / "a.fits.gz"
    torchfits.writeto(path, torch.arange(5))
    first = path.read_bytes()
    assert gzip.decompress(first)[:6] == b"SIMPLE"
    assert torchfits.read(path).tolist() == fits.getdata(path).tolist() == [0, 1, 2, 3, 4]
    torchfits.writeto(path, torch.arange(5), overwrite=True)
    assert path.read_bytes() == first
    with pytest.raises(FitsUnsupported):
        torchfits.writeto(tmp_path / "a.fits.bz2", torch.arange(5))


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), KeyboardInterrupt(), MemoryError()]
)
@pytest.mark.parametrize("step", ["_bytes_of", "_move"])
def test_an_interrupted_write_leaves_the_old_file_or_none(tmp_path, monkeypatch, error, step):
    path = tmp_path / "a.fits"

    def fail(*_):
        raise error

    for old in (None, torch.ones(3)):
        if old is not None:
            torchfits.writeto(path, old)
        with monkeypatch.context() as patch:
            patch.setattr(writer, step, fail)
            with pytest.raises((type(error), FitsIOError)):
                torchfits.writeto(path, torch.zeros(100), overwrite=True)
        assert os.listdir(tmp_path) == ([] if old is None else ["a.fits"])
        if old is not None:
            assert torch.equal(torchfits.read(path), old)


def test_a_system_that_writes_less_than_it_is_asked_to(tmp_path, monkeypatch):
    whole, path = tmp_path / "whole.fits", tmp_path / "a.fits"
    ramp = torch.arange(30_000, dtype=torch.int16).reshape(100, 300)
    written = os.writev
    sizes = itertools.cycle([1, 2879, 7, 5000])

    def some(descriptor, buffers):
        return written(descriptor, [b"".join(buffers)[: next(sizes)]])

    for compress in (None, "gzip"):
        torchfits.writeto(whole, ramp, compress=compress, overwrite=True)
        with monkeypatch.context() as patch:
            patch.setattr(os, "writev", some)
            torchfits.writeto(path, ramp, compress=compress, overwrite=True)
        assert path.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("compress", ["", "gzip"])
def test_a_file_that_cannot_become_as_large_leaves_nothing(tmp_path, compress):
    script = """
        import resource, sys, torch, torchfits
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        try:
            torchfits.writeto(sys.argv[1], torch.rand(100, 300), compress=sys.argv[2] or None)
        except torchfits.FitsIOError as error:
            print(error.errno)
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path / "a.fits"), compress]
    assert int(subprocess.check_output(command)) == errno.EFBIG
    assert os.listdir(tmp_path) == []


def test_a_killed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.fits"
    torchfits.writeto(path, torch.ones(3))
    script = """
        import sys, time, torch, torchfits
        from torchfits import writer
        real = writer._bytes_of
        def slow(tensor):
            print("writing", flush=True)
            time.sleep(60)
            return real(tensor)
        writer._bytes_of = slow
        torchfits.writeto(sys.argv[1], torch.zeros(10_000), overwrite=True)
    """
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), str(path)], stdout=subprocess.PIPE
    )
    with child:
        assert child.stdout.readline() == b"writing\n"
        child.send_signal(signal.SIGKILL)
    assert torch.equal(torchfits.read(path), torch.ones(3))


def test_two_writers_and_no_overwrite(tmp_path, monkeypatch):
    path = tmp_path / "a.fits"
    move = writer._move

    def late(*args):
        path.write_bytes(b"somebody else's")
        move(*args)

    monkeypatch.setattr(writer, "_move", late)
    with pytest.raises(FileExistsError):
        torchfits.writeto(path, torch.zeros(3))
    assert path.read_bytes() == b"somebody else's"
    assert os.listdir(tmp_path) == ["a.fits"]


shapes = st.lists(st.integers(1, 5), min_size=1, max_size=4)


@given(dtype=st.sampled_from(IMAGE_DTYPES), shape=shapes, swap=st.booleans(), checksum=st.booleans())
@settings(max_examples=60, deadline=None)
def test_any_image_reads_back(tmp_path_factory, dtype, shape, swap, checksum):
    path = tmp_path_factory.mktemp("any") / "a.fits"
    tensor = values(dtype, tuple(shape))
    tensor = tensor.transpose(0, -1) if swap else tensor
    torchfits.writeto(path, tensor, checksum=checksum)
    with fits.open(path, checksum=True) as f:
        np.testing.assert_array_equal(f[0].data, tensor.numpy())
    assert torchfits.read(path).numpy().tobytes() == tensor.contiguous().numpy().tobytes()


# astropy warns of other characters
names = st.from_regex(r"[A-Za-z0-9_]{1,12}", fullmatch=True)
texts = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=9).map(lambda s: s.rstrip())


@given(data=st.data(), rows=st.integers(0, 5), keys=st.lists(names, max_size=5, unique_by=str.upper))
@settings(max_examples=60, deadline=None)
def test_any_table_reads_back(tmp_path_factory, data, rows, keys):
    path = tmp_path_factory.mktemp("any") / "a.fits"
    table = {}
    for key in keys:
        dtype = data.draw(st.sampled_from([*IMAGE_DTYPES, str]))
        inner = tuple(data.draw(st.lists(st.integers(1, 3), max_size=2))) if dtype is not torch.uint8 else ()
        if dtype is str:
            table[key] = data.draw(st.lists(texts, min_size=rows, max_size=rows))
        else:
            table[key] = values(dtype, (rows, *inner))
    torchfits.writeto(path, table, checksum=True)
    back = torchfits.read(path, 1)
    assert list(back) == keys
    with fits.open(path, checksum=True) as f:
        for key, column in table.items():
            theirs = f[1].data.field(keys.index(key))
            if isinstance(column, list):
                assert torchfits.strings(back[key]) == column == [str(text) for text in theirs]
            else:
                assert back[key].dtype == column.dtype
                np.testing.assert_array_equal(back[key].numpy(), column.numpy())
                np.testing.assert_array_equal(np.asarray(theirs).reshape(column.shape), column.numpy())


def test_a_comment_that_does_not_fit_is_cut_with_a_warning(tmp_path):
    with pytest.warns(FitsWarning, match="comment is cut"):
        torchfits.writeto(tmp_path / "a.fits", torch.zeros(2), {"KEY": (1.5, "x" * 80)})
    verify(tmp_path / "a.fits")
