"""Sections of plain images: numpy's slices, anywhere in a file, by both engines, mapped and not."""

from __future__ import annotations

import gzip
import itertools
import os
import resource

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from images import (
    BLOCK,
    EMPTY,
    ENGINES,
    SANITIZED,
    STORED,
    Scaling,
    assert_same,
    converted,
    counting,
    image,
    in_fork,
    mapped,
    natural,
    noise,
    physical,
    run_fork,
    table,
    torch_threads,
)

import torchfits
from torchfits import SectionError

pytestmark = pytest.mark.native

SHAPES = [(700,), (40, 3000), (3, 5, 2500), (2, 3, 4, 90), (2, 3, 2, 4, 5), (300, 2), (5, 1, 7), (1, 1, 1)]


@st.composite
def sections(draw, shape):
    def one(length):
        near = st.integers(-length - 3, length + 3) | st.none()
        wide = st.sampled_from([-(2**70), 2**70, -(2**63), 2**63 - 1])
        step = st.integers(1, length + 2) | st.none() | st.just(2**65)
        return st.integers(-length, length - 1) | st.builds(slice, near | wide, near | wide, step)

    count = draw(st.integers(0, len(shape)))
    tail = draw(st.integers(0, count))
    with_ellipsis = draw(st.booleans())
    first = [draw(one(length)) for length in shape[: count - tail]]
    last_axes = shape[len(shape) - tail :] if with_ellipsis else shape[count - tail : count]
    last = [draw(one(length)) for length in last_axes]
    return (*first, ..., *last) if with_ellipsis else (*first, *last)


_MADE: dict = {}


def _made(factory, shape, bitpix, kind):
    """An image behind a table of odd size, so that its pixels begin anywhere in a page."""
    key = shape, bitpix, kind
    if key not in _MADE:
        array = noise(STORED[bitpix], shape)
        plain = EMPTY + table(7, 411) + image(array, primary=False, **Scaling(0.5, 10.25).cards(bitpix))
        path = factory.mktemp("section") / ("a.fits.gz" if kind == "gzip" else "a.fits")
        if kind == "gzip":
            plain = gzip.compress(plain, 1)
        path.write_bytes(plain)
        _MADE[key] = path, array
    return _MADE[key]


@pytest.mark.parametrize("kind", ["direct", "no mapping", "cfitsio", "gzip"])
@given(data=st.data())
@settings(max_examples=120, deadline=None)
def test_a_section_equals_the_slice_of_numpy(tmp_path_factory, kind, data):
    shape = data.draw(st.sampled_from(SHAPES))
    path, array = _made(tmp_path_factory, shape, data.draw(st.sampled_from([8, 16, -32, 64])), kind)
    section = data.draw(sections(shape))
    engine = "cfitsio" if kind == "cfitsio" else "auto"
    stored = np.array(array[section])
    scaled = np.array(stored.astype("f8") * 0.5 + 10.25)
    with torchfits.open(path, engine=engine, mmap=kind != "no mapping") as f:
        assert_same(f[2].read(section, raw=True), torch.from_numpy(stored))
        assert_same(f[2].read(section, dtype=torch.float64), torch.from_numpy(scaled))
        assert_same(f[2][section], converted(scaled, f[2].dtype))


PITCHES = [
    (slice(None), slice(1, None, 2)),
    (slice(1, None, 3),),
    (slice(None), slice(7, 5000)),
    (..., slice(2000, 2100)),
    (slice(None), 5002),
    (slice(None, None, 999), slice(None)),
]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("mmap", [True, False])
def test_large_images_are_the_same_with_threads(tmp_path, mmap, threads):
    """3 and 20 MB, as stored and converted, whole and in sections of every pitch."""
    path = tmp_path / "a.fits"
    small, large = noise("i2", (3, 512, 1024)), noise("f4", (1000, 5003))
    path.write_bytes(image(small) + table(1, 1001) + image(large, False) + image(small, False, BZERO=2**15))
    with torch_threads(threads), torchfits.open(path, mmap=mmap) as f:
        assert_same(f[0].read(), torch.from_numpy(small), exact=True)
        assert_same(f[0].read(dtype=torch.float64), torch.from_numpy(small).to(torch.float64))
        assert_same(f[2].read(), torch.from_numpy(large), exact=True)
        assert_same(f[2].read(dtype=torch.bfloat16), torch.from_numpy(large).to(torch.bfloat16))
        assert_same(f[3].read(), torch.from_numpy((small.astype("i4") + 2**15).astype("u2")))
        out = torch.zeros(5_003_000 + 1)
        f[2].read(out=out[1:].view(1000, 5003))
        assert_same(out[1:], torch.from_numpy(large).reshape(-1), exact=True)
        for section in PITCHES:
            expected = torch.from_numpy(np.ascontiguousarray(large[section]))
            assert_same(f[2].read(section), expected, exact=True)
        assert mapped(path) == mmap


