/* The loops of pixels.c, written for the compiler to vectorise. Included once per variant, KERNEL(name) naming it. */

static void KERNEL(swap16)(void *to, const void *from, size_t n, uint64_t flip)
{
    uint16_t *restrict out = to;
    const uint16_t *restrict in = from;
    for (size_t i = 0; i < n; i++)
        out[i] = (uint16_t)(BIG16(in[i]) ^ (uint16_t)flip);
}

static void KERNEL(swap32)(void *to, const void *from, size_t n, uint64_t flip)
{
    uint32_t *restrict out = to;
    const uint32_t *restrict in = from;
    for (size_t i = 0; i < n; i++)
        out[i] = BIG32(in[i]) ^ (uint32_t)flip;
}

static void KERNEL(swap64)(void *to, const void *from, size_t n, uint64_t flip)
{
    uint64_t *restrict out = to;
    const uint64_t *restrict in = from;
    for (size_t i = 0; i < n; i++)
        out[i] = BIG64(in[i]) ^ flip;
}

static void KERNEL(swap8)(void *to, const void *from, size_t n, uint64_t flip)
{
    uint8_t *restrict out = to;
    const uint8_t *restrict in = from;
    for (size_t i = 0; i < n; i++)
        out[i] = in[i] ^ (uint8_t)flip;
}

static void KERNEL(swap8_in_place)(void *pixels, size_t n, uint64_t flip)
{
    uint8_t *p = pixels;
    for (size_t i = 0; flip && i < n; i++)
        p[i] ^= (uint8_t)flip;
}

static void KERNEL(swap16_in_place)(void *pixels, size_t n, uint64_t flip)
{
    uint16_t *p = pixels;
    for (size_t i = 0; i < n; i++)
        p[i] = (uint16_t)(BIG16(p[i]) ^ (uint16_t)flip);
}

static void KERNEL(swap32_in_place)(void *pixels, size_t n, uint64_t flip)
{
    uint32_t *p = pixels;
    for (size_t i = 0; i < n; i++)
        p[i] = BIG32(p[i]) ^ (uint32_t)flip;
}

static void KERNEL(swap64_in_place)(void *pixels, size_t n, uint64_t flip)
{
    uint64_t *p = pixels;
    for (size_t i = 0; i < n; i++)
        p[i] = BIG64(p[i]) ^ flip;
}

/* zero + scale * stored in double, rounded once; the stored integer `blank` gives NaN */
#define SCALE_INTEGER(name, word, number, big, real)                                                                  \
    static void KERNEL(name)(void *to, const void *from, size_t n, const tf_conversion *c)                            \
    {                                                                                                                  \
        real *restrict out = to;                                                                                       \
        const word *restrict in = from;                                                                                \
        const double scale = c->scale, zero = c->zero;                                                                 \
        if (c->has_blank) {                                                                                            \
            const number blank = (number)c->blank;                                                                     \
            for (size_t i = 0; i < n; i++) {                                                                           \
                const number value = (number)big(in[i]);                                                               \
                const real scaled = (real)((double)value * scale + zero);                                              \
                out[i] = value == blank ? (real)NAN : scaled;                                                          \
            }                                                                                                          \
        } else {                                                                                                       \
            for (size_t i = 0; i < n; i++)                                                                             \
                out[i] = (real)((double)(number)big(in[i]) * scale + zero);                                            \
        }                                                                                                              \
    }

#define SCALE_REAL(name, word, bits_to_real, big, real)                                                               \
    static void KERNEL(name)(void *to, const void *from, size_t n, const tf_conversion *c)                            \
    {                                                                                                                  \
        real *restrict out = to;                                                                                       \
        const word *restrict in = from;                                                                                \
        const double scale = c->scale, zero = c->zero;                                                                 \
        for (size_t i = 0; i < n; i++)                                                                                 \
            out[i] = (real)((double)bits_to_real(big(in[i])) * scale + zero);                                          \
    }

