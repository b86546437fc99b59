/* The loops of noise.c, included for each variant and each type: REAL, whose bits are a BITS, ALL_BITS but the sign.
 * NAME(name) is the name then. Reals without a sign are in order as their bits are. */

static inline REAL NAME(real_of)(BITS bits)
{
    REAL real;
    memcpy(&real, &bits, sizeof real);
    return real;
}

static inline BITS NAME(bits_of)(REAL real)
{
    BITS bits;
    memcpy(&bits, &real, sizeof bits);
    return bits;
}

static tf_range NAME(range_of)(const void *pixels, size_t n)
{
    const REAL *real = pixels;
    REAL low[LANES], high[LANES];
    BITS count[LANES] = {0};
    size_t i = 0;
    for (size_t k = 0; k < LANES; k++) {
        low[k] = LARGEST;
        high[k] = -LARGEST;
    }
    for (; i + LANES <= n; i += LANES)
        for (size_t k = 0; k < LANES; k++) {
            const REAL x = real[i + k];
            low[k] = x < low[k] ? x : low[k];
            high[k] = x > high[k] ? x : high[k];
            count[k] += x == x;
        }
    for (size_t k = 0; i < n; i++, k++) {
        const REAL x = real[i];
        low[k] = x < low[k] ? x : low[k];
        high[k] = x > high[k] ? x : high[k];
        count[k] += x == x;
    }
    tf_range range = {LARGEST, -LARGEST, 0};
    for (size_t k = 0; k < LANES; k++) {
        range.lowest = low[k] < range.lowest ? low[k] : range.lowest;
        range.highest = high[k] > range.highest ? high[k] : range.highest;
        range.count += (size_t)count[k];
    }
    return range;
}

/* The pixels of a row that are no NaN; how many there are. */
static size_t NAME(good_pixels)(const REAL *row, size_t n, REAL *good)
{
    size_t count = 0;
    for (size_t i = 0; i < n; i++) {
        good[count] = row[i];
        count += row[i] == row[i];
    }
    return count;
}

/* ---------------------------------------------------------------------------- differences */

static inline int NAME(is_flat)(const REAL *x)
{
    return (x[4] == x[5]) & (x[5] == x[6]);
}

static inline int NAME(is_flat_too)(const REAL *x)
{
    return (x[2] == x[3]) & (x[3] == x[4]);
}

static inline BITS NAME(difference2)(const REAL *x)
{
    return NAME(bits_of)(x[4] - x[6]) & ALL_BITS;
}

static inline BITS NAME(difference3)(const REAL *x)
{
    return NAME(bits_of)(2 * x[4] - x[2] - x[6]) & ALL_BITS;
}

static inline BITS NAME(difference5)(const REAL *x)
{
    return NAME(bits_of)(6 * x[4] - 4 * x[2] - 4 * x[6] + x[0] + x[8]) & ALL_BITS;
}

/* The n absolute differences of each order, from n + 8 pixels, without those within constant stretches. */
static void NAME(differences)(const REAL *restrict row, size_t n, BITS *restrict second, BITS *restrict third,
                              BITS *restrict fifth, size_t *seconds, size_t *others)
{
    size_t some = 0, most = 0;
    for (size_t first = 0; first < n; first += STRETCH) {
        const size_t count = n - first < STRETCH ? n - first : STRETCH;
        const REAL *x = row + first;
        int flat = 0;
        for (size_t i = 0; i < count; i++) {
            second[some + i] = NAME(difference2)(x + i);
            third[most + i] = NAME(difference3)(x + i);
            fifth[most + i] = NAME(difference5)(x + i);
            flat |= NAME(is_flat)(x + i);
        }
        if (!flat) {
            some += count;
            most += count;
            continue;
        }
        for (size_t i = 0; i < count; i++) {
            const int skip = NAME(is_flat)(x + i);
            second[some] = NAME(difference2)(x + i);
            third[most] = NAME(difference3)(x + i);
            fifth[most] = NAME(difference5)(x + i);
            some += !skip;
            most += !(skip & NAME(is_flat_too)(x + i));
        }
    }
    *seconds = some;
    *others = most;
}

