#include "inflate.h"

#include <string.h>

#include "pixels.h"

/* ---------------------------------------------------------------------------- bits, the least significant one first */

/* The next `n` of `bits` are those before `at`; what stands above them is of the stream, too, or zeros. Behind the end
 * come zeros, and are counted. */
typedef struct {
    const uint8_t *start, *at, *end;
    uint64_t bits, behind;
    unsigned n;
} reader;

static inline uint64_t load_word(const uint8_t *at)
{
    uint64_t word;
    memcpy(&word, at, sizeof word);
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    return __builtin_bswap64(word);
#else
    return word;
#endif
}

/* Makes `n` 56 at least. */
static inline void refill(reader *r)
{
    if (r->end - r->at >= 8) {
        r->bits |= load_word(r->at) << r->n;
        r->at += (63 - r->n) >> 3;
        r->n |= 56;
        return;
    }
    for (; r->n <= 56; r->n += 8) {
        if (r->at < r->end)
            r->bits |= (uint64_t)*r->at++ << r->n;
        else
            r->behind += 8;
    }
}

static inline uint64_t first_bits(const reader *r, unsigned n)
{
    return r->bits & (((uint64_t)1 << n) - 1);
}

static inline unsigned take(reader *r, unsigned n)
{
    const uint64_t bits = first_bits(r, n);
    r->bits >>= n;
    r->n -= n;
    return (unsigned)bits;
}

/* How many bits of the stream were taken. */
static uint64_t position(const reader *r)
{
    return 8 * (uint64_t)(r->at - r->start) + r->behind - r->n;
}

/* A reader from this bit on, which is one of the stream or its end. */
static reader reader_from(tf_stream stream, uint64_t bit)
{
    reader r = {stream.bytes, stream.bytes + bit / 8, stream.bytes + stream.size, 0, 0, 0};
    refill(&r);
    take(&r, (unsigned)(bit % 8));
    return r;
}

/* ---------------------------------------------------------------------------- codes */

#define LONGEST_CODE 15
#define LITERALS 288
#define DISTANCES 32
/* codes of so many bits are looked up at once */
#define LITERAL_BITS 11
#define DISTANCE_BITS 9
#define LENGTH_OF_CODE_BITS 7

/* Entries of the tables. The upper half is a literal, the least length or distance, or where the table goes on for
 * longer codes; the lowest 6 bits say how many bits are taken, the 4 above the next two are those of the code alone. */
#define LITERAL 0x8000u
#define LONGER 0x4000u
#define END 0x2000u
#define NOTHING 0x1000u

/* A code of more bits shares its first ones with another one, for which there is a table of all that may follow. */
#define ROOM_FOR(count, bits) ((1 << (bits)) + (count) / 2 * (1 << (LONGEST_CODE - (bits))))

typedef struct {
    uint32_t literals[ROOM_FOR(LITERALS, LITERAL_BITS)], distances[ROOM_FOR(DISTANCES, DISTANCE_BITS)];
    int are_fixed;
} codes;

static inline void skip(reader *r, uint32_t entry)
{
    r->bits >>= entry & 63;
    r->n -= entry & 63;
}

/* The least value and what the bits after the code add. */
static inline uint32_t take_value(reader *r, uint32_t entry)
{
    const uint32_t value = (entry >> 16) + (uint32_t)(first_bits(r, entry & 63) >> (entry >> 8 & 15));
    skip(r, entry);
    return value;
}

/* The value of which `code` bits are one, with what is added by `extra` more. */
static uint32_t entry_of(uint32_t value, unsigned code, unsigned extra)
{
    return value << 16 | code << 8 | (code + extra);
}

static uint32_t literal_entry(unsigned symbol, unsigned bits)
{
    if (symbol < 256)
        return LITERAL | entry_of(symbol, 0, bits);
    if (symbol == 256)
        return END | bits;
    if (symbol > 285)
        return NOTHING | bits;
    /* 8 lengths of one value, then four each of twice as many values as those before; the last one is 258 alone */
    const unsigned i = symbol - 257, extra = i < 8 || i == 28 ? 0 : i / 4 - 1;
    return entry_of(i < 8 ? 3 + i : i == 28 ? 258 : 3 + ((4 + i % 4) << extra), bits, extra);
}

static uint32_t distance_entry(unsigned symbol, unsigned bits)
{
    if (symbol > 29)
        return NOTHING | bits;
    const unsigned extra = symbol < 4 ? 0 : symbol / 2 - 1;
    return entry_of(symbol < 4 ? 1 + symbol : 1 + ((2 + symbol % 2) << extra), bits, extra);
}

