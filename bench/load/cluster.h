/* cluster.h: what a client knows of the brokers: their addresses, the API versions they speak, and
 * who leads which partition of the one topic under load.
 * Happy path: cluster_open(), cluster_topic_make() or cluster_topic_find(); cluster_refresh() when
 * a leader has moved. Failure: the blocking calls return -errno with one line in `reason`; a Kafka
 * error is -EPROTO with its number in the line. cluster_refresh() tries again until it has an
 * answer. Threads: one; each load thread has a cluster of its own. */
#ifndef BENCH_LOAD_CLUSTER_H
#define BENCH_LOAD_CLUSTER_H

#include <stdbool.h>
#include <stdint.h>

#include "bench/load/rpc.h"
#include "core/base/arena.h"

struct workload;

#define CLUSTER_NODES_MAX 256
#define CLUSTER_APIS_MAX 128 /* keys below are looked at */
#define CLUSTER_NO_LEADER (-1)

struct cluster_node {
    int32_t id;
    uint16_t port;
    char host[256];
    struct sock_addr addr;
};

struct cluster {
    struct env *env;
    uint64_t timeout_ns; /* of each blocking step */
    struct cluster_node nodes[CLUSTER_NODES_MAX];
    unsigned nodes_n;
    char cluster_id[64];
    char topic[256];
    int16_t api_max[CLUSTER_APIS_MAX]; /* the version to use; -1: not spoken */
    int32_t partitions_n;
    int16_t *leaders;    /* by partition: index of the node, or CLUSTER_NO_LEADER */
    uint64_t generation; /* raised when leaders were read anew */
    char reason[640];
    struct rpc_conn conn; /* private: to the bootstrap address, or the node last asked */
    struct arena arena;
    struct wire_writer writer;
    struct rpc rpc;
    struct iovec iov[8];
    bool waiting, refreshing, refresh_wanted;
    uint64_t refresh_at_ns;
    int rc;
    uint8_t *body;
    uint32_t body_len;
    int32_t correlation;
};

/* bootstrap: HOST:PORT[,HOST:PORT]...; the first that answers. Blocks, turning env. */
int cluster_open(struct cluster *c, struct env *env, const char *bootstrap, uint64_t timeout_ns);
void cluster_close(struct cluster *c);

/* The newest version that both sides speak, below or at most; -1: none. */
int16_t cluster_version(const struct cluster *c, int16_t api_key, int16_t most);

/* Delete the topic if it is there, make it as the workload says, wait until every partition has a
 * leader. With topic.reuse a topic that is there is taken as it is. */
int cluster_topic_make(struct cluster *c, const struct workload *w);
/* The topic must be there. */
int cluster_topic_find(struct cluster *c, const char *topic);
/* Offsets of all partitions: the log end, or its start. offsets has partitions_n places. */
int cluster_offsets(struct cluster *c, bool end, int64_t *offsets);
/* A producer id for idempotent producing. */
int cluster_producer_id(struct cluster *c, int64_t *ret_id, int16_t *ret_epoch);

/* Read the leaders anew without blocking; at most ten times a second. */
void cluster_refresh(struct cluster *c);
/* Called each turn. Returns when it wants to be called again. */
uint64_t cluster_pump(struct cluster *c, uint64_t now_ns);

#endif
