"""Distortions of pixel and plane coordinates: SIP and TPV polynomials and lookup tables, and their inverse.

A distortion is a function of x and y that returns how far it moves them, and the four derivatives of that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from torchfits.projections import highest_given, root
from torchfits.wcs_model import Lookup, Sip, Tpv

Coefficients = Sequence[Sequence[Tensor]]


class Shift(NamedTuple):
    """How far x and y are moved, and the derivatives of both by x and by y."""

    x: Tensor
    y: Tensor
    xx: Tensor
    xy: Tensor
    yx: Tensor
    yy: Tensor


Distortion = Callable[[Tensor, Tensor], Shift]
Move = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]

STEPS = 20  # of Newton's; all but pathological distortions take three or four


def coefficients(matrix: Tensor) -> Coefficients:
    """Of u^i v^j with i + j up to the order of the matrix (..., i, j)."""
    order = matrix.shape[-1] - 1
    return [[matrix[..., i, j] for j in range(order - i + 1)] for i in range(order + 1)]


def polynomial(c: Coefficients, u: Tensor, v: Tensor) -> Tensor:
    """The sum of c[i][j] u^i v^j."""
    value: Tensor | None = None
    for row in reversed(c):
        inner = row[-1]
        for k in reversed(row[:-1]):
            inner = torch.addcmul(k, inner, v)
        value = inner if value is None else torch.addcmul(inner, value, u)
    assert value is not None
    return value


def polynomial_and_slopes(c: Coefficients, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """`polynomial` and its derivatives by u and v."""
    zero = torch.zeros_like(u)
    value = by_u = by_v = zero
    for power, row in enumerate(reversed(c)):
        inner, slope = row[-1], zero
        for n, k in enumerate(reversed(row[:-1])):
            slope = inner if n == 0 else torch.addcmul(inner, slope, v)
            inner = torch.addcmul(k, inner, v)
        if power > 1:
            by_u = torch.addcmul(value, by_u, u)
            by_v = torch.addcmul(slope, by_v, u)
        elif power == 1:
            by_u, by_v = value, slope
        value = inner if power == 0 else torch.addcmul(inner, value, u)
    return value + zero, by_u + zero, by_v + zero


class SipShift:
    """What SIP adds to pixel coordinates."""

    def __init__(self, sip: Sip):
        self.crpix = sip.crpix
        self.a = None if sip.a is None else coefficients(sip.a)
        self.b = None if sip.b is None else coefficients(sip.b)

    def move(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        u, v = x - self.crpix[..., 0], y - self.crpix[..., 1]
        zero = torch.zeros_like(u)
        return (
            zero if self.a is None else polynomial(self.a, u, v),
            zero if self.b is None else polynomial(self.b, u, v),
        )

    def shift(self, x: Tensor, y: Tensor) -> Shift:
        u, v = x - self.crpix[..., 0], y - self.crpix[..., 1]
        zero = torch.zeros_like(u)
        a, au, av = (zero, zero, zero) if self.a is None else polynomial_and_slopes(self.a, u, v)
        b, bu, bv = (zero, zero, zero) if self.b is None else polynomial_and_slopes(self.b, u, v)
        return Shift(a, b, au, av, bu, bv)


# PVi_m is the coefficient of r, r^3, r^5 or r^7 for m = 3, 11, 23 and 39, for others that of a power of the
# coordinate of axis i times a power of the other coordinate
_RADIAL = [3, 11, 23, 39]
_POWERS = [(degree - j, j) for degree in range(8) for j in range(degree + 1)]
_TERMS = [m for m in range(40) if m not in _RADIAL]


def _tpv_polynomial(pv: Tensor, highest: int, transposed: bool) -> Coefficients:
    """PVi_0 to PVi_39 (..., 40) of one axis as coefficients of powers of x and y."""
    order = max(i + j for m, (i, j) in zip(_TERMS, _POWERS, strict=True) if m <= highest)
    zero = torch.zeros_like(pv[..., 0])
    c = [[zero] * (order - i + 1) for i in range(order + 1)]
    for m, (i, j) in zip(_TERMS, _POWERS, strict=True):
        if i + j <= order:
            i, j = (j, i) if transposed else (i, j)
            c[i][j] = pv[..., m]
    return c


class TpvShift:
    """How far TPV moves intermediate world coordinates."""

    def __init__(self, tpv: Tpv):
        pv = tpv.pv
        highest = max(1, highest_given(pv))
        self.x = _tpv_polynomial(pv[..., 0, :], highest, False)
        self.y = _tpv_polynomial(pv[..., 1, :], highest, True)
        radial = _RADIAL[: highest_given(pv[..., _RADIAL]) + 1]
        self.rx, self.ry = ([pv[..., axis, m] for m in radial] for axis in (0, 1))

    def move(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        dx, dy = polynomial(self.x, x, y) - x, polynomial(self.y, x, y) - y
        if self.rx:
            r = root(x * x + y * y)
            dx, dy = dx + _odd(self.rx, r)[0], dy + _odd(self.ry, r)[0]
        return dx, dy

    def shift(self, x: Tensor, y: Tensor) -> Shift:
        a, au, av = polynomial_and_slopes(self.x, x, y)
        b, bu, bv = polynomial_and_slopes(self.y, x, y)
        if self.rx:
            r = root(x * x + y * y)
            away = torch.where(r == 0, 1.0, r)
            ra, sa = _odd(self.rx, r)
            rb, sb = _odd(self.ry, r)
            a, au, av = a + ra, au + sa * x / away, av + sa * y / away
            b, bu, bv = b + rb, bu + sb * x / away, bv + sb * y / away
        return Shift(a - x, b - y, au - 1, av, bu, bv - 1)


def _odd(c: Sequence[Tensor], r: Tensor) -> tuple[Tensor, Tensor]:
    """The sum of c[k] r^(2k + 1), and its derivative."""
    square = r * r
    value, slope = torch.zeros_like(r), torch.zeros_like(r)
    for k in reversed(range(len(c))):
        value = value * square + c[k]
        slope = slope * square + (2 * k + 1) * c[k]
    return value * r, slope


class LookupShift:
    """What tables add to pixel coordinates, interpolated linearly; outside a table its border goes on."""

    def __init__(self, lookups: Sequence[Lookup]):
        self.lookups = tuple(lookups)

    def move(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        shift = self.shift(x, y)
        return shift.x, shift.y

    def shift(self, x: Tensor, y: Tensor) -> Shift:
        zero = torch.zeros_like(x + y)
        sums = [zero] * 6
        for table in self.lookups:
            value, by_x, by_y = _interpolate(table, x, y)
            first = 2 + 2 * table.axis
            for k, term in ((table.axis, value), (first, by_x), (first + 1, by_y)):
                sums[k] = sums[k] + term
        return Shift(*sums)


def _interpolate(lookup: Lookup, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The value of a table at pixel coordinates, and its derivatives."""
    table = lookup.table
    rows, columns = table.shape[-2:]
    column, right, step_x = _cell(
        (x - lookup.crval[..., 0]) / lookup.cdelt[..., 0] + lookup.crpix[..., 0], columns
    )
    row, below, step_y = _cell((y - lookup.crval[..., 1]) / lookup.cdelt[..., 1] + lookup.crpix[..., 1], rows)
    flat = table.flatten(-2)
    if flat.dim() > 1:  # stacked: (B, 1, rows * columns)
        flat = flat.squeeze(-2)

    def at(dy: int, dx: int) -> Tensor:
        index = (row + dy).clamp(max=rows - 1) * columns + (column + dx).clamp(max=columns - 1)
        return flat[index] if flat.dim() == 1 else flat.gather(-1, index)

    upper, lower = at(0, 0), at(1, 0)
    upper_slope, lower_slope = at(0, 1) - upper, at(1, 1) - lower
    upper, lower = upper + right * upper_slope, lower + right * lower_slope
    by_x = (upper_slope + below * (lower_slope - upper_slope)) * step_x / lookup.cdelt[..., 0]
    by_y = (lower - upper) * step_y / lookup.cdelt[..., 1]
    return upper + below * (lower - upper), by_x, by_y


