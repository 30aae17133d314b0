/* Will it fit, and how fast will it be? */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/commands.h"
#include "cli/term.h"
#include "engine/plan.h"
#include "engine/presets.h"

struct options { const char *name, *type, *kv, *cpu; arg_count ctx, threads; bool is_json, only_memory, lists; };

static const enum ern_dtype usual[] = { DTYPE_BF16, DTYPE_Q8_0, DTYPE_Q6_K, DTYPE_Q4_K, DTYPE_Q4_0 };

struct planning {
    const struct options *o;
    plan_model model;
    plan_options po;
    ern_kernels kernels;
    ern_pool *pool;             /* NULL: no speed */
    double read, memory;        /* bytes a second; bytes */
    json_t *rows;               /* NULL: text */
};

static const char *kv_name(const struct options *o) { return o->kv ? o->kv : "f16"; }

static double machine_memory(void) {
    const long pages = sysconf(_SC_PHYS_PAGES), bytes = sysconf(_SC_PAGE_SIZE);
    return pages > 0 && bytes > 0 ? (double)pages * (double)bytes : 0.0;
}

static const struct { const char *name; int width; } columns[] = {
    { N_("type"), -8 }, { N_("weights"), 11 }, { N_("context"), 11 }, { N_("scratch"), 11 }, { N_("total"), 11 },
    { N_("fits"), 8 }, { N_("prompt"), 11 }, { N_("first"), 10 }, { N_("last"), 10 },
};

static void print_row(const struct planning *p, const plan_memory *m, const plan_speed *s) {
    const size_t sizes[] = { m->weights_bytes, m->kv_bytes, m->scratch_bytes, m->total_bytes };
    char text[32];
    term_cell(stdout, dtype_info(p->po.weights)->name, columns[0].width);
    for (size_t i = 0; i < COUNT_OF(sizes); i++)
        term_cell(stdout, cli_size_text((double)sizes[i], text, sizeof text), columns[i + 1].width);
    term_cell(stdout, (double)m->total_bytes <= p->memory ? _("yes") : _("no"), columns[5].width);
    if (s) printf(" %10.1f%10.1f%10.1f", s->prefill, s->decode_start, s->decode_full);
    putchar('\n');
}

static json_t *row_json(const struct planning *p, const plan_memory *m, const plan_speed *s) {
    json_t *row = json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:b}", "type", dtype_info(p->po.weights)->name,
                            "weights_bytes", (json_int_t)m->weights_bytes,
                            "kv_bytes", (json_int_t)m->kv_bytes, "scratch_bytes", (json_int_t)m->scratch_bytes,
                                "total_bytes",
                            (json_int_t)m->total_bytes, "touched_bytes", (json_int_t)m->touched_bytes, "fits",
                                (double)m->total_bytes <= p->memory);
    if (row && s) {
        json_object_set_new(row, "prefill_tokens_per_s", cli_real(s->prefill));
        json_object_set_new(row, "decode_tokens_per_s", cli_real(s->decode_start));
        json_object_set_new(row, "decode_full_tokens_per_s", cli_real(s->decode_full));
    }
    return row;
}

static bool plan_type(struct planning *p, enum ern_dtype type, ern_err *e) {
    plan_memory memory;
    plan_speed speed;
    probe_speed probe;
    p->po.weights = type;
    plan_memory_of(&p->model, &p->po, &memory);
    if (p->pool) {
        if (!probe_type(&p->kernels, p->pool, type, p->model.c.hidden, &probe, e)) return false;
        plan_speed_of(&p->model, &memory, &probe, p->read, &speed);
    }
    if (p->rows)
        return json_array_append_new(p->rows, row_json(p, &memory, p->pool ? &speed : NULL)) == 0 ||
               ern_fail(e, ERN_NOMEM, _("no memory for a line of JSON"));
    print_row(p, &memory, p->pool ? &speed : NULL);
    return true;
}

static void print_head(const struct planning *p) {
    plan_memory m;
    char memory[32], read[32], params[32], active[32];
    plan_memory_of(&p->model, &p->po, &m);
    printf(_("%s: %s parameters, %s for a token; context of %zu tokens, keys and values in %s\n"), p->model.name,
           cli_count_text((double)m.n_params, params, sizeof params), cli_count_text((double)m.n_active, active,
               sizeof active),
           p->po.n_ctx, kv_name(p->o));
    printf(_("this machine: %s of memory"), cli_size_text(p->memory, memory, sizeof memory));
    if (p->pool)
        printf(_(", reads %s a second with %zu threads"), cli_size_text(p->read, read, sizeof read), p->po.n_threads);
    puts("\n");
    for (size_t i = 0; i < (p->pool ? COUNT_OF(columns) : 6); i++) term_cell(stdout, _(columns[i].name), columns[i].width);
    putchar('\n');
}

static bool plan_all(struct planning *p, ern_err *e) {
    enum ern_dtype type;
    if (p->o->type && !dtype_from_name(&type, p->o->type, NULL))
        return ern_fail(e, ERN_ARG, _("--type: found \"%s\", a number format like BF16, Q8_0 or Q4_K wanted"), p->o->type);
    if (!p->rows) print_head(p);
    if (p->o->type) return plan_type(p, type, e);
    for (size_t i = 0; i < COUNT_OF(usual); i++)
        if (!plan_type(p, usual[i], e)) return false;
    return true;
}

