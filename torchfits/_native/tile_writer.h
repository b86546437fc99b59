/* Images to tile-compressed ones (FITS standard 4.0, section 10.1): from the elements of a tensor to the rows of the
 * table and its heap. The streams are cfitsio's, byte for byte. */
#ifndef TF_TILE_WRITER_H
#define TF_TILE_WRITER_H

#include "tiles.h"

/* How an image is to be stored. Of the tiling, all but where its table is; its conversion goes from what will be stored
 * to the pixels that are given, and is made as that of a reader would be. */
typedef struct {
    tf_tiling tiling;
    const void *pixels; /* of the whole image, in the host's byte order, one behind the other */
    float quantise_level;
    int deflate_level;
    float hcompress_scale; /* that many times the noise of a tile; or, negative, that size */
} tf_tile_encoding;

/* What became of a tile. */
typedef struct {
    int64_t bytes;
    int gzipped;   /* it could not be quantised, and stands in GZIP_COMPRESSED_DATA */
    int has_blank; /* some of its pixels are ZBLANK */
    double scale, zero;
} tf_encoded_tile;

/* Where the streams of some tiles are, one behind the other. */
typedef struct {
    int64_t start, bytes;
} tf_encoded_piece;

typedef struct {
    int64_t count;
    tf_encoded_tile *tiles;
    int64_t pieces, at_once; /* tiles of a piece */
    tf_encoded_piece *piece; /* in their order, which is not that of their places */
    uint8_t *streams;
    int64_t element; /* bytes of an element of COMPRESSED_DATA */
    int quantised;
    int64_t bytes, gzipped, blank; /* of them all */
    int64_t longest, longest_gzipped;
} tf_encoded_image;

/* The bytes that the streams can take at most. */
size_t tf_encoding_room(const tf_tile_encoding *encoding);

/* The streams go to memory of so many bytes, of which those that are needed are touched. Nothing is wrong where outcome
 * is TF_DONE and reason NULL. What is encoded is to be freed in any case. */
tf_tile_trouble tf_encode_tiles(const tf_tile_encoding *encoding, uint8_t *streams, tf_encoded_image *encoded,
                                int threads);
void tf_encoded_free(tf_encoded_image *encoded);

/* Bytes of a row: descriptors, P or (wide) Q, in COMPRESSED_DATA; ZSCALE and ZZERO, where quantised; descriptors in
 * GZIP_COMPRESSED_DATA, where there is something in it. */
int64_t tf_encoded_row_bytes(const tf_encoded_image *encoded, int wide);
void tf_put_rows(const tf_encoded_image *encoded, int wide, uint8_t *rows);

#endif
