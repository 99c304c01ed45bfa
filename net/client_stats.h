/* client_stats.h: what each kind of client asks: requests by client, API and version.
 *
 * Happy path: a connection's first request names its client, by the software's name where the
 * client tells one (ApiVersions from 3 on), else by its client.id; each request is then one
 * addition. Failure: none. There are at most CLIENT_STATS_MAX names; who comes later, or finds no
 * memory, counts as "other". Ownership: rows live as long as the table, so a connection may keep
 * its row. Threads: one writer, the shard; others may client_stats_row() and counter_read() at any
 * time. */
#ifndef NET_CLIENT_STATS_H
#define NET_CLIENT_STATS_H

#include "core/base/counter.h"
#include "net/net.h"

#define CLIENT_STATS_MAX 24u
#define CLIENT_STATS_NAME_BYTES 40u /* with the 0; what is longer is cut */
#define CLIENT_STATS_VERSIONS 24u

struct client_row {
    char name[CLIENT_STATS_NAME_BYTES]; /* of letters, digits and "-._"; anything else became "_" */
    uint64_t requests[NET_APIS_MAX][CLIENT_STATS_VERSIONS]; /* by row of net_apis, version */
};

struct client_stats {
    struct client_row *rows[CLIENT_STATS_MAX];
    struct client_row other;
    unsigned rows_n; /* what is below it does not change any more */
};

/* The row of that name; never NULL. */
struct client_row *client_stats_find(struct client_stats *stats, struct wire_str name);
/* The rows that exist now, "other" the last; NULL: there are no more. For any thread. */
const struct client_row *client_stats_row(const struct client_stats *stats, unsigned i);
void client_stats_fini(struct client_stats *stats);

#endif
