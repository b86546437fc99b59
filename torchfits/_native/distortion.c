#include "distortion.h"

#include <math.h>
#include <string.h>

#define MOST_STEPS 40
/* Newton's steps square what is left: after one shorter than this, in pixels, what is left is below 1e-10 */
#define LAST_SMOOTH_STEP 1e-6
/* from one cell of a table to the next the slope jumps, and nothing is squared */
#define LAST_STEP 1e-10

/* A value and its derivatives by the two coordinates. */
typedef struct {
    double f, du, dv;
} slope;

/* Both polynomials at (u, v). */
static inline void polynomials(const tf_polynomials *p, double u, double v, double *f, double *g)
{
    const int n = p->order;
    double sum[2] = {0, 0};
    for (int i = n; i >= 0; i--) {
        const double *a = p->c[0] + i * (n + 1), *b = p->c[1] + i * (n + 1);
        double qa = 0, qb = 0;
        for (int j = n - i; j >= 0; j--) {
            qa = qa * v + a[j];
            qb = qb * v + b[j];
        }
        sum[0] = sum[0] * u + qa;
        sum[1] = sum[1] * u + qb;
    }
    *f = sum[0];
    *g = sum[1];
}

/* Rows of coefficients are `stride` apart. */
static slope polynomial_slope(int n, const double *c, int stride, double u, double v)
{
    slope s = {0, 0, 0};
    for (int i = n; i >= 0; i--) {
        const double *row = c + i * stride;
        double q = 0, dq = 0;
        for (int j = n - i; j >= 0; j--) {
            dq = dq * v + q;
            q = q * v + row[j];
        }
        s.du = s.du * u + s.f;
        s.f = s.f * u + q;
        s.dv = s.dv * u + dq;
    }
    return s;
}

/* ---------------------------------------------------------------------------- tables */

/* The cell of a coordinate: its first element, and how far into it; coordinates outside are those of the edge. */
static int cell(const tf_lookup *t, int axis, double pixel, double *inside, double *per_pixel)
{
    const int last = (axis == 0 ? t->columns : t->rows) - 1;
    double at = (pixel - t->crval[axis]) / t->cdelt[axis] + t->crpix[axis] - 1;
    *per_pixel = 1 / t->cdelt[axis];
    if (!(at > 0)) {
        at = 0;
        *per_pixel = 0;
    } else if (at >= last) {
        at = last;
        *per_pixel = 0;
    }
    const int first = at < last ? (int)at : last;
    *inside = at - first;
    return first;
}

/* The correction at (x, y), linear between the elements around. */
static slope lookup(const tf_lookup *t, double x, double y)
{
    double fx, fy, per_x, per_y;
    const int i = cell(t, 0, x, &fx, &per_x), j = cell(t, 1, y, &fy, &per_y);
    const int right = i + 1 < t->columns ? 1 : 0;
    const ptrdiff_t up = j + 1 < t->rows ? t->columns : 0;
    const double *e = t->table + (ptrdiff_t)j * t->columns + i;
    const double low = e[0] * (1 - fx) + e[right] * fx, high = e[up] * (1 - fx) + e[up + right] * fx;
    const double gap_low = e[right] - e[0], gap_high = e[up + right] - e[up];
    /* a point that is none has no correction either */
    const double nan = isnan(x) || isnan(y) ? NAN : 0;
    return (slope){low * (1 - fy) + high * fy + nan, (gap_low * (1 - fy) + gap_high * fy) * per_x, (high - low) * per_y};
}

/* ---------------------------------------------------------------------------- pixels */

static void move_by_tables(const tf_lookup *const tables[2], double x, double y, double *to_x, double *to_y)
{
    if (tables[0])
        *to_x += lookup(tables[0], x, y).f;
    if (tables[1])
        *to_y += lookup(tables[1], x, y).f;
}

