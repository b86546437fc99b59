# cython: language_level=3, cdivision=True, autotestdict=False
"""Cython over our own C kernels: files, images and compressed streams, into memory that others own, without the GIL."""

import errno
import os
import zlib
from array import array

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from torchfits.errors import FitsIOError, os_error

cdef extern from "_native/pixels.h" nogil:
    ctypedef enum tf_type:
        TF_BOOL
        TF_U8
        TF_I8
        TF_U16
        TF_I16
        TF_U32
        TF_I32
        TF_U64
        TF_I64
        TF_F16
        TF_BF16
        TF_F32
        TF_F64
        TF_TYPES
    ctypedef struct tf_conversion:
        tf_type stored
        tf_type values
        tf_type wanted
        int has_blank
    size_t tf_width(tf_type type)
    int tf_conversion_of(tf_conversion *c, int bitpix, double scale, double zero, int has_blank, int64_t blank)
    void tf_cast(tf_type to_type, void *to, tf_type from_type, const void *from_, size_t n)
    const char *tf_variant_name(int i)
    int tf_use_variant(const char *name)

cdef extern from "_native/reader.h" nogil:
    ctypedef struct tf_source:
        int fd
        const uint8_t *bytes
        int64_t size
        int mapped
    ctypedef enum tf_trouble:
        TF_DONE
        TF_SYSTEM
        TF_ENDS
        TF_MEMORY
    ctypedef struct tf_outcome:
        tf_trouble what
        int error
        int64_t offset
    int tf_pread(int fd, void *to, size_t n, int64_t offset, tf_outcome *outcome)

cdef extern from "_native/section.h" nogil:
    ctypedef struct tf_section:
        pass
    void tf_section_begin(tf_section *section, int64_t start, int64_t width)
    int tf_section_add(tf_section *section, int64_t start, int64_t count, int64_t stride)
    int64_t tf_section_pixels(const tf_section *section)
    int64_t tf_section_end(const tf_section *section, int64_t width)
    int tf_section_is_scattered(const tf_section *section, int64_t width)
    tf_outcome tf_read_section(const tf_source *source, const tf_conversion *conversion,
                               const tf_section *section, void *to, int threads)

cdef extern from "_native/cutouts.h" nogil:
    enum:
        TF_GAP
    ctypedef struct tf_planes:
        int64_t start
        int64_t planes
        int64_t rows
        int64_t columns
    ctypedef struct tf_windows:
        int64_t count
        const int64_t *corners
        int64_t rows
        int64_t columns
        const void *fill
    int tf_windows_reach_outside(const tf_planes *image, const tf_windows *windows)
    tf_outcome tf_read_cutouts(const tf_source *source, const tf_conversion *conversion, const tf_planes *image,
                               const tf_windows *windows, void *to, int threads)

cdef extern from "_native/header_scan.h" nogil:
    enum:
        TF_CARD
        TF_BLOCK
        TF_NAME_MAX
    ctypedef enum tf_hdu_kind:
        TF_HDU_IMAGE
        TF_HDU_BINTABLE
        TF_HDU_TABLE
        TF_HDU_GROUPS
        TF_HDU_FOREIGN
    ctypedef struct tf_header:
        tf_hdu_kind kind
        int bitpix
        int naxis
        int64_t axes[16]
        int64_t pcount
        int64_t gcount
        double scale
        double zero
        int has_blank
        int64_t blank
        int compressed
        int64_t version
        int name_length
        char name[68]
        int64_t header_bytes
        int64_t data_bytes

cdef extern from "_native/files.h" nogil:
    ctypedef struct tf_head:
        int fd
    tf_head TF_NO_HEAD
    ctypedef enum tf_place:
        TF_AT_HDU
        TF_AT_ODD
        TF_AT_END
        TF_AT_TROUBLE
    tf_place tf_scan_at(tf_head *head, int64_t start, int primary, size_t ask, tf_header *header)
    void tf_head_free(tf_head *head)
    ctypedef struct tf_which:
        int64_t index
        const char *name
        int name_length
        int any_version
        int64_t version
    int tf_is_named(const tf_header *header, const tf_which *which)
    ctypedef struct tf_files:
        int64_t count
        const char *const *paths
        tf_which which
        uint8_t *done
    ctypedef struct tf_stack:
        int bitpix
        int naxis
        const int64_t *axes
        tf_type values
        int any_values
        tf_type wanted
        tf_section section
        uint8_t *to
    void tf_read_stack(const tf_files *files, const tf_stack *stack, int threads)
    void tf_read_cards(const tf_files *files, int keywords, const uint8_t *names, uint8_t *cards, int threads)

