#include "tests/sim/sim_broker.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/assert.h"
#include "core/base/bytes.h"
#include "net/net.h"

#define NS_PER_MS UINT64_C(1000000)
#define STOP_WAIT_MS 5000u
#define STOP_ABORT_MS 500u
#define DEAD_TURNS_MAX 2000u
#define FIRST_NODE_ID 1
#define FIRST_PORT 9092

static const char *const data_dirs[] = {"/data", "/dev2/data"};

/* ---- what serve_meta.c asks of directories: here they are there, and ours ---- */

int dirs_check(const struct serve_dirs *d, const struct meta_uuid *cluster_id, bool is_new,
               char *reason, size_t reason_size)
{
    (void)d;
    (void)cluster_id;
    (void)is_new;
    (void)reason;
    (void)reason_size;
    return 0;
}

int dirs_write(struct serve_dirs *d, const struct meta_uuid *cluster_id, int32_t node_id,
               char *reason, size_t reason_size)
{
    return node_id < 0 ? -EINVAL : dirs_check(d, cluster_id, false, reason, reason_size);
}

void sim_broker_init(struct sim_broker *b, struct mem_world *world, struct sim_net *net,
                     uint64_t seed)
{
    *b = (struct sim_broker){.world = world, .net = net};
    rng_seed(&b->rng, seed ^ 0x62726f6b6572u);
    for (unsigned i = 0; i < ARRAY_LEN(data_dirs); i++) {
        snprintf(b->dirs.data[i].path, sizeof(b->dirs.data[i].path), "%s", data_dirs[i]);
        b->dirs.data[i].id.b[0] = (uint8_t)(i + 1);
    }
    b->dirs.journal = b->dirs.data[0];
}

/* ---- start ---- */

static unsigned nodes_fill(struct broker *b)
{
    b->nodes_n = b->advertise == ADVERTISE_SHARD ? b->shards_n : 1;
    unsigned per_node = b->shards_n / b->nodes_n;
    for (unsigned i = 0; i < b->nodes_n; i++) {
        b->nodes[i] = (struct broker_node){.node_id = FIRST_NODE_ID + (int32_t)i,
                                           .host = "sim",
                                           .port = (uint16_t)(FIRST_PORT + i),
                                           .first_shard = i * per_node,
                                           .shards_n = per_node};
        for (unsigned s = 0; s < per_node; s++)
            b->node_of_shard[i * per_node + s] = i;
    }
    return b->nodes_n;
}

static int64_t or_default(int64_t value, int64_t if_zero)
{
    return value != 0 ? value : if_zero;
}

static void broker_configure(struct sim_broker *b, const struct sim_broker_config *config)
{
    struct broker *k = &b->broker;
    *k = (struct broker){
        .advertise = config->advertise,
        .shards_n = config->shards_n,
        .log = {.journal_bytes = config->journal_bytes,
                .direct_min_bytes = config->direct_min_bytes,
                .place_min_bytes = (uint32_t)config->direct_min_bytes / 4,
                .splice_verify = config->splice_verify,
                .ahead_min = config->direct_min_bytes <= 128u << 10,
                .shared_sync_min = config->direct_min_bytes < 1u << 20, /* all, or none */
                .shards_n = config->shards_n,
                .producer_expiry_ms = config->producer_expiry_ms,
                .retention_check_ms = config->retention_check_ms,
                .compact_backoff_ms = config->compact_backoff_ms,
                .compact_memory_bytes = config->compact_memory_bytes,
                .pool_max_percent = 10},
        .default_partitions = 1,
        .delete_topics_enabled = true,
        .request_bytes_max = config->request_bytes_max,
        .fetch_bytes_max = 50u << 20,
        .connections_max = 1000,
        .requests_in_flight_max = config->requests_in_flight_max,
        .connection_idle_ms = 600000,
        .fetch_sessions_max = 100,
        .groups = {.initial_delay_ms = config->group_delay_ms,
                   .session_min_ms = 10,
                   .session_max_ms = 1800000,
                   .size_max = INT32_MAX,
                   .metadata_bytes_max = 4096,
                   .offsets_retention_ms = or_default(config->offsets_retention_ms, 604800000),
                   .retention_check_ms = or_default(config->offsets_check_ms, 600000),
                   .partitions_n = 8,
                   .segment_bytes = 1 << 20},
        .egress = config->egress,
    };
    topic_config_defaults(&k->topic_defaults);
    b->config_key =
        (struct broker_config_key){.name = SIM_BROKER_CONFIG,
                                   .type = TOPIC_CONFIG_LONG,
                                   .dynamic = true,
                                   .topic = topic_config_find_server(SIM_BROKER_CONFIG)};
    k->config_keys = &b->config_key;
    k->config_keys_n = 1;
    k->topic_defaults.segment_bytes = config->segment_bytes;
    nodes_fill(k);
    b->dirs.data_n = config->data_dirs_n;
    b->memory_bytes = config->memory_bytes;
    b->reason[0] = '\0';
}

