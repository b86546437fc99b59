# Part of _direct.pyx: sections and windows of tile-compressed images.

TILE_AXES = TF_TILE_AXES
HCOMPRESS_SIDE_MAX = TF_HCOMPRESS_SIDE_MAX

cdef dict _CODECS = {"RICE_1": TF_RICE_1, "GZIP_1": TF_GZIP_1, "GZIP_2": TF_GZIP_2, "PLIO_1": TF_PLIO_1,
                     "HCOMPRESS_1": TF_HCOMPRESS_1, "NOCOMPRESS": TF_NOCOMPRESS}
cdef dict _DITHERS = {"NO_DITHER": TF_NO_DITHER, "SUBTRACTIVE_DITHER_1": TF_SUBTRACTIVE_DITHER_1,
                      "SUBTRACTIVE_DITHER_2": TF_SUBTRACTIVE_DITHER_2}


cdef class Tiling:
    """How a tile-compressed image is stored, and what its pixels become.

    Args:
        codec: ZCMPTYPE.
        options: (BYTEPIX and BLOCKSIZE of RICE_1, SMOOTH of HCOMPRESS_1, what PLIO_1 adds to stored numbers).
        shape, tile: In tensor order.
        table: (offset of the first row, bytes of a row, rows, offset of the heap, its bytes).
        columns: (offset in the row, whether it is Q, bytes of an element) of COMPRESSED_DATA,
            GZIP_COMPRESSED_DATA and UNCOMPRESSED_DATA, or None; of `TYPES`, that of the last one's elements.
        conversion: From the stored numbers, or from those that quantised ones stand for.
        quantisation: None where the pixels are not quantised; else ZQUANTIZ, ZDITHER0, BSCALE, BZERO, ZSCALE,
            ZZERO, ZBLANK. The last three are (offset in the row or -1, of `TYPES`, the value for all tiles);
            ZBLANK may be None.
    """

    cdef tf_tiling t

    def __cinit__(self, str codec not None, options, shape, tile, table, columns,
                  Conversion conversion not None, quantisation):
        cdef int64_t rows, tiles
        self.t.codec = <tf_codec><int>_CODECS[codec]
        self.t.rice_width, self.t.rice_block, self.t.smooth, self.t.plio_zero = options
        tiles = _set_tiles(&self.t, shape, tile)
        self.t.rows, self.t.row_bytes, rows, self.t.heap, self.t.heap_bytes = table
        if min(self.t.rows, self.t.row_bytes, self.t.heap, self.t.heap_bytes) < 0 or tiles > rows:
            raise ValueError("a table that is none")
        self.set_column(&self.t.compressed, columns[0])
        self.set_column(&self.t.gzipped, columns[1])
        self.set_column(&self.t.uncompressed, columns[2])
        self.t.uncompressed_type = _type(columns[3])
        self.t.conversion = conversion.c
        self.t.quantised = quantisation is not None
        if quantisation is None:
            return
        method, self.t.zdither0, self.t.image_scale, self.t.image_zero, scale, zero, blank = quantisation
        self.t.method = <tf_dither_method><int>_DITHERS[method]
        self.set_number(&self.t.scale, scale)
        self.set_number(&self.t.zero, zero)
        self.t.has_blank = blank is not None
        if blank is not None:
            self.set_number(&self.t.blank, blank)

    cdef int inside_row(self, int64_t at, int64_t width) except -1:
        if at < 0 or at + width > self.t.row_bytes:
            raise ValueError("a column outside the row")
        return 0

    cdef int set_column(self, tf_stream_column *to, column) except -1:
        to.at = -1
        if column is not None:
            to.at, to.wide, to.element = column
            self.inside_row(to.at, 16 if to.wide else 8)
            if not 1 <= to.element <= 16:
                raise ValueError("arrays of no numbers")
        return 0

    cdef int set_number(self, tf_tile_number *to, number) except -1:
        at, type, to.same = number
        to.at, to.type = at, _type(type)
        if to.at >= 0:
            self.inside_row(to.at, tf_width(to.type))
        return 0

    cdef int check(self, const tf_source *source) except -1:
        cdef int64_t rows = tf_tiles_of(&self.t)
        if max(self.t.rows + rows * self.t.row_bytes, self.t.heap + self.t.heap_bytes) > source.size:
            raise ValueError("a table of more bytes than there are")
        return 0


