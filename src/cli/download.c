#include "cli/download.h"

#include <ctype.h>
#include <curl/curl.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/sha256.h"
#include "cli/cli.h"

#define MAX_REDIRECTS 10
#define MAX_ATTEMPTS 6              /* without a single new byte */
#define CONNECT_S 20L
#define STALL_S 30L                 /* less than a byte a second for so long: try again */
#define MAX_TEXT ((size_t)64 << 20)

struct transfer {
    CURL *curl;
    const char *name;               /* for messages */
    FILE *fp;                       /* NULL: into text */
    ern_buf *text;
    ern_sha256 sum;
    uint64_t done, asked_from, total, range_from;
    char etag[65];                  /* a sha256, or "" */
    bool has_linked, has_begun, was_cut, has_failed;
    download_fn progress;
    void *ctx;
    bool is_stopped;
    ern_err error;
};

/* ---- what the server sends --------------------------------------------------------------------- */

static bool is_sum(const char *s, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (!isxdigit((unsigned char)s[i])) return false;
    return n == 64;
}

/* "value" or W/"value" of an ETag header when it is a sha256. */
static void keep_etag(struct transfer *t, const char *value, size_t n) {
    while (n && (*value == ' ' || *value == '\t')) { value++; n--; }
    if (n > 2 && value[0] == 'W' && value[1] == '/') { value += 2; n -= 2; }
    while (n && (value[n - 1] == '\r' || value[n - 1] == '\n' || value[n - 1] == ' ' || value[n - 1] == '"')) n--;
    if (n && *value == '"') { value++; n--; }
    t->etag[0] = '\0';
    if (!is_sum(value, n)) return;
    for (size_t i = 0; i < n; i++) t->etag[i] = (char)tolower((unsigned char)value[i]);
    t->etag[n] = '\0';
}

static bool is_header(const char *line, size_t n, const char *name) {
    return n > strlen(name) && strncasecmp(line, name, strlen(name)) == 0;
}

/* X-Linked-Etag comes with the redirect and counts more than the ETag of what it leads to. */
static size_t on_header(char *line, size_t size, size_t count, void *ctx) {
    struct transfer *t = ctx;
    const size_t n = size * count;
    if (is_header(line, n, "X-Linked-Etag:")) {
        keep_etag(t, line + 14, n - 14);
        t->has_linked = t->etag[0] != '\0';
    } else if (!t->has_linked && is_header(line, n, "ETag:")) keep_etag(t, line + 5, n - 5);
    else if (is_header(line, n, "Content-Range:")) {
        const char *p = memchr(line, 'b', n);
        unsigned long long from;
        if (p && sscanf(p, "bytes %llu-", &from) == 1) t->range_from = from;
    }
    return n;
}

/* The answer to a request for the rest may be the whole file again: then what was there is thrown away. */
static bool begin_body(struct transfer *t) {
    long status = 0;
    curl_off_t length = -1;
    curl_easy_getinfo(t->curl, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(t->curl, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
    t->has_begun = true;
    if (t->fp && t->asked_from && (status != 206 || t->range_from != t->asked_from)) {
        if (ftruncate(fileno(t->fp), 0) != 0 || fseeko(t->fp, 0, SEEK_SET) != 0)
            return ern_fail(&t->error, ERN_IO, "%s: %s", t->name, strerror(errno));
        sha256_begin(&t->sum);
        t->done = t->asked_from = 0;
        if (status == 206)
            return ern_fail(&t->error, ERN_FORMAT, _("%s: the server sent another part than asked for"), t->name);
    }
    if (length >= 0 && t->total == 0) t->total = t->done + (uint64_t)length;
    return true;
}

static size_t on_body(char *bytes, size_t size, size_t count, void *ctx) {
    struct transfer *t = ctx;
    const size_t n = size * count;
    if (!t->has_begun && !begin_body(t)) { t->has_failed = true; return 0; }
    if (t->text) {
        if (t->text->len + n > MAX_TEXT)
            t->has_failed = !ern_fail(&t->error, ERN_LIMIT, _("%s: more than %zu bytes"), t->name, MAX_TEXT);
        else t->has_failed = !buf_add(t->text, bytes, n, &t->error);
        return t->has_failed ? 0 : n;
    }
    if (fwrite(bytes, 1, n, t->fp) != n) {
        t->has_failed = !ern_fail(&t->error, ERN_IO, "%s: %s", t->name, strerror(errno));
        return 0;
    }
    sha256_add(&t->sum, bytes, n);
    t->done += n;
    return n;
}

static int on_progress(void *ctx, curl_off_t total, curl_off_t now, curl_off_t up_total, curl_off_t up_now) {
    struct transfer *t = ctx;
    (void)total;
    (void)now;
    (void)up_total;
    (void)up_now;
    if (t->progress && !t->progress(t->ctx, t->done, t->total)) t->is_stopped = true;
    return t->is_stopped || cli_interrupted();
}

/* ---- one request ------------------------------------------------------------------------------- */

static bool set_up(struct transfer *t, const char *url, const char *token, ern_err *e) {
    CURL *c = t->curl = curl_easy_init();
    if (!c) return ern_fail(e, ERN_NOMEM, _("%s: no memory for a transfer"), t->name);
    bool ok = curl_easy_setopt(c, CURLOPT_URL, url) == CURLE_OK &&
        curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 1L) == CURLE_OK &&
              curl_easy_setopt(c, CURLOPT_MAXREDIRS, (long)MAX_REDIRECTS) == CURLE_OK &&
              curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https") == CURLE_OK &&
              curl_easy_setopt(c, CURLOPT_REDIR_PROTOCOLS_STR, "http,https") == CURLE_OK &&
              curl_easy_setopt(c, CURLOPT_USERAGENT, "ernie/" ERN_VERSION) == CURLE_OK &&
                  curl_easy_setopt(c, CURLOPT_FAILONERROR, 1L) == CURLE_OK &&
              curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT, CONNECT_S) == CURLE_OK &&
                  curl_easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, 1L) == CURLE_OK &&
              curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME, STALL_S) == CURLE_OK &&
                  curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L) == CURLE_OK &&
              curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_header) == CURLE_OK &&
                  curl_easy_setopt(c, CURLOPT_HEADERDATA, t) == CURLE_OK &&
              curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body) == CURLE_OK &&
                  curl_easy_setopt(c, CURLOPT_WRITEDATA, t) == CURLE_OK &&
              curl_easy_setopt(c, CURLOPT_XFERINFOFUNCTION, on_progress) == CURLE_OK &&
                  curl_easy_setopt(c, CURLOPT_XFERINFODATA, t) == CURLE_OK &&
              curl_easy_setopt(c, CURLOPT_NOPROGRESS, 0L) == CURLE_OK;
    /* libcurl sends a bearer token to the first host alone. */
    if (ok && token)
        ok = curl_easy_setopt(c, CURLOPT_HTTPAUTH, CURLAUTH_BEARER) == CURLE_OK &&
            curl_easy_setopt(c, CURLOPT_XOAUTH2_BEARER, token) == CURLE_OK;
    return ok || ern_fail(e, ERN_MISSING, _("%s: this libcurl cannot be set up for the transfer"), t->name);
}

