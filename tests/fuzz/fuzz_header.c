/* tf_scan_header on any bytes. What it calls ordinary is compared with a slow reading of the same cards. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "_native/header_scan.h"
#include "common.h"

/* ---------------------------------------------------------------------------- a slow reading */

static int is_card(const uint8_t *card, const char *keyword)
{
    char padded[9] = "        ";
    memcpy(padded, keyword, strlen(keyword));
    return memcmp(card, padded, 8) == 0;
}

/* Where END is; n where there is none. */
static size_t end_of(const uint8_t *data, size_t n)
{
    for (size_t at = TF_CARD; at + TF_CARD <= n; at += TF_CARD)
        if (is_card(data + at, "END"))
            return at;
    return n;
}

/* The only card of a keyword before END, NULL where there is none. */
static const uint8_t *only_card(const uint8_t *data, size_t end, const char *keyword)
{
    const uint8_t *found = NULL;
    for (size_t at = 0; at < end; at += TF_CARD) {
        if (is_card(data + at, keyword)) {
            CHECK(!found);
            found = data + at;
        }
    }
    return found;
}

/* The value field: what follows "= ", as a string. */
static const char *value_of(const uint8_t *card)
{
    static char value[TF_CARD + 1];
    CHECK(memcmp(card + 8, "= ", 2) == 0);
    memset(value, 0, sizeof value);
    memcpy(value, card + 10, TF_CARD - 10);
    return value;
}

/* The same as far as a comment, without blanks around it. */
static const char *bare_value_of(const uint8_t *card)
{
    static char bare[TF_CARD + 1];
    const char *value = value_of(card);
    size_t length = strcspn(value, "/");
    while (length > 0 && value[length - 1] == ' ')
        length--;
    while (length > 0 && *value == ' ') {
        value++;
        length--;
    }
    memset(bare, 0, sizeof bare);
    memcpy(bare, value, length);
    CHECK(length > 0);
    return bare;
}

static int64_t integer_of(const uint8_t *card)
{
    const char *value = bare_value_of(card);
    char *end;
    const long long n = strtoll(value, &end, 10);
    CHECK(*end == 0);
    return n;
}

static int64_t integer_or(const uint8_t *card, int64_t missing)
{
    return card ? integer_of(card) : missing;
}

static double real_or(const uint8_t *card, double missing)
{
    char value[TF_CARD + 1], *end;
    if (!card)
        return missing;
    strcpy(value, bare_value_of(card));
    CHECK(strspn(value, "+-.0123456789EDed") == strlen(value));
    for (char *c = value; *c; c++)
        if (*c == 'D' || *c == 'd')
            *c = 'E';
    const double x = strtod(value, &end);
    CHECK(*end == 0);
    return x;
}

static int logical_or(const uint8_t *card, int missing)
{
    if (!card)
        return missing;
    const char *value = bare_value_of(card);
    CHECK(strcmp(value, "T") == 0 || strcmp(value, "F") == 0);
    return value[0] == 'T';
}

/* A string between quotes without blanks around it; its length. */
static int string_of(const uint8_t *card, char *string)
{
    const char *value = value_of(card), *first = strchr(value, '\''), *last;
    int length = 0;
    CHECK(first && strspn(value, " ") == (size_t)(first - value));
    last = strchr(++first, '\'');
    CHECK(last && last[1] != '\'');
    for (; first < last && *first == ' '; first++)
        ;
    for (; last > first && last[-1] == ' '; last--)
        ;
    for (; first < last; first++)
        string[length++] = *first;
    return length;
}

static int is_same_number(double a, double b)
{
    return memcmp(&a, &b, sizeof a) == 0;
}

static tf_hdu_kind kind_of(const uint8_t *data, int primary)
{
    char name[TF_CARD];
    if (primary)
        return TF_HDU_IMAGE;
    const int length = string_of(data, name);
    name[length] = 0;
    if (strcmp(name, "IMAGE") == 0 || strcmp(name, "IUEIMAGE") == 0)
        return TF_HDU_IMAGE;
    if (strcmp(name, "BINTABLE") == 0 || strcmp(name, "A3DTABLE") == 0 || strcmp(name, "3DTABLE") == 0)
        return TF_HDU_BINTABLE;
    return strcmp(name, "TABLE") == 0 ? TF_HDU_TABLE : TF_HDU_FOREIGN;
}

/* ---------------------------------------------------------------------------- what must hold */

