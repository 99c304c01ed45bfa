#include <errno.h>

#include "core/group/internal.h"

bool str_eq(struct group_str a, struct group_str b)
{
    return a.len == b.len && (a.len <= 0 || memcmp(a.p, b.p, (size_t)a.len) == 0);
}

bool str_is(struct group_str a, const char *text)
{
    return a.len == (int32_t)strlen(text) && memcmp(a.p, text, (size_t)a.len) == 0;
}

bool str_empty(struct group_str s)
{
    return s.len <= 0;
}

/* FNV-1a from a secret start, mixed once more (MurmurHash3's last step). */
static uint64_t hash_of(const struct names *n, struct group_str text)
{
    uint64_t h = 0xcbf29ce484222325u ^ n->seed;
    for (int32_t i = 0; i < text.len; i++)
        h = (h ^ (uint8_t)text.p[i]) * 0x100000001b3u;
    h ^= h >> 33;
    h *= 0xff51afd7ed558ccdu;
    return h ^ (h >> 33);
}

struct name *names_find(const struct names *n, struct group_str text)
{
    struct name *name = text.len < 0 ? NULL : map_get(&n->by_hash, hash_of(n, text));
    while (name != NULL && !str_eq(name->text, text))
        name = name->next;
    return name;
}

int names_add(struct names *n, struct name *name, struct group_str text)
{
    name->text = text;
    name->hash = hash_of(n, text);
    name->next = map_get(&n->by_hash, name->hash);
    return map_put(&n->by_hash, name->hash, name);
}

void names_remove(struct names *n, struct name *name)
{
    struct name *first = map_get(&n->by_hash, name->hash);
    if (first == name) {
        if (name->next == NULL)
            map_remove(&n->by_hash, name->hash);
        else
            map_put(&n->by_hash, name->hash, name->next); /* replaces: takes no memory */
        return;
    }
    while (first->next != name)
        first = first->next;
    first->next = name->next;
}
