#include "core/meta/topic_config.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
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
/* type, least, most */
#define INTS(least) TOPIC_CONFIG_INT, (least), INT32_MAX
#define LONGS(least) TOPIC_CONFIG_LONG, (least), INT64_MAX
#define LEVEL(least, most) TOPIC_CONFIG_INT, (least), (most)
#define BOOL TOPIC_CONFIG_BOOL, 0, 1
#define WORD TOPIC_CONFIG_STRING, 0, 0
#define LIST TOPIC_CONFIG_LIST, 0, 0
#define CODECS "uncompressed|zstd|lz4|snappy|gzip|producer"

/* name, broker's name, kind of value, default, allowed words, place, what it means. Names, types,
 * defaults and ranges are Kafka 4's; only write.caching is not. The order of allowed words is the
 * order of the enums in the header. */
#define KEYS(X)                                                                                    \
    X("cleanup.policy", "log.cleanup.policy", LIST, "delete", "compact|delete",                    \
      AT(cleanup_policy), "what happens to old segments; empty: they are kept for ever")           \
    X("compression.gzip.level", "compression.gzip.level", LEVEL(-1, 9), "-1", NULL,                \
      AT(gzip_level), "level for compression.type=gzip")                                           \
    X("compression.lz4.level", "compression.lz4.level", LEVEL(1, 17), "9", NULL, AT(lz4_level),    \
      "level for compression.type=lz4")                                                            \
    X("compression.type", "compression.type", WORD, "producer", CODECS, AT(compression),           \
      "producer: batches stay compressed as they came")                                            \
    X("compression.zstd.level", "compression.zstd.level", LEVEL(-131072, 22), "3", NULL,           \
      AT(zstd_level), "level for compression.type=zstd")                                           \
    X("delete.retention.ms", "log.cleaner.delete.retention.ms", LONGS(0), DAY_MS, NULL,            \
      AT(delete_retention_ms), "how long a compacted topic keeps tombstones")                      \
    X("file.delete.delay.ms", "log.segment.delete.delay.ms", LONGS(0), "60000", NULL,              \
      AT(file_delete_delay_ms), "wait before a deleted segment's space is used again")             \
    X("flush.messages", "log.flush.interval.messages", LONGS(1), LONG_MAX_TEXT, NULL, KEPT,        \
      "records between forced flushes")                                                            \
    X("flush.ms", "log.flush.interval.ms", LONGS(0), LONG_MAX_TEXT, NULL, AT(flush_ms),            \
      "records acknowledged from memory are on stable storage within this time")                   \
    X("follower.replication.throttled.replicas", NULL, LIST, "", NULL, KEPT,                       \
      "replicas whose replication is throttled on the follower")                                   \
    X("index.interval.bytes", "log.index.interval.bytes", INTS(0), "4096", NULL,                   \
      AT(index_interval_bytes), "bytes of log between two index entries")                          \
    X("leader.replication.throttled.replicas", NULL, LIST, "", NULL, KEPT,                         \
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
    X("message.timestamp.type", "log.message.timestamp.type", WORD, "CreateTime",                  \
      "CreateTime|LogAppendTime", AT(timestamp_type), "whose clock stamps records")                \
    X("min.cleanable.dirty.ratio", "log.cleaner.min.cleanable.ratio", TOPIC_CONFIG_DOUBLE, 0, 1,   \
      "0.5", NULL, AT(min_cleanable_dirty_ratio),                                                  \
      "share of the log that must be uncompacted before it is compacted")                          \
    X("min.compaction.lag.ms", "log.cleaner.min.compaction.lag.ms", LONGS(0), "0", NULL,           \
      AT(min_compaction_lag_ms), "least time a record stays uncompacted")                          \
    X("min.insync.replicas", "min.insync.replicas", INTS(1), "1", NULL, KEPT,                      \
      "counts as 1 on one node")                                                                   \
    X("preallocate", "log.preallocate", BOOL, "false", NULL, KEPT,                                 \
      "segments always have their size fixed ahead here")                                          \
    X("remote.copy.lag.bytes", "log.remote.copy.lag.bytes", LONGS(-1), "-1", NULL, KEPT,           \
      "for tiered topics")                                                                         \
    X("remote.copy.lag.ms", "log.remote.copy.lag.ms", LONGS(-1), "0", NULL, KEPT,                  \
      "for tiered topics")                                                                         \
    X("remote.log.copy.disable", NULL, BOOL, "false", NULL, KEPT, "for tiered topics")             \
    X("remote.log.delete.on.disable", NULL, BOOL, "false", NULL, KEPT, "for tiered topics")        \
    X("remote.storage.enable", NULL, TOPIC_CONFIG_BOOL, 0, 0, "false", NULL, KEPT,                 \
      "tiered storage, which this broker does not have")                                           \
    X("retention.bytes", "log.retention.bytes", TOPIC_CONFIG_LONG, INT64_MIN, INT64_MAX, "-1",     \
      NULL, AT(retention_bytes), "bytes kept of each partition; negative: no bound")               \
    X("retention.ms", "log.retention.ms", LONGS(-1), WEEK_MS, NULL, AT(retention_ms),              \
      "how long records are kept; -1: no bound")                                                   \
    X("segment.bytes", "log.segment.bytes", INTS(1048576), "1073741824", NULL, AT(segment_bytes),  \
      "size of one segment file")                                                                  \
    X("segment.index.bytes", "log.index.size.max.bytes", INTS(4), "10485760", NULL, KEPT,          \
      "room for a segment's index")                                                                \
    X("segment.jitter.ms", "log.roll.jitter.ms", LONGS(0), "0", NULL, AT(segment_jitter_ms),       \
      "most that segment.ms is shortened by, at random")                                           \
    X("segment.ms", "log.roll.ms", LONGS(1), WEEK_MS, NULL, AT(segment_ms),                        \
      "a segment older than this is closed")                                                       \
    X("unclean.leader.election.enable", "unclean.leader.election.enable", BOOL, "false", NULL,     \
      KEPT, "has no meaning on one node")                                                          \
    X("write.caching", "write.caching", BOOL, "false", NULL, AT(write_caching),                    \
      "true: acks=all is answered from memory (not Kafka's; a crash loses what was not flushed)")

/* A kind of value stands for three columns: rows are expanded once more before they are split. */
#define ROW(...) ROW_OF(__VA_ARGS__)
#define ROW_OF(name_, server_, type_, min_, max_, default_, values_, offset_, doc_)                \
    {.name = (name_),                                                                              \
     .server_name = (server_),                                                                     \
     .type = (type_),                                                                              \
     .default_value = (default_),                                                                  \
     .min = (min_),                                                                                \
     .max = (max_),                                                                                \
     .values = (values_),                                                                          \
     .offset = (offset_),                                                                          \
     .doc = (doc_)},

const struct topic_config_key topic_config_keys[] = {KEYS(ROW)};
const unsigned topic_config_keys_count = ARRAY_LEN(topic_config_keys);

_Static_assert(TOPIC_CLEANUP_COMPACT == 1 << 0 && TOPIC_CLEANUP_DELETE == 1 << 1,
               "the words of cleanup.policy are in bit order");
_Static_assert(TOPIC_CREATE_TIME == 0 && TOPIC_LOG_APPEND_TIME == 1,
               "the words of message.timestamp.type are in enum order");
_Static_assert(TOPIC_UNCOMPRESSED == 0 && TOPIC_ZSTD == 1 && TOPIC_LZ4 == 2 && TOPIC_SNAPPY == 3 &&
                   TOPIC_GZIP == 4 && TOPIC_AS_PRODUCED == 5,
               "the words of compression.type are in enum order");

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

/* Of these Kafka has no default: hours say it, or it is never. */
const char *topic_config_server_default(const struct topic_config_key *key)
{
    static const char *const unset[] = {"log.flush.interval.ms", "log.retention.ms",
                                        "log.roll.jitter.ms", "log.roll.ms"};
    for (unsigned i = 0; i < ARRAY_LEN(unset); i++)
        if (strcmp(key->server_name, unset[i]) == 0)
            return NULL;
    return key->default_value;
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

/* ---- what is wrong ---- */

__attribute__((format(printf, 3, 4))) static int fault(struct topic_config_fault *f, struct word w,
                                                       const char *fmt, ...)
{
    va_list args;
    if (f == NULL)
        return -EINVAL;
    snprintf(f->value, sizeof(f->value), "%.*s", (int)MIN(w.len, sizeof(f->value)), w.start);
    va_start(args, fmt);
    vsnprintf(f->says, sizeof(f->says), fmt, args);
    va_end(args);
    return -EINVAL;
}

static int fault_words(struct topic_config_fault *f, struct word w, const char *values)
{
    char text[128] = "";
    size_t at = 0;
    for (const char *v = values; *v != '\0' && at + 2 < sizeof(text); v++) {
        text[at++] = *v == '|' ? ',' : *v;
        if (*v == '|')
            text[at++] = ' ';
    }
    text[at] = '\0';
    return fault(f, w, "String must be one of: %s", text);
}

/* ---- the checks give the value for the field, or -EINVAL ---- */

union field_value {
    int64_t whole;
    double real;
};

static int check_number(const struct topic_config_key *key, struct word w, union field_value *ret,
                        struct topic_config_fault *f)
{
    char text[24];
    char *end = text;
    bool is_int = key->type == TOPIC_CONFIG_INT;
    size_t len = MIN(w.len, sizeof(text) - 1);
    memcpy(text, w.start, len);
    text[len] = '\0';
    errno = 0;
    long long v = strtoll(text, &end, 10);
    if (len == 0 || len != w.len || errno != 0 || end != text + len ||
        (is_int && (v < INT32_MIN || v > INT32_MAX)))
        return fault(f, w, "Not a number of type %s", is_int ? "INT" : "LONG");
    if (strcmp(key->name, "compression.gzip.level") == 0 && (v == 0 || v < -1 || v > 9))
        return fault(f, w,
                     "Value must be between 1 and 9 or equal to -1"); /* a range with a hole */
    if (v < key->min)
        return fault(f, w, "Value must be at least %" PRId64, key->min);
    if (v > key->max)
        return fault(f, w, "Value must be no more than %" PRId64, key->max);
    ret->whole = v;
    return 0;
}

static int check_bool(const struct topic_config_key *key, struct word w, union field_value *ret,
                      struct topic_config_fault *f)
{
    bool is_true = word_is(w, "true");
    if (!is_true && !word_is(w, "false"))
        return fault(f, w, "Expected value to be either true or false");
    if (is_true > key->max)
        return fault(f, w, "Tiered Storage functionality is disabled in the broker");
    ret->whole = is_true;
    return 0;
}

static int check_string(const struct topic_config_key *key, struct word w, union field_value *ret,
                        struct topic_config_fault *f)
{
    int index = word_index(w, key->values);
    if (index < 0)
        return fault_words(f, w, key->values);
    ret->whole = index;
    return 0;
}

static bool is_digits(struct word w)
{
    for (size_t i = 0; i < w.len; i++)
        if (w.start[i] < '0' || w.start[i] > '9')
            return false;
    return w.len > 0;
}

/* PARTITION:BROKER; or '*' alone, for all. */
static bool is_replica(struct word w)
{
    const char *colon = memchr(w.start, ':', w.len);
    if (colon == NULL)
        return false;
    size_t len = (size_t)(colon - w.start);
    return is_digits((struct word){w.start, len}) &&
           is_digits((struct word){colon + 1, w.len - len - 1});
}

/* One element: of a set of words its bit, else a replica. */
static int check_element(const struct topic_config_key *key, struct word element, int64_t *bits,
                         struct topic_config_fault *f)
{
    if (element.len == 0)
        return fault(f, element, "values must not be empty");
    if (key->values == NULL)
        return is_replica(element) ? 0
                                   : fault(f, element,
                                           "must be the literal '*' or a list of replicas in the "
                                           "following format: [partitionId]:[brokerId],...");
    int index = word_index(element, key->values);
    if (index < 0)
        return fault_words(f, element, key->values);
    *bits |= (int64_t)1 << index;
    return 0;
}

static int check_list(const struct topic_config_key *key, struct word w, union field_value *ret,
                      struct topic_config_fault *f)
{
    int64_t bits = 0;
    bool all = key->values == NULL && word_is(w, "*"), more = w.len > 0 && !all;
    while (more) {
        const char *comma = memchr(w.start, ',', w.len);
        size_t len = comma == NULL ? w.len : (size_t)(comma - w.start);
        int rc = check_element(key, word_trim(w.start, len), &bits, f);
        if (rc != 0)
            return rc;
        more = comma != NULL; /* behind a comma an element must follow */
        w = (struct word){w.start + len + more, w.len - len - more};
    }
    ret->whole = bits;
    return 0;
}

static int check_double(const struct topic_config_key *key, struct word w, union field_value *ret,
                        struct topic_config_fault *f)
{
    char text[64];
    char *end = text;
    size_t len = MIN(w.len, sizeof(text) - 1);
    memcpy(text, w.start, len);
    text[len] = '\0';
    double v = strtod(text, &end);
    if (len == 0 || len != w.len || end != text + len || isnan(v))
        return fault(f, w, "Not a number of type DOUBLE");
    if (v < (double)key->min)
        return fault(f, w, "Value must be at least %" PRId64, key->min);
    if (v > (double)key->max)
        return fault(f, w, "Value must be no more than %" PRId64, key->max);
    ret->real = v;
    return 0;
}

typedef int (*check_fn)(const struct topic_config_key *, struct word, union field_value *ret,
                        struct topic_config_fault *f);
static const check_fn checks[] = {
    [TOPIC_CONFIG_INT] = check_number, [TOPIC_CONFIG_LONG] = check_number,
    [TOPIC_CONFIG_BOOL] = check_bool,  [TOPIC_CONFIG_STRING] = check_string,
    [TOPIC_CONFIG_LIST] = check_list,  [TOPIC_CONFIG_DOUBLE] = check_double,
};

static void field_store(struct topic_config *c, const struct topic_config_key *key,
                        union field_value v)
{
    void *field = (char *)c + key->offset;
    switch (key->type) {
    case TOPIC_CONFIG_INT:
    case TOPIC_CONFIG_LONG:
        *(int64_t *)field = v.whole;
        return;
    case TOPIC_CONFIG_STRING:
    case TOPIC_CONFIG_LIST:
        *(int32_t *)field = (int32_t)v.whole;
        return;
    case TOPIC_CONFIG_BOOL:
        *(bool *)field = v.whole != 0;
        return;
    case TOPIC_CONFIG_DOUBLE:
        *(double *)field = v.real;
        return;
    }
}

int topic_config_set(struct topic_config *c, const char *name, const char *value,
                     struct topic_config_fault *ret)
{
    const struct topic_config_key *key = topic_config_find(name);
    struct word w = word_trim(value, strlen(value));
    union field_value v = {0};
    if (key == NULL) {
        fault(ret, w, "Unknown topic config name");
        return -ENOENT;
    }
    int rc = checks[key->type](key, w, &v, ret);
    if (rc == 0 && key->offset != KEPT)
        field_store(c, key, v);
    return rc;
}

int topic_config_value_check(const struct topic_config_key *key, const char *value,
                             struct topic_config_fault *ret)
{
    union field_value ignored;
    return checks[key->type](key, word_trim(value, strlen(value)), &ignored, ret);
}

int topic_config_check(const struct topic_config *c, struct topic_config_fault *ret)
{
    if (c->min_compaction_lag_ms <= c->max_compaction_lag_ms)
        return 0;
    return fault(ret, (struct word){"", 0},
                 "conflict topic config setting min.compaction.lag.ms (%" PRId64
                 ") > max.compaction.lag.ms (%" PRId64 ")",
                 c->min_compaction_lag_ms, c->max_compaction_lag_ms);
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
