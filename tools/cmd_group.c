#include "tools/cmd_group.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "core/base/bytes.h"
#include "tools/cli_table.h"

enum { LIST = 1, DESCRIBE = 2, DELETE = 4, RESET = 8 };
enum { LIST_GROUPS_MOST = 5, DELETE_GROUPS_MOST = 2 };

/* ---- list ---- */

static int list_node(struct client *c, const struct group_options *o, int32_t node,
                     struct arena *arena, struct json_object *rows)
{
    struct list_groups_request request;
    struct list_groups_response r;
    int16_t version;
    int rc = client_version(c, node, API_LIST_GROUPS, LIST_GROUPS_MOST, &version);
    if (rc < 0)
        return rc;
    wire_set_defaults(&list_groups_request_schema, &request);
    rc = client_call(c, node, API_LIST_GROUPS, version, &request, arena, &r);
    if (rc == 0 && r.error_code != 0)
        rc =
            client_fail(c, client_rc(r.error_code), CLIENT_NO_MESSAGE, "groups of broker %d", node);
    for (int32_t i = 0; rc == 0 && i < r.groups_n; i++) {
        struct json_object *row = row_new(NULL);
        row_str(row, "group", r.groups[i].group_id);
        row_str(row, "state", r.groups[i].group_state);
        row_str(row, "groupType", r.groups[i].group_type);
        row_str(row, "protocolType", r.groups[i].protocol_type);
        row_int(row, "coordinator", node);
        if (o->state == NULL || strcasecmp(o->state, row_get_text(row, "state")) == 0)
            json_object_array_add(rows, row);
        else
            json_object_put(row);
    }
    return rc;
}

static int by_group(const void *a, const void *b)
{
    struct json_object *const *x = a, *const *y = b;
    return strcmp(row_get_text(*x, "group"), row_get_text(*y, "group"));
}

/* Each broker knows the groups that it coordinates. */
static int list_once(struct client *c, const struct group_options *o, struct arena *arena,
                     struct json_object *rows)
{
    struct metadata_response m;
    const char *none = NULL;
    arena_reset(arena);
    int rc = client_metadata(c, &none, 0, false, arena, &m);
    for (int32_t i = 0; rc == 0 && i < m.brokers_n; i++)
        rc = list_node(c, o, m.brokers[i].node_id, arena, rows);
    return rc;
}

static int list(struct client *c, void *options)
{
    static const struct cli_column columns[] = {
        {"group", "GROUP", CLI_FORM_TEXT},
        {"state", "STATE", CLI_FORM_TEXT},
        {"groupType", "TYPE", CLI_FORM_TEXT},
        {"protocolType", "PROTOCOL", CLI_FORM_TEXT},
        {"coordinator", "COORDINATOR", CLI_FORM_COUNT},
    };
    const struct group_options *o = options;
    struct client_retry retry = {0};
    struct json_object *rows = NULL;
    struct arena arena;
    int rc;
    arena_init(&arena, CLIENT_ARENA_BYTES);
    do {
        json_object_put(rows);
        rows = json_object_new_array();
        rc = list_once(c, o, &arena, rows);
    } while (rc < 0 && client_retry(c, &retry, rc));
    json_object_array_sort(rows, by_group);
    if (rc == 0)
        cli_rows(o->common.json, "groups", rows, columns, ARRAY_LEN(columns));
    else
        json_object_put(rows);
    arena_fini(&arena);
    return rc;
}

/* ---- delete ---- */

static int delete_once(struct client *c, const char *group, struct arena *arena)
{
    struct delete_groups_request request;
    struct delete_groups_response r;
    struct wire_str name = wire_str_of(group);
    int32_t node;
    int16_t version;
    arena_reset(arena);
    int rc = client_coordinator(c, group, &node);
    if (rc == 0)
        rc = client_version(c, node, API_DELETE_GROUPS, DELETE_GROUPS_MOST, &version);
    if (rc < 0)
        return rc;
    wire_set_defaults(&delete_groups_request_schema, &request);
    request.groups_names = &name;
    request.groups_names_n = 1;
    rc = client_call(c, node, API_DELETE_GROUPS, version, &request, arena, &r);
    if (rc == 0)
        rc = r.results_n == 1 ? client_rc(r.results[0].error_code) : -EPROTO;
    return rc < 0 ? client_fail(c, rc, CLIENT_NO_MESSAGE, "group %s", group) : 0;
}

static int delete (struct client *c, void *options)
{
    const struct group_options *o = options;
    struct json_object *rows = json_object_new_array();
    struct arena arena;
    int worst = 0;
    arena_init(&arena, CLIENT_ARENA_BYTES);
    for (unsigned i = 0; i < o->common.args.n; i++) {
        struct client_retry retry = {0};
        struct json_object *row = row_new(NULL);
        int rc;
        do
            rc = delete_once(c, o->common.args.items[i], &arena);
        while (rc < 0 && client_retry(c, &retry, rc));
        row_text(row, "group", o->common.args.items[i]);
        row_bool(row, "deleted", rc == 0);
        if (rc == 0 && !o->common.json)
            printf("%s: deleted\n", o->common.args.items[i]);
        if (rc < 0) {
            cli_complain(&o->common, c->reason);
            row_text(row, "error", client_rc_name(rc));
            worst = CLI_SAID;
        }
        json_object_array_add(rows, row);
    }
    arena_fini(&arena);
    if (o->common.json)
        cli_rows(true, "groups", rows, NULL, 0);
    else
        json_object_put(rows);
    return worst;
}

/* ---- the command ---- */

static const char *check(const struct cli_command *command, const void *options)
{
    return command->bit == RESET ? group_view_reset_check(options) : NULL;
}

#define AT(field) offsetof(struct group_options, field)

int cmd_group(int argc, char **argv)
{
    static const struct cli_command commands[] = {
        {"list", LIST, list, "", 0, 0, "all groups"},
        {"describe", DESCRIBE, group_view_describe, "GROUP...", 1, UINT32_MAX,
         "offsets, how far behind in records and time, and how long what is unread will stay"},
        {"delete", DELETE, delete, "GROUP...", 1, UINT32_MAX,
         "delete groups without members, and their offsets"},
        {"reset-offsets", RESET, group_view_reset, "GROUP --topic NAME --to WHERE", 1, 1,
         "commit other offsets for a group without members"},
    };
    static const struct cli_option options[] = {
        {"state", "STATE", 's', LIST, CLI_TEXT, AT(state),
         "only groups in this state: Stable, Empty"},
        {"members", NULL, 'm', DESCRIBE, CLI_FLAG, AT(members), "list the members, too"},
        {"topic", "NAME", 't', RESET, CLI_LIST, AT(topics),
         "all partitions of this topic; may be given several times"},
        {"all-topics", NULL, 0, RESET, CLI_FLAG, AT(all_topics),
         "all partitions that the group has offsets of"},
        {"to", "WHERE", 0, RESET, CLI_TEXT, AT(to),
         "beginning, end, OFFSET, +N or -N from where it is, @TIME; within the log"},
        {"dry-run", NULL, 'n', RESET, CLI_FLAG, AT(dry_run), "say what would be done"},
    };
    static const struct cli cli = {
        .name = "group",
        .about = "Consumer groups of a running broker, this one or any other that speaks Kafka's\n"
                 "protocol.",
        .commands = commands,
        .commands_n = ARRAY_LEN(commands),
        .options = options,
        .options_n = ARRAY_LEN(options),
        .check = check,
    };
    struct group_options o = {0};
    return cli_run(&cli, argc, argv, &o);
}
