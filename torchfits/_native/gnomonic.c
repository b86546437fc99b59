#include "gnomonic.h"

#include <math.h>
#include <stdint.h>

#define DEGREE (3.14159265358979323846 / 180)
#define AT_ONCE 256

/* out = matrix (in - from), of one point; few axes are unrolled by the compiler. */
static inline void multiply(const double *matrix, const double *in, const double *from, double *out, int naxis)
{
    for (int i = 0; i < naxis; i++) {
        double sum = 0;
        for (int j = 0; j < naxis; j++)
            if (naxis == 2 || matrix[i * naxis + j] != 0) /* NaN of an axis is nothing to those apart from it */
                sum += matrix[i * naxis + j] * (in[j] - from[j]);
        out[i] = sum;
    }
}

static void to_plane(const tf_gnomonic *g, double *point)
{
    double plane[TF_AXES];
    if (g->naxis == 2)
        multiply(g->matrix, point, g->crpix, plane, 2);
    else
        multiply(g->matrix, point, g->crpix, plane, g->naxis);
    for (int i = 0; i < g->naxis; i++)
        point[i] = plane[i];
}

static void from_plane(const tf_gnomonic *g, double *point)
{
    static const double origin[TF_AXES];
    double pixel[TF_AXES];
    if (g->naxis == 2)
        multiply(g->inverse, point, origin, pixel, 2);
    else
        multiply(g->inverse, point, origin, pixel, g->naxis);
    for (int i = 0; i < g->naxis; i++)
        point[i] = pixel[i] + g->crpix[i];
}

/* The functions of the pole that every point needs. */
typedef struct {
    double sin_lat, cos_lat, sin_phi, cos_phi;
} pole;

static pole pole_of(const tf_gnomonic *g)
{
    const double lat = g->pole_lat * DEGREE, phi = g->phi_p * DEGREE;
    return (pole){sin(lat), cos(lat), sin(phi), cos(phi)};
}

/* Points of the plane beyond are none, as in the torch path. */
#define FARTHEST 1e30

/* Points of the plane, in degrees, to the sky. */
static void deproject(const tf_gnomonic *g, const pole *p, double *x, double *y, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        /* a vector along the line of sight, in native coordinates turned by phi_p */
        const double l = -y[i], m = x[i], up = 1 / DEGREE;
        const double a = l * p->cos_phi + m * p->sin_phi, b = m * p->cos_phi - l * p->sin_phi;
        const double east = -b, north = up * p->cos_lat - a * p->sin_lat;
        const double lost = fabs(l) + fabs(m) < FARTHEST ? 0 : NAN;
        y[i] = atan2(up * p->sin_lat + a * p->cos_lat, sqrt(east * east + north * north)) / DEGREE + lost;
        x[i] = g->pole_lng + atan2(east, north) / DEGREE + lost;
    }
}

/* Longitudes have the sign of the pole's, as in wcslib. */
static double in_turn(const tf_gnomonic *g, double lng)
{
    if (g->pole_lng >= 0 ? lng < 0 : lng > 0)
        lng += g->pole_lng >= 0 ? 360 : -360;
    return lng > 360 ? lng - 360 : lng < -360 ? lng + 360 : lng;
}

/* Two numbers at once, as every processor of ours has them. */
typedef double two __attribute__((vector_size(16)));
typedef int64_t two_bits __attribute__((vector_size(16)));

/* By which rounding may lift a point above the horizon. */
#define SLACK 1e-14

/* Beyond this the sum of quarter turns is not exact. */
#define MOST_RADIANS 1e5

/* Sine and cosine to the last bit or two: the nearest quarter turn is taken off, in three parts, and what is left,
 * at most an eighth, goes into the polynomials that fdlibm has for it. */
static inline void sincos_two(const two *x, two *sine, two *cosine)
{
    const double to_integer = 6755399441055744.0; /* 1.5 * 2^52: the last bits of the sum are the integer */
    const two turned = *x * 6.36619772367581382433e-01 + to_integer;
    const two quarters = turned - to_integer;
    const two_bits quadrant = (two_bits)turned, odd = -(quadrant & 1);
    const two r = ((*x - quarters * 1.57079632673412561417e+00) - quarters * 6.07710050630396597660e-11) -
                  quarters * 2.02226624879595063154e-21;
    const two z = r * r;
    const two s = r + r * z * (-1.66666666666666324348e-01 +
                   z * (8.33333333332248946124e-03 + z * (-1.98412698298579493134e-04 +
                   z * (2.75573137070700676789e-06 + z * (-2.50507602534068634195e-08 +
                   z * 1.58969099521155010221e-10)))));
    const two c = 1 - z * 0.5 + z * z * (4.16666666666666019037e-02 +
                   z * (-1.38888888888741095749e-03 + z * (2.48015872894767294178e-05 +
                   z * (-2.75573143513906633035e-07 + z * (2.08757232129817482790e-09 +
                   z * -1.13596475577881948265e-11)))));
    *sine = (two)((((two_bits)s & ~odd) | ((two_bits)c & odd)) ^ ((quadrant & 2) << 62));
    *cosine = (two)((((two_bits)c & ~odd) | ((two_bits)s & odd)) ^ (((quadrant + 1) & 2) << 62));
}

