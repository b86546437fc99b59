"""WCS: from pixels to the world and back, on tensors."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch

from torchfits._tensors import address, allocate, integers, threads
from torchfits.errors import FitsFormatError, FitsUnsupported
from torchfits.header import Header
from torchfits.sections import Section, resolve_section, taken_away
from torchfits.wcs_model import Celestial, Lookup, Model, Sip, Tpv, numbers
from torchfits.wcs_parts import Parts
from torchfits.wcs_resample import Resampling
from torchfits.wcs_torch import Transform, stacked, why_not

if TYPE_CHECKING:
    from torchfits.hdulist import HDUList

Backend = Literal["auto", "wcslib", "torch"]

_LINEAR = (0, 1)  # second digits of wcslib's axis types


class WCS:
    """The world coordinates of an image. They do not change; may be used from many threads, after a fork,
    and pickled.

    Coordinates are float64 tensors (..., naxis). Pixels are in FITS axis order, x first, and the centre of
    the first pixel is 0 unless `origin=1` says otherwise. World coordinates are in degrees, others in SI
    units, in the order of CTYPE. wcslib computes; SIP, TPV and lookup tables of distortions are ours.

    Args:
        header: A Header, or its cards as bytes or str, such as astropy's `Header.tostring` gives.
        key: The letter of an alternate description; '' is the primary one.
        hdus: The file, where the header names tables in it (-TAB, CPDIS, D2IM).

    Raises:
        KeywordMissing: There is no description of that letter.
        FitsFormatError: The header makes no sense as a WCS; says why.
        FitsUnsupported: More than 32 axes; tables without `hdus`; SIP beyond order 19.

    Example:
        >>> header = torchfits.Header({
        ...     'CTYPE1': 'RA---TAN', 'CRVAL1': 10.0, 'CRPIX1': 50.5, 'CDELT1': -0.001,
        ...     'CTYPE2': 'DEC--TAN', 'CRVAL2': 20.0, 'CRPIX2': 50.5, 'CDELT2': 0.001,
        ... })
        >>> torchfits.WCS(header).pixel_to_world(torch.tensor([49.5, 49.5]))
        tensor([10., 20.], dtype=torch.float64)
    """

    def __init__(self, header: Header | bytes | str, *, key: str = "", hdus: HDUList | None = None):
        if isinstance(header, str):
            header = header.encode("latin-1", "replace")
        if isinstance(header, (bytes, bytearray)):
            header = Header.from_bytes(bytes(header))
        if not isinstance(header, Header):
            raise TypeError(
                f"a WCS is made of a Header, or of its cards as str or bytes, not {type(header).__name__}"
            )
        if not isinstance(key, str):
            raise TypeError(f"key is the letter of a description, not {key!r}")
        key = key.strip().upper()
        if key and (len(key) != 1 or not "A" <= key <= "Z"):
            raise FitsFormatError(f"key {key!r}: the letter of a description, or ''")
        with torch.inference_mode(False):
            parts = Parts.read(header, key, hdus)
        self._make(parts, hdus)

    def _make(self, parts: Parts, hdus: HDUList | None = None) -> None:
        self._parts = parts
        # what is kept must be of use where a gradient is wanted, too
        with torch.inference_mode(False):
            self._description = parts.describe(hdus)
        self._facts = self._description.facts()
        self._celestial: WCS | None = None
        self._tensors: TensorWCS | None = None

    @classmethod
    def _of(cls, parts: Parts) -> WCS:
        wcs = cls.__new__(cls)
        wcs._make(parts)
        return wcs

    def __reduce__(self) -> tuple:
        return WCS._of, (self._parts,)

    # -- what it says

    @property
    def naxis(self) -> int:
        """How many axes."""
        return len(self._facts["crpix"])

    @property
    def key(self) -> str:
        """The letter of the description, '' for the primary one."""
        return self._parts.key

    @property
    def ctype(self) -> tuple[str, ...]:
        """CTYPE of each axis."""
        return self._facts["ctype"]

    @property
    def units(self) -> tuple[str, ...]:
        """The units of the world coordinates: deg, or SI; '' where there is none."""
        return self._facts["units"]

    @property
    def crpix(self) -> torch.Tensor:
        """CRPIX of each axis, counted as in FITS, from 1."""
        return numbers(self._facts["crpix"])

    @property
    def crval(self) -> torch.Tensor:
        """CRVAL of each axis, in `units`."""
        return numbers(self._facts["crval"])

    @property
    def celestial(self) -> WCS:
        """The longitude and latitude axes alone.

        FitsUnsupported where there are none, or where their pixels depend on those of others.
        """
        if (
            self.naxis == 2
            and {self._facts["lng"], self._facts["lat"]} == {0, 1}
            and self._facts["cubeface"] < 0
        ):
            return self
        if self._celestial is None:
            self._celestial = self._part()
        return self._celestial

    def _part(self) -> WCS:
        parts, facts = self._parts, self._facts
        distorted = parts.sip is not None or parts.d2im or parts.cpdis
        if distorted and {facts["lng"], facts["lat"]} != {0, 1}:
            raise FitsUnsupported("the distortions are not of the celestial axes")
        return WCS._of(Parts(parts.header, parts.key, True, parts.sip, parts.d2im, parts.cpdis, parts.arrays))

    @property
    def pixel_scale(self) -> torch.Tensor:
        """How far the world moves by a pixel of each axis, at CRPIX, in `units`, (naxis,)."""
        matrix = numbers(self._facts["matrix"])
        return torch.linalg.vector_norm(matrix, dim=0)

    def footprint(self, shape: tuple[int, ...]) -> torch.Tensor:
        """The world coordinates of the centres of the corner pixels, (4, 2), from the first one clockwise
        as an image is shown, the first row below.

        Args:
            shape: That of the tensor of pixels; the last two axes count, which must be the celestial ones
                where there are more.

        Raises:
            FitsFormatError: `shape` has less than two axes.
            FitsUnsupported: The last two axes are not the celestial ones.
        """
        if len(_lengths(shape)) < 2 or 0 in shape:
            raise FitsFormatError(f"the footprint of an array of shape {tuple(shape)}: it has no corners")
        wcs = self if self.naxis == 2 else self.celestial
        if wcs is not self and {self._facts["lng"], self._facts["lat"]} != {0, 1}:
            raise FitsUnsupported("the first two pixel axes are not the celestial ones")
        top, right = shape[-2] - 1, shape[-1] - 1
        return wcs.pixel_to_world(numbers([[0, 0], [0, top], [right, top], [right, 0]]))

    @property
    def model(self) -> Model:
        """What it is made of, as numbers, for the torch path: a copy each time.

        FitsUnsupported where only wcslib knows its distortions.
        """
        facts, parts = self._facts, self._parts
        if facts["distorted"] and facts["tpv"] is None:
            raise FitsUnsupported("only wcslib knows these distortions")
        has_pair = facts["lng"] >= 0 and facts["types"][facts["lng"]] == 2200
        celestial = None
        if has_pair:
            celestial = Celestial(
                lng=facts["lng"],
                lat=facts["lat"],
                projection=facts["projection"],
                pv=numbers(facts["pv"]),
                phi0=numbers(facts["phi0"]),
                theta0=numbers(facts["theta0"]),
                offset=facts["offset"],
                lonpole=numbers(facts["lonpole"]),
                latpole=numbers(facts["latpole"]),
            )
        return Model(
            crpix=self.crpix,
            matrix=numbers(facts["matrix"]),
            crval=self.crval,
            ctype=self.ctype,
            units=self.units,
            linear=tuple(code // 100 % 10 in _LINEAR for code in facts["types"]),
            celestial=celestial,
            sip=copy.deepcopy(parts.sip),
            tpv=None if facts["tpv"] is None else Tpv(numbers(facts["tpv"])),
            d2im=copy.deepcopy(parts.d2im),
            cpdis=copy.deepcopy(parts.cpdis),
        )

    def to_header(self) -> Header:
        """The cards of this description, of which `WCS` makes the same again.

        Where it has tables (`tables`), `WCS` wants them in the file that it gets as `hdus`.
        """
        header = self._header()
        if self._parts.sip is not None:
            for card in _sip_cards(self._parts.sip):
                header.append(card)
        for lookups, kind, records, _ in self._lookups():
            for lookup in lookups:
                axes = (2, 1) if lookup.swapped else (1, 2)
                header.append((f"{kind}{lookup.axis + 1}", "LOOKUP"))
                for record in (
                    f"EXTVER: {lookup.version}",
                    "NAXES: 2",
                    *(f"AXIS.{k + 1}: {axes[k]}" for k in (0, 1)),
                ):
                    header.append((f"{records}{lookup.axis + 1}", record))
        return header

    def _header(self, order: list[int] | None = None) -> Header:
        """What wcslib writes of it, with its axes in another order."""
        header = Header.from_bytes(self._description.header(order))
        for keyword in ("COMMENT", ""):
            if header.getall(keyword):
                del header[keyword]
        return header

    def _lookups(self) -> tuple[tuple[tuple[Lookup, ...], str, str, str], ...]:
        """The lookup tables: their cards, those of their records, and EXTNAME."""
        return (
            (self._parts.d2im, "D2IMDIS", "D2IM", "D2IMARR"),
            (self._parts.cpdis, "CPDIS", "DP", "WCSDVARR"),
        )

    def tables(self) -> list[tuple[Header, torch.Tensor | dict[str, torch.Tensor]]]:
        """What `to_header` names that stands in HDUs of its own: header and data of each.

        Images (rows, columns) are the lookup tables of CPDIS and D2IM, float32 as others read no other type;
        columns, of one row, are those of -TAB axes.
        """
        found: list[tuple[Header, torch.Tensor | dict[str, torch.Tensor]]] = []
        for lookups, _, _, extname in self._lookups():
            for lookup in lookups:
                header = Header({"EXTNAME": extname, "EXTVER": lookup.version})
                for keyword in ("CRPIX", "CRVAL", "CDELT"):
                    for i, value in enumerate(getattr(lookup, keyword.lower()).tolist()):
                        header[f"{keyword}{i + 1}"] = value
                stored = lookup.table.T if lookup.swapped else lookup.table
                found.append((header, stored.to(torch.float32)))
        columns: dict[tuple[str, int, int], dict[str, torch.Tensor]] = {}
        for names, (shape, values) in zip(self._parts.wanted(), self._parts.arrays, strict=True):
            _, extname, version, level, column, _, _ = names
            row = values.clone().view(1, *reversed(shape))
            columns.setdefault((extname, version, level), {})[column] = row
        for (extname, version, level), table in columns.items():
            found.append((Header({"EXTNAME": extname, "EXTVER": version, "EXTLEVEL": level}), table))
        return found

    # -- of other pixels

    def section(self, section: Section, shape: tuple[int, ...]) -> WCS:
        """The world coordinates of a section of an array.

        Args:
            section: Ints, slices and Ellipsis, as `ImageHDU.read` takes it.
            shape: That of the whole tensor, in tensor order.

        Returns:
            A WCS of as many axes: those that ints take away come last, where their only pixel is 0.

        Raises:
            SectionError: The section is not one of such an array.
            FitsFormatError: The array has more axes.
            FitsUnsupported: An int takes away an axis of distortions; the pixels of distortions that only
                wcslib knows.

        Example:
            >>> header = torchfits.Header({'CRPIX1': 50.5, 'CRPIX2': 50.5})
            >>> torchfits.WCS(header).section((slice(10, 20), slice(None, None, 2)), (100, 100)).crpix
            tensor([25.7500, 40.5000], dtype=torch.float64)
        """
        if len(_lengths(shape)) > self.naxis:
            raise FitsFormatError(f"an array of {len(shape)} axes, but world coordinates of {self.naxis}")
        ranges, _ = resolve_section(section, tuple(shape))
        gone = {len(shape) - 1 - axis for axis in taken_away(section, tuple(shape))}
        more = range(len(shape), self.naxis)
        order = [axis for axis in range(len(shape)) if axis not in gone] + sorted(gone) + list(more)
        ranges = [*ranges[::-1], *(range(1) for _ in more)]
        step = tuple(float(ranges[axis].step) for axis in order)
        # the first of the new pixels is 1
        offset = tuple(ranges[axis].start + 1.0 - ranges[axis].step for axis in order)
        return self._resampled(Resampling(step, offset), order)

    def downsample(self, factor: int | tuple[int, ...]) -> WCS:
        """The world coordinates of an image of which blocks of pixels were made one, as by `avg_pool2d`.

        Args:
            factor: How many pixels of each of the last axes, in tensor order, make one; or a number for the
                last two.

        Returns:
            A WCS of as many axes.

        Raises:
            FitsFormatError: `factor` is no such number, or there are more than axes.
            FitsUnsupported: There are distortions of pixels that only wcslib knows.

        Example:
            >>> header = torchfits.Header({'CRPIX1': 50.5, 'CRPIX2': 50.5})
            >>> torchfits.WCS(header).downsample(4).crpix
            tensor([13., 13.], dtype=torch.float64)
        """
        factors = factor if isinstance(factor, tuple) else (factor,) * min(2, self.naxis)
        if any(
            isinstance(each, bool) or not isinstance(each, int) or not 0 < each < 2**31 for each in factors
        ):
            raise FitsFormatError(f"factor {factor!r:.50}: whole numbers of pixels, from 1")
        if len(factors) > self.naxis:
            raise FitsFormatError(f"{len(factors)} factors, but world coordinates of {self.naxis} axes")
        step = (*map(float, reversed(factors)), *(1.0 for _ in range(self.naxis - len(factors))))
        return self._resampled(Resampling(step, tuple((1 - each) / 2 for each in step)))

    def windows(self, corners: Any) -> list[WCS]:
        """The world coordinates of windows, one WCS each.

        Args:
            corners: (N, 2) integers, a tensor or what `torch.as_tensor` takes: (row, column) of the first
                pixel of each, from 0; they may lie outside.

        Raises:
            TypeError, FitsFormatError: They are no such integers; there is one axis only.
            FitsUnsupported: There are distortions of pixels that only wcslib knows.
        """
        places = integers(corners, "corners")
        if places.numel() and (places.ndim != 2 or places.shape[1] != 2):
            raise FitsFormatError(f"corners must be of shape (N, 2), not {tuple(places.shape)}")
        if self.naxis < 2:
            raise FitsFormatError("windows of world coordinates of one axis")
        self._check_known()
        header, rest = self._header(), (0.0,) * (self.naxis - 2)
        return [
            self._with(Resampling((1.0,) * self.naxis, (float(column), float(row), *rest)), header.copy())
            for row, column in places.tolist()
        ]

    def _check_known(self) -> None:
        if self._facts["distorted_pixels"]:
            raise FitsUnsupported("distortions of pixels that only wcslib knows are of whole images")

    def _resampled(self, by: Resampling, order: list[int] | None = None) -> WCS:
        parts = self._parts
        if order == list(range(self.naxis)):
            order = None
        self._check_known()
        distorted = parts.sip is not None or parts.d2im or parts.cpdis or self._facts["distorted"]
        if order is not None and distorted and order[:2] != [0, 1]:
            raise FitsUnsupported("an int takes away an axis of distortions; take a slice of one pixel")
        return self._with(by, self._header(order))

    def _with(self, by: Resampling, header: Header) -> WCS:
        parts = self._parts
        return WCS._of(
            parts.of_other_pixels(
                by.header(header, self.key).to_bytes(),
                None if parts.sip is None else by.sip(parts.sip),
                tuple(map(by.lookup, parts.d2im)),
                tuple(map(by.lookup, parts.cpdis)),
            )
        )

    # -- transforming

    def pixel_to_world(
        self, pixels: torch.Tensor, *, origin: int = 0, backend: Backend = "auto", mask: bool = False
    ) -> Any:
        """World coordinates of pixels.

        Args:
            pixels: (..., naxis) of any real dtype; x comes first.
            origin: What the centre of the first pixel is, 0 or 1.
            backend: 'wcslib'; 'torch', which works on any device and has gradients; 'auto' takes torch where
                a gradient is wanted, and for pixels that are not on the CPU if it can, and wcslib for others.
            mask: Return which points are valid, too.

        Returns:
            float64 (..., naxis), on the device of `pixels`; with `mask` a pair, the second bool (...). What
            has no world coordinate, beside the sky or NaN, gives NaN.

        Raises:
            FitsFormatError: `pixels` are not (..., naxis).
            TypeError: They are no real numbers.
            FitsUnsupported: The torch path was asked for, or a gradient, and cannot serve; says why.

        Source: Greisen and Calabretta 2002, Calabretta and Greisen 2002, Greisen et al. 2006; SIP: Shupe et
        al. 2005.

        Example:
            >>> torchfits.open('sky.fits')[0].wcs.pixel_to_world(torch.tensor([2.0, 1.0]))
            tensor([30., 40.], dtype=torch.float64)
        """
        return self._transform(True, pixels, origin, backend, mask)

    def world_to_pixel(
        self, world: torch.Tensor, *, origin: int = 0, backend: Backend = "auto", mask: bool = False
    ) -> Any:
        """Pixels of world coordinates, the inverse of `pixel_to_world`; distortions are undone by iteration.

        Args:
            world: (..., naxis) in `units`, of any real dtype.
            origin, backend, mask: As in `pixel_to_world`.

        Returns:
            float64 (..., naxis); what no pixel shows, and where the iteration does not end, gives NaN.

        Raises:
            FitsFormatError, TypeError, FitsUnsupported: As in `pixel_to_world`.

        Example:
            >>> torchfits.open('sky.fits')[0].wcs.world_to_pixel(torch.tensor([30.0, 40.0]))
            tensor([2., 1.], dtype=torch.float64)
        """
        return self._transform(False, world, origin, backend, mask)

    def pixels_of(self, ra: Any, dec: Any) -> torch.Tensor:
        """Where right ascensions and declinations are on the first two pixel axes.

        Args:
            ra, dec: Degrees; tensors or arrays of one shape, or numbers that stand for all.

        Returns:
            float64 (N, 2), x first, from 0; NaN where no pixel shows the position.

        Raises:
            FitsUnsupported: These axes are not right ascension and declination.
        """
        celestial = self.celestial
        pair = celestial._facts["lng"], celestial._facts["lat"]
        names = tuple(celestial.ctype[axis][:4].rstrip("-") for axis in pair)
        if {self._facts["lng"], self._facts["lat"]} != {0, 1} or names != ("RA", "DEC"):
            raise FitsUnsupported(f"the axes of pixels are {', '.join(self.ctype)}, not RA and DEC")
        given = [_real(each).to("cpu", torch.float64) for each in (ra, dec)]
        if given[0].shape != given[1].shape and 1 not in (given[0].numel(), given[1].numel()):
            raise FitsFormatError(f"ra of shape {tuple(given[0].shape)}, dec of {tuple(given[1].shape)}")
        both = torch.broadcast_tensors(*(each.reshape(-1) for each in given))
        return celestial.world_to_pixel(torch.stack(both if pair == (0, 1) else both[::-1], dim=-1))

    @property
    def tensors(self) -> TensorWCS:
        """The same by torch, which parameters can be replaced in that a gradient is wanted of.

        FitsUnsupported where only wcslib knows it.
        """
        if self._tensors is None:
            with torch.inference_mode(False):
                self._tensors = TensorWCS(self.model)
        return self._tensors

    @staticmethod
    def stack(wcs: Sequence[WCS]) -> TensorWCS:
        """Many WCS at once, which differ in numbers only.

        Returns:
            A TensorWCS that takes points (B, N, naxis), or (N, naxis) for all, to (B, N, naxis).

        Raises:
            FitsFormatError: They differ in their projection, their axes, or the kinds of distortions.
            FitsUnsupported: Only wcslib knows one of them.

        Example:
            >>> wcs = torchfits.open('sky.fits')[0].wcs
            >>> torchfits.WCS.stack([wcs, wcs]).pixel_to_world(torch.zeros(5, 2)).shape
            torch.Size([2, 5, 2])
        """
        return TensorWCS(stacked([each.model for each in wcs]))

    def _transform(self, to_world: bool, points: Any, origin: int, backend: str, mask: bool) -> Any:
        points = _checked(points, origin, self.naxis)
        if backend not in ("auto", "wcslib", "torch"):
            raise FitsUnsupported(f"backend {backend!r}: 'auto', 'wcslib' or 'torch'")
        if backend == "torch" or (backend == "auto" and self._suits_torch(points)):
            way = self.tensors.pixel_to_world if to_world else self.tensors.world_to_pixel
            return way(points, origin=origin, mask=mask)
        result = self._by_wcslib(to_world, points.detach(), origin)
        return (result, result.isfinite().all(dim=-1)) if mask else result

    def _suits_torch(self, points: torch.Tensor) -> bool:
        if points.requires_grad and torch.is_grad_enabled():
            return True
        if torch.autograd.forward_ad.unpack_dual(points).tangent is not None:
            return True
        if points.is_cpu:
            return False
        if self._tensors is not None:  # it was found out before
            return True
        known = not self._facts["distorted"] or self._facts["tpv"] is not None
        return known and why_not(self.model) is None

    def _by_wcslib(self, to_world: bool, points: torch.Tensor, origin: int) -> torch.Tensor:
        given = points.to("cpu", torch.float64).contiguous()
        result = allocate(given.shape, torch.float64)
        if given.numel():
            self._description.transform(
                to_world,
                address(given)[0],
                address(result)[0],
                given.numel() // self.naxis,
                origin,
                threads(),
            )
        return result.to(points.device)

    def __repr__(self) -> str:
        key = f" {self.key}" if self.key else ""
        axes = ", ".join(ctype or "linear" for ctype in self.ctype)
        return f"<WCS{key}: {axes}>"


# which part of a model has a parameter
_PART_OF = {
    **dict.fromkeys(("crpix", "matrix", "crval"), ""),
    **dict.fromkeys(("pv", "lonpole", "latpole"), "celestial"),
    **dict.fromkeys(("a", "b", "ap", "bp"), "sip"),
}


class TensorWCS:
    """A WCS, or several at once, computed by torch: on any device, with gradients by points and parameters.

    Made by `WCS.tensors`, `WCS.stack`, or of a `Model`. Linear axes and celestial ones in all projections but
    CSC; SIP, TPV and lookup tables. Inverses have the gradient of the implicit function.

    Raises:
        FitsUnsupported: Only wcslib knows it; says why.

    Example:
        >>> crval = torch.tensor([30.0, 40.0], dtype=torch.float64, requires_grad=True)
        >>> wcs = torchfits.open('sky.fits')[0].wcs.tensors.replace(crval=crval)
        >>> wcs.pixel_to_world(torch.tensor([2.0, 1.0]))[1].backward()
        >>> crval.grad
        tensor([0., 1.], dtype=torch.float64)
    """

    def __init__(self, model: Model):
        self._by = Transform(model)

    @property
    def model(self) -> Model:
        """What it is made of. Of a stack, each tensor has two more axes, (B, 1)."""
        return self._by.model

    def __reduce__(self) -> tuple:
        return TensorWCS, (self.model,)

    @property
    def naxis(self) -> int:
        """How many axes."""
        return self.model.naxis

    @property
    def ctype(self) -> tuple[str, ...]:
        """CTYPE of each axis; of a stack, that of the first WCS."""
        return self.model.ctype

    @property
    def units(self) -> tuple[str, ...]:
        """The units of the world coordinates: deg, or SI; '' where there is none."""
        return self.model.units

    def __repr__(self) -> str:
        many = f" {len(self.model.crpix)} of" if self.model.crpix.dim() > 1 else ""
        return f"<TensorWCS:{many} {', '.join(ctype or 'linear' for ctype in self.ctype)}>"

    def replace(self, **tensors: torch.Tensor) -> TensorWCS:
        """The same with other numbers, which may require a gradient.

        Args:
            tensors: crpix (naxis,), matrix (naxis, naxis), crval (naxis,); pv, lonpole, latpole; the SIP
                polynomials a, b, ap, bp, as `model` has them. Of a stack, with an axis (B,) before.

        Raises:
            TypeError: There is no such parameter, or what is given is no tensor.
            FitsFormatError: It is of another shape.
        """
        model = self.model
        is_stack = model.crpix.dim() > 1
        for name, value in tensors.items():
            if not isinstance(value, torch.Tensor):
                raise TypeError(f"{name} is a tensor, not {type(value).__name__}")
            where = _PART_OF.get(name)
            part: Any = model if where == "" else where and getattr(model, where)
            if where is None or part is None:
                raise TypeError(f"{name!r} is no parameter of this WCS")
            old, new = getattr(part, name), value.unsqueeze(1) if is_stack else value
            if old is not None and new.shape != old.shape:
                expected = tuple(old.squeeze(1).shape if is_stack else old.shape)
                raise FitsFormatError(f"{name} of shape {tuple(value.shape)}, not {expected}")
            part = dataclasses.replace(part, **{name: new})
            model = part if where == "" else dataclasses.replace(model, **{where: part})
        if model.sip is not None and "crpix" in tensors:
            sip = dataclasses.replace(model.sip, crpix=model.crpix[..., :2])
            model = dataclasses.replace(model, sip=sip)
        return TensorWCS(model)

    def pixel_to_world(self, pixels: torch.Tensor, *, origin: int = 0, mask: bool = False) -> Any:
        """World coordinates of pixels, as `WCS.pixel_to_world`; of a stack, (B, N, naxis)."""
        points = _checked(pixels, origin, self.naxis)
        world, valid = self._by.pixel_to_world(points.to(torch.float64) + (1 - origin))
        return (world, valid) if mask else world

    def world_to_pixel(self, world: torch.Tensor, *, origin: int = 0, mask: bool = False) -> Any:
        """Pixels of world coordinates, as `WCS.world_to_pixel`; of a stack, (B, N, naxis)."""
        pixels, valid = self._by.world_to_pixel(_checked(world, origin, self.naxis))
        pixels = pixels - (1 - origin)
        return (pixels, valid) if mask else pixels


def _lengths(shape: tuple[int, ...]) -> tuple[int, ...]:
    """`shape`, if it is one."""
    if any(isinstance(each, bool) or not isinstance(each, int) or not 0 <= each < 2**63 for each in shape):
        raise FitsFormatError(f"{shape!r:.50} is not the shape of an array")
    return shape


def _checked(points: Any, origin: int, naxis: int) -> torch.Tensor:
    points = _real(points)
    if points.ndim == 0 or points.shape[-1] != naxis:
        raise FitsFormatError(f"points of shape {tuple(points.shape)}: the last dimension must be {naxis}")
    if origin not in (0, 1):
        raise FitsFormatError(f"origin {origin!r}: 0 or 1")
    return points


def _real(points: Any) -> torch.Tensor:
    found: Any = points
    dtype: torch.dtype | None = torch.float64  # of numbers of Python, which are doubles
    if hasattr(getattr(points, "dtype", None), "newbyteorder"):  # of numpy: torch takes no other byte order
        found, dtype = points.astype(points.dtype.newbyteorder("=")), None
    try:
        found = (
            found if isinstance(found, torch.Tensor) else torch.as_tensor(found, dtype=dtype, device="cpu")
        )
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"points: {error}") from None
    if found.is_complex() or found.dtype == torch.bool:
        raise TypeError(f"points are real numbers, not {found.dtype}")
    return found


def _sip_cards(sip: Sip) -> list[tuple[str, float]]:
    cards: list[tuple[str, float]] = []
    for name, polynomial in (("A", sip.a), ("B", sip.b), ("AP", sip.ap), ("BP", sip.bp)):
        if polynomial is None:
            continue
        cards.append((f"{name}_ORDER", len(polynomial) - 1))
        cards += [(f"{name}_{i}_{j}", polynomial[i, j].item()) for i, j in polynomial.nonzero().tolist()]
    return cards
