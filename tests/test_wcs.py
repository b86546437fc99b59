"""WCS by wcslib and our distortions, against astropy.wcs: there and back, what it says, bad points."""

from __future__ import annotations

import gzip
import pickle
import shutil

import numpy as np
import pytest
import torch
from astropy.io import fits
from astropy.wcs.utils import proj_plane_pixel_scales
from conftest import corpus_root
from wcs_headers import (
    DATA,
    FITS,
    HEADERS,
    astropy_wcs,
    by_tensor,
    cards,
    corpus_images,
    header_bytes,
    iraf,
    on_sky,
    points,
    quiet,
    simple,
    sip,
)

import torchfits
from torchfits import WCS, FitsFormatError, FitsUnsupported, KeywordMissing

pytestmark = pytest.mark.native
# astropy.wcs and we refuse them
REFUSED = {"nonstandard_units.hdr": "CUNIT2", ("validate.fits", 2): "CUNIT3"}
ZENITHAL = ("AIR", "ARC", "AZP", "NCP", "SIN", "STG", "SZP", "TAN", "ZEA", "ZPN")
PROJECTIONS = [name.removesuffix(".hdr")[-3:] for name in HEADERS if name.startswith("maps/")]
CORPUS = corpus_images()


def compare(found: WCS, expected, pixels: np.ndarray) -> None:
    """Both ways, points that are not on the sky among them."""
    assert found.naxis == expected.naxis
    world = by_tensor(found.pixel_to_world, pixels)
    with quiet():
        right = expected.all_pix2world(pixels, 0)
    assert (np.isnan(world) == np.isnan(right)).all()
    # polynomials of many pixels outside the image are large, and so are the differences
    assert on_sky(found, right, world) < 1e-10

    back = by_tensor(found.world_to_pixel, right)
    if expected.sip or expected.cpdis1 or expected.cpdis2 or expected.det2im1 or expected.det2im2:
        # what is far outside need not come back to itself; astropy iterates to 1e-4, or raises
        again = by_tensor(found.pixel_to_world, back)
        good = ~np.isnan(back).any(axis=1)
        assert good.mean() > 0.5
        assert on_sky(found, right[good], again[good]) < 1e-10
    else:
        with quiet():
            old = expected.wcs_world2pix(right, 0)
        assert (np.isnan(back) == np.isnan(old)).all()
        # to what the coordinates' last digits are worth
        step = np.nanmax(np.abs(old), initial=1) * 1e-9 + 1e-7
        assert np.nanmax(np.abs(back - old), initial=0) < step


@pytest.mark.parametrize("name", HEADERS)
def test_headers_of_astropy(name):
    raw = header_bytes(name)
    if name in REFUSED:
        with pytest.raises(FitsFormatError, match=REFUSED[name]):
            WCS(raw)
        return
    found = WCS(raw)
    compare(found, astropy_wcs(raw), points(500, found.naxis, -100, 400))


@pytest.mark.parametrize("name", FITS)
def test_files_of_astropy(name):
    with quiet(), fits.open(DATA / name) as hdus, torchfits.open(DATA / name) as file:
        compared = 0
        for i, hdu in enumerate(hdus):
            if not getattr(hdu, "is_image", False) or "CRPIX1" not in hdu.header:
                continue
            if (name, i) in REFUSED:
                with pytest.raises(FitsFormatError, match=REFUSED[name, i]):
                    _ = file[i].wcs
                continue
            found = file[i].wcs
            shape = [hdu.header.get(f"NAXIS{k + 1}", 100) or 100 for k in range(found.naxis)]
            compare(found, astropy_wcs(hdu.header, hdus), points(300, found.naxis, -0.2, 1.2) * shape)
            compared += 1
        # astropy takes SIMPLE = F for no image
        assert compared or name.startswith("header_with_time")


@pytest.mark.skipif(not CORPUS, reason="no corpus")
@pytest.mark.parametrize(("name", "index", "key"), CORPUS)
def test_corpus(name, index, key):
    path = corpus_root() / name
    with quiet(), fits.open(path) as hdus, torchfits.open(path) as file:
        found, header = file[index].wcs_of(key), hdus[index].header
        shape = [header.get(f"NAXIS{k + 1}", 100) for k in range(found.naxis)]
        compare(found, astropy_wcs(header, hdus, key), points(200, found.naxis, -0.2, 1.2) * shape)


