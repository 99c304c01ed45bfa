#include "bench/agents_wire.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/stat/hist_v2.h"
#include "core/base/bytes.h"
#include "net/wire/cursor.h"
#include "net/wire/put.h"

/* As much as all agents together may say without a sum that wraps: 2 years of one core in ns. */
#define COUNT_MAX (UINT64_C(1) << 56)
#define PARTS_MAX (AGENTS_MAX * 256u)
#define ERRNO_MAX 4095

/* ---- primitives: a failed cursor gives zeros ---- */

struct reader {
    struct cursor c;
    bool failed;
};

static struct reader reader_of(const struct agents_message *m)
{
    return (struct reader){.c = {m->body, m->body + m->len}};
}

static const uint8_t *take(struct reader *r, uint32_t len)
{
    static const uint8_t zeros[8];
    const uint8_t *p = r->failed ? NULL : cursor_take(&r->c, len);
    if (p != NULL)
        return p;
    r->failed = true;
    return zeros;
}

static uint8_t take_u8(struct reader *r)
{
    return *take(r, 1);
}

static uint16_t take_u16(struct reader *r)
{
    return be_load16(take(r, 2));
}

static uint32_t take_u32(struct reader *r)
{
    return be_load32(take(r, 4));
}

static uint64_t take_u64(struct reader *r)
{
    return be_load64(take(r, 8));
}

/* A number from min to max; anything else fails. */
static int64_t take_ranged(struct reader *r, int64_t min, int64_t max)
{
    int64_t v = (int64_t)take_u64(r);
    if (v >= min && v <= max)
        return v;
    r->failed = true;
    return min;
}

static uint64_t take_count(struct reader *r)
{
    return (uint64_t)take_ranged(r, 0, (int64_t)COUNT_MAX);
}

static int take_stage(struct reader *r)
{
    return (int)take_ranged(r, LOADER_CONNECT, LOADER_END);
}

static bool take_bool(struct reader *r)
{
    uint8_t v = take_u8(r);
    r->failed |= v > 1;
    return v == 1;
}

/* What is shown on a terminal has no control characters, and ends. */
static void take_text(struct reader *r, char *ret, size_t ret_size)
{
    uint16_t len = take_u16(r);
    ret[0] = '\0';
    r->failed |= len >= ret_size;
    if (r->failed || cursor_left(&r->c) < len) {
        r->failed = true;
        return;
    }
    memcpy(ret, take(r, len), len);
    ret[len] = '\0';
    for (uint16_t i = 0; i < len; i++)
        if ((unsigned char)ret[i] < ' ' || ret[i] == 0x7f)
            ret[i] = '?';
}

static int reader_end(const struct reader *r)
{
    return r->failed || cursor_left(&r->c) > 0 ? -EPROTO : 0;
}

static void put_text(struct wire_writer *w, const char *text)
{
    put_classic_string(w, wire_str_of(text));
}

static void message_begin(struct wire_writer *w, enum agents_kind kind)
{
    wire_frame_begin(w);
    put_u8(w, (uint8_t)kind);
}

int agents_message_peek(const uint8_t *data, size_t len, struct agents_message *ret,
                        size_t *ret_used)
{
    if (len < 4)
        return 0;
    uint32_t body = be_load32(data);
    if (body < 1 || body > AGENTS_MESSAGE_BYTES_MAX)
        return -EPROTO;
    if (len >= AGENTS_HEADER_BYTES && (data[4] < AGENTS_HELLO || data[4] >= AGENTS_KINDS))
        return -EPROTO;
    if (len - 4 < body)
        return 0;
    *ret = (struct agents_message){data[4], data + AGENTS_HEADER_BYTES, body - 1};
    *ret_used = (size_t)body + 4;
    return 1;
}

/* ---- greeting ---- */

void agents_encode_hello(struct wire_writer *w, const char *machine)
{
    message_begin(w, AGENTS_HELLO);
    put_u32(w, AGENTS_MAGIC);
    put_u16(w, AGENTS_VERSION);
    put_text(w, machine);
    wire_frame_end(w);
}

int agents_decode_hello(const struct agents_message *m, struct agents_hello *ret)
{
    struct reader r = reader_of(m);
    uint32_t magic = take_u32(&r);
    uint16_t version = take_u16(&r);
    char machine[AGENTS_MACHINE_BYTES] = "";
    if (r.failed)
        return -EPROTO;
    if (magic == AGENTS_MAGIC && version == AGENTS_VERSION) {
        take_text(&r, machine, sizeof(machine));
        if (reader_end(&r) < 0)
            return -EPROTO;
    }
    ret->magic = magic;
    ret->version = version;
    memcpy(ret->machine, machine, sizeof(machine));
    return 0;
}