static bool explain(const struct transfer *t, CURLcode code, long status, ern_err *e) {
    if (t->has_failed) { *e = t->error; return false; }
    if (code == CURLE_ABORTED_BY_CALLBACK)
        return ern_fail(e, ERN_STOPPED, _("%s: stopped; run the command again to go on"), t->name);
    if (status == 404) return ern_fail(e, ERN_NOTFOUND, _("%s: the server does not have it (HTTP 404)"), t->name);
    if (status == 401 || status == 403)
        return ern_fail(e, ERN_ARG, _("%s: access denied (HTTP %ld): is the name right? private models want HF_TOKEN"),
                        t->name, status);
    if (status >= 400) return ern_fail(e, ERN_IO, _("%s: the server answered HTTP %ld"), t->name, status);
    if (code == CURLE_COULDNT_RESOLVE_HOST || code == CURLE_COULDNT_CONNECT || code == CURLE_COULDNT_RESOLVE_PROXY)
        return ern_fail(e, ERN_IO,
                        _("%s: no connection (%s). Models that are on this machine already run without a network"),
                            t->name, curl_easy_strerror(code));
    if (code == CURLE_TOO_MANY_REDIRECTS)
        return ern_fail(e, ERN_IO, _("%s: more than %d redirects"), t->name, MAX_REDIRECTS);
    return ern_fail(e, ERN_IO, "%s: %s", t->name, curl_easy_strerror(code));
}

static bool is_transient(CURLcode code, long status) {
    return status >= 500 || status == 429 || code == CURLE_PARTIAL_FILE || code == CURLE_RECV_ERROR ||
           code == CURLE_SEND_ERROR ||
           code == CURLE_OPERATION_TIMEDOUT || code == CURLE_GOT_NOTHING || code == CURLE_HTTP2 ||
               code == CURLE_HTTP2_STREAM;
}

static void pause_before(int attempt) {
    const long ms = 200L << (attempt < 5 ? attempt : 5);
    const struct timespec t = { ms / 1000, ms % 1000 * 1000000 };
    nanosleep(&t, NULL);
}

bool download_text(const char *url, const char *token, ern_buf *out, ern_err *e) {
    const size_t before = out->len;
    for (int attempt = 1;; attempt++) {
        struct transfer t = { .name = url, .text = out };
        long status = 0;
        out->len = before;
        if (!set_up(&t, url, token, e)) return false;
        const CURLcode code = curl_easy_perform(t.curl);
        curl_easy_getinfo(t.curl, CURLINFO_RESPONSE_CODE, &status);
        curl_easy_cleanup(t.curl);
        if (code == CURLE_OK) return true;
        if (t.has_failed || !is_transient(code, status) || attempt >= MAX_ATTEMPTS) return explain(&t, code, status, e);
        pause_before(attempt);
    }
}

/* ---- a file ------------------------------------------------------------------------------------ */