cdef int64_t _set_tiles(tf_tiling *t, shape, tile) except -1:
    """How many tiles there are."""
    cdef int64_t pixels = 1, tiles = 1
    cdef int i
    if not 1 <= len(shape) == len(tile) <= TF_TILE_AXES:
        raise ValueError(f"1 to {TF_TILE_AXES} axes")
    t.axes = len(shape)
    for i in range(t.axes):
        if not 1 <= tile[i] <= shape[i]:
            raise ValueError("tiles that do not fit the image")
        t.shape[i], t.tile[i] = shape[i], tile[i]
        t.tiles[i] = (shape[i] - 1) // tile[i] + 1
        pixels *= tile[i]
        tiles *= t.tiles[i]
        if pixels > INT32_MAX:
            raise ValueError("tiles of too many pixels")
    return tiles


cdef tf_type _type(int type) except? TF_BOOL:
    if not 0 <= type < TF_TYPES:
        raise ValueError("no such type")
    return <tf_type>type


cdef class TileCache:
    """Decoded tiles of a file, those of which only a part was asked for.

    Tiles are kept of what is read in part more than once: a single window gains nothing from it.
    """

    cdef tf_tile_cache *cache
    cdef dict numbers

    def __cinit__(self):
        self.numbers = {}
        self.cache = NULL

    def __dealloc__(self):
        tf_tile_cache_free(self.cache)

    def abandon(self):
        """In a forked child: a thread that is not here may have been at work in it."""
        self.cache = NULL

    def shrink(self, size_t most):
        """Forget tiles until no more than `most` bytes are kept."""
        if self.cache is not NULL:
            tf_tile_cache_shrink(self.cache, most)

    def info(self):
        """(hits, misses, tiles, bytes)."""
        cdef tf_tile_cache_numbers n
        if self.cache is NULL:
            return 0, 0, 0, 0
        n = tf_tile_cache_info(self.cache)
        return n.hits, n.misses, n.tiles, n.bytes

    cdef tf_tile_cache *for_another_read(self, key) except? NULL:
        """NULL where nothing of the image was read before."""
        if key not in self.numbers:
            self.numbers[key] = len(self.numbers)
            return NULL
        if self.cache is NULL:
            self.cache = tf_tile_cache_new()
            if self.cache is NULL:
                raise MemoryError()
        return self.cache


cdef int _read_tiles(where, Tiling tiling, tf_tile_windows *windows, size_t size, keep,
                     int threads) except -1:
    """Read windows whose bounds are checked here; `keep` is (TileCache, key, bytes) or None."""
    cdef int64_t width = tf_width(tiling.t.conversion.wanted), last, i
    cdef int k, axes = tiling.t.axes
    cdef const int64_t *window
    cdef tf_tile_trouble trouble
    cdef tf_tile_keeping keeping
    cdef TileCache cache
    cdef _Bytes bytes_ = _Bytes(where, False)
    tiling.check(&bytes_.source)
    for i in range(windows.count):
        window = windows.windows + i * (2 * axes + 1)
        last = window[2 * axes] + width
        for k in range(axes):
            if window[k] < 0 or window[axes + k] < 1 \
                    or window[k] + (window[axes + k] - 1) * windows.step[k] >= tiling.t.shape[k]:
                raise ValueError("a window outside the image")
            last += (window[axes + k] - 1) * windows.pitch[k]
        if window[2 * axes] < 0 or last > <int64_t>size:
            raise ValueError("a window outside the memory")
    memset(&keeping, 0, sizeof(keeping))
    if keep is not None:
        cache, key, keeping.most = keep
        keeping.cache = cache.for_another_read(key)
        keeping.of = cache.numbers[key]
    with nogil:
        trouble = tf_read_tiles(&tiling.t, &bytes_.source, windows, &keeping, threads)
    _check(trouble.outcome, "read the tiles")
    if trouble.reason is not NULL:
        bytes_.check_unchanged()
        raise FitsFormatError(f"the compressed tile {trouble.tile} {trouble.reason.decode()}",
                              offset=trouble.offset)
    bytes_.check_unchanged()
    return 0


cdef int64_t *_numbers(int64_t count) except NULL:
    cdef int64_t *numbers = <int64_t *>PyMem_Malloc(count * sizeof(int64_t))
    if numbers is NULL:
        raise MemoryError()
    return numbers


