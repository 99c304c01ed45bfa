#include "net/api/group_shard.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "core/base/assert.h"
#include "core/base/bytes.h"
#include "io/sock.h"
#include "net/conn.h"

#define ITEM_ARENA_BYTES_MAX (64u << 20)

/* ---- errors ---- */

int16_t group_error_code(enum group_error error)
{
    static const int16_t codes[] = {
        [GROUP_OK] = KAFKA_NONE,
        [GROUP_NOT_COORDINATOR] = KAFKA_NOT_COORDINATOR,
        [GROUP_NOT_AVAILABLE] = KAFKA_COORDINATOR_NOT_AVAILABLE,
        [GROUP_LOADING] = KAFKA_COORDINATOR_LOAD_IN_PROGRESS,
        [GROUP_INVALID_ID] = KAFKA_INVALID_GROUP_ID,
        [GROUP_ID_NOT_FOUND] = KAFKA_GROUP_ID_NOT_FOUND,
        [GROUP_UNKNOWN_MEMBER] = KAFKA_UNKNOWN_MEMBER_ID,
        [GROUP_MEMBER_ID_REQUIRED] = KAFKA_MEMBER_ID_REQUIRED,
        [GROUP_FENCED_INSTANCE] = KAFKA_FENCED_INSTANCE_ID,
        [GROUP_ILLEGAL_GENERATION] = KAFKA_ILLEGAL_GENERATION,
        [GROUP_REBALANCE_IN_PROGRESS] = KAFKA_REBALANCE_IN_PROGRESS,
        [GROUP_INCONSISTENT_PROTOCOL] = KAFKA_INCONSISTENT_GROUP_PROTOCOL,
        [GROUP_INVALID_SESSION_TIMEOUT] = KAFKA_INVALID_SESSION_TIMEOUT,
        [GROUP_MAX_SIZE_REACHED] = KAFKA_GROUP_MAX_SIZE_REACHED,
        [GROUP_NON_EMPTY] = KAFKA_NON_EMPTY_GROUP,
        [GROUP_SUBSCRIBED_TO_TOPIC] = KAFKA_GROUP_SUBSCRIBED_TO_TOPIC,
        [GROUP_METADATA_TOO_LARGE] = KAFKA_OFFSET_METADATA_TOO_LARGE,
        [GROUP_UNKNOWN_TOPIC] = KAFKA_UNKNOWN_TOPIC_OR_PARTITION,
        [GROUP_TOO_LARGE] = KAFKA_UNKNOWN_SERVER_ERROR,
        [GROUP_INVALID_REQUEST] = KAFKA_INVALID_REQUEST,
    };
    _Static_assert(ARRAY_LEN(codes) == GROUP_ERRORS, "a code each");
    return codes[error];
}

/* ---- a call ---- */

static void call_reply(struct group_call *call)
{
    struct request *r = call->fan.r;
    bool failed = false;
    for (struct group_item *it = call->first; it != NULL; it = it->next)
        failed = failed || it->failed;
    if (failed)
        request_fail(r, "the answer needs more memory than a request may have");
    else
        call->reply(call);
    for (struct group_item *it = call->first; it != NULL; it = it->next)
        arena_fini(&it->arena); /* the answer is encoded */
}

static void call_done(struct fanout *f)
{
    struct group_call *call = container_of(f, struct group_call, fan);
    f->r->on_cancel = NULL;
    call->finished = true;
    if (!call->cancelling)
        call_reply(call);
}

/* NULL: it does not serve. */
static struct group_coord *group_coord_of(struct shard *s)
{
    const struct net *net = s->net;
    return net == NULL ? NULL : net->groups;
}

static void group_run(struct fanout_group *g)
{
    struct group_call *call = container_of(g->fanout, struct group_call, fan);
    struct group_coord *c = group_coord_of(g->owner);
    g->pending = 1; /* this function */
    for (struct fanout_item *it = g->first; it != NULL; it = it->next) {
        struct group_item *item = container_of(it, struct group_item, fan);
        item->at = g;
        g->pending++;
        if (c != NULL) {
            call->run(item, c);
        } else {
            item->fan.error = KAFKA_COORDINATOR_NOT_AVAILABLE;
            group_item_done(item);
        }
    }
    if (--g->pending == 0)
        fanout_group_done(g);
}

void group_item_done(struct group_item *item)
{
    item->done = true;
    if (--item->at->pending == 0)
        fanout_group_done(item->at);
}

int group_call_init(struct group_call *call, struct request *r, uint32_t items_max)
{
    call->tail = &call->first;
    return fanout_init(&call->fan, r, MAX(items_max, 1u));
}

static int item_add(struct group_call *call, struct group_item *item)
{
    item->call = call;
    arena_init(&item->arena, ITEM_ARENA_BYTES_MAX);
    *call->tail = item;
    call->tail = &item->next;
    item->fan.target.number = ++call->items_n; /* the same group twice is two items */
    return item->fan.error == KAFKA_NONE ? fanout_add(&call->fan, &item->fan, 0) : 0;
}

