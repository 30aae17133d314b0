#include "server/keys.h"

#include <jansson.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/sha256.h"
#include "server/params.h"

#define MAX_KEYS_BYTES ((size_t)16 << 20)
#define MAX_SCOPES 32
#define DAY_S 86400.0
#define MINUTE_S 60.0

struct server_key {
    char *name, *tenant;
    uint8_t hash[32];
    char *scopes[MAX_SCOPES];
    size_t n_scopes;
    bool is_limited;                    /* by its scopes */
    int priority;
    double per_minute, per_day;         /* 0: no limit */
    double requests, requests_at;       /* a bucket that fills at per_minute / 60 a second */
    double tokens, day_began;           /* used since then */
};

struct server_keys {
    pthread_mutex_t lock;               /* of the counters */
    server_key *list;
    size_t n;
};

struct key_entry {
    const char *name, *key, *sha256, *tenant;
    const json_t *scopes;
    param_int priority, per_minute, per_day;
};

#define AT(member) offsetof(struct key_entry, member)
static const param_spec entry_specs[] = {
    { "name", PARAM_STRING, .low = 1, .high = 200, .offset = AT(name), .is_required = true },
    { "key", PARAM_STRING, .low = 8, .high = 500, .offset = AT(key) },
    { "sha256", PARAM_STRING, .low = 64, .high = 64, .offset = AT(sha256) },
    { "scopes", PARAM_ARRAY, .low = 0, .high = MAX_SCOPES, .offset = AT(scopes) },
    { "tenant", PARAM_STRING, .low = 1, .high = 200, .offset = AT(tenant) },
    { "requests_per_minute", PARAM_INT, .low = 1, .high = 1e9, .offset = AT(per_minute) },
    { "tokens_per_day", PARAM_INT, .low = 1, .high = 1e15, .offset = AT(per_day) },
    { "priority", PARAM_INT, .low = -100, .high = 100, .offset = AT(priority) },
};
static const param_table entry_table = { entry_specs, PARAM_COUNT(entry_specs), NULL };
#undef AT

static void hash_of(const char *secret, uint8_t out[32]) {
    ern_sha256 s;
    sha256_begin(&s);
    sha256_add(&s, secret, strlen(secret));
    sha256_end(&s, out);
}

static bool read_hash(const char *hex, uint8_t out[32]) {
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < 64; i++) {
        const char *at = hex[i] ? strchr(digits, hex[i] >= 'A' && hex[i] <= 'F' ? hex[i] + 32 : hex[i]) : NULL;
        if (!at) return false;
        out[i / 2] = (uint8_t)(i % 2 ? out[i / 2] | (at - digits) : (at - digits) << 4);
    }
    return true;
}

static char *copy(const char *s, ern_err *e) { return mem_strndup(s, strlen(s), e); }

static bool read_scopes(server_key *k, const json_t *scopes, size_t i, ern_err *e) {
    size_t n;
    json_t *v;
    k->is_limited = scopes != NULL;
    json_array_foreach(scopes, n, v) {
        if (!json_is_string(v)) return ern_fail(e, ERN_ARG, "keys[%zu].scopes[%zu]: a string wanted", i, n);
        if (!(k->scopes[k->n_scopes] = copy(json_string_value(v), e))) return false;
        k->n_scopes++;
    }
    return true;
}

static bool read_entry(server_key *k, const json_t *v, size_t i, ern_err *e) {
    struct key_entry in = { 0 };
    char name[PARAM_NAME_BYTES];
    ern_err why = { 0 };
    if (!params_read(&entry_table, v, &in, name, &why)) return ern_fail(e, ERN_ARG, "keys[%zu]: %.900s", i, why.text);
    if (!in.key == !in.sha256) return ern_fail(e, ERN_ARG, "keys[%zu]: either key or sha256 wanted", i);
    if (in.key) hash_of(in.key, k->hash);
    else if (!read_hash(in.sha256, k->hash)) return ern_fail(e, ERN_ARG, "keys[%zu].sha256: 64 hexadecimal digits wanted", i);
    k->priority = (int)in.priority.v;
    k->per_minute = (double)in.per_minute.v;
    k->per_day = (double)in.per_day.v;
    k->requests = k->per_minute;
    return (k->name = copy(in.name, e)) && (k->tenant = copy(in.tenant ? in.tenant : in.name, e)) &&
           read_scopes(k, in.scopes, i, e);
}

