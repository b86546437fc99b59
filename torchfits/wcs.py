"""WCS: from pixels to the world and back, on tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NoReturn

import torch

from torchfits._tensors import address, allocate, threads
from torchfits._wcs import Description
from torchfits.errors import FitsFormatError, FitsUnsupported
from torchfits.header import Header
from torchfits.wcs_model import Celestial, Model, Sip, Tpv
from torchfits.wcs_parts import Parts

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
        header: A Header, or the bytes of one.
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

    __slots__ = ("_celestial", "_description", "_facts", "_model", "_parts")

    _parts: Parts
    _description: Description
    _facts: dict[str, Any]
    _model: Model | None
    _celestial: WCS | None

    def __init__(self, header: Header | bytes, *, key: str = "", hdus: HDUList | None = None):
        if isinstance(header, (bytes, bytearray)):
            header = Header.from_bytes(bytes(header))
        if not isinstance(header, Header):
            raise TypeError(f"a WCS is made of a Header or its bytes, not {type(header).__name__}")
        key = key.strip().upper()
        if key and (len(key) != 1 or not "A" <= key <= "Z"):
            raise FitsFormatError(f"key {key!r}: the letter of a description, or ''")
        self._make(Parts.read(header, key, hdus), hdus)

    def _make(self, parts: Parts, hdus: HDUList | None = None) -> None:
        put = object.__setattr__
        description = parts.describe(hdus)
        put(self, "_parts", parts)
        put(self, "_description", description)
        put(self, "_facts", description.facts())
        put(self, "_model", None)
        put(self, "_celestial", None)

    @classmethod
    def _of(cls, parts: Parts) -> WCS:
        wcs = cls.__new__(cls)
        wcs._make(parts)
        return wcs

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("a WCS does not change; make one of a changed header")

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
        return torch.tensor(self._facts["crpix"], dtype=torch.float64)

    @property
    def crval(self) -> torch.Tensor:
        """CRVAL of each axis, in `units`."""
        return torch.tensor(self._facts["crval"], dtype=torch.float64)

    @property
    def celestial(self) -> WCS:
        """The longitude and latitude axes alone.

        FitsUnsupported where there are none, or where their pixels depend on those of others.
        """
        found = self._celestial
        if found is None:
            whole = self._facts["cubeface"] < 0 and {self._facts["lng"], self._facts["lat"]} == {0, 1}
            found = self if whole and self.naxis == 2 else self._part()
            object.__setattr__(self, "_celestial", found)
        return found

    def _part(self) -> WCS:
        parts, facts = self._parts, self._facts
        distorted = parts.sip is not None or parts.d2im or parts.cpdis
        if distorted and {facts["lng"], facts["lat"]} != {0, 1}:
            raise FitsUnsupported("the distortions are not of the celestial axes")
        return WCS._of(Parts(parts.header, parts.key, True, parts.sip, parts.d2im, parts.cpdis, parts.arrays))

    @property
    def pixel_scale(self) -> torch.Tensor:
        """How far the world moves by a pixel of each axis, at CRPIX, in `units`, (naxis,)."""
        matrix = torch.tensor(self._facts["matrix"], dtype=torch.float64)
        return torch.linalg.vector_norm(matrix, dim=0)

    def footprint(self, shape: tuple[int, ...]) -> torch.Tensor:
        """The world coordinates of the centres of the corner pixels, (4, 2), from the first one clockwise
        as an image is shown, the first row below.

        Args:
            shape: That of the tensor of pixels; the last two axes count, which must be the celestial ones
                where there are more.
        """
        if len(shape) < 2:
            raise FitsFormatError(f"the footprint of an array of shape {tuple(shape)}: it has no corners")
        wcs = self if self.naxis == 2 else self.celestial
        if wcs is not self and {self._facts["lng"], self._facts["lat"]} != {0, 1}:
            raise FitsUnsupported("the first two pixel axes are not the celestial ones")
        top, right = shape[-2] - 1, shape[-1] - 1
        return wcs.pixel_to_world(torch.tensor([[0, 0], [0, top], [right, top], [right, 0]]))

    @property
    def model(self) -> Model:
        """What it is made of, as numbers, for the torch path; FitsUnsupported where only wcslib knows it."""
        found = self._model
        if found is None:
            found = self._as_model()
            object.__setattr__(self, "_model", found)
        return found

    def _as_model(self) -> Model:
        facts, parts = self._facts, self._parts
        if facts["distorted"] and facts["tpv"] is None:
            raise FitsUnsupported("only wcslib knows these distortions")
        if facts["cubeface"] >= 0:
            raise FitsUnsupported("only wcslib knows CUBEFACE axes")

        def tensor(values: Any) -> torch.Tensor:
            return torch.tensor(values, dtype=torch.float64)

        has_pair = facts["lng"] >= 0 and facts["types"][facts["lng"]] == 2200
        celestial = None
        if has_pair:
            celestial = Celestial(
                lng=facts["lng"],
                lat=facts["lat"],
                projection=facts["projection"],
                pv=tensor(facts["pv"]),
                phi0=tensor(facts["phi0"]),
                theta0=tensor(facts["theta0"]),
                offset=facts["offset"],
                lonpole=tensor(facts["lonpole"]),
                latpole=tensor(facts["latpole"]),
            )
        return Model(
            crpix=self.crpix,
            matrix=tensor(facts["matrix"]),
            crval=self.crval,
            ctype=self.ctype,
            units=self.units,
            linear=tuple(code // 100 % 10 in _LINEAR for code in facts["types"]),
            celestial=celestial,
            sip=parts.sip,
            tpv=None if facts["tpv"] is None else Tpv(tensor(facts["tpv"])),
            d2im=parts.d2im,
            cpdis=parts.cpdis,
        )

    def to_header(self) -> Header:
        """The cards of this description, of which `WCS` makes the same again.

        Tables stay where they are: where there are some, `WCS` wants `hdus` again.
        """
        header = Header.from_bytes(self._description.header())
        for keyword in ("COMMENT", ""):
            if header.getall(keyword):
                del header[keyword]
        if self._parts.sip is not None:
            for keyword_and_value in _sip_cards(self._parts.sip):
                header.append(keyword_and_value)
        if self._parts.d2im or self._parts.cpdis:
            for card in Header.from_bytes(self._parts.header).cards:
                if card.keyword.startswith(("CPDIS", "DP", "D2IM", "AXISCORR")):
                    header.append(card)
        return header

    # -- transforming

    def pixel_to_world(
        self, pixels: torch.Tensor, *, origin: int = 0, backend: Backend = "auto", mask: bool = False
    ) -> Any:
        """World coordinates of pixels.

        Args:
            pixels: (..., naxis) of any real dtype; x comes first.
            origin: What the centre of the first pixel is, 0 or 1.
            backend: 'wcslib'; 'torch', which works on any device and has gradients; 'auto' takes torch for
                pixels that are not on the CPU or require a gradient, and wcslib for others.
            mask: Return which points are valid, too.

        Returns:
            float64 (..., naxis), on the device of `pixels`; with `mask` a pair, the second bool (...). What
            has no world coordinate, beside the sky or NaN, gives NaN.

        Raises:
            FitsFormatError: `pixels` are not (..., naxis).
            FitsUnsupported: The torch path was asked for and cannot serve; says why.
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
            FitsFormatError, FitsUnsupported: As in `pixel_to_world`.
        """
        return self._transform(False, world, origin, backend, mask)

    def _transform(self, to_world: bool, points: Any, origin: int, backend: str, mask: bool) -> Any:
        points = _real(points)
        if points.ndim == 0 or points.shape[-1] != self.naxis:
            raise FitsFormatError(
                f"points of shape {tuple(points.shape)}: the last dimension must be {self.naxis}"
            )
        if origin not in (0, 1):
            raise FitsFormatError(f"origin {origin!r}: 0 or 1")
        if backend not in ("auto", "wcslib", "torch"):
            raise FitsUnsupported(f"backend {backend!r}: 'auto', 'wcslib' or 'torch'")
        wants_gradient = points.requires_grad and torch.is_grad_enabled()
        if backend == "torch" or (backend == "auto" and (wants_gradient or not points.is_cpu)):
            return self._by_torch(to_world, points, origin, mask)
        result = self._by_wcslib(to_world, points.detach(), origin)
        return (result, result.isfinite().all(dim=-1)) if mask else result

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

    def _by_torch(self, to_world: bool, points: torch.Tensor, origin: int, mask: bool) -> Any:
        raise FitsUnsupported("the torch path is not there yet; use backend='wcslib'")

    def __repr__(self) -> str:
        key = f" {self.key}" if self.key else ""
        axes = ", ".join(ctype or "linear" for ctype in self.ctype)
        return f"<WCS{key}: {axes}>"


def _real(points: Any) -> torch.Tensor:
    points = torch.as_tensor(points)
    if points.is_complex() or points.dtype == torch.bool:
        raise TypeError(f"points are real numbers, not {points.dtype}")
    return points


def _sip_cards(sip: Sip) -> list[tuple[str, float]]:
    cards: list[tuple[str, float]] = []
    for name, polynomial in (("A", sip.a), ("B", sip.b), ("AP", sip.ap), ("BP", sip.bp)):
        if polynomial is None:
            continue
        cards.append((f"{name}_ORDER", len(polynomial) - 1))
        cards += [(f"{name}_{i}_{j}", polynomial[i, j].item()) for i, j in polynomial.nonzero().tolist()]
    return cards
