#include "bench/document.h"

#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench/json_doc.h"
#include "bench/machine.h"

#define FORMAT "penstock-bench/1"
#define JSON_FLAGS (JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE)

static void now_text(char ret[32])
{
    struct timespec now;
    struct tm tm;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &tm);
    strftime(ret, 32, "%Y-%m-%dT%H:%M:%SZ", &tm);
}

int document_open(struct document *d, const char *command, const char *version, const char *commit)
{
    struct json_doc doc = {0};
    struct machine machine;
    char created[32];
    struct json_object *root = json_doc_object(&doc), *own = json_doc_object(&doc);
    struct json_object *runs = json_doc_array(&doc);
    now_text(created);
    machine_describe(&machine);
    json_doc_put_text(&doc, root, "format", FORMAT);
    json_doc_put_text(&doc, root, "command", command);
    json_doc_put_text(&doc, root, "created", created);
    json_doc_put_text(&doc, own, "version", version);
    json_doc_put_text(&doc, own, "commit", commit);
    json_doc_put(&doc, root, "penstock", own);
    json_doc_put(&doc, root, "machine", machine_json(&machine));
    json_doc_put(&doc, root, "runs", runs);
    root = json_doc_finish(&doc, root);
    if (root == NULL)
        return -ENOMEM;
    *d = (struct document){.root = root, .runs = runs};
    return 0;
}

int document_run(struct document *d, struct json_object *run)
{
    int index = (int)json_object_array_length(d->runs);
    json_object_array_add(d->runs, run);
    return index;
}

void document_put(struct document *d, const char *key, struct json_object *value)
{
    json_object_object_add(d->root, key, value);
}

static int write_all(FILE *out, const char *text)
{
    return fputs(text, out) < 0 || fputc('\n', out) < 0 || fflush(out) != 0 ? -EIO : 0;
}

int document_write(const struct document *d, const char *path)
{
    const char *text = json_object_to_json_string_ext(d->root, JSON_FLAGS);
    char temporary[4096];
    if (text == NULL)
        return -ENOMEM;
    if (strcmp(path, "-") == 0)
        return write_all(stdout, text);
    if (snprintf(temporary, sizeof(temporary), "%s.tmp", path) >= (int)sizeof(temporary))
        return -ENAMETOOLONG;
    FILE *out = fopen(temporary, "we");
    if (out == NULL)
        return -errno;
    int rc = write_all(out, text);
    if (fclose(out) != 0 && rc == 0)
        rc = -errno;
    if (rc == 0 && rename(temporary, path) < 0)
        rc = -errno;
    if (rc < 0)
        remove(temporary);
    return rc;
}

void document_close(struct document *d)
{
    json_object_put(d->root);
    *d = (struct document){0};
}
