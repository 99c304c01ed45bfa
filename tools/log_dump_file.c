/* log_dump_file.c: `penstock log dump` of a partition's directory or of one file, by itself. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/base/bytes.h"
#include "tools/log_dump.h"

/* The base offset of the segment behind this one in its directory; INT64_MAX: it is the last. */
static int64_t next_base(const char *dir, int64_t base_offset)
{
    struct log_partition p = {.path = (char *)(uintptr_t)dir};
    int64_t next = INT64_MAX;
    if (partition_files(&p) == 0)
        for (unsigned i = 0; i < p.files_n; i++)
            if (p.files[i].has_log && p.files[i].base_offset > base_offset)
                next = MIN(next, p.files[i].base_offset);
    free(p.files);
    return next;
}

static int dump_log(const struct log_options *o, const char *dir, int64_t base_offset)
{
    struct log_segment s;
    int rc = segment_open(dir, base_offset, next_base(dir, base_offset), LOG_FILE_WINDOW_BYTES, &s);
    if (rc != 0)
        return dump_complain(dir, rc);
    int code = dump_segment(o, &s);
    segment_close(&s);
    return code;
}

/* ---- one file ---- */

static int dump_segment_file(const struct log_options *o, const char *path, const char *dir,
                             const char *name)
{
    int64_t base;
    const char *suffix;
    if (!segment_name_parse(name, &base, &suffix))
        return -1;
    if (strcmp(suffix, ".log") == 0)
        return dump_log(o, dir, base);
    if (strcmp(suffix, ".index") == 0)
        return dump_offset_index(o, path, base);
    if (strcmp(suffix, ".timeindex") == 0)
        return dump_time_index(o, path, base);
    return -1;
}

static int dump_journal_file(const struct log_options *o, const char *path)
{
    struct log_journal j;
    journal_open_file(path, &j);
    int code = dump_journal(o, NULL, &j);
    journal_close_files(&j);
    return code;
}

static int dump_checkpoint_file(const struct log_options *o, const char *path)
{
    struct log_checkpoint c;
    checkpoint_open(path, &c);
    int code = dump_checkpoint(o, NULL, &c);
    checkpoint_close(&c);
    return code;
}

/* By its name; -1: it is none of these. */
static int dump_other_file(const struct log_options *o, const char *path, const char *name)
{
    unsigned id, which, copy;
    uint64_t generation;
    int end = 0;
    if (sscanf(name, "journal.%u.checkpoint.%u%n", &id, &which, &end) == 2 && name[end] == '\0')
        return dump_checkpoint_file(o, path);
    if (sscanf(name, "journal.%u%n", &id, &end) == 1 && name[end] == '\0')
        return dump_journal_file(o, path);
    return meta_name_parse(name, &generation, &copy) ? dump_metadata_file(o, path) : -1;
}

static int dump_file(const struct log_options *o, const char *path)
{
    char dir[PATH_MAX];
    const char *slash = strrchr(path, '/'), *name = slash == NULL ? path : slash + 1;
    snprintf(dir, sizeof(dir), "%.*s", slash == NULL ? 1 : (int)MAX(slash - path, 1),
             slash == NULL ? "." : path);
    int code = dump_segment_file(o, path, dir, name);
    if (code < 0)
        code = dump_other_file(o, path, name);
    if (code >= 0)
        return code;
    fprintf(stderr, "penstock log: %s: its name is not that of a file of a log\n", path);
    return LOG_EXIT_USAGE;
}

/* ---- a partition's directory ---- */

static int dump_partition_file(const struct log_options *o, const char *dir,
                               const struct log_segment_file *f)
{
    char path[PATH_MAX];
    int code = LOG_EXIT_FINE;
    if (!o->indexes)
        return f->has_log ? dump_log(o, dir, f->base_offset) : LOG_EXIT_FINE;
    if (f->has_index) {
        snprintf(path, sizeof(path), "%.4000s/%020lld.index", dir, (long long)f->base_offset);
        code = dump_offset_index(o, path, f->base_offset);
    }
    if (f->has_timeindex) {
        snprintf(path, sizeof(path), "%.4000s/%020lld.timeindex", dir, (long long)f->base_offset);
        code = log_worse(code, dump_time_index(o, path, f->base_offset));
    }
    return code;
}

static int dump_partition_dir(const struct log_options *o, const char *path)
{
    struct log_partition p = {.path = (char *)(uintptr_t)path};
    int rc = partition_files(&p), code = LOG_EXIT_FINE;
    if (rc != 0 || p.files_n == 0) {
        free(p.files);
        return dump_complain(path, rc != 0 ? rc : -ENOENT);
    }
    for (unsigned i = 0; i < p.files_n; i++)
        code = log_worse(code, dump_partition_file(o, path, &p.files[i]));
    free(p.files);
    return code;
}

int dump_path(const struct log_options *o, const char *path)
{
    struct stat st;
    if (stat(path, &st) != 0)
        return dump_complain(path, -errno);
    return S_ISDIR(st.st_mode) ? dump_partition_dir(o, path) : dump_file(o, path);
}
