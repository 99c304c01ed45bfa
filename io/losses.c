#include "io/losses.h"

#include <errno.h>
#include <stdatomic.h>

#include "core/base/assert.h"

void losses_count(struct device_losses *device)
{
    atomic_fetch_add_explicit(&device->flushes_failed, 1, memory_order_acq_rel);
}

uint64_t losses_counted(const struct device_losses *device)
{
    return atomic_load_explicit(&device->flushes_failed, memory_order_acquire);
}

static bool is_plain_write(const struct env_op *op)
{
    return op->kind == ENV_OP_WRITE && (op->flags & ENV_DSYNC) == 0;
}

void losses_begin(struct env_op *op, struct file_losses *f)
{
    if (env_op_is_synced(op)) {
        op->failed_known = losses_counted(f->device);
    } else if (is_plain_write(op)) {
        if (!f->unflushed)
            f->failed_known = losses_counted(f->device);
        f->unflushed = true;
        f->writes_begun++;
        f->writes_in_flight++;
    } else if (op->kind == ENV_OP_FLUSH) { /* 0: it does not cover all that was written */
        op->writes_covered = f->writes_in_flight == 0 ? f->writes_begun : 0;
    }
}

void losses_note(const struct env_op *op, struct file_losses *f, int res)
{
    if (res < 0 && (op->kind == ENV_OP_FLUSH || env_op_is_synced(op)))
        losses_count(f->device);
}

static int flush_end(const struct env_op *op, struct file_losses *f, int res)
{
    if (res >= 0 && f->unflushed && losses_counted(f->device) != f->failed_known)
        res = -EIO;
    if (res < 0 || op->writes_covered == f->writes_begun)
        f->unflushed = false; /* failed: the caller is told now, of all that was written so far */
    return res;
}

int losses_synced(struct file_losses *f)
{
    ASSERT(f->writes_in_flight == 0);
    bool lost = f->unflushed && losses_counted(f->device) != f->failed_known;
    f->unflushed = false;
    return lost ? -EIO : 0;
}

int losses_end(const struct env_op *op, struct file_losses *f, int res)
{
    if (op->kind == ENV_OP_FLUSH)
        return flush_end(op, f, res);
    if (env_op_is_synced(op))
        return res >= 0 && losses_counted(f->device) != op->failed_known ? -EIO : res;
    if (is_plain_write(op)) {
        ASSERT(f->writes_in_flight > 0);
        f->writes_in_flight--;
    }
    return res;
}

/* More than there is room for are taken for one. */
struct device_losses *device_table_find(struct device_table *table, uint64_t number)
{
    unsigned i = 0;
    pthread_mutex_lock(&table->lock);
    while (i < table->devices_n && table->numbers[i] != number)
        i++;
    if (i == table->devices_n && i < DEVICES_TOLD_APART)
        table->numbers[table->devices_n++] = number;
    pthread_mutex_unlock(&table->lock);
    return &table->losses[i < DEVICES_TOLD_APART ? i : DEVICES_TOLD_APART - 1];
}
