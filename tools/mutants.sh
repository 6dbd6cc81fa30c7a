#!/usr/bin/env bash
# Breaks the program on purpose, one line at a time, in a copy of the tree, and shows
# that a test of the quick set fails each time: a test that cannot fail tests nothing.
#
#     tools/mutants.sh [NAME...]      all of them, or some
#
# A change that does not apply any more, does not compile, or whose tests fail without
# it is an error: adapt it. Needs a minute or two for each; `power` needs root.
set -euo pipefail
cd "$(dirname "$0")/.."

root=$PWD/target/mutants
tree=$root/tree
export CARGO_TARGET_DIR=$root/target
wanted=("$@")
killed=0 survived=()

say() {
    echo "==> $*"
}

die() {
    echo "mutants: $*" >&2
    exit 1
}

# The sources as they are, committed or not. Times are kept, so that little is built.
copy() {
    mkdir -p "$tree"
    rm -rf "${tree:?}"/*
    git ls-files -z --cached --others --exclude-standard |
        tar --null --files-from=- --ignore-failed-read -cf - | tar -xf - -C "$tree"
}

# Replaces OLD by NEW in FILE, where it must be exactly once.
replace() {
    local file=$1 old=$2 new=$3 text rest
    text=$(<"$tree/$file")
    rest=${text#*"$old"}
    [[ $rest != "$text" ]] || die "$name: not in $file: $old"
    [[ ${rest#*"$old"} == "$rest" ]] || die "$name: more than once in $file: $old"
    printf '%s\n' "${text%%"$old"*}$new$rest" >"$tree/$file"
}

tests() {
    (cd "$tree" && cargo test --locked --quiet "$@")
}

# mutant NAME "TEST ARGUMENTS" FILE OLD NEW
mutant() {
    local name=$1 file=$3 log=$root/$1.log
    local -a arguments
    read -ra arguments <<<"$2"
    [[ ${#wanted[@]} == 0 || " ${wanted[*]} " == *" $name "* ]] || return 0
    tests "${arguments[@]}" >"$log" 2>&1 || die "$name: its tests fail without it: $log"
    replace "$file" "$4" "$5"
    tests "${arguments[@]}" --no-run >"$log" 2>&1 || die "$name: does not compile: $log"
    if timeout 300 bash -c 'cd "$1" && shift && exec cargo test --locked --quiet "$@"' \
        _ "$tree" "${arguments[@]}" >"$log" 2>&1; then
        say "$name: SURVIVED ($2)"
        survived+=("$name")
    else
        say "$name: $(grep -m 1 -oE '^    [a-z_0-9]+(::[a-z_0-9]+)+$' "$log" ||
            echo "no answer in time")"
        killed=$((killed + 1))
    fi
    # Newer than what was built from it.
    cp "$file" "$tree/$file"
    touch "$tree/$file"
}

copy

mutant ack-before-commit "--lib store::" src/store/queue.rs \
    'queue.calls.push_back(Call { asked, answer });' \
    'let (late, _) = oneshot::channel();
                let _ = answer.send(Ok(()));
                queue.calls.push_back(Call { asked, answer: late });'

mutant gap-forgotten "--lib logs::" src/logs/continuity.rs \
    'met.gaps.push(Gap {
                    first_sequence: record.sequence,' \
    'drop(Gap {
                    first_sequence: record.sequence,'

mutant store-instead-of-cas "--lib registry::" src/sync.rs \
    'Arc::as_ptr(&self.0.compare_and_swap(current, new)) == current' \
    '{
            self.0.store(new);
            !current.is_null()
        }'

mutant reap-before-record "--test it shim::failpoints" src/shim/supervise/end.rs \
    'failpoint::hit("before_exit_record");
                self.keep_exit(ended' \
    'sys::reap(pid);
                failpoint::hit("before_exit_record");
                self.keep_exit(ended'

mutant no-gate "--test it shim::" src/shim/child.rs \
    'if File::from(gate).read_exact(&mut byte).is_err() {' \
    'if File::from(gate).read_exact(&mut byte).is_err() && byte[0] == 7 {'

mutant no-exec-handshake "--test it shim::ends" src/shim/child.rs \
    'let _ = status.write_all(&record);' \
    'let _ = record;'

mutant exit-told-twice "--test it shim::" src/runner/client.rs \
    'RunEvent::Exited(_) => {
                self.exit_told = true;' \
    'RunEvent::Exited(ref exit) => {
                self.waiting.push_back(RunEvent::Exited(exit.clone()));
                self.exit_told = true;'

mutant stop-said-durable "--lib supervisor::tests::intents" src/supervisor/intent.rs \
    'self.apply(Event::IntentKept(false));
                self.obey(message);' \
    'self.obey(message);
                self.apply(Event::IntentKept(false));'

mutant creation-not-begun "--lib supervisor::tests::intents" src/supervisor/recovery.rs \
    'kept.afresh |= node.version() == FIRST_VERSION && runs.is_empty();' \
    'kept.afresh |= node.version() < FIRST_VERSION && runs.is_empty();'

mutant file-gone-unseen "--lib store::tests" src/store/writer.rs \
    'Ok(_) if identity(&self.setup.dir) != self.file => {' \
    'Ok(_) if identity(&self.setup.dir) != self.file && group.calls.len() > 9 => {'

mutant cgroup-left "--test it shim::adoption" src/runner/shim_runner.rs \
    'Cgroup::discard(&group, &rundir::label(uid, run_id));' \
    'let _ = (&group, rundir::label(uid, run_id));'

mutant power "--test it faults::power" src/store/writer.rs \
    'if full { "FULL" }' \
    'if full { "OFF" }'

say "$killed caught, ${#survived[@]} not: ${survived[*]:-none}"
[[ ${#survived[@]} == 0 ]]
