/* put.h: appending protocol primitives to a wire_writer, for net/wire and bench/agents_wire.
 * A failed writer swallows everything. Threads: none. */
#ifndef NET_WIRE_PUT_H
#define NET_WIRE_PUT_H

#include "core/base/bytes.h"
#include "net/wire/wire.h"

/* Make room for len more bytes; false sets failed. */
bool writer_grow(struct wire_writer *w, uint32_t len);

/* len bytes that the caller fills, or NULL. */
static inline uint8_t *put_space(struct wire_writer *w, uint32_t len)
{
    if (w->failed || (w->cap - w->len < len && !writer_grow(w, len)))
        return NULL;
    uint8_t *p = w->buf + w->len;
    w->len += len;
    return p;
}

static inline void put_u8(struct wire_writer *w, uint8_t v)
{
    uint8_t *p = put_space(w, 1);
    if (p != NULL)
        *p = v;
}

static inline void put_u16(struct wire_writer *w, uint16_t v)
{
    uint8_t *p = put_space(w, 2);
    if (p != NULL)
        be_store16(p, v);
}

static inline void put_u32(struct wire_writer *w, uint32_t v)
{
    uint8_t *p = put_space(w, 4);
    if (p != NULL)
        be_store32(p, v);
}

static inline void put_u64(struct wire_writer *w, uint64_t v)
{
    uint8_t *p = put_space(w, 8);
    if (p != NULL)
        be_store64(p, v);
}

static inline void put_bytes(struct wire_writer *w, const void *data, uint32_t len)
{
    uint8_t *p = len > 0 ? put_space(w, len) : NULL;
    if (p != NULL)
        memcpy(p, data, len);
}

#define UVARINT_BYTES_MAX 5u

static inline uint32_t uvarint_store(uint8_t out[UVARINT_BYTES_MAX], uint32_t v)
{
    uint32_t n = 0;
    for (; v >= 0x80; v >>= 7)
        out[n++] = (uint8_t)(v | 0x80);
    out[n++] = (uint8_t)v;
    return n;
}

static inline void put_uvarint(struct wire_writer *w, uint32_t v)
{
    uint8_t tmp[UVARINT_BYTES_MAX];
    put_bytes(w, tmp, uvarint_store(tmp, v));
}

/* A string with a 16-bit length, -1 for null. */
void put_classic_string(struct wire_writer *w, struct wire_str s);

/* len bytes of an iovec belong here. */
void put_ref(struct wire_writer *w, const struct wire_records *r);

/* Write v as uvarint in front of the bytes from `at` on. */
void put_uvarint_before(struct wire_writer *w, uint32_t at, uint32_t v);

#endif
