"""torchfits.wcs_torch against astropy.wcs (wcslib): headers, distortions, stacks, gradients, devices."""

from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import astropy.wcs
import numpy as np
import pytest
import torch
from astropy.io import fits
from astropy.wcs import WCS, DistortionLookupTable, Sip
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck
from wcs_models import model_of, separation

from torchfits import distortions, wcs_torch
from torchfits.errors import FitsFormatError, FitsUnsupported
from torchfits.wcs_torch import Transform, why_not

DATA = Path(astropy.wcs.__file__).parent / "tests" / "data"
MAPS = sorted((DATA / "maps").glob("*.hdr"))
DOUBLE = torch.float64


def header_of(path: Path) -> fits.Header:
    data = path.read_bytes().decode("latin-1")
    return fits.Header.fromstring(data, sep="\n" if "\n" in data else "")


def wcs_of(header: fits.Header, hdus=None) -> WCS:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return WCS(header, hdus)


def a_tan(crval=(83.0, 41.0), crpix=(512.0, 500.0), pixel=1e-4) -> WCS:
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.crpix = ["RA---TAN", "DEC--TAN"], crval, crpix
    wcs.wcs.cd = np.array([[-1, 0.2], [0.15, 1.1]]) * pixel
    return wcs


def a_sip(order: int, seed: int = 0, crval=(83.0, 41.0), strength=3.0, inverse=False) -> WCS:
    """TAN-SIP that moves the corners of an image of 1000 pixels by some pixels."""
    rng = np.random.default_rng(seed)
    wcs = a_tan(crval)
    wcs.wcs.ctype = ["RA---TAN-SIP", "DEC--TAN-SIP"]
    i, j = np.indices((order + 1, order + 1))
    size = np.where((i + j >= 2) & (i + j <= order), strength / 500.0 ** (i + j) / order, 0)
    a, b = rng.uniform(-1, 1, (2, order + 1, order + 1)) * size
    # as a first guess the opposite will do
    wcs.sip = Sip(a, b, *((-a, -b) if inverse else (None, None)), [510.0, 498.0])
    return wcs


def a_distorted(order: int = 3, seed: int = 0) -> WCS:
    """SIP, CPDIS and D2IM, whose tables are smaller than the image."""
    rng = np.random.default_rng(seed)
    wcs = a_sip(order, seed)

    def table(shape):
        cells = (900 / shape[1], 900 / shape[0])
        return DistortionLookupTable(rng.uniform(-1, 1, shape).astype(np.float32), (1, 1.5), (50, 60), cells)

    wcs.cpdis1, wcs.cpdis2 = table((12, 17)), table((9, 8))
    wcs.det2im1, wcs.det2im2 = table((5, 40)), table((31, 4))
    return wcs


PIXELS = np.random.default_rng(1).uniform(-20, 1040, (700, 2))


def agree(wcs: WCS, header=None, pixels: np.ndarray = PIXELS) -> None:
    """Forward as astropy, and back to where one came from."""
    model = model_of(wcs, header)
    transform = Transform(model)
    want = wcs.all_pix2world(pixels, 1) if model.naxis == 2 else wcs.wcs_pix2world(pixels, 1)
    world, valid = transform.pixel_to_world(torch.from_numpy(pixels))
    assert valid.numpy().tolist() == np.isfinite(want).all(-1).tolist()
    want, world = want[valid], world.numpy()[valid]
    if model.celestial is not None:
        pair = [model.celestial.lng, model.celestial.lat]
        assert separation(world[:, pair], want[:, pair]).max() < 1e-9
    others = [axis for axis, linear in enumerate(model.linear) if linear]
    np.testing.assert_allclose(world[:, others], want[:, others], rtol=1e-13)
    back, found = transform.world_to_pixel(torch.from_numpy(want))
    assert found.all()
    assert np.abs(back.numpy() - pixels[valid]).max() < 1e-7


