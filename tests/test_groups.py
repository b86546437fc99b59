"""Random groups: the arrays and their parameters, as the FITS standard 4.0, section 6, has them."""

from __future__ import annotations

import gzip
import math
import pickle

import numpy as np
import pytest
import torch
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st
from images import (
    DTYPES,
    STORED,
    Scaling,
    assert_same,
    converted,
    counting,
    header,
    image,
    natural,
    noise,
    padded,
    physical,
    torch_threads,
)

import torchfits
from torchfits import FitsError, FitsFormatError, FitsUnsupported, GroupsHDU, SectionError

pytestmark = pytest.mark.native


def groups(parameters: np.ndarray, data: np.ndarray, **cards: object) -> bytes:
    """Random groups as raw bytes: `parameters` (groups, n) and `data` (groups, ...), as they are stored."""
    bitpix = {kind: bits for bits, kind in STORED.items()}[data.dtype.str[1:]]
    axes = {f"NAXIS{i + 2}": n for i, n in enumerate(reversed(data.shape[1:]))}
    head = {"BITPIX": bitpix, "NAXIS": data.ndim, "NAXIS1": 0, **axes, "GROUPS": True}
    head |= {"PCOUNT": parameters.shape[1], "GCOUNT": len(data), **cards}
    flat = data.reshape(len(data), math.prod(data.shape[1:]))
    rows = np.concatenate([parameters.astype(data.dtype), flat], axis=1)
    return header(head) + padded(rows.astype(rows.dtype.newbyteorder(">")).tobytes())


def write(folder, *args, **cards):
    path = folder / "groups.fits"
    path.write_bytes(groups(*args, **cards))
    return path


@pytest.mark.parametrize("bitpix", STORED)
def test_astropy_agrees(tmp_path, bitpix):
    shape, rng = (9, 2, 3, 4), np.random.default_rng(6)
    data = rng.integers(0, 100, shape).astype(STORED[bitpix])
    values = [rng.integers(0, 100, 9).astype(STORED[bitpix]) for _ in range(3)]
    made = fits.GroupData(data, bitpix=bitpix, parnames=["UU", "DATE", "_DATE"], pardata=values)
    path = tmp_path / "a.fits"
    fits.GroupsHDU(made).writeto(path)
    with fits.open(path) as f, torchfits.open(path) as g:
        hdu = g[0]
        assert isinstance(hdu, GroupsHDU)
        assert isinstance(hdu, torchfits.ImageHDU)
        assert (hdu.engine, hdu.shape, hdu.parameters) == ("direct", shape, tuple(f[0].data.parnames))
        assert hdu.read_header()["GCOUNT"] == 9
        assert "GROUPS" in repr(hdu)
        expected = np.array(f[0].data.data)
        assert_same(hdu.read(), torch.from_numpy(expected.astype(STORED[bitpix])))
        found = hdu.read_parameters()
        assert tuple(found) == hdu.parameters
        for name, column in found.items():
            assert column.dtype == torch.float64
            assert column.tolist() == np.array(f[0].data.par(name), dtype="f8").tolist()


SCALINGS = [Scaling(), Scaling(zero=None), Scaling(0.5, 10.25), Scaling(1 / 3, 0.1, 77), Scaling(blank=77)]


