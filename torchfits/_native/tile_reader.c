#include "tile_reader.h"

#include <stdlib.h>
#include <string.h>

#include "least.h"
#include "sort.h"

/* A tile and a window that has pixels in it. */
typedef struct {
    int64_t tile, window;
} touch;

typedef struct {
    touch *all;
    int64_t count, room;
} touches;

typedef struct {
    const tf_tiling *tiling;
    const tf_source *source;
    const tf_tile_windows *windows;
    const tf_tile_keeping *keeping;
    size_t width;         /* of an element */
    const touch *touches; /* by tile */
    int64_t *first;       /* of each tile, its first touch; one more at the end */
    int64_t tiles;
    int at_once; /* tiles of a piece */
    tf_tile_work work;
} reading;

/* ---------------------------------------------------------------------------- which tiles */

static const int64_t *window_of(const reading *r, int64_t i)
{
    return r->windows->windows + i * (2 * r->tiling->axes + 1);
}

/* The part of a window that lies in a tile, along one axis. */
typedef struct {
    int64_t index, count; /* of the window's pixels */
    int64_t first;        /* pixel of the tile */
} overlap;

/* Most steps are 1, and a division takes as long as all else here. */
static inline int64_t steps_in(int64_t pixels, int64_t step)
{
    return step == 1 ? pixels : pixels / step;
}

static overlap overlap_of(const reading *r, const int64_t *window, int axis, int64_t place)
{
    const tf_tiling *t = r->tiling;
    const int64_t first = window[axis], count = window[t->axes + axis], step = r->windows->step[axis];
    const int64_t low = place * t->tile[axis], high = least(low + t->tile[axis], t->shape[axis]);
    overlap o;
    o.index = low <= first ? 0 : steps_in(low - first + step - 1, step);
    o.count = high <= first ? 0 : least(count, steps_in(high - first - 1, step) + 1) - o.index;
    o.first = first + o.index * step - low;
    return o;
}

static int add_touch(touches *found, int64_t tile, int64_t window)
{
    if (found->count == found->room) {
        const int64_t room = 2 * found->room + 64;
        touch *more = realloc(found->all, (size_t)room * sizeof *more);
        if (!more)
            return -1;
        found->all = more;
        found->room = room;
    }
    found->all[found->count++] = (touch){tile, window};
    return 0;
}

/* The tiles that a window touches, in rising order. */
static int touch_tiles(const reading *r, int64_t i, touches *found)
{
    const tf_tiling *t = r->tiling;
    const int64_t *window = window_of(r, i);
    int64_t low[TF_TILE_AXES], high[TF_TILE_AXES], place[TF_TILE_AXES];
    int axis;
    for (int k = 0; k < t->axes; k++) {
        place[k] = low[k] = window[k] / t->tile[k];
        high[k] = (window[k] + (window[t->axes + k] - 1) * r->windows->step[k]) / t->tile[k];
    }
    do {
        int64_t tile = 0;
        int empty = 0;
        for (int k = 0; k < t->axes; k++) {
            tile = tile * t->tiles[k] + place[k];
            /* a step may jump over a tile */
            empty |= r->windows->step[k] > t->tile[k] && overlap_of(r, window, k, place[k]).count <= 0;
        }
        if (!empty && add_touch(found, tile, i) != 0)
            return -1;
        for (axis = t->axes - 1; axis >= 0 && ++place[axis] > high[axis]; axis--)
            place[axis] = low[axis];
    } while (axis >= 0);
    return 0;
}

/* Sorts by tile; those of a tile stay in their order. */
static int sort_touches(touches *found)
{
    const int64_t stride = sizeof(touch) / sizeof found->all->tile;
    uint32_t *places = tf_sorted_places(&found->all->tile, stride, found->count);
    touch *sorted = places ? malloc((size_t)found->count * sizeof *sorted) : NULL;
    if (sorted) {
        for (int64_t i = 0; i < found->count; i++)
            sorted[i] = found->all[places[i]];
        free(found->all);
        found->all = sorted;
    }
    free(places);
    return sorted ? 0 : -1;
}

static int find_tiles(reading *r, touches *found)
{
    for (int64_t i = 0; i < r->windows->count; i++)
        if (touch_tiles(r, i, found) != 0)
            return -1;
    if (r->windows->count > 1 && found->count > 0 && sort_touches(found) != 0)
        return -1;
    r->touches = found->all;
    r->first = malloc((size_t)(found->count + 1) * sizeof *r->first);
    if (!r->first)
        return -1;
    for (int64_t i = 0; i < found->count; i++)
        if (i == 0 || found->all[i].tile != found->all[i - 1].tile)
            r->first[r->tiles++] = i;
    r->first[r->tiles] = found->count;
    return 0;
}

