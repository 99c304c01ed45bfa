/* The codec's rules, byte by byte: lengths, nulls, tags, headers, records by reference. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stddef.h>

#include "core/base/arena.h"
#include "core/base/bytes.h"
#include "net/wire/messages.h"
#include "net/wire/schema.h"

static struct arena arena;
static struct wire_writer w;

static void setup(void)
{
    arena_init(&arena, 1 << 20);
    wire_writer_init(&w);
}

static void teardown(void)
{
    arena_fini(&arena);
    wire_writer_fini(&w);
}

TestSuite(wire_codec, .init = setup, .fini = teardown);

/* Bytes of a literal without its NUL. */
#define BYTES(literal) (uint8_t *)(char[]){literal}, (uint32_t)(sizeof(literal) - 1)

static void written_is(const uint8_t *expected, uint32_t len)
{
    cr_assert(!w.failed);
    cr_assert_eq(w.len, len, "%u bytes, expected %u", w.len, len);
    cr_assert_arr_eq(w.buf, expected, len);
}

Test(wire_codec, golden_api_versions_v3_request)
{
    const struct wire_api *api = wire_api_find(18);
    struct wire_request_header h = {
        .api_key = 18, .api_version = 3, .correlation_id = 7, .client_id = wire_str_of("cli")};
    struct api_versions_request r = {.client_software_name = wire_str_of("ab"),
                                     .client_software_version = wire_str_of("1.0")};
    wire_frame_begin(&w);
    wire_encode_request_header(&w, api, &h);
    wire_encode(api->request, 3, true, &r, &w);
    wire_frame_end(&w);
    written_is(BYTES("\0\0\0\x16"
                     "\0\x12\0\x03\0\0\0\x07\0\x03"
                     "cli"
                     "\0"
                     "\x03"
                     "ab"
                     "\x04"
                     "1.0"
                     "\0"));

    struct wire_request_header back;
    uint32_t at;
    cr_assert_eq(wire_decode_request_header(w.buf + 4, w.len - 4, &back, &at), 0);
    cr_assert_eq(back.api_key, 18);
    cr_assert_eq(back.api_version, 3);
    cr_assert_eq(back.correlation_id, 7);
    cr_assert(wire_str_eq(back.client_id, "cli"));
    cr_assert_eq(at, 14);
}

Test(wire_codec, golden_metadata_v1_request)
{
    const struct wire_api *api = wire_api_find(3);
    struct wire_request_header h = {
        .api_key = 3, .api_version = 1, .correlation_id = -2, .client_id = {NULL, -1}};
    struct metadata_request_metadata_request_topic topic = {.name = wire_str_of("t")};
    struct metadata_request r = {.topics = &topic, .topics_n = 1};
    wire_encode_request_header(&w, api, &h);
    wire_encode(api->request, 1, false, &r, &w);
    written_is(BYTES("\0\x03\0\x01\xff\xff\xff\xfe\xff\xff"
                     "\0\0\0\x01\0\x01t"));
}

Test(wire_codec, golden_produce_v10_response_with_tags)
{
    struct produce_response_partition_produce_response part = {.index = 1,
                                                               .error_code = 6,
                                                               .base_offset = -1,
                                                               .log_append_time_ms = -1,
                                                               .log_start_offset = 2,
                                                               .error_message = {NULL, -1},
                                                               .current_leader = {5, 9}};
    struct produce_response_topic_produce_response topic = {
        .name = wire_str_of("t"), .partition_responses = &part, .partition_responses_n = 1};
    struct produce_response_node_endpoint node = {
        .node_id = 5, .host = wire_str_of("h"), .port = 9092, .rack = {NULL, -1}};
    struct produce_response r = {
        .responses = &topic, .responses_n = 1, .node_endpoints = &node, .node_endpoints_n = 1};
    wire_encode(&produce_response_schema, 10, true, &r, &w);
    written_is(BYTES("\x02"
                     "\x02t"
                     "\x02"
                     "\0\0\0\x01"
                     "\0\x06"
                     "\xff\xff\xff\xff\xff\xff\xff\xff"
                     "\xff\xff\xff\xff\xff\xff\xff\xff"
                     "\0\0\0\0\0\0\0\x02"
                     "\x01"
                     "\0"
                     "\x01"
                     "\0\x09"
                     "\0\0\0\x05\0\0\0\x09"
                     "\0" /* current_leader */
                     "\0" /* tags of the topic */
                     "\0\0\0\0"
                     "\x01"
                     "\0\x0d"
                     "\x02"
                     "\0\0\0\x05"
                     "\x02h"
                     "\0\0\x23\x84"
                     "\0"
                     "\0"));
}

