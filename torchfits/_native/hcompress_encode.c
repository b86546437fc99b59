#include "hcompress_encode.h"

#include <string.h>

#include "hcompress_tree.h"

/* ---------------------------------------------------------------------------- bits, the most significant one first */

typedef struct {
    uint8_t *at, *end;
    uint64_t word; /* what is not written yet, in its lowest bits */
    int have;      /* how many; below 32 between calls */
    int full;
} bit_writer;

/* n bits, at most 32. */
static inline bit_writer put(bit_writer w, uint32_t bits, int n)
{
    w.word = w.word << n | bits;
    w.have += n;
    if (w.have < 32)
        return w;
    w.have -= 32;
    if (w.end - w.at < 4) {
        w.full = 1;
        return w;
    }
    for (int shift = 24; shift >= 0; shift -= 8)
        *w.at++ = (uint8_t)(w.word >> w.have >> shift);
    return w;
}

/* Zeros up to the next byte, and all is written. */
static bit_writer finish(bit_writer w)
{
    w.word <<= (8 - w.have % 8) % 8;
    w.have = (w.have + 7) / 8 * 8;
    for (; w.have > 0; w.have -= 8) {
        if (w.at == w.end) {
            w.full = 1;
            return w;
        }
        *w.at++ = (uint8_t)(w.word >> (w.have - 8));
    }
    return w;
}

/* ---------------------------------------------------------------------------- the transform */

/* How a step rounds: differences down and across to multiples of 2 * bit, sums to those of 4 * bit. */
typedef struct {
    int64_t bit;
    int shift; /* of sums and differences of four pixels */
} rounding;

static inline int64_t rounded_sum(int64_t x, rounding r)
{
    return (x + 2 * r.bit - (x < 0)) & -(4 * r.bit);
}

static inline int64_t rounded_difference(int64_t x, rounding r)
{
    return (x >= 0 ? x + r.bit : x) & -(2 * r.bit);
}

static void transform_rows(const int64_t *restrict upper, const int64_t *restrict lower, int64_t *restrict sums,
                           int64_t *restrict down, int64_t *restrict across, int64_t *restrict both, size_t n,
                           rounding r)
{
    for (size_t j = 0; j < n; j++) {
        const int64_t a = upper[2 * j], b = upper[2 * j + 1], c = lower[2 * j], d = lower[2 * j + 1];
        sums[j] = rounded_sum((d + c + b + a) >> r.shift, r);
        down[j] = rounded_difference((d + c - b - a) >> r.shift, r);
        across[j] = rounded_difference((d - c + b - a) >> r.shift, r);
        both[j] = (d - c - b + a) >> r.shift;
    }
}

/* At an edge: n sums and one difference each, from pairs that lie in every other place. */
static void transform_edge(const int64_t *first, const int64_t *second, int64_t *sums, int64_t *differences, size_t n,
                           rounding r)
{
    for (size_t j = 0; j < n; j++) {
        sums[j] = rounded_sum((second[2 * j] + first[2 * j]) * (2 >> r.shift), r);
        differences[j] = rounded_difference((second[2 * j] - first[2 * j]) * (2 >> r.shift), r);
    }
}

/* One step: the numbers of a level become sums, a quarter of them, and coefficients in an array of rows of `stride`. */
static void transform_step(const int64_t *numbers, size_t rows, size_t columns, int level, int64_t *sums,
                           int64_t *coefficients, size_t stride)
{
    const rounding r = {(int64_t)1 << level, level > 0};
    const size_t pairs = columns / 2, left = half(columns);
    int64_t *across = coefficients + left, *down = coefficients + half(rows) * stride;
    const int64_t *upper = numbers;
    for (size_t i = 0; i < rows / 2; i++) {
        const int64_t *lower = upper + columns;
        transform_rows(upper, lower, sums, down, across, down + left, pairs, r);
        if (left > pairs)
            transform_edge(upper + 2 * pairs, lower + 2 * pairs, sums + pairs, down + pairs, 1, r);
        sums += left;
        across += stride;
        down += stride;
        upper += 2 * columns;
    }
    if (rows % 2 != 0) {
        transform_edge(upper, upper + 1, sums, across, pairs, r);
        if (left > pairs)
            sums[pairs] = rounded_sum(upper[2 * pairs] * (4 >> r.shift), r);
    }
}

