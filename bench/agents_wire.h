/* agents_wire.h: what a conductor and its agents say to each other, between bytes and structs.
 * A message is u32 length of what follows, u8 kind, body; all numbers are big-endian, a text is u16
 * length and so many bytes.
 *
 *   HELLO     both      u32 magic, u16 version; the agent's: text, its machine as JSON
 *   REFUSED   to cond.  text why; the connection is closed
 *   START     to agent  the workload's settings as texts, what loader_config has
 *   READY     to cond.  all threads are connected
 *   FAILED    to cond.  text why there is no run
 *   STAGE     to agent  u32 number; LOADER_END is the last of a run
 *   STATE     to cond.  as soon as it has changed, and once a second
 *   STATS     to cond.  an interval that has ended; after the end, each window
 *   PRODUCED  both      after the end: what was made, in parts; the agent's own, then all agents'
 *   OUTCOME   to cond.  what else came out; then the next START may come
 *
 * Times: durations in ns since a stage came, which the message names; before it they are negative.
 * Histograms: as hist_v2.h has them, `saturated` beside it. Counters: by their names.
 * Happy path: agents_encode_x() appends a whole message to a writer; agents_message_peek() finds
 *   the next in what was received, agents_decode_x() its content.
 * Failure: encoding sets the writer's sticky `failed`. Decoding is made for bytes from anywhere:
 *   -EPROTO for what is malformed, or a number out of its range; no length is believed, and no
 *   memory taken beyond what the bytes justify; outputs are then as they were, but for what the
 *   function says. -ENOMEM.
 * Ownership: decoded texts are copied. Threads: any; no state. */
#ifndef BENCH_AGENTS_WIRE_H
#define BENCH_AGENTS_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bench/crew.h"
#include "net/wire/wire.h"

enum {
    AGENTS_MAGIC = 0x50534241, /* "PSBA" */
    AGENTS_VERSION = 2,
    AGENTS_MAX = 64,
    AGENTS_TEXT_BYTES = 640,
    AGENTS_MACHINE_BYTES = 8192,
    AGENTS_BOOTSTRAP_BYTES = 2048,
    AGENTS_HEADER_BYTES = 5,
    AGENTS_MESSAGE_BYTES_MAX = 2 << 20, /* four histograms at their longest are 1.2 MB */
    AGENTS_PRODUCED_PER_MESSAGE = 1 << 14,
    AGENTS_PRODUCED_MAX = 1 << 24, /* (producer, partition) pairs of a run, and failed ranges */
};

enum agents_kind {
    AGENTS_HELLO = 1,
    AGENTS_REFUSED,
    AGENTS_START,
    AGENTS_READY,
    AGENTS_FAILED,
    AGENTS_STAGE,
    AGENTS_STATE,
    AGENTS_STATS,
    AGENTS_PRODUCED,
    AGENTS_OUTCOME,
    AGENTS_KINDS
};

struct agents_message { /* borrows what was received */
    enum agents_kind kind;
    const uint8_t *body;
    uint32_t len;
};

/* 1: a whole message, *ret_used bytes long. 0: more bytes are wanted. -EPROTO: no message, or one
 * that is too long. */
int agents_message_peek(const uint8_t *data, size_t len, struct agents_message *ret,
                        size_t *ret_used);

struct agents_hello {
    uint32_t magic;
    uint16_t version;
    char machine[AGENTS_MACHINE_BYTES]; /* "" from a conductor */
};
void agents_encode_hello(struct wire_writer *w, const char *machine);
/* Another version's content is not looked at. */
int agents_decode_hello(const struct agents_message *m, struct agents_hello *ret);

/* REFUSED and FAILED, and READY with "". */
void agents_encode_text(struct wire_writer *w, enum agents_kind kind, const char *text);
int agents_decode_text(const struct agents_message *m, char ret[AGENTS_TEXT_BYTES]);

struct agents_start {
    struct workload workload;
    struct crew_config config; /* load.workload and load.bootstrap point into this struct */
    char bootstrap[AGENTS_BOOTSTRAP_BYTES];
};
void agents_encode_start(struct wire_writer *w, const struct crew_config *config);
/* The workload is checked; -EINVAL: it is not one, reason says why. ret may be changed. */
int agents_decode_start(const struct agents_message *m, struct agents_start *ret, char *reason,
                        size_t reason_size);

void agents_encode_stage(struct wire_writer *w, int stage);
int agents_decode_stage(const struct agents_message *m, int *ret);

void agents_encode_state(struct wire_writer *w, int stage, const struct crew_state *state);
int agents_decode_state(const struct agents_message *m, int *ret_stage, struct crew_state *ret);

struct agents_stats_head {
    int window; /* -1: an interval */
    int stage;  /* times are since this came */
    int64_t from_ns, to_ns;
};
void agents_encode_stats(struct wire_writer *w, const struct agents_stats_head *head,
                         const struct load_stats *stats);
/* ret: initialised; on success it has what was decoded, without times; else it is empty. */
int agents_decode_stats(const struct agents_message *m, struct agents_stats_head *ret_head,
                        struct load_stats *ret);

struct agents_produced_at { /* zero at first */
    size_t ends, failed;
};
/* The next part; false: that was the last one. Pairs that made nothing are left out. */
bool agents_encode_produced(struct wire_writer *w, const struct produced *p,
                            struct agents_produced_at *at);
/* Adds. -EFBIG: more than AGENTS_PRODUCED_MAX with these. On an error some may be added. */
int agents_decode_produced(const struct agents_message *m, struct produced *to, bool *ret_last);

struct agents_outcome {
    struct verify_log verify, late_verify;
    int16_t error_code;
    int connection_rc;
    uint64_t unfinished;
    unsigned windows_n;
    struct load_counts total;
};
void agents_encode_outcome(struct wire_writer *w, const struct crew_outcome *o);
int agents_decode_outcome(const struct agents_message *m, struct agents_outcome *ret);

#endif