int dir_make(struct serve_dir *dir, char *reason, size_t reason_size)
{
    (void)reason;
    (void)reason_size;
    return dir->rc;
}

const char *dir_trouble(const struct serve_dir *dir)
{
    return strerror(-dir->rc);
}

static int dirs_make(struct sim_broker *b)
{
    struct env_name_step steps[] = {{.kind = ENV_STEP_MKDIR, .path = data_dirs[0]},
                                    {.kind = ENV_STEP_SYNC_DIR, .path = "/"},
                                    {.kind = ENV_STEP_MKDIR, .path = data_dirs[1]},
                                    {.kind = ENV_STEP_SYNC_DIR, .path = "/dev2"}};
    int rc = env_names_wait(b->envs[0], steps, 2);
    if (rc != 0 || b->dirs.data_n == 1)
        return rc;
    b->dirs.data[1].rc = env_names_wait(b->envs[0], steps + 2, 2);
    bool gone = b->dirs.data[1].rc < 0 && mem_world_device_failing(b->world, SIM_SECOND_DEVICE);
    return gone ? 0 : b->dirs.data[1].rc;
}

static int meta_open(struct sim_broker *b)
{
    struct broker *k = &b->broker;
    int rc = serve_meta_open(b->envs[0], &b->dirs, &k->topic_defaults, &k->log, FIRST_NODE_ID,
                             &b->meta, b->reason, sizeof(b->reason));
    if (rc < 0)
        return rc;
    k->log.journal_dir = b->dirs.journal.path;
    k->log.data_dirs = b->meta.data_dirs;
    k->log.data_dirs_n = b->meta.image->dirs_n;
    k->log.dirs_offline = &b->meta.dirs_offline;
    return 0;
}

static int shard_open(struct sim_broker *b, unsigned i)
{
    struct shard *s = &b->shards[i];
    b->memory[i] = aligned_alloc(BLOCK_BYTES, b->memory_bytes);
    ASSERT(b->memory[i] != NULL);
    int rc = shard_init(s, b->envs[i], &b->broker, b->memory[i], b->memory_bytes, b->meta.image,
                        b->reason, sizeof(b->reason));
    b->opened[i] = rc == 0;
    if (rc == 0 && i == 0)
        rc = shard_init_controller(s, b->meta.log, b->meta.image);
    return rc;
}

static int shard_listen(struct sim_broker *b, unsigned i)
{
    const struct broker_node *node = &b->broker.nodes[b->broker.node_of_shard[i]];
    int sock = sim_net_listener(b->broker.node_of_shard[i]);
    struct net_config config = {.listen_socks = &sock, .listen_socks_n = node->first_shard == i};
    int rc = net_init(&b->shards[i], &config);
    b->listening[i] = rc == 0;
    return rc;
}

static void envs_destroy(struct sim_broker *b)
{
    for (unsigned i = 0; i < SIM_SHARDS_MAX; i++) {
        env_destroy(b->envs[i]);
        free(b->memory[i]);
        b->envs[i] = NULL;
        b->memory[i] = NULL;
        b->opened[i] = b->listening[i] = false;
    }
    b->up = false;
}

