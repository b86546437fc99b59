/* RICE_1 streams (FITS standard 4.0, section 10.4.1): blocks of differences, those of a block coded with the same
 * number of plain bits. */
#ifndef TF_RICE_H
#define TF_RICE_H

#include <stddef.h>
#include <stdint.h>

#include "stream.h"

/* How blocks of numbers of some width are coded. Before each stands a field: 0 where all numbers are like the one
 * before, else one more than how many bits of each difference are plain. */
typedef struct {
    int field_bits;
    uint32_t as_is; /* what the field says where differences are written as they are; it says no more */
} tf_rice_coding;

/* That of numbers of `width` bytes, 1, 2 or 4; -1 for others. */
int tf_rice_coding_of(int width, tf_rice_coding *coding);

/* The fewest bytes that a stream of n numbers of `width` bytes, in blocks of `block`, can have. */
uint64_t tf_rice_least(uint64_t n, int width, uint64_t block);

/* So many streams are decoded at once best. */
#define TF_RICE_TOGETHER 16

/* The n numbers of each of up to TF_RICE_TOGETHER streams to n * width bytes at each of `to`, aligned to `width`, in
 * the host's byte order. NULL, or what is wrong with one of them, streams[*bad], as the end of a sentence that begins
 * with 'the compressed tile'; then the others need not be complete. Bytes after the last number are not looked at. */
const char *tf_rice_decode(const tf_stream *streams, int count, int width, uint64_t block, void *const *to,
                           uint64_t n, int *bad);

#endif
