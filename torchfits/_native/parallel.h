/* Threads for one large job: started when it begins, gone when it returns, so that a fork finds none. */
#ifndef TF_PARALLEL_H
#define TF_PARALLEL_H

#include <stdint.h>

/* Pieces of a job, handed out one by one. */
typedef struct {
    int64_t next, count;
} tf_pieces;

/* The next piece, or -1 when there is none. */
int64_t tf_next_piece(tf_pieces *pieces);
/* Hands out no more. */
void tf_stop_pieces(tf_pieces *pieces);

/* Calls work(job) in up to `threads` threads, the caller's among them; fewer where no more can be started. */
void tf_parallel(void (*work)(void *job), void *job, int threads);

#endif
