# cython: language_level=3
"""Our C kernels, and what of the system goes with them: externs only."""

from cpython.ref cimport PyObject
from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t

cdef extern from "_native/pixels.h" nogil:
    ctypedef enum tf_type:
        TF_BOOL
        TF_U8
        TF_I8
        TF_U16
        TF_I16
        TF_U32
        TF_I32
        TF_U64
        TF_I64
        TF_F16
        TF_BF16
        TF_F32
        TF_F64
        TF_TYPES
    ctypedef struct tf_conversion:
        tf_type stored
        tf_type values
        tf_type wanted
        int scaled
        int has_blank
    size_t tf_width(tf_type type)
    void tf_convert(const tf_conversion *c, void *to, const void *be_from, size_t stride, size_t n)
    int tf_conversion_of(tf_conversion *c, int bitpix, double scale, double zero, int has_blank,
                         int64_t blank)
    void tf_cast(tf_type to_type, void *to, tf_type from_type, const void *from_, size_t n)
    void tf_fill(void *to, const void *element, size_t width, size_t n)
    const char *tf_variant_name(int i)
    int tf_use_variant(const char *name)

cdef extern from "_native/reader.h" nogil:
    ctypedef struct tf_source:
        int fd
        const uint8_t *bytes
        int64_t size
        int mapped
        int warm
    int64_t TF_SMALL_JOB
    enum:
        TF_WARM_LEAST
        TF_WARM_MOST
    int tf_is_resident(const tf_source *source, int64_t offset, int64_t length)
    ctypedef enum tf_trouble:
        TF_DONE
        TF_SYSTEM
        TF_ENDS
        TF_MEMORY
    ctypedef struct tf_outcome:
        tf_trouble what
        int error
        int64_t offset
    int tf_pread(int fd, void *to, size_t n, int64_t offset, tf_outcome *outcome)

cdef extern from "_native/section.h" nogil:
    enum:
        TF_SECTION_AXES
    ctypedef struct tf_section:
        pass
    void tf_section_begin(tf_section *section, int64_t start, int64_t width)
    int tf_section_add(tf_section *section, int64_t start, int64_t count, int64_t stride)
    int64_t tf_section_pixels(const tf_section *section)
    int64_t tf_section_end(const tf_section *section, int64_t width)
    int tf_section_is_scattered(const tf_section *section, int64_t width)
    tf_outcome tf_read_section(const tf_source *source, const tf_conversion *conversion,
                               const tf_section *section, void *to, int threads)
    ctypedef struct tf_part:
        tf_source source
        tf_conversion conversion
        tf_section section
        void *to
    tf_outcome tf_read_parts(const tf_source *source, const tf_part *parts, int64_t count, int threads)

cdef extern from "_native/cutouts.h" nogil:
    enum:
        TF_GAP
    ctypedef struct tf_planes:
        int64_t start
        int64_t planes
        int64_t rows
        int64_t columns
    ctypedef struct tf_windows:
        int64_t count
        const int64_t *corners
        int64_t rows
        int64_t columns
        const void *fill
    int tf_windows_reach_outside(const tf_planes *image, const tf_windows *windows)
    tf_outcome tf_read_cutouts(const tf_source *source, const tf_conversion *conversion,
                               const tf_planes *image, const tf_windows *windows, void *to, int threads)

cdef extern from "_native/header_scan.h" nogil:
    enum:
        TF_CARD
        TF_BLOCK
        TF_NAME_MAX
    ctypedef enum tf_hdu_kind:
        TF_HDU_IMAGE
        TF_HDU_BINTABLE
        TF_HDU_TABLE
        TF_HDU_GROUPS
        TF_HDU_FOREIGN
    ctypedef struct tf_header:
        tf_hdu_kind kind
        int bitpix
        int naxis
        int64_t axes[16]
        int64_t pcount
        int64_t gcount
        double scale
        double zero
        int has_blank
        int64_t blank
        int compressed
        int orderly
        int64_t version
        int name_length
        char name[68]
        int64_t header_bytes
        int64_t data_bytes
    ctypedef enum tf_table_keyword:
        TF_TABLE_KEYWORDS
        TF_NO_TABLE_KEYWORD
        TF_ODD_CARD
    const char *tf_table_keyword_name(tf_table_keyword keyword)
    tf_table_keyword tf_table_keyword_of(const uint8_t *card, int *number)

