#include "tests/fuzz/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/base/assert.h"

const char *text_file(const uint8_t *data, size_t len_bytes)
{
    static char path[64];
    static int fd = -1;
    if (fd < 0)
        fd = memfd_create("fuzz", MFD_CLOEXEC);
    ASSERT(fd >= 0 && ftruncate(fd, 0) == 0);
    ASSERT(pwrite(fd, data, len_bytes, 0) == (ssize_t)len_bytes);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    return path;
}

void text_args_init(struct text_args *a, char *name, const uint8_t *data, size_t len_bytes)
{
    *a = (struct text_args){.argc = 1, .argv = {name}};
    a->own = malloc(len_bytes + 1);
    ASSERT(a->own != NULL);
    memcpy(a->own, data, len_bytes);
    a->own[len_bytes] = '\0';
    a->file_bytes = strlen(a->own);
    for (size_t at = a->file_bytes + 1; at < len_bytes && a->argc <= TEXT_ARGS_MAX;) {
        char *arg = a->own + at;
        at += strlen(arg) + 1;
        if (strchr(arg, '/') == NULL)
            a->argv[a->argc++] = arg;
    }
}

void text_args_fini(struct text_args *a)
{
    free(a->own);
}
