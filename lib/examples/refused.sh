#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# refused.sh FILE: pins the first MiB of a new file on a pinfs mount while truncate(1) tries to cut it
# off, which is refused; and then, unpinned, is not.
set -eu
file=${1:?refused.sh FILE}

truncate -s 2M "$file"
if pinfs pin "$file" --range 0:1M -- truncate -s 0 "$file"; then
    echo "truncate cut off what was pinned" >&2
    exit 1
fi
# Beside the pinned range a file is like any other.
pinfs pin "$file" --range 0:1M -- truncate -s 1M "$file"
stat -c 'pinned, %n keeps its %s bytes' "$file"
truncate -s 0 "$file"
stat -c 'unpinned, %n has %s bytes' "$file"
