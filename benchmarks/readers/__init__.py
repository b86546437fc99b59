"""The readers of the race: a module each, with VERSION and WAYS.

WAYS maps a kind of case to the library's documented ways of doing it; the fastest that reads right is timed.
A way takes a path, or a list of paths, and ends in torch tensors; one that writes ends in what reads it back.
`before`, where there is one, is called before every way and is not timed.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping

import numpy as np
import torch

SIZE = 256
_random = random.Random(0)
CUTOUTS = [(_random.randrange(8192 - SIZE), _random.randrange(8192 - SIZE)) for _ in range(200)]
STAMP = 128
STAMPS = [(_random.randrange(4096 - STAMP), _random.randrange(4096 - STAMP)) for _ in range(200)]
KEYS = ["OBJECT", "NCOMBINE", "EXPTIME"]
COLUMNS, WIDE_COLUMNS = ["ID", "RA", "MAG_G"], ["C20", "C41"]
FIRST, LAST = 500_000, 600_000
ROWS = random.Random(1).sample(range(1_000_000), 20_000)
WHERE = "MAG_G < 17 & CLASS == 2"


def within_a_step(found: torch.Tensor, written: torch.Tensor) -> torch.Tensor:
    """Which quantized pixels, of noise 30, are what was written: seeds may differ."""
    return (found - written).abs() < 8


def points(path: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Pixels, from 0, and where they are in the sky in degrees; (N, 2) float64 each."""
    pixels, world = (torch.from_numpy(np.load(f"{path}.{name}.npy")) for name in ("pixels", "world"))
    return pixels, world


def near(found: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Which points, in pixels or degrees, are where they must be."""
    return (found - wanted).abs() < 1e-6


def doubles(values: list[float]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def lookups(found: Iterable[Mapping]) -> dict[str, object]:
    """The values of KEYS of many headers."""
    names, counts, times = zip(*([header[key] for key in KEYS] for header in found), strict=True)
    return dict(zip(KEYS, (list(names), torch.tensor(counts), doubles(times)), strict=True))
