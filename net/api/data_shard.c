#include "net/api/data_shard.h"

#include <stdlib.h>

#include "core/base/assert.h"
#include "net/api/fetch_session.h"

/* Sessions of one shard may remember so many topics and partitions in all, about 100 bytes each. */
#define SESSION_UNITS_MAX (256u << 10)

/* Every shard touches its own slot only. */
static struct data_shard *slots[BROKER_SHARDS_MAX];

struct data_shard *data_shard_of(struct shard *s)
{
    struct data_shard *d = slots[s->index];
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
    map_init(&d->fetches);
    slots[s->index] = d;
    return d;
}

void data_shard_fini(struct shard *s)
{
    struct data_shard *d = slots[s->index];
    if (d == NULL)
        return;
    ASSERT(list_empty(&d->appends_waiting));
    ASSERT(d->fetches.count == 0);
    map_fini(&d->fetches);
    fetch_sessions_destroy(d->sessions);
    free(d);
    slots[s->index] = NULL;
}