static void envs_block(struct sim_broker *b, bool blocking)
{
    for (unsigned i = 0; i < b->broker.shards_n; i++)
        sim_env_block(b->envs[i], blocking);
}

static void shard_count(struct sim_broker *b, unsigned i)
{
    if (!b->opened[i])
        return;
    b->placed_bytes += log_store_counters(b->shards[i].logs)->adopted_bytes;
    b->moves += log_store_counters(b->shards[i].logs)->moved_here;
    b->compacted_segments += log_store_counters(b->shards[i].logs)->compacted_segments;
}

/* As a process that gives up: what is open is left as it is. */
static void broker_abandon(struct sim_broker *b)
{
    envs_block(b, true);
    for (unsigned i = 0; i < b->broker.shards_n; i++) {
        shard_count(b, i);
        if (b->opened[i])
            shard_abandon(&b->shards[i]);
    }
    if (b->shards[0].controller != NULL)
        b->meta.image = shard_fini_controller(&b->shards[0]);
    serve_meta_close(&b->meta);
    envs_destroy(b);
}

int sim_broker_start(struct sim_broker *b, const struct sim_broker_config *config)
{
    ASSERT(!b->up && config->shards_n <= SIM_SHARDS_MAX);
    b->stores_closed = false;
    broker_configure(b, config);
    memset(b->shards, 0, sizeof(b->shards));
    sim_net_mend(b->net);
    unsigned n = config->shards_n;
    for (unsigned i = 0; i < n; i++)
        b->envs[i] = sim_env_create(b->net, i, n, &b->shards[i]);
    int rc = dirs_make(b);
    if (rc == 0)
        rc = meta_open(b);
    for (unsigned i = 0; rc == 0 && i < n; i++)
        rc = shard_open(b, i);
    b->start_reads = 0;
    for (unsigned i = 0; i < n; i++)
        b->start_reads += sim_env_counters(b->envs[i])->read_bytes;
    for (unsigned i = 0; rc == 0 && i < n; i++)
        rc = shard_listen(b, i);
    if (rc == 0) {
        envs_block(b, false);
        memset(b->settled, 0, sizeof(b->settled));
        b->up = true;
    } else if (!mem_world_crashed(b->world)) {
        broker_abandon(b);
    }
    return rc;
}

/* ---- turning ---- */

static bool wants_turn(const struct sim_broker *b, unsigned i)
{
    return sim_env_ready(b->envs[i]) || !b->settled[i] ||
           sim_env_wake_ns(b->envs[i]) <= mem_world_now_ns(b->world);
}

/* A turn's deadline is told at its begin: so one that did something is followed by another. */
static void turn_one(struct sim_broker *b, unsigned i)
{
    b->settled[i] =
        !sim_env_ready(b->envs[i]) && sim_env_wake_ns(b->envs[i]) > mem_world_now_ns(b->world);
    shard_turn(&b->shards[i]);
}

bool sim_broker_turn(struct sim_broker *b)
{
    unsigned n = b->broker.shards_n, first = (unsigned)rng_below(&b->rng, n);
    for (unsigned k = 0; k < n; k++) {
        unsigned i = (first + k) % n;
        if (!wants_turn(b, i))
            continue;
        turn_one(b, i);
        return true;
    }
    return false;
}

uint64_t sim_broker_wake_ns(const struct sim_broker *b)
{
    uint64_t wake = UINT64_MAX;
    for (unsigned i = 0; i < b->broker.shards_n; i++)
        wake = MIN(wake, sim_env_wake_ns(b->envs[i]));
    return wake;
}

/* ---- stop ---- */

static bool all_stopped(const struct sim_broker *b)
{
    for (unsigned i = 0; i < b->broker.shards_n; i++)
        if (b->listening[i] && !net_stopped(&b->shards[i]))
            return false;
    return true;
}

