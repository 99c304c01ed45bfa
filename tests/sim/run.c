/* run.c: the life of the machine in one run: round by round the broker starts, is audited, used,
 * and ends in one way or another. */
#include <inttypes.h>
#include <string.h>

#include "core/base/bytes.h"
#include "tests/sim/clients.h"
#include "tests/sim/run.h"

#define FAULT_WITHIN_OPS 400
#define CUT_WITHIN_EFFECTS 3000
#define CUT_IN_START_WITHIN_EFFECTS 120
#define START_READS_PER_SHARD (48u << 20)
#define ROT_SECTOR_BYTES 512
#define ROT_LOST_MAX 40 /* batches that one rotten sector may take; the smallest have 80 bytes */
#define AFTER_FAULT_NS UINT64_C(2000000000)

enum round_end { END_POWER_CUT, END_KILL, END_CLEAN_STOP };
static const char *const end_names[] = {"power cut", "kill", "clean stop"};
static const char *const fault_names[MEM_FAULT_KINDS] = {
    [MEM_FAULT_READ_EIO] = "read error",
    [MEM_FAULT_WRITE_EIO] = "write error",
    [MEM_FAULT_WRITE_SHORT] = "short write",
    [MEM_FAULT_FLUSH_EIO] = "flush error",
    [MEM_FAULT_ENOSPC] = "no space",
    [MEM_FAULT_NAME_EIO] = "name error",
    [MEM_FAULT_READ_MISDIRECTED] = "misdirected read",
    [MEM_FAULT_WRITE_MISDIRECTED] = "misdirected write",
};

bool sim_crashed(const struct sim *sim)
{
    return mem_world_crashed(sim->world);
}

/* ---- faults ---- */

uint64_t sim_faults_hit(const struct sim *sim)
{
    uint64_t hits = 0;
    for (int i = 0; i < MEM_FAULT_KINDS; i++)
        hits += mem_world_fault_hits(sim->world, (enum mem_fault)i);
    return hits;
}

/* What misleads a reader is not for a start, which has nothing to hold it against. A write goes
 * astray once in a run: nobody keeps three copies. */
static bool may_come(const struct sim *sim, enum mem_fault fault, bool starting)
{
    if (fault == MEM_FAULT_READ_MISDIRECTED)
        return !starting;
    if (fault == MEM_FAULT_WRITE_MISDIRECTED)
        return !starting && sim->round == sim->plan.damage_round;
    return true;
}

static void faults_arm(struct sim *sim, uint64_t within, bool starting)
{
    for (int i = 0; i < MEM_FAULT_KINDS; i++) {
        if (!sim->plan.faults[i] || !may_come(sim, (enum mem_fault)i, starting) ||
            !sim_one_in(sim, 2))
            continue;
        uint64_t nth = 1 + sim_below(sim, within);
        sim_trace(sim, "%s at operation %" PRIu64, fault_names[i], nth);
        mem_world_fail_at(sim->world, (enum mem_fault)i, nth);
    }
}

/* Some bits in one sector of one file turn, while nothing runs. */
static void rot(struct sim *sim)
{
    char path[256];
    uint64_t size, files = 0;
    while (mem_world_file_nth(sim->world, files, path, sizeof(path), &size))
        files++;
    if (files == 0 ||
        !mem_world_file_nth(sim->world, sim_below(sim, files), path, sizeof(path), &size) ||
        size == 0)
        return;
    uint64_t at = sim_below(sim, size), sector = at - at % ROT_SECTOR_BYTES;
    uint64_t len = 1 + sim_below(sim, MIN(size, sector + ROT_SECTOR_BYTES) - at);
    sim_trace(sim, "%" PRIu64 " bytes of %s rot at %" PRIu64, len, path, at);
    if (mem_world_corrupt(sim->world, path, at, len) != 0)
        return;
    sim->model.tolerant = true;
    sim->report.rotten_files++;
}

/* What has misled the broker since: records may be missing from now on. */
static void damage_note(struct sim *sim)
{
    bool write = mem_world_fault_hits(sim->world, MEM_FAULT_WRITE_MISDIRECTED) > 0;
    bool read = mem_world_fault_hits(sim->world, MEM_FAULT_READ_MISDIRECTED) > 0;
    sim->misdirected = sim->misdirected || write;
    sim->model.tolerant = sim->model.tolerant || write || read;
}

