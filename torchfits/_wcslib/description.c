#include "description.h"

#include <dis.h>
#include <limits.h>
#include <lin.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tab.h>
#include <wcserr.h>
#include <wcsfix.h>
#include <wcshdr.h>

#include "cards.h"

#define CARD 80

static void say(char why[TF_WHY], const char *text)
{
    snprintf(why, TF_WHY, "%s", text);
}

static int say_error(char why[TF_WHY], int status, const struct wcserr *error)
{
    say(why, error && error->msg ? error->msg : status > 0 && status <= 14 ? wcs_errmsg[status] : "unknown");
    return status;
}

static int is_tabular(const struct wcsprm *wcs, int axis)
{
    return strncmp(wcs->ctype[axis] + 4, "-TAB", 4) == 0;
}

/* What the PSi_m and PVi_m of one -TAB axis say. */
typedef struct {
    const char *extname, *column;
    double extver, extlevel, axis;
} table_place;

static int same_table(const table_place *a, const table_place *b)
{
    return strcmp(a->extname, b->extname) == 0 && strcmp(a->column, b->column) == 0 && a->extver == b->extver &&
           a->extlevel == b->extlevel;
}

static int read_places(const struct wcsprm *wcs, table_place *places, char why[TF_WHY])
{
    for (int i = 0; i < wcs->naxis; i++)
        places[i] = (table_place){"", "", 1, 1, 1};
    for (int k = 0; k < wcs->nps; k++) {
        const struct pscard *ps = wcs->ps + k;
        if (ps->i < 1 || ps->i > wcs->naxis) {
            snprintf(why, TF_WHY, "PS%d_%d: no such axis", ps->i, ps->m);
            return TF_WCS_TABLES;
        }
        if (ps->m == 0)
            places[ps->i - 1].extname = ps->value;
        else if (ps->m == 1)
            places[ps->i - 1].column = ps->value;
    }
    for (int k = 0; k < wcs->npv; k++) {
        const struct pvcard *pv = wcs->pv + k;
        if (pv->i < 1 || pv->i > wcs->naxis) {
            snprintf(why, TF_WHY, "PV%d_%d: no such axis", pv->i, pv->m);
            return TF_WCS_TABLES;
        }
        if (!is_tabular(wcs, pv->i - 1) || pv->m < 1 || pv->m > 3)
            continue;
        if (!(pv->value >= 1 && pv->value <= (pv->m == 3 ? wcs->naxis : 1e9)) || pv->value != floor(pv->value)) {
            snprintf(why, TF_WHY, "PV%d_%d = %g: no such table, or axis of it", pv->i, pv->m, pv->value);
            return TF_WCS_TABLES;
        }
        double *const to[] = {&places[pv->i - 1].extver, &places[pv->i - 1].extlevel, &places[pv->i - 1].axis};
        *to[pv->m - 1] = pv->value;
    }
    return TF_WCS_DONE;
}

/* wcstab of wcslib 7.12 takes the axis of PSi_m and PVi_m as an index, 0 of PROJPn too, and PVi_3 as a place in
 * arrays of that many elements; where it finds an axis of a table missing it frees what wcsfree frees again. */
static int check_tables(const struct wcsprm *wcs, char why[TF_WHY])
{
    table_place places[TF_AXES_AT_MOST];
    int tabular = 0;
    for (int i = 0; i < wcs->naxis; i++)
        tabular |= is_tabular(wcs, i);
    if (!tabular)
        return TF_WCS_DONE;
    if (read_places(wcs, places, why))
        return TF_WCS_TABLES;
    for (int i = 0; i < wcs->naxis; i++) {
        if (!is_tabular(wcs, i))
            continue;
        if (!places[i].extname[0] || !places[i].column[0]) {
            snprintf(why, TF_WHY, "CTYPE%d is -TAB, but PS%d_0 and PS%d_1 name no column", i + 1, i + 1, i + 1);
            return TF_WCS_TABLES;
        }
        for (int m = 1; m <= places[i].axis; m++) {
            int found = 0;
            for (int k = 0; k < wcs->naxis; k++)
                found += is_tabular(wcs, k) && places[k].axis == m && same_table(&places[i], &places[k]);
            if (found != 1) {
                snprintf(why, TF_WHY, "axis %d of the table of CTYPE%d: %d image axes", m, i + 1, found);
                return TF_WCS_TABLES;
            }
        }
    }
    return TF_WCS_DONE;
}

/* The description of that letter among those that were found. */
static struct wcsprm *find(struct wcsprm *all, int count, char key)
{
    for (int i = 0; i < count; i++)
        if (all[i].alt[0] == key)
            return all + i;
    return NULL;
}

