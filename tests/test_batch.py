"""read_batch() and read_keys(): one image, or some keywords, of many files; each as if it were read alone."""

from __future__ import annotations

import gzip
import itertools
import os
import threading
import warnings

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
    card,
    converted,
    counting,
    header,
    image,
    natural,
    noise,
    physical,
    run_child,
    table,
    torch_threads,
)

import torchfits
from torchfits import (
    FitsError,
    FitsFileNotFound,
    FitsFormatError,
    FitsIOError,
    FitsWarning,
    HduMissing,
    SectionError,
    _tensors,
    read_batch,
    read_keys,
)
from torchfits import image as image_module

pytestmark = pytest.mark.native

SHAPE = (6, 7)


def pixels(i: int, shape=SHAPE, dtype: str = "f4") -> np.ndarray:
    """An image that no other file of a batch has."""
    return (counting(shape, "f8") + 1000 * i).astype(dtype)


def files_of(folder, *contents: bytes) -> list:
    paths = []
    for i, data in enumerate(contents):
        paths.append(folder / f"{i}.fits")
        paths[-1].write_bytes(data)
    return paths


def one_by_one(paths, hdu=0, section=None, **options) -> torch.Tensor:
    return torch.stack([torchfits.read(path, hdu, section, **options) for path in paths])


def stack(count: int, dtype: str = "f4") -> torch.Tensor:
    return torch.from_numpy(np.stack([pixels(i, dtype=dtype) for i in range(count)]))


# ---------------------------------------------------------------------------- what is read


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("count", [1, 2, 7, 40])
def test_plain_files(tmp_path, threads, count):
    paths = files_of(tmp_path, *[image(pixels(i)) for i in range(count)])
    with torch_threads(threads):
        assert_same(read_batch(paths), stack(count), exact=True)
        assert_same(read_batch([str(path) for path in paths]), stack(count))
        assert_same(read_batch(tuple(os.fsencode(path) for path in paths)), stack(count))
        assert_same(read_batch(paths[::-1]), stack(count).flip(0))


def test_the_same_file_many_times(tmp_path):
    path = files_of(tmp_path, image(pixels(3)))[0]
    assert_same(read_batch([path] * 33), torch.from_numpy(pixels(3)).expand(33, *SHAPE).contiguous())


def test_no_files():
    assert read_batch([]).shape[0] == 0
    assert read_batch([], dtype=torch.int16).dtype == torch.int16
    out = torch.empty(0, 3)
    assert read_batch([], out=out) is out
    assert read_keys([], ["A", "B"]).keys() == {"A", "B"}
    assert all(len(value) == 0 for value in read_keys([], ["A", "B"]).values())


@pytest.mark.parametrize("hdu", [3, "SCI", "sci ", ("SCI", 1), "VAR", ("SCI", 2), -1, 4, ("Sci", 2)])
def test_an_hdu_behind_others(tmp_path, hdu):
    """Behind images, tables and long headers that differ from file to file."""
    contents = []
    for i in range(20):
        filler = [card(f"K{k}", k) for k in range(40 * (i % 3))]
        contents.append(
            header([card("BITPIX", 8), card("NAXIS", 0), *filler])
            + image(pixels(i, (i + 1, 3)), False, EXTNAME="'FIRST'")
            + table(i + 1, 700)
            + image(pixels(i), False, EXTNAME="'SCI     '")
            + image(pixels(i + 50), False, EXTNAME="'sci'", EXTVER=2)
            + image(pixels(i + 90), False, EXTNAME="'VAR'")
        )
    paths = files_of(tmp_path, *contents)
    first = {4: 50, ("SCI", 2): 50, ("Sci", 2): 50, -1: 90, "VAR": 90}.get(hdu, 0)
    expected = torch.from_numpy(np.stack([pixels(i + first) for i in range(20)]))
    assert_same(read_batch(paths, hdu), expected)
    assert_same(read_batch(paths, hdu=hdu, section=(slice(1, None, 2), 3)), expected[:, 1::2, 3].contiguous())


