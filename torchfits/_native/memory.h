/* Memory for tensors, kept for the next one: the first touch of fresh pages costs more than the reading.
 *
 * Large rooms begin at a huge page; of what is kept, all but the newest quarter the system may take back when it is
 * short of memory. Smaller ones share a slab of 8 MiB, which is a large room itself. Calls must not overlap.
 */
#ifndef TF_MEMORY_H
#define TF_MEMORY_H

#include <stddef.h>

/* Smaller ones are better had from malloc; and all of them where the sanitizer shall see where each ends. */
#if defined(__SANITIZE_ADDRESS__)
#define TF_ROOM_FROM ((size_t)-1)
#else
#define TF_ROOM_FROM ((size_t)128 << 10)
#endif

typedef struct {
    void *start; /* NULL where there is no memory */
    size_t size;
    struct tf_slab *slab; /* NULL for a large one */
} tf_room;

/* At least `size` bytes (from TF_ROOM_FROM), of any content. */
tf_room tf_memory_take(size_t size);
void tf_memory_give(tf_room room);
/* Returns all that is kept to the system. */
void tf_memory_clear(void);
size_t tf_memory_kept(void);

#endif