cdef extern from "_native/filter.h" nogil:
    ctypedef enum tf_register_place:
        TF_IN_VALUES
        TF_IN_NULLS
        TF_IN_CONSTANTS
        TF_IN_SCRATCH
        TF_IN_KEEP
    enum:
        TF_FILTER_PIECE
    ctypedef struct tf_register:
        tf_register_place place
        char type
        int64_t at
        int64_t width
        int64_t count
        int written
    ctypedef struct tf_instruction:
        int32_t operation
        int32_t to
        int32_t a
        int32_t b
    ctypedef struct tf_filter:
        tf_register *registers
        const tf_instruction *program
        const uint8_t *constants
        int32_t register_count
        int32_t length
        int32_t input_count
        int64_t constant_bytes
        int64_t scratch_bytes
    const char *tf_filter_operation(int i, const char **types)
    int64_t tf_filter_width(char type)
    int tf_filter_check(tf_filter *filter)
    size_t tf_filter_scratch_bytes(const tf_filter *filter)
    void tf_filter_run(const tf_filter *filter, const void *const *values, const uint8_t *const *nulls,
                       int64_t n, void *scratch, uint8_t *keep)

cdef extern from "_native/rows.h" nogil:
    ctypedef enum tf_cell_kind:
        TF_NUMBERS
        TF_LOGICALS
        TF_BITS
    ctypedef struct tf_field:
        tf_cell_kind kind
        int64_t offset
        int64_t count
        int first_bit
        tf_conversion conversion
        uint8_t *to
        uint8_t *nulls
        int64_t null
    int64_t tf_field_width(const tf_field *field)
    int64_t tf_column_width(const tf_field *field)
    ctypedef struct tf_rows:
        int64_t start
        int64_t row_bytes
        int64_t first
        int64_t step
        int64_t count
        const int64_t *list
    tf_outcome tf_read_rows(const tf_source *source, const tf_rows *rows, const tf_field *fields, int count,
                            int threads)
    ctypedef struct tf_collection:
        int64_t low
        int64_t width
        uint8_t *bytes
        int64_t room
        int64_t used
        int64_t *order
        int64_t count
        int64_t looked_at
    tf_outcome tf_select_rows(const tf_source *source, const tf_rows *rows, const tf_field *fields, int count,
                              const tf_filter *filter, uint8_t *keep, int64_t *passed,
                              tf_collection *collection, int threads)
    int64_t tf_passed_rows(const uint8_t *keep, int64_t n, int64_t most, int64_t *passed)

cdef extern from "_native/heap.h" nogil:
    ctypedef struct tf_heap:
        int64_t start
        int64_t size
        tf_cell_kind kind
        tf_conversion conversion
        int numbers
    int64_t tf_check_descriptors(const tf_heap *heap, const int64_t *descriptors, int64_t n, int64_t most,
                                 int64_t *ends)
    tf_outcome tf_read_heap(const tf_source *source, const tf_heap *heap, const int64_t *descriptors,
                            const int64_t *ends, int64_t n, void *to, int threads)

cdef extern from "_native/deflate.h" nogil:
    ctypedef struct tf_inflater:
        pass

    ctypedef struct tf_deflater:
        pass

    ctypedef enum tf_inflated:
        TF_INFLATED, TF_INFLATE_FULL, TF_INFLATE_BAD

    int TF_DEFLATE_BEST
    int TF_DEFLATE_LEVEL
    const char *tf_inflater_library(int i)
    tf_inflater *tf_inflater_new(const char *library)
    void tf_inflater_free(tf_inflater *inflater)
    const char *tf_inflate(tf_inflater *inflater, const uint8_t *stream, size_t size, uint8_t *to, size_t n)
    tf_inflated tf_inflate_file(tf_inflater *inflater, const uint8_t *file, size_t size, uint8_t *to,
                                size_t room, size_t *taken, size_t *made)
    tf_deflater *tf_deflater_new(int level)
    void tf_deflater_free(tf_deflater *deflater)
    size_t tf_deflate_room(size_t n)
    int64_t tf_deflate(tf_deflater *deflater, const uint8_t *bytes, size_t n, uint8_t *to, size_t room)
    void tf_shuffle(const uint8_t *numbers, size_t n, int width, uint8_t *to)
    void tf_unshuffle(const uint8_t *shuffled, size_t n, int width, uint8_t *to)

cdef extern from "_native/stream.h" nogil:
    ctypedef struct tf_stream:
        const uint8_t *bytes
        size_t size

cdef extern from "_native/gzip_parts.h" nogil:
    int TF_GZIP_THREADS
    ctypedef struct tf_sharing:
        int threads
        size_t part, units

    tf_sharing tf_share_gzip(size_t size, size_t makes, int threads)
    size_t tf_sharing_scratch(const tf_sharing *sharing)
    int tf_inflate_gzip_in_parts(tf_stream file, const tf_sharing *sharing, void *scratch, uint8_t *to,
                                 size_t room, size_t *taken, size_t *made)

cdef extern from "_native/inflate.h" nogil:
    int TF_INFLATE_SLACK
    int64_t tf_find_block(tf_stream stream, uint64_t start, uint64_t until)

