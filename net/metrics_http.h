/* metrics_http.h: the metrics over HTTP: /metrics, /metrics.json, /healthz.
 *
 * Happy path: metrics_http_start() on a listening socket makes one thread, which sleeps until it is
 *   asked; an answer is a copy of all counters, written by that thread: shards never notice.
 * Failure: a request that is not a GET or HEAD of a known path gets 405 or 404; a malformed or
 *   oversized one what libmicrohttpd says; connections are few, each with a bounded memory and a
 *   timeout. /healthz is 503 when a shard's journal has failed.
 * Ownership: the socket is taken; the shards are borrowed until metrics_http_stop().
 * Threads: start and stop on one thread, while all shards listen and none has begun to stop. */
#ifndef NET_METRICS_HTTP_H
#define NET_METRICS_HTTP_H

#include "core/shard/shard.h"

struct metrics_http;
struct metrics_http_config {
    int sock;
    const struct shard *const *shards;
    unsigned shards_n;
    const char *version;
};

/* 0 or -errno; then nobody uses the socket any more. */
int metrics_http_start(const struct metrics_http_config *config, struct metrics_http **ret);
void metrics_http_stop(struct metrics_http *); /* NULL: nothing */

#endif
