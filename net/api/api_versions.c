#include <string.h>

#include "net/api/admin.h"

/* KIP-511: [a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])? */
static bool software_name_ok(struct wire_str s)
{
    static const char alnum[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    for (int32_t i = 0; i < s.len; i++) {
        bool edge = i == 0 || i == s.len - 1;
        char c = s.p[i];
        if (c == '\0' || (strchr(alnum, c) == NULL && (edge || (c != '-' && c != '.'))))
            return false;
    }
    return s.len > 0;
}

/* v5: the client says whom it believes to talk to (KIP-1242). */
static bool is_addressee(struct request *r, const struct api_versions_request *req)
{
    if (req->cluster_id.len < 0 || req->node_id < 0)
        return true;
    char text[23];
    meta_uuid_text(&r->shard->meta->cluster_id, text);
    return wire_str_eq(req->cluster_id, text) &&
           req->node_id == net_node_of_shard(r->shard, r->shard->index)->node_id;
}

static int16_t request_check(struct request *r, const struct api_versions_request *req)
{
    if (r->version >= 3 && (!software_name_ok(req->client_software_name) ||
                            !software_name_ok(req->client_software_version)))
        return KAFKA_INVALID_REQUEST;
    if (r->version >= 5 && !is_addressee(r, req))
        return KAFKA_REBOOTSTRAP_REQUIRED;
    return KAFKA_NONE;
}

void api_versions_handle(struct request *r, void *body)
{
    struct api_versions_response res;
    wire_set_defaults(&api_versions_response_schema, &res);
    res.error_code = request_check(r, body);
    if (res.error_code != KAFKA_NONE) {
        request_reply(r, &res);
        return;
    }
    res.api_keys = wire_new_array(&api_versions_response_api_version_schema, &r->arena,
                                  (int32_t)net_apis_count);
    if (res.api_keys == NULL) {
        request_fail(r, "no memory");
        return;
    }
    res.api_keys_n = (int32_t)net_apis_count;
    for (unsigned i = 0; i < net_apis_count; i++) {
        res.api_keys[i].api_key = net_apis[i].key;
        res.api_keys[i].min_version = net_apis[i].min_version;
        res.api_keys[i].max_version = net_apis[i].max_version;
    }
    request_reply(r, &res);
}

void api_versions_reply_unsupported(struct request *r)
{
    struct api_versions_response res;
    struct api_versions_response_api_version own;
    wire_set_defaults(&api_versions_response_schema, &res);
    wire_set_defaults(&api_versions_response_api_version_schema, &own);
    res.error_code = KAFKA_UNSUPPORTED_VERSION;
    own.api_key = r->api->key;
    own.min_version = r->api->min_version;
    own.max_version = r->api->max_version;
    res.api_keys = &own;
    res.api_keys_n = 1;
    request_reply(r, &res);
}
