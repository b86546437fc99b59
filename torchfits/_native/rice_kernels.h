/* How rice.c takes UNIT codes at once. Included once per variant, KERNEL(name) naming it. */

#if FOR_AVX2
static inline uint64_t skip_zeros_avx2(uint64_t bits) { return bits << (_lzcnt_u64(bits) & 63); }
#else
static inline uint64_t skip_zeros_portable(uint64_t bits) { return bits << __builtin_clzll(bits | 1); }
#endif

/* The bits from each of n codes on, of which it takes no more than where the next one begins: the latency of that is what
 * it costs to decode a stream. `lengths` are those of codes without zeros. Streams whose codes took more than one filling
 * come back, a bit for each; theirs are wrong. */
static inline INLINED unsigned KERNEL(take_group)(const uint8_t **at, uint64_t *bits, const uint64_t *lengths,
                                                  int count, uint64_t (*saved)[UNIT], int first, int n)
{
    unsigned lost = 0;
    UNROLL for (int k = 0; k < count; k++)
    {
        const unsigned taken = (unsigned)__builtin_ctzll(bits[k]);
        at[k] += taken / 8;
        bits[k] = filled(load_word(at[k]), taken % 8);
    }
    UNROLL for (int i = first; i < first + n; i++)
    {
        UNROLL for (int k = 0; k < count; k++)
        {
            saved[k][i] = bits[k];
            bits[k] = KERNEL(skip_zeros)(bits[k]) << lengths[k];
        }
    }
    UNROLL for (int k = 0; k < count; k++)
    {
        if (__builtin_expect(bits[k] == 0, 0)) {
            lost |= 1u << k;
            bits[k] = (uint64_t)1 << 63;
        }
    }
    return lost;
}

#if FOR_AVX2

static inline __m256i four_codes(const uint64_t *saved, __m128i shift)
{
    const __m256i top = _mm256_srli_epi64(_mm256_loadu_si256((const __m256i *)saved), 12);
    const __m256i scaled = _mm256_or_si256(top, _mm256_set1_epi64x((int64_t)SCALE));
    const __m256d real = _mm256_sub_pd(_mm256_castsi256_pd(scaled), _mm256_set1_pd(0x1p65));
    return _mm256_srl_epi64(_mm256_castpd_si256(real), shift);
}

/* In the order 0 1 4 5 2 3 6 7. */
static inline __m256i eight_codes(const uint64_t *saved, __m128i shift, __m256i no_zeros)
{
    const __m256 low = _mm256_castsi256_ps(four_codes(saved, shift));
    const __m256 high = _mm256_castsi256_ps(four_codes(saved + 4, shift));
    return _mm256_xor_si256(_mm256_castps_si256(_mm256_shuffle_ps(low, high, 0x88)), no_zeros);
}

static inline __m256i sums16(__m256i codes)
{
    const __m256i sign = _mm256_sub_epi16(_mm256_setzero_si256(), _mm256_and_si256(codes, _mm256_set1_epi16(1)));
    __m256i sum = _mm256_xor_si256(_mm256_srli_epi16(codes, 1), sign);
    sum = _mm256_add_epi16(sum, _mm256_slli_si256(sum, 2));
    sum = _mm256_add_epi16(sum, _mm256_slli_si256(sum, 4));
    sum = _mm256_add_epi16(sum, _mm256_slli_si256(sum, 8));
    const __m256i lower = _mm256_permute2x128_si256(sum, sum, 0x08);
    return _mm256_add_epi16(sum, _mm256_shuffle_epi8(lower, _mm256_set1_epi16(0x0f0e)));
}

static inline __m256i sums32(__m256i codes)
{
    const __m256i sign = _mm256_sub_epi32(_mm256_setzero_si256(), _mm256_and_si256(codes, _mm256_set1_epi32(1)));
    __m256i sum = _mm256_xor_si256(_mm256_srli_epi32(codes, 1), sign);
    sum = _mm256_add_epi32(sum, _mm256_slli_si256(sum, 4));
    sum = _mm256_add_epi32(sum, _mm256_slli_si256(sum, 8));
    const __m256i lower = _mm256_permute2x128_si256(sum, sum, 0x08);
    return _mm256_add_epi32(sum, _mm256_shuffle_epi32(lower, 0xff));
}