/* `first` and `second` have room for the numbers of every other level; the pixels are in the first. */
static void transform(int64_t *first, int64_t *second, size_t rows, size_t columns, int64_t *coefficients)
{
    const int steps = levels_of(rows, columns);
    for (int level = 0; level < steps; level++) {
        transform_step(first, nodes(rows, level), nodes(columns, level), level, second, coefficients, columns);
        int64_t *next = second;
        second = first;
        first = next;
    }
    coefficients[0] = first[0];
}

static void divide(int64_t *coefficients, size_t n, int64_t scale)
{
    const int64_t up = (scale + 1) / 2 - 1;
    for (size_t i = 0; i < n; i++)
        coefficients[i] = (coefficients[i] > 0 ? coefficients[i] + up : coefficients[i] - up) / scale;
}

/* ---------------------------------------------------------------------------- bit planes */

/* A quadtree over a bitmap: of each level above it, up to the root, which nodes have a pixel that is set. */
typedef struct {
    size_t rows, columns;
    int top;
    uint32_t *bits[65]; /* by level; the bitmap is the first */
} tree;

/* Words for the levels above the bitmap. */
static size_t tree_words(size_t rows, size_t columns)
{
    return rows * words_of(columns) + 64;
}

static tree tree_of(size_t rows, size_t columns, uint32_t *words)
{
    tree t = {rows, columns, levels_of(rows, columns), {NULL, words}};
    t.top = t.top > 0 ? t.top : 1;
    for (int level = 1; level < t.top; level++)
        t.bits[level + 1] = t.bits[level] + nodes(rows, level) * words_of(nodes(columns, level));
    return t;
}

/* 32 words of 32 bits: bit k of word j changes places with bit j of word k, counted from the highest (Hacker's Delight,
 * section 7-3). */
static inline void transpose(uint32_t words[32])
{
    uint32_t mask = 0xffff;
    for (int j = 16; j > 0; j /= 2, mask ^= mask << j)
        for (int block = 0; block < 32; block += 2 * j)
            for (int k = block; k < block + j; k++) {
                const uint32_t change = (words[k] ^ words[k + j] >> j) & mask;
                words[k] ^= change;
                words[k + j] ^= change << j;
            }
}

/* The lowest bit planes of the numbers, rows of which lie `stride` apart, as bitmaps one after the other, the lowest
 * first. */
static void split_planes(const int64_t *numbers, size_t rows, size_t columns, size_t stride, int planes, uint32_t *to)
{
    const size_t plane = rows * words_of(columns);
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < columns; j += 32, to++) {
            const int64_t *from = numbers + i * stride + j;
            const size_t n = columns - j < 32 ? columns - j : 32;
            for (int low = 0; low < planes; low += 32) {
                uint32_t words[32] = {0};
                for (size_t k = 0; k < n; k++)
                    words[k] = (uint32_t)(from[k] >> low);
                transpose(words);
                for (int k = low; k < planes && k < low + 32; k++)
                    to[(size_t)k * plane] = words[31 + low - k];
            }
        }
}

/* 16 nodes from 32 below them. */
static inline uint32_t any_of_pairs(uint32_t children)
{
    const uint32_t any = (children | children >> 1) & 0x55555555;
    return gather_pairs(any | any >> 1);
}

static void set_nodes(const tree *t, int level)
{
    const size_t rows = nodes(t->rows, level - 1), words = words_of(nodes(t->columns, level - 1));
    const uint32_t *upper = t->bits[level - 1];
    uint32_t *to = t->bits[level];
    for (size_t i = 0; i < rows; i += 2, upper += 2 * words) {
        const uint32_t *lower = i + 1 < rows ? upper + words : upper;
        for (size_t k = 0; k < words; k += 2) {
            const uint32_t low = k + 1 < words ? any_of_pairs(upper[k + 1] | lower[k + 1]) : 0;
            *to++ = any_of_pairs(upper[k] | lower[k]) << 16 | low;
        }
    }
}

