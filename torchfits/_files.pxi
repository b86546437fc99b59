# Part of _direct.pyx: the HDUs of a file, and one HDU of a file or of many.

# ---------------------------------------------------------------------------- HDUs


cdef struct Found:
    tf_header header
    int64_t start

KINDS = {TF_HDU_IMAGE: "image", TF_HDU_BINTABLE: "bintable", TF_HDU_TABLE: "table", TF_HDU_GROUPS: "groups",
         TF_HDU_FOREIGN: "foreign"}


cdef class HduIndex:
    """The HDUs of a file as far as it was walked, from ordinary header to ordinary header.

    At a header that is not, the walk stops: somebody else reads that one and says by `add` where it was.
    """

    cdef File file
    cdef Found *found
    cdef int64_t room
    cdef tf_head head
    cdef readonly int64_t count
    cdef readonly int64_t next
    cdef readonly bint complete

    def __cinit__(self, File file):
        self.file = file
        self.head = TF_NO_HEAD if file is None else file.take_head()
        self.found = NULL
        self.room = self.count = self.next = 0
        self.complete = False

    def __dealloc__(self):
        PyMem_Free(self.found)
        tf_head_free(&self.head)

    cdef int grow(self) except -1:
        cdef Found *more
        if self.count == self.room:
            more = <Found *>PyMem_Realloc(self.found, (2 * self.room + 8) * sizeof(Found))
            if more is NULL:
                raise MemoryError()
            self.found = more
            self.room = 2 * self.room + 8
        return 0

    cdef bint step(self) except -1:
        """Find one more HDU; false where the walk ends or somebody else must go on."""
        cdef tf_place place
        cdef int error = 0
        cdef Found *found
        if self.complete or self.file is None:
            return False
        self.grow()
        found = &self.found[self.count]
        self.head.fd = self.file.fd
        with nogil:
            place = tf_scan_at(&self.head, self.next, self.count == 0,
                               TF_FIRST_READ if self.count == 0 else TF_BLOCK, &found.header)
            if place == TF_AT_TROUBLE:
                error = c_errno
        if place == TF_AT_TROUBLE:
            raise OSError(error, os.strerror(error))
        if place == TF_AT_END and self.count > 0:
            self.complete = True
        if place != TF_AT_HDU:
            return False
        found.start = self.next
        self.next += found.header.header_bytes
        self.next += (found.header.data_bytes + TF_BLOCK - 1) // TF_BLOCK * TF_BLOCK
        self.count += 1
        return True

    def reach(self, int64_t count):
        """Walk until `count` HDUs are known; whether they are. OSError as the system says."""
        while self.count < count:
            if not self.step():
                return False
        return True

    def find_name(self, bytes name not None, version, int64_t first):
        """The first HDU, from index `first`, of this name in capitals (and version, unless None).

        -1 where the walk came to its end, or to a header that is not ordinary, before there was one.
        """
        cdef tf_which which
        cdef int64_t i = first
        which.index = -1
        which.name = name
        which.name_length = len(name)
        which.any_version = version is None
        which.version = 0 if version is None else version
        while i < self.count or self.step():
            if tf_is_named(&self.found[i].header, &which):
                return i
            i += 1
        return -1

    def add(self, int64_t start, int64_t next):
        """The next HDU was found by somebody else, who knows all about it; the one after it is at `next`."""
        self.grow()
        memset(&self.found[self.count], 0, sizeof(Found))
        self.found[self.count].header.name_length = -1  # equals no name
        self.found[self.count].start = start
        self.count += 1
        self.next = next

    def close(self):
        """Let go of the file; the walk goes no further."""
        self.file = None

    def after_fork(self):
        """In a forked child: a thread that is not here may have been reading into the buffer."""
        self.head = TF_NO_HEAD

    def finish(self):
        """There is no HDU after those that are known."""
        self.complete = True

    def __getitem__(self, int64_t i):
        """What is known of an ordinary HDU.

        (kind, start, start of the data, bytes of data, EXTNAME, EXTVER, whether it holds a compressed image,
        whether its mandatory keywords stand in order, what `layout.ImageLayout` is made of or None).
        """
        cdef tf_header *h
        cdef int k
        if not 0 <= i < self.count:
            raise IndexError(i)
        h = &self.found[i].header
        image = None
        if h.kind == TF_HDU_IMAGE or h.kind == TF_HDU_GROUPS:
            shape = [h.axes[k] for k in range(h.naxis - 1, -1, -1)]
            if h.kind == TF_HDU_GROUPS:  # the groups stand in the place of NAXIS1, which is 0
                shape = [h.gcount, *shape[:-1]] if h.naxis > 1 else [h.gcount, 0]
            blank = h.blank if h.has_blank else None
            image = (h.bitpix, tuple(shape or (0,)), h.scale, h.zero, blank, h.pcount)
        return (KINDS[h.kind], self.found[i].start, self.found[i].start + h.header_bytes, h.data_bytes,
                h.name[:h.name_length].decode("ascii"), h.version, bool(h.compressed), bool(h.orderly), image)


