"""Open files and their parsed layouts, kept per process in a bounded LRU, and right after a fork."""

from __future__ import annotations

import copy
import multiprocessing
import os
import resource
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, TypeVar

from torchfits import layout
from torchfits._core import Handle, after_fork
from torchfits._direct import HduIndex, TileCache, memory_clear
from torchfits.errors import FitsError, FitsFormatError, FitsIOError, FitsUnsupported, os_error
from torchfits.source import FileSource, InflatedSource, Path, Where, file_path, identity, open_source

_ALL = 1 << 62  # more than any file has
_Result = TypeVar("_Result")


class CacheInfo(NamedTuple):
    """What `cache_info` reports; the fields are those of functools' caches."""

    hits: int
    misses: int
    maxsize: int
    currsize: int


class OpenFile:
    """One file: its bytes, its HDUs as far as they were looked for, its cfitsio handle.

    Shared by every HDUList of the same file in this process; closed with the last of its users, of which
    there is one from the start. `path` is as `file_path` gives it.
    """

    def __init__(self, path: str | bytes):
        self.path = path
        self.absolute = _absolute(path)
        self.source = open_source(path)
        self.users = 1
        self.cached = False
        # a compressed file has no index: each header is parsed
        self._index = HduIndex(self.source.file if isinstance(self.source, FileSource) else None)
        self._hdus: dict[int, layout.Hdu] = {}
        self._odd: list[int] = []  # those that the index does not know by name
        self._named: dict[tuple[str, int | None], layout.Hdu] = {}  # what was found by name
        self._failure: FitsFormatError | None = None  # what ended the walk
        self._layouts: dict[
            tuple[int, bool], layout.ImageLayout | layout.TileLayout | layout.TableLayout
        ] = {}
        self._lock = threading.RLock()
        self._handle: Handle | None = None
        self._alone: tuple[int, Handle] | None = None  # of a copy of one HDU, by its index
        self.tiles = TileCache()
        self.read_whole: set[int] = set()  # indices of plain images
        self._closed = False
        _files.add(weakref.ref(self, _files.discard))

    def find(self, index: int) -> layout.Hdu | None:
        """The HDU at `index` from 0, walking as far as needed; None past the last."""
        known = self._hdus.get(index)
        if known is not None:
            return known
        with self._lock:
            while not self._walk(self._index.reach, min(index + 1, _ALL)):
                if not self._parse_next():
                    return None
            if index >= self._index.count:
                return None
            if index not in self._hdus:
                self._hdus[index] = layout.indexed_hdu(self.source, index, self._index[index])
            return self._hdus[index]

    def _walk(self, step: Callable[..., _Result], *arguments: object) -> _Result:
        """Call a method of the index that goes on along the file."""
        try:
            return step(*arguments)
        except OSError as error:
            raise os_error(error, "cannot read", self.path) from error

    def _parse_next(self) -> bool:
        """Read the header at which the index stopped; False where there is none any more."""
        if self._index.complete:
            return False
        self._check_open()
        if self._failure is not None:
            raise copy.copy(self._failure)
        try:
            hdu = layout.next_hdu(self.source, self._index.count, self._index.next)
        except FitsError as error:
            error.locate(path=self.path)
            if isinstance(error, FitsFormatError):
                self._failure = copy.copy(error)
            raise
        if hdu is None:
            self._index.finish()
            return False
        self._hdus[hdu.index] = hdu
        self._odd.append(hdu.index)
        self._index.add(hdu.start, hdu.end)
        return True

    def find_name(self, name: str, version: int | None) -> layout.Hdu | None:
        """The first HDU with this EXTNAME in capitals, and EXTVER unless None; walks as far as needed."""
        known = self._named.get((name, version))
        if known is None and (known := self._look_for(name, version)) is not None:
            self._named[name, version] = known
        return known

    def _look_for(self, name: str, version: int | None) -> layout.Hdu | None:
        key, first, seen = name.encode("utf-8", "surrogatepass"), 0, 0
        # such an EXTVER only a header can hold that the index does not know
        absurd = version is not None and abs(version) >= _ALL
        with self._lock:
            while True:
                asked = (b"\0", None) if absurd else (key, version)
                found = self._walk(self._index.find_name, *asked, first)
                for index in self._odd[seen:]:
                    hdu = self._hdus[index]
                    if hdu.name.upper() == name and version in (None, hdu.version) and not 0 <= found < index:
                        return hdu
                if found >= 0:
                    return self.find(found)
                first, seen = self._index.count, len(self._odd)
                if not self._parse_next():
                    return None

    def count(self) -> int:
        """How many HDUs there are; walks to the end."""
        with self._lock:
            while not self._index.complete:
                self._walk(self._index.reach, _ALL)
                self._parse_next()
            return self._index.count

    def layout_of(self, hdu: layout.Hdu) -> layout.ImageLayout | layout.TileLayout | layout.TableLayout:
        """The parsed layout of an HDU, kept."""
        key = hdu.index, hdu.as_stored
        known = self._layouts.get(key)
        if known is None:
            with self._lock:
                if hdu.kind in ("bintable", "table"):
                    known = layout.tile_layout(hdu) if hdu.compressed else layout.table_layout(hdu)
                else:
                    known = layout.image_layout(hdu)
                self._layouts[key] = known
        return known

    @contextmanager
    def reading(self, hdu: layout.Hdu) -> Iterator[Handle]:
        """A cfitsio handle for reading the data of `hdu`, which are all there; errors get path and HDU."""
        try:
            self._check_open()
            self.source.check_unchanged()
            self.check_data(hdu)
            # only of a table does cfitsio look at THEAP
            heap = hdu.header.get("THEAP", 0) if hdu.kind in ("bintable", "table") else 0
            if isinstance(heap, int) and abs(heap) > _ALL:
                raise FitsUnsupported(f"cfitsio cannot read the header: THEAP = {heap}; engine='direct' can")
            handle = self._handle_for(hdu)
            if hdu.kind == "image":
                image = layout.image_layout(hdu)
                axes = [] if image.shape == (0,) else list(image.shape[::-1])
                handle.check_layout(hdu.start, hdu.data_start, image.bitpix, axes)
            else:
                handle.check_layout(hdu.start, hdu.data_start)
            yield handle
            self.source.check_unchanged()
        except FitsError as error:
            error.locate(path=self.path, hdu=hdu.index)
            raise

    def _handle_for(self, hdu: layout.Hdu) -> Handle:
        """The handle of the file; where cfitsio could not read `hdu` from it, one of a copy of that HDU."""
        with self._lock:
            padded = self.source.available(hdu.end) == hdu.end
            if not isinstance(self.source, InflatedSource) and padded and self._orderly(hdu):
                if self._handle is None:
                    self._handle = Handle(self.absolute, self.source.identity)
                return self._handle
            if self._alone is None or self._alone[0] != hdu.index:
                data = self.source.read(hdu.start, hdu.end - hdu.start)
                if len(data) < hdu.data_start + hdu.data_size - hdu.start:
                    raise FitsIOError("the file shrank since it was opened", offset=hdu.start + len(data))
                data += bytes(-len(data) % layout.BLOCK)
                before = layout.EMPTY_PRIMARY if hdu.index else b""
                self._alone = hdu.index, Handle(memory=before + data, origin=hdu.start - len(before))
            return self._alone[1]

    def _orderly(self, hdu: layout.Hdu) -> bool:
        # cfitsio opens no file whose primary header it does not like, whatever follows
        first = self.find(0)
        return hdu.index == 0 or (first is not None and first.orderly)

    def where(self, hdu: layout.Hdu) -> Where:
        """What C reads the bytes of `hdu` from."""
        return self.source.where(hdu.data_start + hdu.data_size)

    def check_data(self, hdu: layout.Hdu) -> None:
        """FitsFormatError where the file ends before the data of `hdu` do."""
        end = hdu.data_start + hdu.data_size
        missing = end - self.source.available(end)
        if missing > 0:
            problem = f"cut short: {missing} of {hdu.data_size} bytes are missing"
            if self.source.damage:
                problem = f"cut short or damaged: {self.source.damage}"
            raise FitsFormatError(f"the data are {problem}", offset=hdu.data_start)

    def _check_open(self) -> None:
        if self._closed:
            raise FitsIOError("the file is closed", path=self.path)

    def acquire(self) -> OpenFile:
        """One more user."""
        with _lock:
            self.users += 1
        return self

    def __enter__(self) -> OpenFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """One user less."""
        with _lock:
            self.users -= 1
            unused = self.users <= 0 and not self.cached
        if unused:
            self.close()

    def close(self) -> None:
        with self._lock:
            self._closed = True
            if self._handle is not None:
                self._handle.close()
            self._alone = None
            self.tiles = TileCache()
            self._index.close()
            self.source.close()

    def after_fork(self) -> None:
        """In a forked child: locks may be held by threads that are not here, handles share positions."""
        self._lock = threading.RLock()
        self._index.after_fork()
        self.source.after_fork()
        self.tiles.abandon()
        self.tiles = TileCache()
        if self._alone is not None:
            self._alone[1].abandon()
            self._alone = None
        if self._handle is not None:
            self._handle.abandon()
            self._handle = None