Test(wire_codec, response_headers)
{
    int32_t id;
    uint32_t at;
    wire_encode_response_header(&w, wire_api_find(3), 8, 5);
    written_is(BYTES("\0\0\0\x05"));
    wire_encode_response_header(&w, wire_api_find(3), 9, 6);
    written_is(BYTES("\0\0\0\x05"
                     "\0\0\0\x06\0"));
    wire_encode_response_header(&w, wire_api_find(18), 5, 7);
    written_is(BYTES("\0\0\0\x05"
                     "\0\0\0\x06\0"
                     "\0\0\0\x07"));

    const struct wire_api *fetch = wire_api_find(1);
    cr_assert_eq(wire_decode_response_header(BYTES("\0\0\1\0\0z"), fetch, 12, &id, &at), 0);
    cr_assert_eq(id, 256);
    cr_assert_eq(at, 5);
    cr_assert_eq(wire_decode_response_header(BYTES("\0\0\1\0\1\x09\2zzrest"), fetch, 12, &id, &at),
                 0);
    cr_assert_eq(at, 9);
    cr_assert_eq(wire_decode_response_header(BYTES("\0\0\1\0"), fetch, 11, &id, &at), 0);
    cr_assert_eq(wire_decode_response_header(BYTES("\0\0\1\0"), fetch, 12, &id, &at), -EPROTO);
    cr_assert_eq(wire_decode_response_header(BYTES("\0\0\1"), fetch, 4, &id, &at), -EPROTO);
}

Test(wire_codec, request_header_says_what_it_cannot_read)
{
    struct wire_request_header h = {.api_key = 77};
    uint32_t at = 99;
    for (uint32_t n = 0; n < 8; n++)
        cr_assert_eq(wire_decode_request_header((uint8_t *)"\0\x12\0\x63\0\0\0\1", n, &h, &at),
                     -EPROTO);
    cr_assert_eq(h.api_key, 77, "untouched on failure");
    cr_assert_eq(wire_decode_request_header(BYTES("\0\x12\0\x63\0\0\0\1"), &h, &at), -ENOTSUP);
    cr_assert_eq(h.api_key, 18);
    cr_assert_eq(h.api_version, 99);
    cr_assert_eq(h.correlation_id, 1);
    cr_assert_eq(h.client_id.len, -1);
    cr_assert_eq(at, 99);
    cr_assert_eq(wire_decode_request_header(BYTES("\0\0\0\2\0\0\0\1\0\0"), &h, &at), -ENOTSUP);
    cr_assert_eq(wire_decode_request_header(BYTES("\x7f\0\0\2\0\0\0\1\0\0"), &h, &at), -ENOTSUP);
    cr_assert_eq(wire_decode_request_header(BYTES("\xff\xff\0\0\0\0\0\1\0\0"), &h, &at), -ENOTSUP);

    /* Client id: null, empty, longer than the frame; tags: skipped, cut. */
    cr_assert_eq(wire_decode_request_header(BYTES("\0\x12\0\0\0\0\0\1\xff\xff"), &h, &at), 0);
    cr_assert_eq(h.client_id.len, -1);
    cr_assert_eq(at, 10);
    cr_assert_eq(wire_decode_request_header(BYTES("\0\x12\0\0\0\0\0\1\0\0"), &h, &at), 0);
    cr_assert_eq(h.client_id.len, 0);
    cr_assert_eq(wire_decode_request_header(BYTES("\0\x12\0\0\0\0\0\1\0\2x"), &h, &at), -EPROTO);
    cr_assert_eq(wire_decode_request_header(BYTES("\0\x12\0\3\0\0\0\1\0\0\1\5\3abcB"), &h, &at), 0);
    cr_assert_eq(at, 16);
    cr_assert_eq(wire_decode_request_header(BYTES("\0\x12\0\3\0\0\0\1\0\0\1\5\3ab"), &h, &at),
                 -EPROTO);
    cr_assert_eq(wire_decode_request_header(BYTES("\0\x12\0\3\0\0\0\1\0\0"), &h, &at), -EPROTO);
}

