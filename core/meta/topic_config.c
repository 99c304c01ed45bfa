#include "core/meta/topic_config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/base/assert.h"
#include "core/base/bytes.h"

#define DAY_MS "86400000"
#define WEEK_MS "604800000"
#define LONG_MAX_TEXT "9223372036854775807"
#define AT(field) offsetof(struct topic_config, field)
#define KEPT SIZE_MAX /* accepted, kept and shown, without effect on one node */
/* type, least, most, what a bad value is told */
#define INTS(least)                                                                                \
    TOPIC_CONFIG_INT, (least), INT32_MAX, "must be a whole number from " #least " to 2147483647"
#define LONGS(least)                                                                               \
    TOPIC_CONFIG_LONG, (least), INT64_MAX, "must be a whole number, at least " #least
#define LEVEL(least, most, says) TOPIC_CONFIG_INT, (least), (most), (says)
#define BOOL TOPIC_CONFIG_BOOL, 0, 1, "must be true or false"
#define WORD(says) TOPIC_CONFIG_STRING, 0, 0, (says)
#define LIST(says) TOPIC_CONFIG_LIST, 0, 0, (says)
#define REPLICAS LIST("must be a list without empty elements")
#define CODECS "uncompressed|zstd|lz4|snappy|gzip|producer"

/* name, broker's name, kind of value, default, allowed words, place, what it means. Names, types,
 * defaults and ranges are Kafka 4's; only write.caching is not. The order of allowed words is the
 * order of the enums in the header. */
