"""A WCS in many threads, in other processes, in and out of inference mode; what must not change it."""

from __future__ import annotations

import multiprocessing
import pickle
import threading
import warnings

import astropy.wcs
import numpy as np
import pytest
import torch
from astropy.io import fits
from images import torch_threads
from torch.autograd import forward_ad
from wcs_headers import DATA, astropy_wcs, by_tensor, cards, iraf, points, quiet, simple, sip

import torchfits
from torchfits import WCS, FitsFormatError, FitsUnsupported

pytestmark = pytest.mark.native

KINDS = {
    "TAN": cards(**simple()),
    "SIN": cards(**simple("SIN")),
    "SIP": cards(**sip()),
    "TNX": iraf("TNX"),
    "AIT": cards(**simple("AIT", CDELT1=-1.0, CDELT2=1.0)),
}
MANY = 40_000  # more than one thread takes at a time


@pytest.mark.parametrize("kind", KINDS)
def test_eight_threads_on_one_wcs(kind):
    """Each of them by several threads of our own; the answers are those of one thread, bit for bit."""
    wcs = WCS(KINDS[kind])
    pixels = [torch.from_numpy(points(MANY + 1000 * i, 2, 0, 100, seed=i)) for i in range(8)]
    with torch_threads(1):
        worlds = [wcs.pixel_to_world(each) for each in pixels]
        backs = [wcs.world_to_pixel(each) for each in worlds]
    wrong: list[str] = []

    def work(i: int) -> None:
        for _ in range(6):
            world = wcs.pixel_to_world(pixels[i])
            if not np.array_equal(world.numpy(), worlds[i].numpy(), equal_nan=True):
                wrong.append(f"{i}: world")
            if not np.array_equal(wcs.world_to_pixel(world).numpy(), backs[i].numpy(), equal_nan=True):
                wrong.append(f"{i}: pixel")

    with torch_threads(4):
        threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_blocks_and_threads_are_put_together_as_astropy_has_them():
    for kind in ("SIN", "AIT"):
        pixels = points(3 * MANY, 2, -200, 300)
        with quiet(), torch_threads(3):
            right = astropy_wcs(KINDS[kind]).wcs_pix2world(pixels, 0)
            found = by_tensor(WCS(KINDS[kind]).pixel_to_world, pixels)
        np.testing.assert_allclose(found, right, rtol=1e-12, atol=1e-10)


def _in_child(wcs: WCS, pixels: np.ndarray, answers) -> None:
    torch.set_num_threads(1)
    answers.put(by_tensor(wcs.pixel_to_world, pixels))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_other_processes(method):
    """After a fork while threads use it, and by way of a pickle."""
    context = multiprocessing.get_context(method)
    wcs, pixels = WCS(KINDS["SIN"]), points(100, 2, 0, 100)
    expected = by_tensor(wcs.pixel_to_world, pixels)
    done = threading.Event()

    def busy() -> None:
        while not done.is_set():
            wcs.pixel_to_world(torch.from_numpy(points(1000, 2, 0, 100)))

    thread = threading.Thread(target=busy)
    thread.start()
    try:
        for _ in range(3):
            answers = context.SimpleQueue()
            child = context.Process(target=_in_child, args=(wcs, pixels, answers))
            child.start()
            assert np.array_equal(answers.get(), expected)
            child.join(60)
            assert child.exitcode == 0
    finally:
        done.set()
        thread.join()


@pytest.mark.parametrize("kind", KINDS)
def test_pickles(kind):
    wcs, pixels = WCS(KINDS[kind]), torch.from_numpy(points(50, 2, 0, 100))
    again = pickle.loads(pickle.dumps(wcs))
    assert np.array_equal(again.pixel_to_world(pixels), wcs.pixel_to_world(pixels), equal_nan=True)
    if kind != "TNX":
        tensors = wcs.tensors
        expected = tensors.pixel_to_world(pixels)
        # once used it holds more
        again = pickle.loads(pickle.dumps(tensors))
        assert np.array_equal(again.pixel_to_world(pixels), expected, equal_nan=True)
        assert repr(again) == repr(tensors)


def test_a_wcs_outlives_its_file(tmp_path):
    path = tmp_path / "sky.fits"
    fits.writeto(path, np.zeros((4, 4)), fits.Header.fromstring(cards(**sip()).decode()))
    with torchfits.open(path, cache=False) as file:
        wcs = file[0].wcs
        assert file[0].wcs is wcs
    path.unlink()
    assert wcs.pixel_to_world(torch.ones(2)).isfinite().all()
    with torchfits.open(DATA / "dist_lookup.fits.gz") as file:
        wcs = file[1].wcs
    assert pickle.loads(pickle.dumps(wcs)).pixel_to_world(torch.ones(2)).isfinite().all()


