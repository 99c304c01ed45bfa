#include "tests/fuzz/log_dir.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/assert.h"
#include "core/base/bytes.h"
#include "core/batch/builder.h"
#include "core/log/journal_format.h"

#define LARGE 3000u

static _Atomic uint64_t dirs_offline;
static int64_t ends[LOG_DIR_STATES][LOG_DIR_PARTITIONS_MAX];
static int32_t epoch_behind[LOG_DIR_STATES]; /* the crash that it was left by */

int64_t log_dir_end(enum log_dir_state state, int32_t partition)
{
    return ends[state][partition];
}

/* ---- configuration ---- */

static void partitions_set(struct log_fixture *f, int32_t n, const uint8_t *dirs,
                           int32_t leader_epoch)
{
    f->topic.partitions_n = n;
    for (int32_t i = 0; i < n; i++)
        f->partitions[i] = (struct meta_partition){
            .number = (uint64_t)i + 100, .dir = dirs[i], .leader_epoch = leader_epoch};
}

void log_dir_config(struct log_fixture *f, enum log_dir_state state)
{
    static const char *const data_dirs[] = {"/data", "/data/far"};
    static const struct {
        int32_t partitions_n;
        uint8_t dirs[LOG_DIR_PARTITIONS_MAX];
    } of[LOG_DIR_STATES] = {
        [LOG_DIR_DIRTY] = {2, {0}},
        [LOG_DIR_CLEAN] = {2, {0}},
        [LOG_DIR_KEPT] = {6, {0, LOG_DIR_FAR, LOG_DIR_FAR, 0, LOG_DIR_FAR, LOG_DIR_FAR}},
        [LOG_DIR_FAILED] = {5, {0, LOG_DIR_FAR, LOG_DIR_FAR, 0, 0}},
    };
    bool two = of[state].partitions_n > 2;
    partitions_set(f, of[state].partitions_n, of[state].dirs, epoch_behind[state]);
    f->config.data_dirs = data_dirs;
    f->config.data_dirs_n = two ? 2 : 1;
    f->config.dirs_offline = two ? &dirs_offline : NULL;
    log_dir_away(false);
}

void log_dir_away(bool away)
{
    dirs_offline = away ? UINT64_C(1) << LOG_DIR_FAR : 0;
}

/* ---- making ---- */

int log_dir_append(struct log_fixture *f, int32_t partition, uint32_t value_bytes, int32_t sequence)
{
    static struct log_append unused; /* nobody waits */
    struct batch_builder b;
    uint8_t *data, *value;
    size_t len;
    struct batch_header h;
    batch_builder_init(&b, BATCH_NONE);
    if (sequence >= 0) {
        b.producer_id = LOG_DIR_PRODUCER + partition;
        b.producer_epoch = 0;
        b.base_sequence = sequence;
    }
    ASSERT(batch_builder_add_room(&b, env_wall_ms(f->env), "key", 3, (int32_t)value_bytes,
                                  &value) == 0);
    for (uint32_t i = 0; i < value_bytes; i++)
        value[i] = (uint8_t)('a' + i % 26);
    ASSERT(batch_builder_finish(&b, &data, &len) == 0);
    ASSERT(batch_peek(data, len, &h) == 0);
    int rc = plog_append(fixture_plog(f, partition), data, &h, false, &unused, NULL);
    batch_builder_fini(&b);
    return rc;
}

static void turns(struct log_fixture *f, unsigned n)
{
    while (n-- > 0)
        fixture_turn(f);
}

/* The first large batch of a segment goes through the journal and asks for a file, the next one
 * goes straight there; the third makes it roll. The other partition only ever has a little. */
static void history(struct log_fixture *f, const uint32_t *sizes, unsigned n, int32_t sequence)
{
    for (unsigned i = 0; i < n; i++) {
        mem_world_advance(f->world, 1000000000);
        ASSERT(log_dir_append(f, 0, sizes[i], sequence + (int32_t)i) == 1);
        ASSERT(log_dir_append(f, 1, 200, -1) == 1);
        turns(f, 20);
    }
    turns(f, 200); /* until all is stable, sealed and written down */
}

/* A write and its mark for each, so that the history behind it reaches the end of the ring. */
static void journal_fill(struct log_fixture *f)
{
    for (unsigned i = 0; i < 7; i++) {
        ASSERT(log_dir_append(f, 1, 100, -1) == 1);
        turns(f, 200);
    }
}

static void take(struct log_fixture *f, struct disk *made, struct env *env)
{
    disk_take(made, f->world, env, "/data");
    log_dir_hot(made);
}

static void ends_note(const struct log_fixture *f, enum log_dir_state state)
{
    for (int32_t i = 0; i < f->topic.partitions_n; i++) {
        const struct plog *p = log_store_find(f->store, f->partitions[i].number);
        if (p != NULL && !plog_is_offline(p))
            ends[state][i] = plog_high_watermark(p);
    }
}

static void world_end(struct log_fixture *f, enum log_dir_state state)
{
    fixture_crash(f);
    epoch_behind[state] = f->partitions[0].leader_epoch;
    mem_world_destroy(f->world);
    f->world = NULL;
}

static void dirty_and_clean_make(struct log_fixture *f, struct disk *made)
{
    static const uint32_t before[] = {100, LARGE, LARGE, LARGE, 300, LARGE, LARGE, 300},
                          after[] = {LARGE, LARGE, 100, LARGE};
    ASSERT(fixture_open(f) == 0);
    journal_fill(f);
    history(f, before, ARRAY_LEN(before), 0);
    ends_note(f, LOG_DIR_CLEAN);
    ASSERT(fixture_close(f) == 0);
    struct env *env = env_mem_create(f->world, 0, 1, NULL);
    take(f, &made[LOG_DIR_CLEAN], env);
    env_destroy(env);
    ASSERT(fixture_open(f) == 0);
    history(f, after, ARRAY_LEN(after), ARRAY_LEN(before));
    ends_note(f, LOG_DIR_DIRTY);
    take(f, &made[LOG_DIR_DIRTY], f->env);
    world_end(f, LOG_DIR_DIRTY);
    epoch_behind[LOG_DIR_CLEAN] = epoch_behind[LOG_DIR_DIRTY];
}

