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
#include "net/wire/schema.h"

#define ARENA_LIMIT_BYTES (8u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes);

/* Decode a frame and encode it into w. What decode says. */
static int turn(const uint8_t *data, uint32_t len, struct arena *arena, struct wire_writer *w)
{
    struct wire_request_header h;
    uint32_t at = UINT32_MAX;
    uint8_t *frame = malloc(MAX(len, 1u)); /* exactly, so that every byte read beyond shows */
    ASSERT(frame);
    memcpy(frame, data, len);
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
        if (rc == 0) {
            wire_encode_request_header(w, api, &h);
            wire_encode(api->request, h.api_version, flexible, msg, w);
            ASSERT(!w->failed && w->refs_n == 0);
        }
    }
    ASSERT(rc == 0 || rc == -EPROTO || rc == -ENOTSUP || rc == -ENOMEM);
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
