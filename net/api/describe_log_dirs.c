/* DescribeLogDirs, key 35: what the data directories hold of this node's partitions, and the space
 * on their devices. Topics and partitions that are not here are left out, as Kafka does.
 * The space is asked for first (names run in the background), then the owners for the sizes. */
#include <errno.h>
#include <string.h>

#include "core/base/assert.h"
#include "core/base/bytes.h"
#include "net/api/fanout.h"

#define NO_LAG 0

typedef struct describe_log_dirs_response_describe_log_dirs_result told_dir;
typedef struct describe_log_dirs_response_describe_log_dirs_topic told_topic;
typedef struct describe_log_dirs_response_describe_log_dirs_partition told_partition;

struct dirs_item { /* a partition; those of a topic follow each other */
    struct fanout_item fan;
    struct wire_str name;
    unsigned topic; /* the number of times that a topic came before */
    int32_t index;
    unsigned dir;
    int64_t bytes;
};

struct dirs_call {
    struct fanout fan;
    const struct describe_log_dirs_request *asked;
    struct describe_log_dirs_response response;
    struct dirs_item *items;
    uint32_t items_n, items_max;
    unsigned topics_n;
    unsigned dirs[META_DIRS_MAX], dirs_n; /* those that are told, by their index in the metadata */
    unsigned asked_n;                     /* the first so many have told their space, or cannot */
    struct env_op op;
    struct env_name_step *steps;
};

static void call_fail(struct dirs_call *c)
{
    fanout_abort(&c->fan);
    request_fail(c->fan.r, "no memory");
}

/* ---- on the owner ---- */

static void group_run(struct fanout_group *g)
{
    for (struct fanout_item *it = g->first; it != NULL; it = it->next) {
        const struct plog *p = log_store_find(g->owner->logs, it->target.number);
        if (p == NULL)
            it->error = KAFKA_UNKNOWN_TOPIC_OR_PARTITION;
        else
            container_of(it, struct dirs_item, fan)->bytes = (int64_t)plog_size_bytes(p);
    }
    fanout_group_done(g);
}

/* ---- the answer ---- */

static bool is_told(const struct dirs_item *item, unsigned dir)
{
    return item->fan.error == KAFKA_NONE && item->dir == dir;
}

/* The items from at on that are of one topic. */
static uint32_t topic_end(const struct dirs_call *c, uint32_t at)
{
    uint32_t end = at;
    while (end < c->items_n && c->items[end].topic == c->items[at].topic)
        end++;
    return end;
}

static int topic_tell(struct dirs_call *c, unsigned dir, uint32_t from, uint32_t to,
                      told_topic *told)
{
    told->name = c->items[from].name;
    told->partitions =
        wire_new_array(&describe_log_dirs_response_describe_log_dirs_partition_schema,
                       &c->fan.r->arena, (int32_t)(to - from));
    if (told->partitions == NULL)
        return -ENOMEM;
    for (uint32_t i = from; i < to; i++)
        if (is_told(&c->items[i], dir))
            told->partitions[told->partitions_n++] =
                (told_partition){.partition_index = c->items[i].index,
                                 .partition_size = c->items[i].bytes,
                                 .offset_lag = NO_LAG};
    return 0;
}

static int dir_tell(struct dirs_call *c, unsigned dir, told_dir *told)
{
    told->topics = wire_new_array(&describe_log_dirs_response_describe_log_dirs_topic_schema,
                                  &c->fan.r->arena, (int32_t)c->topics_n);
    if (told->topics == NULL)
        return -ENOMEM;
    for (uint32_t at = 0, end; at < c->items_n; at = end) {
        end = topic_end(c, at);
        int rc = topic_tell(c, dir, at, end, &told->topics[told->topics_n]);
        if (rc != 0)
            return rc;
        if (told->topics[told->topics_n].partitions_n > 0)
            told->topics_n++;
    }
    return 0;
}

static void call_done(struct fanout *f)
{
    struct dirs_call *c = container_of(f, struct dirs_call, fan);
    for (unsigned i = 0; i < c->dirs_n; i++)
        if (dir_tell(c, c->dirs[i], &c->response.results[i]) != 0) {
            call_fail(c);
            return;
        }
    request_reply(f->r, &c->response);
}

/* ---- which partitions ---- */

static int item_add(struct dirs_call *c, const struct meta_topic *topic, struct wire_str name,
                    int32_t index)
{
    ASSERT(c->items_n < c->items_max);
    struct dirs_item *item = &c->items[c->items_n];
    if (fanout_resolve(c->fan.r->shard, topic, index, &item->fan.target) != KAFKA_NONE)
        return 0;
    item->name = name;
    item->topic = c->topics_n;
    item->index = index;
    item->dir = topic->partitions[index].dir;
    c->items_n++;
    return fanout_add(&c->fan, &item->fan, KAFKA_NONE);
}

/* The name outlives the image that it is from. */
static int topic_add_all(struct dirs_call *c, const struct meta_topic *topic)
{
    size_t len = strlen(topic->name);
    char *copy = request_alloc(c->fan.r, len + 1);
    int rc = copy == NULL ? -ENOMEM : 0;
    if (rc == 0)
        memcpy(copy, topic->name, len);
    struct wire_str name = {.p = copy, .len = (int32_t)len};
    for (int32_t i = 0; rc == 0 && i < topic->partitions_n; i++)
        rc = item_add(c, topic, name, i);
    c->topics_n++;
    return rc;
}

