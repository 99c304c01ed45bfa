#include "net/metrics.h"

#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "core/base/bytes.h"

#define AT(field) offsetof(struct metrics_shard, field)

static const char *path_name(unsigned i)
{
    static const char *const names[] = {"send", "send_zc", "splice"};
    _Static_assert(ARRAY_LEN(names) == ENV_EGRESS_PATHS, "a name each");
    return i < ARRAY_LEN(names) ? names[i] : NULL;
}

static const char *api_name(unsigned i)
{
    return i < net_apis_count ? wire_api_find(net_apis[i].key)->name : NULL;
}

static const char *pool_name(unsigned i)
{
    static const char *const names[] = {"log", "requests", "reads"};
    _Static_assert(ARRAY_LEN(names) == METRICS_POOLS, "a name each");
    return i < ARRAY_LEN(names) ? names[i] : NULL;
}

static const char *group_state(unsigned i)
{
    return i < GROUP_STATES ? group_state_name(i) : NULL;
}

/* name, kind, field, what it means */
#define COUNTER(name, field, help)                                                                 \
    {                                                                                              \
        name, METRIC_COUNTER, false, AT(field), NULL, NULL, help                                   \
    }
#define GAUGE(name, field, help)                                                                   \
    {                                                                                              \
        name, METRIC_GAUGE, false, AT(field), NULL, NULL, help                                     \
    }
#define HISTOGRAM(name, is_us, field, help)                                                        \
    {                                                                                              \
        name, METRIC_HISTOGRAM, is_us, AT(field), NULL, NULL, help                                 \
    }

const struct metric metrics[] = {
    COUNTER("turns_total", env.turns, "Turns of the shard's loop."),
    HISTOGRAM("turn_seconds", true, env.turn_us,
              "How long the shard works in a turn: nothing else is answered meanwhile."),
    COUNTER("system_calls_total", env.syscalls, "Calls of io_uring_enter."),
    COUNTER("submissions_total", env.submissions, "Operations that the kernel took from the ring."),
    COUNTER("completions_total", env.completions, "Completions that were reaped from the ring."),
    COUNTER("polled_total", env.polled,
            "Of these, fetched from a device that was asked, without an interrupt."),
    COUNTER("messages_total", env.messages, "Messages of other shards and of this one to itself."),

    {"requests_total", METRIC_COUNTER, false, AT(net.requests), "api", api_name,
     "Requests of each Kafka API."},
    COUNTER("requests_failed_total", net.requests_failed,
            "Requests that made no sense or could not be answered: their connection is closed."),
    GAUGE("connections", net.conns_open, "Connections that are open."),
    COUNTER("connections_accepted_total", net.conns_accepted, "Connections that came."),
    COUNTER("connections_refused_total", net.conns_refused, "Of these, closed at once: too many."),
    COUNTER("connections_closed_total", net.conns_closed, "Connections that were open and ended."),

    COUNTER("received_bytes_total", env.received_bytes, "Bytes received from sockets."),
    {"egress_bytes_total", METRIC_COUNTER, false, AT(env.egress_bytes), "path", path_name,
     "Bytes that sockets took, by the way they went."},
    COUNTER("zero_copy_copied_total", env.zc_copied,
            "Zero-copy sends of which the kernel reports that it copied."),
    COUNTER("zero_copy_not_copied_total", env.zc_not_copied,
            "Zero-copy sends of which the kernel reports that it did not copy."),

    COUNTER("append_records_total", log.append_records, "Records appended."),
    COUNTER("append_batches_total", log.appends, "Record batches appended."),
    COUNTER("append_bytes_total", log.append_bytes, "Bytes of these batches."),
    COUNTER("append_adopted_bytes_total", log.adopted_bytes,
            "Of these, received where they stay: not copied."),
    COUNTER("append_duplicates_total", log.duplicates,
            "Batches of idempotent producers that were there already."),

    HISTOGRAM("journal_write_bytes", false, log.group_bytes, "Size of a journal write."),
    HISTOGRAM("journal_write_batches", false, log.group_batches,
              "Record batches appended between one journal write and the next."),
    HISTOGRAM("journal_write_seconds", true, log.group_us,
              "From making a journal write until the shard sees that it is durable."),
    HISTOGRAM("segment_flush_seconds", true, log.flush_us,
              "From asking for a segment's flush until the shard sees its end."),
    COUNTER("journal_batch_bytes_total", log.journal_bytes, "Bytes of batches in the journal."),
    COUNTER("direct_writes_total", log.runs, "Large runs written straight to their segment."),
    COUNTER("direct_write_bytes_total", log.run_bytes, "Bytes of these runs."),
    COUNTER("destaged_bytes_total", log.destage_bytes, "Bytes moved from memory to segments."),
    COUNTER("file_system_syncs_total", log.shared_syncs,
            "Syncs of a file system, each for many segment files."),
    COUNTER("checkpoints_total", log.checkpoints, "Checkpoints written."),

    COUNTER("reads_memory_total", log.reads_hot, "Reads of records answered from memory."),
    COUNTER("reads_disk_total", log.reads_disk, "Reads of records from segments."),
    COUNTER("reads_disk_bytes_total", log.disk_read_bytes, "Bytes of these reads."),
    COUNTER("device_read_bytes_total", env.read_bytes, "Bytes read from files of any kind."),
    COUNTER("device_write_bytes_total", env.write_bytes, "Bytes written to files of any kind."),
    COUNTER("device_flushes_total", env.flushes, "Flushes, beside those that are part of a write."),

    {"memory_bytes", METRIC_GAUGE, false, AT(pool_bytes), "pool", pool_name,
     "Size of the shard's memory: partition buffers, requests, disk reads."},
    {"memory_free_bytes", METRIC_GAUGE, false, AT(pool_free_bytes), "pool", pool_name,
     "What of it is free; of partition buffers the rest is mostly a cache."},
    COUNTER("memory_evictions_total", log.evictions, "Cached pieces of partitions given up."),
    COUNTER("memory_append_waits_total", log.memory_waits,
            "Batches that had to wait for memory of partition buffers."),
    COUNTER("memory_request_waits_total", net.memory_waits,
            "Requests that had to wait for memory, not read from their socket meanwhile."),
    COUNTER("receive_buffer_waits_total", net.buffer_waits,
            "Connections that had to wait for a receive buffer."),

    GAUGE("partitions", log.partitions, "Partitions of the shard."),
    GAUGE("partitions_failed", log.partitions_fenced,
          "Of these, fenced by a failed write: they take no more records."),
    COUNTER("partitions_moved_here_total", log.moved_here, "Partitions taken from other shards."),
    COUNTER("partitions_moved_away_total", log.moved_away, "Partitions given to other shards."),
    GAUGE("partitions_offline", log.partitions_offline,
          "Of these, in a data directory that has failed (Kafka: OfflineReplicaCount)."),
    GAUGE("log_directories_offline", log.dirs_offline,
          "Data directories that have failed (Kafka: OfflineLogDirectoryCount); shard 0 counts "
          "them."),
    GAUGE("store_failed", log.failed, "1: the shard's journal has failed, it takes no records."),
    COUNTER("damaged_stretches_total", log.damaged_stretches,
            "Damaged places where offsets are lost, found by recovery or a read."),
    COUNTER("lost_offsets_total", log.lost_offsets, "Offsets lost there."),
    COUNTER("segments_trimmed_total", log.segments_trimmed,
            "Segments given back because the log begins behind them."),
    COUNTER("trimmed_bytes_total", log.trimmed_bytes, "Bytes in these."),
    COUNTER("compacted_segments_total", log.compacted_segments,
            "Segments replaced by what compaction left of them."),
    COUNTER("pool_taken_total", log.pool_taken, "Segment files taken from the pool."),
    {"groups", METRIC_GAUGE, false, AT(groups.groups), "state", group_state,
     "Consumer groups that the shard coordinates, by state."},
    GAUGE("group_members", groups.members, "Members of these groups."),
    GAUGE("group_offsets", groups.offsets, "Offsets that are committed in these groups."),
    GAUGE("group_memory_bytes", groups.bytes, "Memory that groups and their offsets take."),
    COUNTER("group_rebalances_total", groups.rebalances, "Rebalances that began."),
    COUNTER("group_commits_total", groups.commits, "Commits of offsets, of any number each."),
    COUNTER("group_offsets_expired_total", groups.expired_offsets,
            "Offsets given up because nobody came back to them."),
    COUNTER("group_loaded_records_total", groups.loaded_records,
            "Records of groups and offsets read at start, or when a partition came."),

    COUNTER("scrub_bytes_total", log.scrub_bytes, "Bytes of sealed segments read and verified."),
    COUNTER("scrub_passes_total", log.scrub_passes, "Passes of the scrub over all segments."),
    COUNTER("scrub_damages_total", log.scrub_damages,
            "Damaged places and files found by the scrub, again in each pass."),
};
const unsigned metrics_count = ARRAY_LEN(metrics);

