#include "rice.h"

/* How blocks of numbers of some width are coded. */
typedef struct {
    int plain_bits;  /* of the field that tells, plus one, how many bits of a difference are plain */
    uint32_t as_is;  /* what it tells where differences are written as they are */
} block_code;

static int block_code_of(int width, block_code *code)
{
    static const block_code codes[] = {[1] = {3, 6}, [2] = {4, 14}, [4] = {5, 25}};
    if (width != 1 && width != 2 && width != 4)
        return -1;
    *code = codes[width];
    return 0;
}

uint64_t tf_rice_least(uint64_t n, int width, uint64_t block)
{
    block_code code;
    if (n == 0 || block == 0 || block_code_of(width, &code) != 0)
        return 0;
    /* the first number, and of each block that it repeats the last one */
    const uint64_t bits = ((n - 1) / block + 1) * (uint64_t)code.plain_bits;
    return (uint64_t)width + bits / 8 + (bits % 8 != 0);
}

/* ---------------------------------------------------------------------------- bits, the most significant one first */

typedef struct {
    const uint8_t *at, *end;
    uint64_t word; /* the next bits, left-aligned, zeros below them */
    int have;      /* how many */
} bit_stream;

static void refill(bit_stream *b)
{
    for (; b->have <= 56 && b->at < b->end; b->have += 8)
        b->word |= (uint64_t)*b->at++ << (56 - b->have);
}

/* The next n bits, at most 32; -1 where there are not so many. */
static int take(bit_stream *b, int n, uint32_t *bits)
{
    if (b->have < n)
        refill(b);
    if (b->have < n)
        return -1;
    *bits = n == 0 ? 0 : (uint32_t)(b->word >> (64 - n));
    b->word <<= n;
    b->have -= n;
    return 0;
}

/* The zeros before the next one, which is taken too; -1 where there is none. */
static int take_zeros(bit_stream *b, uint64_t *zeros)
{
    *zeros = 0;
    for (;;) {
        if (b->word != 0) {
            const int n = __builtin_clzll(b->word);
            *zeros += (uint64_t)n;
            b->word = b->word << n << 1;
            b->have -= n + 1;
            return 0;
        }
        *zeros += (uint64_t)b->have;
        b->have = 0;
        refill(b);
        if (b->have == 0)
            return -1;
    }
}

/* ---------------------------------------------------------------------------- numbers */

static void put(uint8_t *to, int width, uint32_t number)
{
    for (int k = width - 1; k >= 0; k--, number >>= 8)
        to[k] = (uint8_t)number;
}

const char *tf_rice_decode(const uint8_t *stream, size_t size, int width, uint64_t block, uint8_t *to, size_t n)
{
    static const char *const cut = "ends before its numbers do";
    bit_stream b = {stream, stream + size, 0, 0};
    block_code code;
    uint32_t number, field, low;
    uint64_t zeros;

    if (block_code_of(width, &code) != 0 || block == 0)
        return "has a width or a block size that no encoder knows";
    if (n == 0)
        return NULL;
    if (take(&b, 8 * width, &number) != 0)
        return cut;
    for (uint64_t left = 0; n > 0; n--, left--, to += width) {
        if (left == 0) {
            left = block;
            if (take(&b, code.plain_bits, &field) != 0)
                return cut;
            if (field > code.as_is + 1)
                return "has a code that no encoder writes";
        }
        /* the field is 0 where all numbers are like the last one */
        if (field == code.as_is + 1) {
            if (take(&b, 8 * width, &low) != 0)
                return cut;
        } else if (field != 0) {
            if (take_zeros(&b, &zeros) != 0 || take(&b, (int)field - 1, &low) != 0)
                return cut;
            low |= (uint32_t)(zeros << (field - 1));
        } else {
            low = 0;
        }
        /* even ones are 0, 1, 2, ..., odd ones -1, -2, ...; what overflows comes round */
        number += low & 1 ? ~(low >> 1) : low >> 1;
        put(to, width, number);
    }
    return NULL;
}
