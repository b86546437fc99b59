/* The random numbers of subtractive dithering (FITS standard 4.0, section 10.2.1 and appendix I). */
#ifndef TF_DITHER_H
#define TF_DITHER_H

#include <stddef.h>
#include <stdint.h>

#define TF_RANDOM_NUMBERS 10000

/* Where a tile is in them. They are taken in order from somewhere among the first 500; behind the last one, from
 * somewhere else there. */
typedef struct {
    const float *numbers;
    int start; /* the number that told where */
    int next;
} tf_dither;

/* For the first element of a tile, which is this row of the table, from 0. Any ZDITHER0 counts modulo 10000. */
tf_dither tf_dither_begin(int64_t zdither0, int64_t tile);
/* The numbers for the next *n elements, or for as many as lie one behind the other, which *n then says. */
const float *tf_dither_take(tf_dither *dither, size_t *n);

#endif
