#include "deflate.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* zlib's pointers to input are to const bytes, then */
#define ZLIB_CONST
#include <zlib.h>
#ifdef HAVE_LIBDEFLATE
#include <libdeflate.h>
#endif

/* of gzip's wrapping, in zlib's way of saying it: a window of 32 KiB, and 16 more */
#define WINDOW_OF_GZIP (15 + 16)
/* a flag of gzip: the header has a check sum of its own */
#define HEADER_IS_CHECKED 2

struct tf_inflater {
    z_stream zlib;
#ifdef HAVE_LIBDEFLATE
    struct libdeflate_decompressor *fast; /* NULL where zlib was asked for */
#endif
};

static const char *const libraries[] = {
#ifdef HAVE_LIBDEFLATE
    "libdeflate",
#endif
    "zlib",
    NULL,
};

const char *tf_inflater_library(int i)
{
    return libraries[i];
}

/* ---------------------------------------------------------------------------- one member */

/* zlib counts what it is given in unsigned int. */
static uInt portion(size_t left)
{
    return left < UINT_MAX ? (uInt)left : UINT_MAX;
}

static tf_inflated zlib_member(z_stream *z, const uint8_t *stream, size_t size, uint8_t *to, size_t room, size_t *taken,
                               size_t *made)
{
    uint8_t spare; /* that a byte comes for which there is no room is seen when it comes */
    int result = inflateReset(z);

    z->next_in = stream;
    z->next_out = to;
    while (result == Z_OK && z->total_out <= room) {
        if (z->total_out == room)
            z->next_out = &spare;
        z->avail_in = portion(size - z->total_in);
        z->avail_out = z->total_out == room ? 1 : portion(room - z->total_out);
        result = inflate(z, Z_NO_FLUSH);
    }
    *taken = z->total_in;
    *made = z->total_out;
    if (*made > room)
        return TF_INFLATE_FULL;
    return result == Z_STREAM_END ? TF_INFLATED : TF_INFLATE_BAD;
}

#ifdef HAVE_LIBDEFLATE
static tf_inflated fast_member(struct libdeflate_decompressor *d, const uint8_t *stream, size_t size, uint8_t *to,
                               size_t room, size_t *taken, size_t *made)
{
    switch (libdeflate_gzip_decompress_ex(d, stream, size, to, room, taken, made)) {
    case LIBDEFLATE_SUCCESS:
        return TF_INFLATED;
    case LIBDEFLATE_INSUFFICIENT_SPACE:
        return TF_INFLATE_FULL;
    default:
        return TF_INFLATE_BAD;
    }
}
#endif

/* The member that `stream` begins with. */
static tf_inflated member(tf_inflater *inflater, const uint8_t *stream, size_t size, uint8_t *to, size_t room,
                          size_t *taken, size_t *made)
{
    uint8_t none; /* nothing is added to a pointer to nothing */
    if (room == 0)
        to = &none;
#ifdef HAVE_LIBDEFLATE
    /* it would pass over the header's check sum */
    if (inflater->fast && size > 3 && !(stream[3] & HEADER_IS_CHECKED))
        return fast_member(inflater->fast, stream, size, to, room, taken, made);
#endif
    return zlib_member(&inflater->zlib, stream, size, to, room, taken, made);
}

/* ---------------------------------------------------------------------------- inflating */

tf_inflater *tf_inflater_new(const char *library)
{
    tf_inflater *inflater;
    int i = 0;
    while (library && libraries[i] && strcmp(library, libraries[i]) != 0)
        i++;
    if (!libraries[i] || !(inflater = calloc(1, sizeof *inflater)))
        return NULL;
    if (inflateInit2(&inflater->zlib, WINDOW_OF_GZIP) != Z_OK) {
        free(inflater);
        return NULL;
    }
#ifdef HAVE_LIBDEFLATE
    if (i == 0 && !(inflater->fast = libdeflate_alloc_decompressor())) {
        tf_inflater_free(inflater);
        return NULL;
    }
#endif
    return inflater;
}

void tf_inflater_free(tf_inflater *inflater)
{
    if (!inflater)
        return;
#ifdef HAVE_LIBDEFLATE
    libdeflate_free_decompressor(inflater->fast);
#endif
    inflateEnd(&inflater->zlib);
    free(inflater);
}

