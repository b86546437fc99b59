# What torchfits uses of cfitsio; externs only.

cdef extern from "fitsio.h" nogil:
    ctypedef long long LONGLONG

    ctypedef struct tcolumn:
        LONGLONG tbcol
        int tdatatype
        LONGLONG trepeat
        long twidth

    ctypedef struct FITSfile:
        LONGLONG *headstart
        int maxhdu
        int curhdu
        int hdutype
        int compressimg
        int tfield
        LONGLONG datastart
        int imgdim
        LONGLONG *imgnaxis
        LONGLONG numrows
        tcolumn *tableptr
        float quantize_level
        int hcomp_smooth

    ctypedef struct fitsfile:
        FITSfile *Fptr

    const float CFITSIO_VERSION
    # not by its name: structmember.h of Python redefines READONLY as 1, which cfitsio takes for READWRITE
    const int TBIT, TBYTE, TSBYTE, TLOGICAL, TUSHORT, TSHORT, TUINT, TINT, TULONGLONG, TLONGLONG
    const int IMAGE_HDU
    const int TFLOAT, TDOUBLE, TCOMPLEX, TDBLCOMPLEX, TSTRING

    int fits_open_diskfile(fitsfile **fptr, const char *name, int mode, int *status)
    int fits_open_memfile(fitsfile **fptr, const char *name, int mode, void **buffer, size_t *size,
                          size_t delta, void *(*realloc)(void *, size_t), int *status)
    int fits_close_file(fitsfile *fptr, int *status)
    int fits_movabs_hdu(fitsfile *fptr, int hdu, int *kind, int *status)
    int fits_get_img_type(fitsfile *fptr, int *bitpix, int *status)
    int fits_set_bscale(fitsfile *fptr, double scale, double zero, int *status)
    int fits_set_imgnull(fitsfile *fptr, LONGLONG null, int *status)
    int fits_set_tscale(fitsfile *fptr, int column, double scale, double zero, int *status)
    int fits_read_subset(fitsfile *fptr, int type, long *first, long *last, long *step, void *null,
                         void *array, int *any_null, int *status)
    int fits_read_img(fitsfile *fptr, int type, LONGLONG first, LONGLONG count, void *null,
                      void *array, int *any_null, int *status)
    int fits_read_col(fitsfile *fptr, int type, int column, LONGLONG row, LONGLONG element, LONGLONG count,
                      void *null, void *array, int *any_null, int *status)
    int fits_read_tblbytes(fitsfile *fptr, LONGLONG row, LONGLONG first, LONGLONG count,
                           unsigned char *values, int *status)
    int fits_read_descriptsll(fitsfile *fptr, int column, LONGLONG row, LONGLONG count, LONGLONG *lengths,
                              LONGLONG *addresses, int *status)
    int fits_read_errmsg(char *message)
    void fits_clear_errmsg()
    int fits_is_reentrant()
    int fits_init_cfitsio()
    float fits_get_version(float *version)