def test_the_name_decides_where_the_index_differs(tmp_path):
    contents = []
    for i in range(12):
        others = [image(pixels(k, (2, 2)), False, EXTNAME=f"'X{k}'") for k in range(i % 4)]
        contents.append(EMPTY + b"".join(others) + image(pixels(i), False, EXTNAME="'SCI'"))
    paths = files_of(tmp_path, *contents)
    assert_same(read_batch(paths, "SCI"), stack(12))
    with pytest.raises(FitsError) as caught:
        read_batch(paths, 1)
    assert caught.value.path == str(paths[1])


@given(data=st.data())
@settings(max_examples=80, deadline=None)
def test_a_section_is_that_of_each_file(tmp_path_factory, data):
    shape = data.draw(st.sampled_from([(50,), (9, 13), (3, 4, 1200), (2, 3, 2, 5)]))
    folder = tmp_path_factory.mktemp("batch")
    arrays = [noise("i2", shape, seed) for seed in range(3)]
    paths = files_of(folder, *[image(array, BSCALE="0.25") for array in arrays])
    axis = [st.integers(-n, n - 1) | st.slices(n).filter(lambda s: (s.step or 1) > 0) for n in shape]
    section = tuple(data.draw(each) for each in axis[: data.draw(st.integers(0, len(shape)))])
    if data.draw(st.booleans()):
        section = (*section, ...)
    expected = np.stack([array[section] for array in arrays]).astype("f4") * np.float32(0.25)
    assert_same(read_batch(paths, section=section), torch.from_numpy(expected))
    for path in paths:
        path.unlink()


SCALINGS = [Scaling(), Scaling(zero=None), Scaling(0.5, 3), Scaling(blank=77), Scaling(1 / 3, 0.1, 77)]


@pytest.mark.parametrize("bitpix", STORED)
def test_every_type_scaled_and_converted(tmp_path, bitpix):
    for scaling, dtype in itertools.product(SCALINGS, (None, *DTYPES)):
        if bitpix < 0 and (scaling.zero is None or scaling.blank is not None):
            continue
        arrays = [noise(STORED[bitpix], SHAPE, seed) for seed in range(9)]
        arrays[4][2, 3] = 77
        paths = files_of(tmp_path, *[image(array, **scaling.cards(bitpix)) for array in arrays])
        values = np.stack([physical(array, bitpix, scaling) for array in arrays])
        to = dtype or natural(values, bitpix)
        if scaling.blank is not None and not (to.is_floating_point or to.is_complex):
            with pytest.raises(FitsFormatError, match="null"):
                read_batch(paths, dtype=to)
            continue
        expected = converted(values, to)
        assert_same(read_batch(paths, dtype=dtype), expected)
        frame = torch.zeros(11, *SHAPE, dtype=to)
        assert read_batch(paths, out=frame[1:10]).data_ptr() == frame[1].data_ptr()
        assert_same(frame[1:10], expected)
        assert not frame[0].any()
        assert not frame[10].any()


def test_scaling_is_that_of_each_file(tmp_path):
    """Headers alike but for the scaling: nothing of one file may be used for the next."""
    array = np.arange(42, dtype="i2").reshape(SHAPE)
    scalings = [(0.5, 0), (2, 0), (0.5, 7), (1, 3), (0.5, 0), (3, 1)]
    contents = [image(array, BSCALE=f"{s:.1f}", BZERO=f"{z:.1f}") for s, z in scalings]
    blanks = [image(array, BSCALE="0.5", BZERO="0.0", BLANK=k) for k in (5, 6)]
    paths = files_of(tmp_path, *contents, *blanks)
    expected = [array * np.float32(s) + np.float32(z) for s, z in scalings]
    expected += [np.where(array == k, np.float32("nan"), array * np.float32(0.5)) for k in (5, 6)]
    for order in (1, -1):
        assert_same(read_batch(paths[::order]), torch.from_numpy(np.stack(expected[::order])))


