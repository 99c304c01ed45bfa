#include "core/meta/meta.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/assert.h"
#include "core/base/bytes.h"
#include "core/base/crc32c.h"
#include "core/meta/meta_codec.h"
#include "core/meta/meta_configs.h"

#define TOPICS_CAP_MIN 16u

/* ---- hash tables: open addressing, at most half full; a slot is an index into topics, +1 ---- */

static uint32_t name_hash(const char *name, size_t len)
{
    return crc32c(name, len);
}

static uint32_t id_hash(const struct meta_uuid *id)
{
    uint64_t v = (le_load64(id->b) ^ le_load64(id->b + 8)) * 0x9e3779b97f4a7c15u;
    return (uint32_t)(v >> 32);
}

static uint32_t topic_name_hash(const struct meta_topic *t)
{
    return name_hash(t->name, strlen(t->name));
}

static uint32_t topic_id_hash(const struct meta_topic *t)
{
    return id_hash(&t->id);
}

typedef uint32_t (*topic_hash_fn)(const struct meta_topic *);

static void table_add(const struct meta_image *image, uint32_t *table, topic_hash_fn hash,
                      unsigned index)
{
    uint32_t slot = hash(image->topics[index]) & image->hash_mask;
    while (table[slot] != 0)
        slot = (slot + 1) & image->hash_mask;
    table[slot] = index + 1;
}

static void table_remove(const struct meta_image *image, uint32_t *table, topic_hash_fn hash,
                         unsigned index)
{
    uint32_t mask = image->hash_mask, hole = hash(image->topics[index]) & mask;
    while (table[hole] != index + 1)
        hole = (hole + 1) & mask;
    for (uint32_t i = (hole + 1) & mask; table[i] != 0; i = (i + 1) & mask) {
        uint32_t home = hash(image->topics[table[i] - 1]) & mask;
        if (((i - home) & mask) >= ((i - hole) & mask)) { /* backward shift: no tombstones */
            table[hole] = table[i];
            hole = i;
        }
    }
    table[hole] = 0;
}

/* Topics from index `from` on have moved by one place. */
static void table_renumber(const struct meta_image *image, uint32_t *table, unsigned from, int by)
{
    for (uint32_t i = 0; i <= image->hash_mask; i++)
        if (table[i] > from)
            table[i] += (uint32_t)by;
}

static void tables_fill(struct meta_image *image)
{
    for (unsigned i = 0; i < image->topics_n; i++) {
        table_add(image, image->by_name, topic_name_hash, i);
        table_add(image, image->by_id, topic_id_hash, i);
    }
}

const struct meta_topic *meta_topic_by_name(const struct meta_image *image, const char *name,
                                            size_t len)
{
    if (image->topics_n == 0 || len > META_TOPIC_NAME_MAX)
        return NULL;
    uint32_t slot = name_hash(name, len) & image->hash_mask;
    for (; image->by_name[slot] != 0; slot = (slot + 1) & image->hash_mask) {
        const struct meta_topic *t = image->topics[image->by_name[slot] - 1];
        if (strlen(t->name) == len && memcmp(t->name, name, len) == 0) /* name may hold NULs */
            return t;
    }
    return NULL;
}

/* Index into topics, or -ENOENT. */
static int64_t index_by_id(const struct meta_image *image, const struct meta_uuid *id)
{
    if (image->topics_n == 0)
        return -ENOENT;
    uint32_t slot = id_hash(id) & image->hash_mask;
    for (; image->by_id[slot] != 0; slot = (slot + 1) & image->hash_mask) {
        uint32_t index = image->by_id[slot] - 1;
        if (memcmp(&image->topics[index]->id, id, sizeof(*id)) == 0)
            return index;
    }
    return -ENOENT;
}

const struct meta_topic *meta_topic_by_id(const struct meta_image *image,
                                          const struct meta_uuid *id)
{
    int64_t index = index_by_id(image, id);
    return index < 0 ? NULL : image->topics[index];
}

