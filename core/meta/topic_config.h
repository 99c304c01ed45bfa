/* topic_config.h: the configuration of one topic as the log uses it, and the one table of topic
 * config keys with Kafka's names, types, defaults and checks.
 * Parsing is pure. Threads: a struct topic_config is immutable once its topic is published. */
#ifndef CORE_META_TOPIC_CONFIG_H
#define CORE_META_TOPIC_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum topic_cleanup { TOPIC_CLEANUP_COMPACT = 1, TOPIC_CLEANUP_DELETE = 2 }; /* bit set */
enum topic_timestamp { TOPIC_CREATE_TIME, TOPIC_LOG_APPEND_TIME };
enum topic_compression {
    TOPIC_UNCOMPRESSED,
    TOPIC_ZSTD,
    TOPIC_LZ4,
    TOPIC_SNAPPY,
    TOPIC_GZIP,
    TOPIC_AS_PRODUCED
};

struct topic_config {
    int64_t segment_bytes;     /* segment.bytes, default 1 GiB */
    int64_t segment_ms;        /* segment.ms, default 7 days */
    int64_t retention_ms;      /* retention.ms, -1 without bound */
    int64_t retention_bytes;   /* retention.bytes, -1 without bound */
    int64_t max_message_bytes; /* max.message.bytes, whole batch */
    int64_t index_interval_bytes;
    int64_t timestamp_before_max_ms, timestamp_after_max_ms;
    int64_t flush_ms; /* flush.ms: acks=1 data is written within this time */
    int64_t segment_jitter_ms;
    int64_t delete_retention_ms;                          /* how long tombstones stay */
    int64_t min_compaction_lag_ms, max_compaction_lag_ms; /* of a record's age */
    int64_t file_delete_delay_ms;
    double min_cleanable_dirty_ratio;
    int64_t gzip_level, lz4_level, zstd_level;
    int32_t compression;    /* enum topic_compression */
    int32_t timestamp_type; /* enum topic_timestamp */
    int32_t cleanup_policy; /* bits of enum topic_cleanup */
    bool write_caching;     /* write.caching: acks=all answered from memory */
};

enum topic_config_type {
    TOPIC_CONFIG_INT,
    TOPIC_CONFIG_LONG,
    TOPIC_CONFIG_BOOL,
    TOPIC_CONFIG_STRING,
    TOPIC_CONFIG_LIST,
    TOPIC_CONFIG_DOUBLE
};

struct topic_config_key {
    const char *name;        /* Kafka's topic config name, e.g. "segment.bytes" */
    const char *server_name; /* the broker property that is its default, e.g. "log.segment.bytes" */
    enum topic_config_type type;
    const char *default_value; /* as text */
    int64_t min, max;          /* for numbers */
    const char *values;        /* "a|b|c" for enumerations, else NULL */
    size_t offset; /* into struct topic_config, or SIZE_MAX: accepted and kept, not used */
    const char *doc;
};

/* What is wrong with a value, in Kafka's words. */
struct topic_config_fault {
    char value[128]; /* the part of it that is meant, maybe cut */
    char says[192];  /* "Value must be at least 1" */
};

extern const struct topic_config_key topic_config_keys[];
extern const unsigned topic_config_keys_count;

const struct topic_config_key *topic_config_find(const char *name);
const struct topic_config_key *topic_config_find_server(const char *server_name);
/* What the broker property says when it is not set; NULL: nothing (a coarser one does). */
const char *topic_config_server_default(const struct topic_config_key *key);
void topic_config_defaults(struct topic_config *ret);
/* 0, -ENOENT unknown key, -EINVAL bad value; ret may be NULL. c is untouched by what fails. */
int topic_config_set(struct topic_config *c, const char *name, const char *value,
                     struct topic_config_fault *ret);
/* The same of a value alone, by the type and range of key. */
int topic_config_value_check(const struct topic_config_key *key, const char *value,
                             struct topic_config_fault *ret);
/* What only shows in several keys together; -EINVAL: a sentence is in ret->says. */
int topic_config_check(const struct topic_config *c, struct topic_config_fault *ret);

#endif
