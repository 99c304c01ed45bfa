#include "core/batch/record.h"

#include <errno.h>

#include "core/base/bytes.h"

/* The parser is instantiated twice: once over memory, where the compiler keeps the cursor in
 * registers, and once over a stream, where a field may lie across two windows. */
#define PARSER static inline __attribute__((always_inline))

static const char past_end[] = "a record's fields run past its length";

PARSER bool cursor_fail(struct cursor *c, int rc, const char *message)
{
    c->rc = rc;
    c->message = message;
    return false;
}

PARSER uint64_t cursor_pos(const struct cursor *c)
{
    return c->end_pos - (uint64_t)(c->end - c->at);
}

static const char *codec_message(int rc)
{
    switch (rc) {
    case -EMSGSIZE:
        return "the compressed records unpack beyond the limit";
    case -ENOMEM:
        return "no memory to unpack the compressed records";
    default:
        return "the compressed records are malformed";
    }
}

/* Called with an empty window: the next bytes of the stream, if there are any. */
static bool cursor_refill(struct cursor *c)
{
    if (!c->reader)
        return cursor_fail(c, -EINVAL, "the records end too soon");
    int64_t n = codec_reader_read(c->reader, c->window, c->window_bytes);
    if (n < 0)
        return cursor_fail(c, (int)n, codec_message((int)n));
    if (n == 0)
        return cursor_fail(c, -EINVAL, "the records end too soon");
    c->at = c->window;
    c->end = c->window + n;
    c->end_pos += (uint64_t)n;
    return true;
}

bool cursor_at_end(struct cursor *c)
{
    if (c->at != c->end)
        return cursor_fail(c, -EINVAL, "bytes are left over behind the last record");
    if (!c->reader)
        return true;
    int64_t n = codec_reader_read(c->reader, c->window, c->window_bytes);
    if (n < 0)
        return cursor_fail(c, (int)n, codec_message((int)n));
    if (n > 0)
        return cursor_fail(c, -EINVAL, "bytes are left over behind the last record");
    return true;
}

int varint_decode(const uint8_t *p, size_t avail, unsigned bits, uint64_t *ret)
{
    uint64_t v = 0;
    for (unsigned shift = 0, i = 0; shift < bits; shift += 7, i++) {
        if (i == avail)
            return 0;
        uint64_t part = p[i] & 0x7f;
        if (shift + 7 > bits && part >> (bits - shift))
            return -1; /* the last byte has bits that do not fit */
        v |= part << shift;
        if (p[i] < 0x80) {
            *ret = v;
            return (int)i + 1;
        }
    }
    return -1;
}

unsigned varint_encode(uint8_t *p, uint64_t v)
{
    unsigned n = 0;
    for (; v >= 0x80; v >>= 7)
        p[n++] = (uint8_t)(v | 0x80);
    p[n++] = (uint8_t)v;
    return n;
}

/* A varint that may lie across windows: collect its bytes, then decode them. */
static bool cursor_varint_slow(struct cursor *c, unsigned bits, uint64_t *ret)
{
    uint8_t bytes[VARINT64_BYTES_MAX];
    for (size_t n = 0; n < sizeof(bytes);) {
        if (c->at == c->end && !cursor_refill(c))
            return false;
        bytes[n++] = *c->at++;
        int used = varint_decode(bytes, n, bits, ret);
        if (used > 0)
            return true;
        if (used < 0)
            break;
    }
    return cursor_fail(c, -EINVAL, "a varint is too long");
}

static bool cursor_skip_slow(struct cursor *c, size_t len)
{
    while (len > (size_t)(c->end - c->at)) {
        len -= (size_t)(c->end - c->at);
        c->at = c->end;
        if (!cursor_refill(c))
            return false;
    }
    c->at += len;
    return true;
}

