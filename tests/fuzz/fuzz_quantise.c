/* Quantisation both ways: what the variants make of any tile is the same, whatever the guess; integers stand for the
 * pixels they were made of; any integers become the reals that they mean, one by one.
 *
 * Input: direction, method, type, columns, rows, level, ZDITHER0, the tile, a guess; then pixels or integers. */
#include <math.h>
#include <string.h>

#include "_native/dither.h"
#include "_native/quantise.h"
#include "common.h"

#define MOST 4096
#define ZERO_NUMBER (-2147483646)

static arena tiles, results, scratches;

static double take_real(input *in)
{
    const uint64_t bits = take(in, 8);
    double real;
    memcpy(&real, &bits, sizeof real);
    return real;
}

static double pixel(const uint8_t *pixels, int wide, size_t i)
{
    double real;
    float narrow;
    if (wide) {
        memcpy(&real, pixels + 8 * i, sizeof real);
        return real;
    }
    memcpy(&narrow, pixels + 4 * i, sizeof narrow);
    return narrow;
}

/* The random number for each of n elements; 1/2, which changes nothing, without dithering. */
static const float *random_numbers(const tf_quantisation *q, size_t n)
{
    static float numbers[MOST];
    const float *table = tf_dither_begin(1, 0).numbers;
    int64_t start = ((q->zdither0 % 10000 + 10000) % 10000 + q->tile % 10000 + 9999) % 10000;
    int next = (int)(table[start] * 500);
    for (size_t i = 0; i < n; i++) {
        numbers[i] = q->method == TF_NO_DITHER ? 0.5f : table[next];
        if (++next == 10000) {
            start = (start + 1) % 10000;
            next = (int)(table[start] * 500);
        }
    }
    return numbers;
}

/* A tile's integers in guarded memory, and whether there are any. */
static int quantise_guarded(tf_quantisation *q, float level, const uint8_t *pixels, int wide, size_t columns,
                            size_t rows, tf_noise_guess guess, int at_end, int32_t *numbers)
{
    const size_t n = columns * rows, width = wide ? 8 : 4;
    const guarded tile = guard(&tiles, n * width, 0, at_end);
    const guarded found = guard(&results, n * sizeof *numbers, 0, at_end);
    const guarded scratch = guard(&scratches, tf_quantise_scratch(wide, columns, rows), 0, 0);
    memcpy(tile.start, pixels, n * width);
    mark(&found);
    mark(&scratch);
    const int done = tf_quantise(q, level, tile.start, wide, columns, rows, &guess, scratch.start,
                                 (int32_t *)found.start) == 0;
    check_marks(&found);
    check_marks(&scratch);
    memcpy(numbers, found.start, n * sizeof *numbers);
    return done;
}

static void check_integers(const tf_quantisation *q, const uint8_t *pixels, int wide, size_t n, const int32_t *numbers)
{
    const float *random = random_numbers(q, n);
    CHECK(isfinite(q->scale) && q->scale > 0 && !isnan(q->zero));
    for (size_t i = 0; i < n; i++) {
        const double real = pixel(pixels, wide, i);
        if (isnan(real)) {
            CHECK(numbers[i] == TF_ZBLANK && q->has_blank);
        } else if (q->method == TF_SUBTRACTIVE_DITHER_2 && real == 0) {
            CHECK(numbers[i] == ZERO_NUMBER);
        } else {
            const double steps = (real - q->zero) / q->scale + random[i] - 0.5;
            CHECK(fabs(steps - numbers[i]) <= 0.5);
        }
    }
}

static void try_quantise(input *in, tf_quantisation q)
{
    static uint8_t pixels[8 * MOST];
    static int32_t expected[MOST], numbers[MOST];
    const int wide = (int)take_within(in, 0, 1);
    const size_t columns = (size_t)take_within(in, 1, 512);
    const float level = (float)take_real(in);
    tf_noise_guess guess;
    for (int i = 0; i < 3; i++)
        guess.differences[i] = take_real(in);
    size_t rows = in->left / columns / (wide ? 8 : 4);
    if (rows > MOST / columns)
        rows = MOST / columns;
    const size_t n = columns * rows;
    memcpy(pixels, in->at, n * (wide ? 8 : 4));
    tf_quantisation first = q;
    CHECK(tf_use_variant("portable") == 0);
    const int done = quantise_guarded(&first, level, pixels, wide, columns, rows, (tf_noise_guess){{0}}, 1, expected);
    if (done)
        check_integers(&first, pixels, wide, n, expected);
    for (int i = 0; tf_variant_name(i); i++) {
        CHECK(tf_use_variant(tf_variant_name(i)) == 0);
        for (int at_end = 0; at_end < 2; at_end++) {
            tf_quantisation other = q;
            CHECK(quantise_guarded(&other, level, pixels, wide, columns, rows, guess, at_end, numbers) == done);
            if (!done)
                continue;
            CHECK(other.scale == first.scale && other.zero == first.zero && other.has_blank == first.has_blank);
            CHECK(memcmp(numbers, expected, n * sizeof *numbers) == 0);
        }
    }
}

/* One by one. */
static double slow_real(const tf_quantisation *q, int32_t number, float random)
{
    if (q->has_blank && number == q->blank)
        return NAN;
    if (q->method == TF_SUBTRACTIVE_DITHER_2 && number == ZERO_NUMBER)
        return 0;
    return ((double)number - random + 0.5) * q->scale + q->zero;
}

static void try_dequantise(input *in, tf_quantisation q)
{
    q.scale = take_real(in);
    q.zero = take_real(in);
    q.has_blank = (int)take_within(in, 0, 1);
    q.blank = (int64_t)take(in, 8);
    const size_t n = in->left / 4 < MOST ? in->left / 4 : MOST;
    const float *random = random_numbers(&q, n);
    for (int how = 0; how < 8; how++) {
        /* floats take the place of the integers */
        const int wide = how & 1, at_end = how >> 1 & 1;
        const guarded numbers = guard(&tiles, n * 4, 0, at_end);
        const guarded found = wide ? guard(&results, n * 8, 0, at_end) : numbers;
        if (wide)
            mark(&found);
        mark(&numbers);
        memcpy(numbers.start, in->at, n * 4);
        CHECK(tf_use_variant(how & 4 ? "portable" : tf_variant_name(0)) == 0);
        tf_dequantise(&q, (const int32_t *)numbers.start, n, wide, found.start);
        check_marks(&numbers);
        check_marks(&found);
        for (size_t i = 0; i < n; i++) {
            int32_t number;
            memcpy(&number, in->at + 4 * i, 4);
            const double slow = slow_real(&q, number, random[i]), real = pixel(found.start, wide, i);
            const double expected = wide ? slow : (double)(float)slow;
            CHECK(isnan(expected) ? isnan(real) : real == expected);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    input in = {data, size};
    const int back = (int)take_within(&in, 0, 1);
    tf_quantisation q = {0};
    q.method = (tf_dither_method)take_within(&in, 0, TF_DITHER_METHODS - 1);
    q.zdither0 = (int64_t)take(&in, 8);
    q.tile = (int64_t)(take(&in, 4));
    if (back)
        try_dequantise(&in, q);
    else
        try_quantise(&in, q);
    return 0;
}