@pytest.mark.parametrize("bitpix", STORED)
def test_every_convention_and_dtype(tmp_path, bitpix):
    """The arrays are images; parameters do not care for BSCALE, BZERO and BLANK."""
    stored = noise(STORED[bitpix], (8, 3, 5))
    stored[2, 1, 1] = 77
    parameters = noise(STORED[bitpix], (8, 2), 3)
    parameters[4, 1] = 77
    for scaling in SCALINGS:
        if bitpix < 0 and (scaling.zero is None or scaling.blank is not None):
            continue
        path = write(tmp_path, parameters, stored, PTYPE1="'UU'", PTYPE2="'VV'", **scaling.cards(bitpix))
        values = physical(stored, bitpix, scaling)
        with torchfits.open(path, cache=False) as f:
            hdu = f[0]
            assert hdu.dtype == natural(values, bitpix)
            assert_same(hdu.read(raw=True), torch.from_numpy(stored), exact=True)
            for dtype in (None, *DTYPES):
                to = dtype or hdu.dtype
                if scaling.blank is not None and not (to.is_floating_point or to.is_complex):
                    with pytest.raises(FitsFormatError, match="null"):
                        hdu.read(dtype=to)
                    continue
                expected = converted(values, to)
                assert_same(hdu.read(dtype=dtype), expected)
                assert_same(hdu.read(out=torch.empty_like(expected)), expected)
                part = hdu.read((slice(1, None, 3), ..., slice(2, 4)), dtype=dtype)
                assert_same(part, expected[1::3, ..., 2:4])
            for i, name in enumerate(("UU", "VV")):
                assert hdu.read_parameters()[name].tolist() == parameters[:, i].astype("f8").tolist()


def test_scaled_parameters_and_their_sums(tmp_path):
    """Parameters of one name are parts of one number: a coarse and a fine one here."""
    parameters = np.array([[1, 2, 3, 4, 5], [10, 20, 30, 40, 50], [-7, 32767, 1, -32768, 0]], dtype="i2")
    path = write(
        tmp_path, parameters, counting((3, 4), "i2"),
        PTYPE1="'UU      '", PSCAL1="0.5", PZERO1="100.0",
        PTYPE2="'DATE    '", PSCAL2="1.0D0", PZERO2="2451545.0",
        PTYPE3="'_DATE'", PSCAL3="3", PZERO3="-1",
        PTYPE4="'DATE    '", PSCAL4="1.52587890625E-5",
        PTYPE5="'DATE'", PZERO5="32768.0",
    )  # fmt: skip
    p = parameters.astype("f8")
    expected = {
        "UU": p[:, 0] * 0.5 + 100,
        "DATE": (p[:, 1] + 2451545) + p[:, 3] * 2.0**-16 + (p[:, 4] + 32768),
        "_DATE": p[:, 2] * 3 - 1,
    }
    with torchfits.open(path) as f:
        assert f[0].parameters == ("UU", "DATE", "_DATE")
        found = f[0].read_parameters()
        assert list(found) == ["UU", "DATE", "_DATE"]
        assert {name: column.tolist() for name, column in found.items()} == {
            name: column.tolist() for name, column in expected.items()
        }
        assert found["UU"].dtype == torch.float64
        # nothing that was summed once is summed again
        assert f[0].read_parameters()["DATE"].tolist() == expected["DATE"].tolist()
        assert f[0].read().tolist() == counting((3, 4)).tolist()


def test_parameters_without_a_name(tmp_path):
    parameters = np.arange(8, dtype="f4").reshape(2, 4)
    path = write(tmp_path, parameters, counting((2, 3)), PTYPE2="'BASELINE'", PTYPE4="'   '")
    with torchfits.open(path) as f:
        assert f[0].parameters == ("PAR1", "BASELINE", "PAR3", "PAR4")
        assert {k: v.tolist() for k, v in f[0].read_parameters().items()} == {
            "PAR1": [0, 4], "BASELINE": [1, 5], "PAR3": [2, 6], "PAR4": [3, 7],
        }  # fmt: skip


def test_without_parameters(tmp_path):
    path = write(tmp_path, np.zeros((5, 0)), counting((5, 2, 3)))
    with torchfits.open(path) as f:
        assert f[0].parameters == ()
        assert f[0].read_parameters() == {}
        assert f[0].read().tolist() == counting((5, 2, 3)).tolist()


