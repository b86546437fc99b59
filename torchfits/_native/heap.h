/* Arrays of variable length: the heap of a table, and the descriptors that point into it (FITS standard 4.0, section
 * 7.3.5). */
#ifndef TF_HEAP_H
#define TF_HEAP_H

#include "rows.h"

typedef struct {
    int64_t start, size; /* in the source */
    tf_cell_kind kind;   /* of the elements */
    tf_conversion conversion;
    int numbers; /* that make one element of TF_NUMBERS */
} tf_heap;

/* Looks at n descriptors, (number of elements, offset in the heap) each, and fills `ends`, n + 1 numbers of elements,
 * from 0. The index of the first descriptor that points outside the heap; -1 where there is none; -2 where the arrays
 * have more than `most` elements together. */
int64_t tf_check_descriptors(const tf_heap *heap, const int64_t *descriptors, int64_t n, int64_t most, int64_t *ends);

/* The arrays, one after the other, of descriptors that were checked. */
tf_outcome tf_read_heap(const tf_source *source, const tf_heap *heap, const int64_t *descriptors, const int64_t *ends,
                        int64_t n, void *to, int threads);

#endif
