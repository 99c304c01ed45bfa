/* script_broker.h: a Kafka server with a script: it serves at a given pace, stands still at given
 * times and damages given records, so that what a load harness says about it can be held against
 * arithmetic. No I/O and no clock: bytes go in with the time of their arrival, and come out with
 * the time at which they are due; its hosts are net_sim.h (virtual time, exact) and
 * tests/bench/scripted_broker.c (real sockets).
 *
 * Happy path: create; script_open() a connection, script_input() what came on it; whenever
 * script_next_due() has come, script_take() until it says false. Failure: what is no request, or of
 * a version that is not spoken, closes its connection, as with Kafka. Out of memory is an ASSERT:
 * this is a test's tool. The server: Produce requests are served one after another in order of
 * arrival, over all connections: due = max(arrival, due of the one before) + service_ns + records /
 * rate_per_s. Only then are the records in the log, and readable. All else takes no time. While the
 * server is frozen nothing happens: what is being served takes that much longer, what arrives is
 * looked at afterwards. Answers leave a connection in the order of its requests. Time: nanoseconds
 * of the host's clock, never going back from call to call. Ownership: a connection is any number >=
 * 0, from script_open() to script_close(). What is taken out is the caller's to free(). Threads:
 * one. */
#ifndef TESTS_LIB_SCRIPT_BROKER_H
#define TESTS_LIB_SCRIPT_BROKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Zero is off, or the default, everywhere. Records and Produce requests are numbered from 1 in
 * order of arrival. Records of a request that is refused have no number. */
struct script_config {
    const char *host; /* of this node in Metadata; default 127.0.0.1; lent until destroy */
    uint16_t port;
    int32_t node_id;
    int32_t partitions; /* of a topic that does not say; default 1 */

    uint64_t service_ns; /* of one Produce request */
    uint64_t rate_per_s; /* records a second */
    /* Frozen in [first + k * every, first + k * every + freeze), k = 0, 1, ..; first counts from
     * the arrival of the first Produce request. every 0: once; else it is above freeze_ns. */
    uint64_t freeze_first_ns, freeze_every_ns, freeze_ns;

    /* Damage to one record, which is acknowledged as if nothing were. */
    uint64_t lose_record;    /* not stored; the rest of its batch is, with contiguous offsets */
    uint64_t repeat_record;  /* stored twice in a row */
    uint64_t corrupt_record; /* last byte of the value inverted, the CRC right; the first record
                                from here on whose value has a byte */
    uint64_t swap_record;    /* exchanged with its follower; the first record from here on that has
                                one in its batch */
    /* What happens to one Produce request. Each is served for as long as any other. */
    uint64_t lose_ack;      /* stored, never answered; later requests of its connection are */
    uint64_t error_request; /* not stored, error 6 (NOT_LEADER_OR_FOLLOWER) for each partition */
    uint64_t close_request; /* not stored, the connection closed instead of answered; what was sent
                               behind it is not read */

    /* ListOffsets shows the last hide_records of a partition one by one, one each show_ns since the
     * last Produce request of all was served. */
    uint64_t hide_records, show_ns;

    uint64_t max_records; /* kept: beyond it the oldest batches are dropped, log start moves on */
    bool keep_arrivals;   /* remember every Produce request for script_arrivals() */
};

struct script_counters {
    uint64_t connections, requests; /* ever; of all kinds */
    uint64_t produce_requests, fetch_requests;
    uint64_t records,
        record_bytes;           /* as they arrived in Produce requests, batch headers included */
    uint64_t stored_records;    /* now in the log or dropped from it for max_records */
    uint64_t fetched_bytes;     /* of records, sent in Fetch responses */
    uint64_t duplicate_batches; /* of idempotent producers: acknowledged, not stored again */
    uint64_t refused_batches;   /* with an error, asked for or not */
    uint64_t lost_records, repeated_records, corrupted_records, swapped_records; /* as asked for */
    uint64_t lost_acks, errored_requests, closed_requests;
    uint64_t busy_ns; /* service time, freezes not counted */
    uint64_t first_produce_ns, last_due_ns;
    uint64_t backlog_max; /* Produce requests that had arrived and were not done, the most ever */
};

struct script_arrival { /* of a Produce request */
    uint64_t arrival_ns, due_ns;
    uint64_t records, record_bytes;
    int conn;
};

struct script_broker;
struct script_broker *script_create(const struct script_config *config);
void script_destroy(struct script_broker *s); /* NULL-safe */

/* A new connection. */
void script_open(struct script_broker *s, int conn, uint64_t now_ns);
/* What has come on it, in pieces of any size. Ignored when there is no such connection: what was
 * on its way when it was closed. */
void script_input(struct script_broker *s, int conn, uint64_t now_ns, const void *data,
                  size_t len_bytes);
/* The client is gone. Produce requests that had arrived whole are served all the same; nothing
 * comes out for this connection any more, and its number may be used for a new one. */
void script_close(struct script_broker *s, int conn, uint64_t now_ns);

/* When there is something to take or to do; UINT64_MAX: only after further input. */
uint64_t script_next_due(const struct script_broker *s);

struct script_output {
    int conn;
    uint64_t due_ns;
    uint8_t *data; /* one framed response, the caller's to free(); NULL with close */
    size_t len_bytes;
    bool close; /* the host is to close the connection, having sent what came before, and then
                   calls script_close() */
};
/* The next of what is due by now, by due time; false: nothing (more). */
bool script_take(struct script_broker *s, uint64_t now_ns, struct script_output *ret);

const struct script_counters *script_counters(const struct script_broker *s);
/* In order of arrival; lent until the next call. Empty without keep_arrivals. */
const struct script_arrival *script_arrivals(const struct script_broker *s, size_t *ret_n);

#endif
