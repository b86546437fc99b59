/* DEFLATE (RFC 1951) from the middle of a stream: blocks are found, and decoded where what they repeat is not known yet.
 * No library does that; where a stream is decoded from its beginning, deflate.h is faster. */
#ifndef TF_INFLATE_H
#define TF_INFLATE_H

#include <stddef.h>
#include <stdint.h>

#include "stream.h"

/* So far back a stream may repeat what it made. */
#define TF_INFLATE_WINDOW 32768
/* A unit of this kind is what stood so many units after the window's beginning. */
#define TF_INFLATE_UNKNOWN 0x8000
/* Units beyond the room of a result that may be written to. */
#define TF_INFLATE_SLACK 320

/* The first bit from `from` to about `until` where a block begins that has codes of its own and is not the last one, or
 * -1. Almost certainly: what only looks so is found once in many gigabytes. */
int64_t tf_find_block(tf_stream stream, uint64_t from, uint64_t until);

typedef enum {
    TF_BLOCKS_STOPPED, /* at or after `until`, before the first block of the kind that tf_find_block looks for */
    TF_BLOCKS_ENDED,   /* after the last block */
    TF_BLOCKS_FULL,
    TF_BLOCKS_BAD
} tf_blocks;

/* What the blocks from bit *from on make, to units of `width` bytes: 1, or 2, of which some may be unknown. The window is
 * the `known` units before `to`; n gets how many came, and *from goes on. */
tf_blocks tf_inflate_blocks(tf_stream stream, uint64_t *from, uint64_t until, int width, void *to, size_t known,
                            size_t room, size_t *n);

/* n units of 2 bytes as bytes; the unknown ones stand in the window of TF_INFLATE_WINDOW bytes. */
void tf_inflate_resolve(const uint16_t *units, size_t n, const uint8_t *window, uint8_t *to);

#endif
