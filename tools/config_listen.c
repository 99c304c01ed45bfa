/* listeners and advertised.listeners: Kafka's way to say addresses, cut down to one of PLAINTEXT.
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "core/base/bytes.h"
#include "tools/config_private.h"

#define HOST_LEN_MAX 255u

struct listener {
    const char *name;
    const char *host; /* "" none */
    uint16_t port;
};

static const char *const protocols[] = {"PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"};

/* The protocol behind a listener's name: from the map, or the name itself. NULL: unknown. */
static const char *protocol_of(struct config_parse *p, const char *name)
{
    const char *list = p->c->raw.protocol_map == NULL ? "" : p->c->raw.protocol_map, *entry;
    size_t len = strlen(name);
    const char *found = name;
    while (config_list_next(p, &list, &entry))
        if (strncasecmp(entry, name, len) == 0 && entry[len] == ':')
            found = entry + len + 1;
    for (unsigned i = 0; i < ARRAY_LEN(protocols); i++)
        if (strcasecmp(found, protocols[i]) == 0)
            return protocols[i];
    return NULL;
}

static bool is_controllers(struct config_parse *p, const char *name)
{
    const char *list = p->c->raw.controller_names == NULL ? "" : p->c->raw.controller_names, *one;
    while (config_list_next(p, &list, &one))
        if (strcasecmp(one, name) == 0)
            return true;
    return false;
}

/* HOST:PORT, HOST possibly empty or [IPv6]. NULL, or what is wrong. */
static const char *address_parse(struct config_parse *p, const char *text, const char **ret_host,
                                 uint16_t *ret_port)
{
    const char *host = text, *colon = strrchr(host, ':');
    if (colon == NULL)
        return "must end in :PORT";
    size_t host_len = (size_t)(colon - host);
    if (host_len >= 2 && host[0] == '[' && colon[-1] == ']') {
        host++;
        host_len -= 2;
    } else if (memchr(host, ':', host_len) != NULL) {
        return "an IPv6 address must stand in [brackets]";
    }
    char *end;
    unsigned long port = strtoul(colon + 1, &end, 10);
    if (colon[1] < '0' || colon[1] > '9' || *end != '\0' || port < 1 || port > UINT16_MAX)
        return "the port must be from 1 to 65535";
    if (host_len > HOST_LEN_MAX || strcspn(host, " \t/[]@") < host_len)
        return "the host is not a name or an address";
    *ret_host = arena_printf(&p->c->arena, "%.*s", (int)host_len, host);
    *ret_port = (uint16_t)port;
    p->no_memory |= *ret_host == NULL;
    return p->no_memory ? "out of memory" : NULL;
}

/* NAME://HOST:PORT. NULL, or what is wrong. */
static const char *listener_parse(struct config_parse *p, const char *text, struct listener *ret)
{
    const char *scheme_end = strstr(text, "://");
    if (scheme_end == NULL || scheme_end == text || strrchr(scheme_end + 3, ':') == NULL)
        return "must have the form PLAINTEXT://HOST:PORT";
    const char *reason = address_parse(p, scheme_end + 3, &ret->host, &ret->port);
    if (reason != NULL)
        return reason;
    ret->name = arena_printf(&p->c->arena, "%.*s", (int)(scheme_end - text), text);
    p->no_memory |= ret->name == NULL;
    return p->no_memory ? "out of memory" : NULL;
}

static void warn_left_out(struct config_parse *p, const char *key, const char *text)
{
    const char *line = arena_printf(&p->c->arena,
                                    "ignored: %s of %s: there is no separate"
                                    " controller",
                                    text, key);
    p->no_memory |= line == NULL;
    if (line != NULL)
        config_warn(p, line);
}

