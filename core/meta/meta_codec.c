#include "core/meta/meta_codec.h"

#include <errno.h>
#include <string.h>

#include "core/base/assert.h"
#include "core/base/bytes.h"
#include "core/base/crc32c.h"

#define PARTITION_BYTES 16u
#define RECORD_HEAD_BYTES 4u

enum field { ID = 1, NAME = 2, VALUE = 4, PARTITIONS = 8, CONFIGS = 16 };

static const uint8_t fields_of[META_RECORD_KINDS] = {
    [META_CLUSTER] = ID,
    [META_DIR_ADD] = ID,
    [META_TOPIC_CREATE] = ID | NAME | PARTITIONS | CONFIGS,
    [META_TOPIC_DELETE] = ID,
    [META_PARTITIONS_ADD] = ID | PARTITIONS,
    [META_TOPIC_CONFIG] = ID | CONFIGS,
    [META_PRODUCER_IDS] = VALUE,
    [META_EPOCHS_RAISE] = 0,
    [META_SHARDS] = VALUE,
    [META_START] = 0,
    [META_STOP] = 0,
    [META_BROKER_CONFIG] = VALUE | CONFIGS,
    [META_PARTITION_MOVE] = ID | VALUE | PARTITIONS,
};

/* ---- writing: the caller has made room for all of it ---- */

static void put16(uint8_t **at, uint16_t v)
{
    le_store16(*at, v);
    *at += 2;
}

static void put32(uint8_t **at, uint32_t v)
{
    le_store32(*at, v);
    *at += 4;
}

static void put64(uint8_t **at, uint64_t v)
{
    le_store64(*at, v);
    *at += 8;
}

static void put_bytes(uint8_t **at, const void *data, size_t len)
{
    memcpy(*at, data, len);
    *at += len;
}

size_t meta_record_size(const struct meta_record *r)
{
    unsigned fields = fields_of[r->kind];
    size_t size = RECORD_HEAD_BYTES;
    if (fields & ID)
        size += sizeof(r->id.b);
    if (fields & NAME)
        size += 2 + strlen(r->name);
    if (fields & VALUE)
        size += 8;
    if (fields & PARTITIONS)
        size += 4 + (size_t)r->partitions_n * PARTITION_BYTES;
    if (fields & CONFIGS)
        size += 4;
    for (unsigned i = 0; (fields & CONFIGS) && i < r->configs_n; i++)
        size += 2 + strlen(r->configs[i].name) + 4 + strlen(r->configs[i].value);
    return size;
}

static void put_partitions(uint8_t **at, const struct meta_record *r)
{
    put32(at, (uint32_t)r->partitions_n);
    for (int32_t i = 0; i < r->partitions_n; i++) {
        put64(at, r->partitions[i].number);
        put16(at, r->partitions[i].shard);
        put16(at, r->partitions[i].dir);
        put32(at, (uint32_t)r->partitions[i].leader_epoch);
    }
}

static void put_configs(uint8_t **at, const struct meta_record *r)
{
    put32(at, r->configs_n);
    for (unsigned i = 0; i < r->configs_n; i++) {
        size_t name_len = strlen(r->configs[i].name), value_len = strlen(r->configs[i].value);
        put16(at, (uint16_t)name_len);
        put_bytes(at, r->configs[i].name, name_len);
        put32(at, (uint32_t)value_len);
        put_bytes(at, r->configs[i].value, value_len);
    }
}

void meta_record_encode(const struct meta_record *r, uint8_t *bytes)
{
    unsigned fields = fields_of[r->kind];
    uint8_t *at = bytes;
    put16(&at, (uint16_t)r->kind);
    put16(&at, 0);
    if (fields & ID)
        put_bytes(&at, r->id.b, sizeof(r->id.b));
    if (fields & NAME) {
        put16(&at, (uint16_t)strlen(r->name));
        put_bytes(&at, r->name, strlen(r->name));
    }
    if (fields & VALUE)
        put64(&at, r->value);
    if (fields & PARTITIONS)
        put_partitions(&at, r);
    if (fields & CONFIGS)
        put_configs(&at, r);
    ASSERT((size_t)(at - bytes) == meta_record_size(r));
}

/* ---- reading: every step checks what is left; rc is sticky ---- */

struct reader {
    const uint8_t *at;
    size_t left;
    struct arena *arena;
    int rc;
};