/* The n of a field NAME.n, as sscanf finds it; 1 where this is another field. */
static long number_of(const char *field, const char *name)
{
    return strncmp(field, name, strlen(name)) == 0 ? strtol(field + strlen(name), NULL, 10) : 1;
}

/* disset and wcssub of wcslib 7.12 take the numbers of AXIS.n, OFFSET.n and SCALE.n, and the value of AXIS.n, as
 * indices of arrays of naxis elements. */
static int check_records(const struct wcsprm *wcs, const struct disprm *dis, char why[TF_WHY])
{
    const int naxis = wcs->naxis;
    for (int k = 0; dis && k < dis->ndp; k++) {
        const struct dpkey *key = dis->dp + k;
        const char *field = strchr(key->field, '.');
        int bad = key->j < 1 || key->j > naxis || !field;
        static const char *const numbered[] = {".AXIS.", ".OFFSET.", ".SCALE."};
        for (int i = 0; !bad && i < 3; i++) {
            const long n = number_of(field, numbered[i]);
            bad = n < 1 || n > naxis;
        }
        if (!bad && (strncmp(field, ".AXIS", 5) == 0 || strncmp(field, ".NAXES", 6) == 0)) {
            const double value = dpkeyd(dis->dp + k);
            bad = !(value >= (field[1] == 'A') && value <= naxis);
        }
        if (bad) {
            snprintf(why, TF_WHY, "%.40s: no such axis", key->field);
            return WCSERR_BAD_PARAM;
        }
    }
    return TF_WCS_DONE;
}

/* Has wcslib say which arrays it wants. */
static int prepare_tables(struct wcsprm *wcs, char why[TF_WHY])
{
    for (int i = 0; i < wcs->naxis; i++) {
        char *later = memchr(wcs->ctype[i], TF_TAB_LATER, sizeof wcs->ctype[i]);
        if (later)
            *later = 'B';
    }
    int status = check_tables(wcs, why);
    if (!status && (status = wcstab(wcs)) != 0) {
        say_error(why, status, wcs->err);
        /* wcstab has freed them */
        wcs->tab = wcs->m_tab = NULL;
        wcs->wtb = wcs->m_wtb = NULL;
        wcs->ntab = wcs->nwtb = 0;
        status = status == WCSHDRERR_MEMORY ? WCSERR_MEMORY : TF_WCS_TABLES;
    }
    return status;
}

/* The description of n cards that wcslib may see; TF_WCS_MISSING where they have none. */
static int parse(char *cards, int n, char key, struct wcsprm *to, char why[TF_WHY])
{
    struct wcsprm *all = NULL;
    int count = 0, rejected;
    const int status = wcspih(cards, n, WCSHDR_all, 0, &rejected, &count, &all);
    if (status) {
        say(why, wcshdr_errmsg[status]);
        return status == WCSHDRERR_MEMORY ? WCSERR_MEMORY : TF_WCS_PARSER;
    }
    struct wcsprm *found = find(all, count, key);
    if (found) {
        *to = *found;
        found->flag = -1; /* what it held is ours now */
        found->err = NULL;
    }
    wcsvfree(&count, &all);
    return found ? TF_WCS_DONE : TF_WCS_MISSING;
}

static int check(struct wcsprm *wcs, char why[TF_WHY])
{
    if (wcs->naxis > TF_AXES_AT_MOST) {
        snprintf(why, TF_WHY, "%d axes: at most %d", wcs->naxis, TF_AXES_AT_MOST);
        return TF_WCS_AXES;
    }
    int status = check_records(wcs, wcs->lin.dispre, why);
    if (!status)
        status = check_records(wcs, wcs->lin.disseq, why);
    return status ? status : prepare_tables(wcs, why);
}

int tf_wcs_read(const char *cards, size_t n, char key, struct wcsprm *to, char why[TF_WHY])
{
    int described, odd_wat, status = TF_WCS_MISSING;
    char *kept = malloc(n ? n * CARD : 1);
    if (!kept)
        return WCSERR_MEMORY;
    to->flag = -1;
    const ptrdiff_t number = tf_wcs_cards(cards, n, key, kept, &described, &odd_wat);
    if (number < 0) {
        snprintf(why, TF_WHY, "%.30s: at most %d axes", cards + (-1 - number) * CARD, TF_AXES_AT_MOST);
        status = TF_WCS_AXES;
    } else if (odd_wat) {
        say(why, "the WAT cards of TNX or ZPX axes make no sense");
        status = TF_WCS_PARSER;
    } else if (key == ' ' || described) {
        status = parse(kept, (int)number, key, to, why);
    }
    free(kept);
    if (status == TF_WCS_MISSING && key == ' ')
        status = wcsinit(1, 2, to, 0, 0, 0); /* nothing is said: two axes of pixels */
    if (status == TF_WCS_MISSING)
        snprintf(why, TF_WHY, "there is no description %c of world coordinates", key);
    if (!status && (status = check(to, why)) != 0)
        wcsfree(to);
    return status;
}

