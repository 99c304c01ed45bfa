/* crew.h: those who carry a run's load, as one: threads of this process, or agents elsewhere.
 * Happy path: crew_start() until all are connected; crew_stage() through the stages; crew_take()
 * each second; after LOADER_END crew_finish(), which verifies and gathers; crew_fini().
 * Failure: crew_start and crew_finish return -errno with the first reason. A member that fails in
 *   between shows in crew_check(); the run is then lost, and crew_fini() ends what goes on.
 * Time: all times are of this process's CLOCK_MONOTONIC. An agent's are durations since a stage
 *   came to it, put behind the moment at which that stage was sent to it: late by the way there,
 *   half a round trip on most networks. Clocks of two hosts are never compared.
 * Threads: one conducts. */
#ifndef BENCH_CREW_H
#define BENCH_CREW_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bench/load/driver.h"

struct agents;
struct crew_ops;
struct json_object;

struct crew_config {
    struct loader_config load; /* part, parts, stage, on_interval and arg are the crew's to set */
    unsigned part_first;   /* threads here are this part, and each part_step-th from it on ... */
    unsigned part_step;    /* 0: each */
    unsigned parts;        /* ... of so many; 0: as many as crew_parts() */
    struct agents *agents; /* NULL: the load is carried by this process */
};

/* What the members tell while they work. */
struct crew_state {
    uint64_t unfinished; /* not 0 as long as a member has not seen the stage set last */
    uint64_t acked, consumed_new;
    bool consumers_done, late_done; /* of all that have such consumers */
};

struct crew { /* fields are private to crew*.c, but for reason */
    const struct crew_ops *ops;
    void *self;
    struct crew_config config;
    pthread_mutex_t lock;
    struct load_stats pending; /* under the lock: intervals since crew_take() */
    bool pending_any;          /* under the lock */
    int rc;                    /* the first failure since the start */
    char reason[640];          /* of it */
};

struct crew_outcome { /* merged over all members */
    struct load_stats windows[LOAD_WINDOWS_MAX];
    unsigned windows_n;
    struct load_counts total; /* since the start, the drain included */
    struct verify_log verify, late_verify;
    int16_t error_code;
    int connection_rc;
    uint64_t unfinished;
    struct json_object
        *agents; /* each agent with its machine and its share; NULL: there are none */
};

/* Load threads over all of the crew. */
unsigned crew_parts(const struct crew_config *config);

int crew_start(struct crew *c, const struct crew_config *config, char *reason, size_t reason_size);
void crew_stage(struct crew *c, int stage);
/* Adds what has ended since the last call; false: nothing has. */
bool crew_take(struct crew *c, struct load_stats *to);
void crew_state(struct crew *c, struct crew_state *ret);
/* 0, or -errno once a member has failed: c->reason says which and why. */
int crew_check(struct crew *c);
/* After LOADER_END: waits for the members, verifies. ret is to be ended by crew_outcome_fini(). */
int crew_finish(struct crew *c, struct crew_outcome *ret);
void crew_fini(struct crew *c);

int crew_outcome_init(struct crew_outcome *o);
void crew_outcome_fini(struct crew_outcome *o);
void crew_outcome_merge(struct crew_outcome *to, const struct load_outcome *from);

#endif
