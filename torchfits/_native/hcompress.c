#include "hcompress.h"

#include <string.h>

#include "hcompress_smooth.h"
#include "hcompress_tree.h"
#include "pixels.h"

#define PLANES_MAX 57
#define SMOOTH_MAX 52   /* of coefficients that are smoothed */
#define NARROW_MAX ((int64_t)1 << 30)

static const char *const cut = "ends before its pixels do";
static const char *const foreign = "has a code that no encoder writes";

/* ---------------------------------------------------------------------------- bits, the most significant one first */

typedef struct {
    const uint8_t *next, *end;
    uint64_t word;   /* the next bits, left-aligned */
    int have;        /* how many of them count */
    uint64_t beyond; /* bytes of zeros that were added after the end */
} bit_stream;

static inline uint64_t be64(const uint8_t *p)
{
    return (uint64_t)p[0] << 56 | (uint64_t)p[1] << 48 | (uint64_t)p[2] << 40 | (uint64_t)p[3] << 32 |
           (uint64_t)p[4] << 24 | (uint64_t)p[5] << 16 | (uint64_t)p[6] << 8 | (uint64_t)p[7];
}

static inline uint32_t be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | (uint32_t)p[3];
}

/* 56 bits or more. What lies below `have` are the bits that come next, so that they may be added once more. */
static inline bit_stream refill(bit_stream b)
{
    if (b.end - b.next >= 8) {
        b.word |= be64(b.next) >> b.have;
        b.next += (63 - b.have) >> 3;
        b.have |= 56;
        return b;
    }
    for (; b.have <= 56; b.have += 8) {
        if (b.next < b.end)
            b.word |= (uint64_t)*b.next++ << (56 - b.have);
        else
            b.beyond++;
    }
    return b;
}

/* The next n bits, 0 to 32. Zeros after the end. */
static inline uint32_t take(bit_stream *b, int n)
{
    if (b->have < n)
        *b = refill(*b);
    const uint32_t bits = (uint32_t)(b->word >> 32 >> (32 - n));
    b->word <<= n;
    b->have -= n;
    return bits;
}

/* Whether more was taken than there is. */
static inline int is_past_end(const bit_stream *b)
{
    return 8 * b->beyond > (uint64_t)b->have;
}

/* ---------------------------------------------------------------------------- bit planes */

/* A quadrant of the coefficients: bitmaps of its bit planes, the highest first. */
typedef struct {
    size_t rows, columns, words;
    size_t planes;
    uint32_t *bits;
} quadrant;

/* The bits of the last word that stand for columns. */
static uint32_t edge_of(size_t columns)
{
    return ~(uint32_t)0 << (32 * words_of(columns) - columns);
}

/* The next code: 2 x 2 bits, those of the upper row first. */
static inline uint32_t take_code(bit_stream *b)
{
    /* six bits -> length << 4 | code */
    static const uint8_t codes[64] = {
        0x31, 0x31, 0x31, 0x31, 0x31, 0x31, 0x31, 0x31, 0x32, 0x32, 0x32, 0x32, 0x32, 0x32, 0x32, 0x32,
        0x34, 0x34, 0x34, 0x34, 0x34, 0x34, 0x34, 0x34, 0x38, 0x38, 0x38, 0x38, 0x38, 0x38, 0x38, 0x38,
        0x43, 0x43, 0x43, 0x43, 0x45, 0x45, 0x45, 0x45, 0x4a, 0x4a, 0x4a, 0x4a, 0x4c, 0x4c, 0x4c, 0x4c,
        0x4f, 0x4f, 0x4f, 0x4f, 0x56, 0x56, 0x57, 0x57, 0x59, 0x59, 0x5b, 0x5b, 0x5d, 0x5d, 0x60, 0x6e,
    };
    if (b->have < 6)
        *b = refill(*b);
    const uint32_t entry = codes[b->word >> 58];
    b->word <<= entry >> 4;
    b->have -= (int)(entry >> 4);
    return entry;
}

