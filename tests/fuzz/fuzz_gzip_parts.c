/* Gzip files in parts: several threads make of any file, or of anything inside of one, what zlib makes,
 * unless they find no blocks to begin at.
 *
 * Input: whether it is the inside only and which variant decodes, 1 byte; how the work is shared out, 7 bytes, and how many
 * bytes may come, 4 bytes; then the file or its inside. */
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "_native/gzip_parts.h"
#include "_native/inflate.h"
#include "_native/pixels.h"
#include "common.h"

/* a part is gone on with only after 32 KiB */
#define MOST (1 << 18)

static arena files, results, units;

/* The first member by zlib, to n bytes at most. */
static int first_member(const uint8_t *file, size_t size, size_t n, uint8_t *found, size_t *taken, size_t *made)
{
    z_stream z = {.next_in = (uint8_t *)(uintptr_t)file, .avail_in = (uInt)size, .next_out = found, .avail_out = (uInt)n};
    uint8_t spare;
    CHECK(inflateInit2(&z, 15 + 16) == Z_OK);
    int result = inflate(&z, Z_SYNC_FLUSH);
    if (result != Z_STREAM_END && z.total_out == n) {
        z.next_out = &spare;
        z.avail_out = 1;
        result = inflate(&z, Z_SYNC_FLUSH);
    }
    *taken = z.total_in;
    *made = z.total_out;
    inflateEnd(&z);
    return result == Z_STREAM_END && *made <= n;
}

static void compare_parts(const uint8_t *file, size_t size, size_t n, tf_sharing sharing)
{
    static uint8_t expected[MOST];
    size_t taken = 0, made = 0, taken_by_zlib, made_by_zlib;
    /* a check sum of the header is left to zlib */
    const int is_sound = (size < 4 || !(file[3] & 2)) && first_member(file, size, n, expected, &taken_by_zlib, &made_by_zlib);
    const guarded scratch = guard(&units, tf_sharing_scratch(&sharing), 0, 1);
    for (int at_end = 0; at_end < 2; at_end++) {
        const guarded in = guard(&files, size, 0, at_end);
        const guarded out = guard(&results, n + TF_INFLATE_SLACK, 0, at_end);
        if (size)
            memcpy(in.start, file, size);
        mark(&out);
        const int turns =
            tf_inflate_gzip_in_parts((tf_stream){in.start, size}, &sharing, scratch.start, out.start, n, &taken, &made);
        check_marks(&out);
        if (turns == 0)
            continue;
        CHECK((turns > 0) == is_sound);
        CHECK(!is_sound || (taken == taken_by_zlib && made == made_by_zlib));
        CHECK(!is_sound || made == 0 || memcmp(out.start, expected, made) == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t file[MOST];
    input in = {data, size};
    const int how = (int)take_within(&in, 0, 3);
    tf_sharing sharing = {(int)take_within(&in, 1, 3), (size_t)take_within(&in, 200, 2000), 0};
    sharing.units = (size_t)take_within(&in, 0, MOST);
    const size_t room = (size_t)take_within(&in, 0, MOST);
    if (in.left + 18 > MOST)
        return 0;
    CHECK(tf_use_variant(how & 2 ? "portable" : tf_variant_name(0)) == 0);
    if (how & 1)
        compare_parts(file, wrap_in_gzip(in.at, in.left, file), room, sharing);
    else
        compare_parts(in.at, in.left, room, sharing);
    return 0;
}