def test_inference_mode_leaves_no_trace(tmp_path):
    """What was made in it serves where a gradient is wanted."""
    for header in (KINDS["TAN"], KINDS["SIP"]):
        with torch.inference_mode():
            wcs = WCS(header)
            wcs.pixel_to_world(torch.zeros(2), backend="torch")
            part = wcs.section((slice(2, None), slice(3, None)), (100, 100))
        for each in (wcs, part, wcs.celestial, pickle.loads(pickle.dumps(wcs))):
            pixels = torch.ones(2, dtype=torch.float64, requires_grad=True)
            each.pixel_to_world(pixels).sum().backward()
            assert pixels.grad.isfinite().all()
            assert (
                each.tensors.replace(crval=each.crval.requires_grad_()).pixel_to_world(pixels).requires_grad
            )


def test_forward_derivatives_are_not_lost():
    wcs = WCS(KINDS["SIP"])
    at, along = torch.tensor([20.0, 30.0], dtype=torch.float64), torch.tensor([1.0, 0.5], dtype=torch.float64)
    with warnings.catch_warnings(), forward_ad.dual_level():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # of what torch itself does at the first dual number
        world = wcs.pixel_to_world(forward_ad.make_dual(at, along))
        slope = forward_ad.unpack_dual(world).tangent
    step = 1e-5
    expected = (wcs.pixel_to_world(at + step * along) - wcs.pixel_to_world(at - step * along)) / (2 * step)
    torch.testing.assert_close(slope, expected, rtol=1e-6, atol=1e-9)
    _, slope = torch.func.jvp(wcs.pixel_to_world, (at,), (along,))
    torch.testing.assert_close(slope, expected, rtol=1e-6, atol=1e-9)
    jacobian = torch.func.jacrev(wcs.world_to_pixel)(wcs.pixel_to_world(at))
    torch.testing.assert_close(jacobian @ expected, along, rtol=1e-6, atol=1e-9)


def test_a_model_is_a_copy():
    wcs = WCS(KINDS["SIP"])
    before = wcs.pixel_to_world(torch.ones(2), backend="torch")
    model = wcs.model
    for tensor in (model.crpix, model.matrix, model.crval, model.sip.a, wcs.crpix, wcs.crval):
        tensor.add_(5)
    for backend in ("torch", "wcslib"):
        torch.testing.assert_close(wcs.pixel_to_world(torch.ones(2), backend=backend), before)


def test_parameters_of_another_shape():
    tensors = WCS(KINDS["SIP"]).tensors
    stack = WCS.stack([WCS(KINDS["TAN"])] * 3)
    for wcs, name, value in (
        (tensors, "crval", torch.zeros(3)),
        (tensors, "crval", torch.zeros(2, 2)),
        (tensors, "a", torch.zeros(2)),
        (tensors, "lonpole", torch.zeros(1)),
        (stack, "crval", torch.zeros(2)),
        (stack, "crval", torch.zeros(4, 2)),
    ):
        with pytest.raises(FitsFormatError, match=f"{name} of shape"):
            wcs.replace(**{name: value})
    with pytest.raises(TypeError, match="tensor"):
        tensors.replace(crval=[1.0, 2.0])


def test_points_of_any_kind():
    wcs = WCS(KINDS["TAN"])
    pixels = np.array([[1.0, 2.0], [3.0, 4.0]])
    expected = wcs.pixel_to_world(torch.from_numpy(pixels))
    read_only = pixels.copy()
    read_only.flags.writeable = False
    for given in (pixels.astype(">f8"), pixels.astype(">i2"), read_only.astype(">f4"), pixels.tolist()):
        assert torch.equal(wcs.pixel_to_world(given), expected)
    for given in (
        None,
        "1 2",
        [[1, 2], [3]],
        torch.ones(2, dtype=torch.bool),
        torch.ones(2, dtype=torch.complex64),
    ):
        with pytest.raises(TypeError, match="points"):
            wcs.pixel_to_world(given)
    assert WCS(KINDS["TAN"].decode()).pixel_to_world(pixels).equal(expected)
    for header in (None, 3, fits.Header()):
        with pytest.raises(TypeError, match="Header"):
            WCS(header)
    for key in (None, 1):
        with pytest.raises(TypeError, match="key"):
            WCS(KINDS["TAN"], key=key)


def test_a_singular_matrix_leaves_no_pixel():
    wcs = WCS(cards(**simple("TAN", PC1_1=1.0, PC1_2=0.0, PC2_1=-0.5, PC2_2=0.0)))
    for backend in ("wcslib", "torch"):
        assert wcs.pixel_to_world([1.0, 2.0], backend=backend).isfinite().all()
        assert wcs.world_to_pixel([30.0, 40.0], backend=backend).isnan().all()


