/* Memory for large tensors, kept for the next one: the first touch of fresh pages costs more than the reading.
 *
 * Blocks begin at a huge page. Of what is kept, all but the newest quarter the system may take back when it is short
 * of memory. Calls must not overlap.
 */
#ifndef TF_MEMORY_H
#define TF_MEMORY_H

#include <stddef.h>

/* Smaller pieces are better had from malloc; and all of them where the sanitizer shall see where each ends. */
#if defined(__SANITIZE_ADDRESS__)
#define TF_BLOCK_FROM ((size_t)-1)
#else
#define TF_BLOCK_FROM ((size_t)2 << 20)
#endif

/* At least `size` bytes, of any content; NULL where there is no memory. `room` says how many there are. */
void *tf_memory_take(size_t size, size_t *room);
/* Gives a block back, with the `room` that it came with. */
void tf_memory_give(void *start, size_t room);
/* Returns all that is kept to the system. */
void tf_memory_clear(void);
size_t tf_memory_kept(void);

#endif
