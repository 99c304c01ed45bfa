#include "core/shard/controller.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/assert.h"
#include "core/base/bytes.h"
#include "core/base/logger.h"

struct controller {
    struct shard *shard;
    struct meta_log *log;
    struct meta_image *image;    /* the newest that all shards have applied */
    struct list_node waiting;    /* struct meta_change, in order of arrival */
    struct meta_change *current; /* at most one is being made */
    unsigned spread_next;        /* shard of the next topic's first partition */
    struct publish *publishes;   /* one a shard */
    uint64_t dir_partitions[META_DIRS_MAX];
    struct moves moves;
    uint64_t dir_topic_partitions[META_DIRS_MAX];    /* of the topic at hand */
    uint32_t (*dir_shard_partitions)[META_DIRS_MAX]; /* one row a shard */
    uint64_t dir_space[META_DIRS_MAX];               /* MiB that are free; 0: not known */
    uint64_t space_at_ns;                            /* when that was asked for; 0: never */
    struct env_op space_op;
    struct env_name_step space_steps[META_DIRS_MAX];
    uint8_t space_dirs[META_DIRS_MAX]; /* whose a step is */
};

#define SPACE_FRESH_NS UINT64_C(10000000000)

/* ---- making the record ---- */

/* What is not known counts as the most that is known, or as the others where nothing is. */
static uint64_t dir_space(const struct controller *c, unsigned dir)
{
    uint64_t most = 1;
    for (unsigned i = 0; i < c->image->dirs_n; i++)
        most = MAX(most, c->dir_space[i]);
    return c->dir_space[dir] > 0 ? c->dir_space[dir] : most;
}

/* Fewer partitions of the topic for the space that is free, then fewer of the shard (else shards
 * and directories, both dealt in turn, would go together), then fewer of all. Counts and MiB are
 * below 2^32, as devices are below 2^52 bytes: no product overflows. */
static bool dir_is_better(const struct controller *c, unsigned shard, unsigned a, unsigned b)
{
    uint64_t space_a = MIN(dir_space(c, a), UINT32_MAX), space_b = MIN(dir_space(c, b), UINT32_MAX);
    uint64_t topic_a = c->dir_topic_partitions[a] * space_b;
    uint64_t topic_b = c->dir_topic_partitions[b] * space_a;
    if (topic_a != topic_b)
        return topic_a < topic_b;
    uint64_t shard_a = c->dir_shard_partitions[shard][a] * space_b;
    uint64_t shard_b = c->dir_shard_partitions[shard][b] * space_a;
    if (shard_a != shard_b)
        return shard_a < shard_b;
    return (c->dir_partitions[a] + 1) * space_b < (c->dir_partitions[b] + 1) * space_a;
}

/* -EIO: all are offline. */
static int dir_choose(struct controller *c, unsigned shard)
{
    uint64_t offline = log_store_dirs_offline(c->shard->logs);
    int best = -EIO;
    for (unsigned i = 0; i < c->image->dirs_n; i++)
        if ((offline >> i & 1) == 0 && (best < 0 || dir_is_better(c, shard, i, (unsigned)best)))
            best = (int)i;
    if (best < 0)
        return c->image->dirs_n == 0 ? 0 : best;
    c->dir_partitions[best]++;
    c->dir_topic_partitions[best]++;
    c->dir_shard_partitions[shard][best]++;
    return best;
}

static void dirs_count_topic(struct controller *c, const struct meta_topic *topic)
{
    memset(c->dir_topic_partitions, 0, sizeof(c->dir_topic_partitions));
    for (int32_t p = 0; topic != NULL && p < topic->partitions_n; p++)
        if (topic->partitions[p].dir < META_DIRS_MAX)
            c->dir_topic_partitions[topic->partitions[p].dir]++;
}

static void dirs_count(struct controller *c)
{
    unsigned shards_n = c->shard->broker->shards_n;
    memset(c->dir_partitions, 0, sizeof(c->dir_partitions));
    memset(c->dir_shard_partitions, 0, shards_n * sizeof(*c->dir_shard_partitions));
    for (unsigned t = 0; t < c->image->topics_n; t++) {
        const struct meta_topic *topic = c->image->topics[t];
        for (int32_t p = 0; p < topic->partitions_n; p++) {
            const struct meta_partition *part = &topic->partitions[p];
            if (part->dir >= META_DIRS_MAX || part->shard >= shards_n)
                continue;
            c->dir_partitions[part->dir]++;
            c->dir_shard_partitions[part->shard][part->dir]++;
        }
    }
}

