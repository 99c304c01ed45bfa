#include "tests/unit/core/group/group_rig.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"

#define MEMORY_BYTES (64u << 20)
#define TURNS_MAX 2000000u
#define OFFSET_PARTITIONS 4

static const char *const dirs[] = {"/data"};
struct rig rig;

/* ---- the machine ---- */

static void record_add(struct meta_image **image, enum meta_record_kind kind, uint64_t value,
                       uint8_t id)
{
    struct meta_record record = {.kind = kind, .value = value, .id.b = {id}};
    struct meta_image *next;
    cr_assert_eq(meta_image_apply(*image, &record, &next), 0);
    cr_assert_eq(meta_log_append_wait(rig.log, &record, next), 0);
    meta_image_destroy(*image);
    *image = next;
}

static void on_meta(struct shard *s, const struct meta_topic *gone)
{
    (void)s;
    group_coord_meta(rig.coord, gone);
}

void rig_open(void)
{
    struct meta_image *image;
    char reason[256] = "";
    rig.env = env_mem_create(rig.world, 0, 1, &rig.shard);
    struct env_name_step mkdirs[] = {{.kind = ENV_STEP_MKDIR, .path = dirs[0]},
                                     {.kind = ENV_STEP_SYNC_DIR, .path = "/"}};
    cr_assert_eq(env_names_wait(rig.env, mkdirs, 2), 0);
    cr_assert_eq(meta_log_open(rig.env, dirs[0], &rig.broker.topic_defaults, &rig.log, &image,
                               reason, sizeof(reason)),
                 0, "%s", reason);
    if (image->dirs_n == 0) {
        record_add(&image, META_CLUSTER, 0, 1);
        record_add(&image, META_DIR_ADD, 0, 2);
        record_add(&image, META_SHARDS, 1, 0);
    } else {
        record_add(&image, META_EPOCHS_RAISE, 0, 0);
    }
    rig.memory = aligned_alloc(BLOCK_BYTES, MEMORY_BYTES);
    cr_assert_eq(shard_init(&rig.shard, rig.env, &rig.broker, rig.memory, MEMORY_BYTES, image,
                            reason, sizeof(reason)),
                 0, "%s", reason);
    cr_assert_eq(shard_init_controller(&rig.shard, rig.log, image), 0);
    rig.coord = group_coord_create(&rig.shard);
    cr_assert_not_null(rig.coord);
    rig.shard.on_meta = on_meta;
}

void rig_turn(void)
{
    shard_turn(&rig.shard);
}

static bool alarm_rang;

static void on_alarm(struct shard_timer *t)
{
    (void)t;
    alarm_rang = true;
}

void rig_run_ms(uint64_t ms)
{
    struct shard_timer alarm = {0};
    alarm_rang = false;
    shard_timer_set(&rig.shard, &alarm, env_now_ns(rig.env) + ms * 1000000, on_alarm);
    for (unsigned turns = 0; !alarm_rang; turns++) {
        cr_assert_lt(turns, TURNS_MAX);
        rig_turn();
    }
}

int64_t rig_now_ms(void)
{
    return (int64_t)(mem_world_now_ns(rig.world) / 1000000);
}

static bool change_done;

static void on_change(struct meta_change *c)
{
    (void)c;
    change_done = true;
}

static void change_make(struct meta_change *c)
{
    change_done = false;
    shard_meta_change(&rig.shard, c, on_change);
    while (!change_done)
        rig_turn();
    cr_assert_eq(c->rc, 0);
}

void rig_topic_create(const char *name, int32_t partitions_n)
{
    struct meta_change c = {
        .kind = CHANGE_TOPIC_CREATE, .name = name, .partitions_n = partitions_n};
    change_make(&c);
}

void rig_topic_delete(const char *name)
{
    const struct meta_topic *topic = meta_topic_by_name(rig.shard.meta, name, strlen(name));
    struct meta_change c = {.kind = CHANGE_TOPIC_DELETE, .id = topic->id};
    change_make(&c);
}

