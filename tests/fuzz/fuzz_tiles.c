/* Tile-compressed images: any table and any streams are read in bounds; from a descriptor and from memory, by one thread
 * and by three, with each variant, with kept tiles and without, and as windows of one image, they are what each tile is
 * when it is read alone.
 *
 * Input: how the image is stored and what is wanted, as `take_tiling` takes it; the windows; for each tile its row; the
 * rest is the heap. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "_native/tile_reader.h"
#include "common.h"

#define AXES 4
#define PIXELS 4096
#define TILES 300
#define WINDOWS 2

static arena source_place, result_place;

typedef struct {
    meaning meaning;
    tf_tiling tiling;
    int64_t pixels, count; /* of the image; tiles */
    int64_t width;         /* of an element */
    uint8_t *whole;        /* all elements of tiles that nothing is wrong with */
    uint8_t is_bad[TILES]; /* the others */
    int sound;             /* whether there are none of these */
    int64_t bad;           /* the first of them */

    tf_tile_windows windows;
    int64_t numbers[WINDOWS * (2 * AXES + 1)];
    int64_t size; /* bytes of all windows */
} job;

static tf_stream_column take_column(input *in, int64_t *row_bytes, int64_t element, int needed)
{
    tf_stream_column column = {-1, 0, element};
    const int choice = (int)take_within(in, 0, 3);
    if (!needed && choice < 2)
        return column;
    column.wide = choice == 3;
    column.at = *row_bytes;
    *row_bytes += column.wide ? 16 : 8;
    return column;
}

static tf_tile_number take_number(input *in, int64_t *row_bytes, int is_integer)
{
    static const tf_type types[] = {TF_F64, TF_F32, TF_I32, TF_I16, TF_U8, TF_I64};
    tf_tile_number number = {-1, TF_F64, 0};
    const int choice = (int)take_within(in, 0, 7);
    if (choice >= 6) {
        number.same = is_integer ? (double)(int32_t)take(in, 4) : (double)(int8_t)take(in, 1) / 8;
        return number;
    }
    number.type = types[choice];
    number.at = *row_bytes;
    *row_bytes += (int64_t)tf_width(number.type);
    return number;
}

static void take_shape(input *in, job *j)
{
    tf_tiling *t = &j->tiling;
    t->axes = (int)take_within(in, 1, AXES);
    j->pixels = j->count = 1;
    for (int k = 0; k < t->axes; k++) {
        t->shape[k] = take_within(in, 1, 70);
        if (j->pixels * t->shape[k] > PIXELS)
            t->shape[k] = 1;
        j->pixels *= t->shape[k];
        t->tile[k] = take_within(in, 1, t->shape[k]);
        t->tiles[k] = (t->shape[k] - 1) / t->tile[k] + 1;
        if (j->count * t->tiles[k] > TILES) {
            t->tile[k] = t->shape[k];
            t->tiles[k] = 1;
        }
        j->count *= t->tiles[k];
    }
}

static void take_tiling(input *in, job *j)
{
    static const tf_type uncompressed[] = {TF_U8, TF_I16, TF_I32, TF_I64, TF_F32, TF_F64};
    tf_tiling *t = &j->tiling;
    j->meaning = take_meaning(in);
    t->codec = (tf_codec)take_within(in, 0, TF_CODECS - 1);
    t->quantised = (int)take_within(in, 0, 1) && j->meaning.bitpix < 0 && t->codec != TF_NOCOMPRESS;
    if (t->quantised) {
        t->image_scale = j->meaning.scale;
        t->image_zero = j->meaning.zero;
        j->meaning.scale = 1;
        j->meaning.zero = 0;
        j->meaning.has_blank = 0;
    }
    t->conversion = conversion_for(&j->meaning);
    t->rice_width = 1 << take_within(in, 0, 2);
    t->rice_block = (uint64_t)take_within(in, 1, 40);
    t->smooth = (int)take_within(in, 0, 1);
    t->plio_zero = take_within(in, 0, 1) ? 32768 : 0;
    take_shape(in, j);
    t->uncompressed_type = uncompressed[take_within(in, 0, 5)];
    t->compressed = take_column(in, &t->row_bytes, t->codec == TF_PLIO_1 ? 2 : 1, 1);
    t->gzipped = take_column(in, &t->row_bytes, 1, 0);
    t->uncompressed = take_column(in, &t->row_bytes, (int64_t)tf_width(t->uncompressed_type), 0);
    if (!t->quantised)
        return;
    t->method = (tf_dither_method)take_within(in, 0, TF_DITHER_METHODS - 1);
    t->zdither0 = take_within(in, 1, 10000);
    t->scale = take_number(in, &t->row_bytes, 0);
    t->zero = take_number(in, &t->row_bytes, 0);
    t->has_blank = (int)take_within(in, 0, 1);
    if (t->has_blank)
        t->blank = take_number(in, &t->row_bytes, 1);
}

