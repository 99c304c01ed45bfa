#!/bin/bash
# Install what the tests need on Debian 12: foreign clients and their tool chains.
# Happy path: everything is there, which is seen without apt, pip, npm, Maven or Go: well under a
#   second. What is missing is installed (system packages only as root) and left in build/clients.
# Failure: what cannot be had is named here, its reason left in build/clients/NAME.missing; the
#   tests that need it show it as a skip. The exit code is 0 all the same.
# Usage: tests/install.sh [--peer | --peer-only | --vm]     --peer: also Apache Kafka's broker
#   (tests/lib/kafka_peer.py, bench/kafka.sh); --peer-only: that and what it needs, nothing else;
#   --vm: what tests/vm needs, nothing else.
set -u
cd "$(dirname "$0")/.." || exit 1
root=$PWD
clients=$root/build/clients
mkdir -p "$clients"
log=$clients/install.log
: > "$log"
export DEBIAN_FRONTEND=noninteractive
apt_is_fresh=
SUDO=
[ "$(id -u)" = 0 ] || SUDO="sudo -n"

say() { echo "install: $*"; }

missing() { # NAME REASON
    echo "$2" > "$clients/$1.missing"
    say "without $1: $2 (see $log)"
}

found() { rm -f "$clients/$1.missing"; }

apt_update() {
    [ -n "$apt_is_fresh" ] && return 0
    say "apt-get update"
    $SUDO apt-get -q update >> "$log" 2>&1 && apt_is_fresh=1
}

apt_install() { # PACKAGE... (with apt options before them)
    apt_update
    say "apt-get install $*"
    $SUDO apt-get -q -y --no-install-recommends install "$@" >> "$log" 2>&1
}

# A command that must work, and the packages that bring it.
need_command() { # NAME "TEST" PACKAGE...
    local name=$1 test=$2
    shift 2
    if ! eval "$test" > /dev/null 2>&1; then
        apt_install "$@"
    fi
    if eval "$test" > /dev/null 2>&1; then
        found "$name"
    else
        missing "$name" "$name cannot be had from the Debian packages $*"
    fi
}

