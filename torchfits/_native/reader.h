/* Spans of big-endian pixels from a file, a mapping or memory, converted into memory of the caller. */
#ifndef TF_READER_H
#define TF_READER_H

#include <stdint.h>

#include "parallel.h"
#include "pixels.h"

/* Where the bytes are. */
typedef struct {
    int fd;               /* -1 where they are in memory only */
    const uint8_t *bytes; /* memory, a mapping, or NULL */
    int64_t size;         /* how many there are; nothing beyond is asked for */
    int mapped;           /* `bytes` is a mapping, whose file may shrink */
    int warm;             /* all that is wanted of the mapping is in memory: nothing is faster than to take it there */
} tf_source;

typedef enum {
    TF_DONE = 0,
    TF_SYSTEM, /* the system refused: `error` is its errno */
    TF_ENDS,   /* the file ends at or after `offset`, too early */
    TF_MEMORY  /* no memory for a buffer */
} tf_trouble;

typedef struct {
    tf_trouble what;
    int error;
    int64_t offset;
} tf_outcome;

/* Exactly n bytes from `offset`. 0, or -1 with the reason in `outcome`. */
int tf_pread(int fd, void *to, size_t n, int64_t offset, tf_outcome *outcome);

/* Bytes that one pread takes at most, and bytes between two spans that are rather read than skipped. */
#define TF_BUFFER (1 << 19)
#define TF_GAP 4096

/* Bytes of a range that is better taken from a warm mapping: fewer are not worth its guard, and the pages of more would
 * count as too much of this process's memory. */
#define TF_WARM_LEAST ((int64_t)1 << 16)
#define TF_WARM_MOST ((int64_t)1 << 21)

/* Bytes of a job that is worth a second thread. */
#define TF_SMALL_JOB ((int64_t)1 << 20)

typedef struct {
    uint8_t *to;
    int64_t offset, stride, count;
} tf_span;

#define TF_SPANS 512

/* Gathers spans that lie close together, so that one pread serves many. One per thread. */
typedef struct {
    const tf_source *source;
    const tf_conversion *conversion;
    uint8_t *buffer; /* TF_BUFFER bytes once they are needed: neither for memory nor for a mapping. Freed by the owner */
    int64_t low, high;
    int waiting;
    tf_span spans[TF_SPANS];
    void *scratch; /* of the work, which may end anywhere and own nothing. Freed by the owner */
    tf_outcome outcome;
} tf_reader;

void tf_reader_begin(tf_reader *reader, const tf_source *source, const tf_conversion *conversion);

/* `count` pixels, `stride` bytes apart, from `offset`, to `to`; maybe not before tf_read_waiting. 0 or -1. */
int tf_read_span(tf_reader *reader, void *to, int64_t offset, int64_t stride, int64_t count);
int tf_read_waiting(tf_reader *reader);

/* Runs `work` for every piece, in up to `threads` threads, with a reader each. The first trouble ends all. */
typedef void (*tf_piece_work)(tf_reader *reader, const void *job, int64_t piece);
tf_outcome tf_read_pieces(const tf_source *source, const tf_conversion *conversion, tf_piece_work work,
                          const void *job, int64_t pieces, int threads);

/* Of a mapping: whether the page at `offset` has yet to come from the disk; ask for a range before it is touched. */
int tf_is_cold(const tf_source *source, int64_t offset);
/* Whether all of a range of at most TF_WARM_MOST bytes is in memory. */
int tf_is_resident(const tf_source *source, int64_t offset, int64_t length);
void tf_announce(const tf_source *source, int64_t offset, int64_t length);

#endif
