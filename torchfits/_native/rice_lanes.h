/* How rice.c decodes LANES streams at once where the machine has AVX-512: one in each lane of registers. What differs
 * between streams, such as how many bits of their codes are plain, differs between lanes; nothing has to be put
 * together but the numbers of a stream, which are spread over as many registers. */

#define LANES 16
#define ALL_LANES 0xffffu
/* for fewer streams than this it takes longer than four at once, most of them being ordinary */
#define LANES_WORTH 7

/* What UNIT codes take from a stream at most: a filling each, of 7 bytes, and the 8 bytes that the last one reads. */
#define REACH 120

typedef struct {
    const uint8_t *at[LANES], *end[LANES];
    uint64_t bits[LANES];
    uint64_t near_end[LANES]; /* where a stream goes on in `tails`, or if it does, ends */
    uint64_t field[LANES];
    uint32_t last[LANES];
    uint8_t *to[LANES];
    uint8_t tails[LANES][2 * REACH]; /* less than a reach is left of a stream, and may be looked beyond by one */
    __m512i numbers[UNIT];
} lanes;

/* Those of 8 lanes each, in the order of the lanes. */
typedef struct {
    __m512i at, bits;
} eight_readers;

static inline eight_readers load_readers(const lanes *l, int first)
{
    return (eight_readers){_mm512_loadu_si512(l->at + first), _mm512_loadu_si512(l->bits + first)};
}

static inline void save_readers(lanes *l, int first, eight_readers r, unsigned which)
{
    _mm512_mask_storeu_epi64(l->at + first, (__mmask8)(which >> first), r.at);
    _mm512_mask_storeu_epi64(l->bits + first, (__mmask8)(which >> first), r.bits);
}

/* Eight loads are no slower than a gather, and on some machines much faster. */
static inline __m512i load_words(__m512i at)
{
    const uint8_t *from[8];
    __m128i two[4];
    _mm512_storeu_si512(from, at);
    for (int i = 0; i < 4; i++) {
        int64_t words[2];
        memcpy(&words[0], from[2 * i], 8);
        memcpy(&words[1], from[2 * i + 1], 8);
        two[i] = _mm_set_epi64x(words[1], words[0]);
    }
    const __m512i low = _mm512_castsi256_si512(_mm256_inserti128_si256(_mm256_castsi128_si256(two[0]), two[1], 1));
    const __m256i high = _mm256_inserti128_si256(_mm256_castsi128_si256(two[2]), two[3], 1);
    const __m512i order = _mm512_broadcast_i32x4(_mm_set_epi64x(0x08090a0b0c0d0e0f, 0x0001020304050607));
    return _mm512_shuffle_epi8(_mm512_inserti64x4(low, high, 1), order);
}

/* As refill; those of which no bits are left, which are `lost`, stay where they are. */
static inline void refill_eight(eight_readers *r, __mmask8 *lost)
{
    const __m512i one = _mm512_set1_epi64(1), none = _mm512_setzero_si512();
    const __mmask8 over = _mm512_testn_epi64_mask(r->bits, r->bits);
    const __m512i bits = _mm512_mask_mov_epi64(r->bits, over, one);
    const __m512i lowest = _mm512_and_si512(bits, _mm512_sub_epi64(none, bits));
    const __m512i taken = _mm512_sub_epi64(_mm512_set1_epi64(63), _mm512_lzcnt_epi64(lowest));
    r->at = _mm512_add_epi64(r->at, _mm512_srli_epi64(taken, 3));
    r->bits = _mm512_sllv_epi64(_mm512_or_si512(load_words(r->at), one), _mm512_and_si512(taken, _mm512_set1_epi64(7)));
    *lost |= over;
}

/* The next code of each. */
static inline __m512i next_eight(eight_readers *r, __m512i field, __m512i plain, __m512i rest)
{
    const __m512i zeros = _mm512_lzcnt_epi64(r->bits), code = _mm512_sllv_epi64(r->bits, zeros);
    r->bits = _mm512_sllv_epi64(code, field);
    /* the one before the plain bits is theirs still */
    return _mm512_add_epi64(_mm512_srlv_epi64(code, rest), _mm512_sllv_epi64(zeros, plain));
}

/* UNIT numbers of the lanes `which`, in l->numbers. `per` codes are for a filling, and *left are for what is left of
 * the last. Returns the lanes that have them: the others took more bits than a filling has, and are left where they
 * were. */
