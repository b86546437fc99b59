"""File names are only file names, only regular files are opened, and what changes on disk is noticed."""

from __future__ import annotations

import errno
import json
import os
import pathlib
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from malformed import BLOCK, VALUES, header, image, image_cards, pad, table

import torchfits

TABLE = {"A": [1, 2, 3], "B": [10, 20, 30]}

# each means something to cfitsio's fits_open_file, to a shell or to fsspec
NAMES = (
    "!x.fits",
    "x.fits[1]",
    "x[1].fits",
    "x.fits[1:2,1:2]",
    "x.fits+1",
    "x.fits[events][#row<3]",
    "|id.fits",
    "id.fits|",
    "a.fits(b.fits)",
    "t.fits(copy.fits)",
    "-",
    "-.fits",
    "stdin",
    "~x.fits",
    "~root",
    "$HOME.fits",
    "%s%n.fits",
    "*.fits",
    "x.fits;ls",
    "`id`.fits",
    "@list.fits",
    "#x.fits",
    "x.fits.gz",
    "x.fits.Z",
    " leading.fits",
    "trailing.fits ",
    " ",
    "two words.fits",
    "new\nline.fits",
    "tab\t.fits",
    "quote'\".fits",
    "back\\slash.fits",
    "gro\u00dfe \u661f\U0001f30c.fits",
    "undecodable\udcff\udcfe.fits",
    "no suffix",
    "n" * 255,
)
# names that look like a place elsewhere, as folders and a file
PLACES = (
    "mem://x.fits",
    "shmem://h1",
    "file://x.fits",
    "root://host/x.fits",
    "http://host/x.fits",
    "s3://b/x.fits",
)


def write(path: str | bytes | os.PathLike) -> None:
    with open(path, "wb") as file:
        file.write(image() + table())


def attempt(read: Callable[[], torch.Tensor]) -> tuple[Any, Exception | None]:
    """The values that `read` gives, or the error."""
    try:
        return read().tolist(), None
    except Exception as error:
        return None, error


