/* The structural keywords of an ordinary header, found without looking at the rest (FITS standard 4.0, section 4.4).
 *
 * Ordinary means that there is one way to read it: every keyword that matters stands once, in capitals, with a value of
 * its type. Anything else is left to the parser in Python, which knows what to say about it.
 */
#ifndef TF_HEADER_SCAN_H
#define TF_HEADER_SCAN_H

#include <stddef.h>
#include <stdint.h>

#define TF_CARD 80
#define TF_BLOCK 2880
#define TF_SCAN_AXES 16
#define TF_NAME_MAX 68

typedef enum {
    TF_SCAN_OK,
    TF_SCAN_MORE, /* no END in these bytes */
    TF_SCAN_ODD   /* not ordinary */
} tf_scan_result;

typedef enum { TF_HDU_IMAGE, TF_HDU_BINTABLE, TF_HDU_TABLE, TF_HDU_GROUPS, TF_HDU_FOREIGN } tf_hdu_kind;

typedef struct {
    tf_hdu_kind kind;
    int bitpix, naxis;
    int64_t axes[TF_SCAN_AXES]; /* in FITS order, as NAXISn says */
    int64_t pcount, gcount;     /* 0 and 1 where they do not count */
    double scale, zero;
    int has_blank;
    int64_t blank;
    int compressed; /* ZIMAGE = T */
    int orderly;    /* the mandatory keywords stand in their order, from the first card on */
    int64_t version;
    int name_length;
    char name[TF_NAME_MAX];
    int64_t header_bytes, data_bytes; /* whole blocks; without padding */
} tf_header;

/* Scans the header at `data`, of which n bytes are there; `primary` where it must begin with SIMPLE. */
tf_scan_result tf_scan_header(const uint8_t *data, size_t n, int primary, tf_header *header);

/* The first card of a keyword (8 bytes, blank-padded) in a header of `bytes` bytes up to END, or NULL. */
const uint8_t *tf_find_card(const uint8_t *header, size_t bytes, const uint8_t keyword[8]);

/* The keywords of a table: those of columns, NAXIS, which may have a number, and those that have none. */
typedef enum {
    TF_TTYPE,
    TF_TFORM,
    TF_TBCOL,
    TF_TUNIT,
    TF_TSCAL,
    TF_TZERO,
    TF_TNULL,
    TF_TDIM,
    TF_NAXIS,
    TF_BITPIX,
    TF_PCOUNT,
    TF_GCOUNT,
    TF_TFIELDS,
    TF_THEAP,
    TF_TABLE_KEYWORDS,
    TF_NO_TABLE_KEYWORD = -1,
    TF_ODD_CARD = -2
} tf_table_keyword;

/* Their names, without the number. */
const char *tf_table_keyword_name(tf_table_keyword keyword);

/* Which of them a card of 80 bytes begins with, and its number, 0 where it has none.
 *
 * TF_ODD_CARD where only the parser in Python can tell: of anything that cfitsio might take for one of them, and of what
 * belongs to compressed images and tables. */
tf_table_keyword tf_table_keyword_of(const uint8_t *card, int *number);

#endif
