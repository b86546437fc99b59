"""Tile-compressed images as writeto makes them: byte for byte fpack's, read; or refused with advice."""

from __future__ import annotations

import os

import fitsio
import numpy as np
import pytest
import torch
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st
from images import torch_threads, verify
from ztables import fpack, funpack

import torchfits
from torchfits import (
    FitsFormatError,
    FitsUnsupported,
    Gzip1,
    Gzip2,
    Hcompress1,
    Header,
    Plio1,
    Quantize,
    Rice1,
    _direct,
)

pytestmark = pytest.mark.native

SHAPE = (50, 301)
HEADER = {"OBJECT": ("M 31", "the target"), "EXPTIME": 3.5}
INTEGERS = ["uint8", "int8", "int16", "uint16", "int32", "uint32"]
REALS = ["float32", "float64"]


def noisy(dtype: str, shape: tuple[int, ...] = SHAPE, seed: int = 3) -> torch.Tensor:
    """Noise on a slope, as a sky is."""
    rng = np.random.default_rng(seed)
    values = rng.normal(0, 20, shape) + np.linspace(0, 50, shape[-1])
    if dtype in REALS:
        return torch.from_numpy(values.astype(dtype))
    limits = np.iinfo(dtype)
    middle = (int(limits.min) + int(limits.max)) // 2
    return torch.from_numpy(np.clip(np.rint(values) + middle, limits.min, limits.max).astype(dtype))


