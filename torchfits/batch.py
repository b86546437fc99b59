"""read_batch() and read_keys(): the same image, or the same keywords, of many files in one call."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import torch

from torchfits._direct import Conversion, read_cards, read_stack
from torchfits._tensors import CODES, Device, address, check_device, check_out, deliver, threads
from torchfits.errors import FitsError, FitsFormatError, FitsWarning
from torchfits.hdulist import Key, open
from torchfits.header import CARD, Card
from torchfits.image import ImageHDU
from torchfits.layout import ImageLayout, Section, resolve_section
from torchfits.source import Path, file_path

_PLAIN = re.compile(r"[A-Z0-9_-]{1,8}$")
_SHOWN = 5  # files that a warning names


def read_batch(
    paths: Sequence[Path],
    hdu: Key = 0,
    section: Section = None,
    *,
    out: torch.Tensor | None = None,
    on_error: Literal["raise", "fill"] = "raise",
    dtype: torch.dtype | None = None,
    device: Device = "cpu",
) -> torch.Tensor:
    """Read the same image of many files into one stacked tensor.

    Plain images are opened and read by our own kernels, without the GIL and in several threads;
    compressed ones, and all that is unusual, one after the other. Files are opened anew: the cache of open
    files is neither used nor filled.

    Args:
        paths: The files; a path may come more than once.
        hdu: Index, EXTNAME or (EXTNAME, EXTVER), the same in each.
        section: As in `ImageHDU.read`, the same of each.
        out: A contiguous tensor of the right shape and dtype to read into; it is returned.
        on_error: 'raise' the first error, or 'fill' the place of each file that fails with NaN, which needs a
            floating dtype, and name them in one FitsWarning.
        dtype, device: As in `ImageHDU.read`.

    Returns:
        A tensor (N, ...): the section of each file in the order of `paths`. The first file that can be read
        decides the shape, and unless `dtype` or `out` is given the dtype; without paths it is of shape (0,).

    Raises:
        FitsFormatError: A file differs in shape or dtype; or as `open` and `ImageHDU.read` raise, with the
            path of the file. With on_error='fill' only where no file can be read.

    Example:
        >>> torchfits.read_batch(['image.fits', 'image.fits'], section=(0, slice(0, 2)))
        tensor([[0., 1.],
                [0., 1.]])
    """
    if on_error not in ("raise", "fill"):
        raise ValueError(f"on_error {on_error!r}: 'raise' or 'fill'")
    if out is not None and not isinstance(out, torch.Tensor):
        raise TypeError(f"out must be a torch.Tensor, not {type(out).__name__}")
    target = check_device(out.device if out is not None else device)
    dtype = out.dtype if dtype is None and out is not None else dtype
    names = [file_path(path) for path in paths]
    failed: dict[int, FitsError] = {}
    first = _first_image(names, hdu, on_error, failed)
    if first is None:
        if out is not None:
            check_out(out, (0, *out.shape[1:]), out.dtype)
        return torch.empty((0,), dtype=dtype or torch.float32, device=target) if out is None else out
    image, natural = first
    _, shape = resolve_section(section, image.shape)
    wanted = dtype or natural
    if on_error == "fill" and not wanted.is_floating_point:
        raise FitsFormatError(
            f"{wanted} has no NaN to fill with; pass a floating dtype=, or on_error='raise'"
        )
    if out is not None:
        check_out(out, (len(names), *shape), wanted)
    element = wanted if wanted in CODES else natural
    same = None if dtype is not None else natural
    pixels = max(_product(shape), 1)

    def read(first: int, last: int, tensor: torch.Tensor) -> None:
        stack = tensor.view(last - first, *shape)
        for i in _read_plain(names[first:last], hdu, image, section, stack, natural, same):
            try:
                if first + i in failed:
                    raise failed[first + i]
                _read_one(names[first + i], hdu, section, image, stack[i], same)
            except FitsError as error:
                if on_error == "raise":
                    raise
                failed[first + i] = error
                stack[i].fill_(float("nan"))

    def parts(most: int | None) -> Iterator[tuple[int, Callable[[torch.Tensor], None]]]:
        step = len(names) if most is None else max(most // pixels, 1)
        for i in range(0, len(names), step):
            last = min(i + step, len(names))
            yield (last - i) * _product(shape), lambda tensor, i=i, last=last: read(i, last, tensor)

    stack = deliver((len(names), *shape), element, parts, wanted, target, out)
    if failed:
        shown = "; ".join(str(failed[i]) for i in sorted(failed)[:_SHOWN])
        more = f"; and {len(failed) - _SHOWN} more" if len(failed) > _SHOWN else ""
        warnings.warn(
            f"{len(failed)} of {len(names)} files are NaN: {shown}{more}", FitsWarning, stacklevel=2
        )
    return stack


def _product(shape: Sequence[int]) -> int:
    product = 1
    for length in shape:
        product *= length
    return product


def _image_of(file: Any, hdu: Key) -> ImageHDU:
    found = file[hdu]
    if not isinstance(found, ImageHDU):
        raise FitsFormatError("not an image", path=file.path, hdu=found.index)
    return found


def _first_image(
    names: list[str | bytes], hdu: Key, on_error: str, failed: dict[int, FitsError]
) -> tuple[ImageLayout, torch.dtype] | None:
    """The first file that can be opened decides: its layout and its dtype."""
    for i, name in enumerate(names):
        try:
            with open(name, cache=False) as file:
                found = _image_of(file, hdu)
                return found._image(), found.dtype
        except FitsError as error:
            if on_error == "raise" or i == len(names) - 1:
                raise failed.get(0, error) from None
            failed[i] = error
    return None


def _read_plain(
    names: list[str | bytes],
    hdu: Key,
    image: ImageLayout,
    section: Section,
    stack: torch.Tensor,
    natural: torch.dtype,
    same: torch.dtype | None,
) -> list[int]:
    """Read what our kernels can; the places of the files that are left."""
    which = _which(hdu)
    if which is None or stack.numel() == 0 or image.parameters:
        return list(range(len(names)))
    ranges, _ = resolve_section(section, image.shape)
    axes = [
        (axis.start, len(axis), axis.step, pitch) for axis, pitch in zip(ranges, image.pitches, strict=True)
    ]
    conversion = Conversion(image.bitpix, image.scale, image.zero, image.blank, CODES[stack.dtype])
    done = read_stack(
        [os.fsencode(name) for name in names],
        which,
        image.bitpix,
        image.shape,
        conversion,
        same is None,
        axes,
        *address(stack),
        threads(),
    )
    return [i for i, each in enumerate(done) if not each]


def _which(hdu: Key) -> int | tuple[bytes, int | None] | None:
    """How C finds an HDU; None where it cannot."""
    if isinstance(hdu, int) and not isinstance(hdu, bool):
        return hdu if hdu >= 0 else None
    name, version = hdu if isinstance(hdu, tuple) and len(hdu) == 2 else (hdu, None)
    if not isinstance(name, str) or not name.isascii() or not isinstance(version, (int, type(None))):
        return None
    return name.strip().upper().encode(), version


def _read_one(
    name: str | bytes,
    hdu: Key,
    section: Section,
    image: ImageLayout,
    target: torch.Tensor,
    same: torch.dtype | None,
) -> None:
    with open(name, cache=False) as file:
        found = _image_of(file, hdu)
        where = {"path": file.path, "hdu": found.index}
        if found.shape != image.shape:
            raise FitsFormatError(f"the image is of shape {found.shape}, the batch of {image.shape}", **where)
        if same is not None and found.dtype != same:
            raise FitsFormatError(
                f"the image is {found.dtype}, the batch {same}; ask for dtype= to convert", **where
            )
        found.read(section, out=target)


def read_keys(
    paths: Sequence[Path], keys: str | Sequence[str], hdu: Key = 0
) -> dict[str, list | torch.Tensor]:
    """Read the values of some keywords from the same HDU of many files.

    Args:
        paths: The files.
        keys: Keywords, in any case.
        hdu: Index, EXTNAME or (EXTNAME, EXTVER), the same in each file.

    Returns:
        Each of `keys` with a value a file: a tensor (N,) where all are bool, all are int (int64) or all are
        numbers (float64), else a list, with None where a header lacks the keyword.

    Raises:
        FitsError: As `open` and `HDUList` raise, with the path of the file.

    Example:
        >>> torchfits.read_keys(['image.fits', 'image.fits'], ['NAXIS', 'OBJECT'])
        {'NAXIS': tensor([2, 2]), 'OBJECT': [None, None]}
    """
    wanted = [keys] if isinstance(keys, str) else list(keys)
    names = [file_path(path) for path in paths]
    plain = [key.strip().upper() for key in wanted]
    which = _which(hdu)
    values: list[list[Any]] = [[None] * len(names) for _ in wanted]
    done: Sequence[int] = bytes(len(names))
    if which is not None and wanted and all(map(_is_plain, plain)):
        done, cards = read_cards(
            [os.fsencode(name) for name in names], which, [key.encode().ljust(8) for key in plain], threads()
        )
        for k, column in enumerate(values):
            for i in range(len(names)):
                at = (i * len(wanted) + k) * CARD
                if done[i] and cards[at]:
                    column[i] = _value(bytes(cards[at : at + CARD]))
    for i, name in enumerate(names):
        if not done[i]:
            with open(name, cache=False) as file:
                header = file[hdu].read_header()
                for key, column in zip(wanted, values, strict=True):
                    column[i] = header.get(key)
    return {key: _as_tensor(column) for key, column in zip(wanted, values, strict=True)}


def _is_plain(key: str) -> bool:
    return _PLAIN.match(key) is not None and key not in ("COMMENT", "HISTORY", "CONTINUE", "END", "HIERARCH")


def _value(card: bytes) -> Any:
    """The value of a card; the common ones without parsing the rest of it."""
    text = card[10:30].strip()
    if card[8:10] == b"= " and card[30:33] in (b" / ", b"   ") and text.isdigit():
        return int(text)
    return Card.from_bytes(card).value


def _as_tensor(values: list[Any]) -> list | torch.Tensor:
    kinds = set(map(type, values))
    if kinds == {bool}:
        return torch.tensor(values)
    if kinds == {int} and all(-(2**63) <= value < 2**63 for value in values):
        return torch.tensor(values, dtype=torch.int64)
    if kinds and kinds <= {int, float}:
        return torch.tensor(values, dtype=torch.float64)
    return values
