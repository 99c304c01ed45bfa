#include "tools/cmd_topic.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/base/bytes.h"
#include "tools/cli_table.h"

enum { LIST = 1, DESCRIBE = 2, CREATE = 4, DELETE = 8, ALTER = 16 };
enum { CREATE_TOPICS_MOST = 7, DELETE_TOPICS_MOST = 5, CREATE_PARTITIONS_MOST = 3 };

/* ---- list ---- */

static int list(struct client *c, void *options)
{
    static const struct cli_column columns[] = {{"topic", "TOPIC", CLI_FORM_TEXT},
                                                {"partitions", "PARTITIONS", CLI_FORM_COUNT},
                                                {"replicationFactor", "REPLICAS", CLI_FORM_COUNT},
                                                {"internal", "INTERNAL", CLI_FORM_TEXT}};
    const struct topic_options *o = options;
    struct metadata_response m;
    struct arena arena;
    arena_init(&arena, CLIENT_ARENA_BYTES);
    int rc = client_metadata(c, NULL, 0, false, &arena, &m);
    if (rc == 0) {
        struct json_object *rows = json_object_new_array();
        for (int32_t i = 0; i < m.topics_n; i++) {
            const struct metadata_response_metadata_response_topic *t = &m.topics[i];
            struct json_object *row = row_new(NULL);
            row_str(row, "topic", t->name);
            row_uuid(row, "topicId", &t->topic_id);
            row_int(row, "partitions", t->partitions_n);
            row_int(row, "replicationFactor",
                    t->partitions_n > 0 ? t->partitions[0].replica_nodes_n : 0);
            row_bool(row, "internal", t->is_internal);
            json_object_array_add(rows, row);
        }
        cli_rows(o->common.json, "topics", rows, columns, ARRAY_LEN(columns));
    }
    arena_fini(&arena);
    return rc;
}

/* ---- changes: one topic a request, so that asking again never repeats what is done ---- */

struct change {
    const char *topic;
    const struct topic_options *o;
    struct arena arena;
    struct json_object *row; /* what was done */
    const char *text;
};

typedef int (*change_fn)(struct client *c, struct change *change);

static int answered(struct client *c, struct change *change, int16_t error, struct wire_str message)
{
    return error == 0 ? 0 : client_fail(c, client_rc(error), message, "%s", change->topic);
}

static int not_answered(struct client *c, const struct change *change)
{
    return client_fail(c, -EPROTO, CLIENT_NO_MESSAGE, "%s: no answer for the topic", change->topic);
}

static struct wire_str before_equals(const char *pair)
{
    return (struct wire_str){pair, (int32_t)strcspn(pair, "=")};
}

static int create_one(struct client *c, struct change *change)
{
    const struct topic_options *o = change->o;
    struct create_topics_request request;
    struct create_topics_request_creatable_topic topic;
    struct create_topics_response response;
    int16_t version;
    int rc = client_version(c, c->controller_id, API_CREATE_TOPICS, CREATE_TOPICS_MOST, &version);
    if (rc < 0)
        return rc;
    wire_set_defaults(&create_topics_request_schema, &request);
    wire_set_defaults(&create_topics_request_creatable_topic_schema, &topic);
    /* Before version 4 a broker has no defaults to give. */
    int32_t least = version < 4 ? 1 : -1;
    topic.name = wire_str_of(change->topic);
    topic.num_partitions = MAX((int32_t)o->partitions, least);
    topic.replication_factor = (int16_t)MAX((int32_t)o->replication_factor, least);
    topic.configs = wire_new_array(&create_topics_request_creatable_topic_config_schema,
                                   &change->arena, (int32_t)o->configs.n);
    if (topic.configs == NULL && o->configs.n > 0)
        return client_fail(c, -ENOMEM, CLIENT_NO_MESSAGE, "%s", change->topic);
    topic.configs_n = (int32_t)o->configs.n;
    for (unsigned i = 0; i < o->configs.n; i++) {
        topic.configs[i].name = before_equals(o->configs.items[i]);
        topic.configs[i].value = wire_str_of(strchr(o->configs.items[i], '=') + 1);
    }
    request.topics = &topic;
    request.topics_n = 1;
    request.timeout_ms = (int32_t)(o->common.timeout_s * 1000);
    request.validate_only = o->dry_run;
    rc = client_call(c, c->controller_id, API_CREATE_TOPICS, version, &request, &change->arena,
                     &response);
    if (rc < 0)
        return rc;
    if (response.topics_n != 1)
        return not_answered(c, change);
    const struct create_topics_response_creatable_topic_result *r = &response.topics[0];
    bool is_there = r->error_code == CLIENT_TOPIC_ALREADY_EXISTS && o->if_not_exists;
    rc = is_there ? 0 : answered(c, change, r->error_code, r->error_message);
    if (rc < 0)
        return rc;
    row_uuid(change->row, "topicId", &r->topic_id);
    row_bool(change->row, "created", !is_there && !o->dry_run);
    if (r->num_partitions > 0) {
        row_int(change->row, "partitions", r->num_partitions);
        row_int(change->row, "replicationFactor", r->replication_factor);
    }
    change->text = is_there ? "is there already" : o->dry_run ? "could be created" : "created";
    return 0;
}

