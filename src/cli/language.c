#include "cli/language.h"

#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "cli/cli.h"

#ifndef ERN_LOCALE_DIR
#define ERN_LOCALE_DIR "/usr/local/share/locale"
#endif

/* share/locale beside the program (build tree) or beside its bin folder (an installed tree that was moved). Caller frees. */
static char *locale_folder(void) {
    static const char *const places[] = { "share/locale", "../share/locale" };
    char program[4096];
    const ssize_t n = readlink("/proc/self/exe", program, sizeof program - 1);
    if (n <= 0) return NULL;
    program[n] = '\0';
    char *slash = strrchr(program, '/');
    if (!slash) return NULL;
    *slash = '\0';
    for (size_t i = 0; i < COUNT_OF(places); i++) {
        char *path = file_join(program, places[i], NULL),
            *probe = path ? file_join(path, "zh_CN/LC_MESSAGES/ernie.mo", NULL) : NULL;
        const bool is_there = probe && file_exists(probe);
        free(probe);
        if (is_there) return path;
        free(path);
    }
    return NULL;
}

static const char *wanted_language(void) {
    static const char *const variables[] = { "LC_ALL", "LC_MESSAGES", "LANG" };
    const char *language = getenv("LANGUAGE"), *locale = "";
    for (size_t i = 0; i < COUNT_OF(variables) && !*locale; i++) {
        const char *v = getenv(variables[i]);
        if (v) locale = v;
    }
    if (strcmp(locale, "C") == 0 || strcmp(locale, "POSIX") == 0) return "";
    return language && *language ? language : locale;
}

/* Small systems have no zh_CN locale compiled in: gettext then needs C.UTF-8 and LANGUAGE. Numbers stay as in C: JSON is. */
void language_init(void) {
    const char *language = wanted_language();
    const char *ctype = setlocale(LC_CTYPE, "");
    if (!ctype || strcmp(ctype, "C") == 0 || strcmp(ctype, "POSIX") == 0) setlocale(LC_CTYPE, "C.UTF-8");
    const char *messages = setlocale(LC_MESSAGES, "");
    if (*language && (!messages || strcmp(messages, "C") == 0 || strcmp(messages, "POSIX") == 0)) {
        setlocale(LC_MESSAGES, "C.UTF-8");
        if (strncmp(language, "zh", 2) == 0) setenv("LANGUAGE", "zh_CN", 1);
    } else if (strncmp(language, "zh", 2) == 0 && getenv("LANGUAGE")) setenv("LANGUAGE", "zh_CN", 1);
    char *folder = locale_folder();
    bindtextdomain("ernie", folder ? folder : ERN_LOCALE_DIR);
    bind_textdomain_codeset("ernie", "UTF-8");
    textdomain("ernie");
    free(folder);
}
