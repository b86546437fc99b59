# cython: language_level=3
"""Cython over wcslib, the only module linked with it, and our C around it."""

from libc.stdint cimport int64_t, uintptr_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy

from torchfits.errors import FitsFormatError, FitsUnsupported, KeywordMissing

cdef extern from "wtbarr.h" nogil:
    cdef struct wtbarr:
        int kind
        char *extnam
        int extver
        int extlev
        char *ttype
        long row
        int ndim
        int *dimlen
        double **arrayp

cdef extern from "wcs.h" nogil:
    const char *c_wcslib_version "wcslib_version" (int version[3])
    cdef struct prjprm:
        char code[4]
        double *pv
    cdef struct celprm:
        int offset
        double phi0
        double theta0
        prjprm prj
    cdef struct linprm:
        void *dispre
        void *disseq
    cdef struct wcsprm:
        int flag
        int naxis
        double *crpix
        double *crval
        char (*cunit)[72]
        char (*ctype)[72]
        double lonpole
        double latpole
        int nwtb
        wtbarr *wtb
        int lng
        int lat
        int cubeface
        int *types
        linprm lin
        celprm cel
    int wcsset(wcsprm *wcs)
    int wcssub(int alloc, const wcsprm *source, int *count, int *axes, wcsprm *to)

cdef extern from "wcshdr.h" nogil:
    enum:
        WCSHDO_safe
        WCSHDO_P17
    int wcshdo(int ctrl, wcsprm *wcs, int *nkeyrec, char **header)

cdef extern from "_native/distortion.h" nogil:
    enum:
        TF_POLYNOMIAL_ORDER
        TF_TPV_TERMS
    ctypedef struct tf_polynomials:
        int order
        const double *c[2]
    ctypedef struct tf_sip:
        double crpix[2]
        tf_polynomials forward
        tf_polynomials inverse
    ctypedef struct tf_lookup:
        int columns
        int rows
        const double *table
        double crpix[2]
        double crval[2]
        double cdelt[2]
    ctypedef struct tf_distortion:
        const tf_sip *sip
        const tf_lookup *d2im[2]
        const tf_lookup *cpdis[2]
    ctypedef struct tf_tpv:
        pass

cdef extern from "_native/gnomonic.h" nogil:
    ctypedef struct tf_gnomonic:
        pass

cdef extern from "_wcslib/description.h" nogil:
    enum:
        TF_WHY
        TF_WCS_MISSING
        TF_WCS_AXES
        TF_WCS_NO_CELESTIAL
    int tf_wcs_read(const char *cards, size_t n, char key, wcsprm *to, char *why)
    int tf_wcs_finish(wcsprm *wcs, char *why)
    void tf_wcs_free(wcsprm *wcs)
    int tf_wcs_celestial(wcsprm *wcs, char *why)
    int tf_wcs_copy(const wcsprm *wcs, wcsprm *to)
    int tf_wcs_gnomonic(const wcsprm *wcs, tf_gnomonic *g, tf_tpv *tpv)
    void tf_wcs_matrix(const wcsprm *wcs, double *matrix)
    int tf_wcs_tpv(const wcsprm *wcs, double (*pv)[40])

cdef extern from "_wcslib/transform.h" nogil:
    ctypedef struct tf_wcs_way:
        int naxis
        const tf_distortion *distortion
        const tf_gnomonic *gnomonic
        double origin
    void tf_wcs_to_world(const tf_wcs_way *way, wcsprm **copies, int threads, const double *in_, double *out,
                         int64_t n)
    void tf_wcs_to_pixel(const tf_wcs_way *way, wcsprm **copies, int threads, const double *in_, double *out,
                         int64_t n)

POLYNOMIAL_ORDER = TF_POLYNOMIAL_ORDER
cdef enum:
    IDLE = 64
    MEMORY = 2  # of wcslib's statuses


def wcslib_version() -> str:
    """The version of the wcslib inside, as '7.12'."""
    return c_wcslib_version(NULL).decode("ascii")


cdef object _error(int status, const char *why):
    text = why.decode("ascii", "replace")
    if status == MEMORY:
        return MemoryError("no memory for a description of world coordinates")
    if status == TF_WCS_MISSING:
        return KeywordMissing(text)
    if status == TF_WCS_AXES or status == TF_WCS_NO_CELESTIAL:
        return FitsUnsupported(text)
    return FitsFormatError(text, status=max(status, 0), library="wcslib")