AGAIN = [
    (8, Scaling()),
    (16, Scaling()),
    (16, Scaling(zero=None)),
    (32, Scaling(0.5, 7, 3)),
    (-32, Scaling()),
    (-64, Scaling()),
]


@pytest.mark.parametrize(("bitpix", "scaling"), AGAIN)
@pytest.mark.parametrize("cache", [True, False])
def test_a_small_image_that_is_read_again_comes_from_a_mapping(tmp_path, bitpix, scaling, cache):
    """From the second time on. Images do not begin where pages do."""
    path = tmp_path / "a.fits"
    pixels = [noise(STORED[bitpix], (300, 301), seed) for seed in range(3)]
    cards = scaling.cards(bitpix)
    path.write_bytes(b"".join(image(each, i == 0, **cards) for i, each in enumerate(pixels)))
    values = [physical(each, bitpix, scaling) for each in pixels]
    natural_dtype = natural(values[0], bitpix)
    with torchfits.open(path, cache=cache) as f, torchfits.open(path, cache=False, mmap=False) as g:
        for again in (False, True, True):
            for hdu, each in enumerate(values):
                for dtype in (natural_dtype, torch.float64):
                    assert_same(g[hdu].read(dtype=dtype), converted(each, dtype))
                out = torch.empty(each.shape, dtype=natural_dtype)
                assert_same(f[hdu].read(out=out), converted(each, natural_dtype))
            assert mapped(path) == again
        for hdu, each in enumerate(values):
            assert_same(f[hdu].read(dtype=torch.float64), converted(each, torch.float64))
    torchfits.cache_clear()
    assert not mapped(path)


def test_pages_that_are_not_in_memory_are_not_taken_from_a_mapping_one_by_one(tmp_path):
    path = tmp_path / "a.fits"
    path.write_bytes(image(counting((700, 700))))
    for dtype in (torch.float32, torch.float64):
        with torchfits.open(path, cache=False) as f, open(path, "rb") as file:
            f[0].read()
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            before = resource.getrusage(resource.RUSAGE_SELF).ru_majflt
            assert_same(f[0].read(dtype=dtype), torch.from_numpy(counting((700, 700))).to(dtype))
            # of 479 pages
            assert resource.getrusage(resource.RUSAGE_SELF).ru_majflt - before < 50


@pytest.mark.parametrize("shape", [(100, 100), (800, 801)])
def test_neither_the_smallest_nor_large_images_are_mapped(tmp_path, shape):
    path = tmp_path / "a.fits"
    path.write_bytes(image(counting(shape)))
    with torchfits.open(path) as f:
        for _ in range(3):
            assert_same(f[0].read(), torch.from_numpy(counting(shape)), exact=True)
        assert not mapped(path)


@pytest.mark.parametrize("engine", ENGINES)
def test_nothing_is_mapped_that_need_not_be(tmp_path, engine):
    path = tmp_path / "a.fits"
    path.write_bytes(image(counting((50, 5000))))
    with torchfits.open(path, engine=engine, mmap=False) as f:
        f[0].read()
        f[0].read((..., slice(3, 5)))
        f[0].cutouts([(3, 3), (40, 4999)], 8)
        assert not mapped(path)
    assert not mapped(path)
    torchfits.cache_clear()
    torchfits.read(path, mmap=False, section=(..., slice(3, 5)))
    assert not mapped(path)
    with torchfits.open(path) as f:
        f[0].read((..., slice(3, 5)))
    torchfits.cache_clear()
    assert not mapped(path)


