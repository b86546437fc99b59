"""What world coordinates are made of: the cards for wcslib, beside them SIP, lookup tables, -TAB arrays."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch

from torchfits._tensors import address
from torchfits._wcs import POLYNOMIAL_ORDER, Description
from torchfits.errors import FitsFormatError, FitsUnsupported
from torchfits.header import CARD, Header
from torchfits.wcs_model import Lookup, Sip, numbers

if TYPE_CHECKING:
    from torchfits.hdulist import HDUList

_CTYPE = re.compile(rb"CTYPE(\d{1,3})([A-Z]?) *= *'([^']*)'")
_PV = re.compile(rb"PV(\d{1,3})_(\d{1,3})([A-Z]?) *=")
# the cards of lookup tables, which wcslib must not see
_TABLE_CARD = re.compile(rb"(?:CPDIS|D2IMDIS|DP|D2IM|CPERR|D2IMERR)(\d+)[ .=]")
_RECORD = re.compile(r"(\S+) *: *(\S+)$")
# with TAN, PVi_0 to PVi_4 have a meaning; higher ones are what SCAMP wrote before TPV had its name
_SCAMP_FROM = 5

# kind, EXTNAME, EXTVER, EXTLEVEL, column, row, axes
Wanted = tuple[str, str, int, int, str, int, int]


@dataclass(slots=True)
class Parts:
    """What a WCS is made of, as far as it came from files; pickles."""

    header: bytes  # whole cards, without END
    key: str
    celestial: bool = False
    sip: Sip | None = None
    d2im: tuple[Lookup, ...] = ()
    cpdis: tuple[Lookup, ...] = ()
    # of -TAB axes: the shape as in FITS, and the values
    arrays: list[tuple[tuple[int, ...], torch.Tensor]] = field(default_factory=list)

    @classmethod
    def read(cls, header: Header, key: str, hdus: HDUList | None) -> Parts:
        """Those that the cards of a header and their tables make."""
        cards = header.to_bytes()
        parts = cls(cards[: cards.rindex(b"END".ljust(CARD))], key)
        if (b"A_ORDER " in cards or b"B_ORDER " in cards) and not parts._has_tpv():
            parts.sip = read_sip(header)
        if b"D2IMDIS" in cards or b"CPDIS" in cards:
            parts.d2im = tuple(_lookups(header, "D2IMDIS", "D2IM", "D2IMARR", hdus))
            parts.cpdis = tuple(_lookups(header, "CPDIS", "DP", "WCSDVARR", hdus))
        elif "AXISCORR" in header:
            parts.d2im = tuple(_old_lookup(header, hdus))
        return parts

    def describe(self, hdus: HDUList | None = None) -> Description:
        """What transforms points. The arrays of -TAB axes are read from `hdus` where they are not known."""
        description = Description(self._cards(), self.key or " ", self.celestial)
        wanted = description.wanted()
        if not self.arrays:
            self.arrays = [_tab_array(hdus, *each) for each in wanted]
        for i, (shape, values) in enumerate(self.arrays if wanted else ()):
            description.give(i, shape, address(values)[0])
        description.finish()
        if self.sip is not None or self.d2im or self.cpdis:
            facts = description.facts()
            if len(facts["crpix"]) < 2:
                raise FitsUnsupported("distortions are of two pixel axes, but there is only one")
            if self.sip is not None:
                self.sip = replace(self.sip, crpix=numbers(facts["crpix"][:2]))
                _give_sip(description, self.sip)
        for cpdis, lookups in enumerate((self.d2im, self.cpdis)):
            for lookup in lookups:
                _give_lookup(description, bool(cpdis), lookup)
        return description

    def wanted(self) -> list[Wanted]:
        """The arrays of -TAB axes that the cards name, in the order of `arrays`."""
        return Description(self._cards(), self.key or " ", self.celestial).wanted()

    def of_other_pixels(
        self, header: bytes, sip: Sip | None, d2im: tuple[Lookup, ...], cpdis: tuple[Lookup, ...]
    ) -> Parts:
        """Those of a header that names the same arrays of -TAB axes."""
        parts = Parts(header[: header.rindex(b"END".ljust(CARD))], self.key, False, sip, d2im, cpdis)
        if self.arrays:
            arrays = dict(zip(self.wanted(), self.arrays, strict=True))
            parts.arrays = [arrays[each] for each in parts.wanted()]
        return parts

    # -- which cards wcslib sees

    def _ctypes(self) -> dict[int, str]:
        found = {}
        for match in _CTYPE.finditer(self.header):
            if match.start() % CARD == 0 and match[2].decode() == self.key:
                found[int(match[1])] = match[3].decode("latin-1").strip()
        return found

    def _scamp_axes(self) -> set[int]:
        """Axes with parameters that only SCAMP gives to TAN."""
        return {
            int(match[1])
            for match in _PV.finditer(self.header)
            if match.start() % CARD == 0 and match[3].decode() == self.key and int(match[2]) >= _SCAMP_FROM
        }

    def _is_scamp(self) -> bool:
        """Whether TAN stands where TPV is meant, as before 2012."""
        if b"PV" not in self.header:
            return False
        tan = {axis for axis, ctype in self._ctypes().items() if ctype.endswith("-TAN")}
        return len(tan) == 2 and bool(tan & self._scamp_axes())

    def _has_tpv(self) -> bool:
        return sum(ctype.endswith("-TPV") for ctype in self._ctypes().values()) == 2 or self._is_scamp()

    def _cards(self) -> bytes:
        cards = self.header
        looked_up = {b"%d" % (lookup.axis + 1) for lookup in (*self.d2im, *self.cpdis)}
        if looked_up:
            cards = b"".join(
                card
                for card in _cards_of(cards)
                if not ((match := _TABLE_CARD.match(card)) and match[1] in looked_up)
            )
        if self._is_scamp():
            cards = b"".join(
                card.replace(b"-TAN", b"-TPV") if card.startswith(b"CTYPE") else card
                for card in _cards_of(cards)
            )
        elif self.sip is not None and b"PV" in cards and self._prefers_sip():
            cards = b"".join(card for card in _cards_of(cards) if not _PV.match(card))
        return cards

    def _prefers_sip(self) -> bool:
        """Whether SCAMP's parameters were left in a header that has them as SIP."""
        ctypes = self._ctypes()
        scamp = any("-TAN" in ctypes.get(axis, "") for axis in self._scamp_axes())
        return scamp and all(ctype.endswith("-SIP") for ctype in ctypes.values())