const char *tf_inflate(tf_inflater *inflater, const uint8_t *stream, size_t size, uint8_t *to, size_t n)
{
    size_t taken, made;
    if (size < 2 || stream[0] != 0x1f || stream[1] != 0x8b)
        return "is not gzip";
    switch (member(inflater, stream, size, to, n, &taken, &made)) {
    case TF_INFLATED:
        return made == n ? NULL : "makes fewer bytes than it should";
    case TF_INFLATE_FULL:
        return "makes more bytes than it should";
    default:
        return "is damaged or cut short";
    }
}

tf_inflated tf_inflate_file(tf_inflater *inflater, const uint8_t *file, size_t size, uint8_t *to, size_t room,
                            size_t *taken, size_t *made)
{
    for (;;) {
        size_t more_taken, more_made;
        while (*taken < size && file[*taken] == 0)
            ++*taken;
        if (*taken == size)
            return TF_INFLATED;
        const tf_inflated result =
            member(inflater, file + *taken, size - *taken, to + *made, room - *made, &more_taken, &more_made);
        if (result != TF_INFLATED)
            return result;
        *taken += more_taken;
        *made += more_made;
    }
}

/* ---------------------------------------------------------------------------- check sums */

uint32_t tf_crc32(uint32_t before, const uint8_t *bytes, size_t n)
{
#ifdef HAVE_LIBDEFLATE
    return libdeflate_crc32(before, bytes, n);
#else
    return (uint32_t)crc32_z(before, bytes, n);
#endif
}

uint32_t tf_crc32_joined(uint32_t first, uint32_t second, size_t n)
{
    return (uint32_t)crc32_combine(first, second, (z_off_t)n);
}

/* ---------------------------------------------------------------------------- deflating */

struct tf_deflater {
    z_stream zlib;
};

tf_deflater *tf_deflater_new(int level)
{
    /* cfitsio's, and zlib's own default */
    const int memory = 8;
    if (level < 0 || level > 9)
        return NULL;
    tf_deflater *deflater = calloc(1, sizeof *deflater);
    if (deflater
        && deflateInit2(&deflater->zlib, level, Z_DEFLATED, WINDOW_OF_GZIP, memory, Z_DEFAULT_STRATEGY) != Z_OK) {
        free(deflater);
        return NULL;
    }
    return deflater;
}

void tf_deflater_free(tf_deflater *deflater)
{
    if (!deflater)
        return;
    deflateEnd(&deflater->zlib);
    free(deflater);
}

size_t tf_deflate_room(size_t n)
{
    /* without a stream it counts the 6 bytes of zlib's wrapping, and gzip's has 18 */
    return deflateBound(NULL, n) + 12;
}

int64_t tf_deflate(tf_deflater *deflater, const uint8_t *bytes, size_t n, uint8_t *to, size_t room)
{
    z_stream *const z = &deflater->zlib;
    const uint8_t *const end = bytes + n;
    uint8_t *const full = to + room;
    int result = deflateReset(z);

    z->next_in = bytes;
    z->next_out = to;
    while (result == Z_OK) {
        const size_t left = (size_t)(end - z->next_in);
        z->avail_in = portion(left);
        z->avail_out = portion((size_t)(full - z->next_out));
        if (z->avail_out == 0)
            return -1;
        result = deflate(z, z->avail_in == left ? Z_FINISH : Z_NO_FLUSH);
    }
    return result == Z_STREAM_END ? (int64_t)z->total_out : -1;
}

/* ---------------------------------------------------------------------------- GZIP_2 */

/* The next two are written for the compiler to vectorise, which it does where `width` is a constant. */
static inline void spread(const uint8_t *restrict from, size_t n, size_t width, uint8_t *restrict to)
{
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < width; k++)
            to[k * n + i] = from[width * i + k];
}

static inline void collect(const uint8_t *restrict from, size_t n, size_t width, uint8_t *restrict to)
{
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < width; k++)
            to[width * i + k] = from[k * n + i];
}

void tf_shuffle(const uint8_t *numbers, size_t n, int width, uint8_t *to)
{
    if (width == 2)
        spread(numbers, n, 2, to);
    else if (width == 4)
        spread(numbers, n, 4, to);
    else if (width == 8)
        spread(numbers, n, 8, to);
    else
        spread(numbers, n, (size_t)width, to);
}

void tf_unshuffle(const uint8_t *shuffled, size_t n, int width, uint8_t *to)
{
    if (width == 2)
        collect(shuffled, n, 2, to);
    else if (width == 4)
        collect(shuffled, n, 4, to);
    else if (width == 8)
        collect(shuffled, n, 8, to);
    else
        collect(shuffled, n, (size_t)width, to);
}
