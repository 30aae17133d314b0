/* The steps of a tokenizer.json: normalizers, pre-tokenizers, post-processors, decoders. What is not supported is
 * refused by name; nothing is skipped silently. */
#include <stdlib.h>
#include <string.h>

#include "text/tokenizer_int.h"

typedef bool (*part_fn)(ern_tokenizer *t, const json_t *j, int depth, ern_err *e);
typedef struct { const char *type; part_fn fn; } part;

static const char *text_of(const json_t *j, const char *key) { return json_string_value(json_object_get(j, key)); }
static bool flag(const json_t *j, const char *key, bool fallback) {
    const json_t *v = json_object_get(j, key);
    return json_is_boolean(v) ? json_is_true(v) : fallback;
}

static bool dispatch(ern_tokenizer *t, const json_t *j, int depth, const char *what, const part *parts, size_t n,
                     ern_err *e) {
    if (!j || json_is_null(j)) return true;
    const char *type = text_of(j, "type");
    if (!type) return ern_fail(e, ERN_FORMAT, "tokenizer.json: a %s without type", what);
    if (depth > TOK_MAX_NESTING) return ern_fail(e, ERN_LIMIT, "tokenizer.json: %s nested deeper than %d", what,
                                                 TOK_MAX_NESTING);
    for (size_t i = 0; i < n; i++)
        if (strcmp(parts[i].type, type) == 0) return parts[i].fn(t, j, depth, e);
    return ern_fail(e, ERN_MISSING, "tokenizer.json: %s \"%.64s\" is not supported", what, type);
}

static bool each(ern_tokenizer *t, const json_t *list, int depth, part_fn fn, const char *what, ern_err *e) {
    if (!json_is_array(list)) return ern_fail(e, ERN_FORMAT, "tokenizer.json: a %s Sequence without its list", what);
    for (size_t i = 0; i < json_array_size(list); i++)
        if (!fn(t, json_array_get(list, i), depth + 1, e)) return false;
    return true;
}

static char *copy_text(const char *s, size_t *n, ern_err *e) {
    *n = strlen(s);
    return mem_strndup(s, *n, e);
}

/* {"String": s} or {"Regex": r}; an old file writes the string itself. */
static const char *pattern_of(const json_t *j, bool *is_regex) {
    const json_t *p = json_object_get(j, "pattern");
    *is_regex = text_of(p, "Regex") != NULL;
    return *is_regex ? text_of(p, "Regex") : json_is_string(p) ? json_string_value(p) : text_of(p, "String");
}

/* ---- normalizers ------------------------------------------------------------------------------ */

static bool norm_sequence(ern_tokenizer *t, const json_t *j, int depth, ern_err *e) {
    return each(t, json_object_get(j, "normalizers"), depth, tok_json_norm, "normalizer", e);
}

static bool norm_prepend(ern_tokenizer *t, const json_t *j, int depth, ern_err *e) {
    const char *text = text_of(j, "prepend");
    (void)depth;
    if (!text) return ern_fail(e, ERN_FORMAT, "tokenizer.json: normalizer Prepend without its text");
    if (strcmp(text, SPACE_MARK) == 0) t->adds_space_prefix = true;
    tok_norm *step = tok_add_norm(t, NORM_PREPEND, e);
    return step && (step->to = copy_text(text, &step->to_bytes, e));
}

static bool norm_replace(ern_tokenizer *t, const json_t *j, int depth, ern_err *e) {
    bool is_regex;
    const char *from = pattern_of(j, &is_regex), *to = text_of(j, "content");
    (void)depth;
    if (!from || !to) return ern_fail(e, ERN_FORMAT, "tokenizer.json: normalizer Replace without pattern or content");
    tok_norm *step = tok_add_norm(t, is_regex ? NORM_REPLACE_REGEX : NORM_REPLACE, e);
    if (!step || !(step->to = copy_text(to, &step->to_bytes, e))) return false;
    if (is_regex) return (step->regex = regex_open(from, e)) != NULL;
    return (step->from = copy_text(from, &step->from_bytes, e)) != NULL;
}

static bool norm_plain(ern_tokenizer *t, const json_t *j, int depth, ern_err *e) {
    static const struct { const char *type; enum tok_norm_op op; } ops[] = {
        { "NFC", NORM_NFC }, { "NFD", NORM_NFD }, { "NFKC", NORM_NFKC }, { "NFKD", NORM_NFKD }, { "Lowercase", NORM_LOWER },
        { "StripAccents", NORM_STRIP_ACCENTS }, { "Strip", NORM_STRIP },
    };
    (void)depth;
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++) {
        if (strcmp(ops[i].type, text_of(j, "type")) != 0) continue;
        tok_norm *step = tok_add_norm(t, ops[i].op, e);
        if (!step) return false;
        step->left = flag(j, "strip_left", true);
        step->right = flag(j, "strip_right", true);
        return true;
    }
    return false;
}