#define KEYS(X)                                                                                    \
    X("cleanup.policy", "log.cleanup.policy",                                                      \
      LIST("must be a list of delete and compact, or empty"), "delete", "delete|compact",          \
      AT(cleanup_policy), "what happens to old segments; empty: they are kept for ever")           \
    X("compression.gzip.level", "compression.gzip.level", LEVEL(-1, 9, "must be 1 to 9, or -1"),   \
      "-1", NULL, KEPT, "level for compression.type=gzip")                                         \
    X("compression.lz4.level", "compression.lz4.level", LEVEL(1, 17, "must be 1 to 17"), "9",      \
      NULL, KEPT, "level for compression.type=lz4")                                                \
    X("compression.type", "compression.type",                                                      \
      WORD("must be one of uncompressed, zstd, lz4, snappy, gzip, producer"), "producer", CODECS,  \
      KEPT, "producer: batches stay compressed as they came")                                      \
    X("compression.zstd.level", "compression.zstd.level",                                          \
      LEVEL(-131072, 22, "must be -131072 to 22"), "3", NULL, KEPT,                                \
      "level for compression.type=zstd")                                                           \
    X("delete.retention.ms", "log.cleaner.delete.retention.ms", LONGS(0), DAY_MS, NULL,            \
      AT(delete_retention_ms), "how long a compacted topic keeps tombstones")                      \
    X("file.delete.delay.ms", "log.segment.delete.delay.ms", LONGS(0), "60000", NULL, KEPT,        \
      "wait before a deleted segment's space is used again")                                       \
    X("flush.messages", "log.flush.interval.messages", LONGS(1), LONG_MAX_TEXT, NULL, KEPT,        \
      "records between forced flushes")                                                            \
    X("flush.ms", "log.flush.interval.ms", LONGS(0), LONG_MAX_TEXT, NULL, AT(flush_ms),            \
      "records acknowledged from memory are on stable storage within this time")                   \
    X("follower.replication.throttled.replicas", NULL, REPLICAS, "", NULL, KEPT,                   \
      "replicas whose replication is throttled on the follower")                                   \
    X("index.interval.bytes", "log.index.interval.bytes", INTS(0), "4096", NULL,                   \
      AT(index_interval_bytes), "bytes of log between two index entries")                          \
    X("leader.replication.throttled.replicas", NULL, REPLICAS, "", NULL, KEPT,                     \
      "replicas whose replication is throttled on the leader")                                     \
    X("local.retention.bytes", "log.local.retention.bytes", LONGS(-2), "-2", NULL, KEPT,           \
      "bytes of a tiered topic kept here")                                                         \
    X("local.retention.ms", "log.local.retention.ms", LONGS(-2), "-2", NULL, KEPT,                 \
      "time that a tiered topic is kept here")                                                     \
    X("max.compaction.lag.ms", "log.cleaner.max.compaction.lag.ms", LONGS(1), LONG_MAX_TEXT, NULL, \
      AT(max_compaction_lag_ms), "longest time a record may stay uncompacted")                     \
    X("max.message.bytes", "message.max.bytes", INTS(0), "1048588", NULL, AT(max_message_bytes),   \
      "largest record batch, compressed as it came")                                               \
    X("message.timestamp.after.max.ms", "log.message.timestamp.after.max.ms", LONGS(0), "3600000", \
      NULL, AT(timestamp_after_max_ms), "how far a record's time may be ahead of the broker's")    \
    X("message.timestamp.before.max.ms", "log.message.timestamp.before.max.ms", LONGS(0),          \
      LONG_MAX_TEXT, NULL, AT(timestamp_before_max_ms),                                            \
      "how far a record's time may be behind the broker's")                                        \
    X("message.timestamp.type", "log.message.timestamp.type",                                      \
      WORD("must be CreateTime or LogAppendTime"), "CreateTime", "CreateTime|LogAppendTime",       \
      AT(timestamp_type), "whose clock stamps records")                                            \
    X("min.cleanable.dirty.ratio", "log.cleaner.min.cleanable.ratio", TOPIC_CONFIG_DOUBLE, 0, 1,   \
      "must be a number from 0 to 1", "0.5", NULL, AT(min_cleanable_ppm),                          \
      "share of the log that must be uncompacted before it is compacted")                          \
    X("min.compaction.lag.ms", "log.cleaner.min.compaction.lag.ms", LONGS(0), "0", NULL,           \
      AT(min_compaction_lag_ms), "least time a record stays uncompacted")                          \
    X("min.insync.replicas", "min.insync.replicas", INTS(1), "1", NULL, KEPT,                      \
      "counts as 1 on one node")                                                                   \
    X("preallocate", "log.preallocate", BOOL, "false", NULL, KEPT,                                 \
      "segments always have their size fixed ahead here")                                          \
    X("remote.copy.lag.bytes", NULL, LONGS(-1), "0", NULL, KEPT, "for tiered topics")              \
    X("remote.copy.lag.ms", NULL, LONGS(-1), "0", NULL, KEPT, "for tiered topics")                 \
    X("remote.log.copy.disable", NULL, BOOL, "false", NULL, KEPT, "for tiered topics")             \
    X("remote.log.delete.on.disable", NULL, BOOL, "false", NULL, KEPT, "for tiered topics")        \
    X("remote.storage.enable", NULL, TOPIC_CONFIG_BOOL, 0, 0,                                      \
      "must be false: there is no tiered storage", "false", NULL, KEPT,                            \
      "tiered storage, which this broker does not have")                                           \
    X("retention.bytes", "log.retention.bytes", TOPIC_CONFIG_LONG, INT64_MIN, INT64_MAX,           \
      "must be a whole number", "-1", NULL, AT(retention_bytes),                                   \
      "bytes kept of each partition; negative: no bound")                                          \
    X("retention.ms", "log.retention.ms", LONGS(-1), WEEK_MS, NULL, AT(retention_ms),              \
      "how long records are kept; -1: no bound")                                                   \
    X("segment.bytes", "log.segment.bytes", INTS(1048576), "1073741824", NULL, AT(segment_bytes),  \
      "size of one segment file")                                                                  \
    X("segment.index.bytes", "log.index.size.max.bytes", INTS(4), "10485760", NULL, KEPT,          \
      "room for a segment's index")                                                                \
    X("segment.jitter.ms", "log.roll.jitter.ms", LONGS(0), "0", NULL, KEPT,                        \
      "most that segment.ms is shortened by, at random")                                           \
    X("segment.ms", "log.roll.ms", LONGS(1), WEEK_MS, NULL, AT(segment_ms),                        \
      "a segment older than this is closed")                                                       \
    X("unclean.leader.election.enable", "unclean.leader.election.enable", BOOL, "false", NULL,     \
      KEPT, "has no meaning on one node")                                                          \
    X("write.caching", "write.caching", BOOL, "false", NULL, AT(write_caching),                    \
      "true: acks=all is answered from memory (not Kafka's; a crash loses what was not flushed)")

