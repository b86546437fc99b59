/* DEFLATE in gzip's wrapping: the streams of GZIP_1 and GZIP_2 (FITS standard 4.0, section 10.4.2), and whole files.
 * libdeflate inflates, or zlib where the build has no libdeflate; zlib deflates, byte for byte as cfitsio does. */
#ifndef TF_DEFLATE_H
#define TF_DEFLATE_H

#include <stddef.h>
#include <stdint.h>

/* No byte of a stream makes more than so many. */
#define TF_DEFLATE_BEST 1032

/* ---------------------------------------------------------------------------- inflating */

/* What inflates, for one thread at a time. */
typedef struct tf_inflater tf_inflater;

/* The libraries of this build that inflate, the best first; NULL after the last. */
const char *tf_inflater_library(int i);
/* With the library of this name, or the best one where it is NULL; NULL where there is none such or no memory. */
tf_inflater *tf_inflater_new(const char *library);
void tf_inflater_free(tf_inflater *inflater);

/* The first member of a gzip stream, which must make just n bytes, to `to`. What follows it is not looked at. NULL, or
 * what is wrong, as the end of a sentence that begins with 'the stream '; then anything stands in the n bytes. */
const char *tf_inflate(tf_inflater *inflater, const uint8_t *stream, size_t size, uint8_t *to, size_t n);

typedef enum { TF_INFLATED, TF_INFLATE_FULL, TF_INFLATE_BAD } tf_inflated;

/* All members of a gzip file, zeros between and after them. Goes on from *taken bytes of the file that made *made, and
 * leaves there where the last whole member ends; FULL where the next one needs more room. */
tf_inflated tf_inflate_file(tf_inflater *inflater, const uint8_t *file, size_t size, uint8_t *to, size_t room,
                            size_t *taken, size_t *made);

/* ---------------------------------------------------------------------------- check sums */

/* The CRC-32 of bytes that follow others whose sum is given, 0 for none; and of two runs of bytes, n in the second one. */
uint32_t tf_crc32(uint32_t before, const uint8_t *bytes, size_t n);
uint32_t tf_crc32_joined(uint32_t first, uint32_t second, size_t n);

/* ---------------------------------------------------------------------------- deflating */

/* What deflates, for one thread at a time. */
typedef struct tf_deflater tf_deflater;

/* The level of cfitsio, of 0..9. */
#define TF_DEFLATE_LEVEL 1

/* NULL where there is no such level or no memory. */
tf_deflater *tf_deflater_new(int level);
void tf_deflater_free(tf_deflater *deflater);

/* Bytes that always do for n bytes deflated. */
size_t tf_deflate_room(size_t n);
/* n bytes as one member: how many bytes it has, or -1 where they are more than `room`. */
int64_t tf_deflate(tf_deflater *deflater, const uint8_t *bytes, size_t n, uint8_t *to, size_t room);

/* ---------------------------------------------------------------------------- GZIP_2 */

/* n numbers of `width` bytes in the order of GZIP_2: the first bytes of all of them, then the second ones,
 * and so on; and back. */
void tf_shuffle(const uint8_t *numbers, size_t n, int width, uint8_t *to);
void tf_unshuffle(const uint8_t *shuffled, size_t n, int width, uint8_t *to);

#endif