/* The children of 32 nodes, last one first: a code for each node that is set. */
static inline bit_stream take_children(bit_stream b, uint32_t parents, uint64_t *upper, uint64_t *lower)
{
    uint64_t u = 0, l = 0;
    for (; parents != 0; parents &= parents - 1) {
        const int at = 2 * __builtin_ctz(parents);
        const uint64_t code = take_code(&b);
        u |= (code >> 2 & 3) << at;
        l |= (code & 3) << at;
    }
    *upper = u;
    *lower = l;
    return b;
}

/* One level of a quadtree, `rows` by `columns`, from the one above it, last row first. `spare` takes a row beyond the
 * last one. */
static int read_level(bit_stream *from, const uint32_t *parents, uint32_t *to, size_t rows, size_t columns,
                      uint32_t *spare)
{
    const size_t words = words_of(columns), parent_words = words_of(half(columns));
    const uint32_t edge = edge_of(columns);
    bit_stream b = *from;
    for (size_t i = half(rows); i-- > 0;) {
        uint32_t *upper = to + 2 * i * words, *lower = 2 * i + 1 < rows ? upper + words : spare;
        for (size_t k = parent_words; k-- > 0;) {
            uint64_t u, l;
            b = take_children(b, parents[i * parent_words + k], &u, &l);
            upper[2 * k] = (uint32_t)(u >> 32);
            lower[2 * k] = (uint32_t)(l >> 32);
            if (2 * k + 1 < words) {
                upper[2 * k + 1] = (uint32_t)u;
                lower[2 * k + 1] = (uint32_t)l;
            }
        }
        upper[words - 1] &= edge;
        lower[words - 1] &= edge;
        if (is_past_end(&b))
            return -1;
    }
    *from = b;
    return 0;
}

/* A bit plane written as it is: 2 x 2 bits, then the next to the right. */
static int read_direct(bit_stream *from, uint32_t *to, size_t rows, size_t columns, uint32_t *spare)
{
    const size_t words = words_of(columns);
    const uint32_t edge = edge_of(columns);
    bit_stream b = *from;
    for (size_t i = 0; i < half(rows); i++) {
        uint32_t *upper = to + 2 * i * words, *lower = 2 * i + 1 < rows ? upper + words : spare;
        size_t left = half(columns);
        for (size_t k = 0; k < words; k++) {
            uint32_t u = 0, l = 0;
            for (int high = 16; high >= 0; high -= 16) {
                const int n = left < 8 ? (int)left : 8;
                const uint32_t bits = (uint32_t)((uint64_t)take(&b, 4 * n) << (32 - 4 * n));
                u |= gather_pairs(bits >> 2) << high;
                l |= gather_pairs(bits) << high;
                left -= (size_t)n;
            }
            upper[k] = u;
            lower[k] = l;
        }
        upper[words - 1] &= edge;
        lower[words - 1] &= edge;
        if (is_past_end(&b))
            return -1;
    }
    *from = b;
    return 0;
}

/* `levels` are two places for what is above the plane itself, each as large as the plane. */
static int read_tree(bit_stream *b, uint32_t *to, size_t rows, size_t columns, uint32_t *const levels[2],
                     uint32_t *spare)
{
    static const uint32_t root[1] = {(uint32_t)1 << 31};
    const uint32_t *parents = root;
    /* a single pixel has a root above it, too */
    int level = rows * columns == 1 ? 1 : levels_of(rows, columns);
    while (level-- > 0) {
        uint32_t *target = level == 0 ? to : levels[level & 1];
        if (read_level(b, parents, target, nodes(rows, level), nodes(columns, level), spare) != 0)
            return -1;
        parents = target;
    }
    return 0;
}

static const char *read_planes(bit_stream *b, const quadrant *q, uint32_t *const levels[2], uint32_t *spare)
{
    for (size_t i = 0; i < q->planes; i++) {
        uint32_t *plane = q->bits + i * q->rows * q->words;
        const uint32_t form = take(b, 4);
        if (form != 0 && form != 15)
            return is_past_end(b) ? cut : foreign;
        if ((form == 0 ? read_direct(b, plane, q->rows, q->columns, spare)
                       : read_tree(b, plane, q->rows, q->columns, levels, spare)) != 0)
            return cut;
    }
    return NULL;
}

/* ---------------------------------------------------------------------------- coefficients and pixels */

