/* Activations to blocks of 8 bits (matmul_panel.h), the rounding of quant_q8; AVX2. */
static void quant(act_block *out, const float *x, size_t C) {
    const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
    const size_t n_blocks = (C + 255) / 256 * 8;
    size_t b = 0;
    for (; b < C / 32; b++, x += 32) {
        __m256 v[4];
        __m256i most = _mm256_setzero_si256(), q[4];
        for (int i = 0; i < 4; i++) {       /* integer order of magnitudes is float order, and puts NaN on top */
            v[i] = _mm256_loadu_ps(x + 8 * i);
            most = _mm256_max_epi32(most, _mm256_and_si256(_mm256_castps_si256(v[i]), magnitude));
        }
        __m128i m = _mm_max_epi32(_mm256_castsi256_si128(most), _mm256_extracti128_si256(most, 1));
        m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0x4e));
        m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0xb1));
        const float largest = _mm_cvtss_f32(_mm_castsi128_ps(m));
        if (!(largest > ACT_TINY && largest <= 3.4028235e38f)) {
            const float d = largest <= ACT_TINY ? 0.0f : __builtin_nanf("");
            out[b] = (act_block){ .d = d, .dn = d };
            continue;
        }
        const __m256 inverse = _mm256_set1_ps(127.0f / largest);
        for (int i = 0; i < 4; i++) q[i] = _mm256_cvtps_epi32(_mm256_mul_ps(v[i], inverse));
        __m256i s = _mm256_hadd_epi32(_mm256_add_epi32(q[0], q[1]), _mm256_add_epi32(q[2], q[3]));
        s = _mm256_hadd_epi32(s, s);
        const __m128i sums = _mm_add_epi32(_mm256_castsi256_si128(s), _mm256_extracti128_si256(s, 1));
        const int32_t lo = _mm_extract_epi32(sums, 0), all = lo + _mm_extract_epi32(sums, 1);
        const __m256i packed = _mm256_packs_epi16(_mm256_packs_epi32(q[0], q[1]), _mm256_packs_epi32(q[2], q[3]));
        _mm256_storeu_si256((__m256i *)out[b].q,
                            _mm256_permutevar8x32_epi32(packed, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7)));
        out[b].d = largest / 127.0f;
        out[b].dn = -out[b].d * (float)all;
        out[b].n = -128 * all;
        out[b].n_lo = -128 * lo;
    }
    for (; b < n_blocks; b++) out[b] = (act_block){ .d = 0.0f };
}
