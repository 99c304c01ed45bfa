/* log_dump.c: `penstock log dump`: a broker's data directories, or single things. */
#include "tools/log_dump.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/base/bytes.h"
#include "tools/cmd_log.h"
#include "tools/log_out.h"

int log_dump(const struct log_options *o)
{
    int code = LOG_EXIT_FINE;
    for (unsigned i = 0; i < o->paths_n; i++)
        code = log_worse(code, dump_path(o, o->paths[i]));
    return out_close() != 0 ? LOG_EXIT_USAGE : code;
}
int log_ls(const struct log_options *o)
{
    return o->json;
}
int log_verify(const struct log_options *o)
{
    return o->json;
}
int log_repair(const struct log_options *o)
{
    return o->json;
}
