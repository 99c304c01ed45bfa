/* shard.h: one shard: a pinned thread with its ring, memory, partitions, connections and timers.
 *
 * Happy path: a turn = callbacks of what completed -> due timers -> pump of the log store -> submit
 *   and sleep. Work for another shard travels as a message that carries its own function; the
 *   answer is the same message sent back. Metadata changes go to shard 0, the controller, and are
 *   answered when every shard has applied them.
 * Threads: everything here runs on the shard's own thread unless it says otherwise. */
#ifndef CORE_SHARD_SHARD_H
#define CORE_SHARD_SHARD_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/buddy.h"
#include "core/log/log.h"
#include "core/meta/meta.h"
#include "core/meta/meta_log.h"
#include "core/shard/broker_config.h"
#include "io/env.h"

enum advertise_mode { ADVERTISE_SHARD, ADVERTISE_NUMA, ADVERTISE_HOST };

#define BROKER_SHARDS_MAX 256
struct broker_node { /* what clients see as one Kafka node */
    int32_t node_id;
    char host[256];
    uint16_t port;
    unsigned first_shard, shards_n; /* consecutive */
};

/* How replies leave: auto chooses, the others are forced. */
enum egress_mode { EGRESS_AUTO, EGRESS_SEND, EGRESS_SEND_ZC, EGRESS_SPLICE };

/* From how many bytes on auto takes which way, on connections that stay on this machine and on
 * others. */
#define EGRESS_NEVER UINT32_MAX
struct egress_limits {
    uint32_t zc_bytes;     /* what lies in memory: not copied; 0: as nothing was measured */
    uint32_t splice_bytes; /* sealed segments: not read, either; 0: never */
};
enum egress_link { EGRESS_LOCAL, EGRESS_REMOTE, EGRESS_LINKS };

struct broker_groups {                      /* of consumers: core/group */
    int64_t initial_delay_ms;               /* group.initial.rebalance.delay.ms */
    int64_t session_min_ms, session_max_ms; /* group.min/max.session.timeout.ms */
    int64_t size_max;                       /* group.max.size */
    int64_t metadata_bytes_max;             /* offset.metadata.max.bytes */
    int64_t offsets_retention_ms;           /* offsets.retention.minutes */
    int64_t retention_check_ms;             /* offsets.retention.check.interval.ms */
    int32_t partitions_n;                   /* offsets.topic.num.partitions */
    int64_t segment_bytes;                  /* offsets.topic.segment.bytes */
};

/* Read-only once shards run. */
struct broker {
    enum advertise_mode advertise;
    unsigned shards_n, nodes_n;
    struct broker_node nodes[BROKER_SHARDS_MAX];
    unsigned node_of_shard[BROKER_SHARDS_MAX];
    struct log_config log; /* memory pointers are set per shard */
    struct topic_config topic_defaults;
    const struct broker_config_key *config_keys; /* sorted by name */
    unsigned config_keys_n;
    const char *rack;           /* NULL: none */
    int32_t default_partitions; /* num.partitions */
    bool auto_create_topics, delete_topics_enabled, refuse_replication;
    uint32_t request_bytes_max;      /* socket.request.max.bytes */
    uint32_t fetch_bytes_max;        /* fetch.max.bytes */
    uint32_t connections_max;        /* per broker; per shard its share */
    uint32_t connections_possible;   /* more than that have no files */
    uint32_t requests_in_flight_max; /* per connection */
    uint64_t connection_idle_ms;     /* connections.max.idle.ms */
    unsigned fetch_sessions_max;     /* per shard */
    struct broker_groups groups;
    enum egress_mode egress;
    struct egress_limits egress_limits[EGRESS_LINKS];
};

struct shard_timer {
    uint64_t deadline_ns;
    size_t heap_at; /* private: 1-based place in the heap, 0: not set */
    void (*run)(struct shard_timer *t);
};

struct meta_change;
struct shard {
    struct env *env;
    unsigned index;
    const struct broker *broker;
    const struct meta_image *meta; /* newest applied */
    struct log_store *logs;
    struct log_config log_config;
    struct shard_dir_wake { /* private: ends another shard's sleep when a data directory fails */
        struct env_msg msg;
        _Atomic bool posted;
    } dir_wakes[BROKER_SHARDS_MAX]; /* here: one may be under way when this shard is gone */
    struct buddy log_memory;        /* partition buffers */
    size_t log_opened_bytes;        /* of log_memory: used before the first record came */
    size_t log_present_bytes;       /* of it, from its start: present, or on its way */
    struct buddy net_memory;        /* request buffers */
    struct buddy read_memory;       /* disk reads: they go on when requests wait for memory */
    void *net;                      /* the network layer's own state */
    struct shard_timer **timers;    /* private: binary heap, 1-based */
    size_t timers_n, timers_cap;
    bool stopping;
    struct controller *controller; /* shard 0 only */
    /* Set by the network layer: called after a new image was applied (topics came or went; gone:
     * the one that is not in it any more, or NULL), and at the end of every turn (to send what the
     * turn produced). */
    void (*on_meta)(struct shard *s, const struct meta_topic *gone);
    void (*on_turn)(struct shard *s);
    /* producer ids of this shard's block, see shard_producer_id */
    int64_t producer_id_next, producer_id_end;
    struct producer_ids *producer_ids; /* private: who waits for the next block */
};

void shard_timer_set(struct shard *, struct shard_timer *, uint64_t deadline_ns,
                     void (*run)(struct shard_timer *t));
