/* Where a Produce request is received: a large batch goes straight to memory of the log of its
 * partition, so that nothing has to copy it afterwards.
 *
 * Happy path: the first bytes of the frame have arrived and show a request for one partition that
 *   this shard leads; the log gives a place that is aligned as its end, and the frame is laid
 *   around it. Each piece that arrives is checked at once, while it is in the processor's cache.
 * When the batch is appended the log takes the place over (log_place). Failure: whatever is unusual
 * (several partitions, another shard's, a head that is not all there) is received like any other
 * request, and read by the decoder, which finds what is wrong with it. Nothing is believed here but
 * for where to put bytes. No memory now: the connection waits. */
#include <errno.h>

#include "core/base/bytes.h"
#include "net/api/fanout.h"
#include "net/wire/produce_peek.h"

int produce_place(struct shard *s, const uint8_t *head, uint32_t head_len, uint32_t frame_len,
                  struct log_place *ret, struct produce_arrival *ret_arrival, uint8_t **ret_frame)
{
    struct produce_head h;
    struct fanout_target target;
    if (s->logs == NULL || !produce_peek(head, MIN(head_len, frame_len), frame_len, &h))
        return -ENOENT;
    const struct meta_topic *topic = net_topic(s, h.topic, &h.topic_id);
    if (fanout_resolve(s, topic, h.partition, &target) != KAFKA_NONE || target.shard != s->index)
        return -ENOENT;
    struct plog *p = log_store_find(s->logs, target.number);
    if (p == NULL)
        return -ENOENT;
    uint8_t *batch;
    int rc = log_place_take(p, h.records_at, h.records_len,
                            frame_len - h.records_at - h.records_len, ret, &batch);
    if (rc == 0) {
        *ret_arrival = (struct produce_arrival){.at = h.records_at, .len = h.records_len};
        *ret_frame = batch - h.records_at;
    }
    return rc;
}

void produce_arrived(struct request *r, uint32_t have_bytes)
{
    struct produce_arrival *a = &r->arrival;
    if (have_bytes > a->at)
        batch_arrive(&a->seen, r->frame + a->at, MIN(have_bytes - a->at, a->len));
}