void sim_faults_disarm(struct sim *sim)
{
    mem_world_crash_at_io(sim->world, 0);
    for (int i = 0; i < MEM_FAULT_KINDS; i++)
        mem_world_fail_at(sim->world, (enum mem_fault)i, 0);
}

static void net_set(struct sim *sim, bool faulty)
{
    struct sim_net_config config = sim->plan.net;
    if (!faulty)
        config.reset_one_in = 0;
    sim_net_configure(sim->net, &config);
}

/* ---- ends ---- */

static uint64_t flush_slack_ns(const struct sim *sim)
{
    uint64_t op_ns = sim->plan.write_ns + sim->plan.flush_ns + sim->plan.read_ns;
    uint64_t factor = sim->plan.stall_one_in > 0 ? 20000 : 200;
    return factor * op_ns + 1000 * SIM_NS_PER_MS;
}

/* Behind the last store's close there is only the record that says so. Where its write fails, or
 * the power with it, it may be there or not, and both are right. */
static void ended(struct sim *sim, bool clean, bool healthy)
{
    clients_stop(sim);
    sim->unclean = sim->unclean || (!clean && !sim->broker.stores_closed);
    model_ended(&sim->model, clean, healthy, sim_now_ns_of(sim), flush_slack_ns(sim));
}

void sim_end_by_crash(struct sim *sim, bool healthy)
{
    ended(sim, false, healthy);
    sim_broker_crash(&sim->broker);
    sim->report.unclean_ends = sim->broker.unclean_ends;
}

/* What was only in memory of its partitions is gone, also at a clean stop. */
bool sim_dir_failing(const struct sim *sim)
{
    return mem_world_device_failing(sim->world, SIM_SECOND_DEVICE);
}

void sim_end_by_stop(struct sim *sim, bool healthy)
{
    uint64_t hits = sim_faults_hit(sim);
    int rc = sim_broker_stop(&sim->broker);
    healthy = healthy && sim_faults_hit(sim) == hits && !sim_dir_failing(sim);
    sim_trace(sim, "stop: %d %s", rc, rc == 0 ? "" : sim->broker.reason);
    if (sim_crashed(sim)) {
        sim->report.power_cuts++;
        sim_end_by_crash(sim, healthy);
        return;
    }
    ended(sim, rc == 0 && !sim_dir_failing(sim), healthy);
    sim->report.clean_stops += rc == 0;
    sim->report.failed_stops += rc != 0;
    if (rc != 0 && healthy && sim->plan.stall_one_in == 0)
        model_violation(&sim->model, "a stop fails: %s", sim->broker.reason);
}

static enum round_end end_choose(struct sim *sim)
{
    bool may[] = {sim->plan.power_cuts, sim->plan.kills, sim->plan.clean_stops};
    for (;;) {
        unsigned which = (unsigned)sim_below(sim, ARRAY_LEN(may));
        if (may[which])
            return (enum round_end)which;
    }
}

/* ---- start ---- */

static void broker_config_choose(struct sim *sim)
{
    sim->broker_config = sim->plan.broker;
    if (sim->plan.shards_change && sim_one_in(sim, 2))
        sim->broker_config.shards_n = 1 + (unsigned)sim_below(sim, 3);
}

static void start_checked(struct sim *sim)
{
    uint64_t bound =
        (SIM_SHARDS_MAX * 2) * (START_READS_PER_SHARD + 3 * sim->broker_config.journal_bytes);
    uint64_t reads = sim->broker.start_reads;
    sim->report.starts++;
    sim->report.start_reads_max = MAX(sim->report.start_reads_max, reads);
    if (reads > bound)
        model_violation(&sim->model, "a start reads %" PRIu64 " bytes", reads);
}

