/* PLIO_1 line lists (FITS standard 4.0, section 10.4.3): runs of pixels of 0 to 2^24 - 1, in big-endian words of 16
 * bits, as in the file. */
#ifndef TF_PLIO_H
#define TF_PLIO_H

#include <stddef.h>
#include <stdint.h>

#include "pixels.h"

/* The n pixels of a list, less `zero`; those that it does not tell are 0. `type` is TF_U8, TF_I16 or TF_I32. NULL, or
 * what is wrong, as the end of a sentence that begins with 'the compressed tile ': also where a number is beyond its
 * type, but of TF_I32, where it comes round. Bytes after the list are not looked at. */
const char *tf_plio_decode(const uint8_t *stream, size_t size, tf_type type, int32_t zero, void *to, size_t n);

/* The bytes that a list of n pixels can take at most. */
size_t tf_plio_room(size_t n);

/* The list of n pixels, as cfitsio writes it; but for 4095 zeros before a single pixel, of which cfitsio loses all but
 * one. Its bytes, or -1 where `room` does not do, where a pixel is not one of 0
 * to 2^24 - 1, or where the list has more words than its header can tell, 2^30. */
int64_t tf_plio_encode(const int32_t *pixels, size_t n, uint8_t *to, size_t room);

#endif
