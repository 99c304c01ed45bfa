#include "core/base/arena.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"

#define ARENA_BLOCK_BYTES 4096u

struct arena_block {
    struct arena_block *next;
    size_t cap_bytes;
    _Alignas(16) char data[];
};

void arena_init(struct arena *a, size_t limit_bytes)
{
    *a = (struct arena){.limit_bytes = limit_bytes};
}

static void blocks_free(struct arena_block *b)
{
    while (b != NULL) {
        struct arena_block *next = b->next;
        free(b);
        b = next;
    }
}

void arena_fini(struct arena *a)
{
    blocks_free(a->blocks);
    arena_init(a, a->limit_bytes);
}

void arena_reset(struct arena *a)
{
    struct arena_block *keep = a->blocks;
    while (keep != NULL && keep->next != NULL) { /* the oldest block, always of the small size */
        struct arena_block *next = keep->next;
        free(keep);
        keep = next;
    }
    a->blocks = keep;
    a->used_bytes = 0;
    a->total_bytes = keep != NULL ? keep->cap_bytes : 0;
}

static struct arena_block *block_push(struct arena *a, size_t len_bytes)
{
    size_t cap = MAX(len_bytes, ARENA_BLOCK_BYTES - sizeof(struct arena_block));
    if (a->blocks != NULL) /* grow geometrically, so that many small items cost few blocks */
        cap = MAX(cap, MIN(a->blocks->cap_bytes * 2, (size_t)1 << 20));
    if (a->total_bytes + len_bytes > a->limit_bytes)
        return NULL;
    cap = MAX(len_bytes, MIN(cap, a->limit_bytes - a->total_bytes));
    struct arena_block *b = malloc(sizeof(*b) + cap);
    if (b == NULL)
        return NULL;
    b->next = a->blocks;
    b->cap_bytes = cap;
    a->blocks = b;
    a->used_bytes = 0;
    a->total_bytes += cap;
    return b;
}

void *arena_alloc(struct arena *a, size_t len_bytes)
{
    if (len_bytes > SIZE_MAX - 16)
        return NULL;
    len_bytes = round_up_u64(MAX(len_bytes, 1u), 16);
    if (a->blocks == NULL || a->blocks->cap_bytes - a->used_bytes < len_bytes)
        if (block_push(a, len_bytes) == NULL)
            return NULL;
    void *p = a->blocks->data + a->used_bytes;
    a->used_bytes += len_bytes;
    return memset(p, 0, len_bytes);
}

void *arena_array(struct arena *a, size_t count, size_t size_bytes)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size_bytes, &bytes))
        return NULL;
    return arena_alloc(a, bytes);
}

void *arena_dup(struct arena *a, const void *data, size_t len_bytes)
{
    void *p = arena_alloc(a, len_bytes);
    return p != NULL && len_bytes > 0 ? memcpy(p, data, len_bytes) : p;
}

char *arena_strdup(struct arena *a, const char *text)
{
    return arena_dup(a, text, strlen(text) + 1);
}

char *arena_printf(struct arena *a, const char *fmt, ...)
{
    va_list args, again;
    va_start(args, fmt);
    va_copy(again, args);
    int len = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    char *p = len < 0 ? NULL : arena_alloc(a, (size_t)len + 1);
    if (p != NULL)
        vsnprintf(p, (size_t)len + 1, fmt, again);
    va_end(again);
    return p;
}
