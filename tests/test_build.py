"""The build: pins decide, nothing is done twice, and nothing of the vendored libraries shows outside."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

import torchfits

ROOT = Path(__file__).resolve().parents[1]
RECIPE = ROOT / "vendor" / "build.py"


@pytest.fixture
def vendor(tmp_path, monkeypatch):
    """The recipe as a module that builds and keeps below `tmp_path` and can fetch from nowhere."""
    spec = importlib.util.spec_from_file_location("vendor_build", RECIPE)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "vendor_build", module)
    spec.loader.exec_module(module)

    def nowhere(source, scratch):
        raise FileNotFoundError("not here")

    monkeypatch.setattr(module, "BUILD", tmp_path / "build")
    monkeypatch.setattr(module, "from_upstream", nowhere)
    monkeypatch.setattr(module, "from_debian", nowhere)
    monkeypatch.setenv("TORCHFITS_DOWNLOADS", str(tmp_path / "downloads"))
    monkeypatch.delenv("TORCHFITS_TOY_TARBALL", raising=False)
    return module


@pytest.fixture
def tarball(tmp_path):
    path = tmp_path / "toy.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name, text in {
            "toy.c": "int toy(void) { return VALUE; }",
            "program.c": "#error left out",
        }.items():
            entry = tarfile.TarInfo(f"toy-1.0/{name}")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    return path


@pytest.fixture
def toy(vendor, tarball):
    """A pinned library of one function."""
    return vendor.Source(
        name="toy",
        version="1.0",
        sha256=hashlib.sha256(tarball.read_bytes()).hexdigest(),
        debian_file="toy_1.0.orig.tar.gz",
        pkg_config="toy-that-no-system-has",
        sources=("*.c",),
        left_out=("program.c",),
        headers=(".",),
        flags=("-DVALUE=7",),
    )


def test_named_tarball_is_taken_and_compiled_hidden(vendor, toy, tarball, monkeypatch):
    monkeypatch.setenv("TORCHFITS_TOY_TARBALL", str(tarball))
    library = vendor.build(toy, [], sanitize=False)
    assert library.where == "the file named by TORCHFITS_TOY_TARBALL"
    (archive,) = library.archives
    symbols = subprocess.run(["readelf", "-Ws", archive], capture_output=True, text=True, check=True).stdout
    assert re.search(r"HIDDEN\s+\d+ toy$", symbols, re.M)


def test_second_build_neither_fetches_nor_compiles(vendor, toy, tarball, monkeypatch):
    monkeypatch.setenv("TORCHFITS_TOY_TARBALL", str(tarball))
    first = vendor.build(toy, [], sanitize=False)
    before = os.stat(first.archives[0])
    monkeypatch.delenv("TORCHFITS_TOY_TARBALL")  # nobody has the source any more
    second = vendor.build(toy, [], sanitize=False)
    after = os.stat(second.archives[0])
    assert second == first
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize("change", ["flags", "version", "sanitize"])
def test_other_flags_are_another_build(vendor, toy, tarball, monkeypatch, change):
    monkeypatch.setenv("TORCHFITS_TOY_TARBALL", str(tarball))
    first = vendor.build(toy, [], sanitize=False)
    changed = {"flags": {"flags": ("-DVALUE=8",)}, "version": {"version": "1.1"}, "sanitize": {}}[change]
    assert vendor.build(replace(toy, **changed), [], sanitize=change == "sanitize").archives != first.archives


@pytest.mark.parametrize("place", ["named", "kept", "upstream", "debian"])
def test_wrong_sha256_stops_with_both_values(vendor, toy, tarball, monkeypatch, tmp_path, place):
    wrong = tmp_path / "wrong.tar.gz"
    wrong.write_bytes(tarball.read_bytes() + b"x")
    found = hashlib.sha256(wrong.read_bytes()).hexdigest()
    # the right one is to be had from the last place, and must not be asked for
    monkeypatch.setattr(vendor, "from_debian", lambda *_: (tarball, "Debian"))
    if place == "named":
        monkeypatch.setenv("TORCHFITS_TOY_TARBALL", str(wrong))
    elif place == "kept":
        (tmp_path / "downloads").mkdir()
        wrong.replace(tmp_path / "downloads" / toy.debian_file)
    else:
        monkeypatch.setattr(vendor, f"from_{place}", lambda *_: (wrong, place))
    with pytest.raises(vendor.BuildError) as caught:
        vendor.build(toy, [], sanitize=False)
    assert toy.sha256 in str(caught.value)
    assert found in str(caught.value)


def test_wrong_named_tarball_stops_even_when_all_is_built(vendor, toy, tarball, monkeypatch):
    monkeypatch.setenv("TORCHFITS_TOY_TARBALL", str(tarball))
    vendor.build(toy, [], sanitize=False)
    tarball.write_bytes(b"changed")
    with pytest.raises(vendor.BuildError, match="wrong sha256"):
        vendor.build(toy, [], sanitize=False)


def test_named_tarball_that_is_missing_stops(vendor, toy, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHFITS_TOY_TARBALL", str(tmp_path / "missing"))
    with pytest.raises(vendor.BuildError, match="TORCHFITS_TOY_TARBALL names"):
        vendor.build(toy, [], sanitize=False)


def test_download_is_kept_and_reused(vendor, toy, tarball, monkeypatch, tmp_path):
    asked = []

    def from_debian(source, scratch):
        asked.append(source.name)
        return tarball, "Debian"

    monkeypatch.setattr(vendor, "from_debian", from_debian)
    assert vendor.build(toy, [], sanitize=False).where == "Debian"
    monkeypatch.setattr(vendor, "BUILD", tmp_path / "another checkout")
    assert vendor.build(toy, [], sanitize=False).where == "Debian"
    assert asked == ["toy"]


def test_upstream_comes_before_debian(vendor, toy, tarball, monkeypatch):
    monkeypatch.setattr(vendor, "from_upstream", lambda *_: (tarball, "upstream"))
    monkeypatch.setattr(vendor, "from_debian", lambda *_: pytest.fail("asked Debian"))
    assert vendor.build(toy, [], sanitize=False).where == "upstream"


def test_system_library_is_the_last_resort_and_said_loudly(vendor, toy, monkeypatch, tmp_path, capsys):
    tool = tmp_path / "pkg-config"
    tool.write_text(
        "#!/bin/sh\ncase $1 in\n"
        "--modversion) echo 9;;\n--cflags-only-I) echo -I/opt/toy;;\n--libs) echo -ltoy;;\nesac\n"
    )
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    library = vendor.build(toy, [], sanitize=False)
    assert library.include_dirs == ("/opt/toy",)
    assert library.link_args == ("-ltoy",)
    assert library.version == "9"
    assert "WARNING: toy 1.0 cannot be fetched; linking the system's 9 instead" in capsys.readouterr().err


def test_nothing_anywhere_says_what_to_do(vendor, toy):
    with pytest.raises(vendor.BuildError, match="TORCHFITS_TOY_TARBALL") as caught:
        vendor.build(toy, [], sanitize=False)
    assert toy.sha256 in str(caught.value)


def test_a_library_that_can_be_done_without_is_missed_loudly(vendor, toy, tarball, monkeypatch, capsys):
    optional = replace(toy, instead="toys are made by hand")
    library = vendor.build(optional, [], sanitize=False)
    assert (library.version, vendor.arguments(library)) == ("none", [])
    assert library.where == "nowhere to be had: toys are made by hand"
    said = capsys.readouterr().err
    assert "WARNING: toy is nowhere to be had: toys are made by hand" in said
    assert "TORCHFITS_TOY_TARBALL" in said
    monkeypatch.setenv("TORCHFITS_TOY_TARBALL", str(tarball))
    assert vendor.build(optional, [], sanitize=False).macros == ("HAVE_TOY",)


def test_sources_of_one_name_do_not_replace_each_other(vendor, toy, tmp_path, monkeypatch):
    path = tmp_path / "two.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for folder in ("one", "other"):
            text = f"int {folder}(void) {{ return 1; }}".encode()
            entry = tarfile.TarInfo(f"toy-1.0/{folder}/toy.c")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text))
    monkeypatch.setenv("TORCHFITS_TOY_TARBALL", str(path))
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    library = vendor.build(replace(toy, sha256=sha256, sources=("*/toy.c",)), [], sanitize=False)
    symbols = subprocess.run(["nm", *library.archives], capture_output=True, text=True, check=True).stdout
    assert re.findall(r"T (\w+)$", symbols, re.M) == ["one", "other"]


def test_debian_entries_become_source_entries(vendor, tmp_path):
    parts = tmp_path / "sources.list.d"
    parts.mkdir()
    (parts / "debian.sources").write_text(
        "# the distribution\nTypes: deb\nURIs: http://mirror.example/debian\nSuites: bookworm\n"
        "Components: main\n"
        "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n\n"
        "Types: deb\nURIs: http://other.example/editor\nSuites: stable\nComponents: main\n"
    )
    (tmp_path / "sources.list").write_text(
        "# deb http://mirror.example/debian old main\n"
        "deb [arch=amd64 signed-by=/k.gpg] http://mirror.example/debian-security "
        "bookworm-security main contrib\n"
        "deb http://other.example/node node main\n"
    )
    assert vendor.debian_sources(tmp_path) == (
        "Types: deb-src\nURIs: http://mirror.example/debian\nSuites: bookworm\nComponents: main\n"
        "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n\n"
        "Types: deb-src\nURIs: http://mirror.example/debian-security\nSuites: bookworm-security\n"
        "Components: main contrib\nSigned-By: /k.gpg\n\n"
    )


# ---- the pinned libraries themselves


def test_recipe_stops_in_one_message_on_a_wrong_cfitsio(tmp_path):
    wrong = tmp_path / "cfitsio.tar.gz"
    wrong.write_bytes(b"not cfitsio")
    answer = subprocess.run(
        [sys.executable, RECIPE],
        env={**os.environ, "TORCHFITS_CFITSIO_TARBALL": str(wrong)},
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 1
    assert "eba53d1b3f6e345632bb09a7b752ec7ced3d63ec5153a848380f3880c5d61889" in answer.stderr
    assert hashlib.sha256(b"not cfitsio").hexdigest() in answer.stderr
    assert "Traceback" not in answer.stderr


def test_everything_built_is_not_built_again(tmp_path):
    subprocess.run([sys.executable, RECIPE], check=True, capture_output=True)
    again = subprocess.run(
        [sys.executable, RECIPE],
        env={**os.environ, "TORCHFITS_DOWNLOADS": str(tmp_path / "none")},
        check=True,
        capture_output=True,
        text=True,
    )
    assert again.stderr == ""
    assert not (tmp_path / "none").exists()
    assert [line.split()[0] for line in again.stdout.splitlines()] == [
        "zlib",
        "libdeflate",
        "cfitsio",
        "wcslib",
    ]


def test_the_recipe_tells_how_c_finds_and_links_a_library():
    answer = subprocess.run(
        [sys.executable, RECIPE, "zlib", "libdeflate"], check=True, capture_output=True, text=True
    )
    words = answer.stdout.split()
    assert words[0] == "-DHAVE_LIBDEFLATE"
    assert [Path(word).name for word in words if word.endswith(".a")] == ["liblibdeflate.a", "libzlib.a"]
    headers = [name for word in words if word.startswith("-I") for name in os.listdir(word[2:])]
    assert {"libdeflate.h", "zlib.h"} <= set(headers)


EXTENSIONS = sorted(Path(torchfits.__file__).parent.glob(f"*{sysconfig.get_config_var('EXT_SUFFIX')}"))


def test_extensions_are_there():
    assert {path.name.split(".")[0] for path in EXTENSIONS} >= {"_core", "_wcs"}


@pytest.mark.parametrize("path", EXTENSIONS, ids=lambda path: path.name.split(".")[0])
def test_extension_shows_only_its_entry(path):
    answer = subprocess.run(["nm", "-D", "--defined-only", path], capture_output=True, text=True, check=True)
    shown = [line.split()[-1] for line in answer.stdout.splitlines()]
    assert shown == [f"PyInit_{path.name.split('.')[0]}"]


@pytest.mark.parametrize("path", EXTENSIONS, ids=lambda path: path.name.split(".")[0])
def test_extension_needs_only_the_c_library(path):
    answer = subprocess.run(["readelf", "-d", path], capture_output=True, text=True, check=True)
    needed = set(re.findall(r"NEEDED.*\[lib(\w+)", answer.stdout))
    assert needed <= {"c", "m", "pthread"}


@pytest.mark.slow
def test_wheel_holds_the_extensions_and_neither_sources_nor_shared_libraries(tmp_path):
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "wheel", "-q", ROOT, "--wheel-dir", tmp_path),
            *("--no-deps", "--no-build-isolation", "--no-index"),
        ],
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("torchfits-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    binaries = {name for name in names if re.search(r"\.(so|dylib|pyd|a)\b", name)}
    assert binaries == {f"torchfits/{path.name}" for path in EXTENSIONS}
    assert {"torchfits/py.typed", "torchfits/_core.pyi", "torchfits/_build_info.py"} <= set(names)
    assert not [name for name in names if name.endswith((".pyx", ".pxd", ".pxi", ".c", ".h"))]
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"torchfits"}
