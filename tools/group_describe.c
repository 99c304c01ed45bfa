/* group_describe.c: `penstock group describe`: a group's state, members, and how far each
 * partition is behind. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "core/base/bytes.h"
#include "tools/cli_table.h"
#include "tools/cmd_group.h"

static const char *const left_names[] = {
    [LEFT_NOTHING_UNREAD] = "nothing-unread", [LEFT_BY_TIME] = "time",    [LEFT_BY_SIZE] = "size",
    [LEFT_UNBOUNDED] = "unbounded",           [LEFT_UNKNOWN] = "unknown",
};

/* Milliseconds are as much as is known. */
static void row_seconds(struct json_object *row, const char *key, double s)
{
    char text[40];
    snprintf(text, sizeof(text), "%.3f", s);
    row_add(row, key, json_object_new_double_s(s, text));
}

static bool is_number(enum group_left left)
{
    return left == LEFT_BY_TIME || left == LEFT_BY_SIZE;
}

/* For people: "2 h 5 min", "~5 min 1 s" where it is an estimate, or a word. */
static void row_left_text(struct json_object *row, enum group_left left, double left_s)
{
    char span[32], text[64];
    if (left == LEFT_NOTHING_UNREAD)
        snprintf(text, sizeof(text), "-");
    else if (!is_number(left))
        snprintf(text, sizeof(text), "%s", left_names[left]);
    else if (left_s <= 0)
        snprintf(text, sizeof(text), "overdue");
    else
        snprintf(text, sizeof(text), "%s%s", left == LEFT_BY_SIZE ? "~" : "",
                 cli_span(left_s, span));
    row_text(row, "left", text);
}

static struct json_object *partition_row(const struct group_partition *p, bool json)
{
    struct json_object *row = row_new(NULL);
    row_text(row, "topic", p->topic);
    row_int(row, "partition", p->partition);
    row_offset(row, "committedOffset", p->committed);
    row_offset(row, "logStartOffset", p->rc == 0 ? p->start : -1);
    row_offset(row, "logEndOffset", p->rc == 0 ? p->end : -1);
    row_offset(row, "lagRecords", p->lag);
    row_offset(row, "lostRecords", p->committed < 0 || p->rc != 0 ? -1 : p->lost);
    row_offset(row, "firstUnreadTimestamp", p->unread_ms);
    row_add(row, "lagSeconds", NULL);
    if (p->lag_s >= 0)
        row_seconds(row, "lagSeconds", p->lag_s);
    row_add(row, "timeLeftSeconds", NULL);
    if (is_number(p->left))
        row_seconds(row, "timeLeftSeconds", p->left_s);
    row_text(row, "timeLeftBy", left_names[p->left]);
    row_text(row, "memberId", p->member == NULL ? NULL : p->member->id);
    row_text(row, "clientId", p->member == NULL ? NULL : p->member->client);
    row_text(row, "host", p->member == NULL ? NULL : p->member->host);
    if (p->rc != 0)
        row_text(row, "error", client_rc_name(p->rc));
    if (!json)
        row_left_text(row, p->left, p->left_s);
    return row;
}

static struct json_object *member_row(const struct group_member *m)
{
    struct json_object *row = row_new(NULL);
    row_text(row, "memberId", m->id);
    row_text(row, "instanceId", m->instance);
    row_text(row, "clientId", m->client);
    row_text(row, "host", m->host);
    row_uint(row, "partitions", m->partitions_n);
    return row;
}

/* What a group has in all: the sum of its lags, the oldest unread record, the least time left. */
static void totals_add(const struct group_view *g, struct json_object *row)
{
    const struct group_partition *oldest = NULL, *soonest = NULL;
    uint64_t lag = 0, lost = 0;
    for (unsigned i = 0; i < g->partitions_n; i++) {
        const struct group_partition *p = &g->partitions[i];
        lag += (uint64_t)MAX(p->lag, 0);
        lost += (uint64_t)p->lost;
        if (p->lag_s >= 0 && (oldest == NULL || p->lag_s > oldest->lag_s))
            oldest = p;
        if (is_number(p->left) && (soonest == NULL || p->left_s < soonest->left_s))
            soonest = p;
    }
    row_uint(row, "lagRecords", lag);
    row_uint(row, "lostRecords", lost);
    row_add(row, "lagSeconds", NULL);
    if (oldest != NULL)
        row_seconds(row, "lagSeconds", oldest->lag_s);
    row_add(row, "timeLeftSeconds", NULL);
    if (soonest != NULL)
        row_seconds(row, "timeLeftSeconds", soonest->left_s);
}

