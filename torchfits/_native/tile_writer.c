#include "tile_writer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "hcompress_encode.h"
#include "least.h"
#include "noise.h"
#include "plio.h"
#include "rice_encode.h"

/* Places in the memory of a thread. */
typedef struct {
    size_t pixels;  /* those of the tile, one behind the other, as they are stored */
    size_t numbers; /* the integers that stand for them */
    size_t bytes;   /* those in the order of the file, twice */
    size_t scratch; /* of an encoder */
    size_t streams; /* of a piece */
    size_t room;    /* for one stream */
    size_t all;
} places;

typedef struct {
    const tf_tile_encoding *encoding;
    tf_encoded_image *encoded;
    places places;
    tf_tile_work work;
} writing;

typedef struct {
    const tf_tile_encoding *encoding;
    const places *places;
    uint8_t *memory;
    tf_deflater *deflater, *deflater_for_reals;
    tf_noise_guess guess;
} worker;

/* Numbers that an encoder gets. */
typedef struct {
    const void *start;
    tf_type type;
} numbers;

static const char *const no_memory = "is too large for the memory";

static int needs_integers(const tf_tiling *t)
{
    return t->quantised || t->codec == TF_HCOMPRESS_1 || t->codec == TF_PLIO_1;
}

static int is_gzip(const tf_tiling *t)
{
    return t->codec == TF_GZIP_1 || t->codec == TF_GZIP_2;
}

/* ---------------------------------------------------------------------------- memory */

static size_t room_for(const tf_tiling *t, const tf_tile_shape *s)
{
    const size_t width = tf_width(t->conversion.stored);
    size_t room;
    switch (t->codec) {
    case TF_RICE_1:
        room = tf_rice_room(s->pixels, t->rice_width, t->rice_block);
        break;
    case TF_HCOMPRESS_1:
        room = tf_hcompress_room(s->rows, s->columns);
        break;
    case TF_PLIO_1:
        room = tf_plio_room(s->pixels);
        break;
    default:
        room = tf_deflate_room(s->pixels * width);
    }
    return t->quantised ? (size_t)greatest(room, tf_deflate_room(s->pixels * width)) : room;
}

static size_t scratch_for(const tf_tile_encoding *e, const tf_tile_shape *s)
{
    const tf_tiling *t = &e->tiling;
    size_t size = t->quantised ? tf_quantise_scratch(t->conversion.stored == TF_F64, s->columns, s->rows) : 0;
    if (t->codec != TF_HCOMPRESS_1)
        return size;
    if (e->hcompress_scale > 0)
        size = greatest(size, s->pixels * sizeof(double) + tf_quantise_scratch(1, s->columns, s->rows));
    return greatest(size, tf_hcompress_encode_scratch(s->rows, s->columns));
}

static size_t put(size_t *all, size_t bytes)
{
    const size_t at = *all;
    *all += (bytes + 63) / 64 * 64;
    return at;
}

/* The most that any tile needs: one at an edge, though smaller, may need more where its rows are short. */
typedef struct {
    size_t room, scratch;
} needs;

static needs most_needed(const tf_tile_encoding *e)
{
    const tf_tiling *t = &e->tiling;
    needs most = {0, 0};
    /* a bit an axis: whether the tile is the last one along it */
    for (uint32_t last = 0; last < (uint32_t)1 << t->axes; last++) {
        int64_t sides[TF_TILE_AXES];
        int differs = 1;
        for (int i = 0; i < t->axes; i++) {
            const int64_t side = t->shape[i] - (t->tiles[i] - 1) * t->tile[i];
            const int at_edge = last >> i & 1;
            sides[i] = at_edge ? side : t->tile[i];
            differs &= !at_edge || side != t->tile[i];
        }
        if (differs) {
            const tf_tile_shape s = tf_tile_shape_of(sides, t->axes);
            most.room = greatest(most.room, room_for(t, &s));
            most.scratch = greatest(most.scratch, scratch_for(e, &s));
        }
    }
    return most;
}

/* Where what is in the memory of a thread. */
static places places_for(const tf_tile_encoding *e, int64_t at_once)
{
    const tf_tiling *t = &e->tiling;
    const tf_tile_shape s = tf_tile_shape_of(t->tile, t->axes);
    const needs most = most_needed(e);
    const size_t bytes = s.pixels * tf_width(t->conversion.stored);
    places p = {.room = most.room};
    p.pixels = put(&p.all, bytes);
    p.numbers = put(&p.all, needs_integers(t) ? s.pixels * sizeof(int32_t) : 0);
    p.bytes = put(&p.all, is_gzip(t) || t->quantised ? 2 * greatest(bytes, s.pixels * sizeof(int32_t)) : 0);
    p.scratch = put(&p.all, most.scratch);
    p.streams = put(&p.all, p.room * (size_t)at_once);
    return p;
}

