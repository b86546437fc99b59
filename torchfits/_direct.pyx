# cython: language_level=3, cdivision=True, autotestdict=False
"""Cython over our own C kernels: files and plain images, into memory that others own, without the GIL."""

import errno
import os
import struct
import sys

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_FillInfo, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from libc.errno cimport errno as c_errno
from libc.stdint cimport INT32_MAX, int64_t, uint8_t, uint64_t
from libc.string cimport memcpy, memset
from posix.unistd cimport close as c_close

from torchfits._kernels cimport (
    PyOS_string_to_double,
    TF_AT_END,
    TF_AT_HDU,
    TF_AT_TROUBLE,
    TF_BITS,
    TF_BF16,
    TF_BLOCK,
    TF_ROOM_FROM,
    TF_BOOL,
    TF_CARD,
    TF_CHANGED,
    TF_DIRECTORY,
    TF_DONE,
    TF_ENDS,
    TF_FILE_CHANGED,
    TF_FILE_DONE,
    TF_FILTER_PIECE,
    TF_F16,
    TF_F32,
    TF_F64,
    TF_GAP,
    TF_HDU_BINTABLE,
    TF_HDU_FOREIGN,
    TF_HDU_GROUPS,
    TF_HDU_IMAGE,
    TF_HDU_TABLE,
    TF_I16,
    TF_I32,
    TF_I64,
    TF_I8,
    TF_LOGICALS,
    TF_IN_CONSTANTS,
    TF_IN_KEEP,
    TF_IN_NULLS,
    TF_IN_SCRATCH,
    TF_IN_VALUES,
    TF_MEMORY,
    TF_NO_HEAD,
    TF_NUMBERS,
    TF_REGULAR,
    TF_REMOVED,
    TF_SPECIAL,
    TF_SYSTEM,
    TF_TYPES,
    TF_U16,
    TF_U32,
    TF_U64,
    TF_U8,
    tf_cast,
    tf_change,
    tf_change_of,
    tf_check_descriptors,
    tf_column_width,
    tf_conversion,
    tf_conversion_of,
    tf_field,
    tf_field_width,
    tf_file_kind,
    tf_end_texts,
    tf_files,
    tf_filter,
    tf_filter_check,
    tf_filter_operation,
    tf_filter_run,
    tf_filter_scratch_bytes,
    tf_filter_width,
    tf_gather_rows,
    tf_gathering,
    tf_guard_install,
    tf_head,
    tf_head_free,
    tf_header,
    tf_heap,
    tf_identify,
    tf_identity,
    tf_instruction,
    tf_is_named,
    tf_map,
    tf_memory_clear,
    tf_memory_give,
    tf_memory_kept,
    tf_memory_take,
    tf_open,
    tf_outcome,
    tf_pack_texts,
    tf_place,
    tf_planes,
    tf_pread,
    tf_processor_quota,
    tf_read_cards,
    tf_read_cutouts,
    tf_read_heap,
    tf_read_rows,
    tf_read_section,
    tf_passed_rows,
    tf_read_stack,
    tf_select_rows,
    tf_register,
    tf_register_place,
    tf_scan_at,
    tf_rice_decode,
    tf_rice_least,
    tf_room,
    tf_rows,
    tf_section,
    tf_section_add,
    tf_section_begin,
    tf_section_end,
    tf_section_is_scattered,
    tf_section_pixels,
    tf_source,
    tf_stack,
    tf_texts,
    tf_type,
    tf_unmap,
    tf_use_variant,
    tf_variant_name,
    tf_which,
    tf_width,
    tf_windows,
    tf_windows_reach_outside,
)

from torchfits.errors import FitsIOError, os_error

# the numbers by which the kernels know element types; the names are torch's
TYPES = {
    "bool": TF_BOOL,
    "uint8": TF_U8,
    "int8": TF_I8,
    "uint16": TF_U16,
    "int16": TF_I16,
    "uint32": TF_U32,
    "int32": TF_I32,
    "uint64": TF_U64,
    "int64": TF_I64,
    "float16": TF_F16,
    "bfloat16": TF_BF16,
    "float32": TF_F32,
    "float64": TF_F64,
}