static void check_sizes(const uint8_t *data, size_t end, int primary, const tf_header *h)
{
    __int128 pixels = 1;
    char keyword[16] = "NAXIS";
    int first_axis = 0, orderly = 1;

    CHECK(h->bitpix == integer_of(only_card(data, end, "BITPIX")));
    CHECK(abs(h->bitpix) == 8 || abs(h->bitpix) == 16 || abs(h->bitpix) == 32 || abs(h->bitpix) == 64);
    CHECK(h->bitpix != -8 && h->bitpix != -16);
    CHECK(h->naxis == integer_of(only_card(data, end, "NAXIS")));
    CHECK(h->naxis >= 0 && h->naxis <= TF_SCAN_AXES);
    orderly = only_card(data, end, "BITPIX") == data + TF_CARD && only_card(data, end, "NAXIS") == data + 2 * TF_CARD;
    for (int i = 0; i < h->naxis; i++) {
        keyword[5] = (char)(i < 9 ? '1' + i : '1');
        keyword[6] = (char)(i < 9 ? 0 : '0' + i - 9);
        const uint8_t *card = only_card(data, end, keyword);
        CHECK(card && h->axes[i] == integer_of(card) && h->axes[i] >= 0);
        orderly = orderly && card == data + (3 + i) * TF_CARD;
    }
    CHECK(h->orderly == orderly);

    tf_hdu_kind kind = kind_of(data, primary);
    const int groups = kind == TF_HDU_IMAGE && h->naxis > 0 && h->axes[0] == 0 &&
                       logical_or(only_card(data, end, "GROUPS"), 0);
    if (groups) {
        kind = TF_HDU_GROUPS;
        first_axis = 1;
    }
    CHECK(h->kind == kind);
    const int counted = groups || !primary;
    CHECK(h->pcount == (counted ? integer_or(only_card(data, end, "PCOUNT"), 0) : 0) && h->pcount >= 0);
    CHECK(h->gcount == (counted ? integer_or(only_card(data, end, "GCOUNT"), 1) : 1) && h->gcount >= 0);
    CHECK(kind != TF_HDU_IMAGE || (h->pcount == 0 && h->gcount == 1));

    if (h->naxis == first_axis)
        pixels = 0;
    for (int i = first_axis; i < h->naxis; i++) {
        pixels *= h->axes[i];
        CHECK(pixels <= INT64_MAX); /* so that the next product fits */
    }
    pixels = (pixels + h->pcount) * h->gcount;
    CHECK(pixels <= INT64_MAX);
    CHECK(h->data_bytes == pixels * (abs(h->bitpix) / 8));
    CHECK(h->data_bytes >= 0 && h->data_bytes <= INT64_MAX / 4);
}

static void check_description(const uint8_t *data, size_t end, const tf_header *h)
{
    char name[TF_CARD];
    const uint8_t *extname = only_card(data, end, "EXTNAME"), *blank = only_card(data, end, "BLANK");
    const int is_image = h->kind == TF_HDU_IMAGE || h->kind == TF_HDU_GROUPS;

    CHECK(h->name_length >= 0 && h->name_length <= TF_NAME_MAX);
    CHECK(h->name_length == (extname ? string_of(extname, name) : 0));
    CHECK(memcmp(h->name, name, (size_t)h->name_length) == 0);
    CHECK(h->version == integer_or(only_card(data, end, "EXTVER"), 1));
    CHECK(h->compressed == (h->kind == TF_HDU_BINTABLE && logical_or(only_card(data, end, "ZIMAGE"), 0)));

    CHECK(is_same_number(h->scale, is_image ? real_or(only_card(data, end, "BSCALE"), 1) : 1) && h->scale != 0);
    CHECK(is_same_number(h->zero, is_image ? real_or(only_card(data, end, "BZERO"), 0) : 0));
    CHECK(isfinite(h->scale) && isfinite(h->zero));
    if (is_image && blank && h->bitpix > 0) {
        const __int128 n = integer_of(blank), half = (__int128)1 << (h->bitpix - 1);
        const int fits = h->bitpix == 8 ? n >= 0 && n <= 255 : n >= -half && n < half;
        CHECK(h->blank == n && h->has_blank == fits);
    } else {
        CHECK(!h->has_blank);
    }
}

/* tf_find_card against the obvious search. */
static void check_find(const uint8_t *header, size_t bytes, const uint8_t keyword[8])
{
    const uint8_t *expected = NULL;
    for (size_t at = 0; at + TF_CARD <= bytes && !expected; at += TF_CARD) {
        if (memcmp(header + at, keyword, 8) == 0)
            expected = header + at;
        else if (is_card(header + at, "END"))
            break;
    }
    CHECK(tf_find_card(header, bytes, keyword) == expected);
}

