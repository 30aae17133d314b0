/* A session in a file (little endian):
 *   OFFSET  SIZE     MEANING
 *   0       8        "ERNKV002"
 *   8       4 x 8    u64: layers, width of a token's keys, KV types (dtype numbers: keys + 65536 values), tokens n
 *   40      8        u64: vocabulary size
 *   48      8        u64: checksum of the model's shapes and first embedding row (FNV-1a)
 *   56      4 n      i32 token ids
 *   then, a layer, a KV head: the tiles of its keys, then of its values (kernels/attention.h), ceil(n / 16) of each
 *   then            f32 logits [vocabulary]
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cursor.h"
#include "base/file.h"
#include "engine/engine.h"

#define HEADER_BYTES 56

static uint64_t fnv(uint64_t h, const void *bytes, size_t n) {
    const uint8_t *p = bytes;
    for (size_t i = 0; i < n; i++) h = (h ^ p[i]) * 0x100000001B3ull;
    return h;
}

static uint64_t model_mark(const ern_model *m) {
    const size_t shape[] = { m->c.n_layers, m->c.hidden, m->c.n_heads, m->c.n_kv_heads, m->c.head_dim, m->c.ffn, m->c.n_vocab };
    const size_t row = view_row_bytes(&m->embed);
    uint64_t h = fnv(0xCBF29CE484222325ull, shape, sizeof shape);
    return fnv(h, (const char *)m->embed.data + row * (m->c.n_vocab - 1), row);
}

static void put_u64(uint8_t *to, uint64_t v) {
    for (size_t i = 0; i < 8; i++) to[i] = (uint8_t)(v >> (8 * i));
}

/* layers, width, types, tokens, vocabulary, model: what the header says and a loading session wants. */
static void facts_of(uint64_t facts[6], const ern_session *s) {
    const ern_kv *kv = &s->kv;
    const uint64_t f[] = { kv->n_layers, kv->n_heads * kv->d, (uint64_t)kv->k_type | (uint64_t)kv->v_type << 16, s->n,
                           s->eng->model->c.n_vocab, model_mark(s->eng->model) };
    memcpy(facts, f, sizeof f);
}

static bool write_kv(FILE *fp, const ern_kv *kv, size_t n) {
    const size_t k_bytes = kv_used_bytes(kv, kv->k_type, n), v_bytes = kv_used_bytes(kv, kv->v_type, n);
    for (size_t l = 0; l < kv->n_layers; l++)
        for (size_t h = 0; h < kv->n_heads; h++)
            if (fwrite(kv_keys(kv, l, h), 1, k_bytes, fp) != k_bytes || fwrite(kv_values(kv, l, h), 1, v_bytes, fp) != v_bytes)
                return false;
    return true;
}

static void copy_kv(const ern_kv *kv, const uint8_t *from, size_t n) {
    const size_t k_bytes = kv_used_bytes(kv, kv->k_type, n), v_bytes = kv_used_bytes(kv, kv->v_type, n);
    for (size_t l = 0; l < kv->n_layers; l++)
        for (size_t h = 0; h < kv->n_heads; h++, from += k_bytes + v_bytes) {
            memcpy(kv_keys(kv, l, h), from, k_bytes);
            memcpy(kv_values(kv, l, h), from + k_bytes, v_bytes);
        }
}

bool ern_session_save(const ern_session *s, const char *path, ern_err *e) {
    const ern_config *c = &s->eng->model->c;
    uint8_t head[HEADER_BYTES] = "ERNKV002";
    uint64_t facts[6];
    ern_buf tmp = { .max = 8192 };
    bool ok = false;
    FILE *fp = NULL;
    if (!s->has_logits) return ern_fail(e, ERN_ARG, "session: nothing to save before the first token is computed");
    facts_of(facts, s);
    for (size_t i = 0; i < 6; i++) put_u64(head + 8 + 8 * i, facts[i]);
    if (!buf_printf(&tmp, e, "%s.%ld.tmp", path, (long)getpid())) goto out;
    if (!(fp = fopen(tmp.data, "wb"))) { ern_fail(e, ERN_IO, "%s: %s", path, strerror(errno)); goto out; }
    bool good = fwrite(head, 1, sizeof head, fp) == sizeof head && fwrite(s->ids, sizeof *s->ids, s->n, fp) == s->n;
    good = good && write_kv(fp, &s->kv, s->n);
    good = good && fwrite(s->logits, sizeof *s->logits, c->n_vocab, fp) == c->n_vocab && fflush(fp) == 0;
    good = fclose(fp) == 0 && good;
    fp = NULL;
    if (!good || rename(tmp.data, path) != 0) { ern_fail(e, ERN_IO, "%s: %s", path, strerror(errno)); goto out; }
    ok = true;
out:
    if (fp) fclose(fp);
    if (!ok && tmp.data) unlink(tmp.data);
    buf_deinit(&tmp);
    return ok;
}

static bool load_body(ern_session *s, ern_cursor *c, size_t n, ern_err *e) {
    const ern_config *config = &s->eng->model->c;
    const size_t head_bytes = kv_used_bytes(&s->kv, s->kv.k_type, n) + kv_used_bytes(&s->kv, s->kv.v_type, n);
    const size_t body_bytes = s->kv.n_layers * s->kv.n_heads * head_bytes;
    const uint8_t *ids, *body, *logits;
    if (!cursor_bytes(c, n * sizeof(int32_t), &ids, e) || !cursor_bytes(c, body_bytes, &body, e) ||
        !cursor_bytes(c, config->n_vocab * sizeof(float), &logits, e))
        return false;
    for (size_t i = 0; i < n; i++) {
        int32_t id;
        memcpy(&id, ids + 4 * i, 4);
        if (id < 0 || (size_t)id >= config->n_vocab) return ern_fail(e, ERN_FORMAT, "%s: token %zu has id %d", c->name, i, (int)id);
    }
    copy_kv(&s->kv, body, n);
    memcpy(s->ids, ids, n * sizeof(int32_t));
    memcpy(s->logits, logits, config->n_vocab * sizeof(float));
    s->n = n;
    s->has_logits = true;
    return true;
}

bool ern_session_load(ern_session *s, const char *path, ern_err *e) {
    static const char *const names[] = { "layers", "key width", "KV types", NULL, "vocabulary", "weights checksum" };
    ern_map map;
    const uint8_t *magic;
    bool ok = false;
    if (!file_map(&map, path, e)) return false;
    ern_cursor c = { .data = map.data, .size = map.size_bytes, .name = path };
    uint64_t wanted[6], found[6];
    facts_of(wanted, s);
    if (!cursor_bytes(&c, 8, &magic, e)) goto out;
    if (memcmp(magic, "ERNKV002", 8) != 0) { ern_fail(e, ERN_FORMAT, "%s: not a saved session", path); goto out; }
    for (size_t i = 0; i < 6; i++) {
        if (!cursor_u64(&c, &found[i], e)) goto out;
        if (names[i] && found[i] != wanted[i]) {
            ern_fail(e, ERN_FORMAT, "%s: %s is %llu, this model and session want %llu", path, names[i],
                     (unsigned long long)found[i], (unsigned long long)wanted[i]);
            goto out;
        }
    }
    if (found[3] == 0 || found[3] > s->n_ctx) {
        ern_fail(e, ERN_LIMIT, "%s: %llu tokens, the context holds %zu", path, (unsigned long long)found[3], s->n_ctx);
        goto out;
    }
    ok = load_body(s, &c, (size_t)found[3], e);
out:
    file_unmap(&map);
    return ok;
}