/* The 2 x 2 bits below nodes, those of the upper row first: children of 32 nodes in 64 bits. */
static inline bit_writer put_codes(bit_writer w, uint32_t parents, uint64_t upper, uint64_t lower, int64_t *spent)
{
    static const uint8_t codes[16] = {0x3e, 0x00, 0x01, 0x08, 0x02, 0x09, 0x1a, 0x1b,
                                      0x03, 0x1c, 0x0a, 0x1d, 0x0b, 0x1e, 0x3f, 0x0c};
    static const uint8_t lengths[16] = {6, 3, 3, 4, 3, 4, 5, 5, 3, 5, 4, 5, 4, 5, 6, 4};
    for (; parents != 0; parents &= parents - 1) {
        const int at = 2 * __builtin_ctz(parents);
        const size_t code = (upper >> at & 3) << 2 | (lower >> at & 3);
        w = put(w, codes[code], lengths[code]);
        *spent += lengths[code];
    }
    return w;
}

/* The codes of the nodes of a level that are set, last one first. */
static bit_writer put_level(bit_writer w, const tree *t, int level, const uint32_t *parents, int64_t *spent)
{
    const size_t rows = nodes(t->rows, level - 1), words = words_of(nodes(t->columns, level - 1));
    const size_t parent_words = half(words);
    for (size_t i = half(rows); i-- > 0;) {
        const uint32_t *upper = t->bits[level - 1] + 2 * i * words, *lower = upper + words;
        const int has_lower = 2 * i + 1 < rows;
        for (size_t k = parent_words; k-- > 0;) {
            const int has_low = 2 * k + 1 < words;
            const uint64_t u = (uint64_t)upper[2 * k] << 32 | (has_low ? upper[2 * k + 1] : 0);
            const uint64_t l = has_lower ? (uint64_t)lower[2 * k] << 32 | (has_low ? lower[2 * k + 1] : 0) : 0;
            w = put_codes(w, parents[i * parent_words + k], u, l, spent);
        }
    }
    return w;
}

/* Pairs of bits as the lower two of groups of four. */
static inline uint32_t spread_pairs(uint32_t x)
{
    x = (x | x << 8) & 0x00ff00ff;
    x = (x | x << 4) & 0x0f0f0f0f;
    return (x | x << 2) & 0x33333333;
}

static bit_writer put_direct(bit_writer w, const tree *t)
{
    const size_t words = words_of(t->columns);
    for (size_t i = 0; i < t->rows; i += 2) {
        const uint32_t *upper = t->bits[0] + i * words, *lower = upper + words;
        size_t left = half(t->columns);
        for (size_t k = 0; k < words; k++) {
            const uint32_t u = upper[k], l = i + 1 < t->rows ? lower[k] : 0;
            for (int shift = 16; shift >= 0 && left > 0; shift -= 16) {
                const size_t n = left < 8 ? left : 8;
                const uint32_t bits = spread_pairs(u >> shift & 0xffff) << 2 | spread_pairs(l >> shift & 0xffff);
                w = put(w, bits >> (32 - 4 * n), (int)(4 * n));
                left -= n;
            }
        }
    }
    return w;
}

/* A bit plane as a quadtree, or as it is where that takes no more bytes. */
static bit_writer put_plane(bit_writer w, const tree *t)
{
    static const uint32_t root[1] = {(uint32_t)1 << 31};
    const int64_t limit = 8 * (int64_t)half(half(t->rows) * half(t->columns));
    const bit_writer start = w;
    int64_t spent = 0;

    for (int level = 1; level <= t->top; level++)
        set_nodes(t, level);
    w = put(w, 15, 4);
    for (int level = t->top; level > 0 && spent < limit; level--)
        w = put_level(w, t, level, level == t->top ? root : t->bits[level], &spent);
    return spent < limit ? w : put_direct(put(start, 0, 4), t);
}

/* ---------------------------------------------------------------------------- tiles */

static int bits_of(uint64_t n)
{
    return n == 0 ? 0 : 64 - __builtin_clzll(n);
}

/* The absolute values of a quadrant, for rows of `stride`; how many bits they have. */
static int put_sizes(const int64_t *from, int64_t *to, size_t rows, size_t columns, size_t stride)
{
    int64_t any = 0;
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < columns; j++) {
            const int64_t x = from[i * stride + j];
            any |= to[i * stride + j] = x < 0 ? -x : x;
        }
    return bits_of((uint64_t)any);
}

