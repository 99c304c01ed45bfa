/* document.h: a result file under construction: what ran, on what, and the runs.
 * Happy path: document_open(), document_run() for each, document_put() for what else a command
 * finds, document_write(). Failure: -ENOMEM, or what writing said; nothing is left half written (a
 * temporary name, renamed). Threads: one. */
#ifndef BENCH_DOCUMENT_H
#define BENCH_DOCUMENT_H

struct json_object;

struct document {
    struct json_object *root, *runs;
};

int document_open(struct document *d, const char *command, const char *version, const char *commit);
/* Takes the run. Returns its index. */
int document_run(struct document *d, struct json_object *run);
void document_put(struct document *d, const char *key, struct json_object *value);
/* path "-": standard output. */
int document_write(const struct document *d, const char *path);
void document_close(struct document *d);

#endif
