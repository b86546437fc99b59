#define _GNU_SOURCE
#include "reader.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "guard.h"
#include "least.h"

/* a contiguous run of this many bytes is read straight to where it shall be, also where there is a mapping */
#define LONG_RUN 32768

int tf_pread(int fd, void *to, size_t n, int64_t offset, tf_outcome *outcome)
{
    uint8_t *at = to;
    while (n > 0) {
        const ssize_t got = pread(fd, at, n, offset);
        if (got > 0) {
            at += got;
            offset += got;
            n -= (size_t)got;
        } else if (got == 0 || errno != EINTR) {
            outcome->what = got == 0 ? TF_ENDS : TF_SYSTEM;
            outcome->error = got == 0 ? 0 : errno;
            outcome->offset = offset;
            return -1;
        }
    }
    return 0;
}

/* The kernel's copy is still in the cache when it is swapped where it lies. */
static int read_in_place(tf_reader *r, uint8_t *to, int64_t offset, int64_t bytes)
{
    const int64_t width = (int64_t)tf_width(r->conversion->stored);
    while (bytes > 0) {
        const int64_t n = least(bytes, TF_BUFFER);
        if (tf_pread(r->source->fd, to, (size_t)n, offset, &r->outcome) != 0)
            return -1;
        tf_swap_in_place(r->conversion, to, (size_t)(n / width));
        to += n;
        offset += n;
        bytes -= n;
    }
    return 0;
}

void tf_reader_begin(tf_reader *r, const tf_source *source, const tf_conversion *conversion)
{
    /* not the spans, which are many */
    r->source = source;
    r->conversion = conversion;
    r->buffer = NULL;
    r->low = r->high = 0;
    r->waiting = 0;
    r->scratch = NULL;
    r->outcome = (tf_outcome){TF_DONE, 0, 0};
}

int tf_read_waiting(tf_reader *r)
{
    if (r->waiting == 0)
        return 0;
    if (tf_pread(r->source->fd, r->buffer, (size_t)(r->high - r->low), r->low, &r->outcome) != 0)
        return -1;
    for (int i = 0; i < r->waiting; i++) {
        const tf_span *s = &r->spans[i];
        tf_convert(r->conversion, s->to, r->buffer + (s->offset - r->low), (size_t)s->stride, (size_t)s->count);
    }
    r->waiting = 0;
    return 0;
}

static int wait(tf_reader *r, uint8_t *to, int64_t offset, int64_t stride, int64_t count, int64_t width)
{
    const int64_t end = offset + (count - 1) * stride + width;
    if (!r->buffer && !(r->buffer = malloc(TF_BUFFER))) {
        r->outcome = (tf_outcome){TF_MEMORY, 0, offset};
        return -1;
    }
    if (r->waiting > 0 && (offset < r->low || offset > r->high + TF_GAP ||
                           greatest(end, r->high) - r->low > TF_BUFFER || r->waiting == TF_SPANS)) {
        if (tf_read_waiting(r) != 0)
            return -1;
    }
    r->low = r->waiting > 0 ? r->low : offset;
    r->high = r->waiting > 0 ? greatest(r->high, end) : end;
    r->spans[r->waiting++] = (tf_span){to, offset, stride, count};
    return 0;
}

int tf_read_span(tf_reader *r, void *to, int64_t offset, int64_t stride, int64_t count)
{
    const tf_source *source = r->source;
    const int64_t width = (int64_t)tf_width(r->conversion->stored);
    const int64_t wanted = (int64_t)tf_width(r->conversion->wanted);
    uint8_t *out = to;

    if (count <= 0)
        return 0;
    if (source->fd >= 0 && !source->warm && stride == width && count >= LONG_RUN / width && tf_is_swap(r->conversion))
        return tf_read_waiting(r) != 0 ? -1 : read_in_place(r, out, offset, count * width);
    if (source->bytes) {
        tf_convert(r->conversion, out, source->bytes + offset, (size_t)stride, (size_t)count);
        return 0;
    }
    /* far apart, each pixel is a span of its own */
    const int64_t most = stride > TF_GAP ? 1 : (TF_BUFFER - width) / stride + 1;
    while (count > 0) {
        const int64_t n = least(count, most);
        if (wait(r, out, offset, stride, n, width) != 0)
            return -1;
        out += n * wanted;
        offset += n * stride;
        count -= n;
    }
    return 0;
}

