/* A crew of agents, steered over TCP. Nothing is received but when the conductor looks: it does so
 * at least once a second, and what waits in the sockets meanwhile costs no time stamps, as those
 * are the agents' own. */
#include <errno.h>
#include <json-c/json.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench/agents.h"
#include "bench/crew_private.h"
#include "bench/json_doc.h"
#include "core/base/assert.h"
#include "core/base/bytes.h"
#include "core/base/clock.h"

enum {
    START_S = 120,     /* an agent's threads have 30 s to connect, and more to prepare */
    SILENT_S = 10,     /* an agent at work tells its state once a second */
    END_S = 300,       /* it gathers, sorts and verifies */
    ROUNDS_MAX = 1000, /* of receiving, before the conductor looks at its own clock again */
};

struct remote_agent {
    struct agent_peer *peer;
    uint64_t heard_ns;
    int stage; /* which its state is of */
    struct crew_state state;
    struct agents_outcome outcome;
    bool ready, produced, ended;
};

struct remote {
    struct remote_agent agents[AGENTS_MAX];
    unsigned n;
    int stage;
    uint64_t sent_ns[LOADER_END + 1]; /* when a stage was sent; 0: it was not */
    struct load_stats scratch;
    struct produced all;
    struct crew_outcome *outcome; /* windows are added here; NULL: not yet at the end */
    bool started, finished;
};

static void agent_fail(struct crew *c, struct remote_agent *a, int rc)
{
    crew_fail(c, rc, "agent %s: %s", a->peer->name, agents_link_why(rc));
}

/* ---- what agents say ---- */

static int on_ready(struct crew *c, struct remote_agent *a, const struct agents_message *m)
{
    char text[AGENTS_TEXT_BYTES];
    (void)c;
    if (a->ready || agents_decode_text(m, text) < 0)
        return -EPROTO;
    a->ready = true;
    return 0;
}

static int on_failed(struct crew *c, struct remote_agent *a, const struct agents_message *m)
{
    char text[AGENTS_TEXT_BYTES];
    if (agents_decode_text(m, text) < 0)
        return -EPROTO;
    crew_fail(c, -ECANCELED, "agent %s: %s", a->peer->name, text);
    return -ECANCELED;
}

static int on_state(struct crew *c, struct remote_agent *a, const struct agents_message *m)
{
    const struct remote *r = c->self;
    int stage;
    if (agents_decode_state(m, &stage, &a->state) < 0 || stage > r->stage)
        return -EPROTO;
    a->stage = stage;
    return 0;
}

/* From the agent's clock to ours: since the moment at which the stage was sent. */
static int rebase(const struct remote *r, int stage, int64_t since_ns, uint64_t *ret)
{
    uint64_t base_ns = r->sent_ns[stage];
    if (base_ns == 0 || (since_ns < 0 && (uint64_t)-since_ns >= base_ns))
        return -EPROTO;
    *ret = base_ns + (uint64_t)since_ns;
    return 0;
}

static int on_stats(struct crew *c, struct remote_agent *a, const struct agents_message *m)
{
    struct remote *r = c->self;
    struct load_stats *s = &r->scratch;
    struct agents_stats_head head;
    int rc = agents_decode_stats(m, &head, s);
    if (rc == 0)
        rc = rebase(r, head.stage, head.from_ns, &s->from_ns);
    if (rc == 0)
        rc = rebase(r, head.stage, head.to_ns, &s->to_ns);
    if (rc < 0)
        return rc;
    if (head.window < 0) {
        crew_interval_add(c, s);
        return 0;
    }
    if (r->outcome == NULL || a->ended)
        return -EPROTO;
    load_stats_add(&r->outcome->windows[head.window], s);
    return 0;
}

static int on_produced(struct crew *c, struct remote_agent *a, const struct agents_message *m)
{
    struct remote *r = c->self;
    if (a->produced || r->stage != LOADER_END)
        return -EPROTO;
    return agents_decode_produced(m, &r->all, &a->produced);
}

static int on_outcome(struct crew *c, struct remote_agent *a, const struct agents_message *m)
{
    const struct remote *r = c->self;
    if (r->outcome == NULL || a->ended)
        return -EPROTO;
    int rc = agents_decode_outcome(m, &a->outcome);
    a->ended = rc == 0;
    return rc;
}

static int (*const handlers[AGENTS_KINDS])(struct crew *c, struct remote_agent *a,
                                           const struct agents_message *m) = {
    [AGENTS_READY] = on_ready, [AGENTS_FAILED] = on_failed,     [AGENTS_STATE] = on_state,
    [AGENTS_STATS] = on_stats, [AGENTS_PRODUCED] = on_produced, [AGENTS_OUTCOME] = on_outcome,
};