static bool prepare(struct planning *p, ern_err *e) {
    const struct options *o = p->o;
    unsigned mask;
    char *path = cli_model_path(o->name, e);
    const bool ok = path && plan_model_read(&p->model, path, e);
    free(path);
    if (!ok) return false;
    p->memory = machine_memory();
    p->po = (plan_options){ .weights = DTYPE_BF16, .k_type = DTYPE_F16, .v_type = DTYPE_F16, .n_threads = o->threads.v
                            ? (size_t)o->threads.v :
                            pool_cores(), .max_batch = 256 };
    p->po.n_ctx = o->ctx.v ? (size_t)o->ctx.v : p->model.c.max_positions < 4096 ? p->model.c.max_positions : 4096;
    if (p->po.n_ctx > p->model.c.max_positions)
        return ern_fail(e, ERN_LIMIT, _("context of %zu tokens: the model was trained for %zu"), p->po.n_ctx,
                        p->model.c.max_positions);
    if (o->kv && !kv_types_from_name(&p->po.k_type, &p->po.v_type, o->kv, e)) return false;
    if (o->is_json && !(p->rows = json_array())) return ern_fail(e, ERN_NOMEM, _("no memory for a line of JSON"));
    if (!cpu_mask_from_name(&mask, o->cpu ? o->cpu : "auto", e)) return false;
    kernels_init(&p->kernels, mask);
    p->po.kernels = &p->kernels;
    if (o->only_memory) return true;
    return (p->pool = pool_open(p->po.n_threads, e)) && probe_read(p->pool, &p->read, e);
}

static int run(const void *options) {
    struct planning p = { .o = options };
    ern_err e = { 0 };
    plan_memory m;
    if (p.o->lists || !p.o->name) {
        for (size_t i = 0; i < presets_n(); i++) puts(presets_at(i)->name);
        return 0;
    }
    bool ok = prepare(&p, &e) && plan_all(&p, &e);
    if (ok && p.rows) {
        plan_memory_of(&p.model, &p.po, &m);
        json_t *line = json_pack("{s:s, s:I, s:I, s:I, s:s, s:I, s:o, s:O}", "model", p.model.name, "params",
                                 (json_int_t)m.n_params, "active_params",
                                 (json_int_t)m.n_active, "ctx", (json_int_t)p.po.n_ctx, "kv", kv_name(p.o),
                                     "memory_bytes",
                                 (json_int_t)p.memory, "read_bytes_per_s", p.pool ? cli_real(p.read) : json_null(),
                                     "types", p.rows);
        ok = cli_print_json(line, &e);
    } else if (ok && p.pool)
        puts(_("\ntokens/s: a prompt of 512 tokens; an answer at its first token, and where the context is full"));
    json_decref(p.rows);
    pool_close(p.pool);
    return ok ? 0 : cli_fail(&e);
}

#define AT(member) offsetof(struct options, member)
static const arg_option table[] = {
    { .name = "ctx", .letter = 'c', .kind = ARG_COUNT, .value = "N", .low = 1,
      .help = N_("tokens of context (32K is 32768); 4096 otherwise"), .offset = AT(ctx) },
    { .name = "type", .kind = ARG_TEXT, .value = "TYPE",
      .help = N_("one type of weights (BF16, Q8_0, Q4_0, ...); the usual ones otherwise"), .offset = AT(type) },
    { .name = "kv", .kind = ARG_TEXT, .value = "TYPE", .choices = CLI_KV_CHOICES, .help = CLI_KV_HELP, .offset = AT(kv) },
    { .name = "threads", .letter = 't', .kind = ARG_COUNT, .value = "N", .low = 1, .high = 1024,
      .help = N_("threads to compute with; all cores otherwise"), .offset = AT(threads) },
    { .name = "cpu", .kind = ARG_CHOICE, .value = "LEVEL", .choices = CLI_CPU_CHOICES,
      .help = N_("the best instructions that may be used"), .offset = AT(cpu) },
    { .name = "memory-only", .kind = ARG_FLAG, .help = N_("leave out the speed: nothing is measured"),
      .offset = AT(only_memory) },
    { .name = "list", .kind = ARG_FLAG, .help = N_("list the models that need no file"), .offset = AT(lists) },
    { .name = "json", .kind = ARG_FLAG, .help = N_("print one JSON object"), .offset = AT(is_json) },
};
static const arg_group group = { N_("Options:"), table, COUNT_OF(table) };
static const arg_operand operands[] = {
    { "MODEL", ARG_OPTIONAL, N_("a released model (ERNIE-4.5-21B-A3B), a config.json, a folder with one, or a GGUF file"),
      AT(name) },
};

const arg_command cmd_plan = {
    .name = "plan",
    .summary = N_("memory and speed of a model before it is loaded"),
    .details = N_("Nothing is downloaded: a config.json is enough, and the released models are built in. Speed comes "
                  "from short measurements of the kernels on this machine."),
    .output = N_("With --json {\"model\", \"params\", \"active_params\", \"ctx\", \"kv\", \"memory_bytes\", "
                 "\"read_bytes_per_s\", \"types\": [{\"type\", \"weights_bytes\", \"kv_bytes\", \"scratch_bytes\", "
                 "\"total_bytes\", \"touched_bytes\", \"fits\", \"prefill_tokens_per_s\", \"decode_tokens_per_s\", "
                 "\"decode_full_tokens_per_s\"}]}."),
    .examples = "  ernie plan ERNIE-4.5-21B-A3B --ctx 32K\n  ernie plan ./config.json --type Q4_0 --json",
    .operands = operands,
    .n_operands = COUNT_OF(operands),
    .groups = { { &group, 0 } },
    .size_bytes = sizeof(struct options),
    .run = run,
};