static bool norm_bert(ern_tokenizer *t, const json_t *j, int depth, ern_err *e) {
    tok_norm *step = tok_add_norm(t, NORM_BERT, e);
    (void)depth;
    if (!step) return false;
    step->cleans = flag(j, "clean_text", true);
    step->pads_han = flag(j, "handle_chinese_chars", true);
    step->lowers = flag(j, "lowercase", true);
    step->strips_accents = flag(j, "strip_accents", step->lowers);
    return true;
}

bool tok_json_norm(ern_tokenizer *t, const json_t *j, int depth, ern_err *e) {
    static const part parts[] = {
        { "Sequence", norm_sequence }, { "Prepend", norm_prepend }, { "Replace", norm_replace }, { "NFC", norm_plain },
            { "NFD", norm_plain },
        { "NFKC", norm_plain }, { "NFKD", norm_plain }, { "Lowercase", norm_plain }, { "StripAccents", norm_plain },
            { "Strip", norm_plain },
        { "BertNormalizer", norm_bert },
    };
    return dispatch(t, j, depth, "normalizer", parts, sizeof parts / sizeof parts[0], e);
}

/* ---- pre-tokenizers --------------------------------------------------------------------------- */

static bool set_behavior(tok_pre *step, const json_t *j, const char *fallback, ern_err *e) {
    static const char *const names[] = { "Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous" };
    const char *name = text_of(j, "behavior");
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(names[i], name ? name : fallback) == 0) {
            step->behavior = (enum tok_behavior)i;
            return true;
        }
    return ern_fail(e, ERN_MISSING, "tokenizer.json: behavior \"%.64s\" is not supported", name);
}

static bool pre_sequence(ern_tokenizer *t, const json_t *j, int depth, ern_err *e) {
    return each(t, json_object_get(j, "pretokenizers"), depth, tok_json_pre, "pre-tokenizer", e);
}

static bool pre_bytelevel(ern_tokenizer *t, const json_t *j, int depth, ern_err *e) {
    (void)depth;
    t->has_bytelevel_step = true;
    if (flag(j, "add_prefix_space", true) && !tok_add_pre(t, PRE_PREFIX_SPACE, e)) return false;
    return !flag(j, "use_regex", true) || tok_add_pre_regex(t, pre_name_find("gpt-2")->regex[0], e);
}

static bool pre_split(ern_tokenizer *t, const json_t *j, int depth, ern_err *e) {
    bool is_regex;
    const char *pattern = pattern_of(j, &is_regex);
    (void)depth;
    if (!pattern) return ern_fail(e, ERN_FORMAT, "tokenizer.json: pre-tokenizer Split without a pattern");
    if (is_regex && !tok_add_pre_regex(t, pattern, e)) return false;
    if (!is_regex) {
        tok_pre *literal = tok_add_pre(t, PRE_LITERAL, e);
        if (!literal || !(literal->text = copy_text(pattern, &literal->text_bytes, e))) return false;
    }
    t->pre[t->n_pre - 1].is_inverted = flag(j, "invert", false);
    return set_behavior(&t->pre[t->n_pre - 1], j, "Isolated", e);
}

static bool pre_regex_with(ern_tokenizer *t, const char *regex, enum tok_behavior behavior, bool is_inverted, ern_err *e) {
    if (!tok_add_pre_regex(t, regex, e)) return false;
    t->pre[t->n_pre - 1].behavior = behavior;
    t->pre[t->n_pre - 1].is_inverted = is_inverted;
    return true;
}

static bool pre_digits(ern_tokenizer *t, const json_t *j, int depth, ern_err *e) {
    (void)depth;
    return tok_add_pre_regex(t, flag(j, "individual_digits", false) ? "\\p{N}" : "\\p{N}+", e);
}

static bool pre_whitespace(ern_tokenizer *t, const json_t *j, int depth, ern_err *e) {
    (void)j;
    (void)depth;
    return pre_regex_with(t, "\\w+|[^\\w\\s]+", SPLIT_REMOVED, true, e);
}

static bool pre_spaces(ern_tokenizer *t, const json_t *j, int depth, ern_err *e) {
    tok_pre *step = tok_add_pre(t, PRE_SPACES, e);
    (void)j;
    (void)depth;
    if (step) step->behavior = SPLIT_REMOVED;
    return step != NULL;
}

static bool pre_punctuation(ern_tokenizer *t, const json_t *j, int depth, ern_err *e) {
    tok_pre *step = tok_add_pre(t, PRE_PUNCTUATION, e);
    (void)depth;
    return step && set_behavior(step, j, "Isolated", e);
}

