#include "tiles.h"

#include <stdlib.h>
#include <string.h>

#include "hcompress.h"
#include "least.h"
#include "plio.h"

/* Tiles of more pixels than this are decoded one by one: together they would leave the cache. */
#define TOGETHER_PIXELS ((int64_t)1 << 16)
/* A tile of more pixels must have a stream that is not out of all proportion. */
#define FREE_PIXELS ((int64_t)1 << 24)
#define PIXELS_A_BYTE 4096
/* No encoder makes more bytes of a pixel, headers aside; what a descriptor counts beyond is not read. */
#define BYTES_A_PIXEL 16
#define BYTES_A_TILE 4096

typedef struct {
    uint8_t *start;
    size_t size;
} buffer;

struct tf_tile_decoder {
    const tf_tiling *tiling;
    const tf_source *source;
    tf_inflater *inflater;
    buffer rows, streams, numbers, scratch;
};

/* How a tile is stored. */
typedef enum { CODED, GZIPPED, AS_IT_IS } storage;

typedef struct {
    int64_t number, pixels;
    int64_t wanted; /* of these, from the first on */
    storage how;
    int64_t offset; /* of the stream in the source */
    tf_stream stream;
    tf_quantisation quantisation;
    void *to;
} tile;

/* Numbers of a tile that are no elements yet. */
typedef struct {
    const void *start;
    tf_type type;
    int big_endian;
} numbers;

static const char *const no_memory = "is too large for the memory";

/* Room for so many bytes, of any content; NULL where there is no memory. */
static void *room(buffer *b, size_t size)
{
    if (size > b->size) {
        free(b->start);
        b->start = malloc(size);
        b->size = b->start ? size : 0;
    }
    return b->start;
}

/* ---------------------------------------------------------------------------- geometry */

void tf_tile_place(const tf_tiling *t, int64_t number, int64_t place[TF_TILE_AXES])
{
    for (int i = t->axes - 1; i >= 0; i--) {
        place[i] = number % t->tiles[i];
        number /= t->tiles[i];
    }
}

void tf_tile_sides(const tf_tiling *t, int64_t number, int64_t place[TF_TILE_AXES], int64_t sides[TF_TILE_AXES])
{
    tf_tile_place(t, number, place);
    for (int i = 0; i < t->axes; i++)
        sides[i] = least(t->tile[i], t->shape[i] - place[i] * t->tile[i]);
}

tf_tile_shape tf_tile_shape_of(const int64_t *sides, int axes)
{
    tf_tile_shape s = {1, 1, 1};
    for (int i = axes - 1; i >= 0; i--) {
        if (s.columns == 1)
            s.columns = (size_t)sides[i];
        else
            s.rows *= (size_t)sides[i];
    }
    s.pixels = s.columns * s.rows;
    return s;
}

tf_tile_shape tf_tile_shape_at(const tf_tiling *t, int64_t number)
{
    int64_t place[TF_TILE_AXES], sides[TF_TILE_AXES];
    tf_tile_sides(t, number, place, sides);
    return tf_tile_shape_of(sides, t->axes);
}

int64_t tf_tiles_of(const tf_tiling *t)
{
    int64_t count = 1;
    for (int i = 0; i < t->axes; i++)
        count *= t->tiles[i];
    return count;
}

/* ---------------------------------------------------------------------------- threads */

tf_tile_trouble tf_work_on_tiles(tf_tile_work *shared, int64_t count, void (*work)(void *job), void *job, int threads)
{
    memset(shared, 0, sizeof *shared);
    shared->pieces.count = count;
    shared->bad = INT64_MAX;
    pthread_mutex_init(&shared->lock, NULL);
    tf_parallel(work, job, (int)least(threads, count));
    pthread_mutex_destroy(&shared->lock);
    return shared->trouble;
}

void tf_tell_trouble(tf_tile_work *shared, int64_t piece, const tf_tile_trouble *trouble)
{
    tf_stop_pieces(&shared->pieces);
    pthread_mutex_lock(&shared->lock);
    if (piece < shared->bad) {
        shared->bad = piece;
        shared->trouble = *trouble;
    }
    pthread_mutex_unlock(&shared->lock);
}

