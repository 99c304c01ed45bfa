/* compact.h: what the files of compaction share: compact.c decides what is compacted and drives the
 * steps, compact_copy.c reads and writes, compact_swap.c puts the new segment in the place of the
 * old ones, now and after a crash. Nobody else includes it. */
#ifndef CORE_LOG_COMPACT_H
#define CORE_LOG_COMPACT_H

#include "core/batch/filter.h"
#include "core/log/internal.h"
#include "core/log/key_map.h"

#define COMPACT_GROUP_MAX 32u /* segments that become one */
#define COMPACT_STEPS_MAX (3 * COMPACT_GROUP_MAX + 8)

enum compact_state {
    COMPACT_IDLE,
    COMPACT_LOAD,   /* a segment whose size or times are not known */
    COMPACT_MAP,    /* reads what is new: the last offset of each key */
    COMPACT_COPY,   /* reads a group of segments, writes what is left of them */
    COMPACT_DRAIN,  /* until nobody reads the old segments */
    COMPACT_RECORD, /* until the journal says that the new one counts */
    COMPACT_NAMES,  /* its file gets its name */
};

struct compact_input { /* the segment that is read, through a file of its own */
    struct env_file *file;
    uint8_t *buf;
    uint64_t buf_bytes, buf_pos, buf_end; /* [buf_pos, buf_end) of the segment */
    uint64_t pos;                         /* of the next batch */
    int64_t offset;
};
struct compact_output {
    struct segment *seg; /* detached, until it is swapped in */
    struct env_file *file;
    uint64_t file_bytes;
    uint8_t *buf; /* behind written_pos */
    uint64_t buf_bytes, fill, written_pos;
    struct batch_header gap; /* offsets of which nothing is left, last_offset_delta < 0: none */
    bool changed;
};
struct compactor {
    struct log_store *s;
    enum compact_state state;
    bool busy, stopped, filtering, renamed;
    uint64_t next_ns, pass_ns;
    uint64_t *numbers; /* of the partitions to look at */
    size_t numbers_n, numbers_at;
    struct plog *p; /* held, unless idle */
    struct load_waiter waiter;
    struct key_map map;
    int64_t now_ms, horizon_ms;   /* of tombstones that are met now */
    int64_t dirty_from, clean_to; /* the pass reads keys in between */
    int64_t mapped_to, copied_to;
    struct segment *group[COMPACT_GROUP_MAX]; /* each held */
    int64_t group_bases[COMPACT_GROUP_MAX];
    struct segment *placed; /* held: it counts, its names are being changed */
    unsigned names_n;       /* of group_bases, that it has replaced */
    unsigned group_n, group_at;
    struct segment *reading; /* held */
    struct compact_input in;
    struct compact_output out;
    struct batch_filter filter;
    struct batch_iter *iter;
    struct batch_header batch;
    const uint8_t *batch_data; /* in in.buf, while a helper works on it */
    bool left_empty;           /* out, of a helper: nothing is left of it */
    bool leftover;             /* at the end: the file in the making is still there */
    struct env_op op;
    struct env_name_step steps[COMPACT_STEPS_MAX];
    unsigned steps_n;
    char (*paths)[PATH_MAX];
    uint8_t *index_data[2]; /* of the group that is being swapped in; NULL: could not be made */
    size_t index_len[2];
};

/* compact.c */
void compact_end(struct compactor *c, bool clean);
struct env_name_step *compact_step(struct compactor *c, enum env_step_kind kind, const char *path);
const char *compact_path(struct compactor *c, const struct segment *seg, const char *suffix);
void compact_names(struct compactor *c, env_done_fn on_done);
/* On a helper thread, run(c): the compactor is its until on_done. */
void compact_run(struct compactor *c, int (*run)(void *arg), env_done_fn on_done);

/* compact_copy.c: 1: go on in this turn; 0: it is over for this turn; < 0: give up */
#define COMPACT_DONE 2
int compact_input_open(struct compactor *c, struct segment *seg);
void compact_input_close(struct compactor *c);
int compact_map_step(struct compactor *c, uint64_t *budget);
int compact_output_open(struct compactor *c);
int compact_copy_step(struct compactor *c, uint64_t *budget);
void compact_output_discard(struct compactor *c);

/* compact_swap.c */
void compact_drain(struct compactor *c);
void compact_rename(struct compactor *c);
void compact_index_free(struct compactor *c);
int compact_index_make(void *compactor); /* for compact_run(): of the group that was written */
void cleaned_path(const struct segment *seg, char *buf, size_t size);

#endif
