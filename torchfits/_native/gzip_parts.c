#include "gzip_parts.h"

#include <limits.h>
#include <string.h>

#include "deflate.h"
#include "inflate.h"
#include "least.h"
#include "parallel.h"

/* about so many for each thread, to be resolved and summed up; and one more for each part that is no whole number of them */
#define PIECES 4
#define MOST_PIECES (TF_GZIP_THREADS * (PIECES + 1))

/* ---------------------------------------------------------------------------- sharing out */

/* Less is not worth a thread. */
#define LEAST_PART ((size_t)384 << 10)
/* More of a stream, or what makes more, takes more memory and hardly less time. */
#define MOST_OF_PART ((size_t)2 << 20)
#define MOST_OF_MADE ((size_t)4 << 20)
/* What makes more times its bytes is mostly repeated, which costs twice as much where it may be unknown. */
#define MOST_RATIO 8
/* bits in which a block is looked for, and a quarter of the part more */
#define LEAST_SEARCH (8 << 12)

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

tf_sharing tf_share_gzip(size_t size, size_t makes, int threads)
{
    const double ratio = size < makes ? (double)makes / (double)size : 1;
    tf_sharing s = {0, 0, 0};
    if (threads < 2 || size < 2 * LEAST_PART || ratio > MOST_RATIO)
        return s;
    s.threads = (int)smaller(smaller((size_t)threads, TF_GZIP_THREADS), size / LEAST_PART);
    /* in equal turns */
    const size_t each = size / (size_t)s.threads, most = smaller(MOST_OF_PART, (size_t)(MOST_OF_MADE / ratio));
    s.part = each / (each / most + 1) + 1;
    /* one part makes more than another */
    s.units = (size_t)((double)s.part * ratio * 1.5) + 65536;
    return s;
}

static size_t room_of_part(const tf_sharing *s)
{
    return TF_INFLATE_WINDOW + s->units + TF_INFLATE_SLACK;
}

size_t tf_sharing_scratch(const tf_sharing *s)
{
    /* the first part is inflated to its place */
    return s->threads > 1 ? (size_t)(s->threads - 1) * room_of_part(s) * sizeof(uint16_t) : 0;
}

/* ---------------------------------------------------------------------------- a turn */

typedef struct {
    uint64_t from, to; /* bits of the stream */
    tf_blocks state;
    size_t n;      /* bytes that it makes */
    size_t before; /* bytes before them */
    uint16_t *units;
    int64_t pieces; /* that it and those before it have */
} part;

typedef struct {
    tf_stream stream;
    const tf_sharing *sharing;
    uint8_t *bytes;
    size_t room, made; /* before this turn */
    uint64_t begin;
    uint16_t *scratch;
    part parts[TF_GZIP_THREADS];
    int count; /* of them that follow one another */
    tf_pieces pieces;
    /* what was made, in pieces of so many bytes, and a check sum of each */
    size_t piece;
    uint32_t sums[MOST_PIECES];
} job;

static void inflate_other(const job *j, part *p, uint64_t from, uint64_t until)
{
    const int64_t found = tf_find_block(j->stream, from, from + (until - from) / 4 + LEAST_SEARCH);
    if (found < 0)
        return;
    for (unsigned i = 0; i < TF_INFLATE_WINDOW; i++)
        p->units[i] = (uint16_t)(TF_INFLATE_UNKNOWN | i);
    p->units += TF_INFLATE_WINDOW;
    p->from = p->to = (uint64_t)found;
    p->state = tf_inflate_blocks(j->stream, &p->to, until, 2, p->units, TF_INFLATE_WINDOW, j->sharing->units, &p->n);
}

static void inflate_parts(void *of)
{
    job *j = of;
    const uint64_t bits = 8 * (uint64_t)j->sharing->part;
    for (int64_t i; (i = tf_next_piece(&j->pieces)) >= 0;) {
        const uint64_t from = j->begin + bits * (uint64_t)i, until = from + bits;
        part *p = &j->parts[i];
        if (i == 0)
            p->state = tf_inflate_blocks(j->stream, &p->to, until, 1, j->bytes + j->made, j->made, j->room - j->made,
                                         &p->n);
        else
            inflate_other(j, p, from, until);
    }
}

/* How many parts follow one another, each from where the one before it stopped. */
static int count_connected(const job *j)
{
    const part *p = j->parts;
    size_t made = j->made + p->n;
    int count = 1;
    for (; count < j->sharing->threads; count++, p++) {
        /* less than a window before it would be known too little of */
        if (p->state != TF_BLOCKS_STOPPED || p[1].state == TF_BLOCKS_BAD || p[1].from != p->to
            || made < TF_INFLATE_WINDOW || p[1].n > j->room - made)
            break;
        made += p[1].n;
    }
    return count;
}

/* The units from `from` to before `to` of a part; the window before it is known. */
static void resolve(const job *j, const part *p, size_t from, size_t to)
{
    if (from < to)
        tf_inflate_resolve(p->units + from, to - from, j->bytes + p->before - TF_INFLATE_WINDOW,
                           j->bytes + p->before + from);
}

/* The end of a part is a window for the next one, and resolved first. */
static size_t start_of_end(const part *p)
{
    return p->n - smaller(p->n, TF_INFLATE_WINDOW);
}

