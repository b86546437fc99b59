#include "rice_encode.h"

#include <string.h>

#include "pixels.h"
#include "rice.h"
#if defined(__x86_64__)
#include <immintrin.h>
#endif

/* numbers whose codes are made at once: a block of those that are in use */
#define CHUNK 32

/* ---------------------------------------------------------------------------- bits, the most significant one first */

/* Fewer than 8 bits wait for a whole byte, at the top of `bits`. There is room for a word behind what is written. */
typedef struct {
    uint8_t *at;
    uint64_t bits;
    unsigned waiting;
} writer;

/* `length` bits, 1 to 56, of which the upper ones are zeros. */
static inline void put(writer *w, uint64_t code, unsigned length)
{
    w->bits |= code << (64 - length) >> w->waiting;
    w->waiting += length;
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    const uint64_t word = w->bits;
#else
    const uint64_t word = __builtin_bswap64(w->bits);
#endif
    memcpy(w->at, &word, sizeof word);
    w->at += w->waiting / 8;
    w->bits <<= w->waiting / 8 * 8;
    w->waiting %= 8;
}

/* Zeros for what is above the plain bits, a one, the plain bits. */
static void put_code(writer *w, uint32_t code, unsigned plain)
{
    uint32_t zeros = code >> plain;
    for (; zeros >= 24; zeros -= 24)
        put(w, 0, 24);
    put(w, (uint32_t)1 << plain | (code & (((uint32_t)1 << plain) - 1)), zeros + 1 + plain);
}

/* ---------------------------------------------------------------------------- blocks */

/* How many bits of n codes are best written plainly. cfitsio reckons in doubles, to the same end. */
static unsigned plain_bits_for(uint64_t sum, uint64_t n)
{
    const uint64_t mean = sum > n / 2 + 1 ? (sum - n / 2 - 1) / n : 0;
    return mean < 2 ? 0 : 64 - (unsigned)__builtin_clzll(mean / 2);
}

#define KERNELS "rice_encode_kernels.h"
#include "variants.h"

typedef struct {
    uint64_t (*codes_of)(const uint8_t *numbers, int width, int n, uint32_t *codes);
    void (*put_codes)(writer *w, const uint32_t *codes, int n, unsigned plain);
} kernels;

/* Numbers as they are given. */
typedef struct {
    const uint8_t *at;
    int width;
} source;

static uint32_t first_of(const source *s)
{
    return s->width == 1   ? *s->at
           : s->width == 2 ? *(const uint16_t *)(const void *)s->at
                           : *(const uint32_t *)(const void *)s->at;
}

/* The codes of `count` numbers, CHUNK at most, from number i on; their sum. */
static uint64_t codes_from(const kernels *k, const source *s, uint64_t i, int count, uint32_t *codes)
{
    const size_t width = (size_t)s->width;
    if (i > 0)
        return k->codes_of(s->at + i * width, s->width, count, codes);
    /* the first number has none before it: it stands for that itself */
    uint32_t copy[CHUNK + 1];
    memcpy(copy, s->at, width);
    memcpy((uint8_t *)copy + width, s->at, (size_t)count * width);
    return k->codes_of((const uint8_t *)copy + width, s->width, count, codes);
}

static inline int chunk(uint64_t left)
{
    return left < CHUNK ? (int)left : CHUNK;
}

static void put_block(writer *w, const kernels *k, const tf_rice_coding *coding, const source *s, uint64_t first,
                      uint64_t n)
{
    uint32_t codes[CHUNK];
    uint64_t sum = 0;
    for (uint64_t i = 0; i < n; i += CHUNK)
        sum += codes_from(k, s, first + i, chunk(n - i), codes);
    const unsigned plain = plain_bits_for(sum, n);
    const unsigned field = sum == 0 ? 0 : plain + 1 < coding->as_is ? plain + 1 : coding->as_is;
    put(w, field, (unsigned)coding->field_bits);
    if (field == 0)
        return;
    for (uint64_t i = 0; i < n; i += CHUNK) {
        const int count = chunk(n - i);
        if (n > CHUNK)
            codes_from(k, s, first + i, count, codes);
        if (field < coding->as_is)
            k->put_codes(w, codes, count, plain);
        else
            for (int j = 0; j < count; j++)
                put(w, codes[j], 8 * (unsigned)s->width);
    }
}

/* ---------------------------------------------------------------------------- streams */

size_t tf_rice_room(uint64_t n, int width, uint64_t block)
{
    if (n == 0 || block == 0)
        return 0;
    /* Plain bits are chosen so that the others come to little more than two for each number: all are as many as those
     * of the number, and a 64th for the narrowest. A byte is for the field of a block and what is rounded. */
    return (size_t)((n + 1) * (uint64_t)width + n / 512 + (n - 1) / block + 1 + sizeof(uint64_t));
}

int64_t tf_rice_encode(const void *numbers, uint64_t n, int width, uint64_t block, uint8_t *to, size_t room)
{
    kernels k = {codes_of_portable, put_codes_portable};
    const source s = {numbers, width};
    writer w = {to, 0, 0};
    tf_rice_coding coding;

#ifdef HAVE_AVX2
    if (tf_uses_avx2())
        k = (kernels){codes_of_avx2, put_codes_avx2};
#endif
    if (block == 0 || tf_rice_coding_of(width, &coding) != 0 || room < tf_rice_room(n, width, block))
        return -1;
    if (n == 0)
        return 0;
    put(&w, first_of(&s), 8 * (unsigned)width);
    for (uint64_t left = n; left > 0;) {
        const uint64_t in_block = left < block ? left : block;
        put_block(&w, &k, &coding, &s, n - left, in_block);
        left -= in_block;
    }
    return w.at - to + (w.waiting > 0);
}
