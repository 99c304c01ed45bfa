#include "tests/sim/plan.h"

#include "core/base/bytes.h"

static uint64_t pick_(struct rng *r, const uint64_t *from, unsigned n)
{
    return from[rng_below(r, n)];
}
#define PICK(r, ...)                                                                               \
    pick_((r), (const uint64_t[]){__VA_ARGS__},                                                    \
          sizeof((const uint64_t[]){__VA_ARGS__}) / sizeof(uint64_t))

static bool chance(struct rng *r, unsigned percent)
{
    return rng_below(r, 100) < percent;
}

static void draw_broker(struct sim_plan *p, struct rng *r)
{
    p->broker = (struct sim_broker_config){
        .shards_n = (unsigned)PICK(r, 1, 2, 2, 3),
        .data_dirs_n = chance(r, 25) ? 2 : 1,
        .advertise = chance(r, 50) ? ADVERTISE_SHARD : ADVERTISE_HOST,
        /* The smallest leaves little beside the journal's own buffers: constant back-pressure. */
        .memory_bytes = PICK(r, 12u << 20, 16u << 20, 16u << 20, 32u << 20),
        .journal_bytes = PICK(r, 3u << 20, 4u << 20, 6u << 20, 16u << 20),
        .direct_min_bytes = PICK(r, 16u << 10, 128u << 10, 1u << 20),
        .segment_bytes = (int64_t)PICK(r, 64u << 10, 256u << 10, 1u << 20, 16u << 20),
        .request_bytes_max = 8u << 20,
        .requests_in_flight_max = (uint32_t)PICK(r, 1, 5, 64),
        .producer_expiry_ms = 86400000,
        .retention_check_ms = PICK(r, 20, 300, 3000),
    };
    p->shards_change = chance(r, 30);
}

static void draw_machine(struct sim_plan *p, struct rng *r)
{
    p->write_ns = PICK(r, 10000, 100000, 1000000, 5000000);
    p->flush_ns = PICK(r, 10000, 400000, 4000000, 15000000);
    p->read_ns = PICK(r, 10000, 80000, 8000000);
    p->stall_one_in = chance(r, 20) ? PICK(r, 50, 500) : 0;
    p->net = (struct sim_net_config){
        .latency_ns = PICK(r, 20000, 200000, 5000000),
        .starve_one_in = chance(r, 30) ? 20 : 0,
        .reset_one_in = chance(r, 30) ? (unsigned)PICK(r, 30, 300) : 0,
        .window_bytes = PICK(r, 1u << 14, 1u << 18),
    };
}

/* Of the first topic nothing goes by itself: times of records are long ago. */
static void draw_topics(struct sim_plan *p, struct rng *r)
{
    p->topics_n = 1 + (unsigned)rng_below(r, PLAN_TOPICS_MAX);
    for (unsigned i = 0; i < p->topics_n; i++)
        p->topics[i] = (struct plan_topic){
            .partitions_n = (int32_t)PICK(r, 1, 2, 3, 6),
            .segment_ms = (int64_t)(chance(r, 20) ? 1000 : 604800000),
            .flush_ms = (int64_t)PICK(r, 0, 50, 1000, 10000),
            .retention_ms = i > 0 && chance(r, 10) ? (int64_t)PICK(r, 0, 1000, 5000) : -1,
            .retention_bytes =
                i > 0 && chance(r, 25) ? (int64_t)PICK(r, 0, 100u << 10, 1u << 20) : -1,
            .index_interval_bytes = (int64_t)PICK(r, 0, 512, 4096),
            .write_caching = chance(r, 15),
            .log_append_time = chance(r, 15),
        };
}

static void draw_load(struct sim_plan *p, struct rng *r)
{
    p->producers_n = 1 + (unsigned)rng_below(r, PLAN_PRODUCERS_MAX);
    p->consumers_n = 1 + (unsigned)rng_below(r, PLAN_CONSUMERS_MAX);
    p->churn = chance(r, 40);
    p->deletes = chance(r, 40);
    p->hostile = chance(r, 30);
    p->think_ns = PICK(r, 2000000, 20000000, 200000000, 2000000000);
    p->small_bytes = (uint32_t)PICK(r, 20, 300, 3000);
    p->big_bytes = (uint32_t)PICK(r, 20u << 10, 200u << 10, 900u << 10);
    p->big_one_in = chance(r, 60) ? (unsigned)PICK(r, 3, 10, 50) : 0;
    p->rounds = 3 + (unsigned)rng_below(r, 6);
    p->round_ns = 60 * p->think_ns * (1 + rng_below(r, 4));
    p->round_ns = MAX(p->round_ns, UINT64_C(500000000));
}