@pytest.mark.parametrize("path", MAPS, ids=lambda path: path.stem)
def test_maps(path):
    wcs = wcs_of(header_of(path))
    reason = why_not(model_of(wcs))
    if path.stem.endswith("CSC"):
        assert reason == "projection CSC"
        return
    assert reason is None
    grid = np.stack(np.meshgrid(np.linspace(-40, 240, 40), np.linspace(-40, 240, 41)), -1).reshape(-1, 2)
    agree(wcs, None, grid)
    sky = np.stack(np.meshgrid(np.linspace(1.3, 358.7, 40), np.linspace(-88.8, 88.9, 41)), -1).reshape(-1, 2)
    want = wcs.wcs_world2pix(sky, 1)
    made, valid = Transform(model_of(wcs)).world_to_pixel(torch.from_numpy(sky))
    assert valid.numpy().tolist() == np.isfinite(want).all(-1).tolist()
    assert np.abs(made[valid].numpy() - want[valid]).max() < 1e-7


HEADERS = [
    "siponly.hdr",
    "irac_sip.hdr",
    "tpvonly.hdr",
    "2wcses.hdr",
    "too_many_pv.hdr",
    "sip-broken.hdr",
    "locale.hdr",
]


@pytest.mark.parametrize("name", HEADERS)
def test_headers(name):
    header = header_of(DATA / name)
    agree(wcs_of(header), header)


FILES = [
    "sip.fits",
    "sip2.fits",
    "j94f05bgq_flt.fits",
    "dist.fits",
    "dist_lookup.fits.gz",
    "ie6d07ujq_wcs.fits",
]


@pytest.mark.parametrize("name", FILES)
def test_files(name):
    with fits.open(DATA / name) as hdus:
        for hdu in hdus:
            if hdu.header.get("CTYPE1", "").startswith("RA"):
                agree(wcs_of(hdu.header, hdus), hdu.header)


@pytest.mark.parametrize("order", range(2, 10))
@pytest.mark.parametrize("crval", [(0.0, 0.0), (359.99, -89.9), (200.0, 90.0), (-30.0, 20.0)])
def test_sip(order, crval):
    agree(a_sip(order, order, crval, inverse=order % 2 == 0))


def test_all_distortions_together():
    agree(a_distorted())
    outside = np.array([[-300.0, 20], [1500, 1500], [500, -100], [0, 0]])
    agree(a_distorted(), None, outside)


def test_lookup_tables_only():
    wcs = a_distorted()
    wcs.wcs.ctype, wcs.sip = ["RA---TAN", "DEC--TAN"], None
    agree(wcs)
    wcs.cpdis2 = wcs.det2im1 = None
    agree(wcs)


def a_tpv(highest: int, seed: int, radial: bool) -> fits.Header:
    rng = np.random.default_rng(seed)
    header = a_tan(pixel=1e-3).to_header()
    header["CTYPE1"], header["CTYPE2"] = "RA---TPV", "DEC--TPV"
    for axis in (1, 2):
        for m in range(highest + 1):
            if m not in (3, 11, 23, 39) or radial:
                header[f"PV{axis}_{m}"] = rng.uniform(-0.02, 0.02) + (m == 1)
    return header


@pytest.mark.parametrize("highest", [1, 2, 3, 6, 10, 11, 16, 22, 23, 30, 38, 39])
@pytest.mark.parametrize("radial", [False, True])
def test_tpv(highest, radial):
    header = a_tpv(highest, highest, radial)
    agree(wcs_of(header), header)


@settings(max_examples=40, deadline=None)
@given(
    order=st.integers(2, 5),
    seed=st.integers(0, 10**6),
    crval=st.tuples(st.floats(-180, 360), st.floats(-90, 90)),
    strength=st.floats(0, 8),
)
def test_any_sip(order, seed, crval, strength):
    agree(a_sip(order, seed, crval, strength), None, PIXELS[:50])


