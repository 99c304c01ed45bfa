/* script_private.h: what the parts of the scripted server share. Private to script_*.c.
 *
 * Life of a request: script_input() completes its frame, decodes it and puts it into its
 * connection's order; its API says when to look at it (api->arrive); then, or at once, api->run
 * answers it, or lets it wait for later; the answers at the head of the connection's order become
 * outputs. */
#ifndef TESTS_LIB_SCRIPT_PRIVATE_H
#define TESTS_LIB_SCRIPT_PRIVATE_H

#include "core/base/arena.h"
#include "core/base/list.h"
#include "core/base/map.h"
#include "net/wire/messages.h"
#include "tests/lib/script_broker.h"
#include "tests/lib/script_log.h"

enum { PRODUCE_KEY = 0, API_VERSIONS_KEY = 18 };

struct script_request;

struct script_api {
    int16_t key, min, max;
    int16_t shown_min; /* in ApiVersions */
    /* When to run it, from when it is looked at first. NULL: at once. */
    uint64_t (*arrive)(struct script_broker *, struct script_request *, uint64_t now_ns);
    void (*run)(struct script_broker *, struct script_request *, uint64_t now_ns);
};
extern const struct script_api script_apis[];
extern const unsigned script_apis_n;

enum script_fate { /* of a Produce request */
                   SCRIPT_SERVED,
                   SCRIPT_ACK_LOST,
                   SCRIPT_ERROR,
                   SCRIPT_CLOSED,
};

struct script_conn {
    struct list_node link;  /* script_broker.conns */
    struct list_node order; /* script_request, oldest first */
    int number;
    bool deaf;       /* a close is on its way: what comes is not read */
    bool ended;      /* the close is an output: nothing follows it */
    bool gone;       /* closed by the host; kept for its requests only */
    uint8_t size[4]; /* of the frame that is coming in */
    unsigned size_n;
    uint8_t *frame;
    uint32_t frame_len, frame_n;
};

struct script_request {
    struct list_node link;  /* its connection's order */
    struct list_node event; /* script_broker.events */
    struct list_node parked;
    struct script_conn *conn;
    uint64_t at_ns; /* of the event */
    const struct script_api *api;
    const struct wire_api *wire;
    struct wire_request_header header;
    uint8_t *frame;
    struct arena arena;
    void *body; /* decoded, in the arena; borrows the frame */
    enum script_fate fate;
    uint64_t deadline_ns; /* of a long poll; 0: not looked at yet */
    bool replied, close;
    uint8_t *reply; /* NULL: no answer */
    size_t reply_len;
};

struct script_broker {
    struct script_config config;
    struct script_counters counters;
    struct script_log log;
    struct map by_number;    /* script_conn */
    struct list_node conns;  /* gone ones too */
    struct list_node events; /* script_request by at_ns */
    struct list_node parked; /* long polls */
    struct list_node ready;  /* outputs, by due_ns */
    struct wire_writer writer;
    uint64_t now_ns;
    uint64_t free_ns;        /* when the server has done all that has arrived */
    uint64_t rate_remainder; /* of records / rate_per_s: what is below a nanosecond */
    uint64_t backlog;
    int64_t next_producer_id;
    struct script_arrival *arrivals;
    size_t arrivals_n, arrivals_cap;
};

/* script_broker.c */
/* From when the server looks at what is there at t: the end of the freeze, or t. */
uint64_t script_thaw_ns(const struct script_broker *s, uint64_t t_ns);
/* When the server is done with a Produce request of so many records that arrives now. */
uint64_t script_serve(struct script_broker *s, uint64_t now_ns, uint64_t records);
/* Run the request (again) at at_ns. */
void script_schedule(struct script_broker *s, struct script_request *r, uint64_t at_ns);
/* The answer: msg is the API's response. The request may be gone afterwards. */
void script_reply(struct script_broker *s, struct script_request *r, int version, const void *msg);
void script_reply_nothing(struct script_broker *s, struct script_request *r);
void script_reply_close(struct script_broker *s, struct script_request *r);
void script_note_arrival(struct script_broker *s, const struct script_arrival *arrival);
/* A zeroed array or struct of the request's arena; asserts that there is memory. */
void *script_alloc(struct script_request *r, size_t n, size_t size_bytes);
void *script_new(struct script_request *r, const struct wire_schema *schema, int32_t n);

/* script_fetch.c */
uint64_t script_fetch_arrive(struct script_broker *s, struct script_request *r, uint64_t now_ns);
void script_fetch_run(struct script_broker *s, struct script_request *r, uint64_t now_ns);
/* Records have come: look at the long polls again. */
void script_fetch_wake(struct script_broker *s);

#endif
