#include "quantise.h"

#include <math.h>
#include <string.h>

#include "dither.h"
#include "noise.h"
#include "pixels.h"

/* numbers in flight: they stay in the first-level cache */
#define PIECE 1024

/* the integer that stands for 0 in tiles of SUBTRACTIVE_DITHER_2 */
#define ZERO_NUMBER (-2147483646)
/* the lowest integer of a tile in which some are special: ten are kept for that */
#define LOWEST_NUMBER (-2147483637)

typedef void dequantiser(void *to, const int32_t *numbers, const float *random, size_t n, const tf_quantisation *q);
typedef void quantiser(int32_t *numbers, const void *pixels, const float *random, size_t n, const tf_quantisation *q);

#define KERNELS "quantise_kernels.h"
#define REAL float
#define NAME(name) KERNEL(name##_f32)
#include "variants.h"
#undef REAL
#undef NAME
#define REAL double
#define NAME(name) KERNEL(name##_f64)
#include "variants.h"

#ifdef HAVE_AVX2
#define VARIANTS(name) {{name##_f32_portable, name##_f64_portable}, {name##_f32_avx2, name##_f64_avx2}}
#else
#define VARIANTS(name) {{name##_f32_portable, name##_f64_portable}, {name##_f32_portable, name##_f64_portable}}
#endif
static dequantiser *const dequantisers[2][2] = VARIANTS(dequantise);
static quantiser *const quantisers[2][2] = VARIANTS(quantise);

/* ---------------------------------------------------------------------------- integers to reals */

/* The random numbers for the next of n elements; how many those are. */
static size_t piece_of(tf_dither *dither, const tf_quantisation *q, size_t n, const float **random)
{
    size_t count = n < PIECE ? n : PIECE;
    if (q->method != TF_NO_DITHER)
        *random = tf_dither_take(dither, &count);
    return count;
}

void tf_dequantise(const tf_quantisation *quantisation, const int32_t *numbers, size_t n, int wide, void *to)
{
    dequantiser *const dequantise = dequantisers[tf_uses_avx2()][wide];
    const size_t width = wide ? sizeof(double) : sizeof(float);
    tf_quantisation q = *quantisation;
    tf_dither dither = tf_dither_begin(q.zdither0, q.tile);
    const float *random = NULL;
    uint8_t *out = to;
    int32_t piece[PIECE]; /* so that the reals may take the place of the integers */
    q.has_blank = q.has_blank && q.blank >= INT32_MIN && q.blank <= INT32_MAX;
    for (size_t count; n > 0; n -= count) {
        count = piece_of(&dither, &q, n, &random);
        memcpy(piece, numbers, count * sizeof *piece);
        dequantise(out, piece, random, count, &q);
        numbers += count;
        out += count * width;
    }
}

/* ---------------------------------------------------------------------------- reals to integers */

/* The difference, and the sum, of two pixels are rounded as pixels are. */
static double range_size(const tf_range *range, int wide)
{
    return wide ? range->highest - range->lowest : (double)((float)range->highest - (float)range->lowest);
}

static double middle(const tf_range *range, int wide)
{
    return (wide ? range->highest + range->lowest : (double)((float)range->highest + (float)range->lowest)) / 2;
}

/* What is 0 among the integers: so that they begin at 0, where none is special and they take no more than 31 bits. */
static double zero_point(const tf_quantisation *q, const tf_range *range, int wide)
{
    if (q->has_blank || q->method == TF_SUBTRACTIVE_DITHER_2)
        return range->lowest - q->scale * LOWEST_NUMBER;
    if (range_size(range, wide) / q->scale >= -(double)LOWEST_NUMBER)
        return middle(range, wide);
    /* a multiple of the scale, so that quantising once more does not change it */
    const double steps = range->lowest / q->scale + 0.5;
    return fabs(steps) < 0x1p63 ? (double)(int64_t)steps * q->scale : NAN;
}

/* Whether all pixels become integers of 32 bits, with any random number. */
static int fits(const tf_quantisation *q, const tf_range *range)
{
    return (range->lowest - q->zero) / q->scale > -2147483648.0 && (range->highest - q->zero) / q->scale < 2147483647.0;
}

static double step_size(float level, double noise)
{
    return level < 0 ? -level : level == 0 ? noise / 4 : noise / level;
}

int tf_quantise(tf_quantisation *q, float level, const void *pixels, int wide, size_t columns, size_t rows,
                tf_noise_guess *guess, void *scratch, int32_t *numbers)
{
    size_t n = columns * rows;
    if (n <= 1 || n > INT32_MAX)
        return -1;
    tf_range range = tf_range_of(pixels, wide, n);
    const int all_null = range.count == 0;
    double noise = 1;
    if (!all_null && !(isfinite(range.lowest) && isfinite(range.highest)))
        return -1;
    if (level >= 0) {
        if (all_null)
            range = (tf_range){0, 1, 0};
        else
            noise = tf_noise(pixels, wide, columns, rows, &range, guess, scratch);
    }
    q->has_blank = range.count < n;
    q->blank = TF_ZBLANK;
    q->scale = step_size(level, noise);
    if (!isfinite(q->scale) || q->scale <= 0 || range_size(&range, wide) / q->scale > 2 * 2147483647.0 - 10)
        return -1;
    q->zero = zero_point(q, &range, wide);
    if (!all_null && !fits(q, &range))
        return -1;

    quantiser *const quantise = quantisers[tf_uses_avx2()][wide];
    tf_dither dither = tf_dither_begin(q->zdither0, q->tile);
    const float *random = NULL;
    const uint8_t *from = pixels;
    for (size_t count; n > 0; n -= count) {
        count = piece_of(&dither, q, n, &random);
        quantise(numbers, from, random, count, q);
        numbers += count;
        from += count * (wide ? sizeof(double) : sizeof(float));
    }
    return 0;
}