/* One attempt. True: it is up, and no fault has touched it. */
static bool start_once(struct sim *sim, bool faulty)
{
    uint64_t hits = sim_faults_hit(sim);
    bool cut = faulty && sim->plan.cuts_in_start && sim_one_in(sim, 2);
    broker_config_choose(sim);
    if (cut)
        mem_world_crash_at_io(sim->world, 1 + sim_below(sim, CUT_IN_START_WITHIN_EFFECTS));
    if (faulty && sim_one_in(sim, 4))
        faults_arm(sim, 40, true);
    int rc = sim_broker_start(&sim->broker, &sim->broker_config);
    sim_faults_disarm(sim);
    sim_trace(sim, "start with %u shards: %d %s", sim->broker_config.shards_n, rc,
              rc == 0 ? "" : sim->broker.reason);
    if (sim_crashed(sim)) {
        sim->report.cuts_in_start++;
        sim_broker_crash(&sim->broker);
        return false;
    }
    bool touched = sim_faults_hit(sim) != hits;
    if (rc != 0 && !touched && sim->misdirected) {
        sim->report.refused_starts++; /* with a reason: nothing is taken for what it is not */
        return false;
    }
    if (rc != 0 && !touched)
        model_violation(&sim->model, "a start fails: %s", sim->broker.reason);
    if (rc == 0 && touched) { /* it may go on without a partition: not what is to be audited */
        mem_world_kill(sim->world);
        sim_broker_crash(&sim->broker);
    }
    if (rc == 0 && !touched)
        start_checked(sim);
    return rc == 0 && !touched;
}

bool sim_broker_up(struct sim *sim, bool faulty)
{
    net_set(sim, false);
    for (unsigned attempt = 0; !start_once(sim, faulty && attempt < 3); attempt++)
        if (model_failed(&sim->model) || sim->report.refused_starts > 0)
            return false;
    if (sim->model.topics == NULL && !clients_make_topics(sim))
        return false;
    return clients_audit(sim);
}

/* ---- a round ---- */

struct round {
    uint64_t until_ns, full_from_ns, full_until_ns;
    uint64_t hits, cut_from_ns;
    bool was_full, cut_in_run;
};

static void round_begin(struct sim *sim, struct round *r, enum round_end end)
{
    uint64_t now = sim_now_ns_of(sim), length = sim_some_ns(sim, sim->plan.round_ns);
    *r = (struct round){.until_ns = now + length, .hits = sim_faults_hit(sim)};
    r->full_from_ns = r->full_until_ns = UINT64_MAX;
    if (sim->plan.full_disk && sim_one_in(sim, 2)) {
        r->full_from_ns = now + sim_below(sim, length);
        r->full_until_ns = r->full_from_ns + sim_below(sim, length);
        r->until_ns = r->full_until_ns + length;
    }
    if (end == END_POWER_CUT)
        mem_world_crash_at_io(sim->world, 1 + sim_below(sim, CUT_WITHIN_EFFECTS));
    r->cut_in_run = end == END_POWER_CUT && sim->plan.cuts_in_runs &&
                    (sim->plan.cuts_in_rewrites || sim_one_in(sim, 2));
    r->cut_from_ns = now + sim_below(sim, length);
    if (r->cut_in_run)
        mem_world_crash_at_io(sim->world, 0);
    faults_arm(sim, FAULT_WITHIN_OPS, false);
    if (sim->plan.dir_fails && !sim_dir_failing(sim) && sim_one_in(sim, 2))
        mem_world_fail_device(sim->world, SIM_SECOND_DEVICE, 1 + sim_below(sim, FAULT_WITHIN_OPS));
    net_set(sim, true);
    if (sim->plan.wall_steps) {
        int64_t ms = (int64_t)sim_below(sim, 7200000) - 3600000;
        sim_trace(sim, "the wall clock steps by %" PRId64 " ms", ms);
        mem_world_step_wall(sim->world, ms);
    }
}

static void disk_set(struct sim *sim, struct round *r)
{
    uint64_t now = sim_now_ns_of(sim);
    if (now >= r->full_from_ns) {
        sim_trace(sim, "the disk is full");
        mem_world_set_capacity(sim->world, 0);
        r->full_from_ns = UINT64_MAX;
        r->was_full = true;
        sim->report.full_disks++;
    }
    if (now >= r->full_until_ns) {
        sim_trace(sim, "the disk has space again");
        mem_world_set_capacity(sim->world, UINT64_C(1) << 40);
        r->full_until_ns = UINT64_MAX;
    }
}

