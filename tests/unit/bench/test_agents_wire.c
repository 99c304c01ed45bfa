#include "bench/agents_wire.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/base/rng.h"

/* ---- messages as received: an exact copy, so that a sanitizer sees a read beyond ---- */

struct received {
    uint8_t *data;
    struct agents_message m;
};

static struct received receive(const uint8_t *data, size_t len)
{
    struct received r = {.data = malloc(MAX(len, (size_t)1))};
    size_t used = 0;
    memcpy(r.data, data, len);
    cr_assert_eq(agents_message_peek(r.data, len, &r.m, &used), 1);
    cr_assert_eq(used, len);
    return r;
}

static struct received receive_all(struct wire_writer *w)
{
    cr_assert(!w->failed);
    struct received r = receive(w->buf, w->len);
    wire_writer_reset(w);
    return r;
}

/* ---- one sample of each kind, and its decoding into whatever ---- */

static void stats_fill(struct load_stats *s, uint64_t seed)
{
    uint64_t *counts = (uint64_t *)&s->n;
    for (size_t i = 0; i < sizeof(s->n) / sizeof(*counts); i++)
        counts[i] = seed + i;
    for (unsigned i = 0; i < LATENCIES; i++)
        for (uint64_t n = 0; n < 1000; n++)
            hist_record(&s->latency[i], (n * n * seed) << i);
    hist_reset(&s->latency[LATENCY_LATE]); /* an empty one travels as well */
    hist_record_n(&s->latency[LATENCY_E2E], 2 * HIST_HOUR_NS, 3);
}

static struct workload workload_sample(void)
{
    char reason[200];
    struct workload w;
    workload_init(&w);
    const char *pairs[][2] = {{"threads", "3"},        {"producers", "17"},
                              {"rate", "12345.5"},     {"schedule", "burst:10@poisson"},
                              {"topic", "a topic"},    {"acks", "1"},
                              {"seed", "99999999999"}, {"compression.type", "lz4"}};
    for (unsigned i = 0; i < ARRAY_LEN(pairs); i++)
        cr_assert_eq(workload_set(&w, pairs[i][0], pairs[i][1], reason, sizeof(reason)), 0, "%s",
                     reason);
    return w;
}

static struct crew_config config_sample(const struct workload *w)
{
    return (struct crew_config){.part_first = 1,
                                .part_step = 2,
                                .parts = 6,
                                .load = {.workload = w,
                                         .bootstrap = "broker:9092,[::1]:9093",
                                         .run = 0xdeadbeef,
                                         .produce = true,
                                         .consume = CONSUME_FROM_START,
                                         .late_stage = 3,
                                         .late_loop = true,
                                         .records_max = 1234567}};
}

static void outcome_fill(struct crew_outcome *o)
{
    *o = (struct crew_outcome){.error_code = -1,
                               .connection_rc = -ECONNRESET,
                               .unfinished = 7,
                               .windows_n = 4,
                               .total = {.intended = 11, .cpu_ns = 12},
                               .verify = {.totals = {1, 2, 3, UINT64_MAX}, .foreign = 5}};
    for (uint64_t i = 0; i < INCIDENTS_MAX + 5u; i++)
        verify_log_add(&o->verify, &(struct incident){.kind = INCIDENT_REPEATED,
                                                      .partition = (int32_t)i,
                                                      .offset = -1,
                                                      .known = i % 2 == 0,
                                                      .producer = 4,
                                                      .sequence = UINT64_MAX,
                                                      .count = i});
}

enum { PRODUCERS = 50, PARTITIONS = 1000 };

static void produced_fill(struct produced *p)
{
    for (uint32_t i = 0; i < PRODUCERS; i++)
        for (int32_t n = 0; n < PARTITIONS; n++)
            cr_assert_eq(produced_add(p, i, n, (uint64_t)n * i), 0);
    for (uint32_t i = 0; i < 20000; i++)
        cr_assert_eq(produced_add_failed(p, (int32_t)i, &(struct sequence_range){i, i, 1, -1}), 0);
}

