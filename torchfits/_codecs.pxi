# Part of _direct.pyx: the codecs of tile compression.

# ---------------------------------------------------------------------------- streams

RICE_TOGETHER = TF_RICE_TOGETHER


def rice_decode(list streams not None, uint64_t count, int width, uint64_t block=32):
    """The `count` numbers of each of up to RICE_TOGETHER streams, `width` bytes each and the host's.

    Raises:
        ValueError: A stream is damaged; says how, as the end of a sentence that begins with 'the stream '.
            Its `stream` is the index of that one.

    >>> rice_decode([b"\\x07\\0"], 3, 1)
    [bytearray(b'\\x07\\x07\\x07')]
    """
    cdef tf_stream c_streams[TF_RICE_TOGETHER]
    cdef void *to[TF_RICE_TOGETHER]
    cdef const unsigned char[::1] view
    cdef bytearray numbers
    cdef const char *wrong = NULL
    cdef int i, bad = 0, n = len(streams)
    if n > TF_RICE_TOGETHER:
        raise ValueError(f"{n} streams at once; {TF_RICE_TOGETHER} are the most")
    # these keep the streams where they are
    views, found = [memoryview(stream) for stream in streams], []
    for i in range(n):
        view = views[i]
        c_streams[i].bytes = &view[0] if view.shape[0] else NULL
        c_streams[i].size = view.shape[0]
        if tf_rice_least(count, width, block) > c_streams[i].size:
            raise _damaged("ends before its numbers do", i)
    if count > INT64_MAX // 4:
        raise MemoryError(f"no memory for {count} numbers")
    for i in range(n):
        numbers = bytearray(count * width)
        to[i] = <uint8_t *>numbers
        found.append(numbers)
    with nogil:
        wrong = tf_rice_decode(c_streams, n, width, block, to, count, &bad)
    if wrong is not NULL:
        raise _damaged(wrong.decode("ascii"), bad)
    return found


cdef _damaged(how, int which):
    error = ValueError(how)
    error.stream = which
    return error


def rice_encode(const unsigned char[::1] numbers not None, int width, uint64_t block=32):
    """The RICE_1 stream of numbers of `width` bytes, the host's, as cfitsio writes it.

    >>> rice_encode(b"\\x07\\x07\\x07", 1)
    b'\\x07\\x00'
    """
    if width not in (1, 2, 4) or block == 0 or numbers.shape[0] % width:
        raise ValueError(f"{numbers.shape[0]} bytes are no numbers of {width} bytes in blocks of {block}")
    cdef uint64_t n = numbers.shape[0] // width
    cdef size_t room = tf_rice_room(n, width, block)
    cdef bytearray stream = bytearray(room)
    cdef uint8_t *to = stream
    cdef const void *c_numbers = &numbers[0] if n else NULL
    cdef int64_t size
    with nogil:
        size = tf_rice_encode(c_numbers, n, width, block, to, room)
    return bytes(stream[:size])


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


def find_block(const unsigned char[::1] stream not None, uint64_t start):
    """The first bit from `start` where a block of DEFLATE begins, with codes of its own and not the last.

    >>> find_block(b"no stream at all, and none after that", 0) is None
    True
    """
    cdef tf_stream c_stream
    cdef int64_t found
    c_stream.bytes, c_stream.size = &stream[0] if stream.shape[0] else NULL, stream.shape[0]
    with nogil:
        found = tf_find_block(c_stream, start, 8 * c_stream.size)
    return None if found < 0 else found


def gzip_sharing(size_t size, size_t makes, int threads):
    """How `inflate_parts` had better inflate a gzip file that makes so much.

    Returns:
        Its `threads`, 0 where that is left to a library, `part` and `units`.

    >>> gzip_sharing(1 << 19, 1 << 20, threads=8)
    (0, 0, 0)
    """
    cdef tf_sharing sharing = tf_share_gzip(size, makes, threads)
    return sharing.threads, sharing.part, sharing.units


def inflate_parts(const unsigned char[::1] file not None, size_t room, int threads, size_t part,
                  size_t units):
    """The first member of a gzip file, by several threads.

    Args:
        room: As many bytes as it may make.
        part, units: The bytes of the file that a thread takes at a time; how many these may make.

    Returns:
        What it makes, how many bytes of the file it has, how often each thread took a part. No bytes where at
        first no part comes to where the next one begins. None where the member is damaged, makes more, or has
        a check sum of its header.
    """
    cdef size_t taken = 0, made = 0
    if not 1 <= threads <= TF_GZIP_THREADS or not 1 <= part <= 1 << 40 or units > 1 << 40:
        raise ValueError(f"{threads} threads, parts of {part} bytes that make {units}")
    cdef uint8_t[::1] data = _room_for_parts(room)
    cdef tf_sharing sharing
    sharing.threads, sharing.part, sharing.units = threads, part, units
    cdef int turns = _in_parts(file, &sharing, data, room, &taken, &made)
    return None if turns < 0 else (bytes(data[:made]), taken, turns)


cdef _room_for_parts(size_t room):
    if room > <size_t>-1 - TF_INFLATE_SLACK:
        raise MemoryError(f"no memory for {room} bytes")
    return _memory(room + TF_INFLATE_SLACK)


cdef int _in_parts(const unsigned char[::1] file, const tf_sharing *sharing, uint8_t[::1] data, size_t room,
                   size_t *taken, size_t *made) except -2:
    # at least 1, so that there is an address
    cdef uint8_t[::1] scratch = _memory(tf_sharing_scratch(sharing) + 1)
    cdef uint8_t *to = &data[0]
    cdef void *work = &scratch[0]
    cdef tf_stream c_file
    cdef int turns
    c_file.bytes, c_file.size = &file[0] if file.shape[0] else NULL, file.shape[0]
    with nogil:
        turns = tf_inflate_gzip_in_parts(c_file, sharing, work, to, room, taken, made)
    return turns


def inflate_file(const unsigned char[::1] file not None, size_t hint, size_t most, str library=None,
                 int threads=1):
    """What all members of a gzip file make, read-only, or None where that is more than `most` bytes.

    Args:
        hint: How many bytes they seem to make; more than `most` are not taken to be believed.
        library: Of `inflaters`.
        threads: How many may work at a large first member.

    Raises:
        ValueError: The file is damaged, or something else comes after the members.
    """
    cdef size_t size = file.shape[0], taken = 0, made = 0, room = min(hint, most)
    cdef const uint8_t *c_file = &file[0] if size else NULL
    cdef _Inflater inflater = _Inflater(library)
    cdef tf_sharing sharing = tf_share_gzip(size, room, threads)
    cdef tf_inflated result
    cdef uint8_t[::1] data = _room_for_parts(room), more
    cdef uint8_t *to
    # of one that cannot be had so the libraries say why
    if sharing.threads > 1:
        _in_parts(file, &sharing, data, room, &taken, &made)
    while True:
        to = &data[0] if room else NULL
        with nogil:
            result = tf_inflate_file(inflater.c, c_file, size, to, room, &taken, &made)
        if result == TF_INFLATE_BAD:
            raise ValueError("not gzip, or damaged")
        if result == TF_INFLATED:
            return memoryview(data.base)[:made].toreadonly()
        if room == most:
            return None
        room = most if room > most // 2 else 2 * room + 1
        more = _memory(room)
        more[:made] = data[:made]
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


# ---------------------------------------------------------------------------- HCOMPRESS_1 and PLIO_1


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
        wrong = tf_plio_decode(c_stream, size, TF_I32, 0, to, count)
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