/* A bit for each coefficient that is not 0. */
static bit_writer put_signs(bit_writer w, const int64_t *coefficients, size_t n)
{
    for (size_t i = 0; i < n; i++)
        w = put(w, coefficients[i] < 0, coefficients[i] != 0);
    return w;
}

static void put_be(uint8_t *to, uint64_t number, int bytes)
{
    for (int k = bytes - 1; k >= 0; k--, number >>= 8)
        to[k] = (uint8_t)number;
}

/* More bits no coefficient of 32-bit pixels has. */
static size_t planes_most(size_t rows, size_t columns)
{
    return (size_t)levels_of(rows, columns) + 34;
}

size_t tf_hcompress_encode_scratch(uint64_t rows, uint64_t columns)
{
    const size_t n = rows * columns, quarter = half(rows) * half(columns);
    const size_t bitmaps = planes_most(rows, columns) * half(rows) * words_of(half(columns));
    return (2 * n + quarter) * sizeof(int64_t) +
           (tree_words(half(rows), half(columns)) + bitmaps) * sizeof(uint32_t);
}

size_t tf_hcompress_room(uint64_t rows, uint64_t columns)
{
    const size_t planes = planes_most(rows, columns);
    size_t bytes = TF_HCOMPRESS_HEADER + rows * columns / 8 + 2;
    /* a plane takes its form and what a bitmap takes, 4 bits for 2 x 2 pixels; a tree, that much and a code more */
    for (int i = 0; i < 4; i++)
        bytes += planes * (half(half(quadrant_rows(rows, i)) * half(quadrant_columns(columns, i))) + 2);
    return bytes;
}

int64_t tf_hcompress_encode(const int32_t *pixels, uint64_t rows, uint64_t columns, int32_t scale, uint8_t *to,
                            size_t room, void *scratch)
{
    const size_t n = rows * columns;
    int64_t *coefficients = scratch, *sizes = coefficients + n, *spare = sizes + n;
    uint32_t *words = (uint32_t *)(spare + half(rows) * half(columns));
    if (room < TF_HCOMPRESS_HEADER)
        return -1;

    for (size_t i = 0; i < n; i++)
        sizes[i] = pixels[i];
    transform(sizes, spare, rows, columns, coefficients);
    if (scale > 1)
        divide(coefficients, n, scale);
    to[0] = 0xdd;
    to[1] = 0x99;
    put_be(to + 2, rows, 4);
    put_be(to + 6, columns, 4);
    put_be(to + 10, (uint32_t)scale, 4);
    put_be(to + 14, (uint64_t)coefficients[0], 8);
    coefficients[0] = 0;

    /* the two quadrants of differences in one direction have the same number of planes */
    size_t start[4];
    int planes[3] = {0, 0, 0};
    for (int i = 0; i < 4; i++) {
        start[i] = (i & 2 ? half(rows) * columns : 0) + (i & 1 ? half(columns) : 0);
        const int bits = put_sizes(coefficients + start[i], sizes + start[i], quadrant_rows(rows, i),
                                   quadrant_columns(columns, i), columns);
        int *most = &planes[(i + 1) / 2];
        *most = bits > *most ? bits : *most;
    }
    bit_writer w = {to + TF_HCOMPRESS_HEADER, to + room, 0, 0, 0};
    for (int i = 0; i < 4; i++) {
        tree t = tree_of(quadrant_rows(rows, i), quadrant_columns(columns, i), words);
        uint32_t *bitmaps = words + tree_words(t.rows, t.columns);
        split_planes(sizes + start[i], t.rows, t.columns, columns, planes[(i + 1) / 2], bitmaps);
        for (int plane = planes[(i + 1) / 2]; plane-- > 0;) {
            t.bits[0] = bitmaps + (size_t)plane * t.rows * words_of(t.columns);
            w = put_plane(w, &t);
        }
    }
    for (int i = 0; i < 3; i++)
        to[22 + i] = (uint8_t)planes[i];
    w = finish(put(w, 0, 4));
    w = finish(put_signs(w, coefficients, n));
    return w.full ? -1 : w.at - to;
}