# ---------------------------------------------------------------------------- what the machine offers


def variants():
    """The names of the kernels' variants that this machine can run, the best one first."""
    names, i = [], 0
    while tf_variant_name(i) is not NULL:
        names.append(tf_variant_name(i).decode())
        i += 1
    return names


def use_variant(str name not None):
    """Use one variant of the kernels from now on, in all threads; ValueError where there is none."""
    if tf_use_variant(name.encode()) != 0:
        raise ValueError(f"no variant {name!r}; there are {variants()}")


def processor_quota():
    """How many processors the control group of this process may use, rounded up; 0 for no limit."""
    return tf_processor_quota()


def cast(int to_type, size_t to, int from_type, size_t from_, size_t n):
    """Convert `n` numbers at address `from_` to another type at `to`."""
    if not 0 <= to_type < TF_TYPES or from_type in (TF_F16, TF_BF16) or not TF_BOOL < from_type < TF_TYPES:
        raise ValueError("no such conversion")
    with nogil:
        tf_cast(<tf_type>to_type, <void *>to, <tf_type>from_type, <const void *>from_, n)


# ---------------------------------------------------------------------------- memory

# from so many bytes on a Block is better than what malloc gives
BLOCK_FROM = TF_ROOM_FROM


cdef class Block:
    """Writable memory of `size` bytes (from BLOCK_FROM) for one tensor, by the buffer protocol; any content.

    It lies on huge pages. When the last user lets go, the memory is kept for the next Block of about its
    size: up to 1 GiB, or an eighth of the machine's memory, of which the system may take back three quarters
    when it is short.
    """

    cdef tf_room room
    cdef size_t size

    def __cinit__(self, size_t size):
        if size < TF_ROOM_FROM:
            raise ValueError(f"a Block of {size} bytes: malloc serves these better")
        self.room = tf_memory_take(size)
        if self.room.start is NULL:
            raise MemoryError(f"no memory for {size} bytes")
        self.size = size

    def __dealloc__(self):
        if self.room.start is not NULL:
            tf_memory_give(self.room)

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        PyBuffer_FillInfo(buffer, self, self.room.start, self.size, False, flags)


def memory_kept():
    """Bytes of memory that wait for the next tensor."""
    return tf_memory_kept()


def memory_clear():
    """Give back to the system what is kept for the next tensors."""
    tf_memory_clear()


# ---------------------------------------------------------------------------- files


