/* The loops of quantise.c, written for the compiler to vectorise. Included for each variant and each type REAL;
 * NAME(name) is the name then. What does not change in a loop is asked in it: compilers make a loop of each answer. */

static void NAME(dequantise)(void *to, const int32_t *restrict numbers, const float *restrict random, size_t n,
                             const tf_quantisation *q)
{
    REAL *restrict reals = to;
    const int method = q->method, nulls = q->has_blank;
    const double scale = q->scale, zero = q->zero;
    const int32_t blank = (int32_t)q->blank;
    for (size_t i = 0; i < n; i++) {
        const double number = method == TF_NO_DITHER ? numbers[i] : (double)numbers[i] - random[i] + 0.5;
        REAL real = (REAL)(number * scale + zero);
        if (method == TF_SUBTRACTIVE_DITHER_2)
            real = numbers[i] == ZERO_NUMBER ? 0 : real;
        if (nulls)
            real = numbers[i] == blank ? (REAL)NAN : real;
        reals[i] = real;
    }
}

/* At most PIECE pixels. Those that are no NaN become integers of 32 bits: that was checked. */
static void NAME(quantise)(int32_t *restrict numbers, const void *pixels, const float *restrict random, size_t n,
                           const tf_quantisation *q)
{
    const REAL *restrict reals = pixels;
    const double scale = q->scale, zero = q->zero;
    double steps[PIECE];
    for (size_t i = 0; i < n; i++)
        steps[i] = (reals[i] - zero) / scale;
    if (q->method != TF_NO_DITHER)
        for (size_t i = 0; i < n; i++)
            steps[i] = steps[i] + random[i] - 0.5;
    if (q->has_blank)
        for (size_t i = 0; i < n; i++)
            steps[i] = reals[i] == reals[i] ? steps[i] : 0;
    for (size_t i = 0; i < n; i++)
        numbers[i] = (int32_t)(steps[i] + copysign(0.5, steps[i]));
    if (q->method == TF_SUBTRACTIVE_DITHER_2)
        for (size_t i = 0; i < n; i++)
            numbers[i] = reals[i] == 0 ? ZERO_NUMBER : numbers[i];
    if (q->has_blank)
        for (size_t i = 0; i < n; i++)
            numbers[i] = reals[i] == reals[i] ? numbers[i] : TF_ZBLANK;
}
