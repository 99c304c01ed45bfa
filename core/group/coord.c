/* coord.c: the coordinator's memory, its groups, and which partitions of the topic are here. */
#include "core/group/internal.h"

#include <errno.h>
#include <stdlib.h>

#include "core/base/logger.h"

/* Of the shard's memory for partitions; groups live on the heap beside it. */
#define MEMORY_SHARE 4u
#define MEMORY_BYTES_MIN (16u << 20)

/* ---- memory ---- */

struct piece {
    size_t len_bytes;
    _Alignas(16) char data[];
};

void *mem_take(struct group_coord *c, size_t len_bytes)
{
    if (c->counters.bytes + len_bytes > c->bytes_max && !c->unlimited)
        return NULL;
    struct piece *piece = malloc(sizeof(*piece) + len_bytes);
    if (piece == NULL)
        return NULL;
    piece->len_bytes = sizeof(*piece) + len_bytes;
    counter_add(&c->counters.bytes, piece->len_bytes);
    return piece->data;
}

void mem_give(struct group_coord *c, void *p)
{
    if (p == NULL)
        return;
    struct piece *piece = container_of(p, struct piece, data);
    counter_add(&c->counters.bytes, -piece->len_bytes);
    free(piece);
}

int str_dup(struct group_coord *c, struct group_str s, struct group_str *ret)
{
    char *p = NULL;
    if (s.len > 0) {
        p = mem_take(c, (size_t)s.len);
        if (p == NULL)
            return -ENOMEM;
        memcpy(p, s.p, (size_t)s.len);
    }
    *ret = (struct group_str){p, s.len};
    return 0;
}

void str_free(struct group_coord *c, struct group_str *s)
{
    mem_give(c, (void *)(uintptr_t)s->p);
    *s = (struct group_str){NULL, -1};
}

int blob_dup(struct group_coord *c, struct group_blob b, struct group_blob *ret)
{
    struct group_str copy;
    if (str_dup(c, (struct group_str){(const char *)b.p, MAX(b.len, 0)}, &copy) < 0)
        return -ENOMEM;
    *ret = (struct group_blob){(const uint8_t *)copy.p, copy.len};
    return 0;
}

void blob_free(struct group_coord *c, struct group_blob *b)
{
    mem_give(c, (void *)(uintptr_t)b->p);
    *b = (struct group_blob){NULL, 0};
}

void timer_set_ms(struct group_coord *c, struct shard_timer *t, int64_t ms,
                  void (*run)(struct shard_timer *t))
{
    shard_timer_set(c->shard, t, env_now_ns(c->shard->env) + (uint64_t)MAX(ms, 0) * NS_PER_MS, run);
}

/* ---- groups ---- */

const char *group_state_name(enum group_state state)
{
    static const char *const names[] = {[GROUP_EMPTY] = "Empty",
                                        [GROUP_PREPARING] = "PreparingRebalance",
                                        [GROUP_COMPLETING] = "CompletingRebalance",
                                        [GROUP_STABLE] = "Stable"};
    _Static_assert(ARRAY_LEN(names) == GROUP_STATES, "a name each");
    return names[state];
}

struct group *group_get(const struct group_coord *c, struct group_str name)
{
    struct name *found = names_find(&c->groups, name);
    return found == NULL ? NULL : container_of(found, struct group, name);
}

static void names_init(struct names *n, const struct group_coord *c)
{
    map_init(&n->by_hash);
    n->seed = c->groups.seed;
}