void rig_start(void)
{
    memset(&rig, 0, sizeof(rig));
    rig.world = mem_world_create(5);
    struct broker *b = &rig.broker;
    b->shards_n = b->nodes_n = 1;
    b->nodes[0] = (struct broker_node){.shards_n = 1};
    topic_config_defaults(&b->topic_defaults);
    b->log = (struct log_config){.journal_dir = dirs[0],
                                 .data_dirs = dirs,
                                 .data_dirs_n = 1,
                                 .journal_bytes = 16u << 20,
                                 .direct_min_bytes = 1u << 20,
                                 .producer_expiry_ms = 86400000,
                                 .pool_max_percent = 10};
    b->groups = (struct broker_groups){.initial_delay_ms = 3000,
                                       .session_min_ms = 6000,
                                       .session_max_ms = 1800000,
                                       .size_max = INT32_MAX,
                                       .metadata_bytes_max = 4096,
                                       .offsets_retention_ms = 7 * 86400000,
                                       .retention_check_ms = 600000,
                                       .partitions_n = OFFSET_PARTITIONS};
    rig_open();
    rig_topic_create(GROUP_TOPIC_NAME, OFFSET_PARTITIONS);
    rig_topic_create(RIG_TOPIC, RIG_TOPIC_PARTITIONS);
}

static void machine_free(void)
{
    meta_image_destroy(shard_fini_controller(&rig.shard));
    meta_log_close(rig.log);
    env_destroy(rig.env);
    free(rig.memory);
    memset(&rig.shard, 0, sizeof(rig.shard));
}

static void coord_end(void)
{
    group_coord_stop(rig.coord);
    for (unsigned turns = 0; !group_coord_idle(rig.coord); turns++) {
        cr_assert_lt(turns, TURNS_MAX);
        rig_turn();
    }
    group_coord_destroy(rig.coord);
}

/* Nothing takes effect any more: this only gives back memory. */
void rig_crash(void)
{
    mem_world_power_off(rig.world);
    coord_end();
    shard_abandon(&rig.shard);
    machine_free();
    mem_world_crash(rig.world);
}

void rig_stop(void)
{
    coord_end();
    cr_assert_eq(shard_fini(&rig.shard), 0);
    machine_free();
}

void rig_end(void)
{
    mem_world_destroy(rig.world);
}

/* ---- a member ---- */

struct group_str str_of(const char *text)
{
    return (struct group_str){text, text == NULL ? -1 : (int32_t)strlen(text)};
}

static void text_take(char *to, size_t size, struct group_str s)
{
    snprintf(to, size, "%.*s", MAX(s.len, 0), s.len > 0 ? s.p : "");
}

static void on_joined(struct group_join *j)
{
    struct seat *s = container_of(j, struct seat, join);
    cr_assert_not(s->joined, "answered twice");
    s->joined = true;
    s->join_error = j->error;
    text_take(s->id, sizeof(s->id), j->own_id);
    text_take(s->leader, sizeof(s->leader), j->leader);
    text_take(s->protocol, sizeof(s->protocol), j->chosen);
    s->skips = j->skip_assignment;
    s->is_leader = j->error == GROUP_OK && strcmp(s->leader, s->id) == 0;
    s->members_n = 0;
    if (j->error == GROUP_OK)
        s->generation = j->generation;
    const struct group_member *it = NULL;
    struct group_member_info info;
    while (j->members_of != NULL && group_member_next(j->members_of, &it, &info))
        if (s->members_n < 20)
            text_take(s->seen[s->members_n++], sizeof(s->seen[0]), info.id);
}

