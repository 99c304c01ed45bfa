#include "core/meta/meta_codec.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/base/rng.h"

static struct meta_partition partitions[] = {
    {.number = 0x0102030405060708, .shard = 3, .dir = 1, .leader_epoch = 9},
    {.number = 77, .shard = 65535, .dir = 0, .leader_epoch = INT32_MAX},
};
static struct meta_config_entry configs[] = {{"retention.ms", "5"}, {"cleanup.policy", ""}};

static struct meta_record record_full(enum meta_record_kind kind)
{
    return (struct meta_record){
        .kind = kind,
        .id = {{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}},
        .name = "a.topic",
        .value = 0x1122334455667788,
        .partitions_n = 2,
        .partitions = partitions,
        .configs_n = 2,
        .configs = configs,
    };
}

static bool has(enum meta_record_kind kind, const char *kinds)
{
    return kinds[kind] == 'x';
}

/* Kinds in order:              .CDTDACPESSSBM */
static const char with_id[] = "-xxxxxx------x";
static const char with_value[] = "-------x-x--xx";
static const char with_parts[] = "---x-x-------x";
static const char with_configs[] = "---x--x-----x-";

Test(meta_codec, every_kind_comes_back)
{
    for (int kind = 1; kind < META_RECORD_KINDS; kind++) {
        struct meta_record r = record_full(kind), back;
        struct arena arena;
        uint8_t *bytes = malloc(meta_record_size(&r));
        meta_record_encode(&r, bytes);
        arena_init(&arena, 1 << 20);
        cr_assert_eq(meta_record_decode(bytes, meta_record_size(&r), &arena, &back), 0);
        cr_assert_eq(back.kind, r.kind);
        cr_assert_eq(memcmp(&back.id, &r.id, 16) == 0, has(kind, with_id), "kind %d", kind);
        cr_assert_eq(back.value == r.value, has(kind, with_value), "kind %d", kind);
        cr_assert_eq(back.partitions_n, has(kind, with_parts) ? 2 : 0);
        cr_assert_eq(back.configs_n, has(kind, with_configs) ? 2u : 0u);
        if (kind == META_TOPIC_CREATE) {
            cr_assert_str_eq(back.name, "a.topic");
            for (int i = 0; i < 2; i++) {
                cr_assert_eq(back.partitions[i].number, partitions[i].number);
                cr_assert_eq(back.partitions[i].shard, partitions[i].shard);
                cr_assert_eq(back.partitions[i].dir, partitions[i].dir);
                cr_assert_eq(back.partitions[i].leader_epoch, partitions[i].leader_epoch);
                cr_assert_str_eq(back.configs[i].name, configs[i].name);
                cr_assert_str_eq(back.configs[i].value, configs[i].value);
            }
        }
        arena_fini(&arena);
        free(bytes);
    }
}

/* What is on disk must not change unnoticed. */
Test(meta_codec, golden_bytes)
{
    static const uint8_t golden[] = {
        6,   0,   0,   0,   1,   2,   3,   4,   5,   6,   7,   8,   9,   10,  11,  12,
        13,  14,  15,  16,  2,   0,   0,   0,   12,  0,   'r', 'e', 't', 'e', 'n', 't',
        'i', 'o', 'n', '.', 'm', 's', 1,   0,   0,   0,   '5', 14,  0,   'c', 'l', 'e',
        'a', 'n', 'u', 'p', '.', 'p', 'o', 'l', 'i', 'c', 'y', 0,   0,   0,   0,
    };
    struct meta_record r = record_full(META_TOPIC_CONFIG);
    uint8_t bytes[sizeof(golden)];
    cr_assert_eq(meta_record_size(&r), sizeof(golden));
    meta_record_encode(&r, bytes);
    cr_assert_eq(memcmp(bytes, golden, sizeof(golden)), 0);
}

Test(meta_codec, every_cut_and_every_extension_is_refused)
{
    for (int kind = 1; kind < META_RECORD_KINDS; kind++) {
        struct meta_record r = record_full(kind), back;
        size_t len = meta_record_size(&r);
        struct arena arena;
        arena_init(&arena, 1 << 20);
        uint8_t *bytes = calloc(1, len + 1);
        meta_record_encode(&r, bytes);
        cr_assert_eq(meta_record_decode(bytes, len + 1, &arena, &back), -EBADMSG);
        for (size_t cut = 0; cut < len; cut++) {
            uint8_t *exact = malloc(cut + 1); /* so that the sanitizer sees a read beyond it */
            memcpy(exact, bytes, cut);
            exact = realloc(exact, cut == 0 ? 1 : cut);
            cr_assert_eq(meta_record_decode(exact, cut, &arena, &back), -EBADMSG, "kind %d cut %zu",
                         kind, cut);
            free(exact);
        }
        free(bytes);
        arena_fini(&arena);
    }
}

