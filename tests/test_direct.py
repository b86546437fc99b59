"""The direct engine: what it reads is what cfitsio, astropy and numpy make of the same bytes, bit for bit."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st
from images import (
    DTYPES,
    EMPTY,
    ENGINES,
    STORED,
    ZERO_OF_OTHER_SIGN,
    Scaling,
    assert_same,
    converted,
    counting,
    exact_bits,
    image,
    natural,
    noise,
    physical,
)
from test_oracles import FILES

import torchfits
from torchfits import FitsFormatError, FitsUnsupported

pytestmark = pytest.mark.native

# rounds to another float32 by way of float64
TWICE = 2**60 + 2**36 + 1
SCALINGS = {
    "none": Scaling(),
    "other sign": Scaling(zero=None),
    "half": Scaling(0.5, 10.25),
    "zero only": Scaling(1, -3.0),
    "scale only": Scaling(2.0),
    "inexact": Scaling(1 / 3, 0.1),
    "huge": Scaling(1e300, -1e290),
    "blank": Scaling(blank=77),
    "blank and scale": Scaling(-0.5, 1e-3, 77),
    "blank and other sign": Scaling(zero=None, blank=77),
}
EXACT = ("none", "other sign", "half", "zero only", "scale only", "blank")
CASES = [
    (bitpix, name)
    for bitpix, name in itertools.product(STORED, SCALINGS)
    if bitpix > 0 or not ("sign" in name or "blank" in name)
]


def tricky(bitpix: int) -> np.ndarray:
    """The extremes of a stored type, what rounds badly, and 77, which some headers call null; 7 x 41."""
    stored = np.dtype(STORED[bitpix])
    values = noise(stored.str[1:], (7, 41)).ravel()
    if stored.kind == "f":
        info = np.finfo(stored)
        around = [
            0.5, 1.5, -1.5, -0.9, 127.5, 128, -129, 255.99, 256, 32767.5, 65504, 65520, 65519.99, -32769,
            6e-8, 2.98e-8, 2.0**31, -(2.0**31), 2.0**32, 2.0**63, -(2.0**63), 2.0**64, 1e30, -1e30,
            1 + 2.0**-11, 1 + 3 * 2.0**-9,
        ]  # fmt: skip
        special = [0, -0.0, math.nan, -math.nan, math.inf, -math.inf, info.max, info.min, info.tiny, 77]
        known = [*special, info.smallest_subnormal, -info.smallest_subnormal, *around]
    else:
        low, high = np.iinfo(stored).min, np.iinfo(stored).max
        known = [
            low,
            high,
            low + 1,
            high - 1,
            0,
            1,
            77,
            high // 2,
            2048 % high,
            2049 % high,
            2051 % high,
            128,
            255,
        ]
        known += [-1, 32768, 65535, 2**24 + 1, 2**31, 2**53 + 1, -(2**53) - 1, TWICE]
        known = [v for v in known if low <= v <= high]
    values[: len(known)] = np.array(known, dtype=stored)
    return values.reshape(7, 41)


def with_payload(array: np.ndarray) -> np.ndarray:
    """Some NaN that carry bits of their own, and one that signals."""
    if array.dtype.kind == "f":
        words = array.reshape(-1).view(f"u{array.dtype.itemsize}")
        words[-3:] = [0x7FC12345, 0xFFC00001, 0x7F800001] if words.itemsize == 4 else [
            0x7FF8000012345678, 0xFFF8000000000001, 0x7FF0000000000001]  # fmt: skip
    return array


def refuses_null(scaling: Scaling, dtype: torch.dtype) -> bool:
    floating = dtype.is_floating_point or dtype.is_complex
    return scaling.blank is not None and scaling.zero is not None and not floating


# ---------------------------------------------------------------------------- values


@pytest.mark.parametrize(("bitpix", "name"), CASES)
def test_every_convention_to_every_dtype(tmp_path, variant, bitpix, name):
    """The same bits by both engines and numpy; in a section, behind a pixel of padding, and with out=."""
    array, scaling = tricky(bitpix), SCALINGS[name]
    path = tmp_path / "a.fits"
    path.write_bytes(EMPTY + image(array, primary=False, **scaling.cards(bitpix)))
    values = physical(array, bitpix, scaling)
    with torchfits.open(path, engine="direct") as f, torchfits.open(path, engine="cfitsio") as g:
        assert (f[1].engine, g[1].engine) == ("direct", "cfitsio")
        assert f[1].dtype == natural(values, bitpix)
        for dtype in (None, *DTYPES):
            if dtype is not None and refuses_null(scaling, dtype):
                for hdu in (f[1], g[1]):
                    with pytest.raises(FitsFormatError, match="null"):
                        hdu.read(dtype=dtype)
                    with pytest.raises(FitsFormatError, match="null"):
                        hdu.read(out=torch.empty(7, 41, dtype=dtype))
                continue
            expected = converted(values, dtype or f[1].dtype)
            tensor = f[1].read(dtype=dtype)
            assert_same(tensor, expected)
            assert_same(g[1].read(dtype=dtype), tensor, exact=True)
            for hdu in (f[1], g[1]):
                frame = torch.zeros(9, 41, dtype=expected.dtype)
                assert hdu.read(out=frame[1:8]) is not frame
                assert_same(frame[1:8], tensor, exact=True)
                assert not frame[0].any()
                assert not frame[8].any()
                part = hdu.read((slice(1, 6, 2), slice(3, None)), dtype=dtype)
                assert_same(part, tensor[1:6:2, 3:], exact=True)


@pytest.mark.parametrize(("bitpix", "name"), CASES)
def test_the_stored_numbers(tmp_path, variant, bitpix, name):
    array, scaling = with_payload(tricky(bitpix)), SCALINGS[name]
    path = tmp_path / "a.fits"
    path.write_bytes(image(array, **scaling.cards(bitpix)))
    for engine in ENGINES:
        with torchfits.open(path, engine=engine) as f:
            assert_same(f[0].read(raw=True), torch.from_numpy(array), exact=True)
            assert_same(f[0].read((2, ...), raw=True), torch.from_numpy(array[2]), exact=True)
            wanted = torch.float64 if bitpix > 0 else torch.float32
            assert_same(f[0].read(raw=True, dtype=wanted), converted(array, wanted))
            # what was read raw does not colour what is read after it
            values = physical(array, bitpix, scaling)
            assert_same(f[0].read(), converted(values, f[0].dtype))


@pytest.mark.parametrize("bitpix", [-32, -64])
def test_floats_keep_every_bit(tmp_path, variant, bitpix):
    """Plain floats are only swapped: the payload of NaN, denormals and -0.0 are as they lie in the file."""
    array = with_payload(tricky(bitpix))
    path = tmp_path / "a.fits"
    path.write_bytes(image(array))
    for engine in ENGINES:
        with torchfits.open(path, engine=engine) as f:
            assert_same(f[0].read(), torch.from_numpy(array), exact=True)
            assert_same(f[0].read(out=torch.empty_like(f[0].read())), torch.from_numpy(array), exact=True)


@pytest.mark.parametrize("dtype", [dtype for dtype in DTYPES if dtype != torch.complex64])
@pytest.mark.parametrize("bitpix", STORED)
def test_in_range_values_convert_as_in_torch(tmp_path, bitpix, dtype):
    array = np.random.default_rng(1).integers(0, 100, (5, 33)).astype(STORED[bitpix])
    if bitpix < 0:
        array += 0.75
    path = tmp_path / "a.fits"
    path.write_bytes(image(array))
    expected = torch.from_numpy(array).to(dtype)
    for engine in ENGINES:
        assert_same(torchfits.read(path, 0, dtype=dtype, engine=engine), expected, exact=True)


@pytest.mark.parametrize("dtype", DTYPES[:9])
@pytest.mark.parametrize("bitpix", [8, 16, 32, 64])
def test_integers_wrap_as_in_torch(tmp_path, bitpix, dtype):
    array = tricky(bitpix)
    path = tmp_path / "a.fits"
    path.write_bytes(image(array))
    expected = torch.from_numpy(array).to(dtype)
    for engine in ENGINES:
        assert_same(torchfits.read(path, 0, dtype=dtype, engine=engine), expected, exact=True)


@pytest.mark.parametrize(("bitpix", "name"), [case for case in CASES if case[1] in EXACT])
def test_astropy_agrees(tmp_path, bitpix, name):
    """Where float32 and float64 arithmetic give the same, so that astropy's choice does not matter."""
    array = np.random.default_rng(3).integers(0, 120, (9, 30)).astype(STORED[bitpix])
    path = tmp_path / "a.fits"
    path.write_bytes(image(array, **SCALINGS[name].cards(bitpix)))
    with fits.open(path) as f:
        data = f[0].data
        expected = torch.from_numpy(np.ascontiguousarray(data, dtype=data.dtype.newbyteorder("=")))
    assert_same(torchfits.read(path, engine="direct"), expected)


