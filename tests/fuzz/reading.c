#define _GNU_SOURCE
#include "reading.h"

#include <sys/mman.h>
#include <unistd.h>

#include "_native/guard.h"
#include "_native/least.h"
#include "_native/local_file.h"

static void check_read(const reading *r, const tf_source *source, int threads)
{
    CHECK(r->read(r->job, source, threads).what == TF_DONE);
    r->check(r->job, 1);
}

/* The file is `there` bytes long, and everybody was told that it is longer. */
static void check_cut(const reading *r, const tf_source *source, int64_t there, int threads)
{
    /* the rest of a mapped page reads as zeros, which is why identities are compared after a read */
    const int64_t readable = (there + (int64_t)PAGE - 1) / (int64_t)PAGE * (int64_t)PAGE;
    const tf_outcome outcome = r->read(r->job, source, threads);
    if (r->last_byte <= there)
        CHECK(outcome.what == TF_DONE);
    else if (!source->mapped || r->last_byte > readable)
        CHECK(outcome.what == TF_ENDS && outcome.offset >= -1 && outcome.offset <= r->size);
    else
        CHECK(outcome.what == TF_ENDS || outcome.what == TF_DONE);
    r->check(r->job, r->last_byte <= there);
}

static int64_t where_to_cut(const reading *r, int64_t cut)
{
    switch (cut) {
    case 0:
        return 0;
    case 1:
        return least(r->start, r->size);
    case 2:
        return r->last_byte > 0 ? r->last_byte - 1 : 0;
    default:
        return (int64_t)(scramble((uint64_t)(r->size + cut)) % (uint64_t)(r->size + 1));
    }
}

void check_reading(const reading *r, int64_t cut)
{
    static arena place;
    const int fd = file_of(r->bytes, r->size);
    const guarded mapping = guard(&place, (size_t)r->size, 0, 0);
    CHECK(r->last_byte <= r->size);
    if (r->size > 0)
        CHECK(mmap(mapping.start, (size_t)r->size, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0) == mapping.start);
    CHECK(tf_guard_install() == 0);
    const tf_source sources[] = {{-1, r->bytes, r->size, 0, 0},
                                 {fd, NULL, r->size, 0, 0},
                                 {fd, mapping.start, r->size, 1, 0},
                                 {fd, mapping.start, r->size, 1, 1}};
    const int count = r->may_be_warm ? 4 : 3;

    const char *const variants[] = {"portable", tf_variant_name(0)};
    const int only = (int)(scramble((uint64_t)r->size) % 2);
    for (int i = 0; i < 2; i++) {
        if (r->is_large && i != only)
            continue;
        CHECK(tf_use_variant(variants[i]) == 0);
        for (int k = 0; k < count; k++) {
            for (int threads = 1; threads <= 3; threads++)
                check_read(r, &sources[k], threads);
            if (r->also)
                r->also(r->job, &sources[k]);
        }
    }

    tf_identity identity;
    tf_file_kind kind;
    CHECK(tf_identify(fd, &identity, &kind) == 0 && kind == TF_REGULAR && identity.size == r->size);
    CHECK(tf_change_of(fd, &identity) == TF_UNCHANGED);
    const int64_t there = where_to_cut(r, cut);
    CHECK(ftruncate(fd, there) == 0);
    CHECK(there == r->size || tf_change_of(fd, &identity) == TF_CHANGED);
    for (int k = 1; k < count; k++)
        for (int threads = 1; threads <= 3; threads += 2)
            check_cut(r, &sources[k], there, threads);

    /* nothing of the file stays in the arena */
    if (r->size > 0)
        CHECK(mmap(mapping.pages, mapping.bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED,
                   -1, 0) == mapping.pages);
    close(fd);
}
