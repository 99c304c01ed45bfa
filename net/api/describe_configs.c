/* DescribeConfigs, key 32: every key of a topic, of a node, or what was set for the whole cluster;
 * each with its value, where that comes from, its type and what it means. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "net/api/admin.h"
#include "net/api/config_view.h"

typedef struct describe_configs_request_describe_configs_resource asked_resource;
typedef struct describe_configs_response_describe_configs_result told_resource;
typedef struct describe_configs_response_describe_configs_resource_result told_config;
typedef struct describe_configs_response_describe_configs_synonym told_synonym;

struct describe_call {
    struct request *r;
    const struct describe_configs_request *req;
    bool no_memory;
};

static const int8_t type_codes[] = {
    [TOPIC_CONFIG_BOOL] = 1, [TOPIC_CONFIG_STRING] = 2, [TOPIC_CONFIG_INT] = 3,
    [TOPIC_CONFIG_LONG] = 5, [TOPIC_CONFIG_DOUBLE] = 6, [TOPIC_CONFIG_LIST] = 7,
};

static void refuse(told_resource *t, int16_t code, struct wire_str message)
{
    t->error_code = code;
    t->error_message = message;
}

static void *told_array(struct describe_call *c, const struct wire_schema *schema, unsigned n)
{
    void *all = wire_new_array(schema, &c->r->arena, (int32_t)n);
    c->no_memory |= all == NULL;
    return all;
}

static bool is_asked(const asked_resource *a, const char *name)
{
    bool any = a->configuration_keys_n <= 0; /* null or none: all of them */
    for (int32_t i = 0; !any && i < a->configuration_keys_n; i++)
        any = wire_str_eq(a->configuration_keys[i], name);
    return any;
}

static void synonyms_tell(struct describe_call *c, const struct config_view *v, told_config *t)
{
    if (!c->req->include_synonyms)
        return;
    told_synonym *all =
        told_array(c, &describe_configs_response_describe_configs_synonym_schema, v->synonyms_n);
    for (unsigned i = 0; all != NULL && i < v->synonyms_n; i++) {
        all[i].name = wire_str_of(v->synonyms[i].name);
        all[i].value = wire_str_of(v->synonyms[i].value);
        all[i].source = v->synonyms[i].source;
    }
    t->synonyms = all;
    t->synonyms_n = all == NULL ? 0 : (int32_t)v->synonyms_n;
}

static void config_tell(struct describe_call *c, told_resource *to, const char *name,
                        enum topic_config_type type, const char *doc, const struct config_view *v)
{
    told_config *t = &to->configs[to->configs_n++];
    t->name = wire_str_of(name);
    t->value = wire_str_of(v->value);
    t->config_source = v->source;
    t->config_type = type_codes[type];
    t->documentation = wire_str_of(c->req->include_documentation ? doc : NULL);
    synonyms_tell(c, v, t);
}

/* Room for so many in the answer; false: there is none. */
static bool configs_reserve(struct describe_call *c, told_resource *t, unsigned n)
{
    t->configs =
        told_array(c, &describe_configs_response_describe_configs_resource_result_schema, n);
    return t->configs != NULL;
}

static void topic_describe(struct describe_call *c, const asked_resource *a, told_resource *t)
{
    const struct shard *s = c->r->shard;
    const struct meta_topic *topic = net_topic(s, a->resource_name, NULL);
    const char *name = admin_name(c->r, a->resource_name);
    if (name == NULL || meta_topic_name_check(name, strlen(name)) < 0) {
        refuse(t, KAFKA_INVALID_TOPIC_EXCEPTION, admin_topic_name_text(c->r, a->resource_name));
        return;
    }
    if (topic == NULL) {
        refuse(t, KAFKA_UNKNOWN_TOPIC_OR_PARTITION, wire_str_of(""));
        return;
    }
    if (!configs_reserve(c, t, topic_config_keys_count))
        return;
    for (unsigned i = 0; i < topic_config_keys_count; i++) {
        const struct topic_config_key *key = &topic_config_keys[i];
        struct config_view view;
        if (!is_asked(a, key->name))
            continue;
        config_view_topic(s, key, topic->configs, topic->configs_n, &view);
        config_tell(c, t, key->name, key->type, key->doc, &view);
    }
}

