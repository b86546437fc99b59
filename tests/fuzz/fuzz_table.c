/* The rows of one table in a small file, or those that pass a filter, compared with reading them element by element.
 *
 * Sources and columns end, or begin, at an inaccessible page. */
#include <stdlib.h>
#include <string.h>

#include "_native/least.h"
#include "_native/rows.h"
#include "common.h"
#include "elements.h"
#include "reading.h"

#define MOST_FIELDS 6
/* of a list of them */
#define MOST_ROWS 6000
/* bytes of rows, where they are not to be many; of what is read, for each of them */
#define SMALL ((int64_t)24 << 10)
#define UNFOLDED 8

/* What a filter asks of a field: that it is less than a constant, at most that or equal to it, or the other way round;
 * of a logical, that it is another. The answer is joined with that of the fields before it. */
typedef struct {
    char type;                            /* of the register */
    enum { LESS, AT_MOST, EQUAL } asks;
    int constant_first;
    uint8_t *constant; /* as wanted; a text is shorter than the room for it */
    int64_t length;
    enum { AND, OR, XOR } joined;
} test;

typedef struct {
    int is_filter;
    reading file;
    column columns[MOST_FIELDS];
    int count;

    tf_rows rows;
    int64_t list[MOST_ROWS];
    tf_field fields[MOST_FIELDS];

    tf_filter filter; /* its rows and fields are those above */
    tf_register registers[3 * MOST_FIELDS + 6];
    tf_instruction program[3 * MOST_FIELDS + 2];
    uint8_t first; /* what the answers are joined with; at last it is negated */
    test tests[MOST_FIELDS];
    guarded keep;
    uint8_t *expected_keep;
    int64_t passed; /* as the kernel says */
} job;

/* ---------------------------------------------------------------------------- elements */

/* An element that a register of a filter holds; a text has many of them. */
static element take_operand(input *in)
{
    static const tf_type types[] = {TF_I64, TF_U64, TF_F64};
    element e = take_element(in);
    if (e.kind != TF_NUMBERS)
        return e;
    e.meaning.wanted = types[take_within(in, 0, 2)];
    return number(take_within(in, 0, 3) ? e.meaning : (meaning){.bitpix = 8, .scale = 1, .wanted = TF_U8});
}

