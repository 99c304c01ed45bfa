/* arena.h: bump allocator for things that die together (one request, one recovery).
 * arena_alloc returns zeroed memory, or NULL when the arena's own limit or the heap is reached.
 * Small arenas stay inside their first block, which reset keeps. Threads: none. */
#ifndef CORE_BASE_ARENA_H
#define CORE_BASE_ARENA_H

#include <stddef.h>
#include <stdint.h>

struct arena_block;
struct arena {
    struct arena_block *blocks; /* newest first */
    size_t used_bytes;          /* in the newest block */
    size_t total_bytes, limit_bytes;
};

void arena_init(struct arena *a, size_t limit_bytes);
void arena_fini(struct arena *a);
void arena_reset(struct arena *a);
void *arena_alloc(struct arena *a, size_t len_bytes);
/* NULL also when count * size overflows. */
void *arena_array(struct arena *a, size_t count, size_t size_bytes);
void *arena_dup(struct arena *a, const void *data, size_t len_bytes);
char *arena_strdup(struct arena *a, const char *text);
__attribute__((format(printf, 2, 3))) char *arena_printf(struct arena *a, const char *fmt, ...);

#endif
