#include "rice.h"

#include <string.h>

#include "pixels.h"
#if defined(__x86_64__)
#include <immintrin.h>
#endif

/* numbers that the fast way decodes at once; 16 divides the blocks that are in use */
#define UNIT 16
/* streams that it decodes at once: what one waits for, the others use */
#define AT_ONCE 4

static const char *const cut = "ends before its numbers do", *const no_encoder = "has a code that no encoder writes";

int tf_rice_coding_of(int width, tf_rice_coding *coding)
{
    static const tf_rice_coding codings[] = {[1] = {3, 7}, [2] = {4, 15}, [4] = {5, 26}};
    if (width != 1 && width != 2 && width != 4)
        return -1;
    *coding = codings[width];
    return 0;
}

uint64_t tf_rice_least(uint64_t n, int width, uint64_t block)
{
    tf_rice_coding coding;
    if (n == 0 || block == 0 || tf_rice_coding_of(width, &coding) != 0)
        return 0;
    /* the first number, and of each block that it repeats the last one */
    const uint64_t bits = ((n - 1) / block + 1) * (uint64_t)coding.field_bits;
    return (uint64_t)width + bits / 8 + (bits % 8 != 0);
}

/* ---------------------------------------------------------------------------- bits, the most significant one first */

/* The bits of a stream. `bits` are the next ones, then a one that is not of the stream, then zeros. The byte that `at`
 * points to is the one that `bits` began with when it was filled: as many bits were taken since as there are zeros. */
typedef struct {
    const uint8_t *at, *end;
    uint64_t bits;
} reader;

static inline uint64_t load_word(const uint8_t *at)
{
    uint64_t word;
    memcpy(&word, at, sizeof word);
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    return word;
#else
    return __builtin_bswap64(word);
#endif
}

/* Behind the end are zeros. */
static uint64_t load_word_before(const uint8_t *at, const uint8_t *end)
{
    if (end - at >= 8)
        return load_word(at);
    uint64_t word = 0;
    for (int shift = 56; at < end; shift -= 8)
        word |= (uint64_t)*at++ << shift;
    return word;
}

static inline uint64_t filled(uint64_t word, unsigned taken)
{
    return (word | 1) << taken;
}

/* Makes `bits` 56 bits at least. */
static void refill(reader *r)
{
    const unsigned taken = (unsigned)__builtin_ctzll(r->bits);
    r->at += taken / 8;
    r->bits = filled(load_word_before(r->at, r->end), taken % 8);
}

/* Whether bits were taken that are behind the end. */
static int is_past_end(const reader *r)
{
    return (r->end - r->at) * 8 < __builtin_ctzll(r->bits);
}

/* The next n bits, at most 32; -1 where there are not so many. */
static int take(reader *r, unsigned n, uint32_t *bits)
{
    refill(r);
    *bits = (uint32_t)(r->bits >> 32 >> (32 - n));
    r->bits <<= n;
    return is_past_end(r) ? -1 : 0;
}

/* The zeros before the next one, which is taken too; -1 where there is none. */
static int take_zeros(reader *r, uint64_t *zeros)
{
    *zeros = 0;
    for (;;) {
        refill(r);
        const int before = __builtin_clzll(r->bits);
        *zeros += (uint64_t)before;
        if (r->bits << before << 1) {
            r->bits = r->bits << before << 1;
            return is_past_end(r) ? -1 : 0;
        }
        r->bits <<= before; /* the one is not of the stream */
        if (is_past_end(r))
            return -1;
    }
}

/* ---------------------------------------------------------------------------- one number after the other */

typedef struct {
    reader in;
    uint32_t field; /* of the block */
    uint32_t last;  /* number */
    uint8_t *to;
} decoder;

/* How numbers of the one width are coded and kept. */
typedef struct {
    int width;
    tf_rice_coding coding;
} kind;

/* Even ones are 0, 1, 2, ..., odd ones -1, -2, ... */
static inline uint32_t difference(uint32_t code)
{
    return code >> 1 ^ -(code & 1);
}

/* The numbers that n codes stand for; what overflows comes round. */
static inline void put_numbers(decoder *d, int width, const uint32_t *codes, int n)
{
    uint32_t last = d->last;
    if (width == 1) {
        for (int i = 0; i < n; i++)
            d->to[i] = (uint8_t)(last += difference(codes[i]));
    } else if (width == 2) {
        uint16_t *to = (uint16_t *)(void *)d->to;
        for (int i = 0; i < n; i++)
            to[i] = (uint16_t)(last += difference(codes[i]));
    } else {
        uint32_t *to = (uint32_t *)(void *)d->to;
        for (int i = 0; i < n; i++)
            to[i] = last += difference(codes[i]);
    }
    d->last = last;
    d->to += n * width;
}

/* The next code of a block with codes of zeros and `plain` bits; -1 where the stream ends, or later. */
static inline int take_code(reader *r, unsigned plain, uint32_t *code)
{
    uint64_t zeros, rest;
    refill(r);
    zeros = (uint64_t)__builtin_clzll(r->bits);
    rest = r->bits << zeros << 1;
    if (rest << plain) {
        *code = (uint32_t)(zeros << plain | rest >> 32 >> (32 - plain));
        r->bits = rest << plain;
        return 0;
    }
    if (take_zeros(r, &zeros) != 0 || take(r, plain, code) != 0)
        return -1;
    *code |= (uint32_t)(zeros << plain);
    return 0;
}

