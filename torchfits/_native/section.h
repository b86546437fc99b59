/* A section of an N-dimensional array in a file into contiguous memory. */
#ifndef TF_SECTION_H
#define TF_SECTION_H

#include "reader.h"

#define TF_SECTION_AXES 64

/* Which pixels: axes in tensor order, the last one varies fastest; strides in bytes. */
typedef struct {
    int axes; /* at least 1 */
    int64_t start;
    int64_t count[TF_SECTION_AXES], stride[TF_SECTION_AXES];
} tf_section;

/* Adds the next axis: `count` pixels, the first `start` bytes from the section's, `stride` bytes apart. Axes of one
 * pixel leave no trace, axes that continue each other become one. -1 where there are too many. */
void tf_section_begin(tf_section *section, int64_t start, int64_t width);
int tf_section_add(tf_section *section, int64_t start, int64_t count, int64_t stride);
int64_t tf_section_pixels(const tf_section *section);

/* Whether its pixels lie in many runs too far apart to be read together. */
int tf_section_is_scattered(const tf_section *section, int64_t width);

/* Bytes of the source from the first pixel to behind the last one. */
int64_t tf_section_end(const tf_section *section, int64_t width);

tf_outcome tf_read_section(const tf_source *source, const tf_conversion *conversion, const tf_section *section,
                           void *to, int threads);
/* The same in the caller's thread with the caller's reader, of which some may wait. */
int tf_read_section_alone(tf_reader *reader, const tf_section *section, void *to);

/* One of many sections of a file, which becomes something of its own. */
typedef struct {
    tf_source source; /* as that of all, but for `warm` */
    tf_conversion conversion;
    tf_section section;
    void *to;
} tf_part;

/* Many small sections, shared out over the threads. */
tf_outcome tf_read_parts(const tf_source *source, const tf_part *parts, int64_t count, int threads);

#endif
