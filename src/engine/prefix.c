#include "engine/prefix.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cursor.h"
#include "base/file.h"

#define PAGE KV_PAGE_TOKENS
#define DEFAULT_FOLDER_BYTES ((size_t)8 << 30)
#define MAGIC "ERNPG001"
#define MAX_TENANTS 65536

/* A page in a file (little endian):
 *   OFFSET  SIZE        MEANING
 *   0       8           "ERNPG001"
 *   8       8           u64 hash of the model's mark, the KV types, the tenant and all ids up to the page's end
 *   16      4 * 512     i32 ids of the page
 *   2064    page_bytes  the page as it lies in memory
 * The name is the hash in hexadecimal, ".kvp". */
#define HEADER_BYTES (16 + 4 * PAGE)

typedef struct node {
    struct node *parent, *children, *next;
    struct node *older, *newer;     /* by last use, over the whole cache */
    kv_page *page;                  /* NULL: the root of a tenant */
    char *tenant;                   /* of a root */
    uint64_t hash;
    size_t n;                       /* ids in the page; less than PAGE: a leaf that is not full */
    int32_t ids[PAGE];
} node;

struct ern_prefix {
    prefix_options o;
    char *folder;
    ern_kv like;                    /* types and sizes; holds no pages */
    uint64_t mark;
    node **roots;                   /* [n_roots] */
    size_t n_roots;
    node oldest, newest;            /* ends of the list */
    size_t n_bytes;
    prefix_stats stats;
};

static uint64_t fnv(uint64_t h, const void *bytes, size_t n) {
    const uint8_t *p = bytes;
    for (size_t i = 0; i < n; i++) h = (h ^ p[i]) * 0x100000001B3ull;
    return h;
}

/* ---- order of use ---------------------------------------------------------------------------------- */

static void unlink_use(node *x) {
    x->older->newer = x->newer;
    x->newer->older = x->older;
}

static void link_newest(ern_prefix *p, node *x) {
    x->older = p->newest.older;
    x->newer = &p->newest;
    x->older->newer = x;
    p->newest.older = x;
}

/* A page and all before it: a parent is never older than its children. */
static void touch(ern_prefix *p, node *x) {
    for (; x->page; x = x->parent) {
        unlink_use(x);
        link_newest(p, x);
    }
}

/* ---- tree ------------------------------------------------------------------------------------------- */

static node *root_of(ern_prefix *p, const char *tenant) {
    for (size_t i = 0; i < p->n_roots; i++)
        if (strcmp(p->roots[i]->tenant, tenant) == 0) return p->roots[i];
    if (p->n_roots == MAX_TENANTS) return NULL;
    node **roots = mem_grow(p->roots, p->n_roots + 1, sizeof *roots, "prefix cache", NULL);
    if (!roots) return NULL;
    p->roots = roots;
    node *root = mem_zalloc(1, sizeof *root, "prefix cache", NULL);
    if (!root || !(root->tenant = mem_strndup(tenant, strlen(tenant), NULL))) { free(root); return NULL; }
    root->hash = fnv(p->mark, tenant, strlen(tenant) + 1);
    return p->roots[p->n_roots++] = root;
}

static size_t same(const int32_t *a, const int32_t *b, size_t n) {
    size_t i = 0;
    while (i < n && a[i] == b[i]) i++;
    return i;
}

/* The child that shares the most of ids[0..n) with its page. */
static node *best_child(const node *parent, const int32_t *ids, size_t n, size_t *shared) {
    node *best = NULL;
    *shared = 0;
    for (node *c = parent->children; c; c = c->next) {
        const size_t m = same(c->ids, ids, c->n < n ? c->n : n);
        if (m > *shared) { *shared = m; best = c; }
    }
    return best;
}

static node *add_child(ern_prefix *p, node *parent, const int32_t *ids, size_t n, kv_page *page) {
    node *x = mem_zalloc(1, sizeof *x, "prefix cache", NULL);
    if (!x) return NULL;
    x->parent = parent;
    x->next = parent->children;
    parent->children = x;
    x->n = n;
    memcpy(x->ids, ids, n * sizeof *ids);
    x->hash = fnv(parent->hash, ids, n * sizeof *ids);
    x->page = kv_page_take(page);
    link_newest(p, x);
    p->n_bytes += p->like.page_bytes;
    return x;
}

