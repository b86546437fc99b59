"""cutouts(): every window is numpy's slice of the padded image, wherever it lies."""

from __future__ import annotations

import gzip
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
    STORED,
    Scaling,
    assert_same,
    converted,
    counting,
    image,
    mapped,
    natural,
    noise,
    physical,
    table,
    torch_threads,
)

import torchfits
from torchfits import FitsFormatError

pytestmark = pytest.mark.native

# direct ways, and those that go through sections
KINDS = ["mapped", "read", "gzip", "cfitsio", "compressed"]


def windows_of(array: np.ndarray, positions, size, fill, anchor="corner") -> np.ndarray:
    """The oracle: slices of each window's part that is inside, in a frame of `fill`."""
    h, w = (size, size) if isinstance(size, int) else size
    rows, columns = array.shape[-2:]
    stack = np.full((len(positions), *array.shape[:-2], h, w), fill, dtype=array.dtype)
    for i, (row, column) in enumerate(positions):
        top, left = int(row), int(column)
        if anchor == "center":
            top, left = top - h // 2, left - w // 2
        t, b, l, r = max(top, 0), min(top + h, rows), max(left, 0), min(left + w, columns)  # noqa: E741
        if t < b and l < r:
            stack[i, ..., t - top : b - top, l - left : r - left] = array[..., t:b, l:r]
    return stack


def write(folder, array: np.ndarray, kind: str, **cards):
    """The image as HDU 1 or 2 of a file, at an odd place where that is possible; its path and index."""
    path = folder / ("a.fits.gz" if kind == "gzip" else "a.fits")
    if kind == "compressed":
        tile = (*[1] * (array.ndim - 2), 7, 50)
        how = {"quantize_level": 0.0, "compression_type": "GZIP_1"} if array.dtype.kind == "f" else {}
        fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(array, tile_shape=tile, **how)]).writeto(path)
        return path, 1
    data = EMPTY + table(3, 1777) + image(array, primary=False, **cards)
    path.write_bytes(gzip.compress(data, 1) if kind == "gzip" else data)
    return path, 2


def opened(path, kind: str):
    engine = "cfitsio" if kind == "cfitsio" else "auto"
    return torchfits.open(path, engine=engine, mmap=kind != "read", cache=False)


# wide rows are served by a mapping, narrow ones by reads that share what lies between windows
SHAPES = [(40, 4000), (60, 50), (3, 30, 2600), (2, 3, 12, 11), (1, 1), (5, 1), (1, 9000)]
_MADE: dict = {}


def made(factory, shape, kind):
    if (shape, kind) not in _MADE:
        array = counting(shape, "f4")
        _MADE[shape, kind] = (*write(factory.mktemp("windows"), array, kind), array)
    return _MADE[shape, kind]


@st.composite
def requests(draw, shape):
    rows, columns = shape[-2:]
    size = draw(st.integers(1, 9) | st.tuples(st.integers(1, rows + 5), st.sampled_from([1, 2, 3, 8, 70])))
    h, w = (size, size) if isinstance(size, int) else size
    far = st.sampled_from([-(2**63), -(2**62) - 1, -(2**40), -(2**31), 2**31, 2**40, 2**62, 2**63 - 1])
    one = st.tuples(
        st.integers(-h - 2, rows + h + 2) | far,
        st.integers(-w - 2, min(w, 40)) | st.integers(columns - w - 2, columns + w + 2) | far,
    )
    positions = draw(st.lists(one, max_size=12))
    if positions and draw(st.booleans()):
        positions += positions[:2]  # the same window twice
    return positions, size, draw(st.sampled_from(["corner", "center"]))


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_any_windows(tmp_path_factory, kind, data):
    path, index, array = made(tmp_path_factory, data.draw(st.sampled_from(SHAPES)), kind)
    positions, size, anchor = data.draw(requests(array.shape))
    fill = data.draw(st.sampled_from([math.nan, 0.0, -7.5, math.inf]))
    expected = torch.from_numpy(windows_of(array, positions, size, fill, anchor))
    with opened(path, kind) as f:
        given_ = torch.tensor(positions, dtype=torch.int64).reshape(-1, 2)
        found = f[index].cutouts(given_, size, anchor=anchor, fill=fill)
        assert_same(found, expected)
        out = torch.full((len(positions) + 2, *expected.shape[1:]), 5.0)
        f[index].cutouts(given_, size, anchor=anchor, fill=fill, out=out[1:-1])
        assert_same(out[1:-1], expected)
        assert (out[[0, -1]] == 5).all()


