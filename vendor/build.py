"""Fetch the pinned C libraries and compile them into static archives with hidden symbols.

    python vendor/build.py                   # what the build of the extensions does first
    python vendor/build.py zlib libdeflate   # the arguments by which our C finds and links these

`SOURCES` holds the pins. A tarball comes from the first of these that has it, and its sha256 decides:

1. the file named by TORCHFITS_<NAME>_TARBALL,
2. the downloads kept from earlier builds (in TORCHFITS_DOWNLOADS, else torchfits/ in the user's cache),
3. the upstream URL,
4. Debian's source package, through apt-get with package lists of our own.

Where none has it, the library of the system is used (pkg-config), and that is said loudly; of libdeflate,
where the system has none either, it is said as loudly that zlib does its work. What is compiled lies in
build/vendor/NAME-VERSION-KEY; the key is made of the source, the compiler and the flags, so nothing is
fetched or compiled twice. Needs the standard library alone, a C compiler and `ar`.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import urllib.request
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "vendor"
TIMEOUT = 30  # seconds without an answer from upstream


@dataclass(frozen=True)
class Source:
    """One pinned library: what to fetch and how to compile it."""

    name: str
    version: str
    sha256: str
    debian_file: str  # the name of the pinned tarball in Debian's source package
    pkg_config: str  # the name of the system's library
    sources: tuple[str, ...]  # glob patterns of the C files to compile
    headers: tuple[str, ...]  # directories of its headers; "." is the unpacked tarball
    flags: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()  # libraries whose headers it includes
    url: str | None = None
    generated: tuple[str, str] | None = None  # file name and text of what `configure` would write
    instead: str | None = (
        None  # what our C does where the library is nowhere to be had; None: it cannot do without
    )


@dataclass(frozen=True)
class Library:
    """A library to link with: its archive, or the arguments that name the system's; or that there is none."""

    version: str
    where: str
    include_dirs: tuple[str, ...] = ()
    archives: tuple[str, ...] = ()
    link_args: tuple[str, ...] = ()
    macros: tuple[str, ...] = ()  # by which our C knows that it is there


class BuildError(Exception):
    """The vendored libraries cannot be built; the message says what to do."""


# zlib's code, and some of the others', is older than C23, which newer compilers take as their default
COMMON = ("-std=gnu11", "-O3", "-fPIC", "-fvisibility=hidden", "-w")
# cfitsio shifts negative numbers all over, which every compiler it knows takes as meant
SANITIZE = ("-O1", "-g", "-fno-omit-frame-pointer", "-fsanitize=address,undefined", "-fno-sanitize=shift")

SOURCES = {
    source.name: source
    for source in (
        Source(
            name="zlib",
            version="1.2.13",
            sha256="71feb7947e3c00ef125f83b79a4e529bde31171e5babe48b391f06758d1ab0a1",
            debian_file="zlib_1.2.13.dfsg.orig.tar.bz2",
            pkg_config="zlib",
            sources=("*.c",),
            headers=(".",),
            flags=("-DHAVE_UNISTD_H", "-D_LARGEFILE64_SOURCE=1"),
        ),
        # only what reads gzip; it asks the processor what it can at run time
        Source(
            name="libdeflate",
            version="1.14",
            sha256="89e7df898c37c3427b0f39aadcf733731321a278771d20fc553f92da8d4808ac",
            debian_file="libdeflate_1.14.orig.tar.gz",
            pkg_config="libdeflate",
            sources=(
                *("lib/deflate_decompress.c", "lib/gzip_decompress.c", "lib/crc32.c", "lib/utils.c"),
                "lib/*/cpu_features.c",
            ),
            headers=(".",),
            instead="zlib inflates, which takes twice as long",
        ),
        # neither curl nor network drivers nor shared memory: only files and memory are ever opened
        Source(
            name="cfitsio",
            version="4.2.0",
            sha256="eba53d1b3f6e345632bb09a7b752ec7ced3d63ec5153a848380f3880c5d61889",
            debian_file="cfitsio_4.2.0.orig.tar.gz",
            url="https://heasarc.gsfc.nasa.gov/FTP/software/fitsio/c/cfitsio-4.2.0.tar.gz",
            pkg_config="cfitsio",
            sources=("*.c",),
            # programs, Fortran wrappers, and drivers for other systems
            left_out=(
                *(
                    "cookbook.c",
                    "fitscopy.c",
                    "fpack*.c",
                    "funpack.c",
                    "imcopy.c",
                    "iter_*.c",
                    "smem.c",
                    "speed.c",
                ),
                *(
                    "testprog.c",
                    "f77_*.c",
                    "drvrgsiftp.c",
                    "drvrnet.c",
                    "drvrsmem.c",
                    "vmsieee.c",
                    "windumpexts.c",
                ),
            ),
            headers=(".",),
            flags=(
                *("-pthread", "-D_REENTRANT", "-D_FILE_OFFSET_BITS=64", "-D_LARGEFILE_SOURCE"),
                *("-DHAVE_FTRUNCATE", "-DHAVE_LONGLONG", "-DHAVE_UNISTD_H"),
            ),
            needs=("zlib",),
        ),
        Source(
            name="wcslib",
            version="7.12",
            sha256="334a1d525152e0a1d9bfdc27cb878f9bf6604ae22a3bd018459ec909fc286699",
            debian_file="wcslib_7.12+ds.orig.tar.xz",
            pkg_config="wcslib",
            sources=("C/*.c", "C/flexed/*.c"),
            left_out=("getwcstab.c",),  # needs cfitsio
            headers=("C",),
            flags=("-D_GNU_SOURCE",),
            generated=(
                "C/wcsconfig.h",
                "#define HAVE_WCSLIB_VERSION\n"
                "#define WCSLIB_VERSION 7.12\n"
                "#define WCSLIB_INT64 long long int\n"
                + ("#define HAVE_SINCOS 1\n" if sys.platform == "linux" else ""),
            ),
        ),
    )
}


