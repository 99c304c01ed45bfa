#include "core/meta/meta.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/base/rng.h"

static struct meta_uuid uuid_of(uint64_t n)
{
    struct meta_uuid id = {{0}};
    le_store64(id.b, n);
    id.b[15] = 1;
    return id;
}

/* Applies and lets the old image go. */
static int step(struct meta_image **image, const struct meta_record *r)
{
    struct meta_image *next;
    int rc = meta_image_apply(*image, r, &next);
    if (rc != 0)
        return rc;
    meta_image_destroy(*image);
    *image = next;
    return 0;
}

static struct meta_image *image_with(uint16_t shards)
{
    struct topic_config defaults;
    topic_config_defaults(&defaults);
    struct meta_image *image = meta_image_create(&defaults);
    struct meta_record cluster = {.kind = META_CLUSTER, .id = uuid_of(7)};
    struct meta_record dir = {.kind = META_DIR_ADD, .id = uuid_of(8)};
    struct meta_record count = {.kind = META_SHARDS, .value = shards};
    cr_assert_eq(step(&image, &cluster), 0);
    cr_assert_eq(step(&image, &dir), 0);
    cr_assert_eq(step(&image, &count), 0);
    cr_assert_eq(image->version, 3);
    return image;
}

static int topic_create(struct meta_image **image, const char *name, uint64_t id, int32_t n)
{
    struct meta_partition p[64] = {{0}};
    for (int32_t i = 0; i < n; i++) {
        p[i].number = (*image)->next_number + (uint64_t)i;
        p[i].shard = (uint16_t)(i % (*image)->shards);
    }
    struct meta_record r = {.kind = META_TOPIC_CREATE,
                            .id = uuid_of(id),
                            .name = name,
                            .partitions_n = n,
                            .partitions = p};
    return step(image, &r);
}

static const struct meta_topic *find(const struct meta_image *image, const char *name)
{
    return meta_topic_by_name(image, name, strlen(name));
}

Test(meta_uuid, text_is_kafkas_base64)
{
    static const struct {
        uint8_t b[16];
        const char *text;
    } known[] = {
        {{0}, "AAAAAAAAAAAAAAAAAAAAAA"},
        {{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}, "AAAAAAAAAAAAAAAAAAAAAQ"},
        {{255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255},
         "_____________________w"},
        {{0x00, 0x10, 0x83, 0x10, 0x51, 0x87, 0x20, 0x92, 0x8b, 0x30, 0xd3, 0x8f, 0x41, 0x14, 0x93,
          0x51},
         "ABCDEFGHIJKLMNOPQRSTUQ"},
    };
    for (unsigned i = 0; i < ARRAY_LEN(known); i++) {
        struct meta_uuid id, back;
        char text[23];
        memcpy(id.b, known[i].b, 16);
        meta_uuid_text(&id, text);
        cr_assert_str_eq(text, known[i].text);
        cr_assert_eq(meta_uuid_parse(text, &back), 0);
        cr_assert_eq(memcmp(&back, &id, 16), 0);
    }
}

Test(meta_uuid, bad_text)
{
    static const char *const bad[] = {"",
                                      "AAAA",
                                      "AAAAAAAAAAAAAAAAAAAAAAA",
                                      "AAAAAAAAAAAAAAAAAAAAAB",
                                      "AAAAAAAAAA+AAAAAAAAAAA",
                                      "AAAAAAAAAA/AAAAAAAAAAA"};
    struct meta_uuid id = uuid_of(5), before = id;
    for (unsigned i = 0; i < ARRAY_LEN(bad); i++)
        cr_assert_eq(meta_uuid_parse(bad[i], &id), -EINVAL, "%s", bad[i]);
    cr_assert_eq(memcmp(&id, &before, 16), 0);
}

