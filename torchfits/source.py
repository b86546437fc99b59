"""Where the bytes of a file live: a regular file, or a compressed one inflated as far as it is read."""

from __future__ import annotations

import bz2
import os
import threading
import zlib
from collections.abc import Callable
from typing import Any, TypeAlias

from torchfits._direct import DEFLATE_BEST, File, inflate_file
from torchfits._tensors import threads
from torchfits.errors import FitsError, FitsFormatError, FitsIOError, FitsUnsupported, os_error

Path = str | bytes | os.PathLike
Where: TypeAlias = File | bytes | memoryview
# what says "this is still the same file": device, inode, size, mtime in ns
Identity = tuple[int, int, int, int]

_PIECE = 1 << 20
# so much of the file is read for the first header, and for any piece
_READ = 1 << 14
# a gzip file is inflated at once, which is faster, where it makes so little, or so many times what is wanted
_SMALL, _AHEAD = 1 << 18, 4


def file_path(path: Path) -> str | bytes:
    """`path` as the operating system takes it, literal: nothing in a name has a meaning."""
    try:
        name = os.fspath(path)
    except TypeError:
        raise TypeError(f"path must be str, bytes or os.PathLike, not {type(path).__name__}") from None
    if (b"\0" if isinstance(name, bytes) else "\0") in name:
        raise FitsIOError("a file name cannot hold a NUL byte", path=name)
    if isinstance(name, str) and not name.isascii():
        try:
            os.fsencode(name)
        except UnicodeEncodeError as error:
            raise FitsIOError(f"not a file name: {error}", path=ascii(name)) from None
    return name


def identity(path: Path) -> Identity:
    """The identity of the file that `path` leads to now."""
    try:
        info = os.stat(path)
    except OSError as error:
        raise os_error(error, "cannot stat", path) from error
    return info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns


class FileSource:
    """A regular file, read by position, so that threads and forked children may share it."""

    damage: str | None = None  # a plain file ends where it ends

    def __init__(self, path: str | bytes, file: File):
        self.path = path
        self._file: File | None = file
        self.size = file.size

    @property
    def identity(self) -> Identity:
        """What the file was when it was opened."""
        return self.file.identity

    @property
    def file(self) -> File:
        """The open file, for C to read from; FitsIOError where it was closed."""
        file = self._file
        if file is None:
            raise FitsIOError("the file is closed", path=self.path)
        return file

    def read(self, offset: int, count: int) -> bytes:
        """Up to `count` bytes from `offset`; fewer only where the file ends."""
        try:
            return self.file.read(offset, count)
        except FitsError:
            raise
        except OSError as error:
            failure = os_error(error, "cannot read", self.path)
            failure.locate(offset=offset)
            raise failure from error

    def available(self, end: int) -> int:
        """How many bytes there are, counted no further than `end`."""
        return min(self.size, end)

    def where(self, end: int) -> Where:
        """What C reads the bytes from."""
        return self.file

    def check_unchanged(self) -> None:
        """FitsIOError where the file is no longer what it was when it was opened."""
        try:
            self.file.check_unchanged()
        except FitsError as error:
            error.locate(path=self.path)
            raise

    def after_fork(self) -> None:
        """Reads are by position, so a child may go on with the descriptor it inherited."""

    def close(self) -> None:
        """Give the descriptor back, once nobody reads any more; a second call does nothing."""
        self._file = None


