/* Making settings and taking them back. The state file has a line for each setting made:
 *   PATH TAB OLD TAB NEW
 * behind a first line that names the format. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/bytes.h"
#include "tools/doctor_tune.h"

#define STATE_HEAD "penstock doctor 1"

/* A setting as it was made: now is the value before, want the one that doctor wrote. */
struct state {
    struct tune_setting *settings;
    size_t n;
};

static void state_fini(struct state *s)
{
    free(s->settings);
    *s = (struct state){0};
}

static struct tune_setting *state_find(const struct state *s, const char *path)
{
    for (size_t i = 0; i < s->n; i++)
        if (strcmp(s->settings[i].path, path) == 0)
            return &s->settings[i];
    return NULL;
}

/* What was there before the first apply stays: only the new value follows. */
static int state_add(struct state *s, const struct tune_setting *setting)
{
    struct tune_setting *known = state_find(s, setting->path);
    if (known != NULL) {
        memcpy(known->want, setting->want, sizeof(known->want));
        return 0;
    }
    void *more = realloc(s->settings, (s->n + 1) * sizeof(*s->settings));
    if (more == NULL)
        return -ENOMEM;
    s->settings = more;
    s->settings[s->n++] = *setting;
    return 0;
}

static int line_parse(char *line, struct tune_setting *ret)
{
    char *fields[3] = {line};
    line[strcspn(line, "\n")] = '\0';
    for (unsigned i = 1; i < ARRAY_LEN(fields); i++) {
        char *tab = strchr(fields[i - 1], '\t');
        if (tab == NULL)
            return -EINVAL;
        *tab = '\0';
        fields[i] = tab + 1;
    }
    /* Nothing but a setting of the kernel is ever written, whatever the file says. */
    bool is_kernels = strncmp(fields[0], "/sys/", 5) == 0 || strncmp(fields[0], "/proc/", 6) == 0;
    if (!is_kernels || strstr(fields[0], "/../") != NULL || strlen(fields[0]) >= TUNE_PATH_BYTES ||
        strlen(fields[1]) >= TUNE_VALUE_BYTES || strlen(fields[2]) >= TUNE_VALUE_BYTES)
        return -EINVAL;
    strcpy(ret->path, fields[0]);
    strcpy(ret->now, fields[1]);
    strcpy(ret->want, fields[2]);
    return 0;
}

/* -ENOENT: there is none. */
static int state_read(const char *path, struct state *ret)
{
    char line[TUNE_PATH_BYTES + 2 * TUNE_VALUE_BYTES + 8];
    struct tune_setting setting;
    FILE *f = fopen(path, "re");
    if (f == NULL)
        return -errno;
    int rc =
        fgets(line, sizeof(line), f) == NULL || strcmp(line, STATE_HEAD "\n") != 0 ? -EINVAL : 0;
    while (rc == 0 && fgets(line, sizeof(line), f) != NULL) {
        rc = line_parse(line, &setting);
        if (rc == 0)
            rc = state_add(ret, &setting);
    }
    fclose(f);
    return rc;
}

/* On the disk, whole, under its name, or not at all. */
static int state_write(const char *path, const struct state *s)
{
    char fresh[PATH_MAX];
    snprintf(fresh, sizeof(fresh), "%s.new", path);
    FILE *f = fopen(fresh, "we");
    if (f == NULL)
        return -errno;
    fputs(STATE_HEAD "\n", f);
    for (size_t i = 0; i < s->n; i++)
        fprintf(f, "%s\t%s\t%s\n", s->settings[i].path, s->settings[i].now, s->settings[i].want);
    int rc = fflush(f) != 0 || fsync(fileno(f)) < 0 ? -errno : 0;
    fclose(f);
    if (rc == 0 && rename(fresh, path) < 0)
        rc = -errno;
    if (rc < 0)
        unlink(fresh);
    return rc;
}

static void show(FILE *out, const char *path, const char *value, const char *before)
{
    fprintf(out, "echo %s > %s    # now: %s\n", value, path, before);
}

/* What the kernel made of it counts: fewer huge pages than asked for, say. */
static int setting_make(const char *root, struct tune_setting *setting, FILE *out)
{
    char got[TUNE_VALUE_BYTES];
    int rc = tune_value_write(root, setting->path, setting->want);
    if (rc < 0) {
        fprintf(out, "cannot write %s to %s: %s\n", setting->want, setting->path, strerror(-rc));
        return rc;
    }
    rc = tune_value_read(root, setting->path, got);
    if (rc < 0 || tune_value_same(setting->path, got, setting->want))
        return rc;
    fprintf(out, "%s: the kernel made %s of %s\n", setting->path, got, setting->want);
    memcpy(setting->want, got, sizeof(got));
    return 0;
}

