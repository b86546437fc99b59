/* How rice.c decodes UNIT numbers at once. Included once per variant, KERNEL(name) naming it. */

#if FOR_AVX2

/* A one to the top; no bits stay none. */
static inline uint64_t normalized_avx2(uint64_t bits)
{
    return bits << (_lzcnt_u64(bits) & 63);
}

/* Four codes, in the lower halves of the lanes. */
static inline __m256i four_codes(const uint64_t *saved, __m128i shift)
{
    const __m256i top = _mm256_srli_epi64(_mm256_loadu_si256((const __m256i *)saved), 12);
    const __m256i scaled = _mm256_or_si256(top, _mm256_set1_epi64x((int64_t)SCALE_BITS));
    const __m256d real = _mm256_sub_pd(_mm256_castsi256_pd(scaled), _mm256_set1_pd(SCALE));
    return _mm256_srl_epi64(_mm256_castpd_si256(real), shift);
}

/* In the order 0 1 4 5 2 3 6 7; codes of more than 52 bits come too large. */
static inline __m256i eight_codes(const uint64_t *saved, __m128i shift, __m256i no_zeros)
{
    const __m256 low = _mm256_castsi256_ps(four_codes(saved, shift));
    const __m256 high = _mm256_castsi256_ps(four_codes(saved + 4, shift));
    return _mm256_xor_si256(_mm256_castps_si256(_mm256_shuffle_ps(low, high, 0x88)), no_zeros);
}

/* Sums of the differences up to each; put_numbers adds them one by one. */
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

/* The numbers of UNIT codes that begin at the tops of `saved`; 0, and nothing done, where one is too long for that, or
 * for 16 bits where the numbers are of no more. */
static inline INLINED int put_unit_avx2(decoder *d, int width, const uint64_t *saved)
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

static inline uint64_t normalized_portable(uint64_t bits)
{
    return bits << __builtin_clzll(bits | 1);
}

/* The numbers of UNIT codes that begin at the tops of `saved`; 0, and nothing done, where one is too long for that. */
static inline INLINED int put_unit_portable(decoder *d, int width, const uint64_t *saved)
{
    const unsigned plain = d->field - 1;
    uint32_t codes[UNIT];
    uint64_t word, short_of = 0;
    double real;
    for (int i = 0; i < UNIT; i++) {
        const uint64_t top = saved[i] >> 12;
        short_of |= top - ((uint64_t)1 << plain);
        word = top | SCALE_BITS;
        memcpy(&real, &word, sizeof real);
        real -= SCALE;
        memcpy(&word, &real, sizeof word);
        codes[i] = (uint32_t)(word >> (52 - plain)) ^ (uint32_t)NO_ZEROS << plain;
    }
    if (short_of >> 63)
        return 0;
    put_numbers(d, width, codes, UNIT);
    return 1;
}

#endif

/* UNIT numbers of each of `count` streams, which go the fast way. -1, or the index of one that ends before.
 *
 * First the bits from each code on are saved, and no more is found out than where the next one begins: for that the
 * next one has to wait. A filling is for a group of codes; streams whose codes took more than one are lost, and are
 * decoded slowly from where they were. */
static inline INLINED int KERNEL(decode_together)(decoder *d, const int count, const kind *k, const int width,
                                                  const grouping *g)
{
    uint64_t saved[AT_ONCE][UNIT], bits[AT_ONCE], lengths[AT_ONCE];
    const uint8_t *at[AT_ONCE];
    unsigned lost = 0;
    UNROLL
    for (int s = 0; s < count; s++) {
        bits[s] = d[s].in.bits;
        at[s] = d[s].in.at;
        lengths[s] = d[s].field;
    }
    for (int i = 0, group = 0; i < UNIT; group++) {
        UNROLL
        for (int s = 0; s < count; s++) {
            const unsigned taken = (unsigned)__builtin_ctzll(bits[s]);
            at[s] += taken / 8;
            bits[s] = filled(load_word(at[s]), taken % 8);
        }
        for (const int end = g->ends[group]; i < end; i++) {
            UNROLL
            for (int s = 0; s < count; s++) {
                saved[s][i] = bits[s];
                bits[s] = KERNEL(normalized)(bits[s]) << lengths[s];
            }
        }
        UNROLL
        for (int s = 0; s < count; s++) {
            if (__builtin_expect(bits[s] == 0, 0)) {
                lost |= 1u << s;
                bits[s] = 1;
            }
        }
    }
    for (int s = 0; s < count; s++) {
        if (!(lost >> s & 1) && KERNEL(put_unit)(&d[s], width, saved[s])) {
            d[s].in.at = at[s];
            d[s].in.bits = bits[s];
        } else if (decode_slowly(&d[s], k, UNIT) != 0) {
            return s;
        }
    }
    return -1;
}

/* So many times UNIT numbers of each stream, all of one block. -1, or the index of one that ends before. */
static int KERNEL(decode_units)(decoder *d, int count, const kind *k, uint64_t units)
{
    for (; units > 0; units--) {
        const grouping *g = count == AT_ONCE ? fast_way(d, count, k) : NULL;
        if (g) {
            /* the compiler leaves out what only other widths need */
            const int bad = k->width == 2 ? KERNEL(decode_together)(d, AT_ONCE, k, 2, g)
                                          : KERNEL(decode_together)(d, AT_ONCE, k, k->width, g);
            if (bad >= 0)
                return bad;
            continue;
        }
        for (int i = 0; i < count; i++) {
            g = fast_way(&d[i], 1, k);
            if (g ? KERNEL(decode_together)(&d[i], 1, k, k->width, g) == 0 : decode_slowly(&d[i], k, UNIT) != 0)
                return i;
        }
    }
    return -1;
}
