#include "net/api/fetch_session.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/assert.h"
#include "core/base/bytes.h"
#include "net/net.h"

#define EPOCH_FULL 0   /* a full fetch that wants a session */
#define EPOCH_FINAL -1 /* a full fetch that does not */

struct fetch_sessions {
    unsigned shard, slots_max, count;
    uint32_t units_max, units; /* of all sessions, those on their way out included */
    struct list_node used;     /* longest unused first */
    struct map by_id;
};

struct fetch_sessions *fetch_sessions_create(unsigned shard, unsigned slots_max, uint32_t units_max)
{
    struct fetch_sessions *c = calloc(1, sizeof(*c));
    if (c == NULL)
        return NULL;
    c->shard = shard;
    c->slots_max = slots_max;
    c->units_max = units_max;
    list_init(&c->used);
    map_init(&c->by_id);
    return c;
}

unsigned fetch_sessions_count(const struct fetch_sessions *c)
{
    return c->count;
}

/* ---- what a session holds ---- */

static void units_sub(struct fetch_sessions *c, struct fetch_session *s)
{
    ASSERT(s->units > 0 && c->units > 0);
    s->units--;
    c->units--;
}

static bool units_add(struct fetch_sessions *c, struct fetch_session *s)
{
    if (c->units >= c->units_max)
        return false;
    s->units++;
    c->units++;
    return true;
}

static void topic_free(struct fetch_session_topic *t)
{
    free(t->resolved_name);
    free(t);
}

static void gone_free(struct fetch_sessions *c, struct fetch_session *s)
{
    if (s->under_way > 0)
        return;
    for (struct list_node *node; (node = list_pop_head(&s->parts_gone)) != NULL;) {
        free(container_of(node, struct fetch_session_part, link));
        units_sub(c, s);
    }
    for (struct list_node *node; (node = list_pop_head(&s->topics_gone)) != NULL;) {
        topic_free(container_of(node, struct fetch_session_topic, link));
        units_sub(c, s);
    }
}

static uint64_t topic_hash(const struct wire_str *name, const struct wire_uuid *id)
{
    uint64_t hash = 0xcbf29ce484222325u; /* FNV-1a */
    for (unsigned i = 0; i < sizeof(id->b); i++)
        hash = (hash ^ id->b[i]) * 0x100000001b3u;
    for (int32_t i = 0; i < name->len; i++)
        hash = (hash ^ (uint8_t)name->p[i]) * 0x100000001b3u;
    return hash;
}

static bool topic_is(const struct fetch_session_topic *t, const struct wire_str *name,
                     const struct wire_uuid *id)
{
    int32_t len = MAX(name->len, 0);
    return t->topic.name.len == len && memcmp(t->topic.name.p, name->p, (size_t)len) == 0 &&
           memcmp(&t->topic.id, id, sizeof(*id)) == 0;
}

static struct fetch_session_topic *
topic_find(const struct fetch_session *s, const struct wire_str *name, const struct wire_uuid *id)
{
    struct fetch_session_topic *t = map_get(&s->topic_map, topic_hash(name, id));
    while (t != NULL && !topic_is(t, name, id))
        t = t->same_hash;
    return t;
}

static struct fetch_session_topic *topic_make(struct fetch_sessions *c, struct fetch_session *s,
                                              const struct wire_str *name,
                                              const struct wire_uuid *id)
{
    struct fetch_session_topic *t = topic_find(s, name, id);
    if (t != NULL)
        return t;
    size_t len = (size_t)MAX(name->len, 0);
    t = calloc(1, sizeof(*t) + len);
    if (t == NULL || s->topics_made == UINT32_MAX || !units_add(c, s)) {
        free(t);
        return NULL;
    }
    if (len > 0)
        memcpy(t->name, name->p, len);
    t->topic.name = (struct wire_str){t->name, (int32_t)len};
    t->topic.id = *id;
    t->topic.resolved_version = UINT64_MAX;
    t->hash = topic_hash(name, id);
    t->same_hash = map_get(&s->topic_map, t->hash);
    if (map_put(&s->topic_map, t->hash, t) != 0) {
        units_sub(c, s);
        free(t);
        return NULL;
    }
    t->number = s->topics_made++;
    return t;
}

static void topic_drop_if_empty(struct fetch_session *s, struct fetch_session_topic *t)
{
    if (t->parts_n > 0)
        return;
    struct fetch_session_topic *head = map_get(&s->topic_map, t->hash);
    if (head == t && t->same_hash == NULL) {
        map_remove(&s->topic_map, t->hash);
    } else if (head == t) {
        map_remove(&s->topic_map, t->hash);
        int rc = map_put(&s->topic_map, t->hash, t->same_hash);
        ASSERT(rc == 0); /* its slot was just left */
    } else {
        while (head->same_hash != t)
            head = head->same_hash;
        head->same_hash = t->same_hash;
    }
    list_push_tail(&s->topics_gone, &t->link);
}