static void encode_sample(struct wire_writer *w, enum agents_kind kind)
{
    struct load_stats s;
    struct crew_outcome o;
    struct workload load = workload_sample();
    struct crew_config config = config_sample(&load);
    struct produced p = {0};
    struct agents_produced_at at = {0};
    switch (kind) {
    case AGENTS_HELLO:
        agents_encode_hello(w, "{\"hostname\":\"h\"}");
        break;
    case AGENTS_START:
        agents_encode_start(w, &config);
        break;
    case AGENTS_STAGE:
        agents_encode_stage(w, LOADER_DRAIN);
        break;
    case AGENTS_STATE:
        agents_encode_state(w, 2, &(struct crew_state){1, 2, 3, true, false});
        break;
    case AGENTS_STATS:
        cr_assert_eq(load_stats_init(&s), 0);
        stats_fill(&s, 11);
        agents_encode_stats(w, &(struct agents_stats_head){-1, 2, -5, 1000}, &s);
        load_stats_fini(&s);
        break;
    case AGENTS_PRODUCED:
        for (uint32_t i = 0; i < 5; i++) {
            cr_assert_eq(produced_add(&p, i, 3, 10 + i), 0);
            cr_assert_eq(produced_add_failed(&p, 3, &(struct sequence_range){i, 2, 1, -1}), 0);
        }
        agents_encode_produced(w, &p, &at);
        produced_fini(&p);
        break;
    case AGENTS_OUTCOME:
        outcome_fill(&o);
        agents_encode_outcome(w, &o);
        break;
    default:
        agents_encode_text(w, kind, "why it is so");
    }
    cr_assert(!w->failed);
}

/* Whatever it is; outputs are thrown away. */
static int decode(const struct agents_message *m)
{
    char text[AGENTS_TEXT_BYTES];
    int stage, rc;
    bool last;
    struct crew_state state;
    struct agents_outcome outcome;
    struct agents_stats_head head;
    static struct agents_hello hello;
    static struct agents_start start;
    struct load_stats stats;
    struct produced produced = {0};
    switch (m->kind) {
    case AGENTS_HELLO:
        return agents_decode_hello(m, &hello);
    case AGENTS_START:
        return agents_decode_start(m, &start, text, sizeof(text));
    case AGENTS_STAGE:
        return agents_decode_stage(m, &stage);
    case AGENTS_STATE:
        return agents_decode_state(m, &stage, &state);
    case AGENTS_STATS:
        cr_assert_eq(load_stats_init(&stats), 0);
        rc = agents_decode_stats(m, &head, &stats);
        for (unsigned i = 0; rc < 0 && i < LATENCIES; i++)
            cr_assert_eq(hist_count(&stats.latency[i]), 0);
        load_stats_fini(&stats);
        return rc;
    case AGENTS_PRODUCED:
        rc = agents_decode_produced(m, &produced, &last);
        produced_fini(&produced);
        return rc;
    case AGENTS_OUTCOME:
        return agents_decode_outcome(m, &outcome);
    default:
        return agents_decode_text(m, text);
    }
}

/* ---- round trips ---- */

