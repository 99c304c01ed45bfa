#include "tools/doctor.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include "core/base/bytes.h"

enum { NOFILE_WANTED = 65536, FREE_WANTED_MIB = 1024 };

#define KERNEL(version)                                                                            \
    "a kernel of " version " or later: apt-get install -t bookworm-backports linux-image-amd64"
#define AT(field) offsetof(struct io_features, field)
const struct doctor_rung doctor_rungs[] = {
    {"single-issuer rings", AT(single_issuer), true, "shared rings", "a lock in each system call",
     KERNEL("6.0")},
    {"deferred task work", AT(defer_taskrun), true, "cooperative task work",
     "completions are handled one by one instead of in batches: more CPU", KERNEL("6.1")},
    {"cooperative task work", AT(coop_taskrun), true, "interrupts",
     "completions interrupt the shard (only without deferred task work)", KERNEL("5.19")},
    {"waiting with a timeout", AT(ext_arg), true, NULL, "serve cannot run", KERNEL("5.11")},
    {"registered files", AT(sparse_files), true, NULL,
     "serve cannot run: its rings must hold the locks of the directories", KERNEL("5.19")},
    {"registered memory", AT(fixed_buffers), true, "plain reads and writes",
     "pages are looked up and pinned for each operation", KERNEL("5.1")},
    {"registered memory beyond RLIMIT_MEMLOCK", AT(fixed_unlimited), true, "plain reads and writes",
     "as above, unless a shard's memory fits in the limit",
     "ulimit -l unlimited; under systemd LimitMEMLOCK=infinity"},
    {"multishot accept", AT(accept_multishot), true, "one accept at a time",
     "one more submission for each connection", KERNEL("5.19")},
    {"provided buffer rings", AT(buf_ring), true, "the older PROVIDE_BUFFERS operation",
     "one more submission for each receive", KERNEL("5.19")},
    {"multishot receive", AT(recv_multishot), false, "one receive at a time",
     "one more submission for each receive", KERNEL("6.0")},
    {"messages between rings", AT(msg_ring), true, "an eventfd for each shard",
     "a write() for each wake-up of another shard", KERNEL("5.18")},
    {"zero-copy send", AT(send_zc), true, "send", "the kernel copies what is sent", KERNEL("6.0")},
    {"zero-copy send, usage reports", AT(send_zc_report), true, "send",
     "whether zero copy works cannot be seen, so it is never chosen by itself", KERNEL("6.2")},
    {"splice", AT(splice), true, "read and send", "data from disk passes through memory",
     KERNEL("5.7")},
    {"page cache that can be asked", AT(cachestat), true, "a kernel worker for each MiB spliced",
     "what is in memory is not known, so no shard moves it itself", KERNEL("6.5")},
    {"polled rings (IOPOLL), with busy.poll.us", AT(iopoll), true, "interrupts",
     "some microseconds of latency, and an interrupt for each read", KERNEL("5.1")},
    {"NAPI busy polling, with busy.poll.us", AT(napi), true, "interrupts",
     "some microseconds of latency", KERNEL("6.9")},
};
const unsigned doctor_rungs_n = ARRAY_LEN(doctor_rungs);

__attribute__((format(printf, 2, 3))) static void say(struct doctor_lines *lines, const char *fmt,
                                                      ...)
{
    va_list args;
    if (lines->n == DOCTOR_LINES_MAX)
        return;
    va_start(args, fmt);
    vsnprintf(lines->text[lines->n++], DOCTOR_LINE_BYTES, fmt, args);
    va_end(args);
}
#define note(r, ...) say(&(r)->notes, __VA_ARGS__)
#define warn(r, ...) say(&(r)->warnings, __VA_ARGS__)
#define fail(r, ...) say(&(r)->errors, __VA_ARGS__)

bool doctor_rung_have(const struct io_features *f, const struct doctor_rung *rung)
{
    return *(const bool *)((const char *)f + rung->at);
}

int doctor_dirs_add(struct doctor_report *r, const char *role, const char *list)
{
    for (const char *at = list; *at != '\0';) {
        size_t len = strcspn(at, ",");
        struct doctor_dir *d = &r->dirs[r->dirs_n];
        if (len == 0 || len >= sizeof(d->path) || r->dirs_n == DOCTOR_DIRS_MAX)
            return -EINVAL;
        r->dirs_n++;
        d->role = role;
        memcpy(d->path, at, len);
        at += len + (at[len] == ',');
    }
    return *list == '\0' ? -EINVAL : 0;
}

/* The directory, or where it would be made: the closest one above it that exists. */
static void dir_look(struct doctor_dir *d)
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

static void dir_judge(struct doctor_report *r, const struct doctor_dir *d)
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

static void features_judge(struct doctor_report *r)
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
    if (f->send_zc_copied)
        note(r, "on loopback the kernel copies zero-copy sends, and reports it: egress=auto sends "
                "plainly there");
    note(r,
         "min.insync.replicas counts as 1: there is one copy of each partition, on this machine");
}

void doctor_look(struct doctor_report *r)
{
    io_probe(&r->features, &r->reason);
    features_judge(r);
    for (unsigned i = 0; i < r->dirs_n; i++) {
        dir_look(&r->dirs[i]);
        dir_judge(r, &r->dirs[i]);
    }
}
