#include "header_scan.h"

#include <string.h>

/* What may stand in a keyword: 1; a blank: 2. */
static const uint8_t keyword_byte[256] = {
    [' '] = 2,   ['-'] = 1,   ['_'] = 1,   ['0'] = 1,   ['1'] = 1,   ['2'] = 1,   ['3'] = 1,   ['4'] = 1,
    ['5'] = 1,   ['6'] = 1,   ['7'] = 1,   ['8'] = 1,   ['9'] = 1,   ['A'] = 1,   ['B'] = 1,   ['C'] = 1,
    ['D'] = 1,   ['E'] = 1,   ['F'] = 1,   ['G'] = 1,   ['H'] = 1,   ['I'] = 1,   ['J'] = 1,   ['K'] = 1,
    ['L'] = 1,   ['M'] = 1,   ['N'] = 1,   ['O'] = 1,   ['P'] = 1,   ['Q'] = 1,   ['R'] = 1,   ['S'] = 1,
    ['T'] = 1,   ['U'] = 1,   ['V'] = 1,   ['W'] = 1,   ['X'] = 1,   ['Y'] = 1,   ['Z'] = 1,
};

/* keywords are compared as one word of 8 bytes */
static uint64_t word_of(const void *eight)
{
    uint64_t word;
    memcpy(&word, eight, 8);
    return word;
}

/* letters, digits, - and _, then blanks */
static int is_standard(const uint8_t *card)
{
    unsigned seen = 0;
    for (int i = 0; i < 8; i++) {
        const unsigned kind = keyword_byte[card[i]];
        if (kind == 0 || (kind == 1 && (seen & 2)))
            return 0;
        seen |= kind;
    }
    return 1;
}

/* A HIERARCH card of several plain words, or of a long one, names none of the keywords that matter. */
static int is_harmless_hierarch(const uint8_t *card)
{
    int i = 9;
    if (card[8] != ' ')
        return 0;
    while (i < TF_CARD && card[i] == ' ')
        i++;
    const int first = i;
    while (i < TF_CARD && card[i] != ' ' && card[i] != '=')
        i++;
    const int length = i - first;
    if (length == 8 && memcmp(card + first, "HIERARCH", 8) == 0)
        return 0;
    for (int k = 9; k < TF_CARD && card[k] != '='; k++)
        if (card[k] < ' ' || card[k] > '~')
            return 0;
    while (i < TF_CARD && card[i] == ' ')
        i++;
    return i < TF_CARD && (length > 8 || (length > 0 && card[i] != '='));
}

/* ---------------------------------------------------------------------------- values */

/* Only blanks, maybe with a comment after them. */
static int is_rest(const uint8_t *at, const uint8_t *end)
{
    while (at < end && *at == ' ')
        at++;
    return at == end || *at == '/';
}

static const uint8_t *value_of(const uint8_t *card)
{
    if (card[8] != '=' || card[9] != ' ')
        return NULL;
    const uint8_t *at = card + 10, *end = card + TF_CARD;
    while (at < end && *at == ' ')
        at++;
    return at < end ? at : NULL;
}

static int integer_of(const uint8_t *card, int64_t *value)
{
    const uint8_t *at = value_of(card), *end = card + TF_CARD;
    int negative = 0, digits = 0;
    int64_t n = 0;
    if (!at)
        return -1;
    if (*at == '+' || *at == '-')
        negative = *at++ == '-';
    for (; at < end && *at >= '0' && *at <= '9'; at++, digits++) {
        if (n > (INT64_MAX - 9) / 10)
            return -1;
        n = 10 * n + (*at - '0');
    }
    if (digits == 0 || !is_rest(at, end))
        return -1;
    *value = negative ? -n : n;
    return 0;
}

