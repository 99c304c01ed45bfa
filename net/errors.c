#include <errno.h>

#include "core/base/bytes.h"
#include "net/net.h"

static const struct {
    int rc;
    int16_t code;
} error_of[] = {
    {0, KAFKA_NONE},
    {-ENOENT, KAFKA_UNKNOWN_TOPIC_OR_PARTITION},
    {-EXDEV, KAFKA_NOT_LEADER_OR_FOLLOWER}, /* it moves to another shard */
    {-EEXIST, KAFKA_TOPIC_ALREADY_EXISTS},
    {-EIO, KAFKA_KAFKA_STORAGE_ERROR},
    {-ENOSPC, KAFKA_KAFKA_STORAGE_ERROR},
    {-EAGAIN, KAFKA_REQUEST_TIMED_OUT},
    {-ENOMEM, KAFKA_REQUEST_TIMED_OUT}, /* retriable: memory comes back */
    {-ERANGE, KAFKA_OFFSET_OUT_OF_RANGE},
    {-EBADMSG, KAFKA_CORRUPT_MESSAGE},
    {-EMSGSIZE, KAFKA_MESSAGE_TOO_LARGE},
    {-EDOM, KAFKA_RECORD_LIST_TOO_LARGE},
    {-EINVAL, KAFKA_INVALID_RECORD},
    {-ETIME, KAFKA_INVALID_TIMESTAMP},
    {-ENOTSUP, KAFKA_UNSUPPORTED_COMPRESSION_TYPE},
    {-EILSEQ, KAFKA_OUT_OF_ORDER_SEQUENCE_NUMBER},
    {-ESTALE, KAFKA_INVALID_PRODUCER_EPOCH},
};

int16_t kafka_error_of(int rc)
{
    for (unsigned i = 0; i < ARRAY_LEN(error_of); i++)
        if (error_of[i].rc == rc)
            return error_of[i].code;
    return KAFKA_UNKNOWN_SERVER_ERROR;
}