def mask(dtype: str, shape: tuple[int, ...] = SHAPE) -> torch.Tensor:
    rng = np.random.default_rng(4)
    return torch.from_numpy(
        np.repeat(rng.integers(0, 100, (*shape[:-1], -(-shape[-1] // 7))), 7, -1)[..., : shape[-1]].astype(
            dtype
        )
    )


def parts(path, ext: int = 1) -> tuple[fits.Header, bytes, bytes]:
    """The header of the table, its rows, its heap."""
    with fits.open(path, disable_image_compression=True) as hdus, open(path, "rb") as file:
        header = hdus[ext].header
        file.seek(hdus[ext].fileinfo()["datLoc"])
        data = file.read(header["NAXIS1"] * header["NAXIS2"] + header["PCOUNT"])
    size = header["NAXIS1"] * header["NAXIS2"]
    return header, data[:size], data[size:]


def with_holes(image: torch.Tensor) -> torch.Tensor:
    """A row without noise, one of zeros, NaN here and there and in all of a row."""
    image = image.clone()
    image[3] = 5
    image[4, 50:] = 0
    image[7, ::20] = torch.nan
    image[9] = torch.nan
    return image


def packed(tmp_path, image: torch.Tensor, *options: str):
    torchfits.writeto(tmp_path / "plain.fits", image, HEADER)
    return fpack(tmp_path / "plain.fits", tmp_path / "fpack.fz", *options)


# ---------------------------------------------------------------------------- as cfitsio does it

Q1 = ["-q4321", "4"]
CASES = [
    *((noisy(dtype), Rice1(), None, ["-r"]) for dtype in INTEGERS),
    *((noisy(dtype), Gzip1(), None, ["-g1"]) for dtype in INTEGERS),
    *((noisy(dtype), Gzip2(), None, ["-g2"]) for dtype in INTEGERS),
    *((noisy(dtype), Hcompress1(), None, ["-h"]) for dtype in INTEGERS),
    *((noisy(dtype), Gzip1(), None, ["-g1", "-q", "0"]) for dtype in REALS),
    *((noisy(dtype), Gzip2(), None, ["-g2", "-q", "0"]) for dtype in REALS),
    *((mask(dtype), Plio1(), None, ["-p"]) for dtype in ("uint8", "int16", "uint16", "int32")),
    (noisy("int16"), Rice1((20, 33)), None, ["-r", "-t", "33,20"]),
    (noisy("int16"), Rice1((-1, 70)), None, ["-r", "-t", "70,50"]),
    (noisy("int16", (5, 9, 301)), Rice1((2, 4, 100)), None, ["-r", "-t", "100,4,2"]),
    (noisy("int16", (5, 9, 301)), Gzip2((3, 301)), None, ["-g2", "-t", "301,3"]),
    (noisy("int16", (4000,)), Rice1(), None, ["-r"]),
    (noisy("int16", (3, 64, 40)), Hcompress1(), None, ["-h"]),
    (noisy("uint16"), Hcompress1((25, 100)), None, ["-h", "-t", "100,25"]),
    (noisy("int16"), Hcompress1(scale=2.0), None, ["-h", "-s", "2"]),
    (noisy("int32", (64, 70)), Hcompress1(scale=0.75), None, ["-h", "-s", "0.75"]),
    (noisy("int16"), Hcompress1(scale=-10.0), None, ["-h", "-s", "-10"]),
    *(
        (image, codec, steps, [*codec_options, *options])
        for dtype in REALS
        for image in (noisy(dtype), with_holes(noisy(dtype)))
        for codec, codec_options in ((Rice1(), ["-r"]), (Gzip2(), ["-g2"]), (Hcompress1(), ["-h"]))
        for steps, options in (
            (Quantize(seed=4321), Q1),
            (Quantize(), ["-qt", "4"]),
            (Quantize(8.0, "no_dither"), ["-q0", "8"]),
            (Quantize(-0.5, seed=4321), ["-q4321", "-0.5"]),
            (Quantize(method="dither2", seed=4321), ["-qz4321", "4"]),
        )
        if not (steps.method == "dither2" and isinstance(codec, Hcompress1))
    ),
    (noisy("float32"), Rice1((16, 16)), Quantize(seed=10000), ["-r", "-t", "16,16", "-q10000", "4"]),
    (noisy("float32"), Hcompress1(scale=1.5), Quantize(seed=4321), ["-h", "-s", "1.5", *Q1]),
    (noisy("float32"), Gzip1(), Quantize(seed=4321), ["-g1", *Q1]),
]


@pytest.mark.parametrize("number", range(len(CASES)))
def test_what_fpack_writes(tmp_path, number):
    image, codec, steps, options = CASES[number]
    torchfits.writeto(tmp_path / "ours.fits", image, HEADER, compress=codec, quantize=steps)
    header, rows, heap = parts(tmp_path / "ours.fits")
    other, other_rows, other_heap = parts(packed(tmp_path, image, *options))
    assert rows == other_rows
    assert heap == other_heap
    ours = {
        key: value
        for key, value in header.items()
        if key not in ("EXTNAME", "ZEXTEND", "HISTORY", "CHECKSUM", "DATASUM")
    }
    theirs = {key: value for key, value in other.items() if key in ours}
    assert ours.pop("QLEVEL", None) is None
    names = [value for key, value in ours.items() if key.startswith("ZNAME")]
    if "QLEVEL" in names:
        n = names.index("QLEVEL") + 1
        assert (ours.pop(f"ZNAME{n}"), ours.pop(f"ZVAL{n}")) == ("QLEVEL", steps.level)
    for n, side in enumerate(reversed(image.shape), 1):
        theirs[f"ZTILE{n}"] = min(theirs[f"ZTILE{n}"], side)
    assert ours == theirs
    missing = (
        set(other)
        - set(header)
        - {"ZSIMPLE", "HISTORY", "CHECKSUM", "DATASUM", "ZHECKSUM", "ZDATASUM", "COMMENT", ""}
    )
    assert not missing


@pytest.mark.parametrize("number", range(0, len(CASES), 3))
def test_everybody_reads_it(tmp_path, number):
    image, codec, steps, _ = CASES[number]
    path = tmp_path / "ours.fits"
    torchfits.writeto(path, image, HEADER, compress=codec, quantize=steps, checksum=True)
    verify(path)
    back = torchfits.read(path)
    assert back.dtype == image.dtype
    if steps is None and not getattr(codec, "scale", 0):
        assert back.numpy().tobytes() == image.numpy().tobytes()
    with fits.open(funpack(path, tmp_path / "plain.fits")) as hdus:
        np.testing.assert_array_equal(hdus[0].data, back.numpy())
        assert hdus[0].header["OBJECT"] == "M 31"
    np.testing.assert_array_equal(fitsio.read(str(path)), back.numpy())
    with fits.open(path, checksum=True) as hdus:
        # astropy is off by 32768 where PLIO_1 holds uint16
        if not (isinstance(codec, Plio1) and image.dtype == torch.uint16):
            np.testing.assert_array_equal(hdus[1].data, back.numpy())


@pytest.mark.parametrize("codec", [Gzip1(), Gzip2((7, 50), level=9), Gzip2(level=0)])
@pytest.mark.parametrize("dtype", ["int64", "uint64"])
def test_64_bits(tmp_path, dtype, codec):
    """Which cfitsio does not read."""
    image = noisy(dtype)
    image[0, :2] = torch.tensor(
        [torch.iinfo(image.dtype).min, torch.iinfo(image.dtype).max], dtype=image.dtype
    )
    torchfits.writeto(tmp_path / "a.fits", image, compress=codec)
    verify(tmp_path / "a.fits")
    with torchfits.open(tmp_path / "a.fits") as f:
        assert torch.equal(f[1].read(), image)
        assert f[1].compression == (codec if codec.tile_shape else type(codec)((1, SHAPE[1]), codec.level))
    np.testing.assert_array_equal(fits.getdata(tmp_path / "a.fits"), image.numpy())


# ---------------------------------------------------------------------------- floats


def test_floats_are_kept_bit_by_bit(tmp_path):
    image = torch.from_numpy(np.random.default_rng(0).integers(0, 2**32, (40, 50), dtype="u4").view("f4"))
    torchfits.writeto(tmp_path / "a.fits", image, compress=True)
    with torchfits.open(tmp_path / "a.fits") as f:
        assert isinstance(f[1].compression, Gzip2)
        assert f[1].quantize is None
        assert f[1].read().numpy().tobytes() == image.numpy().tobytes()


def test_tiles_that_cannot_be_quantised(tmp_path):
    image = noisy("float32")
    image[3] = 7.25
    image[5, 5] = torch.inf
    image[8, 8] = 3e38
    torchfits.writeto(tmp_path / "a.fits", image, compress=True, quantize=True)
    verify(tmp_path / "a.fits")
    header, _, _ = parts(tmp_path / "a.fits")
    assert header["TTYPE4"] == "GZIP_COMPRESSED_DATA"
    back = torchfits.read(tmp_path / "a.fits")
    for row in (3, 5, 8):
        assert torch.equal(back[row], image[row])
    np.testing.assert_array_equal(fitsio.read(str(tmp_path / "a.fits")), back.numpy())


@pytest.mark.parametrize("method", ["dither1", "dither2", "no_dither"])
def test_the_error_is_a_fraction_of_the_noise(tmp_path, method):
    image = with_holes(noisy("float32", (64, 200)))
    for level in (1.0, 4.0, 100.0):
        torchfits.writeto(
            tmp_path / "a.fits", image, compress=True, quantize=Quantize(level, method), overwrite=True
        )
        back = torchfits.read(tmp_path / "a.fits")
        assert torch.equal(back.isnan(), image.isnan())
        error = (back - image).nan_to_num().abs().max()
        assert 0 < error <= 1.3 * 20 / level
        if method == "dither2":
            assert torch.equal(back == 0, image == 0)


def test_the_seed_is_that_of_the_pixels(tmp_path):
    seeds = []
    for number in (0, 0, 1):
        torchfits.writeto(
            tmp_path / "a.fits", noisy("float32", seed=number), compress=True, quantize=True, overwrite=True
        )
        with torchfits.open(tmp_path / "a.fits") as f:
            seeds.append(f[1].quantize.seed)
    assert seeds[0] == seeds[1] != seeds[2]


# ---------------------------------------------------------------------------- tensors and headers


@pytest.mark.parametrize(
    ("tensor", "stored"),
    [
        (torch.tensor([[1.5, -2.25]], dtype=torch.float16), torch.tensor([[1.5, -2.25]])),
        (torch.tensor([[True, False]]), torch.tensor([[1, 0]], dtype=torch.uint8)),
        (torch.tensor(3), torch.tensor([3])),
        (torch.arange(24, dtype=torch.int32).view(4, 6).T, torch.arange(24, dtype=torch.int32).view(4, 6).T),
        (torch.arange(24.0).view(4, 6)[::2, 1::3], torch.arange(24.0).view(4, 6)[::2, 1::3]),
        (torch.arange(3.0, requires_grad=True), torch.arange(3.0)),
        (torch.tensor([1 + 2j]).conj().imag, torch.tensor([-2.0])),
    ],
)
def test_other_tensors(tmp_path, tensor, stored):
    torchfits.writeto(tmp_path / "a.fits", tensor, compress=True)
    back = torchfits.read(tmp_path / "a.fits", 1)
    assert back.dtype == stored.dtype
    assert torch.equal(back, stored)


def test_a_tensor_that_is_not_aligned(tmp_path):
    raw = torch.arange(401, dtype=torch.uint8)
    image = torch.from_numpy(np.frombuffer(raw.numpy(), "i4", 100, offset=1).reshape(10, 10).copy())
    odd = torch.frombuffer(bytearray(raw.numpy().tobytes()), dtype=torch.int32, count=100, offset=1).view(
        10, 10
    )
    torchfits.writeto(tmp_path / "a.fits", odd, compress="rice")
    assert torch.equal(torchfits.read(tmp_path / "a.fits"), image)


def test_the_header_of_the_image_comes_back(tmp_path):
    header = Header(HEADER | {"EQUINOX": 2000.0, "LONG": "x" * 100, "ESO DET NAME": "ccd", "EXTVER": 3})
    header.add_history("dark subtracted")
    for image in (noisy("uint16"), noisy("float32")):
        torchfits.writeto(tmp_path / "plain.fits", image, header, ext_name="SCI", overwrite=True)
        torchfits.writeto(
            tmp_path / "a.fits", image, header, ext_name="SCI", compress=True, checksum=True, overwrite=True
        )
        verify(tmp_path / "a.fits")
        with torchfits.open(tmp_path / "a.fits") as f:
            assert f["SCI", 3].read_header() == torchfits.read_header(tmp_path / "plain.fits")


def test_without_a_name_the_table_has_that_of_cfitsio(tmp_path):
    torchfits.writeto(tmp_path / "a.fits", noisy("int16"), compress=True)
    assert parts(tmp_path / "a.fits")[0]["EXTNAME"] == "COMPRESSED_IMAGE"
    assert "EXTNAME" not in torchfits.read_header(tmp_path / "a.fits", 1)


def test_gzipped_as_a_whole_too(tmp_path):
    image = noisy("int16")
    torchfits.writeto(tmp_path / "a.fits.gz", image, compress=True, checksum=True)
    assert torch.equal(torchfits.read(tmp_path / "a.fits.gz"), image)


def test_no_data_and_no_pixels(tmp_path):
    torchfits.writeto(tmp_path / "a.fits", None, HEADER, compress=True)
    assert fits.getheader(tmp_path / "a.fits")["OBJECT"] == "M 31"
    with pytest.raises(FitsFormatError, match="without pixels"):
        torchfits.writeto(tmp_path / "b.fits", torch.zeros(3, 0), compress=True)


@pytest.mark.parametrize(
    ("image", "codec", "steps"),
    [
        (noisy("int16", (300, 700)), Rice1(), None),
        (noisy("float32", (300, 700)), Rice1((20, 30)), Quantize()),
        (noisy("float32", (300, 700)), Gzip2(), None),
        (noisy("int16", (300, 700)), Hcompress1(scale=2.0), None),
    ],
)
def test_the_file_is_the_same_whatever_the_number_of_threads(tmp_path, image, codec, steps):
    files = []
    for count in (1, 2, 7):
        with torch_threads(count):
            torchfits.writeto(tmp_path / f"{count}.fits", image, compress=codec, quantize=steps)
        files.append((tmp_path / f"{count}.fits").read_bytes())
    assert files[0] == files[1] == files[2]


@pytest.mark.parametrize("name", _direct.variants())
def test_the_file_is_the_same_whatever_the_kernels(tmp_path, name):
    image = with_holes(noisy("float32", (60, 700)))
    torchfits.writeto(tmp_path / "a.fits", image, compress=True, quantize=True)
    _direct.use_variant(name)
    try:
        torchfits.writeto(tmp_path / "b.fits", image, compress=True, quantize=True)
    finally:
        _direct.use_variant(_direct.variants()[0])
    assert (tmp_path / "a.fits").read_bytes() == (tmp_path / "b.fits").read_bytes()


def test_descriptors_of_64_bits():
    """Which heaps of 2 GiB and more have."""
    image = noisy("float32", (6, 100))
    image[2] = 1
    encoding = _direct.TileEncoding(
        "RICE_1", (32, 0, 0.0, 0), (6, 100), (1, 100),
        _direct.Conversion(-32, 1, 0, None, _direct.TYPES["float32"]), (4.0, "NO_DITHER", 1),
    )  # fmt: skip
    streams = torch.empty(encoding.room, dtype=torch.uint8)
    tiles = _direct.EncodedTiles(
        encoding, (image.data_ptr(), image.nbytes), (streams.data_ptr(), streams.nbytes), 1
    )
    rows = {}
    for wide in (False, True):
        there = torch.zeros(6 * tiles.row_bytes(wide), dtype=torch.uint8)
        tiles.put_rows(wide, there.data_ptr(), there.nbytes)
        code = "i8" if wide else "i4"
        rows[wide] = np.frombuffer(there.numpy(), f">2{code}, >f8, >f8, >2{code}")
    for narrow, wide in zip(rows[False].tolist(), rows[True].tolist(), strict=True):
        assert [list(np.atleast_1d(x)) for x in narrow] == [list(np.atleast_1d(x)) for x in wide]
    assert rows[True]["f0"][2].tolist() == [0, 0]
    assert rows[True]["f3"][2, 0] > 0


# ---------------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("given_as", "codec"),
    [
        (True, Rice1), ("RICE_1", Rice1), ("rice", Rice1), ("RICE_ONE", Rice1), ("Rice1", Rice1),
        ("gzip", Gzip1), ("GZIP_1", Gzip1), ("gzip2", Gzip2), ("gzip-2", Gzip2),
        ("hcompress", Hcompress1), ("HCOMPRESS_1", Hcompress1), ("plio", Plio1), ("PLIO_1", Plio1),
        (Rice1((10, 20)), Rice1),
    ],
)  # fmt: skip
def test_ways_to_name_a_codec(tmp_path, given_as, codec):
    torchfits.writeto(tmp_path / "a.fits", mask("int16"), compress=given_as)
    with torchfits.open(tmp_path / "a.fits") as f:
        assert type(f[1].compression) is codec
        assert f[1].compression.codec == parts(tmp_path / "a.fits")[0]["ZCMPTYPE"]
        assert f[1].quantize is None
        assert f[0].compression is None


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "uint64"])
def test_true_is_without_loss(tmp_path, dtype):
    torchfits.writeto(tmp_path / "a.fits", noisy(dtype), compress=True)
    with torchfits.open(tmp_path / "a.fits") as f:
        assert f[1].compression == Gzip2((1, SHAPE[1]))
        assert torch.equal(f[1].read(), noisy(dtype))


