#include "cli/run_prompt.h"

#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "engine/engine.h"

static bool read_text(const run_prompt *p, ern_buf *text, ern_err *e) {
    for (size_t i = 0; i < p->words.n; i++)
        if ((i && !buf_char(text, ' ', e)) || !buf_str(text, p->words.item[i], e)) return false;
    if (p->words.n == 0 && !cli_read_all(p->file ? p->file : "-", text, e)) return false;
    if (p->words.n == 0 && text->len && text->data[text->len - 1] == '\n') text->data[--text->len] = '\0';
    return buf_reserve(text, 1, e);
}

static bool chat_prompt(const run_prompt *p, const ern_engine *eng, const ern_buf *text, ern_tokens *out, ern_err *e) {
    json_t *messages = json_array(), *user = json_pack("{s:s, s:s%}", "role", "user", "content", text->data, text->len);
    if (!user) {
        json_decref(messages);
        return ern_fail(e, ERN_FORMAT, _("the prompt is not valid UTF-8"));
    }
    if (p->system) json_array_append_new(messages, json_pack("{s:s, s:s}", "role", "system", "content", p->system));
    json_array_append_new(messages, user);
    char *json = json_dumps(messages, JSON_COMPACT);
    const bool ok = json ? ern_chat_tokens(eng, json, true, out, e) :
        ern_fail(e, ERN_NOMEM, _("no memory for a line of JSON"));
    free(json);
    json_decref(messages);
    return ok;
}

/* A raw text begins with the token that begins texts where the tokenizer says so. */
static bool raw_prompt(const run_prompt *p, const ern_engine *eng, const ern_buf *text, ern_tokens *out, ern_err *e) {
    ern_ids ids = { 0 };
    if (!eng->tokenizer) return ern_tokenize(eng, text->data, text->len, false, out, e);       /* says what is missing */
    const bool ok = tokenizer_encode(eng->tokenizer, text->data, text->len,
                                     TOKENIZER_ADD | (p->has_specials ? TOKENIZER_SPECIALS : TOKENIZER_PLAIN), &ids, e) &&
                    (ids.n > 0 || ern_fail(e, ERN_ARG, _("run: the prompt is empty")));
    if (!ok) {
        ids_deinit(&ids);
        return false;
    }
    /* The answer goes on from here: a token that ends texts has no place. */
    const bool adds_eos = tokenizer_vocab_of(eng->tokenizer)->adds_eos;
    if (adds_eos && ids.n > 1 && ids.id[ids.n - 1] == tokenizer_eos(eng->tokenizer)) ids.n--;
    *out = (ern_tokens){ ids.id, ids.n, ids.cap };
    return true;
}

bool run_prompt_make(ern_tokens *out, const run_prompt *p, const ern_engine *eng, ern_err *e) {
    ern_buf text = { 0 };
    bool ok;
    if (p->ids.is_given) {
        if (p->ids.n == 0) return ern_fail(e, ERN_ARG, _("run: the prompt is empty"));
        if (!(out->id = mem_zalloc(p->ids.n, sizeof *out->id, "ids", e))) return false;
        memcpy(out->id, p->ids.id, p->ids.n * sizeof *out->id);
        out->n = out->cap = p->ids.n;
        return true;
    }
    ok = read_text(p, &text, e) &&
        (p->is_chat || p->system ? chat_prompt(p, eng, &text, out, e) : raw_prompt(p, eng, &text, out, e));
    buf_deinit(&text);
    return ok;
}