Test(agents_wire, a_start_comes_back_with_every_setting)
{
    struct wire_writer w;
    struct workload load = workload_sample();
    struct crew_config config = config_sample(&load);
    static struct agents_start s;
    char reason[200];
    const char *key, *value;
    bool number;
    wire_writer_init(&w);
    agents_encode_start(&w, &config);
    struct received r = receive_all(&w);
    cr_assert_eq(agents_decode_start(&r.m, &s, reason, sizeof(reason)), 0, "%s", reason);
    for (unsigned i = 0; workload_get(&load, i, &key, &value, &number); i++) {
        char wanted[WORKLOAD_TEXT_BYTES];
        strcpy(wanted, value);
        workload_get(&s.workload, i, &key, &value, &number);
        cr_assert_str_eq(value, wanted, "%s", key);
    }
    cr_assert_eq(s.config.load.workload, &s.workload);
    cr_assert_str_eq(s.config.load.bootstrap, "broker:9092,[::1]:9093");
    cr_assert_eq(s.config.part_first, 1);
    cr_assert_eq(s.config.part_step, 2);
    cr_assert_eq(s.config.parts, 6);
    cr_assert_eq(s.config.load.run, 0xdeadbeef);
    cr_assert(s.config.load.produce && s.config.load.late_loop);
    cr_assert_eq(s.config.load.consume, CONSUME_FROM_START);
    cr_assert_eq(s.config.load.late_stage, 3);
    cr_assert_eq(s.config.load.records_max, 1234567);
    free(r.data);
    wire_writer_fini(&w);
}

Test(agents_wire, statistics_come_back_with_saturated_ones)
{
    struct wire_writer w;
    struct load_stats s, back;
    struct agents_stats_head head = {5, LOADER_END, -3000000000, -1}, got;
    wire_writer_init(&w);
    cr_assert(load_stats_init(&s) == 0 && load_stats_init(&back) == 0);
    stats_fill(&s, 77);
    stats_fill(&back, 5); /* what was there goes */
    agents_encode_stats(&w, &head, &s);
    struct received r = receive_all(&w);
    cr_assert_eq(agents_decode_stats(&r.m, &got, &back), 0);
    cr_assert(got.window == 5 && got.stage == LOADER_END);
    cr_assert(got.from_ns == -3000000000 && got.to_ns == -1);
    cr_assert_arr_eq(&back.n, &s.n, sizeof(s.n));
    for (unsigned i = 0; i < LATENCIES; i++) {
        const struct hist *a = &s.latency[i], *b = &back.latency[i];
        cr_assert(a->total == b->total && a->saturated == b->saturated);
        cr_assert_arr_eq(a->counts, b->counts, a->counts_n * sizeof(*a->counts));
    }
    cr_assert_eq(back.latency[LATENCY_E2E].saturated, 3);
    load_stats_fini(&s);
    load_stats_fini(&back);
    free(r.data);
    wire_writer_fini(&w);
}

Test(agents_wire, what_was_produced_comes_in_parts_without_idle_pairs)
{
    struct wire_writer w;
    struct produced p = {0}, back = {0};
    struct agents_produced_at at = {0};
    bool more = true, last = false;
    unsigned parts = 0;
    wire_writer_init(&w);
    produced_fill(&p);
    while (more) {
        more = agents_encode_produced(&w, &p, &at);
        cr_assert_leq(w.len, AGENTS_MESSAGE_BYTES_MAX);
        struct received r = receive_all(&w);
        cr_assert_eq(agents_decode_produced(&r.m, &back, &last), 0);
        cr_assert_eq(last, !more);
        free(r.data);
        parts++;
    }
    cr_assert_eq(parts, 3); /* of 48,951 pairs and 20,000 ranges, 16,384 each */
    cr_assert_eq(back.ends_n, (PRODUCERS - 1) * (PARTITIONS - 1));
    cr_assert_eq(back.failed_n, p.failed_n);
    for (size_t i = 0; i < p.failed_n; i++) {
        const struct produced_failure *a = &p.failed[i], *b = &back.failed[i];
        cr_assert(a->partition == b->partition && a->range.producer == b->range.producer);
        cr_assert(a->range.first == b->range.first && a->range.count == b->range.count);
        cr_assert_eq(a->range.offset, b->range.offset);
    }
    for (size_t i = 0, n = 0; i < p.ends_n; i++)
        if (p.ends[i].end > 0)
            cr_assert_arr_eq(&back.ends[n++], &p.ends[i], sizeof(*p.ends));
    produced_fini(&p);
    produced_fini(&back);
    wire_writer_fini(&w);
}

