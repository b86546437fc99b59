"""The map projections of Calabretta and Greisen (2002), between the plane and the native sphere, in torch.

Everything here is in units of the sphere's radius and in radians; points of the sphere are the direction
cosines l = cos(theta) cos(phi), m = cos(theta) sin(phi), n = sin(theta). So the native pole is a point like
any other, and the zenithal projections need no angles at all. What `to_sphere` returns is a direction of any
length; what `from_sphere` is given has length one.

A point outside a projection is not valid; what it is mapped to means nothing, but is finite, and its gradient
is too. The bounds are those of wcslib.
"""

# ruff: noqa: E741 (l, m and n are what the direction cosines are called)

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

Constants = tuple[Tensor, ...]
Direction = tuple[Tensor, Tensor, Tensor, Tensor]  # l, m, n, valid
PlanePoint = tuple[Tensor, Tensor, Tensor]  # x, y, valid

DEGREE = math.pi / 180
SLACK = 1e-14  # by which rounding may take a point past a bound


class Projection(NamedTuple):
    """Both ways of a projection; `constants` makes of PVi_m what the two need."""

    constants: Callable[[Tensor], Constants]
    to_sphere: Callable[[Tensor, Tensor, Constants], Direction]
    from_sphere: Callable[[Tensor, Tensor, Tensor, Constants], PlanePoint]


def root(square: Tensor) -> Tensor:
    """The square root; 0, with no gradient, of what is not positive."""
    positive = square > 0
    return torch.where(positive, torch.where(positive, square, 1.0).sqrt(), 0.0)


def quotient(a: Tensor, b: Tensor) -> Tensor:
    """a / b; `a` where b is 0."""
    return a / torch.where(b == 0, 1.0, b)


def angle(y: Tensor, x: Tensor) -> Tensor:
    """atan2(y, x); 0, with no gradient, at the origin."""
    return torch.atan2(y, torch.where((x == 0) & (y == 0), 1.0, x))


def arcsine(sine: Tensor) -> Tensor:
    """The angle with this sine; at 1 and beyond, a quarter turn with no gradient."""
    inside = sine.abs() < 1
    return torch.where(inside, torch.asin(torch.where(inside, sine, 0.0)), sine.sign() * (math.pi / 2))


def highest_given(parameters: Tensor) -> int:
    """The last of some parameters (..., m) that is not 0, or -1; of those that want a gradient the last."""
    given = parameters.detach().reshape(-1, parameters.shape[-1]).ne(0).any(0).nonzero().flatten().tolist()
    return parameters.shape[-1] - 1 if parameters.requires_grad else max(given, default=-1)


def sind(degrees: Tensor) -> Tensor:
    """The sine, exact at multiples of 90 degrees."""
    sine = torch.sin(degrees * DEGREE)
    return torch.where(torch.remainder(degrees, 180) == 0, sine - sine.detach(), sine)


def cosd(degrees: Tensor) -> Tensor:
    """The cosine, exact at multiples of 90 degrees."""
    cosine = torch.cos(degrees * DEGREE)
    return torch.where(torch.remainder(degrees, 180) == 90, cosine - cosine.detach(), cosine)


def horner(coefficients: Constants, x: Tensor) -> Tensor:
    """The polynomial of x with these coefficients, the constant one first."""
    value = coefficients[-1]
    for c in reversed(coefficients[:-1]):
        value = value * x + c
    return value


def horner_slope(coefficients: Constants, x: Tensor) -> Tensor:
    """The derivative of `horner`."""
    return horner(tuple(i * c for i, c in enumerate(coefficients))[1:], x)


def _everywhere(x: Tensor, y: Tensor) -> Tensor:
    return torch.ones_like(x + y, dtype=torch.bool)


def _direction(phi: Tensor, theta: Tensor, valid: Tensor | None = None) -> Direction:
    """Of native coordinates, valid where they are in their range, and where `valid` says so."""
    inside = (phi.abs() <= math.pi + SLACK) & (theta.abs() <= math.pi / 2 + SLACK)
    cosine = torch.cos(theta)
    return (
        cosine * torch.cos(phi),
        cosine * torch.sin(phi),
        torch.sin(theta),
        inside if valid is None else inside & valid,
    )


def _around(phi: Tensor, distance: Tensor, n: Tensor, valid: Tensor) -> Direction:
    """The direction with longitude phi, a distance from the axis, and n along it."""
    inside = phi.abs() <= math.pi + SLACK
    return distance * torch.cos(phi), distance * torch.sin(phi), n, inside & valid


def _native(l: Tensor, m: Tensor, n: Tensor) -> tuple[Tensor, Tensor]:
    """phi and theta."""
    return angle(m, l), torch.atan2(n, root(l * l + m * m))


def _no_constants(pv: Tensor) -> Constants:
    return ()


def _pv(*which: int) -> Callable[[Tensor], Constants]:
    """Some of PVi_m as they are."""
    return lambda pv: tuple(pv[..., k] for k in which)


# zenithal


def _tan_to(x: Tensor, y: Tensor, c: Constants) -> Direction:
    return -y, x, torch.ones_like(x), _everywhere(x, y)