cdef extern from "_native/rice.h" nogil:
    enum: TF_RICE_TOGETHER
    uint64_t tf_rice_least(uint64_t n, int width, uint64_t block)
    const char *tf_rice_decode(const tf_stream *streams, int count, int width, uint64_t block, void **to,
                               uint64_t n, int *bad)

cdef extern from "_native/rice_encode.h" nogil:
    size_t tf_rice_room(uint64_t n, int width, uint64_t block)
    int64_t tf_rice_encode(const void *numbers, uint64_t n, int width, uint64_t block, uint8_t *to,
                           size_t room)

cdef extern from "_native/hcompress.h" nogil:
    size_t tf_hcompress_decode_scratch(uint64_t rows, uint64_t columns)
    const char *tf_hcompress_decode(const uint8_t *stream, size_t size, uint64_t rows, uint64_t columns,
                                    int smooth, int32_t *to, void *scratch)

cdef extern from "_native/hcompress_encode.h" nogil:
    enum:
        TF_HCOMPRESS_SIDE_MAX
    size_t tf_hcompress_encode_scratch(uint64_t rows, uint64_t columns)
    size_t tf_hcompress_room(uint64_t rows, uint64_t columns)
    int64_t tf_hcompress_encode(const int32_t *pixels, uint64_t rows, uint64_t columns, int32_t scale,
                                uint8_t *to, size_t room, void *scratch)

cdef extern from "_native/plio.h" nogil:
    const char *tf_plio_decode(const uint8_t *stream, size_t size, tf_type type, int32_t zero, void *to,
                               size_t n)
    size_t tf_plio_room(size_t n)
    int64_t tf_plio_encode(const int32_t *pixels, size_t n, uint8_t *to, size_t room)

cdef extern from "_native/quantise.h" nogil:
    ctypedef enum tf_dither_method:
        TF_NO_DITHER
        TF_SUBTRACTIVE_DITHER_1
        TF_SUBTRACTIVE_DITHER_2
        TF_DITHER_METHODS
    ctypedef struct tf_quantisation:
        tf_dither_method method
        int64_t zdither0
        int64_t tile
        double scale
        double zero
        int has_blank
        int64_t blank
    ctypedef struct tf_noise_guess:
        double differences[3]
    void tf_dequantise(const tf_quantisation *q, const int32_t *numbers, size_t n, int wide, void *to)
    size_t tf_quantise_scratch(int wide, size_t columns, size_t rows)
    int tf_quantise(tf_quantisation *q, float level, const void *pixels, int wide, size_t columns,
                    size_t rows, tf_noise_guess *guess, void *scratch, int32_t *numbers)

cdef extern from "_native/tile_reader.h" nogil:
    enum:
        TF_TILE_AXES
    ctypedef enum tf_codec:
        TF_RICE_1
        TF_GZIP_1
        TF_GZIP_2
        TF_PLIO_1
        TF_HCOMPRESS_1
        TF_NOCOMPRESS
    ctypedef struct tf_stream_column:
        int64_t at
        int wide
        int64_t element
    ctypedef struct tf_tile_number:
        int64_t at
        tf_type type
        double same
    ctypedef struct tf_tiling:
        tf_codec codec
        int rice_width
        int smooth
        int32_t plio_zero
        uint64_t rice_block
        int axes
        int64_t *shape
        int64_t *tile
        int64_t *tiles
        int64_t rows
        int64_t row_bytes
        int64_t heap
        int64_t heap_bytes
        tf_stream_column compressed
        tf_stream_column gzipped
        tf_stream_column uncompressed
        tf_type uncompressed_type
        tf_conversion conversion
        int quantised
        tf_tile_number scale
        tf_tile_number zero
        tf_tile_number blank
        double image_scale
        double image_zero
        int has_blank
        tf_dither_method method
        int64_t zdither0
    int64_t tf_tiles_of(const tf_tiling *tiling)
    ctypedef struct tf_tile_trouble:
        tf_outcome outcome
        const char *reason
        int64_t tile
        int64_t offset
    ctypedef struct tf_tile_cache:
        pass
    ctypedef struct tf_tile_cache_numbers:
        int64_t hits
        int64_t misses
        int64_t tiles
        size_t bytes
    tf_tile_cache *tf_tile_cache_new()
    void tf_tile_cache_free(tf_tile_cache *cache)
    void tf_tile_cache_shrink(tf_tile_cache *cache, size_t most)
    tf_tile_cache_numbers tf_tile_cache_info(tf_tile_cache *cache)
    ctypedef struct tf_tile_windows:
        const int64_t *windows
        int64_t count
        int64_t *step
        int64_t *pitch
        uint8_t *to
    ctypedef struct tf_tile_keeping:
        tf_tile_cache *cache
        int64_t of
        size_t most
    tf_tile_trouble tf_read_tiles(const tf_tiling *tiling, const tf_source *source,
                                  const tf_tile_windows *windows, const tf_tile_keeping *keeping, int threads)

