"""wcslib and torch make the same of a WCS; what only torch does, through the public classes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from astropy.io import fits
from conftest import corpus_root
from wcs_headers import DATA, FITS, HEADERS, cards, corpus_images, header_bytes, on_sky, quiet, simple

import torchfits
from torchfits import WCS, FitsError, FitsFormatError, FitsUnsupported, TensorWCS

pytestmark = pytest.mark.native

# what only wcslib computes, of astropy's headers
ONLY_WCSLIB = {"maps/1904-66_CSC.hdr", "tab-time-last-axis.fits", "dss.14.29.56-62.41.05.fits.gz"}


def wcs_of(name: str) -> WCS | None:
    """The first WCS of a file of astropy's, None where it is refused (test_wcs.py says why)."""
    try:
        if name in HEADERS:
            return WCS(header_bytes(name))
        with quiet(), torchfits.open(DATA / name) as file:
            hdu = next(
                (each for each in file if isinstance(each, torchfits.ImageHDU) and each.wcs.ctype[0]), None
            )
            return None if hdu is None else hdu.wcs
    except FitsError:
        return None


def known_to_torch(wcs: WCS) -> bool:
    try:
        return isinstance(wcs.tensors, TensorWCS)
    except FitsUnsupported as error:
        return "only wcslib" not in str(error)


def compare(wcs: WCS) -> None:
    """Both ways, by either: the same points, the same that are none."""
    random = np.random.default_rng(3)
    pixels = torch.from_numpy(random.uniform(-20, 220, (500, wcs.naxis)))
    world, valid = wcs.pixel_to_world(pixels, backend="wcslib", mask=True)
    found, found_valid = wcs.pixel_to_world(pixels, backend="torch", mask=True)
    assert torch.equal(valid, found_valid)
    assert torch.equal(world.isnan(), found.isnan())
    if valid.any():
        assert on_sky(wcs, found[valid].numpy(), world[valid].numpy()) < 1e-9
    there, valid = wcs.world_to_pixel(world, backend="wcslib", mask=True)
    back, back_valid = wcs.world_to_pixel(world, backend="torch", mask=True)
    assert torch.equal(valid, back_valid)
    step = there[valid].abs().max().item() * 1e-9 if valid.any() else 0
    torch.testing.assert_close(back[valid], there[valid], rtol=0, atol=1e-7 + step)


@pytest.mark.parametrize("name", [*HEADERS, *FITS])
def test_both_make_the_same(name):
    wcs = wcs_of(name)
    if wcs is None:
        pytest.skip("refused, or no world coordinates: test_wcs.py")
    if name in ONLY_WCSLIB:
        with pytest.raises(FitsUnsupported, match="only wcslib"):
            wcs.pixel_to_world(torch.zeros(wcs.naxis), backend="torch")
        return
    if not known_to_torch(wcs):
        # spectra that are not linear, and the like
        assert not all(each[:4] in ("RA--", "DEC-", "GLON", "GLAT", "") for each in wcs.ctype)
        return
    compare(wcs)


@pytest.mark.parametrize(("file", "index", "key"), corpus_images())
def test_both_make_the_same_of_the_corpus(file, index, key):
    root = corpus_root()
    assert root is not None
    with quiet(), torchfits.open(root / file) as opened:
        wcs = opened[index].wcs_of(key.strip())
    if known_to_torch(wcs):
        compare(wcs)
    else:  # polynomials of IRAF, and of a plate
        assert file.endswith(("tnx.fits", "zpx.fits", "HorseHead.fits"))


@pytest.mark.parametrize("projection", ["TAN", "SIN", "ZEA", "CAR", "AIT", "TAN-SIP"])
def test_gradients_are_those_of_other_headers(projection):
    """By CRVAL, CRPIX, CD and SIP: against wcslib's answers to headers that differ a little."""
    values = {"CD1_1": -8e-3, "CD1_2": 6e-3, "CD2_1": 6e-3, "CD2_2": 8e-3, "CRVAL1": 30.0, "CRVAL2": 40.0}
    values |= {"CRPIX1": 50.5, "CRPIX2": 48.5}
    if projection == "TAN-SIP":
        values |= {"A_ORDER": 2, "B_ORDER": 2, "A_2_0": 2e-5, "A_1_1": -1e-5, "B_0_2": 1e-5}
    plain = {key: value for key, value in simple(projection).items() if not key.startswith("CDELT")}

    def wcs(**changed: float) -> WCS:
        return WCS(cards(**{**plain, **values, **changed}))

    places = {
        "crval": {"CRVAL1": (0,), "CRVAL2": (1,)},
        "crpix": {"CRPIX1": (0,), "CRPIX2": (1,)},
        "matrix": {"CD1_1": (0, 0), "CD1_2": (0, 1), "CD2_1": (1, 0), "CD2_2": (1, 1)},
    }
    if projection == "TAN-SIP":
        places |= {"a": {"A_2_0": (2, 0), "A_1_1": (1, 1)}, "b": {"B_0_2": (0, 2)}}
    model = wcs().model
    for name, keywords in places.items():
        start = getattr(model.sip if name in "ab" else model, name).clone().requires_grad_()
        tensors = wcs().tensors.replace(**{name: start})
        for way, point in (("pixel_to_world", [20.0, 70.0]), ("world_to_pixel", [30.1, 40.2])):
            at = torch.tensor(point, dtype=torch.float64)
            for k in (0, 1):
                (gradient,) = torch.autograd.grad(getattr(tensors, way)(at)[k], start)
                for keyword, place in keywords.items():
                    step = values[keyword] * (1e-3 if name in "ab" else 1e-5)
                    up = getattr(wcs(**{keyword: values[keyword] + step}), way)(at)[k]
                    down = getattr(wcs(**{keyword: values[keyword] - step}), way)(at)[k]
                    slope = ((up - down) / (2 * step)).item()
                    assert math.isclose(
                        gradient[place], slope, rel_tol=1e-4, abs_tol=1e-5 * abs(slope) + 1e-7
                    )