@pytest.mark.parametrize("projection", [*PROJECTIONS, "TPV"])
@pytest.mark.parametrize("rotated", [False, True])
@pytest.mark.parametrize("crval", [(0.0, 0.0), (359.99, -35.0), (10.0, 90.0), (-120.0, 66.0)])
def test_whole_skies(projection, rotated, crval):
    values = simple(projection, CRVAL1=crval[0], CRVAL2=crval[1], CDELT1=-3.0, CDELT2=3.0)
    if projection == "NCP" and crval[1] == 0:
        pytest.skip("NCP has no equator")
    parameters = {"CYP": (1, 1), "CEA": (0.8,), "COP": (45, 15), "COD": (45, 15), "COE": (45, 15)}
    parameters |= {"COO": (45, 15), "BON": (45,), "SZP": (2, 30, 60), "AZP": (2, 30), "AIR": (45,)}
    for m, value in enumerate(parameters.get(projection, ()), 1):
        values[f"PV2_{m}"] = float(value)
    if projection == "ZPN":
        values |= {"PV2_1": 1.0, "PV2_3": -0.05}
    if projection == "TPV":
        values |= {"PV1_1": 1.0, "PV2_1": 1.0, "PV1_4": 1e-3, "PV2_5": -2e-3, "PV1_11": 1e-5, "PV2_7": 1e-5}
        del values["CDELT1"], values["CDELT2"]
        values |= {"CD1_1": -0.01, "CD2_2": 0.01, "CD1_2": 0.001}
    elif rotated:
        values |= {"PC1_1": 0.8, "PC1_2": -0.6, "PC2_1": 0.6, "PC2_2": 0.8}
        values |= {"LONPOLE": 100.0} if projection in ZENITHAL else {}
    raw = cards(**values)
    compare(WCS(raw), astropy_wcs(raw), points(800, 2, -30, 130))


@pytest.mark.parametrize("code", ["TNX", "ZPX"])
def test_polynomials_of_iraf(code):
    raw = iraf(code)
    right = astropy_wcs(raw)
    wcs = WCS(raw)
    assert wcs.ctype == (f"RA---{code}", f"DEC--{code}")
    pixels = points(500, 2, 0, 100)
    world = right.all_pix2world(pixels, 0)
    assert np.array_equal(by_tensor(wcs.pixel_to_world, pixels), world)
    back = by_tensor(wcs.world_to_pixel, world)
    assert np.abs(back - pixels).max() < 1e-6
    assert np.array_equal(by_tensor(WCS(wcs.to_header()).pixel_to_world, pixels), world)
    plain = by_tensor(WCS(cards(**{**simple("TAN"), "CD1_1": 1.0})).pixel_to_world, pixels)
    assert np.abs(plain - world).max() > 1e-3
    with pytest.raises(FitsUnsupported, match="only wcslib"):
        wcs.pixel_to_world(torch.zeros(2), backend="torch")


@pytest.mark.parametrize("projection", ["TAN", "CAR", "AIT"])
def test_from_the_sky(projection):
    raw = cards(**simple(projection, CDELT1=-1.0, CDELT2=1.0))
    world = points(2000, 2, -1, 1) * [720, 90]
    found = by_tensor(WCS(raw).world_to_pixel, world)
    with quiet():
        right = astropy_wcs(raw).wcs_world2pix(world, 0)
    assert (np.isnan(found) == np.isnan(right)).all()
    assert np.isnan(found).any() == (projection == "TAN")  # what is behind the plane
    # near the horizon pixels are far away
    assert np.nanmax(np.abs(found - right) / (1 + np.abs(right)) ** 2) < 1e-11


# ---------------------------------------------------------------------------- points that are special


def test_nan_stays_nan_and_hurts_nobody_else():
    for header in (cards(**simple()), cards(**simple("SIN")), cards(**sip())):
        wcs = WCS(header)
        pixels = torch.tensor([[1.0, 2.0], [float("nan"), 2.0], [3.0, float("inf")], [4.0, 5.0]])
        for transform in (wcs.pixel_to_world, wcs.world_to_pixel):
            result, valid = transform(pixels, mask=True)
            assert valid.tolist() == [True, False, False, True]
            assert result[1].isnan().all()
            assert torch.equal(result[0], transform(pixels[0]))
            assert torch.equal(result[3], transform(pixels[3]))


