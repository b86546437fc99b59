# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""The cfitsio engine: image sections and table columns read into memory that the caller owns.

The only module linked with cfitsio. It knows C types and addresses, no tensor: callers pass the
address and size of memory that they hold for the duration of the call. HDUs are addressed by the
byte offset of their header, which `layout` found and checked, so that cfitsio neither walks through
the HDUs before nor trusts them.
"""

import os
import threading

from libc.math cimport NAN
from libc.stdint cimport int64_t
from posix.unistd cimport getpid
from torchfits._cfitsio cimport *
from torchfits import errors
from torchfits.source import identity as file_identity

# the names are those of torch dtypes
cdef dict TYPES = {
    "bits": TBIT,
    "uint8": TBYTE, "int8": TSBYTE, "int16": TSHORT, "uint16": TUSHORT, "int32": TINT, "uint32": TUINT,
    "int64": TLONGLONG, "uint64": TULONGLONG, "float32": TFLOAT, "float64": TDOUBLE,
    "complex64": TCOMPLEX, "complex128": TDBLCOMPLEX,
}
cdef dict WIDTHS = {
    TBIT: 1, TBYTE: 1, TSBYTE: 1, TSHORT: 2, TUSHORT: 2, TINT: 4, TUINT: 4, TLONGLONG: 8,
    TULONGLONG: 8, TFLOAT: 4, TDOUBLE: 8, TCOMPLEX: 8, TDBLCOMPLEX: 16,
}
# with the 9 that it admits, fits_read_subset reads past its arrays; fits_read_img takes any number
MAX_SUBSET_AXES = 8
# of tile-compressed images; with the 6 that it admits, cfitsio 4.2.0 leaves pixels unwritten
MAX_COMPRESSED_AXES = 5
# fitsio.h says READONLY, but a header of Python redefines that name as 1
cdef int READ_ONLY = 0
# cfitsio's own mark for 'no null value'
cdef long long NULL_UNDEFINED = 1234554321


cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_mutex_t:
        pass
    ctypedef struct pthread_mutexattr_t:
        pass
    const int PTHREAD_MUTEX_RECURSIVE
    int pthread_mutexattr_init(pthread_mutexattr_t *attributes)
    int pthread_mutexattr_settype(pthread_mutexattr_t *attributes, int type)
    int pthread_mutex_init(pthread_mutex_t *mutex, const pthread_mutexattr_t *attributes)

cdef extern from *:
    """
    #include <pthread.h>
    extern pthread_mutex_t Fitsio_Lock;
    """
    pthread_mutex_t Fitsio_Lock

# at import, so that no fork finds it half done
fits_init_cfitsio()


def after_fork() -> None:
    """Free cfitsio's own lock in a forked child: the thread that held it may not be here."""
    cdef pthread_mutexattr_t attributes
    pthread_mutexattr_init(&attributes)
    pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_RECURSIVE)
    pthread_mutex_init(&Fitsio_Lock, &attributes)


def cfitsio_version() -> str:
    """The version of the cfitsio inside, as '4.2.0'."""
    cdef float version = 0
    fits_get_version(&version)
    major, rest = f"{version:.4f}".split(".")
    return f"{major}.{int(rest[:2])}.{int(rest[2:])}"


def cfitsio_reentrant() -> bool:
    """Whether cfitsio was built for use by several threads."""
    return bool(fits_is_reentrant())


cdef list _messages():
    cdef char text[81]
    lines = []
    while fits_read_errmsg(text):
        lines.append(text.decode("latin-1"))
    # the number in this one is that of a slot in cfitsio's table; what is said twice tells no more
    return list(dict.fromkeys(line for line in lines if not line.startswith("Failed to move to HDU")))


cdef int check(int status, str doing) except -1:
    """Raise the error that `status` stands for; cfitsio's messages are shared by all threads: only text."""
    if status <= 0:
        return 0
    messages = _messages()
    raise errors.CLASS_OF_STATUS.get(status, errors.FitsFormatError)(
        f"cfitsio cannot {doing}", status=status, messages=tuple(messages)
    )


