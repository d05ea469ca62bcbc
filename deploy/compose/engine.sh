#!/bin/sh
# Runs a Docker engine in namespaces of its own, for the test: engine.sh DIR CGROUP.
# `unshare --mount --net --pid --fork --kill-child --mount-proc` starts it, so
# that its mounts, networks, packet filters and processes are nobody else's and
# go when it does, however it ends. Only DIR and the cgroups are on the machine.
set -eu
dir=$1 cgroup=$2

# Where the engine and containerd write beside the directories that they are
# told to use.
for d in /run /opt /etc/docker; do
    [ ! -d "$d" ] || mount -t tmpfs tmpfs "$d"
done
ip link set lo up
mkdir -p "$dir/data" "$dir/exec"
echo '{}' >"$dir/daemon.json"
exec docker-init -- dockerd --config-file "$dir/daemon.json" --data-root "$dir/data" --exec-root "$dir/exec" \
    --host "unix://$dir/docker.sock" --pidfile "$dir/docker.pid" --cgroup-parent "$cgroup" --ip6tables=false --log-level warn
