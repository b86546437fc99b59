/* Rows of a table, block by block: to the columns of tensors, or past a filter. */
#ifndef TF_ROWS_H
#define TF_ROWS_H

#include <stdint.h>

#include "filter.h"
#include "reader.h"

/* Where the rows of a table are, and which of them are asked for: `count` from `first` by `step`, or of `list`. */
typedef struct {
    int64_t start, row_bytes; /* of row 0 in the source; rows are not empty */
    int64_t first, step, count;
    const int64_t *list; /* NULL, or any rows in any order */
} tf_rows;

typedef enum {
    TF_NUMBERS,
    TF_LOGICALS, /* T is true, and the 1 of careless writers */
    TF_BITS,     /* the most significant one first (FITS standard 4.0, section 7.3.3) */
} tf_cell_kind;

/* n logicals from their letters; n bits from bit `first` of some bytes. `to` may be the place of the letters, and its end
 * that of the bits. */
void tf_logicals(uint8_t *to, const uint8_t *letters, int64_t n);
void tf_bits(uint8_t *to, const uint8_t *bits, int64_t first, int64_t n);

/* A field of the rows, and the column that it becomes. */
typedef struct {
    tf_cell_kind kind;
    int64_t offset, count;    /* the first byte in the row; how many elements */
    int first_bit;            /* of TF_BITS: of that byte */
    tf_conversion conversion; /* of TF_NUMBERS */
    uint8_t *to;              /* row after row */
    uint8_t *nulls;           /* unless NULL: 1 for each element that is `null` as stored, else 0 */
    int64_t null;
} tf_field;

/* Bytes of the field in a row, and in the column. */
int64_t tf_field_width(const tf_field *field);
int64_t tf_column_width(const tf_field *field);

/* The fields of one row, which is in memory, to row `place` of their columns. */
void tf_put_row(const uint8_t *row, const tf_field *fields, int count, int64_t place);

/* The fields of the asked rows to their columns, in the order in which the rows are asked for. */
tf_outcome tf_read_rows(const tf_source *source, const tf_rows *rows, const tf_field *fields, int count, int threads);

/* Bytes [low, low + width) of rows that pass a filter, taken while the filter has them in the cache. */
typedef struct {
    int64_t low, width;
    uint8_t *bytes; /* of `room` rows, as threads find them; `used` are taken */
    int64_t room, used;
    int64_t *order;    /* `count` of these, one after the other as the rows are asked for */
    int64_t count;
    int64_t looked_at; /* so many of the asked rows had room for all that pass */
} tf_collection;

/* keep[i] = 1 for each of the asked rows that passes, else 0. The fields are what the filter takes; their `to` is not
 * used, and `nulls` only tells whether they have any. Adds to `passed` how many pass. What is in the collection, unless
 * it is NULL, stays there; it takes a range of rows, with at most TF_GAP bytes from one to the next. */
tf_outcome tf_select_rows(const tf_source *source, const tf_rows *rows, const tf_field *fields, int count,
                          const tf_filter *filter, uint8_t *keep, int64_t *passed, tf_collection *collection,
                          int threads);
/* The numbers, counted from 0, of those of n rows that pass, `most` of them at most; how many there are of these. */
int64_t tf_passed_rows(const uint8_t *keep, int64_t n, int64_t most, int64_t *passed);

#endif