static void remove_leaf(ern_prefix *p, node *x) {
    node **at = &x->parent->children;
    while (*at != x) at = &(*at)->next;
    *at = x->next;
    unlink_use(x);
    kv_page_give(x->page);
    p->n_bytes -= p->like.page_bytes;
    free(x);
}

/* ---- files ------------------------------------------------------------------------------------------- */

static char *page_path(const ern_prefix *p, uint64_t hash) {
    char name[32];
    snprintf(name, sizeof name, "%016llx.kvp", (unsigned long long)hash);
    return p->folder ? file_join(p->folder, name, NULL) : NULL;
}

static void put_u64(uint8_t *to, uint64_t v) {
    for (size_t i = 0; i < 8; i++) to[i] = (uint8_t)(v >> (8 * i));
}

static void save_page(ern_prefix *p, const node *x) {
    uint8_t head[16] = MAGIC;
    ern_writer w;
    char *path = page_path(p, x->hash);
    if (path && x->n == PAGE && !file_exists(path) && writer_open(&w, path, NULL)) {
        put_u64(head + 8, x->hash);
        if (writer_add(&w, head, sizeof head, NULL) && writer_add(&w, x->ids, sizeof x->ids, NULL) &&
            writer_add(&w, kv_page_data(x->page), p->like.page_bytes, NULL) && writer_commit(&w, NULL))
            p->stats.n_saved++;
        writer_deinit(&w);
    }
    free(path);
}

/* The page that follows parent with exactly these ids, from a file; NULL: there is none, or it is damaged. */
static node *load_page(ern_prefix *p, node *parent, const int32_t *ids, ern_kv *kv) {
    const uint64_t hash = fnv(parent->hash, ids, PAGE * sizeof *ids);
    char *path = page_path(p, hash);
    ern_map map = { 0 };
    node *x = NULL;
    uint64_t found = 0;
    if (!path || !file_map(&map, path, NULL)) { free(path); return NULL; }
    ern_cursor c = { .data = map.data, .size = map.size_bytes, .pos = 8, .name = path };
    const bool fits = map.size_bytes == HEADER_BYTES + p->like.page_bytes && memcmp(map.data, MAGIC, 8) == 0 &&
        cursor_u64(&c, &found, NULL);
    if (fits && found == hash && memcmp(map.data + 16, ids, PAGE * sizeof *ids) == 0) {
        kv_page *page = kv_page_new(kv, NULL);
        if (page) {
            memcpy(kv_page_data(page), map.data + HEADER_BYTES, p->like.page_bytes);
            x = add_child(p, parent, ids, PAGE, page);
            kv_page_give(page);
            p->stats.n_loaded += x != NULL;
        }
    }
    file_unmap(&map);
    free(path);
    return x;
}

typedef struct { char *path; time_t used; size_t size; } saved_file;

static int by_age(const void *a, const void *b) {
    const saved_file *x = a, *y = b;
    return x->used < y->used ? -1 : x->used > y->used;
}

/* Keep the folder under its size: the files longest unused go. */
static void trim_folder(ern_prefix *p) {
    DIR *dir = p->folder ? opendir(p->folder) : NULL;
    saved_file *files = NULL;
    size_t n = 0, total = 0;
    const struct dirent *entry;
    while (dir && (entry = readdir(dir))) {
        struct stat st;
        const size_t length = strlen(entry->d_name);
        char *path = length == 20 && strcmp(entry->d_name + 16, ".kvp") == 0 ? file_join(p->folder, entry->d_name, NULL)
            : NULL;
        saved_file *more = path && stat(path, &st) == 0 ? mem_grow(files, n + 1, sizeof *files, "prefix cache", NULL) : NULL;
        if (!more) { free(path); continue; }
        files = more;
        files[n++] = (saved_file){ path, st.st_mtime, (size_t)st.st_size };
        total += (size_t)st.st_size;
    }
    if (dir) closedir(dir);
    if (n) qsort(files, n, sizeof *files, by_age);
    for (size_t i = 0; i < n; i++) {
        if (total > p->o.max_folder_bytes && unlink(files[i].path) == 0) total -= files[i].size;
        free(files[i].path);
    }
    free(files);
}

/* ---- use ------------------------------------------------------------------------------------------------ */

size_t prefix_shrink(ern_prefix *p, size_t n_bytes) {
    size_t freed = 0;
    for (node *x = p->oldest.newer; x != &p->newest && freed < n_bytes;) {
        node *next = x->newer;
        /* a parent comes later in the list than its children, so one pass frees whole paths */
        if (!x->children) {
            save_page(p, x);
            remove_leaf(p, x);
            freed += p->like.page_bytes;
        }
        x = next;
    }
    return freed;
}

