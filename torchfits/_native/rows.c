#include "rows.h"

#include <stdlib.h>
#include <string.h>

#include "least.h"
#include "sort.h"

/* bytes of cells that are converted at a time: they stay in the first cache */
#define CELLS 16384
/* rows that are done together at most, and their bytes, which stay in the second */
#define BLOCK_ROWS 4096
#define BLOCK_BYTES ((int64_t)1 << 19)

/* ---------------------------------------------------------------------------- cells */

static int64_t stored_width(const tf_field *field)
{
    return field->kind == TF_NUMBERS ? (int64_t)tf_width(field->conversion.stored) : 1;
}

int64_t tf_field_width(const tf_field *field)
{
    return field->kind == TF_BITS ? (field->first_bit + field->count + 7) / 8 : field->count * stored_width(field);
}

static int64_t element_width(const tf_field *field)
{
    return field->kind == TF_NUMBERS ? (int64_t)tf_width(field->conversion.wanted) : 1;
}

int64_t tf_column_width(const tf_field *field)
{
    return field->count * element_width(field);
}

/* Some rows in memory: byte `k` of row i is bytes[(at ? at[i] : i * stride) + k - origin]. */
typedef struct {
    const uint8_t *bytes;
    const int64_t *at;
    int64_t stride, origin, count;
    int64_t place;         /* in the columns, of the first one; the others follow */
    const int64_t *places; /* or, unless NULL, of each */
} row_block;

/* Where cells are: cell i is from[at ? at[i] : i * stride]. Passed by value, so that no store can change it. */
typedef struct {
    const uint8_t *from;
    const int64_t *at;
    int64_t stride, count;
} cells;

/* Cells as two parts that may overlap: moves of a register each where `part` is a constant. */
static inline void take(const cells c, size_t width, size_t part, uint8_t *out)
{
    for (int64_t i = 0; i < c.count; i++, out += width) {
        const uint8_t *cell = c.from + (c.at ? c.at[i] : i * c.stride);
        memcpy(out, cell, part);
        if (part < width)
            memcpy(out + width - part, cell + width - part, part);
    }
}

/* `width` bytes from `offset` of rows [first, first + count) of a block, without gaps. */
static void take_cells(const row_block *b, int64_t first, int64_t count, int64_t offset, int64_t width, void *to)
{
    const cells c = {
        .from = b->bytes + ((b->at ? 0 : first * b->stride) + offset - b->origin),
        .at = b->at ? b->at + first : NULL,
        .stride = b->stride,
        .count = count,
    };
    const size_t w = (size_t)width;
    if (w == 1)
        take(c, 1, 1, to);
    else if (w == 2)
        take(c, 2, 2, to);
    else if (w == 4)
        take(c, 4, 4, to);
    else if (w == 8)
        take(c, 8, 8, to);
    else if (w > 4 && w < 8)
        take(c, w, 4, to);
    else if (w > 8 && w <= 16)
        take(c, w, 8, to);
    else if (w > 16 && w <= 32)
        take(c, w, 16, to);
    else
        take(c, w, w, to);
}

void tf_logicals(uint8_t *to, const uint8_t *letters, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        to[i] = letters[i] == 'T' || letters[i] == 1;
}

void tf_bits(uint8_t *to, const uint8_t *bits, int64_t first, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        to[i] = bits[(first + i) / 8] >> (7 - (first + i) % 8) & 1;
}

static void convert(const tf_field *field, uint8_t *to, const uint8_t *cells, int64_t rows)
{
    const int64_t bytes = tf_field_width(field);
    switch (field->kind) {
    case TF_NUMBERS:
        tf_convert(&field->conversion, to, cells, (size_t)stored_width(field), (size_t)(rows * field->count));
        break;
    case TF_LOGICALS:
        tf_logicals(to, cells, rows * field->count);
        break;
    case TF_BITS:
        for (int64_t row = 0; row < rows; row++, cells += bytes, to += field->count)
            tf_bits(to, cells, field->first_bit, field->count);
    }
}

