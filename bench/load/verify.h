/* verify.h: does a consumer get each record once, in order? Each partition of a consumer has a
 * verify_part, which knows the next sequence of each producer.
 * A jump ahead leaves a missing range. What of it comes later was reordered; what never comes was
 * lost; what comes twice was repeated.
 * Happy path: verify_part_init(); verify_record() for each record; at the end verify_part_finish()
 *   with what producers were acknowledged; the findings are in the log.
 * Failure: without memory for a range, it counts as lost at once.
 * Threads: one at a time. */
#ifndef BENCH_LOAD_VERIFY_H
#define BENCH_LOAD_VERIFY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bench/load/record.h"

enum incident_kind {
    INCIDENT_LOST,
    INCIDENT_REPEATED,
    INCIDENT_REORDERED,
    INCIDENT_CORRUPT,
    INCIDENT_KINDS
};
extern const char *const incident_names[INCIDENT_KINDS];

struct incident {
    enum incident_kind kind;
    int32_t partition;
    int64_t offset; /* lost: of the first record seen behind the gap; -1: the end of the log */
    bool known;     /* producer and sequence; not of all that is corrupt */
    uint32_t producer;
    uint64_t sequence, count;
};

#define INCIDENTS_MAX 64 /* kept with their place; all are counted */
struct verify_log {
    uint64_t totals[INCIDENT_KINDS]; /* records */
    uint64_t foreign;                /* records of no load, or of another run */
    uint64_t unread;                 /* in the log and not fetched when the run ended */
    struct incident incidents[INCIDENTS_MAX];
    unsigned incidents_n;
};
void verify_log_add(struct verify_log *log, const struct incident *incident);
void verify_log_merge(struct verify_log *log, const struct verify_log *from);

struct sequence_range { /* [first, first + count) of a producer */
    uint32_t producer;
    uint64_t first, count;
    int64_t offset;
};
struct sequence_ranges {
    struct sequence_range *at;
    size_t n, cap;
};
int sequence_ranges_add(struct sequence_ranges *r, const struct sequence_range *range);
void sequence_ranges_fini(struct sequence_ranges *r);

struct verify_part {
    int32_t partition;
    uint32_t run;   /* whose records are looked at */
    bool adopt;     /* take over whatever run is found, from where it is found */
    uint64_t *next; /* by producer; SEQUENCE_UNKNOWN */
    size_t next_cap;
    struct sequence_ranges missing;
    struct verify_log *log; /* borrowed */
};
#define SEQUENCE_UNKNOWN UINT64_MAX

void verify_part_init(struct verify_part *v, int32_t partition, uint32_t run, bool adopt,
                      struct verify_log *log);
void verify_part_fini(struct verify_part *v);

/* True: a record that had not come before. */
bool verify_record(struct verify_part *v, const struct record_head *head, int64_t offset);
/* A damaged record, or batch (head: NULL). The head may be damaged itself, so it is believed only
 * when it names the very record that is due: then that is not missing as well. True: it was. */
bool verify_corrupt(struct verify_part *v, const struct record_head *head, int64_t offset);

/* What all producers of a run made: below `end` each sequence was sent once, but those of `failed`
 * (which the broker refused, or whose answer never came) may be missing. */
struct produced_end {
    int32_t partition;
    uint32_t producer;
    uint64_t end;
};
struct produced_failure {
    int32_t partition;
    struct sequence_range range;
};
struct produced {
    struct produced_end *ends;
    size_t ends_n, ends_cap;
    struct produced_failure *failed;
    size_t failed_n, failed_cap;
};
int produced_add(struct produced *p, uint32_t producer, int32_t partition, uint64_t end);
int produced_add_failed(struct produced *p, int32_t partition, const struct sequence_range *range);
void produced_sort(struct produced *p); /* once, before it is looked into */
void produced_fini(struct produced *p);

/* How much was produced, has not failed and is behind all that has been seen. */
uint64_t verify_part_unseen(struct verify_part *v, const struct produced *all);
/* What was produced and has not been seen is missing. */
void verify_part_expect(struct verify_part *v, const struct produced *all);
/* What is missing now is lost, but for what failed. all: NULL if nothing is known of that. */
void verify_part_finish(struct verify_part *v, const struct produced *all);

#endif