def test_cubes():
    wcs = WCS(naxis=4)
    wcs.wcs.ctype = ["FREQ", "DEC--SIN", "STOKES", "RA---SIN"]
    wcs.wcs.crval, wcs.wcs.crpix, wcs.wcs.cdelt = [1.4e9, -30, 1, 150], [1, 50, 1, 60], [1e6, 0.01, 1, -0.01]
    wcs.wcs.pc = np.eye(4) + np.random.default_rng(0).uniform(-0.05, 0.05, (4, 4))
    model = model_of(wcs)
    assert (model.celestial.lng, model.celestial.lat) == (3, 1)
    agree(wcs, None, np.random.default_rng(1).uniform(1, 100, (200, 4)))


def test_linear_axes_only():
    wcs = WCS(naxis=3)
    wcs.wcs.ctype, wcs.wcs.cdelt, wcs.wcs.crval = ["X", "", "Y"], [2, -3, 0.5], [10, 20, 30]
    agree(wcs, None, np.random.default_rng(1).uniform(1, 100, (200, 3)))


def test_what_is_left_to_wcslib():
    wcs = WCS(naxis=3)
    wcs.wcs.ctype, wcs.wcs.cunit = ["RA---TAN", "DEC--TAN", "VOPT-F2W"], ["deg", "deg", "m/s"]
    wcs.wcs.restfrq, wcs.wcs.crval = 1.4e9, [10, 20, 1e5]
    model = model_of(wcs)
    assert why_not(model) == "CTYPE3 = 'VOPT-F2W' is not linear"
    with pytest.raises(FitsUnsupported, match="VOPT"):
        Transform(model)


@pytest.mark.parametrize(
    ("code", "pv", "reason"),
    [
        ("CSC", [], "projection CSC"),
        ("HPX", [(1, 0, 1.0), (1, 1, 20.0), (1, 2, 40.0)], "projection HPX with an offset"),
    ],
)
def test_projections_that_are_left_to_wcslib(code, pv, reason):
    wcs = a_tan(pixel=0.1)
    wcs.wcs.ctype = [f"RA---{code}", f"DEC--{code}"]
    wcs.wcs.set_pv(pv)
    assert why_not(model_of(wcs)) == reason


def test_shapes_and_dtypes():
    transform = Transform(model_of(a_tan()))
    for shape in ((), (0,), (5,), (2, 3), (0, 4)):
        points = torch.full((*shape, 2), 500, dtype=torch.int16)
        world, valid = transform.pixel_to_world(points)
        assert world.shape == (*shape, 2)
        assert world.dtype == DOUBLE
        assert valid.shape == shape
        assert valid.dtype == torch.bool
        assert transform.world_to_pixel(world.float())[0].shape == (*shape, 2)
    with pytest.raises(FitsFormatError, match="2 axes"):
        transform.pixel_to_world(torch.zeros(4, 3))


@pytest.mark.parametrize("make", [a_tan, lambda: a_sip(4, inverse=True), a_distorted])
def test_many_points_are_the_same_points(make, monkeypatch):
    transform = Transform(model_of(make()))
    points = torch.from_numpy(PIXELS.copy()).reshape(7, 100, 2)
    points[3, 5] = torch.nan
    whole = transform.pixel_to_world(points), transform.world_to_pixel(transform.pixel_to_world(points)[0])
    monkeypatch.setattr(wcs_torch, "CHUNK", 64)
    parts = transform.pixel_to_world(points), transform.world_to_pixel(transform.pixel_to_world(points)[0])
    torch.testing.assert_close(parts, whole, rtol=0, atol=1e-9, equal_nan=True)
    assert parts[0][1].sum() == 699


def test_not_a_number():
    for wcs in (a_tan(), a_distorted()):
        transform = Transform(model_of(wcs))
        bad = [[np.nan, 1], [1, np.nan], [np.inf, 5], [5, -np.inf], [1e50, -1e50], [500, 500]]
        bad = torch.tensor(bad, dtype=DOUBLE)
        for way in (transform.pixel_to_world, transform.world_to_pixel):
            made, valid = way(bad)
            assert valid[:5].tolist() == [False] * 5
            assert made[:5].isnan().all()
        assert transform.pixel_to_world(bad)[1][5]


