/* agents.h: the agents of a conductor: other processes, on this or other hosts, which carry the
 * load of its runs (penstock bench agent).
 * Happy path: agents_open() once a command, so that one that is not there is seen before anything
 *   is measured; each run's crew uses them; agents_close().
 * Failure: -errno, with a line in reason that names the agent.
 * Threads: one. */
#ifndef BENCH_AGENTS_H
#define BENCH_AGENTS_H

#include <stddef.h>

#include "bench/agents_link.h"

struct agents {
    struct agent_peer {
        struct agents_link link; /* fd -1: a run has failed; connected again by the next */
        char *name;              /* HOST:PORT */
        char machine[AGENTS_MACHINE_BYTES];
    } * peers;
    unsigned n;
};

/* list: HOST:PORT[,HOST:PORT...] */
int agents_open(const char *list, struct agents **ret, char *reason, size_t reason_size);
void agents_close(struct agents *a); /* NULL is nothing */
/* Connects again to those that were lost. */
int agents_connect(struct agents *a, char *reason, size_t reason_size);
unsigned agents_count(const struct agents *a);

#endif