def say(text: str) -> None:
    print(f"torchfits vendor: {text}", file=sys.stderr, flush=True)


def say_loudly(text: str) -> None:
    say("*" * 72)
    say(f"WARNING: {text}")
    say("*" * 72)


# ---- fetching


def verify(source: Source, path: Path, where: str) -> None:
    """Stop the build unless `path` is the pinned tarball."""
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != source.sha256:
        raise BuildError(
            f"wrong sha256 for {source.name} {source.version} from {where}\n"
            f"  expected {source.sha256}\n  found    {found}"
        )


def downloads() -> Path:
    """The directory in which verified tarballs are kept."""
    if kept := os.environ.get("TORCHFITS_DOWNLOADS"):
        return Path(kept)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "torchfits"


def named(source: Source) -> tuple[Path, str] | None:
    """The tarball that the environment names, verified."""
    variable = f"TORCHFITS_{source.name.upper()}_TARBALL"
    if not os.environ.get(variable):
        return None
    path = Path(os.environ[variable]).expanduser()
    if not path.is_file():
        raise BuildError(f"{variable} names {path}, which is no file")
    verify(source, path, f"{variable}={path}")
    return path, f"the file named by {variable}"


@contextmanager
def fetched(source: Source) -> Iterator[tuple[Path, str] | None]:
    """The verified tarball and where it came from, or None where nobody has it."""
    kept = downloads() / source.debian_file
    origin = kept.with_name(kept.name + ".origin")
    if kept.is_file():
        verify(source, kept, f"the kept download {kept} (delete it to fetch it again)")
        yield kept, origin.read_text().strip() if origin.is_file() else "a kept download"
        return
    with tempfile.TemporaryDirectory(prefix="torchfits-vendor-") as scratch:
        for fetch in (from_upstream, from_debian):
            try:
                path, where = fetch(source, Path(scratch))
            except (OSError, subprocess.SubprocessError) as error:
                say(f"{source.name} {source.version}: {error}")
                continue
            verify(source, path, where)
            keep(path, kept, origin, where)
            yield path, where
            return
        yield None


def keep(path: Path, kept: Path, origin: Path, where: str) -> None:
    """Put a verified tarball among the downloads; a directory that cannot be written is no reason to stop."""
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        origin.write_text(where + "\n")
        partial = kept.with_name(f"{kept.name}.{os.getpid()}")
        shutil.copyfile(path, partial)
        partial.replace(kept)  # whole or not at all, whoever builds at the same time
    except OSError as error:
        say(f"the download is not kept: {error}")


def from_upstream(source: Source, scratch: Path) -> tuple[Path, str]:
    if source.url is None:
        raise FileNotFoundError("upstream offers no such tarball")
    say(f"fetching {source.url}")
    path = scratch / "upstream"
    with urllib.request.urlopen(source.url, timeout=TIMEOUT) as answer, path.open("wb") as file:
        shutil.copyfileobj(answer, file)
    return path, source.url


