#include "tools/cmd_doctor.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/bytes.h"
#include "io/device.h"
#include "io/probe.h"

enum {
    EXIT_USAGE = 2,
    DIRS_MAX = 16,
    LINES_MAX = 48,
    NOFILE_WANTED = 65536,
    FREE_WANTED_MIB = 1024,
};

static const char usage[] =
    "usage: penstock doctor [--data DIR[,DIR]...] [--journal DIR] [--json]\n"
    "Check the kernel, the limits and the disks that `penstock serve` would use.\n"
    "  --data DIR     a data directory, or several, that need not exist yet (default: ./data)\n"
    "  --journal DIR  the journal's directory, if it is another one\n"
    "  --json         as one JSON object\n"
    "  --help         this text\n"
    "Exit code: 0 if serve can run here, 1 if not, 2 for a wrong option.\n";

/* One rung of the ladder of kernel features. */
struct rung {
    const char *name;
    size_t at; /* of its bool in io_features */
    bool used; /* by serve; the others are only looked for */
    const char *fallback, *cost;
};

#define AT(field) offsetof(struct io_features, field)
static const struct rung rungs[] = {
    {"single-issuer rings", AT(single_issuer), true, "shared rings", "a lock in each system call"},
    {"deferred task work", AT(defer_taskrun), true, "cooperative task work",
     "completions are handled one by one instead of in batches: more CPU"},
    {"cooperative task work", AT(coop_taskrun), true, "interrupts",
     "completions interrupt the shard (only without deferred task work)"},
    {"waiting with a timeout", AT(ext_arg), true, NULL, "serve cannot run"},
    {"registered files", AT(sparse_files), true, NULL,
     "serve cannot run: its rings must hold the locks of the directories"},
    {"registered memory", AT(fixed_buffers), true, "plain reads and writes",
     "pages are looked up and pinned for each operation"},
    {"registered memory beyond RLIMIT_MEMLOCK", AT(fixed_unlimited), true, "plain reads and writes",
     "as above, unless a shard's memory fits in the limit"},
    {"multishot accept", AT(accept_multishot), true, "one accept at a time",
     "one more submission for each connection"},
    {"provided buffer rings", AT(buf_ring), true, "the older PROVIDE_BUFFERS operation",
     "one more submission for each receive"},
    {"multishot receive", AT(recv_multishot), false, "one receive at a time",
     "one more submission for each receive"},
    {"messages between rings", AT(msg_ring), true, "an eventfd for each shard",
     "a write() for each wake-up of another shard"},
    {"zero-copy send", AT(send_zc), false, "send", "the kernel copies what is sent"},
    {"zero-copy send, usage reports", AT(send_zc_report), false, "send",
     "whether zero copy works cannot be seen, so it is never chosen by itself"},
    {"splice", AT(splice), false, "read and send", "data from disk passes through memory"},
    {"NAPI busy polling", AT(napi), false, "interrupts", "some microseconds of latency"},
};

struct dir_facts {
    const char *role;
    char path[512], looked_at[512]; /* itself, or the closest directory that exists */
    int rc;
    bool writable;
    struct device device;
};

struct report {
    bool json, help, usage_error;
    struct io_features features;
    const char *reason; /* NULL: the kernel will do */
    struct dir_facts dirs[DIRS_MAX];
    unsigned dirs_n;
    char notes[LINES_MAX][256], warnings[LINES_MAX][256], errors[LINES_MAX][256];
    unsigned notes_n, warnings_n, errors_n;
};

__attribute__((format(printf, 3, 4))) static void say(char lines[][256], unsigned *n,
                                                      const char *fmt, ...)
{
    va_list args;
    if (*n == LINES_MAX)
        return;
    va_start(args, fmt);
    vsnprintf(lines[(*n)++], sizeof(lines[0]), fmt, args);
    va_end(args);
}
#define note(r, ...) say((r)->notes, &(r)->notes_n, __VA_ARGS__)
#define warn(r, ...) say((r)->warnings, &(r)->warnings_n, __VA_ARGS__)
#define fail(r, ...) say((r)->errors, &(r)->errors_n, __VA_ARGS__)

static bool rung_have(const struct io_features *f, const struct rung *rung)
{
    return *(const bool *)((const char *)f + rung->at);
}

