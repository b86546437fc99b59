"""Images: every BITPIX, every convention, sections, many axes, compressed ones; the oracle is astropy."""

from __future__ import annotations

import gzip
import math

import numpy as np
import pytest
import torch
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

import torchfits
from torchfits import FitsFormatError, FitsUnsupported, SectionError

pytestmark = pytest.mark.native
BLOCK = 2880


def raw_image(cards: dict, data: bytes) -> bytes:
    """A primary HDU as raw bytes, mandatory cards first."""
    lines = ["SIMPLE  =                    T"]
    for key, value in cards.items():
        text = f"'{value}'" if isinstance(value, str) and value[:1].isalpha() else f"{value}"
        lines.append(f"{key:<8}= {text:>20}")
    header = "".join(line.ljust(80) for line in [*lines, "END"]).encode()
    header += b" " * (-len(header) % BLOCK)
    return header + data + bytes(-len(data) % BLOCK)


def image_of(array: np.ndarray, bitpix: int, **cards) -> bytes:
    shape = {f"NAXIS{i + 1}": n for i, n in enumerate(reversed(array.shape))}
    return raw_image({"BITPIX": bitpix, "NAXIS": array.ndim, **shape, **cards}, array.tobytes())


DTYPES = [
    (8, "u1", torch.uint8),
    (16, ">i2", torch.int16),
    (32, ">i4", torch.int32),
    (64, ">i8", torch.int64),
    (-32, ">f4", torch.float32),
    (-64, ">f8", torch.float64),
]


def extremes(dtype: str, shape=(7, 11)) -> np.ndarray:
    """Values whose bytes differ when swapped, the extremes of the type among them."""
    size = math.prod(shape)
    kind = np.dtype(dtype)
    if kind.kind == "f":
        values = np.linspace(-1e30, 1e30, size)
        values[:6] = [0, -0.0, np.nan, np.inf, -np.inf, np.finfo(kind).smallest_subnormal]
    else:
        info = np.iinfo(kind)
        values = np.random.default_rng(2).integers(
            info.min, info.max, size, endpoint=True, dtype=kind.newbyteorder("=")
        )
        values[:3] = [info.min, info.max, 1]
    return values.astype(kind).reshape(shape)


@pytest.mark.parametrize(("bitpix", "stored", "dtype"), DTYPES)
def test_every_bitpix(tmp_path, bitpix, stored, dtype):
    array = extremes(stored)
    path = tmp_path / "a.fits"
    path.write_bytes(image_of(array, bitpix))
    tensor = torchfits.read(path)
    assert tensor.dtype == dtype
    assert tensor.shape == (7, 11)
    assert tensor.numpy().tobytes() == array.astype(array.dtype.newbyteorder("=")).tobytes()


@pytest.mark.parametrize("zero_text", ["{}", "{}.", "{}.0E0"])
@pytest.mark.parametrize(
    ("bitpix", "stored", "zero", "dtype"),
    [
        (8, "u1", -128, torch.int8),
        (16, ">i2", 2**15, torch.uint16),
        (32, ">i4", 2**31, torch.uint32),
        (64, ">i8", 2**63, torch.uint64),
    ],
)
def test_the_unsigned_conventions_are_exact(tmp_path, bitpix, stored, zero, dtype, zero_text):
    array = extremes(stored)
    path = tmp_path / "a.fits"
    path.write_bytes(image_of(array, bitpix, BSCALE="1.0", BZERO=zero_text.format(zero)))
    with torchfits.open(path) as f:
        tensor, raw = f[0].read(), f[0].read(raw=True)
        assert f[0].dtype == dtype
    assert tensor.dtype == dtype
    assert tensor.tolist() == [[int(v) + zero for v in row] for row in array]
    assert raw.tolist() == array.tolist()