def test_without_arrays(tmp_path):
    """NAXIS = 1: parameters are all there is."""
    path = tmp_path / "a.fits"
    head = {"BITPIX": -32, "NAXIS": 1, "NAXIS1": 0, "GROUPS": True, "PCOUNT": 2, "GCOUNT": 3}
    numbers = padded(np.arange(6, dtype=">f4").tobytes())
    path.write_bytes(header(head | {"PTYPE1": "'A'"}) + numbers + image(counting((4,)), False))
    with torchfits.open(path) as f:
        assert f[0].shape == (3, 0)
        assert f[0].read().shape == (3, 0)
        assert f[0].read_parameters()["A"].tolist() == [0, 2, 4]
        assert f[0].read_parameters()["PAR2"].tolist() == [1, 3, 5]
        assert f[1].read().tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("count", [0, 1])
def test_few_groups(tmp_path, count):
    path = write(tmp_path, np.ones((count, 2)), counting((count, 3, 4)), PTYPE1="'A'", PTYPE2="'A'")
    with torchfits.open(path) as f:
        assert f[0].read().shape == (count, 3, 4)
        assert f[0].read_parameters()["A"].tolist() == [2.0] * count


@pytest.mark.parametrize("kind", ["mapped", "read", "gzip"])
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_section_is_the_slice(tmp_path_factory, kind, data):
    shape = data.draw(st.sampled_from([(6, 5), (4, 3, 2, 5), (5, 1, 3000), (12, 4, 4)]))
    path, array = _made(tmp_path_factory, shape, kind)
    axes = [
        st.integers(-n, n - 1)
        | st.builds(slice, st.integers(-n, n) | st.none(), st.integers(-n, n) | st.none(), st.integers(1, n))
        for n in shape
    ]
    section = tuple(data.draw(each) for each in axes[: data.draw(st.integers(0, len(shape)))])
    if data.draw(st.booleans()):
        section = (*section, ...)
    with torchfits.open(path, mmap=kind != "read", cache=False) as f:
        assert_same(f[0].read(section), torch.from_numpy(np.array(array[section])))
        assert_same(f[0][section], torch.from_numpy(np.array(array[section])))


_MADE: dict = {}


def _made(factory, shape, kind):
    if (shape, kind) not in _MADE:
        path, array = factory.mktemp("groups") / "a.fits", noise("i4", shape)
        data = groups(noise("i4", (shape[0], 3), 9), array)
        path.write_bytes(gzip.compress(data) if kind == "gzip" else data)
        _MADE[shape, kind] = path, array
    return _MADE[shape, kind]


@pytest.mark.parametrize("threads", [1, 2])
def test_large_groups_with_threads(tmp_path, threads):
    data, parameters = noise("f4", (3000, 4, 300)), noise("f4", (3000, 6), 2)
    path = write(tmp_path, parameters, data)
    with torch_threads(threads), torchfits.open(path) as f:
        assert_same(f[0].read(), torch.from_numpy(data), exact=True)
        assert_same(f[0].read(dtype=torch.float64), torch.from_numpy(data).to(torch.float64))
        columns = torch.stack(list(f[0].read_parameters().values()), dim=1)
        assert_same(columns, torch.from_numpy(parameters.astype("f8")))


def test_what_comes_after_them(tmp_path):
    path = tmp_path / "a.fits"
    path.write_bytes(
        groups(np.ones((700, 3), dtype="f4"), counting((700, 5)), PTYPE1="'A'")
        + image(counting((4, 4)), False, EXTNAME="'AFTER'")
    )
    with torchfits.open(path) as f:
        assert len(f) == 2
        assert "GROUPS" in f.info()
        assert f["AFTER"].read().tolist() == counting((4, 4)).tolist()
        assert not isinstance(f["AFTER"], GroupsHDU)
        again = pickle.loads(pickle.dumps(f[0]))
        assert again.read_parameters()["A"].tolist() == [1.0] * 700
        again._parent.close()
    assert torchfits.read(path).shape == (700, 5)


