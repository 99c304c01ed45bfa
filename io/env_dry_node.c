#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/bytes.h"
#include "io/env_dry_private.h"

/* ---- nodes ---- */

static uint64_t path_hash(const char *path)
{
    uint64_t h = 14695981039346656037u; /* FNV-1a */
    for (; *path != '\0'; path++)
        h = (h ^ (uint8_t)*path) * 1099511628211u;
    return h;
}

void dry_node_empty(struct dry *d, struct dry_node *n)
{
    void *block;
    for (size_t it = 0; (block = map_next(&n->blocks, &it)) != NULL;) {
        free(block);
        d->used_bytes -= BLOCK_BYTES;
    }
    map_fini(&n->blocks);
    map_init(&n->blocks);
    if (n->base_fd >= 0)
        close(n->base_fd);
    free(n->base_path);
    n->base_path = NULL;
    n->base_fd = -1;
    n->base_bytes = n->size_bytes = 0;
    n->exists = n->is_dir = n->is_real = false;
}

static struct dry_node *node_create(struct dry *d, const char *path)
{
    struct stat st;
    struct dry_node *n = calloc(1, sizeof(*n));
    if (n == NULL)
        return NULL;
    n->base_fd = -1;
    map_init(&n->blocks);
    n->path = strdup(path);
    n->exists = stat(path, &st) == 0;
    n->is_dir = n->is_real = n->exists && S_ISDIR(st.st_mode);
    if (n->exists && !n->is_dir) {
        n->base_path = strdup(path);
        n->size_bytes = n->base_bytes = (uint64_t)st.st_size;
    }
    uint64_t hash = path_hash(path);
    n->next = map_get(&d->nodes, hash);
    bool whole = n->path != NULL && (n->base_path != NULL || !n->exists || n->is_dir);
    if (whole && map_put(&d->nodes, hash, n) == 0)
        return n;
    free(n->path);
    free(n->base_path);
    free(n);
    return NULL;
}

struct dry_node *dry_node_known(const struct dry *d, const char *path)
{
    struct dry_node *n = map_get(&d->nodes, path_hash(path));
    while (n != NULL && strcmp(n->path, path) != 0)
        n = n->next;
    return n;
}

struct dry_node *dry_node_get(struct dry *d, const char *path)
{
    struct dry_node *n = dry_node_known(d, path);
    return n != NULL ? n : node_create(d, path);
}

/* ---- bytes ---- */

static int base_read(struct dry_node *n, uint8_t *buf, uint64_t len_bytes, uint64_t pos)
{
    if (n->base_fd < 0)
        n->base_fd = open(n->base_path, O_RDONLY | O_CLOEXEC);
    if (n->base_fd < 0)
        return -errno;
    for (uint64_t done = 0; done < len_bytes;) {
        ssize_t got = pread(n->base_fd, buf + done, len_bytes - done, (off_t)(pos + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return got < 0 ? -errno : -EIO; /* it was longer before */
        done += (uint64_t)got;
    }
    return 0;
}

/* One block as it is now; what lies behind the end as zeros. */
static int block_read(struct dry_node *n, uint64_t number, uint8_t buf[BLOCK_BYTES])
{
    const uint8_t *changed = map_get(&n->blocks, number);
    uint64_t pos = number * BLOCK_BYTES;
    if (changed != NULL) {
        memcpy(buf, changed, BLOCK_BYTES);
        return 0;
    }
    uint64_t there = pos < n->base_bytes ? MIN(n->base_bytes - pos, (uint64_t)BLOCK_BYTES) : 0;
    memset(buf + there, 0, BLOCK_BYTES - there);
    return there == 0 ? 0 : base_read(n, buf, there, pos);
}

int dry_read(struct dry_node *n, uint8_t *buf, uint64_t len_bytes, uint64_t pos)
{
    uint8_t block[BLOCK_BYTES];
    if (n->blocks.count == 0 && pos <= n->base_bytes && len_bytes <= n->base_bytes - pos)
        return len_bytes == 0 ? 0 : base_read(n, buf, len_bytes, pos);
    for (uint64_t done = 0; done < len_bytes;) {
        uint64_t in = (pos + done) % BLOCK_BYTES, len = MIN(BLOCK_BYTES - in, len_bytes - done);
        int rc = block_read(n, (pos + done) / BLOCK_BYTES, block);
        if (rc != 0)
            return rc;
        memcpy(buf + done, block + in, len);
        done += len;
    }
    return 0;
}

/* The block to change, with its present bytes. */
static uint8_t *block_own(struct dry *d, struct dry_node *n, uint64_t number)
{
    uint8_t *block = map_get(&n->blocks, number);
    if (block != NULL)
        return block;
    block = d->used_bytes + BLOCK_BYTES > d->memory_bytes ? NULL : malloc(BLOCK_BYTES);
    if (block == NULL)
        return NULL;
    if (block_read(n, number, block) != 0)
        memset(block, 0, BLOCK_BYTES); /* unreadable: all of it is about to be replaced */
    if (map_put(&n->blocks, number, block) != 0) {
        free(block);
        return NULL;
    }
    d->used_bytes += BLOCK_BYTES;
    return block;
}

int dry_write(struct dry *d, struct dry_node *n, const uint8_t *data, uint64_t len_bytes,
              uint64_t pos)
{
    for (uint64_t done = 0; done < len_bytes;) {
        uint64_t in = (pos + done) % BLOCK_BYTES, len = MIN(BLOCK_BYTES - in, len_bytes - done);
        uint8_t *block = block_own(d, n, (pos + done) / BLOCK_BYTES);
        if (block == NULL)
            return -ENOSPC;
        memcpy(block + in, data + done, len);
        done += len;
    }
    n->size_bytes = MAX(n->size_bytes, pos + len_bytes);
    return 0;
}

void dry_resize(struct dry *d, struct dry_node *n, uint64_t size_bytes)
{
    uint64_t from = size_bytes / BLOCK_BYTES, old = n->size_bytes;
    n->size_bytes = size_bytes;
    n->base_bytes = MIN(n->base_bytes, size_bytes);
    if (size_bytes >= old || n->blocks.count == 0)
        return;
    uint8_t *cut = map_get(&n->blocks, from);
    if (cut != NULL)
        memset(cut + size_bytes % BLOCK_BYTES, 0, BLOCK_BYTES - size_bytes % BLOCK_BYTES);
    for (uint64_t number = from + 1; number <= old / BLOCK_BYTES; number++) {
        void *block = map_remove(&n->blocks, number);
        d->used_bytes -= block == NULL ? 0 : BLOCK_BYTES;
        free(block);
    }
}
