#include "net/wire/produce_peek.h"

#include <string.h>

#include "core/base/bytes.h"
#include "net/wire/cursor.h"

#define PRODUCE 0
#define VERSION_FLEXIBLE 9
#define VERSION_TOPIC_ID 13
#define ACKS_AND_TIMEOUT_BYTES 6

struct peek {
    struct cursor c;
    bool flexible;
};

/* A length or count, classic or compact; < 0: null, or not there. */
static int64_t peek_length(struct peek *k, uint32_t classic_bytes)
{
    uint32_t v;
    if (k->flexible)
        return cursor_uvarint(&k->c, &v) == 0 ? (int64_t)v - 1 : -1;
    const uint8_t *p = cursor_take(&k->c, classic_bytes);
    if (p == NULL)
        return -1;
    return classic_bytes == 2 ? (int16_t)be_load16(p) : (int32_t)be_load32(p);
}

static bool peek_string(struct peek *k, struct wire_str *ret)
{
    int64_t len = peek_length(k, 2);
    const uint8_t *p = len < 0 ? NULL : cursor_take(&k->c, (uint32_t)len);
    *ret = (struct wire_str){(const char *)p, p == NULL ? -1 : (int32_t)len};
    return p != NULL;
}

static bool peek_topic(struct peek *k, int16_t version, struct produce_head *ret)
{
    if (version < VERSION_TOPIC_ID)
        return peek_string(k, &ret->topic);
    const uint8_t *id = cursor_take(&k->c, sizeof(ret->topic_id));
    if (id != NULL)
        memcpy(&ret->topic_id, id, sizeof(ret->topic_id));
    return id != NULL;
}

bool produce_peek(const uint8_t *head, uint32_t head_len, uint32_t frame_len,
                  struct produce_head *ret)
{
    struct wire_request_header h;
    uint32_t body_at;
    if (wire_decode_request_header(head, head_len, &h, &body_at) != 0 || h.api_key != PRODUCE)
        return false;
    struct peek k = {{head + body_at, head + head_len}, h.api_version >= VERSION_FLEXIBLE};
    *ret = (struct produce_head){.topic = {NULL, -1}};
    int64_t transactional_len = peek_length(&k, 2);
    if (transactional_len > 0 && cursor_take(&k.c, (uint32_t)transactional_len) == NULL)
        return false;
    if (cursor_take(&k.c, ACKS_AND_TIMEOUT_BYTES) == NULL)
        return false;
    if (peek_length(&k, 4) != 1 || !peek_topic(&k, h.api_version, ret) || peek_length(&k, 4) != 1)
        return false;
    const uint8_t *index = cursor_take(&k.c, 4);
    int64_t len = index == NULL ? -1 : peek_length(&k, 4);
    ret->records_at = (uint32_t)(k.c.p - head);
    if (len <= 0 || len > frame_len - ret->records_at)
        return false;
    ret->partition = (int32_t)be_load32(index);
    ret->records_len = (uint32_t)len;
    return true;
}
