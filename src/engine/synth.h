/* Random weights in the shape of a released model and any type, for measuring without a download.
 *
 *     synth_options o = { .seed = 1 };
 *     ok = synth_model("21B-A3B:Q4_0", "random.gguf", &o, &report, &e);
 *
 * The types of the matrices are those that `ernie quantize` would give. Blocks are made, not packed: the speed is the
 * disk's. The file depends on preset, type and seed alone. It has no vocabulary.
 */
#ifndef ENGINE_SYNTH_H
#define ENGINE_SYNTH_H

#include "engine/convert.h"

typedef struct {
    uint64_t seed;
    size_t n_threads;           /* 0: every core */
    ern_progress_fn progress;   /* bytes written and in all; false stops */
    void *ctx;
} synth_options;

/* what: SHAPE:TYPE; SHAPE is a name of presets.h, a config.json or a folder with one, TYPE one of quantize.h. report may be
 * NULL. */
bool synth_model(const char *what, const char *out, const synth_options *o, convert_report *report, ern_err *e);

#endif
