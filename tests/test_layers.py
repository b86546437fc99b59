"""Bytes flow down, tensors flow up: a module imports only from layers below its own."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import torchfits

PACKAGE = Path(torchfits.__file__).parent

# lowest first; modules of one layer do not import each other
LAYERS = [
    ["errors", "_build_info", "extras"],
    ["_kernels", "_cfitsio"],
    ["_direct", "_tiles", "_wcs"],
    ["_tensors"],
    ["header", "source", "sections"],
    ["layout", "_core", "text"],
    ["compression", "ascii_table", "cache", "tiles", "versions", "expressions", "wcs_model", "projections"],
    ["where", "wcs_parts", "wcs_resample", "distortions"],
    ["hdu", "writer", "columns", "wcs_torch"],
    ["wcs"],
    ["compressed_table", "arrow"],
    ["image", "table"],
    ["groups"],
    ["hdulist"],
    ["batch", "packing"],
    ["__init__"],
    ["formats"],
    ["cli"],
    ["__main__"],
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}


def _imports(path: Path) -> set[str]:
    if path.suffix == ".pyx":
        found = re.findall(r"^from torchfits\.(\w+) c?import", path.read_text(), re.MULTILINE)
        return set(found)
    found = set()
    tree = ast.parse(path.read_text())
    only_types = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if node in only_types:
            continue
        if isinstance(node, ast.ImportFrom) and node.module == "torchfits":
            found |= {alias.name if alias.name in LEVEL else "__init__" for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("torchfits."):
            found.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {"__init__" for alias in node.names if alias.name.split(".")[0] == "torchfits"}
    return found


def test_imports_point_down():
    modules = [path for path in PACKAGE.iterdir() if path.suffix in (".py", ".pyx")]
    assert len(modules) > 10
    wrong = [
        f"{path.name} imports {name}"
        for path in modules
        for name in sorted(_imports(path))
        if LEVEL[name] >= LEVEL[path.stem]
    ]
    assert not wrong


def test_only_core_links_cfitsio_and_nothing_native_knows_it():
    for path in (PACKAGE / "_native").glob("*.[ch]"):
        text = path.read_text()
        assert "Python.h" not in text, path
        assert "fitsio.h" not in text, path
    for path in PACKAGE.glob("*.pyx"):
        assert ("_cfitsio cimport" in path.read_text()) == (path.stem == "_core")