# ---------------------------------------------------------------------------- many files


FILE_DONE = TF_FILE_DONE
FILE_CHANGED = TF_FILE_CHANGED


cdef class _Files:
    """Paths, and which HDU of each, for C."""

    cdef tf_files files
    cdef list paths
    cdef bytes name
    cdef bytearray done
    cdef const char **pointers

    def __cinit__(self, list paths not None, which):
        cdef Py_ssize_t i
        self.paths = paths
        self.done = bytearray(len(paths))
        self.pointers = <const char **>PyMem_Malloc(max(len(paths), 1) * sizeof(char *))
        if self.pointers is NULL:
            raise MemoryError()
        for i in range(len(paths)):
            self.pointers[i] = <bytes?>paths[i]
        self.files.count = len(paths)
        self.files.paths = <const char *const *>self.pointers
        self.files.done = self.done
        self.files.which.any_version = True
        if isinstance(which, int):
            self.files.which.index = which
        else:
            name, version = which
            self.name = name
            self.files.which.index = -1
            self.files.which.name = self.name
            self.files.which.name_length = len(self.name)
            self.files.which.any_version = version is None
            self.files.which.version = 0 if version is None else version

    def __dealloc__(self):
        PyMem_Free(self.pointers)


def read_stack(list paths not None, which, int bitpix, tuple shape not None, Conversion conversion not None,
               bint any_values, list ranges, size_t address, size_t size, int threads):
    """Read the same section of the same plain image HDU of many files, one after the other, to `address`.

    Args:
        paths: bytes each.
        which: Index from 0, or (EXTNAME in capitals as bytes, EXTVER or None).
        bitpix, shape: What the images must be; shape in tensor order.
        conversion: What values must be there, unless `any_values`, and what they become.
        ranges: As in `read_section`.

    Returns:
        A bytearray: FILE_DONE for each file that was read, FILE_CHANGED where it changed meanwhile. The
        others are to be read in another way, which may find out what is wrong with them.
    """
    cdef _Files files = _Files(paths, which)
    cdef tf_stack stack
    cdef int64_t fits_axes[16]
    cdef int i
    if len(shape) > 16:
        return files.done
    stack.bitpix = bitpix
    stack.naxis = len(shape)
    for i, length in enumerate(reversed(shape)):
        fits_axes[i] = length
    stack.axes = fits_axes
    stack.values = conversion.c.values
    stack.any_values = any_values
    stack.wanted = conversion.c.wanted
    stack.to = <uint8_t *>address
    _section(&stack.section, 0, tf_width(conversion.c.stored), shape, 0, ranges)
    if len(paths) * tf_section_pixels(&stack.section) * tf_width(stack.wanted) != size:
        raise ValueError("the stack and the memory differ in size")
    with nogil:
        tf_read_stack(&files.files, &stack, threads)
    return files.done