def test_nothing_is_compressed_unasked(tmp_path):
    for nothing in (None, False):
        torchfits.writeto(
            tmp_path / "a.fits", noisy("int16"), compress=nothing, quantize=nothing, overwrite=True
        )
        with torchfits.open(tmp_path / "a.fits") as f:
            assert len(f) == 1
            assert f[0].compression is None
            assert f[0].quantize is None


@pytest.mark.parametrize(
    ("codec", "steps"),
    [
        (Rice1((10, 30), 16), None),
        (Rice1((1, 301)), Quantize(16.0, "dither2", 77)),
        (Rice1((50, 301)), Quantize(-0.25, "no_dither")),
        (Gzip1((10, 30)), Quantize(2.5, seed=10000)),
        (Gzip1((10, 30), 9), None),
        (Gzip2((25, 301), 0), Quantize(4.0, seed=1)),
        (Hcompress1((10, 43), 2.5, True), Quantize(seed=5)),
        (Hcompress1((50, 301), -4.0), None),
        (Plio1((10, 30)), None),
    ],
)
def test_the_file_tells_its_settings(tmp_path, codec, steps):
    image = mask("int16") if steps is None else noisy("float32")
    torchfits.writeto(tmp_path / "a.fits", image, compress=codec, quantize=steps)
    verify(tmp_path / "a.fits")
    with torchfits.open(tmp_path / "a.fits") as f:
        assert f[1].compression == codec
        assert f[1].quantize == steps
        lossless = not getattr(codec, "scale", 0) and steps is None
        assert not lossless or torch.equal(f[1].read(), image)
        assert funpack(tmp_path / "a.fits", tmp_path / "b.fits")
        assert np.array_equal(fits.getdata(tmp_path / "b.fits"), f[1].read().numpy())


