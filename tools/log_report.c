#include "tools/log_report.h"

#include <inttypes.h>
#include <stdio.h>

static const char *const kinds[FINDING_KINDS] = {
    [FINDING_LOST] = "lost",
    [FINDING_BROKEN] = "broken",
    [FINDING_COPY_LEFT] = "journal",
    [FINDING_INDEX] = "index",
    [FINDING_TAIL] = "tail",
    [FINDING_META_COPY] = "metadataCopy",
    [FINDING_PROPERTIES_COPY] = "propertiesCopy",
    [FINDING_SUPER_COPY] = "superblock",
    [FINDING_CHECKPOINT_COPY] = "checkpointCopy",
    [FINDING_STALE] = "stale",
    [FINDING_STRAY] = "stray",
};

struct json_object *finding_row(const struct log_finding *f)
{
    struct json_object *row = row_new(NULL);
    row_text(row, "kind", kinds[f->kind]);
    row_bool(row, "damage", finding_is_damage(f));
    row_text(row, "what", f->what);
    row_text(row, "path", f->path);
    row_text(row, "partition", f->partition);
    if (f->end_offset > f->first_offset) {
        row_int(row, "firstOffset", f->first_offset);
        row_int(row, "lastOffset", f->end_offset - 1);
    }
    row_uint(row, "position", f->pos);
    row_uint(row, "size", f->len_bytes);
    return row;
}

void finding_text(const struct log_finding *f)
{
    printf("%s: ", finding_is_damage(f) ? "damage" : "note");
    if (f->partition != NULL)
        printf("%s: ", f->partition);
    if (f->end_offset > f->first_offset)
        printf("offsets %" PRId64 " to %" PRId64 " are lost: ", f->first_offset, f->end_offset - 1);
    fputs(f->what, stdout);
    if (f->path != NULL)
        printf(", %s", f->path);
    if (f->len_bytes > 0)
        printf(", position %" PRIu64 ", %" PRIu64 " bytes", f->pos, f->len_bytes);
    putchar('\n');
}
