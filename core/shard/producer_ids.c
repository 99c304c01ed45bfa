#include "core/shard/producer_ids.h"

#include <errno.h>
#include <stdlib.h>

struct producer_ids {
    struct shard *shard;
    struct list_node waiting; /* struct producer_id_waiter */
    struct meta_change change;
    bool asked;
};

int producer_ids_init(struct shard *s)
{
    struct producer_ids *ids = calloc(1, sizeof(*ids));
    if (ids == NULL)
        return -ENOMEM;
    ids->shard = s;
    list_init(&ids->waiting);
    s->producer_ids = ids;
    return 0;
}

void producer_ids_fini(struct shard *s)
{
    free(s->producer_ids);
    s->producer_ids = NULL;
}

static void on_block(struct meta_change *change)
{
    struct producer_ids *ids = container_of(change, struct producer_ids, change);
    struct shard *s = ids->shard;
    int rc = change->rc;
    ids->asked = false;
    if (rc == 0) {
        s->producer_id_next = change->value;
        s->producer_id_end = change->value + CHANGE_PRODUCER_ID_BLOCK;
    }
    struct list_node woken; /* a waiter may ask, and so wait, again */
    list_init(&woken);
    list_splice_tail(&woken, &ids->waiting);
    for (struct list_node *node; (node = list_pop_head(&woken)) != NULL;) {
        struct producer_id_waiter *w = container_of(node, struct producer_id_waiter, link);
        w->on_done(w, rc);
    }
}

int shard_producer_id(struct shard *s, struct producer_id_waiter *w, int64_t *ret)
{
    if (s->producer_id_next < s->producer_id_end) {
        *ret = s->producer_id_next++;
        return 1;
    }
    struct producer_ids *ids = s->producer_ids;
    list_push_tail(&ids->waiting, &w->link);
    if (!ids->asked) {
        ids->asked = true;
        ids->change = (struct meta_change){.kind = CHANGE_PRODUCER_IDS};
        shard_meta_change(s, &ids->change, on_block);
    }
    return 0;
}
