/* fuzz_report.c: whatever is given to `penstock bench report` as a result file.
 * Input: the file. Holds: a page comes out, or one line says why not. */
#include <stdio.h>
#include <stdlib.h>

#include "bench/report.h"
#include "core/base/assert.h"
#include "tests/fuzz/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes)
{
    static FILE *nowhere;
    char reason[512] = "";
    const char *files[] = {text_file(data, len_bytes)};
    if (nowhere == NULL)
        nowhere = fopen("/dev/null", "we");
    ASSERT(nowhere != NULL);
    setenv("PATH", "/nowhere", 1); /* plots are drawn by gnuplot: a process for each input */
    FILE *was = stdout;
    stdout = nowhere; /* where the page goes */
    int rc = report_write(files, 1, "-", NULL, reason, sizeof(reason));
    stdout = was;
    ASSERT(rc == 0 || (rc < 0 && reason[0] != '\0'));
    return 0;
}