class InflatedSource:
    """A gzip (any number of members) or bzip2 file, inflated into memory only as far as was read.

    A gzip file of which much is wanted is inflated at once. A damaged or cut one is not; `damage` says what
    is wrong with it. One that is cut ends there. Of a damaged member no byte can be relied on, since its
    check sum comes last: once it is known to be damaged they count as missing. Inflating stops with
    FitsUnsupported at a quarter of the machine's memory.
    """

    def __init__(self, file: FileSource, new_inflater: Callable[[], Any], at_once: bool):
        self.path = file.path
        self.identity = file.identity
        self._file = file
        self._new_inflater = new_inflater
        self._limit = _memory_limit()
        self._at_once = at_once
        self._too_small = 0  # all of it is more than this
        self.damage: str | None = None
        self._inflater = new_inflater()
        self._position = 0  # in the compressed file
        self._rest = b""  # read, not inflated yet
        self._pieces: list[bytes | memoryview] = []  # inflated
        self._have = 0  # bytes of these
        self._whole_members = 0  # bytes that whole members made
        self._sound: int | None = None  # bytes before a damaged member
        self._ended = False  # there are no more
        self._data: bytes | memoryview = b""
        self._done = False  # the data are all there is
        self._lock = threading.Lock()

    def read(self, offset: int, count: int) -> bytes:
        """Up to `count` bytes from `offset` of the inflated stream."""
        return bytes(self.buffer(offset + count)[offset : offset + count])

    def available(self, end: int) -> int:
        """How many sound bytes there are, counted no further than `end`; inflates that far."""
        there = len(self.buffer(end))
        return min(there if self._sound is None else self._sound, end)

    def where(self, end: int) -> Where:
        """What C reads the bytes from."""
        return self.buffer(end)

    def check_unchanged(self) -> None:
        """The inflated bytes are in memory and stay what they are."""

    def buffer(self, end: int) -> bytes | memoryview:
        """The inflated bytes, at least up to `end` where the stream has that many."""
        if end > len(self._data) and not self._done:
            with self._lock:
                if end > len(self._data) and not self._done:
                    self._inflate(end)
        return self._data

    def _inflate(self, end: int) -> None:
        size = self._file.size
        most = min(self._limit, max(_AHEAD * end, _SMALL), DEFLATE_BEST * size)
        whole = None
        if self._at_once and size <= most:
            try:
                whole = self._whole(most)
            except ValueError:
                # piece by piece it is seen how far it is sound, and what is wrong
                self._at_once = False
                end = max(end, most)
        data = self._further(end) if whole is None else whole
        # part of an old file and part of a new one are no file
        self._file.check_unchanged()
        self._data, self._done = data, self._ended or whole is not None
        self._pieces = [] if self._done else [data]

    def _whole(self, most: int) -> memoryview | None:
        """All that the file makes, None where that is more than `most`; ValueError where it is damaged."""
        size = self._file.size
        # the last four bytes say what the last member makes, in the ordinary case the only one
        hint = int.from_bytes(self._file.read(size - 4, 4), "little")
        if hint > most or most < 2 * self._too_small:
            return None
        # what cannot be packed grows a little
        one_member = hint + hint // 1024 + 64 >= size
        data = inflate_file(
            self._file.read(0, size), hint if one_member else 2 * size, most, threads=threads()
        )
        if data is None:
            self._too_small = most
        return data

    def _further(self, end: int) -> bytes:
        """What there is already and some more, in pieces; each is kept, whatever happens to the next."""
        # growing by half keeps the copying linear when headers are read block by block
        goal = max(end, len(self._data) * 3 // 2)
        while not self._ended and (self._have < goal or self._is_near_end(goal)):
            if self._have > self._limit:
                raise FitsUnsupported(
                    f"inflates to more than {self._limit} bytes, a quarter of this machine's memory; "
                    "decompress the file on disk first",
                    path=self.path,
                )
            piece = self._next_piece()
            self._pieces.append(piece)
            self._have += len(piece)
        return b"".join(self._pieces)

    def _is_near_end(self, goal: int) -> bool:
        """Whether little is left beyond `goal`: the check sum, which comes last, is seen then, too."""
        left = self._file.size - self._position + len(self._rest)
        return left <= _READ and self._have < min(goal + _PIECE, self._limit)

    def _next_piece(self) -> bytes:
        if self._inflater.eof:  # another member, or padding after the last one
            self._whole_members = self._have
            self._rest = self._inflater.unused_data.lstrip(b"\0")
            while not self._rest and (piece := self._file.read(self._position, _PIECE)):
                self._rest = piece.lstrip(b"\0")
                self._position += len(piece)
            if not self._rest:
                self._ended = True
                return b""
            self._inflater = self._new_inflater()
        pending = self._rest
        if not pending and getattr(self._inflater, "needs_input", True):
            pending = self._file.read(self._position, _READ)
            self._position += len(pending)
            if not pending:
                self._ended = True
                self.damage = "the compressed stream is cut short"
                return b""
        try:
            piece = self._inflater.decompress(pending, _PIECE)
        except (zlib.error, OSError, ValueError) as error:
            self._ended = True
            self._sound = self._whole_members
            self.damage = f"the compressed stream is damaged: {error}"
            return b""
        # zlib hands back what the output limit left over, bz2 keeps it
        self._rest = getattr(self._inflater, "unconsumed_tail", b"")
        return piece

    def after_fork(self) -> None:
        """Start from the beginning: another thread of the parent may have been inflating."""
        self.__init__(self._file, self._new_inflater, self._at_once)  # type: ignore[misc]

    def close(self) -> None:
        """Give the file back; a second call does nothing."""
        self._file.close()


def _memory_limit() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4


Source = FileSource | InflatedSource


def open_source(path: str | bytes) -> Source:
    """The bytes of the regular file at `path` (as `file_path` gives it), inflated where it is gzip or bzip2.

    Raises:
        FitsFileNotFound, FitsIOError: As the operating system says; also for anything but a regular file.
        FitsFormatError: The file is empty.
        FitsUnsupported: A compression that is not read.
    """
    try:
        opened = File(os.fsencode(path))
    except OSError as error:
        raise os_error(error, "cannot open", path) from error
    file, magic = FileSource(path, opened), opened.magic
    if magic == b"SIMP":
        return file
    try:
        if not magic:
            raise FitsFormatError("the file is empty", path=file.path, offset=0)
        if magic[:2] == b"\x1f\x8b":
            return InflatedSource(file, lambda: zlib.decompressobj(wbits=31), at_once=True)
        if magic[:3] == b"BZh":
            return InflatedSource(file, bz2.BZ2Decompressor, at_once=False)
        for start, name in ((b"\x1f\x9d", "compress (.Z)"), (b"PK\3\4", "zip"), (b"\xfd7zX", "xz")):
            if magic.startswith(start):
                raise FitsUnsupported(f"a {name} file; decompress it first", path=file.path)
    except BaseException:
        file.close()
        raise
    return file
