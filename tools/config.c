#include "tools/config.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/base/assert.h"
#include "core/base/bytes.h"
#include "core/base/properties.h"
#include "tools/config_private.h"

#define FILE_BYTES_MAX (1u << 20)
#define ARENA_BYTES_MAX (64u << 20)
#define BAD 1
#define USAGE 2
#define MINUTE_MS INT64_C(60000)
#define HOUR_MS (60 * MINUTE_MS)

int config_bad(struct config_parse *p, const struct config_setting *s, const char *key,
               const char *reason)
{
    fprintf(p->err, "penstock serve: %s: %s=%s: %s\n", s->where, key, s->value, reason);
    return BAD;
}

static int bad_memory(struct config_parse *p)
{
    fprintf(p->err, "penstock serve: out of memory\n");
    return BAD;
}

static const char *keep(struct config_parse *p, const char *text)
{
    const char *copy = arena_strdup(&p->c->arena, text);
    p->no_memory |= copy == NULL;
    return copy == NULL ? "" : copy;
}

/* Without the blanks around it, as Kafka trims every value. */
static const char *keep_trimmed(struct config_parse *p, const char *text, size_t len)
{
    while (len > 0 && (unsigned char)text[0] <= ' ') {
        text++;
        len--;
    }
    while (len > 0 && (unsigned char)text[len - 1] <= ' ')
        len--;
    char *copy = arena_alloc(&p->c->arena, len + 1);
    p->no_memory |= copy == NULL;
    if (copy == NULL)
        return "";
    memcpy(copy, text, len);
    return copy;
}

void config_warn(struct config_parse *p, const char *text)
{
    if (p->c->warnings_n < CONFIG_WARNINGS_MAX)
        p->c->warnings[p->c->warnings_n++] = keep(p, text);
}

bool config_list_next(struct config_parse *p, const char **list, const char **ret_element)
{
    if (**list == '\0')
        return false;
    size_t len = strcspn(*list, ",");
    *ret_element = keep_trimmed(p, *list, len);
    *list += len + ((*list)[len] == ',');
    return true;
}

/* ---- one key from one place ---- */

static int key_ignore(struct config_parse *p, const char *key)
{
    const char *before = p->ignored == NULL ? "" : p->ignored;
    char *all = arena_printf(&p->c->arena, "%s%s%s", before, *before == '\0' ? "" : ", ", key);
    p->no_memory |= all == NULL;
    p->ignored = all;
    return 0;
}

static int key_unknown(struct config_parse *p, const char *where, const char *key)
{
    const char *likely = config_suggest(key);
    fprintf(p->err, "penstock serve: %s: unknown key %s", where, key);
    if (likely != NULL)
        fprintf(p->err, "; did you mean %s?", likely);
    fprintf(p->err, "\n");
    return BAD;
}

static int key_set(struct config_parse *p, const char *where, const char *key, const char *value)
{
    struct config_setting s = {keep_trimmed(p, value, strlen(value)), keep(p, where)};
    int index = config_key_find(key);
    if (index >= 0) {
        p->settings[index] = s;
        return 0;
    }
    const struct topic_config_key *topic_key = topic_config_find_server(key);
    if (topic_key != NULL) {
        p->topic_settings[topic_key - topic_config_keys] = s;
        return 0;
    }
    const char *refused = config_refused(key);
    if (refused != NULL && *s.value != '\0')
        return config_bad(p, &s, key, refused);
    return refused != NULL || config_is_ignored(key) ? key_ignore(p, key)
                                                     : key_unknown(p, where, key);
}

/* ---- sources ---- */

struct file_source {
    struct config_parse *p;
    const char *path;
};

static int on_file_pair(void *arg, unsigned line, const char *key, const char *value)
{
    struct file_source *f = arg;
    char where[4200];
    snprintf(where, sizeof(where), "%s:%u", f->path, line);
    return key_set(f->p, where, key, value);
}

