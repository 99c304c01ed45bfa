#include "net/api/config_view.h"

#include <errno.h>
#include <string.h>

#include "net/api/admin.h"

const struct broker_config_key *config_broker_key(const struct broker *b, const char *name)
{
    for (unsigned i = 0; i < b->config_keys_n; i++)
        if (strcmp(b->config_keys[i].name, name) == 0)
            return &b->config_keys[i];
    return NULL;
}

static void view_add(struct config_view *v, const char *name, const char *value, int8_t source)
{
    if (value != NULL)
        v->synonyms[v->synonyms_n++] = (struct config_synonym){name, value, source};
}

static void view_add_broker(const struct shard *s, const struct broker_config_key *key,
                            struct config_view *v)
{
    view_add(v, key->name, meta_broker_config(s->meta, META_LAYER_NODE, key->name), CONFIG_OF_NODE);
    view_add(v, key->name, meta_broker_config(s->meta, META_LAYER_CLUSTER, key->name),
             CONFIG_OF_CLUSTER);
    view_add(v, key->name, key->static_value, CONFIG_STATIC);
    view_add(v, key->name, key->default_value, CONFIG_DEFAULT);
}

static void view_settle(struct config_view *v, const char *default_value)
{
    bool any = v->synonyms_n > 0;
    v->value = any ? v->synonyms[0].value : default_value;
    v->source = any ? v->synonyms[0].source : CONFIG_DEFAULT;
}

void config_view_broker(const struct shard *s, const struct broker_config_key *key,
                        struct config_view *ret)
{
    *ret = (struct config_view){0};
    view_add_broker(s, key, ret);
    view_settle(ret, NULL);
}

void config_view_topic(const struct shard *s, const struct topic_config_key *key,
                       const struct meta_config_entry *configs, unsigned configs_n,
                       struct config_view *ret)
{
    const struct broker_config_key *of_broker =
        key->server_name == NULL ? NULL : config_broker_key(s->broker, key->server_name);
    *ret = (struct config_view){0};
    for (unsigned i = 0; i < configs_n; i++)
        if (strcmp(configs[i].name, key->name) == 0)
            view_add(ret, key->name, configs[i].value, CONFIG_OF_TOPIC);
    if (of_broker != NULL)
        view_add_broker(s, of_broker, ret);
    view_settle(ret, key->default_value);
}

struct wire_str config_fault_text(struct request *r, const char *name, int rc,
                                  const struct topic_config_fault *fault)
{
    if (rc == -ENOENT)
        return admin_text(r, "Unknown topic config name: %s", name);
    return admin_text(r, "Invalid value %s for configuration %s: %s", fault->value, name,
                      fault->says);
}