/* Whether the cells are what the column shall hold. */
static int is_copy(const tf_field *field)
{
    return field->kind == TF_NUMBERS && field->conversion.stored == TF_U8 && field->conversion.wanted == TF_U8 &&
           tf_is_swap(&field->conversion);
}

static void mark_nulls(const tf_field *field, uint8_t *marks, const uint8_t *cells, int64_t n)
{
    const int64_t width = stored_width(field);
    for (int64_t i = 0; i < n; i++, cells += width) {
        /* all but bytes have a sign */
        uint64_t value = width > 1 && cells[0] > 127 ? ~(uint64_t)0 : 0;
        for (int64_t k = 0; k < width; k++)
            value = value << 8 | cells[k];
        marks[i] = value == (uint64_t)field->null;
    }
}

/* `count` runs of `width` bytes each to their places. */
static void scatter(uint8_t *to, int64_t pitch, const int64_t *places, const void *from, int64_t width, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        memcpy(to + places[i] * pitch, (const uint8_t *)from + i * width, (size_t)width);
}

void tf_put_row(const uint8_t *row, const tf_field *fields, int count, int64_t place)
{
    for (int i = 0; i < count; i++) {
        const tf_field *field = &fields[i];
        convert(field, field->to + place * tf_column_width(field), row + field->offset, 1);
        if (field->nulls)
            mark_nulls(field, field->nulls + place * field->count, row + field->offset, field->count);
    }
}

/* A field, or a part of a long one: at most CELLS bytes wide. */
typedef struct {
    tf_field field;
    int64_t pitch, nulls_pitch; /* from one row to the next in the columns */
    int64_t at, nulls_at;       /* where the columns begin, for those who bring memory for all of them */
} part;

static void put_part(const row_block *b, const part *p, uint8_t *memory)
{
    const tf_field *field = &p->field;
    uint8_t *column = memory ? memory + p->at : field->to, *nulls = memory ? memory + p->nulls_at : field->nulls;
    const int64_t width = tf_field_width(field), out = tf_column_width(field);
    const int copies = is_copy(field);
    /* a part of a long cell does not go on with the next row */
    const int64_t most = p->pitch != out ? 1 : greatest(CELLS / greatest(width, out), 1);
    uint64_t stored[CELLS / 8], values[CELLS / 8], marks[CELLS / 8];
    int64_t n;

    for (int64_t first = 0; first < b->count; first += n) {
        n = least(most, b->count - first);
        const int64_t place = b->places ? b->places[first] : b->place + first;
        /* rows that go anywhere are converted here, and then sent there */
        const int apart = b->places && n > 1;
        uint8_t *to = apart ? (uint8_t *)values : column + place * p->pitch;
        const uint8_t *taken = copies ? to : (const uint8_t *)stored;
        take_cells(b, first, n, field->offset, width, copies ? to : (uint8_t *)stored);
        if (!copies)
            convert(field, to, taken, n);
        if (apart)
            scatter(column, p->pitch, b->places + first, values, out, n);
        if (!field->nulls)
            continue;
        mark_nulls(field, apart ? (uint8_t *)marks : nulls + place * p->nulls_pitch, taken, n * field->count);
        if (apart)
            scatter(nulls, p->nulls_pitch, b->places + first, marks, field->count, n);
    }
}

/* ---------------------------------------------------------------------------- groups of fields that lie together */

typedef struct {
    int64_t low, high; /* bytes of the row */
    int first, count;  /* parts */
} group;

typedef struct {
    part *parts; /* of all fields, in the order of their offsets */
    group *groups;
    int64_t widest;
    int count;
} plan;

static int by_offset(const void *a, const void *b)
{
    const part *x = a, *y = b;
    return (x->field.offset > y->field.offset) - (x->field.offset < y->field.offset);
}