static void seat_defaults(struct seat *s)
{
    s->group = s->group == NULL ? "g" : s->group;
    s->client = s->client == NULL ? "c" : s->client;
    s->metadata = s->metadata == NULL ? "m" : s->metadata;
    s->type = s->type == NULL ? "consumer" : s->type;
    s->session_ms = s->session_ms == 0 ? 10000 : s->session_ms;
    s->rebalance_ms = s->rebalance_ms == 0 ? 60000 : s->rebalance_ms;
    if (s->protocols[0] == NULL && !s->no_protocols)
        s->protocols[0] = "range";
}

void seat_join(struct seat *s)
{
    seat_defaults(s);
    int32_t n = 0;
    for (; n < 4 && s->protocols[n] != NULL; n++)
        s->list[n] = (struct group_protocol){
            str_of(s->protocols[n]), {(const uint8_t *)s->metadata, (int32_t)strlen(s->metadata)}};
    s->joined = s->synced = false;
    s->join = (struct group_join){.group = str_of(s->group),
                                  .member = str_of(s->id),
                                  .instance = str_of(s->instance),
                                  .client_id = str_of(s->client),
                                  .client_host = str_of("/127.0.0.1"),
                                  .protocol_type = str_of(s->type),
                                  .session_timeout_ms = s->session_ms,
                                  .rebalance_timeout_ms = s->rebalance_ms,
                                  .protocols = s->list,
                                  .protocols_n = n,
                                  .id_required = !s->old,
                                  .may_skip_assignment = !s->old,
                                  .on_done = on_joined};
    group_join(rig.coord, &s->join);
}

void seat_enter(struct seat *s)
{
    seat_join(s);
    if (s->joined && s->join_error == GROUP_MEMBER_ID_REQUIRED)
        seat_join(s);
}

static void on_synced(struct group_sync *y)
{
    struct seat *s = container_of(y, struct seat, sync);
    cr_assert_not(s->synced, "answered twice");
    s->synced = true;
    s->sync_error = y->error;
    s->assignment_len = y->assignment.len;
    text_take(s->assignment, sizeof(s->assignment),
              (struct group_str){(const char *)y->assignment.p, y->assignment.len});
}

static void sync_start(struct seat *s, const char *protocol, int32_t given_n)
{
    s->synced = false;
    s->sync = (struct group_sync){.group = str_of(s->group),
                                  .member = str_of(s->id),
                                  .instance = str_of(s->instance),
                                  .protocol_type = {NULL, -1},
                                  .protocol = str_of(protocol),
                                  .generation = s->generation,
                                  .assignments = s->given,
                                  .assignments_n = given_n,
                                  .on_done = on_synced};
    group_sync(rig.coord, &s->sync);
}

void seat_sync(struct seat *s, const char *protocol)
{
    sync_start(s, protocol, 0);
}

void seat_assign(struct seat *s)
{
    static char texts[20][16];
    for (int i = 0; i < s->members_n; i++) {
        snprintf(texts[i], sizeof(texts[i]), "a%d", i);
        s->given[i] = (struct group_assignment){
            str_of(s->seen[i]), {(const uint8_t *)texts[i], (int32_t)strlen(texts[i])}};
    }
    sync_start(s, NULL, s->members_n);
}

enum group_error seat_beat(const struct seat *s)
{
    struct group_identity who = {str_of(s->group), str_of(s->id), str_of(s->instance),
                                 s->generation};
    return group_heartbeat(rig.coord, &who);
}

enum group_error seat_leave(const struct seat *s)
{
    struct group_leaver l = {str_of(s->id), str_of(s->instance), GROUP_OK};
    enum group_error error = group_leave(rig.coord, str_of(s->group), &l, 1);
    return error != GROUP_OK ? error : l.error;
}