struct group *group_make(struct partition *p, struct group_str name)
{
    struct group_coord *c = p->coord;
    struct group *g = mem_take(c, sizeof(*g));
    struct group_str copy = {NULL, -1};
    if (g == NULL)
        return NULL;
    *g = (struct group){.coord = c,
                        .partition = p,
                        .state_ms = -1,
                        .protocol_type = {NULL, -1},
                        .protocol = {NULL, -1}};
    if (str_dup(c, name, &copy) < 0 || names_add(&c->groups, &g->name, copy) < 0) {
        str_free(c, &copy);
        mem_give(c, g);
        return NULL;
    }
    list_init(&g->members);
    list_init(&g->pending);
    list_init(&g->votes);
    names_init(&g->by_id, c);
    names_init(&g->by_instance, c);
    names_init(&g->pending_by_id, c);
    names_init(&g->votes_by_name, c);
    map_init(&g->offsets);
    list_push_tail(&p->groups, &g->link);
    counter_add(&c->counters.groups[g->state], 1);
    return g;
}

static void offsets_drop(struct group *g)
{
    struct offset *o;
    for (size_t it = 0; (o = map_next(&g->offsets, &it)) != NULL;)
        offset_free(o);
    map_fini(&g->offsets);
}

void group_destroy(struct group *g, enum group_error error)
{
    struct group_coord *c = g->coord;
    for (struct list_node *it; (it = list_head(&g->members)) != NULL;)
        member_remove(container_of(it, struct group_member, link), error);
    for (struct list_node *it; (it = list_head(&g->pending)) != NULL;)
        pending_remove(container_of(it, struct pending, link));
    offsets_drop(g);
    map_fini(&g->by_id.by_hash);
    map_fini(&g->by_instance.by_hash);
    map_fini(&g->pending_by_id.by_hash);
    map_fini(&g->votes_by_name.by_hash);
    shard_timer_clear(c->shard, &g->phase);
    list_remove(&g->assigned.link);
    if (g->partition->finish_at == &g->link)
        g->partition->finish_at = g->link.next;
    list_remove(&g->link);
    names_remove(&c->groups, &g->name);
    str_free(c, &g->name.text);
    str_free(c, &g->protocol_type);
    str_free(c, &g->protocol);
    counter_add(&c->counters.groups[g->state], (uint64_t)-1);
    mem_give(c, g);
}

void group_drop_idle(struct group *g)
{
    if (g->state == GROUP_EMPTY && !g->stored && g->members_n == 0 && g->pending_n == 0 &&
        g->offsets.count == 0)
        group_destroy(g, GROUP_ID_NOT_FOUND);
}

void group_state_loaded(struct group *g, enum group_state state)
{
    struct group_counters *counters = &g->coord->counters;
    counter_add(&counters->groups[g->state], (uint64_t)-1);
    counter_add(&counters->groups[state], 1);
    g->state = state;
}

void group_state_set(struct group *g, enum group_state state)
{
    g->state_before = g->state;
    group_state_loaded(g, state);
    g->state_ms = env_wall_ms(g->coord->shard->env);
}

enum group_error group_find(struct group_coord *c, struct group_str group, const struct group **ret)
{
    struct partition *p;
    enum group_error error = partition_for(c, group, &p);
    if (error != GROUP_OK)
        return error;
    *ret = group_get(c, group);
    return *ret == NULL ? GROUP_ID_NOT_FOUND : GROUP_OK;
}

static struct group_str or_empty(struct group_str s)
{
    return s.len < 0 ? (struct group_str){"", 0} : s;
}

void group_describe(const struct group *g, struct group_info *ret)
{
    *ret = (struct group_info){.id = g->name.text,
                               .protocol_type = or_empty(g->protocol_type),
                               .protocol = or_empty(g->protocol),
                               .state = g->state,
                               .members_n = g->members_n};
}

bool group_member_next(const struct group *g, const struct group_member **it,
                       struct group_member_info *ret)
{
    struct list_node *next = *it == NULL ? g->members.next : (*it)->link.next;
    if (next == &g->members)
        return false;
    const struct group_member *m = container_of(next, struct group_member, link);
    const struct group_protocol *protocol = member_protocol(m, g->protocol);
    *it = m;
    *ret = (struct group_member_info){.id = m->id.text,
                                      .instance = m->instance.text,
                                      .client_id = or_empty(m->client_id),
                                      .client_host = or_empty(m->client_host),
                                      .metadata = {NULL, 0},
                                      .assignment = m->assignment};
    if (protocol != NULL)
        ret->metadata = protocol->metadata;
    return true;
}

