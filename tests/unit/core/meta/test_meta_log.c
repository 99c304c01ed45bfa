/* The metadata log on the modelled machine: a fixed history of changes, crashed at every effect,
 * damaged block by block, starved of space. What is found is compared with the history: image N is
 * known exactly, so nothing can be half there. */
#include "core/meta/meta_log.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/base/logger.h"
#include "core/base/crc32c.h"
#include "core/base/rng.h"
#include "core/meta/meta_codec.h"
#include "io/env_mem.h"

#define DIR "/meta"
#define SMALL_FILE (2 * BLOCK_BYTES)
enum { HISTORY = 300, TOPICS = 8 };

/* ---- the history ---- */

static struct meta_image *images[HISTORY + 1]; /* images[v]: version v */
static uint32_t digests[HISTORY + 1];

static uint32_t image_digest(const struct meta_image *image)
{
    uint64_t sequence = 0;
    uint32_t crc = 0;
    uint8_t *bytes = malloc(meta_snapshot_size(image));
    meta_snapshot_encode(image, bytes, &sequence, &crc);
    free(bytes);
    return crc;
}

struct change { /* a record with room for what it points to */
    struct meta_record r;
    char name[32], value[32], long_value[256];
    struct meta_partition partitions[8];
    struct meta_config_entry configs[2];
};

static struct meta_uuid uuid_of(uint64_t n)
{
    struct meta_uuid id = {{0}};
    le_store64(id.b, n);
    id.b[15] = 1;
    return id;
}

static void partitions_make(struct change *c, const struct meta_image *image, struct rng *rng)
{
    c->r.partitions_n = 1 + (int32_t)rng_below(rng, 8);
    c->r.partitions = c->partitions;
    for (int32_t i = 0; i < c->r.partitions_n; i++)
        c->partitions[i] = (struct meta_partition){.number = image->next_number + (uint64_t)i,
                                                   .shard = (uint16_t)rng_below(rng, image->shards),
                                                   .dir = (uint16_t)rng_below(rng, image->dirs_n)};
}

static void topic_change_make(struct change *c, const struct meta_image *image, struct rng *rng)
{
    unsigned n = (unsigned)rng_below(rng, TOPICS);
    snprintf(c->name, sizeof(c->name), "a-topic-named-%u", n);
    const struct meta_topic *t = meta_topic_by_name(image, c->name, strlen(c->name));
    if (t == NULL) {
        c->r.kind = META_TOPIC_CREATE;
        c->r.id = uuid_of(1000 + image->version);
        c->r.name = c->name;
        partitions_make(c, image, rng);
        return;
    }
    c->r.id = t->id;
    switch (rng_below(rng, 6)) {
    case 0:
        c->r.kind = META_TOPIC_DELETE;
        return;
    case 1:
        c->r.kind = META_PARTITIONS_ADD;
        partitions_make(c, image, rng);
        return;
    default:
        c->r.kind = META_TOPIC_CONFIG;
        snprintf(c->value, sizeof(c->value), "%u", (unsigned)rng_below(rng, 1000000));
        memset(c->long_value, '0' + (int)rng_below(rng, 10), sizeof(c->long_value) - 1);
        c->long_value[100] = ':';
        c->configs[0] = (struct meta_config_entry){"retention.ms", c->value};
        c->configs[1] =
            (struct meta_config_entry){"leader.replication.throttled.replicas", c->long_value};
        c->r.configs = c->configs;
        c->r.configs_n = 2;
    }
}

static void broker_change_make(struct change *c, struct rng *rng)
{
    c->r.kind = META_BROKER_CONFIG;
    c->r.value = rng_below(rng, META_LAYERS);
    snprintf(c->value, sizeof(c->value), "%u", (unsigned)rng_below(rng, 1000000));
    c->configs[0] = (struct meta_config_entry){"log.retention.bytes", c->value};
    c->configs[1] = (struct meta_config_entry){"max.connections", c->value};
    c->r.configs = c->configs;
    c->r.configs_n = (unsigned)rng_below(rng, 3);
}

