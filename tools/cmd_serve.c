#include "tools/cmd_serve.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "core/base/bytes.h"
#include "core/base/logger.h"
#include "io/probe.h"
#include "io/sock.h"
#include "numa/mem.h"
#include "numa/placement.h"
#include "numa/topo.h"
#include "tools/cmd_version.h"
#include "tools/egress_profile.h"
#include "tools/config.h"
#include "tools/serve_run.h"

#define LISTEN_WAIT_MS 2000u
#define LISTEN_RETRY_MS 50u
#define LISTEN_BACKLOG 1024
#define FILES_WANTED (1u << 20)      /* as root; one a connection and a few a partition */
#define PLACE_BYTES_MIN (256u << 10) /* less is cheaper to copy, while it is in the cache */
#define AHEAD_MIN 64u                /* the pieces of fewer are large enough as it is */
#define SHARED_SYNC_MIN 8u           /* fewer files are durable sooner with a flush of each */

struct machine {
    struct topo *topo;
    struct placement placement;
    struct io_features features;
};

/* Each step returns 0, or -1 after its line on stderr. */

static int fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static int fail(const char *fmt, ...)
{
    va_list args;
    fputs("penstock: ", stderr);
    va_start(args, fmt);
    vfprintf(stderr, fmt, args);
    va_end(args);
    fputc('\n', stderr);
    return -1;
}

/* ---- machine ---- */

/* Soft to hard; and the hard limit too where that is allowed. Whatever stays too low is told later
 * by what needs it. */
static void limit_raise(int resource, rlim_t wanted)
{
    struct rlimit limit;
    if (getrlimit(resource, &limit) < 0)
        return;
    struct rlimit more = {MAX(limit.rlim_max, wanted), MAX(limit.rlim_max, wanted)};
    if (setrlimit(resource, &more) == 0)
        return;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(resource, &limit);
}

static int huge_pages_of(const struct topo *topo, uint64_t **ret)
{
    uint64_t *free_bytes = calloc(MAX(topo->n_nodes, 1u), sizeof(*free_bytes));
    if (free_bytes == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < topo->n_nodes; i++)
        free_bytes[i] = mem_huge_free_bytes((int)topo->nodes[i].os_index);
    *ret = free_bytes;
    return 0;
}

static int machine_place(const struct serve_config *config, struct machine *m)
{
    uint64_t *huge_free = NULL;
    int rc = huge_pages_of(m->topo, &huge_free);
    if (rc < 0)
        return fail("placement: %s", strerror(-rc));
    struct placement_settings settings = {.shards = (unsigned)config->shards,
                                          .memory_bytes = (uint64_t)config->memory_bytes,
                                          .huge_free_bytes = huge_free};
    rc = placement_compute(m->topo, &settings, &m->placement);
    free(huge_free);
    if (rc < 0)
        return fail("%s", m->placement.reason);
    if (m->placement.n_shards <= BROKER_SHARDS_MAX)
        return 0;
    size_t n = m->placement.n_shards;
    placement_fini(&m->placement);
    return fail("%zu shards: %u is the most", n, BROKER_SHARDS_MAX);
}

static int machine_open(const struct serve_config *config, struct machine *m)
{
    const char *reason = "";
    if (io_probe(&m->features, &reason) < 0)
        return fail("%s", reason);
    int rc = topo_discover(&m->topo);
    if (rc < 0)
        return fail("the machine's topology cannot be read: %s", strerror(-rc));
    rc = config->cpus == NULL ? 0 : topo_restrict(m->topo, config->cpus);
    if (rc < 0)
        rc = fail("cpus %s: %s", config->cpus, strerror(-rc));
    else
        rc = machine_place(config, m);
    if (rc < 0)
        topo_destroy(m->topo);
    return rc;
}

static void machine_close(struct machine *m)
{
    placement_fini(&m->placement);
    topo_destroy(m->topo);
}

/* ---- broker ---- */

/* Of the files that may be open, clients get three quarters: the rest is for the log, which could
 * not take new segments otherwise. */