def test_points_beside_the_sky():
    wcs = WCS(cards(**simple("SIN", CDELT1=-1.0, CDELT2=1.0)))
    world, valid = wcs.pixel_to_world(torch.tensor([[49.5, 49.5], [200.0, 49.5]]), mask=True)
    assert valid.tolist() == [True, False]
    assert world[1].isnan().all()
    tan = WCS(cards(**simple()))
    pixels, valid = tan.world_to_pixel(torch.tensor([[30.0, 40.0], [210.0, -40.0]]), mask=True)
    assert valid.tolist() == [True, False]
    assert pixels[1].isnan().all()


def test_a_bad_celestial_point_keeps_its_other_axes():
    header = cards(**simple(NAXIS=3, CTYPE3="FREQ", CRVAL3=1e9, CRPIX3=1.0, CDELT3=1e6))
    world = torch.tensor([[210.0, -40.0, 1.002e9]], dtype=torch.float64)
    with quiet():
        right = astropy_wcs(header).wcs_world2pix(world.numpy(), 0)
    found = WCS(header).world_to_pixel(world)
    assert found.isnan().tolist() == np.isnan(right).tolist() == [[True, True, False]]
    assert abs(found[0, 2] - 2) < 1e-9


def test_longitudes_wrap():
    wcs = WCS(cards(**simple(CRVAL1=0.0, CRVAL2=0.0)))
    world = wcs.pixel_to_world(torch.tensor([[40.0, 49.5], [49.5, 49.5], [60.0, 49.5]]))
    assert world[:, 0].tolist() == pytest.approx([0.095, 0.0, 359.895], abs=1e-5)
    same = wcs.world_to_pixel(world + torch.tensor([-360.0, 0.0]))
    assert torch.allclose(same, wcs.world_to_pixel(world), rtol=0, atol=1e-8)


def test_the_pole_itself():
    wcs = WCS(cards(**simple(CRVAL1=20.0, CRVAL2=90.0)))
    assert wcs.pixel_to_world(torch.tensor([49.5, 49.5]))[1] == 90
    pixels = wcs.world_to_pixel(torch.tensor([[0.0, 90.0], [123.0, 90.0]]))
    assert torch.allclose(pixels, torch.tensor(49.5, dtype=torch.float64), rtol=0, atol=1e-9)


# ---------------------------------------------------------------------------- tensors


def test_shapes_and_dtypes():
    wcs = WCS(cards(**simple()))
    right = wcs.pixel_to_world(torch.tensor([[3.0, 4.0]], dtype=torch.float64))[0]
    for dtype in (torch.uint8, torch.int16, torch.int64, torch.float16, torch.float32, torch.float64):
        found = wcs.pixel_to_world(torch.tensor([3, 4], dtype=dtype))
        assert found.dtype == torch.float64
        assert torch.equal(found, right)
    grid = torch.tensor([3, 4]).expand(5, 6, 2)
    assert torch.equal(wcs.pixel_to_world(grid), right.expand(5, 6, 2))
    assert wcs.pixel_to_world(torch.empty(0, 2)).shape == (0, 2)
    assert wcs.pixel_to_world(torch.empty(3, 0, 2), mask=True)[1].shape == (3, 0)
    backwards = torch.tensor([[4.0, 3.0]]).flip(1)
    assert torch.equal(wcs.pixel_to_world(backwards)[0], right)
    assert torch.equal(wcs.pixel_to_world([3, 4]), right)


def test_origin():
    wcs = WCS(cards(**simple()))
    pixels = torch.tensor([[3.0, 4.0]])
    world = wcs.pixel_to_world(pixels)
    assert torch.equal(wcs.pixel_to_world(pixels + 1, origin=1), world)
    assert torch.allclose(wcs.world_to_pixel(world, origin=1), pixels.double() + 1, rtol=0, atol=1e-9)


