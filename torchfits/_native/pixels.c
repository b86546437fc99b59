#include "pixels.h"

#include <math.h>
#include <string.h>

/* pixels in flight between two steps of a conversion: they stay in the first-level cache */
#define PIECE 1024

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
#define BIG16(x) (x)
#define BIG32(x) (x)
#define BIG64(x) (x)
#else
#define BIG16(x) __builtin_bswap16(x)
#define BIG32(x) __builtin_bswap32(x)
#define BIG64(x) __builtin_bswap64(x)
#endif
#define BIG8(x) (x)

#define TWO_31 2147483648.0f
#define TWO_32 4294967296.0f
#define TWO_63 9223372036854775808.0f
#define TWO_64 18446744073709551616.0f

typedef struct {
    void (*swap[4])(void *to, const void *from, size_t n, uint64_t flip);
    void (*swap_in_place[4])(void *pixels, size_t n, uint64_t flip);
    void (*scale[TF_TYPES][2])(void *to, const void *from, size_t n, const tf_conversion *c);
    void (*cast[TF_TYPES][TF_TYPES])(void *to, const void *from, size_t n);
    void (*scale_doubles[2])(void *to, const double *from, size_t n, double scale, double zero);
} kernels;

static inline float real32(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline double real64(uint64_t bits)
{
    double x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline uint32_t bits32(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

/* IEEE binary16, rounded to nearest even. Small numbers are rounded by adding one half, whose last bit is theirs. */
static inline uint16_t half_bits(float x)
{
    const uint32_t bits = bits32(x), sign = bits >> 16 & 0x8000, size = bits & 0x7fffffff;
    const uint32_t special = size > 0x7f800000 ? 0x7e00 : 0x7c00;
    const uint32_t small = bits32(real32(size) + 0.5f) - 0x3f000000;
    const uint32_t normal = (size - 0x38000000 + 0xfff + (size >> 13 & 1)) >> 13;
    return (uint16_t)(sign | (size >= 0x47800000 ? special : size < 0x38800000 ? small : normal));
}

/* the upper half of binary32, rounded to nearest even */
static inline uint16_t bfloat_bits(float x)
{
    const uint32_t bits = bits32(x);
    const uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    return (uint16_t)((bits & 0x7fffffff) > 0x7f800000 ? (bits >> 16 | 0x40) : rounded);
}

#define KERNELS "pixels_kernels.h"
#include "variants.h"
#ifdef HAVE_AVX2
#include <cpuid.h>
#endif

#ifdef HAVE_AVX2
/* Whether this machine has all that variants.h compiles for. */
static int has_avx2(void)
{
    unsigned a, b, c, d; /* clang 14 cannot be asked for LZCNT */
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2")
           && __get_cpuid(0x80000001, &a, &b, &c, &d) && (c & bit_LZCNT);
}

static int has_avx512(void)
{
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
           && __builtin_cpu_supports("avx512cd");
}
#endif

static int has_nothing_more(void)
{
    return 1;
}

typedef struct {
    const char *name;
    int (*is_there)(void);
    const kernels *kernels;
    int avx512;
} variant;

/* The best first. */
static const variant variants[] = {
#ifdef HAVE_AVX2
    {"avx512", has_avx512, &kernels_avx2, 1},
    {"avx2", has_avx2, &kernels_avx2, 0},
#endif
    {"portable", has_nothing_more, &kernels_portable, 0},
};
#define VARIANTS ((int)(sizeof variants / sizeof *variants))

static const variant *chosen;

/* The i-th of those that are there. */
static const variant *variant_at(int i)
{
    for (int k = 0; k < VARIANTS; k++)
        if (variants[k].is_there() && i-- == 0)
            return &variants[k];
    return NULL;
}

const char *tf_variant_name(int i)
{
    const variant *found = variant_at(i);
    return found ? found->name : NULL;
}

int tf_use_variant(const char *name)
{
    const variant *found;
    for (int i = 0; (found = variant_at(i)); i++) {
        if (strcmp(name, found->name) == 0) {
            __atomic_store_n(&chosen, found, __ATOMIC_RELEASE);
            return 0;
        }
    }
    return -1;
}

static const variant *in_use(void)
{
    const variant *found = __atomic_load_n(&chosen, __ATOMIC_ACQUIRE);
    if (!found) {
        found = variant_at(0);
        __atomic_store_n(&chosen, found, __ATOMIC_RELEASE);
    }
    return found;
}

static const kernels *best(void)
{
    return in_use()->kernels;
}

int tf_uses_avx2(void)
{
    return best() != &kernels_portable;
}

int tf_uses_avx512(void)
{
    return in_use()->avx512;
}

size_t tf_width(tf_type type)
{
    static const unsigned char widths[TF_TYPES] = {
        [TF_BOOL] = 1, [TF_U8] = 1,  [TF_I8] = 1,  [TF_U16] = 2,  [TF_I16] = 2, [TF_U32] = 4, [TF_I32] = 4,
        [TF_U64] = 8,  [TF_I64] = 8, [TF_F16] = 2, [TF_BF16] = 2, [TF_F32] = 4, [TF_F64] = 8,
    };
    return widths[type];
}

/* index into the tables that go by width */
static int log_width(tf_type type)
{
    return __builtin_ctz((unsigned)tf_width(type));
}

static int is_real(tf_type type)
{
    return type == TF_F32 || type == TF_F64;
}

int tf_conversion_of(tf_conversion *c, int bitpix, double scale, double zero, int has_blank, int64_t blank)
{
    static const struct {
        int bitpix;
        tf_type stored, other_sign, scaled;
        double other_zero;
    } known[] = {
        {8, TF_U8, TF_I8, TF_F32, -128},
        {16, TF_I16, TF_U16, TF_F32, 32768},
        {32, TF_I32, TF_U32, TF_F64, 2147483648.0},
        {64, TF_I64, TF_U64, TF_F64, 9223372036854775808.0},
        {-32, TF_F32, TF_F32, TF_F32, NAN},
        {-64, TF_F64, TF_F64, TF_F64, NAN},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (known[i].bitpix != bitpix)
            continue;
        memset(c, 0, sizeof *c);
        c->stored = known[i].stored;
        if (scale == 1 && zero == known[i].other_zero) {
            c->values = known[i].other_sign;
        } else {
            c->has_blank = has_blank && bitpix > 0;
            c->scaled = scale != 1 || zero != 0 || c->has_blank;
            c->values = c->scaled ? known[i].scaled : c->stored;
            c->scale = scale;
            c->zero = zero;
            c->blank = blank;
        }
        c->wanted = c->values;
        return 0;
    }
    return -1;
}

/* the sign bit, where the numbers are of the other signedness than the stored ones */
static uint64_t flip_of(const tf_conversion *c)
{
    return c->values == c->stored || c->scaled ? 0 : (uint64_t)1 << (8 * tf_width(c->stored) - 1);
}

int tf_is_swap(const tf_conversion *c)
{
    return !c->scaled && c->values == c->wanted;
}

void tf_swap_in_place(const tf_conversion *c, void *pixels, size_t n)
{
    best()->swap_in_place[log_width(c->stored)](pixels, n, flip_of(c));
}

static void gather(void *to, const uint8_t *from, size_t stride, size_t width, size_t n)
{
    uint8_t *out = to;
    switch (width) {
    case 1:
        for (size_t i = 0; i < n; i++)
            out[i] = from[i * stride];
        break;
    case 2:
        for (size_t i = 0; i < n; i++)
            memcpy(out + 2 * i, from + i * stride, 2);
        break;
    case 4:
        for (size_t i = 0; i < n; i++)
            memcpy(out + 4 * i, from + i * stride, 4);
        break;
    default:
        for (size_t i = 0; i < n; i++)
            memcpy(out + 8 * i, from + i * stride, 8);
    }
}

/* scaled numbers pass through double, unless a narrow real is all that is wanted */
static tf_type middle_of(const tf_conversion *c)
{
    if (!c->scaled)
        return c->values;
    if (c->wanted == TF_F16 || c->wanted == TF_BF16)
        return TF_F32;
    return is_real(c->wanted) ? c->wanted : TF_F64;
}

void tf_convert(const tf_conversion *c, void *to, const void *be_from, size_t stride, size_t n)
{
    const kernels *k = best();
    const size_t width = tf_width(c->stored), wanted_width = tf_width(c->wanted);
    const uint64_t flip = flip_of(c);
    const uint8_t *from = be_from;
    uint8_t *out = to;
    const tf_type middle = middle_of(c);
    uint64_t gathered[PIECE], values[PIECE];
    /* words in a file lie anywhere; the loops may want them aligned */
    const int copy = stride != width || (uintptr_t)from % width != 0;

    while (n > 0) {
        const size_t count = n < PIECE ? n : PIECE;
        const void *in = from;
        void *target = middle == c->wanted ? (void *)out : (void *)values;
        if (copy) {
            if (stride == width)
                memcpy(gathered, from, count * width);
            else
                gather(gathered, from, stride, width, count);
            in = gathered;
        }
        if (c->scaled)
            k->scale[c->stored][middle == TF_F64](target, in, count, c);
        else
            k->swap[log_width(c->stored)](target, in, count, flip);
        if (target == values)
            k->cast[middle][c->wanted](out, values, count);
        from += count * stride;
        out += count * wanted_width;
        n -= count;
    }
}

/* Numbers of `width` bytes with their sign bits changed, wherever they lie. */
static void flip_signs(void *to, const void *from, size_t n, size_t width)
{
    const uint64_t one = (uint64_t)1 << (8 * width - 1);
    const uint64_t signs = width == 8 ? one : one * (~(uint64_t)0 / (((uint64_t)1 << (8 * width)) - 1));
    const uint8_t *in = from;
    uint8_t *out = to;
    for (size_t left = n * width, bytes; left > 0; left -= bytes, in += bytes, out += bytes) {
        uint64_t word = 0;
        bytes = left < sizeof word ? left : sizeof word;
        memcpy(&word, in, bytes);
        word ^= signs;
        memcpy(out, &word, bytes);
    }
}

/* NaN where the stored integer is the null value. */
static void put_nulls(const tf_conversion *c, void *reals, tf_type type, const void *from, size_t n)
{
    int64_t integers[PIECE];
    best()->cast[c->stored][TF_I64](integers, from, n);
    for (size_t i = 0; i < n; i++) {
        if (integers[i] == c->blank && type == TF_F32)
            ((float *)reals)[i] = NAN;
        else if (integers[i] == c->blank)
            ((double *)reals)[i] = NAN;
    }
}

void tf_convert_native(const tf_conversion *c, void *to, const void *from, size_t n)
{
    const kernels *k = best();
    const size_t width = tf_width(c->stored), wanted_width = tf_width(c->wanted);
    const tf_type middle = middle_of(c);
    const uint64_t flip = flip_of(c);
    const uint8_t *in = from;
    uint8_t *out = to;
    double doubles[PIECE];
    uint64_t values[PIECE];

    if (!flip && !c->scaled && c->values == c->wanted) {
        if (to != from)
            memcpy(to, from, n * width);
        return;
    }
    if (flip && c->values == c->wanted) {
        flip_signs(to, from, n, width);
        return;
    }
    while (n > 0) {
        const size_t count = n < PIECE ? n : PIECE;
        const void *middles = in;
        if (c->scaled) {
            void *target = middle == c->wanted ? (void *)out : (void *)values;
            k->cast[c->stored][TF_F64](doubles, in, count);
            k->scale_doubles[middle == TF_F64](target, doubles, count, c->scale, c->zero);
            if (c->has_blank)
                put_nulls(c, target, middle, in, count);
            middles = target;
        } else if (flip) {
            flip_signs(values, in, count, width);
            middles = values;
        }
        if (middle != c->wanted)
            k->cast[middle][c->wanted](out, middles, count);
        in += count * width;
        out += count * wanted_width;
        n -= count;
    }
}

void tf_cast(tf_type to_type, void *to, tf_type from_type, const void *from, size_t n)
{
    best()->cast[from_type][to_type](to, from, n);
}

void tf_fill(void *to, const void *element, size_t width, size_t n)
{
    uint8_t *out = to;
    if (n == 0)
        return;
    memcpy(out, element, width);
    /* what is there is copied behind itself, twice as much every time */
    for (size_t done = 1; done < n;) {
        const size_t more = done < n - done ? done : n - done;
        memcpy(out + done * width, out, more * width);
        done += more;
    }
}