cdef class File:
    """A regular file, open for reading by position, from any thread and after a fork.

    Whoever reads holds a reference, so that nothing is closed or unmapped under a reader's hands: the
    descriptor and the mapping go with the object.

    Args:
        path: As the operating system takes it.

    Raises:
        OSError: As the operating system says; for anything but a regular file too.
    """

    cdef int fd
    cdef tf_identity same
    cdef const uint8_t *mapping
    cdef bint mapping_refused
    cdef bint rows_were_read

    def __cinit__(self, bytes path not None):
        cdef const char *name = path
        cdef tf_file_kind kind = TF_SPECIAL
        cdef int error = 0
        self.fd = -1
        with nogil:
            self.fd = tf_open(name)
            if self.fd < 0 or tf_identify(self.fd, &self.same, &kind) != 0:
                error = c_errno
        if error:
            raise OSError(error, os.strerror(error))
        if kind == TF_DIRECTORY:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if kind != TF_REGULAR:
            raise OSError(errno.EINVAL, "not a regular file")

    def __dealloc__(self):
        if self.mapping is not NULL:
            tf_unmap(self.mapping, self.same.size)
        if self.fd >= 0:
            c_close(self.fd)

    @property
    def identity(self):
        """(device, inode, size, mtime in ns), as they were when it was opened."""
        return self.same.device, self.same.inode, self.same.size, self.same.mtime_ns

    @property
    def size(self):
        """Bytes, as they were when it was opened."""
        return self.same.size

    def read(self, int64_t offset, int64_t count):
        """Up to `count` bytes from `offset`; fewer only where the file ends. OSError as the system says."""
        cdef int64_t there = max(0, min(count, self.same.size - offset))
        cdef bytes data = b""
        cdef tf_outcome outcome
        cdef uint8_t *to
        if there == 0 or offset < 0:
            return data
        data = PyBytes_FromStringAndSize(NULL, there)
        to = <uint8_t *>PyBytes_AS_STRING(data)
        with nogil:
            outcome.what = TF_DONE
            tf_pread(self.fd, to, there, offset, &outcome)
        if outcome.what == TF_ENDS:
            return data[:outcome.offset - offset]
        if outcome.what == TF_SYSTEM:
            raise OSError(outcome.error, os.strerror(outcome.error))
        return data

    def check_unchanged(self):
        """FitsIOError where the file changed in size or time, or lost its last name, since it was opened."""
        cdef tf_change change
        with nogil:
            change = tf_change_of(self.fd, &self.same)
        if change == TF_CHANGED:
            raise FitsIOError("the file changed since it was opened")
        if change == TF_REMOVED:
            raise FitsIOError("the file was removed or replaced since it was opened")

    cdef bint worth_mapping(self):
        """Whether rows one after the other are better had from a mapping than by preads.

        They are where it is there already: touching a new one for the first time takes longer. So it is made
        when rows are read once more.
        """
        again = self.rows_were_read
        self.rows_were_read = True
        return again or self.mapping is not NULL

    cdef const uint8_t *map(self) except? NULL:
        """The mapping, made at the first call under the GIL; NULL where there is none to be had."""
        if self.mapping is NULL and not self.mapping_refused:
            self.mapping = tf_map(self.fd, self.same.size)
            self.mapping_refused = self.mapping is NULL
        if self.mapping is not NULL and tf_guard_install() != 0:
            raise OSError(c_errno, os.strerror(c_errno))
        return self.mapping


cdef int _check(tf_outcome outcome, str doing) except -1:
    """FitsIOError, or MemoryError, where reading came to a bad end."""
    if outcome.what == TF_DONE:
        return 0
    if outcome.what == TF_MEMORY:
        raise MemoryError(f"no memory to {doing}")
    offset = None if outcome.offset < 0 else outcome.offset
    if outcome.what == TF_ENDS:
        raise FitsIOError(f"cannot {doing}: the file shrank since it was opened", offset=offset)
    error = os_error(OSError(outcome.error, os.strerror(outcome.error)), f"cannot {doing}")
    error.offset = offset
    raise error


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


cdef int _section(tf_section *section, int64_t start, int64_t width, axes) except -1:
    cdef int64_t first, count, step, pitch
    tf_section_begin(section, start, width)
    for first, count, step, pitch in axes:
        if first < 0 or count < 1 or step < 1 or pitch < 1:
            raise ValueError("a section that is none")
        if tf_section_add(section, first * pitch, count, step * pitch) != 0:
            raise ValueError("a section of too many axes")
    return 0


def read_section(where, Conversion conversion not None, int64_t start, axes, size_t address, size_t size,
                 int threads, bint mmap):
    """Read a section of an array into `size` bytes at `address`.

    Args:
        where: A File, or bytes-like.
        conversion: What the pixels become.
        start: Offset of the array's first pixel.
        axes: (first, count, step, pitch in bytes) each, in tensor order.
        threads: At most so many.
        mmap: A mapping of the file may serve.

    Raises:
        FitsIOError: The file shrank or changed, or the system refused.
    """
    cdef tf_section section
    cdef int64_t width = tf_width(conversion.c.stored)
    cdef tf_outcome outcome
    cdef _Bytes bytes_
    _section(&section, start, width, axes)
    if tf_section_pixels(&section) * tf_width(conversion.c.wanted) != size:
        raise ValueError("the section and the memory differ in size")
    bytes_ = _Bytes(where, mmap and tf_section_is_scattered(&section, width))
    if start < 0 or tf_section_end(&section, width) > bytes_.source.size:
        raise ValueError("a section of more bytes than there are")
    with nogil:
        outcome = tf_read_section(&bytes_.source, &conversion.c, &section, <void *>address, threads)
    _check(outcome, "read the image")
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