static uint32_t length_entry(unsigned symbol, unsigned bits)
{
    return entry_of(symbol, 0, bits);
}

/* The code after this one, of as many bits; its first bit is the lowest. */
static unsigned next_code(unsigned code, unsigned bits)
{
    unsigned bit = 1u << (bits - 1);
    for (; code & bit; bit >>= 1)
        code ^= bit;
    return code | bit;
}

/* For each length how many codes have one that is less, of which those of 0 are none; index 0 is for counting. */
typedef struct {
    unsigned before[LONGEST_CODE + 2], used;
    int are_complete;
} code_lengths;

/* -1 where they are those of no complete code (section 3.2.2). As in zlib, one code alone of one bit is, too. */
static int count_lengths(const uint8_t *lengths, unsigned count, code_lengths *of)
{
    unsigned total = 0;
    *of = (code_lengths){{0}, 0, 0};
    for (unsigned i = 0; i < count; i++)
        of->before[lengths[i] + 1]++;
    of->used = count - of->before[1];
    of->before[1] = 0;
    for (unsigned bits = 1; bits <= LONGEST_CODE; bits++)
        total += of->before[bits + 1] << (LONGEST_CODE - bits);
    of->are_complete = total == 1u << LONGEST_CODE;
    if (!of->are_complete && (of->used > 1 || (of->used == 1 && of->before[2] != 1)))
        return -1;
    for (unsigned bits = 2; bits <= LONGEST_CODE + 1; bits++)
        of->before[bits] += of->before[bits - 1];
    return 0;
}

/* The table for codes of these lengths, which were counted. Its first 1 << at_once entries come first. */
static void make_table(const uint8_t *lengths, unsigned count, const code_lengths *of, uint32_t *table, unsigned at_once,
                       uint32_t (*entry)(unsigned symbol, unsigned bits))
{
    unsigned places[LONGEST_CODE + 2];
    uint16_t sorted[LITERALS];
    memcpy(places, of->before, sizeof places);
    for (unsigned i = 0; i < count; i++)
        if (lengths[i])
            sorted[places[lengths[i]]++] = (uint16_t)i;
    if (!of->are_complete)
        for (unsigned i = 0; i < 1u << at_once; i++)
            table[i] = NOTHING | 1;

    const unsigned rest = LONGEST_CODE - at_once;
    unsigned code = 0, end = 1u << at_once, before = end;
    for (unsigned i = 0; i < of->used; i++) {
        const unsigned symbol = sorted[i], bits = lengths[symbol], first = code & ((1u << at_once) - 1);
        const uint32_t found = entry(symbol, bits);
        if (bits <= at_once) {
            for (unsigned k = code; k < 1u << at_once; k += 1u << bits)
                table[k] = found;
        } else {
            if (first != before) {
                table[first] = LONGER | end << 16;
                end += 1u << rest;
            }
            before = first;
            for (unsigned k = code >> at_once; k < 1u << rest; k += 1u << (bits - at_once))
                table[end - (1u << rest) + k] = found;
        }
        code = next_code(code, bits);
    }
}

/* The codes that a block begins with (section 3.2.7); -1 where there are none. */
static int read_codes(reader *r, codes *c)
{
    static const uint8_t order[] = {16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15};
    uint8_t of_lengths[sizeof order] = {0}, lengths[LITERALS + DISTANCES];
    uint32_t table[1 << LENGTH_OF_CODE_BITS];
    code_lengths of, of_distances;

    refill(r);
    const unsigned literals = 257 + take(r, 5), distances = 1 + take(r, 5), count = 4 + take(r, 4);
    if (literals > 286 || distances > 30)
        return -1;
    for (unsigned i = 0; i < count; i++) {
        refill(r);
        of_lengths[order[i]] = (uint8_t)take(r, 3);
    }
    if (count_lengths(of_lengths, sizeof order, &of) != 0)
        return -1;
    make_table(of_lengths, sizeof order, &of, table, LENGTH_OF_CODE_BITS, length_entry);
    for (unsigned i = 0; i < literals + distances;) {
        refill(r);
        const uint32_t e = table[first_bits(r, LENGTH_OF_CODE_BITS)], symbol = e >> 16;
        uint8_t again = 0;
        unsigned times = 1;
        skip(r, e);
        if (e & NOTHING)
            return -1;
        if (symbol < 16)
            again = (uint8_t)symbol;
        else if (symbol == 16 && i > 0) {
            again = lengths[i - 1];
            times = 3 + take(r, 2);
        } else if (symbol == 17)
            times = 3 + take(r, 3);
        else if (symbol == 18)
            times = 11 + take(r, 7);
        else
            return -1;
        if (times > literals + distances - i)
            return -1;
        memset(lengths + i, again, times);
        i += times;
    }
    /* A block without a code for its end would have none. Tables are made where all else is right: where blocks are looked
     * for much is tried. */
    if (lengths[256] == 0 || count_lengths(lengths, literals, &of) != 0
        || count_lengths(lengths + literals, distances, &of_distances) != 0)
        return -1;
    c->are_fixed = 0;
    make_table(lengths, literals, &of, c->literals, LITERAL_BITS, literal_entry);
    make_table(lengths + literals, distances, &of_distances, c->distances, DISTANCE_BITS, distance_entry);
    return 0;
}

