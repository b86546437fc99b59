/* Texts of character columns, without what does not count of them. */
#ifndef TF_TEXTS_H
#define TF_TEXTS_H

#include <stdint.h>

/* Fields of characters: `count` of them, `width` bytes each, or, where `ends` is not NULL, bytes ends[i] to
 * ends[i + 1] of `from`. */
typedef struct {
    const uint8_t *from;
    const int64_t *ends;
    int64_t width, count;
} tf_texts;

/* The texts one after the other to `to`, which has room for all fields or is `from`: of each field what comes before
 * the first NUL, without trailing blanks (FITS standard 4.0, section 7.3.3.1). Text i is bytes offsets[i] to
 * offsets[i + 1]. The first text with a byte that is not ASCII, or -1. */
int64_t tf_pack_texts(const tf_texts *texts, int64_t *offsets, uint8_t *to);

/* NUL over what does not count of `count` fields of `width` bytes. */
void tf_end_texts(uint8_t *fields, int64_t width, int64_t count);

#endif
