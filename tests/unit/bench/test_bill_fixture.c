#include "test_bill_fixture.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

void bill_dir_make(char ret[64])
{
    cr_assert(mkdir("build", 0755) == 0 || errno == EEXIST);
    cr_assert(mkdir("build/tmp", 0755) == 0 || errno == EEXIST);
    strcpy(ret, "build/tmp/bill-XXXXXX");
    cr_assert_not_null(mkdtemp(ret));
}

unsigned bill_fds_open(void)
{
    unsigned n = 0;
    DIR *d = opendir("/proc/self/fd");
    cr_assert_not_null(d);
    while (readdir(d) != NULL)
        n++;
    closedir(d);
    return n;
}
