/* net.h: the network layer of one shard: connections, requests, and the table of Kafka APIs.
 *
 * Happy path: a frame arrives -> header and body are decoded into the request's arena -> the API's
 *   handler runs -> it answers, now or later, with request_reply() -> replies leave in the order of
 *   their requests on that connection, several in one send.
 * Failure: a frame that cannot be understood closes the connection with one log line; memory for
 *   requests is bounded (the connection is not read while there is none).
 * Lifetime: a request, its frame and its arena live until its reply has been released by the
 *   kernel; a connection that goes away first leaves its requests alive until their handlers
 * answer, and the answers are then dropped (handlers need not know). Threads: everything runs on
 * the connection's shard. */
#ifndef NET_NET_H
#define NET_NET_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/arena.h"
#include "core/batch/batch.h"
#include "core/shard/shard.h"
#include "net/wire/messages.h"
#include "net/wire/wire.h"

struct conn;
struct request;

/* Kafka's error codes; the only place where they have names, and where errno is mapped to them. */
#define KAFKA_ERRORS(X)                                                                            \
    X(UNKNOWN_SERVER_ERROR, -1)                                                                    \
    X(NONE, 0)                                                                                     \
    X(OFFSET_OUT_OF_RANGE, 1)                                                                      \
    X(CORRUPT_MESSAGE, 2)                                                                          \
    X(UNKNOWN_TOPIC_OR_PARTITION, 3)                                                               \
    X(LEADER_NOT_AVAILABLE, 5)                                                                     \
    X(NOT_LEADER_OR_FOLLOWER, 6)                                                                   \
    X(REQUEST_TIMED_OUT, 7)                                                                        \
    X(MESSAGE_TOO_LARGE, 10)                                                                       \
    X(OFFSET_METADATA_TOO_LARGE, 12)                                                               \
    X(COORDINATOR_LOAD_IN_PROGRESS, 14)                                                            \
    X(COORDINATOR_NOT_AVAILABLE, 15)                                                               \
    X(NOT_COORDINATOR, 16)                                                                         \
    X(INVALID_TOPIC_EXCEPTION, 17)                                                                 \
    X(RECORD_LIST_TOO_LARGE, 18)                                                                   \
    X(INVALID_REQUIRED_ACKS, 21)                                                                   \
    X(ILLEGAL_GENERATION, 22)                                                                      \
    X(INCONSISTENT_GROUP_PROTOCOL, 23)                                                             \
    X(INVALID_GROUP_ID, 24)                                                                        \
    X(UNKNOWN_MEMBER_ID, 25)                                                                       \
    X(INVALID_SESSION_TIMEOUT, 26)                                                                 \
    X(REBALANCE_IN_PROGRESS, 27)                                                                   \
    X(INVALID_COMMIT_OFFSET_SIZE, 28)                                                              \
    X(INVALID_TIMESTAMP, 32)                                                                       \
    X(UNSUPPORTED_VERSION, 35)                                                                     \
    X(TOPIC_ALREADY_EXISTS, 36)                                                                    \
    X(INVALID_PARTITIONS, 37)                                                                      \
    X(INVALID_REPLICATION_FACTOR, 38)                                                              \
    X(INVALID_REPLICA_ASSIGNMENT, 39)                                                              \
    X(INVALID_CONFIG, 40)                                                                          \
    X(NOT_CONTROLLER, 41)                                                                          \
    X(INVALID_REQUEST, 42)                                                                         \
    X(POLICY_VIOLATION, 44)                                                                        \
    X(OUT_OF_ORDER_SEQUENCE_NUMBER, 45)                                                            \
    X(INVALID_PRODUCER_EPOCH, 47)                                                                  \
    X(INVALID_TRANSACTION_TIMEOUT, 50)                                                             \
    X(TRANSACTIONAL_ID_AUTHORIZATION_FAILED, 53)                                                   \
    X(KAFKA_STORAGE_ERROR, 56)                                                                     \
    X(NON_EMPTY_GROUP, 68)                                                                         \
    X(GROUP_ID_NOT_FOUND, 69)                                                                      \
    X(FETCH_SESSION_ID_NOT_FOUND, 70)                                                              \
    X(INVALID_FETCH_SESSION_EPOCH, 71)                                                             \
    X(TOPIC_DELETION_DISABLED, 73)                                                                 \
    X(FENCED_LEADER_EPOCH, 74)                                                                     \
    X(UNKNOWN_LEADER_EPOCH, 75)                                                                    \
    X(UNSUPPORTED_COMPRESSION_TYPE, 76)                                                            \
    X(MEMBER_ID_REQUIRED, 79)                                                                      \
    X(PREFERRED_LEADER_NOT_AVAILABLE, 80)                                                          \
    X(GROUP_MAX_SIZE_REACHED, 81)                                                                  \
    X(FENCED_INSTANCE_ID, 82)                                                                      \
    X(ELIGIBLE_LEADERS_NOT_AVAILABLE, 83)                                                          \
    X(ELECTION_NOT_NEEDED, 84)                                                                     \
    X(NO_REASSIGNMENT_IN_PROGRESS, 85)                                                             \
    X(GROUP_SUBSCRIBED_TO_TOPIC, 86)                                                               \
    X(INVALID_RECORD, 87)                                                                          \
    X(PRODUCER_FENCED, 90)                                                                         \
    X(UNKNOWN_TOPIC_ID, 100)                                                                       \
    X(INCONSISTENT_TOPIC_ID, 103)                                                                  \
    X(FETCH_SESSION_TOPIC_ID_ERROR, 106)                                                           \
    X(MISMATCHED_ENDPOINT_TYPE, 114)                                                               \
    X(UNSUPPORTED_ENDPOINT_TYPE, 115)                                                              \
    X(REBOOTSTRAP_REQUIRED, 129)
