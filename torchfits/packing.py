"""Whole files: every image tile-compressed or decompressed, everything else as it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import zip_longest

import torch

from torchfits.compression import Compression, Quantize
from torchfits.errors import FitsError, FitsFormatError
from torchfits.hdu import HDU
from torchfits.hdulist import HDUList, open
from torchfits.header import Card, Header
from torchfits.image import ImageHDU
from torchfits.layout import MAX_PIECE
from torchfits.source import Path, file_path
from torchfits.writer import Unit, checksums_hold, compressed, empty_primary, with_checksums, write_whole

# what an image is to be compressed with
Choose = Callable[[ImageHDU], tuple[Compression, Quantize | None]]
# called with the bytes that are done
Advance = Callable[[int], None]


def compress_file(
    source: Path, target: Path, choose: Choose, advance: Advance, overwrite: bool = False
) -> int:
    """Write `target` with the images of `source` compressed; returns how many those are.

    A primary HDU with an image becomes the first extension, as fpack has it.
    """
    count = 0

    def units(hdus: HDUList) -> Iterator[Unit]:
        nonlocal count
        for hdu in hdus:
            if isinstance(hdu, ImageHDU) and is_plain(hdu):
                if hdu.index == 0:
                    yield empty_primary()
                yield _compressed(hdu, choose)
                count += 1
            else:
                yield _Copy(hdu)
            advance(hdu._hdu.data_size)

    with open(source, cache=False) as hdus:
        write_whole(file_path(target), units(hdus), overwrite)
    return count


def decompress_file(source: Path, target: Path, advance: Advance, overwrite: bool = False) -> int:
    """Write `target` with the images of `source` decompressed; returns how many those are."""
    count = 0

    def units(hdus: HDUList) -> Iterator[Unit]:
        nonlocal count
        first = 1 if is_wrapped(hdus) else 0
        for hdu in hdus:
            if hdu.index < first:
                continue
            if isinstance(hdu, ImageHDU) and hdu.compression is not None:
                yield _plain(hdu, primary=hdu.index == first)
                count += 1
            else:
                yield _Copy(hdu)
            advance(hdu._hdu.data_size)

    with open(source, cache=False) as hdus:
        write_whole(file_path(target), units(hdus), overwrite)
    return count


def check_same(one: Path, other: Path) -> None:
    """FitsFormatError where the images of one file are not those of the other, or their headers are not.

    Either may be compressed. Where it was done with loss, NaN must be in the same places.
    """
    with open(one, cache=False) as left, open(other, cache=False) as right:
        pairs = zip_longest(list(left)[is_wrapped(left) :], list(right)[is_wrapped(right) :])
        for a, b in pairs:
            if a is None or b is None:
                raise FitsFormatError("the files have different numbers of HDUs")
            reason = _difference(a, b)
            if reason:
                raise FitsFormatError(
                    f"what was written differs in its {reason}", path=left.path, hdu=a.index
                )


def is_plain(hdu: ImageHDU) -> bool:
    """Whether there is an image in it that can be compressed."""
    return hdu._hdu.kind == "image" and hdu.compression is None and 0 not in hdu.shape


def is_wrapped(hdus: HDUList) -> bool:
    """Whether the primary HDU is there only because a compressed image cannot be in it."""
    if len(hdus) < 2 or hdus[0]._hdu.data_size:
        return False
    return hdus[1]._hdu.compressed and "ZSIMPLE" in hdus[1]._hdu.header


class _Copy(Unit):
    """An HDU as it is in another file."""

    def __init__(self, hdu: HDU):
        self._hdu = hdu._hdu
        hdu._parent._opened().check_data(self._hdu)
        super().__init__(hdu._hdu.header, [], self._hdu.data_size)

    def _data_pieces(self) -> Iterator[torch.Tensor]:
        source, size = self._hdu.source, self._hdu.data_size
        for at in range(0, size, MAX_PIECE):
            piece = source.read(self._hdu.data_start + at, min(MAX_PIECE, size - at))
            yield torch.frombuffer(bytearray(piece), dtype=torch.uint8)
        source.check_unchanged()


def _compressed(hdu: ImageHDU, choose: Choose) -> Unit:
    try:
        return with_checksums(compressed(hdu._hdu.header, hdu.read(raw=True), *choose(hdu)))
    except FitsError as error:
        error.locate(path=hdu._parent.path, hdu=hdu.index)
        raise


def _plain(hdu: ImageHDU, primary: bool) -> Unit:
    header, pixels = hdu.read_header(), hdu.read(raw=True)
    cards = {card.keyword: card for card in header.cards}
    naxis = 3 + header["NAXIS"]
    first, rest = header.cards[1:naxis], header.cards[naxis:]
    if primary:
        first.insert(0, cards.get("SIMPLE", Card("SIMPLE", True)))
    else:
        first.insert(0, cards.get("XTENSION", Card("XTENSION", "IMAGE")))
        first += [cards.get("PCOUNT", Card("PCOUNT", 0)), cards.get("GCOUNT", Card("GCOUNT", 1))]
        rest = [card for card in rest if card.keyword not in ("PCOUNT", "GCOUNT", "EXTEND")]
    unit = Unit(Header(first + rest), [pixels], pixels.nbytes)
    if "CHECKSUM" in unit.header and not checksums_hold(unit):
        return with_checksums(unit)
    return unit


def _difference(a: HDU, b: HDU) -> str:
    """What differs; '' where nothing does."""
    if not isinstance(a, ImageHDU) or not isinstance(b, ImageHDU):
        return _difference_of_bytes(_Copy(a), _Copy(b))
    if a.shape != b.shape:
        return "shape"
    ours = ("SIMPLE", "XTENSION", "PCOUNT", "GCOUNT", "EXTEND", "CHECKSUM", "DATASUM")
    headers = [[card for card in hdu.read_header().cards if card.keyword not in ours] for hdu in (a, b)]
    if headers[0] != headers[1]:
        return "header"
    one, two = a.read(raw=True), b.read(raw=True)
    if any(hdu.quantize is not None or getattr(hdu.compression, "scale", 0) != 0 for hdu in (a, b)):
        return "" if torch.equal(one.isnan(), two.isnan()) else "nulls"
    return "" if torch.equal(one.view(torch.uint8), two.view(torch.uint8)) else "pixels"


def _difference_of_bytes(one: _Copy, two: _Copy) -> str:
    if one.header != two.header or one.size != two.size:
        return "header"
    same = all(torch.equal(x, y) for x, y in zip(one.pieces(), two.pieces(), strict=True))
    return "" if same else "data"
