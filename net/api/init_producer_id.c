#include <string.h>

#include "net/api/admin.h"

#define EPOCH_LAST 32766 /* an id at this epoch is used up */

struct init_job {
    struct request *r;
    struct producer_id_waiter waiter;
};

static void answer(struct request *r, int16_t error, int64_t id, int16_t epoch)
{
    struct init_producer_id_response res;
    wire_set_defaults(&init_producer_id_response_schema, &res);
    res.error_code = error;
    res.producer_id = id;
    res.producer_epoch = epoch;
    request_reply(r, &res);
}

static void answer_new_id(struct init_job *job);

static void on_ids(struct producer_id_waiter *w, int rc)
{
    struct init_job *job = container_of(w, struct init_job, waiter);
    if (rc < 0)
        answer(job->r, KAFKA_KAFKA_STORAGE_ERROR, -1, -1);
    else
        answer_new_id(job);
}

static void answer_new_id(struct init_job *job)
{
    int64_t id;
    job->waiter.on_done = on_ids;
    if (shard_producer_id(job->r->shard, &job->waiter, &id) == 1)
        answer(job->r, KAFKA_NONE, id, 0);
}

/* There are no transactions yet, and no error code for that. 53 is the one that Java and librdkafka
 * both take as final: librdkafka would ask again for ever after 35. */
static int16_t transactional_check(const struct init_producer_id_request *req)
{
    if (req->transactional_id.len < 0)
        return KAFKA_NONE;
    return req->transactional_id.len == 0 ? KAFKA_INVALID_REQUEST
                                          : KAFKA_TRANSACTIONAL_ID_AUTHORIZATION_FAILED;
}

void init_producer_id_handle(struct request *r, void *body)
{
    const struct init_producer_id_request *req = body;
    int16_t error = transactional_check(req);
    if (error == KAFKA_NONE && (req->producer_id < 0) != (req->producer_epoch < 0))
        error = KAFKA_INVALID_REQUEST;
    if (error != KAFKA_NONE) {
        answer(r, error, -1, -1);
        return;
    }
    bool known = req->producer_id >= 0 && req->producer_id < r->shard->meta->next_producer_id;
    if (known && req->producer_epoch < EPOCH_LAST) {
        answer(r, KAFKA_NONE, req->producer_id, (int16_t)(req->producer_epoch + 1));
        return;
    }
    struct init_job *job = request_alloc(r, sizeof(*job));
    if (job == NULL) {
        request_fail(r, "no memory");
        return;
    }
    job->r = r;
    answer_new_id(job);
}
