#include "core/base/map.h"

#include <errno.h>
#include <stdlib.h>

#include "core/base/assert.h"

void map_init(struct map *m)
{
    *m = (struct map){0};
}

void map_fini(struct map *m)
{
    free(m->slots);
    map_init(m);
}

static size_t home_of(const struct map *m, uint64_t key)
{
    key *= 0x9e3779b97f4a7c15u; /* Fibonacci hashing, Knuth vol. 3, 6.4 */
    return (size_t)(key ^ (key >> 32)) & m->mask;
}

static struct map_slot *slot_find(const struct map *m, uint64_t key)
{
    size_t i = home_of(m, key);
    while (m->slots[i].value != NULL && m->slots[i].key != key)
        i = (i + 1) & m->mask;
    return &m->slots[i];
}

void *map_get(const struct map *m, uint64_t key)
{
    return m->slots == NULL ? NULL : slot_find(m, key)->value;
}

static int map_grow(struct map *m)
{
    size_t cap = m->slots == NULL ? 16 : (m->mask + 1) * 2;
    struct map bigger = {.slots = calloc(cap, sizeof(*bigger.slots)), .mask = cap - 1};
    if (bigger.slots == NULL)
        return -ENOMEM;
    for (size_t i = 0; m->slots != NULL && i <= m->mask; i++)
        if (m->slots[i].value != NULL)
            *slot_find(&bigger, m->slots[i].key) = m->slots[i];
    bigger.count = m->count;
    free(m->slots);
    *m = bigger;
    return 0;
}

int map_put(struct map *m, uint64_t key, void *value)
{
    ASSERT(value != NULL);
    if (m->slots == NULL || (m->count + 1) * 4 > (m->mask + 1) * 3)
        if (map_grow(m) != 0)
            return -ENOMEM;
    struct map_slot *slot = slot_find(m, key);
    if (slot->value == NULL)
        m->count++;
    *slot = (struct map_slot){key, value};
    return 0;
}

void *map_remove(struct map *m, uint64_t key)
{
    if (m->slots == NULL)
        return NULL;
    struct map_slot *slot = slot_find(m, key);
    void *value = slot->value;
    if (value == NULL)
        return NULL;
    m->count--;
    size_t hole = (size_t)(slot - m->slots);
    for (size_t i = (hole + 1) & m->mask; m->slots[i].value != NULL; i = (i + 1) & m->mask) {
        size_t home = home_of(m, m->slots[i].key); /* backward shift: no tombstones */
        if (((i - home) & m->mask) >= ((i - hole) & m->mask)) {
            m->slots[hole] = m->slots[i];
            hole = i;
        }
    }
    m->slots[hole] = (struct map_slot){0};
    return value;
}

void *map_next(const struct map *m, size_t *it)
{
    while (m->slots != NULL && *it <= m->mask) {
        void *value = m->slots[(*it)++].value;
        if (value != NULL)
            return value;
    }
    return NULL;
}