/* The parts of a field; gives their number, and themselves unless `to` is NULL. */
static int64_t split(const tf_field *field, part *to)
{
    const int64_t most = field->kind == TF_BITS ? CELLS * 8 - 8 : CELLS / stored_width(field);
    int64_t n = 0;
    for (int64_t done = 0; done < field->count; done += most, n++) {
        if (!to)
            continue;
        to[n] = (part){*field, tf_column_width(field), field->count, 0, 0};
        to[n].at = done * element_width(field);
        to[n].nulls_at = done;
        to[n].field.count = least(most, field->count - done);
        to[n].field.offset += field->kind == TF_BITS ? done / 8 : done * stored_width(field);
        if (field->to) /* a filter takes the values of fields that go nowhere */
            to[n].field.to += done * element_width(field);
        if (field->nulls)
            to[n].field.nulls += done;
    }
    return n;
}

/* Where the columns lie in memory that holds all of them. */
typedef struct {
    int64_t values, nulls;
} placing;

static void forget(plan *p)
{
    free(p->parts);
    free(p->groups);
}

/* 0, or -1 where there is no memory. */
static int make_plan(plan *p, const tf_field *fields, const placing *where, int count)
{
    int64_t n = 0, k = 0;
    for (int i = 0; i < count; i++)
        n += split(&fields[i], NULL);
    p->parts = malloc((size_t)greatest(n, 1) * sizeof *p->parts);
    p->groups = malloc((size_t)greatest(n, 1) * sizeof *p->groups);
    if (!p->parts || !p->groups || n > INT32_MAX) {
        forget(p);
        return -1;
    }
    for (int i = 0; i < count; i++) {
        const int64_t parts = split(&fields[i], p->parts + k);
        for (int64_t last = k + parts; k < last; k++) {
            p->parts[k].at += where ? where[i].values : 0;
            p->parts[k].nulls_at += where ? where[i].nulls : 0;
        }
    }
    qsort(p->parts, (size_t)n, sizeof *p->parts, by_offset);
    for (int i = 0; i < n; i++) {
        const tf_field *field = &p->parts[i].field;
        const int64_t low = field->offset, high = low + tf_field_width(field);
        group *last = p->count > 0 ? &p->groups[p->count - 1] : NULL;
        if (!last || low > last->high + TF_GAP || high - last->low > TF_BUFFER) {
            p->groups[p->count++] = (group){low, high, i, 1};
        } else {
            last->high = greatest(last->high, high);
            last->count++;
        }
    }
    for (int i = 0; i < p->count; i++)
        p->widest = greatest(p->widest, p->groups[i].high - p->groups[i].low);
    return 0;
}

/* ---------------------------------------------------------------------------- blocks of rows */

typedef struct {
    const tf_rows *rows;
    const uint32_t *sorted; /* places of a list in the order of the file; NULL where that is not needed */
    plan plan;
    int64_t at_once; /* rows of a block */
} job;

/* Columns of one block of rows, from asked row `base` on; without memory those of the fields. */
typedef struct {
    uint8_t *memory;
    int64_t base;
} columns;

static int64_t row_number(const job *j, int64_t i)
{
    const tf_rows *rows = j->rows;
    return j->sorted ? rows->list[j->sorted[i]] : rows->list ? rows->list[i] : rows->first + i * rows->step;
}

static void put_parts(const job *j, const group *g, const row_block *block, uint8_t *memory)
{
    for (int i = g->first; i < g->first + g->count; i++)
        put_part(block, &j->plan.parts[i], memory);
}

