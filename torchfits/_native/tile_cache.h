/* Decoded tiles of a file, kept up to a number of bytes; the least recently used ones go first. For any thread. */
#ifndef TF_TILE_CACHE_H
#define TF_TILE_CACHE_H

#include <stddef.h>
#include <stdint.h>

typedef struct tf_tile_cache tf_tile_cache;
/* A tile that is or may be kept; `elements` stay what they are while it is held. */
typedef struct tf_kept_tile tf_kept_tile;

typedef struct {
    int64_t hits, misses, tiles;
    size_t bytes;
} tf_tile_cache_numbers;

/* NULL where there is no memory. */
tf_tile_cache *tf_tile_cache_new(void);
void tf_tile_cache_free(tf_tile_cache *cache);

/* A tile of the image `of`, held; NULL where it is not kept. */
tf_kept_tile *tf_tile_cache_find(tf_tile_cache *cache, int64_t of, int64_t tile);
/* Room for a tile that nobody else knows yet, held; NULL where there is no memory. */
tf_kept_tile *tf_tile_cache_room(int64_t of, int64_t tile, size_t bytes);
/* Keeps it, now that its elements are there, and as many others as `most` bytes allow. It is still held. */
void tf_tile_cache_add(tf_tile_cache *cache, tf_kept_tile *kept, size_t most);
/* Forgets tiles until no more than `most` bytes are kept. */
void tf_tile_cache_shrink(tf_tile_cache *cache, size_t most);
void tf_tile_cache_release(tf_tile_cache *cache, tf_kept_tile *kept);

void *tf_kept_elements(tf_kept_tile *kept);
tf_tile_cache_numbers tf_tile_cache_info(tf_tile_cache *cache);

#endif