@pytest.mark.parametrize(("bitpix", "stored", "dtype"), DTYPES)
def test_scaling_and_blank(tmp_path, bitpix, stored, dtype):
    array = np.array([[1, 2, 3], [100, 101, 7]], dtype=stored)
    path = tmp_path / "a.fits"
    blank = {"BLANK": 100} if bitpix > 0 else {}
    path.write_bytes(image_of(array, bitpix, BSCALE="0.5", BZERO="10.25", **blank))
    wide = torch.float32 if abs(bitpix) < 32 or bitpix == -32 else torch.float64
    expected = torch.from_numpy(array.astype("f8") * 0.5 + 10.25).to(wide)
    if blank:
        expected[1, 0] = math.nan
    with torchfits.open(path) as f:
        assert f[0].dtype == wide
        torch.testing.assert_close(f[0].read(), expected, rtol=0, atol=0, equal_nan=True)
        assert f[0].read(raw=True).tolist() == array.tolist()
        # scaled, raw and scaled again: no state of one read reaches the next
        torch.testing.assert_close(f[0].read(), expected, rtol=0, atol=0, equal_nan=True)


def test_blank_without_scaling_is_nan(tmp_path):
    path = tmp_path / "a.fits"
    array = np.array([5, -99, 6], dtype=">i2")
    path.write_bytes(image_of(array, 16, BLANK=-99))
    with torchfits.open(path) as f:
        assert f[0].read().tolist()[::2] == [5, 6]
        assert math.isnan(f[0].read()[1])
        assert f[0].read(raw=True).tolist() == [5, -99, 6]
        with pytest.raises(FitsFormatError, match="null pixels"):
            f[0].read(dtype=torch.int32)


def test_no_data(tmp_path):
    path = tmp_path / "a.fits"
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(np.zeros((2, 0, 3), dtype="f4"))]).writeto(path)
    with torchfits.open(path) as f:
        assert f[0].shape == f[0].read().shape == (0,)
        assert f[1].shape == f[1].read().shape == (2, 0, 3)


@pytest.mark.parametrize("axes", [1, 2, 3, 7, 8, 9, 10, 20, 64])
def test_many_axes(tmp_path, axes):
    shape = tuple([1] * max(axes - 4, 0) + [2, 3, 2, 3][: min(axes, 4)])
    array = np.arange(math.prod(shape), dtype=">i2")
    path = tmp_path / "a.fits"
    lengths = {f"NAXIS{i + 1}": n for i, n in enumerate(reversed(shape))}
    path.write_bytes(raw_image({"BITPIX": 16, "NAXIS": axes, **lengths}, array.tobytes()))
    expected = torch.arange(len(array), dtype=torch.int16).reshape(shape)
    with torchfits.open(path) as f:
        assert torch.equal(f[0].read(), expected)
        assert torch.equal(
            f[0][..., 1:, ::2] if axes > 1 else f[0][::2],
            expected[..., 1:, ::2] if axes > 1 else expected[::2],
        )
        assert torch.equal(f[0][..., -1], expected[..., -1])


@pytest.mark.parametrize("axes", [65, 99, 100, 999])
def test_more_axes_than_torch_holds(tmp_path, axes):
    path = tmp_path / "a.fits"
    lengths = {f"NAXIS{i + 1}": 1 for i in range(axes)}
    path.write_bytes(raw_image({"BITPIX": 16, "NAXIS": axes, **lengths}, b"\1\2"))
    with torchfits.open(path) as f:
        assert f[0].shape == (1,) * axes
        with pytest.raises(FitsUnsupported, match="torch holds at most 64"):
            f[0].read()


parts = st.one_of(
    st.integers(-6, 5),
    st.slices(6).filter(lambda s: s.step is None or s.step > 0),
    st.builds(
        slice, st.integers(-9, 9) | st.none(), st.integers(-9, 9) | st.none(), st.integers(1, 4) | st.none()
    ),
)


@pytest.mark.parametrize("kind", ["plain", "scaled", "compressed", "gzip"])
@given(section=st.lists(parts, max_size=4).map(tuple), where=st.none() | st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_a_section_equals_the_slice_of_the_tensor(tmp_path_factory, kind, section, where):
    path = _sliced(tmp_path_factory, kind)
    if where is not None and len(section) < 4:
        section = (*section[:where], Ellipsis, *section[where:])
    with torchfits.open(path) as f:
        whole = f[1].read()
        try:
            expected = whole[section]
        except IndexError:
            with pytest.raises(SectionError):
                f[1].read(section)
            return
        assert torch.equal(f[1].read(section), expected)
        assert torch.equal(f[1][section], expected)


_SLICED: dict = {}


def _sliced(factory, kind):
    if kind not in _SLICED:
        path = factory.mktemp("sliced") / ("a.fits.gz" if kind == "gzip" else "a.fits")
        array = np.arange(6**4, dtype="i4").reshape(6, 6, 6, 6)
        hdu = fits.CompImageHDU(array[0]) if kind == "compressed" else fits.ImageHDU(array)
        if kind == "scaled":
            hdu.scale("int16", bscale=0.25, bzero=3)
        fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path)
        _SLICED[kind] = path
    return _SLICED[kind]


