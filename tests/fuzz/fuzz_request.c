/* fuzz_request.c: whatever a client sends as a request, from its API key on.
 * A frame that decodes must encode, and decoding and encoding that again changes nothing.
 * Input: the frame without its length prefix. */
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/arena.h"
#include "core/base/assert.h"
#include "core/base/bytes.h"
#include "net/wire/messages.h"
#include "net/wire/produce_peek.h"
#include "net/wire/schema.h"

#define ARENA_LIMIT_BYTES (8u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes);

/* What a part of the frame seems to say agrees with what all of it says. */
static void peek(const uint8_t *frame, uint32_t len, const struct produce_request *asked)
{
    for (uint32_t head_len = 0; head_len <= len; head_len += 1 + head_len / 8) {
        struct produce_head h;
        uint8_t *head = malloc(MAX(head_len, 1u));
        ASSERT(head);
        memcpy(head, frame, head_len);
        if (produce_peek(head, head_len, len, &h)) {
            ASSERT(h.records_len <= len && h.records_at <= len - h.records_len);
            ASSERT(h.records_at <= head_len && h.records_len > 0);
            if (asked != NULL) {
                ASSERT(asked->topic_data_n == 1 && asked->topic_data->partition_data_n == 1);
                const struct produce_request_partition_produce_data *p =
                    asked->topic_data->partition_data;
                ASSERT(p->records.data == frame + h.records_at && p->index == h.partition);
                ASSERT((uint32_t)p->records.len == h.records_len);
                ASSERT(h.topic.len < 0 || asked->topic_data->name.len == h.topic.len);
            }
        }
        free(head);
    }
}

/* Decode a frame and encode it into w. What decode says. */
static int turn(const uint8_t *data, uint32_t len, struct arena *arena, struct wire_writer *w)
{
    struct wire_request_header h;
    uint32_t at = UINT32_MAX;
    uint8_t *frame = malloc(MAX(len, 1u)); /* exactly, so that every byte read beyond shows */
    ASSERT(frame);
    memcpy(frame, data, len);
    const void *asked = NULL;
    int rc = wire_decode_request_header(frame, len, &h, &at);
    if (rc == 0) {
        const struct wire_api *api = wire_api_find(h.api_key);
        bool flexible = wire_request_flexible(api, h.api_version);
        void *msg = wire_new(api->request, arena);
        ASSERT(msg && at <= len);
        uint32_t used = 0; /* what is behind a whole body is ignored, as net/request.c does */
        rc = wire_decode_prefix(api->request, h.api_version, flexible, frame + at, len - at, arena,
                                msg, &used);
        ASSERT(rc != 0 || used <= len - at);
        asked = msg;
        if (rc == 0) {
            wire_encode_request_header(w, api, &h);
            wire_encode(api->request, h.api_version, flexible, msg, w);
            ASSERT(!w->failed && w->refs_n == 0);
        }
    }
    ASSERT(rc == 0 || rc == -EPROTO || rc == -ENOTSUP || rc == -ENOMEM);
    peek(frame, len, rc == 0 && h.api_key == 0 ? asked : NULL);
    ASSERT(arena->total_bytes <= ARENA_LIMIT_BYTES);
    free(frame);
    return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes)
{
    struct arena arena;
    struct wire_writer first, second;
    arena_init(&arena, ARENA_LIMIT_BYTES);
    wire_writer_init(&first);
    wire_writer_init(&second);
    if (turn(data, (uint32_t)len_bytes, &arena, &first) == 0) {
        arena_reset(&arena);
        ASSERT(first.len <= len_bytes); /* nothing is said that was not there */
        ASSERT(turn(first.buf, first.len, &arena, &second) == 0);
        ASSERT(first.len == second.len && memcmp(first.buf, second.buf, first.len) == 0);
    }
    wire_writer_fini(&first);
    wire_writer_fini(&second);
    arena_fini(&arena);
    return 0;
}
