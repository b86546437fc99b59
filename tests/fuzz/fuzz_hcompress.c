/* HCOMPRESS_1: streams are sound where the guard before cfitsio says so, and each variant makes the same pixels of
 * them; what is encoded is decoded to itself.
 *
 * Input: what to do, rows, columns and smoothing, 1 byte each. To decode: scale, 2 bytes, the sum, 8 bytes, and the bit
 * planes of the quadrants, 1 byte each; then the stream behind its header. To encode: scale, 2 bytes, how many bits a
 * pixel has, 1 byte; then pixels. */
#include <stdlib.h>
#include <string.h>

#include "_native/hcompress.h"
#include "_native/hcompress_encode.h"
#include "_native/tile_check.h"
#include "common.h"

#define SIDE 80
#define HEADER 25

static arena streams, results, scratches;

static void put_be(uint8_t *to, uint64_t number, int bytes)
{
    for (int k = bytes - 1; k >= 0; k--, number >>= 8)
        to[k] = (uint8_t)number;
}

/* Scratch memory, aligned as malloc does it. */
static void *scratch_of(size_t size)
{
    return guard(&scratches, (size + 15) / 16 * 16, 0, 1).start;
}

/* What a variant makes of a stream. */
static const char *decode(const char *variant, const guarded *stream, size_t rows, size_t columns, int smooth,
                          int at_end, guarded *found)
{
    void *scratch = scratch_of(tf_hcompress_decode_scratch(rows, columns));
    *found = guard(&results, 4 * rows * columns, 0, at_end);
    mark(found);
    CHECK(tf_use_variant(variant) == 0);
    const char *wrong = tf_hcompress_decode(stream->start, stream->size, rows, columns, smooth,
                                            (int32_t *)(void *)found->start, scratch);
    check_marks(found);
    return wrong;
}

static void try_stream(input *in, size_t rows, size_t columns, int smooth)
{
    static uint8_t expected[4 * SIDE * SIDE], counts[2 * SIDE * SIDE];
    uint8_t header[HEADER] = {0xdd, 0x99};
    put_be(header + 2, rows, 4);
    put_be(header + 6, columns, 4);
    put_be(header + 10, take(in, 2), 4);
    put_be(header + 14, take(in, 8), 8);
    put_be(header + 22, take(in, 3), 3);
    for (int at_end = 0; at_end < 2; at_end++) {
        const guarded stream = guard(&streams, HEADER + in->left, 0, at_end);
        memcpy(stream.start, header, HEADER);
        if (in->left)
            memcpy(stream.start + HEADER, in->at, in->left);
        const int sound = tf_check_hcompress(stream.start, stream.size, rows, columns, 8, counts) == TF_OK;
        const char *name, *first = NULL;
        for (int i = 0; (name = tf_variant_name(i)); i++) {
            guarded found;
            const char *wrong = decode(name, &stream, rows, columns, smooth, at_end, &found);
            CHECK(sound || wrong);
            CHECK(!sound || !wrong || strcmp(wrong, "has coefficients that no encoder writes") == 0);
            CHECK(i == 0 || wrong == first);
            CHECK(wrong || i == 0 || memcmp(found.start, expected, found.size) == 0);
            if (!wrong)
                memcpy(expected, found.start, found.size);
            first = wrong;
        }
    }
}

static void try_pixels(input *in, size_t rows, size_t columns, int smooth)
{
    static int32_t pixels[SIDE * SIDE];
    const int32_t scale = (int32_t)take(in, 2);
    const int unused = 32 - (int)take_within(in, 1, 32);
    for (size_t i = 0; i < rows * columns; i++)
        pixels[i] = (int32_t)((uint32_t)take(in, 4) << unused) >> unused;

    const size_t room = tf_hcompress_room(rows, columns);
    const guarded large = guard(&streams, room, 0, 1);
    void *scratch = scratch_of(tf_hcompress_encode_scratch(rows, columns));
    const int64_t size = tf_hcompress_encode(pixels, rows, columns, scale, large.start, room, scratch);
    CHECK(size > 0);
    const guarded stream = guard(&streams, (size_t)size, 0, 1);
    mark(&stream);
    CHECK(tf_hcompress_encode(pixels, rows, columns, scale, stream.start, stream.size, scratch) == size);
    check_marks(&stream);
    guarded found;
    CHECK(decode("portable", &stream, rows, columns, smooth, 1, &found) == NULL);
    CHECK(scale > 1 || memcmp(found.start, pixels, found.size) == 0);
    const guarded small = guard(&streams, (size_t)size - 1, 0, 1);
    mark(&small);
    CHECK(tf_hcompress_encode(pixels, rows, columns, scale, small.start, small.size, scratch) == -1);
    check_marks(&small);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    input in = {data, size};
    const uint64_t what = take(&in, 1);
    const size_t rows = (size_t)take_within(&in, 2, SIDE), columns = (size_t)take_within(&in, 2, SIDE);
    const int smooth = (int)take_within(&in, 0, 1);
    if (what % 2 == 0)
        try_stream(&in, rows, columns, smooth);
    else
        try_pixels(&in, rows, columns, smooth);
    return 0;
}