static bool pre_bert(ern_tokenizer *t, const json_t *j, int depth, ern_err *e) {
    return pre_spaces(t, j, depth, e) && tok_add_pre(t, PRE_PUNCTUATION, e) != NULL;
}

/* prepend_scheme, or add_prefix_space of older files. */
static enum tok_prepend scheme_of(const json_t *j) {
    const char *scheme = text_of(j, "prepend_scheme");
    if (!scheme) return flag(j, "add_prefix_space", true) ? PREPEND_ALWAYS : PREPEND_NEVER;
    return strcmp(scheme, "never") == 0 ? PREPEND_NEVER : strcmp(scheme, "first") == 0 ? PREPEND_FIRST : PREPEND_ALWAYS;
}

static bool pre_metaspace(ern_tokenizer *t, const json_t *j, int depth, ern_err *e) {
    const char *mark = text_of(j, "replacement");
    tok_pre *step = tok_add_pre(t, PRE_METASPACE, e);
    (void)depth;
    if (!step || !(step->text = copy_text(mark && *mark ? mark : SPACE_MARK, &step->text_bytes, e))) return false;
    step->prepend = scheme_of(j);
    step->splits = flag(j, "split", true);
    if (step->prepend != PREPEND_NEVER) t->adds_space_prefix = true;
    return true;
}

static bool pre_delimiter(ern_tokenizer *t, const json_t *j, int depth, ern_err *e) {
    const char *delimiter = text_of(j, "delimiter");
    tok_pre *step = tok_add_pre(t, PRE_LITERAL, e);
    (void)depth;
    if (!delimiter || !*delimiter) return ern_fail(e, ERN_FORMAT,
                                                   "tokenizer.json: CharDelimiterSplit without its delimiter");
    if (!step || !(step->text = copy_text(delimiter, &step->text_bytes, e))) return false;
    step->behavior = SPLIT_REMOVED;
    return true;
}

bool tok_json_pre(ern_tokenizer *t, const json_t *j, int depth, ern_err *e) {
    static const part parts[] = {
        { "Sequence", pre_sequence }, { "ByteLevel", pre_bytelevel }, { "Split", pre_split }, { "Digits", pre_digits },
        { "Whitespace", pre_whitespace }, { "WhitespaceSplit", pre_spaces }, { "Punctuation", pre_punctuation },
        { "BertPreTokenizer", pre_bert }, { "Metaspace", pre_metaspace }, { "CharDelimiterSplit", pre_delimiter },
    };
    return dispatch(t, j, depth, "pre-tokenizer", parts, sizeof parts / sizeof parts[0], e);
}

/* ---- post-processors -------------------------------------------------------------------------- */

static bool add_edge(ern_tokenizer *t, int32_t *list, size_t *n, json_int_t id, ern_err *e) {
    if (id < 0 || (uint64_t)id >= t->pieces.n)
        return ern_fail(e, ERN_FORMAT, "tokenizer.json: the post-processor adds id %lld, the vocabulary has %zu tokens",
                        (long long)id, t->pieces.n);
    if (*n == TOK_MAX_EDGE_IDS) return ern_fail(e, ERN_LIMIT, "tokenizer.json: the post-processor adds more than %d ids",
                                                TOK_MAX_EDGE_IDS);
    list[(*n)++] = (int32_t)id;
    return true;
}

static bool post_sequence(ern_tokenizer *t, const json_t *j, int depth, ern_err *e) {
    return each(t, json_object_get(j, "processors"), depth, tok_json_post, "post-processor", e);
}

static bool post_nothing(ern_tokenizer *t, const json_t *j, int depth, ern_err *e) {
    (void)t; (void)j; (void)depth; (void)e;             /* ByteLevel only moves offsets, which we do not give */
    return true;
}

static bool post_bert(ern_tokenizer *t, const json_t *j, int depth, ern_err *e) {
    const json_t *cls = json_array_get(json_object_get(j, "cls"), 1), *sep = json_array_get(json_object_get(j, "sep"), 1);
    (void)depth;
    if (!json_is_integer(cls) || !json_is_integer(sep)) return ern_fail(e, ERN_FORMAT,
            "tokenizer.json: a post-processor without cls and sep");
    return add_edge(t, t->before, &t->n_before, json_integer_value(cls), e) &&
        add_edge(t, t->after, &t->n_after, json_integer_value(sep), e);
}

