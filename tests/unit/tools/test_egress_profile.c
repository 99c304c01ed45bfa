#include "tools/egress_profile.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

static char path[] = "build/tmp/egress-profile-XXXXXX";
static char reason[4096];

static void text_write(const char *text)
{
    FILE *file = fopen(path, "w");
    cr_assert_not_null(file);
    fputs(text, file);
    fclose(file);
}

static void setup(void)
{
    int fd = mkstemp(path);
    cr_assert_geq(fd, 0);
    close(fd);
}

static void teardown(void)
{
    unlink(path);
}

static int text_read(const char *text, struct egress_limits limits[EGRESS_LINKS])
{
    text_write(text);
    return egress_profile_read(path, limits, reason, sizeof(reason));
}

Test(egress_profile, what_is_written_is_read, .init = setup, .fini = teardown)
{
    struct egress_limits limits[EGRESS_LINKS] = {{EGRESS_NEVER, 1048576}, {65536, 0}};
    struct egress_limits got[EGRESS_LINKS] = {{0}};
    cr_assert_eq(egress_profile_write(path, limits, reason, sizeof(reason)), 0, "%s", reason);
    cr_assert_eq(egress_profile_read(path, got, reason, sizeof(reason)), 0, "%s", reason);
    cr_assert_arr_eq(got, limits, sizeof(limits));
}

Test(egress_profile, what_it_does_not_name_stays, .init = setup, .fini = teardown)
{
    struct egress_limits got[EGRESS_LINKS] = {{1, 2}, {3, 4}};
    cr_assert_eq(text_read("remote.splice.min.bytes = 16384\n", got), 0, "%s", reason);
    cr_assert_eq(got[EGRESS_REMOTE].splice_bytes, 16384);
    cr_assert_eq(got[EGRESS_REMOTE].zc_bytes, 3);
    cr_assert_eq(got[EGRESS_LOCAL].zc_bytes, 1);
    cr_assert_eq(text_read("local.splice.min.bytes=never\nlocal.send_zc.min.bytes=never\n", got),
                 0);
    cr_assert_eq(got[EGRESS_LOCAL].splice_bytes, 0);
    cr_assert_eq(got[EGRESS_LOCAL].zc_bytes, EGRESS_NEVER);
}

Test(egress_profile, what_makes_no_sense_is_refused, .init = setup, .fini = teardown)
{
    static const char *const wrong[] = {
        "local.splice.min.bytes=0\n",
        "local.splice.min.bytes=-1\n",
        "local.splice.min.bytes=12k\n",
        "local.splice.min.bytes=4294967296\n",
        "local.splice.min.bytes=99999999999999999999999\n",
        "local.splice.min.bytes=\n",
        "local.sendfile.min.bytes=1\n",
    };
    for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct egress_limits got[EGRESS_LINKS] = {{1, 2}, {3, 4}};
        cr_assert_eq(text_read(wrong[i], got), -EINVAL, "%s", wrong[i]);
        cr_assert_eq(got[EGRESS_LOCAL].splice_bytes, 2);
    }
}

Test(egress_profile, a_missing_one_is_told_from_others, .init = setup, .fini = teardown)
{
    struct egress_limits got[EGRESS_LINKS] = {{0}};
    cr_assert_eq(egress_profile_read("build/none/egress", got, reason, sizeof(reason)), -ENOENT);
    cr_assert_eq(egress_profile_read("build", got, reason, sizeof(reason)), -EFBIG);
}
