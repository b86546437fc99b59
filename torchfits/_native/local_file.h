/* One regular file: opening, knowing it again, mapping it where that is safe and fast. */
#ifndef TF_LOCAL_FILE_H
#define TF_LOCAL_FILE_H

#include <stddef.h>
#include <stdint.h>

/* What says that a file is still the same. */
typedef struct {
    int64_t device, inode, size, mtime_ns;
    int64_t links; /* names it has; 0 once it was removed or replaced */
} tf_identity;

typedef enum { TF_REGULAR, TF_DIRECTORY, TF_SPECIAL } tf_file_kind;

/* A descriptor, without waiting where the path is no regular file; -1 with errno. */
int tf_open(const char *path);

/* 0, or -1 with errno. */
int tf_identify(int fd, tf_identity *identity, tf_file_kind *kind);

typedef enum { TF_UNCHANGED, TF_CHANGED, TF_REMOVED } tf_change;
tf_change tf_change_of(int fd, const tf_identity *identity);

/* The whole file mapped for reading; NULL where it lies on a network, or where the system will not. */
const uint8_t *tf_map(int fd, int64_t size);
void tf_unmap(const uint8_t *mapping, int64_t size);

/* Whether the system tells this process which pages of the file are in memory: Linux tells nobody but the owner, and
 * who may write to it, and says to others that all are. */
int tf_tells_residence(int fd);

/* Asks for huge pages in memory that will be filled; a hint. */
void tf_advise_huge(void *memory, size_t size);

/* Asks for the room of bytes that will be written; a hint. Where it is there, a file that takes the place of another is
 * not waited for. */
void tf_reserve(int fd, int64_t start, int64_t size);

/* What the control group of this process lets it use of the processors, rounded up; 0 where it sets no limit. */
int tf_processor_quota(void);

#endif
