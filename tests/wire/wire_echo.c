/* wire_echo: the other end of WireCheck.java. Reads frames on stdin, answers each on stdout.
 *   in:  int32 length of the rest, int16 API key, int16 version, int8 kind (0 request,
 *        1 response), then header and body as on the wire, without the length prefix
 *   out: int32 n; n >= 0: that many bytes of the decoded message encoded again, header included;
 *        n < 0: -errno
 * Each frame is also decoded from every prefix (must be -EPROTO), and encoded a second time with
 * its records by reference (must give the same bytes): -EBADMSG and -EILSEQ say that it did not.
 * `wire_echo --dump` prints the tables as JSON instead. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/arena.h"
#include "core/base/bytes.h"
#include "net/wire/schema.h"

#define ARENA_LIMIT_BYTES (64u << 20)
#define PREFIXES_MAX 1024u

struct message {
    const struct wire_api *api;
    int version;
    bool response;
    struct wire_request_header request_header;
    int32_t correlation_id;
    void *body;
};

static const struct wire_schema *message_schema(const struct message *m)
{
    return m->response ? m->api->response : m->api->request;
}

static bool message_flexible(const struct message *m)
{
    return m->response ? wire_response_flexible(m->api, m->version)
                       : wire_request_flexible(m->api, m->version);
}

static int message_decode(struct message *m, uint8_t *frame, uint32_t len, struct arena *arena)
{
    uint32_t at;
    int rc = m->response ? wire_decode_response_header(frame, len, m->api, m->version,
                                                       &m->correlation_id, &at)
                         : wire_decode_request_header(frame, len, &m->request_header, &at);
    if (rc < 0)
        return rc;
    if (!m->response &&
        (m->request_header.api_key != m->api->key || m->request_header.api_version != m->version))
        return -EINVAL;
    m->body = wire_new(message_schema(m), arena);
    if (m->body == NULL)
        return -ENOMEM;
    return wire_decode(message_schema(m), m->version, message_flexible(m), frame + at, len - at,
                       arena, m->body);
}

static void message_encode(const struct message *m, struct wire_writer *w)
{
    wire_writer_reset(w);
    wire_frame_begin(w);
    if (m->response)
        wire_encode_response_header(w, m->api, m->version, m->correlation_id);
    else
        wire_encode_request_header(w, m->api, &m->request_header);
    wire_encode(message_schema(m), m->version, message_flexible(m), m->body, w);
    wire_frame_end(w);
}

/* Turn the records of a decoded message into two-part iovecs of the same bytes. */
static void struct_use_iovecs(const struct wire_schema *s, uint8_t *base, struct arena *arena);

static void records_use_iovec(struct wire_records *r, struct arena *arena)
{
    if (r->len < 0)
        return;
    struct iovec *iov = arena_array(arena, 2, sizeof(*iov));
    if (iov == NULL)
        abort();
    size_t head = (size_t)r->len / 3;
    iov[0] = (struct iovec){r->data, head};
    iov[1] = (struct iovec){r->data + head, (size_t)r->len - head};
    r->iov = iov;
    r->iov_n = 2;
}

static void field_use_iovecs(const struct wire_field *f, uint8_t *base, struct arena *arena)
{
    uint8_t *at = base + f->offset;
    int32_t n = 1;
    if (f->type == WIRE_RECORDS)
        records_use_iovec((struct wire_records *)at, arena);
    if (f->type != WIRE_STRUCT)
        return;
    if (f->array) {
        memcpy(&n, base + f->count_offset, sizeof(n));
        memcpy(&at, base + f->offset, sizeof(at));
    }
    for (int32_t i = 0; i < n; i++)
        struct_use_iovecs(f->sub, at + (size_t)i * f->sub->size_bytes, arena);
}

static void struct_use_iovecs(const struct wire_schema *s, uint8_t *base, struct arena *arena)
{
    for (unsigned i = 0; i < s->fields_n; i++)
        field_use_iovecs(&s->fields[i], base, arena);
}

/* Whether w, with its references put in place, is the bytes of flat. */
static bool writer_equals(const struct wire_writer *w, const struct wire_writer *flat)
{
    uint32_t at = 0, flat_at = 0;
    if (w->len + w->ref_bytes != flat->len)
        return false;
    for (uint32_t i = 0; i <= w->refs_n; i++) {
        uint32_t to = i < w->refs_n ? w->refs[i].at : w->len;
        if (to < at || memcmp(w->buf + at, flat->buf + flat_at, to - at) != 0)
            return false;
        flat_at += to - at;
        at = to;
        for (int32_t k = 0; i < w->refs_n && k < w->refs[i].iov_n; k++) {
            const struct iovec *v = &w->refs[i].iov[k];
            if (memcmp(v->iov_base, flat->buf + flat_at, v->iov_len) != 0)
                return false;
            flat_at += (uint32_t)v->iov_len;
        }
    }
    return flat_at == flat->len;
}

static bool prefixes_fail(const struct message *like, const uint8_t *frame, uint32_t len)
{
    struct arena arena;
    arena_init(&arena, ARENA_LIMIT_BYTES);
    bool ok = true;
    for (uint32_t n = 0; n < len && ok; n++) {
        if (n == PREFIXES_MAX && len > 2 * PREFIXES_MAX)
            n = len - PREFIXES_MAX;
        uint8_t *cut = malloc(n > 0 ? n : 1); /* its own block: a sanitizer sees the end */
        if (cut == NULL)
            abort();
        memcpy(cut, frame, n);
        struct message m = *like;
        arena_reset(&arena);
        ok = message_decode(&m, cut, n, &arena) == -EPROTO;
        free(cut);
    }
    arena_fini(&arena);
    return ok;
}

