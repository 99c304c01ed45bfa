/* producer.c: idempotent producers of a partition: the last batches of each, sequence checks
 * (Kafka's ProducerStateManager; rules in the order Kafka applies them). */
#include "core/log/internal.h"

#include <errno.h>
#include <stdlib.h>

static int32_t next_sequence(int32_t sequence)
{
    return sequence == INT32_MAX ? 0 : sequence + 1;
}

/* 0: append it. 1: duplicate, ret_dup is the original. -ESTALE: older epoch. -EILSEQ: gap. */
int producer_check(struct plog *p, const struct batch_header *h, struct producer_batch *ret_dup)
{
    if (h->producer_id < 0)
        return 0;
    const struct producer *known = map_get(&p->producers, (uint64_t)h->producer_id);
    if (known == NULL)
        return 0; /* state expired or never here: any first sequence is fine */
    if (h->producer_epoch < known->epoch)
        return -ESTALE;
    if (h->producer_epoch > known->epoch)
        return h->base_sequence == 0 ? 0 : -EILSEQ;
    int32_t last_sequence = batch_last_sequence(h);
    for (unsigned i = 0; i < known->batches_n; i++) {
        const struct producer_batch *b = &known->batches[i];
        if (b->first_sequence == h->base_sequence && b->last_sequence == last_sequence) {
            *ret_dup = *b;
            return 1;
        }
    }
    if (known->batches_n == 0)
        return 0;
    const struct producer_batch *last = &known->batches[known->batches_n - 1];
    return h->base_sequence == next_sequence(last->last_sequence) ? 0 : -EILSEQ;
}

int producer_update(struct plog *p, const struct batch_header *h, int64_t base_offset,
                    int64_t append_time_ms, int64_t now_ms)
{
    if (h->producer_id < 0)
        return 0;
    struct producer *known = map_get(&p->producers, (uint64_t)h->producer_id);
    if (known == NULL) {
        known = calloc(1, sizeof(*known));
        if (known == NULL || map_put(&p->producers, (uint64_t)h->producer_id, known) != 0) {
            free(known);
            return -EAGAIN;
        }
        known->id = h->producer_id;
        known->epoch = h->producer_epoch;
    }
    if (h->producer_epoch != known->epoch) {
        known->epoch = h->producer_epoch;
        known->batches_n = 0;
    }
    if (known->batches_n == PRODUCER_BATCHES) {
        memmove(known->batches, known->batches + 1,
                (PRODUCER_BATCHES - 1) * sizeof(known->batches[0]));
        known->batches_n--;
    }
    known->last_ms = now_ms;
    known->batches[known->batches_n++] =
        (struct producer_batch){h->base_sequence, batch_last_sequence(h), base_offset,
                                base_offset + h->last_offset_delta, append_time_ms};
    return 0;
}

void producers_expire(struct plog *p, int64_t now_ms)
{
    int64_t expiry_ms = (int64_t)p->store->config.producer_expiry_ms;
    for (bool again = true; again;) {
        again = false;
        struct producer *known;
        for (size_t it = 0; (known = map_next(&p->producers, &it)) != NULL;)
            if (now_ms - known->last_ms > expiry_ms) {
                free(map_remove(&p->producers, (uint64_t)known->id));
                again = true; /* removal moves slots: start over */
                break;
            }
    }
}

void producers_fini(struct plog *p)
{
    struct producer *known;
    for (size_t it = 0; (known = map_next(&p->producers, &it)) != NULL;)
        free(known);
    map_fini(&p->producers);
}

uint32_t plog_producers(const struct plog *p, struct plog_producer *ret, uint32_t max)
{
    const struct producer *known;
    uint32_t n = 0;
    for (size_t it = 0; (known = map_next(&p->producers, &it)) != NULL; n++) {
        if (n >= max)
            continue;
        ret[n] = (struct plog_producer){
            .id = known->id, .last_ms = known->last_ms, .last_sequence = -1, .epoch = known->epoch};
        if (known->batches_n > 0)
            ret[n].last_sequence = known->batches[known->batches_n - 1].last_sequence;
    }
    return n;
}
