#include "cutouts.h"

#include <stdlib.h>

/* rows of a mapping that are asked for ahead of their use */
#define AHEAD 4
/* where there is no mapping: windows that share the reads of one sweep */
#define SWEEP 64

/* The part of a window that is inside along one axis: [first, last) of the image; empty where first >= last. */
typedef struct {
    int64_t first, last;
} inside;

static inside clip(int64_t corner, int64_t size, int64_t length)
{
    /* a corner may be any number, so nothing is added to it before it is known to be near */
    if (corner >= length || corner <= -size)
        return (inside){0, 0};
    return (inside){corner > 0 ? corner : 0, corner + size < length ? corner + size : length};
}

int tf_windows_reach_outside(const tf_planes *image, const tf_windows *w)
{
    for (int64_t i = 0; i < w->count; i++) {
        const int64_t row = w->corners[2 * i], column = w->corners[2 * i + 1];
        if (row < 0 || column < 0 || row > image->rows - w->rows || column > image->columns - w->columns)
            return 1;
    }
    return 0;
}

typedef struct {
    const tf_planes *image;
    const tf_windows *windows;
    uint8_t *to;
    const int64_t *order; /* windows by their first row; NULL where they are taken one by one */
    int64_t width, wanted;
} cutouts_job;

static uint8_t *place(const cutouts_job *job, int64_t window, int64_t plane)
{
    const int64_t pixels = job->windows->rows * job->windows->columns;
    return job->to + (window * job->image->planes + plane) * pixels * job->wanted;
}

static int64_t offset_of(const cutouts_job *job, int64_t plane, int64_t row, int64_t column)
{
    const tf_planes *image = job->image;
    return image->start + ((plane * image->rows + row) * image->columns + column) * job->width;
}

/* Fills a window that is not wholly inside. */
static void fill(const cutouts_job *job, int64_t window, int64_t plane, inside rows, inside columns)
{
    const tf_windows *w = job->windows;
    if (rows.last - rows.first < w->rows || columns.last - columns.first < w->columns)
        tf_fill(place(job, window, plane), w->fill, (size_t)job->wanted, (size_t)(w->rows * w->columns));
}

static int read_row(tf_reader *r, const cutouts_job *job, int64_t window, int64_t plane, int64_t row, inside columns)
{
    const tf_windows *w = job->windows;
    const int64_t top = w->corners[2 * window], left = w->corners[2 * window + 1];
    uint8_t *to = place(job, window, plane) + ((row - top) * w->columns + columns.first - left) * job->wanted;
    return tf_read_span(r, to, offset_of(job, plane, row, columns.first), job->width, columns.last - columns.first);
}

/* One window of one plane, row by row. */
static void read_window(tf_reader *r, const void *argument, int64_t piece)
{
    const cutouts_job *job = argument;
    const int64_t window = piece / job->image->planes, plane = piece % job->image->planes;
    const tf_windows *w = job->windows;
    const inside rows = clip(w->corners[2 * window], w->rows, job->image->rows);
    const inside columns = clip(w->corners[2 * window + 1], w->columns, job->image->columns);
    const int64_t bytes = (columns.last - columns.first) * job->width;

    fill(job, window, plane, rows, columns);
    if (bytes <= 0 || rows.first >= rows.last)
        return;
    if (tf_is_cold(r->source, offset_of(job, plane, (rows.first + rows.last) / 2, columns.first)))
        for (int64_t row = rows.first; row < rows.last; row++)
            tf_announce(r->source, offset_of(job, plane, row, columns.first), bytes);
    for (int64_t row = rows.first; row < rows.last; row++) {
        if (row + AHEAD < rows.last)
            for (int64_t i = 0; i < bytes; i += 64)
                __builtin_prefetch(r->source->bytes + offset_of(job, plane, row + AHEAD, columns.first) + i);
        if (read_row(r, job, window, plane, row, columns) != 0)
            return;
    }
}

