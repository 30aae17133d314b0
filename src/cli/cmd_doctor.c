/* What this machine and this build can do. */
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "cli/commands.h"
#include "cli/term.h"
#include "engine/probe.h"

struct options { bool is_json, measures; };

static const struct { unsigned flag; const char *name; } flag_names[] = {
    { CPU_AVX2, "avx2" }, { CPU_FMA, "fma" }, { CPU_F16C, "f16c" }, { CPU_AVX512, "avx512" }, { CPU_VNNI, "avx512_vnni" },
        { CPU_BF16, "avx512_bf16" }, { CPU_FP16, "avx512_fp16" },
    { CPU_AVXVNNI, "avx_vnni" }, { CPU_NEON, "neon" }, { CPU_DOTPROD, "dotprod" }, { CPU_I8MM, "i8mm" },
        { CPU_AMX_INT8, "amx_int8" }, { CPU_AMX_BF16, "amx_bf16" },
};

/* Looked for at run time; the first six are linked in and always there. */
static const struct { const char *name, *file, *package, *adds; } libraries[] = {
    { "jansson", "libjansson.so.4", "libjansson4", N_("reads and writes JSON") },
    { "ICU", "libicuuc.so.72", "libicu72", N_("Unicode normalisation and word borders") },
    { "PCRE2", "libpcre2-8.so.0", "libpcre2-8-0", N_("the regular expressions of tokenizers") },
    { "curl", "libcurl.so.4", "libcurl4", N_("ernie pull") },
    { "libedit", "libedit.so.2", "libedit2", N_("line editing in ernie chat") },
    { "gettext", "libc.so.6", "libc6", N_("messages in Chinese") },
    { "SQLite", "libsqlite3.so.0", "libsqlite3-0", N_("knowledge bases, memory and audit logs") },
    { "libmicrohttpd", "libmicrohttpd.so.12", "libmicrohttpd12", N_("the HTTP server") },
    { "OpenCC", "libopencc.so.1.1", "libopencc1.1", N_("search across simplified and traditional Chinese") },
    { "libpq", "libpq.so.5", "libpq5", N_("knowledge bases in PostgreSQL") },
    { "Open MPI", "libmpi.so.40", "libopenmpi3", N_("models spread over several machines") },
    { "libxml2", "libxml2.so.2", "libxml2", N_("HTML, DOCX and EPUB documents") },
    { "libarchive", "libarchive.so.13", "libarchive13", N_("documents inside archives") },
    { "libseccomp", "libseccomp.so.2", "libseccomp2", N_("the sandbox of tools") },
    { "libjpeg-turbo", "libjpeg.so.62", "libjpeg62-turbo", N_("JPEG pictures for vision models") },
    { "libpng", "libpng16.so.16", "libpng16-16", N_("PNG pictures for vision models") },
};

static bool is_present(const char *file) {
    void *handle = dlopen(file, RTLD_LAZY | RTLD_LOCAL);
    if (handle) dlclose(handle);
    return handle != NULL;
}

static const char *kernels_name(unsigned flags) {
    if (flags & CPU_AMX_INT8) return "amx";
    if (flags & CPU_VNNI) return "avx512";
    if (flags & CPU_AVX512) return "avx512f";
    if (flags & CPU_AVXVNNI) return "avxvnni";
    if (flags & CPU_AVX2) return "avx2";
    if (flags & CPU_I8MM) return "i8mm";
    if (flags & CPU_DOTPROD) return "dotprod";
    return flags & CPU_NEON ? "neon" : "scalar";
}

static void cpu_model(char *out, size_t n) {
    char line[512];
    FILE *fp = fopen("/proc/cpuinfo", "r");
    snprintf(out, n, "?");
    while (fp && fgets(line, sizeof line, fp))
        if (strncmp(line, "model name", 10) == 0 && strchr(line, ':')) {
            snprintf(out, n, "%.200s", strchr(line, ':') + 2);
            out[strcspn(out, "\n")] = '\0';
            break;
        }
    if (fp) fclose(fp);
}

static size_t memory_kib(const char *key) {
    char line[256];
    size_t kib = 0;
    FILE *fp = fopen("/proc/meminfo", "r");
    while (fp && fgets(line, sizeof line, fp))
        if (strncmp(line, key, strlen(key)) == 0) {
            kib = strtoull(line + strlen(key), NULL, 10);
            break;
        }
    if (fp) fclose(fp);
    return kib;
}

struct report {
    char cpu[256];
    struct utsname system;
    unsigned flags;
    const char *kernels;
    size_t cores, total, available;     /* memory in bytes */
    double read;                        /* bytes a second; 0: not measured */
};