/* The change that leads from version v to v + 1; always the same one. */
static void change_make(struct change *c, uint64_t v)
{
    struct rng rng;
    rng_seed(&rng, v);
    *c = (struct change){.r = {.kind = META_START}};
    if (v == 0)
        c->r = (struct meta_record){.kind = META_CLUSTER, .id = uuid_of(1)};
    else if (v <= 2)
        c->r = (struct meta_record){.kind = META_DIR_ADD, .id = uuid_of(v + 1)};
    else if (v == 3)
        c->r = (struct meta_record){.kind = META_SHARDS, .value = 3};
    else if (v % 41 == 0)
        c->r = (struct meta_record){.kind = META_EPOCHS_RAISE};
    else if (v % 37 == 0)
        c->r = (struct meta_record){.kind = META_PRODUCER_IDS, .value = v * 1000};
    else if (v % 53 == 0)
        c->r = (struct meta_record){.kind = META_STOP};
    else if (v % 13 == 0)
        broker_change_make(c, &rng);
    else if (v % 59 == 0)
        c->r = (struct meta_record){.kind = META_SHARDS, .value = 2 + v % 3};
    else
        topic_change_make(c, images[v], &rng);
}

static struct topic_config defaults;

static void history_make(void)
{
    logger_level = LOG_ERROR;
    topic_config_defaults(&defaults);
    images[0] = meta_image_create(&defaults);
    digests[0] = image_digest(images[0]);
    for (uint64_t v = 0; v < HISTORY; v++) {
        struct change c;
        change_make(&c, v);
        cr_assert_eq(meta_image_apply(images[v], &c.r, &images[v + 1]), 0, "version %d", (int)v);
        cr_assert_eq(images[v + 1]->version, v + 1);
        digests[v + 1] = image_digest(images[v + 1]);
    }
}

static void history_free(void)
{
    for (uint64_t v = 0; v <= HISTORY; v++)
        meta_image_destroy(images[v]);
}

/* ---- the machine ---- */

struct machine {
    struct mem_world *world;
    struct env *env;
    struct meta_log *log;
    uint64_t acked, asked; /* versions */
    char reason[256];
};

static void machine_start(struct machine *m, uint64_t seed)
{
    *m = (struct machine){.world = mem_world_create(seed)};
    m->env = env_mem_create(m->world, 0, 1, NULL);
    struct env_name_step steps[] = {{.kind = ENV_STEP_MKDIR, .path = DIR},
                                    {.kind = ENV_STEP_SYNC_DIR, .path = "/"}};
    cr_assert_eq(env_names_wait(m->env, steps, 2), 0);
}

static int machine_open(struct machine *m, uint64_t size_min, struct meta_image **ret_image)
{
    return meta_log_open_sized(m->env, DIR, &defaults, size_min, &m->log, ret_image, m->reason,
                               sizeof(m->reason));
}

static void machine_reboot(struct machine *m)
{
    if (m->log != NULL)
        meta_log_close(m->log);
    m->log = NULL;
    env_destroy(m->env);
    mem_world_crash(m->world);
    m->env = env_mem_create(m->world, 0, 1, NULL);
}

static void machine_stop(struct machine *m)
{
    if (m->log != NULL)
        meta_log_close(m->log);
    env_destroy(m->env);
    mem_world_destroy(m->world);
}

/* Opens, and holds what is found against the history. Returns the version. */
static uint64_t open_and_check(struct machine *m, uint64_t size_min)
{
    struct meta_image *image;
    int rc = machine_open(m, size_min, &image);
    cr_assert_eq(rc, 0, "%s (%d)", m->reason, rc);
    uint64_t v = image->version;
    cr_assert(v >= m->acked && v <= m->asked, "version %d is not in %d..%d", (int)v, (int)m->acked,
              (int)m->asked);
    cr_assert_eq(image_digest(image), digests[v], "version %d is not as it was", (int)v);
    cr_assert_eq(image->partitions_total, images[v]->partitions_total);
    meta_image_destroy(image);
    return v;
}