/* Whole file into the heap; -errno. */
static int file_read(const char *path, char **ret_text, size_t *ret_len)
{
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return -errno;
    char *text = malloc(FILE_BYTES_MAX + 1);
    size_t len = text == NULL ? 0 : fread(text, 1, FILE_BYTES_MAX + 1, file);
    int rc = text == NULL ? -ENOMEM : len > FILE_BYTES_MAX ? -EFBIG : 0;
    if (rc == 0 && ferror(file))
        rc = errno == 0 ? -EIO : -errno;
    fclose(file);
    if (rc != 0) {
        free(text);
        return rc;
    }
    *ret_text = text;
    *ret_len = len;
    return 0;
}

static int file_set(struct config_parse *p, const char *path)
{
    struct file_source source = {p, path};
    const char *reason = "";
    char *text = NULL;
    size_t len = 0;
    unsigned line = 0;
    int rc = file_read(path, &text, &len);
    if (rc != 0) {
        fprintf(p->err, "penstock serve: cannot read %s: %s\n", path, strerror(-rc));
        return BAD;
    }
    rc = properties_parse(text, len, on_file_pair, &source, &line, &reason);
    free(text);
    if (rc == -EINVAL)
        fprintf(p->err, "penstock serve: %s:%u: %s\n", path, line, reason);
    if (rc == -ENOMEM)
        return bad_memory(p);
    return rc == 0 ? 0 : BAD;
}

struct arguments {
    int argc;
    char **argv;
    int at; /* next one */
};

static int usage(struct config_parse *p, const char *what, const char *arg)
{
    fprintf(p->err, "penstock serve: %s %s; see penstock serve --help\n", what, arg);
    return USAGE;
}

/* Is the next argument this option? Takes it, and its value: behind '=' (of a short option: stuck
 * to it) or the argument after it. NULL value: missing. */
static bool option_take(struct arguments *a, const char *name, const char **ret_value)
{
    const char *arg = a->argv[a->at];
    size_t len = strlen(name);
    bool is_long = name[1] == '-';
    if (strncmp(arg, name, len) != 0 || (is_long && arg[len] != '\0' && arg[len] != '='))
        return false;
    a->at++;
    if (arg[len] != '\0')
        *ret_value = arg + len + is_long;
    else
        *ret_value = a->at < a->argc ? a->argv[a->at++] : NULL;
    return true;
}

static int override_set(struct config_parse *p, const char *pair)
{
    char key[256];
    size_t len = strcspn(pair, "=");
    if (pair[len] == '\0' || len == 0 || len >= sizeof(key))
        return usage(p, "not KEY=VALUE:", pair);
    memcpy(key, pair, len);
    key[len] = '\0';
    return key_set(p, "-o", key, pair + len + 1);
}

static int flag_set(struct config_parse *p, const struct config_flag *f, const char *value)
{
    const struct config_setting *before = &p->settings[config_key_find(f->key)];
    bool adds = f->adds && before->value != NULL && strcmp(before->where, f->name) == 0;
    const char *text = adds ? arena_printf(&p->c->arena, "%s,%s", before->value, value)
                            : arena_printf(&p->c->arena, "%s%s", f->prefix, value);
    if (text == NULL)
        return bad_memory(p);
    return key_set(p, f->name, f->key, text);
}

/* One pass over the arguments for each rank: files, then -o, then flags. */
enum rank { RANK_FILE, RANK_OVERRIDE, RANK_FLAG, RANKS };

static int argument_set(struct config_parse *p, struct arguments *a, enum rank rank)
{
    const char *arg = a->argv[a->at], *value;
    if (option_take(a, "--config", &value)) {
        if (value == NULL)
            return usage(p, "missing value of", arg);
        return rank == RANK_FILE ? file_set(p, value) : 0;
    }
    for (unsigned i = 0; i < config_flags_count; i++) {
        if (!option_take(a, config_flags[i].name, &value))
            continue;
        if (value == NULL)
            return usage(p, "missing value of", arg);
        return rank == RANK_FLAG ? flag_set(p, &config_flags[i], value) : 0;
    }
    if (option_take(a, "-o", &value)) {
        if (value == NULL)
            return usage(p, "missing value of", arg);
        return rank == RANK_OVERRIDE ? override_set(p, value) : 0;
    }
    return usage(p, arg[0] == '-' ? "unknown option" : "unexpected argument", arg);
}

