#include "transform.h"

#include <float.h>
#include <math.h>
#include <string.h>
#include <tab.h>

#include "_native/parallel.h"
#include "cards.h"

/* Coordinates of a block: what it needs lies in the fastest cache. */
#define BLOCK 1024
/* Blocks that a thread takes at a time. */
#define BLOCKS 8

typedef struct {
    const tf_wcs_way *way;
    struct wcsprm *const *copies;
    int to_world, next_copy;
    const double *in;
    double *out;
    int64_t n;
    tf_pieces pieces;
} job;

/* What wcslib wants room for, beside the points. */
typedef struct {
    double from[BLOCK], plane[BLOCK], phi[BLOCK], theta[BLOCK];
    int stat[BLOCK];
    int aside[BLOCK];
} scratch;

/* Points of which wcslib says that they have no answer get none, in those coordinates that it names. */
static void forget_invalid(double *points, int naxis, const int *stat, int n)
{
    for (int k = 0; k < n; k++)
        for (int i = 0; stat[k] && i < naxis; i++)
            if ((unsigned)stat[k] >> i & 1)
                points[k * naxis + i] = NAN;
}

/* Whether the intermediate world coordinates of a pixel are numbers. */
static int is_in_plane(const struct wcsprm *wcs, const double *pixel)
{
    const int naxis = wcs->naxis;
    for (int i = 0; i < naxis; i++) {
        double sum = 0;
        for (int j = 0; j < naxis; j++)
            sum += wcs->cdelt[i] * wcs->pc[i * naxis + j] * (pixel[j] - wcs->crpix[j]);
        if (!isfinite(sum))
            return 0;
    }
    return 1;
}

/* tabx2s of wcslib 7.12 makes an index of NaN: what would become one is replaced by the reference for a while. The
 * bits of `aside` are the coordinates of the answer that there cannot be. */
static void set_aside(const struct wcsprm *wcs, int to_world, double *points, int n, int *aside)
{
    const int naxis = wcs->naxis;
    for (int k = 0; k < n; k++) {
        double *point = points + k * naxis;
        aside[k] = 0;
        if (to_world) {
            if (!is_in_plane(wcs, point)) {
                aside[k] = -1;
                memcpy(point, wcs->crpix, sizeof(double) * (size_t)naxis);
            }
            continue;
        }
        for (int i = 0; i < naxis; i++) {
            if (!isfinite(point[i])) {
                aside[k] |= (int)(1u << i);
                point[i] = wcs->crval[i];
            }
        }
    }
}

/* tabs2x of wcslib 7.12 divides by the length of a cell, also where that is 0 or overflows, and takes NaN for a place
 * in the index. */
static int is_odd_cell(const struct tabprm *tab, int i)
{
    const double length = tab->coord[i + 1] - tab->coord[i];
    return tab->index[0][i] != tab->index[0][i + 1] && (length == 0 || !isfinite(length));
}

/* Whether it comes to that: the first cell that has the coordinate counts. */
static int is_in_odd_cell(const struct tabprm *tab, double world)
{
    const double *c = tab->coord;
    for (int i = 0; world != c[0] && i < tab->K[0] - 1; i++)
        if (((c[i] <= world && world <= c[i + 1]) || (c[i] >= world && world >= c[i + 1])) &&
            tab->index[0][i] != tab->index[0][i + 1])
            return isnan((world - c[i]) / (c[i + 1] - c[i]));
    return 0;
}

/* Such points are replaced by the first coordinate, of which wcslib asks no cell. */
static void set_odd_cells_aside(const struct tabprm *tab, int naxis, double *points, int n, int *aside)
{
    int odd = 0;
    for (int i = 0; tab->M == 1 && tab->index[0] && i < tab->K[0] - 1; i++)
        odd |= is_odd_cell(tab, i);
    for (int k = 0; odd && k < n; k++) {
        double *world = points + k * naxis + tab->map[0];
        if (is_in_odd_cell(tab, *world)) {
            aside[k] |= (int)(1u << tab->map[0]);
            *world = tab->coord[0];
        }
    }
}

