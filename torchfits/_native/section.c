#include "section.h"

/* a job is cut at these bytes of the destination, so that a huge page is first touched by one thread */
#define LARGE_PIECE ((int64_t)1 << 21)
/* less is not worth a thread */
#define SMALL_PIECE ((int64_t)1 << 18)

void tf_section_begin(tf_section *s, int64_t start, int64_t width)
{
    s->axes = 1;
    s->start = start;
    s->count[0] = 1;
    s->stride[0] = width;
}

int tf_section_add(tf_section *s, int64_t start, int64_t count, int64_t stride)
{
    const int last = s->axes - 1;
    s->start += start;
    if (count == 1)
        return 0;
    if (s->count[last] == 1) {
        s->count[last] = count;
        s->stride[last] = stride;
    } else if (s->stride[last] == count * stride) {
        s->count[last] *= count;
        s->stride[last] = stride;
    } else {
        if (s->axes == TF_SECTION_AXES)
            return -1;
        s->count[s->axes] = count;
        s->stride[s->axes] = stride;
        s->axes++;
    }
    return 0;
}

int64_t tf_section_pixels(const tf_section *s)
{
    int64_t n = 1;
    for (int i = 0; i < s->axes; i++)
        n *= s->count[i];
    return n;
}

int64_t tf_section_end(const tf_section *s, int64_t width)
{
    int64_t end = s->start + width;
    for (int i = 0; i < s->axes; i++)
        end += (s->count[i] - 1) * s->stride[i];
    return end;
}

int tf_section_is_scattered(const tf_section *s, int64_t width)
{
    const int run = s->axes - 1;
    const int64_t span = (s->count[run] - 1) * s->stride[run] + width;
    return s->stride[run] > TF_GAP || (run > 0 && s->stride[run - 1] - span > TF_GAP);
}

typedef struct {
    const tf_section *section;
    uint8_t *to;
    int64_t pixels, lead, piece; /* pixels in all, up to the first cut, from cut to cut */
} section_job;

/* Pixels [first, last) of the section, counted in its own order. */
static int read_range(tf_reader *r, const tf_section *s, uint8_t *to, int64_t first, int64_t last)
{
    const int run = s->axes - 1;
    const int64_t wanted = (int64_t)tf_width(r->conversion->wanted);
    int64_t at[TF_SECTION_AXES], offset = s->start, rest = first;

    for (int i = run; i >= 0; i--) {
        at[i] = rest % s->count[i];
        rest /= s->count[i];
        offset += at[i] * s->stride[i];
    }
    while (first < last) {
        int64_t n = s->count[run] - at[run];
        if (n > last - first)
            n = last - first;
        if (tf_read_span(r, to, offset, s->stride[run], n) != 0)
            return -1;
        to += n * wanted;
        first += n;
        offset -= at[run] * s->stride[run];
        at[run] = 0;
        for (int i = run - 1; i >= 0; i--) {
            offset += s->stride[i];
            if (++at[i] < s->count[i])
                break;
            offset -= at[i] * s->stride[i];
            at[i] = 0;
        }
    }
    return 0;
}

static void announce(const tf_source *source, const tf_section *s, int64_t width)
{
    const int run = s->axes - 1;
    const int64_t span = (s->count[run] - 1) * s->stride[run] + width;
    /* one plane ahead; more would be a guess */
    if (run > 0 && tf_is_cold(source, s->start))
        for (int64_t i = 0; i < s->count[run - 1]; i++)
            tf_announce(source, s->start + i * s->stride[run - 1], span);
}

static void read_piece(tf_reader *r, const void *argument, int64_t piece)
{
    const section_job *job = argument;
    const int64_t wanted = (int64_t)tf_width(r->conversion->wanted);
    int64_t first = job->lead + (piece - 1) * job->piece, last = first + job->piece;
    if (first < 0)
        first = 0;
    if (last > job->pixels)
        last = job->pixels;
    read_range(r, job->section, job->to + first * wanted, first, last);
}

int tf_read_section_alone(tf_reader *r, const tf_section *s, void *to)
{
    return read_range(r, s, to, 0, tf_section_pixels(s));
}

tf_outcome tf_read_section(const tf_source *source, const tf_conversion *conversion, const tf_section *section,
                           void *to, int threads)
{
    const int64_t wanted = (int64_t)tf_width(conversion->wanted), pixels = tf_section_pixels(section);
    const int64_t bytes = pixels * wanted;
    int64_t piece = LARGE_PIECE, lead;

    if (bytes < TF_SMALL_JOB)
        threads = 1;
    if (threads > 1 && bytes < 4 * threads * LARGE_PIECE)
        piece = bytes / (4 * threads) > SMALL_PIECE ? bytes / (4 * threads) / 64 * 64 : SMALL_PIECE;
    /* the first piece ends where a multiple of the piece does */
    lead = (piece - (int64_t)((uintptr_t)to % (uintptr_t)piece)) / wanted;
    section_job job = {section, to, pixels, lead < pixels ? lead : pixels, piece / wanted};
    if (source->mapped)
        announce(source, section, (int64_t)tf_width(conversion->stored));
    const int64_t pieces = 1 + (job.pixels - job.lead + job.piece - 1) / job.piece;
    return tf_read_pieces(source, conversion, read_piece, &job, pieces, threads);
}

static void read_part(tf_reader *r, const void *argument, int64_t piece)
{
    const tf_part *part = (const tf_part *)argument + piece;
    r->source = &part->source;
    r->conversion = &part->conversion;
    if (tf_read_section_alone(r, &part->section, part->to) == 0)
        tf_read_waiting(r);
}

tf_outcome tf_read_parts(const tf_source *source, const tf_part *parts, int64_t count, int threads)
{
    int64_t bytes = 0;
    for (int64_t i = 0; i < count; i++)
        bytes += tf_section_pixels(&parts[i].section) * (int64_t)tf_width(parts[i].conversion.wanted);
    return tf_read_pieces(source, NULL, read_part, parts, count, bytes < TF_SMALL_JOB ? 1 : threads);
}
