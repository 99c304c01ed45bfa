#include "core/meta/topic_config.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

Test(topic_config, defaults_are_kafkas)
{
    struct topic_config c;
    topic_config_defaults(&c);
    cr_assert_eq(c.segment_bytes, 1073741824);
    cr_assert_eq(c.segment_ms, 604800000);
    cr_assert_eq(c.retention_ms, 604800000);
    cr_assert_eq(c.retention_bytes, -1);
    cr_assert_eq(c.max_message_bytes, 1048588);
    cr_assert_eq(c.index_interval_bytes, 4096);
    cr_assert_eq(c.timestamp_before_max_ms, INT64_MAX);
    cr_assert_eq(c.timestamp_after_max_ms, 3600000);
    cr_assert_eq(c.flush_ms, INT64_MAX);
    cr_assert_eq(c.timestamp_type, TOPIC_CREATE_TIME);
    cr_assert_eq(c.cleanup_policy, TOPIC_CLEANUP_DELETE);
    cr_assert_not(c.write_caching);
    cr_assert_eq(c.delete_retention_ms, 86400000);
    cr_assert_eq(c.min_compaction_lag_ms, 0);
    cr_assert_eq(c.max_compaction_lag_ms, INT64_MAX);
    cr_assert_eq(c.min_cleanable_dirty_ratio, 0.5);
    cr_assert_eq(c.file_delete_delay_ms, 60000);
    cr_assert_eq(c.segment_jitter_ms, 0);
    cr_assert_eq(c.compression, TOPIC_AS_PRODUCED);
    cr_assert_eq(c.zstd_level, 3);
}

/* Tools do binary searches by eye; DescribeConfigs lists in this order. */
Test(topic_config, keys_are_sorted_and_unique)
{
    for (unsigned i = 1; i < topic_config_keys_count; i++)
        cr_assert_lt(strcmp(topic_config_keys[i - 1].name, topic_config_keys[i].name), 0, "%s",
                     topic_config_keys[i].name);
}

Test(topic_config, every_key_is_complete)
{
    cr_assert_geq(topic_config_keys_count, 24u);
    for (unsigned i = 0; i < topic_config_keys_count; i++) {
        const struct topic_config_key *k = &topic_config_keys[i];
        cr_assert_eq(topic_config_find(k->name), k);
        cr_assert_not_null(k->doc);
        if (k->server_name != NULL)
            cr_assert_eq(topic_config_find_server(k->server_name), k, "%s", k->server_name);
        if (k->type == TOPIC_CONFIG_STRING)
            cr_assert_not_null(k->values);
    }
    cr_assert_null(topic_config_find("log.segment.bytes"));
    cr_assert_null(topic_config_find_server("segment.bytes"));
}

Test(topic_config, good_values_land_in_their_field)
{
    struct topic_config c;
    topic_config_defaults(&c);
    cr_assert_eq(topic_config_set(&c, "segment.bytes", "1048576", NULL), 0);
    cr_assert_eq(c.segment_bytes, 1048576);
    cr_assert_eq(topic_config_set(&c, "segment.bytes", " +2097152\t", NULL), 0);
    cr_assert_eq(c.segment_bytes, 2097152);
    cr_assert_eq(topic_config_set(&c, "retention.bytes", "-9223372036854775808", NULL), 0);
    cr_assert_eq(c.retention_bytes, INT64_MIN);
    cr_assert_eq(topic_config_set(&c, "cleanup.policy", "compact, delete", NULL), 0);
    cr_assert_eq(c.cleanup_policy, TOPIC_CLEANUP_COMPACT | TOPIC_CLEANUP_DELETE);
    cr_assert_eq(topic_config_set(&c, "cleanup.policy", "compact", NULL), 0);
    cr_assert_eq(c.cleanup_policy, TOPIC_CLEANUP_COMPACT);
    cr_assert_eq(topic_config_set(&c, "cleanup.policy", "delete,delete", NULL), 0);
    cr_assert_eq(c.cleanup_policy, TOPIC_CLEANUP_DELETE);
    cr_assert_eq(topic_config_set(&c, "cleanup.policy", " ", NULL), 0);
    cr_assert_eq(c.cleanup_policy, 0);
    cr_assert_eq(topic_config_set(&c, "message.timestamp.type", "LogAppendTime", NULL), 0);
    cr_assert_eq(c.timestamp_type, TOPIC_LOG_APPEND_TIME);
    cr_assert_eq(topic_config_set(&c, "write.caching", "TRUE", NULL), 0);
    cr_assert(c.write_caching);
    cr_assert_eq(topic_config_set(&c, "flush.ms", "0", NULL), 0);
    cr_assert_eq(c.flush_ms, 0);
    cr_assert_eq(topic_config_set(&c, "min.cleanable.dirty.ratio", "0.25", NULL), 0);
    cr_assert_eq(c.min_cleanable_dirty_ratio, 0.25);
    cr_assert_eq(topic_config_set(&c, "compression.type", "zstd", NULL), 0);
    cr_assert_eq(c.compression, TOPIC_ZSTD);
}