static bool help_wanted(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            return true;
    return false;
}

static int arguments_set(struct config_parse *p, int argc, char **argv)
{
    for (enum rank rank = 0; rank < RANKS; rank++) {
        struct arguments a = {argc, argv, 1};
        while (a.at < argc) {
            int rc = argument_set(p, &a, rank);
            if (rc != 0)
                return rc;
        }
    }
    return 0;
}

/* ---- values ---- */

/* "64", "64k", "64KiB", "64kb": all powers of 1024. False: not a size, or too large. */
bool config_size_parse(const char *text, int64_t *ret)
{
    static const char units[] = "kmgt";
    char *end;
    errno = 0;
    long long v = strtoll(text, &end, 10);
    if (errno != 0 || end == text)
        return false;
    if (*end != '\0') {
        const char *unit = strchr(units, *end | 0x20);
        unsigned shift = unit == NULL ? 0 : (unsigned)(unit - units + 1) * 10;
        end += unit != NULL;
        if (strcasecmp(end, "ib") == 0 && unit != NULL)
            end += 2;
        else if (strcasecmp(end, "b") == 0)
            end += 1;
        if (*end != '\0' || v > INT64_MAX >> shift || v < INT64_MIN >> shift)
            return false;
        v *= INT64_C(1) << shift;
    }
    *ret = v;
    return true;
}