def test_the_settings_of_files_of_others(tmp_path):
    with torchfits.open(packed(tmp_path, noisy("float32"), "-r", "-q77", "8.5")) as f:
        assert f[1].compression == Rice1((1, 301))
        assert f[1].quantize == Quantize(8.5, "dither1", 77)
    hdu = fits.CompImageHDU(
        noisy("int16").numpy(), compression_type="HCOMPRESS_1", hcomp_scale=3, hcomp_smooth=1
    )
    hdu.writeto(tmp_path / "a.fits")
    with torchfits.open(tmp_path / "a.fits") as f:
        assert f[1].compression == Hcompress1(f[1].compression.tile_shape, 3.0, True)


def test_settings_are_values():
    assert Rice1() == Rice1(None, 32) != Rice1((1, 2))
    assert Gzip1() != Gzip2()
    assert Rice1([3, 4]) == Rice1((3, 4))
    assert hash(Quantize()) == hash(Quantize(4.0, "dither1", None))
    with pytest.raises(AttributeError):
        Rice1().blocksize = 16


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: Rice1((0, 5)), FitsFormatError, "-1 for a whole axis"),
        (lambda: Rice1((2**31,)), FitsFormatError, "a side of tile_shape"),
        (lambda: Rice1(()), FitsFormatError, "tile_shape"),
        (lambda: Rice1(5), TypeError, "tuple"),
        (lambda: Rice1((1.5, 2)), TypeError, "int"),
        (lambda: Rice1(blocksize=20), FitsFormatError, "16 or 32"),
        (lambda: Gzip2(level=10), FitsFormatError, "0 to 9"),
        (lambda: Gzip1(level=True), TypeError, "int"),
        (lambda: Hcompress1(scale=float("nan")), FitsFormatError, "scale"),
        (lambda: Hcompress1(smooth=1), TypeError, "bool"),
        (lambda: Quantize(0), FitsFormatError, "without quantize="),
        (lambda: Quantize(method="subtle"), FitsFormatError, "dither1, dither2, no_dither"),
        (lambda: Quantize(seed=0), FitsFormatError, "1 to 10000"),
        (lambda: Quantize("4"), TypeError, "number"),
    ],
)
def test_settings_that_are_none(make, error, words):
    with pytest.raises(error, match=words):
        make()


