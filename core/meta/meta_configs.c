#include "core/meta/meta_configs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/assert.h"

static bool is_twice(const struct meta_record *r, unsigned index)
{
    for (unsigned i = 0; i < index; i++)
        if (strcmp(r->configs[i].name, r->configs[index].name) == 0)
            return true;
    return false;
}

/* The topic's key that an entry of a broker is the default of; NULL: of none. */
static const char *topic_name_of(const struct meta_config_entry *e)
{
    const struct topic_config_key *key = topic_config_find_server(e->name);
    return key == NULL ? NULL : key->name;
}

int meta_configs_check(const struct meta_record *r, bool of_broker, enum meta_change_mode mode)
{
    struct topic_config scratch;
    if (mode != META_CHANGE_NEXT)
        return 0;
    if (r->configs_n > META_CONFIGS_MAX) /* could not be read back, and so below */
        return -EINVAL;
    for (unsigned i = 0; i < r->configs_n; i++) {
        const struct meta_config_entry *e = &r->configs[i];
        const char *name = of_broker ? topic_name_of(e) : e->name;
        if (strlen(e->name) > UINT16_MAX || strlen(e->value) > META_CONFIG_VALUE_MAX)
            return -EINVAL;
        if (is_twice(r, i))
            return -EINVAL;
        if (name != NULL && topic_config_set(&scratch, name, e->value, NULL) != 0)
            return -EINVAL;
    }
    return 0;
}

struct meta_configs *meta_configs_create(const struct meta_record *r, uint64_t made_at)
{
    size_t size = sizeof(struct meta_configs) + r->configs_n * sizeof(struct meta_config_entry);
    for (unsigned i = 0; i < r->configs_n; i++)
        size += strlen(r->configs[i].name) + strlen(r->configs[i].value) + 2;
    struct meta_configs *c = malloc(size);
    if (c == NULL)
        return NULL;
    *c = (struct meta_configs){.refs = 1, .made_at = made_at, .n = r->configs_n};
    c->entries = (struct meta_config_entry *)(c + 1);
    char *text = (char *)(c->entries + c->n);
    for (unsigned i = 0; i < c->n; i++) {
        c->entries[i].name = strcpy(text, r->configs[i].name);
        text += strlen(text) + 1;
        c->entries[i].value = strcpy(text, r->configs[i].value);
        text += strlen(text) + 1;
    }
    return c;
}

void meta_configs_unref(struct meta_configs *c)
{
    if (c == NULL)
        return;
    ASSERT(c->refs > 0);
    if (--c->refs == 0)
        free(c);
}

void meta_configs_apply(const struct meta_configs *c, struct topic_config *defaults)
{
    for (unsigned i = 0; c != NULL && i < c->n; i++) {
        const char *name = topic_name_of(&c->entries[i]);
        if (name != NULL)
            topic_config_set(defaults, name, c->entries[i].value, NULL);
    }
}

const char *meta_broker_config(const struct meta_image *image, enum meta_layer layer,
                               const char *name)
{
    const struct meta_configs *c = image->broker[layer];
    for (unsigned i = 0; c != NULL && i < c->n; i++)
        if (strcmp(c->entries[i].name, name) == 0)
            return c->entries[i].value;
    return NULL;
}

uint64_t meta_broker_made_at(const struct meta_image *image, enum meta_layer layer)
{
    return image->broker[layer] == NULL ? 0 : image->broker[layer]->made_at;
}
