#include "tools/cmd_config.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/base/bytes.h"
#include "tools/cli.h"
#include "tools/cli_table.h"
#include "tools/client_configs.h"

enum { GET = 1, SET = 2, DELETE = 4 };
enum { ALTER_CONFIGS_MOST = 1 };
enum { OPERATION_SET, OPERATION_DELETE, OPERATION_APPEND, OPERATION_SUBTRACT };

struct config_options {
    struct cli_common common;
    const char *topic, *broker; /* exactly one of them */
    bool all, docs, dry_run;
};

static enum config_resource type_of(const struct config_options *o)
{
    return o->topic != NULL ? CONFIG_TOPIC : CONFIG_BROKER;
}

/* As the protocol names it: what holds for all brokers has no name. */
static const char *name_of(const struct config_options *o)
{
    if (o->topic != NULL)
        return o->topic;
    return strcmp(o->broker, "all") == 0 ? "" : o->broker;
}

/* ---- get ---- */

typedef struct describe_configs_response_describe_configs_resource_result config_value;

static const char *name_at(const char *const *names, unsigned n, int8_t i)
{
    return i >= 0 && (unsigned)i < n ? names[i] : "unknown";
}

static const char *source_name(int8_t source)
{
    static const char *const names[] = {
        "unknown", "topic",         "broker",         "all-brokers", "static",
        "default", "broker-logger", "client-metrics", "group",
    };
    return name_at(names, ARRAY_LEN(names), source);
}

static const char *type_name(int8_t type)
{
    static const char *const names[] = {"unknown", "boolean", "string", "int",   "short",
                                        "long",    "double",  "list",   "class", "password"};
    return name_at(names, ARRAY_LEN(names), type);
}

/* Without names: what somebody has set, for the topic, the broker, or in its file. */
static bool is_wanted(const struct config_options *o, const config_value *v)
{
    enum { SOURCE_DEFAULT = 5 };
    for (unsigned i = 0; i < o->common.args.n; i++)
        if (wire_str_eq(v->name, o->common.args.items[i]))
            return true;
    if (o->common.args.n > 0)
        return false;
    return o->all || (o->topic != NULL ? v->config_source == CONFIG_SOURCE_TOPIC
                                       : v->config_source != SOURCE_DEFAULT);
}

static struct json_object *value_row(const struct config_options *o, const config_value *v)
{
    struct json_object *row = row_new(NULL);
    row_str(row, "name", v->name);
    row_str(row, "value", v->value);
    row_text(row, "source", source_name(v->config_source));
    row_text(row, "valueType", type_name(v->config_type));
    row_bool(row, "readOnly", v->read_only);
    row_bool(row, "sensitive", v->is_sensitive);
    if (o->docs)
        row_str(row, "documentation", v->documentation);
    return row;
}

static int by_name(const void *a, const void *b)
{
    struct json_object *const *x = a, *const *y = b;
    return strcmp(row_get_text(*x, "name"), row_get_text(*y, "name"));
}

/* Every name that was asked for must be there. */
static int names_check(struct client *c, const struct config_options *o,
                       const struct describe_configs_response *r)
{
    for (unsigned i = 0; i < o->common.args.n; i++) {
        int32_t at = 0;
        while (at < r->results[0].configs_n &&
               !wire_str_eq(r->results[0].configs[at].name, o->common.args.items[i]))
            at++;
        if (at == r->results[0].configs_n)
            return client_fail(c, client_rc(CLIENT_INVALID_CONFIG), CLIENT_NO_MESSAGE, "config %s",
                               o->common.args.items[i]);
    }
    return 0;
}