struct pending {
    struct meta_append append;
    struct machine *m;
    uint64_t version;
    bool done;
    int rc;
};

static void on_pending_done(struct meta_append *a, int rc)
{
    struct pending *p = container_of(a, struct pending, append);
    cr_assert_not(p->done);
    p->done = true;
    p->rc = rc;
    if (rc == 0) {
        cr_assert_eq(p->m->acked + 1, p->version, "acknowledged out of order");
        p->m->acked = p->version;
    }
}

/* Up to `queued` appends at once, up to version `to`. 0 or the first error. */
static int changes_append(struct machine *m, uint64_t from, uint64_t to, unsigned queued)
{
    struct pending p[8];
    cr_assert_leq(queued, ARRAY_LEN(p));
    m->acked = from; /* what was found was flushed by open */
    while (from < to) {
        unsigned n = 0;
        for (; n < queued && from < to; n++, from++) {
            struct change c;
            change_make(&c, from);
            p[n] = (struct pending){.m = m, .version = from + 1};
            m->asked = MAX(m->asked, from + 1);
            meta_log_append(m->log, &p[n].append, &c.r, images[from + 1], on_pending_done);
            cr_assert_not(p[n].done, "on_done inside the append");
        }
        while (!p[n - 1].done)
            env_turn(m->env, UINT64_MAX);
        for (unsigned i = 0; i < n; i++) {
            cr_assert(p[i].done);
            if (p[i].rc != 0)
                return p[i].rc;
        }
    }
    return 0;
}

static uint64_t generation_of(struct machine *m)
{
    char name[64];
    for (uint64_t g = 100; g > 0; g--) {
        snprintf(name, sizeof(name), DIR "/penstock-metadata.%d.a", (int)g);
        if (mem_world_exists(m->world, name))
            return g;
    }
    return 0;
}

TestSuite(meta_log, .init = history_make, .fini = history_free);

Test(meta_log, makes_an_empty_log_and_finds_it_again)
{
    struct machine m;
    machine_start(&m, 1);
    cr_assert_eq(open_and_check(&m, META_LOG_SIZE_MIN), 0);
    cr_assert_eq(mem_world_file_size(m.world, DIR "/penstock-metadata.1.a"), META_LOG_SIZE_MIN);
    cr_assert_eq(mem_world_file_size(m.world, DIR "/penstock-metadata.1.b"), META_LOG_SIZE_MIN);
    machine_reboot(&m);
    cr_assert_eq(open_and_check(&m, META_LOG_SIZE_MIN), 0);
    machine_stop(&m);
}

Test(meta_log, history_survives_and_old_generations_go)
{
    struct machine m;
    machine_start(&m, 2);
    open_and_check(&m, SMALL_FILE);
    cr_assert_eq(changes_append(&m, 0, HISTORY, 1), 0);
    uint64_t generation = generation_of(&m);
    cr_assert_geq(generation, 4u, "only %d generations: the test wants several", (int)generation);
    for (uint64_t g = 1; g < generation; g++) {
        char name[64];
        snprintf(name, sizeof(name), DIR "/penstock-metadata.%d.b", (int)g);
        cr_assert_not(mem_world_exists(m.world, name));
    }
    machine_reboot(&m);
    cr_assert_eq(open_and_check(&m, SMALL_FILE), HISTORY);
    machine_stop(&m);
}

Test(meta_log, append_wait)
{
    struct machine m;
    machine_start(&m, 3);
    open_and_check(&m, SMALL_FILE);
    for (uint64_t v = 0; v < 100; v++) {
        struct change c;
        change_make(&c, v);
        cr_assert_eq(meta_log_append_wait(m.log, &c.r, images[v + 1]), 0);
    }
    m.acked = m.asked = 100;
    machine_reboot(&m);
    cr_assert_eq(open_and_check(&m, SMALL_FILE), 100);
    machine_stop(&m);
}

