#include "tile_cache.h"

#include <pthread.h>
#include <stdlib.h>

#define BUCKETS 4096

struct tf_kept_tile {
    int64_t of, tile;
    size_t bytes;
    int held;                    /* by readers, and by the cache while it is there */
    tf_kept_tile *next;          /* in its bucket */
    tf_kept_tile *newer, *older; /* by use */
    uint64_t elements[];
};

struct tf_tile_cache {
    pthread_mutex_t lock;
    tf_kept_tile *buckets[BUCKETS];
    tf_kept_tile *newest, *oldest;
    tf_tile_cache_numbers numbers;
};

static tf_kept_tile **bucket_of(tf_tile_cache *cache, int64_t of, int64_t tile)
{
    const uint64_t mixed = ((uint64_t)of * 0x9e3779b97f4a7c15 + (uint64_t)tile) * 0x9e3779b97f4a7c15;
    return &cache->buckets[mixed >> 52];
}

static void unlink_used(tf_tile_cache *cache, tf_kept_tile *kept)
{
    *(kept->newer ? &kept->newer->older : &cache->newest) = kept->older;
    *(kept->older ? &kept->older->newer : &cache->oldest) = kept->newer;
}

static void link_newest(tf_tile_cache *cache, tf_kept_tile *kept)
{
    kept->newer = NULL;
    kept->older = cache->newest;
    *(cache->newest ? &cache->newest->newer : &cache->oldest) = kept;
    cache->newest = kept;
}

static void let_go(tf_kept_tile *kept)
{
    if (--kept->held == 0)
        free(kept);
}

static void forget(tf_tile_cache *cache, tf_kept_tile *kept)
{
    tf_kept_tile **at = bucket_of(cache, kept->of, kept->tile);
    while (*at != kept)
        at = &(*at)->next;
    *at = kept->next;
    unlink_used(cache, kept);
    cache->numbers.bytes -= kept->bytes;
    cache->numbers.tiles--;
    let_go(kept);
}

static void shrink(tf_tile_cache *cache, size_t most)
{
    while (cache->numbers.bytes > most)
        forget(cache, cache->oldest);
}

static tf_kept_tile *look_for(tf_tile_cache *cache, int64_t of, int64_t tile)
{
    tf_kept_tile *kept = *bucket_of(cache, of, tile);
    while (kept && (kept->of != of || kept->tile != tile))
        kept = kept->next;
    return kept;
}

tf_tile_cache *tf_tile_cache_new(void)
{
    tf_tile_cache *cache = calloc(1, sizeof *cache);
    if (cache && pthread_mutex_init(&cache->lock, NULL) != 0) {
        free(cache);
        return NULL;
    }
    return cache;
}

void tf_tile_cache_free(tf_tile_cache *cache)
{
    if (!cache)
        return;
    while (cache->oldest)
        forget(cache, cache->oldest);
    pthread_mutex_destroy(&cache->lock);
    free(cache);
}

tf_kept_tile *tf_tile_cache_find(tf_tile_cache *cache, int64_t of, int64_t tile)
{
    pthread_mutex_lock(&cache->lock);
    tf_kept_tile *kept = look_for(cache, of, tile);
    if (kept) {
        kept->held++;
        cache->numbers.hits++;
        unlink_used(cache, kept);
        link_newest(cache, kept);
    } else {
        cache->numbers.misses++;
    }
    pthread_mutex_unlock(&cache->lock);
    return kept;
}

tf_kept_tile *tf_tile_cache_room(int64_t of, int64_t tile, size_t bytes)
{
    tf_kept_tile *kept = bytes > SIZE_MAX / 2 ? NULL : malloc(sizeof *kept + bytes);
    if (kept)
        *kept = (tf_kept_tile){.of = of, .tile = tile, .bytes = bytes, .held = 1};
    return kept;
}

void tf_tile_cache_add(tf_tile_cache *cache, tf_kept_tile *kept, size_t most)
{
    pthread_mutex_lock(&cache->lock);
    /* another thread may have been faster */
    if (kept->bytes <= most && !look_for(cache, kept->of, kept->tile)) {
        tf_kept_tile **bucket = bucket_of(cache, kept->of, kept->tile);
        kept->held++;
        kept->next = *bucket;
        *bucket = kept;
        link_newest(cache, kept);
        cache->numbers.bytes += kept->bytes;
        cache->numbers.tiles++;
        shrink(cache, most);
    }
    pthread_mutex_unlock(&cache->lock);
}

void tf_tile_cache_shrink(tf_tile_cache *cache, size_t most)
{
    pthread_mutex_lock(&cache->lock);
    shrink(cache, most);
    pthread_mutex_unlock(&cache->lock);
}

void tf_tile_cache_release(tf_tile_cache *cache, tf_kept_tile *kept)
{
    pthread_mutex_lock(&cache->lock);
    let_go(kept);
    pthread_mutex_unlock(&cache->lock);
}

void *tf_kept_elements(tf_kept_tile *kept)
{
    return kept->elements;
}

tf_tile_cache_numbers tf_tile_cache_info(tf_tile_cache *cache)
{
    pthread_mutex_lock(&cache->lock);
    const tf_tile_cache_numbers numbers = cache->numbers;
    pthread_mutex_unlock(&cache->lock);
    return numbers;
}
