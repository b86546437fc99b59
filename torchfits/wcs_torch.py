"""A WCS computed with torch: on any device, many at once, differentiable by points and parameters."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from torchfits.distortions import Distortion, LookupShift, Move, Shift, SipShift, TpvShift, undo
from torchfits.errors import FitsFormatError, FitsUnsupported
from torchfits.projections import (
    DEGREE,
    PROJECTIONS,
    Constants,
    Projection,
    angle,
    cosd,
    root,
    sind,
)
from torchfits.wcs_model import Celestial, Lookup, Model, Sip, Tpv

Compute = Callable[[Tensor], tuple[Tensor, Tensor]]
# the coordinates of points, and of each whether it is one
Found = tuple[list[Tensor], list[Tensor]]

PARTS = (Model, Celestial, Sip, Tpv, Lookup)
CHUNK = 1 << 14  # points whose intermediate results stay in a core's cache
HUGE = 1e30  # coordinates beyond have no ninth power, and are none
TOLERANCE = 1e-10  # of the parameters of the rotation, as in wcslib


def why_not(model: Model) -> str | None:
    """What of a WCS cannot be computed here; None where all can."""
    celestial = model.celestial
    pair = () if celestial is None else (celestial.lng, celestial.lat)
    for axis, linear in enumerate(model.linear):
        if not linear and axis not in pair:
            return f"CTYPE{axis + 1} = {model.ctype[axis]!r} is not linear"
    if celestial is None:
        return None if model.tpv is None else "TPV without celestial axes"
    if celestial.projection not in PROJECTIONS:
        return f"projection {celestial.projection}"
    if celestial.projection == "HPX" and celestial.offset:
        return "projection HPX with an offset"  # wcslib's two ways are not each other's inverse there
    if any(name.strip() == "CUBEFACE" for name in model.ctype):
        return "a CUBEFACE axis"
    return None


def stacked(models: Sequence[Model]) -> Model:
    """One model of many that differ in numbers only: each tensor has two more axes, (len(models), 1).

    So have those that replace one of them: a CRVAL for each is (len(models), 1, naxis).
    """
    if not models:
        raise FitsFormatError("no WCS to stack")
    if any(model.sip is not None for model in models):
        models = [dataclasses.replace(m, sip=_padded(m, models)) for m in models]
    return _stacked(models, "model")


def _padded(model: Model, models: Sequence[Model]) -> Sip:
    """The SIP of one model, its polynomials of the orders that are the highest of all."""
    sips = [m.sip for m in models if m.sip is not None]
    if model.sip is None or len(sips) < len(models):
        raise FitsFormatError("cannot stack WCS with and without sip")
    made: dict[str, Any] = {}
    for name in ("a", "b", "ap", "bp"):
        sizes = [getattr(sip, name).shape[-1] for sip in sips if getattr(sip, name) is not None]
        made[name] = None
        if len(sizes) == len(sips) or (sizes and name in ("a", "b")):  # the others are only a guess
            matrix = getattr(model.sip, name)
            matrix = model.sip.crpix.new_zeros(1, 1) if matrix is None else matrix
            missing = max(sizes) - matrix.shape[-1]
            made[name] = torch.nn.functional.pad(matrix, (0, missing, 0, missing))
    return dataclasses.replace(model.sip, **made)


def _stacked(parts: Sequence[Any], name: str) -> Any:
    first = parts[0]
    if any(type(part) is not type(first) for part in parts):
        raise FitsFormatError(f"cannot stack WCS with and without {name}")
    if isinstance(first, Tensor):
        if any(part.shape != first.shape for part in parts):
            raise FitsFormatError(f"cannot stack WCS whose {name} differ in size")
        return torch.stack(tuple(parts)).unsqueeze(1)
    if isinstance(first, PARTS):
        names = [field.name for field in dataclasses.fields(first)]
        return type(first)(**{n: _stacked([getattr(part, n) for part in parts], n) for n in names})
    if isinstance(first, tuple) and all(isinstance(item, Lookup) for item in first):
        if any(len(part) != len(first) for part in parts):
            raise FitsFormatError(f"cannot stack WCS with different numbers of {name}")
        return tuple(_stacked(part, name) for part in zip(*parts, strict=True))
    if name not in ("ctype", "version", "swapped") and any(part != first for part in parts):
        raise FitsFormatError(f"cannot stack WCS that differ in {name}")
    return first


def _tensors(part: Any) -> list[Tensor]:
    if isinstance(part, Tensor):
        return [part]
    if isinstance(part, PARTS):
        return [t for field in dataclasses.fields(part) for t in _tensors(getattr(part, field.name))]
    if isinstance(part, tuple):
        return [t for item in part for t in _tensors(item)]
    return []


def _moved(part: Any, device: torch.device) -> Any:
    """A copy of a model on a device, in float64."""
    if isinstance(part, Tensor):
        return part.to(device, torch.float64)
    if isinstance(part, PARTS):
        names = [field.name for field in dataclasses.fields(part)]
        return dataclasses.replace(part, **{n: _moved(getattr(part, n), device) for n in names})
    if isinstance(part, tuple):
        return tuple(_moved(item, device) for item in part)
    return part


class Rotation(NamedTuple):
    """From native to celestial coordinates; angles in degrees, of which the longitudes' are not reduced."""

    lngp: Tensor  # of the native pole
    cos_colatitude: Tensor
    sin_colatitude: Tensor
    cos_phip: Tensor  # of the celestial pole, native
    sin_phip: Tensor
    lowest: Tensor  # of celestial longitudes: 0, or -360 where that of the pole is negative
    valid: Tensor


