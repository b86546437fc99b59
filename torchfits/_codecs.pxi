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
