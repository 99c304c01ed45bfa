#include "bench/agents.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CONNECT_MS = 5000, HELLO_MS = 10000 };

static int refused(const struct agent_peer *p, const struct agents_message *m, char *reason,
                   size_t reason_size)
{
    char why[AGENTS_TEXT_BYTES];
    if (agents_decode_text(m, why) < 0)
        snprintf(why, sizeof(why), "?");
    snprintf(reason, reason_size, "agent %s refuses: %s", p->name, why);
    return -EBUSY;
}

static int hello_take(struct agent_peer *p, const struct agents_message *m, char *reason,
                      size_t reason_size)
{
    struct agents_hello hello;
    if (m->kind == AGENTS_REFUSED)
        return refused(p, m, reason, reason_size);
    if (m->kind != AGENTS_HELLO || agents_decode_hello(m, &hello) < 0 ||
        hello.magic != AGENTS_MAGIC) {
        snprintf(reason, reason_size, "%s is no penstock bench agent", p->name);
        return -EPROTO;
    }
    if (hello.version != AGENTS_VERSION) {
        snprintf(reason, reason_size,
                 "agent %s speaks version %u of the agents' protocol, this is version %d", p->name,
                 hello.version, AGENTS_VERSION);
        return -EPROTO;
    }
    memcpy(p->machine, hello.machine, sizeof(p->machine));
    return 0;
}

static int peer_greet(struct agent_peer *p, char *reason, size_t reason_size)
{
    struct agents_message m;
    agents_encode_hello(&p->link.out, "");
    int rc = agents_link_send(&p->link);
    if (rc == 0)
        rc = agents_link_await(&p->link, HELLO_MS, &m);
    if (rc > 0)
        return hello_take(p, &m, reason, reason_size);
    if (rc == 0)
        rc = -ETIMEDOUT;
    snprintf(reason, reason_size, "agent %s does not greet, is it penstock bench agent? (%s)",
             p->name, agents_link_why(rc));
    return rc;
}

static int peer_connect(struct agent_peer *p, char *reason, size_t reason_size)
{
    int rc = agents_link_connect(&p->link, p->name, CONNECT_MS);
    if (rc < 0) {
        p->link.fd = -1;
        snprintf(reason, reason_size, "agent %s: %s", p->name, agents_link_why(rc));
        return rc;
    }
    rc = peer_greet(p, reason, reason_size);
    if (rc < 0)
        agents_link_close(&p->link);
    return rc;
}

int agents_connect(struct agents *a, char *reason, size_t reason_size)
{
    int rc = 0;
    for (unsigned i = 0; rc == 0 && i < a->n; i++)
        if (a->peers[i].link.fd < 0)
            rc = peer_connect(&a->peers[i], reason, reason_size);
    return rc;
}

static int names_take(struct agents *a, char *list)
{
    char *at = list, *name;
    while ((name = strsep(&at, ",")) != NULL) {
        if (a->n == AGENTS_MAX)
            return -E2BIG;
        char *copy = strdup(name);
        if (copy == NULL)
            return -ENOMEM;
        a->peers[a->n++] = (struct agent_peer){.name = copy, .link = {.fd = -1}};
    }
    return 0;
}

int agents_open(const char *list, struct agents **ret, char *reason, size_t reason_size)
{
    struct agents *a = calloc(1, sizeof(*a));
    char *copy = strdup(list);
    if (a != NULL)
        a->peers = calloc(AGENTS_MAX, sizeof(*a->peers));
    int rc = a == NULL || copy == NULL || a->peers == NULL ? -ENOMEM : names_take(a, copy);
    free(copy);
    if (rc < 0)
        snprintf(reason, reason_size, "--agents: %s (%d at most)", strerror(-rc), AGENTS_MAX);
    else
        rc = agents_connect(a, reason, reason_size);
    if (rc < 0)
        agents_close(a);
    else
        *ret = a;
    return rc;
}

void agents_close(struct agents *a)
{
    if (a == NULL)
        return;
    for (unsigned i = 0; i < a->n; i++) {
        agents_link_close(&a->peers[i].link);
        free(a->peers[i].name);
    }
    free(a->peers);
    free(a);
}

unsigned agents_count(const struct agents *a)
{
    return a->n;
}