static const uint8_t *take(struct reader *in, size_t len)
{
    if (in->rc == 0 && len > in->left)
        in->rc = -EBADMSG;
    if (in->rc != 0)
        return NULL;
    const uint8_t *p = in->at;
    in->at += len;
    in->left -= len;
    return p;
}

static uint16_t take16(struct reader *in)
{
    const uint8_t *p = take(in, 2);
    return p == NULL ? 0 : le_load16(p);
}

static uint32_t take32(struct reader *in)
{
    const uint8_t *p = take(in, 4);
    return p == NULL ? 0 : le_load32(p);
}

static uint64_t take64(struct reader *in)
{
    const uint8_t *p = take(in, 8);
    return p == NULL ? 0 : le_load64(p);
}

static void take_id(struct reader *in, struct meta_uuid *ret)
{
    const uint8_t *p = take(in, sizeof(ret->b));
    if (p != NULL)
        memcpy(ret->b, p, sizeof(ret->b));
}

static const char *take_text(struct reader *in, size_t len, size_t len_max)
{
    const uint8_t *p = len > len_max ? NULL : take(in, len);
    if (p == NULL || memchr(p, '\0', len) != NULL) {
        in->rc = in->rc == 0 ? -EBADMSG : in->rc;
        return NULL;
    }
    char *text = arena_alloc(in->arena, len + 1);
    if (text == NULL) {
        in->rc = -ENOMEM;
        return NULL;
    }
    memcpy(text, p, len);
    text[len] = '\0';
    return text;
}

/* A count of things of at least size_min bytes each. */
static uint32_t take_count(struct reader *in, uint32_t count_max, size_t size_min)
{
    uint32_t count = take32(in);
    if (in->rc == 0 && (count > count_max || count > in->left / size_min))
        in->rc = -EBADMSG;
    return in->rc == 0 ? count : 0;
}

static void *take_array(struct reader *in, size_t count, size_t size)
{
    void *array = in->rc != 0 ? NULL : arena_array(in->arena, MAX(count, (size_t)1), size);
    if (array == NULL && in->rc == 0)
        in->rc = -ENOMEM;
    return array;
}

static void take_partitions(struct reader *in, struct meta_record *r)
{
    uint32_t n = take_count(in, META_PARTITIONS_MAX, PARTITION_BYTES);
    r->partitions = take_array(in, n, sizeof(*r->partitions));
    for (uint32_t i = 0; in->rc == 0 && i < n; i++) {
        struct meta_partition *p = &r->partitions[i];
        p->number = take64(in);
        p->shard = take16(in);
        p->dir = take16(in);
        p->leader_epoch = (int32_t)take32(in);
    }
    r->partitions_n = (int32_t)n;
}

static void take_configs(struct reader *in, struct meta_record *r)
{
    r->configs_n = take_count(in, META_CONFIGS_MAX, 6);
    r->configs = take_array(in, r->configs_n, sizeof(*r->configs));
    for (unsigned i = 0; in->rc == 0 && i < r->configs_n; i++) {
        r->configs[i].name = take_text(in, take16(in), UINT16_MAX);
        r->configs[i].value = take_text(in, take32(in), META_CONFIG_VALUE_MAX);
    }
}

int meta_record_decode(const uint8_t *bytes, size_t len, struct arena *arena,
                       struct meta_record *ret)
{
    struct reader in = {bytes, len, arena, 0};
    struct meta_record r = {0};
    unsigned kind = take16(&in), zero = take16(&in);
    if (in.rc != 0 || kind == 0 || kind >= META_RECORD_KINDS || zero != 0)
        return -EBADMSG;
    r.kind = kind;
    if (fields_of[kind] & ID)
        take_id(&in, &r.id);
    if (fields_of[kind] & NAME)
        r.name = take_text(&in, take16(&in), META_TOPIC_NAME_MAX);
    if (fields_of[kind] & VALUE)
        r.value = take64(&in);
    if (fields_of[kind] & PARTITIONS)
        take_partitions(&in, &r);
    if (fields_of[kind] & CONFIGS)
        take_configs(&in, &r);
    if (in.rc == 0 && in.left != 0)
        in.rc = -EBADMSG;
    if (in.rc == 0)
        *ret = r;
    return in.rc;
}

/* ---- frames ---- */

