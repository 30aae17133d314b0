/* A session in a file (little endian):
 *   OFFSET  SIZE     MEANING
 *   0       8        "ERNKV002"; the digits are the version
 *   8       8        u64 layers
 *   16      8        u64 width of a token's keys in one layer
 *   24      8        u64 KV types: keys + 65536 values; 0 f32, 1 f16, 2 q4, 8 q8, 30 bf16 (the numbers of GGUF)
 *   32      8        u64 tokens n
 *   40      8        u64 vocabulary size V
 *   48      8        u64 mark of the model: FNV-1a over its sizes and some rows of its weights
 *   56      4 n      i32 token ids
 *   then, a layer, a KV head: the tiles of its keys, then of its values (kernels/attention.h), ceil(n / 16) of each
 *   then    4 V      f32 logits after the last token
 * and nothing more.
 */
#include <string.h>

#include "base/cursor.h"
#include "base/file.h"
#include "engine/engine.h"
#include "engine/prefix.h"

#define HEADER_BYTES 56
#define N_FACTS 6

static uint64_t fnv(uint64_t h, const void *bytes, size_t n) {
    const uint8_t *p = bytes;
    for (size_t i = 0; i < n; i++) h = (h ^ p[i]) * 0x100000001B3ull;
    return h;
}

static uint64_t fnv_row(uint64_t h, const ern_view *v, size_t row) {
    const size_t bytes = view_row_bytes(v);
    return fnv(h, (const char *)v->data + row * bytes, bytes);
}

/* Two models of one shape differ in these rows: the last embedding, and the first query and last value row. */
uint64_t engine_model_mark(const ern_model *m) {
    const ern_config *c = &m->c;
    const uint64_t shape[] = { c->n_layers, c->hidden, c->n_heads, c->n_kv_heads, c->head_dim, c->ffn, c->n_vocab };
    const model_linear *q = &m->layers[0].q, *v = &m->layers[c->n_layers - 1].v;
    uint64_t h = fnv(0xCBF29CE484222325ull, shape, sizeof shape);
    h = fnv_row(h, &m->embed, c->n_vocab - 1);
    h = fnv_row(h, &q->w, 0);
    return fnv_row(h, &v->w, v->w.dims[0] - 1);
}

static void facts_of(uint64_t facts[N_FACTS], const ern_session *s) {
    const ern_config *c = &s->eng->model->c;
    const uint64_t types = (uint64_t)dtype_info(s->kv.k_type)->gguf_type | (uint64_t)dtype_info(s->kv.v_type)->gguf_type
                                                                               << 16;
    const uint64_t all[N_FACTS] = {
        c->n_layers, s->kv.n_heads * s->kv.d, types, s->n, c->n_vocab, engine_model_mark(s->eng->model)
    };
    memcpy(facts, all, sizeof all);
}

/* One head's tiles, page after page: the bytes of n tokens from position pos on (a page at most). */
static size_t in_page(size_t pos, size_t n) { return n - pos < KV_PAGE_TOKENS ? n - pos : KV_PAGE_TOKENS; }

static bool add_kv(ern_writer *w, const ern_kv *kv, size_t n, ern_err *e) {
    for (size_t l = 0; l < kv->n_layers; l++)
        for (size_t h = 0; h < kv->n_heads; h++) {
            for (size_t pos = 0; pos < n; pos += KV_PAGE_TOKENS)
                if (!writer_add(w, kv_keys(kv, l, h, pos), kv_used_bytes(kv, kv->k_type, in_page(pos, n)), e)) return false;
            for (size_t pos = 0; pos < n; pos += KV_PAGE_TOKENS)
                if (!writer_add(w, kv_values(kv, l, h, pos), kv_used_bytes(kv, kv->v_type, in_page(pos, n)), e))
                    return false;
        }
    return true;
}

static const uint8_t *copy_head(void *to, const uint8_t *from, size_t n_bytes) {
    memcpy(to, from, n_bytes);
    return from + n_bytes;
}

static void copy_kv(const ern_kv *kv, const uint8_t *from, size_t n) {
    for (size_t l = 0; l < kv->n_layers; l++)
        for (size_t h = 0; h < kv->n_heads; h++) {
            for (size_t pos = 0; pos < n; pos += KV_PAGE_TOKENS)
                from = copy_head(kv_keys(kv, l, h, pos), from, kv_used_bytes(kv, kv->k_type, in_page(pos, n)));
            for (size_t pos = 0; pos < n; pos += KV_PAGE_TOKENS)
                from = copy_head(kv_values(kv, l, h, pos), from, kv_used_bytes(kv, kv->v_type, in_page(pos, n)));
        }
}

