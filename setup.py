"""The extension modules: Cython and C, and the vendored libraries inside. The rest: pyproject.toml."""

from __future__ import annotations

import os
import sys
from glob import glob
from pathlib import Path

import Cython
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT))
from vendor import build as vendor  # noqa: E402

SANITIZE = os.environ.get("TORCHFITS_SANITIZE") == "1"
COMPILE = ["-O3", "-fvisibility=hidden"]
# the bundled libraries stay invisible to whatever else the process loads
LINK = ["-Wl,--exclude-libs,ALL"] if sys.platform == "linux" else []
if SANITIZE:
    COMPILE = ["-O1", "-g", "-fno-omit-frame-pointer", "-fsanitize=address,undefined"]
    # Python's own flags make signed overflow defined, and so invisible
    COMPILE += ["-fno-sanitize-recover=undefined", "-fvisibility=hidden", "-fno-wrapv"]
    LINK += ["-fsanitize=address,undefined"]

# extension -> the vendored libraries inside, in the order in which they are linked
INSIDE = {
    "torchfits._core": ["cfitsio", "zlib"],
    "torchfits._direct": ["libdeflate", "zlib"],
    "torchfits._wcs": ["wcslib"],
}

TILES = "torchfits/_native/tile_check.c"
WCS = [f"torchfits/_native/{name}.c" for name in ("distortion", "gnomonic")]
NATIVE = sorted(set(glob("torchfits/_native/*.c")) - {TILES, *WCS})
EXTENSIONS = [
    Extension("torchfits._core", ["torchfits/_core.pyx"], libraries=["m", "pthread"]),
    Extension(
        "torchfits._direct",
        ["torchfits/_direct.pyx", *NATIVE],
        include_dirs=["torchfits"],
        depends=sorted(glob("torchfits/_native/*.h")),
        # a fused multiply-add would round differently from one machine to the next; errno after a function of
        # math.h is not looked at
        extra_compile_args=["-ffp-contract=off", "-fno-math-errno"],
        libraries=["m", "pthread"],
    ),
    Extension(
        "torchfits._tiles",
        ["torchfits/_tiles.pyx", TILES],
        include_dirs=["torchfits"],
        depends=["torchfits/_native/tile_check.h"],
    ),
    Extension(
        "torchfits._wcs",
        ["torchfits/_wcs.pyx", *WCS, "torchfits/_native/parallel.c", *sorted(glob("torchfits/_wcslib/*.c"))],
        include_dirs=["torchfits"],
        depends=sorted(glob("torchfits/_wcslib/*.h")) + sorted(glob("torchfits/_native/*.h")),
        extra_compile_args=["-ffp-contract=off", "-fno-math-errno"],
        libraries=["m", "pthread"],
    ),
]

BUILD_INFO = '''"""What this build is made of; written by setup.py."""

TORCHFITS = {torchfits!r}
CYTHON = {cython!r}
# name -> (version, where the source came from)
LIBRARIES: dict[str, tuple[str, str]] = {libraries!r}
'''


class Build(build_ext):
    """Builds the vendored libraries first, links them in, and records what they are."""

    def run(self) -> None:
        try:
            libraries = vendor.libraries(SANITIZE)
        except vendor.BuildError as error:
            raise SystemExit(f"torchfits: error: {error}") from None
        for extension in self.extensions:
            extension.extra_compile_args = [*COMPILE, *extension.extra_compile_args]
            extension.extra_link_args = [*LINK, *extension.extra_link_args]
            for library in (libraries[name] for name in INSIDE.get(extension.name, ())):
                extension.define_macros += [(macro, None) for macro in library.macros]
                extension.include_dirs += library.include_dirs
                extension.extra_objects += library.archives
                extension.extra_link_args += library.link_args
                extension.depends += library.archives
        self.write_build_info(libraries)
        super().run()

    def write_build_info(self, libraries: dict[str, vendor.Library]) -> None:
        text = BUILD_INFO.format(
            torchfits=self.distribution.get_version(),
            cython=Cython.__version__,
            libraries={name: (library.version, library.where) for name, library in libraries.items()},
        )
        target = (ROOT if self.inplace else Path(self.build_lib)) / "torchfits" / "_build_info.py"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)


DIRECTIVES = {"language_level": 3, "autotestdict": False, "auto_pickle": False}

setup(
    ext_modules=cythonize(EXTENSIONS, build_dir="build/cython", compiler_directives=DIRECTIVES),
    cmdclass={"build_ext": Build},
)
