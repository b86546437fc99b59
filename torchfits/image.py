"""ImageHDU: reading images, plain and tile-compressed."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from functools import cached_property, partial
from typing import Any, Literal, cast

import torch

from torchfits import _direct, compression
from torchfits._core import MAX_COMPRESSED_AXES, MAX_SUBSET_AXES
from torchfits._direct import (
    FILE_CHANGED,
    SMALL_JOB,
    Conversion,
    TileCache,
    read_cutouts,
    read_images,
    read_section,
    read_tiled_cutouts,
    read_tiled_section,
)
from torchfits._tensors import (
    CODES,
    DTYPES,
    OTHER_SIGN,
    STORED,
    Device,
    Read,
    address,
    allocate,
    cast_into,
    check_dtype,
    check_out,
    deliver,
    element_bytes,
    element_of,
    integers,
    target_of,
    threads,
    value_dtype,
)
from torchfits.cache import OpenFile, tile_cache_bytes
from torchfits.compression import Compression, Quantize
from torchfits.errors import FitsError, FitsFormatError, FitsIOError, FitsUnsupported
from torchfits.hdu import HDU
from torchfits.header import Header
from torchfits.layout import Hdu, ImageLayout, TileLayout
from torchfits.sections import Section, resolve_section, split_ranges
from torchfits.tiles import tiling_of
from torchfits.wcs import WCS

# a range per axis, None for all of the image
Ranges = list[range] | None
# a window so many pixels away is not in an image
_FAR = 1 << 60


class ImageHDU(HDU):
    """An image, plain or tile-compressed: an N-dimensional array of numbers."""

    @cached_property
    def _known_wcs(self) -> dict[str, WCS]:
        return {}

    def _tiles(self) -> TileLayout | None:
        return cast(TileLayout, self._known_layout or self._layout()) if self._hdu.compressed else None

    def _image(self) -> ImageLayout:
        found = self._known_layout or self._layout()
        return found if isinstance(found, ImageLayout) else cast(TileLayout, found).image

    def _dtype(self, raw: bool) -> torch.dtype:
        image = self._image()
        if raw:
            return STORED[image.bitpix]
        return value_dtype(image.bitpix, image.scale, image.zero, image.blank)

    @property
    def engine(self) -> Literal["direct", "cfitsio"]:
        """What reads the pixels: 'direct', our own kernels, or 'cfitsio'."""
        asked = self._parent._engine
        if asked != "auto":
            return asked
        tiles = self._tiles() if self._hdu.compressed else None
        return "cfitsio" if tiles is not None and tiles.odd else "direct"

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the tensor that `read` gives: NAXISn reversed; (0,) where there are no data."""
        return self._image().shape

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the tensor that `read` gives, after scaling."""
        return self._dtype(raw=False)

    def _settings(self) -> tuple[Compression | None, Quantize | None]:
        tiles = self._tiles()
        return (None, None) if tiles is None else compression.settings_of(self._hdu.header, tiles)

    @property
    def compression(self) -> Compression | None:
        """What a tile-compressed image was written with: Rice1, Gzip1, ...; None for a plain one.

        Its `codec` is ZCMPTYPE, such as 'RICE_1'. What the file does not tell is as it is by default.
        """
        return self._settings()[0]

    @property
    def quantize(self) -> Quantize | None:
        """How the floats of a tile-compressed image became integers; None where they did not."""
        return self._settings()[1]

    def read_header(self) -> Header:
        """A copy of the header; of a tile-compressed image, the header of the image it stands for."""
        header = super().read_header()
        return self._stood_for(header, compression.image_header) if self._hdu.compressed else header

    @property
    def wcs(self) -> WCS:
        """The primary world coordinates of the image; errors as `WCS` raises them. Others: `wcs_of`."""
        return self.wcs_of("")

    def wcs_of(self, key: str) -> WCS:
        """The world coordinates that the letter `key` names; '' for the primary ones."""
        known = self._known_wcs.get(key)
        if known is None:
            try:
                known = WCS(self.read_header(), key=key, hdus=self._parent)
            except FitsError as error:
                error.locate(path=self._parent.path, hdu=self.index)
                raise
            # setdefault: two threads that ask at once get the same object
            known = self._known_wcs.setdefault(key, known)
        return known

    def __getitem__(self, section: Section) -> torch.Tensor:
        return self.read(section)

    def read(
        self,
        section: Section = None,
        device: Device = "cpu",
        *,
        dtype: torch.dtype | None = None,
        out: torch.Tensor | None = None,
        raw: bool = False,
    ) -> torch.Tensor:
        """Read the image or a section of it into one tensor.

        Values are scaled as the FITS standard 4.0, section 4.4.2, says: the unsigned conventions give
        exact int8, uint16, uint32 or uint64; any other BSCALE/BZERO, and any other image with BLANK, give
        float32 for BITPIX 8 and 16 and float64 for 32 and 64, null pixels being NaN.

        Rows outside the section are not read. Large images are read by several threads, as many as
        `torch.get_num_threads` and the machine allow.

        Args:
            section: Ints, slices with positive steps and Ellipsis in tensor (C) order; None for all.
            device: Where the tensor shall be.
            dtype: Convert to this dtype while reading. Scaled values are computed in float64 and rounded
                once, to float16 and bfloat16 by way of float32 as torch does; integers wrap around; floats
                are cut to integers toward zero, what is out of range becomes the nearest integer and NaN
                becomes 0.
            out: A contiguous tensor of the right shape and dtype to read into; it is returned.
            raw: Give the stored numbers, unscaled, nulls as they are.

        Returns:
            A tensor of the section's shape; (0,) where the HDU has no data.

        Raises:
            SectionError: The section is not one of this image.
            FitsFormatError: The data are cut short or damaged, or `out` does not fit.
            FitsIOError: The file changed since it was opened, or the system refuses.
            FitsUnsupported: What this engine cannot read, more axes than torch holds, a device that is not
                there.

        Example:
            >>> torchfits.open('image.fits')[0].read(section=(slice(0, 2), slice(1, 3)))
            tensor([[1., 2.],
                    [5., 6.]])
        """
        parent = self._parent
        as_it_is = section is None and dtype is None and out is None and device == "cpu" and not raw
        target = target_of(out, device)
        try:
            file = parent._opened()
            if as_it_is and parent._engine != "cfitsio":
                tensor = read_whole(file, self._hdu, parent._mmap)
                if tensor is not None:
                    return tensor
            image = self._image()
            ranges, shape = (None, image.shape) if section is None else resolve_section(section, image.shape)
            wanted = self._wanted(dtype, out, raw)
            if out is not None:
                check_out(out, shape, wanted)
            if 0 in shape:
                return allocate(shape, wanted).to(target) if out is None else out
            self._check_bytes()
            read = self._reader(ranges)

            def parts(most: int) -> Iterator[tuple[int, Read]]:
                for part in split_ranges(_ranges_of(image, ranges), most):
                    yield math.prod(map(len, part)), partial(read, part, raw)

            return deliver(shape, wanted, partial(read, ranges, raw), parts, target, out)
        except FitsError as error:
            error.locate(path=self._parent.path, hdu=self.index)
            raise

    def read_with_wcs(
        self,
        section: Section = None,
        device: Device = "cpu",
        *,
        dtype: torch.dtype | None = None,
        out: torch.Tensor | None = None,
        raw: bool = False,
        key: str = "",
    ) -> tuple[torch.Tensor, WCS]:
        """Read the image or a section of it, and the world coordinates of these pixels.

        Args:
            section, device, dtype, out, raw: As in `read`.
            key: The letter of another description of world coordinates.

        Returns:
            The tensor, and the WCS that `WCS.section` makes. Its `to_header` can be written with the tensor.

        Raises:
            FitsError: As `read`, `WCS` and `WCS.section` raise.

        Example:
            >>> tensor, wcs = torchfits.open('image.fits')[0].read_with_wcs((slice(1, 3), slice(2, 4)))
            >>> tensor.shape, wcs.crpix
            (torch.Size([2, 2]), tensor([-2., -1.], dtype=torch.float64))
        """
        wcs = self.wcs_of(key)
        if section is not None:
            try:
                wcs = wcs.section(section, self.shape)
            except FitsError as error:
                error.locate(path=self._parent.path, hdu=self.index)
                raise
        return self.read(section, device, dtype=dtype, out=out, raw=raw), wcs

    def cutouts(
        self,
        positions: Any,
        size: int | tuple[int, int],
        *,
        anchor: Literal["corner", "center"] = "corner",
        fill: float = math.nan,
        out: torch.Tensor | None = None,
        dtype: torch.dtype | None = None,
        device: Device = "cpu",
    ) -> torch.Tensor:
        """Read many windows of the same size in one call.

        Args:
            positions: (N, 2) integers, a tensor or what `torch.as_tensor` takes: (row, column) of the first
                pixel of each window, counted from 0; windows may reach outside the image.
            size: (rows, columns) of a window, or one number for both.
            anchor: 'center' where `positions` are those of the pixel at index size // 2 of each axis.
            fill: The value of pixels outside the image.
            out: A contiguous tensor of the right shape and dtype to read into; it is returned.
            dtype, device: As in `read`.

        Returns:
            A tensor (N, rows, columns); of a cube (N, ..., rows, columns), every plane of each window.

        Raises:
            FitsFormatError: The image has less than two axes, `positions` are not (N, 2), a window reaches
                outside and the dtype cannot hold `fill`; or as `read` raises.
            TypeError: `positions` are no integers.

        Example:
            >>> torchfits.open('image.fits')[0].cutouts([(0, 0), (2, 3)], 2)
            tensor([[[ 0.,  1.],
                     [ 4.,  5.]],
            <BLANKLINE>
                    [[11., nan],
                     [nan, nan]]])
        """
        target = target_of(out, device)
        try:
            image = self._image()
            if len(image.shape) < 2:
                raise FitsFormatError(
                    f"cutouts of an image of shape {image.shape}: it has no rows and columns"
                )
            if 0 in image.shape[-2:] and len(image.shape) > 2:
                # any number of planes that no byte of the file stands for
                raise FitsFormatError(f"cutouts of an image of shape {image.shape}: it has no pixels")
            corners, window = _windows(positions, size, anchor)
            wanted = self._wanted(dtype, out, raw=False)
            shape = (len(corners), *image.shape[:-2], *window)
            if out is not None:
                check_out(out, shape, wanted)
            if 0 in shape:
                return allocate(shape, wanted).to(target) if out is None else out
            self._check_bytes()
            outside = element_bytes(fill, element_of(wanted))
            pixels = math.prod(shape[1:])
            # the planes of groups do not follow each other
            at_once = self.engine == "direct" and not image.parameters
            read = self._read_windows if at_once else self._read_windows_one_by_one

            def parts(most: int) -> Iterator[tuple[int, Read]]:
                for some in corners.split(max(most // pixels, 1)):
                    yield len(some) * pixels, partial(read, some, window, outside)

            return deliver(shape, wanted, partial(read, corners, window, outside), parts, target, out)
        except FitsError as error:
            error.locate(path=self._parent.path, hdu=self.index)
            raise

    def cutouts_with_wcs(
        self,
        positions: Any,
        size: int | tuple[int, int],
        *,
        anchor: Literal["corner", "center"] = "corner",
        fill: float = math.nan,
        out: torch.Tensor | None = None,
        dtype: torch.dtype | None = None,
        device: Device = "cpu",
        key: str = "",
    ) -> tuple[torch.Tensor, list[WCS]]:
        """Read many windows of the same size, and the world coordinates of each.

        Args:
            positions, size, anchor, fill, out, dtype, device: As in `cutouts`.
            key: The letter of another description of world coordinates.

        Returns:
            The tensor (N, ..., rows, columns), and a list of N WCS, which can be written with their windows.

        Raises:
            FitsError, TypeError: As `cutouts` and `WCS` raise.

        Example:
            >>> windows, wcs = torchfits.open('image.fits')[0].cutouts_with_wcs([(0, 0), (2, 3)], 2)
            >>> wcs[1].crpix
            tensor([-3., -2.], dtype=torch.float64)
        """
        wcs = self.wcs_of(key)
        try:
            every = wcs.windows(_windows(positions, size, anchor)[0])
        except FitsError as error:
            error.locate(path=self._parent.path, hdu=self.index)
            raise
        windows = self.cutouts(positions, size, anchor=anchor, fill=fill, out=out, dtype=dtype, device=device)
        return windows, every

    # -- what both have in common

    def _wanted(self, dtype: torch.dtype | None, out: torch.Tensor | None, raw: bool) -> torch.dtype:
        """The dtype asked for, by `dtype`, by `out`, or not at all."""
        natural = self._dtype(raw)
        wanted = check_dtype(dtype) or (out.dtype if out is not None else natural)
        nulls = self._image().blank is not None and not raw and natural not in OTHER_SIGN.values()
        if nulls and not wanted.is_floating_point and not wanted.is_complex:
            raise FitsFormatError(f"null pixels cannot be {wanted}; read a float dtype, or raw=True")
        return wanted

    def _check_bytes(self) -> None:
        """Nothing is allocated on a header's word: the bytes must be there and hold the pixels."""
        self._parent._opened().check_data(self._hdu)
        tiles = self._tiles()
        if tiles is not None:
            if tiles.odd and self.engine == "direct":
                raise FitsUnsupported(f"our own codecs read no {tiles.odd}; use engine='auto'")
            compression.check_size(tiles)
        elif self._hdu.kind == "groups" and self.engine == "cfitsio":
            raise FitsUnsupported("cfitsio reads no random groups here; use engine='auto'")

    def _reader(self, ranges: Ranges) -> Callable[[Ranges, bool, torch.Tensor], None]:
        """What reads this section, raw or not, into a tensor."""
        if self.engine == "direct":
            return self._read_tiles if self._hdu.compressed else self._read_plain
        tiles = self._tiles()
        if tiles is not None:
            section = _ranges_of(tiles.image, ranges)
            if len(section) > MAX_COMPRESSED_AXES:
                raise FitsUnsupported(
                    f"cfitsio reads no compressed image of {len(section)} axes; use engine='auto'"
                )
            # no stream shall lead cfitsio astray
            compression.check_streams(self._parent._opened().source, self._hdu, tiles, section)
        return self._read_by_cfitsio

    # -- the direct engine

    def _conversion(self, to: torch.dtype, raw: bool) -> Conversion:
        image = self._image()
        return Conversion(image.bitpix, 1, 0, None, CODES[to]) if raw else conversion_of(image, to)

    def _read_plain(self, ranges: Ranges, raw: bool, tensor: torch.Tensor) -> None:
        image, parent = self._image(), self._parent
        conversion = self._conversion(tensor.dtype, raw)
        _read_pixels(parent._opened(), self._hdu, image, conversion, ranges, tensor, parent._mmap)

    def _read_tiles(self, ranges: Ranges, raw: bool, tensor: torch.Tensor) -> None:
        hdu, tiles = self._hdu, cast(TileLayout, self._tiles())
        whole, section = _ranges_of(tiles.image, None), _ranges_of(tiles.image, ranges)
        read_tiled_section(
            self._parent._opened().where(hdu),
            tiling_of(hdu, tiles, CODES[tensor.dtype], raw),
            section,
            *address(tensor),
            None if section == whole else self._keep(tensor.dtype, raw),
            threads(),
        )

    def _keep(self, dtype: torch.dtype, raw: bool) -> tuple[TileCache, object, int]:
        return self._parent._opened().tiles, (self.index, dtype, raw), tile_cache_bytes()

    def _read_windows(
        self, corners: torch.Tensor, window: tuple[int, int], outside: bytes | None, tensor: torch.Tensor
    ) -> None:
        image, hdu, tiles = self._image(), self._hdu, self._tiles()
        *leading, rows, columns = image.shape
        where, positions = self._parent._opened().where(hdu), (corners.data_ptr(), len(corners))
        if tiles is not None:
            tiling = tiling_of(hdu, tiles, CODES[tensor.dtype], raw=False)
            keep = self._keep(tensor.dtype, raw=False)
            done = read_tiled_cutouts(
                where, tiling, positions, window, outside, *address(tensor), keep, threads()
            )
        else:
            done = read_cutouts(
                where,
                self._conversion(tensor.dtype, raw=False),
                (hdu.data_start, math.prod(leading), rows, columns),
                positions,
                window,
                outside,
                *address(tensor),
                threads(),
                self._parent._mmap,
            )
        if not done:
            raise _no_fill(tensor.dtype)

    # -- the cfitsio engine

    def _read_windows_one_by_one(
        self, corners: torch.Tensor, window: tuple[int, int], outside: bytes | None, tensor: torch.Tensor
    ) -> None:
        shape = self._image().shape
        stack = tensor.view(len(corners), *shape[:-2], *window)
        for corner, target in zip(corners.tolist(), stack, strict=True):
            inside = [
                range(min(max(first, 0), length), max(min(first + size, length), 0))
                for first, size, length in zip(corner, window, shape[-2:], strict=True)
            ]
            if [len(axis) for axis in inside] != list(window):
                if outside is None:
                    raise _no_fill(tensor.dtype)
                target[...] = torch.frombuffer(bytearray(outside), dtype=tensor.dtype)
            if all(len(axis) for axis in inside):
                ranges = [range(length) for length in shape[:-2]] + inside
                read = self._reader(ranges)
                part = allocate([len(axis) for axis in ranges], tensor.dtype)
                read(ranges, False, part)
                (top, left), (rows, columns) = corner, inside
                target[
                    ..., rows.start - top : rows.stop - top, columns.start - left : columns.stop - left
                ] = part

    def _read_by_cfitsio(self, ranges: Ranges, raw: bool, tensor: torch.Tensor) -> None:
        image, natural = self._image(), self._dtype(raw)
        section = _ranges_of(image, ranges)
        # scaled values are rounded once, to what is asked for
        scaled = not raw and natural not in OTHER_SIGN.values() and natural != STORED[image.bitpix]
        scaled = scaled or (not raw and image.bitpix < 0 and (image.scale, image.zero) != (1, 0))
        tiles = self._tiles()
        quantized = tiles is not None and tiles.quantized
        if tensor.dtype == natural:
            self._read_natural(section, raw, tensor)
        else:
            middle = torch.float64 if scaled and not quantized else natural
            if middle == torch.float64 and tensor.dtype in (torch.float16, torch.bfloat16):
                middle = torch.float32
            values = allocate([len(axis) for axis in section], middle)
            self._read_natural(section, raw, values)
            cast_into(tensor, values)

    def _read_natural(self, ranges: list[range], raw: bool, tensor: torch.Tensor) -> None:
        image, tiles = self._image(), self._tiles()
        scale, zero = (1, 0) if raw else (image.scale, image.zero)
        null = None if raw or self._dtype(raw) in OTHER_SIGN.values() else image.blank
        name = str(tensor.dtype).removeprefix("torch.")
        # quantised floats have nulls of their own; in plain ones a null check would flush denormals
        nan_nulls = null is not None or (tiles is not None and tiles.quantized)
        how = (self._hdu.start, name, scale, zero, null, nan_nulls)
        with self._parent._opened().reading(self._hdu) as handle:
            if tiles is not None or len(ranges) <= MAX_SUBSET_AXES:
                axes = ranges[::-1]
                first, last = [axis[0] + 1 for axis in axes], [axis[-1] + 1 for axis in axes]
                handle.read_subset(*how, first, last, [axis.step for axis in axes], *address(tensor))
            else:
                runs, count = _runs(ranges, image.shape)
                handle.read_pixels(*how, runs, count, *address(tensor))

    def _info(self) -> tuple[str, ...]:
        kind = "IMAGE" if self.index else "PRIMARY"
        try:
            shape = " x ".join(map(str, self.shape)) if self.shape != (0,) else "no data"
            codec = self.compression.codec if self.compression else ""
            what = shape, str(self.dtype).removeprefix("torch."), codec
        except FitsError as error:
            what = f"! {error.message}", "", ""
        if self._hdu.kind == "groups":
            kind = "GROUPS"
        return str(self.index), self.name, str(self.version), kind, *what


