/* RICE_1 streams: what tf_rice_decode makes of any bytes is what reading them bit by bit makes.
 *
 * Input: width and block size, 1 byte each, the count of numbers, 2 bytes; then the stream. */
#include <stdlib.h>
#include <string.h>

#include "_native/rice.h"
#include "common.h"

#define MOST 4096

static arena streams, results;

typedef struct {
    const uint8_t *bytes;
    size_t bits, at;
} slow_bits;

/* One bit more, -1 where there is none. */
static int next(slow_bits *b)
{
    if (b->at >= b->bits)
        return -1;
    const int bit = b->bytes[b->at / 8] >> (7 - b->at % 8) & 1;
    b->at++;
    return bit;
}

static int take_bits(slow_bits *b, int n, uint32_t *value)
{
    *value = 0;
    for (; n > 0; n--) {
        const int bit = next(b);
        if (bit < 0)
            return -1;
        *value = *value << 1 | (uint32_t)bit;
    }
    return 0;
}

/* 0, or -1 where the stream is damaged. */
static int slow_decode(const uint8_t *stream, size_t size, int width, uint64_t block, uint8_t *to, size_t n)
{
    const int plain = width == 1 ? 3 : width == 2 ? 4 : 5;
    const int64_t as_is = width == 1 ? 6 : width == 2 ? 14 : 25;
    slow_bits b = {stream, 8 * size, 0};
    uint32_t last, coded = 0, field = 0;
    if (n > 0 && take_bits(&b, 8 * width, &last) != 0)
        return -1;
    for (size_t i = 0; i < n; i++) {
        if (i % block == 0 && take_bits(&b, plain, &field) != 0)
            return -1;
        const int64_t split = (int64_t)field - 1;
        uint64_t zeros = 0;
        coded = 0;
        if (split > as_is)
            return -1;
        if (split == as_is) {
            if (take_bits(&b, 8 * width, &coded) != 0)
                return -1;
        } else if (split >= 0) {
            int bit;
            while ((bit = next(&b)) == 0)
                zeros++;
            if (bit < 0 || take_bits(&b, (int)split, &coded) != 0)
                return -1;
            coded += (uint32_t)(zeros << split);
        }
        last += coded % 2 == 0 ? coded / 2 : (uint32_t)(-(int64_t)(coded / 2) - 1);
        for (int k = 0; k < width; k++)
            to[i * (size_t)width + (size_t)k] = (uint8_t)(last >> 8 * (width - 1 - k));
    }
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t expected[4 * MOST];
    input in = {data, size};
    const int width = 1 << take_within(&in, 0, 2);
    const uint64_t block = (uint64_t)take_within(&in, 1, 64);
    const size_t n = (size_t)take_within(&in, 0, MOST);
    for (int at_end = 0; at_end < 2; at_end++) {
        const guarded stream = guard(&streams, in.left, 0, at_end);
        const guarded found = guard(&results, n * (size_t)width, 0, at_end);
        if (in.left)
            memcpy(stream.start, in.at, in.left);
        mark(&found);
        const char *wrong = tf_rice_decode(stream.start, in.left, width, block, found.start, n);
        check_marks(&found);
        CHECK((wrong != NULL) == (slow_decode(in.at, in.left, width, block, expected, n) != 0));
        if (wrong)
            continue;
        CHECK(n == 0 || memcmp(found.start, expected, n * (size_t)width) == 0);
        CHECK(tf_rice_least(n, width, block) <= in.left);
    }
    return 0;
}