bool ern_session_save(const ern_session *s, const char *path, ern_err *e) {
    const ern_config *c = &s->eng->model->c;
    uint8_t head[HEADER_BYTES] = "ERNKV002";
    uint64_t facts[N_FACTS];
    ern_writer w;
    if (!s->has_logits) return ern_fail(e, ERN_ARG, "session: nothing to save before a token is computed");
    facts_of(facts, s);
    for (size_t i = 0; i < N_FACTS; i++)
        for (size_t b = 0; b < 8; b++) head[8 + 8 * i + b] = (uint8_t)(facts[i] >> (8 * b));
    if (!writer_open(&w, path, e)) return false;
    const bool ok = writer_add(&w, head, sizeof head, e) && writer_add(&w, s->ids, s->n * sizeof *s->ids, e) &&
                    add_kv(&w, &s->kv, s->n, e) && writer_add(&w, s->logits, c->n_vocab * sizeof *s->logits, e) &&
                    writer_commit(&w, e);
    writer_deinit(&w);
    return ok;
}

/* Everything is checked before the session changes. */
static bool load_body(ern_session *s, ern_cursor *c, size_t n, ern_err *e) {
    const ern_config *config = &s->eng->model->c;
    const size_t head_bytes = kv_used_bytes(&s->kv, s->kv.k_type, n) + kv_used_bytes(&s->kv, s->kv.v_type, n);
    const uint8_t *ids, *body, *logits;
    if (!cursor_bytes(c, n * sizeof(int32_t), &ids, e) ||
        !cursor_bytes(c, s->kv.n_layers * s->kv.n_heads * head_bytes, &body, e) ||
        !cursor_bytes(c, config->n_vocab * sizeof(float), &logits, e))
        return false;
    if (c->pos != c->size)
        return ern_fail(e, ERN_FORMAT, "%s: %zu bytes follow the session's end at byte %zu", c->name, c->size - c->pos,
                        c->pos);
    for (size_t i = 0; i < n; i++) {
        int32_t id;
        memcpy(&id, ids + 4 * i, 4);
        if (id < 0 || (size_t)id >= config->n_vocab)
            return ern_fail(e, ERN_FORMAT, "%s: token %zu has id %d, 0 to %zu wanted", c->name, i, (int)id,
                            config->n_vocab - 1);
    }
    if (!kv_reserve(&s->kv, 0, n, e)) return false;
    copy_kv(&s->kv, body, n);
    memcpy(s->ids, ids, n * sizeof(int32_t));
    memcpy(s->logits, logits, config->n_vocab * sizeof(float));
    s->n = n;
    s->has_logits = true;
    return true;
}

bool ern_session_load(ern_session *s, const char *path, ern_err *e) {
    static const char *const names[N_FACTS] = {
        "layers", "key width", "KV types", NULL, "vocabulary", "mark of the weights"
    };
    ern_map map;
    const uint8_t *magic;
    uint64_t wanted[N_FACTS], found[N_FACTS];
    bool ok = false;
    if (!file_map(&map, path, e)) return false;
    ern_cursor c = { .data = map.data, .size = map.size_bytes, .name = path };
    facts_of(wanted, s);
    if (!cursor_bytes(&c, 8, &magic, e)) goto out;
    if (memcmp(magic, "ERNKV", 5) != 0) { ern_fail(e, ERN_FORMAT, "%s: not a saved session", path); goto out; }
    if (memcmp(magic, "ERNKV002", 8) != 0) {
        ern_fail(e, ERN_FORMAT, "%s: version %.3s, 002 wanted", path, (const char *)magic + 5);
        goto out;
    }
    for (size_t i = 0; i < N_FACTS; i++) {
        if (!cursor_u64(&c, &found[i], e)) goto out;
        if (names[i] && found[i] != wanted[i]) {
            ern_fail(e, ERN_FORMAT, "%s: %s is %llu, this model and session want %llu", path, names[i],
                     (unsigned long long)found[i], (unsigned long long)wanted[i]);
            goto out;
        }
    }
    if (found[3] == 0 || found[3] > s->n_ctx) {
        ern_fail(e, ERN_LIMIT, "%s: %llu tokens, 1 to %zu (the context) wanted", path, (unsigned long long)found[3],
                 s->n_ctx);
        goto out;
    }
    ok = load_body(s, &c, (size_t)found[3], e);
out:
    file_unmap(&map);
    return ok;
}
