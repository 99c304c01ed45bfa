#include <string.h>

#include "core/base/bytes.h"
#include "tests/sim/clients.h"

static void consumer_work(struct sim_timer *t);

static void work_soon(struct consumer *c, uint64_t mean_ns)
{
    sim_timer_set(c->sim, &c->timer, sim_some_ns(c->sim, mean_ns), consumer_work);
}

static void connection_over(struct consumer *c)
{
    rpc_close(&c->conn);
    work_soon(c, c->sim->plan.think_ns + 20 * SIM_NS_PER_MS);
}

static void on_closed(struct rpc_conn *conn)
{
    connection_over(conn->arg);
}

static void wrong(struct consumer *c, const char *what, int64_t told)
{
    model_violation(&c->sim->model, "%s-%d, offset %lld: %s (%lld)", c->partition->topic->name,
                    (int)c->partition->index, (long long)c->offset, what, (long long)told);
}

/* Behind what is known to be stable. */
static int64_t pinned_end(const struct model_partition *p)
{
    for (uint32_t i = p->slots_n; i-- > 0;)
        if (p->slots[i].pinned)
            return p->slots[i].base_offset + p->slots[i].records;
    return p->start_min;
}

static bool error_is_fine(const struct consumer *c, int16_t error)
{
    bool gone = c->partition->topic->state != MODEL_THERE;
    if (error == ERROR_UNSUPPORTED_COMPRESSION && c->call.api->key == API_FETCH)
        return c->call.version < FETCH_VERSION_ZSTD;
    return error == ERROR_STORAGE || error == ERROR_NOT_LEADER ||
           (gone && (error == ERROR_UNKNOWN_TOPIC || error == ERROR_UNKNOWN_TOPIC_ID));
}

static void refused(struct consumer *c, int16_t error)
{
    sim_trace(c->sim, "fetch of %s-%d at %lld: error %d", c->partition->topic->name,
              (int)c->partition->index, (long long)c->offset, error);
    bool deleted = c->offset < c->partition->start_max || c->partition->topic->retained;
    if (error == ERROR_OFFSET_OUT_OF_RANGE &&
        (deleted || c->partition->topic->write_caching || c->sim->model.tolerant)) {
        c->offset = sim_one_in(c->sim, 2) ? c->partition->start_min : pinned_end(c->partition);
        work_soon(c, c->sim->plan.think_ns);
    } else if (error_is_fine(c, error)) {
        connection_over(c);
    } else {
        wrong(c, "a fetch is refused", error);
    }
}

/* ---- the start of the log ---- */

static void start_seen(struct consumer *c, int64_t start)
{
    if (start < c->start_min && !c->sim->model.tolerant)
        wrong(c, "the log's start went back", start);
    model_started(&c->sim->model, c->partition, start);
}

static void on_records_deleted(struct rpc *call, const void *response)
{
    struct consumer *c = container_of(call, struct consumer, call);
    const struct delete_records_response *r = response;
    if (r == NULL)
        return;
    work_soon(c, c->sim->plan.think_ns);
    if (r->topics_n != 1 || r->topics[0].partitions_n != 1) {
        wrong(c, "a DeleteRecords answer of another form", r->topics_n);
        return;
    }
    const struct delete_records_response_delete_records_partition_result *told =
        r->topics[0].partitions;
    sim_trace(c->sim, "delete %s-%d below %lld: error %d, begins at %lld",
              c->partition->topic->name, (int)c->partition->index, (long long)c->delete_offset,
              told->error_code, (long long)told->low_watermark);
    if (told->error_code == ERROR_TIMED_OUT) /* it goes on */
        return;
    if (told->error_code != ERROR_NONE) {
        refused(c, told->error_code);
        return;
    }
    c->sim->report.deletions++;
    if (told->low_watermark < c->delete_offset)
        wrong(c, "less was deleted than was asked for", told->low_watermark);
    start_seen(c, told->low_watermark);
}

