#include "tools/client_configs.h"

#include <errno.h>
#include <stdlib.h>

enum { DESCRIBE_CONFIGS_MOST = 4 };

int32_t client_configs_node(enum config_resource type, const char *name)
{
    return type == CONFIG_BROKER && *name != '\0' ? (int32_t)strtol(name, NULL, 10) : CLIENT_ANY;
}

static int configs_once(struct client *c, enum config_resource type, const char *name,
                        bool with_documentation, struct arena *arena,
                        struct describe_configs_response *ret)
{
    struct describe_configs_request request;
    struct describe_configs_request_describe_configs_resource resource;
    int32_t node = client_configs_node(type, name);
    int16_t version;
    int rc = client_version(c, node, API_DESCRIBE_CONFIGS, DESCRIBE_CONFIGS_MOST, &version);
    if (rc < 0)
        return rc;
    wire_set_defaults(&describe_configs_request_schema, &request);
    wire_set_defaults(&describe_configs_request_describe_configs_resource_schema, &resource);
    resource.resource_type = (int8_t)type;
    resource.resource_name = wire_str_of(name);
    resource.configuration_keys_n = -1; /* all */
    request.resources = &resource;
    request.resources_n = 1;
    request.include_documentation = with_documentation;
    rc = client_call(c, node, API_DESCRIBE_CONFIGS, version, &request, arena, ret);
    if (rc < 0)
        return rc;
    if (ret->results_n != 1)
        return client_fail(c, -EPROTO, CLIENT_NO_MESSAGE, "configs of %s", name);
    rc = client_rc(ret->results[0].error_code);
    return rc == 0 ? 0 : client_fail(c, rc, ret->results[0].error_message, "configs of %s", name);
}

int client_configs(struct client *c, enum config_resource type, const char *name,
                   bool with_documentation, struct arena *arena,
                   struct describe_configs_response *ret)
{
    struct client_retry retry = {0};
    int rc;
    do
        rc = configs_once(c, type, name, with_documentation, arena, ret);
    while (rc < 0 && rc != client_rc(CLIENT_UNKNOWN_TOPIC_OR_PARTITION) &&
           client_retry(c, &retry, rc));
    return rc;
}
