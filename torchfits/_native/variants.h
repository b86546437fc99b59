/* Includes the file KERNELS once for every variant of the kernels; in it KERNEL(name) is the variant's own name.
 * HAVE_AVX2 says whether there is one for AVX2, which has BMI and LZCNT too: tf_variant_name asks the machine for all
 * of them. VECTOR_BYTES says how wide its registers are, FOR_AVX2 whether it is that one. AVX-512 has no variant of
 * every kernel: what is for it stands between BEGIN_TARGET(AVX512) and END_TARGET, where there is HAVE_AVX2. */
#define FOR_AVX2 0
#define KERNEL(name) name##_portable
#define VECTOR_BYTES 16
#include KERNELS
#undef KERNEL
#undef VECTOR_BYTES
#undef FOR_AVX2

#if defined(__x86_64__) && defined(__LP64__) && defined(__GNUC__)
#define HAVE_AVX2 1
#define AVX2 "avx2,bmi,bmi2,lzcnt"
#define AVX512 "avx2,bmi,bmi2,lzcnt,avx512f,avx512bw,avx512cd"
#define PRAGMA(text) _Pragma(#text)
#if defined(__clang__)
#define BEGIN_TARGET(features) PRAGMA(clang attribute push(__attribute__((target(features))), apply_to = function))
#define END_TARGET PRAGMA(clang attribute pop)
#else
#define BEGIN_TARGET(features) PRAGMA(GCC push_options) PRAGMA(GCC target(features))
#define END_TARGET PRAGMA(GCC pop_options)
#endif
BEGIN_TARGET(AVX2)
#define FOR_AVX2 1
#define KERNEL(name) name##_avx2
#define VECTOR_BYTES 32
#include KERNELS
#undef KERNEL
#undef VECTOR_BYTES
#undef FOR_AVX2
END_TARGET
#endif