def _read_pixels(
    file: OpenFile,
    hdu: Hdu,
    image: ImageLayout,
    conversion: Conversion,
    ranges: Ranges,
    tensor: torch.Tensor,
    mmap: bool,
) -> None:
    again = ranges is None and hdu.index in file.read_whole
    read_section(
        file.where(hdu),
        conversion,
        *_array_of(hdu, image),
        ranges,
        *address(tensor),
        threads(),
        mmap,
        again,
    )
    if ranges is None:
        file.read_whole.add(hdu.index)


def _array_of(hdu: Hdu, image: ImageLayout) -> tuple[int, tuple[int, ...], int]:
    """Where the pixels begin, their shape, and the bytes between one item of the first axis and the next."""
    # each group has its parameters before its pixels
    before = image.parameters * abs(image.bitpix) // 8
    return hdu.data_start + before, image.shape, before


def conversion_of(image: ImageLayout, to: torch.dtype) -> Conversion:
    """How the stored pixels become elements of `to`."""
    return Conversion(image.bitpix, image.scale, image.zero, image.blank, CODES[to])


def is_small(hdu: Hdu) -> bool:
    """Whether it is an ordinary plain image that is not worth more than one thread."""
    return hdu.image is not None and 0 not in hdu.image.shape and hdu.data_size < SMALL_JOB


