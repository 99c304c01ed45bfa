#include "net/api/config_alter.h"

#include <errno.h>
#include <string.h>

#include "core/base/bytes.h"
#include "net/api/admin.h"
#include "net/api/config_view.h"

/* What is being changed, and what it is set to so far. */
struct plan {
    const struct meta_topic *topic; /* NULL: the broker, */
    enum meta_layer layer;          /* and which layer of it */
    struct meta_config_entry *entries;
    unsigned entries_n, entries_max;
};

static int refuse(struct config_alter *a, int16_t code, struct wire_str message)
{
    a->error_code = code;
    a->message = message;
    return -1;
}

static int refuse_memory(struct config_alter *a)
{
    return refuse(a, KAFKA_UNKNOWN_SERVER_ERROR, wire_str_of("No memory."));
}

/* ---- what it is about: 0, or -1 and refused ---- */

static int topic_find(struct config_alter *a, struct plan *p)
{
    const char *name = admin_name(a->r, a->name);
    if (a->name.len == 0)
        return refuse(a, KAFKA_INVALID_REQUEST,
                      wire_str_of("Default topic resources are not allowed."));
    if (name == NULL || meta_topic_name_check(name, strlen(name)) < 0)
        return refuse(a, KAFKA_INVALID_TOPIC_EXCEPTION, admin_topic_name_text(a->r, a->name));
    p->topic = net_topic(a->r->shard, a->name, NULL);
    if (p->topic == NULL)
        return refuse(a, KAFKA_UNKNOWN_TOPIC_OR_PARTITION,
                      admin_text(a->r, "The topic '%s' does not exist.", name));
    return 0;
}

static int broker_find(struct config_alter *a, struct plan *p)
{
    int rc = admin_node_of(a->r, a->name);
    p->layer = a->name.len == 0 ? META_LAYER_CLUSTER : META_LAYER_NODE;
    if (p->layer == META_LAYER_CLUSTER || rc == 0)
        return 0;
    struct wire_str text =
        rc == -EINVAL ? admin_text(a->r, "Node id must be an integer, but it is: %.*s", a->name.len,
                                   a->name.p)
                      : admin_text(a->r, "Unexpected broker id, expected %d, but received %.*s",
                                   admin_node_id(a->r->shard), a->name.len, a->name.p);
    return refuse(a, KAFKA_INVALID_REQUEST, text);
}

static int target_find(struct config_alter *a, struct plan *p)
{
    if (a->type == ADMIN_RESOURCE_TOPIC)
        return topic_find(a, p);
    if (a->type == ADMIN_RESOURCE_BROKER)
        return broker_find(a, p);
    return refuse(a, KAFKA_INVALID_REQUEST, admin_text(a->r, "Unknown resource type %d", a->type));
}

/* ---- the entries ---- */

static int entries_begin(struct config_alter *a, struct plan *p)
{
    const struct meta_configs *of_broker = a->r->shard->meta->broker[p->layer];
    const struct meta_config_entry *now = NULL;
    unsigned now_n = 0;
    if (p->topic != NULL) {
        now = p->topic->configs;
        now_n = p->topic->configs_n;
    } else if (of_broker != NULL) {
        now = of_broker->entries;
        now_n = of_broker->n;
    }
    p->entries_max = now_n + (unsigned)a->ops_n;
    p->entries = arena_array(&a->r->arena, MAX(p->entries_max, 1u), sizeof(*p->entries));
    if (p->entries == NULL)
        return refuse_memory(a);
    if (a->replace || now_n == 0)
        return 0;
    memcpy(p->entries, now, now_n * sizeof(*now));
    p->entries_n = now_n;
    return 0;
}

static void entry_set(struct plan *p, const char *name, const char *value)
{
    unsigned at = 0;
    while (at < p->entries_n && strcmp(p->entries[at].name, name) != 0)
        at++;
    p->entries[at] = (struct meta_config_entry){name, value};
    p->entries_n = MAX(p->entries_n, at + 1);
}

static void entry_delete(struct plan *p, const char *name)
{
    for (unsigned i = 0; i < p->entries_n; i++) {
        if (strcmp(p->entries[i].name, name) != 0)
            continue;
        p->entries_n--;
        memmove(&p->entries[i], &p->entries[i + 1], (p->entries_n - i) * sizeof(p->entries[0]));
        return;
    }
}

/* ---- keys: Kafka names its errors otherwise for topics than for brokers ---- */

struct key {
    const struct topic_config_key *topic;   /* of the topic, or whose default is set; or NULL */
    const struct broker_config_key *broker; /* NULL: of a topic */
    enum topic_config_type type;
};

