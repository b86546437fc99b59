#define _GNU_SOURCE
#include "memory.h"

#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "local_file.h"

#define HUGE ((size_t)2 << 20)
/* what is kept at most, unless an eighth of the machine's memory is less */
#define MOST_KEPT ((size_t)1 << 30)
#define MOST_BLOCKS ((int)(MOST_KEPT / HUGE))
/* of that, the part kept last is not offered to the system: to fill it again would cost as much as fresh memory */
#define HOT_PART 4

typedef struct {
    void *start;
    size_t room;
    int offered; /* the system may take it back */
} kept_block;

/* in the order in which they came */
static kept_block kept[MOST_BLOCKS];
static int count;
static size_t kept_bytes;

static size_t most_kept(void)
{
    static size_t most;
    if (most == 0) {
        const size_t eighth = (size_t)sysconf(_SC_PHYS_PAGES) / 8 * (size_t)sysconf(_SC_PAGESIZE);
        most = eighth < MOST_KEPT ? eighth : MOST_KEPT;
    }
    return most;
}

/* Takes block i out of the list. */
static kept_block remove_kept(int i)
{
    const kept_block block = kept[i];
    memmove(&kept[i], &kept[i + 1], (size_t)(--count - i) * sizeof *kept);
    kept_bytes -= block.room;
    return block;
}

static void *map(size_t room)
{
    /* a mapping begins anywhere: one huge page more, and the edges given back */
    uint8_t *start = mmap(NULL, room + HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (start == MAP_FAILED)
        return NULL;
    const size_t before = (HUGE - (uintptr_t)start % HUGE) % HUGE;
    if (before > 0)
        munmap(start, before);
    munmap(start + before + room, HUGE - before);
    tf_advise_huge(start + before, room);
    return start + before;
}

void *tf_memory_take(size_t size, size_t *room)
{
    if (size > SIZE_MAX - 2 * HUGE)
        return NULL;
    *room = (size + HUGE - 1) / HUGE * HUGE;
    for (int i = count - 1; i >= 0; i--)
        if (kept[i].room == *room)
            return remove_kept(i).start;
    void *start = map(*room);
    if (!start && count > 0) {
        /* what lies idle here may be what is missing */
        tf_memory_clear();
        start = map(*room);
    }
    return start;
}

void tf_memory_give(void *start, size_t room)
{
    if (room > most_kept()) {
        munmap(start, room);
        return;
    }
    while (count == MOST_BLOCKS || kept_bytes + room > most_kept()) {
        const kept_block old = remove_kept(0);
        munmap(old.start, old.room);
    }
    kept[count++] = (kept_block){start, room, 0};
    kept_bytes += room;
#if defined(MADV_FREE)
    size_t newer = 0;
    for (int i = count - 1; i >= 0 && !kept[i].offered; i--) {
        newer += kept[i].room;
        if (newer > most_kept() / HOT_PART) {
            madvise(kept[i].start, kept[i].room, MADV_FREE);
            kept[i].offered = 1;
        }
    }
#endif
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
    return kept_bytes;
}
