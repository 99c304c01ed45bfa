#include "tools/doctor.h"

#include <inttypes.h>
#include <stdint.h>

#include "core/base/bytes.h"

/* A JSON string; NULL is null. Paths can hold any byte. */
void doctor_json_string(const char *s)
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

static void json_lines(const char *name, const struct doctor_lines *lines)
{
    printf(",\n  \"%s\": [", name);
    for (unsigned i = 0; i < lines->n; i++) {
        fputs(i > 0 ? ", " : "", stdout);
        doctor_json_string(lines->text[i]);
    }
    putchar(']');
}

static void json_member(const char *name, const char *value)
{
    printf(", \"%s\": ", name);
    doctor_json_string(value);
}

static void json_rung(const struct doctor_rung *rung, bool have, bool last)
{
    fputs("    {\"name\": ", stdout);
    doctor_json_string(rung->name);
    printf(", \"have\": %s, \"used\": %s", json_bool(have), json_bool(rung->used));
    json_member("fallback", rung->fallback);
    json_member("cost", rung->cost);
    json_member("how", rung->how);
    puts(last ? "}" : "},");
}

static void json_tune_rung(const struct tune_rung *rung, bool last)
{
    static const char *const states[] = {
        [TUNE_ON] = "on", [TUNE_OFF] = "off", [TUNE_ABSENT] = "absent"};
    fputs("    {\"name\": ", stdout);
    doctor_json_string(rung->name);
    json_member("state", states[rung->state]);
    json_member("reason", rung->reason);
    json_member("gain", rung->gain);
    json_member("how", rung->how[0] != '\0' ? rung->how : NULL);
    fputs(", \"settings\": [", stdout);
    for (size_t i = 0; i < rung->settings_n; i++) {
        fputs(i > 0 ? ", {\"path\": " : "{\"path\": ", stdout);
        doctor_json_string(rung->settings[i].path);
        json_member("now", rung->settings[i].now);
        json_member("want", rung->settings[i].want);
        putchar('}');
    }
    puts(last ? "]}" : "]},");
}

static void json_dir(const struct doctor_dir *d, bool last)
{
    const struct device *v = &d->device;
    fputs("    {\"role\": ", stdout);
    doctor_json_string(d->role);
    fputs(", \"path\": ", stdout);
    doctor_json_string(d->path);
    fputs(", \"looked_at\": ", stdout);
    doctor_json_string(d->looked_at);
    fputs(", \"fs_type\": ", stdout);
    doctor_json_string(v->fs_type);
    fputs(", \"source\": ", stdout);
    doctor_json_string(v->source);
    fputs(", \"block_device\": ", stdout);
    doctor_json_string(v->name[0] != '\0' ? v->name : NULL);
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

void doctor_json(const struct doctor_report *r)
{
    const struct io_features *f = &r->features;
    printf("{\n  \"ok\": %s, \"reason\": ", json_bool(r->errors.n == 0));
    doctor_json_string(r->reason);
    printf(",\n  \"kernel\": \"%u.%u\", \"io_uring\": %s", f->kernel_major, f->kernel_minor,
           json_bool(f->io_uring));
    json_limit("memlock_bytes", f->memlock_bytes);
    json_limit("nofile", f->nofile);
    json_limit("nofile_max", f->nofile_max);
    json_limit("huge_free_bytes", f->huge_free_bytes);
    json_limit("huge_total_bytes", f->huge_total_bytes);
    puts(",\n  \"features\": [");
    for (unsigned i = 0; i < doctor_rungs_n; i++)
        json_rung(&doctor_rungs[i], doctor_rung_have(f, &doctor_rungs[i]), i + 1 == doctor_rungs_n);
    puts("  ],\n  \"settings\": [");
    for (size_t i = 0; r->tune != NULL && i < r->tune->rungs_n; i++)
        json_tune_rung(&r->tune->rungs[i], i + 1 == r->tune->rungs_n);
    puts("  ],\n  \"directories\": [");
    for (unsigned i = 0; i < r->dirs_n; i++)
        json_dir(&r->dirs[i], i + 1 == r->dirs_n);
    fputs("  ]", stdout);
    json_lines("notes", &r->notes);
    json_lines("warnings", &r->warnings);
    json_lines("errors", &r->errors);
    puts("\n}");
}
