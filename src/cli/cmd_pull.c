/* Fetch a model. */
#include <curl/curl.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "cli/commands.h"
#include "cli/pull.h"
#include "cli/term.h"

#define DEFAULT_BASE "https://huggingface.co"

struct options { const char *name, *base, *revision, *folder; arg_texts only; bool is_json, verifies; };

struct showing { const struct options *o; term_progress bar; size_t index; char label[256]; bool is_running; };

static bool on_event(void *ctx, const pull_event *ev) {
    struct showing *s = ctx;
    if (!s->is_running || s->index != ev->index) {
        char size[32];
        term_progress_end(&s->bar);
        snprintf(s->label, sizeof s->label, "%zu/%zu %.200s", ev->index + 1, ev->n_files, ev->file);
        if (!s->o->is_json) {
            if (ev->is_present) fprintf(stderr, _("%s: already there\n"), s->label);
            else if (ev->total) fprintf(stderr, "%s: %s\n", s->label, cli_size_text((double)ev->total, size, sizeof size));
            else fprintf(stderr, "%s\n", s->label);
        }
        term_progress_begin(&s->bar, s->label, "B", ev->done);
        s->is_running = true;
        s->index = ev->index;
    }
    if (s->bar.from == 0 && ev->done && !s->bar.is_shown) s->bar.from = ev->done;       /* what a resumed file had */
    term_progress_at(&s->bar, ev->done, ev->total);
    return !cli_interrupted();
}

static char *target_folder(const struct options *o, ern_err *e) {
    if (o->folder) return mem_strndup(o->folder, strlen(o->folder), e);
    char *models = cli_models_folder(e), *path = models ? file_join(models, o->name, e) : NULL;
    free(models);
    return path;
}

/* Without slashes at the end. */
static char *base_url(const struct options *o, ern_err *e) {
    const char *base = o->base ? o->base : DEFAULT_BASE;
    size_t n = strlen(base);
    while (n && base[n - 1] == '/') n--;
    return mem_strndup(base, n, e);
}

static int run(const void *options) {
    const struct options *o = options;
    ern_err e = { 0 };
    json_t *report = NULL;
    struct showing showing = { .o = o };
    const char *token = getenv("HF_TOKEN");
    char *folder = target_folder(o, &e), *base = base_url(o, &e);
    const pull_options po = { .base = base, .name = o->name, .revision = o->revision ? o->revision : "main",
                              .folder = folder, .token = token && *token ? token : NULL, .only = &o->only,
                                  .verifies = o->verifies };
    if (!folder || !base) {
        free(folder);
        free(base);
        return cli_fail(&e);
    }
    cli_catch_interrupt();
    curl_global_init(CURL_GLOBAL_DEFAULT);
    bool ok = pull_model(&po, on_event, &showing, &report, &e);
    term_progress_end(&showing.bar);
    if (ok && o->is_json)
        ok = cli_print_json(json_pack("{s:s, s:s, s:s, s:O}", "name", o->name, "revision", po.revision, "folder", folder,
                                      "files", report), &e);
    else if (ok) printf("%s\n", folder);
    json_decref(report);
    curl_global_cleanup();
    free(folder);
    free(base);
    return ok ? 0 : cli_fail(&e);
}

#define AT(member) offsetof(struct options, member)
static const arg_option table[] = {
    { .name = "out", .letter = 'o', .kind = ARG_TEXT, .value = "FOLDER",
      .help = N_("where the files go; the models folder otherwise"), .offset = AT(folder) },
    { .name = "base", .kind = ARG_TEXT, .value = "URL", .help = N_("the server; https://huggingface.co otherwise"),
      .offset = AT(base) },
    { .name = "revision", .kind = ARG_TEXT, .value = "REV", .help = N_("branch, tag or commit; main otherwise"),
      .offset = AT(revision) },
    { .name = "only", .kind = ARG_TEXTS, .value = "PATTERN", .help = N_("files whose names match a shell pattern"),
      .offset = AT(only) },
    { .name = "verify", .kind = ARG_FLAG, .help = N_("compare the checksums of files that are there already"),
      .offset = AT(verifies) },
    { .name = "json", .kind = ARG_FLAG, .help = N_("print one JSON object"), .offset = AT(is_json) },
};
static const arg_group group = { N_("Options:"), table, COUNT_OF(table) };
static const arg_operand operands[] = { { "NAME", ARG_REQUIRED,
                                          N_("OWNER/MODEL on the server, for example baidu/ERNIE-4.5-0.3B-PT"), AT(name) } };

const arg_command cmd_pull = {
    .name = "pull",
    .summary = N_("fetch a model over the network"),
    .details = N_("This is the only command that uses the network. A transfer that broke off goes on where it stopped, "
                  "also in the next run; sizes and SHA-256 sums are compared where the server tells them; a file "
                  "appears under its name only when it is whole. HF_TOKEN holds the token for private models."),
    .output = N_("The folder. With --json {\"name\", \"revision\", \"folder\", \"files\": [{\"name\", \"bytes\", "
                 "\"sha256\", \"checked\", \"state\"}]}; state is fetched or present."),
    .examples = "  ernie pull baidu/ERNIE-4.5-0.3B-PT\n  ernie chat baidu/ERNIE-4.5-0.3B-PT",
    .operands = operands,
    .n_operands = COUNT_OF(operands),
    .groups = { { &group, 0 } },
    .size_bytes = sizeof(struct options),
    .run = run,
};
