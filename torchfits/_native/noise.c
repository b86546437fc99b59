#include "noise.h"

#include <float.h>
#include <math.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#endif

#include "pixels.h"

/* pixels that are looked at side by side */
#define LANES 64
/* differences that are looked at at once, in the hope that no stretch of pixels is constant */
#define STRETCH 128
/* so many numbers are not worth narrowing the search */
#define FEW 64
/* pixels of a row that has one difference */
#define SHORTEST_ROW 9
/* bytes behind packed numbers that may be written */
#define PACK_SPARE 32

/* Memory for the rows of a tile, and what comes of them. */
typedef struct {
    void *differences[3], *packed[2], *good;
    int64_t *medians[3]; /* the bits of doubles */
    size_t medians_of_second, medians_of_others;
} rooms;

/* Numbers taken from an array; of these, those that were packed and those that are below all that are. */
typedef struct {
    size_t taken, packed, below;
} packing;

/* ---------------------------------------------------------------------------- packing of vectors */

static packing pack_vectors_f32_portable(const int32_t *from, size_t n, int32_t low, int32_t high, int32_t *to)
{
    (void)from, (void)n, (void)low, (void)high, (void)to;
    return (packing){0, 0, 0};
}

static packing pack_vectors_f64_portable(const int64_t *from, size_t n, int64_t low, int64_t high, int64_t *to)
{
    (void)from, (void)n, (void)low, (void)high, (void)to;
    return (packing){0, 0, 0};
}

#if defined(__x86_64__) && defined(__GNUC__)
/* For each set of lanes: which they are, the lowest first, and how many. */
static struct {
    uint8_t lanes[256][8], count[256];
} sets;
static pthread_once_t sets_once = PTHREAD_ONCE_INIT;

static void fill_sets(void)
{
    for (int set = 0; set < 256; set++)
        for (int lane = 0; lane < 8; lane++)
            if (set >> lane & 1)
                sets.lanes[set][sets.count[set]++] = (uint8_t)lane;
}

/* Writes the lanes of the set, and then others; how many are of the set. */
__attribute__((target("avx2"))) static inline size_t put_lanes(void *to, __m256i vector, unsigned set)
{
    const __m256i lanes = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)sets.lanes[set]));
    _mm256_storeu_si256(to, _mm256_permutevar8x32_epi32(vector, lanes));
    return sets.count[set];
}

__attribute__((target("avx2"))) static packing pack_vectors_f32_avx2(const int32_t *from, size_t n, int32_t low,
                                                                     int32_t high, int32_t *to)
{
    const __m256i lows = _mm256_set1_epi32(low), highs = _mm256_set1_epi32(high);
    __m256i belows = _mm256_setzero_si256();
    packing done = {0, 0, 0};
    for (; done.taken + 8 <= n; done.taken += 8) {
        const __m256i bits = _mm256_loadu_si256((const __m256i *)(from + done.taken));
        const __m256i below = _mm256_cmpgt_epi32(lows, bits), above = _mm256_cmpgt_epi32(bits, highs);
        const int outside = _mm256_movemask_ps(_mm256_castsi256_ps(_mm256_or_si256(below, above)));
        done.packed += put_lanes(to + done.packed, bits, ~(unsigned)outside & 255);
        belows = _mm256_sub_epi32(belows, below);
    }
    int32_t counts[8];
    _mm256_storeu_si256((__m256i *)counts, belows);
    for (int k = 0; k < 8; k++)
        done.below += (size_t)counts[k];
    return done;
}

__attribute__((target("avx2"))) static packing pack_vectors_f64_avx2(const int64_t *from, size_t n, int64_t low,
                                                                     int64_t high, int64_t *to)
{
    const __m256i lows = _mm256_set1_epi64x(low), highs = _mm256_set1_epi64x(high);
    __m256i belows = _mm256_setzero_si256();
    packing done = {0, 0, 0};
    for (; done.taken + 4 <= n; done.taken += 4) {
        const __m256i bits = _mm256_loadu_si256((const __m256i *)(from + done.taken));
        const __m256i below = _mm256_cmpgt_epi64(lows, bits), above = _mm256_cmpgt_epi64(bits, highs);
        /* two lanes of 32 bits for each of 64 */
        const int outside = _mm256_movemask_ps(_mm256_castsi256_ps(_mm256_or_si256(below, above)));
        done.packed += put_lanes(to + done.packed, bits, ~(unsigned)outside & 255) / 2;
        belows = _mm256_sub_epi64(belows, below);
    }
    int64_t counts[4];
    _mm256_storeu_si256((__m256i *)counts, belows);
    for (int k = 0; k < 4; k++)
        done.below += (size_t)counts[k];
    return done;
}
#endif

