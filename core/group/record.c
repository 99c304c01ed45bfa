#include "core/group/record.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"

#define KEY_OFFSET_OLDEST 0
#define KEY_OFFSET 1
#define KEY_GROUP 2
#define OFFSET_NEWEST 3
#define OFFSET_WITH_EXPIRY 1
#define GROUP_NEWEST 3
#define OUT_BYTES_MIN 512u

/* ---- writing ---- */

void record_out_fini(struct record_out *o)
{
    free(o->p);
    *o = (struct record_out){0};
}

static uint8_t *room(struct record_out *o, size_t len)
{
    if (o->len + len > o->cap) {
        size_t cap = MAX(MAX(o->len + len, o->cap * 2), (size_t)OUT_BYTES_MIN);
        uint8_t *grown = o->failed ? NULL : realloc(o->p, cap);
        if (grown == NULL) {
            o->failed = true;
            return NULL;
        }
        o->p = grown;
        o->cap = cap;
    }
    uint8_t *at = o->p + o->len;
    o->len += len;
    return at;
}

static void begin(struct record_out *o)
{
    o->len = 0;
    o->failed = false;
}

#define PUT(bits)                                                                                  \
    static void put##bits(struct record_out *o, int##bits##_t v)                                   \
    {                                                                                              \
        uint8_t *at = room(o, sizeof(v));                                                          \
        if (at != NULL)                                                                            \
            be_store##bits(at, (uint##bits##_t)v);                                                 \
    }
PUT(16)
PUT(32)
PUT(64)
#undef PUT

static void put_raw(struct record_out *o, const void *p, int32_t len)
{
    uint8_t *at = len > 0 ? room(o, (size_t)len) : NULL;
    if (at != NULL)
        memcpy(at, p, (size_t)len);
}

static void put_str(struct record_out *o, struct group_str s)
{
    if (s.len > INT16_MAX) {
        o->failed = true;
        return;
    }
    put16(o, (int16_t)s.len);
    put_raw(o, s.p, s.len);
}

static void put_blob(struct record_out *o, struct group_blob b)
{
    put32(o, MAX(b.len, 0));
    put_raw(o, b.p, b.len);
}

void record_offset_key(struct record_out *o, struct group_str group, struct group_str topic,
                       int32_t partition)
{
    begin(o);
    put16(o, KEY_OFFSET);
    put_str(o, group);
    put_str(o, topic);
    put32(o, partition);
}

void record_group_key(struct record_out *o, struct group_str group)
{
    begin(o);
    put16(o, KEY_GROUP);
    put_str(o, group);
}

/* As Kafka: an explicit end of life is said by the old version, which has no leader epoch. */
void record_offset_value(struct record_out *o, const struct group_offset *v)
{
    bool expires = v->expire_ms >= 0;
    begin(o);
    put16(o, expires ? OFFSET_WITH_EXPIRY : OFFSET_NEWEST);
    put64(o, v->offset);
    if (!expires)
        put32(o, v->leader_epoch);
    put_str(o, v->metadata);
    put64(o, v->commit_ms);
    if (expires)
        put64(o, v->expire_ms);
}

void record_group_value(struct record_out *o, const struct record_group *g)
{
    begin(o);
    put16(o, GROUP_NEWEST);
    put_str(o, g->protocol_type);
    put32(o, g->generation);
    put_str(o, g->protocol);
    put_str(o, g->leader);
    put64(o, g->state_ms);
    put32(o, g->members_n);
}

void record_member(struct record_out *o, const struct record_member *m)
{
    put_str(o, m->id);
    put_str(o, m->instance);
    put_str(o, m->client_id);
    put_str(o, m->client_host);
    put32(o, m->rebalance_timeout_ms);
    put32(o, m->session_timeout_ms);
    put_blob(o, m->subscription);
    put_blob(o, m->assignment);
}

/* ---- reading ---- */

struct in {
    const uint8_t *p, *end;
    bool bad; /* sticky; what is read then is zero */
};

static const uint8_t *take(struct in *in, size_t len)
{
    if (in->bad || (size_t)(in->end - in->p) < len) {
        in->bad = true;
        return NULL;
    }
    const uint8_t *at = in->p;
    in->p += len;
    return at;
}

