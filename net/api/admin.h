/* admin.h: what the handlers about topics share; private to net/api.
 * Memory comes from the request's arena; NULL or -ENOMEM when that is full.
 * Threads: the request's shard. */
#ifndef NET_API_ADMIN_H
#define NET_API_ADMIN_H

#include "net/net.h"

/* Bits 1 << operation code: what a client that asks may do, while everybody may do everything. */
#define ADMIN_TOPIC_OPERATIONS                                                                     \
    (1 << 3 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 10 | 1 << 11)
#define ADMIN_CLUSTER_OPERATIONS (1 << 5 | 1 << 7 | 1 << 8 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 12)

enum admin_resource { ADMIN_RESOURCE_TOPIC = 2, ADMIN_RESOURCE_BROKER = 4 }; /* Kafka's */

/* "__consumer_offsets" and its like. */
bool admin_topic_is_internal(struct wire_str name);
struct wire_str admin_cluster_id(struct request *r);
int32_t admin_controller_id(const struct shard *s);
int32_t admin_node_id(const struct shard *s); /* of the node that the shard belongs to */
/* A resource's name is the id of one of our nodes: 0; -EINVAL: it is no number; -ENOENT. */
int admin_node_of(struct request *r, struct wire_str name);

__attribute__((format(printf, 2, 3))) struct wire_str admin_text(struct request *r, const char *fmt,
                                                                 ...);
/* A C string of a name; NULL also when a NUL is inside. */
char *admin_name(struct request *r, struct wire_str name);

/* Which keys occur more than once: ret[i] is 0 for a single one, 1 for the first of several and 2
 * for its repetitions. A key is any bytes. */
int admin_mark_duplicates(struct request *r, const struct wire_str *keys, int32_t n, uint8_t *ret);

/* One entry of a replica assignment: known nodes, none twice, at least one. NULL, or what is wrong.
 */
const char *admin_replicas_check(const struct broker *b, const int32_t *nodes, int32_t n);

/* Why it is not one, in Kafka's words. */
struct wire_str admin_topic_name_text(struct request *r, struct wire_str name);

/* What a failed metadata change is called. */
int16_t admin_error_of(int rc);
const char *admin_error_text(int16_t code);

#endif
