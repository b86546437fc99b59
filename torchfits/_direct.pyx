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
from libc.stdint cimport INT32_MAX, INT64_MAX, int32_t, int64_t, uint8_t, uint64_t
from libc.string cimport memcmp, memcpy, memset
from posix.unistd cimport close as c_close

from torchfits._kernels cimport (
    PyOS_string_to_double,
    TF_AT_END,
    TF_AT_HDU,
    TF_AT_TROUBLE,
    TF_BF16,
    TF_BITS,
    TF_BLOCK,
    TF_BOOL,
    TF_CARD,
    TF_CHANGED,
    TF_DEFLATE_BEST,
    TF_DEFLATE_LEVEL,
    TF_DIRECTORY,
    TF_DITHER_METHODS,
    TF_DONE,
    TF_ENDS,
    TF_F16,
    TF_F32,
    TF_F64,
    TF_FILE_CHANGED,
    TF_FILE_DONE,
    TF_FILTER_PIECE,
    TF_FIRST_READ,
    TF_GAP,
    TF_GZIP_1,
    TF_GZIP_2,
    TF_GZIP_THREADS,
    TF_HCOMPRESS_1,
    TF_HCOMPRESS_SIDE_MAX,
    TF_HDU_BINTABLE,
    TF_HDU_FOREIGN,
    TF_HDU_GROUPS,
    TF_HDU_IMAGE,
    TF_HDU_TABLE,
    TF_I16,
    TF_I32,
    TF_I64,
    TF_I8,
    TF_INFLATED,
    TF_INFLATE_BAD,
    TF_INFLATE_SLACK,
    TF_IN_CONSTANTS,
    TF_IN_KEEP,
    TF_IN_NULLS,
    TF_IN_SCRATCH,
    TF_IN_VALUES,
    TF_LOGICALS,
    TF_MEMORY,
    TF_NOCOMPRESS,
    TF_NOT_DONE,
    TF_NO_DITHER,
    TF_NO_HEAD,
    TF_NO_TABLE_KEYWORD,
    TF_NUMBERS,
    TF_ODD_CARD,
    TF_PLIO_1,
    TF_REGULAR,
    TF_REMOVED,
    TF_RICE_1,
    TF_RICE_TOGETHER,
    TF_ROOM_FROM,
    TF_SECTION_AXES,
    TF_SMALL_JOB,
    TF_SPECIAL,
    TF_SUBTRACTIVE_DITHER_1,
    TF_SUBTRACTIVE_DITHER_2,
    TF_SYSTEM,
    TF_TABLE_KEYWORDS,
    TF_TILE_AXES,
    TF_TYPES,
    TF_U16,
    TF_U32,
    TF_U64,
    TF_U8,
    TF_WARM_LEAST,
    TF_WARM_MOST,
    tf_alone,
    tf_cast,
    tf_change,
    tf_change_of,
    tf_check_descriptors,
    tf_close_alone,
    tf_codec,
    tf_collection,
    tf_column_width,
    tf_conversion,
    tf_conversion_of,
    tf_convert,
    tf_deflate,
    tf_deflate_room,
    tf_deflater,
    tf_deflater_free,
    tf_deflater_new,
    tf_dequantise,
    tf_dither_method,
    tf_done,
    tf_encode_tiles,
    tf_encoded_free,
    tf_encoded_image,
    tf_encoded_row_bytes,
    tf_encoding_room,
    tf_end_texts,
    tf_field,
    tf_field_width,
    tf_file_kind,
    tf_files,
    tf_fill,
    tf_filter,
    tf_filter_check,
    tf_filter_operation,
    tf_filter_run,
    tf_filter_scratch_bytes,
    tf_filter_width,
    tf_find_block,
    tf_gather_rows,
    tf_gathering,
    tf_guard_install,
    tf_hcompress_decode,
    tf_hcompress_decode_scratch,
    tf_hcompress_encode,
    tf_hcompress_encode_scratch,
    tf_hcompress_room,
    tf_head,
    tf_head_fetch,
    tf_head_free,
    tf_header,
    tf_heap,
    tf_identify,
    tf_identity,
    tf_inflate,
    tf_inflate_file,
    tf_inflate_gzip_in_parts,
    tf_inflated,
    tf_inflater,
    tf_inflater_free,
    tf_inflater_library,
    tf_inflater_new,
    tf_instruction,
    tf_is_named,
    tf_is_resident,
    tf_map,
    tf_memory_clear,
    tf_memory_give,
    tf_memory_kept,
    tf_memory_take,
    tf_noise_guess,
    tf_open,
    tf_open_alone,
    tf_outcome,
    tf_pack_texts,
    tf_part,
    tf_passed_rows,
    tf_place,
    tf_planes,
    tf_plio_decode,
    tf_plio_encode,
    tf_plio_room,
    tf_pread,
    tf_processor_quota,
    tf_put_rows,
    tf_quantisation,
    tf_quantise,
    tf_quantise_scratch,
    tf_read_alone,
    tf_read_cards,
    tf_read_cutouts,
    tf_read_heap,
    tf_read_parts,
    tf_read_rows,
    tf_read_section,
    tf_read_stack,
    tf_read_tiles,
    tf_register,
    tf_register_place,
    tf_reserve,
    tf_rice_decode,
    tf_rice_encode,
    tf_rice_least,
    tf_rice_room,
    tf_room,
    tf_rows,
    tf_scan_at,
    tf_section,
    tf_section_add,
    tf_section_begin,
    tf_section_end,
    tf_section_is_scattered,
    tf_section_pixels,
    tf_select_rows,
    tf_share_gzip,
    tf_sharing,
    tf_sharing_scratch,
    tf_shuffle,
    tf_source,
    tf_stack,
    tf_stream,
    tf_stream_column,
    tf_table_keyword,
    tf_table_keyword_name,
    tf_table_keyword_of,
    tf_tells_residence,
    tf_texts,
    tf_tile_cache,
    tf_tile_cache_free,
    tf_tile_cache_info,
    tf_tile_cache_new,
    tf_tile_cache_numbers,
    tf_tile_cache_shrink,
    tf_tile_encoding,
    tf_tile_keeping,
    tf_tile_number,
    tf_tile_trouble,
    tf_tile_windows,
    tf_tiles_of,
    tf_tiling,
    tf_type,
    tf_unmap,
    tf_unshuffle,
    tf_use_variant,
    tf_variant_name,
    tf_which,
    tf_width,
    tf_windows,
    tf_windows_reach_outside,
)