static int settings_collect(const struct tune *tune, struct state *s)
{
    int rc = 0;
    for (size_t i = 0; i < tune->rungs_n; i++)
        for (size_t k = 0; k < tune->rungs[i].settings_n && rc == 0; k++)
            rc = state_add(s, &tune->rungs[i].settings[k]);
    return rc;
}

static int apply_all(const struct tune *tune, const char *root, struct state *s, FILE *out)
{
    int failed = 0;
    for (size_t i = 0; i < tune->rungs_n; i++) {
        for (size_t k = 0; k < tune->rungs[i].settings_n; k++) {
            const struct tune_setting *wanted = &tune->rungs[i].settings[k];
            show(out, wanted->path, wanted->want, wanted->now);
            failed |= setting_make(root, state_find(s, wanted->path), out) < 0;
        }
    }
    return failed;
}

int tune_apply(const struct tune *tune, const char *root, const char *state_path, bool dry,
               FILE *out)
{
    struct state s = {0};
    size_t n = tune_settings_count(tune);
    if (n == 0) {
        fputs("nothing to do: what can be set from here is set\n", out);
        return 0;
    }
    for (size_t i = 0; dry && i < tune->rungs_n; i++)
        for (size_t k = 0; k < tune->rungs[i].settings_n; k++)
            show(out, tune->rungs[i].settings[k].path, tune->rungs[i].settings[k].want,
                 tune->rungs[i].settings[k].now);
    if (dry)
        return 0;
    int failed = 0, rc = state_read(state_path, &s);
    if (rc == 0 || rc == -ENOENT)
        rc = settings_collect(tune, &s);
    if (rc == 0)
        rc = state_write(state_path, &s);
    if (rc == 0) {
        failed = apply_all(tune, root, &s, out);
        rc = state_write(state_path, &s);
    }
    if (rc < 0)
        fprintf(out, "cannot keep the old values in %s: %s\n", state_path, strerror(-rc));
    else
        fprintf(out, "the old values are in %s: penstock doctor --undo --yes puts them back\n",
                state_path);
    state_fini(&s);
    return rc < 0 || failed;
}

/* 0: as before; 1: left alone, or could not be written, which `out` says. */
static int setting_undo(const char *root, const struct tune_setting *setting, bool dry, FILE *out)
{
    char now[TUNE_VALUE_BYTES];
    int rc = tune_value_read(root, setting->path, now);
    if (rc == 0 && tune_value_same(setting->path, now, setting->now))
        return 0;
    if (rc == 0 && !tune_value_same(setting->path, now, setting->want)) {
        fprintf(out,
                "%s is %s now, not the %s that was set: left alone; before that it was: echo %s > "
                "%s\n",
                setting->path, now, setting->want, setting->now, setting->path);
        return 1;
    }
    if (rc == 0)
        show(out, setting->path, setting->now, now);
    if (rc == 0 && !dry)
        rc = tune_value_write(root, setting->path, setting->now);
    if (rc == 0 && !dry)
        rc = tune_value_read(root, setting->path, now);
    if (rc == 0 && !dry && !tune_value_same(setting->path, now, setting->now))
        rc = -EBUSY; /* huge pages that are in use, say */
    if (rc == 0)
        return 0;
    fprintf(out, "cannot put %s back to %s: %s\n", setting->path, setting->now, strerror(-rc));
    return 1;
}

/* The last made first. What could not be undone stays in the file. */
static int undo_all(const char *root, struct state *s, bool dry, FILE *out)
{
    size_t kept = s->n;
    for (size_t i = s->n; i-- > 0;)
        if (setting_undo(root, &s->settings[i], dry, out) != 0)
            s->settings[--kept] = s->settings[i];
    s->n -= kept;
    memmove(s->settings, s->settings + kept, s->n * sizeof(*s->settings));
    return s->n > 0;
}

int tune_undo(const char *root, const char *state_path, bool dry, FILE *out)
{
    struct state s = {0};
    int failed = 0, rc = state_read(state_path, &s);
    if (rc == -ENOENT) {
        fprintf(out, "nothing to undo: there is no %s\n", state_path);
        return 0;
    }
    if (rc == 0)
        failed = undo_all(root, &s, dry, out);
    if (rc == 0 && !dry)
        rc = failed ? state_write(state_path, &s) : unlink(state_path) < 0 ? -errno : 0;
    if (rc < 0)
        fprintf(out, "%s: %s\n", state_path,
                rc == -EINVAL ? "not a state of doctor" : strerror(-rc));
    state_fini(&s);
    return rc < 0 || failed;
}
