/* The shapes of the released models, so that `plan` needs no download. */
#ifndef ENGINE_PRESETS_H
#define ENGINE_PRESETS_H

#include <stddef.h>

typedef struct {
    const char *name;       /* as published under baidu/, without -PT and -Paddle */
    const char *config;     /* what its config.json says, JSON */
} ern_preset;

size_t presets_n(void);
const ern_preset *presets_at(size_t i);

/* "ERNIE-4.5-0.3B", "baidu/ERNIE-4.5-0.3B-PT", "0.3b": all the same; NULL: none. */
const ern_preset *presets_find(const char *name);

#endif
