/* Row filters: a compiled expression, run over the values of the columns that it names.
 *
 * A program is a list of instructions over registers. An instruction reads one or two registers of a piece of rows
 * and writes a third; what NULL does is written out in instructions too. torchfits/where.py makes programs. */
#ifndef TF_FILTER_H
#define TF_FILTER_H

#include <stddef.h>
#include <stdint.h>

/* rows between two instructions: what they leave in scratch stays in the first-level cache */
#define TF_FILTER_PIECE 1024

/* Where the values of a register are. */
typedef enum {
    TF_IN_VALUES,    /* of input `at` */
    TF_IN_NULLS,     /* of input `at`, 'b' */
    TF_IN_CONSTANTS, /* from byte `at`: one value for all rows, or `count` of them in order, a set */
    TF_IN_SCRATCH,   /* from byte `at` */
    TF_IN_KEEP,      /* 'b' */
} tf_register_place;

/* What a register holds for each row: 'b' uint8_t 0 or 1, 'i' int64_t, 'u' uint64_t, 'w' __int128, 'd' double,
 * 's' `width` bytes, of which those from the first NUL on and blanks before it or at the end do not count.
 * Constants that are 's': count + 1 int64_t, the offsets of the texts among the constants, which do not end so. */
typedef struct {
    tf_register_place place;
    char type;
    int64_t at, width, count;
    int written; /* by an instruction that tf_filter_check has seen; 0 before */
} tf_register;

typedef struct {
    int32_t operation, to, a, b; /* registers; b is -1 where there is but one operand */
} tf_instruction;

typedef struct {
    tf_register *registers;
    const tf_instruction *program;
    const uint8_t *constants; /* aligned to 16 bytes, as are the places in it */
    int32_t register_count, length, input_count;
    int64_t constant_bytes, scratch_bytes;
} tf_filter;

/* The operations by number: the name, and the types of the result and the operands; NULL after the last. */
const char *tf_filter_operation(int i, const char **types);
/* Bytes of a value of a type that is not 's'; 0 for a letter that is none. */
int64_t tf_filter_width(char type);

/* Whether a program may be run: 0, or -1 where it would read or write what it must not. */
int tf_filter_check(tf_filter *filter);

/* The memory that a run needs beside its arguments. Runs may share a filter, not their scratch. */
size_t tf_filter_scratch_bytes(const tf_filter *filter);

/* keep[i] = 1 for each of n rows that pass, else 0. Of each input `values` are n native values, one after the other,
 * aligned to their width ('s' to nothing), and `nulls` n bytes, 1 for NULL and else 0, or NULL where none is NULL. The
 * value of what is NULL does not matter. */
void tf_filter_run(const tf_filter *filter, const void *const *values, const uint8_t *const *nulls, int64_t n,
                   void *scratch, uint8_t *keep);

#endif
