#include "server/api_sampling.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/buf.h"

#define MAX_STOP 4              /* as OpenAI's */
#define MAX_BIAS 4096

#define AT(member) offsetof(api_sampling, member)
static const param_spec stream_specs[] = {
    { "include_usage", PARAM_FLAG, .offset = AT(include_usage), .help = "a last chunk with the usage" },
    { "include_obfuscation", PARAM_FLAG, .only = "false", .why = "nothing is padded" },
};
static const param_table stream_table = { stream_specs, PARAM_COUNT(stream_specs), NULL };

static const param_spec specs[] = {
    { "model", PARAM_STRING, .offset = AT(model), .help = "which model; the first that is served otherwise" },
    { "stream", PARAM_FLAG, .offset = AT(streams), .help = "server-sent events" },
    { "stream_options", PARAM_OBJECT, .of = &stream_table },
    { "n", PARAM_INT, .low = 1, .high = 128, .offset = AT(n), .help = "answers to one prompt" },
    { "max_tokens", PARAM_INT, .low = 1, .high = 1e9, .offset = AT(max_tokens),
      .help = "longest answer; until the context is full otherwise" },
    { "temperature", PARAM_REAL, .low = 0, .high = 2, .offset = AT(temperature), .help = "0 always takes the best token" },
    { "top_p", PARAM_REAL, .low = 0, .high = 1, .offset = AT(top_p) },
    { "top_k", PARAM_INT, .low = -1, .high = 1e6, .offset = AT(top_k), .help = "0 or -1: off" },
    { "min_p", PARAM_REAL, .low = 0, .high = 1, .offset = AT(min_p) },
    { "presence_penalty", PARAM_REAL, .low = -2, .high = 2, .offset = AT(presence) },
    { "frequency_penalty", PARAM_REAL, .low = -2, .high = 2, .offset = AT(frequency) },
    { "repetition_penalty", PARAM_REAL, .low = 0.01, .high = 100, .offset = AT(repetition) },
    { "seed", PARAM_INT, .low = -9007199254740991.0, .high = 9007199254740991.0, .offset = AT(seed),
      .help = "the same seed gives the same text" },
    { "stop", PARAM_STRING | PARAM_ARRAY, .low = 0, .high = MAX_STOP, .offset = AT(stop), .items = PARAM_STRING,
      .help = "a text or up to 4 that end the answer" },
    { "stop_token_ids", PARAM_ARRAY, .low = 0, .high = 1024, .offset = AT(stop_ids), .items = PARAM_INT },
    { "logit_bias", PARAM_OBJECT, .offset = AT(bias), .help = "{\"token id\": -100 to 100}" },
    { "bad_words", PARAM_ARRAY, .low = 0, .high = MAX_BIAS, .offset = AT(bad_words), .items = PARAM_STRING,
      .help = "texts of one token that are never written" },
    { "bad_words_token_ids", PARAM_ARRAY, .low = 0, .high = MAX_BIAS, .offset = AT(bad_ids), .items = PARAM_INT },
    { "ignore_eos", PARAM_FLAG, .offset = AT(ignores_end) },
    { "guided_json", PARAM_STRING | PARAM_OBJECT, .offset = AT(guided_json), .help = "a JSON Schema" },
    { "guided_regex", PARAM_STRING, .offset = AT(guided_regex) },
    { "guided_choice", PARAM_ARRAY, .low = 1, .high = 100000, .offset = AT(guided_choice), .items = PARAM_STRING },
    { "guided_grammar", PARAM_STRING, .offset = AT(guided_grammar), .help = "GBNF" },
    { "return_token_ids", PARAM_FLAG, .offset = AT(returns_ids), .help = "prompt_token_ids and completion_token_ids" },
    { "truncation", PARAM_STRING, .choices = "disabled|auto", .offset = AT(truncation),
      .help = "auto: a conversation that does not fit loses whole turns, the oldest first; the reply says how many" },
    { "user", PARAM_STRING, .offset = AT(user) },
    { "metadata", PARAM_OBJECT, .offset = AT(metadata) },
    { "best_of", PARAM_INT, .only = "1", .why = "use n and choose among the answers" },
    { "min_tokens", PARAM_INT, .only = "0", .why = "an answer ends where the model ends it; see ignore_eos" },
    { "include_stop_str_in_output", PARAM_FLAG, .only = "false", .why = "stop texts are not part of an answer" },
    { "temp_scaled_logprobs", PARAM_FLAG, .only = "false", .why = "logprobs are of the unmodified distribution" },
    { "top_p_normalized_logprobs", PARAM_FLAG, .only = "false", .why = "logprobs are of the unmodified distribution" },
    { "structural_tag", PARAM_REFUSED, .why = "use tools, response_format or guided_grammar" },
    { "logits_processors_args", PARAM_REFUSED, .why = "use reasoning_max_tokens for a thinking budget" },
};
const param_table api_sampling_table = { specs, PARAM_COUNT(specs), NULL };
#undef AT

