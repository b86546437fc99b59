#include "cards.h"

#include <stdlib.h>
#include <string.h>

#include "plates.h"

#define CARD 80
#define NAME 8

/* How keywords begin that stand once for all descriptions, or for the primary one. */
static const char *const COMMON[] = {
    "NAXIS   ", "RESTFREQ", "VELREF  ", "EPOCH   ", "RADECSYS", "TIME",    "TREF",    "PLEPHEM", "DATE",    "MJD",
    "JD",       "JEPOCH  ", "BEPOCH  ", "TSTART  ", "TSTOP   ", "XPOSURE", "TELAPSE", "TIMSYER", "TIMRDER", "OBSGEO",
    "OBSORBIT", "RSUN_REF", "DSUN_OBS", "CRLN_OBS", "HGLN_OBS", "HGLT_OBS", "A_RADIUS", "B_RADIUS", "C_RADIUS",
    "BLON_OBS", "BLAT_OBS", "BDIS_OBS",
};
/* Old ones, of the primary description. */
static const char *const PRIMARY[] = {"PROJP", "CROTA"};
/* Seven letters, then the letter of the description. */
static const char *const LETTERED[] = {
    "WCSAXES", "WCSNAME", "LONPOLE", "LATPOLE", "RESTFRQ", "RESTWAV", "EQUINOX", "RADESYS",
    "SPECSYS", "SSYSOBS", "VELOSYS", "ZSOURCE", "SSYSSRC", "VELANGL",
};
/* A number follows, perhaps another, then the letter. */
static const char *const NUMBERED[] = {
    "CRPIX", "CRVAL", "CDELT", "CTYPE", "CUNIT", "CNAME", "CRDER", "CSYER", "CZPHS", "CPERI", "CPDIS", "CQDIS",
    "CPERR", "CQERR", "PC",    "CD",    "PV",    "PS",    "DP",    "DQ",    "DVERR",
};

#define COUNT(list) (sizeof(list) / sizeof(list)[0])

static int begins_with_one(const char *name, const char *const *list, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (strncmp(name, list[i], strlen(list[i])) == 0)
            return 1;
    return 0;
}

static int is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* What follows the letters of a numbered keyword: digits, perhaps _ and digits, perhaps a letter. 0 where that is
 * not so, else the letter or a blank. */
static char letter_of(const char *name)
{
    int i = 0;
    while (i < NAME && name[i] >= 'A' && name[i] <= 'Z')
        i++;
    if (i == NAME || !is_digit(name[i]))
        return 0;
    while (i < NAME && (is_digit(name[i]) || name[i] == '_'))
        i++;
    if (i == NAME || name[i] == ' ')
        return ' ';
    return name[i] >= 'A' && name[i] <= 'Z' ? name[i] : 0;
}

/* 0: not for wcslib; 1: for any description; 2: for this one alone. */
static int belongs(const char *name, char key)
{
    /* most cards of a header end here */
    if (name[0] == ' ' || !strchr("CPDWNLREVTJMOXABSZHY", name[0]))
        return 0;
    if (begins_with_one(name, NUMBERED, COUNT(NUMBERED)) && letter_of(name))
        return letter_of(name) == key ? 2 : 0;
    if (begins_with_one(name, LETTERED, COUNT(LETTERED)))
        return name[NAME - 1] == key ? 2 : 0;
    if (begins_with_one(name, PRIMARY, COUNT(PRIMARY)) || tf_is_wat(name) || tf_is_dss(name))
        return key == ' ' ? 2 : 0;
    return begins_with_one(name, COMMON, COUNT(COMMON));
}

/* Axes that a NAXIS or WCSAXES card asks for; 0 of other cards. */
static long axes_of(const char *card)
{
    char value[CARD - NAME - 1];
    if (strncmp(card, "NAXIS   ", NAME) != 0 && strncmp(card, "WCSAXES", NAME - 1) != 0)
        return 0;
    memcpy(value, card + NAME + 2, sizeof value - 1);
    value[sizeof value - 1] = 0;
    return strtol(value, NULL, 10);
}

static void blank_quotes(char *card, int from, int to)
{
    for (int i = from; i < to; i++)
        if (card[i] == '\'')
            card[i] = ' ';
}