/* ---------------------------------------------------------------------------- pieces, threads and trouble */

typedef struct {
    const tf_source *source;
    const tf_conversion *conversion;
    tf_piece_work work;
    const void *job;
    tf_pieces pieces;
    int in_trouble;
    tf_outcome outcome; /* of the thread that set in_trouble first */
} common;

typedef struct {
    common *all;
    tf_reader *reader;
} one_thread;

static void work_on_pieces(void *argument)
{
    one_thread *t = argument;
    int64_t piece;
    while (t->reader->outcome.what == TF_DONE && (piece = tf_next_piece(&t->all->pieces)) >= 0)
        t->all->work(t->reader, t->all->job, piece);
    if (t->reader->outcome.what == TF_DONE)
        tf_read_waiting(t->reader);
}

static void run_thread(void *argument)
{
    common *all = argument;
    const tf_source *source = all->source;
    tf_outcome outcome = {TF_MEMORY, 0, 0};
    tf_reader *reader = malloc(sizeof *reader);
    if (reader) {
        one_thread t = {all, reader};
        int fault = 0;
        tf_reader_begin(reader, source, all->conversion);
        if (source->mapped)
            fault = tf_guarded(work_on_pieces, &t, source->bytes, (size_t)source->size);
        else
            work_on_pieces(&t);
        outcome = fault != 0 ? (tf_outcome){TF_ENDS, 0, -1} : reader->outcome;
    }
    if (reader) {
        free(reader->buffer);
        free(reader->scratch);
    }
    free(reader);
    if (outcome.what != TF_DONE) {
        tf_stop_pieces(&all->pieces);
        if (__atomic_exchange_n(&all->in_trouble, 1, __ATOMIC_ACQ_REL) == 0)
            all->outcome = outcome;
    }
}

tf_outcome tf_read_pieces(const tf_source *source, const tf_conversion *conversion, tf_piece_work work,
                          const void *job, int64_t pieces, int threads)
{
    common all = {source, conversion, work, job, {0, pieces}, 0, {TF_DONE, 0, 0}};
    tf_parallel(run_thread, &all, (int)least(threads, pieces));
    return all.outcome;
}

/* ---------------------------------------------------------------------------- cold pages */

static int64_t page_size(void)
{
    return (int64_t)sysconf(_SC_PAGESIZE);
}

/* The lowest bit of a byte a page; 0, or -1 where the system does not tell. */
static int residence(const uint8_t *start, size_t length, unsigned char *pages)
{
#if defined(__APPLE__)
    return mincore((void *)start, length, (char *)pages);
#else
    return mincore((void *)start, length, pages);
#endif
}

int tf_is_cold(const tf_source *source, int64_t offset)
{
    const int64_t page = page_size();
    unsigned char resident = 1;
    return source->mapped && residence(source->bytes + offset / page * page, (size_t)page, &resident) == 0 &&
           !(resident & 1);
}

int tf_is_resident(const tf_source *source, int64_t offset, int64_t length)
{
    const int64_t page = page_size(), first = offset / page * page;
    const int64_t count = (offset + length - first + page - 1) / page;
    unsigned char pages[TF_WARM_MOST / 4096 + 2];
    if (!source->mapped || count > (int64_t)sizeof pages ||
        residence(source->bytes + first, (size_t)(offset + length - first), pages) != 0)
        return 0;
    for (int64_t i = 0; i < count; i++)
        if (!(pages[i] & 1))
            return 0;
    return 1;
}

void tf_announce(const tf_source *source, int64_t offset, int64_t length)
{
    const int64_t page = page_size(), first = offset / page * page;
    madvise((void *)(source->bytes + first), (size_t)(offset + length - first), MADV_WILLNEED);
}