/* ---- topics: one allocation each, shared by images ---- */

struct topic_parts { /* what a topic is made of; borrowed */
    const struct meta_uuid *id;
    const char *name;
    const struct meta_partition *partitions[2]; /* one behind the other */
    int32_t partitions_n[2];
    const struct meta_config_entry *configs;
    unsigned configs_n;
};

static const char *string_put(char **at, const char *text)
{
    size_t len = strlen(text) + 1;
    char *copy = memcpy(*at, text, len);
    *at += len;
    return copy;
}

static size_t topic_size(const struct topic_parts *p)
{
    size_t size = sizeof(struct meta_topic) + strlen(p->name) + 1;
    size +=
        ((size_t)p->partitions_n[0] + (size_t)p->partitions_n[1]) * sizeof(struct meta_partition);
    size += p->configs_n * sizeof(struct meta_config_entry);
    for (unsigned i = 0; i < p->configs_n; i++)
        size += strlen(p->configs[i].name) + strlen(p->configs[i].value) + 2;
    return size;
}

_Static_assert(sizeof(struct meta_topic) % 8 == 0 && sizeof(struct meta_partition) % 8 == 0,
               "arrays follow one another in one allocation");

static struct meta_topic *topic_make(const struct meta_image *image, const struct topic_parts *p)
{
    struct meta_topic *t = malloc(topic_size(p));
    if (t == NULL)
        return NULL;
    *t = (struct meta_topic){
        .refs = 1, .made_at = image->version + 1, .id = *p->id, .config = image->defaults};
    t->partitions = (struct meta_partition *)(t + 1);
    for (unsigned i = 0; i < 2; i++) {
        if (p->partitions_n[i] > 0)
            memcpy(t->partitions + t->partitions_n, p->partitions[i],
                   (size_t)p->partitions_n[i] * sizeof(*t->partitions));
        t->partitions_n += p->partitions_n[i];
    }
    t->configs = (struct meta_config_entry *)(t->partitions + t->partitions_n);
    t->configs_n = p->configs_n;
    char *text = (char *)(t->configs + t->configs_n);
    t->name = string_put(&text, p->name);
    for (unsigned i = 0; i < p->configs_n; i++) {
        t->configs[i].name = string_put(&text, p->configs[i].name);
        t->configs[i].value = string_put(&text, p->configs[i].value);
        topic_config_set(&t->config, t->configs[i].name, t->configs[i].value, NULL);
    }
    return t;
}

static void topic_unref(struct meta_topic *t)
{
    ASSERT(t->refs > 0);
    if (--t->refs == 0)
        free(t);
}

static struct topic_parts parts_of(const struct meta_topic *t)
{
    return (struct topic_parts){
        .id = &t->id,
        .name = t->name,
        .partitions = {t->partitions},
        .partitions_n = {t->partitions_n},
        .configs = t->configs,
        .configs_n = t->configs_n,
    };
}

/* ---- images ---- */

static int image_reserve(struct meta_image *image, unsigned topics_n)
{
    if (topics_n <= image->topics_cap)
        return 0;
    unsigned cap = MAX(MAX(topics_n, image->topics_cap * 2), TOPICS_CAP_MIN);
    uint32_t slots = TOPICS_CAP_MIN * 2;
    while (slots < cap * 2)
        slots *= 2;
    uint32_t *by_name = calloc(slots, sizeof(*by_name)), *by_id = calloc(slots, sizeof(*by_id));
    struct meta_topic **topics = realloc(image->topics, cap * sizeof(*topics));
    if (topics != NULL)
        image->topics = topics;
    if (by_name == NULL || by_id == NULL || topics == NULL) {
        free(by_name);
        free(by_id);
        return -ENOMEM;
    }
    free(image->by_name);
    free(image->by_id);
    image->by_name = by_name;
    image->by_id = by_id;
    image->topics_cap = cap;
    image->hash_mask = slots - 1;
    tables_fill(image);
    return 0;
}

