#include "net/api/data_shard.h"

#include <stdlib.h>

#include "core/base/assert.h"
#include "net/api/fetch_session.h"
#include "net/conn.h"

/* Sessions of one shard may remember so many topics and partitions in all, about 100 bytes each. */
#define SESSION_UNITS_MAX (256u << 10)

struct data_shard *data_shard_of(struct shard *s)
{
    struct net *net = s->net;
    struct data_shard *d = net->data;
    if (d != NULL)
        return d;
    d = calloc(1, sizeof(*d));
    if (d == NULL)
        return NULL;
    d->sessions = fetch_sessions_create(s->index, s->broker->fetch_sessions_max, SESSION_UNITS_MAX);
    if (d->sessions == NULL) {
        free(d);
        return NULL;
    }
    d->shard = s;
    list_init(&d->appends_waiting);
    list_init(&d->appends_leaving);
    list_init(&d->packing);
    map_init(&d->fetches);
    net->data = d;
    return d;
}

void data_shard_fini(struct shard *s)
{
    struct net *net = s->net;
    struct data_shard *d = net->data;
    if (d == NULL)
        return;
    ASSERT(list_empty(&d->appends_waiting));
    ASSERT(list_empty(&d->appends_leaving));
    ASSERT(list_empty(&d->packing));
    shard_timer_clear(s, &d->leaving_timer);
    ASSERT(d->fetches.count == 0);
    map_fini(&d->fetches);
    fetch_sessions_destroy(d->sessions);
    free(d);
    net->data = NULL;
}
