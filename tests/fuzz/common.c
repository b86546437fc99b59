#define _GNU_SOURCE
#include "common.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zlib.h>

#include "_native/header_scan.h"

void failed(const char *file, int line, const char *condition)
{
    fprintf(stderr, "%s:%d: not so: %s\n", file, line, condition);
    abort();
}

/* ---------------------------------------------------------------------------- the input */

uint64_t take(input *in, int bytes)
{
    uint64_t n = 0;
    for (int i = 0; i < bytes && in->left > 0; i++) {
        n = n << 8 | *in->at++;
        in->left--;
    }
    return n;
}

int64_t take_within(input *in, int64_t low, int64_t high)
{
    const uint64_t choices = (uint64_t)(high - low) + 1;
    return low + (int64_t)(take(in, choices <= 256 ? 1 : choices <= 65536 ? 2 : 4) % choices);
}

uint64_t scramble(uint64_t n)
{
    n += 0x9e3779b97f4a7c15;
    n = (n ^ n >> 30) * 0xbf58476d1ce4e5b9;
    n = (n ^ n >> 27) * 0x94d049bb133111eb;
    return n ^ n >> 31;
}

/* Room for n bytes more, which are what they may be. */
static uint8_t *grow(text *to, size_t n)
{
    if (to->size + n > to->room) {
        to->room = 2 * (to->size + n);
        to->bytes = realloc(to->bytes, to->room);
        CHECK(to->bytes);
    }
    to->size += n;
    return to->bytes + to->size - n;
}

void put(text *to, const void *bytes, size_t n)
{
    if (n > 0)
        memcpy(grow(to, n), bytes, n);
}

void put_blanks(text *to, size_t n)
{
    if (n > 0)
        memset(grow(to, n), ' ', n);
}

int put_card(text *to, input *in)
{
    if (in->left == 0)
        return 0;
    const uint8_t *line = in->at, *newline = memchr(line, '\n', in->left);
    const size_t length = newline ? (size_t)(newline - line) : in->left;
    const size_t used = length < TF_CARD ? length : TF_CARD;
    in->at += length + (newline != NULL);
    in->left -= length + (newline != NULL);
    put(to, line, used);
    put_blanks(to, TF_CARD - used);
    if (used == 3 && memcmp(line, "END", 3) == 0)
        put_blanks(to, (TF_BLOCK - to->size % TF_BLOCK) % TF_BLOCK);
    return 1;
}

/* ---------------------------------------------------------------------------- guarded memory */

#define ARENA ((size_t)16 << 20)
#define HUGE_PAGE ((size_t)2 << 20)
#define MARK 0xa5

