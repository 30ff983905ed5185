#!/usr/bin/env bash
# A real Slurm on this machine alone, as root or as a plain user, with everything under one directory.
#   bash slurm/one_machine_slurm.sh up DIR [NODES] [KEY=VALUE ...]   start; KEY=VALUE of slurm.conf
#   bash slurm/one_machine_slurm.sh status DIR
#   bash slurm/one_machine_slurm.sh down DIR          stop; the queue is kept for the next `up`
# `up` installs what is missing, makes NODES (4) virtual nodes n1, n2, ... of 2 cores and 2 fake GPUs
# each, and writes DIR/environment.sh, to be sourced by who wants to talk to it. Nodes of one feature
# (rack1: n1 to n4, rack2: n5 to n8, ...) can be asked for with --constraint.
set -euo pipefail

usage() {
  sed -n '2,9s/^# \{0,1\}//p' "$0" >&2
  exit 64
}
[ $# -ge 2 ] || usage
action=$1
mkdir -p "$2"
directory=$(cd "$2" && pwd)
shift 2
case $directory in *[!A-Za-z0-9._/+-]*)
  echo "one_machine_slurm.sh: '$directory': Slurm's configuration takes letters, digits and ._/+- only" >&2
  exit 64
  ;;
esac
export SLURM_CONF=$directory/slurm.conf
PATH=$PATH:/usr/sbin

install_packages() {
  local package state missing=()
  for package in slurmctld slurmd slurm-client munge slurm-wlm-basic-plugins; do
    state=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$state" = installed ] || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  local as_root=()
  [ "$(id -u)" -eq 0 ] || as_root=(sudo)
  echo "installing: ${missing[*]}" >&2
  "${as_root[@]}" apt-get update -q >/dev/null
  DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -q -y --no-install-recommends \
    "${missing[@]}" >/dev/null
}

is_up() { [ -s "$SLURM_CONF" ] && scontrol ping 2>/dev/null | grep -q 'is UP'; }

# Ports of the controller and the nodes, all free now and outside the range the kernel gives away.
free_ports() {
  local nodes=$1 base used
  used=$(cat /proc/net/tcp | awk 'NR > 1 {split($2, a, ":"); print a[2]}')
  for base in $(seq $((17000 + ($(cksum <<<"$directory" | cut -d' ' -f1) % 100) * 100)) 300 32000); do
    local port taken=''
    for port in $(seq "$base" $((base + nodes))); do
      grep -qi "^$(printf %04X "$port")$" <<<"$used" && taken=1 && break
    done
    [ -n "$taken" ] || { echo "$base"; return; }
  done
  echo "one_machine_slurm.sh: no free ports" >&2
  return 1
}

# write_configuration NODES [KEY=VALUE ...]
write_configuration() {
  local nodes=$1 host user base
  shift
  host=$(hostname -s) user=$(id -un) base=$(free_ports "$nodes")
  {
    # Everything stays on the loopback device; nothing of the host's own Slurm is looked at.
    cat <<END
ClusterName=one-machine
SlurmctldHost=$host(127.0.0.1)
SlurmUser=$user
SlurmdUser=$user
AuthType=auth/munge
CredType=cred/munge
# cred_expire: a job that is queued again waits for its old credential to end: 8 s instead of 124 s.
AuthInfo=socket=$directory/munge/socket,cred_expire=5
SlurmctldPort=$base
SlurmctldPidFile=$directory/run/slurmctld.pid
SlurmctldLogFile=$directory/log/slurmctld.log
StateSaveLocation=$directory/state
SlurmdPidFile=$directory/run/slurmd.%n.pid
SlurmdLogFile=$directory/log/slurmd.%n.log
SlurmdSpoolDir=$directory/spool.%n
# A folder for temporary files per node: PMIx servers of nodes that share one collide.
TmpFS=$directory/tmp.%n
CommunicationParameters=NoAddrCache,NoCtldInAddrAny,NoInAddrAny
SwitchType=switch/none
MpiDefault=pmix
MailProg=/bin/true
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc=$directory/log/jobcomp.txt
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=5,bf_interval=5,batch_sched_delay=0
SlurmdParameters=config_overrides
GresTypes=gpu
JobRequeue=1
ReturnToService=2
MinJobAge=600
END
    # Later values win over these.
    printf '%s\n' KillWait=5 SlurmctldTimeout=30 SlurmdTimeout=20 "$@" |
      awk -F= '{value[$1] = $0} END {for (key in value) print value[key]}'
    local node
    for node in $(seq "$nodes"); do
      echo "NodeName=n$node NodeHostname=$host NodeAddr=127.0.0.1 Port=$((base + node)) CPUs=2" \
        "Sockets=1 CoresPerSocket=2 ThreadsPerCore=1 RealMemory=2000 Gres=gpu:2" \
        "Feature=rack$(((node + 3) / 4)) State=UNKNOWN"
    done
    echo "PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO"
  } >"$SLURM_CONF"
  echo 'Name=gpu File=/dev/tty[0-1] Flags=nvidia_gpu_env' >"$directory/gres.conf"
  cat >"$directory/environment.sh" <<END
export SLURM_CONF=$SLURM_CONF
# Open MPI among virtual nodes of one host: they are no hosts of their own for shared memory.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_mpi_yield_when_idle=1 OMPI_MCA_pml=ob1
export OMPI_MCA_btl=tcp,self OMPI_MCA_btl_tcp_if_include=lo OMPI_MCA_oob_tcp_if_include=lo
export OMPI_MCA_osc=sm,pt2pt
END
}