static int agent_messages_take(struct crew *c, struct remote_agent *a)
{
    struct agents_message m;
    int rc;
    while ((rc = agents_link_next(&a->peer->link, &m)) > 0) {
        rc = handlers[m.kind] != NULL ? handlers[m.kind](c, a, &m) : -EPROTO;
        if (rc < 0)
            break;
    }
    return rc;
}

/* Take in what has come from all, waiting up to so many ms for the first. */
static void pump(struct crew *c, int timeout_ms)
{
    struct remote *r = c->self;
    struct pollfd polled[AGENTS_MAX];
    for (unsigned i = 0; i < r->n; i++)
        polled[i] = (struct pollfd){.fd = r->agents[i].peer->link.fd, .events = POLLIN};
    for (unsigned round = 0; round < ROUNDS_MAX; round++) {
        if (c->rc < 0 || poll(polled, r->n, timeout_ms) <= 0)
            return;
        timeout_ms = 0;
        for (unsigned i = 0; i < r->n && c->rc == 0; i++) {
            if (polled[i].revents == 0)
                continue;
            r->agents[i].heard_ns = clock_now_ns();
            int gone = agents_link_fill(&r->agents[i].peer->link);
            int rc = agent_messages_take(c, &r->agents[i]);
            if (rc < 0 || gone < 0)
                agent_fail(c, &r->agents[i], rc < 0 ? rc : gone);
        }
    }
}

/* Until each agent has what is awaited, or all is lost. */
static int await_agents(struct crew *c, size_t flag_at, int seconds)
{
    struct remote *r = c->self;
    uint64_t end_ns = clock_now_ns() + (uint64_t)seconds * CLOCK_SECOND_NS;
    for (unsigned i = 0; i < r->n && c->rc == 0;) {
        const bool *flag = (const bool *)((const char *)&r->agents[i] + flag_at);
        if (*flag)
            i++;
        else if (clock_now_ns() >= end_ns)
            agent_fail(c, &r->agents[i], -ETIMEDOUT);
        else
            pump(c, 100);
    }
    return c->rc;
}

static void tell(struct crew *c, struct remote_agent *a)
{
    int rc = agents_link_send(&a->peer->link);
    if (rc < 0)
        agent_fail(c, a, rc);
}

/* ---- as a crew ---- */

/* Who is still at it when this is called is cut off, and ends the load. */
static void remote_fini(struct crew *c)
{
    struct remote *r = c->self;
    for (unsigned i = 0; i < r->n; i++)
        if (r->started && !r->finished)
            agents_link_close(&r->agents[i].peer->link);
    produced_fini(&r->all);
    load_stats_fini(&r->scratch);
    free(r);
}

/* Neighbouring parts go to different agents, so that a few producers are spread over all. */
static void agents_start(struct crew *c)
{
    struct remote *r = c->self;
    struct crew_config config = c->config;
    r->started = true;
    for (unsigned i = 0; i < r->n && c->rc == 0; i++) {
        config.part_first = i;
        config.part_step = r->n;
        agents_encode_start(&r->agents[i].peer->link.out, &config);
        tell(c, &r->agents[i]);
    }
}

static int remote_start(struct crew *c, char *reason, size_t reason_size)
{
    struct remote *r = calloc(1, sizeof(*r));
    if (r == NULL || load_stats_init(&r->scratch) < 0) {
        snprintf(reason, reason_size, "no memory for the agents' figures");
        free(r);
        return -ENOMEM;
    }
    c->self = r;
    int rc = agents_connect(c->config.agents, reason, reason_size);
    for (; rc == 0 && r->n < c->config.agents->n; r->n++)
        r->agents[r->n].peer = &c->config.agents->peers[r->n];
    if (rc == 0) {
        agents_start(c);
        rc = await_agents(c, offsetof(struct remote_agent, ready), START_S);
        snprintf(reason, reason_size, "%s", c->reason);
    }
    if (rc < 0)
        remote_fini(c);
    return rc;
}

static void remote_stage(struct crew *c, int stage)
{
    struct remote *r = c->self;
    ASSERT(stage > r->stage && stage <= LOADER_END);
    r->stage = stage;
    r->sent_ns[stage] = clock_now_ns();
    for (unsigned i = 0; i < r->n && c->rc == 0; i++) {
        if (stage == LOADER_LOAD) /* it may have been silent since it was ready */
            r->agents[i].heard_ns = clock_now_ns();
        agents_encode_stage(&r->agents[i].peer->link.out, stage);
        tell(c, &r->agents[i]);
    }
}