/* Only numbers that are exact, or rounded by one division or product of exact ones, and so rounded right. */
static int real_of(const uint8_t *card, double *value)
{
    static const double powers[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                    1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    const uint8_t *at = value_of(card), *end = card + TF_CARD;
    int negative = 0, digits = 0, exponent = 0, point = 0;
    uint64_t n = 0;
    if (!at)
        return -1;
    if (*at == '+' || *at == '-')
        negative = *at++ == '-';
    for (; at < end && ((*at >= '0' && *at <= '9') || (*at == '.' && !point)); at++) {
        if (*at == '.') {
            point = 1;
            continue;
        }
        if (n > (UINT64_MAX - 9) / 10)
            return -1;
        n = 10 * n + (uint64_t)(*at - '0');
        digits++;
        exponent -= point;
    }
    if (digits == 0)
        return -1;
    if (at < end && (*at == 'E' || *at == 'D' || *at == 'e' || *at == 'd')) {
        int less = 0, power = 0, more = 0;
        at++;
        if (at < end && (*at == '+' || *at == '-'))
            less = *at++ == '-';
        for (; at < end && *at >= '0' && *at <= '9' && more < 4; at++, more++)
            power = 10 * power + (*at - '0');
        if (more == 0)
            return -1;
        exponent += less ? -power : power;
    }
    if (!is_rest(at, end))
        return -1;
    while (exponent < 0 && n != 0 && n % 10 == 0) {
        n /= 10;
        exponent++;
    }
    if (n == 0)
        exponent = 0;
    if (exponent != 0 && (n >> 53 || exponent < -22 || exponent > 22))
        return -1;
    *value = exponent < 0 ? (double)n / powers[-exponent] : (double)n * powers[exponent];
    if (negative)
        *value = -*value;
    return 0;
}

static int logical_of(const uint8_t *card, int *value)
{
    const uint8_t *at = value_of(card);
    if (!at || (*at != 'T' && *at != 'F') || !is_rest(at + 1, card + TF_CARD))
        return -1;
    *value = *at == 'T';
    return 0;
}

/* A string of plain text without quotes inside; blanks around it are dropped. */
static int text_of(const uint8_t *card, char *text, int *length)
{
    const uint8_t *at = value_of(card), *end = card + TF_CARD, *last;
    if (!at || *at != '\'')
        return -1;
    for (last = ++at; last < end && *last != '\''; last++)
        if (*last < ' ' || *last > '~')
            return -1;
    if (last == end || (last + 1 < end && last[1] == '\'') || !is_rest(last + 1, end))
        return -1;
    while (last > at && last[-1] == ' ')
        last--;
    while (at < last && *at == ' ')
        at++;
    if (last > at && last[-1] == '&') /* maybe carried on by CONTINUE */
        return -1;
    *length = (int)(last - at);
    memcpy(text, at, (size_t)*length);
    return 0;
}

/* ---------------------------------------------------------------------------- the scan */

enum {
    BITPIX,
    NAXIS,
    PCOUNT,
    GCOUNT,
    GROUPS,
    ZIMAGE,
    BSCALE,
    BZERO,
    BLANK,
    EXTNAME,
    EXTVER,
    KEYWORDS
};

static const char keywords[KEYWORDS][9] = {
    "BITPIX  ", "NAXIS   ", "PCOUNT  ", "GCOUNT  ", "GROUPS  ", "ZIMAGE  ",
    "BSCALE  ", "BZERO   ", "BLANK   ", "EXTNAME ", "EXTVER  ",
};

/* n of NAXISn, 0 where the card is none. */
static int axis_of(const uint8_t *card)
{
    int n = 0, i = 5;
    if (memcmp(card, "NAXIS", 5) != 0 || card[5] == '0')
        return 0;
    for (; i < 8 && card[i] >= '0' && card[i] <= '9'; i++)
        n = 10 * n + (card[i] - '0');
    return i > 5 && (i == 8 || card[i] == ' ') ? n : 0;
}

static int kind_of(const char *name, int length, tf_hdu_kind *kind)
{
    static const struct {
        const char *name;
        tf_hdu_kind kind;
    } known[] = {{"IMAGE", TF_HDU_IMAGE},       {"IUEIMAGE", TF_HDU_IMAGE},   {"BINTABLE", TF_HDU_BINTABLE},
                 {"A3DTABLE", TF_HDU_BINTABLE}, {"3DTABLE", TF_HDU_BINTABLE}, {"TABLE", TF_HDU_TABLE}};
    *kind = TF_HDU_FOREIGN;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if ((size_t)length == strlen(known[i].name) && memcmp(name, known[i].name, (size_t)length) == 0)
            *kind = known[i].kind;
    for (int i = 0; i < length; i++)
        if (name[i] >= 'a' && name[i] <= 'z')
            return -1;
    return 0;
}

/* Sizes, and what may not be for an ordinary HDU; -1 there. */
static int measure(tf_header *h, const uint8_t *const cards[KEYWORDS], const uint8_t *const axes[TF_SCAN_AXES],
                   int primary)
{
    int64_t value, bytes, pixels = 1;
    int groups = 0, first_axis = 0;

    if (!cards[BITPIX] || integer_of(cards[BITPIX], &value) != 0)
        return -1;
    if (value != 8 && value != 16 && value != 32 && value != 64 && value != -32 && value != -64)
        return -1;
    h->bitpix = (int)value;
    bytes = value < 0 ? -value / 8 : value / 8;
    if (!cards[NAXIS] || integer_of(cards[NAXIS], &value) != 0 || value < 0 || value > TF_SCAN_AXES)
        return -1;
    h->naxis = (int)value;
    for (int i = 0; i < h->naxis; i++)
        if (!axes[i] || integer_of(axes[i], &h->axes[i]) != 0 || h->axes[i] < 0)
            return -1;

    if (cards[GROUPS] && logical_of(cards[GROUPS], &groups) != 0)
        return -1;
    groups = groups && h->kind == TF_HDU_IMAGE && h->naxis > 0 && h->axes[0] == 0;
    if (groups) {
        h->kind = TF_HDU_GROUPS;
        first_axis = 1;
    }
    h->pcount = 0;
    h->gcount = 1;
    if (groups || !primary) {
        if (cards[PCOUNT] && (integer_of(cards[PCOUNT], &h->pcount) != 0 || h->pcount < 0))
            return -1;
        if (cards[GCOUNT] && (integer_of(cards[GCOUNT], &h->gcount) != 0 || h->gcount < 0))
            return -1;
        if (h->kind == TF_HDU_IMAGE && (h->pcount != 0 || h->gcount != 1))
            return -1;
    }
    for (int i = first_axis; i < h->naxis; i++)
        if (__builtin_mul_overflow(pixels, h->axes[i], &pixels))
            return -1;
    if (h->naxis == first_axis)
        pixels = 0;
    if (__builtin_add_overflow(pixels, h->pcount, &pixels) || __builtin_mul_overflow(pixels, h->gcount, &pixels) ||
        __builtin_mul_overflow(pixels, bytes, &pixels) || pixels > INT64_MAX / 4)
        return -1;
    h->data_bytes = pixels;
    return 0;
}

static int is_orderly(const tf_header *h, const uint8_t *data, const uint8_t *const cards[KEYWORDS],
                      const uint8_t *const axes[TF_SCAN_AXES])
{
    if (cards[BITPIX] != data + TF_CARD || cards[NAXIS] != data + 2 * TF_CARD)
        return 0;
    for (int i = 0; i < h->naxis; i++)
        if (axes[i] != data + (3 + i) * TF_CARD)
            return 0;
    return 1;
}

static int describe(tf_header *h, const uint8_t *const cards[KEYWORDS])
{
    h->scale = 1;
    h->zero = 0;
    h->version = 1;
    if (h->kind == TF_HDU_BINTABLE && cards[ZIMAGE] && logical_of(cards[ZIMAGE], &h->compressed) != 0)
        return -1;
    if (cards[EXTNAME] && text_of(cards[EXTNAME], h->name, &h->name_length) != 0)
        return -1;
    if (cards[EXTVER] && integer_of(cards[EXTVER], &h->version) != 0)
        return -1;
    if (h->kind != TF_HDU_IMAGE && h->kind != TF_HDU_GROUPS)
        return 0;
    if (cards[BSCALE] && (real_of(cards[BSCALE], &h->scale) != 0 || h->scale == 0))
        return -1;
    if (cards[BZERO] && real_of(cards[BZERO], &h->zero) != 0)
        return -1;
    if (cards[BLANK] && h->bitpix > 0) {
        if (integer_of(cards[BLANK], &h->blank) != 0)
            return -1;
        const int64_t most = h->bitpix == 64 ? INT64_MAX : ((int64_t)1 << (h->bitpix - 1)) - 1;
        h->has_blank = h->bitpix == 8 ? h->blank >= 0 && h->blank <= 255 : h->blank >= -most - 1 && h->blank <= most;
    }
    return 0;
}

tf_scan_result tf_scan_header(const uint8_t *data, size_t n, int primary, tf_header *h)
{
    const uint8_t *cards[KEYWORDS] = {0}, *axes[TF_SCAN_AXES] = {0};
    uint64_t words[KEYWORDS];
    size_t at = 0;

    memset(h, 0, sizeof *h);
    if (n < TF_CARD)
        return TF_SCAN_MORE;
    if (primary) {
        int conforms;
        if (memcmp(data, "SIMPLE  ", 8) != 0 || logical_of(data, &conforms) != 0)
            return TF_SCAN_ODD;
        h->kind = TF_HDU_IMAGE;
    } else {
        char name[TF_NAME_MAX];
        int length;
        if (memcmp(data, "XTENSION", 8) != 0 || text_of(data, name, &length) != 0 || kind_of(name, length, &h->kind))
            return TF_SCAN_ODD;
    }
    for (int i = 0; i < KEYWORDS; i++)
        words[i] = word_of(keywords[i]);
    const uint64_t end = word_of("END     "), hierarch = word_of("HIERARCH"), first = word_of(data);
    for (at = TF_CARD; at + TF_CARD <= n; at += TF_CARD) {
        const uint8_t *card = data + at;
        const uint64_t word = word_of(card);
        int i;
        if (word == end) {
            for (i = 8; i < TF_CARD; i++)
                if (card[i] != ' ')
                    return TF_SCAN_ODD;
            h->header_bytes = (int64_t)((at + TF_CARD + TF_BLOCK - 1) / TF_BLOCK * TF_BLOCK);
            if (measure(h, cards, axes, primary) != 0 || describe(h, cards) != 0)
                return TF_SCAN_ODD;
            h->orderly = is_orderly(h, data, cards, axes);
            return TF_SCAN_OK;
        }
        if (word == hierarch ? !is_harmless_hierarch(card) : !is_standard(card) || word == first)
            return TF_SCAN_ODD;
        for (i = 0; i < KEYWORDS && word != words[i]; i++)
            ;
        if (i < KEYWORDS) {
            if (cards[i])
                return TF_SCAN_ODD;
            cards[i] = card;
        } else if ((i = axis_of(card)) > 0 && i <= TF_SCAN_AXES) {
            if (axes[i - 1])
                return TF_SCAN_ODD;
            axes[i - 1] = card;
        }
    }
    return TF_SCAN_MORE;
}

const uint8_t *tf_find_card(const uint8_t *header, size_t bytes, const uint8_t keyword[8])
{
    const uint64_t wanted = word_of(keyword), end = word_of("END     ");
    for (size_t at = 0; at + TF_CARD <= bytes; at += TF_CARD) {
        const uint64_t word = word_of(header + at);
        if (word == wanted)
            return header + at;
        if (word == end)
            break;
    }
    return NULL;
}

/* ---------------------------------------------------------------------------- tables */

static const struct {
    const char *name;
    size_t length;
} table_keywords[TF_TABLE_KEYWORDS] = {
    [TF_TTYPE] = {"TTYPE", 5},   [TF_TFORM] = {"TFORM", 5},   [TF_TBCOL] = {"TBCOL", 5},
    [TF_TUNIT] = {"TUNIT", 5},   [TF_TSCAL] = {"TSCAL", 5},   [TF_TZERO] = {"TZERO", 5},
    [TF_TNULL] = {"TNULL", 5},   [TF_TDIM] = {"TDIM", 4},     [TF_NAXIS] = {"NAXIS", 5},
    [TF_BITPIX] = {"BITPIX", 6}, [TF_PCOUNT] = {"PCOUNT", 6}, [TF_GCOUNT] = {"GCOUNT", 6},
    [TF_TFIELDS] = {"TFIELDS", 7}, [TF_THEAP] = {"THEAP", 5},
};

const char *tf_table_keyword_name(tf_table_keyword keyword)
{
    return table_keywords[keyword].name;
}

/* Which keyword a word in capitals is. */
static tf_table_keyword table_keyword(const char *word, size_t length, int *number)
{
    size_t letters = length;
    int k = 0;

    *number = 0;
    if (length > 0 && word[0] == 'Z')
        return TF_ODD_CARD;
    while (letters > 0 && word[letters - 1] >= '0' && word[letters - 1] <= '9')
        letters--;
    while (k < TF_TABLE_KEYWORDS &&
           (table_keywords[k].length != letters || memcmp(table_keywords[k].name, word, letters) != 0))
        k++;
    const int has_number = letters < length;
    if (k == TF_TABLE_KEYWORDS || (k < TF_NAXIS && !has_number) || (k > TF_NAXIS && has_number))
        return TF_NO_TABLE_KEYWORD;
    if (has_number && word[letters] == '0')
        return TF_ODD_CARD;
    for (; letters < length; letters++)
        *number = 10 * *number + (word[letters] - '0');
    return (tf_table_keyword)k;
}

tf_table_keyword tf_table_keyword_of(const uint8_t *card, int *number)
{
    const int is_hierarch = memcmp(card, "HIERARCH", 8) == 0;
    char word[9];
    size_t at = 0, length = 0;

    if (is_hierarch ? !is_harmless_hierarch(card) : !is_standard(card))
        return TF_ODD_CARD;
    /* cfitsio goes by the word after HIERARCH, also where there are more */
    for (at = is_hierarch ? 8 : 0; is_hierarch && card[at] == ' '; at++)
        ;
    for (; (is_hierarch || at < 8) && card[at] != ' ' && card[at] != '=' && length < sizeof word; at++)
        word[length++] = (char)(card[at] >= 'a' && card[at] <= 'z' ? card[at] - 'a' + 'A' : card[at]);
    if (length == sizeof word)
        return TF_NO_TABLE_KEYWORD;
    const tf_table_keyword found = table_keyword(word, length, number);
    return is_hierarch && found != TF_NO_TABLE_KEYWORD ? TF_ODD_CARD : found;
}