/* Owner of partition `at` of `n` new ones; -ENXIO: the change names a node that is none. */
static int shard_choose(const struct controller *c, const struct meta_change *change,
                        unsigned first, int32_t at)
{
    const struct broker *b = c->shard->broker;
    if (change->leaders == NULL)
        return (int)((first + (unsigned)at) % b->shards_n);
    const struct broker_node *node = broker_node_by_id(b, change->leaders[at]);
    if (node == NULL)
        return -ENXIO;
    return (int)(node->first_shard + (first + (unsigned)at) % node->shards_n);
}

/* n new partitions into the record, the first of them for shard `first` when spread. */
static int record_partitions(struct controller *c, struct meta_change *change, unsigned first,
                             int32_t n)
{
    struct meta_partition *parts = calloc((size_t)n, sizeof(*parts));
    if (parts == NULL)
        return -ENOMEM;
    for (int32_t i = 0; i < n; i++) {
        int owner = shard_choose(c, change, first, i);
        int dir = owner < 0 ? owner : dir_choose(c, (unsigned)owner);
        if (dir < 0) {
            free(parts);
            dirs_count(c);
            return dir;
        }
        parts[i] = (struct meta_partition){.number = c->image->next_number + (uint64_t)i,
                                           .shard = (uint16_t)owner,
                                           .dir = (uint16_t)dir};
    }
    change->record.partitions = parts;
    change->record.partitions_n = n;
    return 0;
}

static int make_topic_create(struct controller *c, struct meta_change *change)
{
    size_t len = strlen(change->name);
    if (meta_topic_by_name(c->image, change->name, len) != NULL)
        return -EEXIST;
    if (meta_topic_name_check(change->name, len) < 0)
        return -EINVAL;
    if (meta_topic_name_collides(c->image, change->name))
        return -ENOTUNIQ;
    if (change->partitions_n < 1 || change->partitions_n > META_PARTITIONS_MAX)
        return -EDOM;
    dirs_count_topic(c, NULL);
    int rc = record_partitions(c, change, c->spread_next, change->partitions_n);
    if (rc < 0)
        return rc;
    c->spread_next += (unsigned)change->partitions_n;
    struct env *env = c->shard->env;
    meta_uuid_make(env_random(env), env_random(env), &change->id);
    change->record.kind = META_TOPIC_CREATE;
    change->record.id = change->id;
    change->record.name = change->name;
    change->record.configs = change->configs;
    change->record.configs_n = change->configs_n;
    return 0;
}

static int make_topic_delete(struct controller *c, struct meta_change *change)
{
    if (meta_topic_by_id(c->image, &change->id) == NULL)
        return -ENOENT;
    change->record.kind = META_TOPIC_DELETE;
    change->record.id = change->id;
    return 0;
}

static int make_partitions_add(struct controller *c, struct meta_change *change)
{
    const struct meta_topic *topic =
        meta_topic_by_name(c->image, change->name, strlen(change->name));
    if (topic == NULL)
        return -ENOENT;
    if (change->partitions_n <= topic->partitions_n || change->partitions_n > META_PARTITIONS_MAX)
        return -EDOM;
    unsigned first = topic->partitions[topic->partitions_n - 1].shard + 1u;
    dirs_count_topic(c, topic);
    change->id = topic->id;
    change->record.kind = META_PARTITIONS_ADD;
    change->record.id = topic->id;
    return record_partitions(c, change, first, change->partitions_n - topic->partitions_n);
}

static int make_producer_ids(struct controller *c, struct meta_change *change)
{
    change->value = c->image->next_producer_id;
    if (change->value > INT64_MAX - CHANGE_PRODUCER_ID_BLOCK)
        return -EDOM;
    change->record.kind = META_PRODUCER_IDS;
    change->record.value = (uint64_t)change->value + CHANGE_PRODUCER_ID_BLOCK;
    return 0;
}

static int make_topic_config(struct controller *c, struct meta_change *change)
{
    const struct meta_topic *topic = meta_topic_by_id(c->image, &change->id);
    if (topic == NULL)
        return -ENOENT;
    if (topic->made_at != change->made_at)
        return -ESTALE;
    change->record.kind = META_TOPIC_CONFIG;
    change->record.id = change->id;
    change->record.configs = change->configs;
    change->record.configs_n = change->configs_n;
    return 0;
}

static int make_broker_config(struct controller *c, struct meta_change *change)
{
    if (meta_broker_made_at(c->image, (enum meta_layer)change->value) != change->made_at)
        return -ESTALE;
    change->record.kind = META_BROKER_CONFIG;
    change->record.value = (uint64_t)change->value;
    change->record.configs = change->configs;
    change->record.configs_n = change->configs_n;
    return 0;
}