/* Moves a closing quote to where the text ends: to wcspih of wcslib 7.12 the blanks behind it are part of the name of a
 * distortion. */
static void end_string_at_text(char *card, int end)
{
    int last = end - 2;
    if (end <= 0)
        return;
    while (last > NAME + 1 && card[last] == ' ')
        last--;
    card[end - 1] = ' ';
    card[last + 1] = '\'';
}

/* Where the string value of a card ends; 0 where it is another one, -1 where there is none or no closing quote. */
static int string_end(const char *card)
{
    int i = NAME + 1;
    while (i < CARD && card[i] == ' ')
        i++;
    if (i == CARD || card[i] == '/')
        return -1; /* of a value that is none the scanner prints what it sees */
    if (card[i] != '\'')
        return 0;
    for (i++; i < CARD; i++) {
        if (card[i] != '\'')
            continue;
        if (i + 1 == CARD || card[i + 1] != '\'')
            return i + 1;
        i++; /* two of them are one inside */
    }
    return -1;
}

/* Copies a card for the scanner of wcslib 7.12, which takes a string from one quote to the next, be that in another
 * card, and copies it to where only 72 characters fit. What is no printable ASCII becomes a blank. 0 where the card
 * is no sound one. */
static int copy_card(char *to, const char *card)
{
    for (int i = 0; i < CARD; i++)
        to[i] = card[i] >= ' ' && card[i] <= '~' ? card[i] : ' ';
    const int end = string_end(to);
    if (end < 0 || to[NAME] != '=' || to[NAME + 1] != ' ')
        return 0; /* no value, or none that begins where values do: the standard 4.0, section 4.1.2.2 */
    blank_quotes(to, 0, end ? NAME + 2 : CARD);
    blank_quotes(to, end, CARD);
    if (strncmp(to, "CPDIS", 5) == 0 || strncmp(to, "CQDIS", 5) == 0)
        end_string_at_text(to, end);
    for (int i = NAME; strncmp(to, "CTYPE", 5) == 0 && i + 4 <= end; i++)
        if (strncmp(to + i, "-TAB", 4) == 0)
            to[i + 3] = TF_TAB_LATER;
    return 1;
}

/* Leaves those that are not `dropped`; the number of them. */
static ptrdiff_t without(char *cards, ptrdiff_t n, int (*dropped)(const char *card))
{
    ptrdiff_t kept = 0;
    for (ptrdiff_t i = 0; i < n; i++)
        if (!dropped(cards + i * CARD))
            memmove(cards + kept++ * CARD, cards + i * CARD, CARD);
    return kept;
}

/* Whether an axis is one that WAT cards belong to. */
static int wants_wat(const char *cards, ptrdiff_t n)
{
    for (; n > 0; n--, cards += CARD)
        for (int i = NAME; strncmp(cards, "CTYPE", 5) == 0 && i + 4 <= CARD && cards[i] != '/'; i++)
            if (strncmp(cards + i, "-TNX", 4) == 0 || strncmp(cards + i, "-ZPX", 4) == 0)
                return 1;
    return 0;
}

ptrdiff_t tf_wcs_cards(const char *cards, size_t n, char key, char *to, int *described, int *odd_wat)
{
    ptrdiff_t kept = 0;
    *described = *odd_wat = 0;
    for (size_t i = 0; i < n; i++, cards += CARD) {
        const int whose = belongs(cards, key);
        if (!whose)
            continue;
        if (!copy_card(to + kept * CARD, cards))
            continue;
        if (axes_of(to + kept * CARD) > TF_AXES_AT_MOST)
            return -1 - (ptrdiff_t)i;
        kept++;
        *described |= whose == 2;
    }
    if (!tf_dss_is_sound(to, (size_t)kept))
        kept = without(to, kept, tf_is_dss); /* most have an ordinary description, too */
    if (!tf_wat_is_sound(to, (size_t)kept)) {
        const ptrdiff_t others = without(to, kept, tf_is_wat);
        *odd_wat = others < kept && wants_wat(to, others);
        kept = others;
    }
    return kept;
}
