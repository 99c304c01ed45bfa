#include "tests/fuzz/disk.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/assert.h"
#include "core/base/bytes.h"

#define PUT_BYTES_MAX (256u << 10) /* larger files are written block by block */

/* ---- taking ---- */

static uint32_t used_bytes_of(const uint8_t *bytes, uint64_t size_bytes)
{
    while (size_bytes > 0 && bytes[size_bytes - 1] == 0)
        size_bytes--;
    return (uint32_t)size_bytes;
}

static struct disk_file *file_add(struct disk *d, const char *dir, const char *name,
                                  size_t name_len)
{
    ASSERT(d->files_n < DISK_FILES_MAX);
    struct disk_file *f = &d->files[d->files_n++];
    *f = (struct disk_file){0};
    int len = snprintf(f->path, sizeof(f->path), "%s/%.*s", dir, (int)name_len, name);
    ASSERT(len < (int)sizeof(f->path));
    return f;
}

static void file_take(struct disk_file *f, struct mem_world *world, int64_t size_bytes)
{
    uint8_t *bytes = calloc(1, (size_t)size_bytes + BLOCK_BYTES);
    ASSERT(bytes != NULL);
    ASSERT(mem_world_read_file(world, f->path, bytes, (uint64_t)size_bytes, 0) == size_bytes);
    f->size_bytes = (uint64_t)size_bytes;
    /* The block behind as well: there the next structure would be looked for. */
    f->used_bytes =
        (uint32_t)MIN(f->size_bytes, block_ceil(used_bytes_of(bytes, f->size_bytes)) + BLOCK_BYTES);
    f->bytes = realloc(bytes, f->used_bytes + 1u);
    ASSERT(f->bytes != NULL);
}

void disk_take(struct disk *d, struct mem_world *world, struct env *env, const char *dir)
{
    *d = (struct disk){0};
    file_add(d, "", dir + 1, strlen(dir + 1))->is_dir = true;
    for (unsigned i = 0; i < d->files_n; i++) { /* grows meanwhile */
        struct disk_file *f = &d->files[i];
        int64_t size_bytes = f->is_dir ? -1 : mem_world_file_size(world, f->path);
        f->is_dir = size_bytes < 0;
        if (!f->is_dir) {
            file_take(f, world, size_bytes);
            continue;
        }
        struct env_name_step list = {.kind = ENV_STEP_LIST, .path = f->path};
        ASSERT(env_names_wait(env, &list, 1) == 0);
        const char *name = list.ret_data;
        for (size_t k = 0; k < list.ret_count; k++, name += strlen(name) + 1)
            file_add(d, f->path, name, strlen(name));
        free(list.ret_data);
    }
}

void disk_hot_add(struct disk *d, unsigned file, uint32_t at, uint64_t len_bytes)
{
    ASSERT(d->hot_n < DISK_HOT_MAX && len_bytes > 0);
    ASSERT(at + len_bytes <= d->files[file].used_bytes);
    d->hot[d->hot_n++] = (struct disk_place){(uint8_t)file, at, (uint32_t)len_bytes};
}

void disk_copy(struct disk *d, const struct disk *from)
{
    *d = *from;
    for (unsigned i = 0; i < d->files_n; i++) {
        struct disk_file *f = &d->files[i];
        if (f->is_dir)
            continue;
        f->bytes = malloc(f->used_bytes + 1u);
        ASSERT(f->bytes != NULL);
        memcpy(f->bytes, from->files[i].bytes, f->used_bytes);
    }
}

void disk_fini(struct disk *d)
{
    for (unsigned i = 0; i < d->files_n; i++)
        free(d->files[i].bytes);
    d->files_n = 0;
}

/* ---- patching ---- */

struct patches {
    const uint8_t *p;
    size_t left;
};

static unsigned take8(struct patches *in)
{
    if (in->left == 0)
        return 0;
    in->left--;
    return *in->p++;
}

static unsigned take16(struct patches *in)
{
    unsigned low = take8(in);
    return low | take8(in) << 8;
}

static uint32_t take24(struct patches *in)
{
    uint32_t low = take16(in);
    return low | take8(in) << 16;
}

/* Of bytes that follow in the input. */
static size_t take_length(struct patches *in)
{
    size_t len = take8(in);
    return MIN(len, in->left);
}

/* A file (not a directory), and a place in it; NULL: a directory. */
static struct disk_file *take_file(struct disk *d, struct patches *in, uint32_t *ret_at)
{
    struct disk_file *f = &d->files[take8(in) % d->files_n];
    *ret_at = take24(in);
    if (f->is_dir)
        return NULL;
    *ret_at = f->used_bytes == 0 ? 0 : *ret_at % f->used_bytes;
    return f;
}

static void patch_write(struct disk *d, struct patches *in)
{
    uint32_t at;
    struct disk_file *f = take_file(d, in, &at);
    size_t len = take_length(in);
    if (f != NULL && f->used_bytes > 0)
        memcpy(f->bytes + at, in->p, MIN(len, f->used_bytes - at));
    in->p += len;
    in->left -= len;
}