SCALE_INTEGER(scale_u8_f32, uint8_t, uint8_t, BIG8, float)
SCALE_INTEGER(scale_u8_f64, uint8_t, uint8_t, BIG8, double)
SCALE_INTEGER(scale_i16_f32, uint16_t, int16_t, BIG16, float)
SCALE_INTEGER(scale_i16_f64, uint16_t, int16_t, BIG16, double)
SCALE_INTEGER(scale_i32_f32, uint32_t, int32_t, BIG32, float)
SCALE_INTEGER(scale_i32_f64, uint32_t, int32_t, BIG32, double)
SCALE_INTEGER(scale_i64_f32, uint64_t, int64_t, BIG64, float)
SCALE_INTEGER(scale_i64_f64, uint64_t, int64_t, BIG64, double)
SCALE_REAL(scale_f32_f32, uint32_t, real32, BIG32, float)
SCALE_REAL(scale_f32_f64, uint32_t, real32, BIG32, double)
SCALE_REAL(scale_f64_f32, uint64_t, real64, BIG64, float)
SCALE_REAL(scale_f64_f64, uint64_t, real64, BIG64, double)

static void KERNEL(scale_doubles_f32)(void *to, const double *from, size_t n, double scale, double zero)
{
    float *restrict out = to;
    for (size_t i = 0; i < n; i++)
        out[i] = (float)(from[i] * scale + zero);
}

static void KERNEL(scale_doubles_f64)(void *to, const double *from, size_t n, double scale, double zero)
{
    double *restrict out = to;
    for (size_t i = 0; i < n; i++)
        out[i] = from[i] * scale + zero;
}

/* one row of the table of casts: from `source` to every type that is not its own */
#define CAST(name, source, target, expression)                                                                        \
    static void KERNEL(name)(void *to, const void *from, size_t n)                                                    \
    {                                                                                                                  \
        target *restrict out = to;                                                                                     \
        const source *restrict in = from;                                                                              \
        for (size_t i = 0; i < n; i++) {                                                                               \
            const source x = in[i];                                                                                    \
            out[i] = (target)(expression);                                                                             \
        }                                                                                                              \
    }

