/* The arrays of a heap in a small file, compared with reading them element by element; and descriptors that are wrong,
 * which must be noticed.
 *
 * Sources and destinations end, or begin, at an inaccessible page. */
#include <string.h>

#include "_native/heap.h"
#include "common.h"
#include "elements.h"
#include "reading.h"

#define MOST_ARRAYS 6000
/* bytes of the heap, where they are not to be many; of what is read, for each of them */
#define SMALL ((int64_t)24 << 10)
#define UNFOLDED 8

typedef struct {
    reading file;
    column column; /* all arrays */
    tf_heap heap;
    int64_t arrays, descriptors[2 * MOST_ARRAYS], ends[MOST_ARRAYS + 1];
} job;

/* ---------------------------------------------------------------------------- what to read */

static void choose_heap(input *in, job *j, int64_t most)
{
    element *e = &j->column.element;
    *e = take_element(in);
    j->heap.kind = e->kind;
    j->heap.conversion = e->conversion;
    j->heap.numbers = e->kind == TF_NUMBERS ? (int)take_within(in, 1, 2) : 1;
    j->heap.start = j->file.start;
    j->heap.size = take_within(in, 0, most);
    j->file.size = j->file.start + j->heap.size;
}

/* One after the other, with gaps or without, or anywhere; few of them go on for long. */
static void choose_arrays(input *in, job *j)
{
    const element *e = &j->column.element;
    j->arrays = take_within(in, 0, 3) ? take_within(in, 0, 200) : take_within(in, 0, MOST_ARRAYS);
    const int how = (int)take_within(in, 0, 7), longest = (int)take_within(in, 0, 255);
    const uint64_t seed = take(in, 4);
    int64_t at = take_within(in, 0, 7);
    for (int64_t i = 0; i < j->arrays; i++) {
        const uint64_t chance = scramble(seed + (uint64_t)i);
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

/* ---------------------------------------------------------------------------- descriptors */

static int64_t slow_check(const job *j, int64_t most)
{
    const element *e = &j->column.element;
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

/* Whether the arrays can be read; some limit is tried as well. */
static int check_descriptors(input *in, job *j, int64_t room)
{
    const int64_t most = room / (j->column.element.wanted * j->heap.numbers), limit = (int64_t)take(in, 8) & INT64_MAX;
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

/* ---------------------------------------------------------------------------- arrays */

static void expect_arrays(job *j)
{
    column *c = &j->column;
    int64_t done = 0;
    for (int64_t i = 0; i < j->arrays; i++) {
        const int64_t n = j->descriptors[2 * i] * j->heap.numbers, offset = j->file.start + j->descriptors[2 * i + 1];
        for (int64_t k = 0; k < n; k++)
            slow_element(&c->element, c->expected + done++ * c->element.wanted, j->file.bytes + offset, k, 0);
        if (n > 0 && offset + stored_bytes(&c->element, n, 0) > j->file.last_byte)
            j->file.last_byte = offset + stored_bytes(&c->element, n, 0);
    }
    CHECK(done == c->elements);
}

static tf_outcome read_it(void *argument, const tf_source *source, int threads)
{
    const job *j = argument;
    mark_column(&j->column);
    return tf_read_heap(source, &j->heap, j->descriptors, j->ends, j->arrays, j->column.to.start, threads);
}

static void check_it(const void *argument, int done)
{
    const job *j = argument;
    check_column(&j->column, done);
}

static void check_arrays(input *in, job *j)
{
    static arena memory_place;
    static column_place place;
    const int at_end = (int)take_within(in, 0, 1);
    const size_t skip = (size_t)take_within(in, 0, 200);
    make_column(&j->column, &place, j->ends[j->arrays] * j->heap.numbers, 0, skip, at_end);
    const int64_t cut = take_within(in, 0, 4);
    const guarded memory = guard(&memory_place, (size_t)j->file.size, 0, 1);
    write_words(in, memory.start, j->file.size);
    if (j->heap.kind == TF_LOGICALS)
        for (int64_t i = j->file.start; i < j->file.size; i++)
            memory.start[i] = letter_at(LOGICAL_LETTERS, i);
    j->file.bytes = memory.start;
    expect_arrays(j);
    check_reading(&j->file, cut);
    free_column(&j->column);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static job j;
    input in = {data, size};
    memset(&j, 0, sizeof j);
    j.file = (reading){.job = &j, .read = read_it, .check = check_it};
    j.file.is_large = take_within(&in, 0, 31) == 31;
    const int64_t most = j.file.is_large ? LARGE : SMALL;
    j.file.start = take_within(&in, 0, 3 * 2880);
    choose_heap(&in, &j, most);
    choose_arrays(&in, &j);
    if (check_descriptors(&in, &j, UNFOLDED * most))
        check_arrays(&in, &j);
    return 0;
}
