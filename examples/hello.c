/* Ask a model one question through libernie:
 *
 *     cc hello.c $(pkg-config --cflags --libs libernie) -o hello
 *     ./hello MODEL "What is a library?"
 */
#include <ern.h>
#include <stdio.h>
#include <string.h>

static bool print_piece(void *ctx, const ern_token_event *ev) {
    (void)ctx;
    fwrite(ev->text, 1, ev->n_bytes, stdout);
    fflush(stdout);
    return true;                        /* false would stop the answer */
}

int main(int argc, char **argv) {
    ern_err e = { 0 };
    ern_tokens prompt = { 0 };
    ern_sampling how;
    char messages[4096];
    if (argc != 3 || strpbrk(argv[2], "\"\\\n")) {
        fprintf(stderr, "usage: hello MODEL QUESTION   (QUESTION without quotes and line breaks)\n");
        return 2;
    }
    snprintf(messages, sizeof messages, "[{\"role\": \"user\", \"content\": \"%s\"}]", argv[2]);

    ern_engine *eng = ern_engine_open(argv[1], NULL, &e);
    ern_session *s = eng ? ern_session_open(eng, NULL, &e) : NULL;
    bool ok = s && ern_chat_tokens(eng, messages, true, &prompt, &e) &&
              ern_session_sync(s, prompt.id, prompt.n, NULL, NULL, &e);
    if (ok) {
        ern_sampling_defaults(eng, &how);
        how.max_tokens = 64;
        ok = ern_session_generate(s, &how, print_piece, NULL, NULL, &e);
    }
    printf("\n");
    if (!ok) fprintf(stderr, "hello: %s\n", e.text);
    ern_tokens_free(&prompt);
    ern_session_close(s);
    ern_engine_close(eng);
    return ok ? 0 : 1;
}
