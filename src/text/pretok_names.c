/* The pre-tokenizers that GGUF files name, as data. Each expression cuts what the one before left; nothing is lost.
 * Sources: the tokenizer.json files of the models the names stand for, and the names llama.cpp gave them. */
#include <string.h>

#include "text/tokenizer_int.h"

#define CONTRACTION "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define WORD "[^\\r\\n\\p{L}\\p{N}]?\\p{L}+"
#define SIGNS " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*"
#define SPACES "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define UPPER "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define LEAD "[^\\r\\n\\p{L}\\p{N}]?"

#define GPT2 "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
#define LLAMA3 CONTRACTION "|" WORD "|\\p{N}{1,3}|" SIGNS "|" SPACES
#define QWEN2 CONTRACTION "|" WORD "|\\p{N}|" SIGNS "|" SPACES
#define QWEN35 CONTRACTION "|" LEAD "[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|" SPACES
#define TEKKEN LEAD UPPER "*" LOWER "+|" LEAD UPPER "+" LOWER "*|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|" SPACES
#define CASED_WORD LEAD UPPER "*" LOWER "+" CONTRACTION "?|" LEAD UPPER "+" LOWER "*" CONTRACTION "?|"
#define GPT4O CASED_WORD "\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|" SPACES
#define YOUTU CASED_WORD "\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|" SPACES
#define BLOOM " ?[^(\\s|.,!?…。，、।۔،)]+"
#define DEEPSEEK_CJK "[一-龥぀-ゟ゠-ヿ]+"
#define SIGN_OR_WORD \
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+"
#define DEEPSEEK3 SIGN_OR_WORD "[\\r\\n]*|" SPACES
#define SPARK SIGN_OR_WORD "|[\\r\\n]|\\s+(?!\\S)|\\s+"
/* Cased letters, as deepseek's file lists them; in numbers, since some of them change under NFC. */
#define DEEPSEEK_LETTERS \
    "\\s?[A-Za-z\\x{B5}\\x{C0}-\\x{D6}\\x{D8}-\\x{F6}\\x{F8}-\\x{1BA}\\x{1BC}-\\x{1BF}\\x{1C4}-\\x{293}\\x{295}-" \
    "\\x{2AF}\\x{370}-\\x{373}\\x{376}\\x{377}\\x{37B}-\\x{37D}\\x{37F}\\x{386}\\x{388}-\\x{38A}\\x{38C}\\x{38E}-" \
    "\\x{3A1}\\x{3A3}-\\x{3F5}\\x{3F7}-\\x{481}\\x{48A}-\\x{52F}\\x{531}-\\x{556}\\x{10A0}-\\x{10C5}\\x{13A0}-" \
    "\\x{13F5}\\x{13F8}-\\x{13FD}\\x{1C90}-\\x{1CBA}\\x{1CBD}-\\x{1CBF}\\x{1D00}-\\x{1D2B}\\x{1D6B}-\\x{1D77}" \
    "\\x{1D79}-\\x{1D9A}\\x{1E00}-\\x{1F15}\\x{1F18}-\\x{1F1D}\\x{1F20}-\\x{1F45}\\x{1F48}-\\x{1F4D}\\x{1F50}-" \
    "\\x{1F57}\\x{1F59}\\x{1F5B}\\x{1F5D}\\x{1F5F}-\\x{1F7D}\\x{1F80}-\\x{1FB4}\\x{1FB6}-\\x{1FBC}\\x{1FBE}\\x{1FC2}-" \
    "\\x{1FC4}\\x{1FC6}-\\x{1FCC}\\x{1FD0}-\\x{1FD3}\\x{1FD6}-\\x{1FDB}\\x{1FE0}-\\x{1FEC}\\x{1FF2}-\\x{1FF4}" \
    "\\x{1FF6}-\\x{1FFC}\\x{2102}\\x{2107}\\x{210A}-\\x{2113}\\x{2115}\\x{2119}-\\x{211D}\\x{2124}\\x{2126}\\x{2128}" \
    "\\x{212A}-\\x{212D}\\x{212F}-\\x{2134}\\x{2139}\\x{213C}-\\x{213F}\\x{2145}-\\x{2149}\\x{214E}\\x{2183}\\x{2184}" \
    "\\x{2C00}-\\x{2C7B}\\x{2C7E}-\\x{2CE4}\\x{2CEB}-\\x{2CEE}\\x{2CF2}\\x{2CF3}\\x{A640}-\\x{A66D}\\x{A680}-" \
    "\\x{A69B}\\x{A722}-\\x{A76F}\\x{A771}-\\x{A787}\\x{A78B}-\\x{A78E}\\x{AB70}-\\x{ABBF}\\x{FB00}-\\x{FB06}" \
    "\\x{FB13}-\\x{FB17}\\x{FF21}-\\x{FF3A}\\x{FF41}-\\x{FF5A}\\x{10400}-\\x{1044F}\\x{104B0}-\\x{104D3}\\x{104D8}-" \
    "\\x{104FB}\\x{10C80}-\\x{10CB2}\\x{10CC0}-\\x{10CF2}\\x{118A0}-\\x{118DF}\\x{1E900}-\\x{1E943}]+"