size_t meta_frame_size(size_t payload_len)
{
    return round_up_u64(META_FRAME_BYTES + payload_len, 8);
}

static uint32_t frame_crc(const uint8_t *frame, size_t len_bytes)
{
    return crc32c_extend(crc32c(frame, 4), frame + 8, len_bytes - 8);
}

uint32_t meta_frame_seal(uint8_t *frame, enum meta_frame_kind kind, uint32_t payload_len,
                         uint32_t crc_before, uint64_t sequence)
{
    size_t len_bytes = meta_frame_size(payload_len), end = META_FRAME_BYTES + payload_len;
    memset(frame + end, 0, len_bytes - end);
    le_store32(frame, payload_len);
    le_store32(frame + 8, crc_before);
    le_store16(frame + 12, (uint16_t)kind);
    le_store16(frame + 14, META_FORMAT);
    le_store64(frame + 16, sequence);
    uint32_t crc = frame_crc(frame, len_bytes);
    le_store32(frame + 4, crc);
    return crc;
}

int meta_frame_open(const uint8_t *bytes, size_t avail, uint32_t crc_before, uint64_t sequence,
                    struct meta_frame *ret)
{
    if (avail < META_FRAME_BYTES)
        return -EBADMSG;
    uint32_t payload_len = le_load32(bytes);
    if (payload_len > avail - META_FRAME_BYTES || meta_frame_size(payload_len) > avail)
        return -EBADMSG;
    unsigned kind = le_load16(bytes + 12);
    if (le_load32(bytes + 8) != crc_before || le_load64(bytes + 16) != sequence ||
        le_load16(bytes + 14) != META_FORMAT || kind < META_FRAME_RECORD ||
        kind > META_FRAME_SNAPSHOT_END)
        return -EBADMSG;
    struct meta_frame f = {
        .kind = kind,
        .payload_len = payload_len,
        .crc = le_load32(bytes + 4),
        .payload = bytes + META_FRAME_BYTES,
        .len_bytes = meta_frame_size(payload_len),
    };
    if (frame_crc(bytes, f.len_bytes) != f.crc)
        return -EBADMSG;
    *ret = f;
    return 0;
}

/* ---- file header: 0 magic 8 bytes | 8 u32 CRC-32C of bytes 12 to 4095 | 12 u32 format |
 *      16 u64 generation | 24 u64 file size | 32 u64 id | zeros ---- */

static const char header_magic[8] = "PSTKMETA";

uint32_t meta_header_encode(const struct meta_header *h, uint8_t block[static 4096])
{
    memset(block, 0, BLOCK_BYTES);
    memcpy(block, header_magic, sizeof(header_magic));
    le_store32(block + 12, META_FORMAT);
    le_store64(block + 16, h->generation);
    le_store64(block + 24, h->size_bytes);
    le_store64(block + 32, h->id);
    uint32_t crc = crc32c(block + 12, BLOCK_BYTES - 12);
    le_store32(block + 8, crc);
    return crc;
}

int meta_header_decode(const uint8_t block[static 4096], struct meta_header *ret)
{
    uint32_t crc = crc32c(block + 12, BLOCK_BYTES - 12);
    if (memcmp(block, header_magic, sizeof(header_magic)) != 0 || le_load32(block + 8) != crc ||
        le_load32(block + 12) != META_FORMAT)
        return -EBADMSG;
    struct meta_header h = {
        .generation = le_load64(block + 16),
        .size_bytes = le_load64(block + 24),
        .id = le_load64(block + 32),
        .crc = crc,
    };
    uint8_t again[BLOCK_BYTES]; /* what repair would write: the chain of frames hangs on its crc */
    if (meta_header_encode(&h, again) != crc)
        return -EBADMSG;
    *ret = h;
    return 0;
}

/* ---- snapshots ---- */

static unsigned layers_count(const struct meta_image *image)
{
    unsigned n = 0;
    for (unsigned i = 0; i < META_LAYERS; i++)
        n += image->broker[i] != NULL;
    return n;
}

/* version u64 | cluster id 16 bytes | next number u64 | next producer id u64 | dirs u32 |
 * topics u32 | shards u16 | clean u16 | layers of configs u16 | zeros */
