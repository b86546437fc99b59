# Part of _direct.pyx: sections and windows of images.

# ---------------------------------------------------------------------------- images


cdef class Conversion:
    """How the stored pixels of an image become tensor elements.

    Args:
        bitpix, scale, zero, blank: BITPIX, BSCALE, BZERO and BLANK (None where there is none); 1, 0 and None
            for the stored numbers.
        wanted: Of `TYPES`.
    """

    cdef tf_conversion c

    def __cinit__(self, int bitpix, double scale, double zero, blank, int wanted):
        if not 0 <= wanted < TF_TYPES:
            raise ValueError("no such type")
        cdef int64_t null = 0 if blank is None else blank
        if tf_conversion_of(&self.c, bitpix, scale, zero, blank is not None, null) != 0:
            raise ValueError(f"no BITPIX {bitpix}")
        self.c.wanted = <tf_type>wanted


cdef class _Bytes:
    """Where an image's bytes are, kept alive while they are read."""

    cdef tf_source source
    cdef File file
    cdef const uint8_t[::1] memory

    def __cinit__(self, where, bint mapped):
        self.source.warm = False
        if isinstance(where, File):
            self.file = where
            self.source.fd = self.file.fd
            self.source.bytes = self.file.map() if mapped else NULL
            self.source.mapped = self.source.bytes is not NULL
            self.source.size = self.file.same.size
        else:
            self.memory = where
            self.source.fd = -1
            self.source.size = self.memory.shape[0]
            self.source.bytes = &self.memory[0] if self.source.size else NULL

    cdef int check_unchanged(self) except -1:
        # what was read while somebody wrote must not be taken for the image
        if self.file is not None:
            self.file.check_unchanged()
        return 0


cdef int _section(tf_section *section, int64_t start, int64_t width, tuple shape, int64_t gap,
                  list ranges) except -1:
    cdef int64_t pitch[TF_SECTION_AXES]
    cdef int64_t first = 0, count, step = 1, bytes_ = width
    cdef int axes = len(shape), i
    if axes > TF_SECTION_AXES or ranges is not None and len(ranges) != axes:
        raise ValueError("a section of too many or too few axes")
    for i in range(axes - 1, -1, -1):
        count = shape[i]
        if count < 1 or gap < 0 or bytes_ > (INT64_MAX - gap) // count:
            raise ValueError("an array that is none")
        pitch[i] = bytes_ if i else bytes_ + gap
        bytes_ *= count
    tf_section_begin(section, start, width)
    for i in range(axes):
        count = shape[i]
        if ranges is not None:
            axis = ranges[i]
            if axis.start < 0 or axis.step < 1 or not axis or axis[-1] >= count:
                raise ValueError("a section that is none")
            first, count, step = axis.start, len(axis), axis.step
        # there are no more axes than a section has
        tf_section_add(section, first * pitch[i], count, step * pitch[i])
    return 0


cdef int _part(tf_part *part, where, Conversion conversion, int64_t start, tuple shape, int64_t gap,
               list ranges, size_t address, size_t size, bint again) except -1:
    """All of a section but its source, which may be a warm mapping where a File is read again."""
    cdef int64_t width = tf_width(conversion.c.stored), stored
    part.conversion = conversion.c
    part.to = <void *>address
    _section(&part.section, start, width, shape, gap, ranges)
    if tf_section_pixels(&part.section) * tf_width(conversion.c.wanted) != size:
        raise ValueError("the section and the memory differ in size")
    stored = tf_section_end(&part.section, width) - start
    part.source.warm = again and TF_WARM_LEAST <= stored <= TF_WARM_MOST and isinstance(where, File) \
        and (<File>where).tells_residence()
    return 0


cdef int _locate(tf_part *part, const tf_source *source, int64_t start, bint scattered) except -1:
    """Give a section its source, which must have its bytes: a mapping where it is warm or is scattered."""
    cdef int64_t end = tf_section_end(&part.section, tf_width(part.conversion.stored))
    cdef bint warm = part.source.warm
    if start < 0 or end > source.size:
        raise ValueError("a section of more bytes than there are")
    part.source = source[0]
    part.source.warm = warm and tf_is_resident(source, start, end - start)
    if source.mapped and not part.source.warm and not scattered:
        # page by page from the disk a mapping is slow
        part.source.bytes, part.source.mapped = NULL, False
    return 0


