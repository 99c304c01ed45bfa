#include "tools/log_options.h"

#include <errno.h>
#include <getopt.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"

#define ALL (LOG_LS | LOG_DUMP | LOG_VERIFY | LOG_REPAIR)
#define READING (LOG_LS | LOG_DUMP | LOG_VERIFY)
#define AT(field) offsetof(struct log_options, field)

enum option_type { OPTION_FLAG, OPTION_TEXT, OPTION_NUMBER, OPTION_RANGE, OPTION_FILES };

static const struct log_option {
    const char *name, *metavar;
    unsigned commands;
    enum option_type type;
    size_t offset; /* into struct log_options */
    const char *doc;
} options[] = {
    {"json", NULL, ALL, OPTION_FLAG, AT(json), "as JSON; dump: one object a line"},
    {"journal-dir", "DIR", ALL, OPTION_TEXT, AT(journal_dir),
     "where journals and metadata are, if not in the first DIR"},
    {"topic", "NAME", ALL, OPTION_TEXT, AT(topic), "this topic only"},
    {"partition", "N", ALL, OPTION_NUMBER, AT(partition), "this partition only"},
    {"offsets", "FROM[:TO]", LOG_DUMP, OPTION_RANGE, AT(from_offset),
     "batches with offsets from FROM up to, not including, TO"},
    {"deep-iteration", NULL, LOG_DUMP | LOG_VERIFY, OPTION_FLAG, AT(deep_iteration),
     "look into the batches: every record, compressed or not"},
    {"print-data-log", NULL, LOG_DUMP, OPTION_FLAG, AT(print_data_log),
     "keys and values of the records too"},
    {"indexes", NULL, LOG_DUMP, OPTION_FLAG, AT(indexes),
     "entries of the offset and time indexes instead of batches"},
    {"journal", NULL, LOG_DUMP, OPTION_FLAG, AT(journal),
     "writes and records of the journals instead of batches"},
    {"checkpoints", NULL, LOG_DUMP, OPTION_FLAG, AT(checkpoints),
     "the journals' checkpoints instead of batches"},
    {"metadata", NULL, LOG_DUMP, OPTION_FLAG, AT(metadata),
     "records of the metadata log instead of batches"},
    {"files", "LIST", LOG_DUMP, OPTION_FILES, 0, "paths, with commas: as further arguments"},
    {"force-read", NULL, READING, OPTION_FLAG, AT(force_read),
     "read though a broker is running on it: what it is just writing looks like damage"},
    {"dry-run", NULL, LOG_REPAIR, OPTION_FLAG, AT(dry_run),
     "say what would be done, change nothing"},
};

static const struct {
    enum log_command command;
    const char *usage, *about;
} helps[] = {
    {LOG_LS, "penstock log ls [OPTION]... DIR...",
     "List what is in the data directories of a broker that does not run: topics, partitions and\n"
     "their segments, journals, files kept for reuse, and what belongs to nothing. Batches are\n"
     "counted by their headers; `verify` reads them whole.\n"},
    {LOG_DUMP, "penstock log dump [OPTION]... PATH...",
     "Print the batches of a log, a line each, with the names that kafka-dump-log.sh uses. PATH "
     "is\n"
     "a data directory (all of a broker's when it has several): then also what is still in the\n"
     "journal is shown where it belongs; or one partition's directory, or a file: NNN.log,\n"
     "NNN.index, NNN.timeindex, journal.N, journal.N.checkpoint.N, penstock-metadata.N.a: then\n"
     "just what it holds.\n"},
    {LOG_VERIFY, "penstock log verify [OPTION]... DIR...",
     "Check every batch, index entry, journal write and both copies of all that is kept twice, "
     "and\n"
     "say which offsets a start of the broker would find and which are lost.\n"},
    {LOG_REPAIR, "penstock log repair [OPTION]... DIR...",
     "Mend what can be: damaged copies from the good ones, index files, torn ends of sealed\n"
     "segments, files of nobody. First prints what it will do. What it removes or writes over is\n"
     "kept in DIR/.repair-TIME. No batch that verifies is ever removed.\n"},
};

static int fail(const char *what, const char *value, const char *why)
{
    fprintf(stderr, "penstock log: %s%s%s%s\n", what, value == NULL ? "" : ": ",
            value == NULL ? "" : value, why);
    return LOG_EXIT_USAGE;
}

static int number_parse(const char *text, const char **ret_end, int64_t *ret)
{
    char *end;
    if (*text < '0' || *text > '9')
        return -EINVAL;
    errno = 0;
    long long v = strtoll(text, &end, 10);
    if (errno != 0)
        return -EINVAL;
    *ret = v;
    *ret_end = end;
    return 0;
}

