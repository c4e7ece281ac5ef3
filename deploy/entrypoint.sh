#!/bin/sh
# Starts mome with a heap that fits the memory of the container. Threads need no setting: the engine counts the processors that the
# container may use (cgroup quota and affinity). Weights and activations lie outside the heap of JavaScript, so a quarter is left to it.
set -eu
cgroup=${MOME_CGROUP:-/sys/fs/cgroup}
limit=max
if [ -r "$cgroup/memory.max" ]; then
  limit=$(cat "$cgroup/memory.max")
elif [ -r "$cgroup/memory/memory.limit_in_bytes" ]; then
  limit=$(cat "$cgroup/memory/memory.limit_in_bytes")
fi
case $limit in
  max | *[!0-9]* | '') ;;
  *)
    mib=$((limit / 4194304))
    # Version 1 says "no limit" by a number near 2^63.
    if [ "$mib" -ge 64 ] && [ "$mib" -lt 65536 ]; then
      export NODE_OPTIONS="--max-old-space-size=$mib ${NODE_OPTIONS:-}"
    fi
    ;;
esac
here=$(dirname "$0")
exec node "$here/../dist/cli.mjs" "$@"
