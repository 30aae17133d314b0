/* Text and conversations to tokens. What a user wrote can never become a special token: a mark is put into every
 * special token's text inside a message before rendering, and taken out again while the rest is tokenised. */
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/utf8.h"
#include "engine/engine.h"

#define MARK "\xEF\xB7\x90"         /* U+FDD0, a noncharacter: "never interchanged", so no text holds it on purpose */
#define MARK_BYTES 3
#define MAX_PROMPT_BYTES ((size_t)256 << 20)

void ern_tokens_free(ern_tokens *t) {
    free(t->id);
    *t = (ern_tokens){ 0 };
}

static bool need_tokenizer(const ern_engine *eng, ern_err *e) {
    return eng->tokenizer || ern_fail(e, ERN_MISSING, "%s: no tokenizer files (tokenizer.model, tokenizer.json or vocab.txt)",
                                      source_path(eng->model->source));
}

static bool encode(const ern_engine *eng, const char *text, size_t n, unsigned flags, ern_tokens *out, ern_err *e) {
    ern_ids ids = { .id = out->id, .n = out->n, .cap = out->cap };
    const size_t before = out->n;
    const bool ok = tokenizer_encode(eng->tokenizer, text, n, flags, &ids, e);
    *out = (ern_tokens){ .id = ids.id, .n = ok ? ids.n : before, .cap = ids.cap };
    return ok;
}

bool ern_tokenize(const ern_engine *eng, const char *text, size_t n_bytes, bool parse_special, ern_tokens *out, ern_err *e) {
    return need_tokenizer(eng, e) &&
           encode(eng, text, n_bytes, parse_special ? TOKENIZER_SPECIALS : TOKENIZER_PLAIN, out, e);
}

char *ern_detokenize(const ern_engine *eng, const int32_t *ids, size_t n, bool with_special, ern_err *e) {
    ern_buf raw = { .max = MAX_PROMPT_BYTES }, text = { .max = 3 * MAX_PROMPT_BYTES };
    bool ok = need_tokenizer(eng, e) && tokenizer_decode(eng->tokenizer, ids, n, with_special, &raw, e) && buf_reserve(&text, 0, e);
    for (size_t i = 0; ok && i < raw.len;) {
        int32_t cp;
        const size_t used = utf8_decode(raw.data + i, raw.len - i, &cp);
        ok = cp < 0 ? buf_str(&text, "\xEF\xBF\xBD", e) : buf_add(&text, raw.data + i, used, e);
        i += used;
    }
    buf_deinit(&raw);
    if (!ok) buf_deinit(&text);
    return buf_take(&text);
}

/* ---- special tokens --------------------------------------------------------------------------- */

/* The longest special token that s[0..n) begins with, or -1. */
static int32_t special_at(const ern_engine *eng, const int32_t *specials, size_t n_specials, const char *s, size_t n, size_t *length) {
    int32_t best = -1;
    *length = 0;
    for (size_t i = 0; i < n_specials; i++) {
        const char *piece = tokenizer_piece(eng->tokenizer, specials[i]);
        const size_t m = strlen(piece);
        if (m > *length && m <= n && memcmp(piece, s, m) == 0) {
            best = specials[i];
            *length = m;
        }
    }
    return best;
}

static bool list_specials(const ern_engine *eng, int32_t **out, size_t *n_out, ern_err *e) {
    const size_t V = tokenizer_n_tokens(eng->tokenizer);
    size_t n = 0;
    int32_t *list = mem_zalloc(V, sizeof *list, "special tokens", e);
    if (!list) return false;
    for (size_t id = 0; id < V; id++) {
        const char *piece = tokenizer_piece(eng->tokenizer, (int32_t)id);
        if (piece && *piece && tokenizer_type(eng->tokenizer, (int32_t)id) == TOKEN_CONTROL) list[n++] = (int32_t)id;
    }
    *out = list;
    *n_out = n;
    return true;
}

/* A copy of text with a mark after the first byte of every special token in it (and no marks of its own). */
static json_t *marked(const ern_engine *eng, const int32_t *specials, size_t n_specials, const char *text, size_t n, ern_err *e) {
    ern_buf b = { .max = MAX_PROMPT_BYTES };
    bool ok = buf_reserve(&b, n, e);
    for (size_t i = 0; ok && i < n; i++) {
        size_t length;
        if (n - i >= MARK_BYTES && memcmp(text + i, MARK, MARK_BYTES) == 0) {
            i += MARK_BYTES - 1;
            ok = buf_str(&b, "\xEF\xBF\xBD", e);
            continue;
        }
        ok = buf_char(&b, text[i], e);
        /* Special tokens begin with an ASCII character in every vocabulary we know; a mark inside a longer
         * character would break it, so such tokens are marked after their first character. */
        if (ok && special_at(eng, specials, n_specials, text + i, n - i, &length) >= 0) {
            int32_t cp;
            const size_t first = utf8_decode(text + i, n - i, &cp);
            ok = buf_add(&b, text + i + 1, first - 1, e) && buf_str(&b, MARK, e);
            i += first - 1;
        }
    }
    json_t *s = ok ? json_stringn(b.data, b.len) : NULL;
    buf_deinit(&b);
    if (ok && !s) ern_fail(e, ERN_NOMEM, "no memory for a message of %zu bytes", n);
    return s;
}

