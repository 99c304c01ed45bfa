/* topic_describe.c: `penstock topic describe`: what metadata, offsets, log directories and configs
 * say of topics. What a broker does not tell is left out. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/bytes.h"
#include "tools/cli_table.h"
#include "tools/client_configs.h"
#include "tools/client_sizes.h"
#include "tools/cmd_topic.h"

struct describe {
    struct client *c;
    const struct topic_options *o;
    struct arena arena, answers; /* answers: of one call each */
    struct metadata_response m;
    struct client_spot *starts, *ends;
    int64_t *sizes;
    unsigned n;
};

/* ---- offsets ---- */

static int offsets_read(struct describe *d)
{
    d->ends = client_spots(&d->m, &d->arena, &d->n);
    d->starts = client_spots(&d->m, &d->arena, &d->n);
    d->sizes = arena_array(&d->arena, d->n, sizeof(*d->sizes));
    if (d->ends == NULL || d->starts == NULL || d->sizes == NULL)
        return client_fail(d->c, -ENOMEM, CLIENT_NO_MESSAGE, "topics");
    for (unsigned i = 0; i < d->n; i++)
        d->starts[i].timestamp = OFFSETS_EARLIEST;
    int rc = client_list_offsets(d->c, d->starts, d->n, READ_UNCOMMITTED);
    return rc < 0 ? rc : client_list_offsets(d->c, d->ends, d->n, READ_UNCOMMITTED);
}

/* ---- what is shown ---- */

static struct json_object *
partition_row(struct describe *d, const struct metadata_response_metadata_response_partition *p,
              unsigned i)
{
    const struct client_spot *start = &d->starts[i], *end = &d->ends[i];
    struct json_object *row = row_new(NULL);
    row_int(row, "partition", p->partition_index);
    row_offset(row, "leader", p->leader_id);
    row_offset(row, "leaderEpoch", p->leader_epoch);
    row_ints(row, "replicas", p->replica_nodes, p->replica_nodes_n);
    row_ints(row, "isr", p->isr_nodes, p->isr_nodes_n);
    row_offset(row, "logStartOffset", start->rc == 0 ? start->offset : -1);
    row_offset(row, "logEndOffset", end->rc == 0 ? end->offset : -1);
    row_offset(row, "sizeBytes", d->sizes[i]);
    int rc = p->error_code != 0 ? client_rc(p->error_code) : start->rc != 0 ? start->rc : end->rc;
    if (rc != 0)
        row_text(row, "error", client_rc_name(rc));
    return row;
}

/* The configs that were set for the topic itself. */
static int configs_row(struct describe *d, const char *topic, struct json_object *row)
{
    struct describe_configs_response r;
    struct json_object *set = row_new(NULL);
    arena_reset(&d->answers);
    int rc = client_configs(d->c, CONFIG_TOPIC, topic, false, &d->answers, &r);
    for (int32_t i = 0; rc == 0 && i < r.results[0].configs_n; i++) {
        const struct describe_configs_response_describe_configs_resource_result *config =
            &r.results[0].configs[i];
        const char *name = arena_printf(&d->answers, "%.*s", MAX(config->name.len, 0),
                                        config->name.len > 0 ? config->name.p : "");
        if (config->config_source == CONFIG_SOURCE_TOPIC && name != NULL)
            row_str(set, name, config->value);
    }
    if (rc == 0)
        row_add(row, "configs", set);
    else
        json_object_put(set);
    return rc == client_rc(CLIENT_UNSUPPORTED_VERSION) ? 0 : rc;
}

