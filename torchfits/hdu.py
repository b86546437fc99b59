"""HDU: what images, tables and everything else in a file have in common."""

from __future__ import annotations

import operator
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

from torchfits.errors import FitsError, FitsWarning
from torchfits.header import Header
from torchfits.layout import Hdu, ImageLayout, TableLayout, TileLayout

if TYPE_CHECKING:
    from torchfits.hdulist import HDUList


class HDU:
    """What all HDUs have. HDUs that are neither image nor table are of this class: they have a header."""

    def __init__(self, parent: HDUList, hdu: Hdu):
        self._parent = parent
        self._hdu = hdu
        self._known_layout: ImageLayout | TileLayout | TableLayout | None = hdu.image

    @property
    def index(self) -> int:
        """Position in the file, from 0."""
        return self._hdu.index

    @property
    def name(self) -> str:
        """EXTNAME, '' where there is none."""
        return self._hdu.name

    @property
    def version(self) -> int:
        """EXTVER, 1 where there is none."""
        return self._hdu.version

    def read_header(self) -> Header:
        """A copy of the header; changing it changes no file."""
        try:
            return self._hdu.header.copy()
        except FitsError as error:
            error.locate(path=self._parent.path, hdu=self.index)
            raise

    def _stood_for(self, header: Header, make: Callable[[Header], Header]) -> Header:
        """What `make` makes of the header of something compressed; that header itself where it cannot."""
        try:
            return make(header)
        except FitsError as error:
            warnings.warn(
                f"HDU {self.index}: the header is that of the compressed data: {error}",
                FitsWarning,
                stacklevel=3,
            )
            return header

    def _layout(self) -> ImageLayout | TileLayout | TableLayout:
        try:
            if self._known_layout is None:
                self._known_layout = self._parent._opened().layout_of(self._hdu)
            return self._known_layout
        except FitsError as error:
            # keyword errors count from the start of their header
            if error.offset is not None and error.hdu is None:
                error.offset += self._hdu.start
            error.locate(path=self._parent.path, hdu=self.index)
            raise

    def _info(self) -> tuple[str, ...]:
        xtension = self._hdu.header.get("XTENSION", "")
        return (
            str(self.index),
            self.name,
            str(self.version),
            str(xtension),
            f"{self._hdu.data_size} bytes",
            "",
            "",
        )

    def __reduce__(self) -> tuple:
        return operator.getitem, (self._parent, self.index)

    def __repr__(self) -> str:
        kind, shape, dtype = self._info()[3:6]
        name = f" {self.name!r}" if self.name else ""
        return f"<{type(self).__name__} {self.index}{name}: {' '.join(filter(None, (kind, shape, dtype)))}>"
