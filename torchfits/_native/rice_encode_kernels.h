/* The loops of rice_encode.c. Included once per variant, KERNEL(name) naming it. */

/* The codes of n numbers; the one before the first must be there too. Their sum. Differences that overflow come round;
 * 0, 1, 2, ... become even codes, -1, -2, ... odd ones. */
static inline uint64_t KERNEL(codes_of)(const uint8_t *numbers, int width, int n, uint32_t *restrict codes)
{
    uint64_t sum = 0;
    if (width == 1) {
        uint32_t narrow_sum = 0;
        for (int i = 0; i < n; i++) {
            const uint8_t step = (uint8_t)(numbers[i] - numbers[i - 1]);
            codes[i] = (uint8_t)(step << 1 ^ -(step >> 7));
            narrow_sum += codes[i];
        }
        sum = narrow_sum;
    } else if (width == 2) {
        const uint16_t *words = (const uint16_t *)(const void *)numbers;
        uint32_t narrow_sum = 0;
        for (int i = 0; i < n; i++) {
            const uint16_t step = (uint16_t)(words[i] - words[i - 1]);
            codes[i] = (uint16_t)(step << 1 ^ -(step >> 15));
            narrow_sum += codes[i];
        }
        sum = narrow_sum;
    } else {
        const uint32_t *words = (const uint32_t *)(const void *)numbers;
        for (int i = 0; i < n; i++) {
            const uint32_t step = words[i] - words[i - 1];
            codes[i] = step << 1 ^ -(step >> 31);
            sum += codes[i];
        }
    }
    return sum;
}

#if FOR_AVX2

/* Bits, and how many they are, in each lane. */
typedef struct {
    __m256i bits, length;
} pieces;

/* Pieces of two codes each, of eight codes. */
static inline pieces pairs(const uint32_t *codes, __m128i plain, __m256i one)
{
    const __m256i all = _mm256_loadu_si256((const __m256i *)codes), right = _mm256_set1_epi64x(UINT32_MAX);
    const __m256i mask = _mm256_sub_epi32(one, _mm256_set1_epi32(1));
    const __m256i bits = _mm256_or_si256(_mm256_and_si256(all, mask), one);
    /* the zeros alone: the rest of the length is the same for all */
    const __m256i zeros = _mm256_srl_epi32(all, plain);
    const __m256i length = _mm256_add_epi32(zeros, _mm256_broadcastd_epi32(_mm_add_epi32(plain, _mm_set1_epi32(1))));
    const __m256i second = _mm256_srli_epi64(length, 32);
    const __m256i first_bits = _mm256_sllv_epi64(_mm256_and_si256(bits, right), second);
    return (pieces){_mm256_or_si256(first_bits, _mm256_srli_epi64(bits, 32)),
                    _mm256_add_epi64(_mm256_and_si256(length, right), second)};
}

static inline writer put_codes_avx2(writer w, const uint32_t *codes, int n, unsigned plain)
{
    const __m128i plain_bits = _mm_cvtsi32_si128((int)plain);
    const __m256i one = _mm256_set1_epi32((int)((uint32_t)1 << plain)), most = _mm256_set1_epi64x(56);
    int i = 0;
    for (; i + 16 <= n; i += 16) {
        const pieces a = pairs(codes + i, plain_bits, one), b = pairs(codes + i + 8, plain_bits, one);
        const __m256i second = _mm256_unpackhi_epi64(a.length, b.length);
        const __m256i first_bits = _mm256_sllv_epi64(_mm256_unpacklo_epi64(a.bits, b.bits), second);
        const __m256i fours = _mm256_or_si256(first_bits, _mm256_unpackhi_epi64(a.bits, b.bits));
        const __m256i length = _mm256_add_epi64(_mm256_unpacklo_epi64(a.length, b.length), second);
        const __m256i long_ones = _mm256_cmpgt_epi64(length, most);
        if (__builtin_expect(!_mm256_testz_si256(long_ones, long_ones), 0)) {
            for (int j = i; j < i + 16; j++)
                w = put_code(w, codes[j], plain);
        } else {
            /* the first and the third are of the first eight codes */
            w = put(w, (uint64_t)_mm256_extract_epi64(fours, 0), (unsigned)_mm256_extract_epi64(length, 0));
            w = put(w, (uint64_t)_mm256_extract_epi64(fours, 2), (unsigned)_mm256_extract_epi64(length, 2));
            w = put(w, (uint64_t)_mm256_extract_epi64(fours, 1), (unsigned)_mm256_extract_epi64(length, 1));
            w = put(w, (uint64_t)_mm256_extract_epi64(fours, 3), (unsigned)_mm256_extract_epi64(length, 3));
        }
    }
    for (; i < n; i++)
        w = put_code(w, codes[i], plain);
    return w;
}