/* Windows SWEEP * piece and following, in the order of their rows: rows that several of them share are read once. */
static void sweep(tf_reader *r, const void *argument, int64_t piece)
{
    const cutouts_job *job = argument;
    const tf_windows *w = job->windows;
    const int64_t first = piece * SWEEP, last = first + SWEEP < w->count ? first + SWEEP : w->count;
    inside rows[SWEEP], columns[SWEEP];

    for (int64_t i = first; i < last; i++) {
        const int64_t window = job->order[i];
        rows[i - first] = clip(w->corners[2 * window], w->rows, job->image->rows);
        columns[i - first] = clip(w->corners[2 * window + 1], w->columns, job->image->columns);
    }
    for (int64_t plane = 0; plane < job->image->planes; plane++) {
        for (int64_t i = 0; i < last - first; i++)
            fill(job, job->order[first + i], plane, rows[i], columns[i]);
        int active[SWEEP], n = 0;
        int64_t next = first, row = 0;
        while (n > 0 || next < last) {
            if (n == 0 && rows[next - first].first > row)
                row = rows[next - first].first;
            /* those that begin here, kept in the order of their columns */
            for (; next < last && rows[next - first].first <= row; next++) {
                const int new = (int)(next - first);
                int at = n;
                if (rows[new].first >= rows[new].last || columns[new].first >= columns[new].last)
                    continue;
                for (; at > 0 && columns[active[at - 1]].first > columns[new].first; at--)
                    active[at] = active[at - 1];
                active[at] = new;
                n++;
            }
            int kept = 0;
            for (int i = 0; i < n; i++) {
                const int each = active[i];
                if (rows[each].last <= row)
                    continue;
                active[kept++] = each;
                if (read_row(r, job, job->order[first + each], plane, row, columns[each]) != 0)
                    return;
            }
            n = kept;
            row++;
        }
    }
    tf_read_waiting(r);
}

typedef struct {
    int64_t row, window;
} by_row;

static int compare(const void *a, const void *b)
{
    const by_row *x = a, *y = b;
    if (x->row != y->row)
        return x->row < y->row ? -1 : 1;
    return x->window < y->window ? -1 : x->window > y->window;
}

/* The windows by the first row that is inside. */
static int64_t *order_of(const tf_planes *image, const tf_windows *w)
{
    by_row *keys = malloc((size_t)w->count * sizeof *keys);
    int64_t *order = malloc((size_t)w->count * sizeof *order);
    if (keys && order) {
        for (int64_t i = 0; i < w->count; i++)
            keys[i] = (by_row){clip(w->corners[2 * i], w->rows, image->rows).first, i};
        qsort(keys, (size_t)w->count, sizeof *keys, compare);
        for (int64_t i = 0; i < w->count; i++)
            order[i] = keys[i].window;
        free(keys);
        return order;
    }
    free(keys);
    free(order);
    return NULL;
}

tf_outcome tf_read_cutouts(const tf_source *source, const tf_conversion *conversion, const tf_planes *image,
                           const tf_windows *windows, void *to, int threads)
{
    cutouts_job job = {image, windows, to, NULL, (int64_t)tf_width(conversion->stored),
                       (int64_t)tf_width(conversion->wanted)};
    tf_outcome outcome = {TF_DONE, 0, 0};
    if (windows->count == 0)
        return outcome;
    if (windows->count * image->planes * windows->rows * windows->columns * job.wanted < TF_SMALL_JOB)
        threads = 1;
    if (source->bytes)
        return tf_read_pieces(source, conversion, read_window, &job, windows->count * image->planes, threads);
    int64_t *order = order_of(image, windows);
    if (!order)
        return (tf_outcome){TF_MEMORY, 0, 0};
    job.order = order;
    outcome = tf_read_pieces(source, conversion, sweep, &job, (windows->count + SWEEP - 1) / SWEEP, threads);
    free(order);
    return outcome;
}
