/* Gzip: libdeflate and zlib agree on any stream and any file; what is deflated and shuffled comes back.
 *
 * Input: what is done, 1 byte, and how many bytes are asked for, 2 bytes; then the stream, the inside of a stream (whose
 * wrapping is made here, so that the check sum is right), the file, or bytes. */
#include <stdlib.h>
#include <string.h>

#include "_native/deflate.h"
#include "common.h"

#define MOST 16384

static arena streams, results;

/* What one library makes of a stream: n bytes in guarded memory, or none where it refuses. */
typedef struct {
    tf_inflated result;
    size_t taken, made;
    uint8_t bytes[MOST];
} answer;

static guarded copy_of(const uint8_t *bytes, size_t size, int at_end)
{
    const guarded copy = guard(&streams, size, 0, at_end);
    if (size)
        memcpy(copy.start, bytes, size);
    return copy;
}

static int inflate_as(const char *library, const uint8_t *bytes, size_t size, size_t n, int at_end, uint8_t *found)
{
    tf_inflater *inflater = tf_inflater_new(library);
    const guarded stream = copy_of(bytes, size, at_end), result = guard(&results, n, 0, at_end);
    mark(&result);
    const char *wrong = tf_inflate(inflater, stream.start, size, result.start, n);
    check_marks(&result);
    if (!wrong && n)
        memcpy(found, result.start, n);
    /* nothing is left behind that would change the next answer */
    CHECK((tf_inflate(inflater, stream.start, size, result.start, n) == NULL) == (wrong == NULL));
    tf_inflater_free(inflater);
    return wrong == NULL;
}

/* libdeflate is the more lenient one: codes that leave bits without a meaning, or have no end of block, are no harm to it
 * where the check sum is right. Never does it make anything else. */
static void compare_streams(const uint8_t *stream, size_t size, size_t n)
{
    static uint8_t found[MOST], expected[MOST];
    for (int at_end = 0; at_end < 2; at_end++) {
        const int sound = inflate_as("zlib", stream, size, n, at_end, expected);
        for (int i = 0; tf_inflater_library(i); i++) {
            const int accepted = inflate_as(tf_inflater_library(i), stream, size, n, at_end, found);
            CHECK(accepted >= sound);
            CHECK(!sound || n == 0 || memcmp(found, expected, n) == 0);
        }
    }
}

static void inflate_all(const char *library, const uint8_t *bytes, size_t size, size_t room, int at_end, answer *a)
{
    tf_inflater *inflater = tf_inflater_new(library);
    const guarded file = copy_of(bytes, size, at_end), result = guard(&results, room, 0, at_end);
    a->taken = a->made = 0;
    mark(&result);
    a->result = tf_inflate_file(inflater, file.start, size, result.start, room, &a->taken, &a->made);
    check_marks(&result);
    CHECK(a->taken <= size && a->made <= room);
    CHECK(a->result != TF_INFLATED || a->taken == size);
    if (a->made)
        memcpy(a->bytes, result.start, a->made);
    tf_inflater_free(inflater);
}

static void compare_files(const uint8_t *file, size_t size, size_t room)
{
    static answer found, expected;
    for (int at_end = 0; at_end < 2; at_end++) {
        inflate_all("zlib", file, size, room, at_end, &expected);
        for (int i = 0; tf_inflater_library(i); i++) {
            inflate_all(tf_inflater_library(i), file, size, room, at_end, &found);
            CHECK(found.taken >= expected.taken && found.made >= expected.made);
            CHECK(memcmp(found.bytes, expected.bytes, expected.made) == 0);
            CHECK(expected.result != TF_INFLATED || (found.result == TF_INFLATED && found.made == expected.made));
        }
    }
}

static void deflate_and_back(const uint8_t *bytes, size_t size, int level, size_t less)
{
    static uint8_t back[MOST];
    const guarded in = copy_of(bytes, size, 1);
    const size_t room = tf_deflate_room(size);
    tf_deflater *deflater = tf_deflater_new(level);
    guarded out = guard(&results, room, 0, 1);
    const int64_t made = tf_deflate(deflater, in.start, size, out.start, room);
    CHECK(made > 0 && (size_t)made <= room);
    uint8_t *stream = malloc((size_t)made);
    memcpy(stream, out.start, (size_t)made);
    CHECK(inflate_as("zlib", stream, (size_t)made, size, 1, back));
    CHECK(memcmp(back, bytes, size) == 0);

    /* less room does only where it is enough, and makes no difference then */
    const size_t tight = less < (size_t)made ? (size_t)made - less : 0;
    const guarded again = copy_of(bytes, size, 0);
    out = guard(&results, tight, 0, 1);
    mark(&out);
    const int64_t second = tf_deflate(deflater, again.start, size, out.start, tight);
    check_marks(&out);
    CHECK(second == (less == 0 ? made : -1));
    CHECK(second < 0 || memcmp(out.start, stream, (size_t)made) == 0);
    free(stream);
    tf_deflater_free(deflater);
}

static void shuffle_and_back(const uint8_t *bytes, size_t size, int width)
{
    const size_t n = size / (size_t)width, used = n * (size_t)width;
    for (int at_end = 0; at_end < 2; at_end++) {
        const guarded in = copy_of(bytes, used, at_end), out = guard(&results, used, 0, at_end);
        mark(&out);
        tf_shuffle(in.start, n, width, out.start);
        for (size_t i = 0; i < used; i++)
            CHECK(out.start[i % (size_t)width * n + i / (size_t)width] == bytes[i]);
        memset(in.start, 0, used);
        tf_unshuffle(out.start, n, width, in.start);
        CHECK(used == 0 || memcmp(in.start, bytes, used) == 0);
        check_marks(&out);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t stream[MOST];
    input in = {data, size};
    const int what = (int)take_within(&in, 0, 3);
    const size_t n = (size_t)take_within(&in, 0, MOST);
    if (in.left + 18 > MOST)
        return 0;
    if (what == 0)
        compare_streams(in.at, in.left, n);
    else if (what == 1)
        compare_streams(stream, wrap_in_gzip(in.at, in.left, stream), n);
    else if (what == 2)
        compare_files(in.at, in.left, n);
    else {
        deflate_and_back(in.at, in.left, (int)(n % 10), n / 10 % 7);
        shuffle_and_back(in.at, in.left, 1 << n % 4);
    }
    return 0;
}