Test(meta_uuid, made_ids_are_random_version_4_and_print_without_a_leading_dash)
{
    struct rng rng;
    rng_seed(&rng, 1);
    for (int i = 0; i < 20000; i++) {
        struct meta_uuid id, back;
        char text[23];
        meta_uuid_make(rng_next(&rng), rng_next(&rng), &id);
        cr_assert_eq(id.b[6] >> 4, 4);
        cr_assert_eq(id.b[8] >> 6, 2);
        meta_uuid_text(&id, text);
        cr_assert_neq(text[0], '-');
        cr_assert_eq(meta_uuid_parse(text, &back), 0);
        cr_assert_eq(memcmp(&back, &id, 16), 0);
    }
    struct meta_uuid id;
    meta_uuid_make(0, 0, &id);
    cr_assert_not(meta_uuid_is_zero(&id));
}

Test(meta_name, legal_and_illegal)
{
    char longest[251];
    memset(longest, 'x', sizeof(longest));
    cr_assert_eq(meta_topic_name_check(longest, 249), 0);
    cr_assert_eq(meta_topic_name_check(longest, 250), -EINVAL);
    static const char *const good[] = {"a", "A-b_c.9", "...", ".a", "__consumer_offsets"};
    static const char *const bad[] = {"", ".", "..", "a b", "a/b", "a:b", "\xc3\xa4", "a\n"};
    for (unsigned i = 0; i < ARRAY_LEN(good); i++)
        cr_assert_eq(meta_topic_name_check(good[i], strlen(good[i])), 0, "%s", good[i]);
    for (unsigned i = 0; i < ARRAY_LEN(bad); i++)
        cr_assert_eq(meta_topic_name_check(bad[i], strlen(bad[i])), -EINVAL, "%s", bad[i]);
    cr_assert_eq(meta_topic_name_check("a\0b", 3), -EINVAL);
}

Test(meta_name, collisions)
{
    struct meta_image *image = image_with(1);
    cr_assert_eq(topic_create(&image, "a.b_c", 1, 1), 0);
    cr_assert(meta_topic_name_collides(image, "a_b.c"));
    cr_assert(meta_topic_name_collides(image, "a.b.c"));
    cr_assert_not(meta_topic_name_collides(image, "a.b_c"));
    cr_assert_not(meta_topic_name_collides(image, "a.b_cd"));
    cr_assert_not(meta_topic_name_collides(image, "a.b"));
    cr_assert_not(meta_topic_name_collides(image, "abc"));
    meta_image_destroy(image);
}

Test(meta_image, empty)
{
    struct topic_config defaults;
    topic_config_defaults(&defaults);
    struct meta_image *image = meta_image_create(&defaults);
    struct meta_uuid id = uuid_of(1);
    cr_assert_null(find(image, "x"));
    cr_assert_null(meta_topic_by_id(image, &id));
    cr_assert_eq(image->version, 0);
    meta_image_destroy(image);
    meta_image_destroy(NULL);
}

Test(meta_image, create_find_delete)
{
    struct meta_image *image = image_with(2);
    cr_assert_eq(topic_create(&image, "b", 1, 3), 0);
    cr_assert_eq(topic_create(&image, "a", 2, 1), 0);
    cr_assert_eq(topic_create(&image, "c", 3, 2), 0);
    cr_assert_eq(image->partitions_total, 6);
    cr_assert_eq(image->next_number, 6);
    cr_assert_str_eq(image->topics[0]->name, "a");
    cr_assert_str_eq(image->topics[2]->name, "c");
    const struct meta_topic *b = find(image, "b");
    struct meta_uuid id = uuid_of(1);
    cr_assert_eq(meta_topic_by_id(image, &id), b);
    cr_assert_eq(b->partitions_n, 3);
    cr_assert_eq(b->partitions[1].number, 1);
    cr_assert_eq(b->partitions[1].shard, 1);
    cr_assert_null(meta_topic_by_name(image, "b\0", 2));
    cr_assert_null(meta_topic_by_name(image, "", 0));
    cr_assert_eq(topic_create(&image, "b", 9, 1), -EEXIST);
    cr_assert_eq(topic_create(&image, "d", 1, 1), -EEXIST);

    struct meta_record gone = {.kind = META_TOPIC_DELETE, .id = uuid_of(1)};
    cr_assert_eq(step(&image, &gone), 0);
    cr_assert_eq(step(&image, &gone), -ENOENT);
    cr_assert_null(find(image, "b"));
    cr_assert_null(meta_topic_by_id(image, &id));
    cr_assert_not_null(find(image, "c"));
    cr_assert_eq(image->partitions_total, 3);
    cr_assert_eq(image->next_number, 6, "numbers are never used again");
    meta_image_destroy(image);
}

