/* Guards of the two old ways to describe distortions that wcspih of wcslib 7.12 translates without a second look:
 * WAT cards of IRAF (TNX, ZPX) and the plate solutions of DSS. */
#ifndef TF_PLATES_H
#define TF_PLATES_H

#include <stddef.h>

int tf_is_wat(const char *card);
int tf_is_dss(const char *card);

/* Whether n cards, of which none but these need be looked at, hold what wcspih counts on: for WAT of both axes, words
 * and orders that fit its arrays; for DSS all that makes a solution, of an image of two axes. */
int tf_wat_is_sound(const char *cards, size_t n);
int tf_dss_is_sound(const char *cards, size_t n);

#endif