int group_call_add(struct group_call *call, struct group_item *item, struct wire_str group)
{
    struct shard *s = call->fan.r->shard;
    const struct meta_topic *topic =
        meta_topic_by_name(s->meta, GROUP_TOPIC_NAME, strlen(GROUP_TOPIC_NAME));
    int32_t at = topic == NULL ? -1 : group_partition_of(group_str_of(group), topic->partitions_n);
    if (group.len < 0)
        item->fan.error = KAFKA_INVALID_GROUP_ID;
    else
        item->fan.error = fanout_resolve(s, topic, at, &item->fan.target);
    if (item->fan.error == KAFKA_KAFKA_STORAGE_ERROR)
        item->fan.error = KAFKA_COORDINATOR_NOT_AVAILABLE;
    else if (item->fan.error != KAFKA_NONE && group.len >= 0)
        item->fan.error = KAFKA_NOT_COORDINATOR;
    return item_add(call, item);
}

int group_call_add_shard(struct group_call *call, struct group_item *item, unsigned shard)
{
    item->fan.target.shard = shard;
    return item_add(call, item);
}

void group_call_abort(struct group_call *call)
{
    fanout_abort(&call->fan);
    request_fail(call->fan.r, "no memory");
}

/* ---- cancel ---- */

static void on_cancelled(void *shard, struct env_msg *msg)
{
    (void)shard;
    struct group_call *call = container_of(msg, struct group_call, cancel_msg);
    call->cancelling = false;
    if (call->finished)
        call_reply(call);
}

static void on_cancel_msg(void *shard, struct env_msg *msg)
{
    struct shard *owner = shard;
    struct group_call *call = container_of(msg, struct group_call, cancel_msg);
    if (!call->first->done)
        call->cancel(call->first);
    msg->run = on_cancelled;
    env_post(owner->env, call->fan.r->shard->index, msg);
}

static void on_cancel(struct request *r)
{
    struct group_call *call = r->waiting;
    struct group_item *item = call->first;
    unsigned owner = item->fan.target.shard;
    if (owner == r->shard->index) {
        if (!item->done)
            call->cancel(item);
        return;
    }
    call->cancelling = true;
    call->cancel_msg.run = on_cancel_msg;
    env_post(r->shard->env, owner, &call->cancel_msg);
}

void group_call_start(struct group_call *call)
{
    struct request *r = call->fan.r;
    if (call->cancel != NULL && call->first->fan.error == KAFKA_NONE) {
        r->waiting = call;
        r->on_cancel = on_cancel;
    }
    fanout_start(&call->fan, group_run, call_done);
}

void group_call_one(struct group_call *call, struct request *r, struct group_item *item,
                    struct wire_str group)
{
    if (group_call_init(call, r, 1) < 0 || group_call_add(call, item, group) < 0)
        group_call_abort(call);
    else
        group_call_start(call);
}

/* ---- what is told ---- */

struct wire_str group_told(struct group_item *item, struct group_str s)
{
    if (s.len <= 0)
        return (struct wire_str){"", s.len < 0 ? -1 : 0};
    const char *copy = arena_dup(&item->arena, s.p, (size_t)s.len);
    item->failed = item->failed || copy == NULL;
    return copy == NULL ? (struct wire_str){"", 0} : (struct wire_str){copy, s.len};
}

struct wire_bytes group_told_bytes(struct group_item *item, struct group_blob b)
{
    struct wire_str s = group_told(item, (struct group_str){(const char *)b.p, MAX(b.len, 0)});
    return (struct wire_bytes){(const uint8_t *)s.p, s.len};
}

struct group_str group_client_host(struct request *r)
{
    char peer[SOCK_NAME_BYTES] = "";
    if (r->conn != NULL)
        sock_peer_name(r->conn->sock, peer);
    char *colon = strrchr(peer, ':');
    if (colon != NULL)
        *colon = '\0';
    const char *host = arena_printf(&r->arena, "/%s", peer);
    if (host == NULL)
        host = "/";
    return (struct group_str){host, (int32_t)strlen(host)};
}

void group_topic_change(struct request *r, struct meta_change *change)
{
    const struct broker_groups *config = &r->shard->broker->groups;
    struct meta_config_entry configs[] = {
        {"cleanup.policy", "compact"},
        {"compression.type", "producer"},
        {"segment.bytes", arena_printf(&r->arena, "%" PRId64, config->segment_bytes)},
    };
    *change = (struct meta_change){
        .kind = CHANGE_TOPIC_CREATE,
        .name = GROUP_TOPIC_NAME,
        .partitions_n = config->partitions_n,
        .configs = arena_dup(&r->arena, configs, sizeof(configs)),
        .configs_n = ARRAY_LEN(configs),
    };
    if (change->configs == NULL || configs[2].value == NULL)
        change->configs_n = 0;
}

/* ---- of a shard ---- */

void group_shard_meta(struct shard *s, const struct meta_topic *gone)
{
    group_coord_meta(group_coord_of(s), gone);
}

int group_shard_init(struct shard *s)
{
    struct net *net = s->net;
    net->groups = group_coord_create(s);
    if (net->groups == NULL)
        return -ENOMEM;
    return 0;
}

void group_shard_stop(struct shard *s)
{
    group_coord_stop(group_coord_of(s));
}

bool group_shard_stopped(const struct shard *s)
{
    const struct net *net = s->net;
    return group_coord_idle(net->groups);
}

void group_shard_fini(struct shard *s)
{
    struct net *net = s->net;
    group_coord_destroy(net->groups);
    net->groups = NULL;
}