from torchfits.errors import FitsFormatError, FitsIOError, os_error

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


def reserve(int fd, int64_t start, int64_t size):
    """Ask for the room of bytes that will be written to a file; a hint."""
    with nogil:
        tf_reserve(fd, start, size)


def cast(int to_type, size_t to, int from_type, size_t from_, size_t n):
    """Convert `n` numbers at address `from_` to another type at `to`."""
    if not 0 <= to_type < TF_TYPES or from_type in (TF_F16, TF_BF16) or not TF_BOOL < from_type < TF_TYPES:
        raise ValueError("no such conversion")
    with nogil:
        tf_cast(<tf_type>to_type, <void *>to, <tf_type>from_type, <const void *>from_, n)


def to_file_order(int type, size_t to, size_t from_, size_t n):
    """Write `n` numbers at address `from_` to `to` with their most significant bytes first."""
    cdef tf_conversion c
    if not 0 <= type < TF_TYPES:
        raise ValueError("no such type")
    memset(&c, 0, sizeof(c))
    c.stored = c.values = c.wanted = <tf_type>type
    with nogil:
        # what swaps bytes one way swaps them the other way too
        tf_convert(&c, <void *>to, <const void *>from_, tf_width(c.stored), n)


# ---------------------------------------------------------------------------- memory

# from so many bytes on a Block is better than what malloc gives
BLOCK_FROM = TF_ROOM_FROM
# fewer bytes are not worth a second thread
SMALL_JOB = TF_SMALL_JOB


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


cdef _memory(size_t size):
    """`size` writable bytes of any content, a Block where they are many."""
    return Block(size) if size >= TF_ROOM_FROM else bytearray(size)


def memory_kept():
    """Bytes of memory that wait for the next tensor."""
    return tf_memory_kept()


def memory_clear():
    """Give back to the system what is kept for the next tensors."""
    tf_memory_clear()


# ---------------------------------------------------------------------------- files


cdef enum:
    UNKNOWN = -1


cdef class File:
    """A regular file, open for reading by position, from any thread and after a fork.

    Whoever reads holds a reference, so that nothing is closed or unmapped under a reader's hands: the
    descriptor and the mapping go with the object. `magic` has its first four bytes, or as many as there are.

    Args:
        path: As the operating system takes it.

    Raises:
        OSError: As the operating system says; for anything but a regular file too.
    """

    cdef int fd
    cdef tf_identity same
    cdef tf_head head
    cdef readonly bytes magic
    cdef const uint8_t *mapping
    cdef bint mapping_refused
    cdef bint rows_were_read
    cdef int residence

    def __cinit__(self, bytes path not None):
        cdef const char *name = path
        cdef tf_file_kind kind = TF_SPECIAL
        cdef int error = 0
        self.fd = -1
        self.head = TF_NO_HEAD
        self.residence = UNKNOWN
        with nogil:
            self.fd = self.head.fd = tf_open(name)
            if self.fd < 0 or tf_identify(self.fd, &self.same, &kind) != 0:
                error = c_errno
            elif kind == TF_REGULAR and tf_head_fetch(&self.head, 0, TF_FIRST_READ) != 0:
                error = c_errno
        if error:
            raise OSError(error, os.strerror(error))
        if kind == TF_DIRECTORY:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if kind != TF_REGULAR:
            raise OSError(errno.EINVAL, "not a regular file")
        self.magic = self.head.bytes[:min(<int64_t>self.head.have, 4)]

    def __dealloc__(self):
        tf_head_free(&self.head)
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

    cdef bint tells_residence(self):
        """Whether the system tells us which pages of the file are in memory."""
        if self.residence == UNKNOWN:
            self.residence = tf_tells_residence(self.fd)
        return self.residence

    cdef bint worth_mapping(self):
        """Whether rows are better had from a mapping than by preads.

        They are where it is there already: touching a new one for the first time takes longer. So it is made
        when rows are read once more.
        """
        again = self.rows_were_read
        self.rows_were_read = True
        return again or self.mapping is not NULL

    cdef tf_head take_head(self):
        """What was read of the file when it was opened, once."""
        cdef tf_head head = self.head
        self.head = TF_NO_HEAD
        return head

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


include "_images.pxi"
include "_tiled_images.pxi"
include "_tables.pxi"
include "_codecs.pxi"
include "_files.pxi"
