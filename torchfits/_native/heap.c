#include "heap.h"

#include <stdlib.h>

/* arrays that are read together */
#define AT_ONCE 4096

/* Bytes of a number, letter or byte of bits in the file, of those that make an element all. */
static int64_t stored_width(const tf_heap *heap)
{
    return heap->kind == TF_NUMBERS ? heap->numbers * (int64_t)tf_width(heap->conversion.stored) : 1;
}

/* Bytes in the file of an array of n elements; `width` is that of one, which loops over many arrays ask for once. */
static inline int64_t stored_bytes(const tf_heap *heap, int64_t width, int64_t n)
{
    return heap->kind == TF_BITS ? (n + 7) / 8 : n * width;
}

static int64_t element_width(const tf_heap *heap)
{
    return heap->kind == TF_NUMBERS ? heap->numbers * (int64_t)tf_width(heap->conversion.wanted) : 1;
}

int64_t tf_check_descriptors(const tf_heap *heap, const int64_t *descriptors, int64_t n, int64_t most, int64_t *ends)
{
    const int64_t size = heap->size, width = stored_width(heap);
    const int64_t longest = heap->kind == TF_BITS ? 8 * size : size / width;
    int64_t total = 0;
    ends[0] = 0;
    for (int64_t i = 0; i < n; i++) {
        const int64_t count = descriptors[2 * i], offset = descriptors[2 * i + 1];
        /* an array without elements points anywhere */
        if (count < 0 || (count > 0 && (count > longest || offset < 0 ||
                                        offset > size - stored_bytes(heap, width, count))))
            return i;
        total += count;
        if (total > most)
            return -2;
        ends[i + 1] = total;
    }
    return -1;
}

typedef struct {
    const tf_heap *heap;
    const int64_t *descriptors, *ends;
    int64_t n;
    uint8_t *to;
} heap_job;

typedef struct {
    int64_t offset, index;
} found_array;

static int by_offset(const void *a, const void *b)
{
    const found_array *x = a, *y = b;
    return (x->offset > y->offset) - (x->offset < y->offset);
}

/* Where the bytes of array i are put at first: bits at the end of their place, which they fill later. */
static uint8_t *place(const heap_job *job, int64_t i)
{
    const tf_heap *heap = job->heap;
    const int64_t count = job->descriptors[2 * i];
    const int64_t ahead = heap->kind == TF_BITS ? count - stored_bytes(heap, 1, count) : 0;
    return job->to + job->ends[i] * element_width(heap) + ahead;
}

static void read_arrays(tf_reader *r, const void *argument, int64_t piece)
{
    const heap_job *job = argument;
    const tf_heap *heap = job->heap;
    const int64_t first = piece * AT_ONCE, last = first + AT_ONCE < job->n ? first + AT_ONCE : job->n;
    const int64_t width = (int64_t)tf_width(r->conversion->stored), element = stored_width(heap);
    found_array found[AT_ONCE];
    int64_t n = 0;
    int sorted = 1;

    for (int64_t i = first; i < last; i++) {
        if (job->descriptors[2 * i] == 0)
            continue;
        found[n] = (found_array){job->descriptors[2 * i + 1], i};
        sorted = sorted && (n == 0 || found[n - 1].offset <= found[n].offset);
        n++;
    }
    /* in a file, what lies close together comes by one pread */
    if (!sorted && !r->source->bytes)
        qsort(found, (size_t)n, sizeof *found, by_offset);
    for (int64_t k = 0; k < n;) {
        uint8_t *to = place(job, found[k].index);
        const int64_t offset = found[k].offset;
        int64_t bytes = 0;
        /* arrays that follow each other, here and there, are one */
        do {
            bytes += stored_bytes(heap, element, job->descriptors[2 * found[k].index]);
            k++;
        } while (heap->kind != TF_BITS && k < n && found[k].offset == offset + bytes &&
                 job->ends[found[k].index] == job->ends[found[k - 1].index + 1]);
        if (tf_read_span(r, to, heap->start + offset, width, bytes / width) != 0)
            return;
    }
    if (heap->kind == TF_NUMBERS || tf_read_waiting(r) != 0)
        return;
    for (int64_t i = first; i < last; i++) {
        const int64_t count = job->descriptors[2 * i];
        uint8_t *to = job->to + job->ends[i];
        if (heap->kind == TF_BITS)
            tf_bits(to, place(job, i), 0, count);
        else
            tf_logicals(to, to, count);
    }
}

tf_outcome tf_read_heap(const tf_source *source, const tf_heap *heap, const int64_t *descriptors, const int64_t *ends,
                        int64_t n, void *to, int threads)
{
    const heap_job job = {heap, descriptors, ends, n, to};
    const tf_outcome done = {TF_DONE, 0, 0};
    tf_conversion conversion = heap->conversion;
    if (n == 0 || ends[n] == 0)
        return done;
    if (heap->kind != TF_NUMBERS)
        tf_conversion_of(&conversion, 8, 1, 0, 0, 0);
    if (ends[n] * element_width(heap) < TF_SMALL_JOB)
        threads = 1;
    return tf_read_pieces(source, &conversion, read_arrays, &job, (n - 1) / AT_ONCE + 1, threads);
}
