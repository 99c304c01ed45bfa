/* config.h: everything that `penstock serve` can be told, from one table of keys.
 * Happy path: defaults, then the config file (Kafka's properties syntax), then each -o KEY=VALUE,
 * then the dedicated flags, which are shorthands of keys; what comes later wins. Keys that Kafka
 * has carry Kafka's names. Keys of Kafka that have no meaning here are accepted and named in a
 * warning. Failure: one line on err that names the place, the key and the value, and what is
 * allowed. Ownership: the caller ends a successful parse with serve_config_fini; all strings live
 * until then. Threads: one. */
#ifndef TOOLS_CONFIG_H
#define TOOLS_CONFIG_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "core/base/arena.h"
#include "core/meta/meta.h"
#include "core/shard/shard.h"

#define CONFIG_TOPIC_KEYS_MAX 64u
#define CONFIG_WARNINGS_MAX 16u

enum config_replication { CONFIG_REPLICATION_ACCEPT, CONFIG_REPLICATION_REFUSE };

struct serve_config {
    /* where the data is */
    const char *data_dirs[META_DIRS_MAX];
    unsigned data_dirs_n;
    const char *journal_dir; /* NULL: the first data directory */
    int64_t journal_bytes;   /* of each shard */
    int64_t direct_min_bytes, pool_max_percent, lock_timeout_ms;
    int64_t log_scrub_bytes_per_second, log_scrub_interval_ms, log_retention_check_ms;
    int64_t log_cleaner_backoff_ms, log_cleaner_memory_bytes, log_cleaner_bytes_per_second;

    /* addresses: numbers or names, without brackets; ports from 1 */
    const char *listen_host, *advertised_host;
    uint16_t listen_port, advertised_port;
    int advertise;            /* enum advertise_mode */
    const char *metrics_host; /* NULL: no metrics */
    uint16_t metrics_port;
    int64_t node_id;
    const char *rack; /* NULL: none */

    /* machine; 0 or NULL: as there is */
    int64_t shards, memory_bytes;
    int64_t busy_poll_us, flush_poll_us;
    const char *cpus;           /* list of CPU numbers, e.g. "0-3,8" */
    int log_level;              /* enum log_level */
    int egress;                 /* enum egress_mode */
    const char *egress_profile; /* "": none named */
    int egress_verify;          /* enum log_verify */

    /* topics */
    int64_t num_partitions, default_replication_factor;
    bool auto_create_topics, delete_topics;
    int replication_policy; /* enum config_replication */
    int64_t producer_id_expiration_ms;
    struct topic_config topic_defaults;
    /* by index into topic_config_keys: what was set here, as text; NULL: the key's own default */
    const char *topic_values[CONFIG_TOPIC_KEYS_MAX];

    const struct broker_config_key *shown; /* to clients, sorted by name */
    unsigned shown_n;

    /* clients */
    int64_t max_connections;
    int64_t connections_max_idle_ms; /* negative: for ever */
    int64_t connection_requests_max; /* of one connection at a time */
    int64_t socket_request_max_bytes;
    int64_t fetch_max_bytes, fetch_sessions_max;

    /* groups of consumers */
    int64_t group_initial_delay_ms, group_session_min_ms, group_session_max_ms, group_max_size;
    int64_t offset_metadata_max_bytes, offsets_retention_minutes, offsets_retention_check_ms;
    int64_t offsets_topic_partitions, offsets_topic_segment_bytes, offsets_topic_replication;

    /* what to log before serving: lines without a newline */
    const char *warnings[CONFIG_WARNINGS_MAX];
    unsigned warnings_n;

    struct { /* private: what the fields above are derived from */
        const char *listeners, *advertised_listeners, *advertised_host, *protocol_map;
        const char *controller_names, *log_dirs, *log_dir, *metrics_listen;
        int64_t broker_id, retention_minutes, retention_hours, roll_hours, jitter_hours;
    } raw;
    struct arena arena; /* private: all strings */
};

/* argv[0] is the command's name and is skipped. 0: go on; -1: help was printed on out; 1: a bad
 * value, key or file; 2: wrong usage. Only after 0 *ret is set. */
int serve_config_parse(int argc, char **argv, struct serve_config *ret, FILE *err, FILE *out);
void serve_config_fini(struct serve_config *);

#endif
