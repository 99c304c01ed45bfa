/* fuzz_agents.c: whatever comes to an agent or a conductor from the other side.
 * What decodes must encode to what decodes again. Input: one message, as agents_wire.h has it. */
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "bench/agents_wire.h"
#include "core/base/assert.h"
#include "core/base/bytes.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes);

static struct wire_writer again;

static struct agents_message message_again(void)
{
    struct agents_message m = {0};
    size_t used;
    ASSERT(!again.failed && agents_message_peek(again.buf, again.len, &m, &used) == 1);
    ASSERT(used == again.len);
    return m;
}

static int turn_text(const struct agents_message *m)
{
    char text[AGENTS_TEXT_BYTES], back[AGENTS_TEXT_BYTES];
    int rc = agents_decode_text(m, text);
    if (rc < 0)
        return rc;
    agents_encode_text(&again, m->kind, text);
    struct agents_message n = message_again();
    ASSERT(agents_decode_text(&n, back) == 0 && strcmp(text, back) == 0);
    return 0;
}

static int turn_hello(const struct agents_message *m)
{
    static struct agents_hello hello;
    return agents_decode_hello(m, &hello);
}

static int turn_start(const struct agents_message *m)
{
    static struct agents_start start, back;
    char reason[AGENTS_TEXT_BYTES];
    int rc = agents_decode_start(m, &start, reason, sizeof(reason));
    if (rc < 0)
        return rc;
    agents_encode_start(&again, &start.config);
    struct agents_message n = message_again();
    ASSERT(agents_decode_start(&n, &back, reason, sizeof(reason)) == 0);
    ASSERT(back.config.parts == start.config.parts &&
           back.config.load.run == start.config.load.run);
    return 0;
}

static int turn_stage(const struct agents_message *m)
{
    int stage;
    return agents_decode_stage(m, &stage);
}

static int turn_state(const struct agents_message *m)
{
    int stage, back_stage;
    struct crew_state state, back;
    int rc = agents_decode_state(m, &stage, &state);
    if (rc < 0)
        return rc;
    agents_encode_state(&again, stage, &state);
    struct agents_message n = message_again();
    ASSERT(agents_decode_state(&n, &back_stage, &back) == 0);
    ASSERT(back_stage == stage && back.acked == state.acked);
    return 0;
}

static int turn_stats(const struct agents_message *m)
{
    struct agents_stats_head head, back_head;
    struct load_stats stats, back;
    ASSERT(load_stats_init(&stats) == 0 && load_stats_init(&back) == 0);
    int rc = agents_decode_stats(m, &head, &stats);
    if (rc == 0) {
        agents_encode_stats(&again, &head, &stats);
        struct agents_message n = message_again();
        ASSERT(agents_decode_stats(&n, &back_head, &back) == 0);
        ASSERT(memcmp(&stats.n, &back.n, sizeof(back.n)) == 0);
        for (unsigned i = 0; i < LATENCIES; i++)
            ASSERT(hist_count(&stats.latency[i]) == hist_count(&back.latency[i]) &&
                   stats.latency[i].saturated == back.latency[i].saturated);
    }
    load_stats_fini(&stats);
    load_stats_fini(&back);
    return rc;
}

static int turn_produced(const struct agents_message *m)
{
    struct produced p = {0};
    struct agents_produced_at at = {0};
    bool last;
    int rc = agents_decode_produced(m, &p, &last);
    ASSERT(p.ends_n <= m->len / 16 && p.failed_n <= m->len / 32);
    while (rc == 0 && agents_encode_produced(&again, &p, &at))
        wire_writer_reset(&again);
    ASSERT(!again.failed);
    produced_fini(&p);
    return rc;
}

static int turn_outcome(const struct agents_message *m)
{
    struct agents_outcome o;
    int rc = agents_decode_outcome(m, &o);
    ASSERT(rc < 0 || (o.verify.incidents_n <= INCIDENTS_MAX && o.windows_n <= LOAD_WINDOWS_MAX));
    return rc;
}

static int (*const turns[AGENTS_KINDS])(const struct agents_message *m) = {
    [AGENTS_HELLO] = turn_hello,       [AGENTS_REFUSED] = turn_text,
    [AGENTS_START] = turn_start,       [AGENTS_READY] = turn_text,
    [AGENTS_FAILED] = turn_text,       [AGENTS_STAGE] = turn_stage,
    [AGENTS_STATE] = turn_state,       [AGENTS_STATS] = turn_stats,
    [AGENTS_PRODUCED] = turn_produced, [AGENTS_OUTCOME] = turn_outcome,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes)
{
    struct agents_message m;
    size_t used = 0;
    uint8_t *exact = malloc(MAX(len_bytes, 1u)); /* so that every byte read beyond shows */
    ASSERT(exact);
    memcpy(exact, data, len_bytes);
    wire_writer_reset(&again);
    int rc = agents_message_peek(exact, len_bytes, &m, &used);
    ASSERT(rc == 0 || rc == -EPROTO || (rc == 1 && used <= len_bytes));
    if (rc == 1)
        rc = turns[m.kind](&m);
    ASSERT(rc == 0 || rc == -EPROTO || rc == -EINVAL || rc == -EFBIG);
    free(exact);
    return 0;
}