static int key_find(struct config_alter *a, const struct plan *p, const char *name, struct key *ret)
{
    const char *kind = p->topic != NULL ? "topic " : "";
    *ret = (struct key){0};
    if (p->topic != NULL) {
        ret->topic = topic_config_find(name);
    } else {
        ret->broker = config_broker_key(a->r->shard->broker, name);
        ret->topic = ret->broker == NULL ? NULL : ret->broker->topic;
    }
    if (ret->topic == NULL && ret->broker == NULL)
        return refuse(a, KAFKA_INVALID_CONFIG,
                      admin_text(a->r, "Unknown %sconfig name: %s", kind, name));
    ret->type = ret->broker != NULL ? ret->broker->type : ret->topic->type;
    return 0;
}

static int value_check(struct config_alter *a, const struct key *key, const char *value)
{
    struct topic_config_fault fault;
    struct topic_config_key of_broker;
    const struct topic_config_key *rules = key->topic;
    const char *name = key->broker != NULL ? key->broker->name : key->topic->name;
    int16_t code = key->broker != NULL ? KAFKA_INVALID_REQUEST : KAFKA_INVALID_CONFIG;
    if (key->broker != NULL && !key->broker->dynamic)
        return refuse(a, code,
                      admin_text(a->r, "Cannot update these configs dynamically: [%s]", name));
    if (rules == NULL) {
        of_broker = (struct topic_config_key){
            .name = name, .type = key->type, .min = key->broker->min, .max = key->broker->max};
        rules = &of_broker;
    }
    if (topic_config_value_check(rules, value, &fault) == 0)
        return 0;
    return refuse(a, code, config_fault_text(a->r, name, -EINVAL, &fault));
}

/* ---- lists ---- */

static bool list_has(const char *list, const char *element, size_t len)
{
    for (const char *at = list; *at != '\0'; at += strspn(at, ",")) {
        size_t here = strcspn(at, ",");
        if (here == len && memcmp(at, element, len) == 0)
            return true;
        at += here;
    }
    return false;
}

static char *list_put(char *at, const char *start, const char *element, size_t len)
{
    if (at > start)
        *at++ = ',';
    memcpy(at, element, len);
    return at + len;
}

/* Those of `list` that are not in `without` (NULL: all), then those of `more` that are not in list
 * yet. NULL: no memory. */
static const char *list_join(struct request *r, const char *list, const char *without,
                             const char *more)
{
    char *text = arena_alloc(&r->arena, strlen(list) + strlen(more) + 2), *end = text;
    const char *sources[] = {list, more};
    if (text == NULL)
        return NULL;
    for (unsigned i = 0; i < ARRAY_LEN(sources); i++) {
        for (const char *at = sources[i]; *at != '\0'; at += strspn(at, ",")) {
            size_t len = strcspn(at, ",");
            *end = '\0';
            bool skip =
                i == 0 ? without != NULL && list_has(without, at, len) : list_has(text, at, len);
            if (len > 0 && !skip)
                end = list_put(end, text, at, len);
            at += len;
        }
    }
    *end = '\0';
    return text;
}

/* What an element is added to, or taken from: what is set, else what holds without it. */
static const char *list_now(struct config_alter *a, const struct plan *p, const struct key *key,
                            const char *name)
{
    struct config_view view;
    for (unsigned i = 0; i < p->entries_n; i++)
        if (strcmp(p->entries[i].name, name) == 0)
            return p->entries[i].value;
    if (key->broker != NULL)
        return key->broker->static_value != NULL ? key->broker->static_value
                                                 : key->broker->default_value;
    config_view_topic(a->r->shard, key->topic, NULL, 0, &view);
    return view.value;
}

static int list_change(struct config_alter *a, const struct plan *p, const struct key *key,
                       bool append, const char *name, const char **value)
{
    const char *verb = append ? "APPEND" : "SUBTRACT";
    if (key->type != TOPIC_CONFIG_LIST)
        return refuse(
            a, KAFKA_INVALID_CONFIG,
            admin_text(a->r, "Can't %s to key %s because its type is not LIST.", verb, name));
    const char *now = list_now(a, p, key, name);
    now = now == NULL ? "" : now;
    *value = append ? list_join(a->r, now, NULL, *value) : list_join(a->r, now, *value, "");
    return *value == NULL ? refuse_memory(a) : 0;
}

/* ---- operations ---- */

/* Without the blanks around it, as it is kept. */
static const char *value_text(struct request *r, struct wire_str value)
{
    while (value.len > 0 && (unsigned char)value.p[0] <= ' ') {
        value.p++;
        value.len--;
    }
    while (value.len > 0 && (unsigned char)value.p[value.len - 1] <= ' ')
        value.len--;
    return admin_name(r, value);
}

