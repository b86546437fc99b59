"""Quantisation of floating-point tiles, both ways: the integers, scales and reals of cfitsio, bit for bit.

Oracles: the copy of cfitsio's functions that astropy carries, fpack and funpack, and slow code below.
"""

from __future__ import annotations

import zlib

import fitsio
import numpy as np
import pytest
from astropy.io import fits
from astropy.io.fits.hdu.compressed._compression import (
    quantize_double_c,
    quantize_float_c,
    unquantize_double_c,
    unquantize_float_c,
)
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from ztables import fpack, funpack

from torchfits import _direct

pytestmark = pytest.mark.native

NO_DITHER, DITHER_1, DITHER_2 = range(3)
ZBLANK, ZERO = -2147483647, -2147483646
NULL = {"f4": np.float32(-9.11912e-36), "f8": np.float64(-9.1191291391491e-36)}


def each_variant():
    """For hypothesis, which wants no fixture."""
    for name in _direct.variants():
        _direct.use_variant(name)
        yield name
    _direct.use_variant(_direct.variants()[0])


# ---------------------------------------------------------------------------- the slow way


def random_numbers() -> np.ndarray:
    """Appendix I of the standard."""
    numbers, seed = [], 1.0
    for _ in range(10000):
        temp = 16807.0 * seed
        seed = temp - 2147483647.0 * int(temp / 2147483647.0)
        numbers.append(np.float32(seed / 2147483647.0))
    assert seed == 1043618065
    return np.array(numbers)


RANDOM = random_numbers()


def dithers(count: int, zdither0: int, tile: int) -> np.ndarray:
    """The random numbers for a tile."""
    taken: list[np.ndarray] = []
    start = (tile + zdither0 - 1) % 10000
    while sum(map(len, taken)) < count:
        taken.append(RANDOM[int(RANDOM[start] * 500) :])
        start = (start + 1) % 10000
    return np.concatenate([*taken, RANDOM[:0]])[:count].astype(float)


def slow_dequantise(numbers, kind, method, scale, zero, blank, zdither0=1, tile=0):
    steps = numbers.astype(float)
    if method != NO_DITHER:
        steps = steps - dithers(numbers.size, zdither0, tile) + 0.5
    with np.errstate(over="ignore", invalid="ignore"):
        reals = (steps * scale + zero).astype(kind)
    if method == DITHER_2:
        reals[numbers == ZERO] = 0
    if blank is not None:
        reals[numbers == blank] = np.nan
    return reals


def slow_medians(row: np.ndarray) -> tuple[float | None, float | None, float | None]:
    """Of the differences of orders 2, 3 and 5 in one row, the type of its pixels being theirs."""
    x = row[~np.isnan(row)]
    if len(x) < 9:
        return None, None, None
    v1, v3, v5, v7, v9 = (x[k : len(x) - 8 + k] for k in (0, 2, 4, 6, 8))
    v4, v6 = x[3:-5], x[5:-3]
    flat = (v5 == v6) & (v6 == v7)
    flat_too = flat & (v3 == v4) & (v4 == v5)
    two, four, six = (row.dtype.type(k) for k in (2, 4, 6))
    second = abs(v5 - v7)[~flat]
    third = abs(two * v5 - v3 - v7)[~flat_too]
    fifth = abs(six * v5 - four * v3 - four * v7 + v1 + v9)[~flat_too]
    if not len(third):
        return None, None, None
    # cfitsio takes zeros for those of the second order that were left out; in later rows, whatever is there
    padded = np.concatenate([second, np.zeros(len(third) - len(second), row.dtype)])
    enough = len(second) > 1 or (len(second) == 1 and len(third) == 1)
    middle = (len(third) - 1) // 2
    return (
        float(np.sort(padded)[middle]) if enough else None,
        float(np.sort(third)[middle]),
        float(np.sort(fifth)[middle]),
    )


def slow_noise(tile: np.ndarray) -> float:
    rows = tile if tile.shape[1] >= 9 else tile.reshape(1, -1)
    noises = []
    orders = zip(*map(slow_medians, rows), strict=True)
    for factor, medians in zip((1.0483579, 0.6052697, 0.1772048), orders, strict=True):
        there = [median for median in medians if median is not None]
        noises.append(factor * float(np.median(there)) if there else 0.0)
    return min([noises[1], *(noise for noise in noises if noise != 0)])