def from_debian(source: Source, scratch: Path) -> tuple[Path, str]:
    """Debian's source package, found through the machine's own entries; its lists stay as they are."""
    if not shutil.which("apt-get"):
        raise FileNotFoundError("no apt-get, so no Debian source package")
    entries = debian_sources()
    if not entries:
        raise FileNotFoundError("no Debian entry among the package sources of this machine")
    state = BUILD / "apt"
    for part in ("lists/partial", "cache/archives/partial"):
        (state / part).mkdir(parents=True, exist_ok=True)
    options = [f"Dir::State::Lists={state}/lists", f"Dir::Cache={state}/cache"]
    options += ["Dir::Etc::SourceParts=/dev/null", "APT::Sandbox::User=root", "Acquire::Retries=2"]
    listing = state / "debian-src.sources"
    apt = ["apt-get", "-q", *(word for option in options for word in ("-o", option))]
    apt += ["-o", f"Dir::Etc::SourceList={listing}"]
    say(f"fetching Debian's source package {source.name}")
    listing.write_text(entries)
    path = scratch / source.debian_file
    # the lists of an earlier build may do; an entry that cannot be updated does no harm
    for update in (False, True):
        if update:
            run([*apt, "update"], check=False)
        answer = run([*apt, "source", "--tar-only", "--download-only", source.name], cwd=scratch, check=False)
        if path.is_file():
            return path, f"Debian's source package, {path.name}"
    others = ", ".join(file.name for file in scratch.glob(f"{source.name}_*")) or answer.stderr.strip()
    raise FileNotFoundError(f"Debian's source package has no {path.name} ({others})")


def debian_sources(etc: Path = Path("/etc/apt")) -> str:
    """The Debian entries of this machine's package sources, as deb-src entries."""
    stanzas = []
    for file in sorted((etc / "sources.list.d").glob("*.sources")):
        for stanza in re.split(r"\n\s*\n", file.read_text()):
            text = re.sub(r"^#.*\n?", "", stanza, flags=re.M)
            if re.search(r"^URIs:.*/debian(-security)?/?\s*$", text, re.M | re.I):
                stanzas.append(re.sub(r"^Types:.*$", "Types: deb-src", text, flags=re.M | re.I).strip())
    for file in [etc / "sources.list", *sorted((etc / "sources.list.d").glob("*.list"))]:
        lines = file.read_text().splitlines() if file.is_file() else []
        for line in lines:
            entry = re.match(r"deb\s+(?:\[(.*)\]\s+)?(\S+/debian(?:-security)?/?)\s+(\S+)\s+(.+)", line)
            if entry:
                options, uri, suite, components = entry.groups()
                signed = re.search(r"signed-by=(\S+)", options or "")
                stanza = f"Types: deb-src\nURIs: {uri}\nSuites: {suite}\nComponents: {components}"
                stanzas.append(stanza + (f"\nSigned-By: {signed[1]}" if signed else ""))
    return "".join(stanza + "\n\n" for stanza in stanzas)


# ---- compiling


def run(
    command: list[str], *, cwd: Path | None = None, check: bool = True
) -> subprocess.CompletedProcess[str]:
    try:
        answer = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise BuildError(f"{command[0]} is not installed (Debian: apt install gcc binutils)") from error
    if check and answer.returncode:
        raise BuildError(f"{shlex.join(command)}\n{answer.stdout}{answer.stderr}")
    return answer


def compiler() -> list[str]:
    """The C compiler that builds extension modules for this Python."""
    return shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")


def flags_of(source: Source, sanitize: bool) -> list[str]:
    # CFLAGS and ARCHFLAGS as setuptools takes them for the extensions
    asked = shlex.split(os.environ.get("CFLAGS", "")) + shlex.split(os.environ.get("ARCHFLAGS", ""))
    return [*COMMON, *source.flags, *asked, *(SANITIZE if sanitize else ())]


def build(source: Source, needed: list[Library], sanitize: bool) -> Library:
    """Compile one library, or take what an earlier build left; the system's where there is no source."""
    flags = flags_of(source, sanitize)
    flags += [f"-I{directory}" for library in needed for directory in library.include_dirs]
    identity = [source.sha256, *flags, *compiler(), run([*compiler(), "--version"]).stdout, repr(source)]
    key = hashlib.sha256("\n".join(identity).encode()).hexdigest()[:12]
    home = BUILD / f"{source.name}-{source.version}-{key}"
    given = named(source)  # even where nothing is left to build: a wrong one is a mistake to hear of
    if not home.is_dir():
        with nullcontext(given) if given else fetched(source) as found:
            if found is None:
                return from_system(source) or without(source)
            tarball, where = found
            say(f"{source.name} {source.version}: {where}; compiling")
            with tempfile.TemporaryDirectory(dir=make(BUILD)) as scratch:
                part = make(Path(scratch) / "library")
                compile_archive(source, tarball, part, flags)
                (part / "origin").write_text(where + "\n")
                if not home.is_dir():  # whole or not at all, whoever builds at the same time
                    part.rename(home)
    return Library(
        version=source.version,
        where=(home / "origin").read_text().strip(),
        include_dirs=tuple(str(home / "source" / part) for part in source.headers),
        archives=(str(home / f"lib{source.name}.a"),),
        macros=macros(source),
    )