static bool collect(struct report *r, bool measures, ern_err *e) {
    ern_kernels k;
    unsigned mask;
    *r = (struct report){ .flags = cpu_flags(), .cores = pool_cores(), .total = memory_kib("MemTotal:") * 1024,
                          .available = memory_kib("MemAvailable:") * 1024 };
    uname(&r->system);
    cpu_model(r->cpu, sizeof r->cpu);
    if (!cpu_mask_from_name(&mask, "auto", e)) return false;
    kernels_init(&k, mask);
    r->kernels = kernels_name(k.flags);
    if (!measures) return true;
    ern_pool *pool = pool_open(r->cores, e);
    const bool ok = pool && probe_read(pool, &r->read, e);
    pool_close(pool);
    return ok;
}

static bool print_json(const struct report *r, ern_err *e) {
    json_t *features = json_array(), *list = json_array();
    for (size_t i = 0; i < COUNT_OF(flag_names); i++)
        if (r->flags & flag_names[i].flag) json_array_append_new(features, json_string(flag_names[i].name));
    for (size_t i = 0; i < COUNT_OF(libraries); i++)
        json_array_append_new(list,
                              json_pack("{s:s, s:b, s:s, s:s}", "name", libraries[i].name, "present",
                                        is_present(libraries[i].file), "package",
                                              libraries[i].package, "adds", libraries[i].adds));
    json_t *line = json_pack("{s:s, s:s, s:s, s:s, s:o, s:s, s:I, s:I, s:I, s:o}", "version", ERN_VERSION, "system",
                             r->system.sysname, "machine",
                             r->system.machine, "cpu", r->cpu, "features", features, "kernels", r->kernels, "threads",
                                 (json_int_t)r->cores,
                             "memory_bytes", (json_int_t)r->total, "memory_available_bytes", (json_int_t)r->available,
                                 "libraries", list);
    if (line && r->read > 0.0) json_object_set_new(line, "read_bytes_per_s", cli_real(r->read));
    return cli_print_json(line, e);
}

static void print_text(const struct report *r) {
    char a[32], b[32];
    printf(_("ernie %s on %s %s\n"), ERN_VERSION, r->system.sysname, r->system.machine);
    printf(_("processor: %s, %zu threads\ninstructions:"), r->cpu, r->cores);
    for (size_t i = 0; i < COUNT_OF(flag_names); i++)
        if (r->flags & flag_names[i].flag) printf(" %s", flag_names[i].name);
    printf(_("\nkernels: %s\nmemory: %s, %s available\n"), r->kernels, cli_size_text((double)r->total, a, sizeof a),
           cli_size_text((double)r->available, b, sizeof b));
    if (r->read > 0.0) printf(_("memory read: %s a second\n"), cli_size_text(r->read, a, sizeof a));
    printf("\n%s\n", _("libraries:"));
    for (size_t i = 0; i < COUNT_OF(libraries); i++) {
        const bool is_there = is_present(libraries[i].file);
        term_style(stdout, is_there ? TERM_GREEN : TERM_RED);
        printf("  %s ", is_there ? "+" : "-");
        term_style(stdout, TERM_PLAIN);
        if (is_there) printf("%-14s %s\n", libraries[i].name, _(libraries[i].adds));
        else
            printf(_("%-14s missing: would add %s (apt install %s)\n"), libraries[i].name, _(libraries[i].adds),
                   libraries[i].package);
    }
}

static int run(const void *options) {
    const struct options *o = options;
    ern_err e = { 0 };
    struct report r;
    if (!collect(&r, o->measures, &e)) return cli_fail(&e);
    if (!o->is_json) {
        print_text(&r);
        return 0;
    }
    return print_json(&r, &e) ? 0 : cli_fail(&e);
}

static const arg_option table[] = {
    { .name = "measure", .kind = ARG_FLAG, .help = N_("measure how fast memory is read (a second)"),
      .offset = offsetof(struct options, measures) },
    { .name = "json", .kind = ARG_FLAG, .help = N_("print one JSON object"), .offset = offsetof(struct options, is_json) },
};
static const arg_group group = { N_("Options:"), table, COUNT_OF(table) };

const arg_command cmd_doctor = {
    .name = "doctor",
    .summary = N_("what this machine and this build can do"),
    .output = N_("With --json {\"version\", \"system\", \"machine\", \"cpu\", \"features\", \"kernels\", \"threads\", "
                 "\"memory_bytes\", \"memory_available_bytes\", \"libraries\": [{\"name\", \"present\", \"package\", "
                 "\"adds\"}]}; --measure adds \"read_bytes_per_s\"."),
    .groups = { { &group, 0 } },
    .size_bytes = sizeof(struct options),
    .run = run,
};