static int decode_metadata(int version, uint8_t *body, uint32_t len, struct metadata_request *ret)
{
    return wire_decode(&metadata_request_schema, version, version >= 9, body, len, &arena, ret);
}

Test(wire_codec, null_is_not_empty)
{
    struct metadata_request r;
    cr_assert_eq(decode_metadata(1, BYTES("\xff\xff\xff\xff"), &r), 0);
    cr_assert_eq(r.topics_n, -1);
    wire_encode(&metadata_request_schema, 1, false, &r, &w);
    written_is(BYTES("\xff\xff\xff\xff"));
    cr_assert_eq(decode_metadata(1, BYTES("\0\0\0\0"), &r), 0);
    cr_assert_eq(r.topics_n, 0);
    cr_assert_eq(decode_metadata(0, BYTES("\xff\xff\xff\xff"), &r), -EPROTO, "v0 knows no null");
    cr_assert_eq(decode_metadata(9, BYTES("\0\1\0\0\0"), &r), 0);
    cr_assert_eq(r.topics_n, -1);
    cr_assert_eq(decode_metadata(9, BYTES("\1\1\0\0\0"), &r), 0);
    cr_assert_eq(r.topics_n, 0);
    cr_assert_eq(decode_metadata(9, BYTES("\2\0\0\1\0\0\0"), &r), -EPROTO, "name null before v10");

    struct fetch_request f;
    wire_set_defaults(&fetch_request_schema, &f);
    wire_writer_reset(&w);
    wire_encode(&fetch_request_schema, 12, true, &f, &w);
    uint32_t without = w.len;
    f.cluster_id = wire_str_of("");
    wire_writer_reset(&w);
    wire_encode(&fetch_request_schema, 12, true, &f, &w);
    cr_assert_eq(w.len, without + 3, "an empty tagged string is said, a null one is the default");
    cr_assert_eq(wire_decode(&fetch_request_schema, 12, true, w.buf, w.len, &arena, &f), 0);
    cr_assert_eq(f.cluster_id.len, 0);
}

Test(wire_codec, lying_counts_cost_no_memory)
{
    struct metadata_request m;
    struct fetch_request f;
    arena_fini(&arena);
    cr_assert_eq(decode_metadata(1, BYTES("\x7f\xff\xff\xff"), &m), -EPROTO);
    cr_assert_eq(decode_metadata(1, BYTES("\0\0\0\2\0\0\0"), &m), -EPROTO);
    cr_assert_eq(decode_metadata(9, BYTES("\xff\xff\xff\xff\x0f"), &m), -EPROTO);
    cr_assert_eq(decode_metadata(9, BYTES("\xff\xff\xff\xff\xff\x01"), &m), -EPROTO);
    cr_assert_eq(decode_metadata(9, BYTES("\x81\x80\x80\x80\x10"), &m), -EPROTO, "33 bits");
    /* 30 bytes are left for 3 topics of at least 18 bytes each. */
    cr_assert_eq(wire_decode(&fetch_request_schema, 13, true,
                             BYTES("\0\0\0\0"
                                   "\0\0\0\0"
                                   "\0\0\0\0"
                                   "\0"
                                   "\0\0\0\0"
                                   "\0\0\0\0"
                                   "\4"
                                   "123456789012345678901234567890"),
                             &arena, &f),
                 -EPROTO);
    cr_assert_eq(arena.total_bytes, 0);
}

Test(wire_codec, a_full_arena_is_no_malformed_frame)
{
    struct metadata_request r;
    struct arena none;
    arena_init(&none, 8);
    cr_assert_eq(wire_decode(&metadata_request_schema, 1, false, BYTES("\0\0\0\1\0\1t"), &none, &r),
                 -ENOMEM);
    arena_fini(&none);
}

