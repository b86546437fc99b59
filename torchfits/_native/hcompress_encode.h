/* Pixels to HCOMPRESS_1 streams; see hcompress.h. */
#ifndef TF_HCOMPRESS_ENCODE_H
#define TF_HCOMPRESS_ENCODE_H

#include <stddef.h>
#include <stdint.h>

/* Of a tile that is encoded: the coefficients of longer ones may have more bits than the decoder takes. */
#define TF_HCOMPRESS_SIDE_MAX (1 << 18)

/* Bytes that tf_hcompress_encode wants for a tile, aligned as malloc does it; of any content. */
size_t tf_hcompress_encode_scratch(uint64_t rows, uint64_t columns);

/* The bytes that the stream of a tile can take at most. */
size_t tf_hcompress_room(uint64_t rows, uint64_t columns);

/* The stream of a tile of at least 2 by 2 pixels, of at most TF_HCOMPRESS_SIDE_MAX a side and 2^31 - 1 in all. Its
 * bytes, or -1 where `room` does not do.
 *
 * Coefficients are divided by `scale` and rounded where it is above 1; 0 and 1 are lossless. cfitsio makes it of the
 * keyword's hcomp_scale, tile by tile: 0 stays 0; where it is negative, its absolute value; where it is positive, that
 * many times the noise of the tile, the least of the estimates of second (where it is not 0), third and fifth order
 * (where it is not 0) of fits_img_stats_int; in float, 0.5 added and cut to an integer.
 *
 * The bytes are those of cfitsio's fits_hcompress64, which it uses for ZBITPIX 32, -32 and -64; where nothing overflows
 * 32 bits, as with 16-bit pixels in tiles of at most 16384 a side, those of fits_hcompress, too. */
int64_t tf_hcompress_encode(const int32_t *pixels, uint64_t rows, uint64_t columns, int32_t scale, uint8_t *to,
                            size_t room, void *scratch);

#endif
