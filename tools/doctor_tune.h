/* doctor_tune.h: settings of the system that make the machine faster, found, made and taken back.
 * Happy path: tune_look() reads what is set now and makes the list of rungs: on, off or not here,
 *   with what each gains. An `off` rung that can be turned on from here has settings: a file, the
 *   value now, the value wanted. tune_apply() writes those that differ and keeps the old values in
 *   a state file; tune_undo() puts them back and removes the file.
 * Order: the state file, with old and new values, is on the disk before the first setting is
 *   written, so an undo is possible whatever happens. It lives under /run by default: like the
 *   settings, it does not survive a restart of the machine. A second apply adds to it and never
 *   forgets a value that was there before the first.
 * Failure: a file that is missing or cannot be read makes its rung TUNE_ABSENT, with the reason.
 *   A setting that cannot be written, or undone because somebody has changed it since, is named on
 *   `out`; the others are made all the same, and the result is 1.
 * Ownership: tune_fini() frees what tune_look() has made. topo and placement are borrowed.
 * Threads: one. */
#ifndef TOOLS_DOCTOR_TUNE_H
#define TOOLS_DOCTOR_TUNE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "numa/placement.h"
#include "numa/topo.h"

enum { TUNE_PATH_BYTES = 256, TUNE_VALUE_BYTES = 128, TUNE_TEXT_BYTES = 192 };

enum tune_state { TUNE_ON, TUNE_OFF, TUNE_ABSENT };

struct tune_setting {
    char path[TUNE_PATH_BYTES]; /* without root */
    char now[TUNE_VALUE_BYTES], want[TUNE_VALUE_BYTES];
};

struct tune_rung {
    const char *name, *gain;
    enum tune_state state;
    char reason[TUNE_TEXT_BYTES];  /* why it is in this state */
    char how[TUNE_TEXT_BYTES];     /* off, and not to be done from here: the command that does it */
    struct tune_setting *settings; /* those that differ */
    size_t settings_n;
};

struct tune_machine {
    const char *root; /* in front of /proc, /sys and /run: "" but in tests */
    const struct topo *topo;
    const struct placement *placement;
    const char (*disks)[64]; /* block devices behind the data and the journal: "nvme0n1" */
    size_t disks_n;
};

struct tune {
    struct tune_rung *rungs;
    size_t rungs_n;
};

int tune_look(const struct tune_machine *machine, struct tune *ret);
void tune_fini(struct tune *tune);
size_t tune_settings_count(const struct tune *tune);

/* dry: only say what would be done, as commands for a shell. 0, or 1 after an error was told. */
int tune_apply(const struct tune *tune, const char *root, const char *state_path, bool dry,
               FILE *out);
int tune_undo(const char *root, const char *state_path, bool dry, FILE *out);

/* ---- private to doctor_tune.c, doctor_rungs.c and doctor_apply.c ---- */

/* The value of a file of settings: its first line; of a choice like "a [b] c" the chosen word.
 * 0 or -errno. */
int tune_value_read(const char *root, const char *path, char ret[TUNE_VALUE_BYTES]);
int tune_value_write(const char *root, const char *path, const char *value);
/* Bit masks of CPUs are written with commas and leading zeros, or without. */
bool tune_value_same(const char *path, const char *a, const char *b);
/* Reads the setting, and adds it to the rung if it is not as wanted. 0: as wanted, 1: added, or
 * -errno: not to be read, and `reason` says so if nothing else did. */
int tune_want(const struct tune_machine *m, struct tune_rung *rung, const char *want,
              const char *path_format, ...) __attribute__((format(printf, 4, 5)));

struct tune_kind {
    const char *name, *gain;
    void (*look)(const struct tune_machine *m, struct tune_rung *rung);
};
extern const struct tune_kind tune_kinds[];
extern const size_t tune_kinds_n;

#endif