/* Those of section 3.2.6. */
static void fix_codes(codes *c)
{
    uint8_t lengths[LITERALS];
    code_lengths of;
    if (c->are_fixed)
        return;
    memset(lengths, 8, 144);
    memset(lengths + 144, 9, 112);
    memset(lengths + 256, 7, 24);
    memset(lengths + 280, 8, 8);
    count_lengths(lengths, LITERALS, &of);
    make_table(lengths, LITERALS, &of, c->literals, LITERAL_BITS, literal_entry);
    memset(lengths, 5, DISTANCES);
    count_lengths(lengths, DISTANCES, &of);
    make_table(lengths, DISTANCES, &of, c->distances, DISTANCE_BITS, distance_entry);
    c->are_fixed = 1;
}

/* ---------------------------------------------------------------------------- blocks */

/* The first bits of a block: that it is the last one, and its kind. */
#define STORED 0
#define FIXED 1
#define OWN_CODES 2

typedef struct {
    uint8_t *start, *at, *full; /* writing ends a little behind `full` */
    size_t known;               /* units before `start` */
} result;

static inline void put(uint8_t **out, uint32_t unit, size_t width)
{
    const uint16_t pair = (uint16_t)unit;
    if (width == 1)
        **out = (uint8_t)unit;
    else
        memcpy(*out, &pair, sizeof pair);
    *out += width;
}

/* `size` bytes as they stand `distance` bytes before; a few more may be written. */
static inline void repeat(uint8_t *to, size_t distance, size_t size, size_t width)
{
    const uint8_t *const end = to + size;
    if (distance >= 16)
        for (; to < end; to += 16)
            memcpy(to, to - distance, 16);
    else if (distance == width) {
        uint16_t pair = to[-1];
        if (width == 1)
            pair = (uint16_t)(pair * 0x101);
        else
            memcpy(&pair, to - 2, 2);
        const uint64_t word = (uint64_t)pair * 0x0001000100010001u;
        for (; to < end; to += 8)
            memcpy(to, &word, 8);
    } else
        for (; to < end; to += width)
            memcpy(to, to - distance, width);
}

#define INLINED __attribute__((always_inline))
#define KERNELS "inflate_kernels.h"
#include "variants.h"

/* A block that is not coded (section 3.2.4): -1 where it is none, or does not fit. */
static tf_blocks copy_stored(reader *r, tf_stream stream, result *made, size_t width)
{
    const uint64_t start = (position(r) + 7) / 8;
    if (start + 4 > stream.size)
        return TF_BLOCKS_BAD;
    const uint8_t *const from = stream.bytes + start;
    const unsigned n = from[0] | (unsigned)from[1] << 8, not_n = from[2] | (unsigned)from[3] << 8;
    if ((n ^ not_n) != 0xffff || n > stream.size - start - 4)
        return TF_BLOCKS_BAD;
    if (n > (size_t)(made->full - made->at) / width)
        return TF_BLOCKS_FULL;
    if (width == 1) {
        memcpy(made->at, from + 4, n);
        made->at += n;
    } else {
        for (unsigned i = 0; i < n; i++)
            put(&made->at, from[4 + i], 2);
    }
    *r = reader_from(stream, 8 * (start + 4 + n));
    return TF_BLOCKS_STOPPED;
}