def test_points_that_no_pixel_has():
    """Where SIP folds over there is nothing to find, and behind the tangent plane neither."""
    wcs = a_sip(2)
    wcs.sip = Sip(np.array([[0, 0, 0], [0, 0, 0], [1e-3, 0, 0]]), np.zeros((3, 3)), None, None, [512, 500])
    transform = Transform(model_of(wcs))
    lowest, _ = Transform(model_of(a_tan())).pixel_to_world(torch.tensor([[512.0 - 400, 500]]))
    pixel, valid = transform.world_to_pixel(torch.cat((lowest, torch.tensor([[263.0, -41]], dtype=DOUBLE))))
    assert valid.tolist() == [False, False]
    assert pixel.isnan().all()


def differ(wcs_list) -> list:
    return [model_of(wcs) for wcs in wcs_list]


@pytest.mark.parametrize(
    "models",
    [
        differ([a_tan(), a_tan((0.0, 90.0)), a_tan((-20.0, -80.0), (1, 2))]),
        differ([a_sip(2), a_sip(5, 1), a_sip(3, 2, (-20.0, 10.0))]),
        differ([a_sip(2, inverse=True), a_sip(4, 1, inverse=True), a_sip(3, 2)]),
        differ([a_sip(2, inverse=True), a_sip(4, 1, inverse=True)]),
        differ([a_distorted(2, 0), a_distorted(3, 1)]),
        [model_of(wcs_of(h), h) for h in (a_tpv(10, 1, True), a_tpv(16, 2, False))],
    ],
    ids=["TAN", "SIP", "half guessed", "guessed", "tables", "TPV"],
)
def test_stacks(models):
    stack = Transform(wcs_torch.stacked(models))
    shared = torch.from_numpy(PIXELS[:50])
    for pixels in (shared, shared + torch.arange(len(models), dtype=DOUBLE).reshape(-1, 1, 1)):
        world, valid = stack.pixel_to_world(pixels)
        back, found = stack.world_to_pixel(world)
        assert world.shape == back.shape == (len(models), 50, 2)
        assert valid.all()
        assert found.all()
        for k, model in enumerate(models):
            own = pixels if pixels.dim() == 2 else pixels[k]
            torch.testing.assert_close(
                world[k], Transform(model).pixel_to_world(own)[0], rtol=1e-14, atol=1e-12
            )
            torch.testing.assert_close(back[k], own, rtol=0, atol=1e-7)


@pytest.mark.parametrize("code", ["SIN", "ZPN", "CAR", "COE", "MOL", "HPX", "AZP"])
def test_stacks_of_projections(code):
    models = []
    for k, crval in enumerate([(10.0, 40.0), (200.0, -70.0), (0.0, 0.0)]):
        wcs = a_tan(crval, pixel=0.1)
        wcs.wcs.ctype = [f"RA---{code}", f"DEC--{code}"]
        given_pv = {
            "SIN": [(2, 1, 0.1 * k)],
            "COE": [(2, 1, 40.0 + k), (2, 2, 5.0 * k)],
            "AZP": [(2, 1, 2.0 - k)],
        }
        given_pv["ZPN"] = [(2, 1, 1.0), (2, 2 + k, -0.1)]
        wcs.wcs.set_pv(given_pv.get(code, []))
        models.append(model_of(wcs))
    pixels = torch.from_numpy(np.random.default_rng(0).uniform(-500, 1500, (200, 2)))
    sky = torch.from_numpy(np.random.default_rng(0).uniform([0, -90], [360, 90], (200, 2)))
    stack, alone = Transform(wcs_torch.stacked(models)), [Transform(model) for model in models]
    for way, points, bound in (("pixel_to_world", pixels, 1e-9), ("world_to_pixel", sky, 1e-7)):
        made, valid = getattr(stack, way)(points)
        each = [getattr(one, way)(points) for one in alone]
        assert torch.equal(valid, torch.stack([v for _, v in each]))
        torch.testing.assert_close(
            made, torch.stack([m for m, _ in each]), rtol=1e-12, atol=bound, equal_nan=True
        )