/* A group of fields of asked rows [first, first + count), where all bytes are in memory. */
static void put_from_memory(const tf_source *source, const job *j, const group *g, int64_t first, int64_t count,
                            const columns *to)
{
    const tf_rows *rows = j->rows;
    const int64_t width = g->high - g->low, base = rows->start + g->low;
    int64_t at[BLOCK_ROWS];
    row_block block = {.bytes = source->bytes + rows->start, .count = count, .place = first - to->base};

    if (rows->list) {
        for (int64_t i = 0; i < count; i++)
            at[i] = rows->list[first + i] * rows->row_bytes;
        block.at = at;
        if (tf_is_cold(source, base + rows->list[first] * rows->row_bytes))
            for (int64_t i = 0; i < count; i++)
                tf_announce(source, base + at[i], width);
    } else {
        const int64_t begin = row_number(j, first) * rows->row_bytes;
        block.stride = rows->step * rows->row_bytes;
        block.bytes += begin;
        if (tf_is_cold(source, base + begin))
            tf_announce(source, base + begin, (count - 1) * block.stride + width);
    }
    put_parts(j, g, &block, to->memory);
}

/* The same from a file: as many rows as lie close together come by one pread. */
static void put_by_reading(tf_reader *r, const job *j, const group *g, int64_t first, int64_t count,
                           const columns *to)
{
    const tf_rows *rows = j->rows;
    const int64_t width = g->high - g->low;
    int64_t at[BLOCK_ROWS], places[BLOCK_ROWS];

    if (!r->buffer && !(r->buffer = malloc(TF_BUFFER))) {
        r->outcome = (tf_outcome){TF_MEMORY, 0, 0};
        return;
    }
    for (int64_t done = 0; done < count;) {
        const int64_t begin = row_number(j, first + done) * rows->row_bytes;
        row_block block = {.bytes = r->buffer, .origin = g->low, .place = first + done - to->base};
        int64_t end = begin;
        if (rows->list) {
            block.at = at;
            block.places = j->sorted ? places : NULL;
            for (; done + block.count < count; block.count++) {
                const int64_t i = first + done + block.count, next = row_number(j, i) * rows->row_bytes;
                if (next < end || next > end + width + TF_GAP || next + width - begin > TF_BUFFER)
                    break;
                end = next;
                at[block.count] = next - begin;
                if (j->sorted)
                    places[block.count] = j->sorted[i];
            }
        } else {
            block.stride = rows->step * rows->row_bytes;
            block.count = block.stride > width + TF_GAP ? 1 : (TF_BUFFER - width) / block.stride + 1;
            block.count = least(block.count, count - done);
            end = begin + (block.count - 1) * block.stride;
        }
        if (tf_pread(r->source->fd, r->buffer, (size_t)(end + width - begin), rows->start + g->low + begin,
                     &r->outcome) != 0)
            return;
        put_parts(j, g, &block, to->memory);
        done += block.count;
    }
}

/* Group `g` of the fields of block `b` of the rows. */
static void put_block(tf_reader *r, const job *j, int64_t g, int64_t b, const columns *to)
{
    const int64_t first = b * j->at_once, count = least(j->at_once, j->rows->count - first);
    if (r->source->bytes)
        put_from_memory(r->source, j, &j->plan.groups[g], first, count, to);
    else
        put_by_reading(r, j, &j->plan.groups[g], first, count, to);
}

static void read_piece(tf_reader *r, const void *argument, int64_t piece)
{
    const job *j = argument;
    const columns all = {NULL, 0};
    put_block(r, j, piece % j->plan.count, piece / j->plan.count, &all);
}

static int is_sorted(const tf_rows *rows)
{
    for (int64_t i = 1; i < rows->count; i++)
        if (rows->list[i] < rows->list[i - 1])
            return 0;
    return 1;
}