@pytest.mark.parametrize(
    "section",
    [
        (0, 0, 0),
        5,
        -5,
        (slice(None, None, -1),),
        (0.5,),
        (None,),
        ([1, 2],),
        (np.arange(2), slice(None)),
        (..., ...),
        (True,),
        "a",
    ],
)
def test_what_is_no_section(tmp_path, section):
    path = tmp_path / "a.fits"
    fits.writeto(path, np.zeros((4, 4), dtype="f4"))
    with torchfits.open(path) as f, pytest.raises(SectionError) as caught:
        f[0].read(section)
    assert caught.value.path == str(path)
    assert caught.value.hdu == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64])
def test_dtype_converts(tmp_path, dtype):
    path = tmp_path / "a.fits"
    fits.writeto(path, np.arange(12, dtype="u2").reshape(3, 4))
    tensor = torchfits.read(path, dtype=dtype)
    assert tensor.dtype == dtype
    assert tensor.tolist() == np.arange(12).reshape(3, 4).tolist()


def test_out(tmp_path):
    path = tmp_path / "a.fits"
    array = np.arange(12, dtype="f4").reshape(3, 4)
    fits.writeto(path, array)
    with torchfits.open(path) as f:
        out = torch.empty(3, 4)
        assert f[0].read(out=out) is out
        assert torch.equal(out, torch.from_numpy(array))
        wide = torch.empty(2, 4, dtype=torch.float64)
        assert f[0].read((slice(1, 3),), out=wide) is wide
        assert torch.equal(wide, torch.from_numpy(array[1:3].astype("f8")))
        for bad in (torch.empty(4, 3), torch.empty(4, 3).T, torch.empty(3, 8)[:, ::2]):
            with pytest.raises(FitsFormatError, match="out"):
                f[0].read(out=bad)
        with pytest.raises(FitsFormatError, match="dtype"):
            f[0].read(out=torch.empty(3, 4, dtype=torch.int16), dtype=torch.float32)
        with pytest.raises(TypeError):
            f[0].read(out=np.empty((3, 4)))


COMPRESSED = [
    ("RICE_1", "u1"), ("RICE_1", "i2"), ("RICE_1", "i4"), ("GZIP_1", "u1"), ("GZIP_1", "i2"),
    ("GZIP_1", "i4"), ("GZIP_2", "i2"), ("GZIP_2", "i4"), ("PLIO_1", "u1"), ("PLIO_1", "i2"),
    ("HCOMPRESS_1", "i2"), ("HCOMPRESS_1", "i4"),
    ("RICE_1", "u2"), ("RICE_1", "u4"), ("GZIP_2", "u2"),
]  # fmt: skip


@pytest.mark.parametrize(("codec", "stored"), COMPRESSED)
@pytest.mark.parametrize("tile", [None, (16, 35)])
def test_compressed_integers(tmp_path, codec, stored, tile):
    rng = np.random.default_rng(3)
    array = rng.integers(0, 200, (56, 70)).astype(stored)
    path = tmp_path / "a.fits"
    if codec == "HCOMPRESS_1" and tile is None:
        tile = (56, 70)
    hdu = fits.CompImageHDU(array, compression_type=codec, tile_shape=tile, hcomp_scale=0, name="X")
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path)
    with torchfits.open(path) as f:
        assert f["X"].compression.codec == codec
        assert f["X"].shape == (56, 70)
        tensor = f["X"].read()
        assert tensor.numpy().dtype == np.dtype(stored)
        assert np.array_equal(tensor.numpy(), array)
        assert np.array_equal(f["X"][3:40:2, 5:6].numpy(), array[3:40:2, 5:6])