PARSER bool take_varint(struct cursor *c, bool streaming, unsigned bits, int64_t *ret)
{
    uint64_t v;
    if (__builtin_expect(c->at < c->end && *c->at < 0x80, 1)) {
        *ret = zigzag_decode(*c->at++);
        return true;
    }
    if (__builtin_expect(c->end - c->at >= 2 && c->at[1] < 0x80, 1)) {
        *ret = zigzag_decode((uint64_t)(c->at[0] & 0x7f) | (uint64_t)c->at[1] << 7);
        c->at += 2;
        return true;
    }
    int used = varint_decode(c->at, (size_t)(c->end - c->at), bits, &v);
    if (used > 0)
        c->at += used;
    else if (used < 0)
        return cursor_fail(c, -EINVAL, "a varint is too long");
    else if (!streaming)
        return cursor_fail(c, -EINVAL, past_end);
    else if (!cursor_varint_slow(c, bits, &v))
        return false;
    *ret = zigzag_decode(v);
    return true;
}

/* A length, and the bytes it announces, which must lie before end_pos. */
PARSER bool take_bytes(struct cursor *c, bool streaming, uint64_t end_pos, int32_t len_min,
                       const uint8_t **ret, int32_t *ret_len)
{
    int64_t len;
    if (!take_varint(c, streaming, 32, &len))
        return false;
    if (len < len_min)
        return cursor_fail(c, -EINVAL, "a length is negative");
    *ret = len < 0 ? NULL : c->at;
    *ret_len = (int32_t)len;
    if (len <= 0)
        return true;
    uint64_t pos = cursor_pos(c);
    if (pos > end_pos || (uint64_t)len > end_pos - pos)
        return cursor_fail(c, -EINVAL, past_end);
    if (streaming)
        return cursor_skip_slow(c, (size_t)len);
    c->at += len;
    return true;
}

PARSER bool take_headers(struct cursor *c, bool streaming, uint64_t end_pos, struct record *ret)
{
    int64_t count;
    const uint8_t *ignored;
    int32_t ignored_len;
    if (!take_varint(c, streaming, 32, &count))
        return false;
    if (count < 0)
        return cursor_fail(c, -EINVAL, "a record's header count is negative");
    ret->header_count = (int32_t)count;
    ret->headers = c->at;
    for (int64_t i = 0; i < count; i++) {
        if (!take_bytes(c, streaming, end_pos, 0, &ignored, &ignored_len) ||
            !take_bytes(c, streaming, end_pos, -1, &ignored, &ignored_len))
            return false;
    }
    return true;
}

PARSER bool parse_body(struct cursor *c, bool streaming, uint64_t end_pos, struct record *ret)
{
    int64_t offset_delta;
    if (c->at == c->end && !(streaming && cursor_refill(c)))
        return streaming ? false : cursor_fail(c, -EINVAL, past_end);
    ret->attributes = (int8_t)*c->at++;
    if (!take_varint(c, streaming, 64, &ret->timestamp_delta) ||
        !take_varint(c, streaming, 32, &offset_delta) ||
        !take_bytes(c, streaming, end_pos, -1, &ret->key, &ret->key_len) ||
        !take_bytes(c, streaming, end_pos, -1, &ret->value, &ret->value_len) ||
        !take_headers(c, streaming, end_pos, ret))
        return false;
    ret->offset_delta = (int32_t)offset_delta;
    if (cursor_pos(c) != end_pos)
        return cursor_fail(c, -EINVAL, "a record's length does not match its fields");
    return true;
}

bool record_parse(struct cursor *c, struct record *ret)
{
    int64_t len;
    if (!take_varint(c, true, 32, &len))
        return false;
    if (len < (int64_t)RECORD_BYTES_MIN - 1)
        return cursor_fail(c, -EINVAL, "a record is too short");
    uint64_t end_pos = cursor_pos(c) + (uint64_t)len;
    if ((uint64_t)len > (uint64_t)(c->end - c->at)) {
        if (!c->reader)
            return cursor_fail(c, -EINVAL, "the records end too soon");
        return parse_body(c, true, end_pos, ret);
    }
    struct cursor body = {.at = c->at, .end = c->at + len, .end_pos = end_pos};
    if (!parse_body(&body, false, end_pos, ret))
        return cursor_fail(c, body.rc, body.message);
    ret->headers_len = (size_t)(body.end - ret->headers);
    c->at = body.end;
    return true;
}
