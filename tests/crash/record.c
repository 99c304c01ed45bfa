#include "tests/crash/record.h"

#include <string.h>
#include <time.h>

#include "core/base/bytes.h"
#include "core/base/rng.h"

#define RECORD_MAGIC 0x4b435043u

struct record_head {
    uint32_t magic, producer;
    uint64_t number;
    uint32_t size, pad;
};
_Static_assert(sizeof(struct record_head) == RECORD_BYTES_MIN, "what RECORD_BYTES_MIN says");

const struct producer_kind producer_kinds[] = {
    {"small", "all", "false", "0", "none", "0", 30, 200, 1200},
    {"mixed", "all", "false", "0", "lz4", "5", 30, 6000, 400},
    {"large", "all", "false", "0", "none", "5", 40000, 400000, 6},
    {"idempotent", "all", "true", "1000000", "none", "1", 30, 1500, 1000},
    {"idempotent zstd", "all", "true", "1000000", "zstd", "10", 100, 3000, 400},
    {"idempotent large", "all", "true", "1000000", "none", "0", 1000, 800000, 6},
    {"leader", "1", "false", "0", "snappy", "1", 30, 1500, 800},
    {"leader large", "1", "false", "0", "none", "5", 1000, 300000, 6},
    {"retrying", "all", "false", "1000000", "gzip", "5", 30, 1500, 200},
};
const unsigned producer_kinds_n = ARRAY_LEN(producer_kinds);

bool kind_is_idempotent(const struct producer_kind *kind)
{
    return strcmp(kind->idempotence, "true") == 0;
}

bool kind_may_repeat(const struct producer_kind *kind)
{
    return !kind_is_idempotent(kind) && strcmp(kind->retries, "0") != 0;
}

bool kind_waits_for_disk(const struct producer_kind *kind)
{
    return strcmp(kind->acks, "all") == 0;
}

static struct rng record_rng(uint32_t producer, uint64_t number)
{
    struct rng rng;
    rng_seed(&rng, number * 64 + producer);
    return rng;
}

uint32_t record_size(uint32_t producer, uint64_t number)
{
    const struct producer_kind *kind = &producer_kinds[producer];
    struct rng rng = record_rng(producer, number);
    return kind->size_min + (uint32_t)(rng_next(&rng) % (kind->size_max - kind->size_min + 1));
}

/* The first half is noise, the second one word again and again: codecs find both. */
static void fill(struct rng *rng, uint8_t *out, uint32_t len)
{
    uint64_t word = 0;
    for (uint32_t at = 0; at < len; at += sizeof(word)) {
        if (at < len / 2 || at == 0)
            word = rng_next(rng);
        memcpy(out + at, &word, MIN(sizeof(word), (size_t)(len - at)));
    }
}

void record_make(uint32_t producer, uint64_t number, uint8_t *out)
{
    uint32_t size = record_size(producer, number);
    struct record_head head = {RECORD_MAGIC, producer, number, size, 0};
    struct rng rng = record_rng(producer, ~number);
    memcpy(out, &head, sizeof(head));
    fill(&rng, out + sizeof(head), size - (uint32_t)sizeof(head));
}

const char *record_check(const uint8_t *bytes, size_t len, uint32_t *ret_producer,
                         uint64_t *ret_number)
{
    static _Thread_local uint8_t wanted[RECORD_BYTES_MAX];
    struct record_head head;
    if (len < sizeof(head))
        return "shorter than any record that was sent";
    memcpy(&head, bytes, sizeof(head));
    if (head.magic != RECORD_MAGIC || head.producer >= producer_kinds_n)
        return "made by no producer";
    if (len != record_size(head.producer, head.number))
        return "of another length than when it was sent";
    record_make(head.producer, head.number, wanted);
    if (memcmp(bytes, wanted, len) != 0)
        return "of other bytes than when it was sent";
    *ret_producer = head.producer;
    *ret_number = head.number;
    return NULL;
}

int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}