# not a WeakSet: its callback is Python, where an interrupt of the user would be lost
_files: set[weakref.ref[OpenFile]] = set()


def _known_files() -> list[OpenFile]:
    return [file for file in [known() for known in list(_files)] if file is not None]


# reentrant: the garbage collector may close a forgotten HDUList while this thread holds it
_lock = threading.RLock()
# least recently used first; one entry a path, good while the file on disk is still the same
_open: OrderedDict[str | bytes, OpenFile] = OrderedDict()
_hits = _misses = 0
# a file takes two descriptors, and the rest of the process wants some too
_soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
_limit = 128 if _soft == resource.RLIM_INFINITY else min(128, _soft // 8)


def _absolute(path: str | bytes) -> str | bytes:
    """As os.path.abspath, which takes longer than opening the file where there is nothing to do."""
    if isinstance(path, str) and path.startswith("/") and "//" not in path and "/." not in path:
        return path if not path.endswith("/") else os.path.abspath(path)
    return os.path.abspath(path)


def open_file(path: Path, cache: bool) -> OpenFile:
    """The OpenFile of `path`, of which the caller is a user and must release it.

    With `cache`, the one already open where path, device, inode, size and mtime (ns) are the same.
    Compressed files hold their inflated bytes and are not kept.
    """
    global _hits, _misses
    path = file_path(path)
    if not cache:
        return OpenFile(path)
    where, now = _absolute(path), identity(path)
    with _lock:
        file = _open.get(where)
        if file is not None and file.source.identity == now:
            _hits += 1
            _open.move_to_end(where)
            file.users += 1
            return file
        _misses += 1
    file = OpenFile(path)
    if not isinstance(file.source, InflatedSource):
        with _lock:
            unused = _evict([where]) if where in _open else []
            _open[where] = file
            file.cached = True
            unused += _evict(list(_open)[: max(len(_open) - _limit, 0)])
        for old in unused:
            old.close()
    return file


def _evict(paths: list[str | bytes]) -> list[OpenFile]:
    """Drop entries, under the lock; returns the files that nobody uses, to be closed outside it."""
    files = [_open.pop(path) for path in paths]
    for file in files:
        file.cached = False
    return [file for file in files if file.users <= 0]


def cache_info() -> CacheInfo:
    """Hits and misses of `open(cache=True)` in this process, the limit, and how many files are kept.

    Example:
        >>> torchfits.cache_info().currsize <= torchfits.cache_info().maxsize
        True
    """
    with _lock:
        return CacheInfo(_hits, _misses, _limit, len(_open))


class TileCacheInfo(NamedTuple):
    """What `tile_cache_info` reports, of all open files together."""

    hits: int
    misses: int
    tiles: int
    bytes: int
    limit: int  # bytes a file


_tile_bytes = 32 << 20


def tile_cache_bytes() -> int:
    """How many bytes of decoded tiles an open file may keep; in a worker process an eighth of the limit."""
    return _tile_bytes if multiprocessing.parent_process() is None else _tile_bytes // 8


def tile_cache_limit(size: int) -> None:
    """Keep at most `size` bytes of decoded tiles of each open file; 0 keeps none.

    Tiles are kept of compressed images of which parts are read more than once, so that windows that share
    tiles decode them once. A process that another one started, as a DataLoader's worker, keeps an eighth.

    Example:
        >>> torchfits.tile_cache_limit(torchfits.tile_cache_info().limit)
    """
    global _tile_bytes
    if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size < _ALL:
        raise ValueError(f"tile_cache_limit takes a number of bytes from 0, not {size!r}")
    _tile_bytes = size
    for file in _known_files():
        file.tiles.shrink(tile_cache_bytes())


def tile_cache_info() -> TileCacheInfo:
    """Hits and misses of decoded tiles in the files open in this process, how many are kept, and the limit.

    Example:
        >>> torchfits.tile_cache_info().bytes
        0
    """
    told = [file.tiles.info() for file in _known_files()]
    hits, misses, tiles, size = (sum(each) for each in zip((0, 0, 0, 0), *told, strict=True))
    return TileCacheInfo(hits, misses, tiles, size, tile_cache_bytes())


def cache_clear() -> None:
    """Close the kept files that nobody uses, forget the others, and set the counters to zero.

    The memory that was kept for the next tensors goes back to the system too.

    Example:
        >>> torchfits.cache_clear()
        >>> torchfits.cache_info().currsize
        0
    """
    global _hits, _misses
    with _lock:
        unused = _evict(list(_open))
        _hits = _misses = 0
    for file in unused:
        file.close()
    memory_clear()


def cache_limit(files: int) -> None:
    """Keep at most `files` files open; 0 keeps none. Each takes up to two descriptors.

    Example:
        >>> torchfits.cache_limit(torchfits.cache_info().maxsize)
    """
    global _limit
    if isinstance(files, bool) or not isinstance(files, int) or files < 0:
        raise ValueError(f"cache_limit takes a number of files from 0, not {files!r}")
    with _lock:
        _limit = files
        unused = _evict(list(_open)[: max(len(_open) - _limit, 0)])
    for file in unused:
        file.close()


def _after_fork() -> None:
    global _lock, _hits, _misses
    after_fork()
    # its pages are shared with the parent until they are written: nothing is gained by using them again
    memory_clear()
    _lock = threading.RLock()
    _hits = _misses = 0
    for file in _known_files():
        file.after_fork()
    unused = _evict(list(_open))
    for file in unused:
        file.close()


os.register_at_fork(after_in_child=_after_fork)
