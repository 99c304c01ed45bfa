/* report_data.h: result files (JSON, "penstock-bench/1") read for the report.
 * Happy path: report_file_load() reads one file; a node stands for one place in it and knows the
 *   path that leads there, so that every number shown can be traced back to the file.
 * Failure: loading says why in `reason`. Looking up never fails: what is missing, of another type
 *   than asked for, not finite, or too large for its integer is "absent", as all files are
 *   untrusted. Absent nodes may be asked on; all below them is absent.
 * Ownership: nodes and texts borrow from the file until report_file_close(). Threads: one. */
#ifndef BENCH_REPORT_DATA_H
#define BENCH_REPORT_DATA_H

#include <stdbool.h>
#include <stddef.h>

#define REPORT_FORMAT "penstock-bench/1"
#define REPORT_FILE_BYTES_MAX (512u << 20)
#define REPORT_PATH_MAX 256 /* a member whose path is longer is absent */

struct json_object;

struct report_file {
    const char *name; /* as given; borrowed */
    struct json_object *root;
};

/* One place in a file. `path` is written as JavaScript would: runs[0].workload["record.size"]. */
struct report_node {
    struct json_object *json; /* NULL: absent */
    unsigned file;            /* index of the file among those of the report */
    char path[REPORT_PATH_MAX];
};

/* -EINVAL: not JSON, or not of this format; -EFBIG; or what reading the file gave. */
int report_file_load(const char *name, struct report_file *ret, char *reason, size_t reason_size);
/* The same from memory; `name` is for `reason`. */
int report_file_parse(const char *name, const char *text, size_t len, struct report_file *ret,
                      char *reason, size_t reason_size);
void report_file_close(struct report_file *file);

struct report_node report_node_root(const struct report_file *file, unsigned index);
struct report_node report_node_member(const struct report_node *at, const char *name);
struct report_node report_node_item(const struct report_node *at, size_t index);
/* Members one below the other, parted by '/': "windows/measure/ack_rate". */
struct report_node report_node_find(const struct report_node *at, const char *names);

/* Items of an array; 0 for anything else. */
size_t report_node_count(const struct report_node *at);
/* NULL unless it is a text. */
const char *report_node_text(const struct report_node *at);
bool report_node_number(const struct report_node *at, double *ret_value);
/* The number as the file has it, digit for digit; NULL unless report_node_number() has one. */
const char *report_node_raw(const struct report_node *at);
bool report_node_bool(const struct report_node *at, bool *ret_value);

typedef void (*report_member_fn)(void *arg, const struct report_node *member, const char *name);
/* Calls on_member for each member of an object, in the file's order, at most `max`; returns how
 * many there are in all. */
size_t report_node_each(const struct report_node *at, size_t max, void *arg,
                        report_member_fn on_member);

#endif