static void topic_print(struct json_object *row, struct json_object *partitions)
{
    static const struct cli_column columns[] = {
        {"partition", "PARTITION", CLI_FORM_COUNT}, {"leader", "LEADER", CLI_FORM_COUNT},
        {"leaderEpoch", "EPOCH", CLI_FORM_COUNT},   {"replicas", "REPLICAS", CLI_FORM_TEXT},
        {"isr", "IN SYNC", CLI_FORM_TEXT},          {"logStartOffset", "START", CLI_FORM_COUNT},
        {"logEndOffset", "END", CLI_FORM_COUNT},    {"sizeBytes", "SIZE", CLI_FORM_SIZE},
        {"error", "ERROR", CLI_FORM_TEXT},
    };
    struct json_object *configs = row_get_array(row, "configs");
    bool has_errors = false;
    for (size_t i = 0; i < json_object_array_length(partitions); i++)
        has_errors |= row_get_text(json_object_array_get_idx(partitions, i), "error")[0] != '\0';
    printf("topic %s, id %s, %zu partitions%s", row_get_text(row, "topic"),
           row_get_text(row, "topicId")[0] == '\0' ? "-" : row_get_text(row, "topicId"),
           json_object_array_length(partitions), row_get(row, "internal") ? ", internal" : "");
    if (configs != NULL) {
        json_object_object_foreach(configs, key, v)
        {
            char text[256];
            cli_escape(text, sizeof(text), json_object_get_string(v));
            printf(", %s=%s", key, text);
        }
    }
    putchar('\n');
    cli_table(partitions, columns, ARRAY_LEN(columns) - !has_errors);
}

static int topic_show(struct describe *d, const struct metadata_response_metadata_response_topic *t,
                      unsigned first, struct json_object *document)
{
    struct json_object *row = row_new(NULL), *partitions = json_object_new_array();
    int rc = 0;
    row_str(row, "topic", t->name);
    row_uuid(row, "topicId", &t->topic_id);
    row_bool(row, "internal", t->is_internal);
    for (int32_t p = 0; p < t->partitions_n; p++)
        json_object_array_add(partitions, partition_row(d, &t->partitions[p], first + (unsigned)p));
    if (t->partitions_n > 0)
        rc = configs_row(d, d->ends[first].topic, row);
    row_add(row, "partitions", partitions);
    if (rc == 0 && !d->o->common.json)
        topic_print(row, partitions);
    json_object_array_add(document, row);
    return rc;
}

static int topics_show(struct describe *d)
{
    struct json_object *document = json_object_new_array();
    unsigned first = 0;
    int rc = 0, worst = 0;
    for (int32_t t = 0; rc == 0 && t < d->m.topics_n; t++) {
        const struct metadata_response_metadata_response_topic *topic = &d->m.topics[t];
        if (topic->error_code != 0) {
            client_fail(d->c, client_rc(topic->error_code), CLIENT_NO_MESSAGE, "%.*s",
                        MAX(topic->name.len, 0), topic->name.len > 0 ? topic->name.p : "");
            cli_complain(&d->o->common, d->c->reason);
            worst = CLI_SAID;
        } else {
            rc = topic_show(d, topic, first, document);
        }
        first += topic->partitions_n > 0 ? (unsigned)topic->partitions_n : 0;
    }
    if (rc == 0 && d->o->common.json)
        cli_rows(true, "topics", document, NULL, 0);
    else
        json_object_put(document);
    return rc != 0 ? rc : worst;
}

int topic_describe(struct client *c, void *options)
{
    const struct topic_options *o = options;
    struct describe d = {.c = c, .o = o};
    arena_init(&d.arena, CLIENT_ARENA_BYTES);
    arena_init(&d.answers, CLIENT_ARENA_BYTES);
    int rc = client_metadata(c, o->common.args.n > 0 ? o->common.args.items : NULL,
                             o->common.args.n, false, &d.arena, &d.m);
    if (rc == 0)
        rc = offsets_read(&d);
    if (rc == 0)
        rc = client_sizes(c, d.ends, d.n, d.sizes);
    if (rc == 0)
        rc = topics_show(&d);
    arena_fini(&d.arena);
    arena_fini(&d.answers);
    return rc;
}
