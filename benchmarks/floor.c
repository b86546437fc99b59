/* The floor of the race: a file's numbers read and byte-swapped, with nothing else done.

       floor fresh|reused THREADS

   fresh: into memory never touched before, huge pages asked for; reused: into the memory of the run before.
   The lines understood are 'prepare WIDTH OFFSET BYTES PATH' and 'run TIMES'; BYTES is a multiple of 8. */

#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define HUGE (2L << 20)    /* what one thread takes: so one thread alone faults a huge page */
#define CHUNK (512L << 10) /* read and swapped while it is in the cache */

static char path[4096];
static long width, offset, bytes;
static int fd;
static char *memory;
static atomic_long next_piece;

static void swap(void *data, long size)
{
    if (width == 2)
        for (uint16_t *p = data, *end = p + size / 2; p < end; p++)
            *p = __builtin_bswap16(*p);
    else if (width == 4)
        for (uint32_t *p = data, *end = p + size / 4; p < end; p++)
            *p = __builtin_bswap32(*p);
    else
        for (uint64_t *p = data, *end = p + size / 8; p < end; p++)
            *p = __builtin_bswap64(*p);
}

static void *work(void *unused)
{
    long start;
    while ((start = HUGE * atomic_fetch_add(&next_piece, 1)) < bytes) {
        long stop = start + HUGE < bytes ? start + HUGE : bytes;
        for (long at = start; at < stop; at += CHUNK) {
            long size = at + CHUNK < stop ? CHUNK : stop - at;
            if (pread(fd, memory + at, size, offset + at) != size) {
                perror("floor: pread");
                exit(1);
            }
            swap(memory + at, size);
        }
    }
    return unused;
}

static char *fresh(void)
{
    char *start = mmap(NULL, bytes + HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (start == MAP_FAILED) {
        perror("floor: mmap");
        exit(1);
    }
#ifdef MADV_HUGEPAGE
    madvise(start, bytes + HUGE, MADV_HUGEPAGE);
#endif
    return start;
}

static char *aligned(char *start)
{
    return (char *)(((uintptr_t)start + HUGE - 1) / HUGE * HUGE);
}

static void read_all(int threads)
{
    pthread_t others[64];
    if ((fd = open(path, O_RDONLY)) < 0) {
        perror("floor: open");
        exit(1);
    }
    atomic_store(&next_piece, 0);
    for (int i = 1; i < threads; i++)
        if (pthread_create(&others[i], NULL, work, NULL))
            exit(1);
    work(NULL);
    for (int i = 1; i < threads; i++)
        pthread_join(others[i], NULL);
    close(fd);
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + 1e-9 * now.tv_nsec;
}

int main(int argc, char **argv)
{
    char line[8192], *kept = NULL;
    int reused = argc > 2 && !strcmp(argv[1], "reused"), threads = argc > 2 ? atoi(argv[2]) : 0, times;
    if (threads < 1 || threads > 64)
        return 2;
    setvbuf(stdout, NULL, _IOLBF, 0);
    puts("{\"library\": \"floor\"}");
    while (fgets(line, sizeof line, stdin)) {
        if (sscanf(line, "run %d", &times) == 1) {
            printf("{\"seconds\": [");
            for (int i = 0; i < times; i++) {
                double start = seconds();
                char *block = reused ? kept : fresh();
                memory = aligned(block);
                read_all(threads);
                printf("%s%.9f", i ? ", " : "", seconds() - start);
                if (!reused)
                    munmap(block, bytes + HUGE);
            }
            puts("]}");
        } else {
            if (kept)
                munmap(kept, bytes + HUGE);
            if (sscanf(line, "prepare %ld %ld %ld %4095[^\n]", &width, &offset, &bytes, path) != 4)
                return 2;
            kept = fresh();
            memory = aligned(kept);
            double took = seconds();
            read_all(threads);
            took = seconds() - took;
            uint64_t sum = 0;
            for (uint64_t *p = (uint64_t *)memory, *end = p + bytes / 8; p < end; p++)
                sum += *p;
            printf("{\"seconds\": %.9f, \"digest\": \"%llu\"}\n", took, (unsigned long long)sum);
        }
    }
    return 0;
}
