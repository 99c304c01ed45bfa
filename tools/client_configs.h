/* client_configs.h: the configs of a topic or a broker. Failure and ownership as in client.h. */
#ifndef TOOLS_CLIENT_CONFIGS_H
#define TOOLS_CLIENT_CONFIGS_H

#include "tools/client.h"

enum config_resource { CONFIG_TOPIC = 2, CONFIG_BROKER = 4 };
enum { CONFIG_SOURCE_TOPIC = 1 }; /* set for this topic */

/* Of one resource: ret->results[0], without an error. name of a broker: its id, "": what holds for
 * all brokers. UNSUPPORTED_VERSION: the broker has no DescribeConfigs. */
int client_configs(struct client *c, enum config_resource type, const char *name,
                   bool with_documentation, struct arena *arena,
                   struct describe_configs_response *ret);

/* Who is to be asked about it: a broker answers for itself alone. */
int32_t client_configs_node(enum config_resource type, const char *name);

#endif
