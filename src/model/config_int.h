/* What the readers of config.json, GGUF metadata and sentence-transformers files share. */
#ifndef MODEL_CONFIG_INT_H
#define MODEL_CONFIG_INT_H

#include "model/config.h"

/* Limits far above any released model. With them no product of three sizes of a config passes 2^63. */
#define MAX_LAYERS 1024
#define MAX_HEADS ((size_t)4096)
#define MAX_WIDTH ((size_t)1 << 20)
#define MAX_VOCAB ((size_t)1 << 24)
#define MAX_EXPERTS ((size_t)4096)
#define MAX_POSITIONS ((size_t)1 << 26)

bool config_arch_from_type(enum model_arch *out, const char *type, const char *name, ern_err *e);

/* Relations between the numbers, whatever they were read from. */
bool config_check(ern_config *c, const char *name, ern_err *e);

/* modules.json, 1_Pooling/config.json and sentence_bert_config.json of a sentence-transformers folder, where they exist. */
bool config_read_pooling(ern_config *c, const char *folder, ern_err *e);

bool config_from_gguf(ern_config *out, const ern_source *s, ern_err *e);

#endif
