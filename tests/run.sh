#!/bin/bash
# Runs pytest with the given arguments. The few tests that failed are run a second time, alone and by a new pytest: what
# is broken fails twice. What fails once only is named in the end, for it is a fault as well: of the test, which did not
# wait for what it needs, or of the product, which lost a race.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
# More than that is no accident.
MOST=3

failed() {
    .venv/bin/python -c 'import json; print("\n".join(json.load(open(".pytest_cache/v/cache/lastfailed"))))'
}

.venv/bin/python -m pytest --cache-clear "$@"
result=$?
[ $result = 1 ] || exit $result
tests=$(failed) || exit $result
count=$(wc -l <<<"$tests")
if [ "$count" -gt $MOST ]; then
    exit $result
fi
echo "Once more, alone: $count that failed (see above)."
# The last -n counts: one after the other.
.venv/bin/python -m pytest "$@" -n 0 --last-failed --last-failed-no-failures none || exit
echo "UNSTEADY: failed once and passed alone:"
echo "$tests"
