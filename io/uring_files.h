/* uring_files.h: a ring's registered files. Private to io/.
 * Happy path: fini undoes init; add gives an open descriptor its env_file and, while there is room
 *   in the table, a slot.
 * Failure: a full or refused table means plain descriptors. Only locks must be registered: -errno
 * from init. Threads: the shard's. */
#ifndef IO_URING_FILES_H
#define IO_URING_FILES_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/list.h"
#include "io/losses.h"

struct io_features;
struct io_uring;
struct env_uring_config;

struct env_file {
    struct list_node link; /* in uring_files.open */
    int fd;
    int slot; /* in the table, or -1 */
    struct file_losses losses;
    bool buffered;           /* O_DIRECT was refused */
    uint32_t poll_bytes_max; /* reads up to this go into uring_poll's ring; 0: none */
};

struct uring_files {
    struct io_uring *ring;
    struct list_node open;
    int *free_slots; /* stack */
    unsigned free_n;
    bool table; /* registered */
};

int uring_files_init(struct uring_files *f, struct io_uring *ring, const struct io_features *has,
                     const struct env_uring_config *config);
/* Closes what is open; the ring is gone or goes next. */
void uring_files_fini(struct uring_files *f);

/* The helper thread opened it; now it gets its slot. */
void uring_files_add(struct uring_files *f, struct env_file *file);
void uring_files_close(struct uring_files *f, struct env_file *file);

#endif