/* A tile and what is read of it. */
typedef struct {
    size_t rows, columns;
    int64_t scale;
    int64_t sum;
    int steps; /* of the transform */
    quadrant quadrants[4];
} tile;

/* Bits, from the lowest one on, at the places that are set in `mask`, from the lowest one on; rubbish at the others
 * (Hacker's Delight, section 7-5). */
static inline uint32_t spread(uint32_t bits, uint32_t mask)
{
    uint32_t moves[5], zeros = ~mask << 1;
    for (int i = 0; i < 5; i++) {
        uint32_t odd = zeros ^ zeros << 1;
        odd ^= odd << 2;
        odd ^= odd << 4;
        odd ^= odd << 8;
        odd ^= odd << 16;
        moves[i] = odd & mask;
        mask = (mask ^ moves[i]) | moves[i] >> (1 << i);
        zeros &= ~odd;
    }
    for (int i = 4; i >= 0; i--)
        bits = (bits & ~moves[i]) | (bits << (1 << i) & moves[i]);
    return bits;
}

#define KERNELS "hcompress_kernels.h"

#define NUMBER int32_t
#define NAMED(name) KERNEL(name##_32)
#include "variants.h"
#undef NUMBER
#undef NAMED

#define NUMBER int64_t
#define NAMED(name) KERNEL(name##_64)
#include "variants.h"

typedef struct {
    int (*read_values)(const tile *t, bit_stream *signs, void *coefficients);
    void (*invert_step)(const tile *t, int level, const void *coefficients, const void *sums, void *to);
} kernels;

static kernels kernels_for(int wide)
{
    static const kernels portable[2] = {{read_values_32_portable, invert_step_32_portable},
                                        {read_values_64_portable, invert_step_64_portable}};
#ifdef HAVE_AVX2
    static const kernels avx2[2] = {{read_values_32_avx2, invert_step_32_avx2},
                                    {read_values_64_avx2, invert_step_64_avx2}};
    if (tf_uses_avx2())
        return avx2[wide];
#endif
    return portable[wide];
}

/* ---------------------------------------------------------------------------- tiles */

static int bits_of(uint64_t n)
{
    return n == 0 ? 0 : 64 - __builtin_clzll(n);
}

/* What the header of a stream says of a tile, checked against its sides. */
static const char *read_header(const uint8_t *stream, size_t size, uint64_t rows, uint64_t columns, int smooth, tile *t)
{
    if (size < TF_HCOMPRESS_HEADER)
        return cut;
    if (stream[0] != 0xdd || stream[1] != 0x99)
        return "does not begin as HCOMPRESS_1 does";
    t->rows = be32(stream + 2);
    t->columns = be32(stream + 6);
    if (!(t->rows == rows && t->columns == columns) && !(t->rows == columns && t->columns == rows))
        return "holds pixels of another tile shape";
    if (rows < 2 || columns < 2 || rows > INT32_MAX / columns)
        return "has sides that HCOMPRESS_1 does not do";
    const int32_t scale = (int32_t)be32(stream + 10);
    const int64_t sum = (int64_t)be64(stream + 14);
    t->scale = scale > 1 ? scale : 1;
    t->steps = levels_of(t->rows, t->columns);

    int planes = 0;
    for (int i = 0; i < 4; i++) {
        quadrant *q = &t->quadrants[i];
        q->rows = quadrant_rows(t->rows, i);
        q->columns = quadrant_columns(t->columns, i);
        q->words = words_of(q->columns);
        q->planes = stream[22 + (i + 1) / 2];
        planes = (int)q->planes > planes ? (int)q->planes : planes;
    }
    const int scale_bits = t->scale > 1 ? bits_of((uint64_t)t->scale) : 0, limit = smooth ? SMOOTH_MAX : PLANES_MAX;
    const uint64_t size_of_sum = sum < 0 ? -(uint64_t)sum : (uint64_t)sum;
    if (planes + scale_bits > limit || bits_of(size_of_sum) + scale_bits > limit)
        return "has coefficients that no encoder writes";
    t->sum = sum * t->scale;
    return NULL;
}