guarded guard(arena *place, size_t size, size_t skip, int at_end)
{
    if (!place->start) {
        uint8_t *start = mmap(NULL, ARENA + HUGE_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        CHECK(start != MAP_FAILED);
        place->start = start + (HUGE_PAGE - (uintptr_t)start % HUGE_PAGE) % HUGE_PAGE;
        place->size = ARENA;
    }
    guarded g = {NULL, size, place->start + (skip + 1) * PAGE, (size + PAGE - 1) / PAGE * PAGE};
    CHECK(g.bytes + (skip + 2) * PAGE <= place->size);
    CHECK(mprotect(place->start, place->size, PROT_NONE) == 0);
    if (g.bytes > 0)
        CHECK(mprotect(g.pages, g.bytes, PROT_READ | PROT_WRITE) == 0);
    g.start = at_end ? g.pages + g.bytes - size : g.pages;
    return g;
}

void mark(const guarded *g)
{
    if (g->bytes > 0)
        memset(g->pages, MARK, g->bytes);
}

void check_marks(const guarded *g)
{
    for (const uint8_t *at = g->pages; at < g->start; at++)
        CHECK(*at == MARK);
    for (const uint8_t *at = g->start + g->size; at < g->pages + g->bytes; at++)
        CHECK(*at == MARK);
}

int file_of(const uint8_t *bytes, int64_t size)
{
    const int fd = memfd_create("fuzz", MFD_CLOEXEC);
    CHECK(fd >= 0);
    for (int64_t done = 0; done < size;) {
        const ssize_t n = write(fd, bytes + done, (size_t)(size - done));
        CHECK(n > 0);
        done += n;
    }
    return fd;
}

/* ---------------------------------------------------------------------------- pixels, the slow way */

meaning take_meaning(input *in)
{
    static const int bitpix[] = {8, 16, 32, 64, -32, -64};
    static const double zeros[] = {-128, 32768, 2147483648.0, 9223372036854775808.0, 0, 1};
    meaning m = {.bitpix = bitpix[take_within(in, 0, 5)], .scale = 1};
    uint64_t bits;

    m.wanted = (tf_type)take_within(in, 0, TF_TYPES - 1);
    const int convention = (int)take_within(in, 0, 7);
    if (convention >= 3)
        m.zero = zeros[convention == 3 ? 0 : take_within(in, 0, 5)];
    if (convention >= 5) {
        bits = take(in, 8);
        memcpy(&m.scale, &bits, sizeof bits);
    }
    if (convention >= 6) {
        bits = take(in, 8);
        memcpy(&m.zero, &bits, sizeof bits);
    }
    m.has_blank = convention % 2;
    /* a BLANK that no pixel can be is none: it does not get as far as this */
    m.blank = m.bitpix == 8    ? (int64_t)take(in, 1)
              : m.bitpix == 16 ? (int16_t)take(in, 2)
              : m.bitpix == 32 ? (int32_t)take(in, 4)
                               : (int64_t)take(in, 8);
    if (take_within(in, 0, 3) == 0)
        m.wanted = natural_type(&m);
    return m;
}

int is_real_type(tf_type type)
{
    return type == TF_F16 || type == TF_BF16 || type == TF_F32 || type == TF_F64;
}

/* BZERO that makes an image one of the other sign (FITS standard 4.0, table 11); 0 where there is none. */
static double zero_of_other_sign(int bitpix)
{
    switch (bitpix) {
    case 8:
        return -128;
    case 16:
        return 32768;
    case 32:
        return 2147483648.0;
    case 64:
        return 9223372036854775808.0;
    default:
        return 0;
    }
}

static int is_of_other_sign(const meaning *m)
{
    return m->bitpix > 0 && m->scale == 1 && m->zero == zero_of_other_sign(m->bitpix);
}

static int is_scaled(const meaning *m)
{
    return !is_of_other_sign(m) && (m->scale != 1 || m->zero != 0 || (m->has_blank && m->bitpix > 0));
}

tf_type natural_type(const meaning *m)
{
    const int other = is_of_other_sign(m), scaled = is_scaled(m);
    switch (m->bitpix) {
    case 8:
        return other ? TF_I8 : scaled ? TF_F32 : TF_U8;
    case 16:
        return other ? TF_U16 : scaled ? TF_F32 : TF_I16;
    case 32:
        return other ? TF_U32 : scaled ? TF_F64 : TF_I32;
    case 64:
        return other ? TF_U64 : scaled ? TF_F64 : TF_I64;
    case -32:
        return TF_F32;
    default:
        return TF_F64;
    }
}

tf_conversion conversion_for(const meaning *m)
{
    tf_conversion c;
    CHECK(tf_conversion_of(&c, m->bitpix, m->scale, m->zero, m->has_blank, m->blank) == 0);
    CHECK(c.values == natural_type(m) && c.wanted == c.values);
    CHECK(tf_width(c.stored) * 8 == (size_t)abs(m->bitpix));
    c.wanted = m->wanted;
    return c;
}

/* A small real: one sign bit, then the exponent, then `fraction` bits; rounded to nearest even. */
static uint16_t small_real(float x, int fraction, int least_exponent, int most_exponent)
{
    const uint16_t sign = signbit(x) ? 0x8000 : 0, infinity = (uint16_t)(0x7fff >> fraction << fraction);
    const double size = fabs((double)x);
    if (isnan(x))
        return (uint16_t)(sign | infinity | 1 << (fraction - 1));
    if (size == 0)
        return sign;
    const int exponent = isinf(x) ? most_exponent + 1 : ilogb(size) > least_exponent ? ilogb(size) : least_exponent;
    if (exponent > most_exponent)
        return sign | infinity;
    /* the number counted in units of its last place; rounding up may carry into the exponent, as it should */
    const double units = nearbyint(ldexp(size, fraction - exponent));
    return (uint16_t)(sign | (((exponent - least_exponent) << fraction) + (int)units));
}

/* The nearest integer towards zero that is within low..high; 0 for NaN. */
static __int128 saturated(double x, __int128 low, __int128 high)
{
    if (isnan(x))
        return 0;
    if (x <= -1e30 || x >= 1e30)
        return x < 0 ? low : high;
    const __int128 n = (__int128)x;
    return n < low ? low : n > high ? high : n;
}

/* What a type can hold. */
static __int128 low_of(tf_type type)
{
    const int is_signed = type == TF_I8 || type == TF_I16 || type == TF_I32 || type == TF_I64;
    return is_signed ? -((__int128)1 << (8 * tf_width(type) - 1)) : 0;
}

static __int128 high_of(tf_type type)
{
    const __int128 numbers = (__int128)1 << (8 * tf_width(type));
    return numbers - 1 + low_of(type);
}

static void store_bits(void *to, uint64_t bits, size_t width)
{
    const uint8_t bits8 = (uint8_t)bits;
    const uint16_t bits16 = (uint16_t)bits;
    const uint32_t bits32 = (uint32_t)bits;
    memcpy(to, width == 1 ? (const void *)&bits8 : width == 2 ? &bits16 : width == 4 ? &bits32 : (const void *)&bits,
           width);
}

/* A real, of which `narrow` is the float: that of a double or of an integer, rounded once. */
static void store_real(tf_type wanted, void *to, double wide, float narrow)
{
    if (wanted == TF_F64)
        memcpy(to, &wide, sizeof wide);
    else if (wanted == TF_F32)
        memcpy(to, &narrow, sizeof narrow);
    else if (wanted == TF_F16)
        store_bits(to, small_real(narrow, 10, -14, 15), 2);
    else if (wanted == TF_BF16)
        store_bits(to, small_real(narrow, 7, -126, 127), 2);
    else if (wanted == TF_BOOL)
        store_bits(to, wide != 0, 1);
    else
        store_bits(to, (uint64_t)saturated(wide, low_of(wanted), high_of(wanted)), tf_width(wanted));
}

static void store_integer(tf_type wanted, void *to, __int128 n)
{
    if (wanted == TF_BOOL)
        store_bits(to, n != 0, 1);
    else if (!is_real_type(wanted))
        store_bits(to, (uint64_t)n, tf_width(wanted)); /* wraps */
    else if (n < 0)
        store_real(wanted, to, (double)(int64_t)n, (float)(int64_t)n);
    else
        store_real(wanted, to, (double)(uint64_t)n, (float)(uint64_t)n);
}

void slow_convert(const meaning *m, void *to, const uint8_t *be_from)
{
    const int bits = abs(m->bitpix);
    uint64_t word = 0;
    for (int i = 0; i < bits / 8; i++)
        word = word << 8 | be_from[i];

    if (m->bitpix < 0) {
        double wide;
        float narrow;
        if (bits == 32) {
            store_bits(&narrow, word, 4);
            wide = (double)narrow;
        } else {
            store_bits(&wide, word, 8);
            narrow = (float)wide;
        }
        if (is_scaled(m)) {
            wide = wide * m->scale + m->zero;
            narrow = (float)wide;
        }
        if (!is_scaled(m) && m->wanted == natural_type(m))
            store_bits(to, word, (size_t)bits / 8); /* a NaN keeps its bits */
        else
            store_real(m->wanted, to, wide, narrow);
        return;
    }

    /* bytes have no sign, the wider ones are two's complement */
    __int128 n = word;
    if (bits > 8 && word >> (bits - 1))
        n -= (__int128)1 << bits;
    if (is_of_other_sign(m)) {
        store_integer(m->wanted, to, n + (__int128)m->zero);
    } else if (is_scaled(m)) {
        const double wide = m->has_blank && n == m->blank ? (double)NAN : (double)(int64_t)n * m->scale + m->zero;
        store_real(m->wanted, to, wide, (float)wide);
    } else {
        store_integer(m->wanted, to, n);
    }
}

static int is_nan(tf_type type, const uint8_t *element)
{
    uint16_t bits;
    float narrow;
    double wide;
    switch (type) {
    case TF_F16:
        memcpy(&bits, element, 2);
        return (bits & 0x7fff) > 0x7c00;
    case TF_BF16:
        memcpy(&bits, element, 2);
        return (bits & 0x7fff) > 0x7f80;
    case TF_F32:
        memcpy(&narrow, element, 4);
        return isnan(narrow);
    case TF_F64:
        memcpy(&wide, element, 8);
        return isnan(wide);
    default:
        return 0;
    }
}

int same_elements(const meaning *m, const void *found, const void *expected, size_t n)
{
    const size_t width = tf_width(m->wanted);
    if (n == 0 || memcmp(found, expected, n * width) == 0)
        return 1;
    const int copied = !is_scaled(m) && m->wanted == natural_type(m);
    for (size_t i = 0; i < n; i++) {
        const uint8_t *a = (const uint8_t *)found + i * width, *b = (const uint8_t *)expected + i * width;
        if (memcmp(a, b, width) != 0 && (copied || !is_nan(m->wanted, a) || !is_nan(m->wanted, b)))
            return 0;
    }
    return 1;
}

/* ---------------------------------------------------------------------------- gzip */

size_t wrap_in_gzip(const uint8_t *inside, size_t size, uint8_t *stream)
{
    static const uint8_t head[10] = {0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3};
    static uint8_t made[1 << 18];
    z_stream z = {.next_in = (uint8_t *)(uintptr_t)inside, .avail_in = (uInt)size, .next_out = made, .avail_out = sizeof made};
    CHECK(inflateInit2(&z, -15) == Z_OK);
    inflate(&z, Z_SYNC_FLUSH);
    const uint64_t check = crc32(0, made, (uInt)z.total_out), footer = z.total_out << 32 | check;
    /* what follows the last block is not of the stream */
    const size_t used = z.total_in;
    memcpy(stream, head, sizeof head);
    memcpy(stream + sizeof head, inside, used);
    for (int i = 0; i < 8; i++)
        stream[sizeof head + used + (size_t)i] = (uint8_t)(footer >> 8 * i);
    inflateEnd(&z);
    return used + 18;
}
