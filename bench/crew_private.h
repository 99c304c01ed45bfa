/* crew_private.h: the two ways to carry a load, behind crew.h.
 * Threads: as crew.h; crew_interval_add() from any. */
#ifndef BENCH_CREW_PRIVATE_H
#define BENCH_CREW_PRIVATE_H

#include "bench/crew.h"

struct crew_ops {
    int (*start)(struct crew *c, char *reason, size_t reason_size); /* failed: fini was done */
    void (*stage)(struct crew *c, int stage);
    void (*look)(struct crew *c); /* take in what has come; NULL: it comes by itself */
    void (*state)(struct crew *c, struct crew_state *ret);
    int (*finish)(struct crew *c, struct crew_outcome *ret); /* ret is initialised; sets reason */
    void (*fini)(struct crew *c);
};
extern const struct crew_ops crew_local_ops, crew_remote_ops;

/* An interval of a member has ended. */
void crew_interval_add(struct crew *c, const struct load_stats *interval);
/* The first failure stays. */
__attribute__((format(printf, 3, 4))) void crew_fail(struct crew *c, int rc, const char *fmt, ...);

/* The steps of a local crew's finish, for an agent: between them others' records are fetched. */
int crew_local_produced(struct crew *c, struct produced *to); /* waits for the threads first */
void crew_local_verify(struct crew *c, const struct produced *all, struct crew_outcome *ret);

#endif
