#define _GNU_SOURCE
#include "parallel.h"

#include <pthread.h>
#include <signal.h>

#define MOST_THREADS 64

int64_t tf_next_piece(tf_pieces *pieces)
{
    const int64_t i = __atomic_fetch_add(&pieces->next, 1, __ATOMIC_RELAXED);
    return i < pieces->count ? i : -1;
}

void tf_stop_pieces(tf_pieces *pieces)
{
    /* far below the overflow, whatever the number of threads that still ask */
    __atomic_store_n(&pieces->next, INT64_MAX / 2, __ATOMIC_RELAXED);
}

typedef struct {
    void (*work)(void *job);
    void *job;
} task;

static void *run(void *argument)
{
    const task *t = argument;
    t->work(t->job);
    return NULL;
}

void tf_parallel(void (*work)(void *job), void *job, int threads)
{
    pthread_t started[MOST_THREADS];
    task t = {work, job};
    int n = 0;

    if (threads > 1) {
        /* signals go to the threads of the interpreter; faults stay with the thread that makes them */
        sigset_t all, before;
        sigfillset(&all);
        sigdelset(&all, SIGBUS);
        sigdelset(&all, SIGSEGV);
        sigdelset(&all, SIGFPE);
        sigdelset(&all, SIGILL);
        sigdelset(&all, SIGABRT);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        while (n < threads - 1 && n < MOST_THREADS && pthread_create(&started[n], NULL, run, &t) == 0)
            n++;
        pthread_sigmask(SIG_SETMASK, &before, NULL);
    }
    work(job);
    while (n > 0)
        pthread_join(started[--n], NULL);
}