/* ---------------------------------------------------------------------------- medians */

static inline int NAME(is_above)(BITS a, BITS b)
{
    return NAME(real_of)(a) > NAME(real_of)(b);
}

static inline void NAME(swap)(BITS *a, BITS *b)
{
    const BITS bits = *a;
    *a = *b;
    *b = bits;
}

static inline void NAME(put_in_order)(BITS *low, BITS *high)
{
    if (NAME(is_above)(*low, *high))
        NAME(swap)(low, high);
}

/* How many of n are at most `most`. */
static size_t NAME(count_to)(const BITS *from, size_t n, BITS most)
{
    BITS above = 0;
    for (size_t i = 0; i < n; i++)
        above += from[i] > most;
    return n - (size_t)above;
}

/* The one that has `rank` others before it, of n that lie within low..high. Takes no more steps than it has bits. */
static BITS NAME(bisect)(const BITS *from, size_t n, size_t rank, BITS low, BITS high)
{
    while (low < high) {
        const BITS middle = low + (high - low) / 2;
        if (NAME(count_to)(from, n, middle) > rank)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

/* The numbers that lie within low..high to `to`; how many lie below. Up to PACK_SPARE bytes behind the last one are
 * written too. */
static size_t NAME(pack)(const BITS *from, size_t n, BITS low, BITS high, BITS *to, size_t *below)
{
    const packing vectors = NAME(pack_vectors)(from, n, low, high, to);
    size_t packed = vectors.packed, lower = vectors.below;
    for (size_t i = vectors.taken; i < n; i++) {
        const BITS bits = from[i];
        to[packed] = bits;
        packed += (size_t)(bits - low) <= (size_t)(high - low);
        lower += (size_t)(bits < low);
    }
    *below = lower;
    return packed;
}

/* What is sought, which has `rank` others before it, is among n numbers and lies within low..high. */
typedef struct {
    const BITS *from;
    size_t n, rank;
    BITS low, high;
} NAME(search);

/* Narrows the search to what lies within `spread` of `near`; 0 where it is not there. */
static int NAME(narrow)(NAME(search) *s, BITS near, BITS spread, BITS *room)
{
    const BITS low = near - s->low > spread ? near - spread : s->low;
    const BITS high = s->high - near > spread ? near + spread : s->high;
    size_t below;
    const size_t n = NAME(pack)(s->from, s->n, low, high, room, &below);
    if (s->rank < below || s->rank >= below + n)
        return 0;
    *s = (NAME(search)){room, n, s->rank - below, low, high};
    return 1;
}

/* The one of n that has `rank` others before it. It is sought near the guess at first, then, among what lies there,
 * where it would be if that were spread evenly. */
static BITS NAME(select)(const BITS *from, size_t n, size_t rank, double *guess, BITS *const room[2])
{
    NAME(search) s = {from, n, rank, 0, ALL_BITS};
    BITS near = NAME(bits_of)((REAL)*guess) & ALL_BITS;
    BITS spread = (BITS)((double)((BITS)1 << FRACTION_BITS) * 8 / sqrt((double)n));
    const int found = NAME(narrow)(&s, near, spread, room[0]);
    if (!found)
        do
            spread = spread < ALL_BITS / 8 ? 8 * spread + 1 : ALL_BITS;
        while (!NAME(narrow)(&s, near, spread, room[0]));
    for (int to = 1; s.n > FEW && s.low < s.high; to = !to) {
        const double width = (double)(s.high - s.low), count = (double)s.n;
        near = s.low + (BITS)(width * ((double)s.rank + 0.5) / count);
        if (!NAME(narrow)(&s, near, (BITS)(2 * width / sqrt(count)), room[to]))
            break;
    }
    const BITS bits = NAME(bisect)(s.from, s.n, s.rank, s.low, s.high);
    const double real = NAME(real_of)(bits);
    *guess = found ? 0.75 * *guess + 0.25 * real : real;
    return bits;
}

/* The same by the steps that cfitsio takes, of which `from` is left in the same order. Goes by the order of reals, in
 * which NaN is neither above nor below any other. */
static BITS NAME(select_as_cfitsio)(BITS *from, size_t n, size_t rank)
{
    size_t first = 0, last = n - 1;
    while (first + 1 < last) {
        const size_t middle = (first + last) / 2;
        NAME(put_in_order)(&from[middle], &from[last]);
        NAME(put_in_order)(&from[first], &from[last]);
        NAME(put_in_order)(&from[middle], &from[first]);
        NAME(swap)(&from[middle], &from[first + 1]);
        /* the median of the three divides the others: none above it stays before it, none below it behind it */
        size_t up = first + 1, down = last;
        for (;;) {
            do
                up++;
            while (NAME(is_above)(from[first], from[up]));
            do
                down--;
            while (NAME(is_above)(from[down], from[first]));
            if (down < up)
                break;
            NAME(swap)(&from[up], &from[down]);
        }
        NAME(swap)(&from[first], &from[down]);
        if (down <= rank)
            first = up;
        if (down >= rank)
            last = down - 1;
    }
    if (first + 1 == last)
        NAME(put_in_order)(&from[first], &from[last]);
    return from[rank];
}

/* ---------------------------------------------------------------------------- rows */

/* The lower median of differences, as a double, whose bits go to `to`. */
static void NAME(put_median)(int64_t *to, BITS *from, size_t n, int literal, double *guess, BITS *const room[2])
{
    const size_t rank = (n - 1) / 2;
    const BITS bits = literal ? NAME(select_as_cfitsio)(from, n, rank) : NAME(select)(from, n, rank, guess, room);
    const double median = NAME(real_of)(bits);
    memcpy(to, &median, sizeof median);
}

/* Puts the median for each row and order to r->medians, where there is one. cfitsio takes as many differences of the
 * second order as there are of the others; where there are fewer, the rest are zeros or what it left there at the row
 * before. -1 where that is so and it is not to be literal. */
static int NAME(medians_of_rows)(const void *pixels, size_t columns, size_t rows, int nulls, int literal,
                                 tf_noise_guess *guess, rooms *r)
{
    const REAL *row = pixels;
    BITS *second = r->differences[0], *third = r->differences[1], *fifth = r->differences[2];
    BITS *const room[2] = {r->packed[0], r->packed[1]};
    r->medians_of_second = r->medians_of_others = 0;
    memset(second, 0, columns * sizeof *second);
    for (size_t i = 0; i < rows; i++, row += columns) {
        size_t seconds, others;
        const size_t n = nulls ? NAME(good_pixels)(row, columns, r->good) : columns;
        if (n < SHORTEST_ROW)
            continue;
        NAME(differences)(nulls ? r->good : row, n - SHORTEST_ROW + 1, literal ? room[0] : second, third, fifth,
                          &seconds, &others);
        if (others == 0)
            continue;
        if (literal)
            memcpy(second, room[0], seconds * sizeof *second);
        if (seconds > 1 || (seconds == 1 && others == 1)) {
            if (seconds < others && !literal) {
                if (i > 0)
                    return -1;
                memset(second + seconds, 0, (others - seconds) * sizeof *second);
            }
            int64_t *to = &r->medians[0][r->medians_of_second++];
            NAME(put_median)(to, second, others, literal, &guess->differences[0], room);
        }
        const size_t median = r->medians_of_others++;
        NAME(put_median)(&r->medians[1][median], third, others, literal, &guess->differences[1], room);
        NAME(put_median)(&r->medians[2][median], fifth, others, literal, &guess->differences[2], room);
    }
    return 0;
}
