#include "bench/load/picker.h"

#include "core/base/murmur2.h"

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

int32_t picker_partition(struct picker *p, struct rng *rng, const uint8_t *key)
{
    uint32_t n = p->partitions_n;
    if (p->w->partitioner == PARTITIONER_ROUND_ROBIN) {
        p->partition = (int32_t)(((uint32_t)p->partition + 1) % n);
    } else if (key != NULL) {
        p->partition = murmur2_partition(key, (uint32_t)p->w->key_bytes, n);
    } else if (p->sticky_bytes >= p->w->batch_bytes) {
        p->partition = (int32_t)rng_below(rng, n);
        p->sticky_bytes = 0;
    }
    return p->partition;
}
