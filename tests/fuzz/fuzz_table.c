/* The rows of one table, or the arrays of its heap, in a small file: read from a descriptor, from a mapping and from
 * memory, by every variant of the kernels and by one to three threads; all compared with reading element by element.
 *
 * Sources and columns end, or begin, at an inaccessible page. Then the file is cut short: whoever needs what is gone
 * must hear so. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "_native/guard.h"
#include "_native/heap.h"
#include "common.h"

#define MOST_FIELDS 6
#define MOST_ARRAYS 6000
/* bytes of rows or of a heap: from LARGE on threads have something to share, which is slow */
#define LARGE ((int64_t)5 << 18)
#define SMALL ((int64_t)24 << 10)
/* of what is read, for each of them */
#define UNFOLDED 8

/* What an element is; its bytes as stored (of a bit, none) and as wanted. */
typedef struct {
    tf_cell_kind kind;
    meaning meaning;
    tf_conversion conversion;
    int64_t width, wanted;
} element;

/* A column of elements, or all arrays. */
typedef struct {
    element element;
    guarded to, nulls;
    uint8_t *expected, *expected_nulls;
    int64_t elements;
} column;

typedef struct {
    int is_heap;
    int64_t start, size; /* of the rows or the heap in the file; of the file */
    int64_t last_byte;   /* the file is needed as far as here */
    column columns[MOST_FIELDS];
    int count;

    tf_rows rows;
    int64_t list[MOST_ARRAYS];
    tf_field fields[MOST_FIELDS];

    tf_heap heap;
    int64_t arrays, descriptors[2 * MOST_ARRAYS], ends[MOST_ARRAYS + 1];
} job;

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* ---------------------------------------------------------------------------- elements */

static element take_element(input *in)
{
    element e = {.kind = (tf_cell_kind[]){TF_NUMBERS, TF_NUMBERS, TF_LOGICALS, TF_BITS}[take_within(in, 0, 3)]};
    e.width = e.kind == TF_LOGICALS;
    e.wanted = 1;
    if (e.kind == TF_NUMBERS) {
        e.meaning = take_meaning(in);
        e.conversion = conversion_for(&e.meaning);
        e.width = (int64_t)tf_width(e.conversion.stored);
        e.wanted = (int64_t)tf_width(e.meaning.wanted);
    }
    return e;
}

/* Bytes of n elements from bit `first` of a byte on. */
static int64_t stored_bytes(const element *e, int64_t n, int first)
{
    return e->kind == TF_BITS ? (first + n + 7) / 8 : n * e->width;
}

/* Element i of those that begin at a bit of a byte. */
static void slow_element(const element *e, uint8_t *to, const uint8_t *from, int64_t i, int first)
{
    switch (e->kind) {
    case TF_NUMBERS:
        slow_convert(&e->meaning, to, from + i * e->width);
        break;
    case TF_LOGICALS:
        *to = from[i] == 'T' || from[i] == 1;
        break;
    case TF_BITS:
        *to = (from[(first + i) / 8] & 0x80 >> (first + i) % 8) != 0;
    }
}

static int slow_is_null(const element *e, const uint8_t *from, int64_t i, int64_t null)
{
    __int128 n = 0;
    for (int k = 0; k < e->width; k++)
        n = n << 8 | from[i * e->width + k];
    if (e->width > 1 && n >> (8 * e->width - 1))
        n -= (__int128)1 << 8 * e->width;
    return n == null;
}

static void check_column(const column *c)
{
    check_marks(&c->to);
    if (c->element.kind == TF_NUMBERS)
        CHECK(same_elements(&c->element.meaning, c->to.start, c->expected, (size_t)c->elements));
    else
        CHECK(memcmp(c->to.start, c->expected, (size_t)c->elements) == 0);
    if (c->expected_nulls) {
        check_marks(&c->nulls);
        CHECK(memcmp(c->nulls.start, c->expected_nulls, (size_t)c->elements) == 0);
    }
}

/* ---------------------------------------------------------------------------- rows */

