/* What a target reads from a file, in every way there is to read it. */
#ifndef READING_H
#define READING_H

#include "_native/reader.h"
#include "common.h"

/* bytes from which on threads have something to share, which is slow */
#define LARGE ((int64_t)5 << 18)

/* The file, and how the target reads it; the functions are given `job`. */
typedef struct {
    const uint8_t *bytes;
    int64_t size;
    int64_t start;     /* of the data */
    int64_t last_byte; /* the file is needed as far as here */
    int is_large;      /* one variant is enough */
    int may_be_warm;   /* the mapping */
    void *job;
    /* to a destination that is marked before */
    tf_outcome (*read)(void *job, const tf_source *source, int threads);
    /* the marks; where reading is done, that the slow way reads the same */
    void (*check)(const void *job, int done);
    /* what else can be done with a source; or NULL */
    void (*also)(void *job, const tf_source *source);
} reading;

/* Reads from a descriptor, from mappings and from memory, by the portable variant and the fastest, by one to three
 * threads. Then the file is cut short, where `cut` says, 0 to 4: whoever needs what is gone must hear so. */
void check_reading(const reading *r, int64_t cut);

#endif