/* ---- what was put aside ---- */

static void far_world_make(struct log_fixture *f, enum log_dir_state state)
{
    f->world = mem_world_create(2 + (uint64_t)state);
    log_dir_config(f, state);
    struct env *env = env_mem_create(f->world, 0, 1, NULL);
    struct env_name_step make[] = {{.kind = ENV_STEP_MKDIR, .path = "/data"},
                                   {.kind = ENV_STEP_MKDIR, .path = "/data/far"},
                                   {.kind = ENV_STEP_SYNC_FS, .path = "/"}};
    ASSERT(env_names_wait(env, make, ARRAY_LEN(make)) == 0);
    env_destroy(env);
}

static void fill(struct log_fixture *f, const uint32_t *sizes, unsigned n, int32_t sequence)
{
    for (unsigned i = 0; i < n; i++) {
        mem_world_advance(f->world, 1000000000);
        for (int32_t k = 0; k < f->topic.partitions_n; k++)
            if (log_store_find(f->store, f->partitions[k].number) != NULL)
                ASSERT(log_dir_append(f, k, sizes[i], sequence + (int32_t)i) == 1);
        turns(f, 20);
    }
    turns(f, 200);
}

static void on_departed(struct log_departure *d, int rc)
{
    (void)d;
    ASSERT(rc == 0);
}

/* From now on it is another shard's, or on its way there. */
static void leave(struct log_fixture *f, int32_t partition)
{
    struct log_departure d;
    log_departure_begin(fixture_plog(f, partition), &d, on_departed);
    while (log_store_departed(f->store, f->partitions[partition].number) == NULL)
        turns(f, 1);
    log_departure_end(&d, true);
    free(d.parcel);
    f->partitions[partition].shard = 1;
}

static bool there_is(const struct log_fixture *f, const char *path)
{
    return mem_world_file_size(f->world, path) >= 0;
}

static void start_without(struct log_fixture *f)
{
    fixture_crash(f);
    log_dir_away(true);
    ASSERT(fixture_open(f) == 0);
    ASSERT(there_is(f, "/data/journal.0.parked.1"));
}

static void create(struct log_fixture *f, int32_t partition)
{
    struct plog *p;
    f->partitions[partition].shard = 0;
    ASSERT(log_store_attach(f->store, &f->topic, partition, &p) == 0);
}

/* Partition 1 has something in checkpoint and journal, 5 in the journal only: the first start puts
 * that aside. The second one does so with what the parcel of 2 says. 3 and 4 have parcels; writes
 * in the side file still hold what 4 had before it left. */
static void kept_make(struct log_fixture *f, struct disk *made)
{
    static const uint32_t early[] = {100, LARGE, LARGE, LARGE, 300, 2800},
                          late[] = {100, 2000, LARGE, 50};
    far_world_make(f, LOG_DIR_KEPT);
    f->partitions[5].shard = 1;
    ASSERT(fixture_open(f) == 0);
    fill(f, early, ARRAY_LEN(early), 0);
    ends_note(f, LOG_DIR_KEPT);
    for (int32_t i = 2; i < 5; i++)
        leave(f, i);
    create(f, 5);
    fill(f, late, ARRAY_LEN(late), ARRAY_LEN(early));
    ends_note(f, LOG_DIR_KEPT);
    start_without(f);
    f->partitions[2].shard = 0;
    start_without(f);
    ASSERT(log_dir_append(f, 0, 200, -1) == 1);
    turns(f, 50);
    ends_note(f, LOG_DIR_KEPT);
    ASSERT(there_is(f, "/data/partition.103.moved") && there_is(f, "/data/partition.104.moved"));
    take(f, made, f->env);
    world_end(f, LOG_DIR_KEPT);
}

static void failed_make(struct log_fixture *f, struct disk *made)
{
    static const uint32_t sizes[] = {100, LARGE, LARGE, LARGE, LARGE, 2600, 300};
    static struct log_departure unfinished; /* and its world ends */
    far_world_make(f, LOG_DIR_FAILED);
    ASSERT(fixture_open(f) == 0);
    fill(f, sizes, ARRAY_LEN(sizes), 0);
    ends_note(f, LOG_DIR_FAILED);
    log_dir_away(true);
    while (!there_is(f, "/data/journal.0.parked.1"))
        turns(f, 1);
    leave(f, 3); /* behind a checkpoint: from then on the side file counts */
    log_departure_begin(fixture_plog(f, 4), &unfinished, on_departed);
    while (!there_is(f, "/data/partition.104.moved"))
        turns(f, 1);
    take(f, made, f->env);
    world_end(f, LOG_DIR_FAILED);
    free(unfinished.parcel);
    free(unfinished.path);
}

void log_dir_make(struct log_fixture *f, struct disk made[static LOG_DIR_STATES])
{
    fixture_init(f, 1, 2, 8u << 20, LARGE);
    f->config.journal_bytes = 3 * JOURNAL_WRITE_BYTES_MAX;
    f->topic.config.segment_bytes = 13000;
    f->topic.config.index_interval_bytes = 500;
    dirty_and_clean_make(f, made);
    kept_make(f, &made[LOG_DIR_KEPT]);
    failed_make(f, &made[LOG_DIR_FAILED]);
}