/* ---------------------------------------------------------------------------- rows of the table */

/* A big-endian number of a row. */
static double real_at(const uint8_t *at, tf_type type)
{
    const tf_conversion c = {.stored = type, .values = type, .wanted = TF_F64};
    double value;
    tf_convert(&c, &value, at, tf_width(type), 1);
    return value;
}

static int64_t integer_at(const uint8_t *at, tf_type type)
{
    const tf_conversion c = {.stored = type, .values = type, .wanted = TF_I64};
    int64_t value;
    tf_convert(&c, &value, at, tf_width(type), 1);
    return value;
}

static double number_of(const tf_tile_number *n, const uint8_t *row)
{
    return n->at < 0 ? n->same : real_at(row + n->at, n->type);
}

/* The array that a descriptor tells of: 1, 0 where it is empty, -1 where it lies outside the heap. */
static int array_of(const tf_tiling *t, const tf_stream_column *column, const uint8_t *row, int64_t *offset,
                    int64_t *bytes)
{
    const tf_type type = column->wide ? TF_I64 : TF_I32;
    int64_t count;
    if (column->at < 0)
        return 0;
    count = integer_at(row + column->at, type);
    *offset = integer_at(row + column->at + (int64_t)tf_width(type), type);
    if (!column->wide)
        *offset &= UINT32_MAX; /* cfitsio writes P descriptors into heaps of up to 4 GiB */
    if (count == 0)
        return 0;
    if (count < 0 || *offset < 0 || count > t->heap_bytes / column->element)
        return -1;
    *bytes = count * column->element;
    return *offset > t->heap_bytes - *bytes ? -1 : 1;
}

/* Where the stream of a tile is, as its row tells. Of the columns that stand in for the first one, cfitsio looks no
 * further than the older one. */
static const char *look_up(const tf_tiling *t, const uint8_t *row, tile *tile)
{
    int64_t offset = 0, bytes = 0;
    int found = array_of(t, &t->compressed, row, &offset, &bytes);
    tile->how = CODED;
    if (found == 0 && t->uncompressed.at >= 0) {
        found = array_of(t, &t->uncompressed, row, &offset, &bytes);
        tile->how = AS_IT_IS;
    } else if (found == 0) {
        found = array_of(t, &t->gzipped, row, &offset, &bytes);
        tile->how = GZIPPED;
    }
    if (found == 0)
        return "has no data";
    if (found < 0)
        return "has a descriptor that points outside the heap";
    if (tile->how == AS_IT_IS && bytes != tile->pixels * t->uncompressed.element)
        return "is not as long as its pixels";
    if (tile->pixels > FREE_PIXELS && tile->pixels / PIXELS_A_BYTE > bytes)
        return "has more pixels than its bytes can make";
    tile->offset = t->heap + offset;
    tile->stream.size = (size_t)least(bytes, BYTES_A_PIXEL * tile->pixels + BYTES_A_TILE);
    return NULL;
}

static void look_up_quantisation(const tf_tiling *t, const uint8_t *row, tile *tile)
{
    tf_quantisation *q = &tile->quantisation;
    q->method = t->method;
    q->zdither0 = t->zdither0;
    q->tile = tile->number;
    q->scale = number_of(&t->scale, row);
    q->zero = number_of(&t->zero, row);
    if (t->scale.at >= 0) {
        q->scale *= t->image_scale;
        q->zero = q->zero * t->image_scale + t->image_zero;
    }
    if (q->scale == 1 && q->zero == 0) {
        q->scale = t->image_scale;
        q->zero = t->image_zero;
    }
    q->has_blank = t->has_blank;
    if (t->has_blank)
        q->blank = (int64_t)t->blank.same;
    if (t->has_blank && t->blank.at >= 0)
        q->blank = integer_at(row + t->blank.at, t->blank.type);
}

/* n bytes of the source: where they are in memory, or read to `to`. NULL with the trouble. */
static const uint8_t *bytes_of(const tf_source *source, int64_t offset, int64_t n, void *to, tf_tile_trouble *trouble)
{
    if (source->fd < 0)
        return source->bytes + offset;
    return tf_pread(source->fd, to, (size_t)n, offset, &trouble->outcome) == 0 ? to : NULL;
}