def _tan_from(l: Tensor, m: Tensor, n: Tensor, c: Constants) -> PlanePoint:
    valid = n > SLACK
    n = torch.where(valid, n, 1.0)
    return m / n, -l / n, valid


def _stg_to(x: Tensor, y: Tensor, c: Constants) -> Direction:
    return -y, x, 1 - (x * x + y * y) / 4, _everywhere(x, y)


def _stg_from(l: Tensor, m: Tensor, n: Tensor, c: Constants) -> PlanePoint:
    valid = n > -1
    scale = 2 / torch.where(valid, 1 + n, 1.0)
    return scale * m, -scale * l, valid


def _oblique(x: Tensor, y: Tensor, xi: Tensor, eta: Tensor) -> Direction:
    """The point nearest to the pole on the line that moves from (x, y) by (xi, eta) for each unit of 1 - n.

    With z = 1 - n it is (x - xi z)^2 + (y - eta z)^2 = 1 - (1 - z)^2: the lesser z of two.
    """
    a = 1 + xi * xi + eta * eta
    b = 1 + x * xi + y * eta
    square = x * x + y * y
    discriminant = b * b - a * square
    valid = (discriminant >= 0) & (b > 0)
    z = square / torch.where(valid, b + root(discriminant), 1.0)
    return eta * z - y, x - xi * z, 1 - z, valid & (z <= 2 + SLACK)


def _sin_to(x: Tensor, y: Tensor, c: Constants) -> Direction:
    return _oblique(x, y, *c)


def _sin_from(l: Tensor, m: Tensor, n: Tensor, c: Constants) -> PlanePoint:
    xi, eta = c
    z = _one_minus(n, l * l + m * m)
    return m + xi * z, eta * z - l, n >= eta * l - xi * m - SLACK


def _one_minus(n: Tensor, square: Tensor) -> Tensor:
    """1 - n without cancellation near the pole; `square` is 1 - n^2."""
    north = n > 0
    return torch.where(north, square / torch.where(north, 1 + n, 1.0), 1 - n)


def _at_distance(
    x: Tensor, y: Tensor, distance: Tensor, slope: Tensor | float
) -> tuple[Tensor, Tensor, Tensor]:
    """The direction at some distance from the pole; `slope` is distance by radius where both are 0."""
    r = root(x * x + y * y)
    scale = torch.where(r == 0, slope, quotient(torch.sin(distance), r))
    return -y * scale, x * scale, torch.cos(distance)


def _at_radius(l: Tensor, m: Tensor, r: Tensor, slope: Tensor | float) -> tuple[Tensor, Tensor]:
    """The point at radius r; `slope` is radius by distance where both are 0."""
    sine = root(l * l + m * m)
    pole = sine == 0
    scale = torch.where(pole, slope, quotient(r, sine))
    return scale * m, -scale * l - torch.where(pole, r, 0.0)


def _distance(l: Tensor, m: Tensor, n: Tensor) -> Tensor:
    """The distance from the pole."""
    return torch.atan2(root(l * l + m * m), n)


def _arc_to(x: Tensor, y: Tensor, c: Constants) -> Direction:
    r = root(x * x + y * y)
    return *_at_distance(x, y, r, 1.0), r <= math.pi + SLACK


def _arc_from(l: Tensor, m: Tensor, n: Tensor, c: Constants) -> PlanePoint:
    return *_at_radius(l, m, _distance(l, m, n), 1.0), _everywhere(l, m)


def _zea_to(x: Tensor, y: Tensor, c: Constants) -> Direction:
    square = (x * x + y * y) / 4
    cosine = root(1 - square)
    return -y * cosine, x * cosine, 1 - 2 * square, square <= 1 + SLACK


def _zea_from(l: Tensor, m: Tensor, n: Tensor, c: Constants) -> PlanePoint:
    square = l * l + m * m
    north = n > 0
    ahead = (2 / torch.where(north, 1 + n, 1.0)).sqrt()
    behind = quotient(root(2 * (1 - n)), root(square))
    scale = torch.where(north, ahead, behind)
    return scale * m, -scale * l, _everywhere(l, m)


def _azp_constants(pv: Tensor) -> Constants:
    mu, gamma = pv[..., 1], pv[..., 2]
    far = mu.abs() > 1
    overlap = torch.where(
        far, -1 / torch.where(far, mu, 1.0), -1.0
    )  # sin(theta) below which it overlaps itself
    return mu, cosd(gamma), sind(gamma), overlap.detach()


def _azp_to(x: Tensor, y: Tensor, c: Constants) -> Direction:
    mu, cosine, sine, _ = c
    q = (mu + 1) + y * sine
    apart = q != 0
    q = torch.where(apart, q, 1.0)
    u, v = x / q, -y * cosine / q
    square = u * u + v * v
    discriminant = 1 + square * (1 - mu * mu)
    w = root(discriminant)
    # the two points on the line of sight, by sin(theta) and, with the sign of q, cos(theta)
    n1, n2 = (w - mu * square) / (1 + square), -(w + mu * square) / (1 + square)
    r1, r2 = (w + mu) / (1 + square), (mu - w) / (1 + square)
    seen1, seen2 = r1 * q >= 0, r2 * q >= 0
    first = seen1 & (~seen2 | (n1 >= n2))
    r, n = torch.where(first, r1, r2), torch.where(first, n1, n2)
    return v * r, u * r, n, apart & (discriminant >= -SLACK) & (seen1 | seen2)