Test(meta_image, old_images_stay_as_they_were)
{
    struct meta_image *first = image_with(2), *second, *third;
    cr_assert_eq(topic_create(&first, "t", 1, 2), 0);
    struct meta_partition more[] = {{.number = 2, .shard = 1}};
    struct meta_record add = {
        .kind = META_PARTITIONS_ADD, .id = uuid_of(1), .partitions_n = 1, .partitions = more};
    struct meta_record raise = {.kind = META_EPOCHS_RAISE};
    cr_assert_eq(meta_image_apply(first, &add, &second), 0);
    cr_assert_eq(meta_image_apply(second, &raise, &third), 0);
    cr_assert_eq(find(first, "t")->partitions_n, 2);
    cr_assert_eq(find(second, "t")->partitions_n, 3);
    cr_assert_eq(find(second, "t")->partitions[2].leader_epoch, 0);
    cr_assert_eq(find(third, "t")->partitions[2].leader_epoch, 1);
    cr_assert_eq(find(third, "t")->partitions[0].leader_epoch, 1);
    cr_assert_eq(second->partitions_total, 3);
    meta_image_destroy(second);
    cr_assert_eq(find(first, "t")->partitions[0].leader_epoch, 0);
    cr_assert_str_eq(find(first, "t")->name, "t");
    meta_image_destroy(first);
    cr_assert_str_eq(find(third, "t")->name, "t");
    meta_image_destroy(third);
}

Test(meta_image, untouched_topics_are_shared)
{
    struct meta_image *image = image_with(1), *next;
    cr_assert_eq(topic_create(&image, "a", 1, 1), 0);
    cr_assert_eq(topic_create(&image, "b", 2, 1), 0);
    struct meta_record gone = {.kind = META_TOPIC_DELETE, .id = uuid_of(1)};
    cr_assert_eq(meta_image_apply(image, &gone, &next), 0);
    cr_assert_eq(find(next, "b"), find(image, "b"));
    meta_image_destroy(image);
    cr_assert_str_eq(find(next, "b")->name, "b");
    meta_image_destroy(next);
}

Test(meta_image, configs)
{
    struct meta_image *image = image_with(1);
    cr_assert_eq(topic_create(&image, "t", 1, 1), 0);
    struct meta_config_entry set[] = {{"retention.ms", "5"}, {"segment.bytes", "2097152"}};
    struct meta_record r = {
        .kind = META_TOPIC_CONFIG, .id = uuid_of(1), .configs_n = 2, .configs = set};
    cr_assert_eq(step(&image, &r), 0);
    cr_assert_eq(find(image, "t")->config.retention_ms, 5);
    cr_assert_eq(find(image, "t")->config.segment_bytes, 2097152);
    r.configs_n = 1; /* the whole new set: what is not named returns to its default */
    cr_assert_eq(step(&image, &r), 0);
    cr_assert_eq(find(image, "t")->config.segment_bytes, 1073741824);
    cr_assert_eq(find(image, "t")->configs_n, 1);
    cr_assert_str_eq(find(image, "t")->configs[0].name, "retention.ms");
    cr_assert_str_eq(find(image, "t")->configs[0].value, "5");

    struct meta_config_entry bad[] = {{"retention.ms", "five"}};
    r.configs = bad;
    cr_assert_eq(step(&image, &r), -EINVAL);
    struct meta_config_entry unknown[] = {{"retention.moons", "5"}};
    r.configs = unknown;
    cr_assert_eq(step(&image, &r), -EINVAL);
    struct meta_config_entry twice[] = {{"retention.ms", "5"}, {"retention.ms", "6"}};
    r.configs = twice;
    r.configs_n = 2;
    cr_assert_eq(step(&image, &r), -EINVAL);
    cr_assert_eq(find(image, "t")->config.retention_ms, 5);
    meta_image_destroy(image);
}