def test_gradients_of_stacks():
    """By the parameters of each WCS, or by one tensor for all; as often as one likes."""
    models = [model_of(a_sip(2 + k, k)) for k in range(3)]
    points = torch.from_numpy(PIXELS[:10])
    each = [model.crval.clone().requires_grad_() for model in models]
    stack = Transform(
        wcs_torch.stacked([replace(model, crval=crval) for model, crval in zip(models, each, strict=True)])
    )
    together = torch.stack([model.crval for model in models]).unsqueeze(1).requires_grad_()
    other = Transform(replace(wcs_torch.stacked(models), crval=together))
    world = stack.pixel_to_world(points)[0].detach()
    for transform in (stack, other):
        for _ in range(2):
            (
                transform.pixel_to_world(points)[0][..., 1].sum() + transform.world_to_pixel(world)[0].sum()
            ).backward()
    torch.testing.assert_close(together.grad[:, 0], torch.stack([crval.grad for crval in each]))
    assert (together.grad != 0).all()


def test_what_does_not_stack():
    tan, sip = model_of(a_tan()), model_of(a_sip(3))
    sin = a_tan()
    sin.wcs.ctype = ["RA---SIN", "DEC--SIN"]
    tables = model_of(a_distorted())
    for models, what in (
        ([], "no WCS"),
        ([tan, sip], "sip"),
        ([tan, model_of(sin)], "projection"),
        ([tables, replace(tables, cpdis=tables.cpdis[:1])], "cpdis"),
        ([tables, replace(tables, d2im=tables.d2im[::-1])], "axis"),
        ([tan, model_of(WCS(naxis=2))], "units"),
    ):
        with pytest.raises(FitsFormatError, match=what):
            Transform(wcs_torch.stacked(models))


def checked(model, wanted, points, both=gradgradcheck) -> None:
    """gradcheck of both ways, by points and by the tensors that `wanted` sets in a model."""
    world = Transform(model).pixel_to_world(points)[0]
    for way, at in (("pixel_to_world", points), ("world_to_pixel", world)):

        def compute(at, *tensors, way=way):
            return getattr(Transform(wanted[1](*tensors)), way)(at)[0]

        inputs = [t.detach().clone().requires_grad_() for t in (at, *wanted[0])]
        for check in {gradcheck, both}:
            assert check(compute, inputs, eps=1e-6, atol=1e-5, rtol=1e-4, fast_mode=True)


def test_gradients_of_sip():
    model = model_of(a_sip(4, inverse=True))
    sip = model.sip

    def changed(crval, crpix, matrix, a, b, centre):
        return replace(
            model, crval=crval, crpix=crpix, matrix=matrix, sip=replace(sip, a=a, b=b, crpix=centre)
        )

    # by units in which all is of the order of 1
    i, j = torch.meshgrid(torch.arange(5.0, dtype=DOUBLE), torch.arange(5.0, dtype=DOUBLE), indexing="ij")
    unit = 500.0 ** -(i + j)

    def scaled(crval, crpix, matrix, a, b, centre):
        return changed(crval, crpix, matrix * 1e-4, a * unit, b * unit, centre)

    tensors = (model.crval, model.crpix, model.matrix * 1e4, sip.a / unit, sip.b / unit, sip.crpix)
    checked(model, (tensors, scaled), torch.from_numpy(PIXELS[:4]))


def test_gradients_of_tables():
    model = model_of(a_distorted())

    def changed(crval, cpdis, d2im):
        return replace(
            model,
            crval=crval,
            cpdis=(replace(model.cpdis[0], table=cpdis), model.cpdis[1]),
            d2im=(model.d2im[0], replace(model.d2im[1], table=d2im)),
        )

    tensors = (model.crval, model.cpdis[0].table, model.d2im[1].table)
    checked(model, (tensors, changed), torch.from_numpy(PIXELS[:4]), gradcheck)


def test_gradients_of_tpv():
    header = a_tpv(23, 3, True)
    model = model_of(wcs_of(header), header)

    def changed(crval, pv):
        return replace(model, crval=crval, tpv=replace(model.tpv, pv=pv))

    checked(model, ((model.crval, model.tpv.pv), changed), torch.from_numpy(PIXELS[:4]))