def check(path: Any) -> None:
    """Both engines' ways into the file: the image, and the table through its columns."""
    for cache in (True, False):
        with torchfits.open(path, cache=cache) as file:
            assert len(file) == 2
            assert file[0].read().tolist() == VALUES
            assert {name: column.tolist() for name, column in file[1].read_table().items()} == TABLE
    assert torchfits.read(path).tolist() == VALUES
    assert torchfits.read_header(path, 1)["TFIELDS"] == 2


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_names_are_literal(name: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / name)
    check(tmp_path / name)
    check(str(tmp_path / name))
    check(os.fsencode(tmp_path / name))
    monkeypatch.chdir(tmp_path)
    check(name)
    assert os.listdir() == [name], "reading wrote a file"


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_names_stand_for_no_other_file(
    name: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the file there that the name would mean to cfitsio, the name itself is still not found."""
    monkeypatch.chdir(tmp_path)
    there = {"x.fits", "a.fits", "t.fits", "id.fits", "x.fits.gz", "list.fits"} - {name}
    for other in there:
        write(other)
    with pytest.raises(FileNotFoundError) as caught:
        torchfits.open(name)
    assert caught.value.path == name
    assert caught.value.errno == errno.ENOENT
    assert set(os.listdir()) == there


@pytest.mark.parametrize("name", PLACES)
def test_places_are_folders(name: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError):
        torchfits.open(name)
    os.makedirs(os.path.dirname(name))
    write(name)
    check(name)


def test_undecodable_bytes(tmp_path: pathlib.Path) -> None:
    name = os.fsencode(tmp_path) + b"/\xff\xfe\xe9.fits"
    write(name)
    check(name)
    check(os.fsdecode(name))
    with torchfits.open(name) as file:
        assert file.path == name
        assert "0" in file.info()
        assert repr(file)
        with pytest.raises(torchfits.HduMissing) as caught:
            file[9]
    assert "HDU 9" in str(caught.value)


def test_pathlike(tmp_path: pathlib.Path) -> None:
    class Somewhere:
        def __fspath__(self) -> str:
            return str(tmp_path / "x.fits")

    write(tmp_path / "x.fits")
    check(Somewhere())


@pytest.mark.parametrize("path", [7, None, 1.5, ["x.fits"]])
def test_what_is_no_path(path: Any) -> None:
    with pytest.raises(TypeError, match="path must be"):
        torchfits.open(path)


@pytest.mark.parametrize("name", ["x\0.fits", b"x\0.fits", "\0"])
def test_nul_in_a_name(name: str | bytes, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write("x")
    with pytest.raises(torchfits.FitsIOError, match="NUL") as caught:
        torchfits.open(name)
    assert caught.value.path == name


def test_name_longer_than_cfitsio_takes(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path
    while len(str(folder)) < 1100:
        folder = folder / ("d" * 200)
    folder.mkdir(parents=True)
    write(folder / "x.fits")
    with torchfits.open(folder / "x.fits") as file:
        assert len(file) == 2
        assert file[1].read_header()["TFIELDS"] == 2
        values, error = attempt(file[0].read)
        if error is None:
            assert values == VALUES
        else:
            assert isinstance(error, torchfits.FitsUnsupported)
            assert "1000 bytes" in str(error)
            assert (error.path, error.hdu) == (str(folder / "x.fits"), 0)
    monkeypatch.chdir(folder)
    torchfits.cache_clear()
    with torchfits.open("x.fits") as file:
        assert len(file) == 2


def test_name_longer_than_the_system_takes(tmp_path: pathlib.Path) -> None:
    for name in (tmp_path / ("n" * 256), tmp_path / ("d/" * 3000) / "x"):
        with pytest.raises(torchfits.FitsIOError) as caught:
            torchfits.open(name)
        assert caught.value.errno == errno.ENAMETOOLONG


# ---------------------------------------------------------------- special files


def check_refused(path: Any, *errnos: int) -> None:
    start = time.monotonic()
    for action in (torchfits.open, torchfits.read, torchfits.read_header):
        with pytest.raises(torchfits.FitsIOError) as caught:
            action(path)
        assert caught.value.errno in errnos
        assert isinstance(caught.value, OSError)
        assert os.fspath(caught.value.path) == os.fspath(path)
        assert os.fspath(path) in str(caught.value)
    assert time.monotonic() - start < 2


def test_directory(tmp_path: pathlib.Path) -> None:
    check_refused(tmp_path, errno.EISDIR)
    check_refused(str(tmp_path) + "/", errno.EISDIR)


def test_fifo_does_not_hang(tmp_path: pathlib.Path) -> None:
    os.mkfifo(tmp_path / "fifo.fits")
    check_refused(tmp_path / "fifo.fits", errno.EINVAL)


def test_fifo_with_a_writer(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "fifo.fits"
    os.mkfifo(path)
    fd = os.open(path, os.O_RDWR)
    try:
        os.write(fd, image()[:4096])
        check_refused(path, errno.EINVAL)
    finally:
        os.close(fd)


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/null", "/dev/random"])
def test_device(device: str) -> None:
    check_refused(device, errno.EINVAL)


def test_socket(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("s.fits")
        check_refused("s.fits", errno.ENXIO, errno.EINVAL)


def test_missing_file(tmp_path: pathlib.Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        torchfits.open(tmp_path / "none.fits")
    assert isinstance(caught.value, torchfits.FitsIOError)
    check_refused(tmp_path / "none.fits", errno.ENOENT)
    check_refused(tmp_path / "no folder" / "x.fits", errno.ENOENT)
    check_refused("", errno.ENOENT)


def test_file_for_a_folder(tmp_path: pathlib.Path) -> None:
    write(tmp_path / "x.fits")
    check_refused(tmp_path / "x.fits" / "y.fits", errno.ENOTDIR)


def test_symlinks(tmp_path: pathlib.Path) -> None:
    write(tmp_path / "x.fits")
    (tmp_path / "link.fits").symlink_to("x.fits")
    check(tmp_path / "link.fits")
    (tmp_path / "loop.fits").symlink_to("loop.fits")
    check_refused(tmp_path / "loop.fits", errno.ELOOP)
    (tmp_path / "dangling.fits").symlink_to("none")
    check_refused(tmp_path / "dangling.fits", errno.ENOENT)


def in_child(code: str, *arguments: str, **options: Any) -> Any:
    """What `code` prints as JSON, run in a fresh interpreter."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        env=environment,
        timeout=60,
        check=True,
        **options,
    )
    return json.loads(done.stdout)