start_node() {
  mkdir -p "$directory/spool.$1" "$directory/tmp.$1"
  slurmd -f "$SLURM_CONF" -N "$1"
}

up() {
  local nodes=4
  case ${1:-} in '' | *=*) ;; *)
    nodes=$1
    shift
    ;;
  esac
  [[ $nodes =~ ^[1-9][0-9]{0,2}$ ]] || usage
  install_packages
  if is_up; then
    echo "already up; source $directory/environment.sh"
    return
  fi
  mkdir -p "$directory"/{munge,state,log,run}
  chmod 700 "$directory/munge"
  [ -s "$directory/munge/key" ] ||
    (umask 277 && dd if=/dev/urandom of="$directory/munge/key" bs=128 count=1 status=none)
  [ -s "$SLURM_CONF" ] || write_configuration "$nodes" "$@"
  # shellcheck disable=SC1091
  . "$directory/environment.sh"
  munged --force --key-file="$directory/munge/key" --socket="$directory/munge/socket" \
    --pid-file="$directory/munge/pid" --log-file="$directory/munge/log" \
    --seed-file="$directory/munge/seed" --num-threads=2
  slurmctld -f "$SLURM_CONF"
  local names node
  names=$(sed -n 's/^NodeName=\([^ ]*\) .*/\1/p' "$SLURM_CONF")
  for node in $names; do start_node "$node"; done
  local try
  for try in $(seq 300); do
    if [ "$(sinfo -h -N -t idle,mixed,allocated -o %N 2>/dev/null | wc -l)" -eq "$(wc -w <<<"$names")" ]; then
      echo "up; source $directory/environment.sh"
      return
    fi
    sleep 0.1
  done
  echo "one_machine_slurm.sh: not all nodes came up; see $directory/log" >&2
  sinfo -N -l >&2
  return 1
}

# Processes of this directory's pid files; zombies, and others that took a dead one's number, are none.
running() {
  local file pid
  for file in "$directory"/run/*.pid "$directory/munge/pid"; do
    pid=$(cat "$file" 2>/dev/null) || continue
    ps -o pid=,stat=,comm= -p "$pid" | awk '$2 !~ /Z/ && $3 ~ /^(slurm|munged)/ {print $1}'
  done
}

down() {
  local try processes
  if is_up; then
    scancel -t R $(squeue -h -r -t R -o %A) 2>/dev/null || true
    for try in $(seq 100); do
      [ -n "$(squeue -h -t R,CG 2>/dev/null)" ] || break
      sleep 0.1
    done
    processes=$(running)
    scontrol shutdown 2>/dev/null || true
    for try in $(seq 100); do # all but munged
      [ "$(running | wc -l)" -gt 1 ] || break
      sleep 0.1
    done
  fi
  processes=$(running)
  [ -z "$processes" ] || kill $processes
  for try in $(seq 50); do
    [ -n "$(running)" ] || { echo down; return; }
    sleep 0.1
  done
  echo "one_machine_slurm.sh: still there: $(running)" >&2
  return 1
}

case $action in
  up) up "$@" ;;
  down) down ;;
  status)
    is_up || { echo down; exit 1; }
    sinfo -N -o '%N %t %f'
    squeue -r
    ;;
  *) usage ;;
esac