def read_tiled_section(where, Tiling tiling not None, ranges, size_t address, size_t size, keep, int threads):
    """Read a section of a tile-compressed image into `size` bytes at `address`.

    Args:
        where: A File, or bytes-like.
        ranges: A range per axis, in tensor order, not empty, steps from 1.
        keep: (TileCache, key of the image and of what its pixels become, most bytes), or None.
        threads: At most so many.

    Raises:
        FitsFormatError: A damaged tile.
        FitsIOError: The file shrank or changed, or the system refused.
    """
    cdef tf_tile_windows windows
    cdef int64_t window[2 * TF_TILE_AXES + 1]
    cdef int64_t bytes_ = tf_width(tiling.t.conversion.wanted)
    cdef int k
    if len(ranges) != tiling.t.axes:
        raise ValueError("a section of another image")
    windows.windows, windows.count, windows.to = window, 1, <uint8_t *>address
    window[2 * tiling.t.axes] = 0
    for k in range(tiling.t.axes - 1, -1, -1):
        axis = ranges[k]
        window[k], window[tiling.t.axes + k], windows.step[k] = axis.start, len(axis), axis.step
        if windows.step[k] < 1:
            raise ValueError("a section that is none")
        windows.pitch[k] = bytes_
        bytes_ *= window[tiling.t.axes + k]
    if bytes_ != <int64_t>size:
        raise ValueError("the section and the memory differ in size")
    _read_tiles(where, tiling, &windows, size, keep, threads)


