"""For the tests of tile-compressed images: such files as raw bytes, fpack and funpack, and a slow decoder.

The decoder takes the standard at its word (section 10.1), in plain Python and numpy; HCOMPRESS_1 and PLIO_1
streams it leaves to astropy's copies of cfitsio's.
"""

from __future__ import annotations

import gzip
import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from astropy.io import fits
from astropy.io.fits.hdu.compressed import _codecs
from images import BLOCK, EMPTY, STORED, card, padded
from ztables import _run, rice_decode, rice_encode

Cells = Sequence[Any]
WIDTHS = {"B": 1, "I": 2, "J": 4, "K": 8, "E": 4, "D": 8}
NUMBERS = {"B": ">u1", "I": ">i2", "J": ">i4", "K": ">i8", "E": ">f4", "D": ">f8"}
BITPIX = {"u1": 8, "i2": 16, "i4": 32, "i8": 64, "f4": -32, "f8": -64}


def fpack(path, to, *options: object) -> None:
    done = _run("fpack", *options, "-O", to, path)
    assert done.returncode == 0, done.stderr


def funpack(path, to) -> None:
    done = _run("funpack", "-O", to, path)
    assert done.returncode == 0, done.stderr


# ---------------------------------------------------------------------------- files as raw bytes


def tiles_of(shape: Sequence[int], tile: Sequence[int]) -> list[tuple[slice, ...]]:
    """The section that each tile is, by its row; axes in the order of numpy."""
    axes = [
        [slice(low, min(low + side, length)) for low in range(0, length, side)]
        for length, side in zip(shape, tile, strict=True)
    ]
    return list(itertools.product(*axes))