def read_together(file: OpenFile, hdus: list[Hdu], mmap: bool) -> list[torch.Tensor]:
    """All of small images, as `ImageHDU.read` gives each, shared out over threads."""
    tensors, images = [], []
    for hdu in hdus:
        image = cast(ImageLayout, hdu.image)
        try:
            file.check_data(hdu)
        except FitsError as error:
            error.locate(path=file.path, hdu=hdu.index)
            raise
        tensor, conversion = _room_for(image)
        images.append((conversion, *_array_of(hdu, image), *address(tensor), hdu.index in file.read_whole))
        tensors.append(tensor)
    try:
        read_images(file.where(hdus[-1]), images, threads(), mmap)
    except FitsError as error:
        at = error.offset
        bad = next((each for each in hdus if at is not None and each.start <= at < each.end), None)
        error.locate(path=file.path, hdu=None if bad is None else bad.index)
        raise
    file.read_whole.update(hdu.index for hdu in hdus)
    return tensors


def _room_for(image: ImageLayout) -> tuple[torch.Tensor, Conversion]:
    tensor = allocate(image.shape, value_dtype(image.bitpix, image.scale, image.zero, image.blank))
    return tensor, conversion_of(image, tensor.dtype)


def read_whole(file: OpenFile, hdu: Hdu, mmap: bool) -> torch.Tensor | None:
    """All of an ordinary plain image, as `ImageHDU.read` gives it; None where it takes more than that."""
    image = hdu.image
    if image is None or 0 in image.shape:
        return None
    try:
        file.check_data(hdu)
        tensor, conversion = _room_for(image)
        _read_pixels(file, hdu, image, conversion, None, tensor, mmap)
    except FitsError as error:
        error.locate(path=file.path, hdu=hdu.index)
        raise
    return tensor


