#!/bin/bash
# Install what the build needs on Debian 12, if it is not there. Quick when nothing is missing.
# Exit code 0: all is there; 1: a package cannot be had.
set -u
packages=(gcc make pkg-config liburing-dev libnuma-dev libhwloc-dev libisal-dev zlib1g-dev liblz4-dev
    libzstd-dev libsnappy-dev libjson-c-dev libmicrohttpd-dev librdkafka-dev gnuplot-nox
    libcriterion-dev clang libclang-rt-14-dev clang-format clang-tidy kcat python3 git)
missing=()
for package in "${packages[@]}"; do
    dpkg-query -W -f '${Status}' "$package" 2> /dev/null | grep -q 'ok installed' ||
        missing+=("$package")
done
[ ${#missing[@]} = 0 ] && exit 0
echo "install: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
sudo=
[ "$(id -u)" = 0 ] || sudo="sudo -n"
$sudo apt-get -q update > /dev/null &&
    $sudo apt-get -q -y --no-install-recommends install "${missing[@]}" > /dev/null ||
    { echo "install: failed for: ${missing[*]}" >&2; exit 1; }
