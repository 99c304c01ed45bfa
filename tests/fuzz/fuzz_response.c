/* fuzz_response.c: whatever a broker sends as a response to penstock bench.
 * A response that decodes must encode, and decoding and encoding that again changes nothing.
 * Input: index of the API u8, version u8 (both modulo what there is), then the response without its
 *   length prefix. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/arena.h"
#include "core/base/assert.h"
#include "core/base/bytes.h"
#include "net/wire/schema.h"

#define ARENA_LIMIT_BYTES (8u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes);

static const struct wire_api *api;
static int version;

/* Decode a response and encode it into w. What decode says. */
static int turn(const uint8_t *data, uint32_t len, struct arena *arena, struct wire_writer *w)
{
    int32_t correlation_id;
    uint32_t at = UINT32_MAX;
    bool flexible = wire_response_flexible(api, version);
    void *msg = wire_new(api->response, arena);
    uint8_t *frame = malloc(MAX(len, 1u)); /* exactly, so that every byte read beyond shows */
    ASSERT(frame != NULL && msg != NULL);
    memcpy(frame, data, len);
    int rc = wire_decode_response_header(frame, len, api, version, &correlation_id, &at);
    if (rc == 0) {
        ASSERT(at <= len);
        rc = wire_decode(api->response, version, flexible, frame + at, len - at, arena, msg);
    }
    if (rc == 0) {
        wire_encode_response_header(w, api, version, correlation_id);
        wire_encode(api->response, version, flexible, msg, w);
        ASSERT(!w->failed && w->refs_n == 0);
    }
    ASSERT(rc == 0 || rc == -EPROTO || rc == -ENOMEM);
    ASSERT(arena->total_bytes <= ARENA_LIMIT_BYTES);
    free(frame);
    return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes)
{
    struct arena arena;
    struct wire_writer first, second;
    if (len_bytes < 2)
        return 0;
    api = &wire_apis[data[0] % wire_apis_count];
    version = api->min + data[1] % (api->max - api->min + 1);
    arena_init(&arena, ARENA_LIMIT_BYTES);
    wire_writer_init(&first);
    wire_writer_init(&second);
    if (turn(data + 2, (uint32_t)(len_bytes - 2), &arena, &first) == 0) {
        arena_reset(&arena);
        ASSERT(first.len <= len_bytes - 2); /* nothing is said that was not there */
        ASSERT(turn(first.buf, first.len, &arena, &second) == 0);
        ASSERT(first.len == second.len && memcmp(first.buf, second.buf, first.len) == 0);
    }
    wire_writer_fini(&first);
    wire_writer_fini(&second);
    arena_fini(&arena);
    return 0;
}
