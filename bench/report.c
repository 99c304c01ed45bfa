#include "bench/report.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench/report_data.h"
#include "bench/report_html.h"
#include "bench/report_sections.h"
#include "bench/report_view.h"

#define FILES_MAX 1000

enum { EXIT_USAGE = 2 };

static const char usage[] =
    "usage: penstock bench report FILE... [-o OUT.html] [--title TEXT]\n"
    "Make one HTML page of result files (--json) of penstock bench.\n"
    "  -o, --output FILE  where to (default: report.html; -: standard output)\n"
    "  --title TEXT       the page's title\n"
    "  --help             this text\n";

struct options {
    const char *out, *title;
    int help;
};

static int parse_options(int argc, char **argv, struct options *ret)
{
    static const struct option known[] = {
        {"output", required_argument, NULL, 'o'},
        {"title", required_argument, NULL, 't'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    int c;
    optind = 0; /* start over: the command's own options were parsed before */
    while ((c = getopt_long(argc, argv, "o:h", known, NULL)) != -1) {
        if (c == 'o')
            ret->out = optarg;
        else if (c == 't')
            ret->title = optarg;
        else if (c == 'h')
            ret->help = 1;
        else
            return EXIT_USAGE; /* getopt has said what */
    }
    return 0;
}

int report_command(int argc, char **argv)
{
    struct options options = {.out = "report.html"};
    char reason[512];
    int rc = parse_options(argc, argv, &options);
    if (rc != 0)
        return rc;
    if (options.help) {
        fputs(usage, stdout);
        return 0;
    }
    if (optind == argc || argc - optind > FILES_MAX) {
        fprintf(stderr, "%s: %s\n", argv[0],
                optind == argc ? "no result file given; see --help" : "too many files");
        return EXIT_USAGE;
    }
    rc = report_write((const char *const *)argv + optind, (size_t)(argc - optind), options.out,
                      options.title, reason, sizeof(reason));
    if (rc < 0) {
        fprintf(stderr, "%s: %s\n", argv[0], reason);
        return 1;
    }
    if (strcmp(options.out, "-") != 0)
        printf("%s\n", options.out);
    return 0;
}

static int make_page(const struct report_file *files, size_t n, const char *title, FILE *out,
                     char *reason, size_t reason_size)
{
    struct report_view view;
    const char *heading = title != NULL ? title : "penstock bench";
    int rc = report_view_init(&view, files, n, out, reason, reason_size);
    if (rc < 0)
        return rc;
    report_html_begin(out, heading);
    report_section_head(&view, heading);
    report_section_comparisons(&view);
    report_section_searches(&view);
    report_section_summary(&view);
    report_section_groups(&view);
    report_section_runs(&view);
    report_section_files(&view);
    report_section_legend(&view);
    report_html_end(out);
    rc = view.rc;
    report_view_fini(&view);
    return rc;
}

static int write_page(FILE *out, const char *page, size_t len)
{
    errno = 0;
    fwrite(page, 1, len, out);
    return fflush(out) == 0 && !ferror(out) ? 0 : errno != 0 ? -errno : -EIO;
}

/* What is no file, as a terminal or a pipe, is written to and not replaced. */
static int write_to(const char *path, const char *page, size_t len)
{
    FILE *out = fopen(path, "we");
    if (out == NULL)
        return -errno;
    int rc = write_page(out, page, len);
    return fclose(out) != 0 && rc == 0 ? -errno : rc;
}

/* A page is whole or not there: written beside its place, then put there. */
static int replace_file(const char *path, const char *page, size_t len)
{
    char beside[4096];
    struct stat is;
    if (stat(path, &is) == 0 && !S_ISREG(is.st_mode))
        return write_to(path, page, len);
    if (snprintf(beside, sizeof(beside), "%s.%d.tmp", path, (int)getpid()) >= (int)sizeof(beside))
        return -ENAMETOOLONG;
    FILE *out = fopen(beside, "wxe");
    if (out == NULL)
        return -errno;
    int rc = write_page(out, page, len);
    if (fclose(out) != 0 && rc == 0)
        rc = -errno;
    if (rc == 0 && rename(beside, path) < 0)
        rc = -errno;
    if (rc < 0)
        unlink(beside);
    return rc;
}

static int put_page(const char *path, const char *page, size_t len, char *reason,
                    size_t reason_size)
{
    int rc = strcmp(path, "-") == 0 ? write_page(stdout, page, len) : replace_file(path, page, len);
    if (rc < 0)
        snprintf(reason, reason_size, "%s: %s", path, strerror(-rc));
    return rc;
}

static int load_all(const char *const *paths, size_t n, struct report_file *files, char *reason,
                    size_t reason_size)
{
    for (size_t i = 0; i < n; i++) {
        int rc = report_file_load(paths[i], &files[i], reason, reason_size);
        if (rc < 0)
            return rc;
    }
    return 0;
}

int report_write(const char *const *paths, size_t n, const char *out, const char *title,
                 char *reason, size_t reason_size)
{
    struct report_file *files = calloc(n + 1, sizeof(*files));
    char *page = NULL;
    size_t len = 0;
    FILE *memory = open_memstream(&page, &len);
    int rc = files == NULL || memory == NULL ? -ENOMEM : 0;
    snprintf(reason, reason_size, "out of memory");
    if (rc == 0)
        rc = load_all(paths, n, files, reason, reason_size);
    if (rc == 0)
        rc = make_page(files, n, title, memory, reason, reason_size);
    if (memory != NULL && fclose(memory) != 0 && rc == 0) {
        snprintf(reason, reason_size, "out of memory");
        rc = -ENOMEM;
    }
    if (rc == 0)
        rc = put_page(out, page, len, reason, reason_size);
    for (size_t i = 0; files != NULL && i < n; i++)
        report_file_close(&files[i]);
    free(files);
    free(page);
    return rc;
}