def _cards_of(cards: bytes) -> Iterator[bytes]:
    return (cards[i : i + CARD] for i in range(0, len(cards), CARD))


def _number(header: Header, keyword: str, default: float | None = None) -> float:
    value = header.get(keyword, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or abs(value) > 1e308:
        raise FitsFormatError(f"{keyword} = {value!r} is no number")
    return float(value)


# ---------------------------------------------------------------------------- SIP


def read_sip(header: Header) -> Sip | None:
    """The SIP polynomials of a header, None where there are none that do something."""
    forward, inverse = _polynomials(header, "A", "B"), _polynomials(header, "AP", "BP")
    if forward is None:
        return None  # the inverse is only a guess at the forward ones
    return Sip(numbers([0, 0]), *forward, *(inverse or (None, None)))


def _polynomials(header: Header, first: str, second: str) -> tuple[torch.Tensor, torch.Tensor] | None:
    orders = []
    for name, other in ((first, second), (second, first)):
        if f"{name}_ORDER" not in header and f"{other}_ORDER" in header:
            raise FitsFormatError(f"SIP: {other}_ORDER without {name}_ORDER")
        order = _number(header, f"{name}_ORDER", 0)
        if order != math.floor(order) or order < 0:
            raise FitsFormatError(f"{name}_ORDER = {order:g} is no order")
        if order > POLYNOMIAL_ORDER:
            raise FitsUnsupported(f"{name}_ORDER = {order:g}: at most {POLYNOMIAL_ORDER}")
        orders.append(int(order))
    # what is linear belongs to the matrix
    if min(orders) < 2:
        return None
    return _polynomial(header, first, orders[0]), _polynomial(header, second, orders[1])


def _polynomial(header: Header, name: str, order: int) -> torch.Tensor:
    rows = [
        [_number(header, f"{name}_{i}_{j}", 0) if i + j <= order else 0.0 for j in range(order + 1)]
        for i in range(order + 1)
    ]
    return numbers(rows)


def _give_sip(description: Description, sip: Sip) -> None:
    kept: list[torch.Tensor] = []

    def both(a: torch.Tensor, b: torch.Tensor) -> tuple[int, int, int]:
        """The order and the addresses of two polynomials, as large as the larger."""
        side = max(len(a), len(b))
        pair = [torch.nn.functional.pad(each, (0, side - len(each)) * 2).contiguous() for each in (a, b)]
        kept.extend(pair)
        return side - 1, address(pair[0])[0], address(pair[1])[0]

    assert sip.a is not None
    assert sip.b is not None
    inverse = None if sip.ap is None or sip.bp is None else both(sip.ap, sip.bp)
    description.set_sip(sip.crpix.tolist(), both(sip.a, sip.b), inverse, kept)


# ---------------------------------------------------------------------------- lookup tables


def _records(header: Header, keyword: str) -> dict[str, float]:
    """The fields of record-valued cards, such as DP1 = 'EXTVER: 1'."""
    fields = {}
    for value in header.getall(keyword):
        match = _RECORD.match(value) if isinstance(value, str) else None
        try:
            if match is not None:
                fields[match[1]] = float(match[2])
        except ValueError:
            raise FitsFormatError(f"{keyword} = {value!r}: no number") from None
    return fields


def _lookups(header: Header, kind: str, records: str, extname: str, hdus: HDUList | None) -> Iterator[Lookup]:
    for axis in (1, 2):
        if str(header.get(f"{kind}{axis}", "")).strip().upper() != "LOOKUP":
            continue
        fields = _records(header, f"{records}{axis}")
        version = fields.get("EXTVER", 1)
        if not 0 <= version < 2**31:
            raise FitsFormatError(f"{records}{axis}: EXTVER {version:g}")
        swapped = fields.get(f"AXIS.{axis}", axis) != axis
        where = f"{kind}{axis}"
        yield _lookup(axis - 1, where, extname, int(version), hdus, swapped)


def _old_lookup(header: Header, hdus: HDUList | None) -> Iterator[Lookup]:
    """The table of AXISCORR, by which HST did the same before there was D2IMDIS."""
    axis = _number(header, "AXISCORR")
    if axis in (1, 2) and hdus is None:
        raise FitsUnsupported("AXISCORR: the table is in D2IMARR, 1; pass hdus=")
    if axis in (1, 2) and hdus is not None and ("D2IMARR", 1) in hdus:
        yield _lookup(int(axis) - 1, "AXISCORR", "D2IMARR", 1, hdus, swapped=False)


def _lookup(axis: int, where: str, extname: str, version: int, hdus: HDUList | None, swapped: bool) -> Lookup:
    if hdus is None:
        raise FitsUnsupported(f"{where}: the table is in {extname}, {version}; pass hdus=")
    if (extname, version) not in hdus:
        raise FitsFormatError(f"{where}: there is no HDU {extname}, {version}")
    hdu = hdus[extname, version]
    header = hdu.read_header()
    if not hasattr(hdu, "read"):
        raise FitsFormatError(f"{where}: {extname}, {version} is no image")
    table = hdu.read(dtype=torch.float64)
    if table.ndim == 1:
        table = table[None]
    if table.ndim != 2 or not table.numel() or table.numel() >= 2**31:
        raise FitsFormatError(f"{where}: {extname}, {version} has shape {tuple(table.shape)}")
    table = (table.T if swapped else table).contiguous()

    def pair(keyword: str, default: float) -> torch.Tensor:
        return numbers([_number(header, f"{keyword}{i}", default) for i in (1, 2)])

    cdelt = pair("CDELT", 1.0)
    if not cdelt.all():
        raise FitsFormatError(f"{where}: {extname}, {version} has a CDELT of 0")
    return Lookup(axis, table, pair("CRPIX", 0.0), pair("CRVAL", 0.0), cdelt, version, swapped)


def _give_lookup(description: Description, cpdis: bool, lookup: Lookup) -> None:
    crpix, crval, cdelt = (each.tolist() for each in (lookup.crpix, lookup.crval, lookup.cdelt))
    description.set_lookup(
        cpdis, lookup.axis, lookup.table.shape, address(lookup.table)[0], crpix, crval, cdelt, lookup.table
    )


# ---------------------------------------------------------------------------- -TAB


def _tab_array(
    hdus: HDUList | None, kind: str, extname: str, version: int, level: int, column: str, row: int, axes: int
) -> tuple[tuple[int, ...], torch.Tensor]:
    """An array of -TAB axes: its shape as in FITS, and its values."""
    where = f"-TAB column {column!r} of {extname}, {version}"
    if hdus is None:
        raise FitsUnsupported(f"{where}: pass hdus=")
    if (extname, version) not in hdus:
        raise FitsFormatError(f"{where}: there is no such HDU")
    hdu = hdus[extname, version]
    if not hasattr(hdu, "read_table"):
        raise FitsFormatError(f"{where}: the HDU is no table")
    (values,) = hdu.read_table(columns=[column], rows=slice(row - 1, row)).values()
    if values.is_nested or values.is_complex() or len(values) != 1:
        raise FitsFormatError(f"{where}: no array of numbers")
    shape = tuple(reversed(values.shape[1:])) or (1,)
    if kind == "c" and axes == 2 and len(shape) == 1:  # TDIM may be left out where each element is one number
        shape = (1, *shape)
    if len(shape) != axes or 0 in shape or max(shape) >= 2**31:
        raise FitsFormatError(f"{where}: shape {shape}, not of {axes} axes")
    if kind == "c" and shape[0] != axes - 1:
        raise FitsFormatError(f"{where}: coordinates of {shape[0]} numbers, for {axes - 1} axes")
    return shape, values.to(torch.float64).contiguous()
