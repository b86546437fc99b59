#define _GNU_SOURCE
#include "local_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#if defined(__linux__)
#include <sys/vfs.h>
#else
#include <sys/mount.h>
#include <sys/param.h>
#endif

#define HUGE_FROM ((size_t)2 << 20)
#define HUGE_MOST ((size_t)32 << 20)

int tf_open(const char *path)
{
    /* without O_NONBLOCK the open of a FIFO would wait for a writer */
    return open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
}

int tf_identify(int fd, tf_identity *identity, tf_file_kind *kind)
{
    struct stat info;
    if (fstat(fd, &info) != 0)
        return -1;
#if defined(__APPLE__)
    const struct timespec mtime = info.st_mtimespec;
#else
    const struct timespec mtime = info.st_mtim;
#endif
    identity->device = (int64_t)info.st_dev;
    identity->inode = (int64_t)info.st_ino;
    identity->size = (int64_t)info.st_size;
    identity->links = (int64_t)info.st_nlink;
    identity->mtime_ns = (int64_t)mtime.tv_sec * 1000000000 + mtime.tv_nsec;
    *kind = S_ISREG(info.st_mode) ? TF_REGULAR : S_ISDIR(info.st_mode) ? TF_DIRECTORY : TF_SPECIAL;
    return 0;
}

tf_change tf_change_of(int fd, const tf_identity *identity)
{
    tf_identity now;
    tf_file_kind kind;
    if (tf_identify(fd, &now, &kind) != 0 || now.size != identity->size || now.mtime_ns != identity->mtime_ns)
        return TF_CHANGED;
    /* another file: somebody closed a descriptor that was not theirs */
    if (now.inode != identity->inode || now.device != identity->device)
        return TF_CHANGED;
    return now.links == 0 && identity->links > 0 ? TF_REMOVED : TF_UNCHANGED;
}

/* A server may take a network's file away, or be slow page by page. */
static int is_local(int fd)
{
#if defined(__linux__)
    static const unsigned long local[] = {
        0xef53 /* ext2, 3, 4 */,     0x58465342 /* xfs */,      0x9123683e /* btrfs */,   0x01021994 /* tmpfs */,
        0x858458f6 /* ramfs */,      0x2fc12fc1 /* zfs */,      0xf2f52010 /* f2fs */,    0x794c7630 /* overlayfs */,
        0xca451a4e /* bcachefs */,   0x73717368 /* squashfs */, 0xe0f5e1e2 /* erofs */,   0x3153464a /* jfs */,
        0x52654973 /* reiserfs */,   0x3434 /* nilfs */,        0x4d44 /* fat */,         0x2011bab0 /* exfat */,
    };
    struct statfs info;
    if (fstatfs(fd, &info) != 0)
        return 0;
    for (size_t i = 0; i < sizeof local / sizeof *local; i++)
        if ((unsigned long)(uint32_t)info.f_type == local[i])
            return 1;
    return 0;
#elif defined(MNT_LOCAL)
    struct statfs info;
    return fstatfs(fd, &info) == 0 && (info.f_flags & MNT_LOCAL);
#else
    (void)fd;
    return 0;
#endif
}

const uint8_t *tf_map(int fd, int64_t size)
{
    if (size <= 0 || (uint64_t)size > SIZE_MAX || !is_local(fd))
        return NULL;
    void *mapping = mmap(NULL, (size_t)size, PROT_READ, MAP_SHARED, fd, 0);
    if (mapping == MAP_FAILED)
        return NULL;
    /* a fault shall read the page it needs, not a megabyte around it; what is needed soon is announced */
    madvise(mapping, (size_t)size, MADV_RANDOM);
    return mapping;
}

int tf_tells_residence(int fd)
{
    struct stat info;
    return fstat(fd, &info) == 0 && info.st_uid == geteuid();
}

void tf_unmap(const uint8_t *mapping, int64_t size)
{
    if (mapping)
        munmap((void *)mapping, (size_t)size);
}

/* The size of a huge page, 0 where there are none or they are too large to be spent on one tensor. */
static size_t huge_page(void)
{
    static size_t known = 1;
    size_t size = __atomic_load_n(&known, __ATOMIC_RELAXED);
    if (size == 1) {
        unsigned long found = 0;
        FILE *file = fopen("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size", "re");
        if (file) {
            if (fscanf(file, "%lu", &found) != 1)
                found = 0;
            fclose(file);
        }
        size = found > HUGE_MOST || (found & (found - 1)) ? 0 : found;
        __atomic_store_n(&known, size, __ATOMIC_RELAXED);
    }
    return size;
}

void tf_advise_huge(void *memory, size_t size)
{
#if defined(MADV_HUGEPAGE)
    const size_t page = size < HUGE_FROM ? 0 : huge_page();
    if (page > 1) {
        const uintptr_t first = ((uintptr_t)memory + page - 1) / page * page;
        const uintptr_t last = ((uintptr_t)memory + size) / page * page;
        const int error = errno;
        if (first < last)
            madvise((void *)first, last - first, MADV_HUGEPAGE);
        errno = error;
    }
#else
    (void)memory;
    (void)size;
    (void)huge_page;
#endif
}

int tf_processor_quota(void)
{
    long long quota = 0, period = 0;
    FILE *file = fopen("/sys/fs/cgroup/cpu.max", "re");
    if (file) { /* version 2; "max" where there is no limit */
        if (fscanf(file, "%lld %lld", &quota, &period) != 2)
            quota = 0;
        fclose(file);
    } else if ((file = fopen("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "re")) != NULL) {
        if (fscanf(file, "%lld", &quota) != 1)
            quota = 0;
        fclose(file);
        file = fopen("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "re");
        if (file) {
            if (fscanf(file, "%lld", &period) != 1)
                period = 0;
            fclose(file);
        }
    }
    return quota > 0 && period > 0 ? (int)((quota + period - 1) / period) : 0;
}

void tf_reserve(int fd, int64_t start, int64_t size)
{
#if defined(__linux__)
    /* unlike posix_fallocate this writes no zeros where the file system has no such thing */
    if (size > 0 && fallocate(fd, 0, start, size) != 0)
        errno = 0;
#else
    (void)fd, (void)start, (void)size;
#endif
}
