/* crew.h: those who carry a run's load, as one: threads of this process, or agents elsewhere.
 * Happy path: crew_start() until all are connected; crew_stage() through the stages; crew_take()
 * each second; after LOADER_END crew_finish(), which verifies and gathers; crew_fini(). Failure:
 * crew_start returns -errno and the first reason. A member that fails later shows in crew_take() as
 * an error. Threads: one conducts. */
#ifndef BENCH_CREW_H
#define BENCH_CREW_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bench/load/driver.h"

struct agents;

struct crew_config {
    struct loader_config load; /* part, parts, stage, on_interval and arg are the crew's to set */
    unsigned part_first;       /* of this process's threads among all parts */
    unsigned parts;            /* 0: as many as there are threads here */
    struct agents *agents;     /* NULL: the load is carried by this process */
};

struct crew_member {
    pthread_t thread;
    struct crew *crew;
    unsigned index;
    const struct load_driver_ops *ops;
    void *driver;
    int rc;
    char reason[640];
    enum { MEMBER_STARTING, MEMBER_READY, MEMBER_FAILED, MEMBER_ENDED } state; /* under the lock */
};

/* What the members tell while they work. */
struct crew_state {
    int stage; /* that all have seen; the figures are not older */
    uint64_t unfinished, acked, consumed_new;
    bool consumers_done, late_done; /* of all that have such consumers */
};

struct crew {
    struct crew_config config;
    struct crew_member *members;
    unsigned members_n;
    atomic_int stage;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct load_stats pending; /* under the lock: intervals since crew_take() */
    bool pending_any, release; /* under the lock */
};

struct crew_outcome { /* merged over all members */
    struct load_stats windows[LOAD_WINDOWS_MAX];
    unsigned windows_n;
    struct load_counts total; /* since the start, the drain included */
    struct verify_log verify, late_verify;
    int16_t error_code;
    int connection_rc;
    uint64_t unfinished;
};

int crew_start(struct crew *c, const struct crew_config *config, char *reason, size_t reason_size);
void crew_stage(struct crew *c, int stage);
/* Adds what has ended since the last call; false: nothing has. */
bool crew_take(struct crew *c, struct load_stats *to);
void crew_state(struct crew *c, struct crew_state *ret);
/* After LOADER_END: waits for the members, verifies. ret is to be ended by crew_outcome_fini(). */
int crew_finish(struct crew *c, struct crew_outcome *ret);
void crew_fini(struct crew *c);

int crew_outcome_init(struct crew_outcome *o);
void crew_outcome_fini(struct crew_outcome *o);
void crew_outcome_merge(struct crew_outcome *to, const struct load_outcome *from);

#endif