/* What transform.c counts on where it keeps NaN from tables: the reference point is one. */
static int check_reference(const struct wcsprm *wcs, char why[TF_WHY])
{
    const int naxis = wcs->naxis;
    if (!wcs->ntab)
        return TF_WCS_DONE;
    if (wcs->lin.dispre || wcs->lin.disseq) {
        say(why, "-TAB axes beside distortions that only wcslib knows");
        return TF_WCS_TABLES;
    }
    for (int i = 0; i < naxis; i++) {
        if (!isfinite(wcs->crpix[i]) || !isfinite(wcs->crval[i])) {
            snprintf(why, TF_WHY, "CRPIX%d or CRVAL%d is no number", i + 1, i + 1);
            return TF_WCS_TABLES;
        }
        for (int j = 0; j < naxis; j++) {
            if (!isfinite(wcs->cdelt[i] * wcs->pc[i * naxis + j])) {
                snprintf(why, TF_WHY, "CDELT%d, PC%d_%d or CD%d_%d is no number", i + 1, i + 1, j + 1, i + 1, j + 1);
                return TF_WCS_TABLES;
            }
        }
    }
    return TF_WCS_DONE;
}

/* Whether an index rises or falls, with steps that may be none, from one number to another. wcslib divides by steps. */
static int is_monotonic(const double *index, int n)
{
    int rises = 0, falls = 0;
    for (int i = 0; i < n; i++) {
        if (!isfinite(index[i]) || (i > 0 && !isfinite(index[i] - index[i - 1])))
            return 0;
        rises |= i > 0 && index[i] > index[i - 1];
        falls |= i > 0 && index[i] < index[i - 1];
    }
    return n == 1 || rises != falls;
}

/* At an index that is none, tabset of wcslib 7.12 frees what tabfree frees again. */
static int check_arrays(const struct wcsprm *wcs, char why[TF_WHY])
{
    for (int k = 0; k < wcs->ntab; k++) {
        const struct tabprm *tab = wcs->tab + k;
        double elements = 2.0 * tab->M;
        for (int m = 0; m < tab->M; m++) {
            elements *= tab->K[m];
            if (tab->K[m] >= 1 && (!tab->index[m] || is_monotonic(tab->index[m], tab->K[m])))
                continue;
            snprintf(why, TF_WHY, "the index of axis %d of a table of coordinates neither rises nor falls", m + 1);
            return TF_WCS_TABLES;
        }
        if (elements > INT_MAX || !tab->coord) {
            say(why, "a table of coordinates has too many of them, or none");
            return TF_WCS_TABLES;
        }
    }
    return TF_WCS_DONE;
}

int tf_wcs_finish(struct wcsprm *wcs, char why[TF_WHY])
{
    int fixed[NWCSFIX], status;
    struct wcserr notes[NWCSFIX];
    memset(notes, 0, sizeof notes);
    if ((status = check_arrays(wcs, why)) != 0)
        return status;
    /* what it cannot mend is said by wcsset, or does not matter to the coordinates */
    wcsfixi(0, NULL, wcs, fixed, notes);
    if ((status = wcsset(wcs)) == 0)
        return check_reference(wcs, why);
    /* Once more, to hear which card it is. At other times wcslib keeps silent: it would lose the memory of every
     * message but the last about a block of points. */
    wcserr_enable(1);
    wcsset(wcs);
    wcserr_enable(0);
    return say_error(why, status, wcs->err);
}

void tf_wcs_free(struct wcsprm *wcs)
{
    /* what wcstab has announced and tabset has not taken yet */
    double *const announced = (double *)0x1;
    for (int i = 0; wcs->m_tab && i < wcs->ntab; i++) {
        struct tabprm *tab = wcs->tab + i;
        if (tab->m_coord == announced)
            free(tab->coord);
        for (int m = 0; m < tab->m_M; m++) {
            if (tab->m_indxs[m] == announced) {
                free(tab->index[m]);
            } else if (tab->index[m] != tab->m_indxs[m]) { /* by lengthen_indices */
                free(tab->index[m] - 1);
                tab->index[m] = tab->m_indxs[m];
            }
        }
    }
    wcsfree(wcs);
}

int tf_wcs_celestial(struct wcsprm *wcs, char why[TF_WHY])
{
    struct wcsprm part = {.flag = -1};
    int count = 1, axes[TF_AXES_AT_MOST] = {WCSSUB_CELESTIAL};
    int status = wcssub(1, wcs, &count, axes, &part);
    if (!status && count < 2) {
        say(why, "there are no celestial axes");
        status = TF_WCS_NO_CELESTIAL;
    } else if (status || (status = wcsset(&part)) != 0) {
        say_error(why, status, part.err);
        status = status == WCSERR_MEMORY ? status : TF_WCS_NO_CELESTIAL;
    }
    if (status) {
        wcsfree(&part);
        return status;
    }
    wcsfree(wcs);
    *wcs = part;
    return TF_WCS_DONE;
}