static uint32_t items_most(const struct dirs_call *c)
{
    const struct meta_image *meta = c->fan.r->shard->meta;
    uint32_t n = 0;
    for (unsigned i = 0; c->asked->topics_n < 0 && i < meta->topics_n; i++)
        n += (uint32_t)meta->topics[i]->partitions_n;
    for (int32_t t = 0; t < c->asked->topics_n; t++)
        n += (uint32_t)MAX(c->asked->topics[t].partitions_n, 0);
    return n;
}

static int items_prepare(struct dirs_call *c)
{
    struct request *r = c->fan.r;
    const struct meta_image *meta = r->shard->meta;
    int rc = 0;
    c->items_max = items_most(c);
    c->items = arena_array(&r->arena, c->items_max, sizeof(*c->items));
    if (c->items == NULL || fanout_init(&c->fan, r, c->items_max) < 0)
        return -ENOMEM;
    for (unsigned i = 0; rc == 0 && c->asked->topics_n < 0 && i < meta->topics_n; i++)
        rc = topic_add_all(c, meta->topics[i]);
    for (int32_t t = 0; rc == 0 && t < c->asked->topics_n; t++) {
        const struct describe_log_dirs_request_describable_log_dir_topic *a = &c->asked->topics[t];
        const struct meta_topic *topic = net_topic(r->shard, a->topic, NULL);
        for (int32_t i = 0; rc == 0 && i < a->partitions_n; i++)
            rc = item_add(c, topic, a->topic, a->partitions[i]);
        c->topics_n++;
    }
    return rc;
}

/* ---- the directories ---- */

static bool dir_is_offline(const struct dirs_call *c, unsigned at)
{
    return (log_store_dirs_offline(c->fan.r->shard->logs) >> c->dirs[at] & 1) != 0;
}

static void on_space(struct env_op *op);

/* False: all have been asked. A list of steps ends with the first that fails; the next one begins
 * behind it. */
static bool space_ask(struct dirs_call *c)
{
    while (c->asked_n < c->dirs_n && dir_is_offline(c, c->asked_n))
        c->asked_n++;
    unsigned end = c->asked_n;
    while (end < c->dirs_n && !dir_is_offline(c, end))
        end++;
    if (end == c->asked_n)
        return false;
    env_names(c->fan.r->shard->env, &c->op, c->steps + c->asked_n, end - c->asked_n, on_space);
    return true;
}

static void space_tell(struct dirs_call *c)
{
    for (unsigned i = 0; i < c->dirs_n; i++) {
        told_dir *told = &c->response.results[i];
        bool known = c->steps[i].ret_total_bytes > 0 && !dir_is_offline(c, i);
        told->error_code = known ? KAFKA_NONE : KAFKA_KAFKA_STORAGE_ERROR;
        if (known) {
            told->total_bytes = (int64_t)c->steps[i].ret_total_bytes;
            told->usable_bytes = (int64_t)c->steps[i].ret_free_bytes;
        }
    }
}

static void call_go_on(struct dirs_call *c)
{
    if (space_ask(c))
        return;
    space_tell(c);
    if (items_prepare(c) == 0)
        fanout_start(&c->fan, group_run, call_done);
    else
        call_fail(c);
}

static void on_space(struct env_op *op)
{
    struct dirs_call *c = container_of(op, struct dirs_call, op);
    c->asked_n += op->res < 0 ? op->failed_step + 1 : op->steps_n;
    call_go_on(c);
}

static bool dirs_prepare(struct dirs_call *c)
{
    struct request *r = c->fan.r;
    const struct log_config *log = &r->shard->broker->log;
    for (unsigned i = 0; i < log->data_dirs_n; i++)
        if (log->data_dirs[i] != NULL)
            c->dirs[c->dirs_n++] = i;
    c->steps = arena_array(&r->arena, c->dirs_n, sizeof(*c->steps));
    wire_set_defaults(&describe_log_dirs_response_schema, &c->response);
    c->response.results = wire_new_array(
        &describe_log_dirs_response_describe_log_dirs_result_schema, &r->arena, (int32_t)c->dirs_n);
    if (c->steps == NULL || c->response.results == NULL)
        return false;
    c->response.results_n = (int32_t)c->dirs_n;
    for (unsigned i = 0; i < c->dirs_n; i++) {
        const char *path = log->data_dirs[c->dirs[i]];
        c->steps[i] = (struct env_name_step){.kind = ENV_STEP_STAT, .path = path};
        c->response.results[i].log_dir = wire_str_of(path);
    }
    return true;
}

void describe_log_dirs_handle(struct request *r, void *body)
{
    struct dirs_call *c = request_alloc(r, sizeof(*c));
    if (c != NULL) {
        c->fan.r = r;
        c->asked = body;
    }
    if (c == NULL || !dirs_prepare(c)) {
        request_fail(r, "no memory");
        return;
    }
    call_go_on(c);
}