/* No append may leave a size changed or a block unwritten ahead. */
Test(meta_log, files_keep_their_size)
{
    struct machine m;
    machine_start(&m, 4);
    open_and_check(&m, META_LOG_SIZE_MIN);
    cr_assert_eq(changes_append(&m, 0, HISTORY, 4), 0);
    cr_assert_eq(generation_of(&m), 1u);
    cr_assert_eq(mem_world_file_size(m.world, DIR "/penstock-metadata.1.a"), META_LOG_SIZE_MIN);
    machine_stop(&m);
}

/* One run: crash at the nth effect; if crash_again, also while opening. False: no crash came. */
static bool crash_run(uint64_t nth, uint64_t seed, unsigned queued, bool crash_again)
{
    struct machine m;
    struct meta_image *image;
    machine_start(&m, seed);
    mem_world_crash_at_io(m.world, nth);
    int rc = machine_open(&m, SMALL_FILE, &image);
    if (rc == 0) {
        meta_image_destroy(image);
        rc = changes_append(&m, 0, HISTORY, queued);
    }
    bool crashed = mem_world_crashed(m.world);
    cr_assert(rc == 0 || crashed, "rc %d without a crash", rc);
    cr_assert(!crashed || rc == -EIO || m.acked == HISTORY, "rc %d", rc);
    machine_reboot(&m);
    if (crash_again) {
        mem_world_crash_at_io(m.world, 1 + nth % 11);
        if (machine_open(&m, SMALL_FILE, &image) == 0)
            meta_image_destroy(image);
        else
            cr_assert(mem_world_crashed(m.world), "%s", m.reason);
        machine_reboot(&m);
    }
    uint64_t v = open_and_check(&m, SMALL_FILE);
    m.asked = MAX(m.asked, v);
    cr_assert_eq(changes_append(&m, v, MIN(v + 5, (uint64_t)HISTORY), queued), 0);
    machine_reboot(&m);
    open_and_check(&m, SMALL_FILE);
    machine_stop(&m);
    return crashed;
}

Test(meta_log, crash_at_every_effect_one_by_one)
{
    uint64_t nth = 1;
    while (crash_run(nth, nth, 1, nth % 2 == 0))
        nth++;
    cr_assert_geq(nth, 2u * HISTORY, "only %d effects", (int)nth);
}

Test(meta_log, crash_at_every_effect_queued)
{
    uint64_t nth = 1;
    while (crash_run(nth, nth + 7777, 8, nth % 2 == 1))
        nth++;
    cr_assert_geq(nth, 2u * HISTORY / 8, "only %d effects", (int)nth);
}

/* The power fails again and again while a torn copy is repaired: the other must stay whole. */
Test(meta_log, crash_in_every_repair)
{
    struct rng rng;
    unsigned repairs_cut = 0;
    rng_seed(&rng, 77);
    for (uint64_t seed = 0; seed < 1500; seed++) {
        struct machine m;
        struct meta_image *image;
        machine_start(&m, seed);
        mem_world_crash_at_io(m.world, 20 + rng_below(&rng, 60));
        int rc = machine_open(&m, SMALL_FILE, &image);
        if (rc == 0) {
            meta_image_destroy(image);
            changes_append(&m, 0, HISTORY, 8);
        }
        for (int again = 0; again < 4; again++) {
            machine_reboot(&m);
            mem_world_crash_at_io(m.world, 1 + rng_below(&rng, 2));
            rc = machine_open(&m, SMALL_FILE, &image);
            cr_assert(rc == 0 || mem_world_crashed(m.world), "seed %d: %s", (int)seed, m.reason);
            repairs_cut += rc != 0;
            if (rc == 0)
                meta_image_destroy(image);
        }
        machine_reboot(&m);
        open_and_check(&m, SMALL_FILE);
        machine_stop(&m);
    }
    cr_assert_gt(repairs_cut, 1000u);
}

