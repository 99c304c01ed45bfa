#include <string.h>

#include "core/base/bytes.h"
#include "core/base/logger.h"
#include "core/meta/topic_config.h"
#include "tools/config_private.h"

#define AT(field) offsetof(struct serve_config, field)
#define INT_MOST INT32_MAX
#define TIB (INT64_C(1) << 40)

/* name, Kafka's or our own, type, field, default, least, most, words, what it means */
#define KEYS(X)                                                                                    \
    X("listeners", true, CONFIG_TEXT, raw.listeners, "PLAINTEXT://127.0.0.1:9092", 0, 0, NULL,     \
      "where to listen: one PLAINTEXT://HOST:PORT; with advertise=shard shard i has port PORT+i")  \
    X("advertised.listeners", true, CONFIG_TEXT, raw.advertised_listeners, "", 0, 0, NULL,         \
      "what clients are told to connect to, as PLAINTEXT://HOST:PORT; else the listener")          \
    X("advertised.host", false, CONFIG_TEXT, raw.advertised_host, "", 0, 0, NULL,                  \
      "host that clients are told to connect to; else that of advertised.listeners")               \
    X("advertise", false, CONFIG_WORD, advertise, "shard", 0, 0, "shard|numa|host",                \
      "what is shown to clients as a Kafka node: each shard, each NUMA node, or the host")         \
    X("node.id", true, CONFIG_NUMBER, node_id, "-1", -1, INT_MOST, NULL,                           \
      "id of the first node; shard i is node node.id+i; -1: 0")                                    \
    X("broker.id", true, CONFIG_NUMBER, raw.broker_id, "-1", -1, INT_MOST, NULL,                   \
      "older name of node.id")                                                                     \
    X("broker.rack", true, CONFIG_TEXT, rack, "", 0, 0, NULL, "rack that clients are told")        \
    X("controller.listener.names", true, CONFIG_TEXT, raw.controller_names, "", 0, 0, NULL,        \
      "listeners of these names are left out: there is no separate controller")                    \
    X("listener.security.protocol.map", true, CONFIG_TEXT, raw.protocol_map, "", 0, 0, NULL,       \
      "NAME:PROTOCOL,...: the protocol behind a listener's name; only PLAINTEXT is possible")      \
    X("log.dirs", true, CONFIG_TEXT, raw.log_dirs, "", 0, 0, NULL,                                 \
      "data directories, with commas; else log.dir")                                               \
    X("log.dir", true, CONFIG_TEXT, raw.log_dir, "./data", 0, 0, NULL, "data directory")           \
    X("journal.dir", false, CONFIG_TEXT, journal_dir, "", 0, 0, NULL,                              \
      "directory of the journals; else the first data directory")                                  \
    X("journal.bytes", false, CONFIG_SIZE, journal_bytes, "256m", 16 << 20, TIB, NULL,             \
      "size of each shard's journal")                                                              \
    X("direct.min.bytes", false, CONFIG_SIZE, direct_min_bytes, "256k", 4096, 1 << 30, NULL,       \
      "a run of at least this is written straight to its segment, not to the journal")             \
    X("pool.max.percent", false, CONFIG_NUMBER, pool_max_percent, "10", 0, 90, NULL,               \
      "share of a device that segment files kept for reuse may take")                              \
    X("log.scrub.bytes.per.second", false, CONFIG_SIZE, log_scrub_bytes_per_second, "4m", 0, TIB,  \
      NULL,                                                                                        \
      "each shard reads its sealed segments in the background at this rate and verifies "          \
      "them; 0: never")                                                                            \
    X("log.scrub.interval.ms", false, CONFIG_NUMBER, log_scrub_interval_ms, "604800000", 1000,     \
      INT64_MAX / 1000000, NULL,                                                                   \
      "from the beginning of one pass of the scrub to the next, at least")                         \
    X("log.cleaner.backoff.ms", true, CONFIG_NUMBER, log_cleaner_backoff_ms, "15000", 1,           \
      INT64_MAX / 1000000, NULL, "how often partitions to be compacted are looked for")            \
    X("log.cleaner.dedupe.buffer.size", true, CONFIG_SIZE, log_cleaner_memory_bytes, "134217728",  \
      1 << 16, TIB, NULL, "memory for the keys of what is compacted, of all shards together")      \
    X("log.cleaner.bytes.per.second", false, CONFIG_SIZE, log_cleaner_bytes_per_second, "32m", 0,  \
      TIB, NULL, "what each shard reads and writes for compaction; 0: without bound")              \
    X("log.retention.check.interval.ms", true, CONFIG_NUMBER, log_retention_check_ms, "300000", 1, \
      INT64_MAX / 1000000, NULL, "how often segments whose retention is over are looked for")      \
    X("lock.timeout.ms", false, CONFIG_NUMBER, lock_timeout_ms, "60000", 0, INT_MOST, NULL,        \
      "how long to wait for the writes of a killed predecessor to a directory")                    \
    X("shards", false, CONFIG_NUMBER, shards, "0", 0, BROKER_SHARDS_MAX, NULL,                     \
      "threads, each on its own core; 0: one for each core that is allowed")                       \
    X("cpus", false, CONFIG_TEXT, cpus, "", 0, 0, NULL,                                            \
      "CPUs to use of those allowed, e.g. 0-3,8; empty: all")                                      \
    X("busy.poll.us", false, CONFIG_NUMBER, busy_poll_us, "0", 0, 1000000, NULL,                   \
      "how long a shard looks for work before it sleeps, polling network cards and NVMe disks "    \
      "that can be polled; lower latency, and a core that is never idle under load; 0: never")     \
    X("flush.poll.us", false, CONFIG_NUMBER, flush_poll_us, "0", 0, 1000000, NULL,                 \
      "a shard stays awake for a write to the journal that a producer or consumer waits for and "  \
      "that usually takes no longer than this; lower latency of acks=all; 0: it sleeps")           \
    X("memory.bytes", false, CONFIG_SIZE, memory_bytes, "0", 0, 64 * TIB, NULL,                    \
      "memory of all shards together; 0: a quarter of what is allowed, at most 256 MiB a shard")   \
    X("egress", false, CONFIG_WORD, egress, "auto", 0, 0, "auto|send|send_zc|splice",              \
      "how responses are sent: copied by the kernel (send), not copied (send_zc), sealed "         \
      "segments "                                                                                  \
      "not even read (splice), or whichever the connection can do and the profile says")           \
    X("egress.profile", false, CONFIG_TEXT, egress_profile, "", 0, 0, NULL,                        \
      "what `penstock bench egress --save` has written, for egress=auto; empty: "                  \
      "egress.properties in the first data directory, if it is there")                             \
    X("egress.verify", false, CONFIG_WORD, egress_verify, "once", 0, 0, "true|once|false",         \
      "before sealed segments are spliced: what is sent is always read and verified, so nothing "  \
      "is spliced (true); it was found good since the start (once); nothing (false)")              \
    X("metrics.listen", false, CONFIG_TEXT, raw.metrics_listen, "", 0, 0, NULL,                    \
      "HOST:PORT of /metrics (Prometheus), /metrics.json and /healthz over HTTP; a PORT alone is " \
      "on 127.0.0.1; empty: off")                                                                  \
    X("log.level", false, CONFIG_WORD, log_level, "info", 0, 0, "error|warn|info|debug",           \
      "what is logged on stderr")                                                                  \
    X("num.partitions", true, CONFIG_NUMBER, num_partitions, "1", 1, META_PARTITIONS_MAX, NULL,    \
      "partitions of a topic that is created without a number")                                    \
    X("default.replication.factor", true, CONFIG_NUMBER, default_replication_factor, "1", 1,       \
      INT16_MAX, NULL, "accepted; there is one replica, and replies say so")                       \
    X("replication.factor.policy", false, CONFIG_WORD, replication_policy, "accept", 0, 0,         \
      "accept|refuse", "a replication factor above 1: accept it, or refuse the topic")             \
    X("auto.create.topics.enable", true, CONFIG_BOOL, auto_create_topics, "true", 0, 0, NULL,      \
      "create a topic when a client first asks for it")                                            \
    X("delete.topic.enable", true, CONFIG_BOOL, delete_topics, "true", 0, 0, NULL,                 \
      "whether topics can be deleted")                                                             \
    X("producer.id.expiration.ms", true, CONFIG_NUMBER, producer_id_expiration_ms, "86400000", 1,  \
      INT_MOST, NULL, "how long an idle idempotent producer is remembered")                        \
    X("log.retention.minutes", true, CONFIG_NUMBER, raw.retention_minutes, "", -1, INT_MOST, NULL, \
      "log.retention.ms in minutes, when that is not set")                                         \
    X("log.retention.hours", true, CONFIG_NUMBER, raw.retention_hours, "168", -1, INT_MOST, NULL,  \
      "log.retention.ms in hours, when neither ms nor minutes are set")                            \
    X("log.roll.hours", true, CONFIG_NUMBER, raw.roll_hours, "168", 1, INT_MOST, NULL,             \
      "log.roll.ms in hours, when that is not set")                                                \
    X("log.roll.jitter.hours", true, CONFIG_NUMBER, raw.jitter_hours, "0", 0, INT_MOST, NULL,      \
      "log.roll.jitter.ms in hours, when that is not set")                                         \
    X("max.connections", true, CONFIG_NUMBER, max_connections, "2147483647", 0, INT_MOST, NULL,    \
      "connections at a time")                                                                     \
    X("connections.max.idle.ms", true, CONFIG_NUMBER, connections_max_idle_ms, "600000",           \
      INT64_MIN, INT64_MAX, NULL, "an idle connection is closed after this; negative: never")      \
    X("connection.requests.max", false, CONFIG_NUMBER, connection_requests_max, "64", 1, 65536,    \
      NULL, "requests of one connection that are worked on at a time")                             \
    X("socket.request.max.bytes", true, CONFIG_SIZE, socket_request_max_bytes, "104857600", 1,     \
      INT_MOST, NULL, "largest request")                                                           \
    X("fetch.max.bytes", true, CONFIG_SIZE, fetch_max_bytes, "57671680", 1024, INT_MOST, NULL,     \
      "most that one fetch response carries")                                                      \
    X("max.incremental.fetch.session.cache.slots", true, CONFIG_NUMBER, fetch_sessions_max,        \
      "1000", 0, INT_MOST, NULL, "fetch sessions that are remembered")                             \
    X("group.initial.rebalance.delay.ms", true, CONFIG_NUMBER, group_initial_delay_ms, "3000", 0,  \
      INT_MOST, NULL, "how long the first join of a group waits for more members")                 \
    X("group.min.session.timeout.ms", true, CONFIG_NUMBER, group_session_min_ms, "6000", 0,        \
      INT_MOST, NULL, "shortest session timeout that a member of a group may ask for")             \
    X("group.max.session.timeout.ms", true, CONFIG_NUMBER, group_session_max_ms, "1800000", 0,     \
      INT_MOST, NULL, "longest session timeout that a member of a group may ask for")              \
    X("group.max.size", true, CONFIG_NUMBER, group_max_size, "2147483647", 1, INT_MOST, NULL,      \
      "members of a group")                                                                        \
    X("offset.metadata.max.bytes", true, CONFIG_NUMBER, offset_metadata_max_bytes, "4096", 0,      \
      INT16_MAX, NULL, "longest text that is committed with an offset")                            \
    X("offsets.retention.minutes", true, CONFIG_NUMBER, offsets_retention_minutes, "10080", 1,     \
      INT_MOST, NULL, "how long offsets are kept when their group is empty")                       \
    X("offsets.retention.check.interval.ms", true, CONFIG_NUMBER, offsets_retention_check_ms,      \
      "600000", 1, INT64_MAX / 1000000, NULL, "how often is looked for offsets that are too old")  \
    X("offsets.topic.num.partitions", true, CONFIG_NUMBER, offsets_topic_partitions, "50", 1,      \
      META_PARTITIONS_MAX, NULL, "partitions of __consumer_offsets when it is created")            \
    X("offsets.topic.segment.bytes", true, CONFIG_SIZE, offsets_topic_segment_bytes, "104857600",  \
      1 << 20, INT_MOST, NULL, "segment.bytes of __consumer_offsets when it is created")           \
    X("offsets.topic.replication.factor", true, CONFIG_NUMBER, offsets_topic_replication, "3", 1,  \
      INT16_MAX, NULL, "accepted; there is one replica, and replies say so")