def _is_for_both(path) -> bool:
    """Of a size that is read in no time, and not packed in a way that nobody here unpacks."""
    return path.stat().st_size < 4 << 20 and path.suffix != ".Z"


@pytest.mark.filterwarnings("ignore::torchfits.FitsWarning")
@pytest.mark.parametrize("name", sorted(name for name, path in FILES.items() if _is_for_both(path)))
def test_real_images_are_the_same_by_both_engines(name):
    with (
        torchfits.open(FILES[name], cache=False) as f,
        torchfits.open(FILES[name], cache=False, engine="cfitsio") as g,
    ):
        for index in range(200):
            try:
                hdu, other = f[index], g[index]
            except torchfits.FitsError:
                break
            if not isinstance(hdu, torchfits.ImageHDU) or hdu.engine != "direct":
                continue
            assert other.engine == "cfitsio"
            results = []
            for how in ({}, {"raw": True}, {"dtype": torch.float16}, {"section": (..., slice(1, None, 3))}):
                pair = []
                for each in (hdu, other):
                    try:
                        pair.append(each.read(**how))
                    except torchfits.FitsError as error:
                        pair.append(type(error))
                results.append(pair)
            for mine, reference in results:
                if isinstance(hdu, torchfits.GroupsHDU):
                    assert reference is FitsUnsupported
                elif isinstance(mine, torch.Tensor):
                    assert_same(mine, reference, exact=True)
                else:
                    assert mine is reference