static int range_parse(const char *text, struct log_options *o)
{
    const char *end;
    if (number_parse(text, &end, &o->from_offset) != 0)
        return -EINVAL;
    if (*end == '\0')
        return 0;
    if (*end != ':' || number_parse(end + 1, &end, &o->to_offset) != 0 || *end != '\0')
        return -EINVAL;
    return o->to_offset > o->from_offset ? 0 : -EINVAL;
}

static int path_add(struct log_options *o, const char *path)
{
    const char **paths = realloc(o->paths, (o->paths_n + 1) * sizeof(*paths));
    if (paths == NULL)
        return -ENOMEM;
    o->paths = paths;
    o->paths[o->paths_n++] = path;
    return 0;
}

static int files_add(struct log_options *o, const char *list)
{
    char *state = NULL;
    if (o->files != NULL)
        return -EINVAL;
    o->files = strdup(list);
    if (o->files == NULL)
        return -ENOMEM;
    int rc = 0;
    for (char *path = strtok_r(o->files, ",", &state); rc == 0 && path != NULL;
         path = strtok_r(NULL, ",", &state))
        rc = path_add(o, path);
    return rc;
}

static int option_set(struct log_options *o, const struct log_option *option, const char *value)
{
    void *field = (char *)o + option->offset;
    const char *end;
    switch (option->type) {
    case OPTION_FLAG:
        *(bool *)field = true;
        return 0;
    case OPTION_TEXT:
        *(const char **)field = value;
        return 0;
    case OPTION_NUMBER:
        return number_parse(value, &end, field) == 0 && *end == '\0' ? 0 : -EINVAL;
    case OPTION_RANGE:
        return range_parse(value, o);
    case OPTION_FILES:
        return files_add(o, value);
    }
    return -EINVAL;
}

static int options_check(enum log_command command, const struct log_options *o)
{
    if (o->paths_n == 0)
        return fail("which directory? See --help", NULL, "");
    if (o->partition >= 0 && o->topic == NULL)
        return fail("--partition needs --topic", NULL, "");
    if (o->partition > INT32_MAX)
        return fail("--partition", "too large", "");
    if (command == LOG_DUMP && o->indexes + o->journal + o->checkpoints + o->metadata > 1)
        return fail("--indexes, --journal, --checkpoints and --metadata exclude each other", NULL,
                    "");
    return 0;
}

int log_options_parse(enum log_command command, int argc, char **argv, struct log_options *ret)
{
    struct option known[ARRAY_LEN(options) + 2] = {{"help", no_argument, NULL, 'h'}};
    struct log_options o = {.partition = -1, .to_offset = INT64_MAX};
    unsigned n = 1;
    for (unsigned i = 0; i < ARRAY_LEN(options); i++)
        if (options[i].commands & command)
            known[n++] = (struct option){options[i].name, options[i].type != OPTION_FLAG, NULL,
                                         256 + (int)i};
    int c, code = 0;
    optind = 0; /* start over: the command's own options were parsed before */
    while (code == 0 && (c = getopt_long(argc, argv, "", known, NULL)) != -1) {
        if (c == 'h') {
            log_options_help(command, stdout);
            code = -1;
        } else if (c == '?') {
            code = LOG_EXIT_USAGE; /* getopt has said what */
        } else if (option_set(&o, &options[c - 256], optarg) != 0) {
            fprintf(stderr, "penstock log: bad value for --%s: %s\n", options[c - 256].name,
                    optarg);
            code = LOG_EXIT_USAGE;
        }
    }
    for (; code == 0 && optind < argc; optind++)
        if (path_add(&o, argv[optind]) != 0)
            code = fail("out of memory", NULL, "");
    if (code == 0)
        code = options_check(command, &o);
    if (code == 0)
        *ret = o;
    else
        log_options_fini(&o);
    return code;
}

void log_options_fini(struct log_options *o)
{
    free(o->paths);
    free(o->files);
}

bool log_options_want(const struct log_options *o, const char *topic, int32_t partition)
{
    return (o->topic == NULL || strcmp(o->topic, topic) == 0) &&
           (o->partition < 0 || o->partition == partition);
}

void log_options_help(enum log_command command, FILE *out)
{
    for (unsigned i = 0; i < ARRAY_LEN(helps); i++)
        if (helps[i].command == command)
            fprintf(out, "usage: %s\n%s", helps[i].usage, helps[i].about);
    for (unsigned i = 0; i < ARRAY_LEN(options); i++) {
        char name[64];
        if (!(options[i].commands & command))
            continue;
        snprintf(name, sizeof(name), "--%s%s%s", options[i].name,
                 options[i].metavar == NULL ? "" : " ",
                 options[i].metavar == NULL ? "" : options[i].metavar);
        fprintf(out, "  %-22s %s\n", name, options[i].doc);
    }
    fprintf(out, "  %-22s %s\n", "--help", "this text");
    fputs("Exit code: 0 all is well, 1 damage was found, 2 wrong usage or not to be read.\n", out);
}
