/* Files from HDU to HDU by their headers: an image of one, or the same image or keywords of each of thousands. */
#ifndef TF_FILES_H
#define TF_FILES_H

#include "header_scan.h"
#include "local_file.h"
#include "rows.h"
#include "section.h"

/* The last bytes read of a file whose headers are looked at. */
typedef struct {
    int fd;
    uint8_t *bytes;
    size_t capacity, have;
    int64_t at; /* -1: nothing */
    tf_identity identity;
} tf_head;

#define TF_NO_HEAD ((tf_head){.fd = -1, .at = -1})

typedef enum {
    TF_AT_HDU,
    TF_AT_ODD,     /* a header that is not ordinary, or no header */
    TF_AT_END,     /* no byte follows */
    TF_AT_TROUBLE, /* the system refused: errno */
} tf_place;

/* what is read at first: most headers, and what an empty primary HDU stands before */
#define TF_FIRST_READ ((size_t)2 * TF_BLOCK)

/* Makes bytes [start, start + ask) be in `head`, as far as the file has them. 0, or -1 with errno. */
int tf_head_fetch(tf_head *head, int64_t start, size_t ask);
/* Scans the header at `start`; `ask` bytes are read at first, where they are not there yet. */
tf_place tf_scan_at(tf_head *head, int64_t start, int primary, size_t ask, tf_header *header);
/* The bytes of the header that was scanned last, good until the next scan. */
const uint8_t *tf_head_bytes(const tf_head *head, int64_t start);
void tf_head_free(tf_head *head);

/* Which HDU: by index, or the first with a name in capitals (and a version), or with data. */
typedef struct {
    int64_t index;    /* -1: another way */
    const char *name; /* NULL: with data */
    int name_length;
    int any_version;
    int64_t version;
} tf_which;

int tf_is_named(const tf_header *header, const tf_which *which);

typedef enum {
    TF_NOT_DONE,
    TF_FILE_DONE,
    TF_FILE_CHANGED, /* while it was read: to try again would hide that */
} tf_done;

/* The same HDU of many files; what cannot be done here stays undone, and somebody else finds out why. */
typedef struct {
    int64_t count;
    const char *const *paths;
    tf_which which;
    uint8_t *done; /* one a file, of tf_done */
} tf_files;

typedef struct {
    int bitpix, naxis;
    const int64_t *axes; /* what the images must be like, in FITS order */
    tf_type values;
    int any_values;     /* whatever their scaling makes of them is converted */
    tf_type wanted;
    tf_section section; /* `start` counts from the start of the data */
    uint8_t *to;        /* one section after the other */
} tf_stack;

/* Plain images into one array. */
void tf_read_stack(const tf_files *files, const tf_stack *stack, int threads);

/* An image of a file that is opened for nothing else. */
typedef struct {
    tf_head head;
    tf_header header;
    tf_conversion conversion; /* to what the pixels stand for */
    int64_t start;            /* of the pixels */
} tf_alone;

/* 0, or -1, and nothing is open, where there is no plain image of less than TF_SMALL_JOB bytes. */
int tf_open_alone(tf_alone *alone, const char *path, const tf_which *which);
void tf_close_alone(tf_alone *alone);
/* All its pixels to `to`; then it is closed. */
tf_done tf_read_alone(tf_alone *alone, void *to);

/* Rows of tables that are laid out as one that is known. */
typedef struct {
    const uint8_t *header; /* of that table */
    size_t header_bytes;
    int64_t row_bytes;
    int fields;
    const tf_field *field;
    const int64_t *first;  /* of each file, where in `rows` and `places` its own begin; one more at the end */
    const int64_t *rows;   /* counted from the end where negative */
    const int64_t *places; /* which place of the tensors a row goes to */
} tf_gathering;

/* The fields of some rows of the same table HDU of many files. */
void tf_gather_rows(const tf_files *files, const tf_gathering *gathering, int threads);

/* The first card of each of `keywords` (8 bytes each) into `cards`, 80 bytes a keyword and file; a first byte of 0
 * where the header has none. */
void tf_read_cards(const tf_files *files, int keywords, const uint8_t *names, uint8_t *cards, int threads);

#endif
