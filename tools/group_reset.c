/* group_reset.c: `penstock group reset-offsets`: commit other offsets for a group that has no
 * members. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "tools/cli_table.h"
#include "tools/cli_time.h"
#include "tools/client_offsets.h"
#include "tools/cmd_group.h"

enum { OFFSET_COMMIT_MOST = 9 }; /* the last one that names topics */

enum to_kind { TO_FIRST, TO_END, TO_OFFSET, TO_TIME, TO_SHIFT };

struct reset {
    struct client *c;
    const struct group_options *o;
    struct group_view g;
    enum to_kind kind;
    int64_t value;
    struct client_spot *spots; /* what is reset; offset: to where */
    unsigned spots_n;
};

static int to_parse(const char *text, enum to_kind *ret_kind, int64_t *ret)
{
    *ret = 0;
    if (strcmp(text, "beginning") == 0 || strcmp(text, "earliest") == 0)
        *ret_kind = TO_FIRST;
    else if (strcmp(text, "end") == 0 || strcmp(text, "latest") == 0)
        *ret_kind = TO_END;
    else if (*text == '@')
        return *ret_kind = TO_TIME, cli_time(text + 1, ret);
    else if (*text == '+' || *text == '-')
        return *ret_kind = TO_SHIFT, cli_number(text, INT64_MIN / 2, INT64_MAX / 2, ret);
    else
        return *ret_kind = TO_OFFSET, cli_number(text, 0, INT64_MAX, ret);
    return 0;
}

const char *group_view_reset_check(const struct group_options *o)
{
    enum to_kind kind;
    int64_t value;
    if (o->to == NULL)
        return "--to is missing: beginning, end, OFFSET, +N, -N or @TIME";
    if (to_parse(o->to, &kind, &value) < 0)
        return "--to must be beginning, end, OFFSET, +N, -N or @TIME";
    if ((o->topics.n == 0) == !o->all_topics)
        return "of which topics? One of --topic NAME, --all-topics";
    return NULL;
}

/* ---- which partitions ---- */

/* All partitions of the topic, or the committed ones of the group. */
static int topic_add(struct reset *r, const char *topic)
{
    struct metadata_response m;
    int rc = client_metadata(r->c, &topic, 1, false, &r->g.arena, &m);
    if (rc == 0 && (m.topics_n != 1 || m.topics[0].error_code != 0))
        rc = client_fail(r->c, m.topics_n != 1 ? -EPROTO : client_rc(m.topics[0].error_code),
                         CLIENT_NO_MESSAGE, "%s", topic);
    for (int32_t i = 0; rc == 0 && i < m.topics[0].partitions_n; i++)
        if (group_view_partition_at(&r->g, wire_str_of(topic),
                                    m.topics[0].partitions[i].partition_index) == NULL)
            rc = client_fail(r->c, -ENOMEM, CLIENT_NO_MESSAGE, "%s", topic);
    return rc;
}

static bool is_wanted(const struct reset *r, const struct group_partition *p)
{
    for (unsigned i = 0; i < r->o->topics.n; i++)
        if (strcmp(r->o->topics.items[i], p->topic) == 0)
            return true;
    return r->o->all_topics;
}

static int spots_make(struct reset *r)
{
    int rc = 0;
    for (unsigned i = 0; rc == 0 && i < r->o->topics.n; i++)
        rc = topic_add(r, r->o->topics.items[i]);
    if (rc < 0)
        return rc;
    group_view_sort(&r->g);
    r->spots = arena_array(&r->g.arena, r->g.partitions_n, sizeof(*r->spots));
    if (r->spots == NULL)
        return client_fail(r->c, -ENOMEM, CLIENT_NO_MESSAGE, "offsets");
    for (unsigned i = 0; rc == 0 && i < r->g.partitions_n; i++)
        if (is_wanted(r, &r->g.partitions[i]))
            r->spots[r->spots_n++] = (struct client_spot){.topic = r->g.partitions[i].topic,
                                                          .partition = r->g.partitions[i].partition,
                                                          .leader = -1};
    if (rc == 0 && r->spots_n == 0)
        rc = client_fail(r->c, client_rc(CLIENT_UNKNOWN_TOPIC_OR_PARTITION), CLIENT_NO_MESSAGE,
                         "group %s has no offsets", r->g.name);
    return rc;
}

/* ---- where to ---- */

static int offsets_ask(struct reset *r, int64_t timestamp, struct client_spot *spots)
{
    for (unsigned i = 0; i < r->spots_n; i++)
        spots[i].timestamp = timestamp;
    int rc = client_list_offsets(r->c, spots, r->spots_n, READ_UNCOMMITTED);
    for (unsigned i = 0; rc == 0 && i < r->spots_n; i++)
        if (spots[i].rc < 0)
            rc = client_fail(r->c, spots[i].rc, CLIENT_NO_MESSAGE, "%s-%d", spots[i].topic,
                             spots[i].partition);
    return rc;
}

static int64_t committed_of(struct reset *r, const struct client_spot *s)
{
    return group_view_partition_at(&r->g, wire_str_of(s->topic), s->partition)->committed;
}

