/* RICE_1 streams: what every variant makes of any bytes is what reading them bit by bit makes; and numbers that are
 * encoded are those that reading the stream bit by bit makes, which is the same by every variant.
 *
 * Input: which of the two, width and block size, 1 byte each, the count of numbers, 2 bytes. Then how many streams,
 * 1 byte, and the bytes of each but the last, 2 bytes each, and the streams; or in how many bits numbers differ from
 * one another, 1 byte, and 4 bytes for each. */
#include <stdlib.h>
#include <string.h>

#include "_native/rice.h"
#include "_native/rice_encode.h"
#include "common.h"

#define MOST 4096

static arena given_places[TF_RICE_TOGETHER], found_places[TF_RICE_TOGETHER];

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

/* A number of the host's. */
static void put_number(uint8_t *to, int width, uint32_t number)
{
    const uint16_t half = (uint16_t)number;
    const uint8_t byte = (uint8_t)number;
    memcpy(to, width == 1 ? &byte : width == 2 ? (const void *)&half : (const void *)&number, (size_t)width);
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
        put_number(to + i * (size_t)width, width, last);
    }
    return 0;
}

/* ---------------------------------------------------------------------------- decoding */

/* By the variant in use: streams that end or begin where their memory does. */
static void check_decoding(const tf_stream *streams, int count, int width, uint64_t block, size_t n, int at_end)
{
    static uint8_t expected[4 * MOST];
    tf_stream given[TF_RICE_TOGETHER] = {{NULL, 0}};
    guarded found[TF_RICE_TOGETHER];
    void *to[TF_RICE_TOGETHER] = {NULL};
    int sound = 1, bad = -1;
    for (int i = 0; i < count; i++) {
        const guarded copy = guard(&given_places[i], streams[i].size, 0, at_end);
        if (streams[i].size)
            memcpy(copy.start, streams[i].bytes, streams[i].size);
        given[i] = (tf_stream){copy.start, streams[i].size};
        found[i] = guard(&found_places[i], n * (size_t)width, 0, at_end);
        mark(&found[i]);
        to[i] = found[i].start;
    }
    const char *wrong = tf_rice_decode(given, count, width, block, to, n, &bad);
    for (int i = 0; i < count; i++) {
        const int fails = slow_decode(given[i].bytes, given[i].size, width, block, expected, n) != 0;
        sound &= !fails;
        check_marks(&found[i]);
        CHECK(!wrong || bad != i || fails);
        CHECK(wrong || n == 0 || memcmp(to[i], expected, n * (size_t)width) == 0);
        CHECK(wrong || tf_rice_least(n, width, block) <= given[i].size);
    }
    CHECK(sound == !wrong);
}

static void decode(input *in, int width, uint64_t block, size_t n)
{
    tf_stream streams[TF_RICE_TOGETHER];
    const int count = (int)take_within(in, 1, TF_RICE_TOGETHER);
    for (int i = 0; i + 1 < count; i++)
        streams[i].size = take(in, 2);
    for (int i = 0; i < count; i++) {
        if (i + 1 == count || streams[i].size > in->left)
            streams[i].size = in->left;
        streams[i].bytes = in->at;
        in->at += streams[i].size;
        in->left -= streams[i].size;
    }
    for (int i = 0; tf_variant_name(i); i++) {
        CHECK(tf_use_variant(tf_variant_name(i)) == 0);
        check_decoding(streams, count, width, block, n, 0);
        check_decoding(streams, count, width, block, n, 1);
    }
}

/* ---------------------------------------------------------------------------- encoding */

static void take_numbers(input *in, int width, size_t n, uint8_t *numbers)
{
    const uint64_t mask = ((uint64_t)2 << take_within(in, 0, 31)) - 1;
    uint32_t number = 0;
    for (size_t i = 0; i < n; i++)
        put_number(numbers + i * (size_t)width, width, number += (uint32_t)(take(in, 4) & mask));
}

static void encode(input *in, int width, uint64_t block, size_t n)
{
    static uint8_t numbers[4 * MOST], decoded[4 * MOST], best[8 * MOST];
    const size_t room = tf_rice_room(n, width, block), bytes = n * (size_t)width;
    int64_t size = 0;
    take_numbers(in, width, n, numbers);
    CHECK(room <= sizeof best);
    for (int i = 0; tf_variant_name(i); i++) {
        CHECK(tf_use_variant(tf_variant_name(i)) == 0);
        const guarded given = guard(&given_places[0], bytes, 0, i % 2), found = guard(&found_places[0], room, 0, 1);
        memcpy(given.start, numbers, bytes);
        mark(&found);
        size = tf_rice_encode(given.start, n, width, block, found.start, room);
        check_marks(&found);
        CHECK(size >= 0 && (size_t)size <= room);
        CHECK(n == 0 || tf_rice_encode(given.start, n, width, block, found.start, room - 1) == -1);
        if (i == 0)
            memcpy(best, found.start, (size_t)size);
        CHECK(memcmp(best, found.start, (size_t)size) == 0);
    }
    CHECK(slow_decode(best, (size_t)size, width, block, decoded, n) == 0 && memcmp(numbers, decoded, bytes) == 0);
    CHECK(n == 0 || slow_decode(best, (size_t)size - 1, width, block, decoded, n) != 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    input in = {data, size};
    const int encodes = (int)take_within(&in, 0, 1), width = 1 << take_within(&in, 0, 2);
    const uint64_t block = (uint64_t)take_within(&in, 1, 64);
    const size_t n = (size_t)take_within(&in, 0, MOST);
    if (encodes)
        encode(&in, width, block, n);
    else
        decode(&in, width, block, n);
    return 0;
}