static void let_time_pass(struct sim_broker *b, uint64_t until_ns)
{
    uint64_t next = MIN(mem_world_next_ns(b->world), sim_net_next_ns(b->net));
    next = MIN(MIN(next, sim_broker_wake_ns(b)), until_ns);
    uint64_t now = mem_world_now_ns(b->world);
    mem_world_advance(b->world, MAX(next, now) - now);
}

static void turn_until_stopped(struct sim_broker *b, uint64_t wait_ms)
{
    uint64_t until_ns = mem_world_now_ns(b->world) + wait_ms * NS_PER_MS;
    while (!all_stopped(b) && !mem_world_crashed(b->world) &&
           mem_world_now_ns(b->world) < until_ns) {
        sim_net_run(b->net);
        if (!sim_broker_turn(b))
            let_time_pass(b, until_ns);
    }
}

/* What messages are under way still arrives. */
static void turn_until_quiet(struct sim_broker *b)
{
    for (unsigned turns = 0; turns < 100 && sim_broker_turn(b); turns++)
        continue;
}

static int stores_close(struct sim_broker *b)
{
    int first_error = 0;
    for (unsigned i = 0; i < b->broker.shards_n; i++) {
        shard_count(b, i);
        net_fini(&b->shards[i]);
        int rc = shard_fini(&b->shards[i]);
        b->opened[i] = b->listening[i] = false;
        if (rc < 0 && first_error == 0) {
            snprintf(b->reason, sizeof(b->reason), "shard %u: %s", i, strerror(-rc));
            first_error = rc;
        }
    }
    return first_error;
}

int sim_broker_stop(struct sim_broker *b)
{
    for (unsigned i = 0; i < b->broker.shards_n; i++)
        net_stop(&b->shards[i]);
    turn_until_stopped(b, STOP_WAIT_MS);
    for (unsigned i = 0; i < b->broker.shards_n; i++)
        net_abort(&b->shards[i]);
    turn_until_stopped(b, STOP_ABORT_MS);
    turn_until_quiet(b);
    if (mem_world_crashed(b->world))
        return -EIO;
    if (!all_stopped(b)) {
        snprintf(b->reason, sizeof(b->reason), "requests did not finish in time");
        b->unclean_ends++;
        mem_world_kill(b->world); /* the process ends */
        broker_abandon(b);
        mem_world_crash(b->world);
        return -ETIMEDOUT;
    }
    envs_block(b, true);
    int rc = stores_close(b);
    b->stores_closed = rc == 0 && !mem_world_crashed(b->world);
    b->meta.image = shard_fini_controller(&b->shards[0]);
    if (rc == 0)
        rc = serve_meta_stop(&b->meta);
    if (mem_world_crashed(b->world))
        return rc != 0 ? rc : -EIO;
    serve_meta_close(&b->meta);
    envs_destroy(b);
    return rc;
}

/* ---- crash ---- */

/* Nothing takes effect any more: this only gives back memory, and shows that errors are handled. */
static void dead_drain(struct sim_broker *b)
{
    for (unsigned i = 0; i < b->broker.shards_n; i++)
        if (b->listening[i] && b->opened[i]) {
            net_stop(&b->shards[i]);
            net_abort(&b->shards[i]);
        }
    envs_block(b, true); /* waits come to their end */
    for (unsigned turns = 0; turns < DEAD_TURNS_MAX && !all_stopped(b); turns++) {
        sim_net_run(b->net);
        for (unsigned i = 0; i < b->broker.shards_n; i++)
            shard_turn(&b->shards[i]);
    }
    bool clean = all_stopped(b);
    b->unclean_ends += !clean;
    for (unsigned i = 0; i < b->broker.shards_n && clean; i++)
        if (b->listening[i] && b->opened[i])
            net_fini(&b->shards[i]);
}

void sim_broker_crash(struct sim_broker *b)
{
    if (!mem_world_crashed(b->world))
        mem_world_power_off(b->world);
    sim_net_cut(b->net);
    if (b->up)
        dead_drain(b);
    broker_abandon(b);
    mem_world_crash(b->world);
}