/* Of any angles; the large ones are left to the library. */
static void sincos_all(const double *x, double *sine, double *cosine, size_t n)
{
    for (size_t i = 0; i < n; i += 2) {
        two at = {x[i], i + 1 < n ? x[i + 1] : 0}, s, c;
        sincos_two(&at, &s, &c);
        for (size_t k = i; k < n && k < i + 2; k++) {
            const int small = fabs(x[k]) < MOST_RADIANS;
            sine[k] = small ? s[k - i] : sin(x[k]);
            cosine[k] = small ? c[k - i] : cos(x[k]);
        }
    }
}

static void project(const tf_gnomonic *g, const pole *p, double *x, double *y, size_t n)
{
    double sin_half[AT_ONCE], cos_half[AT_ONCE], sin_off[AT_ONCE], cos_off[AT_ONCE];
    for (size_t i = 0; i < n; i++) {
        /* from the differences to the pole, so that small ones stay exact */
        x[i] = (x[i] - g->pole_lng) * (DEGREE / 2);
        y[i] = (y[i] - g->pole_lat) * DEGREE;
    }
    sincos_all(x, sin_half, cos_half, n);
    sincos_all(y, sin_off, cos_off, n);
    for (size_t i = 0; i < n; i++) {
        const double cos_lat = cos_off[i] * p->cos_lat - sin_off[i] * p->sin_lat;
        const double versine = 2 * sin_half[i] * sin_half[i] * cos_lat;
        const double up = cos_off[i] - p->cos_lat * versine;
        const double a = sin_off[i] + p->sin_lat * versine, b = -2 * sin_half[i] * cos_half[i] * cos_lat;
        const double scale = up > SLACK ? 1 / (DEGREE * up) : NAN;
        x[i] = (a * p->sin_phi + b * p->cos_phi) * scale;
        y[i] = (b * p->sin_phi - a * p->cos_phi) * scale;
    }
}

void tf_gnomonic_to_world(const tf_gnomonic *g, double *points, size_t n)
{
    const size_t naxis = (size_t)g->naxis;
    const pole p = pole_of(g);
    double x[AT_ONCE], y[AT_ONCE];
    for (size_t part; n > 0; n -= part, points += part * naxis) {
        part = n < AT_ONCE ? n : AT_ONCE;
        for (size_t k = 0; k < part; k++) {
            double *point = points + k * naxis;
            to_plane(g, point);
            x[k] = point[g->lng];
            y[k] = point[g->lat];
        }
        if (g->tpv)
            tf_tpv_apply(g->tpv, x, y, part);
        deproject(g, &p, x, y, part);
        for (size_t k = 0; k < part; k++) {
            double *point = points + k * naxis;
            for (int i = 0; i < g->naxis; i++)
                point[i] += g->crval[i];
            point[g->lng] = in_turn(g, x[k]);
            point[g->lat] = y[k];
        }
    }
}

void tf_gnomonic_to_pixel(const tf_gnomonic *g, double *points, size_t n)
{
    const size_t naxis = (size_t)g->naxis;
    const pole p = pole_of(g);
    double x[AT_ONCE], y[AT_ONCE];
    for (size_t part; n > 0; n -= part, points += part * naxis) {
        part = n < AT_ONCE ? n : AT_ONCE;
        for (size_t k = 0; k < part; k++) {
            x[k] = points[k * naxis + (size_t)g->lng];
            y[k] = points[k * naxis + (size_t)g->lat];
        }
        project(g, &p, x, y, part);
        if (g->tpv)
            tf_tpv_undo(g->tpv, x, y, part);
        for (size_t k = 0; k < part; k++) {
            double *point = points + k * naxis;
            const int lost = isnan(x[k]) || isnan(y[k]);
            for (int i = 0; i < g->naxis; i++)
                point[i] -= g->crval[i];
            /* the other axes need not suffer */
            point[g->lng] = lost ? 0 : x[k];
            point[g->lat] = lost ? 0 : y[k];
            from_plane(g, point);
            if (lost)
                point[g->lng] = point[g->lat] = NAN;
        }
    }
}
