#include "tests/sim/sweep.h"

#include <inttypes.h>
#include <stdio.h>

#include "core/base/bytes.h"
#include "tests/sim/clients.h"
#include "tests/sim/run.h"

#define SWEEP_SEED 7
#define WORK_NS (UINT64_C(150) * SIM_NS_PER_MS)

const char *const sweep_names[SWEEP_KINDS] = {
    [MEM_FAULT_READ_EIO] = "read error",     [MEM_FAULT_WRITE_EIO] = "write error",
    [MEM_FAULT_WRITE_SHORT] = "short write", [MEM_FAULT_FLUSH_EIO] = "flush error",
    [MEM_FAULT_ENOSPC] = "no space",         [MEM_FAULT_NAME_EIO] = "name error",
    [SWEEP_POWER_CUT] = "power cut",
};

/* Small segments and runs, so that 150 ms see rolls, seals, runs, destaging and checkpoints. */
static const struct sim_plan scenario = {
    .broker = {.shards_n = 2,
               .data_dirs_n = 1,
               .advertise = ADVERTISE_SHARD,
               .memory_bytes = 16u << 20,
               .journal_bytes = 3u << 20,
               .direct_min_bytes = 16u << 10,
               .request_bytes_max = 8u << 20,
               .requests_in_flight_max = 5,
               .producer_expiry_ms = 86400000,
               .segment_bytes = 64u << 10},
    .write_ns = 100000,
    .flush_ns = 400000,
    .read_ns = 80000,
    .net = {.latency_ns = 50000, .window_bytes = 1u << 18},
    .topics_n = 2,
    .topics = {{.partitions_n = 2, .segment_ms = 604800000, .index_interval_bytes = 512},
               {.partitions_n = 1, .segment_ms = 20, .flush_ms = 50}},
    .producers_n = 6,
    .consumers_n = 2,
    .churn = true,
    .moves = true,
    .think_ns = 4000000,
    .small_bytes = 300,
    .big_bytes = 20u << 10,
    .big_one_in = 3,
};

static void fault_set(struct sim *sim, unsigned kind, uint64_t nth)
{
    if (kind == SWEEP_POWER_CUT)
        mem_world_crash_at_io(sim->world, nth);
    else
        mem_world_fail_at(sim->world, (enum mem_fault)kind, nth);
}

static bool work(struct sim *sim, uint64_t for_ns)
{
    uint64_t until_ns = sim_now_ns_of(sim) + for_ns;
    while (sim_now_ns_of(sim) < until_ns)
        if (!sim_step(sim, until_ns))
            return false;
    return true;
}

static void end(struct sim *sim, bool healthy)
{
    if (sim_crashed(sim))
        sim_end_by_crash(sim, healthy);
    else
        sim_end_by_stop(sim, healthy);
}

/* Start, work, stop, and the next start, with the fault somewhere in it; then all must be there. */
static bool scenario_run(struct sim *sim, unsigned kind, uint64_t nth, bool *ret_hit)
{
    if (!sim_broker_up(sim, false))
        return false;
    clients_start(sim);
    fault_set(sim, kind, nth);
    work(sim, WORK_NS);
    uint64_t hits = sim_faults_hit(sim);
    bool healthy = hits == 0;
    sim->report.power_cuts += sim_crashed(sim);
    if (model_failed(&sim->model))
        return false;
    bool cut = sim_crashed(sim);
    end(sim, healthy);
    *ret_hit = cut || sim_faults_hit(sim) > 0 || sim->report.power_cuts > 0;
    if (!*ret_hit) {
        int rc = sim_broker_start(&sim->broker, &sim->plan.broker);
        *ret_hit = sim_crashed(sim) || sim_faults_hit(sim) > 0;
        sim->report.cuts_in_start += sim_crashed(sim);
        if (sim_crashed(sim) || rc == 0) {
            if (!sim_crashed(sim))
                mem_world_kill(sim->world);
            sim_broker_crash(&sim->broker);
        } else if (!*ret_hit) {
            model_violation(&sim->model, "a start fails: %s", sim->broker.reason);
        }
    }
    sim_faults_disarm(sim);
    if (model_failed(&sim->model) || !sim_broker_up(sim, false))
        return false;
    clients_start(sim);
    if (!clients_progress(sim))
        return false;
    sim_end_by_stop(sim, true);
    return !model_failed(&sim->model);
}

bool sim_sweep(struct sim *sim, unsigned kind, unsigned first, unsigned step,
               struct sim_report *sum, uint64_t *ret_points)
{
    bool hit = true;
    for (uint64_t nth = first; hit; nth += step) {
        sim_open(sim, SWEEP_SEED, false, &scenario);
        sim_trace(sim, "%s at operation %" PRIu64, sweep_names[kind], nth);
        bool ok = scenario_run(sim, kind, nth, &hit);
        sim_report_finish(sim);
        sim_shut(sim);
        if (!ok) {
            fprintf(stderr, "sweep, %s at operation %" PRIu64 ": %s\n", sweep_names[kind], nth,
                    sim->model.violation);
            sim_trace_print(sim);
            return false;
        }
        sim_report_add(sum, &sim->report);
        *ret_points += hit;
    }
    return true;
}