void agents_encode_text(struct wire_writer *w, enum agents_kind kind, const char *text)
{
    char cut[AGENTS_TEXT_BYTES];
    snprintf(cut, sizeof(cut), "%s", text);
    message_begin(w, kind);
    put_text(w, cut);
    wire_frame_end(w);
}

int agents_decode_text(const struct agents_message *m, char ret[AGENTS_TEXT_BYTES])
{
    struct reader r = reader_of(m);
    char text[AGENTS_TEXT_BYTES];
    take_text(&r, text, sizeof(text));
    if (reader_end(&r) < 0)
        return -EPROTO;
    memcpy(ret, text, sizeof(text));
    return 0;
}

/* ---- start and stages ---- */

static void put_workload(struct wire_writer *w, const struct workload *workload)
{
    const char *key, *value;
    bool number;
    uint16_t n = 0;
    while (workload_get(workload, n, &key, &value, &number))
        n++;
    put_u16(w, n);
    for (uint16_t i = 0; i < n; i++) {
        workload_get(workload, i, &key, &value, &number);
        put_text(w, key);
        put_text(w, value);
    }
}

void agents_encode_start(struct wire_writer *w, const struct crew_config *config)
{
    const struct loader_config *l = &config->load;
    message_begin(w, AGENTS_START);
    put_text(w, l->bootstrap);
    put_workload(w, l->workload);
    put_u64(w, config->part_first);
    put_u64(w, config->part_step);
    put_u64(w, config->parts);
    put_u32(w, l->run);
    put_u8(w, l->produce);
    put_u8(w, (uint8_t)l->consume);
    put_u64(w, (uint64_t)l->late_stage);
    put_u8(w, l->late_loop);
    put_u64(w, l->records_max);
    wire_frame_end(w);
}

static int take_workload(struct reader *r, struct workload *ret, char *reason, size_t reason_size)
{
    char key[WORKLOAD_TEXT_BYTES], value[WORKLOAD_TEXT_BYTES];
    int rc = 0;
    uint16_t n = take_u16(r);
    workload_init(ret);
    for (uint16_t i = 0; rc == 0 && i < n; i++) {
        take_text(r, key, sizeof(key));
        take_text(r, value, sizeof(value));
        rc = r->failed ? -EPROTO : workload_set(ret, key, value, reason, reason_size);
    }
    return rc;
}

static void take_config(struct reader *r, struct crew_config *c, unsigned threads)
{
    c->part_first = (unsigned)take_ranged(r, 0, PARTS_MAX);
    c->part_step = (unsigned)take_ranged(r, 1, PARTS_MAX);
    c->parts = (unsigned)take_ranged(r, 1, PARTS_MAX);
    c->load.run = take_u32(r);
    c->load.produce = take_bool(r);
    uint8_t consume = take_u8(r);
    r->failed |= consume > CONSUME_FROM_START;
    c->load.consume = (enum loader_consumption)consume;
    c->load.late_stage = (int)take_ranged(r, 0, LOADER_LOAD + LOAD_WINDOWS_MAX - 1);
    c->load.late_loop = take_bool(r);
    c->load.records_max = take_count(r);
    uint64_t last = c->part_first + (uint64_t)(threads - 1) * c->part_step;
    r->failed |= last >= c->parts;
}

int agents_decode_start(const struct agents_message *m, struct agents_start *ret, char *reason,
                        size_t reason_size)
{
    struct reader r = reader_of(m);
    memset(ret, 0, sizeof(*ret));
    snprintf(reason, reason_size, "malformed");
    take_text(&r, ret->bootstrap, sizeof(ret->bootstrap));
    int rc = take_workload(&r, &ret->workload, reason, reason_size);
    if (rc == 0)
        take_config(&r, &ret->config, (unsigned)ret->workload.threads);
    if (rc == 0)
        rc = reader_end(&r);
    if (rc == 0)
        rc = workload_check(&ret->workload, reason, reason_size);
    ret->config.load.workload = &ret->workload;
    ret->config.load.bootstrap = ret->bootstrap;
    return rc;
}

void agents_encode_stage(struct wire_writer *w, int stage)
{
    message_begin(w, AGENTS_STAGE);
    put_u64(w, (uint64_t)stage);
    wire_frame_end(w);
}