/* ---------------------------------------------------------------------------- loops */

#define KERNELS "noise_kernels.h"

#define REAL float
#define BITS int32_t
#define LARGEST FLT_MAX
#define FRACTION_BITS 23
#define ALL_BITS INT32_MAX
#define NAME(name) KERNEL(name##_f32)
#include "variants.h"
#undef REAL
#undef BITS
#undef LARGEST
#undef FRACTION_BITS
#undef ALL_BITS
#undef NAME

#define REAL double
#define BITS int64_t
#define LARGEST DBL_MAX
#define FRACTION_BITS 52
#define ALL_BITS INT64_MAX
#define NAME(name) KERNEL(name##_f64)
#include "variants.h"

typedef struct {
    tf_range (*range_of)(const void *pixels, size_t n);
    int (*medians_of_rows)(const void *pixels, size_t columns, size_t rows, int nulls, int literal,
                           tf_noise_guess *guess, rooms *r);
} kernels;

static const kernels *kernels_for(int wide)
{
    static const kernels known[2][2] = {
        {{range_of_f32_portable, medians_of_rows_f32_portable}, {range_of_f64_portable, medians_of_rows_f64_portable}},
#ifdef HAVE_AVX2
        {{range_of_f32_avx2, medians_of_rows_f32_avx2}, {range_of_f64_avx2, medians_of_rows_f64_avx2}},
#endif
    };
    return &known[tf_uses_avx2()][wide];
}

/* ---------------------------------------------------------------------------- tiles */

tf_range tf_range_of(const void *pixels, int wide, size_t n)
{
    return kernels_for(wide)->range_of(pixels, n);
}

/* Short rows count as one. */
static void shape_of(size_t *columns, size_t *rows)
{
    if (*columns < SHORTEST_ROW) {
        *columns *= *rows;
        *rows = 1;
    }
}

size_t tf_quantise_scratch(int wide, size_t columns, size_t rows)
{
    shape_of(&columns, &rows);
    return 6 * (columns * (wide ? sizeof(double) : sizeof(float)) + PACK_SPARE) + 3 * rows * sizeof(double);
}

static rooms rooms_in(void *scratch, int wide, size_t columns, size_t rows)
{
    rooms r;
    int64_t *at = scratch;
    for (int i = 0; i < 3; i++, at += rows)
        r.medians[i] = at;
    const size_t bytes = columns * (wide ? sizeof(double) : sizeof(float)) + PACK_SPARE;
    uint8_t *next = (uint8_t *)at;
    for (int i = 0; i < 3; i++, next += bytes)
        r.differences[i] = next;
    for (int i = 0; i < 2; i++, next += bytes)
        r.packed[i] = next;
    r.good = next;
    return r;
}

/* The median, the mean of the two in the middle where there are two; no number where one of them is none. */
static double median_of(int64_t *bits, size_t n)
{
    if (n == 0)
        return 0;
    for (size_t i = 0; i < n; i++)
        if (isnan(real_of_f64_portable(bits[i])))
            return NAN;
    const double low = real_of_f64_portable(select_as_cfitsio_f64_portable(bits, n, (n - 1) / 2));
    if (n == 1)
        return low;
    return (low + real_of_f64_portable(select_as_cfitsio_f64_portable(bits, n, n / 2))) / 2;
}

double tf_noise(const void *pixels, int wide, size_t columns, size_t rows, const tf_range *range,
                tf_noise_guess *guess, void *scratch)
{
    const kernels *k = kernels_for(wide);
    const int nulls = range->count < columns * rows;
    /* differences that overflow may be no numbers, whose order is cfitsio's */
    const double overflows = (wide ? DBL_MAX : (double)FLT_MAX) / 16;
    const int literal = range->lowest < -overflows || range->highest > overflows;
    shape_of(&columns, &rows);
    if (columns < SHORTEST_ROW)
        return 0;
    rooms r = rooms_in(scratch, wide, columns, rows);
#ifdef HAVE_AVX2
    pthread_once(&sets_once, fill_sets);
#endif
    if (k->medians_of_rows(pixels, columns, rows, nulls, literal, guess, &r) != 0)
        k->medians_of_rows(pixels, columns, rows, nulls, 1, guess, &r);
    const double second = 1.0483579 * median_of(r.medians[0], r.medians_of_second);
    const double third = 0.6052697 * median_of(r.medians[1], r.medians_of_others);
    const double fifth = 0.1772048 * median_of(r.medians[2], r.medians_of_others);
    double noise = third;
    if (isnan(second) || isnan(fifth))
        return NAN;
    if (second != 0 && second < noise)
        noise = second;
    if (fifth != 0 && fifth < noise)
        noise = fifth;
    return noise;
}
