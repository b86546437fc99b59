#include "dither.h"

#include <pthread.h>

static float table[TF_RANDOM_NUMBERS];
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* Park and Miller's generator; its last seed here is 1043618065. */
static void fill_table(void)
{
    const uint64_t modulus = 2147483647;
    uint64_t seed = 1;
    for (int i = 0; i < TF_RANDOM_NUMBERS; i++) {
        seed = 16807 * seed % modulus;
        table[i] = (float)((double)seed / (double)modulus);
    }
}

static void begin_at(tf_dither *dither, int start)
{
    dither->start = start;
    dither->next = (int)(dither->numbers[start] * 500);
}

tf_dither tf_dither_begin(int64_t zdither0, int64_t tile)
{
    const int64_t count = TF_RANDOM_NUMBERS;
    tf_dither dither = {table, 0, 0};
    pthread_once(&once, fill_table);
    begin_at(&dither, (int)((zdither0 % count + tile % count + 2 * count - 1) % count));
    return dither;
}

const float *tf_dither_take(tf_dither *dither, size_t *n)
{
    const float *numbers = dither->numbers + dither->next;
    const size_t left = (size_t)(TF_RANDOM_NUMBERS - dither->next);
    if (*n < left) {
        dither->next += (int)*n;
    } else {
        *n = left;
        begin_at(dither, (dither->start + 1) % TF_RANDOM_NUMBERS);
    }
    return numbers;
}
