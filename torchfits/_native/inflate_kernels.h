/* The loops of inflate.c. Included once per variant, KERNEL(name) naming it. */

/* The units of a block with these codes, up to its end. */
static inline INLINED tf_blocks KERNEL(decode)(reader *in, const codes *c, result *made, const size_t width)
{
    reader r = *in;
    uint8_t *out = made->at;
    tf_blocks state = TF_BLOCKS_FULL;

    refill(&r);
    uint32_t e = c->literals[first_bits(&r, LITERAL_BITS)];
    while (out <= made->full) {
        /* two of the table itself take 22 of 56 bits; what comes then, 20 */
        if (e & LITERAL) {
            skip(&r, e);
            put(&out, e >> 16, width);
            e = c->literals[first_bits(&r, LITERAL_BITS)];
            if (e & LITERAL) {
                skip(&r, e);
                put(&out, e >> 16, width);
                e = c->literals[first_bits(&r, LITERAL_BITS)];
            }
        }
        if (e & LONGER)
            e = c->literals[(e >> 16) + (first_bits(&r, LONGEST_CODE) >> LITERAL_BITS)];
        if (e & LITERAL) {
            skip(&r, e);
            put(&out, e >> 16, width);
            refill(&r);
            e = c->literals[first_bits(&r, LITERAL_BITS)];
            continue;
        }
        if (e & (END | NOTHING)) {
            skip(&r, e);
            state = e & END ? TF_BLOCKS_STOPPED : TF_BLOCKS_BAD;
            break;
        }
        const size_t length = take_value(&r, e);
        refill(&r);
        uint32_t d = c->distances[first_bits(&r, DISTANCE_BITS)];
        if (d & LONGER)
            d = c->distances[(d >> 16) + (first_bits(&r, LONGEST_CODE) >> DISTANCE_BITS)];
        const size_t distance = take_value(&r, d);
        if (d & NOTHING || distance > made->known + (size_t)(out - made->start) / width) {
            state = TF_BLOCKS_BAD;
            break;
        }
        refill(&r);
        e = c->literals[first_bits(&r, LITERAL_BITS)];
        repeat(out, distance * width, length * width, width);
        out += length * width;
    }
    *in = r;
    made->at = out;
    return state;
}

static tf_blocks KERNEL(decode_bytes)(reader *in, const codes *c, result *made)
{
    return KERNEL(decode)(in, c, made, 1);
}

static tf_blocks KERNEL(decode_pairs)(reader *in, const codes *c, result *made)
{
    return KERNEL(decode)(in, c, made, 2);
}

static void KERNEL(resolve)(const uint16_t *units, size_t n, const uint8_t *bytes, uint8_t *to)
{
    const size_t together = 64;
    size_t i = 0;
    for (; i + together <= n; i += together) {
        uint16_t any = 0;
        for (size_t k = 0; k < together; k++)
            any |= units[i + k];
        if (any & TF_INFLATE_UNKNOWN)
            for (size_t k = 0; k < together; k++)
                to[i + k] = bytes[units[i + k]];
        else
            for (size_t k = 0; k < together; k++)
                to[i + k] = (uint8_t)units[i + k];
    }
    for (; i < n; i++)
        to[i] = bytes[units[i]];
}
