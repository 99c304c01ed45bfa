#include "tools/cmd_version.h"

#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

#include "io/probe.h"

#ifndef PENSTOCK_VERSION
#define PENSTOCK_VERSION "0.1"
#endif

/* Of the sources that this was built from; "+" behind it: with changes. The Makefile sets it. */
#ifndef PENSTOCK_COMMIT
#define PENSTOCK_COMMIT "unknown"
#endif

const char *penstock_version(void)
{
    return PENSTOCK_VERSION;
}

const char *penstock_commit(void)
{
    return PENSTOCK_COMMIT;
}

int cmd_version(int argc, char **argv)
{
    if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
        printf("usage: penstock version\n\nPrints the version, the running kernel and whether "
               "io_uring can be used here.\n");
        return 0;
    }
    if (argc > 1) {
        fprintf(stderr, "penstock version: unknown argument '%s'\n", argv[1]);
        return 2;
    }
    struct utsname kernel;
    struct io_features features;
    const char *reason = "";
    printf("penstock %s, commit %s\n", penstock_version(), penstock_commit());
    if (uname(&kernel) == 0)
        printf("kernel %s %s\n", kernel.release, kernel.machine);
    if (io_probe(&features, &reason) < 0)
        printf("io_uring: %s\n", reason);
    else
        printf("io_uring usable\n");
    return 0;
}
