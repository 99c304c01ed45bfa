/* produce_peek.h: what a Produce request is for, from its first bytes, while the rest arrives.
 *
 * Only the usual large one is recognised: one topic, one partition, records that are not null. It
 *   is a hint where to receive the rest; the whole frame is decoded like any other afterwards.
 * Format: ProduceRequest.json of Kafka's message schemas, versions 3 to 13. Threads: none. */
#ifndef NET_WIRE_PRODUCE_PEEK_H
#define NET_WIRE_PRODUCE_PEEK_H

#include <stdbool.h>
#include <stdint.h>

#include "net/wire/wire.h"

struct produce_head {
    struct wire_str topic;     /* lent from head; len < 0: topic_id says it */
    struct wire_uuid topic_id; /* zero: the name says it */
    int32_t partition;
    uint32_t records_at, records_len; /* in the frame, and within it */
};

/* head: the first head_len of a frame's frame_len bytes, without the length in front. False: it is
 * something else, or there is too little of it. */
bool produce_peek(const uint8_t *head, uint32_t head_len, uint32_t frame_len,
                  struct produce_head *ret);

#endif
