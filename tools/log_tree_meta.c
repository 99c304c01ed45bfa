/* log_tree_meta.c: the metadata log as it is on disk, both copies, read without opening it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "tools/log_file.h"
#include "tools/log_tree.h"

static void newest_find(struct log_metadata *m, const char *dir)
{
    char **names;
    unsigned n, copy;
    uint64_t generation;
    if (names_list(dir, &names, &n) != 0)
        return;
    for (unsigned i = 0; i < n; i++)
        if (meta_name_parse(names[i], &generation, &copy))
            m->generation = MAX(m->generation, generation);
    names_free(names, n);
}

/* The file's header, if it has one; its size. */
static bool copy_header(struct log_metadata *m, unsigned i, struct meta_header *ret)
{
    struct meta_copy *c = &m->replay.copy[i];
    struct log_file f;
    if (log_file_open(&f, m->names[i], 0) != 0)
        return false;
    c->exists = true;
    c->file_bytes = f.bytes.size_bytes;
    const uint8_t *block = f.bytes.at(&f.bytes, 0, BLOCK_BYTES);
    c->header_ok = block != NULL && meta_header_fits(block, m->generation, ret);
    log_file_close(&f);
    return true;
}

static int copy_bytes(struct log_metadata *m, unsigned i)
{
    struct meta_copy *c = &m->replay.copy[i];
    struct log_file f;
    uint64_t size = m->replay.header.size_bytes, there = MIN(c->file_bytes, size);
    c->odd_size = c->exists && c->file_bytes != size;
    c->bytes = malloc(size);
    if (c->bytes == NULL)
        return -ENOMEM;
    memset(c->bytes, META_UNREADABLE, size);
    if (!c->exists || log_file_open(&f, m->names[i], 0) != 0)
        return 0;
    const uint8_t *data = f.bytes.at(&f.bytes, 0, there);
    if (data != NULL)
        memcpy(c->bytes, data, there);
    log_file_close(&f);
    return 0;
}

static int copies_replay(struct log_metadata *m)
{
    struct meta_header header[META_LOG_COPIES];
    struct topic_config defaults;
    topic_config_defaults(&defaults);
    for (unsigned i = 0; i < META_LOG_COPIES; i++)
        copy_header(m, i, &header[i]);
    int rc = meta_replay_headers(&m->replay, header);
    for (unsigned i = 0; rc == 0 && i < META_LOG_COPIES; i++)
        rc = copy_bytes(m, i);
    if (rc != 0)
        return rc;
    m->replay.image = meta_image_create(&defaults);
    if (m->replay.image == NULL)
        return -ENOMEM;
    rc = meta_replay_run(&m->replay);
    if (rc == 0)
        return 0;
    meta_image_destroy(m->replay.image);
    m->replay.image = NULL;
    return rc;
}

void metadata_read(struct log_metadata *m, const char *dir)
{
    newest_find(m, dir);
    m->rc = m->generation == 0 ? -ENOENT : 0;
    snprintf(m->reason, sizeof(m->reason), "%s has no metadata log", dir);
    for (unsigned i = 0; m->rc == 0 && i < META_LOG_COPIES; i++)
        if (asprintf(&m->names[i], "%s/%s%llu.%c", dir, META_LOG_PREFIX,
                     (unsigned long long)m->generation, "ab"[i]) < 0) {
            m->names[i] = NULL;
            m->rc = -ENOMEM;
        }
    if (m->rc != 0)
        return;
    m->replay.name = m->names[0];
    m->replay.reason = m->reason;
    m->replay.reason_size = sizeof(m->reason);
    snprintf(m->reason, sizeof(m->reason), "out of memory");
    m->rc = copies_replay(m);
}

void metadata_free(struct log_metadata *m)
{
    for (unsigned i = 0; i < META_LOG_COPIES; i++) {
        free(m->replay.copy[i].bytes);
        free(m->names[i]);
    }
    free(m->replay.merged);
    meta_image_destroy(m->replay.image);
}
