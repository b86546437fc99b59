/* Which cards of a header describe its world coordinates: what wcslib is shown, and all that it is shown. */
#ifndef TF_CARDS_H
#define TF_CARDS_H

#include <stddef.h>

/* What wcslib can do; more are said to be too many before it makes room for them. */
#define TF_AXES_AT_MOST 32

/* Stands for the B of -TAB in CTYPE: wcspih of wcslib 7.12 looks for tables at once, by functions that take what the
 * header says as indices; description.c looks at it first. */
#define TF_TAB_LATER '\1'

/* Copies of n cards of 80 bytes those of the description `key` (' ' or 'A'..'Z') that wcslib knows, except SIP;
 * `to` has room for all. `described` says whether one of them belongs to `key` alone, `odd_wat` that the WAT cards of TNX or
 * ZPX axes, which are left out, make no sense. The number of cards; -1 - i where card i asks for more axes than there can
 * be. */
ptrdiff_t tf_wcs_cards(const char *cards, size_t n, char key, char *to, int *described, int *odd_wat);

#endif