static int dirs_add(struct report *r, const char *role, const char *list)
{
    for (const char *at = list; *at != '\0';) {
        size_t len = strcspn(at, ",");
        struct dir_facts *d = &r->dirs[r->dirs_n];
        if (len == 0 || len >= sizeof(d->path) || r->dirs_n == DIRS_MAX)
            return -EINVAL;
        r->dirs_n++;
        d->role = role;
        memcpy(d->path, at, len);
        at += len + (at[len] == ',');
    }
    return *list == '\0' ? -EINVAL : 0;
}

/* The directory, or where it would be made: the closest one above it that exists. */
static void dir_look(struct dir_facts *d)
{
    strcpy(d->looked_at, d->path);
    for (;;) {
        d->rc = device_describe(d->looked_at, &d->device);
        if (d->rc != -ENOENT)
            break;
        char *slash = strrchr(d->looked_at, '/');
        if (slash == NULL && strcmp(d->looked_at, ".") == 0)
            break;
        if (slash == NULL)
            strcpy(d->looked_at, ".");
        else
            slash[slash == d->looked_at ? 1 : 0] = '\0';
    }
    d->writable = access(d->looked_at, W_OK | X_OK) == 0;
}

static void dir_judge(struct report *r, const struct dir_facts *d)
{
    const struct device *v = &d->device;
    if (d->rc < 0) {
        fail(r, "%s directory %s: %s", d->role, d->path, strerror(-d->rc));
        return;
    }
    if (v->read_only)
        fail(r, "%s is on a file system mounted read-only", d->path);
    else if (!d->writable)
        fail(r, "%s: %s cannot be written by this user", d->path, d->looked_at);
    if (v->dio_offset_align_bytes > BLOCK_BYTES || v->dio_memory_align_bytes > BLOCK_BYTES)
        fail(r, "%s: the device wants direct writes of %" PRIu32 " bytes, penstock writes %u",
             d->path, MAX(v->dio_offset_align_bytes, v->dio_memory_align_bytes), BLOCK_BYTES);
    if (!v->direct)
        warn(r,
             "%s: %s refuses O_DIRECT; data goes through the page cache, which costs memory "
             "and a copy",
             d->path, v->fs_type);
    if (v->copy_on_write)
        warn(r,
             "%s: %s copies on write, so overwriting in place, which the journal relies on to "
             "be fast, is slow; use ext4 or XFS",
             d->path, v->fs_type);
    if (strcmp(v->fs_type, "tmpfs") == 0 || strcmp(v->fs_type, "ramfs") == 0)
        warn(r, "%s is in memory (%s): everything is lost with the machine's power", d->path,
             v->fs_type);
    else if (v->name[0] == '\0')
        warn(r,
             "%s: no block device of this machine is behind it; whether a flush makes data "
             "durable is for %s to say",
             d->path, v->fs_type);
    if (v->free_bytes >> 20 < FREE_WANTED_MIB)
        warn(r, "%s: only %" PRIu64 " MiB free", d->path, v->free_bytes >> 20);
}

static void features_judge(struct report *r)
{
    const struct io_features *f = &r->features;
    if (r->reason != NULL)
        fail(r, "%s", r->reason);
    if (f->io_uring && !f->fixed_unlimited && f->fixed_buffers)
        warn(r,
             "only %" PRIu64 " KiB of memory can be registered (RLIMIT_MEMLOCK): run as root, or "
             "raise LimitMEMLOCK",
             f->memlock_bytes >> 10);
    if (f->nofile_max < NOFILE_WANTED)
        warn(r,
             "only %" PRIu64 " open files are allowed (RLIMIT_NOFILE, hard): that bounds "
             "partitions and connections together; raise LimitNOFILE",
             f->nofile_max);
    if (f->huge_total_bytes == 0)
        note(r, "no huge pages are reserved (vm.nr_hugepages): transparent ones are used instead");
    if (f->send_zc_copied)
        note(r, "on loopback the kernel copies zero-copy sends, and reports it, as it should");
    note(r,
         "min.insync.replicas counts as 1: there is one copy of each partition, on this machine");
}

