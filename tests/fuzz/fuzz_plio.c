/* PLIO_1: lists are sound where the guard before cfitsio says so; their pixels are what reading them one by one gives,
 * and are encoded and decoded to themselves.
 *
 * Input: how many pixels, 2 bytes; then the list. */
#include <stdlib.h>
#include <string.h>

#include "_native/plio.h"
#include "_native/tile_check.h"
#include "common.h"

#define MOST 9000

static arena streams, results;

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
    CHECK(tf_plio_decode(stream.start, stream.size, back, n) == NULL);
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
        const char *wrong = tf_plio_decode(stream.start, in.left, pixels, n);
        check_marks(&found);
        CHECK((wrong == NULL) == (tf_check_plio(stream.start, in.left, n) == TF_OK));
        if (wrong)
            continue;
        slow_decode(in.at, expected, n);
        CHECK(memcmp(pixels, expected, 4 * n) == 0);
        try_encoding(pixels, n);
    }
    return 0;
}
