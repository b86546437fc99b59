/* RICE_1 streams (FITS standard 4.0, section 10.4.1): blocks of differences, those of a block coded with the same
 * number of plain bits. */
#ifndef TF_RICE_H
#define TF_RICE_H

#include <stddef.h>
#include <stdint.h>

/* The fewest bytes that a stream of n numbers of `width` bytes (1, 2 or 4), in blocks of `block`, can have. */
uint64_t tf_rice_least(uint64_t n, int width, uint64_t block);

/* The n numbers of a stream, to n * width bytes in the byte order of FITS. NULL, or what is wrong, as the end of a
 * sentence that begins with 'the stream '. Bytes after the last number are not looked at. */
const char *tf_rice_decode(const uint8_t *stream, size_t size, int width, uint64_t block, uint8_t *to, size_t n);

#endif