/* Its number tells it from one of the same name that has come since. */
static int make_partition_move(struct controller *c, struct meta_change *change)
{
    const struct meta_topic *topic = meta_topic_by_id(c->image, &change->id);
    if (topic == NULL || change->partitions_n >= topic->partitions_n ||
        topic->partitions[change->partitions_n].number != change->parcel->number)
        return -ENOENT;
    struct meta_partition *moved = malloc(sizeof(*moved));
    if (moved == NULL)
        return -ENOMEM;
    *moved = topic->partitions[change->partitions_n];
    moved->shard = (uint16_t)change->value;
    moved->leader_epoch++;
    change->record.kind = META_PARTITION_MOVE;
    change->record.id = change->id;
    change->record.value = (uint64_t)change->partitions_n;
    change->record.partitions = moved;
    change->record.partitions_n = 1;
    return 0;
}

static int (*const change_makers[])(struct controller *, struct meta_change *) = {
    [CHANGE_TOPIC_CREATE] = make_topic_create,     [CHANGE_TOPIC_DELETE] = make_topic_delete,
    [CHANGE_PARTITIONS_ADD] = make_partitions_add, [CHANGE_PRODUCER_IDS] = make_producer_ids,
    [CHANGE_TOPIC_CONFIG] = make_topic_config,     [CHANGE_BROKER_CONFIG] = make_broker_config,
    [CHANGE_PARTITION_MOVE] = make_partition_move,
};

/* ---- the queue ---- */

static void controller_pump(struct controller *c);

static void on_answer(void *shard, struct env_msg *msg)
{
    (void)shard;
    struct meta_change *change = container_of(msg, struct meta_change, msg);
    change->on_done(change);
}

static void change_finish(struct controller *c, struct meta_change *change, int rc)
{
    free(change->record.partitions);
    change->record.partitions = NULL;
    change->rc = rc;
    change->msg.run = on_answer;
    env_post(c->shard->env, change->asker, &change->msg);
}

static void on_appended(struct meta_append *append, int rc)
{
    struct meta_change *change = container_of(append, struct meta_change, append);
    struct controller *c = change->controller;
    ASSERT(c->current == change);
    if (rc < 0) {
        log_error("metadata log: a change could not be written: %s", strerror(-rc));
        meta_image_destroy(change->image);
        dirs_count(c);
        c->current = NULL;
        change_finish(c, change, -EIO);
        controller_pump(c);
        return;
    }
    bool of_all = change->kind == CHANGE_BROKER_CONFIG;
    bool of_topic = !of_all && change->kind != CHANGE_PRODUCER_IDS;
    change->acks_missing = c->shard->broker->shards_n;
    change->rc = 0;
    for (unsigned i = 0; i < c->shard->broker->shards_n; i++) {
        struct publish *p = &c->publishes[i];
        *p = (struct publish){.msg.run = shard_apply,
                              .controller = c,
                              .image = change->image,
                              .all_topics = of_all,
                              .parcel =
                                  change->kind == CHANGE_PARTITION_MOVE ? change->parcel : NULL};
        if (of_topic)
            p->topic_id = change->id;
        env_post(c->shard->env, i, &p->msg);
    }
}

void controller_on_ack(void *shard, struct env_msg *msg)
{
    (void)shard;
    struct publish *p = container_of(msg, struct publish, msg);
    struct controller *c = p->controller;
    struct meta_change *change = c->current;
    ASSERT(change != NULL && change->acks_missing > 0);
    if (change->rc == 0)
        change->rc = p->rc;
    if (--change->acks_missing > 0)
        return;
    meta_image_destroy(c->image);
    c->image = change->image;
    c->current = NULL;
    if (change->kind == CHANGE_TOPIC_DELETE || change->kind == CHANGE_PARTITION_MOVE)
        dirs_count(c);
    change_finish(c, change, change->rc);
    controller_pump(c);
}

static int change_start(struct controller *c, struct meta_change *change)
{
    if ((unsigned)change->kind >= ARRAY_LEN(change_makers))
        return -EINVAL;
    int rc = change_makers[change->kind](c, change);
    if (rc < 0)
        return rc;
    rc = meta_image_apply(c->image, &change->record, &change->image);
    if (rc < 0) {
        dirs_count(c);
        return rc;
    }
    c->current = change;
    meta_log_append(c->log, &change->append, &change->record, change->image, on_appended);
    return 0;
}