def test_gradients_of_pixels_come_by_themselves():
    wcs = WCS(cards(**simple()))
    pixels = torch.tensor([[1.0, 2.0], [50.0, 60.0]], requires_grad=True)
    world = wcs.pixel_to_world(pixels)
    torch.testing.assert_close(world.detach(), wcs.pixel_to_world(pixels.detach()), rtol=1e-13, atol=1e-10)
    world[:, 1].sum().backward()
    torch.testing.assert_close(pixels.grad[:, 1], torch.full((2,), 0.01), rtol=1e-3, atol=0)
    with torch.no_grad():
        assert not wcs.pixel_to_world(pixels).requires_grad
    with pytest.raises(FitsUnsupported, match="only wcslib"):
        WCS(cards(**simple("CSC"))).pixel_to_world(pixels)


@pytest.mark.parametrize("origin", [0, 1])
def test_stacks(origin):
    headers = [cards(**simple("TAN", CRVAL1=10.0 * i, CRVAL2=5.0 * i, CRPIX1=40.0 + i)) for i in range(4)]
    every = [WCS(header) for header in headers]
    stack = WCS.stack(every)
    pixels = torch.from_numpy(np.random.default_rng(1).uniform(0, 100, (4, 30, 2)))
    world, valid = stack.pixel_to_world(pixels, origin=origin, mask=True)
    assert valid.shape == (4, 30)
    expected = torch.stack(
        [wcs.pixel_to_world(each, origin=origin) for wcs, each in zip(every, pixels, strict=True)]
    )
    torch.testing.assert_close(world, expected, rtol=1e-12, atol=1e-10)
    back = stack.world_to_pixel(world, origin=origin)
    torch.testing.assert_close(back, pixels, rtol=0, atol=1e-8)
    assert stack.pixel_to_world(pixels[0], origin=origin).shape == (4, 30, 2)
    # a CRVAL for each, all at once
    crval = torch.stack([wcs.crval for wcs in every]).requires_grad_()
    stack.replace(crval=crval).pixel_to_world(pixels)[..., 1].sum().backward()
    torch.testing.assert_close(
        crval.grad[:, 1], torch.full((4,), 30.0, dtype=torch.float64), rtol=1e-3, atol=0
    )
    with pytest.raises(FitsFormatError, match="projection"):
        WCS.stack([every[0], WCS(cards(**simple("SIN")))])
    with pytest.raises(FitsFormatError, match="stack"):
        WCS.stack([])


def test_what_is_no_parameter():
    tensors = WCS(cards(**simple())).tensors
    for name in ("a", "ctype", "what"):
        with pytest.raises(TypeError, match=name):
            tensors.replace(**{name: torch.zeros(2)})
    for points in (torch.zeros(3), torch.zeros(()), torch.zeros(2, 1)):
        with pytest.raises(FitsFormatError, match="last dimension"):
            tensors.pixel_to_world(points)
    with pytest.raises(FitsFormatError, match="origin"):
        tensors.world_to_pixel(torch.zeros(2), origin=2)


def test_the_default_device_is_not_asked():
    """What is on the CPU stays there."""
    header = cards(**simple("TAN-SIP", A_ORDER=2, B_ORDER=2, A_2_0=1e-5, B_0_2=1e-5))
    expected = WCS(header).pixel_to_world(torch.ones(2))
    with torch.device("meta"):
        wcs = WCS(header)
        ones = torch.ones(2, device="cpu")
        for backend in ("wcslib", "torch"):
            found = wcs.pixel_to_world(ones, backend=backend)
            assert found.is_cpu
            torch.testing.assert_close(found, expected)
            assert wcs.world_to_pixel(found, backend=backend).is_cpu
        part = wcs.section((slice(1, 9), slice(2, 9, 2)), (100, 100))
        for tensor in (
            part.crpix,
            part.crval,
            part.pixel_scale,
            part.footprint((4, 4)),
            wcs.downsample(2).crpix,
        ):
            assert tensor.is_cpu
        assert wcs.pixels_of([30.0], [40.0]).is_cpu
        assert WCS.stack([wcs, wcs]).pixel_to_world(ones).is_cpu


def test_whole_hdus(tmp_path):
    """A fit of the pointing: CRVAL found by gradient descent through world_to_pixel."""
    path = tmp_path / "sky.fits"
    fits.writeto(path, np.zeros((100, 100), "f4"), fits.Header.fromstring(cards(**simple()).decode()))
    with torchfits.open(path) as file:
        wcs = file[0].wcs
    stars = torch.from_numpy(np.random.default_rng(0).uniform(0, 100, (50, 2)))
    truth = wcs.tensors.replace(crval=wcs.crval + torch.tensor([0.003, -0.002], dtype=torch.float64))
    sky = truth.pixel_to_world(stars)
    crval = wcs.crval.requires_grad_()
    optimizer = torch.optim.LBFGS([crval], max_iter=50, tolerance_grad=1e-14, tolerance_change=1e-16)

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        total = (wcs.tensors.replace(crval=crval).world_to_pixel(sky) - stars).square().mean()
        total.backward()
        return total

    optimizer.step(loss)
    torch.testing.assert_close(crval.detach(), truth.model.crval, rtol=0, atol=1e-8)