/* tabs2x of wcslib 7.12 takes the element before the first one of an index where it goes on half a cell below: each
 * gets one that goes on as the index begins. 0, or -1 where there is no memory. */
static int lengthen_indices(struct wcsprm *wcs)
{
    for (int i = 0; i < wcs->ntab; i++) {
        struct tabprm *tab = wcs->tab + i;
        for (int m = 0; m < tab->M; m++) {
            const size_t n = (size_t)tab->K[m];
            const double *index = tab->index[m];
            double *longer = index && n > 1 ? malloc((n + 1) * sizeof *longer) : NULL;
            if (!index || n < 2)
                continue;
            if (!longer)
                return -1;
            longer[0] = 2 * index[0] - index[1];
            memcpy(longer + 1, index, n * sizeof *longer);
            tab->index[m] = longer + 1;
        }
    }
    return 0;
}

int tf_wcs_copy(const struct wcsprm *wcs, struct wcsprm *to)
{
    to->flag = -1;
    int status = wcssub(1, wcs, NULL, NULL, to);
    if (!status)
        status = wcsset(to);
    if (!status && lengthen_indices(to) != 0)
        status = WCSERR_MEMORY;
    if (status)
        tf_wcs_free(to);
    return status;
}

void tf_wcs_matrix(const struct wcsprm *wcs, double *matrix)
{
    const int n = wcs->naxis;
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++)
            matrix[i * n + j] = wcs->cdelt[i] * wcs->pc[i * n + j];
}

int tf_wcs_tpv(const struct wcsprm *wcs, double pv[2][TF_TPV_TERMS])
{
    const struct disprm *dis = wcs->lin.disseq;
    /* wcslib takes x and y from the first two axes, whichever the celestial ones are, and in units of CDELT: left
     * to it where that matters */
    if (!dis || wcs->lin.dispre || wcs->lng != 0 || wcs->lat != 1 || wcs->cdelt[0] != 1 || wcs->cdelt[1] != 1)
        return 0;
    for (int i = 0; i < wcs->naxis; i++)
        if (strcmp(dis->dtype[i], i < 2 ? "TPV" : "") != 0)
            return 0;
    memset(pv, 0, 2 * sizeof pv[0]);
    for (int k = 0; k < dis->ndp; k++) {
        const struct dpkey *key = dis->dp + k;
        const char *field = strchr(key->field, '.');
        int m = -1;
        if (!field || key->j < 1 || key->j > 2)
            return 0;
        if (sscanf(field, ".TPV.%d", &m) == 1 && m >= 0 && m < TF_TPV_TERMS)
            pv[key->j - 1][m] = dpkeyd(dis->dp + k);
        else if (strcmp(field, ".NAXES") != 0 && strncmp(field, ".AXIS.", 6) != 0)
            return 0;
    }
    return dis->axmap[0][0] == 0 && dis->axmap[0][1] == 1 && dis->axmap[1][0] == 1 && dis->axmap[1][1] == 0;
}

int tf_wcs_gnomonic(const struct wcsprm *wcs, tf_gnomonic *g, tf_tpv *tpv)
{
    const struct celprm *cel = &wcs->cel;
    const int n = wcs->naxis, lng = wcs->lng, lat = wcs->lat;
    double pv[2][TF_TPV_TERMS];
    if (lng < 0 || lat < 0 || wcs->types[lng] != 2200 || wcs->cubeface != -1 || wcs->ntab)
        return 0;
    if (strcmp(cel->prj.code, "TAN") != 0 || cel->prj.x0 != 0 || cel->prj.y0 != 0 || n > TF_AXES)
        return 0;
    for (int i = 0; i < n; i++)
        if (i != lng && i != lat && (wcs->types[i] / 100) % 10 > 1)
            return 0;
    g->tpv = NULL;
    if (wcs->lin.dispre || wcs->lin.disseq) {
        if (!tf_wcs_tpv(wcs, pv))
            return 0;
        tf_tpv_set(tpv, pv);
        g->tpv = tpv;
    }
    g->naxis = n;
    g->lng = lng;
    g->lat = lat;
    memcpy(g->crpix, wcs->crpix, sizeof(double) * (size_t)n);
    memcpy(g->crval, wcs->crval, sizeof(double) * (size_t)n);
    tf_wcs_matrix(wcs, g->matrix);
    g->pole_lng = cel->euler[0];
    g->pole_lat = 90 - cel->euler[1];
    g->phi_p = cel->euler[2];
    return matinv(n, g->matrix, g->inverse) == 0;
}
