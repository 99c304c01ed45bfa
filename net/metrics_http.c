#include "net/metrics_http.h"

#include <errno.h>
#include <microhttpd.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "net/metrics.h"

#define CONNECTIONS_MAX 16u
#define CONNECTION_MEMORY_BYTES (16u << 10) /* request line and header fields must fit */
#define IDLE_TIMEOUT_S 10u

struct metrics_http {
    struct metrics_http_config config;
    struct MHD_Daemon *daemon;
    struct metrics_shard *shards; /* of the daemon's thread: the copy that is written */
};

/* ---- pages: each writes its body and says the status ---- */

static void shards_read(struct metrics_http *h)
{
    for (unsigned i = 0; i < h->config.shards_n; i++)
        metrics_read(h->config.shards[i], &h->shards[i]);
}

static unsigned text_page(struct metrics_http *h, FILE *out)
{
    struct metrics_process process;
    shards_read(h);
    metrics_process_read(h->config.version, &process);
    metrics_write_text(out, &process, h->shards, h->config.shards_n);
    return MHD_HTTP_OK;
}

static unsigned json_page(struct metrics_http *h, FILE *out)
{
    struct metrics_process process;
    shards_read(h);
    metrics_process_read(h->config.version, &process);
    metrics_write_json(out, &process, h->shards, h->config.shards_n);
    return MHD_HTTP_OK;
}

static unsigned health_page(struct metrics_http *h, FILE *out)
{
    unsigned failed = 0;
    shards_read(h);
    for (unsigned i = 0; i < h->config.shards_n; i++) {
        if (h->shards[i].log.failed == 0)
            continue;
        fprintf(out, "shard %u: its journal has failed\n", i);
        failed++;
    }
    if (failed > 0)
        return MHD_HTTP_SERVICE_UNAVAILABLE;
    fputs("ok\n", out);
    return MHD_HTTP_OK;
}

static const struct page {
    const char *path, *type;
    unsigned (*write)(struct metrics_http *h, FILE *out);
} pages[] = {
    {"/metrics", "text/plain; version=0.0.4; charset=utf-8", text_page},
    {"/metrics.json", "application/json", json_page},
    {"/healthz", "text/plain; charset=utf-8", health_page},
};

/* ---- answering ---- */

static enum MHD_Result answer(struct MHD_Connection *c, unsigned status, const char *name,
                              const char *value, char *body, size_t body_len)
{
    struct MHD_Response *r = MHD_create_response_from_buffer(body_len, body, MHD_RESPMEM_MUST_FREE);
    if (r == NULL) {
        free(body);
        return MHD_NO; /* closes the connection */
    }
    MHD_add_response_header(r, name, value);
    enum MHD_Result rc = MHD_queue_response(c, status, r);
    MHD_destroy_response(r);
    return rc;
}

static enum MHD_Result page_answer(struct metrics_http *h, struct MHD_Connection *c,
                                   const struct page *page)
{
    char *body = NULL;
    size_t body_len = 0;
    FILE *out = open_memstream(&body, &body_len);
    if (out == NULL)
        return MHD_NO;
    unsigned status = page->write(h, out);
    if (fclose(out) != 0) {
        free(body);
        return MHD_NO;
    }
    return answer(c, status, MHD_HTTP_HEADER_CONTENT_TYPE, page->type, body, body_len);
}

static enum MHD_Result on_request(void *arg, struct MHD_Connection *c, const char *path,
                                  const char *method, const char *version, const char *upload,
                                  size_t *upload_len, void **state)
{
    (void)version;
    (void)upload;
    static int seen;
    if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0)
        return answer(c, MHD_HTTP_METHOD_NOT_ALLOWED, MHD_HTTP_HEADER_ALLOW, "GET, HEAD", NULL, 0);
    if (*state == NULL) { /* the header is complete; a body may follow, and is thrown away */
        *state = &seen;
        return MHD_YES;
    }
    if (*upload_len > 0) {
        *upload_len = 0;
        return MHD_YES;
    }
    for (unsigned i = 0; i < ARRAY_LEN(pages); i++)
        if (strcmp(path, pages[i].path) == 0)
            return page_answer(arg, c, &pages[i]);
    return answer(c, MHD_HTTP_NOT_FOUND, MHD_HTTP_HEADER_CONTENT_TYPE, "text/plain", NULL, 0);
}

/* ---- life ---- */

int metrics_http_start(const struct metrics_http_config *config, struct metrics_http **ret)
{
    struct metrics_http *h = calloc(1, sizeof(*h));
    struct metrics_shard *shards = calloc(config->shards_n, sizeof(*shards));
    if (h == NULL || shards == NULL)
        goto err_free;
    h->config = *config;
    h->shards = shards;
    h->daemon = MHD_start_daemon(
        MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL, 0, NULL, NULL, on_request, h,
        MHD_OPTION_LISTEN_SOCKET, config->sock, MHD_OPTION_CONNECTION_LIMIT, CONNECTIONS_MAX,
        MHD_OPTION_CONNECTION_TIMEOUT, IDLE_TIMEOUT_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        (size_t)CONNECTION_MEMORY_BYTES, MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_END);
    if (h->daemon == NULL)
        goto err_free;
    *ret = h;
    return 0;
err_free:
    free(shards);
    free(h);
    return -ENOMEM;
}

void metrics_http_stop(struct metrics_http *h)
{
    if (h == NULL)
        return;
    MHD_stop_daemon(h->daemon); /* closes the socket */
    free(h->shards);
    free(h);
}