static int options_parse(int argc, char **argv, struct report *r)
{
    static const struct option known[] = {
        {"data", required_argument, NULL, 'd'},
        {"journal", required_argument, NULL, 'j'},
        {"json", no_argument, NULL, 'J'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    int c;
    bool data = false;
    optind = 0; /* start over: the command's own options were parsed before */
    while ((c = getopt_long(argc, argv, "+", known, NULL)) != -1) {
        if (c == '?')
            return EXIT_USAGE; /* getopt has said what */
        if (c == 'h')
            r->help = true;
        if (c == 'J')
            r->json = true;
        data |= c == 'd';
        if ((c == 'd' || c == 'j') && dirs_add(r, c == 'd' ? "data" : "journal", optarg) < 0) {
            fprintf(stderr, "penstock doctor: bad value for --%s: %s\n",
                    c == 'd' ? "data" : "journal", optarg);
            return EXIT_USAGE;
        }
    }
    if (optind < argc) {
        fprintf(stderr, "penstock doctor: unexpected argument: %s\n", argv[optind]);
        return EXIT_USAGE;
    }
    return data || dirs_add(r, "data", "data") == 0 ? 0 : EXIT_USAGE;
}

static const char *limit_text(uint64_t v, unsigned shift, const char *unit, char ret[32])
{
    if (v == UINT64_MAX)
        return "no limit";
    snprintf(ret, 32, "%" PRIu64 "%s", v >> shift, unit);
    return ret;
}

static void text_lines(const char *title, char lines[][256], unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        printf("%-9s%s\n", title, lines[i]);
}

static void text_dir(const struct dir_facts *d)
{
    const struct device *v = &d->device;
    printf("\n%s directory %s\n", d->role, d->path);
    if (d->rc < 0)
        return;
    if (strcmp(d->path, d->looked_at) != 0)
        printf("  %-20sit does not exist yet; these are of %s\n", "", d->looked_at);
    printf("  %-20s%s on %s\n", "file system", v->fs_type, v->source);
    printf("  %-20s%" PRIu64 " of %" PRIu64 " MiB\n", "free", v->free_bytes >> 20,
           v->total_bytes >> 20);
    if (v->direct && v->dio_offset_align_bytes > 0)
        printf("  %-20syes, alignment %" PRIu32 " (memory %" PRIu32 ")\n", "direct I/O",
               v->dio_offset_align_bytes, v->dio_memory_align_bytes);
    else
        printf("  %-20s%s\n", "direct I/O", v->direct ? "yes, alignment not told" : "no");
    if (v->name[0] == '\0')
        return;
    printf("  %-20s%s\n", "block device", v->name);
    printf("  %-20s%s\n", "rotational",
           !v->rotational_known ? "not told"
           : v->rotational      ? "yes, as reported (virtual disks say so, too)"
                                : "no, as reported");
    printf("  %-20s%s\n", "volatile cache",
           !v->write_cache ? "no"
           : v->fua        ? "yes; synced writes pass it (FUA)"
                           : "yes; a synced write is a write and a flush");
}

static void text_print(struct report *r)
{
    const struct io_features *f = &r->features;
    char memlock[32], nofile[32], nofile_max[32];
    printf("kernel %u.%u (6.1 or later is needed), io_uring %s\n", f->kernel_major, f->kernel_minor,
           f->io_uring ? "yes" : "no");
    printf("registrable memory %s, open files %s (can be raised to %s), huge pages %" PRIu64
           " of %" PRIu64 " MiB free\n\n",
           f->fixed_unlimited ? "without limit" : limit_text(f->memlock_bytes, 10, " KiB", memlock),
           limit_text(f->nofile, 0, "", nofile), limit_text(f->nofile_max, 0, "", nofile_max),
           f->huge_free_bytes >> 20, f->huge_total_bytes >> 20);
    for (unsigned i = 0; i < ARRAY_LEN(rungs); i++) {
        const struct rung *rung = &rungs[i];
        bool have = rung_have(f, rung);
        printf("%-4s %s%s\n", have ? "yes" : "no", rung->name,
               rung->used ? "" : " (looked for; serve does not use it yet)");
        if (!have && rung->fallback != NULL)
            printf("       instead: %s; cost: %s\n", rung->fallback, rung->cost);
        else if (!have)
            printf("       %s\n", rung->cost);
    }
    for (unsigned i = 0; i < r->dirs_n; i++)
        text_dir(&r->dirs[i]);
    putchar('\n');
    text_lines("note", r->notes, r->notes_n);
    text_lines("warning", r->warnings, r->warnings_n);
    text_lines("ERROR", r->errors, r->errors_n);
    puts(r->errors_n == 0 ? "serve can run here" : "serve cannot run here");
}

/* A JSON string; NULL is null. Paths can hold any byte. */
static void json_string(const char *s)
{
    if (s == NULL) {
        fputs("null", stdout);
        return;
    }
    putchar('"');
    for (; *s != '\0'; s++) {
        unsigned char c = (unsigned char)*s;
        if (c == '"' || c == '\\')
            printf("\\%c", c);
        else if (c < 0x20)
            printf("\\u%04x", c);
        else
            putchar(c);
    }
    putchar('"');
}

static const char *json_bool(bool v)
{
    return v ? "true" : "false";
}

static void json_lines(const char *name, char lines[][256], unsigned n)
{
    printf(",\n  \"%s\": [", name);
    for (unsigned i = 0; i < n; i++) {
        fputs(i > 0 ? ", " : "", stdout);
        json_string(lines[i]);
    }
    putchar(']');
}

static void json_rung(const struct rung *rung, bool have, bool last)
{
    fputs("    {\"name\": ", stdout);
    json_string(rung->name);
    printf(", \"have\": %s, \"used\": %s, \"fallback\": ", json_bool(have), json_bool(rung->used));
    json_string(rung->fallback);
    fputs(", \"cost\": ", stdout);
    json_string(rung->cost);
    puts(last ? "}" : "},");
}

static void json_dir(const struct dir_facts *d, bool last)
{
    const struct device *v = &d->device;
    fputs("    {\"role\": ", stdout);
    json_string(d->role);
    fputs(", \"path\": ", stdout);
    json_string(d->path);
    fputs(", \"looked_at\": ", stdout);
    json_string(d->looked_at);
    fputs(", \"fs_type\": ", stdout);
    json_string(v->fs_type);
    fputs(", \"source\": ", stdout);
    json_string(v->source);
    fputs(", \"block_device\": ", stdout);
    json_string(v->name[0] != '\0' ? v->name : NULL);
    printf(", \"direct\": %s, \"dio_offset_align\": %" PRIu32 ", \"dio_memory_align\": %" PRIu32,
           json_bool(v->direct), v->dio_offset_align_bytes, v->dio_memory_align_bytes);
    printf(", \"copy_on_write\": %s, \"rotational\": %s, \"write_cache\": %s, \"fua\": %s",
           json_bool(v->copy_on_write), v->rotational_known ? json_bool(v->rotational) : "null",
           json_bool(v->write_cache), json_bool(v->fua));
    printf(", \"free_bytes\": %" PRIu64 ", \"total_bytes\": %" PRIu64 "}%s\n", v->free_bytes,
           v->total_bytes, last ? "" : ",");
}

static void json_limit(const char *name, uint64_t v)
{
    if (v == UINT64_MAX)
        printf(", \"%s\": null", name);
    else
        printf(", \"%s\": %" PRIu64, name, v);
}

static void json_print(struct report *r)
{
    const struct io_features *f = &r->features;
    printf("{\n  \"ok\": %s, \"reason\": ", json_bool(r->errors_n == 0));
    json_string(r->reason);
    printf(",\n  \"kernel\": \"%u.%u\", \"io_uring\": %s", f->kernel_major, f->kernel_minor,
           json_bool(f->io_uring));
    json_limit("memlock_bytes", f->memlock_bytes);
    json_limit("nofile", f->nofile);
    json_limit("nofile_max", f->nofile_max);
    json_limit("huge_free_bytes", f->huge_free_bytes);
    json_limit("huge_total_bytes", f->huge_total_bytes);
    puts(",\n  \"features\": [");
    for (unsigned i = 0; i < ARRAY_LEN(rungs); i++)
        json_rung(&rungs[i], rung_have(f, &rungs[i]), i + 1 == ARRAY_LEN(rungs));
    puts("  ],\n  \"directories\": [");
    for (unsigned i = 0; i < r->dirs_n; i++)
        json_dir(&r->dirs[i], i + 1 == r->dirs_n);
    fputs("  ]", stdout);
    json_lines("notes", r->notes, r->notes_n);
    json_lines("warnings", r->warnings, r->warnings_n);
    json_lines("errors", r->errors, r->errors_n);
    puts("\n}");
}

int cmd_doctor(int argc, char **argv)
{
    static struct report r; /* big; one call a process, but for tests */
    r = (struct report){0};
    int code = options_parse(argc, argv, &r);
    if (code != 0)
        return code;
    if (r.help) {
        fputs(usage, stdout);
        return 0;
    }
    io_probe(&r.features, &r.reason);
    features_judge(&r);
    for (unsigned i = 0; i < r.dirs_n; i++) {
        dir_look(&r.dirs[i]);
        dir_judge(&r, &r.dirs[i]);
    }
    if (r.json)
        json_print(&r);
    else
        text_print(&r);
    return r.errors_n == 0 ? 0 : EXIT_FAILURE;
}