tf_outcome tf_read_rows(const tf_source *source, const tf_rows *rows, const tf_field *fields, int count, int threads)
{
    const tf_outcome no_memory = {TF_MEMORY, 0, 0};
    tf_outcome outcome = {TF_DONE, 0, 0};
    uint32_t *sorted = NULL;
    job j = {.rows = rows};

    if (rows->count == 0)
        return outcome;
    if (!source->bytes && rows->list && !is_sorted(rows)) {
        if (!(sorted = tf_sorted_places(rows->list, 1, rows->count)))
            return no_memory;
        j.sorted = sorted;
    }
    if (make_plan(&j.plan, fields, NULL, count) != 0) {
        free(sorted);
        return no_memory;
    }
    if (j.plan.count > 0) {
        int64_t bytes = 0;
        for (int i = 0; i < count; i++)
            bytes += tf_field_width(&fields[i]);
        j.at_once = greatest(least(BLOCK_BYTES / greatest(j.plan.widest, 1), BLOCK_ROWS), 1);
        if (rows->count < TF_SMALL_JOB / greatest(bytes, 1))
            threads = 1;
        outcome = tf_read_pieces(source, NULL, read_piece, &j, ((rows->count - 1) / j.at_once + 1) * j.plan.count, threads);
    }
    forget(&j.plan);
    free(sorted);
    return outcome;
}

/* ---------------------------------------------------------------------------- past a filter */

/* The rows of a piece that pass, where they are collected. */
typedef struct {
    int64_t place, count;
} collected;

typedef struct {
    job rows;
    const tf_filter *filter;
    const tf_field *fields;
    const placing *where;
    int count;
    int64_t bytes; /* of the columns of a block and of the filter's scratch, which follows them */
    uint8_t *keep;
    int64_t *passed;
    tf_collection *collection; /* or NULL */
    collected *pieces;
} selection;

/* While a block of rows is in memory, what is collected of those that pass. */
static void collect(const tf_reader *r, const selection *s, int64_t piece, int64_t first, int64_t count)
{
    const tf_rows *rows = s->rows.rows;
    const int64_t stride = rows->step * rows->row_bytes, begin = (rows->first + first * rows->step) * rows->row_bytes;
    tf_collection *c = s->collection;
    int64_t at[BLOCK_ROWS];
    row_block block = {.bytes = r->buffer, .at = at, .origin = s->rows.plan.groups[0].low};

    if (r->source->bytes) {
        block.bytes = r->source->bytes + rows->start + begin;
        block.origin = 0;
    }
    block.count = tf_passed_rows(s->keep + first, count, count, at);
    for (int64_t i = 0; i < block.count; i++)
        at[i] *= stride;
    const int64_t place = __atomic_fetch_add(&c->used, block.count, __ATOMIC_RELAXED);
    s->pieces[piece] = (collected){place, block.count};
    if (place + block.count <= c->room)
        take_cells(&block, 0, block.count, c->low, c->width, c->bytes + place * c->width);
}

/* The order of what was collected, as far as there was room for all that passed. */
static void put_in_order(const selection *s, int64_t pieces)
{
    tf_collection *c = s->collection;
    for (int64_t i = 0; i < pieces && s->pieces[i].place + s->pieces[i].count <= c->room; i++) {
        for (int64_t k = 0; k < s->pieces[i].count; k++)
            c->order[c->count++] = s->pieces[i].place + k;
        c->looked_at = least((i + 1) * s->rows.at_once, s->rows.rows->count);
    }
}

static void select_piece(tf_reader *r, const void *argument, int64_t piece)
{
    const selection *s = argument;
    const int64_t first = piece * s->rows.at_once, count = least(s->rows.at_once, s->rows.rows->count - first);
    const size_t pointers = (size_t)s->count * sizeof(void *);
    int64_t passed = 0;

    if (!r->scratch && !(r->scratch = malloc(2 * pointers + (size_t)s->bytes + tf_filter_scratch_bytes(s->filter)))) {
        r->outcome = (tf_outcome){TF_MEMORY, 0, 0};
        return;
    }
    const void **values = r->scratch;
    const uint8_t **nulls = (const uint8_t **)r->scratch + s->count;
    uint8_t *memory = (uint8_t *)r->scratch + 2 * pointers;
    const columns to = {memory, first};
    for (int g = 0; g < s->rows.plan.count && r->outcome.what == TF_DONE; g++)
        put_block(r, &s->rows, g, piece, &to);
    if (r->outcome.what != TF_DONE)
        return;
    for (int i = 0; i < s->count; i++) {
        values[i] = memory + s->where[i].values;
        nulls[i] = s->fields[i].nulls ? memory + s->where[i].nulls : NULL;
    }
    tf_filter_run(s->filter, values, nulls, count, memory + s->bytes, s->keep + first);
    for (int64_t i = 0; i < count; i++)
        passed += s->keep[first + i];
    if (s->collection)
        collect(r, s, piece, first, count);
    __atomic_fetch_add(s->passed, passed, __ATOMIC_RELAXED);
}