def slow_quantise(tile, level, method, zdither0=1, number=0):
    """A tile of ordinary reals, some or all of them NaN; None where it is not quantised."""
    pixels = tile.ravel()
    nulls = np.isnan(pixels)
    if not nulls.all():
        low, high = float(np.nanmin(pixels)), float(np.nanmax(pixels))
    elif level < 0:
        low, high = float(np.finfo(tile.dtype).max), -np.inf
    else:
        low, high = 0.0, 1.0
    noise = 1.0 if level < 0 or nulls.all() else slow_noise(tile)
    scale = -level if level < 0 else noise / (level or 4)
    # the range is of the type of the pixels
    size = high - low if tile.dtype == "f8" else float(np.float32(high) - np.float32(low))
    if len(pixels) < 2 or scale == 0 or size / scale > 2 * 2147483647.0 - 10:
        return None
    if nulls.any() or method == DITHER_2:
        zero = low - scale * (ZBLANK + 10)
    else:
        zero = int(low / scale + 0.5) * scale
    steps = (pixels.astype(float) - zero) / scale
    if method != NO_DITHER:
        steps = steps + dithers(len(pixels), zdither0, number) - 0.5
    steps[nulls] = 0
    numbers = np.trunc(np.where(steps >= 0, steps + 0.5, steps - 0.5)).astype("i4")
    if method == DITHER_2:
        numbers[pixels == 0] = ZERO
    numbers[nulls] = ZBLANK
    return numbers, scale, zero


# ---------------------------------------------------------------------------- cfitsio's, and ours


def cfitsio_quantise(tile, level, method, zdither0=1, number=0):
    """But for float32 with nulls, of which astropy does not tell cfitsio: then by slow code."""
    if tile.dtype == "f4" and np.isnan(tile).any():
        return slow_quantise(tile, np.float32(level).item(), method, zdither0, number)
    kind = tile.dtype.str[1:]
    encode = quantize_float_c if kind == "f4" else quantize_double_c
    nulls = np.isnan(tile)
    pixels = np.where(nulls, NULL[kind], tile)
    row = number + zdither0 if method != NO_DITHER else 0
    rows, columns = tile.shape
    numbers, status, scale, zero, *_ = encode(
        pixels.tobytes(), row, columns, rows, bool(nulls.any()), NULL[kind], level, method or -1
    )
    return (np.frombuffer(numbers, "i4"), scale, zero) if status else None


def quantise(tile, level, method, zdither0=1, number=0):
    done = _direct.quantise(
        tile.tobytes(), tile.dtype.itemsize == 8, tile.shape[1], level, method, zdither0, number
    )
    return done and (np.frombuffer(done[0], "i4"), *done[1:])


def dequantise(numbers, kind, *rest):
    return np.frombuffer(_direct.dequantise(numbers.astype("i4").tobytes(), kind == "f8", *rest), kind)


def assert_same(found, expected):
    assert (found is None) == (expected is None)
    if found is not None:
        assert found[1:] == expected[1:]
        np.testing.assert_array_equal(found[0], expected[0])


def noise(shape, kind="f4", seed=1):
    return (100 + 7 * np.random.default_rng(seed).standard_normal(shape)).astype(kind)


