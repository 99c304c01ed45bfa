#include "bench/load/time_queue.h"

#include <stdlib.h>

#include "core/base/bytes.h"

static bool grow(struct time_queue *q)
{
    size_t cap = MAX((size_t)64, q->cap * 2);
    uint64_t *at = calloc(cap, sizeof(*at));
    if (at == NULL)
        return false;
    for (size_t i = 0; i < q->n; i++)
        at[i] = q->at[(q->head + i) % q->cap];
    free(q->at);
    *q = (struct time_queue){.at = at, .n = q->n, .cap = cap};
    return true;
}

bool time_queue_push(struct time_queue *q, uint64_t time_ns)
{
    if (q->n == q->cap && !grow(q))
        return false;
    q->at[(q->head + q->n++) % q->cap] = time_ns;
    return true;
}

void time_queue_fini(struct time_queue *q)
{
    free(q->at);
    *q = (struct time_queue){0};
}