def read_alone(bytes path not None, index, make not None):
    """All pixels of a plain image of less than SMALL_JOB bytes, of a file that is opened for nothing else.

    Args:
        index: Of the HDU, from 0; None for the first with data.
        make: What gives a tensor of a shape and a code of `TYPES`, its address and its bytes.

    Returns:
        (FILE_DONE, tensor); (FILE_CHANGED, None) where the file changed meanwhile; (0, None) where it is to
        be read in another way, which may find out what is wrong.
    """
    cdef tf_alone alone
    cdef tf_which which
    cdef const char *c_path = path
    cdef tf_done done
    cdef int k
    cdef bint found
    cdef size_t address, size
    which.index, which.name = -1 if index is None else index, NULL
    with nogil:
        found = tf_open_alone(&alone, c_path, &which) == 0
    if not found:
        return TF_NOT_DONE, None
    try:
        shape = tuple([alone.header.axes[k] for k in range(alone.header.naxis - 1, -1, -1)])
        tensor, address, size = make(shape, alone.conversion.wanted)
        if address == 0 or size != alone.header.data_bytes // tf_width(alone.conversion.stored) \
                * tf_width(alone.conversion.wanted):
            raise ValueError("the image and the memory differ in size")
    except BaseException:
        tf_close_alone(&alone)
        raise
    with nogil:
        done = tf_read_alone(&alone, <void *>address)
    return done, tensor if done == TF_FILE_DONE else None


def gather_rows(list paths not None, which, bytes header not None, int64_t row_bytes, list fields not None,
                const int64_t[::1] first not None, const int64_t[::1] rows not None,
                const int64_t[::1] places not None, int threads):
    """Read fields of some rows of the same table HDU of many files.

    Args:
        paths, which: As in `read_stack`.
        header, row_bytes: Of a table whose layout is known; tables laid out in another way stay undone.
        fields: As in `read_rows`.
        first: Of each file, where in `rows` and `places` its own begin; one more at the end.
        rows: Counted from the end where negative.
        places: Which place of the memory each row goes to.

    Returns:
        A bytearray as `read_stack` returns it.
    """
    cdef _Files files = _Files(paths, which)
    cdef tf_gathering g
    cdef const uint8_t *c_header = header
    cdef int64_t largest = -1, k
    cdef _Fields f
    cdef Py_ssize_t i
    if first.shape[0] != len(paths) + 1 or rows.shape[0] != places.shape[0] or first[0] != 0 \
            or first[len(paths)] != rows.shape[0] or row_bytes < 1:
        raise ValueError("rows and places that do not fit the files")
    for i in range(len(paths)):
        if first[i] > first[i + 1]:
            raise ValueError("files whose rows overlap")
    for k in places:
        if k < 0:
            raise ValueError("a place below 0")
        largest = max(largest, k)
    f = _Fields(fields, row_bytes, largest + 1)
    g.header, g.header_bytes, g.row_bytes = c_header, len(header) // TF_CARD * TF_CARD, row_bytes
    g.fields, g.field = f.count, f.field
    g.first = &first[0]
    g.rows = &rows[0] if rows.shape[0] else NULL
    g.places = &places[0] if places.shape[0] else NULL
    with nogil:
        tf_gather_rows(&files.files, &g, threads)
    return files.done


