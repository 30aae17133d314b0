#include "cli/pull.h"

#include <ctype.h>
#include <errno.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "base/file.h"
#include "base/sha256.h"
#include "cli/cli.h"

#define MAX_FILES 4096
#define MAX_PATH_BYTES 65536

typedef struct { const char *name; uint64_t size; const char *sha256; } entry;     /* borrowed from the listing */

/* ---- names ------------------------------------------------------------------------------------- */

/* A path inside the folder: no way out of it, no oddities. */
static bool is_safe(const char *name) {
    if (!*name || *name == '/' || strlen(name) > 1024) return false;
    for (const char *p = name; *p;) {
        const size_t n = strcspn(p, "/");
        if (n == 0 || (n == 1 && p[0] == '.') || (n == 2 && p[0] == '.' && p[1] == '.')) return false;
        for (size_t i = 0; i < n; i++)
            if ((unsigned char)p[i] < 0x20 || p[i] == '\\' || p[i] == 0x7F) return false;
        p += n;
        if (*p == '/' && !*++p) return false;
    }
    return true;
}

static bool add_escaped(ern_buf *out, const char *text, ern_err *e) {
    for (const char *p = text; *p; p++) {
        const unsigned char c = (unsigned char)*p;
        if (isalnum(c) || strchr("-._~/", c) ? !buf_char(out, *p, e) : !buf_printf(out, e, "%%%02X", c)) return false;
    }
    return true;
}

static bool make_folders(const char *path, ern_err *e) {
    char *copy = mem_strndup(path, strlen(path), e);
    bool ok = copy != NULL;
    for (char *p = copy ? copy + 1 : NULL; ok && p && *p; p++)
        if (*p == '/') {
            *p = '\0';
            if (mkdir(copy, 0777) != 0 && errno != EEXIST) ok = ern_fail(e, ERN_IO, "%s: %s", copy, strerror(errno));
            *p = '/';
        }
    free(copy);
    return ok;
}

/* ---- the list of files ------------------------------------------------------------------------- */

static bool listing_url(ern_buf *url, const pull_options *o, bool with_blobs, ern_err *e) {
    buf_clear(url);
    if (!buf_printf(url, e, "%s/api/models/", o->base) || !add_escaped(url, o->name, e)) return false;
    if (strcmp(o->revision, "main") != 0 && (!buf_str(url, "/revision/", e) || !add_escaped(url, o->revision, e)))
        return false;
    return !with_blobs || buf_str(url, "?blobs=true", e);
}

/* Servers that do not know ?blobs=true are asked without it. */
static json_t *fetch_listing(const pull_options *o, ern_err *e) {
    ern_buf url = { .max = MAX_PATH_BYTES }, text = { 0 };
    json_error_t bad;
    json_t *json = NULL;
    ern_err why = { 0 };
    bool ok = listing_url(&url, o, true, e) && download_text(url.data, o->token, &text, &why);
    if (!ok && (why.code == ERN_NOTFOUND || why.code == ERN_IO) && url.data && !cli_interrupted()) {
        ern_err second = { 0 };
        ok = why.code == ERN_NOTFOUND && listing_url(&url, o, false, e) && download_text(url.data, o->token, &text, &second);
    }
    if (!ok && e && why.code != ERN_OK) *e = why;
    if (ok && !(json = json_loadb(text.data ? text.data : "", text.len, 0, &bad)))
        ern_fail_at(e, ERN_FORMAT, bad.line, bad.column, _("%s: the list of files is no JSON: %s"), url.data, bad.text);
    buf_deinit(&url);
    buf_deinit(&text);
    return json;
}

static bool is_wanted(const pull_options *o, const char *name) {
    if (!o->only || o->only->n == 0) return true;
    for (size_t i = 0; i < o->only->n; i++)
        if (fnmatch(o->only->item[i], name, 0) == 0) return true;
    return false;
}

static bool read_entry(entry *out, const json_t *item, const char *model, ern_err *e) {
    const json_t *lfs = json_object_get(item, "lfs"), *size = json_object_get(item, "size");
    const char *name = json_string_value(json_object_get(item, "rfilename")),
        *sum = json_string_value(json_object_get(lfs, "sha256"));
    if (!sum) sum = json_string_value(json_object_get(lfs, "oid"));
    if (json_is_object(lfs) && json_is_integer(json_object_get(lfs, "size"))) size = json_object_get(lfs, "size");
    if (!name || !is_safe(name))
        return ern_fail(e, ERN_FORMAT, _("%s: the list holds the file name \"%s\", a path inside the folder wanted"),
                        model, name ? name : "");
    *out = (entry){ .name = name, .sha256 = sum && strlen(sum) == 64 ? sum : NULL };
    if (json_is_integer(size) && json_integer_value(size) > 0) out->size = (uint64_t)json_integer_value(size);
    return true;
}