static void keep_limit(ern_prefix *p) {
    if (p->o.max_bytes && p->n_bytes > p->o.max_bytes) prefix_shrink(p, p->n_bytes - p->o.max_bytes);
}

size_t prefix_find(ern_prefix *p, const char *tenant, const int32_t *ids, size_t n, ern_kv *kv) {
    node *at = root_of(p, tenant);
    size_t known = 0, i = 0;
    p->stats.n_lookups++;
    p->stats.n_tokens_asked += n;
    if (!at) return 0;
    while (known < n) {
        size_t shared;
        node *child = best_child(at, ids + known, n - known, &shared);
        if (shared < PAGE && n - known >= PAGE) {
            node *loaded = load_page(p, at, ids + known, kv);
            if (loaded) { child = loaded; shared = PAGE; }
        }
        if (!child || !kv_set_page(kv, i, child->page, NULL)) break;
        i++;
        known += shared;
        at = child;
        if (shared < PAGE) break;
    }
    touch(p, at);
    p->stats.n_hits += known > 0;
    p->stats.n_tokens_found += known;
    keep_limit(p);
    return known;
}

void prefix_add(ern_prefix *p, const char *tenant, const int32_t *ids, size_t n, const ern_kv *kv) {
    node *at = root_of(p, tenant);
    for (size_t i = 0; at && i * PAGE < n && i < kv->n_pages; i++) {
        const size_t count = n - i * PAGE < PAGE ? n - i * PAGE : PAGE;
        size_t shared;
        node *child = best_child(at, ids + i * PAGE, count, &shared);
        if (child && shared == count) { at = child; if (child->n == PAGE) continue; break; }
        /* a page that was not full: this one goes on where it ends */
        if (child && shared == child->n && !child->children) {
            kv_page_take(kv->pages[i]);
            kv_page_give(child->page);
            child->page = kv->pages[i];
            memcpy(child->ids, ids + i * PAGE, count * sizeof *ids);
            child->n = count;
            child->hash = fnv(at->hash, ids + i * PAGE, count * sizeof *ids);
        } else child = add_child(p, at, ids + i * PAGE, count, kv->pages[i]);
        at = child;
    }
    if (at) touch(p, at);
    keep_limit(p);
}

prefix_stats prefix_stats_of(const ern_prefix *p) {
    prefix_stats s = p->stats;
    s.n_bytes = p->n_bytes;
    s.n_pages = p->n_bytes / p->like.page_bytes;
    return s;
}

ern_prefix *prefix_open(const ern_engine *eng, const ern_kv *like, const prefix_options *o, ern_err *e) {
    ern_prefix *p = mem_zalloc(1, sizeof *p, "prefix cache", e);
    if (!p) return NULL;
    p->o = *o;
    if (!p->o.max_folder_bytes) p->o.max_folder_bytes = DEFAULT_FOLDER_BYTES;
    p->like = *like;
    p->like.pages = NULL;
    p->like.data = NULL;
    p->like.n_pages = 0;
    p->oldest.newer = &p->newest;
    p->newest.older = &p->oldest;
    const uint64_t facts[] = { engine_model_mark(eng->model), (uint64_t)like->k_type, (uint64_t)like->v_type,
                               like->page_bytes };
    p->mark = fnv(0xCBF29CE484222325ull, facts, sizeof facts);
    if (o->folder && !(p->folder = mem_strndup(o->folder, strlen(o->folder), e))) { prefix_close(p); return NULL; }
    p->o.folder = NULL;
    if (p->folder && mkdir(p->folder, 0700) != 0 && !file_is_folder(p->folder)) {
        ern_fail(e, ERN_IO, "%s: cannot be made a folder", p->folder);
        prefix_close(p);
        return NULL;
    }
    trim_folder(p);
    return p;
}

void prefix_close(ern_prefix *p) {
    if (!p) return;
    while (p->oldest.newer != &p->newest)
        if (prefix_shrink(p, SIZE_MAX) == 0) break;
    trim_folder(p);
    for (size_t i = 0; i < p->n_roots; i++) {
        free(p->roots[i]->tenant);
        free(p->roots[i]);
    }
    free(p->roots);
    free(p->folder);
    free(p);
}
