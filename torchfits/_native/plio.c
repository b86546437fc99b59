#include "plio.h"

#include <string.h>

#define PIXEL_MAX 0xffffff
#define RUN_MAX 4095 /* of pixels, and of the steps of the value, in one word */
#define HEADER_WORDS 7
#define NEW_HEADER 0xff9c /* -100 */
#define LENGTH_MAX 0x3fffffff

static const char *const cut = "ends before its pixels do";
static const char *const foreign = "has a code that no encoder writes";

/* What a word says, in its upper four bits; the other twelve are a count, or a part of the value. */
enum { ZEROS, SET_VALUE, RAISE, LOWER, VALUES, ZEROS_AND_VALUE, RAISE_AND_PUT, LOWER_AND_PUT };

static uint32_t word_at(const uint8_t *stream, size_t i)
{
    return (uint32_t)stream[2 * i] << 8 | stream[2 * i + 1];
}

/* Where the instructions begin and end, in words. The old header has its length in the third word, where the new one
 * has a negative number. */
static const char *read_header(const uint8_t *stream, size_t words, size_t *first, size_t *end)
{
    static const char *const bad = "has no valid header";
    if (words < 3)
        return cut;
    if (word_at(stream, 2) - 1 < 0x7fff) {
        *end = word_at(stream, 2);
        *first = 3;
    } else {
        if (words < 5)
            return cut;
        if ((word_at(stream, 3) | word_at(stream, 4)) > 0x7fff)
            return bad;
        *end = (size_t)word_at(stream, 4) << 15 | word_at(stream, 3);
        *first = word_at(stream, 1);
        if (*first < 5 || *first > *end || *first > 0x7fff)
            return bad;
    }
    return *end > words ? cut : NULL;
}

/* n numbers that are the same. */
static inline void put_run(tf_type type, void *to, size_t at, size_t n, uint32_t number)
{
    uint8_t *bytes = to;
    uint16_t *halves = to;
    uint32_t *words = to;
    if (type == TF_U8) {
        memset(bytes + at, (int)number, n);
    } else if (type == TF_I16) {
        for (size_t i = 0; i < n; i++)
            halves[at + i] = (uint16_t)number;
    } else {
        for (size_t i = 0; i < n; i++)
            words[at + i] = number;
    }
}

/* Whether a number, which has come round at 32 bits, is one of the type. */
static inline int is_within(tf_type type, uint32_t number)
{
    return type == TF_U8 ? number <= UINT8_MAX : type == TF_I16 ? number + 0x8000 <= UINT16_MAX : 1;
}

/* Inlined once for each type. */
static inline __attribute__((always_inline)) const char *decode(const uint8_t *stream, size_t size, const tf_type type,
                                                                uint32_t zero, void *to, size_t n)
{
    size_t i, end, at = 0;
    uint32_t value = 1;
    const char *wrong = read_header(stream, size / 2, &i, &end);
    if (wrong)
        return wrong;

    while (i < end && at < n) {
        const uint32_t word = word_at(stream, i++), code = word >> 12, count = word & RUN_MAX;
        if (code == SET_VALUE) {
            if (i == end || word_at(stream, i) > 0x7fff)
                return i == end ? cut : foreign;
            value = word_at(stream, i++) << 12 | count;
            continue;
        }
        if (code == RAISE || code == RAISE_AND_PUT)
            value += count;
        else if (code == LOWER || code == LOWER_AND_PUT)
            value -= count;
        if (code == RAISE || code == LOWER)
            continue;
        if (code > LOWER_AND_PUT)
            return foreign;

        const size_t run = code >= RAISE_AND_PUT ? 1 : count;
        const size_t zeros = code == ZEROS ? run : code == ZEROS_AND_VALUE && run > 0 ? run - 1 : 0;
        if (run > n - at)
            return "holds more pixels than its tile";
        if (zeros < run && !is_within(type, value - zero))
            return "has numbers beyond its ZBITPIX";
        put_run(type, to, at, zeros, -zero);
        put_run(type, to, at + zeros, run - zeros, value - zero);
        at += run;
    }
    put_run(type, to, at, n - at, -zero);
    return NULL;
}