@pytest.mark.parametrize(
    ("image", "arguments", "words"),
    [
        (noisy("float32"), {"compress": "rice"}, "Gzip2.*quantize=True"),
        (noisy("float64"), {"compress": Hcompress1()}, "Gzip2.*quantize=True"),
        (noisy("float32"), {"compress": "plio", "quantize": True}, "Gzip2.*Rice1"),
        (
            noisy("float32"),
            {"compress": Hcompress1(), "quantize": Quantize(method="dither2")},
            "Rice1.*dither1",
        ),
        (noisy("int64"), {"compress": Rice1()}, "Gzip2"),
        (noisy("uint64"), {"compress": "hcompress"}, "Gzip2"),
        (noisy("int16"), {"compress": "plio"}, "0 to 16777215"),
        (noisy("int16"), {"compress": True, "quantize": True}, "leave it out"),
        (noisy("float32"), {"quantize": True}, "compress=True"),
        (noisy("int16"), {"compress": "zip"}, "RICE_1, GZIP_1, GZIP_2, HCOMPRESS_1, PLIO_1"),
        (noisy("int16"), {"compress": Rice1((2, 2, 2))}, "2, 2, 2.*50 x 301"),
        (noisy("int16", (300,)), {"compress": "hcompress"}, "Rice1"),
        (noisy("int16", (3, 300)), {"compress": "hcompress"}, "Rice1"),
        (noisy("int16", (30, 300)), {"compress": Hcompress1((30, 3))}, "30 x 3.*Rice1"),
        (noisy("int16", (8, 8, 8)), {"compress": Hcompress1((4, 4, 4))}, "two axes"),
        (noisy("int16", (18, 9)), {"compress": Hcompress1((4, 4))}, "edges"),
        (
            torch.zeros((4, 262145), dtype=torch.int16),
            {"compress": "hcompress"},
            "262144 pixels.*tile_shape=",
        ),
        (torch.zeros((262145, 4), dtype=torch.int16), {"compress": Hcompress1((-1, 4))}, "262145 x 4"),
    ],
)
def test_what_does_not_go_together_is_refused_with_advice(tmp_path, image, arguments, words):
    with pytest.raises(FitsFormatError, match=words) as caught:
        torchfits.writeto(tmp_path / "a.fits", image, **arguments)
    assert caught.value.path == str(tmp_path / "a.fits")
    assert os.listdir(tmp_path) == []


