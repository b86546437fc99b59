"""The projections of torchfits.projections against wcslib (astropy.wcs), and their gradients."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from astropy.wcs import WCS
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck
from wcs_models import model_of, separation

from torchfits.projections import PROJECTIONS
from torchfits.wcs_torch import Transform

# PVi_m of the latitude axis: several kinds of each projection that has any
PARAMETERS = {
    "AZP": [{}, {1: 2, 2: 30}, {1: -2, 2: 20}, {1: 0.5, 2: 40}, {1: 1.5, 2: 60}, {1: -0.5, 2: 10}, {1: 3}],
    "SZP": [{}, {1: 2, 2: 180, 3: 60}, {1: 0.5, 2: 30, 3: 40}, {1: -3, 2: 30, 3: 60}],
    "SIN": [{}, {1: 0.3, 2: -0.5}, {1: 1.5, 2: 0.2}],
    "ZPN": [
        {0: 0.05, 1: 0.975, 2: -0.807, 3: 0.337, 4: -0.065, 5: 0.01, 6: 0.003, 7: -0.001},
        {0: 0.1, 1: 1},
        {1: 1, 3: -0.05},
        {1: 1, 2: 0.1},
        {1: 1, 2: -0.2},
        {0: 2, 1: -1},
    ],
    "AIR": [{1: 45}, {}, {1: -30}],
    "CYP": [{1: 0.3, 2: 0.7}, {}, {1: 0, 2: 1}, {1: 2, 2: 0.5}, {1: -0.4, 2: 1.2}],
    "CEA": [{1: 0.5}, {}],
    "COP": [{1: 45, 2: 20}, {1: -30, 2: 5}],
    "COE": [{1: -45, 2: 20}, {1: 45, 2: 20}, {1: -30, 2: 0}],
    "COD": [{1: 45, 2: 20}, {1: -30, 2: 0}, {1: 60, 2: -5}],
    "COO": [{1: -45, 2: 20}, {1: 45, 2: 20}, {1: -30, 2: 0}],
    "BON": [{1: 45}, {1: -30}, {1: 0}],
    "HPX": [{}, {1: 4, 2: 4}, {1: 6, 2: 3}, {1: 3, 2: 2}, {1: 1, 2: 1}],
}
KINDS = [(code, pv) for code in PROJECTIONS for pv in PARAMETERS.get(code, [{}])]
NAMES = [f"{code}{n}" for code in PROJECTIONS for n in range(len(PARAMETERS.get(code, [{}])))]
# CRVAL, LONPOLE, LATPOLE, and PVi_m of the longitude axis: an offset, and other native coordinates for CRVAL
PLACES = [
    ((0, 0), None, None, {}),
    ((83, 41), None, None, {}),
    ((-83, -41), 120, None, {}),
    ((10, 90), None, None, {}),
    ((10, -90), 30, None, {}),
    ((200, -20), None, -40, {}),
    ((359, 5), 170, 10, {}),
    ((120, 30), None, None, {1: 20, 2: 40}),
    ((120, 30), None, None, {0: 1, 1: 20, 2: 40}),
]
RNG = np.random.default_rng(6)
PIXELS = np.concatenate([RNG.uniform(-220, 220, (2000, 2)), RNG.uniform(-20, 20, (500, 2))])
SKY = np.stack([RNG.uniform(-10, 370, 2500), np.degrees(np.arcsin(RNG.uniform(-1, 1, 2500)))], -1)


def a_wcs(code: str, pv: dict, crval, lonpole=None, latpole=None, offset=None) -> WCS | None:
    """With pixels of about a degree, turned and skewed; None where wcslib refuses it."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = [f"RA---{code}", f"DEC--{code}"]
    wcs.wcs.crval, wcs.wcs.crpix = crval, [10.5, -3.2]
    wcs.wcs.cdelt, wcs.wcs.pc = [-1, 1], [[0.9, 0.3], [-0.25, 1.1]]
    if lonpole is not None:
        wcs.wcs.lonpole = lonpole
    if latpole is not None:
        wcs.wcs.latpole = latpole
    given_pv = [(axis, m, float(v)) for axis, of in ((2, pv), (1, offset or {})) for m, v in of.items()]
    wcs.wcs.set_pv(given_pv)
    try:
        wcs.wcs.set()
    except ValueError:
        return None
    return wcs


