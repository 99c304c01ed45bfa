/* log_dump_segment.c: batches and records of a segment, entries of its indexes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/log_dump.h"
#include "tools/log_rows.h"

#define INDEX_BYTES_MAX (256u << 20)

int dump_complain(const char *path, int rc)
{
    fprintf(stderr, "penstock log: %s: %s\n", path, strerror(-rc));
    return LOG_EXIT_USAGE;
}

void dump_heading(const struct log_options *o, const char *path)
{
    if (!o->json) {
        printf("Dumping %s\n", path);
        return;
    }
    struct json_object *row = row_new("file");
    row_text(row, "path", path);
    out_row(true, "", row);
}

static int dump_batch(const struct log_options *o, const struct log_segment *s,
                      const struct inspect_piece *piece)
{
    if (piece->end_offset <= o->from_offset || piece->first_offset >= o->to_offset)
        return LOG_EXIT_FINE;
    struct json_object *row = row_of_batch(&piece->h, piece->pos, true);
    if (piece->pos + piece->len_bytes > s->in_file_pos)
        row_text(row, "in", "journal");
    out_row(o->json, "", row);
    if (!o->deep_iteration && !o->print_data_log)
        return LOG_EXIT_FINE;
    if (rows_of_records(o, piece->data, &piece->h) == 0)
        return LOG_EXIT_FINE;
    struct inspect_piece bad = *piece;
    bad.what = "records that cannot be read, under a right checksum";
    out_row(o->json, "", row_of_damage(&bad));
    return LOG_EXIT_DAMAGE;
}

/* Behind the last batch: nothing to say of a sealed segment. */
static void dump_end(const struct log_options *o, const struct inspect_piece *piece)
{
    if (!o->json)
        return;
    struct json_object *row = row_new("end");
    row_int(row, "offset", piece->end_offset);
    row_uint(row, "position", piece->pos);
    row_uint(row, "unusedBytes", piece->len_bytes);
    row_text(row, "what", piece->what);
    out_row(true, "", row);
}

int dump_segment(const struct log_options *o, struct log_segment *s)
{
    struct inspect_piece piece;
    int code = LOG_EXIT_FINE;
    dump_heading(o, s->log_path);
    if (!o->json)
        printf("Log starting offset: %lld\n", (long long)s->base_offset);
    for (inspect_walk_next(&s->walk, &piece); piece.kind != INSPECT_END;
         inspect_walk_next(&s->walk, &piece)) {
        int bad = LOG_EXIT_DAMAGE;
        if (piece.kind == INSPECT_BATCH)
            bad = dump_batch(o, s, &piece);
        else
            out_row(o->json, "", row_of_damage(&piece));
        code = bad != LOG_EXIT_FINE ? bad : code;
    }
    dump_end(o, &piece);
    return code;
}

/* ---- indexes ---- */

static int dump_entries(const struct log_options *o, const char *path, size_t entry_bytes,
                        struct json_object *(*row_of)(const uint8_t *entry, int64_t base_offset),
                        int64_t base_offset)
{
    uint8_t *data;
    size_t len;
    int rc = log_file_get(path, INDEX_BYTES_MAX, &data, &len);
    if (rc != 0)
        return dump_complain(path, rc);
    dump_heading(o, path);
    for (size_t at = 0; at + entry_bytes <= len; at += entry_bytes)
        out_row(o->json, "", row_of(data + at, base_offset));
    free(data);
    if (len % entry_bytes == 0)
        return LOG_EXIT_FINE;
    struct json_object *row = row_new("damage");
    row_text(row, "damage", "bytes behind the last whole entry");
    row_uint(row, "position", len - len % entry_bytes);
    row_uint(row, "size", len % entry_bytes);
    out_row(o->json, "", row);
    return LOG_EXIT_DAMAGE;
}

static struct json_object *row_of_offset_entry(const uint8_t *entry, int64_t base_offset)
{
    struct inspect_offset_entry e = inspect_offset_entry(entry, base_offset);
    struct json_object *row = row_new("indexEntry");
    row_int(row, "offset", e.offset);
    row_int(row, "position", e.pos);
    return row;
}

static struct json_object *row_of_time_entry(const uint8_t *entry, int64_t base_offset)
{
    struct inspect_time_entry e = inspect_time_entry(entry, base_offset);
    struct json_object *row = row_new("timeIndexEntry");
    row_int(row, "timestamp", e.timestamp);
    row_int(row, "offset", e.offset);
    return row;
}

int dump_offset_index(const struct log_options *o, const char *path, int64_t base_offset)
{
    return dump_entries(o, path, INSPECT_OFFSET_ENTRY_BYTES, row_of_offset_entry, base_offset);
}

int dump_time_index(const struct log_options *o, const char *path, int64_t base_offset)
{
    return dump_entries(o, path, INSPECT_TIME_ENTRY_BYTES, row_of_time_entry, base_offset);
}