def test_of_several_bad_tiles_the_first_is_named(tmp_path):
    """Whichever thread is first: one has a bad tile at once, the other after a whole piece of good ones."""
    image = torch.zeros((1024, 1024), dtype=torch.int32)
    image[127:, 0] = -1
    for _ in range(10):
        with torch_threads(2), pytest.raises(FitsFormatError, match=r"tile 127 has pixels"):
            torchfits.writeto(tmp_path / "a.fits", image, compress="plio")


def test_other_things_that_are_refused(tmp_path):
    with pytest.raises(FitsUnsupported, match="17 axes"):
        torchfits.writeto(tmp_path / "a.fits", torch.zeros((1,) * 17), compress=True)
    with pytest.raises(FitsUnsupported, match="tables"):
        torchfits.writeto(tmp_path / "a.fits", {"A": torch.zeros(3)}, compress=True)
    for arguments in ({"compress": 5}, {"compress": Rice1}, {"compress": True, "quantize": "4"}):
        with pytest.raises(TypeError):
            torchfits.writeto(tmp_path / "a.fits", torch.zeros(3), **arguments)
    assert os.listdir(tmp_path) == []


def test_an_image_read_with_nocompress_has_settings_that_are_not_written(tmp_path):
    hdu = fits.CompImageHDU(noisy("int16").numpy(), compression_type="NOCOMPRESS")
    hdu.writeto(tmp_path / "a.fits")
    with torchfits.open(tmp_path / "a.fits") as f:
        codec = f[1].compression
    assert codec.codec == "NOCOMPRESS"
    with pytest.raises(FitsFormatError, match="leave compress= out"):
        torchfits.writeto(tmp_path / "b.fits", noisy("int16"), compress=codec)


