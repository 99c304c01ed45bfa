#include "bench/load/picker.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"

static struct workload workload(uint64_t partitioner, uint64_t keys)
{
    struct workload w;
    workload_init(&w);
    w.partitioner = partitioner;
    w.keys = keys;
    w.batch_bytes = 1000;
    return w;
}

/* The values of UtilsTest.testMurmur2 in Kafka; with 2^31 - 1 partitions the hash itself is seen.
 */
Test(picker, keys_go_where_kafka_sends_them)
{
    static const struct {
        const char *key;
        int32_t hash;
    } vectors[] = {{"21", -973932308},
                   {"foobar", -790332482},
                   {"a-little-bit-long-string", -985981536},
                   {"a-little-bit-longer-string", -1486304829},
                   {"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971},
                   {"abc", 479470107}};
    for (unsigned i = 0; i < ARRAY_LEN(vectors); i++) {
        struct workload w = workload(PARTITIONER_KEYED, 1);
        struct picker p;
        struct rng rng;
        rng_seed(&rng, 1);
        w.key_bytes = strlen(vectors[i].key);
        picker_init(&p, &w, 0, INT32_MAX);
        cr_expect_eq(picker_partition(&p, &rng, (const uint8_t *)vectors[i].key),
                     vectors[i].hash & INT32_MAX, "%s", vectors[i].key);
    }
}

Test(picker, a_key_is_a_number_below_keys_in_digits)
{
    struct workload w = workload(PARTITIONER_KEYED, 12);
    struct picker p;
    struct rng rng;
    unsigned seen = 0;
    rng_seed(&rng, 7);
    w.key_bytes = 8;
    picker_init(&p, &w, 0, 3);
    for (unsigned i = 0; i < 1000; i++) {
        char key[9] = "";
        picker_key(&p, &rng, (uint8_t *)key);
        cr_assert_eq(strspn(key, "0123456789"), 8);
        cr_assert_lt(atoi(key), 12);
        seen |= 1u << atoi(key);
    }
    cr_expect_eq(seen, (1u << 12) - 1, "each key comes");
}

Test(picker, round_robin_takes_each_partition_in_turn)
{
    struct workload w = workload(PARTITIONER_ROUND_ROBIN, 0);
    struct picker p;
    struct rng rng;
    rng_seed(&rng, 1);
    picker_init(&p, &w, 4, 3); /* producer 4 begins behind partition 1 */
    for (int32_t i = 0; i < 9; i++)
        cr_expect_eq(picker_partition(&p, &rng, NULL), (i + 2) % 3);
}

Test(picker, sticky_stays_for_a_batch)
{
    struct workload w = workload(PARTITIONER_STICKY, 0);
    struct picker p;
    struct rng rng;
    unsigned seen = 0;
    rng_seed(&rng, 1);
    picker_init(&p, &w, 0, 4);
    for (unsigned batch = 0; batch < 100; batch++) {
        int32_t first = picker_partition(&p, &rng, NULL);
        seen |= 1u << first;
        for (unsigned i = 0; i < 4; i++) { /* 4 times 250 bytes are a batch of 1000 */
            cr_assert_eq(picker_partition(&p, &rng, NULL), first);
            picker_took(&p, 250);
        }
    }
    cr_expect_eq(seen, 0xf, "each partition has its batches");
}
