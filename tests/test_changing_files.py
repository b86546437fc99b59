"""Files that shrink, grow, change or vanish while they are read: right pixels or a typed error, no death."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
from contextlib import suppress

import numpy as np
import pytest
import torch
from images import EMPTY, SANITIZED, assert_same, counting, image, in_fork, mapped, run_child, run_fork

import torchfits
from torchfits import FitsError, FitsFileNotFound, FitsFormatError, FitsIOError

pytestmark = pytest.mark.native

SHAPE = (200, 5000)  # 4 MB; wide enough for a mapping
SIZE = 2880 + 200 * 5000 * 4

# (engine, mmap, whether all was read before the change)
WAYS = [("direct", True, True), ("direct", True, False), ("direct", False, True), ("cfitsio", True, False)]


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "a.fits"
    path.write_bytes(image(counting(SHAPE)))
    return path


def reads(hdu) -> dict:
    """Ways to read pixels of the last rows, and of all."""
    out = torch.empty(SHAPE, dtype=torch.float64)
    corners = [(150, 100), (197, 4990)]
    return {
        "whole": hdu.read,
        "converted": lambda: hdu.read(out=out),
        "rows": lambda: hdu.read((slice(150, None),)),
        "section": lambda: hdu.read((slice(150, None), slice(100, 200))),
        "steps": lambda: hdu.read((slice(150, None, 3), slice(0, None, 7))),
        "column": lambda: hdu[..., -1],
        "cutouts": lambda: hdu.cutouts(corners, 3),
        "many": lambda: hdu.cutouts(corners * 200, (50, 10), fill=0),
    }


def changes(path) -> dict:
    """What may happen to an open file; each must be noticed."""

    def append():
        with path.open("ab") as file:
            file.write(b"\0" * 2880)

    def append_in_no_time():
        info = path.stat()
        append()
        os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))

    def rewrite():
        info = path.stat()
        with path.open("r+b") as file:
            file.seek(2880 + 199 * 5000 * 4)
            file.write(b"\x41" * 20000)
        os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns + 1_000_000))

    def replace():
        other = path.with_suffix(".new")
        other.write_bytes(image(counting(SHAPE) + 1))
        os.replace(other, path)

    return {
        "cut at a page": lambda: os.truncate(path, 4096 * 700),
        "cut within a page": lambda: os.truncate(path, 4096 * 700 + 123),
        "cut at the last row": lambda: os.truncate(path, SIZE - 4),
        "emptied": lambda: os.truncate(path, 0),
        "grown": append,
        "grown at the same time": append_in_no_time,
        "grown by a hole": lambda: os.truncate(path, 1 << 24),
        "rewritten": rewrite,
        "removed": path.unlink,
        "replaced": replace,
    }


CHANGES = [
    "cut at a page", "cut within a page", "cut at the last row", "emptied", "grown", "grown at the same time",
    "grown by a hole", "rewritten", "removed", "replaced",
]  # fmt: skip


@pytest.mark.parametrize(("engine", "mmap", "warm"), WAYS)
@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_noticed_by_every_way_to_read(path, change, engine, mmap, warm):
    """Also when it is the mapping that loses its pages; `warm` has read all of them before."""
    expected = torch.from_numpy(counting(SHAPE))

    def check():
        with torchfits.open(path, engine=engine, mmap=mmap) as f:
            hdu = f[0]
            assert hdu.shape == SHAPE
            if warm:
                assert_same(hdu.read((..., slice(5))), expected[..., :5], exact=True)
                for read in reads(hdu).values():
                    read()
                assert mapped(path) == (engine == "direct" and mmap)
            changes(path)[change]()
            for name, read in reads(hdu).items():
                with pytest.raises(FitsIOError) as caught:
                    read()
                assert (caught.value.path, caught.value.hdu) == (str(path), 0), name

    in_fork(check)


@pytest.mark.parametrize("size", [0, 4096 * 20, 4096 * 20 + 123, 2880 + 400 * 500 * 4 - 1])
@pytest.mark.parametrize("times", [0, 1, 2, 3])
def test_a_small_image_is_cut_before_it_is_read_again(tmp_path, size, times):
    """From the second time on it would come from a mapping, if all its pages were there still."""
    path, pixels = tmp_path / "small.fits", counting((400, 500))
    path.write_bytes(image(pixels))

    def check():
        with torchfits.open(path) as f:
            for _ in range(times):
                assert_same(f[0].read(), torch.from_numpy(pixels), exact=True)
            assert mapped(path) == (times > 1)
            os.truncate(path, size)
            for _ in range(2):
                with pytest.raises(FitsIOError) as caught:
                    f[0].read()
                assert (caught.value.path, caught.value.hdu) == (str(path), 0)

    in_fork(check)


@pytest.mark.parametrize("change", ["replaced", "rewritten", "removed", "emptied"])
@pytest.mark.parametrize("cache", [True, False])
def test_who_opens_again_gets_what_is_there(path, change, cache):
    with torchfits.open(path, cache=cache) as f:
        f[0].read((..., slice(5)))
        changes(path)[change]()
        with pytest.raises(FitsIOError):
            f[0].read()
        if change in ("removed", "emptied"):
            with pytest.raises(FitsFileNotFound if change == "removed" else FitsFormatError) as caught:
                torchfits.open(str(path), cache=cache)
            assert caught.value.path == str(path)
            return
        expected = torch.from_numpy(counting(SHAPE))
        if change == "replaced":
            expected = expected + 1
        else:
            expected[199] = torch.tensor(np.frombuffer(b"\x41" * 4, dtype=">f4").astype("f4"))
        with torchfits.open(path, cache=cache) as g:
            assert_same(g[0].read(), expected)


def test_what_is_no_change(path, tmp_path):
    """Reading it, another name for it, other rights: the bytes are the same."""
    expected = torch.from_numpy(counting(SHAPE))
    os.link(path, tmp_path / "other name")
    with torchfits.open(path) as f:
        path.read_bytes()
        path.chmod(0o400)
        assert_same(f[0].read(), expected)
        path.unlink()
        assert_same(f[0].read(), expected)
        assert_same(f[0].cutouts([(3, 4)], 5)[0], expected[3:8, 4:9])
        (tmp_path / "other name").unlink()
        with pytest.raises(FitsIOError):
            f[0].read()


def test_a_change_before_the_first_look_at_an_hdu(tmp_path):
    """The second HDU is looked for only after the file lost it."""
    path = tmp_path / "a.fits"
    path.write_bytes(EMPTY + image(counting(SHAPE), False) + image(counting((5,)), False))
    for size in (2880, 2880 + 100, 2880 * 2, SIZE + 2880 - 4, SIZE + 2880 * 2):
        path.write_bytes(EMPTY + image(counting(SHAPE), False) + image(counting((5,)), False))
        with torchfits.open(path, cache=False) as f:
            assert f[0].shape == (0,)
            os.truncate(path, size)
            with pytest.raises(FitsError):
                f[1].read()
            with pytest.raises(FitsError):
                f[2].read()


def test_a_packed_file_that_is_cut(tmp_path):
    """What was inflated before is in memory; the rest is an error."""
    path = tmp_path / "a.fits.gz"
    array = np.random.default_rng(1).integers(0, 2**31, (500, 1000), dtype="i4")
    path.write_bytes(gzip.compress(image(array) + image(array + 1, False), 1))
    with torchfits.open(path) as f:
        assert f[0].shape == (500, 1000)
        os.truncate(path, 1000)
        for index in (0, 1):
            with suppress(FitsError):
                assert_same(f[index].read(), torch.from_numpy(array + index))


@pytest.mark.parametrize("change", ["cut at a page", "emptied", "replaced", "removed", "rewritten"])
def test_batches_open_anew(path, tmp_path, change):
    other = tmp_path / "other.fits"
    other.write_bytes(image(counting(SHAPE)))
    paths = [other, path]
    assert torchfits.read_batch(paths).shape == (2, *SHAPE)
    changes(path)[change]()
    section = (slice(150, None),)
    if change in ("replaced", "rewritten"):
        found = torchfits.read_batch(paths, section=section)
        assert found[1, -1, -1] != found[0, -1, -1]
    else:
        with pytest.raises(FitsError) as caught:
            torchfits.read_batch(paths, section=section)
        assert caught.value.path == str(path)


# ---------------------------------------------------------------------------- a race

# cuts the file and puts back what was there, again and again; longer whole than a clock tick between
CUTTER = """
import os, random, sys, time
path, random_ = sys.argv[1], random.Random(4)
with open(path, "rb") as file:
    data = file.read()