static unsigned next_unit(lanes *l, unsigned which, int per, int *left)
{
    const __m512i one = _mm512_set1_epi32(1);
    const __m512i lower = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
    const __m512i field0 = _mm512_loadu_si512(l->field), field8 = _mm512_loadu_si512(l->field + 8);
    const __m512i plain0 = _mm512_sub_epi64(field0, _mm512_set1_epi64(1));
    const __m512i plain8 = _mm512_sub_epi64(field8, _mm512_set1_epi64(1));
    const __m512i rest0 = _mm512_sub_epi64(_mm512_set1_epi64(63), plain0);
    const __m512i rest8 = _mm512_sub_epi64(_mm512_set1_epi64(63), plain8);
    const __m512i before = _mm512_sllv_epi32(one, _mm512_permutex2var_epi32(plain0, lower, plain8));
    eight_readers r0 = load_readers(l, 0), r8 = load_readers(l, 8);
    __m512i last = _mm512_loadu_si512(l->last);
    __mmask8 lost0 = 0, lost8 = 0;
    for (int i = 0; i < UNIT;) {
        if (*left == 0) {
            refill_eight(&r0, &lost0);
            refill_eight(&r8, &lost8);
            *left = per;
        }
        for (; i < UNIT && *left > 0; i++, --*left) {
            const __m512i code0 = next_eight(&r0, field0, plain0, rest0);
            const __m512i code8 = next_eight(&r8, field8, plain8, rest8);
            const __m512i code = _mm512_sub_epi32(_mm512_permutex2var_epi32(code0, lower, code8), before);
            const __m512i sign = _mm512_sub_epi32(_mm512_setzero_si512(), _mm512_and_si512(code, one));
            last = _mm512_add_epi32(last, _mm512_xor_si512(_mm512_srli_epi32(code, 1), sign));
            l->numbers[i] = last;
        }
    }
    lost0 |= _mm512_testn_epi64_mask(r0.bits, r0.bits);
    lost8 |= _mm512_testn_epi64_mask(r8.bits, r8.bits);
    which &= ~((unsigned)lost0 | (unsigned)lost8 << 8);
    save_readers(l, 0, r0, which);
    save_readers(l, 8, r8, which);
    _mm512_mask_storeu_epi32(l->last, (__mmask16)which, last);
    return which;
}

/* The numbers of each lane to `offset` bytes from where its first one is; of lanes without numbers, anything. */
static inline INLINED void put_unit_of_lanes(const lanes *l, const int width, size_t offset)
{
    const __m512i *from = l->numbers;
    for (int k = 0; k < width; k++, offset += 16) {
        __m512i words[4], pairs[4];
        for (int i = 0; i < 4; i++, from += 4 / width) {
            words[i] = from[0];
            if (width == 2) {
                words[i] = _mm512_mask_blend_epi16(0xaaaaaaaa, from[0], _mm512_slli_epi32(from[1], 16));
            } else if (width == 1) {
                const __m512i low = _mm512_mask_blend_epi8(0x2222222222222222, from[0], _mm512_slli_epi32(from[1], 8));
                const __m512i high = _mm512_mask_blend_epi8(0x2222222222222222, from[2], _mm512_slli_epi32(from[3], 8));
                words[i] = _mm512_mask_blend_epi16(0xaaaaaaaa, low, _mm512_slli_epi32(high, 16));
            }
        }
        pairs[0] = _mm512_unpacklo_epi32(words[0], words[1]);
        pairs[1] = _mm512_unpackhi_epi32(words[0], words[1]);
        pairs[2] = _mm512_unpacklo_epi32(words[2], words[3]);
        pairs[3] = _mm512_unpackhi_epi32(words[2], words[3]);
        for (int i = 0; i < 4; i++) {
            const __m512i of = i % 2 == 0 ? _mm512_unpacklo_epi64(pairs[i / 2], pairs[i / 2 + 2])
                                          : _mm512_unpackhi_epi64(pairs[i / 2], pairs[i / 2 + 2]);
            _mm_storeu_si128((__m128i *)(l->to[i] + offset), _mm512_castsi512_si128(of));
            _mm_storeu_si128((__m128i *)(l->to[i + 4] + offset), _mm512_extracti32x4_epi32(of, 1));
            _mm_storeu_si128((__m128i *)(l->to[i + 8] + offset), _mm512_extracti32x4_epi32(of, 2));
            _mm_storeu_si128((__m128i *)(l->to[i + 12] + offset), _mm512_extracti32x4_epi32(of, 3));
        }
    }
}

/* Makes each stream so long that a field or a unit can be had without a look at its end: what is left of it at last
 * stands in `tails`, with zeros behind. -1, or the lane of a stream of which more was taken than it has. */
static int mind_ends(lanes *l)
{
    const __mmask8 low = _mm512_cmpgt_epu64_mask(_mm512_loadu_si512(l->at), _mm512_loadu_si512(l->near_end));
    const __mmask8 high = _mm512_cmpgt_epu64_mask(_mm512_loadu_si512(l->at + 8), _mm512_loadu_si512(l->near_end + 8));
    for (unsigned which = (unsigned)low | (unsigned)high << 8; which; which &= which - 1) {
        const int i = __builtin_ctz(which);
        if (l->near_end[i] == (uint64_t)(uintptr_t)l->end[i])
            return i;
        const size_t left = (size_t)(l->end[i] - l->at[i]);
        memcpy(l->tails[i], l->at[i], left);
        l->at[i] = l->tails[i];
        l->end[i] = l->tails[i] + left;
        l->near_end[i] = (uint64_t)(uintptr_t)l->end[i];
    }
    return -1;
}