/* The i-th piece: the part it is of, and its range there. */
static const part *find_piece(const job *j, int64_t i, size_t *from, size_t *to)
{
    const part *p = j->parts;
    int64_t before = 0;
    for (; p->pieces <= i; p++)
        before = p->pieces;
    *from = (size_t)(i - before) * j->piece;
    *to = smaller(*from + j->piece, p->n);
    return p;
}

static void resolve_and_sum(void *of)
{
    job *j = of;
    size_t from, to;
    for (int64_t i; (i = tf_next_piece(&j->pieces)) >= 0;) {
        const part *p = find_piece(j, i, &from, &to);
        if (p != j->parts)
            resolve(j, p, from, smaller(to, start_of_end(p)));
        j->sums[i] = tf_crc32(0, j->bytes + p->before + from, to - from);
    }
}

/* Makes bytes of all parts, and goes on behind them. */
static void put_together(job *j, uint32_t *sum)
{
    const size_t threads = (size_t)j->sharing->threads;
    const part *const end = j->parts + j->count;
    size_t total = 0, from, to;
    for (part *p = j->parts; p < end; p++) {
        p->before = j->made + total;
        total += p->n;
        if (p != j->parts)
            resolve(j, p, start_of_end(p), p->n);
    }
    j->piece = total / (PIECES * threads) + 1;
    j->pieces = (tf_pieces){0, 0};
    for (part *p = j->parts; p < end; p++)
        p->pieces = j->pieces.count += (int64_t)((p->n + j->piece - 1) / j->piece);
    const int64_t pieces = j->pieces.count;
    tf_parallel(resolve_and_sum, j, (int)threads);
    for (int64_t i = 0; i < pieces; i++) {
        find_piece(j, i, &from, &to);
        *sum = tf_crc32_joined(*sum, j->sums[i], to - from);
    }
    j->made += total;
    j->begin = end[-1].to;
}

/* As many parts as there are threads, from `begin` on; which goes on, as `made` and their check sum do. */
static tf_blocks take_turn(job *j, uint32_t *sum)
{
    const int threads = j->sharing->threads;
    for (int i = 0; i < threads; i++) {
        uint16_t *const units = i == 0 ? NULL : j->scratch + (size_t)(i - 1) * room_of_part(j->sharing);
        j->parts[i] = (part){j->begin, j->begin, TF_BLOCKS_BAD, 0, 0, units, 0};
    }
    j->pieces = (tf_pieces){0, threads};
    tf_parallel(inflate_parts, j, threads);
    if (j->parts[0].state != TF_BLOCKS_STOPPED && j->parts[0].state != TF_BLOCKS_ENDED)
        return j->parts[0].state;
    j->count = count_connected(j);
    put_together(j, sum);
    /* of a part that found no more room what it made is as good */
    return j->parts[j->count - 1].state == TF_BLOCKS_ENDED ? TF_BLOCKS_ENDED : TF_BLOCKS_STOPPED;
}

/* ---------------------------------------------------------------------------- a member */

/* flags of gzip (RFC 1952): a check sum of the header, more of it, a name, a comment */
#define HAS_SUM 2
#define HAS_MORE 4
#define HAS_NAME 8
#define HAS_COMMENT 16
#define TRAILER 8

/* The bytes of a member's header; 0 where it is none that is read here. */
static size_t header_size(tf_stream file)
{
    const uint8_t *const bytes = file.bytes;
    size_t size = 10;
    if (file.size < size || bytes[0] != 0x1f || bytes[1] != 0x8b || bytes[2] != 8 || bytes[3] & HAS_SUM || bytes[3] > 31)
        return 0;
    if (bytes[3] & HAS_MORE) {
        if (file.size < size + 2)
            return 0;
        size += 2 + (size_t)(bytes[10] | bytes[11] << 8);
    }
    for (int texts = !!(bytes[3] & HAS_NAME) + !!(bytes[3] & HAS_COMMENT); texts > 0; texts--) {
        const uint8_t *const end = size < file.size ? memchr(bytes + size, 0, file.size - size) : NULL;
        if (!end)
            return 0;
        size = (size_t)(end - bytes) + 1;
    }
    return size < file.size ? size : 0;
}

static uint32_t little_endian(const uint8_t *at)
{
    return at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

int tf_inflate_gzip_in_parts(tf_stream file, const tf_sharing *sharing, void *scratch, uint8_t *to, size_t room,
                             size_t *taken, size_t *made)
{
    const size_t header = header_size(file);
    tf_blocks state = TF_BLOCKS_STOPPED;
    uint32_t sum = 0;
    int turns = 0, is_shared = sharing->threads == 1;

    if (header == 0)
        return -1;
    job j = {.stream = {file.bytes + header, file.size - header}, .sharing = sharing, .bytes = to, .room = room,
             .scratch = scratch};
    for (; state == TF_BLOCKS_STOPPED; turns += turns < INT_MAX) {
        state = take_turn(&j, &sum);
        is_shared |= j.count > 1;
        /* what one thread does a library does better */
        if (state == TF_BLOCKS_STOPPED && !is_shared && j.made >= TF_INFLATE_WINDOW)
            return 0;
    }
    const size_t end = header + (size_t)((j.begin + 7) / 8);
    if (state != TF_BLOCKS_ENDED || file.size - end < TRAILER || little_endian(file.bytes + end) != sum
        || little_endian(file.bytes + end + 4) != (uint32_t)j.made)
        return -1;
    *taken = end + TRAILER;
    *made = j.made;
    return turns;
}
