"""Reads files with fitsio for the tests, in a process of its own: fitsio crashes on some of them.

Takes one path a line on standard input, answers with one pickle on standard output: a list of HDUs, each
('image', array), ('table', [(name, array or exception text), ...]) or ('error', text).
"""

from __future__ import annotations

import os
import pickle
import sys
import warnings

import fitsio


def read_hdu(hdu) -> tuple:
    try:
        if isinstance(hdu, fitsio.hdu.ImageHDU):
            return "image", hdu.read()
        columns = []
        for number, name in enumerate(hdu.get_colnames()):
            try:
                columns.append((name, hdu.read_column(number)))
            except Exception as error:
                columns.append((name, str(error)))
        return "table", columns
    except Exception as error:
        return "error", str(error)


def read_file(path: str) -> list:
    try:
        with fitsio.FITS(path, vstorage="object") as file:
            return [read_hdu(hdu) for hdu in file]
    except Exception as error:
        return [("error", str(error))]


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what cfitsio prints must not mix with the pickles
    for line in sys.stdin:
        pickle.dump(read_file(line.rstrip("\n")), answers)
        answers.flush()
