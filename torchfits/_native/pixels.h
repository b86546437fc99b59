/* Big-endian pixels to numbers of the host: swap, scale, null, cast (FITS standard 4.0, sections 4.4.2 and 5). */
#ifndef TF_PIXELS_H
#define TF_PIXELS_H

#include <stddef.h>
#include <stdint.h>

typedef enum {
    TF_BOOL,
    TF_U8,
    TF_I8,
    TF_U16,
    TF_I16,
    TF_U32,
    TF_I32,
    TF_U64,
    TF_I64,
    TF_F16,
    TF_BF16,
    TF_F32,
    TF_F64,
    TF_TYPES
} tf_type;

size_t tf_width(tf_type type);

/* How stored pixels become tensor elements. The same for every pixel of an image. */
typedef struct {
    tf_type stored; /* U8, I16, I32, I64, F32 or F64, as BITPIX says */
    tf_type values; /* what they stand for: stored, its other sign, or F32/F64 where `scaled` */
    tf_type wanted; /* the element of the tensor */
    int scaled;     /* value = zero + scale * stored, in double; BLANK is NaN */
    double scale, zero;
    int has_blank;
    int64_t blank;
} tf_conversion;

/* From BITPIX, BSCALE, BZERO and BLANK; -1 where BITPIX is none. `wanted` is left as `values`. */
int tf_conversion_of(tf_conversion *c, int bitpix, double scale, double zero, int has_blank, int64_t blank);

/* Whether the bytes may be swapped where they lie: nothing else changes. */
int tf_is_swap(const tf_conversion *c);
void tf_swap_in_place(const tf_conversion *c, void *pixels, size_t n);

/* n pixels, `stride` bytes apart, to n elements at `to`, which must not overlap them. */
void tf_convert(const tf_conversion *c, void *to, const void *be_from, size_t stride, size_t n);

/* The same of n stored numbers in the host's byte order, aligned. Where nothing but the sign changes, to == from will
 * do too. */
void tf_convert_native(const tf_conversion *c, void *to, const void *from, size_t n);

/* n numbers of the host to another type. */
void tf_cast(tf_type to_type, void *to, tf_type from_type, const void *from, size_t n);

/* n copies of the element of `width` bytes at `element`. */
void tf_fill(void *to, const void *element, size_t width, size_t n);

/* The variants of the kernels that this machine can run, the best first; a name chooses one for all threads. */
const char *tf_variant_name(int i);
int tf_use_variant(const char *name);
/* Whether the variant in use may use AVX2, as one of most kernels does, and AVX-512. */
int tf_uses_avx2(void);
int tf_uses_avx512(void);

#endif
