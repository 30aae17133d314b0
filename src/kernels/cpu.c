/* What the CPU and the operating system allow, and the names of the levels a user may ask for. */
#include <string.h>

#include "kernels/kernels.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { XSTATE_YMM = 0x6, XSTATE_ZMM = 0xe6, XSTATE_TILE = 0x60000 };
enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_TILEDATA = 18 };

static uint64_t enabled_state(void) {
    uint32_t lo, hi;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return (uint64_t)hi << 32 | lo;
}

/* AMD's 512-bit cores multiply bfloat16 pairs at twice the speed of f32; Intel's slower than f32. */
static bool has_fast_bf16(void) {
    unsigned a, b, c, d;
    return __get_cpuid(0, &a, &b, &c, &d) && b == signature_AMD_ebx && d == signature_AMD_edx;
}

unsigned cpu_flags(void) {
    unsigned a, b, c, d, flags = 0;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE)) return 0;
    const uint64_t state = enabled_state();
    const bool fma = c & bit_FMA, f16c = c & bit_F16C;
    if ((state & XSTATE_YMM) != XSTATE_YMM || !__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(b & bit_AVX2)) return 0;
    const unsigned b7 = b, c7 = c, d7 = d;
    unsigned a71 = 0;
    if (__get_cpuid_count(7, 1, &a, &b, &c, &d)) a71 = a;
    if (!fma || !f16c) return 0;
    flags = CPU_AVX2 | CPU_FMA | CPU_F16C;
    if (a71 & 1u << 4) flags |= CPU_AVXVNNI;
    const unsigned avx512 = bit_AVX512F | bit_AVX512BW | bit_AVX512VL | bit_AVX512DQ;
    if ((state & XSTATE_ZMM) != XSTATE_ZMM || (b7 & avx512) != avx512) return flags;
    flags |= CPU_AVX512;
    if (c7 & 1u << 11) flags |= CPU_VNNI;
    if (a71 & 1u << 5) flags |= has_fast_bf16() ? CPU_BF16 | CPU_FAST_BF16 : CPU_BF16;
    if (d7 & 1u << 23) flags |= CPU_FP16;
    /* Linux gives a process the tile registers only when it asks. */
    if ((state & XSTATE_TILE) == XSTATE_TILE && d7 & 1u << 24 &&
        syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_TILEDATA) == 0) {
        if (d7 & 1u << 25) flags |= CPU_AMX_INT8;
        if (d7 & 1u << 22) flags |= CPU_AMX_BF16;
    }
    return flags;
}

#elif defined(__aarch64__)
#include <sys/auxv.h>

enum { HWCAP_BIT_ASIMDDP = 1 << 20, HWCAP2_BIT_I8MM = 1 << 13 };

unsigned cpu_flags(void) {
    unsigned flags = CPU_NEON;
    if (getauxval(AT_HWCAP) & HWCAP_BIT_ASIMDDP) flags |= CPU_DOTPROD;
    if (getauxval(AT_HWCAP2) & HWCAP2_BIT_I8MM) flags |= CPU_I8MM;
    return flags;
}

#else
unsigned cpu_flags(void) { return 0; }
#endif

bool cpu_mask_from_name(unsigned *out, const char *name, ern_err *e) {
    enum {
        AVX2 = CPU_AVX2 | CPU_FMA | CPU_F16C, AVX512 = AVX2 | CPU_AVX512,
        AVX512_ALL = AVX512 | CPU_VNNI | CPU_BF16 | CPU_FAST_BF16 | CPU_FP16
    };
    static const struct { const char *name; unsigned mask; } levels[] = {
        { "auto", ~0u }, { "scalar", 0 }, { "avx2", AVX2 }, { "avxvnni", AVX2 | CPU_AVXVNNI }, { "avx512f", AVX512 },
        { "avx512", AVX512_ALL }, { "amx", AVX512_ALL | CPU_AVXVNNI | CPU_AMX_INT8 | CPU_AMX_BF16 }, { "neon", CPU_NEON },
        { "dotprod", CPU_NEON | CPU_DOTPROD }, { "i8mm", CPU_NEON | CPU_DOTPROD | CPU_I8MM },
    };
    for (size_t i = 0; i < sizeof levels / sizeof *levels; i++)
        if (strcmp(name, levels[i].name) == 0) { *out = levels[i].mask; return true; }
    return ern_fail(e, ERN_ARG,
                    "cpu \"%s\": auto, scalar, avx2, avxvnni, avx512f, avx512, amx, neon, dotprod or i8mm wanted", name);
}
