/* Text and conversations to tokens. No text of a conversation can become a special token: a mark is put into the text of
 * every special token in it before the template is rendered, and taken out again while the rest is tokenised as plain
 * text. */
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "engine/engine.h"

/* The marks: U+FDD0 to U+FDEF, noncharacters that no text has to hold. One that this conversation does not hold is taken. */
#define MARK_BYTES 3
#define FIRST_MARK 0xFDD0
#define N_MARKS 32
#define MAX_PROMPT_BYTES ((size_t)256 << 20)
#define MAX_DEPTH 512               /* of the JSON; jansson itself stops at 2048 */
#define MESSAGE_DEPTH 2             /* variables, the array "messages" (or "tools"), one of its objects */

void ern_tokens_free(ern_tokens *t) {
    free(t->id);
    *t = (ern_tokens){ 0 };
}

static bool need_tokenizer(const ern_engine *eng, ern_err *e) {
    return eng->tokenizer ||
           ern_fail(e, ERN_MISSING, "%s: no tokenizer files (tokenizer.model, tokenizer.json or vocab.txt)",
                    source_path(eng->model->source));
}

bool engine_encode(const ern_engine *eng, const char *text, size_t n, unsigned flags, ern_tokens *out, ern_err *e) {
    ern_ids ids = { .id = out->id, .n = out->n, .cap = out->cap };
    const size_t before = out->n;
    if (!need_tokenizer(eng, e)) return false;
    const bool ok = tokenizer_encode(eng->tokenizer, text, n, flags, &ids, e);
    *out = (ern_tokens){ .id = ids.id, .n = ok ? ids.n : before, .cap = ids.cap };
    return ok;
}

bool ern_tokenize(const ern_engine *eng, const char *text, size_t n_bytes, bool parse_special, ern_tokens *out, ern_err *e) {
    return engine_encode(eng, text, n_bytes, parse_special ? TOKENIZER_SPECIALS : TOKENIZER_PLAIN, out, e);
}

char *ern_detokenize(const ern_engine *eng, const int32_t *ids, size_t n, bool with_special, ern_err *e) {
    ern_buf raw = { .max = MAX_PROMPT_BYTES }, text = { .max = 3 * MAX_PROMPT_BYTES };
    bool ok = need_tokenizer(eng, e) && tokenizer_decode(eng->tokenizer, ids, n, with_special, &raw, e) &&
              buf_reserve(&text, raw.len, e);
    for (size_t i = 0; ok && i < raw.len;) {
        int32_t cp;
        size_t used = utf8_decode(raw.data + i, raw.len - i, &cp);
        if (cp < 0 && tokenizer_kind_of(eng->tokenizer) == TOKENIZER_SPM) used = 1;     /* as the stream writes it */
        ok = cp < 0 ? buf_str(&text, "\xEF\xBF\xBD", e) : buf_add(&text, raw.data + i, used, e);
        i += used;
    }
    buf_deinit(&raw);
    if (!ok) buf_deinit(&text);
    return buf_take(&text);
}

/* ---- marking ---------------------------------------------------------------------------------- */

struct marker {
    const engine_specials *specials;
    char mark[MARK_BYTES + 1];
    size_t n_marks;
    bool is_assistant;      /* the message being marked is the model's own */
};

/* Templates look for these in the model's own messages, to cut reasoning out of old turns or to show it again; there they
 * stay what they are. */
static bool is_own_tag(const char *text, size_t n) {
    static const char *const tags[] = { "<think>", "</think>", "<response>", "</response>", "<tool_call>", "</tool_call>" };
    for (size_t i = 0; i < sizeof tags / sizeof tags[0]; i++)
        if (strlen(tags[i]) == n && memcmp(tags[i], text, n) == 0) return true;
    return false;
}

static void note_marks(uint32_t *seen, const char *s, size_t n) {
    for (const char *end = s + n; (s = memchr(s, 0xEF, (size_t)(end - s))) != NULL; s++) {
        int32_t cp;
        utf8_decode(s, (size_t)(end - s), &cp);
        if (cp >= FIRST_MARK && cp < FIRST_MARK + N_MARKS) *seen |= UINT32_C(1) << (cp - FIRST_MARK);
    }
}

static void note_marks_of(uint32_t *seen, const json_t *v) {
    const char *key;
    json_t *item;
    size_t i;
    if (json_is_string(v)) note_marks(seen, json_string_value(v), json_string_length(v));
    else if (json_is_array(v)) {
        json_array_foreach(v, i, item) note_marks_of(seen, item);
    } else if (json_is_object(v)) {
        json_object_foreach((json_t *)(uintptr_t)v, key, item) {
            note_marks(seen, key, strlen(key));
            note_marks_of(seen, item);
        }
    }
}

