/* Tile-compressed images (FITS standard 4.0, section 10.1): from the rows of their table to elements of a tensor. */
#ifndef TF_TILES_H
#define TF_TILES_H

#include <pthread.h>
#include <stdint.h>

#include "deflate.h"
#include "parallel.h"
#include "pixels.h"
#include "quantise.h"
#include "reader.h"
#include "rice.h"

#define TF_TILE_AXES 16

typedef enum { TF_RICE_1, TF_GZIP_1, TF_GZIP_2, TF_PLIO_1, TF_HCOMPRESS_1, TF_NOCOMPRESS, TF_CODECS } tf_codec;

/* A column of descriptors: where the arrays of a tile are in the heap. */
typedef struct {
    int64_t at;      /* offset in the row; -1 where there is no such column */
    int wide;        /* Q, not P */
    int64_t element; /* bytes of an element of the arrays */
} tf_stream_column;

/* A number that is the same for all tiles, or stands in a column. */
typedef struct {
    int64_t at;   /* offset in the row; -1 where there is no column */
    tf_type type; /* in the column, big-endian */
    double same;
} tf_tile_number;

/* How an image is stored. Axes in tensor order. What is here was checked: rows and heap lie within the source, a tile has
 * fewer than 2^31 pixels, there is a row for each tile. */
typedef struct {
    tf_codec codec;
    int rice_width, smooth;
    int32_t plio_zero; /* BZERO of 16-bit images, where it is 32768: PLIO_1 codes them unsigned */
    uint64_t rice_block;
    int axes;
    int64_t shape[TF_TILE_AXES], tile[TF_TILE_AXES], tiles[TF_TILE_AXES];

    int64_t rows, row_bytes; /* offset of the first row, bytes of each */
    int64_t heap, heap_bytes;
    tf_stream_column compressed, gzipped, uncompressed;
    tf_type uncompressed_type;

    /* From stored numbers to elements. Where those of a tile are `quantised`, the numbers are what they stand for. */
    tf_conversion conversion;
    int quantised;
    tf_tile_number scale, zero, blank;
    double image_scale, image_zero; /* BSCALE and BZERO, which count for quantised tiles too */
    int has_blank;
    tf_dither_method method;
    int64_t zdither0;
} tf_tiling;

/* What was wrong with a tile. */
typedef struct {
    tf_outcome outcome; /* of reading; or TF_DONE and */
    const char *reason; /* the end of a sentence that begins with 'the compressed tile '; NULL where nothing is wrong */
    int64_t tile, offset;
} tf_tile_trouble;

/* Pixels that a thread takes at a time, about, and pixels that are worth a second thread. */
#define TF_PIECE_PIXELS ((int64_t)1 << 17)
#define TF_SMALL_IMAGE ((int64_t)1 << 16)

/* Tiles by the piece, for several threads. */
typedef struct {
    tf_pieces pieces;
    pthread_mutex_t lock;
    int64_t bad; /* the first piece in trouble */
    tf_tile_trouble trouble;
} tf_tile_work;

/* Calls work(job) in up to `threads` threads, which take the `count` pieces of `shared`, a part of the job. */
tf_tile_trouble tf_work_on_tiles(tf_tile_work *shared, int64_t count, void (*work)(void *job), void *job, int threads);
/* Hands out no more pieces. Of those in trouble the first one counts: all before it were handed out, too. */
void tf_tell_trouble(tf_tile_work *shared, int64_t piece, const tf_tile_trouble *trouble);

/* What cfitsio's coders make of a tile: two axes, the first one that is longer than 1, and the others. */
typedef struct {
    size_t columns, rows, pixels;
} tf_tile_shape;

tf_tile_shape tf_tile_shape_of(const int64_t *sides, int axes);
tf_tile_shape tf_tile_shape_at(const tf_tiling *tiling, int64_t tile);
/* How many tiles there are. */
int64_t tf_tiles_of(const tf_tiling *tiling);
/* The place of a tile among the tiles, along each axis. */
void tf_tile_place(const tf_tiling *tiling, int64_t tile, int64_t place[TF_TILE_AXES]);
/* And its lengths. */
void tf_tile_sides(const tf_tiling *tiling, int64_t tile, int64_t place[TF_TILE_AXES], int64_t sides[TF_TILE_AXES]);

/* Decodes tiles, one thread's. */
typedef struct tf_tile_decoder tf_tile_decoder;

tf_tile_decoder *tf_tile_decoder_new(const tf_tiling *tiling, const tf_source *source);
void tf_tile_decoder_free(tf_tile_decoder *decoder);

/* So many tiles are read and decoded at once best. */
#define TF_TILES_TOGETHER 16

/* What is wanted of a tile: its first elements, at least so many, and memory for all of them. */
typedef struct {
    int64_t tile, wanted;
    void *to;
} tf_wanted_tile;

/* Up to TF_TILES_TOGETHER tiles, in rising order. 0, or -1 with the first trouble. */
int tf_decode_tiles(tf_tile_decoder *decoder, const tf_wanted_tile *which, int count, tf_tile_trouble *trouble);

#endif