#define JAIS2 \
    CONTRACTION "|" WORD "|\\p{N}{1,3}|" SIGNS "|\\s*[\\r\\n]+|\\s{512}(?!\\S)|\\s{256}(?!\\S)|\\s{128}(?!\\S)|" \
    "\\s{64}(?!\\S)|\\s{32}(?!\\S)|\\s{16}(?!\\S)|\\s{8}(?!\\S)|\\s{4}(?!\\S)|\\s{1,2}(?!\\S)|\\s{1}"
#define HAN_FREE_UPPER "(?:(?!\\p{Han})" UPPER ")"
#define HAN_FREE_LOWER "(?:(?!\\p{Han})" LOWER ")"
#define KIMI \
    "[\\p{Han}]+|" LEAD HAN_FREE_UPPER "*" HAN_FREE_LOWER "+" CONTRACTION "?|" LEAD HAN_FREE_UPPER "+" HAN_FREE_LOWER "*" \
    CONTRACTION "?|\\p{N}{1,3}|" SIGNS "|" SPACES
#define BAILING \
    "'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}|" \
    " ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+"
#define SEED CONTRACTION "|" WORD "|\\p{N}{1}| ?[^\\s\\p{L}\\p{N}\\r\\n]+|" SPACES
#define EXAONE_MOE \
    CONTRACTION "|" LEAD "(?:\\p{L}\\p{M}*(?: \\p{L}\\p{M}*)*)+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]?|" \
    "\\s*[\\r\\n]|\\s+(?!\\S)|\\s+"
#define MINICPM5 CONTRACTION "|" WORD "|\\p{N}+|" SIGNS "|" SPACES

static const tok_pre_name names[] = {
    { "default", { "[\\p{P}\\$\\+<=>\\^~\\|]+", GPT2, "\\p{N}+", "[0-9][0-9][0-9]" }, false },
    { "gpt-2", { GPT2 }, false }, { "phi-2", { GPT2 }, false }, { "jina-es", { GPT2 }, false },
    { "jina-de", { GPT2 }, false },
    { "jina-v1-en", { GPT2 }, false }, { "jina-v2-es", { GPT2 }, false }, { "jina-v2-de", { GPT2 }, false },
    { "jina-v2-code", { GPT2 }, false }, { "roberta-bpe", { GPT2 }, false }, { "gigachat", { GPT2 }, false },
    { "a.x-4.0", { GPT2 }, false }, { "mellum", { GPT2 }, false }, { "modern-bert", { GPT2 }, false },
    { "mpt", { GPT2 }, false }, { "olmo", { GPT2 }, false }, { "jais", { GPT2 }, false }, { "trillion", { GPT2 }, false },
    { "granite-docling", { GPT2 }, false }, { "exaone4", { GPT2 }, false },
    { "smollm", { "\\p{N}", GPT2 }, false }, { "starcoder", { "\\p{N}", GPT2 }, false },
    { "refact", { "\\p{N}", GPT2 }, false },
    { "command-r", { "\\p{N}", GPT2 }, false }, { "codeshell", { "\\p{N}", GPT2 }, false },
    { "exaone", { "\\p{N}", GPT2 }, false }, { "minerva-7b", { "\\p{N}", GPT2 }, false },
    { "mellum2", { "\\p{N}", GPT2 }, false },
    { "dbrx", { LLAMA3 }, false }, { "smaug-bpe", { LLAMA3 }, false }, { "chatglm-bpe", { LLAMA3 }, false },
    { "glm4", { LLAMA3 }, false },
    { "llama-bpe", { LLAMA3 }, true }, { "llama3", { LLAMA3 }, true }, { "llama-v3", { LLAMA3 }, true },
    { "falcon3", { LLAMA3 }, true }, { "falcon-h1", { LLAMA3 }, true }, { "pixtral", { LLAMA3 }, true },
    { "midm-2.0", { LLAMA3 }, true }, { "lfm2", { LLAMA3 }, true }, { "jina-v5-nano", { LLAMA3 }, true },
    { "qwen2", { QWEN2 }, false }, { "deepseek-r1-qwen", { QWEN2 }, false }, { "kormo", { QWEN2 }, false },
    { "f2llmv2", { QWEN2 }, false }, { "stablelm2", { QWEN2 }, false }, { "megrez", { QWEN2 }, false },
    { "hunyuan", { QWEN2 }, false }, { "solar-open", { QWEN2 }, false }, { "grok-2", { QWEN2 }, false },
    { "qwen35", { QWEN35 }, false },
    { "ufakzeka", { WORD "|\\p{N}|" SIGNS "|" SPACES }, false },
    { "laguna", { "[^\\n]+|[\\n]+", QWEN2 }, false },
    { "jais-2", { JAIS2 }, false },
    { "deepseek-llm", { "[\\r\\n]", DEEPSEEK_LETTERS, "\\s?[!-/:-~！-／：-～‘-‟　-。]+", "\\s+$", "[一-龥ࠀ-一가-퟿]+", "\\p{N}+" },
      false },
    { "deepseek-coder", { "[\\r\\n]", "\\s?\\p{L}+", "\\s?\\p{P}+", "[一-龥ࠀ-一가-퟿]+", "\\p{N}" }, false },
    { "deepseek-v3", { "\\p{N}{1,3}", DEEPSEEK_CJK, DEEPSEEK3 }, false },
    { "hunyuan-dense", { "\\p{N}{1,3}", DEEPSEEK_CJK, DEEPSEEK3 }, false },
    { "joyai-llm", { "\\p{N}{1,3}", DEEPSEEK_CJK, DEEPSEEK3 }, false },
    { "hy_v4", { "\\p{N}{1,3}", DEEPSEEK_CJK, DEEPSEEK3 }, false },
    { "spark2_5", { "\\p{N}{1,3}", DEEPSEEK_CJK, SPARK, "\\p{N}" }, false },
    { "youtu", { "[가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-〿︰-﹏]+|[ㄅ-ㄯ]+|[一-龥぀-ゟ゠-ヿ]+", YOUTU }, true },
    { "falcon", { "[\\p{P}\\$\\+<=>\\^~\\|`]+", GPT2, "[0-9][0-9][0-9]" }, false },
    { "poro-chat", { BLOOM }, false }, { "bloom", { BLOOM }, false }, { "gpt3-finnish", { BLOOM }, false },
    { "viking", { BLOOM, "\\p{N}" }, false },
    { "tekken", { TEKKEN }, true },
    { "gpt-4o", { GPT4O }, false }, { "llama4", { GPT4O }, false }, { "kanana2", { GPT4O }, false },
    { "talkie", { GPT4O }, false },
    { "minimax-m2", { GPT4O }, false }, { "granite-embed-multi-97m", { GPT4O }, true },
    { "kimi-k2", { KIMI }, false },
    { "chameleon", { "<sentinel:[0-9]+>", "(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z", "([\\t\\n]|    |  )", "\\p{N}",
                     "[\\p{P}!-/:-@\\[-`{-~]", GPT2 }, false },
    { "bailingmoe", { BAILING }, false }, { "bailingmoe2", { BAILING }, false }, { "llada-moe", { BAILING }, false },
    { "seed-coder", { SEED }, false },
    { "exaone-moe", { EXAONE_MOE }, false },
    { "minicpm5", { "\\p{N}{1,3}", MINICPM5 }, true },
};

