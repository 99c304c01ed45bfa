# broker.sh: start and stop the broker and its file system, for init (busybox) and points.sh (any POSIX shell).
# Small files and a small journal, so that a short run rolls, seals, recycles and checkpoints.
# Output goes to $OUT (/tmp), as broker.out and broker.err.

: "${OUT:=/tmp}"
broker_pid=

broker_start() { # DATA BOOTSTRAP [OPTION]...: later options win
    : > "$OUT/broker.out"
    penstock serve --data "$1" --listen "$2" --shards 2 --memory 128m -o journal.bytes=16m \
        -o log.segment.bytes=2m -o log.segment.delete.delay.ms=500 $(shift 2 && echo "$@") \
        > "$OUT/broker.out" 2> "$OUT/broker.err" &
    broker_pid=$!
    turns=0
    until grep -q '^penstock ready' "$OUT/broker.out"; do
        kill -0 $broker_pid 2> /dev/null || return 1
        turns=$((turns + 1))
        [ $turns -lt 3000 ] || return 1
        sleep 0.02
    done
}

# It has to end by itself, with exit code 0 and without a failed assertion in its log.
broker_stop() {
    kill -TERM $broker_pid || return 1
    wait $broker_pid || return 1
    ! grep -qi 'assertion failed\|Sanitizer\|runtime error:' "$OUT/broker.err"
}

broker_kill() {
    [ -n "$broker_pid" ] || return 0
    kill -KILL "$broker_pid" 2> /dev/null
    wait "$broker_pid" 2> /dev/null
    broker_pid=
}

# The kernel closes a ring's files some time after its process has ended.
unmount() { # FOLDER
    turns=0
    until umount "$1" 2> /dev/null; do
        turns=$((turns + 1))
        [ $turns -lt 500 ] || return 1
        sleep 0.02
    done
}
