/* Every message of every version: filled through its table, encoded, decoded, cut, and extended.
 * That the bytes are Kafka's own is for tests/wire to show. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>

#include "core/base/arena.h"
#include "core/base/bytes.h"
#include "net/wire/messages.h"
#include "net/wire/schema.h"

static struct arena arena;

static void setup(void)
{
    arena_init(&arena, 16 << 20);
}

static void teardown(void)
{
    arena_fini(&arena);
}

TestSuite(wire_messages, .init = setup, .fini = teardown);

static void fill_struct(const struct wire_schema *s, uint8_t *base, int version);

/* Never the default of any field in the tables. */
static void fill_value(const struct wire_field *f, uint8_t *at, int version)
{
    static uint8_t data[200] = "records";
    switch ((enum wire_type)f->type) {
    case WIRE_STRING:
        *(struct wire_str *)at = wire_str_of("text");
        return;
    case WIRE_BYTES:
        *(struct wire_bytes *)at = (struct wire_bytes){data, 9};
        return;
    case WIRE_RECORDS:
        *(struct wire_records *)at = (struct wire_records){.data = data, .len = sizeof(data)};
        return;
    case WIRE_STRUCT:
        fill_struct(f->sub, at, version);
        return;
    case WIRE_STRUCT_PTR:
        memcpy(at, &(void *){wire_new(f->sub, &arena)}, sizeof(void *));
        return;
    case WIRE_FLOAT64:
        *(double *)at = 0.25;
        return;
    case WIRE_BOOL:
        *(bool *)at = f->value == 0;
        return;
    default:
        memset(at, 0x15, wire_types[f->type].mem_bytes);
        return;
    }
}

static void fill_struct(const struct wire_schema *s, uint8_t *base, int version)
{
    wire_set_defaults(s, base);
    for (unsigned i = 0; i < s->fields_n; i++) {
        const struct wire_field *f = &s->fields[i];
        if (!wire_field_present(f, version))
            continue;
        if (!f->array) {
            fill_value(f, base + f->offset, version);
            continue;
        }
        uint32_t size = wire_field_mem_bytes(f);
        uint8_t *all = arena_array(&arena, 2, size);
        cr_assert(all);
        fill_value(f, all, version);
        fill_value(f, all + size, version);
        memcpy(base + f->offset, &all, sizeof(all));
        memcpy(base + f->count_offset, &(int32_t){2}, sizeof(int32_t));
    }
}

static int decode_copy(const struct wire_schema *s, int version, bool flexible, const uint8_t *body,
                       uint32_t len, void *ret)
{
    uint8_t *copy = malloc(len > 0 ? len : 1); /* of its own, so that a sanitizer sees its end */
    cr_assert(copy);
    memcpy(copy, body, len);
    int rc = wire_decode(s, version, flexible, copy, len, &arena, ret);
    free(copy);
    return rc;
}

static void check_message(const char *api, const struct wire_schema *s, int version, bool flexible)
{
    arena_reset(&arena);
    struct wire_writer w, again;
    wire_writer_init(&w);
    wire_writer_init(&again);
    uint8_t *msg = wire_new(s, &arena);
    fill_struct(s, msg, version);
    wire_encode(s, version, flexible, msg, &w);
    cr_assert(!w.failed && w.refs_n == 0);

    uint8_t *back = wire_new(s, &arena);
    uint8_t *body = arena_alloc(&arena, w.len + 1);
    if (w.len > 0) /* an ApiVersions v0 request is nothing but its header */
        memcpy(body, w.buf, w.len);
    cr_assert_eq(wire_decode(s, version, flexible, body, w.len, &arena, back), 0, "%s v%d", api,
                 version);
    wire_encode(s, version, flexible, back, &again);
    cr_assert_eq(w.len, again.len);
    cr_assert(w.len == 0 || memcmp(w.buf, again.buf, w.len) == 0, "%s v%d", s->name, version);

    for (uint32_t n = 0; n < w.len; n++)
        cr_assert_eq(decode_copy(s, version, flexible, body, n, back), -EPROTO, "%s v%d cut at %u",
                     s->name, version, n);
    cr_assert_eq(decode_copy(s, version, flexible, body, w.len + 1, back), -EPROTO);
    wire_writer_fini(&w);
    wire_writer_fini(&again);
}

Test(wire_messages, every_version_survives_and_no_prefix_does)
{
    unsigned checked = 0;
    for (unsigned i = 0; i < wire_apis_count; i++) {
        const struct wire_api *a = &wire_apis[i];
        for (int v = a->min; v <= a->max; v++) {
            check_message(a->name, a->request, v, wire_request_flexible(a, v));
            check_message(a->name, a->response, v, wire_response_flexible(a, v));
            checked += 2;
        }
    }
    cr_assert_geq(checked, 2 * 12);
}

