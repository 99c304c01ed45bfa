/* fuzz_dirs.c: whatever lies as meta.properties in a data directory of a broker that starts.
 * Input: the file; without a line of its checksum it gets the right one, to get behind it. Its copy
 *   is missing. Holds: what is taken names two identities, and is not written over. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/assert.h"
#include "core/base/crc32c.h"
#include "core/base/logger.h"
#include "tools/serve_dirs.h"

#define CHECKSUM_PREFIX "# crc32c=" /* as serve_dirs.c writes it */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes);

static char dir[] = "/tmp/penstock-fuzz-XXXXXX";
static char path[64], copy[64];

static void remove_all(void)
{
    char lock[64];
    snprintf(lock, sizeof(lock), "%s/.lock", dir);
    unlink(lock);
    unlink(path);
    unlink(copy);
    rmdir(dir);
}

static void file_write(const uint8_t *data, size_t len_bytes)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    ASSERT(fd >= 0 && write(fd, data, len_bytes) == (ssize_t)len_bytes);
    if (memmem(data, len_bytes, CHECKSUM_PREFIX, strlen(CHECKSUM_PREFIX)) == NULL)
        ASSERT(dprintf(fd, CHECKSUM_PREFIX "%08x\n", crc32c(data, len_bytes)) > 0);
    close(fd);
    unlink(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes)
{
    static struct serve_dirs dirs;
    const char *const data_dirs[] = {dir};
    char reason[512] = "";
    if (path[0] == '\0') {
        ASSERT(mkdtemp(dir) != NULL);
        snprintf(path, sizeof(path), "%s/meta.properties", dir);
        snprintf(copy, sizeof(copy), "%s/meta.properties.copy", dir);
        logger_level = LOG_OFF;
        atexit(remove_all);
    }
    file_write(data, len_bytes);
    int rc = dirs_open(&dirs, data_dirs, 1, NULL, 0, reason, sizeof(reason));
    ASSERT(rc == 0 || ((rc == -EINVAL || rc == -EBADMSG) && reason[0] != '\0'));
    if (rc < 0)
        return 0;
    struct serve_dir *d = &dirs.data[0];
    struct meta_uuid other = {.b = {1, 2, 3}};
    ASSERT(d->has_properties && !meta_uuid_is_zero(&d->id) && !meta_uuid_is_zero(&d->cluster_id));
    ASSERT(dirs_check(&dirs, &d->cluster_id, false, reason, sizeof(reason)) == 0);
    ASSERT(dirs_check(&dirs, &d->cluster_id, true, reason, sizeof(reason)) == -EINVAL);
    if (memcmp(&other, &d->cluster_id, sizeof(other)) != 0)
        ASSERT(dirs_check(&dirs, &other, false, reason, sizeof(reason)) == -EINVAL);
    ASSERT(dirs_write(&dirs, &other, 1, reason, sizeof(reason)) == 0);
    dirs_close(&dirs);
    return 0;
}
