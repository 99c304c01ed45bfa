#include "net/api/admin.h"

#define ENDPOINT_BROKER 1
#define ENDPOINT_CONTROLLER 2

static int16_t endpoint_check(int8_t type, const char **ret_message)
{
    if (type == ENDPOINT_BROKER)
        return KAFKA_NONE;
    if (type == ENDPOINT_CONTROLLER) {
        *ret_message = "The request was sent to an endpoint of type BROKER, but we wanted an "
                       "endpoint of type CONTROLLER";
        return KAFKA_MISMATCHED_ENDPOINT_TYPE;
    }
    *ret_message = "Unsupported endpoint type";
    return KAFKA_UNSUPPORTED_ENDPOINT_TYPE;
}

void describe_cluster_handle(struct request *r, void *body)
{
    const struct describe_cluster_request *req = body;
    const struct broker *b = r->shard->broker;
    struct describe_cluster_response res;
    const char *message = NULL;
    wire_set_defaults(&describe_cluster_response_schema, &res);
    res.error_code = endpoint_check(req->endpoint_type, &message);
    if (res.error_code != KAFKA_NONE) {
        res.error_message = wire_str_of(message);
        request_reply(r, &res);
        return;
    }
    res.brokers = wire_new_array(&describe_cluster_response_describe_cluster_broker_schema,
                                 &r->arena, (int32_t)b->nodes_n);
    res.cluster_id = admin_cluster_id(r);
    if (res.brokers == NULL || res.cluster_id.len < 0) {
        request_fail(r, "no memory");
        return;
    }
    res.brokers_n = (int32_t)b->nodes_n;
    for (unsigned i = 0; i < b->nodes_n; i++) {
        res.brokers[i].broker_id = b->nodes[i].node_id;
        res.brokers[i].host = wire_str_of(b->nodes[i].host);
        res.brokers[i].port = b->nodes[i].port;
        res.brokers[i].rack = wire_str_of(b->rack);
    }
    res.endpoint_type = ENDPOINT_BROKER;
    res.controller_id = admin_controller_id(r->shard);
    if (req->include_cluster_authorized_operations)
        res.cluster_authorized_operations = ADMIN_CLUSTER_OPERATIONS;
    request_reply(r, &res);
}
