/* log_dump_meta.c: the metadata log, record by record. */
#include <errno.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "tools/log_dump.h"
#include "tools/log_out.h"

static const char *const kinds[META_RECORD_KINDS] = {
    [META_CLUSTER] = "cluster",
    [META_DIR_ADD] = "directory",
    [META_TOPIC_CREATE] = "topic",
    [META_TOPIC_DELETE] = "topicDelete",
    [META_PARTITIONS_ADD] = "partitionsAdd",
    [META_TOPIC_CONFIG] = "topicConfig",
    [META_PRODUCER_IDS] = "producerIds",
    [META_EPOCHS_RAISE] = "epochsRaise",
    [META_SHARDS] = "shards",
    [META_START] = "start",
    [META_STOP] = "stop",
    [META_BROKER_CONFIG] = "brokerConfig",
    [META_PARTITION_MOVE] = "partitionMove",
};

static void row_configs(struct json_object *row, const struct meta_record *r)
{
    struct json_object *configs = json_object_new_array();
    char text[512];
    for (unsigned i = 0; i < r->configs_n; i++) {
        snprintf(text, sizeof(text), "%s=%s", r->configs[i].name, r->configs[i].value);
        json_object_array_add(configs, json_object_new_string(text));
    }
    row_add(row, "configs", configs);
}

static struct json_object *row_of_partition(const struct meta_partition *p)
{
    struct json_object *row = row_new(NULL);
    row_uint(row, "number", p->number);
    row_int(row, "shard", p->shard);
    row_int(row, "dir", p->dir);
    row_int(row, "leaderEpoch", p->leader_epoch);
    return row;
}

static void row_record(struct json_object *row, const struct meta_record *r)
{
    static const struct meta_uuid none;
    char id[23];
    row_text(row, "kind", kinds[r->kind]);
    if (memcmp(&r->id, &none, sizeof(none)) != 0) {
        meta_uuid_text(&r->id, id);
        row_text(row, "id", id);
    }
    if (r->name != NULL)
        row_text(row, "name", r->name);
    if (r->kind == META_PRODUCER_IDS || r->kind == META_SHARDS || r->kind == META_BROKER_CONFIG ||
        r->kind == META_PARTITION_MOVE)
        row_uint(row, "value", r->value);
    if (r->partitions_n > 0) {
        struct json_object *partitions = json_object_new_array();
        for (int32_t i = 0; i < r->partitions_n; i++)
            json_object_array_add(partitions, row_of_partition(&r->partitions[i]));
        row_add(row, "partitions", partitions);
    }
    if (r->configs_n > 0)
        row_configs(row, r);
}

struct dumping {
    const struct log_options *o;
    uint64_t sequence;
};

static void on_frame(void *arg, const struct meta_frame *f, uint64_t pos,
                     const struct meta_record *record)
{
    struct dumping *d = arg;
    struct json_object *row = row_new("metadataRecord");
    row_uint(row, "sequence", ++d->sequence);
    row_uint(row, "position", pos);
    row_uint(row, "size", f->len_bytes);
    if (record != NULL)
        row_record(row, record);
    else
        row_text(row, "kind",
                 f->kind == META_FRAME_SNAPSHOT_BEGIN ? "snapshotBegin" : "snapshotEnd");
    out_row(d->o->json, "", row);
}

static int dump_copies(const struct log_options *o, const struct log_metadata *m)
{
    int code = m->rc == 0 ? LOG_EXIT_FINE : LOG_EXIT_DAMAGE;
    for (unsigned i = 0; i < META_LOG_COPIES; i++) {
        const struct meta_copy *c = &m->replay.copy[i];
        struct json_object *row = row_new("metadataCopy");
        row_text(row, "path", m->names[i]);
        row_bool(row, "exists", c->exists);
        row_bool(row, "isvalid", c->whole);
        if (!c->whole && c->exists)
            row_uint(row, "breaksAt", c->break_pos);
        out_row(o->json, "", row);
        code = c->whole ? code : LOG_EXIT_DAMAGE;
    }
    if (m->rc != 0) {
        struct json_object *row = row_new("damage");
        row_text(row, "damage", m->reason);
        out_row(o->json, "", row);
    }
    return code;
}

/* Replays it once more, to see each record go by. */
int dump_metadata(const struct log_options *o, struct log_metadata *m)
{
    struct dumping d = {o, 0};
    if (m->generation == 0)
        return dump_complain(m->reason, -ENOENT);
    dump_heading(o, m->names[0]);
    if (m->replay.merged != NULL) {
        struct topic_config defaults;
        struct meta_replay again = {.header = m->replay.header, .name = m->names[0]};
        topic_config_defaults(&defaults);
        memcpy(again.copy, m->replay.copy, sizeof(again.copy));
        again.on_frame = on_frame;
        again.on_frame_arg = &d;
        again.image = meta_image_create(&defaults);
        if (again.image == NULL)
            return dump_complain(m->names[0], -ENOMEM);
        meta_replay_run(&again);
        meta_image_destroy(again.image);
        free(again.merged);
    }
    return dump_copies(o, m);
}

/* Of a file: both copies of the newest generation in its directory. */
int dump_metadata_file(const struct log_options *o, const char *path)
{
    char dir[PATH_MAX];
    struct log_metadata m = {0};
    snprintf(dir, sizeof(dir), "%s", path);
    metadata_read(&m, dirname(dir));
    int code = dump_metadata(o, &m);
    metadata_free(&m);
    return code;
}
