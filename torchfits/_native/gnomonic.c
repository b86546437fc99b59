#include "gnomonic.h"

#include <math.h>

#define DEGREE (3.14159265358979323846 / 180)
#define AT_ONCE 256

/* out = matrix (in - from), of one point; few axes are unrolled by the compiler. */
static inline void multiply(const double *matrix, const double *in, const double *from, double *out, int naxis)
{
    for (int i = 0; i < naxis; i++) {
        double sum = 0;
        for (int j = 0; j < naxis; j++)
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

/* Points of the plane, in degrees, to the sky. */
static void deproject(const tf_gnomonic *g, const pole *p, double *x, double *y, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        /* a vector along the line of sight, in native coordinates turned by phi_p */
        const double l = -y[i], m = x[i], up = 1 / DEGREE;
        const double a = l * p->cos_phi + m * p->sin_phi, b = m * p->cos_phi - l * p->sin_phi;
        const double east = -b, north = up * p->cos_lat - a * p->sin_lat;
        const double lng = g->pole_lng + atan2(east, north) / DEGREE;
        y[i] = atan2(up * p->sin_lat + a * p->cos_lat, sqrt(east * east + north * north)) / DEGREE;
        x[i] = lng;
    }
}

/* Longitudes have the sign of the pole's, as in wcslib. */
static double in_turn(const tf_gnomonic *g, double lng)
{
    if (g->pole_lng >= 0 ? lng < 0 : lng > 0)
        lng += g->pole_lng >= 0 ? 360 : -360;
    return lng > 360 ? lng - 360 : lng < -360 ? lng + 360 : lng;
}

static void project(const tf_gnomonic *g, const pole *p, double *x, double *y, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        /* from the differences to the pole, so that small ones stay exact */
        const double half = (x[i] - g->pole_lng) * (DEGREE / 2), off = (y[i] - g->pole_lat) * DEGREE;
        const double sin_half = sin(half), cos_half = cos(half), sin_off = sin(off), cos_off = cos(off);
        const double cos_lat = cos_off * p->cos_lat - sin_off * p->sin_lat;
        const double versine = 2 * sin_half * sin_half * cos_lat;
        const double up = cos_off - p->cos_lat * versine;
        const double a = sin_off + p->sin_lat * versine, b = -2 * sin_half * cos_half * cos_lat;
        const double scale = up > 0 ? 1 / (DEGREE * up) : NAN;
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