def test_groups_false_is_no_group(tmp_path):
    """NAXIS1 = 0 alone means that there are no pixels."""
    path = tmp_path / "a.fits"
    for cards in ({"GROUPS": False}, {}):
        path.write_bytes(header({"BITPIX": 16, "NAXIS": 2, "NAXIS1": 0, "NAXIS2": 3, **cards}))
        with torchfits.open(path, cache=False) as f:
            assert not isinstance(f[0], GroupsHDU)
            assert f[0].read().shape == (3, 0)


def test_windows_of_groups(tmp_path):
    """The pixels of the arrays, not the parameters between them; or a refusal."""
    data = counting((4, 2, 20, 30))
    path = write(tmp_path, np.full((4, 3), -1), data)
    for mmap in (True, False):
        with torchfits.open(path, mmap=mmap) as f:
            try:
                found = f[0].cutouts([(1, 2), (17, 27)], 3)
            except FitsUnsupported:
                continue
            expected = np.stack([data[..., 1:4, 2:5], data[..., 17:20, 27:30]])
            assert_same(found, torch.from_numpy(expected))


def test_batches_of_groups(tmp_path):
    paths = []
    for i in range(10):
        paths.append(tmp_path / f"{i}.fits")
        paths[-1].write_bytes(groups(np.full((4, i), -1), counting((4, 6)) + i))
    found = torchfits.read_batch(paths)
    assert_same(found, torch.from_numpy(np.stack([counting((4, 6)) + np.float32(i) for i in range(10)])))
    found = torchfits.read_batch(paths, section=(slice(1, 3), 2))
    assert found.tolist() == [[8 + i, 14 + i] for i in range(10)]


def test_what_is_refused(tmp_path):
    good = groups(np.ones((3, 2), dtype="f4"), counting((3, 4)), PTYPE1="'A'")
    path = tmp_path / "a.fits"
    path.write_bytes(good)
    with torchfits.open(path, engine="cfitsio", cache=False) as f, pytest.raises(FitsUnsupported):
        f[0].read()
    with torchfits.open(path, cache=False) as f:
        for section in (3, (0, 0, 0), (slice(None, None, -1),)):
            with pytest.raises(SectionError):
                f[0].read(section)
        with pytest.raises(FitsFormatError, match="out"):
            f[0].read(out=torch.empty(3, 6))
    path.write_bytes(good[: 2880 + 3 * 6 * 4 - 1])
    with torchfits.open(path, cache=False) as f:
        for read in (f[0].read, f[0].read_parameters, lambda: f[0].read((0, 0))):
            with pytest.raises(FitsFormatError, match="cut short") as caught:
                read()
            assert (caught.value.path, caught.value.hdu) == (str(path), 0)
        assert f[0].parameters == ("A", "PAR2")
    for text in ("'x'", "T", "1E999"):
        path.write_bytes(groups(np.ones((3, 2), dtype="f4"), counting((3, 4)), PTYPE1="'A'", PSCAL1=text))
        with torchfits.open(path, cache=False) as f:
            assert f[0].read().tolist() == counting((3, 4)).tolist()
            with pytest.raises(FitsError, match="PSCAL1") as caught:
                f[0].read_parameters()
            assert (caught.value.path, caught.value.hdu) == (str(path), 0)


def test_counts_that_lie(tmp_path):
    for cards in ({"GCOUNT": 2**40}, {"PCOUNT": 2**40}, {"PCOUNT": 2**62, "GCOUNT": 2**62}, {"GCOUNT": -1}):
        path = tmp_path / "a.fits"
        head = {"BITPIX": -32, "NAXIS": 2, "NAXIS1": 0, "NAXIS2": 4, "GROUPS": True, "PCOUNT": 2, "GCOUNT": 3}
        path.write_bytes(header(head | cards) + padded(counting((3, 6)).astype(">f4").tobytes()))
        with pytest.raises(FitsError), torchfits.open(path, cache=False) as f:
            f[0].read()
        with pytest.raises(FitsError), torchfits.open(path, cache=False) as f:
            f[0].read_parameters()
