/* cmd_group.h: `penstock group`: consumer groups, over the wire: list, describe, delete,
 * reset-offsets.
 * Happy path of describe: group_view_read() asks the coordinator for members and committed
 *   offsets; group_view_lag() asks the partitions' leaders where they end and when the first unread
 *   record was written, and what the topics' configs say of how long it stays; group_describe.c
 *   shows it.
 * Failure: as in client.h; what goes wrong with one partition is in its rc.
 * Ownership: all of a group lives in its arena. Threads: one. */
#ifndef TOOLS_CMD_GROUP_H
#define TOOLS_CMD_GROUP_H

#include "tools/cli.h"

struct group_options {
    struct cli_common common;
    struct cli_list topics; /* reset-offsets: of these */
    const char *state, *to;
    bool all_topics, dry_run, members;
};

struct group_member {
    const char *id, *instance, *client, *host; /* instance: NULL when it is not static */
    uint32_t partitions_n;                     /* assigned to it */
};

/* What lets a record go, and so what the time left goes by. */
enum group_left {
    LEFT_NOTHING_UNREAD,
    LEFT_BY_TIME,   /* retention.ms */
    LEFT_BY_SIZE,   /* retention.bytes, at the rate of the last minutes: an estimate */
    LEFT_UNBOUNDED, /* nothing lets it go as things are */
    LEFT_UNKNOWN,   /* the broker does not tell enough */
};

struct group_partition {
    const char *topic;
    int32_t partition, leader;
    int64_t committed;                 /* -1: nothing yet */
    const struct group_member *member; /* NULL: assigned to nobody */
    int rc;                            /* of the partition: 0, or why the rest is not known */
    int64_t start, end;                /* of the log */
    int64_t lag, lost;                 /* records: not read yet; gone before they were read */
    int64_t unread_ms;                 /* when the first unread record was written; -1: not known */
    double lag_s;                      /* its age; -1: not known */
    enum group_left left;
    double left_s; /* below 0: overdue */
};

struct group_view {
    const char *name;
    int32_t coordinator;
    const char *state, *type, *protocol; /* type: classic, consumer */
    struct group_member *members;
    unsigned members_n;
    struct group_partition *partitions; /* by topic and number */
    unsigned partitions_n;
    struct arena arena;
};

/* Close it also when that failed. GROUP_ID_NOT_FOUND: there is none. */
int group_view_read(struct client *c, const char *name, struct group_view *ret);
void group_view_close(struct group_view *g);
/* The partition's place among the group's, made when it is not there. NULL: no memory. */
struct group_partition *group_view_partition_at(struct group_view *g, struct wire_str topic,
                                                int32_t partition);
void group_view_sort(struct group_view *g);

/* Of a member's assignment as consumers of the classic protocol write it. 0 or -EPROTO, -ENOMEM. */
int group_view_assignment(struct group_view *g, struct group_member *m,
                          struct wire_bytes assignment);

/* Fills in what is below `rc` for every partition. */
int group_view_lag(struct client *c, struct group_view *g);

int group_view_describe(struct client *c, void *options);
int group_view_reset(struct client *c, void *options);
const char *group_view_reset_check(const struct group_options *o); /* NULL, or what is wrong */

int cmd_group(int argc, char **argv);

#endif