Test(meta_image, server_defaults_apply)
{
    struct topic_config defaults;
    topic_config_defaults(&defaults);
    defaults.retention_ms = 1234;
    struct meta_image *image = meta_image_create(&defaults);
    struct meta_record dir = {.kind = META_DIR_ADD, .id = uuid_of(8)};
    struct meta_record count = {.kind = META_SHARDS, .value = 1};
    cr_assert_eq(step(&image, &dir), 0);
    cr_assert_eq(step(&image, &count), 0);
    cr_assert_eq(topic_create(&image, "t", 1, 1), 0);
    cr_assert_eq(find(image, "t")->config.retention_ms, 1234);
    cr_assert_eq(find(image, "t")->configs_n, 0);
    meta_image_destroy(image);
}

Test(meta_image, a_partition_that_moves_gets_the_next_epoch_and_nothing_else)
{
    struct meta_image *image = image_with(3);
    cr_assert_eq(topic_create(&image, "t", 1, 2), 0);
    const struct meta_partition before = find(image, "t")->partitions[1];
    struct meta_partition to = before;
    struct meta_record r = {.kind = META_PARTITION_MOVE,
                            .id = uuid_of(1),
                            .value = 1,
                            .partitions_n = 1,
                            .partitions = &to};
    uint16_t other = (uint16_t)((before.shard + 1) % 3);
    to.shard = other;
    cr_assert_eq(step(&image, &r), -EINVAL, "the same epoch");
    to.leader_epoch = before.leader_epoch + 1;
    to.shard = before.shard;
    cr_assert_eq(step(&image, &r), -EINVAL, "the same shard");
    to.shard = 3;
    cr_assert_eq(step(&image, &r), -EINVAL, "no shard");
    to.shard = other;
    to.number++;
    cr_assert_eq(step(&image, &r), -EINVAL, "another partition");
    to.number--;
    r.value = 2;
    cr_assert_eq(step(&image, &r), -EINVAL, "no partition");
    r.value = 1;
    r.id = uuid_of(2);
    cr_assert_eq(step(&image, &r), -ENOENT);
    r.id = uuid_of(1);
    cr_assert_eq(step(&image, &r), 0);
    const struct meta_partition *after = find(image, "t")->partitions;
    cr_assert_eq(after[1].shard, other);
    cr_assert_eq(after[1].leader_epoch, before.leader_epoch + 1);
    cr_assert_eq(after[1].number, before.number);
    cr_assert_eq(after[0].leader_epoch, before.leader_epoch);
    meta_image_destroy(image);
}

static int broker_set(struct meta_image **image, enum meta_layer layer, const char *name,
                      const char *value)
{
    struct meta_config_entry set[] = {{name, value}};
    struct meta_record r = {
        .kind = META_BROKER_CONFIG, .value = layer, .configs_n = name != NULL, .configs = set};
    return step(image, &r);
}

Test(meta_image, what_is_set_of_the_broker_is_the_default_of_its_topics)
{
    struct meta_image *image = image_with(1);
    cr_assert_eq(topic_create(&image, "t", 1, 1), 0);
    uint64_t made_at = find(image, "t")->made_at;
    cr_assert_eq(broker_set(&image, META_LAYER_CLUSTER, "log.retention.ms", "6"), 0);
    cr_assert_eq(find(image, "t")->config.retention_ms, 6);
    cr_assert_gt(find(image, "t")->made_at, made_at);
    cr_assert_eq(broker_set(&image, META_LAYER_NODE, "log.retention.ms", "5"), 0);
    cr_assert_eq(find(image, "t")->config.retention_ms, 5);
    cr_assert_eq(image->defaults.retention_ms, 5);
    cr_assert_str_eq(meta_broker_config(image, META_LAYER_CLUSTER, "log.retention.ms"), "6");
    cr_assert_eq(topic_create(&image, "u", 2, 1), 0);
    cr_assert_eq(find(image, "u")->config.retention_ms, 5);

    struct meta_config_entry own[] = {{"retention.ms", "4"}};
    struct meta_record r = {
        .kind = META_TOPIC_CONFIG, .id = uuid_of(1), .configs_n = 1, .configs = own};
    cr_assert_eq(step(&image, &r), 0);
    cr_assert_eq(broker_set(&image, META_LAYER_NODE, NULL, NULL), 0); /* takes back */
    cr_assert_eq(find(image, "t")->config.retention_ms, 4);
    cr_assert_eq(find(image, "u")->config.retention_ms, 6);
    cr_assert_null(meta_broker_config(image, META_LAYER_NODE, "log.retention.ms"));
    cr_assert_eq(broker_set(&image, META_LAYER_CLUSTER, NULL, NULL), 0);
    cr_assert_eq(find(image, "u")->config.retention_ms, 604800000);
    meta_image_destroy(image);
}

