/* Rooms of memory.h taken and given back in any order: none overlaps another, none is wasted. */
#include <string.h>

#include "_native/memory.h"
#include "common.h"

#define MOST 64

typedef struct {
    tf_room room;
    size_t size;
    uint64_t stamp;
} taken;

/* Where a stamp is put: at both ends and in the middle. */
static uint8_t *place(const taken *t, int i)
{
    return (uint8_t *)t->room.start + (i == 0 ? 0 : i == 1 ? t->size / 2 : t->size - sizeof t->stamp);
}

static void give(taken *t)
{
    for (int i = 0; i < 3; i++)
        CHECK(memcmp(place(t, i), &t->stamp, sizeof t->stamp) == 0);
    tf_memory_give(t->room);
    t->room.start = NULL;
}

static void get(taken *t, input *in, uint64_t stamp)
{
    static const size_t round[] = {(size_t)128 << 10, (size_t)256 << 10, (size_t)1 << 20, (size_t)2 << 20, (size_t)5 << 20};
    t->size = take_within(in, 0, 1) ? round[take_within(in, 0, 4)] + (size_t)take_within(in, 0, 3)
                                    : round[0] + (size_t)take_within(in, 0, 12 << 20);
    t->room = tf_memory_take(t->size);
    t->stamp = scramble(stamp);
    CHECK(t->room.start && t->room.size >= t->size);
    /* an eighth, or what is left of a huge page */
    CHECK(t->room.size - t->size <= t->room.size / 8 || t->room.size - t->size < (size_t)2 << 20);
    CHECK(t->size >= (size_t)2 << 20 || (t->room.size - t->size) * 8 <= t->room.size);
    for (int i = 0; i < 3; i++)
        memcpy(place(t, i), &t->stamp, sizeof t->stamp);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    taken all[MOST] = {0};
    input in = {data, size};
    for (uint64_t n = 0; in.left > 0; n++) {
        taken *t = &all[take_within(&in, 0, MOST - 1)];
        if (t->room.start)
            give(t);
        else
            get(t, &in, n);
        if (take_within(&in, 0, 255) == 0)
            tf_memory_clear();
        CHECK(tf_memory_kept() <= (size_t)1 << 30);
    }
    for (int i = 0; i < MOST; i++)
        if (all[i].room.start)
            give(&all[i]);
    tf_memory_clear();
    CHECK(tf_memory_kept() == 0);
    return 0;
}
