/* Three shards on one modelled machine, turned by one thread: what the controller promises. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/base/crc32c.h"
#include "core/batch/builder.h"
#include "core/shard/shard.h"
#include "io/env_mem.h"

#define SHARDS 3u
#define MEMORY_BYTES (32u << 20)
#define TURNS_MAX 200000u

static const char *const dirs[] = {"/data", "/dev2/data"};

struct cluster {
    struct mem_world *world;
    struct broker broker;
    struct env *envs[SHARDS];
    struct shard shards[SHARDS];
    void *memory[SHARDS];
    struct meta_log *log;
};

static struct cluster cluster;
static unsigned answers;

static void record_add(struct cluster *c, struct meta_image **image, enum meta_record_kind kind,
                       uint64_t value, uint8_t id)
{
    struct meta_record record = {.kind = kind, .value = value, .id.b = {id}};
    struct meta_image *next;
    cr_assert_eq(meta_image_apply(*image, &record, &next), 0);
    cr_assert_eq(meta_log_append_wait(c->log, &record, next), 0);
    meta_image_destroy(*image);
    *image = next;
}

static void cluster_open(struct cluster *c)
{
    struct meta_image *image;
    char reason[256] = "";
    for (unsigned i = 0; i < SHARDS; i++)
        c->envs[i] = env_mem_create(c->world, i, SHARDS, &c->shards[i]);
    struct env_name_step mkdirs[] = {{.kind = ENV_STEP_MKDIR, .path = dirs[0]},
                                     {.kind = ENV_STEP_MKDIR, .path = dirs[1]},
                                     {.kind = ENV_STEP_SYNC_DIR, .path = "/dev2"},
                                     {.kind = ENV_STEP_SYNC_DIR, .path = "/"}};
    cr_assert_eq(env_names_wait(c->envs[0], mkdirs, ARRAY_LEN(mkdirs)), 0);
    cr_assert_eq(meta_log_open(c->envs[0], dirs[0], &c->broker.topic_defaults, &c->log, &image,
                               reason, sizeof(reason)),
                 0, "%s", reason);
    if (image->dirs_n == 0) {
        record_add(c, &image, META_CLUSTER, 0, 1);
        record_add(c, &image, META_DIR_ADD, 0, 2);
        record_add(c, &image, META_DIR_ADD, 0, 3);
        record_add(c, &image, META_SHARDS, SHARDS, 0);
    } else {
        record_add(c, &image, META_EPOCHS_RAISE, 0, 0);
    }
    for (unsigned i = 0; i < SHARDS; i++) {
        c->memory[i] = aligned_alloc(BLOCK_BYTES, MEMORY_BYTES);
        cr_assert_eq(shard_init(&c->shards[i], c->envs[i], &c->broker, c->memory[i], MEMORY_BYTES,
                                image, reason, sizeof(reason)),
                     0, "%s", reason);
    }
    cr_assert_eq(shard_init_controller(&c->shards[0], c->log, image), 0);
}

static void cluster_create(struct cluster *c)
{
    memset(c, 0, sizeof(*c));
    answers = 0;
    c->world = mem_world_create(11);
    struct broker *b = &c->broker;
    b->advertise = ADVERTISE_SHARD;
    b->shards_n = b->nodes_n = SHARDS;
    for (unsigned i = 0; i < SHARDS; i++) {
        b->nodes[i] =
            (struct broker_node){.node_id = (int32_t)i + 10, .first_shard = i, .shards_n = 1};
        b->node_of_shard[i] = i;
    }
    topic_config_defaults(&b->topic_defaults);
    b->log = (struct log_config){.journal_dir = dirs[0],
                                 .data_dirs = dirs,
                                 .data_dirs_n = 2,
                                 .journal_bytes = 4u << 20,
                                 .direct_min_bytes = 1u << 20,
                                 .producer_expiry_ms = 86400000,
                                 .pool_max_percent = 10};
    cluster_open(c);
}

static void cluster_free(struct cluster *c)
{
    meta_log_close(c->log);
    for (unsigned i = 0; i < SHARDS; i++) {
        env_destroy(c->envs[i]);
        free(c->memory[i]);
    }
}

static void cluster_close(struct cluster *c)
{
    for (unsigned i = 0; i < SHARDS; i++)
        cr_assert_eq(shard_fini(&c->shards[i]), 0);
    meta_image_destroy(shard_fini_controller(&c->shards[0]));
    cluster_free(c);
    mem_world_destroy(c->world);
}

static void cluster_crash(struct cluster *c)
{
    mem_world_power_off(c->world);
    for (unsigned turns = 0; !meta_log_idle(c->log) && turns < TURNS_MAX; turns++)
        shard_turn(&c->shards[turns % SHARDS]);
    for (unsigned i = 0; i < SHARDS; i++)
        shard_abandon(&c->shards[i]);
    meta_image_destroy(shard_fini_controller(&c->shards[0]));
    cluster_free(c);
    mem_world_crash(c->world);
    memset(c->shards, 0, sizeof(c->shards));
}

/* Turns all shards until so many answers have come. */
static void turn_until(struct cluster *c, unsigned wanted)
{
    for (unsigned turns = 0; answers < wanted; turns++) {
        cr_assert_lt(turns, TURNS_MAX, "no answer");
        shard_turn(&c->shards[turns % SHARDS]);
    }
}