Test(meta_codec, random_bytes_never_do_harm)
{
    struct rng rng;
    struct meta_record full = record_full(META_TOPIC_CREATE), back;
    size_t len = meta_record_size(&full);
    uint8_t *bytes = malloc(len);
    struct arena arena;
    unsigned refused = 0;
    rng_seed(&rng, 9);
    arena_init(&arena, 1 << 20);
    for (int n = 0; n < 20000; n++) {
        meta_record_encode(&full, bytes);
        for (unsigned k = 0; k <= rng_below(&rng, 4); k++)
            bytes[rng_below(&rng, len)] = (uint8_t)rng_next(&rng);
        arena_reset(&arena);
        int rc = meta_record_decode(bytes, len, &arena, &back);
        cr_assert(rc == 0 || rc == -EBADMSG, "%d", rc);
        refused += rc != 0;
    }
    cr_assert_gt(refused, 1000u);
    free(bytes);
    arena_fini(&arena);
}

Test(meta_codec, lying_counts_allocate_nothing_big)
{
    uint8_t bytes[24] = {META_PARTITIONS_ADD};
    struct meta_record back;
    struct arena arena;
    arena_init(&arena, 4096);
    le_store32(bytes + 20, 100000);
    cr_assert_eq(meta_record_decode(bytes, sizeof(bytes), &arena, &back), -EBADMSG);
    le_store32(bytes + 20, UINT32_MAX);
    cr_assert_eq(meta_record_decode(bytes, sizeof(bytes), &arena, &back), -EBADMSG);
    arena_fini(&arena);
}

Test(meta_codec, strings_with_nul_are_refused)
{
    struct meta_record r = record_full(META_TOPIC_CREATE), back;
    size_t len = meta_record_size(&r);
    uint8_t *bytes = malloc(len);
    struct arena arena;
    arena_init(&arena, 1 << 20);
    meta_record_encode(&r, bytes);
    bytes[4 + 16 + 2 + 3] = 0;
    cr_assert_eq(meta_record_decode(bytes, len, &arena, &back), -EBADMSG);
    free(bytes);
    arena_fini(&arena);
}

Test(meta_frame, any_changed_bit_is_noticed)
{
    uint8_t bytes[64];
    struct meta_frame f;
    memset(bytes, 0xee, sizeof(bytes));
    memcpy(bytes + META_FRAME_BYTES, "payload", 7);
    uint32_t crc = meta_frame_seal(bytes, META_FRAME_RECORD, 7, 0xabcd, 5);
    cr_assert_eq(meta_frame_size(7), 32);
    cr_assert_eq(meta_frame_open(bytes, sizeof(bytes), 0xabcd, 5, &f), 0);
    cr_assert_eq(f.crc, crc);
    cr_assert_eq(f.kind, META_FRAME_RECORD);
    cr_assert_eq(f.payload_len, 7);
    cr_assert_eq(f.len_bytes, 32);
    cr_assert_eq(f.payload, bytes + META_FRAME_BYTES);
    for (unsigned bit = 0; bit < 32 * 8; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        cr_assert_eq(meta_frame_open(bytes, sizeof(bytes), 0xabcd, 5, &f), -EBADMSG, "bit %u", bit);
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    cr_assert_eq(meta_frame_open(bytes, 31, 0xabcd, 5, &f), -EBADMSG);
    cr_assert_eq(meta_frame_open(bytes, 32, 0xabce, 5, &f), -EBADMSG, "another predecessor");
    cr_assert_eq(meta_frame_open(bytes, 32, 0xabcd, 6, &f), -EBADMSG, "another place");
    uint8_t zeros[64] = {0};
    cr_assert_eq(meta_frame_open(zeros, sizeof(zeros), 0, 0, &f), -EBADMSG);
}

Test(meta_header, round_trip_and_damage)
{
    static uint8_t block[4096];
    struct meta_header h = {.generation = 3, .size_bytes = 1 << 20, .id = 99}, back;
    uint32_t crc = meta_header_encode(&h, block);
    cr_assert_eq(meta_header_decode(block, &back), 0);
    cr_assert_eq(back.generation, 3);
    cr_assert_eq(back.size_bytes, 1 << 20);
    cr_assert_eq(back.id, 99);
    cr_assert_eq(back.crc, crc);
    for (unsigned at = 0; at < sizeof(block); at += 7) {
        block[at] ^= 0x10;
        cr_assert_eq(meta_header_decode(block, &back), -EBADMSG, "byte %u", at);
        block[at] ^= 0x10;
    }
}

/* The beginning of a snapshot as it was before brokers had configs: zeros where their count is. */
Test(meta_codec, snapshots_without_layers_are_read)
{
    uint8_t bytes[META_SNAPSHOT_BEGIN_BYTES] = {7};
    struct meta_snapshot_begin begin;
    le_store32(bytes + 40, 1);
    le_store32(bytes + 44, 2);
    le_store16(bytes + 48, 3);
    cr_assert_eq(meta_snapshot_begin_decode(bytes, sizeof(bytes), &begin), 0);
    cr_assert(begin.version == 7 && begin.dirs_n == 1 && begin.topics_n == 2 && begin.shards == 3);
    cr_assert_eq(begin.layers_n, 0);
    le_store16(bytes + 52, META_LAYERS);
    cr_assert_eq(meta_snapshot_begin_decode(bytes, sizeof(bytes), &begin), 0);
    cr_assert_eq(begin.layers_n, META_LAYERS);
    le_store16(bytes + 52, META_LAYERS + 1);
    cr_assert_eq(meta_snapshot_begin_decode(bytes, sizeof(bytes), &begin), -EBADMSG);
}
