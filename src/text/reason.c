/* A state machine over the text that is not decided yet (held). Every state looks at the beginning of held only, and
 * waits where a longer text could change its mind: so the cuts between pieces cannot matter.
 */
#include "text/reason.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#define MAX_CALL ((size_t)4 << 20)      /* bytes of one tool call; a longer one is content */
#define MAX_NEWLINES 4096               /* held back before a tag; older ones are given out */

enum state {
    START,              /* before the first letter */
    REASONING,
    SKIP,               /* newlines after a tag are dropped */
    BEGIN,              /* first thing of the content: <response>? */
    CONTENT,
    CALL                /* held is newlines, "<tool_call>" and what follows */
};

struct ern_reason {
    enum state state;
    bool starts_inside, in_response;
    reason_fn on_event;
    void *ctx;
    ern_buf held;
    size_t from;        /* held before it is done with */
    size_t call_at;     /* CALL: newlines before the tag */
    size_t scanned;     /* CALL: no end tag begins before it */
};

ern_reason *reason_open(bool starts_inside, reason_fn on_event, void *ctx, ern_err *e) {
    ern_reason *r = mem_zalloc(1, sizeof *r, "a reasoning parser", e);
    if (!r) return NULL;
    r->starts_inside = starts_inside;
    r->on_event = on_event;
    r->ctx = ctx;
    return r;
}

void reason_close(ern_reason *r) {
    if (!r) return;
    buf_deinit(&r->held);
    free(r);
}

static const char *text(const ern_reason *r) { return r->held.data + r->from; }
static size_t left(const ern_reason *r) { return r->held.len - r->from; }
static bool is_newline(char c) { return c == '\n' || c == '\r'; }

static bool emit(ern_reason *r, enum reason_kind kind, size_t n, ern_err *e) {
    if (n && !r->on_event(r->ctx, kind, text(r), n)) return ern_fail(e, ERN_STOPPED, "the caller stopped the answer");
    r->from += n;
    return true;
}

enum match { NO, PARTLY, YES };

/* Does s[0..n) begin with tag, or could it with more text? */
static enum match match(const char *s, size_t n, const char *tag) {
    const size_t size = strlen(tag);
    if (n >= size) return memcmp(s, tag, size) == 0 ? YES : NO;
    return memcmp(s, tag, n) == 0 ? PARTLY : NO;
}

/* Newlines (and blanks, when wide) at the beginning, then the tag? *skip is where it begins. */
static enum match match_after_space(const ern_reason *r, const char *tag, bool wide, size_t *skip) {
    size_t i = 0;
    const char *s = text(r);
    const size_t n = left(r);
    while (i < n && i < MAX_NEWLINES && (is_newline(s[i]) || (wide && (s[i] == ' ' || s[i] == '\t')))) i++;
    *skip = i;
    return i == MAX_NEWLINES ? NO : match(s + i, n - i, tag);
}

/* Each step returns false on failure and sets *waits when it can do no more with what is held. */

static bool step_start(ern_reason *r, bool is_last, bool *waits) {
    size_t skip;
    const enum match m = match_after_space(r, "<think>", true, &skip);
    *waits = m == PARTLY && !is_last;
    if (*waits) return true;
    if (m == YES) r->from += skip + strlen("<think>");
    r->state = m == YES || r->starts_inside ? REASONING : BEGIN;
    return true;
}

static bool step_reasoning(ern_reason *r, bool is_last, bool *waits, ern_err *e) {
    const char *s = text(r);
    const size_t n = left(r);
    for (size_t i = 0; i < n; i++) {
        const char *at = memchr(s + i, '<', n - i);
        if (!at) break;
        i = (size_t)(at - s);
        const enum match m = match(at, n - i, "</think>");
        if (m == NO || (m == PARTLY && is_last)) continue;
        *waits = m == PARTLY;
        if (!emit(r, REASON_REASONING, i, e)) return false;
        if (m == PARTLY) return true;
        r->from += strlen("</think>");
        r->state = SKIP;
        return true;
    }
    *waits = true;
    return emit(r, REASON_REASONING, n, e);
}

static void step_skip(ern_reason *r, bool *waits) {
    while (left(r) && is_newline(*text(r))) r->from++;
    *waits = left(r) == 0;
    if (!*waits) r->state = r->in_response ? CONTENT : BEGIN;
}

static void step_begin(ern_reason *r, bool is_last, bool *waits) {
    size_t skip;
    const enum match m = match_after_space(r, "<response>", false, &skip);
    *waits = m == PARTLY && !is_last;
    if (*waits) return;
    r->state = CONTENT;
    if (m != YES) return;
    r->from += skip + strlen("<response>");
    r->in_response = true;
    r->state = SKIP;
}

