/* log_tree.h: what lies in the data directories of a broker that does not run: by name, size and
 * metadata; nothing of the segments' contents.
 * Happy path: tree_open() locks the directories, reads the metadata log, and sorts every name into
 *   partitions, journals, pools, or things that belong to nothing; tree_close() ends it.
 * Failure: tree_open: one line on stderr, then nothing is held. That the metadata cannot be read is
 *   no failure: partitions then are what the directories say.
 * Threads: one. */
#ifndef TOOLS_LOG_TREE_H
#define TOOLS_LOG_TREE_H

#include "core/meta/meta_replay.h"
#include "tools/log_options.h"
#include "tools/serve_dirs.h"

struct log_segment_file {
    int64_t base_offset;
    uint64_t file_bytes, disk_bytes;
    bool has_log, has_index, has_timeindex;
};
struct log_partition {
    char *topic, *path; /* path NULL: no directory */
    int32_t index;
    const struct meta_topic *known; /* NULL: metadata does not know it */
    struct log_segment_file *files; /* by base offset */
    unsigned files_n;
};
struct log_stray {
    char *path;
    const char *why;
    bool removable; /* a start of the broker removes it or puts it aside */
};
struct log_pool {
    char *path;
    unsigned files_n;
    uint64_t bytes, disk_bytes;
};
struct log_metadata {
    uint64_t generation; /* 0: there is none */
    int rc;              /* of the replay; -ENOENT: there is none */
    char reason[512];
    char *names[META_LOG_COPIES];
    struct meta_replay replay; /* image: NULL when it cannot be read */
};
struct log_properties { /* as dir_properties_look() says */
    int rc;
    unsigned good;
    bool twice;
};
struct log_tree {
    struct serve_dirs dirs;
    struct log_properties properties[META_DIRS_MAX]; /* of each data directory */
    const char *journal_dir;
    struct log_metadata meta;
    struct log_partition *partitions; /* by topic and index */
    unsigned partitions_n;
    struct log_stray *strays;
    unsigned strays_n;
    struct log_pool *pools;
    unsigned pools_n;
    unsigned *journals; /* their numbers, rising */
    unsigned journals_n;
};

enum tree_access { TREE_READ, TREE_FORCE_READ, TREE_WRITE };
/* 0, or LOG_EXIT_USAGE. */
int tree_open(const struct log_options *o, enum tree_access access, struct log_tree **ret);
void tree_close(struct log_tree *t);

/* Names of a directory, sorted, without . and ..: malloc, names_free. -errno. */
int names_list(const char *path, char ***ret, unsigned *ret_n);
void names_free(char **names, unsigned n);
/* The files of a partition's directory. 0 or -errno. */
int partition_files(struct log_partition *p);
/* TOPIC-INDEX with a legal topic name. */
bool partition_name_parse(const char *name, char ret_topic[META_TOPIC_NAME_MAX + 1],
                          int32_t *ret_index);
/* The 20 digits of a segment's file name. */
bool segment_name_parse(const char *name, int64_t *ret_base, const char **ret_suffix);
bool name_ends(const char *name, const char *suffix);

/* log_tree_meta.c */
void metadata_read(struct log_metadata *m, const char *dir);
void metadata_free(struct log_metadata *m);

#endif