#define ROW(name_, is_kafkas_, type_, field_, default_, min_, max_, values_, doc_)                 \
    {.name = name_,                                                                                \
     .is_kafkas = is_kafkas_,                                                                      \
     .type = type_,                                                                                \
     .offset = AT(field_),                                                                         \
     .default_value = default_,                                                                    \
     .min = min_,                                                                                  \
     .max = max_,                                                                                  \
     .values = values_,                                                                            \
     .doc = doc_},

const struct config_key config_keys[] = {KEYS(ROW)};
const unsigned config_keys_count = ARRAY_LEN(config_keys);

_Static_assert(ADVERTISE_SHARD == 0 && ADVERTISE_NUMA == 1 && ADVERTISE_HOST == 2,
               "the words of advertise are in enum order");
_Static_assert(LOG_ERROR == 0 && LOG_WARN == 1 && LOG_INFO == 2 && LOG_DEBUG == 3,
               "the words of log.level are in enum order");

const struct config_flag config_flags[] = {
    {"--data", "DIR[,DIR]", "log.dirs", "", "data directories (./data); may be given often", true},
    {"--journal", "DIR", "journal.dir", "", "directory of the journals (the first of --data)",
     false},
    {"--listen", "HOST:PORT", "listeners", "PLAINTEXT://", "where to listen (127.0.0.1:9092)",
     false},
    {"--advertise", "shard|numa|host", "advertise", "", "what clients see as a node (shard)",
     false},
    {"--advertised-host", "NAME", "advertised.host", "", "host that clients are told to use",
     false},
    {"--shards", "N", "shards", "", "threads (one for each core)", false},
    {"--memory", "SIZE", "memory.bytes", "", "memory of all shards together, e.g. 2g", false},
    {"--log-level", "error|warn|info|debug", "log.level", "", "what is logged (info)", false},
};
const unsigned config_flags_count = ARRAY_LEN(config_flags);