/* Of a new file a torn write shows nothing or all; of one used before whatever mix there may be. It
 * matters when the journal names the run already: so when nothing else is in flight. */
static bool run_in_flight(const struct sim *sim)
{
    uint64_t bytes = mem_world_writing_bytes(sim->world);
    return bytes >= sim->broker_config.direct_min_bytes &&
           (!sim->plan.cuts_in_rewrites || mem_world_rewriting_bytes(sim->world) == bytes);
}

static void round_work(struct sim *sim, struct round *r)
{
    uint64_t now;
    bool seen = false;
    while (sim_step(sim, MIN(r->until_ns, MIN(r->full_from_ns, r->full_until_ns))) &&
           (now = sim_now_ns_of(sim)) < r->until_ns) {
        disk_set(sim, r);
        damage_note(sim);
        if (r->cut_in_run && now > r->cut_from_ns && run_in_flight(sim))
            mem_world_power_off(sim->world);
        if (!seen && sim_faults_hit(sim) != r->hits) {
            seen = true; /* it goes on for a while, then somebody starts it again */
            r->until_ns = MIN(r->until_ns, now + AFTER_FAULT_NS);
        }
    }
}

/* The next start finds the second data directory, or it stays away. */
static void dir_mend(struct sim *sim, bool now)
{
    if (!sim_dir_failing(sim) && !sim->plan.dir_fails)
        return;
    bool was_failing = sim_dir_failing(sim);
    if (now || !was_failing) /* also what was to come and has not */
        mem_world_fail_device(sim->world, SIM_SECOND_DEVICE, 0);
    if (!was_failing && !now && sim->model.topics != NULL) /* it fails while nothing runs */
        mem_world_fail_device(sim->world, SIM_SECOND_DEVICE, 1);
    sim_trace(sim, "the second data directory %s", now ? "is there" : "may be away");
}

static bool round_live(struct sim *sim)
{
    struct round r;
    enum round_end end = end_choose(sim);
    if (sim->plan.rot && sim->round == sim->plan.damage_round)
        rot(sim);
    if (sim->plan.dir_fails) /* draws nothing where none fails */
        dir_mend(sim, sim_one_in(sim, 2));
    bool failing_before = sim_dir_failing(sim);
    if (!sim_broker_up(sim, true))
        return false;
    clients_start(sim);
    round_begin(sim, &r, end);
    round_work(sim, &r);
    damage_note(sim);
    bool healthy = sim_faults_hit(sim) == r.hits && !r.was_full && !sim_dir_failing(sim);
    sim->report.failed_dirs += !failing_before && sim_dir_failing(sim);
    sim_faults_disarm(sim);
    mem_world_set_capacity(sim->world, UINT64_C(1) << 40);
    if (model_failed(&sim->model))
        return false;
    if (sim_crashed(sim))
        end = END_POWER_CUT;
    sim_trace(sim, "%s%s", end_names[end], healthy ? "" : ", after a fault");
    if (end == END_CLEAN_STOP) {
        sim_end_by_stop(sim, healthy);
    } else {
        sim->report.power_cuts += end == END_POWER_CUT;
        sim->report.kills += end == END_KILL;
        if (end == END_KILL)
            mem_world_kill(sim->world);
        else
            mem_world_power_off(sim->world);
        sim_end_by_crash(sim, healthy);
    }
    return !model_failed(&sim->model);
}

/* Everything is mended: it must work as on the first day, and be the same after a stop. */
static bool last_round(struct sim *sim)
{
    dir_mend(sim, true);
    if (!sim_broker_up(sim, false))
        return false;
    clients_start(sim);
    if (!sim->model.tolerant && !clients_progress(sim)) /* a damaged partition may take no more */
        return false;
    sim_end_by_stop(sim, !sim->model.tolerant);
    if (model_failed(&sim->model) || !sim_broker_up(sim, false))
        return false;
    sim_end_by_stop(sim, !sim->model.tolerant);
    if (!sim->misdirected && sim->model.lost_batches > ROT_LOST_MAX * sim->report.rotten_files &&
        sim->report.rotten_files > 0)
        model_violation(&sim->model, "one rotten sector took %" PRIu64 " batches",
                        sim->model.lost_batches);
    return !model_failed(&sim->model);
}