static int get(struct client *c, void *options)
{
    static const struct cli_column columns[] = {
        {"name", "NAME", CLI_FORM_TEXT},          {"value", "VALUE", CLI_FORM_TEXT},
        {"source", "SOURCE", CLI_FORM_TEXT},      {"valueType", "TYPE", CLI_FORM_TEXT},
        {"readOnly", "READ ONLY", CLI_FORM_TEXT}, {"documentation", "WHAT", CLI_FORM_TEXT},
    };
    const struct config_options *o = options;
    struct metadata_response m;
    struct describe_configs_response r;
    struct arena arena;
    arena_init(&arena, CLIENT_ARENA_BYTES);
    int rc = client_metadata(c, &o->topic, 0, false, &arena, &m); /* who the brokers are */
    if (rc == 0)
        rc = client_configs(c, type_of(o), name_of(o), o->docs, &arena, &r);
    if (rc == 0)
        rc = names_check(c, o, &r);
    if (rc == 0) {
        struct json_object *rows = json_object_new_array();
        for (int32_t i = 0; i < r.results[0].configs_n; i++)
            if (is_wanted(o, &r.results[0].configs[i]))
                json_object_array_add(rows, value_row(o, &r.results[0].configs[i]));
        json_object_array_sort(rows, by_name);
        cli_rows(o->common.json, "configs", rows, columns, ARRAY_LEN(columns) - !o->docs);
    }
    arena_fini(&arena);
    return rc;
}

/* ---- set, delete ---- */

/* KEY=VALUE, KEY+=VALUE or KEY-=VALUE; or just KEY, to be deleted. */
static void change_parse(const char *text, bool is_deletion,
                         struct incremental_alter_configs_request_alterable_config *ret)
{
    const char *equals = is_deletion ? NULL : strchr(text, '=');
    char sign = equals == NULL || equals == text ? '\0' : equals[-1];
    size_t len = equals == NULL ? strlen(text) : (size_t)(equals - text);
    ret->config_operation = is_deletion   ? OPERATION_DELETE
                            : sign == '+' ? OPERATION_APPEND
                            : sign == '-' ? OPERATION_SUBTRACT
                                          : OPERATION_SET;
    ret->name = (struct wire_str){text, (int32_t)(len - (sign == '+' || sign == '-'))};
    ret->value = wire_str_of(equals == NULL ? NULL : equals + 1);
}

static int alter_once(struct client *c, const struct config_options *o, bool is_deletion,
                      struct arena *arena)
{
    struct incremental_alter_configs_request request;
    struct incremental_alter_configs_request_alter_configs_resource resource;
    struct incremental_alter_configs_response response;
    struct metadata_response m;
    int16_t version;
    arena_reset(arena);
    int rc = client_metadata(c, &o->topic, 0, false, arena, &m);
    int32_t node = client_configs_node(type_of(o), name_of(o));
    node = node == CLIENT_ANY ? c->controller_id : node;
    if (rc == 0)
        rc = client_version(c, node, API_INCREMENTAL_ALTER_CONFIGS, ALTER_CONFIGS_MOST, &version);
    if (rc < 0)
        return rc;
    wire_set_defaults(&incremental_alter_configs_request_schema, &request);
    wire_set_defaults(&incremental_alter_configs_request_alter_configs_resource_schema, &resource);
    resource.configs = wire_new_array(&incremental_alter_configs_request_alterable_config_schema,
                                      arena, (int32_t)o->common.args.n);
    if (resource.configs == NULL)
        return client_fail(c, -ENOMEM, CLIENT_NO_MESSAGE, "configs");
    resource.configs_n = (int32_t)o->common.args.n;
    for (unsigned i = 0; i < o->common.args.n; i++)
        change_parse(o->common.args.items[i], is_deletion, &resource.configs[i]);
    resource.resource_type = (int8_t)type_of(o);
    resource.resource_name = wire_str_of(name_of(o));
    request.resources = &resource;
    request.resources_n = 1;
    request.validate_only = o->dry_run;
    rc = client_call(c, node, API_INCREMENTAL_ALTER_CONFIGS, version, &request, arena, &response);
    if (rc < 0)
        return rc;
    if (response.responses_n != 1)
        return client_fail(c, -EPROTO, CLIENT_NO_MESSAGE, "configs of %s", name_of(o));
    rc = client_rc(response.responses[0].error_code);
    return rc == 0 ? 0
                   : client_fail(c, rc, response.responses[0].error_message, "configs of %s",
                                 *name_of(o) == '\0' ? "all brokers" : name_of(o));
}

