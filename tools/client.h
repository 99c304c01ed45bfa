/* client.h: a blocking client of any broker that speaks Kafka's protocol, for the commands.
 * Happy path: client_open(); client_metadata() says who leads what; client_version() and
 *   client_call() ask a broker for something and wait for the answer. client_submit() and
 *   client_poll() are the same for several brokers at once.
 * Failure: 0, -errno, or what the broker answered (client_errors.h); `reason` then says it in one
 *   line, with the address. What is worth asking again is asked again by client_retry(), until
 *   the timeout is over. A connection that broke is made anew by the next call.
 * Ownership: answers live in the caller's arena. Threads: one. */
#ifndef TOOLS_CLIENT_H
#define TOOLS_CLIENT_H

#include "core/base/arena.h"
#include "net/wire/messages.h"
#include "tools/client_conn.h"
#include "tools/client_errors.h"

#define CLIENT_NODES_MAX 256
#define CLIENT_ANY (-1) /* as a node: whichever broker of the bootstrap list answers */
#define CLIENT_ARENA_BYTES (1u << 30) /* for answers: what an arena may hold */

enum client_api {
    API_PRODUCE = 0,
    API_FETCH = 1,
    API_LIST_OFFSETS = 2,
    API_METADATA = 3,
    API_OFFSET_COMMIT = 8,
    API_OFFSET_FETCH = 9,
    API_FIND_COORDINATOR = 10,
    API_DESCRIBE_GROUPS = 15,
    API_LIST_GROUPS = 16,
    API_CREATE_TOPICS = 19,
    API_DELETE_TOPICS = 20,
    API_INIT_PRODUCER_ID = 22,
    API_DESCRIBE_CONFIGS = 32,
    API_DESCRIBE_LOG_DIRS = 35,
    API_CREATE_PARTITIONS = 37,
    API_DELETE_GROUPS = 42,
    API_INCREMENTAL_ALTER_CONFIGS = 44,
    API_CONSUMER_GROUP_DESCRIBE = 69,
};

struct client_node {
    int32_t id;
    uint16_t port;
    char host[256];
    struct client_conn conn;
};

struct client {
    const char *bootstrap; /* HOST[:PORT][,HOST[:PORT]]... */
    uint64_t timeout_ns;   /* of each call, retries included */
    struct client_node *nodes;
    unsigned nodes_n;
    int32_t controller_id; /* CLIENT_ANY: not known */
    char reason[640];
    struct client_conn any; /* private */
    struct wire_writer writer;
};

/* Connects to the first of the bootstrap list that answers. Close it also when that failed. */
int client_open(struct client *c, const char *bootstrap, uint64_t timeout_ns);
void client_close(struct client *c);

/* Connect to the node if that is yet to be done: the newest version that both speak, at most
 * `most`. UNSUPPORTED_VERSION: none. */
int client_version(struct client *c, int32_t node, int16_t key, int16_t most, int16_t *ret);
int client_call(struct client *c, int32_t node, int16_t key, int16_t version, const void *request,
                struct arena *arena, void *ret);
/* One way: no answer will come. */
int client_tell(struct client *c, int32_t node, int16_t key, int16_t version, const void *request);

/* One request to each of several nodes, none of them CLIENT_ANY. client_poll(): 1 with the node
 * whose answer is whole (client_take() it), or whose connection broke or owed the answer for longer
 * than the timeout (*ret_rc < 0); 0 when none came within the time. */
int client_submit(struct client *c, int32_t node, int16_t key, int16_t version,
                  const void *request);
int client_poll(struct client *c, uint64_t wait_ns, int32_t *ret_node, int *ret_rc);
int client_take(struct client *c, int32_t node, struct arena *arena, void *ret);
bool client_is_busy(struct client *c, int32_t node);

/* Set the reason, "WHAT: NAME OF THE ERROR[: message of the broker]", and return rc. */
__attribute__((format(printf, 4, 5))) int
client_fail(struct client *c, int rc, struct wire_str message, const char *what, ...);
#define CLIENT_NO_MESSAGE ((struct wire_str){NULL, -1})

struct client_retry { /* zero before the first attempt */
    uint64_t deadline_ns;
    unsigned attempts;
};
/* Whether to try again after rc; it has then waited a little, longer each time. */
bool client_retry(const struct client *c, struct client_retry *r, int rc);

/* Topics by name, or all of them (NULL): sorted, partitions too. Learns the brokers. Topics that
 * failed are in the answer, with their error codes. */
int client_metadata(struct client *c, const char *const *topics, unsigned topics_n, bool may_create,
                    struct arena *arena, struct metadata_response *ret);

/* The broker that coordinates a group: it becomes one of the nodes. */
int client_coordinator(struct client *c, const char *group, int32_t *ret_node);

#endif