static void shows_something(struct sim *sim)
{
    const struct sim_report *r = &sim->report;
    if (sim->model.acked_batches == 0)
        model_violation(&sim->model, "nothing was acknowledged");
    if (r->power_cuts + r->kills + r->cuts_in_start + r->clean_stops + sim_faults_hit(sim) == 0)
        model_violation(&sim->model, "nothing was injected");
    if (sim->model.audited_batches == 0 && sim->model.kept_batches > 0)
        model_violation(&sim->model, "nothing was recovered");
}

void sim_report_finish(struct sim *sim)
{
    struct sim_report *r = &sim->report;
    const struct model *m = &sim->model;
    r->virtual_ns = sim_now_ns_of(sim);
    for (int i = 0; i < MEM_FAULT_KINDS; i++)
        r->faults[i] = mem_world_fault_hits(sim->world, (enum mem_fault)i);
    r->connection_resets = sim_net_resets(sim->net);
    r->acked_batches = m->acked_batches;
    r->acked_records = m->acked_records;
    r->acked_bytes = m->acked_bytes;
    r->seen_batches = m->seen_batches;
    r->audited_batches = m->audited_batches;
    r->must_survive = m->must_survive;
    r->lost_batches = m->lost_batches;
    r->placed_bytes = sim->broker.placed_bytes;
    r->moves = sim->broker.moves;
    const struct sim_groups *g = &sim->clients->groups;
    r->table_acked = sim->clients->table.acked;
    r->table_gone = sim->clients->table.gone;
    r->table_passes = sim->clients->table.passes;
    r->compacted_segments = sim->broker.compacted_segments;
    r->group_commits = g->commits;
    r->group_fetches = g->fetches;
    r->group_assignments = g->assignments;
    r->group_expired = g->expired;
    r->group_stale = g->refused_stale;
    r->trace_hash = sim->trace_hash ^ mem_world_trace_hash(sim->world);
}

void sim_open(struct sim *sim, uint64_t seed, bool verbose, const struct sim_plan *plan)
{
    memset(sim, 0, sizeof(*sim));
    sim->seed = seed;
    sim->verbose = verbose;
    sim->trace_hash = 0xcbf29ce484222325u;
    list_init(&sim->timers);
    rng_seed(&sim->rng, seed);
    if (plan != NULL)
        sim->plan = *plan;
    else
        sim_plan_draw(&sim->plan, seed);
    sim->world = mem_world_create(seed);
    mem_world_set_latency(sim->world, sim->plan.write_ns, sim->plan.flush_ns, sim->plan.read_ns);
    mem_world_set_stalls(sim->world, sim->plan.stall_one_in);
    sim->net = sim_net_create(sim->world, seed);
    sim_broker_init(&sim->broker, sim->world, sim->net, seed);
    model_init(&sim->model);
    clients_create(sim);
}

void sim_shut(struct sim *sim)
{
    if (model_failed(&sim->model)) { /* in the middle of something: the process ends soon */
        model_fini(&sim->model);     /* its text stays */
        return;
    }
    if (sim->broker.up || sim_crashed(sim)) {
        clients_stop(sim);
        sim_broker_crash(&sim->broker);
    }
    clients_destroy(sim);
    sim_net_destroy(sim->net);
    mem_world_destroy(sim->world);
    model_fini(&sim->model);
}

bool sim_run(struct sim *sim, uint64_t seed, bool verbose)
{
    sim_open(sim, seed, verbose, NULL);
    bool ok = true;
    for (sim->round = 0; ok && sim->round < sim->plan.rounds; sim->round++)
        ok = round_live(sim);
    if (ok && last_round(sim))
        shows_something(sim);
    sim_report_finish(sim);
    sim_shut(sim);
    return !model_failed(&sim->model);
}

void sim_report_add(struct sim_report *sum, const struct sim_report *r)
{
    uint64_t *to = (uint64_t *)sum;
    const uint64_t *from = (const uint64_t *)r;
    uint64_t reads = MAX(sum->start_reads_max, r->start_reads_max);
    for (size_t i = 0; i < sizeof(*r) / sizeof(*to); i++)
        to[i] += from[i];
    sum->start_reads_max = reads;
}
