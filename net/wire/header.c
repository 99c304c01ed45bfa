#include "net/wire/wire.h"

#include "core/base/bytes.h"
#include "net/wire/cursor.h"
#include "net/wire/put.h"

#define API_VERSIONS_KEY 18

/* A client that does not know the broker yet must be able to read the answer: KIP-511 keeps the
 * header of an ApiVersions response at v0 for good. */
static bool response_header_flexible(const struct wire_api *api, int version)
{
    return wire_response_flexible(api, version) && api->key != API_VERSIONS_KEY;
}

int wire_decode_request_header(const uint8_t *frame, uint32_t len, struct wire_request_header *ret,
                               uint32_t *ret_body_at)
{
    struct cursor c = {frame, frame + len};
    const uint8_t *fixed = cursor_take(&c, 8);
    if (fixed == NULL)
        return -EPROTO;
    struct wire_request_header h = {
        .api_key = (int16_t)be_load16(fixed),
        .api_version = (int16_t)be_load16(fixed + 2),
        .correlation_id = (int32_t)be_load32(fixed + 4),
        .client_id = {NULL, -1},
    };
    const struct wire_api *api = wire_api_find(h.api_key);
    if (api == NULL || h.api_version < api->min || h.api_version > api->max) {
        *ret = h; /* the layout of what follows is not known */
        return -ENOTSUP;
    }
    /* The client id keeps its 16-bit length in flexible versions too. */
    const uint8_t *id_len = cursor_take(&c, 2);
    if (id_len == NULL)
        return -EPROTO;
    int16_t n = (int16_t)be_load16(id_len);
    if (n >= 0) {
        h.client_id = (struct wire_str){(const char *)cursor_take(&c, (uint32_t)n), n};
        if (h.client_id.p == NULL)
            return -EPROTO;
    }
    if (wire_request_flexible(api, h.api_version) && cursor_skip_tags(&c) < 0)
        return -EPROTO;
    *ret = h;
    *ret_body_at = (uint32_t)(c.p - frame);
    return 0;
}

int wire_decode_response_header(const uint8_t *frame, uint32_t len, const struct wire_api *api,
                                int version, int32_t *ret_correlation_id, uint32_t *ret_body_at)
{
    struct cursor c = {frame, frame + len};
    const uint8_t *id = cursor_take(&c, 4);
    if (id == NULL || (response_header_flexible(api, version) && cursor_skip_tags(&c) < 0))
        return -EPROTO;
    *ret_correlation_id = (int32_t)be_load32(id);
    *ret_body_at = (uint32_t)(c.p - frame);
    return 0;
}

void wire_encode_request_header(struct wire_writer *w, const struct wire_api *api,
                                const struct wire_request_header *h)
{
    put_u16(w, (uint16_t)h->api_key);
    put_u16(w, (uint16_t)h->api_version);
    put_u32(w, (uint32_t)h->correlation_id);
    put_classic_string(w, h->client_id);
    if (wire_request_flexible(api, h->api_version))
        put_uvarint(w, 0);
}

void wire_encode_response_header(struct wire_writer *w, const struct wire_api *api, int version,
                                 int32_t correlation_id)
{
    put_u32(w, (uint32_t)correlation_id);
    if (response_header_flexible(api, version))
        put_uvarint(w, 0);
}