static void choose_fields(input *in, job *j, int64_t most)
{
    j->count = (int)take_within(in, 0, MOST_FIELDS);
    for (int i = 0; i < j->count; i++) {
        element *e = &j->columns[i].element;
        tf_field *field = &j->fields[i];
        const int size = (int)take_within(in, 0, 31);
        *e = take_element(in);
        field->kind = e->kind;
        field->conversion = e->conversion;
        /* far apart, fields are read one by one; long, part by part */
        j->rows.row_bytes += take_within(in, 0, 3) ? take_within(in, 0, 3) : take_within(in, 4000, 4200);
        field->offset = j->rows.row_bytes;
        field->count = size == 31 ? take_within(in, 16000, 140000) : size > 27 ? take_within(in, 0, 3000) : size % 11;
        field->count = least(field->count, most / (e->wanted > e->width ? e->wanted : e->width));
        field->first_bit = e->kind == TF_BITS ? (int)take_within(in, 0, 7) : 0;
        field->null = take_within(in, 0, 1) ? (int8_t)take(in, 1) : (int64_t)take(in, 8);
        const int64_t width = stored_bytes(e, field->count, field->first_bit);
        CHECK(tf_field_width(field) == width && tf_column_width(field) == field->count * e->wanted);
        if (take_within(in, 0, 3)) /* else the next one may overlap it */
            j->rows.row_bytes += width;
    }
    for (int i = 0; i < j->count; i++) {
        const int64_t end = j->fields[i].offset + tf_field_width(&j->fields[i]);
        if (end > j->rows.row_bytes)
            j->rows.row_bytes = end;
    }
    j->rows.row_bytes += take_within(in, 0, 40);
    if (j->rows.row_bytes == 0)
        j->rows.row_bytes = 1;
}

static void choose_rows(input *in, job *j, int64_t most)
{
    tf_rows *rows = &j->rows;
    const int64_t there = least(take_within(in, 1, 200000), most / rows->row_bytes + 1);
    int64_t width = 1;
    for (int i = 0; i < j->count; i++)
        width += tf_column_width(&j->fields[i]);
    const int64_t room = UNFOLDED * most / width + 1;
    j->size = j->start + there * rows->row_bytes;
    const int how = (int)take_within(in, 0, 6);
    if (how < 3) {
        rows->first = how ? take_within(in, 0, there - 1) : 0;
        rows->step = how == 2 ? take_within(in, 1, there < 500 ? there : 500) : 1;
        rows->count = least((there - rows->first + rows->step - 1) / rows->step, room);
        if (take_within(in, 0, 7) == 0)
            rows->count = take_within(in, 0, rows->count);
        return;
    }
    rows->list = j->list;
    rows->count = least(take_within(in, 0, MOST_ARRAYS), room);
    const uint64_t seed = take(in, 4);
    for (int64_t i = 0; i < rows->count; i++) {
        const uint64_t chance = scramble(seed + (uint64_t)(how == 6 ? i / 8 : i));
        j->list[i] = how == 3   ? (int64_t)(seed + (uint64_t)i / 3) % there  /* in order, but for the end */
                     : how == 4 ? (there - 1) - (int64_t)(seed + (uint64_t)i) % there
                                : (int64_t)(chance % (uint64_t)there);
    }
}

static int64_t row_of(const job *j, int64_t i)
{
    return j->rows.list ? j->rows.list[i] : j->rows.first + i * j->rows.step;
}

static void expect_rows(job *j, const uint8_t *file)
{
    for (int k = 0; k < j->count; k++) {
        column *c = &j->columns[k];
        const tf_field *field = &j->fields[k];
        int64_t done = 0;
        for (int64_t i = 0; i < j->rows.count; i++) {
            const int64_t offset = j->start + row_of(j, i) * j->rows.row_bytes + field->offset;
            for (int64_t n = 0; n < field->count; n++, done++) {
                slow_element(&c->element, c->expected + done * c->element.wanted, file + offset, n, field->first_bit);
                if (c->expected_nulls)
                    c->expected_nulls[done] = (uint8_t)slow_is_null(&c->element, file + offset, n, field->null);
            }
            const int64_t end = offset + stored_bytes(&c->element, field->count, field->first_bit);
            if (field->count > 0 && end > j->last_byte)
                j->last_byte = end;
        }
    }
}