void shard_timer_clear(struct shard *, struct shard_timer *); /* not set: nothing */

/* A partition whose data directory has failed, or was not there at start, is offline. */
static inline bool shard_partition_offline(const struct shard *s, const struct meta_partition *p)
{
    return (log_store_dirs_offline(s->logs) >> p->dir & 1) != 0;
}

/* Owner of a partition, and whether the node that this shard belongs to leads it. */
const struct broker_node *broker_node_by_id(const struct broker *, int32_t node_id); /* or NULL */

static inline bool shard_same_node(const struct shard *s, unsigned other)
{
    return s->broker->node_of_shard[s->index] == s->broker->node_of_shard[other];
}

/* ---- metadata changes: any shard asks, shard 0 decides ---- */

enum meta_change_kind {
    CHANGE_TOPIC_CREATE,   /* name, partitions_n, leaders or NULL, configs */
    CHANGE_TOPIC_DELETE,   /* id */
    CHANGE_PARTITIONS_ADD, /* name, partitions_n = new total, leaders (of the new ones) or NULL */
    CHANGE_PRODUCER_IDS,   /* a block: out value = first id, CHANGE_PRODUCER_ID_BLOCK of them */
    CHANGE_TOPIC_CONFIG, /* id, configs: the whole new set; made_at: of the topic it is made from */
    CHANGE_BROKER_CONFIG,  /* value: enum meta_layer; configs, made_at: of the layer */
    CHANGE_PARTITION_MOVE, /* id, partitions_n: index, value: the shard, parcel; of moves.c alone */
};
#define CHANGE_PRODUCER_ID_BLOCK 1000

typedef void (*meta_change_fn)(struct meta_change *c);
struct meta_change { /* lent from shard_meta_change until on_done, with all that it points to */
    enum meta_change_kind kind;
    const char *name;
    struct meta_uuid id; /* in: delete; out: create */
    int32_t partitions_n;
    const int32_t *leaders; /* node ids, one a partition; NULL: the controller spreads them */
    unsigned configs_n;
    struct meta_config_entry *configs;
    int64_t value;
    uint64_t made_at;
    const struct move_parcel *parcel;
    int rc;                 /* out: 0; -EEXIST, -ENOENT; -EINVAL: illegal name; -ENOTUNIQ: differs
                             * from another name only in '.' and '_'; -EDOM: bad number of
                             * partitions; -ENXIO: leaders names no node; -ESTALE: there is a newer
                             * one than made_at says; -ENOMEM; -EIO */
    meta_change_fn on_done; /* on the asking shard, which has applied the change by then */
    struct env_msg msg;     /* private from here on */
    struct controller *controller;
    unsigned asker;
    unsigned acks_missing;
    struct meta_append append;
    struct meta_record record;
    struct meta_image *image;
    struct list_node link;
};
void shard_meta_change(struct shard *, struct meta_change *c, meta_change_fn on_done);

/* ---- partitions move: any shard asks, shard 0 sees to it ---- */

struct shard_move {
    struct meta_uuid topic;
    int32_t index;
    int32_t node; /* id; asking: -1: it stays where it is */
    int32_t from; /* listed: the node that it comes from */
    int rc;       /* out, of asking: 0: is under way, or not needed; -ENOENT; -ENXIO: no such node;
                   * -ENODATA:       nothing to take back; -ENOMEM; -EAGAIN: the broker stops */
};
struct shard_moves;
typedef void (*shard_moves_fn)(struct shard_moves *call);
struct shard_moves {          /* lent until on_done, on the asking shard */
    struct shard_move *moves; /* in; listed: out, the caller's (free); NULL: no memory */
    uint32_t moves_n;
    shard_moves_fn on_done;
    struct env_msg msg; /* private from here on */
    unsigned asker;
};
/* A partition that is under way already changes its course. */
void shard_moves_ask(struct shard *, struct shard_moves *call, shard_moves_fn on_done);
void shard_moves_list(struct shard *, struct shard_moves *call, shard_moves_fn on_done);
/* This shard stops: what is under way ends or is taken back, which needs turns of all shards. */
void shard_moves_stop(struct shard *);
bool shard_moves_settled(const struct shard *);

/* Next producer id; 1 and *ret, or 0: on_done will be called when ids have arrived (then ask
 * again). The waiter is private memory lent until then. */
struct producer_id_waiter {
    struct list_node link;
    void (*on_done)(struct producer_id_waiter *w, int rc);
};
int shard_producer_id(struct shard *, struct producer_id_waiter *w, int64_t *ret);

/* ---- life ---- */

/* Makes timers and memory (three buddies inside `memory`, borrowed), opens the store, attaches the
 * partitions that `meta` gives to this shard. Blocking. */
int shard_init(struct shard *, struct env *env, const struct broker *broker, void *memory,
               size_t memory_bytes, const struct meta_image *meta, char *reason,
               size_t reason_size);
/* Shard 0 also takes the metadata log (owned by the caller until shard_fini). */
int shard_init_controller(struct shard *, struct meta_log *log, struct meta_image *image);
/* The newest image, the caller's again. No change may be under way (all shards have stopped). */
struct meta_image *shard_fini_controller(struct shard *);
/* One turn: callbacks, timers, pump. */
void shard_turn(struct shard *);
/* Closes the store; connections are already gone. 0 or the first error. */
int shard_fini(struct shard *);
/* As shard_fini where the store cannot be closed cleanly (work is still open): as a crash. */
void shard_abandon(struct shard *);

#endif
