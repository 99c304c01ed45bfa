/* model.h: what was sent, acknowledged and seen, and what must therefore be in the logs: the
 * simulator's checker.
 *
 * Every batch has a number, which its base timestamp carries, so that whatever is read back is
 * recognised, whole and unchanged (length and checksum), and held against where it was before.
 * A slot is a place in a partition's log that holds a batch. It is
 *   pinned    for good: acknowledged with acks=all, visible below the high watermark, found after a
 *             start, or old enough (flush.ms) at a crash;
 *   else soft acknowledged from memory only: a crash makes it doubtful, and then it may be gone and
 *             its offsets given to others.
 * Failure: the first thing that must not be is kept as text in `violation`; nothing is checked
 *   after it.
 * After damage (tolerant) records may be missing: what is there must still be right, and the
 * offsets of what is lost in the middle of a log belong to nobody. Threads: one. */
#ifndef TESTS_SIM_MODEL_H
#define TESTS_SIM_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include "core/batch/batch.h"
#include "core/meta/meta.h"

struct model_batch {
    uint64_t number;
    struct model_partition *partition;
    int32_t records;
    uint32_t len_bytes, crc;
    int8_t acks;
    bool idempotent, acked;
    bool dropped;           /* the log begins behind it, or did before damage */
    bool hostile;           /* may come to lie in any partition, any number of times */
    unsigned sends, places; /* how often it was sent, and in how many slots it is */
};

struct model_slot {
    int64_t base_offset;
    int32_t records;
    bool pinned, doubtful, found; /* found: by the audit under way */
    uint64_t number;
    uint64_t since_ns; /* soft: acknowledged, or first seen */
};

struct model_partition {
    struct model_topic *topic;
    int32_t index;
    struct model_slot *slots; /* by base_offset, never overlapping */
    uint32_t slots_n, slots_cap;
    int32_t epoch_seen;
    bool offline;      /* as Metadata says: it cannot be audited */
    int64_t start_min; /* where the log begins, as far as that was seen: it never goes back; ... */
    int64_t start_max; /* ... and was asked to begin */
    int64_t audit_offset; /* of the audit under way: how far it has come */
    int32_t audit_epoch;
};

enum model_topic_state { MODEL_THERE, MODEL_DELETING, MODEL_DELETED };
/* A config that clients change: what was answered for, and what was asked for last. */
struct model_config {
    int64_t value, asked;
};

struct model_topic {
    struct model_topic *next; /* newest first */
    struct meta_uuid id;
    char name[32];
    enum model_topic_state state;
    bool write_caching, log_append_time, comes_and_goes;
    bool retained; /* its logs may begin later by themselves */
    int64_t flush_ms;
    bool found; /* by the audit under way */
    int32_t partitions_n;
    struct model_partition **partitions;
    int32_t partitions_asked;       /* more than partitions_n: asked for, not answered */
    struct model_config tombstones; /* delete.retention.ms */
};

struct model {
    struct model_topic *topics;
    struct model_batch **batches; /* by number */
    uint64_t batches_n, batches_cap;
    uint64_t sent_bytes;
    uint64_t kept_batches; /* acknowledged, in topics from which nothing goes by itself */
    uint64_t acked_batches, acked_records, acked_bytes, seen_batches, audited_batches;
    bool tolerant;
    uint64_t lost_batches; /* pinned ones that damage took */
    uint64_t must_survive; /* soft slots that were old enough at a crash */
    char violation[512];
};

#define MODEL_FIRST_TIMESTAMP_MS INT64_C(1600000000000)
#define MODEL_TIMESTAMP_STEP_MS 10 /* from one batch to the next; a record's is below */

void model_init(struct model *m);
void model_fini(struct model *m);
__attribute__((format(printf, 2, 3))) void model_violation(struct model *m, const char *fmt, ...);
static inline bool model_failed(const struct model *m)
{
    return m->violation[0] != '\0';
}

struct model_topic *model_topic_add(struct model *m, const char *name, const struct meta_uuid *id,
                                    int32_t partitions_n);
struct model_topic *model_topic_by_id(const struct model *m, const struct meta_uuid *id);
/* The newest of that name that is not deleted; NULL. */
struct model_topic *model_topic_by_name(const struct model *m, const char *name);
void model_topic_grow(struct model_topic *t, int32_t partitions_n);

/* A batch about to be built for a partition. */
struct model_batch *model_batch_add(struct model *m, struct model_partition *p);
int64_t model_timestamp(const struct model_batch *b);

/* The broker said that it is there from base_offset on. */
void model_ack(struct model *m, struct model_batch *b, int64_t base_offset, uint64_t now_ns);
/* Whole batches that a fetch from `offset` brought; returns the offset behind them. */
int64_t model_fetched(struct model *m, struct model_partition *p, int64_t offset,
                      const uint8_t *data, uint32_t len, uint64_t now_ns);

/* The broker said that the log begins there. */
void model_started(struct model *m, struct model_partition *p, int64_t start);

/* The broker has ended. clean: nothing may be missing. healthy: no device failed since it started,
 * so what is older than flush.ms (and slack_ns) must be there. */
void model_ended(struct model *m, bool clean, bool healthy, uint64_t now_ns, uint64_t slack_ns);

/* An audit reads a partition from start to end: begin, fetched pieces, end. */
void model_audit_begin(struct model *m, struct model_partition *p, int64_t log_start);
int64_t model_audit_fetched(struct model *m, struct model_partition *p, const uint8_t *data,
                            uint32_t len);
void model_audit_start_moved(struct model *m, struct model_partition *p, int64_t log_start);
void model_audit_end(struct model *m, struct model_partition *p, int64_t end_offset);

/* The slot that holds an offset; NULL. */
const struct model_slot *model_slot_at(const struct model_partition *p, int64_t offset);

#endif