static int alter(struct client *c, const struct config_options *o, bool is_deletion)
{
    struct client_retry retry = {0};
    struct arena arena;
    int rc;
    arena_init(&arena, CLIENT_ARENA_BYTES);
    do
        rc = alter_once(c, o, is_deletion, &arena);
    while (rc < 0 && rc != client_rc(CLIENT_UNKNOWN_TOPIC_OR_PARTITION) &&
           client_retry(c, &retry, rc));
    if (rc == 0 && o->common.json) {
        struct json_object *document = row_new(NULL);
        row_bool(document, "altered", !o->dry_run);
        row_uint(document, "configs", o->common.args.n);
        out_document(document);
        json_object_put(document);
    }
    arena_fini(&arena);
    return rc;
}

static int set(struct client *c, void *options)
{
    return alter(c, options, false);
}

static int delete (struct client *c, void *options)
{
    return alter(c, options, true);
}

/* ---- the command ---- */

static const char *check(const struct cli_command *command, const void *options)
{
    const struct config_options *o = options;
    int64_t id;
    if ((o->topic == NULL) == (o->broker == NULL))
        return "whose? One of --topic NAME, --broker ID";
    if (o->broker != NULL && strcmp(o->broker, "all") != 0 &&
        cli_number(o->broker, 0, INT32_MAX, &id) < 0)
        return "--broker must be a broker's id, or all";
    for (unsigned i = 0; i < o->common.args.n; i++) {
        const char *equals = strchr(o->common.args.items[i], '=');
        if (command->bit == SET && (equals == NULL || equals == o->common.args.items[i]))
            return "arguments must be KEY=VALUE, KEY+=VALUE or KEY-=VALUE";
    }
    return NULL;
}

#define AT(field) offsetof(struct config_options, field)

int cmd_config(int argc, char **argv)
{
    static const struct cli_command commands[] = {
        {"get", GET, get, "--topic NAME|--broker ID [KEY]...", 0, UINT32_MAX,
         "what was set; with KEYs, those; with --all, everything"},
        {"set", SET, set, "--topic NAME|--broker ID KEY=VALUE...", 1, UINT32_MAX,
         "set configs; KEY+=VALUE and KEY-=VALUE add to a list and take from it"},
        {"delete", DELETE, delete, "--topic NAME|--broker ID KEY...", 1, UINT32_MAX,
         "forget what was set: the default holds again"},
    };
    static const struct cli_option options[] = {
        {"topic", "NAME", 't', GET | SET | DELETE, CLI_TEXT, AT(topic), "of a topic"},
        {"broker", "ID", 'B', GET | SET | DELETE, CLI_TEXT, AT(broker),
         "of a broker; all: what holds for every broker"},
        {"all", NULL, 0, GET, CLI_FLAG, AT(all), "defaults, too"},
        {"docs", NULL, 0, GET, CLI_FLAG, AT(docs), "say what they are for"},
        {"dry-run", NULL, 'n', SET | DELETE, CLI_FLAG, AT(dry_run),
         "have it checked by the broker, change nothing"},
    };
    static const struct cli cli = {
        .name = "config",
        .about = "Configs of the topics and brokers of a running cluster, penstock's or any other\n"
                 "that speaks Kafka's protocol.",
        .commands = commands,
        .commands_n = ARRAY_LEN(commands),
        .options = options,
        .options_n = ARRAY_LEN(options),
        .check = check,
    };
    struct config_options o = {0};
    return cli_run(&cli, argc, argv, &o);
}
