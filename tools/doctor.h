/* doctor.h: what `penstock doctor` finds, and its two ways to say it. Private to cmd_doctor.c and
 * doctor_*.c.
 * Happy path: doctor_dirs_add() for each directory, doctor_look(), then doctor_text() or
 *   doctor_json(). What is found is judged in words: notes, warnings, errors; no errors means that
 *   serve can run here.
 * Failure: a directory or a file of the system that cannot be looked at is such a word.
 * Ownership: the caller owns the report, which borrows the tuning and the strings of the table.
 * Threads: one. */
#ifndef TOOLS_DOCTOR_H
#define TOOLS_DOCTOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "io/device.h"
#include "io/probe.h"
#include "tools/doctor_tune.h"

enum { DOCTOR_DIRS_MAX = 16, DOCTOR_LINES_MAX = 48, DOCTOR_LINE_BYTES = 256 };

/* One rung of the ladder of kernel features. */
struct doctor_rung {
    const char *name;
    size_t at; /* of its bool in io_features */
    bool used; /* by serve; the others are only looked for */
    const char *fallback, *cost;
    const char *how; /* what turns it on */
};
extern const struct doctor_rung doctor_rungs[];
extern const unsigned doctor_rungs_n;

struct doctor_dir {
    const char *role;
    char path[512], looked_at[512]; /* itself, or the closest directory that exists */
    int rc;
    bool writable;
    struct device device;
};

struct doctor_lines {
    char text[DOCTOR_LINES_MAX][DOCTOR_LINE_BYTES];
    unsigned n;
};

struct doctor_report {
    struct io_features features;
    const char *reason; /* NULL: the kernel will do */
    struct doctor_dir dirs[DOCTOR_DIRS_MAX];
    unsigned dirs_n;
    const struct tune *tune; /* settings of the system; NULL: could not be looked at */
    struct doctor_lines notes, warnings, errors;
};

/* list: directories with commas. -EINVAL: empty, or too long. */
int doctor_dirs_add(struct doctor_report *r, const char *role, const char *list);
void doctor_look(struct doctor_report *r);
bool doctor_rung_have(const struct io_features *f, const struct doctor_rung *rung);

void doctor_text(const struct doctor_report *r);
void doctor_json(const struct doctor_report *r);
/* A JSON string; NULL is null. */
void doctor_json_string(const char *s);

/* Where the memory and threads of a running broker are. 0: where they belong; 1: not, or not to be
 * looked at; said on stdout. */
int doctor_where(const char *root, int pid, bool json);

#endif