/* ---------------------------------------------------------------------------- pixels of a tile */

/* How many axes, the fastest ones, lie in the tile as they lie in the image: the last of these need not be whole. */
static int axes_in_a_run(const tf_tiling *t, const int64_t *sides)
{
    int n = 1;
    while (n < t->axes && sides[t->axes - n] == t->shape[t->axes - n])
        n++;
    return n;
}

/* The pixels of a tile, one behind the other, as they are to be stored; its shape. */
static const void *pixels_of(const worker *w, int64_t number, tf_tile_shape *s)
{
    const tf_tiling *t = &w->encoding->tiling;
    const tf_conversion *c = &t->conversion;
    const size_t width = tf_width(c->stored);
    int64_t place[TF_TILE_AXES], sides[TF_TILE_AXES], at[TF_TILE_AXES] = {0}, stride[TF_TILE_AXES];
    const uint8_t *from = w->encoding->pixels;
    uint8_t *const pixels = w->memory + w->places->pixels, *to = pixels;
    int64_t bytes = (int64_t)width;
    size_t run = width;
    int axis;

    tf_tile_sides(t, number, place, sides);
    *s = tf_tile_shape_of(sides, t->axes);
    const int outer = t->axes - axes_in_a_run(t, sides);
    for (int i = t->axes - 1; i >= 0; i--) {
        stride[i] = bytes;
        from += place[i] * t->tile[i] * bytes;
        bytes *= t->shape[i];
        if (i >= outer)
            run *= (size_t)sides[i];
    }
    if (run == s->pixels * width) {
        if (c->values == c->stored)
            return from;
        tf_convert_native(c, pixels, from, s->pixels);
        return pixels;
    }
    do {
        memcpy(to, from, run);
        to += run;
        for (axis = outer - 1; axis >= 0; axis--) {
            from += stride[axis];
            if (++at[axis] < sides[axis])
                break;
            from -= sides[axis] * stride[axis];
            at[axis] = 0;
        }
    } while (axis >= 0);
    if (c->values != c->stored)
        tf_convert_native(c, pixels, pixels, s->pixels);
    return pixels;
}

/* ---------------------------------------------------------------------------- streams */

/* In the order of the file, and GZIP_2's where it is `shuffled`. */
static int64_t deflate_numbers(const worker *w, tf_deflater *deflater, const numbers *from, size_t n, int shuffled,
                               uint8_t *to)
{
    const size_t width = tf_width(from->type), bytes = n * width;
    const tf_conversion swap = {.stored = from->type, .values = from->type, .wanted = from->type};
    uint8_t *in_order = w->memory + w->places->bytes;
    tf_convert(&swap, in_order, from->start, width, n);
    if (shuffled && width > 1) {
        tf_shuffle(in_order, n, (int)width, in_order + bytes);
        in_order += bytes;
    }
    return tf_deflate(deflater, in_order, bytes, to, w->places->room);
}

/* What the coefficients are divided by, as cfitsio makes it of the scale asked for. */
static int32_t hcompress_divisor(worker *w, const int32_t *integers, const tf_tile_shape *s)
{
    float scale = w->encoding->hcompress_scale;
    if (scale > 0) {
        double *reals = (double *)(void *)(w->memory + w->places->scratch);
        tf_cast(TF_F64, reals, TF_I32, integers, s->pixels);
        const tf_range range = tf_range_of(reals, 1, s->pixels);
        scale = (float)(scale * tf_noise(reals, 1, s->columns, s->rows, &range, &w->guess, reals + s->pixels));
    }
    scale = fabsf(scale);
    return scale < 0x1p31F ? (int32_t)(scale + 0.5) : INT32_MAX;
}

