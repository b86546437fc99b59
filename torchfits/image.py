"""ImageHDU: reading images, plain and tile-compressed."""

from __future__ import annotations

import warnings
from typing import cast

import torch

from torchfits import compression
from torchfits._core import MAX_COMPRESSED_AXES, MAX_SUBSET_AXES
from torchfits._tensors import (
    OTHER_SIGN,
    STORED,
    Device,
    address,
    allocate,
    check_device,
    check_out,
    value_dtype,
)
from torchfits.errors import FitsError, FitsFormatError, FitsUnsupported, FitsWarning
from torchfits.hdu import HDU
from torchfits.header import Header
from torchfits.layout import ImageLayout, Section, TileLayout, resolve_section


class ImageHDU(HDU):
    """An image, plain or tile-compressed: an N-dimensional array of numbers."""

    def _tiles(self) -> TileLayout | None:
        found = self._layout()
        return found if isinstance(found, TileLayout) else None

    def _image(self) -> ImageLayout:
        found = self._layout()
        return found.image if isinstance(found, TileLayout) else cast(ImageLayout, found)

    def _dtype(self, raw: bool) -> torch.dtype:
        image = self._image()
        if raw:
            return STORED[image.bitpix]
        return value_dtype(image.bitpix, image.scale, image.zero, image.blank)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the tensor that `read` gives: NAXISn reversed; (0,) where there are no data."""
        return self._image().shape

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the tensor that `read` gives, after scaling."""
        return self._dtype(raw=False)

    @property
    def compression(self) -> str | None:
        """ZCMPTYPE of a tile-compressed image, such as 'RICE_1'; None for a plain one."""
        tiles = self._tiles()
        return None if tiles is None else tiles.codec

    def read_header(self) -> Header:
        """A copy of the header; of a tile-compressed image, the header of the image it stands for."""
        header = super().read_header()
        if self._hdu.kind != "bintable":
            return header
        try:
            return compression.image_header(header)
        except FitsError as error:
            warnings.warn(
                f"HDU {self.index}: the header is that of the table, not of the image: {error}",
                FitsWarning,
                stacklevel=2,
            )
            return header

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

        Args:
            section: Ints, slices with positive steps and Ellipsis in tensor (C) order; None for all.
            device: Where the tensor shall be.
            dtype: Convert to this dtype as `Tensor.to` does, which checks no range.
            out: A contiguous tensor of the right shape and dtype to read into; it is returned.
            raw: Give the stored numbers, unscaled, nulls as they are.

        Returns:
            A tensor of the section's shape; (0,) where the HDU has no data.

        Raises:
            SectionError: The section is not one of this image.
            FitsFormatError: The data are cut short or damaged, or `out` does not fit.
            FitsUnsupported: Random groups, more axes than torch holds, a device that is not there.

        Example:
            >>> torchfits.open('image.fits')[0].read(section=(slice(0, 2), slice(1, 3)))
            tensor([[1., 2.],
                    [5., 6.]])
        """
        if out is not None and not isinstance(out, torch.Tensor):
            raise TypeError(f"out must be a torch.Tensor, not {type(out).__name__}")
        target = check_device(out.device if out is not None else device)
        image = self._image()
        try:
            if self._hdu.kind == "groups":
                raise FitsUnsupported("random groups are not read yet; their header is")
            ranges, shape = resolve_section(section, image.shape)
            natural = self._dtype(raw)
            wanted = dtype or (out.dtype if out is not None else natural)
            if out is not None:
                check_out(out, shape, wanted)
            null = None if raw or natural in OTHER_SIGN.values() else image.blank
            if null is not None and not wanted.is_floating_point and not wanted.is_complex:
                raise FitsFormatError(f"null pixels cannot be {wanted}; read a float dtype, or raw=True")
            if 0 not in shape:
                self._check_bytes(ranges)
            if out is not None and out.dtype == natural and out.device.type == "cpu":
                tensor = out
            else:
                tensor = allocate(shape, natural)
            if tensor.numel():
                self._read_into(tensor, ranges, raw, null)
        except FitsError as error:
            error.locate(path=self._parent.path, hdu=self.index)
            raise
        if out is None:
            return tensor.to(device=target, dtype=wanted)
        return out if tensor is out else out.copy_(tensor)

    def _check_bytes(self, ranges: list[range]) -> None:
        """Nothing is allocated on a header's word: the bytes must be there and hold the pixels."""
        file, tiles = self._parent._opened(), self._tiles()
        file.check_data(self._hdu)
        if tiles is not None:
            compression.check_streams(file.source, self._hdu, tiles, ranges)

    def _read_into(self, tensor: torch.Tensor, ranges: list[range], raw: bool, null: int | None) -> None:
        image, tiles = self._image(), self._tiles()
        scale, zero = (1, 0) if raw else (image.scale, image.zero)
        name = str(tensor.dtype).removeprefix("torch.")
        # quantised floats have nulls of their own; in plain ones a null check would flush denormals
        nan_nulls = null is not None or (tiles is not None and tiles.quantized)
        how = (self._hdu.start, name, scale, zero, null, nan_nulls)
        with self._parent._opened().reading(self._hdu) as handle:
            if len(ranges) <= (MAX_SUBSET_AXES if tiles is None else MAX_COMPRESSED_AXES):
                axes = ranges[::-1]
                first, last = [axis[0] + 1 for axis in axes], [axis[-1] + 1 for axis in axes]
                handle.read_subset(*how, first, last, [axis.step for axis in axes], *address(tensor))
            elif tiles is not None:
                raise FitsUnsupported(
                    f"a compressed image of {len(ranges)} axes; at most {MAX_COMPRESSED_AXES} are read"
                )
            else:
                runs, count = _runs(ranges, image.shape)
                handle.read_pixels(*how, runs, count, *address(tensor))

    def _info(self) -> tuple[str, ...]:
        kind = "IMAGE" if self.index else "PRIMARY"
        try:
            shape = " x ".join(map(str, self.shape)) if self.shape != (0,) else "no data"
            what = shape, str(self.dtype).removeprefix("torch."), self.compression or ""
        except FitsError as error:
            what = f"! {error.message}", "", ""
        if self._hdu.kind == "groups":
            kind = "GROUPS"
        return str(self.index), self.name, str(self.version), kind, *what


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
