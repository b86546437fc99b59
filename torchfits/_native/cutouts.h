/* Many windows of one image into one array. */
#ifndef TF_CUTOUTS_H
#define TF_CUTOUTS_H

#include "reader.h"

/* An array (planes, rows, columns) at `start`. */
typedef struct {
    int64_t start, planes, rows, columns;
} tf_planes;

typedef struct {
    int64_t count;
    const int64_t *corners; /* row and column of each window's first pixel; may lie outside */
    int64_t rows, columns;  /* of a window */
    const void *fill;       /* an element for the pixels outside */
} tf_windows;

/* Whether any window reaches outside. */
int tf_windows_reach_outside(const tf_planes *image, const tf_windows *windows);

/* To an array (count, planes, rows, columns). */
tf_outcome tf_read_cutouts(const tf_source *source, const tf_conversion *conversion, const tf_planes *image,
                           const tf_windows *windows, void *to, int threads);

#endif