bool api_fail(api_error *why, const char *param, const char *fmt, ...) {
    char text[900];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    snprintf(why->param, sizeof why->param, "%s", param);
    return ern_fail(&why->e, ERN_ARG, "%s: %s", param, text);
}

bool api_constrain(job_params *p, api_sampling_owned *own, enum constrain_kind kind, char *text, const char *name,
                   api_error *why) {
    if (p->has_constraint || !text) {
        free(text);
        return text ? api_fail(why, name, "there is another constraint on the answer: one of them wanted")
                    : ern_fail(&why->e, ERN_NOMEM, "%s: no memory", name);
    }
    p->has_constraint = true;
    p->constraint_kind = kind;
    p->constraint = own->constraint = text;
    return true;
}

static char *text_of(const json_t *v) {
    return json_is_string(v) ? mem_strndup(json_string_value(v), json_string_length(v), NULL)
                             : json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY);
}

static bool read_guided(const api_sampling *s, job_params *p, api_sampling_owned *own, api_error *why) {
    size_t i;
    json_t *v;
    json_array_foreach(s->guided_choice, i, v)
        if (!json_is_string(v)) return api_fail(why, "guided_choice", "an array of strings wanted");
    return (!s->guided_json || api_constrain(p, own, CONSTRAIN_SCHEMA, text_of(s->guided_json), "guided_json", why)) &&
           (!s->guided_choice || api_constrain(p, own, CONSTRAIN_CHOICE, text_of(s->guided_choice), "guided_choice", why)) &&
           (!s->guided_regex || api_constrain(p, own, CONSTRAIN_REGEX, mem_strndup(s->guided_regex, strlen(s->guided_regex),
                                                                                  NULL), "guided_regex", why)) &&
           (!s->guided_grammar || api_constrain(p, own, CONSTRAIN_GBNF, mem_strndup(s->guided_grammar,
                                                strlen(s->guided_grammar), NULL), "guided_grammar", why));
}

static bool read_stop(const api_sampling *s, job_params *p, api_sampling_owned *own, api_error *why) {
    if (!s->stop) return true;
    const size_t n = json_is_array(s->stop) ? json_array_size(s->stop) : 1;
    if (!(own->stop = mem_zalloc(n + 1, sizeof *own->stop, "stop", &why->e))) return false;
    for (size_t i = 0; i < n; i++) {
        const json_t *v = json_is_array(s->stop) ? json_array_get(s->stop, i) : s->stop;
        if (!json_is_string(v) || !json_string_length(v)) return api_fail(why, "stop", "a text, or up to %d, not empty", MAX_STOP);
        own->stop[i] = json_string_value(v);
    }
    p->sampling.stop = own->stop;
    p->sampling.n_stop = n;
    return true;
}

bool api_read_ids(const json_t *list, size_t n_vocab, int32_t **out, size_t *n, const char *name, api_error *why) {
    size_t i;
    json_t *v;
    int32_t *ids = mem_zalloc(json_array_size(list) + 1, sizeof *ids, name, &why->e);
    if (!ids) return false;
    json_array_foreach(list, i, v) {
        const json_int_t id = json_is_integer(v) ? json_integer_value(v) : -1;
        if (id < 0 || (size_t)id >= n_vocab) {
            free(ids);
            return api_fail(why, name, "item %zu: a token id from 0 to %zu wanted", i, n_vocab - 1);
        }
        ids[i] = (int32_t)id;
    }
    *out = ids;
    *n = json_array_size(list);
    return true;
}

static bool add_bias(job_params *p, api_sampling_owned *own, int32_t id, float bias, api_error *why) {
    ern_logit_bias *more = mem_grow(own->bias, p->sampling.n_bias + 1, sizeof *more, "logit_bias", &why->e);
    if (!more) return false;
    own->bias = more;
    own->bias[p->sampling.n_bias++] = (ern_logit_bias){ id, bias };
    p->sampling.bias = own->bias;
    return true;
}