struct meta_image *meta_image_create(const struct topic_config *defaults)
{
    struct meta_image *image = calloc(1, sizeof(*image));
    if (image != NULL)
        image->defaults = image->static_defaults = *defaults;
    return image;
}

void meta_image_destroy(struct meta_image *image)
{
    if (image == NULL)
        return;
    for (unsigned i = 0; i < image->topics_n; i++)
        topic_unref(image->topics[i]);
    for (unsigned i = 0; i < META_LAYERS; i++)
        meta_configs_unref(image->broker[i]);
    free(image->topics);
    free(image->by_name);
    free(image->by_id);
    free(image);
}

/* A copy that shares every topic, with room for one more. */
static struct meta_image *image_clone(const struct meta_image *from)
{
    struct meta_image *image = malloc(sizeof(*image));
    if (image == NULL)
        return NULL;
    *image = *from;
    for (unsigned i = 0; i < META_LAYERS; i++)
        if (image->broker[i] != NULL)
            image->broker[i]->refs++;
    image->topics = NULL;
    image->by_name = image->by_id = NULL;
    image->topics_n = image->topics_cap = 0;
    if (image_reserve(image, from->topics_n + 1) != 0) {
        meta_image_destroy(image);
        return NULL;
    }
    for (unsigned i = 0; i < from->topics_n; i++) {
        image->topics[i] = from->topics[i];
        image->topics[i]->refs++;
    }
    image->topics_n = from->topics_n;
    if (image->hash_mask == from->hash_mask) {
        memcpy(image->by_name, from->by_name, (image->hash_mask + 1) * sizeof(*image->by_name));
        memcpy(image->by_id, from->by_id, (image->hash_mask + 1) * sizeof(*image->by_id));
    } else {
        tables_fill(image);
    }
    return image;
}

static void image_replace(struct meta_image *image, unsigned index, struct meta_topic *t)
{
    topic_unref(image->topics[index]);
    image->topics[index] = t;
}

/* The topic at index, as one that only this image holds. NULL: out of memory. */
static struct meta_topic *image_own(struct meta_image *image, unsigned index)
{
    if (image->topics[index]->refs > 1) {
        struct topic_parts parts = parts_of(image->topics[index]);
        struct meta_topic *copy = topic_make(image, &parts);
        if (copy == NULL)
            return NULL;
        image_replace(image, index, copy);
    }
    return image->topics[index];
}