void group_each(const struct group_coord *c, void (*see)(const struct group *g, void *arg),
                void *arg)
{
    for (int32_t i = 0; i < c->partitions_n; i++)
        if (c->partitions[i] != NULL && c->partitions[i]->state == PARTITION_READY)
            list_for_each(it, &c->partitions[i]->groups)
                see(container_of(it, struct group, link), arg);
}

bool group_loading(const struct group_coord *c)
{
    for (int32_t i = 0; i < c->partitions_n; i++)
        if (c->partitions[i] != NULL && c->partitions[i]->state == PARTITION_LOADING)
            return true;
    return false;
}

const struct group_counters *group_counters(const struct group_coord *c)
{
    return &c->counters;
}

/* ---- where a group is ---- */

/* The next code point; what is no UTF-8 counts as U+FFFD, byte by byte. */
static uint32_t code_point(const uint8_t **p, const uint8_t *end)
{
    uint8_t first = *(*p)++;
    unsigned more = first < 0x80   ? 0
                    : first < 0xc2 ? 4
                    : first < 0xe0 ? 1
                    : first < 0xf0 ? 2
                    : first < 0xf5 ? 3
                                   : 4;
    if (more == 0)
        return first;
    uint32_t point = first & (0x3fu >> more);
    for (unsigned i = 0; i < more; i++) {
        if (more == 4 || *p + i >= end || ((*p)[i] & 0xc0) != 0x80)
            return 0xfffd;
        point = point << 6 | ((*p)[i] & 0x3fu);
    }
    *p += more;
    return point;
}

int32_t group_partition_of(struct group_str group, int32_t n)
{
    const uint8_t *p = (const uint8_t *)group.p, *end = p + MAX(group.len, 0);
    uint32_t h = 0; /* Java's hash is over UTF-16 */
    while (p < end) {
        uint32_t point = code_point(&p, end);
        if (point >= 0x10000) {
            h = h * 31 + (0xd800 + ((point - 0x10000) >> 10));
            point = 0xdc00 + ((point - 0x10000) & 0x3ff);
        }
        h = h * 31 + point;
    }
    int32_t hash = (int32_t)h;
    return hash == INT32_MIN ? 0 : (hash < 0 ? -hash : hash) % n;
}

enum group_error partition_for(struct group_coord *c, struct group_str group,
                               struct partition **ret)
{
    if (c->stopping)
        return GROUP_NOT_AVAILABLE;
    if (c->partitions_n == 0)
        return GROUP_NOT_COORDINATOR;
    struct partition *p = c->partitions[group_partition_of(group, c->partitions_n)];
    if (p == NULL)
        return GROUP_NOT_COORDINATOR;
    if (p->state != PARTITION_READY)
        return p->state == PARTITION_LOADING ? GROUP_LOADING : GROUP_NOT_AVAILABLE;
    *ret = p;
    return GROUP_OK;
}

/* ---- partitions come and go ---- */

static void partitions_drop(struct group_coord *c)
{
    for (int32_t i = 0; i < c->partitions_n; i++)
        if (c->partitions[i] != NULL)
            partition_let_go(c->partitions[i]);
    free(c->partitions);
    c->partitions = NULL;
    c->partitions_n = 0;
    c->topic_number0 = 0;
}

static int partitions_grow(struct group_coord *c, int32_t n)
{
    struct partition **grown = realloc(c->partitions, (size_t)n * sizeof(struct partition *));
    if (grown == NULL)
        return -ENOMEM;
    for (int32_t i = c->partitions_n; i < n; i++)
        grown[i] = NULL;
    c->partitions = grown;
    c->partitions_n = n;
    return 0;
}