have_java17() {
    command -v javac && command -v java || return 1
    local version
    version=$(java -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p')
    [ "${version:-0}" -ge 17 ]
}

have_go() { # 1.22 or newer
    local go version
    go=$(find_go) || return 1
    version=$("$go" env GOVERSION 2> /dev/null | sed -n 's/^go1\.\([0-9]*\).*/\1/p')
    [ "${version:-0}" -ge 22 ]
}

# The path of the newest go command there is: Debian keeps versions under /usr/lib/go-1.N.
find_go() {
    ls -d /usr/lib/go-1.*/bin/go 2> /dev/null | sort -V | tail -1 | grep . || command -v go
}

# The mirror that apt already uses for bookworm, with the backports suite.
add_backports() {
    local mirror list=/etc/apt/sources.list.d/penstock-tests-backports.list
    apt-cache policy | grep -q 'a=stable-backports\|n=bookworm-backports' && return 0
    [ -s $list ] && return 0
    mirror=$(apt-get indextargets --format '$(SITE) $(RELEASE) $(COMPONENT)' \
        'Created-By: Packages' | sed -n 's/ bookworm main$//p' | head -1)
    [ -n "$mirror" ] || mirror=http://deb.debian.org/debian
    echo "deb $mirror bookworm-backports main" | $SUDO tee $list > /dev/null
    apt_is_fresh=
}

install_go() {
    if ! have_go > /dev/null 2>&1; then
        add_backports
        apt_install -t bookworm-backports golang-go
    fi
    if ! have_go > /dev/null 2>&1; then
        missing go "go 1.22 or newer cannot be had from bookworm-backports"
        return
    fi
    found go
    find_go > "$clients/go.path"
}

# Do a step again only if what it depends on has changed.
once() { # NAME KEY COMMAND...
    local name=$1 key=$2 done_file=$clients/$1.done
    shift 2
    [ "$(cat "$done_file" 2> /dev/null)" = "$key" ] && return 0
    say "$name"
    if "$@" > "$log.step" 2>&1; then
        echo "$key" > "$done_file"
        found "$name"
    else
        rm -f "$done_file"
        missing "$name" "$name: $(why_not "$log.step")"
    fi
    cat "$log.step" >> "$log"
    rm -f "$log.step"
}

# The line of a failed step's output that says most.
why_not() {
    { grep -i -m1 'error\|fail\|cannot' "$1" || tail -1 "$1"; } | tr -d '\033' | cut -c1-200
}

key_of() { cat "$@" | sha256sum | cut -d' ' -f1; }

copy_jars() { # POM TARGET
    rm -rf "$2"
    mvn -q -B -f "$1" dependency:copy-dependencies -DoutputDirectory="$2" &&
        ls "$2"/kafka*.jar
}

# Debian's own python3 first: it is the one that python3-venv belongs to.
have_venv() {
    for python in /usr/bin/python3 python3; do
        "$python" -c 'import venv, ensurepip' && return 0
    done
    return 1
}

make_venv() {
    rm -rf "$clients/venv"
    have_venv && "$python" -m venv "$clients/venv" &&
        "$clients/venv/bin/pip" -q install --disable-pip-version-check \
            -r tests/clients/requirements.txt &&
        "$clients/venv/bin/python3" -c 'import confluent_kafka, kafka'
}

make_node() {
    mkdir -p "$clients/node" && cp tests/clients/kafkajs/package.json "$clients/node/" &&
        (cd "$clients/node" && npm install --no-audit --no-fund --loglevel=error) &&
        [ -d "$clients/node/node_modules/kafkajs" ]
}

make_franz() {
    (cd tests/clients/franz && "$(cat "$clients/go.path")" build -o "$clients/franz/franz" .)
}

make_groups_go() {
    (cd tests/clients/groups_go && "$(cat "$clients/go.path")" build -o "$clients/groups_go/groups" .)
}

install_peer() {
    once peer "$(key_of tests/clients/java/peer/pom.xml)" \
        copy_jars "$root/tests/clients/java/peer/pom.xml" "$clients/java/peer"
}

# The kernel of the virtual machine: Debian's, unpacked under build/vm, never installed.
kernel_package() {
    apt-cache show linux-image-cloud-amd64/bookworm-backports |
        sed -n 's/^Depends: \(linux-image-[^ ,]*\).*/\1/p' | head -1
}

unpack_kernel() { # FOLDER
    local package
    add_backports
    apt_update
    package=$(kernel_package)
    [ -n "$package" ] || { echo "error: bookworm-backports has no cloud kernel"; return 1; }
    rm -rf "$1" "$1.new" && mkdir -p "$1.new" &&
        (cd "$1.new" && apt-get -q download "$package" && dpkg-deb -x ./*.deb . && rm ./*.deb) &&
        mv "$1.new" "$1"
}

install_vm() {
    local kernel=$root/build/vm/kernel
    mkdir -p "$root/build/vm"
    need_command qemu "command -v qemu-system-x86_64" qemu-system-x86
    need_command busybox "command -v busybox" busybox-static
    need_command mkfs.xfs "test -e /sbin/mkfs.xfs" xfsprogs
    need_command mkfs.ext4 "test -e /sbin/mkfs.ext4" e2fsprogs
    need_command ip "command -v ip" iproute2
    need_command kcat "command -v kcat" kcat
    ls "$kernel"/boot/vmlinuz-* > /dev/null 2>&1 && return
    say "the kernel of the virtual machine"
    if unpack_kernel "$kernel" > "$log.step" 2>&1; then
        rm -f "$kernel.missing"
    else
        why_not "$log.step" > "$kernel.missing"
        say "without the kernel of the virtual machine: $(cat "$kernel.missing")"
    fi
    cat "$log.step" >> "$log"
    rm -f "$log.step"
}

if [ "${1:-}" = --vm ]; then
    install_vm
    exit 0
fi

if [ "${1:-}" = --peer-only ]; then
    need_command java have_java17 default-jdk-headless
    need_command maven "command -v mvn" maven
    install_peer
    exit 0
fi

need_command kcat "command -v kcat" kcat
need_command strace "command -v strace" strace
need_command ip "command -v ip" iproute2
need_command mkfs.ext4 "command -v mkfs.ext4" e2fsprogs
need_command mkfs.xfs "command -v mkfs.xfs" xfsprogs
need_command fincore "command -v fincore" util-linux util-linux-extra
need_command librdkafka "test -e /usr/include/librdkafka/rdkafka.h" librdkafka-dev
need_command criterion "test -e /usr/include/criterion/criterion.h" libcriterion-dev
need_command java have_java17 default-jdk-headless
need_command maven "command -v mvn" maven
need_command node "command -v node && command -v npm" nodejs npm
need_command prometheus-client "/usr/bin/python3 -c 'import prometheus_client.parser'" python3-prometheus-client
need_command python-venv have_venv python3-venv python3-pip
install_go

once java "$(key_of tests/clients/java/pom.xml)" \
    copy_jars "$root/tests/clients/java/pom.xml" "$clients/java/jars"
once streams "$(key_of tests/clients/streams/pom.xml)" \
    copy_jars "$root/tests/clients/streams/pom.xml" "$clients/streams/jars"
once venv "$(key_of tests/clients/requirements.txt)" make_venv
once kafkajs "$(key_of tests/clients/kafkajs/package.json)" make_node
[ -e "$clients/go.missing" ] ||
    once franz "$(key_of tests/clients/franz/* "$clients/go.path")" make_franz
[ -e "$clients/go.missing" ] ||
    once groups_go "$(key_of tests/clients/groups_go/* "$clients/go.path")" make_groups_go
[ "${1:-}" = --peer ] && install_peer
exit 0