def macros(source: Source) -> tuple[str, ...]:
    return (f"HAVE_{source.name.upper()}",) if source.instead else ()


def without(source: Source) -> Library:
    """No library, where our C can do without."""
    if source.instead is None:
        raise BuildError(
            f"no source of {source.name} {source.version}, and no {source.pkg_config} on this system: "
            f"{how_to_name(source)}"
        )
    say_loudly(f"{source.name} is nowhere to be had: {source.instead}; {how_to_name(source)}")
    return Library(version="none", where=f"nowhere to be had: {source.instead}")


def how_to_name(source: Source) -> str:
    return f"name the tarball in TORCHFITS_{source.name.upper()}_TARBALL (sha256 {source.sha256})"


def unpack(tarball: Path, tree: Path) -> None:
    """Unpack the one directory of the tarball as `tree`."""
    inside = make(tree.with_name("tarball"))
    with tarfile.open(tarball) as archive:
        # pinned by its sha256, so trusted; the filter only silences the default's change
        if hasattr(tarfile, "data_filter"):
            archive.extractall(inside, filter="data")
        else:
            archive.extractall(inside)
    (only,) = inside.iterdir()
    only.rename(tree)


def make(directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def compile_archive(source: Source, tarball: Path, home: Path, flags: list[str]) -> None:
    """Make `home`/libNAME.a from the tarball, unpacked as `home`/source."""
    tree, objects = home / "source", make(home / "objects")
    unpack(tarball, tree)
    if source.generated:
        (tree / source.generated[0]).write_text(source.generated[1])
    files = sorted(file for pattern in source.sources for file in tree.glob(pattern))
    files = [file for file in files if not any(file.match(pattern) for pattern in source.left_out)]
    includes = [f"-I{tree / part}" for part in source.headers]

    def compile_one(file: Path) -> str:
        target = str(objects / f"{'-'.join(file.relative_to(tree).with_suffix('').parts)}.o")
        run([*compiler(), *flags, *includes, "-c", str(file), "-o", target])
        return target

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        compiled = list(pool.map(compile_one, files))
    run([os.environ.get("AR") or "ar", "rcs", str(home / f"lib{source.name}.a"), *compiled])


def from_system(source: Source) -> Library | None:
    """The library that the system offers through pkg-config; None where it has none."""

    def ask(what: str) -> list[str]:
        return shlex.split(run(["pkg-config", what, source.pkg_config]).stdout)

    if not shutil.which("pkg-config") or run(["pkg-config", source.pkg_config], check=False).returncode:
        return None
    (version,) = ask("--modversion")
    say_loudly(f"{source.name} {source.version} cannot be fetched; linking the system's {version} instead")
    return Library(
        version=version,
        where=f"the system's {source.pkg_config} (pkg-config)",
        include_dirs=tuple(word[2:] for word in ask("--cflags-only-I")),
        link_args=tuple(ask("--libs")),
        macros=macros(source),
    )


def libraries(sanitize: bool = False, wanted: Collection[str] = SOURCES) -> dict[str, Library]:
    """The pinned libraries, built; those that others need come first, and are to be wanted too."""
    built: dict[str, Library] = {}
    for name, source in SOURCES.items():
        if name in wanted:
            built[name] = build(source, [built[need] for need in source.needs], sanitize)
    return built


def arguments(library: Library) -> list[str]:
    """What a compiler is told, to find the library and to link it."""
    found = [f"-D{macro}" for macro in library.macros]
    return [
        *found,
        *(f"-I{directory}" for directory in library.include_dirs),
        *library.archives,
        *library.link_args,
    ]


def main(wanted: list[str]) -> None:
    found = libraries(os.environ.get("TORCHFITS_SANITIZE") == "1", wanted or SOURCES)
    if wanted:
        print(*(word for name in reversed(found) for word in arguments(found[name])))
        return
    for name, library in found.items():
        print(name, library.version, *library.archives, *library.link_args, f"from {library.where}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except BuildError as error:
        sys.exit(f"torchfits vendor: error: {error}")
