/* An agent's side of a conversation: START, the load under the stages that come, the outcome. */
#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench/agent_private.h"
#include "bench/crew_private.h"
#include "bench/machine.h"
#include "core/base/bytes.h"
#include "core/base/clock.h"
#include "core/base/logger.h"

enum {
    GREET_MS = 2000,
    IDLE_MS = 60 * 1000, /* between runs; keepalive finds a conductor that is gone */
    LOOK_MS = 20,        /* how late an interval or a change is told */
    EXCHANGE_MS = 300 * 1000,
};

int session_greet(struct session *s)
{
    struct agents_message m;
    struct agents_hello hello;
    struct machine machine;
    int rc = agents_link_await(&s->link, GREET_MS, &m);
    if (rc <= 0)
        return rc < 0 ? rc : -ETIMEDOUT;
    if (m.kind != AGENTS_HELLO || agents_decode_hello(&m, &hello) < 0 ||
        hello.magic != AGENTS_MAGIC)
        return -EPROTO;
    machine_describe(&machine);
    struct json_object *o = machine_json(&machine);
    const char *text = o != NULL ? json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN) : NULL;
    agents_encode_hello(&s->link.out, text != NULL ? text : "");
    json_object_put(o);
    rc = agents_link_send(&s->link); /* of another version it learns ours by this */
    return rc == 0 && hello.version != AGENTS_VERSION ? -EPROTO : rc;
}

static int tell_text(struct session *s, enum agents_kind kind, const char *text)
{
    agents_encode_text(&s->link.out, kind, text);
    return agents_link_send(&s->link);
}

/* ---- while the load goes on ---- */

static int stats_tell(struct session *s, int window, const struct load_stats *stats)
{
    uint64_t base_ns = s->came_ns[s->stage];
    uint64_t to_ns = MAX(stats->to_ns, stats->from_ns); /* a window without a drain has no end */
    struct agents_stats_head head = {.window = window,
                                     .stage = s->stage,
                                     .from_ns = (int64_t)(stats->from_ns - base_ns),
                                     .to_ns = (int64_t)(to_ns - base_ns)};
    agents_encode_stats(&s->link.out, &head, stats);
    return agents_link_send(&s->link);
}

static int interval_tell(struct session *s)
{
    load_stats_reset(&s->scratch, 0);
    return crew_take(s->crew, &s->scratch) ? stats_tell(s, -1, &s->scratch) : 0;
}

static bool state_changed(const struct session *s, const struct crew_state *now)
{
    const struct crew_state *was = &s->told;
    return s->stage != s->told_stage || now->unfinished != was->unfinished ||
           now->acked != was->acked || now->consumed_new != was->consumed_new ||
           now->consumers_done != was->consumers_done || now->late_done != was->late_done ||
           clock_now_ns() - s->told_ns >= CLOCK_SECOND_NS;
}

static int state_tell(struct session *s)
{
    struct crew_state now;
    crew_state(s->crew, &now);
    if (!state_changed(s, &now))
        return 0;
    s->told = now;
    s->told_stage = s->stage;
    s->told_ns = clock_now_ns();
    agents_encode_state(&s->link.out, s->stage, &now);
    return agents_link_send(&s->link);
}

static int stage_take(struct session *s, const struct agents_message *m)
{
    int stage;
    if (m->kind != AGENTS_STAGE || agents_decode_stage(m, &stage) < 0 || stage <= s->stage)
        return -EPROTO;
    s->came_ns[stage] = clock_now_ns();
    s->stage = stage;
    crew_stage(s->crew, stage);
    return 0;
}

