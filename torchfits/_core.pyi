from array import array
from collections.abc import Sequence

from typing_extensions import Self, disjoint_base

from torchfits.source import Identity

MAX_SUBSET_AXES: int
MAX_COMPRESSED_AXES: int

def cfitsio_version() -> str: ...
def cfitsio_reentrant() -> bool: ...
def after_fork() -> None: ...

@disjoint_base
class Handle:
    def __new__(
        cls,
        path: str | bytes | None = None,
        identity: Identity | None = None,
        memory: bytes | None = None,
        origin: int = 0,
    ) -> Self: ...
    def close(self) -> None: ...
    def abandon(self) -> None: ...
    def check_layout(
        self, start: int, data_start: int, bitpix: int | None = None, axes: Sequence[int] | None = None
    ) -> None: ...
    def read_subset(
        self,
        start: int,
        dtype: str,
        scale: float,
        zero: float,
        blank: int | None,
        nan_nulls: bool,
        first: Sequence[int],
        last: Sequence[int],
        step: Sequence[int],
        address: int,
        size: int,
    ) -> None: ...
    def read_pixels(
        self,
        start: int,
        dtype: str,
        scale: float,
        zero: float,
        blank: int | None,
        nan_nulls: bool,
        runs: Sequence[int],
        count: int,
        address: int,
        size: int,
    ) -> None: ...
    def read_columns(
        self,
        start: int,
        columns: Sequence[tuple[int, str, int, float, float, int, int]],
        first_row: int,
        rows: int,
        chunk: int,
    ) -> None: ...
    def read_descriptors(
        self, start: int, column: int, first_row: int, rows: int, lengths: int, offsets: int, size: int
    ) -> None: ...
    def read_ragged(
        self,
        start: int,
        column: int,
        dtype: str,
        scale: float,
        zero: float,
        first_row: int,
        counts: array[int],
        address: int,
        size: int,
    ) -> None: ...
    def read_row_bytes(self, start: int, first_row: int, count: int, address: int) -> None: ...
