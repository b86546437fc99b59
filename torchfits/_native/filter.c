#include "filter.h"

#include <math.h>
#include <string.h>

#include "pixels.h"

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

#define TOP 0x1p127 /* of the integers; a real that reaches it is beyond them */

#define KERNELS "filter_kernels.h"
#include "variants.h"

/* ---------------------------------------------------------------------------- texts */

typedef struct {
    const uint8_t *at;
    size_t length;
} text;

/* Constants are texts as cells are. Their offsets count from the first of all constants. */
static text text_at(const operand *o, size_t i)
{
    if (!o->constant)
        return (text){(const uint8_t *)o->at + i * (size_t)o->width, (size_t)o->width};
    const int64_t *offsets = o->at;
    const uint8_t *constants = (const uint8_t *)o->at - o->width;
    return (text){constants + offsets[i], (size_t)(offsets[i + 1] - offsets[i])};
}

/* Whether nothing that counts is left of a text from byte k on. */
static inline int ends(text x, size_t k)
{
    while (k < x.length && x.at[k] == ' ')
        k++;
    return k == x.length || x.at[k] == 0;
}

static inline int compare(text x, text y)
{
    const size_t shorter = x.length < y.length ? x.length : y.length;
    size_t k = 0;
    while (k < shorter && x.at[k] == y.at[k] && x.at[k])
        k++;
    const int x_ends = ends(x, k), y_ends = ends(y, k);
    return x_ends || y_ends ? y_ends - x_ends : x.at[k] - y.at[k];
}

#define COMPARE_TEXTS(name, sign)                                                                                     \
    static void name(void *to, const operand *a, const operand *b, size_t n)                                          \
    {                                                                                                                 \
        uint8_t *restrict out = to;                                                                                   \
        const size_t a_step = !a->constant, b_step = !b->constant;                                                    \
        for (size_t i = 0; i < n; i++)                                                                                \
            out[i] = compare(text_at(a, i * a_step), text_at(b, i * b_step)) sign 0;                                  \
    }

COMPARE_TEXTS(lt_s, <)
COMPARE_TEXTS(le_s, <=)
COMPARE_TEXTS(eq_cells, ==)

/* A constant ends in no blank and holds no NUL: most cells are told from it by a word or two. */
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
    const text y = text_at(b, 0);
    for (size_t i = 0; i < n; i++) {
        const text x = text_at(a, i);
        out[i] = x.length >= y.length && memcmp(x.at, y.at, y.length) == 0 && ends(x, y.length);
    }
}

static void in_s(void *to, const operand *a, const operand *b, size_t n)
{
    uint8_t *restrict out = to;
    for (size_t i = 0; i < n; i++) {
        const text x = text_at(a, i);
        size_t low = 0;
        for (size_t left = (size_t)b->count; left > 1; left -= left / 2)
            low += compare(x, text_at(b, low + left / 2)) < 0 ? 0 : left / 2;
        out[i] = compare(x, text_at(b, low)) == 0;
    }
}

/* ---------------------------------------------------------------------------- programs */

/* Name and types, of the result and the operands. */
#define NUMBER_OPERATIONS(OP)                                                                                         \
    OP(and_b, bbb) OP(or_b, bbb) OP(xor_b, bbb) OP(andnot_b, bbb) OP(not_b, bb) OP(fill_b, bb) OP(lt_i, bii)          \
    OP(le_i, bii) OP(eq_i, bii) OP(lt_u, buu) OP(le_u, buu) OP(eq_u, buu) OP(lt_w, bww) OP(le_w, bww) OP(eq_w, bww)   \
    OP(lt_d, bdd) OP(le_d, bdd) OP(eq_d, bdd) OP(lt_wd, bwd) OP(le_wd, bwd) OP(eq_wd, bwd) OP(lt_dw, bdw)             \
    OP(le_dw, bdw) OP(in_i, bii) OP(in_u, buu) OP(in_d, bdd) OP(i_to_w, wi) OP(u_to_w, wu) OP(i_to_d, di)             \
    OP(u_to_d, du) OP(w_to_d, dw) OP(add_i, iii) OP(sub_i, iii) OP(mul_i, iii) OP(mod_i, iii) OP(min_i, iii)          \
    OP(max_i, iii) OP(bitand_i, iii) OP(bitor_i, iii) OP(bitxor_i, iii) OP(abs_i, ii) OP(add_w, www) OP(sub_w, www)   \
    OP(mul_w, www) OP(mod_w, www) OP(min_w, www) OP(max_w, www) OP(bitand_w, www) OP(bitor_w, www) OP(bitxor_w, www)  \
    OP(abs_w, ww) OP(add_d, ddd) OP(sub_d, ddd) OP(mul_d, ddd) OP(div_d, ddd) OP(mod_d, ddd) OP(pow_d, ddd)           \
    OP(min_d, ddd) OP(max_d, ddd) OP(atan2_d, ddd) OP(hypot_d, ddd) OP(abs_d, dd) OP(sqrt_d, dd) OP(exp_d, dd)        \
    OP(log_d, dd) OP(log2_d, dd) OP(log10_d, dd) OP(sin_d, dd) OP(cos_d, dd) OP(tan_d, dd) OP(asin_d, dd)             \
    OP(acos_d, dd) OP(atan_d, dd) OP(sinh_d, dd) OP(cosh_d, dd) OP(tanh_d, dd) OP(floor_d, dd) OP(ceil_d, dd)         \
    OP(round_d, dd)
#define TEXT_OPERATIONS(OP) OP(lt_s, bss) OP(le_s, bss) OP(eq_s, bss) OP(in_s, bss)

#ifdef HAVE_AVX2
#define NUMBER_OPERATION(name, types) {#name, #types, {name##_portable, name##_avx2}},
#else
#define NUMBER_OPERATION(name, types) {#name, #types, {name##_portable, name##_portable}},
#endif
#define TEXT_OPERATION(name, types) {#name, #types, {name, name}},

static const struct {
    const char *name, *types;
    kernel *run[2]; /* portable, and for AVX2 */
} operations[] = {NUMBER_OPERATIONS(NUMBER_OPERATION) TEXT_OPERATIONS(TEXT_OPERATION)};
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
    const int variant = tf_uses_avx2();
    for (int64_t first = 0; first < n; first += PIECE) {
        const size_t count = (size_t)(n - first < PIECE ? n - first : PIECE);
        for (int32_t i = 0; i < filter->length; i++) {
            const tf_instruction *in = &filter->program[i];
            const tf_register *to = &filter->registers[in->to];
            const operand a = operand_of(&filter->registers[in->a], filter, values, nulls, first, aligned);
            const operand b = operand_of(&filter->registers[in->b < 0 ? in->a : in->b], filter, values, nulls, first,
                                         aligned);
            uint8_t *result = to->place == TF_IN_KEEP ? keep + first : aligned + to->at;
            operations[in->operation].run[variant](result, &a, &b, count);
        }
    }
}