static int echo(struct message *m, uint8_t *frame, uint32_t len, struct arena *arena,
                struct wire_writer *w)
{
    int rc = message_decode(m, frame, len, arena);
    if (rc < 0)
        return rc;
    if (!prefixes_fail(m, frame, len))
        return -EBADMSG;
    message_encode(m, w);
    if (w->failed)
        return -EOVERFLOW;
    struct wire_writer by_ref;
    wire_writer_init(&by_ref);
    struct_use_iovecs(message_schema(m), m->body, arena);
    message_encode(m, &by_ref);
    if (by_ref.failed || !writer_equals(&by_ref, w))
        rc = -EILSEQ;
    wire_writer_fini(&by_ref);
    return rc;
}

static bool read_all(void *to, size_t len)
{
    return fread(to, 1, len, stdin) == len;
}

static bool write_answer(int rc, const struct wire_writer *w)
{
    uint8_t head[4];
    uint32_t len = rc < 0 ? 0 : w->len - 4; /* the answer has its own length prefix */
    be_store32(head, rc < 0 ? (uint32_t)rc : len);
    return fwrite(head, 1, 4, stdout) == 4 &&
           (len == 0 || fwrite(w->buf + 4, 1, len, stdout) == len) && fflush(stdout) == 0;
}

static int serve(void)
{
    struct arena arena;
    struct wire_writer w;
    uint8_t head[9];
    arena_init(&arena, ARENA_LIMIT_BYTES);
    wire_writer_init(&w);
    while (read_all(head, sizeof(head))) {
        uint32_t len = be_load32(head) - 5;
        struct message m = {
            .api = wire_api_find((int16_t)be_load16(head + 4)),
            .version = (int16_t)be_load16(head + 6),
            .response = head[8] == 1,
        };
        uint8_t *frame = malloc(len > 0 ? len : 1);
        if (frame == NULL || !read_all(frame, len))
            return EXIT_FAILURE;
        arena_reset(&arena);
        int rc = m.api == NULL ? -ENOTSUP : echo(&m, frame, len, &arena, &w);
        if (!write_answer(rc, &w))
            return EXIT_FAILURE;
        free(frame);
    }
    arena_fini(&arena);
    wire_writer_fini(&w);
    return EXIT_SUCCESS;
}

static const char *const type_names[] = {
    [WIRE_BOOL] = "bool",     [WIRE_INT8] = "int8",         [WIRE_INT16] = "int16",
    [WIRE_UINT16] = "uint16", [WIRE_INT32] = "int32",       [WIRE_UINT32] = "uint32",
    [WIRE_INT64] = "int64",   [WIRE_FLOAT64] = "float64",   [WIRE_UUID] = "uuid",
    [WIRE_STRING] = "string", [WIRE_BYTES] = "bytes",       [WIRE_RECORDS] = "records",
    [WIRE_STRUCT] = "struct", [WIRE_STRUCT_PTR] = "struct",
};

/* In the notation of the official schemas: "3+", "0-12", "none". */
static void dump_versions(const char *key, bool there, int since, int until)
{
    if (!there)
        printf(",\"%s\":\"none\"", key);
    else if (until == WIRE_NEWEST)
        printf(",\"%s\":\"%d+\"", key, since);
    else
        printf(",\"%s\":\"%d-%d\"", key, since, until);
}

static void dump_schema(const struct wire_schema *s)
{
    printf("{\"struct\":\"%s\",\"fields\":[", s->name);
    for (unsigned i = 0; i < s->fields_n; i++) {
        const struct wire_field *f = &s->fields[i];
        printf("%s{\"name\":\"%s\",\"type\":\"%s%s\"", i > 0 ? "," : "", f->name,
               f->array ? "[]" : "", type_names[f->type]);
        dump_versions("versions", true, f->since, f->until);
        dump_versions("nullableVersions", f->nullable, f->null_since, f->null_until);
        dump_versions("taggedVersions", f->tagged, f->tagged_since, WIRE_NEWEST);
        printf(",\"tag\":%d,\"value\":%" PRId64 ",\"nullDefault\":%s", f->tagged ? f->tag : -1,
               f->value, f->null_default ? "true" : "false");
        if (f->sub != NULL) {
            printf(",\"sub\":");
            dump_schema(f->sub);
        }
        printf("}");
    }
    printf("]}");
}

static int dump(void)
{
    printf("[");
    for (unsigned i = 0; i < wire_apis_count; i++) {
        const struct wire_api *a = &wire_apis[i];
        printf("%s\n{\"key\":%d,\"name\":\"%s\"", i > 0 ? "," : "", a->key, a->name);
        dump_versions("validVersions", true, a->min, a->max);
        dump_versions("requestFlexible", a->flexible_min != WIRE_NEWEST, a->flexible_min,
                      WIRE_NEWEST);
        dump_versions("responseFlexible", a->response_flexible_min != WIRE_NEWEST,
                      a->response_flexible_min, WIRE_NEWEST);
        printf(",\"request\":");
        dump_schema(a->request);
        printf(",\"response\":");
        dump_schema(a->response);
        printf("}");
    }
    printf("\n]\n");
    return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--dump") == 0)
        return dump();
    if (argc != 1) {
        fprintf(stderr, "usage: wire_echo [--dump]\n");
        return 2;
    }
    return serve();
}