/* Every string of a message but its role and the types of its parts. */
static bool mark_strings(const ern_engine *eng, const int32_t *specials, size_t n_specials, json_t *v, ern_err *e) {
    const char *key;
    json_t *item;
    size_t i;
    if (json_is_object(v)) {
        json_object_foreach(v, key, item) {
            if (json_is_string(item) && strcmp(key, "role") != 0 && strcmp(key, "type") != 0) {
                json_t *s = marked(eng, specials, n_specials, json_string_value(item), json_string_length(item), e);
                if (!s || json_object_set_new(v, key, s) != 0) return false;
            } else if (!mark_strings(eng, specials, n_specials, item, e)) return false;
        }
    } else if (json_is_array(v)) {
        json_array_foreach(v, i, item) {
            if (json_is_string(item)) {
                json_t *s = marked(eng, specials, n_specials, json_string_value(item), json_string_length(item), e);
                if (!s || json_array_set_new(v, i, s) != 0) return false;
            } else if (!mark_strings(eng, specials, n_specials, item, e)) return false;
        }
    }
    return true;
}

static bool encode_plain(const ern_engine *eng, const char *s, size_t n, ern_tokens *out, ern_err *e) {
    ern_buf b = { .max = MAX_PROMPT_BYTES };
    bool ok = true;
    for (size_t i = 0; ok && i < n; i++)
        if (n - i >= MARK_BYTES && memcmp(s + i, MARK, MARK_BYTES) == 0) i += MARK_BYTES - 1;
        else ok = buf_char(&b, s[i], e);
    ok = ok && (b.len == 0 || encode(eng, b.data, b.len, TOKENIZER_PLAIN, out, e));
    buf_deinit(&b);
    return ok;
}

static bool encode_marked(const ern_engine *eng, const int32_t *specials, size_t n_specials, const char *s, size_t n,
                          ern_tokens *out, ern_err *e) {
    size_t from = 0;
    for (size_t i = 0; i < n;) {
        size_t length;
        const int32_t id = special_at(eng, specials, n_specials, s + i, n - i, &length);
        if (id < 0) { i++; continue; }
        if (!encode_plain(eng, s + from, i - from, out, e) || !encode(eng, s + i, length, TOKENIZER_SPECIALS, out, e)) return false;
        i += length;
        from = i;
    }
    return encode_plain(eng, s + from, n - from, out, e);
}

/* ---- conversations ---------------------------------------------------------------------------- */

bool engine_template_vars(const ern_engine *eng, json_t *vars, ern_err *e) {
    const struct { const char *name; int32_t id; } tokens[] = {
        { "bos_token", tokenizer_bos(eng->tokenizer) }, { "eos_token", tokenizer_eos(eng->tokenizer) },
        { "unk_token", tokenizer_unk(eng->tokenizer) },
        { "cls_token", tokenizer_find(eng->tokenizer, "<|begin_of_sentence|>") },
        { "sep_token", tokenizer_find(eng->tokenizer, "<|end_of_sentence|>") },
    };
    for (size_t i = 0; i < sizeof tokens / sizeof tokens[0]; i++) {
        const char *piece = tokens[i].id >= 0 ? tokenizer_piece(eng->tokenizer, tokens[i].id) : NULL;
        if (piece && json_object_set_new(vars, tokens[i].name, json_string(piece)) != 0)
            return ern_fail(e, ERN_NOMEM, "no memory for template variables");
    }
    return true;
}

bool ern_chat_tokens(const ern_engine *eng, const char *messages_json, bool add_generation_prompt, ern_tokens *out, ern_err *e) {
    bool ok = false;
    int32_t *specials = NULL;
    size_t n_specials = 0;
    json_error_t bad;
    json_t *vars = NULL;
    ern_buf text = { .max = MAX_PROMPT_BYTES };
    const size_t before = out->n;
    if (!need_tokenizer(eng, e)) return false;
    if (!eng->chat) return ern_fail(e, ERN_MISSING, "%s: no chat template; give one with --template", source_path(eng->model->source));
    json_t *messages = json_loads(messages_json, 0, &bad);
    if (!json_is_array(messages)) {
        ern_fail_at(e, ERN_ARG, messages ? 1 : bad.line, messages ? 1 : bad.column, "messages: %s", messages ? "a JSON array wanted" : bad.text);
        goto out;
    }
    if (!list_specials(eng, &specials, &n_specials, e) || !mark_strings(eng, specials, n_specials, messages, e)) goto out;
    vars = json_pack("{s:O, s:b}", "messages", messages, "add_generation_prompt", add_generation_prompt);
    if (!vars) { ern_fail(e, ERN_NOMEM, "no memory for template variables"); goto out; }
    if (!engine_template_vars(eng, vars, e) || !template_render(eng->chat, vars, NULL, &text, e)) goto out;
    ok = encode_marked(eng, specials, n_specials, text.data ? text.data : "", text.len, out, e);
    if (!ok) out->n = before;
out:
    buf_deinit(&text);
    json_decref(vars);
    json_decref(messages);
    free(specials);
    return ok;
}