void tf_distort(const tf_distortion *d, double *points, size_t n, size_t stride)
{
    for (double *p = points; n-- > 0; p += stride) {
        double x = p[0], y = p[1];
        move_by_tables(d->d2im, p[0], p[1], &x, &y);
        p[0] = x;
        p[1] = y;
        if (d->sip) {
            double f, g;
            polynomials(&d->sip->forward, x - d->sip->crpix[0], y - d->sip->crpix[1], &f, &g);
            p[0] += f;
            p[1] += g;
        }
        move_by_tables(d->cpdis, x, y, &p[0], &p[1]);
    }
}

/* A mapping of the plane at a point: where it goes, and by which matrix. */
typedef struct {
    double x, y, xx, xy, yx, yy;
} mapping;

static void add_slopes(mapping *m, slope x, slope y)
{
    m->x += x.f;
    m->xx += x.du;
    m->xy += x.dv;
    m->y += y.f;
    m->yx += y.du;
    m->yy += y.dv;
}

static mapping by_tables(const tf_lookup *const tables[2], double x, double y)
{
    const slope none = {0, 0, 0};
    mapping m = {x, y, 1, 0, 0, 1};
    add_slopes(&m, tables[0] ? lookup(tables[0], x, y) : none, tables[1] ? lookup(tables[1], x, y) : none);
    return m;
}

static mapping distorted(const tf_distortion *d, double x, double y)
{
    const mapping first = by_tables(d->d2im, x, y);
    mapping m = by_tables(d->cpdis, first.x, first.y);
    if (d->sip) {
        const tf_polynomials *p = &d->sip->forward;
        const double u = first.x - d->sip->crpix[0], v = first.y - d->sip->crpix[1];
        add_slopes(&m, polynomial_slope(p->order, p->c[0], p->order + 1, u, v),
                   polynomial_slope(p->order, p->c[1], p->order + 1, u, v));
    }
    return (mapping){
        m.x,
        m.y,
        m.xx * first.xx + m.xy * first.yx,
        m.xx * first.xy + m.xy * first.yy,
        m.yx * first.xx + m.yy * first.yx,
        m.yx * first.xy + m.yy * first.yy,
    };
}

/* Takes (x, y) by one of Newton's steps nearer to the point that m brings to (to_x, to_y); the length of the step. */
static double newton(const mapping *m, double to_x, double to_y, double *x, double *y)
{
    const double rx = m->x - to_x, ry = m->y - to_y;
    const double one_by = 1 / (m->xx * m->yy - m->xy * m->yx);
    const double dx = (m->yy * rx - m->xy * ry) * one_by, dy = (m->xx * ry - m->yx * rx) * one_by;
    *x -= dx;
    *y -= dy;
    return fabs(dx) + fabs(dy);
}

/* Finds from (*x, *y) what is distorted to (to_x, to_y); 0 where that does not come to an end. */
static int undistorted(const tf_distortion *d, double last_step, double to_x, double to_y, double *x, double *y)
{
    for (int i = 0; i < MOST_STEPS; i++) {
        const mapping m = distorted(d, *x, *y);
        const double step = newton(&m, to_x, to_y, x, y);
        if (step < last_step + 4e-16 * (fabs(*x) + fabs(*y)))
            return 1;
        if (!isfinite(step))
            return 0;
    }
    return 0;
}

/* One point; where Newton goes astray, the guess may be near enough. */
static void undistort_one(const tf_distortion *d, double *p)
{
    const int tables = d->d2im[0] || d->d2im[1] || d->cpdis[0] || d->cpdis[1];
    const double last_step = tables ? LAST_STEP : LAST_SMOOTH_STEP;
    const double to_x = p[0], to_y = p[1];
    const tf_sip *sip = d->sip;
    if (undistorted(d, last_step, to_x, to_y, &p[0], &p[1]))
        return;
    if (sip && sip->inverse.order >= 0) {
        double f, g;
        polynomials(&sip->inverse, to_x - sip->crpix[0], to_y - sip->crpix[1], &f, &g);
        p[0] = to_x + f;
        p[1] = to_y + g;
        if (undistorted(d, last_step, to_x, to_y, &p[0], &p[1]))
            return;
    }
    p[0] = p[1] = NAN;
}