def test_arguments_that_do_not_fit():
    wcs = WCS(cards(**simple()))
    with pytest.raises(FitsFormatError, match="last dimension must be 2"):
        wcs.pixel_to_world(torch.zeros(4, 3))
    with pytest.raises(FitsFormatError, match="last dimension must be 2"):
        wcs.world_to_pixel(torch.tensor(1.0))
    with pytest.raises(FitsFormatError, match="origin 2"):
        wcs.pixel_to_world(torch.zeros(2), origin=2)
    with pytest.raises(FitsUnsupported, match="backend 'numpy'"):
        wcs.pixel_to_world(torch.zeros(2), backend="numpy")
    with pytest.raises(TypeError, match="complex"):
        wcs.pixel_to_world(torch.zeros(2, dtype=torch.complex64))
    with pytest.raises(TypeError, match="Header"):
        WCS({"NAXIS": 2})
    with pytest.raises(AttributeError):
        wcs.naxis = 3


def test_the_input_stays_as_it_is():
    wcs, pixels = WCS(cards(**sip())), torch.tensor([[3.0, 4.0]], dtype=torch.float64)
    wcs.pixel_to_world(pixels)
    wcs.world_to_pixel(pixels)
    assert pixels.tolist() == [[3, 4]]


def test_wcslib_gives_no_gradient():
    pixels = torch.tensor([3.0, 4.0], requires_grad=True)
    assert not WCS(cards(**simple())).pixel_to_world(pixels, backend="wcslib").requires_grad


# ---------------------------------------------------------------------------- distortions


@pytest.mark.parametrize("order", [2, 3, 4, 5, 9, 15])
@pytest.mark.parametrize("size", [1e-6, 1e-4, 1e-3])
def test_sip(order, size):
    raw = cards(**sip(order, size))
    wcs, pixels = WCS(raw), points(999, 2, -10, 110)
    world = by_tensor(wcs.pixel_to_world, pixels)
    with quiet():
        right = astropy_wcs(raw).all_pix2world(pixels, 0)
    assert on_sky(wcs, right, world) < 1e-11
    back = by_tensor(wcs.world_to_pixel, world)
    assert np.abs(back - pixels).max() < 1e-9


def test_sip_that_folds_the_plane_gives_nan_or_a_solution():
    wcs = WCS(cards(**sip(3, 0.05)))
    pixels = points(2000, 2, -300, 400)
    world = by_tensor(wcs.pixel_to_world, pixels)
    back, valid = wcs.world_to_pixel(torch.from_numpy(world), mask=True)
    again = wcs.pixel_to_world(back)
    assert (on_sky(wcs, world[valid.numpy()], again[valid].numpy())) < 1e-9
    assert not valid.all()
    assert back[~valid].isnan().all()
    # what others need does not change the answer
    one_by_one = torch.stack([wcs.world_to_pixel(each) for each in torch.from_numpy(world[:50])])
    assert torch.allclose(one_by_one, back[:50], rtol=0, atol=1e-8, equal_nan=True)


def test_sip_of_other_orders_in_x_and_y():
    values = sip(3)
    del values["B_0_3"], values["B_1_2"], values["B_2_1"], values["B_3_0"]
    raw = cards(**values | {"B_ORDER": 2})
    compare(WCS(raw), astropy_wcs(raw), points(99, 2, 0, 100))


def test_sip_of_a_cube_is_that_of_its_planes():
    plane = WCS(cards(**sip()))
    cube = WCS(cards(**sip(NAXIS=3, CTYPE3="FREQ", CRVAL3=1e9, CDELT3=1e6, CRPIX3=1.0)))
    pixels = torch.from_numpy(points(99, 3, 0, 100))
    world = cube.pixel_to_world(pixels)
    assert torch.allclose(world[:, :2], plane.pixel_to_world(pixels[:, :2]), rtol=0, atol=1e-12)
    assert torch.allclose(cube.world_to_pixel(world), pixels, rtol=0, atol=1e-7)
    assert torch.equal(cube.celestial.pixel_to_world(pixels[:, :2]), plane.pixel_to_world(pixels[:, :2]))


@pytest.mark.parametrize("ctype", ["TAN", "TAN-SIP", "TPV"])
def test_parameters_of_scamp(ctype):
    values = {"PV1_1": 1.0, "PV2_1": 1.0, "PV1_7": 1e-3, "PV2_10": 2e-3}
    plain = sip() if ctype == "TAN-SIP" else simple(ctype)
    plain |= {"CD1_1": plain.pop("CDELT1"), "CD2_2": plain.pop("CDELT2")}
    raw = cards(**plain, **values)
    compare(WCS(raw), astropy_wcs(raw), points(99, 2, 0, 100))