def read_alone(path: str | bytes, index: int | None) -> torch.Tensor | None:
    """All of a small plain image, as `ImageHDU.read` gives it, of a file that is opened for nothing else.

    The first with data where `index` is None. None where it is to be read in another way.
    """
    try:
        done, tensor = _direct.read_alone(os.fsencode(path), index, _room_of)
    except FitsError as error:
        error.locate(path=path, hdu=index)
        raise
    check_unchanged(done, path, index)
    return tensor


def _room_of(shape: tuple[int, ...], code: int) -> tuple[torch.Tensor, int, int]:
    tensor = allocate(shape, DTYPES[code])
    return tensor, *address(tensor)


def check_unchanged(done: int, path: str | bytes, hdu: int | str | tuple | None) -> None:
    """Another try at a file that changed while it was read could hide that."""
    if done == FILE_CHANGED:
        raise FitsIOError("the file changed while it was read", path=path, hdu=hdu)


def cutouts_at(
    hdu: ImageHDU,
    ra: Any,
    dec: Any,
    size: int | tuple[int, int],
    *,
    fill: float = math.nan,
    out: torch.Tensor | None = None,
    dtype: torch.dtype | None = None,
    device: Device = "cpu",
) -> tuple[torch.Tensor, torch.Tensor]:
    """Read the windows around positions in the sky in one call.

    Args:
        hdu: An image whose last two axes are right ascension and declination, in whichever frame its WCS
            has them (RADESYS).
        ra, dec: (N,) degrees each, tensors or arrays, or numbers that stand for all.
        size: (rows, columns) of a window, or one number for both; the pixel of the position is at index
            size // 2 of each axis.
        fill: The value of pixels outside the image.
        out, dtype, device: As in `ImageHDU.cutouts`.

    Returns:
        The tensor (N, ..., rows, columns), and bool (N,) on its device: whether the position is in the image.
        Windows around one that is on no pixel at all, such as NaN or the other side of the sky, hold `fill`.

    Raises:
        FitsUnsupported: The last two axes are not right ascension and declination.
        FitsError, TypeError: As `ImageHDU.cutouts` and `WCS` raise.

    Example:
        >>> hdu = torchfits.open('sky.fits')[0]
        >>> windows, inside = torchfits.cutouts_at(hdu, [30.0, 210.0], [40.0, -40.0], 1)
        >>> windows, inside
        (tensor([[[6.]],
        <BLANKLINE>
                [[nan]]]), tensor([ True, False]))
    """
    if not isinstance(hdu, ImageHDU):
        raise TypeError(f"cutouts_at takes an ImageHDU, not {type(hdu).__name__}")
    try:
        x, y = hdu.wcs.pixels_of(ra, dec).unbind(-1)
    except FitsError as error:
        error.locate(path=hdu._parent.path, hdu=hdu.index)
        raise
    # the centre of a pixel is whole
    row, column = (y + 0.5).floor(), (x + 0.5).floor()
    # beyond this, and NaN, is nowhere near an image
    nowhere = ~((row.abs() < _FAR) & (column.abs() < _FAR))
    positions = torch.stack([row, column], dim=-1).masked_fill(nowhere[:, None], -_FAR).to(torch.int64)
    windows = hdu.cutouts(positions, size, anchor="center", fill=fill, out=out, dtype=dtype, device=device)
    rows, columns = hdu.shape[-2:]
    inside = (row >= 0) & (row < rows) & (column >= 0) & (column < columns)
    return windows, inside.to(windows.device)


