/* Numbers to RICE_1 streams, byte for byte as cfitsio writes them; but for blocks of 64 and more with a leap of 2^30 or
 * more among small ones, of which cfitsio makes what nothing can read. */
#ifndef TF_RICE_ENCODE_H
#define TF_RICE_ENCODE_H

#include <stddef.h>
#include <stdint.h>

/* The room that encoding n numbers of `width` bytes (1, 2 or 4) in blocks of `block` wants, whatever they are. */
size_t tf_rice_room(uint64_t n, int width, uint64_t block);

/* Encodes n numbers of the host, aligned to `width`. The bytes of the stream, or -1 where `room` is less than
 * tf_rice_room or where there is no such width or block. */
int64_t tf_rice_encode(const void *numbers, uint64_t n, int width, uint64_t block, uint8_t *to, size_t room);

#endif