/* ---- damage ---- */

#define COPY_A DIR "/penstock-metadata.1.a"
#define COPY_B DIR "/penstock-metadata.1.b"
#define DAMAGE_FILE (16 * BLOCK_BYTES)
enum { DAMAGE_VERSION = 150 };

static void damage_start(struct machine *m)
{
    machine_start(m, 5);
    open_and_check(m, DAMAGE_FILE);
    cr_assert_eq(changes_append(m, 0, DAMAGE_VERSION, 3), 0);
    cr_assert_eq(generation_of(m), 1u);
    meta_log_close(m->log);
    m->log = NULL;
}

static void copies_are_equal(struct machine *m)
{
    static uint8_t a[DAMAGE_FILE], b[DAMAGE_FILE];
    cr_assert_eq(mem_world_read_file(m->world, COPY_A, a, sizeof(a), 0), sizeof(a));
    cr_assert_eq(mem_world_read_file(m->world, COPY_B, b, sizeof(b), 0), sizeof(b));
    cr_assert_eq(memcmp(a, b, sizeof(a)), 0);
}

static void repaired(struct machine *m)
{
    cr_assert_eq(open_and_check(m, DAMAGE_FILE), DAMAGE_VERSION);
    copies_are_equal(m);
    machine_reboot(m);
    cr_assert_eq(open_and_check(m, DAMAGE_FILE), DAMAGE_VERSION);
    machine_stop(m);
}

Test(meta_log, damage_of_any_block_of_one_copy_is_repaired)
{
    for (unsigned block = 0; block < 16; block++) {
        for (unsigned copy = 0; copy < 2; copy++) {
            struct machine m;
            damage_start(&m);
            cr_assert_eq(mem_world_corrupt(m.world, copy == 0 ? COPY_A : COPY_B,
                                           block * BLOCK_BYTES, BLOCK_BYTES),
                         0);
            repaired(&m);
        }
    }
}

Test(meta_log, damage_of_different_blocks_of_both_copies_is_repaired)
{
    struct machine m;
    damage_start(&m);
    cr_assert_eq(mem_world_corrupt(m.world, COPY_A, 0, 2 * BLOCK_BYTES), 0);
    cr_assert_eq(mem_world_corrupt(m.world, COPY_B, 4 * BLOCK_BYTES + 100, 1), 0);
    repaired(&m);
}

Test(meta_log, damage_of_the_same_block_of_both_copies_is_reported)
{
    for (unsigned block = 0; block < 16; block++) {
        struct machine m;
        struct meta_image *image;
        damage_start(&m);
        cr_assert_eq(mem_world_corrupt(m.world, COPY_A, block * BLOCK_BYTES, BLOCK_BYTES), 0);
        cr_assert_eq(mem_world_corrupt(m.world, COPY_B, block * BLOCK_BYTES, BLOCK_BYTES), 0);
        cr_assert_eq(machine_open(&m, DAMAGE_FILE, &image), -EIO, "block %u", block);
        cr_assert_not_null(strstr(m.reason, COPY_A), "%s", m.reason);
        cr_assert_not_null(strstr(m.reason, "byte "), "%s", m.reason);
        machine_stop(&m);
    }
}

Test(meta_log, unreadable_blocks_of_one_copy_are_repaired)
{
    for (uint64_t nth = 1; nth <= 4; nth++) { /* two headers, then the two files */
        struct machine m;
        damage_start(&m);
        mem_world_fail_at(m.world, MEM_FAULT_READ_EIO, nth);
        repaired(&m);
    }
}

static void step_run(struct machine *m, struct env_name_step step)
{
    struct env_name_step steps[] = {step, {.kind = ENV_STEP_SYNC_DIR, .path = DIR}};
    cr_assert_eq(env_names_wait(m->env, steps, 2), 0);
}

