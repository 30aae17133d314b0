/* API keys: who may do what, and how much of it.
 *
 * The file is JSON: {"keys": [{"name": "ann", "key": "sk-...", "scopes": ["chat", "embeddings"], "tenant": "team-a",
 * "requests_per_minute": 60, "tokens_per_day": 1000000, "priority": 1}]}. Instead of "key" there may be "sha256": the hash of
 * it in hexadecimal. Without "scopes" everything is allowed, without "tenant" the key is its own. Only hashes are kept; no
 * key is ever logged.
 */
#ifndef SERVER_KEYS_H
#define SERVER_KEYS_H

#include "base/err.h"

typedef struct server_keys server_keys;
typedef struct server_key server_key;

server_keys *keys_open(const char *path, ern_err *e);
server_keys *keys_parse(const char *text, size_t n, ern_err *e);
void keys_close(server_keys *k);

/* The key whose secret this is; NULL with ERN_AUTH. Every key is compared, in the same time. */
server_key *keys_find(server_keys *k, const char *secret, ern_err *e);
/* One more request at now_s (any steady clock): scope, requests a minute, tokens a day. retry_after_s is set on ERN_RATE. */
bool keys_admit(server_keys *k, server_key *key, const char *scope, double now_s, unsigned *retry_after_s, ern_err *e);
void keys_charge(server_keys *k, server_key *key, size_t n_tokens, double now_s);

const char *keys_name(const server_key *key);       /* NULL key: "" */
const char *keys_tenant(const server_key *key);
int keys_priority(const server_key *key);

#endif
