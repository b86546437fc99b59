/* Coefficients and the inverse transform of hcompress.c, in NUMBERs of 32 or 64 bits, written for the compiler to
 * vectorise. Included once per variant and NUMBER, NAMED(name) naming the two. */

/* As many columns as a register holds, and how many make 32. */
typedef NUMBER NAMED(group) __attribute__((vector_size(VECTOR_BYTES)));
#define LANES (VECTOR_BYTES / sizeof(NUMBER))
#define GROUPS (32 / LANES)

/* 32 coefficients of a row of a quadrant, of whose `planes` the words lie `stride` apart. The signs come one for each
 * that is not zero. `column` has the bit of each column. */
static inline void NAMED(read_piece)(const uint32_t *words, size_t stride, size_t planes,
                                     const NAMED(group) column[GROUPS], bit_stream *signs, NUMBER *to)
{
    NAMED(group) value[GROUPS] = {{0}};
    uint32_t set = 0;
    for (; planes > 0 && *words == 0; planes--)
        words += stride;
    for (; planes > 0; planes--, words += stride) {
        set |= *words;
        for (size_t k = 0; k < GROUPS; k++)
            value[k] += value[k] - (((NUMBER)*words & column[k]) == column[k]);
    }
    const NUMBER negative = (NUMBER)spread(take(signs, __builtin_popcount(set)), set);
    for (size_t k = 0; k < GROUPS; k++) {
        const NAMED(group) sign = (negative & column[k]) == column[k];
        value[k] = (value[k] ^ sign) - sign;
    }
    memcpy(to, value, sizeof value);
}

/* All coefficients, in `rows` by `columns`: the quadrants side by side, the signs row by row. */
static int NAMED(read_values)(const tile *t, bit_stream *signs, void *coefficients)
{
    NUMBER *to = coefficients, piece[32];
    const NUMBER scale = (NUMBER)t->scale;
    NAMED(group) column[GROUPS];
    for (size_t j = 0; j < 32; j++)
        column[j / LANES][j % LANES] = (NUMBER)((uint32_t)1 << (31 - j));
    for (size_t i = 0; i < t->rows; i++) {
        const int below = i >= half(t->rows);
        for (int k = 0; k < 2; k++) {
            const quadrant *q = &t->quadrants[2 * below + k];
            const uint32_t *row = q->bits + (below ? i - half(t->rows) : i) * q->words;
            for (size_t left = q->columns; left > 0; row++) {
                const size_t n = left < 32 ? left : 32;
                NAMED(read_piece)(row, q->rows * q->words, q->planes, column, signs, n == 32 ? to : piece);
                if (n < 32)
                    memcpy(to, piece, n * sizeof *to);
                for (size_t j = 0; scale > 1 && j < n; j++)
                    to[j] *= scale;
                to += n;
                left -= n;
            }
        }
        if (is_past_end(signs))
            return -1;
    }
    return 0;
}

/* To a multiple of -mask, a power of two. */
static inline NUMBER NAMED(rounded)(NUMBER x, NUMBER up, NUMBER down, NUMBER mask)
{
    return (x + (x >= 0 ? up : down)) & mask;
}

static inline NUMBER NAMED(towards_zero)(NUMBER x, NUMBER by)
{
    return x >= 0 ? x - by : x + by;
}

/* How a step rounds: differences of one kind to multiples of 2 * bit, those of both to multiples of bit. */
typedef struct {
    NUMBER bit;
    NUMBER up, down; /* what is added to those of both, positive or negative, before they are cut */
    int shift;       /* of the results */
} NAMED(rounding);

/* Two rows of 2n numbers from n sums, and their differences down, across, and both. */
static void NAMED(invert_rows)(const NUMBER *restrict sums, const NUMBER *restrict down, const NUMBER *restrict across,
                               const NUMBER *restrict both, NUMBER *restrict upper, NUMBER *restrict lower, size_t n,
                               NAMED(rounding) r)
{
    const NUMBER bit = r.bit, next = 2 * r.bit;
    for (size_t j = 0; j < n; j++) {
        const NUMBER c = NAMED(rounded)(both[j], r.up, r.down, -bit), low = c & bit;
        const NUMBER x = NAMED(towards_zero)(NAMED(rounded)(down[j], bit, bit - 1, -next), low);
        const NUMBER y = NAMED(towards_zero)(NAMED(rounded)(across[j], bit, bit - 1, -next), low);
        const NUMBER low_next = (c ^ x ^ y) & next;
        const NUMBER h = sums[j] + low + (sums[j] >= 0 || low != 0 ? -low_next : low_next);
        upper[2 * j] = (h - x - y + c) >> r.shift;
        upper[2 * j + 1] = (h - x + y - c) >> r.shift;
        lower[2 * j] = (h + x - y - c) >> r.shift;
        lower[2 * j + 1] = (h + x + y + c) >> r.shift;
    }
}

/* At an edge: n pairs from n sums and one difference each, to every other place. */
static void NAMED(invert_edge)(const NUMBER *sums, const NUMBER *differences, NUMBER *first, NUMBER *second, size_t n,
                               NAMED(rounding) r)
{
    const NUMBER next = 2 * r.bit;
    for (size_t j = 0; j < n; j++) {
        const NUMBER d = NAMED(rounded)(differences[j], r.bit, r.bit - 1, -next);
        const NUMBER h = NAMED(towards_zero)(sums[j], d & next);
        first[2 * j] = (h - d) >> r.shift;
        second[2 * j] = (h + d) >> r.shift;
    }
}

/* One step of the inverse transform: sums and coefficients become sums of a level with twice the sides, `level` above
 * the pixels. */
static void NAMED(invert_step)(const tile *t, int level, const void *coefficients, const void *sums, void *to)
{
    const size_t rows = nodes(t->rows, level), columns = nodes(t->columns, level);
    const size_t pairs = columns / 2, left = half(columns);
    const NUMBER bit = (NUMBER)1 << level;
    const NAMED(rounding) r = {bit, bit / 2, level == 0 ? 0 : bit / 2 - 1, level == 0 ? 2 : 1};
    const NUMBER *sum = sums, *across = (const NUMBER *)coefficients + left;
    const NUMBER *down = (const NUMBER *)coefficients + half(rows) * t->columns;
    NUMBER *upper = to;

    for (size_t i = 0; i < rows / 2; i++) {
        NUMBER *lower = upper + columns;
        NAMED(invert_rows)(sum, down, across, down + left, upper, lower, pairs, r);
        if (left > pairs)
            NAMED(invert_edge)(sum + pairs, down + pairs, upper + 2 * pairs, lower + 2 * pairs, 1, r);
        sum += left;
        across += t->columns;
        down += t->columns;
        upper += 2 * columns;
    }
    if (rows % 2 != 0) {
        NAMED(invert_edge)(sum, across, upper, upper + 1, pairs, r);
        if (left > pairs)
            upper[2 * pairs] = sum[pairs] >> r.shift;
    }
}

#undef LANES
#undef GROUPS