def agree(wcs: WCS, pixels: np.ndarray, sky: np.ndarray) -> None:
    """Both ways are those of wcslib, and so are the bounds."""
    transform = Transform(model_of(wcs))
    want = wcs.wcs_pix2world(pixels, 1)
    world, valid = transform.pixel_to_world(torch.from_numpy(pixels))
    np.testing.assert_array_equal(valid.numpy(), np.isfinite(want).all(-1))
    np.testing.assert_array_equal(torch.isfinite(world).all(-1).numpy(), valid.numpy())
    want, world = want[valid], world[valid].numpy()
    assert separation(world, want).max(initial=0) < 1e-9
    if not wcs.wcs.cel.isolat:  # where it only adds to longitudes, wcslib may leave its turn
        assert np.abs(world[:, 0] - want[:, 0]).max(initial=0) < 180

    want = wcs.wcs_world2pix(sky, 1)
    made, valid = transform.world_to_pixel(torch.from_numpy(sky))
    np.testing.assert_array_equal(valid.numpy(), np.isfinite(want).all(-1))
    want, made = want[valid], made[valid].numpy()
    # pixels beside a divergence are far away
    assert (np.abs(made - want).max(-1) / np.abs(want).max(-1).clip(1e3) * 1e3).max(initial=0) < 1e-7


@pytest.mark.parametrize(("code", "pv"), KINDS, ids=NAMES)
def test_wcslib_agrees(code, pv):
    tried = 0
    for place in PLACES:
        wcs = a_wcs(code, pv, *place)
        if wcs is None or (code == "HPX" and 0 in place[3]):
            continue
        agree(wcs, PIXELS, SKY)
        tried += 1
    assert tried >= 4


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    crval=st.tuples(st.floats(-360, 360), st.floats(-89, 89)),
    lonpole=st.floats(-180, 180),
    latpole=st.floats(-90, 90),
    seed=st.integers(0, 1000),
)
def test_wcslib_agrees_on_any_rotation(kind, crval, lonpole, latpole, seed):
    wcs = a_wcs(*kind, crval, lonpole, latpole)
    if wcs is None:
        return
    cel = wcs.wcs.cel
    if cel.theta0 != 90 and 0 < np.cos(np.radians(cel.ref[3])) * np.cos(np.radians(crval[1])) < 1e-4:
        return  # rounding decides about the longitude of the pole
    rng = np.random.default_rng(seed)
    sky = np.stack([rng.uniform(0, 360, 100), np.degrees(np.arcsin(rng.uniform(-1, 1, 100)))], -1)
    agree(wcs, rng.uniform(-200, 200, (100, 2)), sky)


@pytest.mark.parametrize(("code", "pv"), KINDS, ids=NAMES)
def test_there_and_back(code, pv):
    transform = Transform(model_of(a_wcs(code, pv, (83, 41))))
    pixels = torch.from_numpy(RNG.uniform(-15, 25, (500, 2)))
    world, valid = transform.pixel_to_world(pixels)
    back, again = transform.world_to_pixel(world)
    assert not (again & ~valid).any()
    assert again.float().mean() > 0.4  # where a projection overlaps itself the way back is not valid
    torch.testing.assert_close(back[again], pixels[again], rtol=0, atol=1e-7)


@pytest.mark.parametrize("code", PROJECTIONS)
@pytest.mark.parametrize("way", ["pixel_to_world", "world_to_pixel"])
def test_gradients(code, way):
    model = model_of(a_wcs(code, PARAMETERS.get(code, [{}])[0], (83, 41)))
    celestial = model.celestial
    rng = np.random.default_rng(2)
    points = torch.from_numpy(rng.uniform(-15, 25, (3, 2)))
    if way == "world_to_pixel":
        points = Transform(model).pixel_to_world(points)[0]

    def compute(points, crval, crpix, matrix, lonpole, pv):
        changed = replace(celestial, lonpole=lonpole, pv=pv)
        changed = replace(model, crval=crval, crpix=crpix, matrix=matrix, celestial=changed)
        made, valid = getattr(Transform(changed), way)(points)
        assert valid.all()
        return made

    inputs = (points, model.crval, model.crpix, model.matrix, celestial.lonpole, celestial.pv)
    inputs = [t.clone().requires_grad_() for t in inputs]
    assert gradcheck(compute, inputs, fast_mode=True, atol=1e-5, rtol=1e-4)
    assert gradgradcheck(compute, inputs, fast_mode=True, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("code", "pv"), KINDS, ids=NAMES)
