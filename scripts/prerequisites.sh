#!/usr/bin/env bash
# Names the first prerequisite that is missing, in one line, and stops.
set -u
python="$1"

missing() {
  echo "heft needs $1: $2" >&2
  exit 2
}

[ -n "$python" ] || missing "Python 3.11" "no python3.11 or python3 is on the PATH; install it (Debian: apt-get install python3.11)"
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
[ "$version" = "3.11" ] || missing "Python 3.11" "$python is $version, and ml-metadata has wheels up to 3.11 alone; install python3.11"
"$python" -c 'import ensurepip, venv' 2>/dev/null || missing "Python's venv and pip" "$python lacks them (Debian: apt-get install python3.11-venv)"
command -v gcc >/dev/null || missing "gcc" "pyfarmhash builds from source (Debian: apt-get install gcc)"
echo 'int main() {}' | gcc -x c++ -fsyntax-only - 2>/dev/null || missing "a C++ compiler" "pyfarmhash builds from source and gcc alone compiles only C (Debian: apt-get install g++)"
header=$("$python" -c 'import sysconfig, os; print(os.path.join(sysconfig.get_paths()["include"], "Python.h"))')
[ -f "$header" ] || missing "Python's headers" "no $header; pyfarmhash builds from source (Debian: apt-get install python3.11-dev)"
[ "$(uname -s)" = "Linux" ] || missing "Linux" "TFX 1.21 has no wheels for $(uname -s)"