cdef extern from "_native/tile_writer.h" nogil:
    ctypedef struct tf_tile_encoding:
        tf_tiling tiling
        const void *pixels
        float quantise_level
        int deflate_level
        float hcompress_scale
    ctypedef struct tf_encoded_piece:
        int64_t start
        int64_t bytes
    ctypedef struct tf_encoded_image:
        int64_t count
        int64_t pieces
        tf_encoded_piece *piece
        int64_t element
        int64_t bytes
        int64_t gzipped
        int64_t blank
        int64_t longest
        int64_t longest_gzipped
    size_t tf_encoding_room(const tf_tile_encoding *encoding)
    tf_tile_trouble tf_encode_tiles(const tf_tile_encoding *encoding, uint8_t *streams,
                                    tf_encoded_image *encoded, int threads)
    void tf_encoded_free(tf_encoded_image *encoded)
    int64_t tf_encoded_row_bytes(const tf_encoded_image *encoded, int wide)
    void tf_put_rows(const tf_encoded_image *encoded, int wide, uint8_t *rows)

cdef extern from "_native/files.h" nogil:
    enum:
        TF_FIRST_READ
    ctypedef struct tf_head:
        int fd
        uint8_t *bytes
        size_t have
    tf_head TF_NO_HEAD
    int tf_head_fetch(tf_head *head, int64_t start, size_t ask)
    ctypedef enum tf_place:
        TF_AT_HDU
        TF_AT_ODD
        TF_AT_END
        TF_AT_TROUBLE
    tf_place tf_scan_at(tf_head *head, int64_t start, int primary, size_t ask, tf_header *header)
    void tf_head_free(tf_head *head)
    ctypedef struct tf_which:
        int64_t index
        const char *name
        int name_length
        int any_version
        int64_t version
    int tf_is_named(const tf_header *header, const tf_which *which)
    ctypedef enum tf_done:
        TF_NOT_DONE
        TF_FILE_DONE
        TF_FILE_CHANGED
    ctypedef struct tf_files:
        int64_t count
        const char *const *paths
        tf_which which
        uint8_t *done
    ctypedef struct tf_stack:
        int bitpix
        int naxis
        const int64_t *axes
        tf_type values
        int any_values
        tf_type wanted
        tf_section section
        uint8_t *to
    ctypedef struct tf_gathering:
        const uint8_t *header
        size_t header_bytes
        int64_t row_bytes
        int fields
        const tf_field *field
        const int64_t *first
        const int64_t *rows
        const int64_t *places
    void tf_gather_rows(const tf_files *files, const tf_gathering *gathering, int threads)
    ctypedef struct tf_alone:
        tf_header header
        tf_conversion conversion
    int tf_open_alone(tf_alone *alone, const char *path, const tf_which *which)
    void tf_close_alone(tf_alone *alone)
    tf_done tf_read_alone(tf_alone *alone, void *to)
    void tf_read_stack(const tf_files *files, const tf_stack *stack, int threads)
    void tf_read_cards(const tf_files *files, int keywords, const uint8_t *names, uint8_t *cards, int threads)

cdef extern from "_native/local_file.h" nogil:
    ctypedef struct tf_identity:
        int64_t device
        int64_t inode
        int64_t size
        int64_t mtime_ns
    ctypedef enum tf_file_kind:
        TF_REGULAR
        TF_DIRECTORY
        TF_SPECIAL
    int tf_open(const char *path)
    int tf_identify(int fd, tf_identity *identity, tf_file_kind *kind)
    ctypedef enum tf_change:
        TF_UNCHANGED
        TF_CHANGED
        TF_REMOVED
    tf_change tf_change_of(int fd, const tf_identity *identity)
    const uint8_t *tf_map(int fd, int64_t size)
    int tf_tells_residence(int fd)
    void tf_unmap(const uint8_t *mapping, int64_t size)
    int tf_processor_quota()
    void tf_reserve(int fd, int64_t start, int64_t size)

cdef extern from "_native/memory.h" nogil:
    size_t TF_ROOM_FROM
    ctypedef struct tf_room:
        void *start

    tf_room tf_memory_take(size_t size)
    void tf_memory_give(tf_room room)
    void tf_memory_clear()
    size_t tf_memory_kept()

cdef extern from "_native/guard.h" nogil:
    int tf_guard_install()

cdef extern from "_native/texts.h" nogil:
    ctypedef struct tf_texts:
        const uint8_t *from_ "from"
        const int64_t *ends
        int64_t width
        int64_t count
    int64_t tf_pack_texts(const tf_texts *texts, int64_t *offsets, uint8_t *to)
    void tf_end_texts(uint8_t *fields, int64_t width, int64_t count)

cdef extern from "Python.h":
    double PyOS_string_to_double(const char *s, char **end, PyObject *overflow) except? -1.0
