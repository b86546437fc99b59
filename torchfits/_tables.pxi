# Part of _direct.pyx: rows of tables, and the programs that choose them.

# ---------------------------------------------------------------------------- tables

cdef list _TABLE_KEYWORDS = [
    sys.intern(tf_table_keyword_name(<tf_table_keyword>i).decode()) for i in range(TF_TABLE_KEYWORDS)
]


def table_cards(bytes header not None):
    """What a header says of a table: by column or axis, 0 for neither, the values by keyword without number.

    None where a keyword of tables comes twice or is spelt oddly, or where only the parser can tell a value.

    >>> table_cards(b"TFIELDS =                    1".ljust(80) + b"TFORM1  = 'D'".ljust(80))
    {0: {'TFIELDS': 1}, 1: {'TFORM': 'D'}}
    """
    cdef const uint8_t *card = header
    cdef const uint8_t *end = card + len(header) // TF_CARD * TF_CARD
    cdef tf_table_keyword keyword = TF_NO_TABLE_KEYWORD
    cdef int number = 0
    cdef dict found = {}, of_number
    while card < end and memcmp(card, b"END     ", 8) != 0:
        # of a text that is carried on, only the parser knows the value
        if keyword != TF_NO_TABLE_KEYWORD and memcmp(card, b"CONTINUE", 8) == 0:
            return None
        keyword = tf_table_keyword_of(card, &number)
        if keyword == TF_ODD_CARD:
            return None
        if keyword != TF_NO_TABLE_KEYWORD:
            value = _value(card) if _is_printable(card) else NotImplemented
            of_number = found.setdefault(number, {})
            if value is NotImplemented or _TABLE_KEYWORDS[keyword] in of_number:
                return None
            of_number[_TABLE_KEYWORDS[keyword]] = value
        card += TF_CARD
    return found


# bytes between rows of which every page is read, however few bytes of a row are asked for
COLLECTED = TF_GAP
# what a cell of a table holds
NUMBERS = TF_NUMBERS
LOGICALS = TF_LOGICALS
BITS = TF_BITS


cdef class _Fields:
    """Fields of a table's rows and the columns that they become, checked against each other, for C."""

    cdef tf_field *field
    cdef int count

    def __cinit__(self, list fields not None, int64_t row_bytes, int64_t places):
        cdef tf_field *f
        cdef Conversion conversion
        cdef int64_t nulls_size
        cdef size_t to, nulls
        self.field = <tf_field *>PyMem_Malloc(max(len(fields), 1) * sizeof(tf_field))
        if self.field is NULL:
            raise MemoryError()
        for kind, offset, count, conversion, (to, size), null, (nulls, nulls_size) in fields:
            f = &self.field[self.count]
            memset(f, 0, sizeof(tf_field))
            f.kind, f.offset, f.count = kind, offset, count
            if f.kind not in (TF_NUMBERS, TF_LOGICALS, TF_BITS) \
                    or (f.kind == TF_NUMBERS) != (conversion is not None):
                raise ValueError("cells that are none")
            if conversion is not None:
                f.conversion = conversion.c
            f.to, f.nulls, f.null = <uint8_t *>to, <uint8_t *>nulls, null
            if f.offset < 0 or f.count < 0 or f.count > 8 * row_bytes \
                    or f.offset + tf_field_width(f) > row_bytes:
                raise ValueError("a field outside the row")
            if places * tf_column_width(f) > size:
                raise ValueError("more rows than memory")
            if nulls and (places * f.count > nulls_size or f.kind == TF_BITS):
                raise ValueError("more rows than memory for their nulls")
            self.count += 1

    def __dealloc__(self):
        PyMem_Free(self.field)


cdef class _Rows:
    """A table's rows in its bytes, and which of them are asked for, checked against each other, for C."""

    cdef tf_rows rows
    cdef _Bytes bytes

    def __cinit__(self, where, int64_t start, int64_t row_bytes, int64_t all_rows, rows, bint mmap):
        cdef size_t address
        cdef int64_t i
        cdef tf_rows *asked = &self.rows
        asked.start, asked.row_bytes, asked.list, asked.first, asked.step = start, row_bytes, NULL, 0, 1
        if isinstance(rows, range):
            asked.first, asked.step, asked.count = rows.start, rows.step, len(rows)
            if asked.count and (asked.first < 0 or asked.step < 1 or rows[-1] >= all_rows):
                raise ValueError("rows that are not there")
        else:
            address, asked.count = rows
            asked.list = <const int64_t *>address
            for i in range(asked.count):
                if not 0 <= asked.list[i] < all_rows:
                    raise ValueError("rows that are not there")
        self.bytes = _Bytes(where, mmap)
        if start < 0 or row_bytes < 1 or all_rows < 0 or asked.count < 0 \
                or (self.bytes.source.size - start) // row_bytes < all_rows:
            raise ValueError("a table of more bytes than there are")


