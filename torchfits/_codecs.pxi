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

# ---------------------------------------------------------------------------- quantisation


cdef tf_quantisation _quantisation_of(int method, int64_t zdither0, int64_t tile) except *:
    cdef tf_quantisation q
    if not 0 <= method < <int>TF_DITHER_METHODS:
        raise ValueError(f"unknown method of dithering: {method}")
    memset(&q, 0, sizeof(q))
    q.method = <tf_dither_method>method
    q.zdither0 = zdither0
    q.tile = tile
    return q


def dequantise(
    const unsigned char[::1] numbers not None,
    bint wide,
    int method,
    double scale,
    double zero,
    blank,
    int64_t zdither0=1,
    int64_t tile=0,
):
    """Reals of the host, float or (wide) double, from int32 numbers of the host: those of one tile.

    Method is 0 for NO_DITHER, 1 and 2 for SUBTRACTIVE_DITHER_1 and _2; the number `blank` gives NaN.

    >>> bytes(dequantise(bytes(4), False, 0, 1.0, 0.0, None))
    b'\\x00\\x00\\x00\\x00'
    """
    cdef tf_quantisation q = _quantisation_of(method, zdither0, tile)
    cdef bytearray given = bytearray(numbers)
    cdef size_t n = len(given) // sizeof(int32_t)
    # floats take the place of the numbers
    cdef bytearray reals = bytearray(n * sizeof(double)) if wide else given
    cdef uint8_t *c_given = given
    cdef uint8_t *to = reals
    q.scale = scale
    q.zero = zero
    q.has_blank = blank is not None
    q.blank = blank or 0
    with nogil:
        tf_dequantise(&q, <const int32_t *>c_given, n, wide, to)
    return reals


def quantise(
    const unsigned char[::1] pixels not None,
    bint wide,
    size_t columns,
    float level,
    int method,
    int64_t zdither0=1,
    int64_t tile=0,
):
    """The int32 numbers for a tile of float or (wide) double, their scale and zero; None where it has none.

    >>> quantise(bytes(4 * 100), False, 10, 4.0, 1) is None
    True
    """
    cdef tf_quantisation q = _quantisation_of(method, zdither0, tile)
    cdef tf_noise_guess guess
    cdef bytearray given = bytearray(pixels)
    cdef size_t n = len(given) // (sizeof(double) if wide else sizeof(float))
    if columns == 0 or n % columns != 0:
        raise ValueError(f"{n} pixels are no rows of {columns}")
    cdef bytearray scratch = bytearray(tf_quantise_scratch(wide, columns, n // columns))
    cdef bytearray numbers = bytearray(n * sizeof(int32_t))
    cdef uint8_t *c_given = given
    cdef uint8_t *c_scratch = scratch
    cdef uint8_t *to = numbers
    cdef int failed
    memset(&guess, 0, sizeof(guess))
    with nogil:
        failed = tf_quantise(
            &q, level, c_given, wide, columns, n // columns, &guess, c_scratch, <int32_t *>to
        )
    return None if failed else (numbers, q.scale, q.zero)
