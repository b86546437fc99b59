"""FITS files to PyTorch tensors and back."""

from torchfits.batch import gather, read_batch, read_keys
from torchfits.cache import (
    cache_clear,
    cache_info,
    cache_limit,
    tile_cache_info,
    tile_cache_limit,
)
from torchfits.compression import Gzip1, Gzip2, Hcompress1, Plio1, Quantize, Rice1
from torchfits.errors import (
    FilterError,
    FitsError,
    FitsFileExists,
    FitsFileNotFound,
    FitsFormatError,
    FitsIOError,
    FitsUnsupported,
    FitsWarning,
    HduMissing,
    KeywordMissing,
    SectionError,
)
from torchfits.groups import GroupsHDU
from torchfits.hdu import HDU
from torchfits.hdulist import HDUList, open, read, read_header
from torchfits.header import Card, Header
from torchfits.image import ImageHDU, cutouts_at
from torchfits.table import ColumnInfo, TableHDU
from torchfits.text import strings
from torchfits.versions import versions
from torchfits.wcs import WCS, TensorWCS
from torchfits.writer import writeto

__all__ = [
    "HDU",
    "WCS",
    "Card",
    "ColumnInfo",
    "FilterError",
    "FitsError",
    "FitsFileExists",
    "FitsFileNotFound",
    "FitsFormatError",
    "FitsIOError",
    "FitsUnsupported",
    "FitsWarning",
    "GroupsHDU",
    "Gzip1",
    "Gzip2",
    "HDUList",
    "Hcompress1",
    "HduMissing",
    "Header",
    "ImageHDU",
    "KeywordMissing",
    "Plio1",
    "Quantize",
    "Rice1",
    "SectionError",
    "TableHDU",
    "TensorWCS",
    "cache_clear",
    "cache_info",
    "cache_limit",
    "cutouts_at",
    "gather",
    "open",
    "read",
    "read_batch",
    "read_header",
    "read_keys",
    "strings",
    "tile_cache_info",
    "tile_cache_limit",
    "versions",
    "writeto",
]