/* ---------------------------------------------------------------------------- elements of a tile to windows */

static void copy_run(uint8_t *to, const uint8_t *from, int64_t count, size_t width, size_t stride)
{
    if (stride == width) {
        memcpy(to, from, (size_t)count * width);
        return;
    }
    for (int64_t i = 0; i < count; i++)
        memcpy(to + (size_t)i * width, from + (size_t)i * stride, width);
}

/* To window i, of the tile at `place`. */
static void copy_to_window(const reading *r, const int64_t *place, const int64_t *sides, int64_t i,
                           const uint8_t *elements)
{
    const tf_tiling *t = r->tiling;
    const int64_t *window = window_of(r, i), *step = r->windows->step;
    const int last = t->axes - 1;
    int64_t at[TF_TILE_AXES] = {0}, stride[TF_TILE_AXES];
    overlap o[TF_TILE_AXES];
    uint8_t *to = r->windows->to + window[2 * t->axes];
    int64_t bytes = (int64_t)r->width;
    int axis;

    for (int k = last; k >= 0; k--) {
        o[k] = overlap_of(r, window, k, place[k]);
        elements += o[k].first * bytes;
        to += o[k].index * r->windows->pitch[k];
        stride[k] = step[k] * bytes;
        bytes *= sides[k];
    }
    do {
        copy_run(to, elements, o[last].count, r->width, (size_t)stride[last]);
        for (axis = last - 1; axis >= 0; axis--) {
            to += r->windows->pitch[axis];
            elements += stride[axis];
            if (++at[axis] < o[axis].count)
                break;
            to -= o[axis].count * r->windows->pitch[axis];
            elements -= o[axis].count * stride[axis];
            at[axis] = 0;
        }
    } while (axis >= 0);
}

/* Where the elements of a tile lie in the only window that wants it, if they lie there one after the other. */
static uint8_t *place_in_window(const reading *r, int64_t k)
{
    const tf_tiling *t = r->tiling;
    const touch *only = &r->touches[r->first[k]];
    const int64_t *window = window_of(r, only->window);
    int64_t place[TF_TILE_AXES], sides[TF_TILE_AXES], bytes = (int64_t)r->width;
    uint8_t *to = r->windows->to + window[2 * t->axes];
    if (r->first[k + 1] - r->first[k] != 1)
        return NULL;
    tf_tile_sides(t, only->tile, place, sides);
    for (int axis = t->axes - 1; axis >= 0; axis--) {
        const overlap o = overlap_of(r, window, axis, place[axis]);
        if (o.count != sides[axis] || (sides[axis] > 1 && (r->windows->step[axis] != 1 || r->windows->pitch[axis] != bytes)))
            return NULL;
        to += o.index * r->windows->pitch[axis];
        bytes *= sides[axis];
    }
    return to;
}

/* ---------------------------------------------------------------------------- threads */

typedef struct {
    const reading *r;
    tf_tile_decoder *decoder;
    uint8_t *elements; /* of the tiles of a piece that go neither straight to their place nor to the cache; or NULL */
} worker;

static uint8_t *room_for_elements(worker *w)
{
    const reading *r = w->r;
    if (!w->elements)
        w->elements = malloc(tf_tile_shape_of(r->tiling->tile, r->tiling->axes).pixels * r->width * (size_t)r->at_once);
    return w->elements;
}

/* How many elements of a tile, from its first on, hold all that its windows want. */
static int64_t wanted_of(const reading *r, int64_t k)
{
    const tf_tiling *t = r->tiling;
    int64_t place[TF_TILE_AXES], sides[TF_TILE_AXES], most = 0;
    tf_tile_sides(t, r->touches[r->first[k]].tile, place, sides);
    for (int64_t i = r->first[k]; i < r->first[k + 1]; i++) {
        const int64_t *window = window_of(r, r->touches[i].window);
        int64_t last = 0;
        for (int axis = 0; axis < t->axes; axis++) {
            const overlap o = overlap_of(r, window, axis, place[axis]);
            last = last * sides[axis] + o.first + (o.count - 1) * r->windows->step[axis];
        }
        most = greatest(most, last + 1);
    }
    return most;
}

static void copy_to_windows(const reading *r, int64_t k, const uint8_t *elements)
{
    int64_t place[TF_TILE_AXES], sides[TF_TILE_AXES];
    tf_tile_sides(r->tiling, r->touches[r->first[k]].tile, place, sides);
    for (int64_t i = r->first[k]; i < r->first[k + 1]; i++)
        copy_to_window(r, place, sides, r->touches[i].window, elements);
}