int config_key_find(const char *name)
{
    for (unsigned i = 0; i < config_keys_count; i++)
        if (strcmp(config_keys[i].name, name) == 0)
            return (int)i;
    return -1;
}

/* Keys of Kafka 4 (and of 3 with ZooKeeper) without a meaning here: one node, no threads or socket
 * buffers to tune, nothing replicated. A name that ends in '.' stands for all that begin so. */
static const char *const ignored[] = {
    "allow.everyone.if.no.acl.found",
    "alter.log.dirs.replication.quota.",
    "auto.include.jmx.reporter",
    "auto.leader.rebalance.enable",
    "background.threads",
    "broker.heartbeat.interval.ms",
    "broker.id.generation.enable",
    "broker.session.timeout.ms",
    "client.quota.",
    "controlled.shutdown.",
    "controller.",
    "cordoned.log.dirs",
    "delegation.token.",
    "delete.records.purgatory.purge.interval.requests",
    "early.start.listeners",
    "fetch.purgatory.purge.interval.requests",
    "follower.fetch.",
    "group.",
    "initial.broker.registration.timeout.ms",
    "inter.broker.listener.name",
    "inter.broker.protocol.version",
    "internal.",
    "kafka.metrics.",
    "leader.imbalance.",
    "log.cleaner.",
    "log.dir.failure.timeout.ms",
    "log.flush.offset.checkpoint.interval.ms",
    "log.flush.scheduler.interval.ms",
    "log.flush.start.offset.checkpoint.interval.ms",
    "log.initial.task.delay.ms",
    "log.message.downconversion.enable",
    "log.message.format.version",
    "max.connection.creation.rate",
    "max.connections.per.ip",
    "max.connections.per.ip.overrides",
    "max.request.partition.size.limit",
    "metadata.",
    "metric.reporters",
    "metrics.",
    "num.io.threads",
    "num.network.threads",
    "num.recovery.threads.per.data.dir",
    "num.replica.alter.log.dirs.threads",
    "num.replica.fetchers",
    "offset.metadata.max.bytes",
    "offsets.",
    "password.encoder.",
    "principal.builder.class",
    "process.roles",
    "producer.id.expiration.check.interval.ms",
    "producer.purgatory.purge.interval.requests",
    "queued.max.request.bytes",
    "queued.max.requests",
    "quota.",
    "remote.",
    "replica.",
    "replication.quota.",
    "request.timeout.ms",
    "reserved.broker.max.id",
    "sasl.",
    "security.",
    "server.max.startup.time.ms",
    "share.coordinator.",
    "socket.connection.setup.timeout.max.ms",
    "socket.connection.setup.timeout.ms",
    "socket.listen.backlog.size",
    "socket.receive.buffer.bytes",
    "socket.send.buffer.bytes",
    "ssl.",
    "super.users",
    "telemetry.",
    "transaction.",
    "transactional.id.expiration.ms",
    "unstable.api.versions.enable",
    "unstable.feature.versions.enable",
    "zookeeper.",
};

