/* tokenizer.model of SentencePiece: a protobuf message.
 *
 *   FIELD   MEANING
 *   1       a piece: 1 text, 2 score (float), 3 type (1 normal 2 unknown 3 control 4 user-defined 5 unused 6 byte)
 *   2       training: 3 model type (1 unigram, 2 BPE), 24 whitespace as suffix, 35 byte fallback,
 *           40 unk, 41 bos, 42 eos, 43 pad (ids)
 *   3       normalizer: 2 precompiled character map, 3 dummy prefix, 4 extra whitespaces removed, 5 spaces escaped
 */
#include <stdlib.h>
#include <string.h>

#include "base/cursor.h"
#include "base/utf8.h"
#include "text/tokenizer_int.h"

enum { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5 };
enum { MODEL_UNIGRAM = 1, MODEL_BPE = 2 };

typedef struct { uint64_t number, value; unsigned wire; const uint8_t *bytes; size_t n; } field;

typedef struct {
    int64_t model, unk, bos, eos, pad;
    bool has_suffix_spaces, has_byte_fallback, adds_prefix, removes_spaces, escapes;
    const uint8_t *charsmap;
    size_t charsmap_bytes;
} spec;

static bool varint(ern_cursor *c, uint64_t *out, ern_err *e) {
    uint64_t v = 0;
    const size_t at = c->pos;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        uint8_t b;
        if (!cursor_u8(c, &b, e)) return false;
        v |= (uint64_t)(b & 0x7F) << shift;
        if (b < 0x80) {
            *out = v;
            return true;
        }
    }
    return ern_fail(e, ERN_FORMAT, "%s: the number at byte %zu is longer than ten bytes", c->name, at);
}

static bool next_field(ern_cursor *c, field *f, ern_err *e) {
    uint64_t tag = 0, n = 0;
    uint32_t low = 0, high = 0;
    const size_t at = c->pos;
    if (!varint(c, &tag, e)) return false;
    *f = (field){ .number = tag >> 3, .wire = (unsigned)(tag & 7) };
    switch (f->wire) {
    case WIRE_VARINT: return varint(c, &f->value, e);
    case WIRE_32:
        if (!cursor_u32(c, &low, e)) return false;
        f->value = low;
        return true;
    case WIRE_64: return cursor_u32(c, &low, e) && cursor_u32(c, &high, e);
    case WIRE_BYTES:
        if (!varint(c, &n, e)) return false;
        if (n > c->size - c->pos) return ern_fail(e, ERN_FORMAT, "%s: the field at byte %zu has %llu bytes, %zu are left",
                                                  c->name, at, (unsigned long long)n, c->size - c->pos);
        f->n = (size_t)n;
        return cursor_bytes(c, f->n, &f->bytes, e);
    default: return ern_fail(e, ERN_FORMAT, "%s: wire type %u at byte %zu", c->name, f->wire, at);
    }
}

static bool read_piece(ern_tokenizer *t, const field *piece, size_t id, const char *name, ern_err *e) {
    ern_cursor c = { piece->bytes, piece->n, 0, name };
    const char *text = "";
    size_t n = 0, bad_at;
    float score = 0;
    uint64_t type = 1;
    while (c.pos < c.size) {
        field f;
        if (!next_field(&c, &f, e)) return false;
        if (f.number == 1 && f.wire == WIRE_BYTES) { text = (const char *)f.bytes; n = f.n; }
        else if (f.number == 2 && f.wire == WIRE_32) {
            const uint32_t bits = (uint32_t)f.value;
            memcpy(&score, &bits, sizeof score);
        } else if (f.number == 3 && f.wire == WIRE_VARINT) type = f.value;
    }
    if (n == 0) return ern_fail(e, ERN_FORMAT, "%s: piece %zu is empty", name, id);
    if (!utf8_valid(text, n, &bad_at) || memchr(text, '\0', n))
        return ern_fail(e, ERN_FORMAT, "%s: piece %zu is no NUL-free UTF-8", name, id);
    if (type < 1 || type > 6) return ern_fail(e, ERN_FORMAT, "%s: piece %zu has type %llu, 1 to 6 wanted", name, id,
                                              (unsigned long long)type);
    return tok_set_piece(t, id, text, n, (int)type, score, e);
}

static bool read_training(spec *s, const field *part, const char *name, ern_err *e) {
    ern_cursor c = { part->bytes, part->n, 0, name };
    while (c.pos < c.size) {
        field f;
        if (!next_field(&c, &f, e)) return false;
        if (f.wire != WIRE_VARINT) continue;
        switch (f.number) {
        case 3: s->model = (int64_t)f.value; break;
        case 24: s->has_suffix_spaces = f.value != 0; break;
        case 35: s->has_byte_fallback = f.value != 0; break;
        case 40: s->unk = (int32_t)f.value; break;
        case 41: s->bos = (int32_t)f.value; break;
        case 42: s->eos = (int32_t)f.value; break;
        case 43: s->pad = (int32_t)f.value; break;
        default: break;
        }
    }
    return true;
}