static int op_apply(struct config_alter *a, struct plan *p, const struct config_op *op)
{
    const char *name = admin_name(a->r, op->name);
    const char *value = value_text(a->r, op->value);
    struct key key;
    if (name == NULL)
        return refuse(a, KAFKA_INVALID_CONFIG, wire_str_of("Not the name of a config."));
    if (op->kind == CONFIG_DELETE) {
        entry_delete(p, name);
        return 0;
    }
    if (op->kind < CONFIG_SET || op->kind > CONFIG_SUBTRACT)
        return refuse(a, KAFKA_INVALID_REQUEST, admin_text(a->r, "Unknown operation %d", op->kind));
    if (op->value.len < 0)
        return refuse(a, KAFKA_INVALID_REQUEST,
                      admin_text(a->r, "Null value not supported for : %s", name));
    if (value == NULL)
        return refuse(a, KAFKA_INVALID_CONFIG,
                      admin_text(a->r, "Not a value for configuration %s", name));
    if (key_find(a, p, name, &key) < 0)
        return -1;
    if (op->kind != CONFIG_SET &&
        list_change(a, p, &key, op->kind == CONFIG_APPEND, name, &value) < 0)
        return -1;
    if (value_check(a, &key, value) < 0)
        return -1;
    entry_set(p, name, value);
    return 0;
}

static int names_check(struct config_alter *a)
{
    size_t room = (size_t)MAX(a->ops_n, 1);
    struct wire_str *names = arena_array(&a->r->arena, room, sizeof(*names));
    uint8_t *marks = arena_alloc(&a->r->arena, room);
    if (names == NULL || marks == NULL)
        return refuse_memory(a);
    for (int32_t i = 0; i < a->ops_n; i++)
        names[i] = a->ops[i].name;
    if (admin_mark_duplicates(a->r, names, a->ops_n, marks) < 0)
        return refuse_memory(a);
    for (int32_t i = 0; i < a->ops_n; i++)
        if (marks[i] != 0)
            return refuse(a, KAFKA_INVALID_REQUEST,
                          wire_str_of("Error due to duplicate config keys"));
    return 0;
}

/* Keys that are good one by one may contradict each other. */
static int whole_check(struct config_alter *a, const struct plan *p)
{
    struct topic_config config = a->r->shard->meta->defaults;
    struct topic_config_fault fault;
    for (unsigned i = 0; i < p->entries_n; i++) {
        const char *name = p->entries[i].name;
        const struct topic_config_key *key =
            p->topic != NULL ? topic_config_find(name) : topic_config_find_server(name);
        if (key != NULL)
            topic_config_set(&config, key->name, p->entries[i].value, NULL);
    }
    if (topic_config_check(&config, &fault) == 0)
        return 0;
    return refuse(a, p->topic != NULL ? KAFKA_INVALID_CONFIG : KAFKA_INVALID_REQUEST,
                  admin_text(a->r, "%s", fault.says));
}

/* ---- the change ---- */

static void on_changed(struct meta_change *change);

static bool alter_try(struct config_alter *a)
{
    struct plan p = {0};
    if (names_check(a) < 0 || target_find(a, &p) < 0 || entries_begin(a, &p) < 0)
        return false;
    for (int32_t i = 0; i < a->ops_n; i++)
        if (op_apply(a, &p, &a->ops[i]) < 0)
            return false;
    if (whole_check(a, &p) < 0 || a->validate_only)
        return false;
    a->change = (struct meta_change){.kind = CHANGE_BROKER_CONFIG,
                                     .value = p.layer,
                                     .made_at = meta_broker_made_at(a->r->shard->meta, p.layer),
                                     .configs = p.entries,
                                     .configs_n = p.entries_n};
    if (p.topic != NULL) {
        a->change.kind = CHANGE_TOPIC_CONFIG;
        a->change.id = p.topic->id;
        a->change.made_at = p.topic->made_at;
    }
    shard_meta_change(a->r->shard, &a->change, on_changed);
    return true;
}

static void on_changed(struct meta_change *change)
{
    struct config_alter *a = container_of(change, struct config_alter, change);
    if (change->rc == -ESTALE && alter_try(a))
        return;
    if (change->rc < 0 && change->rc != -ESTALE) {
        int16_t code = admin_error_of(change->rc);
        refuse(a, code, wire_str_of(admin_error_text(code)));
    }
    a->on_done(a);
}

bool config_alter_start(struct config_alter *a, void (*on_done)(struct config_alter *a))
{
    a->on_done = on_done;
    a->error_code = KAFKA_NONE;
    a->message = wire_str_of(NULL);
    return alter_try(a);
}
