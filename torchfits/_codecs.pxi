# Part of _direct.pyx: the codecs of tile compression.

# ---------------------------------------------------------------------------- streams


def rice_decode(const unsigned char[::1] stream not None, uint64_t count, int width, uint64_t block=32):
    """The `count` numbers of a RICE_1 stream, `width` bytes each, in the byte order of FITS.

    Raises:
        ValueError: The stream is damaged; says how, as the end of a sentence that begins with 'the stream '.

    >>> rice_decode(b"\\x07\\0", 3, 1)
    bytearray(b'\\x07\\x07\\x07')
    """
    cdef bytearray numbers
    cdef uint8_t *to
    cdef const uint8_t *c_stream = &stream[0] if stream.shape[0] else NULL
    cdef size_t size = stream.shape[0]
    cdef const char *wrong
    if tf_rice_least(count, width, block) > size:
        raise ValueError("ends before its numbers do")
    numbers = bytearray(count * width)
    to = numbers
    with nogil:
        wrong = tf_rice_decode(c_stream, size, width, block, to, count)
    if wrong is not NULL:
        raise ValueError(wrong.decode("ascii"))
    return numbers


cdef _check_sides(uint64_t rows, uint64_t columns):
    if rows < 2 or columns < 2 or rows > <uint64_t>INT32_MAX // columns:
        raise ValueError("has sides that HCOMPRESS_1 does not do")


def hcompress_decode(
    const unsigned char[::1] stream not None, uint64_t rows, uint64_t columns, bint smooth=False
):
    """The pixels of an HCOMPRESS_1 stream, int32 in the byte order of the host.

    Raises:
        ValueError: The stream is damaged; says how, as the end of a sentence that begins with 'the compressed
            tile '.

    >>> hcompress_decode(hcompress_encode(b"\\1\\0\\0\\0" * 4, 2, 2), 2, 2) == b"\\1\\0\\0\\0" * 4
    True
    """
    cdef const uint8_t *c_stream = &stream[0] if stream.shape[0] else NULL
    cdef size_t size = stream.shape[0]
    cdef const char *wrong
    _check_sides(rows, columns)
    cdef bytearray pixels = bytearray(4 * rows * columns)
    cdef int32_t *to = <int32_t *><char *>pixels
    cdef void *scratch = PyMem_Malloc(tf_hcompress_decode_scratch(rows, columns))
    if scratch is NULL:
        raise MemoryError
    with nogil:
        wrong = tf_hcompress_decode(c_stream, size, rows, columns, smooth, to, scratch)
    PyMem_Free(scratch)
    if wrong is not NULL:
        raise ValueError(wrong.decode("ascii"))
    return pixels


def hcompress_encode(const unsigned char[::1] pixels not None, uint64_t rows, uint64_t columns, int scale=0):
    """The HCOMPRESS_1 stream of a tile of int32 pixels in the byte order of the host; cfitsio's bytes."""
    _check_sides(rows, columns)
    if <uint64_t>pixels.shape[0] != 4 * rows * columns:
        raise ValueError(f"{pixels.shape[0]} bytes for {rows} x {columns} pixels")
    cdef const int32_t *c_pixels = <const int32_t *>&pixels[0]
    cdef size_t room = tf_hcompress_room(rows, columns)
    cdef int64_t size
    cdef uint8_t *to = <uint8_t *>PyMem_Malloc(room)
    cdef void *scratch = PyMem_Malloc(tf_hcompress_encode_scratch(rows, columns))
    try:
        if to is NULL or scratch is NULL:
            raise MemoryError
        with nogil:
            size = tf_hcompress_encode(c_pixels, rows, columns, scale, to, room, scratch)
        return to[:size]
    finally:
        PyMem_Free(to)
        PyMem_Free(scratch)


def plio_decode(const unsigned char[::1] stream not None, size_t count):
    """The `count` pixels of a PLIO_1 line list, int32 in the byte order of the host.

    Raises:
        ValueError: The list is damaged; says how, as the end of a sentence that begins with 'the compressed
            tile '.
    """
    cdef const uint8_t *c_stream = &stream[0] if stream.shape[0] else NULL
    cdef size_t size = stream.shape[0]
    cdef const char *wrong
    cdef bytearray pixels = bytearray(4 * count)
    cdef int32_t *to = <int32_t *><char *>pixels
    with nogil:
        wrong = tf_plio_decode(c_stream, size, to, count)
    if wrong is not NULL:
        raise ValueError(wrong.decode("ascii"))
    return pixels


def plio_encode(const unsigned char[::1] pixels not None):
    """The PLIO_1 line list of int32 pixels, 0 to 2^24 - 1, in the byte order of the host; else ValueError.

    >>> plio_decode(plio_encode(b"\\1\\0\\0\\0"), 1)
    bytearray(b'\\x01\\x00\\x00\\x00')
    """
    cdef size_t count = pixels.shape[0] // 4
    cdef size_t room = tf_plio_room(count)
    cdef const int32_t *c_pixels = <const int32_t *>&pixels[0] if count else NULL
    cdef int64_t size
    cdef uint8_t *to = <uint8_t *>PyMem_Malloc(room)
    try:
        if to is NULL:
            raise MemoryError
        with nogil:
            size = tf_plio_encode(c_pixels, count, to, room)
        if size < 0:
            raise ValueError("PLIO_1 does pixels from 0 to 2^24 - 1 only")
        return to[:size]
    finally:
        PyMem_Free(to)