static void on_answer(struct meta_change *change)
{
    (void)change;
    answers++;
}

static int change_make(struct cluster *c, unsigned asker, struct meta_change *change)
{
    unsigned before = answers;
    shard_meta_change(&c->shards[asker], change, on_answer);
    turn_until(c, before + 1);
    return change->rc;
}

static int topic_create(struct cluster *c, unsigned asker, const char *name, int32_t n,
                        const int32_t *leaders, struct meta_uuid *ret_id)
{
    struct meta_change change = {
        .kind = CHANGE_TOPIC_CREATE, .name = name, .partitions_n = n, .leaders = leaders};
    int rc = change_make(c, asker, &change);
    if (ret_id != NULL)
        *ret_id = change.id;
    return rc;
}

static const struct meta_topic *topic_on(struct cluster *c, unsigned shard, const char *name)
{
    return meta_topic_by_name(c->shards[shard].meta, name, strlen(name));
}

/* Every partition is at its owner, and only there. */
static void assert_attached(struct cluster *c, const char *name, unsigned ret_per_shard[SHARDS])
{
    const struct meta_topic *topic = topic_on(c, 0, name);
    memset(ret_per_shard, 0, SHARDS * sizeof(unsigned));
    for (int32_t p = 0; p < topic->partitions_n; p++) {
        for (unsigned s = 0; s < SHARDS; s++) {
            bool is_here = log_store_find(c->shards[s].logs, topic->partitions[p].number) != NULL;
            cr_assert_eq(is_here, topic->partitions[p].shard == s, "%s-%d on %u", name, p, s);
            ret_per_shard[s] += is_here;
        }
    }
}

/* ---- memory that is ready before it is needed ---- */

static size_t asked_bytes; /* to be made present, from the start of the log memory on */
static bool asking_refused;

static bool on_populate(struct env *env, void *memory, size_t len_bytes)
{
    if (env != cluster.envs[0] || asking_refused)
        return false;
    cr_assert_eq((char *)memory, cluster.shards[0].log_memory.base + asked_bytes);
    asked_bytes += len_bytes;
    return true;
}

static void assert_ready(const struct buddy *b)
{
    size_t want = MIN(b->used_end_bytes + (4u << 20), b->size_bytes);
    cr_assert_geq(asked_bytes, want);
    cr_assert_leq(asked_bytes, MIN(want + (2u << 20), b->size_bytes), "and not all");
}

Test(shard, log_memory_is_present_a_few_mib_ahead_of_its_use)
{
    struct cluster *c = &cluster;
    cluster_create(c);
    struct buddy *b = &c->shards[0].log_memory;
    struct env_ops ops = *c->envs[0]->ops;
    ops.populate = on_populate;
    c->envs[0]->ops = &ops;
    cr_assert_eq(topic_create(c, 0, "idle", 1, NULL, NULL), 0);
    cr_assert_eq(asked_bytes, 0);
    cr_assert_not_null(buddy_alloc(b, BLOCK_BYTES));
    asking_refused = true; /* one is under way */
    cr_assert_eq(topic_create(c, 0, "a", 1, NULL, NULL), 0);
    cr_assert_eq(c->shards[0].log_present_bytes, 0);
    asking_refused = false;
    cr_assert_eq(topic_create(c, 0, "b", 1, NULL, NULL), 0);
    assert_ready(b);
    cr_assert_lt(asked_bytes, b->size_bytes);
    for (unsigned n = 0; buddy_alloc(b, 2u << 20) != NULL; n++) {
        char name[8];
        snprintf(name, sizeof(name), "t%u", n);
        cr_assert_eq(topic_create(c, 0, name, 1, NULL, NULL), 0);
        assert_ready(b);
    }
    cr_assert_eq(asked_bytes, b->size_bytes);
    cluster_close(c);
}

