from collections.abc import Sequence

from typing_extensions import Self, disjoint_base

POLYNOMIAL_ORDER: int

def wcslib_version() -> str: ...

@disjoint_base
class Description:
    def __new__(cls, cards: bytes, key: str, celestial: bool = False) -> Self: ...
    def wanted(self) -> list[tuple[str, str, int, int, str, int, int]]: ...
    def give(self, i: int, shape: Sequence[int], address: int) -> None: ...
    def finish(self) -> None: ...
    def set_sip(
        self,
        crpix: Sequence[float],
        forward: tuple[int, int, int],
        inverse: tuple[int, int, int] | None,
        kept: object,
    ) -> None: ...
    def set_lookup(
        self,
        cpdis: bool,
        axis: int,
        shape: Sequence[int],
        address: int,
        crpix: Sequence[float],
        crval: Sequence[float],
        cdelt: Sequence[float],
        kept: object,
    ) -> None: ...
    def transform(self, to_world: bool, from_: int, to: int, n: int, origin: float, threads: int) -> None: ...
    def facts(self) -> dict: ...
    def header(self, order: Sequence[int] | None = None) -> bytes: ...
