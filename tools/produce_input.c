/* produce_input.c: records out of a byte stream: what lies between delimiters, or a whole file. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/bytes.h"
#include "tools/cmd_produce.h"

enum { READ_BYTES = 256 << 10, IDLE_MS = 20 };

void produce_input_init(struct produce_input *in, const struct produce_options *o)
{
    *in = (struct produce_input){.delimiter = o->delimiter,
                                 .delimiter_len = strlen(o->delimiter),
                                 .is_whole = o->whole,
                                 .fd = -1};
}

void produce_input_fini(struct produce_input *in)
{
    free(in->data);
}

void produce_input_file(struct produce_input *in, int fd)
{
    in->fd = fd;
    in->is_ended = false;
    in->from = in->len = in->searched = 0;
}

static int reserve(struct produce_input *in)
{
    if (in->from > 0) {
        memmove(in->data, in->data + in->from, in->len - in->from);
        in->len -= in->from;
        in->searched -= in->from;
        in->from = 0;
    }
    if (in->cap - in->len >= READ_BYTES)
        return 0;
    if (in->len > RECORD_BYTES_MAX)
        return -EFBIG;
    size_t cap = MAX(in->cap * 2, (size_t)2 * READ_BYTES);
    uint8_t *data = realloc(in->data, cap);
    if (data == NULL)
        return -ENOMEM;
    in->data = data;
    in->cap = cap;
    return 0;
}

static int more(struct produce_input *in)
{
    struct pollfd p = {.fd = in->fd, .events = POLLIN};
    int rc = reserve(in);
    if (rc < 0)
        return rc;
    int ready = poll(&p, 1, IDLE_MS);
    if (ready == 0 || (ready < 0 && errno == EINTR))
        return -EAGAIN;
    ssize_t n = read(in->fd, in->data + in->len, in->cap - in->len);
    if (n < 0)
        return errno == EINTR ? -EAGAIN : -errno;
    in->len += (size_t)n;
    in->is_ended = n == 0;
    return 0;
}

static const uint8_t *delimiter_find(struct produce_input *in)
{
    if (in->is_whole || in->len - in->searched < in->delimiter_len)
        return NULL;
    const uint8_t *found =
        memmem(in->data + in->searched, in->len - in->searched, in->delimiter, in->delimiter_len);
    if (found == NULL) /* its first bytes may be there already */
        in->searched = in->len - in->delimiter_len + 1;
    return found;
}

static int hand_out(struct produce_input *in, size_t len, size_t skip, const uint8_t **ret,
                    size_t *ret_len)
{
    if (len > RECORD_BYTES_MAX)
        return -EFBIG;
    *ret = in->data + in->from;
    *ret_len = len;
    in->from += len + skip;
    in->searched = in->from;
    return 1;
}

int produce_input_next(struct produce_input *in, const uint8_t **ret, size_t *ret_len)
{
    for (;;) {
        const uint8_t *found = delimiter_find(in);
        if (found != NULL)
            return hand_out(in, (size_t)(found - in->data) - in->from, in->delimiter_len, ret,
                            ret_len);
        if (in->is_ended && in->len == in->from)
            return 0;
        if (in->is_ended) /* the last one needs no delimiter */
            return hand_out(in, in->len - in->from, 0, ret, ret_len);
        int rc = more(in);
        if (rc < 0)
            return rc;
    }
}