static bool choose_mark(struct marker *m, const ern_engine *eng, const json_t *vars, ern_err *e) {
    uint32_t seen = 0;
    int32_t i = 0;
    note_marks_of(&seen, vars);
    note_marks(&seen, eng->chat_source, strlen(eng->chat_source));
    while (i < N_MARKS && (seen >> i & 1)) i++;
    if (i == N_MARKS)
        return ern_fail(e, ERN_ARG, "messages: they hold all %d noncharacters U+FDD0 to U+FDEF; one has to be free",
                        N_MARKS);
    utf8_encode(FIRST_MARK + i, m->mark);
    return true;
}

/* text with the mark after the first character of every special token in it. The end of text is marked too when it begins a
 * special token: a template may put two texts together. Special tokens may overlap, so every position counts. */
static bool mark_text(struct marker *m, ern_buf *out, const char *text, size_t n, ern_err *e) {
    size_t from = 0;
    for (size_t i = 0; i < n; i++) {
        bool is_cut;
        int32_t cp;
        if (!m->specials->begins[(uint8_t)text[i]]) continue;
        const size_t length = specials_match(m->specials, text + i, n - i, &is_cut);
        if ((!length && !is_cut) || (m->is_assistant && is_own_tag(text + i, length))) continue;
        const size_t to = i + utf8_decode(text + i, n - i, &cp);
        if (!buf_add(out, text + from, to - from, e) || !buf_add(out, m->mark, MARK_BYTES, e)) return false;
        m->n_marks++;
        from = to;
        i = to - 1;
    }
    return buf_add(out, text + from, n - from, e);
}

static json_t *marked_string(struct marker *m, const char *text, size_t n, ern_err *e) {
    ern_buf b = { .max = MAX_PROMPT_BYTES };
    json_t *s = NULL;
    if (mark_text(m, &b, text, n, e) && !(s = json_stringn(b.data ? b.data : "", b.len)))
        ern_fail(e, ERN_NOMEM, "no memory for a message of %zu bytes", n);
    buf_deinit(&b);
    return s;
}

static json_t *marked(struct marker *m, json_t *v, size_t depth, ern_err *e);

static bool add_marked_member(struct marker *m, json_t *to, const char *key, json_t *item, size_t depth, ern_err *e) {
    ern_buf b = { .max = MAX_PROMPT_BYTES };
    json_t *copy = NULL;
    bool ok = mark_text(m, &b, key, strlen(key), e) && (copy = marked(m, item, depth, e));
    if (ok && json_object_set_new(to, b.data ? b.data : "", copy) != 0)
        ok = ern_fail(e, ERN_NOMEM, "no memory for a message");
    buf_deinit(&b);
    return ok;
}

/* A copy of v in which every string and every name is marked. */
static json_t *marked(struct marker *m, json_t *v, size_t depth, ern_err *e) {
    const char *key;
    json_t *item, *copy;
    size_t i;
    bool ok = true;
    if (depth > MAX_DEPTH) {
        ern_fail(e, ERN_LIMIT, "messages: nested deeper than %d", MAX_DEPTH);
        return NULL;
    }
    if (json_is_string(v)) return marked_string(m, json_string_value(v), json_string_length(v), e);
    if (!json_is_object(v) && !json_is_array(v)) return json_incref(v);
    if (!(copy = json_is_object(v) ? json_object() : json_array())) {
        ern_fail(e, ERN_NOMEM, "no memory for a message");
        return NULL;
    }
    const char *role = json_string_value(json_object_get(v, "role"));
    if (depth == MESSAGE_DEPTH) m->is_assistant = role && strcmp(role, "assistant") == 0;
    if (json_is_object(v)) {
        json_object_foreach(v, key, item) {
            if (!(ok = add_marked_member(m, copy, key, item, depth + 1, e))) break;
        }
    } else {
        json_array_foreach(v, i, item) {
            json_t *part = marked(m, item, depth + 1, e);
            if (!(ok = part != NULL)) break;
            if (json_array_append_new(copy, part) != 0) { ok = ern_fail(e, ERN_NOMEM, "no memory for a message"); break; }
        }
    }
    if (depth == MESSAGE_DEPTH) m->is_assistant = false;
    if (ok) return copy;
    json_decref(copy);
    return NULL;
}

/* ---- tokenising what was marked --------------------------------------------------------------- */

static bool is_mark(const struct marker *m, const char *s, size_t n) {
    return n >= MARK_BYTES && memcmp(s, m->mark, MARK_BYTES) == 0;
}