/* n numbers, at most UNIT, of any block. -1 where the stream ends. */
static int decode_slowly(decoder *d, const kind *k, int n)
{
    uint32_t codes[UNIT] = {0};
    if (d->field == k->coding.as_is) {
        for (int i = 0; i < n; i++)
            if (take(&d->in, 8 * (unsigned)k->width, &codes[i]) != 0)
                return -1;
    } else if (d->field != 0) {
        for (int i = 0; i < n; i++)
            if (take_code(&d->in, d->field - 1, &codes[i]) != 0)
                return -1;
        if (is_past_end(&d->in))
            return -1;
    }
    put_numbers(d, k->width, codes, n);
    return 0;
}

/* ---------------------------------------------------------------------------- UNIT numbers at once */

/* How often UNIT codes want a filling of 56 bits, and where the codes for each end: few codes are more than two bits
 * longer than the shortest, where the encoder chose well. */
typedef struct {
    uint8_t longest; /* of codes without zeros */
    uint8_t fillings, ends[UNIT / 2];
} grouping;

/* That for the next codes of these streams; NULL where they cannot be had the fast way. */
static const grouping *fast_way(const decoder *d, int count, const kind *k)
{
    static const grouping groupings[] = {{4, 2, {8, 16}},
                                         {7, 3, {6, 11, 16}},
                                         {11, 4, {4, 8, 12, 16}},
                                         {UINT8_MAX, 8, {2, 4, 6, 8, 10, 12, 14, 16}}};
    const grouping *g = groupings;
    uint32_t longest = 0;
    for (int i = 0; i < count; i++) {
        if (d[i].field == 0 || d[i].field == k->coding.as_is)
            return NULL;
        longest = d[i].field > longest ? d[i].field : longest;
    }
    while (longest > g->longest)
        g++;
    /* a filling goes on by 7 bytes at most, and reads 8 */
    for (int i = 0; i < count; i++)
        if (d[i].in.end - d[i].in.at < 7 * g->fillings + 8)
            return NULL;
    return g;
}

/* The upper 52 bits from where a code begins become a multiple of 2 to the 13th, as a double. Its exponent tells the
 * zeros, its fraction goes on with the plain bits: shifted, they are the code, but that the exponent counts down
 * from NO_ZEROS. The low six bits of that are ones, so that an exclusive or makes it count up from 0. */
#define SCALE_BITS ((uint64_t)1088 << 52)
#define SCALE 0x1p65
#define NO_ZEROS 1087

#define INLINED __attribute__((always_inline))
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

#define KERNELS "rice_kernels.h"
#include "variants.h"

#ifdef HAVE_AVX2
BEGIN_TARGET(AVX512)
#include "rice_lanes.h"
END_TARGET
#endif

typedef int decode_kernel(decoder *decoders, int count, const kind *k, uint64_t units);

/* ---------------------------------------------------------------------------- streams */

static const char *take_field(decoder *d, const kind *k)
{
    if (take(&d->in, (unsigned)k->coding.field_bits, &d->field) != 0)
        return cut;
    return d->field > k->coding.as_is ? no_encoder : NULL;
}

/* As tf_rice_decode, of up to AT_ONCE streams that it has begun with. */
static const char *decode_some(decoder *decoders, int count, const kind *k, uint64_t block, uint64_t n, int *bad)
{
    decode_kernel *decode_units = decode_units_portable;
#ifdef HAVE_AVX2
    if (tf_uses_avx2())
        decode_units = decode_units_avx2;
#endif
    for (uint64_t left = n; left > 0;) {
        const uint64_t in_block = left < block ? left : block;
        const int rest = (int)(in_block % UNIT);
        left -= in_block;
        for (*bad = 0; *bad < count; ++*bad) {
            const char *wrong = take_field(&decoders[*bad], k);
            if (wrong)
                return wrong;
        }
        if ((*bad = decode_units(decoders, count, k, in_block / UNIT)) >= 0)
            return cut;
        for (*bad = 0; rest > 0 && *bad < count; ++*bad)
            if (decode_slowly(&decoders[*bad], k, rest) != 0)
                return cut;
    }
    return NULL;
}

const char *tf_rice_decode(const tf_stream *streams, int count, int width, uint64_t block, void *const *to,
                           uint64_t n, int *bad)
{
    decoder decoders[TF_RICE_TOGETHER];
    kind k = {width, {0, 0}};

    *bad = 0;
    if (tf_rice_coding_of(width, &k.coding) != 0 || block == 0)
        return "has a width or a block size that no encoder knows";
    if (n == 0)
        return NULL;
    for (int i = 0; i < count; i++) {
        const tf_stream *s = &streams[i];
        decoder *d = &decoders[i];
        *bad = i;
        if (s->size < (size_t)width)
            return cut;
        *d = (decoder){{s->bytes, s->bytes + s->size, 1}, 0, 0, to[i]};
        take(&d->in, 8 * (unsigned)width, &d->last);
    }
#ifdef HAVE_AVX2
    if (tf_uses_avx512() && count >= LANES_WORTH)
        return decode_in_lanes(decoders, count, &k, block, n, bad);
#endif
    for (int first = 0; first < count; first += AT_ONCE) {
        const int some = count - first < AT_ONCE ? count - first : AT_ONCE;
        const char *wrong = decode_some(decoders + first, some, &k, block, n, bad);
        if (wrong) {
            *bad += first;
            return wrong;
        }
    }
    return NULL;
}