bool config_is_ignored(const char *name)
{
    for (unsigned i = 0; i < ARRAY_LEN(ignored); i++) {
        size_t len = strlen(ignored[i]);
        if (strcmp(name, ignored[i]) == 0)
            return true;
        if (ignored[i][len - 1] == '.' && strncmp(name, ignored[i], len) == 0)
            return true;
    }
    return false;
}

/* To pass over these would leave a broker open, or values misread, without a word. */
static const struct {
    const char *name, *reason;
} refused[] = {
    {"alter.config.policy.class.name", "Java plug-ins are not possible"},
    {"authorizer.class.name", "access control is not possible: everyone is let in"},
    {"config.providers", "values from outside the file are not possible"},
    {"create.topic.policy.class.name", "Java plug-ins are not possible"},
};

const char *config_refused(const char *name)
{
    for (unsigned i = 0; i < ARRAY_LEN(refused); i++)
        if (strcmp(refused[i].name, name) == 0)
            return refused[i].reason;
    return NULL;
}

#define NAME_MAX_LEN 63u

/* Levenshtein (1966), one row at a time. */
static unsigned edit_distance(const char *a, size_t a_len, const char *b, size_t b_len)
{
    unsigned row[NAME_MAX_LEN + 1];
    for (size_t k = 0; k <= b_len; k++)
        row[k] = (unsigned)k;
    for (size_t i = 1; i <= a_len; i++) {
        unsigned diagonal = row[0];
        row[0] = (unsigned)i;
        for (size_t k = 1; k <= b_len; k++) {
            unsigned replace = diagonal + (a[i - 1] != b[k - 1]);
            diagonal = row[k];
            row[k] = MIN(replace, MIN(row[k], row[k - 1]) + 1);
        }
    }
    return row[b_len];
}

