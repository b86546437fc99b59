#include "tile_check.h"

#include <string.h>

/* A tile's pixels and bytes are counted in int by the decoders. */
#define TILE_MAX ((size_t)0x7fffffff)

const char *tf_check_reason(int reason)
{
    static const char *const text[TF_REASONS] = {
        [TF_OK] = "is sound",
        [TF_EMPTY] = "has no bytes",
        [TF_TRUNCATED] = "ends before its pixels do",
        [TF_OVERRUN] = "holds more pixels than its tile",
        [TF_WRONG_SIZE] = "holds pixels of another tile shape or width",
        [TF_BAD_HEADER] = "has no valid header",
        [TF_BAD_CODE] = "has a code that no encoder writes",
        [TF_BAD_PARAMETER] = "has a block size, pixel width or tile size out of range",
    };
    return reason >= 0 && reason < TF_REASONS ? text[reason] : "is refused";
}

/* ---------------------------------------------------------------- bits, most significant first */

struct bits {
    const uint8_t *in;
    size_t n;      /* bytes */
    uint64_t at;   /* bit; may pass the end, where zeros are read */
    uint64_t end;  /* 8 * n */
};

static struct bits bits_at(const uint8_t *in, size_t n, uint64_t byte)
{
    struct bits b = {in, n, byte * 8, (uint64_t)n * 8};
    return b;
}

static uint64_t be64(const uint8_t *p)
{
    return (uint64_t)p[0] << 56 | (uint64_t)p[1] << 48 | (uint64_t)p[2] << 40 | (uint64_t)p[3] << 32 |
           (uint64_t)p[4] << 24 | (uint64_t)p[5] << 16 | (uint64_t)p[6] << 8 | (uint64_t)p[7];
}

static uint32_t be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | (uint32_t)p[3];
}

/* The next 57 bits or more, left-aligned, zeros below. */
#define PEEKED 57

static uint64_t peek(const struct bits *b)
{
    uint64_t byte = b->at >> 3, word = 0;
    int i;

    if (byte + 8 <= b->n)
        return be64(b->in + byte) << (b->at & 7);
    for (i = 0; i < 8 && byte + (uint64_t)i < b->n; i++)
        word |= (uint64_t)b->in[byte + (uint64_t)i] << (56 - 8 * i);
    return word << (b->at & 7);
}

static unsigned take(struct bits *b, int count)
{
    unsigned value = (unsigned)(peek(b) >> (64 - count));
    b->at += (uint64_t)count;
    return value;
}

/* ---------------------------------------------------------------- RICE_1 */

/* Skips n codes of a unary number, its stop bit and fs plain bits. */
static int skip_rice(struct bits *b, size_t n, int fs)
{
    while (n > 0) {
        uint64_t word = peek(b);
        int have = PEEKED;

        if (word == 0) { /* a run of zeros longer than we saw */
            uint64_t start = b->at;
            do {
                b->at += PEEKED;
                if (b->at >= b->end)
                    return TF_TRUNCATED;
                word = peek(b);
            } while (word == 0);
            if (b->at - start > TILE_MAX - 64)
                return TF_BAD_CODE; /* decoders count the run in an int */
        }
        /* all codes that end inside the word */
        while (n > 0 && word != 0) {
            int used = __builtin_clzll(word) + 1 + fs;
            if (used > have)
                break;
            word <<= used;
            have -= used;
            n--;
        }
        if (have == PEEKED) { /* one code longer than the word */
            have -= __builtin_clzll(word) + 1 + fs;
            n--;
        }
        b->at += (uint64_t)(PEEKED - have);
    }
    return b->at > b->end ? TF_TRUNCATED : TF_OK;
}

int tf_check_rice(const uint8_t *in, size_t in_n, size_t npix, int blocksize, int bytepix)
{
    struct bits b;
    size_t left = npix, n;
    int fs_bits, fs_max, fs, status;

    if (bytepix == 1)
        fs_bits = 3, fs_max = 6;
    else if (bytepix == 2)
        fs_bits = 4, fs_max = 14;
    else if (bytepix == 4)
        fs_bits = 5, fs_max = 25;
    else
        return TF_BAD_PARAMETER;
    if (blocksize < 1 || npix < 1 || npix > TILE_MAX || in_n > TILE_MAX)
        return TF_BAD_PARAMETER;
    if ((size_t)blocksize < npix && npix > TILE_MAX - (size_t)blocksize)
        return TF_BAD_PARAMETER; /* cfitsio adds the two in an int */
    if (in_n == 0)
        return TF_EMPTY;

    b = bits_at(in, in_n, (uint64_t)bytepix); /* the first pixel stands before, as it is */
    for (; left > 0; left -= n) {
        n = left < (size_t)blocksize ? left : (size_t)blocksize;
        fs = (int)take(&b, fs_bits) - 1;
        if (b.at > b.end)
            return TF_TRUNCATED;
        if (fs < 0)
            continue; /* n pixels like the last one */
        if (fs > fs_max)
            return TF_BAD_CODE;
        if (fs == fs_max) { /* n differences as they are */
            b.at += (uint64_t)n * (uint64_t)(8 * bytepix);
            status = b.at > b.end ? TF_TRUNCATED : TF_OK;
        } else {
            status = skip_rice(&b, n, fs);
        }
        if (status != TF_OK)
            return status;
    }
    return TF_OK;
}