def test_the_bytes_are_those_of_now(tmp_path):
    """A file that was replaced between two calls, of the same size, in the same moment."""
    paths = files_of(tmp_path, *[image(pixels(i)) for i in range(3)])
    for round_ in range(5):
        for i, path in enumerate(paths):
            path.write_bytes(image(pixels(i + 10 * round_)))
        expected = np.stack([pixels(i + 10 * round_) for i in range(3)])
        assert_same(read_batch(paths), torch.from_numpy(expected))


@pytest.mark.parametrize("blocks", [1, 2, 3, 7])
@pytest.mark.parametrize("at_the_end", [True, False])
def test_headers_of_any_length(tmp_path, blocks, at_the_end):
    """END is the last card of its block, or the first."""
    count = 36 * blocks - (6 if at_the_end else 5)
    contents = []
    for i in range(10):
        cards = {f"KEY{k}": k + i for k in range(count)}
        contents.append(image(pixels(i), **cards))
        assert (contents[-1].index(b"END" + b" " * 77) // 80 + 1) % 36 == (0 if at_the_end else 1)
    paths = files_of(tmp_path, *contents)
    assert_same(read_batch(paths), stack(10))
    last = f"KEY{count - 1}"
    assert read_keys(paths, last)[last].tolist() == [count - 1 + i for i in range(10)]


def test_large_images_with_threads(tmp_path):
    arrays = [noise("i2", (600, 1100), seed) for seed in range(18)]
    paths = files_of(tmp_path, *[EMPTY + table(1, 33) + image(array, False) for array in arrays])
    expected = torch.from_numpy(np.stack(arrays))
    with torch_threads(2):
        assert_same(read_batch(paths, 2), expected)
        assert_same(read_batch(paths, 2, dtype=torch.float64), expected.to(torch.float64))
        assert_same(read_batch(paths, 2, (..., slice(5, 1000, 9))), expected[..., 5:1000:9].contiguous())


def test_images_without_pixels(tmp_path):
    paths = files_of(tmp_path, *[image(np.zeros((0, 4), dtype="i2"))] * 3)
    assert read_batch(paths).shape == (3, 0, 4)
    assert read_batch(files_of(tmp_path, *[EMPTY] * 3)).shape == (3, 0)
    paths = files_of(tmp_path, *[image(pixels(i)) for i in range(3)])
    assert read_batch(paths, section=(slice(2, 2),)).shape == (3, 0, 7)


def test_packed_files_among_plain_ones(tmp_path):
    array = pixels(5, (20, 30), "i2")
    tiles, packed = tmp_path / "tiles.fits", tmp_path / "packed.fits.gz"
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(array, name="SCI")]).writeto(tiles)
    packed.write_bytes(gzip.compress(EMPTY + image(array + 1, False, EXTNAME="'SCI'")))
    plain = files_of(tmp_path, *[EMPTY + image(array + 2 + i, False, EXTNAME="'SCI'") for i in range(3)])
    for paths in itertools.permutations([tiles, packed, plain[0]]):
        assert_same(read_batch([*paths, *plain], "SCI"), one_by_one([*paths, *plain], "SCI"))
        assert_same(read_batch(paths, 1, (3, slice(1, 9, 3))), one_by_one(paths, 1, (3, slice(1, 9, 3))))
        assert_same(read_batch(paths, 1, dtype=torch.bfloat16), one_by_one(paths, 1, dtype=torch.bfloat16))


# ---------------------------------------------------------------------------- what is not read


def trouble(folder) -> dict:
    """A path a kind of trouble, and the error that reading it alone gives."""
    good = image(pixels(0))
    nonsense = good.replace(b"BITPIX  =                  -32", b"BITPIX  =                  -33")
    contents = {
        "missing": (None, FitsFileNotFound),
        "empty": (b"", FitsFormatError),
        "text": (b"no FITS\n" * 1000, FitsFormatError),
        "cut in the header": (good[:1000], FitsFormatError),
        "cut in the pixels": (good[: 2880 + 100], FitsFormatError),
        "one byte short": (good[: 2880 + 6 * 7 * 4 - 1], FitsFormatError),
        "no image": (EMPTY, FitsFormatError),
        "other shape": (image(pixels(0, (7, 6))), FitsFormatError),
        "more axes": (image(pixels(0, (1, 6, 7))), FitsFormatError),
        "other dtype": (image(pixels(0, dtype="f8")), FitsFormatError),
        "integers": (image(pixels(0, dtype="i4")), FitsFormatError),
        "nonsense": (nonsense, FitsFormatError),
        "packed badly": (gzip.compress(good)[:-30], FitsFormatError),
    }
    found = {}
    for name, (data, error) in contents.items():
        found[name] = folder / f"bad {name}.fits", error
        if data is not None:
            found[name][0].write_bytes(data)
    found["directory"] = folder / "bad directory.fits", FitsIOError
    found["directory"][0].mkdir()
    found["fifo"] = folder / "bad fifo.fits", FitsIOError
    os.mkfifo(found["fifo"][0])
    found["device"] = os.devnull, FitsIOError
    return found