Test(topic_config, keys_without_effect_are_checked_but_change_nothing)
{
    struct topic_config before, c;
    memset(&before, 0, sizeof(before));
    topic_config_defaults(&before);
    static const char *const kept[][2] = {
        {"preallocate", "true"},
        {"min.insync.replicas", "2"},
        {"leader.replication.throttled.replicas", "0:1,1:2"},
        {"follower.replication.throttled.replicas", "*"},
        {"follower.replication.throttled.replicas", ""},
        {"remote.storage.enable", "false"},
    };
    c = before;
    for (unsigned i = 0; i < sizeof(kept) / sizeof(kept[0]); i++)
        cr_assert_eq(topic_config_set(&c, kept[i][0], kept[i][1], NULL), 0, "%s", kept[i][0]);
    cr_assert_eq(memcmp(&c, &before, sizeof(c)), 0);
}

/* The texts are those of Apache Kafka 4.4. */
Test(topic_config, bad_values_are_refused_with_what_is_allowed)
{
    static const char *const bad[][3] = {
        {"segment.bytes", "1048575", "Value must be at least 1048576"},
        {"segment.bytes", "2147483648", "Not a number of type INT"},
        {"segment.bytes", "", "Not a number of type INT"},
        {"segment.bytes", "1m", "Not a number of type INT"},
        {"segment.bytes", "0x100000", "Not a number of type INT"},
        {"segment.bytes", "1 000 000 0", "Not a number of type INT"},
        {"segment.bytes", "1000000000000000000000000000000", "Not a number of type INT"},
        {"retention.ms", "-2", "Value must be at least -1"},
        {"retention.ms", "9223372036854775808", "Not a number of type LONG"},
        {"segment.ms", "0", "Value must be at least 1"},
        {"flush.ms", "-1", "Value must be at least 0"},
        {"cleanup.policy", "Delete", "String must be one of: compact, delete"},
        {"cleanup.policy", "delete,", "values must not be empty"},
        {"cleanup.policy", ",delete", "values must not be empty"},
        {"cleanup.policy", "deletecompact", "String must be one of: compact, delete"},
        {"compression.type", "none",
         "String must be one of: uncompressed, zstd, lz4, snappy, gzip, producer"},
        {"compression.gzip.level", "0", "Value must be between 1 and 9 or equal to -1"},
        {"compression.gzip.level", "10", "Value must be between 1 and 9 or equal to -1"},
        {"compression.zstd.level", "23", "Value must be no more than 22"},
        {"message.timestamp.type", "createtime",
         "String must be one of: CreateTime, LogAppendTime"},
        {"min.cleanable.dirty.ratio", "1.01", "Value must be no more than 1"},
        {"min.cleanable.dirty.ratio", "-0.01", "Value must be at least 0"},
        {"min.cleanable.dirty.ratio", "nan", "Not a number of type DOUBLE"},
        {"min.cleanable.dirty.ratio", "half", "Not a number of type DOUBLE"},
        {"min.insync.replicas", "0", "Value must be at least 1"},
        {"preallocate", "yes", "Expected value to be either true or false"},
        {"write.caching", "1", "Expected value to be either true or false"},
        {"remote.storage.enable", "true", "Tiered Storage functionality is disabled in the broker"},
        {"max.message.bytes", "-1", "Value must be at least 0"},
        {"message.timestamp.after.max.ms", "-1", "Value must be at least 0"},
        {"leader.replication.throttled.replicas", "1:2,x",
         "must be the literal '*' or a list of replicas in the following format: "
         "[partitionId]:[brokerId],..."},
    };
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct topic_config before, c;
        struct topic_config_fault fault;
        memset(&before, 0, sizeof(before));
        topic_config_defaults(&before);
        c = before;
        cr_assert_eq(topic_config_set(&c, bad[i][0], bad[i][1], &fault), -EINVAL, "%s=%s",
                     bad[i][0], bad[i][1]);
        cr_assert_str_eq(fault.says, bad[i][2]);
        cr_assert_eq(memcmp(&c, &before, sizeof(c)), 0, "%s changed something", bad[i][0]);
    }
}

Test(topic_config, the_part_that_is_wrong_is_named)
{
    struct topic_config c;
    struct topic_config_fault fault;
    char longest[1000];
    topic_config_defaults(&c);
    topic_config_set(&c, "cleanup.policy", "delete, nonsense ,compact", &fault);
    cr_assert_str_eq(fault.value, "nonsense");
    topic_config_set(&c, "retention.ms", " -7 ", &fault);
    cr_assert_str_eq(fault.value, "-7");
    memset(longest, '1', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = '\0';
    cr_assert_eq(topic_config_set(&c, "retention.ms", longest, &fault), -EINVAL);
    cr_assert_eq(strlen(fault.value), sizeof(fault.value) - 1);
}

Test(topic_config, keys_are_checked_together)
{
    struct topic_config c;
    struct topic_config_fault fault;
    topic_config_defaults(&c);
    cr_assert_eq(topic_config_check(&c, &fault), 0);
    topic_config_set(&c, "min.compaction.lag.ms", "100", NULL);
    topic_config_set(&c, "max.compaction.lag.ms", "10", NULL);
    cr_assert_eq(topic_config_check(&c, &fault), -EINVAL);
    cr_assert_str_eq(fault.says, "conflict topic config setting min.compaction.lag.ms (100) > "
                                 "max.compaction.lag.ms (10)");
}

Test(topic_config, unknown_keys)
{
    struct topic_config c;
    struct topic_config_fault fault;
    topic_config_defaults(&c);
    cr_assert_eq(topic_config_set(&c, "log.retention.ms", "1", &fault), -ENOENT);
    cr_assert_str_eq(fault.says, "Unknown topic config name");
    cr_assert_eq(topic_config_set(&c, "", "1", NULL), -ENOENT);
}
