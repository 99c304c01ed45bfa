/* config_private.h: what config.c (order of sources, values), config_keys.c (the tables, help) and
 * config_listen.c (addresses), config_show.c (what clients are shown) share. */
#ifndef TOOLS_CONFIG_PRIVATE_H
#define TOOLS_CONFIG_PRIVATE_H

#include "tools/config.h"

enum config_type {
    CONFIG_NUMBER, /* int64_t */
    CONFIG_SIZE,   /* int64_t; takes k, m, g, t */
    CONFIG_BOOL,   /* bool */
    CONFIG_WORD,   /* int: index into values */
    CONFIG_TEXT,   /* const char *; empty or unset: NULL */
};

struct config_key {
    const char *name;
    bool is_kafkas;
    enum config_type type;
    size_t offset; /* into struct serve_config */
    const char *default_value;
    int64_t min, max;
    const char *values; /* of a word: "a|b" */
    const char *doc;
};

struct config_flag { /* --name VALUE is key=prefixVALUE */
    const char *name, *metavar, *key, *prefix, *doc;
    bool adds; /* given again, it adds to the list */
};

extern const struct config_key config_keys[];
extern const unsigned config_keys_count;
extern const struct config_flag config_flags[];
extern const unsigned config_flags_count;

/* Index into config_keys, or -1. */
int config_key_find(const char *name);
/* Kafka has it, and it has no meaning here. */
bool config_is_ignored(const char *name);
/* Why a key of Kafka's cannot be ignored: what it asks for is not there. NULL: it is none of those.
 */
const char *config_refused(const char *name);
/* The known key that is meant most likely, or NULL. */
const char *config_suggest(const char *name);
void config_help(FILE *out);

struct config_setting {
    const char *value; /* NULL: not set */
    const char *where; /* "FILE:LINE", "-o", "--flag" */
};
struct config_parse {
    struct serve_config *c;
    FILE *err;
    struct config_setting *settings; /* by index into config_keys */
    struct config_setting topic_settings[CONFIG_TOPIC_KEYS_MAX];
    const char *ignored; /* names so far, with commas */
    bool no_memory;
};

/* The line on err. Returns 1. */
int config_bad(struct config_parse *p, const struct config_setting *s, const char *key,
               const char *reason);
bool config_size_parse(const char *text, int64_t *ret);
/* What clients are shown, from all the rest. */
void config_show(struct config_parse *p);
/* From raw: listen_* and advertised_*. 0 or 1. */
int config_listen(struct config_parse *p);
void config_warn(struct config_parse *p, const char *text);
/* Cuts off the first element of a list with commas and trims it; false: none is left. */
bool config_list_next(struct config_parse *p, const char **list, const char **ret_element);

#endif
