/* inspect_checkpoint.c: the entries of a checkpoint one after the other. */
#include <errno.h>
#include <string.h>

#include "core/log/inspect.h"

static bool copy_open(struct inspect_bytes *bytes, unsigned copy, struct checkpoint_header *ret,
                      const uint8_t **ret_bytes)
{
    uint64_t half = checkpoint_copy_at(block_floor(bytes->size_bytes));
    const uint8_t *p = bytes->at(bytes, copy * half, half);
    *ret_bytes = p;
    return p != NULL && checkpoint_copy_open(p, half, ret);
}

int inspect_checkpoint_open(struct inspect_bytes *bytes, struct inspect_checkpoint *ret)
{
    struct checkpoint_header h[2];
    const uint8_t *p;
    *ret = (struct inspect_checkpoint){0};
    for (unsigned i = 0; i < 2; i++)
        ret->copy_ok[i] = copy_open(bytes, i, &h[i], &p);
    if (!ret->copy_ok[0] && !ret->copy_ok[1])
        return -EBADMSG;
    unsigned newest = !ret->copy_ok[0] || (ret->copy_ok[1] && h[1].generation > h[0].generation);
    if (!copy_open(bytes, newest, &ret->h, &p)) /* it was just now */
        return -ENOMEM;
    ret->body = p + sizeof(ret->h);
    ret->end = ret->body + ret->h.body_bytes;
    ret->left[INSPECT_ENTRY_PLOG] = ret->h.plogs_n;
    return 0;
}

static bool take(struct inspect_checkpoint *c, void *ret, uint64_t len)
{
    if ((uint64_t)(c->end - c->body) < len)
        return false;
    memcpy(ret, c->body, len);
    c->body += len;
    return true;
}

static bool take_plog(struct inspect_checkpoint *c, struct inspect_entry *ret)
{
    if (!take(c, &ret->plog, sizeof(ret->plog)))
        return false;
    c->left[INSPECT_ENTRY_EPOCH] = ret->plog.epochs_n;
    c->left[INSPECT_ENTRY_PRODUCER] = ret->plog.producers_n;
    c->left[INSPECT_ENTRY_SEGMENT] = ret->plog.segments_n;
    return true;
}

static bool take_epoch(struct inspect_checkpoint *c, struct inspect_entry *ret)
{
    return take(c, &ret->epoch, sizeof(ret->epoch)) &&
           take(c, &ret->start_offset, sizeof(ret->start_offset));
}

static bool take_producer(struct inspect_checkpoint *c, struct inspect_entry *ret)
{
    return take(c, &ret->producer, sizeof(ret->producer)) &&
           ret->producer.batches_n <= PRODUCER_BATCHES;
}

static bool take_segment(struct inspect_checkpoint *c, struct inspect_entry *ret)
{
    if (!take(c, &ret->segment, sizeof(ret->segment)) ||
        ret->segment.image_bytes > (uint64_t)(c->end - c->body))
        return false;
    ret->image = c->body;
    c->body += ret->segment.image_bytes;
    return true;
}

static bool (*const takes[INSPECT_ENTRY_END])(struct inspect_checkpoint *c,
                                              struct inspect_entry *ret) = {
    [INSPECT_ENTRY_PLOG] = take_plog,
    [INSPECT_ENTRY_EPOCH] = take_epoch,
    [INSPECT_ENTRY_PRODUCER] = take_producer,
    [INSPECT_ENTRY_SEGMENT] = take_segment,
};

/* A partition's epochs, producers and segments come before the next partition. */
void inspect_checkpoint_next(struct inspect_checkpoint *c, struct inspect_entry *ret)
{
    *ret = (struct inspect_entry){.kind = INSPECT_ENTRY_END};
    for (unsigned i = 1; i <= INSPECT_ENTRY_END; i++) {
        unsigned kind = i % INSPECT_ENTRY_END;
        if (c->left[kind] == 0)
            continue;
        c->left[kind]--;
        ret->kind = takes[kind](c, ret) ? kind : INSPECT_ENTRY_DAMAGED;
        break;
    }
    if (ret->kind == INSPECT_ENTRY_DAMAGED)
        memset(c->left, 0, sizeof(c->left));
}
