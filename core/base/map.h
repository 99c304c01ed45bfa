/* map.h: open-addressing hash map from uint64_t to a non-NULL pointer; grows by doubling.
 * Threads: one owner. */
#ifndef CORE_BASE_MAP_H
#define CORE_BASE_MAP_H

#include <stddef.h>
#include <stdint.h>

struct map_slot {
    uint64_t key;
    void *value; /* NULL: free */
};
struct map {
    struct map_slot *slots;
    size_t count, mask; /* mask + 1 slots; 0 slots while slots == NULL */
};

void map_init(struct map *m);
void map_fini(struct map *m);
void *map_get(const struct map *m, uint64_t key);
/* Replaces; 0 or -ENOMEM. */
int map_put(struct map *m, uint64_t key, void *value);
/* Returns what was there, or NULL. */
void *map_remove(struct map *m, uint64_t key);

/* for (size_t it = 0; (value = map_next(m, &it)) != NULL;) -- do not put or remove meanwhile. */
void *map_next(const struct map *m, size_t *it);

#endif
