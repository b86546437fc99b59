/* The loops of filter.c over numbers and logicals, written for the compiler to vectorise. Included once per variant,
 * KERNEL(name) naming it. */

/* A loop for two registers, and for a register and a constant on either side. */
#define BINARY(name, result, type, expression)                                                                        \
    static void KERNEL(name)(void *to, const operand *a, const operand *b, size_t n)                                  \
    {                                                                                                                 \
        result *restrict out = to;                                                                                    \
        const type *p = a->at, *q = b->at;                                                                            \
        if (b->constant) {                                                                                            \
            const type y = *q;                                                                                        \
            for (size_t i = 0; i < n; i++) {                                                                          \
                const type x = p[i];                                                                                  \
                out[i] = (result)(expression);                                                                        \
            }                                                                                                         \
        } else if (a->constant) {                                                                                     \
            const type x = *p;                                                                                        \
            for (size_t i = 0; i < n; i++) {                                                                          \
                const type y = q[i];                                                                                  \
                out[i] = (result)(expression);                                                                        \
            }                                                                                                         \
        } else {                                                                                                      \
            for (size_t i = 0; i < n; i++) {                                                                          \
                const type x = p[i], y = q[i];                                                                        \
                out[i] = (result)(expression);                                                                        \
            }                                                                                                         \
        }                                                                                                             \
    }

#define UNARY(name, result, type, expression)                                                                         \
    static void KERNEL(name)(void *to, const operand *a, const operand *b, size_t n)                                  \
    {                                                                                                                 \
        result *restrict out = to;                                                                                    \
        const type *p = a->at;                                                                                        \
        (void)b;                                                                                                      \
        for (size_t i = 0; i < n; i++) {                                                                              \
            const type x = p[i];                                                                                      \
            out[i] = (result)(expression);                                                                            \
        }                                                                                                             \
    }

