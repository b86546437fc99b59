/* PLIO_1: lists are sound where the guard before cfitsio says so; their pixels are what reading them one by one gives,
 * in every type, and are encoded and decoded to themselves.
 *
 * Input: how many pixels, 2 bytes; then the list. */
#include <stdlib.h>
#include <string.h>

#include "_native/plio.h"
#include "_native/tile_check.h"
#include "common.h"

#define MOST 9000

static arena streams, results, narrow;

static uint32_t word_at(const uint8_t *stream, size_t i)
{
    return (uint32_t)stream[2 * i] << 8 | stream[2 * i + 1];
}

/* The pixels of a sound list. */
static void slow_decode(const uint8_t *stream, uint32_t *to, size_t n)
{
    const int old = word_at(stream, 2) != 0 && word_at(stream, 2) < 0x8000;
    const size_t end = old ? word_at(stream, 2) : word_at(stream, 4) << 15 | word_at(stream, 3);
    uint32_t value = 1;
    size_t at = 0;
    for (size_t i = old ? 3 : word_at(stream, 1); i < end && at < n; i++) {
        const uint32_t code = word_at(stream, i) / 4096, count = word_at(stream, i) % 4096;
        if (code == 1)
            value = count + 4096 * word_at(stream, ++i);
        else if (code == 2 || code == 6)
            value += count;
        else if (code == 3 || code == 7)
            value -= count;
        if (code >= 6)
            to[at++] = value;
        else if (code == 0 || code >= 4)
            for (uint32_t k = 1; k <= count; k++)
                to[at++] = code == 4 || (code == 5 && k == count) ? value : 0;
    }
    while (at < n)
        to[at++] = 0;
}

/* As bytes, and as numbers of 16 bits with and without a sign: what the 32 bits cut down are, or refused where a number
 * that the list puts does not fit. */
static void try_narrow(const uint8_t *stream, size_t size, const uint32_t *expected, size_t n, int at_end)
{
    static const struct {
        tf_type type;
        int32_t zero, low, high;
    } kinds[] = {{TF_U8, 0, 0, UINT8_MAX}, {TF_I16, 0, INT16_MIN, INT16_MAX}, {TF_I16, 32768, INT16_MIN, INT16_MAX}};
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        const int width = (int)tf_width(kinds[k].type);
        const guarded found = guard(&narrow, (size_t)width * n, 0, at_end);
        int fits = 1;
        mark(&found);
        const char *wrong = tf_plio_decode(stream, size, kinds[k].type, kinds[k].zero, found.start, n);
        check_marks(&found);
        for (size_t i = 0; i < n; i++) {
            const int32_t number = (int32_t)(expected[i] - (uint32_t)kinds[k].zero);
            int16_t half = 0;
            if (width == 2 && !wrong)
                memcpy(&half, found.start + 2 * i, 2);
            fits &= number >= kinds[k].low && number <= kinds[k].high;
            CHECK(wrong || number == (width == 1 ? found.start[i] : half));
        }
        CHECK(fits == !wrong);
    }
}

static void try_encoding(const int32_t *pixels, size_t n)
{
    static int32_t back[MOST];
    int in_range = 1;
    for (size_t i = 0; i < n; i++)
        in_range &= pixels[i] >= 0 && pixels[i] <= 0xffffff;
    const guarded large = guard(&streams, tf_plio_room(n), 0, 1);
    const int64_t size = tf_plio_encode(pixels, n, large.start, large.size);
    CHECK((size < 0) == !in_range);
    if (size < 0)
        return;
    const guarded stream = guard(&streams, (size_t)size, 0, 1);
    mark(&stream);
    CHECK(tf_plio_encode(pixels, n, stream.start, stream.size) == size);
    check_marks(&stream);
    CHECK(tf_plio_decode(stream.start, stream.size, TF_I32, 0, back, n) == NULL);
    CHECK(memcmp(back, pixels, n * sizeof *back) == 0);
    CHECK(tf_plio_encode(pixels, n, stream.start, stream.size - 1) == -1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint32_t expected[MOST];
    input in = {data, size};
    const size_t n = (size_t)take_within(&in, 1, MOST);
    for (int at_end = 0; at_end < 2; at_end++) {
        const guarded stream = guard(&streams, in.left, 0, at_end);
        const guarded found = guard(&results, 4 * n, 0, at_end);
        int32_t *pixels = (int32_t *)(void *)found.start;
        if (in.left)
            memcpy(stream.start, in.at, in.left);
        mark(&found);
        const char *wrong = tf_plio_decode(stream.start, in.left, TF_I32, 0, pixels, n);
        check_marks(&found);
        CHECK((wrong == NULL) == (tf_check_plio(stream.start, in.left, n) == TF_OK));
        if (wrong)
            continue;
        slow_decode(in.at, expected, n);
        CHECK(memcmp(pixels, expected, 4 * n) == 0);
        try_narrow(stream.start, in.left, expected, n, at_end);
        try_encoding(pixels, n);
    }
    return 0;
}
