#include "tools/doctor.h"

#include <inttypes.h>
#include <stdint.h>
#include <string.h>

#include "core/base/bytes.h"

static const char *limit_text(uint64_t v, unsigned shift, const char *unit, char ret[32])
{
    if (v == UINT64_MAX)
        return "no limit";
    snprintf(ret, 32, "%" PRIu64 "%s", v >> shift, unit);
    return ret;
}

static void text_lines(const char *title, const struct doctor_lines *lines)
{
    for (unsigned i = 0; i < lines->n; i++)
        printf("%-9s%s\n", title, lines->text[i]);
}

static void text_dir(const struct doctor_dir *d)
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

static void text_rung(const struct doctor_rung *rung, bool have)
{
    printf("%-6s %s%s\n", have ? "on" : "off", rung->name,
           rung->used ? "" : " (looked for; serve does not use it yet)");
    if (have)
        return;
    if (rung->fallback != NULL)
        printf("         instead: %s\n", rung->fallback);
    printf("         cost:    %s\n         turn on: %s\n", rung->cost, rung->how);
}

/* One command stands for all of a rung. */
static void text_tune_how(const struct tune_rung *rung)
{
    if (rung->settings_n == 0) {
        printf("         turn on: %s\n", rung->how);
        return;
    }
    const struct tune_setting *first = &rung->settings[0];
    printf("         turn on: echo %s > %s", first->want, first->path);
    if (rung->settings_n > 1)
        printf(" (and %zu more)", rung->settings_n - 1);
    putchar('\n');
}

static void text_tune(const struct tune *tune)
{
    static const char *const states[] = {[TUNE_ON] = "on", [TUNE_OFF] = "off", [TUNE_ABSENT] = "-"};
    for (size_t i = 0; i < tune->rungs_n; i++) {
        const struct tune_rung *rung = &tune->rungs[i];
        printf("%-6s %s: %s\n", states[rung->state], rung->name, rung->reason);
        if (rung->state != TUNE_OFF)
            continue;
        printf("         gain:    %s\n", rung->gain);
        text_tune_how(rung);
    }
    size_t n = tune_settings_count(tune);
    if (n > 0)
        printf("%zu settings can be made from here: penstock doctor --apply shows them all, "
               "--apply --yes makes them, --undo takes them back\n",
               n);
}

void doctor_text(const struct doctor_report *r)
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
    puts("what the kernel can do");
    for (unsigned i = 0; i < doctor_rungs_n; i++)
        text_rung(&doctor_rungs[i], doctor_rung_have(f, &doctor_rungs[i]));
    puts("\nhow the system is set");
    if (r->tune != NULL)
        text_tune(r->tune);
    else
        puts("  not known: the machine's topology cannot be read");
    for (unsigned i = 0; i < r->dirs_n; i++)
        text_dir(&r->dirs[i]);
    putchar('\n');
    text_lines("note", &r->notes);
    text_lines("warning", &r->warnings);
    text_lines("ERROR", &r->errors);
    puts(r->errors.n == 0 ? "serve can run here" : "serve cannot run here");
}