Test(wire_codec, tags)
{
    struct metadata_request r;
    /* Unknown: one of two bytes, and a number of five. */
    cr_assert_eq(decode_metadata(9,
                                 BYTES("\1\1\0\0"
                                       "\2"
                                       "\0\2xx"
                                       "\xff\xff\xff\xff\x0f\0"),
                                 &r),
                 0);
    cr_assert_eq(decode_metadata(9,
                                 BYTES("\1\1\0\0"
                                       "\2"
                                       "\0\2xx"),
                                 &r),
                 -EPROTO);
    cr_assert_eq(decode_metadata(9,
                                 BYTES("\1\1\0\0"
                                       "\1"
                                       "\0\3xx"),
                                 &r),
                 -EPROTO);

    struct fetch_response_partition_data p;
    wire_set_defaults(&fetch_response_partition_data_schema, &p);
    wire_encode(&fetch_response_partition_data_schema, 12, true, &p, &w);
    cr_assert_eq(w.buf[w.len - 1], 0, "defaults are not written");
    uint8_t body[256];
    uint32_t fixed = w.len - 1;
    memcpy(body, w.buf, fixed);
    static const struct {
        const char *tags;
        uint32_t len;
        int rc;
    } cases[] = {
        {"\1\1\x09\0\0\0\1\0\0\0\2\0", 12, 0},        /* current_leader */
        {"\1\1\x08\0\0\0\1\0\0\0\2\0", 12, -EPROTO},  /* its size is less than it holds */
        {"\1\1\x0a\0\0\0\1\0\0\0\2\0z", 13, -EPROTO}, /* or more */
        {"\1\3\x09\0\0\0\1\0\0\0\2\0", 12, 0},        /* not known: skipped */
    };
    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        memcpy(body + fixed, cases[i].tags, cases[i].len);
        p.current_leader.leader_id = 77;
        cr_assert_eq(wire_decode(&fetch_response_partition_data_schema, 12, true, body,
                                 fixed + cases[i].len, &arena, &p),
                     cases[i].rc, "case %u", i);
    }
    cr_assert_eq(p.current_leader.leader_id, -1);
}

Test(wire_codec, a_tag_the_version_does_not_know_yet_is_skipped)
{
    struct fetch_request_fetch_partition p;
    wire_set_defaults(&fetch_request_fetch_partition_schema, &p);
    p.high_watermark = 5; /* since v18 */
    wire_encode(&fetch_request_fetch_partition_schema, 18, true, &p, &w);
    uint32_t len_v18 = w.len;
    cr_assert_eq(
        wire_decode(&fetch_request_fetch_partition_schema, 17, true, w.buf, w.len, &arena, &p), 0);
    cr_assert_eq(p.high_watermark, INT64_MAX);
    p.high_watermark = 5;
    wire_writer_reset(&w);
    wire_encode(&fetch_request_fetch_partition_schema, 17, true, &p, &w);
    cr_assert_eq(w.len, len_v18 - 10);
}

Test(wire_codec, what_the_format_cannot_carry_fails_the_writer)
{
    static char text[40000];
    struct metadata_request_metadata_request_topic topic = {.name = {text, INT16_MAX}};
    struct metadata_request r = {.topics = &topic, .topics_n = 1};
    for (int version = 1; version <= 9; version += 8) {
        topic.name = (struct wire_str){text, INT16_MAX};
        wire_writer_reset(&w);
        wire_encode(&metadata_request_schema, version, version >= 9, &r, &w);
        cr_assert(!w.failed);
        topic.name.len++;
        wire_encode(&metadata_request_schema, version, version >= 9, &r, &w);
        cr_assert(w.failed, "a string that is too long");
        topic.name = (struct wire_str){NULL, -1};
        wire_writer_reset(&w);
        wire_encode(&metadata_request_schema, version, version >= 9, &r, &w);
        cr_assert(w.failed, "a null name");
    }
    r.topics_n = -1;
    wire_writer_reset(&w);
    wire_encode(&metadata_request_schema, 0, false, &r, &w);
    cr_assert(w.failed, "a null array");
    uint32_t len = w.len;
    wire_encode_response_header(&w, wire_api_find(3), 0, 1);
    cr_assert_eq(w.len, len, "failed is sticky");
}

