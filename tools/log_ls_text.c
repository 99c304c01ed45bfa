#include "tools/log_ls.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "tools/log_out.h"

static bool has(const struct json_object *row, const char *key)
{
    return json_object_object_get_ex(row, key, NULL);
}

static void segment_line(const struct json_object *s)
{
    char from[40], to[40];
    if (has(s, "error")) {
        printf("    %20" PRId64 "  cannot be read: %s\n", row_get(s, "baseOffset"),
               row_get_text(s, "error"));
        return;
    }
    if (!has(s, "batches")) {
        printf("    %20" PRId64 " %20s %12" PRId64 "  %s: never counted, a start removes it\n",
               row_get(s, "baseOffset"), "", row_get(s, "fileBytes"), row_get_text(s, "state"));
        return;
    }
    printf("    %20" PRId64 " %20" PRId64 " %12" PRId64 " %12" PRId64 " %12" PRId64 " %10" PRId64
           " %8" PRId64 " %10" PRId64 "  %-24s %-24s %-7s %s%s\n",
           row_get(s, "baseOffset"), row_get(s, "endOffset"), row_get(s, "fileBytes"),
           row_get(s, "diskBytes"), row_get(s, "validBytes"), row_get(s, "journalBytes"),
           row_get(s, "batches"), row_get(s, "records"), out_time(row_get(s, "minTimestamp"), from),
           out_time(row_get(s, "maxTimestamp"), to), row_get_text(s, "state"),
           row_get_text(s, "index"), row_get(s, "damaged") ? "  DAMAGED" : "");
}

static void partition_lines(const struct json_object *p)
{
    struct json_object *segments = row_get_array(p, "segments");
    printf("  partition %" PRId64, row_get(p, "partition"));
    if (has(p, "shard"))
        printf(": shard %" PRId64 ", leader epoch %" PRId64, row_get(p, "shard"),
               row_get(p, "leaderEpoch"));
    if (has(p, "endOffset"))
        printf(", offsets %" PRId64 " to %" PRId64, row_get(p, "logStartOffset"),
               row_get(p, "endOffset"));
    printf("  %s\n", row_get_text(p, "path"));
    if (json_object_array_length(segments) > 0)
        printf("    %20s %20s %12s %12s %12s %10s %8s %10s  %-24s %-24s %-7s %s\n", "base offset",
               "end offset", "file bytes", "on disk", "valid bytes", "in journal", "batches",
               "records", "first", "last", "state", "index");
    for (size_t i = 0; i < json_object_array_length(segments); i++)
        segment_line(json_object_array_get_idx(segments, i));
}

static void partitions_text(const struct json_object *doc)
{
    struct json_object *partitions = row_get_array(doc, "partitions");
    const char *topic = "";
    for (size_t i = 0; i < json_object_array_length(partitions); i++) {
        const struct json_object *p = json_object_array_get_idx(partitions, i);
        if (strcmp(topic, row_get_text(p, "topic")) != 0)
            printf("\ntopic %s\n", row_get_text(p, "topic"));
        topic = row_get_text(p, "topic");
        partition_lines(p);
    }
}

static void head_text(const struct json_object *doc)
{
    const struct json_object *meta = row_get_array(doc, "metadata");
    struct json_object *dirs = row_get_array(doc, "dataDirs");
    if (has(meta, "error"))
        printf("metadata cannot be read: %s\n", row_get_text(meta, "error"));
    if (has(meta, "clusterId"))
        printf("cluster %s: %" PRId64 " shards, %" PRId64 " topics, %" PRId64
               " partitions, stopped %s; metadata generation %" PRId64 ", version %" PRId64 "\n",
               row_get_text(meta, "clusterId"), row_get(meta, "shards"), row_get(meta, "topics"),
               row_get(meta, "partitions"), row_get(meta, "cleanStop") ? "cleanly" : "uncleanly",
               row_get(meta, "generation"), row_get(meta, "version"));
    for (size_t i = 0; i < json_object_array_length(dirs); i++) {
        const struct json_object *dir = json_object_array_get_idx(dirs, i);
        printf("data directory %s  %s\n", row_get_text(dir, "path"),
               row_get_text(dir, "directoryId"));
    }
    printf("journals in %s\n", row_get_text(doc, "journalDir"));
}

static void journals_text(const struct json_object *doc)
{
    struct json_object *journals = row_get_array(doc, "journals");
    char ring[32], used[32];
    printf("\n");
    for (size_t i = 0; i < json_object_array_length(journals); i++) {
        const struct json_object *j = json_object_array_get_idx(journals, i);
        printf("journal %" PRId64 ": ", row_get(j, "journal"));
        if (has(j, "identity"))
            printf("identity %s, incarnation %" PRId64 ", ring %s, tail %" PRId64 ", head %" PRId64
                   ", used %s, checkpoint %" PRId64 "  ",
                   row_get_text(j, "identity"), row_get(j, "incarnation"),
                   out_size((uint64_t)row_get(j, "ringBytes"), ring), row_get(j, "tail"),
                   row_get(j, "head"), out_size((uint64_t)row_get(j, "usedBytes"), used),
                   row_get(j, "checkpointGeneration"));
        if (has(j, "error"))
            printf("CANNOT BE RECOVERED: %s  ", row_get_text(j, "error"));
        printf("%s\n", row_get_text(j, "path"));
    }
}

static void rest_text(const struct json_object *doc)
{
    struct json_object *pools = row_get_array(doc, "pools"), *strays = row_get_array(doc, "strays");
    const struct json_object *totals = row_get_array(doc, "totals");
    char size[32], disk[32];
    for (size_t i = 0; i < json_object_array_length(pools); i++) {
        const struct json_object *pool = json_object_array_get_idx(pools, i);
        printf("files to be used again: %" PRId64 ", %s  %s\n", row_get(pool, "files"),
               out_size((uint64_t)row_get(pool, "diskBytes"), disk), row_get_text(pool, "path"));
    }
    for (size_t i = 0; i < json_object_array_length(strays); i++) {
        const struct json_object *stray = json_object_array_get_idx(strays, i);
        printf("stray: %s: %s\n", row_get_text(stray, "path"), row_get_text(stray, "why"));
    }
    printf("\n%" PRId64 " partitions, %" PRId64 " segments, %" PRId64 " batches, %" PRId64
           " records, %s in files, %s on disk\n",
           row_get(totals, "partitions"), row_get(totals, "segments"), row_get(totals, "batches"),
           row_get(totals, "records"), out_size((uint64_t)row_get(totals, "fileBytes"), size),
           out_size((uint64_t)row_get(totals, "diskBytes"), disk));
}

void ls_text(const struct json_object *doc)
{
    head_text(doc);
    partitions_text(doc);
    journals_text(doc);
    rest_text(doc);
}
