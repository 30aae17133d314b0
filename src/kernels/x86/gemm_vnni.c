/* Matrix products for AVX-512 with VNNI, row by row. */
#include <immintrin.h>
#include <math.h>

#include "kernels/matmul.h"

#define GEMM_ISA vnni

typedef __m512 vec;
static inline vec vec_zero(void) { return _mm512_setzero_ps(); }
static inline vec vec_load(const float *p) { return _mm512_loadu_ps(p); }
static inline vec vec_fma(vec a, vec b, vec c) { return _mm512_fmadd_ps(a, b, c); }
static inline float vec_sum(vec v) { return _mm512_reduce_add_ps(v); }

static inline __m256i dpbusd_8(__m256i sum, __m256i u, __m256i s) { return _mm256_dpbusd_epi32(sum, u, s); }

#include "kernels/x86/gemm_rows.h"
