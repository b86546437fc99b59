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

/* How deep the handler is that passes a signal on, and how often it came deeper: a handler that was installed after
 * ours and passes on to us in turn would go round for ever. One that leaves by a jump never comes back to say so. */
static THREAD_LOCAL uintptr_t passing_from;
static THREAD_LOCAL int rounds;
#define MOST_ROUNDS 64

static struct sigaction before;

static void on_fault(int number, siginfo_t *info, void *context)
{
    const uintptr_t where = (uintptr_t)info->si_addr;
    guard *g = innermost;
    /* a SIGBUS that someone sent has no address */
    if (g && info->si_code > 0 && where >= g->start && where < g->end)
        siglongjmp(g->back, 1);
    const uintptr_t here = (uintptr_t)&g, outer = passing_from;
    const int outer_rounds = rounds;
    rounds = outer != 0 && here < outer ? rounds + 1 : 0;
    const int again = rounds > 0 && (info->si_code <= 0 || rounds > MOST_ROUNDS);
    passing_from = here;
    if (!again && (before.sa_flags & SA_SIGINFO) && before.sa_sigaction) {
        before.sa_sigaction(number, info, context);
    } else if (!again && !(before.sa_flags & SA_SIGINFO) && before.sa_handler != SIG_DFL &&
               before.sa_handler != SIG_IGN) {
        before.sa_handler(number);
    } else if (again || before.sa_handler != SIG_IGN || info->si_code > 0) {
        /* nobody else: let the system end the process */
        struct sigaction standard;
        memset(&standard, 0, sizeof standard);
        standard.sa_handler = SIG_DFL;
        sigaction(number, &standard, NULL);
        if (info->si_code <= 0)
            raise(number);
    }
    passing_from = outer;
    rounds = outer_rounds;
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
    sigset_t fault, mask;
    int jumped;
    /* a fault that is blocked ends the process */
    sigemptyset(&fault);
    sigaddset(&fault, SIGBUS);
    pthread_sigmask(SIG_UNBLOCK, &fault, &mask);
    g.start = (uintptr_t)start;
    g.end = g.start + length;
    g.outer = innermost;
    jumped = sigsetjmp(g.back, 0);
    if (!jumped) {
        innermost = &g;
        work(job);
    }
    innermost = g.outer;
    pthread_sigmask(SIG_SETMASK, &mask, NULL);
    return jumped ? -1 : 0;
}
