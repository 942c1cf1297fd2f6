# Runs of pytest side by side, and what is said of them in the end; sourced by packaging/test after
# packaging/setup.sh. `scratch` is a folder of the caller's.

summary=()
failures=0
ran=0

# What pytest is told besides the paths.
options=()

# The runs by name: the process that leads each one's group.
declare -A leaders=()
follower=

# How long tests that are told to stop may take to end what they have started.
grace_s=20

# note STATUS TEXT
note() {
    if [ "$1" -eq 0 ]; then
        summary+=("ok      $2")
    else
        summary+=("FAILED  $2")
        failures=$((failures + 1))
    fi
}

# start_pytest NAME ENVIRONMENT PATH...; what it prints goes to a file, until finish_pytest.
start_pytest() {
    local name=$1 environment=$2 colour=no
    shift 2
    [ ! -t 1 ] || colour=yes
    # With job control it leads a process group, and SIGINT is not ignored there.
    set -m
    "$environment/bin/python" -m pytest --color="$colour" "${options[@]}" "$@" \
        >"$scratch/$name.log" 2>&1 </dev/null &
    set +m
    leaders[$name]=$!
}

# finish_pytest NAME: prints what it has printed, and prints until it ends; its closing line is kept.
finish_pytest() {
    local name=$1 status closing
    [ -n "${leaders[$name]:-}" ] || return 0
    say "pytest, $name"
    tail -q -n +1 -s 0.2 -f --pid="${leaders[$name]}" "$scratch/$name.log" &
    follower=$!
    # Signals end a wait, unlike a program that runs in the foreground.
    wait "$follower"
    follower=
    wait "${leaders[$name]}"
    status=$?
    unset "leaders[$name]"
    closing=$(sed 's/\x1b\[[0-9;]*m//g' "$scratch/$name.log" |
        grep -E '(passed|failed|errors?|skipped|no tests ran|deselected).* in [0-9.]+s' | tail -n 1)
    printf '%s\n' "$closing" >>"$scratch/closing"
    # A selection by options may leave one of the runs without a test, but not all.
    if [ "$status" -eq 5 ] && [ ${#options[@]} -gt 0 ]; then
        summary+=("-       pytest, $name: nothing selected")
        return
    fi
    ran=1
    note "$status" "pytest, $name: ${closing//=/}"
}

# Ends the runs that have not ended, with everything in their groups.
stop_runs() {
    local leader end=$((SECONDS + grace_s))
    [ -z "$follower" ] || kill "$follower" 2>/dev/null
    for leader in "${leaders[@]}"; do
        kill -INT -- "-$leader" 2>/dev/null
    done
    for leader in "${leaders[@]}"; do
        while kill -0 "$leader" 2>/dev/null && [ "$SECONDS" -lt "$end" ]; do
            sleep 0.1
        done
        kill -KILL -- "-$leader" 2>/dev/null
    done
}

total() {
    grep -ohE "[0-9]+ $1" "$scratch/closing" 2>/dev/null | awk '{ sum += $1 } END { print sum + 0 }'
}

# Prints what became of everything, and ends with 0 when nothing has failed.
conclude() {
    [ "$ran" -eq 1 ] || note 1 "no test ran"
    printf '\n'
    printf '%s\n' "${summary[@]}"
    printf '%d passed, %d failed, %d skipped\n' \
        "$(total passed)" "$(($(total failed) + $(total 'errors?')))" "$(total skipped)"
    exit $((failures > 0))
}
