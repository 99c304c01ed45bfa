/* log_verify.c: `penstock log verify`: says what log_check.c has found. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "tools/cmd_log.h"
#include "tools/log_check.h"
#include "tools/log_report.h"

static struct json_object *totals_row(const struct log_check *c, unsigned damages)
{
    struct json_object *row = row_new(NULL);
    row_uint(row, "partitions", json_object_array_length(c->partitions));
    row_uint(row, "batches", c->batches);
    row_uint(row, "records", c->records);
    row_uint(row, "lostOffsets", c->lost_offsets);
    row_int(row, "damages", damages);
    return row;
}

static void verify_json(const struct log_check *c, unsigned damages)
{
    struct json_object *doc = row_new(NULL), *findings = json_object_new_array();
    for (unsigned i = 0; i < c->findings_n; i++)
        json_object_array_add(findings, finding_row(&c->findings[i]));
    row_bool(doc, "ok", damages == 0);
    row_add(doc, "findings", findings);
    row_add(doc, "partitions", json_object_get(c->partitions));
    row_add(doc, "journals", json_object_get(c->journals));
    row_add(doc, "totals", totals_row(c, damages));
    out_document(doc);
    json_object_put(doc);
}

static void partition_text(const struct json_object *p)
{
    printf("%s-%" PRId64 ": ", row_get_text(p, "topic"), row_get(p, "partition"));
    if (json_object_object_get_ex(p, "endOffset", NULL))
        printf("offsets %" PRId64 " to %" PRId64 ", leader epoch %" PRId64 ", ",
               row_get(p, "logStartOffset"), row_get(p, "endOffset"), row_get(p, "leaderEpoch"));
    printf("%" PRId64 " segments, %" PRId64 " batches, %" PRId64 " records", row_get(p, "segments"),
           row_get(p, "batches"), row_get(p, "records"));
    if (row_get(p, "lostOffsets") > 0)
        printf(", %" PRId64 " offsets LOST", row_get(p, "lostOffsets"));
    putchar('\n');
}

static void verify_text(const struct log_check *c, unsigned damages)
{
    for (unsigned i = 0; i < c->findings_n; i++)
        finding_text(&c->findings[i]);
    for (size_t i = 0; i < json_object_array_length(c->partitions); i++)
        partition_text(json_object_array_get_idx(c->partitions, i));
    for (size_t i = 0; i < json_object_array_length(c->journals); i++) {
        const struct json_object *j = json_object_array_get_idx(c->journals, i);
        printf("journal %" PRId64 ": %" PRId64 " writes and %" PRId64 " records to replay\n",
               row_get(j, "journal"), row_get(j, "writes"), row_get(j, "records"));
    }
    printf("%zu partitions, %" PRIu64 " batches, %" PRIu64 " records: ",
           json_object_array_length(c->partitions), c->batches, c->records);
    if (damages == 0)
        printf("all is well\n");
    else
        printf("%u damages, %" PRIu64 " offsets lost\n", damages, c->lost_offsets);
}

int log_verify(const struct log_options *o)
{
    struct log_tree *t;
    struct log_check c = {0};
    unsigned damages = 0;
    int code = tree_open(o, o->force_read ? TREE_FORCE_READ : TREE_READ, &t);
    if (code != 0)
        return code;
    code = check_run(&c, o, t);
    for (unsigned i = 0; i < c.findings_n; i++)
        damages += finding_is_damage(&c.findings[i]);
    if (code == LOG_EXIT_FINE && o->json)
        verify_json(&c, damages);
    else if (code == LOG_EXIT_FINE)
        verify_text(&c, damages);
    if (damages > 0)
        code = log_worse(code, LOG_EXIT_DAMAGE);
    check_free(&c);
    tree_close(t);
    return out_close() != 0 ? LOG_EXIT_USAGE : code;
}
