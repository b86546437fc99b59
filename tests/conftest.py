"""What every test gets: versions in the report's head, no descriptor left open, the corpus."""

from __future__ import annotations

import gc
import os
import re
from pathlib import Path

import pytest

import torchfits
from torchfits import _direct

CORPUS_VARIABLE = "TORCHFITS_CORPUS"
REQUIRE_VARIABLE = "TORCHFITS_REQUIRE_CORPUS"


def pytest_report_header() -> str:
    versions = torchfits.versions()
    keys = ("torchfits", "cfitsio", "cfitsio_reentrant", "wcslib", "zlib", "libdeflate", "cython", "torch")
    return ", ".join(f"{key} {versions[key]}" for key in keys)


def _descriptors() -> dict[str, str]:
    found = {}
    for fd in os.listdir("/dev/fd"):
        try:
            found[fd] = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            continue  # the descriptor that listed the others
    return found


@pytest.fixture(autouse=True)
def no_descriptor_left():
    """Every test must close the files that it opened, the library's own cache included."""
    before = _descriptors()
    yield
    torchfits.cache_clear()
    after = _descriptors()
    if left := {fd: name for fd, name in after.items() if before.get(fd) != name and os.path.isfile(name)}:
        gc.collect()  # what only a reference cycle holds is no leak
        torchfits.cache_clear()
        left = {fd: name for fd, name in _descriptors().items() if fd in left}
        assert not left, f"descriptors left open: {left}"


@pytest.fixture(params=_direct.variants())
def variant(request):
    """Each variant of the kernels that this machine can run, in turn."""
    _direct.use_variant(request.param)
    yield request.param
    _direct.use_variant(_direct.variants()[0])


def corpus_root() -> Path | None:
    """The folder of real files: named by TORCHFITS_CORPUS, or shared/corpus beside the checkout."""
    named = os.environ.get(CORPUS_VARIABLE)
    root = Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "corpus"
    if (root / "manifest.csv").is_file():
        return root
    if os.environ.get(REQUIRE_VARIABLE):
        raise pytest.UsageError(f"the corpus is required ({REQUIRE_VARIABLE}) but {root} does not hold it")
    return None


@pytest.fixture
def run(capfd):
    """Run the command in this process: (status, stdout, stderr)."""

    from torchfits.cli import main

    def call(*args):
        capfd.readouterr()
        status = main([str(arg) for arg in args])
        return status, *capfd.readouterr()

    return call


@pytest.fixture
def fails(run):
    """Run a command that must fail; returns its one line."""

    def call(*args, status=1):
        got, _, err = run(*args)
        assert got == status, err
        assert re.fullmatch("torchfits: error: .+\n", err), err
        return err

    return call