/* How many of the tiles come before the first trouble. */
static int find_streams(tf_tile_decoder *d, tile *tiles, int count, tf_tile_trouble *trouble)
{
    const tf_tiling *t = d->tiling;
    for (int i = 0, last; i < count; i = last) {
        /* rows that lie together are read together */
        for (last = i + 1; last < count; last++)
            if ((tiles[last].number - tiles[last - 1].number) * t->row_bytes > TF_GAP)
                break;
        const int64_t rows = tiles[last - 1].number - tiles[i].number + 1;
        uint8_t *to = room(&d->rows, (size_t)(rows * t->row_bytes));
        trouble->tile = tiles[i].number;
        trouble->offset = t->rows + tiles[i].number * t->row_bytes;
        if (!to) {
            trouble->reason = no_memory;
            return i;
        }
        const uint8_t *from = bytes_of(d->source, trouble->offset, rows * t->row_bytes, to, trouble);
        if (!from)
            return i;
        for (int k = i; k < last; k++) {
            const uint8_t *row = from + (tiles[k].number - tiles[i].number) * t->row_bytes;
            trouble->reason = look_up(t, row, &tiles[k]);
            if (trouble->reason) {
                trouble->tile = tiles[k].number;
                trouble->offset = t->rows + tiles[k].number * t->row_bytes;
                return k;
            }
            if (t->quantised)
                look_up_quantisation(t, row, &tiles[k]);
        }
    }
    return count;
}

static int read_streams(tf_tile_decoder *d, tile *tiles, int count, tf_tile_trouble *trouble)
{
    size_t size = 0;
    for (int i = 0; i < count; i++)
        size += tiles[i].stream.size + TF_GAP;
    uint8_t *to = d->source->fd < 0 ? NULL : room(&d->streams, size);
    for (int i = 0, last; i < count; i = last) {
        const int64_t low = tiles[i].offset;
        int64_t high = low + (int64_t)tiles[i].stream.size;
        for (last = i + 1; last < count && tiles[last].offset >= high && tiles[last].offset <= high + TF_GAP; last++)
            high = tiles[last].offset + (int64_t)tiles[last].stream.size;
        trouble->tile = tiles[i].number;
        trouble->offset = low;
        if (!to && d->source->fd >= 0) {
            trouble->reason = no_memory;
            return -1;
        }
        const uint8_t *from = bytes_of(d->source, low, high - low, to, trouble);
        if (!from)
            return -1;
        for (int k = i; k < last; k++)
            tiles[k].stream.bytes = from + (tiles[k].offset - low);
        if (to)
            to += high - low;
    }
    return 0;
}

/* ---------------------------------------------------------------------------- streams to numbers */

/* What numbers of a gzip stream can be: as many bytes each, the likeliest first. cfitsio once wrote all integers with
 * four. */
static int gzip_types(const tf_tiling *t, const tile *tile, tf_type types[3])
{
    const tf_type stored = t->conversion.stored;
    int n = 0;
    if (t->quantised && tile->how == CODED) {
        types[n++] = TF_I32;
        types[n++] = TF_I16;
        types[n++] = TF_U8;
        return n;
    }
    types[n++] = stored;
    if (stored == TF_U8 || stored == TF_I16)
        types[n++] = TF_I32;
    return n;
}

static const char *inflate_tile(tf_tile_decoder *d, const tile *tile, numbers *found)
{
    const int shuffled = d->tiling->codec == TF_GZIP_2 && tile->how == CODED;
    const size_t pixels = (size_t)tile->pixels;
    const char *reason = NULL;
    tf_type types[3];
    const int count = gzip_types(d->tiling, tile, types);

    if (!d->inflater && !(d->inflater = tf_inflater_new(NULL)))
        return no_memory;
    for (int i = 0; i < count; i++) {
        const size_t width = tf_width(types[i]), bytes = width * pixels;
        uint8_t *to = room(&d->numbers, shuffled ? 2 * bytes : bytes);
        if (!to)
            return no_memory;
        const char *why = tf_inflate(d->inflater, tile->stream.bytes, tile->stream.size, to, bytes);
        if (i == 0)
            reason = why;
        if (why)
            continue;
        if (shuffled)
            tf_unshuffle(to, pixels, (int)width, to + bytes);
        *found = (numbers){shuffled ? to + bytes : to, types[i], 1};
        return NULL;
    }
    return reason;
}

