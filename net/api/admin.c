#include "net/api/admin.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"

bool admin_topic_is_internal(struct wire_str name)
{
    static const char *const internal[] = {"__consumer_offsets", "__transaction_state",
                                           "__share_group_state"};
    for (unsigned i = 0; i < ARRAY_LEN(internal); i++)
        if (wire_str_eq(name, internal[i]))
            return true;
    return false;
}

struct wire_str admin_cluster_id(struct request *r)
{
    char text[23];
    meta_uuid_text(&r->shard->meta->cluster_id, text);
    return wire_str_of(arena_strdup(&r->arena, text));
}

int32_t admin_controller_id(const struct shard *s)
{
    return s->broker->nodes[s->broker->node_of_shard[0]].node_id;
}

static bool admin_node_known(const struct broker *b, int32_t node_id)
{
    for (unsigned i = 0; i < b->nodes_n; i++)
        if (b->nodes[i].node_id == node_id)
            return true;
    return false;
}

int32_t admin_node_id(const struct shard *s)
{
    return s->broker->nodes[s->broker->node_of_shard[s->index]].node_id;
}

int admin_node_of(struct request *r, struct wire_str name)
{
    char text[12], *end = text;
    if (name.len <= 0 || (size_t)name.len >= sizeof(text))
        return -EINVAL;
    memcpy(text, name.p, (size_t)name.len);
    text[name.len] = '\0';
    errno = 0;
    long id = strtol(text, &end, 10);
    if (errno != 0 || end != text + name.len || id < INT32_MIN || id > INT32_MAX)
        return -EINVAL;
    return admin_node_known(r->shard->broker, (int32_t)id) ? 0 : -ENOENT;
}

struct wire_str admin_text(struct request *r, const char *fmt, ...)
{
    char text[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    return wire_str_of(arena_strdup(&r->arena, text)); /* null is a legal message */
}

char *admin_name(struct request *r, struct wire_str name)
{
    if (name.len < 0 || memchr(name.p, '\0', (size_t)name.len) != NULL)
        return NULL;
    char *text = arena_alloc(&r->arena, (size_t)name.len + 1);
    if (text != NULL)
        memcpy(text, name.p, (size_t)name.len);
    return text;
}

/* ---- duplicates ---- */

struct keyed {
    struct wire_str key;
    int32_t index;
};

static int key_compare(const struct wire_str *a, const struct wire_str *b)
{
    int32_t alen = MAX(a->len, 0), blen = MAX(b->len, 0);
    int32_t len = MIN(alen, blen);
    int c = len > 0 ? memcmp(a->p, b->p, (size_t)len) : 0;
    return c != 0 ? c : (alen > blen) - (alen < blen);
}

static int keyed_compare(const void *a, const void *b)
{
    const struct keyed *x = a, *y = b;
    int c = key_compare(&x->key, &y->key);
    return c != 0 ? c : (x->index > y->index) - (x->index < y->index);
}

int admin_mark_duplicates(struct request *r, const struct wire_str *keys, int32_t n, uint8_t *ret)
{
    if (n <= 1) {
        if (n == 1)
            ret[0] = 0;
        return 0;
    }
    struct keyed *sorted = arena_array(&r->arena, (size_t)n, sizeof(*sorted));
    if (sorted == NULL)
        return -ENOMEM;
    for (int32_t i = 0; i < n; i++)
        sorted[i] = (struct keyed){keys[i], i};
    qsort(sorted, (size_t)n, sizeof(*sorted), keyed_compare);
    for (int32_t i = 0; i < n; i++) {
        bool again = i > 0 && key_compare(&sorted[i].key, &sorted[i - 1].key) == 0;
        bool more = i + 1 < n && key_compare(&sorted[i].key, &sorted[i + 1].key) == 0;
        ret[sorted[i].index] = again ? 2 : more ? 1 : 0;
    }
    return 0;
}

/* ---- checks and texts ---- */

const char *admin_replicas_check(const struct broker *b, const int32_t *nodes, int32_t n)
{
    if (n <= 0)
        return "a partition without replicas";
    if ((uint32_t)n > b->nodes_n)
        return "more replicas than there are brokers, or one twice";
    for (int32_t i = 0; i < n; i++) {
        if (!admin_node_known(b, nodes[i]))
            return "an unknown broker";
        for (int32_t j = 0; j < i; j++)
            if (nodes[j] == nodes[i])
                return "a broker twice";
    }
    return b->refuse_replication && n > 1 ? "more than one replica, which this broker is "
                                            "configured to refuse"
                                          : NULL;
}

struct wire_str admin_topic_name_text(struct request *r, struct wire_str name)
{
    int len = MAX(name.len, 0);
    if (len == 0)
        return wire_str_of("Topic name is invalid: the empty string is not allowed");
    if (wire_str_eq(name, ".") || wire_str_eq(name, ".."))
        return wire_str_of("Topic name is invalid: '.' or '..' is not allowed");
    if ((unsigned)len > META_TOPIC_NAME_MAX)
        return admin_text(r,
                          "Topic name is invalid: the length of '%.*s' is longer than the max "
                          "allowed length %u",
                          MIN(len, 300), name.p, META_TOPIC_NAME_MAX);
    return admin_text(r,
                      "Topic name is invalid: '%.*s' contains one or more characters other than "
                      "ASCII alphanumerics, '.', '_' and '-'",
                      len, name.p);
}

static const struct {
    int rc;
    int16_t code;
} change_errors[] = {
    {0, KAFKA_NONE},
    {-EEXIST, KAFKA_TOPIC_ALREADY_EXISTS},
    {-ENOENT, KAFKA_UNKNOWN_TOPIC_OR_PARTITION},
    {-EINVAL, KAFKA_INVALID_TOPIC_EXCEPTION},
    {-ENOTUNIQ, KAFKA_INVALID_TOPIC_EXCEPTION},
    {-EDOM, KAFKA_INVALID_PARTITIONS},
    {-ENXIO, KAFKA_INVALID_REPLICA_ASSIGNMENT},
    {-EIO, KAFKA_KAFKA_STORAGE_ERROR},
};

int16_t admin_error_of(int rc)
{
    for (unsigned i = 0; i < ARRAY_LEN(change_errors); i++)
        if (change_errors[i].rc == rc)
            return change_errors[i].code;
    return KAFKA_UNKNOWN_SERVER_ERROR;
}

const char *admin_error_text(int16_t code)
{
    switch (code) {
    case KAFKA_NONE:
        return NULL;
    case KAFKA_TOPIC_ALREADY_EXISTS:
        return "Topic already exists.";
    case KAFKA_UNKNOWN_TOPIC_OR_PARTITION:
        return "This server does not host this topic-partition.";
    case KAFKA_UNKNOWN_TOPIC_ID:
        return "This server does not host this topic ID.";
    case KAFKA_INVALID_TOPIC_EXCEPTION:
        return "The topic name is invalid: 1 to 249 of a-z, A-Z, 0-9, '.', '_' and '-', and not "
               "one "
               "that differs from an existing name only in '.' and '_'.";
    case KAFKA_INVALID_PARTITIONS:
        return "The number of partitions is invalid.";
    case KAFKA_INVALID_REPLICA_ASSIGNMENT:
        return "The replica assignment is invalid.";
    case KAFKA_KAFKA_STORAGE_ERROR:
        return "The metadata log could not be written.";
    default:
        return "The server experienced an unexpected error.";
    }
}
