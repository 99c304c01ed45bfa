/* group_shard.h: between the requests about consumer groups and the coordinators of the shards.
 *
 * Happy path: a handler adds the groups that a request names; each is taken to the shard that
 *   coordinates it (fanout), where run() puts the coordinator's call; when that is done the handler
 *   fills the group's part of the answer and says group_item_done(); when all are, reply() runs on
 *   the request's shard.
 * Failure: a group that is not on this node has an error and is not run. A failed item: no memory.
 * Cancel: who waits for other members (JoinGroup, SyncGroup) is told of a client that went away by
 *   a message that comes back before the answer leaves, so that nothing is used after it is free.
 * Ownership: the request and all of it is lent to the owner while it runs an item; what it makes is
 *   in the item's own arena, which is freed behind the reply.
 * Threads: run() and what it starts: the owner's; the rest: the request's. */
#ifndef NET_API_GROUP_SHARD_H
#define NET_API_GROUP_SHARD_H

#include "core/group/group.h"
#include "net/api/fanout.h"

struct group_call;

struct group_item {          /* embedded in the API's own */
    struct fanout_item fan;  /* error: a Kafka error code, of the group as a whole */
    struct group_item *next; /* of the call */
    struct group_call *call;
    struct fanout_group *at;
    struct arena arena;
    bool done;   /* the owner's */
    bool failed; /* no memory for the answer */
};

struct group_call {
    struct fanout fan;
    void (*run)(struct group_item *item, struct group_coord *c);
    void (*reply)(struct group_call *call);
    void (*cancel)(struct group_item *item); /* on the owner; NULL: it does not wait long */
    struct group_item *first, **tail;
    uint32_t items_n;
    bool cancelling, finished;
    struct env_msg cancel_msg;
};

/* -ENOMEM: fail the request. items_max: how many will be added. */
int group_call_init(struct group_call *call, struct request *r, uint32_t items_max);
/* group: which coordinator. -ENOMEM: group_call_abort. */
int group_call_add(struct group_call *call, struct group_item *item, struct wire_str group);
/* For a shard of this node whatever groups it has. */
int group_call_add_shard(struct group_call *call, struct group_item *item, unsigned shard);
void group_call_abort(struct group_call *call);
void group_call_start(struct group_call *call);
void group_item_done(struct group_item *item);
/* For requests of one group: all of the above. */
void group_call_one(struct group_call *call, struct request *r, struct group_item *item,
                    struct wire_str group);

int16_t group_error_code(enum group_error error);

static inline struct group_str group_str_of(struct wire_str s)
{
    return (struct group_str){s.p, s.len};
}
static inline struct group_blob group_blob_of(struct wire_bytes b)
{
    return (struct group_blob){b.p, b.len};
}
/* What a coordinator has, for the answer; null becomes the item's failure when it is memory. */
struct wire_str group_told(struct group_item *item, struct group_str s);
struct wire_bytes group_told_bytes(struct group_item *item, struct group_blob b);
/* "/1.2.3.4", as Kafka shows it. */
struct group_str group_client_host(struct request *r);

/* The topic's creation, with its own number of partitions and configuration; lent by the change. */
void group_topic_change(struct request *r, struct meta_change *change);

/* ---- of a shard ---- */

int group_shard_init(struct shard *s);
void group_shard_meta(struct shard *s, const struct meta_topic *gone); /* as shard.on_meta */
void group_shard_stop(struct shard *s);
bool group_shard_stopped(const struct shard *s);
void group_shard_fini(struct shard *s);

#endif