def compressed_files(folder, count: int) -> list:
    """Those that our kernels do not read in one call."""
    paths = []
    for i in range(count):
        paths.append(folder / f"{i}.fits")
        hdu = fits.CompImageHDU(pixels(i, (40, 60), "i2"), compression_type=("RICE_1", "GZIP_2")[i % 2])
        fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(paths[-1])
    return paths


@pytest.mark.parametrize(("files", "each_uses"), [(1, 8), (3, 2), (7, 1), (100, 1)])
def test_files_and_their_tiles_share_the_threads(tmp_path, monkeypatch, files, each_uses):
    """What reads the tiles of one file is told how many threads the other files leave it."""
    path, used, really = tmp_path / "a.fits", [], image_module.read_tiled_section

    def noted(*arguments):
        used.append(arguments[-1])
        return really(*arguments)

    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(counting((300, 300), "i2"))]).writeto(path)
    monkeypatch.setattr(_tensors, "_processors", lambda: 8)
    monkeypatch.setattr(image_module, "read_tiled_section", noted)
    with torch_threads(8):
        read_batch([path] * files, 1)
        assert used == [each_uses] * files
        assert _tensors.threads() == 8


@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("inference", [False, True])
def test_compressed_files_in_threads(tmp_path, threads, inference):
    paths = compressed_files(tmp_path, 23)
    with torch_threads(threads), torch.inference_mode(inference):
        for section in (None, (slice(3, 9), slice(2, None, 7))):
            for dtype in (None, torch.float64):
                expected = one_by_one(paths, 1, section, dtype=dtype)
                assert_same(read_batch(paths, 1, section=section, dtype=dtype), expected)
        paths[4].unlink()
        with pytest.warns(FitsWarning, match="1 of 23 files are NaN"):
            found = read_batch(paths, 1, dtype=torch.float32, on_error="fill")
        assert found[4].isnan().all()
        assert not found[5:].isnan().any()


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_the_first_of_many_bad_files_is_named(tmp_path, threads):
    paths = compressed_files(tmp_path, 40)
    with torch_threads(threads):
        for first in (37, 20, 1):
            for path in paths[first::2]:
                path.write_bytes(b"no FITS")
            for _ in range(5):
                with pytest.raises(FitsFormatError) as caught:
                    read_batch(paths, 1)
                assert caught.value.path == str(paths[first])


def test_an_interrupt_ends_all_threads(tmp_path, monkeypatch):
    paths, begun = compressed_files(tmp_path, 40), []

    def interrupted(self, name, target):
        begun.append(name)
        if len(begun) == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(torchfits.batch._Batch, "_read_one", interrupted)
    with torch_threads(2), pytest.raises(KeyboardInterrupt):
        read_batch(paths, 1)
    assert len(begun) < 10
    assert not [each for each in threading.enumerate() if each.name.startswith("torchfits")]


KINDS_OF_TROUBLE = [
    "missing", "empty", "text", "cut in the header", "cut in the pixels", "one byte short", "no image",
    "other shape", "more axes", "other dtype", "integers", "nonsense", "packed badly", "directory", "fifo",
    "device",
]  # fmt: skip


