/* serve_run.h: the shard threads of a broker, from start to stop.
 *
 * Happy path: each shard's thread pins itself, maps its memory, makes its environment; shard 0
 *   brings the metadata up to date; all open their journals and attach their partitions; all
 *   listen; the main thread says `penstock ready` and sleeps until a signal. Then: no new
 *   connections, open requests finish (bounded), stores are closed, and shard 0 writes down that
 *   the stop was clean.
 * Failure: whatever cannot start ends all; one line on stderr names it. What does not finish at
 *   stop leaves the directories as a crash would: the next start recovers.
 * Threads: serve_run on the main thread; it blocks SIGTERM and SIGINT for all. */
#ifndef TOOLS_SERVE_RUN_H
#define TOOLS_SERVE_RUN_H

#include "core/shard/shard.h"
#include "io/probe.h"
#include "numa/placement.h"
#include "tools/serve_dirs.h"

struct serve_setup { /* borrowed until serve_run returns */
    struct broker broker;
    const struct placement *placement;
    const struct io_features *features;
    unsigned busy_poll_us, flush_poll_us;
    struct serve_dirs dirs;
    int listen_socks[BROKER_SHARDS_MAX]; /* one a node */
    int metrics_sock;                    /* listens for metrics_http; -1: no metrics */
    const char *ready_host;              /* what the ready line names */
    uint16_t ready_port;
};

/* Returns the exit code. */
int serve_run(struct serve_setup *setup);

#endif