static char type_of(const element *e)
{
    return e->kind != TF_NUMBERS         ? 'b'
           : e->meaning.wanted == TF_I64 ? 'i'
           : e->meaning.wanted == TF_U64 ? 'u'
           : e->meaning.wanted == TF_F64 ? 'd'
                                         : 's';
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

static int can_be_null(const element *e)
{
    return e->kind == TF_LOGICALS || (e->kind == TF_NUMBERS && e->meaning.bitpix > 0);
}

/* ---------------------------------------------------------------------------- rows */

static void choose_fields(input *in, job *j, int64_t most)
{
    j->count = (int)take_within(in, 0, MOST_FIELDS);
    for (int i = 0; i < j->count; i++) {
        element *e = &j->columns[i].element;
        tf_field *field = &j->fields[i];
        const int size = (int)take_within(in, 0, 31);
        *e = j->is_filter ? take_operand(in) : take_element(in);
        field->kind = e->kind;
        field->conversion = e->conversion;
        /* far apart, fields are read one by one; long, part by part */
        j->rows.row_bytes += take_within(in, 0, 3) ? take_within(in, 0, 3) : take_within(in, 4000, 4200);
        field->offset = j->rows.row_bytes;
        field->count = size == 31 ? take_within(in, 16000, 140000) : size > 27 ? take_within(in, 0, 3000) : size % 11;
        field->count = least(field->count, most / (e->wanted > e->width ? e->wanted : e->width));
        if (j->is_filter && type_of(e) != 's')
            field->count = 1;
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
    j->file.size = j->file.start + there * rows->row_bytes;
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
    rows->count = least(take_within(in, 0, MOST_ROWS), room);
    const uint64_t seed = take(in, 4);
    for (int64_t i = 0; i < rows->count; i++) {
        const uint64_t chance = scramble(seed + (uint64_t)(how == 6 ? i / 8 : i));
        j->list[i] = how == 3   ? (int64_t)(seed + (uint64_t)i / 3) % there  /* in order, but for the end */
                     : how == 4 ? (there - 1) - (int64_t)(seed + (uint64_t)i) % there
                                : (int64_t)(chance % (uint64_t)there);
    }
}

static const uint8_t *row_of_table(const job *j, int64_t number)
{
    return j->file.bytes + j->file.start + number * j->rows.row_bytes;
}

/* The i-th of those that are read. */
static const uint8_t *row_at(const job *j, int64_t i)
{
    const tf_rows *rows = &j->rows;
    return row_of_table(j, rows->list ? rows->list[i] : rows->first + i * rows->step);
}

static void need_field(job *j, const uint8_t *row, const tf_field *field)
{
    const int64_t end = row - j->file.bytes + field->offset + tf_field_width(field);
    if (field->count > 0 && end > j->file.last_byte)
        j->file.last_byte = end;
}

static void expect_rows(job *j)
{
    for (int k = 0; k < j->count; k++) {
        const column *c = &j->columns[k];
        const element *e = &c->element;
        const tf_field *field = &j->fields[k];
        int64_t done = 0;
        for (int64_t i = 0; i < j->rows.count; i++) {
            const uint8_t *row = row_at(j, i), *from = row + field->offset;
            for (int64_t n = 0; n < field->count; n++, done++) {
                slow_element(e, c->expected + done * e->wanted, from, n, field->first_bit);
                if (c->expected_nulls)
                    c->expected_nulls[done] = (uint8_t)slow_is_null(e, from, n, field->null);
            }
            need_field(j, row, field);
        }
    }
}

static void make_columns(input *in, job *j)
{
    static column_place places[MOST_FIELDS];
    for (int i = 0; i < j->count; i++) {
        column *c = &j->columns[i];
        tf_field *field = &j->fields[i];
        const int at_end = (int)take_within(in, 0, 1);
        const size_t skip = (size_t)take_within(in, 0, 200);
        const int has_nulls = can_be_null(&c->element) && take_within(in, 0, 1);
        make_column(c, &places[i], j->rows.count * field->count, has_nulls, skip, at_end);
        field->to = c->to.start;
        field->nulls = has_nulls ? c->nulls.start : NULL;
    }
}

/* ---------------------------------------------------------------------------- rows past a filter */

/* What counts of a text. */
static int64_t stripped(const uint8_t *text, int64_t size)
{
    const uint8_t *end = memchr(text, 0, (size_t)size);
    int64_t n = end ? end - text : size;
    while (n > 0 && text[n - 1] == ' ')
        n--;
    return n;
}

static uint8_t *elements_of(const job *j, int i, const uint8_t *row)
{
    const tf_field *field = &j->fields[i];
    const element *e = &j->columns[i].element;
    uint8_t *elements = malloc((size_t)(field->count * e->wanted) + 1);
    CHECK(elements);
    for (int64_t n = 0; n < field->count; n++)
        slow_element(e, elements + n * e->wanted, row + field->offset, n, field->first_bit);
    return elements;
}

/* -1, 0 or 1; 2 where there is no order. */
static int slow_order(const test *t, const uint8_t *x, int64_t size)
{
    int64_t ints[2];
    uint64_t uints[2];
    double reals[2];
    switch (t->type) {
    case 'i':
        memcpy(&ints[0], x, 8);
        memcpy(&ints[1], t->constant, 8);
        return (ints[0] > ints[1]) - (ints[0] < ints[1]);
    case 'u':
        memcpy(&uints[0], x, 8);
        memcpy(&uints[1], t->constant, 8);
        return (uints[0] > uints[1]) - (uints[0] < uints[1]);
    case 'd':
        memcpy(&reals[0], x, 8);
        memcpy(&reals[1], t->constant, 8);
        return reals[0] > reals[1] ? 1 : reals[0] < reals[1] ? -1 : reals[0] == reals[1] ? 0 : 2;
    default: {
        const int64_t length = stripped(x, size);
        const int order = memcmp(x, t->constant, (size_t)least(length, t->length));
        return order ? (order > 0) - (order < 0) : (length > t->length) - (length < t->length);
    }
    }
}

static int slow_passes(const job *j, const uint8_t *row)
{
    int passes = j->first;
    for (int i = 0; i < j->count; i++) {
        const test *t = &j->tests[i];
        const tf_field *field = &j->fields[i];
        uint8_t *x = elements_of(j, i, row);
        int holds;
        if (t->type == 'b') {
            holds = *x != *t->constant;
        } else {
            int order = slow_order(t, x, field->count);
            order = t->constant_first && order != 2 ? -order : order;
            holds = t->asks == EQUAL ? order == 0 : order == -1 || (t->asks == AT_MOST && order == 0);
        }
        if (field->nulls && slow_is_null(&j->columns[i].element, row + field->offset, 0, field->null))
            holds = 0;
        passes = t->joined == AND ? passes && holds : t->joined == OR ? passes || holds : passes != holds;
        free(x);
    }
    return !passes;
}

static int32_t operation(const char *name)
{
    const char *types, *other;
    for (int32_t i = 0; (other = tf_filter_operation(i, &types)); i++)
        if (strcmp(name, other) == 0)
            return i;
    CHECK(!"an operation");
    return -1;
}

static int32_t comparison(const test *t)
{
    char name[] = "lt_?";
    if (t->type == 'b')
        return operation("xor_b");
    memcpy(name, (const char *[]){"lt", "le", "eq"}[t->asks], 2);
    name[3] = t->type;
    return operation(name);
}

static int32_t joining(const test *t)
{
    return operation((const char *[]){"and_b", "or_b", "xor_b"}[t->joined]);
}

/* Values and nulls have no places of their own; `nulls` says whether there are any. */
static void choose_nulls(input *in, job *j)
{
    for (int i = 0; i < j->count; i++) {
        const element *e = &j->columns[i].element;
        if (can_be_null(e) && type_of(e) != 's' && take_within(in, 0, 1))
            j->fields[i].nulls = (uint8_t *)1;
    }
}

static void choose_tests(input *in, job *j)
{
    const int64_t there = (j->file.size - j->file.start) / j->rows.row_bytes;
    j->first = (uint8_t)take_within(in, 0, 1);
    for (int i = 0; i < j->count; i++) {
        test *t = &j->tests[i];
        const tf_field *field = &j->fields[i];
        const int64_t row = (int64_t)(scramble(take(in, 4)) % (uint64_t)there);
        t->type = type_of(&j->columns[i].element);
        t->asks = take_within(in, LESS, EQUAL);
        t->joined = take_within(in, AND, XOR);
        t->constant_first = (int)take_within(in, 0, 1);
        /* most often there is a row that is equal to it */
        t->constant = elements_of(j, i, row_of_table(j, row));
        const uint64_t change = take_within(in, 0, 3) ? 0 : t->type == 'b' ? take(in, 1) % 2 : take(in, 8);
        t->length = tf_column_width(field);
        for (int64_t k = 0; k < least(t->length, 8); k++)
            t->constant[k] ^= (uint8_t)(change >> 8 * k);
        if (t->type == 's')
            t->length = stripped(t->constant, least(t->length, take_within(in, 0, 7) ? t->length : 3));
    }
}

/* The constants as the filter takes them: each from a multiple of 16 on. */
static void place_constants(job *j)
{
    tf_filter *f = &j->filter;
    uint8_t *constants;
    for (int i = 0; i < j->count; i++) {
        const test *t = &j->tests[i];
        const int is_text = t->type == 's';
        j->registers[2 * j->count + i] =
            (tf_register){TF_IN_CONSTANTS, t->type, f->constant_bytes, tf_filter_width(t->type), 1, 0};
        f->constant_bytes += ((is_text ? 16 : 0) + t->length + 15) / 16 * 16;
    }
    j->registers[3 * j->count] = (tf_register){TF_IN_CONSTANTS, 'b', f->constant_bytes, 1, 1, 0};
    f->constants = constants = malloc((size_t)++f->constant_bytes);
    CHECK(constants);
    for (int i = 0; i < j->count; i++) {
        const int64_t at = j->registers[2 * j->count + i].at, ends[] = {at + 16, at + 16 + j->tests[i].length};
        const int is_text = j->tests[i].type == 's';
        if (is_text)
            memcpy(constants + at, ends, 16);
        memcpy(constants + at + (is_text ? 16 : 0), j->tests[i].constant, (size_t)j->tests[i].length);
    }
    constants[f->constant_bytes - 1] = j->first;
}

/* Registers: values, nulls and constants of the fields; what comes first; how a field compares, the same without its
 * nulls, two for what is joined, by turns; the result. */
static void make_filter(input *in, job *j)
{
    static arena place;
    const int n = j->count, scratch = 3 * n + 1, keep = 3 * n + 5;
    tf_instruction *next = j->program;

    choose_tests(in, j);
    place_constants(j);
    for (int i = 0; i < n; i++) {
        j->registers[i] = (tf_register){TF_IN_VALUES, j->tests[i].type, i, tf_column_width(&j->fields[i]), 1, 0};
        j->registers[n + i] = (tf_register){TF_IN_NULLS, 'b', i, 1, 1, 0};
    }
    for (int i = 0; i < 4; i++)
        j->registers[scratch + i] = (tf_register){TF_IN_SCRATCH, 'b', i * TF_FILTER_PIECE, 1, 1, 0};
    j->registers[keep] = (tf_register){TF_IN_KEEP, 'b', 0, 1, 1, 0};
    *next++ = (tf_instruction){operation("fill_b"), scratch + 2, 3 * n, -1};
    for (int i = 0; i < n; i++) {
        const test *t = &j->tests[i];
        const int joined = scratch + 2 + i % 2, other = scratch + 2 + (i + 1) % 2;
        *next++ = t->constant_first ? (tf_instruction){comparison(t), scratch, 2 * n + i, i}
                                    : (tf_instruction){comparison(t), scratch, i, 2 * n + i};
        *next++ = (tf_instruction){operation("andnot_b"), scratch + 1, scratch, n + i};
        *next++ = (tf_instruction){joining(t), other, joined, scratch + 1};
    }
    *next++ = (tf_instruction){operation("not_b"), keep, scratch + 2 + n % 2, -1};
    j->filter.registers = j->registers;
    j->filter.program = j->program;
    j->filter.register_count = keep + 1;
    j->filter.length = (int32_t)(next - j->program);
    j->filter.input_count = n;
    j->filter.scratch_bytes = 4 * TF_FILTER_PIECE;
    CHECK(tf_filter_check(&j->filter) == 0);

    const size_t skip = (size_t)take_within(in, 0, 200);
    const int at_end = (int)take_within(in, 0, 1);
    j->keep = guard(&place, (size_t)j->rows.count, skip, at_end);
    j->expected_keep = malloc((size_t)j->rows.count + 1);
    CHECK(j->expected_keep);
}

static void expect_passed(job *j)
{
    for (int64_t i = 0; i < j->rows.count; i++) {
        const uint8_t *row = row_at(j, i);
        j->expected_keep[i] = (uint8_t)slow_passes(j, row);
        for (int k = 0; k < j->count; k++)
            need_field(j, row, &j->fields[k]);
    }
}

static void check_passed(const job *j, int done)
{
    int64_t numbers[4], n = 0;
    check_marks(&j->keep);
    if (!done)
        return;
    CHECK(memcmp(j->keep.start, j->expected_keep, (size_t)j->rows.count) == 0);
    const int64_t found = tf_passed_rows(j->keep.start, j->rows.count, 4, numbers);
    for (int64_t i = 0; i < j->rows.count; i++)
        if (j->expected_keep[i] && n++ < 4)
            CHECK(n <= found && numbers[n - 1] == i);
    CHECK(n == j->passed && found == least(n, 4));
}

/* ---------------------------------------------------------------------------- the kernels' way */

static tf_outcome select_them(job *j, const tf_source *source, tf_collection *collected, int threads)
{
    j->passed = 0;
    mark(&j->keep);
    return tf_select_rows(source, &j->rows, j->fields, j->count, &j->filter, j->keep.start, &j->passed, collected,
                          threads);
}

static tf_outcome read_it(void *argument, const tf_source *source, int threads)
{
    job *j = argument;
    if (j->is_filter)
        return select_them(j, source, NULL, threads);
    for (int i = 0; i < j->count; i++)
        mark_column(&j->columns[i]);
    return tf_read_rows(source, &j->rows, j->fields, j->count, threads);
}

static void check_it(const void *argument, int done)
{
    const job *j = argument;
    if (j->is_filter)
        check_passed(j, done);
    else
        for (int i = 0; i < j->count; i++)
            check_column(&j->columns[i], done);
}

/* What is collected of the rows that pass, where there is room for some more, or not for all. */
static void check_collecting(job *j, const tf_source *source, int threads)
{
    const tf_rows *rows = &j->rows;
    const uint64_t chance = scramble((uint64_t)j->file.size);
    const int64_t before = (int64_t)(chance % 3), low = (int64_t)(chance >> 8) % rows->row_bytes;
    tf_collection c = {.low = low, .used = before, .count = before};
    int64_t n = before;

    c.width = 1 + (int64_t)(chance >> 16) % (rows->row_bytes - low);
    c.room = before + (int64_t)(chance >> 24) % (rows->count + 2);
    c.bytes = malloc((size_t)(c.room * c.width) + 1);
    c.order = malloc((size_t)c.room * sizeof *c.order + 1);
    CHECK(c.bytes && c.order);
    CHECK(select_them(j, source, &c, threads).what == TF_DONE);
    check_passed(j, 1);
    CHECK(c.looked_at >= 0 && c.looked_at <= rows->count);
    for (int64_t i = 0; i < c.looked_at; i++) {
        if (!j->expected_keep[i])
            continue;
        CHECK(n < c.count && c.order[n] >= before && c.order[n] < c.room);
        CHECK(memcmp(c.bytes + c.order[n++] * c.width, row_at(j, i) + low, (size_t)c.width) == 0);
    }
    CHECK(n == c.count);
    for (int k = 0; k < j->count; k++)
        if (j->fields[k].count > 0 && before + j->passed <= c.room)
            CHECK(c.looked_at == rows->count);
    free(c.bytes);
    free(c.order);
}

/* Row by row, from memory. */
static void check_put_row(const job *j)
{
    for (int i = 0; i < j->count; i++)
        mark_column(&j->columns[i]);
    for (int64_t i = j->rows.count - 1; i >= 0; i--)
        tf_put_row(row_at(j, i), j->fields, j->count, i);
    check_it(j, 1);
}

static void check_also(void *argument, const tf_source *source)
{
    job *j = argument;
    if (!j->is_filter && source->fd < 0)
        check_put_row(j);
    if (j->is_filter && !j->rows.list && j->rows.step * j->rows.row_bytes <= TF_GAP)
        for (int threads = 1; threads <= 3; threads += 2)
            check_collecting(j, source, threads);
}

/* ---------------------------------------------------------------------------- the file */

/* The letters of logicals and of the texts that a filter compares; NULL for other elements. */
static const char *letters_of(const job *j, int i)
{
    const element *e = &j->columns[i].element;
    return e->kind == TF_LOGICALS ? LOGICAL_LETTERS : j->is_filter && type_of(e) == 's' ? "a b\0aa" : NULL;
}

static void write_rows(input *in, const job *j, uint8_t *file)
{
    write_words(in, file, j->file.size);
    for (int k = 0; k < j->count; k++) {
        const char *letters = letters_of(j, k);
        for (int64_t i = j->file.start; letters && i < j->file.size; i += j->rows.row_bytes)
            for (int64_t n = 0; n < j->fields[k].count; n++)
                file[i + j->fields[k].offset + n] = letter_at(letters, i + n);
    }
}

static void check_rows(input *in, job *j)
{
    static arena place;
    const int64_t cut = take_within(in, 0, 4);
    const guarded memory = guard(&place, (size_t)j->file.size, 0, 1);
    write_rows(in, j, memory.start);
    j->file.bytes = memory.start;
    if (j->is_filter) {
        make_filter(in, j);
        expect_passed(j);
    } else {
        expect_rows(j);
    }
    check_reading(&j->file, cut);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static job j;
    input in = {data, size};
    memset(&j, 0, sizeof j);
    j.is_filter = (int)take_within(&in, 0, 1);
    j.file = (reading){.job = &j, .read = read_it, .check = check_it, .also = check_also};
    j.file.is_large = take_within(&in, 0, 31) == 31;
    const int64_t most = j.file.is_large ? LARGE : SMALL;
    j.rows.start = j.file.start = take_within(&in, 0, 3 * 2880);
    choose_fields(&in, &j, most);
    choose_rows(&in, &j, most);
    if (j.is_filter)
        choose_nulls(&in, &j);
    else
        make_columns(&in, &j);
    check_rows(&in, &j);
    for (int i = 0; i < MOST_FIELDS; i++) {
        free_column(&j.columns[i]);
        free(j.tests[i].constant);
    }
    free((void *)j.filter.constants);
    free(j.expected_keep);
    return 0;
}