static void suggest_from(const char *name, const char *candidate, unsigned *distance,
                         const char **ret)
{
    size_t len = strlen(name), candidate_len = candidate == NULL ? 0 : strlen(candidate);
    if (candidate == NULL || len > NAME_MAX_LEN || candidate_len > NAME_MAX_LEN)
        return;
    unsigned d = edit_distance(name, len, candidate, candidate_len);
    if (d < *distance) {
        *distance = d;
        *ret = candidate;
    }
}

const char *config_suggest(const char *name)
{
    const struct topic_config_key *topic_key = topic_config_find(name);
    if (topic_key != NULL && topic_key->server_name != NULL)
        return topic_key->server_name; /* the topic's name where the broker's belongs */
    unsigned distance = MAX(3u, (unsigned)strlen(name) / 4 + 1); /* farther is no likeness */
    const char *best = NULL;
    for (unsigned i = 0; i < config_keys_count; i++)
        suggest_from(name, config_keys[i].name, &distance, &best);
    for (unsigned i = 0; i < topic_config_keys_count; i++)
        suggest_from(name, topic_config_keys[i].server_name, &distance, &best);
    return best;
}

/* ---- help ---- */

static void help_key(FILE *out, const char *name, const char *default_value, const char *values,
                     const char *doc)
{
    fprintf(out, "  %s=%s", name, default_value);
    if (values != NULL)
        fprintf(out, "  (%s)", values);
    fprintf(out, "\n      %s\n", doc);
}

static void help_keys(FILE *out, bool is_kafkas)
{
    for (unsigned i = 0; i < config_keys_count; i++) {
        const struct config_key *k = &config_keys[i];
        if (k->is_kafkas == is_kafkas)
            help_key(out, k->name, k->default_value, k->values, k->doc);
    }
}

void config_help(FILE *out)
{
    fprintf(out, "usage: penstock serve [OPTION]...\n\nRun the broker.\n\noptions:\n"
                 "  --config FILE\n      read keys from FILE, in Kafka's properties syntax\n");
    for (unsigned i = 0; i < config_flags_count; i++)
        fprintf(out, "  %s %s\n      %s: %s\n", config_flags[i].name, config_flags[i].metavar,
                config_flags[i].key, config_flags[i].doc);
    fprintf(out, "  -o KEY=VALUE\n      set a key; may be given often\n"
                 "  --help\n      this text\n\n"
                 "Options win over -o, which wins over the file. Sizes take k, m, g or t.\n\n"
                 "keys of penstock, with their defaults:\n");
    help_keys(out, false);
    fprintf(out, "\nkeys of Kafka, with their defaults:\n");
    help_keys(out, true);
    fprintf(out, "\nkeys that are the defaults of topics:\n");
    for (unsigned i = 0; i < topic_config_keys_count; i++) {
        const struct topic_config_key *k = &topic_config_keys[i];
        if (k->server_name != NULL)
            help_key(out, k->server_name, k->default_value, k->values, k->doc);
    }
    fprintf(out, "\nOther keys of Kafka have no meaning on one node: they are accepted and named in"
                 " a warning.\n");
}