Test(wire_codec, records_by_reference)
{
    char head[] = "0123", tail[] = "456789";
    struct iovec iov[] = {{head, 4}, {tail, 6}}, more[] = {{tail, 6}};
    struct fetch_response_partition_data parts[3];
    for (int i = 0; i < 3; i++)
        wire_set_defaults(&fetch_response_partition_data_schema, &parts[i]);
    parts[0].records = (struct wire_records){.iov = iov, .iov_n = 2, .len = 10};
    parts[1].records = (struct wire_records){.iov = more, .iov_n = 0, .len = 0};
    parts[2].records = (struct wire_records){.iov = more, .iov_n = 1, .len = 6};
    struct fetch_response_fetchable_topic_response topic = {
        .topic = wire_str_of("t"), .partitions = parts, .partitions_n = 3};
    struct fetch_response r = {.responses = &topic, .responses_n = 1};

    wire_writer_reset(&w);
    for (int i = 0; i < 2; i++) { /* two frames in one writer */
        wire_frame_begin(&w);
        wire_encode_response_header(&w, wire_api_find(1), 4, 1);
        wire_encode(&fetch_response_schema, 4, false, &r, &w);
        wire_frame_end(&w);
    }
    cr_assert(!w.failed);
    cr_assert_eq(w.refs_n, 4);
    cr_assert_eq(w.ref_bytes, 32);
    uint32_t frame = w.len / 2;
    cr_assert_eq(be_load32(w.buf), frame - 4 + 16);
    cr_assert_eq(be_load32(w.buf + frame), frame - 4 + 16);
    cr_assert_eq(be_load32(w.buf + w.refs[0].at - 4), 10);
    cr_assert_eq(w.refs[0].iov, iov);
    cr_assert_eq(w.refs[0].len, 10);
    cr_assert_eq(w.refs[1].at, frame, "the last bytes of the first frame");
    cr_assert_eq(w.refs[2].at, w.refs[0].at + frame);
    cr_assert_eq(w.refs[3].at, w.len);
}

/* Kinds of fields that the spoken APIs do not have yet. */
struct odd_inner {
    struct wire_records data;
    int16_t number;
};
struct odd {
    uint16_t half;
    uint32_t word;
    double real;
    struct wire_bytes blob;
    struct odd_inner *maybe;
    struct odd_inner always;
    struct wire_bytes *blobs;
    int32_t blobs_n;
    struct odd_inner tagged;
    int8_t first_tag;
};

#define AT(s, f) .name = #f, .offset = offsetof(struct s, f), .until = WIRE_NEWEST
static const struct wire_field odd_inner_fields[] = {
    {AT(odd_inner, data), .type = WIRE_RECORDS, .nullable = true, .null_until = WIRE_NEWEST},
    {AT(odd_inner, number), .type = WIRE_INT16, .value = 3},
};
static const struct wire_schema odd_inner_schema = {"odd_inner", odd_inner_fields, 2,
                                                    sizeof(struct odd_inner)};
static const struct wire_field odd_fields[] = {
    {AT(odd, half), .type = WIRE_UINT16},
    {AT(odd, word), .type = WIRE_UINT32},
    {AT(odd, real), .type = WIRE_FLOAT64},
    {AT(odd, blob), .type = WIRE_BYTES},
    {AT(odd, maybe), .type = WIRE_STRUCT_PTR, .sub = &odd_inner_schema, .nullable = true,
     .null_since = 1, .null_until = WIRE_NEWEST},
    {AT(odd, always), .type = WIRE_STRUCT, .sub = &odd_inner_schema},
    {AT(odd, blobs), .type = WIRE_BYTES, .array = true,
     .count_offset = offsetof(struct odd, blobs_n)},
    {AT(odd, tagged), .type = WIRE_STRUCT, .sub = &odd_inner_schema, .tagged = true, .tag = 1},
    {AT(odd, first_tag), .type = WIRE_INT8, .tagged = true, .tag = 0},
};
static const struct wire_schema odd_schema = {"odd", odd_fields, ARRAY_LEN(odd_fields),
                                              sizeof(struct odd)};

