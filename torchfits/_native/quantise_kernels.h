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

/* Those that are no null lie between limits that were checked. */
static void NAME(quantise)(int32_t *restrict numbers, const void *pixels, const float *restrict random, size_t n,
                           const tf_quantisation *q)
{
    const REAL *restrict reals = pixels;
    const int method = q->method, nulls = q->has_blank;
    const double scale = q->scale, zero = q->zero;
    for (size_t i = 0; i < n; i++) {
        const REAL real = reals[i];
        double steps = ((double)real - zero) / scale;
        if (method != TF_NO_DITHER)
            steps = steps + random[i] - 0.5;
        if (nulls)
            steps = real == real ? steps : 0;
        int32_t number = (int32_t)(steps >= 0 ? steps + 0.5 : steps - 0.5);
        if (method == TF_SUBTRACTIVE_DITHER_2)
            number = real == 0 ? ZERO_NUMBER : number;
        if (nulls)
            number = real == real ? number : TF_ZBLANK;
        numbers[i] = number;
    }
}