/* Structs of counters, word by word. */
static void words_read(void *to, const void *from, size_t bytes)
{
    for (size_t i = 0; i < bytes / sizeof(uint64_t); i++)
        ((uint64_t *)to)[i] = counter_read((const uint64_t *)from + i);
}

void metrics_read(const struct shard *s, struct metrics_shard *ret)
{
    _Static_assert(
        sizeof(ret->env) % sizeof(uint64_t) == 0 && sizeof(ret->log) % sizeof(uint64_t) == 0 &&
            sizeof(ret->groups) % sizeof(uint64_t) == 0 && sizeof(ret->net) % sizeof(uint64_t) == 0,
        "they consist of counters");
    const struct net *net = s->net;
    const struct buddy *const pools[] = {&s->log_memory, &s->net_memory, &s->read_memory};
    _Static_assert(ARRAY_LEN(pools) == METRICS_POOLS, "in this order");
    words_read(&ret->env, &s->env->counters, sizeof(ret->env));
    words_read(&ret->log, log_store_counters(s->logs), sizeof(ret->log));
    words_read(&ret->net, &net->counters, sizeof(ret->net));
    words_read(&ret->groups, group_counters(net->groups), sizeof(ret->groups));
    ret->clients = &net->clients;
    for (unsigned i = 0; i < METRICS_POOLS; i++) {
        ret->pool_bytes[i] = pools[i]->size_bytes;
        ret->pool_free_bytes[i] = counter_read(&pools[i]->free_bytes);
    }
}

static uint64_t resident_bytes(void)
{
    unsigned long long all_pages, resident_pages = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (f == NULL)
        return 0;
    if (fscanf(f, "%llu %llu", &all_pages, &resident_pages) != 2)
        resident_pages = 0;
    fclose(f);
    return resident_pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static uint64_t us_of(const struct timeval *t)
{
    return (uint64_t)t->tv_sec * 1000000u + (uint64_t)t->tv_usec;
}

void metrics_process_read(const char *version, struct metrics_process *ret)
{
    struct rusage usage = {0};
    struct timespec now = {0};
    getrusage(RUSAGE_SELF, &usage);
    clock_gettime(CLOCK_MONOTONIC, &now);
    *ret = (struct metrics_process){
        .version = version,
        .cpu_user_us = us_of(&usage.ru_utime),
        .cpu_system_us = us_of(&usage.ru_stime),
        .resident_bytes = resident_bytes(),
        .clock_us = (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u,
    };
}