/* Hash what is there already. */
static bool take_up(struct transfer *t, ern_err *e) {
    char block[65536];
    size_t n;
    sha256_begin(&t->sum);
    t->done = 0;
    rewind(t->fp);
    while ((n = fread(block, 1, sizeof block, t->fp)) > 0) {
        sha256_add(&t->sum, block, n);
        t->done += n;
    }
    if (ferror(t->fp)) return ern_fail(e, ERN_IO, "%s: %s", t->name, strerror(errno));
    return fseeko(t->fp, 0, SEEK_END) == 0 || ern_fail(e, ERN_IO, "%s: %s", t->name, strerror(errno));
}

static bool start_over(struct transfer *t, ern_err *e) {
    if (ftruncate(fileno(t->fp), 0) != 0) return ern_fail(e, ERN_IO, "%s: %s", t->name, strerror(errno));
    return take_up(t, e);
}

/* One request for what is missing. *again: the transfer broke off and another request may do. */
static bool request(struct transfer *t, const download_job *job, bool *again, ern_err *e) {
    char range[32];
    long status = 0;
    *again = false;
    if (!set_up(t, job->url, job->token, e)) return false;
    t->asked_from = t->done;
    t->has_begun = t->has_linked = false;
    t->range_from = UINT64_MAX;
    snprintf(range, sizeof range, "%llu-", (unsigned long long)t->done);
    if (t->done) curl_easy_setopt(t->curl, CURLOPT_RANGE, range);
    const CURLcode code = curl_easy_perform(t->curl);
    curl_easy_getinfo(t->curl, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_cleanup(t->curl);
    t->curl = NULL;
    if (code == CURLE_OK && fflush(t->fp) == 0) return true;
    if (code == CURLE_OK) return ern_fail(e, ERN_IO, "%s: %s", t->name, strerror(errno));
    if (status == 416 && t->asked_from) {               /* nothing beyond what is there: whole, or too long */
        *again = !(job->size && t->done == job->size);
        return *again ? start_over(t, e) && ern_fail(e, ERN_IO, _("%s: the server answered HTTP %ld"), t->name, status) :
               true;
    }
    *again = !t->has_failed && is_transient(code, status);
    return explain(t, code, status, e);
}

static bool fetch(struct transfer *t, const download_job *job, ern_err *e) {
    uint64_t reached = t->done;
    for (int attempt = 1; attempt <= MAX_ATTEMPTS; attempt++) {
        bool again;
        fflush(t->fp);
        if (request(t, job, &again, e)) return true;
        if (!again) return false;
        if (t->done > reached) attempt = 0;             /* it goes on, if slowly */
        reached = t->done;
        pause_before(attempt);
        if (cli_interrupted()) return ern_fail(e, ERN_STOPPED, _("%s: stopped; run the command again to go on"), t->name);
    }
    return false;
}

/* Size and sum as announced? */
static bool check(const struct transfer *t, const download_job *job, download_result *r, ern_err *e) {
    const char *wanted = job->sha256 ? job->sha256 : t->etag[0] ? t->etag : NULL;
    ern_sha256 sum = t->sum;
    sha256_hex(&sum, r->sha256);
    r->size = t->done;
    r->is_checked = wanted != NULL;
    if (job->size && t->done != job->size)
        return ern_fail(e, ERN_FORMAT, _("%s: %llu bytes came, %llu were announced"), t->name,
                        (unsigned long long)t->done, (unsigned long long)job->size);
    if (wanted && strcasecmp(wanted, r->sha256) != 0)
        return ern_fail(e, ERN_FORMAT, _("%s: wrong checksum: found sha256 %s, %s wanted; the file was thrown away"),
                        t->name, r->sha256, wanted);
    return true;
}

bool download_file(const download_job *job, download_fn progress, void *ctx, download_result *out, ern_err *e) {
    const char *slash = strrchr(job->path, '/');
    struct transfer t = { .name = slash ? slash + 1 : job->path, .total = job->size, .progress = progress, .ctx = ctx };
    download_result r = { 0 };
    ern_buf part = { .max = 65536 };
    bool ok = false;
    if (!buf_printf(&part, e, "%s.part", job->path)) goto out;
    if (!(t.fp = fopen(part.data, "ab+"))) { ern_fail(e, ERN_IO, "%s: %s", part.data, strerror(errno)); goto out; }
    if (!take_up(&t, e) || (job->size && t.done > job->size && !start_over(&t, e))) goto out;
    r.resumed_from = t.done;
    if (!(job->size && t.done == job->size) && !fetch(&t, job, e)) goto out;
    if (!check(&t, job, &r, e)) {
        /* What was there before may have been of another version: once more, from the beginning. */
        if (r.resumed_from == 0) { unlink(part.data); goto out; }
        if (!start_over(&t, e) || !fetch(&t, job, e)) goto out;
        if (!check(&t, job, &r, e)) { unlink(part.data); goto out; }
    }
    if (fflush(t.fp) != 0 || fsync(fileno(t.fp)) != 0 || rename(part.data, job->path) != 0) {
        ern_fail(e, ERN_IO, "%s: %s", job->path, strerror(errno));
        goto out;
    }
    *out = r;
    ok = true;
out:
    if (t.fp) fclose(t.fp);
    buf_deinit(&part);
    return ok;
}