def _cell(position: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Index, from 0, of the cell of a position, from 1; how far along it is; 1, or 0 outside the table."""
    inside = (position >= 1) & (position <= size)
    position = (position - 1).clamp(0, size - 1)
    index = position.detach().floor()
    return index.long(), position - index, inside.to(position.dtype)


def undo(
    distortion: Distortion, x: Tensor, y: Tensor, guess: Move | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """What a distortion moves to x, y, and whether it was found; differentiable twice.

    `guess` tells about how far x and y are moved back.
    """
    with torch.no_grad():
        dx, dy = (0.0, 0.0) if guess is None else guess(x, y)
        u, v = x + dx, y + dy
        for _ in range(STEPS):
            before_u, before_v = u, v
            u, v = _newton(distortion, u, v, x, y)
            # what is still missing is of the order of the square
            found = torch.maximum((u - before_u).abs(), (v - before_v).abs()) <= 1e-6
            if not torch.compiler.is_compiling() and bool(found.all()):
                break
        u, v = torch.where(found, u, 0.0), torch.where(found, v, 0.0)
    if torch.is_grad_enabled():
        x, y = torch.where(found, x, 0.0), torch.where(found, y, 0.0)
        for _ in range(2):  # the first step gives the first derivative, one more the second
            u, v = _newton(distortion, u, v, x, y)
    return u, v, found


def _newton(distortion: Distortion, u: Tensor, v: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    s = distortion(u, v)
    off_x, off_y = u + s.x - x, v + s.y - y
    xx, yy = 1 + s.xx, 1 + s.yy
    determinant = xx * yy - s.xy * s.yx
    determinant = torch.where(determinant.abs() < 1e-9, 1.0, determinant)
    return u - (yy * off_x - s.xy * off_y) / determinant, v - (xx * off_y - s.yx * off_x) / determinant