static bool has_key(struct json_object *rows, const char *key)
{
    for (size_t i = 0; i < json_object_array_length(rows); i++)
        if (row_get_text(json_object_array_get_idx(rows, i), key)[0] != '\0')
            return true;
    return false;
}

static void print(const struct group_view *g, struct json_object *partitions,
                  struct json_object *members)
{
    static const struct cli_column columns[] = {
        {"topic", "TOPIC", CLI_FORM_TEXT},
        {"partition", "PARTITION", CLI_FORM_COUNT},
        {"committedOffset", "COMMITTED", CLI_FORM_COUNT},
        {"logEndOffset", "END", CLI_FORM_COUNT},
        {"lagRecords", "LAG", CLI_FORM_COUNT},
        {"lagSeconds", "BEHIND", CLI_FORM_SPAN},
        {"left", "TIME LEFT", CLI_FORM_TEXT},
        {"lostRecords", "LOST", CLI_FORM_COUNT},
        {"clientId", "CLIENT", CLI_FORM_TEXT},
        {"host", "HOST", CLI_FORM_TEXT},
        {"error", "ERROR", CLI_FORM_TEXT},
    };
    static const struct cli_column member_columns[] = {
        {"memberId", "MEMBER", CLI_FORM_TEXT},        {"instanceId", "INSTANCE", CLI_FORM_TEXT},
        {"clientId", "CLIENT", CLI_FORM_TEXT},        {"host", "HOST", CLI_FORM_TEXT},
        {"partitions", "PARTITIONS", CLI_FORM_COUNT},
    };
    printf("group %s, %s, %s, protocol %s, coordinator %d, %u members\n", g->name, g->state,
           g->type, *g->protocol == '\0' ? "-" : g->protocol, g->coordinator, g->members_n);
    cli_table(partitions, columns, ARRAY_LEN(columns) - !has_key(partitions, "error"));
    if (members != NULL)
        cli_table(members, member_columns, ARRAY_LEN(member_columns));
}

static void show(const struct group_view *g, const struct group_options *o,
                 struct json_object *groups)
{
    struct json_object *row = row_new(NULL), *partitions = json_object_new_array();
    struct json_object *members = json_object_new_array();
    row_text(row, "group", g->name);
    row_text(row, "state", g->state);
    row_text(row, "groupType", g->type);
    row_text(row, "protocol", g->protocol);
    row_int(row, "coordinator", g->coordinator);
    totals_add(g, row);
    for (unsigned i = 0; i < g->members_n; i++)
        json_object_array_add(members, member_row(&g->members[i]));
    for (unsigned i = 0; i < g->partitions_n; i++)
        json_object_array_add(partitions, partition_row(&g->partitions[i], o->common.json));
    row_add(row, "members", members);
    row_add(row, "partitions", partitions);
    if (!o->common.json)
        print(g, partitions, o->members ? members : NULL);
    json_object_array_add(groups, row);
}

int group_view_describe(struct client *c, void *options)
{
    const struct group_options *o = options;
    struct json_object *groups = json_object_new_array();
    int worst = 0;
    for (unsigned i = 0; i < o->common.args.n; i++) {
        struct group_view g;
        int rc = group_view_read(c, o->common.args.items[i], &g);
        if (rc == 0)
            rc = group_view_lag(c, &g);
        if (rc == 0)
            show(&g, o, groups);
        else
            cli_complain(&o->common, c->reason);
        worst = rc < 0 ? CLI_SAID : worst;
        group_view_close(&g);
    }
    if (o->common.json)
        cli_rows(true, "groups", groups, NULL, 0);
    else
        json_object_put(groups);
    return worst;
}