/* Within what is there: an offset that is not would send the group to its reset policy. */
static int offsets_find(struct reset *r)
{
    size_t bytes = r->spots_n * sizeof(*r->spots);
    struct client_spot *starts = arena_dup(&r->g.arena, r->spots, bytes);
    struct client_spot *ends = arena_dup(&r->g.arena, r->spots, bytes);
    int rc = starts == NULL || ends == NULL
                 ? client_fail(r->c, -ENOMEM, CLIENT_NO_MESSAGE, "offsets")
                 : offsets_ask(r, OFFSETS_EARLIEST, starts);
    if (rc == 0)
        rc = offsets_ask(r, OFFSETS_LATEST, ends);
    if (rc == 0 && r->kind == TO_TIME)
        rc = offsets_ask(r, r->value, r->spots);
    for (unsigned i = 0; rc == 0 && i < r->spots_n; i++) {
        struct client_spot *s = &r->spots[i];
        int64_t committed = committed_of(r, s), to = ends[i].offset;
        if (r->kind == TO_FIRST)
            to = starts[i].offset;
        else if (r->kind == TO_OFFSET)
            to = r->value;
        else if (r->kind == TO_SHIFT)
            to = (committed < 0 ? starts[i].offset : committed) + r->value;
        else if (r->kind == TO_TIME && s->offset >= 0)
            to = s->offset;
        s->offset = MIN(MAX(to, starts[i].offset), ends[i].offset);
        s->leader_epoch = -1;
    }
    return rc;
}

/* ---- committing ---- */

static int request_fill(struct reset *r, struct offset_commit_request *request)
{
    struct offset_commit_request_offset_commit_request_topic *topic = NULL;
    request->topics = wire_new_array(&offset_commit_request_offset_commit_request_topic_schema,
                                     &r->g.arena, (int32_t)r->spots_n);
    struct offset_commit_request_offset_commit_request_partition *p =
        wire_new_array(&offset_commit_request_offset_commit_request_partition_schema, &r->g.arena,
                       (int32_t)r->spots_n);
    if (request->topics == NULL || p == NULL)
        return client_fail(r->c, -ENOMEM, CLIENT_NO_MESSAGE, "offsets");
    for (unsigned i = 0; i < r->spots_n; i++, p++) {
        if (topic == NULL || !wire_str_eq(topic->name, r->spots[i].topic)) {
            topic = &request->topics[request->topics_n++];
            topic->name = wire_str_of(r->spots[i].topic);
            topic->partitions = p;
        }
        p->partition_index = r->spots[i].partition;
        p->committed_offset = r->spots[i].offset;
        topic->partitions_n++;
    }
    return 0;
}

static int commit_once(struct reset *r)
{
    struct offset_commit_request request;
    struct offset_commit_response response;
    int16_t version;
    int rc = client_coordinator(r->c, r->g.name, &r->g.coordinator);
    if (rc == 0)
        rc =
            client_version(r->c, r->g.coordinator, API_OFFSET_COMMIT, OFFSET_COMMIT_MOST, &version);
    if (rc < 0)
        return rc;
    wire_set_defaults(&offset_commit_request_schema, &request);
    request.group_id = wire_str_of(r->g.name);
    rc = request_fill(r, &request);
    if (rc == 0)
        rc = client_call(r->c, r->g.coordinator, API_OFFSET_COMMIT, version, &request, &r->g.arena,
                         &response);
    for (int32_t t = 0; rc == 0 && t < response.topics_n; t++)
        for (int32_t p = 0; rc == 0 && p < response.topics[t].partitions_n; p++)
            if (response.topics[t].partitions[p].error_code != 0)
                rc = client_fail(r->c, client_rc(response.topics[t].partitions[p].error_code),
                                 CLIENT_NO_MESSAGE, "group %s, %.*s-%d", r->g.name,
                                 MAX(response.topics[t].name.len, 0),
                                 response.topics[t].name.len > 0 ? response.topics[t].name.p : "",
                                 response.topics[t].partitions[p].partition_index);
    return rc;
}

static int commit(struct reset *r)
{
    struct client_retry retry = {0};
    int rc;
    do
        rc = commit_once(r);
    while (rc < 0 && client_retry(r->c, &retry, rc));
    return rc;
}

static void show(struct reset *r)
{
    static const struct cli_column columns[] = {
        {"topic", "TOPIC", CLI_FORM_TEXT},
        {"partition", "PARTITION", CLI_FORM_COUNT},
        {"oldOffset", "OLD", CLI_FORM_COUNT},
        {"newOffset", "NEW", CLI_FORM_COUNT},
    };
    struct json_object *rows = json_object_new_array();
    for (unsigned i = 0; i < r->spots_n; i++) {
        struct json_object *row = row_new(NULL);
        row_text(row, "topic", r->spots[i].topic);
        row_int(row, "partition", r->spots[i].partition);
        row_offset(row, "oldOffset", committed_of(r, &r->spots[i]));
        row_int(row, "newOffset", r->spots[i].offset);
        json_object_array_add(rows, row);
    }
    cli_rows(r->o->common.json, "offsets", rows, columns, ARRAY_LEN(columns));
}

/* A group that is not there yet is made by this. */
static int group_find(struct reset *r)
{
    int rc = group_view_read(r->c, r->o->common.args.items[0], &r->g);
    if (rc == client_rc(CLIENT_GROUP_ID_NOT_FOUND)) {
        r->g.state = "Empty";
        rc = 0;
    }
    if (rc == 0 && strcmp(r->g.state, "Empty") != 0)
        rc = client_fail(r->c, client_rc(CLIENT_NON_EMPTY_GROUP), CLIENT_NO_MESSAGE,
                         "group %s is %s, with %u members: stop them first", r->g.name, r->g.state,
                         r->g.members_n);
    return rc;
}

int group_view_reset(struct client *c, void *options)
{
    struct reset r = {.c = c, .o = options};
    to_parse(r.o->to, &r.kind, &r.value);
    int rc = group_find(&r);
    if (rc == 0)
        rc = spots_make(&r);
    if (rc == 0)
        rc = offsets_find(&r);
    if (rc == 0 && !r.o->dry_run)
        rc = commit(&r);
    if (rc == 0)
        show(&r);
    group_view_close(&r.g);
    return rc;
}
