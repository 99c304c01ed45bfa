#include "tools/cli.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"

#define EVERY UINT32_MAX
#define TIMEOUT_S_MAX 86400
#define OPTIONS_MAX 48
#define AT(field) offsetof(struct cli_common, field)

static const struct cli_option common_options[] = {
    {"bootstrap", "HOST:PORT,...", 'b', EVERY, CLI_TEXT, AT(bootstrap),
     "brokers to begin with (default: localhost:9092)"},
    {"timeout", "S", 0, EVERY, CLI_SECONDS, AT(timeout_s),
     "seconds to wait for each answer, retries included (default: 10)"},
    {"json", NULL, 0, EVERY, CLI_FLAG, AT(json), "as JSON"},
};

static const struct cli_option *option_at(const struct cli *cli, unsigned i)
{
    return i < cli->options_n ? &cli->options[i] : &common_options[i - cli->options_n];
}

static unsigned options_n(const struct cli *cli)
{
    return cli->options_n + (unsigned)ARRAY_LEN(common_options);
}

size_t cli_escape(char *to, size_t room, const char *text)
{
    size_t n = 0;
    for (; *text != '\0' && n + 5 < room; text++) {
        unsigned char c = (unsigned char)*text;
        if (c < 0x20 || c == 0x7f)
            n += (size_t)snprintf(to + n, room - n, "\\x%02x", c);
        else
            to[n++] = (char)c;
    }
    to[n] = '\0';
    return n;
}

void cli_complain(const struct cli_common *common, const char *reason)
{
    char text[2048];
    cli_escape(text, sizeof(text), reason);
    fflush(stdout); /* what went well before it comes first */
    fprintf(stderr, "%s: %s\n", common->name, text);
}

static int usage_error(const char *name, const char *what, const char *value)
{
    fprintf(stderr, "%s: %s%s%s\n", name, what, *value == '\0' ? "" : ": ", value);
    return CLI_EXIT_USAGE;
}

/* ---- help ---- */

static void help_option(const struct cli_option *o, FILE *out)
{
    char name[64], letter[4] = "";
    if (o->letter != 0)
        snprintf(letter, sizeof(letter), "-%c,", o->letter);
    snprintf(name, sizeof(name), "%3s --%s%s%s", letter, o->name, o->metavar == NULL ? "" : " ",
             o->metavar == NULL ? "" : o->metavar);
    fprintf(out, "  %-30s %s\n", name, o->doc);
}

static void help_command(const struct cli *cli, const struct cli_command *command, FILE *out)
{
    fprintf(out, "usage: penstock %s%s%s [OPTION]... %s\n%s\n", cli->name,
            command->name == NULL ? "" : " ", command->name == NULL ? "" : command->name,
            command->args, command->about);
    for (unsigned i = 0; i < options_n(cli); i++)
        if (option_at(cli, i)->commands & command->bit)
            help_option(option_at(cli, i), out);
    fprintf(out, "  %-30s %s\n", "    --help", "this text");
    if (cli->more != NULL)
        fputs(cli->more, out);
}

static void help(const struct cli *cli, FILE *out)
{
    fprintf(out, "usage: penstock %s COMMAND [OPTION]...\n\n%s\n\ncommands:\n", cli->name,
            cli->about);
    for (unsigned i = 0; i < cli->commands_n; i++)
        fprintf(out, "  %-14s %s\n", cli->commands[i].name, cli->commands[i].about);
    fprintf(out, "\n`penstock %s COMMAND --help` says more.\n", cli->name);
}

/* ---- options ---- */

int cli_number(const char *text, int64_t least, int64_t most, int64_t *ret)
{
    char *end;
    errno = 0;
    long long v = strtoll(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || v < least || v > most || *text == ' ')
        return -EINVAL;
    *ret = v;
    return 0;
}

static int list_add(struct cli_list *list, const char *item)
{
    const char **items = reallocarray(list->items, list->n + 1, sizeof(*items));
    if (items == NULL)
        return -ENOMEM;
    list->items = items;
    list->items[list->n++] = item;
    return 0;
}

static int option_set(const struct cli_option *o, void *options, const char *value)
{
    void *field = (char *)options + o->at;
    char *end;
    double seconds;
    switch (o->type) {
    case CLI_FLAG:
        *(bool *)field = true;
        return 0;
    case CLI_TEXT:
        *(const char **)field = value;
        return 0;
    case CLI_NUMBER:
        return cli_number(value, 0, INT64_MAX, field);
    case CLI_SECONDS:
        seconds = strtod(value, &end);
        if (end == value || *end != '\0' || !(seconds > 0) || !(seconds <= TIMEOUT_S_MAX))
            return -EINVAL;
        *(double *)field = seconds;
        return 0;
    case CLI_LIST:
        return list_add(field, value);
    }
    return -EINVAL;
}