const char *tf_plio_decode(const uint8_t *stream, size_t size, tf_type type, int32_t zero, void *to, size_t n)
{
    switch (type) {
    case TF_U8:
        return decode(stream, size, TF_U8, (uint32_t)zero, to, n);
    case TF_I16:
        return decode(stream, size, TF_I16, (uint32_t)zero, to, n);
    default:
        return decode(stream, size, TF_I32, (uint32_t)zero, to, n);
    }
}

/* ---------------------------------------------------------------------------- encoding */

size_t tf_plio_room(size_t n)
{
    /* a pixel takes three words at most: two that set the value, one that puts it */
    return 2 * (HEADER_WORDS + 3 * n);
}

typedef struct {
    uint8_t *at, *end;
    uint32_t value;
} list;

static int put(list *to, uint32_t code, uint32_t count)
{
    const uint32_t word = code << 12 | count;
    if (to->end - to->at < 2)
        return -1;
    *to->at++ = (uint8_t)(word >> 8);
    *to->at++ = (uint8_t)word;
    return 0;
}

/* The value of the pixels to come, where it is another one than before; *put_one says that the word puts one, too. */
static int put_value(list *to, uint32_t value, int alone, int *put_one)
{
    const uint32_t last = to->value, step = value > last ? value - last : last - value;
    to->value = value;
    *put_one = 0;
    if (step == 0)
        return 0;
    if (step > RUN_MAX)
        return put(to, SET_VALUE, value & RUN_MAX) != 0 ? -1 : put(to, 0, value >> 12);
    *put_one = alone;
    if (value > last)
        return put(to, alone ? RAISE_AND_PUT : RAISE, step);
    return put(to, alone ? LOWER_AND_PUT : LOWER, step);
}

/* `zeros` pixels of 0, then `count` of the value. */
static int put_runs(list *to, size_t zeros, size_t count, uint32_t value)
{
    int put_one;
    if (count > 0 && put_value(to, value, zeros == 0 && count == 1, &put_one) != 0)
        return -1;
    if (count > 0 && put_one)
        return 0;
    for (; zeros > RUN_MAX; zeros -= RUN_MAX)
        if (put(to, ZEROS, RUN_MAX) != 0)
            return -1;
    /* the last zeros take a single pixel with them; with 4095 of them cfitsio does so, too, and overflows into the
     * code */
    if (count == 1 && zeros > 0 && zeros < RUN_MAX)
        return put(to, ZEROS_AND_VALUE, (uint32_t)zeros + 1);
    if (zeros > 0 && put(to, ZEROS, (uint32_t)zeros) != 0)
        return -1;
    for (; count > RUN_MAX; count -= RUN_MAX)
        if (put(to, VALUES, RUN_MAX) != 0)
            return -1;
    return count > 0 ? put(to, VALUES, (uint32_t)count) : 0;
}

int64_t tf_plio_encode(const int32_t *pixels, size_t n, uint8_t *to, size_t room)
{
    list words = {to, to + room, 1};
    if (n == 0)
        return 0;
    if (room < 2 * HEADER_WORDS)
        return -1;
    words.at += 2 * HEADER_WORDS;
    for (size_t at = 0; at < n;) {
        const size_t start = at;
        while (at < n && pixels[at] == 0)
            at++;
        const size_t first = at;
        while (at < n && pixels[at] == pixels[first])
            at++;
        const uint32_t value = first < n ? (uint32_t)pixels[first] : 0;
        if (value > PIXEL_MAX || put_runs(&words, first - start, at - first, value) != 0)
            return -1;
    }

    const int64_t bytes = words.at - to, length = bytes / 2;
    if (length > LENGTH_MAX)
        return -1;
    list header = {to, words.at, 0};
    const uint32_t low = (uint32_t)length & 0x7fff, high = (uint32_t)length >> 15;
    const uint32_t fields[HEADER_WORDS] = {0, HEADER_WORDS, NEW_HEADER, low, high};
    for (int i = 0; i < HEADER_WORDS; i++)
        put(&header, 0, fields[i]);
    return bytes;
}
