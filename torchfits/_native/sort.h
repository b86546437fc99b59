/* Sorting of numbers that are not negative. */
#ifndef TF_SORT_H
#define TF_SORT_H

#include <stdint.h>

/* The places, counted from 0, of n numbers in their rising order; equal ones stay in the order of their places. Number i
 * is numbers[i * stride]. NULL where there is no memory. */
uint32_t *tf_sorted_places(const int64_t *numbers, int64_t stride, int64_t n);

#endif