cdef object _number(const uint8_t *at, const uint8_t *end):
    """The number or logical in [at, end) as `header.py` types it; NotImplemented where it is not simple."""
    cdef const uint8_t *p = at
    cdef char text[TF_CARD]
    cdef int64_t n = 0
    cdef int i = 0, digits = 0, fraction = 0, exponent = 0
    if end - at == 1 and (at[0] == c"T" or at[0] == c"F"):
        return at[0] == c"T"
    if p < end and (p[0] == c"+" or p[0] == c"-"):
        p += 1
    while p < end and c"0" <= p[0] <= c"9":
        n = 10 * n + p[0] - c"0" if digits < 18 else n
        digits += 1
        p += 1
    if p == end:
        return NotImplemented if not 0 < digits <= 18 else -n if at[0] == c"-" else n
    if p[0] == c".":
        p += 1
        while p < end and c"0" <= p[0] <= c"9":
            fraction += 1
            p += 1
    if digits + fraction == 0:
        return NotImplemented
    if p < end and (p[0] == c"E" or p[0] == c"D" or p[0] == c"e" or p[0] == c"d"):
        p += 1
        if p < end and (p[0] == c"+" or p[0] == c"-"):
            p += 1
        while p < end and c"0" <= p[0] <= c"9":
            exponent += 1
            p += 1
        if exponent == 0:
            return NotImplemented
    if p != end:
        return NotImplemented
    while at < end:
        text[i] = c"e" if at[0] == c"D" or at[0] == c"d" else at[0]
        i += 1
        at += 1
    text[i] = 0
    return PyOS_string_to_double(text, NULL, NULL)


cdef object _value(const uint8_t *card):
    """The value of a card of 80 bytes, as `header.py` parses it; NotImplemented where that is not simple."""
    cdef const uint8_t *at = card + 10
    cdef const uint8_t *end = card + TF_CARD
    cdef const uint8_t *last
    if card[8] != c"=" or card[9] != c" ":
        return NotImplemented
    while at < end and at[0] == c" ":
        at += 1
    last = at
    if at < end and at[0] == c"'":
        at += 1
        last = at
        while last < end and last[0] != c"'":
            if not 32 <= last[0] <= 126:
                return NotImplemented
            last += 1
        if last == end:
            return NotImplemented
        end = last
        last += 1
        while last < card + TF_CARD and last[0] == c" ":
            last += 1
        if last < card + TF_CARD and last[0] != c"/":
            return NotImplemented
        while end > at and end[-1] == c" ":
            end -= 1
        return at[:end - at].decode("ascii")
    while last < end and last[0] != c"/":
        last += 1
    while last > at and last[-1] == c" ":
        last -= 1
    return None if last == at else _number(at, last)


cdef bint _is_printable(const uint8_t *card) noexcept:
    """Whether a card of 80 bytes is printable ASCII."""
    cdef int i
    for i in range(TF_CARD):
        if not 32 <= card[i] <= 126:
            return False
    return True


def card_value(const unsigned char[::1] header not None, Py_ssize_t at):
    """The value of the card at byte `at` of a header; NotImplemented where only the parser can tell it.

    >>> card_value(b"NAXIS   =                    2 / axes".ljust(80), 0)
    2
    """
    if not 0 <= at <= header.shape[0] - TF_CARD:
        raise ValueError("no card there")
    return _value(&header[at]) if _is_printable(&header[at]) else NotImplemented


def read_cards(list paths not None, which, list keywords not None, int threads):
    """The first cards of some keywords in the same HDU of many files.

    Args:
        paths, which: As in `read_stack`.
        keywords: 8 bytes each, blank-padded.

    Returns:
        (bytearray as `read_stack` returns it; for each keyword a list of a value a file: None where
        the header lacks it, the card's bytes where its value is not simple). The other files are to be looked
        at in another way.
    """
    cdef _Files files = _Files(paths, which)
    cdef bytes names = b"".join(keywords)
    cdef const uint8_t *c_names = names
    cdef bytearray cards = bytearray(len(paths) * len(keywords) * TF_CARD)
    cdef uint8_t *c_cards = cards
    cdef const uint8_t *card
    cdef int count = len(keywords), k
    cdef Py_ssize_t i
    if len(names) != 8 * count:
        raise ValueError("keywords are 8 bytes")
    with nogil:
        tf_read_cards(&files.files, count, c_names, c_cards, threads)
    columns = []
    for k in range(count):
        column = [None] * len(paths)
        for i in range(len(column)):
            card = c_cards + (i * count + k) * TF_CARD
            if files.files.done[i] == TF_FILE_DONE and card[0]:
                value = _value(card)
                column[i] = card[:TF_CARD] if value is NotImplemented else value
        columns.append(column)
    return files.done, columns
