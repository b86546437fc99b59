/* Distortions of pixel coordinates: SIP polynomials and lookup tables; TPV polynomials in the projection plane.
 *
 * Points are pairs of doubles, `stride` doubles apart. What cannot be undone becomes NaN, point by point. */
#ifndef TF_DISTORTION_H
#define TF_DISTORTION_H

#include <stddef.h>

/* The largest order of a polynomial; the SIP convention says 9. */
#define TF_POLYNOMIAL_ORDER 19

/* Two polynomials, for x and y: c[axis][i * (order + 1) + j] belongs to u^i v^j; i + j > order is not looked at.
 * order < 0 where there are none. */
typedef struct {
    int order;
    const double *c[2];
} tf_polynomials;

/* SIP (Shupe et al. 2005). The inverse polynomials are guesses. */
typedef struct {
    double crpix[2];
    tf_polynomials forward, inverse;
} tf_sip;

/* A table of corrections, its first index running slowest; x comes first in all pairs. */
typedef struct {
    int columns, rows; /* at least 1 */
    const double *table;
    double crpix[2], crval[2], cdelt[2];
} tf_lookup;

/* What happens to pixel coordinates before the linear transformation: first those of the detector are corrected,
 * then SIP and the other tables add what they find at that place. NULL is what there is not. */
typedef struct {
    const tf_sip *sip;
    const tf_lookup *d2im[2], *cpdis[2];
} tf_distortion;

void tf_distort(const tf_distortion *d, double *points, size_t n, size_t stride);
void tf_undistort(const tf_distortion *d, double *points, size_t n, size_t stride);

#define TF_TPV_ORDER 7
#define TF_TPV_TERMS 40

/* TPV, both axes as polynomials of (x, y), and the terms in r, r^3, r^5, r^7. */
typedef struct {
    double c[2][(TF_TPV_ORDER + 1) * (TF_TPV_ORDER + 1)], radial[2][4];
    int order, has_radial;
} tf_tpv;

/* From PVi_0 to PVi_39 of the longitude and of the latitude axis. */
void tf_tpv_set(tf_tpv *tpv, const double pv[2][TF_TPV_TERMS]);
void tf_tpv_apply(const tf_tpv *tpv, double *x, double *y, size_t n);
void tf_tpv_undo(const tf_tpv *tpv, double *x, double *y, size_t n);

#endif