def read_tiled_cutouts(where, Tiling tiling not None, corners, window, fill, size_t address, size_t size,
                       keep, int threads):
    """Read windows of a tile-compressed image, or of every plane of a cube, into `size` bytes at `address`.

    Args:
        where, keep, threads: As in `read_tiled_section`.
        corners: (address, N) of int64 pairs: row and column of each window's first pixel.
        window: (rows, columns).
        fill: The bytes of an element for the pixels outside, or None where there must be none.

    Returns:
        False where `fill` is None and a window reaches outside: then nothing was read.

    Raises:
        As `read_tiled_section`.
    """
    cdef tf_tile_windows windows
    cdef int axes = tiling.t.axes, numbers = 2 * axes + 1, k
    cdef int64_t width = tf_width(tiling.t.conversion.wanted), bytes_ = width, i, low, high
    cdef int64_t count = corners[1]
    cdef const int64_t *corner = <const int64_t *><size_t>corners[0]
    cdef int64_t sides[TF_TILE_AXES]
    cdef int64_t *w
    cdef int64_t *all_windows
    cdef bytes element = fill
    cdef bint clipped
    if axes < 2 or count < 0 or len(window) != 2 or window[0] < 1 or window[1] < 1:
        raise ValueError("cutouts that are none")
    for k in range(axes - 1, -1, -1):
        sides[k] = tiling.t.shape[k] if k < axes - 2 else window[k - axes + 2]
        windows.step[k], windows.pitch[k] = 1, bytes_
        bytes_ *= sides[k]
    if count * bytes_ != <int64_t>size:
        raise ValueError("the windows and the memory differ in size")
    all_windows = _numbers(count * numbers + 1)
    try:
        windows.windows, windows.count, windows.to = all_windows, 0, <uint8_t *>address
        for i in range(count):
            w = all_windows + windows.count * numbers
            w[2 * axes] = i * bytes_
            clipped = False
            for k in range(axes):
                low = 0 if k < axes - 2 else corner[2 * i + k - axes + 2]
                high = min(low + sides[k], tiling.t.shape[k])
                w[k] = max(low, 0)
                w[axes + k] = high - w[k]
                w[2 * axes] += (w[k] - low) * windows.pitch[k] if high > w[k] else 0
                clipped = clipped or w[axes + k] != sides[k]
            if clipped and fill is None:
                return False
            if clipped:
                tf_fill(<uint8_t *>address + i * bytes_, <const char *>element, width, bytes_ // width)
            for k in range(axes):
                if w[axes + k] < 1:  # all of it lies outside
                    break
            else:
                windows.count += 1
        _read_tiles(where, tiling, &windows, size, keep, threads)
    finally:
        PyMem_Free(all_windows)
    return True


# ---------------------------------------------------------------------------- writing


cdef class TileEncoding:
    """How an image is to be compressed.

    Args:
        codec: ZCMPTYPE.
        options: (BLOCKSIZE of RICE_1, level of DEFLATE, SCALE of HCOMPRESS_1, what PLIO_1 adds to the stored
            numbers).
        shape, tile: In tensor order.
        conversion: From what will be stored to the pixels as they are given: only the sign bit may change.
        quantisation: None; or (steps in one sigma, or, negative, the size of a step; ZQUANTIZ; ZDITHER0).
    """

    cdef tf_tile_encoding c
    cdef int64_t bytes

    def __cinit__(
        self, str codec not None, options, shape, tile, Conversion conversion not None, quantisation
    ):
        cdef tf_tiling *t = &self.c.tiling
        self.bytes = tf_width(conversion.c.stored)
        t.codec = <tf_codec><int>_CODECS[codec]
        t.rice_block, self.c.deflate_level, self.c.hcompress_scale, t.plio_zero = options
        _set_tiles(t, shape, tile)
        t.conversion = conversion.c
        t.quantised = quantisation is not None
        if t.quantised:
            self.c.quantise_level, method, t.zdither0 = quantisation
            t.method = <tf_dither_method><int>_DITHERS[method]
        t.rice_width = 4 if t.quantised else self.bytes
        for side in shape:
            self.bytes *= side
        _check_encoding(t)

    @property
    def room(self):
        """The bytes that the streams can take at most."""
        return tf_encoding_room(&self.c)


cdef class EncodedTiles:
    """An image, compressed: what the rows of its table are to hold, and where its streams are.

    Args:
        pixels: (address, bytes), contiguous, in the host's byte order.
        streams: (address, bytes), `room` of the encoding: of these, as many are touched as are needed.
        threads: At most so many.

    Raises:
        FitsFormatError: A tile has pixels that the codec cannot do.
    """

    cdef tf_encoded_image e

    def __cinit__(self, TileEncoding encoding not None, pixels, streams, int threads):
        cdef tf_tile_encoding c = encoding.c
        cdef tf_tile_trouble trouble
        cdef size_t address = pixels[0], to = streams[0]
        if pixels[1] != encoding.bytes or address % tf_width(c.tiling.conversion.stored):
            raise ValueError("pixels that are not those of the image")
        if streams[1] < encoding.room:
            raise ValueError("no room for the streams")
        c.pixels = <const void *>address
        with nogil:
            trouble = tf_encode_tiles(&c, <uint8_t *>to, &self.e, threads)
        _check(trouble.outcome, "compress the tiles")
        if trouble.reason is not NULL:
            raise FitsFormatError(f"the tile {trouble.tile} {trouble.reason.decode()}")

    def __dealloc__(self):
        tf_encoded_free(&self.e)

    @property
    def count(self):
        """Of the tiles: the rows of the table."""
        return self.e.count

    @property
    def heap_bytes(self):
        return self.e.bytes

    @property
    def pieces(self):
        """What the heap is made of, in this order: (start, bytes) among the streams."""
        cdef int64_t i
        return [(self.e.piece[i].start, self.e.piece[i].bytes) for i in range(self.e.pieces)]

    @property
    def longest(self):
        """The elements of the longest array in COMPRESSED_DATA, and in GZIP_COMPRESSED_DATA or None."""
        return self.e.longest // self.e.element, self.e.longest_gzipped if self.e.gzipped else None

    @property
    def has_blank(self):
        """Whether some pixels are ZBLANK."""
        return self.e.blank > 0

    def row_bytes(self, bint wide):
        return tf_encoded_row_bytes(&self.e, wide)

    def put_rows(self, bint wide, size_t address, size_t size):
        """The rows of the table, with descriptors Q where they are `wide`, else P."""
        if <int64_t>size != self.e.count * tf_encoded_row_bytes(&self.e, wide):
            raise ValueError("the rows and the memory differ in size")
        with nogil:
            tf_put_rows(&self.e, wide, <uint8_t *>address)


cdef int _check_encoding(const tf_tiling *t) except -1:
    """What the encoders trust: what is here does not come from a file."""
    cdef const tf_conversion *c = &t.conversion
    cdef bint real = c.stored == TF_F32 or c.stored == TF_F64
    cdef bint gzip = t.codec == TF_GZIP_1 or t.codec == TF_GZIP_2
    cdef int axis, long_axes = 0
    if c.scaled or tf_width(c.values) != tf_width(c.stored) or c.wanted != c.values:
        raise ValueError("pixels that are not those of the image")
    if t.codec == TF_NOCOMPRESS or t.quantised and not real or not gzip and (
        real and not t.quantised or c.stored == TF_I64
    ):
        raise ValueError("pixels that the codec does not do")
    for axis in range(t.axes):
        long_axes += t.tile[axis] > 1
        if t.codec == TF_HCOMPRESS_1 and t.tile[axis] > 1 and t.shape[axis] % t.tile[axis] == 1:
            raise ValueError("tiles of one row")
        if t.codec == TF_HCOMPRESS_1 and t.tile[axis] > TF_HCOMPRESS_SIDE_MAX:
            raise ValueError("tiles that are too long")
    if t.codec == TF_HCOMPRESS_1 and long_axes != 2:
        raise ValueError("tiles that are not of two axes")
    if t.codec == TF_RICE_1 and t.rice_block == 0:
        raise ValueError("blocks of nothing")
    return 0