def read_rows(where, int64_t start, int64_t row_bytes, int64_t all_rows, rows, list fields not None,
              int threads, bint mmap):
    """Read fields of some rows of a table into columns.

    Args:
        where, threads, mmap: As in `read_section`.
        start, row_bytes, all_rows: Of the table: offset of the first row, bytes of a row, how many there are.
        rows: A range, or (address, N) of int64: row numbers in any order.
        fields: (NUMBERS, LOGICALS or BITS, offset in the row, elements, Conversion of numbers or None,
            (address, bytes) of the column, the number that is null, (address, bytes) of a byte an element
            that says whether it is null, or (0, 0)) each.

    Raises:
        FitsIOError: The file shrank or changed, or the system refused.
    """
    cdef _Rows asked
    cdef _Fields f
    cdef tf_outcome outcome
    cdef bint is_long
    if mmap and isinstance(where, File):
        # a long list touches most pages, and would take a pread for every few rows
        is_long = not isinstance(rows, range) and <double>TF_GAP * rows[1] > <double>all_rows * row_bytes
        mmap = (<File>where).worth_mapping() or is_long
    asked = _Rows(where, start, row_bytes, all_rows, rows, mmap)
    f = _Fields(fields, row_bytes, asked.rows.count)
    with nogil:
        outcome = tf_read_rows(&asked.bytes.source, &asked.rows, f.field, f.count, threads)
    _check(outcome, "read the table")
    asked.bytes.check_unchanged()


cdef class Collection:
    """Where `select_rows` puts bytes of the rows that pass, to be read from there as rows of a table.

    Args:
        low, width: Which bytes of a row: `width` from `low` on.
        address, size: Of the memory for them.
        order, order_size: Of int64, one for each row that there is memory for: where the rows are in it, one
            after the other as they were asked for.
    """

    cdef tf_collection c

    def __cinit__(self, int64_t low, int64_t width, size_t address, int64_t size, size_t order,
                  int64_t order_size):
        if low < 0 or width < 1 or size < 0 or order_size // 8 < size // width:
            raise ValueError("a collection of nothing, or without memory")
        self.c.low, self.c.width, self.c.room = low, width, size // width
        self.c.bytes, self.c.order = <uint8_t *>address, <int64_t *>order

    @property
    def count(self):
        """How many rows there are, in `order`."""
        return self.c.count

    @property
    def looked_at(self):
        """Of the rows that were asked for last: all that pass among the first of them are here."""
        return self.c.looked_at

    @property
    def is_full(self):
        """Whether there is no room for more."""
        return self.c.used >= self.c.room


