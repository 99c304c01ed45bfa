/* log_journal.h: the journals of a broker and their checkpoints, as files.
 * Happy path: open, look, close. Failure: what cannot be read is said in the fields. Threads: one.
 */
#ifndef TOOLS_LOG_JOURNAL_H
#define TOOLS_LOG_JOURNAL_H

#include "core/log/inspect.h"
#include "tools/log_file.h"
#include "tools/log_out.h"
#include "tools/log_tree.h"

struct log_checkpoint { /* one file */
    char *path;
    int rc; /* -ENOENT, -EBADMSG: neither copy is whole, ... */
    struct log_file file;
    struct inspect_checkpoint c;
};
struct log_journal {
    unsigned id;
    char *path;
    int rc; /* -ENOENT, -EBADMSG: superblocks, ... */
    struct log_file file;
    struct inspect_journal j;
    struct log_checkpoint checkpoints[2];
    const struct log_checkpoint *newest; /* NULL: none that is whole and of this journal */
    unsigned tail_i, chain_n;            /* writes of j that a start replays */
    uint64_t head_pos;                   /* where the chain ends */
};

void checkpoint_open(const char *path, struct log_checkpoint *ret); /* takes no path */
void checkpoint_close(struct log_checkpoint *c);
/* with_writes: the ring is read, too. */
void journal_open_file(const char *path, struct log_journal *ret);
void journal_open_id(const struct log_tree *t, unsigned id, struct log_journal *ret);
void journal_close_files(struct log_journal *j);
/* What `ls` says of it. */
struct json_object *journal_row(const struct log_tree *t, unsigned id);

#endif
