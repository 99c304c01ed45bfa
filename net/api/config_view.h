/* config_view.h: which value of a config key holds, and where it comes from: what was set for the
 * topic, then for the node, for the cluster, at the start, and the default.
 * Pure: looks at the shard's current image and the broker's keys. Threads: the request's shard. */
#ifndef NET_API_CONFIG_VIEW_H
#define NET_API_CONFIG_VIEW_H

#include "net/net.h"

enum config_source { /* Kafka's numbers */
                     CONFIG_OF_TOPIC = 1,
                     CONFIG_OF_NODE = 2,
                     CONFIG_OF_CLUSTER = 3,
                     CONFIG_STATIC = 4,
                     CONFIG_DEFAULT = 5,
};

struct config_synonym {
    const char *name, *value;
    int8_t source;
};

#define CONFIG_SYNONYMS_MAX 5u
struct config_view {
    const char *value; /* what holds; NULL: nothing */
    int8_t source;
    unsigned synonyms_n; /* those that are set, the one that holds first */
    struct config_synonym synonyms[CONFIG_SYNONYMS_MAX];
};

const struct broker_config_key *config_broker_key(const struct broker *, const char *name);
void config_view_broker(const struct shard *, const struct broker_config_key *key,
                        struct config_view *ret);
/* configs: what the topic sets itself. */
void config_view_topic(const struct shard *, const struct topic_config_key *key,
                       const struct meta_config_entry *configs, unsigned configs_n,
                       struct config_view *ret);
/* "Invalid value 7 for configuration x: ..."; of an unknown key its name. */
struct wire_str config_fault_text(struct request *r, const char *name, int rc,
                                  const struct topic_config_fault *fault);

#endif