def constant_stretches(shape, kind="f4"):
    """Ties everywhere: more differences of the third order than of the second, other ones in each row."""
    chance = np.random.default_rng(2)
    tile = np.round(3 * chance.standard_normal(shape))
    for row in tile:
        for start in chance.integers(0, len(row), len(row) // 9):
            row[start : start + 6] = 0
    return tile.astype(kind)


def tiles(kind):
    chance = np.random.default_rng(3)
    largest = np.finfo(kind).max
    with_nulls = noise((3, 200), kind)
    with_nulls[chance.random(with_nulls.shape) < 0.3] = np.nan
    with_zeros = noise((1, 500), kind) - 100
    with_zeros[0, ::7] = 0
    with_zeros[0, ::21] = -0.0
    few = np.full((4, 60), np.nan, kind)
    few[:, 3:50:9] = noise((4, 6), kind)
    few[2, :20] = noise(20, kind)
    sparse = np.zeros((1, 300), kind)
    sparse[0, [40, 170]] = 1, 3
    two_levels = chance.integers(0, 2, (1, 100)).astype(kind)
    return {
        "noise": noise((1, 4096), kind),
        "rows": noise((16, 333), kind),
        "even number of rows": noise((2, 50), kind),
        "rows of different noise": noise((9, 400), kind) * 10.0 ** np.arange(-4, 5)[:, None].astype(kind),
        "nulls": with_nulls,
        "one null": np.where(np.arange(900) == 7, np.nan, noise(900, kind)).astype(kind)[None],
        "all null": np.full((2, 20), np.nan, kind),
        "few that are no null": few,
        "zeros": with_zeros,
        "zeros and nulls": np.where(np.arange(500) % 11 == 0, np.nan, with_zeros).astype(kind),
        "constant": np.full((3, 40), 1.5, kind),
        "constant stretches in a row": constant_stretches((1, 2000), kind),
        "constant stretches in rows": constant_stretches((12, 300), kind),
        "nearly constant": sparse,
        "two levels": two_levels,
        "ramp": np.arange(1000, dtype=kind)[None],
        "one pixel": np.ones((1, 1), kind),
        "two pixels": noise((2, 1), kind),
        "eight pixels": noise((1, 8), kind),
        "nine pixels": noise((1, 9), kind),
        "rows of one pixel": noise((100, 1), kind),
        "rows of eight": noise((50, 8), kind),
        "rows of nine": noise((50, 9), kind),
        "no rows of four": noise((1, 4), kind),
        "large": noise((1, 100), kind) * kind_type(kind, largest / 1e20),
        "tiny": noise((2, 100), kind) * kind_type(kind, np.finfo(kind).tiny / 1e4),
        "far from zero": noise((1, 1000), kind) + kind_type(kind, 1e9),
        "wide range": np.exp(noise((2, 500), "f8") / 2 - 50).astype(kind),
        "one outlier": np.where(np.arange(700) == 9, 1e30, noise(700, kind)).astype(kind)[None],
        "more than 10000": noise((1, 25001), kind),
    }


def kind_type(kind, value):
    return np.dtype(kind).type(value)


NAMES = list(tiles("f4"))
LEVELS = [4.0, 0.0, 1.0, 16.5, 0.001, -0.5, -1e4, 1e8, 1e30]


@pytest.mark.parametrize("method", [NO_DITHER, DITHER_1, DITHER_2])
@pytest.mark.parametrize("kind", ["f4", "f8"])
@pytest.mark.parametrize("name", NAMES)
def test_quantises_as_cfitsio_does(variant, name, kind, method):
    tile = tiles(kind)[name]
    for level in LEVELS:
        assert_same(quantise(tile, level, method, 77, 3), cfitsio_quantise(tile, level, method, 77, 3))


@pytest.mark.parametrize("method", [NO_DITHER, DITHER_1, DITHER_2])
@pytest.mark.parametrize("kind", ["f4", "f8"])
@pytest.mark.parametrize(
    "name", ["noise", "rows", "nulls", "all null", "zeros", "constant stretches in a row", "nearly constant"]
)
def test_quantises_as_slow_code_does(variant, name, kind, method):
    tile = tiles(kind)[name]
    for level in (4.0, -0.25):
        found = quantise(tile, level, method, 9999, 123456)
        assert_same(found, slow_quantise(tile, level, method, 9999, 123456))


@pytest.mark.parametrize("method", [NO_DITHER, DITHER_1, DITHER_2])
@pytest.mark.parametrize("kind", ["f4", "f8"])
def test_real_after_integer_is_near_the_real_before(variant, kind, method):
    tile = tiles(kind)["zeros and nulls"]
    numbers, scale, zero = quantise(tile, 4.0, method, 5, 6)
    back = dequantise(numbers, kind, method, scale, zero, ZBLANK, 5, 6)
    nulls = np.isnan(tile[0])
    assert (np.isnan(back) == nulls).all()
    assert abs(back - tile[0])[~nulls].max() <= 0.5001 * scale
    if method == DITHER_2:
        assert (back[tile[0] == 0] == 0).all()


@pytest.mark.parametrize(
    "tile",
    [
        pytest.param(np.where(np.arange(100) == 5, np.inf, noise(100)), id="one"),
        pytest.param(np.where(np.arange(100) % 2 == 1, -np.inf, noise(100)), id="many"),
        pytest.param(np.full(100, np.inf), id="all"),
        pytest.param(np.where(np.arange(100) % 2 == 1, np.inf, -np.inf), id="both"),
        pytest.param(np.where(np.arange(100) % 2 == 1, np.inf, np.nan), id="with nulls"),
    ],
)
@pytest.mark.parametrize("level", [4.0, 0.0, -1.0])
def test_infinities_are_not_quantised(variant, tile, level):
    """cfitsio makes integers of them that mean nothing."""
    for kind in ("f4", "f8"):
        assert quantise(tile.astype(kind)[None], level, DITHER_1) is None


@pytest.mark.parametrize("level", [-1e-16, -1e-30, np.nan, np.inf, -np.inf])
def test_steps_that_no_integer_counts(variant, level):
    """Where cfitsio's own conversion to integers overflows."""
    assert quantise(np.full((1, 50), 12345.678), level, NO_DITHER) is None


def test_zero_point_that_overflows(variant):
    assert quantise(noise((1, 100), "f8") * 1e302, 4.0, DITHER_2) is None


def test_differences_that_overflow(variant):
    """Some are no numbers; cfitsio puts them somewhere, and so do we."""
    tile = noise((1, 400), "f4") * np.float32(1e35)
    tile[0, ::9] *= -1
    with np.errstate(over="ignore", invalid="ignore"):
        assert_same(quantise(tile, 4.0, DITHER_1), cfitsio_quantise(tile, 4.0, DITHER_1))


def test_hostile_shapes():
    with pytest.raises(ValueError, match="no rows of 0"):
        _direct.quantise(bytes(40), False, 0, 4.0, 0)
    with pytest.raises(ValueError, match="no rows of 3"):
        _direct.quantise(bytes(40), False, 3, 4.0, 0)
    with pytest.raises(ValueError, match="dithering: 3"):
        _direct.quantise(bytes(40), False, 10, 4.0, 3)
    with pytest.raises(ValueError, match="dithering: -1"):
        _direct.dequantise(bytes(40), False, -1, 1.0, 0.0, None)


# ---------------------------------------------------------------------------- integers to reals


def numbers_with_special_ones(count):
    numbers = np.random.default_rng(4).integers(-(2**31), 2**31, count).astype("i4")
    numbers[::5] = np.arange(len(numbers[::5]))
    special = [ZBLANK, ZERO, -(2**31), 2**31 - 1, 0, 77]
    numbers[: 2 * len(special)] = (2 * special)[:count]
    return numbers


@pytest.mark.parametrize("method", [NO_DITHER, DITHER_1, DITHER_2])
@pytest.mark.parametrize("kind", ["f4", "f8"])
@pytest.mark.parametrize("count", [0, 1, 7, 100, 1023, 1024, 1025, 9999, 30000])
def test_dequantises_as_slow_code_does(variant, count, kind, method):
    numbers = numbers_with_special_ones(count)
    for scale, zero in ((0.125, 100.0), (1 / 3, -0.1), (-1e30, 1e-30), (1e300, 0.0), (1.0, 0.0), (0.0, 2.0)):
        for blank in (None, ZBLANK, 77, 2**31, 2**40 + 77):
            for zdither0, tile in ((1, 0), (77, 12345)):
                how = (method, scale, zero, blank, zdither0, tile)
                expected = slow_dequantise(numbers, kind, *how)
                assert dequantise(numbers, kind, *how).tobytes() == expected.tobytes()


@pytest.mark.parametrize("method", [DITHER_1, DITHER_2])
@pytest.mark.parametrize("kind", ["f4", "f8"])
def test_dequantises_as_cfitsio_does(variant, kind, method):
    decode = unquantize_float_c if kind == "f4" else unquantize_double_c
    numbers = numbers_with_special_ones(25000)
    for zdither0, tile in ((1, 0), (77, 12345), (10000, 9999), (10000, 0)):
        their = decode(numbers.tobytes(), zdither0 + tile, len(numbers), 0.3, 5.5, method, 0, 0, 0.0, 4)
        assert dequantise(numbers, kind, method, 0.3, 5.5, None, zdither0, tile).tobytes() == bytes(their)


@pytest.mark.parametrize("zdither0", [0, -1, -9999, -10000, -123456789, 10001, 2**31, 2**63 - 1, -(2**63)])
def test_any_zdither0_counts_modulo_10000(variant, zdither0):
    numbers = np.arange(300, dtype="i4")
    for tile in (0, 10, 2**40):
        same = (zdither0 - 1) % 10000 + 1
        expected = slow_dequantise(numbers, "f4", DITHER_1, 1.0, 0.0, None, same, tile)
        assert (dequantise(numbers, "f4", DITHER_1, 1.0, 0.0, None, zdither0, tile) == expected).all()


# ---------------------------------------------------------------------------- hypothesis


@given(
    data=st.data(),
    kind=st.sampled_from(["f4", "f8"]),
    shape=st.tuples(st.integers(1, 6), st.integers(1, 60)),
    level=st.sampled_from([4.0, 0.0, 0.5, 100.0, -1.0, -1e-3]),
    method=st.sampled_from([NO_DITHER, DITHER_1, DITHER_2]),
    zdither0=st.integers(1, 10000),
)
def test_any_tile(data, kind, shape, level, method, zdither0):
    ordinary = st.one_of(
        st.integers(-3, 3).map(float),
        st.floats(-1e6, 1e6, width=32).filter(lambda x: x == 0 or abs(x) > 1e-20),
        st.just(np.nan),
    )
    tile = data.draw(hnp.arrays(kind, shape, elements=ordinary, fill=st.sampled_from([0.0, 1.0, np.nan])))
    if kind == "f4" and np.isnan(tile).any():
        tile = tile[:1]  # that is what slow code knows
    expected = cfitsio_quantise(tile, level, method, zdither0)
    for _ in each_variant():
        assert_same(quantise(tile, level, method, zdither0), expected)


@given(
    bits=st.lists(st.integers(0, 2**32 - 1), max_size=80),
    wide=st.booleans(),
    columns=st.integers(1, 20),
    level=st.floats(width=32),
    method=st.sampled_from([NO_DITHER, DITHER_1, DITHER_2]),
)
def test_any_bits_do_no_harm(bits, wide, columns, level, method):
    """Infinities and denormals, any order of size: what is quantised means what it was."""
    kind = "f8" if wide else "f4"
    words = np.array(bits, "u4")[: len(bits) // (columns * (1 + wide)) * columns * (1 + wide)]
    tile = words.view(kind).reshape(-1, columns)
    found = {name: quantise(tile, level, method) for name in each_variant()}
    for done in found.values():
        assert_same(done, found["portable"])
    if done is None:
        return
    numbers, scale, zero = done
    back = dequantise(numbers, "f8", method, scale, zero, ZBLANK)
    pixels = tile.ravel().astype(float)
    nulls = np.isnan(pixels)
    assert (numbers[nulls] == ZBLANK).all()
    slack = 0.51 * scale + 1e-15 * (abs(zero) + abs(pixels[~nulls]))
    with np.errstate(over="ignore"):
        assert (abs(back[~nulls] - pixels[~nulls]) <= slack).all()


# ---------------------------------------------------------------------------- files of fpack


def tiles_of(pixels, columns, rows):
    for y in range(0, pixels.shape[0], rows):
        for x in range(0, pixels.shape[1], columns):
            yield pixels[y : y + rows, x : x + columns]


@pytest.mark.parametrize(
    ("option", "method"), [("-q0", NO_DITHER), ("-q", DITHER_1), ("-qz", DITHER_2)], ids=["none", "1", "2"]
)
@pytest.mark.parametrize("kind", [">f4", ">f8"])
@pytest.mark.parametrize("shape", [(150, 1), (40, 9), (7, 5)], ids=str)
def test_fpack_and_funpack(variant, tmp_path, option, method, kind, shape):
    """funpack puts NaN in wrong places where a tile is no whole row; cfitsio itself reads them right."""
    pixels = noise((30, 150), kind)
    pixels[5:8, 20:60] = 0
    pixels[12, 3:90:4] = np.nan
    pixels[20:] = np.round(pixels[20:] / 20)
    pixels[27] = np.nan
    pixels[28] = 3
    fits.PrimaryHDU(pixels).writeto(tmp_path / "x.fits")
    tiling = f"{shape[0]},{shape[1]}"
    path = fpack(tmp_path / "x.fits", tmp_path / "x.fits.fz", "-g", option, "8", "-t", tiling)
    with fits.open(path, disable_image_compression=True) as hdus:
        header, table = hdus[1].header, hdus[1].data
        # an empty tile is one that is stored without loss
        streams = [bytes(table["COMPRESSED_DATA"][i]) for i in range(len(table))]
        scales, zeros = table["ZSCALE"].tolist(), table["ZZERO"].tolist()
    zdither0 = header.get("ZDITHER0", 1)
    back = fitsio.read(str(path), ext=1)
    if shape[1] == 1:
        np.testing.assert_array_equal(fits.getdata(funpack(path, tmp_path / "y.fits")), back)

    native = kind[1:]
    pairs = zip(tiles_of(pixels, *shape), tiles_of(back, *shape), strict=True)
    quantised = 0
    for i, (tile, their) in enumerate(pairs):
        found = quantise(tile.astype(native), 8.0, method, zdither0, i)
        assert (found is None) == (not streams[i])
        if found is None:
            continue
        quantised += 1
        numbers = np.frombuffer(zlib.decompress(streams[i], 31), ">i4")
        assert_same(found, (numbers, scales[i], zeros[i]))
        ours = dequantise(numbers, native, method, scales[i], zeros[i], header["ZBLANK"], zdither0, i)
        np.testing.assert_array_equal(ours, their.ravel())
    assert quantised > 5