/* Whether numbers are decoded to where the elements shall be: of these nothing but the sign bit can differ. */
static int is_in_place(const tf_tiling *t, tf_type type)
{
    return !t->quantised && type == t->conversion.stored && tf_is_swap(&t->conversion);
}

static const char *decode_hcompress(tf_tile_decoder *d, const tile *tile, numbers *found)
{
    const tf_tile_shape s = tf_tile_shape_at(d->tiling, tile->number);
    void *scratch = room(&d->scratch, tf_hcompress_decode_scratch(s.rows, s.columns));
    int32_t *to = room(&d->numbers, sizeof *to * (size_t)tile->pixels);
    if (!scratch || !to)
        return no_memory;
    *found = (numbers){to, TF_I32, 0};
    return tf_hcompress_decode(tile->stream.bytes, tile->stream.size, s.rows, s.columns, d->tiling->smooth, to,
                                scratch);
}

static const char *decode_plio(tf_tile_decoder *d, const tile *tile, numbers *found)
{
    const tf_type stored = d->tiling->conversion.stored, type = stored == TF_U8 || stored == TF_I16 ? stored : TF_I32;
    void *to = is_in_place(d->tiling, type) ? tile->to : room(&d->numbers, tf_width(type) * (size_t)tile->pixels);
    if (!to)
        return no_memory;
    *found = (numbers){to, type, 0};
    /* unsigned 16-bit numbers are coded as they are, where others are coded as they would be stored */
    return tf_plio_decode(tile->stream.bytes, tile->stream.size, type, type == TF_I16 ? d->tiling->plio_zero : 0, to,
                          (size_t)tile->pixels);
}

static const char *as_it_is(tf_tile_decoder *d, const tile *tile, numbers *found)
{
    const tf_tiling *t = d->tiling;
    const tf_type type = tile->how == AS_IT_IS ? t->uncompressed_type : t->conversion.stored;
    if (tile->stream.size < tf_width(type) * (size_t)tile->pixels)
        return "ends before its pixels do";
    *found = (numbers){tile->stream.bytes, type, 1};
    return NULL;
}

static const char *decode_one(tf_tile_decoder *d, const tile *tile, numbers *found)
{
    if (tile->how == GZIPPED)
        return inflate_tile(d, tile, found);
    if (tile->how == AS_IT_IS)
        return as_it_is(d, tile, found);
    switch (d->tiling->codec) {
    case TF_GZIP_1:
    case TF_GZIP_2:
        return inflate_tile(d, tile, found);
    case TF_HCOMPRESS_1:
        return decode_hcompress(d, tile, found);
    case TF_PLIO_1:
        return decode_plio(d, tile, found);
    default:
        return as_it_is(d, tile, found);
    }
}

/* ---------------------------------------------------------------------------- numbers to elements */

/* Integers as those of BITPIX 8 or 16: what lies beyond becomes the least or the greatest. Whether there was any. */
static int fit(int32_t *from, size_t n, tf_type stored, void *to)
{
    const int32_t low = stored == TF_U8 ? 0 : INT16_MIN, high = stored == TF_U8 ? UINT8_MAX : INT16_MAX;
    int outside = 0;
    for (size_t i = 0; i < n; i++) {
        const int32_t number = from[i] < low ? low : from[i] > high ? high : from[i];
        outside |= number != from[i];
        from[i] = number;
    }
    tf_cast(stored, to, TF_I32, from, n);
    return outside;
}