/* The bytes of the stream, or -1 with the reason. */
static int64_t encode_numbers(worker *w, const numbers *from, const tf_tile_shape *s, uint8_t *to, const char **reason)
{
    const tf_tiling *t = &w->encoding->tiling;
    const size_t room = w->places->room;
    int64_t bytes;
    switch (t->codec) {
    case TF_RICE_1:
        return tf_rice_encode(from->start, s->pixels, t->rice_width, t->rice_block, to, room);
    case TF_HCOMPRESS_1: {
        const int32_t divisor = hcompress_divisor(w, from->start, s);
        return tf_hcompress_encode(from->start, s->rows, s->columns, divisor, to, room, w->memory + w->places->scratch);
    }
    case TF_PLIO_1:
        bytes = tf_plio_encode(from->start, s->pixels, to, room);
        if (bytes < 0)
            *reason = "has pixels that are not 0 to 16777215";
        return bytes;
    default:
        return deflate_numbers(w, w->deflater, from, s->pixels, t->codec == TF_GZIP_2, to);
    }
}

/* Pixels as integers of 32 bits. */
static const int32_t *integers_of(const worker *w, const void *pixels, const tf_tile_shape *s)
{
    const tf_tiling *t = &w->encoding->tiling;
    int32_t *integers = (int32_t *)(void *)(w->memory + w->places->numbers);
    if (t->conversion.stored == TF_I32)
        return pixels;
    tf_cast(TF_I32, integers, t->conversion.stored, pixels, s->pixels);
    /* unsigned 16-bit numbers are coded as they are, where others are coded as they are stored */
    if (t->codec == TF_PLIO_1)
        for (size_t i = 0; i < s->pixels; i++)
            integers[i] += t->plio_zero;
    return integers;
}

/* The bytes of the stream, or -1 with the reason. */
static int64_t encode_tile(worker *w, int64_t number, uint8_t *to, tf_encoded_tile *tile, const char **reason)
{
    const tf_tiling *t = &w->encoding->tiling;
    tf_tile_shape s;
    numbers found = {pixels_of(w, number, &s), t->conversion.stored};
    *tile = (tf_encoded_tile){0, 0, 0, 0, 0};
    if (t->quantised) {
        tf_quantisation q = {.method = t->method, .zdither0 = t->zdither0, .tile = number};
        int32_t *integers = (int32_t *)(void *)(w->memory + w->places->numbers);
        tile->gzipped = tf_quantise(&q, w->encoding->quantise_level, found.start, found.type == TF_F64, s.columns,
                                    s.rows, &w->guess, w->memory + w->places->scratch, integers)
                        != 0;
        if (tile->gzipped)
            return deflate_numbers(w, w->deflater_for_reals, &found, s.pixels, 0, to);
        tile->scale = q.scale;
        tile->zero = q.zero;
        tile->has_blank = q.has_blank;
        found = (numbers){integers, TF_I32};
    } else if (needs_integers(t)) {
        found = (numbers){integers_of(w, found.start, &s), TF_I32};
    }
    return encode_numbers(w, &found, &s, to, reason);
}

/* ---------------------------------------------------------------------------- threads */

static int encode_piece(worker *w, tf_encoded_image *encoded, int64_t piece, tf_tile_trouble *trouble)
{
    const int64_t first = piece * encoded->at_once, last = least(first + encoded->at_once, encoded->count);
    uint8_t *const streams = w->memory + w->places->streams, *to = streams;
    for (int64_t i = first; i < last; i++) {
        const int64_t bytes = encode_tile(w, i, to, &encoded->tiles[i], &trouble->reason);
        if (bytes < 0) {
            trouble->tile = i;
            if (!trouble->reason)
                trouble->reason = no_memory;
            return -1;
        }
        encoded->tiles[i].bytes = bytes;
        to += bytes;
    }
    tf_encoded_piece *done = &encoded->piece[piece];
    done->bytes = to - streams;
    done->start = __atomic_fetch_add(&encoded->bytes, done->bytes, __ATOMIC_RELAXED);
    memcpy(encoded->streams + done->start, streams, (size_t)done->bytes);
    return 0;
}

static int begin(worker *w)
{
    const tf_tiling *t = &w->encoding->tiling;
    w->memory = malloc(w->places->all);
    if (is_gzip(t))
        w->deflater = tf_deflater_new(w->encoding->deflate_level);
    if (t->quantised)
        w->deflater_for_reals = tf_deflater_new(TF_DEFLATE_LEVEL);
    return w->memory && (w->deflater || !is_gzip(t)) && (w->deflater_for_reals || !t->quantised) ? 0 : -1;
}

static void run_thread(void *argument)
{
    writing *all = argument;
    worker w = {.encoding = all->encoding, .places = &all->places};
    tf_tile_trouble trouble = {{TF_DONE, 0, 0}, NULL, 0, 0};
    int64_t piece = 0;
    int result = begin(&w);
    if (result != 0)
        trouble.outcome.what = TF_MEMORY;
    while (result == 0 && (piece = tf_next_piece(&all->work.pieces)) >= 0)
        result = encode_piece(&w, all->encoded, piece, &trouble);
    tf_deflater_free(w.deflater);
    tf_deflater_free(w.deflater_for_reals);
    free(w.memory);
    if (result != 0)
        tf_tell_trouble(&all->work, piece, &trouble);
}