def test_tpv_with_cdelt_is_left_to_wcslib():
    """It takes the parameters in units of CDELT there."""
    raw = cards(**simple("TPV", PV1_1=1.0, PV2_1=1.0, PV1_4=1e-4))
    compare(WCS(raw), astropy_wcs(raw), points(99, 2, 0, 100))


def test_tpv_beside_a_spectral_axis_is_left_to_wcslib():
    values = {"NAXIS": 3, "CTYPE3": "WAVE-F2W", "CRVAL3": 5e-7, "CDELT3": 1e-10, "CRPIX3": 1.0}
    values |= {"PV1_1": 1.0, "PV2_1": 1.0, "PV1_4": 1e-3, "PV2_5": -2e-3}
    raw = cards(**simple("TPV", **values))
    compare(WCS(raw), astropy_wcs(raw), points(99, 3, 0, 100))


def lookup_file(path, kind: str, records: str, extname: str, swapped: bool = False) -> None:
    """An image whose pixels are corrected by two tables, in astropy's way of writing."""
    header = fits.Header.fromstring(cards(**simple()).decode())
    hdus = [fits.PrimaryHDU(np.zeros((100, 100), "f4"))]
    for keyword, value in header.items():
        hdus[0].header[keyword] = value
    for axis in (1, 2):
        hdus[0].header[f"{kind}{axis}"] = "LOOKUP"
        hdus[0].header[f"{records}{axis}.EXTVER"] = axis
        hdus[0].header[f"{records}{axis}.NAXES"] = 2
        for k in (1, 2):
            hdus[0].header[f"{records}{axis}.AXIS.{k}"] = 3 - k if swapped else k
        table = fits.ImageHDU(
            points(7 * 9, 1, -3, 3, axis).reshape(7, 9).astype("f4"), name=extname, ver=axis
        )
        table.header.update({"CRPIX1": 1.0, "CRPIX2": 2.0, "CRVAL1": 5.0, "CRVAL2": 1.0})
        table.header.update({"CDELT1": 12.0, "CDELT2": 15.0})
        hdus.append(table)
    fits.HDUList(hdus).writeto(path)


@pytest.mark.parametrize(
    ("kind", "records", "extname"), [("CPDIS", "DP", "WCSDVARR"), ("D2IMDIS", "D2IM", "D2IMARR")]
)
@pytest.mark.parametrize("swapped", [False, True])
def test_lookup_tables(tmp_path, kind, records, extname, swapped):
    path = tmp_path / "a.fits"
    lookup_file(path, kind, records, extname, swapped)
    with torchfits.open(path) as file, fits.open(path) as hdus:
        wcs = file[0].wcs
        pixels = points(999, 2, -40, 140)
        compare(wcs, astropy_wcs(hdus[0].header, hdus), pixels)
        back = wcs.world_to_pixel(wcs.pixel_to_world(torch.from_numpy(pixels)))
        # tables that are steeper than a pixel may fold the plane in a cell
        assert (np.abs(back.numpy() - pixels).max(axis=1) < 1e-8).mean() > 0.9
        header = file[0].read_header()
        with pytest.raises(FitsUnsupported, match=f"{kind}1.*{extname}.*hdus="):
            WCS(header)
        again = WCS(wcs.to_header(), hdus=file)
    assert torch.equal(again.pixel_to_world(torch.ones(2)), wcs.pixel_to_world(torch.ones(2)))


def test_lookup_tables_that_are_none(tmp_path):
    path = tmp_path / "a.fits"
    lookup_file(path, "CPDIS", "DP", "WCSDVARR")
    for values, message in (
        ({"DP1.EXTVER": 7}, "no HDU WCSDVARR, 7"),
        ({"DP1.EXTVER": -1}, "EXTVER -1"),
    ):
        with fits.open(path) as hdus:
            for keyword, value in values.items():
                hdus[0].header[keyword] = value
            hdus.writeto(tmp_path / "b.fits", overwrite=True)
        with (
            torchfits.open(tmp_path / "b.fits") as file,
            pytest.raises(FitsFormatError, match=message) as error,
        ):
            _ = file[0].wcs
        assert error.value.hdu == 0
        assert "b.fits" in str(error.value)