static bool list_entries(const pull_options *o, const json_t *listing, entry **out, size_t *n_out, ern_err *e) {
    const json_t *siblings = json_object_get(listing, "siblings");
    const size_t n_all = json_array_size(siblings);
    size_t n = 0;
    if (!json_is_array(siblings)) return ern_fail(e, ERN_FORMAT, _("%s: the list of files has no \"siblings\""), o->name);
    if (n_all > MAX_FILES) return ern_fail(e, ERN_LIMIT, _("%s: %zu files, at most %d"), o->name, n_all, MAX_FILES);
    entry *list = mem_zalloc(n_all ? n_all : 1, sizeof *list, "files", e);
    if (!list) return false;
    for (size_t i = 0; i < n_all; i++) {
        if (!read_entry(&list[n], json_array_get(siblings, i), o->name, e)) {
            free(list);
            return false;
        }
        n += is_wanted(o, list[n].name);
    }
    if (n == 0) {
        free(list);
        return ern_fail(e, ERN_NOTFOUND, _("%s: none of its %zu files is wanted"), o->name, n_all);
    }
    *out = list;
    *n_out = n;
    return true;
}

/* ---- files ------------------------------------------------------------------------------------- */

struct running { pull_fn progress; void *ctx; pull_event ev; };

static bool on_download(void *ctx, uint64_t done, uint64_t total) {
    struct running *r = ctx;
    r->ev.done = done;
    r->ev.total = total;
    return !r->progress || r->progress(r->ctx, &r->ev);
}

static bool file_sum(const char *path, char sum[65], ern_err *e) {
    ern_map m = { 0 };
    ern_sha256 s;
    if (!file_map(&m, path, e)) return false;
    sha256_begin(&s);
    sha256_add(&s, m.data, m.size_bytes);
    sha256_hex(&s, sum);
    file_unmap(&m);
    return true;
}

/* Whole already? By its size, and by its sum when asked to verify. */
static bool is_present(const pull_options *o, const entry *f, const char *path, char sum[65]) {
    struct stat st;
    sum[0] = '\0';
    if (stat(path, &st) != 0 || !S_ISREG(st.st_mode)) return false;
    if (f->size && (uint64_t)st.st_size != f->size) return false;
    return !o->verifies || !f->sha256 || (file_sum(path, sum, NULL) && strcasecmp(sum, f->sha256) == 0);
}

static bool pull_file(const pull_options *o, const entry *f, struct running *r, json_t *report, ern_err *e) {
    ern_buf url = { .max = MAX_PATH_BYTES };
    download_result result = { 0 };
    char *path = file_join(o->folder, f->name, e);
    bool ok = path && make_folders(path, e);
    const bool was_there = ok && is_present(o, f, path, result.sha256);
    r->ev.file = f->name;
    r->ev.is_present = was_there;
    ok = ok && on_download(r, 0, f->size);
    if (ok && was_there) result.size = f->size;
    else if (ok) {
        ok = buf_printf(&url, e, "%s/", o->base) && add_escaped(&url, o->name, e) && buf_str(&url, "/resolve/", e) &&
            add_escaped(&url, o->revision, e) &&
             buf_char(&url, '/', e) && add_escaped(&url, f->name, e);
        const download_job job = { .url = url.data, .path = path, .size = f->size, .sha256 = f->sha256, .token = o->token };
        ok = ok && download_file(&job, on_download, r, &result, e);
    }
    if (ok && report)
        json_array_append_new(report,
                              json_pack("{s:s, s:I, s:s, s:b, s:s}", "name", f->name, "bytes", (json_int_t)result.size,
                                        "sha256", result.sha256,
                                                "checked", result.is_checked || (was_there && o->verifies && f->sha256),
                                                    "state", was_there ? "present" : "fetched"));
    buf_deinit(&url);
    free(path);
    return ok;
}

/* What is still to come must fit on the disk. */
static bool check_space(const pull_options *o, const entry *list, size_t n, ern_err *e) {
    struct statvfs fs;
    uint64_t wanted = 0;
    for (size_t i = 0; i < n; i++) {
        struct stat st;
        char *path = file_join(o->folder, list[i].name, e);
        if (!path) return false;
        if (stat(path, &st) != 0) wanted += list[i].size;
        free(path);
    }
    if (statvfs(o->folder, &fs) != 0) return true;
    const uint64_t there = (uint64_t)fs.f_bavail * fs.f_frsize;
    return wanted <= there ||
           ern_fail(e, ERN_LIMIT, _("%s: %llu bytes to fetch, %llu are free on the disk"), o->folder,
                    (unsigned long long)wanted, (unsigned long long)there);
}

bool pull_model(const pull_options *o, pull_fn progress, void *ctx, json_t **report, ern_err *e) {
    struct running r = { .progress = progress, .ctx = ctx };
    entry *list = NULL;
    size_t n = 0;
    bool ok = false;
    char *inside = NULL;
    json_t *listing = NULL, *done = report ? json_array() : NULL;
    if (!is_safe(o->name)) { ern_fail(e, ERN_ARG, _("model name: found \"%s\", OWNER/NAME wanted"), o->name); goto out; }
    if (!(listing = fetch_listing(o, e)) || !list_entries(o, listing, &list, &n, e)) goto out;
    if (!(inside = file_join(o->folder, "x", e)) || !make_folders(inside, e) || !check_space(o, list, n, e)) goto out;
    r.ev.n_files = n;
    for (r.ev.index = 0; r.ev.index < n; r.ev.index++)
        if (!pull_file(o, &list[r.ev.index], &r, done, e)) goto out;
    if (report) *report = json_incref(done);
    ok = true;
out:
    json_decref(done);
    json_decref(listing);
    free(inside);
    free(list);
    return ok;
}
