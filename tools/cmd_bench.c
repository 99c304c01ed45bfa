#include "tools/cmd_bench.h"

#include "bench/command.h"
#include "tools/cmd_version.h"

int cmd_bench(int argc, char **argv)
{
    return bench_command(argc, argv, penstock_version(), penstock_commit());
}
