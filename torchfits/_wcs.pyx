"""Cython over wcslib, the only module linked with it."""

cdef extern from "wcs.h" nogil:
    const char *c_wcslib_version "wcslib_version" (int version[3])


def wcslib_version() -> str:
    """The version of the wcslib inside, as '7.12'."""
    return c_wcslib_version(NULL).decode("ascii")