def _windows(positions: Any, size: Any, anchor: str) -> tuple[torch.Tensor, tuple[int, int]]:
    """First pixels, int64 (N, 2), and (rows, columns) of windows."""
    rows, columns = (size, size) if isinstance(size, int) else size
    for side in (rows, columns):
        if isinstance(side, bool) or not isinstance(side, int):
            raise TypeError(f"the size of a window is a number of pixels or two, not {size!r}")
        if not 1 <= side < 1 << 31:
            raise FitsFormatError(f"windows of {rows} x {columns} pixels")
    if anchor not in ("corner", "center"):
        raise FitsFormatError(f"anchor {anchor!r}: 'corner' or 'center'")
    found = integers(positions, "positions")
    if found.ndim == 1 and not len(found):
        found = found.view(0, 2)
    if found.ndim != 2 or found.shape[1] != 2:
        raise FitsFormatError(f"positions must be of shape (N, 2), not {tuple(found.shape)}")
    # far outside is far outside, and nothing may overflow
    corners = found.clamp(-(1 << 62), 1 << 62)
    if anchor == "center":
        corners = corners - torch.tensor([rows // 2, columns // 2], device="cpu")
    return corners.contiguous(), (rows, columns)


def _ranges_of(image: ImageLayout, ranges: Ranges) -> list[range]:
    return [range(length) for length in image.shape] if ranges is None else ranges


def _no_fill(dtype: torch.dtype) -> FitsFormatError:
    return FitsFormatError(
        f"a window reaches outside the image, and {dtype} cannot hold the fill; pass fill="
    )


def _runs(ranges: list[range], shape: tuple[int, ...]) -> tuple[list[int], int]:
    """First pixels and common length of the contiguous runs that a section is made of."""
    count, axis = 1, len(shape)
    while axis and len(ranges[axis - 1]) == shape[axis - 1]:
        axis -= 1
        count *= shape[axis]
    if axis and ranges[axis - 1].step == 1:
        axis -= 1
        first = [ranges[axis][0] * count]
        stride = count * shape[axis]
        count *= len(ranges[axis])
    else:
        first, stride = [0], count
    while axis:
        axis -= 1
        first = [i * stride + start for i in ranges[axis] for start in first]
        stride *= shape[axis]
    return first, count