static int delete_one(struct client *c, struct change *change)
{
    struct delete_topics_request request;
    struct delete_topics_response response;
    struct wire_str name = wire_str_of(change->topic);
    int16_t version;
    int rc = client_version(c, c->controller_id, API_DELETE_TOPICS, DELETE_TOPICS_MOST, &version);
    if (rc < 0)
        return rc;
    wire_set_defaults(&delete_topics_request_schema, &request);
    request.topic_names = &name;
    request.topic_names_n = 1;
    request.timeout_ms = (int32_t)(change->o->common.timeout_s * 1000);
    rc = client_call(c, c->controller_id, API_DELETE_TOPICS, version, &request, &change->arena,
                     &response);
    if (rc < 0)
        return rc;
    if (response.responses_n != 1)
        return not_answered(c, change);
    int16_t error = response.responses[0].error_code;
    bool is_gone = error == CLIENT_UNKNOWN_TOPIC_OR_PARTITION;
    if (is_gone && !change->o->if_exists)
        return client_fail(c, client_rc(error), CLIENT_NO_MESSAGE, "%s", change->topic);
    rc = is_gone ? 0 : answered(c, change, error, response.responses[0].error_message);
    row_bool(change->row, "deleted", !is_gone);
    change->text = is_gone ? "was not there" : "deleted";
    return rc;
}

static int alter_one(struct client *c, struct change *change)
{
    struct create_partitions_request request;
    struct create_partitions_request_create_partitions_topic topic;
    struct create_partitions_response response;
    int16_t version;
    int rc = client_version(c, c->controller_id, API_CREATE_PARTITIONS, CREATE_PARTITIONS_MOST,
                            &version);
    if (rc < 0)
        return rc;
    wire_set_defaults(&create_partitions_request_schema, &request);
    wire_set_defaults(&create_partitions_request_create_partitions_topic_schema, &topic);
    topic.name = wire_str_of(change->topic);
    topic.count = (int32_t)change->o->partitions;
    topic.assignments_n = -1; /* the broker chooses */
    request.topics = &topic;
    request.topics_n = 1;
    request.timeout_ms = (int32_t)(change->o->common.timeout_s * 1000);
    request.validate_only = change->o->dry_run;
    rc = client_call(c, c->controller_id, API_CREATE_PARTITIONS, version, &request, &change->arena,
                     &response);
    if (rc < 0)
        return rc;
    if (response.results_n != 1)
        return not_answered(c, change);
    row_int(change->row, "partitions", change->o->partitions);
    row_bool(change->row, "altered", !change->o->dry_run);
    change->text = change->o->dry_run ? "could be altered" : "altered";
    return answered(c, change, response.results[0].error_code, response.results[0].error_message);
}

/* Ask the controller; who that is may be news. */
static int change_once(struct client *c, struct change *change, change_fn fn)
{
    struct metadata_response m;
    arena_reset(&change->arena);
    json_object_put(change->row);
    change->row = row_new(NULL);
    row_text(change->row, "topic", change->topic);
    int rc = client_metadata(c, &change->topic, 0, false, &change->arena, &m);
    return rc < 0 ? rc : fn(c, change);
}

