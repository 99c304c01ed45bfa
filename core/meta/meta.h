/* meta.h: the broker's metadata: topics, partitions and who leads them, producer id blocks.
 *
 * A struct meta_image is an immutable snapshot; every shard holds a pointer to the newest that it
 * has applied. Shard 0, the controller, makes the next image from a record, writes the record to
 * the metadata log, publishes the image by message, answers when every shard has applied it, and
 * only then drops the image that nobody uses any more.
 * Threads: images are read-only for all; the functions that make, ref or unref them run on shard 0
 *   (or on the main thread before shards start and after they stop). */
#ifndef CORE_META_META_H
#define CORE_META_META_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/meta/topic_config.h"

#define META_TOPIC_NAME_MAX 249u
#define META_PARTITIONS_MAX 100000 /* of one topic */
#define META_DIRS_MAX 64

struct meta_uuid {
    uint8_t b[16];
};

struct meta_partition {
    uint64_t number;      /* names the partition in journals; never used again */
    uint16_t shard;       /* owner: index of the shard (and of its journal) */
    uint16_t dir;         /* index into meta_image.dirs */
    int32_t leader_epoch; /* never goes down; raised at every unclean start and move */
};

struct meta_config_entry {
    const char *name, *value;
};

/* What was set at runtime for the broker. A process is all of its nodes: they share one set. */
enum meta_layer { META_LAYER_CLUSTER, META_LAYER_NODE, META_LAYERS }; /* the later ones win */
struct meta_configs {
    unsigned refs;    /* private: images that hold it */
    uint64_t made_at; /* version of the image that brought it */
    unsigned n;
    struct meta_config_entry *entries;
};

struct meta_topic {
    unsigned refs;    /* private: images that hold it */
    uint64_t made_at; /* version of the image that brought it: another one, another topic struct */
    struct meta_uuid id;
    const char *name;
    int32_t partitions_n;
    struct meta_partition *partitions;
    unsigned configs_n; /* what was set explicitly */
    struct meta_config_entry *configs;
    struct topic_config config; /* effective: server defaults plus configs */
};

struct meta_image {
    uint64_t version; /* +1 with each record */
    struct meta_uuid cluster_id;
    bool clean;           /* the last record is a clean stop */
    uint64_t next_number; /* first unused partition number */
    int64_t next_producer_id;
    uint16_t shards; /* how many shards partitions are spread over */
    unsigned dirs_n;
    struct meta_uuid dirs[META_DIRS_MAX];
    unsigned topics_n;
    uint64_t partitions_total;
    struct topic_config static_defaults; /* of the server, as it was started */
    struct topic_config defaults; /* with what was set since: what a topic does not set itself */
    struct meta_configs *broker[META_LAYERS]; /* NULL: nothing was set */
    struct meta_topic **topics;               /* sorted by name */
    unsigned topics_cap;                      /* private */
    uint32_t *by_name, *by_id; /* private: hash tables of indices into topics, +1; 0 free */
    uint32_t hash_mask;
};

const struct meta_topic *meta_topic_by_name(const struct meta_image *, const char *name,
                                            size_t len);
const struct meta_topic *meta_topic_by_id(const struct meta_image *, const struct meta_uuid *id);
/* What was set of the broker at runtime, by the one layer; NULL: nothing. */
const char *meta_broker_config(const struct meta_image *, enum meta_layer, const char *name);
uint64_t meta_broker_made_at(const struct meta_image *, enum meta_layer); /* 0: never */
bool meta_uuid_is_zero(const struct meta_uuid *);
/* 22 characters, url-safe base64 without padding, as Kafka prints uuids. */
void meta_uuid_text(const struct meta_uuid *, char ret[23]);
int meta_uuid_parse(const char *text, struct meta_uuid *ret); /* 0 or -EINVAL */
/* Random, never one of the reserved ids; draws from env_random-like 64-bit values. */
void meta_uuid_make(uint64_t random_hi, uint64_t random_lo, struct meta_uuid *ret);
/* 0; -EINVAL: not a legal topic name. -EEXIST from ..._collides: differs only in '.' and '_'. */
int meta_topic_name_check(const char *name, size_t len);
bool meta_topic_name_collides(const struct meta_image *, const char *name);

/* One change. Also the unit of the metadata log. */
enum meta_record_kind {
    META_CLUSTER = 1,    /* cluster_id */
    META_DIR_ADD,        /* dir id */
    META_TOPIC_CREATE,   /* name, id, partitions, configs */
    META_TOPIC_DELETE,   /* id */
    META_PARTITIONS_ADD, /* id, partitions: the new ones only */
    META_TOPIC_CONFIG,   /* id, configs: the whole new set */
    META_PRODUCER_IDS,   /* value: next unused producer id */
    META_EPOCHS_RAISE,   /* every partition's leader epoch + 1 */
    META_SHARDS,         /* value: shard count from now on; partitions of shards >= it move to
                          * (shard % count) and their epochs rise */
    META_START,          /* serving again: not clean any more */
    META_STOP,           /* clean stop: everything in segments, nothing in journals */
    META_BROKER_CONFIG,  /* value: enum meta_layer; configs: the whole new set */
    META_PARTITION_MOVE, /* id, value: index; partitions: the one, with its new shard and its leader
                          * epoch + 1 */
    META_RECORD_KINDS,
};
struct meta_record {
    enum meta_record_kind kind;
    struct meta_uuid id; /* cluster, dir or topic */
    const char *name;
    uint64_t value;
    int32_t partitions_n;
    struct meta_partition
        *partitions; /* create/add: number, shard, dir, leader_epoch set by caller */
    unsigned configs_n;
    struct meta_config_entry *configs;
};

/* The empty image. NULL: out of memory. defaults: effective server-wide topic defaults, copied. */
struct meta_image *meta_image_create(const struct topic_config *defaults);
/* The next image. 0; -ENOENT unknown topic; -EEXIST; -EINVAL impossible record; -ENOMEM.
 * Possible means: partition numbers from next_number on and rising, shard < shards, dir < dirs_n
 * (so META_SHARDS and META_DIR_ADD come first), legal name, configs that topic_config_set takes
 * (of a broker: under the name of the topic key whose default they are; other keys pass). */
int meta_image_apply(const struct meta_image *, const struct meta_record *,
                     struct meta_image **ret);
void meta_image_destroy(struct meta_image *); /* NULL is fine */

#endif