static bool number_parse(const char *text, int64_t *ret)
{
    char *end;
    errno = 0;
    long long v = strtoll(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0')
        return false;
    *ret = v;
    return true;
}

static int value_number(struct config_parse *p, const struct config_key *k,
                        const struct config_setting *s, void *field)
{
    char reason[160];
    bool is_size = k->type == CONFIG_SIZE;
    int64_t v = 0;
    if ((is_size ? config_size_parse : number_parse)(s->value, &v) && v >= k->min && v <= k->max) {
        *(int64_t *)field = v;
        return 0;
    }
    if (k->min == INT64_MIN)
        snprintf(reason, sizeof(reason), "must be a whole number");
    else
        snprintf(reason, sizeof(reason), "must be a %s from %" PRId64 " to %" PRId64 "%s",
                 is_size ? "size" : "whole number", k->min, k->max,
                 is_size ? " bytes (k, m, g and t are understood)" : "");
    return config_bad(p, s, k->name, reason);
}

static int value_bool(struct config_parse *p, const struct config_key *k,
                      const struct config_setting *s, void *field)
{
    bool is_true = strcasecmp(s->value, "true") == 0;
    if (!is_true && strcasecmp(s->value, "false") != 0)
        return config_bad(p, s, k->name, "must be true or false");
    *(bool *)field = is_true;
    return 0;
}

static int value_word(struct config_parse *p, const struct config_key *k,
                      const struct config_setting *s, void *field)
{
    char reason[160];
    const char *words = k->values;
    for (int i = 0;; i++) {
        size_t len = strcspn(words, "|");
        if (strlen(s->value) == len && strncasecmp(words, s->value, len) == 0) {
            *(int *)field = i;
            return 0;
        }
        if (words[len] == '\0')
            break;
        words += len + 1;
    }
    snprintf(reason, sizeof(reason), "must be one of %s", k->values);
    return config_bad(p, s, k->name, reason);
}

static int value_text(struct config_parse *p, const struct config_key *k,
                      const struct config_setting *s, void *field)
{
    (void)p;
    (void)k;
    *(const char **)field = *s->value == '\0' ? NULL : s->value;
    return 0;
}

typedef int (*value_fn)(struct config_parse *, const struct config_key *,
                        const struct config_setting *, void *field);
static const value_fn values[] = {
    [CONFIG_NUMBER] = value_number, [CONFIG_SIZE] = value_number, [CONFIG_BOOL] = value_bool,
    [CONFIG_WORD] = value_word,     [CONFIG_TEXT] = value_text,
};

static int values_parse(struct config_parse *p)
{
    for (unsigned i = 0; i < config_keys_count; i++) {
        const struct config_key *k = &config_keys[i];
        struct config_setting s = p->settings[i];
        if (s.value == NULL)
            s = (struct config_setting){k->default_value, "default"};
        if (p->settings[i].value == NULL && k->type == CONFIG_NUMBER && *s.value == '\0')
            continue; /* a number without a default: only looked at when it is set */
        int rc = values[k->type](p, k, &s, (char *)p->c + k->offset);
        if (rc != 0)
            return rc;
    }
    return 0;
}

/* ---- topic defaults ---- */

static bool ends_in(const char *text, const char *tail)
{
    size_t len = strlen(text), tail_len = strlen(tail);
    return len >= tail_len && strcmp(text + len - tail_len, tail) == 0;
}

static int topic_default_set(struct config_parse *p, unsigned index)
{
    const struct topic_config_key *k = &topic_config_keys[index];
    const struct config_setting *s = &p->topic_settings[index];
    struct topic_config_fault fault;
    const char *value = s->value;
    int64_t size;
    if (ends_in(k->server_name, ".bytes") && config_size_parse(value, &size)) {
        char text[24];
        snprintf(text, sizeof(text), "%" PRId64, size);
        value = keep(p, text);
    }
    if (topic_config_set(&p->c->topic_defaults, k->name, value, &fault) != 0)
        return config_bad(p, s, k->server_name, fault.says);
    p->c->topic_values[index] = value;
    return 0;
}

static bool is_set(const struct config_parse *p, const char *key)
{
    return p->settings[config_key_find(key)].value != NULL;
}

/* The milliseconds of topic_name from a coarser key, unless they are set themselves. */
static void topic_default_derive(struct config_parse *p, const char *topic_name, const char *key,
                                 int64_t value, int64_t unit_ms)
{
    unsigned index = (unsigned)(topic_config_find(topic_name) - topic_config_keys);
    char text[24];
    if (p->topic_settings[index].value != NULL || !is_set(p, key))
        return;
    snprintf(text, sizeof(text), "%" PRId64, value < 0 ? -1 : value * unit_ms);
    p->topic_settings[index] =
        (struct config_setting){keep(p, text), p->settings[config_key_find(key)].where};
}

static int topic_defaults_parse(struct config_parse *p)
{
    struct serve_config *c = p->c;
    topic_config_defaults(&c->topic_defaults);
    topic_default_derive(p, "retention.ms", "log.retention.minutes", c->raw.retention_minutes,
                         MINUTE_MS);
    topic_default_derive(p, "retention.ms", "log.retention.hours", c->raw.retention_hours, HOUR_MS);
    topic_default_derive(p, "segment.ms", "log.roll.hours", c->raw.roll_hours, HOUR_MS);
    topic_default_derive(p, "segment.jitter.ms", "log.roll.jitter.hours", c->raw.jitter_hours,
                         HOUR_MS);
    for (unsigned i = 0; i < topic_config_keys_count; i++) {
        int rc = p->topic_settings[i].value == NULL ? 0 : topic_default_set(p, i);
        if (rc != 0)
            return rc;
    }
    return 0;
}

/* ---- what follows from several keys ---- */

static const struct config_setting *setting_of(struct config_parse *p, const char *key)
{
    static const struct config_setting unset = {"", "default"};
    const struct config_setting *s = &p->settings[config_key_find(key)];
    return s->value == NULL ? &unset : s;
}

static int dirs_derive(struct config_parse *p)
{
    struct serve_config *c = p->c;
    const char *key = c->raw.log_dirs != NULL ? "log.dirs" : "log.dir";
    const char *list = c->raw.log_dirs != NULL ? c->raw.log_dirs : c->raw.log_dir;
    const struct config_setting *s = setting_of(p, key);
    const char *dir;
    if (list == NULL)
        return config_bad(p, s, key, "must name a directory");
    if (ends_in(list, ","))
        return config_bad(p, s, key, "has an empty element");
    while (config_list_next(p, &list, &dir)) {
        if (*dir == '\0')
            return config_bad(p, s, key, "has an empty element");
        for (unsigned i = 0; i < c->data_dirs_n; i++)
            if (strcmp(c->data_dirs[i], dir) == 0)
                return config_bad(p, s, key, "names the same directory twice");
        if (c->data_dirs_n == META_DIRS_MAX)
            return config_bad(p, s, key, "names too many directories");
        c->data_dirs[c->data_dirs_n++] = dir;
    }
    return 0;
}

static int ids_derive(struct config_parse *p)
{
    struct serve_config *c = p->c;
    const char *key = "node.id";
    if (c->node_id < 0) { /* -1 is Kafka's "not set", of both names */
        c->node_id = MAX(c->raw.broker_id, INT64_C(0));
        key = "broker.id";
    }
    if (c->node_id > INT32_MAX - BROKER_SHARDS_MAX)
        return config_bad(p, setting_of(p, key), key, "leaves no ids for the shards behind it");
    return 0;
}

/* Numbers and ranges with commas, as the kernel writes CPU lists. */
static bool cpu_list_ok(const char *at)
{
    for (;;) {
        char *end;
        if (*at < '0' || *at > '9')
            return false;
        unsigned long first = strtoul(at, &end, 10), last = first;
        if (*end == '-') {
            at = end + 1;
            if (*at < '0' || *at > '9')
                return false;
            last = strtoul(at, &end, 10);
        }
        if (first > last || last > 65535 || (*end != ',' && *end != '\0'))
            return false;
        if (*end == '\0')
            return true;
        at = end + 1;
    }
}

static int all_derive(struct config_parse *p)
{
    if (p->c->cpus != NULL && !cpu_list_ok(p->c->cpus))
        return config_bad(p, setting_of(p, "cpus"), "cpus", "must be a list such as 0-3,8");
    int rc = topic_defaults_parse(p);
    if (rc == 0)
        rc = dirs_derive(p);
    if (rc == 0)
        rc = ids_derive(p);
    if (rc == 0)
        rc = config_listen(p);
    if (rc == 0)
        config_show(p);
    if (rc == 0 && p->ignored != NULL) {
        const char *line = arena_printf(&p->c->arena, "ignored: %s", p->ignored);
        p->no_memory |= line == NULL;
        if (line != NULL)
            config_warn(p, line);
    }
    if (rc == 0 && p->no_memory)
        rc = bad_memory(p);
    return rc;
}

int serve_config_parse(int argc, char **argv, struct serve_config *ret, FILE *err, FILE *out)
{
    struct serve_config c = {0};
    struct config_parse p = {.c = &c, .err = err};
    ASSERT(topic_config_keys_count <= CONFIG_TOPIC_KEYS_MAX);
    if (help_wanted(argc, argv)) {
        config_help(out);
        return -1;
    }
    p.settings = calloc(config_keys_count, sizeof(*p.settings));
    if (p.settings == NULL)
        return bad_memory(&p);
    arena_init(&c.arena, ARENA_BYTES_MAX);
    int rc = arguments_set(&p, argc, argv);
    if (rc == 0)
        rc = values_parse(&p);
    if (rc == 0)
        rc = all_derive(&p);
    free(p.settings);
    if (rc != 0) {
        arena_fini(&c.arena);
        return rc;
    }
    *ret = c;
    return 0;
}

void serve_config_fini(struct serve_config *c)
{
    arena_fini(&c->arena);
}