def select_rows(where, int64_t start, int64_t row_bytes, int64_t all_rows, rows, list inputs not None,
                Filter filter not None, size_t address, size_t size, int threads, bint mmap,
                Collection collection=None):
    """Find out which of some rows of a table pass a filter.

    Args:
        where, start, row_bytes, all_rows, rows, threads, mmap: As in `read_rows`.
        inputs: What the filter takes of each row: (NUMBERS, LOGICALS or BITS, offset in the row, elements,
            first bit of BITS, Conversion of numbers or None, the number that is NULL or None) each.
        address, size: Of a byte a row: 1 where it passes, else 0.
        collection: Where to put what is asked for of the rows that pass. It takes a range of rows that are
            at most COLLECTED bytes apart.

    Returns:
        How many rows pass.

    Raises:
        FitsIOError: The file shrank or changed, or the system refused.
    """
    cdef _Rows asked
    cdef _Fields f
    cdef tf_outcome outcome
    cdef tf_collection *c = NULL
    cdef int64_t passed = 0
    cdef int i
    if collection is not None:
        c = &collection.c
        if not isinstance(rows, range) or rows.step > TF_GAP // row_bytes or c.low + c.width > row_bytes:
            raise ValueError("rows too far apart to be collected, or a part that they have not")
        # all is read once, of a file that is opened anew too
        mmap = mmap and isinstance(where, File) and (<File>where).worth_mapping()
    asked = _Rows(where, start, row_bytes, all_rows, rows, mmap)
    f = _Fields([(kind, offset, count, conversion, (0, 0), null or 0, (0 if null is None else 1, 0))
                 for kind, offset, count, _, conversion, null in inputs], row_bytes, 0)
    if f.count != filter.f.input_count or <size_t>asked.rows.count != size:
        raise ValueError("not what the filter takes, or not a byte a row")
    for i in range(f.count):
        f.field[i].first_bit = inputs[i][3]
        if f.field[i].first_bit not in range(8) or (f.field[i].first_bit and f.field[i].kind != TF_BITS) \
                or f.field[i].offset + tf_field_width(&f.field[i]) > row_bytes:
            raise ValueError("bits outside the row")
        if tf_column_width(&f.field[i]) != filter.registers[i].width:
            raise ValueError("not what the filter takes")
    with nogil:
        outcome = tf_select_rows(&asked.bytes.source, &asked.rows, f.field, f.count, &filter.f,
                                 <uint8_t *>address, &passed, c, threads)
    _check(outcome, "read the table")
    asked.bytes.check_unchanged()
    return passed


def passed_rows(size_t keep, int64_t rows, size_t address, int64_t count, int64_t first, int64_t step):
    """Fill `count` int64 at `address` with the rows that pass, of `first`, first + step and so on."""
    cdef int64_t *numbers = <int64_t *>address
    cdef int64_t passed, i
    with nogil:
        passed = tf_passed_rows(<const uint8_t *>keep, rows, count, numbers)
        if first != 0 or step != 1:
            for i in range(passed):
                numbers[i] = first + step * numbers[i]
    if passed != count:
        raise ValueError(f"{passed} rows pass, not {count}")