Test(agents_wire, an_outcome_comes_back_with_its_incidents)
{
    struct wire_writer w;
    struct crew_outcome o;
    struct agents_outcome back;
    wire_writer_init(&w);
    outcome_fill(&o);
    agents_encode_outcome(&w, &o);
    struct received r = receive_all(&w);
    cr_assert_eq(agents_decode_outcome(&r.m, &back), 0);
    cr_assert(back.error_code == -1 && back.connection_rc == -ECONNRESET);
    cr_assert(back.unfinished == 7 && back.windows_n == 4);
    cr_assert_eq(back.verify.incidents_n, INCIDENTS_MAX);
    cr_assert_eq(back.verify.incidents[9].partition, 9);
    cr_assert_eq(back.verify.incidents[9].offset, -1);
    cr_assert(back.verify.incidents[8].known && !back.verify.incidents[9].known);
    cr_assert(back.total.intended == 11 && back.total.cpu_ns == 12 && back.total.acked == 0);
    cr_assert_eq(back.verify.incidents[9].sequence, UINT64_MAX);
    cr_assert_eq(back.verify.totals[INCIDENT_REORDERED], 3);
    cr_assert_gt(back.verify.totals[INCIDENT_CORRUPT], UINT64_C(1) << 50); /* held, not refused */
    cr_assert_eq(back.late_verify.incidents_n, 0);
    free(r.data);
    wire_writer_fini(&w);
}

