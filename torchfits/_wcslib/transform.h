/* Many points from pixels to the world and back, in several threads. */
#ifndef TF_TRANSFORM_H
#define TF_TRANSFORM_H

#include <stdint.h>
#include <wcs.h>

#include "_native/distortion.h"
#include "_native/gnomonic.h"

/* How it is done. Distortions are those of the first two pixel axes; NULL is what there is not. */
typedef struct {
    int naxis;
    const tf_distortion *distortion;
    const tf_gnomonic *gnomonic; /* in place of wcslib */
    double origin;               /* of the pixel coordinates outside: 0 or 1 */
} tf_wcs_way;

/* n points of naxis coordinates, in and out side by side or the same. Each of the threads takes one of `copies`
 * as its own; they are not needed where `gnomonic` is there. What has no answer becomes NaN. */
void tf_wcs_to_world(const tf_wcs_way *way, struct wcsprm *const *copies, int threads, const double *in, double *out,
                     int64_t n);
void tf_wcs_to_pixel(const tf_wcs_way *way, struct wcsprm *const *copies, int threads, const double *in, double *out,
                     int64_t n);

#endif
