#include "net/client_stats.h"

#include <string.h>

#include "core/base/bytes.h"

/* As it is shown: nothing that a label of Prometheus or a string of JSON would have to escape. */
static void name_copy(char to[CLIENT_STATS_NAME_BYTES], struct wire_str name)
{
    static const char kept[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._";
    size_t len = name.len > 0 ? MIN((size_t)name.len, CLIENT_STATS_NAME_BYTES - 1u) : 0;
    for (size_t i = 0; i < len; i++)
        to[i] = name.p[i] != '\0' && strchr(kept, name.p[i]) != NULL ? name.p[i] : '_';
    to[len] = '\0';
    if (len == 0)
        memcpy(to, "unnamed", sizeof("unnamed"));
}

struct client_row *client_stats_find(struct client_stats *stats, struct wire_str name)
{
    char shown[CLIENT_STATS_NAME_BYTES];
    name_copy(shown, name);
    for (unsigned i = 0; i < stats->rows_n; i++)
        if (strcmp(stats->rows[i]->name, shown) == 0)
            return stats->rows[i];
    struct client_row *row = stats->rows_n < CLIENT_STATS_MAX ? counter_calloc(sizeof(*row)) : NULL;
    if (row == NULL)
        return &stats->other;
    memcpy(row->name, shown, sizeof(shown));
    stats->rows[stats->rows_n] = row;
    __atomic_store_n(&stats->rows_n, stats->rows_n + 1, __ATOMIC_RELEASE);
    return row;
}

const struct client_row *client_stats_row(const struct client_stats *stats, unsigned i)
{
    unsigned rows_n = __atomic_load_n(&stats->rows_n, __ATOMIC_ACQUIRE);
    if (i < rows_n)
        return stats->rows[i];
    return i == rows_n ? &stats->other : NULL;
}

void client_stats_fini(struct client_stats *stats)
{
    for (unsigned i = 0; i < stats->rows_n; i++)
        free(stats->rows[i]);
}