static bool post_template(ern_tokenizer *t, const json_t *j, int depth, ern_err *e) {
    const json_t *items = json_object_get(j, "single"), *specials = json_object_get(j, "special_tokens");
    bool is_after = false;
    (void)depth;
    if (!json_is_array(items)) return ern_fail(e, ERN_FORMAT,
                                               "tokenizer.json: TemplateProcessing without its list \"single\"");
    for (size_t i = 0; i < json_array_size(items); i++) {
        const json_t *item = json_array_get(items, i), *token = json_object_get(item, "SpecialToken");
        if (!token) {
            is_after = is_after || json_object_get(item, "Sequence");
            continue;
        }
        const char *name = text_of(token, "id");
        const json_t *ids = json_object_get(name ? json_object_get(specials, name) : NULL, "ids");
        if (!json_is_array(ids))
            return ern_fail(e, ERN_FORMAT, "tokenizer.json: TemplateProcessing names \"%.64s\", which it does not define",
                            name ? name : "");
        for (size_t k = 0; k < json_array_size(ids); k++)
            if (!add_edge(t, is_after ? t->after : t->before, is_after ? &t->n_after : &t->n_before,
                          json_integer_value(json_array_get(ids, k)), e))
                return false;
    }
    return true;
}

bool tok_json_post(ern_tokenizer *t, const json_t *j, int depth, ern_err *e) {
    static const part parts[] = {
        { "Sequence", post_sequence }, { "ByteLevel", post_nothing }, { "BertProcessing", post_bert },
            { "RobertaProcessing", post_bert },
        { "TemplateProcessing", post_template },
    };
    return dispatch(t, j, depth, "post-processor", parts, sizeof parts / sizeof parts[0], e);
}

/* ---- decoders --------------------------------------------------------------------------------- */

static bool dec_sequence(ern_tokenizer *t, const json_t *j, int depth, ern_err *e) {
    return each(t, json_object_get(j, "decoders"), depth, tok_json_decoder, "decoder", e);
}

static bool dec_flag(ern_tokenizer *t, const json_t *j, int depth, ern_err *e) {
    const char *type = text_of(j, "type");
    (void)depth; (void)e;
    if (strcmp(type, "ByteLevel") == 0) t->decoder.is_bytelevel = true;
    else if (strcmp(type, "ByteFallback") == 0) t->decoder.has_byte_tokens = true;
    return true;                                        /* Fuse: what we give out is one text anyway */
}

static bool dec_wordpiece(ern_tokenizer *t, const json_t *j, int depth, ern_err *e) {
    (void)depth; (void)e;
    t->decoder.is_wordpiece = true;
    t->decoder.cleans_up = flag(j, "cleanup", true);
    return true;
}

static bool dec_replace(ern_tokenizer *t, const json_t *j, int depth, ern_err *e) {
    bool is_regex;
    const char *from = pattern_of(j, &is_regex), *to = text_of(j, "content");
    (void)depth;
    if (!from || !to) return ern_fail(e, ERN_FORMAT, "tokenizer.json: decoder Replace without pattern or content");
    if (is_regex) return ern_fail(e, ERN_MISSING, "tokenizer.json: decoder Replace with a regex is not supported");
    return tok_add_replace(t, from, to, e);
}

static bool dec_metaspace(ern_tokenizer *t, const json_t *j, int depth, ern_err *e) {
    const char *mark = text_of(j, "replacement");
    (void)depth;
    if (scheme_of(j) != PREPEND_NEVER) {
        t->decoder.strip_char = ' ';
        t->decoder.n_strip = 1;
    }
    return tok_add_replace(t, mark && *mark ? mark : SPACE_MARK, " ", e);
}

static bool dec_strip(ern_tokenizer *t, const json_t *j, int depth, ern_err *e) {
    const char *what = text_of(j, "content");
    const json_int_t start = json_integer_value(json_object_get(j, "start")),
        stop = json_integer_value(json_object_get(j, "stop"));
    (void)depth;
    if (!what || strlen(what) != 1 || stop != 0 || start < 0)
        return ern_fail(e, ERN_MISSING,
                        "tokenizer.json: decoder Strip cuts one ASCII character at the start, not \"%.16s\" %lld %lld",
                        what ? what : "", (long long)start, (long long)stop);
    t->decoder.strip_char = what[0];
    t->decoder.n_strip = (size_t)start;
    return true;
}

bool tok_json_decoder(ern_tokenizer *t, const json_t *j, int depth, ern_err *e) {
    static const part parts[] = {
        { "Sequence", dec_sequence }, { "ByteLevel", dec_flag }, { "ByteFallback", dec_flag }, { "Fuse", dec_flag },
        { "WordPiece", dec_wordpiece }, { "Replace", dec_replace }, { "Metaspace", dec_metaspace }, { "Strip", dec_strip },
    };
    return dispatch(t, j, depth, "decoder", parts, sizeof parts / sizeof parts[0], e);
}
