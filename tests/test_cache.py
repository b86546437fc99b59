"""The cache of open files: bounded, aware of replaced files, emptied in children, safe in threads."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from astropy.io import fits

import torchfits


@pytest.fixture(autouse=True)
def clean():
    limit = torchfits.cache_info().maxsize
    torchfits.cache_clear()
    yield
    torchfits.cache_limit(limit)
    torchfits.cache_clear()


def make(path, value):
    fits.PrimaryHDU(np.full(4, value, dtype="i2")).writeto(path, overwrite=True)
    return path


def value_of(path, **options):
    with torchfits.open(path, **options) as f:
        return int(f[0].read()[0])


def open_descriptors():
    return len(os.listdir("/dev/fd"))


def test_hits_and_misses(tmp_path):
    path = make(tmp_path / "a.fits", 1)
    assert [value_of(path) for _ in range(3)] == [1, 1, 1]
    info = torchfits.cache_info()
    assert (info.hits, info.misses, info.currsize) == (2, 1, 1)
    assert value_of(path, cache=False) == 1
    assert torchfits.cache_info() == info
    torchfits.cache_clear()
    info = torchfits.cache_info()
    assert (info.hits, info.misses, info.currsize) == (0, 0, 0)


def test_read_keeps_the_file_or_not(tmp_path):
    """What `read` has a shorter way for, and what it has not, and what it cannot read."""
    path = make(tmp_path / "a.fits", 1)
    packed = tmp_path / "b.fits"
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(np.full((9, 9), 1, "i2"))]).writeto(packed)
    cut = tmp_path / "cut.fits"
    cut.write_bytes(path.read_bytes()[:2881])
    before = open_descriptors()
    for name, options in ((path, {}), (path, {"dtype": torch.float32}), (packed, {}), (packed, {"hdu": 1})):
        assert int(torchfits.read(name, cache=False, **options).flatten()[0]) == 1
    for bad in ({"hdu": 3}, {"hdu": -3}, {"hdu": "NONE"}):
        with pytest.raises(torchfits.HduMissing) as caught:
            torchfits.read(path, cache=False, **bad)
        assert (caught.value.path, caught.value.hdu) == (str(path), bad["hdu"])
    for engine in ("auto", "direct", "cfitsio"):
        with pytest.raises(torchfits.FitsFormatError, match="cut short") as caught:
            torchfits.read(cut, cache=False, engine=engine)
        assert (caught.value.path, caught.value.hdu) == (str(cut), 0)
    with pytest.raises(torchfits.FitsUnsupported, match="engine"):
        torchfits.read(path, cache=False, engine="fast")
    assert torchfits.cache_info().currsize == 0
    assert open_descriptors() == before
    assert [int(torchfits.read(path)[0]) for _ in range(3)] == [1, 1, 1]
    info = torchfits.cache_info()
    assert (info.hits, info.misses, info.currsize) == (2, 1, 1)


def test_the_layout_is_kept_with_the_file(tmp_path):
    path = make(tmp_path / "a.fits", 1)
    with torchfits.open(path) as f, torchfits.open(path) as g:
        assert f._file is g._file
        assert f[0]._hdu is g[0]._hdu
    with torchfits.open(path) as h:
        assert h._file is f._file


def test_the_number_of_files_is_bounded(tmp_path):
    torchfits.cache_limit(5)
    before = open_descriptors()
    paths = [make(tmp_path / f"{i}.fits", i) for i in range(20)]
    for i, path in enumerate(paths):
        assert value_of(path) == i
        assert torchfits.cache_info().currsize <= 5
    assert open_descriptors() - before <= 10
    value_of(paths[15])  # the least recently used goes first
    value_of(paths[0])
    hits = torchfits.cache_info().hits
    value_of(paths[15])
    assert torchfits.cache_info().hits == hits + 1
    torchfits.cache_limit(0)
    assert open_descriptors() == before
    assert value_of(paths[3]) == 3
    assert torchfits.cache_info().currsize == 0
    for bad in (-1, 1.5, True):
        with pytest.raises(ValueError, match="cache_limit"):
            torchfits.cache_limit(bad)


def test_the_default_is_well_below_the_descriptor_limit():
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert torchfits.cache_info().maxsize * 2 <= soft // 4
    script = "import torchfits; print(torchfits.cache_info().maxsize)"
    low = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (160, 160)); {script}",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(low.stdout) == 20


def test_a_file_that_is_used_outlives_its_eviction(tmp_path):
    torchfits.cache_limit(1)
    a, b = make(tmp_path / "a.fits", 1), make(tmp_path / "b.fits", 2)
    with torchfits.open(a) as f:
        assert value_of(b) == 2
        torchfits.cache_clear()
        assert f[0].read()[0] == 1


def test_a_replaced_file_is_noticed(tmp_path):
    path = make(tmp_path / "a.fits", 1)
    assert value_of(path) == 1
    make(tmp_path / "new.fits", 2)
    os.replace(tmp_path / "new.fits", path)
    assert value_of(path) == 2
    make(path, 3)
    assert value_of(path) == 3
    assert torchfits.cache_info().currsize == 1


def test_a_file_rewritten_in_place_with_the_same_size_is_noticed(tmp_path):
    path = make(tmp_path / "a.fits", 1)
    assert value_of(path) == 1
    before = os.stat(path)
    with open(path, "r+b") as file:
        file.seek(2880)
        file.write(np.full(4, 7, dtype=">i2").tobytes())
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert value_of(path) == 7


def test_a_file_replaced_before_its_first_read_is_never_read_by_the_old_layout(tmp_path):
    path = make(tmp_path / "a.fits", 1)
    with torchfits.open(path) as f:
        assert f[0].shape == (4,)
        make(tmp_path / "new.fits", 2)
        os.replace(tmp_path / "new.fits", path)
        with pytest.raises(torchfits.FitsIOError, match="removed or replaced") as caught:
            f[0].read()
        assert caught.value.path == str(path)
    assert value_of(path) == 2


def test_a_file_that_gave_way_to_its_gzip_is_not_read_by_the_old_layout(tmp_path):
    """cfitsio opens NAME.gz where NAME is gone."""
    path = make(tmp_path / "a.fits", 1)
    with torchfits.open(path) as f:
        assert f[0].shape == (4,)
        make(tmp_path / "a.fits.gz", 2)
        os.remove(path)
        for _ in range(3):
            with pytest.raises(torchfits.FitsIOError):
                f[0].read()


def test_a_forked_child_begins_with_an_empty_cache(tmp_path):
    path = make(tmp_path / "a.fits", 1)
    with torchfits.open(path) as f:
        f[0].read()
        assert torchfits.cache_info().currsize == 1
        pid = os.fork()
        if pid == 0:
            good = torchfits.cache_info().currsize == 0 and value_of(path) == 1 and f[0].read()[0] == 1
            os._exit(0 if good else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert torchfits.cache_info().currsize == 1


def test_many_threads(tmp_path):
    torchfits.cache_limit(3)
    paths = [make(tmp_path / f"{i}.fits", i) for i in range(8)]
    wrong = []

    def work(seed):
        rng = np.random.default_rng(seed)
        for i in rng.integers(0, 8, 200):
            if value_of(paths[i]) != i:
                wrong.append(i)
            if i == 0:
                torchfits.cache_clear()

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert torchfits.cache_info().currsize <= 3


def test_compressed_files_are_not_kept(tmp_path):
    path = make(tmp_path / "a.fits.gz", 5)
    assert value_of(path) == 5
    assert torchfits.cache_info().currsize == 0
