#!/bin/bash
# Check the arrows between modules: tools/layers.sh 'MODULE:DEP DEP ...' ...
# A file may include its own module's headers and those of the modules listed for it. Some system
# headers are fenced to one folder. Exit code 1 and a line for each offence.
set -u
cd "$(dirname "$0")/.." || exit 1

modules=()
for rule in "$@"; do modules+=("${rule%%:*}"); done

module_of() { # PATH -> longest module that is a prefix of its folder
    local best=
    for m in "${modules[@]}"; do
        [[ $1 == "$m"/* && ${#m} -gt ${#best} ]] && best=$m
    done
    echo "$best"
}

offences=0
complain() { echo "layers: $*" >&2; offences=$((offences + 1)); }

for rule in "$@"; do
    module=${rule%%:*} allowed=" ${rule#*:} "
    while IFS=: read -r file included; do
        [ "$(module_of "$file")" = "$module" ] || continue
        target=$(module_of "$included")
        [ "$target" = "$module" ] || [[ $allowed == *" $target "* ]] ||
            complain "$file includes $included"
    done < <(grep -rHo --include='*.[ch]' --include='*.def' '^#include "[^"]*"' "$module" |
        sed 's/#include "\(.*\)"/\1/')
done

fence() { # HEADER-REGEX FOLDER...
    local regex=$1; shift
    while IFS=: read -r file _; do
        local ok=
        for folder in "$@"; do [[ $file == "$folder"/* ]] && ok=1; done
        [ -n "$ok" ] || complain "$file includes a header fenced to $*"
    done < <(grep -rHE --include='*.[ch]' "^#include <($regex)" core io net numa tools bench tests 2> /dev/null)
}
fence 'liburing' io
fence 'hwloc|numa\.h|numaif' numa tests/unit/numa
fence 'criterion' tests
fence 'isa-l' core/base core/batch
fence 'lz4|zstd|snappy' core/batch tests
fence 'zlib' core/batch bench/stat tests
fence 'librdkafka' bench/load tests
[ "$offences" = 0 ]