Test(controller, a_created_topic_is_on_every_shard_when_the_answer_comes)
{
    struct cluster *c = &cluster;
    cluster_create(c);
    struct meta_uuid id;
    unsigned per_shard[SHARDS];
    cr_assert_eq(topic_create(c, 2, "t", 7, NULL, &id), 0);
    for (unsigned i = 0; i < SHARDS; i++) {
        const struct meta_topic *topic = topic_on(c, i, "t");
        cr_assert_not_null(topic);
        cr_assert_eq(memcmp(&topic->id, &id, sizeof(id)), 0);
        cr_assert_eq(topic->partitions_n, 7);
    }
    assert_attached(c, "t", per_shard);
    unsigned in_dir[2] = {0};
    for (unsigned i = 0; i < SHARDS; i++)
        cr_assert(per_shard[i] >= 2 && per_shard[i] <= 3, "spread: %u on %u", per_shard[i], i);
    for (int p = 0; p < 7; p++)
        in_dir[topic_on(c, 0, "t")->partitions[p].dir]++;
    cr_assert(in_dir[0] + in_dir[1] == 7 && in_dir[0] >= 3 && in_dir[1] >= 3);
    cluster_close(c);
}

static int dir_1_has(const struct cluster *c, const char *name)
{
    const struct meta_topic *topic = meta_topic_by_name(c->shards[0].meta, name, strlen(name));
    int n = 0;
    for (int32_t p = 0; p < topic->partitions_n; p++)
        n += topic->partitions[p].dir == 1;
    return n;
}

/* Leaves 1 GiB on the second device, of what there are almost 4 on the first. */
static void second_device_fill(struct cluster *c)
{
    struct env_name_step fill = {
        .kind = ENV_STEP_CREATE, .path = "/dev2/filler", .size_bytes = 3ull << 30};
    mem_world_set_capacity(c->world, 4ull << 30);
    cr_assert_eq(env_names_wait(c->envs[0], &fill, 1), 0);
    env_file_close(c->envs[0], fill.ret_file);
}

Test(controller, partitions_go_where_space_is_and_no_directory_has_failed)
{
    static _Atomic uint64_t offline;
    struct cluster *c = &cluster;
    offline = 0;
    cluster_create(c);
    cr_assert_eq(topic_create(c, 0, "equal", 4, NULL, NULL), 0);
    cr_assert_eq(dir_1_has(c, "equal"), 2);
    unsigned per_shard[SHARDS][2] = {0};
    cr_assert_eq(topic_create(c, 0, "dealt", 12, NULL, NULL), 0);
    for (int p = 0; p < 12; p++) {
        const struct meta_partition *part = &topic_on(c, 0, "dealt")->partitions[p];
        per_shard[part->shard][part->dir]++;
    }
    for (unsigned i = 0; i < SHARDS; i++)
        cr_assert_eq(per_shard[i][0], 2, "shard %u: %u", i, per_shard[i][0]);
    second_device_fill(c);
    mem_world_advance(c->world, 11000000000ull); /* what is known of space is too old now */
    cr_assert_eq(topic_create(c, 1, "large", 10, NULL, NULL), 0);
    cr_assert_eq(dir_1_has(c, "large"), 2, "%d of 10", dir_1_has(c, "large"));
    cr_assert_eq(topic_create(c, 2, "two", 2, NULL, NULL), 0);
    cr_assert_eq(dir_1_has(c, "two"), 1, "a topic is spread first");
    struct meta_change grow = {.kind = CHANGE_PARTITIONS_ADD, .name = "two", .partitions_n = 4};
    cr_assert_eq(change_make(c, 0, &grow), 0);
    cr_assert_eq(dir_1_has(c, "two"), 1, "its new ones go on where it stood");
    cluster_crash(c);
    c->broker.log.dirs_offline = &offline;
    cluster_open(c);
    offline = 2;
    for (unsigned i = 0; i < SHARDS; i++)
        shard_turn(&c->shards[i]);
    cr_assert_eq(topic_create(c, 1, "later", 4, NULL, NULL), 0);
    cr_assert_eq(dir_1_has(c, "later"), 0);
    offline = 3;
    for (unsigned i = 0; i < SHARDS; i++)
        shard_turn(&c->shards[i]);
    cr_assert_eq(topic_create(c, 1, "nowhere", 1, NULL, NULL), -EIO);
    cluster_close(c);
}

