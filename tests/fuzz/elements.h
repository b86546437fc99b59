/* Elements of columns: numbers, logicals and bits, the slow way. */
#ifndef ELEMENTS_H
#define ELEMENTS_H

#include "_native/rows.h"
#include "common.h"

/* What an element is; its bytes as stored (of a bit, none) and as wanted. */
typedef struct {
    tf_cell_kind kind;
    meaning meaning;
    tf_conversion conversion;
    int64_t width, wanted;
} element;

element number(meaning m);
/* Any of them, from the input. */
element take_element(input *in);
/* Bytes of n elements from bit `first` of a byte on. */
int64_t stored_bytes(const element *e, int64_t n, int first);
/* Element i of those that begin at a bit of a byte. */
void slow_element(const element *e, uint8_t *to, const uint8_t *from, int64_t i, int first);

/* Where elements go, and what is expected there. */
typedef struct {
    element element;
    guarded to, nulls;
    uint8_t *expected;
    uint8_t *expected_nulls; /* NULL where they are not asked for */
    int64_t elements;
} column;

typedef struct {
    arena to, nulls;
} column_place;

/* Room for so many elements, `skip` pages from the start of its place. */
void make_column(column *c, column_place *place, int64_t elements, int has_nulls, size_t skip, int at_end);
void free_column(column *c);
void mark_column(const column *c);
/* The marks; where reading is `done`, what was expected too. */
void check_column(const column *c, int done);

/* Words of the input, each many times and not in their order. */
void write_words(input *in, uint8_t *to, int64_t size);
/* One of six letters. */
uint8_t letter_at(const char *letters, int64_t i);
/* those of logicals */
#define LOGICAL_LETTERS "TF\0\1Tt"

#endif