def rotation(celestial: Celestial, lng0: Tensor, lat0: Tensor) -> Rotation:
    """The rotation that puts the fiducial point at (lng0, lat0): section 2.4, as wcslib reads it."""
    lngp, latp, valid = lng0, lat0, torch.ones_like(lat0, dtype=torch.bool)
    if bool((celestial.theta0 != 90).any()):
        lngp, latp, valid = _pole(celestial, lng0, lat0)
    lowest = torch.where(lngp < 0, -360.0, 0.0)
    return Rotation(
        lngp,
        sind(latp),
        cosd(latp),
        cosd(celestial.lonpole),
        sind(celestial.lonpole),
        lowest.to(lngp.dtype),
        valid,
    )


def _valued(derivatives: Tensor, value: Tensor) -> Tensor:
    """The one's derivatives with the other's value."""
    return derivatives + (value - derivatives).detach()


def _half_turn(degrees: Tensor) -> Tensor:
    """From -180 to 180."""
    degrees = torch.where(degrees > 180, degrees - 360, degrees)
    return torch.where(degrees < -180, degrees + 360, degrees)


def _pole(celestial: Celestial, lng0: Tensor, lat0: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Celestial coordinates of the native pole, and whether there is one."""
    theta0, turn = celestial.theta0, celestial.lonpole - celestial.phi0
    sin_theta0, cos_theta0, sin_lat0, cos_lat0 = sind(theta0), cosd(theta0), sind(lat0), cosd(lat0)
    along = cos_theta0 * cosd(turn)
    reach = root(along * along + sin_theta0 * sin_theta0)
    free = reach == 0  # LATPOLE alone tells
    sine = sin_lat0 / torch.where(free, 1.0, reach)
    valid = torch.where(free, sin_lat0 == 0, sine.abs() <= 1 + TOLERANCE)
    inside = sine.abs() < 1
    u, v = angle(sin_theta0, along) / DEGREE, torch.acos(torch.where(inside, sine, 0.0)) / DEGREE
    same = turn == 0  # what they are is known then, but not how they change
    u, v = torch.where(same, _valued(u, theta0), u), torch.where(same, _valued(v, 90 - lat0), v)
    v = torch.where(inside, v, torch.where(same, 90 - lat0, 90 - 90 * sine.sign()))
    north, south = _half_turn(u + v), _half_turn(u - v)
    north_fits, south_fits = north.abs() < 90 + TOLERANCE, south.abs() < 90 + TOLERANCE
    nearer = (celestial.latpole - north).abs() < (celestial.latpole - south).abs()
    latp = torch.where(torch.where(nearer, north_fits, ~south_fits), north, south)
    latp = torch.where(free, celestial.latpole.clamp(-90, 90), latp)
    valid = valid & (latp.abs() <= 90 + TOLERANCE)

    z = cosd(latp) * cos_lat0
    degenerate = z.abs() < TOLERANCE
    x = (sin_theta0 - sind(latp) * sin_lat0) / torch.where(degenerate, 1.0, z)
    y = sind(turn) * cos_theta0 / torch.where(degenerate, 1.0, cos_lat0)
    lngp = lng0 - angle(y, torch.where(degenerate, 1.0, x)) / DEGREE
    at_pole = torch.where(latp > 0, lng0 + turn - 180, lng0 - turn)
    at_pole = torch.where(cos_lat0.abs() < TOLERANCE, lng0, at_pole)
    lngp = torch.where(degenerate, at_pole, lngp)
    lowest = torch.where(lng0 >= 0, 0.0, -360.0)
    return _reduced(lngp, lowest), latp, valid


def _reduced(degrees: Tensor, lowest: Tensor) -> Tensor:
    """A longitude in the turn from `lowest` on, as wcslib has it: both ends stay."""
    degrees = torch.where(degrees < lowest, degrees + 360, degrees)
    return torch.where(degrees > lowest + 360, degrees - 360, degrees)


class Sky:
    """From intermediate world coordinates to celestial ones and back."""

    def __init__(self, celestial: Celestial, lng0: Tensor, lat0: Tensor):
        self.projection: Projection = PROJECTIONS[celestial.projection]
        self.constants: Constants = self.projection.constants(celestial.pv)
        self.rotation = rotation(celestial, lng0, lat0)
        self.origin: tuple[Tensor, Tensor] | None = None
        if celestial.offset:
            phi0, theta0 = celestial.phi0, celestial.theta0
            l, m, n = cosd(theta0) * cosd(phi0), cosd(theta0) * sind(phi0), sind(theta0)  # noqa: E741
            x, y, _ = self.projection.from_sphere(l, m, n, self.constants)
            self.origin = x, y

    def to_world(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, y = x * DEGREE, y * DEGREE
        if self.origin is not None:
            x, y = x + self.origin[0], y + self.origin[1]
        l, m, n, valid = self.projection.to_sphere(x, y, self.constants)  # noqa: E741
        r = self.rotation
        along, across = l * r.cos_phip + m * r.sin_phip, l * r.sin_phip - m * r.cos_phip
        x = n * r.sin_colatitude - along * r.cos_colatitude
        z = n * r.cos_colatitude + along * r.sin_colatitude
        lng = r.lngp + angle(across, x) / DEGREE
        lat = torch.atan2(z, root(x * x + across * across)) / DEGREE
        return _reduced(lng, r.lowest), lat, valid & r.valid

    def from_world(self, lng: Tensor, lat: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        r = self.rotation
        turn = (r.lngp - lng) * DEGREE
        z, cos_lat = torch.sin(lat * DEGREE), torch.cos(lat * DEGREE)
        # the celestial poles lie on the meridian of the native one exactly, or they keep their longitude
        tilted_pole = (lat.abs() == 90) & (r.sin_colatitude != 0)
        x, across = cos_lat * torch.cos(turn), torch.where(tilted_pole, 0.0, cos_lat * torch.sin(turn))
        along = z * r.sin_colatitude - x * r.cos_colatitude
        n = z * r.cos_colatitude + x * r.sin_colatitude
        l, m = along * r.cos_phip - across * r.sin_phip, along * r.sin_phip + across * r.cos_phip + 0.0  # noqa: E741
        x, y, valid = self.projection.from_sphere(l, m, n, self.constants)
        if self.origin is not None:
            x, y = x - self.origin[0], y - self.origin[1]
        return x / DEGREE, y / DEGREE, valid & r.valid


class _Prepared:
    """What is computed once of a model on a device."""

    def __init__(self, model: Model):
        self.model = model
        inverse, singular = torch.linalg.inv_ex(model.matrix)
        # what has no inverse leaves no pixel
        self.inverse = torch.where(singular[..., None, None] == 0, inverse, torch.nan)
        celestial = model.celestial
        self.sky: Sky | None = None
        if celestial is not None:
            lng0, lat0 = model.crval[..., celestial.lng], model.crval[..., celestial.lat]
            self.sky = Sky(celestial, lng0, lat0)
        self.d2im = LookupShift(model.d2im) if model.d2im else None
        self.sip = None if model.sip is None else SipShift(model.sip)
        self.cpdis = LookupShift(model.cpdis) if model.cpdis else None
        self.tpv = None if model.tpv is None else TpvShift(model.tpv)
        self.guess: Move | None = None
        if model.sip is not None and model.sip.ap is not None and model.sip.bp is not None:
            back = dataclasses.replace(model.sip, a=model.sip.ap, b=model.sip.bp)
            self.guess = SipShift(back).move

    def to_world(self, at: list[Tensor]) -> Found:
        model = self.model
        valid = _sensible(at)
        valids = [valid] * len(at)
        at = [torch.where(valid, c, model.crpix[..., k]) for k, c in enumerate(at)]
        if self.d2im is not None:
            dx, dy = self.d2im.move(at[0], at[1])
            at[:2] = at[0] + dx, at[1] + dy
        moves = [part.move(at[0], at[1]) for part in (self.sip, self.cpdis) if part is not None]
        for dx, dy in moves:
            at[:2] = at[0] + dx, at[1] + dy
        at = _times(model.matrix, [c - model.crpix[..., k] for k, c in enumerate(at)])
        celestial = model.celestial
        world = [c if k in self._pair else c + model.crval[..., k] for k, c in enumerate(at)]
        if self.sky is not None and celestial is not None:
            x, y = at[celestial.lng], at[celestial.lat]
            if self.tpv is not None:
                dx, dy = self.tpv.move(x, y)
                x, y = x + dx, y + dy
            world[celestial.lng], world[celestial.lat], seen = self.sky.to_world(x, y)
            valids[celestial.lng] = valids[celestial.lat] = valid & seen
        return world, valids

    def to_pixel(self, world: list[Tensor]) -> Found:
        model, celestial = self.model, self.model.celestial
        valid = _sensible(world)
        valids = [valid] * len(world)
        world = [torch.where(valid, c, model.crval[..., k]) for k, c in enumerate(world)]
        at = [c if k in self._pair else c - model.crval[..., k] for k, c in enumerate(world)]
        if self.sky is not None and celestial is not None:
            x, y, seen = self.sky.from_world(world[celestial.lng], world[celestial.lat])
            valid = valid & seen
            if self.tpv is not None:
                x, y = torch.where(seen, x, 0.0), torch.where(seen, y, 0.0)
                x, y, found = undo(self.tpv.shift, x, y)
                valid = valid & found
            at[celestial.lng], at[celestial.lat] = x, y
            valids[celestial.lng] = valids[celestial.lat] = valid
        at = [c + model.crpix[..., k] for k, c in enumerate(_times(self.inverse, at))]
        if self.sip is not None or self.cpdis is not None or self.d2im is not None:
            at[:2] = (torch.where(valid, c, model.crpix[..., k]) for k, c in enumerate(at[:2]))
        if self.sip is not None or self.cpdis is not None:
            at[0], at[1], found = undo(self._distortion(), at[0], at[1], self.guess)
            valids[:2] = valids[0] & found, valids[1] & found
        if self.d2im is not None:
            at[0], at[1], found = undo(self.d2im.shift, at[0], at[1])
            valids[:2] = valids[0] & found, valids[1] & found
        return at, valids

    @property
    def _pair(self) -> tuple[int, ...]:
        celestial = self.model.celestial
        return () if celestial is None else (celestial.lng, celestial.lat)

    def _distortion(self) -> Distortion:
        """SIP and CPDIS together."""
        parts = [part.shift for part in (self.sip, self.cpdis) if part is not None]
        if len(parts) == 1:
            return parts[0]
        return lambda x, y: Shift(*(a + b for a, b in zip(parts[0](x, y), parts[1](x, y), strict=True)))


def _sensible(point: list[Tensor]) -> Tensor:
    """Whether all coordinates are numbers that one can compute with."""
    return sum((c.abs() for c in point[1:]), point[0].abs()) < HUGE


def _times(matrix: Tensor, vector: list[Tensor]) -> list[Tensor]:
    """A matrix times a vector given by its components."""
    size = range(len(vector))
    return [
        sum((vector[j] * matrix[..., i, j] for j in size[1:]), vector[0] * matrix[..., i, 0]) for i in size
    ]


class Transform:
    """Both ways of a WCS, in torch.

    Pixel coordinates are those of FITS, the first pixel's centre being 1; world coordinates are in degrees
    and SI units. Points are tensors (..., naxis), computed in float64 on their device.

    Args:
        model: What the WCS is made of. Its tensors may require a gradient.

    Raises:
        FitsUnsupported: The model has something that `why_not` names.
    """

    def __init__(self, model: Model):
        reason = why_not(model)
        if reason is not None:
            raise FitsUnsupported(f"only wcslib knows this WCS: {reason}")
        self.model = model
        # what is prepared of parameters that require a gradient belongs to one graph
        self._keeps = not any(t.requires_grad for t in _tensors(model))
        self._kept: dict[torch.device, _Prepared] = {}

    def pixel_to_world(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """World coordinates of pixels, NaN where there are none, and a mask (...) of where there are."""
        return self._run(pixels, "to_world")

    def world_to_pixel(self, world: Tensor) -> tuple[Tensor, Tensor]:
        """Pixel coordinates of the world's, NaN where there are none, and a mask (...) of where there are."""
        return self._run(world, "to_pixel")

    def _run(self, points: Tensor, which: str) -> tuple[Tensor, Tensor]:
        if points.shape[-1:] != (self.model.naxis,):
            raise FitsFormatError(
                f"points of shape {tuple(points.shape)} for a WCS of {self.model.naxis} axes"
            )
        function = getattr(self._prepared(points.device), which)
        points = points.to(torch.float64)

        def compute(piece: Tensor) -> tuple[Tensor, Tensor]:
            made, valids = function(list(piece.unbind(-1)))
            kept = [torch.where(valid, c, torch.nan) for c, valid in zip(made, valids, strict=True)]
            return torch.stack(kept, -1), torch.stack(valids, -1).all(-1)

        if torch.is_grad_enabled() and (points.requires_grad or not self._keeps):
            return compute(points)
        with torch.no_grad():
            return self._by_chunks(points, compute)

    def _by_chunks(self, points: Tensor, compute: Compute) -> tuple[Tensor, Tensor]:
        """One WCS and many points on the CPU: a few points at a time, so that all stays in the cache."""
        count = points.numel() // self.model.naxis
        one = self.model.crpix.dim() == 1
        if count <= CHUNK or not one or points.device.type != "cpu" or torch.compiler.is_compiling():
            return compute(points)
        flat = points.reshape(-1, self.model.naxis)
        made, valid = zip(*(compute(piece) for piece in flat.split(CHUNK)), strict=True)
        return torch.cat(made).reshape(points.shape), torch.cat(valid).reshape(points.shape[:-1])

    def _prepared(self, device: torch.device) -> _Prepared:
        # what is prepared in inference mode is of no use outside
        inference = not torch.compiler.is_compiling() and torch.is_inference_mode_enabled()
        if not self._keeps or inference:
            return _Prepared(_moved(self.model, device))
        if device not in self._kept:
            self._kept[device] = _Prepared(_moved(self.model, device))
        return self._kept[device]