def tab_file(path, values, index=None, **more) -> None:
    """A spectrum of two axes: linear, and -TAB."""
    header = {
        "NAXIS": 2,
        "CTYPE1": "LINEAR",
        "CTYPE2": "WAVE-TAB",
        "CUNIT2": "m",
        "CRPIX2": 1.0,
        "CRVAL2": 1.0,
    }
    header |= {"CDELT2": 1.0, "PS2_0": "TABLE", "PS2_1": "COORDS"}
    columns = [fits.Column("COORDS", f"{len(values)}D", array=[values], dim=f"(1,{len(values)})")]
    if index is not None:
        header["PS2_2"] = "INDEX"
        columns.append(fits.Column("INDEX", f"{len(index)}D", array=[index]))
    image = fits.PrimaryHDU(np.zeros((10, 10), "f4"))
    image.header.update(header | more)
    fits.HDUList([image, fits.BinTableHDU.from_columns(columns, name="TABLE")]).writeto(path, overwrite=True)


def test_tables_of_coordinates(tmp_path):
    path = tmp_path / "a.fits"
    for index in (None, [1.0, 2.0, 5.0, 9.0, 10.0]):
        tab_file(path, [1e-7, 3e-7, 4e-7, 8e-7, 9e-7], index)
        with torchfits.open(path) as file, fits.open(path) as hdus:
            wcs, pixels = file[0].wcs, points(300, 2, -3, 12)
            compare(wcs, astropy_wcs(hdus[0].header, hdus), pixels)
            header = file[0].read_header()
        copy = pickle.loads(pickle.dumps(wcs))
        assert torch.equal(copy.pixel_to_world(torch.ones(2)), wcs.pixel_to_world(torch.ones(2)))
        with pytest.raises(FitsUnsupported, match="-TAB column 'COORDS' of TABLE, 1: pass hdus="):
            WCS(header)


@pytest.mark.parametrize(
    ("values", "index", "none"),
    [
        ([1.0, 2.0, 5.0, 5.0, 6.0], [1.0, 2.0, 2.0, 3.0, 4.0], [5.0]),  # a jump, then a cell of no length
        ([6.0, 5.0, 5.0, 2.0, 1.0], [4.0, 2.0, 2.0, 1.0, 0.0], []),  # the cell before it has 5 as well
        ([-1.5e308, 1.5e308, 1.6e308], [1.0, 2.0, 3.0], [1e308]),  # one whose length overflows
        ([1.0, -np.inf, 3.0], [1.0, 2.0, 3.0], [1.25, 1.9, 2.5]),
    ],
)
def test_cells_of_no_length(tmp_path, values, index, none):
    """wcslib takes such a quotient, NaN, for a place in the index."""
    tab_file(tmp_path / "a.fits", values, index)
    asked = [1.0, 1.25, 1.9, 2.5, 5.0, 5.25, 5.75, 7.0, 1e308]
    world = torch.tensor([[3.0, value] for value in asked], dtype=torch.float64)
    with torchfits.open(tmp_path / "a.fits") as file, fits.open(tmp_path / "a.fits") as hdus:
        wcs, right = file[0].wcs, astropy_wcs(hdus[0].header, hdus)
        pixels = wcs.world_to_pixel(world)
    for point, pixel in zip(world, pixels, strict=True):
        if point[1] in none:
            assert pixel.isnan().tolist() == [False, True]
        else:  # astropy's wcslib has the same fault
            found = right.wcs.s2p(point[None].numpy(), 0)
            expected = found["pixcrd"][0] if found["stat"][0] == 0 else [3.0 - 1, np.nan]
            assert np.allclose(pixel, expected, equal_nan=True)


@pytest.mark.parametrize(
    "index", [[1.0, 3.0, 2.0], [2.0, 2.0, 2.0], [1.0, np.nan, 3.0], [-1.5e308, 1.5e308, 1.6e308]]
)
def test_indices_that_are_none(tmp_path, index):
    tab_file(tmp_path / "a.fits", [1e-7, 3e-7, 4e-7], index)
    with torchfits.open(tmp_path / "a.fits") as file, pytest.raises(FitsFormatError, match="rises nor falls"):
        _ = file[0].wcs