/* ---------------------------------------------------------------------------- two points at once */

#define LANES 2

typedef double lanes __attribute__((vector_size(8 * LANES)));

static inline void lanes_polynomials(const tf_polynomials *p, const lanes *u, const lanes *v, lanes *f, lanes *g)
{
    const int n = p->order;
    lanes sum_a = {0}, sum_b = {0};
    for (int i = n; i >= 0; i--) {
        const double *a = p->c[0] + i * (n + 1), *b = p->c[1] + i * (n + 1);
        lanes qa = {0}, qb = {0};
        for (int j = n - i; j >= 0; j--) {
            qa = qa * *v + a[j];
            qb = qb * *v + b[j];
        }
        sum_a = sum_a * *u + qa;
        sum_b = sum_b * *u + qb;
    }
    *f = sum_a;
    *g = sum_b;
}

static inline void lanes_slope(int n, const double *c, const lanes *u, const lanes *v, lanes *f, lanes *du, lanes *dv)
{
    lanes sum = {0}, by_u = {0}, by_v = {0};
    for (int i = n; i >= 0; i--) {
        const double *row = c + i * (n + 1);
        lanes q = {0}, dq = {0};
        for (int j = n - i; j >= 0; j--) {
            dq = dq * *v + q;
            q = q * *v + row[j];
        }
        by_u = by_u * *u + sum;
        sum = sum * *u + q;
        by_v = by_v * *u + dq;
    }
    *f = sum;
    *du = by_u;
    *dv = by_v;
}

#define MOST_QUICK_STEPS 6

/* SIP undone for two points: the slopes at the beginning serve all steps, which is enough for what telescopes do.
 * u and v are offsets from CRPIX; 0 where it is not enough, for one of the points. */
static int lanes_undistorted(const tf_sip *sip, const lanes *to_u, const lanes *to_v, lanes *u, lanes *v)
{
    const tf_polynomials *p = &sip->forward;
    lanes xx, xy, yx, yy, f, g;
    *u = *to_u;
    *v = *to_v;
    lanes_slope(p->order, p->c[0], u, v, &f, &xx, &xy);
    lanes_slope(p->order, p->c[1], u, v, &g, &yx, &yy);
    xx += 1;
    yy += 1;
    const lanes one_by = 1 / (xx * yy - xy * yx);
    double before[LANES] = {0};
    for (int i = 0; i < MOST_QUICK_STEPS; i++) {
        if (i > 0)
            lanes_polynomials(p, u, v, &f, &g);
        const lanes ru = *u + f - *to_u, rv = *v + g - *to_v;
        const lanes step_u = (yy * ru - xy * rv) * one_by, step_v = (xx * rv - yx * ru) * one_by;
        *u -= step_u;
        *v -= step_v;
        int done = 1;
        for (int k = 0; k < LANES; k++) {
            const double step = fabs(step_u[k]) + fabs(step_v[k]);
            /* steps become shorter by a factor, and so does what is left */
            done &= step < 1e-11 || (step * step < 1e-11 * before[k] && step < 1e-2 * before[k]);
            before[k] = step;
        }
        if (done)
            return 1;
    }
    return 0;
}

/* SIP alone, which is what most distorted images have. */
static void undistort_pair(const tf_distortion *d, double *points, size_t stride)
{
    const tf_sip *sip = d->sip;
    lanes to_u, to_v, u, v;
    for (size_t k = 0; k < LANES; k++) {
        to_u[k] = points[k * stride] - sip->crpix[0];
        to_v[k] = points[k * stride + 1] - sip->crpix[1];
    }
    const int done = lanes_undistorted(sip, &to_u, &to_v, &u, &v);
    for (size_t k = 0; k < LANES; k++) {
        double *p = points + k * stride;
        if (done) {
            p[0] = u[k] + sip->crpix[0];
            p[1] = v[k] + sip->crpix[1];
        } else {
            undistort_one(d, p);
        }
    }
}