@pytest.mark.parametrize("crval", [(0.0, 0.0), (83.0, 41.0), (10.0, 90.0), (10.0, -90.0)])
def test_gradients_are_numbers_everywhere(code, pv, crval):
    """At the reference point, poles and seams, behind the sphere and outside the plane."""
    wcs = a_wcs(code, pv, crval)
    if wcs is None:
        pytest.skip("no such WCS")
    model = model_of(wcs)
    far = [[1e3, 1e3], [1e9, -1e9], [1e25, 1e29], [1e200, -1e300], [np.nan, 1], [np.inf, 1]]
    near = [[0, 0], [1, 0], [0, 1], [180, 0], [0, 90], [90, 90]]
    pixels = model.crpix.numpy() + np.array([*near, *far])
    sky = [[lng, lat] for lng in range(0, 361, 45) for lat in range(-90, 91, 45)]
    for way, points in (("pixel_to_world", pixels), ("world_to_pixel", [*sky, *far])):
        points = torch.as_tensor(np.array(points, dtype=np.float64)).requires_grad_()
        names = ("crval", "crpix", "matrix")
        parameters = [getattr(model, name).clone().requires_grad_() for name in names]
        pv = model.celestial.pv.clone().requires_grad_()
        changed = replace(
            model, **dict(zip(names, parameters, strict=True)), celestial=replace(model.celestial, pv=pv)
        )
        made, valid = getattr(Transform(changed), way)(points)
        assert not made[~valid].isfinite().any()
        made[valid].sum().backward()
        assert pv.grad is None or pv.grad.isfinite().all()
        for t in (points, *parameters):
            assert t.grad.isfinite().all()
        assert (points.grad[~valid] == 0).all()


@pytest.mark.parametrize("code", ["TAN", "SIN", "STG", "ARC", "ZEA", "ZPN", "AIR", "AZP", "SZP"])
def test_a_zenithal_projection_is_smooth_at_its_pole(code):
    pv = {1: 1.0, 3: 0.1} if code == "ZPN" else PARAMETERS.get(code, [{}])[0]
    transform = Transform(model_of(a_wcs(code, pv, (83, 41))))
    pixel = transform.model.crpix.clone()
    there = torch.autograd.functional.jacobian(lambda p: transform.pixel_to_world(p)[0], pixel)
    world = transform.pixel_to_world(pixel)[0]
    back = torch.autograd.functional.jacobian(lambda w: transform.world_to_pixel(w)[0], world)
    torch.testing.assert_close(there @ back, torch.eye(2, dtype=torch.float64))
    step = torch.tensor([[1e-4, 0], [0, 1e-4]], dtype=torch.float64)
    slopes = (transform.pixel_to_world(pixel + step)[0] - transform.pixel_to_world(pixel - step)[0]) / 2e-4
    torch.testing.assert_close(there, slopes.T, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("code", ["CAR", "AIT", "MER"])
def test_gradients_where_the_pole_could_go_no_further(code):
    """CRVAL2 = 0 puts the celestial pole at the native one: there is a WCS to one side of it only."""
    model = model_of(a_wcs(code, {}, (30.0, 0.0)))
    pixels = torch.from_numpy(RNG.uniform(-15, 25, (20, 2)))

    def world(lat):
        crval = torch.stack((model.crval[0], lat))
        return Transform(replace(model, crval=crval)).pixel_to_world(pixels)[0]

    lat = model.crval[1]
    slope = torch.autograd.functional.jacobian(world, lat)
    torch.testing.assert_close(slope, (world(lat + 1e-6) - world(lat)) / 1e-6, rtol=1e-5, atol=1e-6)