static uint64_t part_key(const struct fetch_session_topic *t, int32_t index)
{
    return (uint64_t)t->number << 32 | (uint32_t)index;
}

/* False: no room. */
static bool part_set(struct fetch_sessions *c, struct fetch_session *s,
                     struct fetch_session_topic *t,
                     const struct fetch_request_fetch_partition *asked)
{
    struct fetch_session_part *part = map_get(&s->part_map, part_key(t, asked->partition));
    if (part == NULL) {
        part = calloc(1, sizeof(*part));
        if (part == NULL || !units_add(c, s)) {
            free(part);
            return false;
        }
        if (map_put(&s->part_map, part_key(t, asked->partition), part) != 0) {
            units_sub(c, s);
            free(part);
            return false;
        }
        part->topic = t;
        part->index = asked->partition;
        part->sent_high_watermark = part->sent_log_start = -1;
        list_push_tail(&s->parts, &part->link);
        s->parts_n++;
        t->parts_n++;
    }
    part->want = (struct fetch_want){.offset = asked->fetch_offset,
                                     .max_bytes = asked->partition_max_bytes,
                                     .current_leader_epoch = asked->current_leader_epoch,
                                     .last_fetched_epoch = asked->last_fetched_epoch};
    return true;
}

static void part_forget(struct fetch_session *s, struct fetch_session_topic *t, int32_t index)
{
    struct fetch_session_part *part = map_remove(&s->part_map, part_key(t, index));
    if (part == NULL)
        return;
    part->gone = true;
    list_remove(&part->link);
    list_push_tail(&s->parts_gone, &part->link);
    s->parts_n--;
    t->parts_n--;
    topic_drop_if_empty(s, t);
}

/* As in Kafka what is both added and forgotten is forgotten. False: no room; then the session is
 * incomplete and must end. */
static bool session_update(struct fetch_sessions *c, struct fetch_session *s,
                           const struct fetch_request *q)
{
    for (int32_t i = 0; i < q->topics_n; i++) {
        const struct fetch_request_fetch_topic *asked = &q->topics[i];
        struct fetch_session_topic *t = NULL;
        for (int32_t k = 0; k < asked->partitions_n; k++) {
            if (t == NULL)
                t = topic_make(c, s, &asked->topic, &asked->topic_id);
            if (t == NULL || !part_set(c, s, t, &asked->partitions[k]))
                return false;
        }
    }
    for (int32_t i = 0; i < q->forgotten_topics_data_n; i++) {
        const struct fetch_request_forgotten_topic *asked = &q->forgotten_topics_data[i];
        for (int32_t k = 0; k < asked->partitions_n; k++) {
            struct fetch_session_topic *t = topic_find(s, &asked->topic, &asked->topic_id);
            if (t != NULL)
                part_forget(s, t, asked->partitions[k]);
        }
    }
    return true;
}

/* ---- sessions come and go ---- */

static void session_free(struct fetch_sessions *c, struct fetch_session *s)
{
    gone_free(c, s);
    struct fetch_session_topic *t;
    for (size_t it = 0; (t = map_next(&s->topic_map, &it)) != NULL;)
        while (t != NULL) {
            struct fetch_session_topic *next = t->same_hash;
            topic_free(t);
            units_sub(c, s);
            t = next;
        }
    for (struct list_node *node; (node = list_pop_head(&s->parts)) != NULL;) {
        free(container_of(node, struct fetch_session_part, link));
        units_sub(c, s);
    }
    ASSERT(s->units == 0);
    map_fini(&s->topic_map);
    map_fini(&s->part_map);
    free(s);
}

/* Nobody finds it any more; freed when its last request has ended. */
static void session_close(struct fetch_sessions *c, struct fetch_session *s)
{
    if (!s->gone) {
        s->gone = true;
        list_remove(&s->link);
        map_remove(&c->by_id, (uint64_t)s->id);
        c->count--;
    }
    if (s->under_way == 0)
        session_free(c, s);
}

void fetch_sessions_destroy(struct fetch_sessions *c)
{
    if (c == NULL)
        return;
    for (struct list_node *node; (node = list_head(&c->used)) != NULL;) {
        struct fetch_session *s = container_of(node, struct fetch_session, link);
        ASSERT(s->under_way == 0);
        session_close(c, s);
    }
    map_fini(&c->by_id);
    free(c);
}

static void session_use(struct fetch_sessions *c, struct fetch_session *s, uint64_t now_ns)
{
    s->used_ns = now_ns;
    s->under_way++;
    list_remove(&s->link);
    list_push_tail(&c->used, &s->link);
}

