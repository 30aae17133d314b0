/* Ids to text as it becomes final. Bytes wait in held until they are whole characters and can begin no stop string. */
#include "text/stream.h"

#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "text/tokenizer_int.h"

#define MAX_STOPS 64
#define MAX_STOP_BYTES ((size_t)4096)
#define REPLACEMENT "\xEF\xBF\xBD"

struct ern_stream {
    const ern_tokenizer *t;
    char *stop[MAX_STOPS];
    size_t stop_bytes[MAX_STOPS], n_stops;
    tok_decode_state state;
    ern_buf raw;            /* bytes that may still be the beginning of a character */
    ern_buf held;           /* whole characters that may begin a stop string */
    size_t stopped_by;      /* which stop string, once has_stopped */
    bool has_stopped, shows_specials;
};

/* Marks that the reader of the answer needs (text/reason.h), special token or not. */
static bool is_markup(const char *piece) {
    static const char *const marks[] = { "<think>", "</think>", "<response>", "</response>", "<tool_call>",
                                         "</tool_call>" };
    for (size_t i = 0; i < sizeof marks / sizeof marks[0]; i++)
        if (strcmp(piece, marks[i]) == 0) return true;
    return false;
}

ern_stream *stream_open(const ern_tokenizer *t, const char *const *stops, size_t n_stops, ern_err *e) {
    ern_stream *s = NULL;
    bool ok = false;
    if (n_stops > MAX_STOPS) {
        ern_fail(e, ERN_LIMIT, "%zu stop strings, at most %d are taken", n_stops, MAX_STOPS);
        goto out;
    }
    if (!(s = mem_zalloc(1, sizeof *s, "stream", e))) goto out;
    s->t = t;
    for (size_t i = 0; i < n_stops; i++) {
        const size_t n = strlen(stops[i]);
        if (n == 0) { ern_fail(e, ERN_ARG, "stop string %zu is empty", i); goto out; }
        if (n > MAX_STOP_BYTES) {
            ern_fail(e, ERN_LIMIT, "stop string %zu has %zu bytes, at most %zu are taken", i, n, MAX_STOP_BYTES);
            goto out;
        }
        if (!(s->stop[i] = mem_strndup(stops[i], n, e))) goto out;
        s->stop_bytes[i] = n;
        s->n_stops++;
    }
    ok = true;
out:
    if (!ok) {
        stream_close(s);
        s = NULL;
    }
    return s;
}

void stream_close(ern_stream *s) {
    if (!s) return;
    for (size_t i = 0; i < s->n_stops; i++) free(s->stop[i]);
    buf_deinit(&s->raw);
    buf_deinit(&s->held);
    free(s);
}

void stream_show_specials(ern_stream *s) { s->shows_specials = true; }

/* Whole characters of raw go to held; bytes that are no UTF-8 become U+FFFD, at the end of the text the last ones too:
 * one for each byte in a SentencePiece vocabulary, one for each cut character otherwise, as the libraries write it. */
static bool take_characters(ern_stream *s, bool is_end, ern_err *e) {
    size_t at = 0;
    const size_t tail = is_end ? 0 : utf8_tail(s->raw.data, s->raw.len), n = s->raw.len - tail;
    while (at < n) {
        int32_t cp;
        size_t used = utf8_decode(s->raw.data + at, n - at, &cp);
        if (cp < 0 && tokenizer_kind_of(s->t) == TOKENIZER_SPM) used = 1;
        if (!(cp < 0 ? buf_str(&s->held, REPLACEMENT, e) : buf_add(&s->held, s->raw.data + at, used, e))) return false;
        at += used;
    }
    memmove(s->raw.data, s->raw.data + at, tail + 1);
    s->raw.len = tail;
    return true;
}

/* Where the stop string that is complete first begins in held (of two the longer), or held.len. That is the same stop
 * however the text arrives. *keep: the bytes at the end that may begin one. */
static size_t find_stop(ern_stream *s, size_t *keep) {
    size_t begin = s->held.len, end = SIZE_MAX;
    *keep = 0;
    for (size_t i = 0; i < s->n_stops; i++) {
        const size_t n = s->stop_bytes[i];
        const char *hit = s->held.len >= n ? memmem(s->held.data, s->held.len, s->stop[i], n) : NULL;
        const size_t at = hit ? (size_t)(hit - s->held.data) : 0;
        if (hit && (at + n < end || (at + n == end && at < begin))) {
            begin = at;
            end = at + n;
            s->stopped_by = i;
        }
        for (size_t k = n - 1 < s->held.len ? n - 1 : s->held.len; k > *keep; k--)
            if (memcmp(s->held.data + s->held.len - k, s->stop[i], k) == 0) *keep = k;
    }
    return begin;
}

static bool give(ern_stream *s, bool is_end, ern_buf *out, ern_err *e) {
    size_t keep, n = find_stop(s, &keep);
    if (n < s->held.len) s->has_stopped = true;
    else if (!is_end) n -= keep;
    if (!buf_add(out, s->held.data, n, e)) return false;
    memmove(s->held.data, s->held.data + n, s->held.len - n + 1);
    s->held.len -= n;
    return true;
}

bool stream_feed(ern_stream *s, int32_t id, ern_buf *out, bool *stopped, ern_err *e) {
    if (s->has_stopped) {
        if (stopped) *stopped = true;
        return true;
    }
    if (id < 0 || (size_t)id >= tokenizer_n_tokens(s->t))
        return ern_fail(e, ERN_ARG, "id %d, the vocabulary has 0 to %zu", (int)id, tokenizer_n_tokens(s->t) - 1);
    const bool is_shown = s->shows_specials || !tok_is_hidden(s->t, id) || is_markup(tokenizer_piece(s->t, id));
    if (!buf_reserve(out, 0, e) || !buf_reserve(&s->raw, 0, e) || !buf_reserve(&s->held, 0, e)) return false;
    if (is_shown && !detok_add(s->t, id, &s->state, &s->raw, e)) return false;
    if (!take_characters(s, false, e) || !give(s, false, out, e)) return false;
    if (stopped) *stopped = s->has_stopped;
    return true;
}

size_t stream_stopped_by(const ern_stream *s) { return s->stopped_by; }

bool stream_finish(ern_stream *s, ern_buf *out, ern_err *e) {
    if (!buf_reserve(out, 0, e)) return false;
    if (s->has_stopped) return true;
    if (!buf_reserve(&s->raw, 0, e) || !buf_reserve(&s->held, 0, e)) return false;
    return take_characters(s, true, e) && give(s, true, out, e);
}
