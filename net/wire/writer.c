#include "net/wire/put.h"

#include <stdlib.h>

#include "core/base/assert.h"

#define WRITER_BYTES_MIN 512u
#define WRITER_REFS_MIN 16u

void wire_writer_init(struct wire_writer *w)
{
    *w = (struct wire_writer){0};
}

void wire_writer_fini(struct wire_writer *w)
{
    free(w->buf);
    free(w->refs);
    wire_writer_init(w);
}

void wire_writer_reset(struct wire_writer *w)
{
    w->len = 0;
    w->refs_n = 0;
    w->ref_bytes = 0;
    w->failed = false;
}

bool writer_grow(struct wire_writer *w, uint32_t len)
{
    uint64_t need = (uint64_t)w->len + len;
    uint64_t cap = MAX(MAX(need, (uint64_t)w->cap * 2), WRITER_BYTES_MIN);
    uint8_t *buf = need <= INT32_MAX ? realloc(w->buf, cap) : NULL;
    if (buf == NULL) {
        w->failed = true;
        return false;
    }
    w->buf = buf;
    w->cap = (uint32_t)MIN(cap, UINT32_MAX);
    return true;
}

void put_classic_string(struct wire_writer *w, struct wire_str s)
{
    if (s.len > INT16_MAX) {
        w->failed = true;
        return;
    }
    put_u16(w, (uint16_t)(s.len < 0 ? -1 : s.len));
    if (s.len > 0)
        put_bytes(w, s.p, (uint32_t)s.len);
}

static bool refs_grow(struct wire_writer *w)
{
    uint32_t cap = MAX(w->refs_cap * 2, WRITER_REFS_MIN);
    struct wire_ref *refs = reallocarray(w->refs, cap, sizeof(*refs));
    if (refs == NULL) {
        w->failed = true;
        return false;
    }
    w->refs = refs;
    w->refs_cap = cap;
    return true;
}

void put_ref(struct wire_writer *w, const struct wire_records *r)
{
    uint64_t sum = 0;
    for (int32_t i = 0; i < r->iov_n; i++)
        sum += r->iov[i].iov_len;
    ASSERT(r->extent != NULL ||
           sum == (uint64_t)r->len); /* else every byte after it is read as something else */
    if (w->failed || r->len == 0 || (w->refs_n == w->refs_cap && !refs_grow(w)))
        return;
    w->refs[w->refs_n++] = (struct wire_ref){
        .at = w->len, .iov = r->iov, .extent = r->extent, .iov_n = r->iov_n, .len = r->len};
    w->ref_bytes += (uint32_t)r->len;
}

void put_uvarint_before(struct wire_writer *w, uint32_t at, uint32_t v)
{
    uint8_t tmp[UVARINT_BYTES_MAX];
    uint32_t n = uvarint_store(tmp, v), moved = w->len - at;
    if (put_space(w, n) == NULL)
        return;
    memmove(w->buf + at + n, w->buf + at, moved);
    memcpy(w->buf + at, tmp, n);
    for (uint32_t i = w->refs_n; i > 0 && w->refs[i - 1].at >= at; i--)
        w->refs[i - 1].at += n;
}

void wire_frame_begin(struct wire_writer *w)
{
    w->frame_at = w->len;
    w->frame_ref_bytes_was = w->ref_bytes;
    put_u32(w, 0);
}

void wire_frame_end(struct wire_writer *w)
{
    if (w->failed)
        return;
    uint64_t len = (uint64_t)w->len - w->frame_at - 4 + w->ref_bytes - w->frame_ref_bytes_was;
    if (len > INT32_MAX) {
        w->failed = true;
        return;
    }
    be_store32(w->buf + w->frame_at, (uint32_t)len);
}

struct wire_str wire_str_of(const char *c_string)
{
    if (c_string == NULL)
        return (struct wire_str){NULL, -1};
    return (struct wire_str){c_string, (int32_t)strlen(c_string)};
}

bool wire_str_eq(struct wire_str s, const char *c_string)
{
    if (c_string == NULL || s.len < 0)
        return c_string == NULL && s.len < 0;
    return strlen(c_string) == (size_t)s.len && memcmp(s.p, c_string, (size_t)s.len) == 0;
}
