#include "io/uring_files.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "core/base/assert.h"
#include "core/base/bytes.h"
#include "io/env_uring.h"
#include "io/probe.h"
#include "io/uring_compat.h"

enum { SLOTS_MAX = 32768 };

static int table_init(struct uring_files *f, const struct env_uring_config *config)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return -errno;
    unsigned slots = (unsigned)MIN(limit.rlim_cur, (rlim_t)SLOTS_MAX);
    f->free_slots = calloc(slots, sizeof(*f->free_slots));
    if (f->free_slots == NULL)
        return -ENOMEM;
    int rc = io_uring_register_files_sparse(f->ring, slots);
    if (rc < 0)
        return rc;
    f->table = true;
    for (unsigned i = slots; i-- > config->lock_fds_n;)
        f->free_slots[f->free_n++] = (int)i;
    if (config->lock_fds_n == 0)
        return 0;
    if (config->lock_fds_n > slots)
        return -ENFILE;
    rc = io_uring_register_files_update(f->ring, 0, config->lock_fds, config->lock_fds_n);
    return rc < 0 ? rc : 0;
}

int uring_files_init(struct uring_files *f, struct io_uring *ring, const struct io_features *has,
                     const struct env_uring_config *config)
{
    int rc = 0;
    f->ring = ring;
    list_init(&f->open);
    if (has->sparse_files)
        rc = table_init(f, config);
    else if (config->lock_fds_n > 0)
        rc = io_uring_register_files(ring, config->lock_fds, config->lock_fds_n);
    /* Without a table files go by descriptor; a lock that is not held would be a danger. */
    if (rc < 0 && (f->table || config->lock_fds_n > 0))
        return rc;
    return 0;
}

void uring_files_fini(struct uring_files *f)
{
    struct list_node *node;
    while (f->open.next != NULL && (node = list_pop_head(&f->open)) != NULL) {
        struct env_file *file = container_of(node, struct env_file, link);
        close(file->fd);
        free(file);
    }
    free(f->free_slots);
    *f = (struct uring_files){0};
}

void uring_files_add(struct uring_files *f, struct env_file *file)
{
    ASSERT(!list_linked(&file->link));
    list_push_tail(&f->open, &file->link);
    file->slot = -1;
    if (!f->table || f->free_n == 0)
        return;
    int slot = f->free_slots[f->free_n - 1];
    if (io_uring_register_files_update(f->ring, (unsigned)slot, &file->fd, 1) != 1)
        return;
    file->slot = slot;
    f->free_n--;
}

void uring_files_close(struct uring_files *f, struct env_file *file)
{
    int none = -1;
    if (file->slot >= 0) {
        int rc = io_uring_register_files_update(f->ring, (unsigned)file->slot, &none, 1);
        /* Out of memory: the slot keeps the file open, so it is not offered again. */
        if (rc == 1)
            f->free_slots[f->free_n++] = file->slot;
    }
    list_remove(&file->link);
    close(file->fd);
    free(file);
}
