#!/usr/bin/env bash
# Takes the data file of the game Flight of the Amazon Queen out of its Debian package, and the game's
# readme, which must stay with it. Run by `make data/raw/queen/queen.1c`.
set -euo pipefail
file=${1:?usage: queen.sh FILE}
package=flight-of-the-amazon-queen
sha256=cc91960d133fcd4173eda4bac304e80d2bbdbaa085640287ab9e0507bd603f67

fail() {
    printf 'queen: %s\n' "$*" >&2
    exit 1
}

for program in apt-get dpkg-deb; do
    command -v "$program" >/dev/null || fail "$program is needed, as Debian and Ubuntu have it." \
        "Elsewhere put queen.1c of the Debian package $package (sha256 $sha256) at $file"
done
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
(cd "$scratch" && apt-get download --quiet "$package") ||
    fail "apt-get cannot get $package: run apt-get update, or enable main (Ubuntu: universe)"
dpkg-deb -x "$scratch/$package"_*.deb "$scratch"
found="$scratch/usr/share/scummvm/$package/queen.1c"
[ "$(sha256sum <"$found")" = "$sha256  -" ] ||
    fail "queen.1c of this $package is not the file that the reader was tested with (sha256 $sha256)"
mkdir -p "$(dirname "$file")"
gunzip -c "$scratch/usr/share/doc/$package/readme.txt.gz" >"$(dirname "$file")/readme.txt"
cp "$found" "$file.partial"
mv "$file.partial" "$file"
