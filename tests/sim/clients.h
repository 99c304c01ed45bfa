/* clients.h: who uses the broker in a run: producers, consumers, one who makes and deletes topics,
 * one who moves partitions, and the auditor, who reads everything after a start.
 * Happy path: clients_create(); clients_start() when the broker is up and audited, clients_stop()
 *   before it ends or when it has; clients_audit() in between, with nobody else at work.
 * Clients know who leads a partition from the broker's own image; the auditor asks it.
 * Failure: what an answer says and must not is a violation in the model.
 * Threads: one. */
#ifndef TESTS_SIM_CLIENTS_H
#define TESTS_SIM_CLIENTS_H

#include "core/batch/builder.h"
#include "tests/sim/groups.h"
#include "tests/sim/rpc.h"
#include "tests/sim/table.h"

#define PRODUCER_FLIGHTS_MAX 5u
#define CALL_WAIT_NS (UINT64_C(120) * 1000000000)
#define CHURN_NAMES 5u

enum {
    ERROR_NONE = 0,
    ERROR_OFFSET_OUT_OF_RANGE = 1,
    ERROR_UNKNOWN_TOPIC = 3,
    ERROR_LEADER_NOT_AVAILABLE = 5,
    ERROR_NOT_LEADER = 6,
    ERROR_TIMED_OUT = 7,
    ERROR_TOPIC_EXISTS = 36,
    ERROR_OUT_OF_ORDER = 45,
    ERROR_STORAGE = 56,
    ERROR_UNSUPPORTED_COMPRESSION = 76,
    ERROR_NO_REASSIGNMENT = 85,
    ERROR_UNKNOWN_TOPIC_ID = 100,
    ERROR_UNKNOWN_SERVER = -1,
};

#define FETCH_VERSION_ZSTD 10
#define VERSION_TOPIC_ID 13 /* of Produce and Fetch: a name may mean another topic by now */

struct producer;
struct flight { /* a batch that is not acknowledged yet */
    struct rpc call;
    struct producer *producer;
    struct model_batch *batch;
    uint8_t *data;
    uint32_t len;
    bool sent; /* on the present connection */
};

struct producer {
    struct sim *sim;
    struct rpc_conn conn;
    struct sim_timer timer;
    struct model_partition *partition;
    bool roams; /* another topic at each connection */
    int8_t acks;
    bool idempotent, asking;
    enum batch_codec codec;
    int16_t version;
    int64_t id;
    int16_t epoch;
    int32_t next_sequence;
    unsigned in_flight_max, flights_n;
    struct flight *flights[PRODUCER_FLIGHTS_MAX]; /* oldest first */
    uint64_t acked;
    struct rpc id_call;
};

struct consumer {
    struct sim *sim;
    struct rpc_conn conn;
    struct sim_timer timer;
    struct model_partition *partition;
    int64_t offset, visible_at_least;
    const struct model_slot *asked; /* look-up by time */
    int64_t asked_timestamp, expected_offset;
    int64_t start_min, start_max; /* of the partition, when the call was made */
    int64_t delete_offset;
    struct rpc call;
};

struct admin {
    struct sim *sim;
    struct rpc_conn conn;
    struct sim_timer timer;
    struct rpc call;
    struct model_topic *deleting, *growing;
    struct model_config *configuring;
    struct model_config jitter; /* SIM_BROKER_CONFIG, of the cluster */
    unsigned creating;          /* index of a name */
    bool asked[CHURN_NAMES];    /* a topic of that name may have been made */
    struct plan_topic wanted[CHURN_NAMES];
};

struct mover {
    struct sim *sim;
    struct rpc_conn conn;
    struct sim_timer timer;
    struct rpc call;
};

struct hostile {
    struct sim *sim;
    struct sim_peer peer;
    struct sim_timer timer;
    uint8_t batch[200];
    size_t batch_len;
};

struct clients {
    struct producer producers[PLAN_PRODUCERS_MAX];
    struct consumer consumers[PLAN_CONSUMERS_MAX];
    struct admin admin;
    struct mover mover;
    struct hostile hostile;
    struct sim_groups groups;
    struct sim_table table;
    struct rpc_conn auditor;
};

void clients_create(struct sim *sim);
void clients_start(struct sim *sim);
void clients_stop(struct sim *sim); /* connections closed, timers cleared */
void clients_destroy(struct sim *sim);
/* The topics of the plan; false: crashed, or a violation. */
bool clients_make_topics(struct sim *sim);
/* Everything that the broker says is held against the model. False as above. */
bool clients_audit(struct sim *sim);
/* Producers of acks=all have an acknowledgement each, within CALL_WAIT_NS; false as above. */
bool clients_progress(struct sim *sim);

/* ---- shared by them ---- */

/* The node that leads it now; -1: the broker is down, or does not know it. */
int partition_node(const struct sim *sim, const struct model_partition *p);
/* One of those that are there; the plan's always are. */
struct model_topic *some_topic_there(struct sim *sim);
struct wire_uuid wire_uuid_of(const struct meta_uuid *id);
/* A Fetch of one partition; what is not said here is the caller's to set. */
struct fetch_ask {
    struct fetch_request request;
    struct fetch_request_fetch_topic topic;
    struct fetch_request_fetch_partition part;
};
void fetch_ask_make(struct fetch_ask *ask, const struct model_partition *p, int64_t offset);
/* Versions from min to max, but those that this call cannot use. */
int16_t some_version(struct sim *sim, int16_t min, int16_t max);
void topic_configs(const struct plan_topic *t, struct arena *arena,
                   struct create_topics_request_creatable_topic *ret);
struct model_topic *topic_of_plan(struct sim *sim, const char *name, const struct meta_uuid *id,
                                  int32_t partitions_n, const struct plan_topic *plan);

void producer_init(struct producer *p, struct sim *sim, bool first);
void producer_start(struct producer *p);
void producer_stop(struct producer *p);
void producer_fini(struct producer *p);
void consumer_init(struct consumer *c, struct sim *sim);
void consumer_start(struct consumer *c);
void consumer_stop(struct consumer *c);
void admin_init(struct admin *a, struct sim *sim);
void admin_start(struct admin *a);
void admin_stop(struct admin *a);
void mover_init(struct mover *m, struct sim *sim);
void mover_start(struct mover *m);
void mover_stop(struct mover *m);
void hostile_init(struct hostile *h, struct sim *sim);
void hostile_start(struct hostile *h);
void hostile_stop(struct hostile *h);
void churn_name(unsigned i, char ret[32]);

#endif
