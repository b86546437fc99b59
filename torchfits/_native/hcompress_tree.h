/* What the decoder and the encoder of HCOMPRESS_1 share: the sides of quadtrees, and their bits in words.
 *
 * A bitmap has each row in words of 32 columns, the first column in the highest bit; bits after the last column are
 * 0. */
#ifndef TF_HCOMPRESS_TREE_H
#define TF_HCOMPRESS_TREE_H

#include <stddef.h>
#include <stdint.h>

#define TF_HCOMPRESS_HEADER 25 /* bytes: magic 2, rows 4, columns 4, scale 4, sum 8, how many bit planes 3 */

static inline size_t half(size_t n)
{
    return (n + 1) / 2;
}

/* How many nodes of a quadtree cover n pixels, `level` levels above them. */
static inline size_t nodes(size_t n, int level)
{
    return ((n - 1) >> level) + 1;
}

/* The level of the root above so many pixels. */
static inline int levels_of(size_t rows, size_t columns)
{
    const size_t side = rows > columns ? rows : columns;
    return side == 1 ? 0 : 64 - __builtin_clzll(side - 1);
}

static inline size_t words_of(size_t columns)
{
    return (columns + 31) / 32;
}

/* The lower two bits of each group of four, side by side. */
static inline uint32_t gather_pairs(uint32_t x)
{
    x &= 0x33333333;
    x = (x | x >> 2) & 0x0f0f0f0f;
    x = (x | x >> 4) & 0x00ff00ff;
    return (x | x >> 8) & 0xffff;
}

/* The quadrants of a tile's coefficients: sums, differences along a row, from row to row, and of both. */
static inline size_t quadrant_rows(size_t rows, int quadrant)
{
    return quadrant & 2 ? rows / 2 : half(rows);
}

static inline size_t quadrant_columns(size_t columns, int quadrant)
{
    return quadrant & 1 ? columns / 2 : half(columns);
}

#endif
