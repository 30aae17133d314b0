/* One thread writes: what has gathered while the disk was busy becomes one transaction. Readers have a connection of their
 * own and wait for nobody. */
#include "server/store.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"

#define STORE_VERSION 1             /* PRAGMA user_version */
#define BUSY_MS 5000
#define MAX_WAITING 4096
#define MAX_TURNS 100000            /* of one conversation */

typedef struct put {
    struct put *next;
    char *id, *tenant, *previous, *response, *input;
    long created;
    store_done done;
    void *ctx;
} put;

typedef struct live {
    struct live *next;
    char *id, *tenant;
    void (*cancel)(void *ctx);
    void *ctx;
} live;

struct response_store {
    sqlite3 *writer, *reader;       /* the same one when in memory */
    pthread_t thread;
    pthread_mutex_t lock;           /* queue, is_closing */
    pthread_cond_t wake;
    put *queue, **tail;
    size_t n_waiting;
    bool is_closing, has_thread;
    pthread_mutex_t live_lock;
    live *lives;
};

static bool sql_fail(ern_err *e, sqlite3 *db, const char *what) {
    return ern_fail(e, ERN_IO, "stored responses: %s: %s", what, db ? sqlite3_errmsg(db) : "no memory");
}

static void put_free(put *p) {
    if (!p) return;
    free(p->id);
    free(p->tenant);
    free(p->previous);
    free(p->response);
    free(p->input);
    free(p);
}

/* ---- writing -------------------------------------------------------------------------------------- */

static bool insert(response_store *s, const put *p, ern_err *e) {
    static const char sql[] = "INSERT OR REPLACE INTO response(id, tenant, previous, created, response, input) "
                              "VALUES(?,?,?,?,?,?)";
    sqlite3_stmt *q = NULL;
    bool ok = sqlite3_prepare_v2(s->writer, sql, -1, &q, NULL) == SQLITE_OK;
    const char *const texts[] = { p->id, p->tenant, p->previous, NULL, p->response, p->input };
    for (int i = 0; ok && i < 6; i++)
        if (i != 3) ok = sqlite3_bind_text(q, i + 1, texts[i], -1, SQLITE_STATIC) == SQLITE_OK;      /* NULL text: NULL */
    ok = ok && sqlite3_bind_int64(q, 4, p->created) == SQLITE_OK && sqlite3_step(q) == SQLITE_DONE;
    if (!ok) sql_fail(e, s->writer, "writing");
    sqlite3_finalize(q);
    return ok;
}

static bool run(sqlite3 *db, const char *sql, ern_err *e) {
    return sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK ? true : sql_fail(e, db, sql);
}

static void write_all(response_store *s, put *list) {
    ern_err why = { 0 };
    bool ok = run(s->writer, "BEGIN IMMEDIATE", &why);
    const bool has_begun = ok;
    for (put *p = list; ok && p; p = p->next) ok = insert(s, p, &why);
    ok = ok && run(s->writer, "COMMIT", &why);
    if (has_begun && !ok) run(s->writer, "ROLLBACK", NULL);
    while (list) {
        put *p = list;
        list = p->next;
        p->done(p->ctx, ok ? NULL : &why);
        put_free(p);
    }
}