/* ---------------------------------------------------------------- HCOMPRESS_1 */

#define H_HEADER 25 /* magic 2, nx 4, ny 4, scale 4, sum 8, bit planes 3 */

/* Six bits -> length << 4 | value of the fixed Huffman code for 2 x 2 bits. */
static const uint8_t huffman[64] = {
    0x31, 0x31, 0x31, 0x31, 0x31, 0x31, 0x31, 0x31, 0x32, 0x32, 0x32, 0x32, 0x32, 0x32, 0x32, 0x32,
    0x34, 0x34, 0x34, 0x34, 0x34, 0x34, 0x34, 0x34, 0x38, 0x38, 0x38, 0x38, 0x38, 0x38, 0x38, 0x38,
    0x43, 0x43, 0x43, 0x43, 0x45, 0x45, 0x45, 0x45, 0x4a, 0x4a, 0x4a, 0x4a, 0x4c, 0x4c, 0x4c, 0x4c,
    0x4f, 0x4f, 0x4f, 0x4f, 0x56, 0x56, 0x57, 0x57, 0x59, 0x59, 0x5b, 0x5b, 0x5d, 0x5d, 0x60, 0x6e,
};

static size_t half(size_t n)
{
    return (n + 1) / 2;
}

size_t tf_hcompress_scratch(size_t nx, size_t ny)
{
    return 2 * half(half(nx)) * half(half(ny));
}

static uint8_t huffman_code(struct bits *b)
{
    uint8_t entry = huffman[peek(b) >> 58];
    b->at += entry >> 4;
    return entry & 15;
}

/* One row of children from its row of parents, last child first; the rows may be the same memory. The
 * child in an even column has bit `bit` of its parent, the one in an odd column the bit below. */
static void expand_row(struct bits *b, const uint8_t *parent, uint8_t *child, size_t ny, int bit)
{
    size_t j = ny;

    while (j-- > 0) {
        uint8_t code = parent[j / 2];
        child[j] = (code >> (bit - (int)(j & 1))) & 1 ? huffman_code(b) : 0;
    }
}

/* The codes of one quadtree-coded bit plane of nqx * nqy bits, four bits a code, read from the root. */
static int read_tree(struct bits *b, uint8_t *codes, size_t nqx, size_t nqy)
{
    int level = 0;
    size_t nx, ny, i;

    while (((size_t)1 << level) < nqx || ((size_t)1 << level) < nqy)
        level++;
    codes[0] = huffman_code(b);
    while (--level > 0) {
        /* the number of nodes at this level: halve, rounding up, `level` times */
        nx = ((nqx - 1) >> level) + 1;
        ny = ((nqy - 1) >> level) + 1;
        /* from the last row up, so that no parent is overwritten before its children are made */
        for (i = nx; i-- > 0;)
            expand_row(b, codes + i / 2 * half(ny), codes + i * ny, ny, i & 1 ? 1 : 3);
        if (b->at > b->end)
            return TF_TRUNCATED;
    }
    return b->at > b->end ? TF_TRUNCATED : TF_OK;
}

/* Non-zero pixels: `seen` has four a byte, of which those beyond the edges do not count. */
static uint64_t count_seen(const uint8_t *seen, size_t nqx, size_t nqy)
{
    static const uint8_t ones[16] = {0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4};
    size_t i, j, kx = half(nqx), ky = half(nqy);
    uint64_t total = 0;

    for (i = 0; i < kx; i++) {
        unsigned rows = 2 * i + 1 < nqx ? 15 : 12;
        for (j = 0; j < ky; j++) {
            unsigned columns = 2 * j + 1 < nqy ? 15 : 10;
            total += ones[*seen++ & rows & columns];
        }
    }
    return total;
}

