"""WCS of headers that nobody should trust; many threads, forks and pickles of one WCS."""

from __future__ import annotations

import contextlib
import copy
import os
import pickle
import random
import threading

import numpy as np
import pytest
import torch
from wcs_headers import HEADERS, cards, header_bytes, points, quiet, simple, sip

import torchfits
from torchfits import WCS, FitsError, FitsFormatError, FitsUnsupported

pytestmark = pytest.mark.native


def lines(*more: str, plain: str = "TAN") -> bytes:
    """An ordinary header, then any cards."""
    start = cards(**simple(plain))
    start = start[: start.index(b"END ")]
    return start + b"".join(line.encode("latin-1").ljust(80)[:80] for line in more)


TNX = "CTYPE1  = 'RA---TNX'|CTYPE2  = 'DEC--TNX'"
REFUSED = [
    ("WCSAXES =                   33", FitsUnsupported, "at most 32"),
    ("WCSAXES =           2000000000", FitsUnsupported, "at most 32"),
    ("WCSAXES = 99999999999999999999", FitsUnsupported, "at most 32"),
    ("NAXIS   =                  999", FitsUnsupported, "at most 32"),
    ("CRPIX99 =                  1.0", FitsUnsupported, "99 axes"),
    ("CTYPE1  = 'RA---XXX'", FitsFormatError, "XXX in CTYPE1"),
    ("CTYPE1  = 'GLON-TAN'", FitsFormatError, "CTYPE2"),
    ("CTYPE1  = 'DEC--TAN'", FitsFormatError, "CTYPE2"),
    ("CUNIT1  = 'm'", FitsFormatError, "CUNIT1"),
    ("CDELT1  =                  0.0", FitsFormatError, "ingular"),
    ("A_ORDER = 3", FitsFormatError, "A_ORDER without B_ORDER"),
    ("B_ORDER = 3|A_ORDER = 99", FitsUnsupported, "A_ORDER = 99"),
    ("B_ORDER = 3|A_ORDER = 1E300", FitsUnsupported, "A_ORDER = 1e"),
    ("B_ORDER = 3|A_ORDER = -7", FitsFormatError, "A_ORDER = -7"),
    ("B_ORDER = 3|A_ORDER = 2.5", FitsFormatError, "A_ORDER = 2.5"),
    ("B_ORDER = 'x'|A_ORDER = 2", FitsFormatError, "B_ORDER = 'x'"),
    ("B_ORDER = 3|A_ORDER = 3|A_1_1   = 'many'", FitsFormatError, "A_1_1 = 'many'"),
    ("B_ORDER = 3|A_ORDER = 3|A_1_1   = T", FitsFormatError, "A_1_1 = True"),
    ("CPDIS1  = 'Lookup'", FitsUnsupported, "hdus="),
    ("D2IMDIS2= 'lookup'", FitsUnsupported, "hdus="),
    ("CPDIS1  = 'Lookup'|DP1     = 'EXTVER: x'", FitsFormatError, "DP1"),
    ("CPDIS1  = 'TPV'|DP1     = 'NAXES: 2'|DP1     = 'AXIS.9: 1'", FitsFormatError, "no such axis"),
    ("CPDIS1  = 'TPD'|DP1     = 'NAXES: 2'|DP1     = 'OFFSET.40: 1'", FitsFormatError, "no such axis"),
    ("CPDIS1  = 'TPD'|DP1     = 'NAXES: 1E9'", FitsFormatError, "no such axis"),
    ("CTYPE1  = 'WAVE-TAB'|CTYPE2  = 'LINEAR'", FitsFormatError, "PS1_0 and PS1_1"),
    (f"{TNX}|WAT1_001= 'wtype=tnx lngcor = \"1. 99999. 4. 2. 0. 0. 0. 0. \"'", FitsFormatError, "WAT cards"),
    (f"{TNX}|WAT2_001= 'wtype=tnx latcor = '", FitsFormatError, "WAT cards"),
]


@pytest.mark.parametrize(("more", "error", "message"), REFUSED)
def test_refused(more, error, message):
    with pytest.raises(error, match=message):
        WCS(lines(*more.split("|")))


ODD = [
    "CRVAL1  =                  NaN",
    "CRVAL1  =                1E999",
    "CD1_1   =                1E308",
    "CRPIX1  = 'nine'",
    "CTYPE1  = 'RA---TAN",
    "CTYPE1  = 'it''s'",
    "CTYPE1  =",
    "CTYPE1  ='           'RA---CYP|CTYPE2  = '" + "x" * 66 + "'",
    "CTYPE1  = '" + "A" * 67 + "'",
    "CTYPE1  = '\x00\x01\x7f\xff\n'",
    "WCSAXES =                   -1",
    "WCSAXES = 'two'",
    "PV2_1   =                 -1E9",
    "PV99_99 =                  1.0",
    "PV0_0   =                  1.0",
    "PROJP9  =                  1.0",
    "LONPOLE =                1E300",
    "DATE-OBS= '99999-99-99T99:99:99.99999999999999999999999999999999'",
    "MJDREF  =                1E300",
    "OBSGEO-X=                1E300",
    "WAT1_001= 'wtype=abcdefghijklmnopqrstuvwxyz'|WAT2_001= 'wtype=tnx'",
    "WAT1_001= 'wtype=tnx lngcor = \"1. 99999. 99999. 2. 0. 0. 0. 0. \"'|WAT2_001= 'wtype=tnx'",
    "WAT1_999= 'wtype=zpx projp-9=1'|WAT2_001= 'wtype=zpx projp-5=1.'",
    "AMDX1   = 1|AMDX2   0 = 1",
    "AMDX20  = 1.0|PLTRAH  = 1",
    "PLATEID = '" + "x" * 60 + "'",
    "VELREF  =          99999999999",
    "CTYPE1  = 'VOPT    '|CTYPE2  = 'LINEAR'|VELREF  = 257|SPECSYS = 'x'",
    "EQUINOX = 'B1950'|RADESYS = 12",
    "RESTFRQ =                  0.0|CTYPE1  = 'VRAD-F2W'|CTYPE2  = 'LINEAR'",
]