cdef class Description:
    """One description of world coordinates, from its cards to points transformed. Made in three steps: read,
    `give` what `wanted` names, `finish`; unchanged after that, and good for many threads at a time.

    Args:
        cards: Whole 80-byte cards.
        key: ' ' or a letter.
        celestial: Take the celestial axes alone.

    Raises:
        KeywordMissing: There is no description of that letter.
        FitsUnsupported: More than 32 axes; no celestial axes to be had alone.
        FitsFormatError: What wcslib or the guards before it refuse.
    """

    cdef wcsprm wcs
    cdef tf_sip sip
    cdef tf_lookup lookups[4]
    cdef tf_distortion distortion
    cdef tf_gnomonic gnomonic
    cdef tf_tpv tpv
    cdef tf_wcs_way way
    # copies that no thread uses now; only touched with the GIL
    cdef wcsprm *idle[IDLE]
    cdef int idle_count
    cdef object kept
    cdef bytes cards
    cdef char key
    cdef bint celestial
    cdef str code

    def __cinit__(self, bytes cards not None, str key not None, bint celestial=False):
        cdef int i
        self.wcs.flag = -1
        self.kept, self.cards, self.key, self.celestial = [], cards, ord(key), celestial
        self.read(&self.wcs)
        codes = {bytes(<char *>self.wcs.ctype[i])[5:8].decode("latin-1") for i in range(self.wcs.naxis)}
        # wcslib makes others of these, which it has computed into its tables
        self.code = next(iter(codes & {"TPV", "TPU", "TNX", "ZPX"}), "")

    cdef int read(self, wcsprm *to) except -1:
        cdef char why[TF_WHY]
        why[0] = 0
        status = tf_wcs_read(<const char *>self.cards, len(self.cards) // 80, self.key, to, why)
        if status:
            to.flag = -1
            raise _error(status, why)
        return 0

    cdef int complete(self, wcsprm *to) except -1:
        cdef char why[TF_WHY]
        why[0] = 0
        status = tf_wcs_finish(to, why)
        if not status and self.celestial:
            status = tf_wcs_celestial(to, why)
        if status:
            raise _error(status, why)
        return 0

    def __dealloc__(self):
        cdef int i
        for i in range(self.idle_count):
            tf_wcs_free(self.idle[i])
            free(self.idle[i])
        if self.wcs.flag != -1:
            tf_wcs_free(&self.wcs)

    def wanted(self) -> list:
        """The arrays of -TAB axes to be given: (kind, EXTNAME, EXTVER, EXTLEVEL, column, row, axes)."""
        cdef int i
        arrays = []
        for i in range(self.wcs.nwtb):
            w = &self.wcs.wtb[i]
            name, column = bytes(<char *>w.extnam).decode("latin-1"), bytes(<char *>w.ttype).decode("latin-1")
            arrays.append((chr(w.kind), name, w.extver, w.extlev, column, w.row, w.ndim))
        return arrays

    def give(self, int i, shape, uintptr_t address) -> None:
        """The array `wanted()[i]`: float64 at `address`, of a shape that runs as in FITS, fastest first."""
        cdef size_t size = 1
        w = &self.wcs.wtb[i]
        for length in shape:
            size *= <size_t>length
        if w.kind == c"i" and shape[0] != w.dimlen[0]:
            raise FitsFormatError(f"an index of {shape[0]} elements, the coordinates have {w.dimlen[0]}")
        free(w.arrayp[0])
        w.arrayp[0] = <double *>malloc(size * sizeof(double))
        if w.arrayp[0] == NULL:
            raise MemoryError("no memory for a table of coordinates")
        memcpy(w.arrayp[0], <const void *>address, size * sizeof(double))
        if w.kind == c"c":
            for k in range(1, len(shape)):
                w.dimlen[k - 1] = shape[k]

    def finish(self) -> None:
        """Make ready."""
        self.complete(&self.wcs)
        self.way.naxis = self.wcs.naxis
        if tf_wcs_gnomonic(&self.wcs, &self.gnomonic, &self.tpv):
            self.way.gnomonic = &self.gnomonic

    # -- distortions; what is given stays where it is

    def set_sip(self, crpix, forward, inverse, kept) -> None:
        """SIP: (order, addresses of (order + 1)^2 doubles for x and y); inverse None where there is none."""
        cdef int i
        cdef uintptr_t address
        self.sip.inverse.order = -1
        for i in range(2):
            self.sip.crpix[i] = crpix[i]
            self.sip.forward.order, address = forward[0], forward[1 + i]
            self.sip.forward.c[i] = <const double *>address
            if inverse is not None:
                self.sip.inverse.order, address = inverse[0], inverse[1 + i]
                self.sip.inverse.c[i] = <const double *>address
        self.kept.append(kept)
        self.distortion.sip = &self.sip
        self.way.distortion = &self.distortion

    def set_lookup(self, bint cpdis, int axis, shape, uintptr_t address, crpix, crval, cdelt, kept) -> None:
        """A table of corrections: D2IM or CPDIS, of an axis from 0."""
        cdef tf_lookup *lookup = &self.lookups[2 * cpdis + axis]
        cdef int i
        lookup.rows, lookup.columns = shape
        lookup.table = <const double *>address
        for i in range(2):
            lookup.crpix[i], lookup.crval[i], lookup.cdelt[i] = crpix[i], crval[i], cdelt[i]
        if cpdis:
            self.distortion.cpdis[axis] = lookup
        else:
            self.distortion.d2im[axis] = lookup
        self.kept.append(kept)
        self.way.distortion = &self.distortion

    # -- use

    def transform(self, bint to_world, uintptr_t from_, uintptr_t to, int64_t n, double origin, int threads):
        """Take n points at `from_` to the world, or to pixels, at `to`, by up to so many threads."""
        cdef wcsprm *copies[IDLE]
        cdef tf_wcs_way way = self.way
        cdef int i, have = 0
        way.origin = origin
        # a thread for less than this costs more than it gives
        threads = <int>max(1, min(threads, IDLE, n // 8192))
        try:
            while way.gnomonic == NULL and have < threads:
                copies[have] = self.take()
                have += 1
            with nogil:
                if to_world:
                    tf_wcs_to_world(&way, copies if have else NULL, threads, <const double *>from_,
                                    <double *>to, n)
                else:
                    tf_wcs_to_pixel(&way, copies if have else NULL, threads, <const double *>from_,
                                    <double *>to, n)
        finally:
            for i in range(have):
                self.give_back(copies[i])

    cdef wcsprm *take(self) except NULL:
        """A copy for one thread."""
        if self.idle_count:
            self.idle_count -= 1
            return self.idle[self.idle_count]
        wcs = <wcsprm *>calloc(1, sizeof(wcsprm))
        if wcs == NULL:
            raise MemoryError("no memory for a description of world coordinates")
        try:
            if self.distorted():
                self.read(wcs)
                self.complete(wcs)
            else:
                status = tf_wcs_copy(&self.wcs, wcs)
                if status:
                    wcs.flag = -1
                    raise _error(status, b"the description cannot be copied")
        except BaseException:
            if wcs.flag != -1:
                tf_wcs_free(wcs)
            free(wcs)
            raise
        return wcs

    cdef bint distorted(self) noexcept:
        return self.wcs.lin.dispre != NULL or self.wcs.lin.disseq != NULL

    cdef void give_back(self, wcsprm *wcs) noexcept:
        if self.idle_count < IDLE:
            self.idle[self.idle_count] = wcs
            self.idle_count += 1
        else:
            tf_wcs_free(wcs)
            free(wcs)

    def facts(self) -> dict:
        """What wcslib found, as plain numbers; angles in degrees."""
        cdef int n = self.wcs.naxis, i, j
        cdef double pv[2][40]
        cdef double matrix[32 * 32]
        tf_wcs_matrix(&self.wcs, matrix)
        has_tpv = self.wcs.lin.disseq != NULL and tf_wcs_tpv(&self.wcs, pv)
        cel = &self.wcs.cel
        ctype = [bytes(<char *>self.wcs.ctype[i]).decode("latin-1") for i in range(n)]
        for i in range(n):
            if self.code and i in (self.wcs.lng, self.wcs.lat):
                ctype[i] = ctype[i][:5] + self.code
        return {
            "crpix": [self.wcs.crpix[i] for i in range(n)],
            "crval": [self.wcs.crval[i] for i in range(n)],
            "ctype": tuple(ctype),
            "units": tuple(bytes(<char *>self.wcs.cunit[i]).decode("latin-1") for i in range(n)),
            "types": [self.wcs.types[i] for i in range(n)],
            "matrix": [[matrix[i * n + j] for j in range(n)] for i in range(n)],
            "lng": self.wcs.lng,
            "lat": self.wcs.lat,
            "cubeface": self.wcs.cubeface,
            "projection": bytes(<char *>cel.prj.code).decode("latin-1"),
            "pv": [cel.prj.pv[i] for i in range(30)],
            "phi0": cel.phi0,
            "theta0": cel.theta0,
            "offset": bool(cel.offset),
            "lonpole": self.wcs.lonpole,
            "latpole": self.wcs.latpole,
            "tpv": [[pv[i][j] for j in range(40)] for i in range(2)] if has_tpv else None,
            "distorted": self.distorted(),
            "distorted_pixels": self.wcs.lin.dispre != NULL,
        }

    def header(self, order=None) -> bytes:
        """The cards that wcslib writes of it; with `order`, with its axes, from 0, in that order."""
        cdef char *cards = NULL
        cdef int count = 0, axes = self.wcs.naxis, i, status = 0
        cdef int from_[32]
        cdef wcsprm ordered
        ordered.flag = -1
        wcs = self.take()
        try:
            if order is not None:
                for i in range(axes):
                    from_[i] = order[i] + 1
                status = wcssub(1, wcs, &axes, from_, &ordered) or wcsset(&ordered)
            if not status:
                status = wcshdo(WCSHDO_safe | WCSHDO_P17, wcs if order is None else &ordered, &count, &cards)
            if status:
                raise _error(status, b"the description cannot be written")
            return cards[:count * 80]
        finally:
            free(cards)
            if ordered.flag != -1:
                tf_wcs_free(&ordered)
            self.give_back(wcs)
