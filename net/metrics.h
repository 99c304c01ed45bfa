/* metrics.h: what the shards have counted, as text for Prometheus and as JSON for scripts.
 *
 * Happy path: metrics_read() takes a copy of a shard's counters while that shard works on; one
 * table (metrics.c) names what is in the copy, and metrics_text.c writes the same rows in both
 * forms. Failure: none but that of the stream that is written to. Threads: any one; the counters
 * are read as core/base/counter.h says, so figures of one copy are of about, not exactly, the same
 * moment. Format: Prometheus text exposition 0.0.4, https://prometheus.io/docs/instrumenting/
 *   exposition_formats: base units (bytes, seconds), _total behind what only grows. */
#ifndef NET_METRICS_H
#define NET_METRICS_H

#include <stdint.h>
#include <stdio.h>

#include "core/group/group.h"
#include "net/conn.h"

enum metrics_pool { METRICS_POOL_LOG, METRICS_POOL_REQUESTS, METRICS_POOL_READS, METRICS_POOLS };

struct metrics_shard { /* a copy */
    struct env_counters env;
    struct log_counters log;
    struct net_counters net;
    struct group_counters groups;
    uint64_t pool_bytes[METRICS_POOLS], pool_free_bytes[METRICS_POOLS];
    const struct client_stats *clients; /* lent by the shard: read when it is written */
};
/* The shard listens and does not stop yet, nor before the copy has been written. */
void metrics_read(const struct shard *s, struct metrics_shard *ret);

struct metrics_process { /* of the whole process */
    const char *version;
    uint64_t cpu_user_us, cpu_system_us;
    uint64_t resident_bytes;
    uint64_t clock_us; /* monotonic: what rates are computed with */
};
void metrics_process_read(const char *version, struct metrics_process *ret);

/* ---- the table ---- */

enum metric_kind { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };
struct metric {
    const char *name; /* without the penstock_ before it */
    enum metric_kind kind;
    bool is_us;    /* counted in us, shown in seconds */
    size_t offset; /* into struct metrics_shard: a uint64_t, or a struct counter_hist */
    /* An array: its label, and the value of that for each of its elements, NULL behind the last. */
    const char *label;
    const char *(*label_value)(unsigned i);
    const char *help;
};
extern const struct metric metrics[];
extern const unsigned metrics_count;
/* Beside the table, as it has labels that come with the clients. */
#define METRIC_CLIENTS "client_requests_total"
#define METRIC_CLIENTS_HELP "Requests of each kind of client, by Kafka API and version."
static inline const void *metric_at(const struct metric *m, const struct metrics_shard *s)
{
    return (const char *)s + m->offset;
}

/* ---- metrics_text.c: shards in order of their numbers ---- */
void metrics_write_text(FILE *out, const struct metrics_process *process,
                        const struct metrics_shard *shards, unsigned shards_n);
void metrics_write_json(FILE *out, const struct metrics_process *process,
                        const struct metrics_shard *shards, unsigned shards_n);

#endif