def tiled(
    shape: Sequence[int],
    tile: Sequence[int],
    bitpix: int,
    codec: str,
    columns: dict[str, tuple[str, Cells]],
    *,
    rows: bytes | None = None,
    gap: bytes = b"",
    pcount: int | None = None,
    **cards: object,
) -> bytes:
    """A file whose HDU 1 is a tile-compressed image.

    `columns` are (TFORM, cells) by name: bytes of P and Q, None for no array; numbers of the others. `rows`
    and `pcount` stand in for what is right; `gap` is between the rows and the heap.
    """
    count, heap, parts = len(next(iter(columns.values()))[1]), b"", []
    for i in range(count):
        for tform, cells in columns.values():
            form, cell = tform.lstrip("01"), cells[i]
            if form[0] not in "PQ":
                parts.append(np.array(cell, NUMBERS[form]).tobytes())
                continue
            data = b"" if cell is None else cell
            pair = np.array([len(data) // WIDTHS[form[1]], len(heap)], ">i4" if form[0] == "P" else ">i8")
            parts.append(pair.tobytes())
            heap += data
    data = b"".join(parts) if rows is None else rows
    head: dict[str, object] = {
        "XTENSION": "'BINTABLE'", "BITPIX": 8, "NAXIS": 2, "NAXIS1": len(data) // max(count, 1), "NAXIS2": count,
        "PCOUNT": len(gap + heap) if pcount is None else pcount, "GCOUNT": 1, "TFIELDS": len(columns),
    }  # fmt: skip
    for i, (name, (tform, _)) in enumerate(columns.items(), 1):
        head |= {f"TTYPE{i}": f"'{name}'", f"TFORM{i}": f"'{tform}'"}
    if gap:
        head["THEAP"] = len(data + gap)
    head |= {"ZIMAGE": True, "ZCMPTYPE": f"'{codec}'", "ZBITPIX": bitpix, "ZNAXIS": len(shape)}
    for i, (length, side) in enumerate(zip(shape[::-1], tile[::-1], strict=True), 1):
        head |= {f"ZNAXIS{i}": length, f"ZTILE{i}": side}
    head |= cards
    text = b"".join(card(key, value) for key, value in head.items() if value is not None) + b"END".ljust(80)
    return EMPTY + text + b" " * (-len(text) % BLOCK) + padded(data + gap + heap)


def big(array: np.ndarray) -> bytes:
    return array.astype(array.dtype.newbyteorder(">")).tobytes()


def encode(codec: str, tile: np.ndarray, block: int = 32) -> bytes:
    """The stream of a tile, of RICE_1, GZIP_1, GZIP_2 or NOCOMPRESS."""
    data, width = big(tile), tile.dtype.itemsize
    if codec == "RICE_1":
        return rice_encode(data, width, block)
    if codec == "NOCOMPRESS":
        return data
    if codec == "GZIP_2":
        data = b"".join(data[i::width] for i in range(width))
    return gzip.compress(data, 1, mtime=0)


def streams(
    array: np.ndarray, tile: Sequence[int], codec: str, block: int = 32
) -> dict[str, tuple[str, Cells]]:
    """The column COMPRESSED_DATA of an image."""
    cells = [encode(codec, array[each], block) for each in tiles_of(array.shape, tile)]
    return {"COMPRESSED_DATA": ("1PB", cells)}


def compressed(array: np.ndarray, tile: Sequence[int], codec: str, **cards: object) -> bytes:
    """A file with `array` in it, as its numbers are."""
    columns = streams(array, tile, codec)
    if codec == "RICE_1":
        cards = {
            "ZNAME1": "'BLOCKSIZE'", "ZVAL1": 32, "ZNAME2": "'BYTEPIX'", "ZVAL2": array.dtype.itemsize, **cards
        }  # fmt: skip
    return tiled(array.shape, tile, BITPIX[array.dtype.str[1:]], codec, columns, **cards)


# ---------------------------------------------------------------------------- the slow decoder


def _random_numbers() -> np.ndarray:
    """Appendix I of the standard."""
    seed, numbers = 1, []
    for _ in range(10000):
        seed = 16807 * seed % (2**31 - 1)
        numbers.append(seed / (2**31 - 1))
    assert seed == 1043618065
    return np.array(numbers, "f4")


RANDOM = _random_numbers()


def dither_of(count: int, row: int, zdither0: int) -> np.ndarray:
    """The random numbers of the tile in a row, counted from 0."""
    start = (row + zdither0 - 1) % 10000
    place, found = int(RANDOM[start] * 500), []
    for _ in range(count):
        found.append(RANDOM[place])
        place += 1
        if place == 10000:
            start = (start + 1) % 10000
            place = int(RANDOM[start] * 500)
    return np.array(found, "f4")


def _inflated(codec: str, stream: bytes, count: int, width: int) -> np.ndarray:
    data = gzip.decompress(stream)
    width = len(data) // count  # cfitsio once wrote integers of 4 bytes whatever ZBITPIX was
    if codec == "GZIP_2":
        data = b"".join(data[i::count] for i in range(count))
    return np.frombuffer(data, f">i{width}" if width > 1 else "u1")


def _decoded(
    codec: str, stream: bytes, shape: tuple[int, ...], bitpix: int, header: fits.Header
) -> np.ndarray:
    """The integers that a stream stands for."""
    count = math.prod(shape)
    if codec in ("RICE_1", "RICE_ONE"):
        width = header.get("ZVAL2", 4)
        data = rice_decode(stream, count, width, header.get("ZVAL1", 32))
        return np.frombuffer(data, f">i{width}" if width > 1 else "u1")
    if codec in ("GZIP_1", "GZIP_2"):
        return _inflated(codec, stream, count, abs(bitpix) // 8)
    if codec == "NOCOMPRESS":
        return np.frombuffer(stream, ">" + STORED[bitpix])
    if codec == "PLIO_1":
        data = _codecs.decompress_plio_1_c(np.frombuffer(stream, ">i2").astype("i2"), count)
        numbers = np.frombuffer(data, "i4")[:count]
        return numbers - 32768 if bitpix == 16 and header.get("BZERO") == 32768 else numbers
    data = _codecs.decompress_hcompress_1_c(
        stream, shape[-1], count // shape[-1], 0, header.get("ZVAL2", 0), 4
    )
    return np.frombuffer(data, "i4")


def _dequantised(numbers: np.ndarray, row: int, cells: dict[str, Any], header: fits.Header) -> np.ndarray:
    method = header.get("ZQUANTIZ", "NO_DITHER").strip()
    numbers = numbers.astype("i8")
    values = numbers.astype("f8")
    if method.startswith("SUBTRACTIVE"):
        values = values - dither_of(len(numbers), row, header.get("ZDITHER0", 1)).astype("f8") + 0.5
    values = values * cells["ZSCALE"] + cells["ZZERO"]
    values = values.astype("f4" if header["ZBITPIX"] == -32 else "f8")
    if method == "SUBTRACTIVE_DITHER_2":
        values[numbers == -2147483646] = 0
    if cells["ZBLANK"] is not None:
        values[numbers == cells["ZBLANK"]] = np.nan
    return values


def slow_read(path, hdu: int = 1) -> np.ndarray:
    """The stored numbers of a tile-compressed image, those of quantised ones scaled."""
    with fits.open(path, disable_image_compression=True) as file:
        header, table = file[hdu].header, file[hdu].data
        names = [name.upper() for name in table.names]
        shape = tuple(header[f"ZNAXIS{i}"] for i in range(header["ZNAXIS"], 0, -1))
        first = header["ZNAXIS1"]
        tile = tuple(header.get(f"ZTILE{i}", first if i == 1 else 1) for i in range(len(shape), 0, -1))
        bitpix, codec = header["ZBITPIX"], header["ZCMPTYPE"].strip()
        array = np.empty(shape, STORED[bitpix])
        for row, section in enumerate(tiles_of(shape, tile)):
            cells: dict[str, Any] = {
                name: table[name][row] if name in names else header.get(name)
                for name in ("ZSCALE", "ZZERO", "ZBLANK")
            }
            streams = {name: np.asarray(table[name][row]) for name in names if name.endswith("_DATA")}
            where = next(name for name in streams if len(streams[name]))
            cell = streams[where]
            stream = cell.astype(cell.dtype.newbyteorder(">")).tobytes()
            part = array[section]
            if where == "UNCOMPRESSED_DATA":
                numbers = cell
            elif where == "GZIP_COMPRESSED_DATA" or (bitpix < 0 and cells["ZSCALE"] is None):
                data = _inflated(
                    "GZIP_2" if codec == "GZIP_2" and where[0] == "C" else "GZIP_1", stream, part.size, 0
                )
                numbers = data.view(f">f{data.dtype.itemsize}") if bitpix < 0 else data
            else:
                numbers = _decoded(codec, stream, part.shape, bitpix, header)
                if bitpix < 0:
                    numbers = _dequantised(numbers, row, cells, header)
            array[section] = numbers.reshape(part.shape)
    return array


# ---------------------------------------------------------------------------- comparisons


def native(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array.astype(array.dtype.newbyteorder("=")))


def assert_bits(found: torch.Tensor | np.ndarray, expected: np.ndarray, what: object = "") -> None:
    """The same dtype, shape and bits; every NaN counts as the same."""
    pair = [native(each.numpy() if isinstance(each, torch.Tensor) else each) for each in (found, expected)]
    assert (pair[0].dtype, pair[0].shape) == (pair[1].dtype, pair[1].shape), what
    for each in pair:
        if each.dtype.kind == "f":
            each[np.isnan(each)] = np.nan
    if pair[0].tobytes() != pair[1].tobytes():
        differ = np.argwhere(pair[0].view(f"u{pair[0].itemsize}") != pair[1].view(f"u{pair[1].itemsize}"))
        at = tuple(differ[0])
        raise AssertionError(
            f"{what}: {len(differ)} pixels differ, first {at}: {pair[0][at]!r}, not {pair[1][at]!r}"
        )