cdef extern from "_native/local_file.h" nogil:
    ctypedef struct tf_identity:
        int64_t device
        int64_t inode
        int64_t size
        int64_t mtime_ns
    ctypedef enum tf_file_kind:
        TF_REGULAR
        TF_DIRECTORY
        TF_SPECIAL
    int tf_open(const char *path)
    int tf_identify(int fd, tf_identity *identity, tf_file_kind *kind)
    ctypedef enum tf_change:
        TF_UNCHANGED
        TF_CHANGED
        TF_REMOVED
    tf_change tf_change_of(int fd, const tf_identity *identity)
    const uint8_t *tf_map(int fd, int64_t size)
    void tf_unmap(const uint8_t *mapping, int64_t size)
    void tf_advise_huge(void *memory, size_t size)
    int tf_processor_quota()

cdef extern from "_native/guard.h" nogil:
    int tf_guard_install()

cdef extern from "<unistd.h>" nogil:
    int c_close "close"(int fd)

cdef extern from "<errno.h>" nogil:
    int c_errno "errno"

cdef extern from "_native/tile_check.h" nogil:
    enum:
        TF_OK
        TF_EMPTY
        TF_TRUNCATED
        TF_OVERRUN
        TF_WRONG_SIZE
        TF_BAD_CODE
        TF_BAD_PARAMETER
    const char *tf_check_reason(int reason)
    int tf_check_rice(const uint8_t *data, size_t n, size_t npix, int blocksize, int bytepix)
    int tf_check_hcompress(const uint8_t *data, size_t n, size_t nx, size_t ny, int bytepix, uint8_t *scratch)
    size_t tf_hcompress_scratch(size_t nx, size_t ny)
    int tf_check_plio(const uint8_t *be_data, size_t n, size_t npix)

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
    """Use one variant of the kernels from now on, in all threads; ValueError where there is none of that name."""
    if tf_use_variant(name.encode()) != 0:
        raise ValueError(f"no variant {name!r}; there are {variants()}")


def advise_huge(size_t address, size_t size):
    """Ask for huge pages in `size` bytes at `address`, where the system has them and they would help."""
    tf_advise_huge(<void *>address, size)


def processor_quota():
    """How many processors the control group of this process may use, rounded up; 0 where there is no limit."""
    return tf_processor_quota()


def cast(int to_type, size_t to, int from_type, size_t from_, size_t n):
    """Convert `n` numbers at address `from_` to another type at `to`."""
    if not (0 <= to_type < TF_TYPES and TF_BOOL < from_type < TF_TYPES and from_type not in (TF_F16, TF_BF16)):
        raise ValueError("no such conversion")
    with nogil:
        tf_cast(<tf_type>to_type, <void *>to, <tf_type>from_type, <const void *>from_, n)


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

    cdef const uint8_t *map(self) except? NULL:
        """The mapping, made at the first call; NULL where there is none to be had. The GIL keeps others out."""
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
        if tf_conversion_of(&self.c, bitpix, scale, zero, blank is not None, 0 if blank is None else blank) != 0:
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