/* Where the columns go. */
static void make_columns(input *in, job *j)
{
    static arena places[2 * MOST_FIELDS];
    for (int i = 0; i < j->count; i++) {
        column *c = &j->columns[i];
        tf_field *field = &j->fields[i];
        const int at_end = (int)take_within(in, 0, 1), skip = (int)take_within(in, 0, 200);
        c->elements = j->rows.count * field->count;
        c->to = guard(&places[2 * i], (size_t)(c->elements * c->element.wanted), (size_t)skip, at_end);
        c->expected = malloc((size_t)(c->elements * c->element.wanted) + 1);
        CHECK(c->expected);
        field->to = c->to.start;
        const int can_be_null = c->element.kind == TF_LOGICALS || (c->element.kind == TF_NUMBERS && c->element.meaning.bitpix > 0);
        if (can_be_null && take_within(in, 0, 1)) {
            c->nulls = guard(&places[2 * i + 1], (size_t)c->elements, (size_t)skip, at_end);
            c->expected_nulls = malloc((size_t)c->elements + 1);
            CHECK(c->expected_nulls);
            field->nulls = c->nulls.start;
        }
    }
}

/* ---------------------------------------------------------------------------- arrays */

static int64_t slow_check(const job *j, int64_t most)
{
    const element *e = &j->columns[0].element;
    __int128 total = 0;
    for (int64_t i = 0; i < j->arrays; i++) {
        const __int128 n = j->descriptors[2 * i], offset = j->descriptors[2 * i + 1];
        const __int128 bytes = e->kind == TF_BITS ? (n + 7) / 8 : n * j->heap.numbers * e->width;
        if (n < 0 || (n > 0 && (offset < 0 || offset + bytes > j->heap.size)))
            return i;
        total += n;
        if (total > most)
            return -2;
    }
    return -1;
}

static void choose_heap(input *in, job *j, int64_t most)
{
    element *e = &j->columns[0].element;
    *e = take_element(in);
    j->heap.kind = e->kind;
    j->heap.conversion = e->conversion;
    j->heap.numbers = e->kind == TF_NUMBERS ? (int)take_within(in, 1, 2) : 1;
    j->heap.start = j->start;
    j->heap.size = take_within(in, 0, most);
    j->size = j->start + j->heap.size;
    j->arrays = take_within(in, 0, 3) ? take_within(in, 0, 200) : take_within(in, 0, MOST_ARRAYS);
    const int how = (int)take_within(in, 0, 7), longest = (int)take_within(in, 0, 255);
    const uint64_t seed = take(in, 4);
    int64_t at = take_within(in, 0, 7);
    for (int64_t i = 0; i < j->arrays; i++) {
        const uint64_t chance = scramble(seed + (uint64_t)i);
        /* few of them go on for long */
        int64_t n = (int64_t)(chance % (uint64_t)(longest + 1)) * (chance >> 58 == 0 ? 99 : 1);
        const int64_t bytes = stored_bytes(e, n * j->heap.numbers, 0);
        if (how > 4 && j->heap.size > 0)
            at = (int64_t)((chance >> 8) % (uint64_t)j->heap.size);
        if (how < 7 && bytes > j->heap.size - at)
            n = 0;
        j->descriptors[2 * i] = n;
        j->descriptors[2 * i + 1] = n > 0 || how > 2 ? at : (int64_t)chance;
        if (n > 0)
            at += bytes + (how == 1 ? (int64_t)(chance >> 32) % 70 : how == 2 ? (int64_t)(chance >> 32) % 9000 : 0);
    }
    if (how == 3) /* from the last one to the first */
        for (int64_t i = 0; i < j->arrays / 2; i++)
            for (int k = 0; k < 2; k++) {
                const int64_t other = 2 * (j->arrays - 1 - i) + k, one = j->descriptors[2 * i + k];
                j->descriptors[2 * i + k] = j->descriptors[other];
                j->descriptors[other] = one;
            }
    /* some that end where the heap does, or a byte before or behind, or are whatever the input says */
    for (int64_t wild = j->arrays > 0 ? take_within(in, 0, 2) : 0; wild > 0; wild--) {
        int64_t *descriptor = j->descriptors + 2 * take_within(in, 0, j->arrays - 1);
        if (take_within(in, 0, 1)) {
            descriptor[0] = take_within(in, 0, longest);
            descriptor[1] = j->heap.size - stored_bytes(e, descriptor[0] * j->heap.numbers, 0) + take_within(in, -1, 1);
        } else {
            descriptor[take_within(in, 0, 1)] = (int64_t)take(in, 8);
        }
    }
}