Test(agents_wire, texts_lose_what_would_move_a_terminal)
{
    struct wire_writer w;
    char text[AGENTS_TEXT_BYTES], longest[2 * AGENTS_TEXT_BYTES];
    wire_writer_init(&w);
    agents_encode_text(&w, AGENTS_FAILED, "no\x1b[2J\nway");
    struct received r = receive_all(&w);
    cr_assert_eq(agents_decode_text(&r.m, text), 0);
    cr_assert_str_eq(text, "no?[2J?way");
    free(r.data);
    memset(longest, 'x', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = '\0';
    agents_encode_text(&w, AGENTS_FAILED, longest);
    r = receive_all(&w);
    cr_assert_eq(agents_decode_text(&r.m, text), 0);
    cr_assert_eq(strlen(text), AGENTS_TEXT_BYTES - 1);
    free(r.data);
    wire_writer_fini(&w);
}

Test(agents_wire, a_hello_of_another_version_is_told_not_read)
{
    struct wire_writer w;
    static struct agents_hello hello;
    wire_writer_init(&w);
    agents_encode_hello(&w, "{}");
    w.buf[10] = 9; /* version */
    struct received r = receive_all(&w);
    cr_assert_eq(agents_decode_hello(&r.m, &hello), 0);
    cr_assert_eq(hello.magic, AGENTS_MAGIC);
    cr_assert_eq(hello.version, 9);
    cr_assert_str_empty(hello.machine);
    free(r.data);
    wire_writer_fini(&w);
}

/* ---- damage ---- */

Test(agents_wire, strangers_are_known_by_their_first_bytes)
{
    static const struct {
        const char *bytes;
        size_t len;
    } wrong[] = {{"GET / HTTP/1.1\r\n", 16},
                 {"\0\0\0\0", 4},
                 {"\0\0\0\x05\0", 5},
                 {"\0\0\0\x05\x0b", 5},
                 {"SSH-2.0", 7}};
    struct agents_message m;
    size_t used;
    for (unsigned i = 0; i < ARRAY_LEN(wrong); i++)
        cr_assert_eq(agents_message_peek((const uint8_t *)wrong[i].bytes, wrong[i].len, &m, &used),
                     -EPROTO, "%u", i);
    cr_assert_eq(agents_message_peek((const uint8_t *)"\0\0\0", 3, &m, &used), 0);
}

/* A body of any shorter or longer length is refused, and never read beyond. */
Test(agents_wire, cut_and_stretched_messages_are_refused)
{
    struct wire_writer w;
    wire_writer_init(&w);
    for (int kind = AGENTS_HELLO; kind < AGENTS_KINDS; kind++) {
        wire_writer_reset(&w);
        encode_sample(&w, (enum agents_kind)kind);
        uint32_t len = w.len, step = MAX(len / 500, 1u);
        for (uint32_t cut = AGENTS_HEADER_BYTES; cut <= len + 1; cut += cut < len ? step : 1) {
            uint8_t *copy = calloc(1, cut);
            memcpy(copy, w.buf, MIN(cut, len));
            be_store32(copy, cut - 4);
            struct received r = receive(copy, cut);
            int rc = decode(&r.m);
            cr_assert(cut == len ? rc == 0 : rc == -EPROTO || rc == -EINVAL, "%d: %u of %u: %d",
                      kind, cut, len, rc);
            free(r.data);
            free(copy);
        }
    }
    wire_writer_fini(&w);
}

/* Bytes turned at random: an answer each time, no crash, no memory that the bytes do not justify.
 */
Test(agents_wire, damaged_messages_are_survived)
{
    struct wire_writer w;
    struct rng rng;
    unsigned refused = 0;
    rng_seed(&rng, 4);
    wire_writer_init(&w);
    for (int kind = AGENTS_HELLO; kind < AGENTS_KINDS; kind++) {
        wire_writer_reset(&w);
        encode_sample(&w, (enum agents_kind)kind);
        for (unsigned round = 0; round < 1000; round++) {
            struct received r = receive(w.buf, w.len);
            for (uint64_t n = 1 + rng_next(&rng) % 4; n > 0; n--)
                r.data[AGENTS_HEADER_BYTES + rng_next(&rng) % r.m.len] = (uint8_t)rng_next(&rng);
            int rc = decode(&r.m);
            cr_assert(rc == 0 || rc == -EPROTO || rc == -EINVAL || rc == -EFBIG, "%d", rc);
            refused += rc < 0;
            free(r.data);
        }
    }
    cr_assert_gt(refused, 2000);
    wire_writer_fini(&w);
}

static int patched(enum agents_kind kind, size_t body_at, const void *bytes, size_t len)
{
    struct wire_writer w;
    wire_writer_init(&w);
    encode_sample(&w, kind);
    memcpy(w.buf + AGENTS_HEADER_BYTES + body_at, bytes, len);
    struct received r = receive_all(&w);
    int rc = decode(&r.m);
    free(r.data);
    wire_writer_fini(&w);
    return rc;
}

Test(agents_wire, numbers_out_of_range_are_refused)
{
    static const uint8_t big[8] = {0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    static const uint8_t minus[8] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe};
    static const uint8_t window[8] = {0, 0, 0, 0, 0, 0, 0, LOAD_WINDOWS_MAX};
    static const uint8_t stage[8] = {0, 0, 0, 0, 0, 0, 0, LOADER_LOAD + LOAD_WINDOWS_MAX};
    cr_assert_eq(patched(AGENTS_STAGE, 0, big, 8), -EPROTO);
    cr_assert_eq(patched(AGENTS_STAGE, 0, stage, 8), -EPROTO); /* no such window */
    cr_assert_eq(patched(AGENTS_STATE, 8, big, 8), -EPROTO);
    cr_assert_eq(patched(AGENTS_STATE, 32, "\2", 1), -EPROTO);
    cr_assert_eq(patched(AGENTS_STATS, 0, window, 8), -EPROTO);
    cr_assert_eq(patched(AGENTS_STATS, 0, minus, 8), -EPROTO);
    cr_assert_eq(patched(AGENTS_STATS, 24, minus + 7, 1), -EPROTO); /* ends before it begins */
    cr_assert_eq(patched(AGENTS_PRODUCED, 1, big, 4), -EPROTO);     /* a number of pairs */
    cr_assert_eq(patched(AGENTS_OUTCOME, 2, big, 8), -EPROTO);
    cr_assert_eq(patched(AGENTS_OUTCOME, 18, big, 2), -EPROTO); /* windows */
}
