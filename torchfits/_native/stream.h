#ifndef TF_STREAM_H
#define TF_STREAM_H

#include <stddef.h>
#include <stdint.h>

/* The bytes that a compressed tile is. Nothing is known of what lies around them. */
typedef struct {
    const uint8_t *bytes;
    size_t size;
} tf_stream;

#endif
