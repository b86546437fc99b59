"""World coordinates of sections, windows and binned images, against astropy's of the whole image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from astropy.io import fits
from wcs_headers import DATA, HEADERS, astropy_wcs, cards, header_bytes, iraf, quiet, simple

import torchfits
from torchfits import WCS, FitsError, FitsFormatError, FitsUnsupported, SectionError

pytestmark = pytest.mark.native


def spread(n: int, naxis: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-3, 40, (n, naxis))


def whole(points: np.ndarray, start: list[float], step: list[float]) -> np.ndarray:
    """Where pixels of a section, from 0, are in the whole image."""
    return np.array(start) + points * np.array(step)


def check(found: WCS, expected: np.ndarray, points: np.ndarray, near: float = 1e-11) -> None:
    world = found.pixel_to_world(torch.from_numpy(points)).numpy()
    np.testing.assert_allclose(world, expected, rtol=near, atol=100 * near)


def as_fits(wcs: WCS, pixels: np.ndarray) -> fits.HDUList:
    """An image with a WCS and what it names, as astropy has it."""
    header = fits.Header.fromstring(wcs.to_header().to_bytes().decode("ascii"))
    hdus = [fits.PrimaryHDU(pixels, header)]
    for table_header, data in wcs.tables():
        header = fits.Header.fromstring(table_header.to_bytes().decode("ascii"))
        if isinstance(data, torch.Tensor):
            hdus.append(fits.ImageHDU(data.numpy(), header))
        else:
            columns = [
                fits.Column(name, f"{each.numel()}D", dim=str(tuple(each.shape[:0:-1])), array=each.numpy())
                for name, each in data.items()
            ]
            hdus.append(fits.BinTableHDU.from_columns(columns, header))
    return fits.HDUList(hdus)


@pytest.mark.parametrize("name", HEADERS)
def test_sections_of_any_header(name):
    try:
        wcs = WCS(header_bytes(name))
    except FitsError:
        pytest.skip("no WCS: see test_wcs.py")
    shape = (50,) * wcs.naxis
    start, step = [7, 3, 5, 2][: wcs.naxis], [2, 1, 3, 1][: wcs.naxis]
    section = tuple(slice(a, None, b) for a, b in zip(start, step, strict=True))[::-1]
    points = spread(200, wcs.naxis)
    expected = wcs.pixel_to_world(torch.from_numpy(whole(points, start, step))).numpy()
    part = wcs.section(section, shape)
    check(part, expected, points)
    # as it is written
    again = WCS(part.to_header())
    check(again, expected, points)
    assert again.ctype == wcs.ctype


@pytest.mark.parametrize("factor", [3, (2, 5)])
@pytest.mark.parametrize("projection", ["TAN", "SIN", "CAR"])
def test_binned(factor, projection):
    """A pixel is where the mean of its pixels was."""
    header = cards(**simple(projection, PC1_1=0.8, PC1_2=-0.6, PC2_1=0.6, PC2_2=0.8))
    rows, columns = (factor, factor) if isinstance(factor, int) else factor
    points = spread(50, 2)
    before = points * [columns, rows] + [(columns - 1) / 2, (rows - 1) / 2]
    with quiet():
        expected = astropy_wcs(header).all_pix2world(before, 0)
    check(WCS(header).downsample(factor), expected, points)


@pytest.mark.parametrize("code", ["TNX", "ZPX"])
def test_distortions_that_only_wcslib_knows(code):
    """Those of the plane do not depend on the pixels."""
    points = spread(100, 2)
    expected = astropy_wcs(iraf(code)).all_pix2world(whole(points, [20, 10], [2, 3]), 0)
    part = WCS(iraf(code)).section((slice(10, None, 3), slice(20, None, 2)), (100, 100))
    check(part, expected, points)
    check(WCS(part.to_header()), expected, points)


def sip() -> dict:
    polynomials = {"A_ORDER": 3, "A_2_0": 2e-5, "A_1_1": -1e-5, "A_0_3": 3e-7, "B_ORDER": 2, "B_0_2": -1e-5}
    inverse = {"AP_ORDER": 2, "AP_2_0": -2e-5, "AP_1_1": 1e-5, "BP_ORDER": 2, "BP_0_2": 1e-5}
    return simple("TAN-SIP", **polynomials, **inverse)


@pytest.mark.parametrize(
    "section", [(slice(10, 60), slice(20, 90)), (slice(3, None, 4), slice(5, None, 7)), (..., slice(8, 9))]
)
def test_sip(section):
    header = cards(**sip())
    with quiet():
        reference = astropy_wcs(header)
    down, right = (slice(None) if each is ... else each for each in section)
    rows, columns = range(*down.indices(100)), range(*right.indices(100))
    points = spread(100, 2)
    expected = reference.all_pix2world(
        whole(points, [columns.start, rows.start], [columns.step, rows.step]), 0
    )
    part = WCS(header).section(section, (100, 100))
    check(part, expected, points)
    np.testing.assert_allclose(part.world_to_pixel(torch.from_numpy(expected)).numpy(), points, atol=1e-7)
    # astropy reads what is written, the inverse polynomials too
    written = fits.Header.fromstring(part.to_header().to_bytes().decode("ascii"))
    with quiet():
        again = astropy_wcs(written)
        np.testing.assert_allclose(again.all_pix2world(points, 0), expected, rtol=1e-12, atol=1e-10)
        shifted = again.sip_foc2pix(again.sip_pix2foc(points, 0), 0)
    assert np.abs(shifted - points).max() < 0.1


@pytest.mark.parametrize(
    ("name", "index"), [("dist_lookup.fits.gz", 1), ("dist.fits", 0), ("ie6d07ujq_wcs.fits", 0)]
)
def test_lookup_tables(name, index, tmp_path):
    """D2IM and CPDIS tables follow the pixels, and are written beside the header."""
    points = spread(300, 2) * 5
    with torchfits.open(DATA / name) as file, quiet(), fits.open(DATA / name) as reference:
        whole_one = astropy_wcs(reference[index].header, reference)
        wcs = WCS(file[index].read_header(), hdus=file)
        assert wcs.tables()
        for section in ((slice(100, 900), slice(30, 700)), (slice(10, None, 2), slice(20, None, 3))):
            (top, left), (down, right) = (
                [each.start for each in section],
                [each.step or 1 for each in section],
            )
            expected = whole_one.all_pix2world(whole(points, [left, top], [right, down]), 0)
            part = wcs.section(section, (1024, 1024))
            check(part, expected, points)
            as_fits(part, np.zeros((4, 4), "f4")).writeto(tmp_path / "part.fits", overwrite=True)
            with torchfits.open(tmp_path / "part.fits") as written:
                check(written[0].wcs, expected, points, 1e-8)
            with fits.open(tmp_path / "part.fits") as written:
                again = astropy_wcs(written[0].header, written)
                np.testing.assert_allclose(again.all_pix2world(points, 0), expected, atol=1e-7)


def test_tables_of_tab_axes(tmp_path):
    path = DATA / "tab-time-last-axis.fits"
    with torchfits.open(path) as file:
        wcs = file[0].wcs
        shape = file[0].shape
        starts = [min(1, length - 1) for length in shape[::-1]]
        section = tuple(slice(start, None) for start in starts[::-1])
        points = np.random.default_rng(2).uniform(0, 1, (50, wcs.naxis))
        expected = wcs.pixel_to_world(torch.from_numpy(points + starts)).numpy()
        part = wcs.section(section, shape)
        found = part.pixel_to_world(torch.from_numpy(points)).numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-12)
        as_fits(part, np.zeros((2,) * wcs.naxis, "f4")).writeto(tmp_path / "part.fits")
    with torchfits.open(tmp_path / "part.fits") as written:
        np.testing.assert_allclose(
            written[0].wcs.pixel_to_world(torch.from_numpy(points)).numpy(), expected, rtol=1e-12
        )


def cube() -> bytes:
    more = {"NAXIS3": 20, "CTYPE3": "FREQ", "CRVAL3": 1.4e9, "CDELT3": 1e6, "CRPIX3": 3.0, "CUNIT3": "Hz"}
    return cards(**{**simple("TAN", PC1_1=0.8, PC1_2=-0.6, PC2_1=0.6, PC2_2=0.8), "NAXIS": 3, **more})


@pytest.mark.parametrize(
    ("section", "order", "start"),
    [
        ((4,), [0, 1, 2], [0, 0, 4]),
        ((slice(2, 9), 30), [0, 2, 1], [0, 2, 30]),
        ((slice(2, 9), 30, 40), [2, 0, 1], [2, 40, 30]),
        ((..., -1), [1, 2, 0], [0, 0, 99]),
        ((5, 6, 7), [0, 1, 2], [7, 6, 5]),
    ],
)
def test_axes_that_ints_take_away_come_last(section, order, start, tmp_path):
    header = cube()
    with quiet():
        reference = astropy_wcs(header)
    points = spread(40, 3)
    before = np.empty_like(points)
    before[:, order] = points + start
    expected = reference.all_pix2world(before, 0)[:, order]
    part = WCS(header).section(section, (20, 100, 100))
    check(part, expected, points)
    assert part.ctype == tuple(WCS(header).ctype[axis] for axis in order)
    again = fits.Header.fromstring(part.to_header().to_bytes().decode("ascii"))
    with quiet():
        np.testing.assert_allclose(astropy_wcs(again).all_pix2world(points, 0), expected, rtol=1e-12)
    path = tmp_path / "cube.fits"
    fits.writeto(
        path,
        np.arange(20 * 100 * 100, dtype="i4").reshape(20, 100, 100),
        fits.Header.fromstring(header.decode()),
    )
    with torchfits.open(path) as file:
        tensor, wcs = file[0].read_with_wcs(section)
        assert torch.equal(tensor, file[0][section])
        assert torch.equal(wcs.crpix, part.crpix)


@pytest.mark.parametrize("naxis", [2, 3])
def test_an_int_takes_no_axis_of_tpv(naxis):
    values = {key: value for key, value in simple("TPV").items() if not key.startswith("CDELT")}
    values |= {"CD1_1": -0.01, "CD2_2": 0.01, "PV1_1": 1.0, "PV2_1": 1.0, "PV1_4": 1e-2, "PV2_5": -2e-2}
    shape = (100, 100)
    if naxis == 3:
        values |= {"NAXIS": 3, "NAXIS3": 7, "CTYPE3": "FREQ", "CRVAL3": 1e9, "CD3_3": 1e6}
        shape = (7, 100, 100)
    wcs = WCS(cards(**values))
    with pytest.raises(FitsUnsupported, match="a slice of one pixel"):
        wcs.section((*(2,) * (naxis - 2), slice(None), 5), shape)
    points = spread(30, naxis)
    expected = wcs.pixel_to_world(torch.from_numpy(points + np.array([5, 4, 2])[:naxis])).numpy()
    check(wcs.section((*(2,) * (naxis - 2), slice(4, None), slice(5, None)), shape), expected, points)


def test_alternates_keep_their_letter():
    header = cards(**simple(), CTYPE1A="GLON-CAR", CTYPE2A="GLAT-CAR", CDELT1A=-0.5, CDELT2A=0.5, CRPIX1A=3.0)
    wcs = WCS(header, key="A")
    points = spread(20, 2)
    expected = wcs.pixel_to_world(torch.from_numpy(points + np.array([20, 10]))).numpy()
    part = wcs.section((slice(10, None), slice(20, None)), (100, 100))
    check(part, expected, points)
    check(WCS(part.to_header(), key="A"), expected, points)


def test_what_cannot_be():
    wcs = WCS(cards(**sip()))
    with pytest.raises(FitsUnsupported, match="a slice of one pixel"):
        wcs.section((slice(None), 3), (100, 100))
    for section in ((200, 0), (slice(None, None, -1),), (0, 0, 0)):
        with pytest.raises(SectionError):
            wcs.section(section, (100, 100))
    with pytest.raises(FitsFormatError, match="3 axes"):
        wcs.section((), (2, 100, 100))
    for factor in (0, -1, True, 1.5, (1, 2, 3)):
        with pytest.raises(FitsFormatError, match="factor"):
            wcs.downsample(factor)
    # an int of an axis that is not one of distortions
    header = cards(**{**sip(), "NAXIS": 3, "NAXIS3": 5, "CTYPE3": "FREQ", "CRVAL3": 1e9, "CDELT3": 1e6})
    assert WCS(header).section((2,), (5, 100, 100)).crpix[2] == -2


@pytest.fixture
def sky(tmp_path):
    """100 x 100 pixels, each of its own number."""
    path = tmp_path / "sky.fits"
    fits.writeto(
        path, np.arange(10000, dtype="f4").reshape(100, 100), fits.Header.fromstring(cards(**sip()).decode())
    )
    with torchfits.open(path) as file:
        yield file[0]


def test_windows_with_wcs(sky):
    positions = [(3, 4), (-5, 90), (50, 50)]
    for anchor in ("corner", "center"):
        windows, found = sky.cutouts_with_wcs(positions, (10, 6), anchor=anchor)
        assert torch.equal(
            windows.nan_to_num(-1), sky.cutouts(positions, (10, 6), anchor=anchor).nan_to_num(-1)
        )
        for (row, column), wcs in zip(positions, found, strict=True):
            if anchor == "center":
                row, column = row - 5, column - 3
            points = torch.from_numpy(spread(10, 2))
            expected = sky.wcs.pixel_to_world(points + torch.tensor([column, row]))
            torch.testing.assert_close(wcs.pixel_to_world(points), expected, rtol=1e-12, atol=1e-10)
    assert sky.cutouts_with_wcs([], 3)[1] == []


def test_cutouts_at(sky):
    with quiet():
        reference = astropy_wcs(cards(**sip()))
    pixels = np.array([[10.2, 20.4], [10.6, 20.4], [0, 0], [99.4, 99.4], [99.6, 50], [-0.6, 50], [-7, 50]])
    ra, dec = reference.all_pix2world(pixels, 0).T
    windows, inside = torchfits.cutouts_at(sky, torch.from_numpy(ra), torch.from_numpy(dec), (3, 5), fill=-1)
    centers = np.floor(pixels + 0.5).astype(int)[:, ::-1]
    assert inside.tolist() == [True, True, True, True, False, False, False]
    assert torch.equal(windows, sky.cutouts(centers.tolist(), (3, 5), anchor="center", fill=-1))
    # the other side of the sky, and nothing at all
    windows, inside = torchfits.cutouts_at(sky, [210.0, float("nan"), 30.0], -40.0, 2)
    assert windows.isnan().all()
    assert not inside.any()
    windows, inside = torchfits.cutouts_at(sky, [], [], 2)
    assert windows.shape == (0, 2, 2)
    assert inside.shape == (0,)
    one, inside = torchfits.cutouts_at(sky, 30.0, 40.0, 1)
    assert one.shape == (1, 1, 1)
    assert inside.tolist() == [True]


@pytest.mark.parametrize("swapped", [False, True])
def test_cutouts_at_of_a_cube(tmp_path, swapped):
    """Every plane; either axis may be the declination."""
    lng, lat = (2, 1) if swapped else (1, 2)
    header = fits.Header(
        {
            f"CTYPE{lng}": "RA---TAN",
            f"CTYPE{lat}": "DEC--TAN",
            f"CRVAL{lng}": 30.0,
            f"CRVAL{lat}": 40.0,
            f"CDELT{lng}": -0.01,
            f"CDELT{lat}": 0.01,
            "CRPIX1": 20.0,
            "CRPIX2": 10.0,
        }
    )
    for shape in ((3, 30, 40), (30, 40)):
        more = {"CTYPE3": "FREQ", "CRVAL3": 1e9, "CDELT3": 1e6} if len(shape) == 3 else {}
        path = tmp_path / f"cube{len(shape)}.fits"
        fits.writeto(
            path, np.arange(np.prod(shape), dtype="f4").reshape(shape), fits.Header({**header, **more})
        )
        pixels = np.array([[12.0, 7.0], [30.0, 2.0]])
        with quiet():
            every = astropy_wcs(fits.getheader(path))
        world = every.wcs_pix2world(np.pad(pixels, ((0, 0), (0, len(shape) - 2))), 0)
        ra, dec = world[:, lng - 1], world[:, lat - 1]
        with torchfits.open(path) as file:
            windows, inside = torchfits.cutouts_at(file[0], ra, dec, 4)
            assert inside.all()
            assert torch.equal(windows, file[0].cutouts([(7, 12), (2, 30)], 4, anchor="center"))


def test_cutouts_at_of_other_axes(tmp_path):
    for ctypes in (("GLON-CAR", "GLAT-CAR"), ("", "")):
        path = tmp_path / "other.fits"
        fits.writeto(
            path, np.zeros((3, 3)), fits.Header({"CTYPE1": ctypes[0], "CTYPE2": ctypes[1]}), overwrite=True
        )
        with torchfits.open(path, cache=False) as file, pytest.raises(FitsUnsupported) as caught:
            torchfits.cutouts_at(file[0], 1.0, 2.0, 3)
        assert caught.value.hdu == 0
        assert str(path) in str(caught.value)