Test(meta_image, images_before_a_change_of_the_broker_stay_as_they_are)
{
    struct meta_image *image = image_with(1), *next;
    struct meta_config_entry set[] = {{"log.retention.ms", "6"}};
    struct meta_record r = {
        .kind = META_BROKER_CONFIG, .value = META_LAYER_NODE, .configs_n = 1, .configs = set};
    cr_assert_eq(topic_create(&image, "t", 1, 1), 0);
    cr_assert_eq(meta_image_apply(image, &r, &next), 0);
    cr_assert_eq(find(image, "t")->config.retention_ms, 604800000);
    cr_assert_null(meta_broker_config(image, META_LAYER_NODE, "log.retention.ms"));
    cr_assert_eq(meta_broker_made_at(image, META_LAYER_NODE), 0);
    meta_image_destroy(image);
    cr_assert_str_eq(meta_broker_config(next, META_LAYER_NODE, "log.retention.ms"), "6");
    cr_assert_eq(meta_broker_made_at(next, META_LAYER_NODE), next->version);
    meta_image_destroy(next);
}

Test(meta_image, broker_configs_are_checked)
{
    struct meta_image *image = image_with(1);
    cr_assert_eq(broker_set(&image, META_LAYER_NODE, "log.retention.ms", "six"), -EINVAL);
    cr_assert_eq(broker_set(&image, META_LAYERS, "log.retention.ms", "6"), -EINVAL);
    cr_assert_eq(broker_set(&image, META_LAYER_NODE, "max.connections", "6"), 0);
    cr_assert_str_eq(meta_broker_config(image, META_LAYER_NODE, "max.connections"), "6");
    struct meta_config_entry twice[] = {{"a", "1"}, {"a", "2"}};
    struct meta_record r = {.kind = META_BROKER_CONFIG, .configs_n = 2, .configs = twice};
    cr_assert_eq(step(&image, &r), -EINVAL);
    meta_image_destroy(image);
}

Test(meta_image, fewer_shards_move_partitions_and_raise_only_their_epochs)
{
    struct meta_image *image = image_with(4);
    cr_assert_eq(topic_create(&image, "t", 1, 4), 0);
    struct meta_record r = {.kind = META_SHARDS, .value = 3};
    cr_assert_eq(step(&image, &r), 0);
    const struct meta_topic *t = find(image, "t");
    cr_assert_eq(image->shards, 3);
    cr_assert_eq(t->partitions[3].shard, 0);
    cr_assert_eq(t->partitions[3].leader_epoch, 1);
    cr_assert_eq(t->partitions[2].shard, 2);
    cr_assert_eq(t->partitions[2].leader_epoch, 0);
    r.value = 0;
    cr_assert_eq(step(&image, &r), -EINVAL);
    r.value = 65536;
    cr_assert_eq(step(&image, &r), -EINVAL);
    meta_image_destroy(image);
}

Test(meta_image, clean_is_true_only_right_after_a_stop)
{
    struct meta_image *image = image_with(1);
    struct meta_record stop = {.kind = META_STOP}, start = {.kind = META_START};
    cr_assert_not(image->clean);
    cr_assert_eq(step(&image, &stop), 0);
    cr_assert(image->clean);
    cr_assert_eq(step(&image, &start), 0);
    cr_assert_not(image->clean);
    cr_assert_eq(image->version, 5);
    meta_image_destroy(image);
}

Test(meta_image, producer_ids_only_rise)
{
    struct meta_image *image = image_with(1);
    struct meta_record r = {.kind = META_PRODUCER_IDS, .value = 1000};
    cr_assert_eq(step(&image, &r), 0);
    cr_assert_eq(image->next_producer_id, 1000);
    r.value = 999;
    cr_assert_eq(step(&image, &r), -EINVAL);
    r.value = (uint64_t)INT64_MAX + 1;
    cr_assert_eq(step(&image, &r), -EINVAL);
    meta_image_destroy(image);
}