/* Large segments come and go, so that their files are used again: what lies in them is old. */
static void draw_recycling(struct sim_plan *p, struct rng *r)
{
    p->churn = true;
    p->big_one_in = 2;
    p->big_bytes = 200u << 10;
    p->broker.direct_min_bytes = 16u << 10;
    p->broker.segment_bytes = 1 << 20;
    p->broker.memory_bytes = 32u << 20;
    p->producers_n = MAX(p->producers_n, 5u);
    p->think_ns = PICK(r, 2000000, 20000000);
    p->power_cuts = p->cuts_in_runs = p->cuts_in_rewrites = true;
    p->kills = p->clean_stops = false;
    p->rounds = 8;
    p->round_ns = MIN(p->round_ns, UINT64_C(1000000000));
}

static void draw_faults(struct sim_plan *p, struct rng *r)
{
    p->power_cuts = chance(r, 75);
    p->kills = chance(r, 40) || !p->power_cuts;
    p->clean_stops = chance(r, 40);
    p->cuts_in_start = chance(r, 40);
    p->cuts_in_runs = chance(r, 40);
    p->faults[MEM_FAULT_READ_EIO] = chance(r, 20);
    p->faults[MEM_FAULT_WRITE_EIO] = chance(r, 20);
    p->faults[MEM_FAULT_WRITE_SHORT] = chance(r, 15);
    p->faults[MEM_FAULT_FLUSH_EIO] = chance(r, 20);
    p->faults[MEM_FAULT_NAME_EIO] = chance(r, 15);
    p->faults[MEM_FAULT_ENOSPC] = chance(r, 15);
    p->full_disk = chance(r, 15);
    p->wall_steps = chance(r, 20);
    p->rot = chance(r, 15);
    p->faults[MEM_FAULT_READ_MISDIRECTED] = chance(r, 7);
    p->faults[MEM_FAULT_WRITE_MISDIRECTED] = chance(r, 5);
    p->damage_round = 1 + (unsigned)rng_below(r, p->rounds);
}

/* What is spliced comes as it is, damaged or not. */
static void draw_egress(struct sim_plan *p, struct rng *r)
{
    bool sound = !p->rot && !p->faults[MEM_FAULT_READ_MISDIRECTED] &&
                 !p->faults[MEM_FAULT_WRITE_MISDIRECTED];
    if (!chance(r, 50) || !sound)
        return;
    p->broker.egress = EGRESS_SPLICE;
    p->broker.splice_verify = chance(r, 50) ? LOG_VERIFY_ONCE : LOG_VERIFY_NEVER;
}

/* Between nodes, of which there are several then. */
static void draw_moves(struct sim_plan *p, struct rng *r)
{
    p->moves = chance(r, 50);
    if (!p->moves)
        return;
    p->broker.advertise = ADVERTISE_SHARD;
    p->broker.shards_n = MAX(p->broker.shards_n, 2u);
}

/* Sessions are long enough to be kept up on this machine; or are not. */
static void draw_groups(struct sim_plan *p, struct rng *r)
{
    p->broker.offsets_retention_ms = 604800000;
    if (!chance(r, 35))
        return;
    p->groups_n = 1 + (unsigned)rng_below(r, PLAN_GROUPS_MAX);
    p->group_think_ns = p->think_ns * PICK(r, 1, 2);
    p->group_session_ms = PICK(r, 10, 40) * p->group_think_ns / 1000000;
    p->broker.group_delay_ms = (int64_t)PICK(r, 0, 0, 50);
    if (!p->wall_steps && chance(r, 30)) {
        p->broker.offsets_retention_ms = (int64_t)PICK(r, 500, 5000);
        p->broker.offsets_check_ms = 200;
    }
}

static void draw_compaction(struct sim_plan *p, struct rng *r)
{
    p->table = chance(r, 30);
    p->tombstones_ms = (int64_t)(p->wall_steps ? 86400000 : PICK(r, 0, 300, 3000, 86400000));
    if (!p->table && (p->groups_n == 0 || chance(r, 50)))
        return;
    p->broker.compact_backoff_ms = PICK(r, 20, 300);
    p->broker.compact_memory_bytes = PICK(r, 1u << 10, 4u << 10, 1u << 20);
    if (p->table)
        p->broker.segment_bytes = 64u << 10;
}

void sim_plan_draw(struct sim_plan *plan, uint64_t seed)
{
    struct rng r;
    rng_seed(&r, seed ^ 0x706c616eu);
    *plan = (struct sim_plan){0};
    draw_broker(plan, &r);
    draw_machine(plan, &r);
    draw_topics(plan, &r);
    draw_load(plan, &r);
    draw_faults(plan, &r);
    if (chance(&r, 15))
        draw_recycling(plan, &r);
    draw_egress(plan, &r);
    draw_moves(plan, &r);
    draw_groups(plan, &r);
    if (chance(&r, 20) && !plan->rot) {
        plan->broker.data_dirs_n = 2;
        plan->dir_fails = true;
        for (unsigned i = 0; i < plan->topics_n; i++) /* what comes back is there to be seen */
            plan->topics[i].retention_ms = plan->topics[i].retention_bytes = -1;
    }
    draw_compaction(plan, &r);
}