cdef class Handle:
    """One cfitsio file, opened at first use, used by one thread at a time, reopened in a forked child.

    Args:
        path: The file, or None for `memory`.
        identity: What `source.identity(path)` must still say after opening, lest another file be read.
        memory: Whole blocks of a file that begin with a primary HDU; kept as long as the handle.
        origin: Byte offset in the file of the first of them.
    """

    cdef fitsfile *fptr
    cdef object lock, path, identity
    cdef int pid
    cdef const unsigned char[::1] view
    cdef void *buffer
    cdef size_t buffer_size
    cdef long long at, origin
    cdef object scaling

    def __cinit__(self, path=None, identity=None, memory=None, origin=0):
        self.fptr = NULL
        self.lock = threading.Lock()
        self.identity = identity
        self.pid = getpid()
        self.at = -1
        self.origin = origin
        if memory is not None:
            self.view = memory
            self.buffer = <void *>&self.view[0]
            self.buffer_size = len(memory)
        else:
            # absolute: a leading ~ means something to cfitsio, and the working directory may change
            self.path = os.path.abspath(os.fsencode(path))

    def __dealloc__(self):
        cdef int status = 0
        if self.fptr != NULL and self.pid == getpid():
            fits_close_file(self.fptr, &status)

    def close(self):
        """Close the file; a second call does nothing, and the next read opens it again."""
        with self.lock:
            self._drop()

    def abandon(self):
        """Forget what a parent process opened, without touching its file position; for forked children."""
        self.fptr = NULL
        self.lock = threading.Lock()

    cdef int _drop(self) except -1:
        cdef int status = 0
        cdef fitsfile *fptr = self.fptr
        self.fptr = NULL
        self.at = -1
        if fptr != NULL and self.pid == getpid():
            with nogil:
                fits_close_file(fptr, &status)
            fits_clear_errmsg()
        return 0

    cdef int _open(self) except -1:
        cdef int status = 0
        cdef const char *name
        if self.fptr != NULL and self.pid == getpid():
            return 0
        self.fptr = NULL
        self.at = -1
        self.pid = getpid()
        if self.path is None:
            with nogil:
                fits_open_memfile(&self.fptr, b"memory", READ_ONLY, &self.buffer, &self.buffer_size, 0, NULL,
                                  &status)
        else:
            if len(self.path) > 1000:
                raise errors.FitsUnsupported("cfitsio takes file names of at most 1000 bytes")
            name = self.path
            with nogil:
                fits_open_diskfile(&self.fptr, name, READ_ONLY, &status)
        if status > 0:
            self.fptr = NULL
            if self.path is not None:
                # cfitsio does not say why, the system does
                try:
                    os.close(os.open(self.path, os.O_RDONLY))
                except OSError as error:
                    fits_clear_errmsg()
                    raise errors.os_error(error, "cannot open the file") from error
        check(status, "open the file")
        if self.path is not None:
            # cfitsio takes NAME.gz where NAME is gone, so a file that cannot be identified is not read either
            try:
                if file_identity(self.path) != self.identity:
                    raise errors.FitsIOError("the file changed on disk since it was opened")
            except errors.FitsError:
                self._drop()
                raise
        return 0

    cdef int _seek(self, long long start) except -1:
        """Make the HDU whose header begins at byte `start` the current one."""
        cdef int status = 0
        cdef int slot
        self._open()
        if self.at == start:
            return 0
        self.at = -1
        # cfitsio sets these two only where the next header mentions them
        self.fptr.Fptr.quantize_level = 0
        self.fptr.Fptr.hcomp_smooth = 0
        start -= self.origin
        with nogil:
            if start == 0:
                if self.fptr.Fptr.curhdu != 0:
                    fits_movabs_hdu(self.fptr, 1, NULL, &status)
            else:
                # cfitsio moves to wherever its table of headers says: two slots are enough
                slot = 2 if self.fptr.Fptr.curhdu == 1 else 1
                self.fptr.Fptr.headstart[slot] = start
                if self.fptr.Fptr.maxhdu < 2:
                    self.fptr.Fptr.maxhdu = 2
                fits_movabs_hdu(self.fptr, slot + 1, NULL, &status)
        if status > 0:
            # a failed move leaves cfitsio between two HDUs: begin anew next time
            try:
                check(status, "read the header")
            finally:
                self._drop()
        if self.fptr.Fptr.hdutype == IMAGE_HDU and not self.fptr.Fptr.compressimg and self.fptr.Fptr.tfield:
            # the pixels begin where the data do and are there once, whatever a stray PCOUNT or GCOUNT says
            self.fptr.Fptr.tableptr[1].tbcol = 0
            self.fptr.Fptr.numrows = 1
        self.at = start + self.origin
        return 0

    def check_layout(self, long long start, long long data_start, bitpix=None, axes=None):
        """FitsFormatError where cfitsio reads a header in another way than we do.

        Args:
            start, data_start: Byte offsets of the header and of the data.
            bitpix, axes: Of a plain image; axes in FITS order.
        """
        cdef int status = 0, theirs = 0
        with self.lock:
            self._seek(start)
            if self.fptr.Fptr.datastart + self.origin != data_start:
                raise errors.FitsFormatError("where the header ends is ambiguous", offset=start)
            if axes is None:
                return
            fits_get_img_type(self.fptr, &theirs, &status)
            self._check_read(status, "read the header")
            there = [self.fptr.Fptr.imgnaxis[i] for i in range(min(self.fptr.Fptr.imgdim, 99))]
            if theirs != bitpix or there != list(axes[:99]) or self.fptr.Fptr.imgdim != len(axes):
                raise errors.FitsFormatError(
                    f"the header is ambiguous: cfitsio takes BITPIX for {theirs} and the axes for {there}",
                    offset=start,
                )

    def read_subset(self, long long start, str dtype, double scale, double zero, blank, bint nan_nulls,
                    first, last, step, size_t address, size_t size):
        """Read a section of an image, plain or tile-compressed, into `size` bytes at `address`.

        Args:
            start: Byte offset of the header.
            dtype: Name of the torch dtype to convert to.
            scale, zero: BSCALE and BZERO to apply; 1 and 0 for the stored values.
            blank: The stored integer that is null, or None.
            nan_nulls: Write NaN for null pixels (`dtype` is a float then).
            first, last, step: Per axis in FITS order, 1-based and inclusive.
        """
        cdef long c_first[9]
        cdef long c_last[9]
        cdef long c_step[9]
        cdef int i, any_null = 0, status = 0, type = TYPES[dtype]
        cdef size_t pixels = 1
        cdef float nan32 = NAN
        cdef double nan64 = NAN
        cdef void *null = NULL
        cdef long long c_blank = NULL_UNDEFINED if blank is None else blank
        if not 1 <= len(first) == len(last) == len(step) <= MAX_SUBSET_AXES:
            raise ValueError("1 to 8 axes")
        for i in range(len(first)):
            c_first[i], c_last[i], c_step[i] = first[i], last[i], step[i]
            pixels *= (c_last[i] - c_first[i]) // c_step[i] + 1
        if pixels * <size_t>WIDTHS[type] != size:
            raise ValueError("the section and the memory differ in size")
        if nan_nulls:
            null = <void *>&nan32 if type == TFLOAT else <void *>&nan64
        scaling = scale, zero, nan_nulls
        with self.lock:
            if scaling != self.scaling:
                # cfitsio keeps the last tile as it was scaled then
                self.at = -1
            self._seek(start)
            self.scaling = scaling
            with nogil:
                fits_set_bscale(self.fptr, scale, zero, &status)
                fits_set_imgnull(self.fptr, c_blank, &status)
                fits_read_subset(self.fptr, type, c_first, c_last, c_step, null, <void *>address, &any_null,
                                 &status)
            self._check_read(status, "read the image")

    def read_pixels(self, long long start, str dtype, double scale, double zero, blank, bint nan_nulls,
                    runs, long long count, size_t address, size_t size):
        """Read runs of `count` pixels each, from the 0-based pixels in `runs`, one after the other."""
        cdef int any_null = 0, status = 0, type = TYPES[dtype]
        cdef long long first
        cdef size_t stride = count * <size_t>WIDTHS[type]
        cdef float nan32 = NAN
        cdef double nan64 = NAN
        cdef void *null = NULL
        cdef long long c_blank = NULL_UNDEFINED if blank is None else blank
        if len(runs) * stride != size:
            raise ValueError("the runs and the memory differ in size")
        if nan_nulls:
            null = <void *>&nan32 if type == TFLOAT else <void *>&nan64
        with self.lock:
            self._seek(start)
            fits_set_bscale(self.fptr, scale, zero, &status)
            fits_set_imgnull(self.fptr, c_blank, &status)
            for first in runs:
                with nogil:
                    fits_read_img(self.fptr, type, first + 1, count, null, <void *>address, &any_null,
                                  &status)
                address += stride
            self._check_read(status, "read the image")

    def read_columns(self, long long start, columns, long long first_row, long long rows, long long chunk):
        """Read `rows` rows of some columns of a table, each into memory of its own.

        Columns are read `chunk` rows at a time, so that all of them come from the same buffered bytes.

        Args:
            start: Byte offset of the header.
            columns: (number from 1, name of the dtype, elements a row, TSCAL, TZERO, address, size) each;
                the dtype 'bytes' gives the bytes of an A or L column as they are.
            first_row: 0-based.
        """
        cdef long long row, n
        cdef int i, status = 0, any_null = 0, count = len(columns)
        cdef int number[999]
        cdef int type[999]
        cdef long long repeat[999]
        cdef long long stride[999]
        cdef size_t address[999]
        if count > 999:
            raise ValueError("at most 999 columns")
        with self.lock:
            self._seek(start)
            for i, (column, dtype, elements, scale, zero, where, size) in enumerate(columns):
                if not 1 <= column <= self.fptr.Fptr.tfield:
                    raise ValueError(f"no column {column}")
                number[i], repeat[i], address[i] = column, elements, where
                if dtype == "bytes":
                    self._as_bytes(column)
                    type[i] = TBYTE
                    scale, zero = 1, 0  # TSCAL means nothing to letters
                else:
                    type[i] = TYPES[dtype]
                stride[i] = elements * WIDTHS[type[i]]
                if stride[i] * rows != size:
                    raise ValueError("the rows and the memory differ in size")
                if type[i] != TBIT:
                    fits_set_tscale(self.fptr, column, scale, zero, &status)
            with nogil:
                row = 0
                while row < rows and status <= 0:
                    n = min(chunk, rows - row)
                    for i in range(count):
                        if repeat[i] == 0:
                            continue
                        if type[i] == TBIT:
                            # cfitsio would run on through the pad bits of a row
                            self._read_bits(number[i], first_row + row, n, repeat[i],
                                            address[i] + row * stride[i], &status)
                        else:
                            fits_read_col(self.fptr, type[i], number[i], first_row + row + 1, 1,
                                          n * repeat[i], NULL, <void *>(address[i] + row * stride[i]),
                                          &any_null, &status)
                    row += n
            self._check_read(status, "read the table")

    cdef void _read_bits(self, int column, long long first_row, long long rows, long long bits,
                         size_t address, int *status) noexcept nogil:
        cdef long long row
        for row in range(rows):
            fits_read_col(self.fptr, TBIT, column, first_row + row + 1, 1, bits, NULL,
                          <void *>(address + row * bits), NULL, status)

    cdef int _as_bytes(self, int column) except -1:
        """Let cfitsio take a character or logical column for the bytes it is; it would interpret them."""
        cdef tcolumn *c = &self.fptr.Fptr.tableptr[column - 1]
        if c.tdatatype in (TSTRING, -TSTRING, TLOGICAL, -TLOGICAL):
            c.tdatatype = TBYTE if c.tdatatype > 0 else -TBYTE
            c.twidth = 1
        return 0

    def read_descriptors(self, long long start, int column, long long first_row, long long rows,
                         size_t lengths, size_t offsets, size_t size):
        """Read the P or Q descriptors of a column into two int64 arrays of `size` bytes each."""
        cdef int status = 0
        if <size_t>rows * 8 != size:
            raise ValueError("the rows and the memory differ in size")
        with self.lock:
            self._seek(start)
            with nogil:
                fits_read_descriptsll(self.fptr, column, first_row + 1, rows, <long long *>lengths,
                                      <long long *>offsets, &status)
            self._check_read(status, "read the descriptors")

    def read_ragged(self, long long start, int column, str dtype, double scale, double zero,
                    long long first_row, const int64_t[::1] counts, size_t address, size_t size):
        """Read the arrays that the descriptors of a column point to, one after the other.

        `counts` holds the elements of each row, as the checked descriptors say.
        """
        cdef int status = 0, any_null = 0, type
        cdef long long row, total = 0
        cdef Py_ssize_t width
        for row in range(counts.shape[0]):
            total += counts[row]
        with self.lock:
            self._seek(start)
            if dtype == "bytes":
                self._as_bytes(column)
                type = TBYTE
                scale, zero = 1, 0
            else:
                type = TYPES[dtype]
            width = WIDTHS[type]
            if <size_t>(total * width) != size:
                raise ValueError("the rows and the memory differ in size")
            if type != TBIT:
                fits_set_tscale(self.fptr, column, scale, zero, &status)
            with nogil:
                for row in range(counts.shape[0]):
                    if counts[row] == 0:
                        continue
                    fits_read_col(self.fptr, type, column, first_row + row + 1, 1, counts[row], NULL,
                                  <void *>address, &any_null, &status)
                    if status > 0:
                        break
                    address += counts[row] * width
            self._check_read(status, "read the heap")

    def read_row_bytes(self, long long start, long long first_row, long long count, size_t address):
        """Read `count` bytes of table rows as they stand in the file, from 0-based `first_row` on."""
        cdef int status = 0
        with self.lock:
            self._seek(start)
            with nogil:
                fits_read_tblbytes(self.fptr, first_row + 1, 1, count, <unsigned char *>address, &status)
            self._check_read(status, "read the rows")

    cdef int _check_read(self, int status, str doing) except -1:
        if status > 0:
            try:
                check(status, doing)
            finally:
                self._drop()
        return 0