static void patch_flip(struct disk *d, struct patches *in)
{
    uint32_t at;
    struct disk_file *f = take_file(d, in, &at);
    unsigned bit = take8(in) % 8;
    if (f != NULL && f->used_bytes > 0)
        f->bytes[at] ^= (uint8_t)(1u << bit);
}

static void patch_copy(struct disk *d, struct patches *in)
{
    uint32_t at, from_at;
    struct disk_file *f = take_file(d, in, &at);
    uint32_t len = take16(in);
    struct disk_file *from = take_file(d, in, &from_at);
    if (f == NULL || from == NULL || from->used_bytes == 0)
        return;
    if (f->used_bytes == 0) {
        f->bytes = realloc(f->bytes, from->used_bytes + 1u);
        ASSERT(f->bytes != NULL);
        f->size_bytes = from->size_bytes;
        len = f->used_bytes = from->used_bytes;
        at = from_at = 0;
    }
    len = MIN(len, MIN(f->used_bytes - at, from->used_bytes - from_at));
    memmove(f->bytes + at, from->bytes + from_at, len);
}

static void patch_size(struct disk *d, struct patches *in)
{
    struct disk_file *f = &d->files[take8(in) % d->files_n];
    uint32_t size = take16(in);
    if (f->is_dir)
        return;
    size %= 2 * f->used_bytes + 1;
    f->size_bytes = size;
    f->used_bytes = MIN(f->used_bytes, size);
}

static void patch_remove(struct disk *d, struct patches *in)
{
    d->files[take8(in) % d->files_n].removed = true;
}

static void entry_add(struct disk *d, struct patches *in, bool is_dir)
{
    struct disk_file *dir = &d->files[take8(in) % d->files_n];
    size_t len = take_length(in);
    const char *name = (const char *)in->p;
    in->p += len;
    in->left -= len;
    if (!dir->is_dir || d->files_n == DISK_FILES_MAX || len == 0 ||
        strlen(dir->path) + 1 + len >= DISK_PATH_BYTES || memchr(name, '/', len) ||
        memchr(name, '\0', len) || name[0] == '.')
        return;
    file_add(d, dir->path, name, len)->is_dir = is_dir;
}

static void patch_name(struct disk *d, struct patches *in)
{
    entry_add(d, in, false);
}

static void patch_dir(struct disk *d, struct patches *in)
{
    entry_add(d, in, true);
}

static void (*const patch_kinds[DISK_PATCH_KINDS])(struct disk *d, struct patches *in) = {
    [DISK_WRITE] = patch_write, [DISK_FLIP] = patch_flip,     [DISK_COPY] = patch_copy,
    [DISK_SIZE] = patch_size,   [DISK_REMOVE] = patch_remove, [DISK_NAME] = patch_name,
    [DISK_DIR] = patch_dir,
};

void disk_patch(struct disk *d, const uint8_t *patches, size_t len_bytes)
{
    struct patches in = {patches, len_bytes};
    while (in.left > 0)
        patch_kinds[take8(&in) % DISK_PATCH_KINDS](d, &in);
}

/* ---- putting ---- */

static void large_put(const struct disk_file *f, struct env *env)
{
    static uint8_t blocks[PUT_BYTES_MAX] __attribute__((aligned(BLOCK_BYTES)));
    uint64_t len = block_ceil(f->used_bytes);
    struct env_name_step step = {
        .kind = ENV_STEP_PREWRITE, .path = f->path, .size_bytes = f->size_bytes};
    ASSERT(len <= sizeof(blocks));
    if (env_names_wait(env, &step, 1) != 0)
        return; /* its directory was removed */
    memset(blocks + f->used_bytes, 0, len - f->used_bytes);
    memcpy(blocks, f->bytes, f->used_bytes);
    if (len > 0)
        ASSERT(env_write_wait(env, step.ret_file, blocks, len, 0, ENV_DSYNC) == (int)len);
    env_file_close(env, step.ret_file);
}

static void small_put(const struct disk_file *f, struct env *env)
{
    struct env_name_step steps[] = {
        {.kind = ENV_STEP_PUT, .path = f->path, .data = f->bytes, .data_len = f->used_bytes},
        {.kind = ENV_STEP_RESIZE, .path = f->path, .size_bytes = f->size_bytes}};
    env_names_wait(env, steps, f->used_bytes == f->size_bytes ? 1 : 2);
}

void disk_put(const struct disk *d, struct env *env)
{
    struct env_name_step sync = {.kind = ENV_STEP_SYNC_FS, .path = "/"};
    for (unsigned i = 0; i < d->files_n; i++) {
        const struct disk_file *f = &d->files[i];
        struct env_name_step make = {.kind = ENV_STEP_MKDIR, .path = f->path};
        if (f->removed)
            continue;
        if (f->is_dir)
            env_names_wait(env, &make, 1); /* fails with its parent removed */
        else if (f->size_bytes > PUT_BYTES_MAX)
            large_put(f, env);
        else
            small_put(f, env);
    }
    ASSERT(env_names_wait(env, &sync, 1) == 0);
}