Test(meta_log, missing_or_cut_copy_is_made_again)
{
    for (unsigned copy = 0; copy < 2; copy++) {
        const char *name = copy == 0 ? COPY_A : COPY_B;
        struct machine m;
        damage_start(&m);
        step_run(&m, (struct env_name_step){.kind = ENV_STEP_UNLINK, .path = name});
        repaired(&m);
        for (uint64_t size = 0; size < DAMAGE_FILE; size += 3 * BLOCK_BYTES) {
            damage_start(&m);
            step_run(&m, (struct env_name_step){
                             .kind = ENV_STEP_RESIZE, .path = name, .size_bytes = size});
            repaired(&m);
        }
    }
}

Test(meta_log, copies_of_two_logs_are_refused)
{
    struct machine m;
    struct meta_image *image;
    damage_start(&m);
    step_run(&m, (struct env_name_step){.kind = ENV_STEP_MKDIR, .path = "/other"});
    cr_assert_eq(meta_log_open_sized(m.env, "/other", &defaults, DAMAGE_FILE, &m.log, &image,
                                     m.reason, sizeof(m.reason)),
                 0);
    meta_image_destroy(image);
    meta_log_close(m.log);
    m.log = NULL;
    step_run(&m, (struct env_name_step){.kind = ENV_STEP_RENAME,
                                        .path = "/other/penstock-metadata.1.b",
                                        .path2 = COPY_B});
    cr_assert_eq(machine_open(&m, DAMAGE_FILE, &image), -EIO);
    cr_assert_not_null(strstr(m.reason, "not copies of one log"), "%s", m.reason);
    machine_stop(&m);
}

Test(meta_log, strange_names_are_left_alone)
{
    struct machine m;
    damage_start(&m);
    static const char *const strange[] = {
        DIR "/penstock-metadata.01.a",
        DIR "/penstock-metadata.2.c",
        DIR "/penstock-metadata.x.a",
        DIR "/penstock-metadata.2.a.old",
        DIR "/penstock-metadata.",
        DIR "/other.new",
        DIR "/penstock-metadata.99999999999999999999999.a",
    };
    for (unsigned i = 0; i < ARRAY_LEN(strange); i++)
        step_run(&m, (struct env_name_step){
                         .kind = ENV_STEP_PUT, .path = strange[i], .data = "x", .data_len = 1});
    step_run(&m, (struct env_name_step){
                     .kind = ENV_STEP_PUT, .path = COPY_A ".new", .data = "x", .data_len = 1});
    open_and_check(&m, DAMAGE_FILE);
    for (unsigned i = 0; i < ARRAY_LEN(strange); i++)
        cr_assert(mem_world_exists(m.world, strange[i]), "%s", strange[i]);
    cr_assert_not(mem_world_exists(m.world, COPY_A ".new"), "an unfinished file is removed");
    machine_stop(&m);
}

/* ---- failing appends ---- */

Test(meta_log, a_failed_write_is_sticky)
{
    for (uint64_t nth = 1; nth <= 2; nth++) {
        struct machine m;
        machine_start(&m, 6);
        open_and_check(&m, SMALL_FILE);
        cr_assert_eq(changes_append(&m, 0, 20, 2), 0);
        mem_world_fail_at(m.world, MEM_FAULT_WRITE_EIO, nth);
        cr_assert_eq(changes_append(&m, 20, 24, 4), -EIO);
        cr_assert_eq(m.acked, 20u);
        cr_assert_eq(changes_append(&m, 20, 21, 1), -EIO, "sticky");
        machine_reboot(&m);
        open_and_check(&m, SMALL_FILE);
        machine_stop(&m);
    }
}

Test(meta_log, no_space_for_the_next_generation_fails_the_append_and_no_more)
{
    struct machine m;
    machine_start(&m, 7);
    open_and_check(&m, SMALL_FILE);
    mem_world_fail_at(m.world, MEM_FAULT_ENOSPC, 1);
    int rc = changes_append(&m, 0, HISTORY, 4);
    cr_assert_eq(rc, -ENOSPC);
    cr_assert_eq(generation_of(&m), 1u);
    cr_assert_not(mem_world_exists(m.world, DIR "/penstock-metadata.2.a.new"));
    cr_assert_eq(changes_append(&m, m.acked, HISTORY, 4), 0);
    machine_reboot(&m);
    cr_assert_eq(open_and_check(&m, SMALL_FILE), HISTORY);
    machine_stop(&m);
}