def test_masked_points_leave_gradients_alone():
    model = model_of(a_distorted())
    crval, a = model.crval.clone().requires_grad_(), model.sip.a.clone().requires_grad_()
    transform = Transform(replace(model, crval=crval, sip=replace(model.sip, a=a)))
    world = torch.tensor(
        [[83.0, 41], [263, -41], [np.nan, 0], [np.inf, 0], [0, -90], [83, -48.999999999]],
        dtype=DOUBLE,
        requires_grad=True,
    )
    pixels, valid = transform.world_to_pixel(world)
    assert valid.tolist() == [True, *[False] * 5]
    pixels.nan_to_num(0).sum().backward()
    for gradient in (world.grad, crval.grad, a.grad):
        assert gradient.isfinite().all()
    assert (world.grad[1:] == 0).all()


def test_backward_twice_through_one_transform():
    model = model_of(a_sip(3))
    crval = model.crval.clone().requires_grad_()
    transform = Transform(replace(model, crval=crval))
    for _ in range(2):
        transform.pixel_to_world(torch.from_numpy(PIXELS[:5]))[0].sum().backward()
    torch.testing.assert_close(crval.grad, torch.full((2,), 10.0, dtype=DOUBLE), rtol=1e-3, atol=1e-2)


def test_a_fit_finds_the_parameters():
    """Newton's method by the gradient through CRVAL and the matrix brings a WCS onto its stars."""
    truth, start = model_of(a_sip(3)), model_of(a_sip(3, crval=(83.01, 40.99)))
    pixels = torch.from_numpy(PIXELS[:40])
    stars = Transform(truth).pixel_to_world(pixels)[0]

    def residuals(crval, matrix):
        return (
            Transform(replace(start, crval=crval, matrix=matrix * 1e-4)).pixel_to_world(pixels)[0] - stars
        ).flatten()

    crval, matrix = start.crval, start.matrix * 1.01e4
    for _ in range(5):
        by_crval, by_matrix = torch.autograd.functional.jacobian(residuals, (crval, matrix))
        jacobian = torch.cat((by_crval, by_matrix.flatten(1)), 1)
        step = torch.linalg.lstsq(jacobian, residuals(crval, matrix)[:, None]).solution.flatten()
        crval, matrix = crval - step[:2], matrix - step[2:].reshape(2, 2)
    torch.testing.assert_close(crval, truth.crval, rtol=0, atol=1e-10)
    torch.testing.assert_close(matrix * 1e-4, truth.matrix, rtol=1e-8, atol=1e-12)


def test_function_transforms():
    """torch.func: reverse and forward derivatives, also by parameters, and vmap over points."""
    model = model_of(a_sip(3))
    transform = Transform(model)
    points = torch.from_numpy(PIXELS[:6])
    world = transform.pixel_to_world(points)[0]
    for way, at in ((transform.pixel_to_world, points), (transform.world_to_pixel, world)):
        reverse = torch.func.jacrev(lambda p, way=way: way(p)[0])(at[0])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # torch's own, of torch.jit
            forward = torch.func.jacfwd(lambda p, way=way: way(p)[0])(at[0])
        torch.testing.assert_close(forward, reverse)
    by_crval = torch.func.jacrev(
        lambda crval: Transform(replace(model, crval=crval)).pixel_to_world(points)[0]
    )
    assert by_crval(model.crval).shape == (6, 2, 2)
    torch.testing.assert_close(torch.func.vmap(lambda p: transform.pixel_to_world(p)[0])(points), world)


def test_vmap_over_parameters():
    model = model_of(a_tan())
    crval = torch.tensor([[10.0, 20], [83, 41], [-10, -90]], dtype=DOUBLE)
    for count in (5, wcs_torch.CHUNK + 1):
        points = torch.from_numpy(np.random.default_rng(0).uniform(0, 1000, (count, 2)))

        def world(c, points=points):
            return Transform(replace(model, crval=c)).pixel_to_world(points)[0]

        made = torch.func.vmap(world)(crval)
        stack = Transform(wcs_torch.stacked([replace(model, crval=c) for c in crval]))
        torch.testing.assert_close(made, stack.pixel_to_world(points)[0])