/* Until the load's last stage. Windows are counted by stages, so that none may be left out. */
static int load_carry(struct session *s)
{
    struct agents_message m;
    while (s->stage != LOADER_END) {
        int rc = agents_link_await(&s->link, LOOK_MS, &m);
        if (rc > 0)
            rc = stage_take(s, &m);
        if (rc == 0)
            rc = interval_tell(s);
        if (rc == 0 && s->stage > LOADER_CONNECT)
            rc = state_tell(s);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* ---- its end ---- */

static int produced_tell(struct session *s, const struct produced *own)
{
    struct agents_produced_at at = {0};
    int rc = 0;
    for (bool more = true; more && rc == 0;) {
        more = agents_encode_produced(&s->link.out, own, &at);
        rc = agents_link_send(&s->link);
    }
    return rc;
}

static int produced_take(struct session *s, struct produced *all)
{
    struct agents_message m;
    bool last = false;
    int rc = 0;
    while (rc == 0 && !last) {
        rc = agents_link_await(&s->link, EXCHANGE_MS, &m);
        if (rc == 0)
            rc = -ETIMEDOUT;
        if (rc > 0)
            rc = m.kind == AGENTS_PRODUCED ? agents_decode_produced(&m, all, &last) : -EPROTO;
    }
    return rc;
}

static int outcome_tell(struct session *s, const struct crew_outcome *o)
{
    int rc = 0;
    for (unsigned i = 0; rc == 0 && i < o->windows_n; i++)
        rc = stats_tell(s, (int)i, &o->windows[i]);
    if (rc == 0) {
        agents_encode_outcome(&s->link.out, o);
        rc = agents_link_send(&s->link);
    }
    return rc;
}

static int verify(struct session *s, struct produced *all)
{
    struct crew_outcome outcome;
    int rc = crew_outcome_init(&outcome);
    if (rc < 0)
        return rc;
    produced_sort(all);
    crew_local_verify(s->crew, all, &outcome);
    rc = outcome_tell(s, &outcome);
    crew_outcome_fini(&outcome);
    return rc;
}

static int load_finish(struct session *s)
{
    struct produced own = {0}, all = {0};
    int rc = crew_local_produced(s->crew, &own);
    if (rc == 0)
        rc = interval_tell(s);
    if (rc == 0)
        rc = produced_tell(s, &own);
    if (rc == 0)
        rc = produced_take(s, &all);
    if (rc == 0)
        rc = verify(s, &all);
    produced_fini(&own);
    produced_fini(&all);
    return rc;
}

/* ---- runs ---- */

static int run_carry(struct session *s)
{
    struct crew crew;
    char reason[AGENTS_TEXT_BYTES];
    const struct workload *w = &s->start.workload;
    int rc = crew_start(&crew, &s->start.config, reason, sizeof(reason));
    if (rc < 0) {
        log_warn("no run for %s: %s", s->link.peer, reason);
        return tell_text(s, AGENTS_FAILED, reason);
    }
    log_info("a run for %s: broker %s, topic %s, %u of %u threads", s->link.peer,
             s->start.bootstrap, w->topic, (unsigned)w->threads, s->start.config.parts);
    s->crew = &crew;
    s->stage = s->told_stage = LOADER_CONNECT;
    rc = tell_text(s, AGENTS_READY, "");
    if (rc == 0)
        rc = load_carry(s);
    if (rc == 0)
        rc = load_finish(s);
    crew_fini(&crew);
    s->crew = NULL;
    log_info("the run for %s %s", s->link.peer, rc < 0 ? "is broken off" : "is over");
    return rc;
}

static int start_take(struct session *s, const struct agents_message *m)
{
    char reason[AGENTS_TEXT_BYTES];
    if (m->kind != AGENTS_START)
        return -EPROTO;
    int rc = agents_decode_start(m, &s->start, reason, sizeof(reason));
    if (rc == -EINVAL)
        return tell_text(s, AGENTS_FAILED, reason);
    return rc == 0 ? run_carry(s) : rc;
}

int session_serve(struct session *s)
{
    struct agents_message m;
    int rc = load_stats_init(&s->scratch);
    while (rc == 0) {
        rc = agents_link_await(&s->link, IDLE_MS, &m);
        if (rc > 0)
            rc = start_take(s, &m);
    }
    load_stats_fini(&s->scratch);
    return rc;
}
