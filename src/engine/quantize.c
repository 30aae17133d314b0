#include "engine/quantize.h"

#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "engine/convert_int.h"
#include "engine/imatrix.h"
#include "tensor/quant.h"

typedef struct { const char *pattern; enum ern_dtype t; size_t n_used; char *copy; } override;

struct quantizing {
    const quantize_options *o;
    const quantize_recipe *recipe;
    ern_imatrix *imatrix;           /* or NULL */
    convert_report *report;
    override *overrides;
    size_t n_of[DTYPE_COUNT];       /* matrices a type */
    size_t n_fallbacks, n_unimportant, n_requantized;
};

/* "Q5_K" in any case. */
static bool format_from_name(enum ern_dtype *out, const char *name, ern_err *e) {
    for (unsigned t = 0; t < DTYPE_COUNT; t++)
        if (strcasecmp(dtype_info((enum ern_dtype)t)->name, name) == 0 && quant_has((enum ern_dtype)t)) {
            *out = (enum ern_dtype)t;
            return true;
        }
    return ern_fail(e, ERN_ARG, "type \"%s\": F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, "
                                "IQ4_NL, IQ4_XS or MXFP4 wanted", name);
}

static bool read_override(override *out, const char *text, ern_err *e) {
    const char *equals = strrchr(text, '=');
    if (!equals || equals == text || !equals[1])
        return ern_fail(e, ERN_ARG, "tensor type \"%s\": PATTERN=TYPE wanted", text);
    if (!format_from_name(&out->t, equals + 1, e)) return false;
    out->pattern = out->copy = mem_strndup(text, (size_t)(equals - text), e);
    return out->copy != NULL;
}

/* A pattern with * ? [ stands for the whole name, another one for any name that has it inside. */
static bool matches(const char *pattern, const char *name) {
    return strpbrk(pattern, "*?[") ? fnmatch(pattern, name, 0) == 0 : strstr(name, pattern) != NULL;
}

static bool is_table(const char *name) {
    return strcmp(name, "output.weight") == 0 || strcmp(name, "token_embd.weight") == 0;
}

/* A file of another model would weigh the wrong columns. */
static bool check_importance(struct quantizing *q, const convert_matrix *m, size_t n_parts, ern_err *e) {
    size_t n_mats, n_cols;
    if (!imatrix_shape(q->imatrix, m->name, &n_mats, &n_cols)) {
        q->n_unimportant += !is_table(m->name);
        return true;
    }
    if (n_cols == m->view->dims[1] && n_mats == n_parts) return true;
    return ern_fail(e, ERN_ARG, "%s: %s has %zu columns in %zu matrices there and %zu in %zu in the model: it belongs to "
                                "another model", q->o->imatrix, m->name, n_cols, n_mats, m->view->dims[1], n_parts);
}

static bool choose_type(void *ctx, const convert_matrix *m, enum ern_dtype *t, ern_err *e) {
    struct quantizing *q = ctx;
    const bool is_tied = source_find(m->source, "lm_head.weight") == NULL;
    const bool is_stack = strstr(m->view->name, ".mlp.experts.") != NULL;
    const enum ern_dtype before = m->view->dtype;
    enum ern_dtype wanted = q->o->is_pure ? quantize_type_of(q->recipe, m->config, false, false, "")
                                          : quantize_type_of(q->recipe, m->config, is_tied, q->imatrix != NULL, m->name);
    if (q->o->keeps_output && is_table(m->name)) wanted = before;
    for (size_t i = 0; i < q->o->n_overrides; i++)
        if (matches(q->overrides[i].pattern, m->name)) {
            wanted = q->overrides[i].t;
            q->overrides[i].n_used++;
        }
    const enum ern_dtype fits = quantize_fallback(wanted, m->view->dims[1]);
    if (fits != wanted && q->n_fallbacks++ < 3 &&
        !convert_note(q->report, e, "%s: rows of %zu values cannot be %s: %s instead", m->name, m->view->dims[1],
                             dtype_info(wanted)->name, dtype_info(fits)->name)) return false;
    if (q->imatrix && dtype_info(fits)->block_n > 1 && fits != before &&
        !check_importance(q, m, is_stack ? m->config->n_experts : 1, e)) return false;
    q->n_requantized += dtype_info(before)->block_n > 1 && before != fits;
    q->n_of[fits]++;
    *t = fits;
    return true;
}

static const float *importance_of(void *ctx, const char *name, size_t i) {
    const struct quantizing *q = ctx;
    size_t n_mats, n_cols;
    if (!q->imatrix || !imatrix_shape(q->imatrix, name, &n_mats, &n_cols)) return NULL;
    return imatrix_mean(q->imatrix, name, i, n_cols);
}