@st.composite
def files(draw):
    bitpix = draw(st.sampled_from(list(STORED)))
    shape = tuple(draw(st.lists(st.integers(1, 6), min_size=1, max_size=4)))
    stored = np.frombuffer(
        draw(st.binary(min_size=math.prod(shape) * 8, max_size=math.prod(shape) * 8)), dtype=STORED[bitpix]
    )[: math.prod(shape)].reshape(shape)
    size = st.floats(1e-30, 1e30).flatmap(lambda v: st.sampled_from([v, -v]))
    zero = st.none() if bitpix > 0 else st.just(0)
    blank = st.sampled_from([int(v) for v in stored.ravel()]) if bitpix > 0 else st.just(None)
    scaling = draw(
        st.builds(Scaling, st.just(1), zero)
        | st.builds(Scaling, size | st.just(1), size | st.just(0), st.none() | blank)
    )
    return bitpix, stored, scaling, draw(st.sampled_from([None, *DTYPES])), draw(st.booleans())


@given(made=files())
@settings(max_examples=150, deadline=None)
def test_any_image(tmp_path_factory, made):
    bitpix, stored, scaling, dtype, raw = made
    path = tmp_path_factory.mktemp("any") / "a.fits"
    path.write_bytes(image(stored, **scaling.cards(bitpix)))
    if dtype is not None and not raw and refuses_null(scaling, dtype):
        dtype = None
    values = physical(stored, bitpix, scaling, raw)
    expected = converted(values, dtype or natural(values, bitpix))
    mine = torchfits.open(path, engine="direct", cache=False)[0].read(dtype=dtype, raw=raw)
    reference = torchfits.open(path, engine="cfitsio", cache=False)[0].read(dtype=dtype, raw=raw)
    assert_same(mine, expected)
    assert_same(mine, reference, exact=True)
    path.unlink()


def test_zero_of_other_sign_only_with_scale_one(tmp_path):
    """BZERO 32768 with BSCALE 2 is an ordinary scaling."""
    path = tmp_path / "a.fits"
    array = np.array([-32768, 0, 32767], dtype="i2")
    for bitpix, zero in ZERO_OF_OTHER_SIGN.items():
        path.write_bytes(image(array.astype(STORED[bitpix]), BSCALE="2.0", BZERO=zero))
        expected = array.astype(STORED[bitpix]).astype("f8") * 2 + zero
        tensor = torchfits.read(path, dtype=torch.float64)
        assert exact_bits(tensor) == expected.tobytes()


# ---------------------------------------------------------------------------- engines


