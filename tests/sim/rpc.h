/* rpc.h: a simulated client's connection: requests out in order, answers decoded and matched.
 * Happy path: rpc_open(); rpc_call() as often as wanted; on_answer gets the response struct of
 *   net/wire/messages.h, lent until it returns.
 * Failure: a lost connection answers every open call with NULL, oldest first, then calls on_closed.
 *   An answer that makes no sense is a violation. rpc_close() forgets all open calls.
 * Threads: one. */
#ifndef TESTS_SIM_RPC_H
#define TESTS_SIM_RPC_H

#include "net/wire/messages.h"
#include "tests/sim/sim.h"

struct rpc;
typedef void (*rpc_fn)(struct rpc *call, const void *response);
struct rpc { /* lent from rpc_call until on_answer, or rpc_close */
    struct list_node node;
    const struct wire_api *api;
    int16_t version;
    int32_t correlation;
    rpc_fn on_answer;
    void *arg;
};

struct rpc_conn {
    struct sim_peer peer;
    struct sim *sim;
    unsigned node;
    struct list_node calls;
    int32_t next_correlation;
    uint8_t *in;
    size_t in_len, in_cap;
    void (*on_closed)(struct rpc_conn *c);
    void *arg;
};

enum {
    API_PRODUCE = 0,
    API_FETCH = 1,
    API_LIST_OFFSETS = 2,
    API_METADATA = 3,
    API_CREATE_TOPICS = 19,
    API_DELETE_TOPICS = 20,
    API_DELETE_RECORDS = 21,
    API_INIT_PRODUCER_ID = 22,
    API_OFFSET_FOR_LEADER_EPOCH = 23,
    API_CREATE_PARTITIONS = 37,
    API_INCREMENTAL_ALTER_CONFIGS = 44,
    API_ALTER_PARTITION_REASSIGNMENTS = 45,
};

void rpc_conn_init(struct rpc_conn *c, struct sim *sim, void (*on_closed)(struct rpc_conn *c),
                   void *arg);
void rpc_open(struct rpc_conn *c, unsigned node); /* closed before */
static inline bool rpc_is_open(const struct rpc_conn *c)
{
    return c->peer.link != NULL;
}
void rpc_close(struct rpc_conn *c);
void rpc_conn_fini(struct rpc_conn *c);

/* on_answer NULL: none will come (acks=0). */
void rpc_call(struct rpc_conn *c, struct rpc *call, int16_t api, int16_t version,
              const void *request, rpc_fn on_answer);

/* Calls and lets the world go on until `take` was given the answer. False: the connection was lost,
 * timeout_ns has passed, the machine has crashed, or there was a violation. */
bool rpc_call_wait(struct rpc_conn *c, int16_t api, int16_t version, const void *request,
                   uint64_t timeout_ns, void (*take)(const void *response, void *arg), void *arg);

#endif
