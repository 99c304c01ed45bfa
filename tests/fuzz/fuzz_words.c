/* fuzz_words.c: small things that are read out of text, from files, requests and command lines.
 * Input: one byte that says what (modulo the table), then the text. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bench/agents_link.h"
#include "core/base/assert.h"
#include "core/base/bytes.h"
#include "core/base/properties.h"
#include "core/meta/meta.h"
#include "numa/topo.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes);

static void word_cpulist(char *text)
{
    struct topo *topo;
    ASSERT(topo_from_synthetic("pack:2 numa:1 core:2 pu:2", &topo) == 0);
    int rc = topo_restrict(topo, text);
    ASSERT(rc == 0 || rc == -EINVAL || rc == -ENOENT);
    ASSERT((rc == 0 ? topo_allowed_cores(topo) > 0 : topo_allowed_cores(topo) == 4));
    topo_destroy(topo);
}

static void word_address(char *text)
{
    char host[AGENTS_HOST_BYTES];
    uint16_t port;
    int rc = agents_address_parse(text, host, &port);
    ASSERT(rc == -EINVAL || (rc == 0 && host[0] != '\0' && strlen(host) < strlen(text)));
}

static void word_uuid(char *text)
{
    struct meta_uuid id;
    char back[23];
    if (meta_uuid_parse(text, &id) != 0)
        return;
    meta_uuid_text(&id, back);
    ASSERT(strcmp(back, text) == 0);
}

static void word_topic_name(char *text)
{
    size_t len = strlen(text);
    if (meta_topic_name_check(text, len) != 0)
        return;
    ASSERT(len > 0 && len <= META_TOPIC_NAME_MAX);
    ASSERT(strchr(text, '/') == NULL && strcmp(text, ".") != 0 && strcmp(text, "..") != 0);
}

static void word_topic_config(char *text)
{
    struct topic_config config;
    struct topic_config_fault fault = {{0}, {0}};
    char *value = strchr(text, '=');
    if (value == NULL)
        return;
    *value++ = '\0';
    topic_config_defaults(&config);
    int rc = topic_config_set(&config, text, value, &fault);
    ASSERT(rc == 0 || rc == -ENOENT || (rc == -EINVAL && fault.says[0] != '\0'));
    ASSERT(config.segment_bytes > 0 && config.segment_bytes <= INT32_MAX);
    ASSERT(config.index_interval_bytes >= 0 && config.max_message_bytes >= 0);
}

static int on_pair(void *arg, unsigned line, const char *key, const char *value)
{
    size_t *left = arg;
    size_t len = strlen(key) + strlen(value);
    ASSERT(line > 0 && len <= *left); /* nothing is said that was not there */
    *left -= len;
    return 0;
}

static void word_properties(char *text)
{
    unsigned line = 0;
    const char *reason = NULL;
    size_t left = strlen(text);
    int rc = properties_parse(text, left, on_pair, &left, &line, &reason);
    ASSERT(rc == 0 || (rc == -EINVAL && line > 0 && reason != NULL));
}

static void (*const words[])(char *text) = {
    word_cpulist, word_address, word_uuid, word_topic_name, word_topic_config, word_properties,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes)
{
    if (len_bytes == 0)
        return 0;
    char *text = malloc(len_bytes); /* exactly, so that every byte read beyond shows */
    ASSERT(text != NULL);
    memcpy(text, data + 1, len_bytes - 1);
    text[len_bytes - 1] = '\0';
    words[data[0] % ARRAY_LEN(words)](text);
    free(text);
    return 0;
}
