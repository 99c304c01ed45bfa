/* cursor.h: bounded reading of protocol primitives, for net/wire and bench/agents_wire.
 * cursor_take() is the only way to the bytes; it returns NULL when fewer are left.
 * Threads: none. */
#ifndef NET_WIRE_CURSOR_H
#define NET_WIRE_CURSOR_H

#include <errno.h>
#include <stddef.h>
#include <stdint.h>

struct cursor {
    const uint8_t *p, *end;
};

static inline uint32_t cursor_left(const struct cursor *c)
{
    return (uint32_t)(c->end - c->p);
}

static inline const uint8_t *cursor_take(struct cursor *c, uint32_t len)
{
    if (cursor_left(c) < len)
        return NULL;
    const uint8_t *p = c->p;
    c->p += len;
    return p;
}

/* Unsigned LEB128 of at most 5 bytes and 32 bits. */
static inline int cursor_uvarint(struct cursor *c, uint32_t *ret)
{
    uint64_t v = 0;
    for (unsigned shift = 0; shift <= 28; shift += 7) {
        const uint8_t *p = cursor_take(c, 1);
        if (p == NULL)
            return -EPROTO;
        v |= (uint64_t)(*p & 0x7f) << shift;
        if (*p < 0x80) {
            if (v > UINT32_MAX)
                return -EPROTO;
            *ret = (uint32_t)v;
            return 0;
        }
    }
    return -EPROTO;
}

/* Skip a tag section. */
static inline int cursor_skip_tags(struct cursor *c)
{
    uint32_t count, tag, len;
    if (cursor_uvarint(c, &count) < 0)
        return -EPROTO;
    for (; count > 0; count--) {
        if (cursor_uvarint(c, &tag) < 0 || cursor_uvarint(c, &len) < 0)
            return -EPROTO;
        if (cursor_take(c, len) == NULL)
            return -EPROTO;
    }
    return 0;
}

#endif
