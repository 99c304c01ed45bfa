/* record.h: what the crash tests send, and how they write down what they were told.
 * Records: each says who made it and which of that producer's records it is; the bytes behind
 *   follow from that, so whoever reads it knows every byte that must be there. Record `number` of a
 *   producer goes to partition number % partitions.
 * Events: what a client was told, an acknowledgement with its offset or a record that a consumer
 *   has seen. crash-load appends them to a file, crash-check holds them against the log. */
#ifndef TESTS_CRASH_RECORD_H
#define TESTS_CRASH_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RECORD_BYTES_MIN 24u /* the head */
#define RECORD_BYTES_MAX (900u * 1024u)
#define PARTITIONS_MAX 64
#define LIVES_MAX 1000

/* A kind of producer; there is one of each. */
struct producer_kind {
    const char *name;
    const char *acks;        /* as librdkafka's settings */
    const char *idempotence; /* "true": goes on over kills, every record once */
    const char *retries;     /* "0": what was not acknowledged is not sent again */
    const char *codec;
    const char *linger_ms;
    uint32_t size_min, size_max;
    unsigned a_second; /* records */
};
extern const struct producer_kind producer_kinds[];
extern const unsigned producer_kinds_n;

bool kind_is_idempotent(const struct producer_kind *kind);
bool kind_may_repeat(const struct producer_kind *kind); /* retries without idempotence */
bool kind_waits_for_disk(const struct producer_kind *kind);

uint32_t record_size(uint32_t producer, uint64_t number);
/* Writes record_size() bytes. */
void record_make(uint32_t producer, uint64_t number, uint8_t *out);
/* NULL, or what is wrong with these bytes. */
const char *record_check(const uint8_t *bytes, size_t len, uint32_t *ret_producer,
                         uint64_t *ret_number);

enum event_kind { EVENT_ACKNOWLEDGED = 1, EVENT_SEEN };
struct event {
    uint32_t kind, producer, partition;
    uint32_t life; /* of the broker: how often it was started again before */
    uint64_t number;
    int64_t offset;
    int64_t at_ms; /* monotonic */
};
_Static_assert(sizeof(struct event) == 40, "in files");

int64_t now_ms(void); /* CLOCK_MONOTONIC, as Python's time.monotonic() */

#endif