int agents_decode_stage(const struct agents_message *m, int *ret)
{
    struct reader r = reader_of(m);
    int stage = take_stage(&r);
    bool known = stage < LOADER_LOAD + LOAD_WINDOWS_MAX || stage >= LOADER_DRAIN;
    if (reader_end(&r) < 0 || !known)
        return -EPROTO;
    *ret = stage;
    return 0;
}

void agents_encode_state(struct wire_writer *w, int stage, const struct crew_state *state)
{
    message_begin(w, AGENTS_STATE);
    put_u64(w, (uint64_t)stage);
    put_u64(w, state->unfinished);
    put_u64(w, state->acked);
    put_u64(w, state->consumed_new);
    put_u8(w, state->consumers_done);
    put_u8(w, state->late_done);
    wire_frame_end(w);
}

int agents_decode_state(const struct agents_message *m, int *ret_stage, struct crew_state *ret)
{
    struct reader r = reader_of(m);
    int stage = take_stage(&r);
    struct crew_state s = {0};
    s.unfinished = take_count(&r);
    s.acked = take_count(&r);
    s.consumed_new = take_count(&r);
    s.consumers_done = take_bool(&r);
    s.late_done = take_bool(&r);
    if (reader_end(&r) < 0)
        return -EPROTO;
    *ret_stage = stage;
    *ret = s;
    return 0;
}

/* ---- figures ---- */

static const struct {
    const char *name;
    size_t at;
} counters[] = {
#define COUNTER(name) {#name, offsetof(struct load_counts, name)},
    LOAD_COUNTS(COUNTER)
#undef COUNTER
};

static uint64_t *counter_of(struct load_counts *n, unsigned i)
{
    return (uint64_t *)((char *)n + counters[i].at);
}

static void put_counts(struct wire_writer *w, const struct load_counts *n)
{
    struct load_counts copy = *n;
    put_u16(w, ARRAY_LEN(counters));
    for (unsigned i = 0; i < ARRAY_LEN(counters); i++) {
        put_text(w, counters[i].name);
        put_u64(w, *counter_of(&copy, i));
    }
}

static int counter_find(const char *name)
{
    for (unsigned i = 0; i < ARRAY_LEN(counters); i++)
        if (strcmp(counters[i].name, name) == 0)
            return (int)i;
    return -1;
}

/* Each counter once, in whatever order. */
static void take_counts(struct reader *r, struct load_counts *ret)
{
    uint64_t seen = 0;
    _Static_assert(ARRAY_LEN(counters) < 64, "a bit each");
    r->failed |= take_u16(r) != ARRAY_LEN(counters);
    for (unsigned n = 0; !r->failed && n < ARRAY_LEN(counters); n++) {
        char name[64];
        take_text(r, name, sizeof(name));
        uint64_t value = take_count(r);
        int i = counter_find(name);
        if (i < 0 || (seen >> i & 1) != 0) {
            r->failed = true;
            return;
        }
        seen |= UINT64_C(1) << i;
        *counter_of(ret, (unsigned)i) = value;
    }
}

static void put_hist(struct wire_writer *w, const struct hist *h)
{
    size_t len = 0;
    put_u64(w, h->saturated);
    uint32_t at = w->len;
    put_u32(w, 0);
    if (hist_count(h) == 0)
        return;
    uint32_t bound = (uint32_t)hist_v2_bound(h);
    uint8_t *p = put_space(w, bound);
    if (p == NULL)
        return;
    if (hist_v2_encode(h, p, &len) < 0) {
        w->failed = true;
        return;
    }
    w->len -= bound - (uint32_t)len;
    be_store32(w->buf + at, (uint32_t)len);
}

/* Adds to ret, which is empty. */
static int take_hist(struct reader *r, struct hist *ret)
{
    struct hist h;
    uint64_t saturated = take_count(r);
    uint32_t len = take_u32(r);
    if (r->failed || (len == 0 && saturated > 0) || cursor_left(&r->c) < len)
        return -EPROTO;
    if (len == 0)
        return 0;
    int rc = hist_v2_decode(take(r, len), len, &h);
    if (rc < 0)
        return rc == -ENOMEM ? rc : -EPROTO;
    if (h.highest != ret->highest || saturated > hist_count(&h))
        rc = -EPROTO;
    h.saturated = saturated;
    if (rc == 0)
        hist_add(ret, &h);
    hist_fini(&h);
    return rc;
}