static void check_finds(const uint8_t *data, size_t n)
{
    check_find(data, n, (const uint8_t *)"EXTNAME ");
    check_find(data, n, (const uint8_t *)"END     ");
    for (size_t at = 0; at + 8 <= n && at < 64 * TF_CARD; at += TF_CARD)
        check_find(data, n, data + at);
}

/* tf_table_keyword_of: what it finds is what the card spells, and it looks at no byte behind the card. */
static void check_table_keywords(const uint8_t *data, size_t n)
{
    static arena place;
    const guarded copy = guard(&place, TF_CARD, 0, 1);
    for (size_t at = 0; at + TF_CARD <= n && at < 64 * TF_CARD; at += TF_CARD) {
        char name[24];
        int number = -1;
        memcpy(copy.start, data + at, TF_CARD);
        const tf_table_keyword found = tf_table_keyword_of(copy.start, &number);
        CHECK(found >= TF_ODD_CARD && found < TF_TABLE_KEYWORDS);
        if (found < 0)
            continue;
        snprintf(name, sizeof name, "%s%.0d", tf_table_keyword_name(found), number);
        CHECK(number >= 0 && is_card(data + at, name));
    }
}

static tf_scan_result scan(const uint8_t *data, size_t n, int primary, tf_header *h)
{
    static arena place;
    /* nothing behind the last byte may be looked at, wherever the header begins */
    const guarded copy = guard(&place, n, 0, 1);
    if (n > 0)
        memcpy(copy.start, data, n);
    const tf_scan_result result = tf_scan_header(copy.start, n, primary, h);
    CHECK(n == 0 || memcmp(copy.start, data, n) == 0);
    return result;
}

/* Of these bytes followed by others, an answer stays what it is unless it was that there are too few. */
static void check_longer(const uint8_t *data, size_t n, int primary, tf_scan_result result, const tf_header *h)
{
    const size_t more = 4 * TF_CARD + n % 7;
    uint8_t *longer = malloc(n + more);
    tf_header again;
    CHECK(longer);
    if (n > 0)
        memcpy(longer, data, n);
    for (size_t i = 0; i < more; i++)
        longer[n + i] = (uint8_t)scramble(n + i);
    if (n >= 2 * TF_CARD)
        memcpy(longer + n, data + TF_CARD, TF_CARD); /* a second card of the same keyword */
    if (result != TF_SCAN_MORE)
        CHECK(scan(longer, n + more, primary, &again) == result);
    if (result == TF_SCAN_OK)
        CHECK(memcmp(&again, h, sizeof again) == 0);
    free(longer);
}

static void check_header(const uint8_t *data, size_t n, int primary)
{
    tf_header h, again;
    memset(&h, 0x55, sizeof h);
    const tf_scan_result result = scan(data, n, primary, &h);
    CHECK(result == TF_SCAN_OK || result == TF_SCAN_MORE || result == TF_SCAN_ODD);
    CHECK(scan(data, n, primary, &again) == result);
    check_longer(data, n, primary, result, &h);
    if (result == TF_SCAN_MORE)
        CHECK(n < TF_CARD || end_of(data, n) == n);
    if (result != TF_SCAN_OK)
        return;
    CHECK(memcmp(&again, &h, sizeof h) == 0);

    const size_t end = end_of(data, n);
    CHECK(end < n);
    CHECK(h.header_bytes % TF_BLOCK == 0);
    CHECK(h.header_bytes >= (int64_t)end + TF_CARD && h.header_bytes - TF_BLOCK < (int64_t)end + TF_CARD);
    check_sizes(data, end, primary, &h);
    check_description(data, end, &h);

    /* as soon as END is there, and not before */
    CHECK(scan(data, end + TF_CARD, primary, &again) == TF_SCAN_OK);
    CHECK(memcmp(&again, &h, sizeof h) == 0);
    CHECK(scan(data, end + TF_CARD - 1, primary, &again) == TF_SCAN_MORE);
    CHECK(scan(data, (size_t)scramble(n) % end, primary, &again) == TF_SCAN_MORE);
}

static void check_bytes(const uint8_t *data, size_t n)
{
    check_header(data, n, 1);
    check_header(data, n, 0);
    check_finds(data, n);
    check_table_keywords(data, n);
}

/* The bytes as they are; then every line of them as a card, which a change reaches more easily. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    input in = {data, size};
    text cards = {0};
    check_bytes(data, size);
    while (put_card(&cards, &in))
        ;
    check_bytes(cards.bytes, cards.size);
    free(cards.bytes);
    return 0;
}