/* Has blocks read with what is collected of their rows; 0, or -1 where there is no memory. */
static int make_pieces(selection *s, int64_t pieces)
{
    tf_collection *c = s->collection;
    group *all = &s->rows.plan.groups[0];
    all->low = least(all->low, c->low);
    all->high = greatest(all->high, c->low + c->width);
    s->pieces = malloc((size_t)pieces * sizeof *s->pieces);
    return s->pieces ? 0 : -1;
}

tf_outcome tf_select_rows(const tf_source *source, const tf_rows *rows, const tf_field *fields, int count,
                          const tf_filter *filter, uint8_t *keep, int64_t *passed, tf_collection *collection,
                          int threads)
{
    tf_outcome outcome = {TF_MEMORY, 0, 0};
    selection s = {.rows.rows = rows, .filter = filter, .fields = fields, .count = count, .keep = keep, .passed = passed};
    placing *where = malloc((size_t)(count + 1) * sizeof *where);
    int64_t row = 0, stored = 0;

    if (collection)
        collection->looked_at = 0;
    for (int i = 0; i < count; i++) {
        row += tf_column_width(&fields[i]) + fields[i].count;
        stored += tf_field_width(&fields[i]);
    }
    s.rows.at_once = greatest(least(BLOCK_BYTES / 4 / greatest(row, 1), BLOCK_ROWS), 1);
    if (collection) {
        /* blocks that one buffer holds */
        s.rows.at_once = least(s.rows.at_once, TF_BUFFER / (rows->step * rows->row_bytes));
        stored = rows->row_bytes;
    }
    for (int i = 0; where && i < count; i++) {
        /* each begins at a multiple of 16 */
        where[i].values = s.bytes;
        s.bytes += (s.rows.at_once * tf_column_width(&fields[i]) + 15) / 16 * 16;
        where[i].nulls = s.bytes;
        s.bytes += (s.rows.at_once * fields[i].count + 15) / 16 * 16;
    }
    s.where = where;
    const int64_t pieces = rows->count > 0 ? (rows->count - 1) / s.rows.at_once + 1 : 0;
    if (where && make_plan(&s.rows.plan, fields, where, count) == 0) {
        if (rows->count < TF_SMALL_JOB / greatest(stored, 1))
            threads = 1;
        /* a filter that takes nothing of the rows reads none */
        s.collection = pieces > 0 && s.rows.plan.count == 1 ? collection : NULL;
        if (!s.collection || make_pieces(&s, pieces) == 0)
            outcome = tf_read_pieces(source, NULL, select_piece, &s, pieces, threads);
        if (s.collection && outcome.what == TF_DONE)
            put_in_order(&s, pieces);
        free(s.pieces);
        forget(&s.rows.plan);
    }
    free(where);
    return outcome;
}

int64_t tf_passed_rows(const uint8_t *keep, int64_t n, int64_t most, int64_t *passed)
{
    int64_t found = 0;
    for (int64_t i = 0; i < n && found < most; i += 8) {
        uint64_t eight = 0;
        if (i + 8 <= n)
            memcpy(&eight, keep + i, 8);
        else
            memcpy(&eight, keep + i, (size_t)(n - i));
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
        eight = __builtin_bswap64(eight);
#endif
        /* one byte after the other, from the first: most filters let few rows pass */
        for (; eight != 0 && found < most; eight &= eight - 1)
            passed[found++] = i + __builtin_ctzll(eight) / 8;
    }
    return found;
}
