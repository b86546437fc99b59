"""Parts of tile-compressed images: sections, cutouts, batches, dtypes."""

from __future__ import annotations

import gzip
import itertools

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from images import assert_same, converted, torch_threads
from tile_images import KINDS, pixels
from ztiles import assert_bits, compressed, slow_read, streams, tiled

import torchfits
from torchfits import FitsFormatError

pytestmark = pytest.mark.native


@pytest.fixture(params=KINDS)
def file(request, tmp_path):
    path = tmp_path / "a.fits"
    path.write_bytes(KINDS[request.param])
    with torchfits.open(path, cache=False) as opened:
        yield opened


def some_sections(shape: tuple[int, ...], seed: int) -> list[tuple[object, ...]]:
    rng = np.random.default_rng(seed)
    found: list[tuple[object, ...]] = [(...,), (0,), (-1, ...), (..., -1), (..., slice(None, None, 7))]
    for _ in range(60):
        section: list[object] = []
        for n in shape:
            low, high = sorted(rng.integers(0, n, 2).tolist())
            step = int(rng.choice([1, 1, 2, 3, 16, 17, 40]))
            section.append(low if rng.random() < 0.15 else slice(low, high + 1, step))
        found.append(tuple(section))
    return found


@pytest.mark.parametrize("threads", [1, 2])
def test_sections(file, variant, threads):
    with torch_threads(threads):
        hdu = file[1]
        whole, raw = hdu.read(), hdu.read(raw=True)
        assert_bits(raw, slow_read(file.path))
        for section in some_sections(hdu.shape, 1) * 2:
            assert_bits(hdu.read(section), whole.numpy()[section], section)
            assert_bits(hdu.read(section, raw=True), raw.numpy()[section], section)


