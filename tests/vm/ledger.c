/* ledger.c: see ledger.h. */
#include "tests/vm/ledger.h"

#include <err.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/assert.h"

struct ledger_topic *ledger_find(struct ledger *ledger, const char *topic)
{
    for (size_t i = 0; i < ledger->topic_count; i++)
        if (!strcmp(ledger->topics[i].name, topic))
            return &ledger->topics[i];
    return NULL;
}

static void topic_created(struct ledger *ledger, const char *name, int32_t partitions, size_t line)
{
    if (ledger->topic_count == LEDGER_TOPICS_MAX || partitions < 1 ||
        partitions > LEDGER_PARTITIONS_MAX)
        errx(1, "ledger line %zu: more topics or partitions than expected", line);
    struct ledger_topic *topic = &ledger->topics[ledger->topic_count++];
    snprintf(topic->name, sizeof(topic->name), "%s", name);
    topic->partition_count = partitions;
    topic->created = line;
    topic->delete_asked = topic->gone = LEDGER_NEVER;
}

static void record_acked(struct ledger_topic *topic, int32_t partition, struct ledger_record record)
{
    if (partition < 0 || partition >= topic->partition_count)
        errx(1, "ledger line %zu: no such partition", record.line);
    struct ledger_partition *p = &topic->partitions[partition];
    if (p->count == p->room) {
        p->room = p->room ? 2 * p->room : 64;
        p->records = realloc(p->records, p->room * sizeof(record));
        ASSERT(p->records);
    }
    p->records[p->count++] = record;
}

static void take_line(struct ledger *ledger, char *text, size_t line)
{
    char kind, name[LEDGER_NAME_MAX];
    struct ledger_record record = {.line = line};
    int32_t partition = 0;
    int fields = sscanf(text, "%c %63s %" SCNd32 " %" SCNd64 " %" SCNu64 " %" SCNx32, &kind, name,
                        &partition, &record.offset, &record.number, &record.crc);
    if (fields >= 3 && kind == 'C') {
        topic_created(ledger, name, partition, line);
        return;
    }
    struct ledger_topic *topic = fields >= 2 ? ledger_find(ledger, name) : NULL;
    if (!topic)
        errx(1, "ledger line %zu: not understood: %s", line, text);
    if (kind == 'D')
        topic->delete_asked = line;
    else if (kind == 'G')
        topic->gone = line;
    else if (kind == 'R' && fields == 6)
        record_acked(topic, partition, record);
    else
        errx(1, "ledger line %zu: not understood: %s", line, text);
}

static int by_offset(const void *a, const void *b)
{
    int64_t left = ((const struct ledger_record *)a)->offset;
    int64_t right = ((const struct ledger_record *)b)->offset;
    return left < right ? -1 : left > right;
}

static void sort_partition(const struct ledger_topic *topic, struct ledger_partition *p)
{
    if (p->count)
        qsort(p->records, p->count, sizeof(*p->records), by_offset);
    for (size_t i = 1; i < p->count; i++)
        if (p->records[i - 1].offset == p->records[i].offset)
            errx(1, "%s: offset %" PRId64 " was acknowledged for two records", topic->name,
                 p->records[i].offset);
}

void ledger_load(struct ledger *ledger, const char *path)
{
    *ledger = (struct ledger){.topics = calloc(LEDGER_TOPICS_MAX, sizeof(*ledger->topics))};
    ASSERT(ledger->topics);
    FILE *file = fopen(path, "r");
    if (!file)
        err(1, "%s", path);
    char text[256];
    for (; fgets(text, sizeof(text), file); ledger->line_count++) {
        if (!strchr(text, '\n'))
            errx(1, "%s: line %zu is cut short", path, ledger->line_count);
        take_line(ledger, text, ledger->line_count);
    }
    fclose(file);
    for (size_t i = 0; i < ledger->topic_count; i++)
        for (int32_t p = 0; p < ledger->topics[i].partition_count; p++)
            sort_partition(&ledger->topics[i], &ledger->topics[i].partitions[p]);
}

void ledger_fini(struct ledger *ledger)
{
    for (size_t i = 0; i < ledger->topic_count; i++)
        for (int32_t p = 0; p < ledger->topics[i].partition_count; p++)
            free(ledger->topics[i].partitions[p].records);
    free(ledger->topics);
}

const struct ledger_record *ledger_at(const struct ledger_partition *partition, int64_t offset)
{
    struct ledger_record key = {.offset = offset};
    if (!partition->count)
        return NULL;
    return bsearch(&key, partition->records, partition->count, sizeof(key), by_offset);
}
