"""What this torchfits is made of."""

from __future__ import annotations

import torch

from torchfits import _build_info, _core, _wcs


def versions() -> dict[str, str | bool | dict[str, str]]:
    """The versions of torchfits and of what is inside and below it, for reports.

    Returns:
        ``torchfits``, ``cfitsio``, ``wcslib``, ``zlib``, ``libdeflate`` ("none" where zlib does its work),
        ``cython`` (that compiled it) and ``torch`` (that is imported): str. ``cfitsio_reentrant``:
        bool. ``sources``: a dict that says of each vendored library where its source came from.

    >>> import torchfits
    >>> torchfits.versions()["cfitsio_reentrant"]
    True
    """
    return {
        "torchfits": _build_info.TORCHFITS,
        "cfitsio": _core.cfitsio_version(),
        "cfitsio_reentrant": _core.cfitsio_reentrant(),
        "wcslib": _wcs.wcslib_version(),
        "zlib": _build_info.LIBRARIES["zlib"][0],
        "libdeflate": _build_info.LIBRARIES["libdeflate"][0],
        "cython": _build_info.CYTHON,
        "torch": str(torch.__version__),
        "sources": {name: where for name, (_, where) in _build_info.LIBRARIES.items()},
    }