static void partition_follow(struct group_coord *c, int32_t i, const struct meta_partition *meta)
{
    bool here = meta->shard == c->shard->index && /* and not on its way here, or away */
                log_store_find(c->shard->logs, meta->number) != NULL;
    if (here == (c->partitions[i] != NULL))
        return;
    if (!here) {
        partition_let_go(c->partitions[i]);
        c->partitions[i] = NULL;
        return;
    }
    c->partitions[i] = partition_create(c, i, meta->number);
    if (c->partitions[i] == NULL)
        log_error("shard %u / %s-%d: no memory for its groups", c->shard->index, GROUP_TOPIC_NAME,
                  i);
}

/* Groups are where their partitions are. A topic that was deleted and made again is another one;
 * partitions that are added move groups to others, as they do in Kafka: their old state is lost. */
static void topic_follow(struct group_coord *c)
{
    const struct meta_topic *topic =
        meta_topic_by_name(c->shard->meta, GROUP_TOPIC_NAME, strlen(GROUP_TOPIC_NAME));
    if (c->partitions_n > 0 && (topic == NULL || topic->partitions[0].number != c->topic_number0))
        partitions_drop(c);
    if (topic == NULL)
        return;
    if (topic->partitions_n > c->partitions_n && partitions_grow(c, topic->partitions_n) < 0)
        return;
    c->topic_number0 = topic->partitions[0].number;
    for (int32_t i = 0; i < c->partitions_n; i++)
        partition_follow(c, i, &topic->partitions[i]);
    load_start(c);
    expiry_arm(c);
}

void group_coord_meta(struct group_coord *c, const struct meta_topic *gone)
{
    if (c->stopping)
        return;
    struct group_str name = {gone == NULL ? NULL : gone->name,
                             gone == NULL ? -1 : (int32_t)strlen(gone->name)};
    struct name *found = names_find(&c->topics, name);
    if (found != NULL)
        topic_gone(c, container_of(found, struct topic, name));
    topic_follow(c);
}

struct group_coord *group_coord_create(struct shard *s)
{
    struct group_coord *c = counter_calloc(sizeof(*c));
    if (c == NULL)
        return NULL;
    c->shard = s;
    c->config = &s->broker->groups;
    c->bytes_max = MAX(s->log_memory.size_bytes / MEMORY_SHARE, (size_t)MEMORY_BYTES_MIN);
    c->groups.seed = env_random(s->env);
    names_init(&c->groups, c);
    names_init(&c->topics, c);
    list_init(&c->orphans);
    list_init(&c->gone);
    list_init(&c->made);
    batch_builder_init(&c->builder, BATCH_NONE);
    topic_follow(c);
    return c;
}

void group_coord_stop(struct group_coord *c)
{
    c->stopping = true;
    struct shard_timer *timers[] = {&c->load_timer, &c->expiry_timer, &c->gone_timer};
    for (unsigned i = 0; i < ARRAY_LEN(timers); i++)
        shard_timer_clear(c->shard, timers[i]);
    for (int32_t i = 0; i < c->partitions_n; i++)
        if (c->partitions[i] != NULL)
            partition_stop(c->partitions[i]);
}

bool group_coord_idle(const struct group_coord *c)
{
    for (int32_t i = 0; i < c->partitions_n; i++)
        if (c->partitions[i] != NULL && partition_busy(c->partitions[i]))
            return false;
    return list_empty(&c->orphans) && c->reading == NULL;
}

void group_coord_destroy(struct group_coord *c)
{
    ASSERT(c->stopping && group_coord_idle(c));
    partitions_drop(c);
    shard_timer_clear(c->shard, &c->pump_timer);
    gone_fini(c);
    for (unsigned state = 0; state < GROUP_STATES; state++)
        ASSERT(c->counters.groups[state] == 0);
    ASSERT(c->counters.members == 0 && c->counters.bytes == 0);
    map_fini(&c->groups.by_hash);
    map_fini(&c->topics.by_hash);
    batch_builder_fini(&c->builder);
    record_out_fini(&c->key);
    record_out_fini(&c->value);
    free(c);
}
