/* What the fuzz targets share: the input as numbers, memory between guard pages, and pixels the slow way. */
#ifndef COMMON_H
#define COMMON_H

#include <stddef.h>
#include <stdint.h>

#include "_native/pixels.h"

/* Ends the process, which is how a fuzzer hears of a wrong answer. */
#define CHECK(condition)                                                                                              \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            failed(__FILE__, __LINE__, #condition);                                                                    \
    } while (0)
void failed(const char *file, int line, const char *condition);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* ---------------------------------------------------------------------------- the input */

/* Bytes that become parameters, one after the other; zeros when they are used up. */
typedef struct {
    const uint8_t *at;
    size_t left;
} input;

uint64_t take(input *in, int bytes);
/* One of low..high. */
int64_t take_within(input *in, int64_t low, int64_t high);

/* A number that looks random and is always the same. */
uint64_t scramble(uint64_t n);

/* A growing array of bytes. */
typedef struct {
    uint8_t *bytes;
    size_t size, room;
} text;

void put(text *to, const void *bytes, size_t n);
void put_blanks(text *to, size_t n);

/* The next line of the input becomes a card; after END, blanks to the end of the block. 0 when there is no line. */
int put_card(text *to, input *in);

/* ---------------------------------------------------------------------------- guarded memory */

/* Memory with an inaccessible page on either side. It touches one of the two; the other side holds marks. */
typedef struct {
    uint8_t *start;
    size_t size;
    uint8_t *pages; /* what is accessible */
    size_t bytes;
} guarded;

/* One place for such memory, made at its first use. It begins at a multiple of 2 MiB, so that what depends on
 * addresses is the same in every run. */
typedef struct {
    uint8_t *start;
    size_t size;
} arena;

#define PAGE ((size_t)4096)

/* `size` bytes, `skip` pages from the start of the arena, ending at the page behind or beginning at the one before. */
guarded guard(arena *place, size_t size, size_t skip, int at_end);
/* Marks every byte; then, that none but [start, start + size) was written. */
void mark(const guarded *memory);
void check_marks(const guarded *memory);

/* A file in memory that holds these bytes. */
int file_of(const uint8_t *bytes, int64_t size);

/* ---------------------------------------------------------------------------- pixels, the slow way */

/* What the keywords say of the pixels, and what is wanted. */
typedef struct {
    int bitpix;
    double scale, zero;
    int has_blank;
    int64_t blank;
    tf_type wanted;
} meaning;

/* Any of them, from the input. */
meaning take_meaning(input *in);

int is_real_type(tf_type type);
/* The type of the values, where nothing else is wanted. */
tf_type natural_type(const meaning *m);
/* The conversion for it, compared with natural_type. */
tf_conversion conversion_for(const meaning *m);

/* One pixel. */
void slow_convert(const meaning *m, void *to, const uint8_t *be_from);
/* Whether n elements are what slow_convert gave; of NaNs that were computed the bits may differ. */
int same_elements(const meaning *m, const void *found, const void *expected, size_t n);

/* ---------------------------------------------------------------------------- gzip */

/* A gzip stream with this inside, and how many bytes it has, at most 18 more; its check sum is that of what zlib makes. */
size_t wrap_in_gzip(const uint8_t *inside, size_t size, uint8_t *stream);

#endif
