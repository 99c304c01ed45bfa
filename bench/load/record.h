/* record.h: what a record of the load looks like, so that a consumer can tell whether it is whole,
 * whose it is, which of its producer's, and when it was meant to be sent.
 *
 *   offset size field (little endian)
 *   0      4    magic
 *   4      4    run: random, other for each run
 *   8      4    producer
 *   12     4    clock: which machine's clock since which boot the stamp is of
 *   16     8    sequence: of this producer in this partition, from 0 without gaps
 *   24     8    stamp: the intended send time, CLOCK_MONOTONIC, ns
 *   32     4    CRC-32C of bytes 0..31, xor that of bytes 36..end
 *   36     ..   body
 *
 * The xor lets a producer checksum each body of its small set once, and only the head for each
 * record. Threads: a body_set is read-only after init. */
#ifndef BENCH_LOAD_RECORD_H
#define BENCH_LOAD_RECORD_H

#include <stddef.h>
#include <stdint.h>

#define RECORD_HEAD_BYTES 36u
#define RECORD_BYTES_LEAST 40

struct record_head {
    uint32_t run, producer, clock;
    uint64_t sequence, stamp_ns;
};

#define BODY_KINDS 64u
struct body_set { /* bodies that differ from record to record, made once */
    uint8_t *bytes;
    size_t body_bytes;
    uint32_t crc[BODY_KINDS];
};

/* Bodies for values of value_bytes; of each 64 bytes, the share `entropy` is random and the rest
 * always the same. 0 or -ENOMEM. */
int body_set_init(struct body_set *set, size_t value_bytes, double entropy, uint64_t seed);
void body_set_fini(struct body_set *set);

/* Fill value (value_bytes of the set) for a record. */
void record_fill(uint8_t *value, const struct body_set *set, const struct record_head *head);

/* 0; -ENOENT: not a record of a load; -EBADMSG: one that is damaged (only when check_content); ret
 * is then what the head says, damaged or not. */
int record_read(const uint8_t *value, int64_t len, int check_content, struct record_head *ret);

/* The id of the clock that this process stamps with: machine and boot. */
uint32_t record_clock_id(void);

#endif