tf_blocks tf_inflate_blocks(tf_stream stream, uint64_t *from, uint64_t until, int width, void *to, size_t before,
                            size_t room, size_t *n)
{
    tf_blocks (*decode)(reader *, const codes *, result *) = width == 1 ? decode_bytes_portable : decode_pairs_portable;
    const size_t step = (size_t)width;
    uint8_t *const start = to;
    result made = {start, start, start + room * step, before};
    reader r = reader_from(stream, *from);
    tf_blocks state = TF_BLOCKS_STOPPED;
    int is_last = 0;
    codes c;

#ifdef HAVE_AVX2
    if (tf_uses_avx2())
        decode = width == 1 ? decode_bytes_avx2 : decode_pairs_avx2;
#endif
    c.are_fixed = 0;
    *n = 0;
    while (state == TF_BLOCKS_STOPPED && !is_last) {
        refill(&r);
        *from = position(&r);
        *n = (size_t)(made.at - start) / step;
        if (*from >= until && first_bits(&r, 3) == OWN_CODES << 1)
            return TF_BLOCKS_STOPPED;
        is_last = (int)take(&r, 1);
        switch (take(&r, 2)) {
        case STORED:
            state = copy_stored(&r, stream, &made, step);
            continue;
        case FIXED:
            fix_codes(&c);
            break;
        case OWN_CODES:
            if (read_codes(&r, &c) == 0)
                break;
            /* fall through */
        default:
            return TF_BLOCKS_BAD;
        }
        state = decode(&r, &c, &made);
        if (state == TF_BLOCKS_STOPPED && position(&r) > 8 * (uint64_t)stream.size)
            state = TF_BLOCKS_BAD;
        if (state == TF_BLOCKS_STOPPED && made.at > made.full)
            state = TF_BLOCKS_FULL;
    }
    if (state != TF_BLOCKS_STOPPED)
        return state;
    *from = position(&r);
    *n = (size_t)(made.at - start) / step;
    return TF_BLOCKS_ENDED;
}

void tf_inflate_resolve(const uint16_t *units, size_t n, const uint8_t *window, uint8_t *to)
{
    void (*resolve)(const uint16_t *, size_t, const uint8_t *, uint8_t *) = resolve_portable;
    /* what each unit stands for; those between the literals and the unknown ones are none */
    uint8_t bytes[TF_INFLATE_UNKNOWN + TF_INFLATE_WINDOW];
    for (unsigned i = 0; i < 256; i++)
        bytes[i] = (uint8_t)i;
    memcpy(bytes + TF_INFLATE_UNKNOWN, window, TF_INFLATE_WINDOW);
#ifdef HAVE_AVX2
    if (tf_uses_avx2())
        resolve = resolve_avx2;
#endif
    resolve(units, n, bytes, to);
}

/* ---------------------------------------------------------------------------- looking for blocks */

/* What a block with codes of its own has at least: 17 bits, and 4 lengths of 3. What is looked at is a little more. */
#define LOOKED_AT 24

/* Whether the lengths of the codes for lengths are those of a complete code. */
static int is_complete(uint64_t lengths, unsigned count)
{
    static const uint8_t shares[] = {0, 64, 32, 16, 8, 4, 2, 1};
    unsigned sum = 0;
    for (; count > 0; count--, lengths >>= 3)
        sum += shares[lengths & 7];
    return sum == 1 << LENGTH_OF_CODE_BITS;
}

int64_t tf_find_block(tf_stream stream, uint64_t from, uint64_t until)
{
    /* of so many bits one word says whether the 13 from there on may be a block's first ones */
    const unsigned together = 40;
    codes c;

    for (uint64_t bit = from; bit < until && bit / 8 + LOOKED_AT <= stream.size; bit += together) {
        const uint64_t w = load_word(stream.bytes + bit / 8) >> bit % 8;
        /* not the last one, codes of its own, not 287 or 288 literals, not 31 or 32 distances */
        uint64_t may_be = ~w & ~(w >> 1) & w >> 2;
        may_be &= ~(w >> 4 & w >> 5 & w >> 6 & w >> 7) & ~(w >> 9 & w >> 10 & w >> 11 & w >> 12);
        for (may_be &= ((uint64_t)1 << together) - 1; may_be; may_be &= may_be - 1) {
            const uint64_t start = bit + (uint64_t)__builtin_ctzll(may_be), lengths = start + 17;
            const unsigned count = 4 + (unsigned)(w >> (start - bit + 13) & 15);
            if (!is_complete(load_word(stream.bytes + lengths / 8) >> lengths % 8, count))
                continue;
            reader r = reader_from(stream, start + 3);
            if (read_codes(&r, &c) == 0)
                return (int64_t)start;
        }
    }
    return -1;
}
