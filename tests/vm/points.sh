#!/bin/sh
# Check every power cut of a plan (replay.c), on the host or in the virtual machine.
# Happy path: for each line of $PLAN the device as that cut leaves it, mounted, with the real broker
#   on it, read back and held against the ledger; prints a line a point:
#   "point ID KIND ENTRY SEED ok ACKNOWLEDGED READ".
# Failure: the lines that say what is wrong, then "point ID KIND ENTRY SEED FAILED WHY"; the next
#   point goes on. Exit 1 only when the rig itself is broken.
# Environment: LOG the write log; STABLE a device or image as before the first entry, and WORK one of
#   its size, both written to; FS; MOUNT a directory; MOUNT_OPTIONS; PLAN; LEDGER; BOOTSTRAP;
#   TOOLS the folder of the programs vm-*; OUT a folder for output. penstock is in PATH.
set -u
here=$(dirname "$0")
. "$here/broker.sh"
from=0

check() { # ACKED
    why=mount
    mount -t "$FS" ${MOUNT_OPTIONS:-} "$WORK" "$MOUNT" || return 1
    why="the broker does not start"
    broker_start "$MOUNT/data" "$BOOTSTRAP" || return 1
    why="records"
    "$TOOLS/vm-check" "$BOOTSTRAP" "$LEDGER" "$1" > "$OUT/check.out" 2>&1 || return 1
    why="the broker does not stop"
    broker_stop
}

clean_up() {
    broker_kill
    ! grep -q " $MOUNT " /proc/mounts || unmount "$MOUNT"
}

trap 'clean_up; exit 1' INT TERM

while read -r id kind entry seed acked; do
    from=$("$TOOLS/vm-replay" cut "$LOG" "$STABLE" "$from" "$WORK" "$kind" "$entry" "$seed") || exit 1
    : > "$OUT/check.out"
    : > "$OUT/broker.err"
    if check "$acked"; then
        result="ok $(sed -n 's/^checked \([0-9]*\) acknowledged \([0-9]*\) read.*/\1 \2/p' "$OUT/check.out")"
    else
        grep -v ' info ' "$OUT/broker.err" | tail -n 20
        cat "$OUT/check.out"
        result="FAILED $why"
    fi
    clean_up || exit 1
    echo "point $id $kind $entry $seed $result"
done < "$PLAN"
