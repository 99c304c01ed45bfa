/* script_log.h: what the scripted server (script_broker.h) stores: topics, their partitions, their
 * batches, in memory. Private to it and its tests.
 * Failure: running out of memory is an ASSERT.
 * Threads: one. */
#ifndef TESTS_LIB_SCRIPT_LOG_H
#define TESTS_LIB_SCRIPT_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/list.h"
#include "net/wire/wire.h"
#include "tests/lib/script_broker.h"

struct script_partition;

struct script_batch { /* one stored batch */
    uint8_t *data;
    uint32_t len_bytes;
    int64_t base_offset, end_offset; /* end: the offset behind its last record */
    uint64_t start_bytes;            /* bytes of all batches before it in its partition */
    int64_t producer_id;             /* as it came; -1: none */
    int16_t producer_epoch;
    int32_t base_sequence;
    struct script_partition *partition;
    struct list_node age; /* script_log.ages, oldest first */
};

struct script_producer { /* what a partition knows of an idempotent one */
    struct list_node link;
    int64_t id;
    int16_t epoch;
    int32_t next_sequence;
};

struct script_partition {
    struct list_node producers;
    struct script_batch **batches; /* [first, n) are there */
    size_t first, n, cap;
    int64_t start_offset, end_offset;
    uint64_t end_bytes; /* ever stored */
};

struct script_topic {
    struct list_node link;
    char *name;
    struct wire_uuid id;
    int32_t partitions_n;
    struct script_partition *partitions;
};

struct script_log {
    const struct script_config *config;
    struct script_counters *counters;
    struct list_node topics;
    struct list_node ages;
    uint64_t topics_made, kept_records;
    uint64_t records_seen; /* the number of the last record that arrived */
};

void script_log_init(struct script_log *log, const struct script_config *config,
                     struct script_counters *counters);
void script_log_fini(struct script_log *log);

/* partitions < 1: the default. The name is new. */
struct script_topic *script_topic_add(struct script_log *log, struct wire_str name,
                                      int32_t partitions);
void script_topic_remove(struct script_log *log, struct script_topic *topic);
struct script_topic *script_topic_find(const struct script_log *log, struct wire_str name);
struct script_topic *script_topic_by_id(const struct script_log *log, const struct wire_uuid *id);
/* NULL: no such topic or partition. */
struct script_partition *script_partition_find(const struct script_log *log, struct wire_str name,
                                               int32_t index);

/* Check one producer's batch, damage it as the script wants, store it. 0, *ret_base_offset being
 * the answer's; -EBADMSG: it is no batch or its CRC is wrong; -EILSEQ: an idempotent producer's
 * batch is not the one after its last. */
int script_partition_append(struct script_log *log, struct script_partition *p, const uint8_t *data,
                            size_t len_bytes, int64_t *ret_base_offset);

/* Index of the batch that holds the offset, or of the next one; p->n at the end. */
size_t script_partition_seek(const struct script_partition *p, int64_t offset);
/* Bytes stored from the batch with that index on. */
uint64_t script_partition_bytes_from(const struct script_partition *p, size_t index);

/* First record not older; ListOffsets. False: none. */
bool script_partition_find_time(const struct script_partition *p, int64_t time_ms,
                                int64_t *ret_offset, int64_t *ret_time_ms);
/* First of the youngest records. */
bool script_partition_find_max_time(const struct script_partition *p, int64_t *ret_offset,
                                    int64_t *ret_time_ms);

#endif