static bool read_normalizer(spec *s, const field *part, const char *name, ern_err *e) {
    ern_cursor c = { part->bytes, part->n, 0, name };
    while (c.pos < c.size) {
        field f;
        if (!next_field(&c, &f, e)) return false;
        if (f.number == 2 && f.wire == WIRE_BYTES) {
            s->charsmap = f.bytes;
            s->charsmap_bytes = f.n;
        }
        if (f.wire != WIRE_VARINT) continue;
        if (f.number == 3) s->adds_prefix = f.value != 0;
        else if (f.number == 4) s->removes_spaces = f.value != 0;
        else if (f.number == 5) s->escapes = f.value != 0;
    }
    return true;
}

static bool set_steps(ern_tokenizer *t, const spec *s, ern_err *e) {
    return tok_set_spm_steps(t, (const char *)s->charsmap, s->charsmap_bytes, s->removes_spaces, s->adds_prefix,
                             s->escapes, e);
}

/* The id of a role if the vocabulary agrees that it is one. */
static int32_t role(const ern_tokenizer *t, int64_t id) { return id >= 0 && (uint64_t)id < t->pieces.n ? (int32_t)id : -1; }

bool tok_read_model(ern_tokenizer *t, const uint8_t *data, size_t n, const char *name, ern_err *e) {
    ern_cursor c = { data, n, 0, name };
    spec s = { .model = MODEL_UNIGRAM, .unk = 0, .bos = 1, .eos = 2, .pad = -1, .adds_prefix = true,
               .removes_spaces = true, .escapes = true };
    size_t id = 0;
    while (c.pos < c.size) {
        field f;
        if (!next_field(&c, &f, e)) return false;
        if (f.wire != WIRE_BYTES) continue;
        if (f.number == 1 && !read_piece(t, &f, id++, name, e)) return false;
        if (f.number == 2 && !read_training(&s, &f, name, e)) return false;
        if (f.number == 3 && !read_normalizer(&s, &f, name, e)) return false;
    }
    if (id == 0) return ern_fail(e, ERN_FORMAT, "%s: no pieces: a SentencePiece model is wanted", name);
    if (s.model != MODEL_BPE)
        return ern_fail(e, ERN_MISSING, "%s: a SentencePiece model of type %lld (%s) is not supported: BPE wanted", name,
                        (long long)s.model, s.model == MODEL_UNIGRAM ? "unigram" : "word or char");
    if (s.has_suffix_spaces) return ern_fail(e, ERN_MISSING, "%s: spaces as suffixes are not supported", name);
    t->kind = TOKENIZER_SPM;
    t->has_scores = true;
    t->fuses_unknown = true;
    t->has_byte_fallback = s.has_byte_fallback;
    for (size_t i = 0; i < id; i++) t->has_byte_fallback = t->has_byte_fallback || t->types[i] == 6;
    t->unk = role(t, s.unk);
    t->bos = role(t, s.bos);
    t->eos = role(t, s.eos);
    t->pad = role(t, s.pad);
    for (size_t i = 0; i < id; i++)
        if (t->types[i] == 2) t->unk = (int32_t)i;
    return pieces_index(&t->pieces, e) && set_steps(t, &s, e) && tok_add_typed(t, e);
}

/* tokenizer.json does not tell which pieces SentencePiece takes from plain text; the model beside it does. */
bool tok_merge_model(ern_tokenizer *t, const ern_tokenizer *model, ern_err *e) {
    const size_t n = model->pieces.n;
    if (t->kind != TOKENIZER_SPM || n > t->pieces.n) return true;
    for (size_t id = 0; id < n; id++)
        if (t->pieces.len[id] != model->pieces.len[id] ||
            memcmp(pieces_text(&t->pieces, id), pieces_text(&model->pieces, id), t->pieces.len[id]) != 0)
            return true;                                /* another vocabulary: it has no say */
    for (size_t id = 0; id < n; id++) {
        t->scores[id] = model->scores[id];
        if (model->types[id] != 4 || t->types[id] == 4) continue;
        const char *text = pieces_text(&t->pieces, id);
        /* In the text as it came, where tokenizer.json seeks the rest: a digit must not be cut out of "<mask:1>". */
        const tok_added a = { .text = (char *)(uintptr_t)text, .n = t->pieces.len[id], .id = (int32_t)id,
                              .level = t->types[id] == 3 ? LEVEL_PLAIN
                                  : LEVEL_LITERAL, .is_normalized = strstr(text, SPACE_MARK) != NULL };
        const bool was_special = t->types[id] == 3;
        if (!tok_add_added(t, &a, was_special, e)) return false;
        t->types[id] = 4;
    }
    t->has_scores = true;
    return true;
}