Test(controller, what_cannot_be_made_changes_nothing)
{
    struct cluster *c = &cluster;
    cluster_create(c);
    cr_assert_eq(topic_create(c, 0, "a.b", 1, NULL, NULL), 0);
    const struct meta_image *before = c->shards[1].meta;
    const int32_t unknown_leader[] = {10, 99};
    struct meta_change grow = {.kind = CHANGE_PARTITIONS_ADD, .name = "a.b", .partitions_n = 1};
    struct meta_change grow_nothing = {
        .kind = CHANGE_PARTITIONS_ADD, .name = "x", .partitions_n = 2};
    struct meta_change drop_nothing = {.kind = CHANGE_TOPIC_DELETE, .id.b = {9}};
    cr_assert_eq(topic_create(c, 1, "a.b", 1, NULL, NULL), -EEXIST);
    cr_assert_eq(topic_create(c, 1, "a_b", 1, NULL, NULL), -ENOTUNIQ);
    cr_assert_eq(topic_create(c, 1, "a/b", 1, NULL, NULL), -EINVAL);
    cr_assert_eq(topic_create(c, 1, "x", 0, NULL, NULL), -EDOM);
    cr_assert_eq(topic_create(c, 1, "x", 2, unknown_leader, NULL), -ENXIO);
    cr_assert_eq(change_make(c, 1, &grow), -EDOM);
    cr_assert_eq(change_make(c, 1, &grow_nothing), -ENOENT);
    cr_assert_eq(change_make(c, 1, &drop_nothing), -ENOENT);
    cr_assert_eq(c->shards[1].meta, before);
    cluster_close(c);
}

Test(controller, leaders_that_are_given_are_taken)
{
    struct cluster *c = &cluster;
    cluster_create(c);
    const int32_t leaders[] = {12, 10, 12}, more[] = {11};
    unsigned per_shard[SHARDS];
    struct meta_change grow = {
        .kind = CHANGE_PARTITIONS_ADD, .name = "t", .partitions_n = 4, .leaders = more};
    cr_assert_eq(topic_create(c, 1, "t", 3, leaders, NULL), 0);
    assert_attached(c, "t", per_shard);
    cr_assert(per_shard[0] == 1 && per_shard[1] == 0 && per_shard[2] == 2);
    cr_assert_eq(change_make(c, 0, &grow), 0);
    assert_attached(c, "t", per_shard);
    cr_assert(per_shard[0] == 1 && per_shard[1] == 1 && per_shard[2] == 2);
    cluster_close(c);
}

Test(controller, a_deleted_name_is_free_when_the_answer_comes)
{
    struct cluster *c = &cluster;
    cluster_create(c);
    struct meta_uuid id, id_again;
    unsigned per_shard[SHARDS];
    for (unsigned round = 0; round < 5; round++) {
        cr_assert_eq(topic_create(c, round % SHARDS, "t", 4, NULL, &id), 0);
        struct meta_change drop = {.kind = CHANGE_TOPIC_DELETE, .id = id};
        uint64_t number = topic_on(c, 0, "t")->partitions[0].number;
        cr_assert_eq(change_make(c, (round + 1) % SHARDS, &drop), 0);
        for (unsigned i = 0; i < SHARDS; i++) {
            cr_assert_null(topic_on(c, i, "t"));
            cr_assert_null(log_store_find(c->shards[i].logs, number));
        }
        cr_assert_eq(topic_create(c, 0, "t", 2, NULL, &id_again), 0);
        cr_assert_neq(memcmp(&id, &id_again, sizeof(id)), 0, "ids are never used again");
        assert_attached(c, "t", per_shard);
        drop = (struct meta_change){.kind = CHANGE_TOPIC_DELETE, .id = id_again};
        cr_assert_eq(change_make(c, 0, &drop), 0);
    }
    cluster_close(c);
}

Test(controller, changes_of_several_shards_at_once_are_all_answered)
{
    struct cluster *c = &cluster;
    cluster_create(c);
    enum { MANY = 30 };
    static struct meta_change changes[MANY];
    static char names[MANY][8];
    for (int i = 0; i < MANY; i++) {
        snprintf(names[i], sizeof(names[i]), "t%d", i / 2); /* each twice: the second one exists */
        changes[i] =
            (struct meta_change){.kind = CHANGE_TOPIC_CREATE, .name = names[i], .partitions_n = 3};
        shard_meta_change(&c->shards[(unsigned)i % SHARDS], &changes[i], on_answer);
    }
    turn_until(c, MANY);
    unsigned made = 0, existed = 0;
    for (int i = 0; i < MANY; i++) {
        made += changes[i].rc == 0;
        existed += changes[i].rc == -EEXIST;
    }
    cr_assert(made == MANY / 2 && existed == MANY / 2);
    cr_assert_eq(c->shards[2].meta->topics_n, MANY / 2);
    cluster_close(c);
}