@pytest.mark.parametrize(
    "section", [(0, 0, 0), 6, -7, (slice(None, None, -1),), (0.5,), (None,), (..., ...), True]
)
def test_what_is_no_section(tmp_path, section):
    path = tmp_path / "a.fits"
    path.write_bytes(image(counting((6, 8))))
    for engine in ENGINES:
        with torchfits.open(path, engine=engine) as f, pytest.raises(SectionError) as caught:
            f[0].read(section)
        assert (caught.value.path, caught.value.hdu) == (str(path), 0)


@pytest.mark.parametrize("mmap", [True, False])
def test_a_section_of_a_file_larger_than_memory(tmp_path, mmap):
    """64 GB of holes, with a few pixels in them: no more memory than the section takes."""
    path = tmp_path / "a.fits"
    side, width = 1024 * (32 if SANITIZED else 128), 4
    head = image(np.zeros((0, side), dtype="f4")).replace(
        b"NAXIS2  =                    0", f"NAXIS2  = {side:>20}".encode()
    )
    assert len(head) == BLOCK
    with path.open("wb") as file:
        file.write(head)
        file.truncate(BLOCK + -(-side * side * width // BLOCK) * BLOCK)
        for row in (0, 30_000, side - 1):
            file.seek(BLOCK + (row * side + side - 3) * width)
            file.write(np.arange(row, row + 3, dtype=">f4").tobytes())
    run_fork(
        """
        import resource, sys, torch, torchfits
        def peak():
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with torchfits.open(sys.argv[1], mmap=sys.argv[2] == "True") as f:
            hdu, side = f[0], int(sys.argv[3])
            hdu.read((0, slice(0, 2)))
            before = peak()
            assert hdu.shape == (side, side)
            for row in (0, 30_000, side - 1):
                part = hdu.read((slice(max(row - 1, 0), row + 1), slice(-600, None)))
                assert part[-1, -3:].tolist() == [row, row + 1, row + 2], part[-1, -3:]
                assert not part[..., :-3].any()
            assert not hdu.read((slice(None, None, 9973), -5)).any()
            windows = hdu.cutouts([(side - 2, side - 3), (29_999, side - 3)], (2, 3))
            assert windows[:, 1].tolist() == [[side - 1, side, side + 1], [30_000, 30_001, 30_002]]
            assert peak() - before < 40 << 10
        """,
        path,
        mmap,
        side,
    )


@pytest.mark.skipif(SANITIZED, reason="the sanitizer's memory would be counted too")
def test_the_memory_of_a_full_read(tmp_path):
    """The tensor and at most 8 MB, whatever it is converted to; each in a fork, so that peaks do not mix."""
    path = tmp_path / "a.fits"
    kinds = (np.zeros((4096, 4096), dtype=dtype) for dtype in ("f4", "i2"))
    path.write_bytes(b"".join(image(array, i == 0) for i, array in enumerate(kinds)))
    for index, options, megabytes in (
        (0, {}, 64),
        (0, {"dtype": torch.float64}, 128),
        (0, {"section": (..., slice(0, 4000))}, 63),
        (0, {"section": (slice(None), slice(None, None, 2))}, 32),
        (1, {}, 32),
        (1, {"dtype": torch.float32}, 64),
        (1, {"dtype": torch.bool}, 16),
    ):

        def check(index=index, options=options, megabytes=megabytes):
            with torchfits.open(path) as f:
                hdu = f[index]
                hdu.read(section=(0, slice(0, 10)))
                before = _peak()
                tensor = hdu.read(**options)
                assert megabytes - 8 < (_peak() - before) >> 10 <= megabytes + 8
                assert tensor.shape[0] == 4096

        in_fork(check)


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def test_the_pages_before_and_behind_the_pixels(tmp_path):
    """Images that begin at every block of two pages, and end with the file, padding or none."""
    array = noise("f4", (5, 1500))
    for blocks, cut in itertools.product(range(4), (False, True)):
        path = tmp_path / f"{blocks}{cut}.fits"
        data = EMPTY + table(1, BLOCK * blocks + 1) + image(array, False)
        path.write_bytes(data[: len(data) - (-array.nbytes % BLOCK)] if cut else data)
        for mmap in (True, False):
            with torchfits.open(path, mmap=mmap) as f:
                assert_same(f[2].read(), torch.from_numpy(array))
                assert_same(f[2].read((..., slice(1490, None))), torch.from_numpy(array[:, 1490:]))
                assert_same(f[2].read((..., slice(0, 1500, 1499))), torch.from_numpy(array[:, ::1499].copy()))