REFUSED = """
import json, os, sys, torchfits
if os.getuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)  # nobody; root may read everything
try:
    torchfits.open(sys.argv[1])
except torchfits.FitsIOError as error:
    print(json.dumps([error.errno, str(error.path), str(error)]))
"""


def test_permission_denied(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "x.fits"
    write(path)
    path.chmod(0)
    number, where, text = in_child(REFUSED, str(path))
    assert number == errno.EACCES
    assert where == str(path)
    assert "ermission" in text


def exhausted(action: Callable[[], Any]) -> Exception | None:
    """What `action` raises when the process may open no more files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
        while True:
            try:
                taken.append(os.open("/dev/null", os.O_RDONLY))
            except OSError:
                break
        try:
            action()
        except Exception as error:
            return error
        return None
    finally:
        for fd in taken:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_no_descriptor_left_to_open(tmp_path: pathlib.Path) -> None:
    write(tmp_path / "x.fits")
    error = exhausted(lambda: torchfits.open(tmp_path / "x.fits"))
    assert isinstance(error, torchfits.FitsIOError)
    assert error.errno == errno.EMFILE
    assert error.path == tmp_path / "x.fits" or error.path == str(tmp_path / "x.fits")
    check(tmp_path / "x.fits")


def test_no_descriptor_left_to_read(tmp_path: pathlib.Path) -> None:
    """The engine wants a descriptor of its own at the first read."""
    write(tmp_path / "x.fits")
    with torchfits.open(tmp_path / "x.fits") as file:
        assert len(file) == 2
        error = exhausted(file[0].read)
        assert error is None or isinstance(error, torchfits.FitsIOError)
        assert error is None or (error.errno == errno.EMFILE and error.hdu == 0)
        assert file[0].read().tolist() == VALUES


# ---------------------------------------------------------------- files that change


def numbers(first: int) -> bytes:
    return b"".join((first + i).to_bytes(2, "big") for i in range(6))


def other_image(first: int) -> bytes:
    return header(image_cards()) + pad(numbers(first))


def other_values(first: int) -> list[list[int]]:
    return [[first, first + 1, first + 2], [first + 3, first + 4, first + 5]]


def check_old(hdu: torchfits.HDU, expected: list) -> None:
    """What was opened gives the old values, or says that it cannot any more."""
    values, error = attempt(hdu.read)  # type: ignore[attr-defined]
    if error is None:
        assert values == expected
    else:
        assert isinstance(error, torchfits.FitsIOError)
        assert "changed" in str(error) or "removed or replaced" in str(error)
        assert error.hdu == hdu.index


def replace(path: pathlib.Path, data: bytes) -> None:
    new = path.with_name("new")
    new.write_bytes(data)
    os.replace(new, path)


@pytest.mark.parametrize("cache", [True, False])
def test_replaced_between_opens(cache: bool, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "x.fits"
    for first in (0, 100, 200):
        replace(path, other_image(first))
        with torchfits.open(path, cache=cache) as file:
            assert file[0].read().tolist() == other_values(first)
        assert torchfits.read(path).tolist() == other_values(first)


def test_rewritten_in_place_between_opens(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "x.fits"
    path.write_bytes(other_image(0))
    assert torchfits.read(path).tolist() == other_values(0)
    path.write_bytes(other_image(100))
    os.utime(path, ns=(0, 12345))
    assert torchfits.read(path).tolist() == other_values(100)


def test_removed_between_opens(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "x.fits"
    write(path)
    assert torchfits.read(path).tolist() == VALUES
    path.unlink()
    with pytest.raises(FileNotFoundError):
        torchfits.open(path)


def test_replaced_while_in_use(tmp_path: pathlib.Path) -> None:
    """An open HDUList gives the old file's values or an error, never the new file's by the old layout."""
    path = tmp_path / "x.fits"
    path.write_bytes(other_image(0))
    with torchfits.open(path) as old:
        assert old[0].shape == (2, 3)
        replace(path, other_image(100))
        check_old(old[0], other_values(0))
        with torchfits.open(path) as new:
            assert new[0].read().tolist() == other_values(100)


def test_replaced_after_a_read(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "x.fits"
    path.write_bytes(other_image(0))
    with torchfits.open(path) as old:
        assert old[0].read().tolist() == other_values(0)
        replace(path, other_image(100))
        with pytest.raises(torchfits.FitsIOError, match="removed or replaced"):
            old[0].read()


@pytest.mark.parametrize("read_before", [False, True])
def test_truncated_after_open(read_before: bool, tmp_path: pathlib.Path) -> None:
    """Data that are gone are an error, also where an engine had the first blocks in a buffer."""
    path = tmp_path / "x.fits"
    pixels = 500_000
    path.write_bytes(header(image_cards(lengths=(pixels,))) + pad(b"\0\7" * pixels))
    with torchfits.open(path) as file:
        assert len(file) == 1
        if read_before:
            assert int(file[0].read().sum()) == 7 * pixels
        os.truncate(path, 2 * BLOCK)
        with pytest.raises((torchfits.FitsFormatError, torchfits.FitsIOError)) as caught:
            file[0].read()
        assert caught.value.hdu == 0
        assert str(path) in str(caught.value)
    with torchfits.open(path) as file, pytest.raises(torchfits.FitsFormatError, match="cut short"):
        file[0].read()


def test_truncated_table_after_open(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "x.fits"
    rows = 100_000
    path.write_bytes(image() + table(rows=b"\0\0\0\1\0\2" * rows, nrows=rows))
    with torchfits.open(path) as file:
        assert file[1].nrows == rows
        assert file[1].read_table(rows=slice(0, 2))["A"].tolist() == [1, 1]
        os.truncate(path, 4 * BLOCK)
        with pytest.raises((torchfits.FitsFormatError, torchfits.FitsIOError)) as caught:
            file[1].read_table()
        assert caught.value.hdu == 1


def test_grown_after_open(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "x.fits"
    path.write_bytes(image())
    with torchfits.open(path) as file:
        assert len(file) == 1
        with path.open("ab") as more:
            more.write(image(1))
        check_old(file[0], VALUES)
    with torchfits.open(path) as file:
        assert len(file) == 2
        assert file[1].read().tolist() == VALUES


def test_replaced_over_and_over_by_another_thread(tmp_path: pathlib.Path) -> None:
    """Every read is all of one file: pixels of two files never mix."""
    path = tmp_path / "x.fits"
    path.write_bytes(other_image(0))
    stop = threading.Event()

    def writer() -> None:
        first = 0
        while not stop.is_set():
            first = (first + 100) % 10000
            replace(path, other_image(first))

    thread = threading.Thread(target=writer)
    thread.start()
    try:
        end = time.monotonic() + 1
        while time.monotonic() < end:
            got, error = attempt(lambda: torchfits.read(path))
            if error is None:
                assert got == other_values(got[0][0])
                assert got[0][0] % 100 == 0
            else:
                assert isinstance(error, torchfits.FitsIOError)
                assert "changed" in str(error) or "removed or replaced" in str(error)
    finally:
        stop.set()
        thread.join()