/* With the byte at each position changed in turn: any answer but a crash. */
Test(wire_messages, flipped_bytes_never_crash)
{
    const struct wire_api *a = wire_api_find(1);
    struct wire_writer w;
    wire_writer_init(&w);
    uint8_t *msg = wire_new(a->response, &arena), *back = wire_new(a->response, &arena);
    fill_struct(a->response, msg, a->max);
    wire_encode(a->response, a->max, true, msg, &w);
    struct arena small;
    arena_init(&small, 1 << 20);
    for (uint32_t i = 0; i < w.len; i++) {
        static const uint8_t values[] = {0x00, 0x01, 0x7f, 0x80, 0xff};
        uint8_t was = w.buf[i];
        for (unsigned k = 0; k < ARRAY_LEN(values); k++) {
            w.buf[i] = values[k];
            arena_reset(&small);
            int rc = wire_decode(a->response, a->max, true, w.buf, w.len, &small, back);
            cr_assert(rc == 0 || rc == -EPROTO || rc == -ENOMEM);
        }
        w.buf[i] = was;
    }
    arena_fini(&small);
    wire_writer_fini(&w);
}

Test(wire_messages, apis_are_found_by_key)
{
    static const int16_t spoken[] = {0, 1, 2, 3, 10, 18, 19, 20, 22, 23, 37, 60};
    for (unsigned i = 0; i < ARRAY_LEN(spoken); i++) {
        const struct wire_api *a = wire_api_find(spoken[i]);
        cr_assert(a);
        cr_assert_eq(a->key, spoken[i]);
    }
    for (unsigned i = 1; i < wire_apis_count; i++)
        cr_assert_lt(wire_apis[i - 1].key, wire_apis[i].key);
    cr_assert_null(wire_api_find(-1));
    cr_assert_null(wire_api_find(4));
    cr_assert_null(wire_api_find(INT16_MAX));
}

Test(wire_messages, new_structs_hold_schema_defaults)
{
    struct fetch_request *r = wire_new(&fetch_request_schema, &arena);
    cr_assert_eq(r->cluster_id.len, -1);
    cr_assert_eq(r->replica_id, -1);
    cr_assert_eq(r->replica_state.replica_epoch, -1);
    cr_assert_eq(r->max_bytes, INT32_MAX);
    cr_assert_eq(r->topics_n, 0);
    cr_assert_eq(r->rack_id.len, 0);
    struct fetch_request_fetch_partition *p =
        wire_new_array(&fetch_request_fetch_partition_schema, &arena, 3);
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(p[i].high_watermark, INT64_MAX);
        cr_assert_eq(p[i].current_leader_epoch, -1);
    }
    struct fetch_response_partition_data *d =
        wire_new(&fetch_response_partition_data_schema, &arena);
    cr_assert_eq(d->records.len, -1);
    struct metadata_request *m = wire_new(&metadata_request_schema, &arena);
    cr_assert(m->allow_auto_topic_creation);

    struct arena none;
    arena_init(&none, 0);
    cr_assert_null(wire_new(&fetch_request_schema, &none));
    cr_assert_null(wire_new_array(&fetch_request_schema, &arena, INT32_MAX));
    cr_assert_null(wire_new_array(&fetch_request_schema, &arena, -1));
}

Test(wire_messages, fields_the_version_lacks_are_defaults_after_decoding)
{
    struct list_offsets_response_list_offsets_partition_response part = {
        .partition_index = 7, .timestamp = 5, .offset = 6, .leader_epoch = 9};
    struct list_offsets_response_list_offsets_topic_response topic = {
        .name = wire_str_of("t"), .partitions = &part, .partitions_n = 1};
    struct list_offsets_response r = {.throttle_time_ms = 3, .topics = &topic, .topics_n = 1};
    struct list_offsets_response back;
    struct wire_writer w;
    wire_writer_init(&w);
    wire_encode(&list_offsets_response_schema, 1, false, &r, &w);
    memset(&back, 0xa5, sizeof(back));
    cr_assert_eq(wire_decode(&list_offsets_response_schema, 1, false, w.buf, w.len, &arena, &back),
                 0);
    cr_assert_eq(back.throttle_time_ms, 0);
    cr_assert_eq(back.topics[0].partitions[0].offset, 6);
    cr_assert_eq(back.topics[0].partitions[0].leader_epoch, -1);
    wire_writer_fini(&w);
}