Test(controller, changes_survive_a_crash_and_epochs_rise)
{
    struct cluster *c = &cluster;
    cluster_create(c);
    unsigned per_shard[SHARDS];
    cr_assert_eq(topic_create(c, 1, "t", 5, NULL, NULL), 0);
    int32_t epoch = topic_on(c, 0, "t")->partitions[3].leader_epoch;
    cluster_crash(c);
    cluster_open(c);
    assert_attached(c, "t", per_shard);
    cr_assert_eq(topic_on(c, 0, "t")->partitions[3].leader_epoch, epoch + 1);
    cluster_close(c);
}

/* New journals are written through while nothing else is, flushed, and their superblocks say so:
 * after that no write but ours comes. */
static void journals_fill(struct cluster *c)
{
    enum { STILL = 100 };
    for (unsigned i = 0; i < SHARDS; i++) {
        const uint64_t *written = &c->envs[i]->counters.write_bytes;
        uint64_t before = *written;
        for (unsigned still = 0; *written < c->broker.log.journal_bytes || still < STILL; still++) {
            shard_turn(&c->shards[i]);
            still = *written == before ? still : 0;
            before = *written;
        }
    }
}

static int64_t retention_on(struct cluster *c, unsigned shard, const char *name)
{
    return topic_on(c, shard, name)->config.retention_ms;
}

Test(controller, configs_hold_on_every_shard_when_the_answer_comes_and_after_a_crash)
{
    struct cluster *c = &cluster;
    cluster_create(c);
    struct meta_uuid id;
    cr_assert_eq(topic_create(c, 1, "t", 5, NULL, &id), 0);
    cr_assert_eq(topic_create(c, 1, "u", 5, NULL, NULL), 0);
    struct meta_config_entry own = {"retention.ms", "4"}, all = {"log.retention.ms", "6"};
    struct meta_change of_topic = {.kind = CHANGE_TOPIC_CONFIG,
                                   .id = id,
                                   .made_at = topic_on(c, 0, "t")->made_at,
                                   .configs = &own,
                                   .configs_n = 1};
    struct meta_change of_broker = {
        .kind = CHANGE_BROKER_CONFIG, .value = META_LAYER_CLUSTER, .configs = &all, .configs_n = 1};
    cr_assert_eq(change_make(c, 2, &of_topic), 0);
    cr_assert_eq(change_make(c, 1, &of_broker), 0);
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < SHARDS; i++) {
            cr_assert_eq(retention_on(c, i, "t"), 4);
            cr_assert_eq(retention_on(c, i, "u"), 6);
        }
        if (round == 0) {
            cluster_crash(c);
            cluster_open(c);
        }
    }
    cluster_close(c);
}

Test(controller, a_change_that_was_overtaken_is_refused)
{
    struct cluster *c = &cluster;
    cluster_create(c);
    struct meta_uuid id;
    struct meta_config_entry entry = {"retention.ms", "4"};
    cr_assert_eq(topic_create(c, 1, "t", 1, NULL, &id), 0);
    uint64_t made_at = topic_on(c, 0, "t")->made_at;
    struct meta_change first = {.kind = CHANGE_TOPIC_CONFIG,
                                .id = id,
                                .made_at = made_at,
                                .configs = &entry,
                                .configs_n = 1};
    struct meta_change second = {.kind = CHANGE_TOPIC_CONFIG, .id = id, .made_at = made_at};
    struct meta_change broker = {.kind = CHANGE_BROKER_CONFIG, .made_at = 77};
    struct meta_change gone = {.kind = CHANGE_TOPIC_CONFIG, .id.b = {9}};
    cr_assert_eq(change_make(c, 1, &first), 0);
    cr_assert_eq(change_make(c, 2, &second), -ESTALE);
    cr_assert_eq(change_make(c, 2, &broker), -ESTALE);
    cr_assert_eq(change_make(c, 2, &gone), -ENOENT);
    cr_assert_eq(retention_on(c, 0, "t"), 4);
    cluster_close(c);
}

Test(controller, a_failed_log_fails_the_change_and_all_later_ones)
{
    struct cluster *c = &cluster;
    cluster_create(c);
    journals_fill(c);
    mem_world_fail_at(c->world, MEM_FAULT_WRITE_EIO, 1);
    cr_assert_eq(topic_create(c, 1, "t", 5, NULL, NULL), -EIO);
    cr_assert_eq(topic_create(c, 1, "u", 5, NULL, NULL), -EIO);
    for (unsigned i = 0; i < SHARDS; i++)
        cr_assert_null(topic_on(c, i, "t"));
    cluster_close(c);
}

