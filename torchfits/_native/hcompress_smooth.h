/* What SMOOTH asks for before each step of HCOMPRESS_1's inverse transform. */
#ifndef TF_HCOMPRESS_SMOOTH_H
#define TF_HCOMPRESS_SMOOTH_H

#include <stddef.h>
#include <stdint.h>

/* The coefficients of the step that ends `level` above the pixels, but those at the edges, are drawn to what the sums
 * around them let expect, by half of `scale` at most. Their absolute values are below 2^52. */
void tf_hcompress_smooth(int64_t *coefficients, const int64_t *sums, size_t image_rows, size_t image_columns, int level,
                         int64_t scale);

#endif