static void connections_fill(const struct serve_config *config, struct broker *b)
{
    struct rlimit limit = {.rlim_cur = RLIM_INFINITY};
    getrlimit(RLIMIT_NOFILE, &limit);
    uint64_t files = MIN((uint64_t)limit.rlim_cur, (uint64_t)UINT32_MAX);
    uint64_t wanted = (uint64_t)config->max_connections, possible = files - files / 4;
    if (possible < wanted)
        log_info("at most %llu connections: %llu files may be open", (unsigned long long)possible,
                 (unsigned long long)files);
    b->connections_possible = (uint32_t)possible;
    b->connections_max = (uint32_t)MIN(wanted, possible);
}

static void broker_fill(const struct serve_config *config, unsigned shards_n, struct broker *b)
{
    b->advertise = (enum advertise_mode)config->advertise;
    b->shards_n = shards_n;
    b->log.shards_n = shards_n;
    b->log.journal_bytes = (uint64_t)config->journal_bytes;
    b->log.direct_min_bytes = (uint64_t)config->direct_min_bytes;
    b->log.place_min_bytes = PLACE_BYTES_MIN;
    b->log.shared_sync_min = SHARED_SYNC_MIN;
    b->log.ahead_min = AHEAD_MIN;
    b->log.producer_expiry_ms = (uint64_t)config->producer_id_expiration_ms;
    b->log.pool_max_percent = (unsigned)config->pool_max_percent;
    b->log.scrub_bytes_per_second = (uint64_t)config->log_scrub_bytes_per_second;
    b->log.scrub_interval_ms = (uint64_t)config->log_scrub_interval_ms;
    b->log.compact_backoff_ms = (uint64_t)config->log_cleaner_backoff_ms;
    b->log.compact_memory_bytes = (uint64_t)config->log_cleaner_memory_bytes / shards_n;
    b->log.compact_bytes_per_second = (uint64_t)config->log_cleaner_bytes_per_second;
    b->log.retention_check_ms = (uint64_t)config->log_retention_check_ms;
    b->topic_defaults = config->topic_defaults;
    b->config_keys = config->shown;
    b->config_keys_n = config->shown_n;
    b->rack = config->rack;
    b->default_partitions = (int32_t)config->num_partitions;
    b->auto_create_topics = config->auto_create_topics;
    b->delete_topics_enabled = config->delete_topics;
    b->refuse_replication = config->replication_policy == CONFIG_REPLICATION_REFUSE;
    b->request_bytes_max = (uint32_t)config->socket_request_max_bytes;
    b->fetch_bytes_max = (uint32_t)config->fetch_max_bytes;
    connections_fill(config, b);
    b->requests_in_flight_max = (uint32_t)config->connection_requests_max;
    b->connection_idle_ms = config->connections_max_idle_ms < 0
                                ? UINT64_MAX
                                : (uint64_t)config->connections_max_idle_ms;
    b->fetch_sessions_max = (unsigned)config->fetch_sessions_max;
    b->groups = (struct broker_groups){
        .initial_delay_ms = config->group_initial_delay_ms,
        .session_min_ms = config->group_session_min_ms,
        .session_max_ms = config->group_session_max_ms,
        .size_max = config->group_max_size,
        .metadata_bytes_max = config->offset_metadata_max_bytes,
        .offsets_retention_ms = config->offsets_retention_minutes * 60000,
        .retention_check_ms = config->offsets_retention_check_ms,
        .partitions_n = (int32_t)config->offsets_topic_partitions,
        .segment_bytes = config->offsets_topic_segment_bytes,
    };
    b->egress = (enum egress_mode)config->egress;
    b->log.splice_verify = (enum log_verify)config->egress_verify;
}

/* What clients are told: not a wildcard. */
static int advertised_host(const struct serve_config *config, char *ret, size_t ret_size)
{
    const char *host = config->advertised_host;
    if (host == NULL || host[0] == '\0')
        host = config->listen_host;
    bool wildcard =
        host == NULL || host[0] == '\0' || strcmp(host, "0.0.0.0") == 0 || strcmp(host, "::") == 0;
    if (wildcard && gethostname(ret, ret_size) < 0)
        return fail("the host's name: %s", strerror(errno));
    if (!wildcard && (size_t)snprintf(ret, ret_size, "%s", host) >= ret_size)
        return fail("advertised host: longer than %zu characters", ret_size - 1);
    ret[ret_size - 1] = '\0';
    return 0;
}