static unsigned image_place_of(const struct meta_image *image, const char *name)
{
    unsigned low = 0, high = image->topics_n;
    while (low < high) {
        unsigned middle = low + (high - low) / 2;
        if (strcmp(image->topics[middle]->name, name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void image_insert(struct meta_image *image, struct meta_topic *t, bool sorted)
{
    unsigned index = sorted ? image_place_of(image, t->name) : image->topics_n;
    ASSERT(image->topics_n < image->topics_cap);
    if (index < image->topics_n) {
        table_renumber(image, image->by_name, index, 1);
        table_renumber(image, image->by_id, index, 1);
        memmove(image->topics + index + 1, image->topics + index,
                (image->topics_n - index) * sizeof(*image->topics));
    }
    image->topics[index] = t;
    image->topics_n++;
    image->partitions_total += (uint64_t)t->partitions_n;
    table_add(image, image->by_name, topic_name_hash, index);
    table_add(image, image->by_id, topic_id_hash, index);
}

static void tables_remove(struct meta_image *image, unsigned index)
{
    table_remove(image, image->by_name, topic_name_hash, index);
    table_remove(image, image->by_id, topic_id_hash, index);
}

static void image_remove(struct meta_image *image, unsigned index, bool sorted)
{
    struct meta_topic *t = image->topics[index];
    unsigned last = image->topics_n - 1;
    tables_remove(image, index);
    if (sorted) {
        memmove(image->topics + index, image->topics + index + 1,
                (last - index) * sizeof(*image->topics));
        table_renumber(image, image->by_name, index, -1);
        table_renumber(image, image->by_id, index, -1);
    } else if (index != last) { /* the last one fills the hole */
        tables_remove(image, last);
        image->topics[index] = image->topics[last];
        table_add(image, image->by_name, topic_name_hash, index);
        table_add(image, image->by_id, topic_id_hash, index);
    }
    image->topics_n = last;
    image->partitions_total -= (uint64_t)t->partitions_n;
    topic_unref(t);
}

static int topics_compare(const void *a, const void *b)
{
    const struct meta_topic *const *left = a, *const *right = b;
    return strcmp((*left)->name, (*right)->name);
}

void meta_image_sort(struct meta_image *image)
{
    if (image->topics_n == 0)
        return;
    qsort(image->topics, image->topics_n, sizeof(*image->topics), topics_compare);
    memset(image->by_name, 0, ((size_t)image->hash_mask + 1) * sizeof(*image->by_name));
    memset(image->by_id, 0, ((size_t)image->hash_mask + 1) * sizeof(*image->by_id));
    tables_fill(image);
}

/* ---- changes ---- */

static int partitions_check(struct meta_image *image, const struct meta_record *r,
                            enum meta_change_mode mode)
{
    if (r->partitions_n < 1 || r->partitions_n > META_PARTITIONS_MAX)
        return -EINVAL;
    for (int32_t i = 0; i < r->partitions_n; i++) {
        const struct meta_partition *p = &r->partitions[i];
        if (p->shard >= image->shards || p->dir >= image->dirs_n || p->leader_epoch < 0)
            return -EINVAL;
        if (mode == META_CHANGE_RESTORE && p->number >= image->next_number)
            return -EINVAL;
        if (mode == META_CHANGE_RESTORE)
            continue;
        if (p->number < image->next_number || p->number == UINT64_MAX)
            return -EINVAL;
        image->next_number = p->number + 1;
    }
    return 0;
}

static int change_cluster(struct meta_image *image, const struct meta_record *r,
                          enum meta_change_mode mode)
{
    (void)mode;
    if (meta_uuid_is_zero(&r->id))
        return -EINVAL;
    if (!meta_uuid_is_zero(&image->cluster_id))
        return -EEXIST;
    image->cluster_id = r->id;
    return 0;
}

static int change_dir_add(struct meta_image *image, const struct meta_record *r,
                          enum meta_change_mode mode)
{
    (void)mode;
    if (meta_uuid_is_zero(&r->id) || image->dirs_n == META_DIRS_MAX)
        return -EINVAL;
    for (unsigned i = 0; i < image->dirs_n; i++)
        if (memcmp(&image->dirs[i], &r->id, sizeof(r->id)) == 0)
            return -EEXIST;
    image->dirs[image->dirs_n++] = r->id;
    return 0;
}

static int change_topic_create(struct meta_image *image, const struct meta_record *r,
                               enum meta_change_mode mode)
{
    struct topic_parts parts = {
        .id = &r->id,
        .name = r->name,
        .partitions = {r->partitions},
        .partitions_n = {r->partitions_n},
        .configs = r->configs,
        .configs_n = r->configs_n,
    };
    size_t len = strlen(r->name);
    if (meta_topic_name_check(r->name, len) != 0 || meta_uuid_is_zero(&r->id))
        return -EINVAL;
    if (meta_topic_by_name(image, r->name, len) != NULL || index_by_id(image, &r->id) >= 0)
        return -EEXIST;
    if (partitions_check(image, r, mode) != 0 || meta_configs_check(r, false, mode) != 0)
        return -EINVAL;
    if (image_reserve(image, image->topics_n + 1) != 0)
        return -ENOMEM;
    struct meta_topic *t = topic_make(image, &parts);
    if (t == NULL)
        return -ENOMEM;
    image_insert(image, t, mode == META_CHANGE_NEXT);
    return 0;
}

static int change_topic_delete(struct meta_image *image, const struct meta_record *r,
                               enum meta_change_mode mode)
{
    int64_t index = index_by_id(image, &r->id);
    if (index < 0)
        return -ENOENT;
    image_remove(image, (unsigned)index, mode == META_CHANGE_NEXT);
    return 0;
}

static int change_partitions_add(struct meta_image *image, const struct meta_record *r,
                                 enum meta_change_mode mode)
{
    int64_t index = index_by_id(image, &r->id);
    if (index < 0)
        return -ENOENT;
    struct topic_parts parts = parts_of(image->topics[index]);
    if (partitions_check(image, r, mode) != 0 ||
        parts.partitions_n[0] > META_PARTITIONS_MAX - r->partitions_n)
        return -EINVAL;
    parts.partitions[1] = r->partitions;
    parts.partitions_n[1] = r->partitions_n;
    struct meta_topic *t = topic_make(image, &parts);
    if (t == NULL)
        return -ENOMEM;
    image_replace(image, (unsigned)index, t);
    image->partitions_total += (uint64_t)r->partitions_n;
    return 0;
}

static int change_topic_config(struct meta_image *image, const struct meta_record *r,
                               enum meta_change_mode mode)
{
    int64_t index = index_by_id(image, &r->id);
    if (index < 0)
        return -ENOENT;
    if (meta_configs_check(r, false, mode) != 0)
        return -EINVAL;
    struct topic_parts parts = parts_of(image->topics[index]);
    parts.configs = r->configs;
    parts.configs_n = r->configs_n;
    struct meta_topic *t = topic_make(image, &parts);
    if (t == NULL)
        return -ENOMEM;
    image_replace(image, (unsigned)index, t);
    return 0;
}

static int change_producer_ids(struct meta_image *image, const struct meta_record *r,
                               enum meta_change_mode mode)
{
    (void)mode;
    if (r->value > INT64_MAX || (int64_t)r->value < image->next_producer_id)
        return -EINVAL;
    image->next_producer_id = (int64_t)r->value;
    return 0;
}

/* Raise the epochs of a topic's partitions whose shard is from_shard or above; move those to a
 * shard below shards, which is the same one when nothing moves. */
static int topic_raise(struct meta_image *image, unsigned index, uint16_t from_shard,
                       uint16_t shards)
{
    const struct meta_topic *old = image->topics[index];
    bool any = false;
    for (int32_t i = 0; i < old->partitions_n; i++) {
        any |= old->partitions[i].shard >= from_shard;
        if (old->partitions[i].leader_epoch == INT32_MAX)
            return -EINVAL;
    }
    if (!any)
        return 0;
    struct meta_topic *t = image_own(image, index);
    if (t == NULL)
        return -ENOMEM;
    for (int32_t i = 0; i < t->partitions_n; i++) {
        struct meta_partition *p = &t->partitions[i];
        if (p->shard < from_shard)
            continue;
        p->shard %= shards;
        p->leader_epoch++;
    }
    return 0;
}

static int change_epochs_raise(struct meta_image *image, const struct meta_record *r,
                               enum meta_change_mode mode)
{
    (void)mode;
    (void)r;
    for (unsigned i = 0; i < image->topics_n; i++) {
        int rc = topic_raise(image, i, 0, image->shards);
        if (rc != 0)
            return rc;
    }
    return 0;
}

static int change_shards(struct meta_image *image, const struct meta_record *r,
                         enum meta_change_mode mode)
{
    (void)mode;
    if (r->value < 1 || r->value > UINT16_MAX)
        return -EINVAL;
    uint16_t shards = (uint16_t)r->value;
    for (unsigned i = 0; i < image->topics_n; i++) {
        int rc = topic_raise(image, i, shards, shards);
        if (rc != 0)
            return rc;
    }
    image->shards = shards;
    return 0;
}

/* Every topic has the defaults in it. */
static int topics_remake(struct meta_image *image)
{
    for (unsigned i = 0; i < image->topics_n; i++) {
        struct topic_parts parts = parts_of(image->topics[i]);
        struct meta_topic *t = topic_make(image, &parts);
        if (t == NULL)
            return -ENOMEM;
        image_replace(image, i, t);
    }
    return 0;
}

static int change_broker_config(struct meta_image *image, const struct meta_record *r,
                                enum meta_change_mode mode)
{
    if (r->value >= META_LAYERS || meta_configs_check(r, true, mode) != 0)
        return -EINVAL;
    struct meta_configs *configs = meta_configs_create(r, image->version + 1);
    if (configs == NULL)
        return -ENOMEM;
    meta_configs_unref(image->broker[r->value]);
    image->broker[r->value] = configs;
    image->defaults = image->static_defaults;
    for (unsigned i = 0; i < META_LAYERS; i++)
        meta_configs_apply(image->broker[i], &image->defaults);
    return topics_remake(image);
}

/* Another shard leads it, under the next epoch; everything else of it stays. */
static int change_partition_move(struct meta_image *image, const struct meta_record *r,
                                 enum meta_change_mode mode)
{
    (void)mode;
    int64_t index = index_by_id(image, &r->id);
    if (index < 0)
        return -ENOENT;
    if (r->partitions_n != 1 || r->value >= (uint64_t)image->topics[index]->partitions_n)
        return -EINVAL;
    const struct meta_partition *old = &image->topics[index]->partitions[r->value];
    const struct meta_partition *new = &r->partitions[0];
    if (new->number != old->number || new->dir != old->dir || new->shard >= image->shards ||
        new->shard == old->shard || old->leader_epoch == INT32_MAX ||
        new->leader_epoch != old->leader_epoch + 1)
        return -EINVAL;
    struct meta_partition moved = *new; /* what it is compared with may go */
    struct meta_topic *t = image_own(image, (unsigned)index);
    if (t == NULL)
        return -ENOMEM;
    t->partitions[r->value] = moved;
    return 0;
}

/* Start and stop change nothing but image->clean, which meta_image_change sets. */
static int change_nothing(struct meta_image *image, const struct meta_record *r,
                          enum meta_change_mode mode)
{
    (void)image;
    (void)r;
    (void)mode;
    return 0;
}

typedef int (*change_fn)(struct meta_image *, const struct meta_record *, enum meta_change_mode);
static const change_fn changes[] = {
    [META_CLUSTER] = change_cluster,
    [META_DIR_ADD] = change_dir_add,
    [META_TOPIC_CREATE] = change_topic_create,
    [META_TOPIC_DELETE] = change_topic_delete,
    [META_PARTITIONS_ADD] = change_partitions_add,
    [META_TOPIC_CONFIG] = change_topic_config,
    [META_PRODUCER_IDS] = change_producer_ids,
    [META_EPOCHS_RAISE] = change_epochs_raise,
    [META_SHARDS] = change_shards,
    [META_START] = change_nothing,
    [META_STOP] = change_nothing,
    [META_BROKER_CONFIG] = change_broker_config,
    [META_PARTITION_MOVE] = change_partition_move,
};
_Static_assert(ARRAY_LEN(changes) == META_RECORD_KINDS, "every kind of record has its change");

int meta_image_change(struct meta_image *image, const struct meta_record *r,
                      enum meta_change_mode mode)
{
    if ((unsigned)r->kind >= META_RECORD_KINDS || changes[r->kind] == NULL)
        return -EINVAL;
    int rc = changes[r->kind](image, r, mode);
    if (rc != 0 || mode == META_CHANGE_RESTORE)
        return rc;
    image->version++;
    image->clean = r->kind == META_STOP;
    return 0;
}

int meta_image_apply(const struct meta_image *from, const struct meta_record *r,
                     struct meta_image **ret)
{
    struct meta_image *image = image_clone(from);
    if (image == NULL)
        return -ENOMEM;
    int rc = meta_image_change(image, r, META_CHANGE_NEXT);
    if (rc != 0) {
        meta_image_destroy(image);
        return rc;
    }
    *ret = image;
    return 0;
}
