"""What a WCS becomes for other pixels: those of a section, of a window, or binned ones."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from torchfits.header import Header
from torchfits.wcs_model import Lookup, Sip, numbers


@dataclass(frozen=True, slots=True)
class Resampling:
    """New pixels in terms of old ones, counted as in FITS: p of axis j is step[j] * p + offset[j]."""

    step: tuple[float, ...]
    offset: tuple[float, ...]

    def pixel(self, axis: int, old: float) -> float:
        """Where an old pixel coordinate is among the new ones."""
        return (old - self.offset[axis]) / self.step[axis]

    def header(self, header: Header, key: str) -> Header:
        """The cards that wcslib wrote of a WCS, changed in place: CRPIX, and CDELT or PC."""
        naxis = len(self.step)
        rotated = any(
            header.get(f"PC{i}_{j}{key}") is not None
            for i in range(1, naxis + 1)
            for j in range(1, naxis + 1)
        )
        for j in range(naxis):
            header[f"CRPIX{j + 1}{key}"] = self.pixel(j, header.get(f"CRPIX{j + 1}{key}", 0.0))
            if self.step[j] == 1:
                continue
            if not rotated:
                header[f"CDELT{j + 1}{key}"] = self.step[j] * header.get(f"CDELT{j + 1}{key}", 1.0)
            for i in range(naxis if rotated else 0):
                old = header.get(f"PC{i + 1}_{j + 1}{key}", float(i == j))
                if old:
                    header[f"PC{i + 1}_{j + 1}{key}"] = self.step[j] * old
        return header

    def sip(self, sip: Sip) -> Sip:
        """The same polynomials, which give pixels of pixels."""
        x, y = self.step[:2]

        def scaled(polynomial: torch.Tensor | None, unit: float) -> torch.Tensor | None:
            if polynomial is None:
                return None
            powers = torch.arange(len(polynomial), dtype=torch.float64, device="cpu")
            return polynomial * (x**powers)[:, None] * (y**powers) / unit

        crpix = numbers([self.pixel(j, sip.crpix[j].item()) for j in (0, 1)])
        return Sip(crpix, scaled(sip.a, x), scaled(sip.b, y), scaled(sip.ap, x), scaled(sip.bp, y))

    def lookup(self, lookup: Lookup) -> Lookup:
        """The same table: where its cells are in pixels, and how many pixels it corrects by.

        It is one of its own then, of the EXTVER of its axis.
        """
        step = numbers(self.step[:2])
        offset = numbers(self.offset[:2])
        return Lookup(
            axis=lookup.axis,
            table=lookup.table / self.step[lookup.axis],
            crpix=lookup.crpix,
            crval=(lookup.crval - offset) / step,
            cdelt=lookup.cdelt / step,
            version=lookup.axis + 1,
            swapped=False,
        )