#define COMPARISONS(letter, type)                                                                                     \
    BINARY(lt_##letter, uint8_t, type, x < y)                                                                         \
    BINARY(le_##letter, uint8_t, type, x <= y)                                                                        \
    BINARY(eq_##letter, uint8_t, type, x == y)

/* Unsigned, since whoever compiles sees to it that nothing overflows, and a wrong program must do no harm. */
#define WHOLE_NUMBERS(letter, type, utype)                                                                            \
    static inline type KERNEL(modulo_##letter)(type x, type y)                                                        \
    {                                                                                                                 \
        const type r = y == 0 || y == -1 ? 0 : x % y;                                                                 \
        return r != 0 && (r < 0) != (y < 0) ? r + y : r;                                                              \
    }                                                                                                                 \
    BINARY(add_##letter, type, type, (utype)x + (utype)y)                                                             \
    BINARY(sub_##letter, type, type, (utype)x - (utype)y)                                                             \
    BINARY(mul_##letter, type, type, (utype)x *(utype)y)                                                              \
    BINARY(mod_##letter, type, type, KERNEL(modulo_##letter)(x, y))                                                   \
    BINARY(min_##letter, type, type, x < y ? x : y)                                                                   \
    BINARY(max_##letter, type, type, x > y ? x : y)                                                                   \
    BINARY(bitand_##letter, type, type, x &y)                                                                         \
    BINARY(bitor_##letter, type, type, x | y)                                                                         \
    BINARY(bitxor_##letter, type, type, x ^ y)                                                                        \
    UNARY(abs_##letter, type, type, x < 0 ? 0 - (utype)x : (utype)x)

BINARY(and_b, uint8_t, uint8_t, x &y)
BINARY(or_b, uint8_t, uint8_t, x | y)
BINARY(xor_b, uint8_t, uint8_t, x ^ y)
BINARY(andnot_b, uint8_t, uint8_t, x & (y ^ 1))
UNARY(not_b, uint8_t, uint8_t, x ^ 1)

static void KERNEL(fill_b)(void *to, const operand *a, const operand *b, size_t n)
{
    (void)b;
    memset(to, *(const uint8_t *)a->at, n);
}

COMPARISONS(i, int64_t)
COMPARISONS(u, uint64_t)
COMPARISONS(w, wide)
COMPARISONS(d, double)

WHOLE_NUMBERS(i, int64_t, uint64_t)
WHOLE_NUMBERS(w, wide, uwide)

UNARY(i_to_w, wide, int64_t, x)
UNARY(u_to_w, wide, uint64_t, x)
UNARY(i_to_d, double, int64_t, x)
UNARY(u_to_d, double, uint64_t, x)
UNARY(w_to_d, double, wide, x)

/* the sign is the divisor's, as for integers */
static inline double KERNEL(modulo_d)(double x, double y)
{
    const double r = fmod(x, y);
    return r != 0 && (r < 0) != (y < 0) ? r + y : r;
}

BINARY(add_d, double, double, x + y)
BINARY(sub_d, double, double, x - y)
BINARY(mul_d, double, double, x *y)
BINARY(div_d, double, double, x / y)
BINARY(mod_d, double, double, KERNEL(modulo_d)(x, y))
BINARY(pow_d, double, double, pow(x, y))
BINARY(min_d, double, double, x < y || x != x ? x : y)
BINARY(max_d, double, double, x > y || x != x ? x : y)
BINARY(atan2_d, double, double, atan2(x, y))
BINARY(hypot_d, double, double, hypot(x, y))
UNARY(abs_d, double, double, fabs(x))
UNARY(sqrt_d, double, double, sqrt(x))
UNARY(exp_d, double, double, exp(x))
UNARY(log_d, double, double, log(x))
UNARY(log2_d, double, double, log2(x))
UNARY(log10_d, double, double, log10(x))
UNARY(sin_d, double, double, sin(x))
UNARY(cos_d, double, double, cos(x))
UNARY(tan_d, double, double, tan(x))
UNARY(asin_d, double, double, asin(x))
UNARY(acos_d, double, double, acos(x))
UNARY(atan_d, double, double, atan(x))
UNARY(sinh_d, double, double, sinh(x))
UNARY(cosh_d, double, double, cosh(x))
UNARY(tanh_d, double, double, tanh(x))
UNARY(floor_d, double, double, floor(x))
UNARY(ceil_d, double, double, ceil(x))
UNARY(round_d, double, double, rint(x))

/* Integers against reals, exactly: what holds where the real is below all integers, above all, or among them. No
 * comparison with NaN is true. */
#define MIXED(name, left, right, real, below, above, inside)                                                          \
    static void KERNEL(name)(void *to, const operand *a, const operand *b, size_t n)                                  \
    {                                                                                                                 \
        uint8_t *restrict out = to;                                                                                   \
        const left *p = a->at;                                                                                        \
        const right *q = b->at;                                                                                       \
        const size_t a_step = !a->constant, b_step = !b->constant;                                                    \
        for (size_t i = 0; i < n; i++) {                                                                              \
            const left x = p[i * a_step];                                                                             \
            const right y = q[i * b_step];                                                                            \
            out[i] = real >= TOP ? (above) : real < -TOP ? (below) : real == real ? (inside) : 0;                     \
        }                                                                                                             \
    }

MIXED(lt_wd, wide, double, y, 0, 1, x < (wide)ceil(y))
MIXED(le_wd, wide, double, y, 0, 1, x <= (wide)floor(y))
MIXED(eq_wd, wide, double, y, 0, 0, y == floor(y) && x == (wide)y)
MIXED(lt_dw, double, wide, x, 1, 0, (wide)floor(x) < y)
MIXED(le_dw, double, wide, x, 1, 0, (wide)ceil(x) <= y)

/* Whether x is one of a set of numbers in rising order. */
#define MEMBER(name, type)                                                                                            \
    static void KERNEL(name)(void *to, const operand *a, const operand *b, size_t n)                                  \
    {                                                                                                                 \
        uint8_t *restrict out = to;                                                                                   \
        const type *p = a->at, *set = b->at;                                                                          \
        const size_t count = (size_t)b->count;                                                                        \
        if (count <= SMALL_SET) {                                                                                     \
            memset(out, 0, n);                                                                                        \
            for (size_t k = 0; k < count; k++) {                                                                      \
                const type y = set[k];                                                                                \
                for (size_t i = 0; i < n; i++)                                                                        \
                    out[i] |= p[i] == y;                                                                              \
            }                                                                                                         \
            return;                                                                                                   \
        }                                                                                                             \
        for (size_t i = 0; i < n; i++) {                                                                              \
            const type *low = set;                                                                                    \
            for (size_t left = count; left > 1; left -= left / 2)                                                     \
                low += p[i] < low[left / 2] ? 0 : left / 2;                                                           \
            out[i] = p[i] == *low;                                                                                    \
        }                                                                                                             \
    }

MEMBER(in_i, int64_t)
MEMBER(in_u, uint64_t)
MEMBER(in_d, double)

#undef BINARY
#undef UNARY
#undef COMPARISONS
#undef WHOLE_NUMBERS
#undef MIXED
#undef MEMBER
