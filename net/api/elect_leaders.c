/* ElectLeaders, key 43: each partition is led by its only replica already, or that is offline. */
#include <errno.h>

#include "core/base/bytes.h"
#include "net/api/admin.h"

enum election_type { ELECTION_PREFERRED, ELECTION_UNCLEAN, ELECTION_TYPES };

typedef struct elect_leaders_request_topic_partitions asked_topic;
typedef struct elect_leaders_response_replica_election_result told_topic;
typedef struct elect_leaders_response_partition_result told_partition;

static void partition_refuse(told_partition *t, enum election_type type)
{
    bool unclean = type == ELECTION_UNCLEAN;
    t->error_code =
        unclean ? KAFKA_ELIGIBLE_LEADERS_NOT_AVAILABLE : KAFKA_PREFERRED_LEADER_NOT_AVAILABLE;
    t->error_message = wire_str_of(unclean ? "Eligible topic partition leaders are not available."
                                           : "The preferred leader was not available.");
}

static void partition_tell(struct request *r, enum election_type type, const asked_topic *asked,
                           const struct meta_topic *topic, told_partition *t)
{
    int32_t index = t->partition_id;
    bool known = topic != NULL && index >= 0 && index < topic->partitions_n;
    if (known && shard_partition_offline(r->shard, &topic->partitions[index])) {
        partition_refuse(t, type);
        return;
    }
    if (known) {
        t->error_code = KAFKA_ELECTION_NOT_NEEDED;
        t->error_message = wire_str_of("Leader election not needed for topic partition.");
        return;
    }
    int len = MAX(asked->topic.len, 0);
    t->error_code = KAFKA_UNKNOWN_TOPIC_OR_PARTITION;
    t->error_message =
        topic == NULL ? admin_text(r, "No such topic as %.*s", len, asked->topic.p)
                      : admin_text(r, "No such partition as %.*s-%d", len, asked->topic.p, index);
}

static int topic_tell(struct request *r, enum election_type type, const asked_topic *asked,
                      told_topic *t)
{
    const struct meta_topic *topic = net_topic(r->shard, asked->topic, NULL);
    int32_t n = MAX(asked->partitions_n, 0);
    t->topic = asked->topic;
    t->partition_result =
        wire_new_array(&elect_leaders_response_partition_result_schema, &r->arena, n);
    if (t->partition_result == NULL)
        return -ENOMEM;
    t->partition_result_n = n;
    for (int32_t i = 0; i < n; i++) {
        t->partition_result[i].partition_id = asked->partitions[i];
        partition_tell(r, type, asked, topic, &t->partition_result[i]);
    }
    return 0;
}

/* Of all partitions, those that need no election are left out: that is all of them. */
static int topics_tell(struct request *r, const struct elect_leaders_request *req,
                       struct elect_leaders_response *res)
{
    int32_t n = MAX(req->topic_partitions_n, 0);
    res->replica_election_results =
        wire_new_array(&elect_leaders_response_replica_election_result_schema, &r->arena, n);
    if (res->replica_election_results == NULL)
        return -ENOMEM;
    res->replica_election_results_n = n;
    for (int32_t i = 0; i < n; i++)
        if (topic_tell(r, (enum election_type)req->election_type, &req->topic_partitions[i],
                       &res->replica_election_results[i]) < 0)
            return -ENOMEM;
    return 0;
}

void elect_leaders_handle(struct request *r, void *body)
{
    const struct elect_leaders_request *req = body;
    struct elect_leaders_response res;
    wire_set_defaults(&elect_leaders_response_schema, &res);
    if (req->election_type < 0 || req->election_type >= ELECTION_TYPES)
        res.error_code = KAFKA_INVALID_REQUEST;
    else if (topics_tell(r, req, &res) < 0) {
        request_fail(r, "no memory");
        return;
    }
    request_reply(r, &res);
}
