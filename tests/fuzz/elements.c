#include "elements.h"

#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------------------- one element */

element number(meaning m)
{
    const tf_conversion c = conversion_for(&m);
    return (element){TF_NUMBERS, m, c, (int64_t)tf_width(c.stored), (int64_t)tf_width(m.wanted)};
}

element take_element(input *in)
{
    const int64_t kind = take_within(in, 0, 3);
    if (kind < 2)
        return number(take_meaning(in));
    return (element){.kind = kind == 2 ? TF_LOGICALS : TF_BITS, .width = kind == 2, .wanted = 1};
}

int64_t stored_bytes(const element *e, int64_t n, int first)
{
    return e->kind == TF_BITS ? (first + n + 7) / 8 : n * e->width;
}

void slow_element(const element *e, uint8_t *to, const uint8_t *from, int64_t i, int first)
{
    switch (e->kind) {
    case TF_NUMBERS:
        slow_convert(&e->meaning, to, from + i * e->width);
        break;
    case TF_LOGICALS:
        *to = from[i] == 'T' || from[i] == 1;
        break;
    case TF_BITS:
        *to = (from[(first + i) / 8] & 0x80 >> (first + i) % 8) != 0;
    }
}

/* ---------------------------------------------------------------------------- a column of them */

void make_column(column *c, column_place *place, int64_t elements, int has_nulls, size_t skip, int at_end)
{
    c->elements = elements;
    c->to = guard(&place->to, (size_t)(elements * c->element.wanted), skip, at_end);
    c->expected = malloc((size_t)(elements * c->element.wanted) + 1);
    CHECK(c->expected);
    if (has_nulls) {
        c->nulls = guard(&place->nulls, (size_t)elements, skip, at_end);
        c->expected_nulls = malloc((size_t)elements + 1);
        CHECK(c->expected_nulls);
    }
}

void free_column(column *c)
{
    free(c->expected);
    free(c->expected_nulls);
}

void mark_column(const column *c)
{
    mark(&c->to);
    if (c->expected_nulls)
        mark(&c->nulls);
}

void check_column(const column *c, int done)
{
    check_marks(&c->to);
    if (c->expected_nulls)
        check_marks(&c->nulls);
    if (!done)
        return;
    if (c->element.kind == TF_NUMBERS)
        CHECK(same_elements(&c->element.meaning, c->to.start, c->expected, (size_t)c->elements));
    else
        CHECK(memcmp(c->to.start, c->expected, (size_t)c->elements) == 0);
    if (c->expected_nulls)
        CHECK(memcmp(c->nulls.start, c->expected_nulls, (size_t)c->elements) == 0);
}

/* ---------------------------------------------------------------------------- what a file holds of them */

void write_words(input *in, uint8_t *to, int64_t size)
{
    const size_t words = in->left / 8;
    const uint64_t seed = words > 0 ? 0 : take(in, 8);
    for (int64_t i = 0; i < size; i++) {
        const uint64_t chance = scramble((uint64_t)i / 8 + seed);
        to[i] = words > 0 ? in->at[chance % words * 8 + (uint64_t)i % 8] : (uint8_t)(chance >> 8 * (i % 8));
        if (chance >> 60 == 0)
            to[i] = (uint8_t)(scramble(chance + (uint64_t)i % 8) % 3);
    }
}

uint8_t letter_at(const char *letters, int64_t i)
{
    return (uint8_t)letters[scramble((uint64_t)i) % 6];
}
