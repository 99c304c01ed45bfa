/* record.h: the records of __consumer_offsets, Kafka's formats; pure.
 * Happy path: record_offset_key() .. record_group_value() into a growing buffer; record_read_*()
 *   of a key or value, which the result borrows.
 * Failure: a buffer that cannot grow is `failed`; reading gives -EBADMSG for what is malformed and
 *   -ENOTSUP for a version that is not known.
 * Format: integers big-endian; string i16 length, bytes i32 length, array i32 count, -1 null.
 *   key 0, 1: version i16, group, topic, partition i32        key 2: version i16, group
 *   offset 3: version i16, offset i64, leader_epoch i32, metadata, commit_ms i64
 *   offset 1: version i16, offset i64, metadata, commit_ms i64, expire_ms i64
 *   group 3: version i16, protocol type, generation i32, protocol?, leader?, state_ms i64, members:
 *     id, instance?, client id, client host, rebalance_ms i32, session_ms i32, subscription,
 *     assignment
 * Threads: none. */
#ifndef CORE_GROUP_RECORD_H
#define CORE_GROUP_RECORD_H

#include <stddef.h>

#include "core/group/group.h"

struct record_out {
    uint8_t *p;
    size_t len, cap;
    bool failed;
};
void record_out_fini(struct record_out *o);

struct record_key {
    bool is_group; /* else an offset */
    struct group_str group, topic;
    int32_t partition;
};
/* -ENOTSUP: another kind of record. */
int record_read_key(const uint8_t *p, int32_t len, struct record_key *ret);

struct record_group {
    struct group_str protocol_type, protocol, leader;
    int32_t generation;
    int64_t state_ms; /* -1: not said */
    int32_t members_n;
    const uint8_t *members, *end; /* private */
    int16_t version;
};
struct record_member {
    struct group_str id, instance, client_id, client_host;
    int32_t rebalance_timeout_ms, session_timeout_ms;
    struct group_blob subscription, assignment;
};
int record_read_offset(const uint8_t *p, int32_t len, struct group_offset *ret);
int record_read_group(const uint8_t *p, int32_t len, struct record_group *ret);
int record_read_member(struct record_group *g, struct record_member *ret); /* the next one */

/* Each begins at an empty buffer, but for members, which follow the group. */
void record_offset_key(struct record_out *o, struct group_str group, struct group_str topic,
                       int32_t partition);
void record_group_key(struct record_out *o, struct group_str group);
void record_offset_value(struct record_out *o, const struct group_offset *v);
void record_group_value(struct record_out *o, const struct record_group *g);
void record_member(struct record_out *o, const struct record_member *m);

/* Is the topic in a consumer's subscription (ConsumerProtocolSubscription: version i16, topics)?
 * 1, 0, or -EBADMSG: it is no subscription. */
int record_subscribes(struct group_blob metadata, struct group_str topic);

#endif
