#!/bin/sh
# Fails unless generating anew, in a copy of the tree, gives the files that are
# there.
set -eu
cd "$(dirname "$0")/.."
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
trap 'exit 1' HUP INT TERM
if git rev-parse --git-dir >/dev/null 2>&1; then
    git ls-files -z --cached --others --exclude-standard |
        tar --create --null --files-from=- --ignore-failed-read 2>/dev/null | tar --extract --directory "$copy"
else
    cp -R . "$copy"
fi
(cd "$copy" && go generate ./...)

failed=0
# What Go's generators write says so in its first lines; .o is bpf2go's.
for f in $(cd "$copy" && grep -rlE '^// Code generated .* DO NOT EDIT\.$' --include='*.go' . && find . -name '*_bpfe[lb].o'); do
    if ! cmp -s "$f" "$copy/$f"; then
        echo "generated anew, $f differs: run make generate and commit" >&2
        failed=1
    fi
done
exit $failed
