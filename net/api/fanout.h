/* fanout.h: from the partitions that a request names to the shards that own them, and back.
 *
 * Happy path: the handler resolves every partition, adds those that this node leads, and starts;
 *   run() is called once on each owning shard with its partitions in request order, says
 *   fanout_group_done() there, now or later, and when all groups are done done() is called on the
 *   request's shard. A group of the request's own shard is called directly, without a message.
 * Failure: an item with an error is not for run() to touch. Nothing here can fail once started.
 * Order: what two requests of one shard send to the same owner runs there in that order.
 * Ownership: items and groups live in the request's arena, lent to the owner from start until the
 *   group is done; the owner allocates nothing in that arena.
 * Threads: as said; the message ring between shards orders the memory. */
#ifndef NET_API_FANOUT_H
#define NET_API_FANOUT_H

#include "core/base/map.h"
#include "net/net.h"

struct fanout_target { /* where a partition is */
    uint64_t number;
    unsigned shard;
    int32_t leader_epoch;
};

/* Kafka error code: 0; 3: no such topic (NULL) or partition, *ret is not set; 6: another node leads
 * it, *ret says which; 56: its data directory is offline. */
int16_t fanout_resolve(const struct shard *s, const struct meta_topic *topic, int32_t index,
                       struct fanout_target *ret);

/* KIP-320: 0, 74 or 75. asked -1: the client does not know. */
int16_t fanout_check_epoch(int32_t asked, int32_t current);

struct fanout_item {          /* embedded in the API's own item */
    struct fanout_item *next; /* of the same group */
    struct fanout_target target;
    int16_t error;
};

struct fanout;
struct fanout_group {
    struct env_msg msg;
    struct fanout *fanout;
    unsigned shard_index;
    struct shard *owner; /* set when run() is called */
    struct fanout_item *first, **tail;
    unsigned pending; /* run()'s own: items that are not finished */
};

struct fanout {
    struct request *r;
    void (*run)(struct fanout_group *g);
    void (*done)(struct fanout *f);
    unsigned pending;             /* groups */
    struct fanout_group **groups; /* by shard of this node; NULL: nothing for it */
    unsigned first_shard, groups_n;
    struct map seen; /* partition number -> item, while items are added */
    bool find_twice;
};

/* -ENOMEM: nothing to undo. items_n: how many will be added at most. */
int fanout_init(struct fanout *f, struct request *r, uint32_t items_n);
/* item->target is resolved and led by this node. A partition that is added twice gets `twice` as
 * the error of all its items. -ENOMEM: fanout_abort. */
int fanout_add(struct fanout *f, struct fanout_item *item, int16_t twice);
void fanout_abort(struct fanout *f);
void fanout_start(struct fanout *f, void (*run)(struct fanout_group *g),
                  void (*done)(struct fanout *f));
/* The end of a handler: fanout_start() if all is ready, else the request fails for want of memory,
 * whatever of f there is (NULL: nothing). */
void fanout_handle(struct request *r, struct fanout *f, bool is_ready,
                   void (*run)(struct fanout_group *g), void (*done)(struct fanout *f));
/* On the owner: its items are finished, their memory is the front's again. */
void fanout_group_done(struct fanout_group *g);

/* The nodes that errors of one response point to (KIP-951). */
struct fanout_nodes {
    bool named[BROKER_SHARDS_MAX];
    unsigned n;
};
/* Node id of the shard, which is noted. */
int32_t fanout_nodes_add(struct fanout_nodes *nodes, const struct shard *s, unsigned shard);

#endif
