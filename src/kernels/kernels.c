/* The table of kernels: scalar first, then overwritten by what the flags allow. */
#include "kernels/attention.h"
#include "kernels/kernels_int.h"
#include "kernels/matmul.h"

#define FILL_ELEMENTWISE(k, isa)                                                                                    \
    do {                                                                                                            \
        (k)->dot = dot_##isa;                                                                                       \
        (k)->axpy = axpy_##isa;                                                                                     \
        (k)->add = add_##isa;                                                                                       \
        (k)->rmsnorm = rmsnorm_##isa;                                                                               \
        (k)->layernorm = layernorm_##isa;                                                                           \
        (k)->silu_mul = silu_mul_##isa;                                                                             \
        (k)->gelu_erf = gelu_erf_##isa;                                                                             \
        (k)->softmax = softmax_##isa;                                                                               \
        (k)->rope = rope_##isa;                                                                                     \
        (k)->to_f16 = to_f16_##isa;                                                                                 \
        (k)->to_bf16 = to_bf16_##isa;                                                                               \
        (k)->attend = attend_##isa;                                                                                 \
        (k)->attend_exact = (k)->attend_fast = &attention_##isa;                                                    \
    } while (0)

void kernels_init(ern_kernels *k, unsigned mask) {
    const unsigned flags = cpu_flags() & mask;
    *k = (ern_kernels){ .flags = flags };
    FILL_ELEMENTWISE(k, scalar);
    kernels_gemm_init(k, flags);
#if defined(__x86_64__)
    if (flags & CPU_AVX2) FILL_ELEMENTWISE(k, avx2);
    if (flags & CPU_AVX512) FILL_ELEMENTWISE(k, avx512);
    if (flags & CPU_VNNI) k->attend_fast = &attention_avx512_vnni;
    if (flags & CPU_FAST_BF16) k->attend_fast = &attention_avx512_bf16;
    if ((flags & CPU_AMX_BF16) && (flags & CPU_BF16)) k->attend_fast = &attention_amx;
#elif defined(__aarch64__)
    if (flags & CPU_NEON) FILL_ELEMENTWISE(k, neon);
#endif
}
