#define _GNU_SOURCE
#include "memory.h"

#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#include "local_file.h"

#define HUGE ((size_t)2 << 20)
#define SMALL_STEP ((size_t)1 << 16)
/* what is kept at most: of large blocks, unless an eighth of the memory is less; of small ones */
#define LARGE_KEPT ((size_t)1 << 30)
#define SMALL_KEPT ((size_t)64 << 20)
#define MOST_BLOCKS 1024

typedef struct {
    void *start;
    size_t room;
    uint64_t since;
} kept_block;

static kept_block kept[MOST_BLOCKS];
static int count;
static size_t small_bytes, large_bytes;
static uint64_t clock_ticks;

static size_t *bytes_of(size_t room)
{
    return room < HUGE ? &small_bytes : &large_bytes;
}

static size_t most_bytes_of(size_t room)
{
    static size_t large;
    if (room < HUGE)
        return SMALL_KEPT;
    if (large == 0) {
        const size_t eighth = (size_t)sysconf(_SC_PHYS_PAGES) / 8 * (size_t)sysconf(_SC_PAGESIZE);
        large = eighth < LARGE_KEPT ? eighth : LARGE_KEPT;
    }
    return large;
}

/* Takes block i out of the list. */
static kept_block remove_kept(int i)
{
    const kept_block block = kept[i];
    kept[i] = kept[--count];
    *bytes_of(block.room) -= block.room;
    return block;
}

static void *map(size_t room)
{
    /* a mapping begins anywhere: one huge page more, and the edges given back */
    const size_t extra = room < HUGE ? 0 : HUGE;
    uint8_t *start = mmap(NULL, room + extra, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (start == MAP_FAILED)
        return NULL;
    if (extra) {
        const size_t before = (HUGE - (uintptr_t)start % HUGE) % HUGE;
        if (before > 0)
            munmap(start, before);
        if (extra > before)
            munmap(start + before + room, extra - before);
        start += before;
        tf_advise_huge(start, room);
    }
    return start;
}

void *tf_memory_take(size_t size, size_t *room)
{
    const size_t step = size < HUGE ? SMALL_STEP : HUGE;
    int newest = -1;
    if (size > SIZE_MAX - 2 * HUGE)
        return NULL;
    *room = (size + step - 1) / step * step;
    for (int i = 0; i < count; i++)
        if (kept[i].room == *room && (newest < 0 || kept[i].since > kept[newest].since))
            newest = i;
    return newest < 0 ? map(*room) : remove_kept(newest).start;
}

void tf_memory_give(void *start, size_t room)
{
    if (room > most_bytes_of(room)) {
        munmap(start, room);
        return;
    }
    while (count == MOST_BLOCKS || *bytes_of(room) + room > most_bytes_of(room)) {
        /* the one of its kind that lay about longest; of any kind where the list is full */
        int oldest = -1;
        for (int i = 0; i < count; i++)
            if ((count == MOST_BLOCKS || (kept[i].room < HUGE) == (room < HUGE)) &&
                (oldest < 0 || kept[i].since < kept[oldest].since))
                oldest = i;
        const kept_block old = remove_kept(oldest);
        munmap(old.start, old.room);
    }
#if defined(MADV_FREE)
    if (room >= HUGE)
        madvise(start, room, MADV_FREE);
#endif
    kept[count++] = (kept_block){start, room, ++clock_ticks};
    *bytes_of(room) += room;
}

void tf_memory_clear(void)
{
    while (count > 0) {
        const kept_block old = remove_kept(count - 1);
        munmap(old.start, old.room);
    }
}

size_t tf_memory_kept(void)
{
    return small_bytes + large_bytes;
}
