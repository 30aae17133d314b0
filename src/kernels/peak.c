#include "kernels/peak.h"

#include <time.h>

#define ROUNDS 5

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

#if defined(__x86_64__)
/* Independent sums in registers: enough of them that each instruction waits for none before it. */
#define EIGHT(x) x(0) x(1) x(2) x(3) x(4) x(5) x(6) x(7)
#define TWELVE(x) EIGHT(x) x(8) x(9) x(10) x(11)
#define DOT_512(i) "vpdpbusd %%zmm14, %%zmm15, %%zmm" #i "\n"
#define DOT_256(i) "%{vex%} vpdpbusd %%ymm14, %%ymm15, %%ymm" #i "\n"
#define PAIRS_256(i) "vpmaddubsw %%ymm14, %%ymm15, %%ymm13\nvpmaddwd %%ymm12, %%ymm13, %%ymm13\nvpaddd %%ymm13, %%ymm" #i ", %%ymm" #i "\n"
#define LOOP(body) __asm__ volatile("mov %0, %%rcx\n1:\n" body "dec %%rcx\njnz 1b\nvzeroupper\n" : : "r"(n) : USED)
#define USED "rcx", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", \
             "xmm13", "xmm14", "xmm15"

static void run_dot_512(long n) { LOOP(TWELVE(DOT_512)); }
static void run_dot_256(long n) { LOOP(TWELVE(DOT_256)); }
static void run_pairs_256(long n) { LOOP(EIGHT(PAIRS_256)); }

/* Four accumulators of 16 by 16, depth 64 each. */
static void run_tiles(long n) {
    struct { uint8_t palette, start, zero[14]; uint16_t row_bytes[16]; uint8_t rows[16]; } shape = { .palette = 1 };
    for (size_t i = 0; i < 8; i++) {
        shape.rows[i] = 16;
        shape.row_bytes[i] = 64;
    }
    __asm__ volatile("ldtilecfg %1\nmov %0, %%rcx\n1:\n"
                     "tdpbssd %%tmm5, %%tmm4, %%tmm0\ntdpbssd %%tmm7, %%tmm4, %%tmm1\n"
                     "tdpbssd %%tmm5, %%tmm6, %%tmm2\ntdpbssd %%tmm7, %%tmm6, %%tmm3\n"
                     "dec %%rcx\njnz 1b\ntilerelease\n" : : "r"(n), "m"(shape) : "rcx", "cc", "memory");
}

typedef struct { unsigned flag; void (*run)(long n); double macs; long n; const char *unit; } peak_loop;
static const peak_loop loops[] = {
    { CPU_AMX_INT8, run_tiles, 4 * 16 * 16 * 64, 100000, "AMX int8" },
    { CPU_VNNI, run_dot_512, 12 * 64, 400000, "AVX-512 VNNI int8" },
    { CPU_AVXVNNI, run_dot_256, 12 * 32, 400000, "AVX-VNNI int8" },
    { CPU_AVX2, run_pairs_256, 8 * 32, 400000, "AVX2 int8" },
};
#else
typedef struct { unsigned flag; void (*run)(long n); double macs; long n; const char *unit; } peak_loop;
static const peak_loop loops[] = { { 0, NULL, 0, 0, "" } };
#endif

static void part(void *ctx, size_t thread, size_t n_threads) {
    const peak_loop *l = ctx;
    (void)thread;
    (void)n_threads;
    l->run(l->n);
}

double peak_macs(const ern_kernels *k, ern_pool *pool, const char **unit) {
    *unit = "";
    for (size_t i = 0; i < sizeof loops / sizeof loops[0]; i++) {
        if (!loops[i].run || !(k->flags & loops[i].flag)) continue;
        peak_loop l = loops[i];
        double best = 0.0;
        for (size_t round = 0; round < ROUNDS; round++) {
            const double from = seconds();
            pool_run(pool, part, &l);
            const double spent = seconds() - from, rate = spent > 0.0 ? l.macs * (double)l.n * (double)pool_n(pool) / spent : 0.0;
            if (rate > best) best = rate;
        }
        *unit = l.unit;
        return best;
    }
    return 0.0;
}
