"""What attacks on the engines found; each case was wrong pixels, an untyped error or a crash once."""

from __future__ import annotations

import gzip
import os
import signal
import subprocess
import sys
import time
import warnings

import numpy as np
import pytest
import torch
from astropy.io import fits
from malformed import header, image, image_cards, pad

import torchfits
from torchfits import FitsError, FitsFormatError, FitsIOError, FitsUnsupported, HduMissing

pytestmark = pytest.mark.native
VALUES = [[0, 1, 2], [3, 4, 5]]


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "a.fits"
    fits.writeto(path, np.arange(24, dtype="i2").reshape(4, 6))
    return path


def scaled(path, keyword_card: bytes):
    """The same image with one more card before END."""
    data = path.read_bytes()
    end = data.index(b"END" + b" " * 77)
    other = path.with_name(f"with-{len(list(path.parent.iterdir()))}.fits")
    other.write_bytes(data[:end] + keyword_card.ljust(80) + data[end : end + 80] + data[end + 160 :])
    return other


def test_cutouts_of_groups_do_not_take_parameters_for_pixels(tmp_path):
    arrays = np.arange(40, dtype=">f4").reshape(2, 4, 5)
    parameters = [np.array([1.0, 2.0]), np.array([3.0, 4.0])]
    data = fits.GroupData(arrays, bitpix=-32, parnames=["A", "B"], pardata=parameters)
    fits.GroupsHDU(data).writeto(tmp_path / "g.fits")
    for mmap in (True, False):
        with torchfits.open(tmp_path / "g.fits", mmap=mmap) as f:
            found = f[0].cutouts([(0, 0), (2, 1)], 2)
            assert found.tolist() == [arrays[:, :2, :2].tolist(), arrays[:, 2:4, 1:3].tolist()]


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128, torch.float8_e5m2, torch.float32])
def test_batches_of_files_that_are_scaled_in_two_ways(path, dtype):
    half = scaled(path, b"BSCALE  =                  0.5")
    found = torchfits.read_batch([path, half], dtype=dtype)
    expected = torch.stack([torch.arange(24.0), torch.arange(24.0) / 2]).reshape(2, 4, 6).to(dtype)
    assert found.dtype == dtype
    assert found.untyped_storage().tolist() == expected.untyped_storage().tolist()


