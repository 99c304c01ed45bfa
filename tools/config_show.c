/* config_show.c: the keys of config_keys.c and the defaults of topics, as DescribeConfigs tells
 * them to clients: names, types, defaults, what was set, and what may change while the broker runs.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "tools/config_private.h"

/* Beside the defaults of topics. */
static const char *const dynamic[] = {"max.connections", "producer.id.expiration.ms"};

static bool is_dynamic(const char *name)
{
    for (unsigned i = 0; i < ARRAY_LEN(dynamic); i++)
        if (strcmp(dynamic[i], name) == 0)
            return true;
    return false;
}

static enum topic_config_type shown_type(const struct config_key *k)
{
    switch (k->type) {
    case CONFIG_NUMBER:
    case CONFIG_SIZE:
        return k->min >= INT32_MIN && k->max <= INT32_MAX ? TOPIC_CONFIG_INT : TOPIC_CONFIG_LONG;
    case CONFIG_BOOL:
        return TOPIC_CONFIG_BOOL;
    case CONFIG_WORD:
    case CONFIG_TEXT:
        break;
    }
    return TOPIC_CONFIG_STRING;
}

/* A size in bytes; all else as it was written. NULL: nothing is set. */
static const char *shown_value(struct config_parse *p, const struct config_key *k,
                               const char *value)
{
    int64_t size;
    if (value == NULL || *value == '\0')
        return NULL;
    if (k->type != CONFIG_SIZE || !config_size_parse(value, &size))
        return value;
    const char *text = arena_printf(&p->c->arena, "%" PRId64, size);
    p->no_memory |= text == NULL;
    return text;
}

static struct broker_config_key shown_key(struct config_parse *p, unsigned index)
{
    const struct config_key *k = &config_keys[index];
    return (struct broker_config_key){
        .name = k->name,
        .doc = k->doc,
        .type = shown_type(k),
        .default_value = shown_value(p, k, k->default_value),
        .static_value = shown_value(p, k, p->settings[index].value),
        .min = k->min,
        .max = k->max,
        .dynamic = is_dynamic(k->name),
    };
}

static struct broker_config_key shown_topic_default(struct config_parse *p, unsigned index)
{
    const struct topic_config_key *k = &topic_config_keys[index];
    return (struct broker_config_key){
        .name = k->server_name,
        .doc = k->doc,
        .type = k->type,
        .default_value = topic_config_server_default(k),
        .static_value = p->c->topic_values[index],
        .dynamic = true,
        .topic = k,
    };
}

static int keys_compare(const void *a, const void *b)
{
    const struct broker_config_key *x = a, *y = b;
    return strcmp(x->name, y->name);
}

void config_show(struct config_parse *p)
{
    struct serve_config *c = p->c;
    struct broker_config_key *keys =
        arena_array(&c->arena, config_keys_count + topic_config_keys_count, sizeof(*c->shown));
    p->no_memory |= keys == NULL;
    if (keys == NULL)
        return;
    for (unsigned i = 0; i < config_keys_count; i++)
        keys[c->shown_n++] = shown_key(p, i);
    for (unsigned i = 0; i < topic_config_keys_count; i++)
        if (topic_config_keys[i].server_name != NULL)
            keys[c->shown_n++] = shown_topic_default(p, i);
    qsort(keys, c->shown_n, sizeof(*keys), keys_compare);
    c->shown = keys;
}
