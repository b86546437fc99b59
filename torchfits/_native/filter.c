#include "filter.h"

#include <math.h>
#include <string.h>

#define PIECE TF_FILTER_PIECE
/* sets of so many numbers are compared one by one, which vectorises */
#define SMALL_SET 8

typedef __int128 wide;
typedef unsigned __int128 uwide;

typedef struct {
    const void *at;
    int constant;
    int64_t width, count;
} operand;

typedef void kernel(void *to, const operand *a, const operand *b, size_t n);

/* ---------------------------------------------------------------------------- numbers and logicals */

/* A loop for two registers, and for a register and a constant on either side. */
#define BINARY(name, result, type, expression)                                                                        \
    static void name(void *to, const operand *a, const operand *b, size_t n)                                          \
    {                                                                                                                  \
        result *restrict out = to;                                                                                     \
        const type *p = a->at, *q = b->at;                                                                             \
        if (b->constant) {                                                                                             \
            const type y = *q;                                                                                         \
            for (size_t i = 0; i < n; i++) {                                                                           \
                const type x = p[i];                                                                                   \
                out[i] = (result)(expression);                                                                         \
            }                                                                                                          \
        } else if (a->constant) {                                                                                      \
            const type x = *p;                                                                                         \
            for (size_t i = 0; i < n; i++) {                                                                           \
                const type y = q[i];                                                                                   \
                out[i] = (result)(expression);                                                                         \
            }                                                                                                          \
        } else {                                                                                                       \
            for (size_t i = 0; i < n; i++) {                                                                           \
                const type x = p[i], y = q[i];                                                                         \
                out[i] = (result)(expression);                                                                         \
            }                                                                                                          \
        }                                                                                                              \
    }

#define UNARY(name, result, type, expression)                                                                         \
    static void name(void *to, const operand *a, const operand *b, size_t n)                                          \
    {                                                                                                                  \
        result *restrict out = to;                                                                                     \
        const type *p = a->at;                                                                                         \
        (void)b;                                                                                                       \
        for (size_t i = 0; i < n; i++) {                                                                               \
            const type x = p[i];                                                                                       \
            out[i] = (result)(expression);                                                                             \
        }                                                                                                              \
    }

