#include "formats/source.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/file.h"
#include "formats/jsonfile.h"
#include "formats/source_int.h"

#define CONFIG_MAX_BYTES ((size_t)16 << 20)

bool source_add(ern_source *s, const ern_view *v, ern_err *e) {
    if (s->n == s->cap) {
        const size_t cap = s->cap ? 2 * s->cap : 256;
        ern_view *views = mem_grow(s->views, cap, sizeof *views, "tensors", e);
        if (!views) return false;
        s->views = views;
        s->cap = cap;
    }
    char *name = mem_strndup(v->name, strlen(v->name), e);
    if (!name) return false;
    s->views[s->n] = *v;
    s->views[s->n++].name = name;
    return true;
}

void source_close(ern_source *s) {
    if (!s) return;
    for (size_t i = 0; i < s->n; i++) free((char *)(uintptr_t)s->views[i].name);
    names_deinit(&s->names);
    free(s->views);
    free(s->owned);
    json_decref(s->config);
    json_decref(s->generation);
    safetensors_close(s->safetensors);
    gguf_close(s->gguf);
    free(s->path);
    free(s);
}

static bool is_paddle(const ern_safetensors *st) {
    for (size_t i = 0; i < safetensors_n(st); i++)
        if (strncmp(safetensors_at(st, i)->name, "ernie.", 6) == 0) return true;
    return false;
}

static bool fill(ern_source *s, ern_err *e) {
    if (s->gguf) {
        s->layout = "GGUF";
        return source_from_gguf(s, e);
    }
    s->layout = is_paddle(s->safetensors) ? "Paddle" : "PT";
    return *s->layout == 'P' && s->layout[1] == 'a' ? source_from_paddle(s, e) : source_from_pt(s, e);
}

static bool index_views(ern_source *s, ern_err *e) {
    for (size_t i = 0; i < s->n; i++)
        if (!names_add(&s->names, s->views[i].name, i, e)) return false;
    const char *twice = names_sort(&s->names);
    return !twice || ern_fail(e, ERN_FORMAT, "%s: two tensors stand for %s", s->path, twice);
}

ern_source *source_build(ern_safetensors *st, ern_gguf *g, json_t *config, json_t *generation, const char *path,
                         bool is_mapped, ern_err *e) {
    ern_source *s = mem_zalloc(1, sizeof *s, "model source", e);
    if (!s) {
        safetensors_close(st);
        gguf_close(g);
        json_decref(config);
        json_decref(generation);
        return NULL;
    }
    *s = (ern_source){ .safetensors = st, .gguf = g, .config = config, .generation = generation, .is_mapped = is_mapped };
    if ((s->path = mem_strndup(path, strlen(path), e)) && fill(s, e) && index_views(s, e)) return s;
    source_close(s);
    return NULL;
}

static bool has_suffix(const char *name, const char *suffix) {
    const size_t n = strlen(name), m = strlen(suffix);
    return n >= m && strcmp(name + n - m, suffix) == 0;
}

/* "X-00002-of-00003.gguf" -> length of "X"; otherwise 0. */
static size_t part_stem(const char *name) {
    const size_t n = strlen(name), tail = strlen("-00001-of-00002.gguf");
    return n > tail && name[n - tail] == '-' && strncmp(name + n - tail + 6, "-of-", 4) == 0 ? n - tail : 0;
}

/* The model's GGUF file of a folder: the only one, or the first part of the only split one. Files mmproj* are vision
 * towers that stand beside a text model. *path stays NULL when there is none. */
static bool find_gguf(char **path, const char *folder, ern_err *e) {
    bool ok = false;
    char *first = NULL;
    size_t n = 0;
    DIR *dir = opendir(folder);
    if (!dir) return ern_fail(e, ERN_IO, "%s: %s", folder, strerror(errno));
    for (struct dirent *d = readdir(dir); d; d = readdir(dir)) {
        if (!has_suffix(d->d_name, ".gguf") || strncmp(d->d_name, "mmproj", 6) == 0) continue;
        const size_t stem = part_stem(d->d_name);
        if (first && stem && part_stem(first) == stem && strncmp(first, d->d_name, stem) == 0) continue;
        n++;
        if (!first && !(first = mem_strndup(d->d_name, strlen(d->d_name), e))) goto out;
    }
    if (n > 1) {
        ern_fail(e, ERN_ARG, "%s: holds %zu GGUF models; name the one that is meant", folder, n);
        goto out;
    }
    ok = !first || (*path = file_join(folder, first, e)) != NULL;
out:
    closedir(dir);
    free(first);
    return ok;
}

