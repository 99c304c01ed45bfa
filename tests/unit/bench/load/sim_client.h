/* sim_client.h: a small Kafka client for tests on net_sim.h: it sends what it is told to, in frames
 * of the wire tables, and keeps every answer with the time at which it came.
 * Failure: a failed criterion assertion. Answers have to come in the order of the requests.
 * Threads: one. */
#ifndef TESTS_UNIT_BENCH_LOAD_SIM_CLIENT_H
#define TESTS_UNIT_BENCH_LOAD_SIM_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/arena.h"
#include "core/batch/batch.h"
#include "io/env.h"
#include "net/wire/messages.h"
#include "tests/lib/net_sim.h"

enum { CLIENT_REQUESTS_MAX = 512, CLIENT_PORT = 9092, CLIENT_VALUES_MAX = 64 };
enum { PRODUCE = 0, FETCH = 1, LIST_OFFSETS = 2, METADATA = 3, API_VERSIONS = 18 };
#define TOPIC "t"

struct client_request {
    const struct wire_api *api;
    int version;
    uint64_t sent_ns;
    uint64_t answered_ns; /* 0: not yet */
    uint8_t *frame;       /* the answer without its length */
    uint32_t frame_len;
    void *body; /* decoded, in the client's arena */
};

struct client {
    struct env *env;
    int sock;
    bool closed; /* by the server */
    struct client_request requests[CLIENT_REQUESTS_MAX];
    int sent_n, answered_n; /* answered: all before that index, lost ones included */
    struct env_op connect_op, recv_op;
    uint8_t buf[4096];
    uint8_t *in;
    size_t in_len;
    struct arena arena;
    int sends_lent;
    int lost; /* index of a request that is not answered; -1: none */
};

/* Connects, and creates TOPIC by asking for it. */
void client_open(struct client *c, struct env *env);
void client_close(struct client *c);
/* The index of the request. */
int client_send(struct client *c, int16_t key, int version, const void *msg, bool answered);
int client_produce(struct client *c, const char *const *values, int n, enum batch_codec codec,
                   int16_t acks);
int client_produce_numbers(struct client *c, int first, int n); /* "first", "first + 1", .. */
int client_fetch(struct client *c, int64_t offset, int32_t max_wait_ms, int32_t min_bytes);
/* Turn until it is answered, and return the decoded body. */
void *client_await(struct client *c, int index);
void client_run(struct client *c, uint64_t until_ns); /* turn until then */

struct client_records {
    int n;
    int64_t offsets[CLIENT_VALUES_MAX];
    char values[CLIENT_VALUES_MAX][64];
};
/* The records of the answer to a Fetch of one partition, checked for their CRC. */
void client_records(const struct fetch_response *res, struct client_records *ret);

#endif