/* Whether the arrays can be read; some limit is tried as well. */
static int check_descriptors(input *in, job *j, int64_t room)
{
    const element *e = &j->columns[0].element;
    const int64_t most = room / (e->wanted * j->heap.numbers), limit = (int64_t)take(in, 8) & INT64_MAX;
    CHECK(tf_check_descriptors(&j->heap, j->descriptors, j->arrays, limit, j->ends) == slow_check(j, limit));
    const int64_t found = tf_check_descriptors(&j->heap, j->descriptors, j->arrays, most, j->ends);
    CHECK(found == slow_check(j, most));
    if (found != -1)
        return 0;
    int64_t total = 0;
    for (int64_t i = 0; i < j->arrays; i++) {
        CHECK(j->ends[i] == total);
        total += j->descriptors[2 * i];
    }
    CHECK(j->ends[j->arrays] == total);
    return 1;
}

static void expect_arrays(job *j, const uint8_t *file)
{
    column *c = &j->columns[0];
    int64_t done = 0;
    for (int64_t i = 0; i < j->arrays; i++) {
        const int64_t n = j->descriptors[2 * i] * j->heap.numbers, offset = j->start + j->descriptors[2 * i + 1];
        for (int64_t k = 0; k < n; k++)
            slow_element(&c->element, c->expected + done++ * c->element.wanted, file + offset, k, 0);
        if (n > 0 && offset + stored_bytes(&c->element, n, 0) > j->last_byte)
            j->last_byte = offset + stored_bytes(&c->element, n, 0);
    }
    CHECK(done == c->elements);
}

static void make_arrays(input *in, job *j)
{
    static arena place;
    column *c = &j->columns[0];
    j->count = 1;
    c->elements = j->ends[j->arrays] * j->heap.numbers;
    const int at_end = (int)take_within(in, 0, 1);
    c->to = guard(&place, (size_t)(c->elements * c->element.wanted), (size_t)take_within(in, 0, 200), at_end);
    c->expected = malloc((size_t)(c->elements * c->element.wanted) + 1);
    CHECK(c->expected);
}

/* ---------------------------------------------------------------------------- the kernels' way */

static tf_outcome read_it(const job *j, const tf_source *source, int threads)
{
    for (int i = 0; i < j->count; i++) {
        mark(&j->columns[i].to);
        if (j->columns[i].expected_nulls)
            mark(&j->columns[i].nulls);
    }
    if (j->is_heap)
        return tf_read_heap(source, &j->heap, j->descriptors, j->ends, j->arrays, j->columns[0].to.start, threads);
    return tf_read_rows(source, &j->rows, j->fields, j->count, threads);
}

static void check_read(const job *j, const tf_source *source, int threads)
{
    CHECK(read_it(j, source, threads).what == TF_DONE);
    for (int i = 0; i < j->count; i++)
        check_column(&j->columns[i]);
}

/* Row by row, from memory. */
static void check_put_row(const job *j, const uint8_t *file)
{
    for (int64_t i = j->rows.count - 1; i >= 0; i--)
        tf_put_row(file + j->start + row_of(j, i) * j->rows.row_bytes, j->fields, j->count, i);
    for (int i = 0; i < j->count; i++)
        check_column(&j->columns[i]);
}

/* The file is `there` bytes long, and everybody was told that it is longer. */
static void check_cut(const job *j, const tf_source *source, int64_t there, int threads)
{
    /* the rest of a mapped page reads as zeros, which is why identities are compared after a read */
    const int64_t readable = (there + (int64_t)PAGE - 1) / (int64_t)PAGE * (int64_t)PAGE;
    const tf_outcome outcome = read_it(j, source, threads);
    for (int i = 0; i < j->count; i++)
        check_marks(&j->columns[i].to);
    if (j->last_byte <= there) {
        CHECK(outcome.what == TF_DONE);
        for (int i = 0; i < j->count; i++)
            check_column(&j->columns[i]);
    } else if (!source->mapped || j->last_byte > readable)
        CHECK(outcome.what == TF_ENDS && outcome.offset >= -1 && outcome.offset <= j->size);
    else
        CHECK(outcome.what == TF_ENDS || outcome.what == TF_DONE);
}

