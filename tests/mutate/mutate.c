/* Damaged model files through the real path: open, and run where it opens. Every prefix and N random mutations of each file;
 * nothing may crash, hang or ask for memory without bound. Built with AddressSanitizer.
 *
 *     mutate [--mutations N] [--prefixes N] [--seed N] [--only TEXT] [--save FOLDER]
 *
 * A child process works through the cases and notes each one before it begins; when it dies, the parent knows which case it
 * was, saves the damaged file and goes on behind it.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ern.h"
#include "text/tokenizer.h"
#include "../reference.h"

#define MAX_FILE_BYTES ((size_t)16 << 20)
#define CASE_SECONDS 20
#define DENSE_PREFIXES 256      /* the first bytes are where headers are: each prefix of them */
#define HEAD_BYTES 4096

enum kind { KIND_MODEL, KIND_TOKENIZER };

/* What is opened, and the file of it that is damaged; file NULL: what is opened is the file. */
typedef struct { enum kind kind; const char *open, *file; } target;

static const target targets[] = {
    { KIND_MODEL, "dense", "config.json" },
    { KIND_MODEL, "dense", "model.safetensors" },
    { KIND_MODEL, "dense_untied", "model.safetensors" },
    { KIND_MODEL, "dense_paddle", "model.safetensors" },
    { KIND_MODEL, "moe", "config.json" },
    { KIND_MODEL, "moe", "model.safetensors" },
    { KIND_MODEL, "moe_noshared", "config.json" },
    { KIND_MODEL, "moe_noshared_paddle", "model.safetensors" },
    { KIND_MODEL, "moe_paddle", "model.safetensors" },
    { KIND_MODEL, "llama", "config.json" },
    { KIND_MODEL, "llama", "model.safetensors" },
    { KIND_MODEL, "dense.F32.gguf", NULL },
    { KIND_MODEL, "dense.BF16.gguf", NULL },
    { KIND_MODEL, "dense.Q4_0.gguf", NULL },
    { KIND_MODEL, "dense.Q4_1.gguf", NULL },
    { KIND_MODEL, "dense.Q5_0.gguf", NULL },
    { KIND_MODEL, "dense.Q8_0.gguf", NULL },
    { KIND_MODEL, "moe.BF16.gguf", NULL },
    { KIND_MODEL, "moe.Q4_0.gguf", NULL },
    { KIND_MODEL, "moe_noshared.BF16.gguf", NULL },
    { KIND_MODEL, "llama.BF16.gguf", NULL },
    { KIND_MODEL, "llama.Q8_0.gguf", NULL },
    { KIND_TOKENIZER, "tokenizer/spm", "tokenizer.model" },
    { KIND_TOKENIZER, "tokenizer/spm", "tokenizer.json" },
    { KIND_TOKENIZER, "tokenizer/bytelevel", "tokenizer.json" },
    { KIND_TOKENIZER, "tokenizer/wordpiece", "tokenizer.json" },
};

typedef struct { unsigned char *data; size_t n; } bytes;
typedef struct { size_t n_mutations, n_prefixes; uint64_t seed; const char *only, *save; } options;
typedef struct { volatile size_t at, n_opened; } shared_state;

/* ---- random damage ----------------------------------------------------------------------------- */

static uint64_t next_random(uint64_t *s) {      /* xorshift64* */
    *s ^= *s >> 12;
    *s ^= *s << 25;
    *s ^= *s >> 27;
    return *s * 2685821657736338717ULL;
}

static size_t below(uint64_t *s, size_t n) { return n ? (size_t)(next_random(s) % n) : 0; }

/* Half of the damage falls on the first bytes, most of the rest on the header, some anywhere. */
static size_t place(uint64_t *s, size_t n) {
    const size_t kind = below(s, 10), head = n < HEAD_BYTES ? n : HEAD_BYTES, wide = n / 4 > head ? n / 4 : head;
    return below(s, kind < 5 ? head : kind < 8 ? wide : n);
}

