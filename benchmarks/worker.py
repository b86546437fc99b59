"""One reader of the race, warm, in a process of its own: `worker.py READER OPTION`.

A line of stdin is `prepare {json}`, `run TIMES` or `peak {json}`; a line of JSON answers it. Runs under the
interpreter of the reader's environment, from its path, so that the checkout is not on the import path.
"""

from __future__ import annotations

import gc
import hashlib
import importlib
import json
import os
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

warnings.simplefilter("ignore")
Way = Callable[[Any], object]
reader = importlib.import_module(f"readers.{sys.argv[1]}")
before: Callable[[], object] = getattr(reader, "before", lambda: None)


def leaves(result: Any) -> Iterator[torch.Tensor]:
    if isinstance(result, torch.Tensor):
        yield result
    elif isinstance(result, dict):
        for value in result.values():
            yield from leaves(value)
    elif callable(result):  # reads what was written
        yield from leaves(result())
    elif result and all(isinstance(each, str) for each in result):
        yield torch.tensor(list("\0".join(result).encode()), dtype=torch.uint8)
    else:
        for each in result:
            yield from leaves(each)


def digest(result: object) -> str:
    """Of dtypes, shapes and bytes: equal means the same tensors, bit for bit."""
    total = hashlib.sha1()
    for tensor in leaves(result):
        total.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
        total.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy())
    return total.hexdigest()


def timed(way: Way, files: Any) -> float:
    before()
    start = time.perf_counter()
    result = way(files)
    took = time.perf_counter() - start
    del result  # giving memory back is not part of reading
    return took


def prepare(ways: list[Way], files: Any, expected: str | None) -> tuple[Way | None, dict[str, Any]]:
    """The fastest of the ways that read right, and what to answer."""
    best: Way | None = None
    answer: dict[str, Any] = {}
    trouble = {}
    for way in ways:
        try:
            found = digest(way(files))
            if expected is not None and found != expected:
                trouble["wrong"] = f"{name_of(way)}: not what astropy reads"
                continue
            took = timed(way, files)
            took = min(took, *(timed(way, files) for _ in range(3 if took < 0.3 else 1)))
        except Exception as error:
            trouble["error"] = f"{name_of(way)}: {type(error).__name__}: {error}".splitlines()[0]
            continue
        if best is None or took < answer["seconds"]:
            best, answer = way, {"seconds": took, "way": name_of(way), "digest": found}
    gc.collect()
    return best, answer or trouble or {"absent": True}


def name_of(way: Any) -> str:
    if not hasattr(way, "func"):
        return way.__name__
    options = ", ".join(f"{key}={value}" for key, value in way.keywords.items())
    return f"{way.func.__name__}({options})"


def memory(key: str) -> int:
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.findall(rf"{key}:\s+(\d+)", status)[0])


def peak(way: Way, first: Any, files: Any) -> dict[str, int]:
    """What reading `files` takes at its peak beyond the tensors; `first` is read before, to be warm."""
    way(first)
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts again from what is resident now
    resident = memory("VmRSS")
    result = way(files)
    return {"peak": memory("VmHWM") - resident, "tensors": sum(each.nbytes for each in leaves(result))}


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print must not look like an answer
    best: Way | None = None
    files: Any = None
    answer: dict[str, Any] = {"library": reader.VERSION, "torch": torch.__version__}
    print(json.dumps(answer), file=answers)
    for line in sys.stdin:
        command, _, rest = line.partition(" ")
        if command == "run":
            assert best is not None
            answer = {"seconds": [timed(best, files) for _ in range(int(rest))]}
        else:
            asked = json.loads(rest)
            files, ways = asked["files"], reader.WAYS.get(asked["kind"], [])
            if command == "peak":
                answer = peak(ways[0], asked["first"], files)
            else:
                best, answer = prepare(ways, files, asked["expected"])
        print(json.dumps(answer), file=answers)


if __name__ == "__main__":
    main()