enum kafka_error {
#define X(name, code) KAFKA_##name = code,
    KAFKA_ERRORS(X)
#undef X
};
int16_t kafka_error_of(int rc); /* 0 or -errno -> code */

struct net_api { /* one row of the table in net/api.c */
    int16_t key;
    int16_t min_version, max_version; /* advertised */
    int16_t served_min;               /* Produce advertises 0 but serves 3 */
    void (*handle)(struct request *r, void *body);
};
extern const struct net_api net_apis[];
extern const unsigned net_apis_count;
#define NET_APIS_MAX 64u                         /* what counts by API has room for */
const struct net_api *net_api_find(int16_t key); /* NULL: not served */

/* A batch that is checked while it is received. */
struct produce_arrival {
    uint32_t at, len; /* in the frame; 0, 0: there is none */
    struct batch_arrival seen;
};

struct request {
    struct shard *shard;
    struct conn *conn; /* NULL once the connection is gone */
    const struct net_api *api;
    int16_t version;
    int32_t correlation_id;
    struct wire_str client_id;
    uint8_t *frame; /* the whole frame; records in it may be changed in place */
    uint32_t frame_len;
    struct log_place place;                 /* the frame is there, for its batch to stay there */
    struct produce_arrival arrival;         /* of that batch */
    struct arena arena;                     /* decoded body, handler state, response structs */
    struct wire_writer reply;               /* encoded response, record bytes by reference */
    void (*on_released)(struct request *r); /* optional: reply left (or was dropped): give back what
                                             * it references */
    void (*on_cancel)(struct request *r); /* optional, for handlers that wait long: called once when
                                           * the client is gone or the broker stops; answer soon */
    void *waiting;                        /* of a handler that waits long, for its on_cancel */
    bool replied, no_reply;
    struct list_node link; /* private: the connection's order */
};

/* Encodes `response` (the API's response struct of r->version) and sends it when it is its turn.
 * Exactly one of reply, no_reply, fail per request. The response may be in r->arena or on the
 * stack; record bytes it references must stay until on_released. */
