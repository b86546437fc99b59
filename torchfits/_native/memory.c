#define _GNU_SOURCE
#include "memory.h"

#include <stdint.h>
#include <stdlib.h>
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

static void *take_large(size_t room)
{
    for (int i = count - 1; i >= 0; i--)
        if (kept[i].room == room)
            return remove_kept(i).start;
    void *start = map(room);
    if (!start && count > 0) {
        /* what lies idle here may be what is missing */
        tf_memory_clear();
        start = map(room);
    }
    return start;
}

static void give_large(void *start, size_t room)
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

/* ---------------------------------------------------------------------------- slabs */

#define SLAB ((size_t)8 << 20)
/* sizes are rounded up to eighths of a power of two, from 2^16 to 2^21 */
#define LOWEST_POWER 16
#define SIZES (5 * 8)

struct tf_slab {
    struct tf_slab *previous, *next; /* among those of its size with a free place */
    uint8_t *start;
    uint64_t all, free; /* a bit a place */
    int of;             /* which size */
};

static struct tf_slab *with_places[SIZES];

/* The size that serves `size`, and its number. */
static size_t round_up(size_t size, int *number)
{
    int power = LOWEST_POWER;
    while ((size - 1) >> (power + 1) > 0)
        power++;
    const size_t eighths = ((size - 1) >> (power - 3)) + 1; /* 9 to 16 */
    *number = 8 * (power - LOWEST_POWER) + (int)eighths - 9;
    return eighths << (power - 3);
}

static void link_slab(struct tf_slab *slab)
{
    slab->previous = NULL;
    slab->next = with_places[slab->of];
    if (slab->next)
        slab->next->previous = slab;
    with_places[slab->of] = slab;
}

static void unlink_slab(struct tf_slab *slab)
{
    if (slab->previous)
        slab->previous->next = slab->next;
    else
        with_places[slab->of] = slab->next;
    if (slab->next)
        slab->next->previous = slab->previous;
}

static struct tf_slab *new_slab(int of, size_t size)
{
    struct tf_slab *slab = malloc(sizeof *slab);
    uint8_t *start = slab ? take_large(SLAB) : NULL;
    if (!start) {
        free(slab);
        return NULL;
    }
    slab->start = start;
    slab->of = of;
    slab->all = slab->free = ~(uint64_t)0 >> (64 - SLAB / size);
    link_slab(slab);
    return slab;
}

static tf_room take_place(size_t size)
{
    int of;
    const size_t place = round_up(size, &of);
    struct tf_slab *slab = with_places[of] ? with_places[of] : new_slab(of, place);
    if (!slab)
        return (tf_room){NULL, 0, NULL};
    const int i = __builtin_ctzll(slab->free);
    slab->free &= slab->free - 1;
    if (slab->free == 0)
        unlink_slab(slab);
    return (tf_room){slab->start + (size_t)i * place, place, slab};
}

static void give_place(tf_room room)
{
    struct tf_slab *slab = room.slab;
    if (slab->free == 0)
        link_slab(slab);
    slab->free |= (uint64_t)1 << ((size_t)((uint8_t *)room.start - slab->start) / room.size);
    if (slab->free == slab->all) {
        unlink_slab(slab);
        give_large(slab->start, SLAB);
        free(slab);
    }
}

/* ---------------------------------------------------------------------------- what others call */

tf_room tf_memory_take(size_t size)
{
    if (size < HUGE)
        return take_place(size);
    if (size > SIZE_MAX - 2 * HUGE)
        return (tf_room){NULL, 0, NULL};
    const size_t room = (size + HUGE - 1) / HUGE * HUGE;
    return (tf_room){take_large(room), room, NULL};
}

void tf_memory_give(tf_room room)
{
    if (room.slab)
        give_place(room);
    else
        give_large(room.start, room.size);
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