/* Which shards make one Kafka node: each its own, those of one NUMA node, or all. */
static unsigned node_of(const struct broker *b, const struct placement *placement, unsigned shard)
{
    if (b->advertise == ADVERTISE_HOST)
        return 0;
    return b->advertise == ADVERTISE_NUMA ? placement->shards[shard].group : shard;
}

static int nodes_fill(const struct serve_config *config, const struct placement *placement,
                      struct broker *b)
{
    char host[sizeof(b->nodes[0].host)];
    if (advertised_host(config, host, sizeof(host)) < 0)
        return -1;
    uint16_t port = config->advertised_port != 0 ? config->advertised_port : config->listen_port;
    for (unsigned i = 0; i < b->shards_n; i++) {
        unsigned at = node_of(b, placement, i);
        struct broker_node *node = &b->nodes[at];
        b->node_of_shard[i] = at;
        if (node->shards_n++ > 0)
            continue;
        node->first_shard = i;
        node->node_id = (int32_t)(config->node_id + at);
        node->port = (uint16_t)(port + at);
        memcpy(node->host, host, sizeof(host));
        b->nodes_n = MAX(b->nodes_n, at + 1);
    }
    if (port + b->nodes_n - 1 > UINT16_MAX || config->listen_port + b->nodes_n - 1 > UINT16_MAX)
        return fail("port %u: %u nodes need as many consecutive ports", config->listen_port,
                    b->nodes_n);
    return 0;
}

/* A killed broker's ring may hold its sockets a moment longer than its directory. */
static int listen_patiently(const char *host, uint16_t port, int *ret_sock)
{
    int rc = -EADDRINUSE;
    for (unsigned waited_ms = 0; waited_ms <= LISTEN_WAIT_MS; waited_ms += LISTEN_RETRY_MS) {
        rc = sock_listen(host, port, LISTEN_BACKLOG, ret_sock);
        if (rc != -EADDRINUSE)
            break;
        nanosleep(&(struct timespec){.tv_nsec = LISTEN_RETRY_MS * 1000000L}, NULL);
    }
    return rc;
}

/* All ports before anything slow, so that one in use is told soon. */
static int listen_all(const struct serve_config *config, struct serve_setup *setup)
{
    for (unsigned i = 0; i < setup->broker.nodes_n; i++) {
        uint16_t port = (uint16_t)(config->listen_port + i);
        int rc = listen_patiently(config->listen_host, port, &setup->listen_socks[i]);
        if (rc == 0)
            continue;
        const char *host = config->listen_host;
        fail("listen on %s:%u: %s", host != NULL && host[0] != '\0' ? host : "*", port,
             strerror(-rc));
        while (i-- > 0)
            close(setup->listen_socks[i]);
        return -1;
    }
    return 0;
}

/* Apart from what clients get; -1: not wanted. */
static int listen_metrics(const struct serve_config *config, int *ret_sock)
{
    *ret_sock = -1;
    if (config->metrics_host == NULL)
        return 0;
    int rc = listen_patiently(config->metrics_host, config->metrics_port, ret_sock);
    return rc == 0 ? 0
                   : fail("listen on %s:%u (metrics.listen): %s", config->metrics_host,
                          config->metrics_port, strerror(-rc));
}

static void start_log(const struct serve_config *config, const struct serve_setup *setup,
                      const struct machine *m)
{
    static const char *const modes[] = {"shard", "numa", "host"};
    const struct broker *b = &setup->broker;
    const struct io_features *f = &m->features;
    log_info("penstock %s: %u shards on %zu of %zu cores, %zu NUMA node(s), %llu MiB, advertised "
             "as %u node(s) (%s)",
             penstock_version(), b->shards_n,
             MIN(m->placement.n_shards, topo_allowed_cores(m->topo)), m->topo->n_cores,
             m->topo->n_nodes, (unsigned long long)(m->placement.memory_bytes >> 20), b->nodes_n,
             modes[b->advertise]);
    log_info("kernel %u.%u: registered buffers %s, receive buffers %s, multishot accept %s, ring "
             "messages %s, zero-copy send %s",
             f->kernel_major, f->kernel_minor,
             f->fixed_unlimited ? "yes"
             : f->fixed_buffers ? "limited by RLIMIT_MEMLOCK"
                                : "no",
             f->buf_ring ? "by ring" : "no", f->accept_multishot ? "yes" : "no",
             f->msg_ring ? "yes" : "no", f->send_zc ? "there" : "no");
    for (unsigned i = 0; i < setup->dirs.data_n; i++)
        log_info("data directory %s", setup->dirs.data[i].path);
    if (config->metrics_host != NULL)
        log_info("metrics on http://%s:%u/metrics", config->metrics_host, config->metrics_port);
    log_info("journals in %s, %llu MiB a shard", setup->dirs.journal.path,
             (unsigned long long)(b->log.journal_bytes >> 20));
}

