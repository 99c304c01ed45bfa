/* cmd_serve.h: `penstock serve`: run the broker until a signal.
 * Returns the exit code: 0 after a clean stop; 1 it could not start or stop cleanly, 2 usage; one
 * line on stderr says why. argv[0] is "serve". Threads: the main thread, before any other exists.
 */
#ifndef TOOLS_CMD_SERVE_H
#define TOOLS_CMD_SERVE_H

int cmd_serve(int argc, char **argv);

#endif