@pytest.mark.parametrize("name", KINDS_OF_TROUBLE)
def test_an_error_names_its_file(tmp_path, name):
    bad, kind = trouble(tmp_path)[name]
    good = files_of(tmp_path, *[image(pixels(i)) for i in range(11)])
    for at in (1, 5, 11):
        paths = [*good[:at], bad, *good[at:]]
        with pytest.raises(kind) as caught:
            read_batch(paths)
        assert caught.value.path == str(bad)
        assert str(bad) in str(caught.value)
        with pytest.raises(kind) as caught:
            read_batch(paths, section=(0, 0))
        assert caught.value.path == str(bad)


@pytest.mark.parametrize("name", KINDS_OF_TROUBLE)
def test_a_bad_file_is_filled(tmp_path, name):
    bad, _ = trouble(tmp_path)[name]
    good = files_of(tmp_path, *[image(pixels(i)) for i in range(11)])
    for at in (0, 1, 11):
        if at == 0 and name in ("no image", "other shape", "more axes", "other dtype", "integers"):
            continue  # there the others would be the odd ones
        paths = [*good[:at], bad, *good[at:]]
        with pytest.warns(FitsWarning) as caught:
            found = read_batch(paths, on_error="fill")
        assert len(caught) == 1
        assert str(bad) in str(caught[0].message)
        assert caught[0].filename == __file__
        assert found[at].isnan().all()
        assert_same(torch.cat([found[:at], found[at + 1 :]]), stack(11))
    if name not in ("other dtype", "integers"):
        out = torch.zeros(2, *SHAPE, dtype=torch.float16)
        with pytest.warns(FitsWarning):
            assert read_batch([good[0], bad], on_error="fill", out=out) is out
        assert out[1].isnan().all()
    else:  # with dtype= these are converted
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = read_batch([good[0], bad], on_error="fill", dtype=torch.float16)
        assert_same(found, stack(1).expand(2, *SHAPE).to(torch.float16).contiguous())


def test_many_bad_files_are_one_warning(tmp_path):
    good = files_of(tmp_path, *[image(pixels(i)) for i in range(4)])
    missing = [tmp_path / f"missing {i}" for i in range(30)]
    with pytest.warns(FitsWarning, match="31 of 35") as caught:
        found = read_batch([*missing, *good, missing[0]], on_error="fill")
    assert len(caught) == 1
    assert str(missing[0]) in str(caught[0].message)
    assert found[:30].isnan().all()
    assert found[-1].isnan().all()
    assert_same(found[30:34], stack(4))
    with pytest.raises(FitsFileNotFound) as error:
        read_batch(missing, on_error="fill")
    assert error.value.path == str(missing[0])


def test_fill_needs_a_float(tmp_path):
    paths = files_of(tmp_path, *[image(pixels(i, dtype="i2")) for i in range(3)])
    out = torch.empty(3, 6, 7, dtype=torch.int16)
    for options in ({}, {"dtype": torch.int64}, {"dtype": torch.bool}, {"out": out}):
        with pytest.raises(FitsFormatError, match="NaN"):
            read_batch(paths, on_error="fill", **options)
    found = read_batch(paths, on_error="fill", dtype=torch.bfloat16)
    assert_same(found, stack(3, "i2").to(torch.bfloat16))
    with pytest.raises(ValueError, match="on_error"):
        read_batch(paths, on_error="ignore")


def test_mixed_dtypes_are_converted_when_asked(tmp_path):
    """The file decides by its values, not by how the first one stores them."""
    arrays = [
        pixels(0, dtype="i2"),
        pixels(1, dtype="f4") + np.float32(0.5),
        pixels(2, dtype="i4"),
        pixels(3, dtype="f8"),
    ]
    dtypes = [torch.float64, torch.float16, torch.int64, torch.bool, torch.complex64, torch.complex128]
    for order in (1, -1):
        paths = files_of(tmp_path, *[image(array) for array in arrays[::order]])
        for dtype in dtypes:
            expected = torch.stack([torch.from_numpy(array).to(dtype) for array in arrays[::order]])
            assert_same(read_batch(paths, dtype=dtype), expected)
            assert_same(read_batch(paths, out=torch.empty_like(expected)), expected)
        with pytest.raises(FitsFormatError) as caught:
            read_batch(paths)
        assert caught.value.path == str(paths[1])


