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
static inline writer put(writer w, uint64_t code, unsigned length)
{
    w.bits |= code << (64 - length) >> w.waiting;
    w.waiting += length;
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    const uint64_t word = w.bits;
#else
    const uint64_t word = __builtin_bswap64(w.bits);
#endif
    memcpy(w.at, &word, sizeof word);
    w.at += w.waiting / 8;
    w.bits <<= w.waiting / 8 * 8;
    w.waiting %= 8;
    return w;
}

/* Zeros for what is above the plain bits, a one, the plain bits. */
static writer put_code(writer w, uint32_t code, unsigned plain)
{
    uint32_t zeros = code >> plain;
    for (; zeros >= 24; zeros -= 24)
        w = put(w, 0, 24);
    return put(w, (uint32_t)1 << plain | (code & (((uint32_t)1 << plain) - 1)), zeros + 1 + plain);
}

/* ---------------------------------------------------------------------------- blocks */

/* How many bits of n codes are best written plainly. cfitsio reckons in doubles, to the same end. */
static unsigned plain_bits_for(uint64_t sum, uint64_t n)
{
    const uint64_t mean = sum > n / 2 + 1 ? (sum - n / 2 - 1) / n : 0;
    return mean < 2 ? 0 : 64 - (unsigned)__builtin_clzll(mean / 2);
}

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

static inline int chunk(uint64_t left)
{
    return left < CHUNK ? (int)left : CHUNK;
}

#define KERNELS "rice_encode_kernels.h"
#include "variants.h"

typedef writer encode_kernel(writer w, const source *s, uint64_t n, uint64_t block, const tf_rice_coding *coding);

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
    const source s = {numbers, width};
    writer w = {to, 0, 0};
    encode_kernel *encode = encode_portable;
    tf_rice_coding coding;

#ifdef HAVE_AVX2
    if (tf_uses_avx2())
        encode = encode_avx2;
#endif
    if (block == 0 || tf_rice_coding_of(width, &coding) != 0 || room < tf_rice_room(n, width, block))
        return -1;
    if (n == 0)
        return 0;
    w = encode(put(w, first_of(&s), 8 * (unsigned)width), &s, n, block, &coding);
    return w.at - to + (w.waiting > 0);
}