static void by_wcslib(struct wcsprm *wcs, int to_world, double *points, int n, scratch *s)
{
    const int naxis = wcs->naxis;
    int status;
    memcpy(s->from, points, sizeof(double) * (size_t)(n * naxis));
    if (to_world)
        status = wcsp2s(wcs, n, naxis, s->from, s->plane, s->phi, s->theta, points, s->stat);
    else
        status = wcss2p(wcs, n, naxis, s->from, s->phi, s->theta, s->plane, points, s->stat);
    if (status == 0)
        return;
    if (status == (to_world ? WCSERR_BAD_PIX : WCSERR_BAD_WORLD)) {
        forget_invalid(points, naxis, s->stat, n);
    } else if (n == 1) {
        for (int i = 0; i < naxis; i++)
            points[i] = NAN;
    } else { /* it gave up at one of them */
        memcpy(points, s->from, sizeof(double) * (size_t)(n * naxis));
        for (int k = 0; k < n; k++)
            by_wcslib(wcs, to_world, points + k * naxis, 1, s);
    }
}

static void carefully(struct wcsprm *wcs, int to_world, double *points, int n, scratch *s)
{
    if (wcs->ntab)
        set_aside(wcs, to_world, points, n, s->aside);
    for (int i = 0; i < wcs->ntab && !to_world; i++)
        set_odd_cells_aside(wcs->tab + i, wcs->naxis, points, n, s->aside);
    by_wcslib(wcs, to_world, points, n, s);
    if (wcs->ntab)
        forget_invalid(points, wcs->naxis, s->aside, n);
}

/* Adds to the pixel coordinates. */
static void shift(double *points, size_t count, double by)
{
    if (by != 0)
        for (size_t i = 0; i < count; i++)
            points[i] += by;
}

/* What overflowed is no coordinate. */
static void forget_infinite(double *points, size_t count)
{
    for (size_t i = 0; i < count; i++)
        points[i] = fabs(points[i]) <= DBL_MAX ? points[i] : NAN;
}

static void block(const job *j, struct wcsprm *wcs, double *points, int n, scratch *s)
{
    const tf_wcs_way *way = j->way;
    const size_t naxis = (size_t)way->naxis, count = (size_t)n;
    if (j->to_world) {
        shift(points, count * naxis, 1 - way->origin);
        if (way->distortion)
            tf_distort(way->distortion, points, count, naxis);
        if (way->gnomonic)
            tf_gnomonic_to_world(way->gnomonic, points, count);
        else
            carefully(wcs, 1, points, n, s);
    } else {
        if (way->gnomonic)
            tf_gnomonic_to_pixel(way->gnomonic, points, count);
        else
            carefully(wcs, 0, points, n, s);
        if (way->distortion)
            tf_undistort(way->distortion, points, count, naxis);
        shift(points, count * naxis, way->origin - 1);
    }
    forget_infinite(points, count * naxis);
}

static void work(void *argument)
{
    job *j = argument;
    const int64_t naxis = j->way->naxis, points = BLOCK / naxis;
    struct wcsprm *wcs = j->copies ? j->copies[__atomic_fetch_add(&j->next_copy, 1, __ATOMIC_RELAXED)] : NULL;
    scratch s;
    for (int64_t piece; (piece = tf_next_piece(&j->pieces)) >= 0;) {
        int64_t first = piece * points * BLOCKS, end = first + points * BLOCKS;
        end = end < j->n ? end : j->n;
        for (; first < end; first += points) {
            const int64_t n = end - first < points ? end - first : points;
            double *out = j->out + first * naxis;
            if (out != j->in + first * naxis)
                memcpy(out, j->in + first * naxis, sizeof(double) * (size_t)(n * naxis));
            block(j, wcs, out, (int)n, &s);
        }
    }
}

static void run(job *j, int threads)
{
    const int64_t piece = BLOCK / j->way->naxis * BLOCKS;
    j->pieces.count = (j->n + piece - 1) / piece;
    tf_parallel(work, j, j->pieces.count < threads ? (int)j->pieces.count : threads);
}

void tf_wcs_to_world(const tf_wcs_way *way, struct wcsprm *const *copies, int threads, const double *in, double *out,
                     int64_t n)
{
    job j = {.way = way, .copies = copies, .to_world = 1, .in = in, .out = out, .n = n};
    run(&j, threads);
}

void tf_wcs_to_pixel(const tf_wcs_way *way, struct wcsprm *const *copies, int threads, const double *in, double *out,
                     int64_t n)
{
    job j = {.way = way, .copies = copies, .in = in, .out = out, .n = n};
    run(&j, threads);
}
