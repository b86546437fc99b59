/* Any header as a description of world coordinates: it is refused, or transforms points whatever they are. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <wcshdr.h>
#include <wtbarr.h>

#include "_wcslib/description.h"
#include "_wcslib/transform.h"
#include "common.h"

/* wcslib loses a few bytes of headers that it refuses, and so does nobody else. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:linset\nleak:wcserr_set\n";
}

#define POINTS 24
#define MOST_ELEMENTS 4096

/* Arrays of -TAB axes of any small shape; 0 where this input gives none. */
static int give_arrays(struct wcsprm *wcs, input *in)
{
    for (int k = 0; k < wcs->nwtb; k++) {
        struct wtbarr *w = wcs->wtb + k;
        size_t size = w->kind == 'c' ? (size_t)w->ndim - 1 : 1;
        if (w->kind == 'c') {
            for (int m = 0; m < w->ndim - 1; m++) {
                w->dimlen[m] = (int)take_within(in, 1, 5);
                size *= (size_t)w->dimlen[m];
                if (size > MOST_ELEMENTS)
                    return 0;
            }
        } else {
            size = (size_t)w->dimlen[0]; /* the coordinates came first */
        }
        CHECK(size > 0);
        *w->arrayp = malloc(size * sizeof(double));
        for (size_t i = 0; i < size; i++) {
            static const double odd[] = {NAN, INFINITY, -INFINITY, 1.7e308, -1.7e308};
            const uint64_t what = take(in, 1);
            (*w->arrayp)[i] = what > 250 ? odd[what - 251] : (double)i + (double)take_within(in, 0, 3);
        }
    }
    return 1;
}

static double odd_number(uint64_t seed)
{
    static const double odd[] = {0, NAN, INFINITY, -1e300, 1e-300, 90, -180, 1e15};
    return seed % 5 == 0 ? odd[seed / 5 % 8] : (double)(scramble(seed) % 4000) / 10 - 100;
}

/* Points transformed at once are those transformed one by one, and NaN stays alone. */
static void check_points(struct wcsprm *wcs, const tf_gnomonic *gnomonic, uint64_t seed)
{
    const int naxis = wcs->naxis;
    double points[POINTS * TF_AXES], world[POINTS * TF_AXES], one[TF_AXES];
    tf_wcs_way way = {naxis, NULL, gnomonic, 0};
    for (int i = 0; i < POINTS * naxis; i++)
        points[i] = odd_number(seed + (uint64_t)i);
    for (int back = 0; back < 2; back++) {
        void (*const transform)(const tf_wcs_way *, struct wcsprm *const *, int, const double *, double *, int64_t) =
            back ? tf_wcs_to_pixel : tf_wcs_to_world;
        transform(&way, &wcs, 1, points, world, POINTS);
        for (int k = 0; k < POINTS && gnomonic; k++) {
            transform(&way, &wcs, 1, points + k * naxis, one, 1);
            CHECK(memcmp(one, world + k * naxis, sizeof(double) * (size_t)naxis) == 0 || isnan(one[wcs->lng]) ||
                  isnan(one[wcs->lat]));
        }
        memcpy(points, world, sizeof points);
    }
}

static void use(struct wcsprm *wcs, uint64_t seed)
{
    static tf_gnomonic g;
    static tf_tpv tpv;
    double pv[2][TF_TPV_TERMS], matrix[TF_AXES * TF_AXES];
    struct wcsprm copy;
    char *cards = NULL;
    int count = 0;

    CHECK(wcs->naxis >= 1 && wcs->naxis <= TF_AXES);
    tf_wcs_matrix(wcs, matrix);
    tf_wcs_tpv(wcs, pv);
    check_points(wcs, NULL, seed);
    if (tf_wcs_gnomonic(wcs, &g, &tpv))
        check_points(wcs, &g, seed);
    if (!wcs->lin.dispre && !wcs->lin.disseq) {
        memset(&copy, 0, sizeof copy);
        if (tf_wcs_copy(wcs, &copy) == 0) {
            check_points(&copy, NULL, seed);
            tf_wcs_free(&copy);
        }
    }
    wcshdo(WCSHDO_safe | WCSHDO_P17, wcs, &count, &cards);
    free(cards);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    input in = {data, size};
    text cards = {0};
    char why[TF_WHY] = "";
    struct wcsprm wcs;
    const int key = (int)take_within(&in, 0, 3);
    const uint64_t seed = take(&in, 2);
    const int celestial = (int)take(&in, 1) % 4 == 0;
    input numbers = {in.at, in.left < 16 ? in.left : 16};
    take(&in, 8);
    take(&in, 8);

    while (put_card(&cards, &in))
        ;
    memset(&wcs, 0, sizeof wcs);
    if (tf_wcs_read((const char *)cards.bytes, cards.size / 80, " ABZ"[key], &wcs, why) == 0) {
        if (give_arrays(&wcs, &numbers) && tf_wcs_finish(&wcs, why) == 0)
            if (!celestial || tf_wcs_celestial(&wcs, why) == 0)
                use(&wcs, seed);
        tf_wcs_free(&wcs);
    }
    free(cards.bytes);
    return 0;
}
