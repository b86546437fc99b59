#define _GNU_SOURCE
#include "guard.h"

#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>

#if defined(__linux__)
/* the handler may run in a thread that never was here; its variables must exist without an allocation */
#define THREAD_LOCAL __thread __attribute__((tls_model("initial-exec")))
#else
#define THREAD_LOCAL __thread
#endif

typedef struct guard {
    uintptr_t start, end;
    sigjmp_buf back;
    struct guard *outer;
} guard;

static THREAD_LOCAL guard *volatile innermost;
static THREAD_LOCAL volatile sig_atomic_t passing_on;

static struct sigaction before;

static void on_fault(int number, siginfo_t *info, void *context)
{
    const uintptr_t where = (uintptr_t)info->si_addr;
    guard *g = innermost;
    /* a SIGBUS that someone sent has no address */
    if (g && info->si_code > 0 && where >= g->start && where < g->end)
        siglongjmp(g->back, 1);
    if (!passing_on && (before.sa_flags & SA_SIGINFO) && before.sa_sigaction) {
        passing_on = 1;
        before.sa_sigaction(number, info, context);
        passing_on = 0;
    } else if (!passing_on && !(before.sa_flags & SA_SIGINFO) && before.sa_handler != SIG_DFL &&
               before.sa_handler != SIG_IGN) {
        passing_on = 1;
        before.sa_handler(number);
        passing_on = 0;
    } else if ((before.sa_flags & SA_SIGINFO) || before.sa_handler != SIG_IGN || info->si_code > 0) {
        /* nobody else, or a handler that came back to us: let the system end the process */
        struct sigaction standard;
        memset(&standard, 0, sizeof standard);
        standard.sa_handler = SIG_DFL;
        sigaction(number, &standard, NULL);
        if (info->si_code <= 0)
            raise(number);
    }
}

int tf_guard_install(void)
{
    struct sigaction now, ours;
    if (sigaction(SIGBUS, NULL, &now) != 0)
        return -1;
    if ((now.sa_flags & SA_SIGINFO) && now.sa_sigaction == on_fault)
        return 0;
    memset(&ours, 0, sizeof ours);
    ours.sa_sigaction = on_fault;
    sigemptyset(&ours.sa_mask);
    /* not blocked while it is handled: the jump leaves the mask as it is */
    ours.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK;
    before = now;
    return sigaction(SIGBUS, &ours, NULL);
}

int tf_guarded(void (*work)(void *job), void *job, const void *start, size_t length)
{
    guard g;
    g.start = (uintptr_t)start;
    g.end = g.start + length;
    g.outer = innermost;
    if (sigsetjmp(g.back, 0) != 0) {
        innermost = g.outer;
        return -1;
    }
    innermost = &g;
    work(job);
    innermost = g.outer;
    return 0;
}
