#include "sort.h"

#include <stdlib.h>

#include "least.h"

#define DIGIT_BITS 11
#define DIGITS (1 << DIGIT_BITS)

typedef struct {
    const int64_t *numbers;
    int64_t stride, n;
    int shift; /* the bit that the digit begins at */
} sorting;

static inline int64_t digit(const sorting *s, int64_t place)
{
    return (s->numbers[place * s->stride] >> s->shift) & (DIGITS - 1);
}

/* The places `from` to `to`, in the order of the digit of what stands there. */
static void sort_by_digit(const sorting *s, const uint32_t *from, uint32_t *to)
{
    uint32_t begins[DIGITS + 1] = {0};
    for (int64_t i = 0; i < s->n; i++)
        begins[digit(s, i) + 1]++;
    for (int i = 0; i < DIGITS; i++)
        begins[i + 1] += begins[i];
    for (int64_t i = 0; i < s->n; i++)
        to[begins[digit(s, from[i])]++] = from[i];
}

uint32_t *tf_sorted_places(const int64_t *numbers, int64_t stride, int64_t n)
{
    sorting s = {numbers, stride, n, 0};
    const size_t bytes = (size_t)n * sizeof(uint32_t);
    uint32_t *sorted = n < UINT32_MAX ? malloc(bytes) : NULL, *other = malloc(bytes);
    int64_t last = 0;
    if (!sorted || !other) {
        free(sorted);
        free(other);
        return NULL;
    }
    for (int64_t i = 0; i < n; i++) {
        sorted[i] = (uint32_t)i;
        last = greatest(last, numbers[i * stride]);
    }
    for (; s.shift < 63 && last >> s.shift > 0; s.shift += DIGIT_BITS) {
        uint32_t *const before = sorted;
        sort_by_digit(&s, before, other);
        sorted = other;
        other = before;
    }
    free(other);
    return sorted;
}
