from collections.abc import Iterable
from typing import Any

CODECS: dict[str, int]

def check_tiles(
    codec: str,
    heap: Any,
    offsets: Iterable[int],
    lengths: Iterable[int],
    pixels: Iterable[int],
    widths: Iterable[int] | None = None,
    *,
    blocksize: int = 32,
    bytepix: int = 4,
) -> tuple[int, str] | None: ...