@pytest.mark.parametrize(
    "odd",
    [
        b"HIERARCH HIERARCH BSCALE = 999",
        b"HIERARCH \t BSCALE = 2",
        b"HIERARCH \x85\x85\x85BSCALE = 2",
        b"HIERARCH BSCALE = 3",
        b"HIERARCH  BSCALE  = 3",
        b"bscale  =                    2",
        b"HIERARCH BSCALE OF IT = 3",
        b"ZIMAGE  =                    T",
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_odd_cards_mean_the_same_to_the_scan_and_to_the_parser(path, odd):
    plain = scaled(path, odd)
    packed = plain.with_suffix(".gz")
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    one, other = torchfits.read(plain), torchfits.read(packed)
    assert one.dtype == other.dtype
    assert torch.equal(one, other)
    scale = torchfits.read_header(plain).get("BSCALE", 1)
    assert torch.equal(one.double(), torch.arange(24.0, dtype=torch.float64).reshape(4, 6) * scale)
    with torchfits.open(plain) as f:
        assert f[0].engine == "direct"


def test_positions_beyond_int64_are_far_outside(path):
    with torchfits.open(path) as f:
        for far in (2**64 - 1, 2**63):
            found = f[0].cutouts(np.array([[far, 0], [0, 0]], dtype="u8"), 2, fill=-1)
            assert found.tolist() == [[[-1, -1], [-1, -1]], [[0, 1], [6, 7]]]
        assert f[0].cutouts(np.array([[1, 2]], dtype=">i8"), 1).item() == 8
        for bad in ([[2**70, 0]], None, "ab", [[1.5, 2.0]], [[True, False]]):
            with pytest.raises(TypeError):
                f[0].cutouts(bad, 2)
        with pytest.raises(FitsFormatError, match="cannot hold the fill"):
            f[0].cutouts([(-1, 0)], 2, fill=10**400, dtype=torch.float64)


@pytest.mark.parametrize("key", [2**63 - 1, 2**70, -(2**70), ("A", 2**70), ("A", -(2**63))])
def test_keys_beyond_int64_are_missing(path, key):
    with torchfits.open(path) as f:
        with pytest.raises(HduMissing):
            f[key]
        assert key not in f
    for call in (torchfits.read_batch, lambda paths, hdu: torchfits.read_keys(paths, "NAXIS", hdu)):
        with pytest.raises(HduMissing):
            call([path], hdu=key)


def test_an_hdu_of_an_absurd_version_is_found(tmp_path):
    path = tmp_path / "a.fits"
    path.write_bytes(image(0) + image(1, EXTNAME="SCI", EXTVER=10**20))
    with torchfits.open(path) as f:
        assert f["SCI", 10**20].read().tolist() == VALUES


@pytest.mark.parametrize("dtype", ["float32", 4, float])
def test_dtypes_that_are_none(path, dtype):
    with torchfits.open(path) as f:
        with pytest.raises(TypeError, match=r"torch\.dtype"):
            f[0].read(dtype=dtype)
        with pytest.raises(TypeError, match=r"torch\.dtype"):
            f[0].cutouts([(0, 0)], 2, dtype=dtype)
    with pytest.raises(TypeError, match=r"torch\.dtype"):
        torchfits.read_batch([path], dtype=dtype)
    with pytest.raises(FitsUnsupported):
        torchfits.read(path, dtype=torch.quint8)


def test_names_that_are_none():
    with pytest.raises(FitsIOError, match="not a file name"):
        torchfits.read("\ud800.fits")
    with pytest.raises(FitsIOError, match="not a file name"):
        torchfits.read_batch(["\ud800.fits"])


@pytest.mark.parametrize("kind", ["PONY", "TABLE", "IMAGE"])
@pytest.mark.filterwarnings("ignore")
def test_only_a_binary_table_holds_a_compressed_image(tmp_path, kind):
    cards = {"XTENSION": kind, "BITPIX": 8, "NAXIS": 2, "NAXIS1": 8, "NAXIS2": 2, "PCOUNT": 0, "GCOUNT": 1}
    data = image(0) + header({**cards, "TFIELDS": 0, "ZIMAGE": True}) + pad(bytes(16))
    (tmp_path / "a.fits").write_bytes(data)
    (tmp_path / "a.fits.gz").write_bytes(gzip.compress(data))
    with torchfits.open(tmp_path / "a.fits") as f, torchfits.open(tmp_path / "a.fits.gz") as g:
        assert type(f[1]) is type(g[1])
        assert isinstance(f[1], torchfits.ImageHDU) == (kind == "IMAGE")


@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.filterwarnings("ignore")
def test_what_cfitsio_reads_in_another_way_is_kept_from_it(tmp_path, index):
    cards = image_cards() if index == 0 else {"XTENSION": "IMAGE", **image_cards(index=1)}
    whole = header(cards)
    at = whole.index(b"NAXIS   =")
    bad = whole[:at] + b"HIERARCH NAXIS= 0".ljust(80) + whole[at:]
    bad = bad[: len(whole)] if bad[len(whole) :].strip() == b"" else bad
    pixels = pad(b"".join(v.to_bytes(2, "big") for v in range(6)))
    path = tmp_path / "a.fits"
    path.write_bytes((image(0) if index else b"") + pad(bad, b" ") + pixels)
    with torchfits.open(path) as f:
        assert f[index].read().tolist() == VALUES
    with torchfits.open(path, engine="cfitsio") as f, pytest.raises(FitsFormatError):
        f[index].read()


def test_a_batch_does_not_believe_a_header(path, tmp_path):
    liar = tmp_path / "liar.fits"
    liar.write_bytes(header(image_cards(lengths=(100_000, 100_000))))
    for paths in ([liar, path], [liar]):
        with pytest.raises(FitsFormatError, match="cut short"):
            torchfits.read_batch(paths)
    with pytest.raises(FitsFormatError, match="cut short"):
        torchfits.read_batch([liar, liar], on_error="fill", dtype=torch.float32)
    with pytest.warns(torchfits.FitsWarning, match=r"1 of 2 files are NaN.*liar"):
        found = torchfits.read_batch([liar, path], on_error="fill", dtype=torch.float32)
    assert found.shape == (2, 4, 6)
    assert bool(found[0].isnan().all())
    assert found[1].tolist() == torchfits.read(path).tolist()


def test_a_bad_tile_harms_only_the_windows_that_touch_it(tmp_path):
    path = tmp_path / "a.fits"
    array = np.arange(64 * 64, dtype="i2").reshape(64, 64)
    tiles = fits.CompImageHDU(array, compression_type="RICE_1", tile_shape=(16, 64))
    fits.HDUList([fits.PrimaryHDU(), tiles]).writeto(path)
    with fits.open(path, disable_image_compression=True) as f:
        start = f[1]._data_offset
    data = bytearray(path.read_bytes())
    data[start + 24 : start + 28] = (10**6).to_bytes(4, "big")  # the last descriptor's length
    path.write_bytes(data)
    with torchfits.open(path) as f:
        assert np.array_equal(f[1].cutouts([(0, 0), (20, 30)], 8)[1].numpy(), array[20:28, 30:38])
        with pytest.raises(FitsFormatError):
            f[1].cutouts([(50, 0)], 8)


MASKED = """
import os, signal, sys, torchfits
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGBUS})
with torchfits.open(sys.argv[1]) as f:
    f[0].cutouts([(0, 0)], 16)
    os.truncate(sys.argv[1], 5760)
    try:
        f[0].cutouts([(900, 0)], 16)
    except torchfits.FitsIOError as error:
        print("typed", signal.SIGBUS in signal.pthread_sigmask(signal.SIG_BLOCK, ()))
"""


def test_a_blocked_sigbus_is_an_error_too(tmp_path):
    path = tmp_path / "wide.fits"
    fits.writeto(path, np.zeros((1000, 4000), dtype="f4"))
    done = subprocess.run(
        [sys.executable, "-c", MASKED, str(path)], capture_output=True, text=True, timeout=100
    )
    assert (done.returncode, done.stdout) == (0, "typed True\n"), done.stderr


@pytest.mark.parametrize("seed", range(6))
def test_mutated_images_are_the_same_to_both_engines_or_refused(tmp_path, seed):
    """Bytes of headers changed at random: pixels that both engines read are equal bit for bit."""
    random = np.random.default_rng(seed)
    shapes = [image(0), image(0) + image(1, BSCALE=0.5, BZERO=3), image(0, BLANK=2) + image(1, EXTNAME="X")]
    both = 0
    for i in range(60):
        data = bytearray(shapes[i % 3])
        for _ in range(random.integers(1, 4)):
            data[random.integers(0, 12 * 80) + 2880 * 2 * random.integers(0, len(data) // 5760)] = (
                random.integers(32, 127)
            )
        path = tmp_path / f"{i}.fits"
        path.write_bytes(data)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for index in range(2):
                found = []
                for engine in ("direct", "cfitsio"):
                    try:
                        found.append(torchfits.read(path, index, engine=engine))
                    except (FitsError, TypeError) as error:
                        found.append(error)
                if all(isinstance(each, torch.Tensor) for each in found):
                    both += 1
                    assert found[0].dtype == found[1].dtype
                    assert found[0].numpy().tobytes() == found[1].numpy().tobytes()
    assert both > 20


def test_signals_of_others_are_not_swallowed():
    code = "import os, signal, torchfits; os.kill(os.getpid(), signal.SIGBUS)"
    assert subprocess.run([sys.executable, "-c", code], timeout=100).returncode == -signal.SIGBUS


def test_names_are_found_in_linear_time_where_every_header_is_odd(tmp_path):
    """It took minutes once: 8000 HDUs that the index does not know by name."""
    cards = {"XTENSION": "IMAGE", "BITPIX": 8, "NAXIS": 0, "PCOUNT": 0, "GCOUNT": 1}
    odd, last = header({**cards, "EXTNAME": "ODD"}), header({**cards, "EXTNAME": "LAST"})
    path = tmp_path / "a.fits.gz"
    path.write_bytes(gzip.compress(image(0) + odd * 7999 + last, 1))
    with torchfits.open(path) as f:
        start = time.process_time()
        assert f["LAST"].index == 8000
        walked = time.process_time() - start
        assert walked < 60  # it was quadratic: minutes; linear it is a second or two
        assert f["ODD"].index == 1
        assert "NOPE" not in f


@pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")
def test_tensors_without_memory_are_refused(path):
    with (
        torch._subclasses.fake_tensor.FakeTensorMode(),
        torchfits.open(path) as f,
        pytest.raises(FitsUnsupported, match="without memory"),
    ):
        f[0].read()


def test_out_that_lies_about_its_memory_is_refused(path):
    with torchfits.open(path) as f:
        for out in (torch._neg_view(torch.zeros(4, 6)), torch.zeros(4, 6, requires_grad=True)):
            with pytest.raises(FitsFormatError, match="plain memory"):
                f[0].read(out=out, dtype=torch.float32)


def test_a_header_read_late_is_that_of_the_file_that_was_opened(path):
    with torchfits.open(path) as f:
        assert f[0].shape == (4, 6)
        data = bytearray(path.read_bytes())
        data[2000:2010] = b"X" * 10
        path.write_bytes(data)
        with pytest.raises(FitsIOError, match="changed") as caught:
            f[0].read_header()
        assert (caught.value.path, caught.value.hdu) == (str(path), 0)


def link(descriptor: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:
        return ""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_another_file_under_the_same_descriptor_is_noticed(path, tmp_path):
    other = tmp_path / "b.fits"
    fits.writeto(other, -np.arange(24, dtype="i2").reshape(4, 6))
    os.utime(other, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    with torchfits.open(path, cache=False) as f:
        f[0].read()
        fd = next(int(n) for n in os.listdir("/proc/self/fd") if link(n) == str(path))
        new = os.open(other, os.O_RDONLY)
        os.dup2(new, fd)
        os.close(new)
        with pytest.raises(FitsIOError, match="changed"):
            f[0].read()


@pytest.mark.parametrize("engine", ["direct", "cfitsio"])
def test_letters_are_not_scaled(tmp_path, engine):
    table = fits.BinTableHDU.from_columns(
        [
            fits.Column("NAME", "2A", array=["ab", "cd"]),
            fits.Column("GOOD", "L", array=np.array([True, False])),
        ]
    )
    for i in (1, 2):
        table.header[f"XSCAL{i}"], table.header[f"XZERO{i}"] = 0.5, 1.0
    path = tmp_path / "a.fits"
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(path)
    path.write_bytes(path.read_bytes().replace(b"XSCAL", b"TSCAL").replace(b"XZERO", b"TZERO"))
    with torchfits.open(path, engine=engine) as f:
        found = f[1].read_table()
    assert torchfits.strings(found["NAME"]) == ["ab", "cd"]
    assert found["GOOD"].tolist() == [True, False]


def test_only_of_a_table_theap_matters(tmp_path):
    """Of an image cfitsio is not kept from one that it would overflow on: it does not look at it."""
    path = tmp_path / "a.fits"
    path.write_bytes(image(THEAP=2**70))
    with torchfits.open(path, engine="cfitsio", cache=False) as f:
        assert f[0].read().tolist() == [[0, 1, 2], [3, 4, 5]]


def test_cutouts_of_no_pixels_take_no_memory(tmp_path):
    path = tmp_path / "a.fits"
    path.write_bytes(header(image_cards(lengths=(0, 5, 2**40))))
    with torchfits.open(path) as f, pytest.raises(FitsFormatError, match="no pixels"):
        f[0].cutouts([(0, 0)], 1, fill=7)