static void snapshot_begin_encode(const struct meta_image *image, uint8_t *bytes)
{
    uint8_t *at = bytes;
    put64(&at, image->version);
    put_bytes(&at, image->cluster_id.b, sizeof(image->cluster_id.b));
    put64(&at, image->next_number);
    put64(&at, (uint64_t)image->next_producer_id);
    put32(&at, image->dirs_n);
    put32(&at, image->topics_n);
    put16(&at, image->shards);
    put16(&at, image->clean);
    put16(&at, (uint16_t)layers_count(image));
    memset(at, 0, META_SNAPSHOT_BEGIN_BYTES - (size_t)(at - bytes));
}

int meta_snapshot_begin_decode(const uint8_t *bytes, size_t len, struct meta_snapshot_begin *ret)
{
    struct reader in = {bytes, len, NULL, 0};
    struct meta_snapshot_begin s = {.version = take64(&in)};
    take_id(&in, &s.cluster_id);
    s.next_number = take64(&in);
    s.next_producer_id = take64(&in);
    s.dirs_n = take32(&in);
    s.topics_n = take32(&in);
    s.shards = take16(&in);
    s.clean = take16(&in) != 0;
    s.layers_n = take16(&in);
    if (len != META_SNAPSHOT_BEGIN_BYTES || in.rc != 0 || s.dirs_n > META_DIRS_MAX ||
        s.layers_n > META_LAYERS || s.next_producer_id > INT64_MAX)
        return -EBADMSG;
    *ret = s;
    return 0;
}

static struct meta_record record_of_dir(const struct meta_image *image, unsigned index)
{
    return (struct meta_record){.kind = META_DIR_ADD, .id = image->dirs[index]};
}

static struct meta_record record_of_topic(const struct meta_topic *t)
{
    return (struct meta_record){
        .kind = META_TOPIC_CREATE,
        .id = t->id,
        .name = t->name,
        .partitions_n = t->partitions_n,
        .partitions = t->partitions,
        .configs_n = t->configs_n,
        .configs = t->configs,
    };
}

/* The index-th of the layers where something was set. */
static struct meta_record record_of_layer(const struct meta_image *image, unsigned index)
{
    unsigned layer = 0;
    for (;; layer++)
        if (image->broker[layer] != NULL && index-- == 0)
            break;
    return (struct meta_record){
        .kind = META_BROKER_CONFIG,
        .value = layer,
        .configs_n = image->broker[layer]->n,
        .configs = image->broker[layer]->entries,
    };
}

static unsigned snapshot_records(const struct meta_image *image)
{
    return image->dirs_n + layers_count(image) + image->topics_n;
}

static struct meta_record snapshot_record(const struct meta_image *image, unsigned i)
{
    unsigned layers_n = layers_count(image);
    if (i < image->dirs_n)
        return record_of_dir(image, i);
    i -= image->dirs_n;
    return i < layers_n ? record_of_layer(image, i) : record_of_topic(image->topics[i - layers_n]);
}

uint64_t meta_snapshot_size(const struct meta_image *image)
{
    uint64_t size = meta_frame_size(META_SNAPSHOT_BEGIN_BYTES) + meta_frame_size(0);
    for (unsigned i = 0; i < snapshot_records(image); i++) {
        struct meta_record r = snapshot_record(image, i);
        size += meta_frame_size(meta_record_size(&r));
    }
    return size;
}

void meta_snapshot_encode(const struct meta_image *image, uint8_t *bytes, uint64_t *sequence,
                          uint32_t *crc)
{
    uint8_t *at = bytes;
    snapshot_begin_encode(image, at + META_FRAME_BYTES);
    *crc = meta_frame_seal(at, META_FRAME_SNAPSHOT_BEGIN, META_SNAPSHOT_BEGIN_BYTES, *crc,
                           ++*sequence);
    at += meta_frame_size(META_SNAPSHOT_BEGIN_BYTES);
    for (unsigned i = 0; i < snapshot_records(image); i++) {
        struct meta_record r = snapshot_record(image, i);
        size_t len = meta_record_size(&r);
        meta_record_encode(&r, at + META_FRAME_BYTES);
        *crc = meta_frame_seal(at, META_FRAME_RECORD, (uint32_t)len, *crc, ++*sequence);
        at += meta_frame_size(len);
    }
    *crc = meta_frame_seal(at, META_FRAME_SNAPSHOT_END, 0, *crc, ++*sequence);
    ASSERT(at + meta_frame_size(0) == bytes + meta_snapshot_size(image));
}
