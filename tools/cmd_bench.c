#include "tools/cmd_bench.h"

#include <string.h>

#include "bench/command.h"
#include "tools/bench_egress.h"
#include "tools/cmd_version.h"

int cmd_bench(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "egress") == 0)
        return bench_egress(argc - 1, argv + 1);
    return bench_command(argc, argv, penstock_version(), penstock_commit());
}
