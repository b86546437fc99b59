/* The gnomonic projection (TAN), from pixel coordinates to the sky and back; other axes are linear.
 *
 * What most images have deserves less than the five trigonometric functions a point that a general way takes. */
#ifndef TF_GNOMONIC_H
#define TF_GNOMONIC_H

#include <stddef.h>

#include "distortion.h"

#define TF_AXES 32

/* Axes are counted from 0, pixels from 1; angles are degrees. */
typedef struct {
    int naxis, lng, lat;
    double crpix[TF_AXES], crval[TF_AXES]; /* crval of the linear axes */
    double matrix[TF_AXES * TF_AXES], inverse[TF_AXES * TF_AXES];
    double pole_lng, pole_lat, phi_p; /* the native pole in celestial coordinates; native longitude of the other */
    const tf_tpv *tpv;
} tf_gnomonic;

/* In place, points of naxis coordinates. What is not on the sky, or behind it, becomes NaN in both celestial
 * coordinates, or in both pixel coordinates that have their numbers. */
void tf_gnomonic_to_world(const tf_gnomonic *g, double *points, size_t n);
void tf_gnomonic_to_pixel(const tf_gnomonic *g, double *points, size_t n);

#endif