print("begins", flush=True)
while True:
    size = random_.choice([0, 100, 2880, 4096 * 50, 4096 * 300 + 77, len(data) - 5000, len(data) - 1])
    os.truncate(path, size)
    time.sleep(random_.random() * 0.003)
    with open(path, "r+b", buffering=0) as file:
        file.seek(size)
        file.write(data[size:])
    time.sleep(0.015 + random_.random() * 0.02)
"""

READER = """
import random, sys, time, torch, torchfits
from torchfits import FitsError, FitsIOError, FitsFormatError
path, engine, mmap, threads = sys.argv[1], sys.argv[2], sys.argv[3] == "True", int(sys.argv[4])
torch.set_num_threads(threads)
rows, columns = 200, int(sys.argv[5])
expected = (torch.arange(rows * columns) % 2**24).to(torch.float32).reshape(rows, columns)
torchfits.versions()
random_, right, errors, until = random.Random(5), 0, 0, time.monotonic() + 20
out = torch.empty(rows, columns)
while min(right, errors) < 30 and time.monotonic() < until:
    try:
        with torchfits.open(path, cache=False, engine=engine, mmap=mmap) as f:
            for _ in range(40):
                row, column = random_.randrange(rows - 60), random_.randrange(columns - 60)
                windows = f[0].cutouts([(row, column), (rows - 60, column)], 60)
                assert torch.equal(windows[0], expected[row : row + 60, column : column + 60])
                assert torch.equal(windows[1], expected[-60:, column : column + 60])
                assert torch.equal(f[0][:, column : column + 9], expected[:, column : column + 9])
                right += 1
                out.fill_(-1)
                assert torch.equal(f[0].read(out=out), expected)
                assert torch.equal(f[0].read(dtype=torch.float64), expected.to(torch.float64))
                right += 1
            stack = torchfits.read_batch([path] * 20, section=(slice(150, None), 7))
            assert torch.equal(stack[-1], expected[150:, 7])
    except FitsIOError:
        errors += 1
    except FitsFormatError as error:  # opened while it was short
        assert any(each in str(error) for each in ("cut short", "empty", "END", "SIMPLE", "ends")), error
        errors += 1