def read_section(where, Conversion conversion not None, int64_t start, axes, size_t address, size_t size, int threads,
                 bint mmap):
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
            place = tf_scan_at(&self.head, self.next, self.count == 0, 2 * TF_BLOCK if self.count == 0 else TF_BLOCK,
                               &found.header)
            if place == TF_AT_TROUBLE:
                error = c_errno
        if place == TF_AT_TROUBLE:
            raise OSError(error, os.strerror(error))
        if place == TF_AT_END and self.count > 0:
            self.complete = True
        if place != TF_AT_HDU:
            return False
        found.start = self.next
        self.next += found.header.header_bytes + (found.header.data_bytes + TF_BLOCK - 1) // TF_BLOCK * TF_BLOCK
        self.count += 1
        return True

    def reach(self, int64_t count):
        """Walk until `count` HDUs are known; whether they are. OSError as the system says."""
        while self.count < count:
            if not self.step():
                return False
        return True

    def find_name(self, bytes name not None, version, int64_t first):
        """The first HDU, from index `first`, of this name in capitals (and version, unless None); -1 where the walk
        came to its end, or to a header that is not ordinary, before there was one."""
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
        """What is known of an ordinary HDU: (kind, start, start of the data, bytes of data, EXTNAME, EXTVER,
        whether it holds a compressed image, (BITPIX, axes in FITS order, PCOUNT, GCOUNT, BSCALE, BZERO, BLANK))."""
        cdef tf_header *h
        if not 0 <= i < self.count:
            raise IndexError(i)
        h = &self.found[i].header
        axes = tuple([h.axes[k] for k in range(h.naxis)])
        return (KINDS[h.kind], self.found[i].start, self.found[i].start + h.header_bytes, h.data_bytes,
                h.name[:h.name_length].decode("ascii"), h.version, bool(h.compressed),
                (h.bitpix, axes, h.pcount, h.gcount, h.scale, h.zero, h.blank if h.has_blank else None))


# ---------------------------------------------------------------------------- many files


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


