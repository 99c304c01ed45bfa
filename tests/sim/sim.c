#include "tests/sim/sim.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/base/bytes.h"

/* ---- trace ---- */

void sim_trace(struct sim *sim, const char *fmt, ...)
{
    char *line = sim->trace[sim->trace_n++ % SIM_TRACE_LINES];
    uint64_t now = sim_now_ns_of(sim);
    int n = snprintf(line, SIM_TRACE_LINE_BYTES, "%6llu.%06llu ",
                     (unsigned long long)(now / 1000000000),
                     (unsigned long long)(now / 1000 % 1000000));
    va_list args;
    va_start(args, fmt);
    vsnprintf(line + n, SIM_TRACE_LINE_BYTES - (size_t)n, fmt, args);
    va_end(args);
    for (const char *c = line; *c != '\0'; c++) /* FNV-1a */
        sim->trace_hash = (sim->trace_hash ^ (uint8_t)*c) * 0x100000001b3u;
    if (sim->verbose)
        fprintf(stderr, "%s\n", line);
}

void sim_trace_print(const struct sim *sim)
{
    uint64_t first = sim->trace_n > SIM_TRACE_LINES ? sim->trace_n - SIM_TRACE_LINES : 0;
    for (uint64_t i = first; i < sim->trace_n; i++)
        fprintf(stderr, "  %s\n", sim->trace[i % SIM_TRACE_LINES]);
}

/* ---- time ---- */

uint64_t sim_some_ns(struct sim *sim, uint64_t mean_ns)
{
    uint64_t ns = mean_ns / 2 + sim_below(sim, mean_ns + 1);
    return sim_one_in(sim, 50) ? ns * 10 : ns;
}

void sim_timer_clear(struct sim_timer *t)
{
    list_remove(&t->node);
}

void sim_timer_set(struct sim *sim, struct sim_timer *t, uint64_t delay_ns,
                   void (*run)(struct sim_timer *t))
{
    sim_timer_clear(t);
    t->due_ns = sim_now_ns_of(sim) + delay_ns;
    t->run = run;
    struct list_node *after = sim->timers.prev;
    while (after != &sim->timers && container_of(after, struct sim_timer, node)->due_ns > t->due_ns)
        after = after->prev;
    list_insert_between(&t->node, after, after->next);
}

static uint64_t timers_next_ns(const struct sim *sim)
{
    return list_empty(&sim->timers)
               ? UINT64_MAX
               : container_of(sim->timers.next, struct sim_timer, node)->due_ns;
}

static void timers_run(struct sim *sim)
{
    while (timers_next_ns(sim) <= sim_now_ns_of(sim)) {
        struct sim_timer *t = container_of(list_pop_head(&sim->timers), struct sim_timer, node);
        t->run(t);
    }
}

bool sim_step(struct sim *sim, uint64_t until_ns)
{
    sim_net_run(sim->net);
    timers_run(sim);
    if (!sim->broker.up || !sim_broker_turn(&sim->broker)) {
        uint64_t now = sim_now_ns_of(sim);
        uint64_t next = MIN(mem_world_next_ns(sim->world), sim_net_next_ns(sim->net));
        next = MIN(MIN(next, timers_next_ns(sim)), until_ns);
        if (sim->broker.up)
            next = MIN(next, sim_broker_wake_ns(&sim->broker));
        mem_world_advance(sim->world, MAX(next, now) - now); /* also what is due just now */
    }
    return !mem_world_crashed(sim->world) && !model_failed(&sim->model);
}