def _azp_from(l: Tensor, m: Tensor, n: Tensor, c: Constants) -> PlanePoint:
    mu, cosine, sine, _ = c
    t = mu + n + l * sine / cosine
    valid = t != 0
    scale = (mu + 1) / torch.where(valid, t, 1.0)
    return scale * m, -scale * l / cosine, valid & _azp_bounds(l, m, n, c)


@torch.no_grad()
def _azp_bounds(l: Tensor, m: Tensor, n: Tensor, c: Constants) -> Tensor:
    mu, cosine, sine, overlap = c
    phi, theta = _native(l, m, n)
    s = sine / cosine * torch.cos(phi)
    t = mu / (1 + s * s).sqrt()
    diverges = ((mu * cosine).abs() < 1) & (t.abs() <= 1)
    return (n >= overlap) & (~diverges | (theta >= _highest(torch.atan(-s), t)))


def _highest(s: Tensor, sine: Tensor) -> Tensor:
    """The greater of the two latitudes s - t and s + t + pi, t being the angle with this sine."""
    t = arcsine(sine)
    a, b = s - t, s + t + math.pi
    a = torch.where(a > math.pi / 2, a - 2 * math.pi, a)
    b = torch.where(b > math.pi / 2, b - 2 * math.pi, b)
    return torch.maximum(a, b)


def _szp_constants(pv: Tensor) -> Constants:
    mu, phi, theta = pv[..., 1], pv[..., 2], pv[..., 3]
    return mu, -mu * cosd(theta) * sind(phi), mu * cosd(theta) * cosd(phi), mu * sind(theta) + 1


def _szp_to(x: Tensor, y: Tensor, c: Constants) -> Direction:
    _, xp, yp, zp = c
    return _oblique(x, y, (x - xp) / zp, (y - yp) / zp)


def _szp_from(l: Tensor, m: Tensor, n: Tensor, c: Constants) -> PlanePoint:
    _, xp, yp, zp = c
    z = _one_minus(n, l * l + m * m)
    t = zp - z
    valid = t != 0
    t = torch.where(valid, t, 1.0)
    return (zp * m - xp * z) / t, -(zp * l + yp * z) / t, valid & _szp_bounds(l, m, n, c)


@torch.no_grad()
def _szp_bounds(l: Tensor, m: Tensor, n: Tensor, c: Constants) -> Tensor:
    mu, xp, yp, zp = c
    phi, theta = _native(l, m, n)
    diverges = ((zp - 1).abs() < 1) & (n < 1 - zp)
    s = xp * torch.sin(phi) - yp * torch.cos(phi)
    square = (zp - 1) * zp - 1 + s * s
    t = 1 / torch.where(square > 0, square, 0.25).sqrt()
    overlaps = (mu.abs() > 1) & (t <= 1) & (theta < _highest(torch.atan2(s, zp - 1), t))
    return ~diverges & ~overlaps


_STEPS = 40  # each halves the interval, or does better


def _inverse(
    function: Callable[[Tensor], Tensor],
    slope: Callable[[Tensor], Tensor],
    wanted: Tensor,
    below: Tensor,
    above: Tensor,
) -> Tensor:
    """Where a function that grows between two bounds takes a value; differentiable twice."""
    with torch.no_grad():
        below, above = torch.zeros_like(wanted) + below, torch.zeros_like(wanted) + above
        x = (below + above) / 2
        for _ in range(_STEPS):
            excess = function(x) - wanted
            over = excess > 0
            below, above = torch.where(over, below, x), torch.where(over, x, above)
            newton = x - quotient(excess, slope(x))
            x = torch.where((newton >= below) & (newton <= above), newton, (below + above) / 2)
    for _ in range(2):  # a step of Newton's gives the first derivative, one more the second
        steepness = slope(x)
        flat = steepness.abs() < 1e-9
        x = x - torch.where(flat, 0.0, (function(x) - wanted) / torch.where(flat, 1.0, steepness))
    return x


def _zpn_constants(pv: Tensor) -> Constants:
    """How far from the pole the polynomial grows, its value there, and the coefficients."""
    order = max(1, highest_given(pv))
    coefficients = tuple(pv[..., k] for k in range(order + 1))
    with torch.no_grad():
        limit = torch.full_like(pv[..., 0], math.pi)
        if order > 1:
            slopes = tuple(k * c.unsqueeze(-1) for k, c in enumerate(coefficients))[1:]
            degrees = torch.arange(180, dtype=pv.dtype, device=pv.device) * DEGREE
            falling = horner(slopes, degrees.expand(*limit.shape, 180)) <= 0
            first = falling.int().argmax(-1)
            low, high = degrees[(first - 1).clamp(min=0)], degrees[first]
            for _ in range(60):
                middle = (low + high) / 2
                rises = horner_slope(coefficients, middle) > 0
                low, high = torch.where(rises, middle, low), torch.where(rises, high, middle)
            limit = torch.where(falling.any(-1), low, limit)
        return limit, horner(coefficients, limit), *coefficients