static void put_number(bytes *b, size_t at, uint64_t *s) {
    static const uint64_t values[] = { 0, 1, 2, 127, 128, 255, 256, 65535, 65536, 0x7fffffff, 0x80000000, 0xffffffff,
        0x100000000,
                                       0x7fffffffffffffff, 0x8000000000000000, 0xffffffffffffffff, 0xfffffffffffffff0 };
    const uint64_t v = values[below(s, sizeof values / sizeof values[0])];
    const size_t width = (size_t)1 << below(s, 4);
    for (size_t i = 0; i < width && at + i < b->n; i++) b->data[at + i] = (unsigned char)(v >> (8 * i));
}

static void put_digit(bytes *b, size_t at) {    /* numbers in JSON: the next digit becomes a 9 */
    while (at < b->n && (b->data[at] < '0' || b->data[at] > '9')) at++;
    if (at < b->n) b->data[at] = '9';
}

static void move_block(bytes *b, size_t at, size_t other, size_t n) {
    if (n > b->n - at) n = b->n - at;
    if (n > b->n - other) n = b->n - other;
    memmove(b->data + at, b->data + other, n);
}

static void mutate_once(bytes *b, uint64_t *s) {
    if (b->n == 0) return;
    const size_t at = place(s, b->n), n = 1 + below(s, 32);
    switch (below(s, 9)) {
    case 0: b->data[at] ^= (unsigned char)(1u << below(s, 8)); break;
    case 1: b->data[at] = (unsigned char)next_random(s); break;
    case 2: put_number(b, at, s); break;
    case 3: put_digit(b, at); break;
    case 4: move_block(b, at, place(s, b->n), n); break;
    case 5: memset(b->data + at, (int)below(s, 256), n < b->n - at ? n : b->n - at); break;
    case 6: b->n = at; break;
    case 7:                                     /* bytes vanish */
        if (n >= b->n - at) break;
        memmove(b->data + at, b->data + at + n, b->n - at - n);
        b->n -= n;
        break;
    default: b->data[at] = (unsigned char)"{}[]\",:-0"[below(s, 9)]; break;
    }
}

/* Case i of a file: first the prefixes, then the mutations. The same i gives the same bytes. */
static size_t n_prefixes_of(const bytes *original, const options *o) { return original->n < o->n_prefixes ?
    original->n : o->n_prefixes; }

static size_t prefix_length(const bytes *original, size_t n_prefixes, size_t i) {
    const size_t dense = n_prefixes < DENSE_PREFIXES ? n_prefixes : DENSE_PREFIXES;
    if (i < dense || n_prefixes <= dense) return i;
    return dense + (original->n - dense) * (i - dense) / (n_prefixes - dense);
}

static void make_case(bytes *b, const bytes *original, const options *o, size_t i) {
    const size_t n_prefixes = n_prefixes_of(original, o);
    memcpy(b->data, original->data, original->n);
    b->n = original->n;
    if (i < n_prefixes) {
        b->n = prefix_length(original, n_prefixes, i);
        return;
    }
    uint64_t s = (o->seed + 1) * 0x9e3779b97f4a7c15ULL ^ (i + 1) * 0xbf58476d1ce4e5b9ULL;
    const size_t n = 1 + below(&s, 4);
    for (size_t k = 0; k < n; k++) mutate_once(b, &s);
}

/* ---- one case ---------------------------------------------------------------------------------- */

static bool write_all(const char *path, const bytes *b) {
    const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    size_t done = 0;
    while (fd >= 0 && done < b->n) {
        const ssize_t n = write(fd, b->data + done, b->n - done);
        if (n <= 0) break;
        done += (size_t)n;
    }
    return fd >= 0 && close(fd) == 0 && done == b->n;
}

/* True when it opened (and then ran). The error must say something. */
static bool try_model(const char *path) {
    ern_err e = { 0 };
    ern_engine_options eo;
    ern_session_options so;
    ern_engine_defaults(&eo);
    ern_session_defaults(&so);
    eo.n_threads = 1;
    eo.max_batch = 4;
    so.n_ctx = 8;
    ern_engine *eng = ern_engine_open(path, &eo, &e);
    if (!eng) {
        if (e.code == ERN_OK || !e.text[0]) abort();
        return false;
    }
    const int32_t ids[] = { 1, 2, 3 };
    ern_session *s = ern_session_open(eng, &so, &e);
    if (s) ern_session_sync(s, ids, 3, NULL, NULL, &e);
    ern_session_close(s);
    ern_engine_close(eng);
    return true;
}