static bool read_bias(const api_sampling *s, job_params *p, api_sampling_owned *own, api_error *why) {
    const size_t n_vocab = ern_engine_n_vocab(p->model->eng);
    const char *key;
    json_t *v;
    if (json_object_size(s->bias) > MAX_BIAS) return api_fail(why, "logit_bias", "at most %d tokens", MAX_BIAS);
    json_object_foreach((json_t *)(uintptr_t)s->bias, key, v) {
        char *end = NULL;
        errno = 0;
        const long id = strtol(key, &end, 10);
        const double x = json_number_value(v);
        if (errno || end == key || *end || id < 0 || (size_t)id >= n_vocab)
            return api_fail(why, "logit_bias", "found \"%.40s\", a token id from 0 to %zu wanted", key, n_vocab - 1);
        if (!json_is_number(v) || !(x >= -100 && x <= 100)) return api_fail(why, "logit_bias", "%ld: -100 to 100 wanted", id);
        if (!add_bias(p, own, (int32_t)id, x <= -100 ? -INFINITY : (float)x, why)) return false;
    }
    return true;
}

static bool read_bad_words(const api_sampling *s, job_params *p, api_sampling_owned *own, api_error *why) {
    size_t i, n = 0;
    json_t *v;
    int32_t *ids = NULL;
    bool ok = true;
    json_array_foreach(s->bad_words, i, v) {
        ern_tokens t = { 0 };
        if (!json_is_string(v)) return api_fail(why, "bad_words", "item %zu: a string wanted", i);
        if (!ern_tokenize(p->model->eng, json_string_value(v), json_string_length(v), false, &t, &why->e)) return false;
        const size_t found = t.n;
        const int32_t id = found ? t.id[0] : 0;
        ern_tokens_free(&t);
        if (found != 1)
            return api_fail(why, "bad_words", "\"%.40s\" is %zu tokens of this model: only single ones can be forbidden",
                            json_string_value(v), found);
        if (!add_bias(p, own, id, -INFINITY, why)) return false;
    }
    if (!s->bad_ids) return true;
    if (!api_read_ids(s->bad_ids, ern_engine_n_vocab(p->model->eng), &ids, &n, "bad_words_token_ids", why)) return false;
    for (i = 0; ok && i < n; i++) ok = add_bias(p, own, ids[i], -INFINITY, why);
    free(ids);
    return ok;
}

bool api_sampling_apply(const api_sampling *s, job_params *p, api_sampling_owned *own, api_error *why) {
    ern_sampling *o = &p->sampling;
    if (s->temperature.is_given) o->temperature = (float)s->temperature.v;
    if (s->top_p.is_given) o->top_p = (float)s->top_p.v;
    if (s->min_p.is_given) o->min_p = (float)s->min_p.v;
    if (s->presence.is_given) o->presence_penalty = (float)s->presence.v;
    if (s->frequency.is_given) o->frequency_penalty = (float)s->frequency.v;
    if (s->repetition.is_given) o->repetition_penalty = (float)s->repetition.v;
    if (s->top_k.is_given) o->top_k = s->top_k.v > 0 ? (size_t)s->top_k.v : 0;
    if (s->top_p.is_given && s->top_p.v == 0) o->temperature = 0;       /* the best token alone */
    if (s->max_tokens.is_given) o->max_tokens = (size_t)s->max_tokens.v;
    o->ignores_end = s->ignores_end.v;
    o->seed = (uint64_t)s->seed.v;
    if (!s->seed.is_given && getrandom(&o->seed, sizeof o->seed, 0) != sizeof o->seed) o->seed = (uint64_t)(api_now() * 1e9);
    if (s->n.is_given) p->n_answers = (size_t)s->n.v;
    if (s->truncation && strcmp(s->truncation, "auto") == 0) p->truncation = TRUNCATION_AUTO;
    p->wants_ids = s->returns_ids.v;
    size_t n = 0;
    if (s->stop_ids && !api_read_ids(s->stop_ids, ern_engine_n_vocab(p->model->eng), &own->stop_ids, &n, "stop_token_ids", why))
        return false;
    o->stop_ids = own->stop_ids;
    o->n_stop_ids = n;
    return read_stop(s, p, own, why) && read_bias(s, p, own, why) && read_bad_words(s, p, own, why) &&
           read_guided(s, p, own, why);
}

void api_sampling_deinit(api_sampling_owned *own) {
    free(own->stop);
    free(own->stop_ids);
    free(own->bias);
    free(own->constraint);
    *own = (api_sampling_owned){ 0 };
}