def _zpn_to(x: Tensor, y: Tensor, c: Constants) -> Direction:
    limit, top, *rest = c
    sign = torch.where(top < rest[0], -1.0, 1.0)  # a line may go down
    coefficients = tuple(sign * k for k in rest)
    r = sign * root(x * x + y * y)
    valid = (r >= coefficients[0] - SLACK) & (r <= sign * top + SLACK)
    distance = _inverse(
        lambda d: horner(coefficients, d),
        lambda d: horner_slope(coefficients, d),
        torch.where(valid, r, coefficients[0]),
        torch.zeros_like(limit),
        limit,
    )
    return *_at_distance(x, y, distance, 1 / torch.where(rest[1] == 0, 1.0, rest[1])), valid


def _zpn_from(l: Tensor, m: Tensor, n: Tensor, c: Constants) -> PlanePoint:
    limit, _, *coefficients = c
    distance = _distance(l, m, n)
    r = horner(tuple(coefficients), distance)
    return *_at_radius(l, m, r, coefficients[1]), distance <= limit


def _air_constants(pv: Tensor) -> Constants:
    cosine = cosd((90 - pv[..., 1]) / 2)
    square = torch.where(cosine == 1, 0.5, 1 - cosine * cosine)
    return (torch.where(cosine == 1, -0.5, torch.log(cosine) * cosine * cosine / square),)


def _air_radius(xi: Tensor, w: Tensor) -> Tensor:
    """Half the radius, by half the distance from the pole."""
    tangent = torch.tan(xi)
    return -quotient(torch.log1p(-2 * torch.sin(xi / 2) ** 2), tangent) - w * tangent


def _air_slope(xi: Tensor, w: Tensor) -> Tensor:
    sine = torch.sin(xi)
    near = sine == 0
    part = torch.log1p(-2 * torch.sin(xi / 2) ** 2) / torch.where(near, 1.0, sine * sine)
    return 1 + torch.where(near, -0.5, part) - w / torch.cos(xi) ** 2


def _air_to(x: Tensor, y: Tensor, c: Constants) -> Direction:
    (w,) = c
    r = root(x * x + y * y) / 2
    limit = torch.full_like(w, math.pi / 2 - 1e-9)
    valid = r <= _air_radius(limit, w)
    wanted = torch.where(valid, r, 0.0)
    xi = _inverse(lambda a: _air_radius(a, w), lambda a: _air_slope(a, w), wanted, torch.zeros_like(w), limit)
    return *_at_distance(x, y, 2 * xi, 1 / (0.5 - w)), valid


def _air_from(l: Tensor, m: Tensor, n: Tensor, c: Constants) -> PlanePoint:
    (w,) = c
    valid = n > -1
    xi = _distance(l, m, torch.where(valid, n, 1.0)) / 2
    return *_at_radius(l, m, 2 * _air_radius(xi, w), 0.5 - w), valid


# cylindrical and pseudo-cylindrical


def _cyp_to(x: Tensor, y: Tensor, c: Constants) -> Direction:
    mu, radius = c
    eta = y / (mu + radius)
    sine = eta * mu / (eta * eta + 1).sqrt()
    return _direction(x / radius, torch.atan(eta) + arcsine(sine), sine.abs() <= 1 + SLACK)


def _cyp_from(l: Tensor, m: Tensor, n: Tensor, c: Constants) -> PlanePoint:
    mu, radius = c
    eta = mu + root(l * l + m * m)
    valid = eta != 0
    return radius * angle(m, l), (mu + radius) * n / torch.where(valid, eta, 1.0), valid


def _cea_to(x: Tensor, y: Tensor, c: Constants) -> Direction:
    n = y * c[0]
    return _around(x, root(1 - n * n), n, n.abs() <= 1 + SLACK)


def _cea_from(l: Tensor, m: Tensor, n: Tensor, c: Constants) -> PlanePoint:
    return angle(m, l), n / c[0], _everywhere(l, m)


def _car_to(x: Tensor, y: Tensor, c: Constants) -> Direction:
    return _direction(x, y)


def _car_from(l: Tensor, m: Tensor, n: Tensor, c: Constants) -> PlanePoint:
    return *_native(l, m, n), _everywhere(l, m)


def _mer_to(x: Tensor, y: Tensor, c: Constants) -> Direction:
    return _around(x, torch.ones_like(y), torch.sinh(y.clamp(-100, 100)), _everywhere(x, y))


def _mer_from(l: Tensor, m: Tensor, n: Tensor, c: Constants) -> PlanePoint:
    cosine = root(l * l + m * m)
    valid = cosine > SLACK
    return angle(m, l), torch.asinh(n / torch.where(valid, cosine, 1.0)), valid


def _sfl_to(x: Tensor, y: Tensor, c: Constants) -> Direction:
    return _direction(quotient(x, torch.cos(y)), y)


def _sfl_from(l: Tensor, m: Tensor, n: Tensor, c: Constants) -> PlanePoint:
    phi, theta = _native(l, m, n)
    return phi * root(l * l + m * m), theta, _everywhere(l, m)


def _par_to(x: Tensor, y: Tensor, c: Constants) -> Direction:
    s = y / math.pi
    return _direction(quotient(x, 1 - 4 * s * s), 3 * arcsine(s), s.abs() <= 1)


