/* fuzz_meta.c: whatever the two copies of the metadata log may hold.
 * Input: one byte of enum fuzz_flag, then patches (disk.h) of a small log made by the real code. It
 *   is opened on a modelled machine, changed in every way, closed and opened again.
 * Holds: an image agrees with itself; what was changed is there, whole, at the next open. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/assert.h"
#include "core/base/bytes.h"
#include "core/base/crc32c.h"
#include "core/base/logger.h"
#include "core/meta/meta_codec.h"
#include "core/meta/meta_log.h"
#include "tests/fuzz/disk.h"

enum fuzz_flag {
    FUZZ_MEND = 0x01,   /* make checksums right after patching, to get behind them */
    FUZZ_MIRROR = 0x02, /* copy b becomes what copy a is: no repair from a better one */
};

#define DIR "/meta"
#define SIZE_MIN (2 * BLOCK_BYTES)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t len_bytes, size_t max_bytes, unsigned seed);

static struct topic_config defaults;
static struct disk made;
static char reason[256]; /* of the last open that failed */

struct machine {
    struct mem_world *world;
    struct env *env;
    struct meta_log *log;
    struct meta_image *image;
};

static int machine_open(struct machine *m)
{
    m->env = env_mem_create(m->world, 0, 1, NULL);
    int rc = meta_log_open_sized(m->env, DIR, &defaults, SIZE_MIN, &m->log, &m->image, reason,
                                 sizeof(reason));
    ASSERT(rc == 0 || reason[0] != '\0');
    if (rc != 0)
        env_destroy(m->env);
    return rc;
}

static void machine_close(struct machine *m)
{
    meta_image_destroy(m->image);
    meta_log_close(m->log);
    env_destroy(m->env);
}

/* False: this image does not allow it. */
static bool change(struct machine *m, const struct meta_record *r)
{
    struct meta_image *next;
    int rc = meta_image_apply(m->image, r, &next);
    ASSERT(rc == 0 || rc == -ENOENT || rc == -EEXIST || rc == -EINVAL);
    if (rc != 0)
        return false;
    rc = meta_log_append_wait(m->log, r, next);
    ASSERT(rc == 0 || rc == -EFBIG);
    meta_image_destroy(rc == 0 ? m->image : next);
    m->image = rc == 0 ? next : m->image;
    return rc == 0;
}

static struct meta_uuid uuid_of(uint64_t n)
{
    struct meta_uuid id = {{0}};
    le_store64(id.b, n);
    id.b[15] = 1;
    return id;
}

static bool topic_create(struct machine *m, const char *name, uint64_t id)
{
    uint64_t number = m->image->next_number;
    struct meta_partition partitions[2] = {{.number = number}, {.number = number + 1}};
    struct meta_config_entry configs[1] = {{"retention.ms", "1000"}};
    return change(m, &(struct meta_record){.kind = META_TOPIC_CREATE,
                                           .id = uuid_of(id),
                                           .name = name,
                                           .partitions_n = 2,
                                           .partitions = partitions,
                                           .configs_n = 1,
                                           .configs = configs});
}

/* One of each kind. */
static void change_all(struct machine *m, uint64_t topic_id)
{
    struct meta_config_entry configs[2] = {{"segment.bytes", "2000000"},
                                           {"cleanup.policy", "delete"}};
    char name[32];
    snprintf(name, sizeof(name), "topic-%u", (unsigned)topic_id);
    change(m, &(struct meta_record){.kind = META_CLUSTER, .id = uuid_of(1)});
    change(m, &(struct meta_record){.kind = META_DIR_ADD, .id = uuid_of(topic_id + 1)});
    change(m, &(struct meta_record){.kind = META_SHARDS, .value = 2});
    change(m, &(struct meta_record){.kind = META_START});
    topic_create(m, name, topic_id);
    struct meta_partition more = {.number = m->image->next_number, .leader_epoch = 3};
    change(m, &(struct meta_record){.kind = META_PARTITIONS_ADD,
                                    .id = uuid_of(topic_id),
                                    .partitions_n = 1,
                                    .partitions = &more});
    change(m, &(struct meta_record){.kind = META_TOPIC_CONFIG,
                                    .id = uuid_of(topic_id),
                                    .configs_n = 2,
                                    .configs = configs});
    change(m, &(struct meta_record){.kind = META_BROKER_CONFIG,
                                    .value = topic_id % META_LAYERS,
                                    .configs_n = 1,
                                    .configs = &(struct meta_config_entry){"log.roll.ms", "7"}});
    change(m, &(struct meta_record){.kind = META_PRODUCER_IDS,
                                    .value = (uint64_t)m->image->next_producer_id + 1000});
    more.leader_epoch = 4;
    more.shard = 1;
    change(m, &(struct meta_record){.kind = META_PARTITION_MOVE,
                                    .id = uuid_of(topic_id),
                                    .value = 2,
                                    .partitions_n = 1,
                                    .partitions = &more});
    change(m, &(struct meta_record){.kind = META_EPOCHS_RAISE});
    change(m, &(struct meta_record){.kind = META_STOP});
}

