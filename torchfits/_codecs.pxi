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
