#!/bin/sh
# Builds both examples against an installed tree, as an embedder would, and runs them under every mover.
#
# usage: run_tests.sh PREFIX [SECONDS [MOVER...]]     SECONDS: of each self-test of the cache server (default 2)
#
# A mover that this machine lacks is reported and skipped. Exit status 1 if anything fails, 77 if each was skipped.
set -u
prefix=${1:?usage: run_tests.sh PREFIX [SECONDS [MOVER...]]}
seconds=${2:-2}
shift $(($# < 2 ? $# : 2))
[ $# -gt 0 ] || set -- move copy simulated memcpy slide
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0 ran=0
heap="--max 8M --nursery 256K"

for dir in "$prefix"/lib/pkgconfig "$prefix"/lib64/pkgconfig "$prefix"/lib/*/pkgconfig; do
  [ -e "$dir/gcheap.pc" ] && PKG_CONFIG_PATH=$dir${PKG_CONFIG_PATH:+:$PKG_CONFIG_PATH}
done
export PKG_CONFIG_PATH
if command -v pkg-config >/dev/null; then
  flags=$(pkg-config --cflags --libs gcheap) || { echo "no gcheap.pc under $prefix"; exit 1; }
  library=$(pkg-config --variable=libdir gcheap)
else # by hand: of lib, lib64, lib/TRIPLET the one with the library in it
  library=$(dirname "$(find "$prefix" -name libgcheap.so | head -1)")
  flags="-I$prefix/include -L$library -lgcheap -pthread"
fi
LD_LIBRARY_PATH=$library${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export LD_LIBRARY_PATH

for example in cache lisp; do
  # shellcheck disable=SC2086
  ${CC:-cc} -O2 -g "$here/$example"/*.c -o "$work/$example" $flags || exit 1
done

fail() {
  failures=$((failures + 1))
  echo "FAIL $1"
  [ -s "$work/err" ] && head -5 "$work/err"
}

# expect NAME WANTED-OUTPUT INPUT COMMAND...: the command ends well and writes just that.
expect() {
  name=$1 wanted=$2 input=$3
  shift 3
  if ! timeout 120 "$@" <"$input" >"$work/out" 2>"$work/err"; then
    fail "$name: exit status"
  elif ! cmp -s "$work/out" "$wanted"; then
    fail "$name: output"
    diff "$wanted" "$work/out" | head -5
  fi
}

# sent OPTION...: a SIGBUS that somebody sends to a server at work is nobody's fault, so it ends by it, after its last words.
sent() {
  rm -f "$work/commands" "$work/out"
  mkfifo "$work/commands"
  (ulimit -c 0; exec "$work/cache" "$@") <"$work/commands" >"$work/out" 2>"$work/err" &
  server=$!
  exec 3>"$work/commands"
  echo VERIFY >&3
  tries=0
  while [ ! -s "$work/out" ] && [ $tries -lt 100 ]; do sleep 0.1; tries=$((tries + 1)); done
  kill -BUS $server
  exec 3>&-
  wait $server 2>/dev/null
  status=$?
  [ "$(cat "$work/out")" = VERIFIED ] && [ $status = 135 ] && grep -q "bus error, sent" "$work/err" || fail "sent $*: $status"
}

# Values come back as they were stored, whatever the mover: the traffic under memcpy is the reference.
awk 'BEGIN {
  srand(7)
  for (i = 0; i < 20000; i++) {
    key = int(rand() * 2000); choice = rand()
    if (choice < 0.45) {
      size = int(exp(rand() * log(20000))); value = ""
      for (piece = i "-" key "-"; length(value) < size; value = value piece) piece = piece piece
      printf "SET key-%d %d\n%s\n", key, size, substr(value, 1, size)
    } else if (choice < 0.9) printf "GET key-%d\n", key
    else if (choice < 0.99) printf "DEL key-%d\n", key
    else printf "COLLECT %s\n", substr("minor  needed all    release", 1 + 7 * int(rand() * 4), 7)
    if (i % 1000 == 999) print "VERIFY"
  }
  print "QUIT"
}' >"$work/traffic"
"$work/cache" --max 64M --nursery 256K --limit 16M --mover memcpy <"$work/traffic" >"$work/traffic.expected" || fail "traffic under memcpy"

for mover in "$@"; do
  echo QUIT | "$work/cache" $heap --mover $mover >/dev/null 2>"$work/err"
  status=$?
  if [ $status = 77 ]; then
    echo "skip $mover: $(cat "$work/err")"
    continue
  fi
  ran=$((ran + 1))
  before=$failures
  for mode in "" --concurrent "--concurrent --faults signal" "--huge on" "--stress 20"; do
    for script in "$here"/lisp/tests/*.lisp; do
      # shellcheck disable=SC2086
      expect "lisp $mover $mode $(basename "$script")" "${script%.lisp}.expected" /dev/null \
        "$work/lisp" $heap --stack 4M --mover $mover $mode "$script"
    done
    # shellcheck disable=SC2086
    expect "cache $mover $mode protocol" "$here/cache/tests/protocol.expected" "$here/cache/tests/protocol.txt" \
      "$work/cache" $heap --mover $mover $mode
    # shellcheck disable=SC2086
    expect "cache $mover $mode traffic" "$work/traffic.expected" "$work/traffic" \
      "$work/cache" --max 64M --nursery 256K --limit 16M --mover $mover $mode
  done
  for mode in "" --concurrent; do
    # shellcheck disable=SC2086
    timeout 120 "$work/cache" --max 32M --nursery 1M --mover $mover $mode --selftest "$seconds" --threads 4 >"$work/out" 2>"$work/err" ||
      fail "cache $mover $mode selftest: $(cat "$work/out")"
  done
  for faults in thread signal; do
    # shellcheck disable=SC2086
    sent $heap --mover $mover --faults $faults
  done
  [ $failures = $before ] && echo "ok   $mover"
done

# What was saved by a child process, replayed, answers as the original did; what was used last is in it last.
printf 'SET a 3\nabc\nSET b 10000\n%10000s\nSET c 0\n\nGET a\nSAVE %s\nQUIT\n' x "$work/dump" | "$work/cache" >"$work/out" || fail "save"
{ cat "$work/dump"; printf 'GET a\nGET b\nGET c\nQUIT\n'; } | "$work/cache" >"$work/out" 2>"$work/err" || fail "replay"
printf 'STORED\nSTORED\nSTORED\nVALUE 3\nabc\nVALUE 10000\n%10000s\nVALUE 0\n\nBYE\n' x | cmp -s - "$work/out" || fail "replay: output"
[ "$(grep '^SET' "$work/dump" | tr '\n' ' ')" = "SET b 10000 SET c 0 SET a 3 " ] || fail "save: order"

# What no eviction makes room for evicts nothing.
{ printf 'SET a 3\nabc\nSET b 9000000\n'; head -c 9000001 /dev/zero; printf 'GET a\nQUIT\n'; } >"$work/in"
"$work/cache" --max 8M <"$work/in" >"$work/out" || fail "too large: exit status"
grep -q "^ERROR no room for 9000000 bytes" "$work/out" && grep -q "^VALUE 3" "$work/out" || fail "too large: $(cat "$work/out")"

# A program runs after each save, with the path; one that fails, or is not there, is told of.
printf '#!/bin/sh\ncp "$1" "$1.copy"\n' >"$work/hook"
chmod +x "$work/hook"
printf 'SET a 3\nabc\nSAVE %s\nSAVE %s\nVERIFY\nQUIT\n' "$work/dump" "$work/other" >"$work/in"
printf 'STORED\nSAVED 1\nSAVED 1\nVERIFIED\nBYE\n' >"$work/expected"
expect "after a save" "$work/expected" "$work/in" "$work/cache" --after-save "$work/hook"
cmp -s "$work/dump" "$work/dump.copy" && cmp -s "$work/other" "$work/other.copy" || fail "after a save: no copy"
for program in false "$work/nowhere"; do
  printf "STORED\nERROR '%s' failed with '%s'\nERROR '%s' failed with '%s'\nVERIFIED\nBYE\n" \
    "$program" "$work/dump" "$program" "$work/other" >"$work/expected"
  expect "after a save: $program" "$work/expected" "$work/in" "$work/cache" --after-save "$program"
done

# A child that has no heap, because there is no memory for its copy, says so and touches nothing; the server goes on.
if echo QUIT | "$work/cache" --mover simulated >"$work/out" 2>&1; then
  printf 'STORED\nERROR the child process has no heap\nVALUE 3\nabc\nVERIFIED\nBYE\n' >"$work/expected"
  printf 'SET a 3\nabc\nSAVE %s\nGET a\nVERIFY\nQUIT\n' "$work/none" >"$work/in"
  expect "a child without a heap" "$work/expected" "$work/in" "$work/cache" --mover simulated --inject memfd:ENOMEM@nth=2
  [ ! -e "$work/none" ] || fail "a child without a heap has written"
fi

[ $failures = 0 ] || { echo "$failures failures"; exit 1; }
[ $ran -gt 0 ] || exit 77