@pytest.mark.parametrize("more", ODD)
@pytest.mark.parametrize("projection", ["TAN", "ZPN", "TNX", "CSC"])
def test_odd_cards_do_no_harm(more, projection, capfd):
    with quiet(), contextlib.suppress(FitsError):
        wcs = WCS(lines(*more.split("|"), plain=projection))
        pixels = torch.from_numpy(points(50, wcs.naxis, -1e6, 1e6))
        wcs.world_to_pixel(wcs.pixel_to_world(pixels))
        _ = wcs.to_header(), wcs.pixel_scale, repr(wcs)
    out, err = capfd.readouterr()
    # of what wcslib does with absurd numbers UndefinedBehaviorSanitizer has something to say
    assert (out, err if "runtime error" not in err else "") == ("", "")


def test_cards_by_the_thousand():
    many = [f"PV{i % 2 + 1}_{i // 2 % 5}   = 0.0" for i in range(20000)]
    many += [f"PS1_{i % 99}   = 'x'" for i in range(20000)] + ["CRPIX1  = 3.0"] * 20000
    wcs = WCS(lines(*many))
    assert wcs.crpix[0] == 3


def test_headers_with_changed_bytes():
    chance = random.Random(6)
    for name in chance.sample(HEADERS, 12):
        raw = header_bytes(name)
        for _ in range(60):
            changed = bytearray(raw)
            for _ in range(chance.randrange(1, 12)):
                at = chance.randrange(len(changed))
                changed[at : at + 1] = bytes([chance.choice(b"'\"=-./019AETZ \x00\xff")])
            with quiet(), contextlib.suppress(FitsError):
                wcs = WCS(bytes(changed))
                pixels = torch.from_numpy(points(8, wcs.naxis, -100, 300))
                wcs.world_to_pixel(wcs.pixel_to_world(pixels))


# ---------------------------------------------------------------------------- threads and processes


@pytest.mark.parametrize("header", [simple(), simple("ZEA"), sip(), simple("TPV", PV1_1=1.0, PV2_1=1.0)])
def test_eight_threads(header):
    wcs, count = WCS(cards(**header)), torch.get_num_threads()
    pixels = [torch.from_numpy(points(30000, 2, -20, 120, seed)) for seed in range(8)]
    torch.set_num_threads(1)
    try:
        right = [(wcs.pixel_to_world(each), wcs.world_to_pixel(wcs.pixel_to_world(each))) for each in pixels]
    finally:
        torch.set_num_threads(max(count, 2))
    found: list = [None] * 8

    def work(i):
        for _ in range(3):
            world = wcs.pixel_to_world(pixels[i])
            found[i] = world, wcs.world_to_pixel(world)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    torch.set_num_threads(count)
    for (world, back), (right_world, right_back) in zip(found, right, strict=True):
        assert torch.equal(world, right_world)
        assert torch.equal(back, right_back)


def test_pickles_and_copies():
    for raw in (cards(**simple()), cards(**sip(inverse=True)), header_bytes("3d_cd.hdr")):
        wcs = WCS(raw)
        pixels = torch.from_numpy(points(99, wcs.naxis, 0, 100))
        for other in (pickle.loads(pickle.dumps(wcs)), copy.copy(wcs), copy.deepcopy(wcs.celestial)):
            assert repr(other) in (repr(wcs), repr(wcs.celestial))
            if other.naxis == wcs.naxis:
                assert torch.equal(other.pixel_to_world(pixels), wcs.pixel_to_world(pixels))


def test_after_a_fork():
    wcs, pixels = WCS(cards(**simple("ARC"))), torch.from_numpy(points(2000, 2, 0, 100))
    right = wcs.pixel_to_world(pixels).numpy()
    pid = os.fork()
    if pid == 0:  # torch's own threads are gone here, so that it may not compare
        os._exit(0 if np.array_equal(wcs.pixel_to_world(pixels).numpy(), right) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_blocks_and_threads_change_nothing():
    for raw in (cards(**simple("MOL", CDELT1=-3.0, CDELT2=3.0)), cards(**sip())):
        wcs = WCS(raw)
        pixels = torch.from_numpy(points(5001, 2, -20, 120))
        whole = wcs.pixel_to_world(pixels)
        parts = torch.cat([wcs.pixel_to_world(part) for part in pixels.split(7)])
        assert np.array_equal(whole, parts, equal_nan=True)


def test_hdus_of_many_threads_share_one(tmp_path):
    path = tmp_path / "a.fits"
    torchfits.writeto(path, torch.zeros(4, 4), header=torchfits.Header.from_bytes(cards(**simple())))
    with torchfits.open(path) as file:
        seen = set()
        threads = [threading.Thread(target=lambda: seen.add(id(file[0].wcs))) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert seen == {id(file[0].wcs)}