/* Where the newlines that end s[0..n) begin, at most MAX_NEWLINES of them. */
static size_t before_newlines(const char *s, size_t n) {
    size_t i = n;
    while (i && n - i < MAX_NEWLINES && is_newline(s[i - 1])) i--;
    return i;
}

static bool step_content(ern_reason *r, bool is_last, bool *waits, ern_err *e) {
    const char *s = text(r);
    const size_t n = left(r);
    for (size_t i = 0; i < n; i++) {
        const char *at = memchr(s + i, '<', n - i);
        if (!at) break;
        i = (size_t)(at - s);
        const enum match call = match(at, n - i, "<tool_call>");
        const enum match close = r->in_response ? match(at, n - i, "</response>") : NO;
        const size_t plain = before_newlines(s, i);
        if (call != YES && close != YES && (is_last || (call == NO && close == NO))) continue;
        *waits = call == PARTLY || close == PARTLY;
        if (!emit(r, REASON_CONTENT, plain, e)) return false;
        if (*waits) return true;
        if (call == YES) {
            r->state = CALL;
            r->call_at = r->scanned = i - plain;
        } else {
            r->from += i - plain + strlen("</response>");
            r->in_response = false;
            r->state = SKIP;
        }
        return true;
    }
    *waits = true;
    return emit(r, REASON_CONTENT, is_last ? n : before_newlines(s, n), e);
}

/* Trimmed to the object; false unless it is JSON with a name. */
static bool is_call(const char **s, size_t *n) {
    while (*n && strchr(" \t\r\n", **s) && **s) { ++*s; --*n; }
    while (*n && (*s)[*n - 1] && strchr(" \t\r\n", (*s)[*n - 1])) --*n;
    if (!*n || **s != '{') return false;
    json_t *j = json_loadb(*s, *n, JSON_DECODE_INT_AS_REAL | JSON_ALLOW_NUL, NULL);
    const bool is = json_is_string(json_object_get(j, "name"));
    json_decref(j);
    return is;
}

/* Is s[n] inside of a JSON string? Then an end tag there is the string's. */
static bool is_quoted(const char *s, size_t n) {
    bool in = false;
    for (size_t i = 0; i < n; i++) {
        if (in && s[i] == '\\') i++;
        else if (s[i] == '"') in = !in;
    }
    return in;
}

/* The call's text is decided: an event, or content together with the newlines before it. length: of all of it. */
static bool end_call(ern_reason *r, size_t body_end, size_t length, ern_err *e) {
    const size_t body = r->call_at + strlen("<tool_call>");
    const char *s = text(r) + body;
    size_t n = body_end - body;
    if (!is_call(&s, &n)) {
        r->state = CONTENT;
        return emit(r, REASON_CONTENT, length, e);
    }
    if (!r->on_event(r->ctx, REASON_TOOL_CALL, s, n)) return ern_fail(e, ERN_STOPPED, "the caller stopped the answer");
    r->from += length;
    r->state = SKIP;
    return true;
}

static bool step_call(ern_reason *r, bool is_last, bool *waits, ern_err *e) {
    static const char close[] = "</tool_call>";
    const size_t size = strlen(close), n = left(r), body = r->call_at + strlen("<tool_call>");
    const char *s = text(r);
    const size_t end = n - r->call_at > MAX_CALL ? r->call_at + MAX_CALL : n;
    size_t i = r->scanned > body ? r->scanned : body;
    while (i + size <= end) {
        const char *at = memmem(s + i, end - i, close, size);
        if (!at) break;
        i = (size_t)(at - s);
        if (!is_quoted(s + body, i - body)) return end_call(r, i, i + size, e);
        i += size;
    }
    r->scanned = i > end - size && i <= end ? i : end > size ? end - size + 1 : 0;
    if (end < n) return end_call(r, body, end, e);              /* too long: an empty body is no call */
    *waits = !is_last;
    return *waits || end_call(r, n, n, e);
}

static bool advance(ern_reason *r, bool is_last, ern_err *e) {
    bool ok = true;
    for (bool waits = false; ok && !waits && left(r);) {
        switch (r->state) {
        case START: ok = step_start(r, is_last, &waits); break;
        case REASONING: ok = step_reasoning(r, is_last, &waits, e); break;
        case SKIP: step_skip(r, &waits); break;
        case BEGIN: step_begin(r, is_last, &waits); break;
        case CONTENT: ok = step_content(r, is_last, &waits, e); break;
        case CALL: ok = step_call(r, is_last, &waits, e); break;
        }
    }
    if (r->from) memmove(r->held.data, text(r), left(r));
    r->held.len -= r->from;
    r->from = 0;
    return ok;
}

bool reason_feed(ern_reason *r, const char *piece, size_t n, ern_err *e) {
    return n == 0 || (buf_add(&r->held, piece, n, e) && advance(r, false, e));
}

bool reason_finish(ern_reason *r, ern_err *e) { return !r->held.len || advance(r, true, e); }
