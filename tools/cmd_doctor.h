/* cmd_doctor.h: `penstock doctor`: what this machine offers a broker, what is missing, and what
 * that costs. Changes nothing.
 * Returns the exit code: 0 if `serve` can run here, 1 if not, 2 for usage. argv[0] is "doctor".
 * Threads: the main thread. */
#ifndef TOOLS_CMD_DOCTOR_H
#define TOOLS_CMD_DOCTOR_H

int cmd_doctor(int argc, char **argv);

#endif