/* ---- the space in data directories, asked for before partitions are placed ---- */

static bool needs_space(const struct controller *c, const struct meta_change *change)
{
    bool places = change->kind == CHANGE_TOPIC_CREATE || change->kind == CHANGE_PARTITIONS_ADD;
    return places && c->image->dirs_n > 1 &&
           (c->space_at_ns == 0 || env_now_ns(c->shard->env) - c->space_at_ns > SPACE_FRESH_NS);
}

static void on_space(struct env_op *op);

static void space_ask(struct controller *c, unsigned from_dir)
{
    const struct log_config *log = &c->shard->log_config;
    uint64_t offline = log_store_dirs_offline(c->shard->logs);
    unsigned n = 0;
    for (unsigned i = from_dir; i < log->data_dirs_n; i++) {
        c->dir_space[i] = 0;
        if ((offline >> i & 1) != 0)
            continue;
        c->space_dirs[n] = (uint8_t)i;
        c->space_steps[n++] =
            (struct env_name_step){.kind = ENV_STEP_STAT, .path = log->data_dirs[i]};
    }
    env_names(c->shard->env, &c->space_op, c->space_steps, n, on_space);
}

static void on_space(struct env_op *op)
{
    struct controller *c = container_of(op, struct controller, space_op);
    struct meta_change *change = c->current;
    unsigned good = op->res < 0 ? op->failed_step : op->steps_n;
    for (unsigned i = 0; i < good; i++)
        c->dir_space[c->space_dirs[i]] = MAX(c->space_steps[i].ret_free_bytes >> 20, 1u);
    if (good + 1 < op->steps_n) { /* one could not tell; those behind it were not asked */
        space_ask(c, c->space_dirs[good] + 1u);
        return;
    }
    c->space_at_ns = MAX(env_now_ns(c->shard->env), 1u);
    c->current = NULL;
    int rc = change_start(c, change);
    if (rc < 0)
        change_finish(c, change, rc);
    controller_pump(c);
}

/* The only place that starts a change. */
static void controller_pump(struct controller *c)
{
    while (c->current == NULL && !list_empty(&c->waiting)) {
        struct meta_change *change =
            container_of(list_pop_head(&c->waiting), struct meta_change, link);
        if (needs_space(c, change)) {
            c->current = change;
            space_ask(c, 0);
            return;
        }
        int rc = change_start(c, change);
        if (rc < 0)
            change_finish(c, change, rc);
    }
}

void controller_on_request(void *shard, struct env_msg *msg)
{
    struct shard *s = shard;
    struct meta_change *change = container_of(msg, struct meta_change, msg);
    ASSERT(s->controller != NULL);
    change->controller = s->controller;
    list_push_tail(&s->controller->waiting, &change->link);
    controller_pump(s->controller);
}

/* ---- moves ---- */

struct moves *controller_moves(const struct shard *s)
{
    ASSERT(s->controller != NULL);
    return &s->controller->moves;
}

void shard_moves_stop(struct shard *s)
{
    if (s->controller != NULL)
        moves_stop_all(&s->controller->moves);
}

bool shard_moves_settled(const struct shard *s)
{
    return s->controller == NULL || moves_settled(&s->controller->moves);
}

/* ---- life ---- */

int shard_init_controller(struct shard *s, struct meta_log *log, struct meta_image *image)
{
    ASSERT(s->index == 0 && s->controller == NULL);
    struct controller *c = calloc(1, sizeof(*c));
    if (c == NULL)
        return -ENOMEM;
    c->publishes = calloc(s->broker->shards_n, sizeof(*c->publishes));
    c->dir_shard_partitions = calloc(s->broker->shards_n, sizeof(*c->dir_shard_partitions));
    if (c->publishes == NULL || c->dir_shard_partitions == NULL) {
        free(c->publishes);
        free(c->dir_shard_partitions);
        free(c);
        return -ENOMEM;
    }
    c->shard = s;
    c->log = log;
    c->image = image;
    c->spread_next = (unsigned)(env_random(s->env) % s->broker->shards_n);
    list_init(&c->waiting);
    dirs_count(c);
    moves_init(&c->moves, s);
    s->controller = c;
    return 0;
}

struct meta_image *shard_fini_controller(struct shard *s)
{
    struct controller *c = s->controller;
    if (c == NULL)
        return NULL;
    struct meta_image *image = c->image;
    moves_fini(&c->moves);
    free(c->publishes);
    free(c->dir_shard_partitions);
    free(c);
    s->controller = NULL;
    return image;
}
