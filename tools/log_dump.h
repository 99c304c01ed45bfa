/* log_dump.h: what the files of `penstock log dump` share. Each prints one thing and returns enum
 * log_exit: damage when it found some. Threads: one. */
#ifndef TOOLS_LOG_DUMP_H
#define TOOLS_LOG_DUMP_H

#include "tools/log_journal.h"
#include "tools/log_segment.h"
#include "tools/log_tree.h"

/* log_dump_file.c: by itself, as its name says what it is. */
int dump_path(const struct log_options *o, const char *path);

/* log_dump_segment.c */
int dump_segment(const struct log_options *o, struct log_segment *s);
int dump_offset_index(const struct log_options *o, const char *path, int64_t base_offset);
int dump_time_index(const struct log_options *o, const char *path, int64_t base_offset);

/* log_dump_journal.c; names: to call partitions by their names, or NULL */
int dump_journal(const struct log_options *o, const struct log_tree *names,
                 const struct log_journal *j);
int dump_checkpoint(const struct log_options *o, const struct log_tree *names,
                    const struct log_checkpoint *c);

/* log_dump_meta.c */
int dump_metadata(const struct log_options *o, struct log_metadata *m);
int dump_metadata_file(const struct log_options *o, const char *path);

int dump_complain(const char *path, int rc);
/* The line that says what follows: "Dumping PATH". */
void dump_heading(const struct log_options *o, const char *path);

#endif
