/* A large member of a gzip file, inflated by several threads. Each but the first finds a block to begin at, not knowing
 * the 32 KiB before it; what it made is put right when these are known. The idea is that of pugz (Kerbiriou and Chikhi,
 * 2019, https://doi.org/10.1109/IPDPSW.2019.00042). */
#ifndef TF_GZIP_PARTS_H
#define TF_GZIP_PARTS_H

#include <stddef.h>
#include <stdint.h>

#include "stream.h"

#define TF_GZIP_THREADS 16

/* How the work is shared out. */
typedef struct {
    int threads;
    size_t part;  /* bytes of the stream for a thread at a time */
    size_t units; /* room for what they make, in units of 2 bytes; what is more is left to the first thread */
} tf_sharing;

/* That for a file which makes about so much; no threads where it had better be inflated by one. */
tf_sharing tf_share_gzip(size_t size, size_t makes, int threads);
/* The bytes of memory that are worked in. */
size_t tf_sharing_scratch(const tf_sharing *sharing);

/* The first member of `file`, which makes `room` bytes at most; TF_INFLATE_SLACK more may be written to. In how many turns
 * of all threads, how many bytes of the file it has and how many it makes. 0 where at first no part comes to where the next
 * one begins; -1 where the member is damaged, makes more, or has a check sum of its header. Then *taken and *made stay as
 * they are. */
int tf_inflate_gzip_in_parts(tf_stream file, const tf_sharing *sharing, void *scratch, uint8_t *to, size_t room,
                             size_t *taken, size_t *made);

#endif
