"""open(), read() and HDUList: the way from a path to the HDUs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Literal

import torch

from torchfits._tensors import Device
from torchfits.cache import OpenFile, open_file
from torchfits.errors import FitsError, FitsFormatError, FitsIOError, FitsUnsupported, HduMissing
from torchfits.groups import GroupsHDU
from torchfits.hdu import HDU
from torchfits.header import Header
from torchfits.image import ImageHDU, is_small, read_alone, read_together, read_whole
from torchfits.layout import Hdu
from torchfits.sections import Section
from torchfits.source import Path, file_path
from torchfits.table import TableHDU

Key = int | str | tuple[str, int]
Engine = Literal["auto", "direct", "cfitsio"]
_FEW = 10  # HDUs that may be passed twice: where the first way does not do, the other begins anew


def open(
    path: Path,
    mode: Literal["r"] = "r",
    *,
    cache: bool = True,
    engine: Engine = "auto",
    mmap: bool = True,
    raw_compressed: bool = False,
) -> HDUList:
    """Open a FITS file, plain, gzip or bzip2, for reading.

    Nothing but the first bytes is read; HDUs are found when they are asked for. The name is taken as
    it is: no character in it has a meaning.

    Args:
        path: str, bytes or os.PathLike of a regular file.
        mode: 'r'; files are written by `writeto`.
        cache: Keep the file open after its last user, up to `cache_limit` files a process, so that
            the next `open` of the unchanged file costs little.
        engine: 'auto' takes the fastest engine that serves an HDU: our own, 'direct', for all but a few odd
            compressed images, which only cfitsio reads. 'cfitsio' takes the reference for all; with 'direct'
            no code of cfitsio sees the file, and what only cfitsio can read is FitsUnsupported.
        mmap: Let windows of wide images, and small images that are read again, come from a mapping of the
            file, where it lies on a local disk. Large images never do.
        raw_compressed: Show what is tile-compressed as the table that it is stored as: HDUs of compressed
            images and tables are TableHDUs of streams of bytes, with the headers that stand in the file.

    Returns:
        An HDUList, which is a context manager.

    Raises:
        FitsFileNotFound, FitsIOError: As the operating system says; for directories and special files too.
        FitsFormatError: The file is empty.
        FitsUnsupported: Another mode, engine or compression; `raw_compressed` of cfitsio.

    Example:
        >>> with torchfits.open('image.fits') as f:
        ...     f[0].shape
        (3, 4)
    """
    if mode != "r":
        raise FitsUnsupported(
            f"mode {mode!r}: files are opened for reading ('r') and written by writeto", path=path
        )
    _check_engine(engine, path)
    if raw_compressed and engine == "cfitsio":
        raise FitsUnsupported("cfitsio reads no streams of compressed images as such", path=path)
    file = open_file(path, cache)
    return HDUList(file, cache=cache, engine=engine, mmap=mmap, raw_compressed=raw_compressed)


def _check_engine(engine: str, path: Path) -> None:
    if engine not in ("auto", "direct", "cfitsio"):
        raise FitsUnsupported(f"engine {engine!r}: 'auto', 'direct' or 'cfitsio'", path=path)


class HDUList:
    """The HDUs of one file, found when asked for. Made by `torchfits.open`.

    An HDU is had by index from 0 (negative from the end), by EXTNAME in any case, or by
    (EXTNAME, EXTVER); a name alone gives the first that bears it. May be used from many threads, after
    a fork, and pickled (the other side opens the path again).
    """

    _closed = True  # where opening failed

    def __init__(
        self, file: OpenFile, *, cache: bool, engine: Engine, mmap: bool, raw_compressed: bool = False
    ):
        self._file = file
        self._cache = cache
        self._engine = engine
        self._mmap = mmap
        self._raw_compressed = raw_compressed
        self._known: dict[int, HDU] = {}
        self._closed = False

    @property
    def path(self) -> str | bytes:
        """The path as it was given."""
        return self._file.path

    def __len__(self) -> int:
        return self._opened().count()

    def __iter__(self) -> Iterator[HDU]:
        index = 0
        while (hdu := self._opened().find(index)) is not None:
            yield self._wrap(hdu)
            index += 1

    def __getitem__(self, key: Key) -> HDU:
        hdu = self._find(key)
        if hdu is None:
            raise HduMissing(f"no such HDU; {self._what_there_is()}", path=self.path, hdu=key)
        return self._wrap(hdu)

    def __contains__(self, key: object) -> bool:
        if isinstance(key, HDU):
            return any(hdu is key for hdu in self)
        return self._find(key) is not None  # type: ignore[arg-type]

    def read_images(self, hdus: Iterable[Key] | None = None) -> dict[Key, torch.Tensor]:
        """Read whole images in one call: those of a camera of many chips, or the planes of one exposure.

        Small images are shared out over threads, so that this takes less time than reading one after another.

        Args:
            hdus: Indices, EXTNAMEs or (EXTNAME, EXTVER) of images; None for all images that have pixels.

        Returns:
            Each of `hdus` (an index for each image where it is None) with the tensor that `ImageHDU.read`
            gives, in the order asked for.

        Raises:
            HduMissing: There is no such HDU.
            FitsFormatError: It is no image.
            TypeError: `hdus` is one name or index.
            FitsError: As `ImageHDU.read` raises.

        Example:
            >>> torchfits.open('image.fits').read_images()[0].shape
            torch.Size([3, 4])
        """
        if isinstance(hdus, str | int):
            raise TypeError(f"read_images takes a sequence of HDUs, not {hdus!r}")
        images: dict[Key, ImageHDU] = {}
        if hdus is None:
            images |= {hdu.index: hdu for hdu in self if isinstance(hdu, ImageHDU) and 0 not in hdu.shape}
        else:
            for key in hdus:
                hdu = self[key]
                if not isinstance(hdu, ImageHDU):
                    raise FitsFormatError("not an image", path=self.path, hdu=hdu.index)
                images[key] = hdu
        ours = self._engine != "cfitsio"
        small = {key: hdu._hdu for key, hdu in images.items() if ours and is_small(hdu._hdu)}
        tensors = read_together(self._opened(), list(small.values()), self._mmap) if small else []
        done = dict(zip(small, tensors, strict=True))
        return {key: done[key] if key in done else hdu.read() for key, hdu in images.items()}

    def _find(self, key: Key) -> Hdu | None:
        file = self._opened()
        if isinstance(key, int) and not isinstance(key, bool):
            if key < 0:
                key += file.count()
            return file.find(key) if key >= 0 else None
        version: int | None
        if isinstance(key, str):
            name, version = key, None
        elif isinstance(key, tuple) and len(key) == 2 and isinstance(key[0], str) and isinstance(key[1], int):
            name, version = key
        else:
            raise TypeError(f"an HDU is had by int, EXTNAME or (EXTNAME, EXTVER), not {key!r}")
        name = name.strip().upper()
        hdu = file.find_name(name, version)
        # what astropy and people call the primary HDU, where no HDU bears that name
        return file.find(0) if hdu is None and name == "PRIMARY" and version in (None, 1) else hdu

    def _what_there_is(self) -> str:
        names = ", ".join(repr(hdu.name) if hdu.name else str(hdu.index) for hdu in islice(self, 20))
        return f"the file has {len(self)}: {names}{', ...' if len(self) > 20 else ''}"

    def _wrap(self, hdu: Hdu) -> HDU:
        known = self._known.get(hdu.index)
        if known is None:
            # setdefault: two threads that ask at once get the same object
            if self._raw_compressed:
                hdu = hdu.stored()
            known = self._known.setdefault(hdu.index, _class_of(hdu)(self, hdu))
        return known

    def _opened(self) -> OpenFile:
        if self._closed:
            raise FitsIOError("the HDUList is closed", path=self.path)
        return self._file

    def info(self) -> str:
        """A table of the HDUs for people; a bad HDU is its last line, with what is wrong with it."""
        rows: list[tuple[str, ...]] = [("No.", "Name", "Ver", "Kind", "Shape", "Type", "Compression")]
        trouble = ""
        try:
            for hdu in self:
                rows.append(hdu._info())
        except FitsError as error:
            trouble = f"\n!    {error.message}"
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
        return f"{os.fsdecode(self.path)}\n" + "\n".join(lines) + trouble

    def close(self) -> None:
        """Let go of the file; a second call does nothing. HDUs of this list can no longer be read."""
        if not self._closed:
            self._closed = True
            self._known = {}  # each of them knows this list: no work for the garbage collector
            self._file.release()

    def __enter__(self) -> HDUList:
        self._opened()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if not self._closed:
            self.close()

    def __reduce__(self) -> tuple:
        options = {
            "cache": self._cache,
            "engine": self._engine,
            "mmap": self._mmap,
            "raw_compressed": self._raw_compressed,
        }
        return _reopen, (self._file.absolute, options)

    def __repr__(self) -> str:
        state = "closed" if self._closed else ", ".join(map(repr, list(self._known.values()))) or "open"
        return f"<HDUList {os.fsdecode(self.path)!r}: {state}>"


def _reopen(path: Path, options: dict) -> HDUList:
    return open(path, **options)


def _class_of(hdu: Hdu) -> type[HDU]:
    if hdu.kind == "groups":
        return GroupsHDU
    if hdu.kind == "image" or hdu.compressed:
        return ImageHDU
    return TableHDU if hdu.kind in ("bintable", "table") else HDU


def read(
    path: Path,
    hdu: Key | None = None,
    section: Section = None,
    *,
    dtype: torch.dtype | None = None,
    device: Device = "cpu",
    out: torch.Tensor | None = None,
    cache: bool = True,
    engine: Engine = "auto",
    mmap: bool = True,
) -> torch.Tensor | dict[str, torch.Tensor]:
    """Read one HDU of a file in one call: the fastest way to read a small image.

    Args:
        path: The file.
        hdu: Index, EXTNAME or (EXTNAME, EXTVER); None for the first HDU that holds data.
        section: Of an image, as in `ImageHDU.read`; of a table, a slice of rows.
        dtype, device, out: As in `ImageHDU.read`; tables take only `device`.
        cache, engine, mmap: As in `open`.

    Returns:
        The tensor of an image, or the dict of column tensors of a table.

    Raises:
        HduMissing: There is no such HDU, or none that holds data.
        FitsError: As `open`, `ImageHDU.read` and `TableHDU.read_table` raise.

    Example:
        >>> torchfits.read('image.fits').shape
        torch.Size([3, 4])
    """
    _check_engine(engine, path)
    path = file_path(path)
    as_it_is = section is None and dtype is None and out is None and device == "cpu" and engine != "cfitsio"
    if as_it_is and not cache and (hdu is None or (type(hdu) is int and 0 <= hdu < _FEW)):
        # what is known of an open file, for its next read, takes longer than to read a small image
        tensor = read_alone(path, hdu)
        if tensor is not None:
            return tensor
    with open_file(path, cache) as file:
        key = _first_with_data(file) if hdu is None else hdu
        if as_it_is and type(key) is int and key >= 0:
            # a small image is read in less time than an HDUList and its HDU are made
            plain = file.find(key)
            tensor = None if plain is None else read_whole(file, plain, mmap)
            if tensor is not None:
                return tensor
        with HDUList(file.acquire(), cache=cache, engine=engine, mmap=mmap) as hdus:
            found = hdus[key]
            if isinstance(found, ImageHDU):
                return found.read(section, device, dtype=dtype, out=out)
            if isinstance(found, TableHDU):
                if dtype is not None or out is not None:
                    raise FitsUnsupported("dtype= and out= are for images", path=file.path, hdu=found.index)
                return found.read_table(rows=section, device=device)  # type: ignore[arg-type]  # checked there
            raise FitsUnsupported("the HDU is neither image nor table", path=file.path, hdu=found.index)


def _first_with_data(file: OpenFile) -> int:
    index = 0
    while (hdu := file.find(index)) is not None:
        if hdu.data_size > 0:
            return index
        index += 1
    raise HduMissing("no HDU holds data", path=file.path)


def read_header(path: Path, hdu: Key = 0) -> Header:
    """The header of one HDU of a file; errors as `open` and `HDUList` raise them.

    Example:
        >>> torchfits.read_header('image.fits')['NAXIS']
        2
    """
    with open(path) as file:
        return file[hdu].read_header()