static int serve_with_dirs(const struct serve_config *config, struct machine *m,
                           struct serve_setup *setup)
{
    char reason[512] = "";
    if (dirs_open(&setup->dirs, config->data_dirs, config->data_dirs_n, config->journal_dir,
                  (unsigned)config->lock_timeout_ms, reason, sizeof(reason)) < 0)
        return fail("%s", reason);
    int exit_code = 1;
    if (listen_all(config, setup) == 0) {
        if (listen_metrics(config, &setup->metrics_sock) == 0) {
            start_log(config, setup, m);
            exit_code = serve_run(setup);
        }
        for (unsigned i = 0; i < setup->broker.nodes_n; i++)
            close(setup->listen_socks[i]);
    }
    dirs_close(&setup->dirs);
    return exit_code;
}

/* What was measured here, if it was. */
static int egress_fill(const struct serve_config *config, const struct machine *m, struct broker *b)
{
    char path[PATH_MAX], reason[PATH_MAX + 128];
    bool named = config->egress_profile != NULL && config->egress_profile[0] != '\0';
    if (named)
        snprintf(path, sizeof(path), "%s", config->egress_profile);
    else
        snprintf(path, sizeof(path), "%.4000s/%s", config->data_dirs[0], EGRESS_PROFILE_NAME);
    int rc = egress_profile_read(path, b->egress_limits, reason, sizeof(reason));
    if (rc < 0 && (named || rc != -ENOENT))
        return fail("egress.profile: %s", reason);
    if (rc == 0)
        log_info("what was measured of ways out is in %s", path);
    if (!m->features.splice)
        b->log.splice_verify = LOG_VERIFY_ALWAYS;
    for (unsigned i = 0; i < EGRESS_LINKS && !m->features.send_zc_report; i++)
        b->egress_limits[i].zc_bytes = EGRESS_NEVER; /* nobody could see if it works */
    return 0;
}

static int serve_on(const struct serve_config *config, struct machine *m)
{
    struct serve_setup *setup = calloc(1, sizeof(*setup));
    if (setup == NULL)
        return fail("%s", strerror(ENOMEM));
    setup->placement = &m->placement;
    setup->features = &m->features;
    setup->busy_poll_us = (unsigned)config->busy_poll_us;
    setup->flush_poll_us = (unsigned)config->flush_poll_us;
    broker_fill(config, (unsigned)m->placement.n_shards, &setup->broker);
    int rc = egress_fill(config, m, &setup->broker);
    if (rc == 0)
        rc = nodes_fill(config, &m->placement, &setup->broker);
    if (rc == 0) {
        setup->ready_host = setup->broker.nodes[0].host;
        setup->ready_port = setup->broker.nodes[0].port;
        rc = serve_with_dirs(config, m, setup);
    }
    free(setup);
    return rc;
}

static int serve(const struct serve_config *config)
{
    logger_level = (enum log_level)config->log_level;
    for (unsigned i = 0; i < config->warnings_n; i++)
        log_warn("%s", config->warnings[i]);
    limit_raise(RLIMIT_NOFILE, FILES_WANTED);
    limit_raise(RLIMIT_MEMLOCK, RLIM_INFINITY);
    signal(SIGPIPE, SIG_IGN);
    struct machine m = {0};
    if (machine_open(config, &m) < 0)
        return 1;
    int rc = serve_on(config, &m);
    machine_close(&m);
    return rc < 0 ? 1 : rc;
}

int cmd_serve(int argc, char **argv)
{
    struct serve_config config;
    int rc = serve_config_parse(argc, argv, &config, stderr, stdout);
    if (rc != 0)
        return rc < 0 ? 0 : rc; /* -1: help was asked for */
    int exit_code = serve(&config);
    serve_config_fini(&config);
    return exit_code;
}