Test(meta_image, impossible_records)
{
    struct meta_image *image = image_with(2);
    cr_assert_eq(topic_create(&image, "t", 1, 2), 0);
    struct meta_partition p = {.number = 2};
    struct meta_record good = {.kind = META_TOPIC_CREATE,
                               .id = uuid_of(2),
                               .name = "u",
                               .partitions_n = 1,
                               .partitions = &p};
    struct meta_record r = good;
    r.name = "no good";
    cr_assert_eq(step(&image, &r), -EINVAL);
    r = good;
    r.id = (struct meta_uuid){{0}};
    cr_assert_eq(step(&image, &r), -EINVAL);
    r = good;
    r.partitions_n = 0;
    cr_assert_eq(step(&image, &r), -EINVAL);
    r.partitions_n = META_PARTITIONS_MAX + 1;
    cr_assert_eq(step(&image, &r), -EINVAL);
    r = good;
    p = (struct meta_partition){.number = 1};
    cr_assert_eq(step(&image, &r), -EINVAL, "a number that was used");
    p = (struct meta_partition){.number = 2, .shard = 2};
    cr_assert_eq(step(&image, &r), -EINVAL);
    p = (struct meta_partition){.number = 2, .dir = 1};
    cr_assert_eq(step(&image, &r), -EINVAL);
    p = (struct meta_partition){.number = 2, .leader_epoch = -1};
    cr_assert_eq(step(&image, &r), -EINVAL);
    p = (struct meta_partition){.number = 2};
    struct meta_record cluster = {.kind = META_CLUSTER, .id = uuid_of(77)};
    cr_assert_eq(step(&image, &cluster), -EEXIST);
    struct meta_record dir = {.kind = META_DIR_ADD, .id = uuid_of(8)};
    cr_assert_eq(step(&image, &dir), -EEXIST);
    for (int kind = -1; kind <= META_RECORD_KINDS + 1; kind += META_RECORD_KINDS + 1) {
        struct meta_record odd = {.kind = (enum meta_record_kind)kind};
        cr_assert_eq(step(&image, &odd), -EINVAL, "kind %d", kind);
    }
    cr_assert_eq(step(&image, &good), 0);
    cr_assert_eq(image->version, 5);
    meta_image_destroy(image);
}

/* Against a plain array: names and ids of what must be there. */
Test(meta_image, random_creates_and_deletes_match_a_model)
{
    enum { NAMES = 300, STEPS = 4000 };
    uint64_t id_of[NAMES] = {0}, ids = 100;
    struct rng rng;
    struct meta_image *image = image_with(3);
    rng_seed(&rng, 42);
    for (int n = 0; n < STEPS; n++) {
        unsigned i = (unsigned)rng_below(&rng, NAMES);
        char name[16];
        snprintf(name, sizeof(name), "topic-%u", i);
        if (id_of[i] == 0) {
            cr_assert_eq(topic_create(&image, name, ++ids, 1), 0);
            id_of[i] = ids;
        } else {
            struct meta_record gone = {.kind = META_TOPIC_DELETE, .id = uuid_of(id_of[i])};
            cr_assert_eq(step(&image, &gone), 0);
            id_of[i] = 0;
        }
        if (n % 50 != 0)
            continue;
        unsigned count = 0;
        for (i = 0; i < NAMES; i++) {
            struct meta_uuid id = uuid_of(id_of[i]);
            snprintf(name, sizeof(name), "topic-%u", i);
            const struct meta_topic *t = find(image, name);
            cr_assert_eq(t != NULL, id_of[i] != 0, "%s", name);
            count += t != NULL;
            if (t != NULL)
                cr_assert_eq(meta_topic_by_id(image, &id), t);
        }
        cr_assert_eq(image->topics_n, count);
        for (i = 1; i < image->topics_n; i++)
            cr_assert_lt(strcmp(image->topics[i - 1]->name, image->topics[i]->name), 0);
    }
    meta_image_destroy(image);
}
