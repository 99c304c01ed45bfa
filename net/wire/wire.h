/* wire.h: Kafka protocol messages between bytes and C structs, in both directions.
 * Happy path: wire_decode_request_header() names API and version; wire_api_find() gives the
 *   tables; wire_decode() fills a struct of messages.h; the answer goes through
 *   wire_frame_begin(), wire_encode_response_header(), wire_encode(), wire_frame_end().
 * Failure: decoding returns -EPROTO or -ENOMEM, never reads past the frame and never allocates
 *   more than the frame's bytes can justify. Encoding sets the writer's sticky `failed`.
 * Ownership: decoded strings, bytes and records borrow the frame, arrays live in the arena. What
 *   is encoded is copied, but for records given as an iovec: the writer lends those on by wire_ref.
 * Threads: none; the tables are constant and nothing else is shared. */
#ifndef NET_WIRE_WIRE_H
#define NET_WIRE_WIRE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

struct arena;

struct wire_str { /* no NUL at the end */
    const char *p;
    int32_t len; /* -1: null */
};

struct wire_bytes {
    const uint8_t *p;
    int32_t len; /* -1: null */
};

/* Decoded: data points into the frame, which is mutable so that offsets can be assigned in place,
 * and iov is NULL. To encode: extent != NULL, or else iov != NULL, is referenced and must hold len
 * bytes; else data is copied. */
struct wire_records {
    uint8_t *data;
    const struct iovec *iov;
    const struct env_extent *extent; /* of a file: io/env.h */
    int32_t iov_n;
    int32_t len; /* -1: null */
};

struct wire_uuid {
    uint8_t b[16];
};

struct wire_schema;
struct env_extent;

#define WIRE_NEWEST INT16_MAX /* open end of a version range; as a flexible_min: never */

struct wire_api {
    int16_t key;
    const char *name;
    int16_t min, max;                            /* versions spoken, both included */
    int16_t flexible_min, response_flexible_min; /* from here on compact lengths and tags */
    const struct wire_schema *request, *response;
};

extern const struct wire_api wire_apis[]; /* ascending keys */
extern const unsigned wire_apis_count;
const struct wire_api *wire_api_find(int16_t key); /* NULL: unknown */

static inline bool wire_request_flexible(const struct wire_api *api, int version)
{
    return version >= api->flexible_min;
}

static inline bool wire_response_flexible(const struct wire_api *api, int version)
{
    return version >= api->response_flexible_min;
}

struct wire_request_header {
    int16_t api_key, api_version;
    int32_t correlation_id;
    struct wire_str client_id;
};

/* frame excludes the 4 length bytes; *ret_body_at is the body's offset in it.
 * -EPROTO: malformed. -ENOTSUP: unknown key, or a version out of the table's range; then ret is
 * filled all the same, with a null client_id, for an ApiVersions answer needs it. */
int wire_decode_request_header(const uint8_t *frame, uint32_t len, struct wire_request_header *ret,
                               uint32_t *ret_body_at);
int wire_decode_response_header(const uint8_t *frame, uint32_t len, const struct wire_api *api,
                                int version, int32_t *ret_correlation_id, uint32_t *ret_body_at);

/* Decode a whole body into *ret, a struct of the schema; fields that the version lacks get their
 * defaults. -EPROTO: malformed, or bytes left over. -ENOMEM: the arena is full. On an error the
 * content of *ret is undefined. */
int wire_decode(const struct wire_schema *schema, int version, bool flexible, uint8_t *body,
                uint32_t len, struct arena *arena, void *ret);

/* As wire_decode, but says how much of the body the message took: brokers ignore what is behind it,
 * and librdkafka relies on that (Metadata v9 and later for all topics). */
int wire_decode_prefix(const struct wire_schema *schema, int version, bool flexible, uint8_t *body,
                       uint32_t len, struct arena *arena, void *ret, uint32_t *ret_used);

/* len bytes of an iovec, or of a file, that belong at position `at` of the writer's buf. Ascending;
 * two may share a position. */
struct wire_ref {
    uint32_t at;
    const struct iovec *iov;         /* borrowed from the message that was encoded */
    const struct env_extent *extent; /* not NULL: these instead */
    int32_t iov_n;
    int32_t len;
};

struct wire_writer {
    uint8_t *buf;
    uint32_t len, cap;
    bool failed; /* sticky until reset: no memory, or a value that the format cannot carry */
    struct wire_ref *refs;
    uint32_t refs_n, refs_cap;
    uint64_t ref_bytes;           /* sum over refs */
    uint32_t frame_at;            /* private: of the open frame */
    uint64_t frame_ref_bytes_was; /* private */
};

void wire_writer_init(struct wire_writer *w); /* allocates nothing */
void wire_writer_fini(struct wire_writer *w);
void wire_writer_reset(struct wire_writer *w); /* empty, memory kept */

/* begin reserves the 4 length bytes, end fills them in, referenced bytes included. */
void wire_frame_begin(struct wire_writer *w);
void wire_frame_end(struct wire_writer *w);

/* Request header v1, or v2 if the header's version of the API is flexible. */
void wire_encode_request_header(struct wire_writer *w, const struct wire_api *api,
                                const struct wire_request_header *h);
/* Response header v0, or v1 if the version is flexible and the API is not ApiVersions. */
void wire_encode_response_header(struct wire_writer *w, const struct wire_api *api, int version,
                                 int32_t correlation_id);
/* Fields that the version lacks are left out silently; null where the version knows no null, and
 * a string above 32767 bytes, fail the writer. */
void wire_encode(const struct wire_schema *schema, int version, bool flexible, const void *msg,
                 struct wire_writer *w);

/* Structs with every field at its schema default; NULL when the arena is full. */
void *wire_new(const struct wire_schema *schema, struct arena *arena);
void *wire_new_array(const struct wire_schema *schema, struct arena *arena, int32_t n);
void wire_set_defaults(const struct wire_schema *schema, void *msg); /* the caller's own struct */

struct wire_str wire_str_of(const char *c_string);         /* borrows; NULL becomes null */
bool wire_str_eq(struct wire_str s, const char *c_string); /* null equals only NULL */

#endif