void request_reply(struct request *r, const void *response);
void request_no_reply(struct request *r);              /* acks=0 */
void request_fail(struct request *r, const char *why); /* logs, closes the connection */
/* From how many bytes on what lies in sealed segments may be sent to it as it is; 0: never. */
uint32_t egress_splice_bytes(const struct conn *c);       /* egress.c */
void *request_alloc(struct request *r, size_t len_bytes); /* zeroed; NULL: then request_fail */
void request_cancel(struct request *r);                   /* calls on_cancel, at most once */

/* ---- the handlers, one file each in net/api/; body is the decoded request struct ---- */
void alter_configs_handle(struct request *r, void *body);
void api_versions_handle(struct request *r, void *body);
void create_partitions_handle(struct request *r, void *body);
void create_topics_handle(struct request *r, void *body);
void delete_groups_handle(struct request *r, void *body);
void delete_records_handle(struct request *r, void *body);
void delete_topics_handle(struct request *r, void *body);
void describe_cluster_handle(struct request *r, void *body);
void describe_configs_handle(struct request *r, void *body);
void describe_groups_handle(struct request *r, void *body);
void describe_log_dirs_handle(struct request *r, void *body);
void describe_producers_handle(struct request *r, void *body);
void describe_topic_partitions_handle(struct request *r, void *body);
void alter_partition_reassignments_handle(struct request *r, void *body);
void elect_leaders_handle(struct request *r, void *body);
void fetch_handle(struct request *r, void *body);
void find_coordinator_handle(struct request *r, void *body);
void heartbeat_handle(struct request *r, void *body);
void incremental_alter_configs_handle(struct request *r, void *body);
void init_producer_id_handle(struct request *r, void *body);
void join_group_handle(struct request *r, void *body);
void leave_group_handle(struct request *r, void *body);
void list_groups_handle(struct request *r, void *body);
void list_offsets_handle(struct request *r, void *body);
void list_partition_reassignments_handle(struct request *r, void *body);
void metadata_handle(struct request *r, void *body);
void offset_commit_handle(struct request *r, void *body);
void offset_delete_handle(struct request *r, void *body);
void offset_fetch_handle(struct request *r, void *body);
void offset_for_leader_epoch_handle(struct request *r, void *body);
void produce_handle(struct request *r, void *body);
void sync_group_handle(struct request *r, void *body);
/* Where to receive a Produce request whose first bytes are known: in memory of the log. -ENOENT: as
 * any other; -EAGAIN: there is no memory now. */
int produce_place(struct shard *s, const uint8_t *head, uint32_t head_len, uint32_t frame_len,
                  struct log_place *ret, struct produce_arrival *ret_arrival, uint8_t **ret_frame);
void produce_arrived(struct request *r, uint32_t have_bytes); /* of its frame, in such a place */
/* To a version of ApiVersions that is not served: its body is never read (KIP-511). */
void api_versions_reply_unsupported(struct request *r);

/* ---- what handlers share ---- */

/* The node and address under which a shard's partitions are reached, as told to clients. */
const struct broker_node *net_node_of_shard(const struct shard *s, unsigned shard);
/* A topic by name or id in the shard's current image; NULL. */
const struct meta_topic *net_topic(const struct shard *s, struct wire_str name,
                                   const struct wire_uuid *id);

/* ---- per-shard life ---- */
struct net_config {
    const int *listen_socks; /* of this shard's node; empty when another shard of it accepts */
    unsigned listen_socks_n;
};
int net_init(struct shard *s, const struct net_config *config);
/* Stops accepting and reading; open requests are answered or dropped. */
void net_stop(struct shard *s);
bool net_stopped(const struct shard *s); /* no connection and no request left */
void net_abort(struct shard *s); /* closes connections that linger; their requests stay open */
void net_fini(struct shard *s);

#endif
