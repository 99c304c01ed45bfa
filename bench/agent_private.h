/* agent_private.h: the conversation with one conductor, behind agent.h.
 * Threads: session_serve() on the session's own; agents_link_shut(&s->link) ends it from another.
 */
#ifndef BENCH_AGENT_PRIVATE_H
#define BENCH_AGENT_PRIVATE_H

#include "bench/agents_link.h"

struct session {
    struct agents_link link;
    struct agents_start start; /* of the run under way */
    uint64_t came_ns[LOADER_END + 1];
    int stage;
    struct crew *crew;
    struct load_stats scratch;
    struct crew_state told; /* what the conductor knows */
    int told_stage;
    uint64_t told_ns;
};

/* 0: a conductor that we understand. */
int session_greet(struct session *s);
/* Run after run, until the link ends: why. */
int session_serve(struct session *s);

#endif
