/* text.h: inputs that are text: a file's contents, then a command line.
 * Threads: one. */
#ifndef TESTS_FUZZ_TEXT_H
#define TESTS_FUZZ_TEXT_H

#include <stddef.h>
#include <stdint.h>

#define TEXT_ARGS_MAX 32

/* The path of a file that holds these bytes, until the next call. */
const char *text_file(const uint8_t *data, size_t len_bytes);

struct text_args {
    int argc;
    char *argv[TEXT_ARGS_MAX + 4]; /* with room for more behind, and a NULL */
    char *own;
    size_t file_bytes; /* before the first NUL of the input */
};
/* What is before the first NUL is a file; each text behind, parted by NULs, is an argument. Left
 * out are those with a slash: nothing of this machine is to be read. argv[0] is `name`. */
void text_args_init(struct text_args *a, char *name, const uint8_t *data, size_t len_bytes);
void text_args_fini(struct text_args *a);

#endif