#else

static inline writer put_codes_portable(writer w, const uint32_t *codes, int n, unsigned plain)
{
    const uint32_t one = (uint32_t)1 << plain;
    int i = 0;
    for (; i + 4 <= n; i += 4) {
        uint64_t bits = 0, length = 4 * (plain + 1);
        for (int j = i; j < i + 4; j++)
            length += codes[j] >> plain;
        if (__builtin_expect(length > 56, 0)) {
            for (int j = i; j < i + 4; j++)
                w = put_code(w, codes[j], plain);
            continue;
        }
        for (int j = i; j < i + 4; j++)
            bits = bits << (codes[j] >> plain) << (plain + 1) | one | (codes[j] & (one - 1));
        w = put(w, bits, (unsigned)length);
    }
    for (; i < n; i++)
        w = put_code(w, codes[i], plain);
    return w;
}

#endif

/* The codes of n numbers, CHUNK at most, from number i on; their sum. */
static inline uint64_t KERNEL(codes_from)(const source *s, uint64_t i, int n, uint32_t *codes)
{
    const size_t width = (size_t)s->width;
    if (i > 0)
        return KERNEL(codes_of)(s->at + i * width, s->width, n, codes);
    /* the first number has none before it: it stands for that itself */
    uint32_t copy[CHUNK + 1];
    memcpy(copy, s->at, width);
    memcpy((uint8_t *)copy + width, s->at, (size_t)n * width);
    return KERNEL(codes_of)((const uint8_t *)copy + width, s->width, n, codes);
}

/* The n numbers from `first` on, as a block. */
static inline __attribute__((always_inline)) writer KERNEL(put_block)(writer w, const source *s, uint64_t first,
                                                                      uint64_t n, const tf_rice_coding *coding)
{
    uint32_t codes[CHUNK];
    uint64_t sum = 0;
    for (uint64_t i = 0; i < n; i += CHUNK)
        sum += KERNEL(codes_from)(s, first + i, chunk(n - i), codes);
    const unsigned plain = plain_bits_for(sum, n);
    const unsigned field = sum == 0 ? 0 : plain + 1 < coding->as_is ? plain + 1 : coding->as_is;
    w = put(w, field, (unsigned)coding->field_bits);
    if (field == 0)
        return w;
    for (uint64_t i = 0; i < n; i += CHUNK) {
        const int count = chunk(n - i);
        if (n > CHUNK)
            KERNEL(codes_from)(s, first + i, count, codes);
        if (field < coding->as_is)
            w = KERNEL(put_codes)(w, codes, count, plain);
        else
            for (int j = 0; j < count; j++)
                w = put(w, codes[j], 8 * (unsigned)s->width);
    }
    return w;
}

static writer KERNEL(encode)(writer w, const source *s, uint64_t n, uint64_t block, const tf_rice_coding *coding)
{
    for (uint64_t left = n; left > 0;) {
        const uint64_t in_block = left < block ? left : block;
        /* loops whose length the compiler knows */
        w = in_block == CHUNK ? KERNEL(put_block)(w, s, n - left, CHUNK, coding)
                              : KERNEL(put_block)(w, s, n - left, in_block, coding);
        left -= in_block;
    }
    return w;
}
