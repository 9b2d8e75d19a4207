# shellcheck shell=bash
# For scripts that test: source it, define what the tests have in common, call
# `helpers_end`, define the tests as functions that are named as sentences, and
# call `run_tests NAME`. Its last line is «NAME: N passed, N failed».

# A folder of this run, which is gone afterwards.
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# Fails with the reason unless a file (or a whole line of it) has a text.
has() {
  grep -qF -e "$2" "$1" || {
    printf 'not found: %s\n' "$2"
    return 1
  }
}

has_not() {
  ! grep -nF -e "$2" "$1" || {
    printf 'should not be there: %s\n' "$2"
    return 1
  }
}

# Runs a command that has to fail, and to say why.
refused() {
  local reason=$1 output
  shift
  if output=$("$@" 2>&1); then
    printf 'not refused: %s\n' "$*"
    return 1
  fi
  [[ $output == *"$reason"* ]] || {
    printf 'refused, but without "%s": %s\n%s\n' "$reason" "$*" "$output"
    return 1
  }
}

functions() {
  declare -F | sed -n 's/^declare -f //p'
}

# Functions so far are no tests, those that the caller's shell exported neither.
helpers_end() {
  helpers=$(functions)
}

run_tests() {
  local passed=0 failed=0 test status
  for test in $(functions | grep -vxF -e "$helpers"); do
    # Not as a condition: there a failing command would not end the test.
    set +e
    (
      set -e
      "$test"
    ) >"$scratch/output" 2>&1
    status=$?
    set -e
    if ((status == 0)); then
      passed=$((passed + 1))
      printf 'ok      %s\n' "${test//_/ }"
    else
      failed=$((failed + 1))
      printf 'FAILED  %s\n' "${test//_/ }"
      sed 's/^/        /' "$scratch/output"
    fi
  done
  printf '%s: %d passed, %d failed\n' "$1" "$passed" "$failed"
  ((failed == 0))
}
