"""What torchfits makes of a file, found out in a child process that may crash, hang or eat memory.

Run as a script it is a fork server: it has torchfits loaded, takes a path a line (as JSON) on standard
input, and answers each with a line of JSON.
"""

from __future__ import annotations

import json
import math
import os
import resource
import select
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

WALL_SECONDS = 60
MEMORY_BYTES = 1 << 30
HDUS = 3
SHOWN = 2000  # values of larger tensors are not reported


class Prober:
    """A fork server and the pipes to it."""

    def __init__(self) -> None:
        command = [sys.executable, os.path.abspath(__file__)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        self._server = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        )

    def __call__(self, path: str | os.PathLike) -> dict[str, Any]:
        """What `report` says of the file, or {'died': why}."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(os.fspath(path)).encode() + b"\n")
        self._server.stdin.flush()
        return json.loads(self._server.stdout.readline())

    def close(self) -> None:
        self._server.communicate(timeout=60)


def outcome(action: Callable[[], Any]) -> dict[str, Any]:
    """The value of a call, or its exception, as JSON can hold it."""
    try:
        return {"value": plain(action())}
    except Exception as error:
        return {
            "error": type(error).__name__,
            "family": [cls.__name__ for cls in type(error).__mro__],
            "path": getattr(error, "path", None),
            "hdu": getattr(error, "hdu", None),
            "errno": getattr(error, "errno", None),
            "text": str(error),
        }


def plain(value: Any) -> Any:
    """Tensors as lists; NaN as the text 'nan', so that it equals itself."""
    import torch

    if isinstance(value, torch.Tensor):
        if value.is_nested:
            return [plain(row) for row in value.unbind()]
        if max(value.numel(), *value.shape, 0) > SHOWN:
            return f"{value.dtype} {tuple(value.shape)}"
        return plain(value.tolist())
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [plain(each) for each in value]
    finite = isinstance(value, float) and math.isfinite(value)
    return value if isinstance(value, (int, str)) or finite else repr(value)


def report(path: str) -> dict[str, Any]:
    """Open, count, list, and read every header, image, table and column; all of it twice."""
    import torchfits

    found: dict[str, Any] = {"hdus": []}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            file = torchfits.open(path)
        except Exception:
            found["open"] = outcome(lambda: torchfits.open(path))
        else:
            with file:
                found["len"] = outcome(lambda: len(file))
                found["list"] = outcome(lambda: [hdu.index for hdu in file])
                found["info"] = outcome(file.info)
                found["hdus"] = [hdu_report(path, file, i) for i in range(HDUS)]
                found["again"] = [hdu_report(path, file, i) for i in range(HDUS)] == found["hdus"]
    found["warnings"] = [(each.category.__name__, str(each.message)) for each in caught]
    return found


def hdu_report(path: str, file: Any, index: int) -> dict[str, Any]:
    import torchfits

    found = {
        "find": outcome(lambda: file[index].index),
        "header": outcome(lambda: len(file[index].read_header().cards)),
        "function": outcome(lambda: torchfits.read_header(path, index).get("BITPIX")),
    }
    if "error" in found["find"]:
        return found
    hdu = file[index]
    found["repr"] = outcome(lambda: repr(hdu))
    if isinstance(hdu, torchfits.ImageHDU):
        found["shape"] = outcome(lambda: list(hdu.shape))
        found["read"] = outcome(hdu.read)
        found["alone"] = outcome(lambda: torchfits.read(path, index, cache=False))
        found["raw"] = outcome(lambda: hdu.read(raw=True))
        found["part"] = outcome(lambda: hdu.read((slice(0, 1), ...)))
    if isinstance(hdu, torchfits.TableHDU):
        found["read"] = outcome(hdu.read_table)
        names = outcome(lambda: [column.name for column in hdu.columns])
        found["columns"] = {
            name: outcome(lambda name=name: hdu.read_table([name])[name])  # type: ignore[misc]
            for name in names.get("value", [])[:20]
        }
        found["part"] = outcome(lambda: hdu.read_table(rows=slice(0, 1)))
    return found


# ---------------------------------------------------------------- the fork server


def resident(name: str) -> int:
    """Bytes of 'VmRSS', 'VmHWM' or 'VmData' of this process."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(name + ":"))


def child(path: str, answer: int, noise: int) -> None:
    import torchfits

    os.dup2(noise, 1)
    os.dup2(noise, 2)
    # under AddressSanitizer the limit would hit its own shadow memory
    if "asan" not in os.environ.get("LD_PRELOAD", ""):
        limit = resident("VmData") + MEMORY_BYTES
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    before, memory, start = len(os.listdir("/proc/self/fd")), resident("VmRSS"), time.process_time()
    found = report(path)
    found["seconds"] = time.process_time() - start
    found["memory"] = resident("VmHWM") - memory
    torchfits.cache_clear()
    found["descriptors"] = len(os.listdir("/proc/self/fd")) - before
    with os.fdopen(answer, "w") as pipe:
        json.dump(found, pipe)


def ask(path: str) -> dict[str, Any]:
    """Probe `path` in a forked child."""
    reader, writer = os.pipe()
    noise = os.memfd_create("noise")
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reader)
            child(path, writer, noise)
        finally:
            os._exit(1)
    os.close(writer)
    pieces, deadline = [], time.monotonic() + WALL_SECONDS
    while select.select([reader], [], [], max(deadline - time.monotonic(), 0))[0]:
        piece = os.read(reader, 1 << 16)
        if not piece:
            break
        pieces.append(piece)
    else:
        os.kill(pid, signal.SIGKILL)
    os.close(reader)
    status = os.waitpid(pid, 0)[1]
    os.lseek(noise, 0, os.SEEK_SET)
    said = os.read(noise, 1 << 16).decode("utf-8", "replace")
    os.close(noise)
    try:
        return {**json.loads(b"".join(pieces)), "noise": said}
    except ValueError:
        signalled = os.WIFSIGNALED(status)
        why = f"signal {signal.Signals(os.WTERMSIG(status)).name}" if signalled else f"status {status}"
        return {"died": f"{why} {said}"}


def serve() -> None:
    import torch

    import torchfits

    torchfits.versions()
    # loads what torch loads at the first use of jagged tensors
    plain(torch.nested.nested_tensor_from_jagged(torch.zeros(2), torch.tensor([0, 1, 2])))
    for line in sys.stdin:
        print(json.dumps(ask(json.loads(line))), flush=True)


if __name__ == "__main__":
    serve()