static void take_windows(input *in, job *j)
{
    const tf_tiling *t = &j->tiling;
    int64_t most[AXES] = {1, 1, 1, 1};
    j->windows.windows = j->numbers;
    j->windows.count = take_within(in, 1, WINDOWS);
    for (int k = 0; k < t->axes; k++)
        j->windows.step[k] = take_within(in, 0, 1) ? 1 : take_within(in, 1, 9);
    for (int64_t i = 0; i < j->windows.count; i++) {
        int64_t *window = j->numbers + i * (2 * t->axes + 1);
        for (int k = 0; k < t->axes; k++) {
            window[k] = take_within(in, 0, t->shape[k] - 1);
            window[t->axes + k] = take_within(in, 1, (t->shape[k] - 1 - window[k]) / j->windows.step[k] + 1);
            most[k] = window[t->axes + k] > most[k] ? window[t->axes + k] : most[k];
        }
    }
    j->size = j->width;
    for (int k = t->axes - 1; k >= 0; k--) {
        j->windows.pitch[k] = j->size;
        j->size *= most[k];
    }
    for (int64_t i = 0; i < j->windows.count; i++)
        j->numbers[i * (2 * t->axes + 1) + 2 * t->axes] = i * j->size;
    j->size *= j->windows.count;
}

static void put_big_endian(uint8_t *to, int64_t number, int bytes)
{
    for (int i = 0; i < bytes; i++)
        to[i] = (uint8_t)((uint64_t)number >> 8 * (bytes - 1 - i));
}

/* Most descriptors tell of the next bytes of the heap, some of nothing, of bytes elsewhere, or of none that there are. */
static void take_descriptor(input *in, uint8_t *row, const tf_stream_column *column, int64_t *next)
{
    if (column->at < 0)
        return;
    const int how = (int)take_within(in, 0, 7), bytes = column->wide ? 8 : 4;
    int64_t count = how == 0 ? 0 : take_within(in, 0, how == 1 ? 2000 : 255), offset = *next;
    if (how == 2)
        offset = take_within(in, 0, 4000);
    if (how == 3) {
        count = (int64_t)take(in, bytes);
        offset = (int64_t)take(in, bytes);
    }
    if (how > 3 || how == 1)
        *next += count * column->element;
    put_big_endian(row + column->at, count, bytes);
    put_big_endian(row + column->at + bytes, offset, bytes);
}

/* The rows and the heap, in memory that ends where they do. */
static guarded take_source(input *in, job *j)
{
    tf_tiling *t = &j->tiling;
    const int64_t size = j->count * t->row_bytes;
    uint8_t *rows = calloc((size_t)size, 1);
    int64_t next = 0;
    CHECK(rows);
    for (int64_t i = 0; i < j->count; i++) {
        uint8_t *row = rows + i * t->row_bytes;
        const tf_tile_number *numbers[] = {&t->scale, &t->zero, &t->blank};
        for (int k = 0; t->quantised && k < 2 + t->has_blank; k++)
            if (numbers[k]->at >= 0)
                for (size_t b = 0; b < tf_width(numbers[k]->type); b++)
                    row[numbers[k]->at + (int64_t)b] = (uint8_t)take(in, 1);
        take_descriptor(in, row, &t->compressed, &next);
        take_descriptor(in, row, &t->gzipped, &next);
        take_descriptor(in, row, &t->uncompressed, &next);
    }
    t->rows = 0;
    t->heap = size;
    t->heap_bytes = (int64_t)in->left;
    const guarded memory = guard(&source_place, (size_t)size + in->left, 0, 1);
    memcpy(memory.start, rows, (size_t)size);
    if (in->left)
        memcpy(memory.start + size, in->at, in->left);
    free(rows);
    return memory;
}

/* Whether nothing was wrong; else with which tile. */
static int read_windows(job *j, const tf_source *source, tf_tile_windows *windows, int64_t size, tf_tile_cache *cache,
                        int threads, guarded *result, int64_t *bad)
{
    const tf_tile_keeping keeping = {cache, 7, 3000};
    *result = guard(&result_place, (size_t)size, 0, 0);
    mark(result);
    windows->to = result->start;
    const tf_tile_trouble trouble = tf_read_tiles(&j->tiling, source, windows, &keeping, threads);
    check_marks(result);
    CHECK(trouble.outcome.what == TF_DONE);
    if (trouble.reason)
        CHECK(trouble.tile >= 0 && trouble.tile < j->count && trouble.offset >= 0 && trouble.offset <= source->size);
    *bad = trouble.reason ? trouble.tile : -1;
    return trouble.reason == NULL;
}

/* One window without steps of what is laid out as the whole image. Bytes of that image. */
static int64_t one_window(const job *j, int64_t *window, tf_tile_windows *windows)
{
    const tf_tiling *t = &j->tiling;
    int64_t bytes = j->width;
    *windows = (tf_tile_windows){window, 1, {0}, {0}, NULL};
    for (int k = t->axes - 1; k >= 0; k--) {
        windows->step[k] = 1;
        windows->pitch[k] = bytes;
        bytes *= t->shape[k];
    }
    return bytes;
}

