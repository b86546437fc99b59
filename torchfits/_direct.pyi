from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from typing_extensions import Buffer, Self, disjoint_base

from torchfits.source import Identity

_Tensor = TypeVar("_Tensor")

TYPES: dict[str, int]
KINDS: dict[int, str]

def variants() -> list[str]: ...
def use_variant(name: str) -> None: ...

BLOCK_FROM: int
SMALL_JOB: int

@disjoint_base
class Block:
    def __new__(cls, size: int) -> Self: ...

def memory_kept() -> int: ...
def memory_clear() -> None: ...
def processor_quota() -> int: ...
def reserve(fd: int, start: int, size: int) -> None: ...
def to_file_order(type: int, to: int, from_: int, n: int) -> None: ...
def cast(to_type: int, to: int, from_type: int, from_: int, n: int) -> None: ...

@disjoint_base
class File:
    def __new__(cls, path: bytes) -> Self: ...
    @property
    def magic(self) -> bytes: ...
    @property
    def identity(self) -> Identity: ...
    @property
    def size(self) -> int: ...
    def read(self, offset: int, count: int) -> bytes: ...
    def check_unchanged(self) -> None: ...

_Where = File | bytes | memoryview

@disjoint_base
class Conversion:
    def __new__(cls, bitpix: int, scale: float, zero: float, blank: int | None, wanted: int) -> Self: ...

def read_section(
    where: _Where,
    conversion: Conversion,
    start: int,
    shape: tuple[int, ...],
    gap: int,
    ranges: list[range] | None,
    address: int,
    size: int,
    threads: int,
    mmap: bool,
    again: bool,
) -> None: ...
def read_images(
    where: _Where,
    images: list[tuple[Conversion, int, tuple[int, ...], int, int, int, bool]],
    threads: int,
    mmap: bool,
) -> None: ...
def read_cutouts(
    where: _Where,
    conversion: Conversion,
    planes: tuple[int, int, int, int],
    corners: tuple[int, int],
    window: tuple[int, int],
    fill: bytes | None,
    address: int,
    size: int,
    threads: int,
    mmap: bool,
) -> bool: ...
def end_texts(fields: int, size: int, width: int) -> None: ...
def pack_texts(fields: int, size: int, ends: int, width: int, count: int, offsets: int, to: int) -> int: ...

TILE_AXES: int
HCOMPRESS_SIDE_MAX: int

_Column = tuple[int, bool, int]
_TileNumber = tuple[int, int, float]

@disjoint_base
class Tiling:
    def __new__(
        cls,
        codec: str,
        options: tuple[int, int, int, int],
        shape: Sequence[int],
        tile: Sequence[int],
        table: tuple[int, int, int, int, int],
        columns: tuple[_Column | None, _Column | None, _Column | None, int],
        conversion: Conversion,
        quantisation: tuple[str, int, float, float, _TileNumber, _TileNumber, _TileNumber | None] | None,
    ) -> Self: ...

@disjoint_base
class TileCache:
    def __new__(cls) -> Self: ...
    def abandon(self) -> None: ...
    def shrink(self, most: int) -> None: ...
    def info(self) -> tuple[int, int, int, int]: ...

def read_tiled_section(
    where: _Where,
    tiling: Tiling,
    ranges: Sequence[range],
    address: int,
    size: int,
    keep: tuple[TileCache, object, int] | None,
    threads: int,
) -> None: ...
def read_tiled_cutouts(
    where: _Where,
    tiling: Tiling,
    corners: tuple[int, int],
    window: tuple[int, int],
    fill: bytes | None,
    address: int,
    size: int,
    keep: tuple[TileCache, object, int] | None,
    threads: int,
) -> bool: ...

@disjoint_base
class TileEncoding:
    def __new__(
        cls,
        codec: str,
        options: tuple[int, int, float, int],
        shape: Sequence[int],
        tile: Sequence[int],
        conversion: Conversion,
        quantisation: tuple[float, str, int] | None,
    ) -> Self: ...
    @property
    def room(self) -> int: ...

@disjoint_base
class EncodedTiles:
    def __new__(
        cls, encoding: TileEncoding, pixels: tuple[int, int], streams: tuple[int, int], threads: int
    ) -> Self: ...
    @property
    def count(self) -> int: ...
    @property
    def heap_bytes(self) -> int: ...
    @property
    def pieces(self) -> list[tuple[int, int]]: ...
    @property
    def longest(self) -> tuple[int, int | None]: ...
    @property
    def has_blank(self) -> bool: ...
    def row_bytes(self, wide: bool) -> int: ...
    def put_rows(self, wide: bool, address: int, size: int) -> None: ...

@disjoint_base
class HduIndex:
    def __new__(cls, file: File | None) -> Self: ...
    @property
    def count(self) -> int: ...
    @property
    def next(self) -> int: ...
    @property
    def complete(self) -> bool: ...
    def reach(self, count: int) -> bool: ...
    def find_name(self, name: bytes, version: int | None, first: int) -> int: ...
    def add(self, start: int, next: int) -> None: ...
    def close(self) -> None: ...
    def after_fork(self) -> None: ...
    def finish(self) -> None: ...
    def __getitem__(self, i: int, /) -> tuple[Any, ...]: ...