static const char *finish_quantised(tf_tile_decoder *d, const tile *tile, const numbers *found)
{
    const tf_conversion *c = &d->tiling->conversion;
    const size_t n = (size_t)tile->wanted;
    const int wide = c->stored == TF_F64;
    const int32_t *integers = found->start;
    int32_t *widened;
    void *reals = tile->to;

    if (found->type != TF_I32 || found->big_endian || c->wanted != c->stored) {
        uint8_t *more = room(&d->scratch, n * (sizeof *integers + tf_width(c->stored)));
        if (!more)
            return no_memory;
        if (c->wanted != c->stored)
            reals = more;
        widened = (int32_t *)(more + n * tf_width(c->stored));
        if (found->big_endian) {
            const tf_conversion widening = {.stored = found->type, .values = found->type, .wanted = TF_I32};
            tf_convert(&widening, widened, found->start, tf_width(found->type), n);
            integers = widened;
        } else if (found->type != TF_I32) {
            tf_cast(TF_I32, widened, found->type, found->start, n);
            integers = widened;
        }
    }
    tf_dequantise(&tile->quantisation, integers, n, wide, reals);
    if (reals != tile->to)
        tf_cast(c->wanted, tile->to, c->stored, reals, n);
    return NULL;
}

static const char *finish(tf_tile_decoder *d, const tile *tile, const numbers *found)
{
    const tf_tiling *t = d->tiling;
    const tf_conversion *c = &t->conversion;
    const size_t n = (size_t)tile->wanted;

    if (t->quantised && tile->how == CODED)
        return finish_quantised(d, tile, found);
    if (found->type == c->stored) {
        if (found->big_endian)
            tf_convert(c, tile->to, found->start, tf_width(c->stored), n);
        else
            tf_convert_native(c, tile->to, found->start, n);
        return NULL;
    }
    /* 32 bits for integers of fewer, or the real numbers of an image of the other width */
    uint8_t *more = room(&d->scratch, n * (sizeof(int64_t) + tf_width(c->stored)));
    const tf_type middle = found->type == TF_F32 || found->type == TF_F64 ? c->stored : TF_I32;
    if (!more)
        return no_memory;
    uint8_t *stored = more + n * sizeof(int64_t);
    if (found->big_endian) {
        const tf_conversion swap = {.stored = found->type, .values = found->type, .wanted = middle};
        tf_convert(&swap, more, found->start, tf_width(found->type), n);
    } else {
        tf_cast(middle, more, found->type, found->start, n);
    }
    if (middle == c->stored) {
        stored = more;
    } else if (c->stored != TF_U8 && c->stored != TF_I16) {
        tf_cast(c->stored, stored, TF_I32, more, n);
    } else if (fit((int32_t *)more, n, c->stored, stored) && t->codec != TF_HCOMPRESS_1) {
        return "has numbers beyond its ZBITPIX"; /* HCOMPRESS_1 with loss makes such next to the greatest */
    }
    tf_convert_native(c, tile->to, stored, n);
    return NULL;
}

/* ---------------------------------------------------------------------------- Rice, several at once */

static tf_type rice_type(int width)
{
    return width == 1 ? TF_U8 : width == 2 ? TF_I16 : TF_I32;
}

/* How many of the tiles from the first one on can be decoded at once. */
static int together(const tile *tiles, int count)
{
    int n = 1;
    while (n < count && n < TF_RICE_TOGETHER && tiles[n].how == CODED && tiles[n].pixels == tiles[0].pixels &&
           tiles[0].pixels <= TOGETHER_PIXELS)
        n++;
    return n;
}

/* How many pixels of each of some tiles are to be decoded: whole blocks, and as many of one as of the others. */
static size_t pixels_to_decode(const tf_tiling *t, const tile *tiles, int count)
{
    const uint64_t pixels = (uint64_t)tiles[0].pixels, block = t->rice_block;
    uint64_t most = 0;
    for (int i = 0; i < count; i++)
        most = (uint64_t)greatest((int64_t)most, tiles[i].wanted);
    most += (block - most % block) % block;
    return most < pixels ? most : pixels;
}