def test_which_engine_serves(tmp_path):
    path = tmp_path / "a.fits"
    rows = fits.BinTableHDU(np.zeros(3, dtype=[("A", ">i4")]))
    tiles = fits.CompImageHDU(np.arange(100, dtype="i2").reshape(10, 10))
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(counting((3, 4))), rows, tiles]).writeto(path)
    with torchfits.open(path) as f:
        assert [f[i].engine for i in (0, 1, 3)] == ["direct"] * 3
    with torchfits.open(path, engine="cfitsio") as f:
        assert [f[i].engine for i in (0, 1, 3)] == ["cfitsio"] * 3
        assert f[1].read().tolist() == counting((3, 4)).tolist()
        assert len(f[2].read_table()["A"]) == 3
    with torchfits.open(path, engine="direct") as f:
        assert f[1].engine == "direct"
        assert f[1].read().tolist() == counting((3, 4)).tolist()
        assert f[3].read().tolist() == np.arange(100).reshape(10, 10).tolist()
    assert torchfits.read(path, 3, engine="cfitsio").shape == (10, 10)


def test_odd_tiles_are_left_to_cfitsio(tmp_path):
    path = tmp_path / "a.fits"
    tiles = fits.CompImageHDU(np.arange(100, dtype="i2").reshape(10, 10))
    fits.HDUList([fits.PrimaryHDU(), tiles]).writeto(path)
    with fits.open(path, mode="update", disable_image_compression=True) as f:
        f[1].header["ZSCALE"] = 1.0
    with torchfits.open(path) as f:
        assert f[1].engine == "cfitsio"
        assert f[1].read().sum() == 4950
    with torchfits.open(path, engine="direct") as f:
        assert f[1].shape == (10, 10)
        assert f[1].read_header()["NAXIS1"] == 10
        for read in (f[1].read, lambda: f[1][0, 0], lambda: f[1].cutouts([(0, 0)], 2)):
            with pytest.raises(FitsUnsupported, match="ZSCALE") as caught:
                read()
            assert caught.value.path == str(path)
    for call in (torchfits.open, torchfits.read):
        with pytest.raises(FitsUnsupported, match="engine"):
            call(path, engine="fast")


def test_direct_needs_no_cfitsio(tmp_path, monkeypatch):
    """A plain image is read although no handle of cfitsio can be made."""
    path = tmp_path / "a.fits"
    path.write_bytes(image(counting((30, 40))))

    class Broken:
        def __init__(self, *_, **__):
            raise AssertionError("cfitsio was asked")

    monkeypatch.setattr(torchfits.cache, "Handle", Broken)
    with torchfits.open(path, cache=False) as f:
        assert f[0].read().tolist() == counting((30, 40)).tolist()
        assert f[0].cutouts([(1, 1)], 3).shape == (1, 3, 3)
    with torchfits.open(path, cache=False, engine="cfitsio") as f, pytest.raises(AssertionError):
        f[0].read()


@pytest.mark.parametrize("engine", ENGINES)
def test_what_out_must_be(tmp_path, engine):
    path = tmp_path / "a.fits"
    array = counting((6, 8), "i4")
    path.write_bytes(image(array))
    with torchfits.open(path, engine=engine) as f:
        for bad in (torch.empty(8, 6, dtype=torch.int32), torch.empty(48, dtype=torch.int32),
                    torch.empty(8, 6, dtype=torch.int32).T, torch.empty(6, 16, dtype=torch.int32)[:, ::2],
                    torch.empty(1, 6, 8, dtype=torch.int32)):  # fmt: skip
            with pytest.raises(FitsFormatError, match="out") as caught:
                f[0].read(out=bad)
            assert (caught.value.path, caught.value.hdu) == (str(path), 0)
        with pytest.raises(FitsFormatError, match="dtype"):
            f[0].read(out=torch.empty(6, 8), dtype=torch.int32)
        with pytest.raises(TypeError):
            f[0].read(out=array)
        whole = torch.full((4, 5, 8), -1, dtype=torch.int32)
        assert f[0].read((slice(1, 6),), out=whole[2]).data_ptr() == whole[2].data_ptr()
        assert whole[2].tolist() == array[1:].tolist()
        assert (whole[[0, 1, 3]] == -1).all()
        # an address that no vector is aligned to
        bytes_ = torch.zeros(48 * 2 + 2, dtype=torch.uint8)
        odd = bytes_[2:].view(torch.int16)
        f[0].read(out=odd.view(6, 8))
        assert odd.tolist() == array.ravel().tolist()
        assert bytes_[:2].tolist() == [0, 0]
        empty = torch.empty(0, 8, dtype=torch.int32)
        assert f[0].read((slice(3, 3),), out=empty) is empty
