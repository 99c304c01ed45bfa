/* mapper_main.c: `vm-mapper create NAME DEVICE LOG` and `vm-mapper remove NAME`: mapper.h for the
 * guest's shell script. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tests/vm/mapper.h"

int main(int argc, char **argv)
{
    int rc = -EINVAL;
    if (argc == 5 && !strcmp(argv[1], "create"))
        rc = mapper_create(argv[2], argv[3], argv[4]);
    else if (argc == 3 && !strcmp(argv[1], "remove"))
        rc = mapper_remove(argv[2]);
    if (rc)
        fprintf(stderr, "vm-mapper: %s\n", strerror(-rc));
    return rc ? 1 : 0;
}
