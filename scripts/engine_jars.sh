#!/usr/bin/env bash
# Fetches the jars of an engine into .engines/ENGINE, once, and checks every one of them.
#   scripts/engine_jars.sh flink
# Leaves with 3 and one line if they cannot be had.
set -euo pipefail
cd "$(dirname "$0")/.."

engine=$1
pom=scripts/engines/$engine.xml
sums=$PWD/scripts/engines/$engine.sha256
jars=.engines/$engine

absent() {
  echo "NOT TESTED: $engine: $1" >&2
  exit 3
}

whole() {
  [ -d "$jars" ] && (cd "$jars" && sha256sum --quiet --check "$sums" 2>&1 | head -1) | { ! grep -q .; }
}

whole && exit 0
command -v java >/dev/null || absent "no Java; Debian: apt-get install default-jre-headless"
command -v mvn >/dev/null || absent "no Maven to fetch the jars with; Debian: apt-get install maven"
rm -rf "$jars"
log=$(mktemp)
mvn -q -B -f "$pom" dependency:copy-dependencies -DincludeScope=runtime \
  -DoutputDirectory="$PWD/$jars" >"$log" 2>&1 ||
  absent "Maven could not fetch the jars: $(grep -m1 ERROR "$log" | cut -c1-300)"
rm -f "$log"
whole || absent "the jars in $jars are not those of $sums; remove them if the pom has changed"