static int change_all(struct client *c, const struct topic_options *o, change_fn fn)
{
    struct json_object *rows = json_object_new_array();
    int worst = 0;
    for (unsigned i = 0; i < o->common.args.n; i++) {
        struct change change = {.topic = o->common.args.items[i], .o = o};
        struct client_retry retry = {0};
        int rc;
        arena_init(&change.arena, CLIENT_ARENA_BYTES);
        do
            rc = change_once(c, &change, fn);
        while (rc < 0 && rc != client_rc(CLIENT_UNKNOWN_TOPIC_OR_PARTITION) &&
               client_retry(c, &retry, rc));
        if (rc == 0 && !o->common.json)
            printf("%s: %s\n", change.topic, change.text);
        if (rc < 0) {
            cli_complain(&o->common, c->reason);
            row_text(change.row, "error", client_rc_name(rc));
            worst = CLI_SAID;
        }
        json_object_array_add(rows, change.row);
        arena_fini(&change.arena);
    }
    if (o->common.json)
        cli_rows(true, "topics", rows, NULL, 0);
    else
        json_object_put(rows);
    return worst;
}

static int create(struct client *c, void *options)
{
    return change_all(c, options, create_one);
}

static int delete (struct client *c, void *options)
{
    return change_all(c, options, delete_one);
}

static int alter(struct client *c, void *options)
{
    return change_all(c, options, alter_one);
}

/* ---- the command ---- */

static const char *check(const struct cli_command *command, const void *options)
{
    const struct topic_options *o = options;
    if (o->partitions > INT32_MAX || o->partitions == 0)
        return "--partitions must be 1 to 2147483647";
    if (o->replication_factor > INT16_MAX || o->replication_factor == 0)
        return "--replication-factor must be 1 to 32767";
    if (command->bit == ALTER && o->partitions < 0)
        return "--partitions is missing: the number of partitions to have";
    for (unsigned i = 0; i < o->configs.n; i++)
        if (strchr(o->configs.items[i], '=') == NULL)
            return "--config must be KEY=VALUE";
    return NULL;
}

#define AT(field) offsetof(struct topic_options, field)

int cmd_topic(int argc, char **argv)
{
    static const struct cli_command commands[] = {
        {"list", LIST, list, "", 0, 0, "all topics"},
        {"describe", DESCRIBE, topic_describe, "[TOPIC]...", 0, UINT32_MAX,
         "partitions, leaders, epochs, offsets and sizes; of all topics when none is named"},
        {"create", CREATE, create, "TOPIC...", 1, UINT32_MAX, "make topics"},
        {"delete", DELETE, delete, "TOPIC...", 1, UINT32_MAX, "delete topics and their records"},
        {"alter", ALTER, alter, "TOPIC... --partitions N", 1, UINT32_MAX,
         "give topics more partitions"},
    };
    static const struct cli_option options[] = {
        {"partitions", "N", 'p', CREATE | ALTER, CLI_NUMBER, AT(partitions),
         "partitions to have (create: the broker's default)"},
        {"replication-factor", "N", 'r', CREATE, CLI_NUMBER, AT(replication_factor),
         "replicas of each partition (default: the broker's)"},
        {"config", "KEY=VALUE", 'c', CREATE, CLI_LIST, AT(configs),
         "a config of the topic; may be given several times"},
        {"if-not-exists", NULL, 0, CREATE, CLI_FLAG, AT(if_not_exists),
         "a topic that is there already is no error"},
        {"if-exists", NULL, 0, DELETE, CLI_FLAG, AT(if_exists),
         "a topic that is not there is no error"},
        {"dry-run", NULL, 'n', CREATE | ALTER, CLI_FLAG, AT(dry_run),
         "have it checked by the broker, change nothing"},
    };
    static const struct cli cli = {
        .name = "topic",
        .about = "Topics of a running broker, this one or any other that speaks Kafka's protocol.",
        .commands = commands,
        .commands_n = ARRAY_LEN(commands),
        .options = options,
        .options_n = ARRAY_LEN(options),
        .check = check,
    };
    struct topic_options o = {.partitions = -1, .replication_factor = -1};
    return cli_run(&cli, argc, argv, &o);
}