/* The one listener that is not a controller's. */
static int listeners_parse(struct config_parse *p, const char *key, const char *list,
                           struct listener *ret)
{
    const struct config_setting *set = &p->settings[config_key_find(key)];
    struct config_setting s = {list, set->value == NULL ? "default" : set->where};
    const char *text, *reason;
    unsigned found = 0;
    while (config_list_next(p, &list, &text)) {
        struct listener l;
        reason = listener_parse(p, text, &l);
        if (reason != NULL)
            return config_bad(p, &s, key, reason);
        if (is_controllers(p, l.name)) {
            warn_left_out(p, key, text);
            continue;
        }
        const char *protocol = protocol_of(p, l.name);
        if (protocol == NULL)
            return config_bad(p, &s, key,
                              "listener.security.protocol.map does not give the"
                              " protocol of this listener");
        if (strcmp(protocol, "PLAINTEXT") != 0)
            return config_bad(p, &s, key, "only PLAINTEXT is possible: TLS and SASL are not there");
        if (found++ > 0)
            return config_bad(p, &s, key, "only one listener is possible");
        *ret = l;
    }
    return found > 0 ? 0 : config_bad(p, &s, key, "names no listener for clients");
}

static bool is_wildcard(const char *host)
{
    return *host == '\0' || strcmp(host, "0.0.0.0") == 0 || strcmp(host, "::") == 0;
}

/* Of a listener on all addresses: this machine's name, as Kafka does. */
static const char *own_name(struct config_parse *p)
{
    char name[HOST_LEN_MAX + 1] = "";
    if (gethostname(name, sizeof(name) - 1) != 0 || name[0] == '\0')
        return "localhost";
    const char *copy = arena_strdup(&p->c->arena, name);
    p->no_memory |= copy == NULL;
    return copy;
}

static int advertised_host_check(struct config_parse *p)
{
    struct serve_config *c = p->c;
    const struct config_setting *s = &p->settings[config_key_find("advertised.host")];
    const char *host = c->raw.advertised_host;
    if (host == NULL)
        return 0;
    if (is_wildcard(host))
        return config_bad(p, s, "advertised.host", "clients cannot connect to this address");
    if (strlen(host) > HOST_LEN_MAX || strcspn(host, " \t/[]@,") < strlen(host))
        return config_bad(p, s, "advertised.host", "is not a name or an address");
    c->advertised_host = host;
    return 0;
}

/* Each node has a port of its own, one behind the other. How many nodes there will be is known here
 * only when the shards are given. */
static int ports_check(struct config_parse *p)
{
    const struct serve_config *c = p->c;
    const struct config_setting *s = &p->settings[config_key_find("shards")];
    int64_t most = UINT16_MAX + 1 - (int64_t)MAX(c->listen_port, c->advertised_port);
    if (c->advertise == ADVERTISE_SHARD && c->shards > most)
        return config_bad(p, s, "shards", "the listener's port leaves too few for all shards");
    return 0;
}

/* Who asks for no address gets one that only this machine reaches. */
static int metrics_listen_parse(struct config_parse *p)
{
    struct serve_config *c = p->c;
    const char *text = c->raw.metrics_listen, *reason;
    if (text == NULL)
        return 0;
    if (text[strspn(text, "0123456789")] == '\0')
        text = arena_printf(&c->arena, ":%s", text);
    reason =
        text == NULL ? "out of memory" : address_parse(p, text, &c->metrics_host, &c->metrics_port);
    if (reason != NULL)
        return config_bad(p, &p->settings[config_key_find("metrics.listen")], "metrics.listen",
                          reason);
    if (*c->metrics_host == '\0')
        c->metrics_host = "127.0.0.1";
    return 0;
}

int config_listen(struct config_parse *p)
{
    struct serve_config *c = p->c;
    struct listener listen = {0}, advertised;
    const char *list = c->raw.listeners == NULL ? "" : c->raw.listeners;
    int rc = listeners_parse(p, "listeners", list, &listen);
    if (rc != 0)
        return rc;
    c->listen_host = *listen.host == '\0' ? "0.0.0.0" : listen.host;
    c->listen_port = listen.port;
    advertised = listen;
    if (c->raw.advertised_listeners != NULL) {
        const char *key = "advertised.listeners";
        rc = listeners_parse(p, key, c->raw.advertised_listeners, &advertised);
        if (rc != 0)
            return rc;
        if (is_wildcard(advertised.host))
            return config_bad(p, &p->settings[config_key_find(key)], key,
                              "clients cannot connect to this address");
    }
    c->advertised_port = advertised.port;
    c->advertised_host = is_wildcard(advertised.host) ? own_name(p) : advertised.host;
    rc = metrics_listen_parse(p);
    if (rc == 0)
        rc = advertised_host_check(p);
    return rc != 0 ? rc : ports_check(p);
}