@pytest.mark.parametrize("stored", ["f4", "f8"])
@pytest.mark.parametrize(
    ("codec", "method"),
    [("RICE_1", -1), ("RICE_1", 1), ("RICE_1", 2), ("GZIP_2", 1), ("HCOMPRESS_1", -1), ("GZIP_1", None)],
)
def test_compressed_floats(tmp_path, codec, method, stored):
    """Quantised pixels as astropy decodes them; unquantised ones exact. NaN stays NaN."""
    rng = np.random.default_rng(4)
    array = rng.normal(100, 10, (60, 80)).astype(stored)
    array[5, 5:9] = np.nan
    array[7, :] = 0
    path = tmp_path / "a.fits"
    options = (
        {"quantize_level": 0.0}
        if method is None
        else {"quantize_method": method, "quantize_level": 16, "dither_seed": 1}
    )
    if codec == "HCOMPRESS_1":
        array = np.nan_to_num(array, nan=3.0)
        options["tile_shape"] = (60, 80)
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(array, compression_type=codec, **options)]).writeto(
        path
    )
    with fits.open(path) as f:
        expected = f[1].data
    tensor = torchfits.read(path, 1).numpy()
    assert tensor.dtype == np.dtype(stored)
    assert np.array_equal(np.isnan(tensor), np.isnan(array))
    np.testing.assert_array_equal(tensor, expected)


@pytest.mark.parametrize("axes", [1, 3, 4, 5])
def test_compressed_images_of_many_axes(tmp_path, axes):
    array = np.arange(3**axes, dtype="i2").reshape((3,) * axes)
    path = tmp_path / "a.fits"
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(array, tile_shape=(1,) * (axes - 1) + (3,))]).writeto(
        path
    )
    assert np.array_equal(torchfits.read(path, 1).numpy(), array)
    section = (slice(1, 3), *[slice(0, 3, 2)] * (axes - 1))
    assert np.array_equal(torchfits.read(path, 1, section).numpy(), array[section])


def test_six_compressed_axes_are_read_by_our_own_codecs(tmp_path):
    """cfitsio would leave pixels unwritten."""
    path = tmp_path / "a.fits"
    array = np.arange(2**6, dtype="i2").reshape((2,) * 6)
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(array, tile_shape=(1,) * 5 + (2,))]).writeto(path)
    assert np.array_equal(torchfits.read(path, 1).numpy(), array)
    with torchfits.open(path, engine="cfitsio") as file, pytest.raises(FitsUnsupported, match="6 axes"):
        file[1].read()


def test_lossless_floats_do_not_change_how_the_next_image_is_read(tmp_path):
    """cfitsio keeps the quantisation and smoothing of one image where the next does not mention them."""
    path = tmp_path / "a.fits"
    array = np.random.default_rng(8).normal(size=(40, 50)).astype("f4")
    lossy = {"quantize_method": 1, "dither_seed": 3}
    fits.HDUList(
        [
            fits.PrimaryHDU(),
            fits.CompImageHDU(array, compression_type="GZIP_1", quantize_level=0.0),
            fits.CompImageHDU(array, **lossy),
        ]
    ).writeto(path)
    with fits.open(path) as f, torchfits.open(path) as g:
        expected = [f[1].data, f[2].data]
        for index in (2, 1, 2):
            np.testing.assert_array_equal(g[index].read().numpy(), expected[index - 1])


def test_the_header_of_a_compressed_image_is_that_of_the_image(tmp_path):
    path = tmp_path / "a.fits"
    header = fits.Header([("OBJECT", "M31", "what"), ("EXPTIME", 2.5)])
    header["HISTORY"] = "made"
    fits.HDUList(
        [fits.PrimaryHDU(), fits.CompImageHDU(np.zeros((5, 6), dtype="i2"), header, name="X")]
    ).writeto(path)
    found = torchfits.read_header(path, "X")
    assert found["XTENSION"] == "IMAGE"
    assert [found[key] for key in ("BITPIX", "NAXIS", "NAXIS1", "NAXIS2")] == [16, 2, 6, 5]
    assert (found["OBJECT"], found.comments["OBJECT"], found["EXPTIME"]) == ("M31", "what", 2.5)
    assert found["HISTORY"] == ["made"]
    assert not [key for key in found if key.startswith(("Z", "TFORM", "TTYPE"))]


def test_gzip_of_several_members(tmp_path):
    path = tmp_path / "a.fits.gz"
    array = np.arange(5000, dtype=">i4")
    data = image_of(array, 32)
    path.write_bytes(gzip.compress(data[:3000]) + gzip.compress(data[3000:]))
    assert torch.equal(torchfits.read(path), torch.arange(5000, dtype=torch.int32))
