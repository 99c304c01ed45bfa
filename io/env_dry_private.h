/* env_dry_private.h: what env_dry.c (the environment), env_dry_node.c (names and bytes as they are
 * now) and env_dry_names.c (the name steps) share. Nobody else includes it. */
#ifndef IO_ENV_DRY_PRIVATE_H
#define IO_ENV_DRY_PRIVATE_H

#include "core/base/map.h"
#include "io/env_dry.h"

/* A name that was looked at or changed. Its bytes: a changed block, else those of the real file
 * below base_bytes, else zeros. */
struct dry_node {
    struct dry_node *next; /* of those with the same hash */
    char *path;
    bool exists, is_dir;
    bool is_real; /* a directory whose real entries count */
    uint64_t size_bytes;
    char *base_path; /* the real file; NULL: none */
    uint64_t base_bytes;
    int base_fd; /* -1: not open */
    unsigned opens;
    struct map blocks; /* by number: malloc, BLOCK_BYTES */
};
struct env_file {
    struct dry_node *node;
};
struct dry {
    struct env env;
    struct map nodes; /* by hash of the path */
    struct list_node pending;
    uint64_t now_ns, memory_bytes, used_bytes, changes;
};

/* What is under this name now; NULL: out of memory. */
struct dry_node *dry_node_get(struct dry *d, const char *path);
/* ... if it was ever looked at, else NULL. */
struct dry_node *dry_node_known(const struct dry *d, const char *path);
/* It is gone, and its bytes with it. */
void dry_node_empty(struct dry *d, struct dry_node *n);
int dry_read(struct dry_node *n, uint8_t *buf, uint64_t len_bytes, uint64_t pos);
int dry_write(struct dry *d, struct dry_node *n, const uint8_t *data, uint64_t len_bytes,
              uint64_t pos);
void dry_resize(struct dry *d, struct dry_node *n, uint64_t size_bytes);

int dry_names(struct dry *d, struct env_op *op);

#endif