/* Below what is known to be there, so that it must be possible. */
static void delete_records(struct consumer *c)
{
    struct model_partition *p = c->partition;
    struct delete_records_request_delete_records_partition part = {.partition_index = p->index};
    struct delete_records_request_delete_records_topic topic = {
        .name = wire_str_of(p->topic->name), .partitions = &part, .partitions_n = 1};
    struct delete_records_request request;
    wire_set_defaults(&delete_records_request_schema, &request);
    int64_t room = MAX(c->visible_at_least - p->start_min, 0);
    part.offset = p->start_min + (int64_t)sim_below(c->sim, (uint64_t)room + 1);
    request.topics = &topic;
    request.topics_n = 1;
    request.timeout_ms = 30000;
    c->delete_offset = part.offset;
    p->start_max = MAX(p->start_max, part.offset);
    rpc_call(&c->conn, &c->call, API_DELETE_RECORDS, some_version(c->sim, 0, 2), &request,
             on_records_deleted);
}

/* ---- fetching ---- */

static void on_fetched(struct rpc *call, const void *response)
{
    struct consumer *c = container_of(call, struct consumer, call);
    const struct fetch_response *r = response;
    if (r == NULL)
        return;
    work_soon(c, c->sim->plan.think_ns / 2);
    if (r->error_code != ERROR_NONE || r->responses_n != 1 || r->responses[0].partitions_n != 1) {
        if (error_is_fine(c, r->error_code))
            connection_over(c);
        else
            wrong(c, "a fetch answer of another form", r->error_code);
        return;
    }
    const struct fetch_response_partition_data *told = r->responses[0].partitions;
    if (told->error_code != ERROR_NONE) {
        refused(c, told->error_code);
        return;
    }
    if (told->high_watermark < c->visible_at_least && !c->sim->model.tolerant)
        wrong(c, "the high watermark went back", told->high_watermark);
    if (told->log_start_offset >= 0)
        start_seen(c, told->log_start_offset);
    if (c->offset < c->start_min && !c->sim->model.tolerant)
        wrong(c, "a fetch is answered below the log's start", c->start_min);
    if (told->records.len > 0)
        c->offset = model_fetched(&c->sim->model, c->partition, c->offset, told->records.data,
                                  (uint32_t)told->records.len, sim_now_ns_of(c->sim));
    if (c->offset > told->high_watermark && !c->sim->model.tolerant)
        wrong(c, "records above the high watermark", told->high_watermark);
}

static void fetch(struct consumer *c)
{
    struct sim *sim = c->sim;
    const struct model_topic *t = c->partition->topic;
    struct fetch_ask ask;
    fetch_ask_make(&ask, c->partition, c->offset);
    ask.part.partition_max_bytes =
        (int32_t)(1 + sim_below(sim, sim_one_in(sim, 2) ? 20000 : 2000000));
    ask.request.max_wait_ms = (int32_t)sim_below(sim, 1000);
    ask.request.min_bytes = sim_one_in(sim, 3) ? 5000 : 1;
    int16_t version = some_version(sim, t->comes_and_goes ? VERSION_TOPIC_ID : 4, 18);
    rpc_call(&c->conn, &c->call, API_FETCH, version, &ask.request, on_fetched);
}

/* ---- look-ups by time ---- */

static void on_looked_up(struct rpc *call, const void *response)
{
    struct consumer *c = container_of(call, struct consumer, call);
    const struct list_offsets_response *r = response;
    if (r == NULL)
        return;
    work_soon(c, c->sim->plan.think_ns / 2);
    if (r->topics_n != 1 || r->topics[0].partitions_n != 1) {
        wrong(c, "a ListOffsets answer of another form", r->topics_n);
        return;
    }
    const struct list_offsets_response_list_offsets_partition_response *told =
        r->topics[0].partitions;
    if (told->error_code != ERROR_NONE)
        refused(c, told->error_code);
    else if (c->asked_timestamp == -2)
        start_seen(c, told->offset);
    else if (c->sim->model.tolerant || c->start_max != c->partition->start_max)
        return; /* what it would have found may be lost, or deleted */
    else if (c->expected_offset >= 0 && told->offset != c->expected_offset)
        wrong(c, "a look-up by time finds another offset", told->offset);
    else if (c->asked_timestamp == -1 && told->offset < c->visible_at_least)
        wrong(c, "the log's end went back", told->offset);
}