static int read_quadrant(struct bits *b, size_t nqx, size_t nqy, int planes, uint8_t *scratch, uint64_t *nonzero)
{
    size_t i, n = half(nqx) * half(nqy);
    uint8_t *codes = scratch, *seen = scratch + n;
    unsigned format;
    int status;

    if (planes == 0)
        return TF_OK;
    memset(seen, 0, n);
    while (planes-- > 0) {
        format = take(b, 4);
        if (b->at > b->end)
            return TF_TRUNCATED;
        if (format == 0) { /* the codes as they are */
            for (i = 0; i < n; i++)
                codes[i] = (uint8_t)take(b, 4);
        } else if (format == 15) {
            status = read_tree(b, codes, nqx, nqy);
            if (status != TF_OK)
                return status;
        } else {
            return TF_BAD_CODE;
        }
        for (i = 0; i < n; i++)
            seen[i] |= codes[i];
    }
    *nonzero += count_seen(seen, nqx, nqy);
    return TF_OK;
}

int tf_check_hcompress(const uint8_t *in, size_t in_n, size_t nx, size_t ny, int bytepix, uint8_t *scratch)
{
    struct bits b = bits_at(in, in_n, H_HEADER);
    uint64_t nonzero = 0;
    size_t sx, sy;
    int i, status = TF_OK;

    /* a tile one pixel wide has quadrants without pixels, for which decoders allocate nothing */
    if (nx < 2 || ny < 2 || nx > TILE_MAX / ny || in_n > TILE_MAX)
        return TF_BAD_PARAMETER;
    if (in_n == 0)
        return TF_EMPTY;
    if (in_n < H_HEADER)
        return TF_TRUNCATED;
    if (in[0] != 0xdd || in[1] != 0x99)
        return TF_BAD_HEADER;
    sx = be32(in + 2);
    sy = be32(in + 6);
    if (!((sx == nx && sy == ny) || (sx == ny && sy == nx)))
        return TF_WRONG_SIZE;
    for (i = 0; i < 3; i++)
        if (in[H_HEADER - 3 + i] > (bytepix <= 2 ? 31 : 63))
            return TF_BAD_HEADER;

    for (i = 0; i < 4 && status == TF_OK; i++) {
        size_t nqx = i & 2 ? sx / 2 : half(sx), nqy = i & 1 ? sy / 2 : half(sy);
        status = read_quadrant(&b, nqx, nqy, in[H_HEADER - 3 + half((size_t)i)], scratch, &nonzero);
    }
    if (status != TF_OK)
        return status;
    if (take(&b, 4) != 0) /* the end mark */
        return TF_BAD_CODE;
    b.at = (b.at + 7) / 8 * 8;
    if (b.at > b.end || b.end - b.at < nonzero) /* a sign bit for each */
        return TF_TRUNCATED;
    return TF_OK;
}

/* ---------------------------------------------------------------- PLIO_1 */

static int32_t word_at(const uint8_t *be_in, size_t i)
{
    int32_t value = be_in[2 * i] << 8 | be_in[2 * i + 1];
    return value < 0x8000 ? value : value - 0x10000;
}

int tf_check_plio(const uint8_t *be_in, size_t in_n, size_t npix)
{
    size_t words = in_n / 2, length, i, filled = 0;
    int32_t word, code, data;

    if (npix < 1 || npix > TILE_MAX || in_n > TILE_MAX)
        return TF_BAD_PARAMETER;
    if (in_n == 0)
        return TF_EMPTY;
    if (words < 3)
        return TF_TRUNCATED;
    if (word_at(be_in, 2) > 0) { /* the old header: its third word is the length */
        length = (size_t)word_at(be_in, 2);
        i = 3;
    } else {
        if (words < 5)
            return TF_TRUNCATED;
        if (word_at(be_in, 1) < 5 || word_at(be_in, 3) < 0 || word_at(be_in, 4) < 0)
            return TF_BAD_HEADER;
        length = ((size_t)word_at(be_in, 4) << 15) + (size_t)word_at(be_in, 3);
        i = (size_t)word_at(be_in, 1);
        if (length == 0 || i > length)
            return TF_BAD_HEADER; /* cfitsio would return without setting a pixel */
    }
    if (length > words)
        return TF_TRUNCATED;

    while (i < length && filled < npix) {
        word = word_at(be_in, i++);
        if (word < 0)
            return TF_BAD_CODE;
        code = word >> 12;
        data = word & 4095;
        switch (code) {
        case 0: /* a run: of zeros, of the value, of zeros and then the value */
        case 4:
        case 5:
            filled += (size_t)data;
            break;
        case 1: /* the value, its high bits in the next word */
            if (i >= length)
                return TF_TRUNCATED;
            if (word_at(be_in, i++) < 0)
                return TF_BAD_CODE;
            break;
        case 6: /* one pixel, its value given by the difference */
        case 7:
            filled++;
            break;
        default: /* 2, 3: the value, by its difference */
            break;
        }
    }
    return filled > npix ? TF_OVERRUN : TF_OK; /* what is missing is zero */
}