static int put_unit_avx2(decoder *d, int width, const uint64_t *saved)
{
    const int plain = (int)d->field - 1;
    const __m128i shift = _mm_cvtsi32_si128(52 - plain);
    const __m256i no_zeros = _mm256_set1_epi32((int)((uint32_t)NO_ZEROS << plain));
    uint32_t most = ((uint32_t)(52 - plain) << plain) - 1;
    if (width < 4 && most > UINT16_MAX)
        most = UINT16_MAX;
    const __m256i limit = _mm256_set1_epi32((int)most);
    __m256i low = eight_codes(saved, shift, no_zeros), high = eight_codes(saved + 8, shift, no_zeros);
    const __m256i larger = _mm256_max_epu32(_mm256_max_epu32(low, high), limit);
    if (_mm256_movemask_epi8(_mm256_cmpeq_epi32(larger, limit)) != -1)
        return 0;
    if (width == 4) {
        const __m256i first = _mm256_set1_epi32((int)d->last);
        low = sums32(_mm256_permute4x64_epi64(low, 0xd8));
        high = sums32(_mm256_permute4x64_epi64(high, 0xd8));
        low = _mm256_add_epi32(low, first);
        high = _mm256_add_epi32(high, _mm256_permutevar8x32_epi32(low, _mm256_set1_epi32(7)));
        d->last = (uint32_t)_mm256_extract_epi32(high, 7);
        _mm256_storeu_si256((__m256i *)d->to, low);
        _mm256_storeu_si256((__m256i *)(d->to + 32), high);
    } else {
        const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
        const __m256i codes = _mm256_permutevar8x32_epi32(_mm256_packus_epi32(low, high), order);
        const __m256i first = _mm256_set1_epi16((short)d->last);
        const __m256i numbers = _mm256_add_epi16(sums16(codes), first);
        d->last = (uint32_t)_mm256_extract_epi16(numbers, 15);
        if (width == 2) {
            _mm256_storeu_si256((__m256i *)d->to, numbers);
        } else {
            const __m256i bytes = _mm256_and_si256(numbers, _mm256_set1_epi16(255));
            const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi16(bytes, bytes), 0xd8);
            _mm_storeu_si128((__m128i *)d->to, _mm256_castsi256_si128(packed));
        }
    }
    d->to += UNIT * width;
    return 1;
}

#else

/* The codes of UNIT saved beginnings. A double has the place of the first one among its bits in its exponent, and what
 * follows in its fraction. 0 where a code is longer than the 52 bits that are looked at. */
static int put_unit_portable(decoder *d, int width, const uint64_t *saved)
{
    const unsigned plain = d->field - 1;
    uint32_t codes[UNIT];
    uint64_t word, short_of = 0;
    double real;
    for (int i = 0; i < UNIT; i++) {
        const uint64_t top = saved[i] >> 12;
        short_of |= top - ((uint64_t)1 << plain);
        word = top | SCALE;
        memcpy(&real, &word, sizeof real);
        real -= 0x1p65;
        memcpy(&word, &real, sizeof word);
        codes[i] = (uint32_t)(word >> (52 - plain)) ^ (uint32_t)NO_ZEROS << plain;
    }
    if (short_of >> 63)
        return 0;
    put_numbers(d, width, codes, UNIT);
    return 1;
}

#endif

static inline INLINED int KERNEL(decode_group_of_streams)(decoder *d, const int count, const kind *k, int groups,
                                                          int *bad)
{
    uint64_t saved[TF_RICE_TOGETHER][UNIT], bits[TF_RICE_TOGETHER];
    const uint8_t *at[TF_RICE_TOGETHER];
    uint64_t lengths[TF_RICE_TOGETHER];
    unsigned lost = 0;
    UNROLL for (int i = 0; i < count; i++)
    {
        bits[i] = d[i].in.bits;
        at[i] = d[i].in.at;
        lengths[i] = d[i].field;
    }
    if (groups == 2) {
        lost |= KERNEL(take_group)(at, bits, lengths, count, saved, 0, 8);
        lost |= KERNEL(take_group)(at, bits, lengths, count, saved, 8, 8);
    } else if (groups == 3) {
        lost |= KERNEL(take_group)(at, bits, lengths, count, saved, 0, 6);
        lost |= KERNEL(take_group)(at, bits, lengths, count, saved, 6, 5);
        lost |= KERNEL(take_group)(at, bits, lengths, count, saved, 11, 5);
    } else if (groups == 4) {
        for (int i = 0; i < UNIT; i += 4)
            lost |= KERNEL(take_group)(at, bits, lengths, count, saved, i, 4);
    } else {
        for (int i = 0; i < UNIT; i += 2)
            lost |= KERNEL(take_group)(at, bits, lengths, count, saved, i, 2);
    }
    for (int i = 0; i < count; i++) {
        if (!(lost >> i & 1) && KERNEL(put_unit)(&d[i], k->width, saved[i])) {
            d[i].in.at = at[i];
            d[i].in.bits = bits[i];
        } else if (decode_slowly(&d[i], k, UNIT) != 0) {
            *bad += i;
            return -1;
        }
    }
    return 0;
}

static int KERNEL(decode_unit)(decoder *d, int count, const kind *k, int *bad)
{
    int groups;
    *bad = 0;
    if (count == TF_RICE_TOGETHER && is_plain_sailing(d, count, k, &groups))
        return KERNEL(decode_group_of_streams)(d, TF_RICE_TOGETHER, k, groups, bad);
    for (int i = 0; i < count; i++) {
        *bad = i;
        if (is_plain_sailing(&d[i], 1, k, &groups)) {
            if (KERNEL(decode_group_of_streams)(&d[i], 1, k, groups, bad) != 0)
                return -1;
        } else if (decode_slowly(&d[i], k, UNIT) != 0) {
            return -1;
        }
    }
    return 0;
}