def read_section(where, Conversion conversion not None, int64_t start, tuple shape not None, int64_t gap,
                 list ranges, size_t address, size_t size, int threads, bint mmap, bint again):
    """Read a section of an array into `size` bytes at `address`.

    Args:
        where: A File, or bytes-like.
        conversion: What the pixels become.
        start: Offset of the array's first pixel.
        shape: Of the array, in tensor order.
        gap: Bytes between one item of the first axis and the next that are none of the array's.
        ranges: A range per axis, not empty, steps from 1; None for all.
        threads: At most so many.
        mmap: A mapping of the file may serve.
        again: The same was read before, in whichever way.

    Raises:
        FitsIOError: The file shrank or changed, or the system refused.
    """
    cdef int64_t width = tf_width(conversion.c.stored)
    cdef tf_part part
    cdef tf_outcome outcome
    cdef bint scattered
    cdef _Bytes bytes_
    _part(&part, where, conversion, start, shape, gap, ranges, address, size, mmap and again)
    scattered = mmap and tf_section_is_scattered(&part.section, width)
    bytes_ = _Bytes(where, part.source.warm or scattered)
    _locate(&part, &bytes_.source, start, scattered)
    with nogil:
        outcome = tf_read_section(&part.source, &part.conversion, &part.section, part.to, threads)
    _check(outcome, "read the image")
    bytes_.check_unchanged()


def read_images(where, list images not None, int threads, bint mmap):
    """Read many arrays of a file, whole, small ones: each by one thread.

    Args:
        where, threads, mmap: As in `read_section`.
        images: (conversion, start, shape, gap, address, size, again) of each, as there.

    Raises:
        FitsIOError: The file shrank or changed, or the system refused.
    """
    cdef tf_outcome outcome
    cdef Py_ssize_t count = len(images), i
    cdef bint mapped = False
    cdef _Bytes bytes_
    cdef tf_part *parts = <tf_part *>PyMem_Malloc(max(count, 1) * sizeof(tf_part))
    if parts is NULL:
        raise MemoryError()
    try:
        for i in range(count):
            conversion, start, shape, gap, address, size, again = images[i]
            _part(&parts[i], where, <Conversion?>conversion, start, <tuple?>shape, gap, None, address, size,
                  mmap and again)
            mapped = mapped or parts[i].source.warm
        bytes_ = _Bytes(where, mapped)
        for i in range(count):
            _locate(&parts[i], &bytes_.source, images[i][1], False)
        with nogil:
            outcome = tf_read_parts(&bytes_.source, parts, count, threads)
    finally:
        PyMem_Free(parts)
    _check(outcome, "read the images")
    bytes_.check_unchanged()


def read_cutouts(where, Conversion conversion not None, planes, corners, window, fill,
                 size_t address, size_t size, int threads, bint mmap):
    """Read windows of an image, or of every plane of a cube, into `size` bytes at `address`.

    Args:
        where, conversion, threads, mmap: As in `read_section`.
        planes: (offset of the first pixel, planes, rows, columns).
        corners: (address, N) of int64 pairs: row and column of each window's first pixel.
        window: (rows, columns).
        fill: The bytes of an element for the pixels outside, or None where there must be none.

    Returns:
        False where `fill` is None and a window reaches outside: then nothing was read.

    Raises:
        FitsIOError: The file shrank or changed, or the system refused.
    """
    cdef tf_planes image
    cdef tf_windows windows
    cdef tf_outcome outcome
    cdef int64_t width = tf_width(conversion.c.stored)
    cdef uint64_t element = 0
    cdef bytes fill_bytes = b"" if fill is None else fill
    cdef _Bytes bytes_
    image.start, image.planes, image.rows, image.columns = planes
    windows.rows, windows.columns = window
    windows.count = corners[1]
    windows.corners = <const int64_t *><size_t>corners[0]
    memcpy(&element, <const char *>fill_bytes, min(len(fill_bytes), 8))
    windows.fill = &element
    if windows.count < 0 or min(image.start, image.planes, image.rows, image.columns) < 0 \
            or windows.rows < 1 or windows.columns < 1:
        raise ValueError("cutouts that are none")
    if windows.count * image.planes * windows.rows * windows.columns * tf_width(conversion.c.wanted) != size:
        raise ValueError("the windows and the memory differ in size")
    if fill is None and tf_windows_reach_outside(&image, &windows):
        return False
    bytes_ = _Bytes(where, mmap and (image.columns - windows.columns) * width > TF_GAP)
    if image.start + image.planes * image.rows * image.columns * width > bytes_.source.size:
        raise ValueError("an image of more bytes than there are")
    with nogil:
        outcome = tf_read_cutouts(&bytes_.source, &conversion.c, &image, &windows, <void *>address, threads)
    _check(outcome, "read the cutouts")
    bytes_.check_unchanged()
    return True