@pytest.mark.parametrize(
    "dtype",
    [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64, torch.uint8, torch.bool],
)
def test_dtypes(file, dtype):
    """As of plain images: `images.converted` is the oracle of both."""
    hdu = file[1]
    whole = hdu.read()
    if hdu.read_header().get("BLANK") is not None and not dtype.is_floating_point:
        with pytest.raises(FitsFormatError, match="null"):
            hdu.read(dtype=dtype)
        return
    scaled = "BSCALE" in hdu.read_header() and hdu.dtype == torch.float32
    values = whole.numpy()
    if scaled:
        stored = hdu.read(raw=True).numpy()
        values = stored.astype("f8") * 0.25 + 5.5
        values[stored == 100] = np.nan
    expected = converted(values, dtype)
    assert_same(hdu.read(dtype=dtype), expected)
    out = torch.full(hdu.shape, 1, dtype=dtype)
    assert hdu.read(out=out) is out
    assert_same(out, expected)
    section = tuple(slice(n // 3, None, 2) for n in hdu.shape)
    assert_same(hdu.read(section, dtype=dtype), expected[section].contiguous())


@pytest.mark.parametrize("threads", [1, 2])
def test_cutouts(file, variant, threads):
    hdu = file[1]
    if len(hdu.shape) < 2:
        with pytest.raises(FitsFormatError, match="rows and columns"):
            hdu.cutouts([(0, 0)], 2)
        return
    whole, rng = hdu.read(dtype=torch.float64).numpy(), np.random.default_rng(6)
    rows, columns = hdu.shape[-2:]
    for size in ((1, 1), (5, 3), (rows + 2, columns + 3)):
        corners = np.stack(
            [rng.integers(-size[0] - 1, rows + 2, 40), rng.integers(-size[1] - 1, columns + 2, 40)], 1
        )
        corners = np.concatenate(
            [corners, corners[:5], [[0, 0], [rows - 1, columns - 1], [2**62, 5], [-(2**62), -7]]]
        )
        expected = np.full((len(corners), *hdu.shape[:-2], *size), -5.0)
        for n, (top, left) in enumerate(corners.tolist()):
            for i, j in itertools.product(range(size[0]), range(size[1])):
                if 0 <= top + i < rows and 0 <= left + j < columns:
                    expected[n, ..., i, j] = whole[..., top + i, left + j]
        with torch_threads(threads):
            for _ in range(2):  # the second time from the cache
                assert_bits(hdu.cutouts(corners, size, fill=-5.0, dtype=torch.float64), expected, size)
    assert hdu.cutouts(np.empty((0, 2), "i8"), 3).shape == (0, *hdu.shape[:-2], 3, 3)
    if not hdu.dtype.is_floating_point:
        with pytest.raises(FitsFormatError, match="fill"):
            hdu.cutouts([(-1, 0)], 2)


@pytest.mark.parametrize("dtype", [None, torch.float32])
def test_rice_is_decoded_as_far_as_it_is_wanted(tmp_path, dtype):
    """What is wrong further on is seen by those who read it."""
    array = np.random.default_rng(9).integers(-99, 99, (20, 400)).astype("i2")
    cells = [cell[:-100] for cell in streams(array, (1, 400), "RICE_1")["COMPRESSED_DATA"][1]]
    cards = {"ZNAME1": "'BLOCKSIZE'", "ZVAL1": 32, "ZNAME2": "'BYTEPIX'", "ZVAL2": 2}
    path = tmp_path / "a.fits"
    path.write_bytes(tiled(array.shape, (1, 400), 16, "RICE_1", {"COMPRESSED_DATA": ("1PB", cells)}, **cards))
    expected = torch.from_numpy(array) if dtype is None else torch.from_numpy(array).to(dtype)
    for section in ((slice(None), slice(0, 250)), (slice(3, 9), slice(7, 250, 3)), (..., 249), (19, 31)):
        with torchfits.open(path, cache=False) as file:
            assert torch.equal(file[1].read(section, dtype=dtype), expected[section])
        with (
            torchfits.open(path, cache=False) as file,
            pytest.raises(FitsFormatError, match="ends before its numbers do"),
        ):
            file[1].read((section[0], slice(0, 399)), dtype=dtype)
    with torchfits.open(path, cache=False) as file:
        windows = file[1].cutouts([(0, 0), (4, 120), (1, 230)], (16, 20))
        assert_bits(windows[1:], np.stack([array[4:20, 120:140], array[1:17, 230:250]]))
        for _ in range(2):  # tiles that are kept are whole
            assert_bits(file[1].cutouts([(4, 120), (1, 230)], (16, 20)), windows[1:])
            with pytest.raises(FitsFormatError, match="tile 4 ends before its numbers do"):
                file[1].cutouts([(0, 0), (4, 379)], 16)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("row", [1, 2, 3, 7])
def test_tiles_of_which_more_is_wanted_than_of_those_decoded_with_them(tmp_path, row, threads):
    """That one of them ends before what another wants does not matter to it, and hides nothing of others."""
    array = np.random.default_rng(9).integers(-99, 99, (20, 400)).astype("i2")
    cells = list(streams(array, (1, 400), "RICE_1")["COMPRESSED_DATA"][1])
    cells[:row] = [cell[:-300] for cell in cells[:row]]
    cards = {"ZNAME1": "'BLOCKSIZE'", "ZVAL1": 32, "ZNAME2": "'BYTEPIX'", "ZVAL2": 2}
    path = tmp_path / "a.fits"
    path.write_bytes(tiled(array.shape, (1, 400), 16, "RICE_1", {"COMPRESSED_DATA": ("1PB", cells)}, **cards))
    with torch_threads(threads), torchfits.open(path, cache=False) as file:
        for _ in range(2):
            windows = file[1].cutouts([(0, 0), (row, 383)], (12, 16))
            assert_bits(windows, np.stack([array[:12, :16], array[row : row + 12, 383:399]]))
        with pytest.raises(FitsFormatError, match=f"tile {row - 1} ends before its numbers do"):
            file[1].cutouts([(0, 0), (row - 1, 383)], (12, 16))


def test_batches(tmp_path):
    arrays = [pixels("i2", (67, 83), n) for n in range(4)]
    paths = [tmp_path / f"{n}.fits" for n in range(4)]
    for path, array in zip(paths, arrays, strict=True):
        path.write_bytes(compressed(array, (16, 16), "RICE_1"))
    assert_bits(torchfits.read_batch(paths, 1), np.stack(arrays))
    section = (slice(10, 40), slice(3, 50, 2))
    assert_bits(torchfits.read_batch(paths, 1, section=section), np.stack(arrays)[(slice(None), *section)])
    (tmp_path / "2.fits").write_bytes(compressed(arrays[2], (16, 16), "RICE_1")[:9000])
    with pytest.raises(FitsFormatError, match=r"2\.fits"):
        torchfits.read_batch(paths, 1)


def test_within_gzip(file, tmp_path):
    packed = tmp_path / "a.fits.gz"
    packed.write_bytes(gzip.compress((tmp_path / "a.fits").read_bytes(), 1))
    with torchfits.open(packed) as inside:
        assert_bits(inside[1].read(), file[1].read().numpy())
        section = tuple(slice(0, n, 3) for n in file[1].shape)
        for _ in range(2):
            assert_bits(inside[1].read(section), file[1].read(section).numpy())


# ---------------------------------------------------------------------------- any image


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_image(tmp_path, data):
    axes = data.draw(st.integers(1, 4))
    shape = tuple(data.draw(st.lists(st.integers(1, 13), min_size=axes, max_size=axes)))
    tile = tuple(data.draw(st.integers(1, n)) for n in shape)
    codec = data.draw(st.sampled_from(["RICE_1", "GZIP_1", "GZIP_2", "NOCOMPRESS"]))
    stored = data.draw(
        st.sampled_from(["u1", "i2", "i4"] if codec == "RICE_1" else ["u1", "i2", "i4", "i8", "f4", "f8"])
    )
    array = pixels(stored, shape, data.draw(st.integers(0, 5)))
    path = tmp_path / "any.fits"
    path.write_bytes(compressed(array, tile, codec))
    name = data.draw(st.sampled_from(torchfits._direct.variants()))
    section = tuple(
        slice(low, data.draw(st.integers(low, n)), data.draw(st.integers(1, 5)))
        for n in shape
        for low in [data.draw(st.integers(0, n - 1))]
    )
    torchfits._direct.use_variant(name)
    try:
        with torchfits.open(path, cache=False) as file:
            for _ in range(2):
                assert_bits(file[1].read(section), array[section])
            assert_bits(file[1].read(), array)
    finally:
        torchfits._direct.use_variant(torchfits._direct.variants()[0])
