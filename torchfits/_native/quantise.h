/* Real numbers as scaled integers (FITS standard 4.0, section 10.2): what is done to a tile before it is compressed,
 * and undone when it is read. The results are cfitsio's, bit for bit. */
#ifndef TF_QUANTISE_H
#define TF_QUANTISE_H

#include <stddef.h>
#include <stdint.h>

typedef enum {
    TF_NO_DITHER,
    TF_SUBTRACTIVE_DITHER_1,
    TF_SUBTRACTIVE_DITHER_2, /* zeros stay zeros */
    TF_DITHER_METHODS,
} tf_dither_method;

/* The integer that stands for NaN in what tf_quantise makes: the value of ZBLANK. */
#define TF_ZBLANK (-2147483647)

/* How the integers of a tile are to be understood. */
typedef struct {
    tf_dither_method method; /* ZQUANTIZ */
    int64_t zdither0;
    int64_t tile;       /* its row of the table, from 0 */
    double scale, zero; /* ZSCALE, ZZERO */
    int has_blank;
    int64_t blank; /* ZBLANK */
} tf_quantisation;

/* n reals, float or (wide) double, from integers; NaN where they are ZBLANK. Floats may take the place of the integers:
 * to == numbers. Narrower integers have to be widened before. */
void tf_dequantise(const tf_quantisation *q, const int32_t *numbers, size_t n, int wide, void *to);

/* About how large differences of pixels were in the tiles before: with zeros to begin with. Kept for each thread, it
 * makes its next tile faster, and changes no result. */
typedef struct {
    double differences[3];
} tf_noise_guess;

/* Memory that tf_quantise needs, aligned as malloc's. */
size_t tf_quantise_scratch(int wide, size_t columns, size_t rows);

/* The integers for a tile of float or (wide) double; NaN becomes TF_ZBLANK. Level: how many steps one sigma of the
 * noise has, 0 for four, or, negative, the size of a step. Takes from q the method, ZDITHER0 and the tile's number, and sets
 * the rest. -1 where the tile is to be stored without loss: it has no noise, or one pixel, or more than 2^31 - 1; its
 * range is too large for 32 bits; or it holds infinities, or such large numbers that cfitsio's integers would mean
 * nothing. */
int tf_quantise(tf_quantisation *q, float level, const void *pixels, int wide, size_t columns, size_t rows,
                tf_noise_guess *guess, void *scratch, int32_t *numbers);

#endif