void seats_settle(struct seat *seats, int n)
{
    struct seat *leader = NULL;
    for (int i = 0; i < n; i++)
        seat_enter(&seats[i]);
    for (unsigned ms = 0; !seats[n - 1].joined; ms += 100) {
        cr_assert_lt(ms, 100000);
        rig_run_ms(100);
    }
    for (int i = 0; i < n; i++) {
        cr_assert(seats[i].joined && seats[i].join_error == GROUP_OK, "%d: %d", i,
                  seats[i].join_error);
        if (seats[i].is_leader)
            leader = &seats[i];
        else
            seat_sync(&seats[i], NULL);
    }
    cr_assert_not_null(leader);
    seat_assign(leader);
    rig_run_ms(100);
    for (int i = 0; i < n; i++)
        cr_assert(seats[i].synced && seats[i].sync_error == GROUP_OK, "%d: %d", i,
                  seats[i].sync_error);
}

/* ---- offsets ---- */

static bool commit_done;

static void on_committed(struct group_commit *m)
{
    (void)m;
    cr_assert_not(commit_done);
    commit_done = true;
}

enum group_error rig_commit_to(const char *group, const struct seat *who, const char *topic,
                               int32_t partition, int64_t offset, const char *metadata,
                               int64_t retention_ms, bool *ret_answered)
{
    struct group_commit_item item = {.topic = str_of(topic),
                                     .partition = partition,
                                     .value = {.offset = offset,
                                               .leader_epoch = (int32_t)offset % 100,
                                               .metadata = str_of(metadata)}};
    struct group_commit m = {.who = {str_of(group), str_of(who == NULL ? "" : who->id),
                                     str_of(who == NULL ? NULL : who->instance),
                                     who == NULL ? -1 : who->generation},
                             .retention_ms = retention_ms,
                             .items = &item,
                             .items_n = 1,
                             .on_done = on_committed};
    commit_done = false;
    group_commit(rig.coord, &m);
    while (!commit_done) /* by an error, when the power fails */
        rig_turn();
    if (ret_answered != NULL)
        *ret_answered = m.error == GROUP_OK;
    return m.error != GROUP_OK ? m.error : item.error;
}

enum group_error rig_commit(const char *group, const struct seat *who, int32_t partition,
                            int64_t offset, const char *metadata)
{
    return rig_commit_to(group, who, RIG_TOPIC, partition, offset, metadata, -1, NULL);
}

struct fetching {
    struct group_fetch fetch;
    const char *topic;
    int32_t partition;
    bool done, found;
    struct group_offset value;
    char *metadata;
};

static void on_fetched(struct group_fetch *f)
{
    struct fetching *x = container_of(f, struct fetching, fetch);
    cr_assert_not(x->done);
    x->done = true;
    x->found =
        f->found != NULL && group_offset_find(f->found, str_of(x->topic), x->partition, &x->value);
    if (x->found && x->metadata != NULL)
        text_take(x->metadata, 5000, x->value.metadata);
}

int64_t rig_fetch(const char *group, const char *topic, int32_t partition, struct group_offset *ret,
                  char metadata[5000])
{
    struct fetching x = {.fetch = {.group = str_of(group), .on_done = on_fetched},
                         .topic = topic,
                         .partition = partition,
                         .metadata = metadata};
    group_fetch(rig.coord, &x.fetch);
    while (!x.done)
        rig_turn();
    if (x.fetch.error != GROUP_OK)
        return -2;
    if (ret != NULL)
        *ret = x.value;
    return x.found ? x.value.offset : -1;
}

static bool delete_done;

static void on_deleted(struct group_delete *d)
{
    (void)d;
    delete_done = true;
}

enum group_error rig_delete(const char *group)
{
    struct group_delete d = {.group = str_of(group), .on_done = on_deleted};
    delete_done = false;
    group_delete(rig.coord, &d);
    while (!delete_done)
        rig_turn();
    return d.error;
}

bool rig_has(const char *group)
{
    const struct group *g;
    return group_find(rig.coord, str_of(group), &g) == GROUP_OK;
}

enum group_state rig_state(const char *group)
{
    const struct group *g;
    struct group_info info;
    cr_assert_eq(group_find(rig.coord, str_of(group), &g), GROUP_OK);
    group_describe(g, &info);
    return info.state;
}
