"""What torchfits uses only where it is asked to: the extras, and the packages that they bring."""

from __future__ import annotations

import importlib

PACKAGES = {
    "arrow": ("pyarrow",),
    "astropy": ("astropy", "numpy"),
    "numpy": ("numpy",),
    "pandas": ("pandas", "pyarrow", "numpy"),
    "png": ("PIL", "numpy"),
    "polars": ("polars", "pyarrow"),
    "safetensors": ("safetensors", "numpy"),
}


def require(extra: str) -> None:
    """ImportError that says how to install them, unless the packages of an extra are there."""
    for package in PACKAGES[extra]:
        try:
            importlib.import_module(package)
        except ImportError:
            raise ImportError(f"{package} is missing: pip install 'torchfits[{extra}]'") from None