static void log_make(void)
{
    struct machine m = {.world = mem_world_create(1)};
    struct env *env = env_mem_create(m.world, 0, 1, NULL);
    struct env_name_step make = {.kind = ENV_STEP_MKDIR, .path = DIR};
    logger_level = LOG_OFF;
    topic_config_defaults(&defaults);
    ASSERT(env_names_wait(env, &make, 1) == 0);
    env_destroy(env);
    ASSERT(machine_open(&m) == 0);
    change_all(&m, 100);
    change_all(&m, 200);
    ASSERT(change(&m, &(struct meta_record){.kind = META_TOPIC_DELETE, .id = uuid_of(100)}));
    disk_take(&made, m.world, m.env, DIR);
    machine_close(&m);
    mem_world_destroy(m.world);
}

/* ---- mending ---- */

static void header_mend(uint8_t *block)
{
    le_store32(block + 8, crc32c(block + 12, BLOCK_BYTES - 12));
}

/* Frame by frame, with the chain and numbers that the log will look for. */
static void file_mend(struct disk_file *f)
{
    uint64_t sequence = 0;
    if (f->used_bytes < BLOCK_BYTES)
        return;
    header_mend(f->bytes);
    uint32_t crc = le_load32(f->bytes + 8);
    for (size_t at = BLOCK_BYTES; at + META_FRAME_BYTES <= f->used_bytes;) {
        uint8_t *frame = f->bytes + at;
        uint32_t payload_len = le_load32(frame);
        unsigned kind = le_load16(frame + 12);
        if (kind == 0 || payload_len > f->used_bytes - at - META_FRAME_BYTES ||
            meta_frame_size(payload_len) > f->used_bytes - at)
            return;
        crc = meta_frame_seal(frame, kind, payload_len, crc, ++sequence);
        at += meta_frame_size(payload_len);
    }
}

static struct disk_file *copy_of(struct disk *d, char which)
{
    for (unsigned i = 0; i < made.files_n; i++)
        if (!d->files[i].is_dir && d->files[i].path[strlen(d->files[i].path) - 1] == which)
            return &d->files[i];
    ASSERT(!"both copies were made");
    return NULL;
}

static void copies_mend(struct disk *d, uint8_t flags)
{
    struct disk_file *a = copy_of(d, 'a'), *b = copy_of(d, 'b');
    if (flags & FUZZ_MEND) {
        file_mend(a);
        file_mend(b);
    }
    if (!(flags & FUZZ_MIRROR))
        return;
    b->bytes = realloc(b->bytes, a->used_bytes + 1u);
    ASSERT(b->bytes != NULL);
    memcpy(b->bytes, a->bytes, a->used_bytes);
    b->used_bytes = a->used_bytes;
    b->size_bytes = a->size_bytes;
    b->removed = a->removed;
}

/* ---- what must hold ---- */

static uint32_t digest(const struct meta_image *image)
{
    uint64_t sequence = 0;
    uint32_t crc = 0;
    uint8_t *bytes = malloc(meta_snapshot_size(image));
    ASSERT(bytes != NULL);
    meta_snapshot_encode(image, bytes, &sequence, &crc);
    free(bytes);
    return crc;
}

static void image_check(const struct meta_image *image)
{
    uint64_t partitions = 0;
    for (unsigned i = 0; i < image->topics_n; i++) {
        const struct meta_topic *t = image->topics[i];
        ASSERT(meta_topic_by_name(image, t->name, strlen(t->name)) == t);
        ASSERT(meta_topic_by_id(image, &t->id) == t);
        ASSERT(meta_topic_name_check(t->name, strlen(t->name)) == 0);
        ASSERT(i == 0 || strcmp(image->topics[i - 1]->name, t->name) < 0);
        for (int32_t k = 0; k < t->partitions_n; k++) {
            ASSERT(t->partitions[k].number < image->next_number);
            ASSERT(t->partitions[k].shard < image->shards);
            ASSERT(t->partitions[k].dir < image->dirs_n);
            ASSERT(t->partitions[k].leader_epoch >= 0);
        }
        partitions += (uint64_t)t->partitions_n;
    }
    ASSERT(partitions == image->partitions_total && image->next_producer_id >= 0);
}

static void use(struct machine *m)
{
    image_check(m->image);
    change_all(m, 300);
    image_check(m->image);
    uint32_t was = digest(m->image);
    uint64_t version = m->image->version;
    machine_close(m);
    if (machine_open(m) != 0) {
        fprintf(stderr, "the log was opened once, but not again: %s\n", reason);
        abort();
    }
    ASSERT(m->image->version == version && digest(m->image) == was);
    machine_close(m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes)
{
    static struct disk patched;
    if (made.files_n == 0)
        log_make();
    if (len_bytes == 0)
        return 0;
    disk_copy(&patched, &made);
    disk_patch(&patched, data + 1, len_bytes - 1);
    copies_mend(&patched, data[0]);
    struct machine m = {.world = mem_world_create(1)};
    struct env *env = env_mem_create(m.world, 0, 1, NULL);
    disk_put(&patched, env);
    env_destroy(env);
    disk_fini(&patched);
    if (machine_open(&m) == 0)
        use(&m);
    mem_world_destroy(m.world);
    return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t len_bytes, size_t max_bytes, unsigned seed)
{
    return disk_mutate(&made, data, len_bytes, max_bytes, seed);
}