/* Whether no number of the transform exceeds 32 bits. A step's results are at most half the size of its sums and three
 * differences, each of which is rounded to a bit of at most 2^steps. */
static int is_narrow(const tile *t)
{
    const int64_t bit = (int64_t)1 << t->steps;
    int64_t highest = 0;
    for (int i = 0; i < 4; i++) {
        const int64_t value = t->quadrants[i].planes > 31 ? NARROW_MAX
                                                           : (((int64_t)1 << t->quadrants[i].planes) - 1) * t->scale;
        highest = value > highest ? value : highest;
    }
    const int64_t sum = t->sum < 0 ? -t->sum : t->sum;
    return 3 * highest + 8 * bit < NARROW_MAX && sum + 2 * bit < NARROW_MAX;
}

/* ---------------------------------------------------------------------------- memory */

static size_t bitmap_words(size_t rows, size_t columns)
{
    return half(rows) * words_of(half(columns));
}

static size_t scratch_for(size_t rows, size_t columns)
{
    const size_t n = rows * columns;
    const size_t quarter = half(rows) * half(columns);
    const size_t bitmaps = (4 * PLANES_MAX + 2) * bitmap_words(rows, columns) + words_of(half(columns));
    return (2 * n + 2 * quarter) * sizeof(int64_t) + bitmaps * sizeof(uint32_t);
}

size_t tf_hcompress_decode_scratch(uint64_t rows, uint64_t columns)
{
    const size_t as_is = scratch_for(rows, columns), swapped = scratch_for(columns, rows);
    return as_is > swapped ? as_is : swapped;
}

const char *tf_hcompress_decode(const uint8_t *stream, size_t size, uint64_t rows, uint64_t columns, int smooth,
                                int32_t *to, void *scratch)
{
    tile t;
    const char *wrong = read_header(stream, size, rows, columns, smooth, &t);
    if (wrong)
        return wrong;

    const size_t n = t.rows * t.columns;
    int64_t *coefficients = scratch, *pixels = coefficients + n;
    int64_t *sums[2] = {pixels + n, pixels + n + half(t.rows) * half(t.columns)};
    uint32_t *bitmaps = (uint32_t *)(sums[1] + half(t.rows) * half(t.columns));
    uint32_t *const levels[2] = {bitmaps, bitmaps + bitmap_words(t.rows, t.columns)};
    uint32_t *spare = levels[1] + bitmap_words(t.rows, t.columns);

    bitmaps = spare + words_of(half(t.columns));
    bit_stream b = {stream + TF_HCOMPRESS_HEADER, stream + size, 0, 0, 0};
    for (int i = 0; i < 4; i++) {
        quadrant *q = &t.quadrants[i];
        q->bits = bitmaps;
        bitmaps += q->planes * q->rows * q->words;
        wrong = read_planes(&b, q, levels, spare);
        if (wrong)
            return wrong;
    }
    /* four zeros, and the signs from the next byte on */
    const uint32_t end = take(&b, 4);
    if (is_past_end(&b))
        return cut;
    if (end != 0)
        return foreign;
    take(&b, b.have % 8);

    const int wide = smooth || !is_narrow(&t);
    const kernels run = kernels_for(wide);
    if (run.read_values(&t, &b, coefficients) != 0)
        return cut;

    /* the sum stands in the header, rounded to a multiple of 2^(steps + 1) */
    const int64_t bit = (int64_t)1 << t.steps;
    const int64_t first = (t.sum + bit - (t.sum < 0)) & -(2 * bit);
    if (wide)
        *sums[0] = first;
    else
        *(int32_t *)sums[0] = (int32_t)first;
    for (int level = t.steps - 1, k = 0; level >= 0; level--, k ^= 1) {
        void *target = level > 0 ? (void *)sums[k ^ 1] : wide ? (void *)pixels : (void *)to;
        if (smooth && t.scale > 1)
            tf_hcompress_smooth(coefficients, sums[k], t.rows, t.columns, level, t.scale);
        run.invert_step(&t, level, coefficients, sums[k], target);
    }
    for (size_t i = 0; wide && i < n; i++)
        to[i] = (int32_t)pixels[i];
    return NULL;
}
