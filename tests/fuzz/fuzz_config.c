/* fuzz_config.c: whatever `penstock serve` is told, by a config file and on its command line.
 * Input: a file and arguments, as text.h has them.
 * Holds: what is refused is said in whole lines; what is taken is within what the rest relies on.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/assert.h"
#include "tests/fuzz/text.h"
#include "tools/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes);

static void check(const struct serve_config *c)
{
    ASSERT(c->data_dirs_n >= 1 && c->data_dirs_n <= META_DIRS_MAX);
    for (unsigned i = 0; i < c->data_dirs_n; i++)
        ASSERT(c->data_dirs[i][0] != '\0');
    ASSERT(c->journal_bytes > 0 && c->direct_min_bytes > 0);
    ASSERT(c->pool_max_percent >= 0 && c->pool_max_percent <= 100);
    ASSERT(c->listen_host != NULL && c->advertised_host != NULL && c->listen_port != 0);
    ASSERT(c->shards >= 0 && c->memory_bytes >= 0 && c->node_id >= 0);
    ASSERT(c->num_partitions >= 1 && c->num_partitions <= META_PARTITIONS_MAX);
    ASSERT(c->socket_request_max_bytes > 0 && c->fetch_max_bytes > 0);
    ASSERT(c->topic_defaults.segment_bytes > 0 && c->topic_defaults.segment_bytes <= INT32_MAX);
    ASSERT(c->topic_defaults.max_message_bytes >= 0);
    ASSERT(c->warnings_n <= CONFIG_WARNINGS_MAX);
    for (unsigned i = 0; i < c->warnings_n; i++)
        ASSERT(strchr(c->warnings[i], '\n') == NULL || c->warnings[i][0] != '\0');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes)
{
    struct text_args a;
    struct serve_config config;
    char *said = NULL, *help = NULL;
    size_t said_len = 0, help_len = 0;
    text_args_init(&a, "serve", data, len_bytes);
    if (a.file_bytes > 0) {
        a.argv[a.argc++] = "--config";
        a.argv[a.argc++] = (char *)text_file(data, a.file_bytes);
    }
    FILE *err = open_memstream(&said, &said_len), *out = open_memstream(&help, &help_len);
    ASSERT(err != NULL && out != NULL);
    int rc = serve_config_parse(a.argc, a.argv, &config, err, out);
    fclose(err);
    fclose(out);
    ASSERT(rc >= -1 && rc <= 2);
    ASSERT((rc > 0) == (said_len > 0) && (rc == -1) == (help_len > 0));
    ASSERT(said_len == 0 || said[said_len - 1] == '\n');
    if (rc == 0) {
        check(&config);
        serve_config_fini(&config);
    }
    free(said);
    free(help);
    text_args_fini(&a);
    return 0;
}