/* A kind of value stands for four columns: rows are expanded once more before they are split. */
#define ROW(...) ROW_OF(__VA_ARGS__)
#define ROW_OF(name_, server_, type_, min_, max_, says_, default_, values_, offset_, doc_)         \
    {.name = (name_),                                                                              \
     .server_name = (server_),                                                                     \
     .type = (type_),                                                                              \
     .default_value = (default_),                                                                  \
     .min = (min_),                                                                                \
     .max = (max_),                                                                                \
     .values = (values_),                                                                          \
     .says = (says_),                                                                              \
     .offset = (offset_),                                                                          \
     .doc = (doc_)},

const struct topic_config_key topic_config_keys[] = {KEYS(ROW)};
const unsigned topic_config_keys_count = ARRAY_LEN(topic_config_keys);

_Static_assert(TOPIC_CLEANUP_DELETE == 1 << 0 && TOPIC_CLEANUP_COMPACT == 1 << 1,
               "the words of cleanup.policy are in bit order");
_Static_assert(TOPIC_CREATE_TIME == 0 && TOPIC_LOG_APPEND_TIME == 1,
               "the words of message.timestamp.type are in enum order");

const struct topic_config_key *topic_config_find(const char *name)
{
    for (unsigned i = 0; i < topic_config_keys_count; i++)
        if (strcmp(topic_config_keys[i].name, name) == 0)
            return &topic_config_keys[i];
    return NULL;
}

const struct topic_config_key *topic_config_find_server(const char *server_name)
{
    for (unsigned i = 0; i < topic_config_keys_count; i++) {
        const char *name = topic_config_keys[i].server_name;
        if (name != NULL && strcmp(name, server_name) == 0)
            return &topic_config_keys[i];
    }
    return NULL;
}

/* A piece of the value without the blanks around it, as Kafka trims before it parses. */
struct word {
    const char *start;
    size_t len;
};

static struct word word_trim(const char *start, size_t len)
{
    while (len > 0 && (unsigned char)start[0] <= ' ') {
        start++;
        len--;
    }
    while (len > 0 && (unsigned char)start[len - 1] <= ' ')
        len--;
    return (struct word){start, len};
}

static bool word_is(struct word w, const char *text)
{
    return strlen(text) == w.len && strncasecmp(w.start, text, w.len) == 0;
}

/* Position of w in "a|b|c", or -1. Upper and lower case are different, as in Kafka. */
static int word_index(struct word w, const char *values)
{
    for (int i = 0;; i++) {
        size_t len = strcspn(values, "|");
        if (len == w.len && memcmp(values, w.start, len) == 0)
            return i;
        if (values[len] == '\0')
            return -1;
        values += len + 1;
    }
}

/* The checks give the value for the field, or -EINVAL. */

static int check_number(const struct topic_config_key *key, struct word w, int64_t *ret)
{
    char text[24];
    char *end;
    if (w.len == 0 || w.len >= sizeof(text))
        return -EINVAL;
    memcpy(text, w.start, w.len);
    text[w.len] = '\0';
    errno = 0;
    long long v = strtoll(text, &end, 10);
    if (errno != 0 || end != text + w.len || v < key->min || v > key->max)
        return -EINVAL;
    if (strcmp(key->name, "compression.gzip.level") == 0 && v == 0)
        return -EINVAL; /* the one range with a hole */
    *ret = v;
    return 0;
}

