/* A mapped file that shrinks answers reads with SIGBUS. Inside a guard that becomes a return value. */
#ifndef TF_GUARD_H
#define TF_GUARD_H

#include <stddef.h>

/* Makes ours the handler of SIGBUS, also where another was installed since; that one is passed on to from then on.
 * 0, or -1 with errno. Calls must not overlap. */
int tf_guard_install(void);

/* Calls work(job). 0, or -1 where a SIGBUS from [start, start + length) ended it; `work` must own nothing then.
 * Every other SIGBUS goes where it went before. */
int tf_guarded(void (*work)(void *job), void *job, const void *start, size_t length);

#endif