COLLECTED: int
NUMBERS: int
LOGICALS: int
BITS: int

# kind, offset, elements, conversion, column, null, its marks
_Field = tuple[int, int, int, Conversion | None, tuple[int, int], int, tuple[int, int]]

def read_rows(
    where: _Where,
    start: int,
    row_bytes: int,
    all_rows: int,
    rows: range | tuple[int, int],
    fields: list[_Field],
    threads: int,
    mmap: bool,
) -> None: ...

@disjoint_base
class Collection:
    def __new__(cls, low: int, width: int, address: int, size: int, order: int, order_size: int) -> Self: ...
    @property
    def count(self) -> int: ...
    @property
    def looked_at(self) -> int: ...
    @property
    def is_full(self) -> bool: ...

def select_rows(
    where: _Where,
    start: int,
    row_bytes: int,
    all_rows: int,
    rows: range | tuple[int, int],
    inputs: list[tuple[int, int, int, int, Conversion | None, int | None]],
    filter: Filter,
    address: int,
    size: int,
    threads: int,
    mmap: bool,
    collection: Collection | None = None,
) -> int: ...
def table_cards(header: bytes) -> dict[int, dict[str, Any]] | None: ...
def passed_rows(keep: int, rows: int, address: int, count: int, first: int, step: int) -> None: ...

@disjoint_base
class Heap:
    def __new__(
        cls, start: int, size: int, kind: int, conversion: Conversion | None, numbers: int
    ) -> Self: ...
    def check(self, descriptors: int, rows: int, most: int, ends: int) -> int: ...
    def read(
        self,
        where: _Where,
        descriptors: int,
        rows: int,
        ends: int,
        address: int,
        size: int,
        threads: int,
        mmap: bool,
    ) -> None: ...

RICE_TOGETHER: int

def rice_decode(streams: list[Buffer], count: int, width: int, block: int = 32) -> list[bytearray]: ...
def rice_encode(numbers: Buffer, width: int, block: int = 32) -> bytes: ...

DEFLATE_BEST: int

def inflaters() -> list[str]: ...
def inflate(stream: Buffer, count: int, library: str | None = None) -> bytes: ...
def find_block(stream: Buffer, start: int) -> int | None: ...
def gzip_sharing(size: int, makes: int, threads: int) -> tuple[int, int, int]: ...
def inflate_parts(
    file: Buffer, room: int, threads: int, part: int, units: int
) -> tuple[bytes, int, int] | None: ...
def inflate_file(
    file: Buffer, hint: int, most: int, library: str | None = None, threads: int = 1
) -> memoryview | None: ...
def deflate(data: Buffer, level: int = 1) -> bytes: ...
def shuffle(numbers: Buffer, width: int) -> bytes: ...
def unshuffle(shuffled: Buffer, width: int) -> bytes: ...
def hcompress_decode(stream: Buffer, rows: int, columns: int, smooth: bool = False) -> bytearray: ...
def hcompress_encode(pixels: Buffer, rows: int, columns: int, scale: int = 0) -> bytes: ...
def plio_decode(stream: Buffer, count: int) -> bytearray: ...
def plio_encode(pixels: Buffer) -> bytes: ...
def dequantise(
    numbers: Buffer,
    wide: bool,
    method: int,
    scale: float,
    zero: float,
    blank: int | None,
    zdither0: int = 1,
    tile: int = 0,
) -> bytearray: ...
def quantise(
    pixels: Buffer, wide: bool, columns: int, level: float, method: int, zdither0: int = 1, tile: int = 0
) -> tuple[bytearray, float, float] | None: ...

FILE_DONE: int
FILE_CHANGED: int

def read_stack(
    paths: list[bytes],
    which: int | tuple[bytes, int | None],
    bitpix: int,
    shape: tuple[int, ...],
    conversion: Conversion,
    any_values: bool,
    ranges: list[range] | None,
    address: int,
    size: int,
    threads: int,
) -> bytearray: ...
def read_alone(
    path: bytes, index: int | None, make: Callable[[tuple[int, ...], int], tuple[_Tensor, int, int]]
) -> tuple[int, _Tensor | None]: ...
def gather_rows(
    paths: list[bytes],
    which: int | tuple[bytes, int | None],
    header: bytes,
    row_bytes: int,
    fields: list[_Field],
    first: Any,
    rows: Any,
    places: Any,
    threads: int,
) -> bytearray: ...
def card_value(header: bytes, at: int) -> Any: ...
def read_cards(
    paths: list[bytes], which: int | tuple[bytes, int | None], keywords: list[bytes], threads: int
) -> tuple[bytearray, list[list[Any]]]: ...

OPERATIONS: dict[str, str]

@disjoint_base
class Filter:
    def __new__(
        cls,
        inputs: list[tuple[str, int]],
        constants: list[tuple[str, list[Any]]],
        temporaries: str,
        program: list[tuple[str, int, int, int]],
    ) -> Self: ...
    def evaluate(self, values: list[Any], nulls: list[Any], n: int) -> bytearray: ...