/* What the fields of the next blocks say. */
typedef struct {
    unsigned coded;   /* lanes whose blocks have codes of zeros and plain bits */
    unsigned longest; /* field of these */
    unsigned wrong;   /* lanes that no encoder writes */
} fields;

static fields take_fields(lanes *l, const kind *k)
{
    const __m128i shift = _mm_cvtsi32_si128(64 - k->coding.field_bits), taken = _mm_cvtsi32_si128(k->coding.field_bits);
    fields found = {0, 0, 0};
    for (int first = 0; first < LANES; first += 8) {
        eight_readers r = load_readers(l, first);
        __mmask8 lost = 0;
        refill_eight(&r, &lost);
        const __m512i field = _mm512_srl_epi64(r.bits, shift);
        r.bits = _mm512_sll_epi64(r.bits, taken);
        save_readers(l, first, r, ~0u);
        _mm512_storeu_si512(l->field + first, field);
        const __m512i plain = _mm512_sub_epi64(field, _mm512_set1_epi64(1));
        const __mmask8 coded = _mm512_cmplt_epu64_mask(plain, _mm512_set1_epi64(k->coding.as_is - 1));
        const unsigned longest = (unsigned)_mm512_mask_reduce_max_epu64(coded, field);
        found.coded |= (unsigned)coded << first;
        found.longest = longest > found.longest ? longest : found.longest;
        found.wrong |= (unsigned)_mm512_cmpgt_epu64_mask(field, _mm512_set1_epi64(k->coding.as_is)) << first;
    }
    return found;
}

/* n numbers, at most UNIT, of the lanes `which`. -1, or a lane whose stream ends before. */
static int decode_lanes_slowly(lanes *l, const kind *k, unsigned which, size_t offset, int n)
{
    for (; which; which &= which - 1) {
        const int i = __builtin_ctz(which);
        decoder d = {{l->at[i], l->end[i], l->bits[i]}, (uint32_t)l->field[i], l->last[i], l->to[i] + offset};
        if (decode_slowly(&d, k, n) != 0)
            return i;
        l->at[i] = d.in.at;
        l->bits[i] = d.in.bits;
        l->last[i] = d.last;
    }
    return -1;
}

/* UNIT numbers of each lane; `per` and *left as for next_unit. -1, or a lane whose stream ends before. */
static int decode_unit_of_lanes(lanes *l, const kind *k, unsigned coded, int per, int *left, size_t offset)
{
    if (coded) {
        coded = next_unit(l, coded, per, left);
        if (k->width == 1)
            put_unit_of_lanes(l, 1, offset);
        else if (k->width == 2)
            put_unit_of_lanes(l, 2, offset);
        else
            put_unit_of_lanes(l, 4, offset);
    }
    return decode_lanes_slowly(l, k, ~coded & ALL_LANES, offset, UNIT);
}

/* As tf_rice_decode, which has begun with the streams. */
static const char *decode_in_lanes(const decoder *decoders, int count, const kind *k, uint64_t block, uint64_t n,
                                   int *bad)
{
    lanes l = {.near_end = {0}};
    size_t offset = 0;
    for (int i = 0; i < LANES; i++) {
        /* lanes that no stream is left for do one once more */
        const decoder *d = &decoders[i % count];
        l.at[i] = d->in.at;
        l.end[i] = d->in.end;
        l.bits[i] = d->in.bits;
        l.near_end[i] = (uint64_t)(uintptr_t)d->in.end - REACH;
        l.last[i] = d->last;
        l.to[i] = d->to;
    }
    for (uint64_t left = n; left > 0;) {
        const uint64_t in_block = left < block ? left : block;
        const int rest = (int)(in_block % UNIT);
        left -= in_block;
        if ((*bad = mind_ends(&l)) >= 0)
            return cut;
        const fields next = take_fields(&l, k);
        if (next.wrong) {
            *bad = __builtin_ctz(next.wrong);
            return no_encoder;
        }
        /* most codes are less than four bits longer than the shortest; those of a star or a bad pixel are not */
        const int longest = (int)next.longest + 4;
        int of_filling = (56 - k->coding.field_bits) / longest;
        for (uint64_t units = in_block / UNIT; units > 0; units--, offset += (size_t)(UNIT * k->width))
            if ((*bad = mind_ends(&l)) >= 0
                || (*bad = decode_unit_of_lanes(&l, k, next.coded, 56 / longest, &of_filling, offset)) >= 0)
                return cut;
        if (rest > 0 && (*bad = decode_lanes_slowly(&l, k, ALL_LANES, offset, rest)) >= 0)
            return cut;
        offset += (size_t)(rest * k->width);
    }
    for (*bad = 0; *bad < count; ++*bad) {
        const reader in = {l.at[*bad], l.end[*bad], l.bits[*bad]};
        if (is_past_end(&in))
            return cut;
    }
    return NULL;
}