/* In these a word of ASCII letters, with one space before it or none, is one match when no letter and nothing beyond
 * ASCII follows: the first alternative that can take the space or the letter takes exactly them. */
static const char *const plain_word_regexes[] = { GPT2, LLAMA3, QWEN2, QWEN35, SEED, JAIS2, MINICPM5, DEEPSEEK3, BAILING,
                                                  WORD "|\\p{N}|" SIGNS "|" SPACES };

const tok_pre_name *pre_name_find(const char *name) {
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(names[i].name, name) == 0) return &names[i];
    return NULL;
}

static bool is_same(const tok_pre_name *name, const tok_pre *steps, size_t n_steps, bool by_meaning) {
    size_t n = 0;
    while (n < sizeof name->regex / sizeof name->regex[0] && name->regex[n]) n++;
    if (n != n_steps) return false;
    for (size_t i = 0; i < n; i++) {
        if (steps[i].op != PRE_REGEX || steps[i].behavior != SPLIT_ISOLATED || steps[i].is_inverted) return false;
        if (strcmp(steps[i].text, name->regex[i]) != 0 && !(by_meaning && regex_is_same(steps[i].text, name->regex[i])))
            return false;
    }
    return true;
}

const tok_pre_name *pre_name_of(const tok_pre *steps, size_t n_steps, bool ignores_merges) {
    for (int by_meaning = 0; by_meaning < 2; by_meaning++) {        /* writing them alike takes longer */
        const tok_pre_name *other = NULL;
        for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
            if (!is_same(&names[i], steps, n_steps, by_meaning != 0)) continue;
            if (names[i].ignores_merges == ignores_merges) return &names[i];
            other = other ? other : &names[i];
        }
        if (other) return other;
    }
    return NULL;
}

bool pre_is_plain_word_regex(const char *regex) {
    for (size_t i = 0; i < sizeof plain_word_regexes / sizeof plain_word_regexes[0]; i++)
        if (strcmp(regex, plain_word_regexes[i]) == 0) return true;
    return false;
}
