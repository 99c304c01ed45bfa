#include "bench/load/picker.h"

#include "core/base/bytes.h"

void picker_init(struct picker *p, const struct workload *w, uint32_t producer,
                 int32_t partitions_n)
{
    *p = (struct picker){.w = w,
                         .partitions_n = (uint32_t)partitions_n,
                         .partition = (int32_t)(producer % (uint32_t)partitions_n)};
}

void picker_key(const struct picker *p, struct rng *rng, uint8_t *key)
{
    uint64_t n = rng_below(rng, p->w->keys);
    for (uint32_t i = (uint32_t)p->w->key_bytes; i-- > 0; n /= 10)
        key[i] = (uint8_t)('0' + n % 10);
}

/* As Kafka's default partitioner: org.apache.kafka.common.utils.Utils.murmur2. */
static uint32_t murmur2(const uint8_t *data, uint32_t len)
{
    const uint32_t m = 0x5bd1e995;
    uint32_t h = 0x9747b28c ^ len, whole = len & ~3u;
    for (uint32_t i = 0; i < whole; i += 4) {
        uint32_t k = le_load32(data + i) * m;
        h = (h * m) ^ ((k ^ (k >> 24)) * m);
    }
    for (uint32_t i = len; i-- > whole;)
        h ^= (uint32_t)data[i] << (8 * (i - whole));
    if (len > whole)
        h *= m;
    h = (h ^ (h >> 13)) * m;
    return h ^ (h >> 15);
}

int32_t picker_partition(struct picker *p, struct rng *rng, const uint8_t *key)
{
    uint32_t n = p->partitions_n;
    if (p->w->partitioner == PARTITIONER_ROUND_ROBIN) {
        p->partition = (int32_t)(((uint32_t)p->partition + 1) % n);
    } else if (key != NULL) {
        p->partition = (int32_t)((murmur2(key, (uint32_t)p->w->key_bytes) & INT32_MAX) % n);
    } else if (p->sticky_bytes >= p->w->batch_bytes) {
        p->partition = (int32_t)rng_below(rng, n);
        p->sticky_bytes = 0;
    }
    return p->partition;
}