static bool try_tokenizer(const char *path) {
    static const char text[] = "Hello <s> \xe4\xb8\x96\xe7\x95\x8c 123\n  x";
    ern_err e = { 0 };
    ern_ids ids = { 0 };
    ern_buf out = { .max = 1 << 20 };
    ern_tokenizer *t = tokenizer_open(path, &e);
    if (!t) {
        if (e.code == ERN_OK || !e.text[0]) abort();
        return false;
    }
    if (tokenizer_encode(t, text, sizeof text - 1, TOKENIZER_SPECIALS | TOKENIZER_ADD, &ids, &e))
        tokenizer_decode(t, ids.id, ids.n, true, &out, &e);
    ids_deinit(&ids);
    buf_deinit(&out);
    tokenizer_close(t);
    return true;
}

static bool try_case(const target *t, const char *open_path) {
    return t->kind == KIND_MODEL ? try_model(open_path) : try_tokenizer(open_path);
}

static void run_cases(const target *t, const char *open_path, const char *file_path, const bytes *original, const options *o,
                      size_t from, size_t to, shared_state *state) {
    bytes b = { malloc(original->n + 64), 0 };
    if (!b.data) _exit(3);
    for (size_t i = from; i < to; i++) {
        state->at = i;
        make_case(&b, original, o, i);
        if (!write_all(file_path, &b)) _exit(3);
        alarm(CASE_SECONDS);
        if (try_case(t, open_path)) state->n_opened++;
        alarm(0);
    }
    state->at = to;
    free(b.data);
}

/* ---- a folder to damage ------------------------------------------------------------------------ */

static bool read_file(bytes *out, const char *path) {
    FILE *f = fopen(path, "rb");
    if (!f) return false;
    out->data = malloc(MAX_FILE_BYTES);
    out->n = out->data ? fread(out->data, 1, MAX_FILE_BYTES, f) : 0;
    fclose(f);
    return out->data && out->n < MAX_FILE_BYTES;
}

/* The other files of the folder stand in the copy as links; the tokenizer tests see one vocabulary file alone. */
static bool link_others(const target *t, const char *from, const char *to) {
    DIR *d = opendir(from);
    bool ok = d != NULL;
    for (struct dirent *f; ok && (f = readdir(d));) {
        char a[REFERENCE_PATH * 2], b[REFERENCE_PATH * 2], whole[REFERENCE_PATH * 2];
        if (f->d_name[0] == '.' || strcmp(f->d_name, t->file) == 0 || strncmp(f->d_name, "expect", 6) == 0) continue;
        if (t->kind == KIND_TOKENIZER && strcmp(f->d_name, "tokenizer_config.json") != 0) continue;
        snprintf(a, sizeof a, "%s/%s", from, f->d_name);
        snprintf(b, sizeof b, "%s/%s", to, f->d_name);
        ok = realpath(a, whole) && symlink(whole, b) == 0;
    }
    if (d) closedir(d);
    return ok;
}

static void remove_folder(const char *path) {
    DIR *d = opendir(path);
    for (struct dirent *f; d && (f = readdir(d));) {
        char a[REFERENCE_PATH * 2];
        snprintf(a, sizeof a, "%s/%s", path, f->d_name);
        if (f->d_name[0] != '.') unlink(a);
    }
    if (d) closedir(d);
    rmdir(path);
}

/* ---- all cases of one file --------------------------------------------------------------------- */

static void save_case(const target *t, const bytes *original, const options *o, size_t i, const char *why) {
    char path[REFERENCE_PATH * 2];
    bytes b = { malloc(original->n + 64), 0 };
    char name[256];
    snprintf(name, sizeof name, "%s%s%s", t->open, t->file ? "-" : "", t->file ? t->file : "");
    for (char *p = name; *p; p++)
        if (*p == '/') *p = '-';
    snprintf(path, sizeof path, "%s/%zu-%s", o->save ? o->save : ".", i, name);
    if (!b.data) return;
    make_case(&b, original, o, i);
    const bool ok = o->save && write_all(path, &b);
    printf("FAIL %s, case %zu: %s%s%s\n", name, i, why, ok ? "; the file: " : "", ok ? path : "");
    fflush(stdout);
    free(b.data);
}