Test(wire_codec, other_kinds_of_fields)
{
    struct odd m, back;
    wire_set_defaults(&odd_schema, &m);
    struct odd_inner inner = {.data = {.len = -1}, .number = 4};
    struct wire_bytes blobs[2] = {{(const uint8_t *)"x", 1}, {(const uint8_t *)"", 0}};
    m.half = 0xfffe;
    m.word = 0xfffffffd;
    m.real = -2.0;
    m.blob = (struct wire_bytes){(const uint8_t *)"b", 1};
    m.maybe = &inner;
    m.blobs = blobs;
    m.blobs_n = 2;
    m.first_tag = 9;
    m.tagged.number = 5;
    wire_encode(&odd_schema, 1, true, &m, &w);
    written_is(BYTES("\xff\xfe"
                     "\xff\xff\xff\xfd"
                     "\xc0\0\0\0\0\0\0\0"
                     "\2b"
                     "\1"
                     "\0\0\4\0"
                     "\0\0\3\0"
                     "\3\2x\1"
                     "\2"
                     "\0\1\x09"
                     "\1\4"
                     "\0\0\5\0"));
    cr_assert_eq(wire_decode(&odd_schema, 1, true, w.buf, w.len, &arena, &back), 0);
    cr_assert(back.half == 0xfffe && back.word == 0xfffffffd && back.real == -2.0);
    cr_assert(back.maybe->number == 4 && back.always.number == 3 && back.tagged.number == 5);
    cr_assert(back.blobs_n == 2 && back.blobs[0].len == 1 && back.blobs[1].len == 0);
    for (uint32_t n = 0; n < w.len; n++)
        cr_assert_eq(wire_decode(&odd_schema, 1, true, w.buf, n, &arena, &back), -EPROTO);

    m.maybe = NULL;
    wire_writer_reset(&w);
    wire_encode(&odd_schema, 1, true, &m, &w);
    cr_assert_eq(w.buf[16], 0xff);
    cr_assert_eq(wire_decode(&odd_schema, 1, true, w.buf, w.len, &arena, &back), 0);
    cr_assert_null(back.maybe);
    cr_assert_eq(wire_decode(&odd_schema, 0, true, w.buf, w.len, &arena, &back), -EPROTO);
    wire_encode(&odd_schema, 0, true, &m, &w);
    cr_assert(w.failed, "null where the version knows none");
}

Test(wire_codec, references_move_with_the_tag_size_in_front)
{
    static uint8_t text[300];
    struct iovec iov = {text, sizeof(text)};
    struct odd m;
    wire_set_defaults(&odd_schema, &m);
    m.always.data = (struct wire_records){.iov = &iov, .iov_n = 1, .len = 300};
    m.tagged.data = m.always.data;
    wire_frame_begin(&w);
    wire_encode(&odd_schema, 1, true, &m, &w);
    wire_frame_end(&w);
    cr_assert_eq(w.refs_n, 2);
    /* 4 length, 2 + 4 + 8 + 1 + 1 fields, 2 length of the records: the first one is not moved. */
    cr_assert_eq(w.refs[0].at, 22);
    /* then 3 of `always`, 1 array, 1 tags, 1 tag, 2 its size (305), 2 length of the records. */
    cr_assert_eq(w.refs[1].at, 32);
    cr_assert_arr_eq(w.buf + 28, "\xb1\x02", 2);
    cr_assert_eq(be_load32(w.buf), w.len - 4 + 600);
}

Test(wire_codec, strings)
{
    cr_assert_eq(wire_str_of(NULL).len, -1);
    cr_assert(wire_str_eq(wire_str_of("ab"), "ab"));
    cr_assert(!wire_str_eq(wire_str_of("ab"), "abc"));
    cr_assert(!wire_str_eq(wire_str_of("ab"), "aB"));
    cr_assert(wire_str_eq((struct wire_str){NULL, -1}, NULL));
    cr_assert(!wire_str_eq((struct wire_str){NULL, -1}, ""));
    cr_assert(!wire_str_eq(wire_str_of(""), NULL));
    cr_assert(wire_str_eq(wire_str_of(""), ""));
}
