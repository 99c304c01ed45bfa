/* produce_keys.h: what Kafka says of records without a key to a compacted topic.
 * Happy path: when batch_validate() has refused a batch with batch_error_no_key, the answer gets an
 *   entry for each such record, and a message with the first three, as Kafka words it.
 * Memory: the request's; at most PRODUCE_KEYS_LISTED entries, the message counts them all. Threads:
 *   the front's. */
#ifndef NET_API_PRODUCE_KEYS_H
#define NET_API_PRODUCE_KEYS_H

#include "net/conn.h"
#include "net/wire/messages.h"

#define PRODUCE_KEYS_LISTED 1000

/* False: no memory. */
bool produce_keys_tell(struct request *r, const char *topic, const struct wire_records *records,
                       struct produce_response_partition_produce_response *told);

#endif