static bool is_there(const target *t) {
    char from[REFERENCE_PATH], path[REFERENCE_PATH * 2];
    if (!reference_find(from, t->open)) return false;
    snprintf(path, sizeof path, "%s%s%s", from, t->file ? "/" : "", t->file ? t->file : "");
    return access(path, R_OK) == 0;
}

/* Number of cases that crashed or hung. */
static size_t run_target(const target *t, const options *o, size_t *n_cases, size_t *n_opened) {
    char from[REFERENCE_PATH], path[REFERENCE_PATH * 2], folder[64] = "/tmp/ern-mutate-XXXXXX", open_path[320],
        file_path[320];
    bytes original = { 0 };
    size_t n_bad = 0;
    shared_state *state = mmap(NULL, sizeof *state, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (state == MAP_FAILED || !reference_find(from, t->open)) return 1;
    snprintf(path, sizeof path, "%s%s%s", from, t->file ? "/" : "", t->file ? t->file : "");
    if (!read_file(&original, path) || !mkdtemp(folder)) { printf("FAIL %s: %s\n", path, strerror(errno)); return 1; }
    if (t->file && !link_others(t, from, folder)) { printf("FAIL %s: %s\n", from, strerror(errno)); n_bad++; }
    snprintf(file_path, sizeof file_path, "%s/%s", folder, t->file ? t->file : "model.gguf");
    snprintf(open_path, sizeof open_path, "%s", t->file ? folder : file_path);

    const size_t total = n_prefixes_of(&original, o) + o->n_mutations;
    if (!write_all(file_path, &original) || !try_case(t, open_path)) {
        printf("FAIL %s: the undamaged file does not open\n", path);
        n_bad++;
    }
    *state = (shared_state){ 0, 0 };
    for (size_t from_case = 0; from_case < total && n_bad < 10;) {
        int status = 0;
        fflush(stdout);
        const pid_t child = fork();
        if (child == 0) {
            run_cases(t, open_path, file_path, &original, o, from_case, total, state);
            exit(0);
        }
        if (child < 0 || waitpid(child, &status, 0) < 0) { printf("FAIL %s: %s\n", path, strerror(errno)); n_bad++; break; }
        if (status == 0) break;
        char why[64];
        if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM) snprintf(why, sizeof why, "over %d seconds", CASE_SECONDS);
        else if (WIFSIGNALED(status)) snprintf(why, sizeof why, "signal %d", WTERMSIG(status));
        else snprintf(why, sizeof why, "exit status %d", WEXITSTATUS(status));
        save_case(t, &original, o, state->at < total ? state->at : total - 1, why);
        n_bad++;
        from_case = state->at + 1;
    }
    *n_cases += total;
    *n_opened += state->n_opened;
    printf("%-24s %-20s %8zu bytes  %7zu cases  %6zu opened  %zu bad\n", t->open, t->file ? t->file : "", original.n, total,
           (size_t)state->n_opened, n_bad);
    munmap(state, sizeof *state);
    remove_folder(folder);
    free(original.data);
    return n_bad;
}

int main(int argc, char **argv) {
    options o = { .n_mutations = 200, .n_prefixes = 400, .seed = 1 };
    size_t n_cases = 0, n_opened = 0, n_passed = 0, n_failed = 0, n_skipped = 0;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--mutations") == 0) o.n_mutations = strtoul(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--prefixes") == 0) o.n_prefixes = strtoul(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--seed") == 0) o.seed = strtoull(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--only") == 0) o.only = argv[i + 1];
        else if (strcmp(argv[i], "--save") == 0) o.save = argv[i + 1];
        else { fprintf(stderr, "mutate: %s: no such option\n", argv[i]); return 2; }
    }
    if (o.save) mkdir(o.save, 0777);
    for (size_t i = 0; i < sizeof targets / sizeof targets[0]; i++) {
        if (o.only && !strstr(targets[i].open, o.only)) continue;
        if (!is_there(&targets[i])) {
            printf("SKIP %s: not there\n", targets[i].open);
            n_skipped++;
            continue;
        }
        if (run_target(&targets[i], &o, &n_cases, &n_opened) == 0) n_passed++;
        else n_failed++;
    }
    printf("mutate: %zu damaged files, %zu of them opened and ran\n", n_cases, n_opened);
    printf("%zu passed, %zu failed, %zu skipped\n", n_passed, n_failed, n_skipped);
    return n_failed ? 1 : 0;
}
