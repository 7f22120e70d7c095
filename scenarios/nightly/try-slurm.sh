#!/bin/bash
# Tries night.sbatch on a real Slurm: one node on this machine, in a temporary folder, torn down at
# the end. The array of eight is submitted for real, its folders are merged, and the night is compared,
# unit by unit, with the same night in one piece.
#
# What it needs: root, Debian's packages slurm-wlm and munge (installed where they are missing), and the
# program: target/release/selvedge, or what SELVEDGE names. It starts its own munged, slurmctld and
# slurmd on ports of its own, and touches no Slurm that is there already.
#
# Usage: scenarios/nightly/try-slurm.sh [FILTER...]      (all scenarios if none)
#   BUDGET=15m  each task's time, and the whole night's in one piece
#   EFFORT=2    times the usual number of executions; 2 and more are drawn by several shards
#   REPORT=DIR  where the reports of the merge go; they are thrown away if not given
set -euo pipefail
cd "$(dirname "$0")/../.."

selvedge=$(realpath "${SELVEDGE:-target/release/selvedge}")
budget=${BUDGET:-15m}
effort=${EFFORT:-2}
[ -x "$selvedge" ] || { echo "there is no program $selvedge: cargo build --release, or give SELVEDGE" >&2; exit 2; }
[ "$(id -u)" = 0 ] || { echo "this needs root: Slurm's daemons run jobs as other users" >&2; exit 2; }

step() { printf '\n=== %s ===\n' "$*"; }

step "Slurm from Debian's packages"
if ! command -v slurmctld >/dev/null || ! command -v slurmd >/dev/null || ! command -v munged >/dev/null; then
    apt-get update -q
    # The packages would start services of their own, which are not ours to run.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' > "$policy"
        chmod +x "$policy"
        trap 'rm -f "$policy"' EXIT
        placed=1
    fi
    DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends slurm-wlm munge
    trap - EXIT
    [ -z "${placed:-}" ] || rm -f "$policy"
fi
slurmctld -V

dir=$(mktemp -d /tmp/selvedge-slurm.XXXXXX)
chmod 755 "$dir"
pids=()
tear_down() {
    status=$?
    trap - EXIT INT TERM
    step "tearing down"
    if [ "$status" != 0 ]; then
        tail -n 20 "$dir"/*.log 2>/dev/null || true
    fi
    scancel --quiet --user root 2>/dev/null || true
    for ((i = ${#pids[@]} - 1; i >= 0; i--)); do
        kill "${pids[i]}" 2>/dev/null || true
    done
    for pid in "${pids[@]}"; do
        for _ in $(seq 50); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
        kill -KILL "$pid" 2>/dev/null || true
    done
    rm -rf "$dir"
    exit "$status"
}
trap tear_down EXIT
trap 'exit 21' INT TERM

step "one node in $dir"
mkdir -p "$dir"/{munge,state,spool,out}
chmod 711 "$dir/munge"
dd if=/dev/urandom of="$dir/munge/key" bs=1024 count=1 status=none
chmod 400 "$dir/munge/key"
node=$(hostname -s)
# Two ports that nobody listens on.
ports=()
while [ ${#ports[@]} -lt 2 ]; do
    port=$((20000 + RANDOM % 10000))
    if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && [ "$port" != "${ports[0]:-}" ]; then
        ports+=("$port")
    fi
done
cpus=$(nproc)
cat > "$dir/slurm.conf" <<CONF
ClusterName=selvedge
SlurmctldHost=$node(127.0.0.1)
SlurmUser=root
SlurmctldPort=${ports[0]}
SlurmdPort=${ports[1]}
AuthType=auth/munge
AuthInfo=socket=$dir/munge/socket
CredType=cred/munge
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd.pid
SlurmctldLogFile=$dir/slurmctld.log
SlurmdLogFile=$dir/slurmd.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
MpiDefault=none
SchedulerType=sched/backfill
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
JobCompType=jobcomp/none
ReturnToService=2
SlurmdParameters=config_overrides
NodeName=$node NodeAddr=127.0.0.1 CPUs=$cpus RealMemory=2048 State=UNKNOWN
PartitionName=night Nodes=$node Default=YES MaxTime=INFINITE State=UP
CONF
export SLURM_CONF=$dir/slurm.conf

munged --foreground --force --num-threads=2 --key-file="$dir/munge/key" --socket="$dir/munge/socket" \
    --pid-file="$dir/munge/pid" --log-file="$dir/munge/log" --seed-file="$dir/munge/seed" \
    > "$dir/munged.log" 2>&1 &
pids+=($!)
for _ in $(seq 100); do [ -S "$dir/munge/socket" ] && break; sleep 0.1; done
slurmctld -D -f "$SLURM_CONF" > "$dir/slurmctld.out.log" 2>&1 &
pids+=($!)
slurmd -D -f "$SLURM_CONF" -N "$node" > "$dir/slurmd.out.log" 2>&1 &
pids+=($!)
for _ in $(seq 300); do
    [ "$(sinfo -h -o %T 2>/dev/null)" = idle ] && break
    sleep 0.1
done
sinfo
[ "$(sinfo -h -o %T)" = idle ] || { echo "the node did not come up" >&2; exit 70; }

step "the array of eight"
export SELVEDGE=$selvedge OUT=$dir/out BUDGET=$budget EFFORT=$effort FILTER="$*"
id=$(sbatch --parsable --export=ALL --chdir="$dir" --output="$dir/out/task-%a.txt" \
    --cpus-per-task=1 --mem=0 scenarios/nightly/night.sbatch)
echo "submitted as job $id"
last=
while state=$(squeue -h -r -j "$id" -o %T 2>/dev/null | sort | uniq -c | tr '\n' ' '); [ -n "$state" ]; do
    [ "$state" = "$last" ] || echo "  $state"
    last=$state
    sleep 1
done
grep -h '^Shard' "$dir"/out/task-*.txt || true
for task in $(seq 0 7); do
    code=$(scontrol show job "${id}_$task" 2>/dev/null | sed -n 's/.*ExitCode=\([0-9]*\):.*/\1/p' | head -n 1)
    echo "task $task: exit ${code:-unknown}"
    [ "${code:-0}" = 0 ] || failed=1
done
ls -l "$dir/out/$id"

step "the same night in one piece"
whole=0
env -u SLURM_CONF "$selvedge" nightly --run-id "$id" --out "$dir/whole" --budget "$budget" \
    --effort "$effort" "$@" 2> "$dir/whole.log" || whole=$?
echo "exit $whole"

step "the eight merged, beside the one"
reports=${REPORT:-$dir/reports}
mkdir -p "$reports"
merged=0
said=$("$selvedge" merge "$dir/out/$id" --compare "$dir/whole" --json "$reports/night.json" \
    --junit "$reports/night.xml" --markdown "$reports/night.md" --html "$reports/night.html") || merged=$?
echo "$said"
echo "exit $merged"
# 13 where any unit came to something else. What a shard found is told by its exit code, and by the
# merge's; here it is one of the failures.
grep -qa '^the same plan.* [1-9][0-9]* units are the same, 0 are not' <<< "$said" || exit 13
[ "$merged" = 0 ] || exit "$merged"
[ "$whole" = 0 ] || exit "$whole"
[ -z "${failed:-}" ] || { echo "a task failed, and its night did not" >&2; exit 70; }
