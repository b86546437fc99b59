/* Windows of a tile-compressed image, each tile decoded once for all windows that touch it. */
#ifndef TF_TILE_READER_H
#define TF_TILE_READER_H

#include "tile_cache.h"
#include "tiles.h"

/* Which pixels, and where their elements go. Axes in tensor order. */
typedef struct {
    /* of each window: the first pixel along each axis; the number of pixels along each; bytes from `to` to the element of
     * the first one: 2 * axes + 1 numbers. All lie inside the image. */
    const int64_t *windows;
    int64_t count;
    int64_t step[TF_TILE_AXES];  /* pixels from one to the next */
    int64_t pitch[TF_TILE_AXES]; /* bytes from one element to the next */
    uint8_t *to;
} tf_tile_windows;

/* Where decoded tiles are kept, those of which a call wants only a part. */
typedef struct {
    tf_tile_cache *cache; /* or NULL */
    int64_t of;           /* the name of the image, and of what its pixels become */
    size_t most;
} tf_tile_keeping;

/* Nothing is wrong where outcome is TF_DONE and reason NULL. */
tf_tile_trouble tf_read_tiles(const tf_tiling *tiling, const tf_source *source, const tf_tile_windows *windows,
                              const tf_tile_keeping *keeping, int threads);

#endif