static bool encode_plain(const ern_engine *eng, const struct marker *m, const char *s, size_t n, ern_tokens *out,
                         ern_err *e) {
    ern_buf b = { .max = MAX_PROMPT_BYTES };
    bool ok = buf_reserve(&b, n, e);
    size_t from = 0;
    for (size_t i = 0; ok && i < n;) {
        if (!is_mark(m, s + i, n - i)) { i++; continue; }
        ok = buf_add(&b, s + from, i - from, e);
        from = i += MARK_BYTES;
    }
    ok = ok && buf_add(&b, s + from, n - from, e) &&
         (b.len == 0 || engine_encode(eng, b.data, b.len, TOKENIZER_LITERAL, out, e));
    buf_deinit(&b);
    return ok;
}

/* Special tokens stand for themselves where the template wrote them: there no mark follows their first character. */
static bool encode_marked(const ern_engine *eng, const struct marker *m, const char *s, size_t n, ern_tokens *out,
                          ern_err *e) {
    size_t from = 0;
    if (m->n_marks == 0) return n == 0 || engine_encode(eng, s, n, TOKENIZER_SPECIALS, out, e);
    for (size_t i = 0; i < n;) {
        bool is_cut;
        const size_t length = specials_match(m->specials, s + i, n - i, &is_cut);
        if (length == 0 || is_mark(m, s + i + length, n - i - length)) { i++; continue; }
        if (!encode_plain(eng, m, s + from, i - from, out, e) ||
            !engine_encode(eng, s + i, length, TOKENIZER_SPECIALS, out, e))
            return false;
        from = i += length;
    }
    return encode_plain(eng, m, s + from, n - from, out, e);
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

/* The rendering as a reader sees it. */
static bool add_unmarked(const struct marker *m, const char *s, size_t n, ern_buf *out, ern_err *e) {
    bool ok = buf_reserve(out, n, e);
    for (size_t i = 0; ok && i < n;) {
        if (is_mark(m, s + i, n - i)) { i += MARK_BYTES; continue; }
        ok = buf_char(out, s[i++], e);
    }
    return ok;
}

bool engine_chat_vars(const ern_engine *eng, const ern_template *t, json_t *given, ern_tokens *out, ern_buf *rendered,
                      ern_err *e) {
    struct marker m = { .specials = &eng->specials };
    ern_buf text = { .max = MAX_PROMPT_BYTES };
    const size_t before = out ? out->n : 0;
    json_t *vars = NULL;
    const bool ok = choose_mark(&m, eng, given, e) && (vars = marked(&m, given, 0, e)) &&
                    engine_template_vars(eng, vars, e) && template_render(t ? t : eng->chat, vars, NULL, &text, e) &&
                    (!rendered || add_unmarked(&m, text.data ? text.data : "", text.len, rendered, e)) &&
                    (!out || encode_marked(eng, &m, text.data ? text.data : "", text.len, out, e));
    if (!ok && out) out->n = before;
    buf_deinit(&text);
    json_decref(vars);
    return ok;
}

static bool need_template(const ern_engine *eng, ern_err *e) {
    if (eng->model->c.arch == ARCH_BERT)
        return ern_fail(e, ERN_ARG, "%s: an encoder gives embeddings, it has no conversations",
                        source_path(eng->model->source));
    return need_tokenizer(eng, e) &&
           (eng->chat ||
            ern_fail(e, ERN_MISSING, "%s: no chat template; give one with --template", source_path(eng->model->source)));
}

static json_t *parse(const char *text, ern_err *e) {
    json_error_t bad;
    json_t *v = json_loads(text, JSON_ALLOW_NUL, &bad);
    if (!v) ern_fail_at(e, ERN_ARG, bad.line, bad.column, "messages: %s", bad.text);
    return v;
}

bool ern_chat_tokens(const ern_engine *eng, const char *messages_json, bool add_generation_prompt, ern_tokens *out,
                     ern_err *e) {
    bool ok = false;
    json_t *messages = NULL, *vars = NULL;
    if (!need_template(eng, e) || !(messages = parse(messages_json, e))) return false;
    if (!json_is_array(messages)) ern_fail(e, ERN_ARG, "messages: a JSON array wanted");
    else if (!(vars = json_pack("{s:O, s:b}", "messages", messages, "add_generation_prompt", add_generation_prompt)))
        ern_fail(e, ERN_NOMEM, "no memory for template variables");
    else ok = engine_chat_vars(eng, NULL, vars, out, NULL, e);
    json_decref(vars);
    json_decref(messages);
    return ok;
}

bool ern_chat_render(const ern_engine *eng, const char *vars_json, ern_tokens *out, ern_err *e) {
    bool ok = false;
    json_t *vars = NULL;
    if (!need_template(eng, e) || !(vars = parse(vars_json, e))) return false;
    if (!json_is_object(vars) || !json_is_array(json_object_get(vars, "messages")))
        ern_fail(e, ERN_ARG, "template variables: a JSON object with the array \"messages\" wanted");
    else ok = engine_chat_vars(eng, NULL, vars, out, NULL, e);
    json_decref(vars);
    return ok;
}