static bool note_all(struct quantizing *q, ern_err *e) {
    bool ok = true;
    if (q->n_fallbacks > 3) ok = convert_note(q->report, e, "%zu matrices fell back in all", q->n_fallbacks);
    if (ok && q->n_unimportant)
        ok = convert_note(q->report, e, "%zu matrices have no importance in %s", q->n_unimportant, q->o->imatrix);
    if (ok && q->n_requantized)
        ok = convert_note(q->report, e, "%zu matrices were in a block type already: what that lost stays lost",
                                 q->n_requantized);
    for (unsigned t = 0; ok && t < DTYPE_COUNT; t++)
        if (q->n_of[t]) ok = convert_note(q->report, e, "%5zu matrices %s", q->n_of[t], dtype_info((enum ern_dtype)t)->name);
    return ok;
}

/* Called when every tensor has its type and nothing is written yet. */
static bool last_keys(void *ctx, ern_gguf_writer *w, ern_err *e) {
    struct quantizing *q = ctx;
    for (size_t i = 0; i < q->o->n_overrides; i++)
        if (q->overrides[i].n_used == 0)
            return ern_fail(e, ERN_ARG, "tensor type \"%s\": no matrix has such a name", q->o->overrides[i]);
    if (!note_all(q, e)) return false;
    if (!q->imatrix) return true;
    const char *slash = strrchr(q->o->imatrix, '/');
    return gguf_writer_str(w, "quantize.imatrix.file", slash ? slash + 1 : q->o->imatrix, e) &&
           gguf_writer_str(w, "quantize.imatrix.dataset", imatrix_dataset(q->imatrix), e) &&
           gguf_writer_u32(w, "quantize.imatrix.entries_count", (uint32_t)imatrix_n(q->imatrix), e) &&
           gguf_writer_u32(w, "quantize.imatrix.chunks_count", (uint32_t)imatrix_n_chunks(q->imatrix), e);
}

static bool names_of_types(ern_err *e, const char *found) {
    ern_buf list = { 0 };
    bool ok = true;
    for (size_t i = 0; ok && i < quantize_n_recipes(); i++)
        ok = buf_printf(&list, e, "%s%s", i ? ", " : "", quantize_recipe_name(quantize_recipe_at(i)));
    if (ok) ern_fail(e, ERN_ARG, "type \"%s\": one of %s, wint8 or wint4 wanted", found, list.data);
    buf_deinit(&list);
    return false;
}

/* WINT8 and WINT4: a -PT folder. */
static bool quantize_channels(const char *in, const char *out, unsigned bits, const quantize_options *o, convert_report *report,
                              ern_err *e) {
    const convert_choice choice = { .channel_bits = bits, .file_type = -1 };
    const convert_options co = { .to = CONVERT_PT, .choice = &choice, .n_threads = o->n_threads, .progress = o->progress,
                                 .progress_ctx = o->progress_ctx };
    if (o->imatrix || o->n_overrides || o->keeps_output || o->is_pure)
        return ern_fail(e, ERN_ARG, "type %s: an importance matrix, types of tensors, a kept output and --pure are for GGUF "
                                    "files; this one is a folder", o->type);
    return convert_model(in, out, &co, report, e);
}

bool quantize_model(const char *in, const char *out, const quantize_options *o, convert_report *report, ern_err *e) {
    convert_report own = { 0 };
    struct quantizing q = { .o = o, .report = report ? report : &own, .recipe = quantize_recipe_find(o->type) };
    const convert_choice choice = { .type_of = choose_type, .importance_of = importance_of, .keys = last_keys, .ctx = &q,
                                    .file_type = q.recipe ? quantize_file_type(q.recipe) : -1 };
    const convert_options co = { .to = CONVERT_GGUF, .choice = &choice, .n_threads = o->n_threads, .progress = o->progress,
                                 .progress_ctx = o->progress_ctx };
    bool ok = false;
    if (strcasecmp(o->type, "wint8") == 0) return quantize_channels(in, out, 8, o, report, e);
    if (strcasecmp(o->type, "wint4") == 0) return quantize_channels(in, out, 4, o, report, e);
    if (!q.recipe) return names_of_types(e, o->type);
    if (o->n_overrides && !(q.overrides = mem_zalloc(o->n_overrides, sizeof *q.overrides, "tensor types", e))) return false;
    for (size_t i = 0; i < o->n_overrides; i++)
        if (!read_override(&q.overrides[i], o->overrides[i], e)) goto out;
    if (o->imatrix && !(q.imatrix = imatrix_read(o->imatrix, e))) goto out;
    ok = convert_model(in, out, &co, q.report, e);
out:
    for (size_t i = 0; q.overrides && i < o->n_overrides; i++) free(q.overrides[i].copy);
    free(q.overrides);
    imatrix_close(q.imatrix);
    convert_report_deinit(&own);
    return ok;
}