def test_nan_in_tables_of_coordinates(tmp_path):
    tab_file(tmp_path / "a.fits", [1e-7, np.nan, 4e-7])
    with torchfits.open(tmp_path / "a.fits") as file:
        world, valid = file[0].wcs.pixel_to_world(
            torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, np.nan]]), mask=True
        )
    assert valid.tolist() == [True, False, False]
    assert world[0].tolist() == [1, 1e-7]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"PV2_3": 2.0}, "axis 1 of the table of CTYPE2"),
        ({"PV2_3": -1.0}, "PV2_3 = -1"),
        ({"PV2_3": 1e30}, "PV2_3 = 1e"),
        ({"PV2_1": 9.0}, "TABLE, 9: there is no such HDU"),
        ({"PS2_1": "NOTHING"}, "NOTHING"),
        ({"PS2_0": ""}, "PS2_0 and PS2_1"),
        ({"PS2_2": "COORDS"}, "not of 1 axes"),
        ({"PROJP3": 1.0}, "PV0_3"),
    ],
)
def test_tables_of_coordinates_that_are_none(tmp_path, more, message):
    tab_file(tmp_path / "a.fits", [1e-7, 3e-7], **more)
    with torchfits.open(tmp_path / "a.fits") as file, pytest.raises(FitsFormatError, match=message):
        _ = file[0].wcs


# ---------------------------------------------------------------------------- what it says


def test_what_it_says():
    wcs = WCS(cards(**simple(CUNIT1="arcsec", CUNIT2="arcsec", CDELT1=-36.0, CDELT2=36.0, CRVAL1=108000.0)))
    assert (wcs.naxis, wcs.key) == (2, "")
    assert wcs.ctype == ("RA---TAN", "DEC--TAN")
    assert wcs.units == ("deg", "deg")
    assert wcs.crval[0] == 30
    assert wcs.crpix.tolist() == [50.5, 50.5]
    assert repr(wcs) == "<WCS: RA---TAN, DEC--TAN>"
    assert wcs.celestial is wcs


@pytest.mark.parametrize("name", [name for name in HEADERS if name not in REFUSED])
def test_parts_and_scales(name):
    raw = header_bytes(name)
    found, expected = WCS(raw), astropy_wcs(raw)
    assert np.allclose(found.pixel_scale, proj_plane_pixel_scales(expected))
    if not expected.has_celestial:
        with pytest.raises(FitsUnsupported, match="no celestial axes"):
            _ = found.celestial
        return
    with quiet():
        part = expected.celestial
        assert found.celestial.naxis == 2
        compare(found.celestial, part, points(100, 2, 0, 200))
        corners = part.calc_footprint(axes=(30, 20))
        if found.naxis == 2 or {found._facts["lng"], found._facts["lat"]} == {0, 1}:
            assert np.allclose(found.footprint((20, 30)), corners, rtol=1e-12, equal_nan=True)


@pytest.mark.parametrize("name", [name for name in HEADERS if name not in REFUSED])
def test_headers_come_back(name):
    found = WCS(header_bytes(name))
    again = WCS(found.to_header())
    pixels = torch.from_numpy(points(200, found.naxis, -50, 300))
    assert torch.allclose(
        again.pixel_to_world(pixels), found.pixel_to_world(pixels), rtol=1e-13, equal_nan=True
    )
    right = astropy_wcs(found.to_header().to_bytes())
    compare(again, right, pixels.numpy())


def test_footprints_that_are_none():
    wcs = WCS(cards(**simple()))
    with pytest.raises(FitsFormatError, match="no corners"):
        wcs.footprint((5,))
    swapped = WCS(cards(**simple(NAXIS=3, CTYPE3="DEC--TAN", CTYPE2="FREQ")))
    with pytest.raises(FitsUnsupported, match="first two pixel axes"):
        swapped.footprint((3, 4, 5))


def test_models():
    model = WCS(cards(**sip(inverse=True))).model
    assert model.celestial.projection == "TAN"
    assert model.celestial.lonpole == 180
    assert model.sip.a.shape == (4, 4)
    assert model.sip.crpix.tolist() == [50.5, 50.5]
    assert model.linear == (False, False)
    assert torch.equal(model.matrix, torch.diag(torch.tensor([-0.01, 0.01], dtype=torch.float64)))
    values = simple("TPV", PV1_1=1.0, PV2_1=1.0, PV2_7=0.5, CD1_1=-0.01, CD2_2=0.01)
    del values["CDELT1"], values["CDELT2"]
    tpv = WCS(cards(**values)).model
    assert tpv.ctype == ("RA---TPV", "DEC--TPV")
    assert tpv.celestial.projection == "TAN"
    assert tpv.tpv.pv[1, 7] == 0.5
    with pytest.raises(FitsUnsupported, match="only wcslib knows"):
        _ = WCS(cards(**simple("TPV", PV1_1=1.0, PV2_1=1.0))).model
    cube = WCS(cards(**simple(NAXIS=3, CTYPE3="FREQ"))).model
    assert cube.linear == (False, False, True)


