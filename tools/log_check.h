/* log_check.h: everything that is wrong with a broker's data, found once for `verify`, which says
 * it, and `repair`, which mends what it can.
 * Happy path: check_run(), then look at findings and sums; check_free().
 * Failure: what cannot be read is a finding; LOG_EXIT_USAGE only when memory runs out.
 * Threads: one. */
#ifndef TOOLS_LOG_CHECK_H
#define TOOLS_LOG_CHECK_H

#include "tools/log_journal.h"
#include "tools/log_out.h"
#include "tools/log_view.h"

enum finding_kind {
    FINDING_LOST,            /* offsets [first, end) of a partition; nothing brings them back */
    FINDING_BROKEN,          /* something that a start stumbles over, or that is gone */
    FINDING_COPY_LEFT,       /* damage that the other copy outweighs; a start passes over it */
    FINDING_INDEX,           /* index files of a sealed segment */
    FINDING_TAIL,            /* bytes behind the last batch of a sealed segment */
    FINDING_META_COPY,       /* one copy of the metadata log */
    FINDING_PROPERTIES_COPY, /* meta.properties or its copy */
    FINDING_SUPER_COPY,      /* one superblock of a journal */
    FINDING_CHECKPOINT_COPY, /* one copy in a checkpoint */
    FINDING_STALE,           /* files of a segment that never counted */
    FINDING_STRAY,           /* files and directories of nobody */
    FINDING_KINDS,
};

struct log_finding {
    enum finding_kind kind;
    char *path;      /* of the file; NULL: none in particular */
    char *partition; /* "topic-0"; NULL: none */
    char *what;
    int64_t first_offset, end_offset; /* that are lost; the same: none */
    uint64_t pos, len_bytes;          /* in the file, or of the segment */
    unsigned which;                   /* copy, or number of the journal */
    int64_t base_offset;              /* of the segment */
    bool movable; /* stray, stale: a start of the broker would take it away, too */
};

struct log_check {
    const struct log_options *options;
    struct log_tree *tree;
    struct log_finding *findings;
    unsigned findings_n;
    struct json_object *partitions, *journals; /* sums of each */
    uint64_t batches, records, lost_offsets;
    bool no_memory;
    /* What the repair does with a segment while its shard is open; NULL: nothing. */
    void (*on_segment)(void *arg, const struct log_finding *f, struct log_segment *s);
    void *on_segment_arg;
};

int check_run(struct log_check *c, const struct log_options *o, struct log_tree *t);
void check_free(struct log_check *c);
/* It is damage, or just untidy? */
bool finding_is_damage(const struct log_finding *f);

/* log_check_files.c: what is kept twice, and what belongs to nobody. */
void check_metadata(struct log_check *c);
void check_journals(struct log_check *c);
void check_strays(struct log_check *c);
void check_properties(struct log_check *c);
/* Takes nothing: copies what it needs. */
struct log_finding *finding_add(struct log_check *c, enum finding_kind kind, const char *path,
                                const char *what);

#endif