@pytest.mark.parametrize("kind", KINDS)
def test_every_edge(tmp_path, kind):
    array = counting((30, 2500), "f4")
    path, index = write(tmp_path, array, kind)
    edges = list(
        itertools.product([-4, -3, -1, 0, 13, 26, 27, 29, 30], [-6, -5, 0, 1200, 2495, 2496, 2499, 2500])
    )
    with opened(path, kind) as f:
        for size in ((4, 5), (3, 6), (1, 1)):
            for anchor in ("corner", "center"):
                expected = windows_of(array, edges, size, math.nan, anchor)
                found = f[index].cutouts(edges, size, anchor=anchor)
                assert_same(found, torch.from_numpy(expected))


def test_the_centre_is_the_pixel_at_half_the_size(tmp_path):
    path, index = write(tmp_path, counting((9, 9)), "mapped")
    with torchfits.open(path) as f:
        for size in (1, 2, 3, 4, 5):
            window = f[index].cutouts([(4, 4)], size, anchor="center")[0]
            assert window[size // 2, size // 2] == 4 * 9 + 4
            assert f[index].cutouts([(4, 4)], size)[0, 0, 0] == 4 * 9 + 4


def test_what_positions_may_be(tmp_path):
    array = counting((20, 30))
    path, index = write(tmp_path, array, "mapped")
    positions = [(1, 2), (-1, 25), (19, 0)]
    expected = torch.from_numpy(windows_of(array, positions, (2, 3), math.nan))
    with torchfits.open(path) as f:
        tensor = torch.tensor(positions)
        for given_ in (
            positions,
            [list(each) for each in positions],
            tuple(positions),
            np.array(positions),
            np.array(positions, dtype="i2"),
            np.array([(r, 0, c) for r, c in positions])[:, ::2],
            tensor,
            tensor.to(torch.int32),
            tensor.T.contiguous().T,
            torch.cat([tensor, tensor])[3:],
            tensor.repeat_interleave(2, 0)[::2],
        ):
            assert_same(f[index].cutouts(given_, (2, 3)), expected)
        unsigned = torch.tensor([(1, 2), (255, 3)], dtype=torch.uint8)
        assert_same(f[index].cutouts(unsigned, 2), torch.from_numpy(windows_of(array, unsigned, 2, math.nan)))
        assert_same(f[index].cutouts(positions, [2, 3]), expected)
        for none in ([], (), np.empty((0, 2), dtype="i8"), torch.empty(0, 2, dtype=torch.int32)):
            assert f[index].cutouts(none, (4, 5)).shape == (0, 4, 5)
            assert f[index].cutouts(none, (4, 5)).dtype == torch.float32
        out = torch.empty(0, 4, 4)
        assert f[index].cutouts([], 4, out=out) is out


def test_unsigned_positions_beyond_int64_are_outside(tmp_path):
    path, index = write(tmp_path, counting((20, 30)), "mapped")
    far = np.array([(2**64 - 1, 2**64 - 1), (2**63, 0), (3, 2**64 - 2)], dtype="u8")
    with torchfits.open(path) as f:
        assert f[index].cutouts(far, 4).isnan().all()


@pytest.mark.parametrize("engine", ["direct", "cfitsio"])
def test_what_is_refused(tmp_path, engine):
    path, index = write(tmp_path, counting((20, 30)), "mapped")
    row = tmp_path / "row.fits"
    row.write_bytes(image(counting((30,))))
    refused = (TypeError, FitsFormatError)
    with torchfits.open(path, engine=engine) as f:
        hdu = f[index]
        no_integers = [
            torch.zeros(3, 2, dtype=dtype) for dtype in (torch.bool, torch.float32, torch.complex64)
        ]
        for positions in ([(1.0, 2.0)], np.zeros((3, 2)), torch.tensor([[1.0, math.nan]]), *no_integers):
            with pytest.raises(refused):
                hdu.cutouts(positions, 3)
        no_pairs = [torch.zeros(shape, dtype=torch.int64) for shape in ((2, 3), (4,), (0, 3), (2, 2, 2))]
        for positions in ([1, 2], [(1, 2, 3)], [[(1, 2)]], 5, *no_pairs):
            with pytest.raises(FitsFormatError):
                hdu.cutouts(positions, 3)
        for size in (0, -1, (3, 0), (-2, 3)):
            with pytest.raises(FitsFormatError):
                hdu.cutouts([(1, 2)], size)
        for size in (1.5, "3", (3,), (1, 2, 3), None, True, (2, 2.0)):
            with pytest.raises((TypeError, ValueError)):
                hdu.cutouts([(1, 2)], size)
        with pytest.raises(ValueError, match="anchor"):
            hdu.cutouts([(1, 2)], 3, anchor="middle")
        for out in (
            torch.empty(2, 3, 3),
            torch.empty(1, 3, 4),
            torch.empty(3, 3),
            torch.empty(1, 3, 6)[..., ::2],
        ):
            with pytest.raises(FitsFormatError, match="out") as caught:
                hdu.cutouts([(1, 2)], 3, out=out)
        assert (caught.value.path, caught.value.hdu) == (str(path), index)
        with pytest.raises(FitsFormatError, match="dtype"):
            hdu.cutouts([(1, 2)], 3, out=torch.empty(1, 3, 3), dtype=torch.float64)
        with pytest.raises(TypeError):
            hdu.cutouts([(1, 2)], 3, out=np.empty((1, 3, 3)))
    with torchfits.open(row, engine=engine) as f, pytest.raises(FitsFormatError, match="rows and columns"):
        f[0].cutouts([(1, 2)], 3)


@pytest.mark.parametrize("kind", KINDS)
def test_integers_need_a_fill_at_the_edge(tmp_path, kind):
    array = counting((20, 2100), "i2")
    path, index = write(tmp_path, array, kind)
    inside, across = [(1, 2), (18, 2097)], [(1, 2), (18, 2098)]
    with opened(path, kind) as f:
        hdu = f[index]
        assert_same(hdu.cutouts(inside, (2, 3)), torch.from_numpy(windows_of(array, inside, (2, 3), 0)))
        for fill in (math.nan, math.inf, 2**15, -(2**15) - 1, 0.5):
            assert len(hdu.cutouts(inside, (2, 3), fill=fill)) == 2
            out = torch.full((2, 2, 3), 9, dtype=torch.int16)
            with pytest.raises(FitsFormatError, match="fill") as caught:
                hdu.cutouts(across, (2, 3), fill=fill, out=out)
            assert (caught.value.path, caught.value.hdu) == (str(path), index)
        for outside in ((-1, 5), (5, -1), (19, 5), (5, 2098), (2**40, 0), (0, -(2**40))):
            with pytest.raises(FitsFormatError, match="fill"):
                hdu.cutouts([(1, 2), outside], (2, 3))
        for fill in (0, -1, 2**15 - 1, -(2**15), 7.0):
            expected = windows_of(array, across, (2, 3), fill)
            assert_same(hdu.cutouts(across, (2, 3), fill=fill), torch.from_numpy(expected))
        for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
            expected = converted(windows_of(array.astype("f8"), across, (2, 3), math.nan), dtype)
            assert_same(hdu.cutouts(across, (2, 3), dtype=dtype), expected)
            out = torch.empty_like(expected)
            assert hdu.cutouts(across, (2, 3), out=out) is out
            assert_same(out, expected)
        corner = hdu.cutouts([(19, 2099)], 2, dtype=torch.bool, fill=True)
        assert corner.tolist() == [[[True] * 2] * 2]
        wide = hdu.cutouts(across, (2, 3), dtype=torch.int64, fill=2**40)
        assert wide.tolist() == windows_of(array.astype("i8"), across, (2, 3), 2**40).tolist()


def test_complex_windows_hold_nan(tmp_path):
    array = counting((20, 30), "i2")
    path, index = write(tmp_path, array, "mapped")
    with torchfits.open(path) as f:
        found = f[index].cutouts([(18, 0), (3, 3)], 4, dtype=torch.complex64)
    assert_same(
        found.real.contiguous(),
        torch.from_numpy(windows_of(array.astype("f4"), [(18, 0), (3, 3)], 4, math.nan)),
    )


SCALINGS = {
    "plain": Scaling(),
    "other sign": Scaling(zero=None),
    "scaled": Scaling(1 / 3, 0.1),
    "blank": Scaling(blank=77),
    "blank and scale": Scaling(-0.5, 10.25, 77),
}


@pytest.mark.parametrize("kind", ["mapped", "read", "gzip", "cfitsio"])
@pytest.mark.parametrize("name", SCALINGS)
def test_conventions_and_dtypes(tmp_path, kind, name):
    """The values of `read`, converted alike, by way of every kind of file."""
    positions = [(0, 0), (7, 2093), (-1, 3), (7, 2093), (2**40, 1)]
    for bitpix in (8, 16, 32, 64, -32, -64):
        scaling = SCALINGS[name]
        if bitpix < 0 and (scaling.zero is None or scaling.blank is not None):
            continue
        array = noise(STORED[bitpix], (10, 2100))
        array[1, :3] = 77
        path, index = write(tmp_path, array, kind, **scaling.cards(bitpix))
        values = physical(array, bitpix, scaling)
        with opened(path, kind) as f:
            for dtype in (None, *DTYPES[:-1]):
                to = dtype or natural(values, bitpix)
                if scaling.blank is not None and not to.is_floating_point:
                    with pytest.raises(FitsFormatError, match="null"):
                        f[index].cutouts(positions, 4, dtype=to)
                    continue
                expected = converted(windows_of(values, positions, 4, 0), to)
                assert_same(f[index].cutouts(positions, 4, dtype=dtype, fill=0), expected)


@pytest.mark.parametrize("kind", ["mapped", "read"])
@pytest.mark.parametrize("threads", [1, 2])
def test_many_windows_with_threads(tmp_path, kind, threads):
    """Crowded, overlapping, duplicate and in no order; by the thousand, and large enough for threads."""
    rng = np.random.default_rng(11)
    for shape, size, count in (
        ((500, 3000), (33, 31), 2000),
        ((700, 90), (40, 17), 1500),
        ((4, 100, 2200), 64, 90),
    ):
        array = counting(shape, "i4")
        path, index = write(tmp_path, array, kind)
        places = rng.integers(-40, np.array(shape[-2:]) + 10, (count, 2))
        places[: count // 4] = places[0] + rng.integers(-3, 4, (count // 4, 2))
        places[count // 2 : count // 2 + 70] = places[0]
        rng.shuffle(places)
        with torch_threads(threads), opened(path, kind) as f:
            for dtype in (torch.int32, torch.float64):
                expected = windows_of(array.astype(str(dtype).removeprefix("torch.")), places, size, -1)
                assert_same(f[index].cutouts(places, size, fill=-1, dtype=dtype), torch.from_numpy(expected))
            assert mapped(path) == (kind == "mapped" and shape[-1] > 2000)


def test_windows_larger_than_the_image(tmp_path):
    array = counting((5, 6))
    for kind in KINDS:
        path, index = write(tmp_path, array, kind)
        with opened(path, kind) as f:
            for size in ((9, 3), (3, 11), (20, 30)):
                positions = [(0, 0), (-4, -2), (2, 2), (-30, 0)]
                expected = torch.from_numpy(windows_of(array, positions, size, math.nan))
                assert_same(f[index].cutouts(positions, size), expected)
        path.unlink()


def test_images_without_pixels(tmp_path):
    path = tmp_path / "a.fits"
    path.write_bytes(image(np.zeros((0, 5), dtype="f4")) + image(np.zeros((0, 3, 4), dtype="f4"), False))
    with torchfits.open(path) as f:
        assert f[0].cutouts([(0, 0)], 2).shape == (1, 2, 2)
        assert f[0].cutouts([(0, 0)], 2).isnan().all()
        assert f[1].cutouts([(0, 0)], 2).shape == (1, 0, 2, 2)
    path.write_bytes(EMPTY)
    with torchfits.open(path) as f, pytest.raises(FitsFormatError):
        f[0].cutouts([(0, 0)], 2)


def test_data_cut_short_are_refused(tmp_path):
    """Also where the windows asked for are all there."""
    path = tmp_path / "a.fits"
    path.write_bytes(image(counting((20, 2500)))[: 2880 + 20 * 2500 * 4 - 1])
    for mmap in (True, False):
        with torchfits.open(path, mmap=mmap) as f, pytest.raises(FitsFormatError, match="cut short"):
            f[0].cutouts([(0, 0)], 3)