server_keys *keys_parse(const char *text, size_t n, ern_err *e) {
    json_error_t bad;
    bool ok = false;
    json_t *root = json_loadb(text, n, JSON_REJECT_DUPLICATES, &bad), *list = json_object_get(root, "keys"), *v;
    server_keys *k = mem_zalloc(1, sizeof *k, "keys", e);
    size_t i;
    if (!k) { json_decref(root); return NULL; }
    pthread_mutex_init(&k->lock, NULL);
    if (!root) ern_fail_at(e, ERN_FORMAT, bad.line, bad.column, "keys: line %d, column %d: %s", bad.line, bad.column, bad.text);
    else if (!json_is_array(list) || json_object_size(root) != 1) ern_fail(e, ERN_FORMAT, "keys: {\"keys\": [...]} wanted");
    else ok = (k->list = mem_zalloc(json_array_size(list) + 1, sizeof *k->list, "keys", e)) != NULL;
    json_array_foreach(list, i, v) {
        if (!ok) break;
        ok = read_entry(&k->list[k->n++], v, i, e);
        for (size_t j = 0; ok && j < i; j++)
            if (memcmp(k->list[j].hash, k->list[i].hash, 32) == 0 || strcmp(k->list[j].name, k->list[i].name) == 0)
                ok = ern_fail(e, ERN_ARG, "keys[%zu]: the same key or name as keys[%zu]", i, j);
    }
    json_decref(root);
    if (!ok) { keys_close(k); return NULL; }
    return k;
}

server_keys *keys_open(const char *path, ern_err *e) {
    ern_buf text = { .max = MAX_KEYS_BYTES };
    ern_err why = { 0 };
    server_keys *k = file_read(&text, path, MAX_KEYS_BYTES, &why) ? keys_parse(text.data ? text.data : "", text.len, &why) : NULL;
    if (!k) ern_fail(e, why.code, "%.200s: %.800s", path, why.text);
    if (text.data) memset(text.data, 0, text.len);
    buf_deinit(&text);
    return k;
}

void keys_close(server_keys *k) {
    if (!k) return;
    for (size_t i = 0; i < k->n; i++) {
        free(k->list[i].name);
        free(k->list[i].tenant);
        for (size_t j = 0; j < k->list[i].n_scopes; j++) free(k->list[i].scopes[j]);
    }
    free(k->list);
    pthread_mutex_destroy(&k->lock);
    free(k);
}

/* Hashes are compared in full and for every key: the time tells nothing about which byte differed. */
server_key *keys_find(server_keys *k, const char *secret, ern_err *e) {
    uint8_t hash[32];
    server_key *found = NULL;
    if (!secret || !*secret) {
        ern_fail(e, ERN_AUTH, "an API key is wanted: Authorization: Bearer KEY, or x-api-key: KEY");
        return NULL;
    }
    hash_of(secret, hash);
    for (size_t i = 0; i < k->n; i++) {
        unsigned difference = 0;
        for (size_t j = 0; j < 32; j++) difference |= (unsigned)(hash[j] ^ k->list[i].hash[j]);
        if (difference == 0) found = &k->list[i];
    }
    if (!found) ern_fail(e, ERN_AUTH, "this API key is not known here");
    return found;
}

static bool may(const server_key *key, const char *scope) {
    if (!key->is_limited || !scope) return true;
    for (size_t i = 0; i < key->n_scopes; i++)
        if (strcmp(key->scopes[i], scope) == 0 || strcmp(key->scopes[i], "*") == 0) return true;
    return false;
}

static bool take_request(server_key *key, double now_s, unsigned *retry_after_s, ern_err *e) {
    if (key->per_day > 0 && now_s - key->day_began >= DAY_S) { key->tokens = 0; key->day_began = now_s; }
    if (key->per_day > 0 && key->tokens >= key->per_day) {
        *retry_after_s = (unsigned)(DAY_S - (now_s - key->day_began)) + 1;
        return ern_fail(e, ERN_RATE, "key \"%s\": its %.0f tokens of the day are used", key->name, key->per_day);
    }
    if (key->per_minute <= 0) return true;
    const double filled = key->requests + (now_s - key->requests_at) * key->per_minute / MINUTE_S;
    key->requests = filled < key->per_minute ? filled : key->per_minute;
    key->requests_at = now_s;
    if (key->requests < 1.0) {
        *retry_after_s = (unsigned)((1.0 - key->requests) * MINUTE_S / key->per_minute) + 1;
        return ern_fail(e, ERN_RATE, "key \"%s\": %.0f requests a minute are allowed", key->name, key->per_minute);
    }
    key->requests -= 1.0;
    return true;
}

bool keys_admit(server_keys *k, server_key *key, const char *scope, double now_s, unsigned *retry_after_s, ern_err *e) {
    if (!may(key, scope)) return ern_fail(e, ERN_DENIED, "key \"%s\" does not allow \"%s\"", key->name, scope);
    pthread_mutex_lock(&k->lock);
    if (key->day_began == 0) key->day_began = now_s;
    const bool ok = take_request(key, now_s, retry_after_s, e);
    pthread_mutex_unlock(&k->lock);
    return ok;
}

void keys_charge(server_keys *k, server_key *key, size_t n_tokens, double now_s) {
    if (!key) return;
    pthread_mutex_lock(&k->lock);
    if (now_s - key->day_began >= DAY_S) { key->tokens = 0; key->day_began = now_s; }
    key->tokens += (double)n_tokens;
    pthread_mutex_unlock(&k->lock);
}

const char *keys_name(const server_key *key) { return key ? key->name : ""; }
const char *keys_tenant(const server_key *key) { return key ? key->tenant : ""; }
int keys_priority(const server_key *key) { return key ? key->priority : 0; }