static void *write_thread(void *ctx) {
    response_store *s = ctx;
    pthread_mutex_lock(&s->lock);
    for (;;) {
        while (!s->queue && !s->is_closing) pthread_cond_wait(&s->wake, &s->lock);
        put *list = s->queue;
        if (!list) break;
        s->queue = NULL;
        s->tail = &s->queue;
        s->n_waiting = 0;
        pthread_mutex_unlock(&s->lock);
        write_all(s, list);
        pthread_mutex_lock(&s->lock);
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

bool store_put(response_store *s, const store_entry *entry, store_done done, void *ctx, ern_err *e) {
    put *p = mem_zalloc(1, sizeof *p, "response", e);
    if (!p) return false;
    p->id = mem_strndup(entry->id, strlen(entry->id), NULL);
    p->tenant = mem_strndup(entry->tenant, strlen(entry->tenant), NULL);
    p->previous = entry->previous ? mem_strndup(entry->previous, strlen(entry->previous), NULL) : NULL;
    p->response = json_dumps(entry->response, JSON_COMPACT);
    p->input = json_dumps(entry->input, JSON_COMPACT);
    p->created = entry->created;
    p->done = done;
    p->ctx = ctx;
    bool ok = p->id && p->tenant && (p->previous || !entry->previous) && p->response && p->input;
    if (!ok) ern_fail(e, ERN_NOMEM, "no memory to store response %s", entry->id);
    pthread_mutex_lock(&s->lock);
    if (ok && s->n_waiting >= MAX_WAITING) ok = ern_fail(e, ERN_BUSY, "%zu responses wait to be stored, at most %d may",
                                                         s->n_waiting, MAX_WAITING);
    if (ok) {
        *s->tail = p;
        s->tail = &p->next;
        s->n_waiting++;
        pthread_cond_signal(&s->wake);
    }
    pthread_mutex_unlock(&s->lock);
    if (!ok) put_free(p);
    return ok;
}

/* ---- reading -------------------------------------------------------------------------------------- */

static json_t *column_json(sqlite3_stmt *q, int column) {
    const char *text = (const char *)sqlite3_column_text(q, column);
    return text ? json_loads(text, JSON_DECODE_ANY, NULL) : json_null();
}

static bool not_found(ern_err *e, const char *id) {
    return ern_fail(e, ERN_NOTFOUND, "response \"%.100s\" is not stored here", id); }

json_t *store_get(response_store *s, const char *id, const char *tenant, ern_err *e) {
    static const char sql[] = "SELECT response, input, previous FROM response WHERE id = ? AND tenant = ?";
    sqlite3_stmt *q = NULL;
    json_t *out = NULL;
    bool ok = sqlite3_prepare_v2(s->reader, sql, -1, &q, NULL) == SQLITE_OK &&
              sqlite3_bind_text(q, 1, id, -1, SQLITE_STATIC) == SQLITE_OK &&
              sqlite3_bind_text(q, 2, tenant, -1, SQLITE_STATIC) == SQLITE_OK;
    const int step = ok ? sqlite3_step(q) : SQLITE_ERROR;
    if (step == SQLITE_ROW) {
        const char *previous = (const char *)sqlite3_column_text(q, 2);
        json_t *response = column_json(q, 0), *input = column_json(q, 1);
        if (json_is_object(response) && json_is_array(input))
            out = json_pack("{s:O, s:O, s:s?}", "response", response, "input", input, "previous", previous);
        if (!out) ern_fail(e, ERN_IO, "response \"%.100s\": what is stored of it cannot be read", id);
        json_decref(response);
        json_decref(input);
    } else if (step == SQLITE_DONE) not_found(e, id);
    else sql_fail(e, s->reader, "reading");
    sqlite3_finalize(q);
    return out;
}

bool store_delete(response_store *s, const char *id, const char *tenant, ern_err *e) {
    static const char sql[] = "DELETE FROM response WHERE id = ? AND tenant = ? RETURNING id";
    sqlite3_stmt *q = NULL;
    bool ok = sqlite3_prepare_v2(s->reader, sql, -1, &q, NULL) == SQLITE_OK &&
              sqlite3_bind_text(q, 1, id, -1, SQLITE_STATIC) == SQLITE_OK &&
              sqlite3_bind_text(q, 2, tenant, -1, SQLITE_STATIC) == SQLITE_OK;
    int step = ok ? sqlite3_step(q) : SQLITE_ERROR;
    const bool is_found = step == SQLITE_ROW;
    if (is_found) step = sqlite3_step(q);
    if (step != SQLITE_DONE) ok = sql_fail(e, s->reader, "deleting");
    else if (!is_found) ok = not_found(e, id);
    sqlite3_finalize(q);
    return ok;
}

json_t *store_chain(response_store *s, const char *id, const char *tenant, ern_err *e) {
    json_t *turns = json_array(), *out = NULL;
    char *at = mem_strndup(id, strlen(id), e);
    bool ok = turns && at;
    while (ok && at) {                          /* from the newest to the oldest */
        json_t *turn = store_get(s, at, tenant, e);
        const char *previous = json_string_value(json_object_get(turn, "previous"));
        char *next = previous ? mem_strndup(previous, strlen(previous), e) : NULL;
        ok = turn && (next || !previous);
        if (ok && json_array_size(turns) >= MAX_TURNS)
            ok = ern_fail(e, ERN_LIMIT, "a conversation of more than %d turns", MAX_TURNS);
        if (turn) json_array_append_new(turns, turn);
        free(at);
        at = next;
    }
    free(at);
    if (ok && !(out = json_array())) ern_fail(e, ERN_NOMEM, "no memory for a conversation");
    for (size_t i = json_array_size(turns); out && i-- > 0;) {
        const json_t *turn = json_array_get(turns, i);
        json_array_extend(out, json_object_get(turn, "input"));
        json_array_extend(out, json_object_get(json_object_get(turn, "response"), "output"));
    }
    json_decref(turns);
    return out;
}

/* ---- what is being written -------------------------------------------------------------------------- */

static void live_free(live *x) {
    if (!x) return;
    free(x->id);
    free(x->tenant);
    free(x);
}

bool store_begin(response_store *s, const char *id, const char *tenant, void (*cancel)(void *ctx), void *ctx, ern_err *e) {
    live *x = mem_zalloc(1, sizeof *x, "response", e);
    if (!x) return false;
    *x = (live){ .id = mem_strndup(id, strlen(id), e), .tenant = mem_strndup(tenant, strlen(tenant), e), .cancel = cancel,
        .ctx = ctx };
    if (!x->id || !x->tenant) { live_free(x); return false; }
    pthread_mutex_lock(&s->live_lock);
    x->next = s->lives;
    s->lives = x;
    pthread_mutex_unlock(&s->live_lock);
    return true;
}

/* Under live_lock. */
static live **find_live(response_store *s, const char *id, const char *tenant) {
    live **at = &s->lives;
    while (*at && (strcmp((*at)->id, id) != 0 || (tenant && strcmp((*at)->tenant, tenant) != 0))) at = &(*at)->next;
    return at;
}

void store_end(response_store *s, const char *id) {
    pthread_mutex_lock(&s->live_lock);
    live **at = find_live(s, id, NULL), *x = *at;
    if (x) *at = x->next;
    pthread_mutex_unlock(&s->live_lock);
    live_free(x);
}

bool store_is_live(response_store *s, const char *id, const char *tenant) {
    pthread_mutex_lock(&s->live_lock);
    const bool is_live = *find_live(s, id, tenant) != NULL;
    pthread_mutex_unlock(&s->live_lock);
    return is_live;
}

bool store_cancel(response_store *s, const char *id, const char *tenant) {
    pthread_mutex_lock(&s->live_lock);
    const live *x = *find_live(s, id, tenant);
    if (x) x->cancel(x->ctx);
    pthread_mutex_unlock(&s->live_lock);
    return x != NULL;
}

/* ---- open and close --------------------------------------------------------------------------------- */

static sqlite3 *connect(const char *path, ern_err *e) {
    sqlite3 *db = NULL;
    const int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_FULLMUTEX;
    if (sqlite3_open_v2(path, &db, flags, NULL) == SQLITE_OK && sqlite3_busy_timeout(db, BUSY_MS) == SQLITE_OK) return db;
    ern_fail(e, ERN_IO, "%s: %s", path, db ? sqlite3_errmsg(db) : "no memory");
    sqlite3_close(db);
    return NULL;
}

static bool version_of(sqlite3 *db, int *out, ern_err *e) {
    sqlite3_stmt *q = NULL;
    const bool ok = sqlite3_prepare_v2(db, "PRAGMA user_version", -1, &q, NULL) == SQLITE_OK &&
        sqlite3_step(q) == SQLITE_ROW;
    if (ok) *out = sqlite3_column_int(q, 0);
    sqlite3_finalize(q);
    return ok ? true : sql_fail(e, db, "opening");
}

static bool prepare(response_store *s, const char *path, ern_err *e) {
    int version = 0;
    if (!run(s->writer, "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL", e) || !version_of(s->writer, &version, e))
        return false;
    if (version != 0 && version != STORE_VERSION)
        return ern_fail(e, ERN_FORMAT, "%s: stored responses of version %d, this program reads version %d", path, version,
                        STORE_VERSION);
    return run(s->writer, "BEGIN IMMEDIATE;"
               "CREATE TABLE IF NOT EXISTS response (id TEXT PRIMARY KEY, tenant TEXT NOT NULL, previous TEXT,"
               " created INTEGER NOT NULL, response TEXT NOT NULL, input TEXT NOT NULL);"
               "PRAGMA user_version = 1; COMMIT", e);
}

/* Conversations are nobody else's to read: the file is made with these rights before SQLite sees it. */
static bool create_file(const char *path, ern_err *e) {
    const int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) return ern_fail(e, ERN_IO, "%s: %s", path, strerror(errno));
    close(fd);
    return true;
}

response_store *store_open(const char *path, ern_err *e) {
    response_store *s = mem_zalloc(1, sizeof *s, "store", e);
    if (!s) return NULL;
    s->tail = &s->queue;
    pthread_mutex_init(&s->lock, NULL);
    pthread_mutex_init(&s->live_lock, NULL);
    pthread_cond_init(&s->wake, NULL);
    bool ok = (!path || create_file(path, e)) && (s->writer = connect(path ? path : ":memory:", e)) &&
              prepare(s, path ? path : "memory", e) && (s->reader = path ? connect(path, e) : s->writer);
    if (ok && pthread_create(&s->thread, NULL, write_thread, s) != 0) ok = ern_fail(e, ERN_NOMEM, "no thread for the store");
    else s->has_thread = ok;
    if (ok) return s;
    store_close(s);
    return NULL;
}

void store_close(response_store *s) {
    if (!s) return;
    pthread_mutex_lock(&s->lock);
    s->is_closing = true;
    pthread_cond_signal(&s->wake);
    pthread_mutex_unlock(&s->lock);
    if (s->has_thread) pthread_join(s->thread, NULL);
    if (s->reader != s->writer) sqlite3_close(s->reader);
    sqlite3_close(s->writer);
    while (s->lives) {
        live *x = s->lives;
        s->lives = x->next;
        live_free(x);
    }
    pthread_cond_destroy(&s->wake);
    pthread_mutex_destroy(&s->lock);
    pthread_mutex_destroy(&s->live_lock);
    free(s);
}
