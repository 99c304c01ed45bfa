/* table.h: a compacted topic in a run: one who writes keyed records and tombstones, one who reads
 * it from its start to its end again and again, and what must be there.
 *
 * Each record carries its number, in a header, so it is recognised wherever it is found.
 * Checked: what is read follows without a hole, each record is the one that was sent at its offset,
 *   once; of each key the newest record is there, and a tombstone until delete.retention.ms are
 *   over, whenever reading began; what was seen to be gone does not come again.
 * After damage records may be missing. Threads: one. */
#ifndef TESTS_SIM_TABLE_H
#define TESTS_SIM_TABLE_H

#include "core/base/arena.h"
#include "tests/sim/rpc.h"

#define TABLE_TOPIC "table"
#define TABLE_KEYS 24
#define TABLE_RECORDS_MAX 8 /* of a batch */

struct table_record {
    int32_t key, value_len; /* -1: a tombstone */
    int64_t offset;         /* -1: nobody knows */
    uint64_t since_ns;      /* it is there for certain; 0: perhaps */
    bool gone;
};

struct table_reader {
    struct sim *sim;
    int64_t offset, end;
    bool alone;                /* nobody writes: all up to the log's end is read */
    int64_t least[TABLE_KEYS]; /* the newest offset when it began; -1: none */
    int64_t seen[TABLE_KEYS];
};

struct sim_table {
    struct sim *sim;
    bool used;
    int64_t tombstones_ms;        /* delete.retention.ms */
    struct table_record *records; /* by number */
    uint64_t records_n, records_cap;
    uint64_t *at; /* by offset: number + 1; 0: not known */
    int64_t at_n;
    struct rpc_conn writer_conn, reader_conn;
    struct sim_timer writer_timer, reader_timer;
    struct rpc writer_call, reader_call;
    uint64_t settled;    /* records before it that nobody knows of are not there */
    uint64_t first_sent; /* number of the first record that is under way */
    unsigned sent_n;
    struct table_reader reader;
    uint64_t passes, acked, gone;
};

void table_init(struct sim_table *t, struct sim *sim);
void table_start(struct sim_table *t);
void table_stop(struct sim_table *t);
void table_fini(struct sim_table *t);
/* The topic, as it is to be made. */
void table_configs(const struct sim_table *t, struct arena *arena,
                   struct create_topics_request_creatable_topic *ret);
int table_node(const struct sim *sim); /* that leads it now; -1: nobody knows */

/* A read from start to end: begin, what fetches bring, and the end when offset has come to it. */
void table_read_begin(struct sim_table *t, struct table_reader *r);
void table_read_fetched(struct sim_table *t, struct table_reader *r, const uint8_t *data,
                        uint32_t len);
void table_read_end(struct sim_table *t, struct table_reader *r);
/* A Fetch of it; version 4 to 12. */
struct fetch_ask;
void table_fetch_make(struct fetch_ask *ask, int64_t offset);

#endif