static const char *decode_rice(tf_tile_decoder *d, const tile *tiles, int count, int *bad)
{
    const tf_tiling *t = d->tiling;
    const tf_type type = rice_type(t->rice_width);
    const size_t pixels = pixels_to_decode(t, tiles, count), bytes = pixels * tf_width(type);
    const int in_place = is_in_place(t, type);
    uint8_t *to = in_place ? NULL : room(&d->numbers, bytes * (size_t)count);
    tf_stream streams[TF_RICE_TOGETHER];
    void *targets[TF_RICE_TOGETHER];
    const char *reason;

    *bad = 0;
    if (!in_place && !to)
        return no_memory;
    for (int i = 0; i < count; i++) {
        streams[i] = tiles[i].stream;
        targets[i] = in_place ? tiles[i].to : to + bytes * (size_t)i;
    }
    reason = tf_rice_decode(streams, count, t->rice_width, t->rice_block, targets, pixels, bad);
    for (int i = 0; !reason && i < count; i++) {
        const numbers found = {targets[i], type, 0};
        *bad = i;
        reason = finish(d, &tiles[i], &found);
    }
    if (!reason || reason == no_memory || count == 1)
        return reason;
    /* of one it may be the part that only another wants, and others may be bad, too: one by one the first is found */
    for (*bad = 0; *bad < count; ++*bad) {
        int none;
        if ((reason = decode_rice(d, tiles + *bad, 1, &none)))
            return reason;
    }
    return NULL;
}

/* ---------------------------------------------------------------------------- all of it */

tf_tile_decoder *tf_tile_decoder_new(const tf_tiling *tiling, const tf_source *source)
{
    tf_tile_decoder *d = calloc(1, sizeof *d);
    if (d) {
        d->tiling = tiling;
        d->source = source;
    }
    return d;
}

void tf_tile_decoder_free(tf_tile_decoder *d)
{
    if (!d)
        return;
    if (d->inflater)
        tf_inflater_free(d->inflater);
    free(d->rows.start);
    free(d->streams.start);
    free(d->numbers.start);
    free(d->scratch.start);
    free(d);
}

static int decode_streams(tf_tile_decoder *d, tile *tiles, int count, tf_tile_trouble *trouble)
{
    if (read_streams(d, tiles, count, trouble) != 0)
        return -1;
    for (int i = 0, n; i < count; i += n) {
        int bad = 0;
        numbers found;
        n = 1;
        if (d->tiling->codec == TF_RICE_1 && tiles[i].how == CODED) {
            n = together(tiles + i, count - i);
            trouble->reason = decode_rice(d, tiles + i, n, &bad);
        } else {
            trouble->reason = decode_one(d, &tiles[i], &found);
            if (!trouble->reason)
                trouble->reason = finish(d, &tiles[i], &found);
        }
        if (trouble->reason) {
            trouble->tile = tiles[i + bad].number;
            trouble->offset = tiles[i + bad].offset;
            return -1;
        }
    }
    return 0;
}

static int decode_tiles(tf_tile_decoder *d, const tf_wanted_tile *which, int count, tf_tile_trouble *trouble)
{
    tile tiles[TF_TILES_TOGETHER];
    tf_tile_trouble later = {{TF_DONE, 0, 0}, NULL, 0, 0};
    for (int i = 0; i < count; i++) {
        const int64_t pixels = (int64_t)tf_tile_shape_at(d->tiling, which[i].tile).pixels;
        tiles[i] = (tile){.number = which[i].tile, .pixels = pixels, .wanted = which[i].wanted, .to = which[i].to};
    }
    /* where a row is bad, a stream of those before it may be, too */
    const int found = find_streams(d, tiles, count, &later);
    *trouble = (tf_tile_trouble){{TF_DONE, 0, 0}, NULL, 0, 0};
    if (decode_streams(d, tiles, found, trouble) != 0)
        return -1;
    if (found == count)
        return 0;
    *trouble = later;
    return -1;
}

int tf_decode_tiles(tf_tile_decoder *d, const tf_wanted_tile *which, int count, tf_tile_trouble *trouble)
{
    const int result = decode_tiles(d, which, count, trouble);
    if (trouble->reason == no_memory)
        trouble->outcome.what = TF_MEMORY;
    return result;
}
