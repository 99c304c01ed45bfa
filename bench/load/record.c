#include "bench/load/record.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/bytes.h"
#include "core/base/crc32c.h"
#include "core/base/rng.h"

#define RECORD_MAGIC 0x31425350u /* "PSB1" */
#define CHUNK_BYTES 64u          /* random and fixed bytes alternate within each */
#define BODY_STEP_BYTES 192u     /* between the starts of two bodies */

enum {
    AT_MAGIC = 0,
    AT_RUN = 4,
    AT_PRODUCER = 8,
    AT_CLOCK = 12,
    AT_SEQUENCE = 16,
    AT_STAMP = 24,
    AT_CRC = 32,
};

static void pool_fill(uint8_t *pool, size_t len, double entropy, uint64_t seed)
{
    struct rng rng;
    size_t random_bytes = (size_t)(entropy * CHUNK_BYTES + 0.5);
    rng_seed(&rng, seed);
    for (size_t i = 0; i < len; i++)
        pool[i] = i % CHUNK_BYTES < random_bytes ? (uint8_t)rng_next(&rng)
                                                 : (uint8_t)('a' + i % CHUNK_BYTES % 26);
}

int body_set_init(struct body_set *set, size_t value_bytes, double entropy, uint64_t seed)
{
    size_t body_bytes = value_bytes - RECORD_HEAD_BYTES;
    size_t pool_bytes = body_bytes + BODY_STEP_BYTES * (BODY_KINDS - 1);
    uint8_t *pool = malloc(pool_bytes);
    if (pool == NULL)
        return -ENOMEM;
    pool_fill(pool, pool_bytes, entropy, seed);
    *set = (struct body_set){.bytes = pool, .body_bytes = body_bytes};
    for (unsigned i = 0; i < BODY_KINDS; i++)
        set->crc[i] = crc32c(pool + i * BODY_STEP_BYTES, body_bytes);
    return 0;
}

void body_set_fini(struct body_set *set)
{
    free(set->bytes);
    set->bytes = NULL;
}

void record_fill(uint8_t *value, const struct body_set *set, const struct record_head *head)
{
    unsigned kind = (unsigned)(head->sequence % BODY_KINDS);
    le_store32(value + AT_MAGIC, RECORD_MAGIC);
    le_store32(value + AT_RUN, head->run);
    le_store32(value + AT_PRODUCER, head->producer);
    le_store32(value + AT_CLOCK, head->clock);
    le_store64(value + AT_SEQUENCE, head->sequence);
    le_store64(value + AT_STAMP, head->stamp_ns);
    le_store32(value + AT_CRC, crc32c(value, AT_CRC) ^ set->crc[kind]);
    memcpy(value + RECORD_HEAD_BYTES, set->bytes + kind * BODY_STEP_BYTES, set->body_bytes);
}

int record_read(const uint8_t *value, int64_t len, int check_content, struct record_head *ret)
{
    if (len < RECORD_BYTES_LEAST || le_load32(value + AT_MAGIC) != RECORD_MAGIC)
        return -ENOENT;
    *ret = (struct record_head){
        .run = le_load32(value + AT_RUN),
        .producer = le_load32(value + AT_PRODUCER),
        .clock = le_load32(value + AT_CLOCK),
        .sequence = le_load64(value + AT_SEQUENCE),
        .stamp_ns = le_load64(value + AT_STAMP),
    };
    if (check_content) {
        uint32_t body = crc32c(value + RECORD_HEAD_BYTES, (size_t)len - RECORD_HEAD_BYTES);
        if ((crc32c(value, AT_CRC) ^ body) != le_load32(value + AT_CRC))
            return -EBADMSG;
    }
    return 0;
}

uint32_t record_clock_id(void)
{
    char id[64];
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    ssize_t len = fd >= 0 ? read(fd, id, sizeof(id)) : -1;
    if (fd >= 0)
        close(fd);
    return len > 0 ? crc32c(id, (size_t)len) : 0;
}
