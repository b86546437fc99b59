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


# ---------------------------------------------------------------------------- DEFLATE

# no byte of a stream makes more than so many
DEFLATE_BEST = TF_DEFLATE_BEST


def inflaters():
    """The names of the libraries that inflate in this build, the best first."""
    names, i = [], 0
    while tf_inflater_library(i) is not NULL:
        names.append(tf_inflater_library(i).decode())
        i += 1
    return names


cdef class _Inflater:
    """What inflates, for one call."""

    cdef tf_inflater *c

    def __cinit__(self, str library):
        cdef bytes name
        cdef const char *c_name = NULL
        if library is not None:
            if library not in inflaters():
                raise ValueError(f"no library {library!r}; there are {inflaters()}")
            name = library.encode()
            c_name = name
        self.c = tf_inflater_new(c_name)
        if self.c is NULL:
            raise MemoryError()

    def __dealloc__(self):
        tf_inflater_free(self.c)


def inflate(const unsigned char[::1] stream not None, size_t count, str library=None):
    """The `count` bytes that the first member of a gzip stream makes.

    Raises:
        ValueError: The stream is damaged, or makes more or fewer; says how, as the end of a sentence that
            begins with 'the stream '.
    """
    cdef size_t size = stream.shape[0]
    cdef const uint8_t *c_stream = &stream[0] if size else NULL
    cdef _Inflater inflater = _Inflater(library)
    cdef const char *wrong
    cdef bytes data
    cdef uint8_t *to
    if count // TF_DEFLATE_BEST > size:
        raise ValueError("makes fewer bytes than it should")
    data = PyBytes_FromStringAndSize(NULL, count)
    to = <uint8_t *>PyBytes_AS_STRING(data)
    with nogil:
        wrong = tf_inflate(inflater.c, c_stream, size, to, count)
    if wrong is not NULL:
        raise ValueError(wrong.decode("ascii"))
    return data


def inflate_file(const unsigned char[::1] file not None, size_t hint, size_t most, str library=None):
    """What all members of a gzip file make, or None where that is more than `most` bytes.

    Args:
        hint: How many bytes they seem to make; more than `most` are not taken to be believed.

    Raises:
        ValueError: The file is damaged, or something else comes after the members.
    """
    cdef size_t size = file.shape[0], taken = 0, made = 0, room = min(hint, most)
    cdef const uint8_t *c_file = &file[0] if size else NULL
    cdef _Inflater inflater = _Inflater(library)
    cdef tf_inflated result
    cdef bytes data = PyBytes_FromStringAndSize(NULL, room), more
    cdef uint8_t *to
    while True:
        to = <uint8_t *>PyBytes_AS_STRING(data)
        with nogil:
            result = tf_inflate_file(inflater.c, c_file, size, to, room, &taken, &made)
        if result == TF_INFLATE_BAD:
            raise ValueError("not gzip, or damaged")
        if result == TF_INFLATED:
            return data if made == room else data[:made]
        if room == most:
            return None
        room = most if room > most // 2 else 2 * room + 1
        more = PyBytes_FromStringAndSize(NULL, room)
        memcpy(PyBytes_AS_STRING(more), PyBytes_AS_STRING(data), made)
        data = more


def deflate(const unsigned char[::1] data not None, int level=TF_DEFLATE_LEVEL):
    """One gzip member of `data`, as cfitsio writes it where the level (0 to 9) is 1."""
    cdef size_t size = data.shape[0], room = tf_deflate_room(size)
    cdef const uint8_t *c_data = &data[0] if size else NULL
    cdef bytes stream = PyBytes_FromStringAndSize(NULL, room)
    cdef uint8_t *to = <uint8_t *>PyBytes_AS_STRING(stream)
    cdef int64_t made
    cdef tf_deflater *deflater
    if not 0 <= level <= 9:
        raise ValueError(f"no level {level}; there are 0 to 9")
    deflater = tf_deflater_new(level)
    if deflater is NULL:
        raise MemoryError()
    with nogil:
        made = tf_deflate(deflater, c_data, size, to, room)
        tf_deflater_free(deflater)
    return stream[:made]


def shuffle(const unsigned char[::1] numbers not None, int width):
    """Numbers of `width` bytes in the order of GZIP_2."""
    return _reordered(tf_shuffle, numbers, width)


def unshuffle(const unsigned char[::1] shuffled not None, int width):
    """Numbers of `width` bytes that were in the order of GZIP_2.

    >>> unshuffle(shuffle(b"abcd", 2), 2)
    b'abcd'
    """
    return _reordered(tf_unshuffle, shuffled, width)


cdef bytes _reordered(void (*order)(const uint8_t *, size_t, int, uint8_t *) noexcept nogil,
                      const unsigned char[::1] numbers, int width):
    cdef size_t size = numbers.shape[0]
    cdef const uint8_t *c_numbers = &numbers[0] if size else NULL
    cdef bytes reordered = PyBytes_FromStringAndSize(NULL, size)
    cdef uint8_t *to = <uint8_t *>PyBytes_AS_STRING(reordered)
    if width < 1 or size % width:
        raise ValueError(f"no numbers of {width} bytes")
    with nogil:
        order(c_numbers, size // width, width, to)
    return reordered