def _par_from(l: Tensor, m: Tensor, n: Tensor, c: Constants) -> PlanePoint:
    phi, theta = _native(l, m, n)
    s = torch.sin(theta / 3)
    return phi * (1 - 4 * s * s), math.pi * s, _everywhere(l, m)


def _mol_to(x: Tensor, y: Tensor, c: Constants) -> Direction:
    width = root(2 - y * y)
    n = (2 * arcsine(y / math.sqrt(2)) + y * width) / math.pi
    phi = quotient(x, width) * (math.pi / 2)
    return _around(phi, root(1 - n * n), n, y.abs() <= math.sqrt(2) + SLACK)


def _mol_from(l: Tensor, m: Tensor, n: Tensor, c: Constants) -> PlanePoint:
    # 2 gamma + sin(2 gamma) = pi n, for the angle from the pole: w = pi - 2 |gamma|
    square = l * l + m * m
    wanted = math.pi * square / (1 + n.abs())
    w = _inverse(
        lambda w: w - torch.sin(w),
        lambda w: 2 * torch.sin(w / 2) ** 2,
        wanted,
        torch.zeros_like(wanted),
        torch.full_like(wanted, math.pi),
    )
    x = angle(m, l) * torch.sin(w / 2) * (math.sqrt(8) / math.pi)
    return x, n.sign() * torch.cos(w / 2) * math.sqrt(2), _everywhere(l, m)


def _ait_to(x: Tensor, y: Tensor, c: Constants) -> Direction:
    square = 1 - x * x / 16 - y * y / 4
    z = root(square)
    # a half longitude's cosine and sine, times cos(theta)
    a, b = 2 * square - 1, z * x / 2
    cosine = root(a * a + b * b)
    return quotient(a * a - b * b, cosine), quotient(2 * a * b, cosine), z * y, square >= 0.5 - SLACK


def _ait_from(l: Tensor, m: Tensor, n: Tensor, c: Constants) -> PlanePoint:
    half = angle(m, l) / 2
    cosine = root(l * l + m * m)
    w = (2 / (1 + cosine * torch.cos(half))).sqrt()
    return 2 * w * cosine * torch.sin(half), w * n, _everywhere(l, m)


# conic and polyconic


