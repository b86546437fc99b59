/* Guards for tile-compressed streams (FITS standard 4.0, section 10.4).
 *
 * cfitsio's decoders trust their input. Each function here walks one tile's stream without making
 * pixels and says whether decoding it would stay inside its bytes and fill exactly its tile. What
 * stands after the last byte that is needed is ignored, as the decoders do.
 *
 * Pure functions: no allocation, no state, no errno. The time is linear in in_n + npix (HCOMPRESS_1:
 * times its number of bit planes, 63 at most).
 */
#ifndef TORCHFITS_TILE_CHECK_H
#define TORCHFITS_TILE_CHECK_H

#include <stddef.h>
#include <stdint.h>

enum tf_reason {
    TF_OK = 0,
    TF_EMPTY,         /* no bytes at all */
    TF_TRUNCATED,     /* decoding would read past the end */
    TF_OVERRUN,       /* more pixels than the tile has */
    TF_WRONG_SIZE,    /* pixels of another tile shape or width */
    TF_BAD_HEADER,    /* the stream's own header is nonsense */
    TF_BAD_CODE,      /* a code that no encoder writes */
    TF_BAD_PARAMETER, /* block size, bytes per pixel or tile size out of range */
    TF_REASONS
};

/* What a reason means, as the end of a sentence that begins with 'the compressed tile '. */
const char *tf_check_reason(int reason);

/* RICE_1: npix pixels of bytepix (1, 2 or 4) bytes, in blocks of blocksize. */
int tf_check_rice(const uint8_t *in, size_t in_n, size_t npix, int blocksize, int bytepix);

/* HCOMPRESS_1: a tile of nx by ny pixels, in either order. Images of bytepix 1 and 2 are decoded in
 * 32 bits, wider ones in 64. scratch has tf_hcompress_scratch(nx, ny) bytes of any content. */
int tf_check_hcompress(const uint8_t *in, size_t in_n, size_t nx, size_t ny, int bytepix, uint8_t *scratch);
size_t tf_hcompress_scratch(size_t nx, size_t ny);

/* PLIO_1: a line list of big-endian 16-bit words. */
int tf_check_plio(const uint8_t *be_in, size_t in_n, size_t npix);

#endif
