#include "tools/client_sizes.h"

#include <errno.h>

#include "core/base/bytes.h"

enum { DESCRIBE_LOG_DIRS_MOST = 4 };

static int request_fill(const struct client_spot *spots, unsigned n, int32_t leader,
                        struct arena *arena, struct describe_log_dirs_request *request)
{
    struct describe_log_dirs_request_describable_log_dir_topic *topic = NULL;
    request->topics = wire_new_array(&describe_log_dirs_request_describable_log_dir_topic_schema,
                                     arena, (int32_t)n);
    int32_t *p = arena_array(arena, n, sizeof(*p));
    if (request->topics == NULL || p == NULL)
        return -ENOMEM;
    for (unsigned i = 0; i < n; i++) {
        if (spots[i].leader != leader)
            continue;
        if (topic == NULL || !wire_str_eq(topic->topic, spots[i].topic)) {
            topic = &request->topics[request->topics_n++];
            topic->topic = wire_str_of(spots[i].topic);
            topic->partitions = p;
        }
        *p++ = spots[i].partition;
        topic->partitions_n++;
    }
    return 0;
}

static void answer_take(const struct client_spot *spots, unsigned n, int32_t leader,
                        struct wire_str topic,
                        const struct describe_log_dirs_response_describe_log_dirs_partition *p,
                        int64_t *sizes)
{
    for (unsigned i = 0; i < n; i++)
        if (spots[i].partition == p->partition_index && spots[i].leader == leader &&
            !p->is_future_key && wire_str_eq(topic, spots[i].topic))
            sizes[i] = p->partition_size;
}

static int leader_ask(struct client *c, const struct client_spot *spots, unsigned n, int32_t leader,
                      struct arena *arena, int64_t *sizes)
{
    struct describe_log_dirs_request request;
    struct describe_log_dirs_response r;
    int16_t version;
    arena_reset(arena);
    int rc = client_version(c, leader, API_DESCRIBE_LOG_DIRS, DESCRIBE_LOG_DIRS_MOST, &version);
    if (rc < 0)
        return rc == client_rc(CLIENT_UNSUPPORTED_VERSION) ? 0 : rc;
    wire_set_defaults(&describe_log_dirs_request_schema, &request);
    rc = request_fill(spots, n, leader, arena, &request);
    if (rc < 0)
        return client_fail(c, rc, CLIENT_NO_MESSAGE, "sizes");
    rc = client_call(c, leader, API_DESCRIBE_LOG_DIRS, version, &request, arena, &r);
    for (int32_t i = 0; rc == 0 && i < r.results_n; i++)
        for (int32_t t = 0; t < r.results[i].topics_n; t++)
            for (int32_t p = 0; p < r.results[i].topics[t].partitions_n; p++)
                answer_take(spots, n, leader, r.results[i].topics[t].name,
                            &r.results[i].topics[t].partitions[p], sizes);
    return rc;
}

/* Whether an earlier spot has the same leader, which has then been asked already. */
static bool is_asked(const struct client_spot *spots, unsigned i)
{
    for (unsigned k = 0; k < i; k++)
        if (spots[k].leader == spots[i].leader)
            return true;
    return false;
}

int client_sizes(struct client *c, const struct client_spot *spots, unsigned n, int64_t *sizes)
{
    struct arena arena;
    int rc = 0;
    arena_init(&arena, CLIENT_ARENA_BYTES);
    for (unsigned i = 0; i < n; i++)
        sizes[i] = -1;
    for (unsigned i = 0; rc == 0 && i < n; i++)
        if (spots[i].leader >= 0 && !is_asked(spots, i))
            rc = leader_ask(c, spots, n, spots[i].leader, &arena, sizes);
    arena_fini(&arena);
    return rc;
}