def _cone(x: Tensor, y: Tensor, y0: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
    """The distance from the apex of the unrolled cone, negative for southern cones, and the angle there."""
    dy = y0 - y
    sign = torch.where(sigma < 0, -1.0, 1.0)
    return sign * root(x * x + dy * dy), angle(sign * x, sign * dy)


def _unroll(r: Tensor, alpha: Tensor, y0: Tensor) -> tuple[Tensor, Tensor]:
    """The way back."""
    return r * torch.sin(alpha), y0 - r * torch.cos(alpha)


def _cop_constants(pv: Tensor) -> Constants:
    sigma, delta = pv[..., 1], pv[..., 2]
    return sigma * DEGREE, sind(sigma), cosd(delta), cosd(sigma) / sind(sigma)


def _cop_to(x: Tensor, y: Tensor, c: Constants) -> Direction:
    sigma, cone, cosine, cotangent = c
    r, alpha = _cone(x, y, cosine * cotangent, sigma)
    return _direction(alpha / cone, sigma + torch.atan(cotangent - r / cosine))


def _cop_from(l: Tensor, m: Tensor, n: Tensor, c: Constants) -> PlanePoint:
    sigma, cone, cosine, cotangent = c
    phi, theta = _native(l, m, n)
    t = theta - sigma
    r = cosine * (cotangent - torch.tan(t))
    valid = (torch.cos(t).abs() > SLACK) & (r * cone >= -SLACK)
    return *_unroll(torch.where(valid, r, 1.0), cone * phi, cosine * cotangent), valid


def _coe_constants(pv: Tensor) -> Constants:
    sigma, delta = pv[..., 1], pv[..., 2]
    sine1, sine2 = sind(sigma - delta), sind(sigma + delta)
    cone, psi = (sine1 + sine2) / 2, 1 + sine1 * sine2
    return sigma, cone, psi, (psi - 2 * cone * sind(sigma)).sqrt() / cone


def _coe_to(x: Tensor, y: Tensor, c: Constants) -> Direction:
    sigma, cone, psi, y0 = c
    r, alpha = _cone(x, y, y0, sigma)
    n = (psi / cone - r * r * cone) / 2
    return _around(alpha / cone, root(1 - n * n), n, n.abs() <= 1 + SLACK)


def _coe_from(l: Tensor, m: Tensor, n: Tensor, c: Constants) -> PlanePoint:
    _, cone, psi, y0 = c
    r = root(psi - 2 * cone * n) / cone
    return *_unroll(r, cone * angle(m, l), y0), _everywhere(l, m)


def _cod_constants(pv: Tensor) -> Constants:
    sigma, delta = pv[..., 1], pv[..., 2]
    ratio = torch.where(delta == 0, 1.0, quotient(sind(delta), delta * DEGREE))
    cone = sind(sigma) * ratio
    return sigma * DEGREE, cone, cosd(delta) * cosd(sigma) / cone


def _cod_to(x: Tensor, y: Tensor, c: Constants) -> Direction:
    sigma, cone, y0 = c
    r, alpha = _cone(x, y, y0, sigma)
    return _direction(alpha / cone, y0 + sigma - r)


def _cod_from(l: Tensor, m: Tensor, n: Tensor, c: Constants) -> PlanePoint:
    sigma, cone, y0 = c
    phi, theta = _native(l, m, n)
    return *_unroll(y0 + sigma - theta, cone * phi, y0), _everywhere(l, m)


def _half_tangent(theta: Tensor) -> Tensor:
    return torch.tan((90 - theta) / 2 * DEGREE)


def _coo_constants(pv: Tensor) -> Constants:
    sigma, delta = pv[..., 1], pv[..., 2]
    theta1, theta2 = sigma - delta, sigma + delta
    one = delta == 0
    ratio = torch.where(one, 2.0, _half_tangent(theta2) / _half_tangent(theta1))
    cone = torch.where(one, sind(sigma), torch.log(cosd(theta2) / cosd(theta1)) / torch.log(ratio))
    scale = cosd(theta1) / cone / _half_tangent(theta1) ** cone
    return sigma, cone, scale, scale * _half_tangent(sigma) ** cone


def _coo_to(x: Tensor, y: Tensor, c: Constants) -> Direction:
    sigma, cone, scale, y0 = c
    r, alpha = _cone(x, y, y0, sigma)
    apex = r == 0
    t = torch.where(apex, 1.0, r / scale) ** (1 / cone)  # the tangent of half the distance from the pole
    distance, n = torch.where(apex, 0.0, 2 * t), torch.where(apex, -1.0, 1 - t * t)
    return _around(alpha / cone, distance, n, ~apex | (cone < 0))


def _coo_from(l: Tensor, m: Tensor, n: Tensor, c: Constants) -> PlanePoint:
    _, cone, scale, y0 = c
    cosine = root(l * l + m * m)
    north = n > 0
    t = torch.where(north, cosine / torch.where(north, 1 + n, 1.0), quotient(1 - n, cosine))
    pole = cosine == 0
    r = torch.where(pole, 0.0, scale * torch.where(pole, 1.0, t) ** cone)
    return *_unroll(r, cone * angle(m, l), y0), ~pole | (north == (cone > 0))


def _bon_constants(pv: Tensor) -> Constants:
    sigma = pv[..., 1]
    return sigma, cosd(sigma) / sind(sigma) + sigma * DEGREE


def _bon_to(x: Tensor, y: Tensor, c: Constants) -> Direction:
    sigma, y0 = c
    r, alpha = _cone(x, y, y0, sigma)
    theta = y0 - r
    return _direction(quotient(alpha * r, torch.cos(theta)), theta)


def _bon_from(l: Tensor, m: Tensor, n: Tensor, c: Constants) -> PlanePoint:
    _, y0 = c
    phi, theta = _native(l, m, n)
    r = y0 - theta
    return *_unroll(r, quotient(phi * root(l * l + m * m), r), y0), _everywhere(l, m)


def _pco_to(x: Tensor, y: Tensor, c: Constants) -> Direction:
    square, far = x * x, y.abs()
    # (x^2 + (y - theta)^2) tan(theta) = 2 (y - theta)
    theta = _inverse(
        lambda a: (square + (far - a) ** 2) * torch.tan(a) - 2 * (far - a),
        lambda a: 2 + (square + (far - a) ** 2) / torch.cos(a) ** 2 - 2 * (far - a) * torch.tan(a),
        torch.zeros_like(square + far),
        torch.zeros_like(far),
        far.clamp(max=math.pi / 2),
    )
    tangent = torch.tan(theta)
    phi = quotient(angle(x * tangent, 1 - (far - theta) * tangent), torch.sin(theta))
    return _direction(torch.where(theta == 0, x, phi), y.sign() * theta)


def _sinc(x: Tensor) -> Tensor:
    return torch.where(x == 0, 1.0, quotient(torch.sin(x), x))


def _pco_from(l: Tensor, m: Tensor, n: Tensor, c: Constants) -> PlanePoint:
    phi, theta = _native(l, m, n)
    turn, width = phi * n, phi * root(l * l + m * m)
    return width * _sinc(turn), theta + width * turn / 2 * _sinc(turn / 2) ** 2, _everywhere(l, m)


# on a cube

_FACE = math.pi / 4  # half of its side


def _on_face(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Which face, 0 to 5, and where on it, from -1 to 1."""
    x, y = x / _FACE, y / _FACE
    across = x.abs() <= 1
    valid = (across & (y.abs() <= 3)) | (~across & (x.abs() <= 7) & (y.abs() <= 1))
    x = torch.where(x < -1, x + 8, x)
    column = (x > 1).int() + (x > 3).int() + (x > 5).int()
    row = (y > 1).int() - (y < -1).int()
    row = torch.where(column == 0, row, 0)
    face = torch.where(row == 0, column + 1, torch.where(row > 0, 0, 5))
    return face, x - 2 * column, y - 2 * row, valid


def _from_face(face: Tensor, xi: Tensor, eta: Tensor, zeta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Direction cosines, from those with respect to a face: right, up, out."""
    l, m, n = -eta, xi, zeta
    for number, (a, b, d) in enumerate(
        ((zeta, xi, eta), (-xi, zeta, eta), (-zeta, -xi, eta), (xi, -zeta, eta), (eta, xi, -zeta)), start=1
    ):
        here = face == number
        l, m, n = torch.where(here, a, l), torch.where(here, b, m), torch.where(here, d, n)
    return l, m, n


def _to_face(l: Tensor, m: Tensor, n: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Right, up and out of the face that is nearest, and x and y of its centre."""
    xi, eta, zeta = m, -l, n
    x, y = torch.zeros_like(n), torch.full_like(n, 2.0)
    faces = (
        (m, n, l, 0.0, 0.0),
        (-l, n, m, 2.0, 0.0),
        (-m, n, -l, 4.0, 0.0),
        (l, n, -m, 6.0, 0.0),
        (m, l, -n, 0.0, -2.0),
    )
    for right, up, out, column, row in faces:
        nearer = out > zeta
        xi, eta = torch.where(nearer, right, xi), torch.where(nearer, up, eta)
        x, y = torch.where(nearer, column, x), torch.where(nearer, row, y)
        zeta = torch.where(nearer, out, zeta)
    return xi, eta, zeta, x, y


def _tsc_to(x: Tensor, y: Tensor, c: Constants) -> Direction:
    face, u, v, valid = _on_face(x, y)
    return *_from_face(face, u, v, torch.ones_like(u)), valid


def _tsc_from(l: Tensor, m: Tensor, n: Tensor, c: Constants) -> PlanePoint:
    xi, eta, zeta, x, y = _to_face(l, m, n)
    return _FACE * (x + xi / zeta), _FACE * (y + eta / zeta), _everywhere(l, m)


def _qsc_to(x: Tensor, y: Tensor, c: Constants) -> Direction:
    face, u, v, valid = _on_face(x, y)
    wide = u.abs() > v.abs()
    major, minor = torch.where(wide, u, v), torch.where(wide, v, u)
    w = quotient(minor, major) * (math.pi / 12)
    omega = torch.sin(w) / (torch.cos(w) - math.sqrt(0.5))
    tau = 1 + omega * omega
    part = 1 - 1 / (1 + tau).sqrt()
    depth = major * major * part  # 1 - zeta
    a = major * root(part * (2 - depth) / tau)
    b = a * omega
    return *_from_face(face, torch.where(wide, a, b), torch.where(wide, b, a), 1 - depth), valid


def _qsc_from(l: Tensor, m: Tensor, n: Tensor, c: Constants) -> PlanePoint:
    xi, eta, zeta, x, y = _to_face(l, m, n)
    wide = xi.abs() > eta.abs()
    a, b = torch.where(wide, xi, eta), torch.where(wide, eta, xi)
    omega = quotient(b, a)
    tau = 1 + omega * omega
    major = a * (tau / ((1 + zeta) * (1 - 1 / (1 + tau).sqrt()))).sqrt()
    minor = major * (12 / math.pi) * (torch.atan(omega) - torch.asin(omega / (2 * tau).sqrt()))
    u, v = torch.where(wide, major, minor), torch.where(wide, minor, major)
    return _FACE * (x + u), _FACE * (y + v), _everywhere(l, m)


# HEALPix


def _hpx_offset(x: Tensor, south: Tensor, c: Constants) -> Tensor:
    """How far x is from the middle of its polar facet."""
    h, k = c
    width = math.pi / h
    middle = (2 * torch.floor((x + math.pi) / (2 * width)) + 1) * width - math.pi
    odd = torch.remainder(torch.floor(x / width) + torch.remainder(torch.floor(h + 0.5), 2), 2) == 1
    even_k = torch.remainder(torch.floor(k + 0.5), 2) == 0
    shift = torch.where(odd, -width, width)
    return x - middle.detach() + torch.where(south & even_k, shift, 0.0)


def _hpx_to(x: Tensor, y: Tensor, c: Constants) -> Direction:
    h, k = c
    width, height = math.pi / h, (k + 1) / 2
    equatorial = y.abs() <= math.pi / 2 * (k - 1) / h
    sigma = torch.where(equatorial, 1.0, height - y.abs() / width)
    offset = _hpx_offset(x, y <= 0, c)
    moved = torch.where(sigma == 0, 1e9 * offset, quotient(offset, sigma))
    phi = torch.where(equatorial | (moved == 0), x, x + moved - offset)
    less = sigma * sigma / k  # 1 - |n|
    n = torch.where(equatorial, y * (2 * h / math.pi) / k, y.sign() * (1 - less))
    distance = root(torch.where(equatorial, 1 - n * n, less * (2 - less)))
    on_facet = (sigma >= 0) & (moved.abs() < width + SLACK) & (less <= 2)
    return _around(phi, distance, n, equatorial | on_facet)


def _hpx_from(l: Tensor, m: Tensor, n: Tensor, c: Constants) -> PlanePoint:
    h, k = c
    width, height = math.pi / h, (k + 1) / 2
    phi = angle(m, l)
    equatorial = n.abs() <= (k - 1) / k
    sigma = torch.where(equatorial, 1.0, root(k * (l * l + m * m) / (1 + n.abs())))
    x = phi + _hpx_offset(phi, n <= 0, c) * (sigma - 1)
    x = torch.where(~equatorial & (x > math.pi), 2 * math.pi - x, x)
    y = torch.where(equatorial, math.pi / 2 * k / h * n, n.sign() * width * (height - sigma))
    return x, y, _everywhere(l, m)


def _quarter(x: Tensor, y: Tensor) -> Tensor:
    """Which quarter of the butterfly, 0 to 3, from phi = -180 on."""
    first, second, third = (x <= 0) & (y > 0), (x < 0) & (y <= 0), (x >= 0) & (y < 0)
    return torch.where(first, 0, torch.where(second, 1, torch.where(third, 2, 3)))


def _turn(x: Tensor, y: Tensor, quarter: Tensor) -> tuple[Tensor, Tensor]:
    """x and y turned by so many quarter turns."""
    odd, half = quarter % 2 == 1, quarter >= 2
    x, y = torch.where(odd, -y, x), torch.where(odd, x, y)
    return torch.where(half, -x, x), torch.where(half, -y, y)


def _xph_to(x: Tensor, y: Tensor, c: Constants) -> Direction:
    quarter = _quarter(x, y)
    u, v = _turn(x * math.sqrt(0.5), y * math.sqrt(0.5), (4 - quarter) % 4)
    xi, eta = -u - v, u - v + math.pi / 2
    equatorial = eta.abs() <= math.pi / 4
    sigma = torch.where(equatorial, 1.0, 2 - eta.abs() * (4 / math.pi))
    phi = (quarter.to(x.dtype) - 1.5) * (math.pi / 2) + torch.where(sigma == 0, 0.0, quotient(xi, sigma))
    less = sigma * sigma / 3
    n = torch.where(equatorial, eta * (8 / (3 * math.pi)), eta.sign() * (1 - less))
    distance = root(torch.where(equatorial, 1 - n * n, less * (2 - less)))
    room = torch.where(equatorial, math.pi / 4, torch.where(eta < 0, eta + math.pi / 2, math.pi))
    return _around(phi, distance, n, (eta.abs() <= math.pi / 2) & (xi.abs() <= room + SLACK))


def _xph_from(l: Tensor, m: Tensor, n: Tensor, c: Constants) -> PlanePoint:
    phi = angle(m, l)
    quarter = torch.floor(phi * (2 / math.pi)).long().remainder(4)  # from phi = 0 on
    psi = torch.remainder(phi, math.pi / 2) - math.pi / 4
    equatorial = n.abs() <= 2 / 3
    sigma = torch.where(equatorial, 1.0, root(3 * (l * l + m * m) / (1 + n.abs())))
    xi = psi * sigma
    eta = torch.where(equatorial, 3 * math.pi / 8 * n, n.sign() * (math.pi / 4) * (2 - sigma)) - math.pi / 2
    u, v = (-xi + eta) * math.sqrt(0.5), (-xi - eta) * math.sqrt(0.5)
    return *_turn(u, v, (quarter + 2) % 4), _everywhere(l, m)


PROJECTIONS: dict[str, Projection] = {
    "AZP": Projection(_azp_constants, _azp_to, _azp_from),
    "SZP": Projection(_szp_constants, _szp_to, _szp_from),
    "TAN": Projection(_no_constants, _tan_to, _tan_from),
    "STG": Projection(_no_constants, _stg_to, _stg_from),
    "SIN": Projection(_pv(1, 2), _sin_to, _sin_from),
    "ARC": Projection(_no_constants, _arc_to, _arc_from),
    "ZPN": Projection(_zpn_constants, _zpn_to, _zpn_from),
    "ZEA": Projection(_no_constants, _zea_to, _zea_from),
    "AIR": Projection(_air_constants, _air_to, _air_from),
    "CYP": Projection(_pv(1, 2), _cyp_to, _cyp_from),
    "CEA": Projection(_pv(1), _cea_to, _cea_from),
    "CAR": Projection(_no_constants, _car_to, _car_from),
    "MER": Projection(_no_constants, _mer_to, _mer_from),
    "SFL": Projection(_no_constants, _sfl_to, _sfl_from),
    "PAR": Projection(_no_constants, _par_to, _par_from),
    "MOL": Projection(_no_constants, _mol_to, _mol_from),
    "AIT": Projection(_no_constants, _ait_to, _ait_from),
    "COP": Projection(_cop_constants, _cop_to, _cop_from),
    "COE": Projection(_coe_constants, _coe_to, _coe_from),
    "COD": Projection(_cod_constants, _cod_to, _cod_from),
    "COO": Projection(_coo_constants, _coo_to, _coo_from),
    "BON": Projection(_bon_constants, _bon_to, _bon_from),
    "PCO": Projection(_no_constants, _pco_to, _pco_from),
    "TSC": Projection(_no_constants, _tsc_to, _tsc_from),
    "QSC": Projection(_no_constants, _qsc_to, _qsc_from),
    "HPX": Projection(_pv(1, 2), _hpx_to, _hpx_from),
    "XPH": Projection(_no_constants, _xph_to, _xph_from),
}
