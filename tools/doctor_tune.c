#include "tools/doctor_tune.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/bytes.h"

/* ---- values ---- */

static int line_read(const char *path, char *ret, size_t size_bytes)
{
    FILE *f = fopen(path, "re");
    if (f == NULL)
        return -errno;
    char *got = fgets(ret, (int)size_bytes, f);
    int rc = got != NULL ? 0 : ferror(f) ? -EIO : -ENODATA;
    fclose(f);
    if (rc == 0)
        ret[strcspn(ret, "\n")] = '\0';
    return rc;
}

int tune_value_read(const char *root, const char *path, char ret[TUNE_VALUE_BYTES])
{
    char full[PATH_MAX], line[1024];
    snprintf(full, sizeof(full), "%s%s", root, path);
    int rc = line_read(full, line, sizeof(line));
    if (rc < 0)
        return rc;
    char *chosen = strchr(line, '['), *end = chosen == NULL ? NULL : strchr(chosen, ']');
    char *value = end == NULL ? line : chosen + 1;
    if (end != NULL)
        *end = '\0';
    if (strlen(value) >= TUNE_VALUE_BYTES)
        return -E2BIG;
    strcpy(ret, value);
    return 0;
}

int tune_value_write(const char *root, const char *path, const char *value)
{
    char full[PATH_MAX];
    snprintf(full, sizeof(full), "%s%s", root, path);
    int fd = open(full, O_WRONLY | O_TRUNC | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int rc = dprintf(fd, "%s\n", value) < 0 ? -errno : 0;
    if (close(fd) < 0 && rc == 0)
        rc = -errno;
    return rc;
}

/* Without commas and zeros in front; "" of zero. */
static void mask_plain(const char *mask, char *ret)
{
    bool any = false;
    for (; *mask != '\0'; mask++) {
        any |= *mask != '0' && *mask != ',';
        if (any && *mask != ',')
            *ret++ = *mask;
    }
    *ret = '\0';
}

static bool is_mask(const char *path)
{
    size_t len = strlen(path);
    return len > 5 && strcmp(path + len - 5, "_cpus") == 0;
}

bool tune_value_same(const char *path, const char *a, const char *b)
{
    char plain_a[TUNE_VALUE_BYTES], plain_b[TUNE_VALUE_BYTES];
    if (!is_mask(path))
        return strcmp(a, b) == 0;
    mask_plain(a, plain_a);
    mask_plain(b, plain_b);
    return strcmp(plain_a, plain_b) == 0;
}

/* ---- rungs ---- */

static int setting_add(struct tune_rung *rung, const struct tune_setting *setting)
{
    void *more = realloc(rung->settings, (rung->settings_n + 1) * sizeof(*rung->settings));
    if (more == NULL)
        return -ENOMEM;
    rung->settings = more;
    rung->settings[rung->settings_n++] = *setting;
    return 1;
}

int tune_want(const struct tune_machine *m, struct tune_rung *rung, const char *want,
              const char *path_format, ...)
{
    struct tune_setting setting;
    va_list args;
    va_start(args, path_format);
    vsnprintf(setting.path, sizeof(setting.path), path_format, args);
    va_end(args);
    int rc = tune_value_read(m->root, setting.path, setting.now);
    if (rc < 0 && rung->reason[0] == '\0')
        snprintf(rung->reason, sizeof(rung->reason), "%.120s: %s", setting.path, strerror(-rc));
    if (rc < 0)
        return rc;
    if (tune_value_same(setting.path, setting.now, want))
        return 0;
    snprintf(setting.want, sizeof(setting.want), "%s", want);
    return setting_add(rung, &setting);
}

int tune_look(const struct tune_machine *machine, struct tune *ret)
{
    ret->rungs_n = tune_kinds_n;
    ret->rungs = calloc(tune_kinds_n, sizeof(*ret->rungs));
    if (ret->rungs == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < tune_kinds_n; i++) {
        struct tune_rung *rung = &ret->rungs[i];
        rung->name = tune_kinds[i].name;
        rung->gain = tune_kinds[i].gain;
        rung->state = TUNE_ABSENT;
        tune_kinds[i].look(machine, rung);
    }
    return 0;
}

void tune_fini(struct tune *tune)
{
    for (size_t i = 0; i < tune->rungs_n; i++)
        free(tune->rungs[i].settings);
    free(tune->rungs);
    *tune = (struct tune){0};
}

size_t tune_settings_count(const struct tune *tune)
{
    size_t n = 0;
    for (size_t i = 0; i < tune->rungs_n; i++)
        n += tune->rungs[i].settings_n;
    return n;
}