void agents_encode_stats(struct wire_writer *w, const struct agents_stats_head *head,
                         const struct load_stats *stats)
{
    message_begin(w, AGENTS_STATS);
    put_u64(w, (uint64_t)head->window);
    put_u64(w, (uint64_t)head->stage);
    put_u64(w, (uint64_t)head->from_ns);
    put_u64(w, (uint64_t)head->to_ns);
    put_counts(w, &stats->n);
    for (unsigned i = 0; i < LATENCIES; i++)
        put_hist(w, &stats->latency[i]);
    wire_frame_end(w);
}

int agents_decode_stats(const struct agents_message *m, struct agents_stats_head *ret_head,
                        struct load_stats *ret)
{
    struct reader r = reader_of(m);
    struct agents_stats_head head;
    int rc = 0;
    load_stats_reset(ret, 0);
    head.window = (int)take_ranged(&r, -1, LOAD_WINDOWS_MAX - 1);
    head.stage = take_stage(&r);
    head.from_ns = take_ranged(&r, -(int64_t)COUNT_MAX, (int64_t)COUNT_MAX);
    head.to_ns = take_ranged(&r, head.from_ns, (int64_t)COUNT_MAX);
    take_counts(&r, &ret->n);
    for (unsigned i = 0; rc == 0 && i < LATENCIES; i++)
        rc = take_hist(&r, &ret->latency[i]);
    if (rc == 0)
        rc = reader_end(&r);
    if (rc < 0)
        load_stats_reset(ret, 0);
    else
        *ret_head = head;
    return rc;
}

/* ---- what was produced ---- */

enum { END_BYTES = 4 + 4 + 8, FAILURE_BYTES = 4 + 4 + 8 + 8 + 8 };

static uint32_t put_ends(struct wire_writer *w, const struct produced *p, size_t *at)
{
    uint32_t n = 0;
    for (; *at < p->ends_n && n < AGENTS_PRODUCED_PER_MESSAGE; (*at)++) {
        const struct produced_end *e = &p->ends[*at];
        if (e->end == 0)
            continue;
        put_u32(w, (uint32_t)e->partition);
        put_u32(w, e->producer);
        put_u64(w, e->end);
        n++;
    }
    return n;
}

static uint32_t put_failures(struct wire_writer *w, const struct produced *p, size_t *at)
{
    uint32_t n = 0;
    for (; *at < p->failed_n && n < AGENTS_PRODUCED_PER_MESSAGE; (*at)++, n++) {
        const struct produced_failure *f = &p->failed[*at];
        put_u32(w, (uint32_t)f->partition);
        put_u32(w, f->range.producer);
        put_u64(w, f->range.first);
        put_u64(w, f->range.count);
        put_u64(w, (uint64_t)f->range.offset);
    }
    return n;
}

static void put_number_at(struct wire_writer *w, uint32_t at, uint32_t v)
{
    if (!w->failed)
        be_store32(w->buf + at, v);
}

bool agents_encode_produced(struct wire_writer *w, const struct produced *p,
                            struct agents_produced_at *at)
{
    message_begin(w, AGENTS_PRODUCED);
    uint32_t last_at = w->len;
    put_u8(w, 0);
    uint32_t ends_at = w->len;
    put_u32(w, 0);
    put_number_at(w, ends_at, put_ends(w, p, &at->ends));
    uint32_t failed_at = w->len;
    put_u32(w, 0);
    put_number_at(w, failed_at, put_failures(w, p, &at->failed));
    bool last = at->ends == p->ends_n && at->failed == p->failed_n;
    if (!w->failed)
        w->buf[last_at] = last;
    wire_frame_end(w);
    return !last;
}

/* How many of `size` bytes each follow; -EFBIG: too many beside those that are there. */
static int take_number(struct reader *r, uint32_t size, size_t have, uint32_t *ret)
{
    uint32_t n = take_u32(r);
    if (r->failed || n > cursor_left(&r->c) / size)
        return -EPROTO;
    if (have + n > AGENTS_PRODUCED_MAX)
        return -EFBIG;
    *ret = n;
    return 0;
}

static int32_t take_partition(struct reader *r)
{
    uint32_t v = take_u32(r);
    r->failed |= v > INT32_MAX;
    return (int32_t)v;
}

