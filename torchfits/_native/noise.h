/* How much noise is in a tile, by cfitsio's estimate: the medians of differences between pixels of a row. */
#ifndef TF_NOISE_H
#define TF_NOISE_H

#include <stddef.h>

#include "quantise.h"

/* The lowest and the highest pixel of a tile, and how many there are that are no NaN. Of none, the highest is below
 * the lowest. */
typedef struct {
    double lowest, highest;
    size_t count;
} tf_range;

tf_range tf_range_of(const void *pixels, int wide, size_t n);

/* The standard deviation of the noise of finite pixels and NaN; not a number where the differences overflow. */
double tf_noise(const void *pixels, int wide, size_t columns, size_t rows, const tf_range *range,
                tf_noise_guess *guess, void *scratch);

#endif
