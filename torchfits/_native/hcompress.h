/* HCOMPRESS_1 streams to pixels (FITS standard 4.0, section 10.4.4; R. White, Proc. NASA Space and Earth Science Data
 * Compression Workshop, 1992): an H-transform, whose coefficients are coded quadrant by quadrant and bit plane by bit
 * plane, the planes as quadtrees. */
#ifndef TF_HCOMPRESS_H
#define TF_HCOMPRESS_H

#include <stddef.h>
#include <stdint.h>

/* Bytes that tf_hcompress_decode wants for a tile, aligned as malloc does it; of any content. */
size_t tf_hcompress_decode_scratch(uint64_t rows, uint64_t columns);

/* The pixels of a tile, row by row. NULL, or what is wrong, as the end of a sentence that begins with 'the compressed
 * tile '. Bytes after the stream are not looked at.
 *
 * A stream tells its own sides, rows first; they may be those of the tile in the other order too. cfitsio goes by the
 * stream, and so do we: the pixels are then the same run of numbers, with rows of the other length.
 *
 * `smooth` is the keyword's: at each step of the inverse transform the differences are drawn to what the neighbours
 * let expect.
 *
 * The numbers are those of 64-bit arithmetic, cast to 32 bits: what cfitsio's fits_hdecompress64 gives, which it uses
 * for ZBITPIX 32, -32 and -64. Where everything fits into 32 bits, that is what fits_hdecompress gives too, which it
 * uses for ZBITPIX 8 and 16; where not, that one overflows, which C leaves undefined. No image of 16 bits comes there
 * in tiles of at most 16384 pixels a side, unless it is smoothed with differences of some 2^25. Coefficients of more
 * than 57 bits (52 with `smooth`), scale included, are refused: none come of 32-bit pixels in tiles of at most
 * TF_HCOMPRESS_SIDE_MAX pixels a side (hcompress_encode.h). */
const char *tf_hcompress_decode(const uint8_t *stream, size_t size, uint64_t rows, uint64_t columns, int smooth,
                                int32_t *to, void *scratch);

#endif
