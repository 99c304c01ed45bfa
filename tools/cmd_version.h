/* cmd_version.h: `penstock version`: version, kernel and what the binary was built with.
 * Returns the exit code. argv[0] is "version". Threads: the main thread. */
#ifndef TOOLS_CMD_VERSION_H
#define TOOLS_CMD_VERSION_H

/* The version that this binary was built as. */
const char *penstock_version(void);
/* The commit that it was built from; "+" behind it: with changes on top. */
const char *penstock_commit(void);
const char *penstock_commit(void);

int cmd_version(int argc, char **argv);

#endif