#define CASTS_OF_INTEGER(label, source)                                                                               \
    CAST(label##_bool, source, uint8_t, x != 0)                                                                        \
    CAST(label##_u8, source, uint8_t, x)                                                                               \
    CAST(label##_i8, source, int8_t, x)                                                                                \
    CAST(label##_u16, source, uint16_t, x)                                                                             \
    CAST(label##_i16, source, int16_t, x)                                                                              \
    CAST(label##_u32, source, uint32_t, x)                                                                             \
    CAST(label##_i32, source, int32_t, x)                                                                              \
    CAST(label##_u64, source, uint64_t, x)                                                                             \
    CAST(label##_i64, source, int64_t, x)                                                                              \
    CAST(label##_f16, source, uint16_t, half_bits((float)x))                                                           \
    CAST(label##_bf16, source, uint16_t, bfloat_bits((float)x))                                                        \
    CAST(label##_f32, source, float, x)                                                                                \
    CAST(label##_f64, source, double, x)

/* the first number that is too large is a power of two, and so exact in both reals */
#define CASTS_OF_REAL(label, source)                                                                                  \
    CAST(label##_bool, source, uint8_t, x != 0)                                                                        \
    CAST(label##_u8, source, uint8_t, x >= 256 ? 255 : x > 0 ? (int32_t)x : 0)                                         \
    CAST(label##_i8, source, int8_t, x >= 128 ? 127 : x > -129 ? (int32_t)x : x == x ? -128 : 0)                       \
    CAST(label##_u16, source, uint16_t, x >= 65536 ? 65535 : x > 0 ? (int32_t)x : 0)                                   \
    CAST(label##_i16, source, int16_t, x >= 32768 ? 32767 : x > -32769 ? (int32_t)x : x == x ? -32768 : 0)             \
    CAST(label##_u32, source, uint32_t, x >= TWO_32 ? UINT32_MAX : x > 0 ? (uint32_t)(int64_t)x : 0)                   \
    CAST(label##_i32, source, int32_t, x >= TWO_31 ? INT32_MAX : x >= -TWO_31 ? (int32_t)x : x == x ? INT32_MIN : 0)   \
    CAST(label##_u64, source, uint64_t, x >= TWO_64 ? UINT64_MAX : x > 0 ? (uint64_t)x : 0)                            \
    CAST(label##_i64, source, int64_t, x >= TWO_63 ? INT64_MAX : x >= -TWO_63 ? (int64_t)x : x == x ? INT64_MIN : 0)   \
    CAST(label##_f16, source, uint16_t, half_bits((float)x))                                                           \
    CAST(label##_bf16, source, uint16_t, bfloat_bits((float)x))                                                        \
    CAST(label##_f32, source, float, x)                                                                                \
    CAST(label##_f64, source, double, x)

CASTS_OF_INTEGER(u8, uint8_t)
CASTS_OF_INTEGER(i8, int8_t)
CASTS_OF_INTEGER(u16, uint16_t)
CASTS_OF_INTEGER(i16, int16_t)
CASTS_OF_INTEGER(u32, uint32_t)
CASTS_OF_INTEGER(i32, int32_t)
CASTS_OF_INTEGER(u64, uint64_t)
CASTS_OF_INTEGER(i64, int64_t)
CASTS_OF_REAL(f32, float)
CASTS_OF_REAL(f64, double)

#define CAST_ROW(label)                                                                                               \
    {                                                                                                                  \
        KERNEL(label##_bool), KERNEL(label##_u8), KERNEL(label##_i8), KERNEL(label##_u16), KERNEL(label##_i16),        \
            KERNEL(label##_u32), KERNEL(label##_i32), KERNEL(label##_u64), KERNEL(label##_i64), KERNEL(label##_f16),   \
            KERNEL(label##_bf16), KERNEL(label##_f32), KERNEL(label##_f64)                                             \
    }

static const kernels KERNEL(kernels) = {
    .swap = {KERNEL(swap8), KERNEL(swap16), KERNEL(swap32), KERNEL(swap64)},
    .swap_in_place = {KERNEL(swap8_in_place), KERNEL(swap16_in_place), KERNEL(swap32_in_place),
                      KERNEL(swap64_in_place)},
    .scale =
        {
            [TF_U8] = {KERNEL(scale_u8_f32), KERNEL(scale_u8_f64)},
            [TF_I16] = {KERNEL(scale_i16_f32), KERNEL(scale_i16_f64)},
            [TF_I32] = {KERNEL(scale_i32_f32), KERNEL(scale_i32_f64)},
            [TF_I64] = {KERNEL(scale_i64_f32), KERNEL(scale_i64_f64)},
            [TF_F32] = {KERNEL(scale_f32_f32), KERNEL(scale_f32_f64)},
            [TF_F64] = {KERNEL(scale_f64_f32), KERNEL(scale_f64_f64)},
        },
    .scale_doubles = {KERNEL(scale_doubles_f32), KERNEL(scale_doubles_f64)},
    .cast =
        {
            [TF_U8] = CAST_ROW(u8),
            [TF_I8] = CAST_ROW(i8),
            [TF_U16] = CAST_ROW(u16),
            [TF_I16] = CAST_ROW(i16),
            [TF_U32] = CAST_ROW(u32),
            [TF_I32] = CAST_ROW(i32),
            [TF_U64] = CAST_ROW(u64),
            [TF_I64] = CAST_ROW(i64),
            [TF_F32] = CAST_ROW(f32),
            [TF_F64] = CAST_ROW(f64),
        },
};

#undef SCALE_INTEGER
#undef SCALE_REAL
#undef CAST
#undef CASTS_OF_INTEGER
#undef CASTS_OF_REAL
#undef CAST_ROW