#define COMPARISONS(letter, type)                                                                                     \
    BINARY(lt_##letter, uint8_t, type, x < y)                                                                          \
    BINARY(le_##letter, uint8_t, type, x <= y)                                                                         \
    BINARY(eq_##letter, uint8_t, type, x == y)

/* Unsigned, since whoever compiles sees to it that nothing overflows, and a wrong program must do no harm. */
#define WHOLE_NUMBERS(letter, type, utype)                                                                            \
    static inline type modulo_##letter(type x, type y)                                                                \
    {                                                                                                                  \
        const type r = y == 0 || y == -1 ? 0 : x % y;                                                                  \
        return r != 0 && (r < 0) != (y < 0) ? r + y : r;                                                               \
    }                                                                                                                  \
    BINARY(add_##letter, type, type, (utype)x + (utype)y)                                                              \
    BINARY(sub_##letter, type, type, (utype)x - (utype)y)                                                              \
    BINARY(mul_##letter, type, type, (utype)x *(utype)y)                                                               \
    BINARY(mod_##letter, type, type, modulo_##letter(x, y))                                                            \
    BINARY(min_##letter, type, type, x < y ? x : y)                                                                    \
    BINARY(max_##letter, type, type, x > y ? x : y)                                                                    \
    BINARY(bitand_##letter, type, type, x &y)                                                                          \
    BINARY(bitor_##letter, type, type, x | y)                                                                          \
    BINARY(bitxor_##letter, type, type, x ^ y)                                                                         \
    UNARY(abs_##letter, type, type, x < 0 ? 0 - (utype)x : (utype)x)

BINARY(and_b, uint8_t, uint8_t, x &y)
BINARY(or_b, uint8_t, uint8_t, x | y)
BINARY(xor_b, uint8_t, uint8_t, x ^ y)
BINARY(andnot_b, uint8_t, uint8_t, x & (y ^ 1))
UNARY(not_b, uint8_t, uint8_t, x ^ 1)

static void fill_b(void *to, const operand *a, const operand *b, size_t n)
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
static inline double modulo_d(double x, double y)
{
    const double r = fmod(x, y);
    return r != 0 && (r < 0) != (y < 0) ? r + y : r;
}

BINARY(add_d, double, double, x + y)
BINARY(sub_d, double, double, x - y)
BINARY(mul_d, double, double, x *y)
BINARY(div_d, double, double, x / y)
BINARY(mod_d, double, double, modulo_d(x, y))
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

/* Integers against reals, exactly. `INSIDE` reals are within the integers' range; no comparison with NaN is true. */
#define TOP 0x1p127
#define MIXED(name, left, right, real, below, above, inside)                                                          \
    static void name(void *to, const operand *a, const operand *b, size_t n)                                          \
    {                                                                                                                  \
        uint8_t *restrict out = to;                                                                                    \
        const left *p = a->at;                                                                                         \
        const right *q = b->at;                                                                                        \
        const size_t a_step = !a->constant, b_step = !b->constant;                                                     \
        for (size_t i = 0; i < n; i++) {                                                                               \
            const left x = p[i * a_step];                                                                              \
            const right y = q[i * b_step];                                                                             \
            out[i] = real >= TOP ? (above) : real < -TOP ? (below) : real == real ? (inside) : 0;                      \
        }                                                                                                              \
    }

MIXED(lt_wd, wide, double, y, 0, 1, x < (wide)ceil(y))
MIXED(le_wd, wide, double, y, 0, 1, x <= (wide)floor(y))
MIXED(eq_wd, wide, double, y, 0, 0, y == floor(y) && x == (wide)y)
MIXED(lt_dw, double, wide, x, 1, 0, (wide)floor(x) < y)
MIXED(le_dw, double, wide, x, 1, 0, (wide)ceil(x) <= y)

/* Whether x is one of a set of numbers in rising order. */
#define MEMBER(name, type)                                                                                            \
    static void name(void *to, const operand *a, const operand *b, size_t n)                                          \
    {                                                                                                                  \
        uint8_t *restrict out = to;                                                                                    \
        const type *p = a->at, *set = b->at;                                                                           \
        const size_t count = (size_t)b->count;                                                                         \
        if (count <= SMALL_SET) {                                                                                      \
            memset(out, 0, n);                                                                                         \
            for (size_t k = 0; k < count; k++) {                                                                       \
                const type y = set[k];                                                                                 \
                for (size_t i = 0; i < n; i++)                                                                         \
                    out[i] |= p[i] == y;                                                                               \
            }                                                                                                          \
            return;                                                                                                    \
        }                                                                                                              \
        for (size_t i = 0; i < n; i++) {                                                                               \
            const type *low = set;                                                                                     \
            for (size_t left = count; left > 1; left -= left / 2)                                                      \
                low += p[i] < low[left / 2] ? 0 : left / 2;                                                            \
            out[i] = p[i] == *low;                                                                                     \
        }                                                                                                              \
    }

MEMBER(in_i, int64_t)
MEMBER(in_u, uint64_t)
MEMBER(in_d, double)

/* ---------------------------------------------------------------------------- texts */

typedef struct {
    const uint8_t *at;
    size_t length;
} text;

static text cell_text(const operand *o, size_t i)
{
    text t = {(const uint8_t *)o->at + i * (size_t)o->width, (size_t)o->width};
    const uint8_t *end = t.length ? memchr(t.at, 0, t.length) : NULL;
    if (end)
        t.length = (size_t)(end - t.at);
    while (t.length && t.at[t.length - 1] == ' ')
        t.length--;
    return t;
}

/* The offsets count from the constants' first byte, which lies `at` bytes before those of the register. */
static text constant_text(const operand *o, size_t k)
{
    const int64_t *offsets = o->at;
    const uint8_t *constants = (const uint8_t *)o->at - o->width;
    return (text){constants + offsets[k], (size_t)(offsets[k + 1] - offsets[k])};
}

static int compare(text x, text y)
{
    const size_t shorter = x.length < y.length ? x.length : y.length;
    const int order = shorter ? memcmp(x.at, y.at, shorter) : 0;
    return order ? order : (x.length > y.length) - (x.length < y.length);
}

#define TEXTS(name, condition)                                                                                        \
    static void name(void *to, const operand *a, const operand *b, size_t n)                                          \
    {                                                                                                                  \
        uint8_t *restrict out = to;                                                                                    \
        for (size_t i = 0; i < n; i++) {                                                                               \
            const text x = a->constant ? constant_text(a, 0) : cell_text(a, i);                                        \
            const text y = b->constant ? constant_text(b, 0) : cell_text(b, i);                                        \
            out[i] = compare(x, y) condition 0;                                                                        \
        }                                                                                                              \
    }

TEXTS(lt_s, <)
TEXTS(le_s, <=)
TEXTS(eq_cells, ==)

/* A constant ends in no blank and holds no NUL: what follows it in the cell must be blanks, to the end or to a NUL. */
static void eq_s(void *to, const operand *a, const operand *b, size_t n)
{
    uint8_t *restrict out = to;
    if (!b->constant) {
        if (a->constant)
            eq_s(to, b, a, n);
        else
            eq_cells(to, a, b, n);
        return;
    }
    const text y = constant_text(b, 0);
    const size_t width = (size_t)a->width;
    if (y.length > width) {
        memset(out, 0, n);
        return;
    }
    const uint8_t *cell = a->at;
    for (size_t i = 0; i < n; i++, cell += width) {
        size_t k = y.length;
        out[i] = 0;
        if (k && (cell[0] != y.at[0] || memcmp(cell, y.at, k) != 0))
            continue;
        while (k < width && cell[k] == ' ')
            k++;
        out[i] = k == width || cell[k] == 0;
    }
}

static void in_s(void *to, const operand *a, const operand *b, size_t n)
{
    uint8_t *restrict out = to;
    for (size_t i = 0; i < n; i++) {
        const text x = cell_text(a, i);
        size_t low = 0;
        for (size_t left = (size_t)b->count; left > 1; left -= left / 2)
            low += compare(x, constant_text(b, low + left / 2)) < 0 ? 0 : left / 2;
        out[i] = compare(x, constant_text(b, low)) == 0;
    }
}

/* ---------------------------------------------------------------------------- programs */

static const struct {
    const char *name, *types; /* of the result and the operands */
    kernel *run;
} operations[] = {
    {"and_b", "bbb", and_b},     {"or_b", "bbb", or_b},       {"xor_b", "bbb", xor_b},     {"andnot_b", "bbb", andnot_b},
    {"not_b", "bb", not_b},      {"fill_b", "bb", fill_b},    {"lt_i", "bii", lt_i},       {"le_i", "bii", le_i},
    {"eq_i", "bii", eq_i},       {"lt_u", "buu", lt_u},       {"le_u", "buu", le_u},       {"eq_u", "buu", eq_u},
    {"lt_w", "bww", lt_w},       {"le_w", "bww", le_w},       {"eq_w", "bww", eq_w},       {"lt_d", "bdd", lt_d},
    {"le_d", "bdd", le_d},       {"eq_d", "bdd", eq_d},       {"lt_s", "bss", lt_s},       {"le_s", "bss", le_s},
    {"eq_s", "bss", eq_s},       {"lt_wd", "bwd", lt_wd},     {"le_wd", "bwd", le_wd},     {"eq_wd", "bwd", eq_wd},
    {"lt_dw", "bdw", lt_dw},     {"le_dw", "bdw", le_dw},     {"in_i", "bii", in_i},       {"in_u", "buu", in_u},
    {"in_d", "bdd", in_d},       {"in_s", "bss", in_s},       {"i_to_w", "wi", i_to_w},    {"u_to_w", "wu", u_to_w},
    {"i_to_d", "di", i_to_d},    {"u_to_d", "du", u_to_d},    {"w_to_d", "dw", w_to_d},    {"add_i", "iii", add_i},
    {"sub_i", "iii", sub_i},     {"mul_i", "iii", mul_i},     {"mod_i", "iii", mod_i},     {"min_i", "iii", min_i},
    {"max_i", "iii", max_i},     {"bitand_i", "iii", bitand_i}, {"bitor_i", "iii", bitor_i}, {"bitxor_i", "iii", bitxor_i},
    {"abs_i", "ii", abs_i},      {"add_w", "www", add_w},     {"sub_w", "www", sub_w},     {"mul_w", "www", mul_w},
    {"mod_w", "www", mod_w},     {"min_w", "www", min_w},     {"max_w", "www", max_w},     {"bitand_w", "www", bitand_w},
    {"bitor_w", "www", bitor_w}, {"bitxor_w", "www", bitxor_w}, {"abs_w", "ww", abs_w},    {"add_d", "ddd", add_d},
    {"sub_d", "ddd", sub_d},     {"mul_d", "ddd", mul_d},     {"div_d", "ddd", div_d},     {"mod_d", "ddd", mod_d},
    {"pow_d", "ddd", pow_d},     {"min_d", "ddd", min_d},     {"max_d", "ddd", max_d},     {"atan2_d", "ddd", atan2_d},
    {"hypot_d", "ddd", hypot_d}, {"abs_d", "dd", abs_d},      {"sqrt_d", "dd", sqrt_d},    {"exp_d", "dd", exp_d},
    {"log_d", "dd", log_d},      {"log2_d", "dd", log2_d},    {"log10_d", "dd", log10_d},  {"sin_d", "dd", sin_d},
    {"cos_d", "dd", cos_d},      {"tan_d", "dd", tan_d},      {"asin_d", "dd", asin_d},    {"acos_d", "dd", acos_d},
    {"atan_d", "dd", atan_d},    {"sinh_d", "dd", sinh_d},    {"cosh_d", "dd", cosh_d},    {"tanh_d", "dd", tanh_d},
    {"floor_d", "dd", floor_d},  {"ceil_d", "dd", ceil_d},    {"round_d", "dd", round_d},
};
#define OPERATIONS ((int32_t)(sizeof operations / sizeof *operations))

const char *tf_filter_operation(int i, const char **types)
{
    if (i < 0 || i >= OPERATIONS)
        return NULL;
    *types = operations[i].types;
    return operations[i].name;
}

int64_t tf_filter_width(char type)
{
    return type == 'b' ? 1 : type == 'i' || type == 'u' || type == 'd' ? 8 : type == 'w' ? 16 : 0;
}

static int takes_set(const char *name)
{
    return name[0] == 'i' && name[1] == 'n';
}

static int is_within(int64_t at, int64_t size, int64_t all)
{
    return at >= 0 && size >= 0 && at <= all && size <= all - at;
}

static int register_is_sound(const tf_filter *f, const tf_register *r)
{
    if (r->type == 's') {
        if (r->place == TF_IN_VALUES)
            return r->width >= 0 && is_within(r->at, 1, f->input_count);
        const int64_t *offsets = (const int64_t *)(f->constants + r->at);
        if (r->place != TF_IN_CONSTANTS || r->count < 1 || r->count > f->constant_bytes || r->at % 16 != 0
            || !is_within(r->at, (r->count + 1) * 8, f->constant_bytes))
            return 0;
        for (int64_t k = 0; k < r->count; k++)
            if (offsets[k] > offsets[k + 1] || !is_within(offsets[k], 0, f->constant_bytes)
                || offsets[k + 1] > f->constant_bytes)
                return 0;
        return 1;
    }
    const int64_t width = tf_filter_width(r->type);
    if (!width || width != r->width)
        return 0;
    switch (r->place) {
    case TF_IN_VALUES:
        return r->type != 'w' && is_within(r->at, 1, f->input_count);
    case TF_IN_NULLS:
        return r->type == 'b' && is_within(r->at, 1, f->input_count);
    case TF_IN_CONSTANTS:
        return r->count >= 1 && r->count <= f->constant_bytes && r->at % 16 == 0
               && is_within(r->at, width * r->count, f->constant_bytes);
    case TF_IN_SCRATCH:
        return r->at % 16 == 0 && is_within(r->at, width * PIECE, f->scratch_bytes);
    case TF_IN_KEEP:
        return r->type == 'b';
    }
    return 0;
}

static int is_readable(const tf_register *r)
{
    return r->place != TF_IN_KEEP && (r->place != TF_IN_SCRATCH || r->written);
}

static int instruction_is_sound(const tf_filter *f, const tf_instruction *in)
{
    if (in->operation < 0 || in->operation >= OPERATIONS)
        return 0;
    const char *types = operations[in->operation].types, *name = operations[in->operation].name;
    if (!is_within(in->to, 1, f->register_count) || !is_within(in->a, 1, f->register_count))
        return 0;
    const tf_register *to = &f->registers[in->to], *a = &f->registers[in->a];
    const int a_constant = a->place == TF_IN_CONSTANTS;
    if (to->place < TF_IN_SCRATCH || to->type != types[0] || a->type != types[1] || in->to == in->a
        || (a_constant && a->count != 1) || !is_readable(a))
        return 0;
    if (!types[2])
        return in->b == -1 && a_constant == (strcmp(name, "fill_b") == 0);
    if (!is_within(in->b, 1, f->register_count) || in->to == in->b)
        return 0;
    const tf_register *b = &f->registers[in->b];
    const int b_constant = b->place == TF_IN_CONSTANTS;
    if (b->type != types[2] || (a_constant && b_constant) || !is_readable(b))
        return 0;
    return takes_set(name) ? b_constant : !b_constant || b->count == 1;
}

int tf_filter_check(tf_filter *filter)
{
    for (int32_t i = 0; i < filter->register_count; i++)
        if (!register_is_sound(filter, &filter->registers[i]))
            return -1;
    for (int32_t i = 0; i < filter->length; i++) {
        if (!instruction_is_sound(filter, &filter->program[i]))
            return -1;
        filter->registers[filter->program[i].to].written = 1;
    }
    const int32_t last = filter->length - 1;
    return last >= 0 && filter->registers[filter->program[last].to].place == TF_IN_KEEP ? 0 : -1;
}

size_t tf_filter_scratch_bytes(const tf_filter *filter)
{
    return (size_t)filter->scratch_bytes + 64; /* to align it */
}

static operand operand_of(const tf_register *r, const tf_filter *filter, const void *const *values,
                          const uint8_t *const *nulls, int64_t first, uint8_t *scratch)
{
    static const uint8_t no_nulls[PIECE];
    operand o = {scratch + r->at, 0, r->width, r->count};
    switch (r->place) {
    case TF_IN_VALUES:
        o.at = (const uint8_t *)values[r->at] + first * r->width;
        break;
    case TF_IN_NULLS:
        o.at = nulls[r->at] ? nulls[r->at] + first : no_nulls;
        break;
    case TF_IN_CONSTANTS:
        o.at = filter->constants + r->at;
        o.constant = 1;
        if (r->type == 's')
            o.width = r->at;
        break;
    default:
        break;
    }
    return o;
}

void tf_filter_run(const tf_filter *filter, const void *const *values, const uint8_t *const *nulls, int64_t n,
                   void *scratch, uint8_t *keep)
{
    uint8_t *aligned = (uint8_t *)(((uintptr_t)scratch + 63) & ~(uintptr_t)63);
    for (int64_t first = 0; first < n; first += PIECE) {
        const size_t count = (size_t)(n - first < PIECE ? n - first : PIECE);
        for (int32_t i = 0; i < filter->length; i++) {
            const tf_instruction *in = &filter->program[i];
            const tf_register *to = &filter->registers[in->to];
            const operand a = operand_of(&filter->registers[in->a], filter, values, nulls, first, aligned);
            const operand b = operand_of(&filter->registers[in->b < 0 ? in->a : in->b], filter, values, nulls, first,
                                         aligned);
            operations[in->operation].run(to->place == TF_IN_KEEP ? keep + first : aligned + to->at, &a, &b, count);
        }
    }
}
