#include "tools/cmd_top.h"

#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "tools/top_fetch.h"
#include "tools/top_view.h"

enum { EXIT_USAGE = 2 };
#define INTERVAL_S_MIN 0.05
#define INTERVAL_S_MAX 86400.0

static const char usage[] =
    "usage: penstock top [--connect HOST:PORT] [--interval S] [--once] [--json]\n"
    "Show what a running broker does: each of its shards, and all together.\n"
    "  --connect HOST:PORT  its metrics.listen (default: 127.0.0.1:9192)\n"
    "  --interval S         seconds from one look to the next (default: 1)\n"
    "  --once               one interval, then end\n"
    "  --json               one JSON object an interval\n"
    "  --help               this text\n";

struct top_options {
    const char *connect;
    double interval_s;
    bool once, json, help;
};

static int usage_error(const char *what, const char *value)
{
    fprintf(stderr, "penstock top: %s: %s\n", what, value);
    return EXIT_USAGE;
}

static int options_parse(int argc, char **argv, struct top_options *ret)
{
    static const struct option known[] = {
        {"connect", required_argument, NULL, 'c'}, {"interval", required_argument, NULL, 'i'},
        {"once", no_argument, NULL, 'o'},          {"json", no_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},          {0}};
    int c;
    *ret = (struct top_options){.connect = "127.0.0.1:9192", .interval_s = 1};
    while ((c = getopt_long(argc, argv, "+h", known, NULL)) != -1) {
        char *end = "";
        if (c == '?')
            return EXIT_USAGE; /* getopt has said what */
        if (c == 'c')
            ret->connect = optarg;
        if (c == 'i')
            ret->interval_s = strtod(optarg, &end);
        ret->once |= c == 'o';
        ret->json |= c == 'j';
        ret->help |= c == 'h';
        if (*end != '\0' || !(ret->interval_s >= INTERVAL_S_MIN) ||
            !(ret->interval_s <= INTERVAL_S_MAX))
            return usage_error("bad value for --interval", optarg);
    }
    return optind < argc ? usage_error("unexpected argument", argv[optind]) : 0;
}

static void sleep_s(double s)
{
    struct timespec left = {.tv_sec = (time_t)s, .tv_nsec = (long)((s - (double)(time_t)s) * 1e9)};
    while (nanosleep(&left, &left) < 0)
        ;
}

/* 0: unknown, then there is no limit. */
static unsigned terminal_columns(void)
{
    struct winsize size = {0};
    return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 ? size.ws_col : 0;
}

static void show(const struct top_options *options, const struct top_view *view)
{
    bool terminal = isatty(STDOUT_FILENO);
    if (options->json) {
        top_view_json(view, stdout);
    } else {
        if (terminal && !options->once)
            fputs("\033[H\033[J", stdout); /* home, clear to the end */
        top_view_text(view, terminal ? terminal_columns() : 0, stdout);
        if (!terminal && !options->once)
            fputc('\n', stdout);
    }
    fflush(stdout);
}

static int sample_take(const struct top_options *options, struct top_sample *ret)
{
    char *body, reason[256];
    int rc = top_fetch(options->connect, &body, reason, sizeof(reason));
    if (rc == 0) {
        rc = top_sample_parse(body, ret, reason, sizeof(reason));
        free(body);
    }
    if (rc < 0)
        fprintf(stderr, "penstock top: %s: %s\n", options->connect, reason);
    return rc;
}

static int watch(const struct top_options *options)
{
    struct top_sample before, now;
    if (sample_take(options, &before) < 0)
        return 1;
    do {
        sleep_s(options->interval_s);
        if (sample_take(options, &now) < 0) {
            top_sample_free(&before);
            return 1;
        }
        show(options, &(struct top_view){options->connect, &before, &now});
        top_sample_free(&before);
        before = now;
    } while (!options->once && !ferror(stdout));
    top_sample_free(&before);
    return ferror(stdout) ? 1 : 0;
}

int cmd_top(int argc, char **argv)
{
    struct top_options options;
    int rc = options_parse(argc, argv, &options);
    if (rc != 0)
        return rc;
    if (options.help) {
        fputs(usage, stdout);
        return 0;
    }
    return watch(&options);
}