print(right, errors)
"""


@pytest.mark.parametrize(
    ("engine", "mmap", "threads", "columns"),
    [
        ("direct", True, 1, 5000),
        ("direct", True, 2, 5000),
        ("direct", True, 1, 2000),  # all of which comes from a mapping, too
        ("direct", False, 2, 5000),
        ("cfitsio", True, 1, 5000),
    ],
)
def test_a_race_with_one_who_cuts_the_file(path, engine, mmap, threads, columns):
    path.write_bytes(image(counting((200, columns))))
    with subprocess.Popen([sys.executable, "-c", CUTTER, path], stdout=subprocess.PIPE) as cutter:
        try:
            assert cutter.stdout.readline() == b"begins\n"
            found = run_child(READER, path, engine, mmap, threads, columns)
        finally:
            cutter.kill()
    right, errors = map(int, found.split())
    assert right > 0
    assert errors > 0


REPLACER = """
import os, sys, time
path, k = sys.argv[1], 0
print("begins", flush=True)
with open(path, "rb") as file:
    head = file.read(2880)
while True:
    k += 1
    with open(path + ".new", "wb") as file:
        file.write(head + bytes([k % 100]) * (200 * 5000 * 4 + 320))
    if k % 7 == 0:
        os.unlink(path)
    os.replace(path + ".new", path)
    time.sleep(0.002 * (k % 5))
"""


def test_a_race_with_one_who_replaces_the_file(path):
    """Every read is of one version, the header of the same one."""
    with subprocess.Popen([sys.executable, "-c", REPLACER, path], stdout=subprocess.PIPE) as replacer:
        try:
            assert replacer.stdout.readline() == b"begins\n"
            found = run_child(
                """
                import sys, time, torch, torchfits
                from torchfits import FitsIOError
                path, right, errors = sys.argv[1], 0, 0
                with torchfits.open(path) as f:  # the version before the first
                    pass
                until = time.monotonic() + 10
                while right < 25 and time.monotonic() < until:
                    try:
                        with torchfits.open(path, cache=right % 2 == 0) as f:
                            whole = f[0].read(raw=True).view(torch.int32)
                            windows = f[0].cutouts([(0, 0), (190, 4990)], 10).view(torch.int32)
                        stack = torchfits.read_batch([path] * 3, section=(slice(0, None, 50),))
                    except FitsIOError:
                        errors += 1
                        continue
                    for tensor in (whole, *stack.view(torch.int32)):
                        assert (tensor == tensor.reshape(-1)[0]).all() or tensor[0, 1] == 0x3F800000, tensor
                    assert (windows == whole[0, 0]).all() or whole[0, 1] == 0x3F800000
                    right += 1
                print(right, errors)
                """,
                path,
            )
        finally:
            replacer.kill()
    assert int(found.split()[0]) > 0


# ---------------------------------------------------------------------------- SIGBUS that is none of ours

BEGIN = """
import faulthandler, json, mmap, os, resource, signal, sys, torch, torchfits
from torchfits import FitsIOError
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
path = sys.argv[1]
def mapped_read():
    with torchfits.open(path, cache=False) as f:
        assert f[0][:, 7].tolist() == [5000 * i + 7 for i in range(200)]
        assert any(line.rstrip().endswith(path) for line in open("/proc/self/maps"))