def test_inference_mode_leaves_no_trace():
    transform = Transform(model_of(a_sip(3)))
    points = torch.from_numpy(PIXELS[:5])
    with torch.inference_mode():
        transform.pixel_to_world(points)
    points.requires_grad_()
    transform.pixel_to_world(points)[0].sum().backward()
    assert points.grad.isfinite().all()


def test_inputs_stay():
    model = model_of(a_distorted())
    before = [t.clone() for t in wcs_torch._tensors(model)]
    points = torch.from_numpy(PIXELS[:5].copy())
    transform = Transform(model)
    world = transform.pixel_to_world(points)[0]
    copy = world.clone()
    transform.world_to_pixel(world)
    assert torch.equal(points, torch.from_numpy(PIXELS[:5]))
    assert torch.equal(world, copy)
    assert all(torch.equal(a, b) for a, b in zip(before, wcs_torch._tensors(model), strict=True))


def test_threads():
    transform, points = Transform(model_of(a_distorted())), torch.from_numpy(PIXELS)
    want = transform.pixel_to_world(points)[0]
    with ThreadPoolExecutor(8) as pool:
        fresh = Transform(transform.model)
        made = pool.map(lambda _: (fresh.pixel_to_world(points)[0], fresh.world_to_pixel(want)[0]), range(16))
        for world, pixels in made:
            assert torch.equal(world, want)
            torch.testing.assert_close(pixels, points, rtol=0, atol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("make", [a_tan, lambda: a_sip(3)])
def test_compiled(make):
    transform = Transform(model_of(make()))
    points = torch.from_numpy(PIXELS[:20])
    transform.pixel_to_world(points)  # what is computed once of the parameters is not traced
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        world, _ = torch.compile(transform.pixel_to_world, backend="eager", fullgraph=True)(points)
        pixels, _ = torch.compile(transform.world_to_pixel, backend="eager", fullgraph=True)(world)
    torch.testing.assert_close(world, transform.pixel_to_world(points)[0])
    torch.testing.assert_close(pixels, points, rtol=0, atol=1e-7)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("make", [a_tan, lambda: a_sip(4, inverse=True), a_distorted])
def test_cuda(make):
    transform = Transform(model_of(make()))
    points = torch.from_numpy(PIXELS)
    world, valid = transform.pixel_to_world(points.cuda())
    assert world.is_cuda
    assert valid.is_cuda
    torch.testing.assert_close(world.cpu(), transform.pixel_to_world(points)[0], rtol=1e-14, atol=1e-11)
    torch.testing.assert_close(transform.world_to_pixel(world)[0].cpu(), points, rtol=0, atol=1e-7)
    stack = Transform(wcs_torch.stacked([transform.model, transform.model]))
    assert stack.pixel_to_world(points.cuda())[0].is_cuda


def test_polynomials():
    rng = np.random.default_rng(0)
    u, v = (torch.from_numpy(rng.uniform(-2, 2, 50)) for _ in range(2))
    for order in range(8):
        matrix = np.where(
            np.add(*np.indices((order + 1, order + 1))) <= order, rng.normal(size=(order + 1,) * 2), 0
        )
        c = distortions.coefficients(torch.from_numpy(matrix))
        want = np.polynomial.polynomial.polyval2d(u, v, matrix)
        value, by_u, by_v = distortions.polynomial_and_slopes(c, u, v)
        np.testing.assert_allclose(value, want, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(distortions.polynomial(c, u, v) + 0 * u, want, rtol=1e-12, atol=1e-12)
        of_u, of_v = (np.polynomial.polynomial.polyder(matrix, axis=axis) for axis in (0, 1))
        np.testing.assert_allclose(
            by_u, np.polynomial.polynomial.polyval2d(u, v, of_u), rtol=1e-11, atol=1e-11
        )
        np.testing.assert_allclose(
            by_v, np.polynomial.polynomial.polyval2d(u, v, of_v), rtol=1e-11, atol=1e-11
        )