@pytest.mark.parametrize(
    "arguments",
    [
        {"tile": (5, 6)}, {"shape": (4,)}, {"tile": (0, 6)}, {"size": 47}, {"room": 0},
        {"codec": "NOCOMPRESS"}, {"quantisation": (4.0, "NO_DITHER", 1)}, {"codec": "HCOMPRESS_1"},
        {"codec": "HCOMPRESS_1", "tile": (3, 6)}, {"options": (0, 0, 0.0, 0)}, {"bitpix": 64},
        {"bitpix": -16},
    ],
)  # fmt: skip
def test_arguments_that_the_encoders_would_trust(arguments):
    image = torch.zeros(4, 6, dtype=torch.int16)
    given = {"codec": "RICE_1", "options": (32, 1, 0.0, 0), "shape": (4, 6), "tile": (1, 6), "bitpix": 16,
             "quantisation": None, "size": 48, "room": 4096} | arguments  # fmt: skip
    streams = torch.empty(4096, dtype=torch.uint8)
    with pytest.raises(ValueError, match=r"tiles|image|codec|blocks|room|BITPIX|axes"):
        _direct.EncodedTiles(
            _direct.TileEncoding(
                given["codec"], given["options"], given["shape"], given["tile"],
                _direct.Conversion(given["bitpix"], 1, 0, None, _direct.TYPES["int16"]),
                given["quantisation"],
            ),
            (image.data_ptr(), given["size"]), (streams.data_ptr(), given["room"]), 1,
        )  # fmt: skip