/* Each tile by itself. */
static void read_one_by_one(job *j, const tf_source *source)
{
    const tf_tiling *t = &j->tiling;
    const tf_tile_keeping keeping = {NULL, 0, 0};
    int64_t window[2 * AXES + 1], place[TF_TILE_AXES], sides[TF_TILE_AXES];
    tf_tile_windows windows;
    one_window(j, window, &windows);
    windows.to = j->whole;
    j->bad = -1;
    for (int64_t i = j->count - 1; i >= 0; i--) {
        tf_tile_sides(t, i, place, sides);
        window[2 * t->axes] = 0;
        for (int k = 0; k < t->axes; k++) {
            window[k] = place[k] * t->tile[k];
            window[t->axes + k] = sides[k];
            window[2 * t->axes] += window[k] * windows.pitch[k];
        }
        j->is_bad[i] = tf_read_tiles(t, source, &windows, &keeping, 1).reason != NULL;
        if (j->is_bad[i])
            j->bad = i;
    }
    j->sound = j->bad < 0;
}

static void check_whole(job *j, const tf_source *source, int threads)
{
    const tf_tiling *t = &j->tiling;
    int64_t window[2 * AXES + 1] = {0}, bad;
    tf_tile_windows whole;
    guarded result;
    const int64_t bytes = one_window(j, window, &whole);
    memcpy(window + t->axes, t->shape, (size_t)t->axes * sizeof *window);
    CHECK(read_windows(j, source, &whole, bytes, NULL, threads, &result, &bad) == j->sound);
    CHECK(bad == j->bad);
    CHECK(!j->sound || same_elements(&j->meaning, result.start, j->whole, (size_t)j->pixels));
}

/* Whether the windows hold elements of the whole image; of bad tiles, anything. */
static void check_windows(const job *j, const guarded *result)
{
    const tf_tiling *t = &j->tiling;
    for (int64_t i = 0; i < j->windows.count; i++) {
        const int64_t *window = j->numbers + i * (2 * t->axes + 1);
        int64_t at[AXES] = {0};
        int axis;
        do {
            int64_t pixel = 0, tile = 0, place = window[2 * t->axes];
            for (int k = 0; k < t->axes; k++) {
                const int64_t of_axis = window[k] + at[k] * j->windows.step[k];
                pixel = pixel * t->shape[k] + of_axis;
                tile = tile * t->tiles[k] + of_axis / t->tile[k];
                place += at[k] * j->windows.pitch[k];
            }
            CHECK(j->is_bad[tile]
                  || same_elements(&j->meaning, result->start + place, j->whole + pixel * j->width, 1));
            for (axis = t->axes - 1; axis >= 0 && ++at[axis] == window[t->axes + axis]; axis--)
                at[axis] = 0;
        } while (axis >= 0);
    }
}

static void check_source(job *j, const tf_source *source)
{
    tf_tile_cache *cache = tf_tile_cache_new();
    guarded result;
    int64_t bad, bad_with_kept;
    CHECK(cache);
    check_whole(j, source, 3);
    const int sound = read_windows(j, source, &j->windows, j->size, NULL, 1, &result, &bad);
    CHECK(sound || !j->sound);
    if (sound)
        check_windows(j, &result);
    for (int i = 0; i < 3; i++) {
        CHECK(read_windows(j, source, &j->windows, j->size, cache, 1 + i, &result, &bad_with_kept) == sound);
        CHECK(bad_with_kept == bad);
        if (sound)
            check_windows(j, &result);
        CHECK(tf_tile_cache_info(cache).bytes <= 3000);
    }
    tf_tile_cache_free(cache);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    input in = {data, size};
    job j;
    memset(&j, 0, sizeof j);
    take_tiling(&in, &j);
    j.width = (int64_t)tf_width(j.meaning.wanted);
    take_windows(&in, &j);
    const guarded memory = take_source(&in, &j);
    const int64_t bytes = (int64_t)memory.size;
    const int fd = file_of(memory.start, bytes);
    const tf_source sources[] = {{-1, memory.start, bytes, 0, 0}, {fd, NULL, bytes, 0, 0}};
    j.whole = malloc((size_t)(j.pixels * j.width));
    CHECK(j.whole);
    for (int i = 0; tf_variant_name(i); i++) {
        CHECK(tf_use_variant(tf_variant_name(i)) == 0);
        if (i == 0)
            read_one_by_one(&j, &sources[0]);
        check_whole(&j, &sources[0], 1);
        check_source(&j, &sources[i % 2]);
    }
    if (j.count > 1) {
        /* rows at least are missing */
        const tf_tile_keeping keeping = {NULL, 0, 0};
        CHECK(ftruncate(fd, bytes > 0 ? (j.count - 1) * j.tiling.row_bytes : 0) == 0);
        tf_read_tiles(&j.tiling, &sources[1], &j.windows, &keeping, 1);
    }
    close(fd);
    free(j.whole);
    return 0;
}