# ---------------------------------------------------------------------------- tables

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
    if mmap and isinstance(where, File) and isinstance(rows, range):
        mmap = (<File>where).worth_mapping()
    asked = _Rows(where, start, row_bytes, all_rows, rows, mmap)
    f = _Fields(fields, row_bytes, asked.rows.count)
    with nogil:
        outcome = tf_read_rows(&asked.bytes.source, &asked.rows, f.field, f.count, threads)
    _check(outcome, "read the table")
    asked.bytes.check_unchanged()


def select_rows(where, int64_t start, int64_t row_bytes, int64_t all_rows, rows, list inputs not None,
                Filter filter not None, size_t address, size_t size, int threads, bint mmap):
    """Find out which of some rows of a table pass a filter.

    Args:
        where, start, row_bytes, all_rows, rows, threads, mmap: As in `read_rows`.
        inputs: What the filter takes of each row: (NUMBERS, LOGICALS or BITS, offset in the row, elements,
            first bit of BITS, Conversion of numbers or None, the number that is NULL or None) each.
        address, size: Of a byte a row: 1 where it passes, else 0.

    Returns:
        How many rows pass.

    Raises:
        FitsIOError: The file shrank or changed, or the system refused.
    """
    cdef _Rows asked = _Rows(where, start, row_bytes, all_rows, rows, mmap)
    cdef _Fields f
    cdef tf_outcome outcome
    cdef int64_t passed = 0
    cdef int i
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
                                 <uint8_t *>address, &passed, threads)
    _check(outcome, "read the table")
    asked.bytes.check_unchanged()
    return passed


def passed_rows(size_t keep, int64_t rows, size_t address, int64_t count):
    """Fill `count` int64 at `address` with the places, from 0, of the ones among the bytes at `keep`."""
    cdef int64_t passed
    with nogil:
        passed = tf_passed_rows(<const uint8_t *>keep, rows, count, <int64_t *>address)
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
        self.head = TF_NO_HEAD
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
                               2 * TF_BLOCK if self.count == 0 else TF_BLOCK, &found.header)
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
        whether its mandatory keywords stand in order, (BITPIX, axes in FITS order, PCOUNT, GCOUNT, BSCALE,
        BZERO, BLANK)).
        """
        cdef tf_header *h
        if not 0 <= i < self.count:
            raise IndexError(i)
        h = &self.found[i].header
        axes = tuple([h.axes[k] for k in range(h.naxis)])
        return (KINDS[h.kind], self.found[i].start, self.found[i].start + h.header_bytes, h.data_bytes,
                h.name[:h.name_length].decode("ascii"), h.version, bool(h.compressed),
                bool(h.orderly),
                (h.bitpix, axes, h.pcount, h.gcount, h.scale, h.zero, h.blank if h.has_blank else None))


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


def read_stack(list paths not None, which, int bitpix, shape, Conversion conversion not None, bint any_values,
               axes, size_t address, size_t size, int threads):
    """Read the same section of the same plain image HDU of many files, one after the other, to `address`.

    Args:
        paths: bytes each.
        which: Index from 0, or (EXTNAME in capitals as bytes, EXTVER or None).
        bitpix, shape: What the images must be; shape in tensor order.
        conversion: What values must be there, unless `any_values`, and what they become.
        axes: As in `read_section`.

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
    _section(&stack.section, 0, tf_width(conversion.c.stored), axes)
    if len(paths) * tf_section_pixels(&stack.section) * tf_width(stack.wanted) != size:
        raise ValueError("the stack and the memory differ in size")
    with nogil:
        tf_read_stack(&files.files, &stack, threads)
    return files.done


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


def card_value(const unsigned char[::1] header not None, Py_ssize_t at):
    """The value of the card at byte `at` of a header; NotImplemented where only the parser can tell it.

    >>> card_value(b"NAXIS   =                    2 / axes".ljust(80), 0)
    2
    """
    cdef int i
    if not 0 <= at <= header.shape[0] - TF_CARD:
        raise ValueError("no card there")
    for i in range(TF_CARD):
        if not 32 <= header[at + i] <= 126:
            return NotImplemented
    return _value(&header[at])


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
