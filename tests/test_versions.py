"""torchfits.versions() tells what is inside."""

from __future__ import annotations

import re

import pytest
import torch

import torchfits


def test_keys_and_types():
    versions = torchfits.versions()
    kinds = {key: type(value) for key, value in versions.items()}
    assert kinds == {
        "torchfits": str,
        "cfitsio": str,
        "cfitsio_reentrant": bool,
        "wcslib": str,
        "zlib": str,
        "libdeflate": str,
        "cython": str,
        "torch": str,
        "sources": dict,
    }


@pytest.mark.native
def test_the_libraries_are_the_pinned_ones_and_reentrant():
    versions = torchfits.versions()
    assert versions["cfitsio"] == "4.2.0"
    assert versions["wcslib"] == "7.12"
    assert versions["zlib"] == "1.2.13"
    assert versions["libdeflate"] == "1.14"
    assert versions["cfitsio_reentrant"] is True


def test_torch_and_cython():
    versions = torchfits.versions()
    assert versions["torch"] == torch.__version__
    assert tuple(map(int, re.findall(r"\d+", versions["cython"])[:2])) >= (3, 1)


def test_sources_say_where_each_library_came_from():
    sources = torchfits.versions()["sources"]
    assert set(sources) == {"zlib", "libdeflate", "cfitsio", "wcslib"}
    assert all(isinstance(where, str) and where for where in sources.values())


def test_version_is_that_of_the_project(request):
    text = (request.config.rootpath / "pyproject.toml").read_text()
    assert torchfits.versions()["torchfits"] == re.search(r'^version = "(.+)"', text, re.M)[1]