def read_stack(list paths not None, which, int bitpix, shape, Conversion conversion not None, bint any_values, axes,
               size_t address, size_t size, int threads):
    """Read the same section of the same plain image HDU of many files, one after the other, to `address`.

    Args:
        paths: bytes each.
        which: Index from 0, or (EXTNAME in capitals as bytes, EXTVER or None).
        bitpix, shape: What the images must be; shape in tensor order.
        conversion: What values must be there, unless `any_values`, and what they become.
        axes: As in `read_section`.

    Returns:
        A bytearray: 1 for each file that was read. The others are to be read in another way, which may find out
        what is wrong with them.
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


def read_cards(list paths not None, which, list keywords not None, int threads):
    """The first cards of some keywords in the same HDU of many files.

    Args:
        paths, which: As in `read_stack`.
        keywords: 8 bytes each, blank-padded.

    Returns:
        (bytearray: 1 for each file that was looked at; bytearray of 80 bytes a file and keyword, the first one 0
        where the header lacks it). The other files are to be looked at in another way.
    """
    cdef _Files files = _Files(paths, which)
    cdef bytes names = b"".join(keywords)
    cdef const uint8_t *c_names = names
    cdef bytearray cards = bytearray(len(paths) * len(keywords) * TF_CARD)
    cdef uint8_t *c_cards = cards
    cdef int count = len(keywords)
    if len(names) != 8 * count:
        raise ValueError("keywords are 8 bytes")
    with nogil:
        tf_read_cards(&files.files, count, c_names, c_cards, threads)
    return files.done, cards


# ---------------------------------------------------------------------------- compressed streams

# more pixels than this are refused by the kernels
cdef int64_t TILE_MAX = 0x7fffffff

cdef enum Codec:
    RICE
    HCOMPRESS
    PLIO

CODECS = {"RICE_1": RICE, "HCOMPRESS_1": HCOMPRESS, "PLIO_1": PLIO}


def check_tiles(
    str codec not None,
    const unsigned char[::1] heap not None,
    offsets,
    lengths,
    pixels,
    widths=None,
    *,
    int blocksize=32,
    int bytepix=4,
):
    """Find the first compressed tile that a decoder which trusts its input must not see.

    Each stream is walked without making pixels: decoding it must stay inside its bytes and fill its
    tile exactly (FITS standard 4.0, section 10.4). The GIL is released, the time is linear in
    bytes and pixels. gzip streams are inflated, since nothing less tells their size and soundness.

    Args:
        codec: 'RICE_1', 'HCOMPRESS_1', 'PLIO_1', 'GZIP_1' or 'GZIP_2'.
        heap: Bytes-like; holds all the streams.
        offsets: Byte offset of each stream in `heap`.
        lengths: Its length in bytes (for PLIO_1 twice the number in the descriptor).
        pixels: Pixels of each tile.
        widths: HCOMPRESS_1 only: the length of one side of each tile, either side.
        blocksize: RICE_1 only: pixels a block.
        bytepix: Bytes a pixel. RICE_1: BYTEPIX. HCOMPRESS_1: |ZBITPIX| / 8. GZIP: of the values in the
            stream (4 for quantized floats; 4-byte values in place of 1- or 2-byte ones are accepted).

    Returns:
        None where all are sound, else (index of the first bad tile, why: the end of a sentence that
        begins with 'the compressed tile').

    Raises:
        ValueError: For an unknown codec, or sequences that differ in length.

    >>> check_tiles("RICE_1", bytes([0, 7, 0]), [0], [3], [32], bytepix=2) is None  # 32 times the number 7
    True
    >>> check_tiles("RICE_1", bytes([0, 7, 0]), [0], [2], [32], bytepix=2)
    (0, 'ends before its pixels do')
    """
    cdef int64_t[::1] c_offsets = array("q", offsets)
    cdef int64_t[::1] c_lengths = array("q", lengths)
    cdef int64_t[::1] c_pixels = array("q", pixels)
    cdef int64_t[::1] c_widths = array("q", pixels if widths is None else widths)
    cdef Py_ssize_t i = 0, count = c_offsets.shape[0]
    cdef int64_t size = heap.shape[0], needed, largest = 1
    cdef int reason = TF_OK, which
    cdef const uint8_t *start = &heap[0] if size else NULL
    cdef uint8_t *scratch = NULL

    if not c_lengths.shape[0] == c_pixels.shape[0] == c_widths.shape[0] == count:
        raise ValueError("the tiles' offsets, lengths, pixels and widths differ in number")
    if codec in ("GZIP_1", "GZIP_2"):
        return _check_gzip(memoryview(heap), c_offsets, c_lengths, c_pixels, bytepix)
    if codec not in CODECS:
        raise ValueError(f"no streams of {codec!r} can be checked")
    which = CODECS[codec]
    try:
        if which == HCOMPRESS:
            for i in range(count):
                if c_widths[i] > 0 and 0 < c_pixels[i] <= TILE_MAX:
                    needed = tf_hcompress_scratch(c_widths[i], c_pixels[i] // c_widths[i])
                    largest = max(largest, needed)
            scratch = <uint8_t *>malloc(largest)
            if scratch is NULL:
                raise MemoryError()
        with nogil:
            for i in range(count):
                reason = _check_tile(which, start, size, c_offsets[i], c_lengths[i], c_pixels[i], c_widths[i],
                                blocksize, bytepix, scratch)
                if reason != TF_OK:
                    break
    finally:
        free(scratch)
    return None if reason == TF_OK else (i, tf_check_reason(reason).decode())


cdef int _check_tile(int codec, const uint8_t *heap, int64_t size, int64_t offset, int64_t length, int64_t pixels,
                int64_t width, int blocksize, int bytepix, uint8_t *scratch) noexcept nogil:
    if pixels < 1 or width < 1 or pixels % width:
        return TF_BAD_PARAMETER
    if offset < 0 or length < 0 or length > size or offset > size - length:
        return TF_TRUNCATED
    if length == 0:
        return TF_EMPTY
    if codec == RICE:
        return tf_check_rice(heap + offset, length, pixels, blocksize, bytepix)
    if codec == HCOMPRESS:
        return tf_check_hcompress(heap + offset, length, width, pixels // width, bytepix, scratch)
    return tf_check_plio(heap + offset, length, pixels)


def _check_gzip(heap, offsets, lengths, pixels, bytepix):
    """check_tiles for gzip: the first member must inflate, soundly, to the tile's size."""
    for i in range(len(offsets)):
        offset, length, wanted = offsets[i], lengths[i], pixels[i] * bytepix
        wide = pixels[i] * max(bytepix, 4)
        if pixels[i] < 1 or bytepix < 1:
            reason = TF_BAD_PARAMETER
        elif offset < 0 or length < 0 or offset > len(heap) - length:
            reason = TF_TRUNCATED
        elif length == 0:
            reason = TF_EMPTY
        else:
            stream = zlib.decompressobj(16 + zlib.MAX_WBITS)
            try:
                got = len(stream.decompress(heap[offset:offset + length], wide + 1))
            except zlib.error:
                reason = TF_BAD_CODE
            else:
                if got > wide:
                    reason = TF_OVERRUN
                elif not stream.eof:
                    reason = TF_TRUNCATED
                else:
                    reason = TF_OK if got in (wanted, wide) else TF_WRONG_SIZE
        if reason != TF_OK:
            return i, tf_check_reason(reason).decode()
    return None
