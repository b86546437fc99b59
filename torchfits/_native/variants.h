/* Includes the file KERNELS once for every variant of the kernels; in it KERNEL(name) is the variant's own name. HAVE_AVX2
 * says whether there is one for AVX2, which has BMI and LZCNT too: tf_variant_name asks the machine for all of them.
 * VECTOR_BYTES says how wide its registers are, FOR_AVX2 whether it is that one. */
#define FOR_AVX2 0
#define KERNEL(name) name##_portable
#define VECTOR_BYTES 16
#include KERNELS
#undef KERNEL
#undef VECTOR_BYTES
#undef FOR_AVX2

#if defined(__x86_64__) && defined(__GNUC__)
#define HAVE_AVX2 1
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,bmi,bmi2,lzcnt"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,bmi,bmi2,lzcnt")
#endif
#define FOR_AVX2 1
#define KERNEL(name) name##_avx2
#define VECTOR_BYTES 32
#include KERNELS
#undef KERNEL
#undef VECTOR_BYTES
#undef FOR_AVX2
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif
