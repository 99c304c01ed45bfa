/* broker_config.h: the broker's own properties as clients see and change them. The one list of them
 * is made by whoever starts the broker, from the tables by which it was configured.
 * Threads: constant data. */
#ifndef CORE_SHARD_BROKER_CONFIG_H
#define CORE_SHARD_BROKER_CONFIG_H

#include "core/meta/topic_config.h"

struct broker_config_key {
    const char *name, *doc;
    enum topic_config_type type;
    const char *default_value;            /* NULL: none */
    const char *static_value;             /* what it was started with; NULL: not set */
    int64_t min, max;                     /* of a number */
    bool dynamic;                         /* may be changed while it runs */
    const struct topic_config_key *topic; /* whose default it is; NULL: of none */
};

#endif