static int check_bool(const struct topic_config_key *key, struct word w, int64_t *ret)
{
    bool is_true = word_is(w, "true");
    if ((!is_true && !word_is(w, "false")) || is_true > key->max)
        return -EINVAL;
    *ret = is_true;
    return 0;
}

static int check_string(const struct topic_config_key *key, struct word w, int64_t *ret)
{
    int index = word_index(w, key->values);
    if (index < 0)
        return -EINVAL;
    *ret = index;
    return 0;
}

/* A set of words gives their bits; a free list is only checked for empty elements. */
static int check_list(const struct topic_config_key *key, struct word w, int64_t *ret)
{
    int64_t bits = 0;
    while (w.len > 0) {
        const char *comma = memchr(w.start, ',', w.len);
        size_t len = comma == NULL ? w.len : (size_t)(comma - w.start);
        struct word element = word_trim(w.start, len);
        if (element.len == 0 || (comma != NULL && len + 1 == w.len))
            return -EINVAL;
        if (key->values != NULL) {
            int index = word_index(element, key->values);
            if (index < 0 || (bits & (int64_t)1 << index) != 0)
                return -EINVAL;
            bits |= (int64_t)1 << index;
        }
        len += comma != NULL;
        w = (struct word){w.start + len, w.len - len};
    }
    *ret = bits;
    return 0;
}

/* Of a ratio the log takes millionths. */
static int check_double(const struct topic_config_key *key, struct word w, int64_t *ret)
{
    char text[64];
    char *end;
    if (w.len == 0 || w.len >= sizeof(text))
        return -EINVAL;
    memcpy(text, w.start, w.len);
    text[w.len] = '\0';
    double v = strtod(text, &end);
    if (end != text + w.len || !(v >= (double)key->min && v <= (double)key->max))
        return -EINVAL;
    *ret = (int64_t)(v * 1e6);
    return 0;
}

typedef int (*check_fn)(const struct topic_config_key *, struct word, int64_t *ret);
static const check_fn checks[] = {
    [TOPIC_CONFIG_INT] = check_number, [TOPIC_CONFIG_LONG] = check_number,
    [TOPIC_CONFIG_BOOL] = check_bool,  [TOPIC_CONFIG_STRING] = check_string,
    [TOPIC_CONFIG_LIST] = check_list,  [TOPIC_CONFIG_DOUBLE] = check_double,
};

static void field_store(struct topic_config *c, const struct topic_config_key *key, int64_t v)
{
    void *field = (char *)c + key->offset;
    switch (key->type) {
    case TOPIC_CONFIG_INT:
    case TOPIC_CONFIG_LONG:
    case TOPIC_CONFIG_DOUBLE:
        *(int64_t *)field = v;
        return;
    case TOPIC_CONFIG_STRING:
    case TOPIC_CONFIG_LIST:
        *(int32_t *)field = (int32_t)v;
        return;
    case TOPIC_CONFIG_BOOL:
        *(bool *)field = v != 0;
        return;
    }
    ASSERT(!"a type with a field in struct topic_config");
}

int topic_config_set(struct topic_config *c, const char *name, const char *value,
                     const char **ret_reason)
{
    const struct topic_config_key *key = topic_config_find(name);
    int64_t v = 0;
    int rc = key == NULL ? -ENOENT : checks[key->type](key, word_trim(value, strlen(value)), &v);
    if (rc != 0) {
        if (ret_reason != NULL)
            *ret_reason = key == NULL ? "unknown key" : key->says;
        return rc;
    }
    if (key->offset != KEPT)
        field_store(c, key, v);
    return 0;
}

void topic_config_defaults(struct topic_config *ret)
{
    *ret = (struct topic_config){0};
    for (unsigned i = 0; i < topic_config_keys_count; i++) {
        int rc = topic_config_set(ret, topic_config_keys[i].name,
                                  topic_config_keys[i].default_value, NULL);
        ASSERT(rc == 0);
    }
}