# ---------------------------------------------------------------------------- any image


@st.composite
def images(draw):
    dtype = draw(st.sampled_from([*INTEGERS, "int64", "uint64", *REALS]))
    shape = tuple(draw(st.lists(st.integers(1, 12), min_size=1, max_size=4)))
    shape = (*shape[:-1], shape[-1] * draw(st.sampled_from([1, 7, 40])))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    if dtype in REALS:
        image = rng.normal(0, 10.0 ** draw(st.integers(-9, 9)), shape).astype(dtype)
        image[rng.random(shape) < draw(st.sampled_from([0, 0.1, 0.9]))] = draw(
            st.sampled_from([0.0, np.nan, np.inf])
        )
    else:
        limits = np.iinfo(dtype)
        width = min(2 ** draw(st.integers(0, 63)), int(limits.max))
        image = rng.integers(max(-width, int(limits.min)), width, shape, dtype=dtype, endpoint=True)
    tile = draw(st.none() | st.tuples(*(st.integers(1, side) | st.just(-1) for side in shape)))
    return torch.from_numpy(image), tile


@pytest.mark.parametrize("columns", [28, 30, 33, 35])
@pytest.mark.parametrize("kind", [Rice1, Gzip1, Hcompress1])
def test_tiles_at_an_edge_whose_short_rows_count_as_one(tmp_path, kind, columns):
    """The noise of such a tile is that of one long row, which takes more memory than a whole tile."""
    shape, tile = ((27, columns), (-1, 27)) if kind is Hcompress1 else ((3, 9, columns), (-1, -1, 27))
    pixels = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    path = tmp_path / "a.fits"
    torchfits.writeto(path, pixels, compress=kind(tile_shape=tile), quantize=True)
    assert (torchfits.read(path, 1) - pixels).abs().max() < 0.5
    assert np.abs(fits.getdata(path, 1) - pixels.numpy()).max() < 0.5


@pytest.mark.parametrize("smooth", [False, True])
@pytest.mark.parametrize("scale", [0.0, -1.4, -3.0, -1e9])
@pytest.mark.parametrize("image", ["least", "greatest", "halves"])
def test_the_longest_tiles_of_hcompress(tmp_path, image, scale, smooth):
    """Their coefficients, the largest that there are, have no more bits than can be read."""
    limits, path = torch.iinfo(torch.int32), tmp_path / "a.fits"
    pixels = torch.full((4, 1 << 18), limits.max if image == "greatest" else limits.min, dtype=torch.int32)
    if image == "halves":
        pixels[:, 1 << 17 :] = limits.max
    torchfits.writeto(path, pixels, compress=Hcompress1((4, -1), scale, smooth))
    back = torchfits.read(path, 1)
    assert scale or torch.equal(back, pixels)


@settings(max_examples=150, deadline=None)
@given(made=images(), kind=st.sampled_from([Rice1, Gzip1, Gzip2, Hcompress1, Plio1]), steps=st.booleans())
def test_what_is_written_is_read(tmp_path_factory, made, kind, steps):
    image, tile = made
    quantize = Quantize() if steps and image.is_floating_point() else None
    path = tmp_path_factory.mktemp("any") / "a.fits"
    try:
        torchfits.writeto(path, image, compress=kind(tile), quantize=quantize)
    except FitsFormatError:
        assert not path.exists()
        assert kind not in (Gzip1, Gzip2)
        assert kind is not Rice1 or (image.is_floating_point() and not steps) or image.element_size() == 8
        return
    back = torchfits.read(path, 1)
    assert back.dtype == image.dtype
    if quantize is None:
        assert back.numpy().tobytes() == image.numpy().tobytes()
    else:
        assert torch.equal(back.isnan(), image.isnan())
    # cfitsio reads no int64, and makes NaN of infinities
    if image.element_size() < 8 or image.is_floating_point():
        with torchfits.open(path, engine="cfitsio") as f:
            other = f[1].read()
        np.testing.assert_array_equal(other.nan_to_num(posinf=0).numpy(), back.nan_to_num(posinf=0).numpy())
