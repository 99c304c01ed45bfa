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
        cr_assert_not_null(k->says);
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
    cr_assert_eq(topic_config_set(&c, "cleanup.policy", " ", NULL), 0);
    cr_assert_eq(c.cleanup_policy, 0);
    cr_assert_eq(topic_config_set(&c, "message.timestamp.type", "LogAppendTime", NULL), 0);
    cr_assert_eq(c.timestamp_type, TOPIC_LOG_APPEND_TIME);
    cr_assert_eq(topic_config_set(&c, "write.caching", "TRUE", NULL), 0);
    cr_assert(c.write_caching);
    cr_assert_eq(topic_config_set(&c, "flush.ms", "0", NULL), 0);
    cr_assert_eq(c.flush_ms, 0);
    cr_assert_eq(c.min_cleanable_ppm, 500000);
    cr_assert_eq(topic_config_set(&c, "min.cleanable.dirty.ratio", "0.25", NULL), 0);
    cr_assert_eq(c.min_cleanable_ppm, 250000);
}

Test(topic_config, keys_without_effect_are_checked_but_change_nothing)
{
    struct topic_config before, c;
    memset(&before, 0, sizeof(before));
    topic_config_defaults(&before);
    static const char *const kept[][2] = {
        {"compression.type", "zstd"},
        {"preallocate", "true"},
        {"compression.gzip.level", "-1"},
        {"leader.replication.throttled.replicas", "0:1,1:2"},
        {"remote.storage.enable", "false"},
    };
    c = before;
    for (unsigned i = 0; i < sizeof(kept) / sizeof(kept[0]); i++)
        cr_assert_eq(topic_config_set(&c, kept[i][0], kept[i][1], NULL), 0, "%s", kept[i][0]);
    cr_assert_eq(memcmp(&c, &before, sizeof(c)), 0);
}

Test(topic_config, bad_values_are_refused_with_what_is_allowed)
{
    static const char *const bad[][2] = {
        {"segment.bytes", "1048575"},
        {"segment.bytes", "2147483648"},
        {"segment.bytes", ""},
        {"segment.bytes", "1m"},
        {"segment.bytes", "0x100000"},
        {"segment.bytes", "1 000 000 0"},
        {"retention.ms", "-2"},
        {"retention.ms", "9223372036854775808"},
        {"segment.ms", "0"},
        {"flush.ms", "-1"},
        {"cleanup.policy", "Delete"},
        {"cleanup.policy", "delete,"},
        {"cleanup.policy", ",delete"},
        {"cleanup.policy", "delete,delete"},
        {"cleanup.policy", "deletecompact"},
        {"compression.type", "none"},
        {"compression.gzip.level", "0"},
        {"compression.gzip.level", "10"},
        {"compression.zstd.level", "23"},
        {"message.timestamp.type", "createtime"},
        {"min.cleanable.dirty.ratio", "1.01"},
        {"min.cleanable.dirty.ratio", "nan"},
        {"min.cleanable.dirty.ratio", "half"},
        {"min.insync.replicas", "0"},
        {"preallocate", "yes"},
        {"write.caching", "1"},
        {"remote.storage.enable", "true"},
        {"max.message.bytes", "-1"},
        {"message.timestamp.after.max.ms", "-1"},
    };
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct topic_config before, c;
        const char *reason = NULL;
        memset(&before, 0, sizeof(before));
        topic_config_defaults(&before);
        c = before;
        cr_assert_eq(topic_config_set(&c, bad[i][0], bad[i][1], &reason), -EINVAL, "%s=%s",
                     bad[i][0], bad[i][1]);
        cr_assert_not_null(reason);
        cr_assert_eq(strncmp(reason, "must be ", 8), 0, "%s", reason);
        cr_assert_eq(memcmp(&c, &before, sizeof(c)), 0, "%s changed something", bad[i][0]);
    }
}

Test(topic_config, unknown_keys)
{
    struct topic_config c;
    const char *reason = NULL;
    topic_config_defaults(&c);
    cr_assert_eq(topic_config_set(&c, "log.retention.ms", "1", &reason), -ENOENT);
    cr_assert_str_eq(reason, "unknown key");
    cr_assert_eq(topic_config_set(&c, "", "1", NULL), -ENOENT);
}