/* With a cache for the tiles of which a part is wanted, or without one, NULL. */
static int read_piece(worker *w, int64_t first, int count, tf_tile_cache *cache, tf_tile_trouble *trouble)
{
    const reading *r = w->r;
    const tf_tile_keeping *keeping = r->keeping;
    tf_wanted_tile tiles[TF_TILES_TOGETHER];
    tf_kept_tile *kept[TF_TILES_TOGETHER];
    int64_t which[TF_TILES_TOGETHER];
    int in_place[TF_TILES_TOGETHER], wanted = 0, result = 0;
    size_t used = 0;

    for (int i = 0; i < count; i++) {
        const int64_t k = first + i, tile = r->touches[r->first[k]].tile;
        const size_t pixels = tf_tile_shape_at(r->tiling, tile).pixels, bytes = pixels * r->width;
        uint8_t *place = place_in_window(r, k);
        tf_kept_tile *there = !place && cache ? tf_tile_cache_find(cache, keeping->of, tile) : NULL;
        if (there) {
            copy_to_windows(r, k, tf_kept_elements(there));
            tf_tile_cache_release(cache, there);
            continue;
        }
        kept[wanted] = !place && cache ? tf_tile_cache_room(keeping->of, tile, bytes) : NULL;
        tiles[wanted] = (tf_wanted_tile){tile, (int64_t)pixels, place};
        if (kept[wanted]) {
            tiles[wanted].to = tf_kept_elements(kept[wanted]);
        } else if (!place && room_for_elements(w)) {
            tiles[wanted].to = w->elements + used;
            tiles[wanted].wanted = wanted_of(r, k);
            used += bytes;
        }
        if (!tiles[wanted].to)
            result = -1;
        in_place[wanted] = place != NULL;
        which[wanted++] = k;
    }
    if (result != 0)
        trouble->outcome.what = TF_MEMORY;
    else if (wanted > 0)
        result = tf_decode_tiles(w->decoder, tiles, wanted, trouble);
    for (int i = 0; i < wanted; i++) {
        if (result == 0 && !in_place[i])
            copy_to_windows(r, which[i], tiles[i].to);
        if (!kept[i])
            continue;
        if (result == 0)
            tf_tile_cache_add(cache, kept[i], keeping->most);
        tf_tile_cache_release(cache, kept[i]);
    }
    return result;
}

static void run_thread(void *argument)
{
    reading *r = argument;
    tf_tile_trouble trouble = {{TF_DONE, 0, 0}, NULL, 0, 0};
    worker w = {r, tf_tile_decoder_new(r->tiling, r->source), NULL};
    int64_t piece = 0;
    int result = 0;
    if (!w.decoder) {
        trouble.outcome.what = TF_MEMORY;
        result = -1;
    }
    while (result == 0 && (piece = tf_next_piece(&r->work.pieces)) >= 0) {
        const int64_t first = piece * r->at_once;
        const int count = (int)least(r->at_once, r->tiles - first);
        result = read_piece(&w, first, count, r->keeping->cache, &trouble);
        /* tiles that are kept are decoded to their ends, which need not be sound for what is wanted */
        if (result != 0 && r->keeping->cache)
            result = read_piece(&w, first, count, NULL, &trouble);
    }
    tf_tile_decoder_free(w.decoder);
    free(w.elements);
    if (result != 0)
        tf_tell_trouble(&r->work, piece, &trouble);
}

tf_tile_trouble tf_read_tiles(const tf_tiling *tiling, const tf_source *source, const tf_tile_windows *windows,
                              const tf_tile_keeping *keeping, int threads)
{
    reading r = {.tiling = tiling, .source = source, .windows = windows, .keeping = keeping};
    tf_tile_trouble trouble = {{TF_DONE, 0, 0}, NULL, 0, 0};
    touches found = {NULL, 0, 0};

    r.width = tf_width(tiling->conversion.wanted);
    if (find_tiles(&r, &found) != 0) {
        trouble.outcome.what = TF_MEMORY;
    } else {
        const int64_t pixels = (int64_t)tf_tile_shape_of(tiling->tile, tiling->axes).pixels;
        r.at_once = (int)greatest(least(TF_PIECE_PIXELS / pixels, TF_TILES_TOGETHER), 1);
        if (r.tiles * pixels < TF_SMALL_IMAGE)
            threads = 1;
        trouble = tf_work_on_tiles(&r.work, (r.tiles + r.at_once - 1) / r.at_once, run_thread, &r, threads);
    }
    free(found.all);
    free(r.first);
    return trouble;
}