Test(meta_log, every_fault_while_making_a_generation_loses_nothing)
{
    static const enum mem_fault kinds[] = {MEM_FAULT_WRITE_EIO, MEM_FAULT_WRITE_SHORT,
                                           MEM_FAULT_NAME_EIO, MEM_FAULT_ENOSPC};
    unsigned failures = 0;
    for (unsigned k = 0; k < ARRAY_LEN(kinds); k++) {
        for (uint64_t nth = 1; nth <= 14; nth++) {
            struct machine m;
            machine_start(&m, 100 * k + nth);
            open_and_check(&m, SMALL_FILE);
            mem_world_fail_at(m.world, kinds[k], nth);
            failures += changes_append(&m, 0, HISTORY, 8) != 0;
            mem_world_fail_at(m.world, kinds[k], 0);
            machine_reboot(&m);
            open_and_check(&m, SMALL_FILE);
            machine_stop(&m);
        }
    }
    cr_assert_geq(failures, 30u, "only %u of the faults were met", failures);
}

/* ---- size ---- */

Test(meta_log, a_topic_bigger_than_the_file)
{
    struct machine m;
    struct meta_image *image, *next;
    machine_start(&m, 8);
    open_and_check(&m, META_LOG_SIZE_MIN);
    cr_assert_eq(changes_append(&m, 0, 4, 4), 0);
    struct meta_partition *p = calloc(META_PARTITIONS_MAX, sizeof(*p));
    for (uint64_t i = 0; i < META_PARTITIONS_MAX; i++)
        p[i].number = images[4]->next_number + i;
    struct meta_record r = {.kind = META_TOPIC_CREATE,
                            .id = uuid_of(5),
                            .name = "huge",
                            .partitions_n = META_PARTITIONS_MAX,
                            .partitions = p};
    cr_assert_eq(meta_image_apply(images[4], &r, &next), 0);
    cr_assert_eq(meta_log_append_wait(m.log, &r, next), 0);
    cr_assert_eq(generation_of(&m), 2u);
    meta_image_destroy(next);
    machine_reboot(&m);
    cr_assert_eq(machine_open(&m, META_LOG_SIZE_MIN, &image), 0, "%s", m.reason);
    const struct meta_topic *t = meta_topic_by_name(image, "huge", 4);
    cr_assert_not_null(t);
    cr_assert_eq(t->partitions_n, META_PARTITIONS_MAX);
    cr_assert_eq(t->partitions[99999].number, images[4]->next_number + 99999);
    cr_assert_eq(image->version, 5u);
    meta_image_destroy(image);
    free(p);
    machine_stop(&m);
}

Test(meta_log, configs_take_effect_with_the_defaults_of_the_day)
{
    struct machine m;
    struct meta_image *image;
    machine_start(&m, 9);
    open_and_check(&m, SMALL_FILE);
    cr_assert_eq(changes_append(&m, 0, HISTORY, 4), 0);
    machine_reboot(&m);
    defaults.segment_bytes = 5000000;
    cr_assert_eq(machine_open(&m, SMALL_FILE, &image), 0);
    unsigned set = 0;
    for (unsigned i = 0; i < image->topics_n; i++) {
        const struct meta_topic *t = image->topics[i];
        cr_assert_eq(t->config.segment_bytes, 5000000);
        if (t->configs_n == 2) {
            cr_assert_eq(t->config.retention_ms, atoll(t->configs[0].value));
            set++;
        }
    }
    cr_assert_gt(set, 0u);
    meta_image_destroy(image);
    machine_stop(&m);
}
