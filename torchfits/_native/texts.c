#include "texts.h"

#include <string.h>

/* Bytes of the text in a field. */
static inline size_t length_of(const uint8_t *field, size_t size)
{
    const uint8_t *nul = size ? memchr(field, 0, size) : NULL;
    if (nul)
        size = (size_t)(nul - field);
    while (size && field[size - 1] == ' ')
        size--;
    return size;
}

static inline int is_ascii(const uint8_t *text, size_t size)
{
    uint8_t any = 0;
    for (size_t k = 0; k < size; k++)
        any |= text[k];
    return any < 0x80;
}

int64_t tf_pack_texts(const tf_texts *texts, int64_t *offsets, uint8_t *to)
{
    int64_t bad = -1;
    size_t at = 0;
    for (int64_t i = 0; i < texts->count; i++) {
        const int64_t start = texts->ends ? texts->ends[i] : i * texts->width;
        const int64_t size = texts->ends ? texts->ends[i + 1] - start : texts->width;
        const uint8_t *field = texts->from + start;
        const size_t length = length_of(field, (size_t)size);
        if (bad < 0 && !is_ascii(field, length))
            bad = i;
        offsets[i] = (int64_t)at;
        if (length > 0)
            memmove(to + at, field, length); /* never behind what is still to be read */
        at += length;
    }
    offsets[texts->count] = (int64_t)at;
    return bad;
}

void tf_end_texts(uint8_t *fields, int64_t width, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        uint8_t *field = fields + i * width;
        const size_t length = length_of(field, (size_t)width);
        memset(field + length, 0, (size_t)width - length);
    }
}
