/* What the layouts call and how they turn the tensors that have a canonical (-PT) name; for writers of models. */
#ifndef FORMATS_LAYOUT_H
#define FORMATS_LAYOUT_H

#include <stdbool.h>
#include <stddef.h>

/* The GGUF name of a canonical one ("blk.3.ffn_up_exps.weight" for any expert of layer 3); false: GGUF has none. */
bool layout_gguf_name(char *out, size_t size, const char *canonical);

/* Has the -Paddle layout this tensor as [in, out]? is_vision: the model has vision experts (mlp.gate.weight_1). */
bool layout_paddle_transposes(const char *canonical, unsigned n_dims, bool is_vision);

#endif