@pytest.mark.parametrize("odd", [{"BZERO": 2**15}, {"BZERO": 1}, {"BSCALE": "2.0"}, {"BLANK": -1}])
def test_stored_alike_but_of_another_dtype(tmp_path, odd):
    """int16, uint16 and scaled values lie in a file in the same way; they are not mixed unasked."""
    array = np.arange(42, dtype="i2").reshape(SHAPE)
    for order in (1, -1):
        paths = files_of(tmp_path, *[image(array), image(array, **odd)][::order], *[image(array)] * 9)
        with pytest.raises(FitsFormatError, match="dtype") as caught:
            read_batch(paths)
        assert caught.value.path == str(paths[1])
        assert_same(read_batch(paths, dtype=torch.float64), one_by_one(paths, dtype=torch.float64))


def test_a_null_in_one_file_only(tmp_path):
    """An integer dtype cannot hold it, whichever file of the batch has it."""
    array = np.arange(42, dtype="i2").reshape(SHAPE)
    paths = files_of(tmp_path, *[image(array)] * 9, image(array, BLANK=3))
    with pytest.raises(FitsFormatError, match="null") as caught:
        read_batch(paths, dtype=torch.int32)
    assert caught.value.path == str(paths[-1])
    assert read_batch(paths, dtype=torch.float32)[-1].isnan().sum() == 1
    with pytest.raises(FitsFormatError) as caught:
        read_batch(paths)
    assert caught.value.path == str(paths[-1])


def test_what_is_asked_for_must_be_there(tmp_path):
    paths = files_of(tmp_path, *[image(pixels(i)) + table(2, 50) for i in range(3)])
    for hdu in (2, "NOPE", ("NOPE", 1), -3):
        with pytest.raises(HduMissing) as caught:
            read_batch(paths, hdu)
        assert caught.value.path == str(paths[0])
        with pytest.raises(HduMissing):
            read_keys(paths, "NAXIS", hdu)
    with pytest.raises(FitsFormatError, match="image") as caught:
        read_batch(paths, 1)
    assert caught.value.path == str(paths[0])
    for section in ((6,), (0, 0, 0), (slice(None, None, -1),), ("a",)):
        with pytest.raises(SectionError):
            read_batch(paths, section=section)
    for hdu in (1.5, None, ("A", "B"), ["SCI"]):
        with pytest.raises(TypeError):
            read_batch(paths, hdu)
    every_other = torch.empty(3, 6, 14)[..., ::2]
    for bad in (torch.empty(2, 6, 7), torch.empty(3, 7, 6), every_other, torch.empty(3, 42)):
        with pytest.raises(FitsFormatError, match="out"):
            read_batch(paths, out=bad)
    with pytest.raises(FitsFormatError, match="dtype"):
        read_batch(paths, out=torch.empty(3, 6, 7), dtype=torch.float64)
    with pytest.raises(TypeError):
        read_batch(paths, out=np.empty((3, 6, 7)))
    with pytest.raises(TypeError):
        read_batch([1, 2])
    with pytest.raises(FitsIOError):
        read_batch(["a\0b"])


def test_thousands_of_files_with_few_descriptors(tmp_path):
    """No more than a few are open at a time."""
    files_of(tmp_path, *[image(pixels(i), NUMBER=i) for i in range(2000)])
    run_child(
        """
        import os, resource, sys, torch, torchfits
        torchfits.versions()
        resource.setrlimit(resource.RLIMIT_NOFILE, (24, 24))
        paths = [f"{sys.argv[1]}/{i}.fits" for i in range(2000)]
        stack = torchfits.read_batch(paths)
        assert stack.shape == (2000, 6, 7)
        assert (stack[:, 0, 0] == 1000 * torch.arange(2000)).all()
        assert (stack[:, -1, -1] == 1000 * torch.arange(2000) + 41).all()
        assert torchfits.read_keys(paths, "NUMBER")["NUMBER"].equal(torch.arange(2000))
        assert len(os.listdir("/proc/self/fd")) < 12
        """,
        tmp_path,
    )