def test_cards_that_only_look_like_some():
    more = cards(**simple())[: -2880 % 80 or None].split(b"END ")[0]
    for card in (
        b"COMMENT AXISCORR was dropped",
        b"AXISCORR= 'no'",
        b"HISTORY A_ORDER = 3, PV1_5 = 1",
        b"AXISCORR=     1",
    ):
        try:
            found = WCS(more + card.ljust(80))
        except (FitsFormatError, FitsUnsupported) as error:
            assert card.startswith(b"AXISCORR")
            assert "AXISCORR" in str(error)  # noqa: PT017
        else:
            assert found.ctype == ("RA---TAN", "DEC--TAN")
    long = b"CTYPE" + b"1" * 75 + b"2" * 4400
    long += b"3" * (-(len(long) + 6) % 80) + b"= 'x'"
    WCS(long.ljust(-(-len(long) // 80) * 80) + b"PV1_5 = 1.0".ljust(80))


def test_shapes_that_are_none():
    wcs = WCS(KINDS["TAN"])
    for shape in ((-5, 3), (0, 3), (10**400, 1), (2.5, 3), (True, 3)):
        with pytest.raises(FitsFormatError):
            wcs.footprint(shape)
    for shape in ((-1, 5), (10**400, 5)):
        with pytest.raises(FitsFormatError):
            wcs.section(None, shape)
    with pytest.raises(FitsFormatError, match="factor"):
        wcs.downsample(10**400)


def test_the_horizon_has_no_pixel():
    wcs = WCS(cards(**simple("TAN", CRVAL2=90.0)))
    for backend in ("wcslib", "torch"):
        pixels, valid = wcs.world_to_pixel([[0.0, 0.0], [40.0, 0.0]], backend=backend, mask=True)
        assert not valid.any()
        assert pixels.isnan().all()


@pytest.mark.parametrize("projection", ["TAN", "SIN"])
def test_what_has_no_answer_is_nan_and_the_rest_is_told(projection):
    more = {"NAXIS": 3, "NAXIS3": 5, "CTYPE3": "FREQ", "CRVAL3": 1e9, "CDELT3": 1e6}
    wcs = WCS(cards(**{**simple(projection), **more}))
    found = wcs.pixel_to_world([[1.0, 2.0, float("nan")], [1.0, float("inf"), 2.0], [1.0, 2.0, float("inf")]])
    assert found.isnan().tolist() == [[False, False, True], [True, True, False], [False, False, True]]
    linear = WCS(cards(NAXIS=2, CRPIX1=1.0, CDELT1=2.0))
    for backend in ("wcslib", "torch"):
        found, valid = linear.pixel_to_world([[float("inf"), 1.0]], backend=backend, mask=True)
        assert found[0, 0].isnan()
        assert not valid.any()


def test_tables_without_a_scale(tmp_path):
    header = fits.Header.fromstring(cards(**simple(), CPDIS1="LOOKUP").decode())
    header.append(("DP1", "EXTVER: 1"))
    table = fits.ImageHDU(np.zeros((3, 3), "f4"), name="WCSDVARR")
    table.header["CDELT1"] = 0.0
    path = tmp_path / "table.fits"
    fits.HDUList([fits.PrimaryHDU(np.zeros((4, 4)), header), table]).writeto(path)
    with torchfits.open(path) as file, pytest.raises(FitsFormatError, match="CDELT of 0") as caught:
        _ = file[0].wcs
    assert caught.value.hdu == 0


def test_what_only_images_have(tmp_path):
    path = tmp_path / "table.fits"
    fits.BinTableHDU.from_columns([fits.Column("A", "D", array=[1.0])]).writeto(path)
    with torchfits.open(path) as file:
        with pytest.raises(TypeError, match="TableHDU"):
            torchfits.cutouts_at(file[1], 1.0, 2.0, 3)
        with pytest.raises(FitsFormatError, match="ra of shape"):
            torchfits.cutouts_at(_sky(tmp_path), [1.0, 2.0, 3.0], [1.0, 2.0], 3)


def _sky(folder) -> torchfits.ImageHDU:
    path = folder / "sky.fits"
    fits.writeto(path, np.zeros((9, 9), "f4"), fits.Header.fromstring(KINDS["TAN"].decode()))
    return torchfits.open(path)[0]


def test_windows_of_distortions_that_are_of_whole_images(tmp_path):
    """TPD of the pixels, as wcslib has it, which astropy carries too; the error of a window says where."""
    header = fits.Header.fromstring(cards(**simple()).decode())
    for axis, term in ((1, 4), (2, 5)):
        header[f"CPDIS{axis}"] = "TPD"
        for record in ("NAXES: 2", "AXIS.1: 1", "AXIS.2: 2", "TPD.FWD.1: 1.0", f"TPD.FWD.{term}: 1e-4"):
            header.append((f"DP{axis}", record))
    path = tmp_path / "sky.fits"
    fits.writeto(path, np.zeros((9, 9), "f4"), header)
    pixels = points(200, 2, 0, 100)
    with quiet():
        right = astropy.wcs.Wcsprm(header=fits.getheader(path).tostring().encode(), key=" ")
        right.set()
        expected = right.p2s(pixels, 0)["world"]
    with torchfits.open(path) as file:
        np.testing.assert_allclose(by_tensor(file[0].wcs.pixel_to_world, pixels), expected, rtol=1e-12)
        for call in (
            lambda: file[0].cutouts_with_wcs([(1, 1)], 2),
            lambda: file[0].read_with_wcs((slice(1, 3),)),
        ):
            with pytest.raises(FitsUnsupported, match="whole images") as caught:
                call()
            assert (str(caught.value.path), caught.value.hdu) == (str(path), 0)
