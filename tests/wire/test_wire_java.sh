#!/bin/bash
# net/wire against Kafka's own serializer and schemas: builds and runs WireCheck.java.
# Usage: test_wire_java.sh [BUILD_DIR] [SEED]; BUILD_DIR/tests/wire-echo must be there, and the
# sanitized one in BUILD_DIR/asan is used as well if it is.
# timeout: 300
set -eu
cd "$(dirname "$0")/../.."
build=${1:-${PENSTOCK_BUILD:-build}}
seed=${2:-}
work=$build/wire-java

for tool in java javac mvn; do
    if ! command -v $tool > /dev/null; then
        echo "skipped: $tool is not installed"
        exit 77
    fi
done
if [ ! -x "$build/tests/wire-echo" ]; then
    echo "$build/tests/wire-echo is not built"
    exit 1
fi

mkdir -p "$work"
key=$(sha256sum < tests/wire/pom.xml)
if [ "$(cat "$work/jars.done" 2> /dev/null)" != "$key" ]; then
    rm -rf "$work/jars"
    mvn -q -B -f tests/wire/pom.xml dependency:copy-dependencies \
        -DoutputDirectory="$(realpath "$work")/jars"
    echo "$key" > "$work/jars.done"
fi
mkdir -p "$work/classes"
javac -Xlint:all,-processing -Werror -cp "$work/jars/*" -d "$work/classes" tests/wire/*.java

for echo in "$build/tests/wire-echo" "$build/asan/tests/wire-echo"; do
    [ -x "$echo" ] || continue
    echo "== $echo"
    java -Xshare:auto -cp "$work/classes:$work/jars/*" WireCheck "$echo" $seed
done