cdef class Heap:
    """Where the arrays of a column of variable length lie, and what their elements become.

    Args:
        start, size: Offset and bytes of the heap.
        kind: NUMBERS, LOGICALS or BITS.
        conversion: Of numbers, or None.
        numbers: How many make one element.
    """

    cdef tf_heap h

    def __cinit__(self, int64_t start, int64_t size, kind, Conversion conversion, int numbers):
        if start < 0 or not 0 <= size < <int64_t>1 << 55 or numbers not in (1, 2) \
                or kind not in (NUMBERS, LOGICALS, BITS) or (kind == NUMBERS) != (conversion is not None):
            raise ValueError("a heap that is none")
        self.h.start, self.h.size, self.h.kind, self.h.numbers = start, size, kind, numbers
        if conversion is not None:
            self.h.conversion = conversion.c

    def check(self, size_t descriptors, int64_t rows, int64_t most, size_t ends):
        """Look at the descriptors of `rows` arrays: int64 (elements, offset in the heap) each, at an address.

        Fills rows + 1 int64 at `ends` with the elements before each array, and of all. Returns the first row
        whose descriptor points outside the heap, -1 where there is none, -2 where the arrays have more than
        `most` elements together.
        """
        cdef int64_t found
        with nogil:
            found = tf_check_descriptors(&self.h, <const int64_t *>descriptors, rows, most, <int64_t *>ends)
        return found

    def read(self, where, size_t descriptors, int64_t rows, size_t ends, size_t address, size_t size,
             int threads, bint mmap):
        """Read the arrays, one after the other, into `size` bytes at `address`; the rest as in `check`.

        Raises:
            FitsIOError: The file shrank or changed, or the system refused.
        """
        cdef _Bytes bytes_ = _Bytes(where, mmap)
        cdef tf_outcome outcome
        cdef int64_t width = 1
        if self.h.kind == TF_NUMBERS:
            width = self.h.numbers * tf_width(self.h.conversion.wanted)
        if self.check(descriptors, rows, size // width, ends) != -1:
            raise ValueError("arrays outside the heap, or more than memory")
        if self.h.start + self.h.size > bytes_.source.size:
            raise ValueError("a heap of more bytes than there are")
        with nogil:
            outcome = tf_read_heap(&bytes_.source, &self.h, <const int64_t *>descriptors,
                                   <const int64_t *>ends, rows, <void *>address, threads)
        _check(outcome, "read the heap")
        bytes_.check_unchanged()


def pack_texts(size_t fields, int64_t size, size_t ends, int64_t width, int64_t count, size_t offsets,
               size_t to):
    """Put the texts of `count` fields of characters one after the other, without what does not count of them.

    Args:
        fields, size: Address and bytes of the fields.
        ends: 0 for fields of `width` bytes; else the address of count + 1 int64, where each field begins.
        offsets: Where count + 1 int64 go: the bytes of the texts before each, and of all.
        to: Where the texts go: `size` bytes, or `fields` itself.

    Returns:
        The first text with a byte that is not ASCII, or -1.
    """
    cdef tf_texts texts
    cdef int64_t i, bad
    texts.from_, texts.ends = <const uint8_t *>fields, <const int64_t *>ends
    texts.width, texts.count = width, count
    if size < 0 or count < 0 or (not ends and (width < 0 or (width and count > size // width))):
        raise ValueError("fields of more bytes than there are")
    if ends:
        if texts.ends[0] < 0 or texts.ends[count] > size:
            raise ValueError("fields outside the bytes")
        for i in range(count):
            if texts.ends[i] > texts.ends[i + 1]:
                raise ValueError("fields that end before they begin")
    with nogil:
        bad = tf_pack_texts(&texts, <int64_t *>offsets, <uint8_t *>to)
    return bad


def end_texts(size_t fields, int64_t size, int64_t width):
    """Put NUL over what does not count of the characters in `size` bytes of fields of `width`."""
    if size < 0 or width < 1:
        raise ValueError("fields of no bytes")
    with nogil:
        tf_end_texts(<uint8_t *>fields, width, size // width)


# ---------------------------------------------------------------------------- row filters


cdef dict _operations():
    cdef const char *types = NULL
    cdef int i = 0
    found = {}
    while tf_filter_operation(i, &types) is not NULL:
        found[tf_filter_operation(i, &types).decode()] = types.decode()
        i += 1
    return found


# what a Filter can do: the name of an operation -> the types of its result and its operands
OPERATIONS = _operations()

cdef dict _NUMBER_OF = {name: i for i, name in enumerate(OPERATIONS)}


cdef class Filter:
    """The program of a row filter, as `torchfits.where` makes it.

    Types are letters: 'b' logical, 'i' int64, 'u' uint64, 'w' integers of 128 bits, 'd' float64, 's' text.
    Registers have numbers: the values of the inputs, their nulls, the constants, the temporaries, at last the
    result.

    Args:
        inputs: (type, bytes of a value) each.
        constants: (type, values) each: one value, or several in rising order, a set. Texts as bytes.
        temporaries: Their types.
        program: (operation, register for the result, first operand, second operand or -1) each.

    Raises:
        ValueError: A program that would do what it must not.
    """

    cdef tf_filter f
    cdef tf_register *registers
    cdef tf_instruction *instructions
    cdef uint8_t *constants

    def __cinit__(self, list inputs not None, list constants not None, str temporaries not None,
                  list program not None):
        cdef Py_ssize_t i, count = 2 * len(inputs) + len(constants) + len(temporaries) + 1
        cdef int64_t scratch = 0
        cdef bytes data
        cdef const char *from_
        if max(count, len(program)) > INT32_MAX:
            raise ValueError("a program beyond all bounds")
        self.registers = <tf_register *>PyMem_Malloc(count * sizeof(tf_register))
        self.instructions = <tf_instruction *>PyMem_Malloc(max(len(program), 1) * sizeof(tf_instruction))
        if self.registers is NULL or self.instructions is NULL:
            raise MemoryError()
        memset(self.registers, 0, count * sizeof(tf_register))
        for i, (kind, width) in enumerate(inputs):
            self.place(i, TF_IN_VALUES, kind, i, width, 1)
            self.place(len(inputs) + i, TF_IN_NULLS, "b", i, 1, 1)
        data, places = _packed(constants)
        for i, (kind, values) in enumerate(constants):
            self.place(2 * len(inputs) + i, TF_IN_CONSTANTS, kind, places[i], _width(kind), len(values))
        for i, kind in enumerate(temporaries):
            self.place(count - 1 - len(temporaries) + i, TF_IN_SCRATCH, kind, scratch, _width(kind), 1)
            scratch += _width(kind) * TF_FILTER_PIECE
        self.place(count - 1, TF_IN_KEEP, "b", 0, 1, 1)
        for i, (name, to, a, b) in enumerate(program):
            self.instructions[i].operation = _NUMBER_OF[name]
            self.instructions[i].to = to
            self.instructions[i].a = a
            self.instructions[i].b = b
        self.constants = <uint8_t *>PyMem_Malloc(max(len(data), 1))
        if self.constants is NULL:
            raise MemoryError()
        from_ = data
        memcpy(self.constants, from_, len(data))
        self.f.registers, self.f.register_count = self.registers, count
        self.f.program, self.f.length = self.instructions, len(program)
        self.f.constants, self.f.constant_bytes = self.constants, len(data)
        self.f.input_count, self.f.scratch_bytes = len(inputs), scratch
        if tf_filter_check(&self.f) != 0:
            raise ValueError("a program that must not run")

    def __dealloc__(self):
        PyMem_Free(self.registers)
        PyMem_Free(self.instructions)
        PyMem_Free(self.constants)

    cdef int place(self, Py_ssize_t i, tf_register_place place, str kind, int64_t at, int64_t width,
                   int64_t count) except -1:
        cdef tf_register *r = &self.registers[i]
        r.place, r.type, r.at, r.width, r.count = place, ord(kind), at, width, count
        return 0

    def evaluate(self, list values not None, list nulls not None, int64_t n):
        """Which of `n` rows pass: a bytearray of 0 and 1.

        Args:
            values: A contiguous buffer of n native values for each input.
            nulls: For each input None, or a buffer of n bytes: 1 for NULL, else 0.
        """
        cdef Py_ssize_t count = self.f.input_count, held = 0, i
        cdef bytearray keep = bytearray(n)
        cdef uint8_t *c_keep = keep
        cdef void *scratch = NULL
        cdef Py_buffer *views = NULL
        cdef const void **pointers = NULL
        if len(values) != count or len(nulls) != count:
            raise ValueError(f"the filter has {count} inputs")
        try:
            views = <Py_buffer *>PyMem_Malloc((2 * count + 1) * sizeof(Py_buffer))
            pointers = <const void **>PyMem_Malloc((2 * count + 1) * sizeof(void *))
            scratch = PyMem_Malloc(tf_filter_scratch_bytes(&self.f))
            if views is NULL or pointers is NULL or scratch is NULL:
                raise MemoryError()
            for i in range(2 * count):
                buffer = values[i] if i < count else nulls[i - count]
                pointers[i] = NULL
                if buffer is None and i >= count:
                    continue
                PyObject_GetBuffer(buffer, &views[held], PyBUF_SIMPLE)
                held += 1
                pointers[i] = views[held - 1].buf
                if views[held - 1].len != n * self.registers[i].width:
                    raise ValueError(f"a buffer of {views[held - 1].len} bytes for {n} rows of "
                                     f"{self.registers[i].width}")
                if self.registers[i].type != b"s" and <size_t>pointers[i] % self.registers[i].width:
                    raise ValueError("a buffer that is not aligned")
            with nogil:
                tf_filter_run(&self.f, pointers, <const uint8_t **>pointers + count, n, scratch, c_keep)
        finally:
            for i in range(held):
                PyBuffer_Release(&views[i])
            PyMem_Free(views)
            PyMem_Free(pointers)
            PyMem_Free(scratch)
        return keep


cdef int64_t _width(str kind) except -1:
    return tf_filter_width(ord(kind))


cdef tuple _packed(list constants):
    """The constants of a program as C takes them, and where each is."""
    formats = {"b": "B", "i": "q", "u": "Q", "d": "d"}
    data, places = bytearray(), []
    for kind, values in constants:
        data += bytes((16 - len(data) % 16) % 16)
        places.append(len(data))
        if kind == "s":
            at = len(data) + (len(values) + 1) * 8
            offsets = [at]
            for text in values:
                offsets.append(offsets[-1] + len(text))
            data += struct.pack(f"={len(offsets)}q", *offsets) + b"".join(values)
        elif kind == "w":
            data += b"".join([value.to_bytes(16, sys.byteorder, signed=True) for value in values])
        else:
            data += struct.pack(f"={len(values)}{formats[kind]}", *values)
    return bytes(data), places