struct id_asker {
    struct producer_id_waiter waiter;
    struct shard *shard;
    int64_t *ids;
    unsigned wanted, got;
};

static void ids_ask(struct id_asker *a);

static void on_ids(struct producer_id_waiter *w, int rc)
{
    cr_assert_eq(rc, 0);
    ids_ask(container_of(w, struct id_asker, waiter));
}

static void ids_ask(struct id_asker *a)
{
    a->waiter.on_done = on_ids;
    while (a->got < a->wanted) {
        if (shard_producer_id(a->shard, &a->waiter, &a->ids[a->got]) == 0)
            return;
        a->got++;
    }
    answers++;
}

static int int64_compare(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

Test(controller, producer_ids_are_never_given_twice)
{
    struct cluster *c = &cluster;
    cluster_create(c);
    enum { EACH = 2500, ROUNDS = 2 };
    static int64_t ids[SHARDS * EACH * ROUNDS];
    static struct id_asker askers[SHARDS];
    for (unsigned round = 0; round < ROUNDS; round++) {
        answers = 0;
        for (unsigned i = 0; i < SHARDS; i++) {
            askers[i] = (struct id_asker){
                .shard = &c->shards[i], .ids = ids + (round * SHARDS + i) * EACH, .wanted = EACH};
            ids_ask(&askers[i]);
        }
        turn_until(c, SHARDS);
        if (round == 0) { /* what is left of the blocks is lost, not given again */
            cluster_crash(c);
            cluster_open(c);
        }
    }
    qsort(ids, ARRAY_LEN(ids), sizeof(ids[0]), int64_compare);
    cr_assert_geq(ids[0], 0);
    for (size_t i = 1; i < ARRAY_LEN(ids); i++)
        cr_assert_neq(ids[i], ids[i - 1]);
    cluster_close(c);
}

/* ---- partitions move ---- */

struct appended {
    struct log_append append;
    bool done;
    int rc;
};

static void on_appended(struct log_append *a, int rc)
{
    struct appended *d = container_of(a, struct appended, append);
    d->done = true;
    d->rc = rc;
}

/* False: the power is gone. */
static bool turn_unless_cut(struct cluster *c, const bool *done)
{
    for (unsigned turns = 0; !*done; turns++) {
        cr_assert_lt(turns, TURNS_MAX, "no answer");
        if (mem_world_crashed(c->world))
            return false;
        shard_turn(&c->shards[turns % SHARDS]);
    }
    return true;
}

static struct plog *plog_at_owner(struct cluster *c, const char *name)
{
    const struct meta_partition *p = &topic_on(c, 0, name)->partitions[0];
    return log_store_find(c->shards[p->shard].logs, p->number);
}

/* Record n of an idempotent producer, which is its offset too. 1: it is stable; 0: the power is
 * gone; else plog_append's error. */
static int append(struct cluster *c, const char *name, int32_t n, int64_t *ret_offset)
{
    static struct appended d;
    struct batch_builder builder;
    uint8_t *data;
    size_t len;
    struct batch_header h;
    d = (struct appended){.rc = 0};
    batch_builder_init(&builder, BATCH_NONE);
    cr_assert_eq(batch_builder_add(&builder, 1000, NULL, -1, &n, sizeof(n), NULL, 0), 0);
    cr_assert_eq(batch_builder_finish(&builder, &data, &len), 0);
    be_store64(data + 43, 77);          /* producer id, */
    be_store16(data + 51, 0);           /* epoch, */
    be_store32(data + 53, (uint32_t)n); /* sequence */
    be_store32(data + 17, crc32c(data + 21, len - 21));
    cr_assert_eq(batch_peek(data, len, &h), 0);
    int rc = plog_append(plog_at_owner(c, name), data, &h, true, &d.append, on_appended);
    batch_builder_fini(&builder);
    if (rc == 0)
        rc = turn_unless_cut(c, &d.done) ? (d.rc == 0 ? 1 : d.rc) : 0;
    *ret_offset = d.append.base_offset;
    return rc;
}

static bool answered;

static void on_moves(struct shard_moves *call)
{
    (void)call;
    answered = true;
}

static bool moves_ask(struct cluster *c, struct shard_move *move, unsigned asker)
{
    static struct shard_moves call;
    call = (struct shard_moves){.moves = move, .moves_n = 1};
    answered = false;
    shard_moves_ask(&c->shards[asker], &call, on_moves);
    return turn_unless_cut(c, &answered);
}

/* How many are under way; -1: the power is gone. */
static int moves_left(struct cluster *c, struct shard_move *ret_first)
{
    static struct shard_moves call;
    call = (struct shard_moves){.moves = NULL};
    answered = false;
    shard_moves_list(&c->shards[1], &call, on_moves);
    if (!turn_unless_cut(c, &answered))
        return -1;
    if (ret_first != NULL && call.moves_n > 0)
        *ret_first = call.moves[0];
    free(call.moves);
    return (int)call.moves_n;
}

/* False: the power is gone. */
static bool move_to(struct cluster *c, const char *name, int32_t node)
{
    struct shard_move move = {.topic = topic_on(c, 0, name)->id, .node = node};
    if (!moves_ask(c, &move, 2))
        return false;
    cr_assert_eq(move.rc, 0);
    int left;
    while ((left = moves_left(c, NULL)) > 0)
        for (unsigned i = 0; i < SHARDS; i++)
            shard_turn(&c->shards[i]);
    return left == 0;
}

static void assert_on_node(struct cluster *c, const char *name, int32_t node, int32_t epoch)
{
    unsigned per_shard[SHARDS];
    assert_attached(c, name, per_shard);
    for (unsigned i = 0; i < SHARDS; i++) {
        cr_assert_eq(topic_on(c, i, name)->partitions[0].shard, node - 10);
        cr_assert_eq(topic_on(c, i, name)->partitions[0].leader_epoch, epoch);
    }
}

Test(moves, a_partition_takes_records_sequences_and_start_along)
{
    struct cluster *c = &cluster;
    cluster_create(c);
    const int32_t first = 10;
    int64_t at;
    cr_assert_eq(topic_create(c, 0, "t", 1, &first, NULL), 0);
    for (int32_t n = 0; n < 20; n++)
        cr_assert_eq(append(c, "t", n, &at), 1);
    for (int32_t turn = 0; turn < 5; turn++) {
        int32_t node = 10 + (turn + 1) % 3, last = 19 + turn;
        cr_assert(move_to(c, "t", node));
        assert_on_node(c, "t", node, turn + 1);
        struct plog *p = plog_at_owner(c, "t");
        cr_assert_eq(plog_end_offset(p), last + 1);
        cr_assert_eq(plog_high_watermark(p), last + 1);
        cr_assert_eq(append(c, "t", last, &at), 1, "a duplicate");
        cr_assert_eq(at, last);
        cr_assert_eq(append(c, "t", last + 5, &at), -EILSEQ);
        cr_assert_eq(append(c, "t", last + 1, &at), 1);
        cr_assert_eq(at, last + 1);
        cr_assert_eq(plog_epoch_at(p, last + 1), turn + 1);
        cr_assert_eq(plog_epoch_at(p, 0), 0);
    }
    cluster_close(c);
}

Test(moves, what_cannot_be_done_is_refused)
{
    struct cluster *c = &cluster;
    cluster_create(c);
    struct meta_uuid id;
    const int32_t first = 11;
    cr_assert_eq(topic_create(c, 0, "t", 1, &first, &id), 0);
    static const struct {
        int32_t index, node;
        int rc;
    } asked[] = {{1, 10, -ENOENT}, {-1, 10, -ENOENT}, {0, 9, -ENXIO},
                 {0, 13, -ENXIO},  {0, -1, -ENODATA}, {0, 11, 0}};
    for (unsigned i = 0; i < ARRAY_LEN(asked); i++) {
        struct shard_move move = {.topic = id, .index = asked[i].index, .node = asked[i].node};
        cr_assert(moves_ask(c, &move, i % SHARDS));
        cr_assert_eq(move.rc, asked[i].rc, "%u", i);
    }
    struct shard_move unknown = {.topic.b = {9}, .node = 10};
    cr_assert(moves_ask(c, &unknown, 0));
    cr_assert_eq(unknown.rc, -ENOENT);
    cr_assert_eq(moves_left(c, NULL), 0);
    assert_on_node(c, "t", 11, 0);
    cluster_close(c);
}

Test(moves, one_under_way_is_listed_turned_back_or_sent_elsewhere)
{
    struct cluster *c = &cluster;
    cluster_create(c);
    struct meta_uuid id;
    struct shard_move seen;
    const int32_t first = 10;
    int64_t at;
    cr_assert_eq(topic_create(c, 0, "t", 1, &first, &id), 0);
    cr_assert_eq(append(c, "t", 0, &at), 1);
    struct shard_move move = {.topic = id, .node = 11}, back = {.topic = id, .node = -1},
                      other = {.topic = id, .node = 12};
    cr_assert(moves_ask(c, &move, 0));
    cr_assert_eq(moves_left(c, &seen), 1);
    cr_assert_eq(seen.node, 11);
    cr_assert_eq(seen.from, 10);
    cr_assert(moves_ask(c, &back, 0));
    cr_assert_eq(back.rc, 0);
    cr_assert_eq(moves_left(c, NULL), 0, "it is to stay");
    cr_assert(moves_ask(c, &back, 0));
    cr_assert_eq(back.rc, -ENODATA);
    cr_assert(moves_ask(c, &move, 0));
    cr_assert(moves_ask(c, &other, 0));
    cr_assert_eq(moves_left(c, &seen), 1);
    cr_assert_eq(seen.node, 12);
    cr_assert(move_to(c, "t", 12));
    cr_assert_eq(topic_on(c, 0, "t")->partitions[0].shard, 2);
    cr_assert_eq(append(c, "t", 1, &at), 1);
    cluster_close(c);
}

Test(moves, a_topic_may_be_deleted_meanwhile)
{
    struct cluster *c = &cluster;
    cluster_create(c);
    for (unsigned turns = 0; turns < 60; turns++) {
        struct meta_uuid id;
        const int32_t first = 10;
        int64_t at;
        cr_assert_eq(topic_create(c, 0, "t", 1, &first, &id), 0);
        cr_assert_eq(append(c, "t", 0, &at), 1);
        struct shard_move move = {.topic = id, .node = 11};
        cr_assert(moves_ask(c, &move, 0));
        for (unsigned i = 0; i < turns; i++)
            shard_turn(&c->shards[i % SHARDS]);
        struct meta_change change = {.kind = CHANGE_TOPIC_DELETE, .id = id};
        cr_assert_eq(change_make(c, 1, &change), 0);
        while (moves_left(c, NULL) > 0)
            shard_turn(&c->shards[turns % SHARDS]);
        cr_assert_null(topic_on(c, 0, "t"));
        for (unsigned i = 0; i < SHARDS; i++)
            cr_assert_eq(log_store_counters(c->shards[i].logs)->partitions, 0);
    }
    cluster_close(c);
}

static bool read_over;

static void on_read(struct plog_read *r)
{
    (void)r;
    read_over = true;
}

/* Records 0 to n-1 at least are there, each at its offset. */
static void assert_records(struct cluster *c, const char *name, int32_t n)
{
    struct plog *p = plog_at_owner(c, name);
    cr_assert_not_null(p);
    cr_assert_geq(plog_high_watermark(p), n);
    for (int32_t at = 0; at < n; at++) {
        struct plog_read r = {.offset = at, .max_bytes = 1, .at_least_one = true};
        read_over = false;
        if (plog_read(p, &r, on_read) == 0)
            cr_assert(turn_unless_cut(c, &read_over));
        cr_assert_eq(r.rc, 0);
        cr_assert_eq(r.iov_n, 1);
        const uint8_t *batch = r.iov[0].iov_base;
        cr_assert_eq(be_load64(batch), (uint64_t)at);
        cr_assert_eq(be_load32(batch + 53), (uint32_t)at, "the sequence tells which it is");
        plog_read_release(&r);
    }
}

/* Moves there and back, with records in between, the power cut at each effect in turn. */
static bool cut_at(uint64_t nth)
{
    struct cluster *c = &cluster;
    const int32_t first = 10;
    int32_t acked = 0;
    int64_t at;
    cluster_create(c);
    cr_assert_eq(topic_create(c, 0, "t", 1, &first, NULL), 0);
    cr_assert_eq(append(c, "t", acked++, &at), 1);
    mem_world_crash_at_io(c->world, nth);
    bool on = true;
    for (int32_t turn = 0; on && turn < 3; turn++) {
        on = move_to(c, "t", turn % 2 == 0 ? 11 : 10);
        for (unsigned i = 0; on && i < 2; i++) {
            on = append(c, "t", acked, &at) == 1;
            acked += on;
        }
    }
    bool cut = mem_world_crashed(c->world);
    cluster_crash(c);
    cluster_open(c);
    unsigned per_shard[SHARDS];
    assert_attached(c, "t", per_shard);
    assert_records(c, "t", acked);
    cr_assert(move_to(c, "t", 12));
    assert_records(c, "t", acked);
    cluster_close(c);
    return cut;
}

Test(moves, nothing_is_lost_wherever_the_power_is_cut)
{
    uint64_t points = 0;
    while (cut_at(points + 1))
        points++;
    cr_assert_gt(points, 40, "%llu", (unsigned long long)points);
}