# ---------------------------------------------------------------------------- which description


def test_alternates():
    other = {"CTYPE1A": "LINEAR", "CTYPE2A": "LINEAR", "CRVAL1A": 7.0, "CDELT1A": 2.0, "CRPIX1A": 1.0}
    raw = cards(**simple(**other, WCSNAMEA="plane"))
    for key in ("", "A"):
        compare(WCS(raw, key=key), astropy_wcs(raw, key=key or " "), points(99, 2, 0, 100))
    assert WCS(raw, key="a").pixel_to_world(torch.zeros(2)).tolist() == [7, 1]
    assert repr(WCS(raw, key="A")) == "<WCS A: LINEAR, LINEAR>"
    with pytest.raises(KeywordMissing, match="no description B"):
        WCS(raw, key="B")
    with pytest.raises(FitsFormatError, match="key 'AB'"):
        WCS(raw, key="AB")
    again = WCS(WCS(raw, key="A").to_header(), key="A")
    assert again.pixel_to_world(torch.zeros(2)).tolist() == [7, 1]


def test_two_descriptions_of_astropy():
    raw = header_bytes("2wcses.hdr")
    for key in "AB":
        if f"CTYPE1{key}".encode() in raw:
            compare(WCS(raw, key=key), astropy_wcs(raw, key=key), points(99, 2, 0, 100))


def test_no_description():
    """Pixels are their own world, counted from 1."""
    for raw, naxis in ((cards(NAXIS=3, NAXIS1=4, NAXIS2=4, NAXIS3=4), 3), (b"", 2), (cards(NAXIS=0), 2)):
        wcs = WCS(raw)
        assert wcs.naxis == naxis == astropy_wcs(raw).naxis
        assert wcs.pixel_to_world(torch.zeros(naxis)).tolist() == [1] * naxis


def test_hdus(tmp_path):
    header = fits.Header.fromstring(cards(**simple(CTYPE1A="LINEAR", CRVAL1A=5.0)).decode())
    path = tmp_path / "a.fits"
    image = fits.CompImageHDU(np.zeros((100, 100), "i2"), header)
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(np.zeros((100, 100), "f4"), header), image]).writeto(path)
    with torchfits.open(path) as file:
        for i in (1, 2):
            assert file[i].wcs is file[i].wcs
            assert file[i].wcs.ctype == ("RA---TAN", "DEC--TAN")
            assert file[i].wcs_of("A").ctype[0] == "LINEAR"
        assert file[0].wcs.ctype == ("", "")


def test_errors_say_where(tmp_path):
    path = tmp_path / "a.fits"
    image = fits.PrimaryHDU(np.zeros((4, 4), "f4"))
    image.header.update(simple("XYZ", NAXIS1=4, NAXIS2=4))
    image.writeto(path)
    with torchfits.open(path) as file:
        with pytest.raises(FitsFormatError, match="XYZ in CTYPE1") as error:
            _ = file[0].wcs
        assert error.value.hdu == 0
        assert error.value.library == "wcslib"
        assert "(wcslib status 4)" in str(error.value)
        assert file[0].read().shape == (4, 4)  # a bad WCS hides no pixels
    copy = pickle.loads(pickle.dumps(error.value))
    assert str(copy) == str(error.value)


def test_gzip_file(tmp_path):
    with gzip.open(DATA / "dist_lookup.fits.gz") as packed, (tmp_path / "a.fits").open("wb") as plain:
        shutil.copyfileobj(packed, plain)
    with torchfits.open(DATA / "dist_lookup.fits.gz") as a, torchfits.open(tmp_path / "a.fits") as b:
        index = next(hdu.index for hdu in a if "CTYPE1" in hdu.read_header())
        pixels = torch.ones(2)
        assert torch.equal(a[index].wcs.pixel_to_world(pixels), b[index].wcs.pixel_to_world(pixels))
