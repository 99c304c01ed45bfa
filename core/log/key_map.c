/* key_map.c: open addressing; the hash is SipHash-2-4 with 128 bits (Aumasson, Bernstein). */
#include "core/log/key_map.h"

#include <errno.h>
#include <stdlib.h>

#include "core/base/assert.h"
#include "core/base/bytes.h"

#define ENTRIES_MIN 64u
#define PAGE_BYTES_MIN 4096u

int key_map_init(struct key_map *m, uint64_t memory_bytes, const uint64_t secret[2])
{
    size_t n = MAX((size_t)(memory_bytes / sizeof(struct key_map_entry)), (size_t)ENTRIES_MIN);
    *m = (struct key_map){.entries_n = n, .secret = {secret[0], secret[1]}};
    m->entries = calloc(n, sizeof(*m->entries));
    return m->entries == NULL ? -ENOMEM : 0;
}

void key_map_fini(struct key_map *m)
{
    free(m->entries);
    *m = (struct key_map){0};
}

void key_map_populate(struct key_map *m)
{
    volatile char *memory = (volatile char *)m->entries;
    for (size_t i = 0; i < m->entries_n * sizeof(*m->entries); i += PAGE_BYTES_MIN)
        memory[i] = 0;
}

size_t key_map_room(const struct key_map *m)
{
    return m->entries_n / 4 * 3 - m->used_n;
}

static uint64_t rotated(uint64_t v, unsigned bits)
{
    return v << bits | v >> (64 - bits);
}

static void sip_rounds(uint64_t v[4], unsigned n)
{
    while (n-- > 0) {
        v[0] += v[1];
        v[1] = rotated(v[1], 13) ^ v[0];
        v[0] = rotated(v[0], 32);
        v[2] += v[3];
        v[3] = rotated(v[3], 16) ^ v[2];
        v[0] += v[3];
        v[3] = rotated(v[3], 21) ^ v[0];
        v[2] += v[1];
        v[1] = rotated(v[1], 17) ^ v[2];
        v[2] = rotated(v[2], 32);
    }
}

static void sip_word(uint64_t v[4], uint64_t word)
{
    v[3] ^= word;
    sip_rounds(v, 2);
    v[0] ^= word;
}

static void key_hash(const struct key_map *m, const uint8_t *key, size_t len, uint64_t ret[2])
{
    uint64_t v[4] = {m->secret[0] ^ 0x736f6d6570736575u, m->secret[1] ^ 0x646f72616e646f6du ^ 0xeeu,
                     m->secret[0] ^ 0x6c7967656e657261u, m->secret[1] ^ 0x7465646279746573u};
    uint64_t last = (uint64_t)len << 56;
    size_t at = 0;
    for (; at + 8 <= len; at += 8)
        sip_word(v, le_load64(key + at));
    for (unsigned i = 0; at + i < len; i++)
        last |= (uint64_t)key[at + i] << (8 * i);
    sip_word(v, last);
    v[2] ^= 0xee;
    sip_rounds(v, 4);
    ret[0] = v[0] ^ v[1] ^ v[2] ^ v[3];
    v[1] ^= 0xdd;
    sip_rounds(v, 4);
    ret[1] = v[0] ^ v[1] ^ v[2] ^ v[3];
}

/* Its entry, or the free one where it would be. */
static struct key_map_entry *entry_of(const struct key_map *m, const uint64_t hash[2])
{
    size_t at = (size_t)(hash[0] % m->entries_n);
    for (;;) {
        struct key_map_entry *e = &m->entries[at];
        if (e->offset_after == 0 || (e->hash[0] == hash[0] && e->hash[1] == hash[1]))
            return e;
        at = at + 1 == m->entries_n ? 0 : at + 1;
    }
}

void key_map_put(struct key_map *m, const uint8_t *key, size_t len, int64_t offset)
{
    uint64_t hash[2];
    key_hash(m, key, len, hash);
    struct key_map_entry *e = entry_of(m, hash);
    if (e->offset_after == 0) {
        ASSERT(key_map_room(m) > 0);
        m->used_n++;
    }
    *e = (struct key_map_entry){{hash[0], hash[1]}, offset + 1};
}

int64_t key_map_get(const struct key_map *m, const uint8_t *key, size_t len)
{
    uint64_t hash[2];
    key_hash(m, key, len, hash);
    return entry_of(m, hash)->offset_after - 1;
}
