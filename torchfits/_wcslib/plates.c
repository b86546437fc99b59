#include "plates.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CARD 80
#define VALUE 10 /* where it begins */
#define PIECE 68 /* characters that a WAT card holds */
#define PIECES 100
#define MOST_ORDER 30
#define PARAMETERS 30
#define AMD_TERMS 20

int tf_is_wat(const char *card)
{
    return strncmp(card, "WAT1_", 5) == 0 || strncmp(card, "WAT2_", 5) == 0;
}

/* ---------------------------------------------------------------------------- WAT */

/* The text of an axis, its pieces where their numbers put them; 0 where one of them is odd. */
static int wat_text(const char *cards, size_t n, int axis, char text[PIECES * PIECE + 1])
{
    int found = 0;
    memset(text, ' ', PIECES * PIECE);
    text[PIECES * PIECE] = 0;
    for (const char *card = cards; n > 0; n--, card += CARD) {
        int number = 0, length = 0;
        if (!tf_is_wat(card) || card[3] != '0' + axis)
            continue;
        for (int i = 5; i < 8; i++) {
            if (card[i] < '0' || card[i] > '9')
                return 0;
            number = number * 10 + card[i] - '0';
        }
        const char *quote = memchr(card + VALUE, '\'', CARD - VALUE);
        if (number < 1 || number > PIECES || !quote)
            return 0;
        while (quote + 1 + length < card + CARD && quote[1 + length] != '\'' && length < PIECE)
            length++;
        memcpy(text + (number - 1) * PIECE, quote + 1, (size_t)length);
        found = 1;
    }
    return found;
}

/* What wcspih reads of it by sscanf and strchr, read likewise, with a look at what comes out. */
static int wat_text_is_sound(const char *text)
{
    char word[8];
    int number;
    if (strcspn(text, " ") > strlen("wtype=") + 7 || sscanf(text, "wtype=%7s", word) != 1)
        return 0;
    if (strcmp(word, "tnx") != 0 && strcmp(word, "zpx") != 0)
        return 1; /* nothing more is read */
    for (const char *at = strstr(text, "projp"); at; at = strstr(at + 5, "projp"))
        if (sscanf(at, "projp%d", &number) != 1 || number < 0 || number >= PARAMETERS)
            return 0;
    const char *at = strchr(text, '"');
    if (!at)
        return 0;
    at++;
    for (int i = 0; i < 4; i++) {
        const int most = i == 3 ? 2 : MOST_ORDER, least = i == 3 ? 0 : 1;
        if (sscanf(at, "%d", &number) != 1 || number < least || number > most)
            return 0;
        at = strchr(at, ' ');
        if (!at)
            return 0;
        at++;
    }
    return 1;
}

int tf_wat_is_sound(const char *cards, size_t n)
{
    char text[PIECES * PIECE + 1];
    for (int axis = 1; axis <= 2; axis++)
        if (!wat_text(cards, n, axis, text) || !wat_text_is_sound(text))
            return 0;
    return 1;
}

/* ---------------------------------------------------------------------------- DSS */

static const char *const DSS[] = {
    "CNPIX1  ", "CNPIX2  ", "PPO3    ", "PPO6    ", "XPIXELSZ", "YPIXELSZ", "PLTRAH  ",
    "PLTRAM  ", "PLTRAS  ", "PLTDECSN", "PLTDECD ", "PLTDECM ", "PLTDECS ", "AMDX1   ",
    "AMDX2   ", "AMDX3   ", "AMDY1   ", "AMDY2   ", "AMDY3   ",
};
#define DSS_COUNT (sizeof DSS / sizeof DSS[0])

static int is_amd(const char *card)
{
    return strncmp(card, "AMDX", 4) == 0 || strncmp(card, "AMDY", 4) == 0;
}

int tf_is_dss(const char *card)
{
    if (is_amd(card))
        return 1;
    for (size_t i = 0; i < DSS_COUNT; i++)
        if (strncmp(card, DSS[i], 8) == 0)
            return 1;
    return 0;
}

/* Whether the value is a number, with nothing but a comment behind it. */
static int has_number(const char *card)
{
    char value[CARD - VALUE + 1], *end;
    memcpy(value, card + VALUE, CARD - VALUE);
    value[CARD - VALUE] = 0;
    value[strcspn(value, "/")] = 0;
    if (strspn(value, " +-.0123456789eEdD") != strlen(value))
        return 0;
    for (char *c = value; *c; c++)
        if (*c == 'd' || *c == 'D')
            *c = 'E';
    strtod(value, &end);
    return end > value && strspn(end, " ") == strlen(end);
}

static int is_sound_dss(const char *card)
{
    if (strncmp(card + 8, "= ", 2) != 0)
        return 0;
    if (strncmp(card, "PLTDECSN", 8) == 0)
        return strncmp(card + VALUE, "'+", 2) == 0 || strncmp(card + VALUE, "'-", 2) == 0;
    if (is_amd(card)) {
        const long term = strtol(card + 4, NULL, 10);
        if (term < 1 || term > AMD_TERMS)
            return 0;
    }
    return has_number(card);
}

int tf_dss_is_sound(const char *cards, size_t n)
{
    char found[DSS_COUNT] = {0};
    int plane = 0;
    for (const char *card = cards; n > 0; n--, card += CARD) {
        if (strncmp(card, "NAXIS   = ", 10) == 0)
            plane = has_number(card) && strtol(card + VALUE, NULL, 10) == 2;
        if (strncmp(card, "WCSAXES", 7) == 0 && strtol(card + VALUE, NULL, 10) > 2)
            return 0;
        if (!tf_is_dss(card)) {
            /* CRPIX3 and the like make more axes, too */
            for (int i = 0; i < 8 && (card[0] == 'C' || card[0] == 'P'); i++)
                if (card[i] >= '3' && card[i] <= '9')
                    return 0;
            continue;
        }
        if (!is_sound_dss(card))
            return 0;
        for (size_t i = 0; i < DSS_COUNT; i++)
            found[i] |= strncmp(card, DSS[i], 8) == 0;
    }
    return plane && !memchr(found, 0, DSS_COUNT);
}