static void add_up(tf_encoded_image *encoded)
{
    for (int64_t i = 0; i < encoded->count; i++) {
        const tf_encoded_tile *tile = &encoded->tiles[i];
        int64_t *longest = tile->gzipped ? &encoded->longest_gzipped : &encoded->longest;
        encoded->gzipped += tile->gzipped;
        encoded->blank += tile->has_blank;
        *longest = *longest > tile->bytes ? *longest : tile->bytes;
    }
}

size_t tf_encoding_room(const tf_tile_encoding *encoding)
{
    return most_needed(encoding).room * (size_t)tf_tiles_of(&encoding->tiling);
}

tf_tile_trouble tf_encode_tiles(const tf_tile_encoding *encoding, uint8_t *streams, tf_encoded_image *encoded,
                                int threads)
{
    const tf_tiling *t = &encoding->tiling;
    writing all = {.encoding = encoding, .encoded = encoded};
    tf_tile_trouble trouble = {{TF_DONE, 0, 0}, NULL, 0, 0};
    const int64_t pixels = (int64_t)tf_tile_shape_of(t->tile, t->axes).pixels;

    memset(encoded, 0, sizeof *encoded);
    encoded->streams = streams;
    encoded->count = tf_tiles_of(t);
    encoded->quantised = t->quantised;
    encoded->element = t->codec == TF_PLIO_1 ? 2 : 1;
    encoded->at_once = least(TF_PIECE_PIXELS / pixels, encoded->count);
    encoded->at_once += encoded->at_once == 0;
    encoded->pieces = (encoded->count + encoded->at_once - 1) / encoded->at_once;
    encoded->tiles = calloc((size_t)encoded->count, sizeof *encoded->tiles);
    encoded->piece = calloc((size_t)encoded->pieces, sizeof *encoded->piece);
    if (!encoded->tiles || !encoded->piece) {
        trouble.outcome.what = TF_MEMORY;
        return trouble;
    }
    all.places = places_for(encoding, encoded->at_once);
    if (encoded->count * pixels < TF_SMALL_IMAGE)
        threads = 1;
    trouble = tf_work_on_tiles(&all.work, encoded->pieces, run_thread, &all, threads);
    add_up(encoded);
    return trouble;
}

void tf_encoded_free(tf_encoded_image *encoded)
{
    free(encoded->piece);
    free(encoded->tiles);
    memset(encoded, 0, sizeof *encoded);
}

/* ---------------------------------------------------------------------------- the table */

static uint8_t *put_big_endian(uint8_t *to, uint64_t number, int bytes)
{
    for (int i = bytes - 1; i >= 0; i--)
        *to++ = (uint8_t)(number >> 8 * i);
    return to;
}

static uint8_t *put_real(uint8_t *to, double real)
{
    uint64_t bits;
    memcpy(&bits, &real, sizeof bits);
    return put_big_endian(to, bits, sizeof bits);
}

static uint8_t *put_descriptor(uint8_t *to, int wide, int64_t count, int64_t offset)
{
    to = put_big_endian(to, (uint64_t)count, wide ? 8 : 4);
    return put_big_endian(to, count ? (uint64_t)offset : 0, wide ? 8 : 4);
}

int64_t tf_encoded_row_bytes(const tf_encoded_image *encoded, int wide)
{
    const int64_t descriptor = wide ? 16 : 8;
    return descriptor + (encoded->quantised ? 2 * (int64_t)sizeof(double) : 0) + (encoded->gzipped ? descriptor : 0);
}

void tf_put_rows(const tf_encoded_image *encoded, int wide, uint8_t *rows)
{
    int64_t offset = 0;
    for (int64_t i = 0; i < encoded->count; i++) {
        const tf_encoded_tile *tile = &encoded->tiles[i];
        rows = put_descriptor(rows, wide, tile->gzipped ? 0 : tile->bytes / encoded->element, offset);
        if (encoded->quantised) {
            rows = put_real(rows, tile->scale);
            rows = put_real(rows, tile->zero);
        }
        if (encoded->gzipped)
            rows = put_descriptor(rows, wide, tile->gzipped ? tile->bytes : 0, offset);
        offset += tile->bytes;
    }
}