static bool make_room(struct fetch_sessions *c, uint64_t now_ns)
{
    struct list_node *node = list_head(&c->used);
    if (c->count < c->slots_max)
        return true;
    if (node == NULL)
        return false;
    struct fetch_session *oldest = container_of(node, struct fetch_session, link);
    if (oldest->under_way > 0 || now_ns - oldest->used_ns <= FETCH_SESSION_IDLE_NS_MAX)
        return false;
    session_close(c, oldest);
    return true;
}

static int32_t id_make(const struct fetch_sessions *c, uint64_t random)
{
    const uint32_t mask = INT32_MAX >> FETCH_SESSION_SHARD_BITS;
    for (uint32_t high = (uint32_t)random & mask;; high = (high + 1) & mask) {
        uint32_t id = high << FETCH_SESSION_SHARD_BITS | c->shard;
        if (high != 0 && map_get(&c->by_id, id) == NULL)
            return (int32_t)id;
    }
}

/* NULL: declined. */
static struct fetch_session *session_open(struct fetch_sessions *c, const struct fetch_request *q,
                                          bool by_id, uint64_t now_ns, uint64_t random)
{
    if (q->topics_n <= 0 || !make_room(c, now_ns))
        return NULL;
    struct fetch_session *s = calloc(1, sizeof(*s));
    if (s == NULL)
        return NULL;
    s->id = id_make(c, random);
    s->next_epoch = 1;
    s->by_id = by_id;
    list_init(&s->parts);
    list_init(&s->parts_gone);
    list_init(&s->topics_gone);
    if (!session_update(c, s, q) || map_put(&c->by_id, (uint64_t)s->id, s) != 0) {
        session_free(c, s);
        return NULL;
    }
    c->count++;
    session_use(c, s, now_ns);
    return s;
}

static int16_t begin_incremental(struct fetch_sessions *c, struct fetch_session *s,
                                 const struct fetch_request *q, bool by_id, uint64_t now_ns,
                                 struct fetch_context *ret)
{
    if (s == NULL)
        return KAFKA_FETCH_SESSION_ID_NOT_FOUND;
    if (q->session_epoch != s->next_epoch)
        return KAFKA_INVALID_FETCH_SESSION_EPOCH;
    if (by_id != s->by_id)
        return KAFKA_FETCH_SESSION_TOPIC_ID_ERROR;
    if (!session_update(c, s, q)) {
        session_close(c, s); /* the client starts over, and may then be declined */
        return KAFKA_FETCH_SESSION_ID_NOT_FOUND;
    }
    if (s->parts_n == 0) { /* as Kafka: nothing is left to remember */
        session_close(c, s);
        *ret = (struct fetch_context){.full = true};
        return KAFKA_NONE;
    }
    s->next_epoch = s->next_epoch == INT32_MAX ? 1 : s->next_epoch + 1;
    gone_free(c, s);
    session_use(c, s, now_ns);
    *ret = (struct fetch_context){.session = s};
    return KAFKA_NONE;
}

int16_t fetch_sessions_begin(struct fetch_sessions *c, const struct fetch_request *q, bool by_id,
                             uint64_t now_ns, uint64_t random, struct fetch_context *ret)
{
    struct fetch_session *old =
        q->session_id > 0 ? map_get(&c->by_id, (uint64_t)q->session_id) : NULL;
    if (q->session_epoch != EPOCH_FULL && q->session_epoch != EPOCH_FINAL)
        return begin_incremental(c, old, q, by_id, now_ns, ret);
    if (old != NULL)
        session_close(c, old);
    struct fetch_session *s = NULL;
    if (q->session_epoch == EPOCH_FULL)
        s = session_open(c, q, by_id, now_ns, random);
    *ret = (struct fetch_context){.session = s, .full = true, .opened = s != NULL};
    return KAFKA_NONE;
}

void fetch_sessions_end(struct fetch_sessions *c, struct fetch_session *s, bool keep)
{
    ASSERT(s->under_way > 0);
    s->under_way--;
    if (s->gone || !keep)
        session_close(c, s);
    else
        gone_free(c, s);
}

/* ---- answering ---- */

bool fetch_session_told(struct fetch_session_part *part, int16_t error, int64_t high_watermark,
                        int64_t log_start)
{
    bool tell = error != KAFKA_NONE || part->sent_high_watermark != high_watermark ||
                part->sent_log_start != log_start;
    part->sent_high_watermark = error != KAFKA_NONE ? -1 : high_watermark;
    part->sent_log_start = error != KAFKA_NONE ? -1 : log_start;
    return tell;
}

void fetch_session_served(struct fetch_session *s, struct fetch_session_part *part)
{
    if (part->gone)
        return;
    list_remove(&part->link);
    list_push_tail(&s->parts, &part->link);
}
