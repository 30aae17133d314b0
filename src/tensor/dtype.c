/* The table of number formats, the scalar conversions between the float formats, and views. */
#include "tensor/dtype.h"

#include "tensor/dequant.h"

static const ern_dtype_info infos[DTYPE_COUNT] = {
#define X(name, n, bytes, gguf) [DTYPE_##name] = { #name, n, bytes, gguf, unpack_##name },
    ERN_DTYPE_MAP(X)
#undef X
};

const ern_dtype_info *dtype_info(enum ern_dtype t) {
    return (unsigned)t < DTYPE_COUNT ? &infos[t] : NULL;
}

bool dtype_from_gguf(enum ern_dtype *out, uint32_t gguf_type, ern_err *e) {
    for (unsigned t = 0; t < DTYPE_COUNT; t++)
        if (infos[t].gguf_type >= 0 && (uint32_t)infos[t].gguf_type == gguf_type) {
            *out = (enum ern_dtype)t;
            return true;
        }
    return ern_fail(e, ERN_FORMAT, "tensor type %u: not a GGUF number format known here", gguf_type);
}

bool dtype_from_name(enum ern_dtype *out, const char *name, ern_err *e) {
    for (unsigned t = 0; t < DTYPE_COUNT; t++)
        if (strcmp(infos[t].name, name) == 0) {
            *out = (enum ern_dtype)t;
            return true;
        }
    return ern_fail(e, ERN_FORMAT, "number format \"%s\" is not known", name);
}

size_t view_n(const ern_view *v) {
    size_t n = 1;
    for (unsigned i = 0; i < v->n_dims; i++) n *= v->dims[i];
    return n;
}

size_t view_row_bytes(const ern_view *v) {
    const ern_dtype_info *info = dtype_info(v->dtype);
    const size_t n = v->n_dims ? v->dims[v->n_dims - 1] : 1;
    return n / info->block_n * info->block_bytes;
}

void view_to_f32(const ern_view *v, float *y) {
    dtype_info(v->dtype)->to_f32(y, v->data, view_n(v));
}

float f16_to_f32(uint16_t h) {
    const uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = (h >> 10) & 31, mantissa = h & 0x3ff;
    union { uint32_t u; float f; } v;
    if (exponent == 31) {
        v.u = sign | 0x7f800000 | mantissa << 13;
    } else if (exponent) {
        v.u = sign | (exponent + 112) << 23 | mantissa << 13;
    } else {
        v.f = (float)mantissa * 0x1p-24f;       /* subnormal: exact in f32 */
        v.u |= sign;
    }
    return v.f;
}

uint16_t f32_to_f16(float f) {
    union { float f; uint32_t u; } v = { .f = f };
    const uint32_t sign = (v.u >> 16) & 0x8000, a = v.u & 0x7fffffff;
    if (a > 0x7f800000) return (uint16_t)(sign | 0x7e00 | ((a >> 13) & 0x3ff));
    if (a >= 0x477ff000) return (uint16_t)(sign | 0x7c00);                      /* 65520 and more round to infinity */
    if (a < 0x38800000) {                                                       /* below 2^-14: the sum rounds it */
        v.u = a;
        v.f += 0.5f;
        return (uint16_t)(sign | (v.u - 0x3f000000));
    }
    return (uint16_t)(sign | ((a - 0x38000000 + 0xfff + ((a >> 13) & 1)) >> 13));
}

uint16_t f32_to_bf16(float f) {
    union { float f; uint32_t u; } v = { .f = f };
    if ((v.u & 0x7fffffff) > 0x7f800000) return (uint16_t)(v.u >> 16 | 0x40);
    return (uint16_t)((v.u + 0x7fff + ((v.u >> 16) & 1)) >> 16);
}