/* The first record at or after a batch's time, as far as all that is before is known. */
static int64_t offset_of_time(const struct model_partition *p, uint64_t number)
{
    int64_t next = p->start_min;
    if (p->topic->retained || p->start_max > next)
        return -1;
    for (uint32_t i = 0; i < p->slots_n; i++) {
        const struct model_slot *s = &p->slots[i];
        bool follows = i == 0 ? s->base_offset <= next : s->base_offset == next;
        if (!follows || !s->pinned)
            return -1;
        if (s->number >= number)
            return MAX(s->base_offset, next);
        next = s->base_offset + s->records;
    }
    return -1;
}

static void look_up(struct consumer *c)
{
    struct sim *sim = c->sim;
    struct model_partition *p = c->partition;
    c->asked_timestamp = -1 - (int64_t)sim_below(sim, 2);
    c->expected_offset = -1;
    if (p->slots_n > 0 && !p->topic->log_append_time && sim_one_in(sim, 2)) {
        uint64_t number = p->slots[sim_below(sim, p->slots_n)].number;
        c->expected_offset = offset_of_time(p, number);
        c->asked_timestamp = model_timestamp(sim->model.batches[number]);
    }
    struct list_offsets_request_list_offsets_partition part;
    struct list_offsets_request_list_offsets_topic topic = {
        .name = wire_str_of(p->topic->name), .partitions = &part, .partitions_n = 1};
    struct list_offsets_request request;
    wire_set_defaults(&list_offsets_request_list_offsets_partition_schema, &part);
    part.partition_index = p->index;
    part.timestamp = c->asked_timestamp;
    wire_set_defaults(&list_offsets_request_schema, &request);
    request.replica_id = -1;
    request.topics = &topic;
    request.topics_n = 1;
    rpc_call(&c->conn, &c->call, API_LIST_OFFSETS, some_version(sim, 1, 9), &request, on_looked_up);
}

/* ---- work ---- */

static void consumer_work(struct sim_timer *t)
{
    struct consumer *c = container_of(t, struct consumer, timer);
    struct sim *sim = c->sim;
    if (!rpc_is_open(&c->conn)) {
        int node = partition_node(sim, c->partition);
        if (node < 0) {
            work_soon(c, c->sim->plan.think_ns + 20 * SIM_NS_PER_MS);
            return;
        }
        rpc_open(&c->conn, (unsigned)node);
    }
    c->visible_at_least = pinned_end(c->partition);
    c->start_min = c->partition->start_min;
    c->start_max = c->partition->start_max;
    if (sim_one_in(sim, 20))
        c->offset = (int64_t)sim_below(sim, (uint64_t)c->visible_at_least + 1);
    bool by_name = !c->partition->topic->comes_and_goes; /* these requests have names only */
    if (by_name && sim->plan.deletes && sim_one_in(sim, 20))
        delete_records(c);
    else if (by_name && sim_one_in(sim, 10))
        look_up(c);
    else
        fetch(c);
}

void consumer_init(struct consumer *c, struct sim *sim)
{
    *c = (struct consumer){.sim = sim};
    rpc_conn_init(&c->conn, sim, on_closed, c);
}

void consumer_start(struct consumer *c)
{
    struct sim *sim = c->sim;
    struct model_topic *t = some_topic_there(sim);
    c->partition = t->partitions[sim_below(sim, (uint64_t)t->partitions_n)];
    c->offset = sim_one_in(sim, 2) ? 0 : pinned_end(c->partition);
    work_soon(c, sim->plan.think_ns);
}

void consumer_stop(struct consumer *c)
{
    rpc_close(&c->conn);
    sim_timer_clear(&c->timer);
}