def cut_read():
    "A SIGBUS of ours: the typed error, whoever handles the signal otherwise."
    copy = path + ".copy"
    with open(path, "rb") as a, open(copy, "wb") as b:
        b.write(a.read())
    with torchfits.open(copy, cache=False) as f:
        f[0][:, 7]
        os.truncate(copy, 4096)
        try:
            f[0][:, 7]
        except FitsIOError:
            return
    raise AssertionError("no error")
def fault():
    "A SIGBUS of somebody else's mapping."
    with open(path + ".foreign", "w+b") as file:
        file.write(bytes(1 << 16))
        file.flush()
        memory = mmap.mmap(file.fileno(), 1 << 16)
        os.truncate(path + ".foreign", 0)
        memory[40000]
def sent():
    os.kill(os.getpid(), signal.SIGBUS)
def enable():
    faulthandler.enable(file=2)
"""

# how a foreign SIGBUS ends a process whose handlers were made in these ways
ENDS = """
def default():
    mapped_read(), cut_read()
def dumped():
    enable(), mapped_read(), cut_read()
def ignored():
    signal.signal(signal.SIGBUS, signal.SIG_IGN), mapped_read(), cut_read()
def dumped_later():
    mapped_read(), cut_read(), enable(), mapped_read(), cut_read()
def dumped_last():
    mapped_read(), cut_read(), enable()
def dumped_twice():
    enable(), mapped_read(), faulthandler.disable(), enable(), mapped_read(), cut_read()
ends = {}
for cause in (fault, sent):
    for begin in (default, dumped, ignored, dumped_later, dumped_last, dumped_twice):
        said = os.memfd_create("said")
        pid = os.fork()
        if pid == 0:
            try:
                os.dup2(said, 2)
                signal.alarm(20)
                begin()
                os.write(2, b"begun ")
                cause()
                os.write(2, b"alive ")
                os._exit(0)
            finally:
                os._exit(3)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        os.lseek(said, 0, os.SEEK_SET)
        ends[cause.__name__ + " " + begin.__name__] = status, os.read(said, 1 << 20).decode()
print(json.dumps(ends))
"""


@pytest.fixture(scope="module")
def ends(tmp_path_factory):
    path = tmp_path_factory.mktemp("ends") / "a.fits"
    path.write_bytes(image(counting(SHAPE)))
    return json.loads(run_child(BEGIN + ENDS, path))


@pytest.mark.parametrize(
    "begin", ["default", "dumped", "ignored", "dumped_later", "dumped_last", "dumped_twice"]
)
@pytest.mark.parametrize("cause", ["fault", "sent"])
def test_a_foreign_fault_goes_where_it_went_before(ends, cause, begin):
    """It ends the process, by way of the handler that was there, unless it may be ignored."""
    status, said = ends[f"{cause} {begin}"]
    assert said.startswith("begun "), said
    if (cause, begin) == ("sent", "ignored"):
        assert (status, said) == (0, "begun alive ")
        return
    assert status not in (0, 3) if SANITIZED else status == -signal.SIGBUS, said
    assert "alive" not in said
    assert said.count("Fatal Python error: Bus error") == begin.startswith("dumped")


def test_a_handler_in_python_is_called(path):
    run_fork(
        BEGIN
        + """
calls = []
signal.signal(signal.SIGBUS, lambda number, frame: calls.append(number))
mapped_read()
cut_read()
os.kill(os.getpid(), signal.SIGBUS)
assert calls == [signal.SIGBUS], calls
# one that comes later, too
signal.signal(signal.SIGBUS, lambda number, frame: calls.append("second"))
mapped_read()
cut_read()
os.kill(os.getpid(), signal.SIGBUS)
assert calls == [signal.SIGBUS, "second"], calls
cut_read()
""",
        path,
    )


def test_the_guard_in_many_threads_and_children(path):
    """Faults in several threads at once, in a thread that never read before, and after a fork."""
    run_fork(
        BEGIN
        + """
import threading
torch.set_num_threads(2)
copies = []
for i in range(6):
    copies.append(f"{path}.{i}")
    with open(path, "rb") as a, open(copies[-1], "wb") as b:
        b.write(a.read())
files = [torchfits.open(copy, cache=False) for copy in copies]
corners = [(i, 100 * i % 4900) for i in range(150)]
for f in files:
    f[0].cutouts(corners, 50)
for copy in copies:
    os.truncate(copy, 8192)
errors = []
def work(f):
    for _ in range(20):
        try:
            f[0].cutouts(corners, 50)
        except FitsIOError as error:
            errors.append(error)
threads = [threading.Thread(target=work, args=(f,)) for f in files for _ in range(2)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
assert len(errors) == 240, len(errors)
mapped_read()
pid = os.fork()
if pid == 0:
    try:
        errors.clear()
        work(files[0])
        mapped_read()
        os._exit(0 if len(errors) == 20 else 1)
    finally:
        os._exit(2)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
""",
        path,
    )
