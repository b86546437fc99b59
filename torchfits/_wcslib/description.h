/* A description of world coordinates: from cards to a wcsprm that is ready, guarded against what wcslib trusts. */
#ifndef TF_DESCRIPTION_H
#define TF_DESCRIPTION_H

#include <stddef.h>
#include <wcs.h>

#include "_native/gnomonic.h"

#define TF_WHY 200

/* What became of it; other numbers are statuses of wcslib, of wcs.h. */
enum {
    TF_WCS_DONE = 0,
    TF_WCS_MISSING = -1,      /* there is no such description */
    TF_WCS_AXES = -2,         /* too many axes */
    TF_WCS_PARSER = -3,       /* the scanner gave up */
    TF_WCS_TABLES = -4,       /* -TAB parameters that mean no table */
    TF_WCS_NO_CELESTIAL = -5, /* no such axes to be had alone */
};

/* Reads the description `key` of n cards into `to`, which holds nothing yet. Where it succeeds, `to` wants its -TAB
 * arrays (to->wtb), then tf_wcs_finish, at last tf_wcs_free, also if these fail. `why` says what is wrong. */
int tf_wcs_read(const char *cards, size_t n, char key, struct wcsprm *to, char why[TF_WHY]);

/* Mends what is not standard, as astropy does, and makes ready. */
int tf_wcs_finish(struct wcsprm *wcs, char why[TF_WHY]);

/* Gives back what a description holds, the arrays it was given too. */
void tf_wcs_free(struct wcsprm *wcs);

/* Leaves the celestial axes alone of a description that is ready. */
int tf_wcs_celestial(struct wcsprm *wcs, char why[TF_WHY]);

/* A copy of a description that is ready, for a thread of its own; 0 or a status. wcssub of wcslib 7.12 cannot copy
 * distortions where not every axis has one. */
int tf_wcs_copy(const struct wcsprm *wcs, struct wcsprm *to);

/* Whether gnomonic.h can do what `wcs`, which is ready, does; then *g is set, and *tpv where g->tpv says so. */
int tf_wcs_gnomonic(const struct wcsprm *wcs, tf_gnomonic *g, tf_tpv *tpv);

/* CDELTi * PCi_j of a description that is ready, naxis by naxis. */
void tf_wcs_matrix(const struct wcsprm *wcs, double *matrix);
/* PVi_0 to PVi_39 of the longitude and latitude axes; 0 where there is no plain TPV. */
int tf_wcs_tpv(const struct wcsprm *wcs, double pv[2][TF_TPV_TERMS]);

#endif