static int take_ends(struct reader *r, struct produced *to)
{
    uint32_t n = 0;
    int rc = take_number(r, END_BYTES, to->ends_n, &n);
    for (uint32_t i = 0; rc == 0 && i < n; i++) {
        int32_t partition = take_partition(r);
        uint32_t producer = take_u32(r);
        uint64_t end = take_count(r);
        rc = r->failed ? -EPROTO : produced_add(to, producer, partition, end);
    }
    return rc;
}

static int take_failures(struct reader *r, struct produced *to)
{
    uint32_t n = 0;
    int rc = take_number(r, FAILURE_BYTES, to->failed_n, &n);
    for (uint32_t i = 0; rc == 0 && i < n; i++) {
        struct sequence_range range;
        int32_t partition = take_partition(r);
        range.producer = take_u32(r);
        range.first = take_count(r);
        range.count = take_count(r);
        range.offset = take_ranged(r, -1, INT64_MAX);
        rc = r->failed ? -EPROTO : produced_add_failed(to, partition, &range);
    }
    return rc;
}

int agents_decode_produced(const struct agents_message *m, struct produced *to, bool *ret_last)
{
    struct reader r = reader_of(m);
    bool last = take_bool(&r);
    int rc = r.failed ? -EPROTO : take_ends(&r, to);
    if (rc == 0)
        rc = take_failures(&r, to);
    if (rc == 0)
        rc = reader_end(&r);
    if (rc == 0)
        *ret_last = last;
    return rc;
}

/* ---- the outcome ---- */

/* A damaged sequence number can make a gap of any size; more than the receiver takes says no more.
 */
static void put_count(struct wire_writer *w, uint64_t n)
{
    put_u64(w, MIN(n, COUNT_MAX));
}

static void put_log(struct wire_writer *w, const struct verify_log *log)
{
    for (unsigned i = 0; i < INCIDENT_KINDS; i++)
        put_count(w, log->totals[i]);
    put_count(w, log->foreign);
    put_count(w, log->unread);
    put_u16(w, (uint16_t)log->incidents_n);
    for (unsigned i = 0; i < log->incidents_n; i++) {
        const struct incident *n = &log->incidents[i];
        put_u8(w, (uint8_t)n->kind);
        put_u32(w, (uint32_t)n->partition);
        put_u64(w, (uint64_t)n->offset);
        put_u8(w, n->known);
        put_u32(w, n->producer);
        put_u64(w, n->sequence);
        put_count(w, n->count);
    }
}

static void take_incident(struct reader *r, struct incident *ret)
{
    uint8_t kind = take_u8(r);
    r->failed |= kind >= INCIDENT_KINDS;
    ret->kind = (enum incident_kind)kind;
    ret->partition = take_partition(r);
    ret->offset = take_ranged(r, -1, INT64_MAX);
    ret->known = take_u8(r) != 0;
    ret->producer = take_u32(r);
    ret->sequence = take_u64(r);
    ret->count = take_count(r);
}

static void take_log(struct reader *r, struct verify_log *ret)
{
    for (unsigned i = 0; i < INCIDENT_KINDS; i++)
        ret->totals[i] = take_count(r);
    ret->foreign = take_count(r);
    ret->unread = take_count(r);
    uint16_t n = take_u16(r);
    r->failed |= n > INCIDENTS_MAX;
    for (uint16_t i = 0; !r->failed && i < n; i++)
        take_incident(r, &ret->incidents[i]);
    ret->incidents_n = r->failed ? 0 : n;
}

void agents_encode_outcome(struct wire_writer *w, const struct crew_outcome *o)
{
    message_begin(w, AGENTS_OUTCOME);
    put_u16(w, (uint16_t)o->error_code);
    put_u64(w, (uint64_t)o->connection_rc);
    put_u64(w, o->unfinished);
    put_u16(w, (uint16_t)o->windows_n);
    put_counts(w, &o->total);
    put_log(w, &o->verify);
    put_log(w, &o->late_verify);
    wire_frame_end(w);
}

int agents_decode_outcome(const struct agents_message *m, struct agents_outcome *ret)
{
    struct reader r = reader_of(m);
    struct agents_outcome o = {0};
    o.error_code = (int16_t)take_u16(&r);
    o.connection_rc = (int)take_ranged(&r, -ERRNO_MAX, 0);
    o.unfinished = take_count(&r);
    o.windows_n = take_u16(&r);
    take_counts(&r, &o.total);
    take_log(&r, &o.verify);
    take_log(&r, &o.late_verify);
    if (reader_end(&r) < 0 || o.windows_n > LOAD_WINDOWS_MAX)
        return -EPROTO;
    *ret = o;
    return 0;
}
