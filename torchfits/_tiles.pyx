# cython: language_level=3, cdivision=True, autotestdict=False
"""Cython over the guards of compressed tiles: they walk a stream before a decoder that trusts it does."""

import zlib
from array import array

from libc.stdint cimport int64_t, uint8_t
from libc.stdlib cimport free, malloc

cdef extern from "_native/tile_check.h" nogil:
    enum:
        TF_OK
        TF_EMPTY
        TF_TRUNCATED
        TF_OVERRUN
        TF_WRONG_SIZE
        TF_BAD_CODE
        TF_BAD_PARAMETER
    const char *tf_check_reason(int reason)
    int tf_check_rice(const uint8_t *data, size_t n, size_t npix, int blocksize, int bytepix)
    int tf_check_hcompress(const uint8_t *data, size_t n, size_t nx, size_t ny, int bytepix, uint8_t *scratch)
    size_t tf_hcompress_scratch(size_t nx, size_t ny)
    int tf_check_plio(const uint8_t *be_data, size_t n, size_t npix)

# more pixels than this are refused by the kernels
cdef int64_t TILE_MAX = 0x7fffffff

cdef enum Codec:
    RICE
    HCOMPRESS
    PLIO

CODECS = {"RICE_1": RICE, "HCOMPRESS_1": HCOMPRESS, "PLIO_1": PLIO}


def check_tiles(
    str codec not None,
    const unsigned char[::1] heap not None,
    offsets,
    lengths,
    pixels,
    widths=None,
    *,
    int blocksize=32,
    int bytepix=4,
):
    """Find the first compressed tile that a decoder which trusts its input must not see.

    Each stream is walked without making pixels: decoding it must stay inside its bytes and fill its
    tile exactly (FITS standard 4.0, section 10.4). The GIL is released, the time is linear in
    bytes and pixels. gzip streams are inflated, since nothing less tells their size and soundness.

    Args:
        codec: 'RICE_1', 'HCOMPRESS_1', 'PLIO_1', 'GZIP_1' or 'GZIP_2'.
        heap: Bytes-like; holds all the streams.
        offsets: Byte offset of each stream in `heap`.
        lengths: Its length in bytes (for PLIO_1 twice the number in the descriptor).
        pixels: Pixels of each tile.
        widths: HCOMPRESS_1 only: the length of one side of each tile, either side.
        blocksize: RICE_1 only: pixels a block.
        bytepix: Bytes a pixel. RICE_1: BYTEPIX. HCOMPRESS_1: |ZBITPIX| / 8. GZIP: of the values in the
            stream (4 for quantized floats; 4-byte values in place of 1- or 2-byte ones are accepted).

    Returns:
        None where all are sound, else (index of the first bad tile, why: the end of a sentence that
        begins with 'the compressed tile').

    Raises:
        ValueError: For an unknown codec, or sequences that differ in length.

    >>> check_tiles("RICE_1", bytes([0, 7, 0]), [0], [3], [32], bytepix=2) is None  # 32 times the number 7
    True
    >>> check_tiles("RICE_1", bytes([0, 7, 0]), [0], [2], [32], bytepix=2)
    (0, 'ends before its pixels do')
    """
    cdef int64_t[::1] c_offsets = array("q", offsets)
    cdef int64_t[::1] c_lengths = array("q", lengths)
    cdef int64_t[::1] c_pixels = array("q", pixels)
    cdef int64_t[::1] c_widths = array("q", pixels if widths is None else widths)
    cdef Py_ssize_t i = 0, count = c_offsets.shape[0]
    cdef int64_t size = heap.shape[0], needed, largest = 1
    cdef int reason = TF_OK, which
    cdef const uint8_t *start = &heap[0] if size else NULL
    cdef uint8_t *scratch = NULL

    if not c_lengths.shape[0] == c_pixels.shape[0] == c_widths.shape[0] == count:
        raise ValueError("the tiles' offsets, lengths, pixels and widths differ in number")
    if codec in ("GZIP_1", "GZIP_2"):
        return _check_gzip(memoryview(heap), c_offsets, c_lengths, c_pixels, bytepix)
    if codec not in CODECS:
        raise ValueError(f"no streams of {codec!r} can be checked")
    which = CODECS[codec]
    try:
        if which == HCOMPRESS:
            for i in range(count):
                if c_widths[i] > 0 and 0 < c_pixels[i] <= TILE_MAX:
                    needed = tf_hcompress_scratch(c_widths[i], c_pixels[i] // c_widths[i])
                    largest = max(largest, needed)
            scratch = <uint8_t *>malloc(largest)
            if scratch is NULL:
                raise MemoryError()
        with nogil:
            for i in range(count):
                reason = _check_tile(which, start, size, c_offsets[i], c_lengths[i], c_pixels[i], c_widths[i],
                                     blocksize, bytepix, scratch)
                if reason != TF_OK:
                    break
    finally:
        free(scratch)
    return None if reason == TF_OK else (i, tf_check_reason(reason).decode())


cdef int _check_tile(int codec, const uint8_t *heap, int64_t size, int64_t offset, int64_t length,
                     int64_t pixels, int64_t width, int blocksize, int bytepix,
                     uint8_t *scratch) noexcept nogil:
    if pixels < 1 or width < 1 or pixels % width:
        return TF_BAD_PARAMETER
    if offset < 0 or length < 0 or length > size or offset > size - length:
        return TF_TRUNCATED
    if length == 0:
        return TF_EMPTY
    if codec == RICE:
        return tf_check_rice(heap + offset, length, pixels, blocksize, bytepix)
    if codec == HCOMPRESS:
        return tf_check_hcompress(heap + offset, length, width, pixels // width, bytepix, scratch)
    return tf_check_plio(heap + offset, length, pixels)


def _check_gzip(heap, offsets, lengths, pixels, bytepix):
    """check_tiles for gzip: the first member must inflate, soundly, to the tile's size."""
    for i in range(len(offsets)):
        offset, length, wanted = offsets[i], lengths[i], pixels[i] * bytepix
        wide = pixels[i] * max(bytepix, 4)
        if pixels[i] < 1 or bytepix < 1:
            reason = TF_BAD_PARAMETER
        elif offset < 0 or length < 0 or offset > len(heap) - length:
            reason = TF_TRUNCATED
        elif length == 0:
            reason = TF_EMPTY
        else:
            stream = zlib.decompressobj(16 + zlib.MAX_WBITS)
            try:
                got = len(stream.decompress(heap[offset:offset + length], wide + 1))
            except zlib.error:
                reason = TF_BAD_CODE
            else:
                if got > wide:
                    reason = TF_OVERRUN
                elif not stream.eof:
                    reason = TF_TRUNCATED
                else:
                    reason = TF_OK if got in (wanted, wide) else TF_WRONG_SIZE
        if reason != TF_OK:
            return i, tf_check_reason(reason).decode()
    return None