static bool has_safetensors(const char *folder) {
    bool found = false;
    DIR *dir = opendir(folder);
    if (!dir) return false;
    for (struct dirent *d = readdir(dir); d && !found; d = readdir(dir))
        found = has_suffix(d->d_name, ".safetensors") || strcmp(d->d_name, "model.safetensors.index.json") == 0;
    closedir(dir);
    return found;
}

/* DIR of "DIR/file", "." of "file". */
static char *folder_of(const char *path, ern_err *e) {
    const char *slash = strrchr(path, '/');
    return slash ? mem_strndup(path, (size_t)(slash - path) + 1, e) : mem_strndup(".", 1, e);
}

/* A JSON file of the folder; *out stays NULL when there is none. */
static bool read_side(json_t **out, const char *folder, const char *name, ern_err *e) {
    char *path = file_join(folder, name, e);
    bool ok = path != NULL;
    if (ok && file_exists(path)) ok = (*out = jsonfile_read(path, CONFIG_MAX_BYTES, e)) != NULL;
    free(path);
    return ok;
}

static ern_source *open_safetensors(const char *path, const char *folder, ern_err *e) {
    json_t *config = NULL, *generation = NULL;
    ern_safetensors *st = NULL;
    if (read_side(&config, folder, "config.json", e) && read_side(&generation, folder, "generation_config.json", e) &&
        (st = safetensors_open(path, e))) return source_build(st, NULL, config, generation, path, true, e);
    json_decref(config);
    json_decref(generation);
    return NULL;
}

static ern_source *open_gguf(const char *file, const char *path, ern_err *e) {
    ern_gguf *g = gguf_open(file, e);
    return g ? source_build(NULL, g, NULL, NULL, path, true, e) : NULL;
}

static ern_source *open_folder(const char *path, ern_err *e) {
    char *gguf = NULL;
    ern_source *s = NULL;
    if (has_safetensors(path)) return open_safetensors(path, path, e);
    if (!find_gguf(&gguf, path, e)) return NULL;
    if (gguf) s = open_gguf(gguf, path, e);
    else ern_fail(e, ERN_NOTFOUND, "%s: holds no model: model.safetensors, its shards or a .gguf file wanted", path);
    free(gguf);
    return s;
}

ern_source *source_open(const char *path, ern_err *e) {
    if (!file_exists(path)) {
        ern_fail(e, ERN_NOTFOUND, "%s: %s", path, strerror(errno));
        return NULL;
    }
    if (file_is_folder(path)) return open_folder(path, e);
    if (!has_suffix(path, ".safetensors") && !has_suffix(path, ".index.json")) return open_gguf(path, path, e);
    char *folder = folder_of(path, e);
    ern_source *s = folder ? open_safetensors(path, folder, e) : NULL;
    free(folder);
    return s;
}

const ern_view *source_find(const ern_source *s, const char *canonical_name) {
    size_t i;
    return names_find(&s->names, canonical_name, &i) ? &s->views[i] : NULL;
}

size_t source_n(const ern_source *s) { return s->n; }

const ern_view *source_at(const ern_source *s, size_t i) { return i < s->n ? &s->views[i] : NULL; }

const json_t *source_config(const ern_source *s) { return s->config; }

const json_t *source_generation(const ern_source *s) { return s->generation; }

const ern_gguf *source_gguf(const ern_source *s) { return s->gguf; }

const char *source_path(const ern_source *s) { return s->path; }

const char *source_layout(const ern_source *s) { return s->layout; }

void source_release(const ern_source *s, const ern_view *v) {
    if (!s->is_mapped || s->owned) return;      /* memory that cannot be read again */
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    const uintptr_t from = ((uintptr_t)v->data + page - 1) / page * page;
    const uintptr_t to = ((uintptr_t)v->data + v->size_bytes) / page * page;
    if (to > from) (void)madvise((void *)from, to - from, MADV_DONTNEED);
}

void source_fetch(const ern_source *s, const ern_view *v) {
    if (!s->is_mapped || s->owned) return;
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), from = (uintptr_t)v->data / page * page;
    (void)madvise((void *)from, (uintptr_t)v->data + v->size_bytes - from, MADV_WILLNEED);
}

size_t source_size_bytes(const ern_source *s) {
    size_t n = 0;
    for (size_t i = 0; i < s->n; i++) n += s->views[i].size_bytes;
    return n;
}