/* getopt's tables of the options that the command takes; the value is 256 + the option's index. */
static void known_fill(const struct cli *cli, const struct cli_command *command,
                       struct option known[OPTIONS_MAX + 2], char letters[2 * OPTIONS_MAX + 2])
{
    unsigned n = 0, at = 0;
    letters[at++] = 'h';
    known[n++] = (struct option){"help", no_argument, NULL, 'h'};
    for (unsigned i = 0; i < options_n(cli) && i < OPTIONS_MAX; i++) {
        const struct cli_option *o = option_at(cli, i);
        if (!(o->commands & command->bit))
            continue;
        known[n++] = (struct option){o->name, o->type != CLI_FLAG, NULL, 256 + (int)i};
        if (o->letter != 0)
            letters[at++] = o->letter;
        if (o->letter != 0 && o->type != CLI_FLAG)
            letters[at++] = ':';
    }
    known[n] = (struct option){0};
    letters[at] = '\0';
}

static const struct cli_option *option_of(const struct cli *cli, const struct cli_command *command,
                                          int c)
{
    for (unsigned i = 0; i < options_n(cli); i++) {
        const struct cli_option *o = option_at(cli, i);
        if (c == 256 + (int)i || (c == o->letter && (o->commands & command->bit)))
            return o;
    }
    return NULL;
}

/* 0; -1: help was given; CLI_EXIT_USAGE */
static int options_parse(const struct cli *cli, const struct cli_command *command, int argc,
                         char **argv, struct cli_common *options)
{
    struct option known[OPTIONS_MAX + 2];
    char letters[2 * OPTIONS_MAX + 2];
    int c;
    known_fill(cli, command, known, letters);
    optind = 0; /* start over */
    while ((c = getopt_long(argc, argv, letters, known, NULL)) != -1) {
        if (c == 'h') {
            help_command(cli, command, stdout);
            return -1;
        }
        const struct cli_option *o = c == '?' ? NULL : option_of(cli, command, c);
        if (o == NULL)
            return CLI_EXIT_USAGE; /* getopt has said what */
        if (option_set(o, options, optarg) != 0) {
            fprintf(stderr, "%s: bad value for --%s: %s\n", options->name, o->name, optarg);
            return CLI_EXIT_USAGE;
        }
    }
    for (; optind < argc; optind++)
        if (list_add(&options->args, argv[optind]) != 0)
            return usage_error(options->name, "out of memory", "");
    if (options->args.n < command->args_least)
        return usage_error(options->name, "too few arguments, wanted", command->args);
    if (options->args.n > command->args_most)
        return usage_error(options->name, "unexpected argument",
                           options->args.items[command->args_most]);
    const char *wrong = cli->check == NULL ? NULL : cli->check(command, options);
    return wrong == NULL ? 0 : usage_error(options->name, wrong, "");
}

/* ---- running ---- */

static int out_check(const struct cli_common *common)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return 0;
    fprintf(stderr, "%s: cannot write: %s\n", common->name, strerror(errno));
    return CLI_EXIT_FAILED;
}

static int command_run(const struct cli_command *command, struct cli_common *options)
{
    struct client client;
    int rc = client_open(&client, options->bootstrap, (uint64_t)(options->timeout_s * 1e9));
    if (rc == 0)
        rc = command->run(&client, options);
    if (rc < 0)
        cli_complain(options, client.reason);
    client_close(&client);
    int code = out_check(options);
    return rc != 0 ? CLI_EXIT_FAILED : code;
}

static const struct cli_command *command_find(const struct cli *cli, const char *name)
{
    for (unsigned i = 0; i < cli->commands_n; i++)
        if (cli->commands[i].name == NULL || strcmp(cli->commands[i].name, name) == 0)
            return &cli->commands[i];
    return NULL;
}

static bool is_help(const char *arg)
{
    return strcmp(arg, "--help") == 0 || strcmp(arg, "-h") == 0 || strcmp(arg, "help") == 0;
}

int cli_run(const struct cli *cli, int argc, char **argv, void *options)
{
    struct cli_common *common = options;
    char name[64];
    bool has_names = cli->commands[0].name != NULL;
    if (has_names && (argc < 2 || is_help(argv[1]))) {
        help(cli, argc < 2 ? stderr : stdout);
        return argc < 2 ? CLI_EXIT_USAGE : 0;
    }
    const struct cli_command *command = command_find(cli, has_names ? argv[1] : "");
    if (command == NULL) {
        fprintf(stderr, "penstock %s: unknown command '%s'; see penstock %s --help\n", cli->name,
                argv[1], cli->name);
        return CLI_EXIT_USAGE;
    }
    snprintf(name, sizeof(name), "penstock %s%s%s", cli->name, has_names ? " " : "",
             has_names ? command->name : "");
    argv[has_names] = name; /* what getopt_long begins its line with */
    common->name = name;
    common->bootstrap = "localhost:9092";
    common->timeout_s = 10;
    int code = options_parse(cli, command, argc - has_names, argv + has_names, common);
    if (code == 0)
        code = command_run(command, common);
    free(common->args.items);
    for (unsigned i = 0; i < cli->options_n; i++)
        if (cli->options[i].type == CLI_LIST)
            free(((struct cli_list *)(void *)((char *)options + cli->options[i].at))->items);
    return code < 0 ? 0 : code;
}
