#include "hcompress_smooth.h"

#include "hcompress_tree.h"
#include "least.h"

/* A difference, of which `expected` is `parts` times what the neighbours let expect, moves there by at most `limit`;
 * `low` and `high` bound what is expected. */
static inline int64_t drawn(int64_t difference, int64_t expected, int64_t low, int64_t high, int64_t parts,
                            int64_t limit)
{
    if (low >= high)
        return difference;
    const int64_t change = (greatest(least(expected, high), low) - difference * parts) / parts;
    return difference + greatest(least(change, limit), -limit);
}

/* A difference in one direction, from the sums before, here and after. */
static inline int64_t drawn_to_slope(int64_t difference, int64_t before, int64_t here, int64_t after, int64_t limit)
{
    const int64_t to = here - before, from = after - here;
    return drawn(difference, after - before, 4 * least(greatest(to, from), 0), 4 * greatest(least(to, from), 0), 8, limit);
}

/* A difference in both directions, from the sums here and at the four corners, upper left first, and from the two
 * other differences. */
static inline int64_t drawn_to_corners(int64_t difference, int64_t here, const int64_t corners[4], int64_t down,
                                       int64_t across, int64_t limit)
{
    const int64_t sum = 2 * (down + across), other = 2 * (down - across);
    const int64_t rise[4] = {corners[0] - here, here - corners[1], here - corners[2], corners[3] - here};
    const int64_t offset[4] = {sum, -other, other, -sum};
    int64_t low = INT64_MIN, high = INT64_MAX;
    for (int k = 0; k < 4; k++) {
        high = least(high, greatest(rise[k], 0) + offset[k]);
        low = greatest(low, least(rise[k], 0) + offset[k]);
    }
    return drawn(difference, corners[3] + corners[0] - corners[1] - corners[2], 16 * low, 16 * high, 64, limit);
}

void tf_hcompress_smooth(int64_t *coefficients, const int64_t *sums, size_t image_rows, size_t image_columns, int level,
                         int64_t scale)
{
    const size_t rows = nodes(image_rows, level), columns = nodes(image_columns, level);
    const size_t width = half(columns), height = half(rows);
    /* of the rows, and columns, of sums, those with neighbours and pixels on both sides */
    const size_t last_row = rows < 3 ? 0 : half(rows - 2), last_column = columns < 3 ? 0 : half(columns - 2);
    const int64_t limit = scale / 2;
    int64_t *down = coefficients + height * image_columns, *across = coefficients + width, *both = down + width;

    for (size_t i = 1; i < last_row; i++)
        for (size_t j = 0; j < width; j++) {
            const int64_t *at = sums + i * width + j;
            int64_t *d = down + i * image_columns + j;
            *d = drawn_to_slope(*d, at[-(ptrdiff_t)width], *at, at[width], limit);
        }
    for (size_t i = 0; i < height; i++)
        for (size_t j = 1; j < last_column; j++) {
            const int64_t *at = sums + i * width + j;
            int64_t *d = across + i * image_columns + j;
            *d = drawn_to_slope(*d, at[-1], *at, at[1], limit);
        }
    for (size_t i = 1; i < last_row; i++)
        for (size_t j = 1; j < last_column; j++) {
            const int64_t *at = sums + i * width + j, *above = at - width, *below = at + width;
            const int64_t corners[4] = {above[-1], above[1], below[-1], below[1]};
            const size_t k = i * image_columns + j;
            both[k] = drawn_to_corners(both[k], *at, corners, down[k], across[k], limit);
        }
}