static void remote_look(struct crew *c)
{
    struct remote *r = c->self;
    bool working = r->stage >= LOADER_LOAD && r->stage < LOADER_END;
    pump(c, 0);
    for (unsigned i = 0; working && i < r->n; i++)
        if (clock_now_ns() - r->agents[i].heard_ns > (uint64_t)SILENT_S * CLOCK_SECOND_NS)
            crew_fail(c, -ETIMEDOUT, "agent %s: silent for %d s", r->agents[i].peer->name,
                      SILENT_S);
}

static void remote_state(struct crew *c, struct crew_state *ret)
{
    const struct remote *r = c->self;
    *ret = (struct crew_state){.consumers_done = true, .late_done = true};
    for (unsigned i = 0; i < r->n; i++) {
        const struct remote_agent *a = &r->agents[i];
        bool seen = a->stage >= r->stage;
        ret->unfinished += a->state.unfinished + !seen;
        ret->acked += a->state.acked;
        ret->consumed_new += a->state.consumed_new;
        ret->consumers_done &= seen && a->state.consumers_done;
        ret->late_done &= seen && a->state.late_done;
    }
}

static void produced_tell(struct crew *c)
{
    struct remote *r = c->self;
    for (unsigned i = 0; i < r->n; i++) {
        struct agents_produced_at at = {0};
        bool more = true;
        while (more && c->rc == 0) {
            more = agents_encode_produced(&r->agents[i].peer->link.out, &r->all, &at);
            tell(c, &r->agents[i]);
        }
    }
}

static void outcome_merge(struct crew_outcome *to, const struct agents_outcome *from)
{
    to->windows_n = MAX(to->windows_n, from->windows_n);
    load_counts_add(&to->total, &from->total);
    verify_log_merge(&to->verify, &from->verify);
    verify_log_merge(&to->late_verify, &from->late_verify);
    if (to->error_code == 0)
        to->error_code = from->error_code;
    if (to->connection_rc == 0)
        to->connection_rc = from->connection_rc;
    to->unfinished += from->unfinished;
}

/* {"address", "threads", "machine", "counts"}: the counts over the whole load, warm-up included. */
static struct json_object *agent_json(struct json_doc *doc, const struct crew *c,
                                      const struct remote_agent *a)
{
    struct json_object *o = json_doc_object(doc), *counts = json_doc_object(doc);
    struct json_object *machine = json_tokener_parse(a->peer->machine);
    json_doc_put_text(doc, o, "address", a->peer->name);
    json_doc_put_uint(doc, o, "threads", c->config.load.workload->threads);
    if (json_object_is_type(machine, json_type_object))
        json_doc_put(doc, o, "machine", machine);
    else
        json_object_put(machine);
#define COUNT_PUT(name)                                                                            \
    if (a->outcome.total.name > 0)                                                                 \
        json_doc_put_uint(doc, counts, #name, a->outcome.total.name);
    LOAD_COUNTS(COUNT_PUT)
#undef COUNT_PUT
    json_doc_put(doc, o, "counts", counts);
    return o;
}

static int agents_json(struct crew *c, struct crew_outcome *ret)
{
    const struct remote *r = c->self;
    struct json_doc doc = {0};
    struct json_object *list = json_doc_array(&doc);
    for (unsigned i = 0; i < r->n; i++)
        json_doc_push(&doc, list, agent_json(&doc, c, &r->agents[i]));
    ret->agents = json_doc_finish(&doc, list);
    return ret->agents == NULL ? -ENOMEM : 0;
}

static int remote_finish(struct crew *c, struct crew_outcome *ret)
{
    struct remote *r = c->self;
    int rc = await_agents(c, offsetof(struct remote_agent, produced), END_S);
    if (rc < 0)
        return rc;
    r->outcome = ret;
    produced_tell(c);
    rc = await_agents(c, offsetof(struct remote_agent, ended), END_S);
    r->outcome = NULL;
    if (rc < 0)
        return rc;
    for (unsigned i = 0; i < r->n; i++)
        outcome_merge(ret, &r->agents[i].outcome);
    r->finished = true;
    return agents_json(c, ret);
}

const struct crew_ops crew_remote_ops = {
    .start = remote_start,
    .stage = remote_stage,
    .look = remote_look,
    .state = remote_state,
    .finish = remote_finish,
    .fini = remote_fini,
};