void tf_undistort(const tf_distortion *d, double *points, size_t n, size_t stride)
{
    const int tables = d->d2im[0] || d->d2im[1] || d->cpdis[0] || d->cpdis[1];
    if (!tables && d->sip)
        for (; n >= LANES; n -= LANES, points += LANES * stride)
            undistort_pair(d, points, stride);
    for (; n > 0; n--, points += stride)
        undistort_one(d, points);
}

/* ---------------------------------------------------------------------------- TPV */

void tf_tpv_set(tf_tpv *tpv, const double pv[2][TF_TPV_TERMS])
{
    const int side = TF_TPV_ORDER + 1;
    memset(tpv, 0, sizeof *tpv);
    /* of each degree x^d, x^(d-1) y, ..., y^d, and r^d where d is odd; for the second axis y comes first */
    for (int axis = 0; axis < 2; axis++) {
        int m = 0;
        for (int degree = 0; degree <= TF_TPV_ORDER; degree++) {
            for (int j = 0; j <= degree; j++, m++) {
                const int i = degree - j;
                tpv->c[axis][axis ? j * side + i : i * side + j] = pv[axis][m];
                if (pv[axis][m] != 0)
                    tpv->order = degree > tpv->order ? degree : tpv->order;
            }
            if (degree % 2) {
                tpv->radial[axis][degree / 2] = pv[axis][m];
                tpv->has_radial |= pv[axis][m] != 0;
                m++;
            }
        }
    }
}

/* The polynomial of one axis; rows stay as long as TF_TPV_ORDER makes them. */
static slope tpv_slope(const tf_tpv *tpv, int axis, double x, double y)
{
    slope s = polynomial_slope(tpv->order, tpv->c[axis], TF_TPV_ORDER + 1, x, y);
    if (tpv->has_radial) {
        const double *k = tpv->radial[axis], rr = x * x + y * y, r = sqrt(rr);
        s.f += r * (k[0] + rr * (k[1] + rr * (k[2] + rr * k[3])));
        /* by r, divided by r; at the centre the cone of k[0] has no slope */
        const double by_r = (r > 0 ? k[0] / r : 0) + r * (3 * k[1] + rr * (5 * k[2] + rr * 7 * k[3]));
        s.du += by_r * x;
        s.dv += by_r * y;
    }
    return s;
}

void tf_tpv_apply(const tf_tpv *tpv, double *x, double *y, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const double to_x = tpv_slope(tpv, 0, x[i], y[i]).f;
        y[i] = tpv_slope(tpv, 1, x[i], y[i]).f;
        x[i] = to_x;
    }
}

void tf_tpv_undo(const tf_tpv *tpv, double *x, double *y, size_t n)
{
    /* degrees, where pixels are small; with a term in r slopes jump at the centre */
    const double last_step = tpv->has_radial ? 1e-14 : 1e-9;
    for (size_t i = 0; i < n; i++) {
        double step = NAN, at_x = x[i], at_y = y[i];
        for (int k = 0; k < MOST_STEPS; k++) {
            const slope sx = tpv_slope(tpv, 0, at_x, at_y), sy = tpv_slope(tpv, 1, at_x, at_y);
            const mapping m = {sx.f, sy.f, sx.du, sx.dv, sy.du, sy.dv};
            step = newton(&m, x[i], y[i], &at_x, &at_y);
            if (!(step >= last_step + 4e-16 * (fabs(at_x) + fabs(at_y))))
                break;
        }
        const int found = step < last_step + 4e-16 * (fabs(at_x) + fabs(at_y));
        x[i] = found ? at_x : NAN;
        y[i] = found ? at_y : NAN;
    }
}