#define GET(bits)                                                                                  \
    static int##bits##_t get##bits(struct in *in)                                                  \
    {                                                                                              \
        const uint8_t *at = take(in, bits / 8);                                                    \
        return at == NULL ? 0 : (int##bits##_t)be_load##bits(at);                                  \
    }
GET(16)
GET(32)
GET(64)
#undef GET

static struct group_str get_str(struct in *in)
{
    int16_t len = get16(in);
    const uint8_t *at = len < 0 ? NULL : take(in, (size_t)len);
    return (struct group_str){(const char *)at, at == NULL ? -1 : len};
}

static struct group_blob get_blob(struct in *in)
{
    int32_t len = get32(in);
    const uint8_t *at = len < 0 ? NULL : take(in, (size_t)len);
    return (struct group_blob){at, at == NULL ? 0 : len};
}

static void must(struct in *in, struct group_str s)
{
    in->bad = in->bad || s.len < 0;
}

int record_read_key(const uint8_t *p, int32_t len, struct record_key *ret)
{
    if (len < 2)
        return -EBADMSG;
    struct in in = {p, p + len, false};
    int16_t version = get16(&in);
    if (version < KEY_OFFSET_OLDEST || version > KEY_GROUP)
        return -ENOTSUP;
    *ret = (struct record_key){.is_group = version == KEY_GROUP, .group = get_str(&in)};
    must(&in, ret->group);
    if (!ret->is_group) {
        ret->topic = get_str(&in);
        must(&in, ret->topic);
        ret->partition = get32(&in);
    }
    return in.bad ? -EBADMSG : 0;
}

int record_read_offset(const uint8_t *p, int32_t len, struct group_offset *ret)
{
    struct in in = {p, p + MAX(len, 0), false};
    int16_t version = get16(&in);
    if (!in.bad && (version < 0 || version > OFFSET_NEWEST))
        return -ENOTSUP;
    ret->offset = get64(&in);
    ret->leader_epoch = version >= 3 ? get32(&in) : -1;
    ret->metadata = get_str(&in);
    must(&in, ret->metadata);
    ret->commit_ms = get64(&in);
    ret->expire_ms = version == OFFSET_WITH_EXPIRY ? get64(&in) : -1;
    return in.bad ? -EBADMSG : 0;
}

int record_read_group(const uint8_t *p, int32_t len, struct record_group *ret)
{
    struct in in = {p, p + MAX(len, 0), false};
    *ret = (struct record_group){.version = get16(&in)};
    if (!in.bad && (ret->version < 0 || ret->version > GROUP_NEWEST))
        return -ENOTSUP;
    ret->protocol_type = get_str(&in);
    must(&in, ret->protocol_type);
    ret->generation = get32(&in);
    ret->protocol = get_str(&in);
    ret->leader = get_str(&in);
    ret->state_ms = ret->version >= 2 ? get64(&in) : -1;
    ret->members_n = get32(&in);
    ret->members = in.p;
    ret->end = in.end;
    return in.bad || ret->members_n < 0 ? -EBADMSG : 0;
}

int record_read_member(struct record_group *g, struct record_member *ret)
{
    struct in in = {g->members, g->end, false};
    ret->id = get_str(&in);
    must(&in, ret->id);
    ret->instance = g->version >= 3 ? get_str(&in) : (struct group_str){NULL, -1};
    ret->client_id = get_str(&in);
    must(&in, ret->client_id);
    ret->client_host = get_str(&in);
    must(&in, ret->client_host);
    int32_t first = get32(&in);
    ret->session_timeout_ms = g->version >= 1 ? get32(&in) : first;
    ret->rebalance_timeout_ms = first; /* version 0 has the session's alone */
    ret->subscription = get_blob(&in);
    ret->assignment = get_blob(&in);
    g->members = in.p;
    return in.bad ? -EBADMSG : 0;
}

int record_subscribes(struct group_blob metadata, struct group_str topic)
{
    struct in in = {metadata.p, metadata.p + MAX(metadata.len, 0), false};
    int16_t version = get16(&in);
    int32_t n = get32(&in);
    int found = 0;
    if (version < 0 || n < 0)
        in.bad = true;
    for (int32_t i = 0; !in.bad && i < n; i++) {
        struct group_str name = get_str(&in);
        must(&in, name);
        if (!in.bad && name.len == topic.len && memcmp(name.p, topic.p, (size_t)name.len) == 0)
            found = 1;
    }
    return in.bad ? -EBADMSG : found;
}
