#include "tools/log_journal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WINDOW_BYTES (4u << 20)

void checkpoint_open(const char *path, struct log_checkpoint *ret)
{
    *ret = (struct log_checkpoint){.path = strdup(path), .file = {.fd = -1}};
    ret->rc = ret->path == NULL ? -ENOMEM : log_file_open(&ret->file, path, 0);
    if (ret->rc == 0)
        ret->rc = inspect_checkpoint_open(&ret->file.bytes, &ret->c);
}

void checkpoint_close(struct log_checkpoint *c)
{
    log_file_close(&c->file);
    free(c->path);
}

void journal_open_file(const char *path, struct log_journal *ret)
{
    *ret = (struct log_journal){.path = strdup(path), .file = {.fd = -1}};
    for (unsigned i = 0; i < 2; i++)
        ret->checkpoints[i] = (struct log_checkpoint){.rc = -ENOENT, .file = {.fd = -1}};
    ret->rc = ret->path == NULL ? -ENOMEM : log_file_open(&ret->file, path, WINDOW_BYTES);
    if (ret->rc == 0)
        ret->rc = inspect_journal_open(&ret->file.bytes, &ret->j);
}

/* Does the checkpoint count for this journal? Without superblocks nobody can tell: then it does. */
static bool counts(const struct log_journal *j, const struct log_checkpoint *c)
{
    bool known = j->j.super_ok[0] || j->j.super_ok[1];
    return c->rc == 0 && (!known || c->c.h.identity == j->j.super.journal_id);
}

static void newest_find(struct log_journal *j)
{
    for (unsigned i = 0; i < 2; i++) {
        const struct log_checkpoint *c = &j->checkpoints[i];
        if (counts(j, c) && (j->newest == NULL || c->c.h.generation > j->newest->c.h.generation))
            j->newest = c;
    }
}

/* Does write i, which is not older than the checkpoint, come next? Also when it says that one which
 * cannot be found had been durable: that one is damaged. */
static bool comes_next(const struct log_journal *j, unsigned i, const struct checkpoint_header *c)
{
    const struct journal_header *h = &j->j.writes[i].h;
    bool first = i == j->tail_i || j->j.writes[i - 1].h.virtual_pos < c->durable_pos;
    uint64_t seq = first ? c->durable_next_seq : j->j.writes[i - 1].h.seq + 1;
    uint32_t crc = first ? c->durable_crc : j->j.writes[i - 1].h.crc;
    return h->incarnation >= c->incarnation &&
           ((h->seq == seq && h->prev_crc == crc) || (h->seq > seq && h->durable_seq >= seq));
}

/* The writes that a start replays: from the checkpoint's tail on as they follow each other. */
static void chain_find(struct log_journal *j)
{
    const struct checkpoint_header *c = j->newest == NULL ? NULL : &j->newest->c.h;
    if (c == NULL || j->rc != 0)
        return;
    uint64_t tail = journal_ring_place(j->j.super.ring_bytes, c->tail_pos);
    j->head_pos = c->durable_pos;
    while (j->tail_i < j->j.writes_n && j->j.writes[j->tail_i].h.virtual_pos < tail)
        j->tail_i++;
    for (unsigned i = j->tail_i; i < j->j.writes_n; i++) {
        const struct journal_header *h = &j->j.writes[i].h;
        if (h->virtual_pos >= c->durable_pos && !comes_next(j, i, c))
            break;
        j->chain_n++;
        j->head_pos = h->virtual_pos + h->len_bytes;
    }
}

void journal_open_id(const struct log_tree *t, unsigned id, struct log_journal *ret)
{
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%.3900s/journal.%u", t->journal_dir, id);
    journal_open_file(path, ret);
    ret->id = id;
    for (unsigned i = 0; i < 2; i++) {
        snprintf(path, sizeof(path), "%.3900s/journal.%u.checkpoint.%u", t->journal_dir, id, i);
        checkpoint_open(path, &ret->checkpoints[i]);
    }
    newest_find(ret);
    chain_find(ret);
}

void journal_close_files(struct log_journal *j)
{
    for (unsigned i = 0; i < 2; i++)
        checkpoint_close(&j->checkpoints[i]);
    inspect_journal_close(&j->j);
    log_file_close(&j->file);
    free(j->path);
}

struct json_object *journal_row(const struct log_tree *t, unsigned id)
{
    struct log_journal j;
    struct json_object *row = row_new(NULL);
    journal_open_id(t, id, &j);
    row_int(row, "journal", id);
    row_text(row, "path", j.path);
    row_uint(row, "fileBytes", j.file.bytes.size_bytes);
    if (j.rc != 0)
        row_text(row, "error", j.rc == -EBADMSG ? "superblocks are damaged" : strerror(-j.rc));
    if (j.j.super_ok[0] || j.j.super_ok[1]) {
        row_hex(row, "identity", j.j.super.journal_id);
        row_uint(row, "incarnation", j.j.super.incarnation);
        row_uint(row, "ringBytes", j.j.super.ring_bytes);
    }
    if (j.newest != NULL) {
        const struct checkpoint_header *h = &j.newest->c.h;
        row_uint(row, "checkpointGeneration", h->generation);
        row_bool(row, "closed", h->closed == 1);
        row_uint(row, "tail", h->tail_pos);
        row_uint(row, "head", j.head_pos);
        row_uint(row, "usedBytes", j.head_pos - h->tail_pos);
        row_int(row, "writes", j.chain_n);
    }
    journal_close_files(&j);
    return row;
}