/* Words of the input, each many times and not in their order; logical values where there are any. */
static void write_bytes(input *in, const job *j, uint8_t *file)
{
    static const uint8_t letters[] = {'T', 'F', 0, 1, 'T', 't'};
    const size_t words = in->left / 8;
    const uint64_t seed = words > 0 ? 0 : take(in, 8);
    for (int64_t i = 0; i < j->size; i++) {
        const uint64_t chance = scramble((uint64_t)i / 8 + seed);
        file[i] = words > 0 ? in->at[chance % words * 8 + (uint64_t)i % 8] : (uint8_t)(chance >> 8 * (i % 8));
        if (chance >> 60 == 0)
            file[i] = (uint8_t)(scramble(chance + (uint64_t)i % 8) % 3);
    }
    if (j->is_heap) {
        for (int64_t i = j->start; i < j->size && j->heap.kind == TF_LOGICALS; i++)
            file[i] = letters[scramble((uint64_t)i) % sizeof letters];
        return;
    }
    for (int k = 0; k < j->count; k++)
        for (int64_t i = j->start; j->fields[k].kind == TF_LOGICALS && i < j->size; i += j->rows.row_bytes)
            for (int64_t n = 0; n < j->fields[k].count; n++)
                file[i + j->fields[k].offset + n] = letters[scramble((uint64_t)(i + n)) % sizeof letters];
}

static void check_everything(input *in, job *j, int is_large)
{
    static arena memory_place, mapping_place;
    const int64_t cut = take_within(in, 0, 4);
    const guarded memory = guard(&memory_place, (size_t)j->size, 0, 1);
    const uint8_t *bytes = memory.start;

    write_bytes(in, j, memory.start);
    if (j->is_heap)
        expect_arrays(j, bytes);
    else
        expect_rows(j, bytes);
    CHECK(j->last_byte <= j->size);

    const int fd = file_of(bytes, j->size);
    guarded mapping = guard(&mapping_place, (size_t)j->size, 0, 0);
    if (j->size > 0)
        CHECK(mmap(mapping.start, (size_t)j->size, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0) == mapping.start);
    CHECK(tf_guard_install() == 0);
    const tf_source sources[] = {{fd, NULL, j->size, 0}, {fd, mapping.start, j->size, 1}, {-1, bytes, j->size, 0}};

    const int variants = tf_variant_name(1) ? 2 : 1, only = (int)(scramble((uint64_t)j->size) % 2);
    for (int i = 0; i < variants; i++) {
        if (is_large && variants == 2 && i != only)
            continue;
        CHECK(tf_use_variant(tf_variant_name(i)) == 0);
        for (int k = 0; k < 3; k++)
            for (int threads = 1; threads <= 3; threads++)
                check_read(j, &sources[k], threads);
        if (!j->is_heap)
            check_put_row(j, bytes);
    }

    const int64_t there = cut == 0   ? 0
                          : cut == 1 ? least(j->start, j->size)
                          : cut == 2 ? (j->last_byte > 0 ? j->last_byte - 1 : 0)
                                     : (int64_t)(scramble((uint64_t)(j->size + cut)) % (uint64_t)(j->size + 1));
    CHECK(ftruncate(fd, there) == 0);
    for (int k = 0; k < 2; k++)
        for (int threads = 1; threads <= 3; threads += 2)
            check_cut(j, &sources[k], there, threads);

    /* nothing of the file stays in the arena */
    if (j->size > 0)
        CHECK(mmap(mapping.pages, mapping.bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED,
                   -1, 0) == mapping.pages);
    close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static job j;
    input in = {data, size};
    memset(&j, 0, sizeof j);
    j.is_heap = (int)take_within(&in, 0, 1);
    const int is_large = take_within(&in, 0, 31) == 31;
    const int64_t most = is_large ? LARGE : SMALL;
    j.start = take_within(&in, 0, 3 * 2880);
    int readable = 1;
    if (j.is_heap) {
        choose_heap(&in, &j, most);
        if ((readable = check_descriptors(&in, &j, UNFOLDED * most)))
            make_arrays(&in, &j);
    } else {
        j.rows.start = j.start;
        choose_fields(&in, &j, most);
        choose_rows(&in, &j, most);
        make_columns(&in, &j);
    }
    if (readable)
        check_everything(&in, &j, is_large);
    for (int i = 0; i < MOST_FIELDS; i++) {
        free(j.columns[i].expected);
        free(j.columns[i].expected_nulls);
    }
    return 0;
}