/* What was set for the cluster, and nothing else. */
static void cluster_describe(struct describe_call *c, const asked_resource *a, told_resource *t)
{
    const struct broker *b = c->r->shard->broker;
    if (!configs_reserve(c, t, b->config_keys_n))
        return;
    for (unsigned i = 0; i < b->config_keys_n; i++) {
        const struct broker_config_key *key = &b->config_keys[i];
        const char *value = meta_broker_config(c->r->shard->meta, META_LAYER_CLUSTER, key->name);
        struct config_view view = {.value = value,
                                   .source = CONFIG_OF_CLUSTER,
                                   .synonyms_n = 1,
                                   .synonyms = {{key->name, value, CONFIG_OF_CLUSTER}}};
        if (value != NULL && is_asked(a, key->name))
            config_tell(c, t, key->name, key->type, key->doc, &view);
    }
}

static void node_describe(struct describe_call *c, const asked_resource *a, told_resource *t)
{
    const struct broker *b = c->r->shard->broker;
    const char *id = admin_name(c->r, a->resource_name);
    if (!configs_reserve(c, t, b->config_keys_n))
        return;
    for (unsigned i = 0; i < b->config_keys_n; i++) {
        const struct broker_config_key *key = &b->config_keys[i];
        struct config_view view;
        if (!is_asked(a, key->name))
            continue;
        config_view_broker(c->r->shard, key, &view);
        if (strcmp(key->name, "node.id") == 0) /* each node has its own */
            view = (struct config_view){id, CONFIG_STATIC, 1, {{key->name, id, CONFIG_STATIC}}};
        config_tell(c, t, key->name, key->type, key->doc, &view);
        t->configs[t->configs_n - 1].read_only = !key->dynamic;
    }
}

static void broker_describe(struct describe_call *c, const asked_resource *a, told_resource *t)
{
    if (a->resource_name.len == 0) {
        cluster_describe(c, a, t);
        return;
    }
    int rc = admin_node_of(c->r, a->resource_name);
    if (rc == 0)
        node_describe(c, a, t);
    else if (rc == -EINVAL)
        refuse(t, KAFKA_INVALID_REQUEST,
               admin_text(c->r, "Broker id must be an integer, but it is: %.*s",
                          a->resource_name.len, a->resource_name.p));
    else
        refuse(t, KAFKA_INVALID_REQUEST,
               admin_text(c->r,
                          "Unexpected broker id, expected %d or empty string, but received %.*s",
                          admin_node_id(c->r->shard), a->resource_name.len, a->resource_name.p));
}

static void resource_describe(struct describe_call *c, const asked_resource *a, told_resource *t)
{
    t->resource_type = a->resource_type;
    t->resource_name = a->resource_name;
    switch (a->resource_type) {
    case ADMIN_RESOURCE_TOPIC:
        topic_describe(c, a, t);
        return;
    case ADMIN_RESOURCE_BROKER:
        broker_describe(c, a, t);
        return;
    default:
        refuse(t, KAFKA_INVALID_REQUEST,
               admin_text(c->r, "Resources of type %d have no configs here.", a->resource_type));
    }
}

void describe_configs_handle(struct request *r, void *body)
{
    struct describe_call c = {.r = r, .req = body};
    struct describe_configs_response res;
    wire_set_defaults(&describe_configs_response_schema, &res);
    int32_t n = MAX(c.req->resources_n, 0);
    res.results =
        told_array(&c, &describe_configs_response_describe_configs_result_schema, (unsigned)n);
    for (int32_t i = 0; !c.no_memory && i < n; i++)
        resource_describe(&c, &c.req->resources[i], &res.results[i]);
    if (c.no_memory) {
        request_fail(r, "no memory");
        return;
    }
    res.results_n = n;
    request_reply(r, &res);
}
